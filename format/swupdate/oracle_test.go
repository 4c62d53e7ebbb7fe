package swupdate

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// swupdate judges CMS signatures; its documentation signs with openssl and packs
// with cpio, and so does the peer here.
func TestOracleSWUpdate(t *testing.T) {
	program := formattest.Program(t, "swupdate", "apt-get install swupdate")
	formattest.Program(t, "cpio", "apt-get install cpio")
	v := formattest.Judge(t, Name, "swupdate -c (2022.12), openssl")
	v.Note = "Debian's swupdate verifies CMS only: raw RSA signatures are judged by openssl"
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	write := func(n string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path(n), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(n string) []byte {
		t.Helper()
		b, err := os.ReadFile(path(n))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	openssl, err := os.ReadFile("/usr/bin/openssl")
	if err != nil {
		t.Fatal(err)
	}
	files := []file{{"rootfs.img", string(openssl)}, {"kernel.img", string(openssl[:1001])}}
	write("rootfs.img", []byte(files[0].data))
	write("kernel.img", []byte(files[1].data))
	write(descriptionName, []byte(describe(files...)))
	pack := func(names ...string) []byte {
		t.Helper()
		c := exec.Command("cpio", "-o", "-H", "crc", "--quiet")
		c.Dir, c.Stdin = dir, strings.NewReader(strings.Join(names, "\n")+"\n")
		b, err := c.Output()
		if err != nil {
			t.Fatalf("cpio: %v", err)
		}
		return b
	}
	unsigned := pack(descriptionName, "rootfs.img", "kernel.img")
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		root := cmstest.NewRoot(t)
		key := root.Authority(t, "Updates").Issue(t, "Update Signer", kind)
		cert, private, rootFile := key.WriteFiles(t, dir, "signer")
		id := format.Identity{Scheme: kind.Default(), Public: key.Key.Public(), Chain: key.Chain}
		trust := format.Trust{Roots: root.Pool(), Intermediates: key.Chain, Now: formattest.At, Keys: []crypto.PublicKey{id.Public}}
		write("chain.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key.Chain[1].Raw}))
		// SWUpdate takes intermediates from its own store, not from the signature.
		write("store.pem", append(read("chain.pem"), read(filepath.Base(rootFile))...))
		judge := func(b []byte) error {
			write("judged.swu", b)
			_, err := formattest.RunJudge(t, program, "-c", "-k", path("store.pem"), "--cert-purpose", "codeSigning", "-H", "board:1.0", "-i", path("judged.swu"))
			return err
		}
		if out, err := cmstest.OpenSSL(t, "cms", "-sign", "-in", path(descriptionName), "-out", path(signatureName), "-signer", cert, "-certfile", path("chain.pem"), "-inkey", private, "-outform", "DER", "-nosmimecap", "-binary"); err != nil {
			t.Fatalf("openssl: %v: %s", err, out)
		}
		theirs := pack(descriptionName, signatureName, "rootfs.img", "kernel.img")
		if err := judge(theirs); err != nil {
			t.Fatalf("the judge refuses its own: %v", err)
		}
		_, err := New().Verify(t.Context(), artifact(theirs), trust)
		v.Takes(string(kind), err)
		for name, in := range map[string][]byte{"unsigned": unsigned, "signed before": theirs} {
			what := name + " " + string(kind)
			signed := signBy(t, in, id, key, format.Params{"replace": "true"})
			if _, err := New().Verify(t.Context(), artifact(signed), trust); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			v.Accepts(what, string(kind), judge(signed))
			im, err := openHead(artifact(signed))
			if err != nil {
				t.Fatal(err)
			}
			for part, at := range map[string]int64{"description": 200, "signature": im.at + im.old - 30, "image": im.at + im.old + 5000} {
				bad := bytes.Clone(signed)
				bad[at] ^= 1
				_, err = New().Verify(t.Context(), artifact(bad), trust)
				v.Rejects(what+" "+part, err, judge(bad))
			}
		}
		if kind != sigalg.RSA3072 {
			continue
		}
		for scheme, options := range map[sigalg.Scheme][]string{
			sigalg.RSAPSSSHA256: {"-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-2"}, sigalg.RSAPKCS1SHA256: nil,
		} {
			id.Scheme = scheme
			what := "raw " + string(scheme)
			signed := signBy(t, unsigned, id, key, raw)
			im, err := openHead(artifact(signed))
			if err != nil {
				t.Fatal(err)
			}
			judgeRaw := func(description []byte) error {
				write("judged", description)
				write("judged.sig", im.signature)
				_, err := formattest.RunJudge(t, "openssl", append(append([]string{"dgst", "-sha256", "-prverify", private}, options...), "-signature", path("judged.sig"), path("judged"))...)
				return err
			}
			v.Accepts(what, string(kind), judgeRaw(im.text))
			bad := bytes.Clone(signed)
			bad[200] ^= 1
			_, err = New().Verify(t.Context(), artifact(bad), trust)
			v.Rejects(what, err, judgeRaw(bad[headerSize+18:headerSize+18+len(im.text)]))
			if bytes.Equal(read("judged"), im.text) {
				t.Error("the description was not changed")
			}
		}
	}
}

func signBy(t *testing.T, b []byte, id format.Identity, key *cmstest.Identity, p format.Params) []byte {
	t.Helper()
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
	out, err := patch.Bytes(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
