//go:build !unix

package bench

import (
	"errors"
	"time"
)

// processTime is not to be had here in the same measure.
func processTime() (time.Duration, error) {
	return 0, errors.New("bench: processor time is measured on Unix systems only")
}
