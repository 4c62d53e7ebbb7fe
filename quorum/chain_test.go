package quorum_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/quorum/quorumtest"
	"github.com/greatseal-io/greatseal/statement"
)

func payloadOf(t *testing.T, c *charter.Charter) []byte {
	t.Helper()
	b, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFounding(t *testing.T) {
	c := quorumtest.Charter()
	payload := payloadOf(t, c)
	o1, o2 := credentialtest.SSH("officer1"), credentialtest.SSH("officer2")
	good := quorumtest.Envelope(t, payload, o1, o2)
	id := charter.ID(payload)
	ch, err := quorum.NewChain(&id, good)
	if err != nil {
		t.Fatal(err)
	}
	if ch.Root() != id {
		t.Error("root is another charter")
	}
	other := id
	other[0] ^= 1
	swapped, err := statement.DecodeEnvelope(good)
	if err != nil {
		t.Fatal(err)
	}
	swapped.Signatures[0].KeyID, swapped.Signatures[1].KeyID = swapped.Signatures[1].KeyID, swapped.Signatures[0].KeyID
	swappedBytes, err := swapped.Encode()
	if err != nil {
		t.Fatal(err)
	}
	second := quorumtest.Charter()
	second.Version, second.Previous = 2, id
	for _, b := range []struct {
		name, want string
		pin        *statement.ID
		env        []byte
	}{
		{"another pin", "is pinned", &other, good},
		{"one founder", "do not satisfy", nil, quorumtest.Envelope(t, payload, o1)},
		{"one founder twice", "signs twice", nil, quorumtest.Envelope(t, payload, o1, o1)},
		{"an outsider", "not a credential of the charter", nil, quorumtest.Envelope(t, payload, o1, o2, credentialtest.SSH("mallory"))},
		{"no officer", "do not satisfy", nil, quorumtest.Envelope(t, payload, o1, credentialtest.SSH("operator"))},
		{"keyids swapped", "signature of", nil, swappedBytes},
		{"version 2", "want 1", nil, quorumtest.Envelope(t, payloadOf(t, second), o1, o2)},
		{"a login", "not a credential", nil, quorumtest.Envelope(t, payload, credentialtest.SSH("nobody"))},
		{"no envelope", "founding", nil, payload},
		{"nothing", "founding", nil, nil},
	} {
		if _, err := quorum.NewChain(b.pin, b.env); err == nil || !strings.Contains(err.Error(), b.want) || !errors.Is(err, quorum.ErrChain) {
			t.Errorf("%s: %v", b.name, err)
		}
	}
}

// Invariant 5.
func TestChainAttacks(t *testing.T) {
	at := quorumtest.Start.Add(time.Hour)
	ch := quorumtest.Found(t, quorumtest.Charter())
	founding := ch.Founding()
	addKey := func(name string) func(*charter.Charter) {
		return func(c *charter.Charter) {
			c.Keys[name] = charter.Key{URI: key.URI("soft:" + name), Algorithm: "ed25519"}
		}
	}
	evidence := func(edit func(*charter.Charter)) quorum.Evidence {
		t.Helper()
		ev, err := quorumtest.Replacement(t, ch, edit)
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	refused := func(name string, ch *quorum.Chain, ev quorum.Evidence, code quorum.Code) {
		t.Helper()
		var r *quorum.Refusal
		if err := ch.Extend(ev, at); !errors.As(err, &r) || r.Code != code {
			t.Errorf("%s: %v, want %s", name, err, code)
		}
		if d, g := ch.Judge(ev, at, quorum.Options{}); g != nil || d.Code != code {
			t.Errorf("%s: Judge says %s, want %s", name, d.Code, code)
		}
	}
	refused("version skipped", ch, evidence(func(c *charter.Charter) { c.Version++ }), quorum.CharterInvalid)
	refused("another previous", ch, evidence(func(c *charter.Charter) { c.Previous[0] ^= 1 }), quorum.CharterInvalid)
	refused("another deployment", ch, evidence(func(c *charter.Charter) { c.Deployment = "elsewhere" }), quorum.CharterInvalid)
	refused("made before", ch, evidence(func(c *charter.Charter) { c.Created = c.Created.Add(-time.Hour) }), quorum.CharterInvalid)

	good := evidence(addKey("second"))
	few := quorum.Evidence{Request: good.Request, Endorsements: good.Endorsements[:1]}
	refused("one officer", ch, few, quorum.QuorumPending)
	refused("one officer twice", ch, quorum.Evidence{Request: good.Request, Endorsements: [][]byte{good.Endorsements[0], good.Endorsements[0]}}, quorum.QuorumPending)
	fork := evidence(addKey("fork"))
	refused("endorsements of another charter", ch, quorum.Evidence{Request: fork.Request, Endorsements: good.Endorsements}, quorum.QuorumPending)

	elsewhere := quorumtest.Charter()
	elsewhere.Deployment = "elsewhere"
	payload := payloadOf(t, elsewhere)
	there, err := quorum.NewChain(nil, quorumtest.Envelope(t, payload, credentialtest.SSH("officer1"), credentialtest.SSH("officer2")))
	if err != nil {
		t.Fatal(err)
	}
	refused("evidence of another deployment", there, good, quorum.DeploymentMismatch)

	if err := ch.Extend(good, at); err != nil {
		t.Fatal(err)
	}
	if _, ref := ch.Head(); ref.Version != 2 {
		t.Errorf("head is %d", ref.Version)
	}
	refused("the same link again", ch, good, quorum.CharterInvalid)
	refused("a fork of version 1", ch, fork, quorum.CharterInvalid)
	// The first charter's content as version 3 needs a quorum like any other; its
	// statement as it was does not follow the head.
	restored := quorumtest.Request(ch, "operator", statement.Command{Name: statement.CharterReplace,
		Charter: &statement.CharterArgs{Statement: payloadOf(t, quorumtest.Charter())}})
	req := quorumtest.Statement(t, restored, "operator")
	refused("old charter restored", ch, quorum.Evidence{Request: req}, quorum.CharterInvalid)

	if err := ch.Extend(evidence(addKey("third")), at.Add(-time.Minute)); err == nil || !strings.Contains(err.Error(), "before the link before") {
		t.Errorf("time runs backwards: %v", err)
	}
	sign := quorumtest.Statement(t, quorumtest.Request(ch, "officer1", statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}}), "officer1")
	if err := ch.Extend(quorum.Evidence{Request: sign}, at); err == nil || !strings.Contains(err.Error(), "is no link") {
		t.Errorf("another command extends the chain: %v", err)
	}
	if !bytes.Equal(ch.Founding(), founding) || len(ch.Links()) != 1 {
		t.Error("a refused link left something behind")
	}
}

func TestChainFile(t *testing.T) {
	ch := quorumtest.Found(t, quorumtest.Charter())
	ev, err := quorumtest.Replacement(t, ch, func(c *charter.Charter) { c.People["zoe"] = quorumtest.Person("zoe") })
	if err != nil {
		t.Fatal(err)
	}
	// Rubbish among the endorsements counts for nothing and does not spoil the file.
	ev.Endorsements = append([][]byte{[]byte("{]"), nil}, ev.Endorsements...)
	if err := ch.Extend(ev, quorumtest.Start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	b, err := ch.Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "chain.json", b)
	root := ch.Root()
	again, err := quorum.DecodeChain(&root, b)
	if err != nil {
		t.Fatal(err)
	}
	_, r1 := ch.Head()
	_, r2 := again.Head()
	c, err := again.Encode()
	if err != nil || r1 != r2 || !bytes.Equal(b, c) {
		t.Errorf("chain changed: %v %v %v", r1, r2, err)
	}
	for _, r := range [][2]string{
		{`{"type":`, `{ "type":`}, {`"links":[{`, `"other":1,"links":[{`}, {"chain/v1", "chain/v2"},
		{"13:00:00Z", "13:00:00.5Z"}, {"13:00:00Z", "13:00:00+00:00"}, {`"at":"2026`, `"at":"2019`}, {`"endorsements":[`, `"endorsements":["x",`},
	} {
		bad := bytes.Replace(b, []byte(r[0]), []byte(r[1]), 1)
		if bytes.Equal(bad, b) {
			t.Errorf("%s is not in the file", r[0])
		} else if _, err := quorum.DecodeChain(&root, bad); err == nil {
			t.Errorf("%s is accepted", r[1])
		}
	}
	// Each bit of the evidence matters: flip one in every 97th byte.
	for i := 0; i < len(b); i += 97 {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if x, err := quorum.DecodeChain(&root, bad); err == nil {
			if y, err := x.Encode(); err != nil || !bytes.Equal(y, bad) {
				t.Errorf("byte %d: accepted and changed", i)
			}
			_, ref := x.Head()
			if ref != r1 {
				t.Errorf("byte %d: another head", i)
			}
		}
	}
}

func TestJudgeUnderAndReplay(t *testing.T) {
	c := quorumtest.Charter()
	for _, n := range []string{"alice", "bob", "carol"} {
		c.People[n] = quorumtest.Person(n)
	}
	c.Groups["release"] = charter.Group{Members: []string{"alice", "bob", "carol"}}
	ch := quorumtest.Found(t, quorumtest.Policy(c, charter.Rule{Requesters: []string{"operator"}, Quorum: &charter.Node{Need: 1, Group: "release"}}))
	req := quorumtest.Statement(t, quorumtest.Sign(t, ch, "operator"), "operator")
	at := quorumtest.Start.Add(2 * time.Hour)
	ev := quorum.Evidence{Request: req, Endorsements: [][]byte{quorumtest.Statement(t, quorumtest.Endorsement(quorumtest.ID(t, req), "bob", statement.Endorse, at), "bob")}}
	drop := func(c *charter.Charter) {
		delete(c.People, "bob")
		c.Groups["release"] = charter.Group{Members: []string{"alice", "carol"}}
	}
	if err := quorumtest.Replace(t, ch, drop); err != nil {
		t.Fatal(err)
	}
	if d, g := ch.Judge(ev, at, quorum.Options{}); g != nil || d.Charter.Version != 2 {
		t.Errorf("now: %+v", d)
	}
	d, past, err := ch.JudgeUnder(1, ev, at, quorum.Options{})
	if err != nil || past == nil || d.Charter.Version != 1 {
		t.Fatalf("then: %+v %v", d, err)
	}
	items, _ := quorumtest.Items(t, 1)
	if err := past.Covers(items); err != nil {
		t.Error(err)
	}
	if _, _, err := ch.JudgeUnder(3, ev, at, quorum.Options{}); !errors.Is(err, quorum.ErrChain) {
		t.Error(err)
	}
	if _, _, err := ch.JudgeUnder(0, ev, at, quorum.Options{}); !errors.Is(err, quorum.ErrChain) {
		t.Error(err)
	}
	// A request that names version 2 is not known under version 1.
	late := quorumtest.Statement(t, quorumtest.Sign(t, ch, "operator"), "operator")
	if d, _, err := ch.JudgeUnder(1, quorum.Evidence{Request: late}, at, quorum.Options{}); err != nil || d.Code != quorum.CharterUnknown {
		t.Errorf("%+v %v", d, err)
	}
	// Under a proposal that lets bob vote again, the past request would be granted.
	head, ref := ch.Head()
	next, err := charter.Decode(payloadOf(t, head))
	if err != nil {
		t.Fatal(err)
	}
	next.Version, next.Previous = 3, ref.ID
	next.People["bob"] = quorumtest.Person("bob")
	next.Groups["release"] = charter.Group{Members: []string{"alice", "bob"}}
	if d, err := ch.Replay(next, ev, at, quorum.Options{}); err != nil || d.State != quorum.Granted || d.Charter.Version != 3 {
		t.Errorf("%+v %v", d, err)
	}
	// With its items: the conditions on them are judged too.
	for names, want := range map[string]quorum.State{"*": quorum.Granted, "never-*": quorum.Refused} {
		p := next.Policies["p"]
		p.Names = []string{names}
		next.Policies["p"] = p
		prop, err := ch.Propose(next)
		if err != nil {
			t.Fatal(err)
		}
		if d := prop.JudgeItems(ev, items, at, quorum.Options{}); d.State != want || want == quorum.Refused && d.Code != quorum.NameNotAllowed {
			t.Errorf("%s: %+v", names, d)
		}
		if d := prop.Judge(ev, at, quorum.Options{}); d.State != quorum.Granted {
			t.Errorf("%s: %+v", names, d)
		}
		if d := prop.JudgeItems(ev, nil, at, quorum.Options{}); d.Code != quorum.ItemsMismatch {
			t.Errorf("%s: %+v", names, d)
		}
	}
	next.Groups["release"] = charter.Group{}
	if _, err := ch.Replay(next, ev, at, quorum.Options{}); !errors.Is(err, charter.ErrCharter) {
		t.Error(err)
	}
}

// A cache must not let a passkey's old key vouch for its new one, nor keep what
// did not verify, nor grow.
func TestCache(t *testing.T) {
	cache := quorum.NewCache(4)
	o := quorum.Options{Cache: cache}
	c := quorumtest.Charter()
	for _, n := range []string{"alice", "bob", "carol"} {
		c.People[n] = quorumtest.Person(n)
	}
	c.Groups["release"] = charter.Group{Members: []string{"alice", "bob", "carol"}}
	ch := quorumtest.Found(t, quorumtest.Policy(c, charter.Rule{Requesters: []string{"operator"}, Quorum: &charter.Node{Need: 2, Group: "release"}}))
	r := quorumtest.Sign(t, ch, "operator")
	at := quorumtest.Start.Add(time.Hour)
	for i := range 20 {
		r.Reason = strings.Repeat("x", i/2+1) // every request comes twice
		req := quorumtest.Statement(t, r, "operator")
		id := quorumtest.ID(t, req)
		ev := quorum.Evidence{Request: req}
		for _, n := range []string{"alice", "bob"} {
			ev.Endorsements = append(ev.Endorsements, quorumtest.Statement(t, quorumtest.Endorsement(id, n, statement.Endorse, at), n))
		}
		d, g := ch.Judge(ev, at, o)
		if g == nil {
			t.Fatalf("%+v", d)
		}
		if cache.Len() > 4 {
			t.Fatalf("cache of 4 holds %d", cache.Len())
		}
		before := cache.Len()
		e, err := statement.DecodeEnvelope(ev.Endorsements[0])
		if err != nil {
			t.Fatal(err)
		}
		e.Signatures[0].Sig[len(e.Signatures[0].Sig)-1] ^= 1
		if ev.Endorsements[0], err = e.Encode(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, g := ch.Judge(ev, at, o); g != nil {
				t.Fatal("a flipped signature counts")
			}
		}
		if cache.Len() != before {
			t.Fatal("a signature that does not verify is remembered")
		}
	}
}
