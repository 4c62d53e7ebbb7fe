package server

import (
	"container/list"
	"sync"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// What is kept of open requests: maxRecent bytes in all, and nothing of a request
// that is larger than maxHeld.
const (
	maxRecent = 64 << 20
	maxHeld   = 1 << 20
)

// recent remembers open requests as this replica's last look or change left them,
// and their items, from their submission to their execution. What is remembered
// of a request's state may be old: another replica, or whoever edits the database,
// moves it on without our hearing of it. So it serves only to prepare a change,
// which the store refuses if it was made against an old revision, and never to
// refuse somebody anything. Items cannot be old: a request's ID commits to them,
// and the keeper holds them against it.
type recent struct {
	mu    sync.Mutex
	most  int // bytes
	size  int
	by    map[statement.ID]*list.Element // of *held
	order list.List                      // the first is the oldest
}

type held struct {
	id    statement.ID
	r     *store.Request // nil: to be looked up
	items [][]byte       // nil: to be looked up
	size  int
}

func newRecent(most int) *recent {
	return &recent{most: most, by: map[statement.ID]*list.Element{}}
}

// request returns an open request as it was; nil when it is not remembered. The
// caller does not change it.
func (m *recent) request(id statement.ID) *store.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.by[id]; e != nil {
		return e.Value.(*held).r
	}
	return nil
}

// items returns the items of an open request; nil when they are not remembered.
func (m *recent) items(id statement.ID) [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.by[id]; e != nil {
		return e.Value.(*held).items
	}
	return nil
}

// keep remembers r, which was just read or changed, and its items unless they are
// nil.
func (m *recent) keep(r *store.Request, items [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !r.State.Open() {
		m.drop(r.ID)
		return
	}
	e := m.by[r.ID]
	if e == nil {
		e = m.order.PushBack(&held{id: r.ID})
		m.by[r.ID] = e
	}
	h := e.Value.(*held)
	if h.r == nil || h.r.Revision < r.Revision {
		h.r = r
	}
	if items != nil {
		h.items = items
	}
	m.weigh(h)
}

// follow brings a request to what it is after c, which the store has applied.
func (m *recent) follow(c *store.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.by[c.Request]
	if e == nil {
		return
	}
	h := e.Value.(*held)
	switch {
	case c.State != "" && !c.State.Open():
		m.drop(c.Request)
	case h.r == nil || h.r.Revision > c.Revision: // somebody has looked since
	case h.r.Revision < c.Revision:
		h.r = nil
	default:
		h.r = h.r.After(c)
		m.weigh(h)
	}
}

// forget has a request's state looked up the next time. Its items stay.
func (m *recent) forget(id statement.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.by[id]; e != nil {
		e.Value.(*held).r = nil
	}
}

// weigh brings the sizes up to date and makes room.
func (m *recent) weigh(h *held) {
	n := 512 // what is not counted
	for _, b := range h.items {
		n += len(b) + 24
	}
	if h.r != nil {
		n += len(h.r.Envelope)
		for _, e := range h.r.Endorsements {
			n += len(e.Envelope) + 128
		}
	}
	m.size += n - h.size
	h.size = n
	if n > maxHeld {
		m.drop(h.id)
	}
	for m.size > m.most {
		m.drop(m.order.Front().Value.(*held).id)
	}
}

func (m *recent) drop(id statement.ID) {
	if e := m.by[id]; e != nil {
		m.size -= e.Value.(*held).size
		m.order.Remove(e)
		delete(m.by, id)
	}
}
