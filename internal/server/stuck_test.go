package server_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/storetest"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// slow is a keeper whose device hangs: orders to sign wait until their callers
// give up.
type slow struct {
	keeper.Keeper
	waits chan struct{}
	once  sync.Once
}

func (k *slow) Execute(ctx context.Context, o *keeper.Order) (*keeper.Outcome, error) {
	if len(o.Items) == 0 {
		return k.Keeper.Execute(ctx, o)
	}
	k.once.Do(func() { close(k.waits) })
	<-ctx.Done()
	return nil, ctx.Err()
}

// Executions that hang, as many as there may be at a time, do not keep an officer
// from suspending their key.
func TestSuspendWhileExecutionsHang(t *testing.T) {
	w := servertest.New(t)
	k := &slow{Keeper: w.Keeper, waits: make(chan struct{})}
	s, _ := w.Server(w.Store(""), func(c *server.Config) { c.Keeper, c.Workers = k, 1 })
	items := w.Files("app", 1)
	env := w.Sign("alice", "nightly", items)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.Submit(ctx, env, items) })
	<-k.waits
	suspend := w.Request("bob", statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}})
	r, _, err := s.Submit(t.Context(), suspend, nil)
	must(t, err)
	_, err = s.Endorse(t.Context(), w.Endorse("carol", suspend))
	must(t, err)
	w.Until(s, r.ID, store.Executed)
}

// clogged is a database that takes long over a receipt.
type clogged struct {
	store.Store
	armed   atomic.Bool // and not begun
	reached chan struct{}
	free    chan struct{}
}

func (d *clogged) Apply(ctx context.Context, c *store.Change) error {
	if c.Receipt != nil && d.armed.CompareAndSwap(true, false) {
		close(d.reached)
		<-d.free
	}
	return d.Store.Apply(ctx, c)
}

// An outcome that waits for the database does not keep the keys from signing.
func TestSignWhileADatabaseIsSlow(t *testing.T) {
	w := servertest.New(t)
	d := &clogged{Store: w.Store(""), reached: make(chan struct{}), free: make(chan struct{})}
	s, _ := w.Server(d, func(c *server.Config) { c.Workers = 1 })
	d.armed.Store(true)
	var wg sync.WaitGroup
	defer wg.Wait()
	free := sync.OnceFunc(func() { close(d.free) })
	defer free()
	first, second := w.Files("first", 1), w.Files("second", 1)
	slow := w.Sign("alice", "nightly", first)
	wg.Go(func() { s.Submit(t.Context(), slow, first) })
	<-d.reached
	env := w.Sign("alice", "nightly", second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, _, err := s.Submit(ctx, env, second)
	must(t, err)
	w.Until(s, r.ID, store.Executed)
	if r, err := s.Get(t.Context(), w.ID(slow)); err != nil || r.State != store.Endorsed {
		t.Errorf("the first: %v, %v", r.State, err)
	}
	free()
	w.Until(s, w.ID(slow), store.Executed)
}

// proposal is bob's request to bring a changed charter into force.
func proposal(t *testing.T, w *servertest.World, s *server.Server, change func(c *charter.Charter)) []byte {
	t.Helper()
	head, ref := s.Chain().Head()
	c, err := charter.Next(head, ref, w.Now())
	must(t, err)
	change(c)
	payload, err := charter.Encode(c)
	must(t, err)
	return w.Request("bob", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
}

// replace brings a changed charter into force.
func replace(t *testing.T, w *servertest.World, s *server.Server, change func(c *charter.Charter)) {
	t.Helper()
	env := proposal(t, w, s, change)
	r, _, err := s.Submit(t.Context(), env, nil)
	must(t, err)
	for _, n := range []string{"carol", "dave"} {
		_, err := s.Endorse(t.Context(), w.Endorse(n, env))
		must(t, err)
	}
	w.Until(s, r.ID, store.Executed)
}

// A request whose quorum is there because the charter has changed is executed:
// nobody is left who could endorse it.
func TestCharterChangeCompletesAQuorum(t *testing.T) {
	t.Parallel() // it waits more than it works
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	_, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	r, err := s.Endorse(t.Context(), w.Endorse("bob", env))
	must(t, err)
	if r.State != store.Pending {
		t.Fatalf("with one of two endorsements: %s", r.State)
	}
	replace(t, w, s, func(c *charter.Charter) {
		p := c.Policies["release"]
		p.Rule.Quorum = &charter.Node{Group: "officers", Need: 1}
		c.Policies["release"] = p
	})
	w.Until(s, r.ID, store.Executed)
}

// A charter that names another keeper, or calls the log otherwise, is refused
// before anybody endorses it: the keeper would refuse it afterwards, and whoever
// follows the log knows its checkpoints by that name.
func TestKeeperAndLogStay(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	for name, change := range map[string]func(k *charter.Keeper){
		"log":      func(k *charter.Keeper) { k.Log = "log.example.com/renamed" },
		"logKey":   func(k *charter.Keeper) { k.LogKey = k.LogKey[:8] + "AAAA" + k.LogKey[12:] },
		"receipts": func(k *charter.Keeper) { k.Receipts = k.Receipts[:8] + "AAAA" + k.Receipts[12:] },
	} {
		_, _, err := s.Submit(t.Context(), proposal(t, w, s, func(c *charter.Charter) { change(&c.Keeper) }), nil)
		wants(t, name, err, "keeper-mismatch")
	}
	// Past the server, the keeper says the same.
	env := proposal(t, w, s, func(c *charter.Charter) { c.Keeper.Log = "log.example.com/renamed" })
	out, err := w.Keeper.Execute(t.Context(), &keeper.Order{Evidence: quorum.Evidence{Request: env, Endorsements: [][]byte{w.Endorse("carol", env), w.Endorse("dave", env)}}})
	must(t, err)
	e, err := statement.DecodeEnvelope(out.Receipt)
	must(t, err)
	if rc, err := statement.Decode[statement.Receipt](e.Payload); err != nil || rc.Outcome != statement.Refused || rc.Code != "keeper-mismatch" {
		t.Errorf("the keeper: %+v %v", rc, err)
	}
}

// faulty is a keeper that cannot give one of its old receipts.
type faulty struct {
	keeper.Keeper
	bad   uint64
	asked chan struct{}
	once  sync.Once
}

func (k *faulty) Receipts(ctx context.Context, from uint64, limit int) ([]*keeper.Outcome, error) {
	if from == k.bad {
		k.once.Do(func() { close(k.asked) })
		return nil, fmt.Errorf("%w: receipt %d", keeper.ErrUnavailable, from)
	}
	return k.Keeper.Receipts(ctx, from, limit)
}

// A receipt that cannot be fetched does not hold up requests that were left
// behind, nor the receipts after it.
func TestReceiptThatIsAway(t *testing.T) {
	t.Parallel() // it waits more than it works
	w := servertest.New(t)
	st := w.Store("")
	ks, err := w.Keeper.Status(t.Context())
	must(t, err)
	f := &faulty{Keeper: w.Keeper, bad: ks.Receipts + 1, asked: make(chan struct{})}
	k := &away{Keeper: f}
	s, _ := w.Server(st, func(c *server.Config) { c.Keeper = k })
	for i := range 2 { // executed past this database
		items := w.Files(fmt.Sprint("elsewhere", i), 1)
		_, err := w.Keeper.Execute(t.Context(), &keeper.Order{Evidence: quorum.Evidence{Request: w.Sign("alice", "nightly", items)}, Items: items})
		must(t, err)
	}
	<-f.asked
	k.set(true, true) // executed, and the answer is lost
	items := w.Files("app", 1)
	r, _, err := s.Submit(t.Context(), w.Sign("alice", "nightly", items), items)
	must(t, err)
	k.set(false, false)
	w.Pass(10 * time.Second)
	w.Until(s, r.ID, store.Executed)
	if _, err := st.Receipt(t.Context(), f.bad+1); err != nil {
		t.Errorf("the receipt after the one that is away: %v", err)
	}
}

// A server starts while a receipt cannot be fetched: it says so, does its work, and
// fetches the receipt when it is there. One whose keeper was rolled back does not.
func TestStartWithoutAReceipt(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	f := &faulty{Keeper: w.Keeper, bad: 1, asked: make(chan struct{})}
	s, stop := w.Server(st, func(c *server.Config) { c.Keeper = f })
	if err := s.Health(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
	if s.Lacking() != 1 || !strings.Contains(s.Degraded(), "1 of the keeper's receipts") {
		t.Errorf("%d receipts are missing: %q", s.Lacking(), s.Degraded())
	}
	items := w.Files("app", 1)
	r, _, err := s.Submit(t.Context(), w.Sign("alice", "nightly", items), items)
	must(t, err)
	if r.State != store.Executed {
		t.Errorf("without an old receipt: %s", r.State)
	}
	stop()
	f.bad = 1 << 62 // nobody asks any more
	s, _ = w.Server(st, func(c *server.Config) { c.Keeper = f })
	if s.Lacking() != 0 || s.Degraded() != "" {
		t.Errorf("with every receipt: %d, %q", s.Lacking(), s.Degraded())
	}
	if _, err := st.Receipt(t.Context(), 1); err != nil {
		t.Errorf("the receipt was not fetched: %v", err)
	}

	// While it runs, too.
	second := w.Store("")
	f = &faulty{Keeper: w.Keeper, bad: 2, asked: make(chan struct{})}
	var healed atomic.Bool
	s, _ = w.Server(second, func(c *server.Config) { c.Keeper = &heals{f, &healed} })
	if s.Lacking() != 1 {
		t.Errorf("%d receipts are missing", s.Lacking())
	}
	healed.Store(true)
	for range 3000 {
		if s.Degraded() == "" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := second.Receipt(t.Context(), 2); err != nil || s.Degraded() != "" {
		t.Errorf("the receipt was not fetched later: %v, %q", err, s.Degraded())
	}
}

// heals is a faulty keeper until it is healed.
type heals struct {
	*faulty
	healed *atomic.Bool
}

func (k *heals) Receipts(ctx context.Context, from uint64, limit int) ([]*keeper.Outcome, error) {
	if k.healed.Load() {
		return k.Keeper.Receipts(ctx, from, limit)
	}
	return k.faulty.Receipts(ctx, from, limit)
}

// Requests that wait, many of them and for long, do not keep one that was left
// behind from being taken up.
func TestManyThatWait(t *testing.T) {
	t.Parallel() // it waits more than it works
	w := servertest.New(t)
	st := w.Store("")
	var wg sync.WaitGroup
	for i := range 1001 {
		c := storetest.NewRequest(fmt.Sprint("waits", i), 1)
		c.New.State, c.New.Code, c.At = store.Endorsed, "not-yet", w.Now().Add(-time.Hour)
		c.New.Created, c.New.Expires = c.At, w.Now().Add(1000*time.Hour)
		wg.Go(func() {
			if err := st.Apply(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	k := &away{Keeper: w.Keeper}
	s, _ := w.Server(st, func(c *server.Config) { c.Keeper = k })
	items := w.Files("app", 1)
	k.set(true, false)
	r, _, err := s.Submit(t.Context(), w.Sign("alice", "nightly", items), items)
	must(t, err)
	if r.State != store.Endorsed {
		t.Fatalf("without a keeper: %s", r.State)
	}
	k.set(false, false)
	w.Pass(10 * time.Second)
	w.Until(s, r.ID, store.Executed)
}

// What the keeper does not even judge says so while it waits.
func TestRequesterGone(t *testing.T) {
	t.Parallel() // it waits more than it works
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	items := w.Files("app", 1)
	r, _, err := s.Submit(t.Context(), w.Sign("xena", "nightly", items, func(r *statement.Request) {
		r.NotBefore, r.Expires = r.Created.Add(time.Hour), r.Created.Add(100*time.Hour)
	}), items)
	must(t, err)
	if r.State != store.Endorsed || r.Code != "not-yet" {
		t.Fatalf("before its time: %s %s", r.State, r.Code)
	}
	replace(t, w, s, func(c *charter.Charter) {
		delete(c.People, "xena")
		c.Groups["dev"] = charter.Group{Members: []string{"alice", "ann"}}
	})
	w.Pass(2 * time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for r.Code == "not-yet" && ctx.Err() == nil {
		r, err = s.Await(ctx, r.ID, r.Revision)
		must(t, err)
	}
	if r.Code != "malformed" || !strings.Contains(r.Detail, "requester-unknown") {
		t.Errorf("of somebody who is gone: %s, %s %q", r.State, r.Code, r.Detail)
	}
}

// A request whose time is over is in nobody's way, also before it is swept.
func TestAttachToNothingExpired(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	for i := range 3 {
		items := w.Files("app", 1)
		r, attached, err := s.Submit(t.Context(), w.Sign("alice", "release", items), items)
		must(t, err)
		if attached || r.State != store.Pending {
			t.Fatalf("submission %d: attached %v to one that is %s", i, attached, r.State)
		}
		w.Pass(r.Expires.Sub(w.Now()) + time.Second)
	}
}

// overtaken is a store that still calls a request due which has just ended.
type overtaken struct {
	store.Store
	mu  sync.Mutex
	due []statement.ID
	saw chan struct{}
}

func (o *overtaken) Due(ctx context.Context, t time.Time, limit int) ([]statement.ID, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.due == nil {
		return o.Store.Due(ctx, t, limit)
	}
	select {
	case o.saw <- struct{}{}:
	default:
	}
	return o.due, nil
}

// A request that ends while it is being closed for its time stays what it is.
func TestExpiryOvertaken(t *testing.T) {
	t.Parallel() // it waits more than it works
	w := servertest.New(t)
	st := &overtaken{Store: w.Store(""), saw: make(chan struct{})}
	s, stop := w.Server(st)
	items := w.Files("app", 1)
	r, _, err := s.Submit(t.Context(), w.Sign("alice", "nightly", items), items)
	must(t, err)
	w.Until(s, r.ID, store.Executed)
	st.mu.Lock()
	st.due = []statement.ID{r.ID}
	st.mu.Unlock()
	<-st.saw
	<-st.saw // the first round is over
	stop()
	if r, err = s.Get(t.Context(), r.ID); err != nil || r.State != store.Executed {
		t.Errorf("executed, then %s %v", r.State, err)
	}
}

// A replica that has not seen the charter under which the keeper refuses loads it:
// else the request would stay endorsed and take no more endorsements.
func TestRefusedUnderANewerCharter(t *testing.T) {
	t.Parallel() // it waits more than it works
	w := servertest.New(t)
	st := w.Store("")
	first, stop := w.Server(st)
	second, _ := w.Server(st)
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items, func(r *statement.Request) { r.NotBefore = r.Created.Add(time.Hour) })
	_, _, err := first.Submit(t.Context(), env, items)
	must(t, err)
	_, err = first.Endorse(t.Context(), w.Endorse("bob", env))
	must(t, err)
	r, err := first.Endorse(t.Context(), w.Endorse("carol", env))
	must(t, err)
	if r.State != store.Endorsed {
		t.Fatalf("with everybody, before its time: %s", r.State)
	}
	replace(t, w, first, func(c *charter.Charter) {
		p := c.Policies["release"]
		p.Rule.Quorum = &charter.Node{Group: "officers", Need: 3}
		c.Policies["release"] = p
	})
	stop()
	w.Pass(2 * time.Hour)
	must(t, second.Execute(t.Context(), r.ID))
	w.Until(second, r.ID, store.Pending)
}
