package macho

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func mustParse(tb testing.TB, b []byte) *file {
	tb.Helper()
	f, err := parse(artifact(b))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func twoSlices(seed byte) []byte {
	return universal(32, 12, recipe{code: 6000, pad: 32, seed: seed}.make(), recipe{cpu: arm64, code: 9000, pad: 16}.make())
}

// Invariant 3: signers that sign the first slice and leave the others as they were.
func TestASliceLeftUnsignedIsRefused(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for _, width := range []uint{32, 64} {
		both := universal(width, 12, recipe{code: 6000, pad: 32}.make(), recipe{cpu: arm64, code: 9000, pad: 16}.make())
		signed := seal(t, both, s, nil, false)
		if _, err := verify(t, signed, s.Trust()); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"x86_64", "arm64"} {
			patch, err := Format{}.Remove(t.Context(), artifact(signed), i)
			if err != nil {
				t.Fatal(err)
			}
			one := apply(t, signed, patch)
			if _, err := verify(t, one, s.Trust()); !errors.Is(err, format.ErrUnsigned) || !strings.Contains(err.Error(), want) {
				t.Errorf("%d bits: slice %s is not signed: %v", width, want, err)
			}
			if r, err := (Format{}).Inspect(t.Context(), artifact(one)); err != nil || len(r.Signatures) != 1 {
				t.Errorf("inspect: %+v, %v", r, err)
			}
		}
	}
}

// A linker's signature on one slice is nobody's.
func TestALinkersSignatureIsNobodys(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	linked := linkerSigned(seal(t, recipe{cpu: arm64, code: 100, pad: 32}.make(), s, nil, false))
	if _, err := verify(t, linked, s.Trust()); !errors.Is(err, codesign.ErrAdHoc) {
		t.Errorf("%v", err)
	}
	signed := seal(t, linked, s, nil, false)
	if _, err := verify(t, signed, s.Trust()); err != nil {
		t.Error(err)
	}
}

// Invariant 6.
func TestASignatureIsReplacedOnlyWhenAsked(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	signed := seal(t, twoSlices(0), s, nil, true)
	if _, err := (Format{}).Plan(t.Context(), artifact(signed), format.Params{"identifier": "x"}); !errors.Is(err, ErrSigned) {
		t.Errorf("%v", err)
	}
	other := formattest.Identity(t, sigalg.P384)
	again := seal(t, signed, other, format.Params{"replace": "true", "digest": "sha384", "page-size": "16384"}, false)
	r, err := verify(t, again, other.Trust())
	if err != nil || len(r.Signatures) != 2 || r.Signatures[0].Digest != "sha384" {
		t.Fatalf("%+v, %v", r, err)
	}
	if f := r.Signatures[0].Facts[0]; f.Value != "com.example.program" {
		t.Errorf("identifier of the signature that was there: %v", f)
	}
	plan, err := Format{}.Plan(t.Context(), artifact(signed), format.Params{"replace": "true"})
	if err != nil || !slices.Contains(plan.Facts, format.Fact{Name: "replaces signature of", Value: s.Chain[0].Subject.String()}) {
		t.Errorf("%v, %v", plan.Facts, err)
	}
}

// sealCode signs a code that Plan would not make, and puts it into the file.
func sealCode(t *testing.T, signed []byte, s *formattest.Signer, change func(c *codesign.Code)) []byte {
	t.Helper()
	h, err := format.HashByName("sha256")
	if err != nil {
		t.Fatal(err)
	}
	p := mustParse(t, signed).slices[0]
	old, err := p.readSignature(artifact(signed))
	if err != nil {
		t.Fatal(err)
	}
	d := old.Directories[0]
	c := codesign.Code{Identifier: d.Identifier, PageSize: d.PageSize, Limit: d.Limit, Slots: d.Slots, Space: p.signature.size}
	change(&c)
	a, err := c.Assemble(h, s.Identity, formattest.At)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.Finish(format.Signature{Value: s.Sign(t, a.Message)})
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(signed)
	copy(out[p.signature.off:], b)
	return out
}

// Invariant 4: a good signature over the first pages alone leaves the rest to anybody.
func TestCodeBehindTheLimitIsRefused(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	signed := seal(t, recipe{code: 20000, pad: 32}.make(), s, nil, false)
	if _, err := verify(t, sealCode(t, signed, s, func(*codesign.Code) {}), s.Trust()); err != nil {
		t.Fatal(err)
	}
	short := sealCode(t, signed, s, func(c *codesign.Code) { c.Limit, c.Slots = 8192, c.Slots[:64] })
	if _, err := verify(t, short, s.Trust()); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "8192 bytes are hashed") {
		t.Errorf("%v", err)
	}
}

// A digest for Info.plist in the program must be of the one that is there.
func TestInfoInTheProgramIsBound(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	signed := seal(t, recipe{code: 64, pad: 32, info: smallInfo}.make(), s, format.Params{"replace": "true"}, false)
	r, err := verify(t, signed, s.Trust())
	if err != nil || r.Signatures[0].Facts[0].Value != "com.example.info" {
		t.Fatalf("%+v, %v", r, err)
	}
	wrong := sealCode(t, signed, s, func(c *codesign.Code) { c.Info = bytes.Repeat([]byte{7}, 32) })
	if _, err := verify(t, wrong, s.Trust()); !errors.Is(err, codesign.ErrDigest) {
		t.Errorf("%v", err)
	}
	outside := sealCode(t, seal(t, recipe{code: 64, pad: 32}.make(), s, nil, false), s, func(c *codesign.Code) { c.Info = bytes.Repeat([]byte{7}, 32) })
	r, err = verify(t, outside, s.Trust())
	if err != nil || !slices.ContainsFunc(r.Signatures[0].Open, func(s string) bool { return strings.HasPrefix(s, "Info.plist") }) {
		t.Errorf("an Info.plist that is elsewhere: %v, %v", r, err)
	}
	container := sealCode(t, signed, s, func(c *codesign.Code) { c.Container = bytes.Repeat([]byte{7}, 32) })
	if _, err := verify(t, container, s.Trust()); !errors.Is(err, codesign.ErrMalformed) {
		t.Errorf("slot of a container: %v", err)
	}
}

func TestRefused(t *testing.T) {
	good := recipe{code: 200, pad: 32}.make()
	segment := 32 + 72 + 80 + 24
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"bytes after __LINKEDIT": {append(bytes.Clone(good), 0), ErrMalformed},
		"no room":                {recipe{code: 200}.make(), ErrNoRoom},
		"room that is used":      {flipped(recipe{code: 200, pad: 32}.make(), int64(segment+72+3)), ErrNoRoom},
		"object file":            {recipe{code: 200, pad: 32, kind: 1}.make(), errors.New("file of type 1")},
		"no __LINKEDIT":          {bytes.Replace(good, []byte("__LINKEDIT"), []byte("__LINKEDIU"), 1), ErrMalformed},
		"no room in memory":      {func() []byte { b := bytes.Clone(good); le.PutUint64(b[32+24:], 0x101000); return b }(), ErrMalformed},
		"two slices of a kind":   {universal(32, 12, good, good), ErrMalformed},
		"big-endian":             {append([]byte{0xfe, 0xed, 0xfa, 0xce}, good[4:]...), ErrNotMachO},
		"too many commands":      {func() []byte { b := bytes.Clone(good); b[16] = 200; return b }(), ErrMalformed},
		"gap that is used":       {flipped(twoSlices(0), 5000-4096), ErrMalformed},
		"not a program":          {[]byte("\xca\xfe\xba\xbe\x00\x00\x00\x3d and a Java class"), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Format{}.Plan(t.Context(), artifact(c.b), format.Params{"identifier": "x"})
			if err == nil || !errors.Is(err, c.want) && !strings.Contains(err.Error(), c.want.Error()) {
				t.Errorf("%v: want %v", err, c.want)
			}
		})
	}
	if (Format{}).Detect(artifact([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x3d and a Java class"))) {
		t.Error("a Java class is detected")
	}
	for _, b := range [][]byte{good, twoSlices(0), universal(64, 12, good)} {
		if !(Format{}).Detect(artifact(b)) {
			t.Error("not detected")
		}
	}
}

// What would not fit is known before anybody signs.
func TestSpaceIsCheckedBeforeSigning(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA4096)
	plan, err := Format{}.Plan(t.Context(), artifact(twoSlices(0)), format.Params{"identifier": "x", "reserve": "4096"})
	if err != nil {
		t.Fatal(err)
	}
	many := s.Identity
	for range 20 {
		many.Chain = append(many.Chain, s.Root.Root)
	}
	if _, err := (Format{}).Assemble(plan, many, formattest.At, nil); !errors.Is(err, codesign.ErrSpace) {
		t.Errorf("%v", err)
	}
}

// A timestamp that comes later stays inside of the space whose length is hashed.
func TestStamp(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := seal(t, twoSlices(0), s, nil, false)
	for want := 2; want > 0; want-- {
		todo, err := Format{}.Unstamped(t.Context(), artifact(b), nil)
		if err != nil || len(todo) != want {
			t.Fatalf("%d unstamped, %v: want %d", len(todo), err, want)
		}
		last := todo[len(todo)-1]
		if _, err := (Format{}).Stamp(t.Context(), artifact(b), nil, last, s.Timestamp(t, []byte("other"), formattest.At)); err == nil {
			t.Error("a timestamp over something else is taken")
		}
		patch, err := Format{}.Stamp(t.Context(), artifact(b), nil, last, s.Timestamp(t, last.Message, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		b = apply(t, b, patch)
	}
	r, err := verify(t, b, s.Trust())
	if err != nil || r.Signatures[0].Time.IsZero() || r.Signatures[1].Time.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestList(t *testing.T) {
	var got []string
	if err := (Format{}).List(t.Context(), artifact(twoSlices(0)), func(e format.Entry) error { got = append(got, e.Name); return nil }); err != nil || strings.Join(got, " ") != "x86_64 arm64" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReadsOnce(t *testing.T) {
	big := universal(32, 14, recipe{code: 5 << 20, pad: 32}.make(), recipe{cpu: arm64, code: 3 << 20, pad: 32}.make())
	formattest.Reads(t, Format{}, artifact(big), format.Params{"identifier": "x"})
}

func TestGoldenPlan(t *testing.T) {
	p, err := Format{}.Plan(t.Context(), artifact(twoSlices(0)), format.Params{"identifier": "com.example.golden", "entitlements": smallEntitlements})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("plan differs from %s: %v", path, err)
	}
}
