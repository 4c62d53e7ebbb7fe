//go:build !unix

package ledger

import (
	"errors"
	"os"
)

const noFollow = 0

// lock fails closed: without a lock two keepers could number the same receipt.
func lock(*os.File) error { return errors.New("ledger: this system has no lock for files") }
