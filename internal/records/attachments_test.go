package records_test

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlite"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// withFiles is a platform whose records have attachments, and the application's own
// connection to it.
func withFiles(t *testing.T) (*app, func(string, ...any)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	exec := func(s string, args ...any) {
		t.Helper()
		if _, err := db.Exec(s, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("PRAGMA journal_mode=WAL")
	exec(schema)
	exec("CREATE TABLE files (id integer PRIMARY KEY, owner varchar(32), name text, type text, content blob)")
	p, err := sqlite.Open(t.Context(), path, platform.Options{Attachments: []platform.AttachmentTable{
		{Table: "files", Owner: table, OwnerKey: "owner", Name: "name", Type: "type", Content: "content"}}})
	return opened(t, p, err, nil), exec
}

// Attachments are signed with their record: all of them, and none may be added.
func TestAttachments(t *testing.T) {
	a, exec := withFiles(t)
	w := newWorld(t, a)
	c := w.configurations["sources"]
	c.Attachments = true
	w.configurations = map[string]record.Configuration{"sources": c}
	w.fill(4)
	file := func(i int, name, content string) {
		exec("INSERT INTO files (owner, name, type, content) VALUES (?, ?, 'text/plain', ?)", key(i), name, []byte(content))
	}
	file(0, "driver.jar", "jar 0")
	file(2, "driver.jar", "jar 2")
	v := w.finish(w.create(records.Spec{Kind: records.SignAttachments, Configurations: []string{"sources"}}).ID)
	if v.State != records.Done || v.Count != 2 {
		t.Fatalf("%+v", v)
	}
	v = w.finish(w.create(records.Spec{Kind: records.SignSpecificAttachments, Files: []records.AttachmentID{{Ref: ref(0), Name: "driver.jar"}, {Ref: ref(2), Name: "other.jar"}, {Ref: ref(1), Name: "driver.jar"}}}).ID)
	if v.State != records.Done || v.Count != 1 || v.Summary.Skipped != 2 {
		t.Fatalf("%+v", v)
	}
	check := func(i int, want rejection.Code) {
		t.Helper()
		w.clock.pass(time.Minute)
		if _, err := w.guard.IsTrusted(t.Context(), "erp", ref(i), record.Queue); code(err) != want {
			t.Errorf("record %d: %v, want %q", i, err, want)
		}
	}
	check(0, "")
	check(2, "")
	check(1, rejection.SigMissing)
	// They move with their record.
	var b bytes.Buffer
	if n, err := records.Export(t.Context(), a, []records.ExportQuery{{Table: table}}, &b); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	there, _ := withFiles(t)
	to := newWorld(t, there)
	to.trust, to.configurations = w.trust, w.configurations
	to.clock.pass(time.Hour)
	if got, err := to.guard.Import(t.Context(), "erp", bytes.NewReader(b.Bytes()), int64(b.Len())); err != nil || got.Records != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	to.clock.pass(time.Minute)
	if _, err := to.guard.IsTrusted(t.Context(), "erp", ref(2), record.Queue); err != nil {
		t.Error(err)
	}
	exec("UPDATE files SET content = 'evil' WHERE owner = ?", key(0))
	check(0, rejection.AttachmentChanged)
	file(2, "more.jar", "evil")
	check(2, rejection.AttachmentExtra)
	exec("DELETE FROM files WHERE owner = ?", key(2))
	check(2, rejection.AttachmentMissing)
}
