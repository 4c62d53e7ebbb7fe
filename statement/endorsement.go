package statement

import (
	"errors"
	"fmt"
	"time"
)

// EndorsementType is the predicate type of endorsements.
const EndorsementType = "https://greatseal.io/endorsement/v1"

// Verdict is what an endorser says of a request.
type Verdict string

// The verdicts.
const (
	Endorse    Verdict = "endorse"
	Disapprove Verdict = "disapprove"
)

// Endorsement is one endorser's verdict on one request. Its envelope carries
// exactly one signature: the endorser's own.
type Endorsement struct {
	Deployment string    `json:"deployment"`
	Request    ID        `json:"request"`
	Endorser   string    `json:"endorser"` // a person or machine of the charter
	Verdict    Verdict   `json:"verdict"`
	Comment    string    `json:"comment,omitzero"`
	Created    time.Time `json:"created"`
	Expires    time.Time `json:"expires"`
	Findings   []Claim   `json:"findings,omitzero"` // sorted by name: what the endorser checked himself
}

// PredicateType is EndorsementType.
func (Endorsement) PredicateType() string { return EndorsementType }

// Subject is the request, by its ID.
func (e Endorsement) Subject() Subject {
	return Subject{Name: e.Deployment + "/request", Digest: map[string]string{"greatsealStatement": e.Request.String()}}
}

// Check refuses an endorsement that contradicts itself.
func (e Endorsement) Check() error {
	if err := errors.Join(CheckName("deployment", e.Deployment), CheckName("endorser", e.Endorser),
		CheckTime("created", e.Created), CheckTime("expires", e.Expires),
		checkText("comment", e.Comment), checkClaims("findings", e.Findings)); err != nil {
		return err
	}
	if e.Verdict != Endorse && e.Verdict != Disapprove {
		return fmt.Errorf("statement: verdict %.80q: want %s or %s", e.Verdict, Endorse, Disapprove)
	}
	if !e.Expires.After(e.Created) {
		return errors.New("statement: endorsement expires before it is created")
	}
	return nil
}
