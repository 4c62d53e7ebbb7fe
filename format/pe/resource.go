package pe

import (
	"errors"
	"unicode/utf16"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

const (
	resourceVersion    = 16 // RT_VERSION
	maxResourceEntries = 4096
	maxVersionInfo     = 64 << 10
	maxVersionNodes    = 1024
	maxVersionText     = 512 // runes of one value
)

var errResource = errors.New("pe: malformed resource")

// versionFacts reads the strings of the VERSIONINFO resource that tell people
// what a program is. Resources that are absent or broken give none: they change
// nothing about what is signed.
func (im *image) versionFacts(a format.Artifact) []format.Fact {
	b, err := im.versionInfo(a)
	if err != nil || b == nil {
		return nil
	}
	strs, err := parseVersionInfo(b)
	if err != nil {
		return nil
	}
	var out []format.Fact
	for _, n := range versionNames {
		if v := strs[n.key]; v != "" {
			out = append(out, format.Fact{Name: n.fact, Value: v})
		}
	}
	return out
}

// versionInfo finds the first version resource in its first language: root
// directory, type 16, name, language, data.
func (im *image) versionInfo(a format.Artifact) ([]byte, error) {
	if im.resources == 0 {
		return nil, nil
	}
	off := uint32(0)
	for level := range 3 {
		var h [16]byte
		if err := im.readRVA(a, h[:], im.resources, off); err != nil {
			return nil, err
		}
		named, ids := int(le16(h[12:])), int(le16(h[14:]))
		if named+ids > maxResourceEntries || named+ids == 0 {
			return nil, errResource
		}
		entries := make([]byte, 8*(named+ids))
		if err := im.readRVA(a, entries, im.resources, off+16); err != nil {
			return nil, err
		}
		entry := entries[:8]
		if level == 0 {
			entry = nil
			for i := named; i < named+ids; i++ {
				if le32(entries[8*i:]) == resourceVersion {
					entry = entries[8*i : 8*i+8]
					break
				}
			}
			if entry == nil {
				return nil, nil
			}
		}
		to := le32(entry[4:])
		if down := to&(1<<31) != 0; down != (level < 2) {
			return nil, errResource
		}
		off = to &^ (1 << 31)
	}
	var data [16]byte
	if err := im.readRVA(a, data[:], im.resources, off); err != nil {
		return nil, err
	}
	size := le32(data[4:])
	if size == 0 || size > maxVersionInfo {
		return nil, errResource
	}
	b := make([]byte, size)
	return b, im.readRVA(a, b, le32(data[:]), 0)
}

// readRVA reads what is loaded off bytes after rva; it must lie in one section's
// raw data. The image keeps b: see scan.
func (im *image) readRVA(a format.Artifact, b []byte, rva, off uint32) error {
	at := int64(rva) + int64(off)
	for _, s := range im.sections {
		if at >= int64(s.rva) && at+int64(len(b)) <= int64(s.rva)+int64(s.size) {
			from := int64(s.offset) + at - int64(s.rva)
			if err := readFull(a, b, from); err != nil {
				return err
			}
			im.seen = append(im.seen, piece{from, b})
			return nil
		}
	}
	return errResource
}

// versionNode is one block of VS_VERSIONINFO: length, length of the value, type,
// name, value, children; all but the lengths aligned to 4.
type versionNode struct {
	key  string
	rest []byte // what follows the name, aligned
	val  int    // length of the value as stated: bytes, or words of text
}

// nextNode reads the block at the start of b and returns what follows it.
func nextNode(b []byte) (n versionNode, rest []byte, err error) {
	if len(b) < 6 {
		return n, nil, errResource
	}
	length := int(le16(b))
	if length < 6 || length > len(b) {
		return n, nil, errResource
	}
	block := b[:length]
	n.val = int(le16(b[2:]))
	at := 6
	for ; ; at += 2 {
		if at+2 > length {
			return n, nil, errResource
		}
		c := le16(block[at:])
		if c == 0 {
			break
		}
		if c >= 0x80 || len(n.key) > 64 {
			return n, nil, errResource
		}
		n.key += string(rune(c))
	}
	at = min((at+2+3)&^3, length)
	n.rest = block[at:]
	return n, b[min((length+3)&^3, len(b)):], nil
}

// parseVersionInfo returns the strings of the first string table.
func parseVersionInfo(b []byte) (map[string]string, error) {
	root, _, err := nextNode(b)
	if err != nil || root.key != "VS_VERSION_INFO" || root.val > len(root.rest) {
		return nil, errResource
	}
	nodes := 0
	for rest := root.rest[min((root.val+3)&^3, len(root.rest)):]; len(rest) > 0; {
		var n versionNode
		if n, rest, err = nextNode(rest); err != nil {
			return nil, err
		}
		if nodes++; nodes > maxVersionNodes {
			return nil, errResource
		}
		if n.key != "StringFileInfo" {
			continue
		}
		table, _, err := nextNode(n.rest)
		if err != nil {
			return nil, err
		}
		out := map[string]string{}
		for strs := table.rest; len(strs) > 0; {
			var s versionNode
			if s, strs, err = nextNode(strs); err != nil {
				return nil, err
			}
			if nodes++; nodes > maxVersionNodes {
				return nil, errResource
			}
			if _, twice := out[s.key]; twice {
				return nil, errResource
			}
			out[s.key] = utf16Text(s.rest)
		}
		return out, nil
	}
	return nil, nil
}

// utf16Text reads UTF-16LE up to its first zero and replaces what could deceive
// somebody who reads it on a terminal.
func utf16Text(b []byte) string {
	var w []uint16
	for ; len(b) >= 2 && le16(b) != 0 && len(w) < maxVersionText; b = b[2:] {
		w = append(w, le16(b))
	}
	return authenticode.PlainText(string(utf16.Decode(w)))
}
