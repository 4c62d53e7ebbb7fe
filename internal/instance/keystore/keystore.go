// Package keystore opens the two keys of a protected instance: the one that signs work
// orders, and the one that certifies agents. They are none of the keeper's, and stand in
// an encrypted file of their own.
//
// Invariants:
//
//  1. The file is made by the first start, with its passphrase, and is never replaced.
//  2. It is let go of as soon as the keys are read: replicas on one host share it.
package keystore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/key/soft"
)

// Open opens the keystore that a names, or makes it. end lets go of the keys.
func Open(ctx context.Context, a *config.Agents) (keys *ecc.Keys, end func() error, err error) {
	pass, err := config.Secret(a.PassphraseFile)
	if err != nil {
		return nil, nil, err
	}
	p, err := open(ctx, a.Keystore, pass)
	if err != nil {
		return nil, nil, err
	}
	if keys, err = ecc.OpenKeys(ctx, p); err == nil {
		err = p.Detach() // the file is wanted no more: other replicas on this host can start
	}
	if err != nil {
		return nil, nil, errors.Join(err, p.Close())
	}
	return keys, p.Close, nil
}

// patience is how long a start waits for another one that has the keystore open.
const patience = 30 * time.Second

// open opens the file, or makes it.
func open(ctx context.Context, path string, pass []byte) (p *soft.Provider, err error) {
	defer clear(pass)
	for end := time.Now().Add(patience); ; {
		p, err = soft.Open(path, bytes.Clone(pass))
		if errors.Is(err, os.ErrNotExist) {
			p, err = soft.Create(path, bytes.Clone(pass))
		}
		if err == nil || !errors.Is(err, soft.ErrLocked) && !errors.Is(err, os.ErrExist) || time.Now().After(end) {
			return p, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
