package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform/layout"
	"github.com/greatseal-io/greatseal/statement"
)

// Instance is a server's part in a circle of trust: the databases whose records it
// signs or protects, and whom it believes.
type Instance struct {
	Name      string              `yaml:"name"`           // in the circle, and in the charter's records section
	Role      string              `yaml:"role,omitempty"` // standalone (default), trusted or protected
	Platforms map[string]Platform `yaml:"platforms,omitempty"`

	State string `yaml:"state,omitempty"` // file of what is believed; default circle.state
	Sides []Side `yaml:"sides,omitempty"` // trusted sides; of one name the first speaks. A trusted instance believes its own root before them

	Machine   *Machine   `yaml:"machine,omitempty"`   // trusted: in whose name jobs and freshness statements are asked for
	Freshness *Freshness `yaml:"freshness,omitempty"` // trusted: says again and again which circle is the newest
	OnChange  []OnChange `yaml:"on_change,omitempty"` // trusted: what is signed when it changes

	Agents *Agents `yaml:"agents,omitempty"` // protected: agents that run what was signed
	Roles  Roles   `yaml:"roles,omitempty"`  // protected: who may do what, by the names of their certificates
}

// Platform is one database of an application.
type Platform struct {
	Database       string `yaml:"database"` // postgres://…, mariadb://…, sqlite:PATH
	layout.Options `yaml:",inline"`
}

// Side is one trusted side: what is pinned, and where its statements come from.
type Side struct {
	Root  statement.ID `yaml:"root"`            // ID of its first charter
	URL   string       `yaml:"url,omitempty"`   // of its server; none: statements come in files
	TLS   *TLS         `yaml:"tls,omitempty"`   // with the side's server
	Every Duration     `yaml:"every,omitempty"` // default 1m
}

// Machine is a machine of the charter, and its SSH private key.
type Machine struct {
	Name string `yaml:"name"`
	Key  string `yaml:"key"`
}

// Freshness has the server sign that its circle is still the newest.
type Freshness struct {
	Policy string   `yaml:"policy"`          // of the charter: unattended, with purpose circle_of_trust.freshness
	Every  Duration `yaml:"every,omitempty"` // default 5m
	Lasts  Duration `yaml:"lasts,omitempty"` // default three times Every
}

// OnChange signs records when they change on a trusted instance.
type OnChange struct {
	Platform       string   `yaml:"platform"`
	Configurations []string `yaml:"configurations"` // of the charter
	Policy         string   `yaml:"policy"`
	Gather         Duration `yaml:"gather,omitempty"`  // how long changes are gathered before they make a job; default 30s
	Look           Duration `yaml:"look,omitempty"`    // between looks, where the database does not call; default 10s
	Capture        bool     `yaml:"capture,omitempty"` // PostgreSQL: changes are noted by triggers
}

// Agents is the queue of a protected instance.
type Agents struct {
	Keystore       string   `yaml:"keystore"`            // encrypted file of the instance's runtime and authority keys
	PassphraseFile string   `yaml:"passphrase_file"`     // mode 0600
	Listen         string   `yaml:"listen"`              // host:port where agents come; their certificates are of the instance's own authority
	Cert           string   `yaml:"cert"`                // what the listener shows
	Key            string   `yaml:"key"`                 //
	Heartbeat      Duration `yaml:"heartbeat,omitempty"` // default 5m
}

// Roles name people by the URI "greatseal:NAME" in their client certificates. On a
// Unix socket everybody who may open it is an administrator.
type Roles struct {
	Administrators []string `yaml:"administrators,omitempty"` // validate agents, import, everything below
	Operators      []string `yaml:"operators,omitempty"`      // submit and cancel jobs, scan, everything below
	Auditors       []string `yaml:"auditors,omitempty"`       // read
}

// Duration is written as Go writes it: "5m".
type Duration time.Duration

// UnmarshalText reads "5m"; nothing below zero.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err == nil && v < 0 {
		err = fmt.Errorf("config: %s is before now", b)
	}
	*d = Duration(v)
	return err
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Or is d, or otherwise where d is zero.
func (d Duration) Or(otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}

// Protected reports whether the server is a protected instance: it has no keeper.
func (i *Instance) Protected() bool { return i != nil && i.Role == "protected" }

func (i *Instance) resolve(dir string) error {
	if i == nil {
		return nil
	}
	if i.State == "" {
		i.State = "circle.state"
	}
	ps := []*string{&i.State}
	if i.Machine != nil {
		ps = append(ps, &i.Machine.Key)
	}
	if a := i.Agents; a != nil {
		ps = append(ps, &a.Keystore, &a.PassphraseFile, &a.Cert, &a.Key)
	}
	errs := []error{paths(dir, ps...)}
	for n := range i.Sides {
		errs = append(errs, i.Sides[n].TLS.resolve(dir))
	}
	for n, p := range i.Platforms {
		if path, ok := strings.CutPrefix(p.Database, "sqlite:"); ok && path != "" {
			if err := paths(dir, &path); err != nil {
				errs = append(errs, err)
			}
			p.Database = "sqlite:" + path
			i.Platforms[n] = p
		}
	}
	return errors.Join(errs...)
}

// check refuses an instance whose parts do not fit its role.
func (i *Instance) check() error {
	if i == nil {
		return nil
	}
	if err := statement.CheckName("instance", i.Name); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if !slices.Contains([]string{"", "standalone", "trusted", "protected"}, i.Role) {
		return fmt.Errorf("config: instance: role %.40q: want standalone, trusted or protected", i.Role)
	}
	for n, p := range i.Platforms {
		if err := statement.CheckName("platform", n); err != nil {
			return fmt.Errorf("config: instance: %w", err)
		}
		if p.Database == "" {
			return fmt.Errorf("config: instance: platform %s: database is missing", n)
		}
	}
	for n, s := range i.Sides {
		if s.Root == (statement.ID{}) {
			return fmt.Errorf("config: instance: sides[%d]: root is missing: the ID of that side's charter version 1", n)
		}
		if s.URL != "" {
			if err := checkURL(s.URL); err != nil {
				return fmt.Errorf("config: instance: sides[%d]: %w", n, err)
			}
		}
	}
	switch {
	case i.Protected() && len(i.Sides) == 0:
		return errors.New("config: instance: sides are missing: a protected instance believes trusted sides, by the IDs of their first charters")
	case i.Protected() && (i.Machine != nil || i.Freshness != nil || len(i.OnChange) > 0):
		return errors.New("config: instance: machine, freshness and on_change are of a trusted instance: nothing is signed on a protected one")
	case !i.Protected() && (i.Agents != nil || len(i.Roles.Administrators)+len(i.Roles.Operators)+len(i.Roles.Auditors) > 0):
		return errors.New("config: instance: agents and roles are of a protected instance; on others the charter says who is who")
	case i.Freshness != nil && (i.Machine == nil || i.Freshness.Policy == ""):
		return errors.New("config: instance: freshness: a machine and a policy are wanted")
	case len(i.OnChange) > 0 && i.Machine == nil:
		return errors.New("config: instance: on_change: a machine is wanted, in whose name it asks")
	case i.Machine != nil && (i.Machine.Name == "" || i.Machine.Key == ""):
		return errors.New("config: instance: machine: name and key are wanted")
	}
	for n, c := range i.OnChange {
		if _, ok := i.Platforms[c.Platform]; !ok || c.Policy == "" || len(c.Configurations) == 0 {
			return fmt.Errorf("config: instance: on_change[%d]: one of the platforms, a policy and configurations are wanted", n)
		}
	}
	if a := i.Agents; a != nil && (a.Keystore == "" || a.PassphraseFile == "" || a.Listen == "" || a.Cert == "" || a.Key == "") {
		return errors.New("config: instance: agents: keystore, passphrase_file, listen, cert and key are wanted")
	}
	return nil
}
