package updateset_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
)

func operations(t testing.TB, s *updateset.Set) (out []updateset.Operation) {
	t.Helper()
	err := s.Updates(context.Background(), func(u *updateset.Update) error {
		out = append(out, u.Operations...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What the writer writes, the reader reads: values exactly, CRLF with them,
// references by their keys, empty fields absent, attachments whole.
func TestReadsWhatIsWritten(t *testing.T) {
	source := dataSource()
	source.Attachments[1].Content = noise(1_600_000) // three chunks
	s := open(t, made(t, source, script(), gone(), property()))
	if i := s.Info(); i.Name != "Orders & <more>" || i.SysID != setID || i.Updates != 4 || i.State != "loaded" {
		t.Errorf("%+v", i)
	}
	o := operations(t, s)[0]
	if !o.Main || o.Table != "sys_data_source" || o.SysID != sourceID || o.References["mid_server"] != `the "agent"` {
		t.Errorf("%+v", o.References)
	}
	r := o.Record()
	for name, v := range dataSource().Fields {
		if got, has := r.Fields[name]; got != v || has != (v != "") {
			t.Errorf("%s: %q, want %q", name, got, v)
		}
	}
	files := map[string]updateset.File{}
	for _, f := range source.Attachments {
		if f.Field {
			f.Name = "ZZ_YY:" + f.Name
		}
		files[f.Name] = f
	}
	if len(o.Attachments) != len(files) {
		t.Fatalf("%d attachments", len(o.Attachments))
	}
	for _, a := range o.Attachments {
		z, err := a.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(b, files[a.Name].Content) || a.Size != int64(len(b)) || a.SHA256 != sha256.Sum256(b) || a.Type != files[a.Name].Type {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
}

// Invariant 4: sealing leaves all bytes, and sealing twice changes nothing.
func TestSealKeepsBytes(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	b := everything(t)
	s := open(t, b)
	sigs := w.sign(t, s)
	if len(sigs) != 3 {
		t.Fatalf("%d signatures", len(sigs))
	}
	if !bytes.Equal(seal(t, s, nil), b) {
		t.Error("sealing with nothing changed the set")
	}
	sealed := seal(t, s, sigs)
	end := bytes.LastIndex(b, []byte("</unload>"))
	if !bytes.HasPrefix(sealed, b[:end]) || !bytes.HasSuffix(sealed, b[end:]) {
		t.Error("bytes that were there are not there")
	}
	again := open(t, sealed)
	if i := again.Info(); i.Updates != 4 || i.Signatures != 3 {
		t.Errorf("%+v", i)
	}
	var out bytes.Buffer
	done, err := again.Seal(context.Background(), &out, each(sigs))
	if err != nil || !bytes.Equal(out.Bytes(), sealed) || done.Already != 3 || done.Signatures != 0 || done.Roots != 0 {
		t.Errorf("%v, %+v", err, done)
	}
	if !bytes.Equal(seal(t, s, append(sigs, sigs...)), sealed) {
		t.Error("a signature that is given twice stands twice")
	}
	// A second signer's stand beside the first one's.
	other := newWorld(t, recordtest.Configurations())
	both := open(t, seal(t, again, other.sign(t, again)))
	got, err := both.Signatures(record.Ref{Table: "sys_script_include", Key: []string{scriptID}})
	if err != nil || len(got) != 2 || bytes.Equal(got[0].Root, got[1].Root) || len(got[0].Root) == 0 {
		t.Errorf("%d signatures, %v", len(got), err)
	}
	for _, x := range []*world{w, other} {
		if r := x.rejects(t, seal(t, both, nil)); len(r) > 0 {
			t.Errorf("valid through one signer of two: %v", r)
		}
	}
}

// A signature of something that is not in the set is not put into it.
func TestSealForeign(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	s := open(t, made(t, script()))
	sigs := w.sign(t, open(t, everything(t)))
	_, err := s.Seal(context.Background(), io.Discard, each(sigs))
	if !errors.Is(err, &rejection.Error{Code: rejection.RecordMismatch}) {
		t.Error(err)
	}
}

// What changes between two reads is seen: the file that was judged is the file that
// is used.
func TestChangedWhileRead(t *testing.T) {
	b := everything(t)
	s := open(t, b)
	copy(b[bytes.Index(b, []byte("var Helper")):], "var Hacker")
	err := s.Updates(context.Background(), func(*updateset.Update) error { return nil })
	if !errors.Is(err, &rejection.Error{Code: rejection.PayloadMalformed}) {
		t.Error(err)
	}
	if _, err := s.Seal(context.Background(), io.Discard, each(nil)); err == nil {
		t.Error("sealed")
	}
}

// The verdicts, and what is handed to an importer.
func TestVerifyAndApprove(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	unsigned := everything(t)
	got := w.rejects(t, unsigned)
	if len(got) != 3 {
		t.Errorf("%v", got)
	}
	want(t, got, rejection.SigMissing, "")
	want(t, got, rejection.DeleteUnsigned, "")

	s := open(t, w.sealed(t, unsigned))
	p, all := w.verify(t, s)
	if p.Counts[updateset.Valid] != 3 || p.Counts[updateset.Missing] != 0 || p.Counts[updateset.NotProtected] == 0 {
		t.Errorf("%v", p.Counts)
	}
	if all[0].Status != updateset.Valid || all[0].Signer == "" || all[0].Configuration != recordtest.ID {
		t.Errorf("%+v", all[0])
	}
	a, err := p.Approve()
	if err != nil {
		t.Fatal(err)
	}
	var trusted, deleted int
	err = a.Each(context.Background(), func(e *updateset.Effect) error {
		switch {
		case e.Trusted != nil:
			trusted++
			for _, f := range e.Trusted.Configuration().Fields {
				if _, has := e.Write[f]; !has {
					t.Errorf("%s keeps its old value", f)
				}
			}
		case e.Deletion != nil:
			deleted++
		default:
			return nil
		}
		if len(e.Signatures) != 1 {
			t.Errorf("%d signatures", len(e.Signatures))
		}
		return nil
	})
	if err != nil || trusted != 2 || deleted != 1 {
		t.Errorf("%d, %d, %v", trusted, deleted, err)
	}
	if n, err := w.marks.Highest(context.Background(), record.Ref{Table: "sys_script_include", Key: []string{scriptID}}); n != 0 || err != nil {
		t.Error("a preview raised a mark")
	}
}

// A refused update may be left out; nothing of it comes to the importer.
func TestLeaveOut(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	b := replace(t, w.sealed(t, everything(t)), "var Helper", "var Hacker")
	p, all := w.verify(t, open(t, b))
	_, err := p.Approve()
	var r *updateset.RefusedError
	if !errors.As(err, &r) || len(r.Updates) != 1 || all[r.Updates[0]] == nil {
		t.Fatal(err)
	}
	a, err := p.Approve(r.Updates...)
	if err != nil {
		t.Fatal(err)
	}
	err = a.Each(context.Background(), func(e *updateset.Effect) error {
		if e.Update.Index == r.Updates[0] {
			t.Error("what was left out is handed out")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Marks: a set with old signed content is refused.
func TestRollback(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	b := w.sealed(t, everything(t))
	ref := record.Ref{Table: "sys_script_include", Key: []string{scriptID}}
	if err := w.marks.Raise(context.Background(), ref, 5); err != nil {
		t.Fatal(err)
	}
	want(t, w.rejects(t, b), rejection.RevisionRollback, "")
}

// A record does not leave protection by an update that takes it out of the condition.
func TestOutOfCondition(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	r := dataSource()
	r.Fields["type"] = "File"
	s := open(t, made(t, r))
	policy := w.policy()
	p, err := updateset.Verify(context.Background(), s, w.verifier(t), policy, nil)
	if err != nil || p.Counts[updateset.NotProtected] == 0 || p.Counts[updateset.Missing] != 0 {
		t.Errorf("%v %v", p.Counts, err)
	}
	policy.Current = func(context.Context, record.Ref) (*record.Record, error) { return recordtest.DataSource(), nil }
	p, err = updateset.Verify(context.Background(), s, w.verifier(t), policy, nil)
	if err != nil || p.Counts[updateset.Missing] != 1 {
		t.Errorf("%v %v", p.Counts, err)
	}
	// Nor by a deletion whose content is the sender's word.
	r.Action, r.Attachments = updateset.Delete, nil
	want(t, w.rejects(t, made(t, r)), rejection.DeleteUnsigned, "")
}

func BenchmarkOpen(b *testing.B) {
	rows := []*updateset.Row{dataSource(), property()}
	for n := range 500 {
		r := script()
		r.SysID = fmt.Sprintf("%032x", n)
		r.Fields["script"] = strings.Repeat("if (a < b) { return 'x'; }\r\n", 200)
		rows = append(rows, r)
	}
	data := made(b, rows...)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		open(b, data)
	}
}
