package verify

import (
	"bytes"
	"crypto"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// Approval is the finding that one file's signature was authorised, made by the
// deployment's key and logged. Only [Judge] makes it. What its methods return
// belongs to it: the caller does not change it.
type Approval struct {
	past      *quorum.Past
	decision  *quorum.Decision
	receipt   *statement.Receipt
	receiptID statement.ID
	root      statement.ID
	charter   *charter.Charter
	ref       statement.CharterRef
	requester Party
	endorsers []Endorser
	item      *format.Item
	plan      *format.Plan
	identity  format.Identity
	sigs      [][]byte
	index     int
	logIndex  int64
	logSize   int64
	origin    string
}

// Party is somebody of the charter and the credential that he used.
type Party struct {
	Name           string        `json:"name"`             // in the charter
	Person         string        `json:"person,omitzero"`  // the name for people; the owner of a machine
	Machine        bool          `json:"machine,omitzero"` // a gate or a build, not a person
	Credential     string        `json:"credential"`       // for people: "ED25519-SK (hardware) SHA256:…"
	CredentialID   credential.ID `json:"credentialId"`
	CredentialKind string        `json:"credentialKind"`
	Hardware       bool          `json:"hardware"` // the public key is of a kind that lives in hardware
}

// Endorser is somebody whose endorsement counted.
type Endorser struct {
	Party
	For         []string          `json:"for"` // groups or places that the endorsement filled
	At          time.Time         `json:"at"`  // his clock
	Comment     string            `json:"comment,omitzero"`
	Findings    []statement.Claim `json:"findings,omitzero"` // what he says that he checked
	Endorsement statement.ID      `json:"endorsement"`
}

// Request is the request as its requester signed it; nil in the zero Approval.
func (a *Approval) Request() *statement.Request {
	if a.past == nil {
		return nil
	}
	return a.past.Request()
}

// RequestID is the request's ID.
func (a *Approval) RequestID() statement.ID {
	if a.past == nil {
		return statement.ID{}
	}
	return a.past.RequestID()
}

// Requester is who asked.
func (a *Approval) Requester() Party { return a.requester }

// Receipt is the keeper's record.
func (a *Approval) Receipt() *statement.Receipt { return a.receipt }

// ReceiptID is the receipt's ID.
func (a *Approval) ReceiptID() statement.ID { return a.receiptID }

// Root is the pinned ID from which the charter chain was followed.
func (a *Approval) Root() statement.ID { return a.root }

// Charter is the charter that was in force, and its name.
func (a *Approval) Charter() (*charter.Charter, statement.CharterRef) { return a.charter, a.ref }

// Policy is the policy under which it was signed.
func (a *Approval) Policy() *charter.Policy {
	if a.past == nil {
		return nil
	}
	return a.past.Policy()
}

// Endorsers are those whose endorsements counted; nobody under an unattended
// policy.
func (a *Approval) Endorsers() []Endorser { return slices.Clone(a.endorsers) }

// Item is the file as the requester named it: name and claims are his word.
func (a *Approval) Item() *format.Item { return a.item }

// Index is the file's place among the request's files.
func (a *Approval) Index() int { return a.index }

// Plan is what the signature covers.
func (a *Approval) Plan() *format.Plan { return a.plan }

// Signatures are the signature values, one a round.
func (a *Approval) Signatures() [][]byte {
	out := make([][]byte, len(a.sigs))
	for i, s := range a.sigs {
		out[i] = bytes.Clone(s)
	}
	return out
}

// Key is the signing key with its certificates, as the keeper had it.
func (a *Approval) Key() (crypto.PublicKey, sigalg.Scheme) {
	return a.identity.Public, a.identity.Scheme
}

// Time is when the keeper judged and signed, by its clock.
func (a *Approval) Time() time.Time {
	if a.receipt == nil {
		return time.Time{}
	}
	return a.receipt.Time
}

// Decision is the judgement in full, vote by vote.
func (a *Approval) Decision() *quorum.Decision { return a.decision }

// LogIndex is the place of the receipt in the log.
func (a *Approval) LogIndex() int64 { return a.logIndex }

// LogSize is the size of the log at the checkpoint of the document.
func (a *Approval) LogSize() int64 { return a.logSize }

// Origin is the log's name.
func (a *Approval) Origin() string { return a.origin }
