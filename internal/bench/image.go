package bench

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// Layout of the program that is made: headers, then one section to the end.
const (
	imageHeaders  = 0x400
	imageAlign    = 0x200
	imageMinimum  = imageHeaders + imageAlign
	optionalStart = 0x98
	optionalSize  = 0xf0
)

// imageHead is the head of a PE32+ program of size bytes, a multiple of 512
// ("PE Format", Microsoft).
func imageHead(size int64) []byte {
	b := make([]byte, imageHeaders)
	le := binary.LittleEndian
	raw := uint32(size - imageHeaders)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	coff := b[0x84:]
	le.PutUint16(coff, 0x8664) // machine
	le.PutUint16(coff[2:], 1)  // sections
	le.PutUint16(coff[16:], optionalSize)
	le.PutUint16(coff[18:], 0x22) // executable, large addresses
	o := b[optionalStart:]
	le.PutUint16(o, 0x20b)
	le.PutUint32(o[4:], raw)     // code
	le.PutUint32(o[16:], 0x1000) // entry point
	le.PutUint32(o[20:], 0x1000)
	le.PutUint64(o[24:], 0x140000000)
	le.PutUint32(o[32:], 0x1000)
	le.PutUint32(o[36:], imageAlign)
	le.PutUint16(o[40:], 6)
	le.PutUint16(o[48:], 6)
	pages := (raw + 0xfff) &^ 0xfff
	le.PutUint32(o[56:], 0x1000+pages)
	le.PutUint32(o[60:], imageHeaders)
	le.PutUint16(o[68:], 3) // console
	le.PutUint64(o[72:], 1<<20)
	le.PutUint64(o[80:], 1<<12)
	le.PutUint64(o[88:], 1<<20)
	le.PutUint64(o[96:], 1<<12)
	le.PutUint32(o[108:], 16)
	s := b[optionalStart+optionalSize:]
	copy(s, ".text")
	le.PutUint32(s[8:], raw)
	le.PutUint32(s[12:], 0x1000)
	le.PutUint32(s[16:], raw)
	le.PutUint32(s[20:], imageHeaders)
	le.PutUint32(s[36:], 0x60000020)
	return b
}

// smallImage is a program that seed tells apart from all others.
func smallImage(seed uint64) []byte {
	b := append(imageHead(imageMinimum), make([]byte, imageAlign)...)
	binary.LittleEndian.PutUint64(b[imageHeaders:], seed)
	return b
}

// writeImage writes a program of size bytes to path. Its bytes are the same every
// time, and no file system or processor can shorten them.
func writeImage(path string, size int64) error {
	if size < imageMinimum || size%imageAlign != 0 {
		return fmt.Errorf("bench: a program of %d bytes: want a multiple of %d", size, imageAlign)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.Write(imageHead(size)); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{'b', 'e', 'n', 'c', 'h'}), size-imageHeaders); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return f.Close()
}
