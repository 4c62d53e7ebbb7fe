// Package circle is the format "circle": what the trusted side of a circle of
// trust says (package circle/trust), as a file that is signed like any other one,
// under the charter's quorum. The signature stands beside the file, in a DSSE
// envelope (protocol v1.0.2) named NAME.circle.
//
// The artifact is the payload itself, at most 4 MiB: a trust statement or a
// freshness statement, in its one encoding. The plan carries all of it, so that
// endorsers and the keeper read what they agree to, and its facts are derived from
// it. What is signed is the pre-authentication encoding
//
//	"DSSEv1" SP len(type) SP type SP len(payload) SP payload
//
// with the type application/vnd.in-toto+json. The envelope's only JSON form is
//
//	{"payload":BASE64,"payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":HEX,"sig":BASE64},…]}
//
// where keyid is SHA-256 of the key's SubjectPublicKeyInfo.
//
// Invariants:
//
//  1. Assemble derives the message from the payload in the plan, which it has
//     decoded and checked; digest, size and facts that are not the payload's are
//     refused.
//  2. Whatever Verify accepts re-encodes to itself, file and envelope.
//  3. Every signature of an envelope must be by a key of Trust.Keys, each key
//     once. DSSE carries no certificates, so Trust.Roots counts for nothing here.
//  4. Nothing else is signed: neither a statement of another kind nor one that
//     contradicts itself.
//
// A caller may not conclude from a good signature that a statement is in force or
// was agreed to: package circle judges the evidence, the purpose and the version.
package circle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/dsse"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// Words of the format.
const (
	Name   = "circle"
	Suffix = ".circle"
)

// Format is the format. It has no state.
type Format struct{ format.OneRound }

// New returns the format.
func New() Format { return Format{} }

// Name is "circle".
func (Format) Name() string { return Name }

// Suffixes of signature files: format.Detached.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options are none: the statement says everything.
func (Format) Options() []format.Option { return nil }

// MaxKeys makes the format hybrid: a signature of each key.
func (Format) MaxKeys() int { return format.MaxKeys }

// body is the plan's: the whole payload.
type body struct {
	Payload []byte `cbor:"1,keyasint"`
}

// said is what a payload says, whichever of the two it is.
type said struct {
	payload []byte
	sum     []byte
	facts   []format.Fact
	kind    string
	purpose string
}

func read(payload []byte) (*said, error) {
	sum := sha256.Sum256(payload)
	s := &said{payload: payload, sum: sum[:], kind: "trust statement", purpose: record.Circle}
	if trust.IsFreshness(payload) {
		f, err := trust.DecodeFreshness(payload)
		if err != nil {
			return nil, fmt.Errorf("circle: %w", err)
		}
		s.facts, s.kind, s.purpose = f.Facts(), "freshness statement", record.Freshness
		return s, nil
	}
	t, err := trust.Decode(payload)
	if err != nil {
		return nil, fmt.Errorf("circle: %w", err)
	}
	s.facts = t.Facts()
	return s, nil
}

func readArtifact(ctx context.Context, a format.Artifact) (*said, error) {
	b, err := all(ctx, a, trust.MaxStatement)
	if err != nil {
		return nil, err
	}
	return read(b)
}

// all reads a small file once.
func all(ctx context.Context, a format.Artifact, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a.Size() < 1 || a.Size() > limit {
		return nil, fmt.Errorf("circle: %d bytes: want 1 to %d", a.Size(), limit)
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("circle: %w", err)
	}
	if n, err := a.ReadAt(make([]byte, 1), a.Size()); n != 0 || !errors.Is(err, io.EOF) {
		return nil, errors.New("circle: the file grew while it was read")
	}
	return b, nil
}

// Detect is true for statements of circles and for envelopes of this format.
func (Format) Detect(a format.Artifact) bool {
	head := make([]byte, min(a.Size(), 2048))
	if len(head) < 64 || format.ReadFull(a, head, 0) != nil {
		return false
	}
	if b, ok := bytes.CutPrefix(head, []byte(envelopeHead)); ok {
		head = decodeHead(b)
	}
	if !bytes.HasPrefix(head, []byte(`{"_type":"`+statement.StatementType+`",`)) {
		return false
	}
	return slices.ContainsFunc([]string{trust.Type, trust.FreshnessType}, func(t string) bool {
		return bytes.Contains(head, []byte(`"predicateType":"`+t+`"`))
	})
}

// Plan takes the statement up, whole.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	if _, err := p.Check(f); err != nil {
		return nil, err
	}
	s, err := readArtifact(ctx, a)
	if err != nil {
		return nil, err
	}
	b, err := format.Encode(body{s.payload})
	if err != nil {
		return nil, fmt.Errorf("circle: %w", err)
	}
	return &format.Plan{Format: Name, Version: 1, Digest: "sha256", Size: int64(len(s.payload)), Content: s.sum, Params: []format.Fact{}, Facts: s.facts, Body: b}, nil
}

// Payload is the statement in a plan, checked: what Assemble signs.
func Payload(p *format.Plan) ([]byte, error) {
	s, err := planned(p)
	if err != nil {
		return nil, err
	}
	return s.payload, nil
}

// Purposes is that of the statement: format.Purposed. So the keeper signs no trust
// statement under a policy for freshness, though the request calls it fresh.
func (Format) Purposes(p *format.Plan) ([]string, error) {
	s, err := planned(p)
	if err != nil {
		return nil, err
	}
	return []string{s.purpose}, nil
}

func planned(p *format.Plan) (*said, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	switch {
	case p.Format != Name || p.Version != 1:
		return nil, fmt.Errorf("circle: plan of format %.40q, version %d", p.Format, p.Version)
	case p.Digest != "sha256" || len(p.Params) != 0:
		return nil, errors.New("circle: plan with another digest than sha256, or with options")
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, fmt.Errorf("circle: %w", err)
	}
	s, err := read(b.Payload)
	if err != nil {
		return nil, err
	}
	if p.Size != int64(len(s.payload)) || !bytes.Equal(p.Content, s.sum) || !slices.Equal(p.Facts, s.facts) {
		return nil, errors.New("circle: size, digest or facts of the plan are not those of the statement in it")
	}
	return s, nil
}

// Assemble returns the statement's pre-authentication encoding for each key, in
// one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	payload, err := Payload(p)
	if err != nil {
		return nil, err
	}
	return dsse.Round(f, payload, id, done)
}

// Attach makes the envelope. It refuses a file of another size than the plan's,
// signatures that the identity did not make over the plan, and timestamps, for
// which DSSE has no place.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	payload, err := Payload(p)
	if err != nil {
		return nil, err
	}
	e := &Envelope{Payload: payload}
	if e.Signatures, err = dsse.Signatures(f, a, p, payload, id, sigs); err != nil {
		return nil, err
	}
	b, err := e.Encode()
	if err != nil {
		return nil, err
	}
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: Suffix, Data: b}}, nil
}

// Verify checks t.Detached over a, with t.Keys.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	e, err := DecodeEnvelope(t.Detached)
	if err != nil {
		return nil, err
	}
	s, err := readArtifact(ctx, a)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(s.payload, e.Payload) {
		return nil, errors.New("circle: the envelope holds another statement than the file")
	}
	signers, err := dsse.Judge("circle", e.Payload, e.Signatures, t.Keys)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: s.facts}
	for i, sig := range e.Signatures {
		info := s.describe(i, sig)
		info.Scheme, info.Key = signers[i].Scheme, signers[i].Key
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// Inspect says what a statement says, and of an envelope who claims to have
// signed it.
func (Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	b, err := all(ctx, a, MaxEnvelope)
	if err != nil {
		return nil, err
	}
	if e, err := DecodeEnvelope(b); err == nil {
		s, err := read(e.Payload)
		if err != nil {
			return nil, err
		}
		r.Facts = s.facts
		for i, sig := range e.Signatures {
			r.Signatures = append(r.Signatures, s.describe(i, sig))
		}
		return r, nil
	}
	s, err := read(b)
	if err != nil {
		return nil, err
	}
	r.Facts = s.facts
	return r, nil
}

// describe is what a statement says, beside one of its signatures.
func (s *said) describe(i int, sig statement.Signature) format.SignatureInfo {
	return format.SignatureInfo{
		Index: i, Digest: "sha256", Content: s.sum, Value: sig.Sig, Covers: []string{"every byte of the " + s.kind},
		Facts: []format.Fact{{Name: "kind", Value: s.kind}, {Name: "key", Value: sig.KeyID}},
	}
}
