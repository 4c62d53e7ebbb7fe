package mcuboot

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// facts are what header and protected TLVs say: all of it is signed.
func (im *image) facts(a format.Artifact) ([]format.Fact, error) {
	out := im.header.facts()
	if im.protected() == 0 {
		return out, nil
	}
	b := make([]byte, im.protected())
	if err := format.ReadFull(a, b, im.protectsAt()); err != nil {
		return nil, fmt.Errorf("mcuboot: %w", err)
	}
	if binary.LittleEndian.Uint16(b) != protectedMagic || int64(binary.LittleEndian.Uint16(b[2:])) != im.protected() {
		return nil, fmt.Errorf("%w: protected TLVs", ErrMalformed)
	}
	for b = b[infoSize:]; len(b) > 0; {
		if len(b) < 4 || len(b)-4 < int(binary.LittleEndian.Uint16(b[2:])) {
			return nil, fmt.Errorf("%w: a protected TLV is cut", ErrMalformed)
		}
		kind, v := binary.LittleEndian.Uint16(b), b[4:4+binary.LittleEndian.Uint16(b[2:])]
		b = b[4+len(v):]
		switch {
		case kind == tlvCounter && len(v) == 4:
			out = append(out, format.Fact{Name: "security-counter", Value: fmt.Sprint(binary.LittleEndian.Uint32(v))})
		case kind == tlvDependency && len(v) == 12:
			out = append(out, format.Fact{Name: "dependency", Value: fmt.Sprintf("image %d of version %s", v[0], version(v[4:]))})
		case kind <= tlvPure:
			return nil, fmt.Errorf("%w: protected TLV of type %#02x: signatures stand in the other area", ErrMalformed, kind)
		default:
			out = append(out, format.Fact{Name: "tlv", Value: fmt.Sprintf("type %#04x: %.64x", kind, v)})
		}
		if len(out) > 128 {
			return nil, fmt.Errorf("%w: more protected TLVs than there are uses for", ErrMalformed)
		}
	}
	return out, nil
}

func version(b []byte) string {
	return fmt.Sprintf("%d.%d.%d+%d", b[0], b[1], binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:]))
}

// facts are those that follow from the header alone.
func (h header) facts() []format.Fact {
	var flags []string
	for _, f := range []struct {
		bit  uint32
		name string
	}{{0x1, "position independent"}, {0x10, "not bootable"}, {0x20, "loaded into RAM"}, {0x100, "fixed in ROM"}, {0x200, "compressed"}, {0x400, "compressed"}} {
		if h.flags()&f.bit != 0 {
			flags = append(flags, f.name)
		}
	}
	out := []format.Fact{{Name: "version", Value: version(h.version())}}
	if h.load() != 0 {
		out = append(out, format.Fact{Name: "load-address", Value: fmt.Sprintf("%#08x", h.load())})
	}
	if h.flags() != 0 {
		out = append(out, format.Fact{Name: "flags", Value: strings.TrimSpace(fmt.Sprintf("%#x %s", h.flags(), strings.Join(flags, ", ")))})
	}
	return out
}

// checkFacts wants the header's facts first; those of protected TLVs are the
// word of whoever made the plan.
func (h header) checkFacts(facts []format.Fact) error {
	want := h.facts()
	if len(facts) < len(want) || !slices.Equal(facts[:len(want)], want) {
		return fmt.Errorf("mcuboot: %w: facts are not those of its header", single.ErrPlan)
	}
	for _, f := range facts[len(want):] {
		if h.protected() == 0 || f.Name != "security-counter" && f.Name != "dependency" && f.Name != "tlv" {
			return fmt.Errorf("mcuboot: %w: fact %.40q", single.ErrPlan, f.Name)
		}
	}
	return nil
}

// hashOf is the image hash of a TLV that holds a digest.
func hashOf(kind byte) crypto.Hash {
	for h, k := range digestTypes {
		if k == kind {
			return h
		}
	}
	return 0
}

// scheme is what a key of kind k signs with into a TLV of a type.
func scheme(k sigalg.Key, kind byte, h crypto.Hash) (sigalg.Scheme, error) {
	for _, s := range []sigalg.Scheme{sigalg.RSAPSSSHA256, sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.PureEd25519} {
		if t, err := signatureType(k, s, h); err == nil && t == kind {
			return s, nil
		}
	}
	return "", errors.New("mcuboot: another kind of key")
}

// Verify checks every signature of a. Keys are trusted by themselves, or through
// their certificates among the intermediates.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	im, err := parse(a)
	if err != nil {
		return nil, err
	}
	if len(im.signatures) == 0 {
		return nil, fmt.Errorf("mcuboot: %w", format.ErrUnsigned)
	}
	h := hashOf(im.digestType)
	if h == 0 {
		return nil, fmt.Errorf("%w: it carries no digest of itself", ErrMalformed)
	}
	sums, err := format.Sum(ctx, prefix{a, im.end}, h)
	if err != nil {
		return nil, fmt.Errorf("mcuboot: %w", err)
	}
	if !bytes.Equal(sums[0], im.digest) {
		return nil, errors.New("mcuboot: image does not have the digest that it carries")
	}
	r := &format.Report{Format: Name, Size: a.Size()}
	if r.Facts, err = im.facts(a); err != nil {
		return nil, err
	}
	trusted := single.Keys(t)
	for i, s := range im.signatures {
		info := im.describe(i)
		pub, tbs, err := single.Key(Name, trusted, func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
			sc, err := scheme(k, s.kind, h)
			return toBeSigned(sc, im.digest), s.value, err
		})
		if err != nil {
			return nil, fmt.Errorf("%w: signature %d", err, i)
		}
		name, err := keyHash(pub, h)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(name, s.key) {
			return nil, fmt.Errorf("%w: signature %d names another key than the one that made it", ErrMalformed, i)
		}
		info.Scheme, info.Key, info.Content, info.Covers = tbs.Scheme, pub, sums[0], []string{"header, payload and protected TLVs"}
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

func (im *image) describe(i int) format.SignatureInfo {
	s := im.signatures[i]
	info := format.SignatureInfo{
		Index: i, Digest: format.HashName(hashOf(im.digestType)), Content: im.digest, Value: s.value, Covers: []string{},
		Facts: []format.Fact{{Name: "key-hash", Value: fmt.Sprintf("%x", s.key)}},
	}
	switch {
	case im.trailer.ok:
		info.Open = []string{"boot trailer: the image is to be installed, and is confirmed"}
	case im.trailer.magic:
		info.Open = []string{"boot trailer: the image is to be tried"}
	case im.padded:
		info.Open = []string{"how far the slot is padded with erased bytes"}
	}
	return info
}

// Inspect says what the image and its signatures say of themselves.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	im, err := parse(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	if r.Facts, err = im.facts(a); err != nil {
		return nil, err
	}
	for i := range im.signatures {
		r.Signatures = append(r.Signatures, im.describe(i))
	}
	return r, nil
}
