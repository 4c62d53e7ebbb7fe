package jarsig

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"slices"
)

// Entry is a section to be written: of an entry with its digest, or, with no
// digest, of a name alone.
type Entry struct {
	Name       string      `cbor:"1,keyasint"`
	Digest     []byte      `cbor:"2,keyasint"` // of the content; empty for none
	Attributes []Attribute `cbor:"3,keyasint"` // others, in their order
}

// Grow writes the sections of entries after a manifest, which must be whole: its
// last section must end in an empty line.
func Grow(manifest []byte, h crypto.Hash, entries []Entry) ([]byte, error) {
	size := len(manifest)
	for _, e := range entries {
		size += len(e.Name) + 2*h.Size() + 64
	}
	out := append(make([]byte, 0, size), manifest...)
	for _, e := range entries {
		if e.Name == "" || CheckValue(e.Name) != nil {
			return nil, syntax("name %.80q", e.Name)
		}
		if len(e.Digest) != 0 && len(e.Digest) != h.Size() {
			return nil, fmt.Errorf("%w: of %.80q: %d bytes", ErrDigest, e.Name, len(e.Digest))
		}
		out = Append(out, "Name", e.Name)
		for _, a := range e.Attributes {
			if !headerName([]byte(a.Name)) || CheckValue(a.Value) != nil {
				return nil, syntax("attribute %.80q of %.80q", a.Name, e.Name)
			}
			out = Append(out, a.Name, a.Value)
		}
		if len(e.Digest) > 0 {
			out = Append(out, DigestName(h), base64.StdEncoding.EncodeToString(e.Digest))
		}
		out = append(out, "\r\n"...)
	}
	return out, nil
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

// SignatureFile writes the signature file over a manifest, with digests of the
// whole, of the main section and of each section under h, and further attributes of
// its own main section.
func SignatureFile(m *File, h crypto.Hash, attributes ...Attribute) ([]byte, error) {
	if m.Loose {
		return nil, syntax("the manifest's sections have no clear borders")
	}
	b64 := func(b []byte) string { return base64.StdEncoding.EncodeToString(sum(h, b)) }
	out, err := Main(append([]Attribute{
		{"Signature-Version", "1.0"},
		{DigestName(h) + "-Manifest", b64(m.Raw)},
		{DigestName(h) + "-Manifest-Main-Attributes", b64(m.Main.Raw)},
	}, attributes...))
	if err != nil {
		return nil, err
	}
	out = slices.Grow(out, len(m.Raw)+len(m.Raw)/4)
	for i := range m.Sections {
		s := &m.Sections[i]
		out = Append(out, "Name", s.Name)
		out = Append(out, DigestName(h), b64(s.Raw))
		out = append(out, "\r\n"...)
	}
	return out, nil
}
