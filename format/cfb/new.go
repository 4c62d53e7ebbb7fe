package cfb

import (
	"encoding/binary"
	"fmt"
)

// New returns a compound file whose root storage is empty, with sectors of 512 or
// 4 096 bytes: what Edit can put streams into.
func New(sectorSize int) ([]byte, error) {
	shift := map[int]uint16{512: 9, 4096: 12}[sectorSize]
	if shift == 0 {
		return nil, fmt.Errorf("cfb: sectors of %d bytes: want 512 or 4096", sectorSize)
	}
	le := binary.LittleEndian
	b := make([]byte, 3*sectorSize) // header, FAT, directory
	copy(b, Magic)
	le.PutUint16(b[0x18:], 0x3e)
	le.PutUint16(b[0x1a:], 3)
	le.PutUint16(b[0x1c:], 0xfffe)
	le.PutUint16(b[0x1e:], shift)
	le.PutUint16(b[0x20:], miniShift)
	le.PutUint32(b[0x2c:], 1)
	le.PutUint32(b[0x30:], 1)
	le.PutUint32(b[0x38:], miniCutoff)
	le.PutUint32(b[0x3c:], endOfChain)
	le.PutUint32(b[0x44:], endOfChain)
	for i := range headerSlots {
		le.PutUint32(b[0x4c+4*i:], freeSect)
	}
	le.PutUint32(b[0x4c:], 0)
	if shift == 12 {
		le.PutUint16(b[0x1a:], 4)
		le.PutUint32(b[0x28:], 1)
	}
	fat, dir := b[sectorSize:2*sectorSize], b[2*sectorSize:]
	for i := 0; i < len(fat); i += 4 {
		le.PutUint32(fat[i:], freeSect)
	}
	le.PutUint32(fat, fatSect)
	le.PutUint32(fat[4:], endOfChain)
	for i := 0; i < len(dir); i += entrySize {
		for _, at := range []int{0x44, 0x48, 0x4c} {
			le.PutUint32(dir[i+at:], noStream)
		}
	}
	name := Name("Root Entry")
	copy(dir, name)
	le.PutUint16(dir[0x40:], uint16(len(name)+2))
	dir[0x42], dir[0x43] = byte(Root), 1
	le.PutUint32(dir[0x74:], endOfChain)
	return b, nil
}
