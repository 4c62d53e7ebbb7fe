package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

// shim is Microsoft's signature on Debian's shim: real Authenticode, by an RSA key
// of 2048 bits.
func shim(t testing.TB) []byte {
	t.Helper()
	padded, err := os.ReadFile("testdata/windows-shim.der")
	if err != nil {
		t.Fatal(err)
	}
	der, rest, err := cms.Split(padded) // as it stands in the file, filled up to eight bytes
	if err != nil || len(bytes.Trim(rest, "\x00")) != 0 {
		t.Fatal(err, rest)
	}
	return der
}

// opensslLeaf makes a code-signing certificate of a kind that Go would not make.
func opensslLeaf(t testing.TB, root *cmstest.Identity, bits, md string) *x509.Certificate {
	t.Helper()
	dir := t.TempDir()
	rootKey, err := x509.MarshalPKCS8PrivateKey(root.Key)
	if err != nil {
		t.Fatal(err)
	}
	key := write(t, "root.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rootKey}))
	ca := write(t, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate.Raw}))
	ext := write(t, "ext", []byte("extendedKeyUsage=codeSigning\nkeyUsage=digitalSignature\n"))
	csr, out := filepath.Join(dir, "csr"), filepath.Join(dir, "crt")
	for _, args := range [][]string{
		{"req", "-new", "-newkey", "rsa:" + bits, "-nodes", "-keyout", filepath.Join(dir, "key"), "-subj", "/CN=weak", "-out", csr},
		{"x509", "-req", "-in", csr, "-CA", ca, "-CAkey", key, "-set_serial", "99", "-" + md, "-days", "3650", "-extfile", ext, "-out", out},
	} {
		if _, err := cmstest.OpenSSL(t, args...); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A real signature by Windows' own tools needs no leniency: it parses, holds what
// it should, and its signature verifies by hand.
func TestWindowsSignature(t *testing.T) {
	d := parse(t, shim(t))
	if !d.Type.Equal(cms.OIDSpcIndirectData) || !d.PKCS7 || len(d.Signers) != 1 || len(d.Certificates) != 2 {
		t.Fatalf("%v %v %d %d", d.Type, d.PKCS7, len(d.Signers), len(d.Certificates))
	}
	s := d.Signers[0]
	md, err := s.MessageDigest()
	if err != nil {
		t.Fatal(err)
	}
	own, err := d.ContentDigest(s.Digest)
	if err != nil || !bytes.Equal(md, own) {
		t.Fatalf("content digest %x, signed %x, %v", own, md, err)
	}
	cert := s.Certificate()
	if cert == nil || !strings.Contains(cert.Subject.CommonName, "Microsoft Windows UEFI Driver Publisher") {
		t.Fatal(cert)
	}
	pub, err := cms.PublicKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(pub.(*rsa.PublicKey), crypto.SHA256, sum(crypto.SHA256, s.RawSignedAttrs), s.Signature); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.UnsignedAttribute(cms.OIDMicrosoftTimeStamp); !ok {
		t.Fatal("no timestamp")
	}
}

// Golden files: what was written once is written again byte for byte, and
// verifies for ever. The keys are gone; the signatures are taken from the files.
func TestGolden(t *testing.T) {
	rootFile := "testdata/golden/root.der"
	if *update {
		if err := os.MkdirAll("testdata/golden", 0o755); err != nil {
			t.Fatal(err)
		}
		root := cmstest.NewRoot(t)
		if err := os.WriteFile(rootFile, root.Certificate.Raw, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, c := range goldens() {
			id := root.Issue(t, c.name, c.kind)
			if err := os.WriteFile(c.file(), encode(t, c.content, id.Chain, sign(t, id, c.spec)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	der, err := os.ReadFile(rootFile)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	for _, c := range goldens() {
		t.Run(c.name, func(t *testing.T) {
			want, err := os.ReadFile(c.file())
			if err != nil {
				t.Fatal(err)
			}
			d := parse(t, want)
			s := d.Signers[0]
			message, err := c.spec.SignedAttributes()
			if err != nil || !bytes.Equal(message, s.RawSignedAttrs) {
				t.Fatalf("signed attributes differ: %x, %v", message, err)
			}
			cert := s.Certificate()
			got := encode(t, c.content, d.Certificates, cms.SignerInfo{Spec: c.spec, Signature: s.Signature, Certificate: cert})
			if !bytes.Equal(got, want) {
				t.Fatalf("encoding differs:\n%x\n%x", got, want)
			}
			if err := s.Verify(cert, digester(c.octets)); err != nil {
				t.Fatal(err)
			}
			if _, err := cms.VerifyChain(cert, nil, cms.ChainOptions{Roots: pool, Usage: x509.ExtKeyUsageCodeSigning, At: cmstest.At}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

type golden struct {
	name    string
	kind    sigalg.Key
	spec    cms.SignerSpec
	content cms.Content
	octets  []byte
}

func (g golden) file() string { return filepath.Join("testdata/golden", g.name+".der") }

func goldens() (out []golden) {
	for _, c := range everyScheme() {
		s := spec(c.scheme, content)
		s.AlgorithmProtection = true
		out = append(out, golden{string(c.kind) + "-" + string(c.scheme), c.kind, s, cms.Content{Type: cms.OIDData, Bytes: content}, content})
	}
	spc := []byte{0x30, 4, 0x30, 0, 5, 0}
	s := spec(sigalg.RSAPKCS1SHA256, spc[2:])
	s.ContentType = cms.OIDSpcIndirectData
	out = append(out, golden{"authenticode", sigalg.RSA3072, s, cms.Content{Type: cms.OIDSpcIndirectData, Bytes: spc, PKCS7: true}, spc[2:]})
	out = append(out, golden{"detached", sigalg.P256, spec(sigalg.ECDSASHA256, content), cms.Content{Type: cms.OIDData}, content})
	return out
}

// What OpenSSL 3.5 signed with keys that openssl 3.0 does not know in CMS. It
// verifies the files in testdata/golden, too.
func TestVerifyOpenSSL35(t *testing.T) {
	files, err := filepath.Glob("testdata/openssl-3.5/*.der")
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files in testdata/openssl-3.5, want 3", len(files))
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			der, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			d := parse(t, der)
			s := d.Signers[0]
			if !s.Scheme.Valid() || s.Scheme.Hash() != 0 || s.RawSignedAttrs == nil {
				t.Fatal(s.Scheme, s.RawSignedAttrs)
			}
			cert := s.Certificate()
			if err := s.Verify(cert, d.ContentDigest); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(d.Content, content) {
				t.Fatalf("content %q", d.Content)
			}
			wantErr(t, cms.ErrDigest, s.VerifyContent(cert, []byte("other")))
			wantErr(t, cms.ErrDigest, s.Verify(cert, digester([]byte("other"))))
		})
	}
}
