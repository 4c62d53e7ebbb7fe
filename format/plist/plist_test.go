package plist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func document(body string) []byte { return []byte(`<plist version="1.0">` + body + `</plist>`) }

func TestXML(t *testing.T) {
	text := prolog + `<!-- one --><dict><key>a&amp;b</key><string>x &lt; &#x79;</string><key>n</key><integer>-7</integer>
	<key>yes</key><true/><key>no</key><false/><key>d</key><data>aGVs
	bG8=</data><key>l</key><array><real>1.5</real><date>2026-01-02T03:04:05Z</date><dict/></array><key>e</key><string/></dict></plist>` + "\n"
	want := Dict{
		{"a&b", "x < y"}, {"n", int64(-7)}, {"yes", true}, {"no", false}, {"d", Data("hello")},
		{"l", Array{Real("1.5"), Date("2026-01-02T03:04:05Z"), Dict{}}}, {"e", ""},
	}
	got, err := Parse([]byte(text))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v, %v", got, err)
	}
	if _, err := ParseXML([]byte(text), false); !errors.Is(err, ErrSyntax) {
		t.Errorf("a comment where none is allowed: %v", err)
	}
}

// Invariant 2, and the documents on which parsers have disagreed.
func TestRefused(t *testing.T) {
	for name, text := range map[string]string{
		"psychic paper":          `<dict><!---><key>a</key><true/><!-- --></dict>`,
		"psychic paper, shorter": `<dict><!--><key>a</key><true/><!-- --></dict>`,
		"comment with hyphens":   `<dict><!-- a -- b --></dict>`,
		"key twice":              `<dict><key>a</key><true/><key>a</key><false/></dict>`,
		"key twice by entity":    `<dict><key>a</key><true/><key>&#97;</key><false/></dict>`,
		"key without a value":    `<dict><key>a</key></dict>`,
		"value without a key":    `<dict><true/></dict>`,
		"text between":           `<dict>x</dict>`,
		"CDATA":                  `<string><![CDATA[a]]></string>`,
		"attribute":              `<string a="b">a</string>`,
		"own entity":             `<string>&own;</string>`,
		"zero by entity":         `<string>&#0;</string>`,
		"processing instruction": `<dict><?x?></dict>`,
		"other element":          `<set/>`,
		"two values":             `<true/><true/>`,
		"not ended":              `<dict>`,
		"crossed":                `<dict><key>a</key><array></dict></array>`,
		"integer with a zero":    `<integer>007</integer>`,
		"integer too large":      `<integer>9223372036854775808</integer>`,
		"hexadecimal":            `<integer>0x7</integer>`,
		"base64":                 `<data>aGVsbG9=</data>`,
		"control character":      "<string>\x01</string>",
		"not UTF-8":              "<string>\xff</string>",
		"deep":                   strings.Repeat("<array>", 100) + strings.Repeat("</array>", 100),
		"something in true":      `<true>x</true>`,
	} {
		if v, err := Parse(document(text)); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	for name, text := range map[string]string{
		"own document type": `<!DOCTYPE plist [<!ENTITY a "b">]><plist version="1.0"><true/></plist>`,
		"other encoding":    `<?xml version="1.0" encoding="UTF-7"?><plist version="1.0"><true/></plist>`,
		"something after":   `<plist version="1.0"><true/></plist><plist/>`,
		"other version":     `<plist version="2.0"><true/></plist>`,
	} {
		if v, err := Parse([]byte(text)); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

// bplist makes a binary list of objects with offsets and references of one byte.
func bplist(top byte, objects ...string) []byte {
	b := []byte("bplist00")
	var offsets []byte
	for _, o := range objects {
		offsets = append(offsets, byte(len(b)))
		b = append(b, o...)
	}
	at := len(b)
	b = append(b, offsets...)
	b = append(b, 0, 0, 0, 0, 0, 0, 1, 1)
	for _, n := range []uint64{uint64(len(objects)), uint64(top), uint64(at)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func TestBinary(t *testing.T) {
	b := bplist(0, "\xd2\x01\x02\x03\x04", "\x51a", "\x61\x00\xe9", "\x11\x01\x00", "\xa3\x05\x06\x07", "\x09", "\x42hi", "\x5f\x10\x0fabcdefghijklmno")
	got, err := Parse(b)
	want := Dict{{"a", int64(256)}, {"é", Array{true, Data("hi"), "abcdefghijklmno"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v, %v", got, err)
	}
	for n := range b {
		if v, err := Parse(b[:n]); err == nil {
			t.Errorf("the first %d bytes are a list: %v", n, v)
		}
	}
	// Invariant 1: each level refers to the one below it many times.
	var bomb []string
	for i := range 20 {
		bomb = append(bomb, "\xae"+strings.Repeat(string(rune(i+1)), 14))
	}
	for name, b := range map[string][]byte{
		"bomb":            bplist(0, append(bomb, "\x09")...),
		"itself":          bplist(0, "\xa1\x00"),
		"key is no text":  bplist(0, "\xd1\x01\x01", "\x09"),
		"key twice":       bplist(0, "\xd2\x01\x01\x02\x02", "\x51a", "\x09"),
		"no such object":  bplist(0, "\xa1\x05"),
		"top outside":     bplist(7, "\x09"),
		"claims too much": bplist(0, "\x4f\x13\x7f\xff\xff\xff\xff\xff\xff\xff"),
		"lone surrogate":  bplist(0, "\x61\xd8\x00"),
		"not ASCII":       bplist(0, "\x51\xff"),
		"unknown kind":    bplist(0, "\x80\x00"),
	} {
		if v, err := Parse(b); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

// Whatever is accepted is read again from what is written of it.
// Invariant 2: what a binary list says in bits is no number of an XML list.
func TestBitsAreNotNumbers(t *testing.T) {
	for name, object := range map[string]string{
		"zero":   "\x23\x00\x00\x00\x00\x00\x00\x00\x00",
		"two":    "\x23\x40\x00\x00\x00\x00\x00\x00\x00", // in digits 4000000000000000
		"single": "\x22\x40\x00\x00\x00",
		"date":   "\x33\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		v, err := Parse(bplist(0, object))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again, err := Parse(EncodeXML(v)); err == nil {
			t.Errorf("%s is read from XML as %v", name, again)
		}
	}
	for text, ok := range map[string]bool{"1.5": true, "-2e3": true, "nan": true, "0x1p-2": false, "0x4000000000000000": false, "1_0": false, "": false} {
		if _, err := Parse(document("<real>" + text + "</real>")); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(bplist(0, "\xd1\x01\x02", "\x51a", "\x23\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(document(`<dict><key>a</key><array><string>b&amp;</string><data>aGVsbG8=</data><real>1.5</real></array></dict>`))
	f.Add(EncodeXML(Dict{{"a", Array{}}, {"b", Dict{}}, {"c", int64(1)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b)
		if err != nil || bytes.HasPrefix(b, []byte("bplist")) {
			return
		}
		text := EncodeXML(v)
		again, err := Parse(text)
		if err != nil || !bytes.Equal(EncodeXML(again), text) {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
