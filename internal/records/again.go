package records

import (
	"bytes"

	"github.com/greatseal-io/greatseal/record"
)

// again reports whether somebody signs what was signed already: the newest revision
// says the same as st but for its number. It is then the same revision, by another
// signer or at another time: a higher one would take the other signers' signatures out
// of force, and a record that two have signed would not outlive the revocation of the
// second.
func again(st *record.Statement, revision uint64, before []record.Signature) bool {
	if revision == 0 {
		return false
	}
	same := *st
	same.Revision = revision
	enc, err := same.Encode()
	if err != nil {
		return false
	}
	for i := range before {
		if bytes.Equal(before[i].Statement, enc) {
			return true
		}
	}
	return false
}
