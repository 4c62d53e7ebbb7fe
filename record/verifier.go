package record

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/rejection"
)

// Marks are the highest revisions that a verifier has accepted: they outlive it, or
// an older version passes after a restart.
type Marks interface {
	// Highest is the mark of a record, 0 for one never seen.
	Highest(ctx context.Context, ref Ref) (uint64, error)
	// Raise sets the mark, durably and at once. It changes nothing and returns
	// ErrLower when the mark is higher already.
	Raise(ctx context.Context, ref Ref, revision uint64) error
}

// ErrLower is what Marks.Raise wraps for a revision below the mark.
var ErrLower = errors.New("record: the mark is higher")

// Verifier judges records with one Trust. It is safe for concurrent use.
type Verifier struct {
	instance string
	issuers  []string
	anchors  []anchor
	pool     *x509.CertPool // of all anchors
	revoked  map[[sha256.Size]byte][]Revocation
	floors   map[string]uint64
	configs  map[string]inForce
	stamps   *x509.CertPool // nil: no timestamp is believed
	digest   [sha256.Size]byte
	roots    *Roots
	now      time.Time
	checks   *checks
}

// NewVerifier checks a trust and keeps what it needs of it. roots may be shared by
// verifiers of any trust; nil: the verifier has its own.
func NewVerifier(t *Trust, roots *Roots) (*Verifier, error) {
	if t.Now.IsZero() {
		return nil, errors.New("record: a verifier needs the time")
	}
	if len(t.Anchors) > MaxAnchors || len(t.Revocations) > MaxRevocations || len(t.Floors) > MaxFloors {
		return nil, malformed("trust of %d anchors, %d revocations, %d floors", len(t.Anchors), len(t.Revocations), len(t.Floors))
	}
	if roots == nil {
		roots = NewRoots(0)
	}
	v := &Verifier{
		instance: t.Instance, issuers: slices.Clone(t.Issuers), pool: x509.NewCertPool(), revoked: map[[sha256.Size]byte][]Revocation{},
		floors: map[string]uint64{}, configs: map[string]inForce{}, digest: t.digest(), roots: roots, now: t.Now, checks: &every,
	}
	for _, a := range t.Anchors {
		c, err := x509.ParseCertificate(a.Certificate)
		if err != nil {
			return nil, fmt.Errorf("record: anchor %.80q: %w", a.Name, err)
		}
		v.pool.AddCert(c)
		v.anchors = append(v.anchors, anchor{a, c})
	}
	for _, r := range t.Revocations {
		f, err := parseFingerprint(r.Fingerprint)
		if err != nil {
			return nil, err
		}
		v.revoked[f] = append(v.revoked[f], r)
	}
	for _, f := range t.Floors {
		if err := f.Ref.Check(); err != nil {
			return nil, err
		}
		v.floors[f.Ref.ID()] = max(v.floors[f.Ref.ID()], f.Revision)
	}
	for _, list := range []map[string]Configuration{t.Configurations, Predefined()} {
		for id, c := range list {
			if err := c.Check(id); err != nil {
				return nil, err
			}
			v.configs[id] = inForce{c, c.Ref(id)}
		}
	}
	if len(t.TimestampRoots) > 0 {
		v.stamps = x509.NewCertPool()
		for _, c := range t.TimestampRoots {
			v.stamps.AddCert(c)
		}
	}
	return v, nil
}

// At is the same verifier at another time.
func (v *Verifier) At(now time.Time) *Verifier {
	c := *v
	c.now = now
	return &c
}

// Trusted is a record that was verified for a purpose. Only Verify makes one with
// anything in it: the zero value says nothing.
type Trusted struct {
	record        Record
	purpose       string
	statement     Statement
	configuration Configuration
	signer        *x509.Certificate
	signedAt      time.Time
	stamped       bool
	job           string
}

// Record is a copy of what was verified, and of nothing else: fields that the
// configuration does not sign are not in it, nor are attachments where it signs none.
func (t *Trusted) Record() Record { return t.record.clone() }

// Ref names the record.
func (t *Trusted) Ref() Ref { return Ref{t.record.Ref.Table, slices.Clone(t.record.Ref.Key)} }

// Field is the value of a field that the configuration signs; an absent one is "".
// ok is false for a field that it does not sign.
func (t *Trusted) Field(name string) (value string, ok bool) {
	return t.record.Fields[name], t.configuration.Covers(name)
}

// Attachments are those that were verified, by name.
func (t *Trusted) Attachments() []Attachment { return slices.Clone(t.record.Attachments) }

// Purpose is what the record was verified for.
func (t *Trusted) Purpose() string { return t.purpose }

// Statement is the statement that was believed.
func (t *Trusted) Statement() Statement { return t.statement.clone() }

// Configuration is the configuration in force under which it was signed.
func (t *Trusted) Configuration() Configuration { return t.configuration.clone() }

// SignedBy is the signer's certificate.
func (t *Trusted) SignedBy() *x509.Certificate { return t.signer }

// SignedAt is when it was signed: as a timestamp proves, or as the keeper states.
func (t *Trusted) SignedAt() (at time.Time, proved bool) { return t.signedAt, t.stamped }

// Job is the ID of the security job that signed it.
func (t *Trusted) Job() string { return t.job }

// Deletion is the verified order to delete a record. Only VerifyDeletion makes one
// with anything in it.
type Deletion struct{ t Trusted }

// Ref names the record to be deleted.
func (d *Deletion) Ref() Ref { return d.t.Ref() }

// Statement is the statement that was believed.
func (d *Deletion) Statement() Statement { return d.t.Statement() }

// Configuration is the configuration in force under which it was signed.
func (d *Deletion) Configuration() Configuration { return d.t.Configuration() }

// SignedBy is the signer's certificate.
func (d *Deletion) SignedBy() *x509.Certificate { return d.t.signer }

// SignedAt is when it was signed: as a timestamp proves, or as the keeper states.
func (d *Deletion) SignedAt() (at time.Time, proved bool) { return d.t.SignedAt() }

func (r *Record) clone() Record {
	c := Record{Ref: Ref{r.Ref.Table, slices.Clone(r.Ref.Key)}, Attachments: slices.Clone(r.Attachments)}
	if r.Fields != nil {
		c.Fields = make(map[string]string, len(r.Fields))
		for k, v := range r.Fields {
			c.Fields[k] = v
		}
	}
	return c
}

func (s *Statement) clone() Statement {
	c := *s
	c.Audience, c.Ref.Key = slices.Clone(s.Audience), slices.Clone(s.Ref.Key)
	c.Fields, c.Attachments = slices.Clone(s.Fields), slices.Clone(s.Attachments)
	return c
}

func (c *Configuration) clone() Configuration {
	d := *c
	d.Fields, d.Parameters = slices.Clone(c.Fields), slices.Clone(c.Parameters)
	return d
}

// Verify judges whether rec may be used for a purpose, and raises its mark. A
// refusal is a *rejection.Error; any other error is that of marks or ctx, and says
// nothing of the record.
func (v *Verifier) Verify(ctx context.Context, rec *Record, purpose string, sigs []Signature, marks Marks) (*Trusted, error) {
	j := &judgement{v: v, ref: rec.Ref, rec: rec, purpose: purpose}
	t, err := j.decide(ctx, sigs, marks)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// VerifyUnder is Verify for the purpose of the configuration in force with that ID.
// It counts signatures under this configuration alone, and those with the wild card:
// another configuration with the same purpose may sign less of the record.
func (v *Verifier) VerifyUnder(ctx context.Context, rec *Record, id string, sigs []Signature, marks Marks) (*Trusted, error) {
	c, ok := v.configs[id]
	if !ok {
		return nil, rejection.New(rejection.ConfigOutdated, id, "this configuration is not in force")
	}
	j := &judgement{v: v, ref: rec.Ref, rec: rec, purpose: c.Purpose, under: id}
	t, err := j.decide(ctx, sigs, marks)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// VerifyDeletion judges whether the record ref may be deleted, and raises its mark.
// rec is the record as it is; nil: it is gone, or not known here.
func (v *Verifier) VerifyDeletion(ctx context.Context, ref Ref, rec *Record, sigs []Signature, marks Marks) (*Deletion, error) {
	if rec != nil && !rec.Ref.Equal(ref) {
		return nil, rejection.New(rejection.RecordMismatch, "", "the record is not the one to be deleted")
	}
	j := &judgement{v: v, ref: ref, rec: rec, deletion: true}
	t, err := j.decide(ctx, sigs, marks)
	if err != nil {
		return nil, err
	}
	return &Deletion{*t}, nil
}
