package keeper

import (
	"crypto/ed25519"
	"fmt"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// signReceipt makes the envelope of a receipt. Its one signature has the form of
// an X.509 key's, and its keyid is that credential's ID.
func (k *Local) signReceipt(payload []byte) ([]byte, error) {
	data, err := credential.X509SignedData(credential.Statement, statement.PAE(payload))
	if err != nil {
		return nil, err
	}
	raw, err := k.receipts.sign(data)
	if err != nil {
		return nil, err
	}
	sig, err := credential.EncodeX509Signature(sigalg.PureEd25519, raw)
	if err != nil {
		return nil, err
	}
	e := statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(k.receiptID), Sig: sig}}}
	return e.Encode()
}

// VerifyReceipt reads a receipt's envelope and checks that the keeper with this
// key signed it. It says nothing about whether the keeper was right.
func VerifyReceipt(pub ed25519.PublicKey, envelope []byte) (*statement.Receipt, statement.ID, error) {
	var none statement.ID
	cred, err := credential.NewX509(pub)
	if err != nil {
		return nil, none, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	e, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return nil, none, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if len(e.Signatures) != 1 || e.Signatures[0].KeyID != string(cred.ID()) {
		return nil, none, fmt.Errorf("%w: want one signature, by %s", ErrReceipt, cred.ID())
	}
	if err := cred.Verify(credential.Statement, statement.PAE(e.Payload), e.Signatures[0].Sig); err != nil {
		return nil, none, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	r, err := statement.Decode[statement.Receipt](e.Payload)
	if err != nil {
		return nil, none, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return &r, e.ID(), nil
}
