package vbmeta

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
)

const maxDescriptors = 1024

// descriptor is one entry: what it says, for people.
type descriptor struct {
	name, value string
	hash        *hashed   // of a hash descriptor
	tree        *hashTree // of a hash tree descriptor
}

// parseDescriptors reads every descriptor to its last byte (avb_*_descriptor.h).
func parseDescriptors(b []byte) ([]descriptor, error) {
	var out []descriptor
	for len(b) > 0 {
		if len(b) < 16 || be64(b[8:]) > uint64(len(b)-16) || be64(b[8:])%8 != 0 {
			return nil, fmt.Errorf("%w: a descriptor is cut", ErrMalformed)
		}
		n := 16 + int(be64(b[8:]))
		d, err := parseDescriptor(be64(b), b[16:n])
		if err != nil {
			return nil, fmt.Errorf("%w: descriptor %d: %w", ErrMalformed, len(out), err)
		}
		if out = append(out, d); len(out) > maxDescriptors {
			return nil, fmt.Errorf("%w: more than %d descriptors", ErrMalformed, maxDescriptors)
		}
		b = b[n:]
	}
	return out, nil
}

// parts cuts b into pieces of the given lengths; zeros up to a multiple of eight
// of the whole descriptor may follow, nothing else.
func parts(b []byte, lengths ...uint64) ([][]byte, error) {
	var out [][]byte
	for _, n := range lengths {
		if n > uint64(len(b)) {
			return nil, fmt.Errorf("it is cut")
		}
		out, b = append(out, b[:n]), b[n:]
	}
	if len(b) > 7 || !zero(b) {
		return nil, fmt.Errorf("there are bytes behind it")
	}
	return out, nil
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// text is a C string in a field of fixed length.
func text(b []byte) string {
	s, rest, _ := bytes.Cut(b, []byte{0})
	if !zero(rest) {
		return "?"
	}
	return single.Text(s, 64)
}

func parseDescriptor(tag uint64, b []byte) (descriptor, error) {
	none := descriptor{}
	short := fmt.Errorf("it is cut")
	switch tag {
	case 0: // property: two lengths, key, NUL, value, NUL
		if len(b) < 16 {
			return none, short
		}
		p, err := parts(b[16:], be64(b), 1, be64(b[8:]), 1)
		if err != nil || !zero(p[1]) || !zero(p[3]) {
			return none, fmt.Errorf("property: %v", err)
		}
		return descriptor{name: "property", value: single.Text(p[0], 256) + "=" + single.Text(p[2], 1024)}, nil
	case 1: // hash tree
		if len(b) < 164 || !zero(b[104:164]) {
			return none, short
		}
		p, err := parts(b[164:], uint64(be32(b[88:])), uint64(be32(b[92:])), uint64(be32(b[96:])))
		if err != nil {
			return none, err
		}
		t := &hashTree{
			version: be32(b), size: be64(b[4:]), at: be64(b[12:]), bytes: be64(b[20:]), dataBlock: be32(b[28:]), hashBlock: be32(b[32:]),
			fecAt: be64(b[40:]), fec: be64(b[48:]), name: text(b[56:88]), salt: p[1], root: p[2],
		}
		value := fmt.Sprintf("%s: %d bytes, %s root %x, salt %x, flags %#x", single.Text(p[0], 128), t.size, t.name, t.root, t.salt, be32(b[100:]))
		return descriptor{name: "hashtree", tree: t, value: value}, nil
	case 2: // hash
		if len(b) < 116 || !zero(b[56:116]) {
			return none, short
		}
		p, err := parts(b[116:], uint64(be32(b[40:])), uint64(be32(b[44:])), uint64(be32(b[48:])))
		if err != nil {
			return none, err
		}
		h := &hashed{be64(b), text(b[8:40]), p[1], p[2]}
		return descriptor{name: "hash", hash: h, value: fmt.Sprintf("%s: %d bytes, %s %x, salt %x, flags %#x", single.Text(p[0], 128), be64(b), text(b[8:40]), p[2], p[1], be32(b[52:]))}, nil
	case 3: // kernel command line
		if len(b) < 8 {
			return none, short
		}
		p, err := parts(b[8:], uint64(be32(b[4:])))
		if err != nil {
			return none, err
		}
		return descriptor{name: "kernel-command-line", value: fmt.Sprintf("flags %#x: %s", be32(b), single.Text(p[0], 2048))}, nil
	case 4: // chained partition
		if len(b) < 76 || !zero(b[16:76]) {
			return none, short
		}
		p, err := parts(b[76:], uint64(be32(b[4:])), uint64(be32(b[8:])))
		if err != nil {
			return none, err
		}
		h := crypto.SHA256.New()
		h.Write(p[1])
		return descriptor{name: "chain", value: fmt.Sprintf("%s: rollback index location %d, key sha256 %x, flags %#x", single.Text(p[0], 128), be32(b), h.Sum(nil), be32(b[12:]))}, nil
	}
	return none, fmt.Errorf("kind %d", tag)
}

// facts are what the header and the descriptors say: all of it is signed.
func (im *image) facts() []format.Fact {
	flags := []string{}
	if im.flags()&1 != 0 {
		flags = append(flags, "hash trees disabled")
	}
	if im.flags()&2 != 0 {
		flags = append(flags, "verification disabled")
	}
	out := []format.Fact{
		{Name: "rollback-index", Value: strconv.FormatUint(im.rollbackIndex(), 10)},
		{Name: "rollback-index-location", Value: strconv.FormatUint(uint64(binary.BigEndian.Uint32(im.header[124:])), 10)},
	}
	if len(flags) > 0 {
		out = append(out, format.Fact{Name: "flags", Value: strings.Join(flags, ", ")})
	}
	if r := text(im.header[releaseAt:reservedAt]); r != "" {
		out = append(out, format.Fact{Name: "release", Value: r})
	}
	for i, d := range im.list {
		if len(out) == format.MaxFacts-1 && i < len(im.list)-1 {
			return append(out, format.Fact{Name: "more", Value: fmt.Sprintf("%d descriptors", len(im.list)-i)})
		}
		out = append(out, format.Fact{Name: d.name, Value: d.value})
	}
	return out
}
