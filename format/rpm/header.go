package rpm

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Limits of headers. rpm's own are 64 MiB for signatures and 256 MiB for the rest;
// real ones have kilobytes, those of a package with 100 000 files some 30 MiB.
const (
	maxSignature = 1 << 20
	maxHeader    = 64 << 20
	maxEntries   = 65535
)

// The types of an entry.
const (
	typeInt16       = 3
	typeInt32       = 4
	typeInt64       = 5
	typeString      = 6
	typeBin         = 7
	typeStringArray = 8
	typeI18N        = 9
)

// Tags of the header that say something here.
const (
	tagRegionSig   = 62 // of the signature header
	tagRegion      = 63 // of the header: "immutable"
	tagName        = 1000
	tagVersion     = 1001
	tagRelease     = 1002
	tagEpoch       = 1003
	tagSummary     = 1004
	tagVendor      = 1011
	tagLicense     = 1014
	tagPackager    = 1015
	tagURL         = 1020
	tagArch        = 1022
	tagSource      = 1044
	tagDigest      = 5092 // of the payload, in hexadecimal
	tagDigestAlgo  = 5093
	tagDigestAlt   = 5097 // of the payload before it was compressed; rpm takes either
	introSize      = 16
	entrySize      = 16
	headerMagic    = "\x8e\xad\xe8\x01\x00\x00\x00\x00"
	leadSize       = 96
	leadMagic      = "\xed\xab\xee\xdb"
	leadSignatures = 5 // "header-style signature", the only kind that is left
)

// entry is one value of a header.
type entry struct {
	tag, typ, count uint32
	offset          int // into the data
	data            []byte
}

// header is a header structure: an index and the data that it points to.
type header struct {
	size    int64 // intro, index and data
	entries []entry
}

var errHeader = errors.New("rpm: header is malformed")

// intro reads how long a header is from its first 16 bytes.
func intro(b []byte, limit int64) (entries int, size int64, err error) {
	if len(b) < introSize || string(b[:8]) != headerMagic {
		return 0, 0, fmt.Errorf("%w: magic", errHeader)
	}
	il, dl := int64(binary.BigEndian.Uint32(b[8:])), int64(binary.BigEndian.Uint32(b[12:]))
	size = introSize + il*entrySize + dl
	if il < 1 || il > maxEntries || dl < entrySize || size > limit {
		return 0, 0, fmt.Errorf("%w: %d entries, %d bytes", errHeader, il, dl)
	}
	return int(il), size, nil
}

// parseHeader reads a header that is one region: everything lies under the region's
// trailer, entries follow one another in the data, and what is between them is the
// alignment. Entries outside of the region ("dribbles") would not be signed.
func parseHeader(b []byte, region uint32) (*header, error) {
	il, size, err := intro(b, maxHeader)
	if err != nil || size != int64(len(b)) {
		return nil, fmt.Errorf("%w: length", errHeader)
	}
	be := binary.BigEndian
	index, data := b[introSize:introSize+il*entrySize], b[introSize+il*entrySize:]
	h := &header{size: size}
	seen := make(map[uint32]bool, il)
	end := 0
	for i := range il {
		x := index[i*entrySize:]
		e := entry{tag: be.Uint32(x), typ: be.Uint32(x[4:]), offset: int(int32(be.Uint32(x[8:]))), count: be.Uint32(x[12:])}
		if i == 0 {
			want := entry{tag: region, typ: typeBin, count: entrySize, offset: len(data) - entrySize}
			trailer := be.AppendUint32(nil, region)
			trailer = be.AppendUint32(trailer, typeBin)
			trailer = be.AppendUint32(trailer, uint32(-int32(il*entrySize)))
			trailer = be.AppendUint32(trailer, entrySize)
			if e.tag != want.tag || e.typ != want.typ || e.count != want.count || e.offset != want.offset || !bytes.Equal(data[want.offset:], trailer) {
				return nil, fmt.Errorf("%w: it is not one region", errHeader)
			}
			continue
		}
		if e.tag < 100 || seen[e.tag] {
			return nil, fmt.Errorf("%w: tag %d twice or out of place", errHeader, e.tag)
		}
		seen[e.tag] = true
		begin := align(end, e.typ)
		if e.offset != begin || begin > len(data)-entrySize {
			return nil, fmt.Errorf("%w: tag %d does not follow the one before", errHeader, e.tag)
		}
		n, err := length(e, data[begin:len(data)-entrySize])
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(data[end:begin], func(c byte) bool { return c != 0 }) {
			return nil, fmt.Errorf("%w: bytes between entries", errHeader)
		}
		end = begin + n
		e.data = data[begin:end]
		h.entries = append(h.entries, e)
	}
	if end != len(data)-entrySize {
		return nil, fmt.Errorf("%w: data that no entry names", errHeader)
	}
	return h, nil
}

// align is the next offset at which a value of the type may begin.
func align(n int, typ uint32) int {
	switch typ {
	case typeInt16:
		return (n + 1) &^ 1
	case typeInt32:
		return (n + 3) &^ 3
	case typeInt64:
		return (n + 7) &^ 7
	}
	return n
}

// length is how many bytes of b the entry's value has.
func length(e entry, b []byte) (int, error) {
	n := int64(-1)
	switch e.typ {
	case 1, 2, typeBin:
		n = int64(e.count)
	case typeInt16:
		n = 2 * int64(e.count)
	case typeInt32:
		n = 4 * int64(e.count)
	case typeInt64:
		n = 8 * int64(e.count)
	case typeString, typeStringArray, typeI18N:
		if e.typ == typeString && e.count != 1 {
			break
		}
		n = 0
		for range e.count {
			i := bytes.IndexByte(b[n:], 0)
			if i < 0 {
				n = -1
				break
			}
			n += int64(i) + 1
		}
	}
	if n < 0 || n > int64(len(b)) || e.count == 0 {
		return 0, fmt.Errorf("%w: tag %d of type %d with %d values", errHeader, e.tag, e.typ, e.count)
	}
	return int(n), nil
}

// find returns the entry of a tag.
func (h *header) find(tag uint32) (entry, bool) {
	for _, e := range h.entries {
		if e.tag == tag {
			return e, true
		}
	}
	return entry{}, false
}

// text is the first string of a tag, or "".
func (h *header) text(tag uint32) string {
	e, ok := h.find(tag)
	if !ok || e.typ != typeString && e.typ != typeStringArray && e.typ != typeI18N {
		return ""
	}
	s, _, _ := bytes.Cut(e.data, []byte{0})
	return string(s)
}

// number is the first 32-bit value of a tag.
func (h *header) number(tag uint32) (uint32, bool) {
	e, ok := h.find(tag)
	if !ok || e.typ != typeInt32 {
		return 0, false
	}
	return binary.BigEndian.Uint32(e.data), true
}

// sorted are entries in the order of their tags, as rpm makes new headers.
func sorted(entries []entry) []entry {
	return slices.SortedStableFunc(slices.Values(entries), func(a, b entry) int { return cmp.Compare(a.tag, b.tag) })
}

// encode writes entries as a header of one region, in the order in which they are
// given: that of [parseHeader] gives back what was parsed. rpm writes them in that
// of their places, which need not be that of their tags.
func encode(region uint32, entries []entry) []byte {
	be := binary.BigEndian
	var index, data []byte
	add := func(tag, typ uint32, offset int, count uint32) {
		index = be.AppendUint32(index, tag)
		index = be.AppendUint32(index, typ)
		index = be.AppendUint32(index, uint32(int32(offset)))
		index = be.AppendUint32(index, count)
	}
	for _, e := range entries {
		data = append(data, make([]byte, align(len(data), e.typ)-len(data))...)
		add(e.tag, e.typ, len(data), e.count)
		data = append(data, e.data...)
	}
	rest := index
	index = nil
	add(region, typeBin, len(data), entrySize)
	n := len(rest) + entrySize
	data = be.AppendUint32(data, region)
	data = be.AppendUint32(data, typeBin)
	data = be.AppendUint32(data, uint32(-int32(n)))
	data = be.AppendUint32(data, entrySize)
	out := be.AppendUint32([]byte(headerMagic), uint32(n/entrySize))
	out = be.AppendUint32(out, uint32(len(data)))
	return append(append(append(out, index...), rest...), data...)
}
