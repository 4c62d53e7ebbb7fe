package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/format"
)

// ErrExists is returned instead of replacing a folder by another one.
var ErrExists = errors.New("file: exists already: a folder is replaced only by itself")

// IsBundle says whether path is a folder that is one artifact: an application, a
// framework or the like of Apple's systems, by the Info.plist in it.
func IsBundle(path string) bool {
	fi, err := os.Stat(path)
	if err != nil || !fi.IsDir() {
		return false
	}
	for _, p := range []string{"Contents/Info.plist", "Versions/Current/Resources/Info.plist"} {
		if fi, err := os.Stat(filepath.Join(path, filepath.FromSlash(p))); err == nil && fi.Mode().IsRegular() {
			return true
		}
	}
	// Those of iOS are shallow: any folder may have an Info.plist, so the name decides too.
	switch filepath.Ext(filepath.Clean(path)) {
	case ".app", ".appex", ".framework":
		fi, err := os.Stat(filepath.Join(path, "Info.plist"))
		return err == nil && fi.Mode().IsRegular()
	}
	return false
}

// folder is an open folder, as the bytes of a format.Tree. It holds one file open.
type folder struct {
	path  string
	root  *os.Root
	head  []byte // magic and list
	files []folderFile
	size  int64

	mu   sync.Mutex // guards what follows
	open *os.File
	at   int // index of open in files
}

type folderFile struct {
	path  string
	at    int64 // where its content begins in the tree
	print fingerprint
}

// openFolder lists a folder. Links are listed, never followed; devices, sockets
// and the like are refused.
func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	f := &folder{path: dir, root: root, at: -1}
	if err := f.list(); err != nil {
		root.Close()
		return nil, err
	}
	return f, nil
}

func (f *folder) list() error {
	var entries []format.TreeEntry
	prints := map[string]fingerprint{}
	err := fs.WalkDir(f.root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		if len(entries) == format.MaxTreeEntries {
			return fmt.Errorf("file: more than %d entries in %s", format.MaxTreeEntries, f.path)
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		e := format.TreeEntry{Path: p}
		switch m := fi.Mode(); {
		case m.IsDir():
			e.Folder = true
		case m&fs.ModeSymlink != 0:
			if e.Link, err = f.root.Readlink(filepath.FromSlash(p)); err != nil {
				return err
			}
			e.Link = filepath.ToSlash(e.Link)
		case m.IsRegular():
			e.Size, e.Executable = fi.Size(), m&0o100 != 0
			prints[p] = printOf(fi)
		default:
			return fmt.Errorf("%w: %s", ErrNotRegular, p)
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	slices.SortFunc(entries, func(a, b format.TreeEntry) int { return strings.Compare(a.Path, b.Path) })
	if f.head, err = format.EncodeTree(entries); err != nil {
		return err
	}
	f.size = int64(len(f.head))
	for _, e := range entries {
		if e.File() {
			f.files = append(f.files, folderFile{e.Path, f.size, prints[e.Path]})
			f.size += e.Size
		}
	}
	return nil
}

func (f *folder) readAt(b []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(f.head)) {
		n = copy(b, f.head[off:])
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(b) {
		at := off + int64(n)
		i := sort.Search(len(f.files), func(i int) bool { return f.files[i].at+f.files[i].print.size > at })
		if i == len(f.files) {
			return n, io.EOF
		}
		m := int(min(int64(len(b)-n), f.files[i].at+f.files[i].print.size-at))
		if err := f.readFile(i, b[n:n+m], at-f.files[i].at); err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// readFile reads from file i, which must be as it was.
func (f *folder) readFile(i int, b []byte, off int64) error {
	one := &f.files[i]
	changed := fmt.Errorf("%w: %s", ErrChanged, filepath.Join(f.path, one.path))
	if f.at != i {
		next, err := f.root.OpenFile(filepath.FromSlash(one.path), os.O_RDONLY|noBlock, 0)
		if err != nil {
			return fmt.Errorf("file: %w", err)
		}
		if f.open != nil {
			f.open.Close()
		}
		f.open, f.at = next, i
	}
	if _, err := f.open.ReadAt(b, off); err != nil {
		if errors.Is(err, io.EOF) {
			return changed
		}
		return fmt.Errorf("file: %w", err)
	}
	fi, err := f.open.Stat()
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if printOf(fi) != one.print {
		return changed
	}
	return nil
}

// unchanged lists the folder again and compares.
func (f *folder) unchanged() error {
	now, err := openFolder(f.path)
	if err != nil {
		return err
	}
	defer now.close()
	same := func(a, b folderFile) bool { return a == b }
	if string(now.head) != string(f.head) || !slices.EqualFunc(now.files, f.files, same) {
		return fmt.Errorf("%w: %s", ErrChanged, f.path)
	}
	return nil
}

func (f *folder) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open != nil {
		f.open.Close()
	}
	return f.root.Close()
}

// asideName is where the old folder waits for a moment where a system cannot
// exchange two names.
func asideName(out string) string { return tempName(out) + "-old" }

// recoverFolder puts a folder back that waits aside.
func recoverFolder(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if fi, err := os.Lstat(asideName(path)); err != nil || !fi.IsDir() {
		return nil
	}
	if err := os.Rename(asideName(path), path); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	return nil
}

// writeFolder writes the patched folder beside the result, synchronises it, and
// gives it the result's name in one step.
func writeFolder(from, out string, p *format.Patch, o *Options) (err error) {
	if o.InPlace {
		return errors.New("file: a folder is not edited in place: it is written anew, and takes the place of the old one")
	}
	src, err := Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	if src.Size() != p.Size {
		return fmt.Errorf("%w: %s has %d bytes as a tree, want %d", ErrSize, from, src.Size(), p.Size)
	}
	self := filepath.Clean(from) == filepath.Clean(out)
	if _, err := os.Lstat(out); err == nil && !self {
		return fmt.Errorf("%w: %s", ErrExists, out)
	}
	if fi, err := os.Lstat(from); err != nil || fi.Mode()&fs.ModeSymlink != 0 && self {
		return fmt.Errorf("%w: %s", ErrSymlink, from)
	}
	view, err := format.Patched(src, p)
	if err != nil {
		return err
	}
	tree, err := format.ReadTree(view)
	if err != nil {
		return err
	}
	lock, err := createTemp(out, 0o600) // says that somebody writes this name
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(lock, lock.Name())) }()
	temp := tempName(out) + "-tree"
	if err := os.RemoveAll(temp); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := writeTree(temp, tree, src.tree, o); err != nil {
		return fmt.Errorf("file: writing %s: %w", out, err)
	}
	o.at("tree written")
	if err := src.Unchanged(); err != nil {
		return err
	}
	if self {
		err = exchange(temp, out)
	} else {
		err = os.Rename(temp, out)
	}
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	o.at("renamed")
	if err := syncFolder(filepath.Dir(out)); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	return nil
}

// exchangeByRenames is exchange where names cannot be exchanged at once: dying in
// between leaves the old folder aside, where the next Open finds it.
func exchangeByRenames(temp, out string) error {
	aside := asideName(out)
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Rename(out, aside); err != nil {
		return err
	}
	if err := os.Rename(temp, out); err != nil {
		return errors.Join(err, os.Rename(aside, out))
	}
	return os.RemoveAll(aside)
}

// writeTree makes a folder of a tree. Modes and times are those of the old files of
// the same paths; new ones are 0644 or 0755.
func writeTree(dir string, t *format.Tree, old *folder, o *Options) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	folders := []string{"."}
	for i := range t.Entries {
		e := &t.Entries[i]
		name := filepath.FromSlash(e.Path)
		was, statErr := old.root.Lstat(name)
		switch {
		case e.Folder:
			mode := fs.FileMode(0o755)
			if statErr == nil && was.IsDir() {
				mode = was.Mode().Perm() | 0o700
			}
			if err := root.Mkdir(name, mode); err != nil {
				return err
			}
			folders = append(folders, e.Path)
			continue
		case e.Link != "":
			if err := root.Symlink(filepath.FromSlash(e.Link), name); err != nil {
				return err
			}
			continue
		}
		mode, modified := fs.FileMode(0o644), time.Time{}
		if e.Executable {
			mode = 0o755
		}
		if statErr == nil && was.Mode().IsRegular() && (was.Mode()&0o100 != 0) == e.Executable {
			mode, modified = was.Mode().Perm(), was.ModTime()
		}
		if err := writeEntry(root, name, t.Open(i), mode, modified); err != nil {
			return err
		}
		o.at("entry")
	}
	for _, f := range slices.Backward(folders) {
		if err := syncFolder(filepath.Join(dir, filepath.FromSlash(path.Clean(f)))); err != nil {
			return err
		}
	}
	return nil
}

func writeEntry(root *os.Root, name string, a format.Artifact, mode fs.FileMode, modified time.Time) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.NewSectionReader(a, 0, a.Size()))
	if err == nil && n != a.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Chtimes(name, time.Time{}, modified)
}
