package vbmeta

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

const (
	headerSize = 256
	align      = 64      // of the blocks
	maxImage   = 1 << 20 // bytes; libavb itself reads 64 KiB
	flagsKnown = 1 | 2   // hash trees disabled, verification disabled
	sector     = 512     // bytes: partitions are a multiple
	releaseAt  = 128
	reservedAt = 176
)

// algorithms are those that keys of this project can make: RSA with 4096 bits.
var algorithms = map[uint32]sigalg.Scheme{2: sigalg.RSAPKCS1SHA256, 5: sigalg.RSAPKCS1SHA512}

func algorithmOf(k sigalg.Key, s sigalg.Scheme) (uint32, error) {
	for n, a := range algorithms {
		if k == sigalg.RSA4096 && a == s {
			return n, nil
		}
	}
	return 0, fmt.Errorf("vbmeta: key %s with scheme %s: Android verifies rsa-4096 with rsa-pkcs1-sha256 or rsa-pkcs1-sha512", k, s)
}

// image is a parsed one.
type image struct {
	at          int64 // offset in the file
	footer      *footer
	raw         []byte // header, authentication block, auxiliary block
	header      []byte
	algorithm   uint32
	digest      []byte
	signature   []byte
	descriptors []byte
	key         []byte
	metadata    []byte
	list        []descriptor
}

func (im *image) flags() uint32         { return be32(im.header[120:]) }
func (im *image) rollbackIndex() uint64 { return be64(im.header[112:]) }

func pad(b []byte) []byte {
	for len(b)%align != 0 {
		b = append(b, 0)
	}
	return b
}

// open reads an image that begins the file, or to which a footer at its end points.
func open(a format.Artifact) (*image, error) {
	if a.Size() < headerSize {
		return nil, ErrNotVBMeta
	}
	var head [4]byte
	if err := format.ReadFull(a, head[:], 0); err != nil {
		return nil, fmt.Errorf("vbmeta: %w", err)
	}
	if string(head[:]) == "AVB0" {
		return openAt(a, 0, a.Size())
	}
	f, err := readFooter(a)
	if err != nil {
		return nil, err
	}
	im, err := openAt(a, f.offset, a.Size()-footerSize)
	if err != nil {
		return nil, err
	}
	im.footer = f
	return im, im.checkFooter()
}

// openAt reads an image that begins at off and ends before end.
func openAt(a format.Artifact, off, end int64) (*image, error) {
	if end-off < headerSize {
		return nil, ErrNotVBMeta
	}
	h := make([]byte, headerSize)
	if err := format.ReadFull(a, h, off); err != nil {
		return nil, fmt.Errorf("vbmeta: %w", err)
	}
	if string(h[:4]) != "AVB0" {
		return nil, ErrNotVBMeta
	}
	auth, aux := be64(h[12:]), be64(h[20:])
	if auth > maxImage || aux > maxImage || int64(headerSize+auth+aux) > min(end-off, maxImage) {
		return nil, fmt.Errorf("%w: sizes of its blocks", ErrMalformed)
	}
	im := &image{at: off, header: h, algorithm: be32(h[28:]), raw: make([]byte, headerSize+auth+aux)}
	if err := format.ReadFull(a, im.raw, off); err != nil {
		return nil, fmt.Errorf("vbmeta: %w", err)
	}
	authBlock, auxBlock := im.raw[headerSize:headerSize+auth], im.raw[headerSize+auth:]
	sizes := [5]uint64{be64(h[40:]), be64(h[56:]), be64(h[104:]), be64(h[72:]), be64(h[88:])} // digest, signature, descriptors, key, metadata
	if sizes[0] > auth || sizes[1] > auth-sizes[0] || sizes[2] > aux || sizes[3] > aux-sizes[2] || sizes[4] > aux-sizes[2]-sizes[3] {
		return nil, fmt.Errorf("%w: sizes of its parts", ErrMalformed)
	}
	im.digest, im.signature = authBlock[:sizes[0]], authBlock[sizes[0]:sizes[0]+sizes[1]]
	im.descriptors, auxBlock = auxBlock[:sizes[2]], auxBlock[sizes[2]:]
	im.key, im.metadata = auxBlock[:sizes[3]], auxBlock[sizes[3]:sizes[3]+sizes[4]]
	if err := im.parse(); err != nil {
		return nil, err
	}
	// The one layout of these parts, with zeros between blocks: else bytes that
	// nobody reads would be signed, or not be signed.
	again := im.signedBytes(im.algorithm)
	if !bytes.Equal(im.raw, slices.Concat(again[:headerSize], pad(slices.Concat(im.digest, im.signature)), again[headerSize:])) {
		return nil, fmt.Errorf("%w: not in avbtool's layout", ErrMalformed)
	}
	return im, nil
}

// parse checks what does not depend on the signature.
func (im *image) parse() error {
	h := im.header
	if len(h) != headerSize || string(h[:4]) != "AVB0" {
		return ErrNotVBMeta
	}
	release := h[releaseAt:reservedAt]
	end := bytes.IndexByte(release, 0)
	switch {
	case be32(h[4:]) != 1 || be32(h[8:]) > 3:
		return fmt.Errorf("%w: version %d.%d of libavb", ErrMalformed, be32(h[4:]), be32(h[8:]))
	case im.flags()&^flagsKnown != 0:
		return fmt.Errorf("%w: flags %#x", ErrMalformed, im.flags())
	case end < 0 || len(bytes.Trim(release[end:], "\x00")) > 0 || len(bytes.Trim(h[reservedAt:], "\x00")) > 0:
		return fmt.Errorf("%w: release or reserved bytes", ErrMalformed)
	case im.algorithm == 0 && (len(im.digest) > 0 || len(im.signature) > 0 || len(im.key) > 0):
		return fmt.Errorf("%w: signature without an algorithm", ErrMalformed)
	}
	if alg, ok := algorithms[im.algorithm]; ok && im.raw != nil && (len(im.digest) != alg.Hash().Size() || len(im.signature) != 512) {
		return fmt.Errorf("%w: sizes of digest and signature", ErrMalformed)
	}
	var err error
	im.list, err = parseDescriptors(im.descriptors)
	return err
}

// parseBare reads a plan's parts, which are as of an image without signature.
func parseBare(header, descriptors, metadata []byte) (*image, error) {
	im := &image{header: header, descriptors: descriptors, metadata: metadata}
	if len(descriptors)+len(metadata) > maxImage {
		return nil, fmt.Errorf("%w: size", ErrMalformed)
	}
	if err := im.parse(); err != nil {
		return nil, err
	}
	if !bytes.Equal(im.bare(), header) {
		return nil, fmt.Errorf("%w: header of the plan", ErrMalformed)
	}
	return im, nil
}

// bare is the header of this image without signature and key.
func (im *image) bare() []byte {
	c := *im
	c.key = nil
	return c.signedBytes(0)[:headerSize]
}

// signedBytes are header and auxiliary block for an algorithm: what is signed.
func (im *image) signedBytes(algorithm uint32) []byte {
	hash, sig := uint64(len(im.digest)), uint64(len(im.signature))
	if alg, ok := algorithms[algorithm]; ok {
		hash, sig = uint64(alg.Hash().Size()), 512
	} else if algorithm == 0 {
		hash, sig = 0, 0
	}
	aux := pad(slices.Concat(im.descriptors, im.key, im.metadata))
	h := slices.Clone(im.header)
	binary.BigEndian.PutUint32(h[28:], algorithm)
	desc, key, meta := uint64(len(im.descriptors)), uint64(len(im.key)), uint64(len(im.metadata))
	for _, f := range []struct {
		at int
		v  uint64
	}{
		{12, (hash + sig + align - 1) / align * align}, {20, uint64(len(aux))}, {32, 0}, {40, hash}, {48, hash}, {56, sig},
		{64, desc}, {72, key}, {80, desc + key}, {88, meta}, {96, 0}, {104, desc},
	} {
		binary.BigEndian.PutUint64(h[f.at:], f.v)
	}
	return append(h, aux...)
}

// encodeKey is struct AvbRSAPublicKeyHeader with its two numbers: the modulus, and
// the square of R that Montgomery's multiplication wants.
func encodeKey(pub crypto.PublicKey) ([]byte, error) {
	k, ok := pub.(*rsa.PublicKey)
	if !ok || k.N.BitLen() != 4096 || k.E != 65537 {
		return nil, fmt.Errorf("vbmeta: want an RSA key of 4096 bits with exponent 65537")
	}
	word := new(big.Int).Lsh(big.NewInt(1), 32)
	inverse := new(big.Int).ModInverse(k.N, word)
	if inverse == nil {
		return nil, fmt.Errorf("vbmeta: modulus is even")
	}
	rr := new(big.Int).Lsh(big.NewInt(1), 2*4096)
	out := binary.BigEndian.AppendUint32(nil, 4096)
	out = binary.BigEndian.AppendUint32(out, uint32(inverse.Sub(word, inverse).Uint64()))
	out = append(out, k.N.FillBytes(make([]byte, 512))...)
	return append(out, rr.Mod(rr, k.N).FillBytes(make([]byte, 512))...), nil
}
