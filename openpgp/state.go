package openpgp

import (
	"crypto"
	"fmt"
	"hash"

	"github.com/greatseal-io/greatseal/hashstate"
)

// State is a hash in the middle of its input: what it has read is digested, and
// more can follow.
type State = hashstate.State

// StateOf is the state of x, a hash of kind h, of those that signatures may have.
func StateOf(h crypto.Hash, x hash.Hash) (*State, error) {
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
		return hashstate.Of(h, x)
	}
	return nil, fmt.Errorf("openpgp: hash %v: %w", h, ErrUnsupported)
}
