package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/porttest"
)

// world is a production deployment on one machine: a shell for each person and
// host, both binaries as they are shipped, and the services that the units in
// docs/operate/systemd describe.
type world struct {
	t        *testing.T
	dir      string
	bin      string
	env      []string          // of every shell, besides its own
	replace  []string          // what stands in the documents, and what stands for it here
	shells   map[string]*shell // by person or host
	services map[string]*service
	address  map[string]string // of services
	output   bytes.Buffer      // of every block, for what goes wrong
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Short: paths of sockets are limited. Not t.TempDir: it holds the test's name.
	dir, err := os.MkdirTemp("", "gs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, bin: filepath.Join(dir, "bin"), shells: map[string]*shell{}, services: map[string]*service{}}
	w.build("greatseal", "0")
	w.build("greatseal-keeper", "1")
	// Whatever asks for a passphrase gets this one, as if it were typed.
	askpass := filepath.Join(dir, "askpass")
	if err := os.WriteFile(askpass, []byte("#!/bin/sh\necho 'correct horse battery'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.env = []string{"PATH=" + w.bin + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "TMPDIR=" + dir,
		"SSH_ASKPASS=" + askpass, "SSH_ASKPASS_REQUIRE=force"}
	for _, d := range []string{"exchange", "handover", "backup"} {
		w.mkdir(filepath.Join(dir, d))
		w.replace = append(w.replace, "/srv/"+d, filepath.Join(dir, d))
	}
	t.Cleanup(func() {
		for _, s := range w.services {
			s.stop(t)
		}
		for _, s := range w.shells {
			s.close()
		}
		if t.Failed() {
			t.Logf("what was printed:\n%s", tail(w.output.String(), 12000))
			for n, s := range w.services {
				b, _ := os.ReadFile(s.log)
				t.Logf("%s:\n%s", n, tail(string(b), 6000))
			}
		}
	})
	return w
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (w *world) mkdir(path string) {
	w.t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) build(name, cgo string) {
	w.t.Helper()
	c := exec.Command("go", "build", "-o", filepath.Join(w.bin, name), "./cmd/"+name)
	c.Dir = "../.."
	c.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := c.CombinedOutput(); err != nil {
		w.t.Fatalf("go build %s: %v\n%s", name, err, out)
	}
}

// port finds a port that nobody listens on.
func (w *world) port() string {
	w.t.Helper()
	port, err := porttest.Free()
	if err != nil {
		w.t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// home is the folder of a person; host that of a host's own files.
func (w *world) home(name string) string { return filepath.Join(w.dir, "home", name) }
func (w *world) host(name string) string { return filepath.Join(w.dir, "host", name) }

// here is text of a document as it is for name on this machine.
func (w *world) here(name, text string) string {
	// Of two that begin at one place the one that stands first is taken.
	return strings.NewReplacer(append(append([]string{}, w.replace...),
		"/etc/greatseal", filepath.Join(w.host(name), "etc"),
		"/var/lib/greatseal", filepath.Join(w.host(name), "lib"),
		"/usr/local/bin/", w.bin+"/",
	)...).Replace(text)
}

// shell is one person's or host's terminal: what is exported, and the agent that
// was started, stay from one block to the next.
type shell struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	n     int
	agent string // process ID of the ssh-agent that was started here
}

func (w *world) shell(name string) *shell {
	w.t.Helper()
	if s, ok := w.shells[name]; ok {
		return s
	}
	w.mkdir(filepath.Join(w.home(name), ".ssh"))
	w.mkdir(w.host(name))
	c := exec.Command("bash", "--norc", "-s")
	c.Dir = w.home(name)
	c.Env = append([]string{"HOME=" + w.home(name), "USER=" + name}, w.env...)
	r, o, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	c.Stdout, c.Stderr = o, o
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	o.Close()
	if err != nil {
		w.t.Fatalf("bash: %v", err)
	}
	s := &shell{name: name, cmd: c, in: in, out: bufio.NewReader(r)}
	io.WriteString(in, "set -euo pipefail\n")
	w.shells[name] = s
	return s
}

var agentLine = regexp.MustCompile(`(?m)^Agent pid ([0-9]+)$`)

// run types a block and returns what it prints. A command that fails ends the
// test.
func (w *world) run(name, block string) string {
	w.t.Helper()
	s := w.shell(name)
	s.n++
	path := filepath.Join(w.home(name), fmt.Sprintf(".block-%d", s.n))
	if err := os.WriteFile(path, []byte(w.here(name, block)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	mark := fmt.Sprintf("-- end of block %d --", s.n)
	fmt.Fprintf(s.in, ". %s < /dev/null\necho; echo '%s'\n", path, mark)
	var out strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if strings.TrimSpace(line) == mark {
			break
		}
		out.WriteString(line)
		if err != nil {
			fmt.Fprintf(&w.output, "%s$ %s%s", name, w.here(name, block), out.String())
			delete(w.shells, name)
			s.close()
			w.t.Fatalf("%s typed\n%s\nand it failed:\n%s", name, block, out.String())
		}
	}
	got := strings.TrimSuffix(out.String(), "\n")
	if m := agentLine.FindStringSubmatch(got); m != nil {
		s.agent = m[1]
	}
	fmt.Fprintf(&w.output, "%s$ %s%s", name, w.here(name, block), got)
	return got
}

var exitLine = regexp.MustCompile(`(?m)^exit=([0-9]+)$`)

// refused types a command that must end with an exit code and say why.
func (w *world) refused(name, command string, code int, why string) {
	w.t.Helper()
	out := w.run(name, "code=0; { "+command+"; } || code=$?\necho; echo exit=$code\n")
	m := exitLine.FindStringSubmatch(out)
	if m == nil || m[1] != strconv.Itoa(code) || !strings.Contains(out, why) {
		w.t.Errorf("%s typed\n%s\nwant exit code %d and %q, got\n%s", name, command, code, why, out)
	}
}

func (s *shell) close() {
	s.in.Close()
	s.cmd.Wait()
	if s.agent != "" {
		c := exec.Command("ssh-agent", "-k")
		c.Env = []string{"SSH_AGENT_PID=" + s.agent}
		c.Run()
	}
}

// service is a unit's process.
type service struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	once sync.Once
}

// start does what systemd does with a unit: it loads the credentials and runs
// ExecStart until address is listened on.
func (w *world) start(name, unit, address string) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs/operate/systemd", unit+".service"))
	if err != nil {
		w.t.Fatal(err)
	}
	credentials := filepath.Join(w.host(name), "credentials-of-"+unit)
	w.mkdir(credentials)
	var command []string
	for line := range strings.Lines(w.here(name, string(b))) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "ExecStart="); ok {
			command = strings.Fields(v)
		}
		if v, ok := strings.CutPrefix(line, "LoadCredential="); ok {
			id, from, _ := strings.Cut(v, ":")
			secret, err := os.ReadFile(from)
			if err != nil {
				w.t.Fatalf("%s: %v", unit, err)
			}
			to := filepath.Join(credentials, id)
			os.Remove(to)
			// As systemd leaves it, where the user is let in by an ACL.
			if err := os.WriteFile(to, secret, 0o440); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if len(command) == 0 {
		w.t.Fatalf("%s has no ExecStart", unit)
	}
	logPath := filepath.Join(w.host(name), unit+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(command[0], command[1:]...)
	c.Dir = "/"
	c.Env = []string{"PATH=/usr/bin:/bin", "CREDENTIALS_DIRECTORY=" + credentials, "TMPDIR=" + w.dir}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	s := &service{cmd: c, log: logPath, done: make(chan struct{})}
	go func() {
		c.Wait()
		close(s.done)
	}()
	w.services[unit] = s
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case <-s.done:
			b, _ := os.ReadFile(logPath)
			w.t.Fatalf("%s ended: %v\n%s", unit, c.ProcessState, b)
		case <-w.t.Context().Done():
			w.t.Fatalf("%s does not listen", unit)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// says waits until a service has written something.
func (w *world) says(unit, text string) {
	w.t.Helper()
	s := w.services[unit]
	for {
		b, err := os.ReadFile(s.log)
		if err == nil && bytes.Contains(b, []byte(text)) {
			return
		}
		select {
		case <-s.done:
			w.t.Fatalf("%s ended and has not said %q", unit, text)
		case <-w.t.Context().Done():
			w.t.Fatalf("%s does not say %q", unit, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends a service as systemd does; one that does not end by itself fails.
func (s *service) stop(t *testing.T) {
	s.once.Do(func() {
		s.cmd.Process.Signal(syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		select {
		case <-s.done:
			if !s.cmd.ProcessState.Success() {
				t.Errorf("%s ended with %v", filepath.Base(s.cmd.Path), s.cmd.ProcessState)
			}
		case <-ctx.Done():
			s.cmd.Process.Kill()
			<-s.done
			t.Errorf("%s did not end within a minute of SIGTERM", filepath.Base(s.cmd.Path))
		}
	})
}

// step is one block of a document that is run.
type step struct {
	names []string
	text  string
	line  int
}

var fence = regexp.MustCompile("^```sh ([a-z ]+)$")

// steps are the blocks of a document that begin with names, in order.
func steps(t *testing.T, path string) []step {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []step
	var open *step
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		text := strings.TrimSuffix(line, "\n")
		m := fence.FindStringSubmatch(text)
		switch {
		case open == nil && m != nil:
			open = &step{names: strings.Fields(m[1]), line: n}
		case open != nil && text == "```":
			out = append(out, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	if open != nil || len(out) == 0 {
		t.Fatalf("%s: a block is open at the end, or there are none", path)
	}
	return out
}

var systemctl = regexp.MustCompile(`(?m)^systemctl (enable --now|start|stop) ([a-z-]+)\n`)

// follow types a document.
func (w *world) follow(path string) {
	w.t.Helper()
	for _, s := range steps(w.t, path) {
		for _, name := range s.names {
			rest := s.text
			for rest != "" {
				at := systemctl.FindStringSubmatchIndex(rest)
				if at == nil {
					w.run(name, rest)
					break
				}
				if at[0] > 0 {
					w.run(name, rest[:at[0]])
				}
				unit := rest[at[4]:at[5]]
				if rest[at[2]:at[3]] == "stop" {
					w.services[unit].stop(w.t)
				} else {
					w.start(name, unit, w.address[unit])
				}
				rest = rest[at[1]:]
			}
		}
	}
}
