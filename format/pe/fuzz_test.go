package pe

import (
	"bytes"
	"context"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// seeds are the shapes of recipes, unsigned and signed.
func seeds(f *testing.F, signed bool) {
	f.Helper()
	p := newPKI(f)
	n := 0
	for name, r := range recipes() {
		if name == "two chunks" {
			continue // large seeds make a fuzzer slow
		}
		b := r.make()
		f.Add(b)
		n++
		if signed {
			f.Add(p.ids["p256"].seal(f, b, nil, func(v []byte) []byte { return p.token(f, v) }))
			n++
		}
	}
	if n < 10 {
		f.Fatalf("%d seeds", n)
	}
}

// What is accepted holds the relations that everything else relies on.
func FuzzParse(f *testing.F) {
	seeds(f, true)
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := parseImage(file(b))
		if err != nil {
			return
		}
		if im.end()+im.tableSize != int64(len(b)) || int64(len(im.head)) > im.end() || im.directoryAt+8 > int64(len(im.head)) ||
			im.checksumAt%4 != 0 || im.checksumAt >= im.directoryAt || !bytes.Equal(im.head, b[:len(im.head)]) {
			t.Errorf("inconsistent: %+v", im)
		}
		last := int64(len(im.head))
		for _, s := range im.spans() {
			if int64(s.Offset) < last || int64(s.Offset)+int64(s.Size) > im.end() {
				t.Errorf("section %+v", s)
			}
			last = int64(s.Offset) + int64(s.Size)
		}
		im.versionFacts(file(b))
	})
}

// What can be planned can be signed, and verifies then, its signatures before it
// apart.
func FuzzPlan(f *testing.F) {
	seeds(f, false)
	p := newPKI(f)
	id := p.ids["p256"]
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, pages := range []string{"false", "true"} {
			params := format.Params{"page-hashes": pages, "existing": "replace"}
			pl, err := Format{}.Plan(context.Background(), file(b), params)
			if err != nil {
				continue
			}
			enc, err := pl.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if again, err := plan(t, b, params).Encode(); err != nil || !bytes.Equal(enc, again) {
				t.Fatalf("planned twice, two plans: %v", err)
			}
			tbs, err := Format{}.Assemble(pl, id.id, time.Time{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			patch, err := Format{}.Attach(context.Background(), file(b), pl, id.id, time.Time{}, []format.Signature{{Value: id.sign(t, tbs[0].Message)}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verify(apply(t, b, patch), p.trust()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Nobody without a key makes a file that verifies: what verifies has the signed
// part of a seed.
func FuzzVerify(f *testing.F) {
	seeds(f, true)
	// Each worker of a fuzzing run has an authority of its own; the frozen file's
	// is the same for all.
	frozen := readFile(f, filepath.Join("testdata", "signed.exe"), "nothing: the file belongs here")
	f.Add(frozen)
	root, err := x509.ParseCertificate(readFile(f, filepath.Join("testdata", "root.der"), "nothing: the file belongs here"))
	if err != nil {
		f.Fatal(err)
	}
	trust := newPKI(f).trust()
	trust.Roots, trust.TimestampRoots = trust.Roots.Clone(), trust.Roots.Clone()
	trust.Roots.AddCert(root)
	trust.TimestampRoots.AddCert(root)
	if _, err := verify(frozen, trust); err != nil {
		f.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range recipes() {
		for _, digest := range []string{"sha256", "sha384", "sha512"} {
			known[string(plan(f, r.make(), format.Params{"digest": digest}).Content)] = true
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := verify(b, trust); err == nil {
			for _, s := range r.Signatures {
				if !known[string(s.Content)] {
					t.Errorf("a new file verifies: %x", s.Content)
				}
			}
		}
		_, _ = Format{}.Inspect(context.Background(), file(b))
	})
}

// A table that is accepted is its entries and nothing else.
func FuzzTable(f *testing.F) {
	for _, der := range [][]byte{{0x30, 0}, {0x30, 3, 1, 1, 0}, bytes.Repeat([]byte{5, 0}, 20)} {
		f.Add(newEntry(der))
		f.Add(append(newEntry(der), newEntry(der)...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseTable(b)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = append(again, e.raw...)
			if e.understood() && !bytes.Equal(newEntry(e.der)[certHeaderSize:], e.raw[certHeaderSize:]) {
				t.Errorf("entry %x is not its signature", e.raw)
			}
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
		_, _ = signatures(entries, false)
	})
}

// A content that is accepted says one digest, and ours re-encode to themselves.
func FuzzIndirect(f *testing.F) {
	for _, d := range []indirectData{{5, make([]byte, 32), nil}, {6, make([]byte, 48), nil}, {7, make([]byte, 64), make([]byte, 72)}} {
		b, err := d.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseIndirect(b)
		if err != nil || authenticode.HashName(d.hash) == "sha1" {
			return
		}
		enc, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseIndirect(enc)
		if err != nil || again.hash != d.hash || !bytes.Equal(again.digest, d.digest) || !bytes.Equal(again.pages, d.pages) {
			t.Errorf("%x is not what it is re-encoded to: %v", b, err)
		}
	})
}

func FuzzVersionInfo(f *testing.F) {
	for _, r := range [][]string{nil, {"FileVersion", "1.2.3.4"}, {"CompanyName", "Süß", "ProductName", "x"}} {
		f.Add(versionResource(0, r...)[88:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		strs, err := parseVersionInfo(b)
		if err != nil {
			return
		}
		for k, v := range strs {
			if len(k) > 64+1 || len(v) > format.MaxText || authenticode.PlainText(v) != v {
				t.Errorf("%q = %q", k, v)
			}
		}
	})
}
