package pe

import (
	"encoding/binary"
	"math/bits"
)

// The checksum of an image is the sum of its 16-bit little-endian words with the
// carry added back, and the file's length on top. Carries that are added back
// make it a sum modulo 2^16-1, which divides 2^64-1: words of 64 bits give the
// same sum four at a time, and the order does not matter.

// addWords adds b, which stands at an even offset, to acc. An odd last byte
// counts as a word with a zero after it.
func addWords(acc uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[0:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[8:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[16:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[24:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[32:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[40:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[48:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(tail[:]), carry)
	acc, carry = bits.Add64(acc, 0, carry)
	return acc + carry
}

// fold makes the 16-bit sum of acc.
func fold(acc uint64) uint16 {
	for acc>>16 != 0 {
		acc = acc&0xffff + acc>>16
	}
	return uint16(acc)
}

// checksum is the field's value for a file of size bytes whose words, with the
// field as zero, add up to sum.
//
// Windows sums the stored field too and subtracts it again, which turns a sum of
// 0xffff into 0: the value written is the one that Windows computes.
func checksum(sum uint16, size int64) uint32 {
	if sum == 0xffff {
		sum = 0
	}
	return uint32(sum) + uint32(size)
}

// checksumFits reports whether got is a checksum that honest signers write: those
// that never read the field back leave 0xffff.
func checksumFits(got uint32, sum uint16, size int64) bool {
	return got == checksum(sum, size) || got == uint32(sum)+uint32(size)
}
