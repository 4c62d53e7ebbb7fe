package instance

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	every(ctx, gap/4, func() {
		if err := i.refreshOnce(ctx, gap, lasts); err != nil && ctx.Err() == nil {
			i.log.Error("no freshness statement was signed: protected instances stop believing when the last one expires", "error", err)
		}
	})
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

// Refresh signs a freshness statement for a version of the own side's circle.
func (i *Instance) Refresh(ctx context.Context, of *circle.Status, now time.Time, lasts time.Duration) error {
	st := trust.Freshness{Deployment: of.Deployment, Circle: of.ID, Version: of.Version, At: now, Expires: now.Add(lasts)}
	payload, err := st.Encode()
	if err != nil {
		return err
	}
	update, err := i.sign(ctx, i.c.Config.Freshness.Policy, record.Freshness, fmt.Sprintf("freshness of circle %d", of.Version), payload)
	if err != nil {
		return err
	}
	b := &circle.Bundle{Root: i.c.Root, Freshness: update}
	return i.Circles.Apply(ctx, b)
}

// sign has a statement of a circle signed under an unattended policy.
func (i *Instance) sign(ctx context.Context, policy, purpose, name string, payload []byte) (*circle.Update, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	f := circleformat.New()
	a := format.BytesArtifact(name, payload)
	plan, err := f.Plan(ctx, a, nil)
	if err != nil {
		return nil, err
	}
	id, err := i.office.Submit(ctx, records.Ask{Policy: policy, Purpose: purpose, Plan: plan, Name: name})
	if err != nil {
		return nil, err
	}
	x, err := i.executed(ctx, id)
	if err != nil {
		return nil, err
	}
	patch, err := f.Attach(ctx, a, plan, x.Identity, x.At, []format.Signature{x.Signature})
	if err != nil {
		return nil, err
	}
	return &circle.Update{Statement: patch.Sidecar.Data, Evidence: x.Evidence}, nil
}

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
