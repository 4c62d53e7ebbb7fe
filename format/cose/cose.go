// Package cose is the format "cose": a COSE signature (RFC 9052) over any file, in
// a file ".cose" of its own: COSE_Sign1 where one key signs, COSE_Sign where
// several do.
//
// The payload is, by the option "payload":
//
//	hash      the file's digest, as a COSE Hash Envelope: header parameter 258
//	          names the hash. For files of any size.
//	embedded  the file itself, at most [envelope.MaxContent] bytes.
//	detached  null: the file itself is signed, and stands beside the message.
//
// All parameters are in the protected headers: algorithm, kid (the SHA-256 of the
// key's SubjectPublicKeyInfo), x5chain or x5t (RFC 9360), content type, and those
// of the hash.
//
// Invariants:
//
//  1. Assemble makes the whole Sig_structure from plan and identity. Where the
//     file itself is signed the plan carries it, and its digest is the plan's.
//  2. Verify takes no parameter that matters from an unprotected header: an
//     algorithm, a content type or a hash there is refused; key names and
//     certificates there are reported as open unless a chain rests on them.
//  3. A parameter marked critical that is not known is refused, as is one that is
//     not there, that stands twice, or that is both signed and not signed.
//  4. Every signature of a message must be by a key that is trusted, each once.
//
// A caller may not conclude that a content type is true: it is the requester's word.
package cose

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	Name   = "cose"
	Suffix = ".cose"
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

var _ format.Hybrid = Format{}

// Name is "cose".
func (Format) Name() string { return Name }

// MaxKeys makes the format hybrid: COSE_Sign has a signature for each key.
func (Format) MaxKeys() int { return format.MaxKeys }

// Suffixes of signature files: format.Detached.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options are what the payload is and what the headers say.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "payload", Help: "what is signed: the file's hash, the file in the message, or the file beside it", Values: []string{"hash", "embedded", "detached"}, Default: "hash"},
		{Name: "digest", Help: "hash of the file; other than sha256 for payload=hash", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "content-type", Help: "media type of the file"},
		{Name: "location", Help: "where the file can be had, a URI; for payload=hash"},
		{Name: "certificates", Help: "how the message names the signer: the chain, the leaf's thumbprint, or the key alone", Values: []string{"chain", "thumbprint", "none"}, Default: "chain"},
	}
}

// Detect is true for a message of this format, which can be inspected, and for
// nothing else: the user names this format.
func (Format) Detect(a format.Artifact) bool {
	var head [2]byte
	if format.ReadFull(a, head[:], 0) != nil || !bytes.HasPrefix(head[:], tagSign1) && !bytes.HasPrefix(head[:], tagSign) {
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
	Content []byte `cbor:"1,keyasint"` // the file, unless its hash is signed
}

// checkOptions refuses options that contradict each other.
func checkOptions(o format.Params) error {
	for _, n := range []string{"content-type", "location"} {
		if s := o[n]; len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' && r != ' ' || r >= 0x7f }) {
			return fmt.Errorf("cose: option %s: want at most %d characters of ASCII", n, maxText)
		}
	}
	if o["payload"] != "hash" && (o["digest"] != "sha256" || o["location"] != "") {
		return fmt.Errorf("cose: payload=%s takes neither a digest nor a location", o["payload"])
	}
	return nil
}

// Plan digests a, or carries it.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	o, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	plan := &format.Plan{Format: Name, Version: 1, Digest: o["digest"], Size: a.Size(), Params: single.Options(o)}
	var b body
	if o["payload"] == "hash" {
		h, err := format.HashByName(o["digest"])
		if err != nil {
			return nil, err
		}
		sums, err := format.Sum(ctx, a, h)
		if err != nil {
			return nil, fmt.Errorf("cose: %w", err)
		}
		plan.Content = sums[0]
	} else {
		if b.Content, err = envelope.Read(Name, a, envelope.MaxContent); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b.Content)
		plan.Content = sum[:]
	}
	plan.Body, err = format.Encode(&b)
	return plan, err
}

// unsigned derives the message without its signatures, and what they cover.
func (f Format) unsigned(p *format.Plan, id format.Identity) (*message, []byte, error) {
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
	if o["digest"] != p.Digest || len(p.Facts) != 0 {
		return nil, nil, fmt.Errorf("cose: %w: it has facts or another digest", single.ErrPlan)
	}
	signers := id.Signers()
	if err := format.CheckKeys(f, len(signers)); err != nil {
		return nil, nil, err
	}
	var h header
	payload := b.Content
	if o["payload"] == "hash" {
		if len(b.Content) != 0 {
			return nil, nil, fmt.Errorf("cose: %w: it carries content whose hash is signed", single.ErrPlan)
		}
		h.hashAlg, h.preimage, h.location, payload = hashes[p.Digest], o["content-type"], o["location"], p.Content
	} else {
		if sum := sha256.Sum256(b.Content); !bytes.Equal(sum[:], p.Content) || int64(len(b.Content)) != p.Size || p.Size > envelope.MaxContent {
			return nil, nil, fmt.Errorf("cose: %w: its content is not the one that it names", single.ErrPlan)
		}
		h.contentType = o["content-type"]
	}
	m := &message{several: len(signers) > 1, payload: payload}
	if o["payload"] == "detached" {
		m.payload = nil
	} else if m.payload == nil {
		m.payload = []byte{}
	}
	if m.several {
		if m.raw, err = h.encode(); err != nil {
			return nil, nil, err
		}
		h = header{}
	}
	for _, id := range signers {
		s := signer{}
		own := h
		if err := own.sign(id, o["certificates"]); err != nil {
			return nil, nil, err
		}
		if s.raw, err = own.encode(); err != nil {
			return nil, nil, err
		}
		m.signers = append(m.signers, s)
	}
	if !m.several {
		m.raw = m.signers[0].raw
	}
	return m, payload, nil
}

// sign names algorithm and signer.
func (h *header) sign(id format.Identity, certificates string) error {
	if err := envelope.Signer(Name, id); err != nil {
		return err
	}
	var err error
	if h.alg, err = algorithm(id.Scheme); err != nil {
		return err
	}
	if h.keyID, err = envelope.KeyID(id.Public); err != nil {
		return err
	}
	switch {
	case len(id.Chain) == 0:
	case certificates == "thumbprint":
		sum := sha256.Sum256(id.Chain[0].Raw)
		h.thumb = sum[:]
	case certificates == "chain":
		for _, c := range id.Chain {
			h.chain = append(h.chain, c.Raw)
		}
	}
	return nil
}

// Assemble returns the Sig_structure for each key, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, tbs, err := f.assemble(p, id)
	if err != nil {
		return nil, err
	}
	return envelope.Round(Name, done, tbs)
}

func (f Format) assemble(p *format.Plan, id format.Identity) (*message, []format.ToBeSigned, error) {
	m, payload, err := f.unsigned(p, id)
	if err != nil {
		return nil, nil, err
	}
	var tbs []format.ToBeSigned
	for i, id := range id.Signers() {
		b, err := m.toBeSigned(&m.signers[i], payload)
		if err != nil {
			return nil, nil, err
		}
		tbs = append(tbs, format.ToBeSigned{Scheme: id.Scheme, Message: b, Key: i})
	}
	return m, tbs, nil
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
	b, err := m.encode()
	if err != nil {
		return nil, fmt.Errorf("cose: %w", err)
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("cose: message of %d bytes: at most %d", len(b), MaxMessage)
	}
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: Suffix, Data: b}}, nil
}

// Verify checks t.Detached over a. Without t.Detached, a may be a message that
// holds its payload itself.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	var m *message
	var err error
	alone := len(t.Detached) == 0
	if alone {
		if m, err = readMessage(a); err != nil || m.payload == nil || m.body.hashAlg != 0 {
			return nil, fmt.Errorf("cose: no signature file (%s) was given: %w", Suffix, format.ErrUnsigned)
		}
	} else if m, err = parse(t.Detached); err != nil {
		return nil, err
	}
	payload, sum, err := m.content(ctx, a, alone)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size()}
	seen := map[string]bool{}
	for i := range m.signers {
		info, err := m.verify(&m.signers[i], payload, t)
		if err != nil {
			return nil, fmt.Errorf("cose: signature %d: %w", i, err)
		}
		id, err := envelope.KeyID(info.Key)
		if err != nil {
			return nil, err
		}
		if seen[string(id)] {
			return nil, fmt.Errorf("cose: signature %d: its key signed already", i)
		}
		seen[string(id)] = true
		info.Index, info.Content, info.Covers = i, sum, []string{"every byte of the file", "the protected headers"}
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// content gives the payload that a stands for, and a's digest.
func (m *message) content(ctx context.Context, a format.Artifact, alone bool) (payload, sum []byte, err error) {
	if h, ok := hashOf(m.body.hashAlg); ok {
		sums, err := format.Sum(ctx, a, h)
		if err != nil {
			return nil, nil, fmt.Errorf("cose: %w", err)
		}
		if !bytes.Equal(sums[0], m.payload) {
			return nil, nil, errors.New("cose: the message is about another file")
		}
		return m.payload, sums[0], nil
	}
	payload = m.payload
	if !alone {
		if payload, err = envelope.Read(Name, a, envelope.MaxContent); err != nil {
			return nil, nil, err
		}
		if m.payload != nil && !bytes.Equal(m.payload, payload) {
			return nil, nil, errors.New("cose: the message holds another file")
		}
	}
	s := sha256.Sum256(payload)
	return payload, s[:], nil
}

func (m *message) verify(s *signer, payload []byte, t format.Trust) (format.SignatureInfo, error) {
	info := m.describe(s)
	scheme, err := s.scheme()
	if err != nil {
		return info, err
	}
	tbs, err := m.toBeSigned(s, payload)
	if err != nil {
		return info, err
	}
	c := envelope.Claim{Scheme: scheme, Message: tbs, Value: s.value, Thumb: s.protected.thumb}
	open := s.protected.chain == nil
	der := s.protected.chain
	if open {
		der = s.unprotected.chain
	}
	if c.Chain, err = envelope.ParseChain(der); err != nil {
		return info, err
	}
	v, err := envelope.Judge(Name, c, t)
	if err != nil {
		return info, err
	}
	v.Describe(&info)
	if open {
		for i, cert := range c.Chain {
			if !v.ByChain || !v.Used(cert) {
				info.Open = append(info.Open, fmt.Sprintf("certificate %d in the unprotected header", i))
			}
		}
	}
	return info, nil
}

// describe is what a signature says of itself.
func (m *message) describe(s *signer) format.SignatureInfo {
	info := format.SignatureInfo{Value: s.value, Digest: "sha256", Covers: []string{}}
	info.Scheme, _ = s.scheme() // checked by parse
	if h, ok := hashOf(m.body.hashAlg); ok {
		info.Digest, info.Content = format.HashName(h), m.payload
	} else if m.payload != nil {
		sum := sha256.Sum256(m.payload)
		info.Content = sum[:]
	}
	fact := func(name, value string) {
		if value != "" {
			info.Facts = append(info.Facts, format.Fact{Name: name, Value: single.Text([]byte(value), format.MaxText)})
		}
	}
	fact("content type", m.body.contentType+m.body.preimage)
	fact("location", m.body.location)
	fact("key", fmt.Sprintf("%x", s.protected.keyID))
	fact("unknown signed header parameters", strings.Join(s.protected.others, ", "))
	if m.several {
		fact("unknown signed header parameters of the body", strings.Join(m.body.others, ", "))
	}
	for _, h := range []*header{s.unprotected, m.outer} {
		for _, o := range h.others {
			info.Open = append(info.Open, "unprotected header parameter "+o)
		}
		if h.keyID != nil {
			info.Open = append(info.Open, "key name in the unprotected header")
		}
		if h.thumb != nil {
			info.Open = append(info.Open, "thumbprint in the unprotected header")
		}
	}
	if m.outer.chain != nil {
		info.Open = append(info.Open, "certificates in the unprotected header of the body")
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
	kind := "COSE_Sign1"
	if m.several {
		kind = "COSE_Sign"
	}
	how := "embedded"
	if m.body.hashAlg != 0 {
		how = "hash"
	} else if m.payload == nil {
		how = "detached"
	}
	r.Facts = []format.Fact{{Name: "kind", Value: kind}, {Name: "payload", Value: how}}
	for i := range m.signers {
		s := &m.signers[i]
		info := m.describe(s)
		info.Index = i
		if list, err := envelope.ParseChain(append(s.protected.chain, s.unprotected.chain...)); err == nil && len(list) > 0 {
			info.Signer, info.Subject, info.Issuer = list[0], list[0].Subject.String(), list[0].Issuer.String()
		}
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}
