// Package ima is the format "ima": signatures of files for Linux's integrity
// measurement architecture, version 2, in a file ".sig" beside the file as
// `evmctl ima_sign --sigfile` writes it (struct signature_v2_hdr in
// security/integrity/integrity.h, with the byte 3 before it that the attribute
// security.ima begins with).
//
// The signature is over the file's digest; nothing else is signed. The key is
// named by four bytes: the last ones of its certificate's subject key identifier,
// or of the SHA-1 of the public key.
//
// Invariants:
//
//  1. The file is read once, in constant memory, for a plan and for verifying.
//  2. Assemble signs the plan's content digest, under the scheme's own hash; the
//     plan has no body and no facts.
//  3. Verify accepts one encoding of the fields, a trusted key's signature, and
//     names the key's four bytes as open where they are not that key's own.
//
// A caller may not conclude that the file is of any kind: "ima" signs anything.
// The name, mode, owner and size of the file are not signed.
package ima

import (
	"context"
	"crypto"
	"crypto/sha1" // names keys, protects nothing
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans; Suffix that of the signature.
const (
	Name   = "ima"
	Suffix = ".sig"
)

const (
	typeDigSig   = 3 // EVM_IMA_XATTR_DIGSIG
	version2     = 2 // DIGSIG_VERSION_2
	headerSize   = 9
	maxSignature = 1024 // bytes of a signature value: MAX_SIGNATURE_SIZE of evmctl
)

// ErrMalformed is wrapped for what is not a signature of version 2.
var ErrMalformed = errors.New("ima: malformed signature")

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

// Name is "ima".
func (Format) Name() string { return Name }

// Suffixes of signature files: format.Detached.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options are the digest and where the key's name comes from.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of the file; it must be the signing scheme's own", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "key-id", Help: "name the key by its certificate's subject key identifier, as the kernel does, or by its own SHA-1, as evmctl does", Values: []string{"certificate", "key"}, Default: "certificate"},
	}
}

// Detect is true for a signature of this format, which can be inspected, and for
// nothing else: the user names this format.
func (Format) Detect(a format.Artifact) bool {
	_, err := readSidecar(a)
	return err == nil
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
	sums, err := format.Sum(ctx, a, h)
	if err != nil {
		return nil, fmt.Errorf("ima: %w", err)
	}
	return &format.Plan{Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: sums[0], Params: single.Options(p), Body: []byte{}}, nil
}

// check refuses a plan that Plan does not make, and keys that no kernel knows.
func (f Format) check(p *format.Plan, id format.Identity) ([4]byte, error) {
	var none [4]byte
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return none, err
	}
	if len(p.Body) != 0 || len(p.Facts) != 0 || o["digest"] != p.Digest {
		return none, fmt.Errorf("ima: %w: it has a body, facts or another digest", single.ErrPlan)
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil || !id.Scheme.Fits(k) {
		return none, fmt.Errorf("ima: scheme %q does not fit the key", id.Scheme)
	}
	if !acceptable(id.Scheme) {
		return none, fmt.Errorf("ima: kernels do not verify files signed with %s: want RSA with PKCS #1 v1.5 padding, or ECDSA", id.Scheme)
	}
	if want := format.HashName(id.Scheme.Hash()); want != p.Digest {
		return none, fmt.Errorf("ima: plan has digest %s: scheme %s wants digest=%s", p.Digest, id.Scheme, want)
	}
	if o["key-id"] == "certificate" && len(id.Chain) > 0 {
		if err := single.Certificate(Name, id); err != nil {
			return none, err
		}
		if n := id.Chain[0].SubjectKeyId; len(n) >= 4 {
			return [4]byte(n[len(n)-4:]), nil
		}
	}
	return keyID(id.Public)
}

func acceptable(s sigalg.Scheme) bool {
	return slices.Contains([]sigalg.Scheme{
		sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512, sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.ECDSASHA512,
	}, s)
}

// keyID is the end of the SHA-1 of the subjectPublicKey (RFC 5280 section
// 4.2.1.2, method 1).
func keyID(pub crypto.PublicKey) ([4]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return [4]byte{}, fmt.Errorf("ima: %w", err)
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return [4]byte{}, fmt.Errorf("ima: %w", err)
	}
	sum := sha1.Sum(spki.Key.Bytes)
	return [4]byte(sum[16:]), nil
}

// Assemble returns the file's digest, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	if _, err := f.check(p, id); err != nil {
		return nil, err
	}
	return single.Round(Name, done, format.ToBeSigned{Scheme: id.Scheme, Digest: p.Content})
}

// Attach makes the signature file.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	key, err := f.check(p, id)
	if err != nil {
		return nil, err
	}
	value, err := single.Fits(Name, a, p, format.ToBeSigned{Scheme: id.Scheme, Digest: p.Content}, id, sigs)
	if err != nil {
		return nil, err
	}
	s := signature{hash: id.Scheme.Hash(), key: key, value: value}
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: Suffix, Data: s.encode()}}, nil
}

// signature is the content of a .sig file.
type signature struct {
	hash  crypto.Hash
	key   [4]byte
	value []byte
}

// hashes are the kernel's numbers (enum hash_algo).
var hashes = map[byte]crypto.Hash{4: crypto.SHA256, 5: crypto.SHA384, 6: crypto.SHA512}

func (s *signature) encode() []byte {
	out := []byte{typeDigSig, version2, 0}
	for n, h := range hashes {
		if h == s.hash {
			out[2] = n
		}
	}
	out = append(out, s.key[:]...)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(s.value))), s.value...)
}

func parse(b []byte) (*signature, error) {
	if len(b) <= headerSize || len(b) > headerSize+maxSignature || b[0] != typeDigSig || b[1] != version2 {
		return nil, fmt.Errorf("%w: want version 2", ErrMalformed)
	}
	h, ok := hashes[b[2]]
	if !ok {
		return nil, fmt.Errorf("%w: hash %d: want SHA-256, SHA-384 or SHA-512", ErrMalformed, b[2])
	}
	if int(binary.BigEndian.Uint16(b[7:])) != len(b)-headerSize {
		return nil, fmt.Errorf("%w: length", ErrMalformed)
	}
	return &signature{h, [4]byte(b[3:7]), b[headerSize:]}, nil
}

func readSidecar(a format.Artifact) (*signature, error) {
	if a.Size() > headerSize+maxSignature {
		return nil, ErrMalformed
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, err
	}
	return parse(b)
}

// scheme is what a key of kind k signed with, if it made s.
func (s *signature) scheme(k sigalg.Key) (sigalg.Scheme, error) {
	for _, c := range []sigalg.Scheme{
		sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512, sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.ECDSASHA512,
	} {
		if c.Fits(k) && c.Hash() == s.hash {
			return c, nil
		}
	}
	return "", errors.New("ima: another kind of key")
}

const openKey = "the four bytes that name the key"

// Verify checks t.Detached over a.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	if len(t.Detached) == 0 {
		return nil, fmt.Errorf("ima: no signature file (%s) was given: %w", Suffix, format.ErrUnsigned)
	}
	s, err := parse(t.Detached)
	if err != nil {
		return nil, err
	}
	sums, err := format.Sum(ctx, a, s.hash)
	if err != nil {
		return nil, fmt.Errorf("ima: %w", err)
	}
	pub, tbs, err := single.Key(Name, single.Keys(t), func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
		scheme, err := s.scheme(k)
		return format.ToBeSigned{Scheme: scheme, Digest: sums[0]}, s.value, err
	})
	if err != nil {
		return nil, err
	}
	info := s.describe()
	info.Scheme, info.Key, info.Content, info.Covers = tbs.Scheme, pub, sums[0], []string{"every byte of the file"}
	own, err := keyID(pub)
	if err != nil {
		return nil, err
	}
	named := own == s.key
	for _, c := range t.Intermediates {
		if eq, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); ok && eq.Equal(c.PublicKey) {
			info.Signer, info.Subject, info.Issuer = c, c.Subject.String(), c.Issuer.String()
			named = named || len(c.SubjectKeyId) >= 4 && [4]byte(c.SubjectKeyId[len(c.SubjectKeyId)-4:]) == s.key
		}
	}
	if !named {
		info.Open = []string{openKey}
	}
	return &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{info}}, nil
}

func (s *signature) describe() format.SignatureInfo {
	return format.SignatureInfo{
		Digest: format.HashName(s.hash), Value: s.value, Covers: []string{},
		Facts: []format.Fact{{Name: "key-id", Value: fmt.Sprintf("%x", s.key)}},
	}
}

// Inspect says what a .sig contains; a file of another kind has no signature of
// this format in itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	if s, err := readSidecar(a); err == nil {
		r.Facts = []format.Fact{{Name: "kind", Value: "IMA signature, version 2"}}
		r.Signatures = append(r.Signatures, s.describe())
	}
	return r, nil
}
