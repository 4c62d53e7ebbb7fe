package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
)

func FuzzEntry(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := audit.DecodeEntry(data)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x became %x, %v", data, again, err)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	v, err := audit.NewVerifier(audittest.Origin, audittest.Key().Public().(ed25519.PublicKey))
	if err != nil {
		f.Fatal(err)
	}
	signer, err := audit.NewSigner(audittest.Origin, audittest.Key())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := audit.ParseCheckpoint(data, audittest.Origin, v)
		if err != nil {
			return
		}
		// Signing is deterministic: the text and our line are settled, and the
		// other lines are carried as they are.
		msg, err := audit.SignCheckpoint(audittest.Origin, h.Tree(), signer)
		if err != nil {
			t.Fatal(err)
		}
		text, line, _ := strings.Cut(string(msg), "\n\n")
		if !strings.HasPrefix(string(data), text+"\n\n") || strings.Count(string(data), line) != 1 || !bytes.Equal(h.Note(), data) {
			t.Fatalf("accepted %q", data)
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, w int) {
		entries, err := audit.ParseBundle(data, w)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			if again, err = audit.AppendBundle(again, e); err != nil {
				t.Fatal(err)
			}
		}
		if len(entries) != w || !bytes.Equal(again, data) {
			t.Fatalf("%x became %x", data, again)
		}
		half := (w + 1) / 2
		cut, err := audit.Narrow(audit.BundleTile(0, half), data)
		if err != nil {
			t.Fatal(err)
		}
		if first, err := audit.ParseBundle(cut, half); err != nil || !bytes.Equal(first[half-1], entries[half-1]) {
			t.Fatalf("half of %x is %x, %v", data, cut, err)
		}
	})
}

func FuzzPath(f *testing.F) {
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := audit.ParseTilePath(path)
		if err != nil {
			return
		}
		if got := audit.TilePath(tile); got != path {
			t.Fatalf("%q became %q", path, got)
		}
		if !filepath.IsLocal(path) || filepath.ToSlash(filepath.Clean(path)) != path {
			t.Fatalf("%q leaves its folder", path)
		}
	})
}

func FuzzInclusion(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := audit.ParseInclusion(data)
		if err != nil {
			return
		}
		if again, err := p.MarshalJSON(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%s became %s, %v", data, again, err)
		}
		h := audittest.Head(t, audit.Tree{Size: p.Size})
		if h.CheckInclusion(p, []byte{1}) == nil {
			t.Fatal("a proof of the zero root")
		}
	})
}

func FuzzConsistency(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := audit.ParseConsistency(data)
		if err != nil {
			return
		}
		if again, err := p.MarshalJSON(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%s became %s, %v", data, again, err)
		}
		if p.Old > 0 && p.Old < p.New {
			if audit.CheckConsistency(audit.Tree{Size: p.Old}, audit.Tree{Size: p.New, Root: [32]byte{1}}, p) == nil {
				t.Fatal("a proof of made-up roots")
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Fuzz(func(t *testing.T, vkey string) {
		if v, err := audit.ParseVerifierKey(vkey); err == nil && fmt.Sprint(v) != vkey {
			t.Fatalf("%q became %v", vkey, v)
		}
		if w, err := audit.ParseWitness(vkey); err == nil && w.String() != vkey {
			t.Fatalf("%q became %v", vkey, w)
		}
	})
}

// seeds are what the fuzz targets begin with, under testdata/fuzz.
func seeds(t *testing.T) map[string][]string {
	t.Helper()
	b := func(data []byte) string { return fmt.Sprintf("[]byte(%q)\n", data) }
	s := func(data string) string { return fmt.Sprintf("string(%q)\n", data) }
	out := make(map[string][]string)
	add := func(target string, lines ...string) { out[target] = append(out[target], lines...) }

	entries := audittest.Entries(t, 0, 7)
	for _, e := range entries {
		add("FuzzEntry", b(e))
	}
	detached, err := audit.NewEntry(audit.KindCharter, time.UnixMilli(1), [32]byte{1}, make([]byte, audit.MaxInline+1)).Encode()
	if err != nil {
		t.Fatal(err)
	}
	add("FuzzEntry", b(detached), b(nil))

	m, head := newLog(t, 300)
	w, err := audit.NewWitness("witness.example/w", pub(audittest.KeyOf(5)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := audit.NewCosigner(w.Name(), audittest.KeyOf(5), time.Unix(1_790_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	cosigned, err := head.Cosign(c)
	if err != nil {
		t.Fatal(err)
	}
	add("FuzzCheckpoint", b(head.Note()), b(cosigned), b(audittest.Sign(t, audit.EmptyTree())))

	var bundle []byte
	for i, e := range entries[:3] {
		if bundle, err = audit.AppendBundle(bundle, e); err != nil {
			t.Fatal(err)
		}
		add("FuzzBundle", b(bundle)+fmt.Sprintf("int(%d)\n", i+1))
	}
	add("FuzzPath", s("tile/0/000"), s("tile/entries/x001/067.p/8"), s("tile/5/000.p/255"), s("checkpoint"))
	for _, i := range []int64{0, 255, 299} {
		p, err := audit.ProveInclusion(t.Context(), m, 300, i)
		if err != nil {
			t.Fatal(err)
		}
		data, err := p.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		add("FuzzInclusion", b(data))
		q, err := audit.ProveConsistency(t.Context(), m, i, 300)
		if err != nil {
			t.Fatal(err)
		}
		if data, err = q.MarshalJSON(); err != nil {
			t.Fatal(err)
		}
		add("FuzzConsistency", b(data))
	}
	vkey, err := audit.VerifierKey(audittest.Origin, pub(audittest.Key()))
	if err != nil {
		t.Fatal(err)
	}
	add("FuzzKey", s(vkey), s(w.String()), s("a+00000000+AA=="))
	return out
}

// Each target has its seeds, and nobody moved them.
func TestCorpus(t *testing.T) {
	for target, list := range seeds(t) {
		dir := filepath.Join("testdata", "fuzz", target)
		for i, body := range list {
			name := filepath.Join(dir, fmt.Sprintf("seed-%02d", i))
			want := "go test fuzz v1\n" + body
			if *update {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(name)
			if err != nil || string(got) != want {
				t.Errorf("%s is not the seed (go test -run TestCorpus -update): %v", name, err)
			}
		}
		if len(list) < 3 {
			t.Errorf("%s has %d seeds", target, len(list))
		}
	}
	source, err := os.ReadFile("fuzz_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), "\nfunc Fuzz"); n != len(seeds(t)) {
		t.Errorf("%d fuzz targets, seeds for %d", n, len(seeds(t)))
	}
}
