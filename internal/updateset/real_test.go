package updateset_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// realSets are exports made by others, where they are at hand. The tests of the
// package's own sets hold without them.
var realSets = map[string]struct{ updates, operations, attachments int }{
	"AlexAlvarez092__SN-Update-Set-Capture-Record__SNUpdateSetCaptureRecord.xml":              {7, 11, 0},
	"AlexAlvarez092__SN-Update-Set-Collision-Detection-Tool__CollisionToolSourceInstance.xml": {13, 19, 0},
	"Ghost-Venom__Bulk-Update-Set-Exporter__BulkUpdateSetExporter-0.3.0.xml":                  {21, 24, 1},
	"Ghost-Venom__Bulk-Update-Set-Exporter__BulkUpdateSetExporter-0.3.1.xml":                  {21, 24, 1},
	"jacebenson__update-set-host__Developer_Toolbox_1.10.xml":                                 {49, 50, 0},
	"jacebenson__update-set-host__SecurityBestPractiesAudit-V3_1.xml":                         {126, 207, 0},
	"jacebenson__update-set-host__Xplore47.xml":                                               {25, 32, 1},
}

// realFolder is empty when the exports are not at hand.
func realFolder(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "..", "shared", "testdata", "updatesets"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

// unsignable are never signed: who saved a record, and when and how often.
var unsignable = []string{"sys_created_by", "sys_created_on", "sys_mod_count", "sys_updated_by", "sys_updated_on"}

// covering is one configuration for each table of the set that holds records of their
// own, over all of its fields.
func covering(t testing.TB, s *updateset.Set) map[string]record.Configuration {
	t.Helper()
	fields := map[string]map[string]bool{}
	for _, o := range operations(t, s) {
		if o.Action.Bulk() || o.SysID == "" || o.Wrapper != "" || !o.Main {
			continue
		}
		if fields[o.Table] == nil {
			fields[o.Table] = map[string]bool{}
		}
		for f := range o.Fields {
			fields[o.Table][f] = !slices.Contains(unsignable, f)
		}
	}
	out := map[string]record.Configuration{}
	for table, names := range fields {
		if slices.Contains(record.WildcardTables(), table) {
			continue // predefined
		}
		c := record.Configuration{Version: 1, Table: table, Purpose: record.Queue, Attachments: true}
		for f, signed := range names {
			if signed {
				c.Fields = append(c.Fields, f)
			}
		}
		slices.Sort(c.Fields)
		out["all-"+strings.ReplaceAll(table, "_", "-")] = c
	}
	return out
}

// withAttachment adds a record with an attachment to a set that has none.
func withAttachment(t testing.TB, b []byte) []byte {
	t.Helper()
	m := made(t, dataSource())
	start := bytes.Index(m, []byte("<sys_update_xml"))
	end := bytes.LastIndex(m, []byte("</unload>"))
	return replace(t, b, "</unload>", string(m[start:end])+"</unload>")
}

func TestRealSets(t *testing.T) {
	dir := realFolder(t)
	if dir == "" {
		return
	}
	for name, wanted := range realSets {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, b)
			ops := operations(t, s)
			files := 0
			for _, o := range ops {
				for _, a := range o.Attachments {
					files++
					readExactly(t, &a)
				}
			}
			if s.Info().Updates != wanted.updates || len(ops) != wanted.operations || files != wanted.attachments {
				t.Errorf("%d updates, %d operations, %d attachments, want %+v", s.Info().Updates, len(ops), files, wanted)
			}
			if !bytes.Equal(seal(t, s, nil), b) {
				t.Error("what was not changed is changed")
			}
			if wanted.attachments == 0 {
				b = withAttachment(t, b)
			}
			s = open(t, b)
			w := newWorld(t, covering(t, s))
			sealed := w.sealed(t, b)
			end := bytes.LastIndex(b, []byte("</unload>"))
			if !bytes.HasPrefix(sealed, b[:end]) || !bytes.HasSuffix(sealed, b[end:]) {
				t.Error("sealing changed bytes")
			}
			signed := open(t, sealed)
			p, all := w.verify(t, signed)
			if _, err := p.Approve(); err != nil || p.Counts[updateset.Valid] < wanted.updates/2 {
				for _, f := range all {
					if f.Reason != nil {
						t.Log(f.Update, f.Table, f.Reason)
					}
				}
				t.Fatalf("%v, %v", p.Counts, err)
			}
			t.Logf("%v", p.Counts)
			folder(t, w, signed)
			mutations(t, w, sealed)
			for n := range 50 {
				refused(t, sealed[:len(sealed)*n/50])
			}
		})
	}
}

func readExactly(t testing.TB, a *updateset.Attachment) []byte {
	t.Helper()
	z, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil || int64(len(b)) != a.Size || sha256.Sum256(b) != a.SHA256 {
		t.Errorf("%s: %d bytes of %d, %v", a.Name, len(b), a.Size, err)
	}
	return b
}

var word = regexp.MustCompile(`[A-Za-z]{6,}`)

// span is where an update stands, and its operation.
type span struct {
	u *updateset.Update
	o updateset.Operation
}

func (s span) raw(b []byte) []byte { return b[s.u.Offset : s.u.Offset+s.u.Size] }

// with is the set with that update replaced.
func (s span) with(b, raw []byte) []byte {
	out := append(bytes.Clone(b[:s.u.Offset]), raw...)
	return append(out, b[s.u.Offset+s.u.Size:]...)
}

// mutations are what nobody may do to a signed set.
func mutations(t *testing.T, w *world, sealed []byte) {
	ctx := context.Background()
	_, all := w.verify(t, open(t, sealed))
	var valid []span
	var attached *span
	set := open(t, sealed)
	place := 0
	err := set.Updates(ctx, func(u *updateset.Update) error {
		for _, o := range u.Operations {
			if f := all[place]; f.Status == updateset.Valid {
				valid = append(valid, span{u, o})
				if len(o.Attachments) > 0 && attached == nil {
					attached = &span{u, o}
				}
			}
			place++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	t.Run("changed script", func(t *testing.T) {
		for _, field := range []string{"script", "sql_statement", "html", "server_script", "value", "name"} {
			for _, v := range valid {
				old := word.FindString(v.o.Fields[field])
				raw := bytes.Clone(v.raw(sealed))
				tag := max(bytes.Index(raw, []byte("<"+field+">")), bytes.Index(raw, []byte("&lt;"+field+"&gt;")))
				if v.o.Action == updateset.Delete || !covers(w, v.o.Table, field) || old == "" || tag < 0 {
					continue
				}
				text := raw[tag+len(field)+2:]
				at := bytes.Index(text, []byte(old))
				if at < 0 || old == "CDATA" {
					continue
				}
				text[at] ^= 0x20 // the other case
				want(t, w.rejects(t, v.with(sealed, raw)), rejection.FieldChanged, field)
				return
			}
		}
		t.Error("nothing to change was found")
	})
	t.Run("swapped signature", func(t *testing.T) {
		a, b := valid[0].o.Ref(), valid[1].o.Ref()
		if valid[0].o.Action != updateset.Upsert || valid[1].o.Action != updateset.Upsert {
			t.Fatal("want two records")
		}
		sigs, err := set.Signatures(a)
		if err != nil || len(sigs) == 0 {
			t.Fatal(err)
		}
		// A verifier that is given the signature of another record says so.
		_, err = w.verifier(t).Verify(ctx, valid[1].o.Record(), record.Queue, sigs, w.marks)
		if r := rejection.Of(err); r == nil || r.Code != rejection.RecordMismatch && r.Code != rejection.WildcardNotAllowed {
			t.Error(err)
		}
		// A row that says it is of B, with A's statement.
		raw := bytes.Replace(sealed, []byte("<record_key>[\""+a.Key[0]), []byte("<record_key>[\""+b.Key[0]), 1)
		if code := refused(t, raw); code != rejection.SigMalformed {
			t.Error(code)
		}
		// A statement that says it is of B, under A's path, in place of B's own.
		st, err := record.DecodeStatement(sigs[0].Statement)
		if err != nil {
			t.Fatal(err)
		}
		st.Ref = b
		forged := sigs[0]
		if forged.Statement, err = st.Encode(); err != nil {
			t.Fatal(err)
		}
		bare := bytes.Clone(sealed[:bytes.Index(sealed, []byte(`<sys_update_xml action="INSERT_OR_UPDATE">`+"\n<action>INSERT_OR_UPDATE</action>\n<application display_value=\"Global\">global</application>\n<category>customer</category>\n<comments/>\n<name>x_greatseal_"))])
		bare = append(bare, "</unload>\n"...)
		got := w.rejects(t, seal(t, open(t, bare), []record.Signature{forged}))
		want(t, got, rejection.SigInvalid, "")
	})
	t.Run("appended delete_multiple", func(t *testing.T) {
		raw := valid[0].raw(sealed)
		op := `<sys_script_include action="delete_multiple" query="active=true"/></record_update>`
		if bytes.Contains(raw, []byte("</record_update>")) {
			raw = replace(t, raw, "</record_update>", op)
		} else {
			raw = replace(t, raw, "&lt;/record_update&gt;", html.EscapeString(op))
		}
		want(t, w.rejects(t, valid[0].with(sealed, raw)), rejection.ExtraOperation, "sys_script_include")
	})
	t.Run("outer and inner action", func(t *testing.T) {
		raw := replace(t, valid[0].raw(sealed), "<action>INSERT_OR_UPDATE", "<action>DELETE")
		if code := refused(t, valid[0].with(sealed, raw)); code != rejection.ActionMismatch {
			t.Error(code)
		}
	})
	t.Run("changed chunk", func(t *testing.T) {
		if attached == nil {
			t.Fatal("no signed record has an attachment")
		}
		content := readExactly(t, &attached.o.Attachments[0])
		content[len(content)/2] ^= 1
		id, chunks := attached.o.Attachments[0].SysID, 0
		raw := bytes.Clone(attached.raw(sealed))
		for _, o := range attached.u.Operations {
			if o.Table == "sys_attachment_doc" && o.Fields["sys_attachment"] == id {
				data := ""
				if o.Fields["position"] == "0" {
					data = packed(content)
				}
				raw = replace(t, raw, o.Fields["data"], data)
				chunks++
			}
		}
		if chunks == 0 {
			t.Fatal("no chunk")
		}
		want(t, w.rejects(t, attached.with(sealed, raw)), rejection.AttachmentChanged, "")
		// A chunk that is damaged only.
		for _, o := range attached.u.Operations {
			if o.Table == "sys_attachment_doc" && o.Fields["sys_attachment"] == id && o.Fields["position"] == "0" {
				b, _ := base64.StdEncoding.DecodeString(o.Fields["data"])
				b[0] ^= 1
				raw = replace(t, attached.raw(sealed), o.Fields["data"], base64.StdEncoding.EncodeToString(b))
			}
		}
		if code := refused(t, attached.with(sealed, raw)); code != rejection.PayloadMalformed {
			t.Error(code)
		}
	})
}

func covers(w *world, table, field string) bool {
	for _, list := range []map[string]record.Configuration{w.configs, record.Predefined()} {
		for _, c := range list {
			if c.Table == table && c.Covers(field) {
				return true
			}
		}
	}
	return false
}

// folder takes a signed set to a folder and back: every record stays valid.
func folder(t *testing.T, w *world, s *updateset.Set) {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := s.WriteDirectory(context.Background(), root); err != nil {
		t.Fatal(err)
	}
	d, err := updateset.OpenDirectory(context.Background(), root, updateset.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := w.verify(t, s)
	after, _ := w.verify(t, d)
	if before.Counts[updateset.Valid] != after.Counts[updateset.Valid] || after.Counts[updateset.Invalid]+after.Counts[updateset.Missing] > 0 {
		t.Errorf("%v in the file, %v in the folder", before.Counts, after.Counts)
	}
}
