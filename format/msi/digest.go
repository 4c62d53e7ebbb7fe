package msi

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cfb"
)

// signature says whether entry i stands in the root storage and is left out of both
// digests.
func (m *installer) signature(storage, i int) bool {
	if storage != 0 {
		return false
	}
	n := m.c.Entry(i).Text()
	return n == streamSignature || n == streamExtended
}

// metadata writes what MsiDigitalSignatureEx is a digest of.
func (m *installer) metadata(w io.Writer, i int) {
	e := m.c.Entry(i)
	if i != 0 {
		w.Write(e.Name)
	}
	if e.Type == cfb.Stream {
		w.Write(binary.LittleEndian.AppendUint32(nil, uint32(e.Size)))
	} else {
		w.Write(e.Class[:])
	}
	w.Write(e.State[:])
	if i != 0 {
		w.Write(e.Created[:])
		w.Write(e.Modified[:])
	}
	for _, c := range e.Children {
		if !m.signature(i, c) {
			m.metadata(w, c)
		}
	}
}

// prehash is the content of MsiDigitalSignatureEx under a hash.
func (m *installer) prehash(h crypto.Hash) []byte {
	x := h.New()
	m.metadata(x, 0)
	return x.Sum(nil)
}

// digests computes the digests of the file. extended is nil, or what
// MsiDigitalSignatureEx has to be: one digest, so all hashes must be its.
func (m *installer) digests(ctx context.Context, hashes []crypto.Hash, extended []byte) (map[crypto.Hash][]byte, error) {
	var states []hash.Hash
	for _, h := range hashes {
		if _, err := authenticode.DigestOID(h); err != nil {
			return nil, err
		}
		x := h.New()
		if extended != nil {
			if !bytes.Equal(m.prehash(h), extended) {
				return nil, fmt.Errorf("%w: it is not the %s of names, sizes and times", ErrExtended, format.HashName(h))
			}
			x.Write(extended)
		}
		states = append(states, x)
	}
	use := func(b []byte) {
		for _, x := range states {
			x.Write(b)
		}
	}
	for _, h := range hashes {
		if left := int64(h.Size()); extended == nil && m.begins(0, &left) {
			return nil, fmt.Errorf("%w: the first streams have as many bytes as a %s: they could be it under another name", ErrExtended, format.HashName(h))
		}
	}
	if err := m.contents(ctx, 0, make([]byte, 128<<10), use); err != nil {
		return nil, err
	}
	out := map[crypto.Hash][]byte{}
	for i, h := range hashes {
		out[h] = states[i].Sum(nil)
	}
	return out, nil
}

// begins says whether a stream ends exactly left bytes after the first one began.
// A digest without MsiDigitalSignatureEx does not tell such a beginning from the
// digest of metadata: whoever renames that stream to something that sorts before all
// others would make a plain signature of an extended one.
func (m *installer) begins(storage int, left *int64) bool {
	for _, i := range m.c.Entry(storage).Children {
		e := m.c.Entry(i)
		switch {
		case *left <= 0:
			return false
		case m.signature(storage, i):
		case e.Type == cfb.Storage:
			if m.begins(i, left) {
				return true
			}
		default:
			if *left -= e.Size; *left == 0 {
				return true
			}
		}
	}
	*left -= int64(len(m.c.Entry(storage).Class))
	return false
}

// contents hands out the contents of a storage, its class at the end.
func (m *installer) contents(ctx context.Context, storage int, buf []byte, use func([]byte)) error {
	e := m.c.Entry(storage)
	for _, i := range e.Children {
		if m.signature(storage, i) {
			continue
		}
		var err error
		if m.c.Entry(i).Type == cfb.Storage {
			err = m.contents(ctx, i, buf, use)
		} else {
			err = m.c.Each(ctx, i, buf, use)
		}
		if err != nil {
			return fmt.Errorf("msi: %w", err)
		}
	}
	use(e.Class[:])
	return nil
}
