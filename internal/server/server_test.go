package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// databases runs f on both kinds of database.
func databases(t *testing.T, f func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, "") })
	t.Run("postgres", func(t *testing.T) { f(t, pgtest.Start(t).Database()) })
}

// code is the reason code of an error.
func code(err error) string {
	if err == nil {
		return ""
	}
	return server.AsProblem(err).Code
}

func wants(t *testing.T, what string, err error, want string) {
	t.Helper()
	if code(err) != want {
		t.Fatalf("%s: %v (%q), want %q", what, err, code(err), want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logKinds are the kinds of the log's entries that belong to a request.
func logKinds(t *testing.T, st store.Store, id statement.ID, want int) []audit.Kind {
	t.Helper()
	for range 1200 {
		refs, err := st.EntriesOf(context.Background(), id)
		must(t, err)
		if len(refs) >= want {
			var out []audit.Kind
			for _, r := range refs {
				out = append(out, r.Kind)
			}
			return out
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the log never got %d entries of %s", want, id)
	return nil
}

func TestLifecycle(t *testing.T) {
	databases(t, func(t *testing.T, dsn string) {
		w := servertest.New(t)
		st := w.Store(dsn)
		s, _ := w.Server(st)
		ctx := t.Context()
		items := w.Files("app", 3)
		env := w.Sign("alice", "release", items)
		r, attached, err := s.Submit(ctx, env, items)
		must(t, err)
		if attached || r.State != store.Pending || r.ID != w.ID(env) || r.Count != 3 {
			t.Fatalf("submitted: %+v, attached %v", r, attached)
		}
		if _, err := s.Collect(ctx, r.ID); code(err) != "not-executed" {
			t.Errorf("result before the quorum: %v", err)
		}
		v, err := s.View(ctx, r, true)
		must(t, err)
		if !slices.Equal(v.Awaits, []string{"bob", "carol", "dave"}) || v.Decision == nil || v.Decision.Code != quorum.QuorumPending {
			t.Errorf("view: awaits %v, decision %+v", v.Awaits, v.Decision)
		}
		box, err := s.Inbox(ctx, "bob")
		must(t, err)
		if len(box) != 1 || box[0].ID != r.ID {
			t.Errorf("bob's inbox: %v", box)
		}

		by := w.Endorse("bob", env)
		r, err = s.Endorse(ctx, by)
		must(t, err)
		if r.State != store.Pending || len(r.Endorsements) != 1 {
			t.Fatalf("after one: %+v", r)
		}
		if r, err = s.Endorse(ctx, by); err != nil || len(r.Endorsements) != 1 {
			t.Fatalf("the same again: %v, %d endorsements", err, len(r.Endorsements))
		}
		if box, err = s.Inbox(ctx, "bob"); err != nil || len(box) != 0 {
			t.Errorf("bob's inbox afterwards: %v %v", box, err)
		}
		_, err = s.Endorse(ctx, w.Endorse("carol", env))
		must(t, err)
		r = w.Until(s, r.ID, store.Executed)

		res, err := s.Collect(ctx, r.ID)
		must(t, err)
		pub, err := receipt.ParseKey(w.Charter.Keeper.Receipts)
		must(t, err)
		rc, _, err := receipt.Verify(pub, res.Receipt)
		must(t, err)
		if rc.Request != r.ID || rc.Outcome != statement.Executed || len(rc.Endorsements) != 2 || len(res.Signatures) != 3 {
			t.Errorf("receipt %+v, %d signatures", rc, len(res.Signatures))
		}
		for i := range items {
			e, err := s.Evidence(ctx, r.ID, i)
			must(t, err)
			a, err := verify.Judge(e, w.Pin, servertest.Formats())
			must(t, err)
			if a.Index() != i || len(a.Endorsers()) != 2 {
				t.Errorf("evidence %d: index %d, endorsers %v", i, a.Index(), a.Endorsers())
			}
			if _, err := verify.Judge(e, statement.ID{1}, servertest.Formats()); err == nil {
				t.Error("evidence verifies under another root")
			}
		}
		if _, err := s.EvidenceOf(ctx, r.ID, 2, 4); code(err) != "not-found" {
			t.Errorf("evidence of a file that is not there: %v", err)
		}
		if got := logKinds(t, st, r.ID, 4); !slices.Equal(got, []audit.Kind{audit.KindRequest, audit.KindEndorsement, audit.KindEndorsement, audit.KindReceipt}) {
			t.Errorf("log: %v", got)
		}
		// The same bytes again are the same request, executed or not.
		again, attached, err := s.Submit(ctx, env, items)
		if err != nil || !attached || again.ID != r.ID || again.State != store.Executed {
			t.Errorf("submitted again: %+v %v %v", again, attached, err)
		}
		wants(t, "late endorsement", second(s.Endorse(ctx, w.Endorse("dave", env))), "request-closed")
	})
}

func second[A any](_ A, err error) error { return err }

func TestAttach(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	items := w.Files("app", 2)
	first := w.Sign("alice", "release", items)
	r, _, err := s.Submit(t.Context(), first, items)
	must(t, err)
	other := w.Sign("ann", "release", items)
	r2, attached, err := s.Submit(t.Context(), other, items)
	if err != nil || !attached || r2.ID != r.ID {
		t.Fatalf("attached %v to %s, %v; want %s", attached, r2.ID, err, r.ID)
	}
	// Another policy is another command.
	single := w.Sign("alice", "single", items)
	r3, attached, err := s.Submit(t.Context(), single, items)
	if err != nil || attached || r3.ID == r.ID {
		t.Fatalf("another policy: attached %v, %v", attached, err)
	}
}

func TestUnattended(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	items := w.Files("nightly", 5)
	r, _, err := s.Submit(t.Context(), w.Sign("ci", "nightly", items), items)
	must(t, err)
	if r.State != store.Executed || r.Receipt == 0 {
		t.Fatalf("an unattended request is %s (%s) when it is answered", r.State, r.Detail)
	}
}

func TestDisapproval(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	s, _ := w.Server(st)
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	_, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	_, err = s.Endorse(t.Context(), w.Endorse("bob", env))
	must(t, err)
	r, err := s.Endorse(t.Context(), w.Say(statement.Disapprove, "dave", env, func(e *statement.Endorsement) { e.Comment = "wrong branch" }))
	must(t, err)
	if r.State != store.Disapproved || r.Code != string(quorum.Vetoed) {
		t.Fatalf("after a veto: %s %s %s", r.State, r.Code, r.Detail)
	}
	wants(t, "endorsement after a veto", second(s.Endorse(t.Context(), w.Endorse("carol", env))), "request-closed")
}

// A stranger's word, a requester's own, a forged one and one about another
// deployment are refused, and the refusals are in the log.
func TestRejectedEndorsements(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	s, _ := w.Server(st)
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	r, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	good := w.Endorse("bob", env)
	e, err := statement.DecodeEnvelope(good)
	must(t, err)
	e.Signatures[0].Sig = bytes.Clone(e.Signatures[0].Sig)
	e.Signatures[0].Sig[len(e.Signatures[0].Sig)-1] ^= 1
	forged, err := e.Encode()
	must(t, err)
	impostor := func() []byte {
		e, err := statement.DecodeEnvelope(w.Endorse("carol", env))
		must(t, err)
		return w.Seal(e.Payload, "alice")
	}()
	bad := map[string][]byte{
		"not an endorser":    w.Endorse("ann", env),
		"requester":          w.Endorse("alice", env),
		"forged signature":   forged,
		"signed by another":  impostor,
		"another deployment": w.Say(statement.Endorse, "bob", env, func(e *statement.Endorsement) { e.Deployment = "other" }),
		"machine of alice":   w.Endorse("ci", env),
	}
	for what, b := range bad {
		wants(t, what, second(s.Endorse(t.Context(), b)), "endorsement-refused")
	}
	if r, err = s.Get(t.Context(), r.ID); err != nil || len(r.Endorsements) != 0 || r.State != store.Pending {
		t.Fatalf("afterwards: %+v %v", r, err)
	}
	kinds := logKinds(t, st, r.ID, 1+len(bad))
	n := 0
	for _, k := range kinds {
		if k == audit.KindRejection {
			n++
		}
	}
	if n != len(bad) {
		t.Errorf("%d rejections in the log %v, want %d", n, kinds, len(bad))
	}
	// The true one still counts: a forgery does not take its place.
	if _, err := s.Endorse(t.Context(), good); err != nil {
		t.Errorf("the true endorsement after the forgery: %v", err)
	}
	// What is no endorsement at all, or of no request, is not logged.
	for what, b := range map[string][]byte{"a request": env, "garbage": []byte(`{"payload":1}`), "empty": {}} {
		wants(t, what, second(s.Endorse(t.Context(), b)), "malformed")
	}
	stray := w.Endorse("bob", w.Sign("ann", "release", items))
	wants(t, "of no request", second(s.Endorse(t.Context(), stray)), "not-found")
}

func TestRefusedSubmissions(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	items := w.Files("app", 2)
	swapped := [][]byte{items[1], items[0]}
	for what, c := range map[string]struct {
		env   []byte
		items [][]byte
		want  string
	}{
		"not a requester": {w.Sign("bob", "release", items), items, "requester-not-allowed"},
		"signed by another": {func() []byte {
			e, _ := statement.DecodeEnvelope(w.Sign("alice", "release", items))
			return w.Seal(e.Payload, "bob")
		}(), items, "requester-signature"},
		"items swapped":   {w.Sign("alice", "release", items), swapped, "items-mismatch"},
		"an item missing": {w.Sign("alice", "release", items), items[:1], "items-mismatch"},
		"no items":        {w.Sign("alice", "release", items), nil, "items-mismatch"},
		"garbage item":    {w.Sign("alice", "release", [][]byte{{1, 2, 3}}), [][]byte{{1, 2, 3}}, "malformed"},
		"items of a key":  {w.Request("bob", statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}}), items, "malformed"},
		"an endorsement":  {w.Endorse("bob", w.Sign("alice", "release", items)), nil, "malformed"},
		"expired": {w.Sign("alice", "release", items, func(r *statement.Request) {
			r.Created, r.Expires = r.Created.Add(-48*time.Hour), r.Created.Add(-24*time.Hour)
		}), items, "expired"},
	} {
		_, _, err := s.Submit(t.Context(), c.env, c.items)
		wants(t, what, err, c.want)
	}
	if list, err := s.List(t.Context(), store.Filter{}); err != nil || len(list) != 0 {
		t.Errorf("refused submissions are kept: %v %v", list, err)
	}
}

func cancelSig(t *testing.T, who string, id statement.ID) statement.Signature {
	t.Helper()
	c := servertest.Signer(who)
	sig, err := c.Sign(t.Context(), credential.Login, server.CancelMessage(id))
	must(t, err)
	return statement.Signature{KeyID: string(c.Credential().ID()), Sig: sig}
}

func TestCancel(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	s, _ := w.Server(st)
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	r, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	other := w.ID(w.Sign("alice", "single", items))
	wants(t, "by another", second(s.Cancel(t.Context(), r.ID, "ann", cancelSig(t, "ann", r.ID))), "not-requester")
	wants(t, "another's signature", second(s.Cancel(t.Context(), r.ID, "alice", cancelSig(t, "ann", r.ID))), "credential-unknown")
	wants(t, "signature for another request", second(s.Cancel(t.Context(), r.ID, "alice", cancelSig(t, "alice", other))), "requester-signature")
	r, err = s.Cancel(t.Context(), r.ID, "alice", cancelSig(t, "alice", r.ID))
	if err != nil || r.State != store.Cancelled {
		t.Fatalf("cancelled: %v %v", r, err)
	}
	if _, err := s.Cancel(t.Context(), r.ID, "alice", cancelSig(t, "alice", r.ID)); err != nil {
		t.Errorf("cancelled again: %v", err)
	}
	wants(t, "endorsement", second(s.Endorse(t.Context(), w.Endorse("bob", env))), "request-closed")
	// The command is free again.
	if _, attached, err := s.Submit(t.Context(), w.Sign("ann", "release", items), items); err != nil || attached {
		t.Errorf("the same command after the cancellation: attached %v, %v", attached, err)
	}
	if got := logKinds(t, st, r.ID, 2); !slices.Contains(got, audit.KindCancel) {
		t.Errorf("log: %v", got)
	}
}

func TestExpiry(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	items := w.Files("app", 1)
	s, stop := w.Server(st)
	env := w.Sign("alice", "release", items)
	_, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	stop()
	w.Pass(25 * time.Hour)
	// Nobody has closed it yet, and still it is too late.
	s, _ = w.Server(st)
	if r, err := s.Endorse(t.Context(), w.Endorse("bob", env)); err == nil && r.State == store.Endorsed {
		t.Fatal("an expired request takes an endorsement")
	}
	w.Until(s, w.ID(env), store.Expired)
	// The endorsement may have been refused, and logged, before the request was closed.
	for n := 2; !slices.Contains(logKinds(t, st, w.ID(env), n), audit.KindExpire); n++ {
	}
}

// away is a keeper that can be out of reach.
type away struct {
	keeper.Keeper
	mu    sync.Mutex
	down  bool
	after bool // the keeper does it, and the answer is lost
	calls int
}

func (a *away) set(down, after bool) { a.mu.Lock(); a.down, a.after = down, after; a.mu.Unlock() }

func (a *away) state() (down, after bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	return a.down, a.after
}

func (a *away) Execute(ctx context.Context, o *keeper.Order) (*keeper.Outcome, error) {
	down, after := a.state()
	if down && !after {
		return nil, keeper.ErrUnavailable
	}
	out, err := a.Keeper.Execute(ctx, o)
	if down {
		return nil, keeper.ErrUnavailable
	}
	return out, err
}

// A keeper that is away, before or after it has executed, delays a request and
// neither loses it nor executes it twice.
func TestKeeperOutage(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) {
			w := servertest.New(t)
			k := &away{Keeper: w.Keeper}
			s, _ := w.Server(w.Store(""), func(c *server.Config) { c.Keeper = k })
			items := w.Files("app", 1)
			before := w.Keys.Used()
			k.set(true, after)
			env := w.Sign("alice", "single", items)
			_, _, err := s.Submit(t.Context(), env, items)
			must(t, err)
			r, err := s.Endorse(t.Context(), w.Endorse("bob", env))
			must(t, err)
			if r.State != store.Endorsed {
				t.Fatalf("with its quorum and no keeper: %s", r.State)
			}
			k.set(false, false)
			w.Pass(10 * time.Second)
			w.Until(s, r.ID, store.Executed)
			if n := w.Keys.Used() - before; n != 1 {
				t.Errorf("the key was used %d times", n)
			}
		})
	}
}

// Receipts of commands that this database never saw are fetched and logged.
func TestLostReceipts(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	w.Server(st)
	ctx := t.Context()
	ks, err := w.Keeper.Status(ctx)
	must(t, err)
	for n := uint64(1); n <= ks.Receipts; n++ {
		if _, err := st.Receipt(ctx, n); err != nil {
			t.Errorf("receipt %d: %v", n, err)
		}
	}
}

// Several replicas on one database race for the same requests: each is executed
// once, by one of them, and everybody sees it.
func TestReplicas(t *testing.T) {
	w := servertest.New(t)
	dsn := pgtest.Start(t).Database()
	var replicas []*server.Server
	var st store.Store
	for range 2 {
		st = w.Store(dsn)
		s, _ := w.Server(st)
		replicas = append(replicas, s)
	}
	before := w.Keys.Used()
	const n = 6
	var wg sync.WaitGroup
	ids := make([]statement.ID, n)
	for i := range n {
		items := w.Files(fmt.Sprintf("app%d", i), 1)
		env := w.Sign("alice", "release", items)
		_, _, err := replicas[i%2].Submit(t.Context(), env, items)
		must(t, err)
		ids[i] = w.ID(env)
		for j, who := range []string{"bob", "carol"} {
			e := w.Endorse(who, env)
			wg.Go(func() {
				if _, err := replicas[j].Endorse(t.Context(), e); err != nil && code(err) != "request-closed" {
					t.Errorf("endorsement: %v", err)
				}
			})
		}
		wg.Go(func() { // both execute whatever they find
			for range 3 {
				for _, s := range replicas {
					if err := s.Execute(t.Context(), ids[i]); err != nil {
						t.Errorf("execute: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		for _, s := range replicas {
			w.Until(s, id, store.Executed)
		}
		kinds := logKinds(t, st, id, 4)
		if !slices.Equal(sorted(kinds), sorted([]audit.Kind{audit.KindRequest, audit.KindEndorsement, audit.KindEndorsement, audit.KindReceipt})) {
			t.Errorf("log of %s: %v", id, kinds)
		}
	}
	if used := w.Keys.Used() - before; used != n {
		t.Errorf("keys were used %d times for %d requests", used, n)
	}
}

func sorted(k []audit.Kind) []audit.Kind { k = slices.Clone(k); slices.Sort(k); return k }

// A charter that one replica has brought into force is in force on the other one.
func TestCharterReplaced(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	head, ref := s.Chain().Head()
	c, err := charter.Next(head, ref, w.Now())
	must(t, err)
	p := c.Policies["single"]
	p.Description = "changed"
	c.Policies["single"] = p
	payload, err := charter.Encode(c)
	must(t, err)
	env := w.Request("bob", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
	r, _, err := s.Submit(t.Context(), env, nil)
	must(t, err)
	for _, n := range []string{"carol", "dave"} {
		_, err := s.Endorse(t.Context(), w.Endorse(n, env))
		must(t, err)
	}
	w.Until(s, r.ID, store.Executed)
	for range 1200 {
		if s.Charter().Version == 2 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if s.Charter().Version != 2 || s.Charter().Policies["single"].Description != "changed" {
		t.Fatalf("charter in force: %d", s.Charter().Version)
	}
	// Requests made under either charter are taken.
	items := w.Files("after", 1)
	if _, _, err := s.Submit(t.Context(), w.Sign("alice", "nightly", items), items); err != nil {
		t.Errorf("a request after the change: %v", err)
	}
}

func TestFindAndList(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	items := w.Files("app", 1)
	r, _, err := s.Submit(t.Context(), w.Sign("alice", "release", items), items)
	must(t, err)
	for _, p := range []string{r.ID.String(), r.ID.String()[:4], r.ID.String()[:13]} {
		if got, err := s.Find(t.Context(), p); err != nil || got.ID != r.ID {
			t.Errorf("find %s: %v %v", p, got, err)
		}
	}
	for p, want := range map[string]string{"abc": "malformed", "": "malformed", "zzzz": "malformed", flip(r.ID.String()[:8]): "not-found"} {
		wants(t, "find "+p, second(s.Find(t.Context(), p)), want)
	}
	_, p, err := format.DecodeItem(items[0])
	must(t, err)
	for what, f := range map[string]store.Filter{
		"name": {Name: "app-*"}, "content": {Content: p.Content}, "policy": {Policy: "release"}, "requester": {Requester: "alice"}, "key": {Key: "release"},
	} {
		if list, err := s.List(t.Context(), f); err != nil || len(list) != 1 {
			t.Errorf("%s: %v %v", what, list, err)
		}
	}
	if list, err := s.List(t.Context(), store.Filter{Name: "%"}); err != nil || len(list) != 0 {
		t.Errorf("a name is no SQL pattern: %v %v", list, err)
	}
}

func flip(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == '0' {
			b[i] = '1'
		} else {
			b[i] = '0'
		}
	}
	return string(b)
}

// Invariant 1: a server whose database was altered shows an error, not a lie.
func TestAlteredDatabase(t *testing.T) {
	w := servertest.New(t)
	pg := pgtest.Start(t)
	dsn := pg.Database()
	s, _ := w.Server(w.Store(dsn))
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	r, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	pg.SQL(dsn, "UPDATE requests SET envelope = replace(encode(envelope, 'escape'), 'a', 'b')::bytea")
	if r, err = s.Get(t.Context(), r.ID); err == nil {
		_, err = s.View(t.Context(), r, false)
	}
	if err == nil {
		t.Error("an altered request is shown")
	}
}

func TestAwait(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	r, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := s.Await(ctx, r.ID, r.Revision); err != nil || got.Revision != r.Revision {
		t.Errorf("without news: %v %v", got, err)
	}
	got := make(chan *store.Request, 1)
	go func() {
		r, _ := s.Await(t.Context(), r.ID, r.Revision)
		got <- r
	}()
	_, err = s.Endorse(t.Context(), w.Endorse("bob", env))
	must(t, err)
	select {
	case g := <-got:
		if g == nil || len(g.Endorsements) != 1 {
			t.Errorf("news: %+v", g)
		}
	case <-time.After(time.Minute):
		t.Error("nobody told the waiting one")
	}
}

func TestNew(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	ctx := t.Context()
	if _, err := server.New(ctx, server.Config{}); err == nil {
		t.Error("a server without anything")
	}
	if _, err := server.New(ctx, server.Config{Store: st, Keeper: w.Keeper, Clock: w.Now, Pin: statement.ID{9}}); !errors.Is(err, quorum.ErrChain) {
		t.Errorf("a keeper of another deployment: %v", err)
	}
}
