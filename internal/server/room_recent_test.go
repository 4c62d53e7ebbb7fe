package server

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Whatever comes and goes, and in whatever order, what is remembered is bounded, is
// accounted for, and is never of a request that has ended.
func TestRecentIsBounded(t *testing.T) {
	const most = 1 << 16
	m := newRecent(most)
	rnd := rand.New(rand.NewPCG(1, 2))
	requests := map[statement.ID]*store.Request{}
	ids := make([]statement.ID, 200)
	for i := range ids {
		ids[i] = sha256.Sum256(fmt.Append(nil, i))
	}
	for range 20000 {
		id := ids[rnd.IntN(len(ids))]
		r := requests[id]
		if r == nil {
			r = &store.Request{ID: id, Revision: 1, Envelope: make([]byte, rnd.IntN(4000)), State: store.Pending}
			requests[id] = r
		}
		switch rnd.IntN(5) {
		case 0:
			m.keep(r, [][]byte{make([]byte, rnd.IntN(3000)), make([]byte, rnd.IntN(most))})
		case 1:
			m.keep(r, nil)
		case 2:
			m.forget(id)
		default: // a step, of which this replica hears or not
			c := &store.Change{Request: id, Revision: r.Revision, Endorsement: &store.Endorsement{Envelope: make([]byte, 1000)}}
			if rnd.IntN(8) == 0 {
				c.State = store.Cancelled
			}
			if rnd.IntN(3) > 0 {
				m.follow(c)
			}
			if r = r.After(c); !r.State.Open() || len(r.Endorsements) > 20 {
				if r.State = store.Cancelled; m.request(id) != nil {
					m.keep(r, nil)
				}
				r = nil
			}
			requests[id] = r
			if r == nil {
				delete(requests, id)
				if m.request(id) != nil {
					t.Fatal("a request that has ended is remembered")
				}
			}
		}
		size := 0
		for e := m.order.Front(); e != nil; e = e.Next() {
			size += e.Value.(*held).size
		}
		if size != m.size || m.size > most || m.order.Len() != len(m.by) {
			t.Fatalf("%d bytes accounted for, of %d and at most %d; %d in order, %d by ID", m.size, size, most, m.order.Len(), len(m.by))
		}
	}
	if len(m.by) == 0 {
		t.Error("nothing is remembered")
	}
	m = newRecent(maxRecent)
	m.keep(&store.Request{ID: ids[0], Revision: 1, State: store.Pending}, [][]byte{make([]byte, maxHeld+1)})
	if len(m.by) != 0 || m.size != 0 {
		t.Error("a large request is held")
	}
}
