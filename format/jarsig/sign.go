package jarsig

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
)

// Entry is a section to be written: of an entry with its digest, or, with no
// digest, of a name alone.
type Entry struct {
	Name       string      `cbor:"1,keyasint"`
	Digest     []byte      `cbor:"2,keyasint"` // of the content; empty for none
	Attributes []Attribute `cbor:"3,keyasint"` // others, in their order
}

// Draft is a manifest that is not written yet: a beginning that stays, and sections
// that follow it. Manifest and signature file are written from it section by section,
// so that neither need be whole in memory; what is written is what [Parse] reads back
// as the same.
type Draft struct {
	Kept    *File // the beginning; its Main is the manifest's
	hash    crypto.Hash
	entries []Entry
}

// NewDraft checks what is to be written: kept must end in an empty line, and no name
// stand twice. Both slices are kept.
func NewDraft(kept []byte, h crypto.Hash, entries []Entry) (*Draft, error) {
	f, err := Parse(kept)
	if err != nil {
		return nil, err
	}
	if f.Loose || len(kept) == 0 {
		return nil, syntax("the manifest's sections have no clear borders")
	}
	d := &Draft{Kept: f, hash: h, entries: entries}
	names := make(map[string]struct{}, len(f.Sections)+len(entries))
	for i := range f.Sections {
		names[f.Sections[i].Name] = struct{}{}
	}
	size := len(kept)
	var b []byte
	for i := range entries {
		e := &entries[i]
		if e.Name == "" || CheckValue(e.Name) != nil {
			return nil, syntax("name %.80q", e.Name)
		}
		if len(e.Digest) != 0 && len(e.Digest) != h.Size() {
			return nil, fmt.Errorf("%w: of %.80q: %d bytes", ErrDigest, e.Name, len(e.Digest))
		}
		names[e.Name] = struct{}{}
		if len(names) != len(f.Sections)+i+1 {
			return nil, syntax("section %.80q stands twice", e.Name)
		}
		for _, a := range e.Attributes {
			if !headerName([]byte(a.Name)) || CheckValue(a.Value) != nil {
				return nil, syntax("attribute %.80q of %.80q", a.Name, e.Name)
			}
		}
		b = d.section(b[:0], e)
		if len(e.Attributes) > 0 { // which may stand twice, or be too many
			if _, n, closed, err := section(b); err != nil {
				return nil, err
			} else if n != len(b) || !closed {
				return nil, syntax("section %.80q", e.Name)
			}
		}
		if size += len(b); size > MaxSize {
			return nil, syntax("more than %d bytes", MaxSize)
		}
	}
	return d, nil
}

// Digested calls yield with the name of each section that has a digest which counts.
func (d *Draft) Digested(yield func(name string)) error {
	if err := d.Kept.Digested(yield); err != nil {
		return err
	}
	for i := range d.entries {
		e := &d.entries[i]
		found := len(e.Digest) > 0
		if len(e.Attributes) > 0 {
			s, _, _, err := section(d.section(nil, e))
			if err != nil {
				return err
			}
			s.Name = e.Name
			ds, err := s.Digests("")
			if err != nil {
				return err
			}
			found = len(ds) > 0
		}
		if found {
			yield(e.Name)
		}
	}
	return nil
}

// Digested calls yield with the name of each section that has a digest which counts.
func (f *File) Digested(yield func(name string)) error {
	for i := range f.Sections {
		ds, err := f.Sections[i].Digests("")
		if err != nil {
			return err
		}
		if len(ds) > 0 {
			yield(f.Sections[i].Name)
		}
	}
	return nil
}

// section adds the section of an entry to b.
func (d *Draft) section(b []byte, e *Entry) []byte {
	b = Append(b, "Name", e.Name)
	for _, a := range e.Attributes {
		b = Append(b, a.Name, a.Value)
	}
	if len(e.Digest) > 0 {
		b = appendDigest(b, DigestName(d.hash), e.Digest)
	}
	return append(b, "\r\n"...)
}

// appendDigest is [Append] of a digest.
func appendDigest(b []byte, name string, digest []byte) []byte {
	if len(name)+2+base64.StdEncoding.EncodedLen(len(digest)) > MaxLine {
		return Append(b, name, base64.StdEncoding.EncodeToString(digest))
	}
	b = append(append(b, name...), ": "...)
	return append(base64.StdEncoding.AppendEncode(b, digest), "\r\n"...)
}

// portion is how much text is handed over at a time, in bytes.
const portion = 8 << 10

// WriteManifest writes the manifest to w, which may not keep what it gets.
func (d *Draft) WriteManifest(w io.Writer) error {
	if _, err := w.Write(d.Kept.Raw); err != nil {
		return err
	}
	b := make([]byte, 0, 2*portion)
	for i := range d.entries {
		if b = d.section(b, &d.entries[i]); len(b) < portion && i+1 < len(d.entries) {
			continue
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		b = b[:0]
	}
	return nil
}

// Sum is the digest of the manifest.
func (d *Draft) Sum() ([]byte, error) {
	x := d.hash.New()
	err := d.WriteManifest(x)
	return x.Sum(nil), err
}

// WriteSignatureFile writes the signature file over the manifest to w, which may not
// keep what it gets: digests of the whole, which is given, of the main section and of
// each section, and further attributes of its own main section.
func (d *Draft) WriteSignatureFile(w io.Writer, whole []byte, attributes ...Attribute) error {
	if len(whole) != d.hash.Size() {
		return fmt.Errorf("%w: of the manifest: %d bytes", ErrDigest, len(whole))
	}
	out := &limited{w: w}
	main := sum(d.hash, d.Kept.Main.Raw)
	b, err := Main(append([]Attribute{
		{"Signature-Version", "1.0"},
		{DigestName(d.hash) + "-Manifest", base64.StdEncoding.EncodeToString(whole)},
		{DigestName(d.hash) + "-Manifest-Main-Attributes", base64.StdEncoding.EncodeToString(main)},
	}, attributes...))
	if err != nil {
		return err
	}
	x, name := d.hash.New(), DigestName(d.hash)
	var text, digest []byte
	one := func(section string, text []byte) error {
		digest = sumWith(x, digest[:0], text)
		b = appendDigest(Append(b, "Name", section), name, digest)
		b = append(b, "\r\n"...)
		if len(b) < portion {
			return nil
		}
		_, err := out.Write(b)
		b = b[:0]
		return err
	}
	for i := range d.Kept.Sections {
		s := &d.Kept.Sections[i]
		if err := one(s.Name, s.Raw); err != nil {
			return err
		}
	}
	for i := range d.entries {
		text = d.section(text[:0], &d.entries[i])
		if err := one(d.entries[i].Name, text); err != nil {
			return err
		}
	}
	_, err = out.Write(b)
	return err
}

func sumWith(x hash.Hash, to, b []byte) []byte {
	x.Reset()
	x.Write(b)
	return x.Sum(to)
}

// limited refuses texts that Parse would not read.
type limited struct {
	w    io.Writer
	size int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.size += len(b); l.size > MaxSize {
		return 0, syntax("signature file of more than %d bytes", MaxSize)
	}
	return l.w.Write(b)
}

// Main writes a main section.
func Main(attributes []Attribute) ([]byte, error) {
	var out []byte
	for _, a := range attributes {
		if !headerName([]byte(a.Name)) || CheckValue(a.Value) != nil {
			return nil, syntax("attribute %.80q", a.Name)
		}
		out = Append(out, a.Name, a.Value)
	}
	return append(out, "\r\n"...), nil
}
