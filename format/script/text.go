package script

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
)

func sum(b []byte) []byte { d := sha256.Sum256(b); return d[:] }

// encoding is one of a text's; unit is the number of bytes of an ASCII character.
type encoding struct {
	name string
	mark []byte // byte order mark
	unit int
	big  bool
}

// The first of those whose mark a file has; the last has none.
var encodings = [...]encoding{
	{"utf-8 with byte order mark", []byte{0xef, 0xbb, 0xbf}, 1, false},
	{"utf-16le", []byte{0xff, 0xfe}, 2, false},
	{"utf-16be", []byte{0xfe, 0xff}, 2, true},
	{"utf-8", nil, 1, false},
}

func knownEncoding(name string) bool {
	return slices.ContainsFunc(encodings[:], func(e encoding) bool { return e.name == name })
}

// bytes encodes ASCII.
func (e *encoding) bytes(ascii string) []byte {
	if e.unit == 1 {
		return []byte(ascii)
	}
	out := make([]byte, 0, 2*len(ascii))
	for _, c := range []byte(ascii) {
		if e.big {
			out = append(out, 0, c)
		} else {
			out = append(out, c, 0)
		}
	}
	return out
}

// words is a text in UTF-16LE.
func (e *encoding) words(b []byte) []byte {
	if e.unit == 2 {
		out := bytes.Clone(b)
		if e.big {
			for i := 0; i+1 < len(out); i += 2 {
				out[i], out[i+1] = out[i+1], out[i]
			}
		}
		return out
	}
	out := make([]byte, 2*len(b)) // enough: no rune takes more words than bytes
	n := 0
	for n < len(b) && b[n] < utf8.RuneSelf { // all of most scripts
		out[2*n] = b[n]
		n++
	}
	out, b = out[:2*n], b[n:]
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		b = b[n:]
		if r > 0xffff {
			hi, lo := utf16.EncodeRune(r)
			out = append(out, byte(hi), byte(hi>>8), byte(lo), byte(lo>>8))
			continue
		}
		out = append(out, byte(r), byte(r>>8))
	}
	return out
}

// encodingOf goes by the byte order mark.
func encodingOf(b []byte) *encoding {
	for i := range encodings {
		if bytes.HasPrefix(b, encodings[i].mark) {
			return &encodings[i]
		}
	}
	return &encodings[len(encodings)-1]
}

// text is a file in memory.
type text struct {
	raw      []byte
	size     int64
	encoding *encoding
}

func readText(a format.Artifact) (*text, error) {
	if a.Size() > maxSize {
		return nil, fmt.Errorf("script: %d bytes: at most %d", a.Size(), maxSize)
	}
	t := &text{raw: make([]byte, a.Size()), size: a.Size()}
	if err := format.ReadFull(a, t.raw, 0); err != nil {
		return nil, fmt.Errorf("script: %w", err)
	}
	t.encoding = encodingOf(t.raw)
	switch {
	case t.encoding.unit == 2 && len(t.raw)%2 != 0:
		return nil, fmt.Errorf("%w: UTF-16 of an odd number of bytes", ErrEncoding)
	case t.encoding.unit == 1 && !utf8.Valid(t.raw):
		return nil, fmt.Errorf("%w: neither UTF-8 nor UTF-16 with a byte order mark", ErrEncoding)
	// FF FE 00 00 is UTF-32's mark to some.
	case t.encoding.unit == 1 && bytes.IndexByte(t.raw, 0) >= 0, t.encoding.unit == 2 && slices.Contains(wordsOf(t.raw), 0):
		return nil, fmt.Errorf("%w: a text with zeros in it", ErrEncoding)
	}
	return t, nil
}

// checkEncoding refuses text that Windows reads in the code page of the computer.
func (t *text) checkEncoding(k *kind) error {
	if len(t.encoding.mark) == 0 && !k.guess && slices.ContainsFunc(t.raw, func(c byte) bool { return c >= 0x80 }) {
		return fmt.Errorf("%w: in .%s other characters than ASCII need a byte order mark", ErrEncoding, k.name)
	}
	return nil
}

// all gives the offsets of an ASCII text, at whole characters.
func (t *text) all(ascii string) (out []int) {
	want := t.encoding.bytes(ascii)
	for at := 0; ; at++ {
		i := bytes.Index(t.raw[at:], want)
		if i < 0 {
			return out
		}
		if at += i; at%t.encoding.unit == 0 {
			out = append(out, at)
		}
	}
}

// last is the offset of the last such text, or the end.
func (t *text) last(ascii string) int {
	if at := t.all(ascii); len(at) > 0 {
		return at[len(at)-1]
	}
	return len(t.raw)
}

// blockKind is the kind whose block the text has: the line that begins one.
func (t *text) blockKind() *kind {
	for i := range kinds {
		k := &kinds[i]
		if len(t.all("\n"+k.first()+"\r")) > 0 || len(t.all("\n"+k.first()+"\n")) > 0 {
			if k.name == "wsf" && len(t.all(k.open)) == 0 {
				continue // an element of that name is no block
			}
			return k
		}
	}
	return nil
}

// beginning is the kind that a text's beginning gives away: the interpreter's name,
// or the first element of an XML document.
func (t *text) beginning() *kind {
	const enough = 4096
	rest := t.raw[len(t.encoding.mark):]
	rest = rest[:min(len(rest), enough)]
	head := string(utf16.Decode(wordsOf(t.encoding.words(rest[:len(rest)-len(rest)%t.encoding.unit]))))
	line, _, _ := strings.Cut(head, "\n")
	if strings.HasPrefix(line, "#!") && (strings.Contains(line, "pwsh") || strings.Contains(line, "powershell")) {
		return byName("ps1")
	}
	for {
		head = strings.TrimLeft(head, " \t\r\n")
		var ok bool
		switch {
		case strings.HasPrefix(head, "<?"):
			_, head, ok = strings.Cut(head, "?>")
		case strings.HasPrefix(head, "<!--"):
			_, head, ok = strings.Cut(head, "-->")
		}
		if !ok {
			break
		}
	}
	for prefix, name := range map[string]string{"<job": "wsf", "<package": "wsf", "<PowerShellMetadata": "xml", "<PSConsoleFile": "xml"} {
		if rest, ok := strings.CutPrefix(head, prefix); ok && rest != "" && strings.ContainsRune(" \t\r\n>", rune(rest[0])) {
			return byName(name)
		}
	}
	return nil
}

func wordsOf(b []byte) []uint16 {
	out := make([]uint16, len(b)/2)
	for i := range out {
		out[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
	}
	return out
}

// block is a signature in a text: bytes from (its first line's CRLF before it) to to.
type block struct {
	from, to int
	der      []byte
}

const (
	lineLength = 64  // characters of base64 in a line of ours
	maxLine    = 128 // in one of others
	maxBlock   = 12 << 20
)

// encode is the text of a block: CRLF, the first line, base64, the last line, CRLF.
func (k *kind) encode(der []byte) string {
	var b strings.Builder
	b.WriteString("\r\n" + k.first() + "\r\n")
	for s := base64.StdEncoding.EncodeToString(der); s != ""; {
		n := min(len(s), lineLength)
		b.WriteString(k.open + s[:n] + k.close + "\r\n")
		s = s[n:]
	}
	b.WriteString(k.last() + "\r\n")
	return b.String()
}

// findBlock reads the block strictly: one in a text, its lines ended by CRLF, nothing
// after it; in .wsf the end of a job has to be next.
func (t *text) findBlock(k *kind) (*block, error) {
	bad := func(f string, args ...any) (*block, error) {
		return nil, fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
	}
	e := t.encoding
	if k.name == "wsf" && len(t.all("</job>")) == 0 {
		return nil, fmt.Errorf("%w: no </job>", ErrType)
	}
	starts, ends := t.all(k.first()), t.all(k.last())
	if k.name == "wsf" && len(t.all(k.open)) == 0 {
		return nil, nil
	}
	if len(starts) == 0 && len(ends) == 0 {
		return nil, nil
	}
	crlf := e.bytes("\r\n")
	if len(starts) != 1 || len(ends) != 1 {
		return bad("%d beginnings and %d ends", len(starts), len(ends))
	}
	first := e.bytes("\r\n" + k.first() + "\r\n")
	last := e.bytes(k.last() + "\r\n")
	from, to := starts[0]-len(crlf), ends[0]+len(last)
	switch {
	case from < 0 || !bytes.HasPrefix(t.raw[max(from, 0):], first) || from < len(e.mark):
		return bad("the first line does not stand alone between CRLFs")
	case ends[0] < from+len(first) || !bytes.HasPrefix(t.raw[ends[0]:], last):
		return bad("the last line does not stand alone")
	case k.name != "wsf" && to != len(t.raw):
		return bad("%d bytes after it", len(t.raw)-to)
	case k.name == "wsf" && t.last("</job>") != to:
		return bad("it does not stand before the end of the last job")
	case ends[0]-from > maxBlock:
		return bad("%d bytes", ends[0]-from)
	}
	var b64 strings.Builder
	for rest := t.raw[from+len(first) : ends[0]]; len(rest) > 0; {
		n := bytes.Index(rest, crlf)
		if n < 0 || n%e.unit != 0 {
			return bad("a line does not end")
		}
		line := rest[:n]
		rest = rest[n+len(crlf):]
		if !bytes.HasPrefix(line, e.bytes(k.open)) || !bytes.HasSuffix(line, e.bytes(k.close)) || len(line) < len(e.bytes(k.open+k.close)) {
			return bad("a line is not a comment")
		}
		line = line[len(e.bytes(k.open)) : len(line)-len(e.bytes(k.close))]
		if len(line) == 0 || len(line) > maxLine*e.unit {
			return bad("a line of %d bytes", len(line))
		}
		ascii := make([]byte, 0, len(line))
		for i := 0; i < len(line); i += e.unit {
			c := line[i]
			if e.big {
				c = line[i+1]
			}
			ascii = append(ascii, c)
		}
		if !bytes.Equal(e.bytes(string(ascii)), line) {
			return bad("a line holds other characters than base64")
		}
		b64.Write(ascii)
	}
	if strings.ContainsAny(b64.String(), "\r\n") {
		return bad("a line holds other characters than base64")
	}
	der, err := base64.StdEncoding.Strict().DecodeString(b64.String())
	if err != nil {
		return bad("%v", err)
	}
	if one, rest, err := cms.Split(der); err != nil || len(rest) > 0 || len(one) == 0 {
		return bad("%d bytes are not one signature", len(der))
	}
	return &block{from: from, to: to, der: der}, nil
}

// looseBlock finds a block that is to be replaced, whatever is in it: editors and
// version control change line ends. Nothing but white space may follow it. Its bytes
// stand for the signature.
func (t *text) looseBlock(k *kind) *block {
	starts, ends := t.all(k.first()), t.all(k.last())
	if k.name == "wsf" || len(starts) != 1 || len(ends) != 1 || ends[0] < starts[0] {
		return nil
	}
	rest := t.raw[ends[0]+len(t.encoding.bytes(k.last())):]
	if len(bytes.Trim(rest, "\r\n\t \x00")) > 0 {
		return nil
	}
	from := t.raw[:starts[0]]
	for _, end := range []string{"\n", "\r"} {
		from = bytes.TrimSuffix(from, t.encoding.bytes(end))
	}
	return &block{from: len(from), to: len(t.raw), der: t.raw[len(from):]}
}
