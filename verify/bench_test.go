package verify_test

import (
	"context"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

// BenchmarkLog judges a log of 100 000 entries: a third of them receipts whose
// requests and endorsements are judged again.
func BenchmarkLog(b *testing.B) {
	const entries = 100_000
	d := verifytest.New(b)
	it := d.Item(d.FormatOf("two-rounds"), "app.txt", []byte("two rounds\n"), nil)
	for n := 0; n+3 <= entries; n += 3 {
		r := d.Sign("plain", "dave", it)
		d.Endorse(r, "alice")
		d.Execute(r)
	}
	src := d.Source()
	b.ReportAllocs()
	var size int64
	var spent time.Duration
	for b.Loop() {
		start := time.Now()
		r, err := verify.Log(context.Background(), src, d.Root, verify.LogOptions{})
		if err != nil || !r.OK() {
			b.Fatalf("%v %v", err, r)
		}
		size, spent = size+r.Size, spent+time.Since(start)
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(size), "µs/entry")
}

// BenchmarkJudge judges one document.
func BenchmarkJudge(b *testing.B) {
	d, r := apps(b)
	e := d.Evidence(r, 0)
	for b.Loop() {
		if _, err := verify.Judge(e, d.Root, verifytest.Formats()); err != nil {
			b.Fatal(err)
		}
	}
}
