package replay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/replay"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// proposal is the charter in force, changed.
func proposal(t *testing.T, s *server.Server, change func(*charter.Charter)) *charter.Charter {
	t.Helper()
	head, ref := s.Chain().Head()
	next, err := charter.Next(head, ref, head.Created)
	if err != nil {
		t.Fatal(err)
	}
	change(next)
	return next
}

func policy(c *charter.Charter, name string, change func(*charter.Policy)) {
	p := c.Policies[name]
	change(&p)
	c.Policies[name] = p
}

// world has one executed request under "release" (two officers) and one under
// "nightly", a pending one under "release" with one endorsement, and a disapproved one.
func world(t *testing.T) (*servertest.World, *server.Server, map[string]statement.ID) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	ids := map[string]statement.ID{}
	submit := func(name, who, policy, file string, endorsers ...string) {
		req := w.Sign(who, policy, w.Files(file, 1))
		items := w.Files(file, 1)
		r, _, err := s.Submit(t.Context(), req, items)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range endorsers {
			env := w.Endorse(strings.TrimPrefix(e, "-"), req)
			if strings.HasPrefix(e, "-") {
				env = w.Say(statement.Disapprove, e[1:], req)
			}
			if _, err := s.Endorse(t.Context(), env); err != nil {
				t.Fatal(err)
			}
		}
		ids[name] = r.ID
	}
	submit("released", "alice", "release", "app", "bob", "carol")
	w.Until(s, ids["released"], store.Executed)
	submit("nightly", "ann", "nightly", "nightly")
	w.Until(s, ids["nightly"], store.Executed)
	submit("waits", "alice", "release", "next", "bob")
	submit("refused", "alice", "single", "bad", "-dave")
	w.Until(s, ids["refused"], store.Disapproved)
	return w, s, ids
}

func TestRun(t *testing.T) {
	w, s, ids := world(t)
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		change func(*charter.Charter)
		want   map[string]string // by name in ids: how it would end and why
	}{
		{"nothing", func(*charter.Charter) {}, nil},
		{"three officers", func(c *charter.Charter) {
			policy(c, "release", func(p *charter.Policy) { p.Rule.Quorum = &charter.Node{Group: "officers", Need: 3} })
		}, map[string]string{"released": "pending: would still wait for 1 more of officers"}},
		{"one officer", func(c *charter.Charter) {
			policy(c, "release", func(p *charter.Policy) { p.Rule.Quorum = &charter.Node{Group: "officers", Need: 1} })
		}, map[string]string{"waits": "granted: the endorsements that it got would be enough: one of officers"}},
		{"nobody", func(c *charter.Charter) {
			policy(c, "release", func(p *charter.Policy) {
				p.Rule = charter.Rule{Requesters: p.Rule.Requesters, Unattended: true}
			})
		}, map[string]string{"waits": "granted: would need nobody's endorsement"}},
		{"no veto", func(c *charter.Charter) {
			policy(c, "single", func(p *charter.Policy) { p.Rule.Veto = nil })
		}, map[string]string{"refused": "pending: would still wait for 1 more of officers"}},
		{"other names", func(c *charter.Charter) {
			policy(c, "nightly", func(p *charter.Policy) { p.Names = []string{"beta-*"} })
		}, map[string]string{"nightly": "refused: item 0, \"nightly-0.bin\": matches none of beta-*"}},
		{"others may ask", func(c *charter.Charter) {
			policy(c, "nightly", func(p *charter.Policy) { p.Rule.Requesters = []string{"builds"} })
		}, map[string]string{"nightly": "refused: policies.nightly does not let ann ask"}},
		{"no such policy", func(c *charter.Charter) { delete(c.Policies, "nightly") },
			map[string]string{"nightly": "refused: the charter has no policy nightly"}},
	} {
		rep, err := replay.Run(ctx, s.Chain(), proposal(t, s, c.change), replay.Server(s), replay.Options{Now: w.Now()})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if rep.Judged != 4 || rep.Differ != len(c.want) || len(rep.Otherwise) != len(c.want) || rep.Version != 2 {
			t.Errorf("%s: %+v: want 4 judged and %d that differ", c.name, rep, len(c.want))
		}
		for n, want := range c.want {
			i := slices.IndexFunc(rep.Otherwise, func(d replay.Difference) bool { return d.Request == ids[n].String() })
			if i < 0 {
				t.Errorf("%s: %s is not listed", c.name, n)
				continue
			}
			if got := fmt.Sprintf("%s: %s", rep.Otherwise[i].Would, rep.Otherwise[i].Why); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s: %q: want %q", c.name, n, got, want)
			}
			if rep.Otherwise[i].Already {
				t.Errorf("%s: %s: it is the proposal that makes the difference", c.name, n)
			}
		}
	}
	bad := proposal(t, s, func(c *charter.Charter) { delete(c.Groups, "officers") })
	if _, err := replay.Run(ctx, s.Chain(), bad, replay.Server(s), replay.Options{Now: w.Now()}); !errors.Is(err, charter.ErrCharter) {
		t.Errorf("a charter that contradicts itself: %v", err)
	}
}

// many is one real request under "nightly", as often as wanted.
type many struct {
	replay.Source
	one   replay.Past
	count int
	asked int // how many pieces of evidence were read
}

func (m *many) Past(ctx context.Context, cmd statement.CommandName, policy string, since time.Time, limit int) ([]replay.Past, error) {
	if policy != "nightly" {
		return m.Source.Past(ctx, cmd, policy, since, limit)
	}
	return slices.Repeat([]replay.Past{m.one}, min(limit, m.count)), nil
}

func (m *many) Evidence(ctx context.Context, id statement.ID) (quorum.Evidence, error) {
	m.asked++
	return m.Source.Evidence(ctx, id)
}

// Invariant 2: of many requests a sample is judged, and the report says so.
func TestRunIsBounded(t *testing.T) {
	w, s, _ := world(t)
	list, err := replay.Server(s).Past(t.Context(), statement.Sign, "nightly", time.Time{}, 1)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	src := &many{Source: replay.Server(s), one: list[0], count: 100_000}
	next := proposal(t, s, func(c *charter.Charter) {
		policy(c, "nightly", func(p *charter.Policy) { p.Rule.Requesters = []string{"builds"} })
	})
	rep, err := replay.Run(t.Context(), s.Chain(), next, src, replay.Options{Now: w.Now(), Keep: 10, Cache: quorum.NewCache(100)})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(rep.Sampled, []string{"policy nightly"}) || rep.PerRule != 1000 || rep.Judged != 1003 || rep.Differ != 1000 || len(rep.Otherwise) != 10 {
		t.Errorf("%+v", rep)
	}
	if src.asked != 1003 {
		t.Errorf("%d pieces of evidence were read", src.asked)
	}
	// Where there are many rules, each gets less.
	rep, err = replay.Run(t.Context(), s.Chain(), next, src, replay.Options{Now: w.Now(), Total: 70})
	if err != nil || rep.PerRule != 10 || rep.Judged != 13 {
		t.Errorf("%+v, %v", rep, err)
	}
	if since, err := replay.Run(t.Context(), s.Chain(), next, replay.Server(s), replay.Options{Now: w.Now(), Since: w.Now().Add(time.Hour)}); err != nil || since.Judged != 0 {
		t.Errorf("%+v, %v", since, err)
	}
}

// Whoever has left since is no difference that the proposal makes.
func TestAlready(t *testing.T) {
	w, s, ids := world(t)
	next := proposal(t, s, func(c *charter.Charter) {
		delete(c.People, "ann")
		c.Groups["dev"] = charter.Group{Members: []string{"alice", "xena"}}
	})
	payload, err := charter.Encode(next)
	if err != nil {
		t.Fatal(err)
	}
	req := w.Request("bob", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
	r, _, err := s.Submit(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"carol", "dave"} {
		if _, err := s.Endorse(t.Context(), w.Endorse(n, req)); err != nil {
			t.Fatal(err)
		}
	}
	w.Until(s, r.ID, store.Executed)
	rep, err := replay.Run(t.Context(), s.Chain(), proposal(t, s, func(*charter.Charter) {}), replay.Server(s), replay.Options{Now: w.Now()})
	if err != nil || rep.Differ != 1 || rep.Otherwise[0].Request != ids["nightly"].String() || !rep.Otherwise[0].Already {
		t.Errorf("%+v, %v", rep, err)
	}
}
