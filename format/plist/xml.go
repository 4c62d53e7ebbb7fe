package plist

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

func bad(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(f, args...))
}

// reader reads the XML form. It knows no more of XML than property lists need.
type reader struct {
	b        string
	pos      int
	nodes    int
	comments bool
}

// ParseXML reads a property list in XML. Comments, where they are allowed, end
// where XML 1.0 section 2.5 says, and hold no "--" and no "-" at their ends.
func ParseXML(b []byte, comments bool) (Value, error) {
	switch {
	case len(b) > MaxSize:
		return nil, bad("%d bytes: at most %d", len(b), MaxSize)
	case !utf8.Valid(b):
		return nil, bad("not UTF-8")
	case bytes.IndexByte(b, 0) >= 0:
		return nil, bad("a zero byte")
	}
	r := &reader{b: string(b), comments: comments}
	r.take("\ufeff")
	if strings.HasPrefix(r.b[r.pos:], "<?xml") {
		if err := r.declaration(); err != nil {
			return nil, err
		}
	}
	if err := r.space(); err != nil {
		return nil, err
	}
	if r.take("<!DOCTYPE") {
		text, ok := r.until(">")
		if !ok || strings.ContainsAny(text, "[<") {
			return nil, bad("a document type with a subset of its own")
		}
		if err := r.space(); err != nil {
			return nil, err
		}
	}
	if !r.take(`<plist version="1.0">`) && !r.take("<plist>") && !r.take(`<plist version='1.0'>`) {
		return nil, bad("no <plist>")
	}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if err := r.space(); err != nil {
		return nil, err
	}
	if !r.take("</plist>") {
		return nil, bad("no </plist> after the first value")
	}
	if err := r.space(); err != nil {
		return nil, err
	}
	if r.pos != len(r.b) {
		return nil, bad("something after </plist>")
	}
	return v, nil
}

// declaration reads <?xml …?>: the encoding, if it is named, is UTF-8.
func (r *reader) declaration() error {
	text, ok := r.until("?>")
	if !ok || strings.Contains(text, "<!") {
		return bad("XML declaration does not end")
	}
	if i := strings.Index(text, "encoding"); i >= 0 {
		if l := strings.ToLower(text[i:]); !strings.HasPrefix(l, `encoding="utf-8"`) && !strings.HasPrefix(l, "encoding='utf-8'") {
			return bad("encoding other than UTF-8")
		}
	}
	return nil
}

func (r *reader) take(s string) bool {
	if strings.HasPrefix(r.b[r.pos:], s) {
		r.pos += len(s)
		return true
	}
	return false
}

// until returns what stands before s and moves behind s.
func (r *reader) until(s string) (string, bool) {
	i := strings.Index(r.b[r.pos:], s)
	if i < 0 {
		return "", false
	}
	text := r.b[r.pos : r.pos+i]
	r.pos += i + len(s)
	return text, true
}

// space skips white space and comments.
func (r *reader) space() error {
	for {
		for r.pos < len(r.b) && strings.IndexByte(" \t\r\n", r.b[r.pos]) >= 0 {
			r.pos++
		}
		if !r.take("<!--") {
			return nil
		}
		if !r.comments {
			return bad("a comment")
		}
		text, ok := r.until("-->")
		if !ok || strings.Contains(text, "--") || strings.HasPrefix(text, ">") || strings.HasPrefix(text, "-") || strings.HasSuffix(text, "-") {
			return bad("a comment that parsers end in different places")
		}
	}
}

// text reads character data up to the closing tag of name.
func (r *reader) text(name string) (string, error) {
	raw, ok := r.until("<")
	if !ok || !r.take("/"+name+">") {
		return "", bad("<%s> holds something else than text", name)
	}
	if strings.IndexByte(raw, '&') < 0 {
		return clean(raw)
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(raw, "&")
		out.WriteString(before)
		if !found {
			return clean(out.String())
		}
		ref, after, ok := strings.Cut(rest, ";")
		if !ok {
			return "", bad("an entity does not end")
		}
		c, err := entity(ref)
		if err != nil {
			return "", err
		}
		out.WriteRune(c)
		raw = after
	}
}

// clean refuses what XML 1.0 does not know as characters. A carriage return stays
// one, and is written as an entity: as it is, some would read a line end.
func clean(s string) (string, error) {
	if i := strings.IndexFunc(s, func(c rune) bool {
		return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xfffe || c == 0xffff
	}); i >= 0 {
		return "", bad("a control character")
	}
	return s, nil
}

func entity(ref string) (rune, error) {
	switch ref {
	case "lt":
		return '<', nil
	case "gt":
		return '>', nil
	case "amp":
		return '&', nil
	case "quot":
		return '"', nil
	case "apos":
		return '\'', nil
	}
	digits, base := strings.TrimPrefix(ref, "#"), 10
	if strings.HasPrefix(digits, "x") {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if !strings.HasPrefix(ref, "#") || err != nil || n == 0 || !utf8.ValidRune(rune(n)) || n > utf8.MaxRune {
		return 0, bad("entity %.20q", ref)
	}
	return rune(n), nil
}

// open reads the next opening tag: its name, and whether it is empty (<x/>). At a
// closing tag the name is "".
func (r *reader) open() (name string, empty bool, err error) {
	if err := r.space(); err != nil {
		return "", false, err
	}
	if strings.HasPrefix(r.b[r.pos:], "</") {
		return "", false, nil
	}
	if !r.take("<") {
		return "", false, bad("text between elements")
	}
	end := min(len(r.b), r.pos+16)
	i := strings.IndexByte(r.b[r.pos:end], '>')
	if i < 0 {
		return "", false, bad("an element that is not one of property lists")
	}
	name, empty = strings.CutSuffix(r.b[r.pos:r.pos+i], "/")
	r.pos += i + 1
	return strings.TrimRight(name, " "), empty, nil
}

func (r *reader) value(depth int) (Value, error) {
	name, empty, err := r.open()
	if err != nil {
		return nil, err
	}
	return r.element(name, empty, depth)
}

func (r *reader) element(name string, empty bool, depth int) (Value, error) {
	if r.nodes++; r.nodes > MaxNodes || depth > MaxDepth {
		return nil, bad("more than %d values, or %d levels", MaxNodes, MaxDepth)
	}
	switch name {
	case "true", "false":
		if !empty && !r.take("</"+name+">") {
			return nil, bad("<%s> holds something", name)
		}
		return name == "true", nil
	case "array":
		return r.array(empty, depth)
	case "dict":
		return r.dict(empty, depth)
	case "string", "integer", "real", "date", "data":
		var text string
		if !empty {
			var err error
			if text, err = r.text(name); err != nil {
				return nil, err
			}
		}
		return scalar(name, text)
	}
	return nil, bad("<%.20s>: want a value", name)
}

func scalar(name, text string) (Value, error) {
	switch name {
	case "string":
		return text, nil
	case "data":
		b, err := base64.StdEncoding.Strict().DecodeString(strings.Map(func(c rune) rune {
			if strings.ContainsRune(" \t\r\n", c) {
				return -1
			}
			return c
		}, text))
		if err != nil {
			return nil, bad("<data> is not base64")
		}
		return Data(b), nil
	case "integer":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != text {
			return nil, bad("<integer> %.30q", text)
		}
		return n, nil
	case "date":
		if len(text) == 0 || strings.Trim(text, "0123456789-:TZ") != "" {
			return nil, bad("<date> %.30q", text)
		}
		return Date(text), nil
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil || strings.ContainsAny(text, "xX_") {
		return nil, bad("<real> %.30q", text)
	}
	return Real(text), nil
}

func (r *reader) array(empty bool, depth int) (Value, error) {
	out := Array{}
	if empty {
		return out, nil
	}
	for {
		name, e, err := r.open()
		if err != nil {
			return nil, err
		}
		if name == "" {
			if !r.take("</array>") {
				return nil, bad("<array> does not end")
			}
			return out, nil
		}
		v, err := r.element(name, e, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

func (r *reader) dict(empty bool, depth int) (Value, error) {
	out := Dict{}
	if empty {
		return out, nil
	}
	for {
		name, e, err := r.open()
		if err != nil {
			return nil, err
		}
		switch name {
		case "":
			if !r.take("</dict>") {
				return nil, bad("<dict> does not end")
			}
			return out, out.unique()
		case "key":
		default:
			return nil, bad("<%.20s>: want <key>", name)
		}
		key := ""
		if !e {
			if key, err = r.text("key"); err != nil {
				return nil, err
			}
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, Pair{key, v})
	}
}

const prolog = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
`

// EncodeXML writes v as Apple's own writer does: tabs, one element a line, keys in
// order of their bytes.
func EncodeXML(v Value) []byte {
	b := []byte(prolog)
	b = appendXML(b, v, "")
	return append(b, "</plist>\n"...)
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;")

func appendXML(b []byte, v Value, indent string) []byte {
	line := func(s string) { b = append(append(append(b, indent...), s...), '\n') }
	element := func(name, text string) { line("<" + name + ">" + escaper.Replace(text) + "</" + name + ">") }
	switch v := v.(type) {
	case string:
		element("string", v)
	case bool:
		line("<" + strconv.FormatBool(v) + "/>")
	case int64:
		element("integer", strconv.FormatInt(v, 10))
	case Real:
		element("real", string(v))
	case Date:
		element("date", string(v))
	case Data:
		line("<data>")
		for text := base64.StdEncoding.EncodeToString(v); text != ""; {
			n := min(len(text), 68)
			line(text[:n])
			text = text[n:]
		}
		line("</data>")
	case Array:
		if len(v) == 0 {
			line("<array/>")
			break
		}
		line("<array>")
		for _, e := range v {
			b = appendXML(b, e, indent+"\t")
		}
		line("</array>")
	case Dict:
		if len(v) == 0 {
			line("<dict/>")
			break
		}
		line("<dict>")
		for _, p := range slices.SortedFunc(slices.Values(v), func(x, y Pair) int { return strings.Compare(x.Key, y.Key) }) {
			b = append(append(b, indent...), "\t<key>"+escaper.Replace(p.Key)+"</key>\n"...)
			b = appendXML(b, p.Value, indent+"\t")
		}
		line("</dict>")
	default:
		panic(fmt.Sprintf("plist: %T is no value", v))
	}
	return b
}
