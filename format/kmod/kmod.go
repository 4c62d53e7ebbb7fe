// Package kmod is the format "kmod": signatures of Linux kernel modules, as the
// kernel's own sign-file makes them and its loader checks them
// (Documentation/admin-guide/module-signing.rst, kernel/module/signing.c).
//
// Behind the module stand a CMS SignedData (RFC 5652) that has neither content,
// certificates nor signed attributes, struct module_signature (12 bytes) and the
// words "~Module signature appended~\n". The signature is over the module itself:
// what is signed is the module's digest, which the plan holds.
//
// Invariants:
//
//  1. The file is read once, in constant memory, for a plan and for verifying.
//  2. Assemble signs the plan's content digest, under the scheme's own hash, and
//     only for a certificate of the key that signs.
//  3. Verify wants one signature in the one encoding of its fields by a key that
//     is trusted: by itself, or through a certificate for code signing among the
//     intermediates. Every byte before the signature is covered.
//  4. A module that is signed is refused, or its signature replaced: the kernel
//     reads the last one only, and one that stayed would be part of the content.
//
// A caller may not conclude from a plan that its facts are so: what .modinfo says
// is in no message beyond the content digest. He may not conclude from a verified
// report that a kernel loads the module: that depends on its keyrings. The
// signer's name (issuer and serial number) is signed by nobody.
package kmod

import (
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "kmod"

const (
	magic       = "~Module signature appended~\n"
	trailerSize = 12      // struct module_signature
	idPKCS7     = 2       // PKEY_ID_PKCS7: the only kind that kernels since 4.4 read
	maxCMS      = 1 << 16 // bytes of a signature; real ones have some hundred
)

// Errors that callers branch on.
var (
	ErrNotModule = errors.New("kmod: not a kernel module")
	ErrSigned    = errors.New("kmod: module is signed already: replace=true takes the signature off first")
	ErrMalformed = errors.New("kmod: malformed signature")
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover and a format.Extractor too.
func New() format.Format { return Format{} }

var (
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
)

// Name is "kmod".
func (Format) Name() string { return Name }

// Options are the digest and what is done to a module that is signed.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of the module; it must be the signing scheme's own, and one that the kernel was built with", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "replace", Help: "take off a signature that is there", Values: []string{"false", "true"}, Default: "false"},
	}
}

// Detect is true for a relocatable ELF file with a section .modinfo.
func (Format) Detect(a format.Artifact) bool {
	m, err := open(a)
	return err == nil && m.modinfo.size > 0
}

// module is a file's outline.
type module struct {
	end     int64 // of the ELF file: where the signature begins
	head    []byte
	modinfo span
	cms     []byte // the signature's DER, nil when there is none
	tail    []byte // all bytes from end on
}

// open reads headers and signature.
func open(a format.Artifact) (*module, error) {
	m := &module{end: a.Size()}
	if err := m.readTail(a); err != nil {
		return nil, err
	}
	return m, m.readELF(a)
}

func (m *module) readTail(a format.Artifact) error {
	const fixed = trailerSize + len(magic)
	if a.Size() < int64(fixed) {
		return ErrNotModule
	}
	b := make([]byte, fixed)
	if err := format.ReadFull(a, b, a.Size()-int64(fixed)); err != nil {
		return fmt.Errorf("kmod: %w", err)
	}
	if string(b[trailerSize:]) != magic {
		return nil
	}
	// algo, hash, id_type, signer_len, key_id_len, three of padding: the kernel
	// wants all but id_type to be zero (mod_check_sig).
	for i, want := range [8]byte{2: idPKCS7} {
		if b[i] != want {
			return fmt.Errorf("%w: byte %d of the trailer is %d: want %d", ErrMalformed, i, b[i], want)
		}
	}
	n := int64(binary.BigEndian.Uint32(b[8:]))
	if n == 0 || n > maxCMS || n > a.Size()-int64(fixed) {
		return fmt.Errorf("%w: signature of %d bytes", ErrMalformed, n)
	}
	m.end = a.Size() - int64(fixed) - n
	m.tail = make([]byte, a.Size()-m.end)
	if err := format.ReadFull(a, m.tail, m.end); err != nil {
		return fmt.Errorf("kmod: %w", err)
	}
	m.cms = m.tail[:n]
	return nil
}

// body is version 1 of Plan.Body. A digest over the module is all that is signed:
// the body only says where the signature goes, and by what Attach knows the file.
type body struct {
	End  int64  `cbor:"1,keyasint"` // size of the module without signature
	Head []byte `cbor:"2,keyasint"` // SHA-256 of the ELF header
	Tail []byte `cbor:"3,keyasint"` // SHA-256 of the signature that is replaced, or empty
}

// Plan digests a.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(p["digest"])
	if err != nil {
		return nil, err
	}
	m, err := open(a)
	if err != nil {
		return nil, err
	}
	if m.tail != nil && p["replace"] != "true" {
		return nil, ErrSigned
	}
	facts, err := m.facts(a)
	if err != nil {
		return nil, err
	}
	details, err := m.details(a, len(facts))
	if err != nil {
		return nil, err
	}
	facts = append(facts, details...)
	sums, err := format.Sum(ctx, prefix{a, m.end}, h)
	if err != nil {
		return nil, fmt.Errorf("kmod: %w", err)
	}
	enc, err := format.Encode(m.body())
	if err != nil {
		return nil, err
	}
	return &format.Plan{Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: sums[0], Params: single.Options(p), Facts: facts, Body: enc}, nil
}

func (m *module) body() body {
	b := body{End: m.end, Head: digest256(m.head), Tail: []byte{}}
	if m.tail != nil {
		b.Tail = digest256(m.tail)
	}
	return b
}

func digest256(b []byte) []byte {
	h := crypto.SHA256.New()
	h.Write(b)
	return h.Sum(nil)
}

// prefix is the beginning of an artifact.
type prefix struct {
	format.Artifact
	size int64
}

func (p prefix) Size() int64 { return p.size }

// check refuses a plan that Plan does not make, and an identity that no kernel
// would verify.
func (f Format) check(p *format.Plan, id format.Identity) (body, error) {
	var b body
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return b, err
	}
	if err := format.Decode(p.Body, &b); err != nil {
		return b, err
	}
	fixed := int64(trailerSize + len(magic))
	tail := p.Size - b.End
	switch {
	case o["digest"] != p.Digest:
		return b, fmt.Errorf("kmod: %w: digest is not the one of its options", single.ErrPlan)
	case len(b.Head) != 32 || b.End < elfHeader32 || b.End > p.Size:
		return b, fmt.Errorf("kmod: %w: size of the module", single.ErrPlan)
	case tail == 0 && len(b.Tail) != 0, tail != 0 && (len(b.Tail) != 32 || o["replace"] != "true" || tail <= fixed || tail > fixed+maxCMS):
		return b, fmt.Errorf("kmod: %w: signature that is replaced", single.ErrPlan)
	}
	if err := checkFacts(p.Facts, tail != 0); err != nil {
		return b, err
	}
	if err := single.Certificate(Name, id); err != nil {
		return b, err
	}
	if err := acceptable(id.Scheme); err != nil {
		return b, err
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil || !id.Scheme.Fits(k) {
		return b, fmt.Errorf("kmod: scheme %q does not fit the key", id.Scheme)
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return b, err
	}
	if id.Scheme.Hash() != h {
		return b, fmt.Errorf("kmod: plan has digest %s: scheme %s wants digest=%s", p.Digest, id.Scheme, format.HashName(id.Scheme.Hash()))
	}
	return b, nil
}

// acceptable refuses what the kernel's parser of PKCS #7 does not know: it takes
// RSA with PKCS #1 v1.5 padding and ECDSA (crypto/asymmetric_keys/pkcs7_parser.c).
func acceptable(s sigalg.Scheme) error {
	switch s {
	case sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512, sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.ECDSASHA512:
		return nil
	}
	return fmt.Errorf("kmod: kernels do not verify modules signed with %s: want RSA with PKCS #1 v1.5 padding, or ECDSA", s)
}

// Assemble returns the module's digest, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	if _, err := f.check(p, id); err != nil {
		return nil, err
	}
	return single.Round(Name, done, format.ToBeSigned{Scheme: id.Scheme, Digest: p.Content})
}

// Attach appends signature, trailer and magic.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, err := f.check(p, id)
	if err != nil {
		return nil, err
	}
	value, err := single.Fits(Name, a, p, format.ToBeSigned{Scheme: id.Scheme, Digest: p.Content}, id, sigs)
	if err != nil {
		return nil, err
	}
	m, err := open(a)
	if err != nil {
		return nil, fmt.Errorf("kmod: %w: %w", single.ErrChanged, err)
	}
	if now := m.body(); now.End != b.End || string(now.Head) != string(b.Head) || string(now.Tail) != string(b.Tail) {
		return nil, fmt.Errorf("kmod: %w", single.ErrChanged)
	}
	der, err := encode(&cms.SignedData{}, named(id.Chain[0], id.Scheme.Hash(), id.Scheme, value), false)
	if err != nil {
		return nil, err
	}
	if len(der) > maxCMS {
		return nil, fmt.Errorf("kmod: signature of %d bytes: at most %d", len(der), maxCMS)
	}
	trailer := [trailerSize]byte{2: idPKCS7}
	binary.BigEndian.PutUint32(trailer[8:], uint32(len(der)))
	tail := append(append(der, trailer[:]...), magic...)
	return &format.Patch{Size: p.Size, Edits: []format.Edit{{Offset: b.End, Delete: p.Size - b.End, Insert: tail}}}, nil
}

// Remove cuts the module where its signature begins.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	m, err := open(a)
	if err != nil {
		return nil, err
	}
	if m.tail == nil {
		return nil, fmt.Errorf("kmod: %w", format.ErrUnsigned)
	}
	if index != -1 && index != 0 {
		return nil, fmt.Errorf("kmod: signature %d: there is one", index)
	}
	return &format.Patch{Size: a.Size(), Edits: []format.Edit{{Offset: m.end, Delete: int64(len(m.tail))}}}, nil
}

// Extract returns the CMS signature: detached, DER.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	m, err := open(a)
	if err != nil {
		return nil, err
	}
	if m.tail == nil {
		return nil, fmt.Errorf("kmod: %w", format.ErrUnsigned)
	}
	if index != 0 {
		return nil, fmt.Errorf("kmod: signature %d: there is one", index)
	}
	return &format.Sidecar{Suffix: ".p7s", Data: m.cms}, nil
}
