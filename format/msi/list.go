package msi

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cfb"
)

// List hands out the streams in the order of the digest, as "storage/stream".
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	m, err := open(ctx, a)
	if err != nil {
		return err
	}
	return m.list(ctx, 0, "", make([]byte, 128<<10), yield)
}

func (m *installer) list(ctx context.Context, storage int, path string, buf []byte, yield func(format.Entry) error) error {
	for _, i := range m.c.Entry(storage).Children {
		e := m.c.Entry(i)
		name := path + authenticode.PlainText(strings.ReplaceAll(streamName(e.Text()), "/", "\ufffd"))
		if e.Type == cfb.Storage {
			if err := m.list(ctx, i, name+"/", buf, yield); err != nil {
				return err
			}
			continue
		}
		x := sha256.New()
		if err := m.c.Each(ctx, i, buf, func(b []byte) { x.Write(b) }); err != nil {
			return fmt.Errorf("msi: %w", err)
		}
		if err := yield(format.Entry{Name: name, Size: e.Size, Digest: x.Sum(nil)}); err != nil {
			return err
		}
	}
	return nil
}

// streamName is the readable name of a stream: the inverse of the packing of two
// characters in one; tables get a "!" before their name, property sets lose their
// first character.
func streamName(s string) string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
	var b strings.Builder
	for i, r := range s {
		switch {
		case i == 0 && r == 0x4840:
			b.WriteByte('!')
		case i == 0 && r == 5:
		case r >= 0x3800 && r < 0x4800:
			b.WriteByte(alphabet[r&0x3f])
			b.WriteByte(alphabet[(r-0x3800)>>6])
		case r >= 0x4800 && r < 0x4840:
			b.WriteByte(alphabet[r-0x4800])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
