package mariatemp

import (
	"net"
	"os"
	"strings"
	"testing"
)

// What was committed outlives a crash, nothing is left after Close, no network port is
// open, and temporary tables are the server's own.
func TestServer(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dsn, err := s.Database()
	if err != nil {
		t.Fatal(err)
	}
	do := func(sql string) string {
		t.Helper()
		out, err := s.SQL(dsn, sql)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	do("CREATE TABLE t (a INT PRIMARY KEY) ENGINE=InnoDB; INSERT INTO t VALUES (7)")
	if out := do("SHOW VARIABLES LIKE 'skip_networking'"); !strings.Contains(out, "ON") {
		t.Error(out)
	}
	if out := do("SELECT @@tmpdir"); out != s.dir {
		t.Error(out)
	}
	if err := s.Down(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("unix", s.Socket()); err == nil {
		c.Close()
		t.Error("a server that is down answers")
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	if out := do("SELECT a FROM t"); out != "7" {
		t.Error(out)
	}
	if _, err := s.SQL(dsn, "nonsense"); err == nil {
		t.Error("nonsense is accepted")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Error("something is left:", err)
	}
}
