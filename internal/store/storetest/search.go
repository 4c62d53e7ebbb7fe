package storetest

// What was signed, as it is searched; searches that are kept; tallies.

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// signedAt executes a request at a time, endorsed by some.
func signedAt(t *testing.T, s store.Store, c *store.Change, number uint64, at time.Time, endorsers ...string) {
	t.Helper()
	ctx := t.Context()
	must(t, s.Apply(ctx, c))
	revision := int64(1)
	for _, who := range endorsers {
		must(t, s.Apply(ctx, &store.Change{Request: c.New.ID, Revision: revision, At: at,
			Endorsement: &store.Endorsement{ID: sha256.Sum256(append(c.New.ID[:], who...)), Endorser: who, Verdict: statement.Endorse, Arrived: at, Envelope: []byte{1}}}))
		revision++
	}
	must(t, s.Apply(ctx, &store.Change{Request: c.New.ID, Revision: revision, State: store.Executed, At: at, Result: []byte("result"),
		Receipt: &store.Receipt{Number: number, Request: c.New.ID, Outcome: statement.Executed, Time: at, Envelope: []byte("receipt")},
		Entries: []store.LogEntry{entry("receipt", c.New.ID, fmt.Sprint(number))}}))
}

func names(p *store.FoundPage) string {
	var out []string
	for _, f := range p.Files {
		out = append(out, f.Name)
	}
	return strings.Join(out, " ")
}

func searchFiles(t *testing.T, s store.Store) {
	ctx := t.Context()
	also := sha256.Sum256([]byte("payload"))
	for i, name := range []string{"app-1.0-x64.exe", "Setup.MSI", "tool", "app-1.1-x64.exe", "größe_100%.bin"} {
		c := NewRequest(name, 1)
		f := &c.Files[0]
		f.Name = name
		switch i {
		case 1:
			f.Format, f.Product, f.Publisher, c.New.Policy, c.New.Key, c.New.Requester = "msi", "Big Product", "Example Ltd", "installers", "other", "bob"
		case 2:
			f.Also = [][]byte{also[:]}
		}
		signedAt(t, s, c, uint64(i+1), epoch.Add(time.Duration(i)*time.Hour), fmt.Sprint("e", i), "everybody")
	}
	open := NewRequest("open", 1) // not signed: not found
	must(t, s.Apply(ctx, open))
	must(t, s.Apply(ctx, &store.Change{Request: open.New.ID, Revision: 1, At: epoch,
		Endorsement: &store.Endorsement{ID: sha256.Sum256([]byte("early")), Endorser: "early", Verdict: statement.Endorse, Arrived: epoch, Envelope: []byte{1}}}))
	if n, err := s.Sequence(ctx, 100); n != 11 || err != nil {
		t.Fatalf("%d entries, %v", n, err)
	}
	content := sha256.Sum256([]byte("item 0 of tool"))
	full := hex.EncodeToString(content[:])
	all := "größe_100%.bin app-1.1-x64.exe tool Setup.MSI app-1.0-x64.exe"
	for _, c := range []struct {
		what string
		f    store.FileFilter
		want string
	}{
		{"everything", store.FileFilter{}, all},
		{"limit", store.FileFilter{Limit: 2}, "größe_100%.bin app-1.1-x64.exe"},
		{"digest", store.FileFilter{Digest: full}, "tool"},
		{"beginning of a digest", store.FileFilter{Digest: full[:9]}, "tool"},
		{"digest among the facts", store.FileFilter{Digest: hex.EncodeToString(also[:])[:8]}, "tool"},
		{"another digest", store.FileFilter{Digest: "00000000"}, ""},
		{"name", store.FileFilter{Name: "setup.msi"}, "Setup.MSI"},
		{"beginning of a name", store.FileFilter{Name: "APP-*"}, "app-1.1-x64.exe app-1.0-x64.exe"},
		{"short beginning", store.FileFilter{Name: "s*"}, "Setup.MSI"},
		{"end of a name", store.FileFilter{Name: "*.exe"}, "app-1.1-x64.exe app-1.0-x64.exe"},
		{"middle of a name", store.FileFilter{Name: "*1.1*"}, "app-1.1-x64.exe"},
		{"letters that are no ASCII", store.FileFilter{Name: "GRÖ*"}, "größe_100%.bin"},
		{"two parts", store.FileFilter{Name: "*app*x64*"}, "app-1.1-x64.exe app-1.0-x64.exe"},
		{"two letters", store.FileFilter{Name: "*oo*"}, "tool"},
		{"any", store.FileFilter{Name: "*"}, all},
		{"no pattern of SQL", store.FileFilter{Name: "t__l"}, ""},
		{"percent", store.FileFilter{Name: "*0%*"}, "größe_100%.bin"},
		{"product", store.FileFilter{Product: "big product"}, "Setup.MSI"},
		{"publisher", store.FileFilter{Publisher: "EXAMPLE LTD"}, "Setup.MSI"},
		{"policy", store.FileFilter{Policy: "installers"}, "Setup.MSI"},
		{"key", store.FileFilter{Key: "other"}, "Setup.MSI"},
		{"format", store.FileFilter{Format: "msi"}, "Setup.MSI"},
		{"requester", store.FileFilter{Requester: "bob"}, "Setup.MSI"},
		{"endorser", store.FileFilter{Endorser: "e2"}, "tool"},
		{"endorser of all", store.FileFilter{Endorser: "everybody"}, all},
		{"endorser of none", store.FileFilter{Endorser: "nobody"}, ""},
		{"endorser of what was not signed", store.FileFilter{Endorser: "early"}, ""},
		{"person of none", store.FileFilter{Person: "nobody"}, ""},
		{"person", store.FileFilter{Person: "bob"}, "Setup.MSI"},
		{"person who endorses", store.FileFilter{Person: "e0"}, "app-1.0-x64.exe"},
		{"since", store.FileFilter{Since: epoch.Add(3 * time.Hour)}, "größe_100%.bin app-1.1-x64.exe"},
		{"until", store.FileFilter{Until: epoch.Add(time.Hour)}, "app-1.0-x64.exe"},
		{"times and a list", store.FileFilter{Name: "app*", Since: epoch.Add(time.Hour), Until: epoch.Add(4 * time.Hour)}, "app-1.1-x64.exe"},
		{"all of it", store.FileFilter{Name: "*setup*", Policy: "installers", Endorser: "e1", Requester: "bob", Format: "msi", Product: "Big Product", Since: epoch}, "Setup.MSI"},
		{"contradiction", store.FileFilter{Policy: "installers", Requester: "alice"}, ""},
		{"injection", store.FileFilter{Policy: "x' OR '1'='1"}, ""},
	} {
		p, err := s.Search(ctx, c.f)
		if err != nil || names(p) != c.want {
			t.Errorf("%s: %q, %v: want %q", c.what, names(p), err, c.want)
			continue
		}
		if p.Behind || p.Stopped || p.Next.IsZero() != (c.what != "limit") {
			t.Errorf("%s: %+v", c.what, p)
		}
	}
	p, err := s.Search(ctx, store.FileFilter{Name: "setup*"})
	must(t, err)
	if f := p.Files[0]; f.Receipt != 2 || f.Product != "Big Product" || f.Publisher != "Example Ltd" || f.Entry < 0 || !f.Signed.Equal(epoch.Add(time.Hour)) || f.Request != statement.ID(sha256.Sum256([]byte("Setup.MSI"))) {
		t.Errorf("%+v", f)
	}
	if e, err := s.EntriesOf(ctx, p.Files[0].Request); err != nil || len(e) != 2 || e[1].Index != p.Files[0].Entry {
		t.Errorf("%+v, %v", e, err)
	}
	for _, bad := range []string{"abc", "xyzxyzxyz", strings.Repeat("0", 129)} {
		if _, err := s.Search(ctx, store.FileFilter{Digest: bad}); err == nil {
			t.Errorf("digest %q was taken", bad)
		}
	}
	// A list of requests finds the same names, and those that are not signed.
	for pattern, want := range map[string]int{"app-*": 2, "*oo*": 1, "open-*": 1, "*": 6, "nothing*": 0, "*.exe": 3} {
		if got, err := s.Requests(ctx, store.Filter{Name: pattern}); err != nil || len(got) != want {
			t.Errorf("requests with a file %s: %d, %v: want %d", pattern, len(got), err, want)
		}
	}
}

// Whoever speaks often is searched for in another way than whoever seldom does: both
// find everything, at the bound too.
func searchFilesOften(t *testing.T, s store.Store) {
	ctx := t.Context()
	const n = 101
	for i := range n {
		endorsers := []string{"often"}
		if i > 0 {
			endorsers = append(endorsers, "seldom")
		}
		signedAt(t, s, NewRequest(fmt.Sprint("app", i), 1), uint64(i+1), epoch.Add(time.Duration(i)*time.Minute), endorsers...)
	}
	for who, want := range map[string]int{"often": n, "seldom": n - 1, "never": 0} {
		for what, f := range map[string]store.FileFilter{"endorser": {Endorser: who}, "person": {Person: who}, "policy too": {Endorser: who, Policy: "windows"}} {
			found := map[string]bool{}
			for {
				p, err := s.Search(ctx, f)
				must(t, err)
				for _, x := range p.Files {
					found[x.Name] = true
				}
				if p.Next.IsZero() {
					break
				}
				f.After = p.Next
			}
			if len(found) != want {
				t.Errorf("%s %s: %d files, want %d", what, who, len(found), want)
			}
		}
	}
}

func searchFilesHostile(t *testing.T, s store.Store) {
	ctx := t.Context()
	for i, name := range []string{"zero\x00byte'; DROP TABLE catalogue; --\xff", `"quoted" AND "x`, `back\slash%_`, "<script>alert(1)</script>", strings.Repeat("long", 1000)} {
		c := NewRequest(fmt.Sprint("app", i), 1)
		c.Files[0].Name, c.Files[0].Product, c.Files[0].Publisher = name, name[:min(200, len(name))], name[:min(200, len(name))]
		signedAt(t, s, c, uint64(i+1), epoch)
	}
	for pattern, want := range map[string]int{`*"quoted"*`: 1, `*\slash%*`: 1, `*\slash*`: 1, "*script*": 1, "*drop table*": 1, "longlong*": 1, "*longlong": 1, "*\x00*": 1, "*' OR 1=1*": 0, `*"*`: 1, "%": 0} {
		if p, err := s.Search(ctx, store.FileFilter{Name: pattern}); err != nil || len(p.Files) != want {
			t.Errorf("%q: %v, %v: want %d", pattern, p, err, want)
		}
	}
	for _, x := range []string{"a\x00b", "\xff", "$1", "?"} {
		for what, f := range map[string]store.FileFilter{"policy": {Policy: x}, "key": {Key: x}, "product": {Product: x}, "publisher": {Publisher: x}, "endorser": {Endorser: x}, "person": {Person: x}, "format": {Format: x}, "requester": {Requester: x}} {
			if p, err := s.Search(ctx, f); err != nil || len(p.Files) != 0 {
				t.Errorf("%s %q: %v, %v", what, x, p, err)
			}
		}
	}
}

// Files that are signed while somebody pages neither hide others nor show them twice.
func searchFilesPages(t *testing.T, s store.Store) {
	ctx := t.Context()
	const n = 30
	for i := range n {
		signedAt(t, s, NewRequest(fmt.Sprint("app", i), 2), uint64(i+1), epoch.Add(time.Duration(i/5)*time.Minute), "bob")
	}
	for _, f := range []store.FileFilter{{}, {Policy: "windows"}, {Name: "app*"}, {Endorser: "bob"}} {
		seen := map[string]bool{}
		f.Limit = 7
		for page := range 100 {
			p, err := s.Search(ctx, f)
			must(t, err)
			for _, x := range p.Files {
				if seen[x.Name] {
					t.Fatalf("%+v: %s stands on two pages", f, x.Name)
				}
				seen[x.Name] = true
			}
			if p.Next.IsZero() {
				break
			}
			if again, err := store.ParsePlace(p.Next.String()); err != nil || again != p.Next {
				t.Fatalf("place %s: %v, %v", p.Next, again, err)
			}
			f.After = p.Next
			c := NewRequest(fmt.Sprintf("later%d-%+v", page, f), 1)
			signedAt(t, s, c, uint64(1000*(1+len(seen))+page), epoch.Add(time.Hour), "bob")
		}
		for i := range n {
			for j := range 2 {
				if name := fmt.Sprintf("app%d-%d.exe", i, j); !seen[name] {
					t.Errorf("%+v: %s is missing", f, name)
				}
			}
		}
	}
	for _, bad := range []string{"1", "1-0", "-1-2", "01-2", "1-2 ", "a-b", "1-99999999999999999999"} {
		if p, err := store.ParsePlace(bad); err == nil {
			t.Errorf("%q is place %v", bad, p)
		}
	}
}

// Of what is frequent the newest are looked through, and a page says where it
// stopped: paging on finds all.
func searchFilesMany(t *testing.T, s store.Store) {
	ctx := t.Context()
	const n, last = 7500, 3
	for i := range last {
		c := NewRequest(fmt.Sprint("big", i), n/last)
		for j := range c.Files {
			c.Files[j].Name = fmt.Sprintf("common-%d.exe", i*n/last+j)
		}
		c.Files[0].Format = "rare"
		if i == 0 {
			c.Files[0].Name = "common-needle.exe"
		}
		signedAt(t, s, c, uint64(i+1), epoch.Add(time.Duration(i)*time.Minute), "bob")
	}
	for {
		if k, err := s.Enter(ctx, 5000); err != nil {
			t.Fatal(err)
		} else if k == 0 {
			break
		}
	}
	p, err := s.Search(ctx, store.FileFilter{Name: "*needle*"})
	must(t, err)
	if names(p) != "common-needle.exe" || p.Stopped {
		t.Errorf("%+v", p)
	}
	if p, err = s.Search(ctx, store.FileFilter{Format: "rare"}); err != nil || len(p.Files) != last {
		t.Errorf("%+v, %v", p, err)
	}
	// Nothing in order finds this: all begin so, and bob has endorsed all.
	f := store.FileFilter{Name: "common-*", Endorser: "bob", Digest: ""}
	f.Name = "common-*e*dle*"
	found, stopped := 0, 0
	for range 10 {
		p, err := s.Search(ctx, f)
		must(t, err)
		found += len(p.Files)
		if p.Stopped {
			stopped++
		}
		if f.After = p.Next; p.Next.IsZero() {
			break
		}
	}
	if found != 1 || stopped == 0 {
		t.Errorf("found %d, stopped %d times", found, stopped)
	}
}

// Files come into the catalogue once, whoever enters them, also those of a request
// that has more than one transaction takes.
func enteredOnce(t *testing.T, s store.Store) {
	ctx := t.Context()
	total := 0
	for i, n := range []int{1, 1300, 512, 3, 1} {
		signedAt(t, s, NewRequest(fmt.Sprint("app", i), n), uint64(i+1), epoch)
		total += n
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	entered := 0
	for range 3 {
		wg.Go(func() {
			for range 200 {
				n, err := s.Enter(ctx, 300)
				if errors.Is(err, store.ErrBusy) {
					continue
				}
				mu.Lock()
				entered += n
				mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if n == 0 || err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if entered != total {
		t.Fatalf("%d of %d files were entered", entered, total)
	}
	p, err := s.Search(ctx, store.FileFilter{Limit: 1000, Name: "app1-*"})
	if err != nil || len(p.Files) != 1000 || p.Next.IsZero() {
		t.Errorf("%d files, %v", len(p.Files), err)
	}
}

func awaiting(t *testing.T, s store.Store) {
	ctx := t.Context()
	for i := range 6 {
		c := NewRequest(fmt.Sprint("app", i), 1)
		c.New.Created = epoch.Add(time.Duration(i) * time.Minute)
		switch i {
		case 1:
			c.New.Policy = "linux"
		case 2:
			c.New.Policy, c.New.Command = "", statement.KeyGenerate
		case 3:
			c.New.Policy, c.New.Command = "", statement.CharterReplace
		case 4:
			c.New.Requester = "bob"
		}
		must(t, s.Apply(ctx, c))
		if i == 5 {
			must(t, s.Apply(ctx, &store.Change{Request: c.New.ID, Revision: 1, At: epoch, Endorsement: &store.Endorsement{ID: c.New.ID, Envelope: []byte{1}, Endorser: "bob", Verdict: statement.Endorse, Arrived: epoch}}))
		}
	}
	for _, c := range []struct {
		a    store.Awaiting
		want []string
	}{
		{store.Awaiting{}, nil},
		{store.Awaiting{Policies: []string{"windows"}}, []string{"app5", "app4", "app0"}},
		{store.Awaiting{Policies: []string{"windows"}, Actors: []string{"bob", "bobs-ci"}}, []string{"app0"}},
		{store.Awaiting{Policies: []string{"windows", "linux"}, Actors: []string{"bob"}}, []string{"app1", "app0"}},
		{store.Awaiting{Commands: []statement.CommandName{statement.KeyGenerate}}, []string{"app2"}},
		{store.Awaiting{Policies: []string{"linux"}, Commands: []statement.CommandName{statement.KeyGenerate, statement.CharterReplace}}, []string{"app3", "app2", "app1"}},
	} {
		got, err := s.Requests(ctx, store.Filter{States: []store.State{store.Pending}, Awaiting: &c.a})
		must(t, err)
		var ids, want []statement.ID
		for _, r := range got {
			ids = append(ids, r.ID)
		}
		for _, n := range c.want {
			want = append(want, statement.ID(sha256.Sum256([]byte(n))))
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%+v: %v, want %v", c.a, ids, want)
		}
	}
}

func tallies(t *testing.T, s store.Store) {
	ctx := t.Context()
	x := store.Tally{Kind: "policy", Day: 20000, Name: "windows\x00", N: 2}
	must(t, s.Tally(ctx, 0, 5, []store.Tally{x, {Kind: "wait", Day: 20000, Name: "windows", Other: "o", Bucket: 7, N: 1}}))
	if err := s.Tally(ctx, 0, 5, []store.Tally{x}); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("the same entries were counted twice: %v", err)
	}
	got, head, err := s.Tallies(ctx, 0)
	if err != nil || head != 5 || len(got) != 2 {
		t.Fatalf("%+v, %d, %v", got, head, err)
	}
	must(t, s.Tally(ctx, 5, 9, []store.Tally{x}))
	got, head, err = s.Tallies(ctx, 5)
	if err != nil || head != 9 || len(got) != 1 || got[0].N != 4 {
		t.Fatalf("%+v, %d, %v", got, head, err)
	}
	if got, head, err = s.Tallies(ctx, 9); err != nil || head != 9 || len(got) != 0 {
		t.Fatalf("%+v, %d, %v", got, head, err)
	}
	c := NewRequest("app", 3)
	c.Files[2].Format = "msi"
	signedAt(t, s, c, 1, epoch.Add(time.Hour), "bob")
	if _, err := s.Sequence(ctx, 10); err != nil {
		t.Fatal(err)
	}
	b, err := s.Briefs(ctx, []statement.ID{c.New.ID, {1}})
	must(t, err)
	if x := b[c.New.ID]; len(b) != 1 || x.Policy != "windows" || x.Requester != "alice" || x.Formats["pe"] != 2 || x.Formats["msi"] != 1 || !x.Entered.Equal(epoch) || len(x.Endorsements) != 1 || x.Endorsements[0].Endorser != "bob" {
		t.Errorf("%+v", b)
	}
}

func saved(t *testing.T, s store.Store) {
	ctx := t.Context()
	x := store.Saved{ID: "a", Person: "alice", Name: "my\x00 <b>", Query: "policy=x", Created: epoch}
	must(t, s.PutSaved(ctx, x))
	x.ID = "b"
	if err := s.PutSaved(ctx, x); !errors.Is(err, store.ErrExists) {
		t.Errorf("the same name twice: %v", err)
	}
	x.Person = "bob"
	must(t, s.PutSaved(ctx, x))
	if l, err := s.SavedBy(ctx, "alice"); err != nil || len(l) != 1 || l[0].ID != "a" || l[0].Query != "policy=x" || !l[0].Created.Equal(epoch) {
		t.Errorf("%+v, %v", l, err)
	}
	if y, err := s.Saved(ctx, "b"); err != nil || y.Person != "bob" {
		t.Errorf("%+v, %v", y, err)
	}
	if err := s.DeleteSaved(ctx, "alice", "b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("alice removed what is bob's: %v", err)
	}
	must(t, s.DeleteSaved(ctx, "bob", "b"))
	if _, err := s.Saved(ctx, "b"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	for i := range store.MaxSaved {
		err := s.PutSaved(ctx, store.Saved{ID: fmt.Sprint("m", i), Person: "alice", Name: fmt.Sprint(i), Created: epoch})
		if full := i == store.MaxSaved-1; full != errors.Is(err, store.ErrConflict) || !full && err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
}
