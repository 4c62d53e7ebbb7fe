// Package statefile keeps the state of a circle (package circle) in one file.
//
// The file is the line "greatseal circle state v1 SHA256 LF" and the state's
// encoding, whose digest the line names. It is replaced atomically: written beside
// itself, synchronised, renamed, and the directory synchronised.
//
// Invariants:
//
//  1. After a kill or a loss of power the file holds what the last Save that
//     returned wrote, or what the one that did not return was to write.
//  2. A file that is damaged, cut off, empty or too large is an error, and never
//     taken for the state of the first day.
//  3. One process has the file at a time.
//
// The digest finds damage. Against somebody who writes the file on purpose there
// is package circle, which judges all of it again.
package statefile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/greatseal-io/greatseal/circle"
)

const magic = "greatseal circle state v1 "

const headSize = len(magic) + 2*sha256.Size + 1

// What callers branch on.
var (
	ErrDamaged = errors.New("statefile: is damaged")
	ErrLocked  = errors.New("statefile: another process has it")
)

// File is a circle.Store in one file. It is safe for concurrent use only in that
// Saves do not mix: a Circle saves one at a time.
type File struct {
	path string
	lock *os.File
}

// Open takes the file at path, which need not exist yet, until Close. Its
// directory must exist. PATH.lock beside it stays.
func Open(path string) (*File, error) {
	l, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	if err != nil {
		return nil, fmt.Errorf("statefile: %w", err)
	}
	if err := lock(l); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	f := &File{path: path, lock: l}
	// What a process that was killed left half written.
	if err := os.Remove(f.temporary()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("statefile: %w", err), f.Close())
	}
	return f, nil
}

// Close gives the file back.
func (f *File) Close() error { return errors.Join(unlock(f.lock), f.lock.Close()) }

func (f *File) temporary() string { return f.path + ".new" }

// Load reads the state.
func (f *File) Load(ctx context.Context) (*circle.State, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := os.OpenFile(f.path, os.O_RDONLY|noFollow, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, circle.ErrNoState
	}
	if err != nil {
		return nil, fmt.Errorf("statefile: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, int64(headSize+circle.MaxState)+1))
	if err != nil {
		return nil, fmt.Errorf("statefile: %w", err)
	}
	if len(b) < headSize || len(b) > headSize+circle.MaxState {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, f.path, len(b))
	}
	state := b[headSize:]
	if !bytes.Equal(b[:headSize], head(state)) {
		return nil, fmt.Errorf("%w: %s: its digest is another", ErrDamaged, f.path)
	}
	s, err := circle.DecodeState(state)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, f.path, err)
	}
	return s, nil
}

func head(state []byte) []byte {
	sum := sha256.Sum256(state)
	return []byte(magic + hex.EncodeToString(sum[:]) + "\n")
}

// Save replaces the state.
func (f *File) Save(ctx context.Context, s *circle.State) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := s.Encode()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("statefile: %w", err)
		}
	}()
	w, err := os.OpenFile(f.temporary(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|noFollow, 0o600)
	if err != nil {
		return err
	}
	_, err1 := w.Write(append(head(b), b...))
	if err := errors.Join(err1, w.Sync(), w.Close()); err != nil {
		return errors.Join(err, os.Remove(f.temporary()))
	}
	if err := os.Rename(f.temporary(), f.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}
