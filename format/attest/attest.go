// Package attest is the format "dsse": an attestation about any file, an in-toto
// Statement v1 in a DSSE envelope (protocol v1.0.2), in a file ".dsse.json" of
// its own.
//
// The statement names the file and its SHA-256, and says what the options give:
// by default a predicate "https://greatseal.io/artifact/v1"
//
//	{"claims":{"version":"1.2.3"},"name":"app.tar","size":4711}
//
// ("claims" only where there are any), or the JSON object of the option
// "predicate" under the type of the option "predicate-type", in the canonical
// form of RFC 8785. The types of SPDX and CycloneDX documents and of SLSA
// provenance are found from the predicate, and may not be given to another kind.
// What is signed is the pre-authentication encoding
//
//	"DSSEv1" SP len(type) SP type SP len(payload) SP payload
//
// with the type application/vnd.in-toto+json and the payload in one encoding:
//
//	{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":…,"digest":{"sha256":…}}],"predicateType":…,"predicate":…}
//
// Invariants:
//
//  1. Assemble builds the whole payload from the plan: digest, name, predicate.
//     No digest of unknown origin is ever signed.
//  2. An attestation is never one of Greatseal's own statements (requests,
//     endorsements, receipts, charters): a predicate type that names greatseal.io
//     in any spelling is refused, except artifact/v1, on both sides.
//  3. Whatever Verify and Inspect accept re-encodes to itself: envelope, payload
//     and predicate have one encoding each.
//  4. Every signature of an envelope must be by a key of Trust.Keys, each key
//     once. DSSE carries no certificates, so Trust.Roots counts for nothing here.
//  5. Numbers in predicates survive: one that a double cannot hold is refused
//     instead of rounded.
//
// A caller may not conclude that a predicate is true: it is the requester's word,
// endorsed. That the subject's name is the file's is for the caller to compare.
package attest

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/dsse"
	statements "github.com/greatseal-io/greatseal/statement"
)

// Words of the format.
const (
	Name          = "dsse"
	Suffix        = ".dsse.json"
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	ArtifactType  = "https://greatseal.io/artifact/v1"
)

// Limits.
const (
	MaxPredicate  = format.MaxParam // bytes of a predicate or of claims, canonical
	MaxEnvelope   = 1 << 20
	MaxSignatures = 16
	maxName       = 1024
	maxType       = 512
	maxClaims     = 256
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

// Name is "dsse".
func (Format) Name() string { return Name }

// Suffixes of signature files: format.Detached.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options say what is attested.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "name", Help: "name of the subject; the file's base name when empty"},
		{Name: "predicate-type", Help: "type of the predicate, an absolute URI; SPDX, CycloneDX and SLSA provenance are recognised", Default: ArtifactType},
		{Name: "predicate", Help: "the predicate, the text of a JSON object: an SBOM, provenance, …"},
		{Name: "claims", Help: "claims in the default predicate, a JSON object of strings"},
	}
}

// Detect is true for an envelope of this format, which can be inspected, and for
// nothing else: the user names this format.
func (Format) Detect(a format.Artifact) bool {
	var head [1]byte
	if format.ReadFull(a, head[:], 0) != nil || head[0] != '{' {
		return false
	}
	_, _, err := readSidecar(a)
	return err == nil
}

// subject is what a plan is about, in checked and canonical form.
type subject struct {
	name, predicateType, predicate, claims string
}

// newSubject checks and canonicalises options whose defaults are filled in.
func newSubject(name, predicateType, predicate, claims string) (subject, error) {
	s := subject{name: name, predicateType: predicateType}
	if err := checkName(name); err != nil {
		return s, err
	}
	if err := checkType(predicateType); err != nil {
		return s, err
	}
	var err error
	if predicateType == ArtifactType {
		if predicate != "" {
			return s, errors.New("attest: the default predicate is made from the file: give a predicate-type with a predicate")
		}
		if claims != "" {
			s.claims, err = canonicalClaims(claims)
		}
		return s, err
	}
	if claims != "" {
		return s, errors.New("attest: claims belong to the default predicate")
	}
	if s.predicate, err = canonicalObject(predicate); err != nil {
		return s, err
	}
	return s, checkKind(s.predicateType, s.predicate)
}

func checkName(s string) error {
	if s == "" || len(s) > maxName || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("attest: subject's name: want 1 to %d bytes of UTF-8 without control characters", maxName)
	}
	return nil
}

// checkType refuses what is no absolute URI, and Greatseal's own statements.
func checkType(s string) error {
	scheme, rest, ok := strings.Cut(s, ":")
	ok = ok && len(s) <= maxType && rest != "" && scheme != ""
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] > ' ' && s[i] < 0x7f && !strings.ContainsRune("\"<>\\^`{|}", rune(s[i]))
	}
	for i := 0; ok && i < len(scheme); i++ {
		c := scheme[i] | 0x20
		ok = 'a' <= c && c <= 'z' || i > 0 && ('0' <= c && c <= '9' || strings.IndexByte("+-.", scheme[i]) >= 0)
	}
	if !ok {
		return fmt.Errorf("attest: predicate type %.80q: want an absolute URI of at most %d characters", s, maxType)
	}
	if s != ArtifactType && strings.Contains(strings.ToLower(s), "greatseal.io") {
		return fmt.Errorf("attest: predicate type %.80q: greatseal.io's own types are not attested, but %s", s, ArtifactType)
	}
	return nil
}

// Plan digests a.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	if p["name"] == "" {
		p["name"] = a.Name()
	}
	if p["predicate"] != "" && p["predicate-type"] == ArtifactType {
		if p["predicate-type"], err = typeOf(p["predicate"]); err != nil {
			return nil, err
		}
	}
	s, err := newSubject(p["name"], p["predicate-type"], p["predicate"], p["claims"])
	if err != nil {
		return nil, err
	}
	if a.Size() > maxNumber {
		return nil, fmt.Errorf("attest: %d bytes: JSON holds no such number", a.Size())
	}
	sums, err := format.Sum(ctx, a, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("attest: %w", err)
	}
	return &format.Plan{Format: Name, Version: 1, Digest: "sha256", Size: a.Size(), Content: sums[0], Params: s.params(), Body: []byte{}}, nil
}

func (s subject) params() []format.Fact {
	return []format.Fact{{Name: "claims", Value: s.claims}, {Name: "name", Value: s.name}, {Name: "predicate", Value: s.predicate}, {Name: "predicate-type", Value: s.predicateType}}
}

// payload derives the statement and refuses a plan that Plan does not make.
func payload(p *format.Plan) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	switch {
	case p.Format != Name || p.Version != 1:
		return nil, fmt.Errorf("attest: plan of format %.40q, version %d", p.Format, p.Version)
	case p.Digest != "sha256":
		return nil, fmt.Errorf("attest: plan with digest %s: want sha256", p.Digest)
	case len(p.Body) != 0 || len(p.Facts) != 0:
		return nil, errors.New("attest: plan with a body or facts: there are none")
	case p.Size > maxNumber:
		return nil, fmt.Errorf("attest: plan of %d bytes", p.Size)
	}
	s, err := newSubject(p.Param("name"), p.Param("predicate-type"), p.Param("predicate"), p.Param("claims"))
	if err != nil {
		return nil, err
	}
	want := s.params()
	if len(p.Params) != len(want) {
		return nil, errors.New("attest: plan's options are not this format's")
	}
	for i := range want {
		if p.Params[i] != want[i] {
			return nil, fmt.Errorf("attest: plan's option %.40q is not in canonical form", p.Params[i].Name)
		}
	}
	return s.encode(p.Content, p.Size)
}

// MaxKeys makes the format hybrid: a signature of each key.
func (Format) MaxKeys() int { return format.MaxKeys }

// Assemble returns the statement's pre-authentication encoding for each key, in
// one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	b, err := payload(p)
	if err != nil {
		return nil, err
	}
	return dsse.Round(f, b, id, done)
}

// Attach makes the envelope. It refuses a file of another size than the plan's,
// signatures that the identity did not make over the plan, and timestamps, for
// which DSSE has no place.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, err := payload(p)
	if err != nil {
		return nil, err
	}
	e := envelope{payload: b}
	if e.signatures, err = dsse.Signatures(f, a, p, b, id, sigs); err != nil {
		return nil, err
	}
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: Suffix, Data: e.encode()}}, nil
}

// Verify checks t.Detached over a, with t.Keys.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	e, s, err := decode(t.Detached)
	if err != nil {
		return nil, err
	}
	signers, err := dsse.Judge("attest", e.payload, e.signatures, t.Keys)
	if err != nil {
		return nil, err
	}
	sums, err := format.Sum(ctx, a, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("attest: %w", err)
	}
	if s.digest != hex.EncodeToString(sums[0]) {
		return nil, fmt.Errorf("attest: the statement is about another file (SHA-256 %s)", s.digest)
	}
	if s.predicateType == ArtifactType && s.size != a.Size() {
		return nil, fmt.Errorf("attest: the statement is about a file of %d bytes", s.size)
	}
	r := &format.Report{Format: Name, Size: a.Size()}
	for i, sig := range e.signatures {
		info := s.describe(i, sig)
		info.Scheme, info.Key, info.Content = signers[i].Scheme, signers[i].Key, sums[0]
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// Inspect says what an envelope contains; a file of another kind has no
// attestation in itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	e, s, err := readSidecar(a)
	if err != nil {
		return r, nil
	}
	r.Facts = append(r.Facts, format.Fact{Name: "kind", Value: "attestation"})
	for i, sig := range e.signatures {
		info := s.describe(i, sig)
		info.Content, _ = hex.DecodeString(s.digest) // checked by decode
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// describe is what the statement says, beside one of its signatures.
func (s *statement) describe(i int, sig statements.Signature) format.SignatureInfo {
	info := format.SignatureInfo{
		Index: i, Digest: "sha256", Value: sig.Sig, Covers: []string{"every byte of the file", "the statement"},
		Facts: []format.Fact{{Name: "subject", Value: s.name}, {Name: "predicate type", Value: s.predicateType}, {Name: "key", Value: sig.KeyID}},
	}
	if len(s.predicate) <= format.MaxText {
		info.Facts = append(info.Facts, format.Fact{Name: "predicate", Value: s.predicate})
	}
	return info
}
