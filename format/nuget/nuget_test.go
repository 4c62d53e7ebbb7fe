package nuget

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const spec = "\ufeff" + `<?xml version="1.0"?><package xmlns="http://schemas.microsoft.com/packaging/2011/08/nuspec.xsd"><metadata><id>Test.Package</id><version>1.2.3-beta</version>` +
	`<authors>Ann &amp; Bob</authors><description><![CDATA[<id>other</id>]]></description></metadata></package>`

// index is a repository.
const index = "https://example.com/v3/index.json"

var byRepository = format.Params{"type": repository, "service-index": index, "owners": "ann,böb"}

// build makes a package, nothing in which is compressed, of names and contents.
func build(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.CreateHeader(&zip.FileHeader{Name: files[i], Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func small(t testing.TB, content string) []byte {
	return build(t, "Test.nuspec", spec, "lib/a.txt", content)
}

func art(b []byte) format.Artifact { return format.BytesArtifact("a.nupkg", b) }

func seal(t testing.TB, s *formattest.Signer, b []byte, params format.Params, stamped ...bool) []byte {
	t.Helper()
	out, err := trySeal(t, s, b, params, stamped...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func trySeal(t testing.TB, s *formattest.Signer, b []byte, params format.Params, stamped ...bool) ([]byte, error) {
	t.Helper()
	p, err := Format{}.Plan(t.Context(), art(b), params)
	if err != nil {
		return nil, err
	}
	if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); err != nil {
		return nil, err
	}
	sigs := formattest.SignAll(t, Format{}, p, s, formattest.At)
	if len(stamped) > 0 {
		sigs[0].Timestamp = s.Timestamp(t, sigs[0].Value, formattest.At)
	}
	patch, err := Format{}.Attach(t.Context(), art(b), p, s.Identity, formattest.At, sigs)
	if err != nil {
		return nil, err
	}
	return patch.Bytes(art(b))
}

func verify(t testing.TB, b []byte, signers ...*formattest.Signer) (*format.Report, error) {
	return Format{}.Verify(t.Context(), art(b), trust(signers...))
}

func trust(signers ...*formattest.Signer) format.Trust {
	tr := signers[0].Trust()
	for _, s := range signers[1:] {
		tr.Roots.AddCert(s.Root.Root)
		tr.TimestampRoots.AddCert(s.Root.Root)
	}
	return tr
}

// openByte says what nobody signs: the times, and who made the record, of the
// signature's own entry; in its local header the version too.
func openByte(signed []byte, offset int) bool {
	z, err := zipfile.Open(art(signed), zipfile.Options{})
	if err != nil {
		return false
	}
	at := offset - int(z.Entries[len(z.Entries)-1].Offset)
	if at == 4 || at == 5 || at >= 10 && at < 14 {
		return true
	}
	at = offset - (int(z.Directory) + len(z.RawDirectory()) - 46 - len(entrySignature))
	return at >= 4 && at < 8 || at >= 12 && at < 16 || at >= 36 && at < 38
}

func TestConformance(t *testing.T) {
	s, first := formattest.Identity(t, sigalg.RSA3072), formattest.Identity(t, sigalg.RSA3072)
	refused := []format.Params{{"digest": "md5"}, {"type": repository}, {"owners": "a"}, {"service-index": index}, {"type": repository, "service-index": "http://example.com"},
		{"type": repository, "service-index": index, "owners": "a,,b"}, {"type": repository, "service-index": index, "owners": "a\u202eb"}, {"existing": "drop"}}
	for _, c := range []struct {
		name string
		c    formattest.Case
	}{
		{"author", formattest.Case{Artifact: small(t, "one"), Other: small(t, "two"), Signer: s, Refused: refused, Unsigned: []string{"Size", "Facts", "Body"}}},
		{"repository", formattest.Case{Artifact: small(t, "one"), Other: small(t, "two"), Signer: s.With(sigalg.RSAPKCS1SHA512), Unsigned: []string{"Size", "Facts", "Body"},
			Params: format.Params{"type": repository, "service-index": index, "owners": "ann,bob", "digest": "sha384"}}},
		{"replaced", formattest.Case{Artifact: seal(t, first, small(t, "one"), nil), Other: seal(t, first, small(t, "two"), nil), Signer: s,
			Params: format.Params{"existing": "replace"}, Unsigned: []string{"Size", "Facts", "Body"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.c.Name, c.c.Open = "a.nupkg", openByte
			var f format.Format = Format{}
			if c.name == "replaced" { // its artifact has a signature, which can be had and taken off
				f = struct{ format.Format }{f}
			}
			formattest.Run(t, f, c.c)
		})
	}
}

// both trusts the author too, whose signature a repository countersigns.
type both struct {
	format.Format
	author *formattest.Signer
}

func (b both) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	if t.Roots != nil {
		t.Roots = t.Roots.Clone()
		t.Roots.AddCert(b.author.Root.Root)
	}
	r, err := b.Format.Verify(ctx, a, t)
	if err == nil && len(r.Signatures) < 2 {
		return nil, errors.New("only the author's signature is there")
	}
	return r, err
}

func TestCountersignatureConformance(t *testing.T) {
	a, s := formattest.Identity(t, sigalg.RSA3072), formattest.Identity(t, sigalg.RSA3072)
	formattest.Run(t, both{Format{}, a}, formattest.Case{
		Name: "a.nupkg", Artifact: seal(t, a, small(t, "one"), nil), Other: seal(t, a, small(t, "two"), nil), Signer: s, Params: byRepository,
		Unsigned: []string{"Size", "Facts", "Body"}, Open: openByte,
	})
}

// A repository countersigns an author's signature: both verify, stamped; each alone is
// trusted no more; what the author signed comes back.
func TestCountersignature(t *testing.T) {
	a, r := formattest.Identity(t, sigalg.RSA3072), formattest.Identity(t, sigalg.RSA3072)
	plain := small(t, "x")
	signed := seal(t, a, plain, nil)
	twice := seal(t, r, signed, byRepository, true)
	targets, err := Format{}.Unstamped(t.Context(), art(twice), nil)
	if err != nil || len(targets) != 1 {
		t.Fatalf("%v, %v", targets, err)
	}
	patch, err := Format{}.Stamp(t.Context(), art(twice), nil, targets[0], a.Timestamp(t, targets[0].Message, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	if twice, err = patch.Bytes(art(twice)); err != nil {
		t.Fatal(err)
	}
	got, err := verify(t, twice, a, r)
	if err != nil || len(got.Signatures) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, label := range []string{author, repository + " (countersignature)"} {
		if s := got.Signatures[i]; s.Label != label || s.Time.IsZero() || s.Index != i {
			t.Errorf("signature %d: %+v", i, s)
		}
	}
	if f := (format.Fact{Name: "owner", Value: "böb"}); !slices.Contains(got.Signatures[1].Facts, f) {
		t.Errorf("facts %v", got.Signatures[1].Facts)
	}
	for _, one := range []*formattest.Signer{a, r} {
		if _, err := verify(t, twice, one); !errors.Is(err, cms.ErrChain) {
			t.Errorf("one of both is trusted: %v", err)
		}
	}
	if in, err := (Format{}).Inspect(t.Context(), art(twice)); err != nil || len(in.Signatures) != 2 || in.Signatures[1].Timestamp == nil {
		t.Errorf("%+v, %v", in, err)
	}
	for what, try := range map[string]func() ([]byte, error){
		"a third signature":              func() ([]byte, error) { return trySeal(t, r, twice, byRepository) },
		"an author after an author":      func() ([]byte, error) { return trySeal(t, r, signed, nil) },
		"a repository after another one": func() ([]byte, error) { return trySeal(t, r, seal(t, r, plain, byRepository), byRepository) },
		"another hash": func() ([]byte, error) {
			return trySeal(t, r, signed, format.Params{"type": repository, "service-index": index, "digest": "sha512"})
		},
	} {
		if _, err := try(); !errors.Is(err, ErrExisting) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A countersignature is not moved to another signature.
	other := seal(t, a, plain, format.Params{"digest": "sha512"})
	p, err := open(art(twice))
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.parse()
	if err != nil {
		t.Fatal(err)
	}
	attribute, _ := s.signer.UnsignedAttribute(oidCountersignature)
	o, err := open(art(other))
	if err != nil {
		t.Fatal(err)
	}
	der, err := cms.AddUnsigned(o.p7s, 0, attribute)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = cms.AddCertificates(der, r.Chain...); err != nil {
		t.Fatal(err)
	}
	if patch, err = o.put(der); err != nil {
		t.Fatal(err)
	}
	moved, err := patch.Bytes(art(other))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, moved, a, r); !errors.Is(err, ErrSignature) {
		t.Errorf("moved to another signature: %v", err)
	}
	// Nor does an author's signature over a package that was changed get one.
	at := bytes.Index(signed, []byte("Ann"))
	bad := bytes.Clone(signed)
	bad[at] ^= 1
	if _, err := trySeal(t, r, bad, byRepository); err == nil {
		t.Error("a changed package is countersigned")
	}
}

// What others get wrong, or left open once.
func TestRefused(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	signed := seal(t, s, small(t, "x"), nil)
	z, err := zipfile.Open(art(signed), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	entry, record := int(z.Entries[len(z.Entries)-1].Offset), int(z.Directory)+len(z.RawDirectory())-46-len(entrySignature)
	change := func(at ...int) []byte {
		b := bytes.Clone(signed)
		for _, i := range at {
			b[i] ^= 8
		}
		return b
	}
	e := z.Edit()
	e.Back(zipfile.File{Name: "after.txt", Content: []byte("x")})
	r, err := e.Apply()
	if err != nil {
		t.Fatal(err)
	}
	after, err := r.Patch.Bytes(art(signed))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"a file after the signature": after,
		"flags that hide the name":   change(entry+7, record+9), // UTF-8
		"attributes":                 change(record + 38),
		"a name in other letters":    build(t, "a.nuspec", spec, ".Signature.p7s", "x"),
		"an empty signature":         build(t, "a.nuspec", spec, entrySignature, ""),
		"a signature in the middle":  build(t, entrySignature, "x", "a.nuspec", spec),
		"two manifests":              build(t, "a.nuspec", spec, "b.nuspec", spec),
		"no manifest":                build(t, "lib/a.nuspec", spec),
		"a manifest without version": build(t, "a.nuspec", strings.ReplaceAll(spec, "version>", "vers>")),
		"two identities":             build(t, "a.nuspec", strings.Replace(spec, "<authors>", "<id>b</id><authors>", 1)),
		"a direction character":      build(t, "a.nuspec", strings.Replace(spec, "Test.", "\u202e", 1)),
		"a document type":            build(t, "a.nuspec", strings.Replace(spec, "<package", "<!DOCTYPE a><package", 1)),
		"not an archive":             []byte("x"),
	} {
		if _, err := (Format{}).Plan(t.Context(), art(b), format.Params{"existing": "replace"}); err == nil {
			t.Errorf("%s: planned", name)
		}
		if _, err := verify(t, b, s); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	for name, id := range map[string]*formattest.Signer{
		"ECDSA":               formattest.Identity(t, sigalg.P256),
		"PSS":                 s.With(sigalg.RSAPSSSHA256),
		"no code signing":     formattest.Identity(t, sigalg.RSA3072, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"another certificate": func() *formattest.Signer { c := *s; c.Chain = formattest.Identity(t, sigalg.P256).Chain; return &c }(),
	} {
		if _, err := trySeal(t, id, small(t, "x"), nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// A signature without the attributes that make it NuGet's is none: a CMS over the right
// text, by somebody who signs other things, is not a package's.
func TestPlainCMS(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	b := small(t, "x")
	p, err := open(art(b))
	if err != nil {
		t.Fatal(err)
	}
	h := s.Scheme.Hash()
	d, err := p.digests(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	body, err := text(h, d[h])
	if err != nil {
		t.Fatal(err)
	}
	all, err := attributes(format.Params{"type": author}, s.Chain[0], h, formattest.At)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 1 << len(all) {
		sp := cms.SignerSpec{ContentType: cms.OIDData, ContentDigest: sum(h, body), Digest: h, Scheme: s.Scheme}
		for i, a := range all {
			if n>>i&1 == 1 {
				sp.Attributes = append(sp.Attributes, a)
			}
		}
		m, err := sp.SignedAttributes()
		if err != nil {
			t.Fatal(err)
		}
		der, err := cms.Encode(cms.Content{Type: cms.OIDData, Bytes: body}, s.Chain, cms.SignerInfo{Spec: sp, Signature: s.Sign(t, m), Certificate: s.Chain[0]})
		if err != nil {
			t.Fatal(err)
		}
		patch, err := p.put(der)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := patch.Bytes(art(b))
		if err != nil {
			t.Fatal(err)
		}
		_, err = verify(t, signed, s)
		if whole := n == 1<<len(all)-1; whole != (err == nil) || !whole && !errors.Is(err, ErrSignature) {
			t.Errorf("attributes %03b: %v", n, err)
		}
	}
}

func TestText(t *testing.T) {
	for _, s := range []string{"", "Version:1\n\n", "Version:2\n\n2.16.840.1.101.3.4.2.1-Hash:" + strings.Repeat("A", 43) + "=\n\n",
		"Version:1\r\n\r\n2.16.840.1.101.3.4.2.1-Hash:" + strings.Repeat("A", 43) + "=\r\n\r\n", "Version:1\n\n1.3.14.3.2.26-Hash:" + strings.Repeat("A", 27) + "=\n\n",
		"Version:1\n\n2.16.840.1.101.3.4.2.1-Hash:" + strings.Repeat("A", 42) + "B=\n\n", "Version:1\n\n2.16.840.1.101.3.4.2.1-Hash:AAAA\n\n"} {
		if _, _, err := parseText([]byte(s)); !errors.Is(err, ErrSignature) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestGoldenPlan(t *testing.T) {
	p, err := Format{}.Plan(t.Context(), art(small(t, "golden")), byRepository)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("plan %x: want %x (%v)", b, want, err)
	}
}

func TestReads(t *testing.T) {
	formattest.Reads(t, Format{}, art(small(t, strings.Repeat("0123456789", 300_000))), nil)
}

func TestDetect(t *testing.T) {
	if !(Format{}).Detect(art(small(t, "x"))) || (Format{}).Detect(art(build(t, "a", "b"))) {
		t.Error("detection")
	}
}

func FuzzCounter(f *testing.F) {
	a, r := formattest.Identity(f, sigalg.RSA3072), formattest.Identity(f, sigalg.RSA3072)
	p, err := open(art(seal(f, r, seal(f, a, small(f, "x"), nil), byRepository, true)))
	if err != nil {
		f.Fatal(err)
	}
	s, err := p.parse()
	if err != nil {
		f.Fatal(err)
	}
	attribute, ok := s.signer.UnsignedAttribute(oidCountersignature)
	if !ok {
		f.Fatal("no seed")
	}
	f.Add(attribute.Values[0].FullBytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCounter(b)
		if err != nil {
			return
		}
		_, _ = readClaims(c.signed, r.Chain[0])
		if c.verify(r.Chain[0], s.signer.Signature) == nil && !bytes.Equal(c.message, s.counters[0].message) {
			t.Error("a new countersignature verifies")
		}
	})
}

func FuzzPlan(f *testing.F) {
	s := formattest.Identity(f, sigalg.RSA3072)
	signed := seal(f, s, small(f, "x"), nil)
	f.Add(small(f, "x"))
	f.Add(signed)
	want, err := verify(f, signed, s)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := verify(t, b, s); err == nil && !bytes.Equal(got.Signatures[0].Content, want.Signatures[0].Content) {
			t.Error("a new package verifies")
		}
		_, _ = (Format{}).Inspect(t.Context(), art(b))
		p, err := (Format{}).Plan(t.Context(), art(b), format.Params{"existing": "replace"})
		if err != nil {
			return
		}
		patch, err := Format{}.Attach(t.Context(), art(b), p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		out, err := patch.Bytes(art(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t, out, s); err != nil {
			t.Fatal(err)
		}
	})
}
