package attacks

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the attacker's own hand on the database
	_ "modernc.org/sqlite"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/stamp"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

const passphrase = "an attacker does not know this"

// counted is the keystore, with an eye on the use of every key.
type counted struct {
	*soft.Provider
	mu   sync.Mutex
	uses map[key.URI]int
	see  func(uri key.URI) // before each use
}

type countedKey struct {
	key.Key
	p   *counted
	uri key.URI
}

func (p *counted) Open(ctx context.Context, uri key.URI) (key.Key, error) {
	k, err := p.Provider.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	return countedKey{k, p, uri}, nil
}

func (p *counted) Generate(ctx context.Context, uri key.URI, a sigalg.Key) (key.Key, error) {
	k, err := p.Provider.Generate(ctx, uri, a)
	if err != nil {
		return nil, err
	}
	return countedKey{k, p, uri}, nil
}

func (k countedKey) Sign(ctx context.Context, s sigalg.Scheme, input []byte) ([]byte, error) {
	k.p.mu.Lock()
	k.p.uses[k.uri]++
	see := k.p.see
	k.p.mu.Unlock()
	if see != nil {
		see(k.uri)
	}
	return k.Key.Sign(ctx, s, input)
}

// used is how often a key signed.
func (p *counted) used(uri key.URI) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.uses[uri]
}

// options of a world.
type options struct {
	dsn     string // default: SQLite in the world's folder
	charter func(w *world, c *charter.Charter)
	server  func(c *server.Config)
	stamps  bool
	idle    bool // the server does no background work
}

// world is one deployment.
type world struct {
	*testing.T
	ctx    context.Context
	o      options
	dir    string
	offset *atomic.Int64
	people *trial.Trial
	ref    statement.CharterRef

	soft   *counted
	local  *keeper.Local
	keeper keeper.Keeper // what the server, and an attacker in its place, has of it
	hang   func()        // ends the wire

	store  *store.SQL
	db     *sql.DB // the attacker's
	server *server.Server
	stop   func()

	broken bool            // the test has damaged the log
	beside map[string]bool // requests of which the keeper was told and the server was not
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

// pass lets time pass for everybody.
func (w *world) pass(d time.Duration) { w.offset.Add(int64(d)) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld founds a deployment with two keys, and checks at the end that it is
// sound.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	w := newUnfounded(t, o)
	w.closeKeeper()
	w.openKeeper()
	check(t, w.keeper.Found(w.ctx, w.people.Found))
	if w.o.dsn == "" {
		w.o.dsn = "sqlite:" + filepath.Join(w.dir, "greatseal.db")
	}
	w.db = openDB(t, w.o.dsn)
	w.start()
	t.Cleanup(w.end)
	check(t, w.people.MakeKeys(w.ctx, w.server))
	return w
}

// lasting ends a little before the test binary does: it ends what hangs, with a
// message, and nothing that is only slow because the machine has much to do.
func lasting(t testing.TB) (context.Context, context.CancelFunc) {
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := d.Deadline(); ok {
			return context.WithDeadline(context.Background(), end.Add(-time.Until(end)/20))
		}
	}
	return context.WithCancel(context.Background())
}

// newUnfounded is a keeper that has no charter yet, and people who have drafted one.
func newUnfounded(t *testing.T, o options) *world {
	t.Helper()
	ctx, cancel := lasting(t)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, o: o, dir: t.TempDir(), offset: new(atomic.Int64), beside: map[string]bool{}}
	sp, err := soft.Create(filepath.Join(w.dir, "keystore"), []byte(passphrase))
	check(t, err)
	t.Cleanup(func() { sp.Close() })
	w.soft = &counted{Provider: sp, uses: map[key.URI]int{}}
	check(t, keeper.Init(ctx, w.keeperConfig(statement.ID{})))
	w.openKeeper()
	st := w.status()
	w.people, err = trial.New(ctx, w.dir, st, trial.Options{Deployment: "trial", Timestamps: o.stamps, Now: w.now,
		Keys: []trial.KeySpec{{Name: "release", URI: "soft:release", Algorithm: sigalg.P256}, {Name: "other", URI: "soft:other", Algorithm: sigalg.P256}}})
	check(t, err)
	if o.charter != nil {
		o.charter(w, w.people.Charter)
		w.found()
	}
	w.ref = w.people.Ref()
	return w
}

func (w *world) status() *keeper.Status {
	w.Helper()
	st, err := w.keeper.Status(w.ctx)
	check(w, err)
	return st
}

// found signs the founding charter anew, after it was changed.
func (w *world) found() {
	w.Helper()
	payload, err := charter.Encode(w.people.Charter)
	check(w, err)
	w.people.Root = charter.ID(payload)
	w.people.Found = w.envelope(payload, "alice", "carol", "dave")
}

// envelope is a payload with the signatures of people.
func (w *world) envelope(payload []byte, names ...string) []byte {
	w.Helper()
	env := &statement.Envelope{Payload: payload}
	for _, n := range names {
		env.Signatures = append(env.Signatures, w.signature(w.people.People[n].Signer, payload))
	}
	b, err := env.Encode()
	check(w, err)
	return b
}

func (w *world) signature(s credential.Signer, payload []byte) statement.Signature {
	w.Helper()
	sig, err := s.Sign(w.ctx, credential.Statement, statement.PAE(payload))
	check(w, err)
	return statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig}
}

// join gives somebody new a signer.
func (w *world) join(name string, s credential.Signer) *author.Author {
	a := &author.Author{Name: name, Signer: s, Now: w.now, Rand: rand.Reader}
	w.people.People[name] = a
	return a
}

func (w *world) keeperConfig(pin statement.ID) keeper.Config {
	return keeper.Config{Dir: filepath.Join(w.dir, "keeper"), Providers: map[string]key.Provider{"soft": w.soft}, Formats: all.Formats(),
		ReceiptKey: "soft:keeper-receipts", LogKey: "soft:keeper-log", Pin: pin, Clock: w.now, Rand: rand.Reader}
}

// openKeeper starts the keeper behind a Unix socket, and connects to it.
func (w *world) openKeeper() {
	w.Helper()
	var pin statement.ID
	if w.people != nil {
		pin = w.people.Root
	}
	var err error
	w.local, err = keeper.Open(w.ctx, w.keeperConfig(pin))
	check(w, err)
	dir, err := os.MkdirTemp("", "gs") // short: the path of a socket has 108 bytes
	check(w, err)
	path := filepath.Join(dir, "k")
	var ln net.Listener
	ln, err = wire.Listen(path)
	check(w, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- wire.Server{Keeper: w.local, UIDs: []uint32{uint32(os.Geteuid())}}.Serve(ctx, ln)
	}()
	w.keeper, err = wire.Dial(w.ctx, wire.Config{Network: "unix", Address: path, Backoff: 50 * time.Millisecond})
	check(w, err)
	w.hang = func() {
		w.keeper.Close()
		cancel()
		<-done
		os.RemoveAll(dir)
	}
}

func (w *world) closeKeeper() {
	if w.local != nil {
		w.hang()
		w.local.Close()
		w.local = nil
	}
}

func openDB(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	driver, name := "pgx", dsn
	if path, ok := cutSQLite(dsn); ok {
		driver, name = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, name)
	check(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func cutSQLite(dsn string) (string, bool) {
	const p = "sqlite:"
	if len(dsn) > len(p) && dsn[:len(p)] == p {
		return dsn[len(p):], true
	}
	return "", false
}

func (w *world) config() server.Config {
	c := server.Config{Store: w.store, Keeper: w.keeper, Formats: all.Formats(), Pin: w.people.Root,
		Stamper: &stamp.Stamper{Keeper: w.keeper}, Clock: w.now, Logger: slog.New(slog.DiscardHandler)}
	if w.o.server != nil {
		w.o.server(&c)
	}
	return c
}

// start starts the server on its database.
func (w *world) start() {
	w.Helper()
	check(w, w.tryStart())
}

func (w *world) tryStart() error {
	var err error
	if w.store, err = store.Open(w.ctx, w.o.dsn); err != nil {
		return err
	}
	if w.server, err = server.New(w.ctx, w.config()); err != nil {
		w.store.Close()
		w.store = nil
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	if w.o.idle {
		close(done)
	} else {
		s := w.server
		go func() { s.Run(ctx); close(done) }()
	}
	w.stop = func() { cancel(); <-done; w.store.Close(); w.stop = nil }
	return nil
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
	}
}

// restart ends server and keeper and starts both from what is on disk.
func (w *world) restart() {
	w.Helper()
	w.halt()
	w.closeKeeper()
	w.openKeeper()
	w.start()
}

func (w *world) end() {
	if w.stop != nil && !w.Failed() {
		w.sound()
	}
	w.halt()
	w.closeKeeper()
}

// item plans a file and encodes it as item of a request.
func (w *world) item(f, name, content string) ([]byte, *format.Plan) {
	w.Helper()
	ff, ok := all.ByName(f)
	if !ok {
		w.Fatalf("no format %s", f)
	}
	p, err := ff.Plan(w.ctx, format.BytesArtifact(name, []byte(content)), format.Params{})
	check(w, err)
	b, err := author.Item(p, name, nil)
	check(w, err)
	return b, p
}

func (w *world) items(contents ...string) [][]byte {
	w.Helper()
	var out [][]byte
	for i, c := range contents {
		b, _ := w.item("cms", fmt.Sprintf("file-%d.bin", i), c)
		out = append(out, b)
	}
	return out
}

func (w *world) signCommand(policy string, items [][]byte) statement.Command {
	w.Helper()
	cmd, err := author.SignCommand(w.people.Charter, policy, "", items)
	check(w, err)
	return cmd
}

// request is somebody's signed request.
func (w *world) request(who string, cmd statement.Command) []byte {
	w.Helper()
	env, _, err := w.people.People[who].Request(w.ctx, w.people.Charter, w.ref, cmd, author.RequestOptions{})
	check(w, err)
	return env
}

func (w *world) ask(who, policy string, items [][]byte) []byte {
	w.Helper()
	return w.request(who, w.signCommand(policy, items))
}

func decode[P statement.Predicate](t testing.TB, envelope []byte) (P, statement.ID) {
	t.Helper()
	e, err := statement.DecodeEnvelope(envelope)
	check(t, err)
	p, err := statement.Decode[P](e.Payload)
	check(t, err)
	return p, e.ID()
}

func idOf(t testing.TB, envelope []byte) statement.ID {
	t.Helper()
	e, err := statement.DecodeEnvelope(envelope)
	check(t, err)
	return e.ID()
}

// verdict is somebody's signed verdict on a request.
func (w *world) verdict(who string, request []byte, v statement.Verdict, comment string) []byte {
	w.Helper()
	req, id := decode[statement.Request](w, request)
	b, err := w.people.People[who].Endorsement(w.ctx, &req, id, v, comment, 0, nil)
	check(w, err)
	return b
}

func (w *world) endorsement(who string, request []byte) []byte {
	w.Helper()
	return w.verdict(who, request, statement.Endorse, "")
}

func (w *world) submit(envelope []byte, items [][]byte) *store.Request {
	w.Helper()
	r, attached, err := w.server.Submit(w.ctx, envelope, items)
	check(w, err)
	if attached || r.ID != idOf(w, envelope) {
		w.Fatal("attached to another request")
	}
	return r
}

func (w *world) endorse(request []byte, names ...string) *store.Request {
	w.Helper()
	var r *store.Request
	for _, n := range names {
		var err error
		if r, err = w.server.Endorse(w.ctx, w.endorsement(n, request)); err != nil {
			w.Fatalf("%s: %v", n, err)
		}
	}
	return r
}

// refused wants the server to refuse an endorsement.
func (w *world) refused(what string, endorsement []byte) {
	w.Helper()
	r, err := w.server.Endorse(w.ctx, endorsement)
	if err == nil {
		w.Errorf("%s: the server took it: the request is %s", what, r.State)
	} else if p := server.AsProblem(err); p.Code == "internal" {
		w.Errorf("%s: %v", what, err)
	}
}

// await waits until a request is in a state.
func (w *world) await(id statement.ID, want store.State) *store.Request {
	w.Helper()
	ctx := w.ctx
	for {
		r, err := w.server.Get(w.ctx, id)
		check(w, err)
		if r.State == want {
			return r
		}
		if ctx.Err() != nil || !r.State.Open() {
			w.Fatalf("request is %s, not %s: %s", r.State, want, r.Detail)
		}
		w.server.Await(ctx, id, r.Revision)
	}
}

// sign goes the whole way and returns the request.
func (w *world) sign(items [][]byte) []byte {
	w.Helper()
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	w.endorse(env, "bob", "carol", "scanner")
	w.await(idOf(w, env), store.Executed)
	return env
}

// do requests a command as alice and has carol and dave endorse it.
func (w *world) do(cmd statement.Command) *store.Request {
	w.Helper()
	env := w.request("alice", cmd)
	w.submit(env, nil)
	rule := w.people.Charter.Commands[cmd.Name]
	if rule.Quorum != nil {
		w.endorse(env, []string{"carol", "dave"}[:rule.Quorum.Needs()]...)
	}
	return w.await(idOf(w, env), store.Executed)
}

// next drafts the charter that follows.
func (w *world) next(edit func(c *charter.Charter)) (*charter.Charter, []byte) {
	w.Helper()
	c, err := charter.Next(w.people.Charter, w.ref, w.now())
	check(w, err)
	edit(c)
	payload, err := charter.Encode(c)
	check(w, err)
	return c, payload
}

// replace brings the next charter into force.
func (w *world) replace(edit func(c *charter.Charter)) {
	w.Helper()
	c, payload := w.next(edit)
	w.do(statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
	w.people.Charter, w.ref = c, c.Ref(payload)
}

// keeperSays hands an order to the keeper, as somebody would who has the
// server's host, and returns what becomes of it.
func (w *world) keeperSays(request []byte, items [][]byte, endorsements ...[]byte) (*statement.Receipt, *keeper.Outcome, error) {
	w.Helper()
	out, err := w.keeper.Execute(w.ctx, &keeper.Order{Evidence: quorum.Evidence{Request: request, Endorsements: endorsements}, Items: items})
	if err != nil {
		return nil, nil, err
	}
	st := w.status()
	rc, _, err := receipt.Verify(st.ReceiptKey, out.Receipt)
	check(w, err)
	if _, err := w.store.Request(w.ctx, rc.Request); errors.Is(err, store.ErrNotFound) {
		w.beside[rc.Request.String()] = true
	}
	return rc, out, nil
}

// denied wants the keeper to sign nothing for an order.
func (w *world) denied(what string, request []byte, items [][]byte, endorsements ...[]byte) {
	w.Helper()
	before := w.soft.used("soft:release") + w.soft.used("soft:other")
	rc, out, err := w.keeperSays(request, items, endorsements...)
	switch {
	case err != nil:
		if !errors.Is(err, keeper.ErrMalformed) && !errors.Is(err, keeper.ErrLimit) {
			w.Errorf("%s: %v", what, err)
		}
	case rc.Outcome != statement.Refused || rc.Code == "" || len(out.Signatures) > 0:
		w.Errorf("%s: the keeper executed it", what)
	}
	if n := w.soft.used("soft:release") + w.soft.used("soft:other") - before; n != 0 {
		w.Errorf("%s: keys were used %d times", what, n)
	}
}

// everyone is what a stolen server would send along: endorsements of everybody
// who has a say, made for request.
func (w *world) everyone(request []byte) [][]byte {
	w.Helper()
	return [][]byte{w.endorsement("bob", request), w.endorsement("carol", request), w.endorsement("scanner", request)}
}

// leftBehind is a little more than how long a server leaves a request alone that
// the keeper has just refused.
const leftBehind = 6 * time.Second

// in is the world under a subtest.
func (w *world) in(t *testing.T) *world {
	return &world{T: t, ctx: w.ctx, o: w.o, dir: w.dir, offset: w.offset, people: w.people, ref: w.ref, soft: w.soft, local: w.local, keeper: w.keeper,
		store: w.store, db: w.db, server: w.server, beside: w.beside}
}
