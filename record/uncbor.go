package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// reader reads what append writes. After the first thing that is anything else it
// is bad, and every later value is zero.
type reader struct {
	b   []byte
	bad bool
}

// read is the inverse of append: it takes the one encoding and no other.
func (s *Statement) read(b []byte) bool {
	r := &reader{b: b}
	r.mapOf(12)
	s.Version = uint(r.key(1).number(unsigned, math.MaxUint32))
	s.Purpose = r.key(2).text()
	s.Issuer = r.key(3).text()
	s.Audience = r.key(4).texts(MaxAudience)
	r.key(5).mapOf(2)
	s.Ref.Table = r.key(1).text()
	s.Ref.Key = r.key(2).texts(MaxKey)
	s.Revision = r.key(6).number(unsigned, math.MaxUint64)
	s.Deleted = r.key(7).boolean()
	r.key(8).mapOf(3)
	s.Configuration.ID = r.key(1).text()
	s.Configuration.Version = r.key(2).number(unsigned, math.MaxUint64)
	s.Configuration.Digest = r.key(3).digest()
	if n := r.key(9).number(arrayOf, MaxFields); n > 0 {
		s.Fields = make([]FieldDigest, n)
	}
	for i := range s.Fields {
		r.mapOf(2)
		s.Fields[i] = FieldDigest{r.key(1).text(), r.key(2).digest()}
	}
	if n := r.key(10).number(arrayOf, MaxAttachments); n > 0 {
		s.Attachments = make([]Attachment, n)
	}
	for i := range s.Attachments {
		r.mapOf(4)
		s.Attachments[i] = Attachment{r.key(1).text(), r.key(2).text(), int64(r.key(3).number(unsigned, math.MaxInt64)), r.key(4).digest()}
	}
	s.NotBefore = int64(r.key(11).number(unsigned, math.MaxInt64))
	s.Expires = int64(r.key(12).number(unsigned, math.MaxInt64))
	return !r.bad && len(r.b) == 0 && bytes.Equal(s.append(make([]byte, 0, len(b))), b)
}

func (r *reader) fail() { r.b, r.bad = nil, true }

// number reads an initial byte of the major type with its argument, of at most limit.
func (r *reader) number(major byte, limit uint64) uint64 {
	if len(r.b) == 0 || r.b[0]&0xe0 != major {
		r.fail()
		return 0
	}
	info := r.b[0] & 0x1f
	size := 0
	if info >= 24 {
		size = 1 << (info - 24)
	}
	if info > 27 || len(r.b) < 1+size {
		r.fail()
		return 0
	}
	n := uint64(info)
	switch arg := r.b[1:]; size {
	case 1:
		n = uint64(arg[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(arg))
	case 4:
		n = uint64(binary.BigEndian.Uint32(arg))
	case 8:
		n = binary.BigEndian.Uint64(arg)
	}
	if n > limit {
		r.fail()
		return 0
	}
	r.b = r.b[1+size:]
	return n
}

func (r *reader) mapOf(n uint64) {
	if r.number(mapOf, n) != n {
		r.fail()
	}
}

// key reads the key of a map.
func (r *reader) key(k uint64) *reader {
	if r.number(unsigned, k) != k {
		r.fail()
	}
	return r
}

func (r *reader) octets(major byte) []byte {
	n := r.number(major, MaxStatement)
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string {
	s := string(r.octets(textOf))
	if !validUTF8(s) {
		r.fail()
	}
	return s
}

func (r *reader) texts(limit uint64) []string {
	n := r.number(arrayOf, limit)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.text()
	}
	return list
}

func (r *reader) digest() (d [sha256.Size]byte) {
	if b := r.octets(octetsOf); len(b) == len(d) {
		copy(d[:], b)
	} else {
		r.fail()
	}
	return d
}

func (r *reader) boolean() bool {
	if len(r.b) == 0 || r.b[0] != 0xf4 && r.b[0] != 0xf5 {
		r.fail()
		return false
	}
	v := r.b[0] == 0xf5
	r.b = r.b[1:]
	return v
}
