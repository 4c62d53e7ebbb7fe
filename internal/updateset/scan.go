package updateset

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/rejection"
)

// attribute is one attribute, decoded.
type attribute struct{ name, value string }

// tag is a start tag.
type tag struct {
	name       string
	attributes []attribute
	empty      bool // <name/>
}

func (t *tag) attribute(name string) (string, bool) {
	for _, a := range t.attributes {
		if a.name == name {
			return a.value, true
		}
	}
	return "", false
}

// scanner reads the small part of XML 1.0 that exports are written in. What it does
// not know it refuses: two readers that differ over a comment or an entity are how a
// signed script reads differently where it runs.
//
// It holds what was read since the last call of drop, so that the bytes of an update
// are at hand when its end is reached.
type scanner struct {
	src   io.Reader // nil: data is all there is
	data  []byte
	pos   int
	base  int64 // offset of data[0]
	lines int   // newlines before data[0]
	max   int   // of data
}

func scan(src io.Reader, limit int) *scanner { return &scanner{src: src, max: limit} }

func scanBytes(b []byte) *scanner { return &scanner{data: b, max: len(b)} }

// fail puts the place to a refusal.
func (s *scanner) fail(r *rejection.Error) error {
	at := min(s.pos, len(s.data))
	return &Error{Reason: r, Offset: s.base + int64(at), Line: s.lines + bytes.Count(s.data[:at], []byte{'\n'}) + 1}
}

func (s *scanner) malformed(problem, hint string) error { return s.fail(malformed(problem, hint)) }

// drop forgets what was read.
func (s *scanner) drop() {
	s.lines += bytes.Count(s.data[:s.pos], []byte{'\n'})
	s.base += int64(s.pos)
	s.data = s.data[s.pos:] // not moved: the next growth does that, once for many updates
	s.pos = 0
}

const readAhead = 64 << 10

// need makes n bytes from pos on available; io.EOF when the input ends before.
func (s *scanner) need(n int) error {
	for len(s.data)-s.pos < n {
		if s.src == nil {
			return io.EOF
		}
		if s.pos >= s.max {
			return s.fail(tooLarge("an element of more than "+strconv.Itoa(s.max)+" bytes", split+", or raise the limit"))
		}
		s.data = slices.Grow(s.data, readAhead)
		read, err := s.src.Read(s.data[len(s.data):cap(s.data)])
		s.data = s.data[:len(s.data)+read]
		if err == io.EOF {
			s.src = nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// byte is the next one, not taken; the end of the input is an error.
func (s *scanner) byte() (byte, error) {
	if s.pos < len(s.data) && s.pos < s.max {
		return s.data[s.pos], nil
	}
	if err := s.need(1); err != nil {
		return 0, s.ended(err)
	}
	if s.pos >= s.max {
		return 0, s.fail(tooLarge("an element of more than "+strconv.Itoa(s.max)+" bytes", split+", or raise the limit"))
	}
	return s.data[s.pos], nil
}

func (s *scanner) ended(err error) error {
	if errors.Is(err, io.EOF) {
		s.pos = len(s.data)
		return s.malformed("it ends in the middle", "the file was cut off; copy or export it again")
	}
	return err
}

// has reports whether text is next; it is not taken.
func (s *scanner) has(text string) (bool, error) {
	if err := s.need(len(text)); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return string(s.data[s.pos:s.pos+len(text)]) == text, nil
}

// take takes text when it is next.
func (s *scanner) take(text string) (bool, error) {
	ok, err := s.has(text)
	if ok {
		s.pos += len(text)
	}
	return ok, err
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// space takes white space; the end of the input is none.
func (s *scanner) space() (taken bool, err error) {
	for {
		if err := s.need(1); err == io.EOF {
			return taken, nil
		} else if err != nil {
			return taken, err
		}
		if !space(s.data[s.pos]) {
			return taken, nil
		}
		s.pos++
		taken = true
	}
}

// end says that nothing follows.
func (s *scanner) end() error {
	if _, err := s.space(); err != nil {
		return err
	}
	if err := s.need(1); err == io.EOF {
		return nil
	} else if err != nil {
		return err
	}
	return s.malformed("something follows the end of the document", "a document has one root; "+again)
}

// declaration takes the XML declaration, which may be absent.
func (s *scanner) declaration() error {
	ok, err := s.take("<?xml")
	if err != nil || !ok {
		return err
	}
	t := tag{name: "xml"}
	if err := s.attributes(&t, '?'); err != nil {
		return err
	}
	if ok, err := s.take("?>"); err != nil || !ok {
		return errors.Join(err, s.malformed("an XML declaration without end", again))
	}
	for i, a := range t.attributes {
		switch {
		case i == 0 && a.name == "version" && a.value == "1.0":
		case i == 1 && a.name == "encoding" && (a.value == "UTF-8" || a.value == "utf-8"):
		case i > 0 && a.name == "standalone" && (a.value == "yes" || a.value == "no"):
		default:
			return s.malformed("an XML declaration that is not of version 1.0 in UTF-8", "export the set as UTF-8")
		}
	}
	if len(t.attributes) == 0 {
		return s.malformed("an XML declaration without version", again)
	}
	return nil
}

// next says what stands next: '<' a start tag, '/' an end tag, 't' text.
func (s *scanner) next() (byte, error) {
	c, err := s.byte()
	if err != nil {
		return 0, err
	}
	if c != '<' {
		return 't', nil
	}
	if err := s.need(2); err != nil {
		return 0, s.ended(err)
	}
	switch s.data[s.pos+1] {
	case '/':
		return '/', nil
	case '?':
		return 0, s.malformed("a processing instruction", removed)
	case '!':
		if ok, err := s.has("<![CDATA["); err != nil {
			return 0, err
		} else if ok {
			return 't', nil
		}
		if ok, err := s.has("<!--"); err != nil {
			return 0, err
		} else if ok {
			return 0, s.malformed("a comment", removed)
		}
		return 0, s.malformed("a document type or an unknown declaration", removed)
	}
	return '<', nil
}

func (s *scanner) name() (string, error) {
	start := s.pos
	for {
		c, err := s.byte()
		if err != nil {
			return "", err
		}
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case s.pos > start && (c >= '0' && c <= '9' || c == '-' || c == '.'):
		case c == ':':
			return "", s.malformed("a name with a namespace", "exports have none; "+removed)
		default:
			if s.pos == start {
				return "", s.malformed("a name is missing or has letters that no table or column has", again)
			}
			return string(s.data[start:s.pos]), nil
		}
		s.pos++
		if s.pos-start > maxName {
			return "", s.malformed("a name of more than 256 bytes", removed)
		}
	}
}

// open takes a start tag.
func (s *scanner) open() (tag, error) {
	var t tag
	kind, err := s.next()
	if err != nil {
		return t, err
	}
	if kind != '<' {
		return t, s.malformed("an element is missing here", again)
	}
	s.pos++
	if t.name, err = s.name(); err != nil {
		return t, err
	}
	if err := s.attributes(&t, '>'); err != nil {
		return t, err
	}
	if t.empty, err = s.take("/"); err != nil {
		return t, err
	}
	if ok, err := s.take(">"); err != nil {
		return t, err
	} else if !ok {
		return t, s.malformed("a start tag without end", again)
	}
	return t, nil
}

// attributes takes the attributes up to end, '/' or '>'.
func (s *scanner) attributes(t *tag, end byte) error {
	for {
		spaced, err := s.space()
		if err != nil {
			return err
		}
		c, err := s.byte()
		if err != nil {
			return err
		}
		if c == end || c == '/' || c == '>' {
			return nil
		}
		if !spaced {
			return s.malformed("no space before an attribute", again)
		}
		var a attribute
		if a.name, err = s.name(); err != nil {
			return err
		}
		if a.name == "xmlns" {
			return s.malformed("a namespace", "exports have none; "+removed)
		}
		if _, twice := t.attribute(a.name); twice {
			return s.malformed("the attribute "+a.name+" stands twice", again)
		}
		if len(t.attributes) >= maxAttributes {
			return s.malformed("an element with more than 64 attributes", removed)
		}
		if a.value, err = s.value(); err != nil {
			return err
		}
		t.attributes = append(t.attributes, a)
	}
}

// value takes ="…": white space in it becomes spaces (XML 1.0, 3.3.3).
func (s *scanner) value() (string, error) {
	if ok, err := s.take("="); err != nil {
		return "", err
	} else if !ok {
		return "", s.malformed("an attribute without value", again)
	}
	quote, err := s.byte()
	if err != nil {
		return "", err
	}
	if quote != '"' && quote != '\'' {
		return "", s.malformed("an attribute's value without quotes", again)
	}
	s.pos++
	var out []byte
	for {
		c, err := s.byte()
		if err != nil {
			return "", err
		}
		if len(out) > maxAttribute {
			return "", s.malformed("an attribute's value of more than 1 MiB", removed)
		}
		switch {
		case c == quote:
			s.pos++
			return string(out), nil
		case c == '<':
			return "", s.malformed("'<' in an attribute's value", again)
		case c == '&':
			if out, err = s.reference(out); err != nil {
				return "", err
			}
		case c == '\r', c == '\n', c == '\t':
			s.pos++
			if c == '\r' {
				if _, err := s.take("\n"); err != nil {
					return "", err
				}
			}
			out = append(out, ' ')
		default:
			if out, err = s.character(out); err != nil {
				return "", err
			}
		}
	}
}

// closing takes the end tag of name.
func (s *scanner) closing(name string) error {
	if ok, err := s.take("</" + name); err != nil {
		return err
	} else if !ok {
		return s.malformed("the end tag of "+name+" is missing", again)
	}
	if _, err := s.space(); err != nil {
		return err
	}
	if ok, err := s.take(">"); err != nil {
		return err
	} else if !ok {
		return s.malformed("the end tag of "+name+" is missing", again)
	}
	return nil
}

// text takes character data, references and CDATA sections up to the next tag, and
// appends what they mean to out.
func (s *scanner) text(out []byte) ([]byte, error) {
	for {
		kind, err := s.next()
		if err != nil || kind != 't' {
			return out, err
		}
		if s.data[s.pos] == '<' {
			s.pos += len("<![CDATA[")
			if out, err = s.cdata(out); err != nil {
				return out, err
			}
			continue
		}
		for {
			out = s.run(out)
			c, err := s.byte()
			if err != nil {
				return out, err
			}
			if c == '<' {
				break
			}
			switch c {
			case '&':
				out, err = s.reference(out)
			case ']':
				var bad bool
				if bad, err = s.has("]]>"); bad {
					err = s.malformed("]]> in text", again)
				}
				out = append(out, c)
				s.pos++
			default:
				out, err = s.character(out)
			}
			if err != nil {
				return out, err
			}
		}
	}
}

// run takes what is at hand of characters that mean themselves everywhere.
func (s *scanner) run(out []byte) []byte {
	rest := s.data[s.pos:min(len(s.data), max(s.pos, s.max))]
	n := 0
	for n < len(rest) && plain[rest[n]] {
		n++
	}
	s.pos += n
	return append(out, rest[:n]...)
}

// plain are the bytes that are characters of their own and begin nothing.
var plain = func() (t [256]bool) {
	for c := byte(0x20); c < 0x7f; c++ {
		t[c] = c != '<' && c != '&' && c != ']'
	}
	t['\n'], t['\t'] = true, true
	return t
}()

func (s *scanner) cdata(out []byte) ([]byte, error) {
	for {
		out = s.run(out)
		c, err := s.byte()
		if err != nil {
			return out, err
		}
		if c == ']' {
			if ok, err := s.take("]]>"); err != nil || ok {
				return out, err
			}
		}
		if out, err = s.character(out); err != nil {
			return out, err
		}
	}
}

// character takes one character; a carriage return, with or without a newline, is a
// newline (XML 1.0, 2.11).
func (s *scanner) character(out []byte) ([]byte, error) {
	c := s.data[s.pos]
	switch {
	case c >= 0x20 && c < 0x7f, c == '\n', c == '\t':
		s.pos++
		return append(out, c), nil
	case c == '\r':
		s.pos++
		if _, err := s.take("\n"); err != nil {
			return out, err
		}
		return append(out, '\n'), nil
	}
	if c >= utf8.RuneSelf && !utf8.FullRune(s.data[s.pos:]) {
		if err := s.need(utf8.UTFMax); err != nil && err != io.EOF {
			return out, err
		}
	}
	r, size := utf8.DecodeRune(s.data[s.pos:])
	if r == utf8.RuneError && size <= 1 {
		return out, s.malformed("a byte that is not UTF-8", "save the file as UTF-8")
	}
	if !legal(r) {
		return out, s.malformed("a character that XML does not allow", removed)
	}
	out = append(out, s.data[s.pos:s.pos+size]...)
	s.pos += size
	return out, nil
}

// legal is Char of XML 1.0.
func legal(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

// reference takes &…;
func (s *scanner) reference(out []byte) ([]byte, error) {
	const longest = len("#x0010FFFF")
	s.pos++
	start := s.pos
	for {
		c, err := s.byte()
		if err != nil {
			return out, err
		}
		if c == ';' {
			break
		}
		if s.pos-start >= longest || !(c == '#' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return out, s.malformed("'&' that begins no character", "write &amp;")
		}
		s.pos++
	}
	name := string(s.data[start:s.pos])
	s.pos++
	switch name {
	case "amp":
		return append(out, '&'), nil
	case "lt":
		return append(out, '<'), nil
	case "gt":
		return append(out, '>'), nil
	case "quot":
		return append(out, '"'), nil
	case "apos":
		return append(out, '\''), nil
	}
	digits, base := "", 10
	switch {
	case len(name) > 2 && name[:2] == "#x":
		digits, base = name[2:], 16
	case len(name) > 1 && name[0] == '#':
		digits = name[1:]
	default:
		return out, s.malformed("the entity "+name, "only amp, lt, gt, quot and apos are known; "+removed)
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n > utf8.MaxRune || !legal(rune(n)) {
		return out, s.malformed("a reference to a character that XML does not allow", removed)
	}
	return utf8.AppendRune(out, rune(n)), nil
}
