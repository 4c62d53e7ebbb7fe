package appx

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of XML.
const (
	maxDepth      = 64
	maxAttributes = 64
)

// tag is one start or end tag. Elements of other name spaces than the document's own
// have a colon in their names.
type tag struct {
	name       string
	attributes []attribute
	shut       bool // an end tag; of an empty element both come
	start      int  // where it stands in the text
}

type attribute struct{ name, value string }

// get is an attribute's value, "" when it is not there.
func (t *tag) get(name string) string {
	for _, a := range t.attributes {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// scanner reads the tags of a document in UTF-8 one by one, and holds it to being
// well-formed. Document types, processing instructions and entities of a document's
// own are refused.
type scanner struct {
	what  string // for errors
	s     string
	pos   int
	open  []string
	text  string // what stood before the tag
	empty bool   // the end tag of an empty element is due
	began bool
}

func newScanner(what string, text []byte) (*scanner, error) {
	x := &scanner{what: what, s: string(text)}
	if !utf8.ValidString(x.s) || strings.IndexByte(x.s, 0) >= 0 {
		return nil, malformed("%s is not UTF-8", what)
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

func (x *scanner) bad(why string) error {
	return malformed("%s: %s at byte %d", x.what, why, x.pos)
}

// next returns the next tag, and false at the document's end.
func (x *scanner) next() (t tag, more bool, err error) {
	x.text = ""
	if x.empty {
		x.empty = false
		return tag{name: x.pop(), shut: true, start: x.pos}, true, nil
	}
	for {
		i := strings.IndexByte(x.s[x.pos:], '<')
		if i < 0 {
			i = len(x.s) - x.pos
		}
		text := x.s[x.pos : x.pos+i]
		if len(x.open) == 0 && strings.Trim(text, " \t\r\n") != "" {
			return t, false, x.bad("text outside of the document's element")
		}
		x.text += text
		if x.pos += i; x.pos == len(x.s) {
			if !x.began || len(x.open) > 0 {
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
		case strings.HasPrefix(rest, "<![CDATA[") && len(x.open) > 0:
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

func (x *scanner) pop() string {
	n := x.open[len(x.open)-1]
	x.open = x.open[:len(x.open)-1]
	return n
}

func (x *scanner) name() string {
	from := x.pos
	for x.pos < len(x.s) && !strings.ContainsRune(" \t\r\n/>=<\"'&", rune(x.s[x.pos])) {
		x.pos++
	}
	return x.s[from:x.pos]
}

func (x *scanner) space() bool {
	from := x.pos
	for x.pos < len(x.s) && strings.IndexByte(" \t\r\n", x.s[x.pos]) >= 0 {
		x.pos++
	}
	return x.pos > from
}

func (x *scanner) end() (tag, error) {
	t := tag{shut: true, start: x.pos}
	x.pos += 2
	t.name = x.name()
	x.space()
	if !strings.HasPrefix(x.s[x.pos:], ">") || len(x.open) == 0 || x.open[len(x.open)-1] != t.name {
		return t, x.bad("an end tag that fits nothing")
	}
	x.pos++
	x.pop()
	return t, nil
}

func (x *scanner) begin() (tag, error) {
	t := tag{start: x.pos}
	x.pos++
	if t.name = x.name(); t.name == "" || len(x.open) == maxDepth || len(x.open) == 0 && x.began {
		return t, x.bad("an element without a name, too deep or after the document's own")
	}
	x.began = true
	for {
		spaced := x.space()
		rest := x.s[x.pos:]
		switch {
		case strings.HasPrefix(rest, ">"):
			x.pos++
			x.open = append(x.open, t.name)
			return t, nil
		case strings.HasPrefix(rest, "/>"):
			x.pos += 2
			x.open = append(x.open, t.name)
			x.empty = true
			return t, nil
		case !spaced || len(t.attributes) == maxAttributes:
			return t, x.bad("a tag that does not end")
		}
		a, err := x.attribute()
		if err != nil {
			return t, err
		}
		for _, b := range t.attributes {
			if b.name == a.name {
				return t, x.bad("an attribute that stands twice")
			}
		}
		t.attributes = append(t.attributes, a)
	}
}

func (x *scanner) attribute() (attribute, error) {
	a := attribute{name: x.name()}
	x.space()
	if a.name == "" || !strings.HasPrefix(x.s[x.pos:], "=") {
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
	v, ok := unescape(x.s[x.pos+1 : x.pos+1+end])
	if !ok {
		return a, x.bad("a value that is not well-formed")
	}
	a.value = v
	x.pos += end + 2
	return a, nil
}

// unescape replaces XML's own entities and numbered characters.
func unescape(s string) (string, bool) {
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
