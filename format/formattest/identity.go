// Package formattest holds every format to the promises of package format:
// [Run] is the conformance suite, [Identity] makes who signs in tests, and
// [TwoRounds] is a format with two signatures, the second over the first, that
// exists for tests alone.
package formattest

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// At is the time at which tests sign and verify.
var At = cmstest.At

// Signer is a key in memory with a certificate for code signing, which a test
// authority issued.
type Signer struct {
	format.Identity
	Root *cmstest.Identity // the authority
	key  *cmstest.Identity
	also []*Signer
}

// And is a signer that signs with the keys of others too, each under its own
// authority: see format.Hybrid.
func (s *Signer) And(others ...*Signer) *Signer {
	c := *s
	c.Also, c.also = nil, others
	for _, o := range others {
		c.Also = append(c.Also, o.Identity)
	}
	return &c
}

// Identity makes a signer with a key of the kind, which signs under the kind's
// default scheme. The chain is leaf and intermediate; the root is left out.
// change may make something else of the leaf.
func Identity(tb testing.TB, kind sigalg.Key, change ...func(*x509.Certificate)) *Signer {
	tb.Helper()
	root := cmstest.NewRoot(tb)
	key := root.Authority(tb, "Test Intermediate").Issue(tb, "Test Signer "+string(kind), kind, change...)
	return &Signer{format.Identity{Scheme: kind.Default(), Public: key.Key.Public(), Chain: key.Chain}, root, key, nil}
}

// With is the same signer under another scheme of its key.
func (s *Signer) With(scheme sigalg.Scheme) *Signer {
	c := *s
	c.Scheme = scheme
	return &c
}

// Sign signs a message under the signer's scheme.
func (s *Signer) Sign(tb testing.TB, message []byte) []byte {
	tb.Helper()
	return s.key.Sign(tb, s.Scheme, message)
}

// SignInput signs what a key is handed: see sigalg.Scheme.Input.
func (s *Signer) SignInput(tb testing.TB, input []byte) []byte {
	tb.Helper()
	return s.key.SignInput(tb, s.Scheme, input)
}

// Trust believes this signer, by root and by key, and its authority's timestamps.
func (s *Signer) Trust() format.Trust {
	t := format.Trust{Roots: s.Root.Pool(), TimestampRoots: s.Root.Pool(), Keys: []crypto.PublicKey{s.Public}, Now: At}
	for _, o := range s.also {
		t.Roots.AddCert(o.Root.Root)
		t.Keys = append(t.Keys, o.Public)
	}
	return t
}

// Timestamp makes an RFC 3161 token over value, by a time-stamping authority
// under the signer's root.
func (s *Signer) Timestamp(tb testing.TB, value []byte, at time.Time) []byte {
	tb.Helper()
	tsa := s.Root.IssueTSA(tb, "Test Time", sigalg.P256)
	h := crypto.SHA256
	req := tsp.NewRequest(h, sum(h, value), big.NewInt(4711), nil, true)
	cfg := tsp.AuthorityConfig{Chain: tsa.Chain, Policy: asn1.ObjectIdentifier{1, 2, 3, 4}, Scheme: sigalg.ECDSASHA256}
	p, err := tsp.Issue(req, cfg, big.NewInt(1), at)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := p.Finish(tsa.Sign(tb, sigalg.ECDSASHA256, p.ToBeSigned()))
	if err != nil {
		tb.Fatal(err)
	}
	t, err := tsp.ParseResponse(der)
	if err != nil {
		tb.Fatal(err)
	}
	return t.CMS.Raw
}

func sum(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

// SignAll makes the signatures of all rounds of a plan.
func SignAll(tb testing.TB, f format.Format, p *format.Plan, s *Signer, at time.Time) []format.Signature {
	tb.Helper()
	var done [][]byte
	var out []format.Signature
	for range format.MaxRounds + 1 {
		tbs, err := f.Assemble(p, s.Identity, at, done)
		if err != nil {
			tb.Fatalf("assemble round %d: %v", len(done), err)
		}
		if next, err := format.Next(f, p, s.Identity, at, done); err != nil || len(next) != len(tbs) {
			tb.Fatalf("after %d signatures: %d messages by Next, %v: Assemble has %d", len(done), len(next), err, len(tbs))
		}
		if len(tbs) == 0 {
			return out
		}
		for _, t := range tbs {
			if err := t.Check(); err != nil {
				tb.Fatalf("assemble round %d: %v", len(done), err)
			}
			by := s
			if t.Key > 0 {
				by = s.also[t.Key-1]
			}
			sig := by.With(t.Scheme).SignInput(tb, t.Input())
			done = append(done, sig)
			out = append(out, format.Signature{Value: sig})
		}
	}
	tb.Fatalf("more than %d rounds", format.MaxRounds)
	return nil
}
