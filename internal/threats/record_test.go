package threats

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

// with is a copy of a record with one field changed; "" takes it away.
func with(r *record.Record, field, value string) *record.Record {
	c := recordtest.Copy(r)
	c.Fields[field] = value
	if value == "" {
		delete(c.Fields, field)
	}
	return c
}

// Somebody edits a record in the protected database; the instance, which believes its
// database, orders it to be run.
func TestThreat01ChangedFieldOrSQL(t *testing.T) {
	w := newWorld(t, options{scripts: true})
	source := w.source()
	lib := include("lib", "", "function twice(x) { return 2 * x } // "+word)
	main := include("main", "lib", "twice(21) // "+word)
	t.Run("honest", func(t *testing.T) {
		w.plain(t)
		if got := w.runs(delivery{record: main, others: []agent.Item{w.item(lib)}}); got != "42" {
			t.Error(got)
		}
	})
	for name, c := range map[string]struct{ field, value string }{
		"SQL":                             {"sql_statement", "SELECT v FROM orders WHERE n = :name OR 1 = 1 -- " + word},
		"SQL by one space":                {"sql_statement", query + " "},
		"SQL by a line's end":             {"sql_statement", query + "\r\n"},
		"another database":                {"database_name", w.path("vault-" + word + ".db")},
		"a signed absent field is there":  {"properties", "read_only=false; x=" + word},
		"a connection beside the fields":  {"connection_url", "jdbc:sqlite:" + w.path("vault-"+word+".db")},
		"the field of the last run":       {"last_run_database_field", "n > '' OR " + word},
		"the statement is taken away":     {"sql_statement", ""},
		"a table in place of a statement": {"table_name", word},
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, delivery{record: with(source, c.field, c.value), sigs: w.sign(source), params: asked()}, rejection.FieldChanged, c.field)
		})
	}
	t.Run("script", func(t *testing.T) {
		w.refused(t, delivery{record: with(main, "script", "twice(22) // "+word), sigs: w.sign(main), others: []agent.Item{w.item(lib)}}, rejection.FieldChanged, "script")
	})
	t.Run("two fields are swapped", func(t *testing.T) {
		x := with(with(source, "query", source.Fields["format"]), "format", source.Fields["query"])
		w.refused(t, delivery{record: x, sigs: w.sign(source), params: asked()}, rejection.FieldChanged, "format")
	})
	t.Run("on the way", func(t *testing.T) {
		w.refused(t, delivery{after: func(j *agent.Job) { j.Records[0].Record.Fields["sql_statement"] = "SELECT '" + word + "'" }}, rejection.RecordMismatch, sources)
	})
}

// A field that changes what a record does, and that nobody signed.
func TestThreat02UnsignedField(t *testing.T) {
	w := newWorld(t, options{})
	source := w.source()
	t.Run("honest", func(t *testing.T) {
		w.plain(t)
		// What is not signed is not there, whatever it says: with a credential, or a
		// driver, this one would not run.
		x := with(with(source, "credential", word), "use_integrated_authentication", word)
		if got := w.runs(delivery{record: x, sigs: w.sign(source), params: asked()}); got != honest {
			t.Error(got)
		}
	})
	t.Run("an executor depends on it", func(t *testing.T) {
		r := renamed(source, light) // its configuration leaves the database's name out
		x := with(r, "database_name", w.path("vault-"+word+".db"))
		w.refused(t, delivery{record: x, sigs: w.sign(r), params: asked()}, rejection.FieldUncovered, "database_name")
		w.refused(t, delivery{record: r, params: asked()}, rejection.FieldUncovered, "database_name")
	})
	t.Run("the statement leaves it out", func(t *testing.T) {
		sigs := w.sign(source, func(g *recordtest.Signing) {
			g.Change = func(s *record.Statement) {
				s.Fields = slices.DeleteFunc(s.Fields, func(f record.FieldDigest) bool { return f.Name == "sql_statement" })
			}
		})
		w.refused(t, delivery{record: with(source, "sql_statement", "SELECT v FROM orders -- "+word), sigs: sigs}, rejection.FieldUncovered, "sql_statement")
	})
	t.Run("the statement has another in its place", func(t *testing.T) {
		sigs := w.sign(source, func(g *recordtest.Signing) {
			g.Change = func(s *record.Statement) {
				for i := range s.Fields {
					if s.Fields[i].Name == "sql_statement" {
						s.Fields[i].Name = "sql_statement_2"
					}
				}
			}
		})
		w.refused(t, delivery{record: with(source, "sql_statement", "SELECT v FROM orders -- "+word), sigs: sigs}, rejection.FieldUncovered, "sql_statement")
	})
}

// The signature of one record, put beside another one.
func TestThreat03SignatureOfAnotherRecord(t *testing.T) {
	w := newWorld(t, options{})
	a, b := w.source(), w.source()
	a.Ref.Key, b.Ref.Key = []string{"5001", "eu"}, []string{"5002", "eu"}
	b.Fields["sql_statement"] = "SELECT v || '-b' FROM orders WHERE n = :name -- " + word
	both := w.signing(a, "sources").Sign(t, a, b) // one job, two leaves of its tree
	run := func(r *record.Record, s record.Signature) delivery {
		return delivery{record: r, sigs: []record.Signature{s}, params: asked()}
	}
	t.Run("honest", func(t *testing.T) {
		if got := w.runs(run(a, both[0])); got != honest {
			t.Error(got)
		}
		if got := w.runs(run(b, both[1])); got == honest {
			t.Error(got)
		}
	})
	copied := recordtest.Copy(b)
	copied.Ref = a.Ref // the content of b, which was signed, under the name of a
	joined := recordtest.Copy(a)
	joined.Ref.Key = []string{"5001eu"}
	elsewhere := recordtest.Copy(a)
	elsewhere.Ref.Table = "sys_data_source_copy"
	new := recordtest.Copy(a)
	new.Ref.Key = []string{"5003", "eu"}
	for name, d := range map[string]delivery{
		"that of a on b":           run(b, both[0]),
		"that of b on a":           run(a, both[1]),
		"b under the name of a":    run(copied, both[1]),
		"a copy under a new key":   run(new, both[0]),
		"a key split another way":  run(joined, both[0]),
		"a table of the same look": {record: elsewhere, sigs: both[:1], params: asked(), topic: probe},
		"all that there are":       {record: new, sigs: both, params: asked()},
	} {
		t.Run(name, func(t *testing.T) { w.refused(t, d, rejection.RecordMismatch, "") })
	}
	t.Run("the statement at the other's place in the tree", func(t *testing.T) {
		x := both[0]
		x.Index, x.Path = both[1].Index, both[1].Path
		w.refused(t, run(a, x), rejection.SigInvalid, "")
	})
	t.Run("the order is of another record", func(t *testing.T) {
		w.refused(t, delivery{record: a, sigs: both[:1], params: asked(), order: func(o *order.Order) { o.Records[0].Ref = b.Ref }}, rejection.RecordMismatch, sources)
	})
}

// What is signed for one purpose, used for another one.
func TestThreat04Purpose(t *testing.T) {
	w := newWorld(t, options{scripts: true})
	source := w.source()
	rule := &record.Record{Ref: record.Ref{Table: "sys_script_include", Key: []string{"h1"}}, Fields: map[string]string{"name": "Helper", "active": "true", "script": "7 // " + word}}
	purpose := func(p string) func(*order.Order) { return func(o *order.Order) { o.Records[0].Purpose = p } }
	t.Run("honest", func(t *testing.T) {
		w.plain(t)
		if got := w.runs(delivery{record: rule}); got != "7" { // signed with the wild card
			t.Error(got)
		}
	})
	deploy := w.signUnder("deploy", source)
	for name, c := range map[string]struct {
		d    delivery
		code rejection.Code
		subj string
	}{
		"signed for another one":       {delivery{record: source, sigs: deploy, params: asked()}, rejection.PurposeMismatch, record.Queue},
		"ordered for another one":      {delivery{order: purpose("deploy")}, rejection.PurposeMismatch, "deploy"},
		"ordered for the circle":       {delivery{order: purpose(record.Circle)}, rejection.PurposeMismatch, record.Circle},
		"the wild card for the circle": {delivery{record: rule, order: purpose(record.Circle)}, rejection.PurposeMismatch, record.Circle},
		"the wild card for freshness":  {delivery{record: rule, order: purpose(record.Freshness)}, rejection.PurposeMismatch, record.Freshness},
		"ordered for every one":        {delivery{order: purpose(record.Wildcard)}, rejection.OrderMalformed, "records"},
		"the wild card on a data source": {delivery{record: source, params: asked(), sigs: w.sign(source, func(g *recordtest.Signing) {
			g.Change = func(s *record.Statement) { s.Purpose = record.Wildcard }
		})}, rejection.WildcardNotAllowed, sources},
		"the wild card's configuration on a data source": {delivery{record: source, params: asked(), sigs: w.sign(source, func(g *recordtest.Signing) {
			c := record.Predefined()["script-includes"]
			g.Change = func(s *record.Statement) { s.Purpose, s.Configuration = record.Wildcard, c.Ref("script-includes") }
		})}, rejection.WildcardNotAllowed, sources},
		"another purpose under the queue's configuration": {delivery{record: source, params: asked(), order: purpose("deploy"), sigs: w.sign(source, func(g *recordtest.Signing) {
			g.Change = func(s *record.Statement) { s.Purpose = "deploy" }
		})}, rejection.ConfigOutdated, "sources"},
	} {
		t.Run(name, func(t *testing.T) { w.refused(t, c.d, c.code, c.subj) })
	}
}

// A certificate that vouches for nothing here, or no more.
func TestThreat05Certificate(t *testing.T) {
	signer := func(change func(*x509.Certificate)) *formattest.Signer {
		return recordtest.NewSigner(t, sigalg.P256, change)
	}
	known := map[string]*formattest.Signer{
		"expired":    signer(func(c *x509.Certificate) { c.NotAfter = recordtest.At.Add(-time.Hour) }),
		"too early":  signer(func(c *x509.Certificate) { c.NotBefore = recordtest.At.Add(time.Hour) }),
		"server":     signer(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"any usage":  signer(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }),
		"none":       signer(func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"scripts":    recordtest.NewSigner(t, sigalg.P256),
		"second":     recordtest.NewSigner(t, sigalg.P256),
		"lost":       recordtest.NewSigner(t, sigalg.P256),
		"dismissed":  recordtest.NewSigner(t, sigalg.P256),
		"other dept": recordtest.NewSigner(t, sigalg.P256),
	}
	w := newWorld(t, options{publish: func(n *trust.Statement) {
		for name, s := range known {
			a := anchor(name, s)
			if name == "scripts" {
				a.Tables = []string{"sys_script"}
			}
			if name == "other dept" {
				a.Purposes = []string{"deploy"}
			}
			n.Anchors = append(n.Anchors, a)
		}
		stamps(n, known["lost"])
		slices.SortFunc(n.Anchors, func(a, b record.Anchor) int { return strings.Compare(a.Name, b.Name) })
	}})
	source := w.source()
	sigs := w.sign(source)
	use := func(s []record.Signature) delivery { return delivery{record: source, sigs: s, params: asked()} }
	t.Run("honest", func(t *testing.T) {
		w.plain(t)
		w.runs(use(w.sign(source, by(known["second"]))))
		w.runs(use(w.sign(source, by(known["lost"]))))
		w.runs(use(w.sign(source, by(known["dismissed"]))))
	})
	for name, c := range map[string]struct {
		sigs []record.Signature
		code rejection.Code
	}{
		"unknown":                 {w.sign(source, by(recordtest.NewSigner(t, sigalg.P256))), rejection.CertUnknown},
		"for another table":       {w.sign(source, by(known["scripts"])), rejection.CertUntrusted},
		"for another purpose":     {w.sign(source, by(known["other dept"])), rejection.CertUntrusted},
		"expired":                 {w.as(sigs, known["expired"]), rejection.CertExpiredAtSigning},
		"not valid yet":           {w.as(sigs, known["too early"]), rejection.CertExpiredAtSigning},
		"without its usage":       {w.as(sigs, known["none"]), rejection.CertUntrusted},
		"of a server":             {w.as(sigs, known["server"]), rejection.CertUntrusted},
		"for any usage":           {w.as(sigs, known["any usage"]), rejection.CertUntrusted},
		"another's, with our key": {w.reroot(sigs, func(r *record.SignedRoot) { r.Certificates[0] = leaf(known["second"]).Raw }, func(m []byte) []byte { return w.author.Sign(t, m) }), rejection.SigInvalid},
		"its authority's alone":   {w.reroot(sigs, func(r *record.SignedRoot) { r.Certificates = r.Certificates[1:] }, func(m []byte) []byte { return w.author.Sign(t, m) }), rejection.SigInvalid},
	} {
		t.Run(name, func(t *testing.T) { w.refused(t, use(c.sigs), c.code, "") })
	}
	// The circle's next version, pulled while the agent works: nothing is restarted.
	w.publish(func(n *trust.Statement) {
		revoke(leaf(w.author).Raw, false)(n)
		revoke(known["dismissed"].Chain[1].Raw, false)(n)
		revoke(leaf(known["lost"]).RawSubjectPublicKeyInfo, true, recordtest.At.Add(30*time.Minute))(n)
	})
	w.pull()
	t.Run("revoked", func(t *testing.T) { w.refused(t, use(sigs), rejection.CertRevoked, "") })
	t.Run("its authority is revoked", func(t *testing.T) {
		w.refused(t, use(w.sign(source, by(known["dismissed"]))), rejection.CertRevoked, "")
	})
	t.Run("compromised", func(t *testing.T) {
		w.refused(t, use(w.sign(source, by(known["lost"]))), rejection.KeyCompromised, "")
	})
	t.Run("compromised, stamped", func(t *testing.T) {
		stamped := func(at time.Time) []record.Signature {
			return w.sign(source, by(known["lost"]), func(g *recordtest.Signing) { g.Stamped = at })
		}
		w.runs(use(stamped(recordtest.At))) // what is provably older stands
		w.refused(t, use(stamped(recordtest.At.Add(31*time.Minute))), rejection.KeyCompromised, "")
	})
	t.Run("another's signature still counts", func(t *testing.T) {
		w.runs(use(append(w.sign(source), w.sign(source, by(known["second"]))...)))
	})
}

// What was signed once, and was replaced since.
func TestThreat06Rollback(t *testing.T) {
	second := recordtest.NewSigner(t, sigalg.P256)
	withdrawn := record.Ref{Table: sources, Key: []string{"5009"}}
	w := newWorld(t, options{publish: func(n *trust.Statement) {
		n.Anchors = append(n.Anchors, anchor("second", second))
		n.Floors = []record.Floor{{Ref: withdrawn, Revision: 3}}
	}})
	old, newer := w.source(), with(w.source(), "sql_statement", query+" v2")
	one, two := w.sign(old, revision(1)), w.sign(newer, revision(2))
	use := func(r *record.Record, s []record.Signature) delivery {
		return delivery{record: r, sigs: s, params: asked()}
	}
	t.Run("honest", func(t *testing.T) {
		w.runs(use(old, one))
		w.runs(use(newer, append(slices.Clone(one), two...)))
		w.runs(use(newer, two))
	})
	t.Run("the old version with its signature", func(t *testing.T) {
		w.refused(t, use(old, one), rejection.RevisionRollback, "")
	})
	t.Run("the old version with all signatures", func(t *testing.T) {
		w.refused(t, use(old, append(slices.Clone(one), two...)), rejection.FieldChanged, "sql_statement")
	})
	t.Run("after a restart", func(t *testing.T) {
		w.restart()
		w.refused(t, use(old, one), rejection.RevisionRollback, "")
		w.runs(use(newer, two))
	})
	t.Run("another signer's old version", func(t *testing.T) {
		w.refused(t, use(old, w.sign(old, by(second), revision(1))), rejection.RevisionRollback, "")
	})
	t.Run("never seen here, below the circle's floor", func(t *testing.T) {
		r := w.source()
		r.Ref = withdrawn
		w.refused(t, use(r, w.sign(r, revision(2))), rejection.RevisionRollback, "")
		w.runs(use(r, w.sign(r, revision(3))))
	})
	t.Run("never seen here, with a newer one beside it", func(t *testing.T) {
		r := w.source()
		r.Ref.Key = []string{"5010"}
		n := with(r, "sql_statement", query+" v2")
		w.refused(t, use(r, append(w.sign(r, revision(1)), w.sign(n, by(second), revision(2))...)), rejection.RevisionRollback, "")
	})
}
