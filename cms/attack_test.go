package cms_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// checkAll parses, and verifies every signer with the certificate that it names
// and a chain to the root: what a user of the package does.
func checkAll(der []byte, root *x509.CertPool) error {
	d, err := cms.Parse(der)
	if err != nil {
		return err
	}
	if len(d.Signers) == 0 {
		return errors.New("no signer")
	}
	for _, s := range d.Signers {
		cert := s.Certificate()
		if cert == nil {
			return cms.ErrCertificate
		}
		if err := s.Verify(cert, d.ContentDigest); err != nil {
			return err
		}
		if _, err := cms.VerifyChain(cert, d.Certificates, cms.ChainOptions{Roots: root, Usage: x509.ExtKeyUsageCodeSigning, At: cmstest.At}); err != nil {
			return err
		}
	}
	return nil
}

// Invariant 3: every changed bit outside unsigned attributes is found. All bits of
// every byte are tried, and all at once.
func TestEveryFlippedBit(t *testing.T) {
	root := cmstest.NewRoot(t)
	certs := func(id *cmstest.Identity) []*x509.Certificate { return id.Chain }
	ed, ec, rsa := root.Issue(t, "ed", sigalg.Ed25519), root.Issue(t, "ec", sigalg.P256), root.Issue(t, "rsa", sigalg.RSA3072)
	protected := spec(sigalg.PureEd25519, content)
	protected.AlgorithmProtection = true
	spc := spec(sigalg.ECDSASHA256, []byte{0x30, 0}[2:])
	spc.ContentType = cms.OIDSpcIndirectData
	tst := spec(sigalg.ECDSASHA256, content)
	tst.ContentType = cms.OIDTSTInfo
	byKey := sign(t, ec, spec(sigalg.ECDSASHA256, content))
	byKey.KeyIdentifier = true
	bare := cms.SignerInfo{
		Spec:        cms.SignerSpec{ContentType: cms.OIDData, Digest: crypto.SHA256, Scheme: sigalg.ECDSASHA256, NoAttributes: true},
		Certificate: ec.Certificate, Signature: ec.Sign(t, sigalg.ECDSASHA256, content),
	}
	data := cms.Content{Type: cms.OIDData, Bytes: content}
	for name, der := range map[string][]byte{
		"ed25519":       encode(t, data, certs(ed), sign(t, ed, protected)),
		"ecdsa":         encode(t, data, certs(ec), sign(t, ec, spec(sigalg.ECDSASHA256, content))),
		"ecdsa key id":  encode(t, data, certs(ec), byKey),
		"pkcs1":         encode(t, data, certs(rsa), sign(t, rsa, spec(sigalg.RSAPKCS1SHA256, content))),
		"pss":           encode(t, data, certs(rsa), sign(t, rsa, spec(sigalg.RSAPSSSHA256, content))),
		"authenticode":  encode(t, cms.Content{Type: cms.OIDSpcIndirectData, Bytes: []byte{0x30, 0}, PKCS7: true}, certs(ec), sign(t, ec, spc)),
		"tst":           encode(t, cms.Content{Type: cms.OIDTSTInfo, Bytes: content}, certs(ec), sign(t, ec, tst)),
		"no attributes": encode(t, data, certs(ec), bare),
		"two signers":   encode(t, data, append(certs(ec), ed.Certificate), sign(t, ec, spec(sigalg.ECDSASHA256, content)), sign(t, ed, protected)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkAll(der, root.Pool()); err != nil {
				t.Fatal(err)
			}
			t.Parallel()
			d := parse(t, der)
			for i := range der {
				changes := []byte{1, 2, 4, 8, 16, 32, 64, 128, 255}
				if slices.ContainsFunc(d.RawCertificates, func(c []byte) bool { at := bytes.Index(der, c); return i >= at && i < at+len(c) }) {
					changes = []byte{1, 128} // the certificate's own signature covers it
				}
				for _, x := range changes {
					bad := bytes.Clone(der)
					bad[i] ^= x
					if checkAll(bad, root.Pool()) == nil {
						t.Errorf("accepted with byte %d of %d changed from %#x to %#x", i, len(der), der[i], bad[i])
					}
				}
			}
		})
	}
}

// What may be changed is the values of unsigned attributes and nothing else.
func TestFlippedUnsigned(t *testing.T) {
	root := cmstest.NewRoot(t)
	id := root.Issue(t, "ed", sigalg.Ed25519)
	der := encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, id.Chain, sign(t, id, spec(sigalg.PureEd25519, content)))
	mark := []byte("unsigned value")
	value := append([]byte{4, byte(len(mark))}, mark...)
	der, err := cms.AddUnsigned(der, 0, cms.NewAttribute(cms.OIDTimeStampToken, value))
	if err != nil {
		t.Fatal(err)
	}
	attr, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}{cms.OIDTimeStampToken, []asn1.RawValue{{FullBytes: value}}})
	if err != nil {
		t.Fatal(err)
	}
	from := bytes.Index(der, attr)
	if from < 0 || from+len(attr) != len(der) {
		t.Fatal("unsigned attribute not at the end")
	}
	for i := range der {
		bad := bytes.Clone(der)
		bad[i] ^= 0x10
		if err := checkAll(bad, root.Pool()); err == nil && i < from {
			t.Errorf("accepted with byte %d changed", i)
		} else if err != nil && i >= len(der)-len(mark) {
			t.Errorf("an unsigned value may be anything: %v", err)
		}
	}
}

// Truncation at every length and every added byte errors.
func TestTruncated(t *testing.T) {
	id := cmstest.NewRoot(t).Issue(t, "a", sigalg.P256)
	der := encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, id.Chain, sign(t, id, spec(sigalg.ECDSASHA256, content)))
	for i := range der {
		if _, err := cms.Parse(der[:i]); !errors.Is(err, cms.ErrSyntax) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
	if _, err := cms.Parse(append(bytes.Clone(der), 0)); !errors.Is(err, cms.ErrSyntax) {
		t.Fatal(err)
	}
	if one, rest, err := cms.Split(append(bytes.Clone(der), 0, 0)); err != nil || !bytes.Equal(one, der) || len(rest) != 2 {
		t.Fatal(err, len(rest))
	}
}

// rawAttribute is an Attribute whose values stay in the order given.
func rawAttribute(t testing.TB, oid asn1.ObjectIdentifier, values ...[]byte) []byte {
	t.Helper()
	typ, err := asn1.Marshal(oid)
	if err != nil {
		t.Fatal(err)
	}
	return seq(t, typ, tagged(t, 0x31, values...))
}

func tagged(t testing.TB, tag byte, parts ...[]byte) []byte {
	t.Helper()
	der, err := asn1.Marshal(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 31), IsCompound: tag&32 != 0, Bytes: bytes.Join(parts, nil)})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sorted brings attributes into DER order.
func sorted(attributes ...[]byte) [][]byte {
	slices.SortFunc(attributes, bytes.Compare)
	return attributes
}

func seq(t testing.TB, parts ...[]byte) []byte { t.Helper(); return tagged(t, 0x30, parts...) }

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// forged builds a SignedData by hand, free of what Encode would refuse, with a
// signature that is right over the attributes as they stand.
type forged struct {
	version    int
	typ        asn1.ObjectIdentifier
	digests    []byte // contents of the SET
	digest     []byte
	alg        []byte
	attributes [][]byte // nil: none
	content    []byte   // signed when there are no attributes
	message    []byte   // signed instead of attributes or content
}

var (
	sha256ID = []byte{0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}
	sha512ID = []byte{0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3}
	sha1ID   = []byte{0x30, 7, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a}
	md5ID    = []byte{0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5}
	ecID     = []byte{0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}
	ec512ID  = []byte{0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4}
)

func forge(t testing.TB, id *cmstest.Identity, change func(*forged)) []byte {
	t.Helper()
	f := forged{
		version: 1, typ: cms.OIDData, digests: sha256ID, digest: sha256ID, alg: ecID, content: content,
		attributes: [][]byte{
			rawAttribute(t, cms.OIDContentType, der(t, cms.OIDData)),
			rawAttribute(t, cms.OIDMessageDigest, der(t, sum(crypto.SHA256, content))),
		},
	}
	change(&f)
	message := f.message
	if message == nil {
		message = f.content
		if f.attributes != nil {
			message = tagged(t, 0x31, f.attributes...)
		}
	}
	signer := [][]byte{der(t, 1), seq(t, id.Certificate.RawIssuer, der(t, id.Certificate.SerialNumber)), f.digest}
	if f.attributes != nil {
		signer = append(signer, tagged(t, 0xa0, f.attributes...))
	}
	signer = append(signer, f.alg, der(t, id.Sign(t, sigalg.ECDSASHA256, message)))
	return seq(t, der(t, cms.OIDSignedData), tagged(t, 0xa0, seq(t, der(t, f.version), tagged(t, 0x31, f.digests),
		seq(t, der(t, f.typ), tagged(t, 0xa0, der(t, f.content))), tagged(t, 0xa0, id.Certificate.Raw), tagged(t, 0x31, seq(t, signer...)))))
}

// What other signers write and means the same: the algorithm of keys instead of that of
// signatures, with and without NULL, and the issuer in another string type.
func TestOtherWordsForTheSame(t *testing.T) {
	root := cmstest.NewRoot(t)
	id := root.Issue(t, "a", sigalg.P256)
	key := []byte{6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1}
	for _, alg := range [][]byte{seq(t, key), seq(t, key, []byte{5, 0})} {
		if err := checkAll(forge(t, id, func(f *forged) { f.alg = alg }), root.Pool()); err != nil {
			t.Errorf("%x: %v", alg, err)
		}
	}
	good := forge(t, id, func(*forged) {})
	issuer := id.Certificate.RawIssuer
	at := bytes.LastIndex(good, issuer) // in the SignerInfo
	retag := func(from, to byte) []byte {
		b := bytes.Clone(good)
		name, changed := b[at:at+len(issuer)], false
		for i := 3; i+2 < len(name); i++ {
			if name[i-3] == 0x55 && name[i-2] == 4 && name[i] == from { // behind an attribute type of X.520
				name[i], changed = to, true
			}
		}
		if !changed {
			t.Fatalf("no string of type %#x in the issuer %x", from, issuer)
		}
		return b
	}
	if err := checkAll(retag(0x13, 0x0c), root.Pool()); err != nil {
		t.Errorf("UTF8String for PrintableString: %v", err)
	}
	if err := checkAll(retag(0x13, 0x16), root.Pool()); err == nil {
		t.Error("IA5String for PrintableString is accepted")
	}
	other := bytes.Clone(good)
	other[at+len(issuer)-1] ^= 0x20 // upper case for lower
	if err := checkAll(other, root.Pool()); err == nil {
		t.Error("another issuer is accepted")
	}
}

// Invariant 4, and the other ways in which signatures that are right over their
// attributes say something else than they seem to.
func TestForged(t *testing.T) {
	root := cmstest.NewRoot(t)
	id := root.Issue(t, "a", sigalg.P256)
	if err := checkAll(forge(t, id, func(*forged) {}), root.Pool()); err != nil {
		t.Fatal("the forger's tool does not work: ", err)
	}
	protect := func(digest, alg []byte) []byte {
		return rawAttribute(t, cms.OIDAlgorithmProtection, seq(t, digest, tagged(t, 0xa1, alg[2:])))
	}
	if err := checkAll(forge(t, id, func(f *forged) { f.attributes = sorted(append(f.attributes, protect(sha256ID, ecID))...) }), root.Pool()); err != nil {
		t.Fatal("algorithm protection that is right: ", err)
	}
	attributes := func(f *forged) []byte { return tagged(t, 0x31, f.attributes...) }
	for _, c := range []struct {
		name   string
		want   error
		change func(*forged)
	}{
		{"other content type", cms.ErrAttribute, func(f *forged) { f.typ, f.version = cms.OIDTSTInfo, 3 }},
		{"no content type", cms.ErrAttribute, func(f *forged) { f.attributes = f.attributes[1:] }},
		{"no message digest", cms.ErrAttribute, func(f *forged) { f.attributes = f.attributes[:1] }},
		{"message digest twice", cms.ErrSyntax, func(f *forged) { f.attributes = append(f.attributes, f.attributes[1]) }},
		{"two message digests", cms.ErrAttribute, func(f *forged) {
			a, b := der(t, sum(crypto.SHA256, content)), der(t, sum(crypto.SHA256, nil))
			if bytes.Compare(a, b) > 0 {
				a, b = b, a
			}
			f.attributes[1] = rawAttribute(t, cms.OIDMessageDigest, a, b)
		}},
		{"message digest of other content", cms.ErrDigest, func(f *forged) { f.content = []byte("other") }},
		{"message digest no octet string", cms.ErrAttribute, func(f *forged) {
			f.attributes = sorted(f.attributes[0], rawAttribute(t, cms.OIDMessageDigest, der(t, 5)))
		}},
		{"attribute without value", cms.ErrSyntax, func(f *forged) {
			f.attributes = append(f.attributes, rawAttribute(t, cms.OIDSigningTime))
		}},
		{"no attribute", cms.ErrSyntax, func(f *forged) { f.attributes = [][]byte{} }},
		{"attributes out of order", cms.ErrOrder, func(f *forged) { slices.Reverse(f.attributes) }},
		{"attributes out of order, signed in order", cms.ErrOrder, func(f *forged) {
			f.message = attributes(f)
			f.attributes = slices.Clone(f.attributes)
			slices.Reverse(f.attributes)
		}},
		{"values out of order", cms.ErrOrder, func(f *forged) {
			f.attributes = sorted(append(f.attributes, rawAttribute(t, cms.OIDTimeStampToken, der(t, 9), der(t, 3)))...)
		}},
		{"attributes signed with their implicit tag", cms.ErrSignature, func(f *forged) { f.message = tagged(t, 0xa0, f.attributes...) }},
		{"signature over the content in spite of attributes", cms.ErrSignature, func(f *forged) { f.message = f.content }},
		{"attributes taken for content", cms.ErrAttribute, func(f *forged) { f.content, f.attributes = attributes(f), nil }},
		{"no attributes and not data", cms.ErrAttribute, func(f *forged) { f.attributes, f.typ, f.version = nil, cms.OIDTSTInfo, 3 }},
		{"sha-1", cms.ErrAlgorithm, func(f *forged) { f.digest, f.digests = sha1ID, sha1ID }},
		{"md5", cms.ErrAlgorithm, func(f *forged) { f.digest, f.digests = md5ID, md5ID }},
		{"digest other than the signature's", cms.ErrAlgorithm, func(f *forged) { f.digest, f.digests = sha512ID, sha512ID }},
		{"signature algorithm other than the digest", cms.ErrAlgorithm, func(f *forged) { f.alg = ec512ID }},
		{"digest not announced", cms.ErrAlgorithm, func(f *forged) { f.digests = sha512ID }},
		{"no digest announced", cms.ErrAlgorithm, func(f *forged) { f.digests = nil }},
		{"parameters of an EC key", cms.ErrAlgorithm, func(f *forged) {
			f.alg = seq(t, []byte{6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1}, []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7})
		}},
		{"parameters of ecdsa", cms.ErrAlgorithm, func(f *forged) { f.alg = seq(t, ecID[2:], []byte{5, 0}) }},
		{"parameters of a digest", cms.ErrAlgorithm, func(f *forged) { f.digest = seq(t, sha256ID[2:], []byte{4, 0}); f.digests = f.digest }},
		{"protection of another digest", cms.ErrAlgorithm, func(f *forged) { f.attributes = sorted(append(f.attributes, protect(sha512ID, ecID))...) }},
		{"protection of another signature", cms.ErrAlgorithm, func(f *forged) { f.attributes = sorted(append(f.attributes, protect(sha256ID, ec512ID))...) }},
		{"protection malformed", cms.ErrAttribute, func(f *forged) {
			f.attributes = sorted(append(f.attributes, rawAttribute(t, cms.OIDAlgorithmProtection, seq(t, sha256ID)))...)
		}},
		{"version", cms.ErrSyntax, func(f *forged) { f.version = 3 }},
		{"version 1 with another type", cms.ErrSyntax, func(f *forged) { f.typ = cms.OIDSpcIndirectData }},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantErr(t, c.want, checkAll(forge(t, id, c.change), root.Pool()))
		})
	}
}

// Verify refuses certificates that the signature does not name, and the key of
// another under the same name.
func TestOtherCertificate(t *testing.T) {
	root := cmstest.NewRoot(t)
	id, other := root.Issue(t, "a", sigalg.P256), root.Issue(t, "a", sigalg.P256)
	twin := root.Issue(t, "a", sigalg.P256, func(c *x509.Certificate) { c.SerialNumber = id.Certificate.SerialNumber })
	d := parse(t, encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, id.Chain, sign(t, id, spec(sigalg.ECDSASHA256, content))))
	wantErr(t, cms.ErrCertificate, d.Signers[0].Verify(nil, d.ContentDigest))
	wantErr(t, cms.ErrCertificate, d.Signers[0].Verify(other.Certificate, d.ContentDigest))
	wantErr(t, cms.ErrSignature, d.Signers[0].Verify(twin.Certificate, d.ContentDigest))
	wantErr(t, cms.ErrDigest, d.Signers[0].Verify(id.Certificate, digester([]byte("other"))))
	wantErr(t, cms.ErrDigest, d.Signers[0].Verify(id.Certificate, func(crypto.Hash) ([]byte, error) { return nil, nil }))
	broken := errors.New("disk on fire")
	wantErr(t, broken, d.Signers[0].Verify(id.Certificate, func(crypto.Hash) ([]byte, error) { return nil, broken }))
}

// Every limit is held.
func TestLimits(t *testing.T) {
	root := cmstest.NewRoot(t)
	id := root.Issue(t, "a", sigalg.P256)
	info := sign(t, id, spec(sigalg.ECDSASHA256, content))
	one := encode(t, cms.Content{Type: cms.OIDData}, id.Chain, info)
	parsed := func(der []byte) error { _, err := cms.Parse(der); return err }
	grow := func(n int, contents func(i int) []byte) (out []byte) {
		for i := range n {
			out = append(out, contents(i)...)
		}
		return out
	}
	build := func(certs, signers []byte) []byte {
		return seq(t, der(t, cms.OIDSignedData), tagged(t, 0xa0, seq(t, der(t, 1), tagged(t, 0x31, sha256ID), seq(t, der(t, cms.OIDData)), tagged(t, 0xa0, certs), tagged(t, 0x31, signers))))
	}
	signer := func(unsigned []byte) []byte {
		return seq(t, der(t, 1), seq(t, id.Certificate.RawIssuer, der(t, big.NewInt(5))), sha256ID, ecID, []byte{4, 1, 0}, tagged(t, 0xa1, unsigned))
	}
	attr := rawAttribute(t, cms.OIDTimeStampToken, der(t, 1))
	fine := func(int) []byte { return signer(attr) }
	if err := parsed(build(grow(cms.MaxCertificates, func(int) []byte { return []byte{0x30, 0} }), grow(cms.MaxSigners, fine))); err != nil {
		t.Fatal(err)
	}
	wantErr(t, cms.ErrLimit, parsed(build(grow(cms.MaxCertificates+1, func(int) []byte { return []byte{0x30, 0} }), fine(0))))
	wantErr(t, cms.ErrLimit, parsed(build(nil, grow(cms.MaxSigners+1, fine))))
	wantErr(t, cms.ErrLimit, parsed(build(nil, signer(grow(cms.MaxAttributes+1, func(int) []byte { return attr })))))
	wantErr(t, cms.ErrLimit, parsed(build(nil, signer(rawAttribute(t, cms.OIDTimeStampToken, grow(cms.MaxAttributes+1, func(int) []byte { return []byte{5, 0} }))))))
	deep := []byte{0x30, 0}
	for range cms.MaxDepth + 1 {
		deep = seq(t, deep)
	}
	wantErr(t, cms.ErrLimit, parsed(build(nil, signer(rawAttribute(t, cms.OIDTimeStampToken, deep)))))
	wantErr(t, cms.ErrIndefinite, parsed(build(nil, signer(rawAttribute(t, cms.OIDTimeStampToken, []byte{0x30, 0x80, 0, 0})))))
	wantErr(t, cms.ErrLimit, parsed(make([]byte, cms.MaxSize+1)))

	var err error
	for i := range cms.MaxAttributes {
		if one, err = cms.AddUnsigned(one, 0, cms.NewAttribute(asn1.ObjectIdentifier{1, 2, 3, i}, []byte{5, 0})); err != nil {
			t.Fatal(err)
		}
	}
	_, err = cms.AddUnsigned(one, 0, cms.NewAttribute(asn1.ObjectIdentifier{1, 2, 4}, []byte{5, 0}))
	wantErr(t, cms.ErrLimit, err)
	var many []cms.SignerInfo
	for range cms.MaxSigners + 1 {
		many = append(many, info)
	}
	_, err = cms.Encode(cms.Content{Type: cms.OIDData}, nil, many...)
	wantErr(t, cms.ErrLimit, err)
}

// Encode and SignedAttributes refuse what does not fit together.
func TestRefuseToEncode(t *testing.T) {
	root := cmstest.NewRoot(t)
	id := root.Issue(t, "a", sigalg.P256)
	good := spec(sigalg.ECDSASHA256, content)
	for name, change := range map[string]func(*cms.SignerSpec){
		"digest of another scheme": func(s *cms.SignerSpec) { s.Digest = crypto.SHA512 },
		"sha-1":                    func(s *cms.SignerSpec) { s.Digest = crypto.SHA1 },
		"no scheme":                func(s *cms.SignerSpec) { s.Scheme = "" },
		"ed25519 with sha-256":     func(s *cms.SignerSpec) { s.Scheme = sigalg.PureEd25519 },
		"ml-dsa-65 with sha-256":   func(s *cms.SignerSpec) { s.Scheme = sigalg.PureMLDSA65 },
		"short digest":             func(s *cms.SignerSpec) { s.ContentDigest = s.ContentDigest[1:] },
		"no content type":          func(s *cms.SignerSpec) { s.ContentType = nil },
		"message digest given": func(s *cms.SignerSpec) {
			s.Attributes = []cms.Attribute{cms.NewAttribute(cms.OIDMessageDigest, []byte{4, 0})}
		},
		"protection given": func(s *cms.SignerSpec) {
			s.Attributes = []cms.Attribute{cms.NewAttribute(cms.OIDAlgorithmProtection, []byte{4, 0})}
		},
		"attribute without value": func(s *cms.SignerSpec) { s.Attributes = []cms.Attribute{cms.NewAttribute(cms.OIDSigningTime)} },
		"attribute value not DER": func(s *cms.SignerSpec) {
			s.Attributes = []cms.Attribute{cms.NewAttribute(cms.OIDSigningTime, []byte{4, 5})}
		},
		"attribute value two": func(s *cms.SignerSpec) {
			s.Attributes = []cms.Attribute{cms.NewAttribute(cms.OIDSigningTime, []byte{5, 0, 5, 0})}
		},
		"attribute twice": func(s *cms.SignerSpec) {
			a := cms.NewAttribute(cms.OIDSigningTime, []byte{5, 0})
			s.Attributes = []cms.Attribute{a, a}
		},
		"no attributes but digest": func(s *cms.SignerSpec) { s.NoAttributes = true },
		"indefinite inside a value": func(s *cms.SignerSpec) {
			s.Attributes = []cms.Attribute{cms.NewAttribute(cms.OIDSigningTime, []byte{0x30, 4, 0x30, 0x80, 0, 0})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			change(&s)
			if _, err := s.SignedAttributes(); err == nil {
				t.Fatal("attributes made")
			}
			if _, err := cms.Encode(cms.Content{Type: s.ContentType}, nil, cms.SignerInfo{Spec: s, Certificate: id.Certificate, Signature: []byte{1}}); err == nil {
				t.Fatal("encoded")
			}
		})
	}
	info := sign(t, id, good)
	for name, c := range map[string]struct {
		content cms.Content
		change  func(*cms.SignerInfo)
	}{
		"other content":           {cms.Content{Type: cms.OIDData, Bytes: []byte("x")}, func(*cms.SignerInfo) {}},
		"empty content":           {cms.Content{Type: cms.OIDData, Bytes: []byte{}}, func(*cms.SignerInfo) {}},
		"other type":              {cms.Content{Type: cms.OIDTSTInfo, Bytes: content}, func(*cms.SignerInfo) {}},
		"no certificate":          {cms.Content{Type: cms.OIDData}, func(s *cms.SignerInfo) { s.Certificate = nil }},
		"no signature":            {cms.Content{Type: cms.OIDData}, func(s *cms.SignerInfo) { s.Signature = nil }},
		"key of another family":   {cms.Content{Type: cms.OIDData}, func(s *cms.SignerInfo) { s.Certificate = root.Issue(t, "b", sigalg.Ed25519).Certificate }},
		"pkcs7 detached not data": {cms.Content{Type: cms.OIDSpcIndirectData, PKCS7: true}, func(s *cms.SignerInfo) { s.Spec.ContentType = cms.OIDSpcIndirectData }},
		"pkcs7 content not DER":   {cms.Content{Type: cms.OIDSpcIndirectData, PKCS7: true, Bytes: []byte{0x30}}, func(s *cms.SignerInfo) { s.Spec.ContentType = cms.OIDSpcIndirectData }},
		"pkcs7 content a set":     {cms.Content{Type: cms.OIDSpcIndirectData, PKCS7: true, Bytes: []byte{0x31, 0}}, func(s *cms.SignerInfo) { s.Spec.ContentType = cms.OIDSpcIndirectData }},
		"pkcs7 content as octets": {cms.Content{Type: cms.OIDSpcIndirectData, PKCS7: true, Bytes: []byte{4, 0}}, func(s *cms.SignerInfo) { s.Spec.ContentType = cms.OIDSpcIndirectData }},
		"unsigned without value":  {cms.Content{Type: cms.OIDData}, func(s *cms.SignerInfo) { s.Unsigned = []cms.Attribute{{Type: cms.OIDTimeStampToken}} }},
		"no key identifier to use": {cms.Content{Type: cms.OIDData}, func(s *cms.SignerInfo) {
			c := *s.Certificate
			c.SubjectKeyId = nil
			s.Certificate, s.KeyIdentifier = &c, true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := info
			c.change(&s)
			if _, err := cms.Encode(c.content, nil, s); err == nil {
				t.Fatal("encoded")
			}
		})
	}
	if _, err := cms.Encode(cms.Content{Type: cms.OIDData}, nil); err == nil {
		t.Fatal("encoded without signer")
	}
	attrs := tagged(t, 0x31, rawAttribute(t, cms.OIDMessageDigest, []byte{4, 0}))
	s := cms.SignerInfo{
		Spec:        cms.SignerSpec{ContentType: cms.OIDData, Digest: crypto.SHA256, Scheme: sigalg.ECDSASHA256, NoAttributes: true},
		Certificate: id.Certificate, Signature: []byte{1},
	}
	_, err := cms.Encode(cms.Content{Type: cms.OIDData, Bytes: attrs}, nil, s)
	wantErr(t, cms.ErrAttribute, err)
	_, err = s.Spec.SignedAttributes()
	wantErr(t, cms.ErrNoAttributes, err)
	for i, c := range []int{-1, 1} {
		if _, err := cms.AddUnsigned(encode(t, cms.Content{Type: cms.OIDData}, nil, info), c, cms.NewAttribute(cms.OIDTimeStampToken, []byte{5, 0})); err == nil {
			t.Fatal(fmt.Sprint("added to signer ", i))
		}
	}
}
