package trial

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
)

const source = `package main

func main() { println("Hello from a program that was endorsed before it was signed.") }
`

// BuildProgram makes a real Windows program at path: cross-compiled where a Go
// toolchain is at hand, else the small one that Program carries. It says which.
func BuildProgram(ctx context.Context, path string) (how string, err error) {
	if goTool, lerr := exec.LookPath("go"); lerr == nil {
		dir, err := os.MkdirTemp("", "greatseal-program")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(dir)
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
			return "", err
		}
		c := exec.CommandContext(ctx, goTool, "build", "-trimpath", "-ldflags=-s -w", "-o", path, "main.go")
		c.Dir = dir
		c.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=", "GO111MODULE=off")
		if c.Run() == nil {
			return "cross-compiled", nil
		}
	}
	return "carried along", os.WriteFile(path, Program(), 0o755)
}

// Program is a whole Windows console program of 1 KiB (PE32+, x86-64) that does
// nothing and ends with code 0: a headers' page and one section of code.
func Program() []byte {
	const (
		peOffset, align, headers = 0x80, 0x200, 0x200
		optional                 = peOffset + 4 + 20
		directories              = optional + 112
		section                  = directories + 16*8
	)
	b := make([]byte, headers+align)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], peOffset)
	copy(b[peOffset:], "PE\x00\x00")
	le.PutUint16(b[peOffset+4:], 0x8664) // machine: x86-64
	le.PutUint16(b[peOffset+6:], 1)      // sections
	le.PutUint16(b[peOffset+20:], 112+16*8)
	le.PutUint16(b[peOffset+22:], 0x0022) // executable, large addresses
	o := b[optional:]
	le.PutUint16(o, 0x20b) // PE32+
	o[2] = 14
	le.PutUint32(o[4:], align)           // size of code
	le.PutUint32(o[16:], 0x1000)         // entry point
	le.PutUint32(o[20:], 0x1000)         // base of code
	le.PutUint64(o[24:], 0x14_0000_0000) // image base
	le.PutUint32(o[32:], 0x1000)         // section alignment
	le.PutUint32(o[36:], align)          // file alignment
	le.PutUint16(o[40:], 6)              // operating system 6.0
	le.PutUint16(o[48:], 6)              // subsystem 6.0
	le.PutUint32(o[56:], 0x2000)         // size of image
	le.PutUint32(o[60:], headers)        // size of headers
	le.PutUint16(o[68:], 3)              // console
	le.PutUint16(o[70:], 0x0100)         // compatible with data execution prevention
	le.PutUint64(o[72:], 0x100000)       // stack
	le.PutUint64(o[80:], 0x1000)
	le.PutUint64(o[88:], 0x100000) // heap
	le.PutUint64(o[96:], 0x1000)
	le.PutUint32(o[108:], 16) // directories
	s := b[section:]
	copy(s, ".text")
	le.PutUint32(s[8:], 3)       // virtual size
	le.PutUint32(s[12:], 0x1000) // virtual address
	le.PutUint32(s[16:], align)
	le.PutUint32(s[20:], headers)
	le.PutUint32(s[36:], 0x60000020)            // code, execute, read
	copy(b[headers:], []byte{0x31, 0xc0, 0xc3}) // xor eax, eax; ret
	return b
}
