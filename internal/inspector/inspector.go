// Package inspector is the machine endorser that looks at the bytes: it plans
// every uploaded artifact of a request anew and endorses when each plan is, byte
// for byte, the one that the requester made.
//
// Files come from whoever may request, and formats are parsers: a worker process
// reads them, with an empty environment, no privileges to gain, no file but the
// one to plan, and limits on memory, processor and clock time.
//
// Invariants:
//
//  1. An endorsement is made only when every item of the signed request, under
//     the request's own root, was planned anew and was equal.
//  2. A worker that crashes, hangs, exceeds its limits or gives something else
//     than a plan leads to a disapproval; one that could not be started to
//     neither.
//  3. No artifact is parsed in the inspector's own process.
//  4. What the server says is checked: the request against its ID, the items
//     against the request.
//
// What may not be concluded: that a file is harmless. Equal means that the plan
// describes these bytes.
package inspector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

// Request is an open request that waits for the inspector.
type Request struct {
	ID       statement.ID
	Envelope []byte
	Complete bool // every artifact has arrived
}

// Source is where requests come from and verdicts go.
type Source interface {
	// Pending lists the open requests that wait for name.
	Pending(ctx context.Context, name string) ([]Request, error)
	// Items returns the encoded items of a request.
	Items(ctx context.Context, id statement.ID) ([][]byte, error)
	// Artifact returns the path of an artifact on this machine, and what to call
	// when it is no longer needed.
	Artifact(ctx context.Context, id statement.ID, index int, size int64) (path string, release func(), err error)
	// Endorse hands in a verdict. Final tells an error that will stay: the verdict
	// is not wanted.
	Endorse(ctx context.Context, envelope []byte) (final bool, err error)
	// Await returns when there may be news.
	Await(ctx context.Context)
}

// Config is what an inspector is made of.
type Config struct {
	Name       string            // of the machine in the charter
	Signer     credential.Signer // its credential
	Deployment string
	Worker     Worker
	Clock      func() time.Time
	Logger     *slog.Logger // nil: none
	Parallel   int          // workers at a time; 0: half of the processors
}

const retryAfter = 15 * time.Second // a request whose inspection could not be made

// Run inspects until ctx ends.
func Run(ctx context.Context, src Source, c Config) error {
	if src == nil || c.Name == "" || c.Deployment == "" || c.Signer == nil || c.Clock == nil || len(c.Worker.Command) == 0 {
		return errors.New("inspector: a source, a name, a deployment, a signer, a clock and a worker's command are wanted")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Parallel <= 0 {
		c.Parallel = max(1, runtime.GOMAXPROCS(0)/2)
	}
	later := map[statement.ID]time.Time{} // not before
	for ctx.Err() == nil {
		pending, err := src.Pending(ctx, c.Name)
		if err != nil && ctx.Err() == nil {
			c.Logger.Error("inspector: the inbox cannot be read", "error", err)
		}
		here := map[statement.ID]time.Time{}
		for _, r := range pending {
			t := later[r.ID]
			if r.Complete && ctx.Err() == nil && !c.Clock().Before(t) {
				switch settled, err := inspect(ctx, src, c, r); {
				case settled:
					t = c.Clock().Add(24 * time.Hour) // it is pending for others' sake
				case ctx.Err() == nil:
					c.Logger.Error("inspector: no verdict", "request", r.ID, "error", err)
					t = c.Clock().Add(retryAfter)
				}
			}
			here[r.ID] = t
		}
		if err == nil {
			later = here
		}
		src.Await(ctx)
	}
	return nil
}

// inspect inspects one request and hands in the verdict. settled says that there
// is nothing more to do about it.
func inspect(ctx context.Context, src Source, c Config, r Request) (settled bool, err error) {
	req, err := requestOf(r)
	if err != nil {
		return true, err
	}
	e, err := Inspect(ctx, src, c, r.ID, req)
	if err != nil {
		return false, err
	}
	payload, err := statement.Encode(*e)
	if err != nil {
		return false, fmt.Errorf("inspector: %w", err)
	}
	sig, err := c.Signer.Sign(ctx, credential.Statement, statement.PAE(payload))
	if err != nil {
		return false, fmt.Errorf("inspector: %w", err)
	}
	env := statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(c.Signer.Credential().ID()), Sig: sig}}}
	b, err := env.Encode()
	if err != nil {
		return false, fmt.Errorf("inspector: %w", err)
	}
	final, err := src.Endorse(ctx, b)
	if err != nil {
		return final, err
	}
	c.Logger.Info("inspector: verdict", "request", r.ID, "verdict", e.Verdict, "comment", e.Comment)
	return true, nil
}

func requestOf(r Request) (*statement.Request, error) {
	env, err := statement.DecodeEnvelope(r.Envelope)
	if err != nil {
		return nil, fmt.Errorf("inspector: request %s: %w", r.ID, err)
	}
	req, err := statement.Decode[statement.Request](env.Payload)
	if err != nil {
		return nil, fmt.Errorf("inspector: request %s: %w", r.ID, err)
	}
	if env.ID() != r.ID || req.Command.Sign == nil {
		return nil, fmt.Errorf("inspector: request %s is not what it is called, or not about files", r.ID)
	}
	return &req, nil
}

// finding is why a request is disapproved.
type finding struct{ text string }

func (f *finding) Error() string { return f.text }

// Inspect plans every artifact of a request anew and returns the verdict. An
// error means that none could be reached.
func Inspect(ctx context.Context, src Source, c Config, id statement.ID, req *statement.Request) (*statement.Endorsement, error) {
	items, err := src.Items(ctx, id)
	if err != nil {
		return nil, err
	}
	args := req.Command.Sign
	root, err := format.ItemsRoot(items)
	if err != nil || root.String() != args.Items || len(items) != args.Count {
		return nil, fmt.Errorf("inspector: the server's items are not those of request %s", id)
	}
	ictx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(1, c.Parallel))
	for i := range items {
		select {
		case slots <- struct{}{}:
		case <-ictx.Done():
		}
		if ictx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := compare(ictx, src, c, id, i, items[i]); err != nil {
				cancel(err) // the first one stays
			}
		})
	}
	wg.Wait()
	now := statement.Seconds(c.Clock())
	e := &statement.Endorsement{Deployment: c.Deployment, Request: id, Endorser: c.Name, Created: now, Expires: req.Expires}
	if !e.Expires.After(now) {
		return nil, fmt.Errorf("inspector: request %s has expired meanwhile", id)
	}
	var f *finding
	switch err := context.Cause(ictx); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &f):
		e.Verdict, e.Comment = statement.Disapprove, f.text
	case err != nil:
		return nil, err
	default:
		e.Verdict = statement.Endorse
		e.Comment = "recomputed from the uploaded bytes"
		e.Findings = []statement.Claim{{Name: server.FindingRecomputed, Value: fmt.Sprintf("%d of %d", len(items), len(items))}}
	}
	return e, nil
}

// compare plans artifact i anew. The error is a *finding, or no verdict.
func compare(ctx context.Context, src Source, c Config, id statement.ID, i int, encoded []byte) error {
	it, p, err := format.DecodeItem(encoded)
	if err != nil {
		return &finding{fmt.Sprintf("file %d: its plan cannot be read", i)}
	}
	path, release, err := src.Artifact(ctx, id, i, p.Size)
	if err != nil {
		return fmt.Errorf("inspector: file %d: %w", i, err)
	}
	defer release()
	params := format.Params{}
	for _, f := range p.Params {
		params[f.Name] = f.Value
	}
	plan, err := c.Worker.Plan(ctx, path, Job{Name: filepath.Base(filepath.ToSlash(it.Name)), Size: p.Size, Format: p.Format, Params: params})
	var f *finding
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &f):
		return &finding{clean(fmt.Sprintf("file %d (%s): %s", i, it.Name, f.text))}
	case err != nil:
		return err
	case !bytes.Equal(plan, it.Plan):
		return &finding{clean(fmt.Sprintf("file %d (%s): the uploaded bytes give another plan%s", i, it.Name, difference(plan, p)))}
	}
	return nil
}

// difference says in what two plans differ, as far as it can be said in words.
func difference(got []byte, want *format.Plan) string {
	p, err := format.DecodePlan(got)
	switch {
	case err != nil:
		return ""
	case p.Size != want.Size:
		return fmt.Sprintf(": %d bytes, not %d", p.Size, want.Size)
	case !bytes.Equal(p.Content, want.Content):
		return ": other content"
	}
	for i, f := range p.Facts {
		if i >= len(want.Facts) || f != want.Facts[i] {
			return ": " + f.Name + " is another one"
		}
	}
	return ""
}

// clean makes a comment of what may come from a hostile file.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\uFFFD' || format.Turns(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	return s
}

// IsFinding reports whether err says something about an artifact, and not about
// the inspection.
func IsFinding(err error) bool {
	var f *finding
	return errors.As(err, &f)
}
