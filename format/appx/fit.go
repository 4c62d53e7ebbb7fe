package appx

import (
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format/zipfile"
)

// fitter places what the block map says of files beside the entries of the archive.
// Both have one order, as a rule: then no index is made.
type fitter struct {
	p     *pkg
	files []mapped // by entry
	next  int      // entry that is expected
	index map[string]int
	size  int // of a digest
	text  int // bytes of the block map
	room  []byte
}

// apart says that an entry is in no block map: it is covered otherwise.
func apart(name string) bool {
	switch name {
	case entryBlockMap, entryTypes, entryIntegrity, entrySignature:
		return true
	}
	return false
}

// blocks is how many digests a content of that size has.
func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize }

// begin makes room for all digests, which have fewer bytes than the text in which they
// stand: what a directory claims takes no memory.
func (f *fitter) begin(h crypto.Hash) error {
	if f.size != 0 {
		return badMap("two of them")
	}
	f.size = h.Size()
	n := int64(0)
	for i := range f.p.z.Entries {
		e := &f.p.z.Entries[i]
		if apart(e.Name) {
			continue
		}
		if len(f.p.packages) > 0 {
			if name, _ := mapName(e.Name); f.p.packages[name].size > 0 {
				continue
			}
		}
		n += blocks(e.Size)
	}
	if n *= int64(f.size); n > int64(f.text) {
		return badMap("it has %d bytes: the contents have digests of %d", f.text, n)
	}
	f.room = make([]byte, 0, n)
	// Two ways to write one name are two entries to an archiver and one to Windows.
	if slices.ContainsFunc(f.p.z.Entries, func(e zipfile.Entry) bool { return strings.IndexByte(e.Name, '%') >= 0 }) {
		return f.makeIndex()
	}
	return nil
}

func (f *fitter) place(name string, size int64) (*mapped, error) {
	entries := f.p.z.Entries
	i := f.next
	if i >= len(entries) || !sameName(entries[i].Name, name) {
		if err := f.makeIndex(); err != nil {
			return nil, err
		}
		var ok bool
		if i, ok = f.index[name]; !ok {
			return nil, badMap("%.80q is not in the archive", name)
		}
	}
	f.next = i + 1
	e, m := &entries[i], &f.files[i]
	if apart(e.Name) {
		return nil, badMap("%q is in it", e.Name)
	}
	if m.is { // the caller refuses it
		return m, nil
	}
	if size != e.Size {
		return nil, badMap("%.80q has %d bytes: the block map says %d", e.Name, e.Size, size)
	}
	if n := len(f.room) + int(blocks(size))*f.size; n <= cap(f.room) { // packages of bundles have no room
		m.digests = f.room[len(f.room):len(f.room):n]
		f.room = f.room[:n]
	}
	return m, nil
}

// makeIndex is for block maps in another order, and those without what is covered
// otherwise.
func (f *fitter) makeIndex() error {
	if f.index != nil {
		return nil
	}
	f.index = make(map[string]int, len(f.files))
	for i := range f.p.z.Entries {
		name, ok := mapName(f.p.z.Entries[i].Name)
		if !ok {
			return malformed("name %.80q", f.p.z.Entries[i].Name)
		}
		if _, twice := f.index[name]; twice {
			return malformed("%.80q stands twice", name)
		}
		f.index[name] = i
	}
	return nil
}

// blockMap is the block map as far as it can be held against the directory.
type blockMap struct {
	hash  crypto.Hash
	files []mapped               // by entry
	sums  map[crypto.Hash][]byte // of the text
}

// blockMap reads the block map, and refuses one that does not fit the directory. Of its
// text the digests under hashes stay.
func (p *pkg) blockMap(hashes []crypto.Hash) (*blockMap, error) {
	at, ok := p.at[entryBlockMap]
	if !ok {
		return nil, errLacks
	}
	text, err := p.z.Content(at, maxBlockMap)
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	m := &blockMap{files: make([]mapped, len(p.z.Entries)), sums: map[crypto.Hash][]byte{}}
	if m.hash, err = parseBlockMap(text, &fitter{p: p, files: m.files, text: len(text)}); err != nil {
		return nil, err
	}
	for _, h := range hashes {
		m.sums[h] = sum(h, text)
	}
	for i := range m.files {
		if err := p.fits(m, i); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// fits holds what the block map says of entry i against the directory.
func (p *pkg) fits(m *blockMap, i int) error {
	e, f := &p.z.Entries[i], &m.files[i]
	if !f.is {
		if apart(e.Name) {
			return nil
		}
		name, ok := mapName(e.Name)
		if in, is := p.packages[name]; ok && is && e.Method == zipfile.Stored && in.size == e.Size {
			return nil
		}
		return badMap("%.80q is not in it", e.Name)
	}
	n := int64(len(f.digests) / m.hash.Size())
	switch {
	case n != blocks(e.Size):
		return badMap("%.80q has %d bytes: the block map has %d blocks of it", e.Name, e.Size, n)
	case f.sizes > 0 && f.packed > e.Compressed:
		return badMap("%.80q has %d bytes in the archive: the block map says %d", e.Name, e.Compressed, f.packed)
	case e.Method == zipfile.Deflated && f.sizes == 0 && n > 0:
		return badMap("%.80q is compressed and its blocks have no sizes", e.Name)
	}
	return nil
}
