// Package quorum judges, offline, whether a command was authorised: it takes the
// chain of charters and the evidence (a request and its endorsements, as signed)
// and says who counted for what, what is missing, or why not.
//
// # How evidence is judged
//
// The charter in force decides, at the time that the caller gives: members and
// credentials are those of now, so the vote of a removed member lapses. In order:
//
//  1. The request is one DSSE envelope with one signature, of this deployment,
//     and names a charter of the chain that is not newer than the one in force.
//  2. The requester stands in the charter and his credential verifies. A workload's
//     is a token that was valid when the request was made; it verifies nothing else.
//  3. The command has a rule, which lets the requester ask. To sign: the policy's
//     key, formats, purposes and number of items. charter.replace: the charter
//     that is carried follows the one in force.
//  4. Times: made before now (give or take [Skew]), not expired, not allowed to
//     wait longer than the rule says.
//  5. Unattended rules are done. Otherwise each endorsement is checked: this
//     deployment, this request, a voter of now, a credential of his that
//     verifies, times. An endorser's latest word counts; of two words at one time
//     the disapproval. A disapproval is never too old.
//  6. A disapproval by a member of a veto group ends the request. Another one only
//     takes back that endorser's own vote.
//  7. Votes are assigned to the leaves of the rule's tree, each actor once. The
//     actor of a machine with an owner is the owner. The requester's actor has no
//     vote.
//  8. notBefore and the policy's window.
//
// # Invariants
//
//  1. A [Grant] exists only for a request that Judge granted under the charter in
//     force; it is a value that nothing else makes. The zero Grant covers nothing.
//  2. Granting needs at least as many distinct actors as the smallest way through
//     the rule's tree has places, none of them the requester's.
//  3. Leaving endorsements out never grants what was pending; it may grant what
//     was disapproved, so whoever executes must be shown every disapproval: the
//     log shows them.
//  4. One endorsement counts for one request.
//  5. A charter enters the chain only as successor of the head, by a granted
//     charter.replace.
//  6. The package is pure: no clock, no network, no files, no randomness.
//
// # What a caller may not conclude
//
// A Grant does not say that the key may be used: its state is the keeper's. It
// says nothing about items until [Grant.Covers] has seen them. It is authority at
// one time, and is not kept. Whether a request was executed before, the keeper's
// ledger knows.
package quorum

import (
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// Skew is how far the clock of whoever signed may be ahead.
const Skew = 5 * time.Minute

// MaxEndorsements is the number of endorsements that are looked at; evidence with
// more is malformed.
const MaxEndorsements = 256

// Evidence is a request and its endorsements: DSSE envelopes, as kept.
type Evidence struct {
	Request      []byte
	Endorsements [][]byte
}

// State is what a judgement comes to.
type State string

// The states.
const (
	Granted     State = "granted"     // may be executed now
	Pending     State = "pending"     // more votes, or a later time, can grant it
	Disapproved State = "disapproved" // ended by a veto
	Refused     State = "refused"     // nothing can grant it under this charter, or ever
)

// Code is a machine-readable reason. Codes are stable; a granted request has none.
type Code string

// The codes. Of Refused, if not said otherwise.
const (
	Malformed           Code = "malformed"             // not a strict envelope, or not one signature, or too much evidence
	DeploymentMismatch  Code = "deployment-mismatch"   // of another deployment
	CharterUnknown      Code = "charter-unknown"       // names a charter that is not in the chain, or is newer than the one that judges
	RequesterUnknown    Code = "requester-unknown"     // nobody of that name in the charter
	RequesterSignature  Code = "requester-signature"   // not a credential of the requester in this charter, or it does not verify
	CommandNotAllowed   Code = "command-not-allowed"   // the charter has no rule for the command
	PolicyUnknown       Code = "policy-unknown"        // no such policy
	KeyUnknown          Code = "key-unknown"           // no such key in the charter
	KeyMismatch         Code = "key-mismatch"          // not the policy's key
	RequesterNotAllowed Code = "requester-not-allowed" // the rule does not let him ask
	FormatNotAllowed    Code = "format-not-allowed"    // the policy does not sign that format; of Covers: the items are of other formats
	PurposeNotAllowed   Code = "purpose-not-allowed"   // not one of the policy's purposes
	TooManyItems        Code = "too-many-items"        // more than the policy allows
	CharterInvalid      Code = "charter-invalid"       // the charter that is carried does not follow the head, or its Check fails
	LifetimeTooLong     Code = "lifetime-too-long"     // waits longer than the rule allows
	Expired             Code = "expired"               // too late
	Vetoed              Code = "disapproved"           // state Disapproved
	QuorumPending       Code = "quorum-pending"        // state Pending: votes are missing
	NotYet              Code = "not-yet"               // state Pending: notBefore, or made in the future
	OutsideWindow       Code = "outside-window"        // state Pending: the policy's window is closed

	ItemsMismatch   Code = "items-mismatch"    // of Covers: not the items that were endorsed
	NameNotAllowed  Code = "name-not-allowed"  // of Covers: an item's name matches none of the policy's patterns
	ParamNotAllowed Code = "param-not-allowed" // of Covers: a plan lacks an option that the policy demands
)

// Decision is a judgement, for people and programs. It is no authority: that is
// [Grant].
type Decision struct {
	State   State                `json:"state"`
	Code    Code                 `json:"code,omitzero"`
	Reason  string               `json:"reason,omitzero"` // Code for people
	Request statement.ID         `json:"request"`
	Charter statement.CharterRef `json:"charter"` // that judged
	At      time.Time            `json:"at"`
	Rule    string               `json:"rule,omitzero"` // "policies.windows", "commands.key.suspend"
	Votes   []Vote               `json:"votes"`         // by index in the evidence
	Tree    *Branch              `json:"tree,omitzero"`
	Missing string               `json:"missing,omitzero"` // "1 more of security: carol or dave"
}

// Vote is what became of one endorsement.
type Vote struct {
	Endorsement statement.ID      `json:"endorsement"`
	Endorser    string            `json:"endorser,omitzero"`
	Credential  credential.ID     `json:"credential,omitzero"`
	Verdict     statement.Verdict `json:"verdict,omitzero"`
	Created     time.Time         `json:"created,omitzero"`
	Counted     bool              `json:"counted"`
	Standing    bool              `json:"standing"` // an authentic word of somebody who is asked, not superseded, even if others are enough
	Why         string            `json:"why"`      // "counts for release", "lapsed: bob is no longer a member of release"
}

// Branch is one node of the quorum's tree, as far as it is filled.
type Branch struct {
	Label     string    `json:"label"` // "2 of release"
	Need      int       `json:"need"`
	Have      int       `json:"have"`
	Satisfied bool      `json:"satisfied"`
	By        []string  `json:"by,omitzero"` // of a leaf: who fills it
	Of        []*Branch `json:"of,omitzero"`
}

// Refusal is an error with a code.
type Refusal struct {
	Code   Code
	Detail string
}

func (r *Refusal) Error() string { return "quorum: " + string(r.Code) + ": " + r.Detail }

func refuse(c Code, format string, args ...any) *Refusal {
	return &Refusal{c, fmt.Sprintf(format, args...)}
}

// ErrChain is wrapped by errors about chains of charters.
var ErrChain = errors.New("quorum: chain")
