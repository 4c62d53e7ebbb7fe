package analysis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/statement"
)

// naive counts a log that settled by reading it from the beginning, request by
// request, in memory: it shares nothing with the steps but the words.
func naive(t *testing.T, s store.Store) map[Kind]map[cell]int64 {
	t.Helper()
	ctx := t.Context()
	h, err := s.Head(ctx)
	must(t, err)
	out := map[Kind]map[cell]int64{}
	add := func(k Kind, at time.Time, name, other string, bucket, n int64) {
		if out[k] == nil {
			out[k] = map[cell]int64{}
		}
		day := at.UTC().Truncate(24 * time.Hour)
		for (k == Quorum || k == Pace) && day.Weekday() != time.Monday {
			day = day.AddDate(0, 0, -1)
		}
		out[k][cell{day.Unix() / 86400, name, other, bucket}] += n
	}
	entered := map[[32]byte]time.Time{}
	asked := map[[32]byte]*statement.Request{}
	arrived := map[statement.ID]time.Time{}
	about := func(id [32]byte) string {
		r := asked[id]
		if r == nil {
			return ""
		}
		if r.Command.Sign != nil {
			return r.Command.Sign.Policy
		}
		return "(" + string(r.Command.Name) + ")"
	}
	for i := int64(0); i < h.Tree.Size; i++ {
		b, err := s.ReadBundle(ctx, i/256, int(i%256)+1)
		must(t, err)
		raw, err := audit.ParseBundle(b, int(i%256)+1)
		must(t, err)
		e, err := audit.DecodeEntry(raw[i%256])
		must(t, err)
		body, err := e.Body(nil)
		must(t, err)
		switch e.Kind {
		case audit.KindRequest:
			r, err := payload[statement.Request](body)
			must(t, err)
			entered[e.Request], asked[e.Request] = e.Time, r
			add(Requests, e.Time, r.Requester, "", 0, 1)
		case audit.KindEndorsement:
			env, err := statement.DecodeEnvelope(body)
			must(t, err)
			x, err := payload[statement.Endorsement](body)
			must(t, err)
			arrived[env.ID()] = e.Time
			if x.Verdict == statement.Endorse {
				add(Endorsed, e.Time, x.Endorser, "", 0, 1)
			} else {
				add(Disapproved, e.Time, x.Endorser, about(e.Request), 0, 1)
			}
			add(Pace, e.Time, x.Endorser, "", Bucket(e.Time.Sub(entered[e.Request])), 1)
		case audit.KindReceipt:
			x, err := payload[statement.Receipt](body)
			must(t, err)
			name := about(e.Request)
			if name == "" {
				name = string(x.Command)
			}
			if x.Outcome == statement.Refused {
				add(Refused, e.Time, x.Code, name, 0, 1)
				continue
			}
			add(Executed, e.Time, name, "", 0, 1)
			if x.Signed != nil {
				add(Signatures, e.Time, x.Signed.Policy, "", 0, int64(x.Signed.Count))
				add(ByKey, e.Time, x.Signed.Key, "", 0, int64(x.Signed.Count))
				items, err := s.Items(ctx, e.Request)
				must(t, err)
				views, err := server.Files(items, 0, len(items))
				must(t, err)
				for _, f := range views {
					add(ByFormat, e.Time, f.Format, "", 0, 1)
				}
			}
			var last time.Time
			for _, id := range x.Endorsements {
				if arrived[id].After(last) {
					last = arrived[id]
				}
			}
			if r := asked[e.Request]; r != nil && !last.IsZero() {
				add(Quorum, e.Time, name, "", Bucket(last.Sub(entered[e.Request])), 1)
			}
		case audit.KindCancel:
			add(Cancelled, e.Time, about(e.Request), "", 0, 1)
		case audit.KindExpire:
			add(Expired, e.Time, about(e.Request), "", 0, 1)
		case audit.KindRejection:
			add(Rejected, e.Time, "", "", 0, 1)
		}
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Invariants 1 and 2: whatever happens, counted in steps by replicas side by side,
// some of which begin anew, the numbers are those of counting everything at once.
func TestStepsEqualFromScratch(t *testing.T) {
	pg := pgtest.Start(t)
	for name, dsn := range map[string]string{"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "greatseal.db"), "postgres": pg.Database()} {
		t.Run(name, func(t *testing.T) {
			w := servertest.New(t)
			st := w.Store(dsn)
			s, _ := w.Server(st)
			rnd := rand.New(rand.NewPCG(1, 2))
			ctx := t.Context()
			replicas := []*Analysis{New(st), New(st), New(st)}
			for i := range 60 {
				items := w.Files(fmt.Sprint("app", i), 1+rnd.IntN(3))
				who, policy := []string{"alice", "ann", "ci"}[rnd.IntN(3)], []string{"release", "single", "nightly"}[rnd.IntN(3)]
				r, _, err := s.Submit(ctx, w.Sign(who, policy, items), items)
				must(t, err)
				w.Pass(time.Duration(rnd.IntN(3600)) * time.Second)
				if r.State == store.Pending {
					for _, e := range []string{"bob", "carol", "dave"}[:rnd.IntN(4)] {
						verdict := statement.Endorse
						if rnd.IntN(6) == 0 {
							verdict = statement.Disapprove
						}
						_, _ = s.Endorse(ctx, w.Say(verdict, e, r.Envelope)) // some come too late
						w.Pass(time.Duration(rnd.IntN(600)) * time.Second)
					}
					_, _ = s.Endorse(ctx, w.Endorse("xena", r.Envelope)) // who has no say: rejected
				}
				if i%7 == 0 {
					replicas[rnd.IntN(3)] = New(st) // died, and began anew
				}
				var wg sync.WaitGroup
				for _, a := range replicas {
					wg.Go(func() {
						if _, err := a.Refresh(ctx); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			}
			w.Pass(48 * time.Hour) // what is open runs out
			settle(t, s, st)
			want := naive(t, st)
			for _, k := range []Kind{Signatures, Requests, Executed, Endorsed, Disapproved, Quorum, Pace, Expired, Rejected} {
				if len(want[k]) == 0 {
					t.Errorf("nothing of kind %s has happened", k)
				}
			}
			for i, a := range append(replicas, New(st)) {
				must(t, a.All(ctx))
				if !reflect.DeepEqual(cellsOf(a), want) {
					t.Errorf("replica %d has\n%v\nwant\n%v", i, cellsOf(a), want)
				}
			}
		})
	}
}

// settle waits until nothing is open and the log has everything.
func settle(t *testing.T, s *server.Server, st store.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		open, err := s.List(ctx, store.Filter{States: []store.State{store.Pending, store.Endorsed}})
		must(t, err)
		if len(open) > 0 {
			continue
		}
		for n := 1; n > 0; { // what closes a request has its entry wait, and waits for nobody else's
			n, err = st.Sequence(ctx, 1000)
			must(t, err)
		}
		return
	}
	t.Fatal("requests stay open")
}

// An entry that nobody can read is counted as such, and does not hold up the rest.
func TestUnreadableEntries(t *testing.T) {
	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	must(t, err)
	defer st.Close()
	at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	for _, k := range audit.Kinds() {
		e := audit.NewEntry(k, at, [32]byte{1}, []byte("no envelope"))
		b, err := e.Encode()
		must(t, err)
		must(t, st.Apply(t.Context(), &store.Change{At: at, Entries: []store.LogEntry{{Kind: k, Request: [32]byte{1}, Time: at, Data: b}}}))
	}
	_, err = st.Sequence(t.Context(), 100)
	must(t, err)
	a := New(st)
	must(t, a.All(t.Context()))
	if n := a.Total(Unread, Range{0, 1 << 40}); n != 2 || a.Entries() != int64(len(audit.Kinds())) || a.Total(Rejected, Range{0, 1 << 40}) != 1 {
		t.Errorf("%d unread of %d entries", n, a.Entries())
	}
}

// cellsOf are all numbers of an Analysis, each in its cell.
func cellsOf(a *Analysis) map[Kind]map[cell]int64 {
	out := map[Kind]map[cell]int64{}
	for k, t := range a.have {
		out[k] = map[cell]int64{}
		for _, x := range t.rows {
			out[k][cell{x.day, t.names[x.name], t.names[x.other], x.bucket}] = x.n
		}
	}
	return out
}

func TestBuckets(t *testing.T) {
	last := int64(-1)
	for d := time.Duration(0); d < 400*24*time.Hour; d = d*103/100 + 100*time.Millisecond {
		b := Bucket(d)
		if b < last {
			t.Fatalf("%v is in step %d, after %d", d, b, last)
		}
		last = b
		if got := Of(b); d >= time.Second && (float64(got) < 0.95*float64(d) || float64(got) > 1.05*float64(d)) {
			t.Errorf("%v is told as %v", d, got)
		}
	}
	var s []bucketed
	for i := range 100 {
		s = append(s, bucketed{Bucket(time.Duration(i+1) * time.Minute), 1})
	}
	x := spread(s)
	if near := func(got, want time.Duration) bool { return got > want*93/100 && got < want*107/100 }; x.N != 100 || !near(x.Median, 50*time.Minute) || !near(x.P90, 90*time.Minute) {
		t.Errorf("%+v", x)
	}
}

func TestQueries(t *testing.T) {
	a := New(nil)
	x := newTable()
	for c, n := range map[cell]int64{{10, "a", "", 0}: 1, {11, "a", "", 0}: 5, {11, "b", "", 0}: 2, {12, "b", "", 0}: 1, {13, "c", "", 0}: 9} {
		x.raise(c, n)
	}
	x.order()
	a.have[Signatures] = x
	r := Range{11, 13}
	if got := fmt.Sprint(a.By(Signatures, r), a.Total(Signatures, r), a.Series(Signatures, "", r, 1), a.Series(Signatures, "b", r, 2), a.Last(Signatures)); got !=
		"[{a  5} {b  3}] 8 [{11 7} {12 1}] [{11 3}] map[a:11 b:12 c:13]" {
		t.Error(got)
	}
	if got := fmt.Sprint(a.Growth(Signatures, r)); got != "[{a 1 5} {b 0 3}]" {
		t.Error(got)
	}
}

// Distributions are told apart by name and by week, and one name's are its own.
func TestSpreads(t *testing.T) {
	a := New(nil)
	x := newTable()
	minute, hour := Bucket(time.Minute), Bucket(time.Hour)
	for c, n := range map[cell]int64{{4, "b", "", minute}: 3, {4, "b", "", hour}: 2, {4, "a", "", hour}: 1, {11, "a", "", minute}: 4, {18, "a", "", hour}: 9} {
		x.raise(c, n)
	}
	x.order()
	a.have[Quorum] = x
	r := Range{6, 13} // touches the weeks from 4 and from 11
	of := func(list []Spread) string {
		var out []any
		for _, s := range list {
			out = append(out, s.Name, s.Day, s.N, Bucket(s.Median) == minute, Bucket(s.P90) == minute)
		}
		return fmt.Sprint(out...)
	}
	for what, got := range map[string]string{
		of(a.SpreadBy(Quorum, r)):            fmt.Sprint("a", 0, 5, true, false, "b", 0, 5, true, false),
		of(a.SpreadSeries(Quorum, "", r)):    fmt.Sprint("", 4, 6, true, false, "", 11, 4, true, true),
		of(a.SpreadSeries(Quorum, "b", r)):   fmt.Sprint("", 4, 5, true, false),
		of(a.SpreadSeries(Quorum, "zzz", r)): fmt.Sprint(),
		of(a.SpreadBy(Pace, r)):              fmt.Sprint(),
	} {
		if what != got {
			t.Errorf("%s\nwant %s", what, got)
		}
	}
}
