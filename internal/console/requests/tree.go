package requests

import (
	"slices"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// node is one node of a quorum as the page shows it.
type node struct {
	Label     string
	Need      int
	Have      int
	Satisfied bool
	By        []string // who fills it
	Could     []string // who has said nothing yet, and would count
	Against   []string // who has disapproved
	Out       []string // who does not count: the requester, and who belongs to him
	Of        []*node

	members []string
}

// tree is the rule's quorum, as far as it is filled. Who could fill it is said under the
// charter in force, as is everything of a request that is open.
func (a *area) tree(r *store.Request, req *statement.Request, d *quorum.Decision) *node {
	head := a.server.Charter()
	rl, _, ok := rule(head, req)
	if !ok || rl.Quorum == nil {
		return nil
	}
	var against, spoke []string
	var top *quorum.Branch
	if d != nil {
		top = d.Tree
		for _, v := range d.Votes {
			switch {
			case v.Verdict == statement.Disapprove && v.Standing:
				against = append(against, v.Endorser)
			case v.Standing || v.Counted:
				spoke = append(spoke, v.Endorser)
			}
		}
	}
	same := func(list []string, name string) bool {
		return slices.ContainsFunc(list, func(x string) bool { return a.belongs(x, name) })
	}
	var walk func(n *charter.Node, b *quorum.Branch) *node
	walk = func(n *charter.Node, b *quorum.Branch) *node {
		x := &node{Label: n.String(), Need: n.Needs()}
		if b != nil {
			x.Label, x.Need, x.Have, x.Satisfied, x.By = b.Label, b.Need, b.Have, b.Satisfied, b.By
		}
		for i := range n.Of {
			var c *quorum.Branch
			if b != nil && i < len(b.Of) {
				c = b.Of[i]
			}
			x.Of = append(x.Of, walk(&n.Of[i], c))
		}
		if len(n.Of) > 0 {
			return x
		}
		x.members = head.Members(n.Name())
		for _, m := range x.members {
			switch {
			case slices.Contains(x.By, m):
			case a.belongs(m, r.Requester):
				x.Out = append(x.Out, m)
			case slices.Contains(against, m):
				x.Against = append(x.Against, m)
			case !same(spoke, m) && !same(against, m):
				x.Could = append(x.Could, m)
			}
		}
		return x
	}
	return walk(rl.Quorum, top)
}

// stands reports whether a name stands anywhere in the tree.
func (n *node) stands(name string) bool {
	return slices.Contains(n.members, name) || slices.ContainsFunc(n.Of, func(x *node) bool { return x.stands(name) })
}
