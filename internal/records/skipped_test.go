package records

import (
	"context"
	"encoding/json/v2"
	"fmt"
	"testing"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
)

// pieces are a job's chunks; it counts those that are read.
type pieces struct {
	Store
	list []store.SecurityChunk
	read int
}

func (p *pieces) SecurityChunks(_ context.Context, _ string, from int64, limit int) (out []store.SecurityChunk, err error) {
	at := 0
	for i, c := range p.list {
		if c.First <= from {
			at = i
		}
	}
	out = p.list[min(at, len(p.list)):min(at+limit, len(p.list))]
	p.read += len(out)
	return out, nil
}

// Each entry that was skipped is listed once and in its place, wherever a list begins
// and ends, and the first ones are read without the rest.
func TestSkippedInPieces(t *testing.T) {
	p := &pieces{}
	total := 0
	for i, n := range []int{3, 1, 5, 2} {
		var es []Entry
		for range n {
			es = append(es, Entry{Ref: record.Ref{Table: "t", Key: []string{fmt.Sprint(total)}}, Reason: "no"})
			total++
		}
		b, err := json.Marshal(es)
		if err != nil {
			t.Fatal(err)
		}
		p.list = append(p.list, store.SecurityChunk{First: int64(i * 100), Count: int64(n), Data: b})
	}
	s := &Jobs{c: Config{Store: p}}
	for from := range total + 2 {
		for limit := 1; limit <= total+1; limit++ {
			list, err := s.Skipped(t.Context(), "x", int64(from), limit)
			if err != nil || len(list) != max(0, min(limit, total-from)) {
				t.Fatalf("%d from %d: %d, %v", limit, from, len(list), err)
			}
			for i, e := range list {
				if e.Index != int64(from+i) || e.Ref.Key[0] != fmt.Sprint(from+i) || e.Reason != "no" {
					t.Errorf("%d from %d: %+v", limit, from, e)
				}
			}
		}
	}
	p.read = 0
	if _, err := s.Skipped(t.Context(), "x", 0, 3); err != nil || p.read != 1 {
		t.Errorf("%d pieces, %v", p.read, err)
	}
	for _, bad := range []string{"", "{}", "[", `[{"index":0}`, `[{"index":"x"}]`, "null"} {
		p.list = []store.SecurityChunk{{First: 0, Count: 2, Data: []byte(bad)}}
		if list, err := s.Skipped(t.Context(), "x", 0, 10); err == nil {
			t.Errorf("%q: %+v", bad, list)
		}
	}
	p.list = nil
	if list, err := s.Skipped(t.Context(), "x", 0, 10); err != nil || list == nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}
