package mcuboot

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

func artifact(b []byte) format.Artifact { return format.BytesArtifact("app.bin", b) }

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// key is the published public key of a vector.
func key(t testing.TB, name string) crypto.PublicKey {
	t.Helper()
	p, _ := pem.Decode(vector(t, name+".pub.pem"))
	if p == nil {
		t.Fatalf("%s: no key", name)
	}
	k, err := x509.ParsePKIXPublicKey(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// small is an image of a few bytes with a protected security counter.
func small(payload string) []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	le.PutUint32(b, magic)
	le.PutUint16(b[8:], headerSize)
	le.PutUint16(b[10:], 12)
	le.PutUint32(b[12:], uint32(len(payload)))
	b[20], b[21] = 1, 2
	b = append(b, payload...)
	return append(b, 0x08, 0x69, 12, 0, tlvCounter, 0, 4, 0, 7, 0, 0, 0)
}

func pad(b []byte, n int) []byte {
	return append(bytes.Clone(b), bytes.Repeat([]byte{erased}, n)...)
}

func digestOption(k sigalg.Key) string {
	if k == sigalg.P384 {
		return "sha384"
	}
	return "sha256"
}

// signer signs as MCUboot wants it.
func signer(t testing.TB, k sigalg.Key) *formattest.Signer {
	t.Helper()
	s := formattest.Identity(t, k)
	if k == sigalg.RSA3072 {
		s = s.With(sigalg.RSAPSSSHA256)
	}
	return s
}

func sign(t testing.TB, b []byte, s *formattest.Signer, p format.Params) ([]byte, error) {
	t.Helper()
	plan, err := New().Plan(t.Context(), artifact(b), p)
	if err != nil {
		return nil, err
	}
	if _, err := New().Assemble(plan, s.Identity, formattest.At, nil); err != nil {
		return nil, err
	}
	patch, err := New().Attach(t.Context(), artifact(b), plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		return nil, err
	}
	return patch.Bytes(artifact(b))
}

func mustSign(t testing.TB, b []byte, s *formattest.Signer) []byte {
	t.Helper()
	out, err := sign(t, b, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConformance(t *testing.T) {
	for _, k := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519} {
		t.Run(string(k), func(t *testing.T) {
			formattest.Run(t, New(), formattest.Case{
				Artifact: small("payload"), Other: small("pay1oad"), Name: "app.bin",
				Params: format.Params{"digest": digestOption(k)}, Signer: signer(t, k),
				Refused: []format.Params{{"digest": "sha1"}, {"replace": "yes"}},
				// The digest alone is signed; Attach compares the rest with the file.
				Unsigned: []string{"Size", "Facts", "Body"},
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), artifact(small(string(make([]byte, 8<<20)))), nil)
}

func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), artifact(vector(t, "unsigned.bin")), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := vector(t, "plan.cbor"); !bytes.Equal(got, want) {
		t.Errorf("got %x want %x", got, want)
	}
	if f := plan.Facts; len(f) != 2 || f[0].Value != "1.2.3+4" || f[1] != (format.Fact{Name: "security-counter", Value: "7"}) {
		t.Errorf("facts %v", f)
	}
}

// imgtool's signature, taken off and put where ours would go, gives imgtool's file.
func TestSameFileAsImgtool(t *testing.T) {
	for _, c := range []struct {
		file, key, digest string
		scheme            sigalg.Scheme
	}{
		{"rsa-3072.bin", "rsa-3072", "sha256", sigalg.RSAPSSSHA256}, {"ecdsa-p256.bin", "ecdsa-p256", "sha256", sigalg.ECDSASHA256}, {"ecdsa-p384.bin", "ecdsa-p384", "sha384", sigalg.ECDSASHA384},
		{"ed25519.bin", "ed25519", "sha256", sigalg.PureEd25519}, {"ed25519-sha512.bin", "ed25519", "sha512", sigalg.PureEd25519}, {"padded-ecdsa-p256.bin", "ecdsa-p256", "sha256", sigalg.ECDSASHA256},
	} {
		theirs := vector(t, c.file)
		im, err := parse(artifact(theirs))
		if err != nil {
			t.Fatal(err)
		}
		patch, err := New().(format.Remover).Remove(t.Context(), artifact(theirs), -1)
		if err != nil {
			t.Fatal(err)
		}
		bare := must(t)(patch.Bytes(artifact(theirs)))
		plan, err := New().Plan(t.Context(), artifact(bare), format.Params{"digest": c.digest})
		if err != nil {
			t.Fatal(err)
		}
		id := format.Identity{Scheme: c.scheme, Public: key(t, c.key)}
		patch, err = New().Attach(t.Context(), artifact(bare), plan, id, formattest.At, []format.Signature{{Value: im.signatures[0].value}})
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		if got := must(t)(patch.Bytes(artifact(bare))); !bytes.Equal(got, theirs) {
			t.Errorf("%s: another file", c.file)
		}
	}
}

func must(t *testing.T) func(b []byte, err error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// Invariant 3: what nobody signs may not stand among the unprotected TLVs, where
// some bootloaders would read it.
func TestUnprotectedCounterAndOthers(t *testing.T) {
	s := signer(t, sigalg.P256)
	signed := mustSign(t, small("payload"), s)
	im, err := parse(artifact(signed))
	if err != nil {
		t.Fatal(err)
	}
	digest, sig := tlv{im.digestType, im.digest}, im.signatures[0]
	pair := []tlv{{tlvKeyHash, sig.key}, {sig.kind, sig.value}}
	other, err := keyHash(formattest.Identity(t, sigalg.P256).Public, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	build := func(list ...tlv) []byte { return append(bytes.Clone(signed[:im.end]), encodeArea(list)...) }
	if _, err := New().Verify(t.Context(), artifact(build(append([]tlv{digest}, pair...)...)), s.Trust()); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"security counter":          build(append([]tlv{digest, {tlvCounter, []byte{9, 0, 0, 0}}}, pair...)...),
		"dependency":                build(append([]tlv{digest, {tlvDependency, make([]byte, 12)}}, pair...)...),
		"no digest":                 build(pair...),
		"two digests":               build(append([]tlv{digest, digest}, pair...)...),
		"digest after signature":    build(append(pair, digest)...),
		"signature without a key":   build(digest, pair[1]),
		"key without signature":     build(append([]tlv{digest}, pair[1], pair[0])...),
		"another key's name":        build(digest, tlv{tlvKeyHash, other}, pair[1]),
		"another type of signature": build(digest, pair[0], tlv{tlvEd25519, sig.value}),
		"embedded key":              build(digest, tlv{0x02, sig.key}, pair[1]),
		"a good and a bad one":      build(append(append([]tlv{digest}, pair...), pair[0], tlv{sig.kind, append(bytes.Clone(sig.value), 0)})...),
		"bytes behind":              append(bytes.Clone(signed), "code"...),
		"code in the padding":       append(pad(signed, 4000), append([]byte("code"), pad(nil, 200)...)...),
		"trailer of no bootloader":  append(pad(signed, 200), bytes.Repeat([]byte{1}, 16)...),
		"swap state in the trailer": append(append(pad(signed, 200), 1), append(pad(nil, 23), magicDefault...)...),
	} {
		if _, err := New().Verify(t.Context(), artifact(b), s.Trust()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A padded slot keeps its size and its trailer; without room nothing is signed.
func TestPadding(t *testing.T) {
	s := signer(t, sigalg.P256)
	aligned := append([]byte{32, 0}, magicAligned...)
	confirmed := append([]byte{1}, append(pad(nil, 31+16), aligned...)...)
	for name, c := range map[string]struct {
		tail []byte
		open string
	}{
		"erased": {pad(nil, 400), "padded"}, "to be tried": {append(pad(nil, 400), magicDefault...), "tried"},
		"confirmed": {append(pad(nil, 400), confirmed...), "confirmed"},
	} {
		b := append(small("payload"), c.tail...)
		signed, err := sign(t, b, s, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(signed) != len(b) || !bytes.HasSuffix(signed, c.tail[350:]) {
			t.Errorf("%s: %d bytes became %d", name, len(b), len(signed))
		}
		r, err := New().Verify(t.Context(), artifact(signed), s.Trust())
		if err != nil || !strings.Contains(strings.Join(r.Signatures[0].Open, ""), c.open) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := sign(t, pad(small("payload"), 100), s, nil); err == nil {
		t.Error("a slot without room is signed")
	}
}

func TestSignedIsRefusedOrReplaced(t *testing.T) {
	s := signer(t, sigalg.Ed25519)
	b := vector(t, "ecdsa-p256.bin")
	if _, err := sign(t, b, s, nil); !errors.Is(err, ErrSigned) {
		t.Errorf("%v", err)
	}
	signed, err := sign(t, b, s, format.Params{"replace": "true", "digest": "sha512"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := New().Verify(t.Context(), artifact(signed), s.Trust()); err != nil || len(r.Signatures) != 1 || r.Signatures[0].Digest != "sha512" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRefused(t *testing.T) {
	if _, err := New().Plan(t.Context(), artifact(vector(t, "encrypted-ecdsa-p256.bin")), nil); !errors.Is(err, ErrEncrypted) {
		t.Errorf("encrypted: %v", err)
	}
	bad := vector(t, "unsigned.bin")
	bad[100] ^= 1
	if _, err := New().Plan(t.Context(), artifact(bad), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("image with another digest than its own: %v", err)
	}
	for _, s := range []*formattest.Signer{
		formattest.Identity(t, sigalg.RSA3072), formattest.Identity(t, sigalg.RSA4096), signer(t, sigalg.P384), formattest.Identity(t, sigalg.MLDSA65),
	} {
		if _, err := sign(t, small("payload"), s, nil); err == nil {
			t.Errorf("%s with SHA-256 is signed", s.Scheme)
		}
	}
}

func TestDetect(t *testing.T) {
	for name, want := range map[string]bool{"unsigned.bin": true, "rsa-3072.bin": true, "padded-ecdsa-p256.bin": true, "ed25519.pub.pem": false} {
		if New().Detect(artifact(vector(t, name))) != want {
			t.Error(name)
		}
	}
	if New().Detect(artifact(nil)) || New().Detect(artifact(small("payload")[:40])) {
		t.Error("nothing, or half of an image, is detected")
	}
}

func FuzzImage(f *testing.F) {
	names, err := filepath.Glob("testdata/*.bin")
	if err != nil || len(names) < 8 {
		f.Fatalf("seeds %v, %v", names, err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := signer(f, sigalg.P256)
	f.Add(small("payload"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := artifact(b)
		New().Detect(a)
		New().Inspect(t.Context(), a)
		if p, err := New().Plan(t.Context(), a, format.Params{"replace": "true"}); err == nil {
			if _, err := New().Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Errorf("a plan that is not assembled: %v", err)
			}
		}
		if im, err := parse(a); err == nil && im.area > 0 {
			var list []tlv
			if im.digest != nil {
				list = append(list, tlv{im.digestType, im.digest})
			}
			for _, s := range im.signatures {
				list = append(list, tlv{tlvKeyHash, s.key}, tlv{s.kind, s.value})
			}
			if got := encodeArea(list); len(list) > 0 && !bytes.Equal(got, b[im.end:im.end+im.area]) {
				t.Errorf("%x re-encodes as %x", b[im.end:im.end+im.area], got)
			}
		}
		if _, err := New().Verify(t.Context(), a, s.Trust()); err == nil {
			t.Errorf("accepted: %x", b)
		}
	})
}
