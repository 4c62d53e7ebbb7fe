package pe

import (
	"context"
	"fmt"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// signed reads the certificate table of a signed image.
func signed(a format.Artifact) (*image, []byte, []entry, []signature, error) {
	im, err := parseImage(a)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if im.tableSize == 0 {
		return nil, nil, nil, nil, ErrUnsigned
	}
	table, err := im.table(a)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	entries, err := parseTable(table)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	sigs, err := signatures(entries, false)
	return im, table, entries, sigs, err
}

// Unstamped lists the signatures without a timestamp. Authenticode signatures
// stand in the file: detached must be empty.
func (Format) Unstamped(ctx context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, authenticode.ErrDetached
	}
	_, _, _, sigs, err := signed(a)
	if err != nil {
		return nil, err
	}
	return authenticode.Targets(plain(sigs))
}

// Stamp adds a token to the signature whose value is target.Message. The
// checksum is adapted, not computed again, as long as the old one is possible.
func (Format) Stamp(ctx context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, authenticode.ErrDetached
	}
	im, table, entries, sigs, err := signed(a)
	if err != nil {
		return nil, err
	}
	i, err := authenticode.Find(plain(sigs), target)
	if err != nil {
		return nil, err
	}
	der, err := authenticode.AddToken(entries[sigs[i].entry].der, &sigs[i].Signature, token)
	if err != nil {
		return nil, err
	}
	stamped := rebuild(entries, sigs[i].entry, der)
	if err := sameSignatures(stamped, sigs); err != nil {
		return nil, err
	}
	sum, err := im.signedSum(ctx, a, table)
	if err != nil {
		return nil, err
	}
	return im.patch(stamped, sum)
}

// sameSignatures checks that a new table holds the same signatures as before.
func sameSignatures(table []byte, before []signature) error {
	entries, err := parseTable(table)
	if err != nil {
		return err
	}
	after, err := signatures(entries, false)
	if err != nil {
		return err
	}
	return authenticode.Same(plain(before), plain(after))
}

// Remove returns the change that takes one signature away, or all of them. The
// zeros that the first signature put before its table stay: the digest covers them.
func (Format) Remove(ctx context.Context, a format.Artifact, index int) (*format.Patch, error) {
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
	var rest []byte
	if index != -1 {
		_, _, entries, sigs, err := signed(a)
		if err != nil {
			return nil, err
		}
		if index < 0 || index >= len(sigs) {
			return nil, fmt.Errorf("pe: signature %d of %d", index, len(sigs))
		}
		s := &sigs[index]
		der, err := authenticode.Unnest(entries[s.entry].der, s.Nested, cms.OIDSpcIndirectData)
		if err != nil {
			return nil, err
		}
		rest = rebuild(entries, s.entry, der)
	}
	sum, err := im.signedSum(ctx, a, table)
	if err != nil {
		return nil, err
	}
	return im.patch(rest, sum)
}

// Extract gives one signature as a .p7s: that of an entry with all that is nested
// in it, a nested one alone.
func (Format) Extract(ctx context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	_, _, _, sigs, err := signed(a)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= len(sigs) {
		return nil, fmt.Errorf("pe: signature %d of %d", index, len(sigs))
	}
	return &format.Sidecar{Suffix: ".p7s", Data: sigs[index].SD.Raw}, nil
}

// signedSum is the sum of the signed part's words: what the old checksum says
// less the table and its entry. Where the old checksum cannot be right (it is
// absent, or less than the file's length), the file is read.
func (im *image) signedSum(ctx context.Context, a format.Artifact, table []byte) (uint16, error) {
	old := int64(im.checksum) - im.size
	if old < 0 || old > 0xffff {
		s, err := scan(ctx, a, im, nil, false)
		if err != nil {
			return 0, err
		}
		return s.sum, nil
	}
	// Adding the complement of a sum takes it away.
	rest := fold(addWords(addWords(0, im.head[im.directoryAt:im.directoryAt+8]), table))
	return fold(uint64(old) + uint64(0xffff-rest)), nil
}
