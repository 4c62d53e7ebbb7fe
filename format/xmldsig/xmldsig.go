// Package xmldsig is the format "xmldsig": an enveloped XML Signature (W3C, 1.1)
// over a whole document, as the last child of its root element.
//
// The reference is to the whole document; its transforms are enveloped-signature
// and Canonical XML 1.0, which keeps all namespace declarations: texts and attributes
// may use them in ways that no canonicalisation sees. SignedInfo is canonicalised
// exclusively, so that it does not depend on the document. Where the document has
// comments, the reference is "#xpointer(/)" and the canonicalisation keeps them, so
// that nobody can write or change one.
//
// Invariants:
//
//  1. Documents are read in a subset of XML that has one meaning everywhere: XML
//     1.0 in UTF-8 without a document type and without entities of its own.
//  2. Assemble writes SignedInfo in canonical form from the plan's digest.
//  3. Verify accepts one shape of signature: one reference, to the whole document,
//     with exactly those transforms. It canonicalises SignedInfo as it stands in
//     the document. There is one signature, a child of the root.
//  4. Comments that the reference leaves out make Verify fail, and namespace
//     declarations that an exclusive canonicalisation leaves out.
//  5. Certificates stand unsigned in KeyInfo: where roots are trusted, each must be
//     of a chain to one. Keys in KeyInfo are never used.
//
// A caller may not conclude that the bytes of a document are those that were
// signed: what canonical XML takes for the same (quotes, white space in tags and
// outside the root element, line ends, CDATA, the order of attributes) is open. That
// is the standard's.
package xmldsig

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/format/single"
)

// Name is the format's word in charters and plans.
const Name = "xmldsig"

// maxTail limits, in bytes, the root's end tag and what follows it.
const maxTail = 32 << 10

// ErrMalformed is wrapped for what is no acceptable document or signature.
var ErrMalformed = errors.New("xmldsig: malformed")

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

var _ format.Remover = Format{}

// Name is "xmldsig".
func (Format) Name() string { return Name }

// Options are the digest and whether certificates are embedded.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of the canonical document", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "certificates", Help: "embed the key's certificates", Values: []string{"chain", "none"}, Default: "chain"},
	}
}

// Detect is true for a document with a signature of this format, and for nothing
// else: the user names this format.
func (Format) Detect(a format.Artifact) bool {
	head := make([]byte, min(a.Size(), 4<<10))
	if len(head) == 0 || format.ReadFull(a, head, 0) != nil || head[0] != '<' {
		return false
	}
	tail := make([]byte, min(a.Size(), 256<<10))
	if format.ReadFull(a, tail, a.Size()-int64(len(tail))) != nil || !bytes.Contains(tail, []byte(space)) && !bytes.Contains(head, []byte(space)) {
		return false
	}
	r, _, err := readArtifact(a)
	return err == nil && r.found != nil
}

func readArtifact(a format.Artifact, names ...string) (*reader, []byte, error) {
	b, err := envelope.Read(Name, a, MaxDocument)
	if err != nil {
		return nil, nil, err
	}
	r, err := read(b, true, false, names...)
	return r, b, err
}

type body struct {
	At       int64 `cbor:"1,keyasint"` // offset of the root's end tag
	Comments bool  `cbor:"2,keyasint"`
}

// Plan digests the canonical document.
func (f Format) Plan(_ context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	o, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	r, _, err := readArtifact(a, o["digest"])
	if err != nil {
		return nil, err
	}
	switch {
	case r.found != nil:
		return nil, errors.New("xmldsig: the document is signed: take that signature off first")
	case r.rootEnd < 0:
		return nil, errors.New("xmldsig: the root element has no end tag to put the signature before")
	case a.Size()-int64(r.rootEnd) > maxTail:
		return nil, fmt.Errorf("xmldsig: more than %d bytes after the root element", maxTail)
	}
	root := r.root.local
	if r.root.space != "" {
		root = "{" + r.root.space + "}" + root
	}
	enc, err := format.Encode(&body{At: int64(r.rootEnd), Comments: r.hasNotes})
	return &format.Plan{
		Format: Name, Version: 1, Digest: o["digest"], Size: a.Size(), Content: r.sum(o["digest"]), Params: single.Options(o),
		Facts: []format.Fact{{Name: "root element", Value: single.Text([]byte(root), format.MaxText)}}, Body: enc,
	}, err
}

// prepare derives what is signed.
func (f Format) prepare(p *format.Plan, id format.Identity) (*body, string, format.ToBeSigned, error) {
	var tbs format.ToBeSigned
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return nil, "", tbs, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, "", tbs, err
	}
	if o["digest"] != p.Digest || len(p.Facts) != 1 || b.At <= 0 || b.At >= p.Size || p.Size-b.At > maxTail || p.Size > MaxDocument {
		return nil, "", tbs, fmt.Errorf("xmldsig: %w", single.ErrPlan)
	}
	if len(id.Also) > 0 {
		return nil, "", tbs, errors.New("xmldsig: one key signs")
	}
	if err := envelope.Signer(Name, id); err != nil {
		return nil, "", tbs, err
	}
	method, err := methodOf(id.Scheme)
	if err != nil {
		return nil, "", tbs, err
	}
	tbs = format.ToBeSigned{Scheme: id.Scheme, Message: []byte(signedInfo(method, p.Digest, p.Content, b.Comments, true))}
	return &b, method, tbs, nil
}

// Assemble returns SignedInfo in canonical form, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, _, tbs, err := f.prepare(p, id)
	if err != nil {
		return nil, err
	}
	return single.Round(Name, done, tbs)
}

// Attach puts the signature before the root's end tag.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, method, tbs, err := f.prepare(p, id)
	if err != nil {
		return nil, err
	}
	value, err := single.Fits(Name, a, p, tbs, id, sigs)
	if err != nil {
		return nil, err
	}
	raw, err := envelope.Raw(id.Public, value)
	if err != nil {
		return nil, err
	}
	tail := make([]byte, p.Size-b.At)
	if err := format.ReadFull(a, tail, b.At); err != nil {
		return nil, fmt.Errorf("xmldsig: %w", err)
	}
	// A comment or an instruction may look like one more end. A signature that is put
	// before another element's end does not verify.
	plain := !bytes.Contains(tail, []byte("<!--")) && !bytes.Contains(tail, []byte("<?"))
	if !bytes.HasPrefix(tail, []byte("</")) || plain && bytes.LastIndex(tail, []byte("</")) != 0 {
		return nil, fmt.Errorf("xmldsig: %w: no end of the root element at byte %d", single.ErrChanged, b.At)
	}
	b64 := base64.StdEncoding.EncodeToString
	s := `<Signature xmlns="` + space + `">` + signedInfo(method, p.Digest, p.Content, b.Comments, false) + `<SignatureValue>` + b64(raw) + `</SignatureValue>`
	if p.Param("certificates") == "chain" && len(id.Chain) > 0 {
		s += `<KeyInfo><X509Data>`
		for _, c := range id.Chain {
			s += `<X509Certificate>` + b64(c.Raw) + `</X509Certificate>`
		}
		s += `</X509Data></KeyInfo>`
	}
	s += `</Signature>`
	return &format.Patch{Size: p.Size, Edits: []format.Edit{{Offset: b.At, Insert: []byte(s)}}}, nil
}

// find reads a document and its signature, and makes the digest that it speaks of.
func find(a format.Artifact) (*reader, *signature, error) {
	r, b, err := readArtifact(a)
	if err != nil {
		return nil, nil, err
	}
	if r.found == nil {
		return r, nil, fmt.Errorf("xmldsig: %w", format.ErrUnsigned)
	}
	s, err := interpret(r.found)
	if err != nil {
		return r, nil, err
	}
	s.from, s.to = r.from, r.to
	if r.hasNotes && !s.comments {
		return r, nil, fmt.Errorf("%w: there are comments, which the signature leaves out", ErrMalformed)
	}
	if r.unused && s.exclusive {
		return r, nil, fmt.Errorf("%w: there are namespace declarations that no name uses, which the signature leaves out", ErrMalformed)
	}
	r, err = read(b, s.comments, s.exclusive, s.digest)
	return r, s, err
}

// Verify checks the document's signature.
func (Format) Verify(_ context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	r, s, err := find(a)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(r.sum(s.digest), s.sum) {
		return nil, errors.New("xmldsig: the document is not the one that was signed")
	}
	c := envelope.Claim{Scheme: s.scheme, Message: r.signed.Bytes(), Value: s.value}
	if c.Chain, err = envelope.ParseChain(s.certs); err != nil {
		return nil, err
	}
	if len(c.Chain) > 0 && t.Roots != nil {
		t.Keys = nil
	}
	v, err := envelope.Judge(Name, c, t)
	if err != nil {
		return nil, err
	}
	info := s.describe(c.Chain)
	for i, cert := range c.Chain {
		if !v.ByChain {
			info.Open = append(info.Open, fmt.Sprintf("certificate %d in the signature", i))
		} else if !v.Used(cert) {
			return nil, fmt.Errorf("xmldsig: %w: number %d is of no chain to a trusted root", envelope.ErrCertificate, i)
		}
	}
	v.Describe(&info)
	info.Covers = []string{"every element, attribute, text, processing instruction and comment of the document"}
	return &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{info}}, nil
}

func (s *signature) describe(chain []*x509.Certificate) format.SignatureInfo {
	info := format.SignatureInfo{
		Scheme: s.scheme, Digest: s.digest, Content: s.sum, Value: s.value, Covers: []string{},
		Open: append([]string{"what canonical XML takes for the same: quotes, white space in tags and outside the root element, line ends, CDATA, order of attributes"}, s.open...),
	}
	if len(chain) > 0 {
		info.Signer, info.Subject, info.Issuer = chain[0], chain[0].Subject.String(), chain[0].Issuer.String()
	}
	return info
}

// Inspect says what a document's signature says of itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	rep := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	_, s, err := find(a)
	if errors.Is(err, format.ErrUnsigned) {
		return rep, nil
	}
	if err != nil {
		return nil, err
	}
	chain, err := envelope.ParseChain(s.certs)
	if err != nil {
		return nil, err
	}
	rep.Signatures = append(rep.Signatures, s.describe(chain))
	return rep, nil
}

// Remove takes the signature out.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	r, _, err := readArtifact(a)
	switch {
	case err != nil:
		return nil, err
	case r.found == nil:
		return nil, fmt.Errorf("xmldsig: %w", format.ErrUnsigned)
	case index != 0 && index != -1:
		return nil, fmt.Errorf("xmldsig: no signature %d", index)
	}
	return &format.Patch{Size: a.Size(), Edits: []format.Edit{{Offset: int64(r.from), Delete: int64(r.to - r.from)}}}, nil
}
