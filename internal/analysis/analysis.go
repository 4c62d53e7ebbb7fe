// Package analysis counts what a deployment's log tells: signatures by policy, key
// and format, how long quora take, who endorses how much and how quickly, what was
// refused and why.
//
// Invariants (tests name them):
//
//  1. The numbers are those of the log's first entries, each counted once, however
//     many replicas count, whenever one of them is killed.
//  2. Counting in steps, or all at once from the beginning, gives the same.
//  3. Numbers only add up: nothing depends on the order in which entries that belong
//     to different requests stand.
//
// Times are the server's: from the entry of a request to the arrival of the last
// endorsement that its receipt counts. Distributions are kept in steps of an eighth of a doubling;
// a median is right to within five in a hundred.
//
// What a caller may not conclude: that the numbers prove anything. They stand in a
// database; whoever wants proof counts the log himself ("greatseal log export").
package analysis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Kind is what is counted.
type Kind string

// The kinds. Name and Other of a tally are what stands in brackets.
const (
	Signatures  Kind = "signatures"  // files signed [policy]
	ByKey       Kind = "key"         // signatures made [key]
	ByFormat    Kind = "format"      // files signed [format]
	Requests    Kind = "requests"    // requests entered [requester]
	Executed    Kind = "executed"    // requests executed [policy or command]
	Refused     Kind = "refused"     // refusals of the keeper [reason code, policy or command]
	Disapproved Kind = "disapproved" // disapprovals [endorser, policy or command]
	Endorsed    Kind = "endorsed"    // endorsements [endorser]
	Expired     Kind = "expired"     // requests out of time [policy or command]
	Cancelled   Kind = "cancelled"   // requests withdrawn [policy or command]
	Rejected    Kind = "rejected"    // endorsements that the server refused []
	Unread      Kind = "unread"      // entries that say nothing [kind of entry]
	Quorum      Kind = "quorum"      // seconds from entry to quorum [policy or command]; by week, in buckets
	Pace        Kind = "pace"        // seconds from entry to an endorsement [endorser]; by week, in buckets
)

// Kinds lists every kind.
func Kinds() []Kind {
	return []Kind{Signatures, ByKey, ByFormat, Requests, Executed, Refused, Disapproved, Endorsed, Expired, Cancelled, Rejected, Unread, Quorum, Pace}
}

// Store is what an Analysis needs of a store.
type Store interface {
	store.Tallier
	Head(ctx context.Context) (*store.Head, error)
	ReadBundle(ctx context.Context, index int64, width int) ([]byte, error)
	Body(ctx context.Context, sum [32]byte) ([]byte, error)
}

// Analysis has the tallies of one database in memory. It is safe for concurrent use.
type Analysis struct {
	store Store

	counting sync.Mutex // one caller of this process counts at a time
	mu       sync.RWMutex
	head     int64 // entries that are counted
	have     map[Kind]*table
}

// New makes an Analysis. It knows nothing before its first Refresh.
func New(s Store) *Analysis { return &Analysis{store: s, have: map[Kind]*table{}} }

const (
	step    = 1024 // entries of one transaction
	quickly = 4096 // entries that a Refresh counts before it shows what there is
	pause   = 5 * time.Second
)

// Run counts what comes, until ctx ends.
func (a *Analysis) Run(ctx context.Context, failed func(error)) {
	t := time.NewTicker(pause)
	defer t.Stop()
	for {
		if err := a.All(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// All counts the whole log.
func (a *Analysis) All(ctx context.Context) error {
	for {
		a.counting.Lock()
		more, err := a.advance(ctx, 16*step)
		a.counting.Unlock()
		if err != nil {
			return err
		}
		if !more {
			return a.load(ctx)
		}
	}
}

// Refresh counts what has come, as far as that is quick. Behind is how many entries
// of the log are not counted. Whoever asks while another counts gets what there is:
// however many look, the log is read once.
func (a *Analysis) Refresh(ctx context.Context) (behind int64, err error) {
	if a.counting.TryLock() {
		_, err := a.advance(ctx, quickly)
		a.counting.Unlock()
		if err != nil {
			return 0, err
		}
	}
	if err := a.load(ctx); err != nil {
		return 0, err
	}
	h, err := a.store.Head(ctx)
	if err != nil {
		return 0, err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return max(0, h.Tree.Size-a.head), nil
}

// Entries is how many entries of the log the numbers are of.
func (a *Analysis) Entries() int64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.head
}

// load takes over what the database has.
func (a *Analysis) load(ctx context.Context) error {
	a.mu.RLock()
	from := a.head
	a.mu.RUnlock()
	list, head, err := a.store.Tallies(ctx, from)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if head < a.head {
		return nil // another call has loaded more
	}
	for _, x := range list {
		k := Kind(x.Kind)
		if a.have[k] == nil {
			a.have[k] = newTable()
		}
		a.have[k].raise(cell{x.Day, x.Name, x.Other, x.Bucket}, x.N) // numbers grow; two loads may overlap
	}
	for _, t := range a.have {
		t.order()
	}
	a.head = head
	return nil
}

// advance counts up to limit entries into the database. more: there are others.
func (a *Analysis) advance(ctx context.Context, limit int64) (more bool, err error) {
	for counted := int64(0); ; {
		from, err := a.store.TallyHead(ctx)
		if err != nil {
			return false, err
		}
		h, err := a.store.Head(ctx)
		if err != nil {
			return false, err
		}
		if from >= h.Tree.Size {
			return false, nil
		}
		if counted >= limit {
			return true, nil
		}
		to := min(from+step, h.Tree.Size)
		list, err := a.read(ctx, from, to, h.Tree.Size)
		if err != nil {
			return false, err
		}
		add, err := a.count(ctx, list)
		if err != nil {
			return false, err
		}
		if err := a.store.Tally(ctx, from, to, add); err != nil && !errors.Is(err, store.ErrConflict) { // a conflict: another replica has counted them
			return false, err
		}
		counted += to - from
	}
}

const tlogWidth = 256 // entries of a full bundle (C2SP tlog-tiles)

// read returns entries from to to, exclusive, of a log of size.
func (a *Analysis) read(ctx context.Context, from, to, size int64) ([]audit.Entry, error) {
	const width = tlogWidth
	var out []audit.Entry
	for n := from / width; n*width < to; n++ {
		w := int(min(width, size-n*width))
		data, err := a.store.ReadBundle(ctx, n, w)
		if err != nil {
			return nil, err
		}
		raw, err := audit.ParseBundle(data, w)
		if err != nil {
			return nil, err
		}
		for i, b := range raw {
			if at := n*width + int64(i); at < from || at >= to {
				continue
			}
			e, err := audit.DecodeEntry(b)
			if err != nil {
				return nil, fmt.Errorf("analysis: entry %d: %w", n*width+int64(i), err)
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// count says what entries add to the tallies.
func (a *Analysis) count(ctx context.Context, list []audit.Entry) ([]store.Tally, error) {
	var ids []statement.ID
	seen := map[statement.ID]bool{}
	for _, e := range list {
		if id := statement.ID(e.Request); !seen[id] && !id.IsZero() {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	briefs, err := a.store.Briefs(ctx, ids)
	if err != nil {
		return nil, err
	}
	sum := map[store.Tally]int64{} // N of the key is 0
	add := func(k Kind, at time.Time, name, other string, bucket, n int64) {
		sum[store.Tally{Kind: string(k), Day: k.day(at), Name: name, Other: other, Bucket: bucket}] += n
	}
	for _, e := range list {
		var body []byte
		if e.Kind == audit.KindEndorsement || e.Kind == audit.KindReceipt {
			var away error
			body, err = e.Body(func(sum [32]byte, _ int64) ([]byte, error) {
				b, err := a.store.Body(ctx, sum)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					away = err
				}
				return b, err
			})
			// A database that does not answer says nothing of the entry: it is counted later,
			// since what is counted once stays.
			if away != nil {
				return nil, away
			}
		}
		// What cannot be read must not keep the rest from being counted.
		if err != nil || countEntry(add, e, body, briefs[statement.ID(e.Request)]) != nil {
			add(Unread, e.Time, string(e.Kind), "", 0, 1)
			err = nil
		}
	}
	out := make([]store.Tally, 0, len(sum))
	for t, n := range sum {
		t.N = n
		out = append(out, t)
	}
	return out, nil
}

// countEntry counts one entry. b is what is known of its request, or nil.
func countEntry(add func(k Kind, at time.Time, name, other string, bucket, n int64), e audit.Entry, body []byte, b *store.Brief) error {
	about := "" // policy or command
	if b != nil {
		about = About(b.Policy, b.Command)
	}
	switch e.Kind {
	case audit.KindRequest:
		if b != nil {
			add(Requests, e.Time, b.Requester, "", 0, 1)
		}
	case audit.KindEndorsement:
		x, err := payload[statement.Endorsement](body)
		if err != nil {
			return err
		}
		if x.Verdict == statement.Disapprove {
			add(Disapproved, e.Time, x.Endorser, about, 0, 1)
		} else {
			add(Endorsed, e.Time, x.Endorser, "", 0, 1)
		}
		if b != nil && !b.Entered.IsZero() {
			add(Pace, e.Time, x.Endorser, "", Bucket(e.Time.Sub(b.Entered)), 1)
		}
	case audit.KindReceipt:
		x, err := payload[statement.Receipt](body)
		if err != nil {
			return err
		}
		countReceipt(add, e.Time, x, about, b)
	case audit.KindCancel:
		add(Cancelled, e.Time, about, "", 0, 1)
	case audit.KindExpire:
		add(Expired, e.Time, about, "", 0, 1)
	case audit.KindRejection:
		add(Rejected, e.Time, "", "", 0, 1)
	}
	return nil
}

func countReceipt(add func(k Kind, at time.Time, name, other string, bucket, n int64), at time.Time, x *statement.Receipt, about string, b *store.Brief) {
	if about == "" {
		about = string(x.Command)
		if x.Signed != nil {
			about = x.Signed.Policy
		}
	}
	if x.Outcome == statement.Refused {
		add(Refused, at, x.Code, about, 0, 1)
		return
	}
	add(Executed, at, about, "", 0, 1)
	if s := x.Signed; s != nil {
		add(Signatures, at, s.Policy, "", 0, int64(s.Count))
		for _, k := range s.Keys() {
			add(ByKey, at, k.Key, "", 0, int64(s.Count))
		}
		if b != nil {
			for f, n := range b.Formats {
				add(ByFormat, at, f, "", 0, n)
			}
		}
	}
	if b == nil || b.Entered.IsZero() {
		return
	}
	var last time.Time
	for _, id := range x.Endorsements {
		for _, e := range b.Endorsements {
			if e.ID == id && e.Arrived.After(last) {
				last = e.Arrived
			}
		}
	}
	if !last.IsZero() {
		add(Quorum, at, about, "", Bucket(last.Sub(b.Entered)), 1)
	}
}

// About is what a request is about, as tallies name it: its policy, or the command
// in brackets.
func About(policy string, c statement.CommandName) string {
	if policy != "" {
		return policy
	}
	return "(" + string(c) + ")"
}

func payload[T statement.Predicate](envelope []byte) (*T, error) {
	env, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	x, err := statement.Decode[T](env.Payload)
	return &x, err
}

// Day is a time's day, in UTC, since 1970.
func Day(t time.Time) int64 { return int64(math.Floor(float64(t.Unix()) / 86400)) }

// Week is the Monday of a day's week.
func Week(day int64) int64 { return day - (day+3)%7 } // day 0 was a Thursday

// day is the day under which a kind counts what happened at t: distributions, of
// which there are many numbers, by week.
func (k Kind) day(t time.Time) int64 {
	if k == Quorum || k == Pace {
		return Week(Day(t))
	}
	return Day(t)
}

// Date is the beginning of a day.
func Date(day int64) time.Time { return time.Unix(day*86400, 0).UTC() }

// finest is how many steps there are to a doubling.
const finest = 8

// Bucket is the step of a distribution that a duration falls into.
func Bucket(d time.Duration) int64 {
	s := d.Seconds()
	if s < 1 {
		return 0
	}
	return 1 + int64(math.Floor(finest*math.Log2(s)))
}

// Of is the duration that stands for a step.
func Of(bucket int64) time.Duration {
	if bucket <= 0 {
		return 0
	}
	return time.Duration(math.Exp2((float64(bucket-1)+0.5)/finest) * float64(time.Second))
}
