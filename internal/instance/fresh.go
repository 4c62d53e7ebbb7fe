package instance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

const freshEvery = 5 * time.Minute

// refresh has it signed again and again that the circle of the instance's own side is
// the newest, until ctx ends.
func (i *Instance) refresh(ctx context.Context) {
	f := i.c.Config.Freshness
	gap := f.Every.Or(freshEvery)
	lasts := f.Lasts.Or(3 * gap)
	t := time.NewTicker(max(gap/4, time.Second))
	defer t.Stop()
	for ctx.Err() == nil {
		if err := i.refreshOnce(ctx, gap, lasts); err != nil && ctx.Err() == nil {
			i.log.Error("no freshness statement was signed: protected instances stop believing when the last one expires", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-i.Circles.news: // a new version waits for it
		}
	}
}

// refreshOnce makes a freshness statement when the newest one is older than gap.
// Replicas look in turns; the one that comes first makes it for all.
func (i *Instance) refreshOnce(ctx context.Context, gap, lasts time.Duration) error {
	if err := i.Circles.Hear(ctx); err != nil {
		i.log.Warn("what other replicas say of the circle is refused", "error", err)
	}
	now := i.c.Clock().UTC().Truncate(time.Second)
	own := i.own()
	if own == nil || own.FreshUntil.Sub(now) > lasts-gap {
		return nil
	}
	return i.Refresh(ctx, own, now, lasts)
}

// own is the state of the instance's own side; nil where it has no circle.
func (i *Instance) own() *circle.Status {
	for _, s := range i.Circles.Status() {
		if s.Root == i.c.Root && s.Known {
			return &s
		}
	}
	return nil
}

// Refresh signs a freshness statement for a version of the own side's circle. One that
// was asked for and not signed yet is waited for as long as it would be good: where
// nobody signs, requests do not pile up.
func (i *Instance) Refresh(ctx context.Context, of *circle.Status, now time.Time, lasts time.Duration) error {
	i.asking.Lock()
	defer i.asking.Unlock()
	if p := i.asked; p == nil || p.of != of.ID || !now.Before(p.expires) || now.Before(p.at) {
		if err := unattended(i.c.Server.Charter(), i.c.Config.Freshness.Policy); err != nil {
			return err
		}
		st := trust.Freshness{Deployment: of.Deployment, Circle: of.ID, Version: of.Version, At: now, Expires: now.Add(lasts)}
		payload, err := st.Encode()
		if err != nil {
			return err
		}
		i.asked = &asked{of: of.ID, at: now, expires: st.Expires, name: fmt.Sprintf("freshness of circle %d", of.Version), payload: payload}
	}
	update, err := i.sign(ctx, i.asked)
	var refused *records.RefusedError
	if err == nil || errors.As(err, &refused) {
		i.asked = nil
	}
	if err != nil {
		return err
	}
	return i.Circles.Apply(ctx, &circle.Bundle{Root: i.c.Root, Freshness: update})
}

// asked is a freshness statement that is to be signed.
type asked struct {
	of          statement.ID
	at, expires time.Time
	name        string
	payload     []byte
	request     statement.ID // zero: not submitted yet
}

// unattended refuses a policy that would have people asked every few minutes.
func unattended(c *charter.Charter, policy string) error {
	p, ok := c.Policies[policy]
	switch {
	case !ok:
		return fmt.Errorf("instance: freshness: the charter has no policy %s", policy)
	case !p.Rule.Unattended:
		return fmt.Errorf("instance: freshness: policy %s is not unattended: nobody is asked to endorse freshness", policy)
	}
	return nil
}

// sign has a statement of a circle signed under an unattended policy.
func (i *Instance) sign(ctx context.Context, w *asked) (*circle.Update, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	f := circleformat.New()
	a := format.BytesArtifact(w.name, w.payload)
	plan, err := f.Plan(ctx, a, nil)
	if err != nil {
		return nil, err
	}
	if w.request.IsZero() {
		if w.request, err = i.office.Submit(ctx, records.Ask{Policy: i.c.Config.Freshness.Policy, Purpose: record.Freshness, Plan: plan, Name: w.name}); err != nil {
			return nil, err
		}
	}
	x, err := i.executed(ctx, w.request)
	if err != nil {
		return nil, err
	}
	patch, err := f.Attach(ctx, a, plan, x.Identity, x.At, []format.Signature{x.Signature})
	if err != nil {
		return nil, err
	}
	return &circle.Update{Statement: patch.Sidecar.Data, Evidence: x.Evidence}, nil
}

// executed waits for a request's result.
func (i *Instance) executed(ctx context.Context, id statement.ID) (*records.Executed, error) {
	for {
		x, err := i.office.Executed(ctx, id)
		if !errors.Is(err, records.ErrWaiting) {
			return x, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("instance: request %s was not executed in time: is its policy unattended? %w", id, ctx.Err())
		}
		i.office.Await(ctx, id)
	}
}
