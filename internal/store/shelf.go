package store

import (
	"context"
	"database/sql"
	"sync"
)

// maxShelf bounds a shelf: the texts that go on it are few, and if they were not,
// the later ones would be parsed each time.
const maxShelf = 128

// shelf keeps statements prepared from one transaction to the next. They end with
// the database. A nil shelf keeps nothing. It is safe for concurrent use.
type shelf struct {
	mu    sync.Mutex
	stmts map[string]*sql.Stmt
	wants map[string]bool
}

// get finds a statement. One that is missing is wanted.
func (s *shelf) get(text string) *sql.Stmt {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.stmts[text]
	if p == nil && len(s.stmts)+len(s.wants) < maxShelf {
		if s.wants == nil {
			s.wants = map[string]bool{}
		}
		s.wants[text] = true
	}
	return p
}

// fill prepares what is wanted. What cannot be prepared is parsed each time, where
// its error is seen.
func (s *shelf) fill(ctx context.Context, db *sql.DB) {
	if s == nil {
		return
	}
	s.mu.Lock()
	wants := s.wants
	s.wants = nil
	s.mu.Unlock()
	for text := range wants {
		p, err := db.PrepareContext(ctx, text)
		if err != nil {
			continue
		}
		s.mu.Lock()
		if s.stmts == nil {
			s.stmts = map[string]*sql.Stmt{}
		}
		if s.stmts[text] == nil {
			s.stmts[text], p = p, nil
		}
		s.mu.Unlock()
		if p != nil {
			p.Close() // somebody was faster
		}
	}
}

// rows asks the database by a statement whose text is always the same.
func (s *SQL) rows(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	if p := s.reading.get(q); p != nil {
		return p.QueryContext(ctx, args...)
	}
	s.reading.fill(ctx, s.read)
	return s.read.QueryContext(ctx, q, args...)
}

// row is rows for one row at the most.
func (s *SQL) row(ctx context.Context, q string, args ...any) *sql.Row {
	if p := s.reading.get(q); p != nil {
		return p.QueryRowContext(ctx, args...)
	}
	s.reading.fill(ctx, s.read)
	return s.read.QueryRowContext(ctx, q, args...)
}
