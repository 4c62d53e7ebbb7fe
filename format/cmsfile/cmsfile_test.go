package cmsfile

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const text = "any file at all\n"

// digestOption is the option that a scheme wants.
func digestOption(s sigalg.Scheme) string { return format.HashName(cms.DigestFor(s)) }

// sign runs the whole way and returns the .p7s.
func sign(t *testing.T, file []byte, s *formattest.Signer, p format.Params, stamp bool) []byte {
	t.Helper()
	a := format.BytesArtifact("file", file)
	plan, err := New().Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	sigs := formattest.SignAll(t, New(), plan, s, formattest.At)
	if stamp {
		sigs[0].Timestamp = s.Timestamp(t, sigs[0].Value, formattest.At)
	}
	patch, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, sigs)
	if err != nil {
		t.Fatal(err)
	}
	return patch.Sidecar.Data
}

// A classical and a post-quantum signature over one plan.
func TestHybrid(t *testing.T) {
	classical := formattest.Identity(t, sigalg.P256).With(sigalg.ECDSASHA512)
	s := classical.And(formattest.Identity(t, sigalg.MLDSA65))
	// The suite flips every byte: with a signature of 3 KiB it would take long.
	formattest.Run(t, New(), formattest.Case{
		Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "file",
		Params: format.Params{"digest": "sha512"}, Signer: classical.And(formattest.Identity(t, sigalg.Ed25519)),
		Unsigned: []string{"Size"},
	})
	for _, stamp := range []bool{false, true} {
		trust := s.Trust()
		trust.Detached = sign(t, []byte(text), s, format.Params{"digest": "sha512"}, stamp)
		r, err := New().Verify(t.Context(), format.BytesArtifact("file", []byte(text)), trust)
		if err != nil || len(r.Signatures) != 2 || r.Signatures[0].Key == r.Signatures[1].Key {
			t.Fatalf("%+v, %v", r, err)
		}
		// Whoever trusts one of the two does not take the other on faith.
		one := classical.Trust()
		one.Detached = trust.Detached
		if _, err := New().Verify(t.Context(), format.BytesArtifact("file", []byte(text)), one); err == nil {
			t.Error("a signer whom nobody trusts is accepted")
		}
	}
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		kind sigalg.Key
		time string
	}{{sigalg.P256, "false"}, {sigalg.Ed25519, "true"}, {sigalg.RSA3072, "false"}} {
		t.Run(string(c.kind), func(t *testing.T) {
			s := formattest.Identity(t, c.kind)
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "file",
				Params: format.Params{"digest": digestOption(s.Scheme), "signing-time": c.time}, Signer: s,
				Refused: []format.Params{{"digest": "sha1"}, {"digest": ""}, {"signing-time": "now"}},
				// CMS signs no length. Attach refuses a plan of another size than the file's.
				Unsigned: []string{"Size"},
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), format.BytesArtifact("large", make([]byte, 8<<20+1)), nil)
}

// openssl is the judge: it takes ours and refuses another file.
func TestOpenSSL(t *testing.T) {
	for _, scheme := range []sigalg.Scheme{
		sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512, sigalg.RSAPSSSHA256, sigalg.RSAPSSSHA512,
		sigalg.ECDSASHA256, sigalg.ECDSASHA384, "ecdsa-sha384 p384",
	} {
		for _, stamp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s stamped=%t", scheme, stamp), func(t *testing.T) {
				kind := sigalg.P256
				scheme, p384 := strings.CutSuffix(string(scheme), " p384")
				sch := sigalg.Scheme(scheme)
				switch {
				case p384:
					kind = sigalg.P384
				case sch.Fits(sigalg.RSA3072):
					kind = sigalg.RSA3072
				}
				s := formattest.Identity(t, kind).With(sch)
				body := bytes.Repeat([]byte("line\n"), 1000) // -binary: no CRLF
				p7s := sign(t, body, s, format.Params{"digest": digestOption(sch), "signing-time": "true"}, stamp)
				dir := t.TempDir()
				name := func(n string, b []byte) string {
					p := filepath.Join(dir, n)
					if err := os.WriteFile(p, b, 0o600); err != nil {
						t.Fatal(err)
					}
					return p
				}
				root := name("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root.Certificate.Raw}))
				verify := func(content []byte) (string, error) {
					return cmstest.OpenSSL(t, "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-attime", fmt.Sprint(formattest.At.Unix()),
						"-in", name("p7s", p7s), "-content", name("content", content), "-CAfile", root, "-out", os.DevNull)
				}
				if out, err := verify(body); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				if _, err := verify(append(bytes.Clone(body), 'x')); err == nil {
					t.Error("openssl takes another file")
				}
				tr := s.Trust()
				tr.Detached = p7s
				r, err := New().Verify(t.Context(), format.BytesArtifact("file", body), tr)
				if err != nil {
					t.Fatal(err)
				}
				if got := r.Signatures[0]; got.Time.Equal(formattest.At) != stamp || got.Scheme != sch || len(got.Facts) != 1 {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}

// openssl 3.0 cannot verify Ed25519 in CMS (it asks for a digest); it judges the
// signature over the signed attributes, which hold the digest of the file.
func TestOpenSSLEd25519(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	d, err := cms.Parse(sign(t, []byte(text), s, format.Params{"digest": "sha512"}, false))
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(s.Public)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := func(n string, b []byte) string {
		p := filepath.Join(dir, n)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	digest, err := cmstest.OpenSSL(t, "dgst", "-sha512", "-r", name("file", []byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	attrs := d.Signers[0].RawSignedAttrs
	if want, err := hex.DecodeString(digest[:128]); err != nil || !bytes.Contains(attrs, want) {
		t.Fatalf("openssl's digest %s is not signed", digest)
	}
	verify := func(m []byte) error {
		_, err := cmstest.OpenSSL(t, "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", name("key", spki),
			"-in", name("attrs", m), "-sigfile", name("sig", d.Signers[0].Signature))
		return err
	}
	if err := verify(attrs); err != nil {
		t.Error(err)
	}
	if err := verify(append(bytes.Clone(attrs), 0)); err == nil {
		t.Error("openssl takes another message")
	}
}

// ours takes what openssl signs, with one and two signers.
func TestOpenSSLSigns(t *testing.T) {
	root := cmstest.NewRoot(t)
	dir := t.TempDir()
	c1, k1, _ := root.Issue(t, "One", sigalg.RSA3072).WriteFiles(t, dir, "one")
	c2, k2, _ := root.Issue(t, "Two", sigalg.P256).WriteFiles(t, dir, "two")
	content, out := filepath.Join(dir, "content"), filepath.Join(dir, "p7s")
	if err := os.WriteFile(content, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"one": {"-signer", c1, "-inkey", k1},
		"two": {"-signer", c1, "-inkey", k1, "-signer", c2, "-inkey", k2},
		"pss": {"-signer", c1, "-inkey", k1, "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest"},
	} {
		if o, err := cmstest.OpenSSL(t, append([]string{"cms", "-sign", "-binary", "-md", "sha256", "-outform", "DER", "-in", content, "-out", out}, args...)...); err != nil {
			t.Fatalf("%s: %v: %s", name, err, o)
		}
		p7s, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		tr := format.Trust{Roots: root.Pool(), Now: time.Now(), Detached: p7s}
		r, err := New().Verify(t.Context(), format.BytesArtifact("content", []byte(text)), tr)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := strings.Count(strings.Join(args, " "), "-signer"); len(r.Signatures) != want {
			t.Errorf("%s: %d signatures", name, len(r.Signatures))
		}
		if _, err := New().Verify(t.Context(), format.BytesArtifact("content", []byte("other")), tr); !errors.Is(err, cms.ErrDigest) {
			t.Errorf("%s: other content: %v", name, err)
		}
		// And with the file inside, beside it and alone.
		if _, err := cmstest.OpenSSL(t, append([]string{"cms", "-sign", "-nodetach", "-binary", "-md", "sha256", "-outform", "DER", "-in", content, "-out", out}, args...)...); err != nil {
			t.Fatal(err)
		}
		if tr.Detached, err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
		if _, err := New().Verify(t.Context(), format.BytesArtifact("content", []byte(text)), tr); err != nil {
			t.Errorf("%s: with its content: %v", name, err)
		}
		if _, err := New().Verify(t.Context(), format.BytesArtifact("content", []byte("any file at al1\n")), tr); err == nil {
			t.Errorf("%s: a signature that holds another file is accepted", name)
		}
		p7m := tr.Detached
		tr.Detached = nil
		if _, err := New().Verify(t.Context(), format.BytesArtifact("p7m", p7m), tr); err != nil {
			t.Errorf("%s: alone: %v", name, err)
		}
		if _, err := New().Verify(t.Context(), format.BytesArtifact("p7s", p7s), tr); !errors.Is(err, format.ErrUnsigned) {
			t.Errorf("%s: a detached signature alone: %v", name, err)
		}
	}
}

func TestMLDSA(t *testing.T) {
	for _, k := range []sigalg.Key{sigalg.MLDSA65, sigalg.MLDSA87} {
		s := formattest.Identity(t, k)
		tr := s.Trust()
		tr.Detached = sign(t, []byte(text), s, format.Params{"digest": "sha512"}, true)
		r, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), tr)
		if err != nil || r.Signatures[0].Scheme != k.Default() {
			t.Errorf("%s: %v", k, err)
		}
	}
}

func TestDigestMustFit(t *testing.T) {
	p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []sigalg.Key{sigalg.P384, sigalg.Ed25519} {
		s := formattest.Identity(t, k)
		_, err := New().Assemble(p, s.Identity, formattest.At, nil)
		if !errors.Is(err, cms.ErrAlgorithm) || !strings.Contains(err.Error(), "wants digest="+digestOption(s.Scheme)) {
			t.Errorf("%s: %v", k, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	good, other := formattest.Identity(t, sigalg.P256).Identity, formattest.Identity(t, sigalg.P256)
	for name, spoil := range map[string]func(*format.Identity){
		"no certificate":         func(id *format.Identity) { id.Chain = nil },
		"nil certificate":        func(id *format.Identity) { id.Chain = []*x509.Certificate{nil} },
		"nil after the leaf":     func(id *format.Identity) { id.Chain = append(id.Chain[:1:1], nil) },
		"certificate of another": func(id *format.Identity) { id.Chain = other.Chain },
		"no key":                 func(id *format.Identity) { id.Public = nil },
		"no scheme":              func(id *format.Identity) { id.Scheme = "" },
	} {
		id := good
		spoil(&id)
		if _, err := New().Assemble(p, id, formattest.At, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	p.Params[1].Value = "true"
	if _, err := New().Assemble(p, good, time.Time{}, nil); err == nil {
		t.Error("signing time of the year 1")
	}
}

// unfit signs with a certificate for which Assemble makes nothing.
func unfit(t *testing.T, plan *format.Plan, s *formattest.Signer) []byte {
	t.Helper()
	if _, err := New().Assemble(plan, s.Identity, formattest.At, nil); err == nil {
		t.Fatal("Assemble takes a certificate that is not for code signing")
	}
	sp, err := Format{}.spec(plan, s.Identity, formattest.At)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sp.SignedAttributes()
	if err != nil {
		t.Fatal(err)
	}
	der, err := cms.Encode(cms.Content{Type: cms.OIDData}, s.Chain, cms.SignerInfo{Spec: sp, Signature: s.Sign(t, m), Certificate: s.Chain[0]})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestTrust(t *testing.T) {
	a := format.BytesArtifact("f", []byte(text))
	late := formattest.At.AddDate(100, 0, 0) // every certificate has expired
	s := formattest.Identity(t, sigalg.P256)
	plain, stamped := sign(t, []byte(text), s, nil, false), sign(t, []byte(text), s, nil, true)
	server := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	anyUse := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })
	stranger := formattest.Identity(t, sigalg.P256)
	foreign, err := cms.AddCertificates(plain, stranger.Root.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	// A signer of nobody's trust beside ours.
	plan, err := New().Plan(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := Format{}.spec(plan, stranger.Identity, formattest.At)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sp.SignedAttributes()
	if err != nil {
		t.Fatal(err)
	}
	two, err := cms.AddSigner(plain, stranger.Chain, cms.SignerInfo{Spec: sp, Signature: stranger.Sign(t, m), Certificate: stranger.Chain[0]})
	if err != nil {
		t.Fatal(err)
	}
	tok := s.Timestamp(t, []byte("another signature"), formattest.At)
	wrongToken, err := cms.AddUnsigned(plain, 0, cms.NewAttribute(cms.OIDTimeStampToken, tok))
	if err != nil {
		t.Fatal(err)
	}
	twoTokens, err := cms.AddUnsigned(stamped, 0, cms.NewAttribute(cms.OIDTimeStampToken, tok))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		p7s   []byte
		trust format.Trust
		ok    bool
	}{
		"good":                         {plain, s.Trust(), true},
		"expired":                      {plain, func() format.Trust { t := s.Trust(); t.Now = late; return t }(), false},
		"expired, stamped":             {stamped, func() format.Trust { t := s.Trust(); t.Now = late; return t }(), true},
		"expired, stamp not believed":  {stamped, func() format.Trust { t := s.Trust(); t.Now = late; t.TimestampRoots = nil; return t }(), false},
		"stamp by a stranger":          {stamped, func() format.Trust { t := s.Trust(); t.TimestampRoots = stranger.Root.Pool(); return t }(), false},
		"stamp for something else":     {wrongToken, s.Trust(), false},
		"two stamps":                   {twoTokens, s.Trust(), false},
		"certificate for servers":      {unfit(t, plan, server), server.Trust(), false},
		"certificate for anything":     {unfit(t, plan, anyUse), anyUse.Trust(), false},
		"foreign certificate embedded": {foreign, s.Trust(), true},
		"second signer not trusted":    {two, s.Trust(), false},
		"nothing":                      {nil, s.Trust(), false},
		"garbage":                      {[]byte("0"), s.Trust(), false},
		"no roots":                     {plain, format.Trust{Now: formattest.At}, false},
	} {
		c.trust.Detached = c.p7s
		r, err := New().Verify(t.Context(), a, c.trust)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if name == "foreign certificate embedded" && err == nil && len(r.Signatures[0].Open) != 1 {
			t.Errorf("the foreign certificate is not reported as open: %v", r.Signatures[0].Open)
		}
	}
}

func TestStamper(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	a := format.BytesArtifact("f", []byte(text))
	p7s := sign(t, []byte(text), s, nil, false)
	f := Format{}
	targets, err := f.Unstamped(t.Context(), a, p7s)
	if err != nil || len(targets) != 1 {
		t.Fatalf("%v, %v", targets, err)
	}
	if _, err := f.Stamp(t.Context(), a, p7s, targets[0], s.Timestamp(t, []byte("something else"), formattest.At)); err == nil {
		t.Error("a token for something else is added")
	}
	if _, err := f.Stamp(t.Context(), a, p7s, format.StampTarget{Index: 1}, nil); err == nil {
		t.Error("signature 1 of 1")
	}
	token := s.Timestamp(t, targets[0].Message, formattest.At)
	p, err := f.Stamp(t.Context(), a, p7s, targets[0], token)
	if err != nil {
		t.Fatal(err)
	}
	tr := s.Trust()
	tr.Detached = p.Sidecar.Data
	r, err := f.Verify(t.Context(), a, tr)
	if err != nil || !r.Signatures[0].Time.Equal(formattest.At) || r.Signatures[0].TimeFrom == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if targets, err := f.Unstamped(t.Context(), a, p.Sidecar.Data); err != nil || len(targets) != 0 {
		t.Errorf("%v, %v", targets, err)
	}
	if _, err := f.Stamp(t.Context(), a, p.Sidecar.Data, targets[0], token); err == nil {
		t.Error("a second token is added")
	}
	in, err := f.Inspect(t.Context(), format.BytesArtifact("f.p7s", p.Sidecar.Data))
	if err != nil || len(in.Signatures) != 1 || in.Signatures[0].Timestamp == nil || in.Signatures[0].Subject == "" || !bytes.Equal(in.Signatures[0].Content, r.Signatures[0].Content) {
		t.Errorf("inspect: %+v, %v", in, err)
	}
}

func TestDetect(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	p7s := sign(t, []byte(text), s, format.Params{"digest": "sha512"}, false)
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{"p7s": {p7s, true}, "text": {[]byte(text), false}, "empty": {nil, false}, "cut": {p7s[:len(p7s)-1], false}, "certificate": {s.Chain[0].Raw, false}} {
		if got := New().Detect(format.BytesArtifact("f", c.b)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	r, err := New().Inspect(t.Context(), format.BytesArtifact("f", []byte(text)))
	if err != nil || len(r.Signatures) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New().Plan(ctx, format.BytesArtifact("f", []byte(text)), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// Frozen: plans, messages and signatures of version 1 stay good.
func TestGolden(t *testing.T) {
	a := format.BytesArtifact("file", []byte(text))
	s := formattest.Identity(t, sigalg.P256)
	plan, err := New().Plan(t.Context(), a, format.Params{"signing-time": "true"})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := New().Assemble(plan, s.Identity, formattest.At, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Appendf(nil, "plan %x\nmessage %x\n", enc, tbs[0].Message)
	if want := golden(t, "plan.txt", got); !bytes.Equal(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	var p7s []byte
	var root []byte
	if *update {
		p7s, root = sign(t, []byte(text), s, format.Params{"signing-time": "true"}, true), s.Root.Certificate.Raw
	}
	p7s, root = golden(t, "file.p7s", p7s), golden(t, "root.der", root)
	cert, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	r, err := New().Verify(t.Context(), a, format.Trust{Roots: pool, TimestampRoots: pool, Now: formattest.At, Detached: p7s})
	if err != nil || hex.EncodeToString(r.Signatures[0].Content) != hex.EncodeToString(plan.Content) {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzVerify(f *testing.F) {
	for _, n := range []string{"file.p7s"} {
		b, err := os.ReadFile(filepath.Join("testdata", n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte(text))
		f.Add(b[:len(b)/2], []byte(text))
	}
	root, err := os.ReadFile(filepath.Join("testdata", "root.der"))
	if err != nil {
		f.Fatal(err)
	}
	cert, err := x509.ParseCertificate(root)
	if err != nil {
		f.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	f.Fuzz(func(t *testing.T, p7s, content []byte) {
		a := format.BytesArtifact("f", content)
		if _, err := New().Verify(t.Context(), a, format.Trust{Roots: pool, TimestampRoots: pool, Now: formattest.At, Detached: p7s}); err == nil && string(content) != text {
			t.Fatalf("accepted for %q", content)
		}
		side := format.BytesArtifact("f.p7s", p7s)
		if New().Detect(side) {
			New().Inspect(t.Context(), side)
			Format{}.Unstamped(t.Context(), a, p7s)
		}
	})
}

func FuzzAssemble(f *testing.F) {
	p, err := New().Plan(f.Context(), format.BytesArtifact("f", []byte(text)), nil)
	if err != nil {
		f.Fatal(err)
	}
	b, err := p.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	s := formattest.Identity(f, sigalg.P256)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := format.DecodePlan(b)
		if err != nil {
			return
		}
		tbs, err := New().Assemble(p, s.Identity, formattest.At, nil)
		if err == nil && (len(tbs) != 1 || !bytes.Contains(tbs[0].Message, p.Content)) {
			t.Fatalf("%x", b)
		}
	})
}
