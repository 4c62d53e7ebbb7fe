package pe

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// Inspect reads headers, version resource and certificate table; it computes no
// digest.
func (Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	im, err := parseImage(a)
	if err != nil {
		return nil, err
	}
	r := im.report(a)
	if im.tableSize == 0 {
		return r, nil
	}
	table, err := im.table(a)
	if err != nil {
		return nil, err
	}
	entries, err := parseTable(table)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if !entries[i].understood() {
			r.Facts = append(r.Facts, format.Fact{Name: "certificate-entry", Value: entries[i].unknown(i).Error()})
		}
	}
	sigs, err := signatures(entries, true)
	if err != nil {
		return nil, err
	}
	for i := range sigs {
		s := &sigs[i]
		d, err := parseIndirect(s.SD.ContentRaw)
		if err != nil {
			info := s.Info(i)
			info.Facts = append(info.Facts, format.Fact{Name: "content", Value: err.Error()})
			r.Signatures = append(r.Signatures, info)
			continue
		}
		info := s.info(i, im, d)
		s.Claim(&info)
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

func (im *image) report(a format.Artifact) *format.Report {
	facts := append(kindFacts(im.magic, im.machine, im.subsystem, im.dll), im.versionFacts(a)...)
	sections, err := im.sectionFacts(a)
	if err != nil { // no signature depends on it
		sections = []format.Fact{{Name: "sections", Value: sectionText(err.Error())}}
	}
	facts = append(facts, sections...)
	details := im.details(a, len(facts))
	im.partDetails(details)
	facts = append(facts, details.Facts()...)
	return &format.Report{Format: name, Size: im.size, Facts: facts, Signatures: []format.SignatureInfo{}}
}

// info is what a signature says, unjudged.
func (s *signature) info(i int, im *image, d *indirectData) format.SignatureInfo {
	covers := []string{fmt.Sprintf("all %d bytes before the certificate table, but the checksum (which follows from the rest) and the table's entry", im.end())}
	if d.pages != nil {
		covers = append(covers, strconv.Itoa(len(d.pages)/pageEntry-1)+" pages, each by its own hash")
	}
	info := s.Info(i)
	info.Digest, info.Content, info.Covers = authenticode.HashName(d.hash), d.digest, covers
	return info
}

// Verify reads a once for all of its signatures, and accepts it when every one of
// them verifies.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("pe: verify: no trusted certificates are given")
	case len(t.Detached) > 0:
		return nil, authenticode.ErrDetached
	}
	im, err := parseImage(a)
	if err != nil {
		return nil, err
	}
	if im.tableSize == 0 {
		return nil, ErrUnsigned
	}
	table, err := im.table(a)
	if err != nil {
		return nil, err
	}
	entries, err := parseTable(table)
	if err != nil {
		return nil, err
	}
	sigs, err := signatures(entries, false)
	if err != nil {
		return nil, err
	}
	var hashes []crypto.Hash
	contents := make([]*indirectData, len(sigs))
	pages := false
	for i := range sigs {
		d, err := parseIndirect(sigs[i].SD.ContentRaw)
		if err != nil {
			return nil, fmt.Errorf("%s signature: %w", sigs[i].Label, err)
		}
		if _, err := authenticode.DigestOID(d.hash); err != nil {
			return nil, fmt.Errorf("%w: %s signature is over a %s digest", ErrWeak, sigs[i].Label, authenticode.HashName(d.hash))
		}
		if !slices.Contains(hashes, d.hash) {
			hashes = append(hashes, d.hash)
		}
		contents[i] = d
		pages = pages || d.pages != nil
	}
	r := im.report(a) // before the scan, which compares what was read for it
	found, err := scan(ctx, a, im, hashes, pages)
	if err != nil {
		return nil, err
	}
	sum := fold(addWords(addWords(uint64(found.sum), im.head[im.directoryAt:im.directoryAt+8]), table))
	if im.checksum != 0 && !checksumFits(im.checksum, sum, im.size) {
		return nil, fmt.Errorf("%w: %#x, computed %#x", ErrChecksum, im.checksum, checksum(sum, im.size))
	}
	for i := range sigs {
		info := sigs[i].info(i, im, contents[i])
		if err := sigs[i].verify(&info, contents[i], found, t); err != nil {
			return nil, fmt.Errorf("%s signature: %w", sigs[i].Label, err)
		}
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// verify judges one signature against what was found in the file.
func (s *signature) verify(info *format.SignatureInfo, d *indirectData, found *scanned, t format.Trust) error {
	if !bytes.Equal(found.digests[d.hash], d.digest) {
		return fmt.Errorf("%w: computed %x, signed %x", ErrDigest, found.digests[d.hash], d.digest)
	}
	if d.pages != nil && !bytes.Equal(found.pages, d.pages) {
		return fmt.Errorf("%w: page hashes differ%s", ErrDigest, firstDifference(found.pages, d.pages))
	}
	info.Content = found.digests[d.hash]
	return s.Verify(info, t)
}

func firstDifference(a, b []byte) string {
	if len(a) != len(b) {
		return fmt.Sprintf(": %d entries, signed %d", len(a)/pageEntry, len(b)/pageEntry)
	}
	for i := 0; i < len(a); i += pageEntry {
		if !bytes.Equal(a[i:i+pageEntry], b[i:i+pageEntry]) {
			return fmt.Sprintf(" at offset %d", le32(a[i:]))
		}
	}
	return ""
}
