package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Noticing is a store with notices.
type Noticing interface {
	store.Notices
	Lease(ctx context.Context, kinds []string, limit int, now time.Time, d time.Duration) ([]store.Job, error)
	Jobs(ctx context.Context) (map[string]int, error)
}

// RunNotices runs the suite of store.Notices; open returns an empty store.
func RunNotices(t *testing.T, open func(t *testing.T) Noticing) {
	t.Run("Once", func(t *testing.T) { noticeOnce(t, open(t)) })
	t.Run("OneStepWins", func(t *testing.T) { noticeStep(t, open(t)) })
	t.Run("Fold", func(t *testing.T) { noticeFold(t, open(t)) })
	t.Run("Preferences", func(t *testing.T) { noticePreferences(t, open(t)) })
	t.Run("Kinds", func(t *testing.T) { dueKinds(t, open(t)) })
}

func newNotice(id string, request statement.ID, job bool) store.Notice {
	n := store.Notice{ID: id, Request: request, Event: "request.pending", Recipient: "bob", Way: "mail", State: store.NoticeWaiting, Letter: []byte("letter of " + id), Created: epoch, Due: epoch}
	if job {
		n.Job = &store.Job{Kind: "notice.mail", Ref: id, RunAt: epoch}
	}
	return n
}

func noticeOnce(t *testing.T, s Noticing) {
	r := statement.ID{1}
	list := []store.Notice{newNotice("a", r, true), newNotice("b", r, true), newNotice("c", statement.ID{2}, false), newNotice("d", statement.ID{}, true)}
	n, err := s.PutNotices(t.Context(), list, store.Job{Kind: "other", Ref: "x", RunAt: epoch})
	must(t, err)
	if n != 4 {
		t.Errorf("%d are new", n)
	}
	jobs, err := s.Lease(t.Context(), []string{"notice.mail"}, 9, epoch, time.Minute)
	must(t, err)
	if len(jobs) != 3 {
		t.Errorf("%d jobs", len(jobs))
	}
	// Again, as after a crash or by another replica: what is there stays, and a job that
	// was done does not come back.
	list[0].Letter = []byte("another")
	n, err = s.PutNotices(t.Context(), append(list, newNotice("e", r, true)), store.Job{Kind: "other", Ref: "x", RunAt: epoch})
	must(t, err)
	if n != 1 {
		t.Errorf("%d are new the second time", n)
	}
	if c, err := s.Jobs(t.Context()); err != nil || c["notice.mail"] != 4 || c["other"] != 1 {
		t.Errorf("jobs: %v %v", c, err)
	}
	got, err := s.NoticesOf(t.Context(), r)
	must(t, err)
	if len(got) != 3 || got[0].ID != "a" || string(got[0].Letter) != "letter of a" || got[0].Request != r || !got[0].Created.Equal(epoch) || got[0].State != store.NoticeWaiting {
		t.Errorf("of the request: %+v", got)
	}
	one, err := s.Notice(t.Context(), "d")
	if err != nil || one.Request != (statement.ID{}) || one.Way != "mail" || one.Recipient != "bob" {
		t.Errorf("%+v %v", one, err)
	}
	if _, err := s.Notice(t.Context(), "z"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
}

func noticeStep(t *testing.T, s Noticing) {
	_, err := s.PutNotices(t.Context(), []store.Notice{newNotice("a", statement.ID{1}, true)})
	must(t, err)
	n, err := s.Notice(t.Context(), "a")
	must(t, err)
	wins := make(chan error, 8)
	for range 8 {
		x := *n
		x.State, x.Attempts, x.Unsure, x.Error, x.Updated = store.NoticeSending, 1, 1, "because\x00", epoch.Add(time.Minute)
		go func() { wins <- s.StepNotice(t.Context(), &x, store.NoticeWaiting, 0) }()
	}
	won := 0
	for range 8 {
		switch err := <-wins; {
		case err == nil:
			won++
		case !errors.Is(err, store.ErrConflict):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d have taken it", won)
	}
	n, err = s.Notice(t.Context(), "a")
	if err != nil || n.State != store.NoticeSending || n.Attempts != 1 || n.Unsure != 1 || n.Error == "" || !n.Updated.Equal(epoch.Add(time.Minute)) {
		t.Errorf("%+v %v", n, err)
	}
	if err := s.StepNotice(t.Context(), n, store.NoticeSending, 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("of an older attempt: %v", err)
	}
}

func noticeFold(t *testing.T, s Noticing) {
	held := func(id, who string, due time.Time) store.Notice {
		n := newNotice(id, statement.ID{1}, false)
		n.State, n.Way, n.Recipient, n.Due = store.NoticeHeld, "digest", who, due
		return n
	}
	_, err := s.PutNotices(t.Context(), []store.Notice{held("a", "bob", epoch), held("b", "bob", epoch), held("c", "bob", epoch.Add(time.Hour)), held("d", "carol", epoch), newNotice("e", statement.ID{1}, false)})
	must(t, err)
	ids := func(who string, at time.Time) (out []string) {
		list, err := s.HeldNotices(t.Context(), who, at, 100)
		must(t, err)
		for _, n := range list {
			out = append(out, n.ID)
		}
		return out
	}
	if got := ids("bob", epoch); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("held: %v", got)
	}
	must(t, s.FoldNotices(t.Context(), []store.Notice{newNotice("digest", statement.ID{}, true)}, []string{"a", "b"}, store.NoticeFolded, epoch))
	if got := ids("bob", epoch.Add(2*time.Hour)); !slices.Equal(got, []string{"c"}) {
		t.Errorf("after folding: %v", got)
	}
	n, err := s.Notice(t.Context(), "a")
	if err != nil || n.State != store.NoticeFolded || n.Digest != "digest" {
		t.Errorf("%+v %v", n, err)
	}
	// Somebody else has folded b already: nothing of it happens.
	if err := s.FoldNotices(t.Context(), []store.Notice{newNotice("second", statement.ID{}, true)}, []string{"b", "c"}, store.NoticeFolded, epoch); !errors.Is(err, store.ErrConflict) {
		t.Errorf("folded twice: %v", err)
	}
	if _, err := s.Notice(t.Context(), "second"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("half of it was kept: %v", err)
	}
	if got := ids("bob", epoch.Add(2*time.Hour)); !slices.Equal(got, []string{"c"}) {
		t.Errorf("c: %v", got)
	}
	must(t, s.FoldNotices(t.Context(), nil, []string{"c"}, store.NoticeDropped, epoch))
	if n, err := s.Notice(t.Context(), "c"); err != nil || n.State != store.NoticeDropped {
		t.Errorf("%+v %v", n, err)
	}
}

func noticePreferences(t *testing.T, s Noticing) {
	if _, err := s.NoticePreferences(t.Context(), "bob"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	for _, text := range []string{"one", "two"} {
		must(t, s.SetNoticePreferences(t.Context(), "bob", []byte(text), epoch))
		if b, err := s.NoticePreferences(t.Context(), "bob"); err != nil || string(b) != text {
			t.Errorf("%q %v", b, err)
		}
	}
}

func dueKinds(t *testing.T, s Noticing) {
	var jobs []store.Job
	for i, k := range []string{"notice.mail", "notice.mail", "notice.chat.bob", "notice.later", "webhook:a", "noticed"} {
		at := epoch
		if k == "notice.later" {
			at = epoch.Add(time.Hour)
		}
		jobs = append(jobs, store.Job{Kind: k, Ref: string(rune('a' + i)), RunAt: at})
	}
	_, err := s.PutNotices(t.Context(), nil, jobs...)
	must(t, err)
	got, err := s.DueKinds(t.Context(), "notice.", epoch)
	must(t, err)
	slices.Sort(got)
	if !slices.Equal(got, []string{"notice.chat.bob", "notice.mail"}) {
		t.Errorf("due: %v", got)
	}
	for _, bad := range []string{"%", "a_b", "\\"} {
		if _, err := s.DueKinds(t.Context(), bad, epoch); err == nil {
			t.Errorf("%q is a prefix", bad)
		}
	}
}
