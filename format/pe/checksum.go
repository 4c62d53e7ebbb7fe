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
	// Two sums, so that the processor need not wait for one carry after another.
	var carry, other, otherCarry uint64
	for len(b) >= 128 {
		p := (*[128]byte)(b)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[0:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[8:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[16:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[24:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[32:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[40:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[48:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(p[56:]), carry)
		other, otherCarry = bits.Add64(other, binary.LittleEndian.Uint64(p[64:]), otherCarry)
		other, otherCarry = bits.Add64(other, binary.LittleEndian.Uint64(p[72:]), otherCarry)
		other, otherCarry = bits.Add64(other, binary.LittleEndian.Uint64(p[80:]), otherCarry)
		other, otherCarry = bits.Add64(other, binary.LittleEndian.Uint64(p[88:]), otherCarry)
		other, otherCarry = bits.Add64(other, binary.LittleEndian.Uint64(p[96:]), otherCarry)
		other, otherCarry = bits.Add64(other, binary.LittleEndian.Uint64(p[104:]), otherCarry)
		other, otherCarry = bits.Add64(other, binary.LittleEndian.Uint64(p[112:]), otherCarry)
		other, otherCarry = bits.Add64(other, binary.LittleEndian.Uint64(p[120:]), otherCarry)
		b = b[128:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(tail[:]), carry)
	acc, carry = bits.Add64(acc, other, carry)
	acc, carry = bits.Add64(acc, otherCarry, carry)
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
