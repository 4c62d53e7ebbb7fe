package xmldsig

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a document.
const (
	MaxDocument   = 32 << 20 // bytes; it is held in memory
	maxDepth      = 256
	maxScopes     = 32      // elements around one another that declare namespaces: every name is looked up in them
	maxAttributes = 256     // of one element, namespaces included
	maxNames      = 1 << 20 // of elements and attributes in one document
)

const (
	xmlSpace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsSpace = "http://www.w3.org/2000/xmlns/"
)

// attribute is one attribute with its namespace resolved.
type attribute struct {
	prefix, local, space string
	value                string // after normalisation (XML 1.0 section 3.3.3)
}

// element is a start tag.
type element struct {
	prefix, local, space string
	attributes           []attribute
	scope                *scope // namespaces in force
	declares             bool   // the innermost layer of scope is its own
	from                 int    // offset of "<"
	depth                int    // of the root: 1
}

// scope is one layer of namespace declarations.
type scope struct {
	up    *scope
	depth int
	names map[string]string
	used  map[string]bool // by the name of an element or attribute
}

func (s *scope) find(prefix string) (string, bool) {
	if prefix == "xml" {
		return xmlSpace, true
	}
	for ; s != nil; s = s.up {
		if v, ok := s.names[prefix]; ok {
			s.used[prefix] = true
			return v, true
		}
	}
	return "", prefix == ""
}

// value is find for what is known to be declared; it notes no use.
func (s *scope) value(prefix string) string {
	for ; s != nil; s = s.up {
		if v, ok := s.names[prefix]; ok {
			return v
		}
	}
	return ""
}

// handler receives a document piece by piece.
type handler interface {
	start(e *element) error
	end(e *element, from, to int) error // of the end tag; from is to where there is none
	text(s []byte) error                // inside the root
	instruction(s []byte, depth int, after bool) error
	comment(s []byte, depth int, after bool) error
}

// parser reads the subset of XML 1.0 with namespaces that has one meaning
// everywhere: UTF-8, without document type and with that without entities of its own.
type parser struct {
	b     []byte
	i     int
	h     handler
	stack []*element
	done  bool // the root has ended
	names int  // elements and attributes so far
}

func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("%w: byte %d: %s", ErrMalformed, p.i, fmt.Sprintf(format, args...))
}

var declaration = regexp.MustCompile(`^<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:"1\.0"|'1\.0')(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*(?:"(?i:utf-8)"|'(?i:utf-8)'))?(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:"(?:yes|no)"|'(?:yes|no)'))?[ \t\r\n]*\?>`)

// parse reads a document.
func parse(b []byte, h handler) error {
	p := &parser{b: b, h: h}
	if len(b) > MaxDocument {
		return fmt.Errorf("%w: %d bytes: at most %d", ErrMalformed, len(b), MaxDocument)
	}
	if !utf8.Valid(b) {
		return p.fail("not UTF-8")
	}
	if p.has("<?xml ") || p.has("<?xml\t") || p.has("<?xml\r") || p.has("<?xml\n") {
		m := declaration.Find(b[:min(len(b), 1024)])
		if m == nil {
			return p.fail("declaration: want XML 1.0 in UTF-8")
		}
		p.i = len(m)
	}
	for p.i < len(b) {
		if err := p.next(); err != nil {
			return err
		}
	}
	if !p.done {
		return p.fail("the document ends early")
	}
	return nil
}

func (p *parser) has(s string) bool { return bytes.HasPrefix(p.b[p.i:], []byte(s)) }

// until takes what stands before a mark, and the mark.
func (p *parser) until(mark string) ([]byte, error) {
	n := bytes.Index(p.b[p.i:], []byte(mark))
	if n < 0 {
		return nil, p.fail("no %q", mark)
	}
	s := p.b[p.i : p.i+n]
	p.i += n + len(mark)
	return s, nil
}

func (p *parser) next() error {
	switch {
	case p.has("<!--"):
		p.i += 4
		s, err := p.until("--")
		if err != nil {
			return err
		}
		if !p.has(">") {
			return p.fail("two hyphens in a comment")
		}
		p.i++
		if s, err = p.characters(s); err != nil {
			return err
		}
		return p.h.comment(s, len(p.stack), p.done)
	case p.has("<![CDATA["):
		if len(p.stack) == 0 {
			return p.fail("text outside the root element")
		}
		p.i += 9
		s, err := p.until("]]>")
		if err != nil {
			return err
		}
		if s, err = p.characters(s); err != nil {
			return err
		}
		return p.h.text(s)
	case p.has("<!"):
		return p.fail("a document type is not accepted")
	case p.has("<?"):
		return p.instruction()
	case p.has("</"):
		return p.endTag()
	case p.has("<"):
		return p.startTag()
	}
	return p.characterData()
}

func (p *parser) instruction() error {
	p.i += 2
	s, err := p.until("?>")
	if err != nil {
		return err
	}
	if s, err = p.characters(s); err != nil {
		return err
	}
	name, data := s, []byte(nil)
	if n := bytes.IndexAny(s, " \t\n"); n >= 0 {
		name, data = s[:n], bytes.TrimLeft(s[n:], " \t\n")
	}
	if !isName(string(name)) || bytes.EqualFold(name, []byte("xml")) {
		return p.fail("processing instruction %.40q", name)
	}
	out := append([]byte(nil), name...)
	if len(data) > 0 {
		out = append(append(out, ' '), data...)
	}
	return p.h.instruction(out, len(p.stack), p.done)
}

// characters checks that all are XML's, and makes line ends one (section 2.11).
func (p *parser) characters(s []byte) ([]byte, error) {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		if !isChar(r) {
			return nil, p.fail("character %U", r)
		}
		i += n
	}
	if bytes.IndexByte(s, '\r') < 0 {
		return s, nil
	}
	s = bytes.ReplaceAll(s, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(s, []byte("\r"), []byte("\n")), nil
}

func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

func (p *parser) characterData() error {
	n := bytes.IndexByte(p.b[p.i:], '<')
	if n < 0 {
		n = len(p.b) - p.i
	}
	s := p.b[p.i : p.i+n]
	if len(p.stack) == 0 {
		if len(bytes.Trim(s, " \t\r\n")) > 0 {
			return p.fail("text outside the root element")
		}
		p.i += n
		return nil
	}
	if bytes.Contains(s, []byte("]]>")) {
		return p.fail("]]> in text")
	}
	out, err := p.expand(s, false)
	if err != nil {
		return err
	}
	p.i += n
	return p.h.text(out)
}

// expand resolves references; in an attribute white space that is written out
// becomes spaces.
func (p *parser) expand(s []byte, attribute bool) ([]byte, error) {
	s, err := p.characters(s)
	if err != nil {
		return nil, err
	}
	if attribute && bytes.ContainsAny(s, "\t\n") {
		s = bytes.ReplaceAll(bytes.ReplaceAll(s, []byte("\t"), []byte(" ")), []byte("\n"), []byte(" "))
	}
	if bytes.IndexByte(s, '&') < 0 {
		return s, nil
	}
	var out []byte
	for {
		n := bytes.IndexByte(s, '&')
		if n < 0 {
			return append(out, s...), nil
		}
		out = append(out, s[:n]...)
		s = s[n+1:]
		m := bytes.IndexByte(s, ';')
		if m < 1 || m > 12 {
			return nil, p.fail("reference")
		}
		r, ok := reference(string(s[:m]))
		if !ok {
			return nil, p.fail("reference %q", s[:m])
		}
		out = utf8.AppendRune(out, r)
		s = s[m+1:]
	}
}

func reference(s string) (rune, bool) {
	switch s {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, ok := strings.CutPrefix(s, "#")
	base := 10
	if hex, x := strings.CutPrefix(digits, "x"); x {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if !ok || err != nil || n > 0x10ffff || strings.Contains(digits, "_") {
		return 0, false
	}
	return rune(n), isChar(rune(n))
}

func (p *parser) endTag() error {
	from := p.i
	p.i += 2
	s, err := p.until(">")
	if err != nil {
		return err
	}
	if len(p.stack) == 0 {
		return p.fail("an end without a beginning")
	}
	e := p.stack[len(p.stack)-1]
	name := e.local
	if e.prefix != "" {
		name = e.prefix + ":" + e.local
	}
	if string(bytes.TrimRight(s, " \t\r\n")) != name {
		return p.fail("%.40q ends %.40q", s, name)
	}
	return p.pop(e, from, p.i)
}

func (p *parser) pop(e *element, from, to int) error {
	p.stack = p.stack[:len(p.stack)-1]
	p.done = len(p.stack) == 0
	return p.h.end(e, from, to)
}

func (p *parser) space() bool {
	from := p.i
	for p.i < len(p.b) && strings.IndexByte(" \t\r\n", p.b[p.i]) >= 0 {
		p.i++
	}
	return p.i > from
}

// name takes a name up to a character that cannot be in one.
func (p *parser) name() (string, error) {
	if p.names++; p.names > maxNames {
		return "", p.fail("more than %d elements and attributes", maxNames)
	}
	n := bytes.IndexAny(p.b[p.i:], " \t\r\n=/><\"'")
	if n < 1 || !isName(string(p.b[p.i:p.i+n])) {
		return "", p.fail("want a name")
	}
	s := string(p.b[p.i : p.i+n])
	p.i += n
	return s, nil
}

func split(name string) (prefix, local string, ok bool) {
	prefix, local, found := strings.Cut(name, ":")
	if !found {
		return "", name, true
	}
	return prefix, local, isName(prefix) && isName(local) && !strings.Contains(local, ":")
}

func (p *parser) startTag() error {
	e := &element{from: p.i, depth: len(p.stack) + 1}
	switch {
	case p.done:
		return p.fail("a second root element")
	case e.depth > maxDepth:
		return p.fail("elements nested deeper than %d", maxDepth)
	}
	p.i++
	name, err := p.name()
	if err != nil {
		return err
	}
	var ok bool
	if e.prefix, e.local, ok = split(name); !ok || e.prefix == "xmlns" {
		return p.fail("name %.40q", name)
	}
	if len(p.stack) > 0 {
		e.scope = p.stack[len(p.stack)-1].scope
	}
	empty, err := p.attributes(e)
	if err != nil {
		return err
	}
	if err := p.resolve(e); err != nil {
		return err
	}
	p.stack = append(p.stack, e)
	if err := p.h.start(e); err != nil {
		return err
	}
	if empty {
		return p.pop(e, p.i, p.i)
	}
	return nil
}

// attributes takes them and the tag's end.
func (p *parser) attributes(e *element) (empty bool, err error) {
	var names map[string]string
	for n := 0; ; n++ {
		spaced := p.space()
		switch {
		case p.has("/>"):
			p.i += 2
			empty = true
		case p.has(">"):
			p.i++
		case !spaced:
			return false, p.fail("want white space before an attribute")
		case n == maxAttributes:
			return false, p.fail("more than %d attributes", maxAttributes)
		default:
			if names == nil {
				names = map[string]string{}
			}
			if err := p.attribute(e, names); err != nil {
				return false, err
			}
			continue
		}
		if len(names) > 0 {
			depth := 1
			if e.scope != nil {
				depth += e.scope.depth
			}
			if depth > maxScopes {
				return false, p.fail("namespaces declared in more than %d elements around one another", maxScopes)
			}
			e.scope, e.declares = &scope{e.scope, depth, names, map[string]bool{}}, true
		}
		return empty, nil
	}
}

func (p *parser) attribute(e *element, names map[string]string) error {
	name, err := p.name()
	if err != nil {
		return err
	}
	p.space()
	if !p.has("=") {
		return p.fail("want =")
	}
	p.i++
	p.space()
	if !p.has(`"`) && !p.has(`'`) {
		return p.fail("want a quoted value")
	}
	quote := string(p.b[p.i])
	p.i++
	raw, err := p.until(quote)
	if err != nil {
		return err
	}
	if bytes.IndexByte(raw, '<') >= 0 {
		return p.fail("< in an attribute")
	}
	v, err := p.expand(raw, true)
	if err != nil {
		return err
	}
	prefix, local, ok := split(name)
	switch {
	case !ok:
		return p.fail("name %.40q", name)
	case name == "xmlns":
		return p.declare(names, "", string(v))
	case prefix == "xmlns":
		return p.declare(names, local, string(v))
	}
	e.attributes = append(e.attributes, attribute{prefix: prefix, local: local, value: string(v)})
	return nil
}

// declare notes a namespace. Names that are relative have no canonical form.
func (p *parser) declare(names map[string]string, prefix, space string) error {
	_, twice := names[prefix]
	switch {
	case twice:
		return p.fail("namespace %q declared twice", prefix)
	case prefix == "xmlns" || space == xmlnsSpace || (prefix == "xml") != (space == xmlSpace):
		return p.fail("namespace %q is reserved", prefix)
	case space == "" && prefix != "" || space != "" && !isURI(space):
		return p.fail("namespace name %.80q", space)
	}
	if prefix != "xml" {
		names[prefix] = space
	}
	return nil
}

// isURI wants an absolute URI in the characters of RFC 3986: other verifiers refuse
// to canonicalise what is none.
func isURI(s string) bool {
	scheme, _, ok := strings.Cut(s, ":")
	return ok && isName(scheme) && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("<>\"{}|\\^`", r)
	})
}

func (p *parser) resolve(e *element) error {
	var ok bool
	if e.space, ok = e.scope.find(e.prefix); !ok {
		return p.fail("namespace %q is not declared", e.prefix)
	}
	if len(e.attributes) == 0 {
		return nil
	}
	seen := map[[2]string]bool{}
	for i := range e.attributes {
		a := &e.attributes[i]
		if a.prefix != "" {
			if a.space, ok = e.scope.find(a.prefix); !ok {
				return p.fail("namespace %q is not declared", a.prefix)
			}
		}
		k := [2]string{a.space, a.local}
		if seen[k] {
			return p.fail("attribute %.40q twice", a.local)
		}
		seen[k] = true
	}
	return nil
}

// isName follows XML 1.0, fifth edition, section 2.3; a colon is a name's
// character.
func isName(s string) bool {
	for i, r := range s {
		if !nameStart(r) && (i == 0 || !(r == '-' || r == '.' || r >= '0' && r <= '9' || r == 0xb7 || r >= 0x300 && r <= 0x36f || r == 0x203f || r == 0x2040)) {
			return false
		}
	}
	return s != "" && s[0] != ':'
}

func nameStart(r rune) bool {
	if r < 0x80 {
		return r == ':' || r == '_' || r|0x20 >= 'a' && r|0x20 <= 'z'
	}
	for _, x := range [...][2]rune{
		{0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x2ff}, {0x370, 0x37d}, {0x37f, 0x1fff}, {0x200c, 0x200d}, {0x2070, 0x218f},
		{0x2c00, 0x2fef}, {0x3001, 0xd7ff}, {0xf900, 0xfdcf}, {0xfdf0, 0xfffd}, {0x10000, 0xeffff},
	} {
		if r >= x[0] && r <= x[1] {
			return true
		}
	}
	return false
}
