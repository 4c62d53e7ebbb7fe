// Package file reads artifacts from disk and writes signed files: it is where
// package format meets the operating system.
//
// [Write] applies a patch in one of three ways.
//
//   - As a copy (the default): a temporary file ".greatseal-NAME" in the folder of
//     the result, cloned from the source where the file system can (FICLONE, so
//     that only the edits take space), edited, synchronised and renamed over the
//     result; then the folder is synchronised.
//   - A folder, as a copy of the folder beside it, synchronised, which then takes the
//     old one's place: in one step on Linux; elsewhere the old one waits aside for a
//     moment, and [Open] puts it back when the process died then. Links are kept as
//     links, modes and times of files that stay; extended attributes are not.
//   - In place (Options.InPlace), which copies nothing: the bytes about to be
//     overwritten and the bytes that replace them go into a journal
//     ".NAME.greatseal-journal" beside the file, synchronised before the first
//     edit and removed after the last one. [Recover] rolls back what was
//     interrupted; [Open] and [Write] call it.
//
// Invariants:
//
//  1. Whenever the process dies, the result is the old file or the new one: for
//     a copy at once, in place after Recover. What a dead process left is
//     removed by the next Write to the same name.
//  2. An [Artifact] gives the bytes of one moment: once the file has changed,
//     every read is [ErrChanged].
//  3. A patch is applied only to a regular file of Patch.Size that does not change
//     meanwhile. A result that is a symbolic link is refused.
//  4. Recover changes a file only where each byte is one that the journal says
//     was there before or after the edit: a file that somebody rebuilt in between
//     is left alone, with [ErrJournal]. Journals of other owners than the file's
//     and one's own are refused.
//  5. Two processes do not write the same name at the same time: the second one
//     gets [ErrBusy].
//
// Permission bits and times of the source are kept, the owner too when root
// writes; extended attributes and further hard links are kept in place only.
// A caller may not conclude that a file is signed correctly because it was
// written.
package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// What callers branch on.
var (
	ErrChanged    = errors.New("file: changed while it was in use")
	ErrNotRegular = errors.New("file: not a regular file")
	ErrSymlink    = errors.New("file: is a symbolic link: name the file that it leads to")
	ErrSize       = errors.New("file: size is not the one that the patch was made for")
	ErrBusy       = errors.New("file: another process is writing it")
	ErrJournal    = errors.New("file: journal of an interrupted signing does not fit the file")
)

// Artifact is an open file as a format.Artifact, safe for concurrent reads.
type Artifact struct {
	f     *os.File
	name  string
	print fingerprint
	tree  *folder // of a folder; f is nil then
}

// fingerprint tells whether a file is as it was.
type fingerprint struct {
	size     int64
	modified time.Time
	changed  int64 // of the inode, in nanoseconds, where the system tells
}

func printOf(fi os.FileInfo) fingerprint {
	return fingerprint{fi.Size(), fi.ModTime(), changeTime(fi)}
}

// Open opens a regular file for reading, after rolling back an interrupted
// signing of it, or a bundle as a format.Tree. Symbolic links to either are
// followed, those in a bundle are not.
func Open(path string) (*Artifact, error) {
	if err := recoverFolder(filepath.Clean(path)); err != nil {
		return nil, err
	}
	if IsBundle(path) {
		f, err := openFolder(path)
		if err != nil {
			return nil, err
		}
		return &Artifact{name: filepath.Base(filepath.Clean(path)), print: fingerprint{size: f.size}, tree: f}, nil
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		if err := Recover(real); err != nil {
			return nil, err
		}
	}
	f, err := openRead(path)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s", ErrNotRegular, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Artifact{f: f, name: filepath.Base(path), print: printOf(fi)}, nil
}

// Name is the base name under which the file was opened.
func (a *Artifact) Name() string { return a.name }

// Size is the file's size when it was opened.
func (a *Artifact) Size() int64 { return a.print.size }

// ReadAt reads as io.ReaderAt says. Once the file has changed, it is ErrChanged.
func (a *Artifact) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= a.print.size {
		if off < 0 {
			return 0, errors.New("file: read before the beginning")
		}
		return 0, io.EOF
	}
	short := int64(len(p)) > a.print.size-off
	if short {
		p = p[:a.print.size-off]
	}
	if a.tree != nil {
		n, err := a.tree.readAt(p, off)
		if err == nil && short {
			err = io.EOF
		}
		return n, err
	}
	n, err := a.f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		return n, fmt.Errorf("%w: %s", ErrChanged, a.name)
	}
	if err != nil {
		return n, fmt.Errorf("file: %w", err)
	}
	if err := a.Unchanged(); err != nil {
		return 0, err
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// Unchanged is ErrChanged when the file's size or times are no longer those of
// when it was opened.
func (a *Artifact) Unchanged() error {
	if a.tree != nil {
		return a.tree.unchanged()
	}
	fi, err := a.f.Stat()
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if printOf(fi) != a.print {
		return fmt.Errorf("%w: %s", ErrChanged, a.name)
	}
	return nil
}

// Close closes the file.
func (a *Artifact) Close() error {
	if a.tree != nil {
		return a.tree.close()
	}
	return a.f.Close()
}
