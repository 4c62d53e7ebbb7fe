package records

import (
	"context"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
	"github.com/greatseal-io/greatseal/rejection"
)

// permanent reports whether an error will not go away by trying again.
func permanent(err error) bool {
	var refused *RefusedError
	return errors.Is(err, ErrSpec) || errors.Is(err, record.ErrMalformed) || errors.As(err, &refused) || rejection.Of(err) != nil ||
		errors.Is(err, platform.ErrTable) || errors.Is(err, platform.ErrField) || errors.Is(err, platform.ErrLimit)
}

// unit is one configuration of a job.
type unit struct {
	id   string
	c    record.Configuration
	prep *record.Prepared
	cond *condition.Condition // nil: every record
	keys [][]string           // of the kinds that name records, in the order in which they are done
}

// preparation is one run of prepare.
type preparation struct {
	*work
	db      platform.Platform
	units   []unit
	files   map[string][]string // of SignSpecificAttachments, by the owner's Ref.ID
	builder *record.Builder
	tree    *tree
	counts  map[string]int64
	batch   platform.Batch
	pending int64
	skips   []Entry
	front   int        // of them, in front of the last statement that was put
	last    record.Ref // of the last statement that is committed
	unit    string     // and its configuration
	began   time.Time
	busy    time.Duration
	told    time.Time
	until   time.Time // end of the window
}

// errPause stops a preparation whose window has ended.
var errPause = errors.New("records: the window has ended")

// prepare makes the job's statements, from where they end, and hands the plan in.
func (w *work) prepare(ctx context.Context) (time.Time, error) {
	if !w.sp.onPlatform() {
		return w.prepareSet(ctx)
	}
	db, err := w.platform(w.sp.Platform)
	if err != nil {
		return time.Time{}, err
	}
	open, until, next := Open(w.sp.Windows, w.c.Now())
	if !open {
		return w.pause(ctx, next)
	}
	r := &preparation{work: w, db: db, began: time.Now(), busy: w.j.Busy, until: until}
	if err := r.configure(ctx); err != nil {
		return time.Time{}, err
	}
	if r.tree, err = newTree(); err != nil {
		return time.Time{}, err
	}
	handed := false
	defer func() {
		if !handed {
			r.tree.close()
		}
		if r.batch != nil {
			r.batch.Rollback()
		}
	}()
	if err := r.replay(ctx); err != nil {
		return time.Time{}, err
	}
	if err := r.count(ctx); err != nil {
		return time.Time{}, err
	}
	from := slices.IndexFunc(r.units, func(u unit) bool { return u.id == r.unit })
	for i := max(from, 0); i < len(r.units) && err == nil; i++ {
		err = r.one(ctx, &r.units[i], i == from)
	}
	if err == nil {
		err = r.commit(ctx)
	}
	if err == nil {
		err = r.tell(ctx, len(r.skips))
	}
	if errors.Is(err, errPause) {
		_, _, next := Open(w.sp.Windows, w.c.Now())
		return w.pause(ctx, next)
	}
	if err != nil {
		return time.Time{}, err
	}
	w.c.Hook("prepared")
	handed = true
	r.tree.count = w.j.Count
	w.keep(w.j.ID, r.tree)
	return w.submit(ctx, r.builder, r.counts, int64(r.skipped()))
}

// configure takes the configurations in force. A preparation that was begun under
// others is thrown away: one job has one of each.
func (r *preparation) configure(ctx context.Context) error {
	all := r.configurations()
	if err := r.sp.Check(all); err != nil {
		return err
	}
	digests := map[string]string{}
	for _, id := range r.sp.among(all) {
		c := all[id]
		u := unit{id: id, c: c}
		var err error
		if u.prep, err = c.Prepare(id); err != nil {
			return err
		}
		if u.cond, err = compile(c.Condition, r.sp.Filter); err != nil {
			return specError("configuration %s: %v", id, err)
		}
		for _, ref := range r.sp.refs() {
			if ref.Table == c.Table {
				u.keys = append(u.keys, ref.Key)
			}
		}
		slices.SortFunc(u.keys, slices.Compare)
		u.keys = slices.CompactFunc(u.keys, slices.Equal)
		d := c.Digest(id)
		digests[id] = hex.EncodeToString(d[:])
		r.units = append(r.units, u)
	}
	r.files = map[string][]string{}
	for _, f := range r.sp.Files {
		r.files[f.Ref.ID()] = append(r.files[f.Ref.ID()], f.Name)
	}
	if len(r.units) == 0 {
		return specError("no signature configuration fits")
	}
	if maps.Equal(r.p.Configurations, digests) {
		return nil
	}
	if r.p.Configurations != nil {
		if err := r.db.DropJob(ctx, r.j.ID); err != nil {
			return err
		}
	}
	r.p.Configurations, r.j.Count, r.j.Total = digests, 0, -1
	return r.step(ctx, r.j, r.p, 0)
}

// compile joins conditions; nil when there is none.
func compile(parts ...string) (*condition.Condition, error) {
	parts = slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return strings.TrimSpace(s) == "" })
	for _, p := range parts { // on its own, so that no part can reach out of its brackets
		if _, err := condition.Compile(p); err != nil {
			return nil, err
		}
	}
	switch len(parts) {
	case 0:
		return nil, nil
	case 1:
		return condition.Compile(parts[0])
	}
	return condition.Compile("(" + strings.Join(parts, "\n) && (") + "\n)")
}

func (r *preparation) head() record.ListHead {
	return record.ListHead{Job: r.j.ID, Issuer: r.c.Instance.Name, Audience: r.sp.audience()}
}

func (s *Spec) audience() []string { return slices.Sorted(slices.Values(s.Audience)) }

// replay builds the tree over the statements that are committed. What does not fit
// together is thrown away and made again.
func (r *preparation) replay(ctx context.Context) error {
	r.counts = map[string]int64{}
	var err error
	if r.builder, err = record.NewBuilder(r.head(), r.tree); err != nil {
		return err
	}
	next := int64(0)
	err = r.db.Statements(ctx, r.j.ID, 0, func(ref record.Ref, statement []byte, index int64) error {
		s, err := record.DecodeStatement(statement)
		if err != nil || index != next || !s.Ref.Equal(ref) || r.p.Configurations[s.Configuration.ID] != hex.EncodeToString(s.Configuration.Digest[:]) {
			return fmt.Errorf("%w: index %d, %v", errAgain, index, err)
		}
		if _, _, err := r.builder.Add(s); err != nil {
			return fmt.Errorf("%w: %w", errAgain, err)
		}
		next++
		r.counts[s.Configuration.ID]++
		r.last, r.unit = s.Ref, s.Configuration.ID
		return nil
	})
	if errors.Is(err, errAgain) {
		r.c.Log.Warn("a job's statements were altered in the database and are made again", "job", r.j.ID, "error", err)
		if err := r.db.DropJob(ctx, r.j.ID); err != nil {
			return err
		}
		r.p.Configurations = nil
		if err := r.step(ctx, r.j, r.p, 0); err != nil {
			return err
		}
		return errors.New("records: the preparation begins anew")
	}
	if err != nil {
		return err
	}
	r.j.Count, r.p.Entries = next, 0
	chunks, err := r.c.Store.SecurityChunks(ctx, r.j.ID, 0, 1<<20)
	if err != nil {
		return err
	}
	for _, c := range chunks {
		if c.First < next {
			r.p.Entries += c.Count
		}
	}
	// What was skipped behind the last committed statement is met again.
	return r.step(ctx, r.j, r.p, next)
}

// errAgain means that what the platform holds of a job is not what was written.
var errAgain = errors.New("records: statements of the job do not fit together")

// count learns how many records there will be.
func (r *preparation) count(ctx context.Context) error {
	if r.p.Counted {
		return nil
	}
	total := int64(0)
	for i := range r.units {
		u := &r.units[i]
		if r.named() {
			total += int64(len(u.keys))
			continue
		}
		n, err := r.db.Count(ctx, platform.Query{Table: u.c.Table, Where: u.cond})
		if err != nil {
			return err
		}
		total += n
	}
	r.j.Total, r.p.Counted = total, true
	return r.save(ctx)
}

// named reports whether the job names its records.
func (r *preparation) named() bool { return len(r.sp.Refs)+len(r.sp.Files) > 0 }

func (r *preparation) options(revision uint64) record.StatementOptions {
	return r.sp.options(r.c.Instance.Name, revision)
}

func (s *Spec) options(issuer string, revision uint64) record.StatementOptions {
	o := record.StatementOptions{Issuer: issuer, Audience: s.audience(), Revision: revision}
	if !s.NotBefore.IsZero() {
		o.NotBefore = s.NotBefore.Unix()
	}
	if !s.Expires.IsZero() {
		o.Expires = s.Expires.Unix()
	}
	return o
}

// one makes the statements of one configuration, from the last committed record on
// when resume is true.
func (r *preparation) one(ctx context.Context, u *unit, resume bool) error {
	var after []string
	if resume {
		after = r.last.Key
	}
	o := r.options(0)
	mk := func(m *made) {
		if m.skipped = r.skip(u, m.row); m.skipped != "" {
			return
		}
		o := o
		o.Revision = m.row.Revision + 1
		if m.st, m.err = u.prep.Statement(&m.row.Record, o); m.err == nil && m.row.Revision > 0 {
			m.err = r.renumber(ctx, m)
		}
	}
	use := func(m *made) error { return r.put(ctx, u, m) }
	q := platform.Query{Table: u.c.Table, Fields: u.c.Fields, Where: u.cond, After: after, Attachments: u.c.Attachments, Revisions: true, Signatures: r.sp.Kind == SignChanged}
	if !r.named() {
		return pipe(ctx, func(ctx context.Context, f func(*platform.Row) error) error { return r.db.Scan(ctx, q, f) }, mk, use)
	}
	return pipe(ctx, func(ctx context.Context, f func(*platform.Row) error) error { return r.byKeys(ctx, u, q, after, f) }, mk, use)
}

// renumber gives a statement that only says again what the newest one says the number
// of that one.
func (r *preparation) renumber(ctx context.Context, m *made) error {
	sigs := m.row.Signatures
	if r.sp.Kind != SignChanged { // the others were read without
		row, err := r.db.Get(ctx, m.row.Record.Ref, []string{})
		if errors.Is(err, platform.ErrNotFound) {
			return nil // it is gone since
		}
		if err != nil {
			return err
		}
		sigs = row.Signatures
	}
	if again(m.st, m.row.Revision, sigs) {
		m.st.Revision = m.row.Revision
	}
	return nil
}

// skip says why a row is not signed.
func (r *preparation) skip(u *unit, row *platform.Row) string {
	if row.Revision == absent {
		return "there is no such record, or the configuration's condition leaves it out"
	}
	has := func(name string) bool {
		return slices.ContainsFunc(row.Record.Attachments, func(a record.Attachment) bool { return a.Name == name })
	}
	switch r.sp.Kind {
	case SignChanged:
		if unchanged(u.prep, &u.c, u.id, row) {
			return "nothing that is signed has changed"
		}
	case SignAttachments:
		if len(row.Record.Attachments) == 0 {
			return "it has no attachments"
		}
	case SignSpecificAttachments:
		for _, f := range r.files[row.Record.Ref.ID()] {
			if !has(f) {
				return fmt.Sprintf("it has no attachment %.80q", f)
			}
		}
	}
	return ""
}

// some is how many named records are asked for at once.
const some = 100

// byKeys reads named records in the order of u.keys, so that a preparation can go
// on behind any of them. What is not there, or does not fulfil the condition, is
// handed on as a row without a record.
func (r *preparation) byKeys(ctx context.Context, u *unit, q platform.Query, after []string, f func(*platform.Row) error) error {
	keys := u.keys
	if after != nil {
		i, found := slices.BinarySearchFunc(keys, after, slices.Compare)
		if found {
			i++
		}
		keys = keys[i:]
	}
	q.After = nil
	for part := range slices.Chunk(keys, some) {
		q.Keys = part
		found := map[string]*platform.Row{}
		if err := r.db.Scan(ctx, q, func(row *platform.Row) error {
			found[row.Record.Ref.ID()] = row
			return nil
		}); err != nil {
			return err
		}
		for _, k := range part {
			ref := record.Ref{Table: u.c.Table, Key: k}
			row := found[ref.ID()]
			if row == nil {
				row = &platform.Row{Record: record.Record{Ref: ref}, Revision: absent}
			}
			if err := f(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// absent is the revision of a row that was named and not found.
const absent = ^uint64(0)

// put adds one statement to the batch.
func (r *preparation) put(ctx context.Context, u *unit, m *made) error {
	if m.skipped != "" {
		if r.named() { // of the others the job was not asked to sign it
			r.skips = append(r.skips, Entry{Ref: m.row.Record.Ref, Configuration: u.id, Reason: m.skipped})
		}
		return nil
	}
	encoded, index, err := r.builder.Add(m.st)
	if err != nil {
		return err
	}
	if r.batch == nil {
		if r.batch, err = r.db.Begin(ctx, r.j.ID); err != nil {
			return err
		}
	}
	if err := r.batch.Put(ctx, m.st.Ref, m.st.Revision, encoded, index); err != nil {
		return err
	}
	r.counts[u.id]++
	r.pending++
	r.front = len(r.skips)
	if r.pending >= int64(r.c.Batch) {
		return r.commit(ctx)
	}
	return nil
}

// commit makes durable what was put, tells how far the job is, and sees whether it
// shall go on.
func (r *preparation) commit(ctx context.Context) error {
	// What was skipped in front of a statement is told before it is committed, and
	// what comes behind the last one afterwards: a worker that goes on behind the
	// last committed statement meets the same again.
	if err := r.tell(ctx, r.front); err != nil {
		return err
	}
	if r.batch != nil {
		r.c.Hook("put")
		if err := r.batch.Commit(ctx); err != nil {
			return err
		}
		r.batch = nil
		r.c.Hook("committed")
	}
	r.j.Count += r.pending
	r.pending, r.front = 0, 0
	r.j.Busy = r.busy + time.Since(r.began)
	now := r.c.Now()
	if now.Sub(r.told) >= time.Second || !r.told.IsZero() && now.Before(r.told) {
		r.told = now
		if err := r.save(ctx); err != nil { // ErrConflict: somebody has paused or cancelled it
			return err
		}
	}
	if !r.until.IsZero() && !now.Before(r.until) {
		return errPause
	}
	return ctx.Err()
}

// tell keeps the first n of what was skipped.
func (r *preparation) tell(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	data, err := json.Marshal(r.skips[:n])
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	chunk := store.SecurityChunk{First: r.j.Count, Count: int64(n), Data: data}
	if err := r.step(ctx, r.j, r.p, r.j.Count, chunk); err != nil {
		return err
	}
	r.p.Entries += int64(n)
	r.skips = slices.Clone(r.skips[n:])
	return nil
}

func (r *preparation) skipped() int64 { return r.p.Entries }
