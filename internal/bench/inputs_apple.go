package bench

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// makeMachO writes a program for arm64 of one segment with one section, and an empty
// symbol table in __LINKEDIT ("loader.h").
func makeMachO(_ context.Context, path string, in input) error {
	const page, code, symbols = 16 << 10, 4096, 8
	size := uint64(in.bytes) &^ (page - 1)
	le := binary.LittleEndian
	segment := func(name string, address, memory, offset, length uint64, protection uint32, sections ...[]byte) []byte {
		body := bytes.Join(sections, nil)
		b := le.AppendUint32(le.AppendUint32(nil, 0x19), uint32(72+len(body)))
		b = append(b, name...)
		b = append(b, make([]byte, 16-len(name))...)
		for _, v := range []uint64{address, memory, offset, length} {
			b = le.AppendUint64(b, v)
		}
		for _, v := range []uint32{protection, protection, uint32(len(sections)), 0} {
			b = le.AppendUint32(b, v)
		}
		return append(b, body...)
	}
	const base = 1 << 32
	section := append([]byte("__text"), make([]byte, 10)...)
	section = append(append(section, "__TEXT"...), make([]byte, 10)...)
	section = le.AppendUint64(le.AppendUint64(section, base+code), size-code)
	for _, v := range []uint32{code, 2, 0, 0, 0x80000400, 0, 0, 0} {
		section = le.AppendUint32(section, v)
	}
	commands := [][]byte{
		segment("__PAGEZERO", 0, base, 0, 0, 0),
		segment("__TEXT", base, size, 0, size, 5, section),
		segment("__LINKEDIT", base+size, page, size, symbols, 1),
		le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, 0x80000028|24<<32), code), 0), // LC_MAIN
		le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, 2|24<<32), size), size|symbols<<32),
	}
	body := bytes.Join(commands, nil)
	var b []byte
	for _, v := range []uint32{0xfeedfacf, 0x0100000c, 0, 2, uint32(len(commands)), uint32(len(body)), 0x200085, 0} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, body...)
	return create(path, func(w *bufio.Writer) error {
		if _, err := w.Write(append(b, make([]byte, code-len(b))...)); err != nil {
			return err
		}
		if _, err := io.CopyN(w, noise(), int64(size-code)); err != nil {
			return err
		}
		_, err := w.Write([]byte(" \x00x\x00\x00\x00\x00\x00"))
		return err
	})
}

// makePkg writes an installer package of one file (the format of xar 1.6).
func makePkg(_ context.Context, path string, in input) error {
	h := sha256.New()
	if _, err := io.CopyN(h, noise(), in.bytes); err != nil {
		return err
	}
	text := fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xar>\n <toc>\n  <creation-time>2026-01-01T00:00:00</creation-time>\n"+
		"  <checksum style=\"sha1\">\n   <offset>0</offset>\n   <size>20</size>\n  </checksum>\n"+
		"  <file id=\"1\">\n   <data>\n    <length>%[1]d</length>\n    <offset>20</offset>\n    <size>%[1]d</size>\n    <encoding style=\"application/octet-stream\"/>\n"+
		"    <archived-checksum style=\"sha256\">%[2]x</archived-checksum>\n    <extracted-checksum style=\"sha256\">%[2]x</extracted-checksum>\n   </data>\n"+
		"   <type>file</type>\n   <name>Payload</name>\n  </file>\n </toc>\n</xar>\n", in.bytes, h.Sum(nil))
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	io.WriteString(z, text)
	if err := z.Close(); err != nil {
		return err
	}
	return create(path, func(w *bufio.Writer) error {
		be := binary.BigEndian
		b := append([]byte("xar!"), 0, 28, 0, 1)
		b = be.AppendUint64(be.AppendUint64(b, uint64(packed.Len())), uint64(len(text)))
		b = append(be.AppendUint32(b, 1), packed.Bytes()...)
		sum := sha1.Sum(packed.Bytes())
		if _, err := w.Write(append(b, sum[:]...)); err != nil {
			return err
		}
		_, err := io.CopyN(w, noise(), in.bytes)
		return err
	})
}
