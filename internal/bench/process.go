package bench

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// usage is what a process and those that it started have used.
type usage struct {
	cpu, wall time.Duration
	peak      int64 // bytes, of the largest of them
}

// measure runs a command to its end. Its error holds what it said.
func measure(c *exec.Cmd, peak bool) (usage, error) {
	var said bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &said
	}
	c.Stderr = &said
	start := time.Now()
	if err := c.Start(); err != nil {
		return usage{}, fmt.Errorf("bench: %w", err)
	}
	var u usage
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		if !peak {
			return
		}
		t := time.NewTicker(5 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				u.peak = max(u.peak, peakOfTree(c.Process.Pid))
			}
		}
	}()
	err := c.Wait()
	u.wall = time.Since(start)
	close(done)
	<-watched
	if err != nil {
		return usage{}, fmt.Errorf("bench: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	u.cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	return u, nil
}

// peakOfTree is the peak memory of the largest of a process and its children, in
// bytes; 0 when they have ended.
func peakOfTree(pid int) int64 {
	most, err := peakOf(strconv.Itoa(pid))
	if err != nil {
		return 0
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for _, child := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(child); err == nil {
				most = max(most, peakOfTree(n))
			}
		}
	}
	return most
}

// ownPeak is the peak memory of this program, not of the one that started it:
// unlike getrusage's ru_maxrss, VmHWM begins anew with exec.
func ownPeak() (int64, error) { return peakOf("self") }

func peakOf(process string) (int64, error) {
	b, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	for line := range bytes.Lines(b) {
		if rest, ok := strings.CutPrefix(string(line), "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("bench: VmHWM: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("bench: this system does not tell a process's peak memory")
}

// parallelRatio is the time on the clock of hashing done by all cores over that of
// the same by one; 1 over their number where nobody else wants them.
func parallelRatio() float64 {
	const blocks = 256 // of 1 MiB
	block := make([]byte, 1<<20)
	run := func(workers int) time.Duration {
		var wg sync.WaitGroup
		start := time.Now()
		for w := range workers {
			wg.Go(func() {
				for i := w; i < blocks; i += workers {
					sha256.Sum256(block)
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	return run(runtime.GOMAXPROCS(0)).Seconds() / run(1).Seconds()
}

// processors is the time of all processors since the start of the machine, and of it
// what its host has given to others, in ticks; zeros where the system does not tell.
func processors() (stolen, all int64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) { // cpu user nice system idle iowait irq softirq steal …
		n, err := strconv.ParseInt(f, 10, 64)
		if i == 0 || i > 8 || err != nil {
			continue
		}
		if all += n; i == 8 {
			stolen = n
		}
	}
	return stolen, all
}

// signFile is the kernel's own signer, which distributions keep off the path, in a
// folder for each kernel.
const signFile = "sign-file"

// findProgram looks for a peer in a folder of judges, then on the path; "" when it
// is nowhere.
func findProgram(judges, name string) string {
	if judges != "" {
		p := filepath.Join(judges, "bin", name)
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p
		}
	}
	if name == signFile {
		if m, _ := filepath.Glob("/usr/lib/linux-kbuild-*/scripts/" + signFile); len(m) > 0 {
			return slices.Max(m)
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}
