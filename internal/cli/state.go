package cli

import (
	"os"
	"path/filepath"
	"runtime"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/greatseal-io/greatseal/format/file"
)

// stateDir is where this program keeps what it must remember.
func stateDir() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "greatseal"), nil
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		d, err := os.UserConfigDir()
		return filepath.Join(d, "greatseal"), err
	}
	d, err := os.UserHomeDir()
	return filepath.Join(d, ".local", "state", "greatseal"), err
}

// lockKept waits until no other command changes what this program keeps in the folder of
// path, and keeps them from it until unlock.
func lockKept(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return lockedfile.MutexAt(filepath.Join(filepath.Dir(path), ".lock")).Lock()
}

// keep replaces what this program keeps at path. Of commands that do so together each
// one succeeds, one after the other.
func keep(path string, data []byte) error {
	unlock, err := lockKept(path)
	if err != nil {
		return err
	}
	defer unlock()
	return file.WriteFile(path, data, 0o600)
}
