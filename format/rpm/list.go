package rpm

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// Tags of the lists of files in a header: parallel arrays.
const (
	tagFileSizes     = 1028
	tagFileModes     = 1030
	tagFileDigests   = 1035
	tagFileLinks     = 1036
	tagFileUsers     = 1039
	tagFileGroups    = 1040
	tagDirIndexes    = 1116
	tagBaseNames     = 1117
	tagDirNames      = 1118
	tagLongFileSizes = 5008
	tagFileAlgorithm = 5011
)

// strings is the values of a string array.
func (h *header) strings(tag uint32) []string {
	e, ok := h.find(tag)
	if !ok || e.typ != typeStringArray {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(e.data), "\x00"), "\x00")
}

// numbers is the values of an array of integers of 16, 32 or 64 bits.
func (h *header) numbers(tag uint32) (out []uint64) {
	e, ok := h.find(tag)
	if !ok {
		return nil
	}
	be := binary.BigEndian
	for b := e.data; len(b) > 0; {
		switch e.typ {
		case typeInt16:
			out, b = append(out, uint64(be.Uint16(b))), b[2:]
		case typeInt32:
			out, b = append(out, uint64(be.Uint32(b))), b[4:]
		case typeInt64:
			out, b = append(out, be.Uint64(b)), b[8:]
		default:
			return nil
		}
	}
	return out
}

// List lists the files of the package as its header has them: names, sizes, modes,
// owners, links, and digests where they are SHA-256. rpm unpacks no file that differs.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	hd, err := readHead(ctx, a)
	if err != nil {
		return err
	}
	h := hd.main
	bases, dirs, indexes := h.strings(tagBaseNames), h.strings(tagDirNames), h.numbers(tagDirIndexes)
	sizes := h.numbers(tagLongFileSizes)
	if sizes == nil {
		sizes = h.numbers(tagFileSizes)
	}
	if len(indexes) != len(bases) || len(sizes) != len(bases) {
		return errors.New("rpm: lists of files are not of one length")
	}
	algorithm, _ := h.number(tagFileAlgorithm)
	digests, links, users, groups, modes := h.strings(tagFileDigests), h.strings(tagFileLinks), h.strings(tagFileUsers), h.strings(tagFileGroups), h.numbers(tagFileModes)
	for i, base := range bases {
		if indexes[i] >= uint64(len(dirs)) || sizes[i] > 1<<62 {
			return fmt.Errorf("rpm: file %d lies in no folder, or is too large", i)
		}
		e := format.Entry{Name: dirs[indexes[i]] + base, Size: int64(sizes[i])}
		if algorithm == 8 && len(digests) == len(bases) && digests[i] != "" {
			d, err := hex.DecodeString(digests[i])
			if err != nil || len(d) != 32 {
				return fmt.Errorf("rpm: digest of file %d is not SHA-256", i)
			}
			e.Digest = d
		}
		fact := func(name, value string) {
			if value != "" {
				e.Facts = append(e.Facts, format.Fact{Name: name, Value: printable(value)})
			}
		}
		if len(modes) == len(bases) {
			fact("mode", fmt.Sprintf("%06o", modes[i]))
		}
		for _, l := range []struct {
			name   string
			values []string
		}{{"user", users}, {"group", groups}, {"link", links}} {
			if len(l.values) == len(bases) {
				fact(l.name, l.values[i])
			}
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}
