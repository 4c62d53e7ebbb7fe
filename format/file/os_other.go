//go:build !linux

package file

import (
	"errors"
	"os"
	"time"
)

// clone is Linux's.
func clone(t, src *os.File) error { return errors.ErrUnsupported }

// changeTime has a different place in every system; size and modification time
// tell changes where it is 0.
func changeTime(os.FileInfo) int64 { return 0 }

// setModified goes by the name: futimes, where there is one, knows microseconds
// only, and a file set back must have the time that it had. Who can put another
// file there in between can set that one's time, and nothing else.
func setModified(f *os.File, t time.Time) error { return os.Chtimes(f.Name(), time.Time{}, t) }

func exchange(temp, out string) error { return exchangeByRenames(temp, out) }
