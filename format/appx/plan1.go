package appx

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// body1 is the body of version 1, before block maps and catalogues were made.
type body1 struct {
	Parts     [][]byte `cbor:"1,keyasint"` // AXPC, AXCD, AXCT, AXBM, and AXCI where there is a catalogue
	Bundle    bool     `cbor:"2,keyasint"`
	Directory []byte   `cbor:"3,keyasint"`
	Existing  []byte   `cbor:"4,keyasint"`
}

// format1 has the options of version 1.
type format1 struct{ Format }

func (format1) Options() []format.Option { return authenticode.Options() }

// decode1 is decode of a plan of version 1. Its content is the digest of the whole row.
func (f Format) decode1(p *format.Plan, id format.Identity) (*decoded, error) {
	var b body1
	params, h, err := authenticode.ReadPlan(format1{f}, 1, p, &b)
	if err != nil {
		return nil, err
	}
	bad := func(f string, args ...any) (*decoded, error) {
		return nil, fmt.Errorf("%w: %s", authenticode.ErrPlan, fmt.Sprintf(f, args...))
	}
	if n := len(b.Parts); n != len(partNames) && n != len(partNames)-1 {
		return bad("%d digests", n)
	}
	for _, d := range b.Parts {
		if len(d) != h.Size() {
			return bad("a digest of %d bytes", len(d))
		}
	}
	switch {
	case !bytes.Equal(p.Content, sum(h, compose(b.Parts))):
		return bad("content is not the digest of the row")
	case len(b.Directory) != sha256.Size:
		return bad("digest of the directory has %d bytes", len(b.Directory))
	case len(b.Existing) != 0 && len(b.Existing) != sha256.Size:
		return bad("digest of the signature has %d bytes", len(b.Existing))
	}
	d := &decoded{body: body{Parts: b.Parts, Bundle: b.Bundle, Directory: b.Directory, Existing: b.Existing}, params: params, hash: h}
	var own []format.Fact
	if len(b.Parts) == len(partNames) {
		own = []format.Fact{{Name: factIntegrity, Value: integrityStays}}
	}
	return d, d.people(p, id, own)
}
