package record

import "encoding/binary"

// append writes what format.Encode writes (a test compares them), without
// reflection: jobs of millions of statements are made with it.
func (s *Statement) append(b []byte) []byte {
	b = head(b, mapOf, 12)
	b = head(append(b, 1), unsigned, uint64(s.Version))
	b = text(append(b, 2), s.Purpose)
	b = text(append(b, 3), s.Issuer)
	b = texts(append(b, 4), s.Audience)
	b = head(append(b, 5), mapOf, 2)
	b = text(append(b, 1), s.Ref.Table)
	b = texts(append(b, 2), s.Ref.Key)
	b = head(append(b, 6), unsigned, s.Revision)
	b = append(b, 7, 0xf4)
	if s.Deleted {
		b[len(b)-1] = 0xf5
	}
	b = head(append(b, 8), mapOf, 3)
	b = text(append(b, 1), s.Configuration.ID)
	b = head(append(b, 2), unsigned, s.Configuration.Version)
	b = octets(append(b, 3), s.Configuration.Digest[:])
	b = head(append(b, 9), arrayOf, uint64(len(s.Fields)))
	for i := range s.Fields {
		b = head(b, mapOf, 2)
		b = text(append(b, 1), s.Fields[i].Name)
		b = octets(append(b, 2), s.Fields[i].Digest[:])
	}
	b = head(append(b, 10), arrayOf, uint64(len(s.Attachments)))
	for i := range s.Attachments {
		a := &s.Attachments[i]
		b = head(b, mapOf, 4)
		b = text(append(b, 1), a.Name)
		b = text(append(b, 2), a.Type)
		b = head(append(b, 3), unsigned, uint64(a.Size))
		b = octets(append(b, 4), a.SHA256[:])
	}
	b = head(append(b, 11), unsigned, uint64(s.NotBefore))
	return head(append(b, 12), unsigned, uint64(s.Expires))
}

// Major types of CBOR (RFC 8949 section 3.1), in their place in the initial byte.
const (
	unsigned = 0 << 5
	octetsOf = 2 << 5
	textOf   = 3 << 5
	arrayOf  = 4 << 5
	mapOf    = 5 << 5
)

func head(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func text(b []byte, s string) []byte { return append(head(b, textOf, uint64(len(s))), s...) }

func octets(b, s []byte) []byte { return append(head(b, octetsOf, uint64(len(s))), s...) }

func texts(b []byte, list []string) []byte {
	b = head(b, arrayOf, uint64(len(list)))
	for _, s := range list {
		b = text(b, s)
	}
	return b
}
