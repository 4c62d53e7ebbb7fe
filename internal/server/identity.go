package server

import (
	"crypto/x509"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Identity is what of a key is public, as formats take it.
func Identity(scheme sigalg.Scheme, k keeper.KeyStatus) (*format.Identity, error) {
	if len(k.PublicKey) == 0 {
		return nil, problem(409, "key-not-generated", "greatseal key generate "+k.Name, "key %s has not been generated", k.Name)
	}
	pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("server: key %s: %w", k.Name, err)
	}
	chain, err := parseChain(k.Chain)
	if err != nil {
		return nil, fmt.Errorf("server: key %s: certificates: %w", k.Name, err)
	}
	return &format.Identity{Scheme: scheme, Public: pub, Chain: chain}, nil
}
