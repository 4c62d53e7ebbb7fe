package quorum_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/quorum/quorumtest"
	"github.com/greatseal-io/greatseal/statement"
)

// world is a deployment with overlapping groups and owned machines.
func world(t testing.TB, q charter.Node) (*quorum.Chain, *charter.Charter, error) {
	c := quorumtest.Charter()
	for _, n := range []string{"alice", "bob", "carol", "dave", "erin"} {
		c.People[n] = quorumtest.Person(n)
	}
	c.Machines = map[string]charter.Machine{"scanner": quorumtest.Machine("scanner", "alice"),
		"builder": quorumtest.Machine("builder", "bob"), "checker": quorumtest.Machine("checker", "")}
	c.Groups["release"] = charter.Group{Members: []string{"alice", "bob", "carol"}}
	c.Groups["security"] = charter.Group{Members: []string{"carol", "dave", "erin"}}
	c.Groups["audit"] = charter.Group{Members: []string{"alice", "erin"}}
	c.Groups["gate"] = charter.Group{Members: []string{"scanner", "builder", "checker"}}
	quorumtest.Policy(c, charter.Rule{Requesters: []string{"operator", "alice", "builder"}, Quorum: &q})
	ch, err := quorumtest.TryFound(t, c)
	return ch, c, err
}

func nodes(depth int) *rapid.Generator[charter.Node] {
	return rapid.Custom(func(t *rapid.T) charter.Node {
		switch k := rapid.IntRange(0, 3).Draw(t, "kind"); {
		case depth > 0 && k > 1:
			of := rapid.SliceOfN(nodes(depth-1), 1, 3).Draw(t, "of")
			return charter.Node{Need: rapid.IntRange(1, len(of)).Draw(t, "need"), Of: of}
		case k == 0:
			return charter.Node{Member: rapid.SampledFrom([]string{"alice", "dave", "checker"}).Draw(t, "member")}
		}
		return charter.Node{Need: rapid.IntRange(1, 2).Draw(t, "need"),
			Group: rapid.SampledFrom([]string{"release", "security", "audit", "gate"}).Draw(t, "group")}
	})
}

func owner(c *charter.Charter, name string) string {
	if o := c.Machines[name].Owner; o != "" {
		return o
	}
	return name
}

// satisfied tries every way to let each actor fill one leaf.
func satisfied(c *charter.Charter, q *charter.Node, voters []string) bool {
	leaves := q.Leaves()
	have := make([]int, len(leaves))
	actors := map[string][]string{}
	var order []string
	for _, v := range voters {
		o := owner(c, v)
		if actors[o] == nil {
			order = append(order, o)
		}
		actors[o] = append(actors[o], v)
	}
	leaf := 0
	var holds func(n *charter.Node) bool
	holds = func(n *charter.Node) bool {
		if len(n.Of) == 0 {
			leaf++
			return have[leaf-1] >= n.Needs()
		}
		k := 0
		for i := range n.Of {
			if holds(&n.Of[i]) {
				k++
			}
		}
		return k >= n.Need
	}
	var try func(i int) bool
	try = func(i int) bool {
		if i == len(order) {
			leaf = 0
			return holds(q)
		}
		if try(i + 1) {
			return true
		}
		for l, n := range leaves {
			if slices.ContainsFunc(actors[order[i]], func(v string) bool { return slices.Contains(c.Members(n.Name()), v) }) {
				have[l]++
				ok := try(i + 1)
				have[l]--
				if ok {
					return true
				}
			}
		}
		return false
	}
	return try(0)
}

// places is the least sum that a rule names.
func places(n *charter.Node) int {
	if len(n.Of) == 0 {
		return n.Needs()
	}
	var sums []int
	for i := range n.Of {
		sums = append(sums, places(&n.Of[i]))
	}
	slices.Sort(sums)
	sum := 0
	for _, s := range sums[:n.Need] {
		sum += s
	}
	return sum
}

// Invariant 2, against brute force, with signatures: granted if and only if there
// is an assignment of distinct actors, without the requester's.
func TestJudgeAgainstBruteForce(t *testing.T) {
	at := quorumtest.Start.Add(time.Hour)
	judged, granted := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		ch, c, err := world(t, nodes(2).Draw(rt, "quorum"))
		if err != nil {
			return // a charter that cannot be satisfied, or is trivial
		}
		q := c.Policies["p"].Rule.Quorum
		requester := rapid.SampledFrom([]string{"operator", "alice", "builder"}).Draw(rt, "requester")
		voters := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"alice", "bob", "carol", "dave", "erin", "scanner", "builder", "checker", "officer1"}), 0, 9, rapid.ID[string]).Draw(rt, "voters")
		req := quorumtest.Statement(t, quorumtest.Sign(t, ch, requester), requester)
		ev := quorum.Evidence{Request: req}
		for _, v := range voters {
			ev.Endorsements = append(ev.Endorsements, quorumtest.Statement(t, quorumtest.Endorsement(quorumtest.ID(t, req), v, statement.Endorse, at), v))
		}
		d, g := ch.Judge(ev, at, quorum.Options{})
		judged++
		others := slices.DeleteFunc(slices.Clone(voters), func(v string) bool { return owner(c, v) == owner(c, requester) })
		if want := satisfied(c, q, others); (g != nil) != want {
			rt.Fatalf("%s, asked by %s, endorsed by %v: %s, brute force says %v", q, requester, voters, d.State, want)
		}
		counted := map[string]bool{}
		for i, v := range d.Votes {
			if v.Counted {
				if o := owner(c, voters[i]); counted[o] || o == owner(c, requester) {
					rt.Fatalf("%s counts twice or is the requester", o)
				} else {
					counted[o] = true
				}
			}
		}
		if g != nil {
			granted++
			if len(counted) < places(q) || len(g.Endorsements()) != len(counted) {
				rt.Fatalf("%s is granted by %d, and names %d", q, len(counted), places(q))
			}
			if !d.Tree.Satisfied {
				rt.Fatal("granted by a tree that is not satisfied")
			}
		} else if d.Tree.Satisfied || d.Missing == "" {
			rt.Fatalf("pending, and the tree says %+v, missing %q", d.Tree, d.Missing)
		}
	})
	if judged == 0 || granted == 0 || granted == judged {
		t.Fatalf("%d judged, %d granted: the generator is useless", judged, granted)
	}
}
