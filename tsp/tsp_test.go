package tsp_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

var (
	data   = []byte("what is stamped")
	policy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 13762, 3}
	stamp  = time.Date(2026, 6, 1, 12, 0, 0, 250_000_000, time.UTC)
	nonce  = new(big.Int).SetBytes(bytes.Repeat([]byte{0xa5}, 12))
)

func sum(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

func digester(b []byte) func(crypto.Hash) ([]byte, error) {
	return func(h crypto.Hash) ([]byte, error) { return sum(h, b), nil }
}

func wantErr(t testing.TB, want, got error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

func request(h crypto.Hash) tsp.Request {
	return tsp.NewRequest(h, sum(h, data), nonce, nil, true)
}

func issue(t testing.TB, tsa *cmstest.Identity, scheme sigalg.Scheme, req tsp.Request) []byte {
	t.Helper()
	cfg := tsp.AuthorityConfig{Chain: tsa.Chain, Policy: policy, Accuracy: tsp.Accuracy{Seconds: 1, Millis: 500}, Scheme: scheme}
	p, err := tsp.Issue(req, cfg, big.NewInt(77), stamp)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.Finish(tsa.Sign(t, scheme, p.ToBeSigned()))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func token(t testing.TB, resp []byte) *tsp.Token {
	t.Helper()
	tok, err := tsp.ParseResponse(resp)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// OpenSSL verifies our responses and bare tokens, against the data and against
// our request, and refuses them for other data.
func TestOpenSSLVerifiesOurs(t *testing.T) {
	root := cmstest.NewRoot(t)
	ca := root.Authority(t, "Test Issuer")
	for _, c := range []struct {
		kind   sigalg.Key
		scheme sigalg.Scheme
		hash   crypto.Hash
	}{
		{sigalg.RSA3072, sigalg.RSAPKCS1SHA256, crypto.SHA256},
		{sigalg.RSA3072, sigalg.RSAPKCS1SHA512, crypto.SHA512},
		{sigalg.P256, sigalg.ECDSASHA256, crypto.SHA384},
		{sigalg.P384, sigalg.ECDSASHA384, crypto.SHA384},
	} {
		t.Run(string(c.scheme), func(t *testing.T) {
			tsa := ca.IssueTSA(t, "Test TSA", c.kind)
			_, _, rootFile := tsa.WriteFiles(t, t.TempDir(), "tsa")
			req := request(c.hash)
			query, err := req.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			resp := issue(t, tsa, c.scheme, req)
			tok := token(t, resp)
			respFile, tokFile, queryFile := write(t, "r", resp), write(t, "t", tok.CMS.Raw), write(t, "q", query)
			good, bad := write(t, "d", data), write(t, "d", append(data, 'x'))
			for _, args := range [][]string{
				{"-in", respFile, "-data", good},
				{"-in", respFile, "-queryfile", queryFile},
				{"-in", tokFile, "-token_in", "-data", good},
			} {
				if out, err := cmstest.OpenSSL(t, append([]string{"ts", "-verify", "-CAfile", rootFile}, args...)...); err != nil {
					t.Fatal(out, err)
				}
			}
			if out, err := cmstest.OpenSSL(t, "ts", "-verify", "-CAfile", rootFile, "-in", respFile, "-data", bad); err == nil {
				t.Fatal("openssl accepted other data: ", out)
			}
			out, err := cmstest.OpenSSL(t, "ts", "-reply", "-in", respFile, "-text")
			if err != nil || !strings.Contains(out, "Jun  1 12:00:00.25 2026 GMT") || !strings.Contains(out, "Status: Granted.") {
				t.Fatal(out, err)
			}
			out, err = cmstest.OpenSSL(t, "ts", "-query", "-in", queryFile, "-text")
			if err != nil || !strings.Contains(out, "Certificate required: yes") {
				t.Fatal(out, err)
			}
			when, err := tok.Verify(digester(data), root.Pool())
			if err != nil || !when.Equal(stamp) {
				t.Fatal(when, err)
			}
			if err := tok.Answers(req); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// `openssl ts` knows no PSS; `openssl cms` judges the token instead.
func TestOpenSSLVerifiesPSS(t *testing.T) {
	tsa := cmstest.NewRoot(t).IssueTSA(t, "TSA", sigalg.RSA3072)
	_, _, rootFile := tsa.WriteFiles(t, t.TempDir(), "tsa")
	tok := token(t, issue(t, tsa, sigalg.RSAPSSSHA256, request(crypto.SHA256)))
	if out, err := cmstest.OpenSSL(t, "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "timestampsign", "-CAfile", rootFile, "-in", write(t, "t", tok.CMS.Raw), "-out", os.DevNull); err != nil {
		t.Fatal(out, err)
	}
	if _, err := tok.Verify(digester(data), tsa.Pool()); err != nil {
		t.Fatal(err)
	}
}

// Ed25519 and ML-DSA authorities, which openssl 3.0 cannot judge, work with ours.
func TestPureSchemes(t *testing.T) {
	root := cmstest.NewRoot(t)
	for kind, scheme := range map[sigalg.Key]sigalg.Scheme{sigalg.Ed25519: sigalg.PureEd25519, sigalg.MLDSA65: sigalg.PureMLDSA65, sigalg.MLDSA87: sigalg.PureMLDSA87} {
		tok := token(t, issue(t, root.IssueTSA(t, "TSA", kind), scheme, request(crypto.SHA256)))
		if _, err := tok.Verify(digester(data), root.Pool()); err != nil {
			t.Fatal(kind, err)
		}
		_, err := tok.Verify(digester(data[1:]), root.Pool())
		wantErr(t, tsp.ErrImprint, err)
	}
}

// opensslConfig writes what `openssl ts -reply` needs.
func opensslConfig(t testing.TB, dir, extra string) string {
	t.Helper()
	return write(t, "ts.cnf", []byte("[tsa]\ndefault_tsa = t\n[t]\nserial = "+filepath.Join(dir, "serial")+
		"\ndefault_policy = 1.3.6.1.4.1.13762.3\nother_policies = 1.3.6.1.4.1.13762.4\ndigests = sha256, sha384, sha512\nsigner_digest = sha256\naccuracy = secs:1, millisecs:500, microsecs:100\nclock_precision_digits = 3\nordering = yes\ntsa_name = yes\n"+extra))
}

// We verify what openssl issues, with either kind of certificate identifier.
func TestVerifyOpenSSL(t *testing.T) {
	root := cmstest.NewRoot(t)
	ca := root.Authority(t, "Test Issuer")
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		for _, alg := range []string{"sha1", "sha256", "sha384"} {
			t.Run(string(kind)+" "+alg, func(t *testing.T) {
				dir := t.TempDir()
				tsa := ca.IssueTSA(t, "Test TSA", kind)
				cert, key, _ := tsa.WriteFiles(t, dir, "tsa")
				query, err := request(crypto.SHA256).Marshal()
				if err != nil {
					t.Fatal(err)
				}
				reply := filepath.Join(dir, "reply")
				if out, err := cmstest.OpenSSL(t, "ts", "-reply", "-config", opensslConfig(t, dir, "ess_cert_id_alg = "+alg+"\n"), "-queryfile", write(t, "q", query),
					"-signer", cert, "-inkey", key, "-chain", cert, "-out", reply); err != nil {
					t.Fatal(out, err)
				}
				resp, err := os.ReadFile(reply)
				if err != nil {
					t.Fatal(err)
				}
				tok := token(t, resp)
				if err := tok.Answers(request(crypto.SHA256)); err != nil {
					t.Fatal(err)
				}
				if tok.Info.Accuracy != (tsp.Accuracy{Seconds: 1, Millis: 500, Micros: 100}) || !tok.Info.Ordering || tok.Info.TSA == nil {
					t.Fatalf("%+v", tok.Info)
				}
				when, err := tok.Verify(digester(data), root.Pool())
				if err != nil || !when.Equal(tok.Info.Time) || when.IsZero() {
					t.Fatal(when, err)
				}
				_, err = tok.Verify(digester(data[1:]), root.Pool())
				wantErr(t, tsp.ErrImprint, err)
				again, err := tok.Info.Encode()
				if err != nil || !bytes.Equal(again, tok.CMS.Content) {
					t.Fatalf("info does not re-encode to itself: %x, %v", again, err)
				}
				_, err = tok.Verify(digester(data), cmstest.NewRoot(t).Pool())
				wantErr(t, cms.ErrChain, err)
			})
		}
	}
}

// Certificates that are not an authority's, or that the signature is not tied to.
func TestVerifyRefusesSigner(t *testing.T) {
	root := cmstest.NewRoot(t)
	tsa := root.IssueTSA(t, "TSA", sigalg.P256)
	tok := token(t, issue(t, tsa, sigalg.ECDSASHA256, request(crypto.SHA256)))

	forge := func(id *cmstest.Identity, certID []byte, typ asn1.ObjectIdentifier) error {
		s := cms.SignerSpec{ContentType: cms.OIDTSTInfo, ContentDigest: sum(crypto.SHA256, tok.CMS.Content), Digest: crypto.SHA256, Scheme: sigalg.ECDSASHA256}
		if certID != nil {
			s.Attributes = []cms.Attribute{cms.NewAttribute(typ, certID)}
		}
		message, err := s.SignedAttributes()
		if err != nil {
			t.Fatal(err)
		}
		der, err := cms.Encode(cms.Content{Type: cms.OIDTSTInfo, Bytes: tok.CMS.Content}, id.Chain, cms.SignerInfo{Spec: s, Certificate: id.Certificate, Signature: id.Sign(t, s.Scheme, message)})
		if err != nil {
			t.Fatal(err)
		}
		made, err := tsp.ParseToken(der)
		if err != nil {
			t.Fatal(err)
		}
		_, err = made.Verify(digester(data), root.Pool())
		return err
	}
	certID := func(id *cmstest.Identity) []byte {
		type essCertIDv2 struct{ Hash []byte }
		der, err := asn1.Marshal(struct{ Certs []essCertIDv2 }{[]essCertIDv2{{sum(crypto.SHA256, id.Certificate.Raw)}}})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if err := forge(tsa, certID(tsa), cms.OIDSigningCertificateV2); err != nil {
		t.Fatal("the forger's tool does not work: ", err)
	}
	wantErr(t, tsp.ErrSigner, forge(tsa, nil, nil))
	wantErr(t, tsp.ErrSigner, forge(tsa, certID(root.IssueTSA(t, "other", sigalg.P256)), cms.OIDSigningCertificateV2))
	wantErr(t, tsp.ErrSigner, forge(tsa, certID(tsa), cms.OIDSigningCertificate)) // SHA-256 where SHA-1 belongs
	wantErr(t, tsp.ErrSigner, forge(tsa, []byte{0x30, 0}, cms.OIDSigningCertificateV2))
	for name, id := range map[string]*cmstest.Identity{
		"code signing": root.Issue(t, "a", sigalg.P256),
		"not critical": root.Issue(t, "a", sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }),
		"any":          root.Issue(t, "a", sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }),
		"none":         root.Issue(t, "a", sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"two": root.Issue(t, "a", sigalg.P256, cmstest.TimeStamping, func(c *x509.Certificate) {
			two, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}, {1, 3, 6, 1, 5, 5, 7, 3, 3}})
			if err != nil {
				t.Fatal(err)
			}
			c.ExtraExtensions[0].Value = two
		}),
	} {
		t.Run(name, func(t *testing.T) {
			wantErr(t, tsp.ErrSigner, forge(id, certID(id), cms.OIDSigningCertificateV2))
		})
	}
	expired := root.Issue(t, "a", sigalg.P256, cmstest.TimeStamping, func(c *x509.Certificate) { c.NotAfter = stamp.Add(-time.Hour) })
	wantErr(t, cms.ErrChain, forge(expired, certID(expired), cms.OIDSigningCertificateV2))
}

// A token without certificate verifies with one that the caller knows.
func TestCertificateNotAskedFor(t *testing.T) {
	root := cmstest.NewRoot(t)
	tsa := root.IssueTSA(t, "TSA", sigalg.P256)
	req := request(crypto.SHA256)
	req.CertReq = false
	tok := token(t, issue(t, tsa, sigalg.ECDSASHA256, req))
	if len(tok.CMS.RawCertificates) != 0 {
		t.Fatal("certificate sent without being asked for")
	}
	_, err := tok.Verify(digester(data), root.Pool())
	wantErr(t, tsp.ErrSigner, err)
	if _, err := tok.Verify(digester(data), root.Pool(), tsa.Certificate); err != nil {
		t.Fatal(err)
	}
	if err := tok.Answers(req); err != nil {
		t.Fatal(err)
	}
	wantErr(t, tsp.ErrAnswer, tok.Answers(request(crypto.SHA256)))
}

// A token answers only the request that it was made for.
func TestAnswers(t *testing.T) {
	tok := token(t, issue(t, cmstest.NewRoot(t).IssueTSA(t, "TSA", sigalg.P256), sigalg.ECDSASHA256, request(crypto.SHA256)))
	for name, change := range map[string]func(*tsp.Request){
		"digest":   func(r *tsp.Request) { r.Imprint.Digest = sum(crypto.SHA256, []byte("x")) },
		"hash":     func(r *tsp.Request) { r.Imprint = tsp.Imprint{Hash: crypto.SHA512, Digest: sum(crypto.SHA512, data)} },
		"nonce":    func(r *tsp.Request) { r.Nonce = big.NewInt(1) },
		"no nonce": func(r *tsp.Request) { r.Nonce = nil },
		"policy":   func(r *tsp.Request) { r.Policy = asn1.ObjectIdentifier{1, 2, 3} },
		"no cert":  func(r *tsp.Request) { r.CertReq = false },
	} {
		t.Run(name, func(t *testing.T) {
			r := request(crypto.SHA256)
			change(&r)
			wantErr(t, tsp.ErrAnswer, tok.Answers(r))
		})
	}
}

// The authority refuses requests that are not to be granted, and never gives out a
// signature that does not verify.
func TestIssueRefuses(t *testing.T) {
	root := cmstest.NewRoot(t)
	tsa := root.IssueTSA(t, "TSA", sigalg.P256)
	cfg := tsp.AuthorityConfig{Chain: tsa.Chain, Policy: policy, Scheme: sigalg.ECDSASHA256}
	rejection := func(req tsp.Request) tsp.FailInfo {
		_, err := tsp.Issue(req, cfg, big.NewInt(1), stamp)
		var r *tsp.Rejection
		if !errors.As(err, &r) {
			t.Fatalf("got %v, want a rejection", err)
		}
		return r.Fail
	}
	r := request(crypto.SHA256)
	r.Policy = asn1.ObjectIdentifier{1, 2, 3}
	if f := rejection(r); f != tsp.FailUnacceptedPolicy {
		t.Fatal(f)
	}
	r = request(crypto.SHA256)
	r.Imprint.Digest = r.Imprint.Digest[1:]
	if f := rejection(r); f != tsp.FailBadAlg {
		t.Fatal(f)
	}
	good := request(crypto.SHA256)
	for _, serial := range []*big.Int{nil, big.NewInt(0), big.NewInt(-1), new(big.Int).Lsh(big.NewInt(1), 160)} {
		if _, err := tsp.Issue(good, cfg, serial, stamp); err == nil {
			t.Fatal("issued with serial number ", serial)
		}
	}
	if _, err := tsp.Issue(good, cfg, big.NewInt(1), time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC)); !errors.Is(err, tsp.ErrSigner) {
		t.Fatal("issued with an expired certificate: ", err)
	}
	wrong := cfg
	wrong.Chain = root.Issue(t, "code", sigalg.P256).Chain
	_, err := tsp.Issue(good, wrong, big.NewInt(1), stamp)
	wantErr(t, tsp.ErrSigner, err)
	p, err := tsp.Issue(good, cfg, big.NewInt(1), stamp)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Finish(tsa.Sign(t, sigalg.ECDSASHA256, append(p.ToBeSigned(), 0)))
	wantErr(t, cms.ErrSignature, err)
	if _, err := (tsp.Pending{}).Finish([]byte{1}); err == nil {
		t.Fatal("finished nothing")
	}
}

// Refusals say what they mean to us and to openssl.
func TestRefuse(t *testing.T) {
	for _, f := range []tsp.FailInfo{0, tsp.FailBadAlg, tsp.FailBadRequest, tsp.FailBadDataFormat, tsp.FailUnacceptedPolicy, tsp.FailUnacceptedExtension, tsp.FailSystemFailure, tsp.FailBadAlg | tsp.FailTimeNotAvailable} {
		der := tsp.Refuse(tsp.Rejected, f, "not\x1b[31m today")
		_, err := tsp.ParseResponse(der)
		var s *tsp.StatusError
		if !errors.As(err, &s) || s.Status != tsp.Rejected || s.Fail != f || s.Text[0] != "not?[31m today" {
			t.Fatalf("%v: %v", f, err)
		}
		out, err := cmstest.OpenSSL(t, "ts", "-reply", "-in", write(t, "r", der), "-text")
		if err != nil || !strings.Contains(out, "Status: Rejected.") {
			t.Fatal(out, err)
		}
	}
	if _, err := tsp.ParseResponse(tsp.Refuse(tsp.Granted, 0)); err == nil {
		t.Fatal("refused with a grant")
	}
	if !(&tsp.StatusError{Status: tsp.Rejected, Fail: tsp.FailSystemFailure}).Temporary() || (&tsp.StatusError{Status: tsp.Rejected, Fail: tsp.FailBadAlg}).Temporary() {
		t.Fatal("what is worth a retry")
	}
}
