package vbmeta

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

func artifact(b []byte) format.Artifact { return format.BytesArtifact("vbmeta.img", b) }

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// published is the public key of the vectors.
func published(t testing.TB) crypto.PublicKey {
	t.Helper()
	p, _ := pem.Decode(vector(t, "rsa-4096.pub.pem"))
	if p == nil {
		t.Fatal("no key")
	}
	k, err := x509.ParsePKIXPublicKey(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func property(key, value string) []byte {
	d := binary.BigEndian.AppendUint64(make([]byte, 16), uint64(len(key)))
	d = binary.BigEndian.AppendUint64(d, uint64(len(value)))
	d = append(d, key+"\x00"+value+"\x00"...)
	for len(d)%8 != 0 {
		d = append(d, 0)
	}
	binary.BigEndian.PutUint64(d[8:], uint64(len(d)-16))
	return d
}

// build makes an image without signature of descriptors.
func build(descriptors []byte) []byte {
	h := make([]byte, headerSize)
	copy(h, "AVB0\x00\x00\x00\x01")
	copy(h[releaseAt:], "test")
	im := &image{header: h, descriptors: descriptors}
	return im.signedBytes(0)
}

func small(value string) []byte { return build(property("version", value)) }

// partition is content with an image behind it that holds its digest, and a footer.
func partition(content string, size int) []byte {
	sum := sha256.Sum256([]byte("salt" + content))
	d := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, 2), 0)
	d = binary.BigEndian.AppendUint64(d, uint64(len(content)))
	d = append(append(d, "sha256"...), make([]byte, 26)...)
	for _, n := range []uint32{4, 4, 32, 0} {
		d = binary.BigEndian.AppendUint32(d, n)
	}
	d = append(append(append(d, make([]byte, 60)...), "bootsalt"...), sum[:]...)
	for len(d)%8 != 0 {
		d = append(d, 0)
	}
	binary.BigEndian.PutUint64(d[8:], uint64(len(d)-16))
	im := build(d)
	f := append([]byte("AVBf\x00\x00\x00\x01\x00\x00\x00\x00"), make([]byte, footerSize-12)...)
	at := (len(content) + sector - 1) / sector * sector
	for i, n := range []int{len(content), at, len(im)} {
		binary.BigEndian.PutUint64(f[12+8*i:], uint64(n))
	}
	return append(padded(append(padded([]byte(content), at), im...), size-footerSize), f...)
}

func padded(b []byte, size int) []byte { return append(b, make([]byte, size-len(b))...) }

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

func TestConformance(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA4096)
	for name, c := range map[string]formattest.Case{
		"alone":  {Artifact: small("1"), Other: small("2"), Signer: s},
		"footer": {Artifact: partition("content", 3584), Other: partition("c0ntent", 3584), Signer: s},
	} {
		t.Run(name, func(t *testing.T) {
			c.Name = "vbmeta.img"
			c.Refused = []format.Params{{"digest": "sha1"}, {"disabled": "yes"}, {"replace": "yes"}}
			// Size and digest of the old image: Attach compares them with the file.
			c.Unsigned = []string{"Size", "Body"}
			formattest.Run(t, New(), c)
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), artifact(padded(small("1"), 8<<20)), nil)
	formattest.Reads(t, New(), artifact(partition(string(make([]byte, 8<<20)), 9<<20)), nil)
}

func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), artifact(vector(t, "unsigned.img")), nil)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Appendf(nil, "%x\n", enc)
	for _, f := range plan.Facts {
		got = fmt.Appendf(got, "%s: %s\n", f.Name, f.Value)
	}
	path := filepath.Join("testdata", "plan.txt")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := vector(t, "plan.txt"); !bytes.Equal(got, want) {
		t.Errorf("got %s want %s", got, want)
	}
}

// avbtool's signature, put where ours would go, gives avbtool's file: every signed
// byte is the same.
func TestSameFileAsAvbtool(t *testing.T) {
	for file, scheme := range map[string]sigalg.Scheme{"sha256-rsa-4096.img": sigalg.RSAPKCS1SHA256, "sha512-rsa-4096.img": sigalg.RSAPKCS1SHA512, "footer-sha256-rsa-4096.img": sigalg.RSAPKCS1SHA256} {
		theirs, digest, bareName := vector(t, file), format.HashName(scheme.Hash()), "unsigned.img"
		if strings.HasPrefix(file, "footer-") {
			bareName = "footer-unsigned.img"
		}
		im, err := open(artifact(theirs))
		if err != nil {
			t.Fatal(err)
		}
		id := format.Identity{Scheme: scheme, Public: published(t)}
		a := artifact(vector(t, bareName))
		plan, err := New().Plan(t.Context(), a, format.Params{"digest": digest})
		if err != nil {
			t.Fatal(err)
		}
		patch, err := New().Attach(t.Context(), a, plan, id, formattest.At, []format.Signature{{Value: im.signature}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := patch.Bytes(a)
		if err != nil || !bytes.Equal(got, bytes.TrimRight(theirs, "\x00")) && !bytes.Equal(append(got, make([]byte, len(theirs)-len(got))...), theirs) {
			t.Errorf("%s: another file: %v", file, err)
		}
		bare, err := New().(format.Remover).Remove(t.Context(), artifact(theirs), -1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := bare.Bytes(artifact(theirs)); err != nil || !bytes.HasPrefix(got, vector(t, bareName)) {
			t.Errorf("%s: what is left is not what was signed: %v", file, err)
		}
	}
}

// Invariant 4, and what is refused besides.
func TestRefused(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA4096)
	disabled := format.Params{"replace": "true"}
	if _, err := sign(t, vector(t, "disabled.img"), s, disabled); !errors.Is(err, ErrDisabled) {
		t.Errorf("an image that switches verification off: %v", err)
	}
	disabled["disabled"] = "allow"
	if b, err := sign(t, vector(t, "disabled.img"), s, disabled); err != nil {
		t.Error(err)
	} else if r, err := New().Verify(t.Context(), artifact(b), s.Trust()); err != nil || !slices.Contains(r.Facts, format.Fact{Name: "flags", Value: "verification disabled"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := sign(t, vector(t, "sha256-rsa-4096.img"), s, nil); !errors.Is(err, ErrSigned) {
		t.Errorf("%v", err)
	}
	for _, k := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.Ed25519} {
		if _, err := sign(t, small("1"), formattest.Identity(t, k), nil); err == nil {
			t.Errorf("%s: signed", k)
		}
	}
	if _, err := New().Verify(t.Context(), artifact(vector(t, "rsa-2048.img")), s.Trust()); err == nil {
		t.Error("a key of 2048 bits is accepted")
	}
	if _, err := sign(t, padded(small("1"), 512), s, nil); err == nil {
		t.Error("an image without room is signed")
	}
}

// Bytes that libavb does not look at, keys that did not sign, parts that overlap.
func TestTampered(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA4096)
	good, err := sign(t, padded(small("1"), 4096), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	im, err := open(artifact(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Verify(t.Context(), artifact(good), s.Trust()); err != nil {
		t.Fatal(err)
	}
	stranger, err := encodeKey(published(t))
	if err != nil {
		t.Fatal(err)
	}
	unsigned := bytes.Clone(good)
	binary.BigEndian.PutUint32(unsigned[28:], 0)
	change := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] ^= v
		return b
	}
	swapped := *im
	swapped.key = stranger
	other := swapped.signedBytes(im.algorithm)
	trust := s.Trust()
	for name, b := range map[string][]byte{
		"padding of the authentication block": change(headerSize+32+512+5, 1), "digest": change(headerSize, 1), "signature": change(headerSize+40, 1),
		"rollback index": change(119, 1), "flags": change(123, 2), "reserved": change(200, 1), "behind": change(len(good)-1, 1),
		"algorithm none": unsigned, "hash offset": change(39, 8), "descriptors offset": change(103, 8),
		"another key": slices.Concat(other[:headerSize], pad(slices.Concat(im.digest, im.signature)), other[headerSize:]),
	} {
		if _, err := New().Verify(t.Context(), artifact(b), trust); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A footer is signed by nobody: each of its numbers must follow from the rest.
func TestFooter(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA4096)
	good, err := sign(t, partition("content", 4096), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := New().Verify(t.Context(), artifact(good), s.Trust()); err != nil || len(r.Signatures[0].Covers) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	end := len(good) - footerSize
	for name, at := range map[string]int{
		"content": 3, "behind the content": 100, "behind the image": end - 1, "original size": end + 19, "offset": end + 26, "size of the image": end + 35, "version": end + 7, "reserved": len(good) - 1,
	} {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		if _, err := New().Verify(t.Context(), artifact(bad), s.Trust()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := sign(t, partition("content", 2048), s, nil); err == nil {
		t.Error("a partition without room is signed")
	}
	for name, list := range map[string][]descriptor{
		"none": {}, "two": {{hash: &hashed{}}, {hash: &hashed{}}}, "one of each": {{hash: &hashed{}}, {tree: &hashTree{}}},
	} {
		if _, err := own(list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, h := range map[string]*hashed{
		"SHA-1": {7, "sha1", nil, make([]byte, 20)}, "short": {7, "sha256", nil, make([]byte, 31)}, "SHA-384": {7, "sha384", nil, make([]byte, 48)}, "another size": {8, "sha256", nil, make([]byte, 32)},
	} {
		if err := h.check(7, 512); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A partition with a hash tree. Error correction is named as open.
func TestHashTree(t *testing.T) {
	if len((&hashTree{fec: 4096}).open()) != 2 {
		t.Error("error correction is not open")
	}
	s := formattest.Identity(t, sigalg.RSA4096)
	for _, name := range []string{"tree-sha256-rsa-4096.img.gz"} {
		z, err := gzip.NewReader(bytes.NewReader(vector(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New().Verify(t.Context(), artifact(theirs), format.Trust{Keys: []crypto.PublicKey{published(t)}}); err != nil {
			t.Errorf("%s: avbtool's: %v", name, err)
		}
		ours, err := sign(t, theirs, s, format.Params{"replace": "true"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, err := New().Verify(t.Context(), artifact(ours), s.Trust())
		if err != nil || len(r.Signatures[0].Open) != 1 {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		im, err := open(artifact(ours))
		if err != nil {
			t.Fatal(err)
		}
		tree := im.list[0].tree
		for part, at := range map[string]int64{
			"data": 100, "data's padding": int64(tree.size) - 1, "tree": int64(tree.at) + 10, "tree's padding": int64(tree.at+tree.bytes) - 1,
			"behind the image": im.at + int64(len(im.raw)) + 5, "original size": int64(len(ours)) - footerSize + 17,
		} {
			bad := bytes.Clone(ours)
			bad[at] ^= 1
			if _, err := New().Verify(t.Context(), artifact(bad), s.Trust()); err == nil {
				t.Errorf("%s: %s changed: accepted", name, part)
			}
		}
		for what, change := range map[string]func(*hashTree){
			"SHA-1": func(h *hashTree) { h.name, h.root = "sha1", make([]byte, 20) }, "version 0": func(h *hashTree) { h.version = 0 }, "blocks": func(h *hashTree) { h.dataBlock = 1024 },
			"size": func(h *hashTree) { h.size += 4096 }, "place of the tree": func(h *hashTree) { h.at = 0 }, "size of the tree": func(h *hashTree) { h.bytes = 0 }, "error correction": func(h *hashTree) { h.fec = 1 << 62 },
			"salt": func(h *hashTree) { h.salt = make([]byte, maxSalt+1) },
		} {
			h := *tree
			change(&h)
			if err := h.check(im.footer.original, im.at); err == nil {
				t.Errorf("%s: accepted", what)
			}
		}
	}
}

func TestDescriptors(t *testing.T) {
	for name, d := range map[string][]byte{
		"unknown kind":        append(binary.BigEndian.AppendUint64(nil, 9), make([]byte, 8)...),
		"cut":                 property("a", "b")[:20],
		"length not of 8":     append(binary.BigEndian.AppendUint64(make([]byte, 8), 4), make([]byte, 4)...),
		"length beyond":       append(binary.BigEndian.AppendUint64(make([]byte, 8), 1<<60), make([]byte, 16)...),
		"key beyond":          bytes.Replace(property("key", "value"), []byte{0, 3}, []byte{0xff, 3}, 1),
		"bytes behind":        func() []byte { b := property("key", "value"); b[len(b)-1] = 1; return b }(),
		"hash tree too short": append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, 1), 8), make([]byte, 8)...),
	} {
		if _, err := New().Plan(t.Context(), artifact(build(d)), nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many []byte
	for range 300 {
		many = append(many, property("k", "v")...)
	}
	if p, err := New().Plan(t.Context(), artifact(build(many)), nil); err != nil || len(p.Facts) != format.MaxFacts {
		t.Errorf("%v", err)
	}
}

func FuzzImage(f *testing.F) {
	names, err := filepath.Glob("testdata/*.img")
	if err != nil || len(names) < 5 {
		f.Fatalf("seeds %v, %v", names, err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	id := format.Identity{Scheme: sigalg.RSAPKCS1SHA256, Public: published(f)}
	trust := format.Trust{Keys: []crypto.PublicKey{id.Public}}
	good := [][]byte{}
	for _, n := range []string{"sha256-rsa-4096.img", "sha512-rsa-4096.img", "disabled.img", "footer-sha256-rsa-4096.img"} {
		good = append(good, bytes.TrimRight(vector(f, n), "\x00"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := artifact(b)
		New().Detect(a)
		New().Inspect(t.Context(), a)
		if p, err := New().Plan(t.Context(), a, format.Params{"replace": "true", "disabled": "allow"}); err == nil {
			if _, err := New().Assemble(p, id, formattest.At, nil); err != nil {
				t.Errorf("a plan that is not assembled: %v", err)
			}
		}
		if _, err := New().Verify(t.Context(), a, trust); err == nil && !slices.ContainsFunc(good, func(g []byte) bool { return bytes.Equal(g, bytes.TrimRight(b, "\x00")) }) {
			t.Errorf("accepted: %x", b)
		}
	})
}

// libavb judges; avbtool's images are the vectors and inputs.
func TestOracleVBMeta(t *testing.T) {
	check := formattest.Program(t, "avb_check", "run tools/judges/uboot.sh")
	v := formattest.Judge(t, Name, "libavb (avb_vbmeta_image_verify)")
	s := formattest.Identity(t, sigalg.RSA4096)
	dir := t.TempDir()
	judge := func(b []byte, pub crypto.PublicKey) error {
		key, err := encodeKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := readFooter(artifact(b)); err == nil { // libavb is handed the image of a partition
			b = b[f.offset : f.offset+f.size]
		}
		for n, b := range map[string][]byte{"image": b, "key": key} {
			if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err = formattest.RunJudge(t, check, filepath.Join(dir, "image"), filepath.Join(dir, "key"))
		return err
	}
	theirs := format.Trust{Keys: []crypto.PublicKey{published(t)}}
	for _, n := range []string{"sha256-rsa-4096.img", "sha512-rsa-4096.img", "disabled.img", "footer-sha256-rsa-4096.img"} {
		_, err := New().Verify(t.Context(), artifact(vector(t, n)), theirs)
		v.Takes(n, err)
		if err := judge(vector(t, n), published(t)); err != nil {
			t.Errorf("the judge refuses the vector: %v", err)
		}
	}
	for digest, scheme := range map[string]sigalg.Scheme{"sha256": sigalg.RSAPKCS1SHA256, "sha512": sigalg.RSAPKCS1SHA512} {
		for _, n := range []string{"unsigned.img", "sha512-rsa-4096.img", "rsa-2048.img", "footer-unsigned.img"} {
			what := n + " " + digest
			signed, err := sign(t, vector(t, n), s.With(scheme), format.Params{"digest": digest, "replace": "true"})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if _, err := New().Verify(t.Context(), artifact(signed), s.Trust()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			v.Accepts(what, string(sigalg.RSA4096), judge(signed, s.Public))
			im, err := open(artifact(signed))
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []int{119, 130, 300, 290 + 512, 1000} {
				bad := bytes.Clone(signed)
				bad[int(im.at)+at] ^= 1
				_, err := New().Verify(t.Context(), artifact(bad), s.Trust())
				if at == 290+512 && digest == "sha256" {
					v.RejectsAlone(what, err) // libavb does not look at the padding
					continue
				}
				v.Rejects(fmt.Sprintf("%s byte %d", what, at), err, judge(bad, s.Public))
			}
		}
	}
}
