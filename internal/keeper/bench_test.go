package keeper

import (
	"context"
	"crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// cost is what something took: by the clock, and of the processors. The second
// does not depend on what else the machine does.
type cost struct{ wall, cpu time.Duration }

func (c cost) plus(d cost) cost { return cost{c.wall + d.wall, c.cpu + d.cpu} }

func processors() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spread calls do n times from so many goroutines.
func spread(n, workers int, do func(i int)) cost {
	var next atomic.Int64
	var wg sync.WaitGroup
	began, used := time.Now(), processors()
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	wg.Wait()
	return cost{time.Since(began), processors() - used}
}

// BenchmarkExecute compares governed signing with the raw rate of the same key in
// the same run, all processors busy: "ratio" is governed over raw by the clock,
// "cpu-ratio" by processor time, and "checked-cpu-ratio" compares with raw signing
// whose signatures are checked, which a keeper cannot leave out.
func BenchmarkExecute(b *testing.B) {
	for _, c := range []struct {
		name, policy string
		scheme       sigalg.Scheme
		items        int
	}{
		{"rsa-3072/1", "rsa", sigalg.RSAPKCS1SHA256, 1},
		{"p256/1000", "fast", sigalg.ECDSASHA256, 1000},
		{"ed25519/1000", "nightly", sigalg.PureEd25519, 1000},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			w.generate("rsa", "release", "nightly")
			items := plainItems(b, c.items)
			orders := make([]*Order, b.N)
			for i := range orders {
				orders[i] = w.signOrder(c.policy, items)
			}
			ctx := context.Background()
			name := w.c.Policies[c.policy].Key
			kk, err := w.provider.Open(ctx, key.URI("test:"+name))
			if err != nil {
				b.Fatal(err)
			}
			n := b.N * c.items
			digest := sha256.Sum256(nil)
			raw := func(check bool) cost {
				return spread(n, 2*runtime.GOMAXPROCS(0), func(int) {
					sig, err := kk.Sign(ctx, c.scheme, c.scheme.Input(digest[:]))
					if err == nil && check {
						err = sigalg.Verify(kk.Public(), c.scheme, digest[:], sig)
					}
					if err != nil {
						b.Error(err)
					}
				})
			}
			before := raw(false)
			checked := raw(true)
			b.ResetTimer()
			took := spread(b.N, 16, func(i int) {
				out, err := w.k.Execute(ctx, orders[i])
				if err != nil || len(out.Signatures) != c.items {
					b.Error(err)
				}
			})
			b.StopTimer()
			bare := before.plus(raw(false)) // around the run, for the machine is shared
			checked = checked.plus(raw(true))
			st, err := w.k.Status(ctx)
			if err != nil || st.Receipts < uint64(b.N) {
				b.Fatal(st, err)
			}
			b.ReportMetric(float64(n)/took.wall.Seconds(), "governed/s")
			b.ReportMetric(2*float64(n)/bare.wall.Seconds(), "raw/s")
			b.ReportMetric(bare.wall.Seconds()/2/took.wall.Seconds(), "ratio")
			b.ReportMetric(bare.cpu.Seconds()/2/took.cpu.Seconds(), "cpu-ratio")
			b.ReportMetric(checked.cpu.Seconds()/2/took.cpu.Seconds(), "checked-cpu-ratio")
		})
	}
}

// BenchmarkOpen is the time of a restart, for each receipt of the ledger.
func BenchmarkOpen(b *testing.B) {
	w := newWorld(b)
	w.generate("nightly")
	items := plainItems(b, 1)
	for range 2000 {
		if r, _ := w.do(w.signOrder("nightly", items)); r.Outcome != statement.Executed {
			b.Fatal(r.Code)
		}
	}
	b.ResetTimer()
	for b.Loop() {
		w.reopen()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/2000, "µs/receipt")
}
