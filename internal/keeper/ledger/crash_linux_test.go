package ledger

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is its own child: it opens the ledger that the environment
// names, appends, says what was acknowledged, and kills itself at a step.
func TestMain(m *testing.M) {
	if path := os.Getenv("LEDGER_CHILD"); path != "" {
		child(path, os.Getenv("LEDGER_STEP"))
	}
	os.Exit(m.Run())
}

func die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// halfFile kills the process in the middle of a write.
type halfFile struct {
	osFile
	n *int
}

func (h halfFile) WriteAt(b []byte, off int64) (int, error) {
	if *h.n--; *h.n == 0 {
		h.osFile.WriteAt(b[:len(b)*2/3], off)
		die()
	}
	return h.osFile.WriteAt(b, off)
}

func child(path, step string) {
	var count int
	hook := func(s string) {
		if s == step {
			if count++; count == 3 {
				die()
			}
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	var file File = osFile{f}
	if step == "half" {
		n := 3
		file = halfFile{osFile{f}, &n}
	}
	l, err := Open(file, Options{Hook: hook})
	if err != nil {
		panic(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				body := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				_, err := l.Append(context.Background(), Record{7, []byte(body)})
				mu.Lock()
				if err == nil {
					fmt.Println("acked", body)
				} else {
					fmt.Println("error", err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if errors.Is(l.Err(), ErrStopped) {
		fmt.Println("stopped")
	}
	l.Close()
	os.Exit(0)
}

func runChild(t *testing.T, path, step string, attr ...string) (acked []string, out string, state *os.ProcessState) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if len(attr) > 0 {
		cmd = exec.Command(attr[0], append(attr[1:], os.Args[0], "-test.run=^$")...)
	}
	cmd.Env = append(os.Environ(), "LEDGER_CHILD="+path, "LEDGER_STEP="+step)
	b, _ := cmd.CombinedOutput()
	s := bufio.NewScanner(strings.NewReader(string(b)))
	for s.Scan() {
		if a, ok := strings.CutPrefix(s.Text(), "acked "); ok {
			acked = append(acked, "7:"+a)
		}
	}
	return acked, string(b), cmd.ProcessState
}

func holds(t *testing.T, path string, acked []string) int {
	t.Helper()
	got := map[string]bool{}
	n := 0
	l, err := OpenFile(path, Options{Replay: func(_ int64, r Record) error {
		n++
		got[fmt.Sprintf("%d:%s", r.Type, r.Body)] = true
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, a := range acked {
		if !got[a] {
			t.Fatalf("%s was acknowledged and is lost", a)
		}
	}
	return n
}

// Invariant 1, under SIGKILL at every step, three lives of one file each.
func TestCrash(t *testing.T) {
	for _, step := range []string{"ledger.write", "half", "ledger.sync", "ledger.commit"} {
		t.Run(step, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger")
			if err := CreateFile(path, rand.Reader); err != nil {
				t.Fatal(err)
			}
			var all []string
			for range 3 {
				acked, out, state := runChild(t, path, step)
				if ws := state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
					t.Fatalf("child was not killed: %v\n%s", state, out)
				}
				all = append(all, acked...)
				holds(t, path, all)
			}
			if len(all) == 0 {
				t.Fatal("nothing was acknowledged: nothing was tested")
			}
		})
	}
}

// A disk that is full for real: a limit on the file's size, and a tiny tmpfs
// where mounting is possible.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=8k"); err == nil {
		defer unix.Unmount(mnt, unix.MNT_DETACH)
		path := filepath.Join(mnt, "ledger")
		if err := CreateFile(path, rand.Reader); err != nil {
			t.Fatal(err)
		}
		l, err := OpenFile(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		filler := filepath.Join(mnt, "filler")
		if err := os.WriteFile(filler, make([]byte, 2000), 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		for {
			_, err = l.Append(context.Background(), Record{7, make([]byte, 500)})
			if err != nil {
				break
			}
			n++
		}
		if !errors.Is(err, unix.ENOSPC) || !errors.Is(err, ErrWrite) {
			t.Fatalf("full: %v", err)
		}
		if _, err := l.Append(context.Background(), Record{7, make([]byte, 3000)}); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("still full: %v", err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(context.Background(), Record{7, []byte("again")}); err != nil {
			t.Fatalf("space is back: %v", err)
		}
		l.Close()
		if got := holds(t, path, []string{"7:again"}); got != n+1 {
			t.Errorf("%d records of %d", got, n+1)
		}
	} else {
		t.Logf("no tmpfs (%v): the file size limit alone is tested", err)
	}
	path := filepath.Join(dir, "ledger")
	if err := CreateFile(path, rand.Reader); err != nil {
		t.Fatal(err)
	}
	acked, out, _ := runChild(t, path, "", "sh", "-c", `trap "" XFSZ; ulimit -f 4; exec "$@"`, "sh")
	if !strings.Contains(out, "error ledger: not written") || len(acked) == 0 {
		t.Fatalf("limit of the file's size had no effect:\n%s", out)
	}
	holds(t, path, acked)
}
