package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
)

// PlanReport compares planning a file with hashing it.
type PlanReport struct {
	Format  string  `json:"format"`
	Bytes   int64   `json:"bytes"`
	PlanCPU float64 `json:"plan_cpu_s"`   // user and system, median of the runs
	HashCPU float64 `json:"sha256_cpu_s"` // the same for plain SHA-256
	Ratio   float64 `json:"ratio"`
	PeakRSS int64   `json:"peak_rss_bytes"` // of a process that plans the file and does nothing else
	Runs    int     `json:"runs"`
	Machine Machine `json:"machine"`
}

// PlanOptions of Plan.
type PlanOptions struct {
	File string // "": a program of Size bytes is made
	Size int64  // default 1 GiB
	Runs int    // default 5
	// Child starts this program again so that it calls PlanChild with the file
	// that is appended.
	Child    []string
	Temp     string
	Progress Progress
}

// Plan measures.
func Plan(ctx context.Context, o PlanOptions) (rep *PlanReport, err error) {
	if o.Runs <= 0 {
		o.Runs = 5
	}
	if o.Size == 0 {
		o.Size = 1 << 30
	}
	path := o.File
	if path == "" {
		dir, err := os.MkdirTemp(o.Temp, "gsbench")
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		path = filepath.Join(dir, "program.exe")
		o.Progress.say("making a program of %d MiB", o.Size>>20)
		if err := writeImage(path, o.Size); err != nil {
			return nil, err
		}
	}
	rep = &PlanReport{Runs: o.Runs, Machine: machine()}
	if _, err := hashFile(path); err != nil { // so that both sides read from memory
		return nil, err
	}
	var plans, hashes []float64
	for i := range o.Runs {
		h, err := cpuOf(func() (err error) { rep.Bytes, err = hashFile(path); return err })
		if err != nil {
			return nil, err
		}
		p, err := cpuOf(func() (err error) { rep.Format, err = planFile(ctx, path); return err })
		if err != nil {
			return nil, err
		}
		plans, hashes = append(plans, p.Seconds()), append(hashes, h.Seconds())
		o.Progress.say("run %d of %d: plan %.3f s, SHA-256 %.3f s", i+1, o.Runs, p.Seconds(), h.Seconds())
	}
	rep.PlanCPU, rep.HashCPU = round(median(plans), 4), round(median(hashes), 4)
	if m := median(hashes); m > 0 {
		rep.Ratio = round(median(plans)/m, 3)
	}
	rep.PeakRSS, err = peakOfChild(ctx, o.Child, path)
	return rep, err
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// cpuOf is the processor time, user and system, that f took of this process.
func cpuOf(f func() error) (time.Duration, error) {
	before, err := processTime()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := processTime()
	return after - before, err
}

// hashFile is plain SHA-256 of a file and returns its size.
func hashFile(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	defer f.Close()
	n, err := io.CopyBuffer(sha256.New(), struct{ io.Reader }{f}, make([]byte, 256<<10))
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	return n, nil
}

// planFile plans a file as "greatseal sign" does and returns its format.
func planFile(ctx context.Context, path string) (string, error) {
	a, err := file.Open(path)
	if err != nil {
		return "", err
	}
	defer a.Close()
	f, ok := all.Detect(a)
	if !ok {
		return "", fmt.Errorf("bench: %s: no format knows it", path)
	}
	p, err := f.Plan(ctx, a, nil)
	if err != nil {
		return "", err
	}
	_, err = p.Encode()
	return f.Name(), err
}

// childReport is what a child tells its parent.
type childReport struct {
	Peak int64   `json:"peak_rss_bytes"`
	Plan float64 `json:"plan_s,omitzero"` // of FormatChild: what planning took on the clock
}

// PlanChild plans a file in this process, which should do nothing else, and writes
// how much memory the process took at its peak.
func PlanChild(ctx context.Context, path string, out io.Writer) error {
	if _, err := planFile(ctx, path); err != nil {
		return err
	}
	peak, err := ownPeak()
	if err != nil {
		return err
	}
	return json.MarshalWrite(out, childReport{Peak: peak})
}

func peakOfChild(ctx context.Context, child []string, path string) (int64, error) {
	if len(child) == 0 {
		return 0, errors.New("bench: no command for the child")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	var errs bytes.Buffer
	c := exec.CommandContext(ctx, child[0], append(slices.Clone(child[1:]), abs)...)
	c.Stderr = &errs
	b, err := c.Output()
	if err != nil {
		return 0, fmt.Errorf("bench: child: %w: %s", err, errs.Bytes())
	}
	var r childReport
	if err := json.Unmarshal(b, &r); err != nil {
		return 0, fmt.Errorf("bench: child: %w", err)
	}
	return r.Peak, nil
}
