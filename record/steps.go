package record

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/rejection"
)

// judgement is one question: may this record be used for this purpose, or deleted?
type judgement struct {
	v        *Verifier
	ref      Ref
	rec      *Record // nil: only for deletions
	purpose  string  // empty for deletions
	under    string  // ID of the configuration that counts; empty: every one
	deletion bool
	floor    uint64 // the lowest revision that counts
}

// candidate is one signature on its way through the steps.
type candidate struct {
	place     int // among the record's signatures
	sig       *Signature
	statement *Statement
	signed    *signed
	config    *inForce         // set by the step "configuration"
	failed    *rejection.Error // why it does not count
	step      int              // how far it came
	newest    bool             // of its certificate's
}

// step is one check. It returns nil when it has nothing against the candidate.
type step struct {
	name  string
	check func(j *judgement, c *candidate) *rejection.Error
}

// rootStep is one check of a signed root.
type rootStep struct {
	name  string
	check func(v *Verifier, s *signed) *rejection.Error
}

// checks are what a verifier asks of a signature.
type checks struct {
	most int // signatures of one record that are looked at

	// root says whether the key of the certificate signed the root, in order.
	root []rootStep

	// usage, chain, vouches and revocation say who vouches for the signer.
	usage      func(v *Verifier, s *signed) *rejection.Error
	chain      func(v *Verifier, s *signed) ([][]*x509.Certificate, *rejection.Error)
	vouches    func(v *Verifier, s *signed, chains [][]*x509.Certificate, a *anchor) *rejection.Error
	revocation func(v *Verifier, s *signed, chain []*x509.Certificate) *rejection.Error

	// relevant are the steps that say whether a signature is one at all, and is about
	// this record, purpose and place. Only those that pass are compared by age: nobody
	// hides a good signature behind a bad one.
	relevant []step
	// newest says whether a candidate is the newest of its certificate's.
	newest func(c, newest *candidate) bool
	// believed are the steps that say whether the newest signature of a certificate
	// comes from somebody who is believed, under the rules in force.
	believed []step
	// matching are the steps that compare a believed statement with the record. The
	// last one tells an older version, put back, from what was never signed.
	matching []step
}

// every is what every verifier asks. It is never changed.
var every = checks{
	most: MaxSignatures,
	root: []rootStep{
		{"algorithm", (*Verifier).checkAlgorithm},
		{"root signature", (*Verifier).checkRootSignature},
		{"timestamp", (*Verifier).checkTimestamp},
	},
	usage:      (*Verifier).checkUsage,
	chain:      (*Verifier).checkChain,
	vouches:    (*Verifier).checkVouches,
	revocation: (*Verifier).checkRevocation,
	relevant: []step{
		{"statement", (*judgement).checkStatement},
		{"root", (*judgement).checkRoot},
		{"path", (*judgement).checkPath},
		{"job", (*judgement).checkJob},
		{"record", (*judgement).checkRecord},
		{"wild card", (*judgement).checkWildcard},
		{"purpose", (*judgement).checkPurpose},
		{"audience", (*judgement).checkAudience},
		{"not before", (*judgement).checkNotBefore},
	},
	newest: func(c, newest *candidate) bool { return c == newest },
	believed: []step{
		{"issuer", (*judgement).checkIssuer},
		{"anchor", (*judgement).checkAnchor},
		{"configuration", (*judgement).checkConfiguration},
		{"coverage", (*judgement).checkCoverage},
		{"expiry", (*judgement).checkExpiry},
	},
	matching: []step{
		{"deletion", (*judgement).checkDeletion},
		{"fields", (*judgement).checkFields},
		{"attachments", (*judgement).checkAttachments},
		{"revision", (*judgement).checkRevision},
	},
}

// Steps lists the names of all checks, in order.
func Steps() []string {
	names := []string{"limit"}
	for _, s := range every.root {
		names = append(names, s.name)
	}
	names = append(names, "usage", "chain", "revocation")
	for _, list := range [][]step{every.relevant, every.believed, every.matching} {
		for _, s := range list {
			names = append(names, s.name)
		}
	}
	return append(names, "newest", "marks")
}

// pass takes a candidate through steps until one fails.
func (j *judgement) pass(c *candidate, steps []step) bool {
	for _, s := range steps {
		c.step++
		if c.failed = s.check(j, c); c.failed != nil {
			return false
		}
	}
	return true
}

func (j *judgement) checkStatement(c *candidate) *rejection.Error {
	if err := c.sig.Check(); err != nil {
		return rejection.New(rejection.SigMalformed, "", err.Error())
	}
	s, err := DecodeStatement(c.sig.Statement)
	if err != nil {
		return rejection.New(rejection.SigMalformed, "", err.Error())
	}
	c.statement = s
	return nil
}

func (j *judgement) checkRoot(c *candidate) (why *rejection.Error) {
	c.signed, why = j.v.signedRoot(c.sig.Root)
	return why
}

// checkPath wants the statement among those that were signed.
func (j *judgement) checkPath(c *candidate) *rejection.Error {
	job := c.signed.job
	if merkle.VerifyPath(merkle.Records, merkle.Hash(job.Root), Leaf(c.sig.Statement), c.sig.Index, job.Count, c.sig.Path) != nil {
		return rejection.New(rejection.SigInvalid, "", "the statement is not among those that were signed")
	}
	return nil
}

// checkJob wants the statement to be what those who endorsed the job saw.
func (j *judgement) checkJob(c *candidate) *rejection.Error {
	if !c.signed.job.Describes(c.statement) {
		return rejection.New(rejection.SigInvalid, "", "the statement is not one that its job describes")
	}
	return nil
}

func (j *judgement) checkRecord(c *candidate) *rejection.Error {
	if !c.statement.Ref.Equal(j.ref) {
		return rejection.New(rejection.RecordMismatch, "", "the signature is of "+c.statement.Ref.String())
	}
	return nil
}

func (j *judgement) checkWildcard(c *candidate) *rejection.Error {
	if c.statement.Purpose == Wildcard && !slices.Contains(WildcardTables(), j.ref.Table) {
		return rejection.New(rejection.WildcardNotAllowed, j.ref.Table, "the wild card purpose is not for records of this table")
	}
	return nil
}

// checkPurpose wants the purpose itself or the wild card, which is no purpose of
// the circle. A deletion needs that of its configuration: see checkConfiguration.
func (j *judgement) checkPurpose(c *candidate) *rejection.Error {
	circle := func(p string) bool { return p == Circle || p == Freshness }
	p := c.statement.Purpose
	if circle(p) || circle(j.purpose) {
		return rejection.New(rejection.PurposeMismatch, j.purpose, "records are not signed for the circle of trust")
	}
	if p == j.purpose && p != Wildcard && j.under != "" && c.statement.Configuration.ID != j.under {
		return rejection.New(rejection.SigMissing, j.under, "it is signed under another configuration alone")
	}
	if j.deletion || p == j.purpose || p == Wildcard {
		return nil
	}
	return rejection.New(rejection.PurposeMismatch, j.purpose, "it is signed for "+p)
}

func (j *judgement) checkAudience(c *candidate) *rejection.Error {
	if a := c.statement.Audience; len(a) > 0 && !slices.Contains(a, j.v.instance) {
		return rejection.New(rejection.AudienceMismatch, j.v.instance, "it is signed for other instances")
	}
	return nil
}

func (j *judgement) checkNotBefore(c *candidate) *rejection.Error {
	limit := j.v.now.Add(clockSkew)
	if c.signed.at.After(limit) || time.Unix(c.signed.root.SignedAt, 0).After(limit) {
		return rejection.New(rejection.NotYetValid, "", "it was signed in the future")
	}
	if time.Unix(c.statement.NotBefore, 0).After(j.v.now) {
		return rejection.New(rejection.NotYetValid, "", "it is valid from "+time.Unix(c.statement.NotBefore, 0).UTC().Format(time.RFC3339))
	}
	return nil
}

func (j *judgement) checkIssuer(c *candidate) *rejection.Error {
	if !slices.Contains(j.v.issuers, c.statement.Issuer) {
		return rejection.New(rejection.CertUntrusted, c.statement.Issuer, "this instance is not trusted to sign")
	}
	return nil
}

// checkAnchor wants an anchor that vouches for the signer and may, for this
// purpose, table and issuer. The reason is that of the anchor that came nearest.
func (j *judgement) checkAnchor(c *candidate) *rejection.Error {
	why := rejection.New(rejection.CertUnknown, "", "the certificate leads to no anchor")
	for i := range j.v.anchors {
		a, verdict := &j.v.anchors[i], c.signed.verdicts[i]
		if verdict == nil && a.fits(c.statement) {
			return nil
		}
		if verdict == nil {
			verdict = rejection.New(rejection.CertUntrusted, a.Name, "the anchor is not for this purpose, table or issuer")
		}
		if nearness(verdict.Code) > nearness(why.Code) {
			why = verdict
		}
	}
	return why
}

// nearness orders the reasons of anchors: the one that knows most of a signer says why.
func nearness(c rejection.Code) int {
	return slices.Index([]rejection.Code{rejection.CertUnknown, rejection.CertUntrusted, rejection.CertExpiredAtSigning, rejection.CertRevoked, rejection.KeyCompromised}, c)
}

func (j *judgement) checkConfiguration(c *candidate) *rejection.Error {
	s := c.statement
	f, ok := j.v.configs[s.Configuration.ID]
	if !ok {
		return rejection.New(rejection.ConfigOutdated, s.Configuration.ID, "this configuration is not in force")
	}
	if f.ref != s.Configuration || f.Table != s.Ref.Table || f.Purpose != s.Purpose {
		return rejection.New(rejection.ConfigOutdated, s.Configuration.ID, "it is signed under another version of the configuration")
	}
	c.config = &f
	return nil
}

// checkCoverage wants a digest for each field of the configuration, and no other.
func (j *judgement) checkCoverage(c *candidate) *rejection.Error {
	s := c.statement
	for _, name := range c.config.Fields {
		if _, ok := s.field(name); !ok {
			return rejection.New(rejection.FieldUncovered, name, "the configuration in force signs this field, the statement does not")
		}
	}
	if len(s.Fields) != len(c.config.Fields) {
		return rejection.New(rejection.SigMalformed, "", "the statement has fields that its configuration does not sign")
	}
	if len(s.Attachments) > 0 && !c.config.Attachments {
		return rejection.New(rejection.SigMalformed, "", "the statement has attachments, which its configuration does not sign")
	}
	return nil
}

func (s *Statement) field(name string) (digest [32]byte, ok bool) {
	i, ok := slices.BinarySearchFunc(s.Fields, name, func(f FieldDigest, n string) int { return bytes.Compare([]byte(f.Name), []byte(n)) })
	if !ok {
		return digest, false
	}
	return s.Fields[i].Digest, true
}

func (j *judgement) checkExpiry(c *candidate) *rejection.Error {
	if e := c.statement.Expires; e > 0 && !j.v.now.Before(time.Unix(e, 0)) {
		return rejection.New(rejection.Expired, "", "it was valid until "+time.Unix(e, 0).UTC().Format(time.RFC3339))
	}
	return nil
}

func (j *judgement) checkDeletion(c *candidate) *rejection.Error {
	switch {
	case j.deletion && !c.statement.Deleted:
		return rejection.New(rejection.DeleteUnsigned, "", "the newest signature is not of a deletion")
	case !j.deletion && c.statement.Deleted:
		return rejection.New(rejection.ActionMismatch, "", "the newest signature is of the record's deletion")
	}
	return nil
}

func (j *judgement) checkFields(c *candidate) *rejection.Error {
	if j.rec == nil {
		return nil
	}
	for i := range c.statement.Fields {
		f := &c.statement.Fields[i]
		if v := j.rec.Fields[f.Name]; len(v) > MaxValue || FieldDigestOf(f.Name, v) != f.Digest {
			return rejection.New(rejection.FieldChanged, f.Name, "the field is not as it was signed")
		}
	}
	return nil
}

// checkAttachments compares two lists in which a name may stand more than once.
func (j *judgement) checkAttachments(c *candidate) *rejection.Error {
	if j.rec == nil || !c.config.Attachments {
		return nil
	}
	if len(j.rec.Attachments) > MaxAttachments {
		return rejection.New(rejection.AttachmentExtra, "", "the record has too many attachments")
	}
	have := slices.SortedFunc(slices.Values(j.rec.Attachments), Attachment.compare)
	var missing []Attachment
	for _, a := range c.statement.Attachments {
		if i := slices.Index(have, a); i >= 0 {
			have = slices.Delete(have, i, i+1)
		} else {
			missing = append(missing, a)
		}
	}
	if len(missing) > 0 {
		a := missing[0]
		if slices.ContainsFunc(have, func(b Attachment) bool { return a.Name == b.Name }) {
			return rejection.New(rejection.AttachmentChanged, a.Name, "the attachment is not as it was signed")
		}
		return rejection.New(rejection.AttachmentMissing, a.Name, "the attachment was signed")
	}
	if len(have) > 0 {
		return rejection.New(rejection.AttachmentExtra, have[0].Name, "the attachment is not signed")
	}
	return nil
}

func (j *judgement) checkRevision(c *candidate) *rejection.Error {
	if c.statement.Revision < j.floor {
		return rollback(c.statement.Revision, j.floor)
	}
	return nil
}
