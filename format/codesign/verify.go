package codesign

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/plist"
	"github.com/greatseal-io/greatseal/tsp"
)

// Outside are the things that special slots are about and that stand outside of
// the signature, as found in the file; nil for what is not there to be checked.
type Outside struct {
	Info, Resources, Container []byte
}

// Verify judges the signature itself: who made it, that every blob has its slot and
// every slot what it is of. That the slots of the pages are right is for the caller
// to check, with [Signature.Best].
func (s *Signature) Verify(o Outside, t format.Trust) (*format.SignatureInfo, error) {
	if !s.Signed() {
		return nil, ErrAdHoc
	}
	if t.Roots == nil {
		return nil, errors.New("codesign: verify: no trusted certificates are given")
	}
	best, err := s.Best()
	if err != nil {
		return nil, err
	}
	if best.Flags&(FlagAdHoc|FlagLinkerSigned) != 0 {
		return nil, malformed("a CodeDirectory that says of itself that nobody signed it")
	}
	open, err := s.checkSlots(best, o)
	if err != nil {
		return nil, err
	}
	info := s.Info(0)
	info.Open = append(info.Open, open...)
	if err := Judge(s.CMS, s.Directories[0].Raw, info, t); err != nil {
		return nil, err
	}
	if err := s.checkNames(s.CMS.Signers[0], best); err != nil {
		return nil, err
	}
	if s.Ticket != nil {
		info.Open = append(info.Open, "notary ticket")
	}
	if s.BER {
		info.Open = append(info.Open, "lengths of the CMS signature, which is not in DER")
	}
	return info, nil
}

// Judge verifies the only signer of a detached CMS signature over content: the certificate, its chain and the timestamp. What it finds goes into
// info. Besides code signing, any of usages will do for the certificate.
func Judge(sd *cms.SignedData, content []byte, info *format.SignatureInfo, t format.Trust, usages ...asn1.ObjectIdentifier) error {
	signer := sd.Signers[0]
	leaf := signer.Certificate(t.Intermediates...)
	if leaf == nil {
		return errors.New("codesign: the signer's certificate is not there")
	}
	if err := signer.VerifyContent(leaf, content); err != nil {
		return fmt.Errorf("codesign: %w", err)
	}
	setSigner(info, leaf)
	at := t.Now
	if err := verifyTimestamp(info, signer, t); err != nil {
		return err
	}
	if !info.Time.IsZero() {
		at = info.Time
	}
	helpers := append(slices.Clone(sd.Certificates), t.Intermediates...)
	chains, err := cms.VerifyChain(plainLeaf(leaf, usages), helpers, cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: at})
	if err != nil {
		return fmt.Errorf("codesign: %w", err)
	}
	info.Open = append(info.Open, unused(sd, chains)...)
	return nil
}

// checkSlots compares the blobs with the slots of the CodeDirectory to believe.
func (s *Signature) checkSlots(d *Directory, o Outside) (open []string, err error) {
	blobs := map[uint32][]byte{}
	for _, p := range s.places {
		blobs[p.number] = p.blob
	}
	outside := map[int][]byte{SlotInfo: o.Info, SlotResources: o.Resources, SlotContainer: o.Container}
	names := [maxSlots]string{"Info.plist", "requirements", "CodeResources", "application", "entitlements", "container", "entitlements in DER"}
	for i, want := range d.Special {
		slot := i + 1
		b, there := outside[slot], outside[slot] != nil
		own := slot == SlotRequirements || slot == SlotEntitlements || slot == SlotEntitlementsDER
		if own {
			b, there = blobs[uint32(slot)]
		}
		switch {
		case want == nil && !there:
		case want == nil && own:
			return nil, malformed("%s: they are there, and no slot has their digest", names[i])
		case want == nil:
			// An Info.plist in the file that the signature does not bind is still covered
			// by the pages that it stands in.
		case !there && (slot == SlotInfo || slot == SlotResources):
			open = append(open, names[i]+", which is sealed by its digest and does not stand in this file")
		case !there:
			return nil, malformed("slot %d (%s) has a digest, and what it is of is not there", slot, names[i])
		case !bytes.Equal(Digest(d.Hash, b), want):
			return nil, fmt.Errorf("%w: %s", ErrDigest, names[i])
		}
	}
	return open, s.sameEntitlements()
}

// sameEntitlements refuses entitlements that one reader would see and not the other.
func (s *Signature) sameEntitlements() error {
	if s.DER == nil {
		return nil
	}
	if s.Entitlements == nil {
		return malformed("entitlements in DER and not in XML")
	}
	der, err := EntitlementsDER(s.Entitlements)
	if err != nil {
		return err
	}
	if !bytes.Equal(der, s.DER) {
		return malformed("entitlements in DER and in XML do not say the same")
	}
	return nil
}

// checkNames compares the signed lists of CodeDirectories with those that are
// there. A list may be missing where the one under the signature is the only one.
func (s *Signature) checkNames(signer *cms.ParsedSigner, best *Directory) error {
	named := best == s.Directories[0]
	if a, ok := signer.Attribute(oidHashes); ok {
		var seen []asn1.ObjectIdentifier
		for _, v := range a.Values {
			oid, sum, err := readHash(v.FullBytes)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(seen, oid.Equal) {
				return malformed("two CodeDirectories of one algorithm are named")
			}
			seen = append(seen, oid)
			want, err := hashOID(best.Hash)
			if err != nil {
				return err
			}
			if !oid.Equal(want) {
				continue
			}
			if !bytes.Equal(sum, best.sum()) {
				return fmt.Errorf("%w: the signature names another CodeDirectory", ErrDigest)
			}
			named = true
		}
	}
	if a, ok := signer.Attribute(oidHashList); ok {
		if err := s.checkList(a); err != nil {
			return err
		}
		named = true
	}
	if !named {
		return fmt.Errorf("%w: the signature does not name the CodeDirectory with the strongest hash", ErrDigest)
	}
	if len(s.Directories) > 1 {
		if _, ok := signer.Attribute(oidHashList); !ok {
			return malformed("several CodeDirectories, and no list of them is signed")
		}
	}
	return nil
}

// checkList compares the property list of truncated digests, in order.
func (s *Signature) checkList(a cms.Attribute) error {
	if len(a.Values) != 1 {
		return malformed("list of CodeDirectories")
	}
	der := cryptobyte.String(a.Values[0].FullBytes)
	var text cryptobyte.String
	if !der.ReadASN1(&text, cbasn1.OCTET_STRING) || !der.Empty() {
		return malformed("list of CodeDirectories")
	}
	v, err := plist.ParseXML(text, false)
	if err != nil {
		return fmt.Errorf("codesign: list of CodeDirectories: %w", err)
	}
	d, _ := v.(plist.Dict)
	list, ok := d.Get("cdhashes").(plist.Array)
	if !ok || len(list) != len(s.Directories) {
		return malformed("%d CodeDirectories are listed, and there are %d", len(list), len(s.Directories))
	}
	for i, dir := range s.Directories {
		if dir.Hash == 0 {
			return fmt.Errorf("%w: CodeDirectory %d", ErrWeak, i)
		}
		sum, ok := list[i].(plist.Data)
		if !ok || !bytes.Equal(sum, dir.sum()[:20]) {
			return fmt.Errorf("%w: the signature lists another CodeDirectory %d", ErrDigest, i)
		}
	}
	return nil
}

func readHash(der []byte) (asn1.ObjectIdentifier, []byte, error) {
	s := cryptobyte.String(der)
	var seq, sum cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() || !cms.ReadOID(&seq, &oid) || !seq.ReadASN1(&sum, cbasn1.OCTET_STRING) || !seq.Empty() {
		return nil, nil, malformed("digest of a CodeDirectory")
	}
	return oid, sum, nil
}

// Info is what the signature says, unjudged.
func (s *Signature) Info(i int) *format.SignatureInfo {
	d, err := s.Best()
	if err != nil {
		d = s.Directories[0]
	}
	info := &format.SignatureInfo{Index: i, Digest: hashName(d.Hash), Facts: s.Describe(), Covers: []string{fmt.Sprintf("all %d bytes before the signature", d.Limit)}}
	if s.Requirements != nil {
		info.Covers = append(info.Covers, "requirements")
	}
	if s.Entitlements != nil {
		info.Covers = append(info.Covers, "entitlements")
	}
	if d.Hash != 0 && d.Hash != crypto.SHA1 {
		info.Content = d.sum()
	}
	if !s.Signed() {
		info.Facts = append(info.Facts, fact("signer", "nobody: an ad-hoc signature"))
		return info
	}
	signer := s.CMS.Signers[0]
	info.Scheme, info.Value = signer.Scheme, signer.Signature
	if c := signer.Certificate(); c != nil {
		setSigner(info, c)
	}
	if tok, err := Timestamp(signer); err == nil {
		info.Timestamp = tok
	}
	return info
}

func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA1:
		return "sha1"
	case 0:
		return "unknown"
	}
	return format.HashName(h)
}

func setSigner(info *format.SignatureInfo, c *x509.Certificate) {
	info.Signer, info.Subject, info.Issuer = c, c.Subject.String(), c.Issuer.String()
	info.Key, _ = cms.PublicKey(c)
}

// plainLeaf is the certificate with Apple's own critical extensions taken for known
// (they say for which kind of code it is, and that is Apple's policy), and with one
// of Apple's usages taken for code signing.
func plainLeaf(c *x509.Certificate, usages []asn1.ObjectIdentifier) *x509.Certificate {
	out := *c
	out.UnhandledCriticalExtensions = nil
	for _, oid := range c.UnhandledCriticalExtensions {
		if !(len(oid) > len(appleLeaf) && oid[:len(appleLeaf)].Equal(appleLeaf)) {
			out.UnhandledCriticalExtensions = append(out.UnhandledCriticalExtensions, oid)
		}
	}
	if hasUsage(c, usages) {
		out.ExtKeyUsage = append(slices.Clone(c.ExtKeyUsage), x509.ExtKeyUsageCodeSigning)
	}
	return &out
}

func hasUsage(c *x509.Certificate, usages []asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(c.UnknownExtKeyUsage, func(u asn1.ObjectIdentifier) bool { return slices.ContainsFunc(usages, u.Equal) })
}

// Timestamp gives the token beside a signature, nil when there is none.
func Timestamp(s *cms.ParsedSigner) ([]byte, error) {
	var out []byte
	for _, a := range s.Unsigned {
		switch {
		case !a.Type.Equal(cms.OIDTimeStampToken):
			return nil, malformed("unsigned attribute %v, which nothing covers", a.Type)
		case out != nil || len(a.Values) != 1:
			return nil, malformed("more than one timestamp")
		}
		out = a.Values[0].FullBytes
	}
	return out, nil
}

func verifyTimestamp(info *format.SignatureInfo, signer *cms.ParsedSigner, t format.Trust) error {
	der, err := Timestamp(signer)
	if err != nil || der == nil {
		return err
	}
	info.Timestamp = der
	tok, err := tsp.ParseToken(der)
	if err != nil {
		return fmt.Errorf("codesign: timestamp: %w", err)
	}
	if t.TimestampRoots == nil {
		info.Open = append(info.Open, "timestamp: nobody is trusted to make timestamps, so it was not checked")
		return nil
	}
	imprint := imprintOf(signer.Signature)
	at, err := tok.Verify(imprint, t.TimestampRoots, t.Intermediates...)
	if err != nil {
		return fmt.Errorf("codesign: timestamp: %w", err)
	}
	authority, err := tok.VerifySignature(imprint, t.Intermediates...)
	if err != nil {
		return fmt.Errorf("codesign: timestamp: %w", err)
	}
	chains, err := cms.VerifyChain(authority, append(slices.Clone(tok.CMS.Certificates), t.Intermediates...),
		cms.ChainOptions{Roots: t.TimestampRoots, Usage: x509.ExtKeyUsageTimeStamping, At: at})
	if err != nil {
		return fmt.Errorf("codesign: timestamp: %w", err)
	}
	info.Time, info.TimeFrom = at, authority.Subject.String()
	for _, u := range unused(tok.CMS, chains) {
		info.Open = append(info.Open, "timestamp: "+u)
	}
	for _, a := range tok.CMS.Signers[0].Unsigned {
		info.Open = append(info.Open, fmt.Sprintf("timestamp: unsigned attribute %v", a.Type))
	}
	return nil
}

// unused names what a SignedData carries and no chain needed.
func unused(sd *cms.SignedData, chains [][]*x509.Certificate) []string {
	var out []string
	n := 0
	for _, raw := range sd.RawCertificates {
		if !slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
			return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, raw) })
		}) {
			n++
		}
	}
	if n > 0 {
		out = append(out, fmt.Sprintf("%d certificates in the signature that no chain needs", n))
	}
	if n := len(sd.RawCRLs); n > 0 {
		out = append(out, fmt.Sprintf("%d revocation lists in the signature", n))
	}
	return out
}

// Unstamped is the value to be stamped, nil when there is a timestamp already or
// nobody signed.
func (s *Signature) Unstamped() ([]byte, error) {
	if !s.Signed() {
		return nil, nil
	}
	tok, err := Timestamp(s.CMS.Signers[0])
	if err != nil || tok != nil {
		return nil, err
	}
	return s.CMS.Signers[0].Signature, nil
}

// Stamp gives the signature with a timestamp over its value, in space bytes (0: as
// many as it needs).
func (s *Signature) Stamp(token []byte, space int64) ([]byte, error) {
	value, err := s.Unstamped()
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, errors.New("codesign: there is a timestamp already, or no signature")
	}
	if err := CheckToken(token, value); err != nil {
		return nil, err
	}
	der, err := cms.AddUnsigned(s.CMS.Raw, 0, cms.NewAttribute(cms.OIDTimeStampToken, token))
	if err != nil {
		return nil, fmt.Errorf("codesign: timestamp: %w", err)
	}
	ps := slices.Clone(s.places)
	for i := range ps {
		if ps[i].number == placeSignature {
			ps[i].blob = blob(magicWrapper, der)
		}
	}
	return fit(ps, space, 0)
}
