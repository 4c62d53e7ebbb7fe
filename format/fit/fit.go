// Package fit is the format "fit": U-Boot's flattened image trees with signed
// configurations (doc/usage/fit/signature.rst of U-Boot).
//
// A FIT is a device tree of images, each with digests of its data in nodes
// "hash…", and of configurations, each of which names images. A signature stands
// in a node of its configuration and covers the root's properties, the
// configuration, its images but for their data, their digests, and the tree's
// strings. There is one signature for each configuration.
//
// Invariants:
//
//  1. Plan reads the file once, in constant memory: the tree, then the images'
//     data, whose digests must be those that the tree holds.
//  2. Assemble derives every signed byte from the tree in the plan; the plan's
//     facts are derived from it too, and must be the same.
//  3. Verify wants every configuration to be signed by a trusted key, every image
//     to be in one, with a SHA-2 digest, and nothing in the file to be besides:
//     the nodes to be covered are computed, never taken from the file.
//  4. Names that U-Boot may find by another name, nodes or properties that stand
//     twice, and a second root are refused.
//
// A caller may not conclude which configuration boots: the default is signed by
// nobody, and U-Boot may choose by compatibility. Nor that a device verifies at
// all: that is for the keys in its own tree, which must be "required".
package fit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "fit"

// Errors that callers branch on.
var (
	ErrNotFIT    = errors.New("fit: not a flattened image tree")
	ErrMalformed = errors.New("fit: malformed image tree")
	ErrSigned    = errors.New("fit: a configuration is signed already: replace=true writes its signature anew")
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Lister too.
func New() format.Format { return Format{} }

var _ format.Lister = Format{}

// Name is "fit".
func (Format) Name() string { return Name }

// Options are the digest, the key's name, and what is done to signatures.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest that is signed; it must be the signing scheme's own", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "key-name", Help: "name of the key in U-Boot's tree, /signature/key-NAME; needed where the configurations have no key-name-hint"},
		{Name: "replace", Help: "write signatures that are there anew", Values: []string{"false", "true"}, Default: "false"},
	}
}

// Detect is true for a device tree with nodes /images and /configurations.
func (Format) Detect(a format.Artifact) bool {
	h, err := parseHeader(a)
	if err != nil {
		return false
	}
	strs := make([]byte, h.stringsSize)
	if format.ReadFull(a, strs, h.strings) != nil {
		return false
	}
	root, err := parseTree(a, reserveEnd, h.structSize, strs)
	return err == nil && root.child("images") != nil && root.child("configurations") != nil
}

// body is version 1 of Plan.Body.
type body struct {
	Tree    []byte `cbor:"1,keyasint"` // structure block without the images' data
	Strings []byte `cbor:"2,keyasint"` // strings block
}

// Plan reads the tree and checks the images' digests.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	t, err := open(a)
	if err != nil {
		return nil, err
	}
	if err := t.prepare(p); err != nil {
		return nil, err
	}
	if err := t.checkData(ctx, a, true); err != nil {
		return nil, err
	}
	h, err := format.HashByName(p["digest"])
	if err != nil {
		return nil, err
	}
	messages, err := t.toSign()
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(t.body())
	if err != nil {
		return nil, err
	}
	return &format.Plan{Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: content(h, messages), Params: single.Options(p), Facts: t.all(), Body: enc}, nil
}

func (t *tree) body() body {
	root := t.root.skeleton(nil)
	return body{Tree: append(root, 0, 0, 0, tokenLast), Strings: t.strings}
}

// signing is what a plan and an identity come to.
type signing struct {
	tree   *tree
	params format.Params
	algo   string
	tbs    []format.ToBeSigned // one for each configuration, in the tree's order
}

// check derives what is signed, and refuses a plan that Plan does not make.
func (f Format) check(p *format.Plan, id format.Identity) (*signing, error) {
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, err
	}
	t := &tree{strings: b.Strings}
	if t.root, err = parseTree(format.BytesArtifact("plan", b.Tree), 0, int64(len(b.Tree)), b.Strings); err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	if err := t.prepare(o); err != nil {
		return nil, err
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	messages, err := t.toSign()
	if err != nil {
		return nil, err
	}
	switch again := t.body(); {
	case !bytes.Equal(again.Tree, b.Tree):
		return nil, fmt.Errorf("fit: %w: its tree is not in the one encoding", single.ErrPlan)
	case o["digest"] != p.Digest || p.Size < int64(len(b.Tree)) || !bytes.Equal(content(h, messages), p.Content):
		return nil, fmt.Errorf("fit: %w: digest or size", single.ErrPlan)
	case !t.told(p.Facts):
		return nil, fmt.Errorf("fit: %w: its facts are not those of its tree", single.ErrPlan)
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return nil, fmt.Errorf("fit: %w", err)
	}
	s := &signing{tree: t, params: o}
	if s.algo, err = algorithm(k, id.Scheme); err != nil {
		return nil, err
	}
	if id.Scheme.Hash() != h {
		return nil, fmt.Errorf("fit: plan has digest %s: scheme %s wants digest=%s", p.Digest, id.Scheme, format.HashName(id.Scheme.Hash()))
	}
	for _, m := range messages {
		s.tbs = append(s.tbs, format.ToBeSigned{Scheme: id.Scheme, Message: m})
	}
	return s, nil
}

// Assemble returns the message of each configuration, all in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	s, err := f.check(p, id)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return s.tbs, nil
	case len(s.tbs):
		return nil, nil
	}
	return nil, fmt.Errorf("fit: %d signatures: there is one round of %d", len(done), len(s.tbs))
}

// Attach writes the signature nodes. The tree grows; data behind it moves along.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	s, err := f.check(p, id)
	if err != nil {
		return nil, err
	}
	if len(sigs) != len(s.tbs) {
		return nil, fmt.Errorf("fit: %d signatures: want one for each of %d configurations", len(sigs), len(s.tbs))
	}
	for i := range sigs {
		if _, err := single.Fits(Name, a, p, s.tbs[i], id, sigs[i:i+1]); err != nil {
			return nil, err
		}
	}
	now, err := open(a)
	if err != nil {
		return nil, fmt.Errorf("fit: %w: %w", single.ErrChanged, err)
	}
	if err := now.prepare(s.params); err != nil {
		return nil, err
	}
	b, planned := now.body(), s.tree.body()
	if !bytes.Equal(b.Tree, planned.Tree) || !bytes.Equal(b.Strings, planned.Strings) {
		return nil, fmt.Errorf("fit: %w: its tree differs", single.ErrChanged)
	}
	return now.patch(a.Size(), s.algo, id.Scheme, sigs)
}
