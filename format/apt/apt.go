// Package apt is the format "apt": the Release file of a repository of Debian packages,
// as InRelease (cleartext with its signature) or with Release.gpg beside it.
//
// Release has the digests of the repository's indices, and they those of the packages:
// one signature covers all. It is made as package pgp makes it; what this format adds
// is that the file is one, and facts of it.
//
// Invariants:
//
//  1. Only a Release file of one paragraph is planned and verified, with a date and
//     SHA-256 digests: one with MD5 and SHA-1 alone would pass for protected.
//  2. InRelease holds the exact text; white space at the end of its lines is refused
//     when it is planned, because no signature would cover it.
//  3. Verify wants every signature to be by a trusted key.
//
// A caller may not conclude that the repository is fresh: Valid-Until is a fact, and who
// reads it compares it with his clock.
package apt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/openpgp"
)

// Name is the format's word in charters and plans.
const Name = "apt"

const (
	inRelease  = "inrelease"
	releaseGPG = "release.gpg"
	maxSidecar = 64 << 10
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover and a format.Extractor too.
func New() format.Format { return Format{} }

var (
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
)

// Name is "apt".
func (Format) Name() string { return Name }

// Options are the file to make, and those of the key, but for its version: apt asks
// verifiers of version 4.
func (Format) Options() []format.Option {
	out := []format.Option{{Name: "output", Help: "inrelease: Release becomes InRelease; release.gpg: the signature stands beside Release", Values: []string{inRelease, releaseGPG}, Default: inRelease}}
	for _, o := range pgpsig.Options() {
		if o.Name != "key-version" {
			out = append(out, o)
		}
	}
	return out
}

func readParams(get func(string) string) (pgpsig.Params, error) {
	return pgpsig.ReadParams(func(n string) string {
		if n == "key-version" {
			return "4"
		}
		return get(n)
	})
}

// Detect is true for Release and InRelease.
func (Format) Detect(a format.Artifact) bool {
	head := make([]byte, min(a.Size(), 16<<10))
	return format.ReadFull(a, head, 0) == nil && looksLike(head)
}

// body is a plan's own part, version 1.
type body struct {
	State openpgp.State `cbor:"1,keyasint"`
	Lines *pgpsig.Lines `cbor:"2,keyasint"` // of InRelease; null for Release.gpg
}

// Plan reads a Release file.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	keys, err := readParams(func(n string) string { return p[n] })
	if err != nil {
		return nil, err
	}
	if pgpsig.IsClear(a) {
		return nil, errors.New("apt: file is an InRelease: plan the Release it was made of")
	}
	r, x := newRelease(), keys.Begin()
	var b body
	if p["output"] == inRelease {
		// Release goes first to the reader of fields: what it refuses need not be text.
		b.Lines, err = pgpsig.PlanText(ctx, tee{a, r}, x)
	} else {
		err = pgpsig.Read(ctx, a, 0, a.Size(), io.MultiWriter(r, x))
	}
	if err != nil {
		return nil, fmt.Errorf("apt: %w", err)
	}
	if err := r.finish(); err != nil {
		return nil, err
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
		Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: x.Sum(nil),
		Params: pgpsig.Facts(f, p), Facts: r.facts(), Body: enc,
	}, nil
}

// tee shows what is read of an artifact, once and in order, to a writer too.
type tee struct {
	format.Artifact
	w io.Writer
}

func (t tee) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.Artifact.ReadAt(p, off)
	if _, werr := t.w.Write(p[:n]); werr != nil {
		return 0, werr
	}
	return n, err
}

// open derives what is signed.
func (f Format) open(p *format.Plan, id format.Identity, at time.Time) (*pgpsig.Made, *body, error) {
	if err := pgpsig.CheckPlan(f, p); err != nil {
		return nil, nil, err
	}
	keys, err := readParams(p.Param)
	if err != nil {
		return nil, nil, err
	}
	b := &body{}
	if err := format.Decode(p.Body, b); err != nil {
		return nil, nil, fmt.Errorf("apt: plan: %w", err)
	}
	typ := openpgp.Binary
	if (p.Param("output") == inRelease) != (b.Lines != nil) {
		return nil, nil, errors.New("apt: plan's lines do not fit its output")
	}
	if b.Lines != nil {
		typ = openpgp.Text
		if err := b.Lines.Check(p.Size); err != nil {
			return nil, nil, err
		}
	} else if b.State.Count != uint64(p.Size) {
		return nil, nil, errors.New("apt: plan's state is not over a file of its size")
	}
	spec, err := keys.Spec(typ, id, at)
	if err != nil {
		return nil, nil, err
	}
	m, err := pgpsig.Finish(spec, &b.State, p.Content, id)
	return m, b, err
}

// Assemble returns the digest of the file and the trailer, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	m, _, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	return m.Round(done)
}

// Attach makes InRelease of Release, or Release.gpg.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	m, b, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("apt: %s has %d bytes: the plan is for %d", a.Name(), a.Size(), p.Size)
	}
	packet, err := m.Body(sigs)
	if err != nil {
		return nil, err
	}
	out := &format.Patch{Size: p.Size}
	if b.Lines == nil {
		out.Sidecar = &format.Sidecar{Suffix: ".gpg", Data: openpgp.Armor(openpgp.ArmorSignature, openpgp.AppendPacket(nil, openpgp.TagSignature, packet))}
		return out, nil
	}
	out.Edits, err = b.Lines.Edits(a, m.Spec, packet)
	return out, err
}

// Verify checks t.Detached over a Release file, or an InRelease file.
func (f Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	rep, r := &format.Report{Format: Name, Size: a.Size()}, newRelease()
	if len(t.Detached) > 0 {
		if len(t.Detached) > maxSidecar {
			return nil, fmt.Errorf("apt: signature of %d bytes", len(t.Detached))
		}
		sigs, headers, err := pgpsig.ReadSignatures(t.Detached)
		if err != nil {
			return nil, fmt.Errorf("apt: %w", err)
		}
		h := pgpsig.NewHashes(sigs)
		if err := pgpsig.Read(ctx, a, 0, a.Size(), io.MultiWriter(h, r)); err != nil {
			return nil, fmt.Errorf("apt: %w", err)
		}
		if rep.Signatures, err = h.Judge(t, openpgp.Binary); err != nil {
			return nil, fmt.Errorf("apt: %w", err)
		}
		for i := range rep.Signatures {
			rep.Signatures[i].Label, rep.Signatures[i].Covers = "Release.gpg", []string{"every byte of Release"}
			if len(headers) > 0 {
				rep.Signatures[i].Open = append(rep.Signatures[i].Open, "headers of the signature's armour")
			}
		}
	} else {
		c, err := pgpsig.OpenClear(a)
		if err != nil {
			return nil, fmt.Errorf("apt: %w", err)
		}
		if rep.Signatures, err = c.Verify(ctx, a, t, r); err != nil {
			return nil, fmt.Errorf("apt: %w", err)
		}
		for i := range rep.Signatures {
			rep.Signatures[i].Label = "InRelease"
		}
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	rep.Facts = r.facts()
	return rep, nil
}

// Inspect says what Release or InRelease says of itself.
func (f Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	rep, r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}, newRelease()
	read := func() error { return pgpsig.Read(ctx, a, 0, a.Size(), r) }
	if pgpsig.IsClear(a) {
		c, err := pgpsig.OpenClear(a)
		if err != nil {
			return nil, fmt.Errorf("apt: %w", err)
		}
		read = func() error { return c.Text(ctx, a, r) }
		for i, s := range c.Sigs {
			info := pgpsig.Describe(s)
			info.Index, info.Label, info.Covers = i, "InRelease", []string{"the text"}
			rep.Signatures = append(rep.Signatures, info)
		}
	}
	if err := read(); err != nil {
		return nil, fmt.Errorf("apt: %w", err)
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	rep.Facts = r.facts()
	return rep, nil
}

// Remove makes Release of InRelease; its signatures go together.
func (Format) Remove(ctx context.Context, a format.Artifact, index int) (*format.Patch, error) {
	c, err := pgpsig.OpenClear(a)
	if err != nil {
		return nil, fmt.Errorf("apt: %w", err)
	}
	if index < -1 || index >= len(c.Sigs) || index >= 0 && len(c.Sigs) > 1 {
		return nil, fmt.Errorf("apt: signature %d of %d: they are taken off together (-1)", index, len(c.Sigs))
	}
	out := &format.Patch{Size: a.Size()}
	out.Edits, err = c.Remove(ctx, a)
	return out, err
}

// Extract returns signature index of an InRelease file.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	c, err := pgpsig.OpenClear(a)
	if err != nil {
		return nil, fmt.Errorf("apt: %w", err)
	}
	if index < 0 || index >= len(c.Sigs) {
		return nil, fmt.Errorf("apt: signature %d of %d", index, len(c.Sigs))
	}
	return &format.Sidecar{Suffix: ".asc", Data: openpgp.Armor(openpgp.ArmorSignature, openpgp.AppendPacket(nil, openpgp.TagSignature, c.Sigs[index].Body()))}, nil
}
