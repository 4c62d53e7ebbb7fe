package records_test

import (
	"testing"

	"github.com/greatseal-io/greatseal/record"
)

// What says the same again has the same revision, so that it takes no other signer's
// signature out of force; what says anything else has the next one.
func TestSigningAgainKeepsTheRevision(t *testing.T) {
	w := newWorld(t, sqliteApp(t))
	w.fill(2)
	ctx := t.Context()
	revisions := func() []uint64 {
		v := w.signAll()
		log, err := w.jobs.Log(ctx, v.ID, 0, 2)
		w.must(err)
		return []uint64{log[0].Revision, log[1].Revision}
	}
	for _, want := range [][]uint64{{1, 1}, {1, 1}} {
		if got := revisions(); got[0] != want[0] || got[1] != want[1] {
			t.Fatalf("revisions %v: want %v", got, want)
		}
	}
	w.put(1, map[string]string{"name": "source 1", "type": "JDBC", "jdbc_server": "db.example.com", "sql_statement": "SELECT 'other'"})
	if got := revisions(); got[0] != 1 || got[1] != 2 {
		t.Fatalf("after a change: revisions %v", got)
	}
	w.fill(2) // as it was before
	if got := revisions(); got[0] != 1 || got[1] != 3 {
		t.Fatalf("what is put back is a new revision: %v", got)
	}
	if _, err := w.guard.IsTrusted(ctx, "erp", ref(1), record.Queue); err != nil {
		t.Fatal(err)
	}
}
