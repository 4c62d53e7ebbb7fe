package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

func queueEnrolments(t *testing.T, q *queue) {
	ctx := t.Context()
	enrol := func(key, name string, all, per int64) (*store.AgentEnrolment, error) {
		return q.Enrol(ctx, &store.AgentEnrolment{Key: keyOf(key), Name: name, Request: []byte("csr of " + key), Topics: []string{"a", "b"}, Created: q.now}, all, per)
	}
	e, err := enrol("new", "n", 2, 1)
	must(t, err)
	if e.State != store.EnrolmentWaiting || e.Name != "n" || !slices.Equal(e.Topics, []string{"a", "b"}) || e.Key != keyOf("new") {
		t.Fatalf("%+v", e)
	}
	// The same key under another name changes nothing.
	if e, err = enrol("new", "other", 2, 1); err != nil || e.Name != "n" {
		t.Fatalf("%+v, %v", e, err)
	}
	_, err = enrol("two", "n", 2, 1)
	wantErr(t, err, store.ErrExists)
	_, err = enrol("two", "m", 2, 1)
	must(t, err)
	_, err = enrol("three", "o", 2, 1)
	wantErr(t, err, store.ErrExists)
	must(t, q.RefuseEnrolment(ctx, keyOf("two")))
	wantErr(t, q.RefuseEnrolment(ctx, keyOf("two")), store.ErrNotFound)
	list, err := q.Enrolments(ctx, store.EnrolmentWaiting, 10)
	must(t, err)
	if len(list) != 1 || list[0].Name != "n" {
		t.Fatalf("%+v", list)
	}
	must(t, q.ForgetEnrolments(ctx, q.now.Add(time.Second)))
	_, err = q.Enrolment(ctx, keyOf("new"))
	wantErr(t, err, store.ErrNotFound)
	if _, err = q.Enrolment(ctx, keyOf("a1")); err != nil {
		t.Fatal("that of an agent was forgotten")
	}
}

func queueKeys(t *testing.T, q *queue) {
	ctx := t.Context()
	a, err := q.AgentByKey(ctx, keyOf("a1"))
	must(t, err)
	if a.Name != "a1" || a.State != store.AgentValid || a.Key != keyOf("a1") {
		t.Fatalf("%+v", a)
	}
	must(t, q.RenewAgent(ctx, "a1", keyOf("a1"), keyOf("fresh"), []byte("cert2"), q.now.Add(time.Hour)))
	for _, k := range []string{"a1", "fresh"} {
		if a, err = q.AgentByKey(ctx, keyOf(k)); err != nil || a.Name != "a1" {
			t.Fatalf("%s: %+v, %v", k, a, err)
		}
	}
	wantErr(t, q.PromoteAgent(ctx, "a1", keyOf("wrong")), store.ErrConflict)
	must(t, q.AskRekey(ctx, "a1"))
	must(t, q.PromoteAgent(ctx, "a1", keyOf("fresh")))
	_, err = q.AgentByKey(ctx, keyOf("a1"))
	wantErr(t, err, store.ErrNotFound)
	if a, err = q.AgentByKey(ctx, keyOf("fresh")); err != nil || a.Key != keyOf("fresh") || a.Next != ([32]byte{}) || a.Rekey {
		t.Fatalf("%+v, %v", a, err)
	}
	wantErr(t, q.RenewAgent(ctx, "a1", keyOf("a1"), keyOf("x"), nil, q.now), store.ErrConflict)
	_, err = q.AgentByKey(ctx, [32]byte{})
	wantErr(t, err, store.ErrNotFound)
	wantErr(t, q.AskRekey(ctx, "a9"), store.ErrNotFound)
	must(t, q.Beat(ctx, []store.AgentBeat{{Name: "a1", Version: "1.2", Running: 3, Spooled: 4, Draining: true, Circle: "abc", TrustUntil: q.now, At: q.now}}))
	if a, err = q.Agent(ctx, "a1"); err != nil || a.Version != "1.2" || a.Running != 3 || a.Spooled != 4 || !a.Draining || a.Circle != "abc" || !a.TrustUntil.Equal(q.now) || !a.Heartbeat.Equal(q.now) {
		t.Fatalf("%+v, %v", a, err)
	}
}

func queueClusters(t *testing.T, q *queue) {
	ctx := t.Context()
	must(t, q.PutCluster(ctx, &store.AgentCluster{Name: "c", Mode: store.ClusterBalance, Members: []string{"a1"}}))
	must(t, q.PutCluster(ctx, &store.AgentCluster{Name: "c", Mode: store.ClusterFailover, Members: []string{"a2", "a1"}}))
	must(t, q.PutCluster(ctx, &store.AgentCluster{Name: "empty", Mode: store.ClusterBalance}))
	l, err := q.Clusters(ctx)
	must(t, err)
	if len(l) != 2 || l[0].Mode != store.ClusterFailover || !slices.Equal(l[0].Members, []string{"a2", "a1"}) || len(l[1].Members) != 0 {
		t.Fatalf("%+v", l)
	}
	must(t, q.DeleteCluster(ctx, "c"))
	wantErr(t, q.DeleteCluster(ctx, "c"), store.ErrNotFound)
}

func queueRejection(t *testing.T, q *queue) {
	ctx := t.Context()
	id := q.submit(nil)
	r := q.lease("a1")[0]
	l := leaseOf(&r)
	x := &store.AgentRejection{ID: id32(9), Time: q.now, Agent: "a1", Job: id, Attempt: 1, Topic: "JDBCProbe", Code: "FIELD_CHANGED", Subject: "sql", Detail: "changed", Records: []byte("[]")}
	entries := []store.LogEntry{entry("rejection", [32]byte{}, "body")}
	jobs := []store.Job{{Kind: "tell", Ref: "x", RunAt: q.now}}
	foreign := l
	foreign.Token = id32(5)
	_, err := q.RejectWork(ctx, foreign, x, entries, jobs)
	wantErr(t, err, store.ErrLost)
	fresh, err := q.RejectWork(ctx, l, x, entries, jobs)
	must(t, err)
	again, err := q.RejectWork(ctx, l, x, entries, jobs)
	must(t, err)
	if !fresh || again {
		t.Fatalf("%v, %v", fresh, again)
	}
	q.want(id, store.QueueError, "FIELD_CHANGED(sql)")
	wantErr(t, q.start(l), store.ErrLost)
	if n, err := q.Sequence(ctx, 10); err != nil || n != 1 {
		t.Fatalf("%d entries, %v", n, err)
	}
	if j, err := q.Lease(ctx, []string{"tell"}, 10, q.now, time.Minute); err != nil || len(j) != 1 {
		t.Fatalf("%d jobs, %v", len(j), err)
	}
	list, err := q.Rejections(ctx, "a1", id, 0, 10)
	must(t, err)
	if len(list) != 1 || list[0].Code != "FIELD_CHANGED" || list[0].Attempt != 1 || !list[0].Time.Equal(q.now) {
		t.Fatalf("%+v", list)
	}
	for _, f := range []struct {
		agent, job string
		before     int64
		found      int
	}{{"a1", "", 0, 1}, {"", id, 0, 1}, {"", "", 0, 1}, {"a2", "", 0, 0}, {"", id32(6), 0, 0}, {"a2", id, 0, 0}, {"a1", id, list[0].Sequence, 0}, {"a1", id, list[0].Sequence + 1, 1}} {
		if list, err := q.Rejections(ctx, f.agent, f.job, f.before, 10); err != nil || len(list) != f.found {
			t.Errorf("%+v: %+v, %v", f, list, err)
		}
	}
	if one, err := q.Rejection(ctx, x.ID); err != nil || one.Subject != "sql" {
		t.Fatalf("%+v, %v", one, err)
	}
	must(t, q.FailWork(ctx, func() store.QueueLease { q.submit(nil); r := q.lease("a1")[0]; return leaseOf(&r) }(), "RECORD_MISSING", q.now))
}

func queueForget(t *testing.T, q *queue) {
	ctx := t.Context()
	id := q.submit(nil)
	keep := q.submit(nil)
	for _, r := range q.lease("a1") {
		if r.ID == id {
			must(t, q.start(leaseOf(&r)))
			must(t, q.page(leaseOf(&r), 0, "x"))
			must(t, q.finish(leaseOf(&r), "", 1))
		}
	}
	n, err := q.ForgetWork(ctx, q.now.Add(time.Second), 100)
	must(t, err)
	if n != 1 {
		t.Fatalf("%d", n)
	}
	for _, gone := range []string{id, store.PageID(id, 1, 0)} {
		_, err = q.QueueRecord(ctx, gone)
		wantErr(t, err, store.ErrNotFound)
	}
	q.want(keep, store.QueueProcessing, "")
}
