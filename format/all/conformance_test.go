package all

import (
	"encoding/binary"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// smallImage is a PE32+ image of 1 KiB: headers and one section of code.
func smallImage(code byte) []byte {
	b := make([]byte, 1024)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 64)
	copy(b[64:], "PE\x00\x00")
	coff := b[68:]
	le.PutUint16(coff, 0x8664)    // x86-64
	le.PutUint16(coff[2:], 1)     // sections
	le.PutUint16(coff[16:], 240)  // size of the optional header
	le.PutUint16(coff[18:], 0x22) // executable, large addresses
	opt := b[88:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[4:], 512)     // size of code
	le.PutUint32(opt[16:], 0x1000) // entry point
	le.PutUint32(opt[20:], 0x1000) // base of code
	le.PutUint64(opt[24:], 0x140000000)
	le.PutUint32(opt[32:], 0x1000) // section alignment
	le.PutUint32(opt[36:], 512)    // file alignment
	le.PutUint16(opt[40:], 6)
	le.PutUint16(opt[48:], 6)
	le.PutUint32(opt[56:], 0x2000) // size of the image
	le.PutUint32(opt[60:], 512)    // size of headers
	le.PutUint16(opt[68:], 3)      // console
	le.PutUint32(opt[108:], 16)    // data directories
	sec := b[88+240:]
	copy(sec, ".text")
	le.PutUint32(sec[8:], 512)
	le.PutUint32(sec[12:], 0x1000)
	le.PutUint32(sec[16:], 512)
	le.PutUint32(sec[20:], 512)
	le.PutUint32(sec[36:], 0x60000020)
	b[512], b[513] = code, 0xc3
	return b
}

func TestPE(t *testing.T) {
	f, ok := ByName("pe")
	if !ok {
		t.Fatal("no pe")
	}
	formattest.Run(t, f, formattest.Case{
		Artifact: smallImage(0x90), Other: smallImage(0x91), Name: "small.exe",
		Params: format.Params{"description": "small"}, Signer: formattest.Identity(t, sigalg.P256),
		Refused: []format.Params{{"digest": "md5"}},
		// Facts are for readers. Of the body, what lies about the file's layout is refused by Attach, or
		// gives a file that Verify refuses.
		Unsigned: []string{"Body", "Facts"},
	})
}
