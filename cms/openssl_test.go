package cms_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"os"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var content = []byte("the seal is set only under warrants\r\n")

func sum(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

func spec(scheme sigalg.Scheme, content []byte) cms.SignerSpec {
	h := cms.DigestFor(scheme)
	return cms.SignerSpec{ContentType: cms.OIDData, ContentDigest: sum(h, content), Digest: h, Scheme: scheme}
}

func sign(t testing.TB, id *cmstest.Identity, s cms.SignerSpec) cms.SignerInfo {
	t.Helper()
	message, err := s.SignedAttributes()
	if err != nil {
		t.Fatal(err)
	}
	return cms.SignerInfo{Spec: s, Signature: id.Sign(t, s.Scheme, message), Certificate: id.Certificate}
}

func encode(t testing.TB, c cms.Content, certs []*x509.Certificate, signers ...cms.SignerInfo) []byte {
	t.Helper()
	der, err := cms.Encode(c, certs, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t testing.TB, der []byte) *cms.SignedData {
	t.Helper()
	d, err := cms.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// digester gives the digests of a detached content.
func digester(content []byte) func(crypto.Hash) ([]byte, error) {
	return func(h crypto.Hash) ([]byte, error) { return sum(h, content), nil }
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type kindScheme struct {
	kind   sigalg.Key
	scheme sigalg.Scheme
}

func classical() []kindScheme {
	return []kindScheme{
		{sigalg.RSA3072, sigalg.RSAPKCS1SHA256},
		{sigalg.RSA3072, sigalg.RSAPKCS1SHA384},
		{sigalg.RSA3072, sigalg.RSAPKCS1SHA512},
		{sigalg.RSA3072, sigalg.RSAPSSSHA256},
		{sigalg.RSA3072, sigalg.RSAPSSSHA384},
		{sigalg.RSA3072, sigalg.RSAPSSSHA512},
		{sigalg.P256, sigalg.ECDSASHA256},
		{sigalg.P256, sigalg.ECDSASHA512},
		{sigalg.P384, sigalg.ECDSASHA384},
	}
}

// everyScheme has those too that openssl before 3.2 does not know in CMS; frozen
// vectors stand in for it there.
func everyScheme() []kindScheme {
	return append(classical(), kindScheme{sigalg.Ed25519, sigalg.PureEd25519}, kindScheme{sigalg.MLDSA65, sigalg.PureMLDSA65}, kindScheme{sigalg.MLDSA87, sigalg.PureMLDSA87})
}

// OpenSSL accepts what we make, attached and detached, and refuses it over other
// content.
func TestOpenSSLVerifiesOurs(t *testing.T) {
	root := cmstest.NewRoot(t)
	ca := root.Authority(t, "Test Issuer")
	for _, c := range classical() {
		t.Run(string(c.kind)+" "+string(c.scheme), func(t *testing.T) {
			dir := t.TempDir()
			id := ca.Issue(t, "signer", c.kind)
			_, _, rootFile := id.WriteFiles(t, dir, "signer")
			good, bad := write(t, "content", content), write(t, "content", append([]byte("x"), content...))
			for _, protect := range []bool{false, true} {
				s := spec(c.scheme, content)
				s.AlgorithmProtection = protect
				info := sign(t, id, s)

				detached := write(t, "s.der", encode(t, cms.Content{Type: cms.OIDData}, id.Chain, info))
				args := []string{"cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", rootFile, "-out", filepath.Join(dir, "out")}
				if out, err := cmstest.OpenSSL(t, append(args, "-in", detached, "-content", good)...); err != nil {
					t.Fatal(out, err)
				}
				if out, err := cmstest.OpenSSL(t, append(args, "-in", detached, "-content", bad)...); err == nil {
					t.Fatal("openssl accepted other content: ", out)
				}

				attached := write(t, "s.der", encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, id.Chain, info))
				if out, err := cmstest.OpenSSL(t, append(args, "-in", attached)...); err != nil {
					t.Fatal(out, err)
				}
				got, err := os.ReadFile(filepath.Join(dir, "out"))
				if err != nil || !bytes.Equal(got, content) {
					t.Fatalf("openssl gave content %q, %v", got, err)
				}
			}
		})
	}
}

// OpenSSL accepts several signers, a signer named by key identifier, other content
// types, a signature without attributes, and what the edits make.
func TestOpenSSLVerifiesForms(t *testing.T) {
	root := cmstest.NewRoot(t)
	a, b := root.Issue(t, "a", sigalg.P256), root.Issue(t, "b", sigalg.RSA3072)
	dir := t.TempDir()
	_, _, rootFile := a.WriteFiles(t, dir, "a")
	infoA, infoB := sign(t, a, spec(sigalg.ECDSASHA256, content)), sign(t, b, spec(sigalg.RSAPSSSHA512, content))
	certs := []*x509.Certificate{a.Certificate, b.Certificate}
	byKey := infoA
	byKey.KeyIdentifier = true
	bare := cms.SignerInfo{
		Spec:        cms.SignerSpec{ContentType: cms.OIDData, Digest: crypto.SHA256, Scheme: sigalg.RSAPKCS1SHA256, NoAttributes: true},
		Certificate: b.Certificate, Signature: b.Sign(t, sigalg.RSAPKCS1SHA256, content),
	}
	tst := spec(sigalg.ECDSASHA256, content)
	tst.ContentType = cms.OIDTSTInfo
	stamped := encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, certs, infoA, infoB)
	var err error
	for i := range 2 {
		if stamped, err = cms.AddUnsigned(stamped, i, cms.NewAttribute(cms.OIDTimeStampToken, []byte{0x30, 0})); err != nil {
			t.Fatal(err)
		}
	}
	added, err := cms.AddSigner(encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, certs[:1], byKey), certs[1:], infoB)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"two signers":    encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, certs, infoB, infoA),
		"key identifier": encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, certs, byKey, infoB),
		"pkcs7":          encode(t, cms.Content{Type: cms.OIDData, Bytes: content, PKCS7: true}, certs, infoA),
		"no attributes":  encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, certs, bare),
		"other type":     encode(t, cms.Content{Type: cms.OIDTSTInfo, Bytes: content}, certs, sign(t, a, tst)),
		"unsigned added": stamped,
		"signer added":   added,
	} {
		t.Run(name, func(t *testing.T) {
			out, err := cmstest.OpenSSL(t, "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", rootFile, "-in", write(t, "s.der", der), "-out", os.DevNull)
			if err != nil {
				t.Fatal(out, err)
			}
			d := parse(t, der)
			for _, s := range d.Signers {
				if err := s.Verify(s.Certificate(), d.ContentDigest); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// We accept what openssl makes.
func TestVerifyOpenSSL(t *testing.T) {
	root := cmstest.NewRoot(t)
	dir := t.TempDir()
	in := write(t, "content", content)
	files := map[string][]string{}
	for name, kind := range map[string]sigalg.Key{"rsa": sigalg.RSA3072, "p256": sigalg.P256, "p384": sigalg.P384} {
		cert, key, _ := root.Issue(t, name, kind).WriteFiles(t, dir, name)
		files[name] = []string{"-signer", cert, "-inkey", key}
	}
	pss := []string{"-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest"}
	cat := func(parts ...[]string) (out []string) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	for _, c := range []struct {
		name     string
		args     []string
		signers  int
		attached bool
	}{
		{"rsa detached", files["rsa"], 1, false},
		{"rsa attached", cat(files["rsa"], []string{"-nodetach"}), 1, true},
		{"rsa sha512", cat(files["rsa"], []string{"-md", "sha512", "-nodetach"}), 1, true},
		{"rsa pss", cat(files["rsa"], pss, []string{"-nodetach"}), 1, true},
		{"p256", cat(files["p256"], []string{"-nodetach"}), 1, true},
		{"p384", cat(files["p384"], []string{"-md", "sha384", "-nodetach"}), 1, true},
		{"key identifier", cat(files["rsa"], []string{"-keyid", "-nodetach"}), 1, true},
		{"no attributes detached", cat(files["rsa"], []string{"-noattr"}), 1, false},
		{"no attributes attached", cat(files["p256"], []string{"-noattr", "-nodetach"}), 1, true},
		{"three signers", cat(files["rsa"], files["p256"], files["p384"], []string{"-nodetach"}), 3, true},
		{"other type", cat(files["rsa"], []string{"-econtent_type", "1.2.840.113549.1.9.16.1.4", "-nodetach"}), 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "s.der")
			args := append([]string{"cms", "-sign", "-binary", "-outform", "DER", "-in", in, "-out", out}, c.args...)
			if _, err := cmstest.OpenSSL(t, args...); err != nil {
				t.Fatal(err)
			}
			der, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			d := parse(t, der)
			if len(d.Signers) != c.signers || (d.Content != nil) != c.attached {
				t.Fatalf("%d signers, content %v", len(d.Signers), d.Content)
			}
			for i, s := range d.Signers {
				cert := s.Certificate()
				if err := s.VerifyContent(cert, content); err != nil {
					t.Fatalf("signer %d: %v", i, err)
				}
				if err := s.VerifyContent(cert, content[1:]); err == nil {
					t.Fatalf("signer %d verifies other content", i)
				}
				if c.attached {
					if err := s.Verify(cert, d.ContentDigest); err != nil {
						t.Fatalf("signer %d: %v", i, err)
					}
				}
				if _, err := cms.VerifyChain(cert, d.Certificates, cms.ChainOptions{Roots: root.Pool(), Usage: x509.ExtKeyUsageCodeSigning, At: cmstest.At}); err != nil {
					t.Fatal(err)
				}
			}
			if c.name == "other type" && !d.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}) {
				t.Fatal(d.Type)
			}
		})
	}
}

// Streamed output has indefinite lengths, and is refused in words that say so.
func TestRefuseBER(t *testing.T) {
	cert, key, _ := cmstest.NewRoot(t).Issue(t, "a", sigalg.P256).WriteFiles(t, t.TempDir(), "a")
	out := filepath.Join(t.TempDir(), "s.ber")
	if _, err := cmstest.OpenSSL(t, "cms", "-sign", "-binary", "-stream", "-nodetach", "-outform", "DER", "-in", write(t, "c", content), "-out", out, "-signer", cert, "-inkey", key); err != nil {
		t.Fatal(err)
	}
	ber, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, cms.ErrIndefinite, func() error { _, err := cms.Parse(ber); return err }())
}
