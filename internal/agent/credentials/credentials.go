// Package credentials is an agent's own store of what it logs in with: one YAML file
// on its host, by name. A signed record names a credential; nothing else about it
// travels.
//
// Invariants:
//
//  1. A file that anybody but its owner can read or write is refused, as is one of
//     another owner than root and the agent.
//  2. A Credential prints as its name, whatever prints it.
package credentials

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// ErrFile is the cause of every refusal of a file.
var ErrFile = errors.New("credentials: the file is refused")

// ErrUnknown means that there is no credential of a name.
var ErrUnknown = errors.New("credentials: no such credential")

const maxFile = 1 << 20

// Store holds credentials. It does not change.
type Store struct{ byName map[string]*Credential }

// Credential is one entry.
type Credential struct {
	name, user, password, token string
	roots                       *x509.CertPool
}

// String is the name.
func (c *Credential) String() string { return "credential " + c.name }

// GoString is the name.
func (c *Credential) GoString() string { return c.String() }

// LogValue is the name.
func (c *Credential) LogValue() slog.Value { return slog.StringValue(c.name) }

// MarshalText is the name.
func (c *Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Format writes the name for every verb.
func (c *Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// Login is user and password.
func (c *Credential) Login() (user, password string) { return c.user, c.password }

// Token is a bearer token.
func (c *Credential) Token() string { return c.token }

// Roots are the authorities for what the credential is used with; nil: the system's.
func (c *Credential) Roots() *x509.CertPool { return c.roots }

type entry struct {
	User     string `yaml:"user"`
	Password string `yaml:"password"`
	Token    string `yaml:"token"`
	CA       string `yaml:"ca"` // file of PEM certificates, relative to the file's folder
}

// Open reads a file. me is the agent's own user ID.
func Open(name string, me int) (*Store, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|noFollow, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	defer f.Close()
	if err := private(f, me); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFile, name, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil || len(b) > maxFile {
		return nil, fmt.Errorf("%w: %s: it is not readable, or too large", ErrFile, name)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	var in map[string]entry
	if err := d.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %s: not a map of names to user, password, token and ca", ErrFile, name) // the parser's text may quote a secret
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %s: there is more than one document", ErrFile, name)
	}
	s := &Store{byName: map[string]*Credential{}}
	for n, e := range in {
		c := &Credential{name: n, user: e.User, password: e.Password, token: e.Token}
		if n == "" || e.Token != "" && (e.User != "" || e.Password != "") {
			return nil, fmt.Errorf("%w: %q: want a user and a password, or a token", ErrFile, n)
		}
		if e.CA != "" {
			if !filepath.IsAbs(e.CA) {
				e.CA = filepath.Join(filepath.Dir(name), e.CA)
			}
			pem, err := os.ReadFile(e.CA)
			if err != nil {
				return nil, fmt.Errorf("%w: %q: %w", ErrFile, n, err)
			}
			c.roots = x509.NewCertPool()
			if !c.roots.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%w: %q: %s holds no certificate", ErrFile, n, e.CA)
			}
		}
		s.byName[n] = c
	}
	return s, nil
}

// Get is the credential of a name. A nil Store has none.
func (s *Store) Get(name string) (*Credential, error) {
	if s != nil {
		if c, ok := s.byName[name]; ok {
			return c, nil
		}
	}
	return nil, ErrUnknown
}
