package apk

import (
	"encoding/binary"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

var le = binary.LittleEndian

// The APK Signing Block: a size, pairs of length, identifier and value, the size
// again and the magic, right before the central directory.
const (
	blockMagic  = "APK Sig Block 42"
	blockFooter = 24
	maxBlock    = 16 << 20 // bytes

	idV2      = 0x7109871a
	idV3      = 0xf05368c0
	idV31     = 0x1b93ad61
	idPadding = 0x42726577
)

// pair is one value of a signing block.
type pair struct {
	id    uint32
	value []byte
}

// blockStart finds where the signing block before the directory starts: at the
// directory itself when there is none.
func blockStart(a format.Artifact, directory int64) (int64, error) {
	if directory < blockFooter+8 {
		return directory, nil
	}
	var foot [blockFooter]byte
	if err := format.ReadFull(a, foot[:], directory-blockFooter); err != nil {
		return 0, fmt.Errorf("apk: %w", err)
	}
	if string(foot[8:]) != blockMagic {
		return directory, nil
	}
	size := le.Uint64(foot[:])
	if size < blockFooter || size > maxBlock || int64(size)+8 > directory {
		return 0, malformed("signing block of %d bytes before the directory at %d", size, directory)
	}
	start := directory - int64(size) - 8
	var head [8]byte
	if err := format.ReadFull(a, head[:], start); err != nil {
		return 0, fmt.Errorf("apk: %w", err)
	}
	if le.Uint64(head[:]) != size {
		return 0, malformed("signing block's two sizes are %d and %d", le.Uint64(head[:]), size)
	}
	return start, nil
}

// parseBlock reads the pairs of a signing block, each identifier once.
func parseBlock(b []byte) ([]pair, error) {
	if len(b) < 8+blockFooter {
		return nil, malformed("signing block of %d bytes", len(b))
	}
	b = b[8 : len(b)-blockFooter]
	var out []pair
	for len(b) > 0 {
		if len(b) < 12 {
			return nil, malformed("signing block's last pair is cut off")
		}
		n := le.Uint64(b)
		if n < 4 || n > uint64(len(b)-8) {
			return nil, malformed("pair of %d bytes in the signing block", n)
		}
		p := pair{le.Uint32(b[8:]), b[12 : 8+n]}
		for _, q := range out {
			if q.id == p.id {
				return nil, malformed("pair %#x stands twice in the signing block", p.id)
			}
		}
		if len(out) == 64 {
			return nil, malformed("more than 64 pairs in the signing block")
		}
		if p.id == idPadding {
			for _, c := range p.value {
				if c != 0 {
					return nil, malformed("padding of the signing block holds something")
				}
			}
		}
		out = append(out, p)
		b = b[8+n:]
	}
	return out, nil
}

// encodeBlock writes a signing block.
func encodeBlock(pairs []pair) []byte {
	size := uint64(blockFooter)
	for _, p := range pairs {
		size += 12 + uint64(len(p.value))
	}
	b := le.AppendUint64(nil, size)
	for _, p := range pairs {
		b = le.AppendUint64(b, uint64(len(p.value))+4)
		b = le.AppendUint32(b, p.id)
		b = append(b, p.value...)
	}
	b = le.AppendUint64(b, size)
	return append(b, blockMagic...)
}

// find returns the value of an identifier, nil when it is not there.
func find(pairs []pair, id uint32) []byte {
	for _, p := range pairs {
		if p.id == id {
			return p.value
		}
	}
	return nil
}

// reader takes fields off the front of b; once one is missing, bad stays set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) u32() uint32 {
	if len(r.b) < 4 {
		r.b, r.bad = nil, true
		return 0
	}
	v := le.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// prefixed takes a field with its length in four bytes before it.
func (r *reader) prefixed() []byte {
	n := r.u32()
	if r.bad || uint64(n) > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// list takes a prefixed field of prefixed elements, at most limit.
func (r *reader) list(limit int) [][]byte {
	in := reader{b: r.prefixed()}
	var out [][]byte
	for len(in.b) > 0 && !in.bad {
		if len(out) == limit {
			in.bad = true
			break
		}
		out = append(out, in.prefixed())
	}
	r.bad = r.bad || in.bad
	return out
}

func (r *reader) end() bool { return !r.bad && len(r.b) == 0 }

// prefix writes fields, each after its length.
func prefix(fields ...[]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = le.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}
