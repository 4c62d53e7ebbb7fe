package cms

import (
	"bytes"
	"crypto"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse holds invariant 2, whatever is accepted re-encodes to itself, and that
// looking at and editing what was accepted neither panics nor breaks it.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/golden/*-*.der")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds in testdata/golden: run go test -update")
	}
	for _, name := range append(files, "testdata/windows-shim.der") {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		one, _, err := Split(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(one)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		d, err := Parse(der)
		if err != nil {
			return
		}
		again, err := d.structure.encode()
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("re-encodes to other bytes: %x\n%x\n%v", again, der, err)
		}
		for i, s := range d.Signers {
			if c := s.Certificate(); c != nil {
				_ = s.Verify(c, d.ContentDigest)
				_ = s.VerifyContent(c, []byte("x"))
			}
			more, err := AddUnsigned(der, i, NewAttribute(OIDTimeStampToken, []byte{5, 0}))
			if err != nil {
				continue // a limit is reached
			}
			e, err := Parse(more)
			if err != nil || !bytes.Equal(e.Signers[i].RawSignedAttrs, s.RawSignedAttrs) || !bytes.Equal(e.Signers[i].Signature, s.Signature) {
				t.Fatalf("edit broke it: %v", err)
			}
		}
		_, _ = d.ContentDigest(crypto.SHA256)
	})
}
