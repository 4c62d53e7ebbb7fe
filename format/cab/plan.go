package cab

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// body is all of a cabinet that Attach needs besides the digest.
type body struct {
	HeadSize int64  `cbor:"1,keyasint"` // bytes of header and folders
	Head     []byte `cbor:"2,keyasint"` // SHA-256 of them, as they were
	End      int64  `cbor:"3,keyasint"` // bytes of the cabinet, as it was
	Existing []byte `cbor:"4,keyasint"` // SHA-256 of what stood behind it, or empty
	Tail     int64  `cbor:"5,keyasint"` // bytes of that
}

// Plan reads a once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, h, err := authenticode.Given(f, params)
	if err != nil {
		return nil, err
	}
	c, err := open(a)
	if err != nil {
		return nil, err
	}
	sigs, err := authenticode.Signatures(c)
	signers, err := authenticode.ExistingFacts(sigs, err, params["existing"] == "keep")
	if err != nil {
		return nil, err
	}
	digests, err := c.Digests(ctx, []crypto.Hash{h})
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(c.body())
	if err != nil {
		return nil, fmt.Errorf("cab: plan: %w", err)
	}
	facts := append(c.facts(), signers...)
	facts = append(facts, c.details(a, len(facts))...)
	p := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: c.size, Content: digests[h],
		Params: authenticode.ParamFacts(params), Facts: facts, Body: enc,
	}
	return p, p.Check()
}

func sum(b []byte) []byte { d := sha256.Sum256(b); return d[:] }

func (c *cabinet) body() *body {
	b := &body{HeadSize: int64(len(c.head)), Head: sum(c.head), End: c.end, Existing: []byte{}, Tail: c.size - c.end}
	if c.der != nil {
		b.Existing = sum(c.der)
	}
	return b
}

// The facts of a plan, in their order, before those of package authenticode.
var factNames = [...]string{"kind", "files", "folders", "set", "previous-cabinet", "previous-disk", "next-cabinet", "next-disk"}

func (c *cabinet) facts() []format.Fact {
	out := []format.Fact{
		{Name: "kind", Value: "cabinet"}, {Name: "files", Value: strconv.Itoa(c.files)}, {Name: "folders", Value: strconv.Itoa(c.folders)},
	}
	if c.flags&(flagPrevious|flagNext) != 0 {
		out = append(out, format.Fact{Name: "set", Value: fmt.Sprintf("%d, cabinet %d", le16(c.head[32:]), le16(c.head[34:]))})
	}
	names := factNames[4:]
	if c.flags&flagPrevious == 0 {
		names = factNames[6:]
	}
	for i, n := range c.names {
		out = append(out, format.Fact{Name: names[i], Value: authenticode.PlainText(strings.ToValidUTF8(n, "\ufffd"))})
	}
	return out
}

// checkFacts refuses facts that no Plan makes.
func checkFacts(facts []format.Fact, signed, replace bool) error {
	bad := func(why string) error { return fmt.Errorf("%w: facts: %s", authenticode.ErrPlan, why) }
	facts, err := format.CutDetails(facts, detailNames...)
	if err != nil {
		return bad(err.Error())
	}
	if len(facts) < 4 || facts[0] != (format.Fact{Name: "kind", Value: "cabinet"}) {
		return bad("not those of a cabinet")
	}
	for i, n := range factNames {
		if len(facts) == 0 || facts[0].Name != n {
			if i < 3 {
				return bad(n + " is missing")
			}
			continue
		}
		v := facts[0].Value
		if i == 1 || i == 2 {
			if k, err := strconv.Atoi(v); err != nil || k < 0 || k > 1<<16-1 || strconv.Itoa(k) != v {
				return bad(n + " is no number")
			}
		} else if v != authenticode.PlainText(v) {
			return bad(n + " is not in its form")
		}
		facts = facts[1:]
	}
	return authenticode.CheckExisting(facts, signed, replace)
}

// statement derives what is signed, and refuses a plan that Plan does not make.
func (f Format) statement(p *format.Plan) (*body, *authenticode.Statement, error) {
	var b body
	params, h, err := authenticode.ReadPlan(f, bodyVersion, p, &b)
	if err != nil {
		return nil, nil, err
	}
	bad := func(f string, args ...any) (*body, *authenticode.Statement, error) {
		return nil, nil, fmt.Errorf("%w: %s", authenticode.ErrPlan, fmt.Sprintf(f, args...))
	}
	switch {
	case len(b.Head) != sha256.Size || len(b.Existing) != 0 && len(b.Existing) != sha256.Size:
		return bad("digests of %d and %d bytes", len(b.Head), len(b.Existing))
	case p.Size > maxSize || b.HeadSize < headerSize+folderSize || b.End < b.HeadSize || b.Tail < 0 || b.End+b.Tail != p.Size:
		return bad("header of %d, cabinet of %d and signature of %d bytes in a file of %d", b.HeadSize, b.End, b.Tail, p.Size)
	case (b.Tail == 0) != (len(b.Existing) == 0):
		return bad("signature of %d bytes with a digest of %d", b.Tail, len(b.Existing))
	}
	if err := checkFacts(p.Facts, len(b.Existing) > 0, params["existing"] == "replace"); err != nil {
		return nil, nil, err
	}
	content, err := authenticode.Indirect{
		Type: authenticode.OIDCabData, Value: authenticode.ObsoleteLink(), Hash: h, Digest: p.Content,
	}.Encode()
	if err != nil {
		return nil, nil, err
	}
	return &b, &authenticode.Statement{Type: cms.OIDSpcIndirectData, Content: content, Params: params}, nil
}

// Attach puts the signature behind the cabinet, and a reserve into its header where
// there is none. Of the file it reads header, folders and an existing signature.
func (f Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, s, err := f.statement(p)
	if err != nil {
		return nil, err
	}
	der, err := s.Seal(id, sigs)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%w: %d bytes: want %d", authenticode.ErrChanged, a.Size(), p.Size)
	}
	c, err := open(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authenticode.ErrChanged, err)
	}
	if now := c.body(); !bytes.Equal(now.Head, b.Head) || !bytes.Equal(now.Existing, b.Existing) || now.HeadSize != b.HeadSize || now.End != b.End {
		return nil, fmt.Errorf("%w: its header or its signature differs", authenticode.ErrChanged)
	}
	if der, err = authenticode.Join(c.der, der, s.Params, cms.OIDSpcIndirectData); err != nil {
		return nil, err
	}
	return c.Put(ctx, der)
}

const maxTable = 32 << 20 // bytes of the table of files

// List hands out the files in the order of the table. Their contents are packed:
// there are no digests.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	c, err := open(a)
	if err != nil {
		return err
	}
	b, err := read(a, int64(len(c.head)), min(c.end-int64(len(c.head)), maxTable))
	if err != nil {
		return err
	}
	for i := range c.files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("cab: %w", err)
		}
		if len(b) < 17 {
			return malformed("table of files ends within file %d", i)
		}
		n := bytes.IndexByte(b[16:min(len(b), 16+maxName+2)], 0)
		if n < 0 {
			return malformed("name of file %d does not end", i)
		}
		e := format.Entry{Name: authenticode.PlainText(strings.ToValidUTF8(string(b[16:16+n]), "\ufffd")), Size: int64(le32(b))}
		b = b[16+n+1:]
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}
