//go:build !unix

package credentials

import (
	"errors"
	"os"
)

const noFollow = 0

// private looks at the kind alone: systems that are not Unix have no owner and mode
// to go by; the operator keeps the folder.
func private(f *os.File, _ int) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	return nil
}
