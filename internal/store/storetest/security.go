package storetest

// What a store keeps of security jobs and for a protected instance: *store.SQL
// implements these beside store.Store.

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

// Records is what internal/records needs of a store.
type Records interface {
	store.Store
	store.SecurityJobs
	store.Protection
}

// RunRecords runs the part of the suite that is about records; open returns an
// empty store.
func RunRecords(t *testing.T, open func(t *testing.T) Records) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, s Records)
	}{
		{"SecurityJobMovesOn", securityJob},
		{"OneWorkerMovesASecurityJob", securityOnce},
		{"SecurityJobsPageComplete", securityPages},
		{"MarksOnlyRise", recordMarks},
		{"Findings", findings},
		{"RetrievedSets", retrieved},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, open(t)) })
	}
}

// NewSecurityJob is a job named by its ID.
func NewSecurityJob(id string) *store.SecurityJob {
	return &store.SecurityJob{ID: id, Kind: "mass", Name: "job \x00" + id, State: "new", Platform: "erp", Requester: "alice", Spec: []byte("spec " + id), Total: -1, Created: epoch, Updated: epoch}
}

func securityJob(t *testing.T, s Records) {
	ctx := t.Context()
	j := NewSecurityJob("aa")
	must(t, s.PutSecurityJob(ctx, j, epoch.Add(time.Minute)))
	if err := s.PutSecurityJob(ctx, NewSecurityJob("aa"), epoch); !errors.Is(err, store.ErrExists) {
		t.Fatalf("the same ID again: %v", err)
	}
	if got, err := s.Lease(ctx, []string{store.SecurityKind}, 5, epoch, time.Minute); err != nil || len(got) != 0 {
		t.Fatalf("leased early: %+v, %v", got, err)
	}
	due, err := s.Lease(ctx, []string{store.SecurityKind}, 5, epoch.Add(time.Minute), time.Hour)
	if err != nil || len(due) != 1 || due[0].Ref != "aa" {
		t.Fatalf("leased %+v, %v", due, err)
	}
	stale := *j
	j.State, j.Place, j.Count, j.Total, j.Busy, j.Started, j.Updated = "preparing", []byte("k7"), 3, 10, 5*time.Second, epoch, epoch.Add(time.Second)
	must(t, s.StepSecurityJob(ctx, j, store.KeepChunks, store.SecurityChunk{First: 0, Count: 2, Data: []byte("c0")}, store.SecurityChunk{First: 2, Count: 1, Data: []byte("c2")}))
	if j.Revision != 2 {
		t.Fatalf("revision %d", j.Revision)
	}
	stale.State = "cancelled"
	if err := s.StepSecurityJob(ctx, &stale, 0, store.SecurityChunk{First: 3, Count: 1}); !errors.Is(err, store.ErrConflict) || stale.Revision != 1 {
		t.Fatalf("a stale step: %v, revision %d", err, stale.Revision)
	}
	got, err := s.SecurityJob(ctx, "aa")
	must(t, err)
	if got.State != "preparing" || string(got.Spec) != "spec aa" || string(got.Place) != "k7" || got.Count != 3 || got.Total != 10 || got.Busy != 5*time.Second ||
		!got.Started.Equal(epoch) || !got.Finished.IsZero() || got.Revision != 2 || got.Name != "job \uFFFDaa" {
		t.Fatalf("got %+v", got)
	}
	for _, c := range []struct {
		from  int64
		limit int
		want  string
	}{{0, 9, "c0c2"}, {1, 9, "c0c2"}, {2, 9, "c2"}, {99, 9, "c2"}, {0, 1, "c0"}} {
		chunks, err := s.SecurityChunks(ctx, "aa", c.from, c.limit)
		must(t, err)
		var b bytes.Buffer
		for _, k := range chunks {
			b.Write(k.Data)
		}
		if b.String() != c.want {
			t.Errorf("chunks from %d, %d of them: %q, want %q", c.from, c.limit, &b, c.want)
		}
	}
	must(t, s.StepSecurityJob(ctx, j, 2, store.SecurityChunk{First: 3, Count: 1, Data: []byte("new")}))
	chunks, err := s.SecurityChunks(ctx, "aa", 0, 9)
	if err != nil || len(chunks) != 2 || string(chunks[0].Data) != "c0" || string(chunks[1].Data) != "new" {
		t.Fatalf("after a step back: %+v, %v", chunks, err)
	}
	must(t, s.WakeSecurityJob(ctx, "aa", epoch)) // is leased: due at once
	if got, err := s.Lease(ctx, []string{store.SecurityKind}, 5, epoch, time.Minute); err != nil || len(got) != 1 {
		t.Fatalf("woken: %+v, %v", got, err)
	}
	must(t, s.Done(ctx, due[0].ID))
	must(t, s.WakeSecurityJob(ctx, "aa", epoch)) // is gone: there again
	if got, err := s.Lease(ctx, []string{store.SecurityKind}, 5, epoch, time.Minute); err != nil || len(got) != 1 {
		t.Fatalf("woken anew: %+v, %v", got, err)
	}
	if _, err := s.SecurityJob(ctx, "bb"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an unknown job: %v", err)
	}
}

func securityOnce(t *testing.T, s Records) {
	ctx := t.Context()
	must(t, s.PutSecurityJob(ctx, NewSecurityJob("aa"), epoch))
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			j, err := s.SecurityJob(ctx, "aa")
			if err == nil && j.Revision == 1 {
				err = s.StepSecurityJob(ctx, j, store.KeepChunks, store.SecurityChunk{First: 0, Count: 1, Data: []byte{byte(i)}})
				if err == nil {
					won.Add(1)
				}
			}
			if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrBusy) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if chunks, err := s.SecurityChunks(ctx, "aa", 0, 9); err != nil || len(chunks) != 1 || won.Load() != 1 {
		t.Fatalf("%d workers got on: %+v, %v", won.Load(), chunks, err)
	}
}

func securityPages(t *testing.T, s Records) {
	ctx := t.Context()
	for i := range 7 {
		j := NewSecurityJob(fmt.Sprintf("%02d", i))
		j.Created = epoch.Add(time.Duration(i/3) * time.Second) // several at one time
		if i == 5 {
			j.State, j.Kind, j.Platform = "done", "set", "crm"
		}
		must(t, s.PutSecurityJob(ctx, j, epoch))
	}
	var ids []string
	f := store.SecurityFilter{Limit: 2}
	for {
		p, err := s.SecurityJobs(ctx, f)
		must(t, err)
		for _, j := range p {
			ids = append(ids, j.ID)
			f.Before, f.BeforeID = j.Created, j.ID
		}
		if len(p) < 2 {
			break
		}
	}
	if fmt.Sprint(ids) != "[06 05 04 03 02 01 00]" {
		t.Errorf("pages are %v", ids)
	}
	for _, f := range []store.SecurityFilter{{States: []string{"done", "failed"}}, {Kind: "set"}, {Platform: "crm"}} {
		if p, err := s.SecurityJobs(ctx, f); err != nil || len(p) != 1 || p[0].ID != "05" {
			t.Errorf("%+v: %d jobs, %v", f, len(p), err)
		}
	}
}

func recordMarks(t *testing.T, s Records) {
	ctx := t.Context()
	a, b := []byte("a"), []byte("b")
	for _, c := range []struct{ raise, want uint64 }{{5, 5}, {3, 5}, {6, 6}} {
		must(t, s.Raise(ctx, [][]byte{a, b}, []uint64{c.raise, 1}))
		if v, err := s.Mark(ctx, a); err != nil || v != c.want {
			t.Fatalf("after raising to %d: %d, %v", c.raise, v, err)
		}
	}
	if v, err := s.Mark(ctx, []byte("c")); err != nil || v != 0 {
		t.Fatalf("never raised: %d, %v", v, err)
	}
	if err := s.Raise(ctx, [][]byte{[]byte("d"), a}, []uint64{1, 1 << 63}); err == nil {
		t.Error("a revision that no database holds was raised")
	}
	if v, err := s.Mark(ctx, []byte("d")); err != nil || v != 0 {
		t.Fatalf("half of a raise: %d, %v", v, err)
	}
}

func findings(t *testing.T, s Records) {
	ctx := t.Context()
	for i := range 3 {
		must(t, s.AddFindings(ctx, store.Finding{At: epoch, Source: "watch", Table: "sys_script", Ref: []byte{byte(i)}, Code: "FIELD_CHANGED", Subject: "script", Detail: "d"}))
	}
	fs, err := s.Findings(ctx, 0, 2)
	if err != nil || len(fs) != 2 || fs[0].Ref[0] != 2 || fs[1].Ref[0] != 1 || fs[0].Code != "FIELD_CHANGED" || !fs[0].At.Equal(epoch) {
		t.Fatalf("%+v, %v", fs, err)
	}
	if fs, err = s.Findings(ctx, fs[1].ID, 2); err != nil || len(fs) != 1 || fs[0].Ref[0] != 0 {
		t.Fatalf("second page: %+v, %v", fs, err)
	}
}

func retrieved(t *testing.T, s Records) {
	ctx := t.Context()
	r := &store.RetrievedSet{ID: "s1", Name: "set", State: "loaded", Platform: "erp", Who: "alice", Data: []byte("<unload/>"), Created: epoch, Updated: epoch}
	must(t, s.PutSet(ctx, r))
	if err := s.PutSet(ctx, &store.RetrievedSet{ID: "s1"}); !errors.Is(err, store.ErrExists) {
		t.Fatalf("the same ID again: %v", err)
	}
	stale := *r
	r.State, r.Preview = "previewed", []byte("p")
	must(t, s.StepSet(ctx, r))
	stale.State = "committed"
	if err := s.StepSet(ctx, &stale); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a stale step: %v", err)
	}
	got, err := s.Set(ctx, "s1")
	if err != nil || got.State != "previewed" || string(got.Data) != "<unload/>" || string(got.Preview) != "p" || got.Revision != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if l, err := s.Sets(ctx, 0); err != nil || len(l) != 1 || len(l[0].Data) != 0 || l[0].Name != "set" {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := s.Set(ctx, "s2"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an unknown set: %v", err)
	}
}
