package records

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
	"github.com/greatseal-io/greatseal/rejection"
)

// The states of a set that was brought to this instance.
const (
	Loaded    = "loaded"
	Previewed = "previewed"
	Committed = "committed"
)

// Decision is what a person decided of one update.
type Decision string

// The decisions. Accept answers problems; it makes nothing valid.
const (
	Accept Decision = "accept"
	Skip   Decision = "skip"
)

// Preview is what an import would do, and what is wrong with it.
type Preview struct {
	Counts    map[updateset.Status]int `json:"counts"`
	Findings  []updateset.Finding      `json:"findings"` // of everything that is protected, and what is refused
	Problems  []updateset.Problem      `json:"problems"`
	Decisions map[int]Decision         `json:"decisions,omitzero"` // by the update's index
	At        time.Time                `json:"at"`
}

// Open lists the updates that somebody must decide on before the set can be
// committed: problems without a decision, and what is refused and not skipped.
func (p *Preview) Open() []int {
	var out []int
	add := func(i int) {
		if !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	for _, f := range p.Findings {
		if f.Status.Refused() && p.Decisions[f.Index] != Skip {
			add(f.Index)
		}
	}
	for _, x := range p.Problems {
		if p.Decisions[x.Index] == "" {
			add(x.Index)
		}
	}
	slices.Sort(out)
	return out
}

// skips are the updates that are left out.
func (p *Preview) skips() []int {
	var out []int
	for i, d := range p.Decisions {
		if d == Skip {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

// SetView is a set that was brought to this instance.
type SetView struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Platform string    `json:"platform"`
	Who      string    `json:"who"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Preview  *Preview  `json:"preview,omitzero"`
}

func setView(r *store.RetrievedSet) (*SetView, error) {
	v := &SetView{ID: r.ID, Name: r.Name, State: r.State, Platform: r.Platform, Who: r.Who, Created: r.Created, Updated: r.Updated}
	if len(r.Preview) > 0 {
		v.Preview = &Preview{}
		if err := json.Unmarshal(r.Preview, v.Preview, json.RejectUnknownMembers(true)); err != nil {
			return nil, fmt.Errorf("records: set %s was altered in the database: %w", r.ID, err)
		}
	}
	return v, nil
}

// Load reads a set and keeps it. One that is malformed is refused with one error,
// and nothing is kept.
func (g *Guard) Load(ctx context.Context, rand io.Reader, on string, data []byte, who string) (*SetView, error) {
	if _, err := g.platform(on); err != nil {
		return nil, err
	}
	if len(data) > MaxSet {
		return nil, rejection.New(rejection.PayloadTooLarge, "update set", fmt.Sprintf("more than %d bytes", MaxSet))
	}
	set, err := openSet(ctx, data)
	if err != nil {
		return nil, err
	}
	id, err := newID(rand)
	if err != nil {
		return nil, err
	}
	now := g.c.Now()
	r := &store.RetrievedSet{ID: id, Name: set.Info().Name, State: Loaded, Platform: on, Who: who, Data: data, Created: now, Updated: now}
	if err := g.c.Store.PutSet(ctx, r); err != nil {
		return nil, err
	}
	return setView(r)
}

// Sets lists the sets, newest first, without previews; Set shows one.
func (g *Guard) Sets(ctx context.Context, limit int) ([]*SetView, error) {
	rs, err := g.c.Store.Sets(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := make([]*SetView, len(rs))
	for i, r := range rs {
		if out[i], err = setView(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Set shows one set with its preview.
func (g *Guard) Set(ctx context.Context, id string) (*SetView, error) {
	r, err := g.c.Store.Set(ctx, id)
	if err != nil {
		return nil, err
	}
	return setView(r)
}

// importing is one set in hand.
type importing struct {
	*Guard
	r      *store.RetrievedSet
	set    *updateset.Set
	db     platform.Platform
	tables map[string]platform.Table
	v      *record.Verifier
	policy updateset.Policy
}

func (g *Guard) open(ctx context.Context, id string) (*importing, error) {
	r, err := g.c.Store.Set(ctx, id)
	if err != nil {
		return nil, err
	}
	w := &importing{Guard: g, r: r, tables: map[string]platform.Table{}}
	if w.db, err = g.platform(r.Platform); err != nil {
		return nil, err
	}
	if w.set, err = openSet(ctx, r.Data); err != nil {
		return nil, err
	}
	ts, err := w.db.Tables(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range ts {
		w.tables[t.Name] = t
	}
	var trust *record.Trust
	if w.v, trust, err = g.judge(); err != nil {
		return nil, err
	}
	up, err := extends(ctx, w.db, ts)
	if err != nil {
		return nil, err
	}
	rules, err := updateset.NewRules(trust.Configurations, up)
	if err != nil {
		return nil, err
	}
	w.policy = updateset.Policy{Rules: rules, Marks: marks{g.c.Store, true}, Current: w.current}
	return w, nil
}

// current is the record that the platform has now, or nil.
func (w *importing) current(ctx context.Context, ref record.Ref) (*record.Record, error) {
	if _, ok := w.tables[ref.Table]; !ok {
		return nil, nil
	}
	row, err := w.db.Get(ctx, ref, nil)
	if errors.Is(err, platform.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &row.Record, nil
}

// Table implements updateset.Target.
func (w *importing) Table(_ context.Context, name string) (bool, error) {
	_, ok := w.tables[name]
	return ok, nil
}

// Updated implements updateset.Target.
func (w *importing) Updated(ctx context.Context, ref record.Ref) (string, bool, error) {
	rec, err := w.current(ctx, ref)
	if err != nil || rec == nil {
		return "", false, err
	}
	return rec.Fields["sys_updated_on"], true, nil
}

// Refers implements updateset.Target: a dictionary says what a field refers to, where
// the platform has one.
func (w *importing) Refers(ctx context.Context, table, field string) (string, bool, error) {
	if _, ok := w.tables["sys_dictionary"]; !ok {
		return "", false, nil
	}
	out := ""
	err := w.where(ctx, "sys_dictionary", map[string]string{"name": table, "element": field, "internal_type": "reference"}, []string{"reference"}, func(r *platform.Row) error {
		out = r.Record.Fields["reference"]
		return nil
	})
	return out, out != "", err
}

// Pending implements updateset.Target: the platform's own update sets say so, where it
// has any.
func (w *importing) Pending(ctx context.Context, ref record.Ref) (bool, error) {
	if _, ok := w.tables["sys_update_xml"]; !ok || len(ref.Key) != 1 {
		return false, nil
	}
	pending := false
	err := w.where(ctx, "sys_update_xml", map[string]string{"name": ref.Table + "_" + ref.Key[0]}, []string{"update_set"}, func(r *platform.Row) error {
		id := r.Record.Fields["update_set"]
		if id == "" {
			return nil
		}
		set, err := w.current(ctx, record.Ref{Table: "sys_update_set", Key: []string{id}})
		if err == nil && set != nil && set.Fields["state"] == "in progress" {
			pending = true
		}
		return err
	})
	return pending, err
}

// where reads the records of a table whose fields have given values.
func (w *importing) where(ctx context.Context, table string, is map[string]string, fields []string, f func(*platform.Row) error) error {
	for name := range is {
		if !slices.ContainsFunc(w.tables[table].Columns, func(c platform.Column) bool { return c.Name == name }) {
			return nil
		}
	}
	for _, name := range fields {
		if !slices.ContainsFunc(w.tables[table].Columns, func(c platform.Column) bool { return c.Name == name }) {
			return nil
		}
	}
	source := ""
	for name, value := range is {
		if source != "" {
			source += " && "
		}
		source += name + " == " + strconv.QuoteToASCII(value)
	}
	cond, err := condition.Compile(source)
	if err != nil {
		return err
	}
	return w.db.Scan(ctx, platform.Query{Table: table, Fields: fields, Where: cond}, f)
}

// Preview judges a set against the circle and the platform. It changes nothing but
// what is kept of the set; decisions on updates that it still finds stay.
func (g *Guard) Preview(ctx context.Context, id string) (*SetView, error) {
	w, err := g.open(ctx, id)
	if err != nil {
		return nil, err
	}
	if w.r.State == Committed {
		return nil, fmt.Errorf("%w: the set is committed", ErrState)
	}
	before, err := setView(w.r)
	if err != nil {
		return nil, err
	}
	p := &Preview{Findings: []updateset.Finding{}, Problems: []updateset.Problem{}, At: g.c.Now()}
	seen, err := updateset.Verify(ctx, w.set, w.v, w.policy, func(f *updateset.Finding) error {
		if f.Status != updateset.NotProtected && f.Status != updateset.Superseded {
			p.Findings = append(p.Findings, *f)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.Counts = seen.Counts
	if err := updateset.Problems(ctx, w.set, w, func(x *updateset.Problem) error {
		p.Problems = append(p.Problems, *x)
		return nil
	}); err != nil {
		return nil, err
	}
	if before.Preview != nil {
		p.Decisions = before.Preview.Decisions
	}
	w.r.State = Previewed
	return w.keep(ctx, p)
}

func (w *importing) keep(ctx context.Context, p *Preview) (*SetView, error) {
	b, err := json.Marshal(p, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	w.r.Preview, w.r.Updated = b, w.c.Now()
	if err := w.c.Store.StepSet(ctx, w.r); err != nil {
		return nil, err
	}
	return setView(w.r)
}

// Decide notes what somebody decided. What does not verify can be skipped, never
// accepted.
func (g *Guard) Decide(ctx context.Context, id string, decisions map[int]Decision) (*SetView, error) {
	r, err := g.c.Store.Set(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := setView(r)
	if err != nil {
		return nil, err
	}
	if v.State != Previewed || v.Preview == nil {
		return nil, fmt.Errorf("%w: the set is %s: preview it first", ErrState, v.State)
	}
	p := v.Preview
	if p.Decisions == nil {
		p.Decisions = map[int]Decision{}
	}
	for i, d := range decisions {
		if d != Accept && d != Skip {
			return nil, fmt.Errorf("records: decision %.20q: want accept or skip", d)
		}
		for _, f := range p.Findings {
			if f.Index == i && f.Status.Refused() && d == Accept {
				return nil, fmt.Errorf("records: update %s cannot be accepted: %w", f.Update, f.Reason)
			}
		}
		p.Decisions[i] = d
	}
	return (&importing{Guard: g, r: r}).keep(ctx, p)
}

// Difference is one field of a comparison.
type Difference struct {
	Table  string `json:"table"`
	Key    string `json:"key"`
	Field  string `json:"field"`
	Here   string `json:"here"`
	Update string `json:"update"`
}

// Compare shows what an update would change on the platform.
func (g *Guard) Compare(ctx context.Context, id string, index int) ([]Difference, error) {
	w, err := g.open(ctx, id)
	if err != nil {
		return nil, err
	}
	out := []Difference{}
	err = w.set.Updates(ctx, func(u *updateset.Update) error {
		if u.Index != index {
			return nil
		}
		for i := range u.Operations {
			o := &u.Operations[i]
			if o.SysID == "" || o.Action != updateset.Upsert && o.Action != updateset.Delete {
				continue
			}
			rec, err := w.current(ctx, o.Ref())
			if err != nil {
				return err
			}
			here := map[string]string{}
			if rec != nil {
				here = rec.Fields
			}
			var names []string
			for n := range o.Fields {
				names = append(names, n)
			}
			slices.Sort(names)
			for _, n := range names {
				then := o.Fields[n]
				if o.Action == updateset.Delete {
					then = ""
				}
				if here[n] != then {
					out = append(out, Difference{o.Table, o.SysID, n, here[n], then})
				}
			}
		}
		return nil
	})
	return out, err
}

// Commit applies a set whose preview leaves nothing open: in one transaction, and
// only what verifies now, from the bytes that are applied.
func (g *Guard) Commit(ctx context.Context, id string) (*SetView, error) {
	w, err := g.open(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := setView(w.r)
	if err != nil {
		return nil, err
	}
	if v.State != Previewed || v.Preview == nil {
		return nil, fmt.Errorf("%w: the set is %s: preview it first", ErrState, v.State)
	}
	if open := v.Preview.Open(); len(open) > 0 {
		return nil, fmt.Errorf("%w: %d updates wait for a decision, the first at place %d", ErrState, len(open), open[0])
	}
	seen, err := updateset.Verify(ctx, w.set, w.v, w.policy, nil) // what is believed may have changed
	if err != nil {
		return nil, err
	}
	approved, err := seen.Approve(v.Preview.skips()...)
	if err != nil {
		return nil, err
	}
	c := &commit{importing: w}
	if err := approved.Each(ctx, func(e *updateset.Effect) error { return c.add(ctx, e) }); err != nil {
		return nil, err
	}
	if len(c.changes) > 0 {
		if err := w.db.Apply(ctx, c.changes); err != nil {
			return nil, err
		}
	}
	// Whoever dies here commits again: the same changes leave the same records.
	if err := g.c.Store.Raise(ctx, c.refs, c.revisions); err != nil {
		return nil, err
	}
	w.r.State = Committed
	return w.keep(ctx, v.Preview)
}

// commit gathers what Apply is to do.
type commit struct {
	*importing
	changes   []platform.Change
	refs      [][]byte
	revisions []uint64
}

// The tables in which an application's own attachments stand; a record's attachments
// come with the record.
const (
	attachmentTable = "sys_attachment"
	chunkTable      = "sys_attachment_doc"
)

func (c *commit) add(ctx context.Context, e *updateset.Effect) error {
	o := e.Operation
	ref := o.Ref()
	fail := func(format string, args ...any) error {
		return fmt.Errorf("records: update %s: "+format+"; skip it, or have the platform changed", append([]any{e.Update.Name}, args...)...)
	}
	if o.Table == attachmentTable || o.Table == chunkTable {
		if o.Table == attachmentTable {
			if table, id := o.Owner(); !c.set.Has(record.Ref{Table: table, Key: []string{id}}) && o.Action == updateset.Upsert {
				return fail("an attachment comes without its record")
			}
		}
		return nil
	}
	if o.Action.Bulk() || o.SysID == "" {
		return fail("the operation %s on %s names no record", o.Action, o.Table)
	}
	t, ok := c.tables[o.Table]
	if !ok {
		return fail("the platform has no table %s", o.Table)
	}
	switch o.Action {
	case updateset.Upsert:
		ch := platform.Change{Op: platform.Upsert, Ref: ref, Fields: map[string]string{}, Signatures: e.Signatures}
		var signed record.Configuration
		if e.Trusted != nil {
			signed = e.Trusted.Configuration()
		}
		for name, value := range e.Write {
			at := slices.IndexFunc(t.Columns, func(col platform.Column) bool { return col.Name == name })
			switch {
			case slices.Contains(t.Key, name):
			case at >= 0 && t.Columns[at].Written:
				ch.Fields[name] = value
			case value != "" && signed.Covers(name):
				return fail("the platform's table %s has no field %s, which is signed", o.Table, name)
			}
		}
		for i := range o.Attachments {
			a := &o.Attachments[i]
			ch.Attachments = append(ch.Attachments, platform.File{Name: a.Name, Type: a.Type, Size: a.Size, Open: a.Open})
		}
		if signed.Attachments && ch.Attachments == nil { // those that are here are not signed
			if here, err := c.current(ctx, ref); err != nil {
				return err
			} else if here != nil && len(here.Attachments) > 0 {
				ch.Attachments = []platform.File{}
			}
		}
		c.changes = append(c.changes, ch)
	case updateset.Delete:
		if here, err := c.current(ctx, ref); err != nil {
			return err
		} else if here != nil {
			c.changes = append(c.changes, platform.Change{Op: platform.Delete, Ref: ref})
		}
		if len(e.Signatures) > 0 {
			c.changes = append(c.changes, platform.Change{Op: platform.Sign, Ref: ref, Signatures: e.Signatures})
		}
	default:
		return fail("the operation %s is not known", o.Action)
	}
	switch {
	case e.Trusted != nil:
		c.raise([]byte(ref.ID()), e.Trusted.Statement().Revision)
	case e.Deletion != nil:
		c.raise([]byte(ref.ID()), e.Deletion.Statement().Revision)
		c.raise(removedMark(ref), e.Deletion.Statement().Revision)
	}
	return nil
}

func (c *commit) raise(ref []byte, revision uint64) {
	c.refs, c.revisions = append(c.refs, ref), append(c.revisions, revision)
}
