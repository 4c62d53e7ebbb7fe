//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if Is(os.Args) {
		os.Exit(Main(os.Args))
	}
	if os.Getenv("SANDBOX_TEST_AGENT") != "" {
		agentThatDies()
	}
	os.Exit(m.Run())
}

const python = "/usr/bin/python3"

func limitsForTests() Limits {
	return Limits{Wall: 20 * time.Second, CPU: 10 * time.Second, Memory: 512 << 20, Processes: 32, Files: 64, FileSize: 1 << 20, Workspace: 4 << 20, Output: 1 << 20}
}

func newSandbox(t *testing.T) *Sandbox {
	t.Helper()
	s, err := New(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type outcome struct {
	Exit
	out, err string
}

func (s *Sandbox) try(t *testing.T, r *Run) outcome {
	t.Helper()
	if _, err := os.Stat(r.Program); err != nil {
		t.Fatalf("%s is missing: apt-get install python3", r.Program)
	}
	if r.Limits == (Limits{}) {
		r.Limits = limitsForTests()
	}
	var out, serr bytes.Buffer
	r.Output = func(p []byte, stderr bool) error {
		if stderr {
			serr.Write(p)
		} else {
			out.Write(p)
		}
		return nil
	}
	e, err := s.Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return outcome{e, out.String(), serr.String()}
}

func sh(text string, args ...string) *Run {
	return &Run{Program: "/bin/sh", Args: append([]string{ScriptArg}, args...), Script: []byte(text)}
}

func py(text string, args ...string) *Run {
	return &Run{Program: python, Args: append([]string{"-I", "-B", ScriptArg}, args...), Script: []byte(text)}
}

// A program gets its arguments, its input and its environment, and nothing of the
// agent's.
func TestRun(t *testing.T) {
	t.Setenv("AGENT_SECRET", "tell nobody")
	secret, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	s := newSandbox(t)
	r := sh(`echo "$1|$PARAM_A"; cat; echo; env | sort | cut -d= -f1 | tr '\n' ' '; echo; ls -A | wc -l; pwd; echo oops >&2; exit 3`, "one two")
	r.Env, r.Stdin = []string{"PARAM_A=$(id)"}, []byte("in put")
	o := s.try(t, r)
	lines := strings.Split(o.out, "\n")
	if o.Code != 3 || o.err != "oops\n" || len(lines) < 5 || lines[0] != "one two|$(id)" || lines[1] != "in put" ||
		lines[2] != "HOME LANG PARAM_A PATH PWD TMPDIR " || lines[3] != "0" || !strings.Contains(lines[4], "greatseal-run-") {
		t.Errorf("%+v", o)
	}
	if _, err := os.Stat(lines[4]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if s.Isolation().Landlock == 0 || !s.Isolation().Namespaces {
		t.Fatalf("this kernel cannot show what is to be tested: %+v", s.Isolation())
	}
}

// Each of these is an attack; the script prints "open" where it succeeds.
func TestRestrictions(t *testing.T) {
	s := newSandbox(t)
	outside := t.TempDir()
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	for p := outside; p != "/"; p = filepath.Dir(p) { // Landlock is to be what stops it, not the mode
		if err := os.Chmod(p, mode(t, p)|0o755); err != nil && p == outside {
			t.Fatal(err)
		}
	}
	key := filepath.Join(outside, "agent.key")
	if err := os.WriteFile(key, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(outside, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(l.Addr().String(), 0o777); err != nil {
		t.Fatal(err)
	}
	abstract, err := net.Listen("unix", "@greatseal-test-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	const call = "import ctypes,sys\nlibc=ctypes.CDLL(None,use_errno=True)\ndef call(nr,*a):\n  r=libc.syscall(nr,*a)\n  if r>=0: print('open')\n  else: print('closed',ctypes.get_errno())\n"
	attempt := func(body string) string {
		return "try:\n" + "  " + strings.ReplaceAll(body, "\n", "\n  ") + "\n  print('open')\nexcept OSError as e: print('closed', e.errno)\n"
	}
	for name, r := range map[string]*Run{
		"TCP":              py("import socket\n" + attempt(fmt.Sprintf("socket.create_connection(('127.0.0.1',%d),5)", tcp.Addr().(*net.TCPAddr).Port))),
		"IPv6":             py("import socket\n" + attempt("socket.socket(socket.AF_INET6,socket.SOCK_DGRAM)")),
		"netlink":          py("import socket\n" + attempt("socket.socket(socket.AF_NETLINK,socket.SOCK_RAW)")),
		"vsock":            py("import socket\n" + attempt("socket.socket(40,socket.SOCK_STREAM)")),
		"a local service":  py("import socket\n" + attempt(fmt.Sprintf("s=socket.socket(socket.AF_UNIX)\ns.connect(%q)", l.Addr().String()))),
		"an abstract one":  py("import socket\n" + attempt(fmt.Sprintf("s=socket.socket(socket.AF_UNIX)\ns.connect('\\0'+%q)", abstract.Addr().String()[1:]))),
		"the agent's key":  py(attempt(fmt.Sprintf("open(%q).read()", key))),
		"a file outside":   py(attempt(fmt.Sprintf("open(%q,'w')", outside+"/new"))),
		"truncation":       py("import os\n" + attempt(fmt.Sprintf("os.truncate(%q,0)", key))),
		"a folder outside": py("import os\n" + attempt(fmt.Sprintf("os.listdir(%q)", outside))),
		"temporary files":  py(attempt("open('/tmp/greatseal-escape','w')")),
		"shared memory":    py(attempt("open('/dev/shm/greatseal-escape','w')")),
		"/etc/shadow":      py(attempt("open('/etc/shadow').read()")),
		"/etc/passwd":      py(attempt("open('/etc/passwd').read()")),
		"/proc of others":  py(attempt("open('/proc/1/environ','rb').read()")),
		"the own memory":   py(attempt("open('/proc/self/mem','rb')")),
		"/sys":             py("import os\n" + attempt("os.listdir('/sys')")),
		"a device":         py("import os\n" + attempt("os.mknod('d',0o600|0o020000,os.makedev(1,1))")),
		"running a file":   py("import os,shutil\nshutil.copy('/bin/true','t')\nos.chmod('t',0o700)\nif os.fork()==0:\n  try: os.execv('./t',['t'])\n  except OSError as e: print('closed',e.errno)\nelse:\n  if os.wait()[1]==0 and False: print('open')\n"),
		"root again":       py("import os\n" + attempt("os.setuid(0)")),
		"the script":       py("import os\n" + attempt("f=os.open('/proc/self/fd/5',os.O_RDWR)\nos.write(f,b'x')")),
		"the agent":        py("import os\n" + attempt(fmt.Sprintf("os.kill(%d,0)", os.Getpid()))),
		"ptrace":           py(call + fmt.Sprintf("call(%d,0,0,0,0)", syscall.SYS_PTRACE)),
		"unshare":          py(call + fmt.Sprintf("call(%d,0x10000000)", syscall.SYS_UNSHARE)),
		"mount":            py(call + fmt.Sprintf("call(%d,b'tmpfs',b'.',b'tmpfs',0,None)", syscall.SYS_MOUNT)),
		"clone":            py(call + fmt.Sprintf("call(%d,0x10000000|17,None,None,None,None)", syscall.SYS_CLONE)),
		"keyctl":           py(call + fmt.Sprintf("call(%d,0,-3,0)", syscall.SYS_KEYCTL)),
		"perf":             py(call + fmt.Sprintf("call(%d,None,0,0,0,0)", syscall.SYS_PERF_EVENT_OPEN)),
		"io_uring":         py(call + "import ctypes\ncall(425,4,ctypes.create_string_buffer(256))"),
		"bpf":              py(call + "import ctypes\ncall({'x86_64':321,'aarch64':280}[__import__('os').uname().machine],0,ctypes.create_string_buffer(256),128)"),
		"userfaultfd":      py(call + "call({'x86_64':323,'aarch64':282}[__import__('os').uname().machine],1)"),
		"clone3":           py(call + "import ctypes\ncall(435,ctypes.create_string_buffer(64),64)"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := s.try(t, r)
			if strings.Contains(o.out, "open") || !strings.Contains(o.out, "closed") {
				t.Errorf("%+v", o)
			}
		})
	}
	if b, err := os.ReadFile(key); err != nil || string(b) != "secret" {
		t.Errorf("%q %v", b, err)
	}
}

func mode(t *testing.T, p string) os.FileMode {
	st, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode()
}

// The attacks of TestRestrictions fail because of the sandbox: outside, the same
// scripts succeed.
func TestAttacksWork(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{
		"import socket; socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); socket.socket(socket.AF_UNIX)",
		fmt.Sprintf("open(%q,'w')", dir+"/new"), "open('/etc/passwd').read()", "open('/proc/self/mem','rb')",
	} {
		if out, err := exec.Command(python, "-c", text).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", text, err, out)
		}
	}
}

func TestLimits(t *testing.T) {
	s := newSandbox(t)
	with := func(r *Run, f func(*Limits)) *Run {
		r.Limits = limitsForTests()
		f(&r.Limits)
		return r
	}
	t.Run("time", func(t *testing.T) {
		o := s.try(t, with(sh("sleep 1000"), func(l *Limits) { l.Wall = 300 * time.Millisecond }))
		if o.Reason != Time {
			t.Errorf("%+v", o)
		}
	})
	t.Run("time of all it started", func(t *testing.T) {
		o := s.try(t, with(sh("setsid sleep 1000 & setsid sleep 1000 & sleep 1000"), func(l *Limits) { l.Wall = 300 * time.Millisecond }))
		if o.Reason != Time {
			t.Errorf("%+v", o)
		}
	})
	t.Run("processor time", func(t *testing.T) {
		o := s.try(t, with(sh("while :; do :; done"), func(l *Limits) { l.CPU = time.Second }))
		if o.Reason != "" || o.Code != 128+int(syscall.SIGKILL) && o.Code != 128+int(syscall.SIGXCPU) {
			t.Errorf("%+v", o)
		}
	})
	t.Run("output", func(t *testing.T) {
		o := s.try(t, with(sh("yes"), func(l *Limits) { l.Output = 100_000 }))
		if o.Reason != Output || len(o.out) != 100_000 {
			t.Errorf("%v %d", o.Exit, len(o.out))
		}
	})
	t.Run("memory", func(t *testing.T) {
		o := s.try(t, py("try:\n  x=bytearray(1<<30)\n  print('open')\nexcept MemoryError: print('closed')"))
		if o.out != "closed\n" {
			t.Errorf("%+v", o)
		}
	})
	t.Run("processes", func(t *testing.T) {
		o := s.try(t, with(py("import os,time\nn=0\ntry:\n  while True:\n    if os.fork()==0: time.sleep(60)\n    n+=1\nexcept OSError as e: print('closed',n<=32,e.errno,flush=True)\nos._exit(0)"), func(l *Limits) { l.Processes = 16 }))
		if o.out != fmt.Sprintf("closed True %d\n", syscall.EAGAIN) {
			t.Errorf("%+v", o)
		}
	})
	t.Run("a fork bomb", func(t *testing.T) {
		o := s.try(t, with(sh("b() { b | b & }; b; sleep 1000"), func(l *Limits) { l.Wall, l.Processes = time.Second, 32 }))
		if o.Reason != Time && o.Code == 0 {
			t.Errorf("%+v", o.Exit)
		}
	})
	t.Run("file size", func(t *testing.T) {
		o := s.try(t, py("import signal\nsignal.signal(signal.SIGXFSZ,signal.SIG_IGN)\ntry:\n  f=open('f','wb')\n  f.write(b'x'*(2<<20)); f.flush()\n  print('open')\nexcept OSError as e: print('closed',e.errno)"))
		if o.out != fmt.Sprintf("closed %d\n", syscall.EFBIG) {
			t.Errorf("%+v", o)
		}
	})
	t.Run("workspace", func(t *testing.T) {
		o := s.try(t, py("try:\n  for i in range(100):\n    open('f%d'%i,'wb').write(b'x'*(1<<19))\n  print('open')\nexcept OSError as e: print('closed',e.errno,i)"))
		if !strings.HasPrefix(o.out, fmt.Sprintf("closed %d ", syscall.ENOSPC)) {
			t.Errorf("%+v", o)
		}
	})
	t.Run("descriptors", func(t *testing.T) {
		o := s.try(t, py("import resource\nfs=[]\ntry:\n  for i in range(1000): fs.append(open('/dev/null'))\n  print('open')\nexcept OSError as e: print('closed',e.errno)\nprint(resource.getrlimit(resource.RLIMIT_CORE))"))
		if o.out != fmt.Sprintf("closed %d\n(0, 0)\n", syscall.EMFILE) {
			t.Errorf("%+v", o)
		}
	})
	t.Run("inherited descriptors", func(t *testing.T) {
		o := s.try(t, py("import os\nfor fd in range(3,64):\n  try: os.fstat(fd); print(fd)\n  except OSError: pass"))
		for _, fd := range strings.Fields(o.out) {
			if fd != "3" && fd != "5" { // the script, and the interpreter's own reading of it
				t.Errorf("%+v", o)
			}
		}
	})
	t.Run("the reader's error", func(t *testing.T) {
		want := errors.New("spool is full")
		_, err := s.Run(t.Context(), &Run{Program: "/bin/sh", Args: []string{ScriptArg}, Script: []byte("yes"), Limits: limitsForTests(), Output: func([]byte, bool) error { return want }})
		if !errors.Is(err, want) {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := s.Run(ctx, &Run{Program: "/bin/sh", Args: []string{ScriptArg}, Script: []byte("echo; sleep 1000"), Limits: limitsForTests(), Output: func([]byte, bool) error { cancel(); return nil }})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("no such program", func(t *testing.T) {
		_, err := s.Run(t.Context(), &Run{Program: "/usr/bin/none", Limits: limitsForTests(), Output: func([]byte, bool) error { return nil }})
		if !errors.Is(err, ErrSetup) || !strings.Contains(err.Error(), "/usr/bin/none") {
			t.Error(err)
		}
	})
}

// Invariant 5: nothing that a program started is alive after it.
func TestNothingIsLeft(t *testing.T) {
	for _, namespaces := range []bool{true, false} {
		t.Run(fmt.Sprintf("namespaces=%v", namespaces), func(t *testing.T) {
			s := newSandbox(t)
			if !namespaces && !s.iso.OwnUser {
				t.Fatal("run as root: without namespaces, a user of its own is needed")
			}
			s.iso.Namespaces = namespaces
			dir, err := os.MkdirTemp("/tmp", "greatseal-test-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			s.cfg.Work = dir
			mark := fmt.Sprintf("%d.%d", 1_000_000+os.Getpid(), time.Now().Nanosecond())
			o := s.try(t, sh("(setsid sleep "+mark+" >/dev/null 2>&1 </dev/null &) ; echo x > f; id -u"))
			if o.Code != 0 || strings.TrimSpace(o.out) == "0" {
				t.Errorf("%+v", o)
			}
			if alive(t, mark) {
				t.Error("a process is left")
			}
			left, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("%v %v", left, err)
			}
		})
	}
}

// Where it is not known that a program's processes have ended, the run fails, and
// nobody runs as that user again.
func TestLeftBehind(t *testing.T) {
	s, err := New(t.Context(), Config{UIDs: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.iso.Namespaces = false
	left := errors.New("left behind")
	s.end = func(uid int) error { return errors.Join(reap(uid), left) }
	run := func() error {
		r := sh("true")
		r.Limits, r.Output = limitsForTests(), func([]byte, bool) error { return nil }
		_, err := s.Run(t.Context(), r)
		return err
	}
	if err := run(); !errors.Is(err, left) {
		t.Errorf("%v", err)
	}
	if err := run(); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("%v", err)
	}
}

// alive reports whether a process has an argument.
func alive(t *testing.T, arg string) bool {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(all) == 0 {
		t.Fatal("no processes")
	}
	for _, p := range all {
		if b, err := os.ReadFile(p); err == nil && bytes.Contains(b, []byte("\x00"+arg+"\x00")) {
			return true
		}
	}
	return false
}

// Without namespaces, what they add to is still refused.
func TestWithoutNamespaces(t *testing.T) {
	s := newSandbox(t)
	if !s.iso.OwnUser {
		t.Fatal("run as root: without namespaces, a user of its own is needed")
	}
	s.iso.Namespaces = false
	o := s.try(t, py("import socket\ntry:\n  socket.socket()\n  print('open')\nexcept OSError: print('closed')\ntry:\n  open('/etc/passwd')\n  print('open')\nexcept OSError: print('closed')\nopen('mine','w').write('x')\nprint(open('mine').read())"))
	if o.out != "closed\nclosed\nx\n" {
		t.Errorf("%+v", o)
	}
	if o := s.try(t, func() *Run {
		r := sh("setsid sleep 1000 & sleep 1000")
		r.Limits = limitsForTests()
		r.Limits.Wall = 300 * time.Millisecond
		return r
	}()); o.Reason != Time {
		t.Errorf("%+v", o)
	}
}

// Invariant 3, with a network.
func TestPorts(t *testing.T) {
	s := newSandbox(t)
	listen := func() (net.Listener, uint16) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		return l, uint16(l.Addr().(*net.TCPAddr).Port)
	}
	_, good := listen()
	_, bad := listen()
	text := fmt.Sprintf("import socket\nfor p in (%d,%d):\n  try: print(socket.create_connection(('127.0.0.1',p),5).recv(9))\n  except OSError as e: print('closed',e.errno)\n", good, bad) +
		"for f in (socket.AF_UNIX,socket.AF_NETLINK,socket.AF_PACKET):\n  try:\n    socket.socket(f); print('open')\n  except OSError as e: print('closed')\n" +
		"s=socket.socket()\ntry:\n  s.bind(('127.0.0.1',0)); s.bind(('127.0.0.1',18999)); print('open')\nexcept OSError as e: print('closed')\n"
	r := py(text)
	r.Ports = []uint16{good}
	o := s.try(t, r)
	if o.out != fmt.Sprintf("b'hello'\nclosed %d\nclosed\nclosed\nclosed\nclosed\n", syscall.EACCES) {
		t.Errorf("%+v", o)
	}
}

// Invariant 1.
func TestConfigRefused(t *testing.T) {
	for _, c := range []Config{{Landlock: "off"}, {Readable: []string{"relative"}}, {Readable: []string{"/a/../b"}}, {FirstUID: 1}, {Work: "/none"}} {
		if _, err := New(t.Context(), c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	s := newSandbox(t)
	if _, err := s.Run(t.Context(), &Run{Program: "/bin/true", Output: func([]byte, bool) error { return nil }}); err == nil {
		t.Error("no limits")
	}
}

// agentThatDies is an agent in a process of its own that starts a program and waits.
func agentThatDies() {
	s, err := New(context.Background(), Config{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	l := limitsForTests()
	l.Wall = time.Hour
	_, err = s.Run(context.Background(), &Run{Program: "/bin/sh", Args: []string{ScriptArg, os.Getenv("SANDBOX_TEST_AGENT")}, Script: []byte("echo go; sleep $1 & sleep $1"), Limits: l,
		Output: func(p []byte, _ bool) error { _, err := os.Stdout.Write(p); return err }})
	fmt.Println(err)
	os.Exit(1)
}

// Invariant 6, and an agent that is not root.
func TestAgentDies(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "agent")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	for p := filepath.Dir(bin); p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, uid := range []uint32{uint32(os.Geteuid()), 65534} {
		t.Run(fmt.Sprint(uid), func(t *testing.T) {
			mark := fmt.Sprintf("%d.%d", 2_000_000+os.Getpid(), time.Now().Nanosecond())
			c := exec.Command(bin)
			c.Dir = "/"
			c.Env = []string{"SANDBOX_TEST_AGENT=" + mark, "TMPDIR=/tmp"}
			if os.Geteuid() == 0 {
				c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			}
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 3)
			if _, err := io.ReadFull(out, line); err != nil || string(line) != "go\n" {
				rest, _ := io.ReadAll(out)
				t.Fatalf("%q%s %v", line, rest, err)
			}
			if !alive(t, mark) {
				t.Error("the program does not run")
			}
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait()
			for range 3000 {
				if !alive(t, mark) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			if alive(t, mark) {
				t.Error("the program outlives its agent")
			}
			left, _ := filepath.Glob("/tmp/greatseal-run-*")
			for _, d := range left {
				os.RemoveAll(d)
			}
		})
	}
}

func TestSealed(t *testing.T) {
	f, err := Sealed("x", []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("T"), 0); !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
	if err := f.Truncate(0); !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != "text" {
		t.Errorf("%q %v", b, err)
	}
}
