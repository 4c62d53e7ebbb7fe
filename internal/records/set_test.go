package records_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// update is one update of a set: what happens to record i.
func update(i int, action string, fields map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?><record_update table="%s"><%s action="%s">`, table, table, action)
	names := []string{}
	for n := range fields {
		names = append(names, n)
	}
	names = append(names, "sys_id")
	slices.Sort(names)
	for _, n := range names {
		v := fields[n]
		if n == "sys_id" {
			v = key(i)
		}
		fmt.Fprintf(&b, "<%s>%s</%s>", n, v, n)
	}
	fmt.Fprintf(&b, "</%s></record_update>", table)
	outer := action
	return fmt.Sprintf(`<sys_update_xml action="INSERT_OR_UPDATE"><action>%s</action><name>%s_%s</name><payload><![CDATA[%s]]></payload><sys_id>%032x</sys_id><table>%s</table><type>Data Source</type></sys_update_xml>`,
		outer, table, key(i), b.String(), 1000+i, table)
}

func xmlSet(state string, updates ...string) []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?><unload unload_date="2026-05-30 08:00:00">
<sys_remote_update_set action="INSERT_OR_UPDATE"><application>global</application><name>Release 12</name><state>` + state + `</state><sys_id>00000000000000000000000000000aaa</sys_id></sys_remote_update_set>
` + strings.Join(updates, "\n") + "\n</unload>")
}

func jdbc(i int, sql string) string {
	return update(i, "INSERT_OR_UPDATE", map[string]string{"type": "JDBC", "name": fmt.Sprintf("source %d", i), "jdbc_server": "db.example.com", "sql_statement": sql})
}

// signSet signs a set on the trusted instance.
func (w *world) signSet(kind records.Kind, set []byte) []byte {
	w.Helper()
	v := w.finish(w.create(records.Spec{Kind: kind, Set: set}).ID)
	if v.State != records.Done {
		w.Fatalf("the job is %s: %s", v.State, v.Error)
	}
	var b bytes.Buffer
	w.must(w.jobs.SignedSet(context.Background(), v.ID, &b))
	return b.Bytes()
}

// A set is signed, brought to a protected instance and committed there, and its
// records verify.
func TestSetSignedAndImported(t *testing.T) {
	each(t, func(t *testing.T, a *app) {
		w := newWorld(t, a)
		w.put(2, map[string]string{"type": "JDBC", "name": "old", "sql_statement": "SELECT old"})
		w.signAll()
		set := xmlSet("loaded", jdbc(1, "SELECT one"), update(2, "DELETE", map[string]string{"type": "JDBC", "name": "old", "sql_statement": "SELECT old"}),
			update(3, "INSERT_OR_UPDATE", map[string]string{"type": "File", "name": "not protected"}))
		signed := w.signSet(records.SignSet, set)
		if !bytes.Contains(signed, []byte(jdbc(1, "SELECT one"))) {
			t.Error("what was there is not there byte for byte")
		}
		w.clock.pass(time.Minute)
		v, err := w.guard.Load(t.Context(), rand.Reader, "erp", signed, "alice")
		w.must(err)
		if _, err := w.guard.Commit(t.Context(), v.ID); !errors.Is(err, records.ErrState) {
			t.Errorf("committed without a preview: %v", err)
		}
		v, err = w.guard.Preview(t.Context(), v.ID)
		w.must(err)
		if open := v.Preview.Open(); len(open) != 0 || v.State != records.Previewed {
			t.Fatalf("%+v", v.Preview)
		}
		diff, err := w.guard.Compare(t.Context(), v.ID, 0)
		if err != nil || !slices.ContainsFunc(diff, func(d records.Difference) bool {
			return d.Field == "sql_statement" && d.Update == "SELECT one" && d.Here == ""
		}) {
			t.Errorf("%+v, %v", diff, err)
		}
		v, err = w.guard.Commit(t.Context(), v.ID)
		w.must(err)
		if v.State != records.Committed {
			t.Fatalf("%+v", v)
		}
		if _, err := w.guard.Commit(t.Context(), v.ID); !errors.Is(err, records.ErrState) {
			t.Errorf("committed twice: %v", err)
		}
		tr, err := w.guard.IsTrusted(t.Context(), "erp", ref(1), record.Queue)
		w.must(err)
		if s, _ := tr.Field("sql_statement"); s != "SELECT one" {
			t.Errorf("%q", s)
		}
		if _, err := a.Get(t.Context(), ref(2), nil); !errors.Is(err, platform.ErrNotFound) {
			t.Errorf("the record that was to be deleted: %v", err)
		}
		w.must(w.guard.Look(t.Context(), "erp", platform.Event{Ref: ref(2), Op: platform.Deleted}))
		if len(w.found) != 0 {
			t.Errorf("a signed removal was reported: %+v", w.found)
		}
		if rep, _ := w.scan(); !rep.Clean() {
			t.Errorf("%+v", rep)
		}
	})
}

// What does not verify is in no import, whatever a person decides (invariant 6;
// threats 1, 11, 14, 22), and malformed input changes nothing.
func TestImportRefuses(t *testing.T) {
	w := newWorld(t, sqliteApp(t))
	w.put(2, map[string]string{"type": "JDBC", "name": "protective", "sql_statement": "SELECT 2"})
	w.signAll()
	signed := string(w.signSet(records.SignSet, xmlSet("loaded", jdbc(1, "SELECT one"), jdbc(5, "SELECT five"))))
	for name, c := range map[string]struct {
		set  string
		want rejection.Code
	}{
		"changed":             {strings.Replace(signed, "SELECT one", "DROP TABLE x", 1), rejection.FieldChanged},
		"unsigned":            {string(xmlSet("loaded", jdbc(1, "SELECT one"))), rejection.SigMissing},
		"an unsigned removal": {string(xmlSet("loaded", update(2, "DELETE", map[string]string{"type": "JDBC", "name": "protective", "sql_statement": "SELECT 2"}))), rejection.DeleteUnsigned},
		"taken out of the condition": {string(xmlSet("loaded", update(2, "INSERT_OR_UPDATE", map[string]string{"type": "File", "name": "protective", "sql_statement": "SELECT 2"}))),
			rejection.SigMissing},
	} {
		t.Run(name, func(t *testing.T) {
			w.clock.pass(time.Minute)
			v, err := w.guard.Load(t.Context(), rand.Reader, "erp", []byte(c.set), "mallory")
			w.must(err)
			v, err = w.guard.Preview(t.Context(), v.ID)
			w.must(err)
			open := v.Preview.Open()
			if len(open) != 1 || v.Preview.Findings[slices.IndexFunc(v.Preview.Findings, func(f updateset.Finding) bool { return f.Index == open[0] })].Reason.Code != c.want {
				t.Fatalf("%v of %+v", open, v.Preview.Findings)
			}
			if _, err := w.guard.Decide(t.Context(), v.ID, map[int]records.Decision{open[0]: records.Accept}); code(err) != c.want {
				t.Errorf("accepted: %v", err)
			}
			if _, err := w.guard.Commit(t.Context(), v.ID); !errors.Is(err, records.ErrState) {
				t.Errorf("committed: %v", err)
			}
			_, err = w.guard.Decide(t.Context(), v.ID, map[int]records.Decision{open[0]: records.Skip})
			w.must(err)
			_, err = w.guard.Commit(t.Context(), v.ID)
			w.must(err)
			if row, err := w.app.Get(t.Context(), ref(2), nil); err != nil || row.Record.Fields["type"] != "JDBC" {
				t.Errorf("what was left out was carried out: %+v, %v", row, err)
			}
			if row, err := w.app.Get(t.Context(), ref(1), nil); err == nil && row.Record.Fields["sql_statement"] != "SELECT one" {
				t.Errorf("what was left out was carried out: %+v", row)
			}
		})
	}
	for name, set := range map[string]string{
		"cut":            signed[:len(signed)/2],
		"a DTD":          strings.Replace(signed, "<unload", "<!DOCTYPE x><unload", 1),
		"another action": strings.Replace(signed, "<action>INSERT_OR_UPDATE</action>", "<action>DELETE</action>", 1),
		"empty":          "",
	} {
		if _, err := w.guard.Load(t.Context(), rand.Reader, "erp", []byte(set), "mallory"); rejection.Of(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if sets, err := w.guard.Sets(t.Context(), 100); err != nil || len(sets) != 4 {
		t.Errorf("%d sets were kept, %v", len(sets), err)
	}
}

// Only complete sets are signed, and a build asserts its coverage (invariant 7).
func TestSetRefused(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	sign := func(kind records.Kind, set []byte, change ...func(*records.Spec)) error {
		sp := records.Spec{Kind: kind, Name: "a set", Policy: "release", Set: set}
		for _, f := range change {
			f(&sp)
		}
		_, err := w.jobs.Create(t.Context(), &sp, "alice")
		return err
	}
	good := xmlSet("loaded", jdbc(1, "SELECT 1"))
	if err := sign(records.SignSet, xmlSet("in progress", jdbc(1, "SELECT 1"))); !errors.Is(err, records.ErrSpec) {
		t.Errorf("in progress: %v", err)
	}
	bulk := update(7, "INSERT_OR_UPDATE", map[string]string{"type": "JDBC"})
	bulk = strings.Replace(bulk, "</"+table+"></record_update>", "</"+table+"><"+table+` action="delete_multiple" query="active=true"/></record_update>`, 1)
	if err := sign(records.SignSet, xmlSet("loaded", bulk)); rejection.Of(err) == nil {
		t.Errorf("a bulk operation on a protected table: %v", err)
	}
	if err := sign(records.SignPackage, good, func(s *records.Spec) { s.Tables = []string{table, "sys_script"} }); !errors.Is(err, records.ErrCoverage) {
		t.Errorf("a table without records: %v", err)
	}
	w.configurations = map[string]record.Configuration{"sources": configurations()["sources"], "rest": {Version: 1, Table: "sys_rest_message", Purpose: record.Queue, Fields: []string{"endpoint"}}}
	if err := sign(records.SignPackage, good, func(s *records.Spec) { s.Configurations = []string{"rest"} }); !errors.Is(err, records.ErrCoverage) {
		t.Errorf("a configuration that finds nothing: %v", err)
	}
	if b := w.signSet(records.SignPackage, good); !bytes.Contains(b, []byte("SELECT 1")) {
		t.Error("a good build was not signed")
	}
	// Nothing protected: nothing to sign, and the set as it was.
	plain := xmlSet("loaded", update(3, "INSERT_OR_UPDATE", map[string]string{"type": "File"}))
	if b := w.signSet(records.SignSet, plain); !bytes.Equal(b, plain) {
		t.Error("a set without protected records was altered")
	}
}

// Revisions that a set was given count for the database, too.
func TestRevisionsOfSets(t *testing.T) {
	w := newWorld(t, sqliteApp(t))
	w.fill(2)
	w.signAll()
	w.signSet(records.SignSet, xmlSet("loaded", jdbc(1, "SELECT 10")))
	v := w.signAll()
	log, err := w.jobs.Log(t.Context(), v.ID, 1, 1)
	if err != nil || len(log) != 1 || log[0].Revision != 3 {
		t.Errorf("%+v, %v", log, err)
	}
}

// receiver is a protected instance in the same process.
type receiver struct{ w *world }

func (r receiver) Receive(ctx context.Context, on string, size int64, export io.Reader) (*records.Imported, error) {
	b, err := io.ReadAll(export)
	if err != nil {
		return nil, err
	}
	r.w.clock.pass(time.Minute)
	return r.w.guard.Import(ctx, on, bytes.NewReader(b), size)
}

// Records move with their signatures, and nothing else moves.
func TestExportImportPush(t *testing.T) {
	each(t, func(t *testing.T, a *app) {
		from := newWorld(t, a)
		from.fill(12)
		from.signAll()
		to := newWorld(t, memoryApp(t))
		to.trust = from.trust
		got, err := records.Push(t.Context(), a, []records.ExportQuery{{Table: table, Filter: `type == "JDBC"`}}, receiver{to}, "erp")
		if err != nil || got.Records != 10 {
			t.Fatalf("%+v, %v", got, err)
		}
		if rep, _ := to.scan(); !rep.Clean() || rep.Counts[0].Valid != 10 {
			t.Fatalf("%+v", rep)
		}
		var b bytes.Buffer
		if n, err := records.Export(t.Context(), a, []records.ExportQuery{{Table: table}}, &b); err != nil || n != 10 {
			t.Fatalf("%d, %v", n, err)
		}
		whole := b.Bytes()
		fresh := newWorld(t, memoryApp(t))
		fresh.trust = from.trust
		read := func(b []byte) error {
			_, err := fresh.guard.Import(t.Context(), "erp", bytes.NewReader(b), int64(len(b)))
			return err
		}
		for i := 0; i < len(whole); i += 1 + len(whole)/97 {
			bad := bytes.Clone(whole)
			bad[i] ^= 0x20
			if err := read(bad); code(err) != rejection.PayloadMalformed {
				t.Errorf("byte %d flipped: %v", i, err)
			}
			if err := read(whole[:i]); code(err) != rejection.PayloadMalformed {
				t.Errorf("cut at %d: %v", i, err)
			}
		}
		// Unsigned records, and changed ones, come in no import: not one of the file.
		from.put(3, map[string]string{"sql_statement": "DROP TABLE x"})
		b.Reset()
		_, err = records.Export(t.Context(), a, []records.ExportQuery{{Table: table}}, &b)
		from.must(err)
		if err := read(b.Bytes()); code(err) != rejection.FieldChanged {
			t.Errorf("a changed record: %v", err)
		}
		b.Reset()
		_, err = records.Export(t.Context(), a, []records.ExportQuery{{Table: table, All: true, Keys: [][]string{{key(4)}}}}, &b)
		from.must(err)
		if err := read(b.Bytes()); code(err) != rejection.SigMissing {
			t.Errorf("an unsigned record: %v", err)
		}
		if rows := fresh.app.Platform.(*memory).rows[table]; len(rows) != 0 {
			t.Errorf("%d records were imported", len(rows))
		}
		if len(fresh.found) == 0 {
			t.Error("nobody was told")
		}
	})
}

// A scan's CSV selects what a job signs.
func TestScanFeedsTheSigner(t *testing.T) {
	w := newWorld(t, memoryApp(t))
	w.fill(10)
	w.finish(w.create(records.Spec{Kind: records.SignSpecificRecords, Refs: []record.Ref{ref(0), ref(1)}}).ID)
	w.put(1, map[string]string{"sql_statement": "SELECT changed"})
	w.clock.pass(time.Minute)
	var b bytes.Buffer
	c, err := records.NewCSV(&b)
	w.must(err)
	_, err = w.guard.Scan(t.Context(), records.ScanOptions{}, c.Write)
	w.must(err)
	w.must(c.Flush())
	text := b.String()
	sel, err := records.ReadSelection(strings.NewReader(text))
	if err != nil || len(sel.Refs) != 7 || len(sel.Configurations) != 1 || sel.Platforms[0] != "erp" {
		t.Fatalf("%+v, %v\n%s", sel, err, text)
	}
	if only, err := records.ReadSelection(strings.NewReader(text), records.Invalid); err != nil || len(only.Refs) != 1 || !only.Refs[0].Equal(ref(1)) {
		t.Fatalf("%+v, %v", only, err)
	}
	v := w.finish(w.create(records.Spec{Kind: records.SignSpecificRecords, Refs: sel.Refs, Configurations: sel.Configurations}).ID)
	if v.State != records.Done || v.Count != 7 {
		t.Fatalf("%+v", v)
	}
	if _, err := w.guard.MayEnforce(t.Context()); err != nil {
		t.Error(err)
	}
	if n, err := w.store.Mark(t.Context(), []byte(ref(0).ID())); err != nil || n != 0 {
		t.Errorf("a scan raised a mark: %d, %v", n, err)
	}
	for name, bad := range map[string]string{
		"another head": strings.Replace(text, "verdict", "Verdict", 1),
		"a verdict":    strings.Replace(text, "missing", "perhaps", 1),
		"no key":       strings.ReplaceAll(text, `[""`, "["),
		"empty":        "",
	} {
		if _, err := records.ReadSelection(strings.NewReader(bad)); !errors.Is(err, records.ErrSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
