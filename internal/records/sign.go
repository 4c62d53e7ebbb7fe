package records

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
	frecords "github.com/greatseal-io/greatseal/format/records"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

func (w *work) summary() (sum Summary, err error) {
	if err = read(w.j.Summary, &sum); err != nil {
		err = specError("its summary was altered in the database: %v", err)
	}
	return sum, err
}

func (w *work) setSummary(sum *Summary) error {
	b, err := json.Marshal(sum, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	w.j.Summary = b
	return nil
}

// submit hands the plan of a finished preparation in. A job of nothing is done.
func (w *work) submit(ctx context.Context, b *record.Builder, counts map[string]int64, skipped int64) (time.Time, error) {
	if w.j.Count == 0 {
		return w.submitJob(ctx, nil, counts, skipped)
	}
	job, err := b.Finish()
	if err != nil {
		return time.Time{}, err
	}
	return w.submitJob(ctx, job, counts, skipped)
}

func (w *work) submitJob(ctx context.Context, job *record.Job, counts map[string]int64, skipped int64) (time.Time, error) {
	sum := Summary{Signed: counts, Skipped: skipped}
	w.j.Total = w.j.Count
	if job == nil {
		sum.Checked = true
		w.j.State, w.j.Finished = string(Done), w.c.Now()
		if err := w.setSummary(&sum); err != nil {
			return time.Time{}, err
		}
		return time.Time{}, w.save(ctx)
	}
	plan, err := frecords.PlanOf(job)
	if err != nil {
		return time.Time{}, err
	}
	if w.p.Plan, err = plan.Encode(); err != nil {
		return time.Time{}, fmt.Errorf("records: %w", err)
	}
	sum.Root = hex.EncodeToString(job.Root)
	if err := w.setSummary(&sum); err != nil {
		return time.Time{}, err
	}
	// Whoever dies from here to the save asks again: the same plan attaches to the
	// request that is open.
	id, err := w.c.Signer.Submit(ctx, Ask{Policy: w.sp.Policy, Plan: plan, Name: w.sp.Name, Reason: w.sp.Reason})
	if err != nil {
		return time.Time{}, err
	}
	w.c.Hook("submitted")
	w.j.Request, w.j.State = id.String(), string(Waiting)
	return time.Time{}, w.save(ctx)
}

// poll is how long a worker waits for news of a request before it lets go.
const poll = 2 * time.Second

// wait looks whether the quorum has endorsed.
func (w *work) wait(ctx context.Context) (time.Time, error) {
	id, err := statement.ParseID(w.j.Request)
	if err != nil {
		return time.Time{}, specError("its request was altered in the database")
	}
	plan, err := format.DecodePlan(w.p.Plan)
	if err != nil {
		return time.Time{}, specError("its plan was altered in the database: %v", err)
	}
	signed, err := w.c.Signer.Collect(ctx, id, plan)
	if errors.Is(err, ErrWaiting) {
		c, stop := context.WithTimeout(ctx, poll)
		w.c.Signer.Await(c, id)
		stop()
		signed, err = w.c.Signer.Collect(ctx, id, plan)
	}
	if errors.Is(err, ErrWaiting) {
		return w.c.Now().Add(time.Second), nil
	}
	if err != nil {
		return time.Time{}, err
	}
	root, err := record.DecodeSignedRoot(signed.Root)
	if err != nil {
		return time.Time{}, err
	}
	job, err := frecords.JobOf(plan)
	if err != nil {
		return time.Time{}, err
	}
	want, err := job.Encode()
	if err != nil {
		return time.Time{}, err
	}
	if !bytes.Equal(root.Job, want) {
		return time.Time{}, specError("what was signed is not what was planned")
	}
	sum, err := w.summary()
	if err != nil {
		return time.Time{}, err
	}
	sum.At, sum.Evidence = signed.At, signed.Evidence
	if err := w.setSummary(&sum); err != nil {
		return time.Time{}, err
	}
	// The root is kept before it is put in: a timestamp that comes later would make
	// another of it.
	w.p.Root, w.j.State = signed.Root, string(Signing)
	return time.Time{}, w.save(ctx)
}

// sign makes what was signed readable.
func (w *work) sign(ctx context.Context) (time.Time, error) {
	open, _, next := Open(w.sp.Windows, w.c.Now())
	if !open {
		return next, nil
	}
	if w.sp.onPlatform() {
		db, err := w.platform(w.sp.Platform)
		if err != nil {
			return time.Time{}, err
		}
		t, err := w.treeOf(ctx, db)
		if err != nil {
			return time.Time{}, err
		}
		w.c.Hook("signed")
		if err := db.PutRoot(ctx, w.j.ID, w.p.Root, w.j.Count, t.tiles()); err != nil {
			return time.Time{}, err
		}
		w.forget(w.j.ID)
		w.c.Hook("put root")
	} else if err := w.finishSet(ctx); err != nil {
		return time.Time{}, err
	}
	w.j.State, w.j.Finished = string(Done), w.c.Now()
	return time.Time{}, w.save(ctx)
}

// treeOf returns the tree of a prepared job: the one that this process has made, or
// one that is made again from the statements.
func (w *work) treeOf(ctx context.Context, db platform.Platform) (*tree, error) {
	w.mu.Lock()
	t := w.trees[w.j.ID]
	w.mu.Unlock()
	if t != nil && t.count == w.j.Count {
		return t, nil
	}
	root, err := record.DecodeSignedRoot(w.p.Root)
	if err != nil {
		return nil, err
	}
	job, err := record.DecodeJob(root.Job)
	if err != nil {
		return nil, err
	}
	if t, err = newTree(); err != nil {
		return nil, err
	}
	b, err := record.NewBuilder(record.ListHead{Job: job.ID, Issuer: job.Issuer, Audience: job.Audience}, t)
	if err == nil {
		err = db.Statements(ctx, w.j.ID, 0, func(_ record.Ref, st []byte, _ int64) error {
			_, err := b.AddEncoded(st)
			return err
		})
	}
	var got *record.Job
	if err == nil {
		got, err = b.Finish()
	}
	if err == nil && !bytes.Equal(got.Root, job.Root) {
		err = specError("its statements in the database are not those that were signed: somebody altered them")
	}
	if err != nil {
		t.close()
		return nil, err
	}
	t.count = got.Count
	w.keep(w.j.ID, t)
	return t, nil
}

// recount counts, after a job is done, the records that changed between their
// preparation and the signature.
func (w *work) recount(ctx context.Context) error {
	sum, err := w.summary()
	if err != nil || sum.Checked {
		return err
	}
	if w.sp.onPlatform() {
		db, err := w.platform(w.sp.Platform)
		if err != nil {
			return err
		}
		sum.Changed = 0
		if err := w.changed(ctx, db, func(record.Ref, string) error { sum.Changed++; return nil }); err != nil {
			return err
		}
	}
	sum.Checked = true
	if err := w.setSummary(&sum); err != nil {
		return err
	}
	return w.save(ctx)
}

// signedRow is a statement of a job, as it was planned.
type signedRow struct {
	st      *record.Statement
	encoded []byte
}

// changed calls f with the records of a job that are no more what was planned, and
// the configuration that they were signed under.
func (w *work) changed(ctx context.Context, db platform.Platform, f func(ref record.Ref, configuration string) error) error {
	all := w.configurations()
	var part []signedRow
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		first := part[0].st
		c, ok := all[first.Configuration.ID]
		if !ok || c.Ref(first.Configuration.ID) != first.Configuration {
			c = record.Configuration{} // it is another one now: none of them fits
		}
		found := map[string]*platform.Row{}
		var prep *record.Prepared
		if c.Table != "" {
			var err error
			if prep, err = c.Prepare(first.Configuration.ID); err != nil {
				return err
			}
			q := platform.Query{Table: c.Table, Fields: c.Fields, Attachments: c.Attachments}
			for _, p := range part {
				q.Keys = append(q.Keys, p.st.Ref.Key)
			}
			if err := db.Scan(ctx, q, func(r *platform.Row) error { found[r.Record.Ref.ID()] = r; return nil }); err != nil {
				return err
			}
		}
		for _, p := range part {
			same := false
			if r := found[p.st.Ref.ID()]; r != nil {
				o := record.StatementOptions{Issuer: p.st.Issuer, Audience: p.st.Audience, Revision: p.st.Revision, Deleted: p.st.Deleted, NotBefore: p.st.NotBefore, Expires: p.st.Expires}
				if now, err := prep.Statement(&r.Record, o); err == nil {
					b, err := now.Encode()
					same = err == nil && bytes.Equal(b, p.encoded)
				}
			}
			if !same {
				if err := f(p.st.Ref, p.st.Configuration.ID); err != nil {
					return err
				}
			}
		}
		part = part[:0]
		return nil
	}
	err := db.Statements(ctx, w.j.ID, 0, func(_ record.Ref, b []byte, _ int64) error {
		b = bytes.Clone(b)
		st, err := record.DecodeStatement(b)
		if err != nil {
			return err
		}
		if len(part) > 0 && (part[0].st.Configuration != st.Configuration || len(part) == some) {
			if err := flush(); err != nil {
				return err
			}
		}
		part = append(part, signedRow{st, b})
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// SignAgain makes a job for the records of a job that is done which have changed
// since they were prepared.
func (s *Jobs) SignAgain(ctx context.Context, id, requester string) (*View, error) {
	if err := s.c.Instance.MaySign(); err != nil {
		return nil, err
	}
	j, err := s.c.Store.SecurityJob(ctx, id)
	if err != nil {
		return nil, err
	}
	sp, err := decodeSpec(j.Spec)
	if err != nil {
		return nil, err
	}
	if State(j.State) != Done || !sp.onPlatform() {
		return nil, fmt.Errorf("%w: it is %s", ErrState, j.State)
	}
	db, err := s.platform(sp.Platform)
	if err != nil {
		return nil, err
	}
	next := *sp
	next.Kind, next.Refs, next.Files, next.Filter, next.Configurations, next.Start = SignSpecificRecords, nil, nil, "", nil, time.Time{}
	w := &work{Jobs: s, j: j, p: &place{}, sp: sp}
	err = w.changed(ctx, db, func(ref record.Ref, configuration string) error {
		next.Refs = append(next.Refs, ref)
		if !slices.Contains(next.Configurations, configuration) {
			next.Configurations = append(next.Configurations, configuration)
		}
		if len(next.Refs) > MaxRefs {
			return specError("more than %d records have changed: sign by a configuration", MaxRefs)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(next.Refs) == 0 {
		return nil, fmt.Errorf("%w: nothing has changed since", ErrState)
	}
	return s.Create(ctx, &next, requester)
}

// Log lists what a job signed and under which configuration, from index on.
func (s *Jobs) Log(ctx context.Context, id string, from int64, limit int) ([]Entry, error) {
	if limit <= 0 || limit > 10_000 {
		limit = 10_000
	}
	j, err := s.c.Store.SecurityJob(ctx, id)
	if err != nil {
		return nil, err
	}
	out := []Entry{}
	add := func(_ record.Ref, b []byte, index int64) error {
		if len(out) == limit {
			return errStop
		}
		st, err := record.DecodeStatement(bytes.Clone(b))
		if err != nil {
			return fmt.Errorf("records: job %s was altered in the database: %w", id, err)
		}
		out = append(out, Entry{Index: index, Ref: st.Ref, Configuration: st.Configuration.ID, Version: st.Configuration.Version,
			Purpose: st.Purpose, Revision: st.Revision, Deleted: st.Deleted})
		return nil
	}
	if j.Platform == "" {
		err = s.setStatements(ctx, j, from, add)
	} else {
		var db platform.Platform
		if db, err = s.platform(j.Platform); err == nil {
			err = db.Statements(ctx, id, from, add)
		}
	}
	if errors.Is(err, errStop) {
		err = nil
	}
	return out, err
}
