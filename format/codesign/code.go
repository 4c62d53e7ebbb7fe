package codesign

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// Code is all of a CodeDirectory that does not follow from who signs: the part of a
// plan's body. Rules for its fields: those of the body that it stands in.
type Code struct {
	Identifier   string `cbor:"1,keyasint"`
	Team         string `cbor:"2,keyasint"` // "": that of the certificate, where Apple issued it
	Flags        uint32 `cbor:"3,keyasint"`
	PageSize     int64  `cbor:"4,keyasint"` // 0: one hash over everything
	Limit        int64  `cbor:"5,keyasint"` // bytes that are hashed
	ExecBase     uint64 `cbor:"6,keyasint"`
	ExecLimit    uint64 `cbor:"7,keyasint"`
	ExecFlags    uint64 `cbor:"8,keyasint"`
	Runtime      uint32 `cbor:"9,keyasint"`
	Info         []byte `cbor:"10,keyasint"` // digest of Info.plist, or empty
	Resources    []byte `cbor:"11,keyasint"` // digest of CodeResources, or empty
	Container    []byte `cbor:"12,keyasint"` // digest of what the container hashes besides, or empty
	Requirements []byte `cbor:"13,keyasint"` // a requirement set, or empty: the one of the identity
	Entitlements []byte `cbor:"14,keyasint"` // a property list in XML, or empty
	Slots        []byte `cbor:"15,keyasint"` // digests of the pages
	SigningTime  bool   `cbor:"16,keyasint"` // claim the time of signing in the signature
	Space        int64  `cbor:"17,keyasint"` // bytes that the whole signature has, 0: as many as it needs
}

// Check refuses a Code that no signer would make.
func (c *Code) Check(h crypto.Hash) error {
	if _, err := hashType(h); err != nil {
		return err
	}
	size := int64(h.Size())
	d := Directory{PageSize: c.PageSize, Limit: c.Limit}
	switch {
	case c.Identifier == "" || len(c.Identifier) > maxText || !printable(c.Identifier):
		return fmt.Errorf("codesign: identifier %.60q: want 1 to %d characters that can be shown", c.Identifier, maxText)
	case len(c.Team) > maxText || !printable(c.Team):
		return fmt.Errorf("codesign: team %.60q", c.Team)
	case c.Flags&(FlagAdHoc|FlagLinkerSigned) != 0:
		return fmt.Errorf("codesign: flags %#x are for signatures that nobody made", c.Flags)
	case c.PageSize != 0 && c.PageSize != 4096 && c.PageSize != 16384:
		return fmt.Errorf("codesign: pages of %d bytes: want 4096 or 16384", c.PageSize)
	case c.Limit < 0 || c.Limit > 1<<40:
		return fmt.Errorf("codesign: %d bytes of code", c.Limit)
	case int64(len(c.Slots)) != d.pages()*size:
		return fmt.Errorf("codesign: %d bytes of digests for %d pages", len(c.Slots), d.pages())
	case c.Flags&FlagRuntime == 0 && c.Runtime != 0:
		return errors.New("codesign: a version of the hardened runtime without its flag")
	case c.Space < 0 || c.Space > MaxSize:
		return fmt.Errorf("codesign: space of %d bytes", c.Space)
	}
	for _, s := range [][]byte{c.Info, c.Resources, c.Container} {
		if len(s) != 0 && len(s) != int(size) {
			return fmt.Errorf("codesign: a special slot of %d bytes: want %d", len(s), size)
		}
	}
	if len(c.Requirements) > 0 {
		if err := CheckRequirements(c.Requirements); err != nil {
			return err
		}
	}
	if len(c.Entitlements) > 0 {
		if _, err := EntitlementsDER(c.Entitlements); err != nil {
			return err
		}
	}
	return nil
}

// printable refuses what could pass for another text where it is shown.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Assembled is a signature that lacks its signature value.
type Assembled struct {
	Message []byte // what is signed: the attributes of the CMS signature
	Before  int    // zeros before the signature in what Finish and Embed return
	blobs   []place
	spec    cms.SignerSpec
	id      format.Identity
	space   int64
}

// DirectoryDigest is the digest of the CodeDirectory.
func (a *Assembled) DirectoryDigest(h crypto.Hash) []byte { return a.blobs[0].digest(h) }

func (p *place) digest(h crypto.Hash) []byte {
	x := h.New()
	x.Write(p.blob)
	x.Write(p.more)
	return x.Sum(nil)
}

// Assemble derives the CodeDirectory and the message that signs it. It refuses
// identities that Apple's systems do not take, and signatures that would not fit.
func (c *Code) Assemble(h crypto.Hash, id format.Identity, at time.Time) (*Assembled, error) {
	if err := c.Check(h); err != nil {
		return nil, err
	}
	if err := CheckIdentity(id); err != nil {
		return nil, err
	}
	d := Directory{
		Flags: c.Flags, Hash: h, PageSize: c.PageSize, Limit: c.Limit, Identifier: c.Identifier, Team: c.Team,
		ExecBase: c.ExecBase, ExecLimit: c.ExecLimit, ExecFlags: c.ExecFlags, Runtime: c.Runtime, Slots: c.Slots,
	}
	if d.Team == "" {
		d.Team = Team(id.Chain[0])
	}
	requirements := c.Requirements
	if len(requirements) == 0 {
		requirements = designated(c.Identifier, id.Chain)
	}
	a := &Assembled{blobs: []place{{}, {number: SlotRequirements, blob: requirements}}, id: id, space: c.Space}
	d.Special[SlotRequirements-1] = Digest(h, requirements)
	if len(c.Entitlements) > 0 {
		der, err := EntitlementsDER(c.Entitlements)
		if err != nil {
			return nil, err
		}
		text, binary := blob(magicEntitlements, c.Entitlements), blob(magicEntitlementsDER, der)
		a.blobs = append(a.blobs, place{number: SlotEntitlements, blob: text}, place{number: SlotEntitlementsDER, blob: binary})
		d.Special[SlotEntitlements-1], d.Special[SlotEntitlementsDER-1] = Digest(h, text), Digest(h, binary)
	}
	for slot, s := range map[int][]byte{SlotInfo: c.Info, SlotResources: c.Resources, SlotContainer: c.Container} {
		if len(s) > 0 {
			d.Special[slot-1] = s
		}
	}
	head, err := d.head()
	if err != nil {
		return nil, err
	}
	a.blobs[0] = place{placeDirectory, head, c.Slots}
	if a.spec, err = spec(&a.blobs[0], h, id, at, c.SigningTime); err != nil {
		return nil, err
	}
	if a.Message, err = a.spec.SignedAttributes(); err != nil {
		return nil, fmt.Errorf("codesign: %w", err)
	}
	// Known before anybody signs: a signature of any value is as long, or some bytes
	// shorter (ECDSA in DER).
	if need := a.size() + sizeOf(id, a.Message); c.Space > 0 && need > c.Space {
		return nil, fmt.Errorf("%w: %d bytes, without a timestamp, for %d: use option reserve", ErrSpace, need, c.Space)
	}
	return a, nil
}

// size is that of everything but the content of the CMS blob.
func (a *Assembled) size() int64 { return int64(indexSize(a.blobs)) + 16 }

// sizeOf bounds the CMS structure of an identity over a message from above.
func sizeOf(id format.Identity, message []byte) int64 {
	n := int64(len(message)) + 1024 // structure, names, signature value up to RSA-4096
	for _, c := range id.Chain {
		n += int64(len(c.Raw))
	}
	return n
}

// CheckIdentity refuses keys and certificates that Apple's systems do not accept:
// they verify RSA and ECDSA, and want the usage code signing, or one of usages.
func CheckIdentity(id format.Identity, usages ...asn1.ObjectIdentifier) error {
	if len(id.Chain) == 0 || slices.Contains(id.Chain, nil) {
		return errors.New("codesign: a certificate is needed: give the key a certificate chain")
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return fmt.Errorf("codesign: %w", err)
	}
	switch k {
	case sigalg.RSA3072, sigalg.RSA4096, sigalg.P256, sigalg.P384:
	default:
		return fmt.Errorf("codesign: Apple's systems do not verify %s signatures: want RSA or ECDSA", k)
	}
	leaf := id.Chain[0]
	pub, err := cms.PublicKey(leaf)
	if err != nil {
		return fmt.Errorf("codesign: %w", err)
	}
	eq, ok := pub.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !id.Scheme.Fits(k) || id.Scheme.PSS():
		return fmt.Errorf("codesign: scheme %q does not fit a key of %s: Apple's systems know PKCS #1 and ECDSA", id.Scheme, k)
	case !ok || !eq.Equal(id.Public):
		return fmt.Errorf("codesign: certificate %q is not of the key that signs", leaf.Subject)
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) && !hasUsage(leaf, usages):
		return fmt.Errorf("codesign: certificate %q is not for code signing", leaf.Subject)
	}
	return nil
}

// spec is the CMS signature over a CodeDirectory, with the attributes that name it
// once more: the list of truncated digests and the digests by algorithm.
func spec(directory *place, h crypto.Hash, id format.Identity, at time.Time, signingTime bool) (cms.SignerSpec, error) {
	sum := directory.digest(h)
	digest, content := id.Scheme.Hash(), sum
	if digest != h {
		content = directory.digest(digest)
	}
	s := cms.SignerSpec{ContentType: cms.OIDData, ContentDigest: content, Digest: digest, Scheme: id.Scheme}
	if signingTime {
		t, err := SigningTime(at)
		if err != nil {
			return s, err
		}
		s.Attributes = append(s.Attributes, cms.NewAttribute(cms.OIDSigningTime, t))
	}
	list, err := octets(hashList(sum))
	if err != nil {
		return s, err
	}
	oid, err := hashOID(h)
	if err != nil {
		return s, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1OctetString(sum)
	})
	one, err := b.Bytes()
	if err != nil {
		return s, fmt.Errorf("codesign: %w", err)
	}
	s.Attributes = append(s.Attributes, cms.NewAttribute(oidHashList, list), cms.NewAttribute(oidHashes, one))
	return s, nil
}

func octets(b []byte) ([]byte, error) {
	var x cryptobyte.Builder
	x.AddASN1OctetString(b)
	return x.Bytes()
}

// hashList is the property list of the CodeDirectories' digests, 20 bytes of each.
func hashList(sums ...[]byte) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>cdhashes</key>
	<array>
`)
	for _, s := range sums {
		fmt.Fprintf(&b, "\t\t<data>\n\t\t%s\n\t\t</data>\n", base64.StdEncoding.EncodeToString(s[:20]))
	}
	b.WriteString("\t</array>\n</dict>\n</plist>\n")
	return b.Bytes()
}

func hashOID(h crypto.Hash) (asn1.ObjectIdentifier, error) {
	switch h {
	case crypto.SHA256:
		return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, nil
	case crypto.SHA384:
		return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, nil
	}
	return nil, fmt.Errorf("codesign: hash %v", h)
}

// SigningTime encodes Time (RFC 5652 section 11.3).
func SigningTime(at time.Time) ([]byte, error) {
	at = at.UTC().Truncate(time.Second)
	if at.Year() < 2000 || at.Year() > 2049 {
		return nil, fmt.Errorf("codesign: signing time %s: want the years 2000 to 2049", at.Format(time.RFC3339))
	}
	var b cryptobyte.Builder
	b.AddASN1UTCTime(at)
	return b.Bytes()
}

// Finish puts the signature value, and its timestamp, into a SuperBlob of the space
// that was reserved, zeros at its end.
func (a *Assembled) Finish(sig format.Signature) ([]byte, error) {
	if err := sigalg.Verify(a.id.Public, a.id.Scheme, a.Message, sig.Value); err != nil {
		return nil, fmt.Errorf("codesign: signature does not fit the plan: %w", err)
	}
	if len(sig.Timestamp) == 0 {
		return a.Embed(sig.Value)
	}
	if err := CheckToken(sig.Timestamp, sig.Value); err != nil {
		return nil, err
	}
	return a.embed(cms.SignerInfo{
		Spec: a.spec, Signature: sig.Value, Certificate: a.id.Chain[0],
		Unsigned: []cms.Attribute{cms.NewAttribute(cms.OIDTimeStampToken, sig.Timestamp)},
	})
}

// Embed is Finish for a signature value that somebody else checks, without a timestamp:
// what has the digest of signed code is derived from it.
func (a *Assembled) Embed(value []byte) ([]byte, error) {
	return a.embed(cms.SignerInfo{Spec: a.spec, Signature: value, Certificate: a.id.Chain[0]})
}

func (a *Assembled) embed(info cms.SignerInfo) ([]byte, error) {
	der, err := cms.Encode(cms.Content{Type: cms.OIDData}, a.id.Chain, info)
	if err != nil {
		return nil, fmt.Errorf("codesign: %w", err)
	}
	return fit(append(slices.Clone(a.blobs), place{number: placeSignature, blob: blob(magicWrapper, der)}), a.space, a.Before)
}

// fit makes a SuperBlob of exactly space bytes, or of what it needs where space is 0,
// behind so many zeros.
func fit(ps []place, space int64, before int) ([]byte, error) {
	n := int64(indexSize(ps))
	if space == 0 {
		space = n
	}
	if n > space {
		return nil, fmt.Errorf("%w: %d bytes for %d: use option reserve", ErrSpace, n, space)
	}
	b := make([]byte, int64(before)+space)
	appendIndex(b[:before], magicEmbedded, ps)
	return b, nil
}

// CheckToken refuses a timestamp that is about something else.
func CheckToken(der, value []byte) error {
	t, err := tsp.ParseToken(der)
	if err != nil {
		return fmt.Errorf("codesign: timestamp: %w", err)
	}
	if _, err := t.VerifySignature(imprintOf(value)); err != nil {
		return fmt.Errorf("codesign: timestamp: %w", err)
	}
	return nil
}

// imprintOf gives the digests that a timestamp over value may be about.
func imprintOf(value []byte) func(crypto.Hash) ([]byte, error) {
	return func(h crypto.Hash) ([]byte, error) {
		if format.HashName(h) == "" {
			return nil, fmt.Errorf("%w: timestamp over %v", ErrWeak, h)
		}
		return Digest(h, value), nil
	}
}
