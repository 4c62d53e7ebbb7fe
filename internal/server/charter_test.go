package server_test

import (
	"maps"

	"github.com/greatseal-io/greatseal/charter"
)

// clonePolicies is a copy of c whose policies can be changed.
func clonePolicies(c *charter.Charter) *charter.Charter {
	n := *c
	n.Policies = maps.Clone(c.Policies)
	return &n
}

func encodeCharter(c *charter.Charter) ([]byte, error) { return charter.Encode(c) }
