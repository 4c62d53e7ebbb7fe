// Package stamp gets timestamps for finished signatures: from the authorities
// that a policy names, in order, or from the deployment's own, whose key is in the
// keeper.
//
// Invariant: a token is returned only when it answers the question that was asked
// and its signature verifies.
package stamp

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/tsp"
	"github.com/greatseal-io/greatseal/tsp/client"
)

// Own is the name by which a policy calls the deployment's own authority.
const Own = "self"

// Stamper asks authorities. It is safe for concurrent use.
type Stamper struct {
	Keeper keeper.Keeper
	Roots  *x509.CertPool // of foreign authorities; nil: any that signs correctly
}

// Stamp returns a token (DER) over SHA-256 of a signature value from the first of
// the authorities that gives one.
func (s *Stamper) Stamp(ctx context.Context, authorities []string, signature []byte) ([]byte, error) {
	digest := sha256.Sum256(signature)
	var errs []error
	for _, a := range authorities {
		var token []byte
		var err error
		if a == Own {
			token, err = s.own(ctx, digest[:])
		} else {
			c := &client.Client{Authorities: []string{a}, Rand: rand.Reader, Roots: s.Roots}
			token, _, err = c.Stamp(ctx, crypto.SHA256, digest[:])
		}
		if err == nil {
			return token, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, errors.New("stamp: no authority is named")
	}
	return nil, errors.Join(errs...)
}

func (s *Stamper) own(ctx context.Context, digest []byte) ([]byte, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, fmt.Errorf("stamp: %w", err)
	}
	q := tsp.NewRequest(crypto.SHA256, digest, nonce, nil, true)
	der, err := q.Marshal()
	if err != nil {
		return nil, fmt.Errorf("stamp: %w", err)
	}
	resp, err := s.Keeper.Timestamp(ctx, der)
	if err != nil {
		return nil, fmt.Errorf("stamp: own authority: %w", err)
	}
	t, err := tsp.ParseResponse(resp)
	if err != nil {
		return nil, fmt.Errorf("stamp: own authority: %w", err)
	}
	if err := t.Answers(q); err != nil {
		return nil, fmt.Errorf("stamp: own authority: %w", err)
	}
	return t.CMS.Raw, nil
}
