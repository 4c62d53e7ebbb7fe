// Package minisign is the format "minisign": signatures over any file as minisign makes
// them (https://jedisct1.github.io/minisign/), in a file ".minisig" of its own.
//
// A plan is the BLAKE2b-512 of the file. Two signatures are made, one after the other:
// over that digest, and over the first signature and the trusted comment.
//
// Invariants:
//
//  1. The file is read once, in constant memory; the plan has no body.
//  2. The trusted comment is an option, which endorsers see, or the time of signing.
//  3. Only signatures over the digest ("ED") are made and verified. The older ones over
//     the whole content ("Ed") would let a requester choose every signed byte.
//  4. Verify wants both signatures by one trusted key, and the file in minisign's own
//     encoding.
//
// A caller may not conclude anything from the untrusted comment or from the key ID: no
// signature covers them.
package minisign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	_ "golang.org/x/crypto/blake2b" // crypto.BLAKE2b_512

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "minisign"

// Suffix is that of the signature file.
const Suffix = ".minisig"

const (
	digestName = "blake2b-512"
	untrusted  = "untrusted comment: "
	trusted    = "trusted comment: "
	prehashed  = "ED"
	keyIDSize  = 8
	maxComment = 1000
	maxSidecar = 4096
)

// Format is the format; its zero value is ready.
type Format struct{}

// New returns the format.
func New() format.Format { return Format{} }

var _ format.Detached = Format{}

// Name is "minisign".
func (Format) Name() string { return Name }

// Suffixes are those of signature files: as minisign names them.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options are the key's ID and the trusted comment.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "key-id", Help: "the key's ID as minisign prints it, 16 hexadecimal digits; default: of the key's SHA-256"},
		{Name: "trusted-comment", Help: "one line that is signed along; default: the time of signing"},
	}
}

// Detect is true for a signature file: what the format makes; the user names it.
func (Format) Detect(a format.Artifact) bool {
	_, err := readSidecar(a)
	return err == nil
}

func readSidecar(a format.Artifact) (*signature, error) {
	if a.Size() > maxSidecar {
		return nil, errMalformed
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, err
	}
	return parse(b)
}

// KeyID is the ID that a key has here when no option names another: the first eight
// bytes of its SHA-256.
func KeyID(pub ed25519.PublicKey) [keyIDSize]byte {
	s := sha256.Sum256(pub)
	return [keyIDSize]byte(s[:keyIDSize])
}

// PublicKey is the file that minisign -V -p reads.
func PublicKey(pub ed25519.PublicKey, id [keyIDSize]byte) []byte {
	raw := append(append([]byte("Ed"), id[:]...), pub...)
	number := fmt.Sprintf("%X", binary.LittleEndian.Uint64(id[:])) // minisign prints no leading zero
	return []byte(untrusted + "minisign public key " + number + "\n" + base64.StdEncoding.EncodeToString(raw) + "\n")
}

// printID is how minisign shows an ID: a little-endian number.
func printID(id [keyIDSize]byte) string {
	return fmt.Sprintf("%016X", binary.LittleEndian.Uint64(id[:]))
}

func readID(s string, pub ed25519.PublicKey) (id [keyIDSize]byte, err error) {
	if s == "" {
		return KeyID(pub), nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != keyIDSize || strings.ToUpper(s) != s {
		return id, fmt.Errorf("minisign: key-id=%.40q: want 16 hexadecimal digits in upper case", s)
	}
	slices.Reverse(b)
	return [keyIDSize]byte(b), nil
}

// checkComment refuses what is no line of text, or would look like another.
func checkComment(s string) error {
	if len(s) > maxComment || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return r != '\t' && format.Turns(r)
	}) {
		return fmt.Errorf("minisign: comment: want one line of at most %d bytes", maxComment)
	}
	return nil
}

func checkParams(get func(string) string) error {
	if _, err := readID(get("key-id"), make(ed25519.PublicKey, ed25519.PublicKeySize)); err != nil {
		return err
	}
	return checkComment(get("trusted-comment"))
}

// Plan digests a.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	if err := checkParams(func(n string) string { return p[n] }); err != nil {
		return nil, err
	}
	sums, err := format.Sum(ctx, a, crypto.BLAKE2b_512)
	if err != nil {
		return nil, fmt.Errorf("minisign: %w", err)
	}
	return &format.Plan{
		Format: Name, Version: 1, Digest: digestName, Size: a.Size(), Content: sums[0],
		Params: []format.Fact{{Name: "key-id", Value: p["key-id"]}, {Name: "trusted-comment", Value: p["trusted-comment"]}}, Body: []byte{},
	}, nil
}

// made is a signature in the making.
type made struct {
	id      [keyIDSize]byte
	comment string
	content []byte
}

// open derives what is signed, and refuses a plan that Plan does not make.
func (f Format) open(p *format.Plan, id format.Identity, at time.Time) (*made, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	want := []format.Fact{{Name: "key-id", Value: p.Param("key-id")}, {Name: "trusted-comment", Value: p.Param("trusted-comment")}}
	switch {
	case p.Format != Name || p.Version != 1:
		return nil, fmt.Errorf("minisign: plan of format %.40q, version %d", p.Format, p.Version)
	case p.Digest != digestName || len(p.Body) != 0 || len(p.Facts) != 0 || !slices.Equal(p.Params, want):
		return nil, errors.New("minisign: plan with a body, facts, options or a digest that are not the format's")
	}
	if err := checkParams(p.Param); err != nil {
		return nil, err
	}
	pub, ok := id.Public.(ed25519.PublicKey)
	if !ok || len(pub) != ed25519.PublicKeySize || id.Scheme != sigalg.PureEd25519 {
		return nil, fmt.Errorf("minisign: scheme %s: minisign knows ed25519 alone", id.Scheme)
	}
	m := &made{comment: p.Param("trusted-comment"), content: p.Content}
	if m.comment == "" {
		m.comment = fmt.Sprintf("timestamp:%d\thashed", at.Unix())
	}
	var err error
	m.id, err = readID(p.Param("key-id"), pub)
	return m, err
}

// Assemble returns the file's digest, and then the first signature with the comment.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	m, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: m.content}}, nil
	case 1:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: append(bytes.Clone(done[0]), m.comment...)}}, nil
	case 2:
		return nil, nil
	}
	return nil, fmt.Errorf("minisign: %d signatures: there are two", len(done))
}

// Attach makes the signature file.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	m, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("minisign: %s has %d bytes: the plan is for %d", a.Name(), a.Size(), p.Size)
	}
	if len(sigs) != 2 || len(sigs[0].Value) != ed25519.SignatureSize || len(sigs[1].Value) != ed25519.SignatureSize {
		return nil, fmt.Errorf("minisign: %d signatures: two of Ed25519 are wanted", len(sigs))
	}
	s := &signature{note: "signature, key " + printID(m.id), id: m.id, content: sigs[0].Value, comment: m.comment, global: sigs[1].Value}
	if err := s.verify(id.Public, p.Content); err != nil {
		return nil, err
	}
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: Suffix, Data: s.encode()}}, nil
}

// signature is a signature file.
type signature struct {
	note    string // the untrusted comment
	id      [keyIDSize]byte
	content []byte // signature over the file's digest
	comment string // the trusted comment
	global  []byte // signature over content and comment
}

var errMalformed = errors.New("minisign: signature file is malformed")

func (s *signature) encode() []byte {
	raw := append(append([]byte(prehashed), s.id[:]...), s.content...)
	return []byte(untrusted + s.note + "\n" + base64.StdEncoding.EncodeToString(raw) + "\n" + trusted + s.comment + "\n" + base64.StdEncoding.EncodeToString(s.global) + "\n")
}

// parse reads a signature file: what it accepts, encode writes again.
func parse(b []byte) (*signature, error) {
	lines := strings.Split(string(b), "\n")
	if len(b) > maxSidecar || len(lines) != 5 || lines[4] != "" {
		return nil, errMalformed
	}
	s := &signature{}
	var ok1, ok2 bool
	s.note, ok1 = strings.CutPrefix(lines[0], untrusted)
	s.comment, ok2 = strings.CutPrefix(lines[2], trusted)
	raw, err1 := base64.StdEncoding.Strict().DecodeString(lines[1])
	global, err2 := base64.StdEncoding.Strict().DecodeString(lines[3])
	if !ok1 || !ok2 || err1 != nil || err2 != nil || len(raw) != 2+keyIDSize+ed25519.SignatureSize || len(global) != ed25519.SignatureSize {
		return nil, errMalformed
	}
	if string(raw[:2]) != prehashed {
		return nil, fmt.Errorf("minisign: signature of kind %q: want one over the digest (minisign -H, the default since 0.10)", raw[:2])
	}
	if err := errors.Join(checkComment(s.note), checkComment(s.comment)); err != nil {
		return nil, err
	}
	s.id, s.content, s.global = [keyIDSize]byte(raw[2:]), raw[2+keyIDSize:], global
	if !bytes.Equal(s.encode(), b) {
		return nil, errMalformed
	}
	return s, nil
}

// verify checks both signatures with one key.
func (s *signature) verify(pub crypto.PublicKey, digest []byte) error {
	if err := sigalg.Verify(pub, sigalg.PureEd25519, digest, s.content); err != nil {
		return fmt.Errorf("minisign: %w", err)
	}
	if err := sigalg.Verify(pub, sigalg.PureEd25519, append(bytes.Clone(s.content), s.comment...), s.global); err != nil {
		return fmt.Errorf("minisign: trusted comment: %w", err)
	}
	return nil
}

// Verify checks t.Detached over a.
func (f Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	if len(t.Detached) == 0 {
		return nil, fmt.Errorf("minisign: %w: no signature file (%s) was given", format.ErrUnsigned, Suffix)
	}
	s, err := parse(t.Detached)
	if err != nil {
		return nil, err
	}
	sums, err := format.Sum(ctx, a, crypto.BLAKE2b_512)
	if err != nil {
		return nil, fmt.Errorf("minisign: %w", err)
	}
	err = errors.New("minisign: no keys are trusted")
	for _, k := range t.Keys {
		pub, ok := k.(ed25519.PublicKey)
		if !ok {
			err = fmt.Errorf("minisign: %w: no trusted key made it", sigalg.ErrSignature)
			continue
		}
		if err = s.verify(pub, sums[0]); err == nil {
			info := s.describe()
			info.Key, info.Content, info.Covers = pub, sums[0], []string{"every byte of the file", "the trusted comment"}
			return &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{info}}, nil
		}
	}
	return nil, err
}

func (s *signature) describe() format.SignatureInfo {
	return format.SignatureInfo{
		Scheme: sigalg.PureEd25519, Digest: digestName, Value: s.content, Covers: []string{}, Open: []string{"the untrusted comment", "the key ID"},
		Facts: []format.Fact{{Name: "trusted-comment", Value: strings.ReplaceAll(s.comment, "\t", " ")}, {Name: "key-id", Value: printID(s.id)}},
	}
}

// Inspect says what a signature file holds; any other file has no signature in itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	if s, err := readSidecar(a); err == nil {
		r.Signatures = append(r.Signatures, s.describe())
	}
	return r, nil
}
