package records

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// OnChange says that records of a platform are queued for signing by themselves when
// they change.
type OnChange struct {
	Platform       string
	Policy         string        // signing policy of the charter; its quorum applies
	Configurations []string      // IDs; none: all
	Quiet          time.Duration // how long changes are gathered before they make a job; 0: 30 s
	Interval       time.Duration // between polls, where the database does not call
	Batch          int           // records of one job; 0: 10 000
}

// SignOnChange watches a platform and makes jobs for what was changed, until ctx
// ends. What changes while changes are gathered comes into the next job, once,
// however often it changed. A change is forgotten only when its job is in the store:
// after a crash a record may be signed twice, never not at all.
func (s *Jobs) SignOnChange(ctx context.Context, o OnChange) error {
	if err := s.c.Instance.MaySign(); err != nil {
		return err
	}
	db, err := s.platform(o.Platform)
	if err != nil {
		return err
	}
	if o.Quiet <= 0 {
		o.Quiet = 30 * time.Second
	}
	if o.Batch <= 0 || o.Batch > MaxRefs {
		o.Batch = 10_000
	}
	tables, err := s.tablesOf(ctx, db, o.Configurations)
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		return specError("sign on change: %s has none of the configurations' tables", o.Platform)
	}
	w := platform.Watch{Name: "greatseal-sign", Tables: tables, Interval: o.Interval, Batch: o.Batch}
	return db.Watch(ctx, w, func(es []platform.Event) error {
		t := time.NewTimer(o.Quiet)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		return s.enqueue(ctx, db, &o, es)
	})
}

// tablesOf are the tables of configurations that a platform has, sorted.
func (s *Jobs) tablesOf(ctx context.Context, db platform.Platform, ids []string) ([]string, error) {
	ts, err := db.Tables(ctx)
	if err != nil {
		return nil, err
	}
	all := s.configurations()
	for _, id := range ids {
		if _, ok := all[id]; !ok {
			return nil, specError("the charter has no signature configuration %.80q", id)
		}
	}
	var out []string
	for id, c := range all {
		if len(ids) > 0 && !slices.Contains(ids, id) || slices.Contains(out, c.Table) {
			continue
		}
		if slices.ContainsFunc(ts, func(t platform.Table) bool { return t.Name == c.Table }) {
			out = append(out, c.Table)
		}
	}
	slices.Sort(out)
	return out, nil
}

// enqueue makes a job of those events after which something that is signed is
// another: a field that changes by itself causes none.
func (s *Jobs) enqueue(ctx context.Context, db platform.Platform, o *OnChange, es []platform.Event) error {
	if err := s.c.Instance.MaySign(); err != nil {
		return err
	}
	byTable := map[string][][]string{}
	for _, e := range es {
		if e.Op == platform.Changed {
			byTable[e.Ref.Table] = append(byTable[e.Ref.Table], e.Ref.Key)
		}
	}
	sp := &Spec{Kind: SignChanged, Name: "changed on " + o.Platform, Platform: o.Platform, Policy: o.Policy, Configurations: o.Configurations}
	all := s.configurations()
	need := map[string]record.Ref{}
	for id, c := range all {
		keys := byTable[c.Table]
		if len(keys) == 0 || len(o.Configurations) > 0 && !slices.Contains(o.Configurations, id) {
			continue
		}
		cond, err := compile(c.Condition)
		if err != nil {
			return specError("configuration %s: %v", id, err)
		}
		prep, err := c.Prepare(id)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(keys, some) {
			q := platform.Query{Table: c.Table, Fields: c.Fields, Where: cond, Keys: part, Attachments: c.Attachments, Signatures: true}
			if err := db.Scan(ctx, q, func(r *platform.Row) error {
				if !unchanged(prep, &c, id, r) {
					need[r.Record.Ref.ID()] = r.Record.Ref
				}
				return nil
			}); err != nil {
				return err
			}
		}
	}
	for _, r := range need {
		sp.Refs = append(sp.Refs, r)
	}
	if len(sp.Refs) == 0 {
		return nil
	}
	slices.SortFunc(sp.Refs, record.Ref.Compare)
	if err := sp.Check(all); err != nil {
		return err
	}
	id, err := newID(s.c.Rand)
	if err != nil {
		return err
	}
	v, err := s.create(ctx, id, sp, "sign on change")
	if err == nil {
		s.c.Log.Info("changed records are queued for signing", "job", v.ID, "records", len(sp.Refs), "platform", o.Platform)
	}
	return err
}

// unchanged reports whether the newest signature under the configuration is over the
// record as it is.
func unchanged(prep *record.Prepared, c *record.Configuration, id string, r *platform.Row) bool {
	var newest *record.Statement
	for i := range r.Signatures {
		st, err := record.DecodeStatement(r.Signatures[i].Statement)
		if err == nil && st.Configuration == c.Ref(id) && (newest == nil || st.Revision > newest.Revision) {
			newest = st
		}
	}
	if newest == nil || newest.Deleted || !newest.Ref.Equal(r.Record.Ref) {
		return false
	}
	now, err := prep.Statement(&r.Record, record.StatementOptions{Issuer: newest.Issuer, Revision: newest.Revision})
	return err == nil && slices.Equal(now.Fields, newest.Fields) && slices.Equal(now.Attachments, newest.Attachments)
}

// TamperWatch says what a Guard watches.
type TamperWatch struct {
	Platform string
	Interval time.Duration // between polls, where the database does not call
}

// Watch reports, until ctx ends, records that no longer verify after they changed,
// and protective records that were removed. It changes nothing.
func (g *Guard) Watch(ctx context.Context, w TamperWatch) error {
	db, err := g.platform(w.Platform)
	if err != nil {
		return err
	}
	ts, err := db.Tables(ctx)
	if err != nil {
		return err
	}
	_, trust, err := g.judge()
	if err != nil {
		return err
	}
	var tables []string
	for _, c := range with(trust.Configurations) {
		if !slices.Contains(tables, c.Table) && slices.ContainsFunc(ts, func(t platform.Table) bool { return t.Name == c.Table }) {
			tables = append(tables, c.Table)
		}
	}
	if len(tables) == 0 {
		return specError("%s has none of the tables that are protected", w.Platform)
	}
	slices.Sort(tables)
	name := sha256.Sum256([]byte(strings.Join(tables, "\x00"))) // other tables: another watcher, from now on
	return db.Watch(ctx, platform.Watch{Name: "greatseal-tamper-" + hex.EncodeToString(name[:4]), Tables: tables, Interval: w.Interval}, func(es []platform.Event) error {
		for _, e := range es {
			if err := g.Look(ctx, w.Platform, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// Look judges one changed record, and reports what does not verify.
func (g *Guard) Look(ctx context.Context, on string, e platform.Event) error {
	v, trust, err := g.judge()
	if err != nil {
		return err
	}
	db, err := g.platform(on)
	if err != nil {
		return err
	}
	row, err := db.Get(ctx, e.Ref, nil)
	if errors.Is(err, platform.ErrNotFound) {
		return g.gone(ctx, trust, e.Ref)
	}
	if err != nil {
		return err
	}
	asked, out := false, []string{}
	for id, c := range with(trust.Configurations) {
		if c.Table != e.Ref.Table {
			continue
		}
		cond, err := compile(c.Condition)
		if err != nil {
			return fmt.Errorf("records: configuration %s: %w", id, err)
		}
		if cond != nil {
			if ok, err := cond.Eval(row.Record.Fields); err == nil && !ok {
				out = append(out, id)
				continue
			}
		}
		asked = true
		if _, err := v.VerifyUnder(ctx, &row.Record, id, row.Signatures, Marks(g.c.Store)); err != nil {
			return g.find(ctx, finding(g.c.Now(), "watch", e.Ref, err))
		}
	}
	if asked || len(out) == 0 {
		return nil
	}
	return g.slipped(ctx, v, row, out)
}

// slipped judges a record that no configuration asks for as it stands, and that the
// conditions of some leave out. One that was signed, or verified here before, is not
// let go of because somebody changed what the condition looks at.
func (g *Guard) slipped(ctx context.Context, v *record.Verifier, row *platform.Row, ids []string) error {
	ref := row.Record.Ref
	mark, err := g.c.Store.Mark(ctx, []byte(ref.ID()))
	if err != nil {
		return err
	}
	if mark == 0 && len(row.Signatures) == 0 {
		return nil
	}
	slices.Sort(ids)
	var why error
	for _, id := range ids {
		_, err := v.VerifyUnder(ctx, &row.Record, id, row.Signatures, marks{g.c.Store, true})
		if err == nil {
			return nil
		}
		if r := rejection.Of(err); why == nil || r == nil || r.Code != rejection.SigMissing {
			why = err
		}
	}
	return g.find(ctx, finding(g.c.Now(), "watch", ref, why))
}

// removedMark is the name of the mark that an import leaves for a signed removal: the
// revision of the removal's statement.
func removedMark(ref record.Ref) []byte { return []byte("removed " + ref.ID()) }

// gone judges a removal: only an import of a signed one leaves its mark.
func (g *Guard) gone(ctx context.Context, trust *record.Trust, ref record.Ref) error {
	protected := false
	for _, c := range with(trust.Configurations) {
		protected = protected || c.Table == ref.Table
	}
	if !protected {
		return nil
	}
	removed, err := g.c.Store.Mark(ctx, removedMark(ref))
	if err != nil {
		return err
	}
	last, err := g.c.Store.Mark(ctx, []byte(ref.ID()))
	if err != nil {
		return err
	}
	if removed > 0 && removed >= last {
		return nil
	}
	detail := "a record was removed without a signed statement that it should be"
	if last == 0 {
		detail += "; it was never seen with a valid signature"
	}
	return g.find(ctx, store.Finding{At: g.c.Now(), Source: "watch", Table: ref.Table, Ref: []byte(ref.ID()), Code: "DELETE_UNSIGNED", Subject: ref.Table, Detail: detail})
}
