// Package mariatemp runs a temporary MariaDB server: a data folder of its own in a
// temporary folder, reached over a Unix socket only, gone when it is closed.
//
// Invariants:
//
//  1. The server listens on no network, and its folder is the server's user's alone.
//  2. Commits are durable as in production: no setting trades them for speed.
//  3. Close stops the server and removes everything.
//  4. Servers that run at once share no folder, nor one for temporary files: a server
//     that starts removes what it takes for a dead one's tables.
package mariatemp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrMissing means that this machine has no MariaDB.
var ErrMissing = errors.New("mariatemp: no MariaDB on this machine: apt-get install mariadb-server")

// Server is one server. It is not safe for concurrent use.
type Server struct {
	dir     string
	as      *syscall.SysProcAttr // nil: as the own user
	dbs     int
	process *exec.Cmd     // nil: it is down
	ended   chan struct{} // closed when process ended
}

// find looks where Debian has a program, then in PATH.
func find(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"} {
		if p := filepath.Join(dir, name); isProgram(p) {
			return p, nil
		}
	}
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	return "", ErrMissing
}

func isProgram(path string) bool {
	s, err := os.Stat(path)
	return err == nil && s.Mode().IsRegular() && s.Mode()&0o111 != 0
}

// Start makes a data folder and runs its server.
func Start() (s *Server, err error) {
	install, err := find("mariadb-install-db")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "gsmd")
	if err != nil {
		return nil, fmt.Errorf("mariatemp: %w", err)
	}
	s = &Server{dir: dir}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if os.Geteuid() == 0 { // MariaDB refuses to run as root
		if s.as, err = asMySQL(dir); err != nil {
			return nil, err
		}
	}
	if _, err := s.run(install, "--no-defaults", "--datadir="+dir+"/data", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=64M"); err != nil {
		return nil, err
	}
	return s, s.Up()
}

// Socket is the path of the Unix socket.
func (s *Server) Socket() string { return s.dir + "/socket" }

// Up starts the server again after Down.
func (s *Server) Up() error {
	server, err := find("mariadbd")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mariatemp: %w", err)
	}
	defer log.Close()
	c := exec.Command(server, "--no-defaults", "--datadir="+s.dir+"/data", "--socket="+s.Socket(), "--pid-file="+s.dir+"/data/pid",
		"--skip-networking", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=1", "--innodb-log-file-size=64M", "--innodb-buffer-pool-size=256M",
		"--max-allowed-packet=256M", "--character-set-server=utf8mb4", "--max-connections=200")
	c.Dir, c.Env, c.SysProcAttr, c.Stdout, c.Stderr = "/", s.env(), s.as, log, log
	if err := c.Start(); err != nil {
		return fmt.Errorf("mariatemp: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = c.Wait() // how it ended is in its log
		close(ended)
	}()
	s.process, s.ended = c, ended
	for range 600 { // a minute
		if conn, err := net.Dial("unix", s.Socket()); err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			s.process = nil
			return fmt.Errorf("mariatemp: the server ended:\n%s", s.log())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.Join(fmt.Errorf("mariatemp: the server does not answer:\n%s", s.log()), s.Down())
}

// Down stops the server at once, as a crash would.
func (s *Server) Down() error {
	if s.process == nil {
		return nil
	}
	if err := s.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("mariatemp: %w", err)
	}
	<-s.ended
	s.process = nil
	return nil
}

// Database makes an empty database and returns its address, as the driver
// go-sql-driver/mysql takes it.
func (s *Server) Database() (string, error) {
	s.dbs++
	name := fmt.Sprintf("test%d", s.dbs)
	if _, err := s.SQL("", "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return fmt.Sprintf("root@unix(%s)/%s", s.Socket(), name), nil
}

// SQL runs statements on a database by hand and returns what they print: a line a
// row, columns divided by tabs.
func (s *Server) SQL(dsn, statements string) (string, error) {
	client, err := find("mariadb")
	if err != nil {
		return "", err
	}
	_, name, _ := strings.Cut(dsn, ")/")
	name, _, _ = strings.Cut(name, "?")
	out, err := s.run(client, "--no-defaults", "--socket="+s.Socket(), "--user=root", "--default-character-set=utf8mb4", "--batch", "--skip-column-names", "--execute="+statements, name)
	if err == nil || s.process == nil {
		return out, err
	}
	select {
	case <-s.ended: // by itself: it says why
		return "", fmt.Errorf("%w\n%s", err, s.log())
	default:
		return "", err
	}
}

// Close stops the server, if it runs, and removes everything.
func (s *Server) Close() error {
	if err := s.Down(); err != nil {
		return err // what still runs keeps its files
	}
	return os.RemoveAll(s.dir)
}

func (s *Server) env() []string {
	return append(os.Environ(), "LC_ALL=C", "HOME="+s.dir, "TMPDIR="+s.dir)
}

func (s *Server) log() string {
	b, _ := os.ReadFile(s.dir + "/log")
	return string(b[max(0, len(b)-4096):])
}

func (s *Server) run(path string, args ...string) (string, error) {
	c := exec.Command(path, args...)
	c.Dir, c.Env, c.SysProcAttr = "/", s.env(), s.as
	out, err := c.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("mariatemp: %s: %w\n%s", filepath.Base(path), err, text)
	}
	return text, nil
}
