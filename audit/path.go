package audit

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// CheckpointPath is where a log publishes its signed head.
const CheckpointPath = "checkpoint"

// maxPath is longer than every path that TilePath can make.
const maxPath = 64

// checkTile refuses coordinates that no tree up to MaxSize has.
func checkTile(t tlog.Tile) error {
	level := max(t.L, 0) // bundles lie beside the tiles of level 0
	if t.H != TileHeight || t.L < -1 || t.L > MaxLevel || t.W < 1 || t.W > TileWidth ||
		t.N < 0 || t.N > MaxSize>>(TileHeight*(level+1)) {
		return fmt.Errorf("audit: tile of height %d, level %d, number %d, width %d: %w", t.H, t.L, t.N, t.W, ErrLimit)
	}
	return nil
}

// TilePath is the path of a tile, or with level -1 of an entry bundle:
// "tile/0/x001/067", "tile/0/x001/067.p/8", "tile/entries/000" (C2SP
// tlog-tiles). The tile must have height [TileHeight]; for coordinates outside
// any tree the path is empty.
func TilePath(t tlog.Tile) string {
	if checkTile(t) != nil {
		return ""
	}
	var b strings.Builder
	if t.L < 0 {
		b.WriteString("tile/entries/")
	} else {
		fmt.Fprintf(&b, "tile/%d/", t.L)
	}
	var groups []int64
	for n := t.N; ; n /= 1000 {
		groups = append(groups, n%1000)
		if n < 1000 {
			break
		}
	}
	for i := len(groups) - 1; i > 0; i-- {
		fmt.Fprintf(&b, "x%03d/", groups[i])
	}
	fmt.Fprintf(&b, "%03d", groups[0])
	if t.W < TileWidth {
		fmt.Fprintf(&b, ".p/%d", t.W)
	}
	return b.String()
}

// BundlePath is the path of the entry bundle that holds entries index*256 and
// following, w of them.
func BundlePath(index int64, w int) string { return TilePath(BundleTile(index, w)) }

// BundleTile names an entry bundle as a tile, at level -1 as sumdb/tlog does.
func BundleTile(index int64, w int) tlog.Tile {
	return tlog.Tile{H: TileHeight, L: -1, N: index, W: w}
}

// ParseTilePath is the inverse of [TilePath]; bundles have level -1.
func ParseTilePath(path string) (tlog.Tile, error) {
	bad := fmt.Errorf("audit: path %.80q: %w", path, ErrMalformed)
	if len(path) > maxPath {
		return tlog.Tile{}, bad
	}
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return tlog.Tile{}, bad
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return tlog.Tile{}, bad
	}
	t := tlog.Tile{H: TileHeight, L: -1, W: TileWidth}
	var err error
	if level != "entries" {
		if t.L, err = strconv.Atoi(level); err != nil || t.L < 0 {
			return tlog.Tile{}, bad
		}
	}
	number, width, partial := strings.Cut(rest, ".p/")
	if partial {
		if t.W, err = strconv.Atoi(width); err != nil || t.W >= TileWidth {
			return tlog.Tile{}, bad
		}
	}
	for g := range strings.SplitSeq(number, "/") {
		n, err := strconv.ParseUint(strings.TrimPrefix(g, "x"), 10, 16)
		if err != nil || n > 999 || t.N > MaxSize {
			return tlog.Tile{}, bad
		}
		t.N = t.N*1000 + int64(n)
	}
	// Signs, missing zeros, a missing x: whatever is not the only form.
	if TilePath(t) != path {
		return tlog.Tile{}, bad
	}
	return t, nil
}
