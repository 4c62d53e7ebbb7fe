package audit_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
)

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func verifier(t testing.TB) note.Verifier {
	t.Helper()
	v, err := audit.NewVerifier(audittest.Origin, pub(audittest.Key()))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newLog(t testing.TB, size int64) (*audittest.Memory, audit.Head) {
	t.Helper()
	m := new(audittest.Memory)
	tree, err := audittest.Append(context.Background(), m, audittest.Entries(t, 0, size)...)
	if err != nil {
		t.Fatal(err)
	}
	return m, audittest.Head(t, tree)
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	at := time.UnixMilli(1_790_000_000_123)
	var request [32]byte
	request[31] = 7
	for name, c := range map[string]struct {
		body     []byte
		detached bool
	}{
		"no body":        {nil, false},
		"small":          {[]byte(`{"a":1}`), false},
		"largest inline": {bytes.Repeat([]byte{1}, audit.MaxInline), false},
		"detached":       {bytes.Repeat([]byte{1}, audit.MaxInline+1), true},
	} {
		for _, kind := range audit.Kinds() {
			e := audit.NewEntry(kind, at, request, c.body)
			data, err := e.Encode()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := audit.DecodeEntry(data)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got.Kind != kind || !got.Time.Equal(at) || got.Request != request {
				t.Errorf("%s: got %v", name, got)
			}
			sum, size, ok := got.Detached()
			if ok != c.detached || ok && (size != int64(len(c.body)) || sum != sha256.Sum256(c.body)) {
				t.Errorf("%s: detached %v, %d", name, ok, size)
			}
			body, err := got.Body(func(s [32]byte, n int64) ([]byte, error) {
				if !c.detached || s != sum || n != size {
					t.Errorf("%s: looked up %x, %d", name, s, n)
				}
				return c.body, nil
			})
			if err != nil || !bytes.Equal(body, c.body) {
				t.Errorf("%s: body of %d bytes, %v", name, len(body), err)
			}
		}
	}
}

func TestEntryRefused(t *testing.T) {
	ok := time.UnixMilli(1)
	for name, e := range map[string]audit.Entry{
		"zero":            {},
		"unknown kind":    audit.NewEntry("approval", ok, [32]byte{}, nil),
		"before 1970":     audit.NewEntry(audit.KindCancel, time.UnixMilli(-1), [32]byte{}, nil),
		"after 9999":      audit.NewEntry(audit.KindCancel, time.UnixMilli(253402300800000), [32]byte{}, nil),
		"no millisecond":  {Kind: audit.KindCancel, Time: time.Unix(0, 1)},
		"body of 256 MiB": audit.NewEntry(audit.KindCancel, ok, [32]byte{}, make([]byte, audit.MaxBody+1)),
	} {
		if _, err := e.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// Invariant 7.
func TestInvariant7DetachedBody(t *testing.T) {
	body := bytes.Repeat([]byte("x"), audit.MaxInline+1)
	e := audit.NewEntry(audit.KindReceipt, time.UnixMilli(1), [32]byte{}, body)
	_, err := e.Body(nil)
	wantErr(t, "nil lookup", err, audit.ErrDetached)
	gone := errors.New("gone")
	_, err = e.Body(func([32]byte, int64) ([]byte, error) { return nil, gone })
	wantErr(t, "failed lookup", err, gone)
	wantErr(t, "failed lookup", err, audit.ErrDetached)
	for name, other := range map[string][]byte{"shorter": body[1:], "longer": append(body[:len(body):len(body)], 'x'), "nothing": nil, "other": bytes.Repeat([]byte("y"), len(body))} {
		_, err = e.Body(func([32]byte, int64) ([]byte, error) { return other, nil })
		wantErr(t, name, err, audit.ErrInconsistent)
	}
}

// Invariant 1.
func TestInvariant1ZeroHead(t *testing.T) {
	var zero audit.Head
	m, head := newLog(t, 3)
	c := audittest.Client(t, m)
	ctx := t.Context()
	p, err := audit.ProveInclusion(ctx, m, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "CheckInclusion", zero.CheckInclusion(p, audittest.Entries(t, 0, 1)[0]), audit.ErrNoHead)
	wantErr(t, "CheckConsistency", zero.CheckConsistency(head, audit.Consistency{}), audit.ErrNoHead)
	wantErr(t, "CheckConsistency of zero", head.CheckConsistency(zero, audit.Consistency{New: 3}), audit.ErrNoHead)
	_, err = zero.CheckCosignatures(1, []audit.Witness{{}})
	wantErr(t, "CheckCosignatures", err, audit.ErrNoHead)
	_, err = zero.Cosign()
	wantErr(t, "Cosign", err, audit.ErrNoHead)
	_, err = c.Update(ctx, zero)
	wantErr(t, "Update", err, audit.ErrNoHead)
	_, err = c.Inclusion(ctx, zero, 0)
	wantErr(t, "Inclusion", err, audit.ErrNoHead)
	wantErr(t, "Fsck", c.Fsck(ctx, zero), audit.ErrNoHead)
	for _, err := range c.Entries(ctx, zero, 0, 0) {
		wantErr(t, "Entries", err, audit.ErrNoHead)
	}
}

// Invariant 5: however the same entries are cut into batches, the trees are
// those of sumdb/tlog.
func TestInvariant5BatchesDoNotMatter(t *testing.T) {
	const total = 1500
	entries := audittest.Entries(t, 0, total)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(x []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(x))
		for i := range x {
			out[i] = stored[x[i]]
		}
		return out, nil
	})
	roots := make([]tlog.Hash, total+1)
	for i, e := range entries {
		h, err := tlog.StoredHashes(int64(i), e, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, h...)
		if roots[i+1], err = tlog.TreeHash(int64(i+1), reader); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := new(audittest.Memory)
		for n := 0; n < total; {
			k := min(rapid.OneOf(rapid.IntRange(0, 5), rapid.IntRange(0, 600), rapid.SampledFrom([]int{1, 255, 256, 257})).Draw(rt, "batch"), total-n)
			tree, err := audittest.Append(context.Background(), m, entries[n:n+k]...)
			if err != nil {
				rt.Fatal(err)
			}
			if n += k; n > 0 && (tree.Root != roots[n] || tree.Size != int64(n)) {
				rt.Fatalf("tree of %d entries differs", n)
			}
			if rapid.IntRange(0, 9).Draw(rt, "enough") == 0 {
				break
			}
		}
	})
}

// readCounter records what Integrate reads.
type readCounter struct {
	audit.TileReader
	tiles []tlog.Tile
}

func (r *readCounter) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	r.tiles = append(r.tiles, tiles...)
	return r.TileReader.ReadTiles(ctx, tiles)
}

func TestInvariant5ReadsRightEdgeOnly(t *testing.T) {
	m, head := newLog(t, 70_000)
	r := &readCounter{TileReader: m}
	b, err := audit.Integrate(t.Context(), r, head.Tree(), audittest.Entries(t, 70_000, 71_000))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"}
	var got []string
	for _, x := range r.tiles {
		got = append(got, audit.TilePath(x))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("read %v, want %v", got, want)
	}
	if len(b.Leaves) != 1000 || b.Leaves[0] != audit.LeafHash(audittest.Entries(t, 70_000, 70_001)[0]) {
		t.Error("leaves are not the hashes of the entries")
	}
}

func TestIntegrateRefuses(t *testing.T) {
	m, head := newLog(t, 300)
	ctx := t.Context()
	for name, c := range map[string]struct {
		old     audit.Tree
		entries [][]byte
		want    error
	}{
		"empty entry":     {head.Tree(), [][]byte{{}}, audit.ErrMalformed},
		"large entry":     {head.Tree(), [][]byte{make([]byte, audit.MaxEntry+1)}, audit.ErrLimit},
		"negative size":   {audit.Tree{Size: -1}, nil, audit.ErrLimit},
		"full tree":       {audit.Tree{Size: audit.MaxSize}, [][]byte{{1}}, audit.ErrLimit},
		"huge tree":       {audit.Tree{Size: 1<<63 - 1}, [][]byte{{1}}, audit.ErrLimit},
		"zero empty tree": {audit.Tree{}, [][]byte{{1}}, audit.ErrInconsistent},
		"larger tree":     {audit.Tree{Size: 301, Root: head.Root()}, [][]byte{{1}}, fs.ErrNotExist},
	} {
		_, err := audit.Integrate(ctx, m, c.old, c.entries)
		wantErr(t, name, err, c.want)
	}
}

func TestProofsOfEveryPair(t *testing.T) {
	const n = 40
	ctx := t.Context()
	m := new(audittest.Memory)
	entries := audittest.Entries(t, 0, n)
	heads := []audit.Head{audittest.Head(t, audit.EmptyTree())}
	for i := range entries {
		tree, err := audittest.Append(ctx, m, entries[i])
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, audittest.Head(t, tree))
	}
	for size := int64(0); size <= n; size++ {
		for i := int64(0); i <= size; i++ {
			c, err := audit.ProveConsistency(ctx, m, i, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := heads[size].CheckConsistency(heads[i], c); err != nil {
				t.Fatalf("%d to %d: %v", i, size, err)
			}
			if i == size {
				continue
			}
			p, err := audit.ProveInclusion(ctx, m, size, i)
			if err != nil {
				t.Fatal(err)
			}
			if err := heads[size].CheckInclusion(p, entries[i]); err != nil {
				t.Fatalf("%d in %d: %v", i, size, err)
			}
			data, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			var again audit.Inclusion
			if err := json.Unmarshal(data, &again); err != nil || heads[size].CheckInclusion(again, entries[i]) != nil {
				t.Fatalf("%d in %d through JSON: %v", i, size, err)
			}
		}
	}
}

func TestEntriesRange(t *testing.T) {
	m, head := newLog(t, 1300)
	c := audittest.Client(t, m)
	entries := audittest.Entries(t, 0, 1300)
	for _, r := range [][2]int64{{0, 0}, {0, 1}, {255, 257}, {256, 512}, {1279, 1281}, {1299, 1300}, {1300, 1300}, {17, 1201}} {
		next := r[0]
		for e, err := range c.Entries(t.Context(), head, r[0], r[1]) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Index != next || !bytes.Equal(e.Data, entries[next]) {
				t.Fatalf("%v: entry %d", r, e.Index)
			}
			if _, err := e.Entry(); err != nil {
				t.Fatal(err)
			}
			next++
		}
		if next != r[1] {
			t.Errorf("%v: ended at %d", r, next)
		}
	}
	for _, r := range [][2]int64{{-1, 0}, {2, 1}, {0, 1301}, {0, 1<<63 - 1}} {
		n := 0
		for _, err := range c.Entries(t.Context(), head, r[0], r[1]) {
			wantErr(t, "bad range", err, audit.ErrLimit)
			n++
		}
		if n != 1 {
			t.Errorf("%v: %d results", r, n)
		}
	}
}

// A reader who stops early leaves no fetch behind, and none starts later.
func TestEntriesStopsEarly(t *testing.T) {
	m, head := newLog(t, 20_000)
	c := audittest.Client(t, m)
	var running, count atomic.Int64
	inner := c.Fetch
	c.Fetch = func(ctx context.Context, path string) ([]byte, error) {
		running.Add(1)
		defer running.Add(-1)
		count.Add(1)
		return inner(ctx, path)
	}
	for e, err := range c.Entries(t.Context(), head, 0, head.Size()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Index == 300 {
			break
		}
	}
	if running.Load() != 0 || count.Load() > 20 {
		t.Errorf("%d fetches run, %d were made", running.Load(), count.Load())
	}
}

// A log may drop partial tiles once the full ones exist.
func TestClientFallsBackToFullTiles(t *testing.T) {
	m, head := newLog(t, 300)
	if _, err := audittest.Append(t.Context(), m, audittest.Entries(t, 300, 70_000)...); err != nil {
		t.Fatal(err)
	}
	c := audittest.Client(t, m)
	inner := c.Fetch
	c.Fetch = func(ctx context.Context, path string) ([]byte, error) {
		if strings.HasPrefix(path, "tile/0/001.p/") || strings.HasPrefix(path, "tile/entries/001.p/") {
			return nil, fs.ErrNotExist
		}
		return inner(ctx, path)
	}
	if err := c.Fsck(t.Context(), head); err != nil {
		t.Error(err)
	}
	n := 0
	for _, err := range c.Entries(t.Context(), head, 0, 300) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 300 {
		t.Errorf("%d entries", n)
	}
	if _, err := c.Update(t.Context(), head); err != nil {
		t.Error(err)
	}
}

func TestClientPassesFetchErrors(t *testing.T) {
	m, head := newLog(t, 2000)
	c := audittest.Client(t, m)
	down := errors.New("network is down")
	inner := c.Fetch
	for _, prefix := range []string{"tile/entries/003", "tile/0/003", "tile/1/"} {
		c.Fetch = func(ctx context.Context, path string) ([]byte, error) {
			if strings.HasPrefix(path, prefix) {
				return nil, down
			}
			return inner(ctx, path)
		}
		err := c.Fsck(t.Context(), head)
		wantErr(t, prefix, err, down)
		if errors.Is(err, audit.ErrInconsistent) {
			t.Errorf("%s: a failed fetch is reported as a dishonest log", prefix)
		}
	}
}

func TestPaths(t *testing.T) {
	for path, tile := range map[string]tlog.Tile{
		"tile/0/000":                {H: 8, L: 0, N: 0, W: 256},
		"tile/0/x001/067":           {H: 8, L: 0, N: 1067, W: 256},
		"tile/5/000.p/255":          {H: 8, L: 5, N: 0, W: 255},
		"tile/2/x001/x234/067.p/1":  {H: 8, L: 2, N: 1234067, W: 1},
		"tile/entries/x999/999.p/8": {H: 8, L: -1, N: 999999, W: 8},
	} {
		if got := audit.TilePath(tile); got != path {
			t.Errorf("TilePath(%v) = %s, want %s", tile, got, path)
		}
		if got, err := audit.ParseTilePath(path); err != nil || got != tile {
			t.Errorf("ParseTilePath(%s) = %v, %v", path, got, err)
		}
	}
	for _, path := range []string{
		"", "checkpoint", "tile", "tile/", "tile/0", "tile/0/", "/tile/0/000", "tile/0/000/", "tile/00/000", "tile/+0/000",
		"tile/-1/000", "tile/6/000", "tile/data/000", "tile/8/0/000", "tile/0/0", "tile/0/0000", "tile/0/x000/000", "tile/0/001/067",
		"tile/0/x001/x067", "tile/0/x1/067", "tile/0/+01", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/",
		"tile/0/000.p/-1", "tile/0/000.p/1/2", "tile/0/000.p/1.p/1", "tile/5/001", "tile/0/../000", "tile/entries/../../etc/passwd",
		"tile/0/x999/x999/x999/x999/x999/x999/999", "tile/0/x001/x099/x511/x627/776", "tile/0/000\n", "TILE/0/000",
		"tile/0/" + strings.Repeat("x000/", 1000) + "000",
	} {
		if got, err := audit.ParseTilePath(path); !errors.Is(err, audit.ErrMalformed) {
			t.Errorf("ParseTilePath(%.40q) = %v, %v", path, got, err)
		}
	}
	for _, tile := range []tlog.Tile{{}, {H: 8, W: 257}, {H: 8, W: 1, N: -1}, {H: 8, W: 1, L: 6}, {H: 8, W: 1, L: -2}, {H: 7, W: 1}, {H: 8, W: 1, N: 1 << 40}} {
		if got := audit.TilePath(tile); got != "" {
			t.Errorf("TilePath(%v) = %s", tile, got)
		}
	}
}
