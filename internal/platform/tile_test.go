package platform

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/greatseal-io/greatseal/merkle"
)

// Paths from tiles are those of package merkle.
func TestPaths(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 255, 256, 257, 511, 512, 513, 700, 65535, 65536, 65537, 70001} {
		leaves := make([]merkle.Hash, n)
		var flat []byte
		for i := range leaves {
			leaves[i] = merkle.Leaf(merkle.Items, fmt.Append(nil, i))
			flat = append(flat, leaves[i][:]...)
		}
		tree, err := merkle.New(merkle.Items, leaves)
		if err != nil {
			t.Fatal(err)
		}
		type at struct {
			level uint8
			index int64
		}
		tiles := map[at][]byte{}
		for tile, err := range TilesOf(bytes.NewReader(flat), int64(n)) {
			if err != nil {
				t.Fatal(n, err)
			}
			tiles[at{tile.Level, tile.Index}] = tile.Hashes
		}
		step := max(1, n/97)
		for i := 0; i < n; i = min(i+step, max(i+1, n-1)) {
			want, err := tree.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			var flat string
			for _, h := range want.Path {
				flat += h
			}
			got, err := PathOf(int64(i), int64(n), func(level uint8, index int64) ([]byte, error) {
				return tiles[at{level, index}], nil
			})
			if err != nil || hex.EncodeToString(got) != flat {
				t.Fatalf("path of %d of %d: %v, %x in place of %s", i, n, err, got, flat)
			}
		}
	}
}

func TestPathsFromBadTiles(t *testing.T) {
	none := func(uint8, int64) ([]byte, error) { return nil, nil }
	for _, c := range []struct{ index, count int64 }{{0, 2}, {5, 5}, {-1, 5}, {0, 0}, {0, -3}, {1 << 62, 1<<63 - 1}} {
		if _, err := PathOf(c.index, c.count, none); err == nil {
			t.Errorf("path of %d of %d from no tiles", c.index, c.count)
		}
	}
	broken := errors.New("broken")
	if _, err := PathOf(0, 2, func(uint8, int64) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	for _, err := range TilesOf(bytes.NewReader(make([]byte, 63)), 2) {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error("tiles of half a hash:", err)
		}
	}
}
