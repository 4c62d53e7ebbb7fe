package macho

import (
	"bytes"
	"fmt"
	"math"

	"github.com/greatseal-io/greatseal/format"
)

// Numbers of mach-o/loader.h.
const (
	magic32 = 0xfeedface
	magic64 = 0xfeedfacf

	cmdSegment       = 0x1
	cmdSegment64     = 0x19
	cmdCodeSignature = 0x1d
	cmdMinMacOS      = 0x24
	cmdMinIOS        = 0x25
	cmdMinTV         = 0x2f
	cmdMinWatch      = 0x30
	cmdBuildVersion  = 0x32

	typeExecute  = 2
	typeLibrary  = 6
	typeLinker   = 7
	typeBundle   = 8
	typeKext     = 11
	commandSize  = 16 // of LC_CODE_SIGNATURE
	zeroFill     = 1
	zeroFillBig  = 0xc
	zeroFillThrd = 0x12
)

// kinds are the types of file that can be signed.
var kinds = map[uint32]string{typeExecute: "program", typeLibrary: "library", typeLinker: "dynamic linker", typeBundle: "loadable bundle", typeKext: "kernel extension"}

// extent is a part of a slice.
type extent struct{ off, size int64 }

func (e extent) end() int64 { return e.off + e.size }

// head is what the header and the load commands of one slice say.
type head struct {
	raw       []byte // header and load commands
	wide      bool   // 64 bits
	cpu, sub  uint32
	kind      uint32
	size      int64    // of the slice
	text      extent   // __TEXT
	room      int64    // where the first section begins: load commands may grow up to there
	link      extent   // __LINKEDIT
	linkAt    int      // of its load command
	linkAddr  uint64   // where it is mapped
	addrs     []uint64 // where the other segments are
	signature extent   // zero where there is none
	sigAt     int      // of LC_CODE_SIGNATURE, 0 where there is none
	info      extent   // Info.plist in the program, zero where there is none
	sdk       uint32   // version of the SDK, 0 when unknown
}

func (h *head) headerSize() int {
	if h.wide {
		return 32
	}
	return 28
}

// end is where the slice ends but for its signature.
func (h *head) end() int64 {
	if h.sigAt != 0 {
		return h.signature.off
	}
	return h.link.end()
}

// parseHead reads the slice of size bytes at base.
func parseHead(a format.Artifact, base, size int64) (*head, error) {
	var b [32]byte
	if size < int64(len(b)) {
		return nil, fmt.Errorf("%w: too short", ErrNotMachO)
	}
	if err := format.ReadFull(a, b[:], base); err != nil {
		return nil, fmt.Errorf("macho: %w", err)
	}
	if !thin(b[:]) {
		return nil, fmt.Errorf("%w: magic number %x", ErrNotMachO, b[:4])
	}
	h := &head{wide: le.Uint32(b[:]) == magic64, cpu: le.Uint32(b[4:]), sub: le.Uint32(b[8:]), kind: le.Uint32(b[12:]), size: size, room: math.MaxInt64}
	count, length := le.Uint32(b[16:]), int64(le.Uint32(b[20:]))
	switch {
	case kinds[h.kind] == "":
		return nil, fmt.Errorf("macho: file of type %d: programs, libraries, bundles and kernel extensions can be signed", h.kind)
	case length > maxCommands || int64(h.headerSize())+length > size:
		return nil, malformed("%d bytes of load commands", length)
	}
	h.raw = make([]byte, int64(h.headerSize())+length)
	if err := format.ReadFull(a, h.raw, base); err != nil {
		return nil, fmt.Errorf("macho: %w", err)
	}
	if !bytes.Equal(h.raw[:h.headerSize()], b[:h.headerSize()]) {
		return nil, fmt.Errorf("%w: it changed while it was read", ErrChanged)
	}
	at := h.headerSize()
	for i := range count {
		rest := h.raw[at:]
		if len(rest) < 8 {
			return nil, malformed("%d load commands, and the bytes for %d", count, i)
		}
		n := le.Uint32(rest[4:])
		if n < 8 || n%4 != 0 || int64(n) > int64(len(rest)) {
			return nil, malformed("load command %d has %d bytes", i, n)
		}
		if err := h.command(at, rest[:n]); err != nil {
			return nil, err
		}
		at += int(n)
	}
	if at != len(h.raw) {
		return nil, malformed("%d bytes after the load commands", len(h.raw)-at)
	}
	return h, h.check()
}

func (h *head) command(at int, c []byte) error {
	switch cmd := le.Uint32(c); cmd {
	case cmdSegment, cmdSegment64:
		if (cmd == cmdSegment64) != h.wide {
			return malformed("segment of another width than the file")
		}
		return h.segment(at, c)
	case cmdCodeSignature:
		if h.sigAt != 0 || len(c) != commandSize {
			return malformed("LC_CODE_SIGNATURE stands twice, or has %d bytes", len(c))
		}
		h.sigAt, h.signature = at, extent{int64(le.Uint32(c[8:])), int64(le.Uint32(c[12:]))}
	case cmdBuildVersion, cmdMinMacOS, cmdMinIOS, cmdMinTV, cmdMinWatch:
		if len(c) < 16 || cmd == cmdBuildVersion && len(c) < 24 {
			return malformed("load command of a version is cut off")
		}
		lowest, sdk := le.Uint32(c[8:]), le.Uint32(c[12:])
		if cmd == cmdBuildVersion {
			lowest, sdk = sdk, le.Uint32(c[16:])
		}
		if sdk == 0 {
			sdk = lowest
		}
		if h.sdk == 0 {
			h.sdk = sdk
		}
	}
	return nil
}

// fields of a segment and of a section, by width.
type layout struct {
	segment, section int
	word             int
	addr, count      int // in a segment; count of sections
	sectSize, sectAt int
}

func (h *head) layout() layout {
	if h.wide {
		return layout{segment: 72, section: 80, word: 8, addr: 24, count: 64, sectSize: 40, sectAt: 48}
	}
	return layout{segment: 56, section: 68, word: 4, addr: 24, count: 48, sectSize: 36, sectAt: 40}
}

func (l layout) get(b []byte) uint64 {
	if l.word == 8 {
		return le.Uint64(b)
	}
	return uint64(le.Uint32(b))
}

func (l layout) put(b []byte, v uint64) {
	if l.word == 8 {
		le.PutUint64(b, v)
		return
	}
	le.PutUint32(b, uint32(v))
}

func (h *head) segment(at int, c []byte) error {
	l := h.layout()
	if len(c) < l.segment {
		return malformed("segment is cut off")
	}

	addr := l.get(c[l.addr:])
	off, size := l.get(c[l.addr+2*l.word:]), l.get(c[l.addr+3*l.word:])
	if off > uint64(h.size) || size > uint64(h.size)-off {
		return malformed("segment of %d bytes at %d in a slice of %d", size, off, h.size)
	}
	e := extent{int64(off), int64(size)}
	n := le.Uint32(c[l.count:])
	if uint64(len(c)) != uint64(l.segment)+uint64(n)*uint64(l.section) {
		return malformed("segment with %d sections has %d bytes", n, len(c))
	}
	switch cname(c[8:24]) {
	case "__LINKEDIT":
		if h.linkAt != 0 || n != 0 {
			return malformed("__LINKEDIT stands twice or has sections")
		}
		h.linkAt, h.link, h.linkAddr = at, e, addr
	case "__TEXT":
		h.text = e
		h.addrs = append(h.addrs, addr)
	default:
		h.addrs = append(h.addrs, addr)
	}
	for s := c[l.segment:]; len(s) > 0; s = s[l.section:] {
		where, length := int64(le.Uint32(s[l.sectAt:])), l.get(s[l.sectSize:])
		switch le.Uint32(s[l.sectAt+16:]) & 0xff {
		case zeroFill, zeroFillBig, zeroFillThrd:
			continue
		}
		if where == 0 || length == 0 || size == 0 {
			continue
		}
		if where > h.size || length > uint64(h.size-where) {
			return malformed("section of %d bytes at %d in a slice of %d", length, where, h.size)
		}
		h.room = min(h.room, where)
		if cname(s[16:32]) == "__TEXT" && cname(s[:16]) == "__info_plist" {
			h.info = extent{where, int64(length)}
		}
	}
	if e.off > 0 && e.size > 0 {
		h.room = min(h.room, e.off)
	}
	return nil
}

func cname(b []byte) string {
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		n = len(b)
	}
	return string(b[:n])
}

// check holds what both signing and verifying rely on: __LINKEDIT ends the slice,
// and a signature ends __LINKEDIT.
func (h *head) check() error {
	switch {
	case h.linkAt == 0:
		return malformed("no __LINKEDIT segment: there is no place for a signature")
	case h.link.end() != h.size:
		return malformed("%d bytes follow __LINKEDIT", h.size-h.link.end())
	case h.room < int64(len(h.raw)):
		return malformed("load commands overlap what follows them")
	case h.link.off < int64(len(h.raw)):
		return malformed("__LINKEDIT overlaps the load commands")
	case h.info.size > maxInfo:
		return malformed("Info.plist of %d bytes", h.info.size)
	}
	if h.sigAt != 0 && (h.signature.off < h.link.off || h.signature.end() != h.link.end() || h.signature.size == 0) {
		return malformed("signature of %d bytes at %d does not end __LINKEDIT, which ends at %d", h.signature.size, h.signature.off, h.link.end())
	}
	return nil
}

// architectures are the names that Apple's tools use.
func (h *head) architecture() string { return architecture(h.cpu, h.sub) }

func architecture(cpu, sub uint32) string {
	switch s := sub & 0xffffff; {
	case cpu == 0x7:
		return "i386"
	case cpu == 0x1000007 && s == 8:
		return "x86_64h"
	case cpu == 0x1000007:
		return "x86_64"
	case cpu == 0xc && s == 9:
		return "armv7"
	case cpu == 0xc && s == 11:
		return "armv7s"
	case cpu == 0xc && s == 12:
		return "armv7k"
	case cpu == 0x100000c && s == 2:
		return "arm64e"
	case cpu == 0x100000c:
		return "arm64"
	case cpu == 0x200000c:
		return "arm64_32"
	}
	return fmt.Sprintf("cpu %#x.%#x", cpu, sub)
}

// memoryPage is the unit in which __LINKEDIT is mapped.
func memoryPage(cpu uint32) uint64 {
	if cpu&0xff == 0xc { // ARM
		return 16384
	}
	return 4096
}

// withSignature returns the header and load commands of the slice once a signature
// of space bytes stands at off. The bytes that a new load command takes are zero in
// the file, which the caller checks.
func (h *head) withSignature(off, space int64) ([]byte, error) {
	if off+space > maxSize {
		return nil, malformed("slice of %d bytes", off+space)
	}
	for _, a := range h.addrs {
		if a > h.linkAddr && a-h.linkAddr < uint64(off+space-h.link.off) {
			return nil, malformed("__LINKEDIT would grow over a segment that is mapped behind it")
		}
	}
	b := bytes.Clone(h.raw)
	at := h.sigAt
	if at == 0 {
		if int64(len(b))+commandSize > h.room {
			return nil, ErrNoRoom
		}
		at = len(b)
		b = append(b, make([]byte, commandSize)...)
		le.PutUint32(b[16:], le.Uint32(b[16:])+1)
		le.PutUint32(b[20:], le.Uint32(b[20:])+commandSize)
	}
	for i, v := range []uint32{cmdCodeSignature, commandSize, uint32(off), uint32(space)} {
		le.PutUint32(b[at+4*i:], v)
	}
	h.resize(b, off+space)
	return b, nil
}

// withoutSignature returns the header and load commands without LC_CODE_SIGNATURE,
// as long as they were: zeros stand where they end.
func (h *head) withoutSignature() []byte {
	b := bytes.Clone(h.raw)
	copy(b[h.sigAt:], h.raw[h.sigAt+commandSize:])
	clear(b[len(b)-commandSize:])
	le.PutUint32(b[16:], le.Uint32(b[16:])-1)
	le.PutUint32(b[20:], le.Uint32(b[20:])-commandSize)
	at := h.linkAt
	if h.sigAt < at {
		at -= commandSize
	}
	h.resizeAt(b, at, h.signature.off)
	return b
}

// resize makes __LINKEDIT end at end, in the file and in memory.
func (h *head) resize(b []byte, end int64) { h.resizeAt(b, h.linkAt, end) }

func (h *head) resizeAt(b []byte, at int, end int64) {
	l, size := h.layout(), uint64(end-h.link.off)
	page := memoryPage(h.cpu)
	l.put(b[at+l.addr+l.word:], (size+page-1)/page*page)
	l.put(b[at+l.addr+3*l.word:], size)
}
