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
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/endorser"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

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

// Run inspects until ctx ends.
func Run(ctx context.Context, src Source, c Config) error {
	if len(c.Worker.Command) == 0 {
		return errors.New("inspector: a worker's command is wanted")
	}
	if c.Parallel <= 0 {
		c.Parallel = max(1, runtime.GOMAXPROCS(0)/2)
	}
	e := endorser.Config{Name: c.Name, Signer: c.Signer, Deployment: c.Deployment, Clock: c.Clock, Logger: c.Logger, Uploads: true}
	return endorser.Run(ctx, src, e, func(ctx context.Context, id statement.ID, req *statement.Request) (*statement.Endorsement, error) {
		return Inspect(ctx, src, c, id, req)
	})
}

// finding is why a request is disapproved.
type finding struct{ text string }

func (f *finding) Error() string { return f.text }

// Inspect plans every artifact of a request anew and returns the verdict. An
// error means that none could be reached.
func Inspect(ctx context.Context, src Source, c Config, id statement.ID, req *statement.Request) (*statement.Endorsement, error) {
	items, err := endorser.Items(ctx, src, id, req)
	if err != nil {
		return nil, err
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
	e := &statement.Endorsement{}
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
	return c.Worker.Equal(ctx, path, i, it, p)
}

// Equal plans the file at path anew and says, by a finding, how the plan differs
// from that of item i. Any other error is not about the file.
func (w Worker) Equal(ctx context.Context, path string, i int, it *format.Item, p *format.Plan) error {
	params := format.Params{}
	for _, f := range p.Params {
		params[f.Name] = f.Value
	}
	plan, err := w.Plan(ctx, path, Job{Name: filepath.Base(filepath.ToSlash(it.Name)), Size: p.Size, Format: p.Format, Params: params})
	var f *finding
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &f):
		return &finding{endorser.OneLine(fmt.Sprintf("file %d (%s): %s", i, it.Name, f.text))}
	case err != nil:
		return err
	case !bytes.Equal(plan, it.Plan):
		return &finding{endorser.OneLine(fmt.Sprintf("file %d (%s): the uploaded bytes give another plan%s", i, it.Name, difference(plan, p)))}
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

// IsFinding reports whether err says something about an artifact, and not about
// the inspection.
func IsFinding(err error) bool {
	var f *finding
	return errors.As(err, &f)
}
