package pe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// Assemble returns the one message of an Authenticode signature: its signed
// attributes. The time is not in them; a timestamp tells it.
func (Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	b, params, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	s, err := b.statement(p, params)
	if err != nil {
		return nil, err
	}
	return s.Assemble(id, done)
}

// statement is what is signed about an image. EFI firmware does not look at the
// usages of certificates; Windows does.
func (b *body) statement(p *format.Plan, params format.Params) (*authenticode.Statement, error) {
	content, err := b.indirect(p)
	if err != nil {
		return nil, err
	}
	return &authenticode.Statement{Type: cms.OIDSpcIndirectData, Content: content, Params: params, Firmware: b.efi()}, nil
}

// Attach makes the edits that put the signature into the image: checksum,
// directory entry, certificate table. Of the file it reads the headers and a
// certificate table that is there.
func (Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, params, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	s, err := b.statement(p, params)
	if err != nil {
		return nil, err
	}
	der, err := s.Seal(id, sigs)
	if err != nil {
		return nil, err
	}
	im, table, err := b.check(a, p)
	if err != nil {
		return nil, err
	}
	if table, err = join(table, der, params["existing"] == "keep", im.efi()); err != nil {
		return nil, err
	}
	return im.patch(table, b.Sum)
}

// check compares the file with the plan as far as headers and table go.
func (b *body) check(a format.Artifact, p *format.Plan) (*image, []byte, error) {
	if a.Size() != p.Size {
		return nil, nil, fmt.Errorf("%w: %d bytes: want %d", ErrChanged, a.Size(), p.Size)
	}
	im, err := parseImage(a)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if !bytes.Equal(digest256(im.head), b.Head) {
		return nil, nil, fmt.Errorf("%w: its headers differ", ErrChanged)
	}
	if im.magic != b.Magic || im.machine != b.Machine || im.subsystem != b.Subsystem || im.dll != b.DLL ||
		im.checksumAt != b.ChecksumAt || im.directoryAt != b.DirectoryAt || int64(len(im.head)) != b.HeadSize ||
		im.end() != b.End || im.tableSize != b.TableSize {
		return nil, nil, fmt.Errorf("%w: its headers are not those in the plan", ErrPlan)
	}
	if len(b.Pages) > 0 && !slices.Equal(im.spans(), b.Spans) {
		return nil, nil, fmt.Errorf("%w: its sections are not those in the plan", ErrPlan)
	}
	if im.tableSize == 0 {
		return im, nil, nil
	}
	table, err := im.table(a)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(digest256(table), b.Table) {
		return nil, nil, fmt.Errorf("%w: its certificate table differs", ErrChanged)
	}
	return im, table, nil
}

// join makes the new certificate table: der alone, or beside what is there.
func join(table, der []byte, keep, efi bool) ([]byte, error) {
	if len(table) == 0 || !keep {
		return newEntry(der), nil
	}
	entries, err := parseTable(table)
	if err != nil {
		return nil, err
	}
	sigs, err := signatures(entries, false)
	if err != nil {
		return nil, err
	}
	if efi {
		if len(entries) == maxEntries {
			return nil, fmt.Errorf("pe: there are %d signatures already: no more fit", len(entries))
		}
		return append(slices.Clone(table), newEntry(der)...), nil
	}
	if len(sigs)-len(entries) >= authenticode.MaxNested {
		return nil, fmt.Errorf("pe: there are %d nested signatures already: no more fit", authenticode.MaxNested)
	}
	first, err := authenticode.Nest(entries[0].der, der, cms.OIDSpcIndirectData)
	if err != nil {
		return nil, err
	}
	return rebuild(entries, 0, first), nil
}

// rebuild makes a table of entries, one of them with another PKCS #7, or without
// it when der is empty.
func rebuild(entries []entry, i int, der []byte) []byte {
	var out []byte
	for j, e := range entries {
		switch {
		case j != i:
			out = append(out, e.raw...)
		case len(der) > 0:
			out = append(out, newEntry(der)...)
		}
	}
	return out
}

// patch makes the edits that replace the certificate table; an empty one takes
// the signature away. sum is that of the signed part.
func (im *image) patch(table []byte, sum uint16) (*format.Patch, error) {
	end := im.end()
	start := end + padding(end)
	size := start + int64(len(table))
	if len(table) > maxTable || size > maxSize {
		return nil, fmt.Errorf("pe: certificate table of %d bytes makes a file of %d: at most %d and %d", len(table), size, maxTable, int64(maxSize))
	}
	var dir [8]byte
	if len(table) > 0 {
		binary.LittleEndian.PutUint32(dir[:], uint32(start))
		binary.LittleEndian.PutUint32(dir[4:], uint32(len(table)))
	}
	c := checksum(fold(addWords(addWords(uint64(sum), dir[:]), table)), size)
	return &format.Patch{Size: im.size, Edits: []format.Edit{
		{Offset: im.checksumAt, Delete: 4, Insert: binary.LittleEndian.AppendUint32(nil, c)},
		{Offset: im.directoryAt, Delete: 8, Insert: dir[:]},
		{Offset: end, Delete: im.tableSize, Insert: append(make([]byte, start-end), table...)},
	}}, nil
}
