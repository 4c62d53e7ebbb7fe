package web

import (
	"slices"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// roll is who may do what under one charter.
type roll struct {
	ref     statement.CharterRef
	charter *charter.Charter
	roles   map[string][]Role
	// By person. A stranger's sign-in looks through all of them: they are read once.
	passkeys map[string][]*credential.Passkey
}

// roll is that of the charter in force; without a server of requests there is nobody in it.
func (s *Site) roll() *roll {
	if s.cfg.Server == nil {
		return &roll{charter: &charter.Charter{}}
	}
	head, ref := s.cfg.Server.Chain().Head()
	if r := s.people.Load(); r != nil && r.ref == ref {
		return r
	}
	r := &roll{ref: ref, charter: head, roles: map[string][]Role{}, passkeys: map[string][]*credential.Passkey{}}
	for name, p := range head.People {
		for _, c := range p.Credentials {
			if c.Passkey == "" {
				continue
			}
			if x, err := c.Parse(); err == nil {
				if k, ok := x.(*credential.Passkey); ok {
					r.passkeys[name] = append(r.passkeys[name], k)
				}
			}
		}
	}
	give := func(name string, x Role) {
		if _, ok := head.People[name]; ok && !slices.Contains(r.roles[name], x) {
			r.roles[name] = append(r.roles[name], x)
		}
	}
	voters := func(rule charter.Rule) (out []string) {
		if rule.Quorum == nil {
			return nil
		}
		for _, leaf := range rule.Quorum.Leaves() {
			out = append(out, head.Members(leaf.Name())...)
		}
		return out
	}
	for _, p := range head.Policies {
		for _, n := range head.Requesters(p.Rule) {
			give(n, Requester)
		}
		for _, n := range voters(p.Rule) {
			give(n, Endorser)
		}
	}
	for _, rule := range head.Commands {
		for _, n := range append(head.Requesters(rule), voters(rule)...) {
			give(n, Officer)
		}
	}
	s.people.Store(r)
	return r
}

// roles are those of somebody who is signed in: of a person of the charter what the
// charter says, of anybody what the configuration does.
func (s *Site) roles(r *roll, p *Person) []Role {
	var out []Role
	if p.InCharter {
		out = slices.Clone(r.roles[p.Name])
	} else if _, ok := r.charter.People[p.Name]; ok {
		return nil // somebody else of that name
	}
	named := func(list []string) bool {
		return slices.ContainsFunc(list, func(n string) bool {
			return n == p.Name && !isGroup(n) || isGroup(n) && slices.Contains(p.Groups, n[len(groupPrefix):])
		})
	}
	if named(s.cfg.Auditor) {
		out = append(out, Auditor)
	}
	if p.InCharter && slices.Contains(s.cfg.Admins, p.Name) || named(s.cfg.Operator) {
		out = append(out, Operator)
	}
	return out
}

const groupPrefix = "group:"

func isGroup(n string) bool { return len(n) > len(groupPrefix) && n[:len(groupPrefix)] == groupPrefix }

// Admits reports whether somebody who signs in through a sign-on would be anybody
// here: a person of the charter, or with a role that the configuration gives.
func (s *Site) Admits(in SignIn) bool {
	if s.cfg.Identify != nil {
		return false
	}
	r := s.roll()
	if _, ok := r.charter.People[in.Person]; in.Member {
		return ok
	}
	return len(s.roles(r, &Person{Name: in.Person, Groups: in.Groups})) > 0
}
