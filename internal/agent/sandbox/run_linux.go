//go:build linux && (amd64 || arm64)

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The helper's descriptors.
const (
	specFD   = 3
	statusFD = 4
	scriptFD = 5
)

// ready is what the helper writes when it goes on to the program, and done when it
// was only to try.
const ready = 'r'

// maxSpec bounds what the helper reads.
const maxSpec = 4 << 20

// spec is what the helper is told.
type spec struct {
	Argv       []string // none: only try
	Env        []string
	Dir        string
	Self       bool // the program is the own binary, and Argv[1] its argv[0]
	UID        int  // -1: stay
	Namespaces bool
	Landlock   string
	Readable   []string
	Ports      []uint16
	Limits     Limits
}

// Sandbox starts programs. It is safe for concurrent use.
type Sandbox struct {
	cfg Config
	iso Isolation
	end func(uid int) error // ends what a user's programs left behind; reap

	mu   sync.Mutex
	uids map[int]bool // taken
	next int
}

// New tries every restriction once, and refuses to go on where one is missing.
func New(ctx context.Context, cfg Config) (*Sandbox, error) {
	switch cfg.Landlock {
	case "":
		cfg.Landlock = "required"
	case "required", "optional":
	default:
		return nil, errors.New("sandbox: landlock is neither \"required\" nor \"optional\"")
	}
	for _, p := range cfg.Readable {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p {
			return nil, fmt.Errorf("sandbox: readable: %q is not a clean absolute path", p)
		}
	}
	if cfg.Work == "" {
		cfg.Work = os.TempDir()
	}
	if cfg.FirstUID == 0 {
		cfg.FirstUID = 1_900_000_000
	}
	if cfg.UIDs == 0 {
		cfg.UIDs = 1000
	}
	if cfg.FirstUID < 1000 || cfg.UIDs < 1 {
		return nil, errors.New("sandbox: user IDs below 1000 are not for programs")
	}
	s := &Sandbox{cfg: cfg, end: reap, uids: map[int]bool{}, next: rand.IntN(cfg.UIDs)}
	s.iso = Isolation{Landlock: landlockVersion(), Namespaces: true, OwnUser: os.Geteuid() == 0}
	try := &Run{Limits: Limits{Wall: 10 * time.Second, CPU: time.Second, Memory: 1 << 40, Processes: 64, Files: 64, Workspace: 1 << 20, Output: 1}, Output: func([]byte, bool) error { return nil }}
	_, err := s.run(ctx, try)
	if errors.Is(err, errNamespaces) {
		s.iso.Namespaces = false
		if !s.iso.OwnUser {
			return nil, fmt.Errorf("%w: namespaces: %w (without them and without a user of its own, what a program leaves behind could not be ended)", ErrSetup, err)
		}
		_, err = s.run(ctx, try)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Isolation says what this system gives.
func (s *Sandbox) Isolation() Isolation { return s.iso }

// errNamespaces means that this process may not make them.
var errNamespaces = errors.New("namespaces are not permitted")

// Run runs a program to its end.
func (s *Sandbox) Run(ctx context.Context, r *Run) (Exit, error) {
	if !filepath.IsAbs(r.Program) || r.Output == nil || r.Program == Self && len(r.Args) == 0 {
		return Exit{}, errors.New("sandbox: a run needs an absolute program and an output")
	}
	if err := r.Limits.Check(); err != nil {
		return Exit{}, err
	}
	return s.run(ctx, r)
}

func (s *Sandbox) run(ctx context.Context, r *Run) (exit Exit, err error) {
	dir, err := os.MkdirTemp(s.cfg.Work, "greatseal-run-")
	if err != nil {
		return exit, fmt.Errorf("sandbox: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(dir); rerr != nil && err == nil {
			err = fmt.Errorf("sandbox: %w", rerr)
		}
	}()
	sp := spec{Dir: dir, UID: -1, Namespaces: s.iso.Namespaces, Landlock: s.cfg.Landlock, Readable: s.cfg.Readable, Ports: r.Ports, Limits: r.Limits}
	if s.iso.OwnUser {
		uid, uerr := s.takeUID()
		if uerr != nil {
			return exit, uerr
		}
		clean := true // nobody gets a user whose processes may still run
		defer func() {
			if clean {
				s.giveUID(uid)
			}
		}()
		sp.UID = uid
		if !s.iso.Namespaces {
			if err := os.Chown(dir, uid, uid); err != nil {
				return exit, fmt.Errorf("sandbox: %w", err)
			}
			// Runs before the folder is removed and the user is given back.
			defer func() {
				if rerr := s.end(uid); rerr != nil {
					clean = false
					if err == nil {
						err = rerr
					}
				}
			}()
		}
	}
	if r.Program != "" {
		sp.Argv = append([]string{r.Program}, r.Args...)
		sp.Self = r.Program == Self
		for i, a := range sp.Argv {
			if i > 0 {
				sp.Argv[i] = strings.ReplaceAll(a, ScriptArg, fmt.Sprintf("/proc/self/fd/%d", scriptFD))
			}
		}
		sp.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + dir, "TMPDIR=" + dir}, r.Env...)
	}
	text, err := json.Marshal(sp)
	if err != nil || len(text) > maxSpec {
		return exit, errors.New("sandbox: the program's arguments are too long")
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	sealed := func(name string, b []byte) (*os.File, error) {
		f, err := Sealed(name, b)
		if err == nil {
			files = append(files, f)
		}
		return f, err
	}
	specFile, err := sealed("spec", text)
	if err != nil {
		return exit, err
	}
	script, err := sealed("script", r.Script)
	if err != nil {
		return exit, err
	}
	stdin, err := sealed("stdin", r.Stdin)
	if err != nil {
		return exit, err
	}
	statusR, statusW, err := os.Pipe()
	if err != nil {
		return exit, fmt.Errorf("sandbox: %w", err)
	}
	files = append(files, statusR, statusW)

	ctx, cancel := context.WithTimeout(ctx, r.Limits.Wall)
	defer cancel()
	out := &output{left: r.Limits.Output, to: r.Output, stop: cancel}
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Args = []string{Argv0}
	c.Env = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}
	c.Dir = "/"
	c.Stdin = stdin
	c.Stdout, c.Stderr = out.stream(false), out.stream(true)
	c.ExtraFiles = []*os.File{specFile, statusW, script}
	c.SysProcAttr = s.attributes(len(r.Ports) > 0)
	c.Cancel = func() error {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		return c.Process.Kill()
	}
	c.WaitDelay = 5 * time.Second

	type result struct {
		err     error
		started bool
	}
	done := make(chan result, 1)
	started := make(chan error, 1)
	go func() {
		// The parent-death signal follows the thread that forked: it stays until the end.
		runtime.LockOSThread()
		err := c.Start()
		started <- err
		if err != nil {
			done <- result{err: err}
			return
		}
		done <- result{err: c.Wait(), started: true}
	}()
	if err := <-started; err != nil {
		if s.iso.Namespaces && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS)) {
			return exit, fmt.Errorf("%w: %w", errNamespaces, err)
		}
		return exit, fmt.Errorf("sandbox: %w", err)
	}
	statusW.Close()
	status, serr := io.ReadAll(io.LimitReader(statusR, 4096))
	res := <-done
	if c.ProcessState != nil {
		exit.CPU = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		exit.Code = code(c.ProcessState)
		if !s.iso.Namespaces {
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // what is left of the group
		}
	}
	if serr != nil || len(status) != 1 || status[0] != ready {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			exit.Reason = Time
			return exit, nil
		}
		if ctx.Err() != nil {
			return exit, context.Cause(ctx)
		}
		return exit, fmt.Errorf("%w: %s", ErrSetup, printable(status))
	}
	if err, over := out.state(); err != nil {
		return exit, err
	} else if over {
		exit.Reason = Output
		return exit, nil
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		exit.Reason = Time
		return exit, nil
	}
	if ctx.Err() != nil {
		return exit, context.Cause(ctx)
	}
	var ee *exec.ExitError
	if res.err != nil && !errors.As(res.err, &ee) && !errors.Is(res.err, exec.ErrWaitDelay) {
		return exit, fmt.Errorf("sandbox: %w", res.err)
	}
	return exit, nil
}

// attributes are those of the helper's process.
func (s *Sandbox) attributes(network bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true}
	if !s.iso.Namespaces {
		return a
	}
	a.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if !network {
		a.Cloneflags |= syscall.CLONE_NEWNET
	}
	if !s.iso.OwnUser {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		a.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN} // for the mount; the helper gives it up
	}
	return a
}

// code is that of a shell: of the process, or 128 and its signal.
func code(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return p.ExitCode()
}

func printable(b []byte) string {
	if len(b) == 0 {
		return "the helper ended without a word"
	}
	out := slices.Clone(b)
	for i, c := range out {
		if c < 0x20 || c > 0x7e {
			out[i] = '?'
		}
	}
	return string(out)
}

// output passes what two streams bring on, until there is too much.
type output struct {
	mu   sync.Mutex
	left int64
	over bool
	err  error
	to   func([]byte, bool) error
	stop func()
}

func (o *output) state() (error, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err, o.over
}

type stream struct {
	o      *output
	stderr bool
}

func (o *output) stream(stderr bool) io.Writer { return stream{o, stderr} }

func (s stream) Write(p []byte) (int, error) {
	o := s.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over || o.err != nil {
		return len(p), nil // it ends; nobody waits on a full pipe
	}
	n := len(p)
	if int64(n) > o.left {
		p, o.over = p[:o.left], true
	}
	o.left -= int64(len(p))
	if len(p) > 0 {
		o.err = o.to(p, s.stderr)
	}
	if o.over || o.err != nil {
		o.stop()
	}
	return n, nil
}

// Sealed is a file without a name whose content cannot change.
func Sealed(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("greatseal-"+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("sandbox: memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, fmt.Errorf("sandbox: memfd: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("sandbox: memfd: %w", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		f.Close()
		return nil, fmt.Errorf("sandbox: seals: %w", err)
	}
	return f, nil
}

func (s *Sandbox) takeUID() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.cfg.UIDs {
		uid := s.cfg.FirstUID + s.next
		s.next = (s.next + 1) % s.cfg.UIDs
		if !s.uids[uid] {
			s.uids[uid] = true
			return uid, nil
		}
	}
	return 0, errors.New("sandbox: all user IDs are taken")
}

func (s *Sandbox) giveUID(uid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uids, uid)
}

// reap ends every process of a user and returns when they have ended: a process of
// that user asks for it, and the kernel ends no other's.
func reap(uid int) error {
	for range 50 { // ten seconds at the most, and longer where the machine has much to do
		c := exec.Command("/proc/self/exe")
		c.Args = []string{Argv0, "reap", fmt.Sprint(uid)}
		c.Env = []string{"GOTRACEBACK=none"}
		c.Dir = "/"
		err := c.Run() // the kernel may end the reaper with the rest
		if c.ProcessState == nil {
			return fmt.Errorf("sandbox: what the program left behind may still run: %w", err)
		}
		switch n := code(c.ProcessState); {
		case n == 0:
			return nil
		case n != reapLeft && n != 128+int(syscall.SIGKILL):
			return fmt.Errorf("sandbox: what the program left behind may still run: %w", err)
		}
		if left, err := running(uid); err != nil || !left {
			return err
		}
	}
	return errors.New("sandbox: what the program left behind does not end")
}

// running reports whether a process of a user is there that has not ended.
func running(uid int) (bool, error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return false, fmt.Errorf("sandbox: %w", err)
	}
	for _, p := range all {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + p.Name() + "/status")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return false, fmt.Errorf("sandbox: %w", err)
		}
		var state, owner string
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "State:" {
				state = f[1]
			} else if len(f) > 1 && f[0] == "Uid:" {
				owner = f[1]
			}
		}
		if (owner == "" || owner == strconv.Itoa(uid)) && state != "Z" && state != "X" {
			return true, nil
		}
	}
	return false, nil
}
