//go:build cgo && unix

package module

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/pkcs11"
	"github.com/greatseal-io/greatseal/sigalg"
)

const (
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	pin     = "739162840"
	childIs = "pkcs11-module"
	orphan  = "pkcs11-parent"
)

// The test binary is the child, too; and a parent that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == childIs {
		os.Exit(Main(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == orphan {
		beParent(os.Args[2])
	}
	os.Exit(m.Run())
}

// hsm is a folder of SoftHSM tokens.
type hsm struct {
	dir    string
	env    []string
	module string
	faults string // where the shim looks
}

func newHSM(t testing.TB, labels ...string) *hsm {
	t.Helper()
	if _, err := os.Stat(softHSM); err != nil {
		t.Fatal("SoftHSM is missing: apt-get install softhsm2")
	}
	h := &hsm{dir: t.TempDir(), module: softHSM}
	conf := filepath.Join(h.dir, "softhsm2.conf")
	if err := os.Mkdir(h.tokens(), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", h.tokens())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"SOFTHSM2_CONF=" + conf}
	for _, l := range labels {
		h.util(t, "--init-token", "--free", "--label", l, "--pin", pin, "--so-pin", "12345678")
	}
	return h
}

func (h *hsm) tokens() string { return filepath.Join(h.dir, "tokens") }

func (h *hsm) util(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("softhsm2-util", args...)
	cmd.Env = append(os.Environ(), h.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("softhsm2-util %v: %v: %s (apt-get install softhsm2)", args, err, out)
	}
	return string(out)
}

// shim puts the fault-injecting library before SoftHSM.
func (h *hsm) shim(t testing.TB) {
	t.Helper()
	h.faults = filepath.Join(h.dir, "faults")
	if err := os.Mkdir(h.faults, 0o700); err != nil {
		t.Fatal(err)
	}
	h.module = filepath.Join(h.dir, "shim.so")
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-o", h.module, "testdata/shim.c", "-ldl").CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v: %s (apt-get install gcc)", err, out)
	}
	h.env = append(h.env, "SHIM_REAL="+softHSM, "SHIM_FAULTS="+h.faults)
}

func (h *hsm) fault(t testing.TB, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.faults, name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// happened reports whether a fault was injected.
func (h *hsm) happened(name string) bool {
	_, err := os.Stat(filepath.Join(h.faults, name))
	return errors.Is(err, os.ErrNotExist)
}

func (h *hsm) logins(t testing.TB) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.faults, "logins"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(data)
}

// pids remembers the children that a Provider started, and what it logged.
type pids struct {
	mu   sync.Mutex
	all  []int
	text strings.Builder
}

func (p *pids) Enabled(context.Context, slog.Level) bool { return true }
func (p *pids) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p *pids) WithGroup(string) slog.Handler            { return p }
func (p *pids) Handle(_ context.Context, r slog.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(&p.text, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintln(&p.text, a)
		if a.Key == "pid" {
			p.all = append(p.all, int(a.Value.Int64()))
		}
		return true
	})
	return nil
}

func (p *pids) last() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[len(p.all)-1]
}

func (p *pids) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

func (p *pids) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (h *hsm) config() (pkcs11.Config, *pids) {
	log := new(pids)
	return pkcs11.Config{
		Command: []string{os.Args[0], childIs},
		Env:     h.env,
		Module:  h.module,
		PIN:     func(context.Context, pkcs11.Token) ([]byte, error) { return []byte(pin), nil },
		Logger:  slog.New(log),
	}, log
}

func (h *hsm) open(t testing.TB, change func(*pkcs11.Config)) (*pkcs11.Provider, *pids) {
	t.Helper()
	c, log := h.config()
	if change != nil {
		change(&c)
	}
	p, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Close()
		if strings.Contains(log.logged(), pin) {
			t.Error("the log shows the PIN")
		}
	})
	return p, log
}

func uri(name string) key.URI { return key.URI("pkcs11:token=hsm;object=" + name) }

func generate(t testing.TB, p *pkcs11.Provider, u key.URI, k sigalg.Key) key.Key {
	t.Helper()
	made, err := p.Generate(t.Context(), u, k)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// signs makes a signature that must be good.
func signs(t testing.TB, k key.Key) {
	t.Helper()
	if err := try(t, k); err != nil {
		t.Fatal(err)
	}
}

func try(t testing.TB, k key.Key) error {
	t.Helper()
	scheme := k.Algorithm().Default()
	sig, err := k.Sign(t.Context(), scheme, scheme.Input([]byte("message")))
	if err != nil {
		return err
	}
	return sigalg.Verify(k.Public(), scheme, []byte("message"), sig)
}

// eventually waits for f to succeed. An error that is not key.ErrUnavailable
// ends the wait: only that is worth a retry.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	for range 3000 {
		err := f()
		if err == nil {
			return
		}
		if !errors.Is(err, key.ErrUnavailable) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s: never", what)
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// ends waits for a process to end.
func ends(t testing.TB, pid int) {
	t.Helper()
	for range 6000 {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(data), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("process %d lives on", pid)
}

// halt stops a process, and waits until each of its threads has: the signal
// alone leaves those on other processors a moment in which they answer.
func halt(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "stopped threads", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			return false
		}
		for _, file := range threads {
			data, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(data), ") T ") {
				return false
			}
		}
		return true
	})
}

// until waits for a condition, so long that only a broken program is too slow.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for range 12000 {
		if f() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: never", what)
}
