package pe

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// naiveChecksum is the algorithm as Windows has it: sum all words, take the stored
// field away, add the length.
func naiveChecksum(b []byte, at int64) uint32 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i])
		if i+1 < len(b) {
			w |= uint32(b[i+1]) << 8
		}
		sum += w
		sum = sum&0xffff + sum>>16
	}
	for _, field := range []uint32{uint32(le16(b[at:])), uint32(le16(b[at+2:]))} {
		if sum >= field {
			sum -= field
		} else {
			sum = (sum-field)&0xffff - 1
		}
	}
	return sum + uint32(len(b))
}

func TestChecksumIsWindowsOwn(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 3000 {
		b := make([]byte, 8+r.IntN(400))
		switch n % 3 {
		case 0:
			for i := range b {
				b[i] = byte(r.Uint32())
			}
		case 1: // carries everywhere
			for i := range b {
				b[i] = 0xff
			}
		case 2: // a sum that is a multiple of 2^16-1
			x := uint16(r.Uint32())
			binary.LittleEndian.PutUint16(b[4:], x)
			binary.LittleEndian.PutUint16(b[6:], ^x)
		}
		clear(b[:4]) // the field
		cut := 2 * r.IntN(len(b)/2)
		sum := fold(addWords(addWords(0, b[:cut]), b[cut:]))
		c := checksum(sum, int64(len(b)))
		binary.LittleEndian.PutUint32(b, c)
		if want := naiveChecksum(b, 0); c != want {
			t.Fatalf("%x: checksum %#x, Windows computes %#x", b, c, want)
		}
		if !checksumFits(c, sum, int64(len(b))) || checksumFits(c+2, sum, int64(len(b))) {
			t.Fatal("checksumFits is wrong")
		}
	}
}
