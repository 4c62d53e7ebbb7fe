package ipa

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/bundle"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/macho"
)

// assembly is an application on its way through the rounds.
type assembly struct {
	body  *body
	id    format.Identity
	at    time.Time
	files []sealed       // what lists can name so far
	plans []*format.Plan // of the programs, with the digests of their lists as far as these are known
	lists map[string][]byte
}

func begin(p *format.Plan, id format.Identity, at time.Time) (*assembly, error) {
	b, plans, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	if err := codesign.CheckIdentity(id); err != nil {
		return nil, err
	}
	for i := range b.Code {
		c := &b.Code[i]
		if len(c.Profile) == 0 {
			continue
		}
		granted, err := parseProfile(c.Profile)
		if err != nil {
			return nil, err
		}
		if err := granted.names(id.Chain[0]); err != nil {
			return nil, err
		}
		if !at.Before(granted.expires) {
			return nil, fmt.Errorf("%w: that of %q expired %s", ErrProfile, c.Program, granted.expires.UTC().Format(time.RFC3339))
		}
	}
	return &assembly{body: b, id: id, at: at, files: slices.Clone(b.Files), plans: plans, lists: map[string][]byte{}}, nil
}

// messages are those of the code from i on that is signed in the round of i, one list
// for each piece. It writes the lists of the bundles among it.
func (a *assembly) messages(i int) ([][]format.ToBeSigned, error) {
	var out [][]format.ToBeSigned
	for k := i; k < len(a.body.Code) && a.body.Code[k].Round == a.body.Code[i].Round; k++ {
		c := &a.body.Code[k]
		if c.Bundle {
			list := encodeList(of(a.files, c.Dir, c.Program))
			if len(list) > maxList {
				return nil, malformed("list of %d bytes", len(list))
			}
			var err error
			if a.plans[k], err = macho.WithResources(a.plans[k], digest(list)); err != nil {
				return nil, err
			}
			a.lists[listOf(c.Dir)] = list
		}
		tbs, err := macho.Format{}.Assemble(a.plans[k], a.id, a.at, nil)
		if err != nil {
			return nil, fmt.Errorf("ipa: %q: %w", c.Program, err)
		}
		out = append(out, tbs)
	}
	return out, nil
}

// signed adds to the files a program with its signature, and the list of its bundle.
// The value is that of the keeper, who checks what its keys give; Attach checks it too.
func (a *assembly) signed(i int, value []byte) error {
	c := &a.body.Code[i]
	signature, err := macho.Embedded(a.plans[i], a.id, a.at, value)
	if err != nil {
		return fmt.Errorf("ipa: %q: %w", c.Program, err)
	}
	s, err := c.finish(signature)
	if err != nil {
		return err
	}
	a.files = append(a.files, s)
	if c.Bundle {
		b := a.lists[listOf(c.Dir)]
		a.files = append(a.files, sealed{Path: listOf(c.Dir), SHA1: sha1Of(b), SHA256: digest(b)})
	}
	return nil
}

// run goes through the rounds as far as the signatures go. It returns the messages of
// the next one, and for each piece of code that was signed how many signatures it has.
func (a *assembly) run(done [][]byte) (next []format.ToBeSigned, counts []int, err error) {
	total := 0
	for i := 0; i < len(a.body.Code); {
		round, err := a.messages(i)
		if err != nil {
			return nil, nil, err
		}
		for _, tbs := range round {
			next = append(next, tbs...)
		}
		if total += len(next); total > format.MaxSignatures {
			return nil, nil, malformed("more than %d slices", format.MaxSignatures)
		}
		if len(done) == 0 {
			return next, counts, nil
		}
		if len(done) < len(next) {
			return nil, nil, fmt.Errorf("ipa: %d signatures of a round: want %d", len(done), len(next))
		}
		for k, tbs := range round {
			counts = append(counts, len(tbs))
			if len(a.body.Code[i+k].States) > 0 {
				if err := a.signed(i+k, done[0]); err != nil {
					return nil, nil, err
				}
			}
			done = done[len(tbs):]
		}
		i, next = i+len(round), nil
	}
	if len(done) > 0 {
		return nil, nil, fmt.Errorf("ipa: %d signatures too many", len(done))
	}
	return nil, counts, nil
}

// ready finds out before anybody signs what would stop a later round: space that does
// not do, above all.
func (a *assembly) ready() error {
	for i := range a.body.Code {
		if _, err := (macho.Format{}).Assemble(a.plans[i], a.id, a.at, nil); err != nil {
			return fmt.Errorf("ipa: %q: %w", a.body.Code[i].Program, err)
		}
	}
	return nil
}

// Assemble returns the messages of one level of code, from the inside outwards.
func (Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	a, err := begin(p, id, at)
	if err != nil {
		return nil, err
	}
	if len(done) == 0 {
		if err := a.ready(); err != nil {
			return nil, err
		}
	}
	next, _, err := a.run(done)
	return next, err
}

// Attach signs the programs and writes the lists.
func (Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	as, err := begin(p, id, at)
	if err != nil {
		return nil, err
	}
	var done [][]byte
	for _, s := range sigs {
		done = append(done, s.Value)
	}
	next, counts, err := as.run(done)
	if err != nil {
		return nil, err
	}
	if len(next) > 0 {
		return nil, fmt.Errorf("ipa: %d signatures are missing", len(next))
	}
	s, err := open(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if a.Size() != p.Size || s.root != as.body.Root || !bytes.Equal(s.head, as.body.Head) {
		return nil, fmt.Errorf("%w: its files have other names or sizes", ErrChanged)
	}
	ch := s.change()
	for i, n := range counts {
		c := &as.body.Code[i]
		for _, one := range sigs[:n] {
			if len(one.Timestamp) > 0 && len(c.States) > 0 {
				return nil, errStamped
			}
		}
		at := s.lookup(c.Program)
		if at < 0 {
			return nil, fmt.Errorf("%w: %q is not there", ErrChanged, c.Program)
		}
		err := ch.program(at, func(f format.Artifact) (*format.Patch, error) {
			return macho.Format{}.Attach(ctx, f, as.plans[i], id, as.at, sigs[:n])
		})
		if err != nil {
			return nil, fmt.Errorf("ipa: %q: %w", c.Program, err)
		}
		sigs = sigs[n:]
	}
	for p, b := range as.lists {
		ch.file(p, b)
	}
	return ch.patch()
}

// change collects what becomes of programs and lists.
type change struct {
	s       *source
	patches map[string]*format.Patch // of programs, in a folder
	files   map[string][]byte        // new contents; nil: taken out
}

func (s *source) change() *change {
	return &change{s, map[string]*format.Patch{}, map[string][]byte{}}
}

// program changes a program. In an archive it is read whole.
func (c *change) program(i int, f func(a format.Artifact) (*format.Patch, error)) error {
	p := c.s.entries[i].Path
	if c.s.tree != nil {
		patch, err := f(c.s.tree.Open(i))
		c.patches[p] = patch
		return err
	}
	b, err := c.s.read(i, maxProgram)
	if err != nil {
		return err
	}
	a := format.BytesArtifact(p, b)
	patch, err := f(a)
	if err != nil {
		return err
	}
	c.files[p], err = patch.Bytes(a)
	return err
}

// file gives a file another content; nil takes it out.
func (c *change) file(p string, b []byte) { c.files[p] = b }

func (c *change) patch() (*format.Patch, error) {
	if c.s.tree != nil {
		files := maps.Clone(c.files)
		for p, b := range c.files {
			if b == nil {
				files[path.Dir(p)] = nil // the folder of the list
			}
		}
		return bundle.Compose(c.s.tree, c.s.a.Size(), c.patches, files)
	}
	return c.archive()
}
