// Package jarsig is the text of JAR signatures ("JAR File Specification", sections
// JAR Manifest and Signed JAR File): the manifest with a digest of each entry, and
// signature files with digests of the manifest and its sections. Formats whose
// archives are signed that way build on it; it knows no archive and no signature.
//
// A file is a main section and further sections, each ending in an empty line:
//
//	Manifest-Version: 1.0
//
//	Name: com/example/Main.class
//	SHA-256-Digest: …
//
// Lines end in CR LF, LF or CR and have at most 72 bytes when we write them; a
// line that begins with a space goes on with the one before.
//
// Invariants:
//
//  1. [Parse] refuses what two readers could understand in two ways: a section or
//     an attribute that stands twice, characters that are none of a text, lines
//     that belong to nothing. What only moves the borders of sections is Loose.
//  2. [Append] and [Draft] write what Parse reads back as the same, and no line over
//     72 bytes.
//  3. Digests under MD5 and SHA-1 count for nothing; of the others, all that stand
//     there must be right.
//  4. All work is linear in the size of the text.
//
// A caller may not conclude from [File.Covered] that anybody signed: it compares
// texts with texts.
package jarsig

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384, crypto.SHA512
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize limits a manifest or a signature file, in bytes.
const MaxSize = 64 << 20

// MaxLine is the longest line that is written, in bytes without its end.
const MaxLine = 72

// What callers branch on.
var (
	ErrSyntax = errors.New("jarsig: malformed")
	// ErrDigest is wrapped when a text is not the one that a digest stands for.
	ErrDigest = errors.New("jarsig: digest differs")
	// ErrWeak is wrapped when there is no digest but weak or unknown ones.
	ErrWeak = errors.New("jarsig: no digest under SHA-256, SHA-384 or SHA-512")
)

// Attribute is one "Name: value".
type Attribute struct{ Name, Value string }

// Section is the main section, or the one of Name.
type Section struct {
	Name       string
	Raw        []byte // as it stands in the file, its empty line included
	Attributes []Attribute
}

// File is a manifest or a signature file.
type File struct {
	Raw      []byte
	Main     Section
	Sections []Section
	// Loose says that sections are separated by more than one empty line, or that
	// the last one has none: verifiers differ in what they digest then.
	Loose bool
}

func syntax(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(f, args...))
}

// Parse reads a manifest or a signature file. b is kept.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxSize {
		return nil, syntax("%d bytes: at most %d", len(b), MaxSize)
	}
	f := &File{Raw: b}
	// Room for all sections at once, as far as b can be one that names files.
	n := min(bytes.Count(b, []byte("\nName: ")), len(b)/64)
	f.Sections = slices.Grow(f.Sections, n)
	names := make(map[string]bool, n)
	rest := b
	for first := true; len(rest) > 0; first = false {
		for !first && len(rest) > 0 {
			line, n := cut(rest)
			if len(line) > 0 {
				break
			}
			f.Loose = true
			rest = rest[n:]
		}
		if len(rest) == 0 {
			break
		}
		s, n, closed, err := section(rest)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
		f.Loose = f.Loose || !closed
		if first {
			f.Main = s
			continue
		}
		if len(s.Attributes) == 0 || !strings.EqualFold(s.Attributes[0].Name, "Name") {
			return nil, syntax("a section does not begin with its name")
		}
		s.Name = s.Attributes[0].Value
		if s.Name == "" || names[s.Name] {
			return nil, syntax("section %.80q stands twice, or has no name", s.Name)
		}
		names[s.Name] = true
		f.Sections = append(f.Sections, s)
	}
	return f, nil
}

// cut returns the first line without its end, and its length with it.
func cut(b []byte) (line []byte, n int) {
	i := bytes.IndexAny(b, "\r\n")
	switch {
	case i < 0:
		return b, len(b)
	case b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n':
		return b[:i], i + 2
	}
	return b[:i], i + 1
}

// section reads up to an empty line, or the end; closed says which.
func section(b []byte) (s Section, n int, closed bool, err error) {
	var name, value []byte
	own := false // value is no part of b any more
	finish := func() error {
		if name == nil {
			return nil
		}
		if err := CheckValue(string(value)); err != nil { // whole: a character may stand in two lines
			return err
		}
		for _, a := range s.Attributes {
			if strings.EqualFold(a.Name, string(name)) {
				return syntax("attribute %s stands twice in a section", name)
			}
		}
		if len(s.Attributes) >= 256 {
			return syntax("more than 256 attributes in a section")
		}
		if s.Attributes == nil {
			s.Attributes = make([]Attribute, 0, 2) // a name and a digest
		}
		s.Attributes = append(s.Attributes, Attribute{attributeName(name), string(value)})
		return nil
	}
	for n < len(b) && !closed {
		line, k := cut(b[n:])
		n += k
		switch {
		case len(line) == 0:
			closed = true
		case line[0] == ' ':
			if name == nil {
				return s, 0, false, syntax("a section begins with a line that goes on")
			}
			if !own {
				value, own = bytes.Clone(value), true
			}
			value = append(value, line[1:]...)
		default:
			if err := finish(); err != nil {
				return s, 0, false, err
			}
			var ok bool
			own = false
			name, value, ok = bytes.Cut(line, []byte(": "))
			if !ok {
				// An empty value may have lost its space to an editor.
				name, ok = bytes.CutSuffix(line, []byte(":"))
				value = nil
			}
			if !ok || !headerName(name) {
				return s, 0, false, syntax("line %.80q is no attribute", line)
			}
		}
	}
	s.Raw = b[:n:n]
	return s, n, closed, finish()
}

// attributeName is b as a string, which the attributes of most sections share.
func attributeName(b []byte) string {
	switch string(b) {
	case "Name":
		return "Name"
	case "SHA-256-Digest":
		return "SHA-256-Digest"
	}
	return string(b)
}

// headerName holds a name to the specification: letters, digits, "-", "_", at most
// 70, the first no sign.
func headerName(b []byte) bool {
	if len(b) == 0 || len(b) > 70 || b[0] == '-' || b[0] == '_' {
		return false
	}
	for _, c := range b {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// Get returns an attribute; names are compared without regard to case.
func (s *Section) Get(name string) (string, bool) {
	for _, a := range s.Attributes {
		if strings.EqualFold(a.Name, name) {
			return a.Value, true
		}
	}
	return "", false
}

// Append writes one attribute, in lines of at most [MaxLine] bytes. A character may
// stand in two lines: it is bytes that are counted.
func Append(b []byte, name, value string) []byte {
	if len(name)+2+len(value) <= MaxLine {
		b = append(append(b, name...), ": "...)
		return append(append(b, value...), "\r\n"...)
	}
	line := name + ": " + value
	for n := MaxLine; len(line) > n; n = MaxLine - 1 {
		b = append(b, line[:n]...)
		b = append(b, "\r\n "...)
		line = line[n:]
	}
	b = append(b, line...)
	return append(b, "\r\n"...)
}

// CheckValue refuses values that Append could not write or Parse not read back.
func CheckValue(v string) error {
	if !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
		return syntax("value %.80q", v)
	}
	return nil
}

// DigestName is the attribute for digests under h: "SHA-256-Digest".
func DigestName(h crypto.Hash) string {
	switch h {
	case crypto.SHA256:
		return "SHA-256-Digest"
	case crypto.SHA384:
		return "SHA-384-Digest"
	case crypto.SHA512:
		return "SHA-512-Digest"
	}
	return ""
}

// Digest is what an attribute says of a text or an entry.
type Digest struct {
	Hash  crypto.Hash
	Value []byte
}

// IsDigest says whether an attribute is a digest, weak and unknown ones included.
func IsDigest(name string) bool {
	return strings.Contains(strings.ToUpper(name), "-DIGEST")
}

// Digests returns the digests of a section that count, with suffix after the
// name: "" for an entry or a section, "-Manifest", "-Manifest-Main-Attributes".
// A digest of the wrong length is an error, none at all is not.
func (s *Section) Digests(suffix string) ([]Digest, error) {
	var out []Digest
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		v, ok := s.Get(DigestName(h) + suffix)
		if !ok {
			// Some signers leave the first hyphen out.
			v, ok = s.Get(strings.Replace(DigestName(h), "-", "", 1) + suffix)
		}
		if !ok {
			continue
		}
		d, err := base64.StdEncoding.Strict().DecodeString(v)
		if err != nil || len(d) != h.Size() {
			return nil, syntax("%s%s of %.80q", DigestName(h), suffix, s.Name)
		}
		out = append(out, Digest{h, d})
	}
	return out, nil
}

// matches compares a text with the digests of it; ErrWeak where there are none.
func matches(text []byte, ds []Digest, what string) error {
	if len(ds) == 0 {
		return fmt.Errorf("%w: %s", ErrWeak, what)
	}
	for _, d := range ds {
		if !bytes.Equal(sum(d.Hash, text), d.Value) {
			return fmt.Errorf("%w: %s", ErrDigest, what)
		}
	}
	return nil
}

func sum(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}
