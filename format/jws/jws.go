// Package jws is the format "jws": a JSON Web Signature (RFC 7515) over any file of
// at most [envelope.MaxContent] bytes, in a file ".jws" of its own.
//
// The payload is, by the option "payload":
//
//	embedded   the file, in base64url
//	detached   the same, left out (RFC 7515 appendix F): the file stands beside it
//	unencoded  the file as it is, beside the message (RFC 7797)
//
// and the serialisation compact, or JSON: flattened for one key, general for
// several. JWS signs the content itself, after the header; there is no standard
// way of signing a digest of it, hence the limit.
//
// Invariants:
//
//  1. Assemble makes the whole signing input from plan and identity. The plan
//     carries the file, and its digest is the plan's.
//  2. Header parameters count only where they are signed. An unsigned header may
//     hold a key's name, which is reported as open; anything else is refused.
//  3. Only b64 may be critical; what else is marked so is refused, and b64 where
//     it is not.
//  4. Keys that a message brings along (jwk, jku, x5u) are never used.
//  5. Every signature of a message must be by a key that is trusted, each once.
//
// A caller may not conclude that a content type is true: it is the requester's word.
package jws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/format/single"
)

// Name is the format's word in charters and plans; Suffix that of the message.
const (
	Name   = "jws"
	Suffix = ".jws"
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

var _ format.Hybrid = Format{}

// Name is "jws".
func (Format) Name() string { return Name }

// MaxKeys makes the format hybrid: the general JSON serialisation has a signature
// for each key.
func (Format) MaxKeys() int { return format.MaxKeys }

// Options are where the payload is, how the message is written, and what its
// header says.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "payload", Help: "where the file is: in the message, beside it, or beside it and signed unencoded", Values: []string{"embedded", "detached", "unencoded"}, Default: "embedded"},
		{Name: "serialization", Help: "how the message is written; several keys need json", Values: []string{"compact", "json"}, Default: "compact"},
		{Name: "content-type", Help: "media type of the file"},
		{Name: "certificates", Help: "how the message names the signer: the chain, the leaf's thumbprint, or the key alone", Values: []string{"chain", "thumbprint", "none"}, Default: "chain"},
	}
}

// Detect is true for a message of this format, which can be inspected, and for
// nothing else: the user names this format.
func (Format) Detect(a format.Artifact) bool {
	var head [2]byte
	if format.ReadFull(a, head[:], 0) != nil || string(head[:]) != "ey" && string(head[:]) != `{"` {
		return false
	}
	_, err := readMessage(a)
	return err == nil
}

func readMessage(a format.Artifact) (*message, error) {
	b, err := envelope.Read(Name, a, MaxMessage)
	if err != nil {
		return nil, err
	}
	return parse(b)
}

// body is the plan's own part.
type body struct {
	Content []byte `cbor:"1,keyasint"` // the file
}

func checkOptions(o format.Params) error {
	if s := o["content-type"]; len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return fmt.Errorf("jws: option content-type: want at most %d characters of ASCII", maxText)
	}
	return nil
}

// Plan carries a, which is small.
func (f Format) Plan(_ context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	o, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	content, err := envelope.Read(Name, a, envelope.MaxContent)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	plan := &format.Plan{Format: Name, Version: 1, Digest: "sha256", Size: a.Size(), Content: sum[:], Params: single.Options(o)}
	plan.Body, err = format.Encode(&body{content})
	return plan, err
}

// assemble derives the message without its signatures, and what they cover.
func (f Format) assemble(p *format.Plan, id format.Identity) (*message, []format.ToBeSigned, error) {
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return nil, nil, err
	}
	if err := checkOptions(o); err != nil {
		return nil, nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, nil, err
	}
	if sum := sha256.Sum256(b.Content); !bytes.Equal(sum[:], p.Content) || p.Digest != "sha256" || int64(len(b.Content)) != p.Size || p.Size > envelope.MaxContent || len(p.Facts) != 0 {
		return nil, nil, fmt.Errorf("jws: %w: its content is not the one that it names, or it has facts", single.ErrPlan)
	}
	signers := id.Signers()
	if err := format.CheckKeys(f, len(signers)); err != nil {
		return nil, nil, err
	}
	m := &message{compact: o["serialization"] == "compact", several: len(signers) > 1}
	if m.compact && m.several {
		return nil, nil, errors.New("jws: the compact serialisation has one signature: several keys need serialization=json")
	}
	if o["payload"] == "embedded" {
		enc := b64.EncodeToString(b.Content)
		m.payload = &enc
	}
	var tbs []format.ToBeSigned
	for i, id := range signers {
		s := signer{}
		if s.header, err = newHeader(id, o); err != nil {
			return nil, nil, err
		}
		if s.protected, err = s.header.encode(); err != nil {
			return nil, nil, err
		}
		m.signers = append(m.signers, s)
		tbs = append(tbs, format.ToBeSigned{Scheme: id.Scheme, Message: s.toBeSigned(b.Content), Key: i})
	}
	return m, tbs, nil
}

func newHeader(id format.Identity, o format.Params) (*header, error) {
	if err := envelope.Signer(Name, id); err != nil {
		return nil, err
	}
	alg, err := algorithm(id.Scheme)
	if err != nil {
		return nil, err
	}
	kid, err := envelope.KeyID(id.Public)
	if err != nil {
		return nil, err
	}
	h := &header{Algorithm: alg, ContentType: o["content-type"], KeyID: b64.EncodeToString(kid)}
	if o["payload"] == "unencoded" {
		h.Encoded, h.Critical = new(bool), &[]string{"b64"}
	}
	switch {
	case len(id.Chain) == 0:
	case o["certificates"] == "thumbprint":
		sum := sha256.Sum256(id.Chain[0].Raw)
		h.Thumb = b64.EncodeToString(sum[:])
	case o["certificates"] == "chain":
		for _, c := range id.Chain {
			h.Chain = append(h.Chain, base64.StdEncoding.EncodeToString(c.Raw))
		}
	}
	return h, nil
}

// Assemble returns the signing input for each key, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, tbs, err := f.assemble(p, id)
	if err != nil {
		return nil, err
	}
	return envelope.Round(Name, done, tbs)
}

// Attach makes the message. It refuses a file of another size than the plan's,
// signatures that the identity did not make over the plan, and timestamps.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	m, tbs, err := f.assemble(p, id)
	if err != nil {
		return nil, err
	}
	values, err := envelope.Values(Name, a, p, id, tbs, sigs)
	if err != nil {
		return nil, err
	}
	for i := range m.signers {
		m.signers[i].value = values[i]
	}
	b := m.encode()
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("jws: message of %d bytes: at most %d", len(b), MaxMessage)
	}
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: Suffix, Data: b}}, nil
}

// Verify checks t.Detached over a. Without t.Detached, a may be a message that
// holds its payload itself.
func (Format) Verify(_ context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	var m *message
	var content []byte
	var err error
	if len(t.Detached) == 0 {
		if m, err = readMessage(a); err != nil || m.payload == nil {
			return nil, fmt.Errorf("jws: no signature file (%s) was given: %w", Suffix, format.ErrUnsigned)
		}
		if content, err = b64.DecodeString(*m.payload); err != nil {
			return nil, malformed("payload: %v", err)
		}
	} else {
		if m, err = parse(t.Detached); err != nil {
			return nil, err
		}
		if content, err = envelope.Read(Name, a, envelope.MaxContent); err != nil {
			return nil, err
		}
		if m.payload != nil && *m.payload != b64.EncodeToString(content) {
			return nil, errors.New("jws: the message holds another file")
		}
	}
	sum := sha256.Sum256(content)
	r := &format.Report{Format: Name, Size: a.Size()}
	seen := map[string]bool{}
	for i := range m.signers {
		s := &m.signers[i]
		info, err := s.verify(content, t)
		if err != nil {
			return nil, fmt.Errorf("jws: signature %d: %w", i, err)
		}
		id, err := envelope.KeyID(info.Key)
		if err != nil {
			return nil, err
		}
		if seen[string(id)] {
			return nil, fmt.Errorf("jws: signature %d: its key signed already", i)
		}
		seen[string(id)] = true
		info.Index, info.Content, info.Covers = i, sum[:], []string{"every byte of the file", "the protected header"}
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

func (s *signer) verify(content []byte, t format.Trust) (format.SignatureInfo, error) {
	info := s.describe()
	c := envelope.Claim{Scheme: info.Scheme, Message: s.toBeSigned(content), Value: s.value}
	der, err := s.header.chain()
	if err != nil {
		return info, err
	}
	if c.Chain, err = envelope.ParseChain(der); err != nil {
		return info, err
	}
	if c.Thumb, err = s.header.thumb(); err != nil {
		return info, err
	}
	v, err := envelope.Judge(Name, c, t)
	if err != nil {
		return info, err
	}
	v.Describe(&info)
	return info, nil
}

// describe is what a signature says of itself.
func (s *signer) describe() format.SignatureInfo {
	info := format.SignatureInfo{Value: s.value, Digest: "sha256", Covers: []string{}}
	info.Scheme, _ = schemeOf(s.header.Algorithm) // checked by parse
	fact := func(name, value string) {
		if value != "" {
			info.Facts = append(info.Facts, format.Fact{Name: name, Value: single.Text([]byte(value), format.MaxText)})
		}
	}
	fact("content type", s.header.ContentType)
	fact("key", s.header.KeyID)
	fact("unknown signed header parameters", strings.Join(s.header.others(), ", "))
	if s.keyID {
		info.Open = []string{"key name in the unsigned header"}
	}
	return info
}

// Inspect says what a message contains; a file of another kind has no signature
// of this format in itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	m, err := readMessage(a)
	if err != nil {
		return r, nil
	}
	kind, payload := "JWS, compact", "embedded"
	switch {
	case m.several:
		kind = "JWS, general JSON"
	case !m.compact:
		kind = "JWS, flattened JSON"
	}
	switch {
	case m.signers[0].header.plain():
		payload = "unencoded"
	case m.payload == nil:
		payload = "detached"
	}
	r.Facts = []format.Fact{{Name: "kind", Value: kind}, {Name: "payload", Value: payload}}
	for i := range m.signers {
		s := &m.signers[i]
		info := s.describe()
		info.Index = i
		if m.payload != nil {
			content, _ := b64.DecodeString(*m.payload) // checked by parse
			sum := sha256.Sum256(content)
			info.Content = sum[:]
		}
		if der, err := s.header.chain(); err == nil {
			if list, err := envelope.ParseChain(der); err == nil && len(list) > 0 {
				info.Signer, info.Subject, info.Issuer = list[0], list[0].Subject.String(), list[0].Issuer.String()
			}
		}
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}
