// Package server is the messenger between requesters, endorsers and the keeper.
// It keeps requests, collects endorsements, carries what is ready to the keeper,
// logs everything, tells people, and hands out results and evidence.
//
// Invariants:
//
//  1. Nothing is believed because this package says so: the keeper judges every
//     request again from the signed bytes.
//  2. Every state change and its log entry are one transaction.
//  3. Every step can be taken again: a server that dies at any point leaves work
//     that another one, or the same after a restart, completes. The keeper makes
//     sure that nothing is executed twice.
//  4. Receipts reach the log without a gap: those that were lost on the way are
//     fetched from the keeper.
//
// The package holds no key but the inspector's, if it runs one, and reads no
// artifact outside the inspector's worker process.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/blob"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// Config is what a Server is made of.
type Config struct {
	Store    store.Store
	Keeper   keeper.Keeper
	Formats  []format.Format
	Blobs    *blob.Folder // nil: uploads are refused
	Stamper  Stamper      // nil: no timestamps
	Webhooks []notify.Webhook
	Sender   *notify.Sender  // nil when there are no webhooks
	Notices  *notices.Engine // tells people and channels; nil: nobody
	Pin      statement.ID    // of charter version 1
	Clock    func() time.Time
	Logger   *slog.Logger
	Workers  int // executions with the keeper at a time; 0: 32

	// Cache is of verified signatures; nil: the server's own. A keeper in the same
	// process may share it (keeper.Config says why): then what the server has
	// verified is not verified again, and only that. A keeper in a process of its
	// own verifies everything itself.
	Cache *quorum.Cache
	// Ahead shows the keeper evidence as it grows, so that the last endorsement is
	// the only one that it has to verify when everybody has agreed: for a keeper
	// that does not share Cache.
	Ahead bool

	// Hook is called before and after each durable step, for tests that stop the
	// process there; nil: none. See [Steps].
	Hook func(step string)
}

// Steps lists the durable steps, in the order of a request's life: before and
// after its entry, an endorsement's, the keeper's answer, the keeping of it, the
// sequencing of the log, the keeper's checkpoint, its publication, and the end of
// a job and of a request whose time is over.
func Steps() []string {
	return []string{"submit", "submitted", "endorse", "endorsed", "execute", "executed", "keep", "kept",
		"sequence", "sequenced", "checkpoint", "checkpointed", "published", "job", "job.done", "expire", "expired"}
}

// Stamper obtains RFC 3161 tokens. Authority "self" is the deployment's own.
type Stamper interface {
	// Stamp returns a token over the SHA-256 of a signature value from the first
	// authority that gives one.
	Stamp(ctx context.Context, authorities []string, signature []byte) ([]byte, error)
}

// Server is one replica. It is safe for concurrent use.
type Server struct {
	cfg   Config
	log   *slog.Logger
	cache *quorum.Cache

	mu    sync.Mutex
	chain *quorum.Chain

	receipts atomic.Pointer[namedKey]

	flight  singleflight.Group
	workers chan struct{}
	bulk    chan struct{} // of requests of many items
	keeping chan struct{} // outcomes that wait for the database without a worker
	started sync.Map      // of statement.ID: executions in the background
	judged  uint64        // version of the charter that pending requests were judged under; of resume alone
	stuck   int           // where resume goes on; its own
	work    sync.WaitGroup
	closing atomic.Bool

	complete atomic.Uint64 // receipts up to this number are all in the store
	seen     atomic.Uint64 // the keeper's last number at the last look
	lacks    atomic.Int64  // receipts that could not be fetched at the last look

	recent   *recent
	watch    watchers
	ahead    chan quorum.Evidence
	sequence chan struct{} // kicks the sequencer
	messages chan struct{} // kicks the messages
	stamps   chan struct{} // kicks the timestamps

	rejected rejections

	Metrics Metrics
}

// Metrics are counters since the start.
type Metrics struct {
	Submitted, Attached, Endorsed, Rejected, Executed, Refused, Signatures, Timestamps, TimestampFailures, Notified, NotifyFailures, Sequenced atomic.Int64
}

// New connects a server to its keeper: it loads the charter chain, shows the
// keeper the newest receipt it knows, and fetches those that it lacks. A receipt that
// the keeper cannot give keeps nobody from starting: see [Server.Degraded].
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Store == nil || cfg.Keeper == nil || cfg.Clock == nil {
		return nil, errors.New("server: a store, a keeper and a clock are wanted")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Hook == nil {
		cfg.Hook = func(string) {}
	}
	if cfg.Cache == nil {
		cfg.Cache = quorum.NewCache(1 << 14)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 32
	}
	s := &Server{cfg: cfg, log: cfg.Logger, cache: cfg.Cache, ahead: make(chan quorum.Evidence, considered), workers: make(chan struct{}, cfg.Workers), bulk: make(chan struct{}, 2), keeping: make(chan struct{}, 8*cfg.Workers),
		sequence: make(chan struct{}, 1), messages: make(chan struct{}, 1), stamps: make(chan struct{}, 1)}
	s.recent = newRecent(maxRecent)
	s.watch.init()
	if err := s.Reload(ctx); err != nil {
		return nil, err
	}
	if err := s.reconcile(ctx, true); errors.As(err, new(*lacking)) && !errors.Is(err, keeper.ErrRollback) {
		s.log.Error("receipts are missing here: the server tries again, and does the rest meanwhile", "error", err)
	} else if err != nil {
		return nil, err
	}
	return s, nil
}

// Reload fetches the charter chain from the keeper and checks it against the pin.
func (s *Server) Reload(ctx context.Context) error {
	b, err := s.cfg.Keeper.Chain(ctx)
	if err != nil {
		return fmt.Errorf("server: charter chain: %w", err)
	}
	c, err := quorum.DecodeChain(&s.cfg.Pin, b)
	if err != nil {
		return fmt.Errorf("server: charter chain: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chain != nil && version(c) < version(s.chain) {
		return fmt.Errorf("server: the keeper's charter went back from version %d to %d", version(s.chain), version(c))
	}
	s.chain = c
	return nil
}

// Chain is the charter chain in force.
func (s *Server) Chain() *quorum.Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chain
}

// Charter is the charter in force.
func (s *Server) Charter() *charter.Charter {
	c, _ := s.Chain().Head()
	return c
}

func version(c *quorum.Chain) uint64 {
	_, ref := c.Head()
	return ref.Version
}

func (s *Server) now() time.Time { return s.cfg.Clock() }

// Run does the background work until ctx ends: sequencing the log, executing
// what was left behind, expiry, timestamps and notifications.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	loop := func(name string, every time.Duration, kick <-chan struct{}, f func(context.Context) error) {
		wg.Go(func() {
			t := time.NewTicker(every)
			defer t.Stop()
			for {
				if err := f(ctx); err != nil && ctx.Err() == nil {
					s.log.Error("background work", "loop", name, "error", err)
				}
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				case <-kick:
				}
			}
		})
	}
	loop("log", time.Second, s.sequence, s.integrateAndRest)
	loop("left behind", 3*time.Second, nil, s.resume)
	loop("expiry", 5*time.Second, nil, s.expire)
	loop("reminders", time.Second, nil, s.runReminders)
	webhooks := &notices.Lanes{Store: s.cfg.Store, Prefix: jobWebhook, Clock: s.now, Logger: s.log, Do: s.runJob, Kick: s.messages}
	wg.Go(func() { webhooks.Run(ctx) })
	if s.cfg.Notices != nil {
		wg.Go(func() { s.cfg.Notices.Run(ctx, s) })
	}
	loop("timestamps", time.Second, s.stamps, s.runTimestamps)
	loop("charter", 10*time.Second, nil, s.followCharter)
	loop("uploads", 30*time.Second, nil, s.sweep)
	loop("catalogue", 2*time.Second, nil, s.catalogue)
	wg.Go(func() { s.consider(ctx) })
	wg.Wait()
	s.closing.Store(true)
	s.work.Wait()
	return nil
}

// catalogued is how many files one round of catalogue enters.
const catalogued = 20_000

// catalogue enters what was signed into the catalogue that is searched.
func (s *Server) catalogue(ctx context.Context) error {
	_, err := s.cfg.Store.Enter(ctx, catalogued)
	return err
}

// followCharter notices a charter that another replica has replaced.
func (s *Server) followCharter(ctx context.Context) error {
	st, err := s.cfg.Keeper.Status(ctx)
	if err != nil {
		return err
	}
	if st.Charter.Version > s.Charter().Version {
		return s.Reload(ctx)
	}
	return nil
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Health says whether requests can be executed: nil, or why not.
func (s *Server) Health(ctx context.Context) error {
	if err := s.cfg.Store.Health(ctx); err != nil {
		return err
	}
	st, err := s.cfg.Keeper.Status(ctx)
	if err != nil {
		return err
	}
	if st.Stopped != "" {
		return fmt.Errorf("server: the keeper has stopped: %s", st.Stopped)
	}
	return nil
}

// Degraded says what is not as it should be while requests are executed all the
// same, for everybody to read; it is empty when all is well.
func (s *Server) Degraded() string {
	if n := s.lacks.Load(); n > 0 {
		return fmt.Sprintf("%d of the keeper's receipts are missing here and could not be fetched: their requests show no result, and the log lacks them", n)
	}
	return ""
}

// Lacking is how many of the keeper's receipts are missing here and could not be
// fetched.
func (s *Server) Lacking() int64 { return s.lacks.Load() }

// Status is the keeper's word on itself.
func (s *Server) Status(ctx context.Context) (*keeper.Status, error) { return s.cfg.Keeper.Status(ctx) }

// Timestamp answers an RFC 3161 request with the deployment's own authority.
func (s *Server) Timestamp(ctx context.Context, request []byte) ([]byte, error) {
	return s.cfg.Keeper.Timestamp(ctx, request)
}

func (s *Server) format(name string) format.Format {
	for _, f := range s.cfg.Formats {
		if f.Name() == name {
			return f
		}
	}
	return nil
}
