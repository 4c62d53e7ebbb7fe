package records

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	frecords "github.com/greatseal-io/greatseal/format/records"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// Server is what an Office needs of a server: *server.Server is one.
type Server interface {
	Submit(ctx context.Context, envelope []byte, items [][]byte) (*store.Request, bool, error)
	Get(ctx context.Context, id statement.ID) (*store.Request, error)
	Await(ctx context.Context, id statement.ID, revision int64) (*store.Request, error)
	View(ctx context.Context, r *store.Request, explain bool) (*server.View, error)
	Collect(ctx context.Context, id statement.ID) (*server.Result, error)
	Evidence(ctx context.Context, id statement.ID, index int) (*verify.Evidence, error)
	Status(ctx context.Context) (*keeper.Status, error)
	Charter() *charter.Charter
}

// Office is a Signer over a server. Its Author is the machine of the charter in whose
// name security jobs ask; it has no rights but to ask.
type Office struct {
	Server Server
	Author *author.Author
}

var _ Signer = (*Office)(nil)

// Submit implements Signer.
func (o *Office) Submit(ctx context.Context, a Ask) (statement.ID, error) {
	var none statement.ID
	item, err := author.Item(a.Plan, a.Name, nil)
	if err != nil {
		return none, err
	}
	st, err := o.Server.Status(ctx)
	if err != nil {
		return none, err
	}
	c := o.Server.Charter()
	cmd, err := author.SignCommand(c, a.Policy, purpose(c, &a), [][]byte{item})
	if err != nil {
		return none, specError("%v", err)
	}
	env, _, err := o.Author.Request(ctx, c, st.Charter, cmd, author.RequestOptions{Reason: a.Reason})
	if err != nil {
		return none, err
	}
	r, _, err := o.Server.Submit(ctx, env, [][]byte{item})
	var p *server.Problem
	if errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != 409 && p.Status != 429 {
		return none, specError("%v", err)
	}
	if err != nil {
		return none, err
	}
	return r.ID, nil
}

// Executed is what an executed request of one item left.
type Executed struct {
	Identity  format.Identity
	At        time.Time
	Signature format.Signature
	Evidence  []byte // verify.Evidence, encoded
}

// Executed returns the result of a request of one item and one round; ErrWaiting
// while it is open or its timestamp is not there, a *RefusedError when it will never
// be executed.
func (o *Office) Executed(ctx context.Context, id statement.ID) (*Executed, error) {
	r, err := o.Server.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.State.Open() {
		return nil, ErrWaiting
	}
	if r.State != store.Executed {
		return nil, &RefusedError{id, string(r.State), r.Detail}
	}
	v, err := o.Server.View(ctx, r, false)
	if err != nil {
		return nil, err
	}
	if v.Timestamps != nil && v.Timestamps.Done < v.Timestamps.Wanted {
		return nil, ErrWaiting
	}
	res, err := o.Server.Collect(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(res.Signatures) != 1 || len(res.Signatures[0]) != 1 || len(res.Chain) == 0 {
		return nil, fmt.Errorf("records: request %s has %d signatures and %d certificates: one item, one round and a chain are wanted", id, len(res.Signatures), len(res.Chain))
	}
	x := &Executed{Identity: format.Identity{Scheme: sigalg.Scheme(res.Scheme)}, At: res.Time,
		Signature: format.Signature{Value: res.Signatures[0][0], Timestamp: res.Timestamps[0]}}
	for _, der := range res.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("records: request %s: %w", id, err)
		}
		x.Identity.Chain = append(x.Identity.Chain, c)
	}
	x.Identity.Public = x.Identity.Chain[0].PublicKey
	ev, err := o.Server.Evidence(ctx, id, 0)
	if err != nil {
		return nil, err
	}
	x.Evidence, err = ev.Encode()
	return x, err
}

// purpose is what a request says it is for: nothing, where the policy names no
// purposes; the job's own purpose, where it has one; else the policy's only one.
// Whether that may be is for the quorum's judgement.
func purpose(c *charter.Charter, a *Ask) string {
	named := c.Policies[a.Policy].Purposes
	if len(named) == 0 || a.Purpose != "" {
		return a.Purpose
	}
	if j, err := frecords.JobOf(a.Plan); err == nil && len(j.Purposes) == 1 && j.Purposes[0] != record.Wildcard {
		return j.Purposes[0]
	}
	if len(named) == 1 {
		return named[0]
	}
	return ""
}

// Collect implements Signer. It waits for the timestamp that a policy asks for.
func (o *Office) Collect(ctx context.Context, id statement.ID, plan *format.Plan) (*Signed, error) {
	x, err := o.Executed(ctx, id)
	if err != nil {
		return nil, err
	}
	sr, err := frecords.SignedRoot(plan, x.Identity, x.At, x.Signature)
	if err != nil {
		return nil, err
	}
	root, err := sr.Encode()
	if err != nil {
		return nil, err
	}
	return &Signed{Root: root, Evidence: x.Evidence, At: x.At}, nil
}

// Await implements Signer.
func (o *Office) Await(ctx context.Context, id statement.ID) {
	if r, err := o.Server.Get(ctx, id); err == nil {
		o.Server.Await(ctx, id, r.Revision)
	}
}
