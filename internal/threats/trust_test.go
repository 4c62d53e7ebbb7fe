package threats

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// unbelieved offers a bundle that must not be taken up, and holds that the agent said
// why and believes what it believed.
func (w *world) unbelieved(t *testing.T, b *circle.Bundle, code rejection.Code) {
	t.Helper()
	before := w.circle.Status(w.now())[0]
	said := strings.Count(w.logged(), "a circle of trust is refused")
	w.offer(b)
	w.pull()
	after := w.circle.Status(w.now())[0]
	if after.Version != before.Version || after.ID != before.ID {
		t.Errorf("version %d is believed", after.Version)
	}
	text := w.logged()
	if strings.Count(text, "a circle of trust is refused") == said || !strings.Contains(text[strings.LastIndex(text, "a circle of trust is refused"):], string(code)) {
		t.Errorf("the log does not say %s: %s", code, text[max(0, len(text)-600):])
	}
}

func enforcement(e trust.Enforcement) func(*trust.Statement) {
	return func(n *trust.Statement) {
		i := n.Instances[circletest.Protected]
		i.Enforcement = e
		n.Instances[circletest.Protected] = i
	}
}

// narrow is the configuration of data sources without the statement.
func narrow(version uint64) record.Configuration {
	c := configurations()["sources"]
	c.Version = version
	c.Fields = slices.DeleteFunc(c.Fields, func(f string) bool { return f == "sql_statement" })
	return c
}

// The rules are made weaker, in place of breaking them.
func TestThreat13Downgrade(t *testing.T) {
	w := newWorld(t, options{scripts: true})
	source := w.source()
	evil := with(source, "sql_statement", "SELECT v FROM orders -- "+word)
	sigs := w.sign(source)
	under := func(c record.Configuration) []record.Signature {
		return w.sign(source, func(g *recordtest.Signing) { g.Configuration = c })
	}
	t.Run("honest", func(t *testing.T) { w.plain(t) })
	t.Run("a narrowed configuration", func(t *testing.T) {
		for _, version := range []uint64{1, 2, 3} {
			w.refused(t, delivery{record: evil, sigs: under(narrow(version))}, rejection.ConfigOutdated, "sources")
		}
		w.refused(t, delivery{record: evil, sigs: append(under(narrow(2)), w.sign(source, revision(2))...)}, rejection.FieldChanged, "sql_statement")
	})
	t.Run("more parameters", func(t *testing.T) {
		c := configurations()["sources"]
		c.Parameters = append(c.Parameters, "sql_statement")
		slices.Sort(c.Parameters)
		w.refused(t, delivery{record: source, sigs: under(c), params: map[string]string{"name": "one", "sql_statement": word}}, rejection.ConfigOutdated, "sources")
	})
	t.Run("an exclusion", func(t *testing.T) { // the condition leaves the record out: it is signed, or it does not run
		x := with(source, "active", "false")
		w.refused(t, delivery{record: x, sigs: []record.Signature{}, params: asked()}, rejection.SigMissing, "")
		w.refused(t, delivery{record: with(evil, "active", "false"), sigs: sigs}, rejection.FieldChanged, "sql_statement")
		c := configurations()["sources"]
		c.Condition = `sql_statement != "SELECT 1"`
		w.refused(t, delivery{record: source, sigs: under(c), params: asked()}, rejection.ConfigOutdated, "sources")
	})
	t.Run("a configuration that is not in force", func(t *testing.T) {
		g := w.signing(source, "sources")
		g.ID, g.Configuration = "sources-2", narrow(1)
		w.refused(t, delivery{record: evil, sigs: g.Sign(t, source)}, rejection.ConfigOutdated, "sources-2")
	})
	t.Run("an accept rule", func(t *testing.T) { // the operator's: it stands in for no signature
		text, err := os.ReadFile(w.path("firewall.yaml"))
		w.must(err)
		w.must(os.WriteFile(w.path("firewall.yaml"), fmt.Appendf(nil, "version: 1\nrules:\n  - {name: everything, action: accept, topics: [ANY], targets: [%q]}\n", w.dir+"/*"), 0o600))
		w.must(w.agent.Reload())
		defer func() {
			w.must(os.WriteFile(w.path("firewall.yaml"), text, 0o600))
			w.must(w.agent.Reload())
		}()
		w.plain(t)
		w.refused(t, delivery{record: source, sigs: []record.Signature{}, params: asked()}, rejection.SigMissing, "")
		w.refused(t, delivery{record: evil, sigs: sigs}, rejection.FieldChanged, "sql_statement")
	})
	t.Run("a channel of its own", func(t *testing.T) { // every topic wants a signature
		shell := &record.Record{Ref: record.Ref{Table: files, Key: []string{"f"}}, Fields: map[string]string{"language": "shell", "script": "echo " + word}}
		for topic, r := range map[string]*record.Record{probe: source, command: shell, "ShellScript": shell, script: include("x", "", "1 // "+word)} {
			w.refused(t, delivery{topic: topic, record: r, sigs: []record.Signature{}, params: map[string]string{}}, rejection.SigMissing, "")
		}
	})
	t.Run("the circle narrows it, and the charter does not", func(t *testing.T) {
		u := w.side.Publish(func(n *trust.Statement) { n.Configurations["sources"] = narrow(3) })
		w.unbelieved(t, w.side.Bundle(append(slices.Clone(w.versions), u)...), rejection.ConfigOutdated)
		w.plain(t)
	})
	t.Run("the circle leaves it out", func(t *testing.T) {
		v := newWorld(t, options{})
		u := v.side.Publish(func(n *trust.Statement) { delete(n.Configurations, "sources") })
		v.unbelieved(t, v.side.Bundle(append(slices.Clone(v.versions), u)...), rejection.ConfigOutdated)
		v.plain(t)
	})
	t.Run("a narrower configuration of the same purpose", func(t *testing.T) {
		p := newImporter(t, nil)
		row := func(value string) *updateset.Row {
			return &updateset.Row{Table: props, SysID: otherID, Target: "x", Kind: "System Property", Action: updateset.Upsert, At: exported, By: "ann",
				Fields: map[string]string{"name": "x.y", "value": value}}
		}
		p.imports(p.sealed(p.made(row(word)))) // honest: signed under both
		p.stripped = []string{"props"}
		for _, value := range []string{word, word + "-changed"} { // nobody signed the value
			p.refused(t, p.sealed(p.made(row(value)), revision(2)), rejection.SigMissing, "props")
		}
		p.pass(2 * time.Second)
		r := ref(props, otherID)
		p.must(p.db.Apply(t.Context(), []platform.Change{{Op: platform.Update, Ref: r, Fields: map[string]string{"value": word + "-changed"}}}))
		rep, err := p.guard.Scan(t.Context(), records.ScanOptions{Configurations: []string{"names", "props"}}, nil)
		p.must(err)
		for _, c := range rep.Counts {
			if want := map[string]int64{"props": 1}[c.Configuration]; c.Invalid != want || c.Missing != 0 {
				t.Errorf("%+v", c)
			}
		}
		p.must(p.guard.Look(t.Context(), "erp", platform.Event{Ref: r, Op: platform.Changed}))
		if len(p.found) != 1 || p.found[0].Subject != "value" {
			t.Errorf("%+v", p.found)
		}
	})
	t.Run("taken out of the condition, in the database", func(t *testing.T) {
		p := newImporter(t, nil)
		p.imports(p.sealed(p.made(p.dataSource())))
		r := ref(sources, sourceID)
		look := func() []store.Finding {
			p.pass(2 * time.Second)
			p.found = nil
			p.must(p.guard.Look(t.Context(), "erp", platform.Event{Ref: r, Op: platform.Changed}))
			return p.found
		}
		if f := look(); len(f) != 0 { // honest
			t.Errorf("%+v", f)
		}
		p.edit(r, map[string]string{"active": "false", "sql_statement": "SELECT v FROM orders -- " + word})
		if f := look(); len(f) != 1 || f[0].Code != string(rejection.FieldChanged) || f[0].Subject != "sql_statement" {
			t.Errorf("%+v", f)
		}
		if e := p.dispatch(r); e.rejected == nil || e.rejected.Code != rejection.FieldChanged {
			t.Errorf("%v %+v", e.rejected, e.outcome)
		}
		app, err := sql.Open("sqlite", "file:"+p.path("erp.db")) // and its signatures deleted with it
		p.must(err)
		_, err = app.Exec("DELETE FROM greatseal_signature")
		p.must(errors.Join(err, app.Close()))
		if f := look(); len(f) != 1 || f[0].Code != string(rejection.SigMissing) {
			t.Errorf("%+v", f)
		}
		p.silent(t, p.found)
	})
	t.Run("enforcement says report, or off", func(t *testing.T) { // an agent runs what is signed, whatever it says
		for _, e := range []trust.Enforcement{trust.Report, trust.Off} {
			v := newWorld(t, options{publish: enforcement(e)})
			v.plain(t)
			v.refused(t, delivery{record: evil, sigs: v.sign(source)}, rejection.FieldChanged, "sql_statement")
			v.refused(t, delivery{record: source, sigs: []record.Signature{}, params: asked()}, rejection.SigMissing, "")
		}
	})
}

// What stands in the way is taken away: signatures, revocations, enforcement.
func TestThreat14Stripping(t *testing.T) {
	second := recordtest.NewSigner(t, sigalg.P256)
	w := newWorld(t, options{publish: func(n *trust.Statement) {
		n.Anchors = append(n.Anchors, anchor("second", second))
	}})
	source := w.source()
	use := func(s []record.Signature) delivery { return delivery{record: source, sigs: s, params: asked()} }
	t.Run("honest", w.plain)
	t.Run("all signatures", func(t *testing.T) { w.refused(t, use([]record.Signature{}), rejection.SigMissing, "") })
	t.Run("the order's signature", func(t *testing.T) {
		w.refused(t, delivery{after: func(j *agent.Job) {
			b := slices.Clone(j.Order)
			clear(b[len(b)-ed25519.SignatureSize:])
			j.Order = b
		}}, rejection.OrderUnsigned, "signature")
	})
	t.Run("the order", func(t *testing.T) {
		w.refused(t, delivery{after: func(j *agent.Job) { j.Order = nil }}, rejection.OrderMalformed, "")
	})
	t.Run("the certificates", func(t *testing.T) {
		w.refused(t, use(w.reroot(w.sign(source), func(r *record.SignedRoot) { r.Certificates = nil }, nil)), rejection.SigMalformed, "")
	})
	t.Run("the intermediate authority", func(t *testing.T) {
		w.refused(t, use(w.reroot(w.sign(source), func(r *record.SignedRoot) { r.Certificates = r.Certificates[:1] }, func(m []byte) []byte { return w.author.Sign(t, m) })), rejection.CertUnknown, "")
	})
	t.Run("the newest signature, which is of the removal", func(t *testing.T) {
		removed := w.sign(source, revision(2), func(g *recordtest.Signing) { g.Deleted = true })
		w.refused(t, use(append(w.sign(source, revision(1)), removed...)), rejection.ActionMismatch, "")
	})
	// The author's certificate is revoked; what an attacker has is everything from
	// before, and the wish that it counts.
	before := slices.Clone(w.versions)
	stale := w.side.Bundle(before...)
	last, lastID := w.side.Last, w.side.ID
	w.publish(revoke(leaf(w.author).Raw, false))
	w.pull()
	still := func(t *testing.T) {
		t.Helper()
		w.refused(t, use(w.sign(source)), rejection.CertRevoked, "")
		w.runs(use(w.sign(source, by(second))))
	}
	t.Run("honest, and revoked", still)
	w.side.Last, w.side.ID = last, lastID
	forked := w.side.Publish(enforcement(trust.Off))     // another version 2, by the same officers
	later := w.side.Publish(func(n *trust.Statement) {}) // and a version 3 after that one
	forkedBundle, laterBundle := &circle.Bundle{Root: w.side.Root, Circles: []circle.Update{forked}}, &circle.Bundle{Root: w.side.Root, Circles: []circle.Update{later}}
	t.Run("the revocation, by the version before", func(t *testing.T) {
		w.unbelieved(t, stale, rejection.RevisionRollback)
		still(t)
	})
	t.Run("the revocation, by another version of the number", func(t *testing.T) {
		w.unbelieved(t, forkedBundle, rejection.RevisionRollback)
		still(t)
	})
	t.Run("the revocation, by a version that does not follow", func(t *testing.T) {
		w.unbelieved(t, laterBundle, rejection.RevisionRollback)
		still(t)
	})
	t.Run("after a restart", func(t *testing.T) {
		w.restart()
		w.unbelieved(t, stale, rejection.RevisionRollback)
		w.unbelieved(t, laterBundle, rejection.RevisionRollback)
		still(t)
	})
	t.Run("the state of the circle", func(t *testing.T) {
		w.stop()
		text, err := os.ReadFile(w.path("state/circle"))
		w.must(err)
		w.must(os.WriteFile(w.path("state/circle"), text[:len(text)-9], 0o600))
		if _, err := os.Stat(w.path("state/circle")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.reopen(); err == nil {
			t.Error("a damaged state is taken for none")
		}
	})
}

// What the agent believes is old, because somebody keeps the newer from it.
func TestThreat15StaleTrust(t *testing.T) {
	w := newWorld(t, options{})
	frozen := w.side.Bundle(w.versions...) // fresh for an hour
	t.Run("honest", w.plain)
	w.pass(61 * time.Minute)
	t.Run("freshness has ended", func(t *testing.T) {
		w.refused(t, delivery{}, rejection.TrustStoreStale, "freshness")
	})
	t.Run("the same bundle again", func(t *testing.T) {
		w.unbelieved(t, frozen, rejection.TrustStoreStale)
		w.refused(t, delivery{}, rejection.TrustStoreStale, "freshness")
	})
	t.Run("nothing at all", func(t *testing.T) {
		w.offer()
		w.pull()
		w.restart()
		w.refused(t, delivery{}, rejection.TrustStoreStale, "freshness")
	})
	w.side.Now = w.now()
	t.Run("freshness of longer than the circle allows", func(t *testing.T) {
		f := w.side.Fresh(48 * time.Hour)
		w.offer(&circle.Bundle{Root: w.side.Root, Freshness: &f})
		w.pull()
		w.plain(t)
		w.pass(61 * time.Minute)
		w.refused(t, delivery{}, rejection.TrustStoreStale, "freshness")
	})
	t.Run("fresh again, honest", func(t *testing.T) {
		w.side.Now = w.now()
		w.offer(w.side.Bundle(w.versions...))
		w.pull()
		w.plain(t)
	})
	t.Run("the version itself has ended", func(t *testing.T) {
		v := newWorld(t, options{publish: func(n *trust.Statement) { n.Freshness, n.Expires = 0, n.Created.Add(2*time.Hour) }})
		v.plain(t)
		v.pass(2 * time.Hour)
		v.refused(t, delivery{}, rejection.TrustStoreStale, "version 1")
	})
	t.Run("nothing is known", func(t *testing.T) {
		v := newWorld(t, options{idle: true})
		v.offer()
		v.start()
		v.refused(t, delivery{}, rejection.TrustStoreStale, "")
	})
}

// A clock that goes back makes old orders young, and old trust fresh.
func TestThreat16Clock(t *testing.T) {
	w := newWorld(t, options{heartbeat: 20 * time.Millisecond})
	old := w.job(delivery{}) // never begun, and expired soon
	w.pass(20 * time.Minute)
	t.Run("honest", w.plain)
	t.Run("old", func(t *testing.T) { w.jobRefused(t, old, rejection.OrderExpired, "") })
	beats := 0
	w.up.set(func() { beats = w.up.beats })
	w.until("two heartbeats, each of which notes the time first", func() bool { return w.up.beats > beats+1 })
	w.pass(-19 * time.Minute)
	t.Run("in the same process", func(t *testing.T) {
		w.jobRefused(t, w.lease(old), rejection.ClockBackwards, "")
		w.refused(t, delivery{}, rejection.ClockBackwards, "")
	})
	t.Run("across a restart", func(t *testing.T) {
		w.restart()
		w.jobRefused(t, w.lease(old), rejection.ClockBackwards, "")
	})
	t.Run("across a restart, to the freshness of another day", func(t *testing.T) {
		w.stop()
		w.pass(-48 * time.Hour)
		w.start()
		w.refused(t, delivery{}, rejection.ClockBackwards, "")
		w.pass(48 * time.Hour)
	})
	w.pass(19 * time.Minute)
	t.Run("set right again, honest", w.plain)
	t.Run("by what clocks are off, honest", func(t *testing.T) {
		w.pass(-time.Minute)
		w.plain(t)
	})
}

// Somebody has the protected instance: its database, its runtime key, its administrator.
// What is left to him is to order what authors have signed.
func TestThreat17ProtectedInstance(t *testing.T) {
	w := newWorld(t, options{})
	source := w.source()
	evil := with(source, "sql_statement", "SELECT v FROM orders -- "+word)
	t.Run("honest", w.plain)
	t.Run("orders what was signed, as often as he likes", func(t *testing.T) {
		w.plain(t)
		w.plain(t)
	})
	mine := recordtest.NewSigner(t, sigalg.P256)
	own := w.runtimeCertificate()
	for name, c := range map[string]struct {
		sigs []record.Signature
		code rejection.Code
	}{
		"no signature":                          {[]record.Signature{}, rejection.SigMissing},
		"an author's, of what it was":           {w.sign(source), rejection.FieldChanged},
		"a certificate of his own":              {w.sign(evil, by(mine)), rejection.CertUnknown},
		"the runtime key as an author":          {w.reroot(w.sign(evil), func(r *record.SignedRoot) { r.Certificates, r.Scheme = [][]byte{own}, "ed25519" }, func(m []byte) []byte { return ed25519.Sign(w.instance, m) }), rejection.CertUnknown},
		"an author's certificate, with his key": {w.reroot(w.sign(evil), func(r *record.SignedRoot) { r.SignedAt++ }, func(m []byte) []byte { return mine.Sign(t, m) }), rejection.SigInvalid},
		"signed on the protected instance":      {w.sign(evil, func(g *recordtest.Signing) { g.Issuer = circletest.Protected }), rejection.CertUntrusted},
		"for another protected instance":        {w.sign(evil, func(g *recordtest.Signing) { g.Audience = []string{"stage"} }), rejection.AudienceMismatch},
		"a statement that its job has not":      {w.swapped(source, evil), rejection.SigInvalid},
	} {
		t.Run(name, func(t *testing.T) { w.refused(t, delivery{record: evil, sigs: c.sigs}, c.code, "") })
	}
	t.Run("parameters of his own", func(t *testing.T) {
		w.refused(t, delivery{record: source, params: map[string]string{"name": "one", "sql": word}}, rejection.ParamNotAllowed, "sql")
	})
	t.Run("an order for another purpose", func(t *testing.T) {
		w.refused(t, delivery{order: func(o *order.Order) { o.Records[0].Purpose = "deploy" }}, rejection.PurposeMismatch, "")
	})
	t.Run("a circle of his own", func(t *testing.T) {
		his := circletest.New(t, func(c *charter.Charter) { c.Created = c.Created.Add(-time.Hour) })
		b := his.Bundle(his.Publish(func(n *trust.Statement) { n.Anchors = []record.Anchor{anchor("mine", mine)} }))
		w.unbelieved(t, b, rejection.CertUntrusted)
		b.Root = w.side.Root
		w.unbelieved(t, b, rejection.CertUntrusted)
	})
	add := func(n *trust.Statement) { n.Anchors = append(n.Anchors, anchor("mine", mine)) }
	last, lastID := w.side.Last, w.side.ID
	t.Run("a circle by one officer", func(t *testing.T) {
		n := w.side.Next()
		add(n)
		payload, err := n.Encode()
		w.must(err)
		r := w.side.Sign("circle", "operator", w.side.Item(w.side.FormatOf("circle"), "circle.json", payload, nil))
		w.side.Endorse(r, "officer1", "officer2")
		w.side.Execute(r) // with two, so that all else of it is in order
		e := w.side.Evidence(r, 0)
		_, envelope := w.side.Attach(r, 0, payload)
		one := func() {
			t.Helper()
			evidence, err := e.Encode()
			w.must(err)
			w.unbelieved(t, &circle.Bundle{Root: w.side.Root, Circles: []circle.Update{{Statement: envelope, Evidence: evidence}}}, rejection.CertUntrusted)
		}
		e.Endorsements[1] = w.side.Word(r, "officer1", statement.Endorse, "officer1")
		one() // twice the same
		e.Endorsements = e.Endorsements[:1]
		one()
	})
	t.Run("a circle by the key that signs freshness", func(t *testing.T) {
		n := w.side.Next()
		add(n)
		payload, err := n.Encode()
		w.must(err)
		u := w.side.Agree("fresh", "ci", payload)
		w.unbelieved(t, &circle.Bundle{Root: w.side.Root, Circles: []circle.Update{u}}, rejection.PurposeMismatch)
	})
	t.Run("a circle that was changed on the way", func(t *testing.T) {
		w.side.Last, w.side.ID = last, lastID
		one, two := w.side.Publish(func(*trust.Statement) {}), w.versions[0]
		w.unbelieved(t, &circle.Bundle{Root: w.side.Root, Circles: []circle.Update{{Statement: one.Statement, Evidence: two.Evidence}}}, rejection.SigInvalid)
	})
	t.Run("and it still works, honest", w.plain)
	t.Run("none of that counts", func(t *testing.T) {
		w.refused(t, delivery{record: evil, sigs: w.sign(evil, by(mine))}, rejection.CertUnknown, "")
	})
}

// runtimeCertificate is one for code signing that the runtime key makes for itself.
func (w *world) runtimeCertificate() []byte {
	w.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "Test Signer"}, NotBefore: recordtest.At.AddDate(-1, 0, 0), NotAfter: recordtest.At.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, w.instance.Public(), w.instance)
	w.must(err)
	return der
}

// swapped is the statement of one record under the signed root of another one.
func (w *world) swapped(signed, claimed *record.Record) []record.Signature {
	w.Helper()
	out, other := w.sign(signed), w.signing(claimed, "sources")
	s := other.Statement(w.T, claimed)
	b, err := s.Encode()
	w.must(err)
	out[0].Statement = b
	return out
}
