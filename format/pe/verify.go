package pe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/tsp"
)

var errDetached = errors.New("pe: signatures stand in the file, not beside it")

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
		d, err := parseIndirect(s.sd.ContentRaw)
		if err != nil {
			r.Signatures = append(r.Signatures, format.SignatureInfo{
				Index: i, Label: s.label, Scheme: s.signer.Scheme, Value: s.signer.Signature, Covers: []string{},
				Facts: []format.Fact{{Name: "content", Value: err.Error()}},
			})
			continue
		}
		info := s.info(i, im, d)
		if c := s.signer.Certificate(); c != nil {
			setSigner(&info, c)
		}
		if tok, err := s.timestamp(); err == nil && tok != nil {
			info.Timestamp = tok
			if t, err := tsp.ParseToken(tok); err == nil {
				info.Facts = append(info.Facts, claimedTime(t))
			}
		}
		info.Open = s.openAttributes()
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

func claimedTime(t *tsp.Token) format.Fact {
	return format.Fact{Name: "timestamp (not checked)", Value: t.Info.Time.UTC().Format(time.RFC3339)}
}

func (im *image) report(a format.Artifact) *format.Report {
	facts := append(kindFacts(im.magic, im.machine, im.subsystem, im.dll), im.versionFacts(a)...)
	return &format.Report{Format: name, Size: im.size, Facts: facts, Signatures: []format.SignatureInfo{}}
}

// info is what a signature says, unjudged.
func (s *signature) info(i int, im *image, d *indirectData) format.SignatureInfo {
	covers := []string{fmt.Sprintf("all %d bytes before the certificate table, but the checksum (which follows from the rest) and the table's entry", im.end())}
	if d.pages != nil {
		covers = append(covers, strconv.Itoa(len(d.pages)/pageEntry-1)+" pages, each by its own hash")
	}
	return format.SignatureInfo{
		Index: i, Label: s.label, Scheme: s.signer.Scheme, Digest: hashName(d.hash), Content: d.digest,
		Value: s.signer.Signature, Covers: covers, Facts: opusFacts(s.signer),
	}
}

func setSigner(info *format.SignatureInfo, c *x509.Certificate) {
	info.Signer, info.Subject, info.Issuer = c, c.Subject.String(), c.Issuer.String()
	info.Key, _ = cms.PublicKey(c)
}

// timestamp gives the token beside a signature, nil when there is none.
func (s *signature) timestamp() ([]byte, error) {
	var out []byte
	for _, a := range s.signer.Unsigned {
		if !a.Type.Equal(cms.OIDMicrosoftTimeStamp) {
			continue
		}
		if out != nil || len(a.Values) != 1 {
			return nil, fmt.Errorf("pe: %s signature has more than one timestamp", s.label)
		}
		out = a.Values[0].FullBytes
	}
	return out, nil
}

// openAttributes names the unsigned attributes that nothing covers.
func (s *signature) openAttributes() []string {
	var out []string
	for _, a := range s.signer.Unsigned {
		switch {
		case a.Type.Equal(cms.OIDMicrosoftTimeStamp):
		case a.Type.Equal(cms.OIDNestedSignature) && !s.nested:
		default:
			out = append(out, fmt.Sprintf("unsigned attribute %v", a.Type))
		}
	}
	return out
}

// Verify reads a once for all of its signatures, and accepts it when every one of
// them verifies.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("pe: verify: no trusted certificates are given")
	case len(t.Detached) > 0:
		return nil, errDetached
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
		d, err := parseIndirect(sigs[i].sd.ContentRaw)
		if err != nil {
			return nil, fmt.Errorf("%s signature: %w", sigs[i].label, err)
		}
		if _, err := digestOID(d.hash); err != nil {
			return nil, fmt.Errorf("%w: %s signature is over a %s digest", ErrWeak, sigs[i].label, hashName(d.hash))
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
			return nil, fmt.Errorf("%s signature: %w", sigs[i].label, err)
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
	if open := s.openAttributes(); len(open) > 0 {
		return fmt.Errorf("pe: %s is not covered by anything", open[0])
	}
	leaf := s.signer.Certificate(t.Intermediates...)
	if leaf == nil {
		return errors.New("pe: the signer's certificate is not there")
	}
	setSigner(info, leaf)
	if err := s.signer.Verify(leaf, s.sd.ContentDigest); err != nil {
		return fmt.Errorf("pe: %w", err)
	}
	at, err := s.verifyTimestamp(info, t)
	if err != nil {
		return err
	}
	if at.IsZero() || slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidLifetime.Equal) {
		at = t.Now // a certificate for lifetime signing ends what it signed when it ends
	}
	helpers := append(slices.Clone(s.sd.Certificates), t.Intermediates...)
	chains, err := cms.VerifyChain(leaf, helpers, cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: at})
	if err != nil {
		return fmt.Errorf("pe: %w", err)
	}
	info.Open = append(info.Open, unused(s.sd, chains)...)
	return nil
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

// verifyTimestamp returns the time that a timestamp proves, zero when there is
// none or nobody is trusted to stamp.
func (s *signature) verifyTimestamp(info *format.SignatureInfo, t format.Trust) (time.Time, error) {
	der, err := s.timestamp()
	if err != nil || der == nil {
		return time.Time{}, err
	}
	tok, err := tsp.ParseToken(der)
	if err != nil {
		return time.Time{}, fmt.Errorf("pe: timestamp: %w", err)
	}
	info.Timestamp = der
	if t.TimestampRoots == nil {
		info.Facts = append(info.Facts, claimedTime(tok))
		info.Open = append(info.Open, "timestamp: nobody is trusted to make timestamps, so it was not checked")
		return time.Time{}, nil
	}
	imprint := imprintOf(s.signer.Signature)
	at, err := tok.Verify(imprint, t.TimestampRoots, t.Intermediates...)
	if err != nil {
		return time.Time{}, fmt.Errorf("pe: timestamp: %w", err)
	}
	authority, err := tok.VerifySignature(imprint, t.Intermediates...)
	if err != nil {
		return time.Time{}, fmt.Errorf("pe: timestamp: %w", err)
	}
	chains, err := cms.VerifyChain(authority, append(slices.Clone(tok.CMS.Certificates), t.Intermediates...),
		cms.ChainOptions{Roots: t.TimestampRoots, Usage: x509.ExtKeyUsageTimeStamping, At: at})
	if err != nil {
		return time.Time{}, fmt.Errorf("pe: timestamp: %w", err)
	}
	info.Time, info.TimeFrom = at, authority.Subject.String()
	for _, u := range unused(tok.CMS, chains) {
		info.Open = append(info.Open, "timestamp: "+u)
	}
	for _, a := range tok.CMS.Signers[0].Unsigned {
		info.Open = append(info.Open, fmt.Sprintf("timestamp: unsigned attribute %v", a.Type))
	}
	return at, nil
}

// unused names what is carried in a SignedData and was not needed to verify it:
// anybody could change that.
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
