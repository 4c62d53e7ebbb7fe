// Package opc reads the XML parts of packages in the form of the Open Packaging
// Conventions (ECMA-376 part 2): manifests, content types and the like of AppX and
// NuGet.
//
// Invariants:
//
//  1. Only well-formed documents in UTF-8 are read to their end without an error.
//  2. Document types, processing instructions and entities of a document's own are
//     refused, so that nothing grows and nothing is fetched.
//
// A caller may not conclude anything about name spaces: prefixes are part of names.
package opc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of XML.
const (
	maxDepth      = 64
	maxAttributes = 64
)

// ErrMalformed is wrapped for documents that are not well-formed, or refused.
var ErrMalformed = errors.New("opc: malformed document")

// Tag is one start or end tag. Elements of other name spaces than the document's own
// have a colon in their names.
type Tag struct {
	Name       string
	Attributes []Attribute // good until the next tag is read
	Shut       bool        // an end tag; of an empty element both come
	Start      int         // where it stands in the text
}

// Attribute is a name with its value.
type Attribute struct{ Name, Value string }

// Get is an attribute's value, "" when it is not there.
func (t *Tag) Get(name string) string {
	for _, a := range t.Attributes {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// Scanner reads the tags of a document in UTF-8 one by one, and holds it to being
// well-formed. Document types, processing instructions and entities of a document's
// own are refused.
type Scanner struct {
	what  string // for errors
	s     string
	pos   int
	Open  []string // names of the elements that are open, the document's own first
	Text  string   // what stood before the tag, as it is written
	empty bool     // the end tag of an empty element is due
	began bool
	attrs []Attribute // room for those of the tag
}

// New begins to read a document; what names it in errors.
func New(what string, text []byte) (*Scanner, error) {
	x := &Scanner{what: what, s: string(text)}
	if !utf8.ValidString(x.s) || strings.IndexByte(x.s, 0) >= 0 {
		return nil, x.bad("not UTF-8")
	}
	if strings.HasPrefix(x.s, "\ufeff") {
		x.pos = len("\ufeff")
	}
	if strings.HasPrefix(x.s[x.pos:], "<?xml ") {
		end := strings.Index(x.s[x.pos:], "?>")
		if end < 0 {
			return nil, x.bad("declaration does not end")
		}
		head := strings.ToLower(x.s[x.pos : x.pos+end])
		if strings.Contains(head, "encoding") && !strings.Contains(head, `"utf-8"`) && !strings.Contains(head, `'utf-8'`) {
			return nil, x.bad("another encoding than UTF-8")
		}
		x.pos += end + 2
	}
	return x, nil
}

func (x *Scanner) bad(why string) error {
	return fmt.Errorf("%w: %s: %s at byte %d", ErrMalformed, x.what, why, x.pos)
}

// Next returns the next tag, and false at the document's end.
func (x *Scanner) Next() (t Tag, more bool, err error) {
	x.Text = ""
	if x.empty {
		x.empty = false
		return Tag{Name: x.pop(), Shut: true, Start: x.pos}, true, nil
	}
	for {
		i := strings.IndexByte(x.s[x.pos:], '<')
		if i < 0 {
			i = len(x.s) - x.pos
		}
		text := x.s[x.pos : x.pos+i]
		if len(x.Open) == 0 && strings.Trim(text, " \t\r\n") != "" {
			return t, false, x.bad("text outside of the document's element")
		}
		x.Text += text
		if x.pos += i; x.pos == len(x.s) {
			if !x.began || len(x.Open) > 0 {
				return t, false, x.bad("the document is cut off")
			}
			return t, false, nil
		}
		rest := x.s[x.pos:]
		switch {
		case strings.HasPrefix(rest, "<!--"):
			end := strings.Index(rest[4:], "--")
			if end < 0 || !strings.HasPrefix(rest[4+end:], "-->") {
				return t, false, x.bad("a comment that does not end")
			}
			x.pos += 4 + end + 3
		case strings.HasPrefix(rest, "<![CDATA[") && len(x.Open) > 0:
			end := strings.Index(rest, "]]>")
			if end < 0 {
				return t, false, x.bad("a CDATA section that does not end")
			}
			x.pos += end + 3
		case strings.HasPrefix(rest, "</"):
			t, err = x.end()
			return t, err == nil, err
		case strings.HasPrefix(rest, "<!"), strings.HasPrefix(rest, "<?"):
			return t, false, x.bad("a declaration or an instruction")
		default:
			t, err = x.begin()
			return t, err == nil, err
		}
	}
}

func (x *Scanner) pop() string {
	n := x.Open[len(x.Open)-1]
	x.Open = x.Open[:len(x.Open)-1]
	return n
}

func (x *Scanner) name() string {
	from := x.pos
	for x.pos < len(x.s) && !strings.ContainsRune(" \t\r\n/>=<\"'&", rune(x.s[x.pos])) {
		x.pos++
	}
	return x.s[from:x.pos]
}

func (x *Scanner) space() bool {
	from := x.pos
	for x.pos < len(x.s) && strings.IndexByte(" \t\r\n", x.s[x.pos]) >= 0 {
		x.pos++
	}
	return x.pos > from
}

func (x *Scanner) end() (Tag, error) {
	t := Tag{Shut: true, Start: x.pos}
	x.pos += 2
	t.Name = x.name()
	x.space()
	if !strings.HasPrefix(x.s[x.pos:], ">") || len(x.Open) == 0 || x.Open[len(x.Open)-1] != t.Name {
		return t, x.bad("an end tag that fits nothing")
	}
	x.pos++
	x.pop()
	return t, nil
}

func (x *Scanner) begin() (Tag, error) {
	t := Tag{Start: x.pos, Attributes: x.attrs[:0]}
	x.pos++
	if t.Name = x.name(); t.Name == "" || len(x.Open) == maxDepth || len(x.Open) == 0 && x.began {
		return t, x.bad("an element without a name, too deep or after the document's own")
	}
	x.began = true
	for {
		spaced := x.space()
		rest := x.s[x.pos:]
		switch {
		case strings.HasPrefix(rest, ">"):
			x.pos++
			x.Open = append(x.Open, t.Name)
			return t, nil
		case strings.HasPrefix(rest, "/>"):
			x.pos += 2
			x.Open = append(x.Open, t.Name)
			x.empty = true
			return t, nil
		case !spaced || len(t.Attributes) == maxAttributes:
			return t, x.bad("a tag that does not end")
		}
		a, err := x.attribute()
		if err != nil {
			return t, err
		}
		for _, b := range t.Attributes {
			if b.Name == a.Name {
				return t, x.bad("an attribute that stands twice")
			}
		}
		t.Attributes = append(t.Attributes, a)
		x.attrs = t.Attributes
	}
}

func (x *Scanner) attribute() (Attribute, error) {
	a := Attribute{Name: x.name()}
	x.space()
	if a.Name == "" || !strings.HasPrefix(x.s[x.pos:], "=") {
		return a, x.bad("an attribute without a value")
	}
	x.pos++
	x.space()
	if x.pos == len(x.s) || x.s[x.pos] != '"' && x.s[x.pos] != '\'' {
		return a, x.bad("a value without quotes")
	}
	end := strings.IndexByte(x.s[x.pos+1:], x.s[x.pos])
	if end < 0 {
		return a, x.bad("a value that does not end")
	}
	v, ok := Unescape(x.s[x.pos+1 : x.pos+1+end])
	if !ok {
		return a, x.bad("a value that is not well-formed")
	}
	a.Value = v
	x.pos += end + 2
	return a, nil
}

// Unescape replaces XML's own entities and numbered characters.
func Unescape(s string) (string, bool) {
	if strings.IndexByte(s, '<') >= 0 {
		return "", false
	}
	if strings.IndexByte(s, '&') < 0 {
		return s, true
	}
	var b strings.Builder
	for {
		text, rest, more := strings.Cut(s, "&")
		b.WriteString(text)
		if !more {
			return b.String(), true
		}
		name, after, ok := strings.Cut(rest, ";")
		if !ok {
			return "", false
		}
		switch name {
		case "amp":
			b.WriteByte('&')
		case "lt":
			b.WriteByte('<')
		case "gt":
			b.WriteByte('>')
		case "quot":
			b.WriteByte('"')
		case "apos":
			b.WriteByte('\'')
		default:
			digits, base := strings.TrimPrefix(name, "#"), 10
			if digits == name {
				return "", false
			}
			if strings.HasPrefix(digits, "x") {
				digits, base = digits[1:], 16
			}
			n, err := strconv.ParseUint(digits, base, 21)
			if err != nil || n == 0 || !utf8.ValidRune(rune(n)) {
				return "", false
			}
			b.WriteRune(rune(n))
		}
		s = after
	}
}
