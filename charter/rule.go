package charter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter/threshold"
	"github.com/greatseal-io/greatseal/statement"
)

// DefaultExpires is how long a request may wait whose rule does not say.
const DefaultExpires = 168 * time.Hour

// Lifetime is how long a request under r may wait.
func (r Rule) Lifetime() time.Duration { return r.Expires.Or(DefaultExpires) }

func (k *checker) commands() {
	c := k.c
	for _, n := range sorted(c.Commands) {
		at := "commands." + string(n)
		switch {
		case n == statement.Sign:
			k.add(at, "rules of sign stand in policies: remove it")
		case !slices.Contains(statement.Commands(), n):
			k.add(at, "is not a command: want one of %s", commandList())
		default:
			k.rule(at, n, c.Commands[n])
		}
	}
	switch r, ok := c.Commands[statement.CharterReplace]; {
	case !ok:
		k.add("commands.charter.replace", "is missing: nobody could found this charter or change it")
	case r.Unattended:
		k.add("commands.charter.replace.unattended", "one signature would replace every rule of this charter: want a quorum")
	}
}

func commandList() string {
	var s []string
	for _, n := range statement.Commands() {
		if n != statement.Sign {
			s = append(s, string(n))
		}
	}
	return strings.Join(s, ", ")
}

func (k *checker) rule(at string, cmd statement.CommandName, r Rule) {
	c := k.c
	if len(r.Requesters) == 0 {
		k.add(at+".requesters", "there are none: nobody could ask; name people, machines or groups")
	}
	k.limit(at+".requesters", len(r.Requesters), maxList)
	for i, n := range r.Requesters {
		at := fmt.Sprintf("%s.requesters[%d]", at, i)
		if c.Members(n) == nil {
			k.add(at, "there is no person, machine or group %.80q", n)
		} else if slices.Contains(r.Requesters[:i], n) {
			k.add(at, "%s stands twice", n)
		}
		k.asks(at, cmd, r, n)
	}
	k.set(at+".veto", r.Veto, func(at, n string) {
		if _, ok := c.Groups[n]; !ok {
			k.add(at, "there is no group %.80q: a veto is a group's, so that it does not hang on one person's name", n)
		}
		k.votes(at, n)
	})
	if r.Veto != nil && len(r.Veto) == 0 {
		k.add(at+".veto", "is empty: leave it out")
	}
	for _, d := range []struct {
		name string
		d    Duration
	}{{".expires", r.Expires}, {".endorsements", r.Endorsements}} {
		if d.d != 0 && (d.d < Duration(time.Minute) || d.d > Duration(MaxDuration) || time.Duration(d.d)%time.Second != 0) {
			k.add(at+d.name, "%s: want 1m to %s, in whole seconds", d.d, MaxDuration)
		}
	}
	switch {
	case r.Unattended && r.Quorum != nil:
		k.add(at, "is unattended and has a quorum: want one of them")
	case r.Unattended && len(r.Veto) > 0:
		k.add(at+".veto", "nobody is asked of what is unattended: remove the veto, or name a quorum")
	case r.Unattended && r.Endorsements != 0:
		k.add(at+".endorsements", "nothing unattended is endorsed: remove it")
	case r.Unattended:
	case r.Quorum == nil:
		k.add(at, "has no quorum: name one, or say unattended: true if the requester's signature is enough")
	default:
		k.quorum(at+".quorum", cmd, r)
	}
}

// quorum checks the tree's shape, then whether it can be satisfied and whether
// that means anything.
func (k *checker) quorum(at string, cmd statement.CommandName, r Rule) {
	before := len(k.problems)
	k.node(at, r.Quorum, 1)
	if len(k.problems) > before {
		return
	}
	tree, err := k.roll.Compile(r.Quorum, nil)
	switch {
	case errors.Is(err, threshold.ErrChoices):
		k.add(at, "has more than %d ways to be satisfied: join people in groups instead of naming each", threshold.MaxChoices)
		return
	case err != nil:
		k.add(at, "%s", strings.TrimPrefix(err.Error(), "threshold: "))
		return
	}
	if !k.afford(at, 2*len(tree.Choices())) { // here and in inspected
		return
	}
	if !tree.Possible(-1) {
		k.add(at, "%s cannot be satisfied: a person counts once, with the machines that he owns, and there are too few; needs %s", r.Quorum, peopleAndMachines(tree.Places()))
		return
	}
	k.requesters(at, r, tree)
	k.trivial(at, cmd, r.Quorum, tree)
}

// afford keeps a hostile charter from costing more than a moment.
func (k *checker) afford(at string, cost int) bool {
	if k.budget -= cost; k.budget < 0 {
		k.add(at, "is too complicated to check, with all the others: use fewer alternatives, or groups")
		return false
	}
	return true
}

func peopleAndMachines(n int) string {
	if n == 1 {
		return "1 voter"
	}
	return fmt.Sprintf("%d different voters", n)
}

// requesters refuses a rule under which somebody's requests could never be
// granted: who finds out must not be the requester, after a week.
func (k *checker) requesters(at string, r Rule, tree *threshold.Tree) {
	seen := map[int]bool{}
	for _, n := range k.c.Requesters(r) {
		a, ok := k.roll.Actor(n)
		if !ok || seen[a] || !tree.Matters(a) {
			continue
		}
		seen[a] = true
		if !k.afford(at, len(tree.Choices())) {
			return
		}
		if tree.Possible(a) {
			continue
		}
		who := n
		if o := k.c.Machines[n].Owner; o != "" {
			who = fmt.Sprintf("%s, which %s owns,", n, o)
		}
		k.add(at, "%s cannot be satisfied when %s asks: nobody endorses his own request; %s", r.Quorum, who, k.fewer(r.Quorum, tree, a))
		return
	}
}

// fewer says which leaf is too small without actor.
func (k *checker) fewer(q *Node, tree *threshold.Tree, actor int) string {
	for l, leaf := range q.Leaves() {
		if have := tree.Size(l) - 1; tree.Stands(actor, l) && have < tree.Need(l) {
			return fmt.Sprintf("%s leaves %d where %d needed: add members, need fewer, or let others ask", leaf.Name(), have, tree.Need(l))
		}
	}
	return "add members, need fewer, or let others ask"
}

func (k *checker) node(at string, n *Node, depth int) {
	if depth > threshold.MaxDepth {
		k.add(at, "is nested deeper than %d", threshold.MaxDepth)
		return
	}
	kinds := 0
	for _, is := range []bool{n.Member != "", n.Group != "", len(n.Of) > 0} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		k.add(at, "want exactly one of member, group, of")
		return
	}
	if n.Need < 0 || n.Need > threshold.MaxPlaces {
		k.add(at+".need", "%d: want 1 to %d", n.Need, threshold.MaxPlaces)
		return
	}
	switch {
	case n.Member != "":
		_, person := k.c.People[n.Member]
		_, machine := k.c.Machines[n.Member]
		if !person && !machine {
			k.add(at+".member", "there is no person or machine %.80q", n.Member)
		}
		k.votes(at+".member", n.Member)
		if n.Need > 1 {
			k.add(at+".need", "%s is one: needs %d", n.Member, n.Need)
		}
	case n.Group != "":
		g, ok := k.c.Groups[n.Group]
		if !ok {
			k.add(at+".group", "there is no group %.80q", n.Group)
		} else if m := len(g.Members); m < n.Needs() {
			k.add(at, "group %s has %s, needs %d", n.Group, count(m, "member"), n.Needs())
		}
		k.votes(at+".group", n.Group)
	default:
		if n.Need == 0 {
			k.add(at+".need", "is missing: say how many of the %d are needed", len(n.Of))
		} else if n.Need > len(n.Of) {
			k.add(at+".need", "%d of %d: want at most as many as there are", n.Need, len(n.Of))
		}
		if len(n.Of) > threshold.MaxNodes {
			k.add(at+".of", "%d entries: at most %d", len(n.Of), threshold.MaxNodes)
			return
		}
		for i := range n.Of {
			k.node(fmt.Sprintf("%s.of[%d]", at, i), &n.Of[i], depth+1)
		}
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// trivial refuses quorums that mean less than they look; see Check.
func (k *checker) trivial(at string, cmd statement.CommandName, q *Node, tree *threshold.Tree) {
	leaves := q.Leaves()
	machine := make([]bool, len(leaves))
	people := false
	for i, l := range leaves {
		machine[i] = k.c.machineLeaf(l)
		people = people || !machine[i]
	}
	if !people {
		if cmd != statement.Sign && cmd != statement.KeySuspend {
			k.add(at, "%s: machines alone would decide %s: want a person too", q, cmd)
		}
		return
	}
	for _, choice := range tree.Choices() {
		needed, votes, unsaid := 0, 0, ""
		for _, l := range choice {
			votes += tree.Need(l)
			if !machine[l] {
				needed += tree.Need(l)
			}
			if leaves[l].Group != "" && leaves[l].Need == 0 {
				unsaid = leaves[l].Group
			}
		}
		if needed == 0 {
			k.add(at, "%s: machines alone satisfy it, and it names people: ask for both with need: %d", q, max(2, len(q.Of)))
			return
		}
		if cmd == statement.CharterReplace && votes == 1 && unsaid != "" && len(k.c.Groups[unsaid].Members) > 1 {
			k.add(at, "one of %s alone may agree to replace this charter: say need: 2, or need: 1 if that is meant", unsaid)
			return
		}
	}
}

// inspected refuses a policy that asks for uploads when there is a way around
// the inspector.
func (k *checker) inspected(at string, r Rule) {
	if r.Quorum == nil {
		k.add(at+".upload", "wants an inspector in the quorum, and there is no quorum")
		return
	}
	tree, err := k.roll.Compile(r.Quorum, func(n string) bool { return k.c.Machines[n].Inspector })
	if err == nil && tree.Possible(-1) {
		k.add(at+".upload", "%s can be satisfied without an inspector: want a machine with inspector: true, or a group of such, in every way", r.Quorum)
	}
}
