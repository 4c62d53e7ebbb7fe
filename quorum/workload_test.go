package quorum_test

import (
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/quorum/quorumtest"
	"github.com/greatseal-io/greatseal/statement"
)

var ciIssuer = credentialtest.NewIssuer("https://token.ci.example.com", "key-1", nil)

// ciChain is a deployment where the workload "ci" may ask under p: with one of
// release, or with nobody.
func ciChain(t *testing.T, unbound, unattended bool) *quorum.Chain {
	t.Helper()
	c := quorumtest.Charter()
	c.People["alice"], c.People["bob"] = quorumtest.Person("alice"), quorumtest.Person("bob")
	c.Groups["release"] = charter.Group{Members: []string{"alice", "bob"}}
	c.Issuers = map[string]charter.Issuer{"ci": {URL: ciIssuer.URL, Keys: []string{ciIssuer.JWK()}}}
	c.Machines = map[string]charter.Machine{"ci": {Owner: "alice", Credentials: []charter.Credential{{OIDC: &charter.OIDC{
		Issuer: "ci", Audience: "https://seal.example.com", Claims: map[string]string{"sub": "job/app"}, Unbound: unbound}}}}}
	r := charter.Rule{Requesters: []string{"ci"}, Unattended: unattended}
	if !unattended {
		r.Quorum = &charter.Node{Group: "release"}
	}
	return quorumtest.Found(t, quorumtest.Policy(c, r))
}

func ciWorkload(t *testing.T, ch *quorum.Chain) *credential.OIDC {
	t.Helper()
	head, _ := ch.Head()
	c, err := head.Credential(head.Machines["ci"].Credentials[0])
	if err != nil {
		t.Fatal(err)
	}
	return c.(*credential.OIDC)
}

func ciSign(t *testing.T, ch *quorum.Chain, r statement.Request) []byte {
	t.Helper()
	payload, err := statement.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	return quorumtest.Envelope(t, payload, ciIssuer.Workload(ciWorkload(t, ch), func() time.Time { return r.Created }, nil))
}

// with is an envelope whose signature is another's.
func with(t *testing.T, r statement.Request, from []byte) []byte {
	t.Helper()
	payload, err := statement.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	e, err := statement.DecodeEnvelope(from)
	if err != nil {
		t.Fatal(err)
	}
	e.Payload = payload
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWorkloadUnattended(t *testing.T) {
	ch := ciChain(t, false, true)
	r := quorumtest.Sign(t, ch, "ci")
	env := ciSign(t, ch, r)
	d, g := ch.Judge(quorum.Evidence{Request: env}, quorumtest.Start.Add(time.Minute), quorum.Options{Cache: quorum.NewCache(8)})
	if g == nil {
		t.Fatalf("%+v", d)
	}
	// The token of that request is good for no other one, however small the change.
	for name, edit := range map[string]func(*statement.Request){
		"another nonce":  func(r *statement.Request) { r.Nonce = strings.Repeat("0", 32) },
		"another reason": func(r *statement.Request) { r.Reason = "x" },
		"a longer life":  func(r *statement.Request) { r.Expires = r.Expires.Add(-time.Second) },
		"another time":   func(r *statement.Request) { r.Created = r.Created.Add(time.Second) },
		"other items": func(r *statement.Request) {
			s := *r.Command.Sign
			_, s.Items = quorumtest.Items(t, 2)
			s.Count = 2
			r.Command.Sign = &s
		},
	} {
		other := r
		edit(&other)
		d, g := ch.Judge(quorum.Evidence{Request: with(t, other, env)}, quorumtest.Start.Add(time.Minute), quorum.Options{})
		if g != nil || d.Code != quorum.RequesterSignature {
			t.Errorf("%s with a stolen token: %s %s", name, d.State, d.Code)
		}
	}
}

// Evidence is judged years later under the charter of then, also after the issuer's
// key has gone from the charter.
func TestWorkloadYearsLater(t *testing.T) {
	ch := ciChain(t, false, true)
	ev := quorum.Evidence{Request: ciSign(t, ch, quorumtest.Sign(t, ch, "ci"))}
	next := credentialtest.NewIssuer(ciIssuer.URL, "key-2", nil)
	if err := quorumtest.Replace(t, ch, func(c *charter.Charter) {
		c.Issuers["ci"] = charter.Issuer{URL: ciIssuer.URL, Keys: []string{next.JWK()}}
	}); err != nil {
		t.Fatal(err)
	}
	at := quorumtest.Start.Add(time.Hour)
	d, past, err := ch.JudgeUnder(1, ev, at, quorum.Options{Cache: quorum.NewCache(8)})
	if err != nil || past == nil {
		t.Fatalf("%+v, %v", d, err)
	}
	cache := quorum.NewCache(8)
	if _, past, _ := ch.JudgeUnder(1, ev, at, quorum.Options{Cache: cache}); past == nil {
		t.Fatal("not judged again")
	}
	// The same cache remembers nothing of it for the charter without the key.
	if d, g := ch.Judge(ev, at, quorum.Options{Cache: cache}); g != nil || d.Code != quorum.RequesterSignature {
		t.Errorf("a key that is no longer pinned: %s %s", d.State, d.Code)
	}
}

// A thief has an unbound token: what he asks for waits for people, and a token is
// no vote.
func TestWorkloadUnboundThief(t *testing.T) {
	ch := ciChain(t, true, false)
	r := quorumtest.Sign(t, ch, "ci")
	env := ciSign(t, ch, r)
	other := r
	other.Nonce = strings.Repeat("0", 32)
	stolen := with(t, other, env)
	at := quorumtest.Start.Add(time.Minute)
	d, g := ch.Judge(quorum.Evidence{Request: stolen}, at, quorum.Options{})
	if g != nil || d.State != quorum.Pending || d.Code != quorum.QuorumPending {
		t.Fatalf("a stolen unbound token: %s %s", d.State, d.Code)
	}
	// He "endorses" with it, as ci, as its owner and as bob.
	for _, who := range []string{"ci", "alice", "bob"} {
		payload, err := statement.Encode(quorumtest.Endorsement(quorumtest.ID(t, stolen), who, statement.Endorse, at))
		if err != nil {
			t.Fatal(err)
		}
		vote := quorumtest.Envelope(t, payload, ciIssuer.Workload(ciWorkload(t, ch), func() time.Time { return at }, nil))
		d, g := ch.Judge(quorum.Evidence{Request: stolen, Endorsements: [][]byte{vote}}, at, quorum.Options{})
		if g != nil || d.Votes[0].Counted || d.Votes[0].Standing {
			t.Errorf("%s endorses with a token: %+v", who, d.Votes[0])
		}
	}
	// Backdating and forward-dating end with the token's hour.
	for _, shift := range []time.Duration{-10 * time.Minute, 20 * time.Minute} {
		other.Created = r.Created.Add(shift)
		if d, g := ch.Judge(quorum.Evidence{Request: with(t, other, env)}, at.Add(time.Hour), quorum.Options{}); g != nil || d.Code != quorum.RequesterSignature {
			t.Errorf("made %s from the token: %s %s", shift, d.State, d.Code)
		}
	}
	// The owner's own vote does not count for what his machine asks; bob's does.
	for who, want := range map[string]quorum.State{"alice": quorum.Pending, "bob": quorum.Granted} {
		e := quorumtest.Statement(t, quorumtest.Endorsement(quorumtest.ID(t, env), who, statement.Endorse, at), who)
		if d, _ := ch.Judge(quorum.Evidence{Request: env, Endorsements: [][]byte{e}}, at, quorum.Options{}); d.State != want {
			t.Errorf("%s endorses: %s", who, d.State)
		}
	}
}

// A workload founds nothing.
func TestWorkloadFounds(t *testing.T) {
	c := quorumtest.Charter()
	c.Issuers = map[string]charter.Issuer{"ci": {URL: ciIssuer.URL, Keys: []string{ciIssuer.JWK()}}}
	x := charter.Credential{OIDC: &charter.OIDC{Issuer: "ci", Audience: "https://seal.example.com", Claims: map[string]string{"sub": "job/app"}}}
	c.Machines = map[string]charter.Machine{"ci": {Credentials: []charter.Credential{x}}}
	payload, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Credential(x)
	if err != nil {
		t.Fatal(err)
	}
	env := quorumtest.Envelope(t, payload, credentialtest.SSH("officer1"), credentialtest.SSH("officer2"),
		ciIssuer.Workload(w.(*credential.OIDC), func() time.Time { return quorumtest.Start }, nil))
	if _, err := quorum.NewChain(nil, env); err == nil || !strings.Contains(err.Error(), "signs requests only") {
		t.Errorf("a workload founds: %v", err)
	}
}
