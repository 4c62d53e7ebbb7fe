package ecc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Everybody, as the agent of a job, means a copy of it for each valid agent.
const Everybody = "*"

// Job is what somebody wants done.
type Job struct {
	ID         string // 32 hexadecimal digits; empty: a random one. The same ID again is the same job
	Agent      string // a name, or Everybody; or
	Cluster    string // a name
	Topic      string
	Name       string // for people; at most 120 characters
	Source     string // who asks
	Correlator string // the caller's own reference
	Priority   order.Priority
	Records    []Ask
	Params     map[string]string
	Repeatable bool      // running it twice does no harm: it goes to another agent when one dies over it
	Expires    time.Time // not begun later; zero: never
}

// payload is a job's payload in the queue.
type payload struct {
	Records []Ask             `cbor:"1,keyasint"`
	Params  map[string]string `cbor:"2,keyasint"`
}

// Asked is what a job in the queue is about.
func Asked(r *store.QueueRecord) ([]Ask, map[string]string, error) {
	var p payload
	if err := format.Decode(r.Payload, &p); err != nil {
		return nil, nil, fmt.Errorf("ecc: payload: %w", err)
	}
	return p.Records, p.Params, nil
}

func (s *Service) random(n int) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.cfg.Random, b); err != nil {
		return "", fmt.Errorf("ecc: random: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// MaxSubmit is how many jobs one call submits.
const MaxSubmit = 10000

// Submit takes jobs in, all or none, and returns their IDs: of one for Everybody the
// ID that its copies have as their parent. What is there already is left alone.
func (s *Service) Submit(ctx context.Context, jobs ...Job) ([]string, error) {
	if len(jobs) == 0 || len(jobs) > MaxSubmit {
		return nil, malformed("want 1 to %d jobs", MaxSubmit)
	}
	now := s.now()
	var rows []store.QueueRecord
	ids := make([]string, len(jobs))
	for i := range jobs {
		j := &jobs[i]
		if j.ID == "" {
			var err error
			if j.ID, err = s.random(16); err != nil {
				return nil, err
			}
		}
		ids[i] = j.ID
		row, err := s.row(j, now)
		if err != nil {
			return nil, err
		}
		if j.Agent != Everybody {
			rows = append(rows, *row)
			continue
		}
		agents, err := s.cfg.Store.Agents(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range agents {
			if a.State != store.AgentValid {
				continue
			}
			c := *row
			c.Parent, c.Agent, c.ID = j.ID, a.Name, CopyID(j.ID, a.Name)
			rows = append(rows, c)
		}
	}
	if len(rows) == 0 {
		return ids, nil
	}
	added, err := s.cfg.Store.SubmitWork(ctx, rows)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i, r := range rows {
		if !added[i] {
			continue
		}
		s.Metrics.Submitted.Add(1)
		t := "a:" + r.Agent
		if r.Cluster != "" {
			t = "c:" + r.Cluster
		}
		if !seen[t] {
			seen[t] = true
			s.hub.wake(t)
		}
	}
	return ids, nil
}

// CopyID is the ID of an agent's copy of a job for Everybody.
func CopyID(parent, agent string) string {
	sum := sha256.Sum256([]byte("greatseal copy v1\x00" + parent + "\x00" + agent))
	return hex.EncodeToString(sum[:16])
}

// row checks a job as its orders will be checked.
func (s *Service) row(j *Job, now time.Time) (*store.QueueRecord, error) {
	if (j.Agent == "") == (j.Cluster == "") {
		return nil, malformed("want an agent or a cluster, not both")
	}
	if !j.Expires.IsZero() && !j.Expires.After(now) {
		return nil, malformed("the job has expired already")
	}
	probe := order.Order{Version: order.Version, ID: j.ID, Attempt: 1, Instance: s.cfg.Instance, Agent: "agent", Cluster: j.Cluster, Topic: j.Topic, Name: j.Name,
		Priority: j.Priority, Params: j.Params, IssuedAt: 1, Expires: 2, Nonce: make([]byte, order.NonceSize)}
	if j.Agent != Everybody && j.Agent != "" {
		probe.Agent = j.Agent
	}
	for _, a := range j.Records {
		probe.Records = append(probe.Records, order.Record{Ref: a.Ref, Purpose: a.Purpose})
	}
	if _, err := probe.Encode(); err != nil {
		return nil, err
	}
	for what, v := range map[string]string{"source": j.Source, "correlator": j.Correlator} {
		if len(v) > 256 {
			return nil, malformed("%s: want at most 256 bytes", what)
		}
	}
	b, err := format.Encode(payload{j.Records, j.Params})
	if err != nil {
		return nil, fmt.Errorf("ecc: payload: %w", err)
	}
	return &store.QueueRecord{ID: j.ID, Agent: j.Agent, AgentCorrelator: j.Correlator, Topic: j.Topic, Name: j.Name, Source: j.Source, Priority: j.Priority,
		Payload: b, Created: now, Cluster: j.Cluster, Repeatable: j.Repeatable, Expires: j.Expires}, nil
}

// Lease names one attempt of one job as its agent knows it.
type Lease struct {
	Job     string
	Attempt uint64
	Token   string
}

func (p *Peer) lease(l Lease) (store.QueueLease, error) {
	if !order.ValidID(l.Job) || !order.ValidID(l.Token) || l.Attempt == 0 || l.Attempt >= 1<<62 {
		return store.QueueLease{}, malformed("want a job, an attempt and a token as they were handed out")
	}
	return store.QueueLease{Job: l.Job, Agent: p.agent.Name, Attempt: l.Attempt, Token: l.Token}, nil
}

// Work is one job handed out.
type Work struct {
	Lease    Lease
	Until    time.Time // by when it is to be begun
	Topic    string
	Priority order.Priority
	Delivery order.Delivery
}

// Want says what an agent has room for.
type Want struct {
	Topics []string
	Max    int
	Only   *order.Priority // jobs of that priority alone; nil: of any
	Wait   time.Duration   // for the first job
}

// Next hands out jobs to an agent, and waits when there are none.
func (s *Service) Next(ctx context.Context, p *Peer, w Want) ([]Work, error) {
	if len(w.Topics) == 0 || len(w.Topics) > 64 {
		return nil, malformed("want 1 to 64 topics")
	}
	for _, t := range w.Topics {
		if !order.ValidTopic(t) {
			return nil, malformed("want topics of letters and digits")
		}
	}
	if w.Only != nil && *w.Only > order.Standard {
		return nil, malformed("want one of the priorities")
	}
	w.Max = min(max(w.Max, 1), s.cfg.Limits.Lease)
	if now := s.now(); p.agent.Heartbeat.Before(now.Add(-s.cfg.Times.Down / 4)) {
		if err := s.cfg.Store.TouchAgent(ctx, p.agent.Name, now); err != nil {
			return nil, err
		}
		p.agent.Heartbeat = now
	}
	member, _, err := s.clustersOf(ctx, p.agent.Name)
	if err != nil {
		return nil, err
	}
	woken, done := s.hub.wait(targetsOf(p.agent.Name, member))
	defer done()
	deadline := time.NewTimer(w.Wait)
	defer deadline.Stop()
	for {
		out, err := s.take(ctx, p, w)
		if err != nil || len(out) > 0 || w.Wait <= 0 {
			return out, err
		}
		select {
		case <-woken:
		case <-deadline.C:
			return nil, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// Await waits until there may be work for an agent, or d has passed.
func (s *Service) Await(ctx context.Context, p *Peer, d time.Duration) (bool, error) {
	member, _, err := s.clustersOf(ctx, p.agent.Name)
	if err != nil {
		return false, err
	}
	woken, done := s.hub.wait(targetsOf(p.agent.Name, member))
	defer done()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-woken:
		return true, nil
	case <-t.C:
	case <-ctx.Done():
	}
	return false, nil
}

func targetsOf(agent string, clusters []string) []string {
	out := []string{"a:" + agent}
	for _, c := range clusters {
		out = append(out, "c:"+c)
	}
	return out
}

func (s *Service) take(ctx context.Context, p *Peer, w Want) ([]Work, error) {
	_, clusters, err := s.clustersOf(ctx, p.agent.Name)
	if err != nil {
		return nil, err
	}
	token, err := s.random(16)
	if err != nil {
		return nil, err
	}
	now := s.now()
	rows, err := s.leases.do(ctx, store.QueueAsk{Agent: p.agent.Name, Clusters: clusters, Topics: w.Topics, Max: w.Max, Only: w.Only, Token: token, Now: now, Until: now.Add(s.cfg.Times.Begin)})
	if err != nil {
		return nil, err
	}
	var out []Work
	for i := range rows {
		x, err := s.hand(ctx, p, &rows[i])
		if err == nil {
			out = append(out, *x)
			s.Metrics.Leased.Add(1)
			continue
		}
		if ctx.Err() != nil {
			break // the leases end by themselves
		}
		r := rejection.Of(err)
		if r == nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, ErrMalformed) {
			s.log.Warn("a job could not be handed out, and is tried again", "job", rows[i].ID, "error", err)
			continue
		}
		cause := "RECORD_MISSING"
		if r != nil {
			cause = string(r.Code)
		} else if errors.Is(err, ErrMalformed) {
			cause = "PAYLOAD_MALFORMED"
		}
		s.log.Warn("a job cannot be handed out", "job", rows[i].ID, "code", cause)
		s.Metrics.Undeliverable.Add(1)
		if r != nil {
			// What the instance does not let out is refused as loudly as what an agent
			// refuses: it is kept, logged for good, and told.
			err := s.Reject(ctx, p, Lease{Job: rows[i].ID, Attempt: rows[i].Attempt, Token: rows[i].Token}, r)
			if err == nil {
				continue
			}
			s.complain(ctx, "reject", err)
		}
		l := store.QueueLease{Job: rows[i].ID, Agent: p.agent.Name, Attempt: rows[i].Attempt, Token: rows[i].Token}
		if err := s.cfg.Store.FailWork(ctx, l, cause, s.now()); err != nil && !errors.Is(err, store.ErrLost) {
			s.complain(ctx, "fail", err)
		}
	}
	return out, nil
}

// hand makes the order of a job, with what it is about.
func (s *Service) hand(ctx context.Context, p *Peer, r *store.QueueRecord) (*Work, error) {
	asked, params, err := Asked(r)
	if err != nil {
		return nil, malformed("%v", err)
	}
	items, err := s.cfg.Source.Records(ctx, asked)
	if err != nil {
		return nil, err
	}
	if len(items) < len(asked) {
		return nil, fmt.Errorf("ecc: %d records for %d: %w", len(items), len(asked), store.ErrNotFound)
	}
	now := s.now()
	o := &order.Order{Version: order.Version, ID: r.ID, Attempt: r.Attempt, Repeatable: r.Repeatable, Instance: s.cfg.Instance, Agent: p.agent.Name, Cluster: r.Cluster,
		Topic: r.Topic, Name: r.Name, Priority: r.Priority, Params: params, IssuedAt: now.Unix(), Expires: now.Add(s.cfg.Times.Order).Unix(), Nonce: make([]byte, order.NonceSize)}
	if !r.Expires.IsZero() && r.Expires.Unix() < o.Expires {
		o.Expires = max(r.Expires.Unix(), o.IssuedAt+1)
	}
	if _, err := io.ReadFull(s.cfg.Random, o.Nonce); err != nil {
		return nil, fmt.Errorf("ecc: random: %w", err)
	}
	for i, a := range asked {
		if items[i].Ref.Table != a.Ref.Table || !slices.Equal(items[i].Ref.Key, a.Ref.Key) {
			return nil, rejection.New(rejection.RecordMismatch, a.Ref.Table, "another record was found")
		}
		sum, err := order.Content(items[i].Record())
		if err != nil {
			return nil, err
		}
		o.Records = append(o.Records, order.Record{Ref: a.Ref, Purpose: a.Purpose, Digest: sum})
	}
	signed, err := order.Sign(o, s.cfg.Runtime)
	if err != nil {
		return nil, err
	}
	b, err := signed.Encode()
	if err != nil {
		return nil, err
	}
	w := &Work{Lease: Lease{Job: r.ID, Attempt: r.Attempt, Token: r.Token}, Until: r.LeaseUntil, Topic: r.Topic, Priority: r.Priority, Delivery: order.Delivery{Order: b, Records: items}}
	if _, err := w.Delivery.Encode(); err != nil { // what an agent would refuse is not sent
		return nil, err
	}
	return w, nil
}

// Start says durably that a job begins. Without it an agent begins nothing; again
// under the same lease it changes nothing. ErrLost: the job is not this agent's, or
// its time to begin is over, or it is to be cancelled.
func (s *Service) Start(ctx context.Context, p *Peer, l Lease) (until time.Time, err error) {
	q, err := p.lease(l)
	if err != nil {
		return until, err
	}
	lost, err := s.starts.do(ctx, q)
	if err = errors.Join(err, mapped(lost)); err != nil {
		return until, err
	}
	s.Metrics.Started.Add(1)
	return s.now().Add(s.cfg.Times.Run), nil
}

type prolonged struct {
	cancel bool
	err    error
}

// Progress prolongs the lease of a job that has begun; cancel says that it is to
// stop.
func (s *Service) Progress(ctx context.Context, p *Peer, l Lease) (until time.Time, cancel bool, err error) {
	q, err := p.lease(l)
	if err != nil {
		return until, false, err
	}
	a, err := s.prolongs.do(ctx, q)
	if err = errors.Join(err, mapped(a.err)); err != nil {
		return until, false, err
	}
	return s.now().Add(s.cfg.Times.Run), a.cancel, nil
}

// Page takes one page of a result. Pages come in their order, from 0.
func (s *Service) Page(ctx context.Context, p *Peer, l Lease, number int64, contentType string, body []byte) error {
	q, err := p.lease(l)
	if err != nil {
		return err
	}
	if int64(len(body)) > s.cfg.Limits.Page {
		return ErrTooLarge
	}
	if number < 0 || number > 1<<31 || !plainType(contentType) {
		return malformed("want a page's number and its media type")
	}
	bad, err := s.pages.do(ctx, store.QueuePage{QueueLease: q, ID: store.PageID(q.Job, q.Attempt, number), Number: number, Type: contentType, Body: body, Limit: s.cfg.Limits.Result, Now: s.now()})
	if err = errors.Join(err, mapped(bad)); err == nil {
		s.Metrics.Pages.Add(1)
	}
	return err
}

func plainType(s string) bool {
	return len(s) > 0 && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

// Outcome is how a job ended that was begun.
type Outcome struct {
	Error string // empty: it succeeded; one line, names and no values
	Pages int64  // that were brought
	Facts []byte // small JSON about the run: at most 4 KiB
}

// Finish ends a job. Again with the same outcome it changes nothing.
func (s *Service) Finish(ctx context.Context, p *Peer, l Lease, o Outcome) error {
	q, err := p.lease(l)
	if err != nil {
		return err
	}
	if len(o.Facts) > 4096 {
		return ErrTooLarge
	}
	if o.Pages < 0 || o.Pages > 1<<31 {
		return malformed("want the number of pages")
	}
	if o.Error != "" {
		// The text goes into lists and logs: one line, whatever was hostile.
		o.Error = rejection.New(rejection.PayloadMalformed, "", o.Error).Detail
	}
	end := store.QueueFinish{QueueLease: q, Error: o.Error, Pages: o.Pages, Outcome: o.Facts, Now: s.now()}
	a, err := s.ends.do(ctx, finish{end})
	if err = errors.Join(err, mapped(a.err)); err == nil {
		s.Metrics.Finished.Add(1)
	}
	return err
}

type finish struct{ store.QueueFinish }

type finished struct{ err error }

func (s *Service) groups() {
	st := s.cfg.Store
	s.leases = newGroup(st.LeaseWork)
	s.starts = newGroup(func(ctx context.Context, l []store.QueueLease) ([]error, error) {
		now := s.now()
		return st.StartWork(ctx, l, now, now.Add(s.cfg.Times.Run))
	})
	s.prolongs = newGroup(func(ctx context.Context, l []store.QueueLease) ([]prolonged, error) {
		now := s.now()
		cancel, errs, err := st.ProlongWork(ctx, l, now, now.Add(s.cfg.Times.Run))
		out := make([]prolonged, len(cancel))
		for i := range out {
			out[i] = prolonged{cancel[i], errs[i]}
		}
		return out, err
	})
	s.pages = newGroup(st.PutPages)
	s.ends = newGroup(func(ctx context.Context, l []finish) ([]finished, error) {
		qs := make([]store.QueueFinish, len(l))
		for i := range l {
			qs[i] = l[i].QueueFinish
		}
		errs, err := st.FinishWork(ctx, qs)
		out := make([]finished, len(errs))
		for i := range errs {
			out[i] = finished{errs[i]}
		}
		return out, err
	})
	s.beats = newGroup(func(ctx context.Context, l []store.AgentBeat) ([]struct{}, error) {
		return make([]struct{}, len(l)), st.Beat(ctx, l)
	})
}

// Attachment opens an attachment of a record that a job of this agent is about. It
// need not have begun.
func (s *Service) Attachment(ctx context.Context, p *Peer, l Lease, ref record.Ref, a record.Attachment) (io.ReadCloser, error) {
	q, err := p.lease(l)
	if err != nil {
		return nil, err
	}
	r, err := s.cfg.Store.QueueRecord(ctx, q.Job)
	if err != nil {
		return nil, err
	}
	if r.Agent != q.Agent || r.Attempt != q.Attempt || r.Token != q.Token || r.State != store.QueueProcessing {
		return nil, ErrLost
	}
	asked, _, err := Asked(r)
	if err != nil {
		return nil, err
	}
	items, err := s.cfg.Source.Records(ctx, asked)
	if err != nil {
		return nil, err
	}
	for i := range items {
		if items[i].Ref.Table == ref.Table && slices.Equal(items[i].Ref.Key, ref.Key) {
			for _, x := range items[i].Attachments {
				if x.Name == a.Name && x.SHA256 == a.SHA256 {
					return s.cfg.Source.Attachment(ctx, ref, x)
				}
			}
		}
	}
	return nil, store.ErrNotFound
}

// Job returns one job.
func (s *Service) Job(ctx context.Context, id string) (*store.QueueRecord, error) {
	if !order.ValidID(id) {
		return nil, store.ErrNotFound
	}
	r, err := s.cfg.Store.QueueRecord(ctx, id)
	if err == nil && r.Queue != store.QueueOutput {
		err = store.ErrNotFound
	}
	return r, err
}

// Jobs lists jobs, newest first.
func (s *Service) Jobs(ctx context.Context, f store.QueueFilter) ([]store.QueueRecord, error) {
	f.Queue = store.QueueOutput
	return s.cfg.Store.QueueRecords(ctx, f)
}

// Results are pages of a job that has ended, from a number on.
func (s *Service) Results(ctx context.Context, job string, from int64, limit int) ([]store.QueueRecord, error) {
	if !order.ValidID(job) {
		return nil, store.ErrNotFound
	}
	return s.cfg.Store.ResultPages(ctx, job, from, limit)
}

// Taken says that a page of a result was dealt with; cause is empty when it went
// well. store.ErrConflict: it was so already.
func (s *Service) Taken(ctx context.Context, page, cause string) error {
	return s.cfg.Store.TakePage(ctx, page, cause, s.now())
}

// Cancel ends a job that has not begun. One that has is asked to stop, and ends by
// its agent's word.
func (s *Service) Cancel(ctx context.Context, id string) (*store.QueueRecord, error) {
	if !order.ValidID(id) {
		return nil, store.ErrNotFound
	}
	return s.cfg.Store.CancelWork(ctx, id, s.now())
}
