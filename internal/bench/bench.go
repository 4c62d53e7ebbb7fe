// Package bench measures what governance costs on the machine at hand: the rate of
// a key alone against the rate of the same key behind requests, endorsements,
// policy, ledger, database and log; planning against plain hashing; and checking a
// large log.
//
// Invariants:
//
//  1. What is compared is measured in one run, in alternating slices, so that a
//     noisy machine hits both sides.
//  2. The governed side is the product: package server and a keeper as they run in
//     production, with every fsync, on real databases and real tokens. Nothing is
//     switched off and no check is left out.
//  3. Everything is made in a temporary folder and removed, and every process
//     that was started is ended, however the run ends.
//
// What a caller may not conclude: that figures of two machines, or of two runs on a
// busy machine, can be compared. Only the ratios within one run can.
package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// Progress tells people what is being done, on a writer that may be nil.
type Progress struct{ W io.Writer }

func (p Progress) say(format string, args ...any) {
	if p.W != nil {
		fmt.Fprintf(p.W, format+"\n", args...)
	}
}

// percentile is the nearest-rank percentile of ds in milliseconds; 0 of none.
func percentile(ds []time.Duration, p float64) float64 {
	if len(ds) == 0 {
		return 0
	}
	ds = slices.Sorted(slices.Values(ds))
	i := int(math.Ceil(p/100*float64(len(ds)))) - 1
	return float64(ds[max(0, i)].Microseconds()) / 1000
}

// perSecond is n in d as a rate.
func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// round cuts a figure to what its measurement can carry.
func round(v float64, digits int) float64 {
	m := math.Pow(10, float64(digits))
	return math.Round(v*m) / m
}
