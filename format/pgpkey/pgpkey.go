// Package pgpkey is the format "pgp-key": a key certifies itself. The file is a user
// ID on one line, the result beside it a transferable public key (".asc", RFC 9580
// section 10.1) that GnuPG, Sequoia, RPM and APT import.
//
// A plan is the user ID. Signed are the key, made of the identity's public key and the
// plan's time of creation, and the user ID; in version 6 the key alone as well.
//
// Invariants:
//
//  1. Assemble hashes the whole message itself: key, user ID and trailer. The plan's
//     Content must be the digest of its user ID.
//  2. A certification says that the key certifies and signs, and nothing of expiry.
//  3. Verify wants the one key, the one user ID and their signatures in the order in
//     which Attach writes them, by the key itself, which must be in Trust.Keys.
//
// A caller may not conclude that the user ID is true: that is what endorsers judge.
package pgpkey

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/openpgp"
)

// Name is the format's word in charters and plans.
const Name = "pgp-key"

const maxSidecar = 64 << 10

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

// Name is "pgp-key".
func (Format) Name() string { return Name }

// Options are those of the key.
func (Format) Options() []format.Option { return pgpsig.Options() }

// Detect is true for a transferable public key: what the format makes, not what it
// is made of, which is any line of text.
func (Format) Detect(a format.Artifact) bool {
	if a.Size() > maxSidecar {
		return false
	}
	b := make([]byte, a.Size())
	if format.ReadFull(a, b, 0) != nil {
		return false
	}
	_, err := parse(b)
	return err == nil
}

// body is a plan's own part, version 1.
type body struct {
	UserID string `cbor:"1,keyasint"`
}

// readUserID reads the file: one line that ends in a line feed.
func readUserID(a format.Artifact) (string, error) {
	if a.Size() > openpgp.MaxUserID+1 {
		return "", fmt.Errorf("pgpkey: file of %d bytes: want a user ID on one line", a.Size())
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return "", err
	}
	line, ok := bytes.CutSuffix(b, []byte("\n"))
	if !ok {
		return "", errors.New("pgpkey: file does not end in a line feed")
	}
	return string(line), openpgp.CheckUserID(string(line))
}

func digest(h crypto.Hash, parts ...[]byte) []byte {
	x := h.New()
	for _, p := range parts {
		x.Write(p)
	}
	return x.Sum(nil)
}

// Plan reads the user ID.
func (f Format) Plan(_ context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	keys, err := pgpsig.ReadParams(func(n string) string { return p[n] })
	if err != nil {
		return nil, err
	}
	id, err := readUserID(a)
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(body{id})
	if err != nil {
		return nil, err
	}
	return &format.Plan{
		Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: digest(keys.Hash, []byte(id)),
		Params: pgpsig.Facts(f, p), Facts: []format.Fact{{Name: "user-id", Value: id}}, Body: enc,
	}, nil
}

// open derives the signatures of a plan: over the user ID and, in version 6, over the
// key before it.
func (f Format) open(p *format.Plan, id format.Identity, at time.Time) (string, []*pgpsig.Made, error) {
	if err := pgpsig.CheckPlan(f, p); err != nil {
		return "", nil, err
	}
	keys, err := pgpsig.ReadParams(p.Param)
	if err != nil {
		return "", nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return "", nil, fmt.Errorf("pgpkey: plan: %w", err)
	}
	if err := openpgp.CheckUserID(b.UserID); err != nil {
		return "", nil, err
	}
	if !bytes.Equal(p.Content, digest(keys.Hash, []byte(b.UserID))) || p.Size != int64(len(b.UserID))+1 ||
		!slices.Equal(p.Facts, []format.Fact{{Name: "user-id", Value: b.UserID}}) {
		return "", nil, errors.New("pgpkey: plan contradicts itself")
	}
	var out []*pgpsig.Made
	for _, t := range types(keys.Version) {
		base, err := keys.Spec(t, id, at)
		if err != nil {
			return "", nil, err
		}
		spec := openpgp.SelfSpec(base.Key, t, base.Hash, base.Created, base.Salt)
		trailer, err := spec.Trailer()
		if err != nil {
			return "", nil, err
		}
		out = append(out, pgpsig.NewMade(spec, digest(keys.Hash, spec.Salt, message(spec.Key, t, b.UserID), trailer), id))
	}
	return b.UserID, out, nil
}

// types are the self-signatures of a key, in the order in which they are signed.
func types(version int) []openpgp.Type {
	if version == 6 { // RFC 9580 section 10.1.1 wants the first
		return []openpgp.Type{openpgp.DirectKey, openpgp.CertifyPositive}
	}
	return []openpgp.Type{openpgp.CertifyPositive}
}

func message(k *openpgp.Key, t openpgp.Type, userID string) []byte {
	if t == openpgp.DirectKey {
		return k.DirectMessage()
	}
	return k.CertifyMessage(userID)
}

// Assemble returns the self-signatures, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, made, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case len(made):
		return nil, nil
	case 0:
		var out []format.ToBeSigned
		for _, m := range made {
			out = append(out, m.TBS)
		}
		return out, nil
	}
	return nil, fmt.Errorf("pgpkey: %d signatures: %d are wanted", len(done), len(made))
}

// Attach makes the transferable public key.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	userID, made, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	if now, err := readUserID(a); err != nil || now != userID {
		return nil, errors.New("pgpkey: file is not the one that was planned")
	}
	if len(sigs) != len(made) {
		return nil, fmt.Errorf("pgpkey: %d signatures: %d are wanted", len(sigs), len(made))
	}
	var bodies [][]byte
	for i, m := range made {
		b, err := m.Body(sigs[i : i+1])
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, b)
	}
	last := len(bodies) - 1
	cert := openpgp.NewCertificate(made[0].Spec.Key, bodies[:last], userID, bodies[last])
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: ".asc", Data: openpgp.Armor(openpgp.ArmorPublicKey, cert)}}, nil
}

// published is a transferable public key of the form that Attach writes.
type published struct {
	key     *openpgp.Key
	userID  string
	sigs    []*openpgp.Signature
	headers []string
}

func parse(b []byte) (*published, error) {
	if len(b) > maxSidecar {
		return nil, fmt.Errorf("pgpkey: public key of %d bytes", len(b))
	}
	data, headers, err := openpgp.Dearmor(openpgp.ArmorPublicKey, b)
	if err != nil {
		return nil, err
	}
	ps, err := openpgp.ReadPackets(data, 4)
	if err != nil {
		return nil, err
	}
	out := &published{headers: headers}
	if len(ps) == 0 || ps[0].Tag != openpgp.TagPublicKey {
		return nil, errors.New("pgpkey: no public key")
	}
	if out.key, err = openpgp.ParseKey(ps[0].Body); err != nil {
		return nil, err
	}
	want := []openpgp.Tag{openpgp.TagPublicKey, openpgp.TagUserID, openpgp.TagSignature}
	if out.key.Version == 6 {
		want = slices.Insert(want, 1, openpgp.TagSignature)
	}
	if !slices.EqualFunc(ps, want, func(p openpgp.Packet, t openpgp.Tag) bool { return p.Tag == t }) {
		return nil, errors.New("pgpkey: public key has more than a user ID and its own signatures")
	}
	for i, p := range ps[1:] {
		if p.Tag == openpgp.TagUserID {
			out.userID = string(p.Body)
			continue
		}
		s, err := openpgp.ParseSignature(p.Body)
		if err != nil {
			return nil, err
		}
		if s.Type != types(out.key.Version)[len(out.sigs)] || s.Version != out.key.Version || !bytes.Equal(s.Fingerprint, out.key.Fingerprint()) {
			return nil, fmt.Errorf("pgpkey: packet %d is not a signature of the key over itself", i+1)
		}
		out.sigs = append(out.sigs, s)
	}
	return out, openpgp.CheckUserID(out.userID)
}

// Verify checks that t.Detached is a trusted key with the user ID of a.
func (f Format) Verify(_ context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	if len(t.Detached) == 0 {
		return nil, fmt.Errorf("pgpkey: %w: no public key was given", format.ErrUnsigned)
	}
	id, err := readUserID(a)
	if err != nil {
		return nil, err
	}
	p, err := parse(t.Detached)
	if err != nil {
		return nil, err
	}
	if p.userID != id {
		return nil, errors.New("pgpkey: public key has another user ID")
	}
	own, ok := p.key.Public.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !slices.ContainsFunc(t.Keys, func(k crypto.PublicKey) bool { return k != nil && own.Equal(k) }) {
		return nil, errors.New("pgpkey: key is not trusted")
	}
	r := describe(a, p)
	for i, s := range p.sigs {
		if err := s.ValidAt(t.Now); err != nil {
			return nil, err
		}
		if err := s.Verify(p.key.Public, digest(s.Hash, s.Salt, message(p.key, s.Type, id), s.Trailer())); err != nil {
			return nil, err
		}
		r.Signatures[i].Content = digest(s.Hash, []byte(id))
		r.Signatures[i].Scheme, r.Signatures[i].Value, _ = s.Value(p.key.Public)
	}
	return r, nil
}

func describe(a format.Artifact, p *published) *format.Report {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}, Facts: []format.Fact{
		{Name: "user-id", Value: p.userID},
		{Name: "fingerprint", Value: fmt.Sprintf("%X", p.key.Fingerprint())},
		{Name: "key-created", Value: p.key.Created.Format(time.RFC3339)},
	}}
	for i, s := range p.sigs {
		info := pgpsig.Describe(s)
		info.Index, info.Key, info.Covers = i, p.key.Public, []string{"the public key and its time of creation"}
		if s.Type != openpgp.DirectKey {
			info.Covers = append(info.Covers, "the user ID")
		}
		if len(p.headers) > 0 {
			info.Open = append(info.Open, "headers of the armour")
		}
		r.Signatures = append(r.Signatures, info)
	}
	return r
}

// Inspect says what a transferable public key holds; a user ID is not signed in itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	if a.Size() <= maxSidecar {
		b := make([]byte, a.Size())
		if err := format.ReadFull(a, b, 0); err != nil {
			return nil, err
		}
		if p, err := parse(b); err == nil {
			return describe(a, p), nil
		}
	}
	return &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}, nil
}
