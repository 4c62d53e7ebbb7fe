// Package pgtest is package pgtemp for tests: what goes wrong fails the test, and
// the server is gone when the test ends.
package pgtest

import (
	"testing"

	"github.com/greatseal-io/greatseal/internal/store/pgtemp"
)

// Server is one cluster.
type Server struct {
	t      testing.TB
	s      *pgtemp.Server
	Socket string // folder of the Unix socket
}

// Start runs a server. A machine without PostgreSQL fails the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := pgtemp.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Server{t, s, s.Socket()}
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Up starts the server again after Down.
func (s *Server) Up() {
	s.t.Helper()
	s.must(s.s.Up())
}

// Down stops the server at once, as a crash would: without a checkpoint.
func (s *Server) Down() {
	s.t.Helper()
	s.must(s.s.Down())
}

// Restart stops the server at once, connections cut, and starts it again.
func (s *Server) Restart() {
	s.t.Helper()
	s.Down()
	s.Up()
}

// Database makes an empty database and returns its address.
func (s *Server) Database() string {
	s.t.Helper()
	dsn, err := s.s.Database()
	s.must(err)
	return dsn
}

// SQL runs statements on a database by hand.
func (s *Server) SQL(dsn, statements string) string {
	s.t.Helper()
	out, err := s.s.SQL(dsn, statements)
	s.must(err)
	return out
}
