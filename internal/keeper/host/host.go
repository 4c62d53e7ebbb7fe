// Package host runs a keeper from its configuration: it opens the keystore and
// the modules, and gives them to the keeper alone.
//
// Invariants:
//
//  1. Providers leave this package only inside a keeper.
//  2. Passphrase and PINs come from files that nobody else may read, and are
//     wiped after use.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// Options are what does not come from the file.
type Options struct {
	// PKCS11 opens a module; nil in programs without that ability.
	PKCS11  func(ctx context.Context, c config.PKCS11, log *slog.Logger) (key.Provider, error)
	Formats []format.Format
	Clock   func() time.Time
	Rand    io.Reader
	Logger  *slog.Logger
	Version string
	Hook    func(step string) // for tests that stop at a step
	Cache   *quorum.Cache     // see [keeper.Config]: shared within this process, or nil
}

// Host is a running keeper with what it holds.
type Host struct {
	*keeper.Local
	providers []key.Provider
}

// Close closes the keeper, then its keys.
func (h *Host) Close() error {
	errs := []error{h.Local.Close()}
	for _, p := range h.providers {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Open starts the keeper of c, with version 1 of the charter pinned to root.
func Open(ctx context.Context, c config.KeeperIn, root statement.ID, o Options) (*Host, error) {
	ps, err := providers(ctx, c, o, false)
	if err != nil {
		return nil, err
	}
	k, err := keeper.Open(ctx, keeperConfig(c, root, o, ps))
	if err != nil {
		closeAll(ps)
		return nil, err
	}
	return &Host{k, ps}, nil
}

// Init makes the keeper of c: its keystore where there is none, its ledger and
// its own keys. It replaces nothing.
func Init(ctx context.Context, c config.KeeperIn, o Options) error {
	ps, err := providers(ctx, c, o, true)
	if err != nil {
		return err
	}
	defer closeAll(ps)
	return keeper.Init(ctx, keeperConfig(c, statement.ID{}, o, ps))
}

func closeAll(ps []key.Provider) {
	for _, p := range ps {
		p.Close()
	}
}

func keeperConfig(c config.KeeperIn, root statement.ID, o Options, ps []key.Provider) keeper.Config {
	m := map[string]key.Provider{}
	for _, p := range ps {
		if had, ok := m[p.Name()]; ok {
			p = both{had, p}
		}
		m[p.Name()] = p
	}
	return keeper.Config{
		Dir: c.Dir, Providers: m, Formats: o.Formats, ReceiptKey: key.URI(c.ReceiptKey), LogKey: key.URI(c.LogKey),
		Pin: root, Clock: o.Clock, Rand: o.Rand, Logger: o.Logger, Version: o.Version, Hook: o.Hook, Cache: o.Cache,
	}
}

func providers(ctx context.Context, c config.KeeperIn, o Options, create bool) (out []key.Provider, err error) {
	defer func() {
		if err != nil {
			closeAll(out)
			out = nil
		}
	}()
	pass, err := config.Secret(c.PassphraseFile)
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	if _, serr := os.Stat(c.Keystore); create && errors.Is(serr, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(c.Keystore), 0o700); err != nil {
			return nil, fmt.Errorf("host: %w", err)
		}
		p, err := soft.Create(c.Keystore, pass)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	} else {
		p, err := soft.Open(c.Keystore, pass)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	for _, m := range c.PKCS11 {
		if o.PKCS11 == nil {
			return out, errors.New("host: this program has no PKCS #11: run greatseal-keeper")
		}
		p, err := o.PKCS11(ctx, m, o.Logger)
		if err != nil {
			return out, fmt.Errorf("host: %s: %w", m.Module, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// both is two providers of one kind: what the first does not have, the second may.
type both struct{ a, b key.Provider }

func (p both) Name() string { return p.a.Name() }

func (p both) Open(ctx context.Context, uri key.URI) (key.Key, error) {
	k, err := p.a.Open(ctx, uri)
	if err == nil {
		return k, nil
	}
	k, err2 := p.b.Open(ctx, uri)
	if err2 == nil {
		return k, nil
	}
	if errors.Is(err, key.ErrNotFound) {
		return nil, err2
	}
	return nil, err // the first may have it, and is away
}

// Generate makes a key where its token is. It asks the second only when the
// first says that the token is not its own.
func (p both) Generate(ctx context.Context, uri key.URI, a sigalg.Key) (key.Key, error) {
	g, ok := p.a.(key.Generator)
	if ok {
		k, err := g.Generate(ctx, uri, a)
		if err == nil || !errors.Is(err, key.ErrNotFound) {
			return k, err
		}
	}
	if g, ok = p.b.(key.Generator); ok {
		return g.Generate(ctx, uri, a)
	}
	return nil, fmt.Errorf("host: %s generates no keys", uri)
}

func (p both) Destroy(ctx context.Context, uri key.URI) error {
	d, ok := p.a.(key.Destroyer)
	if ok {
		if err := d.Destroy(ctx, uri); err == nil || !errors.Is(err, key.ErrNotFound) {
			return err
		}
	}
	if d, ok = p.b.(key.Destroyer); ok {
		return d.Destroy(ctx, uri)
	}
	return fmt.Errorf("host: %s destroys no keys", uri)
}

func (p both) Health(ctx context.Context) error {
	return errors.Join(p.a.Health(ctx), p.b.Health(ctx))
}

func (p both) Close() error { return nil } // the host closes each
