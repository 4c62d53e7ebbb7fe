package records_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	frecords "github.com/greatseal-io/greatseal/format/records"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// desk is a Signer whose quorum is the test: it signs with a real key what the test
// has endorsed.
type desk struct {
	t      testing.TB
	signer *formattest.Signer
	now    func() time.Time

	mu      sync.Mutex
	asked   []records.Ask
	open    map[statement.ID]bool
	refused map[statement.ID]string
	made    map[statement.ID]*records.Signed
	auto    bool // endorses at once
}

func newDesk(t testing.TB, now func() time.Time) *desk {
	var signer *formattest.Signer
	if t != nil {
		signer = recordtest.NewSigner(t, sigalg.P256)
	}
	return &desk{t: t, signer: signer, now: now, open: map[statement.ID]bool{}, refused: map[statement.ID]string{}, made: map[statement.ID]*records.Signed{}}
}

func (d *desk) Submit(_ context.Context, a records.Ask) (statement.ID, error) {
	b, err := a.Plan.Encode()
	if err != nil {
		return statement.ID{}, err
	}
	id := statement.ID(sha256.Sum256(b))
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open[id] { // the same plan attaches
		d.asked = append(d.asked, a)
	}
	d.open[id] = true
	return id, nil
}

func (d *desk) Collect(_ context.Context, id statement.ID, plan *format.Plan) (*records.Signed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.refused[id]; s != "" {
		return nil, &records.RefusedError{Request: id, State: s, Detail: "carol: no"}
	}
	if d.open[id] && !d.auto {
		return nil, records.ErrWaiting
	}
	if d.made[id] == nil {
		at := d.now().Truncate(time.Second)
		tbs, err := frecords.Format{}.Assemble(plan, d.signer.Identity, at, nil)
		if err != nil {
			return nil, err
		}
		r, err := frecords.SignedRoot(plan, d.signer.Identity, at, format.Signature{Value: d.signer.SignInput(d.t, tbs[0].Input())})
		if err != nil {
			return nil, err
		}
		b, err := r.Encode()
		if err != nil {
			return nil, err
		}
		d.made[id] = &records.Signed{Root: b, Evidence: []byte("{}"), At: at}
	}
	return d.made[id], nil
}

func (d *desk) Await(context.Context, statement.ID) {}

// decide endorses what is open, or refuses it.
func (d *desk) decide(refuse string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.open {
		if d.open[id] && refuse != "" {
			d.refused[id] = refuse
		}
		d.open[id] = false
	}
}

func (d *desk) requests() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.asked)
}

// app is a platform with the tables of an application.
type app struct {
	platform.Platform
	sql func(string) error // runs statements in the database, as somebody who has its password; nil in memory
}

// each runs f on every platform.
func each(t *testing.T, f func(t *testing.T, a *app)) {
	for _, p := range []struct {
		name string
		open func(testing.TB) *app
	}{{"memory", memoryApp}, {"sqlite", sqliteApp}, {"postgres", postgresApp}, {"mariadb", mariaApp}} {
		t.Run(p.name, func(t *testing.T) { f(t, p.open(t)) })
	}
}

// clock is the time of a test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a trusted and a protected instance that know the same platform.
type world struct {
	testing.TB
	clock *clock
	store *store.SQL
	desk  *desk
	app   *app
	jobs  *records.Jobs
	guard *records.Guard
	trust *record.Trust
	hook  func(string)
	mode  trust.Enforcement

	configurations map[string]record.Configuration
	trusted        *records.Instance
	found          []store.Finding
}

const table = "sys_data_source"

func configurations() map[string]record.Configuration {
	return map[string]record.Configuration{
		"sources": {Version: 1, Table: table, Purpose: record.Queue, Condition: `type == "JDBC"`, Fields: []string{"jdbc_server", "name", "sql_statement", "type"}},
	}
}

// belief is what the circle says in tests.
type belief struct {
	t    *record.Trust
	mode trust.Enforcement
}

func (b belief) Records(string) *record.Trust         { return b.t }
func (b belief) Enforcement(string) trust.Enforcement { return b.mode }

func newWorld(t testing.TB, a *app) *world {
	t.Helper()
	w := &world{TB: t, app: a, clock: &clock{t: time.Now().UTC().Truncate(time.Second)}, configurations: configurations(), mode: trust.On}
	var err error
	w.store, err = store.Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	w.must(err)
	t.Cleanup(func() { w.store.Close() })
	w.desk = newDesk(t, w.clock.now)
	w.trusted = &records.Instance{Name: "dev", Role: records.Trusted}
	w.restart()
	w.trust = &record.Trust{Instance: "prod", Issuers: []string{"dev"}, Anchors: []record.Anchor{recordtest.Anchor(w.desk.signer)}}
	w.guard, err = records.NewGuard(records.GuardConfig{
		Instance: &records.Instance{Name: "prod", Role: records.Protected, Believe: func(now time.Time) (records.Belief, error) {
			tr := *w.trust
			tr.Now, tr.Configurations = now, w.configurations
			return belief{&tr, w.mode}, nil
		}},
		Store: w.store, Platforms: map[string]platform.Platform{"erp": a}, Now: func() time.Time { w.clock.pass(2 * time.Second); return w.clock.now() },
		Notify: func(_ context.Context, f store.Finding) error { w.found = append(w.found, f); return nil },
	})
	w.must(err)
	return w
}

// restart is a new process over the same database and platform.
func (w *world) restart() {
	w.Helper()
	var err error
	w.jobs, err = records.NewJobs(records.Config{
		Instance: w.trusted, Store: w.store, Platforms: map[string]platform.Platform{"erp": w.app},
		Configurations: func() map[string]record.Configuration { return w.configurations }, Signer: w.desk, Now: w.clock.now, Rand: rand.Reader,
		Log: slog.New(slog.DiscardHandler), Batch: 7,
		Hook: func(p string) {
			if w.hook != nil {
				w.hook(p)
			}
		},
	})
	w.must(err)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// fill puts records into the table: every fifth is of another type.
func (w *world) fill(n int) {
	w.Helper()
	for i := range n {
		kind := "JDBC"
		if i%5 == 4 {
			kind = "File"
		}
		w.put(i, map[string]string{"name": fmt.Sprintf("source %d", i), "type": kind, "jdbc_server": "db.example.com",
			"sql_statement": fmt.Sprintf("SELECT %d", i), "last_run_datetime": "2026-01-01 00:00:00"})
	}
}

// put writes fields of a record, as the application would.
func (w *world) put(i int, fields map[string]string) {
	w.Helper()
	w.must(w.app.Apply(context.Background(), []platform.Change{{Op: platform.Upsert, Ref: ref(i), Fields: fields}}))
}

func (w *world) remove(i int) {
	w.Helper()
	w.must(w.app.Apply(context.Background(), []platform.Change{{Op: platform.Delete, Ref: ref(i)}}))
}

func key(i int) string { return fmt.Sprintf("%032x", i) }

func ref(i int) record.Ref { return record.Ref{Table: table, Key: []string{key(i)}} }

func (w *world) create(sp records.Spec) *records.View {
	w.Helper()
	if sp.Name == "" {
		sp.Name = "a job"
	}
	if sp.Platform == "" && len(sp.Set) == 0 {
		sp.Platform = "erp"
	}
	sp.Policy = "release"
	v, err := w.jobs.Create(context.Background(), &sp, "alice")
	w.must(err)
	return v
}

// work does what is due, until nothing is.
func (w *world) work() {
	w.Helper()
	for range 1000 {
		worked, err := w.jobs.Work(context.Background())
		w.must(err)
		if !worked {
			return
		}
	}
	w.Fatal("the work does not come to an end")
}

func (w *world) get(id string) *records.View {
	w.Helper()
	v, err := w.jobs.Get(context.Background(), id)
	w.must(err)
	return v
}

// finish endorses and works until a job is over.
func (w *world) finish(id string) *records.View {
	w.Helper()
	for range 100 {
		w.work()
		w.desk.decide("")
		w.clock.pass(5 * time.Second)
		w.work()
		if v := w.get(id); v.State.Final() {
			return v
		}
	}
	w.Fatalf("the job is %+v", w.get(id))
	return nil
}

func (w *world) signAll() *records.View {
	w.Helper()
	v := w.finish(w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}}).ID)
	if v.State != records.Done {
		w.Fatalf("the job is %s: %s", v.State, v.Error)
	}
	return v
}

// verdicts are those of a scan, by number of the record.
func (w *world) scan() (*records.ScanReport, map[string]records.Seen) {
	w.Helper()
	w.clock.pass(5 * time.Second)
	seen := map[string]records.Seen{}
	rep, err := w.guard.Scan(context.Background(), records.ScanOptions{}, func(s records.Seen) error {
		seen[s.Ref.Key[0]] = s
		return nil
	})
	w.must(err)
	return rep, seen
}

func code(err error) rejection.Code {
	if r := rejection.Of(err); r != nil {
		return r.Code
	}
	return ""
}

// A mass job signs what its configuration asks for, all at once, and says so.
func TestMassSign(t *testing.T) {
	each(t, func(t *testing.T, a *app) {
		w := newWorld(t, a)
		w.fill(40)
		v := w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}, Reason: "release 12"})
		if v.State != records.New || v.Total != -1 {
			t.Fatalf("created as %+v", v)
		}
		w.work()
		v = w.get(v.ID)
		if v.State != records.Waiting || v.Count != 32 || v.Total != 32 || v.Request == "" {
			t.Fatalf("prepared: %+v", v)
		}
		if rep, seen := w.scan(); rep.Counts[0].Missing != 32 || seen[key(0)].Verdict != records.Missing {
			t.Fatalf("readable before the quorum has endorsed: %+v", rep)
		}
		if v = w.finish(v.ID); v.State != records.Done || v.Summary.Signed["sources"] != 32 || v.Summary.Changed != 0 || !v.Summary.Checked {
			t.Fatalf("finished: %+v", v)
		}
		rep, seen := w.scan()
		if !rep.Clean() || rep.Counts[0].Valid != 32 || len(seen) != 32 {
			t.Fatalf("after signing: %+v", rep)
		}
		log, err := w.jobs.Log(t.Context(), v.ID, 30, 10)
		w.must(err)
		if len(log) != 2 || log[0].Index != 30 || log[0].Configuration != "sources" || log[0].Revision != 1 {
			t.Fatalf("log %+v", log)
		}
		// Again, and nothing has changed: the same revision, so that both signatures count.
		v = w.signAll()
		if log, err = w.jobs.Log(t.Context(), v.ID, 0, 1); err != nil || log[0].Revision != 1 {
			t.Fatalf("log %+v, %v", log, err)
		}
		if rep, _ := w.scan(); !rep.Clean() {
			t.Fatalf("signed twice: %+v", rep)
		}
	})
}

// What was endorsed is what was planned: a record that changed meanwhile does not
// verify, the job says so and offers to sign again (invariant 2).
func TestChangedMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, a *app) {
		w := newWorld(t, a)
		w.fill(10)
		v := w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}})
		w.work()
		w.put(3, map[string]string{"sql_statement": "DROP TABLE orders"})
		w.put(2, map[string]string{"last_run_datetime": "2026-02-02 00:00:00"}) // not signed
		w.remove(5)
		if v = w.finish(v.ID); v.State != records.Done || v.Summary.Changed != 2 {
			t.Fatalf("finished: %+v", v)
		}
		rep, seen := w.scan()
		if rep.Clean() || seen[key(3)].Verdict != records.Invalid || seen[key(3)].Reason.Code != rejection.FieldChanged || seen[key(3)].Reason.Subject != "sql_statement" || seen[key(2)].Verdict != records.Valid {
			t.Fatalf("%+v", seen)
		}
		if _, err := w.guard.MayEnforce(t.Context()); !errors.Is(err, records.ErrNotClean) {
			t.Errorf("enforcement could be switched on: %v", err)
		}
		again, err := w.jobs.SignAgain(t.Context(), v.ID, "alice")
		w.must(err)
		if again = w.finish(again.ID); again.State != records.Done || again.Summary.Signed["sources"] != 1 || again.Summary.Skipped != 1 {
			t.Fatalf("signed again: %+v", again)
		}
		skipped, err := w.jobs.Skipped(t.Context(), again.ID, 0, 10)
		if err != nil || len(skipped) != 1 || !skipped[0].Ref.Equal(ref(5)) || skipped[0].Reason == "" {
			t.Fatalf("skipped %+v, %v", skipped, err)
		}
		if rep, err := w.guard.MayEnforce(t.Context()); err != nil || !rep.Clean() {
			t.Errorf("after signing again: %+v, %v", rep, err)
		}
	})
}

// On a protected instance nobody signs, whoever asks (invariant 1; threat 17).
func TestProtectedSignsNothing(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(3)
	done := w.signAll()
	w.trusted.Role = records.Protected
	refused := func(what string, err error) {
		t.Helper()
		if code(err) != rejection.NotProtected {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := w.jobs.Create(t.Context(), &records.Spec{Kind: records.SignRecords, Name: "x", Platform: "erp", Policy: "release", Configurations: []string{"sources"}}, "admin")
	refused("create", err)
	_, err = w.jobs.SignAgain(t.Context(), done.ID, "admin")
	refused("sign again", err)
	refused("run", w.jobs.Run(t.Context()))
	refused("sign on change", w.jobs.SignOnChange(t.Context(), records.OnChange{Platform: "erp", Policy: "release"}))
	w.trusted.Role = records.Trusted
	late := w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}})
	w.trusted.Role = records.Protected // meanwhile
	asked := w.desk.requests()
	for range 5 {
		w.jobs.Work(t.Context()) // its error is in the job
	}
	if late = w.get(late.ID); late.State != records.Failed || w.desk.requests() != asked {
		t.Errorf("a job on an instance that became protected is %s, %d requests were made", late.State, w.desk.requests()-asked)
	}
	// The circle alone makes an instance protected, whatever its configuration says.
	i := &records.Instance{Name: "x", Role: records.Standalone, Member: func() (trust.Role, bool) { return trust.Protected, true }}
	refused("by the circle", i.MaySign())
	if i.Enforcement(time.Now()) != trust.On {
		t.Error("a protected instance without a circle that can be believed enforces nothing")
	}
}

// A disapproved job fails, and leaves nothing behind.
func TestDisapproved(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(3)
	v := w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}})
	w.work()
	w.desk.decide("disapproved")
	w.clock.pass(time.Minute)
	w.work()
	if v = w.get(v.ID); v.State != records.Failed || v.Error == "" {
		t.Fatalf("%+v", v)
	}
	if p, err := w.app.Progress(t.Context(), v.ID); err != nil || p.Count != 0 {
		t.Errorf("statements of a job that failed are left: %+v, %v", p, err)
	}
}

func TestCancelPauseResume(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(40)
	v := w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}})
	once := sync.Once{}
	w.hook = func(p string) {
		if p == "committed" {
			once.Do(func() {
				w.clock.pass(2 * time.Second) // time to look
				_, err := w.jobs.Pause(t.Context(), v.ID)
				w.must(err)
			})
		}
	}
	w.work()
	if v = w.get(v.ID); v.State != records.Paused {
		t.Fatalf("paused: %+v", v)
	}
	w.clock.pass(3 * time.Hour)
	w.work()
	if v = w.get(v.ID); v.State != records.Paused || w.desk.requests() != 0 {
		t.Fatalf("a paused job went on: %+v", v)
	}
	_, err := w.jobs.Resume(t.Context(), v.ID)
	w.must(err)
	w.work()
	if v = w.get(v.ID); v.State != records.Waiting || v.Count != 32 {
		t.Fatalf("resumed: %+v", v)
	}
	if _, err := w.jobs.Pause(t.Context(), v.ID); !errors.Is(err, records.ErrState) {
		t.Errorf("pausing a job that waits: %v", err)
	}
	_, err = w.jobs.Cancel(t.Context(), v.ID, "alice")
	w.must(err)
	w.work()
	if p, err := w.app.Progress(t.Context(), v.ID); err != nil || p.Count != 0 {
		t.Errorf("statements of a cancelled job are left: %+v, %v", p, err)
	}
	if _, err := w.jobs.Cancel(t.Context(), v.ID, "alice"); !errors.Is(err, records.ErrState) {
		t.Errorf("cancelled twice: %v", err)
	}
	w.desk.decide("")
	w.clock.pass(time.Minute)
	w.work()
	if rep, _ := w.scan(); rep.Counts[0].Valid != 0 {
		t.Errorf("a cancelled job signed: %+v", rep)
	}
}

// A job works in its window, pauses at its end and goes on in the next.
func TestWindowPauses(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.clock.t = time.Date(2027, 1, 4, 21, 0, 0, 0, time.UTC)
	w.fill(40)
	v := w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}, Windows: []records.Window{{Start: 22 * 60, End: 23 * 60}}})
	w.work()
	if v = w.get(v.ID); v.State != records.Paused || !v.Next.Equal(time.Date(2027, 1, 4, 22, 0, 0, 0, time.UTC)) {
		t.Fatalf("before the window: %+v", v)
	}
	w.clock.pass(time.Hour)
	w.hook = func(p string) {
		if p == "committed" {
			w.clock.pass(40 * time.Minute)
		}
	}
	w.work()
	if v = w.get(v.ID); v.State != records.Paused || !v.Next.Equal(time.Date(2027, 1, 5, 22, 0, 0, 0, time.UTC)) || v.Count == 0 || v.Count >= 32 {
		t.Fatalf("after the window: %+v", v)
	}
	w.hook = nil
	w.clock.t = v.Next
	w.work()
	if v = w.get(v.ID); v.State != records.Waiting || v.Count != 32 {
		t.Fatalf("in the next window: %+v", v)
	}
}

func TestSpecificRecords(t *testing.T) {
	each(t, func(t *testing.T, a *app) {
		w := newWorld(t, a)
		w.fill(30)
		var refs []record.Ref
		for _, i := range []int{20, 3, 4, 3, 77, 12, 0} { // 4 is no JDBC source, 77 is not there
			refs = append(refs, ref(i))
		}
		v := w.finish(w.create(records.Spec{Kind: records.SignSpecificRecords, Refs: refs}).ID)
		if v.State != records.Done || v.Count != 4 || v.Summary.Skipped != 2 {
			t.Fatalf("%+v", v)
		}
		rep, seen := w.scan()
		if rep.Counts[0].Valid != 4 || seen[key(20)].Verdict != records.Valid || seen[key(1)].Verdict != records.Missing {
			t.Fatalf("%+v", rep)
		}
	})
}

func TestSpecIsChecked(t *testing.T) {
	one := []record.Ref{ref(1)}
	for name, sp := range map[string]records.Spec{
		"no kind":              {Name: "n", Platform: "erp", Policy: "p"},
		"no name":              {Kind: records.SignRecords, Platform: "erp", Policy: "p", Configurations: []string{"sources"}},
		"no policy":            {Kind: records.SignRecords, Name: "n", Platform: "erp", Configurations: []string{"sources"}},
		"no platform":          {Kind: records.SignRecords, Name: "n", Policy: "p", Configurations: []string{"sources"}},
		"no configuration":     {Kind: records.SignRecords, Name: "n", Platform: "erp", Policy: "p"},
		"unknown":              {Kind: records.SignRecords, Name: "n", Platform: "erp", Policy: "p", Configurations: []string{"other"}},
		"twice":                {Kind: records.SignRecords, Name: "n", Platform: "erp", Policy: "p", Configurations: []string{"sources", "sources"}},
		"no attachments":       {Kind: records.SignAttachments, Name: "n", Platform: "erp", Policy: "p", Configurations: []string{"sources"}},
		"nobody named":         {Kind: records.SignSpecificRecords, Name: "n", Platform: "erp", Policy: "p"},
		"named for nothing":    {Kind: records.SignRecords, Name: "n", Platform: "erp", Policy: "p", Configurations: []string{"sources"}, Refs: one},
		"a filter for nothing": {Kind: records.SignSpecificRecords, Name: "n", Platform: "erp", Policy: "p", Refs: one, Filter: "true"},
		"a foreign table":      {Kind: records.SignSpecificRecords, Name: "n", Platform: "erp", Policy: "p", Refs: []record.Ref{{Table: "orders", Key: []string{"1"}}}},
		"a set":                {Kind: records.SignSet, Name: "n", Policy: "p"},
		"expired":              {Kind: records.SignRecords, Name: "n", Platform: "erp", Policy: "p", Configurations: []string{"sources"}, NotBefore: time.Unix(9, 0), Expires: time.Unix(9, 0)},
		"window":               {Kind: records.SignRecords, Name: "n", Platform: "erp", Policy: "p", Configurations: []string{"sources"}, Windows: []records.Window{{Start: -1}}},
	} {
		if err := sp.Check(configurations()); !errors.Is(err, records.ErrSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
