package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// Signer hands plans in as ordinary requests, and collects what the keeper made.
// [Office] is one over a server.
type Signer interface {
	// Submit asks for a signature over the plan under a policy. The same plan under
	// the same policy attaches to the request that is open for it.
	Submit(ctx context.Context, a Ask) (statement.ID, error)
	// Collect returns the result of an executed request; ErrWaiting while it is open;
	// a *RefusedError when it will never be executed.
	Collect(ctx context.Context, id statement.ID, plan *format.Plan) (*Signed, error)
	// Await returns when something may have happened to the request, or ctx ends.
	Await(ctx context.Context, id statement.ID)
}

// Ask is what is asked of a Signer.
type Ask struct {
	Policy  string // of the charter
	Purpose string
	Plan    *format.Plan
	Name    string // of the job, for the people who endorse
	Reason  string
}

// Signed is what a quorum endorsed and the keeper made.
type Signed struct {
	Root     []byte // record.SignedRoot, encoded
	Evidence []byte // verify.Evidence, encoded
	At       time.Time
}

// ErrWaiting says that a request is open.
var ErrWaiting = errors.New("records: the request waits for its quorum")

// RefusedError says that a request will never be executed.
type RefusedError struct {
	Request statement.ID
	State   string // disapproved, expired, cancelled or failed
	Detail  string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("records: request %s is %s: %s", e.Request, e.State, e.Detail)
}
