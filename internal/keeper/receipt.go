package keeper

import (
	"fmt"

	"github.com/greatseal-io/greatseal/statement"
)

// signReceipt makes the envelope of a receipt, and checks it as its readers will: a
// signature made by a fault would give the key away. Whoever shares the cache need
// not check it again.
func (k *Local) signReceipt(payload []byte) ([]byte, error) {
	b, err := k.receiptKey.Sign(payload, k.receipts.unchecked)
	if err != nil {
		return nil, err
	}
	if _, _, err := k.cache.Receipt(k.receiptKey, b); err != nil {
		return nil, fmt.Errorf("%w: own key made a receipt that does not verify: %w", ErrUnavailable, err)
	}
	return b, nil
}

// ownReceipt reads a receipt and checks that this keeper signed it.
func (k *Local) ownReceipt(envelope []byte) (*statement.Receipt, statement.ID, error) {
	r, id, err := k.receiptKey.Verify(envelope)
	if err != nil {
		return nil, id, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return r, id, nil
}
