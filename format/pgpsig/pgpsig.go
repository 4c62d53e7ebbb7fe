// Package pgpsig is what the formats with OpenPGP signatures share: the options
// of the key, the plan's hash in the middle of its input, the signature that is made
// of it, the cleartext framework over files, and judging a signature by trusted keys.
//
// An OpenPGP signature hashes the content and then a trailer that says who signs and
// when. Neither is known when a file is planned. So a plan carries the state of the
// hash after the content ([openpgp.State]), and Assemble finishes it twice: alone it
// must give the plan's Content, by which people endorse; with the trailer it is what
// is signed.
//
// Invariants:
//
//  1. Only a state that finishes to the plan's Content is continued. To have another
//     content signed under an endorsed Content, a requester needs a collision.
//  2. The time of signing is the one that Assemble is given; the issuer is the key of
//     the identity. A plan says nothing of either, but of the key's creation.
//  3. The salt of a version 6 signature is [Salt], the same for every file. Content is
//     then the digest of salt and content, because that alone can be held against the
//     one state. A salt that a requester chose would be bytes of his under the
//     signature; one drawn by the keeper would have to be known before the file is
//     read. Whoever hashes another salt in has a Content that nobody who plans the
//     file gets. Version 6 made here has the strength of version 4: that of the hash
//     against collisions, which the random salt is a second line behind.
//  4. Verify believes Trust.Keys alone.
//
// A caller may not conclude that a key which signs OpenPGP may sign other formats
// too. The bytes that are hashed begin with content of a requester's choice and end
// with the trailer: keep a key for OpenPGP.
package pgpsig

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

// MaxSigs is how many signatures over one file are read.
const MaxSigs = 16

// Options are those of the key and the hash.
func Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of the content; RSA and ECDSA keys want their scheme's own", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "key-created", Help: "when the OpenPGP key was created, RFC 3339: its fingerprint covers it", Default: "2020-01-01T00:00:00Z"},
		{Name: "key-version", Help: "version of the OpenPGP key and of its signatures", Values: []string{"4", "6"}, Default: "4"},
	}
}

// Params are those options, read. The key's creation is fixed by default, and does
// not follow its certificate: a renewed certificate must not change the fingerprint
// that people have.
type Params struct {
	Hash    crypto.Hash
	Version int
	Created time.Time
}

// ReadParams reads the options of a plan.
func ReadParams(get func(name string) string) (Params, error) {
	var p Params
	var err error
	if p.Hash, err = format.HashByName(get("digest")); err != nil {
		return p, err
	}
	switch get("key-version") {
	case "4":
		p.Version = 4
	case "6":
		p.Version = 6
	default:
		return p, fmt.Errorf("pgpsig: key version %.10q: want 4 or 6", get("key-version"))
	}
	v := get("key-created")
	if p.Created, err = time.Parse(time.RFC3339, v); err != nil || p.Created.Unix() < 0 || p.Created.UTC().Format(time.RFC3339) != v {
		return p, fmt.Errorf("pgpsig: key-created=%.40q: want a time like 2020-01-01T00:00:00Z", v)
	}
	return p, nil
}

// Facts lists the options in force for a plan.
func Facts(f format.Format, p format.Params) []format.Fact {
	var out []format.Fact
	for _, o := range f.Options() {
		out = append(out, format.Fact{Name: o.Name, Value: p[o.Name]})
	}
	slices.SortFunc(out, func(a, b format.Fact) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// CheckPlan refuses a plan that is not of f, or whose options f would not take.
func CheckPlan(f format.Format, p *format.Plan) error {
	if err := p.Check(); err != nil {
		return err
	}
	if p.Format != f.Name() || p.Version != 1 {
		return fmt.Errorf("%s: plan of format %.40q, version %d", f.Name(), p.Format, p.Version)
	}
	given := format.Params{}
	for _, o := range p.Params {
		given[o.Name] = o.Value
	}
	full, err := given.Check(f)
	if err != nil {
		return err
	}
	if len(full) != len(p.Params) || given["digest"] != "" && given["digest"] != p.Digest {
		return fmt.Errorf("%s: plan's options are not all of the format's, or of another digest", f.Name())
	}
	return nil
}

// Salt is what version 6 hashes in front of the content: the first bytes of the
// SHA-512 of a label and the hash's name.
func Salt(h crypto.Hash) []byte {
	s := sha512.Sum512([]byte("greatseal: salt of an OpenPGP signature, 1: " + format.HashName(h)))
	return s[:openpgp.SaltSize(h)]
}

// Begin is the hash that reads the content.
func (p Params) Begin() hash.Hash {
	x := p.Hash.New()
	if p.Version == 6 {
		x.Write(Salt(p.Hash))
	}
	return x
}

// Spec is the signature that the identity makes at that time.
func (p Params) Spec(t openpgp.Type, id format.Identity, at time.Time) (*openpgp.Spec, error) {
	k, err := openpgp.NewKey(p.Version, p.Created, id.Public)
	if err != nil {
		return nil, err
	}
	s := &openpgp.Spec{Type: t, Hash: p.Hash, Created: at.UTC().Truncate(time.Second), Key: k}
	if p.Version == 6 {
		s.Salt = Salt(p.Hash)
	}
	if err := s.CheckScheme(id.Scheme); err != nil {
		return nil, fmt.Errorf("%w: plan has digest=%s", err, format.HashName(p.Hash))
	}
	return s, nil
}

// Made is a signature in the making.
type Made struct {
	Spec   *openpgp.Spec
	Digest []byte
	TBS    format.ToBeSigned
}

// Finish continues the hash of a plan: content is what its state must finish to.
func Finish(spec *openpgp.Spec, st *openpgp.State, content []byte, id format.Identity) (*Made, error) {
	x, err := st.Resume(spec.Hash)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(x.Sum(nil), content) {
		return nil, errors.New("pgpsig: plan's hash state is not that of its content")
	}
	if spec.Key.Version == 6 && st.Count < uint64(len(spec.Salt)) {
		return nil, errors.New("pgpsig: plan's hash state lacks the salt")
	}
	trailer, err := spec.Trailer()
	if err != nil {
		return nil, err
	}
	x.Write(trailer)
	return NewMade(spec, x.Sum(nil), id), nil
}

// NewMade is a signature over a digest that Assemble computed itself. Ed25519 signs
// the digest as its message.
func NewMade(spec *openpgp.Spec, digest []byte, id format.Identity) *Made {
	m := &Made{Spec: spec, Digest: digest, TBS: format.ToBeSigned{Scheme: id.Scheme}}
	if id.Scheme == sigalg.PureEd25519 {
		m.TBS.Message = digest
	} else {
		m.TBS.Digest = digest
	}
	return m
}

// Round is Assemble's result where one signature is made.
func (m *Made) Round(done [][]byte) ([]format.ToBeSigned, error) {
	switch len(done) {
	case 0:
		return []format.ToBeSigned{m.TBS}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("pgpsig: %d signatures: there is one round", len(done))
}

// Body is the signature packet, without its header.
func (m *Made) Body(sigs []format.Signature) ([]byte, error) {
	if len(sigs) != 1 {
		return nil, fmt.Errorf("pgpsig: %d signatures: one is wanted", len(sigs))
	}
	return m.Spec.Body(m.Digest, sigs[0].Value)
}

// Read hands the n bytes of a at off to w, from the first to the last.
func Read(ctx context.Context, a format.Artifact, off, n int64, w io.Writer) error {
	buf := make([]byte, min(256<<10, max(n, 1)))
	for end := off + n; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), end-off)]
		if err := format.ReadFull(a, b, off); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return ctx.Err()
}

// ReadSignatures reads signature packets, armoured or not.
func ReadSignatures(b []byte) ([]*openpgp.Signature, []string, error) {
	var headers []string
	if bytes.HasPrefix(b, []byte("-----BEGIN ")) {
		var err error
		if b, headers, err = openpgp.Dearmor(openpgp.ArmorSignature, b); err != nil {
			return nil, nil, err
		}
	}
	ps, err := openpgp.ReadPackets(b, MaxSigs)
	if err != nil {
		return nil, nil, err
	}
	if len(ps) == 0 {
		return nil, nil, fmt.Errorf("pgpsig: %w", format.ErrUnsigned)
	}
	var out []*openpgp.Signature
	for _, p := range ps {
		if p.Tag != openpgp.TagSignature {
			return nil, nil, fmt.Errorf("pgpsig: packet of type %d: want signatures alone", p.Tag)
		}
		s, err := openpgp.ParseSignature(p.Body)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, s)
	}
	return out, headers, nil
}

// Hashes are the digests of one content for several signatures.
type Hashes struct {
	sigs []*openpgp.Signature
	sums []hash.Hash
}

// NewHashes prepares a hash for each signature; equal beginnings are hashed once.
func NewHashes(sigs []*openpgp.Signature) *Hashes {
	h := &Hashes{sigs: sigs}
	for i, s := range sigs {
		same := slices.IndexFunc(sigs[:i], func(o *openpgp.Signature) bool { return o.Hash == s.Hash && bytes.Equal(o.Salt, s.Salt) })
		if same >= 0 {
			h.sums = append(h.sums, h.sums[same])
			continue
		}
		h.sums = append(h.sums, s.NewHash())
	}
	return h
}

// Write hashes content.
func (h *Hashes) Write(b []byte) (int, error) {
	for i, x := range h.sums {
		if slices.Index(h.sums, x) == i {
			x.Write(b)
		}
	}
	return len(b), nil
}

// Judge verifies every signature: all must be by trusted keys, and of the type that
// the format signs with.
func (h *Hashes) Judge(t format.Trust, types ...openpgp.Type) ([]format.SignatureInfo, error) {
	if len(h.sigs) == 0 {
		return nil, fmt.Errorf("pgpsig: %w", format.ErrUnsigned)
	}
	if len(t.Keys) == 0 {
		return nil, errors.New("pgpsig: no keys are trusted")
	}
	var out []format.SignatureInfo
	for i, s := range h.sigs {
		if !slices.Contains(types, s.Type) {
			return nil, fmt.Errorf("pgpsig: signature %d is of type %#x: it does not sign this", i, byte(s.Type))
		}
		if err := s.ValidAt(t.Now); err != nil {
			return nil, fmt.Errorf("pgpsig: signature %d: %w", i, err)
		}
		content, digest := h.digests(i)
		err := error(openpgp.ErrSignature)
		for _, k := range t.Keys {
			if err = s.Verify(k, digest); err == nil {
				info := Describe(s)
				info.Index, info.Key, info.Content = i, k, content
				info.Scheme, info.Value, _ = s.Value(k)
				out = append(out, info)
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("pgpsig: signature %d (%s) is of no trusted key over this content: %w", i, Issuer(s), err)
		}
	}
	return out, nil
}

// digests are those of salt and content, and of them with the trailer of signature i.
func (h *Hashes) digests(i int) (content, digest []byte) {
	content = h.sums[i].Sum(nil)
	st, err := openpgp.StateOf(h.sigs[i].Hash, h.sums[i])
	if err != nil {
		return content, nil
	}
	x, err := st.Resume(h.sigs[i].Hash)
	if err != nil {
		return content, nil
	}
	x.Write(h.sigs[i].Trailer())
	return content, x.Sum(nil)
}

// Issuer names who a signature says that it is by.
func Issuer(s *openpgp.Signature) string {
	switch {
	case len(s.Fingerprint) > 0:
		return strings.ToUpper(hex.EncodeToString(s.Fingerprint))
	case len(s.KeyID) > 0:
		return strings.ToUpper(hex.EncodeToString(s.KeyID))
	}
	return "issuer not named"
}

// Describe says what is in a signature, without judging it.
func Describe(s *openpgp.Signature) format.SignatureInfo {
	info := format.SignatureInfo{Digest: format.HashName(s.Hash), Covers: []string{}}
	info.Scheme, info.Value, _ = s.Value(nil)
	info.Facts = []format.Fact{
		{Name: "issuer", Value: Issuer(s)},
		{Name: "made at, as stated", Value: s.Created.Format(time.RFC3339)},
		{Name: "version", Value: fmt.Sprint(s.Version)},
	}
	for _, p := range s.Unhashed {
		if p.Type != openpgp.SubIssuer && p.Type != openpgp.SubFingerprint || len(s.Fingerprint) == 0 {
			info.Open = append(info.Open, fmt.Sprintf("subpacket %d in the unhashed area", p.Type))
		}
	}
	return info
}
