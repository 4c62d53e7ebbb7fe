package pe

import (
	"crypto"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

var (
	oidPageHashesV1 = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 3, 1}
	oidPageHashesV2 = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 3, 2}
)

// classPageHashes marks the serialized object that holds page hashes.
const classPageHashes = "\xa6\xb5\x86\xd5\xb4\xa1\x24\x66\xae\x05\xa2\x17\xda\x8e\x60\xd6"

var (
	context0 = cbasn1.Tag(0).ContextSpecific()
	context1 = cbasn1.Tag(1).ContextSpecific()
)

// indirectData is SpcIndirectDataContent for an image: which digest it has and,
// where they were asked for, the hashes of its pages.
//
//	SpcPeImageData ::= SEQUENCE { flags BIT STRING, file [0] EXPLICIT SpcLink }
type indirectData struct {
	hash   crypto.Hash
	digest []byte
	pages  []byte // SpcPeImagePageHashesV2's table; nil when there is none
}

// encode gives the DER. Without page hashes the link says "<<<Obsolete>>>", as
// everybody's does.
func (d indirectData) encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BitString(nil)
		b.AddASN1(context0.Constructed(), func(b *cryptobyte.Builder) {
			if d.pages != nil {
				addPageHashes(b, d.pages)
				return
			}
			b.AddBytes(authenticode.ObsoleteLink())
		})
	})
	value, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	return authenticode.Indirect{Type: authenticode.OIDPEImageData, Value: value, Hash: d.hash, Digest: d.digest}.Encode()
}

func addPageHashes(b *cryptobyte.Builder, pages []byte) {
	b.AddASN1(context1.Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1OctetString([]byte(classPageHashes))
		b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidPageHashesV2)
					b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddASN1OctetString(pages) })
				})
			})
		})
	})
}

// errIndirect is wrapped by errors about a content that is no image's.
var errIndirect = authenticode.ErrContent

// parseIndirect reads the content of a signature strictly. Links that are neither
// a file name nor page hashes are refused.
func parseIndirect(der []byte) (*indirectData, error) {
	c, err := authenticode.ParseIndirect(der)
	if err != nil {
		return nil, err
	}
	if !c.Type.Equal(authenticode.OIDPEImageData) {
		return nil, fmt.Errorf("%w: it is about %v, not about a PE image", errIndirect, c.Type)
	}
	d := &indirectData{hash: c.Hash, digest: c.Digest}
	data := cryptobyte.String(c.Value)
	var flags asn1.BitString
	var image, link cryptobyte.String
	if !data.ReadASN1(&image, cbasn1.SEQUENCE) || !data.Empty() ||
		!image.ReadASN1BitString(&flags) || !image.ReadASN1(&link, context0.Constructed()) || !image.Empty() {
		return nil, errIndirect
	}
	return d, d.parseLink(link)
}

func (d *indirectData) parseLink(link cryptobyte.String) error {
	if !link.PeekASN1Tag(context1.Constructed()) {
		return authenticode.ParseFileLink(link)
	}
	var v, class, object, set, attr, values cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !link.ReadASN1(&v, context1.Constructed()) || !link.Empty() ||
		!v.ReadASN1(&class, cbasn1.OCTET_STRING) || !v.ReadASN1(&object, cbasn1.OCTET_STRING) || !v.Empty() {
		return errIndirect
	}
	if string(class) != classPageHashes {
		return fmt.Errorf("%w: moniker of class %x", errIndirect, []byte(class))
	}
	if !object.ReadASN1(&set, cbasn1.SET) || !object.Empty() ||
		!set.ReadASN1(&attr, cbasn1.SEQUENCE) || !set.Empty() ||
		!cms.ReadOID(&attr, &oid) || !attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() ||
		!values.ReadASN1Bytes(&d.pages, cbasn1.OCTET_STRING) || !values.Empty() {
		return errIndirect
	}
	switch {
	case oid.Equal(oidPageHashesV1):
		return fmt.Errorf("%w: page hashes with SHA-1", ErrWeak)
	case !oid.Equal(oidPageHashesV2):
		return fmt.Errorf("%w: page hashes of kind %v", errIndirect, oid)
	case len(d.pages) == 0 || len(d.pages)%pageEntry != 0:
		return fmt.Errorf("%w: page hashes of %d bytes", errIndirect, len(d.pages))
	}
	return nil
}
