package tsp_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Frozen vectors: a request, a response, a refusal.
func TestGolden(t *testing.T) {
	req := request(crypto.SHA256)
	req.Policy = policy
	query, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	refusal := tsp.Refuse(tsp.Rejected, tsp.FailTimeNotAvailable|tsp.FailSystemFailure, "clock stopped")
	if *update {
		if err := os.MkdirAll("testdata/golden", 0o755); err != nil {
			t.Fatal(err)
		}
		tsa := cmstest.NewRoot(t).IssueTSA(t, "TSA", sigalg.P256)
		for name, b := range map[string][]byte{
			"request.der": query, "refusal.der": refusal, "root.der": tsa.Root.Raw,
			"response.der": issue(t, tsa, sigalg.ECDSASHA256, req),
		} {
			if err := os.WriteFile(filepath.Join("testdata/golden", name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !bytes.Equal(query, read(t, "request.der")) || !bytes.Equal(refusal, read(t, "refusal.der")) {
		t.Fatal("encoding of request or refusal changed")
	}
	want := read(t, "response.der")
	tok := token(t, want)
	root, err := x509.ParseCertificate(read(t, "root.der"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	if when, err := tok.Verify(digester(data), pool); err != nil || !when.Equal(stamp) {
		t.Fatal(when, err)
	}
	if err := tok.Answers(req); err != nil {
		t.Fatal(err)
	}
	cfg := tsp.AuthorityConfig{Chain: tok.CMS.Certificates, Policy: policy, Accuracy: tsp.Accuracy{Seconds: 1, Millis: 500}, Scheme: sigalg.ECDSASHA256}
	p, err := tsp.Issue(req, cfg, big.NewInt(77), stamp)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Finish(tok.CMS.Signers[0].Signature)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("response changed: %x, %v", got, err)
	}
}

// The token that Microsoft's authority put into a real Windows signature: the one
// judge that is no tool of ours or of openssl. Its root is not ours to trust; what
// it stamps is the signature beside it.
func TestMicrosoftToken(t *testing.T) {
	padded, err := os.ReadFile("../cms/testdata/windows-shim.der")
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := cms.Split(padded)
	if err != nil {
		t.Fatal(err)
	}
	d, err := cms.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := d.Signers[0].UnsignedAttribute(cms.OIDMicrosoftTimeStamp)
	if !ok || len(a.Values) != 1 {
		t.Fatal("no timestamp")
	}
	tok, err := tsp.ParseToken(a.Values[0].FullBytes)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tok.VerifySignature(digester(d.Signers[0].Signature))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(tok.Info.Time, cert.Subject)
	_, err = tok.VerifySignature(digester(d.Signers[0].Signature[1:]))
	wantErr(t, tsp.ErrImprint, err)
	again, err := tok.Info.Encode()
	if err != nil || !bytes.Equal(again, tok.CMS.Content) {
		t.Fatal("info does not re-encode to itself: ", err)
	}
	// Each certificate that issued the next: trusting the topmost gives a time.
	pool := x509.NewCertPool()
	for _, c := range tok.CMS.Certificates {
		if c.IsCA {
			pool.AddCert(c)
		}
	}
	when, err := tok.Verify(digester(d.Signers[0].Signature), pool)
	if err != nil || when.Year() < 2020 {
		t.Fatal(when, err)
	}
}

// Every flipped bit of a token is found, and every truncation of it and of the
// response.
func TestEveryFlippedBit(t *testing.T) {
	root := cmstest.NewRoot(t)
	tsa := root.IssueTSA(t, "TSA", sigalg.P256)
	resp := issue(t, tsa, sigalg.ECDSASHA256, request(crypto.SHA256))
	der := token(t, resp).CMS.Raw
	check := func(der []byte) error {
		tok, err := tsp.ParseToken(der)
		if err != nil {
			return err
		}
		_, err = tok.Verify(digester(data), root.Pool())
		return err
	}
	if err := check(der); err != nil {
		t.Fatal(err)
	}
	for i := range der {
		for _, x := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
			bad := bytes.Clone(der)
			bad[i] ^= x
			if check(bad) == nil {
				t.Errorf("accepted with byte %d changed from %#x to %#x", i, der[i], bad[i])
			}
		}
	}
	for i := range resp {
		if _, err := tsp.ParseResponse(resp[:i]); err == nil {
			t.Fatalf("response cut to %d accepted", i)
		}
	}
}

// Invariant 1 for requests, and what a strict reader refuses.
func TestParseRequest(t *testing.T) {
	good, err := request(crypto.SHA256).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r, err := tsp.ParseRequest(good)
	if err != nil || r.Nonce.Cmp(nonce) != 0 || !r.CertReq || r.Policy != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	for i := range good {
		if _, err := tsp.ParseRequest(good[:i]); err == nil {
			t.Fatalf("request cut to %d accepted", i)
		}
	}
	type imprint struct {
		Alg  struct{ OID asn1.ObjectIdentifier }
		Hash []byte
	}
	sha1 := imprint{Hash: make([]byte, 20)}
	sha1.Alg.OID = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	short := imprint{Hash: make([]byte, 20)}
	short.Alg.OID = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	fine := imprint{Hash: make([]byte, 32)}
	fine.Alg.OID = short.Alg.OID
	der := func(v any) []byte {
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type plain struct {
		Version int
		Imprint imprint
	}
	type extended struct {
		Version    int
		Imprint    imprint
		Extensions asn1.RawValue
	}
	type flagged struct {
		Version int
		Imprint imprint
		CertReq bool
	}
	type stamped struct {
		Version int
		Imprint imprint
		Nonce   *big.Int
	}
	if _, err := tsp.ParseRequest(der(plain{1, fine})); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		der  []byte
		fail tsp.FailInfo
	}{
		"sha-1":          {der(plain{1, sha1}), tsp.FailBadAlg},
		"short imprint":  {der(plain{1, short}), tsp.FailBadDataFormat},
		"version":        {der(plain{2, fine}), tsp.FailBadRequest},
		"extension":      {der(extended{1, fine, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: []byte{0x30, 0}}}), tsp.FailUnacceptedExtension},
		"explicit false": {der(flagged{1, fine, false}), tsp.FailBadDataFormat},
		"negative nonce": {der(stamped{1, fine, big.NewInt(-1)}), tsp.FailBadDataFormat},
		"endless nonce":  {der(stamped{1, fine, new(big.Int).Lsh(big.NewInt(1), 600)}), tsp.FailBadDataFormat},
		"trailing":       {append(bytes.Clone(good), 0), tsp.FailBadDataFormat},
		"too long":       {make([]byte, tsp.MaxSize+1), tsp.FailBadDataFormat},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tsp.ParseRequest(c.der)
			var r *tsp.Rejection
			if !errors.As(err, &r) || r.Fail != c.fail || tsp.AsRejection(err) != r {
				t.Fatalf("got %v, want %v", err, c.fail)
			}
			var s *tsp.StatusError
			if _, err := tsp.ParseResponse(r.Response()); !errors.As(err, &s) || s.Fail != c.fail {
				t.Fatal(err)
			}
		})
	}
	if r := tsp.AsRejection(errors.New("disk")); r.Fail != tsp.FailSystemFailure {
		t.Fatal(r.Fail)
	}
}

// Times are in the one form that RFC 3161 gives them.
func TestInfoTime(t *testing.T) {
	base := tsp.Info{Policy: policy, Imprint: request(crypto.SHA256).Imprint, Serial: big.NewInt(1)}
	for _, when := range []time.Time{stamp, stamp.Truncate(time.Second), stamp.Add(time.Nanosecond), stamp.In(time.FixedZone("", 7200))} {
		i := base
		i.Time = when
		der, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := tsp.ParseInfo(der)
		if err != nil || !got.Time.Equal(when) {
			t.Fatal(got.Time, when, err)
		}
	}
	i := base
	i.Time = stamp
	der, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"20260601120000.20Z", "20260601120000.2 Z", "20260601120060.25Z", "20261301120000.25Z", "20260230120000.25Z", "20260601120000,25Z", "20260601120000.251", "2026060112000+0.25Z", "00000601120000.25Z", "20260601120000.-1Z"} {
		b := bytes.Replace(der, []byte("20260601120000.25Z"), []byte(bad), 1)
		if bytes.Equal(b, der) {
			t.Fatal("nothing replaced")
		}
		if _, err := tsp.ParseInfo(b); err == nil {
			t.Errorf("time %q accepted", bad)
		}
	}
	for _, bad := range []func(*tsp.Info){
		func(i *tsp.Info) { i.Serial = nil },
		func(i *tsp.Info) { i.Serial = big.NewInt(-1) },
		func(i *tsp.Info) { i.Time = time.Time{} },
		func(i *tsp.Info) { i.Accuracy.Millis = 1000 },
		func(i *tsp.Info) { i.Policy = nil },
		func(i *tsp.Info) { i.Extensions = []byte{5, 0} },
		func(i *tsp.Info) { i.Nonce = big.NewInt(-5) },
		func(i *tsp.Info) { i.Imprint.Hash = crypto.SHA1 },
	} {
		i := base
		i.Time = stamp
		bad(&i)
		if _, err := i.Encode(); err == nil {
			t.Errorf("encoded %+v", i)
		}
	}
}

// A token that is no token: two signers, other content, none.
func TestParseTokenRefuses(t *testing.T) {
	root := cmstest.NewRoot(t)
	tsa := root.IssueTSA(t, "TSA", sigalg.P256)
	tok := token(t, issue(t, tsa, sigalg.ECDSASHA256, request(crypto.SHA256)))
	make := func(c cms.Content, n int) []byte {
		s := cms.SignerSpec{ContentType: c.Type, ContentDigest: sum(crypto.SHA256, c.Bytes), Digest: crypto.SHA256, Scheme: sigalg.ECDSASHA256}
		message, err := s.SignedAttributes()
		if err != nil {
			t.Fatal(err)
		}
		var infos []cms.SignerInfo
		for range n {
			infos = append(infos, cms.SignerInfo{Spec: s, Certificate: tsa.Certificate, Signature: tsa.Sign(t, s.Scheme, message)})
		}
		der, err := cms.Encode(c, tsa.Chain, infos...)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	info := tok.CMS.Content
	for name, der := range map[string][]byte{
		"two signers": make(cms.Content{Type: cms.OIDTSTInfo, Bytes: info}, 2),
		"data":        make(cms.Content{Type: cms.OIDData, Bytes: info}, 1),
		"detached":    make(cms.Content{Type: cms.OIDTSTInfo}, 1),
		"pkcs7":       make(cms.Content{Type: cms.OIDData, Bytes: info, PKCS7: true}, 1),
		"no info":     make(cms.Content{Type: cms.OIDTSTInfo, Bytes: []byte("x")}, 1),
		"info longer": make(cms.Content{Type: cms.OIDTSTInfo, Bytes: append(bytes.Clone(info), 0)}, 1),
	} {
		_, err := tsp.ParseToken(der)
		if !errors.Is(err, tsp.ErrSyntax) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(token(f, read(f, "response.der")).CMS.Raw)
	f.Add(read(f, "response.der"))
	f.Add(read(f, "refusal.der"))
	f.Fuzz(func(t *testing.T, der []byte) {
		_, _ = tsp.ParseResponse(der)
		tok, err := tsp.ParseToken(der)
		if err != nil {
			return
		}
		again, err := tok.Info.Encode()
		if err != nil || !bytes.Equal(again, tok.CMS.Content) {
			t.Fatalf("info re-encodes to other bytes: %x, %v", again, err)
		}
		if when, err := tok.Verify(digester(data), x509.NewCertPool()); err == nil {
			t.Fatalf("verified without any root: %v", when)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add(read(f, "request.der"))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := tsp.ParseRequest(der)
		if err != nil {
			return
		}
		again, err := r.Marshal()
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("re-encodes to other bytes: %x\n%x\n%v", again, der, err)
		}
	})
}
