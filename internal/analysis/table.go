package analysis

import (
	"cmp"
	"slices"
	"sort"
)

// cell is where a number stands within its kind.
type cell struct {
	day         int64
	name, other string
	bucket      int64
}

// row is a cell with its number. Names are places in the table's list.
type row struct {
	day, bucket int64
	name, other int32
	n           int64
}

// pair is what tells rows of a table apart beside their days and names.
func (r *row) pair() uint64 { return uint64(uint32(r.name))<<32 | uint64(uint32(r.other)) }

// table has the numbers of one kind in the order of days: a page sums up some ten
// thousand of them several times.
type table struct {
	rows  []row
	at    map[cell]int // index of rows
	names []string
	known map[string]int32 // index of names
}

func newTable() *table { return &table{at: map[cell]int{}, known: map[string]int32{}} }

func (t *table) intern(name string) int32 {
	n, ok := t.known[name]
	if !ok {
		n = int32(len(t.names))
		t.names = append(t.names, name)
		t.known[name] = n
	}
	return n
}

// raise puts a number into a cell that has none, or a lower one. The caller calls order
// afterwards.
func (t *table) raise(c cell, n int64) {
	if i, ok := t.at[c]; ok {
		t.rows[i].n = max(t.rows[i].n, n)
		return
	}
	t.at[c] = len(t.rows)
	t.rows = append(t.rows, row{day: c.day, bucket: c.bucket, name: t.intern(c.name), other: t.intern(c.other), n: n})
}

// order restores the order of days. What has just come is of today, mostly, and in its
// place already.
func (t *table) order() {
	byDay := func(a, b row) int { return cmp.Compare(a.day, b.day) }
	if slices.IsSortedFunc(t.rows, byDay) {
		return
	}
	slices.SortStableFunc(t.rows, byDay)
	for i := range t.rows {
		r := &t.rows[i]
		t.at[cell{r.day, t.names[r.name], t.names[r.other], r.bucket}] = i
	}
}

// span is the rows of a range.
func (t *table) span(r Range) []row {
	if r.To <= r.From {
		return nil
	}
	from := sort.Search(len(t.rows), func(i int) bool { return t.rows[i].day >= r.From })
	to := sort.Search(len(t.rows), func(i int) bool { return t.rows[i].day >= r.To })
	return t.rows[from:to]
}
