package gate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/gate/rebuild"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/statement"
)

// item is a file of a request, as the rebuild sees it.
func item(t *testing.T, w *servertest.World, name, content string) *check.File {
	t.Helper()
	it, p, err := format.DecodeItem(w.Item(name, []byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	return &check.File{Request: &statement.Request{Created: w.Now(), Command: statement.Command{Sign: &statement.SignArgs{Count: 1}}}, Item: it, Plan: p}
}

func TestRebuildFolder(t *testing.T) {
	w := servertest.New(t)
	top := t.TempDir()
	folder := filepath.Join(top, "built")
	for path, text := range map[string]string{filepath.Join(folder, "app.bin"): "the same", filepath.Join(folder, "dist", "lib.bin"): "library", filepath.Join(top, "outside.bin"): "outside"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(top, "outside.bin"), filepath.Join(folder, "link.bin")); err != nil {
		t.Fatal(err)
	}
	c := rebuild.Config{Folder: folder, Wait: time.Hour, Worker: worker(), Clock: w.Now}
	for _, x := range []struct {
		name, content, want string // "endorse", part of the refusal, or "": no answer
	}{
		{"app.bin", "the same", "endorse"},
		{"dist/lib.bin", "library", "endorse"},
		{"/home/ci/app.bin", "the same", "endorse"},
		{"app.bin", "the Same", "built again, it is another cms file: other content"},
		{"app.bin", "longer than the same", "it has 8 bytes, its plan says 20"},
		{"later.bin", "x", ""},
		{"../outside.bin", "outside", ""},
		{"link.bin", "outside", ""},
		{"dist", "x", ""},
	} {
		r, err := rebuild.New(c)
		if err != nil {
			t.Fatal(err)
		}
		o, err := r.File(t.Context(), item(t, w, x.name, x.content))
		switch {
		case x.want == "" && err == nil, x.want != "" && err != nil, o.Endorse != (x.want == "endorse"), !o.Endorse && !strings.Contains(o.Reason, x.want):
			t.Errorf("%s: %+v %v, want %q", x.name, o, err, x.want)
		}
	}
	f := item(t, w, "never.bin", "x")
	w.Pass(2 * time.Hour)
	r, err := rebuild.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := r.File(t.Context(), f); err != nil || o.Endorse || o.Reason != "nobody has built it again" {
		t.Errorf("never built: %+v %v", o, err)
	}
}

// A build of one's own needs no uploads: what it gives must have the request's plan.
func TestRebuildCommand(t *testing.T) {
	x := newSite(t, nil)
	dir := t.TempDir()
	script := filepath.Join(dir, "build")
	text := "#!/bin/sh\ncat >/dev/null\ncase $(cat " + dir + "/mode) in none) echo no such tag; exit 1;; later) exit 3;; *) printf built >$GREATSEAL_OUTPUT;; esac\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	r, err := rebuild.New(rebuild.Config{Program: check.Program{Command: []string{script}}, Work: work, Worker: worker(), Clock: x.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ mode, content, want string }{
		{"build", "built", "endorse"}, {"build", "build", "another cms file"}, {"none", "built", "could not be built again: no such tag"}, {"later", "built", ""},
	} {
		if err := os.WriteFile(dir+"/mode", []byte(c.mode), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := r.File(t.Context(), item(t, x.World, "app.bin", c.content))
		if (c.want == "") != (err != nil) || o.Endorse != (c.want == "endorse") || !o.Endorse && !strings.Contains(o.Reason, c.want) {
			t.Errorf("%+v: %+v %v", c, o, err)
		}
	}
	if left, err := os.ReadDir(work); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if err := os.WriteFile(dir+"/mode", []byte("build"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := x.inProcess("rebuild", r)
	items := [][]byte{x.Item("app.bin", []byte("built"))}
	rq, _, err := x.s.Submit(t.Context(), x.Sign("alice", "scanned", items), items) // nothing is uploaded
	if err != nil {
		t.Fatal(err)
	}
	if _, e := x.verdict(rq.ID); e.Verdict != statement.Endorse || g.Metrics.Endorsed.Load() > 1 {
		t.Errorf("%s %q", e.Verdict, e.Comment)
	}
}
