package credential

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/credential/internal/cborform"
	"github.com/greatseal-io/greatseal/credential/internal/clientdata"
	"github.com/greatseal-io/greatseal/sigalg"
)

// The limits of an assertion's parts, in bytes.
const (
	maxAuthData   = 4 << 10
	maxClientData = 8 << 10
	maxRawSig     = 2 << 10
)

// The flags of authenticator data, WebAuthn section 6.1.
const (
	flagUP = 0x01 // user present
	flagUV = 0x04 // user verified
	flagBE = 0x08 // backup eligible
	flagBS = 0x10 // backup state
	flagED = 0x80 // extension data included
)

// Assertion is a passkey's signature: what navigator.credentials.get returned.
type Assertion struct {
	AuthenticatorData []byte `cbor:"1,keyasint"`
	ClientDataJSON    []byte `cbor:"2,keyasint"`
	Signature         []byte `cbor:"3,keyasint"`
}

// Encode is the signature form that [Passkey.Verify] takes. It checks nothing.
func (a Assertion) Encode() ([]byte, error) {
	b, err := cborform.Encode(a)
	if err != nil {
		return nil, fmt.Errorf("credential: passkey: %w", err)
	}
	return b, nil
}

// DecodeAssertion takes a passkey's signature apart. It verifies nothing; the
// error wraps [ErrSignature].
func DecodeAssertion(sig []byte) (Assertion, error) {
	if len(sig) > MaxSignature {
		return Assertion{}, refuseSig("passkey: %d bytes: want at most %d", len(sig), MaxSignature)
	}
	var a Assertion
	if err := cborform.Decode(sig, &a); err != nil {
		return Assertion{}, refuseSig("passkey: %w", err)
	}
	for _, f := range []struct {
		name string
		b    []byte
		max  int
	}{
		{"authenticator data", a.AuthenticatorData, maxAuthData},
		{"client data", a.ClientDataJSON, maxClientData},
		{"signature", a.Signature, maxRawSig},
	} {
		if len(f.b) == 0 || len(f.b) > f.max {
			return Assertion{}, refuseSig("passkey: %s of %d bytes: want 1 to %d", f.name, len(f.b), f.max)
		}
	}
	return a, nil
}

// loginPrefix separates the challenges of logins from those of statements.
const loginPrefix = "login\n"

// Challenge is the WebAuthn challenge by which a passkey signs message for p. A
// statement that begins like a login's challenge is refused: a pre-authentication
// encoding begins with "DSSEv1 ".
func Challenge(p Purpose, message []byte) ([]byte, error) {
	switch p {
	case Statement:
		if bytes.HasPrefix(message, []byte(loginPrefix)) {
			return nil, errors.New("credential: passkey: statement reads like a login")
		}
		h := sha256.Sum256(message)
		return h[:], nil
	case Login:
		h := sha256.Sum256(append([]byte(loginPrefix), message...))
		return h[:], nil
	}
	return nil, fmt.Errorf("credential: unknown purpose %.20q", string(p))
}

// Verify implements [Credential]: WebAuthn Level 3 section 7.2 without its state.
func (c *Passkey) Verify(p Purpose, message, sig []byte) error {
	if c.pub == nil {
		return refuseSig("passkey: no key")
	}
	challenge, err := Challenge(p, message)
	if err != nil {
		return refuseSig("%w", err)
	}
	a, err := DecodeAssertion(sig)
	if err != nil {
		return err
	}
	if err := c.checkClientData(a.ClientDataJSON, challenge); err != nil {
		return refuseSig("passkey: client data: %w", err)
	}
	if err := c.checkAuthData(a.AuthenticatorData); err != nil {
		return refuseSig("passkey: authenticator data: %w", err)
	}
	h := sha256.Sum256(a.ClientDataJSON)
	signed := append(bytes.Clone(a.AuthenticatorData), h[:]...)
	if err := sigalg.Verify(c.pub, c.scheme, signed, a.Signature); err != nil {
		return refuseSig("passkey: %w", err)
	}
	return nil
}

func (c *Passkey) checkClientData(b, challenge []byte) error {
	d, err := clientdata.Parse(b)
	if err != nil {
		return err
	}
	if d.Type != "webauthn.get" {
		return fmt.Errorf("type %.40q: want webauthn.get", d.Type)
	}
	if d.Challenge != base64.RawURLEncoding.EncodeToString(challenge) {
		return errors.New("challenge is not that of the message")
	}
	for _, o := range c.t.Origins {
		if o == d.Origin {
			return nil
		}
	}
	return fmt.Errorf("origin %.120q is not one of the passkey's", d.Origin)
}

func (c *Passkey) checkAuthData(b []byte) error {
	if len(b) < 37 {
		return errors.New("cut short")
	}
	if rp := sha256.Sum256([]byte(c.t.RPID)); !bytes.Equal(b[:32], rp[:]) {
		return errors.New("made for another relying party")
	}
	flags := b[32] // b[33:37] is the counter
	switch {
	case flags&flagUP == 0:
		return errors.New("user was not present")
	case flags&flagUV == 0:
		return errors.New("user was not verified")
	case flags&^(flagUP|flagUV|flagBE|flagBS|flagED) != 0:
		// Attested credential data belongs to registrations; the rest is reserved.
		return fmt.Errorf("flags %#02x are not those of an assertion", flags)
	case flags&flagBS != 0 && flags&flagBE == 0:
		return errors.New("backed up without being eligible")
	case (flags&flagBE != 0) != c.t.BackupEligible:
		return errors.New("backup eligibility is not the registered one")
	case flags&flagED == 0 && len(b) != 37:
		return errors.New("bytes after the end")
	}
	if flags&flagED != 0 {
		var ext map[string]cbor.RawMessage
		if err := cborform.Read(b[37:], &ext, false); err != nil {
			return fmt.Errorf("extensions: %w", err)
		}
		if ext == nil {
			return errors.New("extensions: want a map")
		}
	}
	return nil
}
