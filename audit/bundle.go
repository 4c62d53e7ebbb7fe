package audit

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Bundle is an entry bundle: entries Index*256 and following, W of them.
type Bundle struct {
	Index int64
	W     int
	Data  []byte
}

// AppendBundle appends an entry to a bundle's data (C2SP tlog-tiles: two bytes
// of length, big endian, before each). An empty entry and one above [MaxEntry]
// are refused.
func AppendBundle(data, entry []byte) ([]byte, error) {
	if len(entry) == 0 {
		return nil, fmt.Errorf("audit: bundle: empty entry: %w", ErrMalformed)
	}
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("audit: bundle: entry of %d bytes: %w", len(entry), ErrLimit)
	}
	data = binary.BigEndian.AppendUint16(data, uint16(len(entry)))
	return append(data, entry...), nil
}

// ParseBundle splits a bundle of exactly w entries. The entries are parts of data.
func ParseBundle(data []byte, w int) ([][]byte, error) {
	if w < 1 || w > TileWidth {
		return nil, fmt.Errorf("audit: bundle of %d entries: %w", w, ErrLimit)
	}
	entries := make([][]byte, 0, w)
	rest := data
	for range w {
		entry, after, err := cutEntry(rest)
		if err != nil {
			return nil, err
		}
		entries, rest = append(entries, entry), after
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("audit: bundle: more than %d entries: %w", w, ErrMalformed)
	}
	return entries, nil
}

func cutEntry(data []byte) (entry, rest []byte, err error) {
	if len(data) < 2 {
		return nil, nil, fmt.Errorf("audit: bundle: truncated: %w", ErrMalformed)
	}
	n := int(binary.BigEndian.Uint16(data))
	if n == 0 {
		return nil, nil, fmt.Errorf("audit: bundle: empty entry: %w", ErrMalformed)
	}
	if len(data) < 2+n {
		return nil, nil, fmt.Errorf("audit: bundle: truncated: %w", ErrMalformed)
	}
	return data[2 : 2+n : 2+n], data[2+n:], nil
}

// Narrow cuts the data of a tile or bundle that is at least as wide as t down
// to the width of t. A store may keep the widest form of each tile only and
// serve every narrower one with it.
func Narrow(t tlog.Tile, data []byte) ([]byte, error) {
	if err := checkTile(t); err != nil {
		return nil, err
	}
	if t.L >= 0 {
		n := t.W * tlog.HashSize
		if len(data) < n || len(data) > TileWidth*tlog.HashSize || len(data)%tlog.HashSize != 0 {
			return nil, fmt.Errorf("audit: tile of %d bytes for %d hashes: %w", len(data), t.W, ErrMalformed)
		}
		return data[:n:n], nil
	}
	rest := data
	for range t.W {
		var err error
		if _, rest, err = cutEntry(rest); err != nil {
			return nil, err
		}
	}
	n := len(data) - len(rest)
	return data[:n:n], nil
}
