package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/sandbox"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/statement"
	"go.yaml.in/yaml/v3"
)

// Config is an agent's file of configuration (docs/operate/agent.md). Unknown members
// are refused.
type Config struct {
	Name        string            `yaml:"name"`        // of the agent
	Instance    string            `yaml:"instance"`    // the protected instance
	Server      string            `yaml:"server"`      // its address: https://…
	ServerCA    string            `yaml:"serverCA"`    // PEM file; empty: the system's authorities
	State       string            `yaml:"state"`       // folder, 0700
	Firewall    string            `yaml:"firewall"`    // file
	Credentials string            `yaml:"credentials"` // file; empty: none
	Roots       []string          `yaml:"roots"`       // pinned IDs of the trusted sides' first charters
	Jobs        int               `yaml:"jobs"`        // that run at once; 0: 8
	Topics      map[string]int    `yaml:"topics"`      // jobs of a topic that run at once; absent: Jobs
	Reserve     int               `yaml:"reserve"`     // of Jobs, kept for interactive ones; 0: a quarter
	Limits      LimitsConfig      `yaml:"limits"`
	Interpreter map[string]string `yaml:"interpreters"` // shell, python, powershell → absolute path
	Sandbox     sandbox.Config    `yaml:"sandbox"`
	Heartbeat   Duration          `yaml:"heartbeat"` // 0: 5m
	Circle      Duration          `yaml:"circle"`    // between pulls of the circle of trust; 0: 1m
}

// LimitsConfig bounds a job; zero values are the defaults of the comments.
type LimitsConfig struct {
	Time   Duration `yaml:"time"`   // 10m
	Output int64    `yaml:"output"` // bytes; 64 MiB
	Rows   int64    `yaml:"rows"`   // 1 000 000
	Memory int64    `yaml:"memory"` // bytes of a process; 1 GiB
	Spool  int64    `yaml:"spool"`  // bytes of results that may wait before no job is taken; 4 GiB
}

// Duration is a time.Duration that is written "5m".
type Duration time.Duration

// UnmarshalYAML reads it.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v <= 0 {
		return fmt.Errorf("line %d: want a duration such as 5m", n.Line)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

const maxConfig = 1 << 20

// LoadConfig reads a file.
func LoadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("agent: %s: %w", path, err)
	}
	c, err := ParseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads the text of a file, and sets defaults.
func ParseConfig(b []byte) (*Config, error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	var c Config
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("agent: configuration: %w", err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("agent: configuration: there is more than one document")
	}
	return &c, c.check()
}

func (c *Config) check() error {
	bad := func(format string, args ...any) error { return fmt.Errorf("agent: configuration: "+format, args...) }
	switch {
	case !order.ValidName(c.Name):
		return bad("name: want 1 to 64 letters, digits, -, _ and .")
	case !order.ValidInstance(c.Instance):
		return bad("instance: want the protected instance's name")
	case !filepath.IsAbs(c.State) || !filepath.IsAbs(c.Firewall) || c.Credentials != "" && !filepath.IsAbs(c.Credentials):
		return bad("state, firewall and credentials: want absolute paths")
	case len(c.Roots) == 0:
		return bad("roots: want the ID of at least one trusted side's first charter")
	case c.Jobs < 0 || c.Jobs > 1000 || c.Reserve < 0:
		return bad("jobs: want 1 to 1000; reserve: fewer")
	case c.Limits.Output < 0 || c.Limits.Rows < 0 || c.Limits.Memory < 0 || c.Limits.Spool < 0:
		return bad("limits: want positive numbers")
	}
	if _, err := c.Pins(); err != nil {
		return err
	}
	for t, n := range c.Topics {
		if !order.ValidTopic(t) || n < 0 {
			return bad("topics: want a topic's name and a number")
		}
	}
	for l, p := range c.Interpreter {
		if l != "shell" && l != "python" && l != "powershell" || !filepath.IsAbs(p) {
			return bad("interpreters: want shell, python, powershell, each with an absolute path")
		}
	}
	if c.Jobs == 0 {
		c.Jobs = 8
	}
	if c.Reserve == 0 {
		c.Reserve = c.Jobs / 4
	}
	if c.Reserve >= c.Jobs {
		return bad("reserve: nothing is left for jobs that are not interactive")
	}
	return nil
}

// Pins are the roots.
func (c *Config) Pins() ([]statement.ID, error) {
	var out []statement.ID
	for _, r := range c.Roots {
		id, err := statement.ParseID(r)
		if err != nil {
			return nil, fmt.Errorf("agent: configuration: roots: %w", err)
		}
		out = append(out, id)
	}
	return out, nil
}

// limits are those of one job.
func (c *Config) limits() exec.Limits {
	l := exec.Limits{Time: c.Limits.Time.or(10 * time.Minute), Output: c.Limits.Output, Rows: c.Limits.Rows, Memory: c.Limits.Memory}
	if l.Output == 0 {
		l.Output = 64 << 20
	}
	if l.Rows == 0 {
		l.Rows = 1_000_000
	}
	if l.Memory == 0 {
		l.Memory = 1 << 30
	}
	return l
}

func (c *Config) spool() int64 {
	if c.Limits.Spool == 0 {
		return 4 << 30
	}
	return c.Limits.Spool
}
