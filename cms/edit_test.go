package cms_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Every scheme, pure ones too, attached and detached, with our own verifier.
func TestEveryScheme(t *testing.T) {
	root := cmstest.NewRoot(t)
	for _, c := range everyScheme() {
		t.Run(string(c.kind)+" "+string(c.scheme), func(t *testing.T) {
			id := root.Issue(t, "a", c.kind)
			s := spec(c.scheme, content)
			s.AlgorithmProtection = true
			info := sign(t, id, s)
			if err := checkAll(encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, id.Chain, info), root.Pool()); err != nil {
				t.Fatal(err)
			}
			d := parse(t, encode(t, cms.Content{Type: cms.OIDData}, id.Chain, info))
			p := d.Signers[0]
			if p.Scheme != c.scheme || p.Digest != s.Digest || d.Content != nil {
				t.Fatalf("scheme %q, digest %v, content %q", p.Scheme, p.Digest, d.Content)
			}
			if err := p.Verify(id.Certificate, digester(content)); err != nil {
				t.Fatal(err)
			}
			wantErr(t, cms.ErrDigest, p.Verify(id.Certificate, digester(content[1:])))
			message, err := s.SignedAttributes()
			if err != nil || !bytes.Equal(message, p.RawSignedAttrs) {
				t.Fatalf("attributes changed on their way: %v", err)
			}

			bare := cms.SignerInfo{
				Spec:        cms.SignerSpec{ContentType: cms.OIDData, Digest: s.Digest, Scheme: c.scheme, NoAttributes: true},
				Certificate: id.Certificate, Signature: id.Sign(t, c.scheme, content),
			}
			d = parse(t, encode(t, cms.Content{Type: cms.OIDData}, id.Chain, bare))
			wantErr(t, cms.ErrContentNeeded, d.Signers[0].Verify(id.Certificate, digester(content)))
			if err := d.Signers[0].VerifyContent(id.Certificate, content); err != nil {
				t.Fatal(err)
			}
			wantErr(t, cms.ErrSignature, d.Signers[0].VerifyContent(id.Certificate, content[1:]))
		})
	}
}

// Invariant 1: the same spec gives the same bytes, in whatever order its
// attributes are given.
func TestSignedAttributesDeterministic(t *testing.T) {
	a, b := cms.NewAttribute(cms.OIDSigningTime, []byte{5, 0}), cms.NewAttribute(cms.OIDSigningCertificateV2, []byte{0x30, 0})
	s := spec(sigalg.RSAPSSSHA384, content)
	s.AlgorithmProtection = true
	s.Attributes = []cms.Attribute{a, b}
	x, err := s.SignedAttributes()
	if err != nil {
		t.Fatal(err)
	}
	s.Attributes = []cms.Attribute{b, a}
	y, err := s.SignedAttributes()
	if err != nil || !bytes.Equal(x, y) || x[0] != 0x31 {
		t.Fatalf("%x\n%x\n%v", x, y, err)
	}
}

// Invariant 5: edits keep every byte of the signatures that are there.
func TestEditsKeepBytes(t *testing.T) {
	root := cmstest.NewRoot(t)
	a, b := root.Issue(t, "a", sigalg.P256), root.Issue(t, "b", sigalg.MLDSA65)
	one := encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, a.Chain, sign(t, a, spec(sigalg.ECDSASHA256, content)))
	stamped, err := cms.AddUnsigned(one, 0, cms.NewAttribute(cms.OIDTimeStampToken, []byte{0x30, 0}))
	if err != nil {
		t.Fatal(err)
	}
	nested, err := cms.AddUnsigned(stamped, 0, cms.NewAttribute(cms.OIDNestedSignature, one))
	if err != nil {
		t.Fatal(err)
	}
	if nested, err = cms.AddUnsigned(nested, 0, cms.NewAttribute(cms.OIDNestedSignature, stamped)); err != nil {
		t.Fatal(err)
	}
	s := parse(t, nested).Signers[0]
	if len(s.Unsigned) != 2 {
		t.Fatalf("%d unsigned attributes, want a timestamp and one with two nested signatures", len(s.Unsigned))
	}
	inner, ok := s.UnsignedAttribute(cms.OIDNestedSignature)
	if !ok || len(inner.Values) != 2 {
		t.Fatal("nested signatures lost")
	}
	for _, v := range inner.Values {
		if err := checkAll(v.FullBytes, root.Pool()); err != nil {
			t.Fatal(err)
		}
	}
	both, err := cms.AddSigner(nested, b.Chain, sign(t, b, spec(sigalg.PureMLDSA65, content)))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkAll(both, root.Pool()); err != nil {
		t.Fatal(err)
	}
	before, after := parse(t, one), parse(t, both)
	if len(after.Signers) != 2 || len(after.RawCertificates) != 2 {
		t.Fatalf("%d signers, %d certificates", len(after.Signers), len(after.RawCertificates))
	}
	x, y := before.Signers[0], after.Signers[0]
	if !bytes.Equal(x.RawSignedAttrs, y.RawSignedAttrs) || !bytes.Equal(x.Signature, y.Signature) || !bytes.Equal(before.ContentRaw, after.ContentRaw) {
		t.Fatal("first signature changed")
	}
	again, err := cms.AddCertificates(both, a.Certificate, b.Certificate)
	if err != nil || !bytes.Equal(again, both) {
		t.Fatal("certificates that are there added again: ", err)
	}
	_, err = cms.AddSigner(one, nil, sign(t, b, spec(sigalg.PureMLDSA65, []byte("other"))))
	wantErr(t, cms.ErrDigest, err)
}

// Invariant 6: a leaf must name the usage itself.
func TestVerifyChain(t *testing.T) {
	root := cmstest.NewRoot(t)
	ca := root.Authority(t, "Test Issuer")
	options := cms.ChainOptions{Roots: root.Pool(), Usage: x509.ExtKeyUsageCodeSigning, At: cmstest.At}
	good := ca.Issue(t, "a", sigalg.RSA3072)
	chains, err := cms.VerifyChain(good.Certificate, good.Chain, options)
	if err != nil || len(chains) != 1 || len(chains[0]) != 3 {
		t.Fatal(chains, err)
	}
	bad := func(id *cmstest.Identity, change func(*cms.ChainOptions)) {
		t.Helper()
		o := options
		if change != nil {
			change(&o)
		}
		if _, err := cms.VerifyChain(id.Certificate, id.Chain, o); err == nil {
			t.Fatalf("accepted %q", id.Certificate.Subject)
		}
	}
	usage := func(name string, u ...x509.ExtKeyUsage) *cmstest.Identity {
		return ca.Issue(t, name, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = u })
	}
	bad(usage("no usage"), nil)
	bad(usage("any", x509.ExtKeyUsageAny), nil)
	bad(usage("server", x509.ExtKeyUsageServerAuth), nil)
	bad(usage("stamping", x509.ExtKeyUsageTimeStamping), nil)
	bad(ca.Issue(t, "encryption only", sigalg.P256, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), nil)
	bad(ca.Issue(t, "expired", sigalg.P256, func(c *x509.Certificate) { c.NotAfter = cmstest.At.AddDate(0, 0, -1) }), nil)
	bad(ca.Issue(t, "early", sigalg.P256, func(c *x509.Certificate) { c.NotBefore = cmstest.At.AddDate(0, 0, 1) }), nil)
	bad(good, func(o *cms.ChainOptions) { o.Roots = cmstest.NewRoot(t).Pool() })
	bad(good, func(o *cms.ChainOptions) { o.Roots = nil })
	bad(good, func(o *cms.ChainOptions) { o.At = o.At.AddDate(100, 0, 0) })
	bad(good, func(o *cms.ChainOptions) { *o = cms.ChainOptions{Roots: o.Roots, Usage: o.Usage} })
	bad(good, func(o *cms.ChainOptions) { o.Usage = x509.ExtKeyUsageAny })
	notCA := ca.Issue(t, "not an authority", sigalg.P256)
	bad(notCA.Issue(t, "issued by a leaf", sigalg.P256), nil)
	limited := ca.Issue(t, "authority for servers", sigalg.P256, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	bad(limited.Issue(t, "code under servers", sigalg.P256), nil)
	if _, err := cms.VerifyChain(nil, nil, options); err == nil {
		t.Fatal("no leaf accepted")
	}
}

// RSA under 2048 bits below the root does not count, nor SHA-1; openssl makes them.
func TestVerifyChainWeak(t *testing.T) {
	root := cmstest.NewRootOf(t, sigalg.RSA3072)
	options := cms.ChainOptions{Roots: root.Pool(), Usage: x509.ExtKeyUsageCodeSigning, At: cmstest.At}
	for _, c := range []struct {
		bits, md string
		ok       bool
	}{{"2048", "sha256", true}, {"1024", "sha256", false}, {"2048", "sha1", false}} {
		t.Run(c.bits+" "+c.md, func(t *testing.T) {
			cert := opensslLeaf(t, root, c.bits, c.md)
			o := options
			o.At = cert.NotBefore.AddDate(1, 0, 0)
			_, err := cms.VerifyChain(cert, nil, o)
			if c.ok && err != nil {
				t.Fatal(err)
			}
			if !c.ok {
				wantErr(t, cms.ErrChain, err)
			}
		})
	}
}

// Every kind of key is read from a certificate, and a real signature of Microsoft's
// by RSA of 2048 bits verifies.
func TestVerifyKinds(t *testing.T) {
	pub, err := cms.PublicKey(nil)
	if pub != nil || err == nil {
		t.Fatal("key without certificate")
	}
	for kind := range map[sigalg.Key]bool{sigalg.RSA3072: true, sigalg.P384: true, sigalg.Ed25519: true, sigalg.MLDSA65: true, sigalg.MLDSA87: true} {
		id := cmstest.NewRoot(t).Issue(t, "a", kind)
		pub, err := cms.PublicKey(id.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if k, err := sigalg.KeyOf(pub); err != nil || k != kind {
			t.Fatal(k, err)
		}
	}
	d := parse(t, shim(t))
	cert := d.Signers[0].Certificate()
	if err := d.Signers[0].Verify(cert, d.ContentDigest); err != nil {
		t.Error(err)
	}
}
