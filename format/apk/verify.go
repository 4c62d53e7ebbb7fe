package apk

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

var errDetached = errors.New("apk: signatures stand in the package, not beside it")

// schemes are those of the signing block, in the order of reports.
var schemes = [...]struct {
	id     uint32
	label  string
	number string // in X-Android-APK-Signed
}{{idV2, "v2", "2"}, {idV3, "v3", "3"}, {idV31, "v3.1", "31"}}

// schemeSigners are the signers of one scheme.
type schemeSigners struct {
	id      uint32
	label   string
	signers []*signer
}

// schemes reads the signing block.
func (r *archive) schemes() ([]schemeSigners, error) {
	var out []schemeSigners
	for _, s := range schemes {
		v := find(r.pairs, s.id)
		if v == nil {
			continue
		}
		list, err := parseSigners(v, s.id != idV2)
		if err != nil {
			return nil, fmt.Errorf("apk: %s: %w", s.label, err)
		}
		out = append(out, schemeSigners{s.id, s.label, list})
	}
	return out, nil
}

// Verify reads a once, and once more for scheme v1, and accepts it when every scheme
// that it has is right, and none is missing.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case len(t.Detached) > 0:
		return nil, errDetached
	case t.Roots == nil && len(t.Keys) == 0:
		return nil, fmt.Errorf("%w: nobody is", ErrUntrusted)
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	m, err := r.readManifest()
	if err != nil {
		return nil, err
	}
	if !r.signed() {
		return nil, fmt.Errorf("apk: %w", format.ErrUnsigned)
	}
	list, err := r.schemes()
	if err != nil {
		return nil, err
	}
	rep := &format.Report{Format: Name, Size: r.Size, Facts: r.facts(m)}
	if err := r.checkTarget(m, list); err != nil {
		return nil, err
	}
	if len(list) > 0 {
		digests, err := r.digests(ctx, list)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			for k, x := range s.signers {
				label := s.label
				if len(s.signers) > 1 {
					label = fmt.Sprintf("%s signer %d", s.label, k+1)
				}
				if err := r.verifySigner(rep, label, x, digests, t); err != nil {
					return nil, fmt.Errorf("apk: %s: %w", label, err)
				}
			}
		}
	}
	var oldest []*x509.Certificate // who signs for the oldest platforms
	if r.needsV1(m, list) {
		if oldest, err = r.verifyV1(ctx, rep, t, list); err != nil {
			return nil, err
		}
	}
	if err := agree(oldest, list); err != nil {
		return nil, err
	}
	return rep, stripped(m, list)
}

// needsV1 says whether scheme v1 is to be judged: where there is nothing else, and where
// platforms would look at it and it is there. Those before v3 look at it when v2 is gone,
// and it is v1 that says whether v2 was there.
func (r *archive) needsV1(m *manifest, list []schemeSigners) bool {
	if len(list) == 0 {
		return true
	}
	first := sdkV2 // the first version that does without scheme v1
	if find(r.pairs, idV2) == nil {
		first = sdkV3
	}
	return r.signedV1 && m.MinSDK < first
}

// checkTarget refuses what platforms refuse: scheme v1 alone in newer packages.
func (r *archive) checkTarget(m *manifest, list []schemeSigners) error {
	if len(list) == 0 && m.TargetSDK >= sdkNeedsV2 {
		return fmt.Errorf("%w: packages for platform version %d have scheme v2 or above", ErrStripped, m.TargetSDK)
	}
	if len(list) == 0 && m.Sandbox > 1 {
		return fmt.Errorf("%w: targetSandboxVersion %d wants scheme v2 or above", ErrStripped, m.Sandbox)
	}
	return nil
}

// digests computes what signers state, under the hashes that they use.
func (r *archive) digests(ctx context.Context, list []schemeSigners) (map[crypto.Hash][]byte, error) {
	var hs []crypto.Hash
	for _, s := range list {
		for _, x := range s.signers {
			for _, d := range x.digests {
				if h := schemeOf(d.id).Hash(); h != 0 && !slices.Contains(hs, h) {
					hs = append(hs, h)
				}
			}
		}
	}
	c := newChunker(r.End, hs...)
	defer c.close()
	err := r.Scan(ctx, zipfile.Scan{Raw: func(b []byte) error { _, err := c.Write(b); return err }})
	if err != nil {
		return nil, fmt.Errorf("apk: %w", err)
	}
	entries, err := c.finish(0)
	if err != nil {
		return nil, err
	}
	// The end record counts from where the signing block starts.
	end := bytes.Clone(r.tail)
	le.PutUint32(end[16:], uint32(r.End))
	out := map[crypto.Hash][]byte{}
	for k, h := range hs {
		out[h] = top(h, entries[k].Chunks, chunksOf(h, []byte(r.RawDirectory())), chunksOf(h, end))
	}
	return out, nil
}

// verifySigner judges one signer: every signature under a known algorithm, every
// digest, the certificate, and the lineage.
func (r *archive) verifySigner(rep *format.Report, label string, s *signer, digests map[crypto.Hash][]byte, t format.Trust) error {
	pub, err := cms.PublicKey(s.certs[0])
	if err != nil {
		return err
	}
	info := r.info(rep, label, s)
	known := 0
	for i, x := range s.signatures {
		scheme := schemeOf(x.id)
		if scheme == "" {
			info.Open = append(info.Open, fmt.Sprintf("a signature under algorithm %#x, which is not known", x.id))
			continue
		}
		h := scheme.Hash()
		if !bytes.Equal(digests[h], s.digests[i].value) {
			return fmt.Errorf("%w: computed %x, signed %x", ErrDigest, digests[h], s.digests[i].value)
		}
		if err := sigalg.Verify(pub, scheme, s.signed, x.value); err != nil {
			return fmt.Errorf("signature under %#x: %w", x.id, err)
		}
		if known++; known == 1 {
			info.Scheme, info.Digest, info.Content, info.Value = scheme, format.HashName(h), digests[h], x.value
		}
	}
	if known == 0 {
		return fmt.Errorf("%w: no signature under an algorithm that is known", sigalg.ErrSignature)
	}
	if _, err := s.lineage(); err != nil {
		return err
	}
	if err := trusted(s.certs, t); err != nil {
		return err
	}
	rep.Signatures = append(rep.Signatures, info)
	return nil
}

// trusted accepts a certificate whose key is trusted, or that leads to a root. Android
// asks certificates for packages for no usage and no time; a root is asked for both.
func trusted(chain []*x509.Certificate, t format.Trust) error {
	pub, err := cms.PublicKey(chain[0])
	if err != nil {
		return err
	}
	for _, k := range t.Keys {
		if e, ok := k.(interface{ Equal(crypto.PublicKey) bool }); ok && e.Equal(pub) {
			return nil
		}
	}
	if t.Roots == nil {
		return fmt.Errorf("%w: %s", ErrUntrusted, chain[0].Subject)
	}
	if _, err := cms.VerifyChain(chain[0], slices.Concat(chain[1:], t.Intermediates), cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: t.Now}); err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return nil
}

// lineage reads the proof that a signer carries, nil when there is none. Its newest
// certificate must be the signer's.
func (s *signer) lineage() (lineage, error) {
	v := s.attribute(attrLineage)
	if v == nil {
		return nil, nil
	}
	l, err := parseLineage(v)
	if err != nil {
		return nil, err
	}
	if l.index(s.certs[0]) != len(l)-1 {
		return nil, fmt.Errorf("%w: it does not end with the signer", ErrLineage)
	}
	return l, nil
}

// info is what a signer says.
func (r *archive) info(rep *format.Report, label string, s *signer) format.SignatureInfo {
	c := s.certs[0]
	info := format.SignatureInfo{
		Index: len(rep.Signatures), Label: label, Signer: c, Subject: c.Subject.String(), Issuer: c.Issuer.String(),
		Covers: []string{"every byte of the package but the signing block"},
	}
	info.Key, _ = cms.PublicKey(c)
	if s.max > 0 {
		high := fmt.Sprint(s.max)
		if s.max == math.MaxInt32 {
			high = "all later ones"
		}
		info.Facts = append(info.Facts, format.Fact{Name: "platform-versions", Value: fmt.Sprintf("%d to %s", s.min, high)})
	}
	if l, err := s.lineage(); err == nil {
		for _, n := range l {
			info.Facts = append(info.Facts, format.Fact{Name: "lineage", Value: n.cert.Subject.String()})
		}
	}
	if len(s.certs) > 1 {
		info.Facts = append(info.Facts, format.Fact{Name: "certificates", Value: fmt.Sprint(len(s.certs))})
	}
	for _, p := range r.pairs {
		switch p.id {
		case idV2, idV3, idV31, idPadding:
		default:
			info.Open = append(info.Open, fmt.Sprintf("pair %#x of the signing block", p.id))
		}
	}
	return info
}

// agree checks that all schemes have one signer, or that their signers are of the
// lineage of the newest. oldest are those of scheme v1.
func agree(oldest []*x509.Certificate, list []schemeSigners) error {
	var newest *signer
	for _, s := range list {
		if s.id == idV2 {
			var certs []*x509.Certificate
			for _, x := range s.signers {
				certs = append(certs, x.certs[0])
			}
			if oldest == nil {
				oldest = certs
			} else if !sameCertificates(oldest, certs) {
				return fmt.Errorf("%w: schemes v1 and v2 have different signers", ErrContradiction)
			}
			continue
		}
		// Platform versions of v3 and v3.1 follow one another: none has two signers.
		for _, x := range s.signers {
			if newest != nil && x.min <= newest.max {
				return fmt.Errorf("%w: two signers for platform version %d", ErrContradiction, x.min)
			}
			if newest != nil && x.min != newest.max+1 {
				return fmt.Errorf("%w: no signer for platform version %d", ErrStripped, newest.max+1)
			}
			if newest != nil {
				oldest = append(oldest[:len(oldest):len(oldest)], newest.certs[0])
			}
			newest = x
		}
	}
	if newest == nil {
		return nil
	}
	if newest.max < math.MaxInt32 {
		return fmt.Errorf("%w: no signer for platform version %d", ErrStripped, newest.max+1)
	}
	l, err := newest.lineage()
	if err != nil {
		return err
	}
	for _, c := range oldest {
		if !bytes.Equal(c.Raw, newest.certs[0].Raw) && l.index(c) < 0 {
			return fmt.Errorf("%w: %q signs for older platforms and is not in it", ErrLineage, c.Subject)
		}
	}
	return nil
}

func sameCertificates(a, b []*x509.Certificate) bool {
	has := func(list []*x509.Certificate, c *x509.Certificate) bool {
		return slices.ContainsFunc(list, func(d *x509.Certificate) bool { return bytes.Equal(c.Raw, d.Raw) })
	}
	for _, c := range a {
		if !has(b, c) {
			return false
		}
	}
	for _, c := range b {
		if !has(a, c) {
			return false
		}
	}
	return true
}

// stripped checks what signatures say of others.
func stripped(m *manifest, list []schemeSigners) error {
	there := func(id uint32) bool {
		return slices.ContainsFunc(list, func(s schemeSigners) bool { return s.id == id })
	}
	if there(idV31) && !there(idV3) {
		return fmt.Errorf("%w: scheme v3.1 stands beside v3, which is not there", ErrStripped)
	}
	for _, s := range list {
		for _, x := range s.signers {
			if v, ok, err := x.sdkAttribute(attrStripping); err != nil {
				return err
			} else if ok && s.id == idV2 && v == 3 && !there(idV3) {
				return fmt.Errorf("%w: scheme v2 says that v3 was there", ErrStripped)
			}
			v, ok, err := x.sdkAttribute(attrRotation)
			if err != nil {
				return err
			}
			if ok && s.id == idV3 {
				k := slices.IndexFunc(list, func(s schemeSigners) bool { return s.id == idV31 })
				if k < 0 || list[k].signers[0].min != v {
					return fmt.Errorf("%w: scheme v3 says that v3.1 was there from platform version %d on", ErrStripped, v)
				}
			}
		}
	}
	return nil
}

// namesSchemes reads X-Android-APK-Signed.
func namesSchemes(v string) []string {
	var out []string
	for n := range strings.SplitSeq(v, ",") {
		out = append(out, strings.TrimSpace(n))
	}
	return out
}
