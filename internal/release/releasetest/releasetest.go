// Package releasetest makes releases of Windows programs for tests: what they import and
// say of themselves is the caller's.
package releasetest

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// Hardened are the DLL characteristics of a program that has all of the usual ones:
// high-entropy addresses, address space layout, no execution of data, control flow guard.
const Hardened = 0x20 | 0x40 | 0x100 | 0x4000

// Program makes a PE32+ image with these DLL characteristics, imports
// (LIBRARY!function) and strings of its version resource: name, value, name, value.
func Program(characteristics uint16, imports, version []string) []byte {
	le := binary.LittleEndian
	const rva = 0x1000
	data := make([]byte, 0x3000)
	// Descriptors at 0, thunks at 0x400, names at 0xc00.
	thunk, name := 0x400, 0xc00
	put := func(s string) int {
		at := name
		copy(data[name+2:], s)
		name += (len(s) + 4) &^ 1
		return at
	}
	i, last := -1, ""
	for _, x := range imports {
		lib, fn, _ := strings.Cut(x, "!")
		if lib != last {
			i, last = i+1, lib
			thunk += 8
			at := put(lib)
			le.PutUint32(data[20*i:], uint32(rva+thunk))
			le.PutUint32(data[20*i+12:], uint32(rva+at+2))
			le.PutUint32(data[20*i+16:], uint32(rva+thunk))
		}
		le.PutUint64(data[thunk:], uint64(rva+put(fn)))
		thunk += 8
	}
	// The version resource at 0x2000: three levels of directories, then the strings.
	const res = 0x2000
	for level, id := range []uint32{16, 1, 1033} {
		at := res + 24*level
		le.PutUint16(data[at+14:], 1)
		le.PutUint32(data[at+16:], id)
		to := uint32(24*(level+1)) | 1<<31
		if level == 2 {
			to = 72
		}
		le.PutUint32(data[at+20:], to)
	}
	node := func(key string, val int, text string, children []byte) []byte {
		b := make([]byte, 6)
		for _, c := range utf16.Encode([]rune(key + "\x00")) {
			b = le.AppendUint16(b, c)
		}
		b = append(b, make([]byte, (4-len(b)%4)%4)...)
		if text != "" {
			for _, c := range utf16.Encode([]rune(text + "\x00")) {
				b = le.AppendUint16(b, c)
			}
			val = len(text) + 1
		}
		b = append(b, children...)
		le.PutUint16(b, uint16(len(b)))
		le.PutUint16(b[2:], uint16(val))
		return append(b, make([]byte, (4-len(b)%4)%4)...)
	}
	var strs []byte
	for k := 0; k+1 < len(version); k += 2 {
		strs = append(strs, node(version[k], 0, version[k+1], nil)...)
	}
	info := node("VS_VERSION_INFO", 0, "", node("StringFileInfo", 0, "", node("040904b0", 0, "", strs)))
	le.PutUint32(data[res+72:], rva+res+96)
	le.PutUint32(data[res+76:], uint32(len(info)))
	copy(data[res+96:], info)

	b := make([]byte, 0x200)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 64)
	copy(b[64:], "PE\x00\x00\x64\x86\x01\x00")
	le.PutUint16(b[64+20:], 240)
	le.PutUint16(b[64+22:], 0x22)
	o := b[64+24:]
	le.PutUint16(o, 0x20b)
	le.PutUint32(o[32:], 0x1000)
	le.PutUint32(o[36:], 0x200)
	le.PutUint32(o[56:], 0x5000)
	le.PutUint32(o[60:], 0x200)
	le.PutUint16(o[68:], 3)
	le.PutUint16(o[70:], characteristics)
	le.PutUint32(o[108:], 16)
	le.PutUint32(o[112+8:], rva)
	le.PutUint32(o[112+12:], 20*uint32(i+2))
	le.PutUint32(o[112+16:], rva+res)
	le.PutUint32(o[112+20:], 0x1000)
	s := o[240:]
	copy(s, ".data")
	le.PutUint32(s[8:], uint32(len(data)))
	le.PutUint32(s[12:], rva)
	le.PutUint32(s[16:], uint32(len(data)))
	le.PutUint32(s[20:], 0x200)
	return append(b, data...)
}
