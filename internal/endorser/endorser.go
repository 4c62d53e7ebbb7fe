// Package endorser is what machine endorsers have in common, inspector and gates:
// they watch the inbox of a server, have a judge look at each request, and hand in
// the verdict as a signature of their own.
//
// Invariants:
//
//  1. What the server says is checked: the request against its ID, the items
//     against the request's root.
//  2. A judge's error is no verdict: the request is looked at again later.
//  3. With a journal a request gets one verdict: it is on the disk before it is
//     handed in, and what is handed in later, after whatever happened, is the same
//     envelope.
//  4. A comment is one line without characters that turn or move it.
//
// What may not be concluded: that a verdict counts. The keeper judges that.
package endorser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/statement"
)

// Config is what a machine endorser is made of.
type Config struct {
	Name       string            // of the machine in the charter
	Signer     credential.Signer // its credential
	Deployment string
	Clock      func() time.Time
	Logger     *slog.Logger                  // nil: none
	Uploads    bool                          // only requests of which every artifact has arrived
	Wants      func(*statement.Request) bool // nil: every request about files
	Parallel   int                           // requests at a time; 0: 1
	Retry      time.Duration                 // until a request without a verdict is looked at again; 0: 15 s
	Journal    *Journal                      // nil: verdicts are not remembered
	Metrics    *Metrics                      // nil: not counted
}

// Metrics count what an endorser has done.
type Metrics struct {
	Endorsed, Disapproved, Undecided, Unwanted, InboxErrors atomic.Int64
}

// Judge looks at a request. Verdict, Comment and Findings of its answer count; the
// rest is filled in by Run. An error means that there is no verdict yet.
type Judge func(ctx context.Context, id statement.ID, req *statement.Request) (*statement.Endorsement, error)

// settledFor is how long a request is left alone that has its verdict and waits for
// others.
const settledFor = 24 * time.Hour

// Run judges until ctx ends.
func Run(ctx context.Context, src Source, c Config, judge Judge) error {
	if src == nil || c.Name == "" || c.Deployment == "" || c.Signer == nil || c.Clock == nil || judge == nil {
		return errors.New("endorser: a source, a name, a deployment, a signer, a clock and a judge are wanted")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = new(Metrics)
	}
	if c.Retry <= 0 {
		c.Retry = 15 * time.Second
	}
	later := map[statement.ID]time.Time{} // not before
	for ctx.Err() == nil {
		pending, err := src.Pending(ctx, c.Name)
		if err != nil && ctx.Err() == nil {
			c.Metrics.InboxErrors.Add(1)
			c.Logger.Error("endorser: the inbox cannot be read", "name", c.Name, "error", err)
		}
		here := map[statement.ID]time.Time{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		slots := make(chan struct{}, max(1, c.Parallel))
		for _, r := range pending {
			t := later[r.ID]
			mu.Lock()
			here[r.ID] = t
			mu.Unlock()
			if c.Uploads && !r.Complete || ctx.Err() != nil || c.Clock().Before(t) {
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				t := c.look(ctx, src, judge, r)
				mu.Lock()
				defer mu.Unlock()
				here[r.ID] = t
			})
		}
		wg.Wait()
		if err == nil {
			later = here
			if err := c.Journal.sweep(c.Clock()); err != nil {
				c.Logger.Error("endorser: the journal cannot be tidied", "error", err)
			}
		}
		src.Await(ctx)
	}
	return nil
}

// look looks at one request and says when to do so again.
func (c *Config) look(ctx context.Context, src Source, judge Judge, r Request) time.Time {
	settled, err := c.settle(ctx, src, judge, r)
	if err != nil && ctx.Err() == nil {
		if settled {
			c.Metrics.Unwanted.Add(1)
		} else {
			c.Metrics.Undecided.Add(1)
		}
		c.Logger.Error("endorser: no verdict", "name", c.Name, "request", r.ID, "error", err)
	}
	if settled {
		return c.Clock().Add(settledFor)
	}
	return c.Clock().Add(c.Retry)
}

// settle judges one request and hands in the verdict. settled says that there is
// nothing more to do about it.
func (c *Config) settle(ctx context.Context, src Source, judge Judge, r Request) (settled bool, err error) {
	req, err := requestOf(r)
	if err != nil {
		return true, err
	}
	if req == nil || req.Deployment != c.Deployment || c.Wants != nil && !c.Wants(req) {
		return true, nil // for others to judge
	}
	env, err := c.Journal.read(r.ID)
	if err != nil {
		return false, err
	}
	known := env != nil
	if !known {
		e, err := judge(ctx, r.ID, req)
		if err != nil {
			return false, err
		}
		if env, err = c.sign(ctx, r.ID, req, e); err != nil {
			return false, err
		}
		if env, err = c.Journal.write(r.ID, env); err != nil {
			return false, err
		}
	}
	e, err := c.own(r.ID, env)
	if err != nil {
		return true, err
	}
	final, err := src.Endorse(ctx, env)
	if err != nil {
		return final, err
	}
	if e.Verdict == statement.Endorse {
		c.Metrics.Endorsed.Add(1)
	} else {
		c.Metrics.Disapproved.Add(1)
	}
	c.Logger.Info("endorser: verdict", "name", c.Name, "request", r.ID, "verdict", e.Verdict, "comment", e.Comment, "again", known)
	return true, nil
}

func (c *Config) sign(ctx context.Context, id statement.ID, req *statement.Request, e *statement.Endorsement) ([]byte, error) {
	if !req.Expires.After(statement.Seconds(c.Clock())) {
		return nil, fmt.Errorf("endorser: request %s has expired meanwhile", id)
	}
	findings := map[string]string{}
	for _, f := range e.Findings {
		findings[f.Name] = OneLine(f.Value)
	}
	a := &author.Author{Name: c.Name, Signer: c.Signer, Now: c.Clock}
	b, err := a.Endorsement(ctx, req, id, e.Verdict, OneLine(e.Comment), 0, findings)
	if err != nil {
		return nil, fmt.Errorf("endorser: %w", err)
	}
	return b, nil
}

// own reads a verdict of this endorser's on a request.
func (c *Config) own(id statement.ID, envelope []byte) (*statement.Endorsement, error) {
	env, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return nil, fmt.Errorf("endorser: verdict on %s: %w", id, err)
	}
	e, err := statement.Decode[statement.Endorsement](env.Payload)
	if err != nil {
		return nil, fmt.Errorf("endorser: verdict on %s: %w", id, err)
	}
	if e.Request != id || e.Endorser != c.Name || e.Deployment != c.Deployment {
		return nil, fmt.Errorf("endorser: the verdict in the journal of request %s is on another one, or another's", id)
	}
	return &e, nil
}

// requestOf is the request that r is about, or nil for one that is not about files.
func requestOf(r Request) (*statement.Request, error) {
	env, req, err := statement.DecodeEnveloped[statement.Request](r.Envelope)
	if err != nil {
		return nil, fmt.Errorf("endorser: request %s: %w", r.ID, err)
	}
	if env.ID() != r.ID {
		return nil, fmt.Errorf("endorser: request %s is not what it is called", r.ID)
	}
	if req.Command.Sign == nil {
		return nil, nil
	}
	return &req, nil
}

// Items fetches the encoded items of a request and checks that they are those that
// its requester signed.
func Items(ctx context.Context, src Source, id statement.ID, req *statement.Request) ([][]byte, error) {
	items, err := src.Items(ctx, id)
	if err != nil {
		return nil, err
	}
	args := req.Command.Sign
	root, err := format.ItemsRoot(items)
	if err != nil || root.String() != args.Items || len(items) != args.Count {
		return nil, fmt.Errorf("endorser: the server's items are not those of request %s", id)
	}
	return items, nil
}

// maxLine is the length of a comment, in bytes.
const maxLine = 500

// OneLine makes a comment of what may come from a hostile file: one line of limited
// length, without characters that turn or move text.
func OneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\uFFFD' || format.Turns(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") + "…"
	}
	return s
}
