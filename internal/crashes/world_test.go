//go:build linux

package crashes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// patience is how long anything may take, a crash or a rest after it: it ends what
// hangs, and nothing that is only slow because the machine has much to do.
const patience = 4 * time.Minute

// world is one deployment of processes. Its methods may be called by several
// goroutines; they say what is wrong by errors.
type world struct {
	ctx    context.Context
	dir    string
	dsn    string
	people *trial.Trial
	env    []string // of every process

	mu      sync.Mutex
	keeper  *process
	servers map[string]*process

	requests []request
}

type request struct {
	id      statement.ID
	items   [][]byte
	content string
}

// lasting ends a little before the test binary does.
func lasting(t testing.TB) (context.Context, context.CancelFunc) {
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := d.Deadline(); ok {
			return context.WithDeadline(context.Background(), end.Add(-time.Until(end)/20))
		}
	}
	return context.WithCancel(context.Background())
}

// newWorld founds a deployment and starts its processes.
func newWorld(t testing.TB, dsn string, keys ...trial.KeySpec) *world {
	t.Helper()
	return newWorldWith(t, dsn, nil, "", keys...)
}

// newWorldWith is newWorld with something in every process's environment, and the
// PIN of an HSM.
func newWorldWith(t testing.TB, dsn string, env []string, pin string, keys ...trial.KeySpec) *world {
	t.Helper()
	ctx, cancel := lasting(t)
	dir, err := os.MkdirTemp("", "gsc") // short, for its sockets
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ctx: ctx, dir: dir, dsn: dsn, env: env, servers: map[string]*process{}}
	t.Cleanup(func() { w.killAll(); cancel(); os.RemoveAll(dir) })
	if w.dsn == "" {
		w.dsn = "sqlite:" + filepath.Join(dir, "greatseal.db")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range env { // for what this process does itself
		if k, v, ok := strings.Cut(e, "="); ok {
			t.Setenv(k, v)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "passphrase"), []byte("correct horse battery staple\n"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "pin"), []byte(pin), 0o600))
	must(host.Init(ctx, keeperIn(dir), hostOptions()))
	h, err := host.Open(ctx, keeperIn(dir), statement.ID{}, hostOptions())
	must(err)
	st, err := h.Status(ctx)
	must(err)
	must(h.Close())
	if len(keys) == 0 {
		keys = []trial.KeySpec{{Name: "release", URI: "soft:release", Algorithm: sigalg.P256}}
	}
	w.people, err = trial.New(ctx, dir, st, trial.Options{Deployment: "crash", Timestamps: true, Keys: keys})
	must(err)
	h, err = host.Open(ctx, keeperIn(dir), w.people.Root, hostOptions())
	must(err)
	must(h.Found(ctx, w.people.Found))
	must(h.Close())
	must(w.startKeeper())
	must(w.startServer("a"))
	must(w.people.MakeKeys(ctx, office{w, "a"}))
	return w
}

func (w *world) environment(role string, more ...string) []string {
	return append(append([]string{envRole + "=" + role, envDir + "=" + w.dir, envRoot + "=" + w.people.Root.String(), envDSN + "=" + w.dsn}, w.env...), more...)
}

// startKeeper starts the keeper; more says where it dies.
func (w *world) startKeeper(more ...string) error {
	p, err := spawn(w.dir, w.environment("keeper", more...)...)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.keeper = p
	w.mu.Unlock()
	if err := p.await(keeperSocket(w.dir)); err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	return nil
}

// startServer starts a replica.
func (w *world) startServer(name string, more ...string) error {
	path := filepath.Join(w.dir, "s", name)
	os.Remove(path)
	p, err := spawn(w.dir, w.environment("server", append(more, envName+"="+name)...)...)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.servers[name] = p
	w.mu.Unlock()
	if err := p.await(path); err != nil {
		if !p.running() && p.killed() {
			return nil // at its step already, which it passes when it starts
		}
		return fmt.Errorf("server %s: %w", name, err)
	}
	return nil
}

func (w *world) killAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.servers {
		p.kill()
	}
	if w.keeper != nil {
		w.keeper.kill()
	}
}

// office reaches a server that may be dead: what gets no answer is asked again.
type office struct {
	w    *world
	name string
}

func (o office) call(ctx context.Context, method string, in, out any) error {
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		c, err := rpc.Dial("unix", filepath.Join(o.w.dir, "s", o.name))
		if err != nil {
			last = err
			continue
		}
		err = c.Call("Office."+method, in, out)
		c.Close()
		if err == nil {
			return nil
		}
		if strings.HasPrefix(err.Error(), refusal) {
			return err
		}
		last = err
	}
	return fmt.Errorf("%s: no answer: %w", method, last)
}

func (o office) Submit(ctx context.Context, envelope []byte, items [][]byte) (*store.Request, bool, error) {
	r := new(store.Request)
	err := o.call(ctx, "Submit", Submission{envelope, items}, r)
	return r, false, err
}

func (o office) Endorse(ctx context.Context, envelope []byte) (*store.Request, error) {
	r := new(store.Request)
	err := o.call(ctx, "Endorse", envelope, r)
	return r, err
}

func (o office) get(ctx context.Context, id statement.ID) (*store.Request, error) {
	r := new(store.Request)
	err := o.call(ctx, "Get", id, r)
	return r, err
}

func (o office) Await(ctx context.Context, id statement.ID, revision int64) (*store.Request, error) {
	for {
		r, err := o.get(ctx, id)
		if err != nil || r.Revision != revision || ctx.Err() != nil {
			return r, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (o office) Key(ctx context.Context, name string) (*keeper.KeyStatus, error) {
	k := new(keeper.KeyStatus)
	err := o.call(ctx, "Key", name, k)
	return k, err
}

// load has n requests made, endorsed and executed, all at once, whatever happens
// to the processes meanwhile.
func (w *world) load(label string, n int, replicas ...string) error {
	if len(replicas) == 0 {
		replicas = []string{"a"}
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = w.one(fmt.Sprintf("%s %d", label, i), office{w, replicas[i%len(replicas)]}) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (w *world) one(content string, o office) error {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	cmd, items, err := w.command(content)
	if err != nil {
		return err
	}
	env, id, err := w.people.People["alice"].Request(ctx, w.people.Charter, w.people.Ref(), cmd, author.RequestOptions{})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.requests = append(w.requests, request{id, items, content})
	w.mu.Unlock()
	if r, _, err := o.Submit(ctx, env, items); err != nil || r.ID != id {
		return fmt.Errorf("%s: submit: %s, %w", content, r.ID, err)
	}
	_, req, err := statement.DecodeEnveloped[statement.Request](env)
	if err != nil {
		return err
	}
	for _, who := range []string{"bob", "carol", "scanner"} {
		b, err := w.people.People[who].Endorsement(ctx, &req, id, statement.Endorse, "", 0, nil)
		if err != nil {
			return err
		}
		if _, err := o.Endorse(ctx, b); err != nil {
			return fmt.Errorf("%s: %s: %w", content, who, err)
		}
	}
	for {
		r, err := o.get(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", content, err)
		}
		if r.State == store.Executed {
			return nil
		}
		if !r.State.Open() || ctx.Err() != nil {
			return fmt.Errorf("%s: the request is %s: %s %s", content, r.State, r.Code, r.Detail)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// lapse has n requests made that nobody endorses in their time: each expires, once.
func (w *world) lapse(label string, n int) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			errs[i] = func() error {
				ctx, cancel := context.WithTimeout(w.ctx, patience)
				defer cancel()
				o := office{w, "a"}
				cmd, items, err := w.command(fmt.Sprintf("too late, %s %d", label, i))
				if err != nil {
					return err
				}
				var id statement.ID
				for life := 3 * time.Second; ; life *= 2 {
					var env []byte
					if env, _, err = w.people.People["alice"].Request(ctx, w.people.Charter, w.people.Ref(), cmd, author.RequestOptions{Expires: life}); err != nil {
						return err
					}
					var r *store.Request
					if r, _, err = o.Submit(ctx, env, items); err == nil {
						id = r.ID // an earlier try's, if it arrived after all
						break
					}
					if !strings.HasPrefix(err.Error(), refusal+"expired") {
						return err
					}
					// The server was started for so long that its time was over.
				}
				for {
					r, err := o.get(ctx, id)
					if err != nil || r.State == store.Expired {
						return err
					}
					if r.State != store.Pending || ctx.Err() != nil {
						return fmt.Errorf("a request that nobody endorsed is %s", r.State)
					}
					time.Sleep(50 * time.Millisecond)
				}
			}()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// command is to sign a file with that content.
func (w *world) command(content string) (statement.Command, [][]byte, error) {
	f, _ := all.ByName("cms")
	plan, err := f.Plan(w.ctx, format.BytesArtifact("x", []byte(content)), nil)
	if err != nil {
		return statement.Command{}, nil, err
	}
	item, err := author.Item(plan, "x", nil)
	if err != nil {
		return statement.Command{}, nil, err
	}
	items := [][]byte{item}
	cmd, err := author.SignCommand(w.people.Charter, "release", "", items)
	return cmd, items, err
}

// revive starts again what has died, until stop is closed.
func (w *world) revive(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		w.mu.Lock()
		k := w.keeper
		var dead []string
		for n, p := range w.servers {
			if !p.running() {
				dead = append(dead, n)
			}
		}
		w.mu.Unlock()
		if !k.running() {
			if !k.killed() {
				return fmt.Errorf("the keeper ended by itself: %s", k.said())
			}
			// It may be killed while it starts; if it failed, the next look says so.
			if err := w.startKeeper(); err != nil && !strings.Contains(err.Error(), "it has ended") {
				return err
			}
		}
		for _, n := range dead {
			w.mu.Lock()
			p := w.servers[n]
			w.mu.Unlock()
			if !p.killed() && k.running() {
				// One that starts while its keeper or database is away ends; whoever
				// runs it starts it again.
				if s := p.said(); !strings.Contains(s, "not available") && !strings.Contains(s, "busy or away") && !strings.Contains(s, "connect") && !strings.Contains(s, "shutdown") {
					return fmt.Errorf("server %s ended by itself: %s", n, s)
				}
			}
			if err := w.startServer(n); err != nil && !strings.Contains(err.Error(), "it has ended") {
				return err
			}
		}
	}
}

// during does load while processes are started again when they die.
func (w *world) during(load func() error) error {
	stop := make(chan struct{})
	revived := make(chan error, 1)
	go func() { revived <- w.revive(stop) }()
	err := load()
	close(stop)
	return errors.Join(err, <-revived)
}

// sound holds the invariants of the package comment, after all is at rest.
func (w *world) sound() error {
	w.mu.Lock()
	for _, p := range w.servers {
		p.kill()
	}
	w.servers = map[string]*process{}
	running := w.keeper.running()
	w.mu.Unlock()
	if !running {
		if err := w.startKeeper(); err != nil {
			return err
		}
	}
	s, st, err := openServer(w.ctx, w.dir, w.dsn, w.people.Root, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	run, stop := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() { s.Run(run); close(ended) }()
	defer func() { stop(); <-ended }()

	k, err := dialKeeper(w.ctx, w.dir)
	if err != nil {
		return err
	}
	defer k.Close()
	status, err := k.Status(w.ctx)
	if err != nil {
		return err
	}
	executed := map[statement.ID]int{}
	signed := 0
	var last statement.ID
	for n := uint64(1); n <= status.Receipts; {
		outs, err := k.Receipts(w.ctx, n, 100)
		if err != nil || len(outs) == 0 {
			return fmt.Errorf("receipt %d: %w", n, err)
		}
		for _, o := range outs {
			rc, id, err := receipt.Verify(status.ReceiptKey, o.Receipt)
			if err != nil {
				return err
			}
			if rc.Number != n || rc.Previous != last {
				return fmt.Errorf("receipt %d does not follow receipt %d", rc.Number, n-1)
			}
			last, n = id, n+1
			if rc.Outcome == statement.Executed {
				executed[rc.Request]++
				if rc.Signed != nil {
					signed += rc.Signed.Count
				}
			}
		}
	}
	for id, n := range executed {
		if n != 1 {
			return fmt.Errorf("request %s was executed %d times", id, n)
		}
	}
	for _, r := range w.requests {
		if executed[r.id] != 1 {
			return fmt.Errorf("%s was not executed", r.content)
		}
	}
	if signed != len(w.requests) {
		return fmt.Errorf("%d signatures: %d were asked for", signed, len(w.requests))
	}
	if err := w.published(st, status); err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		report, err := verify.Log(w.ctx, servertest.LogSource(st, w.people.Found), w.people.Root, verify.LogOptions{})
		if err != nil {
			return err
		}
		if !report.OK() {
			return fmt.Errorf("log: %v", report.Problems)
		}
		if report.Open == 0 {
			break // the last entries, of requests that lapsed, have been sequenced too
		}
		if time.Now().After(end) {
			return fmt.Errorf("log: %d requests are open", report.Open)
		}
	}
	for _, r := range w.requests[max(0, len(w.requests)-5):] {
		if err := w.collected(s, r); err != nil {
			return fmt.Errorf("%s: %w", r.content, err)
		}
	}
	return w.intended()
}

// published waits until the log holds all receipts and its head is signed.
func (w *world) published(st *store.SQL, status *keeper.Status) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		h, err := st.Head(w.ctx)
		if err != nil {
			return err
		}
		missing, err := st.MissingReceipts(w.ctx, 0, status.Receipts, 1)
		if err != nil {
			return err
		}
		if h.Signed == h.Tree.Size && len(missing) == 0 && w.logged(st) {
			return nil
		}
	}
	return errors.New("the log lags")
}

// logged reports whether the last request's receipt is in the log.
func (w *world) logged(st *store.SQL) bool {
	for _, r := range w.requests {
		refs, err := st.EntriesOf(w.ctx, r.id)
		if err != nil || !slices.ContainsFunc(refs, func(e store.EntryRef) bool { return e.Kind == audit.KindReceipt }) {
			return false
		}
	}
	return true
}

func (w *world) collected(s *server.Server, r request) error {
	res, err := s.Collect(w.ctx, r.id)
	if err != nil {
		return err
	}
	ev, err := s.Evidence(w.ctx, r.id, 0)
	if err != nil {
		return err
	}
	if len(ev.File.Signatures) != 1 || !bytes.Equal(ev.File.Signatures[0], res.Signatures[0][0]) {
		return errors.New("result and evidence differ")
	}
	a, err := verify.Judge(ev, w.people.Root, all.Formats())
	if err != nil {
		return err
	}
	if a.RequestID() != r.id {
		return errors.New("evidence of another request")
	}
	return nil
}

// intended reads a copy of the ledger: before each receipt of an execution stands
// an intent that no other receipt has used up.
func (w *world) intended() error {
	b, err := os.ReadFile(filepath.Join(w.dir, "keeper", "ledger"))
	if err != nil {
		return err
	}
	path := filepath.Join(w.dir, "ledger-copy")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	open := map[statement.ID]bool{}
	l, err := ledger.OpenFile(path, ledger.Options{Replay: func(_ int64, r ledger.Record) error {
		switch r.Type {
		case 3: // intent
			var v struct {
				Request statement.ID `cbor:"1,keyasint"`
				Command string       `cbor:"2,keyasint"`
				Digest  string       `cbor:"3,keyasint"`
				Key     string       `cbor:"4,keyasint"`
				URI     string       `cbor:"5,keyasint"`
				At      int64        `cbor:"6,keyasint"`
			}
			if err := format.Decode(r.Body, &v); err != nil {
				return err
			}
			open[v.Request] = true
		case 4: // outcome
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
			e, err := statement.DecodeEnvelope(v.Receipt)
			if err != nil {
				return err
			}
			rc, err := statement.Decode[statement.Receipt](e.Payload)
			if err != nil {
				return err
			}
			if rc.Outcome == statement.Executed && !open[rc.Request] {
				return fmt.Errorf("receipt %d: no intent stands before it", rc.Number)
			}
			delete(open, rc.Request)
		}
		return nil
	}})
	if err != nil {
		return err
	}
	return l.Close()
}
