// Package single is what formats with one signature, made in one round, share:
// the frame of a plan, the round, the fit of a signature, the key that made it,
// and a CMS signature with signed attributes.
//
// Invariants:
//
//  1. [Frame] accepts the plans of one format and version only, with exactly that
//     format's options, each with a value that is allowed.
//  2. [Fits] lets a signature pass only if the identity made it over the message.
//  3. [Key] names a trusted key only if the signature verifies with it.
//  4. [VerifyCMS] wants every signer to be right, with a certificate for code
//     signing under a root at Trust.Now, and names all that nobody signed.
//
// A caller may not conclude from Frame that a plan's body or facts are right.
package single

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Errors that callers branch on.
var (
	ErrPlan      = errors.New("plan contradicts itself")
	ErrChanged   = errors.New("file is not the one that was planned")
	ErrUntrusted = errors.New("no trusted key made the signature")
)

// Options are checked options as a plan carries them.
func Options(p format.Params) []format.Fact {
	var out []format.Fact
	for _, n := range slices.Sorted(maps.Keys(p)) {
		out = append(out, format.Fact{Name: n, Value: p[n]})
	}
	return out
}

// Frame checks all of a plan but its body and facts, and returns its options.
func Frame(f format.Format, p *format.Plan, version uint) (format.Params, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if p.Format != f.Name() || p.Version != version {
		return nil, fmt.Errorf("%s: plan of format %.40q, version %d", f.Name(), p.Format, p.Version)
	}
	given := format.Params{}
	for _, o := range p.Params {
		given[o.Name] = o.Value
	}
	if len(given) != len(f.Options()) {
		return nil, fmt.Errorf("%s: %w: its options are not this format's", f.Name(), ErrPlan)
	}
	return given.Check(f)
}

// Round is the one round of a format with one signature.
func Round(name string, done [][]byte, t format.ToBeSigned) ([]format.ToBeSigned, error) {
	switch len(done) {
	case 0:
		return []format.ToBeSigned{t}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("%s: %d signatures: there is one round", name, len(done))
}

// Fits returns the signature value if it is the only one, without a timestamp
// (these formats have no place for one), over t, and if a has the planned size.
func Fits(name string, a format.Artifact, p *format.Plan, t format.ToBeSigned, id format.Identity, sigs []format.Signature) ([]byte, error) {
	switch {
	case a.Size() != p.Size:
		return nil, fmt.Errorf("%s: %w: %d bytes: want %d", name, ErrChanged, a.Size(), p.Size)
	case len(sigs) != 1:
		return nil, fmt.Errorf("%s: %d signatures: one is wanted", name, len(sigs))
	case len(sigs[0].Timestamp) > 0:
		return nil, fmt.Errorf("%s: the format has no place for a timestamp", name)
	}
	if err := t.Verify(id.Public, sigs[0].Value); err != nil {
		return nil, fmt.Errorf("%s: signature does not fit plan and key: %w", name, err)
	}
	return sigs[0].Value, nil
}

// Key finds the trusted key that made a signature. toBeSigned gives what it would
// have signed, and the signature as package sigalg takes it; an error of it says
// that a key cannot have made the signature.
func Key(name string, keys []crypto.PublicKey, toBeSigned func(sigalg.Key) (format.ToBeSigned, []byte, error)) (crypto.PublicKey, format.ToBeSigned, error) {
	var none format.ToBeSigned
	for _, pub := range keys {
		k, err := sigalg.KeyOf(pub)
		if err != nil {
			continue // a key that the caller trusts for something else
		}
		t, sig, err := toBeSigned(k)
		if err != nil {
			continue
		}
		if t.Verify(pub, sig) == nil {
			return pub, t, nil
		}
	}
	return nil, none, fmt.Errorf("%s: %w", name, ErrUntrusted)
}

// Keys are the keys that t believes in: its own, and those of certificates for
// code signing among its intermediates that lead to a root.
func Keys(t format.Trust) []crypto.PublicKey {
	out := slices.Clone(t.Keys)
	if t.Roots == nil {
		return out
	}
	for _, c := range t.Intermediates {
		pub, err := cms.PublicKey(c)
		if err != nil {
			continue
		}
		if _, err := cms.VerifyChain(c, t.Intermediates, cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: t.Now}); err == nil {
			out = append(out, pub)
		}
	}
	return out
}

// Text makes of bytes read from a file a line that may be a fact: at most limit
// bytes, with "?" for what is not printable. What is longer is cut, and says so
// where limit leaves room for that: who reads it must not take it for all.
func Text(b []byte, limit int) string {
	more := ""
	if len(b) > limit && limit >= 64 {
		more = fmt.Sprintf("… (%d bytes)", len(b))
	}
	s := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), limit-len(more))]), "?"))
	return s + more
}
