package platformtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
)

// Hear runs a watcher until it has told of all that is wanted ("changed key", "deleted
// key"), and returns all that it told. again, where it is not nil, is called between
// looks.
func Hear(t testing.TB, p platform.Platform, w platform.Watch, again func(), want ...string) (heard []string) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	ended := make(chan struct{})
	defer func() { <-ended }()
	if again == nil {
		close(ended)
	} else {
		go func() {
			defer close(ended)
			for ctx.Err() == nil {
				again()
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	w.Interval, w.Batch = 20*time.Millisecond, 10
	err := p.Watch(ctx, w, func(events []platform.Event) error {
		once := map[string]bool{}
		for _, e := range events {
			if once[e.Ref.ID()] || len(events) > w.Batch || e.At.IsZero() {
				t.Errorf("%v in a call of %d", e, len(events))
			}
			once[e.Ref.ID()] = true
			heard = append(heard, string(e.Op)+" "+strings.Join(e.Ref.Key, "/"))
		}
		if !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(heard, s) }) {
			time.AfterFunc(300*time.Millisecond, stop) // some moments more, for what should not come
		}
		return nil
	})
	stop()
	if errors.Is(err, context.Canceled) {
		return heard
	}
	t.Fatalf("heard %q, wanted %q: %v", heard, want, err)
	return nil
}

// watches are told of every change once they stand somewhere, those too that are made
// while they do not run; a call that fails is made again.
func watches(s *suite) {
	s.scripts()
	s.open(platform.Options{})
	s.put("a", map[string]string{"body": "1"})
	s.put("b", map[string]string{"body": "1"})
	WatchSuite(s.t, s.p, s.put, func(id string) {
		s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Delete, Ref: ref("script", id)}}))
	})
}

// WatchSuite are the promises of Watch, over the table script, which has the records a
// and b.
func WatchSuite(t *testing.T, p platform.Platform, put func(id string, fields map[string]string), remove func(id string)) {
	w := platform.Watch{Name: "w", Tables: []string{"script"}, Initial: true}
	same := func(got []string, want ...string) {
		t.Helper()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("heard %q, wanted %q", got, want)
		}
	}
	same(Hear(t, p, w, nil, "changed a", "changed b"), "changed a", "changed b")
	put("a", map[string]string{"body": "2"})
	put("a", map[string]string{"body": "3"})
	put("c", nil)
	remove("b")
	same(slices.Compact(slices.Sorted(slices.Values(Hear(t, p, w, nil, "changed a", "changed c", "deleted b")))), "changed a", "changed c", "deleted b")

	// f fails: the same is told again.
	put("c", map[string]string{"name": "x"})
	remove("a")
	broken := errors.New("broken")
	var first []string
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if err := p.Watch(ctx, w, func(e []platform.Event) error { first = append(first, fmt.Sprint(e)); return broken }); err != broken || len(first) != 1 {
		t.Fatal(first, err)
	}
	same(Hear(t, p, w, nil, "changed c", "deleted a"), "changed c", "deleted a")

	// Many at once come in calls of a bounded size.
	var want []string
	for i := range 35 {
		put(fmt.Sprint("m", i), nil)
		want = append(want, fmt.Sprint("changed m", i))
	}
	same(Hear(t, p, w, nil, want...), want...)

	// One that is new and does not ask for what is there hears what comes.
	n := 0
	heard := Hear(t, p, platform.Watch{Name: "new", Tables: []string{"script"}}, func() { n++; put("c", map[string]string{"body": fmt.Sprint("x", n)}) }, "changed c")
	if slices.Contains(heard, "changed m1") {
		t.Error(heard)
	}
	// Two of one name.
	var twice error
	one, end := context.WithCancel(ctx)
	defer end()
	if err := p.Watch(one, w, func([]platform.Event) error {
		twice = p.Watch(one, w, func([]platform.Event) error { return nil })
		end()
		return nil
	}); !errors.Is(err, context.Canceled) || !errors.Is(twice, platform.ErrConflict) {
		t.Error(err, twice)
	}
	if err := p.Unwatch(ctx, "w"); err != nil {
		t.Fatal(err)
	}
	Hear(t, p, w, nil, want...)
	for _, bad := range []platform.Watch{{Tables: []string{"script"}}, {Name: "x"}, {Name: "x", Tables: []string{"nothing"}}} {
		if err := p.Watch(ctx, bad, nil); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Error(bad, err)
		}
	}
}
