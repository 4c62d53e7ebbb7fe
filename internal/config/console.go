package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/statement"
)

// Console is the people's side of a server: pages in a browser.
type Console struct {
	Off                bool         `yaml:"off,omitempty"`
	WithoutCertificate bool         `yaml:"without_certificate,omitempty"` // beyond loopback, clients come without a certificate too: people sign in and log in
	Roles              ConsoleRoles `yaml:"roles,omitempty"`
}

// ConsoleRoles give people of the charter, or groups of a sign-on ("group:NAME"), what
// the charter does not.
type ConsoleRoles struct {
	Auditor  []string `yaml:"auditor,omitempty"`  // read everything, and do nothing
	Operator []string `yaml:"operator,omitempty"` // run the server; admins do
}

const (
	maxConsoleRoles = 1000
	maxGroup        = 200 // bytes of a group's name
)

func (c Console) check() error {
	if c.Off && (c.WithoutCertificate || len(c.Roles.Auditor)+len(c.Roles.Operator) > 0) {
		return errors.New("config: console: it is off, and has more to say: want one of them")
	}
	for _, r := range []struct {
		name string
		list []string
	}{{"auditor", c.Roles.Auditor}, {"operator", c.Roles.Operator}} {
		if len(r.list) > maxConsoleRoles {
			return fmt.Errorf("config: console: roles.%s: more than %d names", r.name, maxConsoleRoles)
		}
		for _, n := range r.list {
			group, ok := strings.CutPrefix(n, "group:")
			if ok && (group == "" || len(group) > maxGroup || strings.TrimSpace(group) != group) {
				return fmt.Errorf("config: console: roles.%s: %q: want group:NAME", r.name, n)
			}
			if ok {
				continue
			}
			if !strings.Contains(n, "@") { // an address is somebody's whom the charter does not have
				if err := statement.CheckName("name", n); err != nil {
					return fmt.Errorf("config: console: roles.%s: %w", r.name, err)
				}
			}
		}
	}
	return nil
}
