// Package pgtemp runs a temporary PostgreSQL server: a cluster of its own in a
// temporary folder, reached over a Unix socket only, gone when it is closed. Tests
// stand on it through package pgtest, and "greatseal bench" does.
//
// Invariants:
//
//  1. The server listens on no network, and its folder is the server's user's
//     alone.
//  2. Commits are durable as in production: no setting trades them for speed. Only
//     making the cluster itself is not synchronised.
//  3. Close stops the server and removes everything.
package pgtemp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ErrMissing means that this machine has no PostgreSQL.
var ErrMissing = errors.New("pgtemp: no PostgreSQL on this machine: apt-get install postgresql")

// Server is one cluster. It is not safe for concurrent use.
type Server struct {
	bin string
	dir string
	as  *syscall.SysProcAttr // nil: as the own user
	dbs int
}

// Start makes a cluster and runs its server.
func Start() (s *Server, err error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.SortFunc(found, func(a, b string) int { return major(a) - major(b) })
	if len(found) == 0 {
		return nil, ErrMissing
	}
	dir, err := os.MkdirTemp("", "gspg")
	if err != nil {
		return nil, fmt.Errorf("pgtemp: %w", err)
	}
	s = &Server{bin: filepath.Dir(found[len(found)-1]), dir: dir}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if s.as, err = asPostgres(dir); err != nil {
			return nil, err
		}
	}
	if _, err := s.run("initdb", "-D", dir+"/data", "-A", "trust", "-U", "greatseal", "-E", "UTF8", "--no-locale", "--no-sync"); err != nil {
		return nil, err
	}
	return s, s.Up()
}

// major is the version of .../MAJOR/bin/initdb.
func major(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// Socket is the folder of the Unix socket.
func (s *Server) Socket() string { return s.dir }

// Up starts the server again after Down.
func (s *Server) Up() error {
	opts := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c max_connections=200", s.dir)
	_, err := s.run("pg_ctl", "-D", s.dir+"/data", "-w", "-l", s.dir+"/log", "-o", opts, "start")
	return err
}

// Down stops the server at once, as a crash would: connections cut, and without a
// checkpoint.
func (s *Server) Down() error {
	_, err := s.run("pg_ctl", "-D", s.dir+"/data", "-m", "immediate", "-w", "stop")
	return err
}

// Database makes an empty database and returns its address.
func (s *Server) Database() (string, error) {
	s.dbs++
	name := fmt.Sprintf("test%d", s.dbs)
	if _, err := s.run("createdb", "-h", s.dir, "-U", "greatseal", name); err != nil {
		return "", err
	}
	return fmt.Sprintf("postgres://greatseal@/%s?host=%s", name, s.dir), nil
}

// SQL runs statements on a database by hand and returns what they print.
func (s *Server) SQL(dsn, statements string) (string, error) {
	return s.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", statements)
}

// Close stops the server, if it runs, and removes the cluster.
func (s *Server) Close() error {
	if _, err := os.Stat(s.dir + "/data/postmaster.pid"); err == nil {
		if err := s.Down(); err != nil {
			return err // what still runs keeps its files
		}
	}
	return os.RemoveAll(s.dir)
}

func (s *Server) run(name string, args ...string) (string, error) {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = "/"
	c.Env = append(os.Environ(), "LC_ALL=C", "HOME="+s.dir)
	c.SysProcAttr = s.as
	// pg_ctl's server inherits the output: a file, so that nobody waits for its end.
	f, err := os.CreateTemp("", "gspgout")
	if err != nil {
		return "", fmt.Errorf("pgtemp: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	err = c.Run()
	out, _ := os.ReadFile(f.Name())
	text := strings.TrimSpace(string(out))
	if err != nil {
		log, _ := os.ReadFile(s.dir + "/log")
		return "", fmt.Errorf("pgtemp: %s: %w\n%s\n%s", name, err, text, log)
	}
	return text, nil
}
