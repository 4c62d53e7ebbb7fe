// Package zipfile reads ZIP archives (PKWARE APPNOTE.TXT 6.3.10) so strictly that
// every reader sees the same files in them, and makes the edits that put files in
// or take files out. Formats whose container is a ZIP archive build on it.
//
// An archive is: entries one after the other from the first byte on, each a local
// header, its data and, where the header says so, a data descriptor; what a format
// may put between them and the directory ([Options].Before); the central
// directory; the end records, ZIP64's where numbers need them; a comment.
//
// Invariants:
//
//  1. The directory and the local headers agree: names, methods, flags, sizes and
//     checksums. No name stands twice, leads out of a folder, or holds characters
//     that another reader could understand otherwise.
//  2. Every byte of the archive belongs to one thing: no entries overlap, nothing
//     stands before the first, and nothing between two unless [Options].Gaps.
//  3. [Archive.Scan] reads the archive once, in order, in memory that does not grow
//     with it, and checks the size and checksum of every content that it inflates,
//     and that its data ends where the directory says.
//  4. Memory is proportional to what the file has, never to what a header claims:
//     about 130 bytes and twice the length of its name for an entry.
//  5. An [Editor] changes no byte of the entries that stay, but where they stand.
//
// A caller may not conclude from [Open] alone that local headers agree with the
// directory: that is known when they have been read, by Scan or [Archive.Content].
// Times, attributes, comments and extra fields are nobody's concern here; two
// archives with the same contents may differ in them.
package zipfile

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read.
const (
	MaxEntries   = 1 << 20
	MaxDirectory = 64 << 20 // bytes of the central directory
	MaxName      = 4096     // bytes of an entry's name
	MaxContent   = 1 << 40  // bytes of one content, and of all together
)

// What callers branch on.
var (
	// ErrNotZip is returned for what has no end record.
	ErrNotZip = errors.New("zipfile: not a ZIP archive")
	// ErrMalformed is wrapped for archives that break the specification, or that
	// two readers could understand in two ways.
	ErrMalformed = errors.New("zipfile: malformed archive")
	// ErrUnsupported is wrapped for encryption, several disks, and methods other
	// than stored and deflated.
	ErrUnsupported = errors.New("zipfile: not supported")
	// ErrContent is wrapped when a content is not what its checksum or size says.
	ErrContent = errors.New("zipfile: content differs from its checksum or size")
	// ErrLimit is wrapped beyond the limits of this package.
	ErrLimit = errors.New("zipfile: beyond limit")
)

// Compression methods.
const (
	Stored   = 0
	Deflated = 8
)

var le = binary.LittleEndian

const (
	sigLocal      = 0x04034b50
	sigCentral    = 0x02014b50
	sigEnd        = 0x06054b50
	sigEnd64      = 0x06064b50
	sigLocator64  = 0x07064b50
	sigDescriptor = 0x08074b50

	localSize     = 30
	centralSize   = 46
	endSize       = 22
	end64Size     = 56
	locator64Size = 20
	maxComment    = 1<<16 - 1
	max16         = 1<<16 - 1
	max32         = 1<<32 - 1

	extraZip64   = 0x0001
	extraUnicode = 0x7075 // Info-ZIP's other name of an entry

	flagEncrypted  = 1 << 0
	flagDescriptor = 1 << 3
	flagsLevel     = 1<<1 | 1<<2 // how hard was compressed: says nothing about the data
	flagUTF8       = 1 << 11
)

// Options say what a format allows beyond a plain archive.
type Options struct {
	// Gaps allows bytes before and between entries that belong to none, for formats
	// that cover them in another way.
	Gaps bool
	// Before finds where the entries end when something else follows them, given
	// where the directory starts. nil: the entries end there.
	Before func(a format.Artifact, directory int64) (int64, error)
}

// Entry is one file of an archive.
type Entry struct {
	Name       string
	Offset     int64 // of the local header
	Compressed int64 // bytes of data
	Size       int64 // bytes of content
	CRC        uint32
	Method     uint16
	Flags      uint16
	record     uint32 // offset of the record in the directory
	after      uint32 // index of the entry that follows in the file; the number of entries for the last
}

// Dir reports whether the entry is a folder.
func (e *Entry) Dir() bool { return e.Name != "" && e.Name[len(e.Name)-1] == '/' }

// Archive is an archive whose directory has been read.
type Archive struct {
	Entries   []Entry // in the order of the directory
	End       int64   // where the entries end: the directory, or what stands before it
	Directory int64   // where the central directory starts
	Size      int64   // of the file
	Comment   string

	a         format.Artifact
	o         Options
	directory string // the directory's bytes
	first     uint32 // index of the first entry in the file
	zip64     bool   // ZIP64 end records are there
	tail      int64  // where the end records start
}

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Detect says cheaply whether a starts with an entry: no archive of this package
// starts otherwise, but an empty one, which has no format.
func Detect(a format.Artifact) bool {
	var b [4]byte
	return format.ReadFull(a, b[:], 0) == nil && le.Uint32(b[:]) == sigLocal
}

// Tail returns the bytes of the end records, the comment included.
func (z *Archive) Tail() ([]byte, error) {
	b := make([]byte, z.Size-z.tail)
	return b, format.ReadFull(z.a, b, z.tail)
}

// RawDirectory is the central directory's bytes.
func (z *Archive) RawDirectory() string { return z.directory }

// RawRecord is the directory's record of entry i.
func (z *Archive) RawRecord(i int) string {
	r := z.directory[z.Entries[i].record:]
	n := centralSize
	for _, at := range []int{28, 30, 32} {
		n += int(r[at]) + int(r[at+1])<<8
	}
	return r[:n]
}

// Index finds an entry by its exact name, -1 if there is none. It is linear.
func (z *Archive) Index(name string) int {
	for i := range z.Entries {
		if z.Entries[i].Name == name {
			return i
		}
	}
	return -1
}

// Order calls yield with the entries' indexes in the order of the file.
func (z *Archive) Order(yield func(i int) bool) {
	n := uint32(len(z.Entries))
	for i, left := z.first, n; left > 0 && i < n; left-- {
		if !yield(int(i)) {
			return
		}
		i = z.Entries[i].after
	}
}

// Span is where entry i starts and where the next thing in the file does.
func (z *Archive) Span(i int) (from, to int64) {
	e := &z.Entries[i]
	if int(e.after) == len(z.Entries) {
		return e.Offset, z.End
	}
	return e.Offset, z.Entries[e.after].Offset
}
