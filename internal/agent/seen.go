package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// forgetAfter is how long a key is kept after its order has expired: the longest life
// of another order with the key, and a day.
const forgetAfter = order.MaxLife + 24*time.Hour

// clockSkew is how far the clock may go back, as clocks do that are set.
const clockSkew = 2 * time.Minute

// seen is the durable set of orders that were begun, and of the latest time.
type seen struct {
	mu      sync.Mutex
	j       *journal
	until   map[[32]byte]time.Time // durable
	claimed map[[32]byte]bool      // being judged
	high    time.Time              // the latest time that was written
	lines   int
}

func openSeen(path string) (*seen, error) {
	s := &seen{until: map[[32]byte]time.Time{}, claimed: map[[32]byte]bool{}}
	var err error
	s.j, err = openJournal(path, func(text []byte) error {
		var kind, key string
		var at int64
		if n, err := fmt.Fscanf(bytes.NewReader(text), "%s %s %d", &kind, &key, &at); err != nil || n != 3 {
			return errors.New("is not an order's")
		}
		s.lines++
		switch kind {
		case "clock":
			if t := time.Unix(at, 0); t.After(s.high) {
				s.high = t
			}
		case "order":
			b, err := hex.DecodeString(key)
			if err != nil || len(b) != 32 {
				return errors.New("is not an order's")
			}
			s.until[[32]byte(b)] = time.Unix(at, 0)
		default:
			return errors.New("is not an order's")
		}
		return nil
	})
	return s, err
}

func orderLine(key [32]byte, until time.Time) []byte {
	return fmt.Appendf(nil, "order %x %d", key, until.Unix())
}

func clockLine(t time.Time) []byte { return fmt.Appendf(nil, "clock - %d", t.Unix()) }

// clock refuses a time that is behind the latest one seen: orders would be valid
// again, and keys that are forgotten would be missed.
func (s *seen) clock(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clockLocked(now)
}

func (s *seen) clockLocked(now time.Time) error {
	if now.Before(s.high.Add(-clockSkew)) {
		return rejection.New(rejection.ClockBackwards, "", fmt.Sprintf("the clock says %s: it was %s already", now.UTC().Format(time.RFC3339), s.high.UTC().Format(time.RFC3339)))
	}
	return nil
}

// tick notes the time durably, once a minute at most.
func (s *seen) tick(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.high) < time.Minute {
		return nil
	}
	if err := s.j.append(clockLine(now)); err != nil {
		return err
	}
	s.high = now
	s.lines++
	return s.compact(now)
}

// claim takes a key for one judgement, or says that its order was begun.
func (s *seen) claim(key [32]byte) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.until[key]; ok || s.claimed[key] {
		return nil, rejection.New(rejection.OrderReplayed, "", "the order was begun here before")
	}
	s.claimed[key] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.claimed, key)
	}, nil
}

// begin notes durably that the claimed order runs. With an error it must not.
func (s *seen) begin(key [32]byte, expires, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.clockLocked(now); err != nil {
		return err
	}
	until := expires.Add(forgetAfter)
	if err := s.j.append(orderLine(key, until)); err != nil {
		return err
	}
	s.until[key] = until
	s.lines++
	return nil
}

// compact forgets what may be forgotten, when half of the file is that.
func (s *seen) compact(now time.Time) error {
	if s.lines < 10_000 || s.lines < 2*len(s.until) {
		return nil
	}
	var keep [][]byte
	for k, until := range s.until {
		if now.After(until) {
			delete(s.until, k)
			continue
		}
		keep = append(keep, orderLine(k, until))
	}
	keep = append(keep, clockLine(s.high))
	s.lines = len(keep)
	return s.j.replace(keep)
}

// marks are the durable high-water marks of revisions: record.Marks.
type marks struct {
	mu   sync.Mutex
	j    *journal
	high map[string]uint64
	refs map[string]record.Ref
	n    int
}

type markLine struct {
	Ref      record.Ref `json:"ref"`
	Revision uint64     `json:"revision"`
}

func openMarks(path string) (*marks, error) {
	m := &marks{high: map[string]uint64{}, refs: map[string]record.Ref{}}
	var err error
	m.j, err = openJournal(path, func(text []byte) error {
		var l markLine
		if err := json.Unmarshal(text, &l); err != nil {
			return errors.New("is not a mark")
		}
		m.n++
		id := l.Ref.ID()
		m.high[id], m.refs[id] = max(m.high[id], l.Revision), l.Ref
		return nil
	})
	return m, err
}

// Highest is the mark of a record.
func (m *marks) Highest(_ context.Context, ref record.Ref) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.high[ref.ID()], nil
}

// Raise sets the mark durably.
func (m *marks) Raise(_ context.Context, ref record.Ref, revision uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := ref.ID()
	switch have := m.high[id]; {
	case have > revision:
		return fmt.Errorf("agent: %w", record.ErrLower)
	case have == revision:
		return nil
	}
	b, err := json.Marshal(markLine{ref, revision})
	if err != nil {
		return err
	}
	if err := m.j.append(b); err != nil {
		return err
	}
	m.high[id], m.refs[id] = revision, ref
	if m.n++; m.n > 10_000 && m.n > 2*len(m.high) {
		return m.compact()
	}
	return nil
}

func (m *marks) compact() error {
	var keep [][]byte
	for id, r := range m.high {
		b, err := json.Marshal(markLine{m.refs[id], r})
		if err != nil {
			return err
		}
		keep = append(keep, b)
	}
	m.n = len(keep)
	return m.j.replace(keep)
}
