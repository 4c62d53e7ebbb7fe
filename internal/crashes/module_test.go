//go:build linux

package crashes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/sigalg"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// The process in which an HSM's driver runs is killed, as a driver that crashes
// would end it, again and again with signatures under way: the keeper starts it
// anew, and goes on.
func TestCrashModule(t *testing.T) { // not parallel: its processes have another environment
	if _, err := os.Stat(softHSM); err != nil {
		t.Fatal("SoftHSM is missing: apt-get install softhsm2")
	}
	bin := filepath.Join(t.TempDir(), "greatseal-keeper")
	build := exec.Command("go", "build", "-o", bin, "github.com/greatseal-io/greatseal/cmd/greatseal-keeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("greatseal-keeper is built with cgo (apt-get install gcc): %v\n%s", err, out)
	}
	hsm := t.TempDir()
	conf := filepath.Join(hsm, "softhsm2.conf")
	if err := os.Mkdir(filepath.Join(hsm, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", hsm), 0o600); err != nil {
		t.Fatal(err)
	}
	const pin = "739162840"
	util := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "hsm", "--pin", pin, "--so-pin", "12345678")
	util.Env = append(os.Environ(), "SOFTHSM2_CONF="+conf)
	if out, err := util.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	w := newWorldWith(t, "", []string{envHSM + "=" + strings.Join([]string{bin, softHSM, conf}, " ")}, pin,
		trial.KeySpec{Name: "release", URI: "pkcs11:token=hsm;object=release", Algorithm: sigalg.P256})
	keeper := w.keeper.cmd.Process.Pid
	done := make(chan error, 1)
	// Three times: one that dies again and again is given more and more time.
	const most = 3
	var kills atomic.Int64
	go func() {
		for i := 0; i < 2 || kills.Load() < most; i++ {
			if err := w.load(fmt.Sprintf("round %d", i), 6); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var err error
	for running := true; running; {
		select {
		case err = <-done:
			running = false
		case <-time.After(120 * time.Millisecond):
			for _, pid := range children(t, keeper) {
				if kills.Load() < most {
					syscall.Kill(pid, syscall.SIGKILL)
					kills.Add(1)
				}
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if w.keeper.cmd.Process.Pid != keeper || !w.keeper.running() {
		t.Errorf("the keeper ended with its driver: %s", w.keeper.said())
	}
	if err := w.sound(); err != nil {
		t.Error(err)
	}
}

// children are the processes that pid has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("no children of %d in /proc: %v", pid, err)
	}
	var out []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for _, s := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(s); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}
