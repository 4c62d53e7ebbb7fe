package pe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// body is all of an image that Assemble and Attach need.
type body struct {
	Magic       uint16 `cbor:"1,keyasint"` // 0x10b PE32, 0x20b PE32+
	Machine     uint16 `cbor:"2,keyasint"`
	Subsystem   uint16 `cbor:"3,keyasint"`
	DLL         bool   `cbor:"4,keyasint"`
	ChecksumAt  int64  `cbor:"5,keyasint"`  // offset of the checksum field
	DirectoryAt int64  `cbor:"6,keyasint"`  // offset of the certificate table's directory entry
	HeadSize    int64  `cbor:"7,keyasint"`  // SizeOfHeaders
	Head        []byte `cbor:"8,keyasint"`  // SHA-256 of the headers, as they were
	End         int64  `cbor:"9,keyasint"`  // where the signed part ends, before padding
	TableSize   int64  `cbor:"10,keyasint"` // of the certificate table that was there, or 0
	Table       []byte `cbor:"11,keyasint"` // SHA-256 of that table, or empty
	Sum         uint16 `cbor:"12,keyasint"` // of the signed part's words, the two fields as zero
	Spans       []span `cbor:"13,keyasint"` // sections' raw data in file order, when there are page hashes
	Pages       []byte `cbor:"14,keyasint"` // SpcPeImagePageHashesV2's table, or empty
}

// Plan reads a once. Besides that it reads the headers, the version resource and
// an existing certificate table, all of limited size.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, h, err := authenticode.Given(f, params)
	if err != nil {
		return nil, err
	}
	im, err := parseImage(a)
	if err != nil {
		return nil, err
	}
	pages := params["page-hashes"] == "true"
	b := body{
		Magic: im.magic, Machine: im.machine, Subsystem: im.subsystem, DLL: im.dll,
		ChecksumAt: im.checksumAt, DirectoryAt: im.directoryAt,
		HeadSize: int64(len(im.head)), Head: digest256(im.head),
		End: im.end(), TableSize: im.tableSize, Table: []byte{}, Spans: []span{}, Pages: []byte{},
	}
	facts := append(kindFacts(im.magic, im.machine, im.subsystem, im.dll), im.versionFacts(a)...)
	sections, err := im.sectionFacts(a)
	if err != nil {
		return nil, err
	}
	facts = append(facts, sections...)
	var existing []byte
	if im.tableSize > 0 {
		if existing, err = im.table(a); err != nil {
			return nil, err
		}
		b.Table = digest256(existing)
	}
	signers, err := existingFacts(existing, params["existing"] == "keep")
	if err != nil {
		return nil, err
	}
	facts = append(facts, signers...)
	details := im.details(a, len(facts)) // before the image is read: that compares what is shown with it
	im.parts = im.unified()
	s, err := scan(ctx, a, im, []crypto.Hash{h}, pages)
	if err != nil {
		return nil, err
	}
	im.partDetails(details)
	facts = append(facts, details.Facts()...)
	b.Sum = s.sum
	if pages {
		b.Spans, b.Pages = im.spans(), s.pages
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("pe: plan: %w", err)
	}
	p := &format.Plan{
		Format: name, Version: bodyVersion, Digest: params["digest"], Size: im.size,
		Content: s.digests[h], Params: authenticode.ParamFacts(params), Facts: facts, Body: enc,
	}
	return p, p.Check()
}

func digest256(b []byte) []byte { d := sha256.Sum256(b); return d[:] }

// existingFacts says who has signed already. To keep signatures, all must be
// understood; what is replaced may be anything.
func existingFacts(table []byte, keep bool) ([]format.Fact, error) {
	if len(table) == 0 {
		return []format.Fact{{Name: authenticode.FactSignatures, Value: "0"}}, nil
	}
	entries, err := parseTable(table)
	var sigs []signature
	if err == nil {
		sigs, err = signatures(entries, false)
	}
	return authenticode.ExistingFacts(plain(sigs), err, keep)
}

// decodeBody reads a plan's body and checks every relation in it, so that what
// is signed is something that Plan may have made of some file.
func decodeBody(p *format.Plan) (*body, format.Params, error) {
	var b body
	params, _, err := authenticode.ReadPlan(Format{}, bodyVersion, p, &b)
	if err != nil {
		return nil, nil, err
	}
	bad := func(f string, args ...any) (*body, format.Params, error) {
		return nil, nil, fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	directory := b.ChecksumAt + 64
	if b.Magic == magicPE32Plus {
		directory += 16
	}
	switch {
	case b.Magic != magicPE32 && b.Magic != magicPE32Plus:
		return bad("image of kind %#x", b.Magic)
	case p.Size > maxSize || b.End < 0 || b.TableSize < 0 || b.End > p.Size:
		return bad("sizes out of range")
	case b.ChecksumAt < dosHeaderSize+coffHeaderSize+64 || b.ChecksumAt%4 != 0 || b.DirectoryAt != directory:
		return bad("checksum at %d, directory entry at %d", b.ChecksumAt, b.DirectoryAt)
	case b.HeadSize < b.DirectoryAt+8 || b.HeadSize > maxHead || b.HeadSize > b.End:
		return bad("headers of %d bytes", b.HeadSize)
	case len(b.Head) != sha256.Size:
		return bad("digest of the headers has %d bytes", len(b.Head))
	case b.End+b.TableSize != p.Size:
		return bad("%d bytes and a table of %d bytes in a file of %d", b.End, b.TableSize, p.Size)
	case b.TableSize == 0 && len(b.Table) != 0, b.TableSize > 0 && len(b.Table) != sha256.Size:
		return bad("digest of the certificate table has %d bytes", len(b.Table))
	case b.TableSize > 0 && (b.End%8 != 0 || b.TableSize%8 != 0 || b.TableSize > maxTable):
		return bad("certificate table of %d bytes at %d", b.TableSize, b.End)
	}
	// What people were told does not contradict what the body says.
	if why := b.checkFacts(p.Facts, params); why != "" {
		return bad("%s", why)
	}
	if err := b.checkPages(params["page-hashes"] == "true"); err != nil {
		return nil, nil, err
	}
	return &b, params, nil
}

// checkPages checks that the table of page hashes is one for these sections.
func (b *body) checkPages(wanted bool) error {
	bad := func(f string, args ...any) error {
		return fmt.Errorf("%w: page hashes: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	if !wanted {
		if len(b.Pages) != 0 || len(b.Spans) != 0 {
			return bad("they are there and were not asked for")
		}
		return nil
	}
	if len(b.Spans) == 0 || len(b.Spans) > maxSections {
		return bad("%d sections", len(b.Spans))
	}
	if b.HeadSize > pageSize {
		return bad("headers of %d bytes", b.HeadSize)
	}
	want := []uint32{0}
	last := b.HeadSize
	for _, s := range b.Spans {
		if s.Size == 0 || int64(s.Offset) < last || int64(s.Offset)+int64(s.Size) > b.End {
			return bad("section of %d bytes at %d", s.Size, s.Offset)
		}
		last = int64(s.Offset) + int64(s.Size)
		for at := int64(s.Offset); at < last; at += pageSize {
			want = append(want, uint32(at))
		}
	}
	want = append(want, uint32(last))
	if len(b.Pages) != len(want)*pageEntry || len(b.Pages) > maxPages {
		return bad("%d bytes for %d entries", len(b.Pages), len(want))
	}
	for i, at := range want {
		if got := le32(b.Pages[i*pageEntry:]); got != at {
			return bad("entry %d is about offset %d: want %d", i, got, at)
		}
	}
	if !bytes.Equal(b.Pages[len(b.Pages)-sha256.Size:], make([]byte, sha256.Size)) {
		return bad("the last entry is not zero")
	}
	return nil
}

// indirect is the content that is signed.
func (b *body) indirect(p *format.Plan) ([]byte, error) {
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	d := indirectData{hash: h, digest: p.Content}
	if len(b.Pages) > 0 {
		d.pages = b.Pages
	}
	return d.encode()
}

func (b *body) efi() bool { return (&image{subsystem: b.Subsystem}).efi() }
