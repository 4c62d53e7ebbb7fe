package circle_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format/attest"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/format/dsse"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

func only(s *circletest.Side, u circle.Update) *circle.Bundle {
	return &circle.Bundle{Root: s.Root, Circles: []circle.Update{u}}
}

func off(n *trust.Statement) {
	i := n.Instances[circletest.Protected]
	i.Enforcement = trust.Off
	n.Instances[circletest.Protected] = i
}

// Roll-back: an old version, in force or long gone, is not taken again.
func TestAttackRollback(t *testing.T) {
	s := circletest.New(t)
	store := &circletest.Memory{}
	c := open(t, store, s)
	one, two := s.Publish(off), s.Publish(func(n *trust.Statement) {
		n.Instances[circletest.Protected] = circletest.Statement(t).Instances[circletest.Protected]
	})
	apply(t, c, s.Bundle(one, two), s.Now)
	wants(t, "the old version", c.Apply(t.Context(), only(s, one), s.Now), rejection.RevisionRollback)
	wants(t, "the old version after a restart", open(t, store, s).Apply(t.Context(), only(s, one), s.Now), rejection.RevisionRollback)
	wants(t, "versions out of order", c.Apply(t.Context(), &circle.Bundle{Root: s.Root, Circles: []circle.Update{two, one}}, s.Now), rejection.PayloadMalformed)
	if believed(t, c, s.Now).Enforcement(circletest.Protected) != trust.On {
		t.Error("enforcement was rolled back")
	}
}

// Roll-back of the state file itself: the trust of that day is stale by its
// freshness, or the clock has to go back as well. What is not noticed is a file
// and a clock that are turned back together: the package says so.
func TestAttackStateRestored(t *testing.T) {
	s := circletest.New(t)
	store := &circletest.Memory{}
	c := open(t, store, s)
	apply(t, c, s.Bundle(s.Publish(off)), s.Now)
	yesterday := bytes.Clone(store.Data)
	s.Now = s.Now.Add(24 * time.Hour)
	apply(t, c, s.Bundle(s.Publish(func(n *trust.Statement) {
		n.Instances[circletest.Protected] = circletest.Statement(t).Instances[circletest.Protected]
	})), s.Now)
	back := open(t, &circletest.Memory{Data: yesterday}, s)
	_, err := back.Trusted(s.Now)
	wants(t, "the state of yesterday", err, rejection.TrustStoreStale)
	// With the state of today the clock of yesterday is refused.
	_, err = open(t, store, s).Trusted(s.Now.Add(-24 * time.Hour))
	wants(t, "the clock of yesterday", err, rejection.ClockBackwards)
}

// Two versions of one number: the side, or its keeper, says two things.
func TestAttackEquivocation(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	a := s.Publish()
	s.Last = nil
	b := s.Publish(off)
	apply(t, c, only(s, a), s.Now)
	wants(t, "the other version 1", c.Apply(t.Context(), only(s, b), s.Now), rejection.RevisionRollback)
	// Nor does a successor of the other one follow.
	wants(t, "its successor", c.Apply(t.Context(), only(s, s.Publish()), s.Now), rejection.RevisionRollback)
}

// Freeze: what is withheld is noticed when freshness ends, or the version.
func TestAttackFreeze(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	b := s.Bundle(s.Publish())
	apply(t, c, b, s.Now)
	end := s.Now.Add(time.Hour)
	_, err := c.Trusted(end)
	wants(t, "after the freshness", err, rejection.TrustStoreStale)
	wants(t, "the same bundle again", c.Apply(t.Context(), b, end), rejection.TrustStoreStale)
	if c.Enforcement(circletest.Protected) != trust.On {
		t.Error("stale trust switched enforcement off")
	}
	// A newer one makes it good; an older one does not take its place.
	s.Now = end
	f := s.Fresh(time.Hour)
	s.Now = end.Add(-5 * time.Minute)
	older := s.Fresh(time.Hour)
	s.Now = end.Add(time.Minute)
	apply(t, c, &circle.Bundle{Root: s.Root, Freshness: &f}, s.Now)
	believed(t, c, s.Now)
	wants(t, "an older one", c.Apply(t.Context(), &circle.Bundle{Root: s.Root, Freshness: &older}, s.Now), rejection.RevisionRollback)
	// A freshness statement does not outlast what the version allows, whatever it says.
	long := s.Fresh(48 * time.Hour)
	apply(t, c, &circle.Bundle{Root: s.Root, Freshness: &long}, s.Now)
	_, err = c.Trusted(s.Now.Add(61 * time.Minute))
	wants(t, "older than allowed", err, rejection.TrustStoreStale)
}

// Expired, with all the freshness there can be.
func TestAttackExpiredCircle(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	u := s.Publish(func(n *trust.Statement) { n.Expires, n.Freshness = n.Created.Add(30*time.Minute), 0 })
	apply(t, c, only(s, u), s.Now)
	believed(t, c, s.Now)
	_, err := c.Trusted(s.Now.Add(time.Hour))
	wants(t, "expired", err, rejection.TrustStoreStale)
	wants(t, "expired, to somebody new", open(t, &circletest.Memory{}, s).Apply(t.Context(), only(s, u), s.Now.Add(time.Hour)), rejection.TrustStoreStale)
}

// Freshness that was signed for another day, or that says so.
func TestAttackFreshnessInStock(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	apply(t, c, s.Bundle(s.Publish()), s.Now)
	f := s.Fresh(time.Hour, func(f *trust.Freshness) { f.At, f.Expires = f.At.Add(24*time.Hour), f.Expires.Add(24*time.Hour) })
	wants(t, "today", c.Apply(t.Context(), &circle.Bundle{Root: s.Root, Freshness: &f}, s.Now), rejection.NotYetValid)
	wants(t, "tomorrow", c.Apply(t.Context(), &circle.Bundle{Root: s.Root, Freshness: &f}, s.Now.Add(24*time.Hour)), rejection.NotYetValid)
}

// Freshness that speaks of another deployment, under the right root.
func TestAttackFreshnessElsewhere(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	apply(t, c, s.Bundle(s.Publish()), s.Now)
	f := s.Fresh(time.Hour, func(f *trust.Freshness) { f.Deployment = "elsewhere" })
	wants(t, "another deployment", c.Apply(t.Context(), &circle.Bundle{Root: s.Root, Freshness: &f}, s.Now), rejection.CertUntrusted)
}

// Mix and match: parts of one version with parts of another, or of another side.
func TestAttackMixAndMatch(t *testing.T) {
	s, o := circletest.New(t), other(t)
	c := open(t, &circletest.Memory{}, s, o)
	one := s.Publish(off)
	old := s.Fresh(time.Hour)
	two := s.Publish()
	theirs := o.Publish()
	wants(t, "freshness of version 1 with version 2", c.Apply(t.Context(), &circle.Bundle{Root: s.Root, Circles: []circle.Update{two}, Freshness: &old}, s.Now), rejection.TrustStoreStale)
	wants(t, "statement 1 with evidence 2", c.Apply(t.Context(), only(s, circle.Update{Statement: one.Statement, Evidence: two.Evidence}), s.Now), rejection.SigInvalid)
	wants(t, "another side's version", c.Apply(t.Context(), only(s, theirs), s.Now), rejection.CertUntrusted)
	wants(t, "another side's evidence", c.Apply(t.Context(), only(s, circle.Update{Statement: two.Statement, Evidence: theirs.Evidence}), s.Now), rejection.CertUntrusted)
	_, err := circle.Judge(s.Root, &circle.Update{Statement: two.Statement, Evidence: old.Evidence})
	wants(t, "evidence of freshness", err, rejection.PurposeMismatch)
	_, err = c.Trusted(s.Now)
	wants(t, "all of that", err, rejection.TrustStoreStale)
	// Freshness moves with its version: the old one does not count for the new one.
	apply(t, c, &circle.Bundle{Root: s.Root, Circles: []circle.Update{one}, Freshness: &old}, s.Now)
	apply(t, c, only(s, two), s.Now)
	_, err = c.Trusted(s.Now)
	wants(t, "version 2 with nothing fresh", err, rejection.TrustStoreStale)
}

// Evidence under another charter root.
func TestAttackOtherRoot(t *testing.T) {
	s, o := circletest.New(t), other(t)
	u := o.Publish(off)
	_, err := circle.Judge(s.Root, &u)
	wants(t, "another root", err, rejection.CertUntrusted)
	_, err = circle.Judge(statement.ID{}, &u)
	wants(t, "no root", err, rejection.CertUntrusted)
	c := open(t, &circletest.Memory{}, s)
	wants(t, "a bundle that names it", c.Apply(t.Context(), only(o, u), s.Now), rejection.CertUntrusted)
	b := only(o, u)
	b.Root = s.Root
	wants(t, "a bundle that lies", c.Apply(t.Context(), b, s.Now), rejection.CertUntrusted)
}

// Endless data: whatever a peer sends and claims, the reader stops.
func TestAttackEndlessData(t *testing.T) {
	s := circletest.New(t)
	u := s.Publish()
	huge := only(s, circle.Update{Statement: u.Statement, Evidence: make([]byte, circle.MaxEvidence+1)})
	wants(t, "large evidence", open(t, &circletest.Memory{}, s).Apply(t.Context(), huge, s.Now), rejection.PayloadTooLarge)
	many := &circle.Bundle{Root: s.Root, Circles: make([]circle.Update, circle.MaxCircles+1)}
	wants(t, "many versions", open(t, &circletest.Memory{}, s).Apply(t.Context(), many, s.Now), rejection.PayloadTooLarge)
	head := "greatseal circle bundle v1 " + s.Root.String() + "\n"
	for name, x := range map[string]struct {
		head string
		code rejection.Code
	}{
		"a line without end":     {"", rejection.PayloadMalformed},
		"versions without end":   {head, rejection.PayloadMalformed},
		"a claim of much":        {head + "circle 1 99999999999\n", rejection.PayloadTooLarge},
		"a claim beyond numbers": {head + "circle 1 999999999999999999999999\n", rejection.PayloadMalformed},
		"a claim of less":        {head + "circle -1 5\n", rejection.PayloadMalformed},
	} {
		r := &endless{head: strings.NewReader(x.head)}
		_, err := circle.ReadBundle(r)
		wants(t, name, err, x.code)
		if r.n > circle.MaxBundle {
			t.Errorf("%s: %d bytes were read", name, r.n)
		}
	}
}

// endless is what it is given, and zeros for ever.
type endless struct {
	head io.Reader
	n    int64
}

func (e *endless) Read(p []byte) (int, error) {
	n, err := e.head.Read(p)
	if err != nil {
		clear(p)
		n = len(p)
	}
	e.n += int64(n)
	return n, nil
}

// Stolen keys that serve without a quorum: they change no trust.
func TestAttackStolenOnlineKeys(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	apply(t, c, s.Bundle(s.Publish()), s.Now)
	n := s.Next()
	off(n)
	payload, err := n.Encode()
	if err != nil {
		t.Fatal(err)
	}
	// The machine that asks for freshness asks for trust, under its own policy.
	u := s.Agree("fresh", "ci", payload)
	wants(t, "trust by the freshness policy", c.Apply(t.Context(), only(s, u), s.Now), rejection.PurposeMismatch)
	_, err = circle.JudgeFreshness(s.Root, &u)
	wants(t, "trust as freshness", err, rejection.CertUntrusted)
	// The keys themselves, those of freshness, of orders and the circle's own, sign
	// an envelope: without evidence of its own it is nothing, and with that of
	// another statement it is another statement.
	good := s.Bundle(s.Publish()).Circles[0]
	for _, who := range []string{"fresh", "circle"} {
		env := seal(t, s, who, payload)
		wants(t, who+"'s key with other evidence", c.Apply(t.Context(), only(s, circle.Update{Statement: env, Evidence: good.Evidence}), s.Now), rejection.SigInvalid)
		wants(t, who+"'s key alone", c.Apply(t.Context(), only(s, circle.Update{Statement: env}), s.Now), rejection.SigMissing)
	}
	runtime := circleformat.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: strings.Repeat("0", 64), Sig: make([]byte, 64)}}}
	env, err := runtime.Encode()
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "a runtime key", c.Apply(t.Context(), only(s, circle.Update{Statement: env, Evidence: good.Evidence}), s.Now), rejection.SigInvalid)
	if believed(t, c, s.Now).Enforcement(circletest.Protected) != trust.On {
		t.Error("enforcement is off")
	}
}

// seal signs a payload with a key of the deployment, past every rule.
func seal(t *testing.T, s *circletest.Side, key string, payload []byte) []byte {
	t.Helper()
	k := s.Keys[key]
	id, err := dsse.KeyID(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	e := circleformat.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: id, Sig: k.Sign(t, statement.PAE(payload))}}}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// One officer of the two that it takes: the keeper grants nothing, and evidence
// that says otherwise is refused, though the keeper's own key were stolen too.
func TestAttackOneOfficerLess(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	apply(t, c, s.Bundle(s.Publish()), s.Now)
	n := s.Next()
	off(n)
	payload, err := n.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := s.Sign("circle", "operator", s.Item(s.FormatOf("circle"), "circle.json", payload, nil))
	s.Endorse(r, "officer1")
	if _, g := s.Chain.Judge(quorum.Evidence{Request: r.Envelope, Endorsements: r.Endorsements}, s.Now, quorum.Options{}); g != nil {
		t.Fatal("one officer is enough")
	}
	// A good request, and its second endorsement taken out of the evidence.
	s.Endorse(r, "officer2")
	s.Execute(r)
	e := s.Evidence(r, 0)
	e.Endorsements = e.Endorsements[:1]
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, side := s.Attach(r, 0, payload)
	wants(t, "with one endorsement", c.Apply(t.Context(), only(s, circle.Update{Statement: side, Evidence: b}), s.Now), rejection.CertUntrusted)
	// The requester's own endorsement does not count, nor one officer's twice.
	e = s.Evidence(r, 0)
	e.Endorsements[1] = s.Word(r, "officer1", statement.Endorse, "officer1")
	if b, err = e.Encode(); err != nil {
		t.Fatal(err)
	}
	wants(t, "with one officer twice", c.Apply(t.Context(), only(s, circle.Update{Statement: side, Evidence: b}), s.Now), rejection.CertUntrusted)
}

// A revocation is taken back by the quorum and by nobody less.
func TestAttackRevocationStripped(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	revoked := []record.Revocation{{Fingerprint: strings.Repeat("ab", 32), Compromised: true}}
	apply(t, c, s.Bundle(s.Publish(func(n *trust.Statement) { n.Revocations = revoked })), s.Now)
	n := s.Next()
	n.Revocations = nil
	payload, err := n.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := s.Sign("circle", "operator", s.Item(s.FormatOf("circle"), "circle.json", payload, nil))
	s.Endorse(r, "officer3")
	if _, g := s.Chain.Judge(quorum.Evidence{Request: r.Envelope, Endorsements: r.Endorsements}, s.Now, quorum.Options{}); g != nil {
		t.Fatal("one officer is enough")
	}
	// Out of the signed statement it does not come.
	u := s.Publish()
	env, err := circleformat.DecodeEnvelope(u.Statement)
	if err != nil {
		t.Fatal(err)
	}
	bad := *s.Last
	bad.Revocations = nil
	if env.Payload, err = bad.Encode(); err != nil {
		t.Fatal(err)
	}
	stripped, err := env.Encode()
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "a stripped statement", c.Apply(t.Context(), only(s, circle.Update{Statement: stripped, Evidence: u.Evidence}), s.Now), rejection.SigInvalid)
	if len(believed(t, c, s.Now).Records(circletest.Protected).Revocations) != 1 {
		t.Error("the revocation is gone")
	}
	apply(t, c, s.Bundle(u, s.Publish(func(n *trust.Statement) { n.Revocations = nil })), s.Now)
	if len(believed(t, c, s.Now).Records(circletest.Protected).Revocations) != 0 {
		t.Error("the quorum cannot take it back")
	}
}

// A policy with the purpose that nobody has to agree to: the charter is refused
// where it signs records, and what was signed under one that does not yet is too.
func TestAttackUnattendedPolicy(t *testing.T) {
	unattended := func(c *charter.Charter) {
		p := c.Policies["circle"]
		p.Rule = charter.Rule{Requesters: []string{"ci"}, Unattended: true}
		c.Policies["circle"] = p
	}
	s := circletest.New(t)
	head, _ := s.Chain.Head()
	c := *head
	c.Policies = map[string]charter.Policy{"circle": head.Policies["circle"]}
	unattended(&c)
	if err := c.Check(); err == nil {
		t.Error("the charter is accepted")
	}
	o := other(t, unattended, func(c *charter.Charter) { c.Records = nil })
	payload, err := circletest.Statement(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	u := o.Agree("circle", "ci", payload)
	_, err = circle.Judge(o.Root, &u)
	wants(t, "nobody agreed", err, rejection.CertUntrusted)
	if !strings.Contains(err.Error(), "nobody endorsed") {
		t.Error(err)
	}
}

// A gate alone does not change trust, though a charter may let it sign.
func TestAttackMachinesAlone(t *testing.T) {
	s := circletest.New(t, func(c *charter.Charter) {
		p := c.Policies["circle"]
		p.Rule.Quorum = &charter.Node{Need: 1, Group: "gates"}
		c.Policies["circle"] = p
	})
	payload, err := circletest.Statement(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	u := s.Agree("circle", "operator", payload, "scanner")
	_, err = circle.Judge(s.Root, &u)
	wants(t, "a gate alone", err, rejection.CertUntrusted)
}

// The right statement, agreed to for something else, or in another format.
func TestAttackWrongPurpose(t *testing.T) {
	for _, purpose := range []string{"release", record.Freshness, record.Queue, record.Wildcard, "circle_of_trust.x"} {
		s := circletest.New(t, func(c *charter.Charter) {
			p := c.Policies["circle"]
			p.Purposes = []string{purpose}
			c.Policies["circle"] = p
		})
		payload, err := circletest.Statement(t).Encode()
		if err != nil {
			t.Fatal(err)
		}
		u := s.Agree("circle", "operator", payload, "officer1", "officer2")
		_, err = circle.Judge(s.Root, &u)
		wants(t, purpose, err, rejection.PurposeMismatch)
	}
	// An attestation about the statement, under the right purpose.
	s := circletest.New(t, func(c *charter.Charter) {
		p := c.Policies["circle"]
		p.Formats = []string{"circle", "dsse"}
		c.Policies["circle"] = p
	})
	payload, err := circletest.Statement(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := s.Sign("circle", "operator", s.Item(attest.New(), "circle.json", payload, nil))
	s.Endorse(r, "officer1", "officer2")
	s.Execute(r)
	e, err := s.Evidence(r, 0).Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, err = circle.Judge(s.Root, &circle.Update{Statement: seal(t, s, "circle", payload), Evidence: e})
	wants(t, "an attestation", err, rejection.CertUntrusted)
}

// A statement whose configurations are not the charter's, all of them and as they
// are there: the downgrade that narrows what is signed.
func TestAttackNarrowedConfiguration(t *testing.T) {
	for name, x := range map[string]struct {
		edit func(*trust.Statement)
		code rejection.Code
	}{
		"a field less": {func(n *trust.Statement) {
			c := n.Configurations["sources"]
			c.Fields = c.Fields[:1]
			n.Configurations["sources"] = c
		}, rejection.ConfigOutdated},
		"a condition": {func(n *trust.Statement) {
			c := n.Configurations["sources"]
			c.Condition = "type == 'none'"
			n.Configurations["sources"] = c
		}, rejection.ConfigOutdated},
		"one less": {func(n *trust.Statement) { n.Configurations = map[string]record.Configuration{} }, rejection.ConfigOutdated},
		"one more": {func(n *trust.Statement) { n.Configurations["more"] = n.Configurations["sources"] }, rejection.ConfigOutdated},
		"another instance": {func(n *trust.Statement) {
			n.Instances = map[string]trust.Instance{"mine": {Role: trust.Trusted}}
		}, rejection.CertUntrusted},
		"the instance, protected": {func(n *trust.Statement) {
			n.Instances[circletest.Trusted] = trust.Instance{Role: trust.Protected, Enforcement: trust.On}
			n.Instances["mine"] = trust.Instance{Role: trust.Trusted}
		}, rejection.CertUntrusted},
		"another deployment": {func(n *trust.Statement) { n.Deployment = "elsewhere" }, rejection.CertUntrusted},
		"of tomorrow":        {func(n *trust.Statement) { n.Created = n.Created.AddDate(0, 0, 1) }, rejection.NotYetValid},
	} {
		s := circletest.New(t)
		u := s.Publish(x.edit)
		_, err := circle.Judge(s.Root, &u)
		wants(t, name, err, x.code)
	}
}

// Officers who left sign on under the charter of their time: what is known under a
// later charter is not undone, whatever number they give it.
func TestAttackOlderCharter(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	one := s.Publish()
	last, id := s.Last, s.ID
	old := s.Publish(off, func(n *trust.Statement) { n.Version = 9 })
	s.Last, s.ID = last, id
	s.Replace(func(c *charter.Charter) {
		p := c.Policies["apps"]
		p.Description = "later"
		c.Policies["apps"] = p
	})
	apply(t, c, s.Bundle(one, s.Publish()), s.Now)
	v, err := circle.Judge(s.Root, &old)
	if err != nil || v.Charter().Version != 1 || v.Statement().Version != 9 || v.ID() == s.ID || v.At().IsZero() {
		t.Fatalf("%+v, %v", v, err)
	}
	err = c.Apply(t.Context(), only(s, old), s.Now)
	wants(t, "version 9 under charter 1", err, rejection.RevisionRollback)
	if !strings.Contains(err.Error(), "older charter") {
		t.Error(err)
	}
}

// A version that was signed before the one that is known, with a higher number: it
// lay in a drawer.
func TestAttackSignedBefore(t *testing.T) {
	s := circletest.New(t)
	c := open(t, &circletest.Memory{}, s)
	drawer := s.Publish(off, func(n *trust.Statement) { n.Version, n.Previous = 9, statement.IDOf([]byte("8")) })
	s.Last = nil
	apply(t, c, s.Bundle(s.Publish()), s.Now)
	err := c.Apply(t.Context(), only(s, drawer), s.Now)
	wants(t, "version 9 of before", err, rejection.RevisionRollback)
	if !strings.Contains(err.Error(), "signed before") {
		t.Error(err)
	}
}

// A clock that is set back, also across a restart, and one that runs ahead.
func TestAttackClock(t *testing.T) {
	s := circletest.New(t)
	store := &circletest.Memory{}
	c := open(t, store, s)
	u := s.Publish(func(n *trust.Statement) { n.Freshness = 0 })
	wants(t, "a clock before the signature", c.Apply(t.Context(), only(s, u), s.Now.Add(-time.Hour)), rejection.NotYetValid)
	apply(t, c, only(s, u), s.Now)
	later := s.Now.Add(48 * time.Hour)
	believed(t, c, later)
	believed(t, c, later.Add(-circle.Skew))
	for name, x := range map[string]*circle.Circle{"running": c, "restarted": open(t, store, s)} {
		_, err := x.Trusted(later.Add(-time.Hour))
		wants(t, name, err, rejection.ClockBackwards)
		wants(t, name+", updated", x.Apply(t.Context(), s.Bundle(s.Publish()), later.Add(-time.Hour)), rejection.ClockBackwards)
	}
	// A clock that was years ahead for a moment gave no trust, and is forgotten.
	_, err := c.Trusted(later.AddDate(5, 0, 0))
	wants(t, "years ahead", err, rejection.TrustStoreStale)
	believed(t, c, later)
}

// No byte of an update can be another one, and no part be cut off.
func TestAttackBytes(t *testing.T) {
	s := circletest.New(t)
	u := s.Publish()
	for i := 0; i < len(u.Statement); i += 97 {
		b := bytes.Clone(u.Statement)
		b[i] ^= 1
		if _, err := circle.Judge(s.Root, &circle.Update{Statement: b, Evidence: u.Evidence}); rejection.Of(err) == nil {
			t.Fatalf("byte %d of the statement: %v", i, err)
		}
	}
	for i := 0; i < len(u.Evidence); i += 997 {
		if _, err := circle.Judge(s.Root, &circle.Update{Statement: u.Statement, Evidence: u.Evidence[:i]}); rejection.Of(err) == nil {
			t.Fatalf("evidence of %d bytes: %v", i, err)
		}
	}
	e, err := verify.DecodeEvidence(u.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	e.File.Item = e.File.Item[:len(e.File.Item)-1]
	b, err := e.Encode()
	if err != nil && !errors.Is(err, verify.ErrEvidence) {
		t.Fatal(err)
	}
	if _, err := circle.Judge(s.Root, &circle.Update{Statement: u.Statement, Evidence: b}); err == nil {
		t.Error("a shorter item")
	}
}
