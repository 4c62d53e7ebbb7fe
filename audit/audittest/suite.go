package audittest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
)

// Origin is the name of the logs of this package.
const Origin = "greatseal.example/log"

// Key is the signing key of the logs of this package: everybody's.
func Key() ed25519.PrivateKey { return KeyOf(1) }

// KeyOf gives further keys.
func KeyOf(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// Entries gives the encoded entries first … end-1 of the log that all tests
// share: entry i is the same in every test.
func Entries(t testing.TB, first, end int64) [][]byte {
	t.Helper()
	kinds := audit.Kinds()
	out := make([][]byte, 0, end-first)
	for i := first; i < end; i++ {
		var request [32]byte
		if i%5 != 0 {
			copy(request[:], fmt.Sprintf("request %d", i/3))
		}
		at := time.UnixMilli(1_790_000_000_000 + 7*i)
		e, err := audit.NewEntry(kinds[i%int64(len(kinds))], at, request, fmt.Appendf(nil, `{"n":%d}`, i)).Encode()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// Sign makes the checkpoint of a tree with the key of this package.
func Sign(t testing.TB, tree audit.Tree) []byte {
	t.Helper()
	s, err := audit.NewSigner(Origin, Key())
	if err != nil {
		t.Fatal(err)
	}
	msg, err := audit.SignCheckpoint(Origin, tree, s)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// Head makes the checked head of a tree, signed with the key of this package.
func Head(t testing.TB, tree audit.Tree) audit.Head {
	t.Helper()
	v, err := audit.NewVerifier(Origin, Key().Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	h, err := audit.ParseCheckpoint(Sign(t, tree), Origin, v)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Client makes a stranger's client of a store, whose checkpoint is always that
// of the stored tree.
func Client(t testing.TB, s Store) *audit.Client {
	t.Helper()
	v, err := audit.NewVerifier(Origin, Key().Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := func() []byte {
		tree, err := s.Tree(context.Background())
		if err != nil {
			t.Error(err)
			return nil
		}
		return Sign(t, tree)
	}
	return &audit.Client{Fetch: Serve(s, checkpoint), Origin: Origin, Verifier: v}
}

// reference is a log by sumdb/tlog's own functions, kept whole in memory.
type reference struct {
	n      int64
	hashes []tlog.Hash
}

func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = r.hashes[x]
	}
	return out, nil
}

func (r *reference) add(t testing.TB, entries ...[]byte) {
	t.Helper()
	for _, e := range entries {
		hashes, err := tlog.StoredHashes(r.n, e, r)
		if err != nil {
			t.Fatal(err)
		}
		r.hashes = append(r.hashes, hashes...)
		r.n++
	}
}

func (r *reference) tree(t testing.TB) audit.Tree {
	t.Helper()
	root, err := tlog.TreeHash(r.n, r)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Tree{Size: r.n, Root: root}
}

// TestTiles is the suite that every store of tiles must pass. open gives a new
// empty log each time; what it opened is for its caller to close (t.Cleanup).
func TestTiles(t *testing.T, open func() Store) {
	t.Helper()
	t.Run("Empty", func(t *testing.T) { testEmpty(t, open()) })
	t.Run("Growth", func(t *testing.T) { testGrowth(t, open()) })
	t.Run("Conflict", func(t *testing.T) { testConflict(t, open()) })
	t.Run("Cancelled", func(t *testing.T) { testCancelled(t, open()) })
	t.Run("Writers", func(t *testing.T) { testWriters(t, open()) })
	t.Run("Ownership", func(t *testing.T) { testOwnership(t, open()) })
	t.Run("Stranger", func(t *testing.T) { testStranger(t, open()) })
}

func mustTree(t *testing.T, s Store) audit.Tree {
	t.Helper()
	tree, err := s.Tree(t.Context())
	if err != nil {
		t.Fatalf("Tree: %v", err)
	}
	return tree
}

func testEmpty(t *testing.T, s Store) {
	if got := mustTree(t, s); got != audit.EmptyTree() {
		t.Errorf("new store has tree %v, want the empty tree", got)
	}
	for _, tile := range []tlog.Tile{
		{H: audit.TileHeight, L: 0, N: 0, W: 1},
		{H: audit.TileHeight, L: 5, N: 0, W: audit.TileWidth},
		audit.BundleTile(0, 1),
		audit.BundleTile(1<<39, audit.TileWidth),
	} {
		if _, err := s.ReadTiles(t.Context(), []tlog.Tile{tile}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of an empty log: error %v, want fs.ErrNotExist", audit.TilePath(tile), err)
		}
	}
	if data, err := s.ReadTiles(t.Context(), nil); err != nil || len(data) != 0 {
		t.Errorf("no tiles: %d, %v", len(data), err)
	}
	b, err := audit.Integrate(t.Context(), s, audit.EmptyTree(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), b); err != nil {
		t.Errorf("empty batch: %v", err)
	}
	if got := mustTree(t, s); got != audit.EmptyTree() {
		t.Errorf("an empty batch changed the tree to %v", got)
	}
}

func testGrowth(t *testing.T, s Store) {
	ctx := t.Context()
	var ref reference
	for _, end := range []int64{1, 2, 255, 256, 257, 511, 1000, 1280, 65_536, 65_537, 66_000} {
		entries := Entries(t, ref.n, end)
		old := ref.n
		ref.add(t, entries...)
		tree, err := Append(ctx, s, entries...)
		if err != nil {
			t.Fatalf("append to %d: %v", end, err)
		}
		if want := ref.tree(t); tree != want || mustTree(t, s) != want {
			t.Fatalf("tree after %d entries is %v, want %v", end, tree, want)
		}
		for _, tile := range tlog.NewTiles(audit.TileHeight, old, end) {
			want, err := tlog.ReadTileData(tile, &ref)
			if err != nil {
				t.Fatal(err)
			}
			// Every narrower width is the beginning of the wide one, and asked
			// for in one call each comes back at its place.
			narrow := tile
			narrow.W = 1 + tile.W/2
			data, err := s.ReadTiles(ctx, []tlog.Tile{narrow, tile, narrow})
			if err != nil {
				t.Fatalf("size %d: %s: %v", end, audit.TilePath(tile), err)
			}
			if len(data) != 3 || !bytes.Equal(data[1], want) ||
				!bytes.Equal(data[0], want[:narrow.W*tlog.HashSize]) || !bytes.Equal(data[2], data[0]) {
				t.Fatalf("size %d: %s is not the tile of the tree", end, audit.TilePath(tile))
			}
		}
		// Nothing beyond the edge.
		if w := int(end % audit.TileWidth); w > 0 {
			for _, tile := range []tlog.Tile{
				{H: audit.TileHeight, L: 0, N: end / audit.TileWidth, W: w + 1},
				audit.BundleTile(end/audit.TileWidth, w+1),
				audit.BundleTile(end/audit.TileWidth+1, 1),
			} {
				if _, err := s.ReadTiles(ctx, []tlog.Tile{tile}); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("size %d: %s: error %v, want fs.ErrNotExist", end, audit.TilePath(tile), err)
				}
			}
		}
	}
}

func testConflict(t *testing.T, s Store) {
	ctx := t.Context()
	batch := func(old audit.Tree, from, to int64) audit.Batch {
		b, err := audit.Integrate(ctx, s, old, Entries(t, from, to))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := batch(audit.EmptyTree(), 0, 10)
	other := batch(audit.EmptyTree(), 100, 110)
	if err := s.Write(ctx, first); err != nil {
		t.Fatal(err)
	}
	wrongRoot := batch(first.Tree, 10, 12)
	wrongRoot.Old.Root[0] ^= 1
	for name, b := range map[string]audit.Batch{"again": first, "other of the same tree": other, "same size, other root": wrongRoot} {
		if err := s.Write(ctx, b); !errors.Is(err, audit.ErrConflict) {
			t.Errorf("%s: error %v, want audit.ErrConflict", name, err)
		}
	}
	if got := mustTree(t, s); got != first.Tree {
		t.Fatalf("a refused batch changed the tree to %v", got)
	}
	data, err := s.ReadTiles(ctx, []tlog.Tile{audit.BundleTile(0, 10), {H: audit.TileHeight, W: 10}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data[0], first.Bundles[0].Data) || !bytes.Equal(data[1], first.Tiles[0].Data) {
		t.Error("a refused batch changed tiles")
	}
}

func testCancelled(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	b, err := audit.Integrate(ctx, s, audit.EmptyTree(), Entries(t, 0, 300))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Write(ctx, b); err == nil {
		t.Error("a cancelled write succeeded")
	}
	if got := mustTree(t, s); got != audit.EmptyTree() {
		t.Fatalf("a cancelled write changed the tree to %v", got)
	}
	if _, err := s.ReadTiles(t.Context(), []tlog.Tile{audit.BundleTile(0, audit.TileWidth)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a cancelled write left a bundle: error %v", err)
	}
	if err := s.Write(t.Context(), b); err != nil {
		t.Errorf("the same batch afterwards: %v", err)
	}
}

// testWriters races writers, each with entries of its own, until each has
// written all of them: entries may interleave and none may be lost or doubled.
func testWriters(t *testing.T, s Store) {
	const writers, rounds, each = 4, 6, 50
	ctx := t.Context()
	var wg sync.WaitGroup
	for w := range writers {
		entries := Entries(t, int64(w*rounds*each), int64((w+1)*rounds*each))
		wg.Go(func() {
			for r := 0; r < rounds; {
				_, err := Append(ctx, s, entries[r*each:(r+1)*each]...)
				switch {
				case err == nil:
					r++
				// A tree that grew meanwhile still has the old edge as its part,
				// so losing the race shows at Write alone.
				case !errors.Is(err, audit.ErrConflict):
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	c := Client(t, s)
	head, err := c.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if head.Size() != writers*rounds*each {
		t.Fatalf("%d entries, want %d", head.Size(), writers*rounds*each)
	}
	seen := make(map[string]bool)
	for e, err := range c.Entries(ctx, head, 0, head.Size()) {
		if err != nil {
			t.Fatal(err)
		}
		seen[string(e.Data)] = true
	}
	if len(seen) != writers*rounds*each {
		t.Errorf("%d different entries, want %d", len(seen), writers*rounds*each)
	}
	if err := c.Fsck(ctx, head); err != nil {
		t.Error(err)
	}
}

func testOwnership(t *testing.T, s Store) {
	ctx := t.Context()
	if _, err := Append(ctx, s, Entries(t, 0, 300)...); err != nil {
		t.Fatal(err)
	}
	tiles := []tlog.Tile{{H: audit.TileHeight, W: audit.TileWidth}, audit.BundleTile(1, 44)}
	first, err := s.ReadTiles(ctx, tiles)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Join(first, nil)
	for _, d := range first {
		clear(d)
	}
	second, err := s.ReadTiles(ctx, tiles)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.Join(second, nil), want) {
		t.Error("what a reader does to its copy changes the store")
	}
}

// testStranger reads the store as somebody who trusts its key alone.
func testStranger(t *testing.T, s Store) {
	ctx := t.Context()
	c := Client(t, s)
	head, err := c.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	entries := Entries(t, 0, 3000)
	heads := []audit.Head{head}
	for _, end := range []int64{1, 256, 700, 3000} {
		if _, err := Append(ctx, s, entries[head.Size():end]...); err != nil {
			t.Fatal(err)
		}
		if head, err = c.Update(ctx, head); err != nil {
			t.Fatalf("update to %d: %v", end, err)
		}
		heads = append(heads, head)
		if err := c.Fsck(ctx, head); err != nil {
			t.Fatalf("fsck at %d: %v", end, err)
		}
	}
	// Older heads stay readable.
	for i, h := range heads {
		p, err := audit.ProveConsistency(ctx, s, h.Size(), head.Size())
		if err != nil {
			t.Fatal(err)
		}
		if err := head.CheckConsistency(h, p); err != nil {
			t.Errorf("head %d: %v", i, err)
		}
		for _, index := range []int64{0, h.Size() / 2, h.Size() - 1} {
			if h.Size() == 0 {
				continue
			}
			p, err := audit.ProveInclusion(ctx, s, h.Size(), index)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.CheckInclusion(p, entries[index]); err != nil {
				t.Errorf("head %d, entry %d: %v", i, index, err)
			}
		}
		next := int64(0)
		for e, err := range c.Entries(ctx, h, 0, h.Size()) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Index != next || !bytes.Equal(e.Data, entries[next]) {
				t.Fatalf("head %d: entry %d is not the one that was written", i, e.Index)
			}
			next++
		}
		if next != h.Size() {
			t.Errorf("head %d: %d entries of %d", i, next, h.Size())
		}
	}
}
