package record

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/sigalg"
)

func checkID(id string) error {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != 16 || hex.EncodeToString(b) != id {
		return malformed("job %.80q: want 32 lower-case hexadecimal digits", id)
	}
	return nil
}

// Check refuses a job whose parts contradict each other.
func (j *Job) Check() error {
	if j.Version != 1 {
		return malformed("job of version %d", j.Version)
	}
	if err := checkID(j.ID); err != nil {
		return err
	}
	if err := checkWord("issuer", j.Issuer); err != nil {
		return err
	}
	if err := checkSorted("audience", j.Audience, MaxAudience, checkWord); err != nil {
		return err
	}
	purpose := func(what, s string) error {
		if s == Wildcard {
			return nil
		}
		return checkWord(what, s)
	}
	if err := checkSorted("purpose", j.Purposes, MaxPurposes, purpose); err != nil {
		return err
	}
	if len(j.Tables) > MaxTables || len(j.Configurations) > MaxConfigs {
		return malformed("job of %d tables and %d configurations: at most %d and %d", len(j.Tables), len(j.Configurations), MaxTables, MaxConfigs)
	}
	left := j.Count
	for i, t := range j.Tables {
		if err := checkText("table", t.Table); err != nil {
			return err
		}
		if t.Count < 1 || t.Count > left || i > 0 && j.Tables[i-1].Table >= t.Table {
			return malformed("job: table %.80q is out of order, or its count is not right", t.Table)
		}
		left -= t.Count
	}
	for i := range j.Configurations {
		if err := j.Configurations[i].check(); err != nil {
			return err
		}
		if i > 0 && j.Configurations[i-1].ID >= j.Configurations[i].ID {
			return malformed("job: configuration %.80q is out of order or stands twice", j.Configurations[i].ID)
		}
	}
	switch {
	case j.Count < 1 || j.Count > merkle.MaxLeaves || left != 0:
		return malformed("job of %d statements, %d of which are of no table", j.Count, left)
	case len(j.Purposes) == 0 || len(j.Configurations) == 0:
		return malformed("job without purposes or configurations")
	case j.Deletions < 0 || j.Deletions > j.Count:
		return malformed("job of %d statements with %d deletions", j.Count, j.Deletions)
	case j.LowestRevision < 1 || j.LatestRevision < j.LowestRevision:
		return malformed("job of revisions %d to %d", j.LowestRevision, j.LatestRevision)
	case j.Size < j.Count:
		return malformed("job of %d statements in %d bytes", j.Count, j.Size)
	case len(j.Root) != sha256.Size:
		return malformed("job with a root of %d bytes", len(j.Root))
	}
	return checkTimes(j.NotBefore, j.Expires)
}

// Describes reports whether a statement may be one of the job's, as far as the
// job's description goes.
func (j *Job) Describes(s *Statement) bool {
	return s.Issuer == j.Issuer && slices.Equal(s.Audience, j.Audience) && slices.Contains(j.Purposes, s.Purpose) &&
		slices.ContainsFunc(j.Tables, func(t TableCount) bool { return t.Table == s.Ref.Table }) &&
		slices.Contains(j.Configurations, s.Configuration) && (!s.Deleted || j.Deletions > 0) &&
		s.Revision >= j.LowestRevision && s.Revision <= j.LatestRevision &&
		s.NotBefore >= j.NotBefore && (j.Expires == 0 || s.Expires > 0 && s.Expires <= j.Expires)
}

// Encode is the job's one encoding: deterministic CBOR.
func (j *Job) Encode() ([]byte, error) {
	if err := j.Check(); err != nil {
		return nil, err
	}
	return encode(j, "job", MaxJob)
}

// DecodeJob reads a job strictly.
func DecodeJob(b []byte) (*Job, error) {
	var j Job
	if err := decode(b, &j, "job", MaxJob); err != nil {
		return nil, err
	}
	return &j, j.Check()
}

func encode(v any, what string, limit int) ([]byte, error) {
	b, err := format.Encode(v)
	if err == nil && len(b) > limit {
		err = malformed("%s of %d bytes: at most %d", what, len(b), limit)
	}
	return b, err
}

func decode(b []byte, v any, what string, limit int) error {
	if len(b) > limit {
		return malformed("%s of %d bytes: at most %d", what, len(b), limit)
	}
	if err := format.Decode(b, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
	}
	return nil
}

const rootDomain = "greatseal signed root v1"

// Message is what the key signs: deterministic CBOR of
//
//	{1: "greatseal signed root v1", 2: job, 3: signed at, 4: scheme, 5: SHA-256 of the signer's certificate}
func (r *SignedRoot) Message() ([]byte, error) {
	if len(r.Certificates) == 0 {
		return nil, malformed("signed root without a certificate")
	}
	return format.Encode(struct {
		Domain   string            `cbor:"1,keyasint"`
		Job      []byte            `cbor:"2,keyasint"`
		SignedAt int64             `cbor:"3,keyasint"`
		Scheme   string            `cbor:"4,keyasint"`
		Signer   [sha256.Size]byte `cbor:"5,keyasint"`
	}{rootDomain, r.Job, r.SignedAt, r.Scheme, sha256.Sum256(r.Certificates[0])})
}

// Check refuses a signed root that cannot be one; it verifies nothing.
func (r *SignedRoot) Check() error {
	switch {
	case r.Version != 1:
		return malformed("signed root of version %d", r.Version)
	case r.SignedAt < 1 || r.SignedAt > maxSeconds:
		return malformed("signed at %d", r.SignedAt)
	case !sigalg.Scheme(r.Scheme).Valid():
		return malformed("signed root under the unknown scheme %.40q", r.Scheme)
	case len(r.Certificates) == 0 || len(r.Certificates) > MaxCertificates:
		return malformed("signed root with %d certificates: want 1 to %d", len(r.Certificates), MaxCertificates)
	case slices.ContainsFunc(r.Certificates, func(c []byte) bool { return len(c) == 0 || len(c) > maxCertificate }):
		return malformed("certificate: want 1 to %d bytes", maxCertificate)
	case len(r.Signature) == 0 || len(r.Signature) > maxSignature || len(r.Timestamp) > maxToken:
		return malformed("signature of %d bytes, timestamp of %d: at most %d and %d", len(r.Signature), len(r.Timestamp), maxSignature, maxToken)
	}
	_, err := DecodeJob(r.Job)
	return err
}

// Encode is the signed root's one encoding: deterministic CBOR.
func (r *SignedRoot) Encode() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	return encode(r, "signed root", MaxRoot)
}

// DecodeSignedRoot reads a signed root strictly; it verifies nothing.
func DecodeSignedRoot(b []byte) (*SignedRoot, error) {
	var r SignedRoot
	if err := decode(b, &r, "signed root", MaxRoot); err != nil {
		return nil, err
	}
	return &r, r.Check()
}

// Check refuses a signature that cannot be one; it verifies nothing, and does not
// look into statement and root.
func (s *Signature) Check() error {
	switch {
	case len(s.Statement) == 0 || len(s.Statement) > MaxStatement || len(s.Root) == 0 || len(s.Root) > MaxRoot:
		return malformed("signature with a statement of %d and a root of %d bytes: at most %d and %d", len(s.Statement), len(s.Root), MaxStatement, MaxRoot)
	case s.Index < 0 || s.Index >= merkle.MaxLeaves || len(s.Path) > maxPath || len(s.Path)%sha256.Size != 0:
		return malformed("signature at %d with a path of %d bytes", s.Index, len(s.Path))
	}
	return nil
}

// Encode is the signature's one encoding: deterministic CBOR.
func (s *Signature) Encode() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	return encode(s, "signature", MaxStatement+MaxRoot+1<<12)
}

// DecodeSignature reads a signature strictly; it verifies nothing.
func DecodeSignature(b []byte) (*Signature, error) {
	var s Signature
	if err := decode(b, &s, "signature", MaxStatement+MaxRoot+1<<12); err != nil {
		return nil, err
	}
	return &s, s.Check()
}
