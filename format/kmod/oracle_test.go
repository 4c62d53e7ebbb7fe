package kmod

import (
	"bytes"
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// modules are some that Debian built and signed.
func modules(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, n := range []string{"drivers/net/dummy.ko", "fs/fuse/fuse.ko", "fs/squashfs/squashfs.ko"} {
		m, err := filepath.Glob("/lib/modules/*/kernel/" + n)
		if err != nil || len(m) == 0 {
			t.Fatalf("no kernel module %s: apt-get install linux-image-cloud-amd64", n)
		}
		out = append(out, m[0])
	}
	return out
}

func signFile(t testing.TB) string {
	t.Helper()
	m, err := filepath.Glob("/usr/lib/linux-kbuild-*/scripts/sign-file")
	if err != nil || len(m) == 0 {
		t.Fatal("no sign-file: apt-get install linux-kbuild-6.1")
	}
	return slices.Max(m)
}

func write(t testing.TB, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// openssl judges module and signature, cut apart by the trailer's own numbers.
func openssl(t testing.TB, dir, cert, root string, signed []byte) error {
	t.Helper()
	n := int(signed[len(signed)-29]) | int(signed[len(signed)-30])<<8
	der := signed[len(signed)-40-n : len(signed)-40]
	_, err := formattest.RunJudge(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", write(t, dir, "sig.p7s", der),
		"-content", write(t, dir, "content", signed[:len(signed)-40-n]), "-certfile", cert, "-nointern", "-CAfile", root, "-purpose", "any",
		"-attime", "1767225600", "-out", os.DevNull)
	return err
}

// OpenSSL judges ours, and sign-file, the kernel's own, is the peer.
func TestOracleKmod(t *testing.T) {
	v := formattest.Judge(t, Name, "openssl cms, sign-file of linux-kbuild")
	peer := signFile(t)
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384} {
		root := cmstest.NewRoot(t)
		key := root.Issue(t, "Module Signer", kind)
		dir := t.TempDir()
		cert, private, rootFile := key.WriteFiles(t, dir, "signer")
		id := format.Identity{Scheme: kind.Default(), Public: key.Key.Public(), Chain: key.Chain}
		trust := format.Trust{Keys: []crypto.PublicKey{id.Public}, Roots: root.Pool(), Intermediates: key.Chain, Now: formattest.At}
		for _, path := range modules(t) {
			what := filepath.Base(path) + " " + string(kind)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			p := format.Params{"digest": digestOption(id.Scheme), "replace": "true"}
			plan, err := New().Plan(t.Context(), artifact(b), p)
			if err != nil {
				t.Fatal(err)
			}
			tbs, err := New().Assemble(plan, id, formattest.At, nil)
			if err != nil {
				t.Fatal(err)
			}
			patch, err := New().Attach(t.Context(), artifact(b), plan, id, formattest.At, []format.Signature{{Value: key.SignInput(t, id.Scheme, tbs[0].Input())}})
			if err != nil {
				t.Fatal(err)
			}
			signed, err := patch.Bytes(artifact(b))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := New().Verify(t.Context(), artifact(signed), trust); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			v.Accepts(what, string(kind), openssl(t, dir, cert, rootFile, signed))
			bad := bytes.Clone(signed)
			bad[len(bad)/2] ^= 1
			_, err = New().Verify(t.Context(), artifact(bad), trust)
			v.Rejects(what, err, openssl(t, dir, cert, rootFile, bad))

			bare, err := New().(format.Remover).Remove(t.Context(), artifact(b), -1)
			if err != nil {
				t.Fatal(err)
			}
			stripped, err := bare.Bytes(artifact(b))
			if err != nil {
				t.Fatal(err)
			}
			theirs := write(t, dir, "theirs.ko", stripped)
			if out, err := exec.Command(peer, digestOption(id.Scheme), private, cert, theirs).CombinedOutput(); err != nil {
				t.Fatalf("sign-file: %v: %s", err, out)
			}
			if b, err = os.ReadFile(theirs); err != nil {
				t.Fatal(err)
			}
			_, err = New().Verify(t.Context(), artifact(b), trust)
			v.Takes(what, err)
			if kind == sigalg.RSA3072 && !bytes.Equal(b, signed) { // no randomness in it
				t.Errorf("%s: sign-file makes another file of %d bytes: ours has %d", what, len(b), len(signed))
			}
		}
	}
}

// What Debian's build signed is read: whose it is, and by which algorithms.
func TestDebianModules(t *testing.T) {
	for _, path := range modules(t) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := New().Inspect(t.Context(), artifact(b))
		if err != nil || len(r.Signatures) != 1 || r.Signatures[0].Scheme != sigalg.RSAPKCS1SHA256 || !New().Detect(artifact(b)) {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
}
