package release

import (
	"fmt"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
)

// listed is a list of facts as formats make it: what has no room is summed up.
func listed(name string, limit int, values ...string) []format.Fact {
	d := format.NewDetails(0)
	d.List(name, limit, values)
	return d.Facts()
}

func numbered(n int, layout string) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf(layout, i))
	}
	return out
}

func file(content string, facts ...format.Fact) server.FileView {
	return server.FileView{Name: "app.exe", Format: "pe", Digest: "sha256", Content: content, Size: 1000, Facts: facts}
}

func find(d *Difference, code string) (out []Alert) {
	for _, a := range d.Alerts {
		if a.Code == code {
			out = append(out, a)
		}
	}
	return out
}

// A file that is filled with what sorts before the important line does not hide it: all
// changes are judged, the gravest are told, and a list that does not stand whole says so.
func TestNothingIsHiddenByMuch(t *testing.T) {
	between := func(old, now server.FileView) *Difference {
		return Between([]server.FileView{old}, []server.FileView{now}, true)
	}
	// Four hundred changes of groups that come first, and then the hardening.
	var many []format.Fact
	for _, v := range numbered(maxChanges, "something.%04d") {
		many = append(many, format.Fact{Name: "permission", Value: v})
	}
	d := between(file("01", format.Fact{Name: "hardening", Value: "ASLR"}), file("02", many...))
	if a := find(d, "hardening-lost"); len(a) != 1 || a[0].Severity != High {
		t.Errorf("the lost hardening is behind %d permissions: %+v", maxChanges, a)
	}
	if f := d.Files[0]; len(f.Changes) != maxChanges+1 || f.Changes[maxChanges].Name != "further changes" {
		t.Errorf("%d changes are told", len(f.Changes))
	}
	// Imports of medium gravity before one of high.
	imports := numbered(maxAlike+10, "a%02d.dll!winhttpopen")
	d = between(file("01"), file("02", listed("import", 100, append(imports, "kernel32.dll!CreateRemoteThread")...)...))
	a := find(d, "new-import")
	if len(a) != maxAlike || a[0].Severity != High || !strings.Contains(a[0].Text, "CreateRemoteThread") || a[maxAlike-1].Text != "and 12 more of this kind" {
		t.Errorf("%d alerts: %+v", len(a), a)
	}
	d = between(file("01"), file("02", listed("import", 100, imports[:maxAlike]...)...))
	if a := find(d, "new-import"); len(a) != maxAlike || strings.Contains(a[maxAlike-1].Text, "more") {
		t.Errorf("%+v", a)
	}
	// Ten thousand imports, of which the one that counts is the last.
	padded := append(numbered(10_000, "a%05d.dll"), "ws2_32.dll")
	d = between(file("01", listed("import", 40, "kernel32.dll")...), file("02", listed("import", 40, padded...)...))
	if a := find(d, "list-cut"); len(a) != 1 || a[0].Severity != Medium || !strings.Contains(a[0].Text, "40 of 10001") {
		t.Errorf("a list that was whole and is not: %+v", d.Alerts)
	}
	d = between(file("01", listed("import", 40, padded[:10_000]...)...), file("02", listed("import", 40, padded...)...))
	if a := find(d, "list-cut"); len(a) != 1 || a[0].Severity != Medium || len(d.Alerts) != 1 {
		t.Errorf("a list that differs behind its end: %+v", d.Alerts)
	}
	d = between(file("01", listed("import", 40, padded...)...), file("02", listed("import", 40, padded...)...))
	if len(d.Alerts) != 0 {
		t.Errorf("the same list: %+v", d.Alerts)
	}
	d = between(file("01", listed("entry", 40, padded...)...), file("02", listed("entry", 40, padded[:9_000]...)...))
	if a := find(d, "list-cut"); len(a) != 1 || a[0].Severity != Low {
		t.Errorf("a list of entries: %+v", d.Alerts)
	}
	// What found no room at all.
	d = between(file("01"), file("02", format.Fact{Name: format.FactUnsaid, Value: "3, sha256 00"}))
	if a := find(d, "list-cut"); len(a) != 1 {
		t.Errorf("unsaid: %+v", d.Alerts)
	}
	// What nobody can read.
	unread := format.Fact{Name: "not-read", Value: "the files in data.tar.lrz: its compression has no decoder here, or it is damaged"}
	d = between(file("01", format.Fact{Name: "setuid", Value: "/bin/su"}), file("02", unread))
	if a := find(d, "not-read"); len(a) != 1 || a[0].Severity != High {
		t.Errorf("not read: %+v", d.Alerts)
	}
	if d = between(file("01", unread), file("02", unread)); len(find(d, "not-read")) != 0 {
		t.Errorf("it was so before: %+v", d.Alerts)
	}
}

// A program that is called otherwise has no release before it: it is judged as one of
// which everything is new.
func TestRenamedIsJudged(t *testing.T) {
	old := file("01", format.Fact{Name: "import", Value: "kernel32.dll"}, format.Fact{Name: "product-name", Value: "App"})
	now := file("02", format.Fact{Name: "import", Value: "kernel32.dll!WriteProcessMemory"}, format.Fact{Name: "product-name", Value: "Other"})
	now.Name = "helper.exe"
	d := Between([]server.FileView{old}, []server.FileView{now}, true)
	if d.Counts != (Counts{Added: 1, Removed: 1}) {
		t.Fatalf("%+v", d.Counts)
	}
	if a := find(d, "new-import"); len(a) != 1 || a[0].Severity != High || a[0].File != "helper.exe" {
		t.Errorf("%+v", d.Alerts)
	}
	if len(find(d, "new-file")) != 1 || len(find(d, "product-changed")) != 0 {
		t.Errorf("%+v", d.Alerts)
	}
	// Of a first release everything is new, and nothing is said of it.
	if d := Between(nil, []server.FileView{now}, false); len(d.Alerts) != 1 {
		t.Errorf("%+v", d.Alerts)
	}
}

// The same bytes under other options are another signature.
func TestOptionsCount(t *testing.T) {
	old, now := file("01"), file("01")
	old.Params, now.Params = facts("flags", "runtime"), facts("flags", "none")
	d := Between([]server.FileView{old}, []server.FileView{now}, true)
	if d.Counts != (Counts{Changed: 1}) || len(d.Files) != 1 || len(d.Files[0].Changes) != 1 || d.Files[0].Changes[0].Name != "option flags" {
		t.Errorf("%+v", d)
	}
	if len(find(d, "version-same")) != 0 {
		t.Errorf("the content is the same: %+v", d.Alerts)
	}
	old.Facts, now.Facts = facts("version", "1"), facts("version", "1")
	if d := Between([]server.FileView{old}, []server.FileView{now}, true); len(find(d, "version-same")) != 0 {
		t.Errorf("the content is the same: %+v", d.Alerts)
	}
}

// Thousands of alerts of one code leave room for the others.
func TestForemost(t *testing.T) {
	var all []Alert
	for i := range 5 * MaxAlerts {
		all = append(all, Alert{High, "new-permission", fmt.Sprint(i), i, "x"})
	}
	all = append(all, Alert{High, "hardening-lost", "z", 0, "x"}, Alert{Medium, "size", "z", 0, "x"})
	got := foremost(all, MaxAlerts)
	if len(got) != MaxAlerts || got[0].File != "0" || got[1].Code != "hardening-lost" || got[2].File != "1" {
		t.Errorf("%d: %+v", len(got), got[:3])
	}
	if got := foremost(all[:3], MaxAlerts); len(got) != 3 {
		t.Errorf("%+v", got)
	}
}
