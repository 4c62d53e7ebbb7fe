package gate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/greatseal-io/greatseal/statement"
)

// Config is a gate's file of configuration (docs/operate/gates.md). Unknown members
// are refused; paths are relative to the file's folder; no member is a secret.
type Config struct {
	Server    string       `yaml:"server"`               // https://…, http://127.0.0.1:…, unix:PATH
	CA        string       `yaml:"ca,omitempty"`         // PEM file; default: the system's
	Cert      string       `yaml:"cert,omitempty"`       // client certificate and key
	CertKey   string       `yaml:"cert_key,omitempty"`   //
	TokenFile string       `yaml:"token_file,omitempty"` // bearer token, mode 0600; default: logs in with Key
	Root      statement.ID `yaml:"root"`                 // ID of charter version 1: pinned
	Name      string       `yaml:"name"`                 // of the machine in the charter
	Key       string       `yaml:"key"`                  // its SSH private key, mode 0600
	State     string       `yaml:"state"`                // folder for verdicts and files under inspection
	Policies  []string     `yaml:"policies,omitempty"`   // that it judges; default: all
	Metrics   string       `yaml:"metrics,omitempty"`    // HOST:PORT on this machine
	Parallel  int          `yaml:"parallel,omitempty"`   // files at a time
	Retry     Duration     `yaml:"retry,omitempty"`      // 15s

	ClamAV     *ClamAVConfig     `yaml:"clamav,omitempty"` // exactly one of these
	Provenance *ProvenanceConfig `yaml:"provenance,omitempty"`
	Rebuild    *RebuildConfig    `yaml:"rebuild,omitempty"`
	Rules      *RulesConfig      `yaml:"rules,omitempty"`
	Command    *CommandConfig    `yaml:"command,omitempty"`
}

// ClamAVConfig is a gate that has files scanned by clamd.
type ClamAVConfig struct {
	Socket  string   `yaml:"socket,omitempty"`  // Unix socket, or
	Address string   `yaml:"address,omitempty"` // HOST:PORT on this machine
	MaxSize int64    `yaml:"max_size,omitempty"`
	Connect Duration `yaml:"connect,omitempty"`
	Scan    Duration `yaml:"scan,omitempty"`
	Canary  string   `yaml:"canary,omitempty"`
	MaxAge  Duration `yaml:"max_age,omitempty"`
}

// ProvenanceConfig is a gate that wants SLSA provenance.
type ProvenanceConfig struct {
	Claim    string          `yaml:"claim,omitempty"`
	Folder   string          `yaml:"folder,omitempty"`
	Wait     Duration        `yaml:"wait,omitempty"`
	Builders []BuilderConfig `yaml:"builders"`
}

// BuilderConfig is a builder whose provenance counts.
type BuilderConfig struct {
	ID         string   `yaml:"id"`
	Keys       []string `yaml:"keys"` // PEM files
	Sources    []string `yaml:"sources"`
	BuildTypes []string `yaml:"build_types,omitempty"`
}

// RebuildConfig is a gate that compares with a build of its own.
type RebuildConfig struct {
	Folder  string   `yaml:"folder,omitempty"`
	Wait    Duration `yaml:"wait,omitempty"`
	Command []string `yaml:"command,omitempty"`
	Env     []string `yaml:"env,omitempty"`
	Time    Duration `yaml:"time,omitempty"`
}

// RulesConfig is a gate with rules.
type RulesConfig struct {
	PlanOnly bool         `yaml:"plan_only,omitempty"`
	Rules    []RuleConfig `yaml:"rules"`
}

// RuleConfig is one rule.
type RuleConfig struct {
	Name   string `yaml:"name"`
	When   string `yaml:"when,omitempty"`
	Demand string `yaml:"demand"`
	Reason string `yaml:"reason,omitempty"`
}

// CommandConfig is a gate that asks an external program.
type CommandConfig struct {
	Command  []string `yaml:"command"`
	Env      []string `yaml:"env,omitempty"`
	Time     Duration `yaml:"time,omitempty"`
	PlanOnly bool     `yaml:"plan_only,omitempty"`
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

const maxConfig = 1 << 20

// ReadConfig reads and checks a gate's configuration.
func ReadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	if len(b) > maxConfig {
		return nil, fmt.Errorf("gate: %s is larger than %d bytes", path, maxConfig)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	c, err := decodeConfig(b, dir)
	if err != nil {
		return nil, fmt.Errorf("gate: %s: %w", path, err)
	}
	return c, nil
}

func decodeConfig(b []byte, dir string) (*Config, error) {
	var c Config
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		return nil, err
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	c.resolve(dir)
	return &c, nil
}

func (c *Config) check() error {
	n := 0
	for _, set := range [...]bool{c.ClamAV != nil, c.Provenance != nil, c.Rebuild != nil, c.Rules != nil, c.Command != nil} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return errors.New("want exactly one of clamav, provenance, rebuild, rules and command")
	case c.Server == "" || c.Name == "" || c.Key == "" || c.State == "":
		return errors.New("server, name, key and state are wanted")
	case c.Root.IsZero():
		return errors.New("root, the ID of charter version 1, is wanted: without it nothing that the server says can be checked")
	case (c.Cert == "") != (c.CertKey == ""):
		return errors.New("cert and cert_key go together")
	case strings.HasSuffix(c.Key, ".pub"):
		return errors.New("key: want a private key file")
	case c.Parallel < 0 || c.Parallel > 64:
		return errors.New("parallel: want 1 to 64")
	}
	if c.Metrics != "" {
		host, _, err := net.SplitHostPort(c.Metrics)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return errors.New("metrics: want HOST:PORT on this machine")
		}
	}
	return statement.CheckName("name", c.Name)
}

// resolve makes paths absolute.
func (c *Config) resolve(dir string) {
	ps := []*string{&c.CA, &c.Cert, &c.CertKey, &c.TokenFile, &c.Key, &c.State}
	if x := c.ClamAV; x != nil {
		ps = append(ps, &x.Socket, &x.Canary)
	}
	if x := c.Provenance; x != nil {
		ps = append(ps, &x.Folder)
		for i := range x.Builders {
			for j := range x.Builders[i].Keys {
				ps = append(ps, &x.Builders[i].Keys[j])
			}
		}
	}
	if x := c.Rebuild; x != nil {
		ps = append(ps, &x.Folder)
	}
	if path, ok := strings.CutPrefix(c.Server, "unix:"); ok && !filepath.IsAbs(path) {
		c.Server = "unix:" + filepath.Join(dir, path)
	}
	for _, p := range ps {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// secret reads a file that belongs to its owner alone.
func secret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("gate: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("gate: %w", err)
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("gate: %s: others than its owner may use it: chmod 600", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", fmt.Errorf("gate: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
