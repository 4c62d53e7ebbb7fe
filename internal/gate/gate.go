// Package gate is the worker of machine endorsers that are gates: each looks at the
// requests that wait for its machine, has one check judge every file, and endorses or
// disapproves with the reason. The checks are in packages below.
//
// Invariants:
//
//  1. A request is endorsed only when the check endorses every file of it; one file
//     that it does not endorse disapproves all.
//  2. A check that wants bytes gets those whose plan, made anew in a confined process,
//     is the very plan that will be signed: what was checked is what is signed.
//  3. Whatever is not an opinion of the check is no verdict, and is tried again.
//  4. A request gets one verdict, also when the process dies at any point.
//  5. No comment holds the gate's token or key.
//
// What may not be concluded: more than the check says. A gate counts only in quorums
// of the charter that ask for it.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/endorser"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/inspector"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

// FindingGate is the finding that names the check: "clamav".
const FindingGate = "gate"

// Gate is one gate.
type Gate struct {
	Kind       string // of the check, for findings
	Check      check.Check
	Rebuilds   bool     // the check makes every plan anew from bytes of its own
	Name       string   // of the machine in the charter
	Policies   []string // that it judges; empty: all
	Deployment string
	Signer     credential.Signer
	Worker     inspector.Worker
	Journal    *endorser.Journal
	Clock      func() time.Time
	Logger     *slog.Logger
	Parallel   int           // files at a time; 0: half of the processors
	Retry      time.Duration // 0: 15 s
	Secrets    []string      // what no comment may hold
	Metrics    endorser.Metrics
}

// Run judges what src shows until ctx ends.
func (g *Gate) Run(ctx context.Context, src endorser.Source) error {
	if g.Check == nil || g.Kind == "" || g.Journal == nil || g.Check.Bytes() && len(g.Worker.Command) == 0 {
		return errors.New("gate: a check, a journal and a worker are wanted")
	}
	c := endorser.Config{
		Name: g.Name, Signer: g.Signer, Deployment: g.Deployment, Clock: g.Clock, Logger: g.Logger, Retry: g.Retry,
		Uploads: g.Check.Bytes(), Wants: g.wants, Parallel: 2, Journal: g.Journal, Metrics: &g.Metrics,
	}
	return endorser.Run(ctx, src, c, func(ctx context.Context, id statement.ID, req *statement.Request) (*statement.Endorsement, error) {
		return g.Judge(ctx, src, id, req)
	})
}

func (g *Gate) wants(req *statement.Request) bool {
	return len(g.Policies) == 0 || slices.Contains(g.Policies, req.Command.Sign.Policy)
}

// refusal is the opinion that disapproves.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

// Judge judges every file of a request. An error means that there is no verdict.
func (g *Gate) Judge(ctx context.Context, src endorser.Source, id statement.ID, req *statement.Request) (*statement.Endorsement, error) {
	items, err := endorser.Items(ctx, src, id, req)
	if err != nil {
		return nil, err
	}
	if r, ok := g.Check.(check.Ready); ok {
		if err := r.Ready(ctx); err != nil {
			return nil, err
		}
	}
	parallel := g.Parallel
	if parallel <= 0 {
		parallel = max(1, runtime.GOMAXPROCS(0)/2)
	}
	ictx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	reasons := make([]string, len(items))
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
			reason, err := g.file(ictx, src, id, req, i, items[i])
			if err != nil {
				cancel(err) // the first one stays
			}
			reasons[i] = reason
		})
	}
	wg.Wait()
	e := &statement.Endorsement{}
	var against *refusal
	switch err := context.Cause(ictx); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &against):
		e.Verdict, e.Comment = statement.Disapprove, g.public(against.reason)
		return e, nil
	case err != nil:
		return nil, err
	}
	e.Verdict, e.Comment = statement.Endorse, g.public(reasons[0])
	if len(items) > 1 {
		e.Comment = g.public(fmt.Sprintf("%d files; the first: %s", len(items), reasons[0]))
	}
	e.Findings = []statement.Claim{{Name: FindingGate, Value: g.Kind}}
	if g.Check.Bytes() || g.Rebuilds {
		e.Findings = append(e.Findings, statement.Claim{Name: server.FindingRecomputed, Value: fmt.Sprintf("%d of %d", len(items), len(items))})
	}
	return e, nil
}

// file judges one file. A *refusal disapproves; any other error is no opinion.
func (g *Gate) file(ctx context.Context, src endorser.Source, id statement.ID, req *statement.Request, i int, encoded []byte) (string, error) {
	it, p, err := format.DecodeItem(encoded)
	if err != nil {
		return "", &refusal{fmt.Sprintf("file %d: its plan cannot be read", i)}
	}
	f := &check.File{ID: id, Request: req, Index: i, Item: it, Plan: p}
	if g.Check.Bytes() {
		path, release, err := src.Artifact(ctx, id, i, p.Size)
		if err != nil {
			return "", fmt.Errorf("gate: file %d: %w", i, err)
		}
		defer release()
		if err := g.Worker.Equal(ctx, path, i, it, p); inspector.IsFinding(err) {
			return "", &refusal{err.Error()}
		} else if err != nil {
			return "", err
		}
		f.Path = path
	}
	o, err := g.Check.File(ctx, f)
	switch {
	case err != nil:
		return "", err
	case !o.Endorse:
		return "", &refusal{fmt.Sprintf("file %d (%s): %s", i, it.Name, o.Reason)}
	}
	return o.Reason, nil
}

// public is a comment that everybody may read.
func (g *Gate) public(s string) string {
	for _, x := range g.Secrets {
		s = strings.ReplaceAll(s, x, "…")
	}
	return endorser.OneLine(s)
}
