// Package gitobject is the format "git": signatures of commits and tags, of the three
// kinds that git knows: SSH, OpenPGP and X.509. The file is an object as `git cat-file
// commit` (or tag) prints it; signed it is stored by `git hash-object -t commit -w`.
//
// A plan carries the object without signature, so that who endorses it, and the keeper,
// see the commit itself; facts are its headers.
//
// Invariants:
//
//  1. Assemble reads the object strictly and derives digest and facts again: what is
//     endorsed is the commit, not a number.
//  2. An object has one signature or none. What git would strip or skip when it verifies
//     is refused, not ignored.
//  3. An SSH signature has the namespace "git".
//  4. Verify wants the signature by a trusted key or, for X.509, by a certificate for
//     code signing under a root.
//
// A caller may not conclude that author and committer are who signed, or that the tree
// is what people reviewed: its name is SHA-1 in most repositories.
package gitobject

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/format/sshsig"
	"github.com/greatseal-io/greatseal/openpgp"
)

// Name is the format's word in charters and plans.
const Name = "git"

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover and a format.Extractor too.
func New() format.Format { return Format{} }

var (
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
)

// Name is "git".
func (Format) Name() string { return Name }

// Options are the kind of signature, and those of an OpenPGP key but for its version:
// git asks gpg, which reads version 4.
func (Format) Options() []format.Option {
	out := []format.Option{
		{Name: "kind", Help: "kind of signature", Values: []string{ssh, pgp, x509sig}, Default: ssh},
		{Name: "replace", Help: "take a signature off that is there", Values: []string{"false", "true"}, Default: "false"},
	}
	for _, o := range pgpsig.Options() {
		if o.Name != "key-version" {
			out = append(out, o)
		}
	}
	return out
}

func read(a format.Artifact) (*object, error) {
	if a.Size() > MaxObject {
		return nil, fmt.Errorf("gitobject: object of %d bytes: at most %d", a.Size(), MaxObject)
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("gitobject: %w", err)
	}
	return parse(b)
}

// Detect is true for commits and tags.
func (Format) Detect(a format.Artifact) bool {
	_, err := read(a)
	return err == nil
}

// body is a plan's own part, version 1.
type body struct {
	Payload []byte `cbor:"1,keyasint"` // the object without its signature
}

func sum(h crypto.Hash, parts ...[]byte) []byte {
	x := h.New()
	for _, p := range parts {
		x.Write(p)
	}
	return x.Sum(nil)
}

// Plan reads an object.
func (f Format) Plan(_ context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	get := func(n string) string { return p[n] }
	keys, err := readParams(get)
	if err != nil {
		return nil, err
	}
	o, err := read(a)
	if err != nil {
		return nil, err
	}
	if o.signature != nil && p["replace"] != "true" {
		return nil, errors.New("gitobject: object is signed: option replace=true takes that signature off")
	}
	if _, _, err := o.sign(nil); err != nil {
		return nil, err
	}
	enc, err := format.Encode(body{o.payload})
	if err != nil {
		return nil, err
	}
	return &format.Plan{
		Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: sum(keys.Hash, o.payload),
		Params: pgpsig.Facts(f, p), Facts: o.facts, Body: enc,
	}, nil
}

func readParams(get func(string) string) (pgpsig.Params, error) {
	if get("kind") == ssh && get("digest") == "sha384" {
		return pgpsig.Params{}, errors.New("gitobject: SSH signatures know digest=sha256 and digest=sha512")
	}
	for _, o := range pgpsig.Options() {
		if o.Name == "key-created" && get("kind") != pgp && get(o.Name) != o.Default {
			return pgpsig.Params{}, errors.New("gitobject: option key-created is for kind=openpgp")
		}
	}
	return pgpsig.ReadParams(func(n string) string {
		if n == "key-version" {
			return "4"
		}
		return get(n)
	})
}

// made is a signature in the making.
type made struct {
	object *object
	tbs    format.ToBeSigned
	armor  func(value []byte) ([]byte, error) // refuses a value that does not fit
}

// open derives what is signed, and refuses a plan that Plan does not make.
func (f Format) open(p *format.Plan, id format.Identity, at time.Time) (*made, error) {
	if err := pgpsig.CheckPlan(f, p); err != nil {
		return nil, err
	}
	keys, err := readParams(p.Param)
	if err != nil {
		return nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, fmt.Errorf("gitobject: plan: %w", err)
	}
	o, err := parse(b.Payload)
	if err != nil {
		return nil, err
	}
	replace := p.Param("replace") == "true"
	switch {
	case o.signature != nil:
		return nil, errors.New("gitobject: plan of a signed object")
	case !bytes.Equal(p.Content, sum(keys.Hash, b.Payload)) || !slices.Equal(p.Facts, o.facts):
		return nil, errors.New("gitobject: plan contradicts its object")
	case p.Size != int64(len(b.Payload)) && !replace || p.Size < int64(len(b.Payload)) || p.Size > MaxObject:
		return nil, errors.New("gitobject: plan's size is not its object's")
	}
	if _, _, err := o.sign(nil); err != nil {
		return nil, err
	}
	m := &made{object: o}
	switch p.Param("kind") {
	case ssh:
		m.tbs = format.ToBeSigned{Scheme: id.Scheme, Message: sshsig.Message(sshsig.Git, p.Digest, p.Content)}
		if err := sshsig.CheckKey(id.Public, id.Scheme); err != nil {
			return nil, err
		}
		m.armor = func(v []byte) ([]byte, error) {
			s, err := sshsig.NewSignature(id.Public, id.Scheme, sshsig.Git, p.Digest, p.Content, v)
			if err != nil {
				return nil, err
			}
			return s.Armor()
		}
	case pgp:
		spec, err := keys.Spec(openpgp.Binary, id, at)
		if err != nil {
			return nil, err
		}
		trailer, err := spec.Trailer()
		if err != nil {
			return nil, err
		}
		pm := pgpsig.NewMade(spec, sum(keys.Hash, b.Payload, trailer), id)
		m.tbs = pm.TBS
		m.armor = func(v []byte) ([]byte, error) {
			packet, err := pm.Body([]format.Signature{{Value: v}})
			if err != nil {
				return nil, err
			}
			return openpgp.Armor(openpgp.ArmorSignature, openpgp.AppendPacket(nil, openpgp.TagSignature, packet)), nil
		}
	default:
		spec, err := single.Spec("gitobject", p.Content, keys.Hash, id, at)
		if err != nil {
			return nil, err
		}
		attrs, err := spec.SignedAttributes()
		if err != nil {
			return nil, fmt.Errorf("gitobject: %w", err)
		}
		m.tbs = format.ToBeSigned{Scheme: id.Scheme, Message: attrs}
		m.armor = func(v []byte) ([]byte, error) {
			if err := m.tbs.Verify(id.Public, v); err != nil {
				return nil, fmt.Errorf("gitobject: %w", err)
			}
			der, err := single.EncodeCMS("gitobject", spec, nil, id, v)
			if err != nil {
				return nil, err
			}
			return armorX509(der), nil
		}
	}
	return m, nil
}

// Assemble returns what the kind of signature signs, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	m, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{m.tbs}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("gitobject: %d signatures: there is one round", len(done))
}

// Armored is the signature alone, as git wants it from a program that it calls to sign
// (gpg.program, gpg.ssh.program, gpg.x509.program): what such a program is given to
// sign is the object without signature, which can be planned as it is.
func (f Format) Armored(p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) ([]byte, error) {
	m, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	if len(sigs) != 1 {
		return nil, fmt.Errorf("gitobject: %d signatures: one is wanted", len(sigs))
	}
	return m.armor(sigs[0].Value)
}

// Attach puts the signature into the object.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	m, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	armor, err := f.Armored(p, id, at, sigs)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("gitobject: %s has %d bytes: the plan is for %d", a.Name(), a.Size(), p.Size)
	}
	offset, insert, err := m.object.sign(armor)
	if err != nil {
		return nil, err
	}
	now, err := read(a) // objects are small enough to be read again, and to be written whole
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(now.payload, m.object.payload) {
		return nil, errors.New("gitobject: object is not the one that was planned")
	}
	if now.signature == nil {
		return &format.Patch{Size: p.Size, Edits: []format.Edit{{Offset: offset, Insert: insert}}}, nil
	}
	return &format.Patch{Size: p.Size, Edits: []format.Edit{{Delete: p.Size, Insert: slices.Insert(bytes.Clone(now.payload), int(offset), insert...)}}}, nil
}

// armorX509 is gpgsm's armour.
func armorX509(der []byte) []byte {
	var b strings.Builder
	b.WriteString(beginX509 + "\n")
	for text := base64.StdEncoding.EncodeToString(der); text != ""; {
		n := min(64, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	b.WriteString(endX509 + "\n")
	return []byte(b.String())
}

// dearmorX509 reads it: lines of one length, the last one shorter, nothing else.
func dearmorX509(b []byte) (*cms.SignedData, error) {
	text, ok1 := strings.CutPrefix(string(b), beginX509+"\n")
	text, ok2 := strings.CutSuffix(text, endX509+"\n")
	der, err := base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(text, "\n", ""))
	if !ok1 || !ok2 || err != nil || !bytes.Equal(armorX509(der), b) {
		return nil, errors.New("gitobject: armour of an X.509 signature")
	}
	d, err := single.ParseCMS("gitobject", der)
	if err == nil && d.Content != nil {
		err = errors.New("gitobject: signature carries a content of its own")
	}
	return d, err
}

// Verify checks the signature of a.
func (f Format) Verify(_ context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	o, err := read(a)
	if err != nil {
		return nil, err
	}
	if o.signature == nil {
		return nil, fmt.Errorf("gitobject: %w", format.ErrUnsigned)
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: o.facts}
	covers := []string{"every header of the object but the signature's", "the message"}
	armor, open := o.tidy()
	switch o.kind() {
	case ssh:
		s, err := sshsig.Parse(armor)
		if err != nil {
			return nil, err
		}
		if s.Namespace != sshsig.Git {
			return nil, fmt.Errorf("gitobject: SSH signature is for %q: want git", s.Namespace)
		}
		h, err := format.HashByName(s.Hash)
		if err != nil {
			return nil, err
		}
		by, err := s.Trusted(t.Keys, sum(h, o.payload))
		if err != nil {
			return nil, err
		}
		info := s.Describe()
		info.Key, info.Content = by, sum(h, o.payload)
		r.Signatures = []format.SignatureInfo{info}
	case pgp:
		sigs, headers, err := pgpsig.ReadSignatures(armor)
		if err != nil {
			return nil, err
		}
		if len(sigs) != 1 {
			return nil, fmt.Errorf("gitobject: %d OpenPGP signatures: git reads one", len(sigs))
		}
		h := pgpsig.NewHashes(sigs)
		h.Write(o.payload)
		if r.Signatures, err = h.Judge(t, openpgp.Binary); err != nil {
			return nil, err
		}
		if len(headers) > 0 {
			open = append(open, "headers of the signature's armour")
		}
	case x509sig:
		d, err := dearmorX509(armor)
		if err != nil {
			return nil, err
		}
		r.Signatures, err = single.VerifyCMS("gitobject", d, t, covers, func(h crypto.Hash) ([]byte, error) {
			if format.HashName(h) == "" || !h.Available() {
				return nil, fmt.Errorf("gitobject: hash %v is not accepted", h)
			}
			return sum(h, o.payload), nil
		})
		if err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("gitobject: signature of a kind that is not accepted")
	}
	for i := range r.Signatures {
		r.Signatures[i].Label, r.Signatures[i].Covers = o.kind(), covers
		r.Signatures[i].Open = append(r.Signatures[i].Open, open...)
	}
	return r, nil
}

// tidy takes off an empty line after the armour, which some forges write.
func (o *object) tidy() ([]byte, []string) {
	if b, ok := bytes.CutSuffix(o.signature, []byte("\n\n")); ok {
		return append(bytes.Clone(b), '\n'), []string{"an empty line after the signature"}
	}
	return o.signature, nil
}

// Inspect says what an object is and how it is signed.
func (f Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	o, err := read(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: o.facts, Signatures: []format.SignatureInfo{}}
	armor, _ := o.tidy()
	switch o.kind() {
	case ssh:
		s, err := sshsig.Parse(armor)
		if err != nil {
			return nil, err
		}
		info := s.Describe()
		if h, err := format.HashByName(s.Hash); err == nil {
			info.Content = sum(h, o.payload)
		}
		r.Signatures = append(r.Signatures, info)
	case pgp:
		sigs, _, err := pgpsig.ReadSignatures(armor)
		if err != nil {
			return nil, err
		}
		for _, s := range sigs {
			info := pgpsig.Describe(s)
			info.Content = sum(s.Hash, o.payload)
			r.Signatures = append(r.Signatures, info)
		}
	case x509sig:
		d, err := dearmorX509(armor)
		if err != nil {
			return nil, err
		}
		for _, s := range d.Signers {
			r.Signatures = append(r.Signatures, single.DescribeCMS(s, s.Certificate()))
		}
	}
	for i := range r.Signatures {
		r.Signatures[i].Index, r.Signatures[i].Label = i, o.kind()
	}
	return r, nil
}

// Remove takes the signature out of an object.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	o, err := read(a)
	if err != nil {
		return nil, err
	}
	if o.signature == nil {
		return nil, fmt.Errorf("gitobject: %w", format.ErrUnsigned)
	}
	if index != 0 && index != -1 {
		return nil, fmt.Errorf("gitobject: signature %d of 1", index)
	}
	return &format.Patch{Size: a.Size(), Edits: []format.Edit{{Delete: a.Size(), Insert: o.payload}}}, nil
}

// Extract returns the signature in its armour.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	o, err := read(a)
	if err != nil {
		return nil, err
	}
	if o.signature == nil {
		return nil, fmt.Errorf("gitobject: %w", format.ErrUnsigned)
	}
	if index != 0 {
		return nil, fmt.Errorf("gitobject: signature %d of 1", index)
	}
	return &format.Sidecar{Suffix: map[string]string{ssh: ".sig", pgp: ".asc", x509sig: ".pem", "": ".txt"}[o.kind()], Data: o.signature}, nil
}
