package records

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	frecords "github.com/greatseal-io/greatseal/format/records"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
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
	cmd, err := author.SignCommand(c, a.Policy, a.Purpose, [][]byte{item})
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

// Collect implements Signer. It waits for the timestamp that a policy asks for.
func (o *Office) Collect(ctx context.Context, id statement.ID, plan *format.Plan) (*Signed, error) {
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
	if len(res.Signatures) != 1 || len(res.Chain) == 0 {
		return nil, fmt.Errorf("records: request %s has %d signatures and %d certificates", id, len(res.Signatures), len(res.Chain))
	}
	ident := format.Identity{Scheme: sigalg.Scheme(res.Scheme)}
	for _, der := range res.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("records: request %s: %w", id, err)
		}
		ident.Chain = append(ident.Chain, c)
	}
	ident.Public = ident.Chain[0].PublicKey
	if len(res.Signatures[0]) != 1 {
		return nil, fmt.Errorf("records: request %s has %d rounds", id, len(res.Signatures[0]))
	}
	sr, err := frecords.SignedRoot(plan, ident, res.Time, format.Signature{Value: res.Signatures[0][0], Timestamp: res.Timestamps[0]})
	if err != nil {
		return nil, err
	}
	root, err := sr.Encode()
	if err != nil {
		return nil, err
	}
	ev, err := o.Server.Evidence(ctx, id, 0)
	if err != nil {
		return nil, err
	}
	b, err := ev.Encode()
	if err != nil {
		return nil, err
	}
	return &Signed{Root: root, Evidence: b, At: res.Time}, nil
}

// Await implements Signer.
func (o *Office) Await(ctx context.Context, id statement.ID) {
	if r, err := o.Server.Get(ctx, id); err == nil {
		o.Server.Await(ctx, id, r.Revision)
	}
}
