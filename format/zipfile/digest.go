package zipfile

import (
	"context"
	"crypto"
	"fmt"
	"hash"
	"io"

	"github.com/greatseal-io/greatseal/format"
)

// Contents is what [Archive.Read] found.
type Contents struct {
	Kept map[int][]byte // contents that were asked for, by entry

	digests []byte // of all entries, size bytes each
	size    int
}

// Digest is that of entry i's content: under each hash in turn, one after the other.
func (c *Contents) Digest(i int) []byte { return c.digests[c.size*i:][:c.size:c.size] }

// Read scans the archive and returns the digests of all contents under hashes, and
// the contents of the entries that keep gives a limit above zero for, in bytes; a
// longer one is ErrLimit. raw is Scan.Raw, or nil.
func (z *Archive) Read(ctx context.Context, hashes []crypto.Hash, keep func(i int) int64, raw func([]byte) error) (*Contents, error) {
	size := 0
	for _, h := range hashes {
		if !h.Available() {
			return nil, fmt.Errorf("zipfile: hash %v is not available", h)
		}
		size += h.Size()
	}
	c := &Contents{Kept: map[int][]byte{}, digests: make([]byte, size*len(z.Entries)), size: size}
	kept := map[int]*[]byte{} // workers read the map and write where it points
	for i := range z.Entries {
		n := keep(i)
		if n <= 0 {
			continue
		}
		if e := &z.Entries[i]; e.Size > n {
			return nil, fmt.Errorf("%w: %.80q has %d bytes: at most %d", ErrLimit, e.Name, e.Size, n)
		}
		kept[i] = new([]byte)
	}
	var workers [MaxWorkers]*digester
	err := z.Scan(ctx, Scan{
		Raw: raw,
		Content: func(w, i int) (io.WriteCloser, error) {
			d := workers[w]
			if d == nil {
				d = &digester{}
				for _, h := range hashes {
					d.hashes = append(d.hashes, h.New())
				}
				workers[w] = d
			}
			for _, h := range d.hashes {
				h.Reset()
			}
			d.kept = kept[i]
			d.sum = c.Digest(i)[:0]
			return d, nil
		},
	})
	if err != nil {
		return nil, err
	}
	for i, b := range kept {
		c.Kept[i] = *b
	}
	return c, nil
}

// digester digests one content at a time.
type digester struct {
	hashes []hash.Hash
	sum    []byte
	kept   *[]byte // nil: the content is not wanted
}

func (d *digester) Write(b []byte) (int, error) {
	for _, h := range d.hashes {
		h.Write(b)
	}
	if d.kept != nil {
		*d.kept = append(*d.kept, b...)
	}
	return len(b), nil
}

func (d *digester) Close() error {
	for _, h := range d.hashes {
		d.sum = h.Sum(d.sum) // where Contents.Digest finds it
	}
	return nil
}

// List is format.Lister for archives: the files in the order of the archive, with
// SHA-256. Folders are left out.
func (z *Archive) List(ctx context.Context, yield func(format.Entry) error) error {
	c, err := z.Read(ctx, []crypto.Hash{crypto.SHA256}, func(int) int64 { return 0 }, nil)
	if err != nil {
		return err
	}
	for i := range z.Order {
		if e := &z.Entries[i]; !e.Dir() {
			if err := yield(format.Entry{Name: e.Name, Size: e.Size, Digest: c.Digest(i)}); err != nil {
				return err
			}
		}
	}
	return nil
}
