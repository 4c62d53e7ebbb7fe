// Package envelope is what formats share whose signatures stand in an envelope
// with the names of key and algorithm: COSE, JOSE and XML. It turns ECDSA
// signatures from DER into two numbers of fixed length and back, checks who signs,
// and judges who signed.
//
// Invariants:
//
//  1. [Raw] and [DER] are inverses; an ECDSA signature has one accepted form.
//  2. An identity with a certificate signs only if the certificate is of its key
//     and for code signing.
//  3. [Judge] believes an embedded certificate only under Trust.Roots, for code
//     signing, at Trust.Now, or if its key is itself among Trust.Keys.
//
// A caller may not conclude from an embedded certificate that it was signed: that
// depends on where the envelope holds it.
package envelope

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// MaxContent limits, in bytes, a file that is signed itself and not by its
// digest: the plan carries it.
const MaxContent = 1 << 20

// MaxCertificates limits an embedded chain.
const MaxCertificates = 16

// ErrCertificate is wrapped for certificates that an envelope may not hold.
var ErrCertificate = errors.New("certificate in the envelope is not acceptable")

// size is the length of each number of an ECDSA signature by pub, or 0 for other keys.
func size(pub crypto.PublicKey) int {
	if k, ok := pub.(*ecdsa.PublicKey); ok {
		return (k.Curve.Params().BitSize + 7) / 8
	}
	return 0
}

type pair struct{ R, S *big.Int }

// Raw is a signature by pub as envelopes carry it: ECDSA as two numbers in
// big-endian order, each as long as the curve's field (RFC 7518 section 3.4, RFC
// 9053 section 2.1); others as they are.
func Raw(pub crypto.PublicKey, sig []byte) ([]byte, error) {
	n := size(pub)
	if n == 0 {
		return sig, nil
	}
	var p pair
	if rest, err := asn1.Unmarshal(sig, &p); err != nil || len(rest) != 0 {
		return nil, errors.New("envelope: signature is not ECDSA in DER")
	}
	if p.R.Sign() <= 0 || p.S.Sign() <= 0 || p.R.BitLen() > 8*n || p.S.BitLen() > 8*n {
		return nil, errors.New("envelope: numbers of the ECDSA signature do not fit the curve")
	}
	out := make([]byte, 2*n)
	p.R.FillBytes(out[:n])
	p.S.FillBytes(out[n:])
	return out, nil
}

// DER is the inverse of Raw.
func DER(pub crypto.PublicKey, raw []byte) ([]byte, error) {
	n := size(pub)
	if n == 0 {
		return raw, nil
	}
	if len(raw) != 2*n {
		return nil, fmt.Errorf("envelope: ECDSA signature of %d bytes: want %d", len(raw), 2*n)
	}
	der, err := asn1.Marshal(pair{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])})
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return der, nil
}

// KeyID is the SHA-256 of a key's SubjectPublicKeyInfo.
func KeyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}

// Signer refuses an identity whose scheme does not fit its key, and one whose
// certificate is of another key or not for code signing. ECDSA keys sign under the
// hash of their curve's size, as envelopes name the two together.
func Signer(name string, id format.Identity) error {
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !Fits(id.Scheme, k) {
		return fmt.Errorf("%s: scheme %q does not fit a key %s", name, id.Scheme, k)
	}
	if len(id.Chain) == 0 {
		return nil
	}
	if len(id.Chain) > MaxCertificates {
		return fmt.Errorf("%s: chain of %d certificates: at most %d", name, len(id.Chain), MaxCertificates)
	}
	return single.Certificate(name, id)
}

// Fits reports whether keys of kind k sign under s in an envelope.
func Fits(s sigalg.Scheme, k sigalg.Key) bool {
	switch k {
	case sigalg.P256:
		return s == sigalg.ECDSASHA256
	case sigalg.P384:
		return s == sigalg.ECDSASHA384
	}
	return s.Fits(k)
}

// ParseChain reads certificates, leaf first.
func ParseChain(der [][]byte) ([]*x509.Certificate, error) {
	if len(der) > MaxCertificates {
		return nil, fmt.Errorf("envelope: %w: there are %d: at most %d", ErrCertificate, len(der), MaxCertificates)
	}
	var out []*x509.Certificate
	for i, b := range der {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("envelope: %w: number %d: %w", ErrCertificate, i, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// Claim is one signature of an envelope and what it says of who made it.
type Claim struct {
	Scheme  sigalg.Scheme
	Message []byte
	Value   []byte              // as the envelope carries it: see Raw
	Chain   []*x509.Certificate // embedded, leaf first; may be empty
	Thumb   []byte              // SHA-256 of the leaf; may be empty
}

// Verdict is a signature that verified under a key that is believed.
type Verdict struct {
	Key     crypto.PublicKey
	Signer  *x509.Certificate              // nil where a key is trusted without one
	ByChain bool                           // a chain led to a root; otherwise the key is among Trust.Keys
	Used    func(c *x509.Certificate) bool // whether the judgement rests on an embedded certificate
}

// Judge verifies the signature and believes who made it, or says why not.
func Judge(name string, c Claim, t format.Trust) (*Verdict, error) {
	chain := c.Chain
	if len(chain) == 0 && len(c.Thumb) > 0 {
		for _, i := range t.Intermediates {
			if sum := sha256.Sum256(i.Raw); string(sum[:]) == string(c.Thumb) {
				chain = []*x509.Certificate{i}
			}
		}
	}
	if len(chain) == 0 {
		pub, _, err := single.Key(name, single.Keys(t), func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
			if !Fits(c.Scheme, k) {
				return format.ToBeSigned{}, nil, errors.New("envelope: another kind of key")
			}
			sig, err := derOf(k, c.Value)
			return format.ToBeSigned{Scheme: c.Scheme, Message: c.Message}, sig, err
		})
		if err != nil {
			return nil, err
		}
		return &Verdict{Key: pub, Used: func(*x509.Certificate) bool { return false }}, nil
	}
	leaf := chain[0]
	if len(c.Thumb) > 0 {
		if sum := sha256.Sum256(leaf.Raw); string(sum[:]) != string(c.Thumb) {
			return nil, fmt.Errorf("%s: %w: its thumbprint is another", name, ErrCertificate)
		}
	}
	pub, err := cms.PublicKey(leaf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if k, err := sigalg.KeyOf(pub); err == nil && !Fits(c.Scheme, k) {
		return nil, fmt.Errorf("%s: scheme %s does not fit the certificate's key", name, c.Scheme)
	}
	sig, err := DER(pub, c.Value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := sigalg.Verify(pub, c.Scheme, c.Message, sig); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	v := &Verdict{Key: pub, Signer: leaf}
	used := []*x509.Certificate{leaf}
	v.Used = func(c *x509.Certificate) bool { return slices.ContainsFunc(used, c.Equal) }
	why := fmt.Errorf("%s: %w", name, single.ErrUntrusted)
	if t.Roots != nil {
		chains, err := cms.VerifyChain(leaf, append(slices.Clone(chain[1:]), t.Intermediates...), cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: t.Now})
		if err == nil {
			v.ByChain = true
			for _, list := range chains {
				used = append(used, list...)
			}
			return v, nil
		}
		why = fmt.Errorf("%s: %w", name, err)
	}
	for _, k := range t.Keys {
		if eq, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); ok && eq.Equal(k) {
			return v, nil
		}
	}
	return nil, why
}

// derOf is DER for a kind of key.
func derOf(k sigalg.Key, raw []byte) ([]byte, error) {
	n := map[sigalg.Key]int{sigalg.P256: 32, sigalg.P384: 48}[k]
	if n == 0 {
		return raw, nil
	}
	if len(raw) != 2*n {
		return nil, errors.New("envelope: length of the ECDSA signature")
	}
	return asn1.Marshal(pair{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])})
}

// Describe fills in what a verdict says of who signed.
func (v *Verdict) Describe(info *format.SignatureInfo) {
	info.Key = v.Key
	if c := v.Signer; c != nil {
		info.Signer, info.Subject, info.Issuer = c, c.Subject.String(), c.Issuer.String()
		if !v.ByChain {
			info.Facts = append(info.Facts, format.Fact{Name: "certificate", Value: "not judged: its key is trusted itself"})
		}
	}
}

// Values are the values of the signatures that signers made over tbs, as envelopes
// carry them, if a has the planned size. The envelopes have no place for timestamps.
func Values(name string, a format.Artifact, p *format.Plan, id format.Identity, tbs []format.ToBeSigned, sigs []format.Signature) ([][]byte, error) {
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%s: %w: %d bytes: want %d", name, single.ErrChanged, a.Size(), p.Size)
	}
	if len(sigs) != len(tbs) {
		return nil, fmt.Errorf("%s: %d signatures: %d are wanted", name, len(sigs), len(tbs))
	}
	var out [][]byte
	for i, id := range id.Signers() {
		if len(sigs[i].Timestamp) > 0 {
			return nil, fmt.Errorf("%s: the format has no place for a timestamp", name)
		}
		if err := tbs[i].Verify(id.Public, sigs[i].Value); err != nil {
			return nil, fmt.Errorf("%s: signature does not fit plan and key: %w", name, err)
		}
		v, err := Raw(id.Public, sigs[i].Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, v)
	}
	return out, nil
}

// Round is the one round of tbs, in which every key signs.
func Round(name string, done [][]byte, tbs []format.ToBeSigned) ([]format.ToBeSigned, error) {
	switch len(done) {
	case 0:
		return tbs, nil
	case len(tbs):
		return nil, nil
	}
	return nil, fmt.Errorf("%s: %d signatures: %d are wanted, in one round", name, len(done), len(tbs))
}

// Read reads a whole, which may have limit bytes.
func Read(name string, a format.Artifact, limit int64) ([]byte, error) {
	if a.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes are too many: at most %d", name, a.Size(), limit)
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}
