package pgp

import (
	"bytes"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const text = "first line\n-dash\n\n--\nlast line\n"

// sign runs the whole way and returns the file afterwards and the sidecar.
func sign(t *testing.T, content []byte, s *formattest.Signer, p format.Params) (file, side []byte) {
	t.Helper()
	a := format.BytesArtifact("file", content)
	plan, err := New().Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	if patch.Sidecar != nil {
		return content, patch.Sidecar.Data
	}
	if file, err = patch.Bytes(a); err != nil {
		t.Fatal(err)
	}
	return file, nil
}

// check verifies with trust in s.
func check(t *testing.T, file, side []byte, s *formattest.Signer) error {
	t.Helper()
	tr := s.Trust()
	tr.Detached = side
	_, err := New().Verify(t.Context(), format.BytesArtifact("file", file), tr)
	return err
}

// options for a signer: the digest of its scheme.
func options(s *formattest.Signer, more ...string) format.Params {
	p := format.Params{"digest": "sha512"}
	if h := s.Scheme.Hash(); h != 0 {
		p["digest"] = format.HashName(h)
	}
	for i := 0; i+1 < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	return p
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		key      sigalg.Key
		more     []string
		unsigned []string
	}{
		{sigalg.P256, nil, nil},
		{sigalg.RSA3072, []string{"armor", "false"}, nil},
		// How long text is does not matter to a signature over it.
		{sigalg.Ed25519, []string{"text", "true"}, []string{"Size"}},
		{sigalg.P384, []string{"mode", "inline"}, nil},
		// Where the dashes are is held against the file by Verify.
		{sigalg.Ed25519, []string{"mode", "cleartext"}, []string{"Size", "Body"}},
		{sigalg.Ed25519, []string{"key-version", "6"}, nil},
		{sigalg.P256, []string{"key-version", "6", "mode", "inline"}, nil},
		{sigalg.RSA3072, []string{"key-version", "6", "mode", "cleartext"}, []string{"Size", "Body"}},
	} {
		t.Run(fmt.Sprint(c.key, c.more), func(t *testing.T) {
			t.Parallel()
			s := formattest.Identity(t, c.key)
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(text), Other: []byte(strings.Replace(text, "first", "fjrst", 1)), Name: "file",
				Params: options(s, c.more...), Signer: s, Unsigned: c.unsigned,
				Refused: []format.Params{
					{"digest": "sha1"}, {"key-version": "5"}, {"key-created": ""}, {"key-created": "yesterday"}, {"key-created": "2020-01-01T00:00:00+01:00"},
					{"key-created": "1969-12-31T23:59:59Z"}, {"mode": "cleartext", "text": "true"}, {"mode": "inline", "armor": "false"},
				},
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	for _, p := range []format.Params{nil, {"text": "true"}, {"mode": "cleartext"}, {"key-version": "6"}} {
		formattest.Reads(t, New(), format.BytesArtifact("large", bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstu\n"), 1<<18)), p)
	}
}

// Invariant 2: a state that leads to another content, or to none, is refused.
func TestForgedStates(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for _, version := range []string{"4", "6"} {
		plan := func(content string) *format.Plan {
			p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(content)), format.Params{"key-version": version})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		good, evil := plan(strings.Repeat("good", 40)), plan(strings.Repeat("evil", 40))
		forge := func(name string, change func(*body)) {
			t.Helper()
			var b body
			if err := format.Decode(good.Body, &b); err != nil {
				t.Fatal(err)
			}
			change(&b)
			p := *good
			var err error
			if p.Body, err = format.Encode(b); err != nil {
				t.Fatal(err)
			}
			if _, err := New().Assemble(&p, s.Identity, formattest.At, nil); err == nil {
				t.Errorf("version %s: %s is accepted", version, name)
			}
		}
		forge("the state of another content", func(b *body) {
			if err := format.Decode(evil.Body, b); err != nil {
				t.Fatal(err)
			}
		})
		forge("another count", func(b *body) { b.State.Count += 64 })
		forge("a count that wraps", func(b *body) { b.State.Count += 1 << 63 })
		forge("a longer tail", func(b *body) { b.State.Tail = append(b.State.Tail, 0) })
		forge("a shorter chain", func(b *body) { b.State.Chain = b.State.Chain[:31] })
		forge("another chain", func(b *body) { b.State.Chain[0] ^= 1 })
		forge("lines", func(b *body) { b.Lines = &pgpsig.Lines{Dashes: []int64{}} })
	}
}

// A requester who hashes a salt of his own in has another Content than whoever plans
// the file, and a signature that is not the packet's.
func TestSaltIsNotChosen(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	a := format.BytesArtifact("f", []byte(text))
	honest, err := New().Plan(t.Context(), a, options(s, "key-version", "6"))
	if err != nil {
		t.Fatal(err)
	}
	x := crypto.SHA512.New()
	x.Write(bytes.Repeat([]byte("evil"), 8))
	x.Write([]byte(text))
	st, err := openpgp.StateOf(crypto.SHA512, x)
	if err != nil {
		t.Fatal(err)
	}
	forged := *honest
	forged.Content = x.Sum(nil)
	if forged.Body, err = format.Encode(body{State: *st}); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(forged.Content, honest.Content) {
		t.Error("the content is the honest one")
	}
	patch, err := New().Attach(t.Context(), a, &forged, s.Identity, formattest.At, formattest.SignAll(t, New(), &forged, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	if check(t, []byte(text), patch.Sidecar.Data, s) == nil {
		t.Error("it verifies")
	}
}

func TestKeysThatDoNotFit(t *testing.T) {
	p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]format.Identity{
		"pss":               formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA256).Identity,
		"sha384 under rsa":  formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPKCS1SHA384).Identity,
		"p384 wants sha384": formattest.Identity(t, sigalg.P384).Identity,
		"ml-dsa":            formattest.Identity(t, sigalg.MLDSA65).Identity,
		"no key":            {Scheme: sigalg.ECDSASHA256},
		"scheme of another": {Scheme: sigalg.PureEd25519, Public: formattest.Identity(t, sigalg.P256).Public},
	} {
		if _, err := New().Assemble(p, id, formattest.At, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s := formattest.Identity(t, sigalg.P256)
	if _, err := New().Assemble(p, s.Identity, time.Date(2019, 12, 31, 0, 0, 0, 0, time.UTC), nil); err == nil {
		t.Error("signed before the key was made")
	}
}

// The named attacks on the cleartext framework.
func TestCleartextAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	good, _ := sign(t, []byte(text), s, options(s, "mode", "cleartext"))
	if err := check(t, good, nil, s); err != nil {
		t.Fatal(err)
	}
	rep := func(old, new string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("no %q in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	for name, file := range map[string][]byte{
		"text before":                    append([]byte("unsigned\n"), good...),
		"text after":                     append(bytes.Clone(good), "unsigned\n"...),
		"a header that nobody signs":     rep("Hash: SHA512\n", "Hash: SHA512\nComment: pay the bearer\n"),
		"a header that ends the headers": rep("Hash: SHA512\n\n", "Hash: SHA512\n \t\nunsigned\n\n"),
		"no dash escaping":               rep("Hash: SHA512\n", "Hash: SHA512\nNotDashEscaped: yes\n"),
		"another hash":                   rep("Hash: SHA512", "Hash: SHA256"),
		"no hash":                        rep("Hash: SHA512\n", ""),
		"an unescaped dash":              rep("- -dash", "-dash"),
		"a second message":               append(bytes.Clone(good), good...),
		"a second signature block":       append(bytes.Clone(good), good[bytes.Index(good, []byte("-----BEGIN PGP SIGNATURE")):]...),
		"a line more":                    rep("last line\n", "last line\n\n"),
		"form feed for white space":      rep("first line\n", "first line\f\n"),
		"carriage return inside":         rep("first line", "first\rline"),
		"zero byte":                      rep("first line\n", "first line\x00\n"),
	} {
		if check(t, file, nil, s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// What the framework leaves open is said.
	file := rep("first line\n", "first line \t\r\n")
	r, err := New().Verify(t.Context(), format.BytesArtifact("f", file), s.Trust())
	if err != nil || !strings.Contains(strings.Join(r.Signatures[0].Open, "; "), "white space at the end") {
		t.Errorf("%v, %+v", err, r)
	}
	for name, content := range map[string]string{
		"white space at the end": "a \nb\n", "white space at the very end": "a\nb\t", "control character": "a\x1b[2Jb\n", "lone return": "a\rb\n",
		"long line": strings.Repeat("x", openpgp.MaxLine+1), "empty": "", "many dashes": strings.Repeat("-\n", 4001), "signed": string(good),
	} {
		if _, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(content)), format.Params{"mode": "cleartext"}); err == nil {
			t.Errorf("%s: a plan is made", name)
		}
	}
}

// A signature over bytes is none over text, one over a key none over a file.
func TestTypesAreNotMixed(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	_, side := sign(t, []byte(text), s, options(s, "armor", "false"))
	p, _, err := openpgp.ReadPacket(side)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []byte{1, 2, 0x10, 0x13, 0x1f, 0x40, 0x50, 0xff} {
		b := bytes.Clone(p.Body)
		b[1] = typ
		if check(t, []byte(text), openpgp.AppendPacket(nil, openpgp.TagSignature, b), s) == nil {
			t.Errorf("type %#x is accepted", typ)
		}
	}
	key := openpgp.AppendPacket(bytes.Clone(side), openpgp.TagUserID, []byte("x"))
	if check(t, []byte(text), key, s) == nil {
		t.Error("packets after the signature are accepted")
	}
	// Something in the unhashed area: accepted where it cannot mislead, and reported.
	i := 6 + int(p.Body[4])<<8 + int(p.Body[5])
	unhashed := append(bytes.Clone(p.Body[:i]), 0, 3, 2, 100, 7)
	unhashed = append(unhashed, p.Body[i+2:]...)
	tr := s.Trust()
	tr.Detached = openpgp.AppendPacket(nil, openpgp.TagSignature, unhashed)
	r, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), tr)
	if err != nil || len(r.Signatures[0].Open) != 1 {
		t.Errorf("%v: %+v", err, r)
	}
	for _, sub := range []string{"\x02\xe4\x07" /* critical */, "\x05\x02\xff\xff\xff\xff" /* another time */, "\x09\x10AAAAAAAA" /* another issuer */} {
		b := append(bytes.Clone(p.Body[:i]), 0, byte(len(sub)))
		b = append(append(b, sub...), p.Body[i+2:]...)
		if check(t, []byte(text), openpgp.AppendPacket(nil, openpgp.TagSignature, b), s) == nil {
			t.Errorf("unhashed %q is accepted", sub)
		}
	}
}

func TestSeveralSignatures(t *testing.T) {
	one, two := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.P256)
	_, a := sign(t, []byte(text), one, options(one, "armor", "false"))
	_, b := sign(t, []byte(text), two, options(two, "armor", "false"))
	tr := one.Trust()
	tr.Detached = append(a, b...)
	if _, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), tr); !errors.Is(err, openpgp.ErrSignature) {
		t.Errorf("one of two is trusted: %v", err)
	}
	tr.Keys = append(tr.Keys, two.Public)
	r, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), tr)
	if err != nil || len(r.Signatures) != 2 {
		t.Errorf("%v", err)
	}
}

func TestTime(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	_, side := sign(t, []byte(text), s, nil)
	tr := s.Trust()
	tr.Detached = side
	tr.Now = formattest.At.Add(-time.Hour)
	if _, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), tr); err == nil {
		t.Error("a signature of the future is accepted")
	}
}

// Remove gives back what was signed, Extract a signature that verifies beside it.
func TestRemoveAndExtract(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for _, m := range []string{inline, cleartext} {
		for _, content := range []string{text, "-\n", "x\n", "a\r\n-b\r\n"} {
			file, _ := sign(t, []byte(content), s, options(s, "mode", m))
			a := format.BytesArtifact("f", file)
			if !New().Detect(a) {
				t.Errorf("%s: not detected", m)
			}
			p, err := Format{}.Remove(t.Context(), a, -1)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Bytes(a)
			if err != nil || string(got) != content {
				t.Errorf("%s: %q, %v: want %q", m, got, err, content)
			}
			side, err := Format{}.Extract(t.Context(), a, 0)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := New().Inspect(t.Context(), format.BytesArtifact("f.asc", side.Data)); err != nil || len(r.Signatures) != 1 {
				t.Errorf("%v, %v", r, err)
			}
			if m == inline {
				if err := check(t, []byte(content), side.Data, s); err != nil {
					t.Errorf("%s: %v", m, err)
				}
			}
			if _, err := (Format{}).Extract(t.Context(), a, 1); err == nil {
				t.Error("signature 1 of 1")
			}
		}
	}
	a := format.BytesArtifact("f", []byte(text))
	if _, err := (Format{}).Remove(t.Context(), a, -1); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
	if _, err := (Format{}).Extract(t.Context(), a, 0); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
	if r, err := New().Inspect(t.Context(), a); err != nil || len(r.Signatures) != 0 || New().Detect(a) {
		t.Errorf("%v, %v", r, err)
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	var got bytes.Buffer
	if *update {
		newSeeds(t)
	}
	pub, err := os.ReadFile(filepath.Join("testdata", "ed25519.pub"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := openpgp.ParseKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	id := format.Identity{Scheme: sigalg.PureEd25519, Public: k.Public}
	for _, p := range []format.Params{nil, {"digest": "sha512"}, {"digest": "sha384", "key-version": "6"}, {"mode": "cleartext"}, {"text": "true"}, {"mode": "inline"}} {
		plan, err := New().Plan(t.Context(), format.BytesArtifact("file", []byte(text)), p)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := New().Assemble(plan, id, formattest.At, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%v\nplan %x\nmessage %x\n", p, enc, tbs[0].Message)
	}
	path := filepath.Join("testdata", "plans.txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(want, got.Bytes()) {
		t.Errorf("%v\n%s", err, got.Bytes())
	}
}

// newSeeds makes a key and signatures by it over text.
func newSeeds(t *testing.T) {
	t.Helper()
	s := formattest.Identity(t, sigalg.Ed25519)
	k, err := openpgp.NewKey(4, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), s.Public)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"ed25519.pub": k.Body()}
	_, files["detached.asc"] = sign(t, []byte(text), s, nil)
	_, files["six.asc"] = sign(t, []byte(text), s, format.Params{"key-version": "6", "text": "true"})
	files["cleartext.asc"], _ = sign(t, []byte(text), s, format.Params{"mode": "cleartext"})
	files["inline.asc"], _ = sign(t, []byte(text), s, format.Params{"mode": "inline"})
	for n, b := range files {
		if err := os.WriteFile(filepath.Join("testdata", n), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func seeds(f *testing.F) [][]byte {
	f.Helper()
	names, err := filepath.Glob("testdata/*.asc")
	if err != nil || len(names) < 2 {
		f.Fatalf("%d seeds in testdata: want some (%v)", len(names), err)
	}
	var out [][]byte
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func FuzzVerify(f *testing.F) {
	pub, err := os.ReadFile(filepath.Join("testdata", "ed25519.pub"))
	if err != nil {
		f.Fatal(err)
	}
	k, err := openpgp.ParseKey(pub)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range seeds(f) {
		f.Add(b, []byte(text))
	}
	f.Fuzz(func(t *testing.T, signed, content []byte) {
		tr := format.Trust{Keys: []crypto.PublicKey{k.Public}, Now: formattest.At}
		New().Verify(t.Context(), format.BytesArtifact("f", signed), tr)
		tr.Detached = signed
		if _, err := New().Verify(t.Context(), format.BytesArtifact("f", content), tr); err == nil && string(content) != text {
			t.Fatalf("accepted for %q", content)
		}
		a := format.BytesArtifact("f", signed)
		if New().Detect(a) {
			New().Inspect(t.Context(), a)
			if p, err := (Format{}).Remove(t.Context(), a, -1); err == nil {
				if err := p.Check(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
