package record

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/rejection"
)

// Verdict is what a scan says of a record.
type Verdict string

// The verdicts.
const (
	Valid   Verdict = "valid"
	Invalid Verdict = "invalid"
	Missing Verdict = "missing" // no signature is for this purpose and record
)

// Report says of a record what each of its signatures is worth. It is for people
// and scans: nothing may run because of it.
type Report struct {
	Ref        Ref               `json:"ref"`
	Purpose    string            `json:"purpose"`
	Verdict    Verdict           `json:"verdict"`
	Reason     *rejection.Error  `json:"reason,omitzero"` // nil when valid
	Floor      uint64            `json:"floor,omitzero"`  // the lowest revision that counts
	Signatures []SignatureReport `json:"signatures"`      // the best first
}

// SignatureReport is one signature.
type SignatureReport struct {
	Place         int              `json:"place"` // among the record's signatures
	Purpose       string           `json:"purpose,omitzero"`
	Issuer        string           `json:"issuer,omitzero"`
	Audience      []string         `json:"audience,omitzero"`
	Revision      uint64           `json:"revision,omitzero"`
	Deleted       bool             `json:"deleted,omitzero"`
	Configuration ConfigurationRef `json:"configuration,omitzero"`
	Job           string           `json:"job,omitzero"`
	Signer        string           `json:"signer,omitzero"`      // subject
	Fingerprint   string           `json:"fingerprint,omitzero"` // of the signer's certificate
	SignedAt      time.Time        `json:"signedAt,omitzero"`
	Stamped       bool             `json:"stamped,omitzero"` // SignedAt is a timestamp's
	Newest        bool             `json:"newest"`           // of its certificate's
	Reason        *rejection.Error `json:"reason,omitzero"`  // nil when it passes
	Fields        []FieldReport    `json:"fields,omitzero"`
}

// FieldReport is one field against one signature.
type FieldReport struct {
	Name  string     `json:"name"`
	State FieldState `json:"state"`
}

// FieldState is what a signature says of a field.
type FieldState string

// The states of a field.
const (
	FieldSame      FieldState = "same"      // as it was signed
	FieldChanged   FieldState = "changed"   // not as it was signed
	FieldUncovered FieldState = "uncovered" // the configuration in force signs it, the statement does not
	FieldUnsigned  FieldState = "unsigned"  // the record has it, and no configuration signs it
)

// Explain judges like Verify and says why. It raises no mark; marks may be nil, then
// roll-back is judged by floors alone.
func (v *Verifier) Explain(ctx context.Context, rec *Record, purpose string, sigs []Signature, marks Marks) (*Report, error) {
	j := &judgement{v: v, ref: rec.Ref, rec: rec, purpose: purpose}
	r := &Report{Ref: rec.Ref, Purpose: purpose, Verdict: Invalid, Signatures: []SignatureReport{}}
	all, why, err := j.examine(ctx, sigs, marks)
	if err != nil {
		return nil, err
	}
	r.Floor = j.floor
	if why != nil {
		r.Reason = why
		if why.Code == rejection.SigMissing {
			r.Verdict = Missing
		}
		return r, nil
	}
	about := false
	for _, c := range all {
		r.Signatures = append(r.Signatures, j.report(c))
		about = about || c.failed == nil || c.failed.Code != rejection.PurposeMismatch && c.failed.Code != rejection.RecordMismatch
	}
	switch {
	case all[0].newest && all[0].failed == nil:
		r.Verdict = Valid
	case !about:
		r.Verdict, r.Reason = Missing, reason(all)
	default:
		r.Reason = reason(all)
	}
	return r, nil
}

func (j *judgement) report(c *candidate) SignatureReport {
	r := SignatureReport{Place: c.place, Newest: c.newest, Reason: c.failed}
	if s := c.signed; s != nil {
		r.Job, r.Signer, r.Fingerprint = s.job.ID, s.chain[0].Subject.String(), Fingerprint(s.chain[0].Raw)
		r.SignedAt, r.Stamped = s.at, s.stamped
	}
	s := c.statement
	if s == nil {
		return r
	}
	r.Purpose, r.Issuer, r.Audience, r.Revision, r.Deleted, r.Configuration = s.Purpose, s.Issuer, s.Audience, s.Revision, s.Deleted, s.Configuration
	if !s.Ref.Equal(j.ref) {
		return r
	}
	seen := map[string]bool{}
	for _, f := range s.Fields {
		seen[f.Name] = true
		state := FieldSame
		if FieldDigestOf(f.Name, j.rec.Fields[f.Name]) != f.Digest {
			state = FieldChanged
		}
		r.Fields = append(r.Fields, FieldReport{f.Name, state})
	}
	if f, ok := j.v.configs[s.Configuration.ID]; ok {
		for _, name := range f.Fields {
			if !seen[name] {
				seen[name] = true
				r.Fields = append(r.Fields, FieldReport{name, FieldUncovered})
			}
		}
	}
	for _, name := range sortedNames(j.rec.Fields) {
		if !seen[name] && j.rec.Fields[name] != "" {
			r.Fields = append(r.Fields, FieldReport{name, FieldUnsigned})
		}
	}
	return r
}

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
