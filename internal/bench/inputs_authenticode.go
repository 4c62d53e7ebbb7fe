package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"
)

// makeText writes many lines, which are a PowerShell script.
func makeText(_ context.Context, path string, in input) error {
	const line = "Write-Output \"a line of a script that says nothing\"\r\n"
	return create(path, func(w *bufio.Writer) error {
		_, err := w.WriteString(strings.Repeat(line, int(in.bytes)/len(line)))
		return err
	})
}

// makeCabinet writes a cabinet of one folder with one stored file, in blocks of
// 32 KiB without checksums ([MS-CAB]).
func makeCabinet(_ context.Context, path string, in input) error {
	const block = 32 << 10
	const start = int64(36 + 8 + 16 + len("file.bin\x00"))
	n := (in.bytes + block - 1) / block
	le := binary.LittleEndian
	return create(path, func(w *bufio.Writer) error {
		b := le.AppendUint64([]byte("MSCF\x00\x00\x00\x00"), uint64(start+n*(8+block)))
		b = le.AppendUint64(b, 36+8) // the file's entry
		b = append(b, 3, 1)
		for _, v := range []uint16{1, 1, 0, 1, 0} { // folders, files, flags, set, place in it
			b = le.AppendUint16(b, v)
		}
		b = le.AppendUint16(le.AppendUint16(le.AppendUint32(b, uint32(start)), uint16(n)), 0)
		b = le.AppendUint32(b, uint32(n*block))
		b = append(b, make([]byte, 10)...)
		b = append(b, "\x20\x00file.bin\x00"...)
		if _, err := w.Write(b); err != nil {
			return err
		}
		random := noise()
		for range n {
			if _, err := w.Write([]byte{0, 0, 0, 0, 0, block >> 8, 0, block >> 8}); err != nil {
				return err
			}
			if _, err := io.CopyN(w, random, block); err != nil {
				return err
			}
		}
		return nil
	})
}

// Marks in the allocation table of a compound file ([MS-CFB] section 2.1).
const (
	cfbDIFAT = 0xfffffffc
	cfbFAT   = 0xfffffffd
	cfbEnd   = 0xfffffffe
	cfbFree  = 0xffffffff
)

// makeInstaller writes an MSI database of a large and a small stream, in sectors of
// 4096 bytes: tables, directory, table and stream of small sectors, large stream.
// (osslsigncode takes no directory in the first sector, and relic no file without
// small sectors.)
func makeInstaller(_ context.Context, path string, in input) error {
	const sector, per, inHeader, smallSector = 4096, 1024, 109, 64
	data := (in.bytes + sector - 1) / sector
	fats, difats := int64(1), int64(0)
	for {
		f := (3 + fats + difats + data + per - 1) / per
		d := int64(0)
		if f > inHeader {
			d = (f - inHeader + per - 2) / (per - 1)
		}
		if f == fats && d == difats {
			break
		}
		fats, difats = f, d
	}
	first := 3 + fats + difats
	le := binary.LittleEndian
	return create(path, func(w *bufio.Writer) error {
		h := make([]byte, sector)
		copy(h, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
		for at, v := range map[int]uint16{24: 0x3e, 26: 4, 28: 0xfffe, 30: 12, 32: 6} {
			le.PutUint16(h[at:], v)
		}
		difat := uint32(cfbEnd)
		if difats > 0 {
			difat = uint32(fats)
		}
		for at, v := range map[int]uint32{40: 1, 44: uint32(fats), 48: uint32(first - 3), 56: 4096, 60: uint32(first - 2), 64: 1, 68: difat, 72: uint32(difats)} {
			le.PutUint32(h[at:], v)
		}
		for i := range inHeader {
			v := uint32(cfbFree)
			if int64(i) < fats {
				v = uint32(i)
			}
			le.PutUint32(h[76+4*i:], v)
		}
		dir := make([]byte, sector)
		entry := func(i int, name string, kind byte) []byte {
			e := dir[128*i:][:128]
			for j, u := range utf16.Encode([]rune(name)) {
				le.PutUint16(e[2*j:], u)
			}
			if name != "" {
				le.PutUint16(e[64:], uint16(2*len(utf16.Encode([]rune(name)))+2))
			}
			e[66] = kind
			e[67] = 1
			for at := 68; at < 80; at += 4 {
				le.PutUint32(e[at:], cfbFree)
			}
			return e
		}
		for i := 3; i < sector/128; i++ {
			entry(i, "", 0)[67] = 0
		}
		root := entry(0, "Root Entry", 5)
		le.PutUint32(root[76:], 1)
		copy(root[80:], "\x84\x10\x0c\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46")
		le.PutUint32(root[116:], uint32(first-1))
		le.PutUint64(root[120:], smallSector)
		e := entry(1, "Data.cab", 2)
		le.PutUint32(e[116:], uint32(first))
		le.PutUint64(e[120:], uint64(data*sector))
		le.PutUint32(e[68:], 2) // on its left
		e = entry(2, "Small", 2)
		e[67] = 0 // red
		le.PutUint64(e[120:], smallSector)
		if _, err := w.Write(h); err != nil {
			return err
		}
		for i := range fats * per {
			v := uint32(cfbFree)
			switch {
			case i >= first-3 && i < first || i == first+data-1:
				v = cfbEnd
			case i < fats:
				v = cfbFAT
			case i < first:
				v = cfbDIFAT
			case i < first+data:
				v = uint32(i + 1)
			}
			if err := binary.Write(w, le, v); err != nil {
				return err
			}
		}
		for i := range difats {
			for j := range int64(per - 1) {
				v := uint32(cfbFree)
				if k := inHeader + i*(per-1) + j; k < fats {
					v = uint32(k)
				}
				if err := binary.Write(w, le, v); err != nil {
					return err
				}
			}
			next := uint32(cfbEnd)
			if i+1 < difats {
				next = uint32(fats + i + 1)
			}
			if err := binary.Write(w, le, next); err != nil {
				return err
			}
		}
		table := bytes.Repeat([]byte{0xff}, sector) // free, but for the first
		le.PutUint32(table, cfbEnd)
		if _, err := w.Write(append(append(dir, table...), make([]byte, sector)...)); err != nil {
			return err
		}
		_, err := io.CopyN(w, noise(), data*sector)
		return err
	})
}
