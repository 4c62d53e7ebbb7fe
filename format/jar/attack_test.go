package jar

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const mf = "META-INF/MANIFEST.MF"

func sample(tb testing.TB) []byte {
	return build(tb, mf, "Manifest-Version: 1.0\r\nMain-Class: p.A\r\nMulti-Release: true\r\nImplementation-Version: 1.2.3\r\n\r\nName: p/\r\nSealed: true\r\n\r\n",
		"p/A.class", "code", "META-INF/versions/11/p/A.class", "newer code", "META-INF/services/x", "p.A", "p/", "")
}

// A class added to a signed JAR, and everything else that is not what was signed.
func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	signed := seal(t, s, sample(t), nil)
	if err := tryVerify(t, signed, s.Trust()); err != nil {
		t.Fatal(err)
	}
	attacks := tampered(t, signed, "p/A.class")
	without := func(names ...string) []byte {
		return change(t, signed, func(n string, c []byte) []byte {
			if slices.Contains(names, n) {
				return nil
			}
			return c
		})
	}
	replace := func(name, old, now string) []byte {
		return change(t, signed, func(n string, c []byte) []byte {
			if n != name {
				return c
			}
			if !bytes.Contains(c, []byte(old)) {
				t.Fatalf("%s has no %q", name, old)
			}
			return bytes.Replace(c, []byte(old), []byte(now), 1)
		})
	}
	for what, b := range map[string][]byte{
		"a class taken out":                      without("p/A.class"),
		"the newer class taken out":              without("META-INF/versions/11/p/A.class"),
		"a service added":                        change(t, signed, same, "META-INF/services/y", "evil"),
		"a newer class added":                    change(t, signed, same, "META-INF/versions/17/p/A.class", "evil"),
		"the block taken out":                    without("META-INF/SIGNER.EC"),
		"the signature file taken out":           without("META-INF/SIGNER.SF"),
		"the manifest taken out":                 without(mf),
		"the signature taken out":                without("META-INF/SIGNER.EC", "META-INF/SIGNER.SF"),
		"a class added with its section":         withSection(t, signed),
		"a second manifest in another case":      change(t, signed, same, "META-INF/manifest.mf", "Manifest-Version: 1.0\r\n\r\n"),
		"a signature file without a block":       change(t, signed, same, "META-INF/X.SF", "Signature-Version: 1.0\r\n\r\n"),
		"a block without a signature file":       change(t, signed, same, "META-INF/X.RSA", "x"),
		"a file of the prefix SIG-":              change(t, signed, same, "META-INF/SIG-X", "x"),
		"a second block of the name":             change(t, signed, same, "META-INF/SIGNER.RSA", "x"),
		"the signature file without its section": replace("META-INF/SIGNER.SF", "Name: p/A.class", "Name: p/B.class"),
		"a section of the manifest":              replace(mf, "Sealed: true", "Sealed: fals"),
		"an attribute of the manifest":           replace(mf, "Main-Class: p.A", "Main-Class: p.B"),
		"an empty line in the manifest":          replace(mf, "\r\n\r\n", "\r\n\r\n\r\n"),
		"names swapped": change(t, signed, func(n string, c []byte) []byte {
			switch n {
			case "p/A.class":
				return []byte("newer code")
			case "META-INF/versions/11/p/A.class":
				return []byte("code")
			}
			return c
		}),
	} {
		attacks[what] = b
	}
	for what, b := range attacks {
		if err := tryVerify(t, b, s.Trust()); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	// Folders and the order of entries are open, and say so.
	r, err := Format{}.Verify(t.Context(), artifact(change(t, signed, same, "q/", "")), s.Trust())
	if err != nil || len(r.Signatures[0].Open) == 0 {
		t.Errorf("a folder more: %v", err)
	}
}

// withSection adds a class with a section in the manifest, as a signer would: no
// signature file names it.
func withSection(t *testing.T, b []byte) []byte {
	evil := []byte("evil")
	return change(t, b, func(n string, c []byte) []byte {
		if n != mf {
			return c
		}
		m, err := jarsig.NewDraft(c, crypto.SHA256, []jarsig.Entry{{Name: "Evil.class", Digest: sum(crypto.SHA256, evil)}})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := m.WriteManifest(&out); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}, "Evil.class", string(evil))
}

// Two signers, and a third for what came later: the first two stay as they are, and
// cover what they covered.
func TestTwoSignersSignedByAThird(t *testing.T) {
	ids := []*formattest.Signer{formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P384), formattest.Identity(t, sigalg.Ed25519)}
	tr := ids[0].Trust()
	tr.Roots.AddCert(ids[1].Root.Root)
	tr.Roots.AddCert(ids[2].Root.Root)
	two := seal(t, ids[1], seal(t, ids[0], sample(t), format.Params{"name": "ONE"}), format.Params{"digest": "sha384"})
	added := change(t, two, same, "late/B.class", "added later")
	if err := tryVerify(t, added, tr); !errors.Is(err, ErrUncovered) {
		t.Errorf("added, not signed: %v", err)
	}
	three := seal(t, ids[2], added, nil)
	r, err := Format{}.Verify(t.Context(), artifact(three), tr)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range r.Signatures {
		got = append(got, s.Label+" "+s.Facts[len(s.Facts)-1].Value)
	}
	if want := "[SIGNER2 4 of 4 SIGNER 3 of 4 ONE 3 of 4]"; fmt.Sprint(got) != want {
		t.Errorf("%v: want %s", got, want)
	}
	for _, name := range []string{"META-INF/ONE.SF", "META-INF/ONE.EC", "META-INF/SIGNER.SF", "META-INF/SIGNER.EC"} {
		if !bytes.Equal(content(t, three, name), content(t, two, name)) {
			t.Errorf("%s was changed", name)
		}
	}
	// Taking off the third leaves what nobody covers; taking off the second does not.
	for i, ok := range []bool{false, true, true} {
		p, err := Format{}.Remove(t.Context(), artifact(three), i)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Bytes(artifact(three))
		if err != nil {
			t.Fatal(err)
		}
		if err := tryVerify(t, b, tr); (err == nil) != ok {
			t.Errorf("signature %d taken off: %v", i, err)
		}
	}
	if _, err := trySeal(t, ids[0], two, format.Params{"name": "ONE"}); err == nil {
		t.Error("a signature of the same name is replaced unasked")
	}
	if r, err := (Format{}).Verify(t.Context(), artifact(seal(t, ids[0], three, format.Params{"existing": "replace"})), tr); err != nil || len(r.Signatures) != 1 {
		t.Errorf("replaced: %v", err)
	}
	if err := tryVerify(t, three, ids[2].Trust()); err == nil {
		t.Error("accepted although two of three signers are unknown")
	}
}

func content(t *testing.T, b []byte, name string) []byte {
	t.Helper()
	z, err := zipfile.Open(artifact(b), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := z.Content(z.Index(name), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Signatures that are broken, or weak, are not signed beside.
func TestBrokenSignaturesAreNotKept(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	signed := seal(t, s, sample(t), nil)
	sha1 := change(t, signed, func(n string, c []byte) []byte {
		return bytes.ReplaceAll(c, []byte("SHA-256-Digest"), []byte("SHA1-Digest"))
	})
	for what, b := range map[string][]byte{
		"changed class":       change(t, signed, func(n string, c []byte) []byte { return only(n == "p/A.class", []byte("x"), c) }),
		"class taken out":     change(t, signed, func(n string, c []byte) []byte { return only(n == "p/A.class", nil, c) }),
		"manifest changed":    tampered(t, signed, "")["manifest changed"],
		"SHA-1 alone":         sha1,
		"no block":            change(t, signed, func(n string, c []byte) []byte { return only(n == "META-INF/SIGNER.EC", nil, c) }),
		"no manifest":         change(t, signed, func(n string, c []byte) []byte { return only(n == mf, nil, c) }),
		"manifest's borders":  change(t, signed, func(n string, c []byte) []byte { return only(n == mf, append(bytes.Clone(c), "\r\n"...), c) }),
		"a reserved name":     change(t, signed, same, "META-INF/SIG-X", "x"),
		"signature file text": change(t, signed, func(n string, c []byte) []byte { return only(strings.HasSuffix(n, ".SF"), []byte("\x00"), c) }),
	} {
		if _, err := trySeal(t, s, b, format.Params{"name": "OTHER"}); err == nil {
			t.Errorf("%s: signed beside", what)
		}
		b = seal(t, s, b, format.Params{"existing": "replace"})
		if err := tryVerify(t, b, s.Trust()); err != nil {
			t.Errorf("%s: replaced: %v", what, err)
		}
	}
	if err := tryVerify(t, sha1, s.Trust()); err == nil {
		t.Error("digests under SHA-1 are accepted")
	}
}

func TestStamp(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	b := seal(t, s, seal(t, s, sample(t), nil), nil)
	f := Format{}
	for want := 2; want > 0; want-- {
		todo, err := f.Unstamped(t.Context(), artifact(b), nil)
		if err != nil || len(todo) != want {
			t.Fatalf("%d, %v: want %d", len(todo), err, want)
		}
		if _, err := f.Stamp(t.Context(), artifact(b), nil, todo[0], s.Timestamp(t, []byte("something else"), formattest.At)); err == nil {
			t.Error("a timestamp over something else is attached")
		}
		p, err := f.Stamp(t.Context(), artifact(b), nil, todo[0], s.Timestamp(t, todo[0].Message, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = p.Bytes(artifact(b)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := f.Verify(t.Context(), artifact(b), s.Trust())
	if err != nil || r.Signatures[0].Time.IsZero() || r.Signatures[1].Time.IsZero() {
		t.Fatalf("%v", err)
	}
	bare := s.Trust()
	bare.TimestampRoots = nil
	if r, err := f.Verify(t.Context(), artifact(b), bare); err != nil || !r.Signatures[0].Time.IsZero() {
		t.Errorf("nobody is trusted to stamp: %v", err)
	}
	// And one that comes with the signature.
	p, err := f.Plan(t.Context(), artifact(sample(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	sigs := formattest.SignAll(t, f, p, s, formattest.At)
	sigs[0].Timestamp = s.Timestamp(t, sigs[0].Value, formattest.At)
	patch, err := f.Attach(t.Context(), artifact(sample(t)), p, s.Identity, formattest.At, sigs)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = patch.Bytes(artifact(sample(t))); err != nil {
		t.Fatal(err)
	}
	if r, err := f.Verify(t.Context(), artifact(b), s.Trust()); err != nil || r.Signatures[0].TimeFrom == "" {
		t.Errorf("%v", err)
	}
}

// Kinds of archives, and what tells them from others.
// Stamping inflates no more than verifying does, whatever became of the manifest.
func TestStampIsBounded(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := change(t, seal(t, s, sample(t), nil), func(name string, content []byte) []byte {
		if name == jarsig.Manifest {
			return make([]byte, jarsig.MaxSize+1)
		}
		return content
	})
	todo, err := Format{}.Unstamped(t.Context(), artifact(b), nil)
	if err != nil || len(todo) != 1 {
		t.Fatalf("%v, %v", todo, err)
	}
	if _, err := (Format{}).Stamp(t.Context(), artifact(b), nil, todo[0], s.Timestamp(t, todo[0].Message, formattest.At)); !errors.Is(err, zipfile.ErrLimit) {
		t.Errorf("a manifest of %d bytes: %v", jarsig.MaxSize+1, err)
	}
}

func TestDetect(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want bool
		kind string
	}{
		"jar":         {sample(t), true, "jar"},
		"classes":     {build(t, "A.class", "x"), true, "jar"},
		"war":         {build(t, "WEB-INF/web.xml", "x"), true, "war"},
		"app bundle":  {build(t, "BundleConfig.pb", "x", "base/manifest/AndroidManifest.xml", "x"), true, "app bundle"},
		"apk":         {build(t, "AndroidManifest.xml", "x", "A.class", "x", mf, "Manifest-Version: 1.0\r\n\r\n"), false, ""},
		"office":      {build(t, "[Content_Types].xml", "x", mf, ""), false, ""},
		"plain":       {build(t, "a.txt", "x"), false, ""},
		"no archive":  {[]byte("PK\x03\x04 and something else"), false, ""},
		"iOS package": {build(t, "Payload/A.app/A", "x", "A.class", ""), false, ""},
	} {
		if got := (Format{}).Detect(artifact(c.b)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
		if !c.want {
			continue
		}
		p, err := Format{}.Plan(t.Context(), artifact(c.b), nil)
		if err != nil || p.Facts[0].Value != c.kind {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestGoldenPlan(t *testing.T) {
	p, err := Format{}.Plan(t.Context(), artifact(sample(t)), format.Params{"name": "GOLDEN"})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%x\n", enc)
	for _, f := range p.Facts {
		got += f.Name + ": " + f.Value + "\n"
	}
	path := filepath.Join("testdata", "plan.golden")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(got), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if want := readFile(t, path, "go test -update writes it"); string(want) != got {
		t.Errorf("the plan is another:\n%s", got)
	}
}

func TestReadsOnce(t *testing.T) {
	var names []string
	for i := range 2000 {
		names = append(names, fmt.Sprint(i), string(sum(crypto.SHA256, []byte{byte(i)}))+strings.Repeat("x", i))
	}
	formattest.Reads(t, Format{}, artifact(build(t, names...)), nil)
}

// 50 000 entries fit into a plan.
func TestManyEntries(t *testing.T) {
	var names []string
	for i := range 50000 {
		names = append(names, fmt.Sprintf("com/example/product/module%d/Class%d.class", i%100, i), "content")
	}
	b := build(t, names...)
	s := formattest.Identity(t, sigalg.P256)
	if err := tryVerify(t, seal(t, s, b, nil), s.Trust()); err != nil {
		t.Error(err)
	}
}

func BenchmarkPlan(b *testing.B) {
	var names []string
	for i := range 50000 {
		names = append(names, fmt.Sprintf("com/example/product/module%d/Class%d.class", i%100, i), strings.Repeat("some content ", 100))
	}
	jar := build(b, names...)
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			if _, err := (Format{}).Plan(context.Background(), artifact(jar), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("inflate and hash", func(b *testing.B) {
		for b.Loop() {
			z, err := zipfile.Open(artifact(jar), zipfile.Options{})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := z.Read(context.Background(), []crypto.Hash{crypto.SHA256}, func(int) int64 { return 0 }, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Nobody without a key makes an archive that verifies: contents are those of a seed.
func FuzzVerify(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	known := map[string]bool{}
	seeds := [][]byte{sample(f), build(f, "a", "1"), build(f, "A.class", "x", "b/", "")}
	for _, b := range seeds {
		f.Add(b)
		signed := seal(f, s, b, nil)
		f.Add(signed)
		p, err := Format{}.Plan(f.Context(), artifact(b), nil)
		if err != nil {
			f.Fatal(err)
		}
		known[string(p.Content)] = true
	}
	if len(known) != 3 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx := context.Background()
		if r, err := (Format{}).Verify(ctx, artifact(b), s.Trust()); err == nil && !known[string(r.Signatures[0].Content)] {
			t.Errorf("a new archive verifies")
		}
		_, _ = Format{}.Inspect(ctx, artifact(b))
		p, err := Format{}.Plan(ctx, artifact(b), format.Params{"existing": "replace"})
		if err != nil {
			return
		}
		sigs := formattest.SignAll(t, Format{}, p, s, formattest.At)
		patch, err := Format{}.Attach(ctx, artifact(b), p, s.Identity, formattest.At, sigs)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := patch.Bytes(artifact(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := tryVerify(t, signed, s.Trust()); err != nil {
			t.Fatal(err)
		}
	})
}
