// Package cat is Authenticode for security catalogues (.cat): lists of digests of
// files, as they come with drivers, signed in place of the files themselves.
//
// A catalogue is a SignedData whose content is a certificate trust list (CTL): a
// list identifier, a date, attributes of the whole ("OSAttr"), and for each member
// its digest and attributes ("File"). [Create] makes the list, without a signature;
// the format signs it, or a catalogue that is signed already, whose list it keeps byte
// for byte.
//
// Invariants:
//
//  1. Create is a function of its arguments: the order of members does not matter,
//     and there is no clock and no random number in it.
//  2. A plan holds the whole list: what is signed is what endorsers see.
//  3. Verify accepts a catalogue only when every signature in it verifies, and all
//     are over the list that the outer one has.
//  4. Re-signing and removing keep the list byte for byte.
//
// A caller may not conclude from a verified catalogue that a file is in it, or that
// what is called by a name is that file: [List.Find] looks a digest up.
package cat

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// Name is the format's word in plans and charters.
const Name = "cat"

// maxList bounds the CTL: a plan holds it.
const maxList = 15 << 20

// What callers branch on.
var (
	ErrNotCatalog = errors.New("cat: not a catalogue")
	ErrMalformed  = errors.New("cat: malformed catalogue")
)

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Format implements format.Format and what formats may do besides.
type Format struct {
	format.OneRound
	authenticode.Methods[opener]
}

type opener struct{}

// Open reads the structure of a catalogue.
func (opener) Open(_ context.Context, a format.Artifact) (authenticode.File, error) { return open(a) }

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "cat".
func (Format) Name() string { return Name }

// Options lists what Plan takes.
func (Format) Options() []format.Option { return authenticode.Options() }

// oidPrefix is the DER of a CTL's content type, as it stands near the beginning.
var oidPrefix = []byte{6, 9, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 1}

// Detect says whether a begins as a SignedData over a CTL does.
func (Format) Detect(a format.Artifact) bool {
	b := make([]byte, min(256, a.Size()))
	if len(b) < 64 || format.ReadFull(a, b, 0) != nil || b[0] != 0x30 {
		return false
	}
	return bytes.Contains(b[:24], []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 7, 2}) && bytes.Contains(b, oidPrefix)
}

// catalog is an open file: an authenticode.File.
type catalog struct {
	raw     []byte
	content []byte // the CTL
	signed  bool
	list    *List
}

func open(a format.Artifact) (*catalog, error) {
	if a.Size() > cms.MaxSize {
		return nil, malformed("%d bytes: at most %d", a.Size(), cms.MaxSize)
	}
	if !(Format{}).Detect(a) {
		return nil, ErrNotCatalog
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("cat: %w", err)
	}
	sd, err := cms.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("cat: %w", err)
	}
	switch {
	case !sd.Type.Equal(cms.OIDCertificateTrust) || !sd.PKCS7 || sd.ContentRaw == nil:
		return nil, ErrNotCatalog
	case len(sd.ContentRaw) > maxList:
		return nil, malformed("list of %d bytes: at most %d", len(sd.ContentRaw), maxList)
	}
	c := &catalog{raw: b, content: sd.ContentRaw, signed: len(sd.Signers) > 0}
	if c.list, err = ParseList(c.content); err != nil {
		return nil, err
	}
	return c, nil
}

// Report says what is in the catalogue.
func (c *catalog) Report() *format.Report {
	return &format.Report{Format: Name, Size: int64(len(c.raw)), Facts: c.list.facts(), Signatures: []format.SignatureInfo{}}
}

// PKCS7 is the whole file, when it is signed.
func (c *catalog) PKCS7() []byte {
	if !c.signed {
		return nil
	}
	return c.raw
}

// ContentType is a CTL's.
func (c *catalog) ContentType() asn1.ObjectIdentifier { return cms.OIDCertificateTrust }

// Stated is the digest of the list itself; a nested signature has to be over the
// same one.
func (c *catalog) Stated(sd *cms.SignedData) (*authenticode.Stated, error) {
	if !bytes.Equal(sd.ContentRaw, c.content) {
		return nil, fmt.Errorf("%w: it is over another list", authenticode.ErrContent)
	}
	h := sd.Signers[0].Digest
	d, err := sd.ContentDigest(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authenticode.ErrWeak, err)
	}
	return &authenticode.Stated{Hash: h, Digest: d, Covers: []string{fmt.Sprintf("the list of %d members, with its date and attributes", len(c.list.Members))}}, nil
}

// Digests digests the list.
func (c *catalog) Digests(_ context.Context, hashes []crypto.Hash) (map[crypto.Hash][]byte, error) {
	return digests(c.content, hashes)
}

func digests(list []byte, hashes []crypto.Hash) (map[crypto.Hash][]byte, error) {
	b, err := authenticode.Contents(list)
	if err != nil {
		return nil, err
	}
	out := map[crypto.Hash][]byte{}
	for _, h := range hashes {
		if _, err := authenticode.DigestOID(h); err != nil {
			return nil, err
		}
		x := h.New()
		x.Write(b)
		out[h] = x.Sum(nil)
	}
	return out, nil
}

// Put replaces the file.
func (c *catalog) Put(_ context.Context, der []byte) (*format.Patch, error) {
	if len(der) == 0 {
		var err error
		if der, err = wrap(c.content); err != nil {
			return nil, err
		}
	}
	return &format.Patch{Size: int64(len(c.raw)), Edits: []format.Edit{{Delete: int64(len(c.raw)), Insert: der}}}, nil
}

// wrap makes a SignedData of PKCS #7 without signers.
func wrap(list []byte) ([]byte, error) {
	var b cryptobyte.Builder
	explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(cms.OIDSignedData)
		b.AddASN1(explicit, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(cms.OIDCertificateTrust)
					b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddBytes(list) })
				})
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
			})
		})
	})
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("cat: %w", err)
	}
	return out, nil
}

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

type body struct {
	List []byte `cbor:"1,keyasint"` // the CTL, DER
	File []byte `cbor:"2,keyasint"` // SHA-256 of the file, as it was
	Size int64  `cbor:"3,keyasint"` // of the file, as it was
}

func sum(b []byte) []byte { d := sha256.Sum256(b); return d[:] }

// Plan reads a once: the plan has the list in it.
func (f Format) Plan(_ context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
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
	d, err := digests(c.content, []crypto.Hash{h})
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(body{List: c.content, File: sum(c.raw), Size: int64(len(c.raw))})
	if err != nil {
		return nil, fmt.Errorf("cat: plan: %w", err)
	}
	p := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: int64(len(c.raw)), Content: d[h],
		Params: authenticode.ParamFacts(params), Facts: append(c.list.facts(), signers...), Body: enc,
	}
	return p, p.Check()
}

// statement derives what is signed, and refuses a plan that Plan does not make.
func (f Format) statement(p *format.Plan, id format.Identity) (*body, *authenticode.Statement, error) {
	var b body
	params, h, err := authenticode.ReadPlan(f, bodyVersion, p, &b)
	if err != nil {
		return nil, nil, err
	}
	bad := func(f string, args ...any) (*body, *authenticode.Statement, error) {
		return nil, nil, fmt.Errorf("%w: %s", authenticode.ErrPlan, fmt.Sprintf(f, args...))
	}
	if len(b.List) > maxList || len(b.File) != sha256.Size || b.Size != p.Size {
		return bad("list of %d bytes in a file of %d, whose digest has %d", len(b.List), b.Size, len(b.File))
	}
	list, err := ParseList(b.List)
	if err != nil {
		return bad("%v", err)
	}
	if d, err := digests(b.List, []crypto.Hash{h}); err != nil || !bytes.Equal(d[h], p.Content) {
		return bad("the list does not have the content's digest")
	}
	own := list.facts()
	if len(p.Facts) < len(own) {
		return bad("facts: they are not those of the list")
	}
	for i, fact := range own {
		if p.Facts[i] != fact {
			return bad("facts: %s is not the list's", fact.Name)
		}
	}
	rest := p.Facts[len(own):]
	signed := len(rest) > 1 || len(rest) == 1 && rest[0].Value == authenticode.Unreadable
	if err := authenticode.CheckExisting(rest, signed, params["existing"] == "replace"); err != nil {
		return nil, nil, err
	}
	if want := cms.DigestFor(id.Scheme); id.Scheme.Valid() && h != want {
		return nil, nil, fmt.Errorf("cat: plan has digest %s: scheme %s wants digest=%s", p.Digest, id.Scheme, format.HashName(want))
	}
	return &b, &authenticode.Statement{Type: cms.OIDCertificateTrust, Content: b.List, Params: params}, nil
}

// Assemble returns the one message of the signature. The time is not in it; a
// timestamp tells it.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, s, err := f.statement(p, id)
	if err != nil {
		return nil, err
	}
	return s.Assemble(id, done)
}

// Attach makes the signed catalogue. It reads the file, which it replaces.
func (f Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, s, err := f.statement(p, id)
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
	if !bytes.Equal(sum(c.raw), b.File) || !bytes.Equal(c.content, b.List) {
		return nil, fmt.Errorf("%w: its bytes differ", authenticode.ErrChanged)
	}
	if der, err = authenticode.Join(c.PKCS7(), der, s.Params, cms.OIDCertificateTrust); err != nil {
		return nil, err
	}
	return c.Put(ctx, der)
}

// List hands out the members in the order of the list. Digests of members are
// SHA-256 where the list has those; sizes it does not tell.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	c, err := open(a)
	if err != nil {
		return err
	}
	for _, m := range c.list.Members {
		e := format.Entry{Name: m.label(), Facts: m.facts()}
		if m.Hash == crypto.SHA256 && m.Kind == File {
			e.Digest = m.Digest
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}
