package charters

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/replay"
	"github.com/greatseal-io/greatseal/statement"
)

// Invariant 4: two replays run at a time, whoever asks for them; who asks for the same
// waits for the same, and one goes on when its reader has left.
func TestReplaysAtATime(t *testing.T) {
	r := newReplays()
	now := time.Now()
	head := statement.ID{9}
	let := make(chan struct{})
	began := make(chan struct{}, 10)
	slow := func(ctx context.Context, step func()) (*replay.Report, error) {
		step()
		began <- struct{}{}
		<-let
		return &replay.Report{Judged: 1}, ctx.Err()
	}
	leaving, leave := context.WithCancel(t.Context())
	a := r.begin(leaving, statement.ID{1}, head, now, time.Minute, slow)
	b := r.begin(t.Context(), statement.ID{2}, head, now, time.Minute, slow)
	leave()
	if a == nil || b == nil || a == b {
		t.Fatal("two do not run")
	}
	if again := r.begin(t.Context(), statement.ID{1}, head, now, 0, slow); again != a {
		t.Error("the same is not the same")
	}
	if c := r.begin(t.Context(), statement.ID{3}, head, now, time.Millisecond, slow); c != nil {
		t.Error("a third one runs")
	}
	if c := r.begin(leaving, statement.ID{3}, head, now, time.Minute, slow); c != nil {
		t.Error("who has left waits")
	}
	<-began
	<-began
	close(let)
	<-a.done
	<-b.done
	if a.err != nil || a.rep == nil || a.judged.Load() != 1 {
		t.Errorf("%+v, %v: its reader had left", a.rep, a.err)
	}
	if again := r.begin(t.Context(), statement.ID{1}, head, now, time.Minute, slow); again != a {
		t.Error("the result is not kept")
	}
	if c := r.begin(t.Context(), statement.ID{1}, statement.ID{8}, now, time.Minute, slow); c == nil || c == a {
		t.Error("the result is kept for another charter in force")
	} else {
		<-c.done
	}
	late := a.ended.Add(replayLasts)
	if c := r.begin(t.Context(), statement.ID{1}, head, late, time.Minute, slow); c == nil || c == a {
		t.Error("the result is kept for ever")
	} else {
		<-c.done
	}
}

// What failed is tried again, and few results are kept.
func TestReplaysKept(t *testing.T) {
	r := newReplays()
	now := time.Now()
	head := statement.ID{9}
	bad := errors.New("the database is gone")
	x := r.begin(t.Context(), statement.ID{1}, head, now, time.Minute, func(context.Context, func()) (*replay.Report, error) { return nil, bad })
	<-x.done
	if !errors.Is(x.err, bad) {
		t.Error(x.err)
	}
	good := func(context.Context, func()) (*replay.Report, error) { return &replay.Report{}, nil }
	if y := r.begin(t.Context(), statement.ID{1}, head, now, time.Minute, good); y == x {
		t.Error("a failure is kept")
	} else {
		<-y.done
	}
	for i := range 3 * replaysKept {
		y := r.begin(t.Context(), statement.ID{2, byte(i)}, head, now, time.Minute, good)
		<-y.done
	}
	if len(r.all) > replaysKept {
		t.Errorf("%d are kept", len(r.all))
	}
}
