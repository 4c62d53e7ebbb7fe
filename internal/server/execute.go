package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

// leftBehind is how long an endorsed request may stand before another replica,
// or this one after a restart, takes it up.
const leftBehind = 5 * time.Second

// bulk is the number of items above which requests are executed few at a time:
// each has its items and signatures in memory.
const bulk = 1024

// few is the number of items up to which an outcome is small enough to wait for the
// database in numbers.
const few = 64

// start executes in the background, without waiting for the job loop. r is the
// request as its last change left it, or nil.
func (s *Server) start(id statement.ID, r *store.Request) {
	if s.closing.Load() {
		return
	}
	if _, busy := s.started.LoadOrStore(id, true); busy && r == nil {
		return // the one that waits does it
	}
	s.work.Go(func() {
		defer s.started.Delete(id)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if err := s.executeOnce(ctx, id, r); err != nil {
			s.log.Warn("execution is left to a later try", "request", id, "error", err)
		}
	})
}

// resumed is how many requests one round of resume takes up.
const resumed = 1000

// resume takes up requests that were endorsed and not executed. Those that wait
// for a time or an officer stay among them, so each round goes on where the last
// one ended. A receipt that is missing does not hold them up.
func (s *Server) resume(ctx context.Context) error {
	lacks := s.reconcile(ctx, false)
	if v := s.Charter().Version; v != s.judged {
		if err := s.judgeAgain(ctx); err != nil {
			return errors.Join(lacks, err)
		}
		s.judged = v
	}
	ids, err := s.cfg.Store.Stuck(ctx, s.now().Add(-leftBehind), s.stuck, resumed)
	if err != nil {
		return errors.Join(lacks, err)
	}
	if s.stuck += len(ids); len(ids) < resumed {
		s.stuck = 0
	}
	for _, id := range ids {
		s.start(id, nil)
	}
	return lacks
}

// judgeAgain takes up pending requests whose quorum is there under the charter in
// force: perhaps nobody is left to endorse them.
func (s *Server) judgeAgain(ctx context.Context) error {
	f := store.Filter{States: []store.State{store.Pending}, Limit: 1000}
	for {
		list, err := s.cfg.Store.Requests(ctx, f)
		if err != nil {
			return err
		}
		for _, r := range list {
			f.Before, f.BeforeID = r.Created, r.ID
			if r, err = s.cfg.Store.Request(ctx, r.ID); err != nil {
				return err
			}
			now := s.now()
			d, _ := s.Chain().Judge(evidenceOf(r), now, quorum.Options{Cache: s.cache})
			if r.State == store.Pending && !complete(d) {
				if err := s.tellUnreachable(ctx, r); err != nil {
					return err
				}
			}
			if r.State != store.Pending || !complete(d) {
				continue
			}
			c := &store.Change{Request: r.ID, Revision: r.Revision, State: store.Endorsed, Code: string(d.Code), Detail: d.Reason, Sent: d.State == quorum.Granted, At: now}
			if err := s.cfg.Store.Apply(ctx, c); errors.Is(err, store.ErrConflict) {
				continue // whoever changed it has judged it
			} else if err != nil {
				return err
			}
			s.changed(c)
			s.start(r.ID, r.After(c))
		}
		if len(list) < f.Limit {
			return nil
		}
	}
}

// complete reports whether everybody has agreed whose agreement is wanted: a time
// may be waited for.
func complete(d *quorum.Decision) bool {
	return d.State == quorum.Granted || d.Code == quorum.NotYet || d.Code == quorum.OutsideWindow
}

// Execute carries an endorsed request to the keeper and keeps the outcome. Doing
// it again, here or on another replica, is safe.
func (s *Server) Execute(ctx context.Context, id statement.ID) error {
	return s.executeOnce(ctx, id, nil)
}

// executeOnce executes a request unless somebody here is at it. r is nil, or the
// request as an own change has left it.
func (s *Server) executeOnce(ctx context.Context, id statement.ID, r *store.Request) error {
	own := r != nil && r.Sent
	ran := false
	once := func() (any, error) {
		ran = true
		if r == nil {
			var err error
			if r, err = s.cfg.Store.Request(ctx, id); err != nil {
				return nil, err
			}
		}
		// Only signing waits its turn: a key whose device hangs must not keep an
		// officer from suspending it.
		turn := func() {}
		if r.Command == statement.Sign {
			slots := s.workers
			if r.Count > bulk {
				slots = s.bulk
			}
			select {
			case slots <- struct{}{}:
				turn = sync.OnceFunc(func() { <-slots })
				defer turn()
			case <-ctx.Done():
				if own {
					return nil, errors.Join(ctx.Err(), s.release(ctx, r, keeper.ErrUnreached, true))
				}
				return nil, ctx.Err()
			}
		}
		return nil, s.execute(ctx, r, own, turn)
	}
	for {
		_, err, _ := s.flight.Do(id.String(), once)
		// Whoever was at it already may have left it to whom it was sent by.
		if ran || !own || ctx.Err() != nil {
			return err
		}
	}
}

// execute carries r to the keeper. It is sent before: own says that the change which
// completed it did so, and nobody else has taken it up yet. over ends its turn with
// the keeper: it is called when the outcome is there, unless too many others wait
// for the database with theirs.
func (s *Server) execute(ctx context.Context, r *store.Request, own bool, over func()) error {
	first := own
	if !own {
		if r.State != store.Endorsed || (r.Code != "" || r.Sent) && s.now().Before(r.Updated.Add(leftBehind)) {
			return nil // refused a moment ago for a reason that time alone cures, or just taken up
		}
		if s.idle(ctx, r) {
			return nil
		}
		c := &store.Change{Request: r.ID, Revision: r.Revision, Code: r.Code, Detail: r.Detail, Sent: true, At: s.now()}
		if err := s.cfg.Store.Apply(ctx, c); errors.Is(err, store.ErrConflict) {
			return nil // somebody was faster: to take it up, to withdraw it
		} else if err != nil {
			return err
		}
		s.recent.follow(c)
		first = !r.Sent
		r = r.After(c)
	}
	items := s.recent.items(r.ID)
	if items == nil {
		var err error
		if items, err = s.cfg.Store.Items(ctx, r.ID); err != nil {
			if first || s.now().Before(r.Expires) {
				return errors.Join(err, s.release(ctx, r, keeper.ErrUnreached, first))
			}
			// It was sent before, and what was sent is not to be had any more: only
			// the keeper can end it. To give its outcome, or to refuse it because its
			// time is over, the keeper needs no items.
			s.log.Error("the items of a request are lost: the keeper is asked without them", "request", r.ID, "error", err)
		}
	}
	s.cfg.Hook("execute")
	out, err := s.cfg.Keeper.Execute(ctx, &keeper.Order{Evidence: evidenceOf(r), Items: items})
	if err != nil {
		return errors.Join(fmt.Errorf("server: keeper: %w", err), s.release(ctx, r, err, first))
	}
	s.cfg.Hook("executed")
	if r.Count <= few {
		select {
		case s.keeping <- struct{}{}:
			defer func() { <-s.keeping }()
			over() // the keys do not wait for the database
		default:
		}
	}
	return s.keep(ctx, out, r)
}

// idle reports whether the keeper would only say again of r, which is not sent,
// what it has said: asking would keep others from withdrawing it for nothing.
func (s *Server) idle(ctx context.Context, r *store.Request) bool {
	if r.Sent {
		return false
	}
	switch r.Code {
	case string(quorum.NotYet), string(quorum.OutsideWindow):
		d, _ := s.Chain().Judge(evidenceOf(r), s.now(), quorum.Options{Cache: s.cache})
		return string(d.Code) == r.Code
	case keeper.ErrorCode(keeper.ErrMalformed):
		d, _ := s.Chain().Judge(evidenceOf(r), s.now(), quorum.Options{Cache: s.cache})
		return slices.Contains([]quorum.Code{quorum.Malformed, quorum.DeploymentMismatch, quorum.CharterUnknown, quorum.RequesterUnknown, quorum.RequesterSignature}, d.Code)
	case string(keeper.KeySuspended):
		st, err := s.cfg.Keeper.Status(ctx)
		if err != nil {
			return true
		}
		p, ok := s.Charter().Policies[r.Policy]
		if r.Command != statement.Sign || !ok {
			return false
		}
		// One of several keys is enough to keep all of them from signing.
		return slices.ContainsFunc(st.Keys, func(k keeper.KeyStatus) bool {
			return k.State == keeper.Suspended && slices.Contains(p.Keys(), k.Name)
		})
	}
	return false
}

// release gives back a request that the keeper has certainly not executed: it was
// not reached, or looked at its clock and did nothing, and nobody else has asked it
// since r was sent (first, and the revision); or it did not even judge it, whose
// requester is no longer in the charter, say, gives no receipt for that, and may
// think better of it under another charter. After any other error nothing is known.
func (s *Server) release(ctx context.Context, r *store.Request, why error, first bool) error {
	c := &store.Change{Request: r.ID, Revision: r.Revision, Code: r.Code, Detail: r.Detail, At: s.now()}
	switch {
	case errors.Is(why, keeper.ErrUnreached), errors.Is(why, keeper.ErrClock):
		if !first {
			return nil
		}
	case errors.Is(why, keeper.ErrMalformed), errors.Is(why, keeper.ErrLimit):
		c.Code, c.Detail = keeper.ErrorCode(why), why.Error()
	default:
		return nil
	}
	if err := s.cfg.Store.Apply(context.WithoutCancel(ctx), c); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return nil // somebody else has taken it up
		}
		return err
	}
	s.changed(c)
	return nil
}

// keep stores an outcome with all that follows from it, in one transaction. r is
// the request as it was executed, or nil; when it has moved on since, the change
// conflicts and the request is read. Only what was asked for last moves a request
// that is sent: an older refusal, fetched late, does not. Whether the receipt is there already is not
// looked at first either: the store says so.
func (s *Server) keep(ctx context.Context, out *keeper.Outcome, r *store.Request) error {
	key, err := s.receiptKey(s.Charter().Keeper.Receipts)
	if err != nil {
		return err
	}
	rc, _, err := s.cache.Receipt(key, out.Receipt)
	if err != nil {
		return fmt.Errorf("server: the keeper's answer: %w", err)
	}
	if rc.Charter.Version > version(s.Chain()) {
		// Another replica has replaced the charter that we would judge the refusal by.
		if err := s.Reload(ctx); err != nil {
			return err
		}
	}
	var sent int64 // the revision that the keeper was asked at
	if r != nil && r.Sent {
		sent = r.Revision
	}
	for range maxSteps {
		// The request before the receipt: if another replica keeps the receipt
		// between the two looks, the change made here is of an old revision.
		var known *store.Receipt
		if r == nil || r.ID != rc.Request {
			if r, err = s.cfg.Store.Request(ctx, rc.Request); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if known, err = s.cfg.Store.Receipt(ctx, rc.Number); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		if known != nil && !bytes.Equal(known.Envelope, out.Receipt) {
			// The keeper stops when the other one is its own too.
			return errors.Join(fmt.Errorf("server: the keeper's receipt %d is not the one that is kept here", rc.Number), s.cfg.Keeper.Observe(ctx, known.Envelope))
		}
		answered := r != nil && r.Sent && r.Revision == sent
		if known != nil && (r == nil || rc.Outcome == statement.Refused && !answered && (r.Sent || settledBy(rc, r)) || r.State == store.Executed) {
			return nil // kept before
		}
		now := s.now()
		c := &store.Change{At: now, First: known == nil, Receipt: &store.Receipt{Number: rc.Number, Request: rc.Request, Outcome: rc.Outcome, Time: rc.Time, Envelope: out.Receipt}}
		if known == nil {
			if err := s.enter(c, audit.KindReceipt, rc.Request, out.Receipt, now); err != nil {
				return err
			}
		}
		if r != nil { // a request that this database does not know still gets its receipt logged
			c.Request, c.Revision = r.ID, r.Revision
			if err := s.follow(ctx, c, r, rc, out, answered, now); err != nil {
				return err
			}
		}
		if rc.Next != nil {
			// Before anybody can see that it is in force.
			if err := s.Reload(ctx); err != nil {
				s.log.Error("the new charter could not be loaded", "error", err)
			}
		}
		s.cfg.Hook("keep")
		err = s.cfg.Store.Apply(ctx, c)
		if errors.Is(err, store.ErrConflict) {
			if r != nil {
				s.recent.forget(r.ID)
			}
			r = nil
			continue
		}
		if err != nil {
			return err
		}
		s.cfg.Hook("kept")
		s.count(rc)
		s.changed(c)
		return nil
	}
	return store.ErrConflict
}

// settledBy reports whether a refusal that is kept has had its effect on r. One
// that time does not cure and that left r endorsed is looked at again: it may have
// been judged here under a charter that was no longer in force.
func settledBy(rc *statement.Receipt, r *store.Request) bool {
	if !r.State.Open() {
		return true
	}
	return r.Code == rc.Code && (r.State != store.Endorsed || curable(rc.Code))
}

func (s *Server) count(rc *statement.Receipt) {
	if rc.Outcome == statement.Refused {
		s.Metrics.Refused.Add(1)
		return
	}
	s.Metrics.Executed.Add(1)
	if rc.Signed != nil {
		s.Metrics.Signatures.Add(int64(rc.Signed.Count))
	}
}

// follow sets what becomes of the request after its receipt. answered says that it
// is the answer to what r was sent with.
func (s *Server) follow(ctx context.Context, c *store.Change, r *store.Request, rc *statement.Receipt, out *keeper.Outcome, answered bool, now time.Time) error {
	if rc.Outcome == statement.Refused {
		c.Code, c.Detail = rc.Code, rc.Detail
		switch {
		case r.State != store.Endorsed, r.Sent && !answered:
			c.Code, c.Detail, c.Sent = r.Code, r.Detail, r.Sent // a refusal from before; the request has moved on
		case curable(rc.Code):
			c.State = store.Endorsed
		case rc.Code == string(quorum.QuorumPending):
			c.State = store.Pending // an endorser has gone since
			if d, _ := s.Chain().Judge(evidenceOf(r), now, quorum.Options{Cache: s.cache}); complete(d) {
				c.State = store.Endorsed // and has come back, or another charter did
			}
		case rc.Code == string(quorum.Vetoed):
			c.State = store.Disapproved
			s.tell(c, notify.Disapproved, r, rc.Detail)
		case rc.Code == string(quorum.Expired):
			c.State = store.Expired
			s.tell(c, notify.Expired, r, rc.Detail)
		default:
			c.State = store.Failed
			s.tell(c, notify.Failed, r, rc.Detail)
		}
		return nil
	}
	c.State = store.Executed
	data, err := format.Encode(out)
	if err != nil {
		return fmt.Errorf("server: outcome: %w", err)
	}
	c.Result = data
	if rc.Next != nil {
		if err := s.enter(c, audit.KindCharter, r.ID, r.Envelope, now); err != nil {
			return err
		}
	}
	if r.Policy != "" {
		if p, ok := s.Charter().Policies[r.Policy]; ok && len(p.Timestamp) > 0 && s.cfg.Stamper != nil {
			c.Jobs = append(c.Jobs, store.Job{Kind: jobTimestamp, Ref: r.ID.String(), RunAt: now})
		}
	}
	s.tell(c, notify.Executed, r, "")
	return nil
}

// curable are the keeper's refusals that pass by themselves, or when an officer
// acts; the request waits until it expires.
func curable(code string) bool {
	return slices.Contains([]string{string(quorum.NotYet), string(quorum.OutsideWindow), string(keeper.KeySuspended)}, code)
}

// lacking is the error of receipts that are missing here and could not be fetched or
// kept.
type lacking struct{ err error }

func (e *lacking) Error() string { return e.err.Error() }
func (e *lacking) Unwrap() error { return e.err }

// reconcile shows the keeper the newest receipt that is known here, and fetches
// the ones that are not.
func (s *Server) reconcile(ctx context.Context, starting bool) error {
	st, err := s.cfg.Keeper.Status(ctx)
	if err != nil {
		return fmt.Errorf("server: keeper: %w", err)
	}
	last, err := s.cfg.Store.LastReceipt(ctx)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	var have uint64
	if last != nil {
		have = last.Number
		// Also when the keeper has more: an older ledger that went on has other
		// receipts under the same numbers.
		err := s.cfg.Keeper.Observe(ctx, last.Envelope)
		if have <= st.Receipts && errors.Is(err, keeper.ErrStopped) {
			err = nil // its status says so; what there is can still be shown
		}
		if err != nil {
			return fmt.Errorf("server: the keeper's ledger ends at receipt %d, this database has %d: %w", st.Receipts, have, err)
		}
	}
	// Only what the keeper had at the last look: younger receipts are on their way.
	after, upTo := s.complete.Load(), s.seen.Swap(st.Receipts)
	if starting {
		upTo = st.Receipts
	}
	if upTo <= after {
		return nil
	}
	missing, err := s.cfg.Store.MissingReceipts(ctx, after, upTo, 1000)
	if err != nil {
		return err
	}
	if len(missing) == 0 {
		s.complete.Store(upTo)
	}
	kept := 0
	defer func() { s.lacks.Store(int64(len(missing) - kept)) }()
	var errs []error // each stands for itself; a keeper that is away fails few
	for _, n := range missing {
		if len(errs) >= 10 {
			break
		}
		outs, err := s.cfg.Keeper.Receipts(ctx, n, 1)
		if err != nil {
			errs = append(errs, fmt.Errorf("server: keeper: receipt %d: %w", n, err))
		}
		for _, out := range outs {
			if err := s.keep(ctx, out, nil); err != nil {
				errs = append(errs, fmt.Errorf("server: receipt %d: %w", n, err))
				continue
			}
			kept++
			s.log.Warn("a receipt that was missing here was fetched from the keeper", "number", n)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &lacking{errors.Join(errs...)}
}

// Outcome returns the kept outcome of an executed request.
func (s *Server) Outcome(ctx context.Context, id statement.ID) (*keeper.Outcome, *statement.Receipt, error) {
	b, err := s.cfg.Store.Result(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		r, err := s.cfg.Store.Request(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		return nil, nil, problem(409, "not-executed", "greatseal request show "+id.String()[:12], "request %s is %s: it has no result", id.String()[:12], r.State)
	}
	if err != nil {
		return nil, nil, err
	}
	var out keeper.Outcome
	if err := format.Decode(b, &out); err != nil {
		return nil, nil, fmt.Errorf("server: outcome of %s: %w", id, err)
	}
	env, err := statement.DecodeEnvelope(out.Receipt)
	if err != nil {
		return nil, nil, fmt.Errorf("server: outcome of %s: %w", id, err)
	}
	rc, err := statement.Decode[statement.Receipt](env.Payload)
	if err != nil {
		return nil, nil, fmt.Errorf("server: outcome of %s: %w", id, err)
	}
	if !bytes.Equal(rc.Request[:], id[:]) {
		return nil, nil, fmt.Errorf("server: outcome of %s is another request's", id)
	}
	return &out, &rc, nil
}

// namedKey is a keeper's key as its charter writes it, and as it was read.
type namedKey struct {
	text string
	key  *receipt.Key
}

// receiptKey reads the keeper's key once for each form of it.
func (s *Server) receiptKey(text string) (*receipt.Key, error) {
	if k := s.receipts.Load(); k != nil && k.text == text {
		return k.key, nil
	}
	pub, err := receipt.ParseKey(text)
	if err != nil {
		return nil, err
	}
	key, err := receipt.NewKey(pub)
	if err != nil {
		return nil, err
	}
	s.receipts.Store(&namedKey{text, key})
	return key, nil
}
