package circle

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/format/dsse"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// Limits of what is judged. An honest update is some hundred kilobytes: a trust
// statement twice (as it is and in the evidence) and the charters.
const (
	MaxEvidence = 32 << 20 // bytes
	MaxUpdate   = circleformat.MaxEnvelope + MaxEvidence
)

// Skew is how far apart two honest clocks may be.
const Skew = 5 * time.Minute

// Update is one statement as it travels.
type Update struct {
	Statement []byte // DSSE envelope, as package format/circle attaches it
	Evidence  []byte // evidence document (package verify)
}

// NewUpdate makes an update from evidence alone: the envelope follows from it. It
// judges nothing.
func NewUpdate(evidence []byte) (*Update, error) {
	if len(evidence) > MaxEvidence {
		return nil, refuse(rejection.PayloadTooLarge, "", fmt.Sprintf("evidence of %d bytes", len(evidence)))
	}
	env, err := envelope(evidence)
	if err != nil {
		return nil, refuse(rejection.SigMalformed, "", err.Error())
	}
	return &Update{env, evidence}, nil
}

func envelope(evidence []byte) ([]byte, error) {
	e, err := verify.DecodeEvidence(evidence)
	if err != nil {
		return nil, err
	}
	_, plan, err := format.DecodeItem(e.File.Item)
	if err != nil {
		return nil, err
	}
	payload, err := circleformat.Payload(plan)
	if err != nil {
		return nil, err
	}
	keys := append([]verify.EvidenceKey{{Certificates: e.File.Certificates, PublicKey: e.File.PublicKey}}, e.File.Also...)
	if len(keys) != len(e.File.Signatures) {
		return nil, fmt.Errorf("circle: %d signatures by %d keys", len(e.File.Signatures), len(keys))
	}
	out := circleformat.Envelope{Payload: payload}
	for i, k := range keys {
		id, err := keyID(k)
		if err != nil {
			return nil, err
		}
		out.Signatures = append(out.Signatures, statement.Signature{KeyID: id, Sig: e.File.Signatures[i]})
	}
	return out.Encode()
}

func keyID(k verify.EvidenceKey) (string, error) {
	if len(k.Certificates) > 0 {
		c, err := trust.Certificate(k.Certificates[0])
		if err != nil {
			return "", err
		}
		return dsse.KeyID(c.PublicKey)
	}
	pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return "", fmt.Errorf("circle: %w", err)
	}
	return dsse.KeyID(pub)
}

// Version is a trust statement that its quorum agreed to. Only [Judge] makes it.
type Version struct {
	id        statement.ID
	statement *trust.Statement
	charter   statement.CharterRef
	at        time.Time
	update    *Update
}

// ID identifies the statement.
func (v *Version) ID() statement.ID { return v.id }

// Statement is what it says; the caller does not change it.
func (v *Version) Statement() *trust.Statement { return v.statement }

// At is when the keeper signed it, by its clock.
func (v *Version) At() time.Time { return v.at }

// Charter is the charter under which it was agreed to.
func (v *Version) Charter() statement.CharterRef { return v.charter }

// Fresh is a freshness statement that was signed as its charter wants it. Only
// [JudgeFreshness] makes it.
type Fresh struct {
	statement *trust.Freshness
	at        time.Time
	update    *Update
}

// Statement is what it says; the caller does not change it.
func (f *Fresh) Statement() *trust.Freshness { return f.statement }

// Judge judges one trust statement by itself: against the ID of the first charter,
// which the caller has pinned, and under the charter that was in force when it was
// signed. It does not judge whether a newer one is known, or whether it has
// expired. The error is a [*rejection.Error].
func Judge(root statement.ID, u *Update) (*Version, error) {
	payload, a, err := judge(root, u, record.Circle)
	if err != nil {
		return nil, err
	}
	s, err := trust.Decode(payload)
	if err != nil {
		return nil, refuse(rejection.SigMalformed, "", err.Error())
	}
	c, ref := a.Charter()
	if err := agreed(a); err != nil {
		return nil, err
	}
	if err := fits(s, c); err != nil {
		return nil, err
	}
	if s.Created.After(a.Time().Add(Skew)) {
		return nil, refuse(rejection.NotYetValid, "created", "is later than the keeper's signature")
	}
	return &Version{trust.ID(payload), s, ref, a.Time(), u}, nil
}

// JudgeFreshness judges one freshness statement as Judge does. Nobody need have
// endorsed it: it changes no trust. Of which version it speaks is for [Circle] to
// compare.
func JudgeFreshness(root statement.ID, u *Update) (*Fresh, error) {
	payload, a, err := judge(root, u, record.Freshness)
	if err != nil {
		return nil, err
	}
	f, err := trust.DecodeFreshness(payload)
	if err != nil {
		return nil, refuse(rejection.SigMalformed, "", err.Error())
	}
	if c, _ := a.Charter(); f.Deployment != c.Deployment {
		return nil, refuse(rejection.CertUntrusted, "deployment", "is not that of the charter")
	}
	// A requester who can ask for freshness cannot lay in a stock of it: what it
	// says of the time is held to the keeper's clock.
	if d := f.At.Sub(a.Time()); d > Skew {
		return nil, refuse(rejection.NotYetValid, "at", "is later than the keeper's signature")
	}
	return &Fresh{f, a.Time(), u}, nil
}

// judge holds the evidence to the root and the envelope to the evidence.
func judge(root statement.ID, u *Update, purpose string) ([]byte, *verify.Approval, error) {
	switch {
	case root.IsZero():
		return nil, nil, refuse(rejection.CertUntrusted, "", "no charter is pinned")
	case u == nil || len(u.Statement) == 0 || len(u.Evidence) == 0:
		return nil, nil, refuse(rejection.SigMissing, "", "a statement and its evidence are wanted")
	case len(u.Statement) > circleformat.MaxEnvelope || len(u.Evidence) > MaxEvidence:
		return nil, nil, refuse(rejection.PayloadTooLarge, "", fmt.Sprintf("statement of %d bytes, evidence of %d", len(u.Statement), len(u.Evidence)))
	}
	env, err := circleformat.DecodeEnvelope(u.Statement)
	if err != nil {
		return nil, nil, refuse(rejection.SigMalformed, "", err.Error())
	}
	e, err := verify.DecodeEvidence(u.Evidence)
	if err != nil {
		return nil, nil, refuse(rejection.SigMalformed, "", err.Error())
	}
	// What it was asked for comes first: it is the reason to give for a signature
	// that is good for something else. It is judged below.
	if got, err := asked(e); err != nil {
		return nil, nil, refuse(rejection.SigMalformed, "", err.Error())
	} else if got != purpose {
		return nil, nil, refuse(rejection.PurposeMismatch, got, "want "+purpose)
	}
	formats := []format.Format{circleformat.New()}
	v, err := verify.File(context.Background(), format.BytesArtifact("statement", env.Payload), u.Statement, e, root, format.Trust{}, formats, verify.Options{KeyFromEvidence: true})
	if err != nil {
		code := rejection.SigInvalid
		if errors.Is(err, verify.ErrEvidence) {
			code = rejection.CertUntrusted
		}
		return nil, nil, refuse(code, "", err.Error())
	}
	a := v.Approval()
	if got := a.Request().Command.Sign.Purpose; got != purpose {
		return nil, nil, refuse(rejection.PurposeMismatch, got, "want "+purpose)
	}
	payload, err := circleformat.Payload(a.Plan())
	if err != nil || !bytes.Equal(payload, env.Payload) {
		return nil, nil, refuse(rejection.SigInvalid, "", "the evidence is about another statement")
	}
	return payload, a, nil
}

// asked is the purpose of the request in a document, as it stands there.
func asked(e *verify.Evidence) (string, error) {
	env, err := statement.DecodeEnvelope(e.Request)
	if err != nil {
		return "", err
	}
	r, err := statement.Decode[statement.Request](env.Payload)
	if err != nil || r.Command.Sign == nil {
		return "", errors.Join(errors.New("circle: the evidence is of no request to sign"), err)
	}
	return r.Command.Sign.Purpose, nil
}

// agreed wants people to have endorsed what changes trust. A charter may let
// machines alone, or nobody, agree to what is signed; not to this.
func agreed(a *verify.Approval) error {
	p := a.Policy()
	if p.Rule.Unattended || p.Rule.Quorum == nil || len(a.Endorsers()) == 0 {
		return refuse(rejection.CertUntrusted, "", "nobody endorsed it: policy is unattended")
	}
	if !slices.ContainsFunc(a.Endorsers(), func(e verify.Endorser) bool { return !e.Machine }) {
		return refuse(rejection.CertUntrusted, "", "machines alone endorsed it")
	}
	return nil
}

// fits holds a statement to the charter under which it was signed: the officers
// who agree to the charter decide what is signed of records, and a narrower
// configuration does not slip in with an update.
func fits(s *trust.Statement, c *charter.Charter) error {
	switch {
	case s.Deployment != c.Deployment:
		return refuse(rejection.CertUntrusted, "deployment", "is not that of the charter")
	case c.Records == nil:
		return refuse(rejection.CertUntrusted, "", "the charter has no records section")
	case s.Instances[c.Records.Instance].Role != trust.Trusted:
		return refuse(rejection.CertUntrusted, c.Records.Instance, "the charter's instance is not a trusted one of the statement")
	}
	for id, ours := range s.Configurations {
		theirs, ok := c.Records.Configurations[id]
		if !ok {
			return refuse(rejection.ConfigOutdated, id, "is not a configuration of the charter")
		}
		if !sameConfiguration(ours, theirs) {
			return refuse(rejection.ConfigOutdated, id, "is not as in the charter")
		}
	}
	for id := range c.Records.Configurations {
		if _, ok := s.Configurations[id]; !ok {
			return refuse(rejection.ConfigOutdated, id, "stands in the charter and not in the statement")
		}
	}
	return nil
}

func sameConfiguration(a, b record.Configuration) bool {
	x, err1 := json.Marshal(a, json.Deterministic(true))
	y, err2 := json.Marshal(b, json.Deterministic(true))
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func refuse(c rejection.Code, subject, detail string) *rejection.Error {
	return rejection.New(c, subject, detail)
}
