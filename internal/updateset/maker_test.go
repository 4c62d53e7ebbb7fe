package updateset_test

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

const (
	setID    = "c0ffee00c0ffee00c0ffee00c0ffee00"
	sourceID = "9c573169c611228700193229fff72400"
	scriptID = "1be9c0d7c0a80164001ae1d9d4b4d2b5"
	goneID   = "2be9c0d7c0a80164001ae1d9d4b4d2b5"
	propID   = "3be9c0d7c0a80164001ae1d9d4b4d2b5"
)

var when = time.Date(2026, 5, 30, 8, 0, 0, 0, time.UTC)

func dataSource() *updateset.Row {
	return &updateset.Row{Table: "sys_data_source", SysID: sourceID, Target: "Orders", Kind: "Data Source", Action: updateset.Upsert, At: when, By: "ann",
		Fields: map[string]string{"name": "Orders", "type": "JDBC", "jdbc_server": "db.example.com", "database_port": "5432", "database_name": "shop",
			"query": "sql", "sql_statement": "SELECT id\r\nFROM orders WHERE a < 7 && b > ']]>'", "last_run_datetime": "2026-05-29 23:00:00",
			"mid_server": "a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4", "properties": ""},
		References: map[string]string{"mid_server": `the "agent"`},
		Attachments: []updateset.File{
			{Name: "readme.txt", Type: "text/plain", Content: []byte("read me")},
			{Name: "big.bin", Type: "application/octet-stream", Content: noise(9_000)},
			{Name: "icon", Type: "image/png", Content: []byte("\x89PNG"), Field: true},
		}}
}

// noise is content that does not pack, so that it takes several chunks.
func noise(n int) []byte {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

func script() *updateset.Row {
	return &updateset.Row{Table: "sys_script_include", SysID: scriptID, Target: "Helper", Kind: "Script Include", Action: updateset.Upsert, At: when, By: "ann",
		Fields: map[string]string{"name": "Helper", "api_name": "global.Helper", "active": "true", "script": "var Helper = 1;\r\nif (a < b) {\n}"}}
}

func gone() *updateset.Row {
	return &updateset.Row{Table: "sys_script_include", SysID: goneID, Target: "Gone", Kind: "Script Include", Action: updateset.Delete, At: when, By: "ann",
		Fields: map[string]string{"name": "Gone", "script": "var Gone = 1;"}}
}

func property() *updateset.Row {
	return &updateset.Row{Table: "sys_properties", SysID: propID, Target: "x", Kind: "System Property", Action: updateset.Upsert, At: when, By: "ann",
		Fields: map[string]string{"name": "x.y", "value": "7"}}
}

func made(t testing.TB, rows ...*updateset.Row) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := updateset.NewWriter(&b, "Orders & <more>", setID, when, "ann")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func everything(t testing.TB) []byte { return made(t, dataSource(), script(), gone(), property()) }

func open(t testing.TB, b []byte) *updateset.Set {
	t.Helper()
	s, err := updateset.Open(context.Background(), bytes.NewReader(b), int64(len(b)), updateset.Limits{})
	if err != nil {
		t.Fatalf("%.3000s", err)
	}
	return s
}

// refused opens what must not open and returns the reason.
func refused(t testing.TB, b []byte) rejection.Code {
	t.Helper()
	s, err := updateset.Open(context.Background(), bytes.NewReader(b), int64(len(b)), updateset.Limits{})
	if err == nil {
		t.Errorf("accepted: %.300q", b)
		return ""
	}
	why := rejection.Of(err)
	if why == nil || s != nil {
		t.Fatalf("%v, %v", err, s)
	}
	return why.Code
}

// world is who signs and what is in force.
type world struct {
	signer  *formattest.Signer
	configs map[string]record.Configuration
	rules   *updateset.Rules
	marks   *recordtest.Marks
}

func newWorld(t testing.TB, configs map[string]record.Configuration) *world {
	t.Helper()
	r, err := updateset.NewRules(configs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{recordtest.NewSigner(t, sigalg.P256), configs, r, &recordtest.Marks{}}
}

// statements are what the world would sign of a set.
func (w *world) statements(t testing.TB, s *updateset.Set, revision uint64) []*record.Statement {
	t.Helper()
	all := record.Predefined()
	for id, c := range w.configs {
		all[id] = c
	}
	var out []*record.Statement
	err := s.Records(context.Background(), w.rules, func(i *updateset.Item) error {
		for _, id := range i.Configurations {
			g := recordtest.Signing{ID: id, Configuration: all[id], Revision: revision, Deleted: i.Deleted}
			out = append(out, g.Statement(t, i.Record))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (w *world) sign(t testing.TB, s *updateset.Set) []record.Signature {
	t.Helper()
	return recordtest.Signing{Signer: w.signer}.SignStatements(t, w.statements(t, s, 1)...)
}

func each(sigs []record.Signature) iter.Seq2[*record.Signature, error] {
	return func(yield func(*record.Signature, error) bool) {
		for i := range sigs {
			if !yield(&sigs[i], nil) {
				return
			}
		}
	}
}

func seal(t testing.TB, s *updateset.Set, sigs []record.Signature) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := s.Seal(context.Background(), &b, each(sigs)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (w *world) sealed(t testing.TB, b []byte) []byte {
	t.Helper()
	s := open(t, b)
	return seal(t, s, w.sign(t, s))
}

func (w *world) policy() updateset.Policy { return updateset.Policy{Rules: w.rules, Marks: w.marks} }

func (w *world) verifier(t testing.TB) *record.Verifier {
	trust := recordtest.Trust(w.signer)
	trust.Configurations = w.configs
	return recordtest.Verifier(t, trust)
}

func (w *world) verify(t testing.TB, s *updateset.Set) (*updateset.Preview, []*updateset.Finding) {
	t.Helper()
	var all []*updateset.Finding
	p, err := updateset.Verify(context.Background(), s, w.verifier(t), w.policy(), func(f *updateset.Finding) error {
		all = append(all, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, all
}

// rejects verifies a set that opens and returns the refusals.
func (w *world) rejects(t testing.TB, b []byte) []*rejection.Error {
	t.Helper()
	p, all := w.verify(t, open(t, b))
	var out []*rejection.Error
	for _, f := range all {
		if f.Status.Refused() != (f.Reason != nil) {
			t.Fatalf("%+v", f)
		}
		if f.Reason != nil {
			out = append(out, f.Reason)
		}
	}
	if a, err := p.Approve(); (err == nil) != (len(out) == 0) || (a == nil) != (len(out) > 0) {
		t.Fatalf("%d refusals, and Approve says %v", len(out), err)
	}
	return out
}

func want(t testing.TB, got []*rejection.Error, code rejection.Code, subject string) {
	t.Helper()
	if !slices.ContainsFunc(got, func(e *rejection.Error) bool { return e.Code == code && (subject == "" || e.Subject == subject) }) {
		t.Errorf("got %v, want %s(%s)", got, code, subject)
	}
}

// replace replaces the first old, which must be there.
func replace(t testing.TB, b []byte, old, new string) []byte {
	t.Helper()
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%q is not there", old)
	}
	return bytes.Replace(bytes.Clone(b), []byte(old), []byte(new), 1)
}
