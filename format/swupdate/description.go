package swupdate

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
)

// Limits of a sw-description.
const (
	maxDepth    = 16
	maxSettings = 16384
	maxName     = 128 // bytes
	maxMore     = 64  // facts besides the files
)

// description is what is needed of a sw-description: the files that any of its
// groups names, and what people endorse.
type description struct {
	files map[string][]byte // SHA-256 by name
	order []string
	more  []format.Fact
	// unsaid is how many more there are.
	unsaid int
	groups []group // those that name a file
}

// parseDescription reads the syntax of libconfig, or JSON where it begins with a
// brace: SWUpdate takes both.
func parseDescription(b []byte) (*description, error) {
	p := &parser{text: string(b), d: &description{files: map[string][]byte{}}}
	if len(b) > maxDescription {
		return nil, fmt.Errorf("%w: sw-description of %d bytes", ErrMalformed, len(b))
	}
	p.space()
	p.json = p.peek() == '{'
	var err error
	if p.json {
		err = p.value("", 0)
	} else {
		err = p.settings("", 0, 0)
	}
	if p.space(); err == nil && p.at < len(p.text) {
		err = errors.New("there is something behind it")
	}
	if err == nil && len(p.d.files) == 0 {
		err = errors.New("it names no file")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: sw-description line %d: %w", ErrMalformed, 1+strings.Count(p.text[:min(p.at, len(p.text))], "\n"), err)
	}
	return p.d, nil
}

// facts are derived from sw-description alone.
func (d *description) facts() []format.Fact {
	out := slices.Clone(d.more)
	if d.unsaid > 0 {
		out = append(out, format.Fact{Name: "more", Value: fmt.Sprintf("%d versions, descriptions and scripts", d.unsaid)})
	}
	for i, n := range d.order {
		if len(out) == format.MaxFacts-1 && i < len(d.order)-1 {
			return append(out, format.Fact{Name: "more", Value: fmt.Sprintf("%d files", len(d.order)-i)})
		}
		out = append(out, format.Fact{Name: "file", Value: fmt.Sprintf("%s sha256=%x", n, d.files[n])})
	}
	return out
}

// group is what is collected of one group.
type group struct {
	path, filename, sum string
	more                []string // settings, as they stand
}

func (d *description) add(g group) error {
	if g.filename == "" {
		return nil
	}
	d.groups = append(d.groups, g)
	sum, err := hex.DecodeString(g.sum)
	if err != nil || len(sum) != 32 || strings.ToLower(g.sum) != g.sum {
		return fmt.Errorf("file %.64q: want its sha256: a signature would not cover it", g.filename)
	}
	if have, ok := d.files[g.filename]; ok {
		if string(have) != string(sum) {
			return fmt.Errorf("file %.64q has two digests", g.filename)
		}
		return nil
	}
	d.files[g.filename] = sum
	d.order = append(d.order, g.filename)
	return nil
}

// parser reads libconfig or JSON. Names that stand twice in a group are refused:
// readers differ in which one counts.
type parser struct {
	text string
	at   int
	json bool
	n    int
	d    *description
}

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// space skips blanks and comments.
func (p *parser) space() {
	for p.at < len(p.text) {
		rest := p.text[p.at:]
		switch {
		case strings.IndexByte(" \t\r\n\f", rest[0]) >= 0:
			p.at++
		case !p.json && (rest[0] == '#' || strings.HasPrefix(rest, "//")):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			p.at += n
		case !p.json && strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				p.at = len(p.text)
				return
			}
			p.at += n + 4
		default:
			return
		}
	}
}

// accept skips one of the characters, if it is next.
func (p *parser) accept(chars string) bool {
	p.space()
	if p.at < len(p.text) && strings.IndexByte(chars, p.text[p.at]) >= 0 {
		p.at++
		return true
	}
	return false
}

// settings reads "name = value;" up to the closing character, 0 for the end.
func (p *parser) settings(path string, depth int, closing byte) error {
	if depth > maxDepth {
		return errors.New("too many levels")
	}
	seen := map[string]bool{}
	g := group{path: path}
	for first := true; ; first = false {
		p.space()
		if p.peek() == closing && (closing != 0 || p.at == len(p.text)) {
			p.at += min(1, len(p.text)-p.at)
			return p.d.add(g)
		}
		if p.json && !first {
			if !p.accept(",") {
				return errors.New("want a comma")
			}
			p.space()
		}
		name, err := p.name()
		if err != nil {
			return err
		}
		if p.n++; p.n > maxSettings || len(name) > maxName {
			return errors.New("too many settings, or too long a name")
		}
		if seen[strings.ToLower(name)] {
			return fmt.Errorf("%s stands twice", name)
		}
		seen[strings.ToLower(name)] = true
		if p.json && !p.accept(":") || !p.json && !p.accept("=:") {
			return fmt.Errorf("want a value of %s", name)
		}
		p.space()
		isText := p.peek() == '"'
		start := p.at
		if err := p.value(path+"."+name, depth+1); err != nil {
			return err
		}
		switch name {
		case "filename", "sha256":
			if !isText {
				return fmt.Errorf("%s is no text", name)
			}
			s, err := unquote(p.text[start:p.at])
			if err != nil {
				return err
			}
			if name == "filename" {
				g.filename = s
			} else {
				g.sum = s
			}
		}
		raw := strings.TrimSpace(p.text[start:p.at])
		if slices.Contains(told, name) {
			g.more = append(g.more, name+"="+strings.Join(strings.Fields(raw), " "))
		}
		p.fact(path, name, raw)
		if !p.json {
			p.accept(";,")
		}
	}
}

// fact notes what describes the whole image, and what is run beside its files.
func (p *parser) fact(path, name, raw string) {
	switch name {
	case "version", "description", "hardware-compatibility":
		if path != ".software" && strings.Count(path, ".") != 2 {
			return
		}
	case "embedded-script", "preinstallcmd", "postinstallcmd":
	default:
		return
	}
	// What is said of the whole is not pushed out by what is said of parts.
	if n := len(p.d.more); n >= 2*maxMore || n >= maxMore && path != ".software" {
		p.d.unsaid++
		return
	}
	if where := strings.TrimPrefix(strings.TrimPrefix(path, ".software"), "."); where != "" {
		name = where + " " + name
	}
	p.d.more = append(p.d.more, format.Fact{Name: single.Text([]byte(name), 128), Value: single.Text([]byte(strings.Join(strings.Fields(raw), " ")), 512)})
}

// name reads the name of a setting.
func (p *parser) name() (string, error) {
	if p.json {
		start := p.at
		if err := p.quoted(); err != nil {
			return "", err
		}
		return unquote(p.text[start:p.at])
	}
	start := p.at
	for c := p.peek(); c == '-' || c == '_' || c == '*' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'; c = p.peek() {
		p.at++
	}
	if start == p.at {
		return "", errors.New("want a name (directives are not supported)")
	}
	return p.text[start:p.at], nil
}

// value reads a value of any kind.
func (p *parser) value(path string, depth int) error {
	if depth > maxDepth {
		return errors.New("too many levels")
	}
	p.space()
	switch c := p.peek(); {
	case c == '{':
		p.at++
		return p.settings(path, depth, '}')
	case c == '[' || c == '(' && !p.json:
		p.at++
		return p.elements(path, depth, map[byte]byte{'[': ']', '(': ')'}[c])
	case c == '"':
		if err := p.quoted(); err != nil {
			return err
		}
		for save := p.at; !p.json; save = p.at { // libconfig joins texts that follow each other
			if p.space(); p.peek() != '"' {
				p.at = save
				break
			}
			if err := p.quoted(); err != nil {
				return err
			}
		}
		return nil
	}
	start := p.at
	for c := p.peek(); c == '-' || c == '+' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'; c = p.peek() {
		p.at++
	}
	if start == p.at {
		return errors.New("want a value")
	}
	return nil
}

func (p *parser) elements(path string, depth int, closing byte) error {
	for first := true; ; first = false {
		p.space()
		if p.peek() == closing {
			p.at++
			return nil
		}
		if !first && !p.accept(",") {
			return errors.New("want a comma")
		}
		if p.space(); p.peek() == closing && !p.json {
			p.at++
			return nil
		}
		if p.n++; p.n > maxSettings {
			return errors.New("too many settings")
		}
		if err := p.value(path, depth+1); err != nil {
			return err
		}
	}
}

// quoted skips a text in quotes.
func (p *parser) quoted() error {
	if p.peek() != '"' {
		return errors.New("want a text")
	}
	for p.at++; p.at < len(p.text); p.at++ {
		switch p.text[p.at] {
		case '\\':
			p.at++
		case '"':
			p.at++
			return nil
		}
	}
	return errors.New("a text does not end")
}

// unquote reads a single text without escapes: names of files and digests need
// none, and readers differ in them.
func unquote(s string) (string, error) {
	s = s[1:]
	i := strings.IndexByte(s, '"')
	if i != len(s)-1 || strings.ContainsFunc(s[:max(i, 0)], func(r rune) bool { return r == '\\' || r < ' ' || r >= 0x7f }) {
		return "", errors.New("want one plain text")
	}
	return s[:i], nil
}
