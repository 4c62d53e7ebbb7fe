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

// maxCached is how many bytes of signed roots a cache holds.
const maxCached = 64 << 20

// Roots is a bounded cache of signed roots, each as one trust judges it: whether
// the key signed it, when, and which anchors vouch for the signer. It holds no
// verdict about a record. Roots that do not verify are not kept. It is safe for
// concurrent use.
type Roots struct {
	mu    sync.Mutex
	limit int
	size  int // bytes of the signed roots
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
	r.size += s.size
	for r.used.Len() > r.limit || r.size > maxCached {
		last := r.used.Back()
		old := r.used.Remove(last).(*signed)
		delete(r.byKey, old.key)
		r.size -= old.size
	}
}

// signed is a signed root whose signature verifies, as one trust judges it. It is
// not changed once it is made.
type signed struct {
	key      [sha256.Size]byte
	size     int // bytes of the encoding
	root     *SignedRoot
	job      *Job
	chain    []*x509.Certificate
	leaf     [sha256.Size]byte // fingerprint of the signer's certificate
	public   crypto.PublicKey
	at       time.Time          // the trusted time of signing
	stamped  bool               // at is a timestamp's
	verdicts []*rejection.Error // for each anchor: nil where it vouches for the signer at that time
}

// signedRoot reads and verifies a signed root, or takes it from the cache.
func (v *Verifier) signedRoot(encoded []byte) (*signed, *rejection.Error) {
	h := sha256.New()
	h.Write(v.digest[:])
	h.Write(encoded)
	key := [sha256.Size]byte(h.Sum(nil))
	if s := v.roots.get(key); s != nil {
		return s, nil
	}
	s := &signed{key: key, size: len(encoded)}
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
	for _, step := range v.checks.root {
		if err := step.check(v, s); err != nil {
			return nil, err
		}
	}
	if s.at.IsZero() {
		s.at = time.Unix(s.root.SignedAt, 0).UTC()
	}
	s.verdicts = v.judgeSigner(s)
	v.roots.put(s)
	return s, nil
}

// checkAlgorithm takes RSA of 3072 and 4096 bits, P-256, P-384, Ed25519 and ML-DSA,
// for the signer and for the authorities that stand with him: the work of building
// paths is limited before it begins.
func (v *Verifier) checkAlgorithm(s *signed) *rejection.Error {
	for i, c := range s.chain {
		pub, err := cms.PublicKey(c)
		if err != nil {
			return rejection.New(rejection.AlgNotAllowed, "", "a certificate's kind of key is not known")
		}
		kind, err := sigalg.KeyOf(pub)
		if err != nil {
			return rejection.New(rejection.AlgNotAllowed, "", err.Error())
		}
		if i == 0 && !sigalg.Scheme(s.root.Scheme).Fits(kind) {
			return rejection.New(rejection.AlgNotAllowed, s.root.Scheme, "the scheme is not one of the key "+string(kind))
		}
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

// judgeSigner says for each anchor why it does not vouch for the signer; nil where it
// does.
func (v *Verifier) judgeSigner(s *signed) []*rejection.Error {
	verdicts := make([]*rejection.Error, len(v.anchors))
	if len(v.anchors) == 0 {
		return verdicts
	}
	all := v.checks.usage(v, s)
	var chains [][]*x509.Certificate
	if all == nil {
		chains, all = v.checks.chain(v, s)
	}
	for i := range v.anchors {
		if verdicts[i] = all; all == nil {
			verdicts[i] = v.checks.vouches(v, s, chains, &v.anchors[i])
		}
	}
	return verdicts
}

// checkUsage wants a certificate for code signing.
func (v *Verifier) checkUsage(s *signed) *rejection.Error {
	if !slices.Contains(s.chain[0].ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return rejection.New(rejection.CertUntrusted, "", "the certificate is not for code signing")
	}
	return nil
}

// checkChain builds the paths to all anchors at once, each of them valid at the
// trusted time of signing: how long it may take does not grow with the anchors.
func (v *Verifier) checkChain(s *signed) ([][]*x509.Certificate, *rejection.Error) {
	chains, err := cms.VerifyChain(s.chain[0], s.chain[1:], cms.ChainOptions{Roots: v.pool, Usage: x509.ExtKeyUsageCodeSigning, At: s.at})
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		return chains, nil
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return nil, rejection.New(rejection.CertExpiredAtSigning, "", "a certificate of the path was not valid at the time of signing")
	case errors.As(err, &unknown):
		return nil, rejection.New(rejection.CertUnknown, "", "the certificate leads to no anchor")
	}
	return nil, rejection.New(rejection.CertUntrusted, "", "the certificate's path is not acceptable")
}

// checkVouches wants a path to the anchor of which nothing is revoked.
func (v *Verifier) checkVouches(s *signed, chains [][]*x509.Certificate, a *anchor) *rejection.Error {
	why := rejection.New(rejection.CertUnknown, "", "the certificate does not lead to this anchor")
	for _, chain := range chains {
		if !chain[len(chain)-1].Equal(a.certificate) {
			continue
		}
		r := v.checks.revocation(v, s, chain)
		if r == nil {
			return nil
		}
		why = r
	}
	return why
}

// checkRevocation looks for a certificate or key of the chain that is revoked. What a
// timestamp proves older than the revocation stands.
func (v *Verifier) checkRevocation(s *signed, chain []*x509.Certificate) *rejection.Error {
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
