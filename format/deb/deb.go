// Package deb is the format "deb": signatures inside Debian packages, as debsigs makes
// them and debsig-verify checks them.
//
// A package is an ar archive of debian-binary, control.tar and data.tar. The signature is
// an OpenPGP one over the contents of the three, one after the other, in a member
// _gpgROLE behind them.
//
// Invariants:
//
//  1. Members are those three in that order, and then signatures: nothing that dpkg
//     reads stands outside of what is signed.
//  2. The package is read once; a plan is the state of the hash after the three.
//  3. Verify wants every signature member to be right and by a trusted key.
//
// A caller may not conclude that names, times and sizes of the members are signed:
// debsig signs the contents as one run of bytes. That debian-binary has four bytes, and
// that control and data begin as their endings say, is checked. That keeps others from
// shifting where one ends, but not who made the package: he can hide a second archive in
// the first, to which the signature of the one is good. Endorse what was built from
// sources, not what somebody brings; see Report's Open.
package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/openpgp"
)

// Name is the format's word in charters and plans.
const Name = "deb"

const (
	maxSignature = 64 << 10
	maxControl   = 64 << 10 // bytes of the file "control"
	maxUnpacked  = 16 << 20 // bytes of control.tar that are read for it
)

// Format is the format; its zero value is ready.
type Format struct {
	format.OneRound
	unpack *Unpackers
}

// New returns the format. It is a format.Remover, Extractor and Lister too. What is
// packed with xz or Zstandard it does not read, which concerns nothing that is signed.
func New() format.Format { return Format{} }

// With returns the format that reads what these unpack.
func With(u Unpackers) format.Format { return Format{unpack: &u} }

var (
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// Name is "deb".
func (Format) Name() string { return Name }

// Options are the role of who signs, and those of the key, but for its version:
// debsig-verify asks GnuPG, which reads version 4.
func (Format) Options() []format.Option {
	out := []format.Option{
		{Name: "replace", Help: "replace the signature of this role", Values: []string{"false", "true"}, Default: "false"},
		{Name: "role", Help: "who signs: origin (who publishes), maint (who maintains) or archive", Values: []string{"origin", "maint", "archive"}, Default: "origin"},
	}
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

// Detect is true for an archive that is laid out as a package.
func (Format) Detect(a format.Artifact) bool {
	_, err := readLayout(a)
	return err == nil
}

// body is a plan's own part, version 1.
type body struct {
	State   openpgp.State `cbor:"1,keyasint"`
	Headers []byte        `cbor:"2,keyasint"` // SHA-256 of the headers of all members
}

// Plan reads the three parts.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	keys, err := readParams(func(n string) string { return p[n] })
	if err != nil {
		return nil, err
	}
	l, err := readLayout(a)
	if err != nil {
		return nil, err
	}
	x := keys.Begin()
	control := &control{limit: maxUnpacked, contents: contents{unpack: f.unpack}}
	if err := l.read(ctx, a, x, control); err != nil {
		return nil, err
	}
	st, err := openpgp.StateOf(keys.Hash, x)
	if err != nil {
		return nil, err
	}
	facts := l.facts(control)
	for _, m := range l.sigs {
		facts = append(facts, format.Fact{Name: "signed-already", Value: strings.TrimPrefix(m.name, "_gpg")})
	}
	facts = append(facts, control.details(l, len(facts))...)
	headers := sha256.Sum256(l.headers())
	enc, err := format.Encode(body{*st, headers[:]})
	if err != nil {
		return nil, err
	}
	return &format.Plan{
		Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: x.Sum(nil),
		Params: pgpsig.Facts(f, p), Facts: facts, Body: enc,
	}, nil
}

// read reads the three parts, in order, and what control and data say on the way.
func (l *layout) read(ctx context.Context, a format.Artifact, x io.Writer, c *control) error {
	for i, m := range l.parts {
		w := x
		var files *lister
		switch i {
		case 1:
			w = io.MultiWriter(x, c)
		case 2:
			if files = newLister(m.name, &c.contents); files != nil {
				w = io.MultiWriter(x, files)
			}
		}
		err := pgpsig.Read(ctx, a, m.offset, m.size, w)
		if files != nil {
			files.wait()
		}
		if err != nil {
			return fmt.Errorf("deb: %w", err)
		}
	}
	c.fields = c.readControl(l.parts[1].name, c.Bytes())
	return nil
}

// control keeps the compressed control.tar while it goes by, if it is small enough.
type control struct {
	bytes.Buffer
	limit int
	contents
}

func (c *control) Write(b []byte) (int, error) {
	if c.Len()+len(b) <= c.limit {
		c.Buffer.Write(b)
	} else {
		c.limit = 0
	}
	return len(b), nil
}

// facts are the members, and the fields of the file "control" where the archive that
// holds it can be read.
func (l *layout) facts(c *control) (out []format.Fact) {
	for _, m := range l.parts[1:] {
		out = append(out, format.Fact{Name: m.name, Value: fmt.Sprintf("%d bytes", m.size)})
	}
	for _, line := range strings.Split(c.fields, "\n") {
		name, value, ok := strings.Cut(line, ": ")
		if ok && slices.Contains([]string{"Package", "Version", "Architecture", "Maintainer", "Depends", "Pre-Depends", "Provides", "Replaces"}, name) && plain(value) {
			out = append(out, format.Fact{Name: strings.ToLower(name), Value: value})
		}
		if len(out) > 64 {
			break
		}
	}
	return out
}

func plain(s string) bool {
	return len(s) <= 1000 && utf8.ValidString(s) && !strings.ContainsFunc(s, format.Turns)
}

// readControl returns the file "control", or "" where it is not plain that dpkg reads
// the same. It never unpacks more than maxUnpacked.
func (c *contents) readControl(name string, packed []byte) string {
	r := c.unpack.read(name, bytes.NewReader(packed), maxUnpacked)
	if r == nil {
		return ""
	}
	r = bufio.NewReader(io.LimitReader(r, maxUnpacked))
	t := tar.NewReader(r)
	var control string
	seen := map[string]bool{}
	for len(seen) < 1000 {
		h, err := t.Next()
		if err == io.EOF {
			if _, err = io.Copy(io.Discard, r); err != nil {
				return ""
			}
			return control
		}
		if err != nil {
			return ""
		}
		// dpkg has tar unpack all, one over the other: the last file counts, and a link
		// may stand for a folder. So what is more than files in one folder says nothing.
		n := strings.TrimPrefix(h.Name, "./")
		switch {
		case seen[n] || strings.Contains(n, "/") || n == "." || n == "..":
			return ""
		case h.Typeflag == tar.TypeDir && n == "":
		case h.Typeflag != tar.TypeReg || n == "":
			return ""
		}
		seen[n] = true
		if n == "" {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(t, maxUnpacked))
		if err != nil {
			return ""
		}
		if n != "control" {
			c.readMember(n, b)
			continue
		}
		if len(b) > maxControl {
			return ""
		}
		control = string(b)
	}
	return ""
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
		return nil, nil, fmt.Errorf("deb: plan: %w", err)
	}
	if len(b.Headers) != sha256.Size || b.State.Count > uint64(p.Size) || b.State.Count < 4 {
		return nil, nil, errors.New("deb: plan's state is not over a package of its size")
	}
	spec, err := keys.Spec(openpgp.Binary, id, at)
	if err != nil {
		return nil, nil, err
	}
	m, err := pgpsig.Finish(spec, &b.State, p.Content, id)
	return m, b, err
}

// Assemble returns the digest of the three parts and the trailer, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	m, _, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	return m.Round(done)
}

// Attach adds the member of the role.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	m, b, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	l, err := readLayout(a)
	if err != nil {
		return nil, err
	}
	if h := sha256.Sum256(l.headers()); a.Size() != p.Size || !bytes.Equal(h[:], b.Headers) {
		return nil, errors.New("deb: file is not the one that was planned")
	}
	packet, err := m.Body(sigs)
	if err != nil {
		return nil, err
	}
	name := "_gpg" + p.Param("role")
	add := newMember(name, m.Spec.Created, openpgp.AppendPacket(nil, openpgp.TagSignature, packet))
	out := &format.Patch{Size: p.Size, Edits: []format.Edit{{Offset: p.Size, Insert: add}}}
	for _, s := range l.sigs {
		if s.name != name {
			continue
		}
		if p.Param("replace") != "true" {
			return nil, fmt.Errorf("deb: package has a signature %s: option replace=true takes it away", name)
		}
		out.Edits = []format.Edit{{Offset: s.offset - memberSize, Delete: memberSize + s.end() - s.offset, Insert: add}}
	}
	return out, nil
}

// signatures reads the members of signatures.
func (l *layout) signatures(a format.Artifact) (out []*openpgp.Signature, err error) {
	for _, m := range l.sigs {
		b := make([]byte, m.size)
		if err := format.ReadFull(a, b, m.offset); err != nil {
			return nil, fmt.Errorf("deb: %w", err)
		}
		if bytes.HasPrefix(b, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
			return nil, fmt.Errorf("deb: %s is a signature of dpkg-sig, which names the contents by MD5 and SHA-1: it is not accepted", m.name)
		}
		sigs, _, err := pgpsig.ReadSignatures(b)
		if err != nil {
			return nil, fmt.Errorf("deb: %s: %w", m.name, err)
		}
		if len(sigs) != 1 {
			return nil, fmt.Errorf("deb: %s holds %d signatures: want one", m.name, len(sigs))
		}
		out = append(out, sigs...)
	}
	return out, nil
}

func opened() []string {
	return []string{"the role", "times, owners and modes of the archive's members", "where control ends and data begins, as far as both begin as their names say"}
}

// Verify checks every signature of a.
func (f Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	l, err := readLayout(a)
	if err != nil {
		return nil, err
	}
	sigs, err := l.signatures(a)
	if err != nil {
		return nil, err
	}
	if len(sigs) == 0 {
		return nil, fmt.Errorf("deb: %w", format.ErrUnsigned)
	}
	h := pgpsig.NewHashes(sigs)
	c := &control{limit: maxUnpacked, contents: contents{unpack: f.unpack}}
	if err := l.read(ctx, a, h, c); err != nil {
		return nil, err
	}
	facts := l.facts(c)
	r := &format.Report{Format: Name, Size: a.Size(), Facts: append(facts, c.details(l, len(facts))...)}
	if r.Signatures, err = h.Judge(t, openpgp.Binary); err != nil {
		return nil, fmt.Errorf("deb: %w", err)
	}
	for i := range r.Signatures {
		l.describe(&r.Signatures[i], i)
	}
	return r, nil
}

func (l *layout) describe(info *format.SignatureInfo, i int) {
	info.Index, info.Label = i, strings.TrimPrefix(l.sigs[i].name, "_gpg")
	info.Covers = []string{"the contents of " + l.parts[0].name + ", " + l.parts[1].name + " and " + l.parts[2].name}
	info.Open = append(info.Open, opened()...)
}

// Inspect says what the package and its signatures say of themselves.
func (f Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	l, err := readLayout(a)
	if err != nil {
		return nil, err
	}
	c := &control{limit: maxUnpacked, contents: contents{unpack: f.unpack}}
	if err := l.read(ctx, a, io.Discard, c); err != nil {
		return nil, err
	}
	sigs, err := l.signatures(a)
	if err != nil {
		return nil, err
	}
	facts := l.facts(c)
	r := &format.Report{Format: Name, Size: a.Size(), Facts: append(facts, c.details(l, len(facts))...), Signatures: []format.SignatureInfo{}}
	for i, s := range sigs {
		info := pgpsig.Describe(s)
		l.describe(&info, i)
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// Remove takes members of signatures away.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	l, err := readLayout(a)
	if err != nil {
		return nil, err
	}
	if len(l.sigs) == 0 {
		return nil, fmt.Errorf("deb: %w", format.ErrUnsigned)
	}
	if index < -1 || index >= len(l.sigs) {
		return nil, fmt.Errorf("deb: signature %d of %d", index, len(l.sigs))
	}
	out := &format.Patch{Size: a.Size()}
	for i, m := range l.sigs {
		if index == -1 || index == i {
			out.Edits = append(out.Edits, format.Edit{Offset: m.offset - memberSize, Delete: memberSize + m.end() - m.offset})
		}
	}
	return out, nil
}

// Extract returns signature index as an OpenPGP packet.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	l, err := readLayout(a)
	if err != nil {
		return nil, err
	}
	sigs, err := l.signatures(a)
	if err != nil {
		return nil, err
	}
	switch {
	case len(sigs) == 0:
		return nil, fmt.Errorf("deb: %w", format.ErrUnsigned)
	case index < 0 || index >= len(sigs):
		return nil, fmt.Errorf("deb: signature %d of %d", index, len(sigs))
	}
	return &format.Sidecar{Suffix: ".sig", Data: openpgp.AppendPacket(nil, openpgp.TagSignature, sigs[index].Body())}, nil
}

// List lists the members of the archive, not the files inside of them.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	l, err := readLayout(a)
	if err != nil {
		return err
	}
	for _, m := range append(l.parts[:], l.sigs...) {
		x := crypto.SHA256.New()
		if err := pgpsig.Read(ctx, a, m.offset, m.size, x); err != nil {
			return fmt.Errorf("deb: %w", err)
		}
		if err := yield(format.Entry{Name: m.name, Size: m.size, Digest: x.Sum(nil)}); err != nil {
			return err
		}
	}
	return nil
}
