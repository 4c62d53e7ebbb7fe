package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// inFlight is how many bundles are fetched ahead. It bounds memory: that many
// bundles of at most MaxBundle bytes.
const inFlight = 8

// Client reads a published log as a stranger: it believes the log's key and
// nothing else.
type Client struct {
	// Fetch gets a path of the log ([CheckpointPath], [TilePath]). What is not
	// there is an error that wraps fs.ErrNotExist. It is called by several
	// goroutines at once, must end when its context does, must give each caller
	// a slice of its own, and is to stop reading above [MaxBundle] bytes.
	Fetch func(ctx context.Context, path string) ([]byte, error)
	// Origin and Verifier are what checkpoints are checked against.
	Origin   string
	Verifier note.Verifier
}

// IndexedEntry is an entry that was checked against a head.
type IndexedEntry struct {
	Index int64
	Data  []byte // the encoded entry
}

// Entry decodes the entry.
func (e IndexedEntry) Entry() (Entry, error) { return DecodeEntry(e.Data) }

// Checkpoint fetches and checks the log's head. It may be any head that the log
// ever signed: a client that has seen one uses [Client.Update].
func (c *Client) Checkpoint(ctx context.Context) (Head, error) {
	msg, err := c.Fetch(ctx, CheckpointPath)
	if err != nil {
		return Head{}, fmt.Errorf("audit: fetch checkpoint: %w", err)
	}
	return ParseCheckpoint(msg, c.Origin, c.Verifier)
}

// Update fetches the log's head and checks that it extends old, which the
// client keeps from last time. On [ErrFork] the checkpoint that was fetched and
// that of old are together the proof of the log's dishonesty; the head is
// returned with the error so that both can be shown.
func (c *Client) Update(ctx context.Context, old Head) (Head, error) {
	if err := c.mine(old); err != nil {
		return Head{}, err
	}
	head, err := c.Checkpoint(ctx)
	if err != nil {
		return Head{}, err
	}
	if err := c.Extends(ctx, old, head); errors.Is(err, ErrFork) || errors.Is(err, ErrRollback) {
		return head, err
	} else if err != nil {
		return Head{}, err
	}
	return head, nil
}

// Extends checks that head, which the log has signed, extends old. The error is
// [ErrRollback] for a head that is smaller, and [ErrFork] for two that are together the
// proof of the log's dishonesty.
func (c *Client) Extends(ctx context.Context, old, head Head) error {
	if err := c.mine(old); err != nil {
		return err
	}
	switch {
	case head.Size() < old.Size():
		return fmt.Errorf("audit: from size %d to %d: %w", old.Size(), head.Size(), ErrRollback)
	case head.Size() == old.Size() && head.Root() != old.Root():
		return fmt.Errorf("audit: two trees of size %d: %w", old.Size(), ErrFork)
	}
	p, err := c.Consistency(ctx, old.Size(), head)
	if err != nil {
		return err
	}
	// The hashes of the proof belong to the new tree, that is checked: if they
	// do not give the old root, then no proof will.
	if err := head.CheckConsistency(old, p); err != nil {
		return fmt.Errorf("%w: %w", ErrFork, err)
	}
	return nil
}

// Inclusion makes the proof of an entry from the log's tiles, checked against
// the head.
func (c *Client) Inclusion(ctx context.Context, head Head, index int64) (Inclusion, error) {
	if err := c.mine(head); err != nil {
		return Inclusion{}, err
	}
	p := Inclusion{Index: index, Size: head.Size()}
	if err := p.check(); err != nil {
		return Inclusion{}, err
	}
	var err error
	p.Hashes, err = tlog.ProveRecord(p.Size, index, c.hashes(ctx, head))
	if err != nil {
		return Inclusion{}, fmt.Errorf("audit: inclusion of entry %d: %w", index, err)
	}
	return p, nil
}

// Consistency makes the proof that the head extends a tree of an older size.
func (c *Client) Consistency(ctx context.Context, old int64, head Head) (Consistency, error) {
	if err := c.mine(head); err != nil {
		return Consistency{}, err
	}
	p := Consistency{Old: old, New: head.Size()}
	if err := p.check(); err != nil {
		return Consistency{}, err
	}
	if old == 0 {
		return p, nil
	}
	var err error
	p.Hashes, err = tlog.ProveTree(p.New, old, c.hashes(ctx, head))
	if err != nil {
		return Consistency{}, fmt.Errorf("audit: consistency of %d with %d: %w", old, p.New, err)
	}
	return p, nil
}

// Entries gives the entries from, from+1, … to-1 in order, each checked against
// the head before it is given. It holds a few bundles at a time, whatever the
// size of the log. After an error it ends; the entries before it are good.
func (c *Client) Entries(ctx context.Context, head Head, from, to int64) iter.Seq2[IndexedEntry, error] {
	return func(yield func(IndexedEntry, error) bool) {
		if err := c.entries(ctx, head, from, to, func(e IndexedEntry) bool { return yield(e, nil) }); err != nil {
			yield(IndexedEntry{}, err)
		}
	}
}

// entries returns nil when yield has had enough.
func (c *Client) entries(ctx context.Context, head Head, from, to int64, yield func(IndexedEntry) bool) error {
	if err := c.mine(head); err != nil {
		return err
	}
	if from < 0 || from > to || to > head.Size() {
		return fmt.Errorf("audit: entries %d to %d of %d: %w", from, to, head.Size(), ErrLimit)
	}
	hashes := c.hashes(ctx, head)
	more := true
	// The 256 bundles below one tile of level 1 are checked against it.
	for next := from / TileWidth; more && next*TileWidth < to; {
		end := min((next/TileWidth+1)*TileWidth, (to+TileWidth-1)/TileWidth)
		wants, err := bundleHashes(hashes, head.Size(), next, end)
		if err != nil {
			return fmt.Errorf("audit: entries %d and following: %w", next*TileWidth, err)
		}
		first := next
		work := func(ctx context.Context, n int64) ([][]byte, error) {
			return c.bundle(ctx, n, head.Size(), wants[n-first])
		}
		err = ordered(ctx, inFlight, next, end, work, func(n int64, entries [][]byte) (bool, error) {
			for i, e := range entries {
				if index := n*TileWidth + int64(i); index >= from && index < to {
					if more = yield(IndexedEntry{index, e}); !more {
						return false, nil
					}
				}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		next = end
	}
	return nil
}

// bundleHashes gives what the bundles first … end-1 must hash to: a full one has
// one hash, at level 1; a partial one has the hashes of its leaves.
func bundleHashes(r tlog.HashReader, size, first, end int64) ([][]tlog.Hash, error) {
	var indexes []int64
	counts := make([]int, 0, end-first)
	for n := first; n < end; n++ {
		w := min(size-n*TileWidth, TileWidth)
		if w == TileWidth {
			indexes = append(indexes, tlog.StoredHashIndex(TileHeight, n))
			counts = append(counts, 1)
			continue
		}
		for i := range w {
			indexes = append(indexes, tlog.StoredHashIndex(0, n*TileWidth+i))
		}
		counts = append(counts, int(w))
	}
	hashes, err := r.ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	wants := make([][]tlog.Hash, 0, len(counts))
	for _, k := range counts {
		wants, hashes = append(wants, hashes[:k]), hashes[k:]
	}
	return wants, nil
}

// bundle fetches a bundle and checks it.
func (c *Client) bundle(ctx context.Context, n, size int64, want []tlog.Hash) ([][]byte, error) {
	w := int(min(size-n*TileWidth, TileWidth))
	entries, leaves, err := c.leaves(ctx, n, w)
	if err != nil {
		return nil, err
	}
	if w == TileWidth {
		if subtree(leaves) != want[0] {
			return nil, fmt.Errorf("audit: entries %d to %d: %w", n*TileWidth, n*TileWidth+int64(w)-1, ErrInconsistent)
		}
		return entries, nil
	}
	for i := range w {
		if hashAt(leaves, i) != want[i] {
			return nil, fmt.Errorf("audit: entry %d: %w", n*TileWidth+int64(i), ErrInconsistent)
		}
	}
	return entries, nil
}

// leaves fetches a bundle and hashes its entries.
func (c *Client) leaves(ctx context.Context, n int64, w int) (entries [][]byte, leaves []byte, err error) {
	data, err := c.tile(ctx, BundleTile(n, w))
	if err != nil {
		return nil, nil, err
	}
	if entries, err = ParseBundle(data, w); err != nil {
		return nil, nil, fmt.Errorf("entries %d and following: %w", n*TileWidth, err)
	}
	leaves = make([]byte, 0, w*tlog.HashSize)
	var buf []byte
	for _, e := range entries {
		var h tlog.Hash
		h, buf = leafHash(buf, e)
		leaves = append(leaves, h[:]...)
	}
	return entries, leaves, nil
}

// mine refuses heads of other logs, and none.
func (c *Client) mine(h Head) error {
	if err := h.check(); err != nil {
		return err
	}
	if h.origin != c.Origin {
		return fmt.Errorf("audit: head of %.80q, not of %.80q: %w", h.origin, c.Origin, ErrOrigin)
	}
	return nil
}

// tile fetches a tile or bundle, unchecked but for its length. A log may drop a
// partial tile once the full one is there, which then holds it (tlog-tiles).
func (c *Client) tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := c.Fetch(ctx, TilePath(t))
	if t.W == TileWidth || !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, fmt.Errorf("audit: fetch %s: %w", TilePath(t), err)
		}
		if t.L >= 0 && len(data) != t.W*tlog.HashSize {
			return nil, fmt.Errorf("audit: %s has %d bytes: %w", TilePath(t), len(data), ErrMalformed)
		}
		return data, nil
	}
	full := t
	full.W = TileWidth
	if data, err = c.Fetch(ctx, TilePath(full)); err != nil {
		return nil, fmt.Errorf("audit: fetch %s: %w", TilePath(t), err)
	}
	return Narrow(t, data)
}

// hashes reads nodes of the head's tree, each checked against its root.
func (c *Client) hashes(ctx context.Context, head Head) tlog.HashReader {
	tree := tlog.Tree{N: head.tree.Size, Hash: head.tree.Root}
	r := &tileReader{ctx: ctx, client: c, edge: make(map[tlog.Tile][]byte)}
	inner := tlog.TileHashReader(tree, r)
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(indexes) == 0 {
			return nil, nil
		}
		r.fetchErr = nil
		hashes, err := inner.ReadHashes(indexes)
		if err != nil && r.fetchErr == nil {
			return nil, fmt.Errorf("%w: %w", ErrInconsistent, err)
		}
		return hashes, err
	})
}

// tileReader is sumdb/tlog's view of a Client. It keeps the right edge, at most
// one tile a level, once that was checked: every read begins with it.
type tileReader struct {
	ctx      context.Context
	client   *Client
	edge     map[tlog.Tile][]byte
	fetchErr error // tells a failed fetch from a tile that does not match
}

func (r *tileReader) Height() int { return TileHeight }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	work := func(ctx context.Context, i int64) ([]byte, error) {
		if data, ok := r.edge[tiles[i]]; ok {
			return data, nil
		}
		return r.client.tile(ctx, tiles[i])
	}
	r.fetchErr = ordered(r.ctx, inFlight, 0, int64(len(tiles)), work, func(i int64, data []byte) (bool, error) {
		out[i] = data
		return true, nil
	})
	return out, r.fetchErr
}

func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		if t.W < TileWidth {
			r.edge[t] = data[i]
		}
	}
}

// ordered does work for first … end-1, at most window of them at once, and
// takes the results in order until take says that it has had enough. No
// goroutine outlives it.
func ordered[T any](ctx context.Context, window int, first, end int64,
	work func(ctx context.Context, i int64) (T, error), take func(i int64, v T) (bool, error),
) error {
	type result struct {
		v   T
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before the wait
	var queue []chan result
	next := first
	for i := first; i < end; i++ {
		for ; next < end && len(queue) < window; next++ {
			ch, n := make(chan result, 1), next
			wg.Go(func() {
				v, err := work(ctx, n)
				ch <- result{v, err}
			})
			queue = append(queue, ch)
		}
		r := <-queue[0]
		queue = queue[1:]
		if r.err != nil {
			return r.err
		}
		if more, err := take(i, r.v); err != nil || !more {
			return err
		}
	}
	return nil
}
