package keeper

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// Config is what a keeper is made of.
type Config struct {
	Dir       string                  // its folder, mode 0700: the ledger is in it
	Providers map[string]key.Provider // by the URI's scheme; they stay the caller's to close
	Formats   []format.Format

	// ReceiptKey and LogKey are the keeper's own two keys, Ed25519, which Init
	// creates. They are no keys of the charter.
	ReceiptKey key.URI
	LogKey     key.URI

	Pin     statement.ID      // of version 1 of the charter; zero: Found is refused
	Clock   func() time.Time  // time.Now
	Rand    io.Reader         // crypto/rand.Reader
	Logger  *slog.Logger      // nil: none
	Hook    func(step string) // nil; for tests that stop at a step
	Limits  Limits            // zero: the defaults
	Version string            // of the program, for Status

	// Cache is of verified signatures; nil: the keeper's own. It may be shared
	// with a server in the same process, and with nobody else: whoever can put
	// into it decides what has verified. Sharing gives that server nothing that
	// it could not do anyhow to the memory that both live in, and takes no check
	// away: an entry is made by package quorum alone, by verifying, and names
	// credential, purpose, message and signature, of which the result is a
	// function; what did not verify is not kept. Members, times and quorum are
	// judged by the keeper itself each time. A keeper in a process of its own
	// has a cache of its own.
	Cache *quorum.Cache
}

// Limits of one order.
type Limits struct {
	Order   int64 // bytes of evidence and items; default and most: 256 MiB
	Result  int64 // bytes of signatures; default and most: 192 MiB
	Workers int   // signatures at a time; default: 32, or twice the processors where that is more
}

const (
	maxOrder  = 256 << 20
	maxResult = 192 << 20
)

func (c *Config) check() error {
	switch {
	case c.Dir == "":
		return errors.New("keeper: no folder")
	case c.Clock == nil || c.Rand == nil:
		return errors.New("keeper: no clock or no source of randomness")
	case c.ReceiptKey == "" || c.LogKey == "" || c.ReceiptKey == c.LogKey:
		return errors.New("keeper: want a key for receipts and another one for the log")
	}
	names := map[string]bool{}
	for _, f := range c.Formats {
		if names[f.Name()] {
			return fmt.Errorf("keeper: format %s stands twice", f.Name())
		}
		names[f.Name()] = true
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
	if c.Cache == nil {
		c.Cache = quorum.NewCache(1 << 14)
	}
	if l := &c.Limits; true {
		if l.Order <= 0 || l.Order > maxOrder {
			l.Order = maxOrder
		}
		if l.Result <= 0 || l.Result > maxResult {
			l.Result = maxResult
		}
		if l.Workers <= 0 {
			l.Workers = max(32, 2*runtime.GOMAXPROCS(0))
		}
	}
	return nil
}

func (c *Config) provider(uri key.URI) (key.Provider, error) {
	p, ok := c.Providers[uri.Provider()]
	if !ok {
		return nil, fmt.Errorf("keeper: no provider for keys %q", uri.Provider()+":")
	}
	return p, nil
}

func ledgerPath(dir string) string { return filepath.Join(dir, "ledger") }

// Init makes a new keeper: its folder, an empty ledger and its own two keys. It
// refuses to replace anything. An Init that was cut short is completed by another
// one.
func Init(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	path := ledgerPath(c.Dir)
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		// A ledger that is lost is not made anew: the same key would number a
		// second receipt 1. Only a ledger without an identity makes keys.
		for _, uri := range []key.URI{c.ReceiptKey, c.LogKey} {
			p, err := c.provider(uri)
			if err != nil {
				return err
			}
			if _, err := p.Open(ctx, uri); err == nil {
				return fmt.Errorf("keeper: %s exists and the ledger does not: restore the ledger, or name another key", uri)
			} else if !errors.Is(err, key.ErrNotFound) {
				return fmt.Errorf("keeper: %s: %w", uri, err)
			}
		}
		if err := ledger.CreateFile(path, c.Rand); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	empty := true
	l, err := ledger.OpenFile(path, ledger.Options{Logger: c.Logger, Replay: func(int64, ledger.Record) error { empty = false; return nil }})
	if err != nil {
		return err
	}
	defer l.Close()
	if !empty {
		return fmt.Errorf("keeper: %s holds a keeper already", c.Dir)
	}
	c.Hook("init.ledger")
	receipts, err := own(ctx, &c, c.ReceiptKey, true)
	if err != nil {
		return err
	}
	c.Hook("init.receipts")
	log, err := own(ctx, &c, c.LogKey, true)
	if err != nil {
		return err
	}
	c.Hook("init.log")
	body, err := format.Encode(identityRecord{Receipts: receipts.pub, Log: log.pub, At: c.Clock().Unix()})
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	_, err = l.Append(ctx, ledger.Record{Type: recIdentity, Body: body})
	return err
}

// ownKey is one of the keeper's own keys.
type ownKey struct {
	key key.Key
	pub ed25519.PublicKey
}

// own opens an own key, or creates it.
func own(ctx context.Context, c *Config, uri key.URI, create bool) (ownKey, error) {
	p, err := c.provider(uri)
	if err != nil {
		return ownKey{}, err
	}
	k, err := p.Open(ctx, uri)
	if create && errors.Is(err, key.ErrNotFound) {
		g, ok := p.(key.Generator)
		if !ok {
			return ownKey{}, fmt.Errorf("keeper: provider %s cannot generate %s", p.Name(), uri)
		}
		k, err = g.Generate(ctx, uri, sigalg.Ed25519)
	}
	if err != nil {
		return ownKey{}, fmt.Errorf("keeper: own key %s: %w", uri, err)
	}
	pub, ok := k.Public().(ed25519.PublicKey)
	if !ok {
		return ownKey{}, fmt.Errorf("keeper: own key %s is %s: want %s", uri, k.Algorithm(), sigalg.Ed25519)
	}
	return ownKey{k, pub}, nil
}

// sign signs message and checks the signature: one made by a fault would give the
// key away.
func (o ownKey) sign(message []byte) ([]byte, error) {
	sig, err := o.unchecked(message)
	if err != nil {
		return nil, err
	}
	if err := sigalg.Verify(o.pub, sigalg.PureEd25519, message, sig); err != nil {
		return nil, fmt.Errorf("%w: own key made a signature that does not verify", ErrUnavailable)
	}
	return sig, nil
}

// unchecked is sign for a caller that checks what it makes of the signature.
func (o ownKey) unchecked(message []byte) ([]byte, error) {
	sig, err := o.key.Sign(context.Background(), sigalg.PureEd25519, message)
	if err != nil {
		return nil, fmt.Errorf("%w: own key: %w", ErrUnavailable, err)
	}
	return sig, nil
}
