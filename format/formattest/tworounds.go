package formattest

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// twoRounds is a text whose signed form ends with two lines
//
//	-- first HEX
//	-- second HEX
//
// The first signature covers the text, the second one text and first signature,
// as in AppX or APK v1 with v2. Its keys have no certificates.
type twoRounds struct{}

// TwoRounds is the format "two-rounds", for tests of what handles rounds.
func TwoRounds() format.Format { return twoRounds{} }

const (
	trName   = "two-rounds"
	trMagic  = "two rounds\n"
	trFirst  = "-- first "
	trSecond = "-- second "
	trMax    = 1 << 20
)

func (twoRounds) Name() string { return trName }

func (twoRounds) Options() []format.Option {
	return []format.Option{{Name: "note", Help: "signed along with the text"}}
}

func (twoRounds) Detect(a format.Artifact) bool {
	b := make([]byte, len(trMagic))
	return format.ReadFull(a, b, 0) == nil && string(b) == trMagic
}

// read splits a file into text, note and signatures.
func (f twoRounds) read(a format.Artifact) (text []byte, note string, sigs [][]byte, err error) {
	if !f.Detect(a) || a.Size() > trMax {
		return nil, "", nil, errors.New("two-rounds: not a file of this format")
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, "", nil, err
	}
	text, tail, signed := bytes.Cut(b, []byte("\n-- note "))
	if !signed {
		return b, "", nil, nil
	}
	bad := errors.New("two-rounds: signature lines")
	lines := bytes.Split(tail, []byte("\n"))
	if len(lines) != 4 || len(lines[3]) != 0 {
		return nil, "", nil, bad
	}
	n, err := hex.DecodeString(string(lines[0]))
	if err != nil || hex.EncodeToString(n) != string(lines[0]) {
		return nil, "", nil, bad
	}
	for i, prefix := range []string{trFirst, trSecond} {
		v, ok := bytes.CutPrefix(lines[i+1], []byte(prefix))
		sig, err := hex.DecodeString(string(v))
		if !ok || err != nil || hex.EncodeToString(sig) != string(v) {
			return nil, "", nil, bad
		}
		sigs = append(sigs, sig)
	}
	return text, string(n), sigs, nil
}

func (f twoRounds) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	text, _, sigs, err := f.read(a)
	if err != nil {
		return nil, err
	}
	if sigs != nil {
		return nil, errors.New("two-rounds: signed already")
	}
	return &format.Plan{
		Format: trName, Version: 1, Digest: "sha256", Size: a.Size(), Content: sum(crypto.SHA256, text),
		Params: []format.Fact{{Name: "note", Value: p["note"]}}, Body: []byte{},
	}, ctx.Err()
}

func trMessage(content []byte, note string, first []byte) []byte {
	m := fmt.Appendf(nil, "two-rounds v1 %x %x", content, note)
	if first != nil {
		m = fmt.Appendf(m, " %x", first)
	}
	return m
}

func (twoRounds) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if p.Format != trName || p.Version != 1 || p.Digest != "sha256" || len(p.Body) != 0 || len(p.Facts) != 0 || len(p.Params) != 1 || p.Params[0].Name != "note" {
		return nil, errors.New("two-rounds: plan is not this format's")
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: trMessage(p.Content, p.Param("note"), nil)}}, nil
	case 1:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: trMessage(p.Content, p.Param("note"), done[0])}}, nil
	case 2:
		return nil, nil
	}
	return nil, fmt.Errorf("two-rounds: %d signatures", len(done))
}

func (f twoRounds) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	if len(sigs) != 2 || a.Size() != p.Size {
		return nil, errors.New("two-rounds: two signatures and the planned file are wanted")
	}
	var done [][]byte
	for _, s := range sigs {
		tbs, err := f.Assemble(p, id, at, done)
		if err != nil {
			return nil, err
		}
		if err := tbs[0].Verify(id.Public, s.Value); err != nil {
			return nil, fmt.Errorf("two-rounds: %w", err)
		}
		done = append(done, s.Value)
	}
	tail := fmt.Appendf(nil, "\n-- note %x\n%s%x\n%s%x\n", p.Param("note"), trFirst, done[0], trSecond, done[1])
	return &format.Patch{Size: p.Size, Edits: []format.Edit{{Offset: p.Size, Insert: tail}}}, nil
}

func (f twoRounds) Verify(_ context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	text, note, sigs, err := f.read(a)
	if err != nil {
		return nil, err
	}
	if sigs == nil {
		return nil, errors.New("two-rounds: not signed")
	}
	r := &format.Report{Format: trName, Size: a.Size()}
	content := sum(crypto.SHA256, text)
	for _, pub := range t.Keys {
		k, err := sigalg.KeyOf(pub)
		if err != nil {
			return nil, err
		}
		s := k.Default()
		if sigalg.Verify(pub, s, trMessage(content, note, nil), sigs[0]) != nil || sigalg.Verify(pub, s, trMessage(content, note, sigs[0]), sigs[1]) != nil {
			continue
		}
		for i, what := range []string{"the text and the note", "the text, the note and the first signature"} {
			r.Signatures = append(r.Signatures, format.SignatureInfo{
				Index: i, Scheme: s, Digest: "sha256", Content: content, Value: sigs[i], Key: pub,
				Covers: []string{what}, Facts: []format.Fact{{Name: "note", Value: note}},
			})
		}
		return r, nil
	}
	return nil, errors.New("two-rounds: no trusted key made these signatures")
}

func (f twoRounds) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	text, note, sigs, err := f.read(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: trName, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	for i, s := range sigs {
		r.Signatures = append(r.Signatures, format.SignatureInfo{Index: i, Digest: "sha256", Content: sum(crypto.SHA256, text), Value: s, Facts: []format.Fact{{Name: "note", Value: note}}})
	}
	return r, nil
}
