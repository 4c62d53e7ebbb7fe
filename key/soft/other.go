//go:build !unix

package soft

import (
	"errors"
	"io/fs"
	"os"
)

// Without owners and modes invariant 5 cannot be kept, so no file is opened.
var errPlatform = errors.New("soft: key files need a Unix system")

func openNoFollow(string, int) (*os.File, error) { return nil, errPlatform }

func flock(*os.File) error { return errPlatform }

func unlock(*os.File) error { return errPlatform }

func owned(fs.FileInfo) bool { return false }
