package xar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// body is all of a package that Assemble and Attach need.
type body struct {
	Table  []byte `cbor:"1,keyasint"` // without digest and signatures, the data at the heap's start
	Front  int64  `cbor:"2,keyasint"` // bytes before the data, as they were
	Sum    []byte `cbor:"3,keyasint"` // SHA-256 of them
	Data   int64  `cbor:"4,keyasint"` // bytes of data
	Ticket int64  `cbor:"5,keyasint"` // bytes behind it, which are taken off
	Signer string `cbor:"6,keyasint"` // of the signature that was there, for people; or ""
}

// settings are a plan's options, understood.
type settings struct {
	hash    crypto.Hash
	replace bool
	strong  bool // SHA-256 for files
	time    bool
	reserve int64
}

func settingsOf(p format.Params) (*settings, error) {
	s := &settings{hash: crypto.SHA256, replace: p["replace"] == "true", strong: p["checksums"] == "sha256", time: p["signing-time"] == "true"}
	if p["digest"] == "sha512" {
		s.hash = crypto.SHA512
	}
	n, err := strconv.Atoi(p["reserve"])
	if err != nil || strconv.Itoa(n) != p["reserve"] || n < 0 || n > maxSpace/2 {
		return nil, fmt.Errorf("xar: option reserve=%.20q: want 0 to %d bytes", p["reserve"], maxSpace/2)
	}
	s.reserve = int64(n)
	return s, nil
}

// Plan reads a once and compares the data with the digests in the table.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, err := params.Check(f)
	if err != nil {
		return nil, err
	}
	s, err := settingsOf(params)
	if err != nil {
		return nil, err
	}
	x, err := parse(a)
	if err != nil {
		return nil, err
	}
	b := body{Front: x.heap + x.signatures, Data: x.end - x.heap - x.signatures, Ticket: int64(len(x.ticket))}
	front := make([]byte, b.Front)
	if err := format.ReadFull(a, front, 0); err != nil {
		return nil, fmt.Errorf("xar: %w", err)
	}
	sum := sha256.Sum256(front)
	b.Sum = sum[:]
	if !bytes.Equal(front[headerSize:x.heap], x.packed) {
		return nil, fmt.Errorf("%w: it changed while it was read", ErrChanged)
	}
	if x.rsa != nil || x.cms != nil {
		if !s.replace {
			return nil, ErrSigned
		}
		b.Signer = x.claimed(front[x.heap:])
	}
	x.kept = &keep{maxKept, map[string][]byte{}}
	sums, err := x.scan(ctx, a, s.strong)
	if err != nil {
		return nil, err
	}
	for d := range sums {
		if !s.strong || d.style != "sha1" {
			delete(sums, d)
		}
	}
	b.Table = []byte(x.bare(sums))
	facts, _, err := b.facts()
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("xar: plan: %w", err)
	}
	p := &format.Plan{
		Format: name, Version: bodyVersion, Digest: params["digest"], Size: x.size,
		Content: digest(s.hash, b.Table), Params: paramFacts(params), Facts: append(facts, x.details(x.kept, len(facts))...), Body: enc,
	}
	return p, p.Check()
}

// claimed names whoever the signature that is there says he is.
func (x *archive) claimed(heap []byte) string {
	if x.cms == nil {
		return "RSA signature alone"
	}
	sd, err := parseCMS(heap[x.cms.off:x.cms.end()])
	if err != nil {
		return "not readable"
	}
	if c := sd.Signers[0].Certificate(); c != nil {
		return plainText(c.Subject.String())
	}
	return "certificate is not in the signature"
}

func parseCMS(b []byte) (*cms.SignedData, error) {
	der, rest, err := cms.Split(b)
	if err != nil {
		return nil, fmt.Errorf("xar: %w", err)
	}
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return nil, malformed("bytes after the CMS signature that are not zero")
	}
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("xar: %w", err)
	}
	if !sd.Type.Equal(cms.OIDData) || sd.Content != nil || len(sd.Signers) != 1 {
		return nil, malformed("the CMS signature is not one detached signature over data")
	}
	return sd, nil
}

// maxShown is how many files a plan names; the rest is counted.
const maxShown = 64

// facts are what people are shown first; all of them follow from the body.
func (b *body) facts() ([]format.Fact, *table, error) {
	t, err := parseTable(string(b.Table))
	if err != nil {
		return nil, nil, err
	}
	out := []format.Fact{{Name: "files", Value: strconv.Itoa(len(t.files))}}
	for i, d := range t.files {
		if i == maxShown {
			out = append(out, format.Fact{Name: "further files", Value: strconv.Itoa(len(t.files) - maxShown)})
			break
		}
		out = append(out, format.Fact{Name: "file", Value: fmt.Sprintf("%s %s %x", plainText(d.path), d.style, d.sum)})
	}
	if n := t.weak(); n > 0 {
		out = append(out, format.Fact{Name: "files with SHA-1", Value: strconv.Itoa(n)})
	}
	if b.Signer != "" {
		out = append(out, format.Fact{Name: "replaces signature of", Value: b.Signer})
	}
	if b.Ticket > 0 {
		out = append(out, format.Fact{Name: "takes off", Value: "notary ticket"})
	}
	return out, t, nil
}

func paramFacts(p format.Params) []format.Fact {
	out := []format.Fact{}
	for _, n := range slices.Sorted(maps.Keys(p)) {
		out = append(out, format.Fact{Name: n, Value: p[n]})
	}
	return out
}

// plainText makes a name fit to be shown.
func plainText(s string) string { return codesign.PlainText(s) }

// decodeBody reads a plan's body and checks every relation in it.
func decodeBody(p *format.Plan) (*body, *settings, *table, error) {
	if p.Format != name || p.Version != bodyVersion {
		return nil, nil, nil, fmt.Errorf("xar: plan is of format %q, version %d: want %q, %d", p.Format, p.Version, name, bodyVersion)
	}
	if err := p.Check(); err != nil {
		return nil, nil, nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, nil, nil, fmt.Errorf("xar: plan: %w", err)
	}
	given := format.Params{}
	for _, f := range p.Params {
		given[f.Name] = f.Value
	}
	params, err := given.Check(Format{})
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := settingsOf(params)
	if err != nil {
		return nil, nil, nil, err
	}
	bad := func(f string, args ...any) (*body, *settings, *table, error) {
		return nil, nil, nil, fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	if len(b.Table) > maxTable {
		return bad("table of %d bytes", len(b.Table))
	}
	facts, t, err := b.facts()
	if err != nil {
		return nil, nil, nil, err
	}
	told, err := format.CutDetails(p.Facts, detailNames...)
	if err != nil {
		return bad("%v", err)
	}
	end := int64(0)
	for _, d := range t.files {
		end = max(end, d.end())
	}
	switch {
	case len(params) != len(p.Params) || params["digest"] != p.Digest:
		return bad("options are not all there, or digest is not %s", p.Digest)
	case len(b.Sum) != sha256.Size:
		return bad("digest of what stands before the data")
	case t.signatures != 0 || t.checksum != nil:
		return bad("table with signatures")
	case b.Front < headerSize || b.Front > headerSize+2*maxTable+3*maxSpace || b.Data != end || b.Ticket < 0 || b.Ticket > maxTicket || b.Front+b.Data+b.Ticket != p.Size:
		return bad("sizes in a file of %d bytes", p.Size)
	case !codesign.IsPlainText(b.Signer) || b.Signer != "" && !s.replace:
		return bad("signature that was there")
	case s.strong && t.weak() > 0:
		return bad("files with SHA-1")
	case !bytes.Equal(digest(s.hash, b.Table), p.Content):
		return bad("content digest is not over the table")
	case !slices.Equal(facts, told):
		return bad("facts do not follow from the rest")
	}
	return &b, s, t, nil
}
