// Package oci is the format "oci": signatures of OCI images and artifacts. The file
// is the manifest, or the index, as its registry gives it; who pulls the image
// checks everything else against it.
//
// The option "form" says whose signature it is:
//
//	cosign         a Sigstore bundle (version 0.3) with a DSSE envelope over an
//	               in-toto statement that names the manifest's digest
//	notation-jws   the Notary Project's JWS envelope over the manifest's descriptor
//	notation-cose  the same in COSE_Sign1
//
// The result is a file beside the manifest, to be pushed to the registry as a
// referrer of it.
//
// Invariants:
//
//  1. Assemble makes the whole payload from digest, size and media type of the
//     manifest that the plan carries, and the header from identity and time. Nothing
//     else is ever signed, and all facts follow from that manifest.
//  2. What could be an image to one client and an index to another is not planned,
//     nor what clients that regard the case of names read otherwise than those that
//     do not.
//  3. Verify compares digest, size and media type with the manifest that it is
//     given, never with a tag.
//  4. Certificates stand in the Notary Project's envelopes unsigned: each must be
//     part of a chain to a root of Trust.Roots. Log entries and timestamps in
//     bundles of others are reported as open.
//
// A caller may not conclude that a tag means this manifest: nobody signs tags.
package oci

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "oci"

// The forms of signatures, and the suffixes of their files.
const (
	FormCosign       = "cosign"
	FormNotationJWS  = "notation-jws"
	FormNotationCOSE = "notation-cose"

	SuffixCosign       = ".sigstore.json"
	SuffixNotationJWS  = ".notation.jws"
	SuffixNotationCOSE = ".notation.cose"
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

var _ format.Lister = Format{}

// Name is "oci".
func (Format) Name() string { return Name }

// Options are the form of the signature, and the configuration to be shown.
func (Format) Options() []format.Option {
	return []format.Option{{Name: "config", Help: "the image's configuration as a JSON string, so that endorsers see what it runs; it must be the one that the manifest names"}, {Name: "form", Help: "whose signature: cosign's bundle, or an envelope of the Notary Project", Values: []string{FormCosign, FormNotationJWS, FormNotationCOSE}, Default: FormCosign}}
}

// Detect is true for a manifest or an index, and for a signature of this format.
func (Format) Detect(a format.Artifact) bool {
	var head [1]byte
	if format.ReadFull(a, head[:], 0) != nil || head[0] != '{' && head[0] != tagSign1 {
		return false
	}
	if _, _, err := readManifest(a); err == nil {
		return true
	}
	_, err := readEnvelope(a)
	return err == nil
}

func readManifest(a format.Artifact) (*manifest, []byte, error) {
	b, err := envelope.Read(Name, a, MaxManifest)
	if err != nil {
		return nil, nil, err
	}
	m, err := parseManifest(b)
	return m, b, err
}

func readEnvelope(a format.Artifact) (*signed, error) {
	b, err := envelope.Read(Name, a, MaxEnvelope)
	if err != nil {
		return nil, err
	}
	return parseEnvelope(b)
}

// body carries the manifest, which is small, so that what endorsers are told of it
// follows from the bytes that are signed.
type body struct {
	Manifest []byte `cbor:"1,keyasint"`
}

// Plan reads the manifest.
func (f Format) Plan(_ context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	o, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	m, b, err := readManifest(a)
	if err != nil {
		return nil, err
	}
	c, err := m.readConfig(o["config"])
	if err != nil {
		return nil, err
	}
	facts := m.facts()
	facts = append(facts, m.details(c, len(facts))...)
	params := single.Options(o)
	if c == nil {
		params = slices.DeleteFunc(params, func(f format.Fact) bool { return f.Name == "config" })
	}
	sum := sha256.Sum256(b)
	enc, err := format.Encode(&body{b})
	return &format.Plan{Format: Name, Version: 1, Digest: "sha256", Size: a.Size(), Content: sum[:], Params: params, Facts: facts, Body: enc}, err
}

// work is what is signed, with what the signature's file is made of.
type work struct {
	form      string
	payload   []byte
	protected []byte // of the envelope, encoded
	tbs       format.ToBeSigned
}

func (f Format) prepare(p *format.Plan, id format.Identity, at time.Time) (*work, error) {
	if len(p.Params) > 0 && p.Params[0] == (format.Fact{Name: "config"}) {
		return nil, fmt.Errorf("oci: %w: option config is empty", single.ErrPlan)
	}
	o, err := single.Frame(f, withConfig(p), 1)
	if err != nil {
		return nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b.Manifest)
	if p.Digest != "sha256" || !bytes.Equal(sum[:], p.Content) || int64(len(b.Manifest)) != p.Size || p.Size > MaxManifest {
		return nil, fmt.Errorf("oci: %w: its manifest is not the one that it names", single.ErrPlan)
	}
	m, err := parseManifest(b.Manifest)
	if err != nil {
		return nil, fmt.Errorf("oci: %w: %w", single.ErrPlan, err)
	}
	c, err := m.readConfig(o["config"])
	if err != nil {
		return nil, fmt.Errorf("oci: %w: %w", single.ErrPlan, err)
	}
	if !m.told(c, p.Facts) {
		return nil, fmt.Errorf("oci: %w: facts do not follow from the manifest", single.ErrPlan)
	}
	if len(id.Also) > 0 {
		return nil, errors.New("oci: one key signs")
	}
	if err := envelope.Signer(Name, id); err != nil {
		return nil, err
	}
	w := &work{form: o["form"], tbs: format.ToBeSigned{Scheme: id.Scheme}}
	t := target{mediaType: m.MediaType, digest: p.Content, size: p.Size}
	if w.form == FormCosign {
		if !cosignKnows(id.Scheme) {
			return nil, fmt.Errorf("oci: cosign knows no %s: want rsa-pkcs1-sha256, ECDSA or Ed25519", id.Scheme)
		}
		w.payload = t.statement()
		w.tbs.Message = preAuth(w.payload)
		return w, nil
	}
	w.payload = t.payload()
	return w, w.notary(id, at)
}

// cosignKnows lists what cosign signs with when it is given a key.
func cosignKnows(s sigalg.Scheme) bool {
	switch s {
	case sigalg.RSAPKCS1SHA256, sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.PureEd25519:
		return true
	}
	return false
}

// notary makes the protected header. The specification gives each key one
// algorithm, and wants the chain to end in its root.
func (w *work) notary(id format.Identity, at time.Time) error {
	if len(id.Chain) == 0 {
		return errors.New("oci: the Notary Project wants a certificate")
	}
	root := id.Chain[len(id.Chain)-1]
	if !bytes.Equal(root.RawSubject, root.RawIssuer) || root.CheckSignature(root.SignatureAlgorithm, root.RawTBSCertificate, root.Signature) != nil {
		return fmt.Errorf("oci: the Notary Project wants the whole chain: %q is not its root", root.Subject)
	}
	if leaf := id.Chain[0]; leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fmt.Errorf("oci: certificate %q is not for digital signatures", leaf.Subject)
	}
	if at.Year() < 2000 || at.Year() > 9999 {
		return fmt.Errorf("oci: signing time %s: want the years 2000 to 9999", at.Format(time.RFC3339))
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return fmt.Errorf("oci: %w", err)
	}
	for _, a := range notaryAlgorithms {
		if a.key != k {
			continue
		}
		if a.scheme != id.Scheme {
			return fmt.Errorf("oci: the Notary Project wants a key %s to sign as %s", k, a.scheme)
		}
		if w.form == FormNotationJWS {
			h, err := newProtectedJWS(a.jose, at)
			w.protected = []byte(h)
			w.tbs.Message = []byte(h + "." + url.EncodeToString(w.payload))
			return err
		}
		if w.protected, err = newProtectedCOSE(a.cose, at); err != nil {
			return err
		}
		w.tbs.Message, err = toBeSignedCOSE(w.protected, w.payload)
		return err
	}
	return fmt.Errorf("oci: the Notary Project knows no keys %s", k)
}

// Assemble returns what the form signs, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	w, err := f.prepare(p, id, at)
	if err != nil {
		return nil, err
	}
	return single.Round(Name, done, w.tbs)
}

// Attach makes the signature's file.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	w, err := f.prepare(p, id, at)
	if err != nil {
		return nil, err
	}
	value, err := single.Fits(Name, a, p, w.tbs, id, sigs)
	if err != nil {
		return nil, err
	}
	s := &format.Sidecar{Suffix: SuffixCosign}
	switch w.form {
	case FormCosign: // in which ECDSA stays in DER
		kid, err := envelope.KeyID(id.Public)
		if err != nil {
			return nil, err
		}
		s.Data = encodeBundle(w.payload, kid, value)
	case FormNotationJWS, FormNotationCOSE:
		raw, err := envelope.Raw(id.Public, value)
		if err != nil {
			return nil, err
		}
		if w.form == FormNotationJWS {
			s.Suffix, s.Data = SuffixNotationJWS, encodeJWS(string(w.protected), w.payload, raw, id.Chain)
			break
		}
		s.Suffix = SuffixNotationCOSE
		if s.Data, err = encodeCOSE(w.protected, w.payload, raw, id.Chain); err != nil {
			return nil, err
		}
	}
	return &format.Patch{Size: p.Size, Sidecar: s}, nil
}

// Verify checks t.Detached over the manifest a.
func (Format) Verify(_ context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	s, err := parseEnvelope(t.Detached)
	if err != nil {
		return nil, err
	}
	m, b, err := readManifest(a)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	if !bytes.Equal(sum[:], s.target.digest) {
		return nil, fmt.Errorf("oci: the signature is about another manifest (sha256:%x)", s.target.digest)
	}
	if s.form != FormCosign && (s.target.size != a.Size() || s.target.mediaType != m.MediaType) {
		return nil, errors.New("oci: the signature is about another size or media type")
	}
	if !s.expires.IsZero() && !t.Now.Before(s.expires) {
		return nil, fmt.Errorf("oci: the signature expired on %s", s.expires.UTC().Format(time.RFC3339))
	}
	info := s.describe()
	info.Content = sum[:]
	if s.form == FormCosign {
		err = s.byKey(&info, t)
	} else {
		err = s.byChain(&info, t)
	}
	if err != nil {
		return nil, err
	}
	info.Covers = []string{"the manifest, and through its digests all that it names"}
	return &format.Report{Format: Name, Size: a.Size(), Facts: m.all(), Signatures: []format.SignatureInfo{info}}, nil
}

// byKey finds the trusted key that made a bundle.
func (s *signed) byKey(info *format.SignatureInfo, t format.Trust) error {
	var scheme sigalg.Scheme
	pub, tbs, err := single.Key(Name, single.Keys(t), func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
		scheme = k.Default() // what cosign signs with: see cosignKnows
		if !cosignKnows(scheme) {
			return format.ToBeSigned{}, nil, errors.New("oci: another kind of key")
		}
		return format.ToBeSigned{Scheme: scheme, Message: s.claim.Message}, s.claim.Value, nil
	})
	if err != nil {
		return err
	}
	kid, err := envelope.KeyID(pub)
	if err != nil {
		return err
	}
	if s.hint != std.EncodeToString(kid) {
		return errors.New("oci: the bundle names another key than the one that made it")
	}
	info.Key, info.Scheme = pub, tbs.Scheme
	return nil
}

// byChain judges the certificates of an envelope: they are not signed, and every
// one must have a part in the judgement.
func (s *signed) byChain(info *format.SignatureInfo, t format.Trust) error {
	t.Keys = []crypto.PublicKey{}
	v, err := envelope.Judge(Name, s.claim, t)
	if err != nil {
		return err
	}
	for i, c := range s.claim.Chain {
		if !v.Used(c) {
			return fmt.Errorf("oci: %w: number %d is of no chain to a trusted root", envelope.ErrCertificate, i)
		}
	}
	v.Describe(info)
	return nil
}

// describe is what a signature says of itself.
func (s *signed) describe() format.SignatureInfo {
	info := format.SignatureInfo{
		Scheme: s.claim.Scheme, Digest: "sha256", Content: s.target.digest, Value: s.claim.Value, Covers: []string{}, Open: s.open,
		Facts: []format.Fact{{Name: "form", Value: s.form}},
	}
	fact := func(name string, t time.Time) {
		if !t.IsZero() {
			info.Facts = append(info.Facts, format.Fact{Name: name, Value: t.UTC().Format(time.RFC3339)})
		}
	}
	fact("signing time, as stated", s.time)
	fact("expires", s.expires)
	if c := s.claim.Chain; len(c) > 0 {
		info.Signer, info.Subject, info.Issuer = c[0], c[0].Subject.String(), c[0].Issuer.String()
	}
	return info
}

// Inspect says what a manifest names, or what a signature says of itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	if m, _, err := readManifest(a); err == nil {
		r.Facts = m.all()
		return r, nil
	}
	if s, err := readEnvelope(a); err == nil {
		r.Facts = []format.Fact{{Name: "kind", Value: "signature of an OCI manifest"}}
		r.Signatures = append(r.Signatures, s.describe())
	}
	return r, nil
}

// List names config and layers, or the manifests of an index. A digest under
// another hash than SHA-256 is left out.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	m, _, err := readManifest(a)
	if err != nil {
		return err
	}
	for _, d := range m.entries() {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := format.Entry{Name: single.Text([]byte(d.name()), format.MaxText), Size: d.Size, Facts: []format.Fact{{Name: "media type", Value: single.Text([]byte(d.MediaType), format.MaxText)}}}
		if value, ok := strings.CutPrefix(d.Digest, "sha256:"); ok {
			e.Digest, _ = hex.DecodeString(value) // checked by parseManifest
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}
