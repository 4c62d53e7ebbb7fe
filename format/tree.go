package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// A tree is a folder as one artifact, so that everything that handles files
// handles it: planned, uploaded, edited and verified it is the bytes
//
//	"greatseal tree 1\n" | length of the list, 8 bytes big-endian | list | contents
//
// The list is deterministic CBOR of the entries in the order of their paths, byte
// by byte, the folder itself left out; the contents of the files follow in the
// same order. Package file opens folders as that, and writes them.

// Limits of a tree.
const (
	MaxTreeEntries = 1 << 16
	maxTreeList    = 16 << 20
	maxTreePath    = 1024
	maxTreeDepth   = 32
)

const treeMagic = "greatseal tree 1\n"

// ErrTree is wrapped by errors about trees that are malformed, or that no folder
// on every system could be.
var ErrTree = errors.New("format: tree")

// TreeEntry is a file, a folder or a symbolic link in a tree.
type TreeEntry struct {
	Path       string `cbor:"1,keyasint"` // "a/b", relative, clean
	Folder     bool   `cbor:"2,keyasint"`
	Executable bool   `cbor:"3,keyasint"` // by its owner; other bits of the mode are not known
	Link       string `cbor:"4,keyasint"` // where a symbolic link leads, or ""
	Size       int64  `cbor:"5,keyasint"` // of a file, in bytes
}

// File says whether the entry has content.
func (e *TreeEntry) File() bool { return !e.Folder && e.Link == "" }

// Tree is an artifact that is a folder.
type Tree struct {
	Entries []TreeEntry
	a       Artifact
	at      []int64 // where the contents stand in a
	byPath  map[string]int
}

// IsTree says whether a begins as a tree does.
func IsTree(a Artifact) bool {
	b := make([]byte, len(treeMagic))
	return ReadFull(a, b, 0) == nil && string(b) == treeMagic
}

// EncodeTree gives what stands before the contents.
func EncodeTree(entries []TreeEntry) ([]byte, error) {
	if _, err := checkTree(entries); err != nil {
		return nil, err
	}
	list, err := Encode(entries)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTree, err)
	}
	if len(list) > maxTreeList {
		return nil, fmt.Errorf("%w: list of %d bytes", ErrTree, len(list))
	}
	b := binary.BigEndian.AppendUint64([]byte(treeMagic), uint64(len(list)))
	return append(b, list...), nil
}

// ReadTree reads the list of a tree.
func ReadTree(a Artifact) (*Tree, error) {
	head := make([]byte, len(treeMagic)+8)
	if err := ReadFull(a, head, 0); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(head[len(treeMagic):])
	if string(head[:len(treeMagic)]) != treeMagic || n > maxTreeList || int64(n) > a.Size() {
		return nil, fmt.Errorf("%w: not one, or its list is too long", ErrTree)
	}
	list := make([]byte, n)
	if err := ReadFull(a, list, int64(len(head))); err != nil {
		return nil, err
	}
	t := &Tree{a: a}
	if err := Decode(list, &t.Entries); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTree, err)
	}
	var err error
	if t.byPath, err = checkTree(t.Entries); err != nil {
		return nil, err
	}
	at := int64(len(head)) + int64(n)
	for i := range t.Entries {
		t.at = append(t.at, at)
		if at += t.Entries[i].Size; at > a.Size() {
			return nil, fmt.Errorf("%w: cut off", ErrTree)
		}
	}
	if at != a.Size() {
		return nil, fmt.Errorf("%w: %d bytes after the last file", ErrTree, a.Size()-at)
	}
	return t, nil
}

// Head is how many bytes stand before the contents.
func (t *Tree) Head() int64 {
	if len(t.at) == 0 {
		return t.a.Size()
	}
	return t.at[0]
}

// Lookup finds an entry; its index is -1 when there is none.
func (t *Tree) Lookup(path string) int {
	if i, ok := t.byPath[path]; ok {
		return i
	}
	return -1
}

// Offset is where the content of entry i begins in the tree.
func (t *Tree) Offset(i int) int64 { return t.at[i] }

// Open gives the content of entry i, a file.
func (t *Tree) Open(i int) Artifact {
	e := &t.Entries[i]
	return &section{io.NewSectionReader(t.a, t.at[i], e.Size), path.Base(e.Path)}
}

type section struct {
	*io.SectionReader
	name string
}

func (s *section) Name() string { return s.name }

// checkTree refuses entries that are out of order, that lead out of the folder, or
// that some system would take for one another.
func checkTree(entries []TreeEntry) (map[string]int, error) {
	bad := func(e *TreeEntry, why string) (map[string]int, error) {
		return nil, fmt.Errorf("%w: %.200q: %s", ErrTree, e.Path, why)
	}
	if len(entries) > MaxTreeEntries {
		return nil, fmt.Errorf("%w: %d entries: at most %d", ErrTree, len(entries), MaxTreeEntries)
	}
	byPath := make(map[string]int, len(entries))
	folded := make(map[string]bool, len(entries))
	for i := range entries {
		e := &entries[i]
		parts := strings.Split(e.Path, "/")
		switch {
		case len(e.Path) > maxTreePath || len(parts) > maxTreeDepth || !utf8.ValidString(e.Path) || !oneLine(e.Path, false):
			return bad(e, "path too long, too deep or not one line of UTF-8")
		case slices.ContainsFunc(parts, func(p string) bool { return p == "" || p == "." || p == ".." || strings.ContainsAny(p, `\:`) }):
			return bad(e, "path with an empty part, a part of dots or a character of other systems' paths")
		case i > 0 && entries[i-1].Path >= e.Path:
			return bad(e, "out of order or twice")
		case folded[strings.ToLower(e.Path)]:
			return bad(e, "differs from another one in case alone")
		case e.Size < 0 || !e.File() && (e.Size != 0 || e.Executable) || e.Folder && e.Link != "":
			return bad(e, "neither a file, a folder nor a link")
		}
		if up := path.Dir(e.Path); up != "." {
			if j, ok := byPath[up]; !ok || !entries[j].Folder {
				return bad(e, "does not stand in a folder")
			}
		}
		if e.Link != "" {
			to := path.Join(path.Dir(e.Path), e.Link)
			if path.IsAbs(e.Link) || len(e.Link) > maxTreePath || !utf8.ValidString(e.Link) || !oneLine(e.Link, false) || strings.ContainsAny(e.Link, `\:`) || to == ".." || strings.HasPrefix(to, "../") {
				return bad(e, "link that leads out of the folder")
			}
		}
		byPath[e.Path], folded[strings.ToLower(e.Path)] = i, true
	}
	return byPath, nil
}

// Patched is a after p's edits, without writing them.
func Patched(a Artifact, p *Patch) (Artifact, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if p.Sidecar != nil || a.Size() != p.Size {
		return nil, fmt.Errorf("%w: not of a file of %d bytes", ErrPatch, a.Size())
	}
	out := &patched{a: a, size: p.NewSize()}
	from, to := int64(0), int64(0)
	for _, e := range p.Edits {
		if n := e.Offset - from; n > 0 {
			out.parts = append(out.parts, patchPart{to, n, from, nil})
			to += n
		}
		if len(e.Insert) > 0 {
			out.parts = append(out.parts, patchPart{to, int64(len(e.Insert)), 0, e.Insert})
			to += int64(len(e.Insert))
		}
		from = e.Offset + e.Delete
	}
	if from < p.Size {
		out.parts = append(out.parts, patchPart{to, p.Size - from, from, nil})
	}
	return out, nil
}

// patchPart is a part of a patched artifact: bytes of the patch, or of the old one.
type patchPart struct {
	at, size int64
	from     int64
	b        []byte
}

type patched struct {
	a     Artifact
	size  int64
	parts []patchPart
}

func (p *patched) Name() string { return p.a.Name() }
func (p *patched) Size() int64  { return p.size }

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("format: read before the beginning")
	}
	n := 0
	for i := range p.parts {
		q := &p.parts[i]
		at := off + int64(n)
		if n == len(b) || at >= q.at+q.size || at < q.at {
			continue
		}
		m := int(min(int64(len(b)-n), q.at+q.size-at))
		if q.b != nil {
			copy(b[n:n+m], q.b[at-q.at:])
		} else if err := ReadFull(p.a, b[n:n+m], q.from+at-q.at); err != nil {
			return n, err
		}
		n += m
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
