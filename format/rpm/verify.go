package rpm

import (
	"bytes"
	"context"
	"crypto/md5"  // a digest of the signature header that old rpm checks
	"crypto/sha1" // likewise
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/openpgp"
)

// signature is one of the signature header.
type signature struct {
	tag uint32
	*openpgp.Signature
}

// signatures reads those of the signature header, in the order of their tags.
func (h *head) signatures() (out []signature, err error) {
	for _, e := range h.sig.entries {
		if !signatureTag(e.tag) {
			continue
		}
		if e.typ != typeBin {
			return nil, fmt.Errorf("rpm: signature under tag %d is not binary", e.tag)
		}
		sigs, _, err := pgpsig.ReadSignatures(e.data)
		if err != nil {
			return nil, fmt.Errorf("rpm: tag %d: %w", e.tag, err)
		}
		if len(sigs) != 1 {
			return nil, fmt.Errorf("rpm: tag %d holds %d signatures: want one", e.tag, len(sigs))
		}
		out = append(out, signature{e.tag, sigs[0]})
	}
	return out, nil
}

// overBoth says whether a signature covers header and payload, and not the header alone.
func (s *signature) overBoth() bool { return s.tag == tagPGP || s.tag == tagGPG }

// Verify checks digests and signatures of a. Every signature must be by a trusted key,
// and the payload must be the one that the header has a digest of.
func (f Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	if len(t.Keys) == 0 {
		return nil, errors.New("rpm: no keys are trusted")
	}
	h, err := readHead(ctx, a)
	if err != nil {
		return nil, err
	}
	sigs, err := h.signatures()
	if err != nil {
		return nil, err
	}
	if len(sigs) == 0 {
		return nil, fmt.Errorf("rpm: %w", format.ErrUnsigned)
	}
	kind, want, err := h.payloadDigest()
	if err != nil {
		return nil, err
	}
	var over [2][]*openpgp.Signature
	for _, s := range sigs {
		i := 0
		if s.overBoth() {
			i = 1
		}
		over[i] = append(over[i], s.Signature)
	}
	if len(over[0]) == 0 {
		return nil, errors.New("rpm: no signature is over the header alone: rpm reads the header before the payload")
	}
	header, both := pgpsig.NewHashes(over[0]), pgpsig.NewHashes(over[1])
	header.Write(h.mainRaw)
	both.Write(h.mainRaw)
	m, payload := md5.New(), kind.New()
	m.Write(h.mainRaw)
	if err := pgpsig.Read(ctx, a, h.payload(), a.Size()-h.payload(), io.MultiWriter(both, m, payload)); err != nil {
		return nil, fmt.Errorf("rpm: %w", err)
	}
	if !bytes.Equal(payload.Sum(nil), want) {
		return nil, errPayload
	}
	if err := h.checkDigests(m.Sum(nil), a.Size()); err != nil {
		return nil, err
	}
	infos, err := header.Judge(t, openpgp.Binary)
	if err != nil {
		return nil, fmt.Errorf("rpm: header: %w", err)
	}
	for i := range infos {
		infos[i].Label = "header"
		infos[i].Covers = []string{"the header", "the payload, by its digest in the header"}
	}
	if len(over[1]) > 0 {
		more, err := both.Judge(t, openpgp.Binary)
		if err != nil {
			return nil, fmt.Errorf("rpm: header and payload: %w", err)
		}
		for i := range more {
			more[i].Label = "header and payload"
			more[i].Covers = []string{"the header", "the payload"}
			// The plan's Content, where this one and the header's have one digest.
			more[i].Facts = append(more[i].Facts, format.Fact{Name: "header-and-payload", Value: hex.EncodeToString(more[i].Content)})
			if x := infos[0]; x.Digest == more[i].Digest {
				more[i].Content = combined(over[1][i].Hash, x.Content, more[i].Content)
			}
		}
		infos = append(infos, more...)
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: h.report(), Signatures: infos}
	for i := range infos {
		infos[i].Index = i
		infos[i].Open = append(infos[i].Open, h.open()...)
	}
	return r, nil
}

// checkDigests holds the digests and sizes of the signature header against the file.
func (h *head) checkDigests(m []byte, size int64) error {
	s1, s256 := sha1.Sum(h.mainRaw), sha256.Sum256(h.mainRaw)
	rest := uint64(size - h.begin())
	for _, e := range h.sig.entries {
		ok := true
		switch e.tag {
		case tagSHA1:
			ok = e.typ == typeString && string(e.data) == hex.EncodeToString(s1[:])+"\x00"
		case tagSHA256:
			ok = e.typ == typeString && string(e.data) == hex.EncodeToString(s256[:])+"\x00"
		case tagMD5:
			ok = e.typ == typeBin && bytes.Equal(e.data, m)
		case tagSize:
			ok = e.typ == typeInt32 && e.count == 1 && uint64(binary.BigEndian.Uint32(e.data)) == rest
		case tagLongSize:
			ok = e.typ == typeInt64 && e.count == 1 && binary.BigEndian.Uint64(e.data) == rest
		case tagReserved:
			ok = e.typ == typeBin && zero(e.data)
		case tagPlain, tagLong, tagFileSigs, tagFileSigsLength, tagVerity, tagVerityAlgo: // see open
		default:
			ok = signatureTag(e.tag)
		}
		if !ok {
			return fmt.Errorf("rpm: tag %d of the signature header is not the package's, or not known", e.tag)
		}
	}
	return nil
}

// open lists what no signature covers.
func (h *head) open() []string {
	out := []string{"type, architecture, name and operating system in the lead"}
	for _, e := range h.sig.entries {
		switch e.tag {
		case tagPlain, tagLong:
			out = append(out, "the size of the payload before it was compressed, in the signature header")
		case tagFileSigs, tagFileSigsLength, tagVerity, tagVerityAlgo:
			out = append(out, "signatures of single files (IMA, fs-verity), which have keys of their own")
		}
	}
	if _, ok := h.main.find(tagDigestAlt); ok {
		out = append(out, "for rpm, the payload: instead of this one it takes one with the digest payload-digest-alt, said to be that before it was compressed")
	}
	return slices.Compact(out)
}

// Inspect says what the package and its signatures say of themselves.
func (f Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	h, err := readHead(ctx, a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: h.report(), Signatures: []format.SignatureInfo{}}
	sigs, err := h.signatures()
	if err != nil {
		return nil, err
	}
	for i, s := range sigs {
		info := pgpsig.Describe(s.Signature)
		info.Index, info.Label, info.Covers = i, "header", []string{"the header"}
		x := s.Hash.New()
		x.Write(h.mainRaw)
		info.Content = x.Sum(nil)
		if s.overBoth() { // the payload is not read to inspect
			info.Content = nil
			info.Label, info.Covers = "header and payload", []string{"the header", "the payload"}
		}
		info.Open = append(info.Open, h.open()...)
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// Remove takes signatures out of the signature header; what they took becomes reserved
// space again.
func (f Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	h, err := readSignatures(a)
	if err != nil {
		return nil, err
	}
	n := 0
	rest := slices.DeleteFunc(slices.Clone(h.sig.entries), func(e entry) bool {
		if !signatureTag(e.tag) {
			return false
		}
		n++
		return index == -1 || index == n-1
	})
	switch {
	case n == 0:
		return nil, fmt.Errorf("rpm: %w", format.ErrUnsigned)
	case len(rest) == len(h.sig.entries):
		return nil, fmt.Errorf("rpm: signature %d of %d", index, n)
	}
	return patch(a, h, rest), nil
}

// Extract returns signature index as an OpenPGP packet.
func (f Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	h, err := readSignatures(a)
	if err != nil {
		return nil, err
	}
	sigs, err := h.signatures()
	if err != nil {
		return nil, err
	}
	switch {
	case len(sigs) == 0:
		return nil, fmt.Errorf("rpm: %w", format.ErrUnsigned)
	case index < 0 || index >= len(sigs):
		return nil, fmt.Errorf("rpm: signature %d of %d", index, len(sigs))
	}
	return &format.Sidecar{Suffix: ".sig", Data: openpgp.AppendPacket(nil, openpgp.TagSignature, sigs[index].Body())}, nil
}
