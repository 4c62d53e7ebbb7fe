package attacks

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// receiver takes webhooks.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	got  []notify.Message
	fail int // answers with an error this often
}

func newReceiver(t *testing.T, secret []byte) *receiver {
	r := &receiver{fail: 1}
	r.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.fail > 0 {
			r.fail--
			http.Error(rw, "away", http.StatusServiceUnavailable)
			return
		}
		at, perr := strconv.ParseInt(q.Header.Get("webhook-timestamp"), 10, 64)
		if err != nil || perr != nil || notify.Sign(secret, q.Header.Get("webhook-id"), time.Unix(at, 0), body) != q.Header.Get("webhook-signature") {
			t.Errorf("a message without its sender's signature: %v", err)
		}
		var m notify.Message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		r.got = append(r.got, m)
	}))
	t.Cleanup(r.Close)
	return r
}

// await waits for a message.
func (r *receiver) await(t *testing.T, e notify.Event, id statement.ID) notify.Message {
	t.Helper()
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r.mu.Lock()
		for _, m := range r.got {
			if m.Type == e && m.Data.Request == id.String() {
				r.mu.Unlock()
				return m
			}
		}
		r.mu.Unlock()
	}
	t.Fatalf("nobody was told of %s", e)
	return notify.Message{}
}

// Those who are asked hear of it, also when the receiver was away, and again
// when half of the time is gone; and of its end. A quorum that cannot be reached
// says so at once.
func TestLeakNobodyIsTold(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte{7}, 32)
	rec := newReceiver(t, secret)
	w := newWorld(t, options{server: func(c *server.Config) {
		c.Webhooks = []notify.Webhook{{Name: "chat", URL: rec.URL, Secret: secret, AllowPrivate: true}}
		c.Sender = notify.NewSender()
	}})
	items := w.items("please")
	env := w.ask("alice", "release", items)
	id := w.submit(env, items).ID
	m := rec.await(t, notify.Pending, id)
	if !slices.Equal(m.Data.Awaits, []string{"bob", "carol", "dave", "scanner"}) || m.Data.Requester != "alice" || m.Data.Policy != "release" {
		t.Errorf("said is %+v", m)
	}
	for name, asked := range map[string]bool{"alice": false, "bob": true, "carol": true, "dave": true, "scanner": true, "inspector": false, "nobody": false} {
		in, err := w.server.Inbox(w.ctx, name)
		check(t, err)
		if (len(in) == 1) != asked {
			t.Errorf("%s has %d requests in the inbox", name, len(in))
		}
	}
	w.endorse(env, "carol")
	w.pass(85 * time.Hour) // of 168
	m = rec.await(t, notify.Reminder, id)
	if !slices.Equal(m.Data.Awaits, []string{"bob", "scanner"}) { // security has spoken: dave is not asked any more
		t.Errorf("reminded are %v", m.Data.Awaits)
	}

	// Bob is the only one of release besides who asks: without him it is over.
	view := func() *server.View {
		r, err := w.server.Get(w.ctx, id)
		check(t, err)
		v, err := w.server.View(w.ctx, r, true)
		check(t, err)
		return v
	}
	if v := view(); v.Unreachable != "" || !strings.Contains(v.Decision.Missing, "1 more of release: bob") {
		t.Errorf("%q, missing %q", v.Unreachable, v.Decision.Missing)
	}
	_, err := w.server.Endorse(w.ctx, w.verdict("bob", env, statement.Disapprove, "not on a Friday"))
	check(t, err)
	if v := view(); v.State != store.Pending || !strings.Contains(v.Unreachable, "cannot be reached: bob (not on a Friday) disapproved") {
		t.Errorf("%s, %q", v.State, v.Unreachable)
	}
	w.pass(84 * time.Hour)
	w.await(id, store.Expired)
	rec.await(t, notify.Expired, id)
}

// Those who guard can end a request, with their reason; those who do not can
// only keep their own vote.
func TestLeakNobodyCanSayNo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{charter: func(w *world, c *charter.Charter) {
		erin := w.join("erin", credentialtest.SSH("erin"))
		c.People["erin"] = charter.Person{Credentials: []charter.Credential{charter.CredentialOf(erin.Signer.Credential())}}
		r := c.Groups["release"]
		r.Members = append(r.Members, "erin")
		c.Groups["release"] = r
	}})
	say := func(who string, env []byte, v statement.Verdict, why string) (*store.Request, error) {
		return w.server.Endorse(w.ctx, w.verdict(who, env, v, why))
	}

	// Security has a veto: one is enough, whatever the others say, before or after.
	items := w.items("vetoed")
	env := w.ask("alice", "release", items)
	id := w.submit(env, items).ID
	w.endorse(env, "bob", "carol")
	no := w.verdict("dave", env, statement.Disapprove, "it calls home")
	r, err := w.server.Endorse(w.ctx, no)
	check(t, err)
	if r.State != store.Disapproved || !strings.Contains(r.Detail, "it calls home") || !strings.Contains(r.Detail, "dave") {
		t.Errorf("%s: %s", r.State, r.Detail)
	}
	if _, err := say("scanner", env, statement.Endorse, ""); server.AsProblem(err).Code != "request-closed" {
		t.Errorf("endorsed after a veto: %v", err)
	}
	w.denied("the keeper, shown a veto", env, items, append(w.everyone(env), no)...)
	w.denied("the keeper, shown a veto first", env, items, append([][]byte{no}, w.everyone(env)...)...)
	if r, err := w.server.Get(w.ctx, id); err != nil || r.State != store.Disapproved {
		t.Errorf("%v, %v", r.State, err)
	}

	// An angry person elsewhere keeps his vote, and blocks nobody.
	items = w.items("not vetoed")
	env = w.ask("alice", "release", items)
	w.submit(env, items)
	if r, err = say("erin", env, statement.Disapprove, "I am angry"); err != nil || r.State != store.Pending {
		t.Fatalf("a disapproval without a veto: %v, %v", r, err)
	}
	if _, err := say("inspector", env, statement.Disapprove, "I am angry too"); err == nil {
		t.Error("somebody who is not asked disapproved")
	}
	// What he says counts as not said when somebody else says it.
	if r := w.endorse(env, "bob", "carol", "scanner"); r.State == store.Pending {
		t.Errorf("blocked by one of release: %s", r.Detail)
	}
	w.await(idOf(t, env), store.Executed)

	// Who takes back his word is heard.
	items = w.items("taken back")
	env = w.ask("alice", "release", items)
	w.submit(env, items)
	w.endorse(env, "erin", "carol")
	w.pass(2 * time.Second)
	if r, err = say("erin", env, statement.Disapprove, "on second thoughts"); err != nil || r.State != store.Pending {
		t.Fatal(err)
	}
	if r := w.endorse(env, "scanner"); r.State != store.Pending {
		t.Errorf("with a vote that was taken back: %s", r.State)
	}
	w.endorse(env, "bob")
	w.await(idOf(t, env), store.Executed)
}

// dsns are the databases that tests about the store run on.
func dsns(t *testing.T) map[string]string {
	return map[string]string{"sqlite": "", "postgres": pgtest.Start(t).Database()}
}

// The same artifacts under the same policy are one request, however often and
// however simultaneously they are handed in, by whomever.
func TestLeakRerunMakesASecondRequest(t *testing.T) {
	t.Parallel()
	for name, dsn := range dsns(t) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{dsn: dsn})
			items := w.items("build 17", "and its symbols")
			var wg sync.WaitGroup
			ids := make([]statement.ID, 12)
			fresh := make([]bool, len(ids))
			for i := range ids {
				env := w.ask([]string{"alice", "bob"}[i%2], "release", items)
				wg.Go(func() {
					r, attached, err := w.server.Submit(w.ctx, env, items)
					if err != nil {
						t.Error(err)
						return
					}
					ids[i], fresh[i] = r.ID, !attached
				})
			}
			wg.Wait()
			n := 0
			for i := range ids {
				if ids[i] != ids[0] {
					t.Errorf("submission %d made another request", i)
				}
				if fresh[i] {
					n++
				}
			}
			list, err := w.server.List(w.ctx, store.Filter{States: []store.State{store.Pending}})
			check(t, err)
			if n != 1 || len(list) != 1 {
				t.Fatalf("%d submissions made a request, %d are open", n, len(list))
			}
			env := list[0].Envelope
			names := []string{"bob", "carol", "scanner"}
			if list[0].Requester == "bob" {
				names[0] = "alice"
			}
			w.endorse(env, names...)
			// A re-run of the same submission after the end finds it, too.
			w.await(ids[0], store.Executed)
			r, attached, err := w.server.Submit(w.ctx, env, items)
			if err != nil || !attached || r.State != store.Executed {
				t.Errorf("the same submission again: %v, %v", attached, err)
			}
			if n := w.signedBy("release"); n != 1 {
				t.Errorf("%d executions", n)
			}
			// Other bytes are another request; so are the same under another policy.
			for what, env := range map[string][]byte{"other bytes": w.ask("alice", "release", w.items("build 18")), "another policy": w.ask("alice", "inspected", items)} {
				it := items
				if what == "other bytes" {
					it = w.items("build 18")
				}
				_, attached, err := w.server.Submit(w.ctx, env, it)
				if attached || err != nil && server.AsProblem(err).Code != "uploads-off" {
					t.Errorf("%s: attached %v, %v", what, attached, err)
				}
			}
		})
	}
}

// A result is kept: whoever submitted can go away, come back after a restart of
// everything, and collect as often as he likes.
func TestLeakResultIsLost(t *testing.T) {
	t.Parallel()
	for name, dsn := range dsns(t) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{dsn: dsn, stamps: true})
			items := w.items("one", "two")
			env := w.ask("alice", "release", items)
			id := w.submit(env, items).ID
			if _, err := w.server.Collect(w.ctx, id); server.AsProblem(err).Code != "not-executed" {
				t.Errorf("collected early: %v", err)
			}
			// Whoever waits may give up: nothing is undone by it.
			var r *store.Request
			err := context.DeadlineExceeded
			for wait := 10 * time.Millisecond; errors.Is(err, context.DeadlineExceeded) && w.ctx.Err() == nil; wait *= 2 { // before he has even seen it
				short, cancel := context.WithTimeout(w.ctx, wait)
				r, err = w.server.Await(short, id, 1)
				cancel()
			}
			if err != nil || r.State != store.Pending {
				t.Fatalf("%v, %v", r, err)
			}
			w.restart()
			w.endorse(env, "bob", "carol")
			w.restart()
			w.endorse(env, "scanner")
			w.await(id, store.Executed)
			first, err := w.server.Collect(w.ctx, id)
			check(t, err)
			w.restart()
			for range 2 {
				again, err := w.server.Collect(w.ctx, id)
				check(t, err)
				if !bytes.Equal(again.Receipt, first.Receipt) || !slices.EqualFunc(again.Signatures, first.Signatures, func(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }) {
					t.Error("another result than before")
				}
				w.published()
				for i, content := range []string{"one", "two"} {
					ev, err := w.server.Evidence(w.ctx, id, i)
					check(t, err)
					_, err = finish(w, again, ev, i, items[i], content)
					check(t, err)
				}
			}
			// The keeper has it as well, should the database lose it.
			_, err = w.db.Exec("DELETE FROM receipts")
			check(t, err)
			_, err = w.db.Exec("DELETE FROM results")
			check(t, err)
			before := w.soft.used("soft:release")
			rc, out, err := w.keeperSays(env, items, w.everyone(env)...)
			check(t, err)
			if rc.Outcome != statement.Executed || !bytes.Equal(out.Receipt, first.Receipt) || w.soft.used("soft:release") != before {
				t.Error("the keeper gave another answer than the first time")
			}
			w.broken = true // receipts are entered a second time: the log says so
		})
	}
}

// Rows in which the attacker writes what he likes are not endorsements.
func TestLeakApprovalIsADatabaseRow(t *testing.T) {
	t.Parallel()
	for name, dsn := range dsns(t) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{dsn: dsn, idle: true})
			mallory := credentialtest.SSH("mallory")
			good := w.items("harmless")
			genuine := w.ask("alice", "release", good)
			w.submit(genuine, good)
			w.endorse(genuine, "bob", "carol")

			items := w.items("malware")
			env := w.ask("alice", "release", items)
			id := w.submit(env, items).ID
			req, _ := decode[statement.Request](t, env)
			insert := func(request statement.ID, seq int, who string, envelope []byte) {
				e := idOf(t, envelope)
				_, err := w.db.Exec(`INSERT INTO endorsements (request, seq, id, envelope, endorser, verdict, arrived) VALUES ($1, $2, $3, $4, $5, 'endorse', 1)`,
					request[:], seq, e[:], envelope, who)
				check(t, err)
			}
			try := func(what string) {
				t.Helper()
				_, err := w.db.Exec(`UPDATE requests SET state = 'endorsed', code = '' WHERE id = $1`, id[:])
				check(t, err)
				before := w.soft.used("soft:release")
				_ = w.server.Execute(w.ctx, id)
				r, err := w.server.Get(w.ctx, id)
				check(t, err)
				if n := w.soft.used("soft:release") - before; n != 0 || r.State == store.Executed || w.signedBy("release") != 0 {
					t.Errorf("%s: the request is %s, the key was used %d times", what, r.State, n)
				}
			}
			try("a state")
			// Signed by the attacker in the names of others.
			for i, who := range []string{"bob", "carol", "scanner"} {
				a := &author.Author{Name: who, Signer: mallory, Now: w.now}
				b, err := a.Endorsement(w.ctx, &req, id, statement.Endorse, "", 0, nil)
				check(t, err)
				insert(id, 10+i, who, b)
			}
			try("forged endorsements")
			// Genuine ones, of another request.
			_, err := w.db.Exec(`UPDATE endorsements SET request = $1 WHERE request = $2`, id[:], idBytes(t, genuine))
			check(t, err)
			try("endorsements of another request")
			// The genuine request's row, with other items under it.
			_, err = w.db.Exec(`DELETE FROM endorsements`)
			check(t, err)
			insert(id, 20, "bob", w.endorsement("bob", genuine))
			_, err = w.db.Exec(`UPDATE requests SET envelope = $1 WHERE id = $2`, genuine, id[:])
			check(t, err)
			try("the envelope of another request")
			// A whole policy in columns.
			_, err = w.db.Exec(`UPDATE requests SET envelope = $1, policy = 'nightly', requester = 'scanner', receipt = 1 WHERE id = $2`, env, id[:])
			check(t, err)
			try("policy and requester")
		})
	}
}

func idBytes(t *testing.T, envelope []byte) []byte {
	id := idOf(t, envelope)
	return id[:]
}

// The intent is durable before the key is used, receipts are chained, and what is
// taken out of the log or changed in it is found by whoever reads it, or has read it before.
func TestLeakAuditAfterTheFact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	items := w.items("watched", "twice")
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	w.endorse(env, "bob", "carol")
	var seen []string
	var mu sync.Mutex
	w.soft.mu.Lock()
	w.soft.see = func(uri key.URI) {
		if uri == "soft:release" {
			mu.Lock()
			seen = append(seen, w.standsInLedger(idOf(t, env)))
			mu.Unlock()
		}
	}
	w.soft.mu.Unlock()
	w.endorse(env, "scanner")
	w.await(idOf(t, env), store.Executed)
	w.soft.mu.Lock()
	w.soft.see = nil
	w.soft.mu.Unlock()
	if !slices.Equal(seen, []string{"intent", "intent"}) {
		t.Errorf("when the key was used the ledger held %v: want the intent", seen)
	}
	if s := w.standsInLedger(idOf(t, env)); s != "outcome" {
		t.Errorf("afterwards it holds %s", s)
	}
	w.receipts()

	// Somebody keeps the head; the attacker edits.
	w.sign(w.items("another"))
	w.published()
	old := w.judgeLog(verify.LogOptions{})
	if !old.OK() {
		t.Fatal(old.Problems)
	}
	w.sign(w.items("and one more"))
	w.published()
	if r := w.judgeLog(verify.LogOptions{OldHead: []byte(old.Checkpoint)}); !r.OK() {
		t.Fatal(r.Problems)
	}
	w.halt()
	w.broken = true
	st, err := store.Open(w.ctx, w.o.dsn)
	check(t, err)
	t.Cleanup(func() { st.Close() })
	w.store = st
	bundle, err := st.ReadBundle(w.ctx, 0, int(old.Size))
	check(t, err)
	entries, err := audit.ParseBundle(bundle, int(old.Size))
	check(t, err)
	var whole []byte
	var width int
	check(t, w.db.QueryRow(`SELECT w, data FROM log_tiles WHERE level = -1 AND n = 0`).Scan(&width, &whole))
	write := func(data []byte, n int) {
		_, err := w.db.Exec(`UPDATE log_tiles SET w = $1, data = $2 WHERE level = -1 AND n = 0`, n, data)
		check(t, err)
	}
	for i := range entries {
		changed := bytes.Clone(whole)
		at := bytes.Index(changed, entries[i])
		changed[at+len(entries[i])-1] ^= 1
		write(changed, width)
		if r := w.judgeLog(verify.LogOptions{}); r.OK() || !slices.ContainsFunc(r.Problems, func(p verify.Problem) bool { return p.Code == verify.ProblemTree }) {
			t.Errorf("entry %d was changed, and the log is said to be good: %v", i, r.Problems)
		}
	}
	write(whole, width)

	// The tree made anew without one entry, which needs a checkpoint that the
	// keeper does not sign.
	all, err := audit.ParseBundle(whole, width)
	check(t, err)
	short := slices.Delete(slices.Clone(all), len(all)/2, len(all)/2+1)
	b, err := audit.Integrate(w.ctx, st, audit.EmptyTree(), short)
	check(t, err)
	for _, x := range b.Tiles {
		_, err := w.db.Exec(`UPDATE log_tiles SET w = $1, data = $2 WHERE level = $3 AND n = $4`, x.Tile.W, x.Data, x.Tile.L, x.Tile.N)
		check(t, err)
	}
	write(b.Bundles[0].Data, b.Bundles[0].W)
	_, err = w.db.Exec(`UPDATE log_head SET size = $1, root = $2`, b.Tree.Size, b.Tree.Root[:])
	check(t, err)
	if w.logStands(verify.LogOptions{}) {
		t.Error("an entry was taken out, and the log is said to be good")
	}
	if w.logStands(verify.LogOptions{OldHead: []byte(old.Checkpoint)}) {
		t.Error("an entry was taken out, and the log is said to extend what it was")
	}
	if err := w.tryStart(); err == nil {
		// It starts, but gets no new head from the keeper.
		time.Sleep(300 * time.Millisecond)
		if h, err := w.store.Head(w.ctx); err == nil && h.Signed == b.Tree.Size && h.Signed == h.Tree.Size {
			t.Error("the keeper signed a log from which something was taken")
		}
	}
}

// standsInLedger reads the keeper's ledger as a stranger, and says what the last
// record about a request is.
func (w *world) standsInLedger(id statement.ID) string {
	b, err := os.ReadFile(filepath.Join(w.dir, "keeper", "ledger"))
	check(w, err)
	path := filepath.Join(w.TempDir(), "copy")
	check(w, os.WriteFile(path, b, 0o600))
	found := "nothing"
	l, err := ledger.OpenFile(path, ledger.Options{Replay: func(_ int64, r ledger.Record) error {
		switch {
		case r.Type == 3 && bytes.Contains(r.Body, id[:]):
			found = "intent"
		case r.Type == 4:
			var v struct {
				Receipt      []byte   `cbor:"1,keyasint"`
				Result       []byte   `cbor:"2,keyasint"`
				URI          string   `cbor:"3,keyasint"`
				Request      []byte   `cbor:"4,keyasint"`
				Endorsements [][]byte `cbor:"5,keyasint"`
			}
			if err := format.Decode(r.Body, &v); err != nil {
				return err
			}
			if rc, _ := decode[statement.Receipt](w, v.Receipt); rc.Request == id {
				found = "outcome"
			}
		}
		return nil
	}})
	check(w, err)
	check(w, l.Close())
	return found
}
