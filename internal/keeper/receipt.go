package keeper

import (
	"fmt"

	"github.com/greatseal-io/greatseal/statement"
)

// signReceipt makes the envelope of a receipt.
func (k *Local) signReceipt(payload []byte) ([]byte, error) {
	return k.receiptKey.Sign(payload, k.receipts.sign)
}

// ownReceipt reads a receipt and checks that this keeper signed it.
func (k *Local) ownReceipt(envelope []byte) (*statement.Receipt, statement.ID, error) {
	r, id, err := k.receiptKey.Verify(envelope)
	if err != nil {
		return nil, id, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return r, id, nil
}
