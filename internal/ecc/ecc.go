// Package ecc is the external communication channel of a protected instance: the
// queue of jobs for agents, the agents themselves, and what comes back from them.
// Everything is in the server's database, so that several replicas serve the same
// agents and any of them may be killed.
//
// Invariants:
//
//  1. A job that is not repeatable is begun once at the most, ever, and never
//     forgotten: it ends as processed or in error, with the reason. Begun is what
//     the database says is begun ([Service.Start]), under the token of the lease
//     that is in force; agents begin nothing before.
//  2. A job moves from agent to agent only before it is begun, or when it may be
//     repeated; each time with the next attempt, always under the same ID. A
//     Command never moves.
//  3. A result counts once, from the attempt that was begun.
//  4. An order is made when a job is handed out, for the agent that gets it, and
//     lives for minutes.
//  5. Only [Service.Peer] makes a [Peer]: a certificate of this instance's
//     authority, whose key is that of a valid agent now. An agent that is
//     invalidated can do nothing from then on, at any replica.
//  6. Nobody is an agent before an administrator has compared the fingerprint of
//     his key.
//  7. A rejection holds names, never values; it is kept with its log entry and its
//     messages in one transaction.
//
// What a caller may not conclude: that a job did what it should, or that a result
// is true. That is the agent's word.
package ecc

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
)

// What callers branch on, besides *rejection.Error and the errors of package store
// (ErrNotFound, ErrExists, ErrBusy, ErrConflict).
var (
	ErrLost         = errors.New("ecc: the lease is another's, or over")
	ErrPage         = errors.New("ecc: another page has this number, or one before it is missing")
	ErrTooLarge     = errors.New("ecc: larger than allowed")
	ErrMalformed    = errors.New("ecc: malformed")
	ErrNotValidated = errors.New("ecc: no administrator has validated this agent yet")
	ErrInvalidated  = errors.New("ecc: the agent is not valid, or its key is not the agent's any more")
	ErrTooMany      = errors.New("ecc: too many enrolments wait")
)

// Store is the database.
type Store interface {
	store.Queue
	Secret(ctx context.Context, name string, fresh []byte) ([]byte, error)
	notices.Jobs
	Done(ctx context.Context, id int64) error
	Retry(ctx context.Context, id int64, at time.Time, cause string) error
}

// Source gives what a job is about.
type Source interface {
	// Records returns the records that are asked for, in this order, each with its
	// signatures, and after them those that they depend on. An error that is
	// store.ErrNotFound, or a *rejection.Error, ends the job; after another one it is
	// handed out again later.
	Records(ctx context.Context, asked []Ask) ([]order.Item, error)
	// Attachment opens an attachment of a record.
	Attachment(ctx context.Context, ref record.Ref, a record.Attachment) (io.ReadCloser, error)
}

// Circles gives the bundles of the circle of trust, encoded, one for each trusted
// side, and the digest by which agents tell that theirs is older ("" when unknown).
type Circles interface {
	Bundles(ctx context.Context) (bundles [][]byte, digest string, err error)
}

// Ask names a record that a job needs, and for what it must be signed.
type Ask struct {
	Ref     record.Ref `cbor:"1,keyasint" json:"ref"`
	Purpose string     `cbor:"2,keyasint" json:"purpose"`
}

// Sender delivers webhooks: *notify.Sender.
type Sender interface {
	Send(ctx context.Context, w notify.Webhook, id string, at time.Time, body []byte) error
}

// Times are how long things take; zero members mean the defaults.
type Times struct {
	Order       time.Duration // life of an order; order.DefaultLife
	Begin       time.Duration // from handing out to the beginning; 2 min, at most Order
	Run         time.Duration // a lease of a job that runs, prolonged by its agent; 10 min
	Heartbeat   time.Duration // between heartbeats; 5 min
	Down        time.Duration // without one an agent is down; 2.5 heartbeats
	Sweep       time.Duration // between looks for leases that are over; 2 s
	Poll        time.Duration // between looks for work that nobody has told of; 2 s
	Certificate time.Duration // life of an agent's certificate; 30 days
	Enrolment   time.Duration // how long an enrolment waits; 7 days
	Keep        time.Duration // how long ended jobs are kept; 30 days
}

// Limits bound what agents may bring; zero members mean the defaults.
type Limits struct {
	Page     int64  // bytes of one page; 1 MiB
	Result   int64  // bytes of one result; 64 MiB
	Attempts uint64 // of handing out one job; 20
	Lease    int    // jobs handed out at once; 64
	Waiting  int64  // enrolments; 1000
	PerName  int64  // enrolments of one name; 8
}

// Config is what a Service is made of.
type Config struct {
	Store     Store
	Source    Source
	Circles   Circles // nil: there are none
	Instance  string
	Runtime   crypto.Signer // Ed25519: signs orders
	Authority *Authority    // certifies agents
	Clock     func() time.Time
	Random    io.Reader    // nil: crypto/rand
	Logger    *slog.Logger // nil: none
	Webhooks  []notify.Webhook
	Sender    Sender // nil with no Webhooks
	Notices   bool   // operators are told of rejections, by whoever runs the notices of Store
	Times     Times
	Limits    Limits
}

func def[T int | int64 | uint64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func (c *Config) fill() error {
	if c.Store == nil || c.Source == nil || c.Clock == nil || c.Authority == nil || c.Runtime == nil {
		return errors.New("ecc: a store, a source of records, a clock, a runtime key and an authority are wanted")
	}
	if _, ok := c.Runtime.Public().(ed25519.PublicKey); !ok {
		return errors.New("ecc: the runtime key is to be an Ed25519 key")
	}
	if !order.ValidInstance(c.Instance) {
		return errors.New("ecc: the instance wants a name")
	}
	if len(c.Webhooks) > 0 && c.Sender == nil {
		return errors.New("ecc: webhooks want a sender")
	}
	for _, w := range c.Webhooks {
		if err := w.Check(); err != nil {
			return err
		}
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	t := &c.Times
	def(&t.Order, order.DefaultLife)
	t.Order = min(max(t.Order, time.Second), order.MaxLife)
	def(&t.Begin, 2*time.Minute)
	t.Begin = min(t.Begin, t.Order)
	def(&t.Run, 10*time.Minute)
	def(&t.Heartbeat, 5*time.Minute)
	def(&t.Down, t.Heartbeat*5/2)
	def(&t.Sweep, 2*time.Second)
	def(&t.Poll, 2*time.Second)
	def(&t.Certificate, 30*24*time.Hour)
	def(&t.Enrolment, 7*24*time.Hour)
	def(&t.Keep, 30*24*time.Hour)
	l := &c.Limits
	def(&l.Page, 1<<20)
	def(&l.Result, 64<<20)
	def(&l.Attempts, 20)
	def(&l.Lease, 64)
	def(&l.Waiting, 1000)
	def(&l.PerName, 8)
	return nil
}

// Service is one replica. It is safe for concurrent use.
type Service struct {
	cfg   Config
	log   *slog.Logger
	hub   hub
	certs known
	plan  plan

	leases   *group[store.QueueAsk, []store.QueueRecord]
	starts   *group[store.QueueLease, error]
	prolongs *group[store.QueueLease, prolonged]
	pages    *group[store.QueuePage, error]
	ends     *group[finish, finished]
	beats    *group[store.AgentBeat, struct{}]

	Metrics Metrics
}

// New makes a service. It works when Run runs.
func New(cfg Config) (*Service, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, log: cfg.Logger}
	s.groups()
	return s, nil
}

// Instance is the name of the instance.
func (s *Service) Instance() string { return s.cfg.Instance }

// Times are the times in force.
func (s *Service) Times() Times { return s.cfg.Times }

// Limits are the limits in force.
func (s *Service) Limits() Limits { return s.cfg.Limits }

// Authority certifies the agents.
func (s *Service) Authority() *Authority { return s.cfg.Authority }

func (s *Service) now() time.Time { return s.cfg.Clock() }

// Run looks after the queue until ctx ends: leases that are over, work that other
// replicas have taken in, messages. A replica that does not run serves too, and
// depends on the others for that.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(ctx) })
	wg.Go(func() { every(ctx, s.cfg.Times.Poll, s.poll) })
	wg.Go(func() { every(ctx, s.cfg.Times.Sweep, s.sweep) })
	if len(s.cfg.Webhooks) > 0 {
		wg.Go(func() { s.deliver(ctx) })
	}
	wg.Go(func() { every(ctx, time.Hour, s.forget) })
	wg.Wait()
	return ctx.Err()
}

func every(ctx context.Context, d time.Duration, f func(context.Context)) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		f(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// complain logs what will be tried again, unless it is the end.
func (s *Service) complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		s.log.Warn("the queue waits for its database", "what", what, "error", err)
	}
}

func (s *Service) sweep(ctx context.Context) {
	now := s.now()
	w, err := s.cfg.Store.SweepWork(ctx, now, now.Add(-s.cfg.Times.Down), s.cfg.Limits.Attempts)
	if err != nil {
		s.complain(ctx, "sweep", err)
		return
	}
	for _, id := range w.Lost {
		s.Metrics.Lost.Add(1)
		s.log.Warn("a job's agent was given up", "job", id)
	}
	s.Metrics.Expired.Add(int64(w.Expired))
	for _, t := range w.Moved {
		s.hub.wake(t)
	}
}

func (s *Service) forget(ctx context.Context) {
	now := s.now()
	s.complain(ctx, "forget enrolments", s.cfg.Store.ForgetEnrolments(ctx, now.Add(-s.cfg.Times.Enrolment)))
	const chunk = 1000
	for ctx.Err() == nil {
		n, err := s.cfg.Store.ForgetWork(ctx, now.Add(-s.cfg.Times.Keep), chunk)
		if err != nil {
			s.complain(ctx, "forget jobs", err)
		}
		if err != nil || n < chunk {
			return
		}
	}
}

// mapped gives errors of the store their name here.
func mapped(err error) error {
	switch {
	case errors.Is(err, store.ErrLost):
		return ErrLost
	case errors.Is(err, store.ErrPage):
		return ErrPage
	case errors.Is(err, store.ErrTooLarge):
		return ErrTooLarge
	}
	return err
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
