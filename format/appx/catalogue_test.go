package appx

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cat"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/hashstate"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Invariant 6, held against Visual Studio: the executables of its package have, as we
// digest them, the digests that its own catalogue has, and each stands in our list byte
// by byte as it stands there.
func TestCatalogueOfVisualStudio(t *testing.T) {
	real := entry(t, sample(t), entryIntegrity)
	theirs, err := cat.Read(format.BytesArtifact("a.cat", real))
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan(t, sample(t), format.Params{"existing": "replace", "code-integrity": "renew"})
	if err != nil {
		t.Fatal(err)
	}
	b := bodyOf(t, p)
	var want [][]byte
	for _, m := range theirs.Members {
		if m.Hash == crypto.SHA256 {
			want = append(want, m.Digest)
		}
	}
	if len(want) != 3 || !slices.EqualFunc(want, b.Making[0].Images, bytes.Equal) {
		t.Fatalf("digests %x: want %x", b.Making[0].Images, want)
	}
	list, err := cat.PackageList(crypto.SHA256, b.Making[0].Images, theirs.Made)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range want {
		at := bytes.Index(real, d) - 5 // the member's sequence, and the tag's header
		if n := 3 + int(real[at+2]); !bytes.Contains(list, real[at:at+n]) {
			t.Errorf("member %x: not as it stands there", d)
		}
	}
	// The list ends with its attribute, in 56 bytes.
	const system = "2\x00:\x006\x00.\x002\x00\x00\x00"
	if end := bytes.Index(real, []byte(system)) + len(system); !bytes.HasSuffix(list, real[end-56:end]) {
		t.Errorf("attribute %x: want %x", list[len(list)-56:], real[end-56:end])
	}
}

func bodyOf(t *testing.T, p *format.Plan) *body {
	t.Helper()
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		t.Fatal(err)
	}
	return &b
}

func fact(p []format.Fact, name string) string {
	for _, f := range p {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Which packages get a catalogue.
func TestCatalogueOptions(t *testing.T) {
	s := signer(t, sigalg.P256)
	with, without := withCode(t, "x"), app(t, "x")
	foreign := build(t, crypto.SHA256, types, made{name: "a.exe", content: program("x")}, made{name: entryIntegrity, content: "somebody's", unmapped: true}, made{name: entryManifest, content: manifest(publisher)})
	signed := seal(t, s, with, nil)
	for _, c := range []struct {
		name   string
		b      []byte
		params format.Params
		want   string
	}{
		{"executables", with, nil, integrityMade(2)},
		{"executables, keep", with, format.Params{"code-integrity": "keep"}, ""},
		{"none", without, nil, ""},
		{"none, renew", without, format.Params{"code-integrity": "renew"}, ""},
		{"somebody's", foreign, nil, integrityStays},
		{"somebody's, renew", foreign, format.Params{"code-integrity": "renew"}, integrityMade(1)},
		{"signed, beside it", signed, nil, integrityStays},
		{"signed, in its place", signed, format.Params{"existing": "replace"}, integrityMade(2)},
		{"signed, in its place, keep", signed, format.Params{"existing": "replace", "code-integrity": "keep"}, integrityStays},
		{"bundle", bundle(t, with, 0), format.Params{"code-integrity": "renew"}, ""},
	} {
		p, err := plan(t, c.b, c.params)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := fact(p.Facts, factIntegrity); got != c.want {
			t.Errorf("%s: fact %q: want %q", c.name, got, c.want)
		}
	}
	if _, err := plan(t, signed, format.Params{"code-integrity": "renew"}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a catalogue is renewed below a signature that stays: %v", err)
	}
	p, err := plan(t, with, nil)
	if err != nil || fact(p.Facts, "catalogued") != "b.dat" || fact(p.Facts, "uncatalogued") != "old.exe" {
		t.Errorf("facts %v, %v", p.Facts, err)
	}
	// Signed anew, or taken off and signed: the same content, and one catalogue.
	again := seal(t, signer(t, sigalg.P384), signed, format.Params{"existing": "replace"})
	if n := bytes.Count(again, []byte("PK\x01\x02")); n != bytes.Count(signed, []byte("PK\x01\x02")) {
		t.Errorf("%d files", n)
	}
	q, err := plan(t, signed, format.Params{"existing": "replace"})
	if err != nil || !bytes.Equal(q.Content, p.Content) {
		t.Errorf("signed it has content %x: want %x (%v)", q.Content, p.Content, err)
	}
	if q, err = plan(t, signed, nil); err != nil || !bytes.Equal(q.Content, p.Content) {
		t.Errorf("with its signature it has content %x: want %x (%v)", q.Content, p.Content, err)
	}
}

// planned is a package with code, and the plan of its signature.
func planned(t *testing.T) (*formattest.Signer, format.Artifact, *format.Plan) {
	t.Helper()
	a := format.BytesArtifact("a.msix", withCode(t, "x"))
	p, err := Format{}.Plan(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer(t, sigalg.P256), a, p
}

// Invariant 6: the keeper makes no catalogue but the one of the plan, and no states that
// lead elsewhere; Attach takes no other signatures.
func TestCatalogueForged(t *testing.T) {
	s, a, good := planned(t)
	for name, change := range map[string]func(b *body, p *format.Plan){
		"one executable more": func(b *body, p *format.Plan) {
			b.Making[0].Images = append(b.Making[0].Images, bytes.Repeat([]byte{255}, 32))
		},
		"one less":                     func(b *body, p *format.Plan) { b.Making[0].Images = b.Making[0].Images[:1] },
		"one twice":                    func(b *body, p *format.Plan) { b.Making[0].Images[1] = b.Making[0].Images[0] },
		"none":                         func(b *body, p *format.Plan) { b.Making[0].Images = [][]byte{} },
		"out of order":                 func(b *body, p *format.Plan) { slices.Reverse(b.Making[0].Images) },
		"a short digest":               func(b *body, p *format.Plan) { b.Making[0].Images[0] = b.Making[0].Images[0][1:] },
		"other entries":                func(b *body, p *format.Plan) { b.Making[0].Entries.Chain[0] ^= 1 },
		"another directory":            func(b *body, p *format.Plan) { b.Making[0].Directory.Chain[0] ^= 1 },
		"another count":                func(b *body, p *format.Plan) { b.Making[0].Count++ },
		"no entries":                   func(b *body, p *format.Plan) { b.Making[0].Count = 0 },
		"no end records":               func(b *body, p *format.Plan) { b.Making[0].Tail = []byte{} },
		"end records of another":       func(b *body, p *format.Plan) { b.Making[0].Tail[12] ^= 1 },
		"a state of nothing":           func(b *body, p *format.Plan) { b.Making[0].Entries = hashstate.State{} },
		"two catalogues":               func(b *body, p *format.Plan) { b.Making = append(b.Making, b.Making[0]) },
		"in a bundle":                  func(b *body, p *format.Plan) { b.Bundle = true; p.Facts[0].Value = "bundle" },
		"none is made":                 func(b *body, p *format.Plan) { b.Making = []making{} },
		"it was said that none is":     func(b *body, p *format.Plan) { setParam(p, optionIntegrity, "keep") },
		"below a signature that stays": func(b *body, p *format.Plan) { b.Existing = make([]byte, 32) },
		"a block map":                  func(b *body, p *format.Plan) { b.Map = []byte("<BlockMap/>") },
		"a block map that is wanted":   func(b *body, p *format.Plan) { setParam(p, optionBlockMap, "rebuild") },
		"parts without it":             func(b *body, p *format.Plan) { b.Bare = b.Parts[:2] },
		"the fact says another number": func(b *body, p *format.Plan) { setFact(p, factIntegrity, integrityMade(3)) },
		"the fact says that it stays":  func(b *body, p *format.Plan) { setFact(p, factIntegrity, integrityStays) },
		"no fact":                      func(b *body, p *format.Plan) { setFact(p, factIntegrity, "") },
	} {
		p, err := format.DecodePlan(encoded(t, good))
		if err != nil {
			t.Fatal(err)
		}
		b := bodyOf(t, p)
		change(b, p)
		if p.Body, err = format.Encode(b); err != nil {
			t.Fatal(err)
		}
		if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); err == nil || !errors.Is(err, authenticode.ErrPlan) {
			t.Errorf("%s: %v", name, err)
		}
	}
	sigs := formattest.SignAll(t, Format{}, good, s, formattest.At)
	if len(sigs) != 2 {
		t.Fatalf("%d signatures", len(sigs))
	}
	stamped := slices.Clone(sigs)
	stamped[0].Timestamp = s.Timestamp(t, sigs[0].Value, formattest.At)
	if _, err := (Format{}).Attach(t.Context(), a, good, s.Identity, formattest.At, stamped); !errors.Is(err, errStamped) {
		t.Errorf("a stamped catalogue: %v", err)
	}
	if _, err := (Format{}).Attach(t.Context(), a, good, s.Identity, formattest.At.Add(1e9), sigs); err == nil {
		t.Error("a catalogue of another time is attached")
	}
	if _, err := (Format{}).Attach(t.Context(), a, good, s.Identity, formattest.At, sigs[1:]); err == nil {
		t.Error("the package's signature alone is attached")
	}
	slices.Reverse(sigs)
	if _, err := (Format{}).Attach(t.Context(), a, good, s.Identity, formattest.At, sigs); err == nil {
		t.Error("signatures in another order are attached")
	}
}

func encoded(t *testing.T, p *format.Plan) []byte {
	t.Helper()
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func setParam(p *format.Plan, name, value string) {
	for i := range p.Params {
		if p.Params[i].Name == name {
			p.Params[i].Value = value
		}
	}
}

// setFact changes a fact, or takes it out.
func setFact(p *format.Plan, name, value string) {
	i := slices.IndexFunc(p.Facts, func(f format.Fact) bool { return f.Name == name })
	if p.Facts[i].Value = value; value == "" {
		p.Facts = slices.Delete(p.Facts, i, i+1)
	}
}

// Invariant 7: somebody who may sign packages of the publisher, and puts into one a
// catalogue of our making that another key signed, is found out.
func TestCatalogueOfAnother(t *testing.T) {
	one, two := signer(t, sigalg.P256), signer(t, sigalg.P256)
	b := seal(t, one, withCode(t, "x"), nil)
	// The signature of one goes, the catalogue stays; two signs the package as it is.
	swapped := seal(t, two, b, format.Params{"existing": "replace", "code-integrity": "keep"})
	trust := two.Trust()
	trust.Roots.AddCert(one.Root.Root)
	if _, err := (Format{}).Verify(t.Context(), format.BytesArtifact("a.msix", swapped), trust); !errors.Is(err, ErrIntegrity) {
		t.Errorf("the catalogue of another: %v", err)
	}
	// Beside the first signature, whose catalogue it is, a second one is fine.
	both := seal(t, two, b, nil)
	r, err := Format{}.Verify(t.Context(), format.BytesArtifact("a.msix", both), trust)
	if err != nil || len(r.Signatures) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Invariant 7: a plan that somebody forged has the keeper list executables that are not
// in the package, with the right number of them. Whoever verifies sees it.
func TestCatalogueOfOthers(t *testing.T) {
	s, a, p := planned(t)
	b := bodyOf(t, p)
	b.Making[0].Images[len(b.Making[0].Images)-1] = bytes.Repeat([]byte{255}, 32)
	var err error
	if p.Body, err = format.Encode(b); err != nil {
		t.Fatal(err)
	}
	patch, err := Format{}.Attach(t.Context(), a, p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Format{}).Verify(t.Context(), format.BytesArtifact("a.msix", formattest.Apply(t, a, patch)), s.Trust()); !errors.Is(err, ErrIntegrity) {
		t.Errorf("it verifies: %v", err)
	}
}

// Invariant 8: the package's timestamp stands for the catalogue too, when certificates
// have expired; without it both have.
func TestCatalogueLater(t *testing.T) {
	s := signer(t, sigalg.P256)
	b := seal(t, s, withCode(t, "x"), nil)
	a := format.BytesArtifact("a.msix", b)
	targets, err := Format{}.Unstamped(t.Context(), a, nil)
	if err != nil || len(targets) != 1 {
		t.Fatalf("%v, %v", targets, err)
	}
	patch, err := Format{}.Stamp(t.Context(), a, nil, targets[0], s.Timestamp(t, targets[0].Message, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	trust := s.Trust()
	trust.Now = s.Chain[0].NotAfter.Add(1e9)
	stamped := format.BytesArtifact("a.msix", formattest.Apply(t, a, patch))
	if _, err := (Format{}).Verify(t.Context(), stamped, trust); err != nil {
		t.Errorf("with a timestamp, later: %v", err)
	}
	if _, err := (Format{}).Verify(t.Context(), a, trust); err == nil {
		t.Error("without one, later: accepted")
	}
}

// What archivers make: a block map is made only where it is asked for, and Windows can
// read block by block what it says.
func TestRebuild(t *testing.T) {
	s := signer(t, sigalg.P256)
	rebuild := format.Params{"block-map": "rebuild"}
	long := strings.Repeat("0123456789abcdef", 3*blockSize/16) + "end"
	one := made{name: "a.txt", content: long, deflate: true}
	m := made{name: entryManifest, content: manifest(publisher)}
	for name, b := range map[string][]byte{
		"nothing of it":     unmapped(t, "x"),
		"types alone":       pack(t, m, made{name: entryTypes, content: types}),
		"a map that is not": pack(t, m, made{name: "x", content: long}, made{name: entryBlockMap, content: "<BlockMap/>"}, made{name: entryTypes, content: types, deflate: true}),
		"types of nothing":  build(t, crypto.SHA256, `<Types></Types>`, m, made{name: "a.b", content: "x"}, made{name: "c", content: "y"}),
		"one that is right": app(t, long),
		"a bundle":          pack(t, made{name: "app.msix", content: "x"}, made{name: entryBundle, content: strings.ReplaceAll(bundleManifest(1), "Offset=\"0\"", "Offset=\"38\"")}),
	} {
		signed := seal(t, s, b, rebuild)
		if err := verify(t, signed, s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		z, err := zipfile.Open(format.BytesArtifact("a", signed), zipfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseTypes(entry(t, signed, entryTypes))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range z.Entries {
			if want := partTypes[e.Name]; e.Name != entryTypes && (c.of(e.Name) == "" || want != "" && c.of(e.Name) != want) {
				t.Errorf("%s: %q has type %q", name, e.Name, c.of(e.Name))
			}
		}
		p, err := plan(t, signed, format.Params{"existing": "replace"})
		if err != nil {
			t.Errorf("%s: what was made does not fit: %v", name, err)
		} else if q, err := plan(t, b, rebuild); err != nil || !strings.HasPrefix(fact(q.Facts, factBlockMap), "made anew: ") || !bytes.Equal(q.Content, p.Content) {
			t.Errorf("%s: planned as %x, signed as %x: %v %v", name, q.Content, p.Content, q.Facts, err)
		}
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"compressed in one go": {pack(t, one, m), errOneStream},
		"a folder":             {pack(t, made{name: "a/"}, m), ErrMalformed},
		"below a signature":    {seal(t, s, app(t, "x"), nil), ErrMalformed},
		"a type that is wrong": {pack(t, m, made{name: entryTypes, content: strings.Replace(types, typeBlockMap, "text/plain", 1)}), ErrMalformed},
		"a bundle that moves":  {pack(t, made{name: entryTypes, content: types}, made{name: "app.msix", content: "x"}, made{name: entryBundle, content: strings.ReplaceAll(bundleManifest(1), "Offset=\"0\"", "Offset=\"1\"")}), nil},
	} {
		if _, err := plan(t, c.b, rebuild); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := plan(t, unmapped(t, "x"), nil); !errors.Is(err, ErrNotPackage) || !strings.Contains(err.Error(), "block-map=rebuild") {
		t.Errorf("without the option: %v", err)
	}
	// What was endorsed is what is written: another map in the plan is none.
	p, err := plan(t, unmapped(t, "x"), rebuild)
	if err != nil {
		t.Fatal(err)
	}
	b := bodyOf(t, p)
	b.Map = bytes.Replace(b.Map, []byte("noending"), []byte("nOending"), 1)
	if p.Body, err = format.Encode(b); err != nil {
		t.Fatal(err)
	}
	if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); !errors.Is(err, authenticode.ErrPlan) {
		t.Errorf("another block map: %v", err)
	}
}

// The sizes of blocks are those that Visual Studio's packager wrote.
func TestBlockSizes(t *testing.T) {
	b := sample(t)
	p, err := plan(t, b, format.Params{"block-map": "rebuild", "existing": "replace"})
	if err != nil {
		t.Fatal(err)
	}
	text := bodyOf(t, p).Map
	old, now := &counter{seen: map[string]*mapped{}}, &counter{seen: map[string]*mapped{}}
	if _, err := parseBlockMap(entry(t, b, entryBlockMap), old); err != nil {
		t.Fatal(err)
	}
	if _, err := parseBlockMap(text, now); err != nil || len(now.seen) != len(old.seen) {
		t.Fatalf("%d files: %v", len(now.seen), err)
	}
	for n, f := range old.seen {
		g := now.seen[n]
		if g == nil || g.header != f.header || g.packed != f.packed || g.sizes != f.sizes || !bytes.Equal(g.digests, f.digests) {
			t.Errorf("%s: %+v: want %+v", n, g, f)
		}
	}
	if was := entry(t, b, entryBlockMap); !bytes.HasSuffix(was, text[bytes.Index(text, []byte("<BlockMap ")):]) {
		t.Error("the text is another one")
	}
}
