// Package pgp is the format "pgp": OpenPGP signatures (RFC 9580) over any file,
// beside it (".asc", ".sig"), around it, or around its text.
//
// A plan is the digest of the content and the state of the hash after it, from
// which the keeper signs content and trailer (package pgpsig). A cleartext plan has
// the lines to escape, too.
//
// Invariants:
//
//  1. The file is read once, in constant memory.
//  2. Assemble signs what finishes to Plan.Content and nothing else; the signature's
//     type follows from the options.
//  3. Verify wants every signature to be right, by a key of Trust.Keys, and no byte
//     around what is signed: no packet, header, text or white space.
//  4. Signatures of type binary are not taken for text, nor those over keys for
//     either.
//
// A caller may not conclude that the file is of any kind: "pgp" signs anything, which
// is why Detect proposes it for OpenPGP's own files alone. Names are not signed.
package pgp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/openpgp"
)

// Name is the format's word in charters and plans.
const Name = "pgp"

// The modes: where the signature is.
const (
	detached  = "detached"
	inline    = "inline"
	cleartext = "cleartext"
)

const maxSidecar = 64 << 10

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover and a format.Extractor too.
func New() format.Format { return Format{} }

var (
	_ format.Detached  = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
)

// Name is "pgp".
func (Format) Name() string { return Name }

// Suffixes are those of signature files: armoured, binary, and what repositories of packages call an armoured one.
func (Format) Suffixes() []string { return []string{".asc", ".sig", ".gpg"} }

// Options are where the signature goes, and those of the key.
func (Format) Options() []format.Option {
	return append([]format.Option{
		{Name: "armor", Help: "a detached signature in ASCII armour (.asc) rather than binary (.sig)", Values: []string{"true", "false"}, Default: "true"},
		{Name: "mode", Help: "detached: beside the file; inline: an OpenPGP message that holds the file; cleartext: text with its signature below", Values: []string{detached, inline, cleartext}, Default: detached},
		{Name: "text", Help: "a detached signature over text: whether lines end in LF or CRLF does not matter", Values: []string{"false", "true"}, Default: "false"},
	}, pgpsig.Options()...)
}

// Detect is true for OpenPGP's own files: armoured and binary signatures, signed
// messages and cleartext.
func (Format) Detect(a format.Artifact) bool {
	if pgpsig.IsClear(a) {
		return true
	}
	if _, err := openMessage(a); err == nil {
		return true
	}
	_, _, err := readSidecar(a)
	return err == nil
}

func readSidecar(a format.Artifact) ([]*openpgp.Signature, []string, error) {
	if a.Size() > maxSidecar {
		return nil, nil, fmt.Errorf("pgp: %d bytes are too many for a signature", a.Size())
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, nil, err
	}
	return pgpsig.ReadSignatures(b)
}

// body is a plan's own part, version 1.
type body struct {
	State openpgp.State `cbor:"1,keyasint"`
	Lines *pgpsig.Lines `cbor:"2,keyasint"` // of cleartext; null otherwise
}

func mode(get func(string) string) (string, openpgp.Type, error) {
	m := get("mode")
	text, armor := get("text") == "true", get("armor") == "true"
	switch {
	case m != detached && (text || !armor):
		return "", 0, fmt.Errorf("pgp: options text and armor are for mode=%s", detached)
	case m == cleartext || text:
		return m, openpgp.Text, nil
	}
	return m, openpgp.Binary, nil
}

// Plan hashes a.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	get := func(n string) string { return p[n] }
	keys, err := pgpsig.ReadParams(get)
	if err != nil {
		return nil, err
	}
	m, typ, err := mode(get)
	if err != nil {
		return nil, err
	}
	x := keys.Begin()
	var b body
	switch {
	case m == cleartext && pgpsig.IsClear(a):
		return nil, errors.New("pgp: file is signed in cleartext: take that signature off first")
	case m == cleartext:
		b.Lines, err = pgpsig.PlanText(ctx, a, x)
	case m == inline && a.Size() > maxLiteral:
		return nil, fmt.Errorf("pgp: file of %d bytes: a message holds at most %d", a.Size(), int64(maxLiteral))
	case typ == openpgp.Text:
		c := &openpgp.Canonical{W: x}
		if err = pgpsig.Read(ctx, a, 0, a.Size(), c); err == nil {
			err = c.Close()
		}
	default:
		err = pgpsig.Read(ctx, a, 0, a.Size(), x)
	}
	if err != nil {
		return nil, fmt.Errorf("pgp: %w", err)
	}
	st, err := openpgp.StateOf(keys.Hash, x)
	if err != nil {
		return nil, err
	}
	b.State = *st
	enc, err := format.Encode(b)
	if err != nil {
		return nil, err
	}
	return &format.Plan{
		Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: x.Sum(nil), Params: pgpsig.Facts(f, p), Body: enc,
	}, nil
}

// open derives what is signed.
func (f Format) open(p *format.Plan, id format.Identity, at time.Time) (*pgpsig.Made, *body, error) {
	if err := pgpsig.CheckPlan(f, p); err != nil {
		return nil, nil, err
	}
	if len(p.Facts) != 0 {
		return nil, nil, errors.New("pgp: plan with facts: there are none")
	}
	keys, err := pgpsig.ReadParams(p.Param)
	if err != nil {
		return nil, nil, err
	}
	m, typ, err := mode(p.Param)
	if err != nil {
		return nil, nil, err
	}
	b := &body{}
	if err := format.Decode(p.Body, b); err != nil {
		return nil, nil, fmt.Errorf("pgp: plan: %w", err)
	}
	if (m == cleartext) != (b.Lines != nil) {
		return nil, nil, errors.New("pgp: plan's lines do not fit its mode")
	}
	if b.Lines != nil {
		if err := b.Lines.Check(p.Size); err != nil {
			return nil, nil, err
		}
	}
	if m == inline && p.Size > maxLiteral {
		return nil, nil, errors.New("pgp: plan of a message that is too large")
	}
	// Binary content is hashed as it is: its size is known twice.
	if n := uint64(p.Size); typ == openpgp.Binary {
		if keys.Version == 6 {
			n += uint64(openpgp.SaltSize(keys.Hash))
		}
		if b.State.Count != n {
			return nil, nil, errors.New("pgp: plan's hash state is not over a file of its size")
		}
	}
	spec, err := keys.Spec(typ, id, at)
	if err != nil {
		return nil, nil, err
	}
	made, err := pgpsig.Finish(spec, &b.State, p.Content, id)
	return made, b, err
}

// Assemble returns the digest of content and trailer, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	m, _, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	return m.Round(done)
}

// Attach makes the signature file, or the message.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	m, b, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("pgp: %s has %d bytes: the plan is for %d", a.Name(), a.Size(), p.Size)
	}
	packet, err := m.Body(sigs)
	if err != nil {
		return nil, err
	}
	out := &format.Patch{Size: p.Size}
	switch p.Param("mode") {
	case cleartext:
		out.Edits, err = b.Lines.Edits(a, m.Spec, packet)
	case inline:
		out.Edits = messageEdits(p.Size, m.Spec, packet)
	default:
		out.Sidecar = sidecar(openpgp.AppendPacket(nil, openpgp.TagSignature, packet), p.Param("armor") == "true")
	}
	return out, err
}

func sidecar(packets []byte, armor bool) *format.Sidecar {
	if armor {
		return &format.Sidecar{Suffix: ".asc", Data: openpgp.Armor(openpgp.ArmorSignature, packets)}
	}
	return &format.Sidecar{Suffix: ".sig", Data: packets}
}

// Verify checks t.Detached over a or, where there is none, the signed message or
// cleartext that a is.
func (f Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size()}
	var err error
	switch {
	case len(t.Detached) > maxSidecar:
		return nil, fmt.Errorf("pgp: signature of %d bytes: at most %d", len(t.Detached), maxSidecar)
	case len(t.Detached) > 0:
		r.Signatures, err = verifyDetached(ctx, a, t)
	case pgpsig.IsClear(a):
		var c *pgpsig.Clear
		if c, err = pgpsig.OpenClear(a); err == nil {
			r.Signatures, err = c.Verify(ctx, a, t, io.Discard)
		}
	default:
		r.Signatures, err = verifyMessage(ctx, a, t)
	}
	if err != nil {
		return nil, fmt.Errorf("pgp: %w", err)
	}
	return r, nil
}

func verifyDetached(ctx context.Context, a format.Artifact, t format.Trust) ([]format.SignatureInfo, error) {
	sigs, headers, err := pgpsig.ReadSignatures(t.Detached)
	if err != nil {
		return nil, err
	}
	// Signatures over text and over bytes may stand side by side.
	var kinds [2][]*openpgp.Signature
	for _, s := range sigs {
		i := 0
		if s.Type == openpgp.Text {
			i = 1
		}
		kinds[i] = append(kinds[i], s)
	}
	bin, text := pgpsig.NewHashes(kinds[0]), pgpsig.NewHashes(kinds[1])
	can := &openpgp.Canonical{W: text}
	w := io.Writer(bin)
	if len(kinds[1]) > 0 {
		w = io.MultiWriter(bin, can)
	}
	if err := pgpsig.Read(ctx, a, 0, a.Size(), w); err != nil {
		return nil, err
	}
	if err := can.Close(); err != nil {
		return nil, err
	}
	var out []format.SignatureInfo
	for i, h := range []*pgpsig.Hashes{bin, text} {
		if len(kinds[i]) == 0 {
			continue
		}
		infos, err := h.Judge(t, []openpgp.Type{openpgp.Binary, openpgp.Text}[i])
		if err != nil {
			return nil, err
		}
		for _, info := range infos {
			info.Index = len(out)
			info.Covers = []string{"every byte of the file"}
			if i == 1 {
				info.Covers = []string{"the file's text"}
				info.Open = append(info.Open, "whether lines end in LF or CRLF")
			}
			if len(headers) > 0 {
				info.Open = append(info.Open, "headers of the signature's armour")
			}
			out = append(out, info)
		}
	}
	return out, nil
}

// Inspect says what an OpenPGP file holds; any other file has no signature of this
// format in itself.
func (f Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	sigs, kind := find(a)
	if sigs == nil {
		return r, nil
	}
	r.Facts = []format.Fact{{Name: "kind", Value: kind}}
	for i, s := range sigs {
		info := pgpsig.Describe(s)
		info.Index = i
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// find reads the signatures of an OpenPGP file of whatever kind.
func find(a format.Artifact) ([]*openpgp.Signature, string) {
	if c, err := pgpsig.OpenClear(a); err == nil {
		return c.Sigs, "cleartext signature"
	}
	if m, err := openMessage(a); err == nil {
		return m.sigs, "signed message"
	}
	if s, _, err := readSidecar(a); err == nil {
		return s, "detached signature"
	}
	return nil, ""
}

// Remove takes a message's or cleartext's signatures off: what is left is the content.
func (Format) Remove(ctx context.Context, a format.Artifact, index int) (*format.Patch, error) {
	sigs, _ := find(a)
	if index != -1 && (index < 0 || index >= len(sigs)) || index >= 0 && len(sigs) > 1 {
		return nil, fmt.Errorf("pgp: signature %d of %d: they are taken off together (-1)", index, len(sigs))
	}
	out := &format.Patch{Size: a.Size()}
	if c, err := pgpsig.OpenClear(a); err == nil {
		out.Edits, err = c.Remove(ctx, a)
		return out, err
	}
	m, err := openMessage(a)
	if err != nil {
		return nil, fmt.Errorf("pgp: %w", format.ErrUnsigned)
	}
	out.Edits = []format.Edit{{Delete: m.begin}, {Offset: m.end, Delete: a.Size() - m.end}}
	return out, nil
}

// Extract returns a signature as an armoured file.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	sigs, _ := find(a)
	if len(sigs) == 0 {
		return nil, fmt.Errorf("pgp: %w", format.ErrUnsigned)
	}
	if index < 0 || index >= len(sigs) {
		return nil, fmt.Errorf("pgp: signature %d of %d", index, len(sigs))
	}
	return sidecar(openpgp.AppendPacket(nil, openpgp.TagSignature, sigs[index].Body()), true), nil
}

// maxLiteral is the largest file in one literal packet: its length has four octets,
// and six bytes stand before the content.
const maxLiteral = math.MaxUint32 - 6

// message is a signed message: one-pass headers, literal data, signatures.
type message struct {
	begin, end int64 // of the content
	sigs       []*openpgp.Signature
}

func messageEdits(size int64, spec *openpgp.Spec, packet []byte) []format.Edit {
	ops := openpgp.AppendPacket(nil, openpgp.TagOnePass, onePass(spec, packet))
	head := append(ops, 0xc0|byte(openpgp.TagLiteral), 255)
	head = binary.BigEndian.AppendUint32(head, uint32(size+6))
	head = append(head, 'b', 0, 0, 0, 0, 0) // no name, no date: nothing signs them
	tail := openpgp.AppendPacket(nil, openpgp.TagSignature, packet)
	if size == 0 {
		return []format.Edit{{Insert: append(head, tail...)}}
	}
	return []format.Edit{{Insert: head}, {Offset: size, Insert: tail}}
}

// onePass is the packet in front that names the hash (RFC 9580 section 5.4).
// packet begins with version, type, key algorithm and hash.
func onePass(spec *openpgp.Spec, packet []byte) []byte {
	if spec.Key.Version == 6 {
		b := append([]byte{6, packet[1], packet[3], packet[2], byte(len(spec.Salt))}, spec.Salt...)
		return append(append(b, spec.Key.Fingerprint()...), 1)
	}
	return append(append([]byte{3, packet[1], packet[3], packet[2]}, spec.Key.ID()...), 1)
}

// openMessage reads the frame of a signed message: definite lengths, no compression,
// a literal packet without name and date, and nothing after the signatures.
func openMessage(a format.Artifact) (*message, error) {
	head := make([]byte, min(a.Size(), 4096))
	if err := format.ReadFull(a, head, 0); err != nil {
		return nil, err
	}
	var ones [][]byte
	rest := head
	for len(rest) > 0 && len(ones) < pgpsig.MaxSigs {
		p, after, err := openpgp.ReadPacket(rest)
		if err != nil || p.Tag != openpgp.TagOnePass {
			break
		}
		ones, rest = append(ones, p.Body), after
	}
	if len(ones) == 0 {
		return nil, fmt.Errorf("no signed message: %w", format.ErrUnsigned)
	}
	n, size, err := openpgp.LiteralHeader(rest)
	if err != nil {
		return nil, err
	}
	m := &message{begin: int64(len(head)-len(rest)) + int64(n)}
	m.end = m.begin + size
	if size < 0 || m.end >= a.Size() || a.Size()-m.end > maxSidecar {
		return nil, errors.New("message without signatures at its end")
	}
	tail := make([]byte, a.Size()-m.end)
	if err := format.ReadFull(a, tail, m.end); err != nil {
		return nil, err
	}
	if tail[0] == '-' {
		return nil, errors.New("message with armour inside")
	}
	if m.sigs, _, err = pgpsig.ReadSignatures(tail); err != nil {
		return nil, err
	}
	if len(m.sigs) != len(ones) {
		return nil, errors.New("message announces another number of signatures")
	}
	// The last announced signature comes first (section 10.3).
	for i, s := range m.sigs {
		if !announces(ones[len(ones)-1-i], s, i == 0) {
			return nil, fmt.Errorf("signature %d is not the one announced", i)
		}
	}
	return m, nil
}

// announces compares a one-pass packet with its signature, field by field.
func announces(one []byte, s *openpgp.Signature, last bool) bool {
	b := s.Body()
	want := append([]byte{3, b[1], b[3], b[2]}, s.KeyID...)
	if s.Version == 6 {
		want = append([]byte{6, b[1], b[3], b[2], byte(len(s.Salt))}, s.Salt...)
		want = append(want, s.Fingerprint...)
	}
	// The flag is 0 where another one-pass packet follows for the same content; what
	// nests signatures over signatures otherwise is refused.
	if last {
		return bytes.Equal(one, append(want, 1))
	}
	return bytes.Equal(one, append(want, 0))
}

func verifyMessage(ctx context.Context, a format.Artifact, t format.Trust) ([]format.SignatureInfo, error) {
	m, err := openMessage(a)
	if err != nil {
		return nil, err
	}
	h := pgpsig.NewHashes(m.sigs)
	if err := pgpsig.Read(ctx, a, m.begin, m.end-m.begin, h); err != nil {
		return nil, err
	}
	infos, err := h.Judge(t, openpgp.Binary)
	for i := range infos {
		infos[i].Label = "message"
		infos[i].Covers = []string{"every byte of the message's content"}
	}
	return infos, err
}
