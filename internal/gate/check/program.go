package check

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Program is an external program that an operator has configured.
type Program struct {
	Command []string // absolute path and arguments
	Env     []string // NAME=VALUE, all of the environment besides PATH
	Dir     string   // working folder; "": "/"
	Time    time.Duration
}

const (
	defaultTime = 10 * time.Minute
	maxOutput   = 64 << 10
	path        = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Check refuses a program that cannot be meant.
func (p *Program) Check() error {
	if len(p.Command) == 0 || !filepath.IsAbs(p.Command[0]) {
		return errors.New("gate: command: want an absolute path and arguments")
	}
	st, err := os.Stat(p.Command[0])
	if err != nil {
		return fmt.Errorf("gate: command: %w", err)
	}
	if st.IsDir() || st.Mode()&0o111 == 0 && filepath.Separator == '/' {
		return fmt.Errorf("gate: command: %s is not a program", p.Command[0])
	}
	for _, e := range p.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return errors.New("gate: command: env: want NAME=VALUE")
		}
	}
	return nil
}

// Run runs the program with what it reads as JSON on its standard input. It returns
// the exit code and the first line that was written; an error if the program did not
// come to an end of its own in time.
func (p *Program) Run(ctx context.Context, input any, env ...string) (code int, line string, err error) {
	in, err := json.Marshal(input, json.Deterministic(true))
	if err != nil {
		return 0, "", fmt.Errorf("gate: command: %w", err)
	}
	limit := p.Time
	if limit <= 0 {
		limit = defaultTime
	}
	tctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(tctx, p.Command[0], p.Command[1:]...)
	c.Env = append(append([]string{path}, p.Env...), env...)
	if c.Dir = p.Dir; c.Dir == "" {
		c.Dir = string(filepath.Separator)
	}
	c.Stdin = bytes.NewReader(in)
	out := &capped{}
	c.Stdout, c.Stderr = out, nil
	c.WaitDelay = 2 * time.Second
	group(c)
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, "", ctx.Err()
	case tctx.Err() != nil:
		return 0, "", fmt.Errorf("gate: command: it took longer than %s", limit)
	case errors.As(err, &exit) && exit.Exited():
		code = exit.ExitCode()
	case err != nil:
		return 0, "", fmt.Errorf("gate: command: %w", err)
	}
	line, _, _ = strings.Cut(strings.TrimSpace(strings.ToValidUTF8(out.String(), "")), "\n")
	return code, strings.TrimSpace(line), nil
}

// capped keeps the first bytes of what is written.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), max(0, maxOutput-c.Len()))])
	return len(p), nil
}
