package notices

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
)

const (
	// maxAttempts is when a notice is given up: with the backoff below, after about
	// 13 hours, like webhooks.
	maxAttempts = 24
	maxBackoff  = time.Hour
	maxError    = 200
)

// errLater ends a job's attempt: somebody else has the notice.
var errLater = errors.New("notices: somebody else has it")

// Run delivers until ctx ends. d may be nil where nobody asks for requests.
func (e *Engine) Run(ctx context.Context, d Desk) {
	l := &Lanes{Store: e.c.Store, Prefix: Prefix, Clock: e.c.Clock, Logger: e.c.Logger, Kick: e.kick, Do: func(ctx context.Context, j store.Job) { e.do(ctx, d, j) }}
	l.Run(ctx)
}

func (e *Engine) do(ctx context.Context, d Desk, j store.Job) {
	err := e.job(ctx, d, j)
	if ctx.Err() != nil {
		return // the lease runs out and somebody else does it
	}
	switch {
	case err == nil:
		err = e.c.Store.Done(ctx, j.ID)
	case j.Attempts >= maxAttempts:
		e.c.Logger.Error("a notice is given up", "kind", kindFor(j), "ref", j.Ref, "attempts", j.Attempts, "error", err)
		e.Metrics.GivenUp.Add(1)
		if err = e.giveUp(ctx, j, err); err == nil {
			err = e.c.Store.Done(ctx, j.ID)
		}
	default:
		wait := min(maxBackoff, time.Second<<min(j.Attempts, 12))
		e.c.Logger.Warn("a notice is tried again", "kind", kindFor(j), "ref", j.Ref, "in", wait, "error", err)
		err = e.c.Store.Retry(ctx, j.ID, e.now().Add(wait), notify.Line(err.Error(), maxError))
	}
	if err != nil {
		e.c.Logger.Error("notice", "kind", kindFor(j), "ref", j.Ref, "error", err)
	}
}

// kindFor is a job's kind without the name of a person.
func kindFor(j store.Job) string {
	if strings.HasPrefix(j.Kind, kindChat) {
		return strings.TrimSuffix(kindChat, ".")
	}
	return j.Kind
}

func (e *Engine) job(ctx context.Context, d Desk, j store.Job) error {
	switch {
	case j.Kind == KindPlan && d != nil:
		return d.Plan(ctx, e, j)
	case j.Kind == kindAlert:
		return e.alert(ctx, d, j)
	case j.Kind == kindFold:
		return e.fold(ctx, d, j)
	case j.Kind == kindMail, strings.HasPrefix(j.Kind, kindChat), strings.HasPrefix(j.Kind, kindPlace):
		return e.deliver(ctx, d, j)
	}
	return fmt.Errorf("notices: unknown job %q", kindFor(j))
}

// final reports whether nothing more happens to a notice.
func final(s store.NoticeState) bool {
	return s != store.NoticeWaiting && s != store.NoticeHeld && s != store.NoticeSending
}

// deliver hands a notice to its receiver, unless it has it.
func (e *Engine) deliver(ctx context.Context, d Desk, j store.Job) error {
	n, err := e.c.Store.Notice(ctx, j.Ref)
	if errors.Is(err, store.ErrNotFound) || err == nil && final(n.State) {
		return nil
	}
	if err != nil {
		return err
	}
	from, attempts := n.State, n.Attempts
	step := func(s store.NoticeState, cause error) error {
		n.State, n.Error, n.Updated = s, "", e.now()
		if cause != nil {
			n.Error = notify.Line(cause.Error(), maxError)
		}
		// What was sent is kept as sent, also when the server is told to stop meanwhile.
		err := e.c.Store.StepNotice(context.WithoutCancel(ctx), n, from, attempts)
		if errors.Is(err, store.ErrConflict) {
			return errLater
		}
		if err == nil {
			from, attempts = n.State, n.Attempts
		}
		return err
	}
	if n.State == store.NoticeSending { // whoever had it was killed: nobody knows how far it came
		if n.Unsure++; n.Unsure > 1 {
			e.Metrics.Unsure.Add(1)
			return step(store.NoticeUnsure, notify.ErrUnsure)
		}
	}
	l, err := notify.DecodeLetter(n.Letter)
	if err != nil {
		return errors.Join(err, step(store.NoticeFailed, err))
	}
	send, err := e.way(d, n)
	if err != nil {
		e.Metrics.Dropped.Add(1)
		return step(store.NoticeDropped, err)
	}
	n.Attempts++
	if err := step(store.NoticeSending, nil); err != nil {
		return err
	}
	e.c.Hook("notice.hand")
	err = send(ctx, l)
	if err == nil {
		e.c.Hook("notice.handed")
		e.Metrics.Sent.Add(1)
		err = step(store.NoticeSent, nil)
		e.c.Hook("notice.kept")
		return err
	}
	e.Metrics.Failures.Add(1)
	switch {
	case errors.Is(err, notify.ErrUnsure) || ctx.Err() != nil:
		if n.Unsure++; n.Unsure > 1 {
			e.Metrics.Unsure.Add(1)
			return step(store.NoticeUnsure, err)
		}
	case errors.Is(err, notify.ErrRefused):
		e.Metrics.GivenUp.Add(1)
		e.c.Logger.Warn("a notice was refused", "event", n.Event, "way", n.Way, "error", err)
		return step(store.NoticeFailed, err)
	}
	return errors.Join(err, step(store.NoticeWaiting, err))
}

// giveUp keeps that a notice was not delivered.
func (e *Engine) giveUp(ctx context.Context, j store.Job, cause error) error {
	n, err := e.c.Store.Notice(ctx, j.Ref)
	if errors.Is(err, store.ErrNotFound) || err == nil && final(n.State) {
		return nil
	}
	if err != nil {
		return err
	}
	from := n.State
	n.State, n.Error, n.Updated = store.NoticeFailed, notify.Line(cause.Error(), maxError), e.now()
	err = e.c.Store.StepNotice(ctx, n, from, n.Attempts)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// way is how a notice goes to its recipient as things stand; the error says why it
// does not.
func (e *Engine) way(d Desk, n *store.Notice) (func(context.Context, *notify.Letter) error, error) {
	k := notify.Links{URL: e.c.URL}
	if name, ok := strings.CutPrefix(n.Way, "channel:"); ok {
		for i := range e.c.Channels {
			if c := e.c.Channels[i].Chat; c.Name == name {
				return func(ctx context.Context, l *notify.Letter) error { return c.Send(ctx, e.c.Sender, l, k) }, nil
			}
		}
		return nil, errors.New("the channel was taken out of the configuration")
	}
	mail, known := e.contact(d, n.Recipient)
	if !known {
		return nil, errors.New("the person is no longer in the charter")
	}
	p := e.c.People[n.Recipient]
	switch {
	case n.Way == "mail" && mail != "" && e.c.Mailer != nil:
		return func(ctx context.Context, l *notify.Letter) error { return e.c.Mailer.Send(ctx, mail, l, k) }, nil
	case n.Way == "chat" && p.Chat != nil:
		return func(ctx context.Context, l *notify.Letter) error { return p.Chat.Send(ctx, e.c.Sender, l, k) }, nil
	}
	return nil, errors.New("the person is reached on this way no longer")
}

// Places lists the names of the channels.
func (e *Engine) Places() []string {
	var out []string
	for i := range e.c.Channels {
		out = append(out, e.c.Channels[i].Name)
	}
	return out
}
