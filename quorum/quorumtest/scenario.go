package quorumtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// Scenario is one case on one line:
//
//	RULE | EVENTS -> OUTCOME [; NAME ~ TEXT]…
//
// RULE is a quorum and what goes with it:
//
//	release:2{alice bob carol}     2 of the group release of these people
//	gate:1[scanner checker/dave]   1 of a group of machines; dave owns checker
//	release:1                      the same group again
//	@alice                         alice herself
//	X & Y                          both
//	2 of (X, Y, Z)                 two of these
//	veto release                   and, in any order: expires 72h, endorsements 24h,
//	                               requesters alice bob, unattended, quorumless,
//	                               window sat 08:00 18:00
//
// EVENTS happen in order. A request is made at Start, endorsements from an hour
// before it is judged on, a second apart; it is judged 48 hours after Start.
//
//	req alice     alice asks; req [ci/alice]: a machine that she owns
//	+bob  -bob    endorses, disapproves; +bob@-25h: 25 hours before it is judged
//	+bob:TRICK    with a trick, see tricks
//	!bob          is removed from the charter before it is judged
//	!bob/release  is removed from that group
//	~bob          gets another key
//	at 200h       it is judged that long after Start
//
// OUTCOME is granted, "pending: TEXT", disapproved, "refused: CODE" or
// "charter: TEXT" for a charter that is refused, whose error contains TEXT. What is
// behind ~ is contained in what became of the last vote of NAME.
type Scenario struct {
	Line     string
	rule     charter.Rule
	people   []string
	machines map[string]charter.Machine
	groups   map[string][]string
	window   *charter.Window
	events   []string
	state    string
	text     string
	whys     [][2]string
}

// ParseScenario reads one line.
func ParseScenario(line string) (*Scenario, error) {
	rule, rest, ok1 := strings.Cut(line, " | ")
	events, outcome, ok2 := strings.Cut(rest, " -> ")
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%q: want RULE | EVENTS -> OUTCOME", line)
	}
	s := &Scenario{Line: line, machines: map[string]charter.Machine{}, groups: map[string][]string{}}
	p := &parser{s: s, words: tokens(rule)}
	if err := p.rule(); err != nil {
		return nil, fmt.Errorf("%q: %w", line, err)
	}
	s.events = strings.Fields(events)
	parts := strings.Split(outcome, ";")
	s.state, s.text, _ = strings.Cut(strings.TrimSpace(parts[0]), ": ")
	for _, w := range parts[1:] {
		name, text, ok := strings.Cut(w, "~")
		if !ok {
			return nil, fmt.Errorf("%q: %q: want NAME ~ TEXT", line, w)
		}
		s.whys = append(s.whys, [2]string{strings.TrimSpace(name), strings.TrimSpace(text)})
	}
	return s, nil
}

func tokens(s string) []string {
	for _, c := range []string{"{", "}", "[", "]", "(", ")", "&", ","} {
		s = strings.ReplaceAll(s, c, " "+c+" ")
	}
	return strings.Fields(s)
}

type parser struct {
	s     *Scenario
	words []string
}

func (p *parser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) next() string {
	w := p.peek()
	if w != "" {
		p.words = p.words[1:]
	}
	return w
}

var directives = []string{"veto", "expires", "endorsements", "requesters", "unattended", "quorumless", "window", ""}

func (p *parser) rule() error {
	if !slices.Contains(directives, p.peek()) {
		n, err := p.node()
		if err != nil {
			return err
		}
		p.s.rule.Quorum = &n
	}
	for len(p.words) > 0 {
		d := p.next()
		switch d {
		case "unattended":
			p.s.rule.Unattended = true
			continue
		case "quorumless":
			continue
		}
		var args []string
		for !slices.Contains(directives, p.peek()) {
			args = append(args, p.next())
		}
		if len(args) == 0 {
			return fmt.Errorf("%s of nothing", d)
		}
		var err error
		switch d {
		case "veto":
			p.s.rule.Veto = args
		case "requesters":
			p.s.rule.Requesters = args
		case "expires":
			err = p.s.rule.Expires.UnmarshalText([]byte(args[0]))
		case "endorsements":
			err = p.s.rule.Endorsements.UnmarshalText([]byte(args[0]))
		case "window":
			n := len(args)
			if n < 2 {
				return errors.New("window wants days, from, to")
			}
			p.s.window = &charter.Window{Days: args[:n-2], From: args[n-2], To: args[n-1]}
		default:
			err = fmt.Errorf("unknown word %q", d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// node reads terms joined by &.
func (p *parser) node() (charter.Node, error) {
	var all []charter.Node
	for {
		n, err := p.term()
		if err != nil {
			return n, err
		}
		all = append(all, n)
		if p.peek() != "&" {
			break
		}
		p.next()
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return charter.Node{Need: len(all), Of: all}, nil
}

func (p *parser) term() (charter.Node, error) {
	w := p.next()
	if name, ok := strings.CutPrefix(w, "@"); ok {
		p.s.person(name)
		return charter.Node{Member: name}, nil
	}
	if p.peek() == "of" {
		need, err := strconv.Atoi(w)
		if err != nil {
			return charter.Node{}, err
		}
		p.next()
		if p.next() != "(" {
			return charter.Node{}, errors.New("want (")
		}
		n := charter.Node{Need: need}
		for {
			c, err := p.node()
			if err != nil {
				return n, err
			}
			n.Of = append(n.Of, c)
			switch p.next() {
			case ",":
				continue
			case ")":
				return n, nil
			}
			return n, errors.New("want , or )")
		}
	}
	group, need, ok := strings.Cut(w, ":")
	k, err := strconv.Atoi(need)
	if !ok || err != nil {
		return charter.Node{}, fmt.Errorf("%q: want GROUP:NEED", w)
	}
	switch end := map[string]string{"{": "}", "[": "]"}[p.peek()]; end {
	case "}", "]":
		p.next()
		p.s.groups[group] = []string{}
		for p.peek() != end {
			m := p.next()
			if m == "" {
				return charter.Node{}, fmt.Errorf("want %s", end)
			}
			if end == "]" {
				m = p.s.machine(m)
			} else {
				p.s.person(m)
			}
			p.s.groups[group] = append(p.s.groups[group], m)
		}
		p.next()
	}
	return charter.Node{Need: k, Group: group}, nil
}

func (s *Scenario) person(name string) {
	if !slices.Contains(s.people, name) {
		s.people = append(s.people, name)
	}
}

// machine declares "name/owner".
func (s *Scenario) machine(w string) string {
	name, owner, _ := strings.Cut(w, "/")
	if owner != "" {
		s.person(owner)
	}
	s.machines[name] = Machine(name, owner)
	return name
}

// requester takes "alice" or "[ci/alice]".
func (s *Scenario) requester(w string) string {
	if m, ok := strings.CutPrefix(w, "["); ok {
		return s.machine(strings.TrimSuffix(m, "]"))
	}
	if _, ok := s.machines[w]; !ok {
		s.person(w)
	}
	return w
}

// Run plays the scenario and reports what differs.
func (s *Scenario) Run(t *testing.T) {
	t.Helper()
	requester, at := "", Start.Add(48*time.Hour)
	trick := ""
	for i, e := range s.events {
		switch e {
		case "req":
			w, tr, _ := strings.Cut(s.events[i+1], ":")
			requester, trick = s.requester(w), tr
		case "at":
			d, err := time.ParseDuration(s.events[i+1])
			if err != nil {
				t.Fatal(err)
			}
			at = Start.Add(d)
		}
	}
	if s.rule.Requesters == nil {
		s.rule.Requesters = []string{requester}
	}
	c := Policy(Charter(), s.rule)
	p := c.Policies["p"]
	p.Window = s.window
	c.Policies["p"] = p
	for _, n := range s.people {
		c.People[n] = Person(n)
	}
	if len(s.machines) > 0 {
		c.Machines = s.machines
	}
	for g, m := range s.groups {
		c.Groups[g] = charter.Group{Members: m}
	}
	ch, err := TryFound(t, c)
	if err != nil {
		s.refused(t, err)
		return
	}
	request := Sign(t, ch, requester)
	if s.rule.Expires != 0 {
		request.Expires = Start.Add(time.Duration(s.rule.Expires))
	}
	ev := quorum.Evidence{Request: makeRequest(t, request, requester, trick)}
	var edits []func(*charter.Charter)
	var endorsers []string
	for i, e := range s.events {
		switch e[0] {
		case '+', '-':
			endorsers = append(endorsers, nameOf(e[1:]))
			ev.Endorsements = append(ev.Endorsements, s.endorse(t, ev.Request, e, at, i))
		case '!', '~':
			edits = append(edits, edit(e))
		}
	}
	if len(edits) > 0 {
		err := Replace(t, ch, func(c *charter.Charter) {
			for _, f := range edits {
				f(c)
			}
		})
		if err != nil {
			s.refused(t, err)
			return
		}
	}
	d, grant := ch.Judge(ev, at, quorum.Options{})
	got := string(d.State)
	detail := d.Missing
	if d.State == quorum.Refused || detail == "" {
		detail = string(d.Code)
	}
	if got != s.state || !strings.Contains(detail, s.text) {
		t.Errorf("%s\n got %s: %s (%s)\n votes %+v", s.Line, got, detail, d.Reason, d.Votes)
	}
	if (grant != nil) != (d.State == quorum.Granted) {
		t.Errorf("%s: state %s with grant %v", s.Line, d.State, grant != nil)
	}
	for _, w := range s.whys {
		last := -1
		for i, n := range endorsers {
			if n == w[0] {
				last = i
			}
		}
		if last < 0 || !strings.Contains(d.Votes[last].Why, w[1]) {
			t.Errorf("%s\n vote of %s: %+v", s.Line, w[0], d.Votes)
		}
	}
}

func (s *Scenario) refused(t *testing.T, err error) {
	t.Helper()
	if s.state != "charter" || s.text == "" || !strings.Contains(err.Error(), s.text) {
		t.Errorf("%s\n charter: %v", s.Line, err)
	}
}

func nameOf(e string) string {
	n, _, _ := strings.Cut(e, "@")
	n, _, _ = strings.Cut(n, ":")
	return n
}

func edit(e string) func(*charter.Charter) {
	name, group, one := strings.Cut(e[1:], "/")
	return func(c *charter.Charter) {
		if e[0] == '~' {
			if _, ok := c.Machines[name]; ok {
				m := c.Machines[name]
				m.Credentials = Person(name + " again").Credentials
				c.Machines[name] = m
				return
			}
			c.People[name] = Person(name + " again")
			return
		}
		for g, m := range c.Groups {
			if !one || g == group {
				c.Groups[g] = charter.Group{Members: slices.DeleteFunc(m.Members, func(n string) bool { return n == name })}
			}
		}
		if !one {
			delete(c.People, name)
			delete(c.Machines, name)
			for n, p := range c.Policies {
				p.Rule.Requesters = slices.DeleteFunc(p.Rule.Requesters, func(r string) bool { return r == name })
				c.Policies[n] = p
			}
		}
	}
}

func makeRequest(t *testing.T, r statement.Request, requester, trick string) []byte {
	t.Helper()
	signer := credentialtest.SSH(requester)
	switch trick {
	case "":
	case "forged":
		signer = forged{signer, credentialtest.SSH("mallory")}
	case "other-deployment":
		r.Deployment = "elsewhere"
	case "future-charter":
		r.Charter.Version++
	case "other-charter":
		r.Charter.ID[0] ^= 1
	case "key":
		r.Command.Sign.Key = "other"
	case "policy":
		r.Command.Sign.Policy = "other"
	case "format":
		r.Command.Sign.Formats = []string{"cms", "pe"}
	case "purpose":
		r.Command.Sign.Purpose = "release"
	case "long":
		r.Expires = r.Created.Add(169 * time.Hour)
	case "not-before":
		r.NotBefore = r.Created.Add(72 * time.Hour)
	case "mallory":
		r.Requester = "mallory"
		signer = credentialtest.SSH("mallory")
	default:
		t.Fatalf("no trick %q", trick)
	}
	payload, err := statement.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	return Envelope(t, payload, signer)
}

// forged claims to be one signer and is another.
type forged struct{ claims, is credential.Signer }

func (f forged) Credential() credential.Credential { return f.claims.Credential() }

func (f forged) Sign(ctx context.Context, p credential.Purpose, m []byte) ([]byte, error) {
	return f.is.Sign(ctx, p, m)
}

// login signs for another purpose than it is asked.
type login struct{ credential.Signer }

func (l login) Sign(ctx context.Context, _ credential.Purpose, m []byte) ([]byte, error) {
	return l.Signer.Sign(ctx, credential.Login, m)
}

// endorse makes the endorsement of one event, with its trick.
func (s *Scenario) endorse(t *testing.T, request []byte, event string, judged time.Time, i int) []byte {
	t.Helper()
	name := nameOf(event[1:])
	_, trick, _ := strings.Cut(event, ":")
	created := judged.Add(-time.Hour + time.Duration(i)*time.Second)
	if _, after, ok := strings.Cut(strings.TrimSuffix(event, ":"+trick), "@"); ok {
		d, err := time.ParseDuration(after)
		if err != nil {
			t.Fatal(err)
		}
		created = judged.Add(d)
	}
	verdict := statement.Endorse
	if event[0] == '-' {
		verdict = statement.Disapprove
	}
	e := Endorsement(ID(t, request), name, verdict, created)
	signers := []credential.Signer{credentialtest.SSH(name)}
	trick, arg, _ := strings.Cut(trick, "=")
	var after func([]byte) []byte
	switch trick {
	case "":
	case "forged":
		signers[0] = forged{signers[0], credentialtest.SSH("mallory")}
	case "as": // signs as himself, claims to be another
		e.Endorser = arg
	case "login":
		signers[0] = login{signers[0]}
	case "other-request":
		e.Request[0] ^= 1
	case "other-deployment":
		e.Deployment = "elsewhere"
	case "two-signatures":
		signers = append(signers, credentialtest.SSH(arg))
	case "space": // the same JSON with a space in it
		after = func(b []byte) []byte { return bytes.Replace(b, []byte(":"), []byte(": "), 1) }
	case "flip": // one bit of the signature
		after = func(b []byte) []byte {
			env, err := statement.DecodeEnvelope(b)
			if err != nil {
				t.Fatal(err)
			}
			sig := env.Signatures[0].Sig
			sig[len(sig)-1] ^= 1
			b, err = env.Encode()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	case "junk":
		return []byte("{}")
	case "expires":
		d, err := time.ParseDuration(arg)
		if err != nil {
			t.Fatal(err)
		}
		e.Expires = e.Created.Add(d)
	default:
		t.Fatalf("no trick %q", trick)
	}
	payload, err := statement.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	b := Envelope(t, payload, signers...)
	if after != nil {
		b = after(b)
	}
	return b
}
