package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/greatseal-io/greatseal/format/file"
)

// plainError is an error in the words of its reader.
type plainError struct {
	err  error
	text string
}

func (p *plainError) Error() string { return p.text }
func (p *plainError) Unwrap() error { return p.err }

// layers are packages that an error passes on its way to the reader, to whom they
// say nothing.
var layers = []string{"client", "config", "file", "keeper", "server", "verify"}

// plain is err without the names of packages in front, and of system calls: "file:
// open app.exe: no such file or directory" becomes "app.exe: no such file or
// directory".
func plain(err error) error {
	var done *plainError
	if err == nil || errors.As(err, &done) {
		return err
	}
	text := err.Error()
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		text = strings.Replace(text, p.Error(), p.Path+": "+p.Err.Error(), 1)
	}
	for {
		head, rest, ok := strings.Cut(text, ": ")
		if !ok || rest == "" || !slices.Contains(layers, head) {
			break
		}
		text = rest
	}
	if text == err.Error() {
		return err
	}
	return &plainError{err, text}
}

// fileHint is what to do about a file that cannot be used; "" where err is about
// none.
func fileHint(err error) string {
	var p *fs.PathError
	if !errors.As(err, &p) {
		if errors.Is(err, file.ErrNotRegular) {
			return "name a file"
		}
		return ""
	}
	switch {
	case errors.Is(p, fs.ErrNotExist):
		return noSuchFile(p.Path)
	case errors.Is(p, fs.ErrPermission):
		return "look at who may use it: ls -ld " + p.Path
	case errors.Is(p, fs.ErrExist):
		return "remove it, or choose another name"
	case errors.Is(p, syscall.ENOSPC):
		return "make room on the disk, and run it again"
	case errors.Is(p, syscall.EISDIR), errors.Is(p, syscall.ENOTDIR):
		return "name a file: " + p.Path + " is a folder, or leads through a file"
	}
	return ""
}

// maxNeighbours is how many names of a folder are looked at for one that was meant.
const maxNeighbours = 4096

// noSuchFile finds the file that was meant, or says where it was looked for.
func noSuchFile(path string) string {
	dir := filepath.Dir(path)
	d, err := os.Open(dir)
	if err != nil {
		return "there is no folder " + dir
	}
	defer d.Close()
	have, err := d.Readdirnames(maxNeighbours)
	if err == nil {
		base, like := filepath.Base(path), []string{}
		for _, h := range have {
			if n := distance(base, h); n > 0 && n < 3 && n < len(base) {
				like = append(like, h)
			}
		}
		if len(like) > 0 {
			return suggest(base, like)
		}
	}
	if at, err := filepath.Abs(dir); err == nil {
		dir = at
	}
	return "is the name right? it was looked for in " + dir
}
