package server

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
)

// A small heap may grow to several times its size, a large one as Go has it.
func TestPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 400}, {10 << 20, 400}, {64 << 20, 400}, {128 << 20, 200}, {256 << 20, 100}, {8 << 30, 100}} {
		if got := percent(c.live); got != c.want {
			t.Errorf("%d MiB live: %d percent, want %d", c.live>>20, got, c.want)
		}
	}
	runtime.GC()
	if n := live(); n == 0 || n == room {
		t.Errorf("%d bytes live", n)
	}
}

// When the server ends, the process is as it was; and what its administrator has
// said about memory stands.
func TestGiveRoom(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); GiveRoom(ctx) }()
	cancel()
	<-done
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("%d percent after the end", got)
	}
	t.Setenv("GOGC", "50")
	GiveRoom(t.Context()) // returns at once
}
