package apk

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

// edit changes the signing block of a package and corrects what counts from it.
func edit(t testing.TB, b []byte, change func([]pair) []pair) []byte {
	t.Helper()
	r, err := open(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	var block []byte
	if pairs := change(r.pairs); pairs != nil {
		block = encodeBlock(pairs)
	}
	end := endRecord(len(r.Entries), int64(len(r.RawDirectory())), r.End+int64(len(block)), r.Comment)
	return bytes.Join([][]byte{b[:r.End], block, []byte(r.RawDirectory()), end}, nil)
}

func without(id uint32) func([]pair) []pair {
	return func(ps []pair) (out []pair) {
		for _, p := range ps {
			if p.id != id {
				out = append(out, p)
			}
		}
		return out
	}
}

// A stripped v2 or v3 block: a signature that stays says so.
func TestStrippedBlocks(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	v1 := seal(t, s, build(t, old), nil)
	v2 := seal(t, s, build(t, modern), nil)
	all := func([]pair) []pair { return nil }
	for what, b := range map[string][]byte{
		"v3 of v2 and v3":     edit(t, v2, without(idV3)),
		"v2 of three":         edit(t, v1, without(idV2)),
		"v3 of three":         edit(t, v1, without(idV3)),
		"the block, v1 stays": edit(t, v1, all),
	} {
		if err := tryVerify(t, b, s.Trust()); !errors.Is(err, ErrStripped) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := tryVerify(t, edit(t, v2, all), s.Trust()); !errors.Is(err, format.ErrUnsigned) {
		t.Errorf("no signature: %v", err)
	}
	// Newer packages have scheme v2: v1 alone is not enough, however right it is.
	if err := tryVerify(t, edit(t, seal(t, s, build(t, axml{pkg: "a", code: 1, min: 21, target: 30}), nil), all), s.Trust()); err == nil {
		t.Error("v1 alone for platform version 30")
	}
}

// Content that was changed after v2 signed it, every way that leaves an archive.
func TestContentChangedAfterV2(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := seal(t, s, build(t, modern, "assets/a", noise(chunkSize+5), "assets/b", "text"), nil)
	r, err := open(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{40, chunkSize - 1, chunkSize, r.End - 1, r.Directory + 20, r.Size - 1} {
		c := bytes.Clone(b)
		c[at] ^= 1
		if err := tryVerify(t, c, s.Trust()); err == nil {
			t.Errorf("byte %d changed: accepted", at)
		}
	}
	// A file added where directory and end record are right again.
	e := r.Edit()
	e.Back(zipfile.File{Name: "classes2.dex", Content: []byte("evil")})
	x, err := e.Apply()
	if err != nil {
		t.Fatal(err)
	}
	c, err := x.Patch.Bytes(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := tryVerify(t, c, s.Trust()); !errors.Is(err, ErrDigest) {
		t.Errorf("a class added: %v", err)
	}
	// Bytes before the signing block, in no entry.
	end := endRecord(len(r.Entries), int64(len(r.RawDirectory())), r.Directory+4, "")
	c = bytes.Join([][]byte{b[:r.End], []byte("evil"), b[r.End:r.Directory], []byte(r.RawDirectory()), end}, nil)
	if err := tryVerify(t, c, s.Trust()); err == nil {
		t.Error("bytes before the signing block: accepted")
	}
}

// A package with scheme v3 alone verifies, and says for which platforms.
func TestV3Alone(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := edit(t, seal(t, s, build(t, modern), nil), without(idV2))
	r, err := Format{}.Verify(t.Context(), artifact(b), s.Trust())
	if err != nil || len(r.Signatures) != 1 || r.Signatures[0].Label != "v3" || r.Signatures[0].Facts[0].Value != "28 to all later ones" {
		t.Fatalf("%+v, %v", r, err)
	}
}

// Platforms before 28 do not know scheme v3: without v2 they look at v1, which says
// that v2 was there.
func TestV2StrippedOffV1AndV3(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	good := seal(t, s, build(t, modern), format.Params{"v1": "true"})
	if err := tryVerify(t, good, s.Trust()); err != nil {
		t.Fatal(err)
	}
	if err := tryVerify(t, edit(t, good, without(idV2)), s.Trust()); !errors.Is(err, ErrStripped) {
		t.Errorf("scheme v2 is gone: %v", err)
	}
}

// Only v1 is changed: newer platforms would not notice, we do.
func TestOnlyV1Changed(t *testing.T) {
	s, other := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P256)
	b := seal(t, s, build(t, old), nil)
	theirs := seal(t, other, build(t, old), nil)
	r, err := open(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	q, err := open(artifact(theirs))
	if err != nil {
		t.Fatal(err)
	}
	// The blocks of another signer beside our JAR signature: both are right on their own.
	end := endRecord(len(r.Entries), int64(len(r.RawDirectory())), r.Directory, "")
	mixed := bytes.Join([][]byte{b[:r.End], theirs[q.End:q.Directory], []byte(r.RawDirectory()), end}, nil)
	tr := s.Trust()
	tr.Keys = append(tr.Keys, other.Public)
	if err := tryVerify(t, mixed, tr); err == nil {
		t.Error("two signers, one for each scheme: accepted")
	}
}

// What a signing block may not be.
func TestSigningBlocks(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := seal(t, s, build(t, modern), nil)
	twice := func(ps []pair) []pair { return append(ps, ps[0]) }
	padding := func(fill byte) func([]pair) []pair {
		return func(ps []pair) []pair { return append(ps, pair{idPadding, []byte{0, fill, 0}}) }
	}
	for what, c := range map[string][]byte{
		"a scheme twice":  edit(t, b, twice),
		"filled padding":  edit(t, b, padding(1)),
		"no signers":      edit(t, b, func(ps []pair) []pair { return append(without(idV2)(ps), pair{idV2, prefix(nil)}) }),
		"signer cut off":  edit(t, b, func(ps []pair) []pair { ps[0].value = ps[0].value[:len(ps[0].value)-1]; return ps }),
		"bytes after all": edit(t, b, func(ps []pair) []pair { ps[0].value = append(bytes.Clone(ps[0].value), 0); return ps }),
		"v3 as v3.1":      edit(t, b, func(ps []pair) []pair { ps[1].id = idV31; return ps }),
	} {
		if err := tryVerify(t, c, s.Trust()); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for what, c := range map[string][]byte{
		"padding": edit(t, b, padding(0)),
		"unknown": edit(t, b, func(ps []pair) []pair { return append(ps, pair{0x12345678, []byte("x")}) }),
	} {
		r, err := Format{}.Verify(t.Context(), artifact(c), s.Trust())
		if err != nil || (what == "unknown") != (len(r.Signatures[0].Open) == 1) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}

// A lineage holds only when each key signed for the next, and ends with the signer.
func TestLineages(t *testing.T) {
	one, two, three := newParty(t, sigalg.RSA3072, sigalg.RSAPKCS1SHA256), newParty(t, sigalg.P256, sigalg.ECDSASHA256), newParty(t, sigalg.P256, sigalg.ECDSASHA256)
	make := func(signers []*party, certs []*party) []byte {
		var out []byte
		var alg uint32
		for i, p := range certs {
			signed := append(prefix(p.Certificate.Raw), le.AppendUint32(nil, alg)...)
			var sig []byte
			if i > 0 {
				sig = signers[i-1].Sign(t, signers[i-1].id.Scheme, signed)
			}
			alg = algorithmOf(p.id.Scheme)
			node := append(prefix(signed), le.AppendUint32(le.AppendUint32(nil, 23), alg)...)
			out = append(out, prefix(append(node, prefix(sig)...))...)
		}
		return append(le.AppendUint32(nil, 1), out...)
	}
	good := make([]*party{one, two}, []*party{one, two, three})
	l, err := parseLineage(good)
	if err != nil || len(l) != 3 || !bytes.Equal(l.encode(), good) {
		t.Fatal(err)
	}
	bad := map[string][]byte{
		"signed by another":  make([]*party{three, two}, []*party{one, two, three}),
		"signed by oneself":  make([]*party{two}, []*party{one, two}),
		"one twice":          make([]*party{one, two}, []*party{one, two, one}),
		"empty":              le.AppendUint32(nil, 1),
		"of another version": append([]byte{2}, good[1:]...),
		"cut off":            good[:len(good)-1],
		"longer":             append(bytes.Clone(good), 0),
	}
	for what, b := range bad {
		if _, err := parseLineage(b); !errors.Is(err, ErrLineage) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range good {
		c := bytes.Clone(good)
		c[i] ^= 1
		if l, err := parseLineage(c); err == nil && bytes.Equal(l.encode(), good) {
			t.Errorf("byte %d changed: the same lineage", i)
		}
	}
	option := func(b []byte) string {
		return base64.StdEncoding.EncodeToString(append(le.AppendUint32(le.AppendUint32(nil, lineageMagic), 1), prefix(b)...))
	}
	apk := build(t, modern)
	for what, c := range map[string]struct {
		params  format.Params
		parties []*party
	}{
		"newest does not sign":         {format.Params{"lineage": option(good)}, []*party{one}},
		"one from the middle":          {format.Params{"lineage": option(good)}, []*party{three, two}},
		"nobody for older platforms":   {format.Params{"lineage": option(good)}, []*party{three}},
		"a stranger":                   {format.Params{"lineage": option(make([]*party{one}, []*party{one, two}))}, []*party{three, one}},
		"two keys without lineage":     {nil, []*party{two, one}},
		"of one key":                   {format.Params{"lineage": option(make(nil, []*party{one}))}, []*party{one}},
		"keys of different digests":    {format.Params{"lineage": option(good), "digest": "sha512"}, []*party{three, one}},
		"a bad one":                    {format.Params{"lineage": option(bad["signed by another"])}, []*party{three, one}},
		"JAR signature by the new key": {format.Params{"lineage": option(good), "v1": "true", "min-sdk": "28"}, []*party{three}},
	} {
		if _, err := signWith(t, apk, c.params, c.parties...); err == nil {
			t.Errorf("%s: signed", what)
		}
	}
	b, err := signWith(t, apk, format.Params{"lineage": option(good)}, three, one)
	if err != nil {
		t.Fatal(err)
	}
	if err := tryVerify(t, b, trustIn(one, three)); err != nil {
		t.Error(err)
	}
	if err := tryVerify(t, b, trustIn(one)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a lineage makes no key trusted: %v", err)
	}
	for what, id := range map[string]uint32{"v3.1 stripped": idV31, "v3 stripped": idV3} {
		if err := tryVerify(t, edit(t, b, without(id)), trustIn(one, three)); !errors.Is(err, ErrStripped) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Nothing moves: what was aligned stays so, and a JAR signature in the middle leaves
// room behind.
func TestAlignment(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for _, where := range []string{"first", "middle", "last"} {
		b := signedAt(t, where)
		before, err := open(artifact(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trySeal(t, s, b, nil); !errors.Is(err, ErrSigned) {
			t.Errorf("%s: signed again unasked: %v", where, err)
		}
		for _, v1 := range []string{"true", "false"} {
			c := seal(t, s, b, format.Params{"existing": "replace", "v1": v1})
			after, err := open(artifact(c))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"lib/x86/a.so", "assets/b", "classes.dex"} {
				i, j := before.Index(name), after.Index(name)
				if before.Entries[i].Offset != after.Entries[j].Offset {
					t.Errorf("%s: %s moved", where, name)
				}
			}
			if after.Index("META-INF/X.SF") >= 0 {
				t.Errorf("%s: the old signature is there", where)
			}
			if err := tryVerify(t, c, s.Trust()); err != nil {
				t.Errorf("%s, v1=%s: %v", where, v1, err)
			}
		}
	}
}

func TestManifest(t *testing.T) {
	// The platform would read other things than we show.
	for _, attack := range []string{"package under a namespace", "package that is typed as another", "package twice", "version code twice", "ends before it begins"} {
		x := modern
		x.attack = attack
		if m, err := parseManifest(x.encode()); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", attack, m, err)
		}
	}
	m, err := parseManifest(modern.encode())
	if err != nil || !reflect.DeepEqual(m, &manifest{Package: "com.example.app", VersionName: "1.2", VersionCode: 7, MinSDK: 24, TargetSDK: 34}) {
		t.Errorf("%+v, %v", m, err)
	}
	m, err = parseManifest(axml{pkg: "a", debuggable: 1, sandbox: 2}.encode())
	if err != nil || m.MinSDK != 1 || m.TargetSDK != 1 || !m.Debuggable || m.Sandbox != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := parseManifest([]byte("<manifest/>")); !errors.Is(err, ErrMalformed) {
		t.Errorf("text: %v", err)
	}
	for _, params := range []format.Params{{"v1": "true", "min-sdk": "17"}, {"digest": "sha512"}} {
		if _, err := trySeal(t, formattest.Identity(t, sigalg.P256), build(t, old), params); err == nil {
			t.Errorf("%v: signed", params)
		}
	}
	for _, kind := range []sigalg.Key{sigalg.Ed25519, sigalg.P384, sigalg.MLDSA65} {
		if _, err := trySeal(t, formattest.Identity(t, kind), build(t, modern), nil); err == nil {
			t.Errorf("%s: signed", kind)
		}
	}
	if (Format{}).Detect(artifact(build(t, modern))) != true || (Format{}).Detect(artifact([]byte("PK\x03\x04"))) {
		t.Error("detect")
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, Format{}, artifact(build(t, modern, "a", noise(6<<20))), nil)
}

// Digests of chunks that are finished later are those of the whole, wherever the border is.
func TestSections(t *testing.T) {
	h := sigalg.ECDSASHA256.Hash()
	all := []byte(noise(3*chunkSize + 17))
	for _, at := range []int{0, 1, 63, 64, chunkSize - 1, chunkSize, chunkSize + 1, 2*chunkSize + 100, 3 * chunkSize, len(all) - 1, len(all)} {
		c := newChunker(int64(at), h)
		_, _ = c.Write(all[:at])
		s, err := c.finish(int64(len(all) - at))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s[0].finish(h, all[at:])
		if err != nil || !bytes.Equal(got, chunksOf(h, all)) {
			t.Errorf("border at %d: %v", at, err)
		}
	}
	// The state of a hash that another number of bytes went into.
	state := func(n int) []byte {
		c := newChunker(int64(n), h)
		_, _ = c.Write(all[:n])
		s, err := c.finish(1)
		if err != nil {
			t.Fatal(err)
		}
		return s[0].State
	}
	for what, s := range map[string]section{
		"state of more":   {Size: 5, Chunks: []byte{}, State: state(6)},
		"state of less":   {Size: chunkSize + 5, Chunks: make([]byte, 32), State: state(4)},
		"too few digests": {Size: chunkSize + 1, Chunks: make([]byte, 32)},
		"negative":        {Size: -1},
		"no state":        {Size: 5, Chunks: []byte{}, State: []byte("x")},
		"too large":       {Size: math.MaxInt64},
	} {
		if _, err := s.finish(h, []byte("x")); !errors.Is(err, ErrPlan) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestGoldenPlan(t *testing.T) {
	var got strings.Builder
	for _, m := range []axml{modern, old} {
		p, err := Format{}.Plan(t.Context(), artifact(build(t, m)), nil)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%x\n%v\n", enc, p.Facts)
	}
	path := filepath.Join("testdata", "plan.golden")
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want := readFile(t, path); string(want) != got.String() {
		t.Errorf("the plan is another:\n%s", got.String())
	}
}

// Nobody without a key makes a package that verifies: contents are those of a seed.
func FuzzVerify(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	known := map[string]bool{}
	for _, m := range []axml{modern, old} {
		b := build(f, m)
		f.Add(b)
		signed := seal(f, s, b, nil)
		f.Add(signed)
		r, err := Format{}.Verify(f.Context(), artifact(signed), s.Trust())
		if err != nil {
			f.Fatal(err)
		}
		for _, x := range r.Signatures {
			known[string(x.Content)] = true
		}
	}
	if len(known) < 3 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx := context.Background()
		if r, err := (Format{}).Verify(ctx, artifact(b), s.Trust()); err == nil {
			for _, x := range r.Signatures {
				if !known[string(x.Content)] {
					t.Errorf("a new package verifies")
				}
			}
		}
		_, _ = Format{}.Inspect(ctx, artifact(b))
		c, err := trySeal(t, s, b, format.Params{"existing": "replace", "min-sdk": "18"})
		if err != nil {
			return
		}
		if err := tryVerify(t, c, s.Trust()); err != nil {
			t.Fatal(err)
		}
	})
}

// What is parsed of a signer writes itself again.
func FuzzSigners(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	r, err := open(artifact(seal(f, s, build(f, modern), nil)))
	if err != nil {
		f.Fatal(err)
	}
	if len(r.pairs) != 2 {
		f.Fatal("no seeds")
	}
	f.Add(r.pairs[0].value, false)
	f.Add(r.pairs[1].value, true)
	f.Fuzz(func(t *testing.T, b []byte, v3 bool) {
		list, err := parseSigners(b, v3)
		if err == nil && !bytes.Equal(encodeSigners(v3, list...), b) {
			t.Errorf("%x is another when written again", b)
		}
		_, _ = parseLineage(b)
		_, _ = parseBlock(b)
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(modern.encode())
	f.Add(axml{pkg: "a", debuggable: 1}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseManifest(b); err == nil && (m.Package == "" || m.MinSDK < 0 || m.TargetSDK < 0) {
			t.Errorf("%+v", m)
		}
	})
}
