package records_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// watched runs f on the databases that there are, and on PostgreSQL with triggers.
func watched(t *testing.T, f func(t *testing.T, a *app)) {
	for _, p := range []struct {
		name    string
		open    func(testing.TB) *app
		capture bool
	}{{"sqlite", sqliteApp, false}, {"postgres", postgresApp, false}, {"postgres with triggers", postgresApp, true}, {"mariadb", mariaApp, false}} {
		t.Run(p.name, func(t *testing.T) {
			a := p.open(t)
			if p.capture {
				if err := a.Platform.(platform.Capturer).Capture(t.Context(), []string{table}); err != nil {
					t.Fatal(err)
				}
			}
			f(t, a)
		})
	}
}

// byHand changes a field of a record as somebody does who has the database's password.
func (w *world) byHand(i int, field, value string) {
	w.Helper()
	w.must(w.app.sql(fmt.Sprintf("UPDATE sys_data_source SET %s = '%s' WHERE sys_id = '%s'", field, value, key(i))))
}

// during runs something until f has seen what it waits for, and returns when it ended.
func (w *world) during(run func(context.Context) error, f func()) {
	w.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			w.Errorf("it ended by itself: %v", err)
		}
	}()
	f()
}

// until waits for something; again, where it is not nil, is called between looks.
func (w *world) until(what string, again func(n int), f func() bool) {
	w.Helper()
	for n := 0; !f(); n++ {
		if n > 600 {
			w.Fatalf("it does not happen: %s", what)
		}
		if again != nil && n%5 == 0 {
			again(n)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// findings are what was found of a record, by code and subject.
func (w *world) findings(i int) (out []string) {
	w.Helper()
	list, err := w.guard.Findings(context.Background(), 0, 1000)
	w.must(err)
	for _, f := range list {
		if f.Ref == ref(i).ID() {
			out = append(out, f.Code+" "+f.Subject)
		}
	}
	return out
}

// Whoever edits a signed field in the database by hand is found; an edit of another
// field is none; and what was edited while nobody watched is found afterwards.
func TestWatchOnDatabases(t *testing.T) {
	watched(t, func(t *testing.T, a *app) {
		w := newWorld(t, a)
		w.fill(7)
		w.signAll()
		watch := func(ctx context.Context) error {
			return w.guard.Watch(ctx, records.TamperWatch{Platform: "erp", Interval: 20 * time.Millisecond})
		}
		w.during(watch, func() {
			w.until("the watch stands", func(n int) { w.byHand(0, "sql_statement", fmt.Sprintf("DELETE %d", n)) }, func() bool { return len(w.findings(0)) > 0 })
			w.byHand(1, "last_run_datetime", "2026-03-03 00:00:00") // not signed
			w.byHand(4, "sql_statement", "DROP TABLE x")            // not under the condition
			w.byHand(2, "jdbc_server", "evil.example.com")
			w.must(w.app.sql("DELETE FROM sys_data_source WHERE sys_id = '" + key(3) + "'"))
			w.until("the edit and the removal are found", nil, func() bool { return len(w.findings(2)) > 0 && len(w.findings(3)) > 0 })
		})
		if got := w.findings(0); got[0] != string(rejection.FieldChanged)+" sql_statement" {
			t.Errorf("%q", got)
		}
		if got := w.findings(2); len(got) != 1 || got[0] != string(rejection.FieldChanged)+" jdbc_server" {
			t.Errorf("%q", got)
		}
		if got := w.findings(3); len(got) != 1 || got[0] != "DELETE_UNSIGNED "+table {
			t.Errorf("%q", got)
		}
		for _, i := range []int{1, 4} {
			if got := w.findings(i); len(got) != 0 {
				t.Errorf("record %d: %q", i, got)
			}
		}
		// Nobody watches; then somebody does again.
		w.byHand(5, "name", "another")
		w.during(watch, func() {
			w.until("what was edited meanwhile is found", nil, func() bool { return len(w.findings(5)) > 0 })
		})
		if got := w.findings(5); len(got) != 1 {
			t.Errorf("%q", got)
		}
		if got := w.findings(2); len(got) != 1 {
			t.Errorf("found again: %q", got)
		}
	})
}

// A record that is changed by hand on the trusted instance comes into a job, which is
// signed after its quorum; over a restart no change is lost.
func TestSignOnChangeOnDatabases(t *testing.T) {
	watched(t, func(t *testing.T, a *app) {
		w := newWorld(t, a)
		w.fill(7)
		w.signAll()
		asked := w.desk.requests()
		open := func() (out []*records.View) {
			t.Helper()
			list, err := w.jobs.List(t.Context(), records.Filter{Kind: records.SignChanged})
			w.must(err)
			for _, v := range list {
				if !v.State.Final() {
					out = append(out, v)
				}
			}
			return out
		}
		sign := func(ctx context.Context) error {
			return w.jobs.SignOnChange(ctx, records.OnChange{Platform: "erp", Policy: "release", Quiet: 100 * time.Millisecond, Interval: 20 * time.Millisecond})
		}
		w.during(sign, func() {
			w.until("the watch stands", func(n int) { w.byHand(0, "sql_statement", fmt.Sprintf("SELECT %d", 1000+n)) }, func() bool { return len(open()) > 0 })
		})
		for _, v := range open() {
			w.finish(v.ID)
		}
		w.work()
		if w.desk.requests() == asked {
			t.Fatal("nobody was asked")
		}
		// What changes while nobody watches is not lost with the process.
		w.byHand(2, "sql_statement", "SELECT 2222")
		w.byHand(3, "last_run_datetime", "2026-03-03 00:00:00") // not signed
		w.restart()
		w.during(sign, func() {
			w.until("a job for what changed meanwhile", nil, func() bool { return len(open()) > 0 })
			// Not before the quorum has endorsed.
			v := open()[0]
			w.work()
			if v = w.get(v.ID); v.State != records.Waiting {
				t.Fatalf("%+v", v)
			}
			if _, seen := w.scan(); seen[key(2)].Verdict != records.Invalid {
				t.Fatalf("%+v", seen[key(2)])
			}
			if v = w.finish(v.ID); v.State != records.Done {
				t.Fatalf("%+v", v)
			}
			log, err := w.jobs.Log(t.Context(), v.ID, 0, 100)
			w.must(err)
			signed := false
			for _, e := range log {
				signed = signed || e.Ref.Equal(ref(2))
				if e.Ref.Equal(ref(3)) || e.Ref.Equal(ref(1)) {
					t.Errorf("%s was signed, of which nothing that is signed has changed", e.Ref)
				}
			}
			if !signed {
				t.Fatalf("%+v", log)
			}
			for _, v := range open() { // the last edit of record 0
				w.finish(v.ID)
			}
			w.until("everything is signed", func(int) {
				for _, v := range open() {
					w.finish(v.ID)
				}
			}, func() bool { rep, _ := w.scan(); return rep.Clean() })
		})
		if tr, err := w.guard.IsTrusted(t.Context(), "erp", ref(2), record.Queue); err != nil || !strings.Contains(tr.Record().Fields["sql_statement"], "2222") {
			t.Fatalf("%v", err)
		}
	})
}
