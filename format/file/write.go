package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/greatseal-io/greatseal/format"
)

// Options say how a patch is applied.
type Options struct {
	InPlace bool        // edit the file itself, under a journal
	Mode    fs.FileMode // permission bits of the result; 0: those of the source, 0644 less umask for a sidecar

	step func(string) // tests stop the process here
}

func (o *Options) at(step string) {
	if o.step != nil {
		o.step(step)
	}
}

// Write applies p to the file at path. The result is out, or path itself where
// out is empty; a sidecar goes to out, or to path with its suffix. An error
// leaves the result as it was, except that of synchronising the folder, which
// comes after the rename.
//
// In place, out is empty or path. Edits that move what follows them rewrite the
// rest of the file, which must fit the journal: at most 64 MiB.
func Write(path, out string, p *format.Patch, o Options) error {
	if err := p.Check(); err != nil {
		return err
	}
	if out == "" {
		out = path
		if p.Sidecar != nil {
			out += p.Sidecar.Suffix
		}
	}
	if p.Sidecar == nil && IsBundle(path) {
		return writeFolder(path, out, p, &o)
	}
	if o.InPlace && p.Sidecar != nil {
		return errors.New("file: a sidecar is not written in place")
	}
	if o.InPlace && filepath.Clean(out) != filepath.Clean(path) {
		return errors.New("file: in place, the result has the name of the source")
	}
	if err := checkTarget(out); err != nil {
		return err
	}
	if err := errors.Join(Recover(out), sweep(out)); err != nil {
		return err
	}
	if o.InPlace {
		return writeInPlace(path, p, &o)
	}
	src, err := Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	if src.Size() != p.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrSize, path, src.Size(), p.Size)
	}
	if p.Sidecar != nil {
		mode := o.Mode
		return replace(out, 0o644, &o, func(t *os.File) error {
			if _, err := t.Write(p.Sidecar.Data); err != nil {
				return err
			}
			if mode == 0 {
				return nil // as created: 0644 less umask
			}
			return t.Chmod(mode)
		}, src.Unchanged)
	}
	return replace(out, 0o600, &o, func(t *os.File) error {
		if err := fill(t, src, p, &o); err != nil {
			return err
		}
		fi, err := src.f.Stat()
		if err != nil {
			return err
		}
		return inherit(t, fi, o.Mode)
	}, func() error {
		if err := src.Unchanged(); err != nil {
			return err
		}
		return samePath(path, src.f)
	})
}

// checkTarget refuses a result that exists and is no regular file.
func checkTarget(out string) error {
	fi, err := os.Lstat(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("file: %w", err)
	case fi.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: %s", ErrSymlink, out)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%w: %s", ErrNotRegular, out)
	}
	return nil
}

// samePath is ErrChanged when path no longer leads to f.
func samePath(path string, f *os.File) error {
	now, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	was, err := f.Stat()
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if !os.SameFile(now, was) {
		return fmt.Errorf("%w: %s was replaced", ErrChanged, path)
	}
	return nil
}

// inherit gives t the source's permission bits (or mode), owner and times.
// Set-user-ID and set-group-ID stay only when the owner does.
func inherit(t *os.File, src os.FileInfo, mode fs.FileMode) error {
	kept, err := chown(t, src)
	if err != nil {
		return err
	}
	if mode == 0 {
		mode = src.Mode() & (fs.ModePerm | fs.ModeSticky)
		if kept {
			mode |= src.Mode() & (fs.ModeSetuid | fs.ModeSetgid)
		}
	}
	if err := t.Chmod(mode); err != nil {
		return err
	}
	return setModified(t, src.ModTime())
}

// fill makes t the patched copy of src.
func fill(t *os.File, src *Artifact, p *format.Patch, o *Options) error {
	cloned := clone(t, src.f) == nil
	o.at("clone")
	from, to := int64(0), int64(0) // how far src is used and t is right
	keep := func(until int64) error {
		n := until - from
		if n > 0 && !(cloned && from == to) {
			if err := copyRange(t, to, src.f, from, n); err != nil {
				return err
			}
		}
		from, to = from+n, to+n
		return nil
	}
	for _, e := range p.Edits {
		if err := keep(e.Offset); err != nil {
			return err
		}
		o.at("copy")
		if _, err := t.WriteAt(e.Insert, to); err != nil {
			return err
		}
		o.at("edit")
		from, to = from+e.Delete, to+int64(len(e.Insert))
	}
	if err := keep(p.Size); err != nil {
		return err
	}
	return t.Truncate(to)
}

// copyRange copies n bytes inside the kernel where that can be.
func copyRange(t *os.File, to int64, src *os.File, from, n int64) error {
	if _, err := src.Seek(from, io.SeekStart); err != nil {
		return err
	}
	if _, err := t.Seek(to, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(t, src, n)
	if errors.Is(err, io.EOF) {
		return ErrChanged
	}
	return err
}

// replace writes a new file with write, asks check whether it may take the place
// of out, and renames it. perm is the mode that it is created with.
func replace(out string, perm fs.FileMode, o *Options, write func(*os.File) error, check func() error) error {
	t, err := createTemp(out, perm)
	if err != nil {
		return err
	}
	o.at("temp")
	done := false
	defer func() {
		if !done {
			remove(t, t.Name())
		}
	}()
	if err := write(t); err != nil {
		return fmt.Errorf("file: writing %s: %w", out, err)
	}
	o.at("written")
	if err := t.Sync(); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	o.at("synced")
	if err := errors.Join(check(), checkTarget(out)); err != nil {
		return err
	}
	if err := commit(t, out); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	done = true
	o.at("renamed")
	if err := syncFolder(filepath.Dir(out)); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	o.at("folder synced")
	return nil
}

// WriteFile writes data to out atomically: afterwards out holds data, on the
// disk, or what it held before.
func WriteFile(out string, data []byte, perm fs.FileMode) error {
	return replace(out, perm, &Options{}, func(t *os.File) error {
		_, err := t.Write(data)
		return err
	}, func() error { return nil })
}
