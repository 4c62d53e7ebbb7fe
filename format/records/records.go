// Package records is the format "records": the statements of a security job
// (package record) as one artifact, and the signed root as the file ".gsroot" beside
// it.
//
// The artifact is a list (record.ListWriter). A plan's body is the job: whose
// statements, for what purposes, of which tables, under which configurations, how
// many, and their Merkle root. Signed is record.SignedRoot.Message: the job, the
// keeper's time, the scheme and the signer's certificate.
//
// Invariants:
//
//  1. A plan is a function of its job ([PlanOf]), and Assemble refuses one that is
//     not: endorsers see facts that the signature covers, all of them.
//  2. The list is read once, in constant memory; a job made statement by statement
//     (record.Builder) gives the same plan without a list.
//  3. Verify recomputes the job from every statement of the list.
//
// A caller may not conclude from a signed root that a statement is true or that
// anybody believes the signer: record.Verifier judges that, record by record.
package records

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// Name is the format's word in charters and plans.
const Name = "records"

// Suffix is that of the signed root.
const Suffix = ".gsroot"

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Stamper and a format.Lister too.
func New() format.Format { return Format{} }

var (
	_ format.Stamper  = Format{}
	_ format.Lister   = Format{}
	_ format.Purposed = Format{}
)

// Name is "records".
func (Format) Name() string { return Name }

// Suffixes of signature files: format.Detached.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options: there are none.
func (Format) Options() []format.Option { return nil }

// Detect is true for a list of statements, and for a signed root.
func (Format) Detect(a format.Artifact) bool {
	if isList(a) {
		return true
	}
	_, err := readRoot(a)
	return err == nil
}

func isList(a format.Artifact) bool {
	magic := make([]byte, len(record.ListMagic))
	return format.ReadFull(a, magic, 0) == nil && string(magic) == record.ListMagic
}

// readRoot reads a file that is a signed root itself.
func readRoot(a format.Artifact) (*record.SignedRoot, error) {
	var first [1]byte
	if a.Size() > record.MaxRoot || format.ReadFull(a, first[:], 0) != nil || first[0] != 0xa7 { // a map of seven
		return nil, record.ErrMalformed
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, err
	}
	return record.DecodeSignedRoot(b)
}

// Plan reads the list.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	if _, err := p.Check(f); err != nil {
		return nil, err
	}
	j, err := readJob(ctx, a, nil)
	if err != nil {
		return nil, err
	}
	return PlanOf(j)
}

// readJob makes the job of a list, and hands out its statements where asked to.
func readJob(ctx context.Context, a format.Artifact, each func(b []byte) error) (*record.Job, error) {
	r, err := record.NewListReader(io.NewSectionReader(a, 0, a.Size()))
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	b, err := record.NewBuilder(r.Head, nil)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			_, err = b.AddEncoded(s)
		}
		if err == nil && each != nil {
			err = each(s)
		}
		if err != nil {
			return nil, fmt.Errorf("records: statement %d: %w", n, err)
		}
	}
	j, err := b.Finish()
	switch {
	case errors.Is(err, merkle.ErrEmpty):
		return nil, errors.New("records: the list is empty")
	case err != nil:
		return nil, fmt.Errorf("records: %w", err)
	case j.Size != a.Size():
		return nil, fmt.Errorf("records: %w", format.ErrShort)
	}
	return j, nil
}

// PlanOf is the plan of a job: what Plan makes of its list, byte for byte.
func PlanOf(j *record.Job) (*format.Plan, error) {
	body, err := j.Encode()
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return &format.Plan{
		Format: Name, Version: 1, Digest: "sha256", Size: j.Size, Content: j.Root,
		Params: []format.Fact{}, Facts: facts(j), Body: body,
	}, nil
}

// JobOf is the job of a plan, which must be as PlanOf makes it.
func JobOf(p *format.Plan) (*record.Job, error) {
	if p.Format != Name || p.Version != 1 {
		return nil, fmt.Errorf("records: plan of format %.40q, version %d", p.Format, p.Version)
	}
	given, err := p.Encode()
	if err != nil {
		return nil, err
	}
	j, err := record.DecodeJob(p.Body)
	if err != nil {
		return nil, fmt.Errorf("records: plan's body: %w", err)
	}
	q, err := PlanOf(j)
	if err != nil {
		return nil, err
	}
	want, err := q.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(given, want) {
		return nil, errors.New("records: the plan says other things than its job")
	}
	return j, nil
}

// Purposes are those of the job's statements: format.Purposed.
func (Format) Purposes(p *format.Plan) ([]string, error) {
	j, err := JobOf(p)
	if err != nil {
		return nil, err
	}
	return j.Purposes, nil
}

// unsigned is the signed root without its signature.
func unsigned(p *format.Plan, id format.Identity, at time.Time) (*record.SignedRoot, []byte, error) {
	if _, err := JobOf(p); err != nil {
		return nil, nil, err
	}
	if err := checkIdentity(id); err != nil {
		return nil, nil, err
	}
	r := &record.SignedRoot{Version: 1, Job: p.Body, SignedAt: at.Unix(), Scheme: string(id.Scheme), Timestamp: []byte{}}
	for _, c := range id.Chain {
		r.Certificates = append(r.Certificates, c.Raw)
	}
	probe := *r
	probe.Signature = []byte{0}
	if err := probe.Check(); err != nil { // time, scheme, certificates
		return nil, nil, fmt.Errorf("records: %w", err)
	}
	m, err := r.Message()
	if err != nil {
		return nil, nil, fmt.Errorf("records: %w", err)
	}
	return r, m, nil
}

// checkIdentity refuses a key whose signature no verifier would accept.
func checkIdentity(id format.Identity) error {
	if len(id.Also) > 0 {
		return errors.New("records: one key signs")
	}
	if len(id.Chain) == 0 || slices.Contains(id.Chain, nil) {
		return errors.New("records: the key has no certificate")
	}
	pub, err := cms.PublicKey(id.Chain[0])
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if k, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(id.Public) {
		return fmt.Errorf("records: certificate %q is not of the key that signs", id.Chain[0].Subject)
	}
	if !slices.Contains(id.Chain[0].ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return fmt.Errorf("records: certificate %q is not for code signing", id.Chain[0].Subject)
	}
	for i, c := range id.Chain {
		pub, err := cms.PublicKey(c)
		if err != nil {
			return fmt.Errorf("records: %w", err)
		}
		kind, err := sigalg.KeyOf(pub)
		if err != nil {
			return fmt.Errorf("records: certificate %q: %w", c.Subject, err)
		}
		if i == 0 && !id.Scheme.Fits(kind) {
			return fmt.Errorf("records: scheme %q does not fit a key %s", id.Scheme, kind)
		}
	}
	return nil
}

// Assemble returns the message of the signed root.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, m, err := unsigned(p, id, at)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: m}}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("records: %d signatures: one is wanted", len(done))
}

// SignedRoot makes the signed root of a plan, for a job that has no list. It refuses
// a signature that the identity did not make over the plan.
func SignedRoot(p *format.Plan, id format.Identity, at time.Time, sig format.Signature) (*record.SignedRoot, error) {
	r, m, err := unsigned(p, id, at)
	if err != nil {
		return nil, err
	}
	if err := sigalg.Verify(id.Public, id.Scheme, m, sig.Value); err != nil {
		return nil, fmt.Errorf("records: signature does not fit plan and key: %w", err)
	}
	r.Signature = sig.Value
	if sig.Timestamp != nil {
		if err := stamp(r, sig.Timestamp); err != nil {
			return nil, err
		}
	}
	return r, r.Check()
}

// stamp adds a token that is over the signature.
func stamp(r *record.SignedRoot, token []byte) error {
	t, err := tsp.ParseToken(token)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if _, err := t.VerifySignature(imprint(r)); err != nil {
		return fmt.Errorf("records: timestamp: %w", err)
	}
	r.Timestamp = token
	return nil
}

// imprint is what a timestamp is over.
func imprint(r *record.SignedRoot) func(crypto.Hash) ([]byte, error) {
	return func(h crypto.Hash) ([]byte, error) {
		if !h.Available() {
			return nil, fmt.Errorf("records: hash %v is not available", h)
		}
		x := h.New()
		x.Write(r.Signature)
		return x.Sum(nil), nil
	}
}

// Attach makes the signed root.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	if len(sigs) != 1 {
		return nil, fmt.Errorf("records: %d signatures: one is wanted", len(sigs))
	}
	if a.Size() != p.Size || !isList(a) {
		return nil, fmt.Errorf("records: %s is not the list of the plan", a.Name())
	}
	r, err := SignedRoot(p, id, at, sigs[0])
	if err != nil {
		return nil, err
	}
	return sidecar(p.Size, r)
}

func sidecar(size int64, r *record.SignedRoot) (*format.Patch, error) {
	b, err := r.Encode()
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return &format.Patch{Size: size, Sidecar: &format.Sidecar{Suffix: Suffix, Data: b}}, nil
}

// Unstamped returns the signature, where it has no timestamp.
func (Format) Unstamped(_ context.Context, _ format.Artifact, detached []byte) ([]format.StampTarget, error) {
	r, err := decodeRoot(detached)
	if err != nil || len(r.Timestamp) > 0 {
		return nil, err
	}
	return []format.StampTarget{{Message: r.Signature}}, nil
}

// Stamp adds the token: the patch is the new signed root.
func (Format) Stamp(_ context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	r, err := decodeRoot(detached)
	if err != nil {
		return nil, err
	}
	if target.Index != 0 || len(r.Timestamp) > 0 {
		return nil, fmt.Errorf("records: signature %d is not there, or has a timestamp", target.Index)
	}
	if err := stamp(r, token); err != nil {
		return nil, err
	}
	return sidecar(a.Size(), r)
}

func decodeRoot(b []byte) (*record.SignedRoot, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("records: no signed root (%s) was given: %w", Suffix, format.ErrUnsigned)
	}
	r, err := record.DecodeSignedRoot(b)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return r, nil
}
