package threats

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/layout"
	"github.com/greatseal-io/greatseal/internal/platform/sqlite"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
)

// schema is the application's database on the protected instance.
const schema = `
CREATE TABLE sys_data_source (sys_id TEXT PRIMARY KEY NOT NULL, name TEXT, active TEXT, format TEXT, jdbc_server TEXT, database_name TEXT, database_port TEXT, connection_url TEXT,
	instance_name TEXT, properties TEXT, query TEXT, table_name TEXT, last_run_database_field TEXT, sql_statement TEXT, sys_updated_on TEXT);
CREATE TABLE sys_script (sys_id TEXT PRIMARY KEY NOT NULL, name TEXT, active TEXT, collection TEXT, "when" TEXT, script TEXT, abort_action TEXT, sys_updated_on TEXT);
CREATE TABLE sys_script_include (sys_id TEXT PRIMARY KEY NOT NULL, name TEXT, api_name TEXT, active TEXT, script TEXT, sys_updated_on TEXT);
CREATE TABLE sys_properties (sys_id TEXT PRIMARY KEY NOT NULL, name TEXT, value TEXT, sys_updated_on TEXT);
CREATE TABLE sys_attachment (sys_id TEXT PRIMARY KEY NOT NULL, table_name TEXT, table_sys_id TEXT, file_name TEXT, content_type TEXT, size_bytes INTEGER);
CREATE TABLE sys_attachment_doc (sys_id TEXT PRIMARY KEY NOT NULL, sys_attachment TEXT, position INTEGER, data TEXT, length INTEGER);
`

const (
	setID    = "c0ffee00c0ffee00c0ffee00c0ffee00"
	sourceID = "9c573169c611228700193229fff72400"
	ruleID   = "1be9c0d7c0a80164001ae1d9d4b4d2b5"
	otherID  = "2be9c0d7c0a80164001ae1d9d4b4d2b5"
)

// importer is the protected instance of a world: a guard before a real database.
type importer struct {
	*world
	db    platform.Platform
	store *store.SQL
	guard *records.Guard
	found []store.Finding

	stripped []string // configurations whose signatures sealed leaves out
}

func newImporter(t *testing.T, publish func(*trust.Statement)) *importer {
	t.Helper()
	p := &importer{world: newWorld(t, options{publish: publish})}
	path := p.path("erp.db")
	app, err := sql.Open("sqlite", "file:"+path)
	p.must(err)
	_, err = app.Exec(schema)
	p.must(errors.Join(err, app.Close()))
	p.db, err = sqlite.Open(t.Context(), path, platform.Options{Attachments: []layout.AttachmentTable{layout.SysAttachment()}})
	p.must(err)
	t.Cleanup(func() { p.db.Close() })
	p.must(p.db.Prepare(t.Context()))
	p.store, err = store.Open(t.Context(), "sqlite:"+p.path("greatseal.db"))
	p.must(err)
	t.Cleanup(func() { p.store.Close() })
	believed, err := circle.New(t.Context(), &circletest.Memory{}, p.side.Root)
	p.must(err)
	p.must(believed.Apply(t.Context(), p.side.Bundle(p.versions...), p.now()))
	instance := &records.Instance{Name: circletest.Protected, Role: records.Protected}
	instance.Join(believed)
	p.guard, err = records.NewGuard(records.GuardConfig{Instance: instance, Store: p.store, Platforms: map[string]platform.Platform{"erp": p.db}, Now: p.now,
		Log: slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelDebug})), Notify: func(_ context.Context, f store.Finding) error { p.found = append(p.found, f); return nil }})
	p.must(err)
	return p
}

var exported = time.Date(2026, 5, 30, 8, 0, 0, 0, time.UTC)

func (p *importer) dataSource() *updateset.Row {
	return &updateset.Row{Table: sources, SysID: sourceID, Target: "Orders", Kind: "Data Source", Action: updateset.Upsert, At: exported, By: "ann",
		Fields: map[string]string{"name": "Orders", "format": "sqlite", "database_name": p.shop, "sql_statement": query}}
}

// rule is a business rule that keeps people from something.
func rule(id string) *updateset.Row {
	return &updateset.Row{Table: "sys_script", SysID: id, Target: "Protect", Kind: "Business Rule", Action: updateset.Upsert, At: exported, By: "ann",
		Fields: map[string]string{"name": "Protect", "active": "true", "collection": "orders", "when": "before", "abort_action": "true", "script": "if (a < b) {\r\n}\n// " + word}}
}

func removal(r *updateset.Row) *updateset.Row {
	c := *r
	c.Action = updateset.Delete
	return &c
}

func (p *importer) made(rows ...*updateset.Row) []byte {
	p.Helper()
	var b bytes.Buffer
	w, err := updateset.NewWriter(&b, "Release 12", setID, exported, "ann")
	p.must(err)
	for _, r := range rows {
		p.must(w.Add(r))
	}
	p.must(w.Close())
	return b.Bytes()
}

// sealed signs everything that a set holds, as the trusted instance does.
func (p *importer) sealed(set []byte, change ...func(*recordtest.Signing)) []byte {
	p.Helper()
	s, err := updateset.Open(p.Context(), bytes.NewReader(set), int64(len(set)), updateset.Limits{})
	p.must(err)
	rules, err := updateset.NewRules(configurations(), nil)
	p.must(err)
	var list []*record.Statement
	g := recordtest.Signing{Signer: p.author}
	err = s.Records(p.Context(), rules, func(i *updateset.Item) error {
		for _, id := range i.Configurations {
			if slices.Contains(p.stripped, id) {
				continue
			}
			g = p.signing(i.Record, id)
			g.Deleted = i.Deleted
			for _, f := range change {
				f(&g)
			}
			list = append(list, g.Statement(p.T, i.Record))
		}
		return nil
	})
	p.must(err)
	sigs := g.SignStatements(p.T, list...)
	var b bytes.Buffer
	_, err = s.Seal(p.Context(), &b, func(yield func(*record.Signature, error) bool) {
		for i := range sigs {
			if !yield(&sigs[i], nil) {
				return
			}
		}
	})
	p.must(err)
	return b.Bytes()
}

// imports brings a set that is in order.
func (p *importer) imports(set []byte) {
	p.Helper()
	p.pass(2 * time.Second)
	v, err := p.guard.Load(p.Context(), rand.Reader, "erp", set, "alice")
	p.must(err)
	v, err = p.guard.Preview(p.Context(), v.ID)
	p.must(err)
	for _, f := range v.Preview.Findings {
		if f.Status.Refused() {
			p.Fatalf("what is honest is refused: %s %v", f.Update, f.Reason)
		}
	}
	decide := map[int]records.Decision{}
	for _, x := range v.Preview.Problems {
		decide[x.Index] = records.Accept
	}
	v, err = p.guard.Decide(p.Context(), v.ID, decide)
	p.must(err)
	_, err = p.guard.Commit(p.Context(), v.ID)
	p.must(err)
}

// contents is everything that the application's tables hold, and the signatures.
func (p *importer) contents() string {
	p.Helper()
	var b strings.Builder
	tables, err := p.db.Tables(p.Context())
	p.must(err)
	for _, t := range tables {
		p.must(p.db.Scan(p.Context(), platform.Query{Table: t.Name, Attachments: true, Revisions: true}, func(r *platform.Row) error {
			b.WriteString(r.Record.Ref.ID())
			for _, n := range slices.Sorted(func(yield func(string) bool) {
				for n := range r.Record.Fields {
					if !yield(n) {
						return
					}
				}
			}) {
				b.WriteString(" " + n + "=" + r.Record.Fields[n])
			}
			b.WriteString("\n")
			return nil
		}))
	}
	return b.String()
}

// refused brings a hostile set, in every way that a person may try: nothing of it is
// in the database after that. One that is malformed is not even kept.
func (p *importer) refused(t *testing.T, set []byte, code rejection.Code, subject string) {
	t.Helper()
	p.pass(2 * time.Second)
	before := p.contents()
	defer func() {
		t.Helper()
		if p.contents() != before {
			t.Error("something of it is in the database")
		}
	}()
	want := &rejection.Error{Code: code, Subject: subject}
	v, err := p.guard.Load(p.Context(), rand.Reader, "erp", set, "mallory")
	if err != nil {
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		p.silent(t, err.Error())
		return
	}
	v, err = p.guard.Preview(p.Context(), v.ID)
	if err != nil {
		t.Fatal(err)
	}
	open := v.Preview.Open()
	var reasons []*rejection.Error
	for _, f := range v.Preview.Findings {
		if f.Status.Refused() {
			reasons = append(reasons, f.Reason)
		}
	}
	if !slices.ContainsFunc(reasons, func(r *rejection.Error) bool { return errors.Is(r, want) }) || len(open) == 0 {
		t.Fatalf("%v, want %v", reasons, want)
	}
	p.silent(t, reasons)
	if _, err := p.guard.Commit(p.Context(), v.ID); !errors.Is(err, records.ErrState) {
		t.Errorf("committed: %v", err)
	}
	for _, i := range open { // nobody accepts what does not verify
		refused := slices.ContainsFunc(v.Preview.Findings, func(f updateset.Finding) bool { return f.Index == i && f.Status.Refused() })
		_, err := p.guard.Decide(p.Context(), v.ID, map[int]records.Decision{i: records.Accept})
		if refused == (err == nil) {
			t.Errorf("accepting update %d: %v", i, err)
		}
	}
	if _, err := p.guard.Commit(p.Context(), v.ID); err == nil {
		t.Error("committed")
	}
}

// dispatch has the agent run a record as it stands in the database.
func (p *importer) dispatch(ref record.Ref) *ending {
	p.Helper()
	p.pass(2 * time.Second)
	g, err := p.guard.ForJob(p.Context(), ref, record.Queue)
	p.must(err)
	return p.up.put(p.T, p.job(delivery{record: &g.Record, sigs: g.Signatures, params: asked()}))[0]
}

// edit writes to the application's table, as an administrator does.
func (p *importer) edit(ref record.Ref, fields map[string]string) {
	p.Helper()
	p.must(p.db.Apply(p.Context(), []platform.Change{{Op: platform.Upsert, Ref: ref, Fields: fields}}))
}

func cdata(s string) string { return "<![CDATA[" + s + "]]>" }

func escaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// payloads is a set of one update whose payload stands there as it is.
func payloads(name, action, payload string) []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?><unload unload_date="2026-05-30 08:00:00">
<sys_remote_update_set action="INSERT_OR_UPDATE"><name>n</name><sys_id>` + setID + `</sys_id></sys_remote_update_set>
<sys_update_xml action="INSERT_OR_UPDATE"><action>` + action + `</action><name>` + name + `</name><payload>` + payload + "</payload></sys_update_xml>\n</unload>\n")
}

const ruleName = "sys_script_" + ruleID

// document is that of the rule with these elements in it.
func document(elements string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><record_update table="sys_script"><sys_script action="INSERT_OR_UPDATE"><name>Protect</name>` + elements +
		`<sys_id>` + ruleID + `</sys_id></sys_script></record_update>`
}

// replaced replaces the first old, which must be there.
func (p *importer) replaced(set []byte, old, new string) []byte {
	p.Helper()
	if !bytes.Contains(set, []byte(old)) {
		p.Fatalf("%q is not in the set: %s", old, set)
	}
	return bytes.Replace(bytes.Clone(set), []byte(old), []byte(new), 1)
}

// beside puts the signatures of one set into another one.
func (p *importer) beside(set, signed []byte) []byte {
	p.Helper()
	at := bytes.Index(signed, []byte("<name>x_greatseal_"))
	if at < 0 {
		p.Fatal("the set is not signed")
	}
	rows := signed[bytes.LastIndex(signed[:at], []byte("<sys_update_xml")):]
	return p.replaced(set, "</unload>\n", string(rows))
}
