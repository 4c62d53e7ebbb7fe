package verify

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// Options are what a caller may ask of File. The zero value is the strict one.
type Options struct {
	// KeyFromEvidence trusts the signing key because the charter chain does: the
	// key's certificate is the anchor, at the time of the receipt. Whether the
	// platform that runs the file trusts its certificate is then not judged. It
	// excludes roots and keys in the Trust.
	KeyFromEvidence bool
}

// Verified is the finding that a file carries a signature which was authorised.
// Only [File] makes it.
type Verified struct {
	approval  *Approval
	report    *format.Report
	signature int
	evidence  bool
}

// Approval is who authorised it; nil in the zero Verified.
func (v *Verified) Approval() *Approval { return v.approval }

// Report is what the format's verifier found to be true of the file.
func (v *Verified) Report() *format.Report { return v.report }

// Signature is the index, in the report, of the signature that was authorised.
func (v *Verified) Signature() int { return v.signature }

// KeyFromEvidence reports whether the key was trusted by the charter chain alone.
func (v *Verified) KeyFromEvidence() bool { return v.evidence }

// File binds a file to a document. The document is judged, the file verified by
// its format under t, and one of the file's signatures must be the document's, by
// its key, over the content of its plan. detached is the signature that stands beside the
// file, nil for formats that have none; it takes the place of t.Detached.
//
// Errors about the document wrap ErrEvidence, those about the file ErrFile.
func File(ctx context.Context, a format.Artifact, detached []byte, e *Evidence, root statement.ID, t format.Trust, formats []format.Format, o Options) (*Verified, error) {
	ap, err := Judge(e, root, formats)
	if err != nil {
		return nil, err
	}
	if o.KeyFromEvidence {
		if t.Roots != nil || len(t.Keys) > 0 {
			return nil, fmt.Errorf("%w: roots or keys are trusted, and the key of the evidence too: want one of the two", ErrFile)
		}
		t = anchored(ap, t)
	} else if t.Roots == nil && len(t.Keys) == 0 {
		return nil, fmt.Errorf("%w: no root and no key is trusted", ErrFile)
	}
	t.Detached = detached
	f := formats[slices.IndexFunc(formats, func(x format.Format) bool { return x.Name() == ap.plan.Format })]
	r, err := f.Verify(ctx, a, t)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	found, err := match(ap, r)
	if err != nil {
		return nil, err
	}
	return &Verified{approval: ap, report: r, signature: found, evidence: o.KeyFromEvidence}, nil
}

// match finds the document's signatures among those of a file: of each key that
// signed one, over the content of the plan. Where a file holds several pieces that
// are signed alike, signatures over other pieces may stand beside it.
func match(ap *Approval, r *format.Report) (int, error) {
	found, other := -1, error(nil)
	signers := ap.identity.Signers()
	missing := slices.Clone(signers)
	for i, s := range r.Signatures {
		if !slices.ContainsFunc(ap.sigs, func(v []byte) bool { return bytes.Equal(v, s.Value) }) {
			continue
		}
		if s.Digest != ap.plan.Digest || !bytes.Equal(s.Content, ap.plan.Content) {
			other = fmt.Errorf("%w: signature %d is the document's and covers other content: %s %x", ErrFile, i, s.Digest, s.Content)
			continue
		}
		// A signature value does not name its key: others verify it too, over other
		// attributes of the same content.
		own := func(id format.Identity) bool {
			k, ok := s.Key.(interface{ Equal(crypto.PublicKey) bool })
			return ok && k.Equal(id.Public)
		}
		if !slices.ContainsFunc(signers, own) {
			other = fmt.Errorf("%w: signature %d has the value of the document's, under another key", ErrFile, i)
			continue
		}
		missing = slices.DeleteFunc(missing, own)
		if found < 0 {
			found = i
		}
	}
	switch {
	case found >= 0 && len(missing) == 0:
		return found, nil
	case found >= 0:
		return 0, fmt.Errorf("%w: %d of the %d keys that were asked for have not signed it", ErrFile, len(missing), len(signers))
	case other != nil:
		return 0, other
	}
	return 0, fmt.Errorf("%w: none of its %d signatures is that of the document, which is about %.200q", ErrFile, len(r.Signatures), ap.item.Name)
}

// anchored trusts the keys of an approval, at the time of its receipt.
func anchored(ap *Approval, t format.Trust) format.Trust {
	t.Now = ap.receipt.Time
	t.Roots, t.Keys = x509.NewCertPool(), nil
	for _, id := range ap.identity.Signers() {
		t.Keys = append(t.Keys, id.Public)
		if len(id.Chain) > 0 {
			t.Roots.AddCert(id.Chain[0])
		}
	}
	return t
}

// The JSON of a Verified. Members are added, and never change their meaning.
type verifiedJSON struct {
	Verified  bool         `json:"verified"` // always true: what is not verified has no JSON
	Root      statement.ID `json:"root"`
	Trust     string       `json:"trust"` // "platform": roots or keys of the caller; "charter": the charter chain alone
	File      fileJSON     `json:"file"`
	Approval  approvalJSON `json:"approval"`
	Log       logJSON      `json:"log"`
	Signature int          `json:"signature"` // index in report.signatures
	Report    reportJSON   `json:"report"`
}

// reportJSON is a format.Report with digests and values in hexadecimal.
type reportJSON struct {
	Format     string          `json:"format"`
	Size       int64           `json:"size"`
	Facts      []format.Fact   `json:"facts"`
	Signatures []signatureJSON `json:"signatures"`
}

type signatureJSON struct {
	Label    string        `json:"label,omitzero"`
	Scheme   sigalg.Scheme `json:"scheme"`
	Digest   string        `json:"digest"`
	Content  string        `json:"content"`
	Value    string        `json:"value"`
	Subject  string        `json:"subject,omitzero"`
	Issuer   string        `json:"issuer,omitzero"`
	Covers   []string      `json:"covers"`
	Open     []string      `json:"open"`
	Facts    []format.Fact `json:"facts"`
	Time     time.Time     `json:"time,omitzero"`
	TimeFrom string        `json:"timeFrom,omitzero"`
}

func newReportJSON(r *format.Report) reportJSON {
	out := reportJSON{Format: r.Format, Size: r.Size, Facts: r.Facts}
	for _, s := range r.Signatures {
		out.Signatures = append(out.Signatures, signatureJSON{s.Label, s.Scheme, s.Digest, hex.EncodeToString(s.Content), hex.EncodeToString(s.Value),
			s.Subject, s.Issuer, s.Covers, s.Open, s.Facts, s.Time, s.TimeFrom})
	}
	return out
}

type fileJSON struct {
	Name    string        `json:"name"` // the requester's word
	Format  string        `json:"format"`
	Digest  string        `json:"digest"`
	Content string        `json:"content"`
	Params  []format.Fact `json:"params"`
	Claims  []format.Fact `json:"claims"` // the requester's word
	Index   int           `json:"index"`
	Count   int           `json:"count"`
}

type approvalJSON struct {
	Deployment string               `json:"deployment"`
	Charter    statement.CharterRef `json:"charter"`
	Request    statement.ID         `json:"request"`
	Requester  Party                `json:"requester"`
	Reason     string               `json:"reason,omitzero"`
	Purpose    string               `json:"purpose,omitzero"`
	Origin     []statement.Claim    `json:"origin,omitzero"`
	Policy     string               `json:"policy"`
	Key        string               `json:"key"`
	PublicKey  string               `json:"publicKey"`
	Scheme     sigalg.Scheme        `json:"scheme"`
	Also       []statement.KeyUse   `json:"also,omitzero"` // further keys
	Endorsers  []Endorser           `json:"endorsers"`
	Receipt    statement.ID         `json:"receipt"`
	Number     uint64               `json:"number"`
	Time       time.Time            `json:"time"`
}

type logJSON struct {
	Origin string `json:"origin"`
	Index  int64  `json:"index"`
	Size   int64  `json:"size"`
}

// JSON is the finding for programs: one object.
func (v *Verified) JSON() ([]byte, error) {
	a := v.approval
	if a == nil {
		return nil, fmt.Errorf("%w: nothing was verified", ErrFile)
	}
	req, rc := a.Request(), a.receipt
	out := verifiedJSON{
		Verified: true, Root: a.root, Trust: "platform", Signature: v.signature, Report: newReportJSON(v.report),
		File: fileJSON{Name: a.item.Name, Format: a.plan.Format, Digest: a.plan.Digest, Content: hex.EncodeToString(a.plan.Content),
			Params: a.plan.Params, Claims: a.item.Claims, Index: a.index, Count: rc.Signed.Count},
		Approval: approvalJSON{Deployment: rc.Deployment, Charter: a.ref, Request: a.RequestID(), Requester: a.requester, Reason: req.Reason,
			Purpose: req.Command.Sign.Purpose, Origin: req.Origin, Policy: rc.Signed.Policy, Key: rc.Signed.Key, PublicKey: rc.Signed.PublicKey,
			Scheme: rc.Signed.Scheme, Also: rc.Signed.Also, Endorsers: a.endorsers, Receipt: a.receiptID, Number: rc.Number, Time: rc.Time},
		Log: logJSON{a.origin, a.logIndex, a.logSize},
	}
	if v.evidence {
		out.Trust = "charter"
	}
	b, err := json.Marshal(out, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return b, nil
}
