package charter_test

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
)

func TestParseNode(t *testing.T) {
	leaf := func(n int, g string) charter.Node { return charter.Node{Need: n, Group: g} }
	who := func(m string) charter.Node { return charter.Node{Member: m} }
	for _, c := range []struct {
		in   string
		want charter.Node
	}{
		{"alice", who("alice")},
		{"2 of release", leaf(2, "release")},
		{"two of release", leaf(2, "release")},
		{"2 of release, 1 of security", charter.Node{Need: 2, Of: []charter.Node{leaf(2, "release"), leaf(1, "security")}}},
		{"one of release, one of security, and scanner", charter.Node{Need: 3, Of: []charter.Node{leaf(1, "release"), leaf(1, "security"), who("scanner")}}},
		{"1 of (2 of release; alice)", charter.Node{Need: 1, Of: []charter.Node{leaf(2, "release"), who("alice")}}},
		{"any of (2 of release, alice and bob)", charter.Node{Need: 1, Of: []charter.Node{leaf(2, "release"), {Need: 2, Of: []charter.Node{who("alice"), who("bob")}}}}},
		{"all of (alice; bob)", charter.Node{Need: 2, Of: []charter.Node{who("alice"), who("bob")}}},
		{"(alice and bob) and carol", charter.Node{Need: 2, Of: []charter.Node{{Need: 2, Of: []charter.Node{who("alice"), who("bob")}}, who("carol")}}},
		{"1 of (alice)", who("alice")},
		{"((alice))", who("alice")},
		// Names that look like words of the language.
		{"and and and", charter.Node{Need: 2, Of: []charter.Node{who("and"), who("and")}}},
		{"1 of of", leaf(1, "of")},
		{"2 and one", charter.Node{Need: 2, Of: []charter.Node{who("2"), who("one")}}},
	} {
		got, err := charter.ParseNode(c.in)
		if err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%q: %+v, %v: want %+v", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{
		"", " ", "alice bob", "2 of", "0 of release", "-1 of release", "65 of release", "02 of release", "2 of (alice)", "3 of (alice; bob)",
		"alice and", "(alice", "alice)", "1 of (alice", "1 of ()", "()", "all of release", "Alice", "1 of Release", "x of release", "alice;bob",
		"1 of (a;; b)", strings.Repeat("(", 9) + "a" + strings.Repeat(")", 9), strings.Repeat("a and ", 300) + "a", strings.Repeat("a", 5000),
	} {
		if n, err := charter.ParseNode(bad); err == nil {
			t.Errorf("%.60q is accepted: %s", bad, n)
		}
	}
}

// simple is what ParseNode makes of n: a list of one is that one, and a group's
// default is said.
func simple(n charter.Node) charter.Node {
	if n.Group != "" {
		n.Need = n.Needs()
	}
	if n.Member != "" {
		n.Need = 0
	}
	if len(n.Of) == 1 {
		return simple(n.Of[0])
	}
	var of []charter.Node
	for _, c := range n.Of {
		of = append(of, simple(c))
	}
	n.Of = of
	return n
}

// Property: ParseNode is String's inverse.
func TestNodeRoundTrip(t *testing.T) {
	names := []string{"alice", "and", "of", "2", "one", "all", "release-eng", "a.b_c"}
	r := rand.New(rand.NewPCG(1, 2))
	var random func(depth int) charter.Node
	random = func(depth int) charter.Node {
		switch k := r.IntN(4); {
		case k == 0 || depth > 4 && k < 2:
			return charter.Node{Member: names[r.IntN(len(names))]}
		case k == 1 || depth > 4:
			return charter.Node{Group: names[r.IntN(len(names))], Need: r.IntN(4)}
		}
		of := make([]charter.Node, 1+r.IntN(4))
		for i := range of {
			of[i] = random(depth + 1)
		}
		return charter.Node{Need: 1 + r.IntN(len(of)), Of: of}
	}
	for range 5000 {
		n := random(1)
		got, err := charter.ParseNode(n.String())
		if err != nil || !reflect.DeepEqual(*got, simple(n)) {
			t.Fatalf("%s: %+v, %v: want %+v", n, got, err, simple(n))
		}
		if again, err := charter.ParseNode(got.String()); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%s: not the same again: %v", got, err)
		}
	}
}

func FuzzParseNode(f *testing.F) {
	for _, s := range []string{"2 of release and 1 of security", "1 of (2 of release; alice)", "a, b, and (c and d)", "all of (a; b)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := charter.ParseNode(s)
		if err != nil {
			return
		}
		if again, err := charter.ParseNode(n.String()); err != nil || !reflect.DeepEqual(again, n) {
			t.Fatalf("%q: %s: %v", s, n, err)
		}
	})
}

func TestDemands(t *testing.T) {
	c := charter.Charter{
		People:   map[string]charter.Person{"alice": {}, "bob": {}, "carol": {}, "dave": {}},
		Machines: map[string]charter.Machine{"scanner": {}, "ci": {Owner: "carol"}},
		Groups: map[string]charter.Group{"release": {Members: []string{"alice", "bob"}}, "security": {Members: []string{"carol", "dave"}},
			"gates": {Members: []string{"scanner"}}, "lead": {Members: []string{"dave"}}},
	}
	for _, x := range []struct {
		ask, quorum, want string
		veto              []string
	}{
		{"release", "1 of release and 1 of security and 1 of gates", "one of release and one of security, and the machine scanner; not the requester; any of security can refuse", []string{"security"}},
		{"ci", "1 of security", "one of security; not the requester", nil},
		{"alice", "1 of security", "one of security", nil},
		{"alice", "2 of release", "everybody of release; not the requester", nil},
		{"alice", "1 of lead", "dave, the only one of lead", nil},
		{"alice", "1 of (2 of security; bob)", "one of these: (everybody of security), or (bob)", nil},
	} {
		n, err := charter.ParseNode(x.quorum)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Demands(charter.Rule{Requesters: []string{x.ask}, Quorum: n, Veto: x.veto}); got != x.want {
			t.Errorf("%s asks for %s: %q: want %q", x.ask, x.quorum, got, x.want)
		}
	}
	if got := c.Demands(charter.Rule{Requesters: []string{"alice"}, Unattended: true}); !strings.HasPrefix(got, "nobody") {
		t.Errorf("unattended: %q", got)
	}
	n, _ := charter.ParseNode("release and security")
	if got := c.Resolve(*n); got.String() != "1 of release and 1 of security" {
		t.Errorf("resolved: %s", got)
	}
}
