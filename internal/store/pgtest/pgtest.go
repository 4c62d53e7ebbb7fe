// Package pgtest runs a real PostgreSQL server for tests: a cluster of its own
// in a temporary folder, reached over a Unix socket, gone when the test ends.
package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Server is one cluster.
type Server struct {
	t      testing.TB
	bin    string
	dir    string
	cred   *syscall.Credential
	dbs    int
	Socket string // folder of the Unix socket
}

// Start runs a server. A machine without PostgreSQL fails the test.
func Start(t testing.TB) *Server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	sort.Strings(found)
	if len(found) == 0 {
		t.Fatal("pgtest: no PostgreSQL on this machine: apt-get install postgresql")
	}
	dir, err := os.MkdirTemp("", "gspg")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, bin: filepath.Dir(found[len(found)-1]), dir: dir, Socket: dir}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatalf("pgtest: %v: apt-get install postgresql makes that user", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	s.run("initdb", "-D", dir+"/data", "-A", "trust", "-U", "greatseal", "-E", "UTF8", "--no-locale", "--no-sync")
	s.Up()
	t.Cleanup(func() { s.try("pg_ctl", "-D", dir+"/data", "-m", "immediate", "stop") })
	return s
}

// Up starts the server again after Down or Kill.
func (s *Server) Up() {
	s.t.Helper()
	opts := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c max_connections=200", s.dir)
	s.run("pg_ctl", "-D", s.dir+"/data", "-w", "-l", s.dir+"/log", "-o", opts, "start")
}

// Restart stops the server at once, connections cut, and starts it again.
func (s *Server) Restart() {
	s.t.Helper()
	s.Down()
	s.Up()
}

// Down stops the server at once, as a crash would: without a checkpoint.
func (s *Server) Down() {
	s.t.Helper()
	s.run("pg_ctl", "-D", s.dir+"/data", "-m", "immediate", "-w", "stop")
}

// Database makes an empty database and returns its address.
func (s *Server) Database() string {
	s.t.Helper()
	s.dbs++
	name := fmt.Sprintf("test%d", s.dbs)
	s.run("createdb", "-h", s.dir, "-U", "greatseal", name)
	return fmt.Sprintf("postgres://greatseal@/%s?host=%s", name, s.dir)
}

// SQL runs statements on a database by hand.
func (s *Server) SQL(dsn, statements string) string {
	s.t.Helper()
	return s.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", statements)
}

func (s *Server) run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.try(name, args...)
	if err != nil {
		log, _ := os.ReadFile(s.dir + "/log")
		s.t.Fatalf("pgtest: %s: %v\n%s\n%s", name, err, out, log)
	}
	return strings.TrimSpace(out)
}

func (s *Server) try(name string, args ...string) (string, error) {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = "/"
	c.Env = append(os.Environ(), "LC_ALL=C", "HOME="+s.dir)
	if s.cred != nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	}
	// pg_ctl's server inherits the output: a file, so that nobody waits for its end.
	f, err := os.CreateTemp("", "gspgout")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	err = c.Run()
	out, _ := os.ReadFile(f.Name())
	return string(out), err
}
