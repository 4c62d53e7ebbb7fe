// Package signify is the format "signify": signatures as OpenBSD's signify makes them,
// in a file ".sig" beside the file or, as in SHA256.sig, in front of its text.
//
// signify signs the bytes of the file themselves. So a plan carries them, and is limited
// to what signify is used for: lists of digests and other short texts.
//
// Invariants:
//
//  1. What is signed is the plan's content, whole; Content is its SHA-512.
//  2. The content is text of at most 1 MiB that ends in a line feed. Every byte that the
//     key signs is of a requester's choice, and Ed25519 does not say for whom a message
//     is: binary structures (certificates, SSH messages), digests (what an OpenPGP
//     signature signs), tokens and DSSE's encoding are refused.
//  3. Verify wants signify's own encoding, byte for byte.
//
// A caller may not conclude that a key which signs this format may sign others. He may
// not conclude anything from comment and key ID: no signature covers them.
package signify

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "signify"

// Suffix is that of the signature file.
const Suffix = ".sig"

// MaxContent is the most bytes that are signed.
const MaxContent = 1 << 20

const (
	prefix     = "untrusted comment: "
	kind       = "Ed"
	keyIDSize  = 8
	maxComment = 1000
	detached   = "detached"
	embedded   = "embedded"

	// headSize is the length of the second line: kind, key ID and signature, in base64.
	headSize = (len(kind) + keyIDSize + ed25519.SignatureSize + 2) / 3 * 4
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover too.
func New() format.Format { return Format{} }

var (
	_ format.Detached = Format{}
	_ format.Remover  = Format{}
)

// Name is "signify".
func (Format) Name() string { return Name }

// Suffixes are those of signature files: as signify names them.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options are the key's ID and where the signature goes.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "key-id", Help: "the key's ID in 16 hexadecimal digits; default: of the key's SHA-256"},
		{Name: "mode", Help: "detached: beside the file; embedded: in front of its text, as signify -e", Values: []string{detached, embedded}, Default: detached},
	}
}

// KeyID is the ID that a key has here when no option names another: the first eight
// bytes of its SHA-256.
func KeyID(pub ed25519.PublicKey) [keyIDSize]byte {
	s := sha256.Sum256(pub)
	return [keyIDSize]byte(s[:keyIDSize])
}

// PublicKey is the file that signify -V -p reads.
func PublicKey(pub ed25519.PublicKey, id [keyIDSize]byte) []byte {
	raw := append(append([]byte(kind), id[:]...), pub...)
	return []byte(prefix + "signify public key\n" + base64.StdEncoding.EncodeToString(raw) + "\n")
}

func readID(s string, pub ed25519.PublicKey) (id [keyIDSize]byte, err error) {
	if s == "" {
		return KeyID(pub), nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != keyIDSize || strings.ToLower(s) != s {
		return id, fmt.Errorf("signify: key-id=%.40q: want 16 hexadecimal digits in lower case", s)
	}
	return [keyIDSize]byte(b), nil
}

// CheckContent refuses what may not be signed: see invariant 2.
func CheckContent(b []byte) error {
	switch {
	case len(b) == 0 || len(b) > MaxContent:
		return fmt.Errorf("signify: content of %d bytes: want 1 to %d; sign a list of digests instead", len(b), MaxContent)
	case b[len(b)-1] != '\n' || !utf8.Valid(b) || hasControl(b):
		return errors.New("signify: content is not text that ends in a line feed: sign a list of digests instead")
	case len(b) == 32 || len(b) == 48 || len(b) == 64:
		return fmt.Errorf("signify: content of %d bytes could be a digest", len(b))
	case bytes.HasPrefix(b, []byte("DSSEv1 ")) || bytes.HasPrefix(b, []byte("SSHSIG")):
		return errors.New("signify: content begins like a message of another kind of signature")
	}
	return nil
}

// Detect is true for a signature file and for text that carries one.
func (Format) Detect(a format.Artifact) bool {
	_, _, err := read(a)
	return err == nil
}

// hasControl looks for control characters that texts do not have; in UTF-8 they are
// single bytes, and no part of other characters.
func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// readAll reads a file that may be a content with a signature in front.
func readAll(ctx context.Context, a format.Artifact) ([]byte, error) {
	if a.Size() > MaxContent+2*maxComment {
		return nil, fmt.Errorf("signify: file of %d bytes: at most %d are signed", a.Size(), MaxContent)
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("signify: %w", err)
	}
	return b, ctx.Err()
}

// body is a plan's own part, version 1.
type body struct {
	Content []byte `cbor:"1,keyasint"`
}

// Plan reads a.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	if _, err := readID(p["key-id"], make(ed25519.PublicKey, ed25519.PublicKeySize)); err != nil {
		return nil, err
	}
	b, err := readAll(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := CheckContent(b); err != nil {
		return nil, err
	}
	if _, _, err := parse(b); err == nil {
		return nil, errors.New("signify: file has a signature in front: take it off first")
	}
	sum := sha512.Sum512(b)
	enc, err := format.Encode(body{b})
	if err != nil {
		return nil, err
	}
	return &format.Plan{
		Format: Name, Version: 1, Digest: "sha512", Size: a.Size(), Content: sum[:],
		Params: []format.Fact{{Name: "key-id", Value: p["key-id"]}, {Name: "mode", Value: p["mode"]}}, Body: enc,
	}, nil
}

// open derives what is signed, and refuses a plan that Plan does not make.
func (f Format) open(p *format.Plan, id format.Identity) (content []byte, kid [keyIDSize]byte, err error) {
	if err := p.Check(); err != nil {
		return nil, kid, err
	}
	want := []format.Fact{{Name: "key-id", Value: p.Param("key-id")}, {Name: "mode", Value: p.Param("mode")}}
	switch {
	case p.Format != Name || p.Version != 1:
		return nil, kid, fmt.Errorf("signify: plan of format %.40q, version %d", p.Format, p.Version)
	case p.Digest != "sha512" || len(p.Facts) != 0 || !slices.Equal(p.Params, want):
		return nil, kid, errors.New("signify: plan with facts, options or a digest that are not the format's")
	}
	if _, err := (format.Params{"mode": p.Param("mode")}).Check(f); err != nil {
		return nil, kid, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, kid, fmt.Errorf("signify: plan: %w", err)
	}
	if err := CheckContent(b.Content); err != nil {
		return nil, kid, err
	}
	if sum := sha512.Sum512(b.Content); !bytes.Equal(sum[:], p.Content) || p.Size != int64(len(b.Content)) {
		return nil, kid, errors.New("signify: plan's content is not the one of its digest and size")
	}
	pub, ok := id.Public.(ed25519.PublicKey)
	if !ok || len(pub) != ed25519.PublicKeySize || id.Scheme != sigalg.PureEd25519 {
		return nil, kid, fmt.Errorf("signify: scheme %s: signify knows ed25519 alone", id.Scheme)
	}
	kid, err = readID(p.Param("key-id"), pub)
	return b.Content, kid, err
}

// Assemble returns the content, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	content, _, err := f.open(p, id)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: content}}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("signify: %d signatures: there is one round", len(done))
}

// Attach makes the signature file, or puts the signature in front of the text.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	content, kid, err := f.open(p, id)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("signify: %s has %d bytes: the plan is for %d", a.Name(), a.Size(), p.Size)
	}
	if len(sigs) != 1 {
		return nil, fmt.Errorf("signify: %d signatures: one is wanted", len(sigs))
	}
	if err := sigalg.Verify(id.Public, sigalg.PureEd25519, content, sigs[0].Value); err != nil {
		return nil, fmt.Errorf("signify: signature does not fit plan and key: %w", err)
	}
	s := &signature{note: "signature, key " + hex.EncodeToString(kid[:]), id: kid, value: sigs[0].Value}
	out := &format.Patch{Size: p.Size}
	if p.Param("mode") == embedded {
		out.Edits = []format.Edit{{Insert: s.encode()}}
	} else {
		out.Sidecar = &format.Sidecar{Suffix: Suffix, Data: s.encode()}
	}
	return out, nil
}

// signature is the two lines of a signature.
type signature struct {
	note  string
	id    [keyIDSize]byte
	value []byte
}

func (s *signature) encode() []byte {
	raw := append(append([]byte(kind), s.id[:]...), s.value...)
	return []byte(prefix + s.note + "\n" + base64.StdEncoding.EncodeToString(raw) + "\n")
}

var errMalformed = errors.New("signify: signature is malformed")

// parse reads a signature and returns what follows it.
func parse(b []byte) (s *signature, rest []byte, err error) {
	note, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok || len(rest) < headSize+1 || rest[headSize] != '\n' || len(note) > maxComment+len(prefix) || !bytes.HasPrefix(note, []byte(prefix)) || !utf8.Valid(note) ||
		bytes.ContainsFunc(note, format.Turns) {
		return nil, nil, errMalformed
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(rest[:headSize]))
	if err != nil || len(raw) != len(kind)+keyIDSize+ed25519.SignatureSize || string(raw[:len(kind)]) != kind {
		return nil, nil, errMalformed
	}
	raw = raw[len(kind):]
	return &signature{string(note[len(prefix):]), [keyIDSize]byte(raw), raw[keyIDSize:]}, rest[headSize+1:], nil
}

// read reads a signature file, or text that begins with a signature.
func read(a format.Artifact) (*signature, []byte, error) {
	b, err := readAll(context.Background(), a)
	if err != nil {
		return nil, nil, err
	}
	return parse(b)
}

// Verify checks t.Detached over a or, where there is none, the signature in front of a's
// text.
func (f Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	content, err := readAll(ctx, a)
	if err != nil {
		return nil, err
	}
	var s *signature
	if len(t.Detached) > 0 {
		var rest []byte
		if s, rest, err = parse(t.Detached); err == nil && len(rest) > 0 {
			err = errMalformed
		}
	} else if s, content, err = parse(content); err != nil {
		err = fmt.Errorf("%w: %w", err, format.ErrUnsigned)
	}
	if err != nil {
		return nil, err
	}
	if len(content) > MaxContent || len(content) == 0 {
		return nil, fmt.Errorf("signify: content of %d bytes", len(content))
	}
	err = errors.New("signify: no trusted key is of Ed25519")
	for _, k := range t.Keys {
		pub, ok := k.(ed25519.PublicKey)
		if !ok {
			continue
		}
		if err = sigalg.Verify(pub, sigalg.PureEd25519, content, s.value); err == nil {
			sum := sha512.Sum512(content)
			info := s.describe()
			info.Key, info.Content, info.Covers = crypto.PublicKey(pub), sum[:], []string{"every byte of the content"}
			return &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{info}}, nil
		}
	}
	return nil, fmt.Errorf("signify: %w", err)
}

func (s *signature) describe() format.SignatureInfo {
	return format.SignatureInfo{
		Scheme: sigalg.PureEd25519, Digest: "sha512", Value: s.value, Covers: []string{}, Open: []string{"the comment", "the key ID"},
		Facts: []format.Fact{{Name: "key-id", Value: hex.EncodeToString(s.id[:])}},
	}
}

// Inspect says what signature a file holds.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	if s, _, err := read(a); err == nil {
		r.Signatures = append(r.Signatures, s.describe())
	}
	return r, nil
}

// Remove takes a signature off the front of text.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	s, rest, err := read(a)
	if err != nil || len(rest) == 0 {
		return nil, fmt.Errorf("signify: %w", format.ErrUnsigned)
	}
	if index != 0 && index != -1 {
		return nil, fmt.Errorf("signify: signature %d of 1", index)
	}
	return &format.Patch{Size: a.Size(), Edits: []format.Edit{{Delete: int64(len(prefix) + len(s.note) + headSize + 2)}}}, nil
}
