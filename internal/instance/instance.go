// Package instance puts together what a server is in a circle of trust: the databases
// whose records it signs or protects, what it believes, security jobs, and the queue
// of its agents.
//
// Invariants:
//
//  1. A protected instance has no office: nothing in it can ask for a signature.
//  2. What is believed comes through package circle, wherever it came from: the
//     database that replicas share, a trusted side's server, a file.
//  3. The instance's own keys sign work orders and agents' certificates and nothing
//     else; they are none of the keeper's.
package instance

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/statefile"
	"github.com/greatseal-io/greatseal/credential/sshagent"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// OpenKeys opens an instance's own two keys; end lets go of them. It is handed in so
// that a server of requests has no way to a keystore.
type OpenKeys func(ctx context.Context, a *config.Agents) (keys *ecc.Keys, end func() error, err error)

// Config is what an Instance is made of.
type Config struct {
	Config   *config.Instance
	Store    *store.SQL
	Server   *server.Server                         // nil on a protected instance
	Root     statement.ID                           // of Server's first charter
	TLS      func(*config.TLS) (*tls.Config, error) // of a client of another server
	Keys     OpenKeys                               // of a protected instance with agents: keystore.Open
	Webhooks []notify.Webhook                       // of rejections and findings
	Sender   *notify.Sender
	Notices  *notices.Engine // tells operators of the same; nil: nobody. The server's own where there is one
	Clock    func() time.Time
	Logger   *slog.Logger
}

// Instance is one replica. It is safe for concurrent use.
type Instance struct {
	Part      *records.Instance
	Platforms map[string]platform.Platform
	Circles   *Circles
	Guard     *records.Guard
	Jobs      *records.Jobs // nil on a protected instance
	Queue     *ecc.Service  // nil where there are no agents
	Runtime   []byte        // SubjectPublicKeyInfo, DER, of the key that signs work orders; nil where there are no agents

	c      Config
	log    *slog.Logger
	office *records.Office // nil on a protected instance, and without a machine
	closer []func() error

	mu   sync.Mutex
	http map[statement.ID]*http.Client

	asking sync.Mutex // one freshness statement at a time
	asked  *asked     // that one; nil: none
}

// Open makes an instance. Close ends it.
func Open(ctx context.Context, c Config) (i *Instance, err error) {
	i = &Instance{c: c, log: c.Logger, Platforms: map[string]platform.Platform{}, http: map[statement.ID]*http.Client{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Close())
			i = nil
		}
	}()
	if c.Config.Protected() != (c.Server == nil) {
		return i, errors.New("instance: a protected instance has no server of requests, and every other one has")
	}
	if err := i.believe(ctx); err != nil {
		return i, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Config.Platforms)) {
		p, err := openPlatform(ctx, c.Config.Platforms[name])
		if err != nil {
			return i, fmt.Errorf("instance: platform %s: %w", name, err)
		}
		i.closer = append(i.closer, p.Close)
		i.Platforms[name] = p
		if err := p.Prepare(ctx); err != nil {
			return i, fmt.Errorf("instance: platform %s: %w", name, err)
		}
	}
	if i.Guard, err = records.NewGuard(records.GuardConfig{Instance: i.Part, Store: c.Store, Platforms: i.Platforms, Now: c.Clock, Log: c.Logger, Notify: i.found}); err != nil {
		return i, err
	}
	if c.Config.Protected() {
		return i, i.protect(ctx)
	}
	return i, i.signing()
}

// believe opens what is believed of the trusted sides.
func (i *Instance) believe(ctx context.Context) error {
	var roots []statement.ID
	if !i.c.Config.Protected() {
		roots = append(roots, i.c.Root)
	}
	for _, s := range i.c.Config.Sides {
		if slices.Contains(roots, s.Root) {
			return fmt.Errorf("instance: side %s is named twice", s.Root)
		}
		roots = append(roots, s.Root)
	}
	f, err := statefile.Open(i.c.Config.State)
	if err != nil {
		return err
	}
	i.closer = append(i.closer, f.Close)
	c, err := circle.New(ctx, f, roots...)
	if err != nil {
		return err
	}
	i.Circles = &Circles{news: make(chan struct{}, 1), believed: c, store: i.c.Store, roots: roots, now: i.c.Clock, log: i.log, heard: map[[32]byte]heard{}}
	if err := i.Circles.Hear(ctx); err != nil {
		i.log.Warn("what other replicas say of the circle is refused", "error", err)
	}
	i.Part = &records.Instance{Name: i.c.Config.Name, Role: records.Role(i.c.Config.Role)}
	i.Part.Join(c)
	if i.Part.Role == "" {
		i.Part.Role = records.Standalone
	}
	return nil
}

// signing is what instances have on which records are signed.
func (i *Instance) signing() error {
	cfg := records.Config{Instance: i.Part, Store: i.c.Store, Platforms: i.Platforms, Configurations: i.Configurations, Now: i.c.Clock, Rand: rand.Reader, Log: i.log}
	if m := i.c.Config.Machine; m != nil {
		s, err := sshagent.File(m.Key, nil)
		if err != nil {
			return fmt.Errorf("instance: machine %s: %w", m.Name, err)
		}
		i.office = &records.Office{Server: i.c.Server, Author: &author.Author{Name: m.Name, Signer: s, Now: i.c.Clock, Rand: rand.Reader}}
		cfg.Signer = i.office
	}
	if cfg.Signer == nil {
		return nil
	}
	var err error
	i.Jobs, err = records.NewJobs(cfg)
	return err
}

// Configurations are those of the charter in force.
func (i *Instance) Configurations() map[string]record.Configuration {
	if i.c.Server == nil {
		return nil
	}
	if r := i.c.Server.Charter().Records; r != nil {
		return r.Configurations
	}
	return nil
}

// protect is what a protected instance has: its own keys, and a queue for agents.
func (i *Instance) protect(ctx context.Context) error {
	a := i.c.Config.Agents
	if a == nil {
		return nil
	}
	if i.c.Keys == nil {
		return errors.New("instance: agents want the instance's own keys")
	}
	keys, end, err := i.c.Keys(ctx, a)
	if err != nil {
		return fmt.Errorf("instance: the instance's own keys: %w", err)
	}
	i.closer = append(i.closer, end)
	if i.Runtime, err = x509.MarshalPKIXPublicKey(keys.Runtime.Public()); err != nil {
		return err
	}
	authority, err := ecc.OpenAuthority(ctx, i.c.Store, i.c.Config.Name, keys.Authority, rand.Reader, i.c.Clock())
	if err != nil {
		return err
	}
	i.Queue, err = ecc.New(ecc.Config{Store: i.c.Store, Source: &source{i.Part, i.Guard, i.Platforms, i.c.Clock}, Circles: i.Circles, Instance: i.c.Config.Name, Runtime: keys.Runtime,
		Authority: authority, Clock: i.c.Clock, Logger: i.log, Webhooks: i.c.Webhooks, Sender: i.c.Sender, Notices: i.c.Notices != nil, Times: ecc.Times{Heartbeat: a.Heartbeat.Or(0)}})
	return err
}

// Run does the background work until ctx ends.
func (i *Instance) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		every(ctx, hearEvery, func() {
			if err := i.Circles.Hear(ctx); err != nil && ctx.Err() == nil {
				i.log.Warn("what other replicas say of the circle is refused", "error", err)
			}
		})
	})
	for _, s := range i.c.Config.Sides {
		if s.URL != "" {
			wg.Go(func() { i.pull(ctx, s) })
		}
	}
	if i.Jobs != nil {
		wg.Go(func() { i.told("security jobs", ctx, i.Jobs.Run) })
		for _, o := range i.c.Config.OnChange {
			wg.Go(func() {
				i.told("signing on change", ctx, func(ctx context.Context) error { return i.onChange(ctx, o) })
			})
		}
	}
	if i.c.Config.Freshness != nil && i.office != nil {
		wg.Go(func() { i.refresh(ctx) })
	}
	if len(i.c.Webhooks) > 0 {
		wg.Go(func() { i.tell(ctx) })
	}
	if i.c.Notices != nil && i.c.Server == nil { // which tells people otherwise
		wg.Go(func() { i.c.Notices.Run(ctx, nil) })
	}
	if i.Queue != nil {
		wg.Go(func() { i.told("the queue", ctx, i.Queue.Run) })
	}
	if i.c.Config.Protected() {
		for name := range i.Platforms {
			wg.Go(func() {
				i.told("the watch over "+name, ctx, func(ctx context.Context) error {
					return i.Guard.Watch(ctx, records.TamperWatch{Platform: name})
				})
			})
		}
	}
	wg.Wait()
}

const (
	hearEvery  = 2 * time.Second
	againAfter = 10 * time.Second
)

// told runs f again when it ends before ctx does, and says why.
func (i *Instance) told(what string, ctx context.Context, f func(context.Context) error) {
	for ctx.Err() == nil {
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		i.log.Error(what+" stopped: it begins again", "after", againAfter, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
	}
}

// onChange signs what changes on a platform.
func (i *Instance) onChange(ctx context.Context, o config.OnChange) error {
	if c, ok := i.Platforms[o.Platform].(platform.Capturer); ok && o.Capture {
		var tables []string
		for _, id := range o.Configurations {
			if c, ok := i.Configurations()[id]; ok && !slices.Contains(tables, c.Table) {
				tables = append(tables, c.Table)
			}
		}
		if err := c.Capture(ctx, tables); err != nil {
			return err
		}
	}
	return i.Jobs.SignOnChange(ctx, records.OnChange{Platform: o.Platform, Policy: o.Policy, Configurations: o.Configurations,
		Quiet: o.Gather.Or(0), Interval: o.Look.Or(0)})
}

// Close ends what is open. Run has ended.
func (i *Instance) Close() error {
	var errs []error
	for n := len(i.closer) - 1; n >= 0; n-- {
		errs = append(errs, i.closer[n]())
	}
	return errors.Join(errs...)
}

// every calls f at once and then every d, until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(max(d, time.Second))
	defer t.Stop()
	for {
		f()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Now is the instance's clock.
func (i *Instance) Now() time.Time { return i.c.Clock() }

// Rand is where the names of things come from.
func (i *Instance) Rand() io.Reader { return rand.Reader }
