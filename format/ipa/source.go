package ipa

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// source is an application in a folder or in an archive: its entries, by their paths
// in the application.
type source struct {
	a       format.Artifact
	entries []format.TreeEntry
	byPath  map[string]int
	head    []byte   // SHA-256 of what says which files there are, and how large
	root    string   // where the application stands in the archive, with a slash; or ""
	beside  []string // what stands beside it
	small   int64    // bytes of small files that were read

	tree *format.Tree
	zip  *zipfile.Archive
	at   []int // in the archive, -1 for folders that have no entry
}

// open finds the application and reads no content but links.
func open(a format.Artifact) (*source, error) {
	s := &source{a: a, byPath: map[string]int{}}
	var err error
	switch {
	case format.IsTree(a):
		err = s.openTree()
	case zipfile.Detect(a):
		err = s.openArchive()
	default:
		err = ErrNotApplication
	}
	if err != nil {
		return nil, err
	}
	for i, e := range s.entries {
		s.byPath[e.Path] = i
	}
	if i, ok := s.byPath["Info.plist"]; !ok || !s.entries[i].File() {
		return nil, fmt.Errorf("%w: no Info.plist beside its resources", ErrNotApplication)
	}
	return s, nil
}

func (s *source) openTree() error {
	t, err := format.ReadTree(s.a)
	if err != nil {
		return err
	}
	b := make([]byte, t.Head())
	if err := format.ReadFull(s.a, b, 0); err != nil {
		return fmt.Errorf("ipa: %w", err)
	}
	s.tree, s.entries, s.head = t, t.Entries, digest(b)
	return nil
}

// neighbours are the folders that stand beside Payload, and files that stores put there. No
// signature covers them, and systems do not run what is in them.
var neighbours = []string{
	"META-INF", "SwiftSupport", "WatchKitSupport", "WatchKitSupport2", "MessagesApplicationExtensionSupport", "MessagesApplicationSupport",
	"BCSymbolMaps", "Symbols", "iTunesArtwork", "iTunesArtwork@2x", "iTunesMetadata.plist",
}

func (s *source) openArchive() error {
	z, err := zipfile.Open(s.a, zipfile.Options{})
	if err != nil {
		return err
	}
	s.zip = z
	where := map[string]int{}
	all := map[string]format.TreeEntry{}
	beside := map[string]bool{}
	for i := range z.Entries {
		e := &z.Entries[i]
		first, rest, _ := strings.Cut(e.Name, "/")
		if first != "Payload" {
			if !slices.Contains(neighbours, first) {
				return fmt.Errorf("%w: %.80q beside Payload", ErrNotApplication, e.Name)
			}
			beside[first] = true
			continue
		}
		if rest == "" && e.Dir() {
			continue
		}
		app, p, inside := strings.Cut(rest, "/")
		if root := "Payload/" + app + "/"; !inside || !strings.HasSuffix(app, ".app") || s.root != "" && s.root != root {
			return fmt.Errorf("%w: %.80q: one application is wanted in Payload", ErrNotApplication, e.Name)
		} else {
			s.root = root
		}
		if p = strings.TrimSuffix(p, "/"); p == "" {
			continue
		}
		t, err := s.archived(i, p)
		if err != nil {
			return err
		}
		all[p], where[p] = t, i
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			if _, ok := all[d]; ok {
				break
			}
			all[d] = format.TreeEntry{Path: d, Folder: true}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(all)) {
		i, ok := where[p]
		if !ok {
			i = -1
		}
		s.entries, s.at = append(s.entries, all[p]), append(s.at, i)
	}
	s.beside = slices.Sorted(maps.Keys(beside))
	// What holds for folders, names that differ in case alone and such, holds here.
	if _, err := format.EncodeTree(s.entries); err != nil {
		return err
	}
	tail, err := z.Tail()
	if err != nil {
		return fmt.Errorf("ipa: %w", err)
	}
	h := sha256.New()
	h.Write([]byte(z.RawDirectory()))
	h.Write(tail)
	s.head = h.Sum(nil)
	return nil
}

// Kinds of files in the attributes of systems like Unix.
const (
	modeKind   = 0o170000
	modeFile   = 0o100000
	modeFolder = 0o040000
	modeLink   = 0o120000
	maxLink    = 1024
)

// archived is entry i of the archive as one of the application.
func (s *source) archived(i int, p string) (format.TreeEntry, error) {
	e := &s.zip.Entries[i]
	r := s.zip.RawRecord(i)
	host, mode := r[5], int(r[40])|int(r[41])<<8
	out := format.TreeEntry{Path: p, Size: e.Size}
	switch kind := mode & modeKind; {
	case e.Dir() && (kind == 0 || kind == modeFolder):
		out.Folder, out.Size = true, 0
	case !e.Dir() && (kind == 0 || kind == modeFile):
		out.Executable = mode&0o100 != 0
	case !e.Dir() && kind == modeLink && (host == 3 || host == 19):
		b, err := s.zip.Content(i, maxLink)
		if err != nil {
			return out, err
		}
		out.Link, out.Size = string(b), 0
		if out.Link == "" {
			return out, malformed("%q is a link to nowhere", e.Name)
		}
	default:
		return out, malformed("%q is neither a file, a folder nor a link", e.Name)
	}
	return out, nil
}

// lookup finds a file, -1 when there is none.
func (s *source) lookup(p string) int {
	if i, ok := s.byPath[p]; ok && s.entries[i].File() {
		return i
	}
	return -1
}

// read gives the content of a file.
func (s *source) read(i int, limit int64) ([]byte, error) {
	e := &s.entries[i]
	if e.Size > limit {
		return nil, malformed("%q has %d bytes: at most %d", e.Path, e.Size, limit)
	}
	if s.zip != nil {
		return s.zip.Content(s.at[i], limit)
	}
	b := make([]byte, e.Size)
	if err := format.ReadFull(s.tree.Open(i), b, 0); err != nil {
		return nil, fmt.Errorf("ipa: %w", err)
	}
	return b, nil
}

// readSmall is read for property lists and profiles, which are kept.
func (s *source) readSmall(i int, limit int64) ([]byte, error) {
	if s.small += s.entries[i].Size; s.small > maxSmall {
		return nil, malformed("lists and profiles of more than %d bytes", maxSmall)
	}
	return s.read(i, limit)
}

// scan reads all files once, in the order in which they stand. to says where the
// content of an entry goes; it is called by several goroutines for an archive.
func (s *source) scan(ctx context.Context, to func(i int) io.WriteCloser) error {
	if s.zip != nil {
		entry := map[int]int{}
		for i, at := range s.at {
			if at >= 0 && s.entries[i].File() {
				entry[at] = i
			}
		}
		return s.zip.Scan(ctx, zipfile.Scan{Content: func(_, at int) (io.WriteCloser, error) {
			if i, ok := entry[at]; ok {
				return to(i), nil
			}
			return nowhere{}, nil // read, so that what is broken is found
		}})
	}
	for i := range s.entries {
		e := &s.entries[i]
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("ipa: %w", err)
		}
		if !e.File() {
			continue
		}
		w := to(i)
		n, err := io.Copy(w, io.NewSectionReader(s.tree.Open(i), 0, e.Size))
		switch {
		case err != nil:
			return fmt.Errorf("ipa: %q: %w", e.Path, err)
		case n != e.Size:
			return fmt.Errorf("ipa: %q: %w", e.Path, format.ErrShort)
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return nil
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }
