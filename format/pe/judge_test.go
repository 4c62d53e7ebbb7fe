package pe

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
)

// images are all inputs: made by hand, by Go's linker, and by others.
func images(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for n, r := range recipes() {
		out[n] = r.make()
	}
	for _, arch := range []string{"amd64", "386", "arm64"} {
		out["go "+arch] = program(t, arch)
	}
	out["nsis dialog"] = readFile(t, "/usr/share/nsis/Contrib/UIs/modern.exe", "nsis-common")
	out["nsis plugin"] = readFile(t, "/usr/share/nsis/Plugins/amd64-unicode/System.dll", "nsis-common")
	out["nsis plugin x86"] = readFile(t, "/usr/share/nsis/Plugins/x86-unicode/nsDialogs.dll", "nsis-common")
	out["grub"] = readFile(t, "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", "grub-efi-amd64-bin")
	return out
}

// Invariants 1 and 3: what we sign is accepted by ourselves and by osslsigncode,
// with and without page hashes, and both compute the same digests and checksum.
func TestSignedImagesAreAccepted(t *testing.T) {
	p := newPKI(t)
	opus := format.Params{"description": "Frühling 🌱 Setup", "url": "https://example.com/setup"}
	ids := []string{"rsa", "p256", "p384", "rsa384"}
	n := 0
	all := images(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b := all[name]
		for _, pages := range []string{"false", "true"} {
			id := ids[n%len(ids)]
			n++
			t.Run(name+" pages "+pages, func(t *testing.T) {
				params := format.Params{"page-hashes": pages}
				for k, v := range opus {
					params[k] = v
				}
				if pages == "true" {
					if _, err := (Format{}).Plan(context.Background(), file(b), params); err != nil {
						if !strings.Contains(err.Error(), "pe: page hashes: ") {
							t.Fatal(err)
						}
						if strings.HasPrefix(name, "go ") || strings.HasPrefix(name, "nsis") || name == "pages" || name == "pe32" {
							t.Fatal(err)
						}
						return // a shape for which there are none
					}
				}
				signed := p.ids[id].seal(t, b, params, func(v []byte) []byte { return p.token(t, v) })
				r, err := verify(signed, p.trust())
				if err != nil {
					t.Fatal(err)
				}
				s := r.Signatures[0]
				if len(r.Signatures) != 1 || s.Time.IsZero() || len(s.Open) > 0 || s.TimeFrom == "" || fmt.Sprint(s.Facts) != "[{description Frühling 🌱 Setup} {url https://example.com/setup}]" {
					t.Errorf("report: %+v", s)
				}
				out := p.judge(t, signed)
				for _, want := range []string{
					"Calculated message digest : " + strings.ToUpper(hex.EncodeToString(s.Content)),
					fmt.Sprintf("PE checksum   : %08X\n", le32(signed[mustParse(t, signed).checksumAt:])),
					"URL description: https://example.com/setup",
				} {
					if !strings.Contains(out, want) {
						t.Errorf("osslsigncode does not say %q:\n%s", want, out)
					}
				}
				if got := strings.Contains(out, "Calculated page hash"); got != (pages == "true") {
					t.Errorf("osslsigncode sees page hashes: %v", got)
				}
				if !strings.Contains(out, "Timestamp verified using:") && !strings.Contains(out, "Timestamp Server Signature verification: ok") {
					t.Errorf("osslsigncode sees no timestamp:\n%s", out)
				}
				if name == "grub" {
					sbverify(t, p.ids[id].cert, signed)
				}
			})
		}
	}
}

// RSASSA-PSS verifies here and in CMS at large, but osslsigncode and sbverify
// stand on OpenSSL's PKCS #7 code, which does not know it: OpenSSL itself judges
// the signature over the attributes.
func TestPSS(t *testing.T) {
	p := newPKI(t)
	s := p.ids["pss"]
	b := s.seal(t, recipes()["pe32+"].make(), nil, nil)
	r, err := verify(b, p.trust())
	if err != nil || r.Signatures[0].Scheme != s.id.Scheme {
		t.Fatal(err)
	}
	_, _, _, sigs, err := signed(file(b))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for n, data := range map[string][]byte{"sig": sigs[0].Signer.Signature, "attrs": sigs[0].Signer.RawSignedAttrs} {
		if err := os.WriteFile(filepath.Join(dir, n), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := run(t, "openssl", "openssl", "dgst", "-sha256", "-prverify", s.pem, "-sigopt", "rsa_padding_mode:pss",
		"-sigopt", "rsa_pss_saltlen:digest", "-signature", filepath.Join(dir, "sig"), filepath.Join(dir, "attrs"))
	if err != nil || !strings.Contains(out, "Verified OK") {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

func mustParse(t testing.TB, b []byte) *image {
	t.Helper()
	im, err := parseImage(file(b))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func sbverify(t *testing.T, cert string, b []byte) {
	t.Helper()
	f := filepath.Join(t.TempDir(), "signed.efi")
	if err := os.WriteFile(f, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "sbverify", "sbsigntool", "--cert", cert, f)
	if err != nil || !strings.Contains(out, "Signature verification OK") {
		t.Errorf("sbverify: %v\n%s", err, out)
	}
}

// What osslsigncode signs, we verify, and our digest is its digest.
func TestPeersSignaturesAreAccepted(t *testing.T) {
	p := newPKI(t)
	for _, c := range []struct {
		name string
		id   string
		args []string
		n    int
	}{
		{"plain", "rsa", nil, 1},
		{"described", "p256", []string{"-n", "Setup", "-i", "https://example.com/", "-comm"}, 1},
		{"pages", "rsa", []string{"-ph"}, 1},
		{"stamped", "rsa", []string{"-TSA-certs", p.tsa.cert, "-TSA-key", p.tsa.pem}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, shape := range []string{"pe32", "pe32+", "odd overlay", "gap", "out of order", "pages", "two chunks"} {
				if shape == "out of order" && c.name == "pages" {
					continue // there are no page hashes that all would agree on
				}
				b := recipes()[shape].make()
				signed := p.peer(t, b, c.id, c.args...)
				r, err := verify(signed, p.trust())
				if err != nil {
					t.Fatalf("%s: %v", shape, err)
				}
				if want := plan(t, b, nil).Content; len(r.Signatures) != c.n || !bytes.Equal(r.Signatures[0].Content, want) {
					t.Errorf("%s: %d signatures, digest %x: want %d, %x", shape, len(r.Signatures), r.Signatures[0].Content, c.n, want)
				}
				if c.name == "stamped" && r.Signatures[0].Time.IsZero() {
					t.Errorf("%s: no time", shape)
				}
				if c.name == "described" && fmt.Sprint(r.Signatures[0].Facts) != "[{description Setup} {url https://example.com/}]" {
					t.Errorf("%s: facts %v", shape, r.Signatures[0].Facts)
				}
			}
		})
	}
}

// Invariant 4: signatures that are there stay, whoever made them, and all verify.
func TestNestedSignatures(t *testing.T) {
	p := newPKI(t)
	b := recipes()["odd overlay"].make()
	ours := func(b []byte, id string) []byte {
		return p.ids[id].seal(t, b, format.Params{"digest": "sha384"}, func(v []byte) []byte { return p.token(t, v) })
	}
	theirs := func(b []byte, id string) []byte { return p.peer(t, b, id, "-nest") }
	first := p.peer(t, b, "rsa")
	for name, signed := range map[string][]byte{
		"ours in ours":           ours(ours(b, "rsa"), "p256"),
		"ours in theirs":         ours(first, "p256"),
		"theirs in ours":         theirs(ours(b, "rsa"), "p256"),
		"ours in theirs in ours": ours(theirs(ours(b, "rsa"), "rsa"), "p384"),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := verify(signed, p.trust())
			if err != nil {
				t.Fatal(err)
			}
			want := 1 + strings.Count(name, " in ")
			if len(r.Signatures) != want || r.Signatures[0].Label != "primary" || r.Signatures[1].Label != "nested 1" {
				t.Errorf("%d signatures: want %d", len(r.Signatures), want)
			}
			out := p.judge(t, signed)
			if !strings.Contains(out, fmt.Sprintf("Number of verified signatures: %d", want)) {
				t.Errorf("osslsigncode:\n%s", out)
			}
		})
	}
	// Every byte of the first signature but lengths and the new attribute is there.
	_, _, _, before, err := signed(file(first))
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, after, err := signed(file(ours(first, "p256")))
	if err != nil {
		t.Fatal(err)
	}
	x, y := before[0].Signer, after[0].Signer
	if !bytes.Equal(x.Signature, y.Signature) || !bytes.Equal(x.RawSignedAttrs, y.RawSignedAttrs) || !bytes.Equal(before[0].SD.ContentRaw, after[0].SD.ContentRaw) {
		t.Error("the first signature changed")
	}
	// Replacing gives what signing the unsigned image gives.
	r, err := verify(p.ids["rsa"].seal(t, first, format.Params{"existing": "replace"}, nil), p.trust())
	if err != nil || len(r.Signatures) != 1 {
		t.Errorf("replaced: %v", err)
	}
}

// EFI images get entries beside one another: firmware does not know nesting.
func TestEFIEntries(t *testing.T) {
	p := newPKI(t)
	for name, b := range map[string][]byte{
		"made": recipes()["efi"].make(),
		"grub": readFile(t, "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", "grub-efi-amd64-bin"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in, out := filepath.Join(dir, "in.efi"), filepath.Join(dir, "out.efi")
			if err := os.WriteFile(in, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if msg, err := run(t, "sbsign", "sbsigntool", "--key", p.ids["rsa"].pem, "--cert", p.ids["rsa"].cert, "--output", out, in); err != nil {
				t.Fatalf("sbsign: %v\n%s", err, msg)
			}
			theirs := readFile(t, out, "sbsigntool")
			r, err := verify(theirs, p.trustWith("rsa"))
			if err != nil || !bytes.Equal(r.Signatures[0].Content, plan(t, b, nil).Content) {
				t.Errorf("sbsign's signature: %v", err)
			}
			if _, err := verify(p.ids["p256"].seal(t, theirs, nil, nil), p.trustWith("rsa")); err != nil {
				t.Errorf("beside sbsign's: %v", err)
			}
			one := p.ids["rsa"].seal(t, b, nil, nil)
			sbverify(t, p.ids["rsa"].cert, one)
			two := p.ids["rsa384"].seal(t, one, nil, nil)
			r, err = verify(two, p.trust())
			if err != nil || len(r.Signatures) != 2 || r.Signatures[1].Label != "entry 2" {
				t.Fatalf("%v: %+v", err, r)
			}
			sbverify(t, p.ids["rsa"].cert, two)
			sbverify(t, p.ids["rsa384"].cert, two)
		})
	}
}

// A timestamp can come later, for every signature; the checksum stays right.
func TestStamp(t *testing.T) {
	p := newPKI(t)
	ctx := context.Background()
	b := p.ids["rsa"].seal(t, recipes()["odd overlay"].make(), nil, nil)
	b = p.ids["p256"].seal(t, b, nil, nil)
	b = p.ids["p384"].seal(t, b, nil, nil)
	noSum := bytes.Clone(b)
	copy(noSum[mustParse(t, b).checksumAt:], make([]byte, 4))
	for name, b := range map[string][]byte{"checksum": b, "no checksum": noSum} {
		t.Run(name, func(t *testing.T) {
			for want := 3; ; want-- {
				todo, err := Format{}.Unstamped(ctx, file(b), nil)
				if err != nil || len(todo) != want {
					t.Fatalf("%d unstamped, %v: want %d", len(todo), err, want)
				}
				if want == 0 {
					break
				}
				if _, err := (Format{}).Stamp(ctx, file(b), nil, todo[0], p.token(t, []byte("something else"))); err == nil {
					t.Error("a timestamp over something else was attached")
				}
				last := todo[len(todo)-1]
				patch, err := Format{}.Stamp(ctx, file(b), nil, last, p.token(t, last.Message))
				if err != nil {
					t.Fatal(err)
				}
				b = apply(t, b, patch)
				if _, err := verify(b, p.trust()); err != nil {
					t.Fatal(err)
				}
			}
			r, err := verify(b, p.trust())
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range r.Signatures {
				if s.Time.IsZero() {
					t.Errorf("%s has no time", s.Label)
				}
			}
			if out := p.judge(t, b); !strings.Contains(out, "Number of verified signatures: 3") {
				t.Error(out)
			}
			if _, err := (Format{}).Stamp(ctx, file(b), nil, format.StampTarget{Message: r.Signatures[0].Value}, p.token(t, r.Signatures[0].Value)); err == nil {
				t.Error("stamped twice")
			}
		})
	}
}

// Without its signatures an image is what it was, but for padding and checksum.
func TestRemove(t *testing.T) {
	p := newPKI(t)
	for name, r := range recipes() {
		b := r.make()
		signed := p.ids["p256"].seal(t, b, nil, nil)
		patch, err := Format{}.Remove(context.Background(), file(signed), -1)
		if err != nil {
			t.Fatal(err)
		}
		got := apply(t, signed, patch)
		im := mustParse(t, got)
		want := append(bytes.Clone(b), make([]byte, padding(int64(len(b))))...)
		copy(want[im.checksumAt:], got[im.checksumAt:im.checksumAt+4])
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", name)
		}
		if c := naiveChecksum(got, im.checksumAt); c != im.checksum {
			t.Errorf("%s: checksum %#x: want %#x", name, im.checksum, c)
		}
		if _, err := (Format{}).Remove(context.Background(), file(got), -1); err != ErrUnsigned {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One signature goes, the others stay: nested ones, the first one (the next takes its
// place), and entries of EFI images.
func TestRemoveOne(t *testing.T) {
	p := newPKI(t)
	for name, b := range map[string][]byte{"nested": recipes()["odd overlay"].make(), "entries": recipes()["efi"].make()} {
		ids := []string{"rsa", "p256", "p384"}
		for _, id := range ids {
			b = p.ids[id].seal(t, b, nil, nil)
		}
		for i := range ids {
			patch, err := Format{}.Remove(context.Background(), file(b), i)
			if err != nil {
				t.Fatal(err)
			}
			left := apply(t, b, patch)
			r, err := verify(left, p.trust())
			if err != nil || len(r.Signatures) != 2 {
				t.Errorf("%s without %d: %v", name, i, err)
				continue
			}
			for _, s := range r.Signatures {
				if s.Subject == p.ids[ids[i]].id.Chain[0].Subject.String() {
					t.Errorf("%s without %d: it is still there", name, i)
				}
			}
			if name == "nested" {
				if out := p.judge(t, left); !strings.Contains(out, "Number of verified signatures: 2") {
					t.Errorf("osslsigncode:\n%s", out)
				}
			}
			side, err := Format{}.Extract(context.Background(), file(b), i)
			if err != nil || side.Suffix != ".p7s" || len(side.Data) == 0 {
				t.Errorf("%s: extract %d: %v", name, i, err)
			}
		}
		for _, i := range []int{-2, 3} {
			if _, err := (Format{}).Remove(context.Background(), file(b), i); err == nil {
				t.Errorf("%s: signature %d is taken off", name, i)
			}
		}
	}
}
