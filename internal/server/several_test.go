package server_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// hybrid is a world whose policy release signs with two keys.
func hybrid(t *testing.T) *servertest.World {
	t.Helper()
	return servertest.New(t, func(c *charter.Charter) {
		c.Keys["second"] = charter.Key{URI: "test:second", Algorithm: sigalg.P256}
		p := c.Policies["release"]
		p.Also = []string{"second"}
		p.Formats = []string{"cms", "pe", "two-rounds"}
		c.Policies["release"] = p
	})
}

// officer has bob ask for a command and carol and dave agree.
func officer(t *testing.T, w *servertest.World, s *server.Server, cmd statement.Command) {
	t.Helper()
	env := w.Request("bob", cmd)
	r, _, err := s.Submit(t.Context(), env, nil)
	must(t, err)
	if r.State == store.Pending {
		_, err = s.Endorse(t.Context(), w.Endorse("carol", env))
		must(t, err)
	}
	w.Until(s, w.ID(env), store.Executed)
}

// asked counts the orders to sign.
type asked struct {
	keeper.Keeper
	orders atomic.Int64
}

func (a *asked) Execute(ctx context.Context, o *keeper.Order) (*keeper.Outcome, error) {
	if len(o.Items) > 0 {
		a.orders.Add(1)
	}
	return a.Keeper.Execute(ctx, o)
}

// What one of several keys keeps from being signed is refused before anybody
// endorses it where it stays so, and is not asked of the keeper again and again
// where it passes: who has asked can withdraw it.
func TestSeveralKeys(t *testing.T) {
	t.Parallel()
	w := hybrid(t)
	k := &asked{Keeper: w.Keeper}
	s, stop := w.Server(w.Store(""), func(c *server.Config) { c.Keeper = k; c.Formats = append(c.Formats, formattest.TwoRounds()) })
	items := w.Files("app", 1)
	if _, _, err := s.Submit(t.Context(), w.Sign("alice", "release", items), items); code(err) != "key-not-generated" || !strings.Contains(err.Error(), "second") {
		t.Errorf("without the second key: %v", err)
	}
	officer(t, w, s, statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: "second", Subject: "CN=second", SelfSignedDays: 90}})

	// A format that has no room for two signatures.
	f := formattest.TwoRounds()
	p, err := f.Plan(t.Context(), format.BytesArtifact("x", []byte("two rounds\ncontent")), nil)
	must(t, err)
	enc, err := p.Encode()
	must(t, err)
	one, err := (&format.Item{Plan: enc, Name: "x"}).Encode()
	must(t, err)
	root, err := format.ItemsRoot([][]byte{one})
	must(t, err)
	env := w.Request("alice", statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: "release", Key: "release", Formats: []string{"two-rounds"}, Count: 1, Items: root.String()}})
	if _, _, err := s.Submit(t.Context(), env, [][]byte{one}); code(err) != "plan-refused" || !strings.Contains(err.Error(), "at most 1") {
		t.Errorf("a format of one key: %v", err)
	}

	officer(t, w, s, statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "second"}})
	env = w.Sign("alice", "release", items)
	_, _, err = s.Submit(t.Context(), env, items)
	must(t, err)
	for _, who := range []string{"bob", "carol"} {
		_, err = s.Endorse(t.Context(), w.Endorse(who, env))
		must(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := s.Get(t.Context(), w.ID(env))
	must(t, err)
	for r.Code != "key-suspended" && ctx.Err() == nil {
		r, err = s.Await(ctx, r.ID, r.Revision)
		must(t, err)
	}
	if r.Code != "key-suspended" || r.State != store.Endorsed || r.Sent {
		t.Fatalf("with the second key suspended: %s %s, sent %v", r.State, r.Code, r.Sent)
	}
	stop()
	before := k.orders.Load()
	w.Pass(time.Minute)
	must(t, s.Execute(t.Context(), r.ID))
	if n := k.orders.Load() - before; n != 0 {
		t.Errorf("the keeper was asked %d times for what it has just refused", n)
	}
	if st, err := s.Get(t.Context(), r.ID); err != nil || st.Revision != r.Revision {
		t.Errorf("revision %d after %d, %v", st.Revision, r.Revision, err)
	}
	if _, err := s.Cancel(t.Context(), r.ID, "alice", cancelSig(t, "alice", r.ID)); err != nil {
		t.Errorf("withdrawn: %v", err)
	}
}

// lost is a store that has lost the items of requests.
type lost struct{ store.Store }

func (lost) Items(context.Context, statement.ID) ([][]byte, error) {
	return nil, errors.New("the page is damaged")
}

// speechless is a keeper that takes orders and never answers.
type speechless struct{ keeper.Keeper }

func (speechless) Execute(context.Context, *keeper.Order) (*keeper.Outcome, error) {
	return nil, errors.New("the line is dead")
}

// A request that was sent, and whose items have been lost since, does not stay
// with the keeper for ever: when its time is over the keeper ends it, or gives what
// it has signed.
func TestItemsLostAfterSending(t *testing.T) {
	for _, signed := range []bool{false, true} {
		w := servertest.New(t)
		st := w.Store("")
		s, stop := w.Server(st, func(c *server.Config) { c.Keeper = speechless{w.Keeper} })
		items := w.Files("app", 1)
		env := w.Sign("alice", "release", items)
		_, _, err := s.Submit(t.Context(), env, items)
		must(t, err)
		var said [][]byte
		for _, who := range []string{"bob", "carol"} {
			said = append(said, w.Endorse(who, env))
			_, err = s.Endorse(t.Context(), said[len(said)-1])
			must(t, err)
		}
		stop()
		id := w.ID(env)
		r, err := st.Request(t.Context(), id)
		must(t, err)
		if !r.Sent || r.State != store.Endorsed {
			t.Fatalf("%s, sent %v", r.State, r.Sent)
		}
		if signed { // the order arrived, the answer did not
			order := &keeper.Order{Items: items}
			order.Evidence.Request, order.Evidence.Endorsements = env, said
			_, err := w.Keeper.Execute(t.Context(), order)
			must(t, err)
		}
		// Another server takes it up, which finds no items.
		c := server.Config{Store: lost{st}, Keeper: w.Keeper, Formats: servertest.Formats(), Pin: w.Pin, Clock: w.Now}
		if signed {
			c.Keeper = deaf{w.Keeper}
		}
		other, err := server.New(t.Context(), c)
		must(t, err)
		w.Pass(time.Minute)
		if err := other.Execute(t.Context(), id); err == nil {
			t.Error("executed without its items, before its time was over")
		}
		if r, err = st.Request(t.Context(), id); err != nil || !r.Sent || r.State != store.Endorsed {
			t.Fatalf("before its time is over: %s, sent %v, %v", r.State, r.Sent, err)
		}
		w.Pass(48 * time.Hour)
		must(t, other.Execute(t.Context(), id))
		want := store.Expired
		if signed {
			want = store.Executed
		}
		if r, err = st.Request(t.Context(), id); err != nil || r.State != want {
			t.Errorf("when its time is over: %s %s, want %s, %v", r.State, r.Code, want, err)
		}
	}
}

// deaf is a keeper that does not say which receipts there are, so that nobody
// fetches them.
type deaf struct{ keeper.Keeper }

func (d deaf) Status(ctx context.Context) (*keeper.Status, error) {
	st, err := d.Keeper.Status(ctx)
	if err == nil {
		st.Receipts = 0
	}
	return st, err
}
