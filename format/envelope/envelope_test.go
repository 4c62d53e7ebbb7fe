package envelope

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Invariant 1.
func TestRaw(t *testing.T) {
	for kind, want := range map[sigalg.Key]int{sigalg.P256: 64, sigalg.P384: 96} {
		s := formattest.Identity(t, kind)
		for range 20 { // a leading zero is one in 128
			der := s.Sign(t, []byte("m"))
			raw, err := Raw(s.Public, der)
			if err != nil || len(raw) != want {
				t.Fatalf("%s: %d bytes, %v", kind, len(raw), err)
			}
			if again, err := DER(s.Public, raw); err != nil || !bytes.Equal(again, der) {
				t.Fatalf("%s: %x, %v", kind, again, err)
			}
			if _, err := DER(s.Public, raw[1:]); err == nil {
				t.Error("a byte short")
			}
			if _, err := DER(s.Public, append([]byte{0}, raw...)); err == nil {
				t.Error("a byte too many")
			}
		}
	}
	s := formattest.Identity(t, sigalg.P256)
	for name, der := range map[string][]byte{
		"no DER": []byte("x"), "zero": {0x30, 6, 2, 1, 0, 2, 1, 1}, "negative": {0x30, 6, 2, 1, 0xff, 2, 1, 1},
		"large": append([]byte{0x30, 0x26, 2, 0x21, 1}, append(make([]byte, 32), 2, 1, 1)...), "trailing": {0x30, 6, 2, 1, 1, 2, 1, 1, 0},
	} {
		if _, err := Raw(s.Public, der); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if b, err := Raw(formattest.Identity(t, sigalg.Ed25519).Public, []byte("sig")); err != nil || string(b) != "sig" {
		t.Errorf("%q, %v", b, err)
	}
}

// Invariants 2 and 3.
func TestJudge(t *testing.T) {
	s, other := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P256)
	server := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	message := []byte("message")
	claim := func(s *formattest.Signer, chain ...*x509.Certificate) Claim {
		raw, err := Raw(s.Public, s.Sign(t, message))
		if err != nil {
			t.Fatal(err)
		}
		return Claim{Scheme: s.Scheme, Message: message, Value: raw, Chain: chain}
	}
	with := func(c Claim, thumb []byte) Claim { c.Thumb = thumb; return c }
	sum := sha256.Sum256(s.Chain[0].Raw)
	roots, keys := s.Trust(), s.Trust()
	roots.Keys, keys.Roots = nil, nil
	helped := roots
	helped.Intermediates = s.Chain
	expired := roots
	expired.Now = formattest.At.AddDate(90, 0, 0)
	serverRoots := server.Trust()
	serverRoots.Keys = nil
	for name, c := range map[string]struct {
		claim   Claim
		trust   format.Trust
		ok      bool
		byChain bool
	}{
		"chain under a root":            {claim(s, s.Chain...), roots, true, true},
		"chain without intermediate":    {claim(s, s.Chain[0]), roots, false, false},
		"intermediate from the side":    {claim(s, s.Chain[0]), helped, true, true},
		"expired":                       {claim(s, s.Chain...), expired, false, false},
		"key of the certificate":        {claim(s, s.Chain...), keys, true, false},
		"no certificate, key":           {claim(s), keys, true, false},
		"no certificate, roots":         {claim(s), roots, false, false},
		"no certificate, helped":        {claim(s), helped, true, false},
		"stranger's certificate":        {claim(s, other.Chain...), s.Trust(), false, false},
		"certificate for servers":       {claim(server, server.Chain...), serverRoots, false, false},
		"thumbprint":                    {with(claim(s), sum[:]), helped, true, true},
		"thumbprint of another":         {with(claim(s, s.Chain...), make([]byte, 32)), roots, false, false},
		"thumbprint nobody knows, key":  {with(claim(s), make([]byte, 32)), keys, true, false},
		"thumbprint nobody knows":       {with(claim(s), make([]byte, 32)), roots, false, false},
		"nobody":                        {claim(s, s.Chain...), format.Trust{Now: formattest.At}, false, false},
		"another scheme of the key":     {func() Claim { c := claim(s, s.Chain...); c.Scheme = sigalg.ECDSASHA384; return c }(), roots, false, false},
		"another message":               {func() Claim { c := claim(s, s.Chain...); c.Message = []byte("x"); return c }(), roots, false, false},
		"another message, trusted key":  {func() Claim { c := claim(s); c.Message = []byte("x"); return c }(), keys, false, false},
		"signature in another encoding": {func() Claim { c := claim(s, s.Chain...); c.Value = append([]byte{0}, c.Value...); return c }(), roots, false, false},
	} {
		v, err := Judge("test", c.claim, c.trust)
		if (err == nil) != c.ok || err == nil && v.ByChain != c.byChain {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	if err := Signer("test", s.Identity); err != nil {
		t.Error(err)
	}
	for name, id := range map[string]format.Identity{
		"servers": server.Identity, "another hash than the curve's": s.With(sigalg.ECDSASHA384).Identity,
		"another key's certificate": {Scheme: s.Scheme, Public: other.Public, Chain: s.Chain},
	} {
		if err := Signer("test", id); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
