package ipa

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"path"
	"strings"
	"sync/atomic"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// digest is SHA-256.
func digest(b []byte) []byte { return codesign.Digest(crypto.SHA256, b) }

// collector takes the content of one file: its digests, and all of it where it is code.
type collector struct {
	entry   *format.TreeEntry
	old     hash.Hash
	sum     hash.Hash
	start   []byte // until there is enough to tell code from other files
	decided bool
	code    bool
	total   *atomic.Int64 // bytes of programs
	done    func(c *collector) error
}

func newCollector(e *format.TreeEntry, total *atomic.Int64, done func(c *collector) error) *collector {
	return &collector{entry: e, old: sha1.New(), sum: sha256.New(), total: total, done: done}
}

var _ io.WriteCloser = (*collector)(nil)

func (c *collector) Write(b []byte) (int, error) {
	c.old.Write(b)
	c.sum.Write(b)
	if !c.decided || c.code {
		c.start = append(c.start, b...)
	}
	if !c.decided && len(c.start) >= 8 {
		c.decided, c.code = true, isCode(c.start) && !isStub(c.entry.Path)
		if !c.code {
			c.start = nil
		} else if n := c.entry.Size; n > maxProgram || c.total.Add(n) > maxPrograms {
			return 0, malformed("%q: programs of more than %d bytes, or of %d together", c.entry.Path, maxProgram, maxPrograms)
		}
	}
	return len(b), nil
}

func (c *collector) Close() error {
	if !c.decided {
		c.start = nil
	}
	return c.done(c)
}

// line is the file as lists know it.
func (c *collector) line() sealed {
	return sealed{Path: c.entry.Path, SHA1: c.old.Sum(nil), SHA256: c.sum.Sum(nil)}
}

// isCode says whether a file that begins with b (8 bytes at least) is Mach-O, thin or
// universal. Java classes, which begin as universal files do, have larger numbers next.
func isCode(b []byte) bool {
	switch binary.LittleEndian.Uint32(b) {
	case 0xfeedface, 0xfeedfacf:
		return true
	}
	switch binary.BigEndian.Uint32(b) {
	case 0xcafebabe, 0xcafebabf:
		n := binary.BigEndian.Uint32(b[4:])
		return n > 0 && n < 40
	}
	return false
}

// isStub is true of the program that watchOS gives to applications, which has Apple's
// signature.
func isStub(p string) bool { return path.Base(path.Dir(p)) == "_WatchKitStub" }

// within says whether p stands in the folder dir, "" being all.
func within(p, dir string) bool { return dir == "" || strings.HasPrefix(p, dir+"/") }
