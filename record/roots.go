package record

import (
	"container/list"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// Roots is a bounded cache of signed roots, each as one trust judges it: whether
// the key signed it, when, and which anchors vouch for the signer. It holds no
// verdict about a record. Roots that do not verify are not kept. It is safe for
// concurrent use.
type Roots struct {
	mu    sync.Mutex
	limit int
	byKey map[[sha256.Size]byte]*list.Element
	used  *list.List // of *signed, the last used first
}

// NewRoots makes a cache of at most limit roots; 0: 1024.
func NewRoots(limit int) *Roots {
	if limit <= 0 {
		limit = 1024
	}
	return &Roots{limit: limit, byKey: map[[sha256.Size]byte]*list.Element{}, used: list.New()}
}

func (r *Roots) get(key [sha256.Size]byte) *signed {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.byKey[key]
	if !ok {
		return nil
	}
	r.used.MoveToFront(e)
	return e.Value.(*signed)
}

func (r *Roots) put(s *signed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.byKey[s.key]; ok {
		return
	}
	r.byKey[s.key] = r.used.PushFront(s)
	if r.used.Len() > r.limit {
		last := r.used.Back()
		delete(r.byKey, last.Value.(*signed).key)
		r.used.Remove(last)
	}
}

// signed is a signed root whose signature verifies, as one trust judges it. It is
// not changed once it is made.
type signed struct {
	key      [sha256.Size]byte
	root     *SignedRoot
	job      *Job
	chain    []*x509.Certificate
	leaf     [sha256.Size]byte // fingerprint of the signer's certificate
	public   crypto.PublicKey
	at       time.Time          // the trusted time of signing
	stamped  bool               // at is a timestamp's
	verdicts []*rejection.Error // for each anchor: nil where it vouches for the signer at that time
}

// rootSteps are the checks of a signed root, in order.
var rootSteps = []struct {
	name  string
	check func(v *Verifier, s *signed) *rejection.Error
}{
	{"algorithm", (*Verifier).checkAlgorithm},
	{"root signature", (*Verifier).checkRootSignature},
	{"timestamp", (*Verifier).checkTimestamp},
}

// anchorSteps are the checks of the signer's certificate against one anchor.
var anchorSteps = []struct {
	name  string
	check func(v *Verifier, s *signed, a *anchor) *rejection.Error
}{
	{"usage", (*Verifier).checkUsage},
	{"chain", (*Verifier).checkChain},
}

// signedRoot reads and verifies a signed root, or takes it from the cache.
func (v *Verifier) signedRoot(encoded []byte) (*signed, *rejection.Error) {
	h := sha256.New()
	h.Write(v.digest[:])
	h.Write([]byte(v.without))
	h.Write(encoded)
	key := [sha256.Size]byte(h.Sum(nil))
	if s := v.roots.get(key); s != nil {
		return s, nil
	}
	s := &signed{key: key}
	var err error
	if s.root, err = DecodeSignedRoot(encoded); err != nil {
		return nil, rejection.New(rejection.SigMalformed, "", err.Error())
	}
	if s.job, err = DecodeJob(s.root.Job); err != nil {
		return nil, rejection.New(rejection.SigMalformed, "", err.Error())
	}
	for _, der := range s.root.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, rejection.New(rejection.SigMalformed, "", "a certificate cannot be read")
		}
		s.chain = append(s.chain, c)
	}
	s.leaf = sha256.Sum256(s.chain[0].Raw)
	if s.public, err = cms.PublicKey(s.chain[0]); err != nil {
		return nil, rejection.New(rejection.AlgNotAllowed, "", "the signer's kind of key is not known")
	}
	for _, step := range rootSteps {
		if step.name == v.without {
			continue
		}
		if err := step.check(v, s); err != nil {
			return nil, err
		}
	}
	if s.at.IsZero() {
		s.at = time.Unix(s.root.SignedAt, 0).UTC()
	}
	s.verdicts = make([]*rejection.Error, len(v.anchors))
	for i := range v.anchors {
		for _, step := range anchorSteps {
			if step.name == v.without {
				continue
			}
			if s.verdicts[i] = step.check(v, s, &v.anchors[i]); s.verdicts[i] != nil {
				break
			}
		}
	}
	v.roots.put(s)
	return s, nil
}

// checkAlgorithm takes RSA of 3072 and 4096 bits, P-256, P-384, Ed25519 and ML-DSA.
func (v *Verifier) checkAlgorithm(s *signed) *rejection.Error {
	kind, err := sigalg.KeyOf(s.public)
	if err != nil {
		return rejection.New(rejection.AlgNotAllowed, "", err.Error())
	}
	if !sigalg.Scheme(s.root.Scheme).Fits(kind) {
		return rejection.New(rejection.AlgNotAllowed, s.root.Scheme, "the scheme is not one of the key "+string(kind))
	}
	return nil
}

func (v *Verifier) checkRootSignature(s *signed) *rejection.Error {
	m, err := s.root.Message()
	if err != nil {
		return rejection.New(rejection.SigMalformed, "", err.Error())
	}
	if err := sigalg.Verify(s.public, sigalg.Scheme(s.root.Scheme), m, s.root.Signature); err != nil {
		return rejection.New(rejection.SigInvalid, "", "the key of the certificate did not sign this root")
	}
	return nil
}

// checkTimestamp believes a timestamp under the trusted roots; then one that is
// wrong makes the signature wrong.
func (v *Verifier) checkTimestamp(s *signed) *rejection.Error {
	if len(s.root.Timestamp) == 0 || v.stamps == nil {
		return nil
	}
	wrong := func(why string) *rejection.Error { return rejection.New(rejection.SigInvalid, "timestamp", why) }
	t, err := tsp.ParseToken(s.root.Timestamp)
	if err != nil {
		return wrong("it cannot be read")
	}
	at, err := t.Verify(func(h crypto.Hash) ([]byte, error) {
		if !h.Available() {
			return nil, errors.New("hash is not available")
		}
		x := h.New()
		x.Write(s.root.Signature)
		return x.Sum(nil), nil
	}, v.stamps)
	if err != nil {
		return wrong(err.Error())
	}
	if at.Before(time.Unix(s.root.SignedAt, 0).Add(-clockSkew)) {
		return wrong("it is older than the time of signing")
	}
	s.at, s.stamped = at.UTC(), true
	return nil
}

// checkUsage wants a certificate for code signing.
func (v *Verifier) checkUsage(s *signed, _ *anchor) *rejection.Error {
	if !slices.Contains(s.chain[0].ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return rejection.New(rejection.CertUntrusted, "", "the certificate is not for code signing")
	}
	return nil
}

// checkChain wants a path to the anchor, all of it valid at the trusted time of
// signing and none of it revoked.
func (v *Verifier) checkChain(s *signed, a *anchor) *rejection.Error {
	chains, err := cms.VerifyChain(s.chain[0], s.chain[1:], cms.ChainOptions{Roots: a.pool, Usage: x509.ExtKeyUsageCodeSigning, At: s.at})
	if err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return rejection.New(rejection.CertExpiredAtSigning, "", "a certificate of the path was not valid at the time of signing")
		}
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return rejection.New(rejection.CertUnknown, "", "the certificate leads to no anchor")
		}
		return rejection.New(rejection.CertUntrusted, "", "the certificate's path is not acceptable")
	}
	if v.without == "revocation" {
		return nil
	}
	var why *rejection.Error
	for _, chain := range chains {
		r := v.revocation(s, chain)
		if r == nil {
			return nil
		}
		why = r
	}
	return why
}

// revocation looks for a certificate or key of the chain that is revoked. What a
// timestamp proves older than the revocation stands.
func (v *Verifier) revocation(s *signed, chain []*x509.Certificate) *rejection.Error {
	var why *rejection.Error
	for _, c := range chain {
		for _, f := range [][sha256.Size]byte{sha256.Sum256(c.Raw), sha256.Sum256(c.RawSubjectPublicKeyInfo)} {
			for _, r := range v.revoked[f] {
				if s.stamped && !r.Since.IsZero() && s.at.Before(r.Since) {
					continue
				}
				if r.Compromised {
					return rejection.New(rejection.KeyCompromised, "", "fingerprint "+r.Fingerprint)
				}
				why = rejection.New(rejection.CertRevoked, "", "fingerprint "+r.Fingerprint)
			}
		}
	}
	return why
}

// Len is the number of roots in the cache.
func (r *Roots) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used.Len()
}
