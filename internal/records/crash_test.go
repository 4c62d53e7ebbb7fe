package records_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// died is what a worker that is killed leaves of itself.
type died struct{ at string }

// kill lets the worker die at the n-th time that it comes to a point, and returns
// whether it did.
func (w *world) kill(point string, n int) bool {
	w.Helper()
	count := 0
	w.hook = func(p string) {
		if p == point {
			if count++; count == n {
				panic(died{p})
			}
		}
	}
	dead := false
	for range 200 {
		worked := false
		func() {
			defer func() {
				switch r := recover().(type) {
				case nil:
				case died:
					dead = true
				default:
					panic(r)
				}
			}()
			var err error
			worked, err = w.jobs.Work(context.Background())
			w.must(err)
		}()
		if dead || !worked {
			break
		}
	}
	w.hook = nil
	return dead
}

// statements are those of a job, in order.
func (w *world) statements(id string) [][]byte {
	w.Helper()
	var out [][]byte
	w.must(w.app.Statements(context.Background(), id, 0, func(_ record.Ref, b []byte, _ int64) error {
		out = append(out, bytes.Clone(b))
		return nil
	}))
	return out
}

// A job that was killed at any point ends with the same root over the same records
// (invariant 3), and asks its quorum once.
func TestKilledAnywhere(t *testing.T) {
	spec := records.Spec{Kind: records.SignSpecificRecords}
	for i := range 50 { // some of them are skipped
		spec.Refs = append(spec.Refs, ref(i))
	}
	clean := newWorld(t, memoryApp(t))
	clean.fill(45)
	whole := clean.finish(clean.create(spec).ID)
	want := clean.statements(whole.ID)
	points := []string{"put", "committed", "prepared", "submitted", "signed", "put root"}
	reached := map[string]bool{}
	for _, point := range points {
		for n := 1; n <= 6; n++ {
			t.Run(fmt.Sprintf("%s %d", point, n), func(t *testing.T) {
				w := newWorld(t, memoryApp(t))
				w.desk.auto = true
				w.fill(45)
				v := w.create(spec)
				if !w.kill(point, n) {
					return
				}
				reached[point] = true
				w.restart()
				w.clock.pass(time.Minute) // the lease runs out
				if v = w.finish(v.ID); v.State != records.Done || v.Summary.Skipped != whole.Summary.Skipped || v.Summary.Signed["sources"] != whole.Summary.Signed["sources"] {
					t.Fatalf("%+v: want %+v", v, whole)
				}
				got := w.statements(v.ID)
				if len(got) != len(want) {
					t.Fatalf("%d statements, want %d", len(got), len(want))
				}
				for i := range got {
					if !bytes.Equal(got[i], want[i]) {
						t.Fatalf("statement %d differs", i)
					}
				}
				if v.Summary.Root != whole.Summary.Root && len(got) == len(want) {
					// the job's ID is in its root, the statements' tree is not
					t.Fatalf("root %s, want %s", v.Summary.Root, whole.Summary.Root)
				}
				skipped, err := w.jobs.Skipped(t.Context(), v.ID, 0, 100)
				if err != nil || int64(len(skipped)) != whole.Summary.Skipped {
					t.Fatalf("%d skipped, %v", len(skipped), err)
				}
				if n := w.desk.requests(); n != 1 {
					t.Errorf("%d requests", n)
				}
				if _, seen := w.scan(); seen[key(0)].Verdict != records.Valid {
					t.Errorf("%+v", seen[key(0)])
				}
			})
		}
	}
	for _, p := range points {
		if !reached[p] {
			t.Errorf("no worker died at %q", p)
		}
	}
}

// Workers that fight for a job sign it once (invariant 4).
func TestManyWorkers(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.desk.auto = true
	w.fill(60)
	var ids []string
	for range 3 {
		ids = append(ids, w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}}).ID)
	}
	w.hook = func(p string) {
		if p == "committed" {
			w.clock.pass(40 * time.Second) // leases run out all the time
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				w.jobs.Work(ctx) // what fails is tried again
				done := true
				for _, id := range ids {
					v, err := w.jobs.Get(context.WithoutCancel(ctx), id)
					done = done && err == nil && v.State.Final()
				}
				if done {
					return
				}
				w.clock.pass(10 * time.Second)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if v := w.get(id); v.State != records.Done || v.Summary.Signed["sources"] != 48 {
			t.Errorf("%s: %+v", id, v)
		}
	}
	if n := w.desk.requests(); n != 3 {
		t.Errorf("%d requests", n)
	}
	if rep, _ := w.scan(); !rep.Clean() {
		t.Errorf("%+v", rep)
	}
}

// Statements that somebody altered in the platform between preparation and signature
// are not made readable as if they had been signed.
func TestAlteredStatements(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(10)
	v := w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}})
	w.work()
	m := w.app.Platform.(*memory)
	m.mu.Lock()
	sts := m.jobs[v.ID].statements
	sts[0], sts[1] = sts[1], sts[0]
	m.mu.Unlock()
	w.restart() // forgets the tree
	w.desk.decide("")
	for range 100 {
		w.clock.pass(10 * time.Minute)
		w.jobs.Work(t.Context())
	}
	if v = w.get(v.ID); v.State != records.Failed {
		t.Fatalf("%+v", v)
	}
	if rep, _ := w.scan(); rep.Counts[0].Valid != 0 {
		t.Errorf("%+v", rep)
	}
}

// A configuration that changes while a job is prepared begins the preparation anew:
// one job has one of each.
func TestConfigurationChanges(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(40)
	v := w.create(records.Spec{Kind: records.SignRecords, Configurations: []string{"sources"}})
	if !w.kill("committed", 2) {
		t.Fatal("it did not come so far")
	}
	c := w.configurations["sources"]
	c.Version, c.Condition = 2, ""
	w.configurations = map[string]record.Configuration{"sources": c}
	w.restart()
	w.clock.pass(time.Minute)
	if v = w.finish(v.ID); v.State != records.Done || v.Count != 40 {
		t.Fatalf("%+v", v)
	}
	if rep, _ := w.scan(); !rep.Clean() || rep.Counts[0].Valid != 40 {
		t.Errorf("%+v", rep)
	}
}

// What changes is queued by itself; fields that are not signed cause nothing.
func TestSignOnChange(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(10)
	w.signAll()
	w.app.Platform.(*memory).events = nil
	w.put(1, map[string]string{"sql_statement": "SELECT 11"})
	w.put(1, map[string]string{"sql_statement": "SELECT 12"})
	w.put(2, map[string]string{"last_run_datetime": "2026-03-03 00:00:00"})
	w.put(4, map[string]string{"sql_statement": "no JDBC source"})
	w.put(90, map[string]string{"type": "JDBC", "name": "new"})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	go func() {
		for len(w.list()) < 2 && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		stop()
	}()
	if err := w.jobs.SignOnChange(ctx, records.OnChange{Platform: "erp", Policy: "release", Quiet: time.Millisecond}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	jobs := w.list()
	if len(jobs) != 2 || jobs[0].Kind != records.SignChanged {
		t.Fatalf("%d jobs", len(jobs))
	}
	if v := w.finish(jobs[0].ID); v.State != records.Done || v.Count != 2 {
		t.Fatalf("%+v", v)
	}
	if rep, _ := w.scan(); !rep.Clean() {
		t.Errorf("%+v", rep)
	}
}

func (w *world) list() []*records.View {
	w.Helper()
	out, err := w.jobs.List(context.Background(), records.Filter{})
	w.must(err)
	return out
}

// Tampering is reported with its reason, and what is unsigned by right is not.
func TestTamperWatch(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(10)
	w.signAll()
	look := func(i int, op platform.EventOp) {
		t.Helper()
		w.must(w.guard.Look(t.Context(), "erp", platform.Event{Ref: ref(i), Op: op}))
	}
	look(0, platform.Changed) // valid
	w.put(4, map[string]string{"sql_statement": "anything"})
	look(4, platform.Changed) // no configuration asks for it
	if len(w.found) != 0 {
		t.Fatalf("%+v", w.found)
	}
	w.put(1, map[string]string{"sql_statement": "DROP TABLE orders"})
	look(1, platform.Changed)
	w.remove(2)
	look(2, platform.Deleted)
	if len(w.found) != 2 || w.found[0].Code != string(rejection.FieldChanged) || w.found[0].Subject != "sql_statement" || w.found[1].Code != string(rejection.DeleteUnsigned) {
		t.Fatalf("%+v", w.found)
	}
	list, err := w.guard.Findings(t.Context(), 0, 10)
	if err != nil || len(list) != 2 || list[1].Ref != ref(1).ID() || list[1].Table != table {
		t.Fatalf("%+v, %v", list, err)
	}
}

func TestIsTrusted(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(10)
	w.signAll()
	tr, err := w.guard.IsTrusted(t.Context(), "erp", ref(1), record.Queue)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := tr.Field("sql_statement"); !ok || v != "SELECT 1" {
		t.Errorf("%q, %v", v, ok)
	}
	if _, ok := tr.Field("last_run_datetime"); ok {
		t.Error("a field that nobody signed is trusted")
	}
	for name, c := range map[string]struct {
		ref     record.Ref
		purpose string
		want    rejection.Code
	}{
		"another purpose": {ref(1), "other", rejection.PurposeMismatch},
		"unsigned":        {ref(4), record.Queue, rejection.SigMissing},
		"not there":       {ref(99), record.Queue, rejection.RecordMismatch},
	} {
		if _, err := w.guard.IsTrusted(t.Context(), "erp", c.ref, c.purpose); code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	j, err := w.guard.ForJob(t.Context(), ref(1), record.Queue)
	if err != nil || j.Verdict != nil || j.Platform != "erp" || len(j.Signatures) != 1 || j.Statement == nil {
		t.Fatalf("%+v, %v", j, err)
	}
	// Old signed content does not come back (threat 6).
	old := j
	w.put(1, map[string]string{"sql_statement": "SELECT 2"})
	w.signAll()
	w.clock.pass(time.Minute)
	if _, err := w.guard.IsTrusted(t.Context(), "erp", ref(1), record.Queue); err != nil {
		t.Fatal(err)
	}
	m := w.app.Platform.(*memory)
	m.mu.Lock()
	delete(m.jobs, m.order[1]) // the newer signatures are stripped
	m.mu.Unlock()
	w.put(1, map[string]string{"sql_statement": old.Record.Fields["sql_statement"]})
	if _, err := w.guard.IsTrusted(t.Context(), "erp", ref(1), record.Queue); code(err) != rejection.RevisionRollback {
		t.Errorf("an old signed version is back: %v", err)
	}
	// Without a circle nothing is trusted.
	g, err := records.NewGuard(records.GuardConfig{Instance: &records.Instance{Name: "prod", Role: records.Protected}, Store: w.store, Platforms: map[string]platform.Platform{"erp": w.app}, Now: w.clock.now})
	w.must(err)
	if _, err := g.IsTrusted(t.Context(), "erp", ref(1), record.Queue); code(err) != rejection.TrustStoreStale {
		t.Errorf("without a circle: %v", err)
	}
}

var _ store.Protection = (*store.SQL)(nil)
