package charter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/statement"
)

// Warning is something that a charter may say and probably does not mean.
type Warning struct {
	Path string `json:"path"`
	Code string `json:"code"` // stable: "two-groups", "no-veto", …
	Text string `json:"text"`
}

func (w Warning) String() string { return w.Path + ": " + w.Text }

// Lint lists warnings about a charter that has passed its Check, in order of path.
func Lint(c *Charter) []Warning {
	l := &linter{c: c, attended: map[string]string{}}
	used := map[string]bool{}
	for _, n := range sorted(c.Policies) {
		if p := c.Policies[n]; !p.Rule.Unattended {
			for _, k := range p.Keys() {
				l.attended[k] = n
			}
		}
	}
	for _, n := range sorted(c.Policies) {
		p := c.Policies[n]
		at := "policies." + n
		l.rule(at+".rule", p.Rule, used)
		if !p.Rule.Unattended && len(p.Rule.Veto) == 0 {
			l.add(at+".rule.veto", "no-veto", "nobody can say no: name a group whose members can")
		}
		if !p.Rule.Unattended && p.Rule.Quorum != nil && !l.people(p.Rule.Quorum) {
			l.add(at+".rule.quorum", "machines-only", "machines alone decide: no person looks at what is signed")
		}
		for _, k := range p.Keys() {
			if strings.HasPrefix(string(c.Keys[k].URI), "soft:") && !p.Rule.Unattended {
				l.add(at+".key", "software-key", fmt.Sprintf("%s is a software key: the CA/Browser Forum wants code-signing keys in hardware", k))
			}
		}
		l.bare(n, p)
		if p.Rule.Unattended {
			l.unattended(n, p)
		}
	}
	for _, n := range sorted(c.Commands) {
		r := c.Commands[n]
		l.rule("commands."+string(n), r, used)
		if r.Unattended && n != statement.KeySuspend {
			l.add("commands."+string(n)+".unattended", "unattended-command", fmt.Sprintf("one signature is enough for %s", n))
		}
	}
	l.commands()
	l.records()
	l.workloads()
	l.passkeys()
	for _, n := range sorted(c.Groups) {
		if !used[n] {
			l.add("groups."+n, "unused-group", "is in no rule")
		}
	}
	for _, n := range sorted(c.Keys) {
		if !l.keyUsed(n) {
			l.add("keys."+n, "unused-key", "no policy signs with it")
		}
	}
	slices.SortStableFunc(l.out, func(a, b Warning) int { return strings.Compare(a.Path, b.Path) })
	return l.out
}

type linter struct {
	c        *Charter
	attended map[string]string // keys that sign where people are asked, and a policy that says so
	out      []Warning
}

func (l *linter) add(path, code, text string) { l.out = append(l.out, Warning{path, code, text}) }

// unattended warns of policies under which nobody is asked and that bind whoever asks to
// nothing, or that sign with a key of which others think that people are asked.
func (l *linter) unattended(name string, p Policy) {
	at := "policies." + name
	if any := slices.ContainsFunc(p.Names, anything); (len(p.Names) == 0 || any) && len(p.Purposes) == 0 {
		l.add(at+".rule.unattended", "unattended-anything", "whoever may ask gets anything signed: name patterns or purposes")
	}
	for _, k := range p.Keys() {
		if n := l.attended[k]; n != "" {
			l.add(at+".key", "unattended-key", fmt.Sprintf("%s signs under policy %s too, where people are asked: nobody can tell from a signature which it was", k, n))
		}
	}
}

// anything reports whether a pattern of names binds to nothing: it has no letter and no
// digit that a name must have.
func anything(pattern string) bool {
	class := false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			return false // the next character stands for itself
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z', c >= 0x80:
			return false
		}
	}
	return true
}

// bareFormats sign what a file's bytes digest to, with nothing of their own around it:
// whoever may ask for one of these chooses, through the bytes, what the key signs.
var bareFormats = []string{"ima", "kmod", "mcuboot", "signify"}

// bare warns of keys that sign in such a format and in another one, here or under
// another policy: a file can hold what the other format has signed, the attributes of a
// CMS signature, say, and its signature in the one is good in the other.
func (l *linter) bare(name string, p Policy) {
	for _, k := range p.Keys() {
		for _, f := range bareFormats {
			if !slices.Contains(p.Formats, f) {
				continue
			}
			if other := l.signsElse(k, f); other != "" {
				l.add("policies."+name+".formats", "bare-digest", fmt.Sprintf("%s signs files as they come in format %s, and %s: a file can be made whose signature is good there: give %s a key of its own", k, f, other, f))
			}
		}
	}
}

// signsElse names something that a key signs besides files in format f, or "".
func (l *linter) signsElse(key, f string) string {
	if t := l.c.Timestamping; t != nil && t.Key == key {
		return "timestamps"
	}
	for _, n := range sorted(l.c.Policies) {
		p := l.c.Policies[n]
		if !slices.Contains(p.Keys(), key) {
			continue
		}
		for _, o := range p.Formats {
			if o != f {
				return fmt.Sprintf("in format %s under policy %s", o, n)
			}
		}
	}
	return ""
}

func (l *linter) keyUsed(name string) bool {
	if t := l.c.Timestamping; t != nil && t.Key == name {
		return true
	}
	for _, p := range l.c.Policies {
		if slices.Contains(p.Keys(), name) {
			return true
		}
	}
	return false
}

func (l *linter) people(n *Node) bool {
	return slices.ContainsFunc(n.Leaves(), func(n *Node) bool { return !l.c.machineLeaf(n) })
}

func (l *linter) rule(at string, r Rule, used map[string]bool) {
	for _, n := range slices.Concat(r.Requesters, r.Veto) {
		used[n] = true
	}
	if r.Quorum == nil {
		return
	}
	for _, g := range r.Veto {
		// A veto group of machines, or of one person, is one failure or one
		// holiday away from blocking everything, or nothing.
		if len(l.c.Groups[g].Members) == 1 {
			l.add(at+".veto", "veto-of-one", fmt.Sprintf("group %s has one member: one key stops everything", g))
		}
	}
	first := map[string]string{}
	for _, leaf := range r.Quorum.Leaves() {
		used[leaf.Name()] = true
		for _, m := range l.c.Members(leaf.Name()) {
			if g, ok := first[m]; ok && g != leaf.Name() {
				l.add(at+".quorum", "two-groups", fmt.Sprintf("%s is in %s and in %s: he counts for one of them only", m, g, leaf.Name()))
				continue
			}
			first[m] = leaf.Name()
			if o := l.c.Machines[m].Owner; o != "" {
				l.add(at+".quorum", "owned-gate", fmt.Sprintf("%s belongs to %s: the two count once, and it has no vote when he asks", m, o))
			}
		}
	}
	if need := r.Endorsements; need != 0 && need > Duration(r.Lifetime()) {
		l.add(at+".endorsements", "endorsements-outlive", "endorsements cannot outlive their request: this is never reached")
	}
}

func (l *linter) commands() {
	c := l.c
	if r, ok := c.Commands[statement.KeySuspend]; len(c.Keys) > 0 {
		switch {
		case !ok:
			l.add("commands.key.suspend", "no-suspend", "nobody can stop a key: let one officer, unattended")
		case !r.Unattended:
			l.add("commands.key.suspend", "slow-suspend", "stopping a key waits for a quorum: in an emergency one officer should be enough (unattended: true)")
		}
		if _, ok := c.Commands[statement.KeyResume]; !ok {
			l.add("commands.key.resume", "no-resume", "nobody can resume a key that was suspended")
		}
		if _, ok := c.Commands[statement.KeyGenerate]; !ok {
			l.add("commands.key.generate", "no-generate", "nobody can make the keys that this charter declares")
		}
	}
	if r := c.Commands[statement.CharterReplace]; r.Quorum != nil {
		voters := map[string]bool{}
		for _, leaf := range r.Quorum.Leaves() {
			for _, m := range c.Members(leaf.Name()) {
				if _, ok := c.People[m]; ok {
					voters[m] = true
				}
			}
		}
		if len(voters) == 1 {
			l.add("commands.charter.replace.quorum", "single-officer", fmt.Sprintf("%s is the only officer: without that key this charter can never be changed", sorted(voters)[0]))
		} else if who := l.indispensable(r, voters); who != "" {
			l.add("commands.charter.replace.quorum", "no-spare-officer", fmt.Sprintf("%s has one credential and is needed for every change, because who asks does not endorse: when it is lost, this charter can never be changed; a fourth officer or second credentials prevent that", who))
		}
	}
}

// indispensable is a voter with one credential without whom the rule cannot be
// satisfied, whoever asks; "" if there is none.
func (l *linter) indispensable(r Rule, voters map[string]bool) string {
	if len(voters) > 64 {
		return "" // that many are not all needed, and the check below is quadratic
	}
	roll := NewRoll(l.c)
	for _, v := range sorted(voters) {
		if len(l.c.People[v].Credentials) > 1 {
			continue
		}
		gone, _ := roll.Actor(v)
		works := slices.ContainsFunc(l.c.Requesters(r), func(q string) bool {
			asks, ok := roll.Actor(q)
			if !ok || asks == gone {
				return false
			}
			t, err := roll.Compile(r.Quorum, func(name string) bool {
				a, _ := roll.Actor(name)
				return a == gone
			})
			return err == nil && t.Possible(asks)
		})
		if !works {
			return v
		}
	}
	return ""
}
