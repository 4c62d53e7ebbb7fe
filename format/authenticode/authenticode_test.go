package authenticode_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// note is a kind of file for these tests: text, and beside it in memory a PKCS #7.
type note struct {
	text string
	der  []byte
}

func (n *note) Report() *format.Report {
	return &format.Report{Format: "note", Size: int64(len(n.text)), Signatures: []format.SignatureInfo{}}
}
func (n *note) PKCS7() []byte                      { return n.der }
func (n *note) ContentType() asn1.ObjectIdentifier { return cms.OIDSpcIndirectData }
func (n *note) Stated(sd *cms.SignedData) (*authenticode.Stated, error) {
	d, err := authenticode.ParseIndirect(sd.ContentRaw)
	if err != nil {
		return nil, err
	}
	return &authenticode.Stated{Hash: d.Hash, Digest: d.Digest, Covers: []string{"text"}}, nil
}
func (n *note) Digests(_ context.Context, hs []crypto.Hash) (map[crypto.Hash][]byte, error) {
	out := map[crypto.Hash][]byte{}
	for _, h := range hs {
		x := h.New()
		x.Write([]byte(n.text))
		out[h] = x.Sum(nil)
	}
	return out, nil
}
func (n *note) Put(_ context.Context, der []byte) (*format.Patch, error) {
	n.der = der
	return &format.Patch{}, nil
}

func (n *note) statement(t testing.TB) *authenticode.Statement {
	t.Helper()
	d := sha256.Sum256([]byte(n.text))
	content, err := authenticode.Indirect{Type: authenticode.OIDSipInfo, Value: authenticode.SipInfo(1, "0123456789abcdef"), Hash: crypto.SHA256, Digest: d[:]}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return &authenticode.Statement{Type: cms.OIDSpcIndirectData, Content: content, Params: format.Params{"description": "Note", "url": "https://example.com/"}}
}

func (n *note) sign(t testing.TB, s *formattest.Signer) {
	t.Helper()
	st := n.statement(t)
	tbs, err := st.Assemble(s.Identity, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := st.Seal(s.Identity, []format.Signature{{Value: s.SignInput(t, tbs[0].Input())}})
	if err != nil {
		t.Fatal(err)
	}
	if n.der, err = authenticode.Nest(n.der, der, cms.OIDSpcIndirectData); err != nil {
		t.Fatal(err)
	}
}

// signedBy is a note with a signature of each kind of key, under one authority.
func signedBy(t testing.TB) (*note, format.Trust) {
	t.Helper()
	n := &note{text: "text"}
	tr := format.Trust{Roots: x509.NewCertPool(), TimestampRoots: x509.NewCertPool(), Now: formattest.At}
	for _, k := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.P256} {
		s := formattest.Identity(t, k)
		n.sign(t, s)
		tr.Roots.AddCert(s.Root.Certificate)
		tr.TimestampRoots.AddCert(s.Root.Certificate)
	}
	return n, tr
}

func values(t testing.TB, n *note) (out []string) {
	t.Helper()
	r, err := authenticode.Inspect(n)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Signatures {
		out = append(out, string(s.Value))
	}
	return out
}

// Invariant 4: whichever signature goes, the others stay and verify.
func TestRemoveOneOfMany(t *testing.T) {
	n, tr := signedBy(t)
	all := values(t, n)
	if len(all) != 4 {
		t.Fatalf("%d signatures", len(all))
	}
	for i := range all {
		c := *n
		if _, err := authenticode.Remove(t.Context(), &c, i); err != nil {
			t.Fatal(err)
		}
		r, err := authenticode.Verify(t.Context(), &c, tr)
		if err != nil {
			t.Fatalf("without %d: %v", i, err)
		}
		want := slices.Delete(slices.Clone(all), i, i+1)
		if len(r.Signatures) != 3 {
			t.Fatalf("without %d: %d left", i, len(r.Signatures))
		}
		for _, v := range values(t, &c) {
			if !slices.Contains(want, v) {
				t.Errorf("without %d: another signature is there", i)
			}
		}
		for range 3 {
			if _, err := authenticode.Remove(t.Context(), &c, len(values(t, &c))-1); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.der) != 0 {
			t.Error("something is left of a file without signatures")
		}
	}
	one := &note{text: n.text}
	s := formattest.Identity(t, sigalg.P256)
	one.sign(t, s)
	before := bytes.Clone(one.der)
	one.sign(t, formattest.Identity(t, sigalg.P384))
	if _, err := authenticode.Remove(t.Context(), one, 1); err != nil || !bytes.Equal(one.der, before) {
		t.Errorf("what a signature was nested in does not come back byte for byte: %v", err)
	}
	for _, i := range []int{-2, 4, 1 << 20} {
		if _, err := authenticode.Remove(t.Context(), n, i); err == nil {
			t.Errorf("signature %d was taken off", i)
		}
	}
	if _, err := authenticode.Remove(t.Context(), &note{}, -1); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
}

// A timestamp can come later, for outer and nested signatures.
func TestStampEach(t *testing.T) {
	n, tr := signedBy(t)
	s := formattest.Identity(t, sigalg.P256)
	tr.TimestampRoots.AddCert(s.Root.Certificate)
	todo, err := authenticode.Unstamped(n, nil)
	if err != nil || len(todo) != 4 {
		t.Fatalf("%d, %v", len(todo), err)
	}
	for left := len(todo); left > 0; left-- {
		todo, err := authenticode.Unstamped(n, nil)
		if err != nil || len(todo) != left {
			t.Fatalf("%d unstamped, %v: want %d", len(todo), err, left)
		}
		target := todo[left/2]
		if _, err := authenticode.Stamp(t.Context(), n, nil, target, s.Timestamp(t, []byte("something else"), formattest.At)); err == nil {
			t.Fatal("a timestamp over something else was attached")
		}
		tok := s.Timestamp(t, target.Message, formattest.At)
		if _, err := authenticode.Stamp(t.Context(), n, nil, target, tok); err != nil {
			t.Fatal(err)
		}
		if _, err := authenticode.Stamp(t.Context(), n, nil, target, tok); err == nil {
			t.Fatal("stamped twice")
		}
	}
	r, err := authenticode.Verify(t.Context(), n, tr)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range r.Signatures {
		if i.Time.IsZero() {
			t.Errorf("%s has no time", i.Label)
		}
	}
}

// Invariant 2: a certificate without the code-signing usage signs nothing, and what
// it signed nevertheless does not verify.
func TestCertificateWithoutCodeSigning(t *testing.T) {
	n := &note{text: "text"}
	good := formattest.Identity(t, sigalg.P256)
	n.sign(t, good)
	if _, err := authenticode.Verify(t.Context(), n, good.Trust()); err != nil {
		t.Fatal(err)
	}
	bad := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	st := n.statement(t)
	if _, err := st.Assemble(bad.Identity, nil); err == nil || !strings.Contains(err.Error(), "not for code signing") {
		t.Errorf("a server's certificate signs code: %v", err)
	}
	st.Firmware = true // past that check
	tbs, err := st.Assemble(bad.Identity, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n.der, err = st.Seal(bad.Identity, []format.Signature{{Value: bad.SignInput(t, tbs[0].Input())}}); err != nil {
		t.Fatal(err)
	}
	if _, err := authenticode.Verify(t.Context(), n, bad.Trust()); err == nil || !strings.Contains(err.Error(), "usage") {
		t.Errorf("a server's certificate signed code: %v", err)
	}
}

func TestIdentitiesThatWindowsRefuses(t *testing.T) {
	n := &note{text: "text"}
	p256, p384 := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P384)
	for name, id := range map[string]format.Identity{
		"no certificate":      {Scheme: p256.Scheme, Public: p256.Public},
		"another certificate": {Scheme: p256.Scheme, Public: p256.Public, Chain: p384.Chain},
		"Ed25519":             formattest.Identity(t, sigalg.Ed25519).Identity,
		"ML-DSA":              formattest.Identity(t, sigalg.MLDSA65).Identity,
		"another scheme":      {Scheme: sigalg.RSAPKCS1SHA256, Public: p256.Public, Chain: p256.Chain},
		"hole in the chain":   {Scheme: p256.Scheme, Public: p256.Public, Chain: []*x509.Certificate{nil}},
	} {
		if _, err := n.statement(t).Assemble(id, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Edits of DER that is not a signature, or that is cut short, are errors.
func TestHostileSignatures(t *testing.T) {
	n, tr := signedBy(t)
	for i := 0; i < len(n.der); i += 7 {
		c := *n
		c.der = n.der[:i]
		if _, err := authenticode.Verify(t.Context(), &c, tr); err == nil {
			t.Fatalf("the first %d bytes verify", i)
		}
		if i > 0 {
			_, _ = authenticode.Unnest(c.der, 1, cms.OIDSpcIndirectData)
		}
	}
	if _, err := authenticode.Verify(t.Context(), &note{text: "texT", der: n.der}, tr); !errors.Is(err, authenticode.ErrDigest) {
		t.Errorf("another text: %v", err)
	}
	tr.Detached = n.der
	if _, err := authenticode.Verify(t.Context(), n, tr); !errors.Is(err, authenticode.ErrDetached) {
		t.Error(err)
	}
}

// A content that is accepted re-encodes to one that says the same.
func FuzzIndirect(f *testing.F) {
	n := 0
	for _, d := range []authenticode.Indirect{
		{Type: authenticode.OIDSipInfo, Value: authenticode.SipInfo(1, "0123456789abcdef"), Hash: crypto.SHA256, Digest: make([]byte, 32)},
		{Type: authenticode.OIDCabData, Value: authenticode.ObsoleteLink(), Hash: crypto.SHA384, Digest: make([]byte, 48)},
		{Type: authenticode.OIDCabData, Hash: crypto.SHA512, Digest: make([]byte, 64)},
	} {
		b, err := d.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		n++
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := authenticode.ParseIndirect(b)
		if err != nil || d.Hash == crypto.SHA1 {
			return
		}
		_, _ = authenticode.ParseSipInfo(d.Value)
		_ = authenticode.ParseFileLink(d.Value)
		enc, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := authenticode.ParseIndirect(enc)
		if err != nil || again.Hash != d.Hash || !bytes.Equal(again.Digest, d.Digest) || !bytes.Equal(again.Value, d.Value) || !again.Type.Equal(d.Type) {
			t.Errorf("%x is not what it is re-encoded to: %v", b, err)
		}
	})
}

// Taking a signature out of a PKCS #7 and putting it back does not depend on luck.
func FuzzUnnest(f *testing.F) {
	n, _ := signedBy(f)
	f.Add(n.der, 1)
	f.Add(n.der, 0)
	f.Fuzz(func(t *testing.T, der []byte, i int) {
		sigs, err := authenticode.ParseNested(der, cms.OIDSpcIndirectData, "primary", 0)
		if err != nil || i < 0 || i >= len(sigs) {
			return
		}
		rest, err := authenticode.Unnest(der, i, cms.OIDSpcIndirectData)
		if err != nil {
			return
		}
		if len(rest) == 0 {
			if len(sigs) != 1 {
				t.Error("more than one signature went")
			}
			return
		}
		left, err := authenticode.ParseNested(rest, cms.OIDSpcIndirectData, "primary", 0)
		if err != nil || len(left) != len(sigs)-1 {
			t.Errorf("%d of %d left: %v", len(left), len(sigs), err)
		}
	})
}
