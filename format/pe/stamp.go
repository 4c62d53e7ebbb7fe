package pe

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
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
		return nil, errDetached
	}
	_, _, _, sigs, err := signed(a)
	if err != nil {
		return nil, err
	}
	var out []format.StampTarget
	for i := range sigs {
		tok, err := sigs[i].timestamp()
		if err != nil {
			return nil, err
		}
		if tok == nil {
			out = append(out, format.StampTarget{Index: i, Message: sigs[i].signer.Signature})
		}
	}
	return out, nil
}

// Stamp adds a token to the signature whose value is target.Message. The
// checksum is adapted, not computed again, as long as the old one is possible.
func (Format) Stamp(ctx context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	im, table, entries, sigs, err := signed(a)
	if err != nil {
		return nil, err
	}
	var s *signature
	for i := range sigs {
		if bytes.Equal(sigs[i].signer.Signature, target.Message) && (s == nil || i == target.Index) {
			s = &sigs[i]
		}
	}
	if s == nil {
		return nil, errors.New("pe: no signature has the value that was stamped")
	}
	if tok, err := s.timestamp(); err != nil {
		return nil, err
	} else if tok != nil {
		return nil, fmt.Errorf("pe: %s signature has a timestamp already", s.label)
	}
	if err := checkToken(token, s.signer.Signature); err != nil {
		return nil, err
	}
	der, err := cms.AddUnsigned(s.sd.Raw, 0, cms.NewAttribute(cms.OIDMicrosoftTimeStamp, token))
	if err != nil {
		return nil, fmt.Errorf("pe: timestamp: %w", err)
	}
	if s.nested {
		outer := entries[s.entry].der
		at := bytes.LastIndex(outer, s.sd.Raw) // nothing follows the unsigned attributes
		if at < 0 {
			return nil, malformed("nested signature is not in the one around it")
		}
		if der, err = replaceDER(outer, at, len(s.sd.Raw), der); err != nil {
			return nil, err
		}
	}
	stamped := rebuild(entries, s.entry, der)
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
	if len(after) != len(before) {
		return malformed("%d signatures became %d", len(before), len(after))
	}
	for i := range before {
		if !bytes.Equal(before[i].signer.Signature, after[i].signer.Signature) ||
			!bytes.Equal(before[i].signer.RawSignedAttrs, after[i].signer.RawSignedAttrs) {
			return malformed("%s signature changed", before[i].label)
		}
	}
	return nil
}

// Remove returns the change that takes all signatures away. The zeros that the
// first signature put before its table stay: the digest covers them.
func Remove(ctx context.Context, a format.Artifact) (*format.Patch, error) {
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
	sum, err := im.signedSum(ctx, a, table)
	if err != nil {
		return nil, err
	}
	return im.patch(nil, sum)
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
