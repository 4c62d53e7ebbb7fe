package inspector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/endorser"
)

// Job is what a worker is asked to do. The artifact is its file descriptor 3.
type Job struct {
	Name   string        `cbor:"1,keyasint"` // of the artifact; formats do not trust it
	Size   int64         `cbor:"2,keyasint"` // bytes, as the plan says
	Format string        `cbor:"3,keyasint"`
	Params format.Params `cbor:"4,keyasint"`
	Limits Limits        `cbor:"5,keyasint"`
}

// Limits of one worker; zero members mean the defaults.
type Limits struct {
	Memory uint64        `cbor:"1,keyasint"` // bytes of address space, or NoMemoryLimit; 8 GiB
	CPU    time.Duration `cbor:"2,keyasint"` // processor time; 10 min
	Time   time.Duration `cbor:"3,keyasint"` // clock time; 20 min
}

// NoMemoryLimit is for programs whose runtime reserves address space without end,
// such as those built for the race detector.
const NoMemoryLimit = 1<<64 - 1

func (l *Limits) fill() {
	if l.Memory == 0 {
		l.Memory = 8 << 30
	}
	if l.CPU <= 0 {
		l.CPU = 10 * time.Minute
	}
	if l.Time <= 0 {
		l.Time = 20 * time.Minute
	}
}

// result is a worker's answer: a plan, or why there is none.
type result struct {
	Plan  []byte `cbor:"1,keyasint"`
	Error string `cbor:"2,keyasint"`
}

const (
	maxJob    = 4 << 20
	maxResult = format.MaxPlan + 64<<10
	maxStderr = 8 << 10
)

// Worker starts worker processes.
type Worker struct {
	Command []string // program and arguments of a process that calls Serve
	Limits  Limits
}

// Plan has the artifact at path planned in a process of its own. An error that is
// a finding is about the artifact; any other one is not.
func (w Worker) Plan(ctx context.Context, path string, j Job) ([]byte, error) {
	j.Limits = w.Limits
	j.Limits.fill()
	in, err := format.Encode(j)
	if err != nil {
		return nil, fmt.Errorf("inspector: job: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("inspector: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("inspector: %w", err)
	}
	if st.Size() != j.Size {
		return nil, &finding{fmt.Sprintf("it has %d bytes, its plan says %d", st.Size(), j.Size)}
	}
	tctx, cancel := context.WithTimeout(ctx, j.Limits.Time)
	defer cancel()
	c := exec.CommandContext(tctx, w.Command[0], w.Command[1:]...)
	c.Env = []string{}
	c.Dir = "/"
	c.Stdin = bytes.NewReader(in)
	c.ExtraFiles = []*os.File{f}
	out, errs := &capped{max: maxResult}, &capped{max: maxStderr}
	c.Stdout, c.Stderr = out, errs
	c.WaitDelay = 2 * time.Second
	confine(c)
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("inspector: worker: %w", err)
	}
	err = c.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case tctx.Err() != nil:
		return nil, &finding{"reading it took longer than " + j.Limits.Time.String()}
	case out.over:
		return nil, &finding{"its plan is too large"}
	case errors.As(err, &exit) && exit.ExitCode() == exitSetup:
		return nil, fmt.Errorf("inspector: worker: %s", endorser.OneLine(errs.String()))
	case errors.As(err, &exit):
		return nil, &finding{"reading it ended in a crash or at a limit (" + exit.String() + ")"}
	case err != nil:
		return nil, fmt.Errorf("inspector: worker: %w", err)
	}
	var r result
	if err := format.Decode(out.Bytes(), &r); err != nil {
		return nil, &finding{"the worker's answer is none"}
	}
	if r.Error != "" {
		return nil, &finding{r.Error}
	}
	return r.Plan, nil
}

// capped keeps the first bytes of what is written.
type capped struct {
	bytes.Buffer
	max  int
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.max - c.Len(); len(p) > room {
		c.over = true
		c.Buffer.Write(p[:max(0, room)])
		return len(p), nil
	}
	return c.Buffer.Write(p)
}

// exitSetup is a worker's exit code when it could not begin: nothing is known of
// the artifact.
const exitSetup = 75

// Serve is a worker process: it takes its job from in, plans the file behind
// descriptor 3 and writes the answer to out. It returns the exit code.
func Serve(in io.Reader, out, errw io.Writer, formats []format.Format) int {
	fail := func(err error) int {
		fmt.Fprintln(errw, err)
		return exitSetup
	}
	b, err := io.ReadAll(io.LimitReader(in, maxJob+1))
	if err != nil || len(b) > maxJob {
		return fail(errors.New("inspector: worker: no job"))
	}
	var j Job
	if err := format.Decode(b, &j); err != nil {
		return fail(fmt.Errorf("inspector: worker: job: %w", err))
	}
	f := os.NewFile(3, "artifact")
	if f == nil {
		return fail(errors.New("inspector: worker: no artifact"))
	}
	debug.SetTraceback("single")
	if err := restrict(j.Limits); err != nil {
		return fail(fmt.Errorf("inspector: worker: %w", err))
	}
	var r result
	plan, err := planOf(f, j, formats)
	if err == nil {
		r.Plan, err = plan.Encode()
	}
	if err != nil {
		r = result{Plan: []byte{}, Error: endorser.OneLine(err.Error())}
		if r.Error == "" {
			r.Error = "it cannot be planned"
		}
	}
	if b, err = format.Encode(r); err != nil {
		return fail(fmt.Errorf("inspector: worker: %w", err))
	}
	if _, err := out.Write(b); err != nil {
		return fail(fmt.Errorf("inspector: worker: %w", err))
	}
	return 0
}

func planOf(f *os.File, j Job, formats []format.Format) (*format.Plan, error) {
	for _, x := range formats {
		if x.Name() != j.Format {
			continue
		}
		p, err := x.Plan(context.Background(), artifact{f, j.Size, j.Name}, j.Params)
		if err != nil {
			return nil, fmt.Errorf("it cannot be planned: %w", err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("format %q is not known to the inspector", j.Format)
}

// artifact is the file behind a descriptor.
type artifact struct {
	*os.File
	size int64
	name string
}

func (a artifact) Size() int64  { return a.size }
func (a artifact) Name() string { return a.name }
