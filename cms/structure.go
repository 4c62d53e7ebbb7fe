package cms

import (
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// structure is a SignedData cut into pieces that are kept byte for byte. What
// parseStructure accepts, encode gives back unchanged; edits replace or add
// pieces and nothing else.
type structure struct {
	version    int
	digests    [][]byte // AlgorithmIdentifiers
	typ        asn1.ObjectIdentifier
	content    []byte // the one element inside [0], nil when detached
	hasCerts   bool
	certs      [][]byte
	hasCRLs    bool
	crls       []byte // contents of [1]
	signers    []signerStructure
	pkcs7Style bool // content is a SEQUENCE, no OCTET STRING
}

type signerStructure struct {
	version     int
	sid         []byte
	digest      []byte // AlgorithmIdentifier
	hasSigned   bool
	signed      [][]byte // Attributes
	algorithm   []byte   // AlgorithmIdentifier
	signature   []byte
	hasUnsigned bool
	unsigned    [][]byte // Attributes
}

func parseStructure(der []byte) (*structure, error) {
	if len(der) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrLimit, len(der), MaxSize)
	}
	one, rest, err := Split(der)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, syntax("bytes after ContentInfo")
	}
	s := cryptobyte.String(one)
	var info, wrapped, sd cryptobyte.String
	var typ asn1.ObjectIdentifier
	if !s.ReadASN1(&info, cbasn1.SEQUENCE) || !ReadOID(&info, &typ) {
		return nil, syntax("ContentInfo")
	}
	if !typ.Equal(OIDSignedData) {
		return nil, syntax("content type is not signed data")
	}
	if indefinite(info) {
		return nil, ErrIndefinite
	}
	if !info.ReadASN1(&wrapped, tagExplicit0) || !info.Empty() {
		return nil, syntax("ContentInfo content")
	}
	if indefinite(wrapped) {
		return nil, ErrIndefinite
	}
	if !wrapped.ReadASN1(&sd, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return nil, syntax("SignedData")
	}
	return parseSignedData(sd)
}

// indefinite reports whether the next element has BER's indefinite length.
func indefinite(s cryptobyte.String) bool { return len(s) > 1 && s[1] == 0x80 }

func parseSignedData(sd cryptobyte.String) (*structure, error) {
	var t structure
	var digests, encap, certs, crls, signers cryptobyte.String
	if !sd.ReadASN1Integer(&t.version) || !sd.ReadASN1(&digests, cbasn1.SET) {
		return nil, syntax("SignedData version or digest algorithms")
	}
	var err error
	if t.digests, err = elements(digests, MaxSigners, "digest algorithms"); err != nil {
		return nil, err
	}
	for _, d := range t.digests {
		s := cryptobyte.String(d)
		if _, ok := readAlgorithm(&s, cbasn1.SEQUENCE); !ok {
			return nil, syntax("digest algorithm")
		}
	}
	if indefinite(sd) {
		return nil, ErrIndefinite
	}
	if !sd.ReadASN1(&encap, cbasn1.SEQUENCE) {
		return nil, syntax("encapsulated content")
	}
	if err := t.parseEncap(encap); err != nil {
		return nil, err
	}
	if indefinite(sd) {
		return nil, ErrIndefinite
	}
	if !sd.ReadOptionalASN1(&certs, &t.hasCerts, tagExplicit0) {
		return nil, syntax("certificates")
	}
	if t.certs, err = elements(certs, MaxCertificates, "certificates"); err != nil {
		return nil, err
	}
	if indefinite(sd) {
		return nil, ErrIndefinite
	}
	if !sd.ReadOptionalASN1(&crls, &t.hasCRLs, tagExplicit1) {
		return nil, syntax("crls")
	}
	if _, err = elements(crls, MaxCertificates, "revocation lists"); err != nil {
		return nil, err
	}
	t.crls = crls
	if indefinite(sd) {
		return nil, ErrIndefinite
	}
	if !sd.ReadASN1(&signers, cbasn1.SET) || !sd.Empty() {
		return nil, syntax("signer infos")
	}
	raws, err := elements(signers, MaxSigners, "signers")
	if err != nil {
		return nil, err
	}
	for _, raw := range raws {
		si, err := parseSigner(raw)
		if err != nil {
			return nil, err
		}
		t.signers = append(t.signers, si)
	}
	return &t, t.checkVersion()
}

func (t *structure) parseEncap(encap cryptobyte.String) error {
	if !ReadOID(&encap, &t.typ) {
		return syntax("content type")
	}
	if encap.Empty() {
		return nil
	}
	if indefinite(encap) {
		return ErrIndefinite
	}
	var wrapped, e cryptobyte.String
	var tag cbasn1.Tag
	if !encap.ReadASN1(&wrapped, tagExplicit0) || !encap.Empty() {
		return syntax("content")
	}
	if indefinite(wrapped) {
		return ErrIndefinite
	}
	if !wrapped.ReadAnyASN1Element(&e, &tag) || !wrapped.Empty() {
		return syntax("content")
	}
	t.content = e
	if tag == cbasn1.OCTET_STRING {
		return nil
	}
	if tag == cbasn1.OCTET_STRING|0x20 {
		return syntax("content is a constructed OCTET STRING (BER)")
	}
	if t.typ.Equal(OIDData) {
		return syntax("content of type data is no OCTET STRING")
	}
	// The digest leaves out the tag: one that may vary could be changed unnoticed.
	if tag != cbasn1.SEQUENCE {
		return syntax("content is neither OCTET STRING nor SEQUENCE")
	}
	t.pkcs7Style = true
	return walk(e, 0)
}

func parseSigner(raw []byte) (signerStructure, error) {
	var t signerStructure
	s := cryptobyte.String(raw)
	var si, sid, digest, signed, alg, unsigned cryptobyte.String
	var tag cbasn1.Tag
	if !s.ReadASN1(&si, cbasn1.SEQUENCE) || !si.ReadASN1Integer(&t.version) ||
		!si.ReadAnyASN1Element(&sid, &tag) || !si.ReadASN1Element(&digest, cbasn1.SEQUENCE) {
		return t, syntax("signer info")
	}
	t.sid, t.digest = sid, digest
	switch {
	case tag == cbasn1.SEQUENCE && t.version == 1:
		if _, _, err := issuerAndSerial(sid); err != nil {
			return t, err
		}
	case tag == tagSKI && t.version == 3:
	default:
		return t, syntax("signer info: version and kind of signer identifier")
	}
	if _, ok := readAlgorithm(&digest, cbasn1.SEQUENCE); !ok {
		return t, syntax("signer info: digest algorithm")
	}
	if indefinite(si) {
		return t, ErrIndefinite
	}
	if !si.ReadOptionalASN1(&signed, &t.hasSigned, tagExplicit0) {
		return t, syntax("signed attributes")
	}
	var err error
	if t.signed, err = elements(signed, MaxAttributes, "signed attributes"); err != nil {
		return t, err
	}
	var signature cryptobyte.String
	if !si.ReadASN1Element(&alg, cbasn1.SEQUENCE) || !si.ReadASN1(&signature, cbasn1.OCTET_STRING) {
		return t, syntax("signature")
	}
	t.algorithm, t.signature = alg, signature
	if _, ok := readAlgorithm(&alg, cbasn1.SEQUENCE); !ok {
		return t, syntax("signature algorithm")
	}
	if indefinite(si) {
		return t, ErrIndefinite
	}
	if !si.ReadOptionalASN1(&unsigned, &t.hasUnsigned, tagExplicit1) || !si.Empty() {
		return t, syntax("unsigned attributes")
	}
	if t.unsigned, err = elements(unsigned, MaxAttributes, "unsigned attributes"); err != nil {
		return t, err
	}
	if t.hasSigned && len(t.signed) == 0 || t.hasUnsigned && len(t.unsigned) == 0 {
		return t, syntax("empty set of attributes")
	}
	return t, nil
}

func issuerAndSerial(sid []byte) (issuer []byte, serial *big.Int, err error) {
	s := cryptobyte.String(sid)
	var seq, name cryptobyte.String
	serial = new(big.Int)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() ||
		!seq.ReadASN1Element(&name, cbasn1.SEQUENCE) ||
		!seq.ReadASN1Integer(serial) || !seq.Empty() {
		return nil, nil, syntax("issuer and serial number")
	}
	if err := walk(name, 0); err != nil {
		return nil, nil, err
	}
	return name, serial, nil
}

// wantVersion computes the version (RFC 5652 section 5.1; PKCS #7 1.5 has 1).
func (t *structure) wantVersion() int {
	if t.pkcs7Style {
		return 1
	}
	v := 1
	if !t.typ.Equal(OIDData) {
		v = 3
	}
	for _, s := range t.signers {
		if s.version == 3 {
			v = 3
		}
	}
	for _, c := range t.certs {
		switch cbasn1.Tag(c[0]) {
		case tagExplicit1:
			v = max(v, 3)
		case cbasn1.Tag(2).ContextSpecific().Constructed():
			v = max(v, 4)
		case cbasn1.Tag(3).ContextSpecific().Constructed():
			v = 5
		}
	}
	lists, _ := elements(t.crls, MaxCertificates, "revocation lists")
	for _, l := range lists {
		if cbasn1.Tag(l[0]) == tagExplicit1 {
			v = 5
		}
	}
	return v
}

func (t *structure) checkVersion() error {
	if t.version == t.wantVersion() {
		return nil
	}
	return syntax(fmt.Sprintf("version %d, want %d", t.version, t.wantVersion()))
}

// addDigest adds a digest algorithm unless its identifier is there, whatever its
// empty parameters look like.
func (t *structure) addDigest(der []byte) {
	s := cryptobyte.String(der)
	a, _ := readAlgorithm(&s, cbasn1.SEQUENCE)
	if !t.hasDigest(a) {
		t.digests = insert(t.digests, der)
	}
}

func (t *structure) hasDigest(a algorithm) bool {
	for _, d := range t.digests {
		s := cryptobyte.String(d)
		if b, ok := readAlgorithm(&s, cbasn1.SEQUENCE); ok && a.same(b) {
			return true
		}
	}
	return false
}

// checkDigests wants the digest algorithms to be those of the signers, each once.
// Nobody signs the list: what else stood in it could be anything.
func (t *structure) checkDigests() error {
	var listed []algorithm
	for _, d := range t.digests {
		s := cryptobyte.String(d)
		a, _ := readAlgorithm(&s, cbasn1.SEQUENCE)
		if slices.ContainsFunc(listed, a.same) {
			return fmt.Errorf("%w: digest algorithm %v is listed twice", ErrAlgorithm, a.oid)
		}
		listed = append(listed, a)
	}
	used := 0
	for i := range t.signers {
		s := cryptobyte.String(t.signers[i].digest)
		a, _ := readAlgorithm(&s, cbasn1.SEQUENCE)
		if !t.hasDigest(a) {
			return fmt.Errorf("%w: signer %d's digest is not among the digest algorithms", ErrAlgorithm, i)
		}
		if !slices.ContainsFunc(t.signers[:i], func(o signerStructure) bool {
			x := cryptobyte.String(o.digest)
			b, _ := readAlgorithm(&x, cbasn1.SEQUENCE)
			return a.same(b)
		}) {
			used++
		}
	}
	if used != len(listed) {
		return fmt.Errorf("%w: a digest algorithm is listed that no signer uses", ErrAlgorithm)
	}
	return nil
}

func (t *structure) encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(OIDSignedData)
		b.AddASN1(tagExplicit0, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, t.build)
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("cms: encode: %w", err)
	}
	if len(der) > MaxSize || len(t.certs) > MaxCertificates || len(t.signers) > MaxSigners {
		return nil, fmt.Errorf("%w: %d bytes, %d certificates, %d signers", ErrLimit, len(der), len(t.certs), len(t.signers))
	}
	return der, nil
}

func (t *structure) build(b *cryptobyte.Builder) {
	addAll := func(b *cryptobyte.Builder, tag cbasn1.Tag, elements [][]byte) {
		b.AddASN1(tag, func(b *cryptobyte.Builder) {
			for _, e := range elements {
				b.AddBytes(e)
			}
		})
	}
	b.AddASN1Int64(int64(t.version))
	addAll(b, cbasn1.SET, t.digests)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(t.typ)
		if t.content != nil {
			addAll(b, tagExplicit0, [][]byte{t.content})
		}
	})
	if t.hasCerts {
		addAll(b, tagExplicit0, t.certs)
	}
	if t.hasCRLs {
		addAll(b, tagExplicit1, [][]byte{t.crls})
	}
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
		for i := range t.signers {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				s := &t.signers[i]
				b.AddASN1Int64(int64(s.version))
				b.AddBytes(s.sid)
				b.AddBytes(s.digest)
				if s.hasSigned {
					addAll(b, tagExplicit0, s.signed)
				}
				b.AddBytes(s.algorithm)
				b.AddASN1OctetString(s.signature)
				if s.hasUnsigned {
					addAll(b, tagExplicit1, s.unsigned)
				}
			})
		}
	})
}

// bytes is one signer's encoding, to sort by.
func (s *signerStructure) bytes() ([]byte, error) {
	t := structure{typ: OIDData, signers: []signerStructure{*s}}
	var b cryptobyte.Builder
	t.build(&b)
	return b.Bytes()
}
