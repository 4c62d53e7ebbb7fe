package config

import (
	"strings"
	"testing"
)

func TestConsoleRoles(t *testing.T) {
	for _, c := range []Console{
		{}, {Off: true}, {WithoutCertificate: true},
		{Roles: ConsoleRoles{Auditor: []string{"group:audit", "reader@example.com", "dave"}, Operator: []string{"group:two words"}}},
	} {
		if err := c.check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Console{
		{Off: true, WithoutCertificate: true},
		{Off: true, Roles: ConsoleRoles{Operator: []string{"dave"}}},
		{Roles: ConsoleRoles{Auditor: []string{"group:"}}},
		{Roles: ConsoleRoles{Auditor: []string{"group: audit"}}},
		{Roles: ConsoleRoles{Auditor: []string{""}}},
		{Roles: ConsoleRoles{Operator: []string{"Not A Name!"}}},
		{Roles: ConsoleRoles{Operator: []string{strings.Repeat("x", 300)}}},
		{Roles: ConsoleRoles{Operator: make([]string, maxConsoleRoles+1)}},
	} {
		if c.check() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
