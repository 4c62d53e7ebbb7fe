package macho

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// assemble derives the signatures of all slices.
func assemble(p *format.Plan, id format.Identity, at time.Time) (*body, []*codesign.Assembled, error) {
	b, s, err := decodeBody(p)
	if err != nil {
		return nil, nil, err
	}
	out := make([]*codesign.Assembled, len(b.Slices))
	for i := range b.Slices {
		if out[i], err = b.Slices[i].Code.Assemble(s.hash, id, at); err != nil {
			return nil, nil, err
		}
	}
	return b, out, nil
}

// Assemble returns one message for each slice, in one round.
func (Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	b, as, err := assemble(p, id, at)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case len(b.Slices):
		return nil, nil
	case 0:
	default:
		return nil, fmt.Errorf("macho: %d signatures for %d slices", len(done), len(b.Slices))
	}
	out := make([]format.ToBeSigned, len(as))
	for i, a := range as {
		out[i] = format.ToBeSigned{Scheme: id.Scheme, Message: a.Message}
	}
	return out, nil
}

// Attach makes the edits of load commands, signatures and the table of a universal
// file. Of the file it reads the load commands.
func (Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, as, err := assemble(p, id, at)
	if err != nil {
		return nil, err
	}
	if len(sigs) != len(as) {
		return nil, fmt.Errorf("macho: %d signatures for %d slices", len(sigs), len(as))
	}
	m, err := b.compare(a, p)
	if err != nil {
		return nil, err
	}
	heads, tails := make([][]byte, len(as)), make([][]byte, len(as))
	for i, one := range b.Slices {
		if heads[i], err = m.slices[i].withSignature(one.Code.Limit, one.Code.Space); err != nil {
			return nil, err
		}
		as[i].Before = int(one.Code.Limit - one.End)
		if tails[i], err = as[i].Finish(sigs[i]); err != nil {
			return nil, fmt.Errorf("slice %s: %w", architecture(one.CPU, one.Sub), err)
		}
	}
	return m.patch(heads, tails)
}

// compare refuses a file that is not the one planned, as far as its headers tell.
func (b *body) compare(a format.Artifact, p *format.Plan) (*file, error) {
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%w: %d bytes: want %d", ErrChanged, a.Size(), p.Size)
	}
	m, err := parse(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if m.width != b.Width || len(m.slices) != len(b.Slices) {
		return nil, fmt.Errorf("%w: it has other slices", ErrChanged)
	}
	for i, p := range m.slices {
		one := &b.Slices[i]
		sum := sha256.Sum256(p.raw)
		if p.cpu != one.CPU || p.sub != one.Sub || p.off != one.Offset || p.size != one.Size || !bytes.Equal(sum[:], one.Head) {
			return nil, fmt.Errorf("%w: load commands of slice %s differ", ErrChanged, p.architecture())
		}
		if p.kind != one.Kind || p.end() != one.End || uint64(p.text.off) != one.Code.ExecBase || uint64(p.text.size) != one.Code.ExecLimit {
			return nil, fmt.Errorf("%w: load commands of slice %s are not those in the plan", ErrPlan, p.architecture())
		}
	}
	return m, nil
}
