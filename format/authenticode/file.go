package authenticode

import (
	"bytes"
	"context"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
)

// File is an opened file of a kind that holds one PKCS #7 at most.
type File interface {
	// Report says what the file is, without signatures.
	Report() *format.Report
	// PKCS7 is the DER of the signature, nil when there is none.
	PKCS7() []byte
	// ContentType is what the PKCS #7 is about.
	ContentType() asn1.ObjectIdentifier
	// Stated reads what the content of a signature says of the file, and refuses
	// contents that are about another kind of file.
	Stated(sd *cms.SignedData) (*Stated, error)
	// Digests reads the file and computes what Stated.Digest has to be under each
	// of the hashes.
	Digests(ctx context.Context, hashes []crypto.Hash) (map[crypto.Hash][]byte, error)
	// Put returns the change that puts another PKCS #7 in the place of the one that
	// is there; an empty one takes it off.
	Put(ctx context.Context, der []byte) (*format.Patch, error)
}

// Stated is what a signature says of the file that it is about.
type Stated struct {
	Hash   crypto.Hash
	Digest []byte
	Covers []string // for people
	Open   []string // for people
}

// Signatures parses the PKCS #7 of f; format.ErrUnsigned where there is none.
func Signatures(f File) ([]Signature, error) {
	der := f.PKCS7()
	if len(der) == 0 {
		return nil, fmt.Errorf("%s: %w", f.Report().Format, format.ErrUnsigned)
	}
	return ParseNested(der, f.ContentType(), "primary", 0)
}

// Inspect lists signatures without judging them.
func Inspect(f File) (*format.Report, error) {
	r := f.Report()
	sigs, err := Signatures(f)
	if errors.Is(err, format.ErrUnsigned) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range sigs {
		info := sigs[i].Info(i)
		if d, err := f.Stated(sigs[i].SD); err != nil {
			info.Facts = append(info.Facts, format.Fact{Name: "content", Value: err.Error()})
		} else {
			info.Digest, info.Content, info.Covers, info.Open = HashName(d.Hash), d.Digest, d.Covers, d.Open
		}
		sigs[i].Claim(&info)
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// Verify reads f once for all of its signatures, and accepts it when every one of
// them verifies.
func Verify(ctx context.Context, f File, t format.Trust) (*format.Report, error) {
	r := f.Report()
	switch {
	case t.Roots == nil:
		return nil, fmt.Errorf("%s: verify: no trusted certificates are given", r.Format)
	case len(t.Detached) > 0:
		return nil, ErrDetached
	}
	sigs, err := Signatures(f)
	if err != nil {
		return nil, err
	}
	stated := make([]*Stated, len(sigs))
	var hashes []crypto.Hash
	for i := range sigs {
		if stated[i], err = f.Stated(sigs[i].SD); err != nil {
			return nil, fmt.Errorf("%s signature: %w", sigs[i].Label, err)
		}
		if _, err := DigestOID(stated[i].Hash); err != nil {
			return nil, fmt.Errorf("%w: %s signature is over a %s digest", ErrWeak, sigs[i].Label, HashName(stated[i].Hash))
		}
		if !slices.Contains(hashes, stated[i].Hash) {
			hashes = append(hashes, stated[i].Hash)
		}
	}
	digests, err := f.Digests(ctx, hashes)
	if err != nil {
		return nil, err
	}
	for i := range sigs {
		d := stated[i]
		info := sigs[i].Info(i)
		if !bytes.Equal(digests[d.Hash], d.Digest) {
			return nil, fmt.Errorf("%s signature: %w: computed %x, signed %x", sigs[i].Label, ErrDigest, digests[d.Hash], d.Digest)
		}
		info.Digest, info.Content, info.Covers, info.Open = HashName(d.Hash), digests[d.Hash], d.Covers, d.Open
		if err := sigs[i].Verify(&info, t); err != nil {
			return nil, fmt.Errorf("%s signature: %w", sigs[i].Label, err)
		}
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// Unstamped lists the signatures without a timestamp.
func Unstamped(f File, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, ErrDetached
	}
	sigs, err := Signatures(f)
	if err != nil {
		return nil, err
	}
	return Targets(sigs)
}

// Targets are those of sigs that have no timestamp.
func Targets(sigs []Signature) ([]format.StampTarget, error) {
	var out []format.StampTarget
	for i := range sigs {
		tok, err := sigs[i].Timestamp()
		if err != nil {
			return nil, err
		}
		if tok == nil {
			out = append(out, format.StampTarget{Index: i, Message: sigs[i].Signer.Signature})
		}
	}
	return out, nil
}

// Stamp adds a token to the signature whose value is target.Message.
func Stamp(ctx context.Context, f File, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, ErrDetached
	}
	sigs, err := Signatures(f)
	if err != nil {
		return nil, err
	}
	i, err := Find(sigs, target)
	if err != nil {
		return nil, err
	}
	der, err := AddToken(f.PKCS7(), &sigs[i], token)
	if err != nil {
		return nil, err
	}
	after, err := ParseNested(der, f.ContentType(), "primary", 0)
	if err != nil {
		return nil, err
	}
	if err := Same(sigs, after); err != nil {
		return nil, err
	}
	return f.Put(ctx, der)
}

// Same checks that two lists hold the same signatures.
func Same(before, after []Signature) error {
	if len(after) != len(before) {
		return malformed("%d signatures became %d", len(before), len(after))
	}
	for i := range before {
		if !bytes.Equal(before[i].Signer.Signature, after[i].Signer.Signature) ||
			!bytes.Equal(before[i].Signer.RawSignedAttrs, after[i].Signer.RawSignedAttrs) {
			return malformed("%s signature changed", before[i].Label)
		}
	}
	return nil
}

// Remove takes off one signature, or with -1 all of them.
func Remove(ctx context.Context, f File, index int) (*format.Patch, error) {
	der := f.PKCS7()
	switch {
	case len(der) == 0:
		return nil, fmt.Errorf("%s: %w", f.Report().Format, format.ErrUnsigned)
	case index == -1:
		return f.Put(ctx, nil) // what is taken off may be anything
	}
	rest, err := Unnest(der, index, f.ContentType())
	if err != nil {
		return nil, err
	}
	return f.Put(ctx, rest)
}

// Extract gives one signature as a .p7s that other tools read: the outer one with
// all that is nested in it, a nested one alone.
func Extract(f File, index int) (*format.Sidecar, error) {
	sigs, err := Signatures(f)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= len(sigs) {
		return nil, fmt.Errorf("%s: signature %d of %d", f.Report().Format, index, len(sigs))
	}
	return &format.Sidecar{Suffix: ".p7s", Data: sigs[index].SD.Raw}, nil
}

// The facts of a plan about who has signed already: how many signatures there are,
// and the signer of each.
const (
	FactSignatures = "signatures"
	FactSigner     = "signer"
	Unreadable     = "not readable"
)

// ExistingFacts says who has signed already. To keep signatures, all must be
// understood; what is replaced may be anything.
func ExistingFacts(sigs []Signature, err error, keep bool) ([]format.Fact, error) {
	switch {
	case errors.Is(err, format.ErrUnsigned):
	case err != nil && keep:
		return nil, fmt.Errorf("%w (existing signatures can be replaced instead: option existing=replace)", err)
	case err != nil:
		return []format.Fact{{Name: FactSignatures, Value: Unreadable}}, nil
	}
	out := []format.Fact{{Name: FactSignatures, Value: strconv.Itoa(len(sigs))}}
	for _, s := range sigs {
		out = append(out, format.Fact{Name: FactSigner, Value: s.SignerText()})
	}
	return out, nil
}

// Join is the PKCS #7 that goes into the file: der alone, or nested in what is there.
func Join(existing, der []byte, params format.Params, typ asn1.ObjectIdentifier) ([]byte, error) {
	if params["existing"] != "keep" {
		return der, nil
	}
	return Nest(existing, der, typ)
}

// CheckExisting refuses facts that ExistingFacts does not make of a file that is
// signed or is not.
func CheckExisting(facts []format.Fact, signed, replace bool) error {
	bad := func(why string) error { return fmt.Errorf("%w: facts: %s", ErrPlan, why) }
	if len(facts) == 0 || facts[0].Name != FactSignatures {
		return bad("one is unknown, stands twice or is out of order")
	}
	n, err := strconv.Atoi(facts[0].Value)
	switch {
	case facts[0].Value == Unreadable && signed && replace:
		n = 0
	case err != nil || strconv.Itoa(n) != facts[0].Value || signed != (n > 0) || n > MaxNested+1:
		return bad("number of signatures")
	}
	if len(facts)-1 != n {
		return bad(strconv.Itoa(len(facts)-1) + " signers and " + strconv.Itoa(n) + " signatures")
	}
	for _, s := range facts[1:] {
		if s.Name != FactSigner || s.Value == "" || PlainText(s.Value) != s.Value {
			return bad("a signer is not in its form")
		}
	}
	return nil
}
