package attacks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/stamp"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// harmless are the columns of which an edit can go unnoticed, and why it does no
// harm beyond what the server shows or when it works. Every other edit of any
// column is noticed by somebody who need not trust the server: by a client that
// checks what it is given, by whoever reads the log, or by the server when it
// starts; and none of any column makes the keeper sign.
var harmless = map[string]string{
	"requests.id":       "a request that is lost under its name is not executed; its requester misses it",
	"requests.envelope": "of a request that is over and signed nothing: the log has it as it was",
	"requests.revision": "orders changes; no more",
	"requests.command":  "for searching and for messages: what is judged, shown and executed is the envelope's",
	"requests.digest":   "a repeated submission finds the open request by it, or makes a second one, which needs its own quorum",
	"requests.policy":   "as command; a wrong one can lose timestamps, which the client misses",
	"requests.key":      "as command",
	"requests.requester": "as command; who withdraws signs for it with a credential of whom the row names, " +
		"and the log names who it was",
	"requests.count":   "for display and search",
	"requests.upload":  "whether uploads are taken; whether they are needed is the quorum's",
	"requests.state":   "what is shown, and what is tried: the keeper judges for itself",
	"requests.code":    "for display",
	"requests.detail":  "for display",
	"requests.created": "for searching",
	"requests.updated": "when an execution is tried again",
	"requests.expires": "when the server gives up: the keeper goes by the envelope",
	"requests.receipt": "for display and search: results carry their receipt",
	"requests.sent":    "whether it can still be withdrawn: of one that is marked the keeper is asked, and says what it is; of one that is not, decision 20 does not hold, as with a stolen server",

	"items.request": "of a request that is still open: without its items it is not executed",
	"items.chunk":   "order of chunks; one is always the first",
	"items.data":    "of a request that is still open: endorsers' tools and the keeper compare the root, and refuse",

	"files.request": "for searching", "files.idx": "for searching; an upload of another size than the plan's is not endorsed by the inspector",
	"files.name": "for searching", "files.format": "for searching", "files.digest": "for searching",
	"files.content": "for searching", "files.size": "as idx", "files.version": "for searching",
	"files.product": "for searching", "files.publisher": "for searching", "files.also": "for searching",

	"endorsements.request":  "an endorsement counts for the request that it names, wherever it stands; without it a request waits",
	"endorsements.seq":      "order, of a request that is open: the keeper counts the same in any",
	"endorsements.id":       "an endorsement that arrives twice is found by it; twice it counts once",
	"endorsements.envelope": "of a request that is not executed: one that does not verify does not count",
	"endorsements.endorser": "for display and search",
	"endorsements.verdict":  "for display",
	"endorsements.arrived":  "for display",

	"receipts.number":   "one that is missing is fetched from the keeper again; the last is shown to it",
	"receipts.request":  "for searching",
	"receipts.outcome":  "for searching",
	"receipts.time":     "for searching",
	"receipts.envelope": "results and the log have it as it was",

	"results.request": "of a command that gave nothing to collect, the keeper's answer is in the log",
	"results.data":    "of a command that gave nothing to collect, the keeper's answer is in the log",

	"timestamps.idx":   "a timestamp that is missing, or another signature's, is not in the file",
	"timestamps.token": "a token that does not verify is refused by whoever attaches or verifies it",

	"log_waiting.id":      "the order in which the log takes what has just arrived",
	"log_waiting.kind":    "for searching", // the entry itself says what it is
	"log_waiting.request": "for searching",
	"log_waiting.time":    "for searching",
	"log_waiting.data":    "what is not yet in the log can be kept out of it by whoever has the server; receipts cannot, for their numbers would have a gap",

	"log_entries.idx": "for searching: proofs are made of the tiles", "log_entries.kind": "as idx",
	"log_entries.request": "as idx", "log_entries.time": "as idx",
	"log_tiles.w":     "a tile that is said to be shorter or wider is missing or malformed for its readers",
	"log_head.size":   "the tree as the sequencer goes on; what was signed is in the note",
	"log_head.root":   "as size: the next head does not follow, and the keeper refuses it",
	"log_head.signed": "when the next head is asked for",

	"jobs.id": "names a job", "jobs.kind": "what is done next: messages and timestamps", "jobs.ref": "as kind", "jobs.payload": "a message, which commits nobody",
	"jobs.run_at": "when", "jobs.attempts": "how often", "jobs.error": "for display",

	"uploads.request": "progress of an upload; the inspector compares the bytes", "uploads.idx": "as request",
	"uploads.size": "as request", "uploads.received": "as request", "uploads.done": "as request",

	"tokens.hash": "who may read and hand in; nobody endorses or requests by it", "tokens.id": "as hash", "tokens.principal": "as hash",
	"tokens.scopes": "as hash", "tokens.created": "as hash", "tokens.expires": "as hash",
	"tokens.credential": "with which key a session was begun: another one ends it, or lets it last until it expires; nobody endorses or requests by it",

	"secrets.name": "whose value it is", "secrets.value": "challenges for logins are made with it; a login takes a signature",
	"used.hash": "a login's challenge that was used; another one is given to everybody", "used.expires": "when it is forgotten, after it has ended",
}

// prepared is a deployment with a row in every table, and what was true of it.
type prepared struct {
	w        *world
	ledger   []byte
	receipts uint64
	executed statement.ID
	items    [][]byte
	contents []string
	open     []statement.ID
	old      string // checkpoint

	// The files that were finished, by all that verifying them depends on: most
	// variants give the client the same bytes.
	finished sync.Map // of [32]byte: *verify.Verified
}

func prepare(t *testing.T, dsn string) *prepared {
	t.Helper()
	w := newWorld(t, options{dsn: dsn, stamps: true})
	w.broken = true
	p := &prepared{w: w, contents: []string{"first", "second"}}
	p.items = w.items(p.contents...)
	env := w.sign(p.items)
	p.executed = idOf(t, env)
	for ; ; time.Sleep(20 * time.Millisecond) { // ends: w.ctx does
		res, err := w.server.Collect(w.ctx, p.executed)
		check(t, err)
		if len(res.Timestamps) == len(p.items) {
			break
		}
	}
	pending := w.ask("alice", "release", w.items("pending"))
	w.submit(pending, w.items("pending"))
	w.endorse(pending, "bob")
	// An endorsement that is too long for the log stands beside it.
	req, id := decode[statement.Request](t, pending)
	long := map[string]string{}
	for i := range 20 {
		long[fmt.Sprintf("finding-%d", i)] = strings.Repeat("x", 4000)
	}
	b, err := w.people.People["scanner"].Endorsement(w.ctx, &req, id, statement.Endorse, "", 0, long)
	check(t, err)
	_, err = w.server.Endorse(w.ctx, b)
	check(t, err)
	vetoed := w.ask("alice", "release", w.items("vetoed"))
	w.submit(vetoed, w.items("vetoed"))
	_, err = w.server.Endorse(w.ctx, w.verdict("carol", vetoed, statement.Disapprove, "no"))
	check(t, err)
	// Endorsed by everybody, and not before tomorrow.
	later, _, err := w.people.People["alice"].Request(w.ctx, w.people.Charter, w.ref, w.signCommand("release", w.items("later")), author.RequestOptions{NotBefore: w.now().Add(24 * time.Hour)})
	check(t, err)
	w.submit(later, w.items("later"))
	if r := w.endorse(later, "bob", "carol", "scanner"); r.State != store.Endorsed {
		t.Fatal(r.State)
	}
	p.open = []statement.ID{idOf(t, pending), idOf(t, vetoed), idOf(t, later)}
	check(t, w.store.PutUpload(w.ctx, store.Upload{Request: id, Index: 0, Size: 5, Received: 2}))
	w.plant("alice", []string{"read"})
	_, err = w.store.Secret(w.ctx, "login-challenges", bytes.Repeat([]byte{7}, 32))
	check(t, err)
	check(t, w.store.Once(w.ctx, [32]byte{7}, w.now().Add(time.Minute), w.now()))
	w.published()
	report := w.judgeLog(verify.LogOptions{})
	if !report.OK() {
		t.Fatal(report.Problems)
	}
	p.old = report.Checkpoint
	// Something that waits for the log, with nobody there to sequence it.
	w.halt()
	st, err := store.Open(w.ctx, w.o.dsn)
	check(t, err)
	c := w.config()
	c.Store = st
	s, err := server.New(w.ctx, c)
	check(t, err)
	_, _, err = s.Submit(w.ctx, w.ask("alice", "release", w.items("waiting")), w.items("waiting"))
	check(t, err)
	check(t, st.Close())
	p.receipts = w.status().Receipts
	w.closeKeeper()
	p.ledger, err = os.ReadFile(filepath.Join(w.dir, "keeper", "ledger"))
	check(t, err)
	return p
}

// edit is one change by hand.
type edit struct {
	table, column string
	what          string
	sql           string
	args          []any
}

func (e edit) String() string { return e.table + "." + e.column + ": " + e.what }

// variant judges a copy of the deployment in which e was done, and says who
// noticed. The error is that of a broken promise.
func (p *prepared) variant(dsn string, e edit) (noticed []string, err error) {
	ctx := p.w.ctx
	defer func() {
		if ctx.Err() != nil { // whoever noticed it has only noticed the clock
			noticed, err = nil, errors.Join(err, ctx.Err())
		}
	}()
	dir, err := os.MkdirTemp("", "variant")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "ledger"), p.ledger, 0o600); err != nil {
		return nil, err
	}
	keys := &counted{Provider: p.w.soft.Provider, uses: map[key.URI]int{}}
	kc := p.w.keeperConfig(p.w.people.Root)
	kc.Dir, kc.Providers = dir, map[string]key.Provider{"soft": keys}
	local, err := keeper.Open(ctx, kc)
	if err != nil {
		return nil, err
	}
	defer local.Close()
	k := wire.InProcess(local)
	st, err := store.Open(ctx, dsn)
	if err != nil {
		return []string{"the store: " + err.Error()}, nil
	}
	defer st.Close()
	notice := func(who string, err error) { noticed = append(noticed, who+": "+err.Error()) }

	// A stranger reads the log, as it is served.
	r, err := verify.Log(ctx, servertest.LogSource(st, p.w.people.Found), p.w.people.Root, verify.LogOptions{OldHead: []byte(p.old)})
	if err != nil {
		notice("the log's reader", err)
	} else if !r.OK() {
		notice("the log's reader", errors.New(r.Problems[0].String()))
	}
	once := &impatient{Store: st}
	c := server.Config{Store: once, Keeper: k, Formats: all.Formats(), Pin: p.w.people.Root, Stamper: &stamp.Stamper{Keeper: k}, Clock: p.w.now, Logger: slog.New(slog.DiscardHandler)}
	s, err := server.New(ctx, c)
	if err != nil {
		notice("the server", err)
	} else {
		// The server knows nothing of it and does its work; the client collects.
		if err := p.client(ctx, s, once); err != nil {
			notice("the client", err)
		}
		for _, id := range append(slices.Clone(p.open), p.executed) {
			_ = s.Execute(ctx, id)
		}
		run, stop := context.WithTimeout(ctx, 20*time.Millisecond)
		s.Run(run)
		stop()
		if r, err := st.Request(ctx, p.open[0]); err == nil {
			if _, err := s.View(ctx, r, true); err != nil {
				notice("an endorser", err)
			}
		}
	}
	// The promise: nothing was signed, no other command executed.
	if n := keys.used("soft:release") + keys.used("soft:other"); n != 0 {
		return noticed, fmt.Errorf("keys were used %d times", n)
	}
	status, err := local.Status(ctx)
	if err != nil {
		return noticed, err
	}
	outs, err := local.Receipts(ctx, p.receipts+1, 100)
	if err != nil {
		return noticed, err
	}
	for _, o := range outs {
		env, err := statement.DecodeEnvelope(o.Receipt)
		if err != nil {
			return noticed, err
		}
		rc, err := statement.Decode[statement.Receipt](env.Payload)
		if err != nil || rc.Outcome != statement.Refused {
			return noticed, fmt.Errorf("receipt %d of %d: %s, %w", rc.Number, status.Receipts, rc.Outcome, err)
		}
	}
	return noticed, nil
}

// impatient is a store whose reader does not wait for the log to grow: nobody makes
// it grow. The second look at a request's entries is refused.
type impatient struct {
	store.Store
	looks atomic.Int64
}

func (i *impatient) EntriesOf(ctx context.Context, id statement.ID) ([]store.EntryRef, error) {
	if i.looks.Add(1) > 1 {
		return nil, errors.New("the log does not prove the receipt")
	}
	return i.Store.EntriesOf(ctx, id)
}

// client is the requester of the executed request, who wants his files finished.
func (p *prepared) client(ctx context.Context, s *server.Server, once *impatient) error {
	res, err := s.Collect(ctx, p.executed)
	if err != nil {
		return err
	}
	if len(res.Timestamps) != len(p.items) {
		return errors.New("timestamps are missing")
	}
	for i, content := range p.contents {
		once.looks.Store(0)
		ev, err := s.Evidence(ctx, p.executed, i)
		if err != nil {
			return err
		}
		v, err := p.finish(res, ev, i, content)
		if err != nil {
			return err
		}
		if v.Approval().RequestID() != p.executed || !bytes.Equal(v.Report().Signatures[v.Signature()].Content, planOf(p.items[i]).Content) {
			return errors.New("UNSOUND: accepted for another request or content")
		}
	}
	return nil
}

// finish is finish, once for the same bytes.
func (p *prepared) finish(res *server.Result, ev *verify.Evidence, i int, content string) (*verify.Verified, error) {
	doc, err := ev.Encode()
	if err != nil {
		return nil, err
	}
	all, err := json.Marshal([]any{i, content, doc, res})
	if err != nil {
		return nil, err
	}
	k := sha256.Sum256(all)
	if v, ok := p.finished.Load(k); ok {
		return v.(*verify.Verified), nil
	}
	v, err := finish(p.w, res, ev, i, p.items[i], content)
	if err == nil {
		p.finished.Store(k, v)
	}
	return v, err
}

func planOf(item []byte) *format.Plan {
	_, p, err := format.DecodeItem(item)
	if err != nil {
		panic(err)
	}
	return p
}

// verdicts collects what the variants showed, and holds it against harmless.
type verdicts struct {
	mu                 sync.Mutex
	noticed, unnoticed map[string]int
}

func (v *verdicts) add(t *testing.T, e edit, noticed []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := e.table + "." + e.column
	if err != nil { // not judged to the end: what was noticed says nothing
		t.Errorf("%s: %v", e, err)
		return
	}
	for _, n := range noticed {
		if strings.Contains(n, "UNSOUND") {
			t.Errorf("%s: %s", e, n)
		}
	}
	if len(noticed) > 0 {
		v.noticed[name]++
		return
	}
	v.unnoticed[name]++
	if harmless[name] == "" {
		t.Errorf("%s: nobody notices", e)
	}
}

// An attacker edits the database by hand, one value at a time, whichever it is.
func TestAttackDatabaseColumns(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		p := prepare(t, "")
		path, _ := cutSQLite(p.w.o.dsn)
		_, err := p.w.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
		check(t, err)
		list := edits(t, p.w.db, false)
		check(t, p.w.db.Close())
		image, err := os.ReadFile(path)
		check(t, err)
		folder := t.TempDir()
		if d, err := os.MkdirTemp("/dev/shm", "variants"); err == nil { // memory is quicker, where there is some
			t.Cleanup(func() { os.RemoveAll(d) })
			folder = d
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Log(err)
		}
		v := &verdicts{noticed: map[string]int{}, unnoticed: map[string]int{}}
		if n, err := p.baseline(folder, image); len(n) > 0 || err != nil {
			t.Fatalf("nothing was edited, and noticed is %v, %v", n, err)
		}
		work := make(chan int)
		var wg sync.WaitGroup
		for range 4 * runtime.GOMAXPROCS(0) { // much of it is waiting
			wg.Go(func() {
				for i := range work {
					n, err := p.onSQLite(filepath.Join(folder, fmt.Sprint(i)), image, list[i])
					v.add(t, list[i], n, err)
				}
			})
		}
		for i := range list {
			if p.w.ctx.Err() != nil {
				break // every other one would say so too
			}
			work <- i
		}
		close(work)
		wg.Wait()
		check(t, p.w.ctx.Err())
		t.Logf("%d edits of %d columns", len(list), len(harmless))
		for name, why := range harmless {
			if v.unnoticed[name] == 0 {
				t.Errorf("%s is listed as harmless (%s), and %d edits of it were all noticed: take it out", name, why, v.noticed[name])
			}
		}
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		pg := pgtest.Start(t)
		base := pg.Database()
		p := prepare(t, base)
		list := edits(t, p.w.db, true)
		check(t, p.w.db.Close())
		// The server is the same: one edit of each column shows that the other
		// database hides none.
		seen := map[string]bool{}
		v := &verdicts{noticed: map[string]int{}, unnoticed: map[string]int{}}
		u, err := url.Parse(base)
		check(t, err)
		name := strings.TrimPrefix(u.Path, "/")
		u.Path = "/postgres"
		admin := openDB(t, u.String())
		work := make(chan edit)
		var wg sync.WaitGroup
		for i := range 4 { // most of it is waiting for the database
			wg.Go(func() {
				copied := fmt.Sprintf("copy%d", i)
				c := *u
				c.Path = "/" + copied
				for e := range work {
					var n []string
					_, err := admin.Exec(fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", copied, name))
					if err == nil {
						n, err = p.onPostgres(c.String(), e)
					}
					v.add(t, e, n, err)
					if _, err := admin.Exec("DROP DATABASE " + copied); err != nil {
						t.Errorf("%s: %v", e, err)
					}
				}
			})
		}
		for _, e := range list {
			if p.w.ctx.Err() != nil {
				break
			}
			if column := e.table + "." + e.column; !seen[column] {
				seen[column] = true
				work <- e
			}
		}
		close(work)
		wg.Wait()
		check(t, p.w.ctx.Err())
		if len(seen) < 80 {
			t.Errorf("%d columns", len(seen))
		}
	})
}

func (p *prepared) baseline(folder string, image []byte) ([]string, error) {
	return p.onSQLite(filepath.Join(folder, "baseline"), image, edit{sql: "SELECT 1"})
}

func (p *prepared) onSQLite(path string, image []byte, e edit) ([]string, error) {
	if err := os.WriteFile(path, image, 0o600); err != nil {
		return nil, err
	}
	defer func() {
		for _, s := range []string{"", "-wal", "-shm"} {
			os.Remove(path + s)
		}
	}()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return nil, err
	}
	return p.edited(db, "sqlite:"+path, e)
}

func (p *prepared) onPostgres(dsn string, e edit) ([]string, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, err
	}
	return p.edited(db, dsn, e)
}

func (p *prepared) edited(db *sql.DB, dsn string, e edit) ([]string, error) {
	r, err := db.Exec(e.sql, e.args...)
	db.Close()
	if err != nil {
		if strings.Contains(err.Error(), "constraint") || strings.Contains(err.Error(), "428C9") {
			return []string{"the database: " + err.Error()}, nil // another row's key, or one that it makes itself
		}
		return nil, err
	}
	if n, err := r.RowsAffected(); err == nil && n != 1 && e.table != "" {
		return nil, fmt.Errorf("%d rows were edited", n)
	}
	return p.variant(dsn, e)
}
