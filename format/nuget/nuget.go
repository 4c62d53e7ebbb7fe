// Package nuget signs NuGet packages (.nupkg): ZIP archives with the signature in the
// file .signature.p7s, a CMS SignedData over a short text with the digest of the
// package as it was without that file ("NuGet Package Signatures Technical
// Specification").
//
//	Version:1
//
//	2.16.840.1.101.3.4.2.1-Hash:BASE64
//
// A signature is an author's or a repository's, by the signed attribute
// commitment-type-indication (RFC 5126 section 5.11.1). A package has one; a repository
// adds its own to an author's as a countersignature (RFC 5652 section 11.4), over the
// value of the author's.
//
// Invariants:
//
//  1. The archive is read once, in order and in constant memory.
//  2. Assemble derives the text and every signed attribute from plan, identity and
//     time: signing time, commitment, signing-certificate-v2 and, for repositories,
//     service index and owners.
//  3. A plan to countersign carries the author's signature, and Assemble finds it
//     right over the package, with the certificate in it. Whether that is trusted it
//     cannot know: endorsers see whose it is.
//  4. .signature.p7s is the last entry of archive and directory, stored, without flags:
//     no reader finds another one, or none.
//  5. Verify accepts a package only when all signatures in it verify, and nothing that
//     is not signed stands beside them.
//
// A caller may not conclude from a repository's signature who wrote a package, nor
// from the time in the attributes when it was signed: only a timestamp tells that.
package nuget

import (
	"context"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// Name is the format's word in plans and charters.
const Name = "nuget"

// entrySignature is the file with the signature.
const entrySignature = ".signature.p7s"

// Limits of what is read whole.
const (
	maxSignature = 1 << 20
	maxManifest  = 4 << 20
)

// What callers branch on.
var (
	ErrNotPackage = errors.New("nuget: not a package")
	ErrMalformed  = errors.New("nuget: malformed package")
	ErrSignature  = errors.New("nuget: signature is not acceptable")
	ErrDigest     = errors.New("nuget: package does not have the digest that was signed")
	ErrExisting   = errors.New("nuget: the package is signed already")
)

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

func bad(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSignature, fmt.Sprintf(f, args...))
}

// The two kinds of signature, as options and facts call them.
const (
	author     = "author"
	repository = "repository"
)

var (
	oidCommitment       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 16}
	oidProofOfOrigin    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 6, 1} // an author's
	oidProofOfReceipt   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 6, 2} // a repository's
	oidCountersignature = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 6}
	oidServiceIndex     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 84, 2, 1, 1, 1}
	oidOwners           = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 84, 2, 1, 1, 2}
)

// Format implements format.Format and what formats may do besides.
type Format struct{ format.OneRound }

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "nuget".
func (Format) Name() string { return Name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "hash of the package", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "existing", Help: "what to do with a signature that is there: keep it, which lets a repository countersign an author's, or replace it", Values: []string{"keep", "replace"}, Default: "keep"},
		{Name: "owners", Help: "owners of the package in the repository, with commas between them"},
		{Name: "service-index", Help: "https URL of the repository's service index (V3)"},
		{Name: "type", Help: "who signs: the author, or a repository", Values: []string{author, repository}, Default: author},
	}
}

// maxOwners is how many owners a signature may name.
const maxOwners = 100

// checkParams judges what is signed as text.
func checkParams(p format.Params) error {
	index, list := p["service-index"], p["owners"]
	switch {
	case p["type"] == author && (index != "" || list != ""):
		return errors.New("nuget: service-index and owners go with type=repository")
	case p["type"] == author:
		return nil
	case !strings.HasPrefix(index, "https://") || len(index) > 2048 || strings.ContainsFunc(index, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("nuget: type=repository needs a service-index: an https URL of at most 2048 printable ASCII characters")
	}
	names := owners(list)
	if len(names) > maxOwners {
		return fmt.Errorf("nuget: %d owners: at most %d", len(names), maxOwners)
	}
	for _, n := range names {
		if n == "" || len(n) > 256 || strings.TrimSpace(n) != n || strings.ContainsFunc(n, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("nuget: owner %.80q", n)
		}
	}
	return nil
}

func owners(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// Detect says whether a is an archive with a manifest (.nuspec) in its root.
func (Format) Detect(a format.Artifact) bool {
	if !zipfile.Detect(a) {
		return false
	}
	z, err := zipfile.Open(a, zipfile.Options{})
	if err != nil {
		return false
	}
	_, ok := manifest(z)
	return ok
}

// Assemble returns the one message: the signed attributes, with the time.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	s, err := f.statement(p, id, at)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: s.message}}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("nuget: %d signatures are done: there is one round", len(done))
}

// Remove takes .signature.p7s out: a countersignature goes with what it is about.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	switch {
	case p.p7s == nil:
		return nil, fmt.Errorf("nuget: %w", format.ErrUnsigned)
	case index != 0 && index != -1:
		return nil, fmt.Errorf("nuget: signature %d is not there, or is a countersignature, which goes with signature 0", index)
	}
	return p.put(nil)
}

// Extract gives the signature, with its countersignature.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	switch {
	case p.p7s == nil:
		return nil, fmt.Errorf("nuget: %w", format.ErrUnsigned)
	case index != 0:
		return nil, fmt.Errorf("nuget: signature %d is not there, or is a countersignature, which stands in signature 0", index)
	}
	return &format.Sidecar{Suffix: ".p7s", Data: p.p7s}, nil
}

// List hands out the files of the archive.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	p, err := open(a)
	if err != nil {
		return err
	}
	return p.z.List(ctx, yield)
}

func sum(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}
