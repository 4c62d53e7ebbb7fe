package quorum

import (
	"crypto/sha256"
	"fmt"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/charter/threshold"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// index is a charter prepared for judging: credentials parsed, trees compiled,
// memberships looked up, once for each version.
type index struct {
	c        *charter.Charter
	ref      statement.CharterRef
	who      map[string]*principal
	policies map[string]*rule
	commands map[statement.CommandName]*rule
}

type principal struct {
	actor int
	creds map[credential.ID]*cred
}

type cred struct {
	credential.Credential
	mark [sha256.Size]byte // commits to the key
}

type rule struct {
	charter.Rule
	name       string
	requesters map[string]bool
	veto       map[string]string // by member: a veto group of his
	tree       *threshold.Tree   // nil: unattended
	leaves     []*charter.Node
	stands     map[string][]int // by voter: leaves
}

// newIndex prepares c, which has passed its Check.
func newIndex(c *charter.Charter, ref statement.CharterRef) (*index, error) {
	ix := &index{c: c, ref: ref, who: make(map[string]*principal, len(c.People)+len(c.Machines)),
		policies: map[string]*rule{}, commands: map[statement.CommandName]*rule{}}
	roll := charter.NewRoll(c)
	for n, p := range c.People {
		if err := ix.principal(roll, n, p.Credentials); err != nil {
			return nil, err
		}
	}
	for n, m := range c.Machines {
		if err := ix.principal(roll, n, m.Credentials); err != nil {
			return nil, err
		}
	}
	for n, p := range c.Policies {
		r, err := newRule(c, roll, "policies."+n, p.Rule)
		if err != nil {
			return nil, err
		}
		ix.policies[n] = r
	}
	for n, cr := range c.Commands {
		r, err := newRule(c, roll, "commands."+string(n), cr)
		if err != nil {
			return nil, err
		}
		ix.commands[n] = r
	}
	return ix, nil
}

func (ix *index) principal(roll *charter.Roll, name string, cs []charter.Credential) error {
	actor, ok := roll.Actor(name)
	if !ok {
		return fmt.Errorf("quorum: %s is not on the roll", name)
	}
	p := &principal{actor: actor, creds: make(map[credential.ID]*cred, len(cs))}
	for _, c := range cs {
		parsed, err := ix.c.Credential(c)
		if err != nil {
			return err
		}
		p.creds[parsed.ID()] = &cred{parsed, sha256.Sum256([]byte(string(parsed.Kind()) + " " + parsed.Text()))}
	}
	ix.who[name] = p
	return nil
}

func newRule(c *charter.Charter, roll *charter.Roll, name string, cr charter.Rule) (*rule, error) {
	r := &rule{Rule: cr, name: name, requesters: map[string]bool{}, veto: map[string]string{}, stands: map[string][]int{}}
	for _, m := range c.Requesters(cr) {
		r.requesters[m] = true
	}
	for _, g := range cr.Veto {
		for _, m := range c.Groups[g].Members {
			if _, ok := r.veto[m]; !ok {
				r.veto[m] = g
			}
		}
	}
	if cr.Unattended {
		return r, nil
	}
	if cr.Quorum == nil {
		return nil, fmt.Errorf("quorum: %s has no quorum", name)
	}
	tree, err := roll.Compile(cr.Quorum, nil)
	if err != nil {
		return nil, fmt.Errorf("quorum: %s: %w", name, err)
	}
	r.tree, r.leaves = tree, cr.Quorum.Leaves()
	for l, leaf := range r.leaves {
		for _, m := range c.Members(leaf.Name()) {
			r.stands[m] = append(r.stands[m], l)
		}
	}
	return r, nil
}

// rule finds the rule of a command, or says why there is none.
func (ix *index) rule(cmd statement.Command) (*rule, *Refusal) {
	if s := cmd.Sign; s != nil {
		p, ok := ix.policies[s.Policy]
		if !ok {
			return nil, refuse(PolicyUnknown, "the charter has no policy %s", s.Policy)
		}
		return p, nil
	}
	r, ok := ix.commands[cmd.Name]
	if !ok {
		return nil, refuse(CommandNotAllowed, "the charter has no rule for %s: nobody may do it", cmd.Name)
	}
	return r, nil
}
