package analysis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// What comes late is found among its days, a number never falls, and each range has all
// that belongs to it and nothing else.
func TestTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	x, want := newTable(), map[cell]int64{}
	for i := range 4000 {
		c := cell{day: rnd.Int64N(60), name: fmt.Sprint("n", rnd.IntN(5)), other: fmt.Sprint("o", rnd.IntN(2)), bucket: rnd.Int64N(4)}
		n := rnd.Int64N(100) + 1
		x.raise(c, n)
		want[c] = max(want[c], n)
		if i%500 == 0 {
			x.order()
		}
	}
	x.order()
	if len(x.rows) != len(want) || !slices.IsSortedFunc(x.rows, func(a, b row) int { return int(a.day - b.day) }) {
		t.Fatalf("%d rows of %d", len(x.rows), len(want))
	}
	for _, r := range []Range{{0, 60}, {10, 20}, {59, 60}, {5, 5}, {7, 3}, {-9, 1}, {60, 90}} {
		have := map[cell]int64{}
		for _, y := range x.span(r) {
			have[cell{y.day, x.names[y.name], x.names[y.other], y.bucket}] = y.n
		}
		n := 0
		for c, v := range want {
			if c.day < r.From || c.day >= r.To {
				continue
			}
			if n++; have[c] != v {
				t.Errorf("%v: %v: %d, want %d", r, c, have[c], v)
			}
		}
		if n != len(have) {
			t.Errorf("%v: %d rows, want %d", r, len(have), n)
		}
	}
}
