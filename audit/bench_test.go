package audit_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
)

// BenchmarkMillion is the life of a log of a million entries: one iteration
// integrates them in batches of 1000, reads them all as a stranger and checks
// the whole. Run it with -benchtime 1x.
func BenchmarkMillion(b *testing.B) {
	const total, batch = 1_000_000, 1000
	entries := audittest.Entries(b, 0, total)
	ctx := context.Background()
	for b.Loop() {
		m := new(audittest.Memory)
		tree := audit.EmptyTree()
		start := time.Now()
		for n := 0; n < total; n += batch {
			x, err := audit.Integrate(ctx, m, tree, entries[n:n+batch])
			if err != nil {
				b.Fatal(err)
			}
			if err := m.Write(ctx, x); err != nil {
				b.Fatal(err)
			}
			tree = x.Tree
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/integrate")

		c := audittest.Client(b, m)
		head := audittest.Head(b, tree)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var peak uint64
		n := 0
		start = time.Now()
		for e, err := range c.Entries(ctx, head, 0, total) {
			if err != nil {
				b.Fatal(err)
			}
			if n++; e.Index%100_000 == 0 {
				runtime.GC() // what is held, not what was dropped
				runtime.ReadMemStats(&after)
				peak = max(peak, after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))
			}
		}
		if n != total {
			b.Fatal(n)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/read")
		b.ReportMetric(float64(peak)/(1<<20), "MiB/read")

		start = time.Now()
		for e, err := range c.Entries(ctx, head, 0, total) {
			if err != nil {
				b.Fatal(err)
			}
			if _, err := e.Entry(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/decode")

		start = time.Now()
		if err := c.Fsck(ctx, head); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/fsck")
	}
}
