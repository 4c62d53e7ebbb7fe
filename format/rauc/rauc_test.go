package rauc

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const text = "[update]\ncompatible=Test Board\nversion=1.2\n\n[bundle]\nformat=verity\n\n[image.rootfs]\nfilename=rootfs.img\nsha256=00ff\n"

func artifact(b []byte) format.Artifact { return format.BytesArtifact("update.raucb", b) }

// squash begins as a squashfs image does.
func squash(content string, size int) []byte {
	b := make([]byte, size)
	copy(b, "hsqs")
	binary.LittleEndian.PutUint16(b[28:], 4)
	binary.LittleEndian.PutUint64(b[40:], uint64(squashHeader+len(content)))
	copy(b[squashHeader:], content)
	return b
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

func mustSign(t testing.TB, b []byte, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	out, err := sign(t, b, s, p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// option is a manifest as the option takes it.
func option(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

var verityParams = format.Params{"manifest": option(text), "signing-time": "false"}

func TestConformance(t *testing.T) {
	for name, c := range map[string]formattest.Case{
		"plain":  {Artifact: squash("content", 120), Other: squash("c0ntent", 120), Params: format.Params{"digest": "sha256"}},
		"verity": {Artifact: squash("content", 2*blockSize), Other: squash("c0ntent", 2*blockSize), Params: verityParams},
	} {
		t.Run(name, func(t *testing.T) {
			c.Name, c.Signer = "update.raucb", formattest.Identity(t, sigalg.P256)
			c.Refused = []format.Params{{"digest": "sha1"}, {"manifest": "[update]\n"}, {"manifest": `"[update]\n"`}, {"signing-time": "now"}}
			formattest.Run(t, New(), c)
		})
	}
}

func TestReadsOnce(t *testing.T) {
	big := artifact(squash("content", 8<<20))
	formattest.Reads(t, New(), big, nil)
	formattest.Reads(t, New(), big, verityParams)
	signed := mustSign(t, squash("content", 8<<20), formattest.Identity(t, sigalg.P256), verityParams)
	formattest.Reads(t, New(), artifact(signed), format.Params{"replace": "true"})
}

func TestGolden(t *testing.T) {
	var got []byte
	for _, p := range []format.Params{nil, verityParams} {
		plan, err := New().Plan(t.Context(), artifact(squash("content", 200*blockSize)), p)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got = fmt.Appendf(got, "%x\n", enc)
		if p != nil && fmt.Sprint(plan.Facts[:3]) != "[{format verity} {compatible Test Board} {version 1.2}]" {
			t.Errorf("facts %v", plan.Facts)
		}
	}
	path := filepath.Join("testdata", "plans.txt")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got %s want %s", err, got, want)
	}
}

// Invariant 3: what rauc info does not look at: the image and the tree of a verity
// bundle. Trees of one, two and three levels.
func TestTamperedVerity(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for _, blocks := range []int{2, 128, 129, 128*128 + 1} {
		signed := mustSign(t, squash("content", blocks*blockSize), s, verityParams)
		b, err := open(artifact(signed))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New().Verify(t.Context(), artifact(signed), s.Trust()); err != nil {
			t.Fatalf("%d blocks: %v", blocks, err)
		}
		places := []int64{b.image + b.tree - 1, b.image + 40, squashHeader, b.image - 1, b.image, b.image + b.tree/2}
		if blocks > 1000 {
			places = places[:2]
		}
		for _, at := range places {
			signed[at] ^= 1
			if _, err := New().Verify(t.Context(), artifact(signed), s.Trust()); err == nil {
				t.Errorf("%d blocks: byte %d of %d changed: accepted", blocks, at, b.image+b.tree)
			}
			signed[at] ^= 1
		}
	}
}

// The one form of a bundle cannot be taken for the other, and nothing hides
// between its parts.
func TestForms(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	image := squash("content", 2*blockSize)
	verity, plain := mustSign(t, image, s, verityParams), mustSign(t, image, s, nil)
	v, err := open(artifact(verity))
	if err != nil {
		t.Fatal(err)
	}
	pl, err := open(artifact(plain))
	if err != nil {
		t.Fatal(err)
	}
	tail := func(der []byte) []byte { return binary.BigEndian.AppendUint64(bytes.Clone(der), uint64(len(der))) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	tree := verity[v.image : v.image+v.tree]
	withAttribute, err := cms.AddUnsigned(pl.cms, 0, cms.NewAttribute(cms.OIDTimeStampToken, s.Timestamp(t, []byte("x"), formattest.At)))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := New().Verify(t.Context(), artifact(join(image, tail(withAttribute))), s.Trust()); err != nil || len(r.Signatures[0].Open) != 1 {
		t.Errorf("an unsigned attribute: %+v, %v", r, err)
	}
	little := binary.LittleEndian.AppendUint64(bytes.Clone(pl.cms), uint64(len(pl.cms)))
	for name, b := range map[string][]byte{
		"verity signature without tree": join(image, tail(v.cms)), "plain signature behind a tree": join(image, tree, tail(pl.cms)),
		"two trees": join(image, tree, tree, tail(v.cms)), "a block more": join(image, make([]byte, blockSize), tree, tail(v.cms)),
		"signature behind a signature": join(plain, tail(pl.cms)), "size little-endian": join(image, little), "no size": join(image, pl.cms),
		"another file system": join([]byte("hsqt"), plain[4:]),
	} {
		if _, err := New().Verify(t.Context(), artifact(b), s.Trust()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := sign(t, plain, s, nil); !errors.Is(err, ErrSigned) {
		t.Errorf("%v", err)
	}
	other := formattest.Identity(t, sigalg.RSA3072)
	for _, b := range [][]byte{plain, verity} {
		again := mustSign(t, b, other, format.Params{"replace": "true"})
		if _, err := New().Verify(t.Context(), artifact(again), other.Trust()); err != nil {
			t.Error(err)
		}
		if _, err := New().Verify(t.Context(), artifact(again), s.Trust()); err == nil {
			t.Error("the first signer is still believed")
		}
	}
}

// lines is n lines of a form.
func lines(form string, n int) (s string) {
	for i := range n {
		s += fmt.Sprintf(form, i)
	}
	return s
}

func TestManifest(t *testing.T) {
	if _, err := parseManifest([]byte(text)); err != nil {
		t.Fatal(err)
	}
	const good = "[update]\ncompatible=x\n"
	hash := strings.Repeat("ab", 32)
	for name, m := range map[string]string{
		"empty": "", "no compatible": "[update]\nversion=1\n", "key before a section": "a=b\n" + good, "section twice": good + good,
		"key twice": good + "compatible=y\n", "no equals sign": good + "version\n", "control character": good + "version=1\x00\n",
		"carriage return": "[update]\r\ncompatible=x\r\n", "open section": good + "[bundle\n", "hash in a plain bundle": good + "[bundle]\nverity-hash=" + hash + "\nverity-salt=" + hash + "\nverity-size=4096\n",
		"hash without salt": good + "[bundle]\nformat=verity\nverity-hash=" + hash + "\nverity-size=4096\n",
		"size that is odd":  good + "[bundle]\nformat=verity\nverity-hash=" + hash + "\nverity-salt=" + hash + "\nverity-size=4097\n",
		"size with a sign":  good + "[bundle]\nformat=verity\nverity-hash=" + hash + "\nverity-salt=" + hash + "\nverity-size=+4096\n",
		// GLib reads a section or a comment there, a key whoever looks for "=".
		"section behind a space": good + " [x=y]\nversion=1\n", "comment behind a space": good + " #version=1\n",
		// Facts that would push out others.
		"more than can be shown": good + "[handler]\n" + lines("k%d=v\n", format.MaxFacts) + "[image.rootfs]\nsha256=" + hash + "\n",
		"too long":               good + strings.Repeat("#\n", maxManifest),
	} {
		if _, err := parseManifest([]byte(m)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, m := range map[string]string{
		"crypt": strings.Replace(text, "verity", "crypt", 1), "plain": strings.Replace(text, "format=verity", "", 1),
		"hash given":          strings.Replace(text, "[bundle]\n", "[bundle]\nverity-hash="+hash+"\nverity-salt="+hash+"\nverity-size=4096\n", 1),
		"[bundle] as a value": strings.Replace(text, "version=1.2", "version=[bundle]", 1),
	} {
		if _, err := complete(option(m), make([]byte, 32), 4096); err == nil {
			t.Errorf("%s: completed", name)
		}
	}
}

// The time is the keeper's, and signed; schemes that RAUC's OpenSSL does not
// verify in CMS are refused.
func TestSigningTimeAndSchemes(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	r, err := New().Verify(t.Context(), artifact(mustSign(t, squash("content", 120), s, nil)), s.Trust())
	if err != nil || len(r.Signatures[0].Facts) != 1 || r.Signatures[0].Facts[0].Value != formattest.At.UTC().Format(time.RFC3339) {
		t.Errorf("%+v, %v", r, err)
	}
	plan, err := New().Plan(t.Context(), artifact(squash("content", 120)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Assemble(plan, s.Identity, time.Time{}, nil); err == nil {
		t.Error("no time is signed")
	}
	for _, k := range []sigalg.Key{sigalg.Ed25519, sigalg.P384} {
		if _, err := New().Assemble(plan, formattest.Identity(t, k).Identity, formattest.At, nil); err == nil {
			t.Errorf("%s with SHA-256 is signed", k)
		}
	}
}

func TestDetect(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"bundle": {mustSign(t, squash("content", 120), s, nil), true}, "squashfs": {squash("content", 4096), false}, "empty": {nil, false}, "text": {bytes.Repeat([]byte("hsqs"), 60), false},
	} {
		if New().Detect(artifact(c.b)) != c.want {
			t.Error(name)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New().Plan(ctx, artifact(squash("content", 2*blockSize)), verityParams); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzBundle(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	plain, verity := mustSign(f, squash("content", 120), s, nil), mustSign(f, squash("content", 2*blockSize), s, verityParams)
	for _, b := range [][]byte{plain, verity, squash("content", 120)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := artifact(b)
		New().Detect(a)
		New().Inspect(t.Context(), a)
		if p, err := New().Plan(t.Context(), a, format.Params{"replace": "true"}); err == nil {
			if _, err := New().Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Errorf("a plan that is not assembled: %v", err)
			}
		}
		if _, err := New().Verify(t.Context(), a, s.Trust()); err == nil && !bytes.HasPrefix(b, plain[:120]) && !bytes.HasPrefix(b, verity[:3*blockSize]) {
			t.Errorf("accepted: %x", b)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(text))
	f.Add([]byte("[update]\ncompatible=x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		if facts := m.facts(); len(facts) > format.MaxFacts || len(facts) < 2 {
			t.Errorf("facts %v", facts)
		}
	})
}
