package pgpsig

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func defaults(change map[string]string) func(string) string {
	return func(n string) string {
		if v, ok := change[n]; ok {
			return v
		}
		for _, o := range Options() {
			if o.Name == n {
				return o.Default
			}
		}
		return ""
	}
}

func TestReadParams(t *testing.T) {
	p, err := ReadParams(defaults(nil))
	if err != nil || p.Hash != crypto.SHA256 || p.Version != 4 || !p.Created.Equal(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, c := range []map[string]string{
		{"digest": "sha1"}, {"digest": "blake2b-512x"}, {"key-version": "3"}, {"key-version": "04"}, {"key-created": ""}, {"key-created": "2020-01-01"},
		{"key-created": "2020-01-01T00:00:00.5Z"}, {"key-created": "2020-01-01T00:00:00+00:00"}, {"key-created": "1900-01-01T00:00:00Z"},
	} {
		if p, err := ReadParams(defaults(c)); err == nil {
			t.Errorf("%v: %+v", c, p)
		}
	}
}

// Invariant 1: a state is continued only if it finishes to the content.
func TestFinish(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	id := format.Identity{Scheme: sigalg.PureEd25519, Public: pub}
	for _, version := range []string{"4", "6"} {
		p, err := ReadParams(defaults(map[string]string{"key-version": version}))
		if err != nil {
			t.Fatal(err)
		}
		x := p.Begin()
		x.Write([]byte("content"))
		st, err := openpgp.StateOf(p.Hash, x)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := p.Spec(openpgp.Binary, id, at)
		if err != nil {
			t.Fatal(err)
		}
		made, err := Finish(spec, st, x.Sum(nil), id)
		if err != nil {
			t.Fatal(err)
		}
		body, err := made.Body([]format.Signature{{Value: ed25519.Sign(key, made.TBS.Message)}})
		if err != nil {
			t.Fatal(err)
		}
		sig, err := openpgp.ParseSignature(body)
		if err != nil {
			t.Fatal(err)
		}
		h := NewHashes([]*openpgp.Signature{sig, sig})
		h.Write([]byte("content"))
		if infos, err := h.Judge(format.Trust{Keys: []crypto.PublicKey{nil, pub}, Now: at}, openpgp.Binary); err != nil || len(infos) != 2 || !bytes.Equal(infos[1].Content, x.Sum(nil)) {
			t.Errorf("%+v, %v", infos, err)
		}
		if _, err := h.Judge(format.Trust{Keys: []crypto.PublicKey{pub}, Now: at}, openpgp.Text); err == nil {
			t.Error("a signature of another type")
		}
		other := x.Sum(nil)
		other[0] ^= 1
		if _, err := Finish(spec, st, other, id); err == nil {
			t.Error("a state of another content")
		}
		if _, err := made.Body(nil); err == nil {
			t.Error("no signature")
		}
		if _, err := made.Body([]format.Signature{{Value: make([]byte, 64)}}); err == nil {
			t.Error("a signature that does not verify")
		}
	}
	// A state too short for the salt is none of version 6.
	p, err := ReadParams(defaults(map[string]string{"key-version": "6"}))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := p.Spec(openpgp.Binary, id, at)
	if err != nil {
		t.Fatal(err)
	}
	empty := p.Hash.New()
	st, err := openpgp.StateOf(p.Hash, empty)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Finish(spec, st, empty.Sum(nil), id); err == nil {
		t.Error("a state without the salt")
	}
}

func TestSaltsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		s := Salt(h)
		if len(s) != openpgp.SaltSize(h) || seen[string(s[:8])] || !bytes.Equal(s, Salt(h)) {
			t.Errorf("%v: %x", h, s)
		}
		seen[string(s[:8])] = true
	}
}

func TestLines(t *testing.T) {
	for name, l := range map[string]Lines{
		"beyond the end": {Dashes: []int64{10}}, "negative": {Dashes: []int64{-1}}, "out of order": {Dashes: []int64{5, 3}}, "twice": {Dashes: []int64{5, 5}},
		"too many": {Dashes: make([]int64, maxDashes+1)},
	} {
		if l.Check(10) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if (&Lines{}).Check(0) == nil {
		t.Error("no text")
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{"a\n- -b\n- c\n": "a\n-b\nc\n", "- \n": "\n", "a-b - c\n": "a-b - c\n", "-b\n": "!", "a\n-\n": "!", "--\n": "!"} {
		for size := 1; size <= len(in); size++ {
			var out bytes.Buffer
			u := &unescape{w: &out, bol: true}
			var err error
			for rest := in; rest != "" && err == nil; rest = rest[min(size, len(rest)):] {
				_, err = io.WriteString(u, rest[:min(size, len(rest))])
			}
			if want == "!" && err == nil || want != "!" && (err != nil || out.String() != want) {
				t.Errorf("%q in pieces of %d: %q, %v: want %q", in, size, out.String(), err, want)
			}
		}
	}
}

// What is framed comes out as it went in.
func FuzzCleartext(f *testing.F) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	id := format.Identity{Scheme: sigalg.PureEd25519, Public: pub}
	p, err := ReadParams(defaults(nil))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"a\n", "-\n", "- -\r\n--", "\n\n", "x", "-----BEGIN PGP SIGNATURE-----\n\n", "From a\n-"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := format.BytesArtifact("f", b)
		x := p.Begin()
		lines, err := PlanText(t.Context(), a, x)
		if err != nil {
			return
		}
		st, err := openpgp.StateOf(p.Hash, x)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := p.Spec(openpgp.Text, id, at)
		if err != nil {
			t.Fatal(err)
		}
		made, err := Finish(spec, st, x.Sum(nil), id)
		if err != nil {
			t.Fatal(err)
		}
		body, err := made.Body([]format.Signature{{Value: ed25519.Sign(key, made.TBS.Message)}})
		if err != nil {
			t.Fatal(err)
		}
		edits, err := lines.Edits(a, spec, body)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := (&format.Patch{Size: a.Size(), Edits: edits}).Bytes(a)
		if err != nil {
			t.Fatal(err)
		}
		s := format.BytesArtifact("s", signed)
		c, err := OpenClear(s)
		if err != nil {
			t.Fatalf("%v: %q", err, signed)
		}
		var text bytes.Buffer
		if _, err := c.Verify(t.Context(), s, format.Trust{Keys: []crypto.PublicKey{pub}, Now: at}, &text); err != nil {
			t.Fatalf("%v: %q", err, signed)
		}
		if want := strings.TrimSuffix(string(b), "\n") + "\n"; text.String() != want {
			t.Fatalf("%q came out as %q", b, text.Bytes())
		}
		edits, err = c.Remove(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		bare, err := (&format.Patch{Size: s.Size(), Edits: edits}).Bytes(s)
		if err != nil || !bytes.Equal(bare, text.Bytes()) {
			t.Fatalf("%q, %v", bare, err)
		}
	})
}
