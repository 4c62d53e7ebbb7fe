package appx

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/opc"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

func verify(t testing.TB, b []byte, s *formattest.Signer) error {
	_, err := Format{}.Verify(t.Context(), format.BytesArtifact("a.msix", b), s.Trust())
	return err
}

func plan(t testing.TB, b []byte, p format.Params) (*format.Plan, error) {
	return Format{}.Plan(t.Context(), format.BytesArtifact("a.msix", b), p)
}

// A plan stays what it is: nothing in this package is compressed, so no compressor
// shows in it.
func TestGoldenPlan(t *testing.T) {
	text := fmt.Sprintf(`<BlockMap HashMethod="http://www.w3.org/2001/04/xmlenc#sha256"><File Name="%s" Size="%d" LfhSize="46"><Block Hash="%s"/></File></BlockMap>`,
		entryManifest, len(manifest(publisher)), base64sum(manifest(publisher)))
	b := pack(t, made{name: entryManifest, content: manifest(publisher)}, made{name: entryBlockMap, content: text}, made{name: entryTypes, content: types})
	p, err := plan(t, b, format.Params{"description": "App"})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan-2.cbor")
	if *update {
		if err := os.WriteFile(path, enc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(enc, want) {
		t.Errorf("plan %x: want %x (%v)", enc, want, err)
	}

	// A plan of version 1 that was endorsed is signed as it was, and attached.
	old, err := os.ReadFile(filepath.Join("testdata", "plan.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := format.DecodePlan(old)
	if err != nil || first.Version != 1 || !bytes.Equal(first.Content, p.Content) {
		t.Fatalf("version %d, content %x: %v", first.Version, first.Content, err)
	}
	s, a := signer(t, sigalg.P256), format.BytesArtifact("a.msix", b)
	patch, err := Format{}.Attach(t.Context(), a, first, s.Identity, formattest.At, formattest.SignAll(t, Format{}, first, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	if signed := formattest.Apply(t, a, patch); verify(t, signed, s) != nil {
		t.Error("what was planned in version 1 does not verify")
	}
}

// Windows finds files in the block map by their names: another order, and a package of a
// bundle that is in it, are fine.
func TestBlockMapOrder(t *testing.T) {
	entries := []made{{name: "a b%20c/d", content: strings.Repeat("x", 3*blockSize)}, {name: "e", content: "e"}, {name: "empty"}, {name: entryManifest, content: manifest(publisher)}}
	b := build(t, crypto.SHA256, types, entries...)
	text := string(entry(t, b, entryBlockMap))
	from := strings.Index(text, "<File ")
	files := strings.SplitAfter(strings.TrimSuffix(text[from:], "</BlockMap>"), "</File>")
	slices.Reverse(files)
	with := func(files []string) []byte {
		return pack(t, append(slices.Clone(entries), made{name: entryBlockMap, content: text[:from] + strings.Join(files, "") + "</BlockMap>"}, made{name: entryTypes, content: types})...)
	}
	if _, err := plan(t, with(files), nil); err != nil {
		t.Error(err)
	}
	for name, f := range map[string][]string{"one twice, at both ends": append(slices.Clone(files), files...), "one less": files[2:], "others alone": {files[1], `<File Name="z" Size="0" LfhSize="31"/>`}} {
		if _, err := plan(t, with(f), nil); !errors.Is(err, ErrBlockMap) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := plan(t, build(t, crypto.SHA256, types, made{name: "app.msix", content: strings.Repeat("x", 100)}, made{name: entryBundle, content: strings.Replace(bundleManifest(100), `Offset="0"`, `Offset="38"`, 1)}), nil); err != nil {
		t.Errorf("a package of a bundle in the block map: %v", err)
	}
	if _, err := plan(t, build(t, crypto.SHA256, types, made{name: "a%62", content: "x"}, made{name: "ab", content: "x"}, made{name: entryManifest, content: manifest(publisher)}), nil); err == nil {
		t.Error("two ways to write one name are planned")
	}
	// A directory that claims much takes no memory.
	large := build(t, crypto.SHA256, types, made{name: "zeros", content: strings.Repeat("\x00", 64<<20), deflate: true, unmapped: true}, made{name: entryManifest, content: manifest(publisher)})
	if _, err := plan(t, large, nil); !errors.Is(err, ErrBlockMap) || !strings.Contains(err.Error(), "digests of") {
		t.Errorf("more digests than text: %v", err)
	}
}

// A block map that does not fit the contents is neither signed nor, were it signed,
// accepted: Windows checks it when the program runs, long after it was installed.
func TestBlockMapMismatch(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 3*blockSize/16) + "end"
	file := made{name: "a.txt", content: long}
	good := build(t, crypto.SHA256, types, file, made{name: entryManifest, content: manifest(publisher)})
	if _, err := plan(t, good, nil); err != nil {
		t.Fatal(err)
	}
	z, err := zipfile.Open(format.BytesArtifact("a", good), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := z.Content(z.Index(entryBlockMap), maxText)
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, replacement string) []byte {
		t.Helper()
		if !bytes.Contains(text, []byte(old)) {
			t.Fatalf("%q is not in the block map", old)
		}
		return pack(t, file, made{name: entryManifest, content: manifest(publisher)},
			made{name: entryBlockMap, content: strings.Replace(string(text), old, replacement, 1)}, made{name: entryTypes, content: types})
	}
	first, last := base64sum(long[:blockSize]), base64sum("end")
	for name, b := range map[string][]byte{
		"another first block":         with(first, base64sum("x")),
		"another last block":          with(last, base64sum("x")),
		"a block is missing":          with(`<Block Hash="`+last+`"/>`, ""),
		"a block too many":            with(`<Block Hash="`+last+`"/>`, `<Block Hash="`+last+`"/><Block Hash="`+last+`"/>`),
		"another size":                with(fmt.Sprintf(`Size="%d"`, len(long)), fmt.Sprintf(`Size="%d"`, len(long)-1)),
		"another header":              with(`LfhSize="35"`, `LfhSize="36"`),
		"another name":                with(`Name="a.txt"`, `Name="b.txt"`),
		"a file twice":                with(`<File Name="a.txt"`, `<File Name="a.txt" Size="0" LfhSize="35"/><File Name="a.txt"`),
		"a file that is not there":    with(`<File Name="a.txt"`, `<File Name="b.txt" Size="0" LfhSize="35"/><File Name="a.txt"`),
		"the content types":           with(`<File Name="a.txt"`, `<File Name="[Content_Types].xml" Size="0" LfhSize="49"/><File Name="a.txt"`),
		"a weak hash":                 with("http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2000/09/xmldsig#sha1"),
		"a size of one block alone":   with(`<Block Hash="`+first+`"`, `<Block Size="1" Hash="`+first+`"`),
		"an element of another world": with(`<File Name="a.txt"`, `<Other/><File Name="a.txt"`),
		"not base64":                  with(first, "!"+first[1:]),
		"a document type":             with("<BlockMap", "<!DOCTYPE BlockMap []><BlockMap"),
		"cut off":                     with("</BlockMap>", ""),
		"an unlisted file": pack(t, file, made{name: "extra", content: "x"}, made{name: entryManifest, content: manifest(publisher)},
			made{name: entryBlockMap, content: string(text)}, made{name: entryTypes, content: types}),
		"no sizes of compressed blocks": pack(t, made{name: "a.txt", content: long, deflate: true}, made{name: entryManifest, content: manifest(publisher)},
			made{name: entryBlockMap, content: string(text)}, made{name: entryTypes, content: types}),
	} {
		_, err := plan(t, b, nil)
		if err == nil || !errors.Is(err, ErrBlockMap) && !errors.Is(err, opc.ErrMalformed) {
			t.Errorf("%s: planned: %v", name, err)
		}
	}
}

func TestPublisher(t *testing.T) {
	name := func(n pkix.Name) *x509.Certificate {
		return formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.Subject = n }).Chain[0]
	}
	acme := name(pkix.Name{CommonName: "Acme", Organization: []string{"Acme, Inc."}, Country: []string{"US"}})
	multi := name(pkix.Name{Organization: []string{"b", "a"}, CommonName: "x"}) // Go makes one part of several values
	for _, c := range []struct {
		publisher string
		cert      *x509.Certificate
		ok        bool
	}{
		{`CN=Acme, O="Acme, Inc.", C=US`, acme, true},
		{`cn = Acme,O="Acme, Inc." ; OID.2.5.4.6=US`, acme, true},
		{`C=US, O="Acme, Inc.", CN=Acme`, acme, false}, // the other way round
		{`CN=Acme, O="Acme, Inc."`, acme, false},
		{`CN=Acme, O="Acme, Inc.", C=US, L=x`, acme, false},
		{`CN=acme, O="Acme, Inc.", C=US`, acme, false},
		{`CN=x, O=a+O=b`, multi, true},
		{`CN=x, O=a, O=b`, multi, false},
		{``, acme, false},
		{`Acme`, acme, false},
		{`CN=Acme,`, acme, false},
		{`CN="Acme`, acme, false},
		{`CN=Acme#x`, acme, false},
		{`WHAT=Acme`, acme, false},
		{`OID.2.x=Acme`, acme, false},
	} {
		if err := checkPublisher(c.publisher, c.cert); (err == nil) != c.ok {
			t.Errorf("%q and %q: %v", c.publisher, c.cert.Subject, err)
		}
	}
	b := build(t, crypto.SHA256, types, made{name: entryManifest, content: manifest("CN=Somebody")})
	if _, err := trySeal(t, signer(t, sigalg.P256), b, nil); !errors.Is(err, ErrPublisher) {
		t.Errorf("somebody else's package: %v", err)
	}
}

// Archives that leave readers a choice, or are no packages.
func TestRefused(t *testing.T) {
	m := made{name: entryManifest, content: manifest(publisher)}
	signed := seal(t, signer(t, sigalg.P256), app(t, "x"), nil)
	z, err := zipfile.Open(format.BytesArtifact("a", signed), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := z.Edit()
	e.Back(zipfile.File{Name: "after.txt", Content: []byte("x")})
	r, err := e.Apply()
	if err != nil {
		t.Fatal(err)
	}
	added, err := r.Patch.Bytes(format.BytesArtifact("a", signed))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"a file after the signature":      added,
		"nothing":                         {},
		"no manifest":                     build(t, crypto.SHA256, types, made{name: "a", content: "b"}),
		"both manifests":                  build(t, crypto.SHA256, types, m, made{name: entryBundle, content: "<Bundle/>"}),
		"a manifest in other letters":     build(t, crypto.SHA256, types, m, made{name: "appxmanifest.xml", content: manifest("CN=Evil")}),
		"a signature in other letters":    build(t, crypto.SHA256, types, m, made{name: "APPXSIGNATURE.P7X", content: "PKCX"}),
		"a signature without its mark":    pack(t, m, made{name: entryBlockMap}, made{name: entryTypes, content: types}, made{name: entrySignature, content: "PKCY0"}),
		"a signature of another type":     build(t, crypto.SHA256, strings.Replace(typed, signatureType, "text/plain", 1), m),
		"content types that are none":     build(t, crypto.SHA256, "<Other></Other>", m),
		"empty content types":             build(t, crypto.SHA256, "<Types/>", m),
		"two identities":                  build(t, crypto.SHA256, types, made{name: entryManifest, content: strings.Replace(manifest(publisher), "<Properties>", `<Identity Name="b" Publisher="CN=b" Version="1"/><Properties>`, 1)}),
		"an entity of one's own":          build(t, crypto.SHA256, types, made{name: entryManifest, content: strings.Replace(manifest(publisher), "Test.App", "&evil;", 1)}),
		"no version":                      build(t, crypto.SHA256, types, made{name: entryManifest, content: strings.Replace(manifest(publisher), `Version="1.2.3.0"`, "", 1)}),
		"a bundle's package is elsewhere": bundle(t, []byte("x"), 1),
	} {
		if _, err := plan(t, b, format.Params{"existing": "replace"}); err == nil {
			t.Errorf("%s: planned", name)
		}
	}
	if err := verify(t, added, signer(t, sigalg.P256)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a file after the signature: %v", err)
	}
}

// Signatures beside each other, stamped, taken off again one by one.
func TestSeveral(t *testing.T) {
	one, two := signer(t, sigalg.P256), signer(t, sigalg.RSA3072)
	b := app(t, "x")
	first := seal(t, one, b, nil)
	both := seal(t, two, first, nil)
	trust := one.Trust()
	trust.Roots.AddCert(two.Root.Root)
	trust.TimestampRoots = trust.Roots
	a := format.BytesArtifact("a.msix", both)
	targets, err := Format{}.Unstamped(t.Context(), a, nil)
	if err != nil || len(targets) != 2 {
		t.Fatalf("%v, %v", targets, err)
	}
	patch, err := Format{}.Stamp(t.Context(), a, nil, targets[1], two.Timestamp(t, targets[1].Message, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	stamped, err := patch.Bytes(a)
	if err != nil {
		t.Fatal(err)
	}
	a = format.BytesArtifact("a.msix", stamped)
	r, err := Format{}.Verify(t.Context(), a, trust)
	if err != nil || len(r.Signatures) != 2 || r.Signatures[1].Time.IsZero() || r.Signatures[0].Time != r.Signatures[0].Time.UTC() {
		t.Fatalf("%+v, %v", r, err)
	}
	if patch, err = (Format{}).Remove(t.Context(), a, 1); err != nil {
		t.Fatal(err)
	}
	alone, err := patch.Bytes(a)
	if err != nil || !bytes.Equal(alone, first) {
		t.Errorf("the second taken off: %v", err)
	}
	var names []string
	if err := (Format{}).List(t.Context(), a, func(e format.Entry) error { names = append(names, e.Name); return nil }); err != nil || !slices.Contains(names, "c.txt") {
		t.Errorf("%v, %v", names, err)
	}
}

// A larger package is read once.
func TestReads(t *testing.T) {
	content := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(content)
	formattest.Reads(t, Format{}, format.BytesArtifact("a.msix", app(t, string(content))), nil)
}

func TestDetect(t *testing.T) {
	for _, b := range [][]byte{app(t, "x"), bundle(t, []byte("x"), 0), sample(t)} {
		if !(Format{}).Detect(format.BytesArtifact("x", b)) {
			t.Error("a package is not detected")
		}
	}
	if (Format{}).Detect(format.BytesArtifact("a.msix", pack(t, made{name: "a"}))) {
		t.Error("an archive is detected")
	}
}

// What is planned can be signed, and then verifies; nothing else does.
func FuzzPlan(f *testing.F) {
	s := signer(f, sigalg.P256)
	signed := seal(f, s, app(f, "one"), nil)
	for _, b := range [][]byte{app(f, "one"), bundle(f, []byte("one"), 0), signed, withCode(f, "one")} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if verify(t, b, s) == nil {
			got, err := Format{}.Inspect(t.Context(), format.BytesArtifact("a", b))
			want, err2 := Format{}.Inspect(t.Context(), format.BytesArtifact("a", signed))
			if err != nil || err2 != nil || !bytes.Equal(got.Signatures[0].Content, want.Signatures[0].Content) {
				t.Error("a new file verifies")
			}
		}
		if _, err := plan(t, b, format.Params{"existing": "replace"}); err != nil {
			return
		}
		out, err := trySeal(t, s, b, format.Params{"existing": "replace"})
		if errors.Is(err, ErrPublisher) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(t, out, s); err != nil {
			t.Fatal(err)
		}
	})
}

// What gets a block map anew has one that fits.
func FuzzRebuild(f *testing.F) {
	s := signer(f, sigalg.P256)
	for _, b := range [][]byte{unmapped(f, "one"), app(f, "one"), withCode(f, "one"), bundle(f, []byte("one"), 0), seal(f, s, withCode(f, "two"), nil)} {
		f.Add(b)
	}
	rebuild := format.Params{"existing": "replace", "block-map": "rebuild"}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := plan(t, b, rebuild); err != nil {
			return
		}
		out, err := trySeal(t, s, b, rebuild)
		if errors.Is(err, ErrPublisher) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(t, out, s); err != nil {
			t.Fatal(err)
		}
		if _, err := plan(t, out, nil); err != nil {
			t.Fatal(err)
		}
	})
}
