package jar

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/tsp"
)

var errDetached = errors.New("jar: signatures stand in the archive, not beside it")

// openParts are what no signature of an archive covers.
var openParts = []string{"folders; times, attributes, comments and order of entries, and how they are compressed"}

// signature is one signature file with its block.
type signature struct {
	name  string
	text  []byte
	file  *jarsig.File
	block []byte
	sd    *cms.SignedData
}

// signature reads signature file and block of a name.
func (r *archive) signature(name string) (*signature, error) {
	s := &signature{name: name}
	var err error
	if s.text, err = r.Content(r.texts[name], jarsig.MaxSize); err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	if s.file, err = jarsig.Parse(s.text); err != nil {
		return nil, fmt.Errorf("jar: %s.SF: %w", name, err)
	}
	if s.block, err = r.Content(r.blocks[name], maxBlock); err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	if s.sd, err = single.ParseCMS(Name, s.block); err != nil {
		return nil, err
	}
	if s.sd.Content != nil {
		return nil, fmt.Errorf("jar: %s: block carries its content", name)
	}
	return s, nil
}

// signatures reads all of an archive.
func (r *archive) signatures() ([]*signature, error) {
	if err := r.whole(); err != nil {
		return nil, err
	}
	if !r.signed() {
		return nil, fmt.Errorf("jar: %w", format.ErrUnsigned)
	}
	var out []*signature
	for _, n := range r.order {
		s, err := r.signature(n)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Verify reads a once, besides manifest and signatures, and accepts it when all of
// it is signed and every signature is right.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("jar: no root certificates are trusted")
	case len(t.Detached) > 0:
		return nil, errDetached
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	sigs, err := r.signatures()
	if err != nil {
		return nil, err
	}
	if r.manifest < 0 {
		return nil, fmt.Errorf("%w: there is no manifest", ErrUncovered)
	}
	m, err := r.readManifest()
	if err != nil {
		return nil, err
	}
	covered := make([]bool, len(m.Sections))
	counts := make([]int, len(sigs))
	index := m.Index()
	for i, s := range sigs {
		names, whole, err := s.file.Covered(m, index)
		if err != nil {
			return nil, fmt.Errorf("jar: %s: %w", s.name, err)
		}
		if !whole && len(sigs) == 1 {
			return nil, fmt.Errorf("jar: %s: %w: manifest has grown since, and nobody else signed", s.name, jarsig.ErrDigest)
		}
		for _, n := range names {
			k := index[n]
			covered[k] = true
			if ds, err := m.Sections[k].Digests(""); err == nil && len(ds) > 0 {
				counts[i]++
			}
		}
	}
	if err := r.compareAll(ctx, m, index, covered); err != nil {
		return nil, err
	}
	rep := &format.Report{Format: Name, Size: r.Size}
	facts, total, err := manifestFacts(&m.Main, m.Digested)
	if err != nil {
		return nil, fmt.Errorf("jar: manifest: %w", err)
	}
	rep.Facts = append(facts, r.details(len(facts))...)
	for i, s := range sigs {
		if err := s.verify(rep, m, t, fmt.Sprintf("%d of %d", counts[i], total)); err != nil {
			return nil, fmt.Errorf("jar: signature %s: %w", s.name, err)
		}
	}
	return rep, nil
}

// compareAll checks every entry against the manifest, and that somebody signed it.
func (r *archive) compareAll(ctx context.Context, m *jarsig.File, index map[string]int, covered []bool) error {
	want, err := used(m, 0)
	if err != nil {
		return err
	}
	// Before the contents are read: what is not in the manifest needs no reading.
	seen := 0
	for i := range r.Entries {
		if !r.is(i) {
			continue
		}
		k, ok := index[r.Entries[i].Name]
		if !ok || !covered[k] {
			return fmt.Errorf("%w: %.80q", ErrUncovered, r.Entries[i].Name)
		}
		seen++
	}
	got, err := r.Read(ctx, want, func(int) int64 { return 0 }, nil)
	if err != nil {
		return fmt.Errorf("jar: %w", err)
	}
	for i := range r.Entries {
		if !r.is(i) {
			continue
		}
		name := r.Entries[i].Name
		if err := compare(&m.Sections[index[name]], func(h crypto.Hash) []byte { return part(got.Digest(i), want, h) }); err != nil {
			return err
		}
		delete(index, name)
	}
	return leftovers(m, index)
}

// verify judges the CMS signatures of one block and reports them.
func (s *signature) verify(rep *format.Report, m *jarsig.File, t format.Trust, entries string) error {
	for _, signer := range s.sd.Signers {
		info, err := s.describe(signer, m, signer.Certificate(t.Intermediates...))
		if err != nil {
			return err
		}
		info.Index = len(rep.Signatures)
		info.Covers = []string{entries + " entries, and the main section of the manifest"}
		info.Facts = append(info.Facts, format.Fact{Name: "entries", Value: entries})
		info.Open = slices.Clone(openParts)
		if info.Signer == nil {
			return fmt.Errorf("%w: it is not there", cms.ErrCertificate)
		}
		if err := signer.VerifyContent(info.Signer, s.text); err != nil {
			return err
		}
		at, err := timestamp(signer, &info, t)
		if err != nil {
			return err
		}
		chains, err := cms.VerifyChain(info.Signer, append(slices.Clone(s.sd.Certificates), t.Intermediates...),
			cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: at})
		if err != nil {
			return err
		}
		info.Open = append(info.Open, unused(s.sd, chains)...)
		rep.Signatures = append(rep.Signatures, info)
	}
	return nil
}

// describe is what a signer says. Content is the digest of the manifest that is
// there, under the hash of the signature file.
func (s *signature) describe(signer *cms.ParsedSigner, m *jarsig.File, cert *x509.Certificate) (format.SignatureInfo, error) {
	info := single.DescribeCMS(signer, cert)
	info.Open = nil // the verifier says so after looking at them
	info.Label = s.name
	ds, err := s.file.Main.Digests("-Manifest")
	if err != nil || len(ds) == 0 {
		return info, fmt.Errorf("%w: of the manifest", jarsig.ErrWeak)
	}
	info.Digest, info.Content = format.HashName(ds[0].Hash), sum(ds[0].Hash, m.Raw)
	return info, nil
}

// timestamp judges the tokens of a signer and returns when to judge certificates.
func timestamp(s *cms.ParsedSigner, info *format.SignatureInfo, t format.Trust) (time.Time, error) {
	at := t.Now
	for _, u := range s.Unsigned {
		if !u.Type.Equal(cms.OIDTimeStampToken) {
			return at, fmt.Errorf("unsigned attribute %v is not covered by anything", u.Type)
		}
		if info.Timestamp != nil || len(u.Values) != 1 {
			return at, errors.New("more than one timestamp")
		}
		info.Timestamp = u.Values[0].FullBytes
		token, err := tsp.ParseToken(info.Timestamp)
		if err != nil {
			return at, err
		}
		if t.TimestampRoots == nil {
			info.Open = append(info.Open, "timestamp: nobody is trusted to make timestamps, so it was not checked")
			continue
		}
		if info.Time, err = token.Verify(digestOf(s.Signature), t.TimestampRoots, t.Intermediates...); err != nil {
			return at, err
		}
		if c := token.CMS.Signers[0].Certificate(t.Intermediates...); c != nil {
			info.TimeFrom = c.Subject.String()
		}
		info.Open = append(info.Open, "unsigned attributes and unused certificates inside the timestamp")
		at = info.Time
	}
	return at, nil
}

// unused names what a block carries and no chain needs.
func unused(sd *cms.SignedData, chains [][]*x509.Certificate) []string {
	var out []string
	n := 0
	for _, raw := range sd.RawCertificates {
		if !slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
			return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return string(c.Raw) == string(raw) })
		}) {
			n++
		}
	}
	if n > 0 {
		out = append(out, strconv.Itoa(n)+" certificates in the block that no chain needs")
	}
	if len(sd.RawCRLs) > 0 {
		out = append(out, "revocation lists in the block")
	}
	return out
}

// Inspect says what an archive is and who claims to have signed it.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	rep := &format.Report{Format: Name, Size: r.Size, Signatures: []format.SignatureInfo{}}
	m := &jarsig.File{}
	if r.manifest >= 0 {
		if m, err = r.readManifest(); err != nil {
			return nil, err
		}
	}
	var n names
	for i := range r.Entries {
		if r.is(i) {
			n.add(r.Entries[i].Name)
		}
	}
	rep.Facts = n.facts(&m.Main)
	rep.Facts = append(rep.Facts, r.details(len(rep.Facts)+maxSigners)...)
	for _, i := range r.odd {
		rep.Facts = append(rep.Facts, format.Fact{Name: "belongs to no signature", Value: single.Text([]byte(r.Entries[i].Name), 256)})
	}
	for _, name := range r.order {
		if len(rep.Facts) >= format.MaxFacts || len(rep.Signatures) >= maxSigners {
			break
		}
		if _, ok := r.blocks[name]; !ok {
			continue
		}
		s, err := r.signature(name)
		if err != nil {
			rep.Facts = append(rep.Facts, format.Fact{Name: "signature " + strings.ToUpper(name), Value: single.Text([]byte(err.Error()), 512)})
			continue
		}
		for _, signer := range s.sd.Signers {
			info, err := s.describe(signer, m, signer.Certificate())
			if err != nil {
				info.Facts = append(info.Facts, format.Fact{Name: "content", Value: err.Error()})
			}
			info.Index = len(rep.Signatures)
			info.Covers = []string{fmt.Sprintf("%d sections of the manifest", len(s.file.Sections))}
			if u, ok := signer.UnsignedAttribute(cms.OIDTimeStampToken); ok && len(u.Values) == 1 {
				info.Timestamp = u.Values[0].FullBytes
				if token, err := tsp.ParseToken(info.Timestamp); err == nil {
					info.Facts = append(info.Facts, format.Fact{Name: "timestamp (not checked)", Value: token.Info.Time.UTC().Format(time.RFC3339)})
				}
			}
			rep.Signatures = append(rep.Signatures, info)
		}
	}
	return rep, nil
}
