package codesign

import (
	"bytes"
	"crypto"
	"math"
)

// Directory is a CodeDirectory.
type Directory struct {
	Raw        []byte // as it stands in the file, magic and length included
	Version    uint32
	Flags      uint32
	Type       byte        // of the hash, as the file has it
	Hash       crypto.Hash // 0 when no hash of this package's
	PageSize   int64       // 0: one hash over everything
	Limit      int64       // bytes that the slots cover
	Identifier string
	Team       string
	ExecBase   uint64 // place of __TEXT
	ExecLimit  uint64
	ExecFlags  uint64
	Runtime    uint32           // version of the hardened runtime: 0x000b0300 is 11.3
	Special    [maxSlots][]byte // digests by slot number less one; nil when zero
	Slots      []byte           // digests of the pages
}

// Versions of a CodeDirectory's layout, and the lengths of their headers.
const (
	versionTeam    = 0x20200
	versionLimit64 = 0x20300
	versionExec    = 0x20400
	versionRuntime = 0x20500

	headerMin     = 44
	headerScatter = 48
	headerTeam    = 52
	headerLimit64 = 64
	headerExec    = 88
	headerRuntime = 96
)

// head writes a directory up to its slots, with a header of version 0x20400, or 0x20500
// where the runtime is asked for, as codesign does. Slots may be many MiB, and stay
// where they are.
func (d *Directory) head() ([]byte, error) {
	t, err := hashType(d.Hash)
	if err != nil {
		return nil, err
	}
	size := d.Hash.Size()
	header, version := headerExec, uint32(versionExec)
	if d.Flags&FlagRuntime != 0 {
		header, version = headerRuntime, versionRuntime
	}
	special := 0
	for i, s := range d.Special {
		if s != nil {
			special = i + 1
		}
	}
	at := header
	identifier := at
	at += len(d.Identifier) + 1
	team := 0
	if d.Team != "" {
		team = at
		at += len(d.Team) + 1
	}
	hashes := at + special*size
	total := hashes + len(d.Slots)
	if total > MaxSize {
		return nil, malformed("CodeDirectory of %d bytes", total)
	}
	limit, limit64 := uint32(d.Limit), uint64(0)
	if d.Limit > math.MaxUint32 {
		limit, limit64 = math.MaxUint32, uint64(d.Limit)
	}
	shift := byte(0)
	for p := d.PageSize; p > 1; p >>= 1 {
		shift++
	}
	b := make([]byte, 0, hashes)
	for _, n := range []uint32{magicDirectory, uint32(total), version, d.Flags, uint32(hashes), uint32(identifier), uint32(special), uint32(len(d.Slots) / size), limit} {
		b = be.AppendUint32(b, n)
	}
	b = append(b, byte(size), t, 0, shift)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, 0) // no scatter
	b = be.AppendUint32(b, uint32(team))
	b = be.AppendUint32(b, 0)
	for _, n := range []uint64{limit64, d.ExecBase, d.ExecLimit, d.ExecFlags} {
		b = be.AppendUint64(b, n)
	}
	if header == headerRuntime {
		b = be.AppendUint32(b, d.Runtime)
		b = be.AppendUint32(b, 0)
	}
	b = append(append(b, d.Identifier...), 0)
	if d.Team != "" {
		b = append(append(b, d.Team...), 0)
	}
	for i := special - 1; i >= 0; i-- {
		if d.Special[i] == nil {
			b = append(b, make([]byte, size)...)
			continue
		}
		b = append(b, d.Special[i]...)
	}
	return b, nil
}

// parseDirectory reads the CodeDirectory of any version; b is the whole blob.
func parseDirectory(b []byte) (*Directory, error) {
	if len(b) < headerMin || be.Uint32(b) != magicDirectory {
		return nil, malformed("CodeDirectory is cut off or is none")
	}
	d := &Directory{Raw: b, Version: be.Uint32(b[8:]), Flags: be.Uint32(b[12:]), Type: b[37]}
	hashAt, identAt := int64(be.Uint32(b[16:])), int64(be.Uint32(b[20:]))
	special, code := int64(be.Uint32(b[24:])), int64(be.Uint32(b[28:]))
	d.Limit = int64(be.Uint32(b[32:]))
	size, shift := int64(b[36]), b[39]
	header := int64(headerMin)
	for _, v := range []struct {
		version uint32
		size    int64
	}{{0x20100, headerScatter}, {versionTeam, headerTeam}, {versionLimit64, headerLimit64}, {versionExec, headerExec}, {versionRuntime, headerRuntime}} {
		if d.Version >= v.version {
			header = v.size
		}
	}
	if int64(len(b)) < header || d.Version < 0x20000 || d.Version >= 0x30000 {
		return nil, malformed("CodeDirectory of version %#x in %d bytes", d.Version, len(b))
	}
	var want int64
	switch d.Type {
	case typeSHA1:
		want, d.Hash = 20, crypto.SHA1
	case typeSHA256:
		want, d.Hash = 32, crypto.SHA256
	case typeTruncated:
		want = 20
	case typeSHA384:
		want, d.Hash = 48, crypto.SHA384
	}
	switch {
	case size != want:
		return nil, malformed("hash of type %d with %d bytes", d.Type, size)
	case shift != 0 && (shift < 12 || shift > 24):
		return nil, malformed("pages of 2^%d bytes", shift)
	case header >= headerScatter && be.Uint32(b[44:]) != 0:
		return nil, malformed("scattered code")
	case special > maxSlots:
		return nil, malformed("%d special slots", special)
	case hashAt < header+special*size || hashAt > int64(len(b)) || code*size != int64(len(b))-hashAt:
		return nil, malformed("%d slots at %d do not end where the CodeDirectory does", code, hashAt)
	}
	if shift > 0 {
		d.PageSize = 1 << shift
	}
	if header >= headerLimit64 {
		if n := be.Uint64(b[56:]); n > math.MaxInt64 {
			return nil, malformed("code limit")
		} else if n != 0 {
			d.Limit = int64(n)
		}
	}
	if header >= headerExec {
		d.ExecBase, d.ExecLimit, d.ExecFlags = be.Uint64(b[64:]), be.Uint64(b[72:]), be.Uint64(b[80:])
	}
	if header >= headerRuntime {
		d.Runtime = be.Uint32(b[88:])
	}
	texts := b[:hashAt-special*size]
	var err error
	if d.Identifier, err = cstring(texts, header, identAt); err != nil {
		return nil, err
	}
	if header >= headerTeam {
		if at := int64(be.Uint32(b[48:])); at != 0 {
			if d.Team, err = cstring(texts, header, at); err != nil {
				return nil, err
			}
		}
	}
	for i := range special {
		s := b[hashAt-(i+1)*size:][:size]
		if !bytes.Equal(s, make([]byte, size)) {
			d.Special[i] = s
		}
	}
	d.Slots = b[hashAt:]
	if n := d.pages(); n != code {
		return nil, malformed("%d slots for %d pages", code, n)
	}
	return d, nil
}

// pages is how many slots Limit bytes have.
func (d *Directory) pages() int64 {
	if d.PageSize == 0 {
		return 1
	}
	return (d.Limit + d.PageSize - 1) / d.PageSize
}

func cstring(b []byte, from, at int64) (string, error) {
	if at < from || at >= int64(len(b)) {
		return "", malformed("a text of the CodeDirectory lies outside of it")
	}
	n := bytes.IndexByte(b[at:], 0)
	if n < 0 || n > maxText {
		return "", malformed("a text of the CodeDirectory does not end")
	}
	if s := string(b[at : at+int64(n)]); printable(s) {
		return s, nil
	}
	return "", malformed("a text of the CodeDirectory cannot be shown")
}
