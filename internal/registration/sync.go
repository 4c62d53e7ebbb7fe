package registration

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Sync brings every registration that waits to where it is: in force, proposed by an
// open request, open, or expired. It believes the charter in force and the requests,
// and nobody's word. Replicas may do it at the same time.
func (s *Service) Sync(ctx context.Context) error {
	now := s.cfg.Clock()
	waiting, err := s.cfg.Store.Registrations(ctx, store.RegistrationFilter{States: []store.RegistrationState{store.RegistrationOpen, store.RegistrationProposed}, Limit: 1000})
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		proposed, err := s.proposed(ctx, waiting)
		if err != nil {
			return err
		}
		for i := range waiting {
			if err := s.step(ctx, &waiting[i], proposed[waiting[i].ID], now); err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
	}
	return s.cfg.Store.ForgetRegistrations(ctx, now.Add(-Kept))
}

func (s *Service) step(ctx context.Context, r *store.Registration, request statement.ID, now time.Time) error {
	head, _ := s.cfg.Chain().Head()
	move := func(to store.RegistrationState, id statement.ID, detail string) error {
		if to == r.State && id == r.Request {
			return nil
		}
		return s.cfg.Store.MoveRegistration(ctx, r.ID, r.State, to, id, detail, now)
	}
	switch {
	case Has(head, r.Person, r.Credential):
		return move(store.RegistrationInForce, r.Request, "")
	case !request.IsZero():
		return move(store.RegistrationProposed, request, "")
	case !now.Before(r.Expires):
		return move(store.RegistrationExpired, statement.ID{}, "nobody has brought it into force in time")
	case r.State == store.RegistrationProposed:
		detail := "the request that carried it is over"
		if q, err := s.cfg.Store.Request(ctx, r.Request); err == nil {
			detail = "the request that carried it is " + string(q.State)
		}
		return move(store.RegistrationOpen, statement.ID{}, detail)
	}
	return nil
}

// proposed finds for registrations the open requests that carry them.
func (s *Service) proposed(ctx context.Context, waiting []store.Registration) (map[string]statement.ID, error) {
	out := map[string]statement.ID{}
	f := store.Filter{Command: statement.CharterReplace, States: []store.State{store.Pending, store.Endorsed}, Limit: 100}
	for {
		list, err := s.cfg.Store.Requests(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, q := range list {
			next, err := charter.Carried(q.Envelope)
			if err != nil {
				continue // nobody can bring it into force
			}
			for i := range waiting {
				if r := &waiting[i]; Has(next, r.Person, r.Credential) {
					out[r.ID] = q.ID
				}
			}
		}
		if len(list) < f.Limit {
			return out, nil
		}
		last := list[len(list)-1]
		f.Before, f.BeforeID = last.Created, last.ID
	}
}

// Run does Sync now and then until ctx ends.
func (s *Service) Run(ctx context.Context, every time.Duration, log *slog.Logger) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if err := s.Sync(ctx); err != nil && ctx.Err() == nil {
			log.Warn("registrations of passkeys", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
