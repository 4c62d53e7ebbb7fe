package verify

import (
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// book knows every request of the log that was read so far: open ones with where
// their evidence stands, executed ones by their ID alone.
type book struct {
	requests map[statement.ID]*logged
	names    map[string]string // requesters, each kept once
	mark     *logged           // stands for every request that was executed: no more is kept of them
	open     int64

	limit, held int64
	queue       []*ref // those that hold a body, oldest first, and some that no longer do
	live        int
}

type standing uint8

const (
	isOpen standing = iota
	isWithdrawn
	isExecuted
)

// logged is one request.
type logged struct {
	ref
	requester    string
	standing     standing
	withdrawn    time.Time // server's clock
	endorsements []vote
	entries      map[statement.ID]int64 // of endorsements, once there are many
}

// many is how many endorsements are looked through one by one.
const many = 32

// endorsed is the entry of an endorsement of l, if it was entered.
func (l *logged) endorsed(id statement.ID) (index int64, ok bool) {
	if len(l.endorsements) > many {
		index, ok = l.entries[id]
		return index, ok
	}
	for _, v := range l.endorsements {
		if v.id == id {
			return v.index, true
		}
	}
	return 0, false
}

func (l *logged) endorse(v vote) {
	if l.endorsements = append(l.endorsements, v); len(l.endorsements) <= many {
		return
	}
	if l.entries == nil {
		l.entries = map[statement.ID]int64{}
		for _, x := range l.endorsements {
			l.entries[x.id] = x.index
		}
	}
	l.entries[v.id] = v.index
}

type vote struct {
	*ref
	id statement.ID
}

// ref is an envelope in the log: its entry, and its bytes while there is room.
type ref struct {
	index int64
	body  []byte
}

func newBook(limit int64) book {
	return book{requests: map[statement.ID]*logged{}, names: map[string]string{}, mark: &logged{standing: isExecuted}, limit: limit}
}

func (b *book) name(s string) string {
	if known, ok := b.names[s]; ok {
		return known
	}
	b.names[s] = s
	return s
}

// hold counts the body of x, and drops the oldest ones when there are too many
// bytes: they are read again when they are wanted.
func (b *book) hold(x *ref) {
	b.held += int64(len(x.body))
	b.queue = append(b.queue, x)
	b.live++
	for b.held > b.limit && len(b.queue) > 0 {
		b.drop(b.queue[0])
		b.queue = b.queue[1:]
	}
	if len(b.queue) > 4096 && len(b.queue) > 2*b.live {
		keep := make([]*ref, 0, 2*b.live)
		for _, q := range b.queue {
			if q.body != nil {
				keep = append(keep, q)
			}
		}
		b.queue = keep
	}
}

func (b *book) drop(x *ref) {
	if x.body != nil {
		b.held -= int64(len(x.body))
		b.live--
		x.body = nil
	}
}

// execute keeps of a request that it was executed, and nothing else.
func (b *book) execute(id statement.ID) {
	l := b.requests[id]
	if l.standing == isOpen {
		b.open--
	}
	b.drop(&l.ref)
	for _, v := range l.endorsements {
		b.drop(v.ref)
	}
	b.requests[id] = b.mark
}
