// Package receipt signs and checks the keeper's receipts: DSSE envelopes of
// statement.Receipt with one signature, in the form of an X.509 credential with an
// Ed25519 key (package credential), whose ID is the keyid.
//
// Invariants:
//
//  1. A receipt verifies under one key only: the keeper's, as its charter names it.
//  2. [Follows] holds for two receipts only if they are neighbours of one chain.
//
// A valid receipt says what the keeper did. That it was right to do so follows
// from the evidence alone: package verify judges it.
package receipt

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// ErrReceipt is wrapped by errors about receipts that do not verify.
var ErrReceipt = errors.New("receipt: not a valid receipt")

// ParseKey reads the keeper's public key as a charter writes it: base64.
func ParseKey(s string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize || base64.StdEncoding.EncodeToString(b) != s {
		return nil, fmt.Errorf("receipt: %.80q is not an Ed25519 public key in base64", s)
	}
	return b, nil
}

// Key is a keeper's public key, checked once for many receipts. It is safe for
// concurrent use.
type Key struct {
	pub  ed25519.PublicKey
	cred *credential.X509
}

// NewKey checks a public key.
func NewKey(pub ed25519.PublicKey) (*Key, error) {
	cred, err := credential.NewX509(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return &Key{slices.Clone(pub), cred}, nil
}

// Public is the public key.
func (k *Key) Public() ed25519.PublicKey { return slices.Clone(k.pub) }

// Sign makes the envelope of a receipt's payload. sign gets the message and
// returns the Ed25519 signature.
func (k *Key) Sign(payload []byte, sign func(message []byte) ([]byte, error)) ([]byte, error) {
	data, err := credential.X509SignedData(credential.Statement, statement.PAE(payload))
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	raw, err := sign(data)
	if err != nil {
		return nil, err
	}
	sig, err := credential.EncodeX509Signature(sigalg.PureEd25519, raw)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	e := statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(k.cred.ID()), Sig: sig}}}
	return e.Encode()
}

// Verify reads a receipt's envelope and checks that the keeper with this key
// signed it.
func (k *Key) Verify(envelope []byte) (*statement.Receipt, statement.ID, error) {
	var none statement.ID
	e, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return nil, none, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if len(e.Signatures) != 1 || e.Signatures[0].KeyID != string(k.cred.ID()) {
		return nil, none, fmt.Errorf("%w: want one signature, by %s", ErrReceipt, k.cred.ID())
	}
	if err := k.cred.Verify(credential.Statement, statement.PAE(e.Payload), e.Signatures[0].Sig); err != nil {
		return nil, none, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	r, err := statement.Decode[statement.Receipt](e.Payload)
	if err != nil {
		return nil, none, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return &r, e.ID(), nil
}

// Sign is [Key.Sign] for one receipt.
func Sign(pub ed25519.PublicKey, payload []byte, sign func(message []byte) ([]byte, error)) ([]byte, error) {
	k, err := NewKey(pub)
	if err != nil {
		return nil, err
	}
	return k.Sign(payload, sign)
}

// Verify is [Key.Verify] for one receipt.
func Verify(pub ed25519.PublicKey, envelope []byte) (*statement.Receipt, statement.ID, error) {
	k, err := NewKey(pub)
	if err != nil {
		return nil, statement.ID{}, err
	}
	return k.Verify(envelope)
}

// Overlap is how much older than the receipt before it a receipt may say it is. A
// receipt's time is when the keeper judged, and the plans were assembled with it;
// executions overlap, and receipts are numbered as they end: the one of many files
// ends after others that began later.
const Overlap = 24 * time.Hour

// Follows checks that next comes directly after previous, whose ID is id.
func Follows(previous *statement.Receipt, id statement.ID, next *statement.Receipt) error {
	switch {
	case next.Deployment != previous.Deployment:
		return fmt.Errorf("%w: of deployment %s after %s", ErrReceipt, next.Deployment, previous.Deployment)
	case next.Number != previous.Number+1:
		return fmt.Errorf("%w: number %d after %d", ErrReceipt, next.Number, previous.Number)
	case next.Previous != id:
		return fmt.Errorf("%w: number %d does not name its predecessor", ErrReceipt, next.Number)
	case next.Time.Before(previous.Time.Add(-Overlap)):
		return fmt.Errorf("%w: number %d is older than its predecessor by more than a day", ErrReceipt, next.Number)
	}
	return nil
}
