package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// CreateFile creates the ledger at path, which must not exist, durably: after a
// crash there is a whole empty ledger or none.
func CreateFile(path string, rand io.Reader) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return fmt.Errorf("ledger: %s: %w", path, err)
	}
	dir := filepath.Dir(path)
	t, err := os.CreateTemp(dir, ".ledger-*") // mode 0600
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer os.Remove(t.Name())
	err = Create(osFile{t}, rand)
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(t.Name(), path) // unlike rename, never replaces
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// OpenFile opens the ledger at path and locks it against other processes. A
// symbolic link, and a file that others may write, is refused.
func OpenFile(path string, o Options) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l, err := openFile(f, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

func openFile(f *os.File, o Options) (*Ledger, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("ledger: %s: mode %v: want a regular file that nobody else can write", f.Name(), fi.Mode())
	}
	if err := lock(f); err != nil {
		return nil, fmt.Errorf("%w: %s", err, f.Name())
	}
	return Open(osFile{f}, o)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("ledger: %s: %w", dir, err)
	}
	return nil
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
