package records

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"

	"github.com/greatseal-io/greatseal/internal/platform"
)

// tree is the hash tiles of a job, in a file without a name: nobody else reads or
// writes it, and it is gone when it is closed.
//
// Workers whose leases overlap may read one at the same time.
type tree struct {
	f     *os.File
	count int64 // leaves, when it is finished

	mu sync.Mutex
	w  *bufio.Writer
}

func newTree() (*tree, error) {
	f, err := os.CreateTemp("", "greatseal-tree")
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("records: %w", err)
	}
	return &tree{f: f, w: bufio.NewWriterSize(f, 64<<10)}, nil
}

func (t *tree) close() { t.f.Close() }

// WriteTile implements merkle.TileWriter.
func (t *tree) WriteTile(level int, index int64, hashes []byte) error {
	var h [13]byte
	h[0] = uint8(level)
	binary.BigEndian.PutUint64(h[1:], uint64(index))
	binary.BigEndian.PutUint32(h[9:], uint32(len(hashes)))
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.w.Write(h[:]); err != nil {
		return err
	}
	_, err := t.w.Write(hashes)
	return err
}

// tiles reads them back.
func (t *tree) tiles() iter.Seq2[platform.Tile, error] {
	return func(yield func(platform.Tile, error) bool) {
		t.mu.Lock()
		err := t.w.Flush()
		t.mu.Unlock()
		if err != nil {
			yield(platform.Tile{}, fmt.Errorf("records: %w", err))
			return
		}
		r := bufio.NewReaderSize(io.NewSectionReader(t.f, 0, 1<<62), 64<<10)
		for {
			var h [13]byte
			if _, err := io.ReadFull(r, h[:]); err != nil {
				if !errors.Is(err, io.EOF) {
					yield(platform.Tile{}, fmt.Errorf("records: %w", err))
				}
				return
			}
			tile := platform.Tile{Level: h[0], Index: int64(binary.BigEndian.Uint64(h[1:])), Hashes: make([]byte, binary.BigEndian.Uint32(h[9:]))}
			_, err := io.ReadFull(r, tile.Hashes)
			if !yield(tile, err) || err != nil {
				return
			}
		}
	}
}
