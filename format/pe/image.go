package pe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

const (
	dosHeaderSize  = 64
	coffHeaderSize = 24 // with the "PE\0\0" before it
	sectionSize    = 40
	magicPE32      = 0x10b
	magicPE32Plus  = 0x20b
	flagDLL        = 0x2000
)

// image is what the headers say, and what they are.
type image struct {
	size            int64
	magic           uint16
	machine         uint16
	subsystem       uint16
	dll             bool
	alignment       uint32 // of sections in memory
	checksumAt      int64
	directoryAt     int64 // of the certificate table's entry in the data directories
	checksum        uint32
	tableAt         int64 // 0 when there is no certificate table
	tableSize       int64
	head            []byte      // SizeOfHeaders bytes from the file's start
	sections        []section   // in the order of the table
	resources       uint32      // RVA of the resource directory, 0 when there is none
	directories     []byte      // of the data
	characteristics uint16      // of a library: what the loader may do with the image
	placeless       bool        // a section has a size and no place in the file
	seen            []piece     // what was read of sections' raw data, and is shown
	parts           []imagePart // of a unified kernel image that is read, else nil
}

// piece is some bytes of the file.
type piece struct {
	off int64
	b   []byte
}

type section struct {
	name             string
	rva, virtualSize uint32
	offset, size     uint32 // of the raw data; size 0 when the file holds none
}

// span is a range of the file: raw data of a section.
type span struct {
	Offset uint32 `cbor:"1,keyasint"`
	Size   uint32 `cbor:"2,keyasint"`
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// readFull reads all of b at off. A file that ends before is malformed.
func readFull(a io.ReaderAt, b []byte, off int64) error {
	n, err := a.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return malformed("file ends within %d bytes at offset %d", len(b), off)
	}
	return fmt.Errorf("pe: read: %w", err)
}

// parseImage reads the headers and refuses what Windows, firmware and other
// signers would read in different ways.
func parseImage(a format.Artifact) (*image, error) {
	im := &image{size: a.Size()}
	if im.size > maxSize {
		return nil, malformed("%d bytes: a PE image has at most %d", im.size, int64(maxSize))
	}
	var dos [dosHeaderSize]byte
	if err := readFull(a, dos[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPE, err)
	}
	if dos[0] != 'M' || dos[1] != 'Z' {
		return nil, ErrNotPE
	}
	at := int64(le32(dos[0x3c:]))
	switch {
	case at < dosHeaderSize:
		return nil, malformed("PE header at offset %d lies within the DOS header", at)
	case at%4 != 0:
		return nil, malformed("PE header at offset %d: want a multiple of 4", at)
	case at > maxHead-coffHeaderSize:
		return nil, malformed("PE header at offset %d: want at most %d", at, maxHead-coffHeaderSize)
	}
	var coff [coffHeaderSize]byte
	if err := readFull(a, coff[:], at); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPE, err)
	}
	if string(coff[:4]) != "PE\x00\x00" {
		return nil, ErrNotPE
	}
	im.machine, im.dll = le16(coff[4:]), le16(coff[22:])&flagDLL != 0
	sections, optSize := int(le16(coff[6:])), int(le16(coff[20:]))
	if sections > maxSections {
		return nil, malformed("%d sections: at most %d", sections, maxSections)
	}
	opt := make([]byte, optSize)
	if err := readFull(a, opt, at+coffHeaderSize); err != nil {
		return nil, err
	}
	if err := im.optional(opt, at+coffHeaderSize); err != nil {
		return nil, err
	}
	headers := int64(0)
	if len(opt) >= 64 {
		headers = int64(le32(opt[60:]))
	}
	tableEnd := at + coffHeaderSize + int64(optSize) + int64(sections)*sectionSize
	switch {
	case headers < tableEnd:
		return nil, malformed("SizeOfHeaders is %d, but the headers have %d bytes", headers, tableEnd)
	case headers > maxHead:
		return nil, malformed("SizeOfHeaders is %d: at most %d", headers, maxHead)
	case headers > im.end():
		return nil, malformed("SizeOfHeaders is %d in a file of %d bytes", headers, im.end())
	}
	im.head = make([]byte, headers)
	if err := readFull(a, im.head, 0); err != nil {
		return nil, err
	}
	// What was judged above must be what is hashed.
	if !bytes.Equal(im.head[:dosHeaderSize], dos[:]) || !bytes.Equal(im.head[at:at+coffHeaderSize], coff[:]) ||
		!bytes.Equal(im.head[at+coffHeaderSize:][:optSize], opt) {
		return nil, fmt.Errorf("%w: it changed while it was read", ErrChanged)
	}
	for i := range sections {
		s := im.head[tableEnd-int64(sections-i)*sectionSize:]
		im.sections = append(im.sections, section{
			name:        strings.TrimRight(string(s[:8]), "\x00"),
			virtualSize: le32(s[8:]), rva: le32(s[12:]), size: le32(s[16:]), offset: le32(s[20:]),
		})
	}
	return im, im.checkSections()
}

// optional reads the optional header, which stands at offset at.
func (im *image) optional(opt []byte, at int64) error {
	if len(opt) < 2 {
		return malformed("no optional header: an object file, not an image")
	}
	im.magic = le16(opt)
	directories := 96 // offset of the data directories
	switch im.magic {
	case magicPE32:
	case magicPE32Plus:
		directories = 112
	default:
		return malformed("optional header of unknown kind %#x", im.magic)
	}
	if len(opt) < directories {
		return malformed("optional header of %d bytes: want at least %d", len(opt), directories)
	}
	n := le32(opt[directories-4:])
	switch {
	case n < 5:
		return malformed("%d data directories: there is no place for a certificate table (want 5 or more)", n)
	case n > 16:
		return malformed("%d data directories: at most 16", n)
	case len(opt) < directories+8*int(n):
		return malformed("optional header of %d bytes cannot hold %d data directories", len(opt), n)
	}
	im.alignment = le32(opt[32:])
	im.checksum, im.checksumAt = le32(opt[64:]), at+64
	im.subsystem = le16(opt[68:])
	im.resources = le32(opt[directories+2*8:])
	im.characteristics, im.directories = le16(opt[70:]), opt[directories:][:8*n]
	im.directoryAt = at + int64(directories) + 4*8
	entry := opt[directories+4*8:]
	im.tableAt, im.tableSize = int64(le32(entry)), int64(le32(entry[4:]))
	switch end := im.tableAt + im.tableSize; {
	case im.tableAt == 0 && im.tableSize == 0:
	case im.tableAt == 0 || im.tableSize == 0:
		return malformed("certificate table of %d bytes at offset %d: both or neither must be 0", im.tableSize, im.tableAt)
	case im.tableAt%8 != 0 || im.tableSize%8 != 0:
		return malformed("certificate table of %d bytes at offset %d: want multiples of 8", im.tableSize, im.tableAt)
	case im.tableSize > maxTable:
		return malformed("certificate table of %d bytes: at most %d", im.tableSize, maxTable)
	case end > im.size:
		return malformed("certificate table ends at %d in a file of %d bytes", end, im.size)
	case end < im.size:
		return malformed("%d bytes after the certificate table, which no signature covers", im.size-end)
	}
	return nil
}

// end is where the signed part ends, before padding.
func (im *image) end() int64 {
	if im.tableSize > 0 {
		return im.tableAt
	}
	return im.size
}

func (im *image) efi() bool { return im.subsystem >= 10 && im.subsystem <= 13 }

// checkSections refuses raw data beyond the file, over the headers and over one
// another, and gaps where firmware would hash other bytes than Windows.
func (im *image) checkSections() error {
	for i, s := range im.sections {
		switch {
		case s.size == 0:
		case s.offset == 0 && im.efi():
			return malformed("section %d has %d bytes and no place in the file", i+1, s.size)
		case s.offset == 0: // old linkers write the size of uninitialised data here
			im.sections[i].size, im.placeless = 0, true
		case int64(s.offset)+int64(s.size) > im.end():
			return malformed("section %d ends at %d, beyond the %d bytes that can be signed", i+1, int64(s.offset)+int64(s.size), im.end())
		}
	}
	last := int64(len(im.head))
	for _, s := range im.spans() {
		switch {
		case int64(s.Offset) < last:
			return malformed("raw data at offset %d overlaps what ends at %d", s.Offset, last)
		case int64(s.Offset) > last && im.efi():
			return malformed("%d bytes at offset %d are in no section: firmware would not hash them", int64(s.Offset)-last, last)
		}
		last = int64(s.Offset) + int64(s.Size)
	}
	return nil
}

// spans are the sections' raw data in the order of the file.
func (im *image) spans() []span {
	out := []span{}
	for _, s := range im.sections {
		if s.size > 0 {
			out = append(out, span{s.offset, s.size})
		}
	}
	slices.SortFunc(out, func(a, b span) int { return int(int64(a.Offset) - int64(b.Offset)) })
	return out
}

// inOrder reports whether the section table lists raw data in file order.
func (im *image) inOrder() bool {
	last := uint32(0)
	for _, s := range im.sections {
		if s.size > 0 {
			if s.offset < last {
				return false
			}
			last = s.offset
		}
	}
	return true
}

// kindFacts say for people what an image is.
func kindFacts(magic, machine, subsystem uint16, dll bool) []format.Fact {
	return []format.Fact{
		{Name: "kind", Value: kindText(magic, machine, subsystem, dll)},
		{Name: "machine", Value: machineText(machine)},
		{Name: "subsystem", Value: subsystemText(subsystem)},
	}
}

func kindText(magic, machine, subsystem uint16, dll bool) string {
	k, what := "PE32", "executable"
	if magic == magicPE32Plus {
		k = "PE32+"
	}
	if dll {
		what = "library (DLL)"
	}
	return k + " " + what + ", " + machineText(machine) + ", " + subsystemText(subsystem)
}

func machineText(m uint16) string {
	switch m {
	case 0x14c:
		return "x86"
	case 0x8664:
		return "x86-64"
	case 0xaa64:
		return "ARM64"
	case 0x1c0, 0x1c2, 0x1c4:
		return "ARM"
	case 0x200:
		return "IA-64"
	case 0xebc:
		return "EFI byte code"
	case 0x5032:
		return "RISC-V 32"
	case 0x5064:
		return "RISC-V 64"
	case 0x6264:
		return "LoongArch 64"
	}
	return fmt.Sprintf("machine %#x", m)
}

func subsystemText(s uint16) string {
	switch s {
	case 1:
		return "Windows native (driver)"
	case 2:
		return "Windows GUI"
	case 3:
		return "Windows console"
	case 9:
		return "Windows CE"
	case 10:
		return "EFI application"
	case 11:
		return "EFI boot service driver"
	case 12:
		return "EFI runtime driver"
	case 13:
		return "EFI ROM"
	case 14:
		return "Xbox"
	case 16:
		return "Windows boot application"
	}
	return fmt.Sprintf("subsystem %d", s)
}

// table reads the certificate table.
func (im *image) table(a format.Artifact) ([]byte, error) {
	b := make([]byte, im.tableSize)
	return b, readFull(a, b, im.tableAt)
}
