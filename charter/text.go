package charter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/charter/threshold"
	"github.com/greatseal-io/greatseal/statement"
)

// maxNodeText is the longest text of a quorum, in bytes.
const maxNodeText = 4096

// ParseNode reads a quorum as [Node.String] writes it: "2 of release and 1 of
// security", "1 of (2 of release; alice)". People may also write small numbers as
// words, "any" and "all" of a list in brackets, and commas: between the members of a
// list in brackets as ";", elsewhere as "and".
//
// What it returns is in its simplest form: a list of one is that one. Names are not
// looked up: a name alone is a member, see [Charter.Resolve].
func ParseNode(s string) (*Node, error) {
	if len(s) > maxNodeText {
		return nil, fmt.Errorf("charter: quorum of %d bytes: at most %d", len(s), maxNodeText)
	}
	p := &nodeParser{tokens: nodeTokens(s)}
	n, err := p.all(1)
	if err == nil && len(p.tokens) > 0 {
		err = fmt.Errorf("%.40q stands where \"and\" or the end is wanted", p.tokens[0])
	}
	if err != nil {
		return nil, fmt.Errorf("charter: quorum %.80q: %w: write it like \"2 of release and 1 of security\"", s, err)
	}
	return &n, nil
}

func nodeTokens(s string) []string {
	for _, c := range []string{"(", ")", ";", ","} {
		s = strings.ReplaceAll(s, c, " "+c+" ")
	}
	return strings.Fields(s)
}

type nodeParser struct {
	tokens []string
	nodes  int
}

// is reports whether token i from here is one of these.
func (p *nodeParser) is(i int, these ...string) bool {
	return i < len(p.tokens) && slices.Contains(these, p.tokens[i])
}

func (p *nodeParser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

// all reads parts joined by "and".
func (p *nodeParser) all(depth int) (Node, error) {
	return p.parts(depth, ",")
}

func (p *nodeParser) parts(depth int, and string) (Node, error) {
	if depth > threshold.MaxDepth {
		return Node{}, fmt.Errorf("is nested deeper than %d", threshold.MaxDepth)
	}
	var of []Node
	for {
		n, err := p.part(depth)
		if err != nil {
			return Node{}, err
		}
		of = append(of, n)
		if and != "" && p.is(0, and) && p.is(1, "and") { // ", and"
			p.next()
		}
		if !p.is(0, "and") && (and == "" || !p.is(0, and)) {
			return join1(len(of), of), nil
		}
		p.next()
	}
}

// join1 needs some of a list, of which one is itself.
func join1(need int, of []Node) Node {
	if len(of) == 1 && need == 1 {
		return of[0]
	}
	return Node{Need: need, Of: of}
}

func (p *nodeParser) part(depth int) (Node, error) {
	if p.nodes++; p.nodes > threshold.MaxNodes {
		return Node{}, fmt.Errorf("has more than %d parts", threshold.MaxNodes)
	}
	if p.is(0, "(") {
		p.next()
		n, err := p.all(depth + 1)
		if err != nil {
			return n, err
		}
		return n, p.close()
	}
	t := p.next()
	if !p.is(0, "of") {
		if err := nodeName(t); err != nil {
			return Node{}, err
		}
		return Node{Member: t}, nil
	}
	p.next()
	if !p.is(0, "(") {
		need, ok := nodeNumber(t)
		if !ok {
			return Node{}, fmt.Errorf("%.40q of: want a number from 1 to %d", t, threshold.MaxPlaces)
		}
		g := p.next()
		return Node{Need: need, Group: g}, nodeName(g)
	}
	p.next()
	var of []Node
	for {
		n, err := p.parts(depth+1, "")
		if err != nil {
			return n, err
		}
		of = append(of, n)
		if !p.is(0, ";", ",") {
			break
		}
		p.next()
	}
	need, ok := nodeNumber(t)
	if t == "all" {
		need, ok = len(of), true
	}
	if !ok || need > len(of) {
		return Node{}, fmt.Errorf("%.40q of %d: want a number from 1 to %d", t, len(of), len(of))
	}
	return join1(need, of), p.close()
}

func (p *nodeParser) close() error {
	if t := p.next(); t != ")" {
		return errors.New("a bracket is not closed")
	}
	return nil
}

func nodeName(s string) error {
	if s == "" {
		return errors.New("ends where a name is wanted")
	}
	if err := statement.CheckName("", s); err != nil {
		return fmt.Errorf("%.40q is not a name", s)
	}
	return nil
}

var smallNumbers = []string{"no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"}

func nodeNumber(s string) (int, bool) {
	if i := slices.Index(smallNumbers, s); i > 0 {
		return i, true
	}
	if s == "any" {
		return 1, true
	}
	i, err := strconv.Atoi(s)
	return i, err == nil && i >= 1 && i <= threshold.MaxPlaces && strconv.Itoa(i) == s
}

// Resolve is n with names alone that are groups' taken as one of the group, as
// people write "release and security".
func (c *Charter) Resolve(n Node) Node {
	if _, ok := c.Groups[n.Member]; ok && n.Member != "" {
		return Node{Need: 1, Group: n.Member}
	}
	if len(n.Of) > 0 {
		of := make([]Node, len(n.Of))
		for i := range n.Of {
			of[i] = c.Resolve(n.Of[i])
		}
		n.Of = of
	}
	return n
}

// Demands says in words what r demands of whoever asks: "one of release and one of
// security, and the machine scanner; not the requester; any of security can refuse".
func (c *Charter) Demands(r Rule) string {
	if r.Quorum == nil {
		return "nobody: the signature of whoever asks is enough"
	}
	s := c.words(r.Quorum)
	if c.asksAndVotes(r) {
		s += "; not the requester"
	}
	if len(r.Veto) > 0 {
		s += "; any of " + listWords(r.Veto, "or") + " can refuse"
	}
	return s
}

// asksAndVotes reports whether somebody who may ask stands in the quorum, himself or
// with what he owns.
func (c *Charter) asksAndVotes(r Rule) bool {
	roll := NewRoll(c)
	voters := map[int]bool{}
	for _, l := range r.Quorum.Leaves() {
		for _, m := range c.Members(l.Name()) {
			if a, ok := roll.Actor(m); ok {
				voters[a] = true
			}
		}
	}
	return slices.ContainsFunc(c.Requesters(r), func(n string) bool {
		a, ok := roll.Actor(n)
		return ok && voters[a]
	})
}

func (c *Charter) words(n *Node) string {
	if len(n.Of) == 0 {
		return c.leafWords(n)
	}
	if n.Need < len(n.Of) {
		parts := make([]string, len(n.Of))
		for i := range n.Of {
			parts[i] = c.words(&n.Of[i])
		}
		return number(n.Need) + " of these: (" + strings.Join(parts, "), or (") + ")"
	}
	// People first: it is they who are asked.
	var people, machines []string
	for i := range n.Of {
		x := &n.Of[i]
		w := c.words(x)
		if len(x.Of) > 0 && x.Need == len(x.Of) {
			w = "(" + w + ")"
		}
		if len(x.Of) == 0 && c.machineLeaf(x) {
			machines = append(machines, w)
		} else {
			people = append(people, w)
		}
	}
	if len(people) > 0 && len(machines) > 0 {
		return listWords(people, "and") + ", and " + listWords(machines, "and")
	}
	return listWords(slices.Concat(people, machines), "and")
}

func (c *Charter) leafWords(n *Node) string {
	if n.Member != "" {
		if c.machineLeaf(n) {
			return "the machine " + n.Member
		}
		return n.Member
	}
	members := c.Groups[n.Group].Members
	machine := c.machineLeaf(n)
	switch {
	case len(members) == 1 && machine:
		return "the machine " + members[0]
	case len(members) == 1:
		return members[0] + ", the only one of " + n.Group
	case len(members) == n.Needs():
		return "everybody of " + n.Group
	case machine:
		return number(n.Needs()) + " of the machines " + n.Group
	}
	return number(n.Needs()) + " of " + n.Group
}

func number(n int) string {
	if n > 0 && n < len(smallNumbers) {
		return smallNumbers[n]
	}
	return strconv.Itoa(n)
}

func listWords(list []string, last string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " " + last + " " + list[len(list)-1]
}
