package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/order"
)

// This file is the care of the queue: what comes first, what is cancelled, expires and
// is forgotten, and how it is listed. queue.go is attempts and results.

func queuePriorities(t *testing.T, q *queue) {
	var want []string
	late := q.submit(nil)
	for _, p := range []order.Priority{order.Interactive, order.Expedited} {
		want = append(want, q.submit(func(r *store.QueueRecord) { r.Priority = p }))
	}
	want = append(want, late)
	q.submit(func(r *store.QueueRecord) { r.Topic = "RESTProbe" }) // not asked for
	q.submit(func(r *store.QueueRecord) { r.Agent = "a2" })
	var got []string
	for _, r := range q.lease("a1") {
		got = append(got, r.ID)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	targets, err := q.ReadyTargets(t.Context())
	must(t, err)
	slices.Sort(targets)
	if !slices.Equal(targets, []string{"a:a1", "a:a2"}) {
		t.Fatalf("%v", targets)
	}
}

// Slots that are kept for interactive jobs take no others.
func queueOnly(t *testing.T, q *queue) {
	q.submit(nil)
	q.submit(func(r *store.QueueRecord) { r.Priority = order.Expedited })
	want := q.submit(func(r *store.QueueRecord) { r.Priority = order.Interactive })
	take := func(only order.Priority) []string {
		t.Helper()
		out, err := q.LeaseWork(t.Context(), []store.QueueAsk{{Agent: "a1", Topics: []string{"JDBCProbe"}, Max: 10, Only: &only, Token: id32(1<<21 + q.n), Now: q.now, Until: q.now.Add(time.Minute)}})
		must(t, err)
		q.n++
		var ids []string
		for _, r := range out[0] {
			ids = append(ids, r.ID)
		}
		return ids
	}
	if got := take(order.Interactive); !slices.Equal(got, []string{want}) {
		t.Fatalf("got %v, want %v alone", got, want)
	}
	if got := take(order.Interactive); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
	if got := take(order.Standard); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	if got := q.lease("a1"); len(got) != 1 || got[0].Priority != order.Expedited {
		t.Fatalf("%+v", got)
	}
}

func queueCancel(t *testing.T, q *queue) {
	ctx := t.Context()
	id := q.submit(nil)
	_, err := q.CancelWork(ctx, id, q.now)
	must(t, err)
	q.want(id, store.QueueError, store.ErrorCancelled)
	id = q.submit(nil)
	r := q.lease("a1")[0]
	_, err = q.CancelWork(ctx, id, q.now)
	must(t, err)
	wantErr(t, q.start(leaseOf(&r)), store.ErrLost)
	id = q.submit(nil)
	r = q.lease("a1")[0]
	must(t, q.start(leaseOf(&r)))
	got, err := q.CancelWork(ctx, id, q.now)
	must(t, err)
	if got.State != store.QueueProcessing || !got.Cancel {
		t.Fatalf("%+v", got)
	}
	must(t, q.start(leaseOf(&r))) // it has begun: that stays true
	if ids, err := q.Cancelling(ctx, "a1"); err != nil || !slices.Equal(ids, []string{id}) {
		t.Fatalf("%v, %v", ids, err)
	}
	cancel, _, err := q.ProlongWork(ctx, []store.QueueLease{leaseOf(&r)}, q.now, q.now.Add(time.Minute))
	must(t, err)
	if !cancel[0] {
		t.Fatal("it is not told to stop")
	}
	must(t, q.finish(leaseOf(&r), "stopped", 0))
	if _, err := q.CancelWork(ctx, id, q.now); err != nil {
		t.Fatal(err)
	}
	q.want(id, store.QueueError, "stopped")
	_, err = q.CancelWork(ctx, id32(12345), q.now)
	wantErr(t, err, store.ErrNotFound)
	// One that was to stop is not repeated.
	id = q.submit(func(r *store.QueueRecord) { r.Repeatable = true })
	r = q.lease("a1")[0]
	must(t, q.start(leaseOf(&r)))
	_, err = q.CancelWork(ctx, id, q.now)
	must(t, err)
	q.now = q.now.Add(time.Hour)
	q.sweep()
	q.want(id, store.QueueError, store.ErrorCancelled)
}

func queueExpires(t *testing.T, q *queue) {
	id := q.submit(func(r *store.QueueRecord) { r.Expires = q.now.Add(30 * time.Second) })
	r := q.lease("a1")[0]
	q.now = q.now.Add(30 * time.Second)
	wantErr(t, q.start(leaseOf(&r)), store.ErrLost)
	q.now = q.now.Add(time.Minute)
	q.sweep()
	q.sweep()
	q.want(id, store.QueueError, store.ErrorExpired)
	late := q.submit(func(r *store.QueueRecord) { r.Expires = q.now.Add(-time.Second) })
	if got := q.lease("a1"); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	q.sweep()
	q.want(late, store.QueueError, store.ErrorExpired)
}

func queueCommand(t *testing.T, q *queue) {
	id := q.submit(func(r *store.QueueRecord) { r.Agent, r.Cluster, r.Topic = "", "c", "Command" })
	q.lease("a1", "c")
	q.now = q.now.Add(time.Minute)
	q.sweep()
	if got := q.lease("a2", "c"); len(got) != 0 {
		t.Fatalf("a Command moved: %+v", got)
	}
	if got := q.lease("a1", "c"); len(got) != 1 || got[0].ID != id || got[0].Attempt != 2 {
		t.Fatalf("%+v", got)
	}
}

func queueGone(t *testing.T, q *queue) {
	id := q.submit(func(r *store.QueueRecord) { r.Agent, r.Cluster = "", "c" })
	own := q.submit(nil)
	for range q.lease("a1", "c") {
	}
	q.sweep()
	q.want(id, store.QueueProcessing, "")
	must(t, q.InvalidateAgent(t.Context(), "a1", "", q.now))
	if s := q.sweep(); !slices.Equal(s.Moved, []string{"c:c"}) {
		t.Fatalf("%+v", s)
	}
	q.want(own, store.QueueProcessing, "") // its own: until the lease is over
	if got := q.lease("a2", "c"); len(got) != 1 || got[0].ID != id {
		t.Fatalf("%+v", got)
	}
}

func queueTooMany(t *testing.T, q *queue) {
	id := q.submit(nil)
	for range 5 {
		if len(q.lease("a1")) != 1 {
			t.Fatal("no lease")
		}
		q.now = q.now.Add(time.Minute)
		q.sweep()
	}
	q.want(id, store.QueueError, store.ErrorAttempts)
}

func queueHostile(t *testing.T, q *queue) {
	const evil = "x\x00y\xff'; DROP TABLE ecc_queue; --"
	id := q.submit(func(r *store.QueueRecord) {
		r.Name, r.Source, r.AgentCorrelator, r.Payload = evil, evil, evil, []byte(evil)
	})
	r := q.lease("a1")[0]
	must(t, q.start(leaseOf(&r)))
	errs, err := q.PutPages(t.Context(), []store.QueuePage{{QueueLease: leaseOf(&r), ID: store.PageID(id, r.Attempt, 0), Type: evil, Body: []byte(evil), Limit: 1000, Now: q.now}})
	must(t, errors.Join(append(errs, err)...))
	must(t, q.finish(leaseOf(&r), evil, 1))
	got, err := q.QueueRecord(t.Context(), id)
	must(t, err)
	if string(got.Payload) != evil || strings.Contains(got.Name+got.ErrorString, "\x00") || !utf8.ValidString(got.Name+got.ErrorString) {
		t.Fatalf("%+v", got)
	}
	for _, f := range []store.QueueFilter{{Agent: evil}, {Source: evil}, {Topic: evil}, {Correlator: evil}, {State: store.QueueState(evil)}} {
		if _, err := q.QueueRecords(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
}

func queueLists(t *testing.T, q *queue) {
	ctx := t.Context()
	var want []string
	for i := range 5 {
		want = append([]string{q.submit(func(r *store.QueueRecord) { r.Parent, r.AgentCorrelator = id32(500), fmt.Sprint(i) })}, want...)
	}
	var got []string
	before := int64(0)
	for {
		page, err := q.QueueRecords(ctx, store.QueueFilter{Parent: id32(500), Before: before, Limit: 2})
		must(t, err)
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			got = append(got, r.ID)
			before = r.Sequence
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	if l, err := q.QueueRecords(ctx, store.QueueFilter{Correlator: "3"}); err != nil || len(l) != 1 {
		t.Fatalf("%v, %v", l, err)
	}
	counts, err := q.QueueCounts(ctx)
	must(t, err)
	if counts[store.QueueReady] != 5 {
		t.Fatalf("%v", counts)
	}
}
