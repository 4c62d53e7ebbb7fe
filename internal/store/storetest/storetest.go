// Package storetest is the conformance suite of store.Store: every database runs
// it.
package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// NewRequest is a request to sign n files, told apart by name.
func NewRequest(name string, n int) *store.Change {
	id := statement.ID(sha256.Sum256([]byte(name)))
	c := &store.Change{
		New: &store.Request{
			ID: id, Envelope: []byte("envelope of " + name), Command: statement.Sign, Digest: "digest of " + name,
			Policy: "windows", Key: "release", Requester: "alice", Count: n, State: store.Pending,
			Created: epoch, Expires: epoch.Add(time.Hour),
		},
		At: epoch,
	}
	for i := range n {
		c.Items = append(c.Items, fmt.Appendf(nil, "item %d of %s", i, name))
		content := sha256.Sum256(c.Items[i])
		c.Files = append(c.Files, store.File{Index: i, Name: fmt.Sprintf("%s-%d.exe", name, i), Format: "pe", Digest: "sha256", Content: content[:], Size: int64(i), Version: "1.2"})
	}
	c.Entries = append(c.Entries, entry("request", id, name))
	return c
}

func entry(kind audit.Kind, id statement.ID, body string) store.LogEntry {
	data, err := audit.NewEntry(kind, epoch, id, []byte(body)).Encode()
	if err != nil {
		panic(err)
	}
	return store.LogEntry{Kind: kind, Request: id, Time: epoch, Data: data}
}

// Run runs the suite; open returns an empty store.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, s store.Store)
	}{
		{"Lifecycle", lifecycle},
		{"ChangeIsAtomic", changeIsAtomic},
		{"StaleRevisionChangesNothing", staleRevision},
		{"OneOpenRequestPerCommand", oneOpen},
		{"ConcurrentStepsOneWins", concurrentSteps},
		{"Search", search},
		{"PagesAreComplete", pages},
		{"SearchFiles", searchFiles},
		{"SearchFilesHostileText", searchFilesHostile},
		{"SearchFilesPagesStand", searchFilesPages},
		{"SearchFilesOfOneWhoSpeaksOften", searchFilesOften},
		{"SearchFilesOfManyAlike", searchFilesMany},
		{"EnteredOnce", enteredOnce},
		{"Awaiting", awaiting},
		{"Tallies", tallies},
		{"Saved", saved},
		{"HostileText", hostileText},
		{"SequenceEachEntryOnce", sequence},
		{"Jobs", jobs},
		{"LeaseToOneWorker", leaseOnce},
		{"DueAndStuck", dueAndStuck},
		{"SentOrWithdrawn", sentOrWithdrawn},
		{"ReceiptOfUnknownRequestOnce", receiptOnce},
		{"FirstReceiptOfItsNumber", firstReceipt},
		{"FilterIsAnyText", filterText},
		{"Uploads", uploads},
		{"Tokens", tokens},
		{"SecretIsShared", secretIsShared},
		{"UsedOnce", usedOnce},
		{"Sessions", sessions},
		{"CodesOnce", linksOnce},
		{"Timestamps", timestamps},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func lifecycle(t *testing.T, s store.Store) {
	ctx := t.Context()
	c := NewRequest("app", 600) // more than one row of items
	must(t, s.Apply(ctx, c))
	r, err := s.Request(ctx, c.New.ID)
	must(t, err)
	if r.Revision != 1 || r.State != store.Pending || r.Count != 600 || !r.Expires.Equal(c.New.Expires) || !bytes.Equal(r.Envelope, c.New.Envelope) || len(r.Endorsements) != 0 {
		t.Fatalf("got %+v", r)
	}
	items, err := s.Items(ctx, c.New.ID)
	must(t, err)
	if len(items) != 600 {
		t.Fatalf("%d items", len(items))
	}
	for i := range items {
		if !bytes.Equal(items[i], c.Items[i]) {
			t.Fatalf("item %d is %q", i, items[i])
		}
	}
	r, err = s.Request(ctx, r.ID)
	must(t, err)
	step := func(c *store.Change) {
		t.Helper()
		c.Request, c.Revision = r.ID, r.Revision
		must(t, s.Apply(ctx, c))
		after := r.After(c)
		r, err = s.Request(ctx, r.ID)
		must(t, err)
		if !reflect.DeepEqual(after, r) {
			t.Fatalf("After says\n%+v, and the database\n%+v", after, r)
		}
	}
	for _, who := range []string{"bob", "carol"} {
		step(&store.Change{At: epoch.Add(time.Minute + 1234567), Code: "waits", Detail: "a\x00b",
			Endorsement: &store.Endorsement{ID: sha256.Sum256([]byte(who)), Envelope: []byte(who), Endorser: who, Verdict: statement.Endorse, Arrived: epoch.Add(1)}})
	}
	step(&store.Change{State: store.Executed, At: epoch,
		Receipt: &store.Receipt{Number: 7, Request: r.ID, Outcome: statement.Executed, Time: epoch, Envelope: []byte("receipt")}, Result: []byte("result")})
	if r.State != store.Executed || r.Receipt != 7 || r.Revision != 4 || len(r.Endorsements) != 2 || r.Endorsements[0].Endorser != "bob" || r.Endorsements[1].Endorser != "carol" {
		t.Fatalf("got %+v", r)
	}
	if b, err := s.Result(ctx, r.ID); err != nil || string(b) != "result" {
		t.Fatalf("result %q, %v", b, err)
	}
	if rc, err := s.LastReceipt(ctx); err != nil || rc.Number != 7 || string(rc.Envelope) != "receipt" || rc.Request != r.ID {
		t.Fatalf("receipt %+v, %v", rc, err)
	}
	if m, err := s.MissingReceipts(ctx, 0, 9, 5); err != nil || fmt.Sprint(m) != "[1 2 3 4 5]" {
		t.Fatalf("missing receipts %v, %v", m, err)
	}
	if m, err := s.MissingReceipts(ctx, 0, 9, 50); err != nil || fmt.Sprint(m) != "[1 2 3 4 5 6 8 9]" {
		t.Fatalf("missing receipts %v, %v", m, err)
	}
	if m, err := s.MissingReceipts(ctx, 6, 7, 50); err != nil || len(m) != 0 {
		t.Fatalf("missing receipts %v, %v", m, err)
	}
	if _, err := s.Receipt(ctx, 8); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("receipt 8: %v", err)
	}
	if _, err := s.Request(ctx, statement.ID{1}); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("unknown request: %v", err)
	}
}

func changeIsAtomic(t *testing.T, s store.Store) {
	ctx := t.Context()
	c := NewRequest("app", 1)
	c.Files = append(c.Files, c.Files[0]) // the same primary key: the change must fail as a whole
	if err := s.Apply(ctx, c); !errors.Is(err, store.ErrExists) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.Request(ctx, c.New.ID); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("half a change is there: %v", err)
	}
	if n, err := s.Sequence(ctx, 10); n != 0 || err != nil {
		t.Fatalf("%d log entries of a change that failed, %v", n, err)
	}
	// A change at fault does not take its neighbours with it.
	var wg sync.WaitGroup
	errs := make([]error, 40)
	for i := range errs {
		wg.Go(func() {
			c := NewRequest(fmt.Sprint("n", i), 1)
			if i == 20 {
				c.Files = append(c.Files, c.Files[0])
			}
			errs[i] = s.Apply(ctx, c)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if (err != nil) != (i == 20) {
			t.Errorf("change %d: %v", i, err)
		}
	}
}

func staleRevision(t *testing.T, s store.Store) {
	ctx := t.Context()
	c := NewRequest("app", 1)
	must(t, s.Apply(ctx, c))
	must(t, s.Apply(ctx, &store.Change{Request: c.New.ID, Revision: 1, Code: "waiting", At: epoch}))
	err := s.Apply(ctx, &store.Change{Request: c.New.ID, Revision: 1, State: store.Cancelled, At: epoch, Entries: []store.LogEntry{entry("cancel", c.New.ID, "x")}, Jobs: []store.Job{{Kind: "k", Ref: "r", RunAt: epoch}}})
	if !errors.Is(err, store.ErrConflict) {
		t.Fatalf("got %v", err)
	}
	r, err := s.Request(ctx, c.New.ID)
	must(t, err)
	if r.State != store.Pending || r.Revision != 2 {
		t.Fatalf("a stale change was applied: %+v", r)
	}
	if j, err := s.Jobs(ctx); err != nil || len(j) != 0 {
		t.Fatalf("jobs of a stale change: %v, %v", j, err)
	}
	if n, _ := s.Sequence(ctx, 10); n != 1 {
		t.Fatalf("%d log entries: the stale change's is among them", n)
	}
}

func oneOpen(t *testing.T, s store.Store) {
	ctx := t.Context()
	a, b := NewRequest("a", 1), NewRequest("b", 1)
	b.New.Digest = a.New.Digest
	must(t, s.Apply(ctx, a))
	var open *store.OpenError
	if err := s.Apply(ctx, b); !errors.As(err, &open) || open.Request != a.New.ID {
		t.Fatalf("got %v", err)
	}
	if err := s.Apply(ctx, a); !errors.Is(err, store.ErrExists) {
		t.Fatalf("the same request again: %v", err)
	}
	must(t, s.Apply(ctx, &store.Change{Request: a.New.ID, Revision: 1, State: store.Executed, At: epoch}))
	must(t, s.Apply(ctx, b))
}

func concurrentSteps(t *testing.T, s store.Store) {
	ctx := t.Context()
	c := NewRequest("app", 1)
	must(t, s.Apply(ctx, c))
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 32 {
		wg.Go(func() {
			err := s.Apply(ctx, &store.Change{Request: c.New.ID, Revision: 1, State: store.Endorsed, At: epoch})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, store.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d changes were applied to one revision", won)
	}
}

func search(t *testing.T, s store.Store) {
	ctx := t.Context()
	for i := range 5 {
		c := NewRequest(fmt.Sprint("app", i), 2)
		c.New.Created = epoch.Add(time.Duration(i) * time.Minute)
		if i == 3 {
			c.New.Policy, c.New.Requester, c.New.Key = "linux", "bob", "other"
		}
		must(t, s.Apply(ctx, c))
		must(t, s.Apply(ctx, &store.Change{Request: c.New.ID, Revision: 1, State: store.Executed, At: epoch,
			Endorsement: &store.Endorsement{ID: sha256.Sum256(c.New.ID[:]), Endorser: fmt.Sprint("e", i), Verdict: statement.Endorse, Arrived: epoch, Envelope: []byte{1}}}))
	}
	content := sha256.Sum256([]byte("item 1 of app2"))
	id := func(n string) string { return statement.ID(sha256.Sum256([]byte(n))).String() }
	for _, c := range []struct {
		name string
		f    store.Filter
		want int
	}{
		{"everything", store.Filter{}, 5},
		{"limit", store.Filter{Limit: 2}, 2},
		{"state", store.Filter{States: []store.State{store.Pending, store.Endorsed}}, 0},
		{"states", store.Filter{States: []store.State{store.Pending, store.Executed}}, 5},
		{"policy", store.Filter{Policy: "linux"}, 1},
		{"requester", store.Filter{Requester: "alice"}, 4},
		{"key", store.Filter{Key: "other"}, 1},
		{"endorser", store.Filter{Endorser: "e4"}, 1},
		{"name", store.Filter{Name: "app2-*"}, 1},
		{"name in other letters", store.Filter{Name: "APP2-*"}, 1},
		{"name is no pattern of SQL", store.Filter{Name: "app_-%"}, 0},
		{"content", store.Filter{Content: content[:]}, 1},
		{"prefix", store.Filter{Prefix: id("app1")[:7]}, 1},
		{"since", store.Filter{Since: epoch.Add(3 * time.Minute)}, 2},
		{"until", store.Filter{Until: epoch.Add(3 * time.Minute)}, 3},
		{"both", store.Filter{Requester: "bob", Policy: "windows"}, 0},
		{"injection", store.Filter{Policy: "x' OR '1'='1"}, 0},
	} {
		got, err := s.Requests(ctx, c.f)
		if err != nil || len(got) != c.want {
			t.Errorf("%s: %d requests, %v: want %d", c.name, len(got), err, c.want)
		}
	}
	if _, err := s.Requests(ctx, store.Filter{Prefix: "xyz"}); err == nil {
		t.Error("a prefix that is not hexadecimal was taken")
	}
	files, err := s.FilesByContent(ctx, content[:])
	if err != nil || len(files) != 1 || files[0].Name != "app2-1.exe" || files[0].Index != 1 || files[0].Version != "1.2" {
		t.Errorf("files by content: %+v, %v", files, err)
	}
	newest, err := s.Requests(ctx, store.Filter{Limit: 1})
	if err != nil || newest[0].ID.String() != id("app4") {
		t.Errorf("newest first: %v, %v", newest, err)
	}
}

// Requests that were created at one time are not lost between pages.
func pages(t *testing.T, s store.Store) {
	ctx := t.Context()
	const n = 25
	for i := range n {
		c := NewRequest(fmt.Sprint("app", i), 1)
		c.New.Created = epoch.Add(time.Duration(i/10) * time.Minute)
		must(t, s.Apply(ctx, c))
	}
	seen := map[statement.ID]bool{}
	f := store.Filter{Limit: 4}
	for range n {
		list, err := s.Requests(ctx, f)
		must(t, err)
		for _, r := range list {
			if seen[r.ID] {
				t.Fatalf("request %s stands on two pages", r.ID)
			}
			seen[r.ID] = true
			f.Before, f.BeforeID = r.Created, r.ID
		}
		if len(list) < f.Limit {
			break
		}
	}
	if len(seen) != n {
		t.Fatalf("%d of %d requests stand on the pages", len(seen), n)
	}
}

// The receipt of a request that this database does not know is kept, and logged,
// once, whoever else brings it.
func receiptOnce(t *testing.T, s store.Store) {
	ctx := t.Context()
	id := statement.ID{7}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			errs[i] = s.Apply(ctx, &store.Change{At: epoch, Entries: []store.LogEntry{entry("receipt", id, "receipt")},
				Receipt: &store.Receipt{Number: 3, Request: id, Outcome: statement.Executed, Time: epoch, Envelope: []byte("receipt")}})
		})
	}
	wg.Wait()
	kept := 0
	for _, err := range errs {
		if err == nil {
			kept++
		} else if !errors.Is(err, store.ErrConflict) {
			t.Error(err)
		}
	}
	if n, err := s.Sequence(ctx, 100); kept != 1 || n != 1 || err != nil {
		t.Errorf("kept %d times, logged %d times, %v", kept, n, err)
	}
}

// A step with the first receipt of a number is a conflict when that number is
// there, and changes nothing; the others of its group are applied.
func firstReceipt(t *testing.T, s store.Store) {
	ctx := t.Context()
	const n = 8
	var reqs []*store.Change
	for i := range n {
		reqs = append(reqs, NewRequest(fmt.Sprint("app", i), 1))
		must(t, s.Apply(ctx, reqs[i]))
	}
	if got, err := s.Sequence(ctx, 100); got != n || err != nil {
		t.Fatalf("%d entries, %v", got, err)
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			id, number := reqs[i].New.ID, uint64(i/2+1) // two want each number
			errs[i] = s.Apply(ctx, &store.Change{Request: id, Revision: 1, State: store.Executed, At: epoch, First: true, Entries: []store.LogEntry{entry("receipt", id, "receipt")},
				Receipt: &store.Receipt{Number: number, Request: id, Outcome: statement.Executed, Time: epoch, Envelope: id[:]}})
		})
	}
	wg.Wait()
	kept := 0
	for i, err := range errs {
		r, e := s.Request(ctx, reqs[i].New.ID)
		must(t, e)
		switch {
		case err == nil:
			kept++
			if rc, e := s.Receipt(ctx, uint64(i/2+1)); e != nil || rc.Request != r.ID || r.State != store.Executed {
				t.Errorf("request %d: %+v, receipt %+v, %v", i, r, rc, e)
			}
		case !errors.Is(err, store.ErrConflict):
			t.Error(err)
		case r.Revision != 1 || r.State != store.Pending:
			t.Errorf("request %d, whose step was refused, is %s at revision %d", i, r.State, r.Revision)
		}
	}
	if got, err := s.Sequence(ctx, 100); kept != n/2 || got != n/2 || err != nil {
		t.Errorf("%d receipts kept, %d logged, %v: want %d", kept, got, err, n/2)
	}
}

// A filter that no request can match finds nothing, and is no error.
func filterText(t *testing.T, s store.Store) {
	must(t, s.Apply(t.Context(), NewRequest("app", 1)))
	for _, x := range []string{"a\x00b", "\xff", "\x00"} {
		for what, f := range map[string]store.Filter{
			"policy": {Policy: x}, "key": {Key: x}, "requester": {Requester: x}, "endorser": {Endorser: x},
			"command": {Command: statement.CommandName(x)}, "name": {Name: x + "z"}, "state": {States: []store.State{store.State(x)}},
		} {
			if got, err := s.Requests(t.Context(), f); err != nil || len(got) != 0 {
				t.Errorf("%s %q: %d requests, %v", what, x, len(got), err)
			}
		}
	}
}

func hostileText(t *testing.T, s store.Store) {
	ctx := t.Context()
	c := NewRequest("app", 1)
	c.Files[0].Name = "zero\x00byte'; DROP TABLE requests; --\xff"
	c.New.Detail = "\x00"
	must(t, s.Apply(ctx, c))
	f, err := s.Files(ctx, c.New.ID)
	if err != nil || len(f) != 1 || !bytes.Contains([]byte(f[0].Name), []byte("DROP TABLE")) {
		t.Fatalf("%+v, %v", f, err)
	}
}

func sequence(t *testing.T, s store.Store) {
	ctx := t.Context()
	const n = 1000
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			id := statement.ID(sha256.Sum256(fmt.Append(nil, i)))
			if err := s.Apply(ctx, &store.Change{At: epoch, Entries: []store.LogEntry{entry("request", id, fmt.Sprint(i))}}); err != nil {
				t.Error(err)
			}
		})
	}
	total := 0
	for total < n && !t.Failed() {
		counts := make([]int, 3)
		var seq sync.WaitGroup
		for w := range counts { // several sequencers at once take turns
			seq.Go(func() {
				var err error
				if counts[w], err = s.Sequence(ctx, 128); err != nil && !errors.Is(err, store.ErrBusy) {
					t.Error(err)
				}
			})
		}
		seq.Wait()
		for _, c := range counts {
			total += c
		}
	}
	wg.Wait()
	h, err := s.Head(ctx)
	must(t, err)
	if h.Tree.Size != n || total != n {
		t.Fatalf("tree of %d, %d sequenced, want %d", h.Tree.Size, total, n)
	}
	// The root is that of the bundles, and every entry is there once.
	seen := map[string]bool{}
	var all [][]byte
	for i := int64(0); i*256 < n; i++ {
		w := int(min(256, n-i*256))
		b, err := s.ReadBundle(ctx, i, w)
		must(t, err)
		es, err := audit.ParseBundle(b, w)
		must(t, err)
		for _, e := range es {
			if seen[string(e)] {
				t.Fatal("an entry stands twice")
			}
			seen[string(e)] = true
			all = append(all, e)
		}
	}
	again, err := audit.Integrate(ctx, nil, audit.EmptyTree(), all)
	must(t, err)
	if again.Tree != h.Tree {
		t.Fatal("the root is not that of the entries")
	}
	must(t, s.SetCheckpoint(ctx, n, []byte("note")))
	must(t, s.SetCheckpoint(ctx, n-1, []byte("older")))
	must(t, s.SetCheckpoint(ctx, n+1, []byte("beyond")))
	if h, err = s.Head(ctx); err != nil || string(h.Note) != "note" || h.Signed != n {
		t.Fatalf("head %+v, %v", h, err)
	}
	e, err := s.EntriesOf(ctx, sha256.Sum256([]byte("17")))
	if err != nil || len(e) != 1 || e[0].Kind != "request" {
		t.Fatalf("entries of a request: %+v, %v", e, err)
	}
}

// Of those who send a request and those who withdraw it at one revision, one
// succeeds; what is sent does not expire by itself.
func sentOrWithdrawn(t *testing.T, s store.Store) {
	for i := range 12 {
		c := NewRequest(fmt.Sprint("app", i), 1)
		c.New.State, c.New.Sent = store.Endorsed, i%3 == 0
		must(t, s.Apply(t.Context(), c))
		r, err := s.Request(t.Context(), c.New.ID)
		must(t, err)
		if r.Sent != c.New.Sent {
			t.Fatalf("made with sent %v, read %v", c.New.Sent, r.Sent)
		}
		if r.Sent { // given back
			back := &store.Change{Request: r.ID, Revision: r.Revision, At: epoch}
			must(t, s.Apply(t.Context(), back))
			r = r.After(back)
		}
		steps := []*store.Change{
			{Request: r.ID, Revision: r.Revision, Sent: true, At: epoch},
			{Request: r.ID, Revision: r.Revision, State: store.Cancelled, At: epoch},
			{Request: r.ID, Revision: r.Revision, State: store.Disapproved, At: epoch},
		}
		errs := make([]error, len(steps))
		var wg sync.WaitGroup
		for k, c := range steps {
			wg.Go(func() { errs[k] = s.Apply(t.Context(), c) })
		}
		wg.Wait()
		won := -1
		for k, err := range errs {
			switch {
			case err == nil && won < 0:
				won = k
			case !errors.Is(err, store.ErrConflict):
				t.Errorf("step %d beside step %d: %v", k, won, err)
			}
		}
		if won < 0 {
			t.Fatal("no step succeeded")
		}
		got, err := s.Request(t.Context(), r.ID)
		must(t, err)
		if want := r.After(steps[won]); !reflect.DeepEqual(got, want) {
			t.Errorf("after step %d: %+v, want %+v", won, got, want)
		}
	}
	sent := NewRequest("sent", 1)
	sent.New.State, sent.New.Sent = store.Endorsed, true
	must(t, s.Apply(t.Context(), sent))
	due, err := s.Due(t.Context(), epoch.Add(1000*time.Hour), 100)
	must(t, err)
	for _, id := range due {
		if r, err := s.Request(t.Context(), id); err != nil || r.Sent {
			t.Errorf("due: %+v, %v", r, err)
		}
	}
	left, err := s.Stuck(t.Context(), epoch.Add(time.Hour), 0, 100)
	must(t, err)
	if !slices.Contains(left, sent.New.ID) {
		t.Error("nobody takes up what was sent")
	}
}
