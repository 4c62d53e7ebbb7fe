package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// room is how far the heap of a server's process may grow before garbage is
// collected, as long as that is not more than most percent of what lives, nor less
// than all of it, which is Go's default.
const (
	room = 256 << 20 // bytes
	most = 400
)

// GiveRoom has the process collect garbage less often than Go's default while ctx
// lasts, and then as before: most of what a request leaves behind lives for
// milliseconds, and a small heap fills many times a second. Whoever has set GOGC or
// GOMEMLIMIT is left alone.
func GiveRoom(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	before := debug.SetGCPercent(most)
	defer debug.SetGCPercent(before)
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			debug.SetGCPercent(percent(live()))
		}
	}
}

// percent is the growth that leaves room when n bytes live.
func percent(n uint64) int { return int(min(most, max(100, room*100/max(1, n)))) }

func live() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return room // as Go has it
	}
	return s[0].Value.Uint64()
}
