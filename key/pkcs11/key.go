package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
	"github.com/greatseal-io/greatseal/sigalg"
)

// hsmKey is a key on a token. All but at is immutable.
type hsmKey struct {
	provider  *Provider
	uri       URI
	spki      []byte
	public    crypto.PublicKey
	algorithm sigalg.Key
	at        atomic.Pointer[place]
	finding   chan struct{} // capacity 1; held while the key is looked for again
}

// place is where a key is in one child.
type place struct {
	child  *child
	handle uint64
	epoch  uint64 // of the login under which it was found
}

// keyOf makes a Key of what the child found, and has it prove itself.
func (p *Provider) keyOf(ctx context.Context, c *child, u URI, k *wire.Key) (key.Key, error) {
	if k == nil || k.Handle == 0 {
		return nil, c.lied("no key in an answer")
	}
	public, algorithm, err := publicOf(k.Public)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, u)
	}
	h := &hsmKey{
		provider: p, uri: u, spki: k.Public, public: public, algorithm: algorithm, finding: make(chan struct{}, 1),
	}
	h.at.Store(&place{child: c, handle: k.Handle, epoch: c.epoch(u.selector())})
	if err := h.prove(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

func publicOf(spki []byte) (crypto.PublicKey, sigalg.Key, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, "", fmt.Errorf("pkcs11: public key: %w: %w", err, ErrUnfit)
	}
	algorithm, err := sigalg.KeyOf(public)
	if err != nil {
		return nil, "", fmt.Errorf("pkcs11: %w: %w", err, ErrUnfit)
	}
	return public, algorithm, nil
}

// prove signs something that nobody foresaw: private and public key are objects
// of their own on a token, and may be of two pairs.
func (k *hsmKey) prove(ctx context.Context) error {
	message := make([]byte, 32)
	if _, err := rand.Read(message); err != nil {
		return fmt.Errorf("pkcs11: randomness: %w", err)
	}
	message = append([]byte("greatseal proof of possession\x00"), message...)
	scheme := k.algorithm.Default()
	sig, err := k.Sign(ctx, scheme, scheme.Input(message))
	if err != nil {
		return err
	}
	if err := sigalg.Verify(k.public, scheme, message, sig); err != nil {
		return fmt.Errorf("pkcs11: private and public key are no pair: %w (%s)", ErrUnfit, k.uri)
	}
	return nil
}

// Public is the public half.
func (k *hsmKey) Public() crypto.PublicKey { return k.public }

// Algorithm is the kind of key.
func (k *hsmKey) Algorithm() sigalg.Key { return k.algorithm }

// Format prints the URI, whatever the verb.
func (k *hsmKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.uri.String()) }

// Sign signs on the token. A call that the child did not answer is not repeated;
// a login or an object handle that was lost is found again, once.
func (k *hsmKey) Sign(ctx context.Context, scheme sigalg.Scheme, input []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !scheme.Fits(k.algorithm) {
		return nil, fmt.Errorf("pkcs11: key is %s, not for %q: %w (%s)", k.algorithm, scheme, key.ErrScheme, k.uri)
	}
	if h := scheme.Hash(); h != 0 && len(input) != h.Size() {
		return nil, fmt.Errorf("pkcs11: %s signs %d bytes, not %d (%s)", scheme, h.Size(), len(input), k.uri)
	}
	if len(input) > MaxInput {
		return nil, fmt.Errorf("pkcs11: message of %d bytes: want at most %d (%s)", len(input), MaxInput, k.uri)
	}
	for attempt := 0; ; attempt++ {
		c, err := k.provider.current()
		if err != nil {
			return nil, err
		}
		at := k.at.Load()
		if at == nil || at.child != c {
			if at, err = k.find(ctx, c, at); err != nil {
				return nil, err
			}
		}
		got, err := c.call(ctx, &wire.Request{Op: wire.OpSign, Key: at.handle, Scheme: string(scheme), Input: input})
		if err != nil {
			return nil, err
		}
		switch got.Code {
		case wire.CodeOK:
			if len(got.Signature) == 0 {
				return nil, c.lied("no signature in an answer")
			}
			return got.Signature, nil
		case wire.CodeLogin, wire.CodeStale, wire.CodeUnavailable:
			if got.Code != wire.CodeStale {
				c.loggedOut(k.uri.selector(), at.epoch)
			}
			k.at.CompareAndSwap(at, nil)
			if attempt == 0 && got.Code != wire.CodeUnavailable {
				continue
			}
		}
		return nil, fmt.Errorf("%w (%s)", codeError(got), k.uri)
	}
}

// find looks for the key again: in a new child, or under a new login. old is
// where it was.
func (k *hsmKey) find(ctx context.Context, c *child, old *place) (*place, error) {
	select {
	case k.finding <- struct{}{}:
		defer func() { <-k.finding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.dead:
		return nil, c.reason()
	}
	if at := k.at.Load(); at != nil && at != old && at.child == c {
		return at, nil // somebody else found it meanwhile
	}
	r := &wire.Request{Op: wire.OpFind, Object: k.uri.Object, ObjectID: []byte(k.uri.ID)}
	got, err := k.provider.onToken(ctx, c, k.uri.selector(), r)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, k.uri)
	}
	if got.Key == nil || got.Key.Handle == 0 {
		return nil, c.lied("no key in an answer")
	}
	if !bytes.Equal(got.Key.Public, k.spki) {
		return nil, fmt.Errorf("pkcs11: another key has the name now: %w (%s)", key.ErrNotFound, k.uri)
	}
	at := &place{child: c, handle: got.Key.Handle, epoch: c.epoch(k.uri.selector())}
	k.at.Store(at)
	return at, nil
}

// epoch is the number of the token's last login.
func (c *child) epoch(s wire.Selector) uint64 {
	st := c.token(s)
	st.lock <- struct{}{}
	defer func() { <-st.lock }()
	return st.epoch
}

// Attributes is what a token says of a private key and of itself.
type Attributes struct {
	Token     Token
	Algorithm sigalg.Key
	Public    crypto.PublicKey
	Label     string
	ID        []byte

	Sensitive, AlwaysSensitive    bool // CKA_SENSITIVE, CKA_ALWAYS_SENSITIVE
	Extractable, NeverExtractable bool // CKA_EXTRACTABLE, CKA_NEVER_EXTRACTABLE
	Local                         bool // CKA_LOCAL: generated on the token
	Private                       bool // CKA_PRIVATE: needs a login
	Sign                          bool // CKA_SIGN
	AlwaysAuthenticate            bool // CKA_ALWAYS_AUTHENTICATE: a PIN for each signature
	Modifiable                    bool // CKA_MODIFIABLE
}

// Attributes asks the token about a key, also about one that Open refuses. It
// is the token's claim, not a proof.
func (p *Provider) Attributes(ctx context.Context, uri key.URI) (Attributes, error) {
	u, c, err := p.target(ctx, uri)
	if err != nil {
		return Attributes{}, err
	}
	got, err := p.onToken(ctx, c, u.selector(), &wire.Request{Op: wire.OpInspect, Object: u.Object, ObjectID: []byte(u.ID)})
	if err != nil {
		return Attributes{}, fmt.Errorf("%w (%s)", err, u)
	}
	if got.Key == nil || got.Token == nil {
		return Attributes{}, c.lied("no key in an answer")
	}
	public, algorithm, err := publicOf(got.Key.Public)
	if err != nil {
		return Attributes{}, fmt.Errorf("%w (%s)", err, u)
	}
	k, t := got.Key, got.Token
	return Attributes{
		Token:     Token{Label: t.Label, Serial: t.Serial, Manufacturer: t.Manufacturer, Model: t.Model},
		Algorithm: algorithm, Public: public, Label: k.Label, ID: k.ID,
		Sensitive: k.Sensitive, AlwaysSensitive: k.AlwaysSensitive, Extractable: k.Extractable, NeverExtractable: k.NeverExtractable,
		Local: k.Local, Private: k.Private, Sign: k.Sign, AlwaysAuthenticate: k.AlwaysAuthenticate, Modifiable: k.Modifiable,
	}, nil
}
