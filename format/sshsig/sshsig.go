// Package sshsig is the format "sshsig": SSH signatures over any file, as ssh-keygen -Y
// sign makes them, in a file ".sig" of its own.
//
// A plan is the digest of the file. Signed is a message of namespace, hash and digest
// (PROTOCOL.sshsig of OpenSSH).
//
// Invariants:
//
//  1. The file is read once, in constant memory; the plan has no body.
//  2. The message begins with SSHSIG, which is no message of the SSH protocol itself:
//     a key that signs here opens no session.
//  3. The namespace "git" is refused: commits and tags are format git's, which shows
//     people what they sign.
//  4. Verify wants the signature in the encoding of ssh-keygen, byte for byte, by a
//     trusted key. RSA with SHA-1 and keys on devices ("sk-") are refused.
//
// A caller may not conclude that the signature was meant for him: the report's namespace
// says what for, and he compares it.
package sshsig

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
)

// Name is the format's word in charters and plans.
const Name = "sshsig"

// Suffix is that of the detached signature.
const Suffix = ".sig"

// Git is the namespace of commits and tags.
const Git = "git"

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

var _ format.Detached = Format{}

// Name is "sshsig".
func (Format) Name() string { return Name }

// Suffixes are those of signature files: as ssh-keygen names them.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options are the namespace and the digest of the content.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of the file, whatever the key signs with", Values: []string{"sha256", "sha512"}, Default: "sha512"},
		{Name: "namespace", Help: "what the signature is for, as in ssh-keygen -n", Default: "file"},
	}
}

// Detect is true for an SSH signature: what the format makes; the user names it.
func (Format) Detect(a format.Artifact) bool {
	_, err := readSidecar(a)
	return err == nil
}

func readSidecar(a format.Artifact) (*Signature, error) {
	if a.Size() > maxSidecar {
		return nil, ErrMalformed
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, err
	}
	return Parse(b)
}

func checkNamespace(n string) error {
	if n == Git {
		return errors.New("sshsig: namespace git is of commits and tags: use format git")
	}
	return CheckNamespace(n)
}

// Plan digests a.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	if err := checkNamespace(p["namespace"]); err != nil {
		return nil, err
	}
	h, err := format.HashByName(p["digest"])
	if err != nil {
		return nil, err
	}
	sums, err := format.Sum(ctx, a, h)
	if err != nil {
		return nil, fmt.Errorf("sshsig: %w", err)
	}
	return &format.Plan{
		Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: sums[0],
		Params: []format.Fact{{Name: "digest", Value: p["digest"]}, {Name: "namespace", Value: p["namespace"]}}, Body: []byte{},
	}, nil
}

// message derives what is signed, and refuses a plan that Plan does not make.
func (f Format) message(p *format.Plan, id format.Identity) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	want := []format.Fact{{Name: "digest", Value: p.Digest}, {Name: "namespace", Value: p.Param("namespace")}}
	switch {
	case p.Format != Name || p.Version != 1:
		return nil, fmt.Errorf("sshsig: plan of format %.40q, version %d", p.Format, p.Version)
	case len(p.Body) != 0 || len(p.Facts) != 0 || !slices.Equal(p.Params, want):
		return nil, errors.New("sshsig: plan with a body, facts or options that are not the format's")
	case p.Digest != "sha256" && p.Digest != "sha512":
		return nil, fmt.Errorf("sshsig: digest %s", p.Digest)
	}
	if err := checkNamespace(p.Param("namespace")); err != nil {
		return nil, err
	}
	if _, err := algorithm(id.Scheme, id.Public); err != nil {
		return nil, err
	}
	return Message(p.Param("namespace"), p.Digest, p.Content), nil
}

// Assemble returns the message, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	m, err := f.message(p, id)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: m}}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("sshsig: %d signatures: there is one round", len(done))
}

// Attach makes the signature file.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	if _, err := f.message(p, id); err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("sshsig: %s has %d bytes: the plan is for %d", a.Name(), a.Size(), p.Size)
	}
	if len(sigs) != 1 {
		return nil, fmt.Errorf("sshsig: %d signatures: one is wanted", len(sigs))
	}
	s, err := NewSignature(id.Public, id.Scheme, p.Param("namespace"), p.Digest, p.Content, sigs[0].Value)
	if err != nil {
		return nil, err
	}
	b, err := s.Armor()
	if err != nil {
		return nil, err
	}
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: Suffix, Data: b}}, nil
}

// Verify checks t.Detached over a.
func (f Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	if len(t.Detached) == 0 {
		return nil, fmt.Errorf("sshsig: %w: no detached signature (%s) was given", format.ErrUnsigned, Suffix)
	}
	s, err := Parse(t.Detached)
	if err != nil {
		return nil, err
	}
	if err := checkNamespace(s.Namespace); err != nil {
		return nil, err
	}
	h, err := format.HashByName(s.Hash)
	if err != nil {
		return nil, err
	}
	sums, err := format.Sum(ctx, a, h)
	if err != nil {
		return nil, fmt.Errorf("sshsig: %w", err)
	}
	by, err := s.Trusted(t.Keys, sums[0])
	if err != nil {
		return nil, err
	}
	info := s.Describe()
	info.Key, info.Content, info.Covers = by, sums[0], []string{"every byte of the file", "the namespace"}
	return &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{info}}, nil
}

// Trusted returns the key among keys that made the signature over a content's digest.
func (s *Signature) Trusted(keys []crypto.PublicKey, digest []byte) (crypto.PublicKey, error) {
	err := fmt.Errorf("%w: key %s is not trusted", ErrSignature, Fingerprint(s.Key))
	for _, k := range keys {
		e := s.Verify(k, digest)
		if e == nil {
			return k, nil
		}
		if m, merr := MarshalKey(k); merr == nil && string(m) == string(s.Key) {
			err = e
		}
	}
	return nil, err
}

// Describe says what is in a signature, without judging it.
func (s *Signature) Describe() format.SignatureInfo {
	return format.SignatureInfo{Scheme: s.Scheme, Digest: s.Hash, Value: s.Value, Covers: []string{}, Facts: []format.Fact{
		{Name: "namespace", Value: s.Namespace}, {Name: "key", Value: Fingerprint(s.Key)},
	}}
}

// Inspect says what a signature file holds; any other file has no signature in itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	if s, err := readSidecar(a); err == nil {
		r.Signatures = append(r.Signatures, s.Describe())
	}
	return r, nil
}
