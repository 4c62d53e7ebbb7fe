//go:build cgo && unix

package module

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/pkcs11"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Invariant 3 of key/pkcs11: a child that is killed in a stream of signatures
// fails those in flight as unavailable, and service resumes by itself.
func TestChildKilled(t *testing.T) {
	h := newHSM(t, "hsm")
	p, log := h.open(t, nil)
	k := generate(t, p, uri("a"), sigalg.P256)
	var (
		wg             sync.WaitGroup
		signed, failed atomic.Int64
		stop           = make(chan struct{})
	)
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch err := try(t, k); {
				case err == nil:
					signed.Add(1)
				case errors.Is(err, key.ErrUnavailable):
					failed.Add(1)
					time.Sleep(time.Millisecond)
				default:
					t.Errorf("Sign: %v", err)
					return
				}
			}
		})
	}
	for round := range 3 {
		before := signed.Load()
		until(t, "signatures", func() bool { return signed.Load() >= before+20 || t.Failed() })
		if err := syscall.Kill(log.last(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, "new child", func() bool { return log.count() >= round+2 || t.Failed() })
	}
	before := signed.Load()
	until(t, "signatures", func() bool { return signed.Load() >= before+20 || t.Failed() })
	close(stop)
	wg.Wait()
	if failed.Load() == 0 {
		t.Error("no signature failed")
	}
	signs(t, k)
	if err := p.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

// Invariant 3 of key/pkcs11: a child that does not answer is killed. Without
// calls, the ping finds it.
func TestChildStopped(t *testing.T) {
	for _, calling := range []bool{true, false} {
		t.Run(map[bool]string{true: "call", false: "ping"}[calling], func(t *testing.T) {
			h := newHSM(t, "hsm")
			p, log := h.open(t, func(c *pkcs11.Config) {
				c.CallTimeout = time.Second
				if c.PingEvery = time.Hour; !calling {
					c.PingEvery = 20 * time.Millisecond
				}
			})
			k := generate(t, p, uri("a"), sigalg.P256)
			old := log.last()
			halt(t, old)
			if calling {
				if err := try(t, k); !errors.Is(err, key.ErrUnavailable) {
					t.Fatalf("Sign: %v", err)
				}
			}
			until(t, "new child", func() bool { return log.count() >= 2 })
			if alive(old) {
				t.Fatal("the stopped child lives on")
			}
			eventually(t, "Sign", func() error { return try(t, k) })
		})
	}
}

// A caller's deadline is the caller's: the child stays, and so does the key.
func TestCallerLeaves(t *testing.T) {
	h := newHSM(t, "hsm")
	p, log := h.open(t, nil)
	k := generate(t, p, uri("a"), sigalg.P256)
	halt(t, log.last())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.Sign(ctx, sigalg.ECDSASHA256, make([]byte, 32)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Sign: %v", err)
	}
	if err := syscall.Kill(log.last(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	signs(t, k)
	if log.count() != 1 {
		t.Fatal("the child was restarted")
	}
}

// A library that hangs or crashes in a call takes nothing but the child down.
func TestLibraryFails(t *testing.T) {
	h := newHSM(t, "hsm")
	h.shim(t)
	p, log := h.open(t, func(c *pkcs11.Config) { c.CallTimeout = time.Second })
	k := generate(t, p, uri("a"), sigalg.P256)
	for i, fault := range []string{"hang", "crash"} {
		h.fault(t, fault)
		if err := try(t, k); !errors.Is(err, key.ErrUnavailable) {
			t.Fatalf("%s: %v", fault, err)
		}
		if !h.happened(fault) {
			t.Fatalf("%s did not happen", fault)
		}
		eventually(t, fault, func() error { return try(t, k) })
		if log.count() != i+2 {
			t.Fatalf("%s: %d children", fault, log.count())
		}
	}
}

// What a token or a session loses is found again without the caller noticing,
// and without a new child.
func TestLost(t *testing.T) {
	h := newHSM(t, "hsm")
	h.shim(t)
	p, log := h.open(t, nil)
	k := generate(t, p, uri("a"), sigalg.P256)
	logins := h.logins(t)
	if logins != 1 {
		t.Fatalf("%d logins", logins)
	}
	for _, c := range []struct {
		fault string
		login bool
	}{{"close-session", false}, {"bad-handle", false}, {"logout", true}, {"close-all", true}} {
		h.fault(t, c.fault)
		if err := try(t, k); err != nil {
			t.Fatalf("%s: %v", c.fault, err)
		}
		if !h.happened(c.fault) {
			t.Fatalf("%s did not happen", c.fault)
		}
		if got := h.logins(t); (got > logins) != c.login {
			t.Fatalf("%s: %d logins, %d before", c.fault, got, logins)
		}
		logins = h.logins(t)
	}
	// These are told to the caller, who may try again.
	for _, fault := range []string{"token-gone", "device-removed", "leave-active"} {
		h.fault(t, fault)
		if err := try(t, k); !errors.Is(err, key.ErrUnavailable) {
			t.Fatalf("%s: %v", fault, err)
		}
		for range 10 { // also in the session where it happened
			eventually(t, fault, func() error { return try(t, k) })
		}
	}
	if log.count() != 1 {
		t.Fatalf("%d children", log.count())
	}
}

func TestTokenRemoved(t *testing.T) {
	h := newHSM(t, "hsm")
	p, log := h.open(t, func(c *pkcs11.Config) { c.PingEvery = 50 * time.Millisecond })
	k := generate(t, p, uri("a"), sigalg.P256)
	if err := p.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.tokens(), h.tokens()+"-away"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := p.Health(t.Context()); !errors.Is(err, key.ErrUnavailable) {
			t.Fatalf("Health: %v", err)
		}
	}
	// The child is given up; without tokens SoftHSM does not even load.
	until(t, "end of the child", func() bool { return strings.Contains(log.logged(), "child ended") })
	if err := p.Health(t.Context()); !errors.Is(err, key.ErrUnavailable) {
		t.Fatalf("Health: %v", err)
	}
	if err := try(t, k); !errors.Is(err, key.ErrUnavailable) {
		t.Fatalf("Sign: %v", err)
	}
	if _, err := p.Open(t.Context(), uri("a")); !errors.Is(err, key.ErrUnavailable) {
		t.Fatalf("Open: %v", err) // not key.ErrNotFound: nobody may conclude that the key is gone
	}
	if err := os.Rename(h.tokens()+"-away", h.tokens()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Health", func() error { return p.Health(t.Context()) })
	eventually(t, "Sign", func() error { return try(t, k) })
}

// Invariant 2 of key/pkcs11.
func TestWrongPIN(t *testing.T) {
	const wrong = "000000001"
	h := newHSM(t, "hsm")
	right, _ := h.open(t, nil)
	generate(t, right, uri("a"), sigalg.P256)
	if err := right.Close(); err != nil {
		t.Fatal(err)
	}
	h.shim(t)
	var asked atomic.Int32
	var given []byte
	p, log := h.open(t, func(c *pkcs11.Config) {
		c.PingEvery = 10 * time.Millisecond
		c.PIN = func(_ context.Context, tok pkcs11.Token) ([]byte, error) {
			asked.Add(1)
			if tok.Label != "hsm" || tok.Serial == "" {
				t.Errorf("asked for the PIN of %+v", tok)
			}
			given = []byte(wrong)
			return given, nil
		}
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := p.Open(t.Context(), uri("a"))
			if !errors.Is(err, pkcs11.ErrPIN) || errors.Is(err, key.ErrUnavailable) || errors.Is(err, key.ErrNotFound) {
				t.Errorf("Open: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), wrong) {
				t.Error("the error shows the PIN")
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(given, make([]byte, len(wrong))) {
		t.Error("the PIN was not zeroed")
	}
	if err := syscall.Kill(log.last(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "restart", func() error {
		_, err := p.Generate(t.Context(), uri("b"), sigalg.P256)
		if !errors.Is(err, pkcs11.ErrPIN) {
			return err
		}
		return nil
	})
	if log.count() != 2 {
		t.Fatalf("%d children", log.count())
	}
	// The token by another of its names is the same token.
	if _, err := p.Open(t.Context(), "pkcs11:token=hsm;model=SoftHSM%20v2;object=a"); !errors.Is(err, pkcs11.ErrPIN) {
		t.Fatalf("Open: %v", err)
	}
	if asked.Load() != 1 || h.logins(t) != 1 {
		t.Fatalf("PIN was asked for %d times, C_Login called %d times", asked.Load(), h.logins(t))
	}
	if strings.Contains(log.logged(), wrong) {
		t.Error("the log shows the PIN")
	}
	// The right PIN still opens it.
	again, _ := h.open(t, nil)
	if _, err := again.Open(t.Context(), uri("a")); err != nil {
		t.Fatal(err)
	}
}

func TestPINSource(t *testing.T) {
	h := newHSM(t, "hsm")
	broken := errors.New("vault is sealed")
	var fail atomic.Bool
	fail.Store(true)
	p, _ := h.open(t, func(c *pkcs11.Config) {
		c.PIN = func(context.Context, pkcs11.Token) ([]byte, error) {
			if fail.Load() {
				return nil, broken
			}
			return []byte(pin), nil
		}
	})
	if _, err := p.Generate(t.Context(), uri("a"), sigalg.P256); !errors.Is(err, broken) {
		t.Fatalf("Generate: %v", err)
	}
	fail.Store(false) // that was no wrong PIN
	signs(t, generate(t, p, uri("a"), sigalg.P256))
}

// Invariant 1 of key/pkcs11.
func TestPINNowhere(t *testing.T) {
	h := newHSM(t, "hsm")
	t.Setenv("GREATSEAL_TEST_SECRET", "inherited")
	p, log := h.open(t, nil)
	generate(t, p, uri("a"), sigalg.P256)
	for _, name := range []string{"environ", "cmdline"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", log.last(), name))
		if name == "environ" && errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
			continue // its memory is nobody's to read
		}
		if err != nil || len(data) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Contains(data, []byte(pin)) {
			t.Errorf("%s holds the PIN", name)
		}
		if bytes.Contains(data, []byte("inherited")) {
			t.Errorf("%s is inherited", name)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", log.last()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Errorf("core files are allowed: %s", line)
		}
	}
}

// Invariant 1 of this package: whatever the library does.
func TestEndsWithInput(t *testing.T) {
	h := newHSM(t, "hsm")
	h.shim(t)
	for _, fault := range []string{"", "hang-initialize"} {
		if fault != "" {
			h.fault(t, fault)
		}
		cmd := exec.Command(os.Args[0], childIs, h.module)
		cmd.Env = h.env
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if fault != "" {
			until(t, fault, func() bool { return h.happened(fault) })
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("fault %q: %v", fault, err)
		}
	}
}

// Invariant 7 of key/pkcs11: the child goes when its parent is killed, also with
// a call under way.
func TestParentKilled(t *testing.T) {
	for _, fault := range []string{"", "hang"} {
		h := newHSM(t, "hsm")
		h.shim(t)
		p, _ := h.open(t, nil)
		generate(t, p, uri("a"), sigalg.P256)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if fault != "" {
			h.fault(t, fault)
		}
		parent := exec.Command(os.Args[0], orphan, h.dir)
		out, err := parent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || !alive(child) {
			t.Fatalf("child %q: %v", line, err)
		}
		if fault != "" {
			until(t, fault, func() bool { return h.happened(fault) })
		}
		if err := parent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = parent.Wait()
		ends(t, child)
	}
}

// beParent is the process that TestParentKilled kills.
func beParent(dir string) {
	h := &hsm{dir: dir, module: filepath.Join(dir, "shim.so"), faults: filepath.Join(dir, "faults")}
	h.env = []string{"SOFTHSM2_CONF=" + filepath.Join(dir, "softhsm2.conf"), "SHIM_REAL=" + softHSM, "SHIM_FAULTS=" + h.faults}
	c, log := h.config()
	ctx := context.Background()
	p, err := pkcs11.Open(ctx, c)
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	fmt.Println(log.last())
	_, err = p.Open(ctx, uri("a"))
	_, _ = fmt.Fprintln(os.Stderr, err)
	select {}
}

func TestCloseEndsChild(t *testing.T) {
	h := newHSM(t, "hsm")
	p, log := h.open(t, nil)
	generate(t, p, uri("a"), sigalg.P256)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(log.last()) {
		t.Fatal("the child lives on")
	}
}

func TestBadModule(t *testing.T) {
	h := newHSM(t, "hsm")
	h.shim(t)
	text := filepath.Join(h.dir, "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(change func(*pkcs11.Config)) error {
		c, log := h.config()
		change(&c)
		p, err := pkcs11.Open(t.Context(), c)
		if err == nil {
			_ = p.Close()
			t.Fatal("opened")
		}
		if log.count() != 0 {
			t.Error("a child is said to have started")
		}
		return err
	}
	h.fault(t, "hang-initialize")
	for name, change := range map[string]func(*pkcs11.Config){
		"text":           func(c *pkcs11.Config) { c.Module = text },
		"nothing":        func(c *pkcs11.Config) { c.Module = filepath.Join(h.dir, "nothing.so") },
		"folder":         func(c *pkcs11.Config) { c.Module = h.dir },
		"other library":  func(c *pkcs11.Config) { c.Module = libc(t) },
		"no command":     func(c *pkcs11.Config) { c.Command = []string{filepath.Join(h.dir, "nothing")} },
		"no child":       func(c *pkcs11.Config) { c.Command = []string{"/bin/true"} },
		"not a protocol": func(c *pkcs11.Config) { c.Command = []string{"/bin/echo", "hello, this is no frame at all"} },
		"hanging":        func(c *pkcs11.Config) { c.CallTimeout = 300 * time.Millisecond },
	} {
		if err := open(change); !errors.Is(err, pkcs11.ErrModule) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*pkcs11.Config){
		"relative path": func(c *pkcs11.Config) { c.Module = "shim.so" },
		"no PIN":        func(c *pkcs11.Config) { c.PIN = nil },
		"sessions":      func(c *pkcs11.Config) { c.Sessions = pkcs11.MaxSessions + 1 },
		"negative":      func(c *pkcs11.Config) { c.CallTimeout = -1 },
		"no command":    func(c *pkcs11.Config) { c.Command = nil },
	} {
		if err := open(change); errors.Is(err, pkcs11.ErrModule) {
			t.Errorf("%s: a child was started: %v", name, err)
		}
	}
}

// libc is a library that is no PKCS #11 library.
func libc(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/lib/*-linux-gnu*/libc.so.6")
	if err != nil || len(found) == 0 {
		t.Fatalf("no libc.so.6: %v", err)
	}
	path, err := filepath.EvalSymlinks(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// What is no request ends the child; it does not make it guess.
func TestServeRefusesGarbage(t *testing.T) {
	h := newHSM(t, "hsm")
	for name, in := range map[string]string{
		"text":     "hello, this is no frame at all",
		"too long": "\xff\xff\xff\xff",
		"empty":    "\x00\x00\x00\x00",
		"cut off":  "\x00\x00\x00\x05\xa2\x01",
	} {
		cmd := exec.Command(os.Args[0], childIs, softHSM)
		cmd.Env = h.env
		cmd.Stdin = strings.NewReader(in)
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The first request follows the child's hello at once, and is served.
func TestFirstRequest(t *testing.T) {
	h := newHSM(t, "hsm")
	for i := range 40 {
		p, log := h.open(t, nil)
		if _, err := p.Open(t.Context(), uri("nobody")); !errors.Is(err, key.ErrNotFound) {
			t.Fatalf("start %d: %v", i, err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if log.count() != 1 {
			t.Fatalf("start %d: %d children", i, log.count())
		}
	}
}
