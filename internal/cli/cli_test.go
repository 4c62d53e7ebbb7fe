package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/statement"
)

// Invariant 2: every error has its exit code.
func TestVerdict(t *testing.T) {
	problem := func(status int) error { return &client.Problem{Problem: wire.Problem{Status: status, Hint: "hint"}} }
	for _, x := range []struct {
		err  error
		code int
	}{
		{problem(403), exitRefused}, {problem(503), exitUnavailable}, {problem(429), exitUnavailable}, {problem(404), exitFailed},
		{problem(401), exitFailed}, {&client.AwayError{}, exitUnavailable}, {errors.New("x"), exitFailed},
		{fail(exitWaiting, "", "x"), exitWaiting}, {fail(exitUnverified, "", "%w", problem(403)), exitUnverified},
	} {
		if code, _ := verdict(x.err); code != x.code {
			t.Errorf("%v: %d, want %d", x.err, code, x.code)
		}
	}
	if _, hint := verdict(problem(403)); hint != "hint" {
		t.Errorf("hint %q", hint)
	}
}

// Texts of others command no terminal.
func TestPrintable(t *testing.T) {
	for _, hostile := range []string{"\x1b[2J", "a\rb", "a\nb", "\u202eexe.txt", "\x00", "\u200b", "\x9b31m"} {
		var b bytes.Buffer
		tb := &table{head: []string{"X"}}
		tb.row(hostile)
		tb.write(&b)
		field(&b, "x", hostile)
		if strings.ContainsAny(b.String(), "\x1b\r\x00\u202e\u200b\u009b") || strings.Contains(printable(hostile), "\n") {
			t.Errorf("%q is shown as %q", hostile, b.String())
		}
	}
	if s := printable(`C:\a "b" é→`); s != `C:\a "b" é→` {
		t.Error(s)
	}
}

// A name in a request leads nowhere but into the folder that the user gave.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	p := &format.Patch{Sidecar: &format.Sidecar{Suffix: ".p7s", Data: []byte("x")}}
	for _, name := range []string{"../../etc/passwd", "/etc/passwd", "a/../../b", "..", ".", "a/..", "/", "./", "a/../"} {
		o := output{out: dir, dir: true}
		out, evidence, err := o.paths(filepath.Join(dir, "mine.bin"), name, p)
		if err != nil {
			t.Fatal(err)
		}
		at, err := o.place(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{out, evidence, at} {
			if rel, err := filepath.Rel(dir, f); err != nil || !filepath.IsLocal(rel) || rel == "." {
				t.Errorf("%q leads to %s", name, f)
			}
		}
	}
	items := [][]byte{item(t, "../outside.bin", "x")}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "outside.bin"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := newMatcher(items)
	if err != nil {
		t.Fatal(err)
	}
	if in, err := testApp().collected(&collecting{dir: dir}, m, nil); err == nil {
		t.Errorf("found %v", in)
	}
}

func item(t *testing.T, name, content string) []byte {
	t.Helper()
	p, err := cmsfile.New().Plan(context.Background(), format.BytesArtifact(name, []byte(content)), format.Params{"digest": "sha256"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := author.Item(p, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Files are the items whose plans they give, whatever they are called, each once.
func TestMatcher(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	items := [][]byte{item(t, "a", "same"), item(t, "b", "same"), item(t, "c", "other"), item(t, "d", "longer content")}
	m, err := newMatcher(items)
	if err != nil {
		t.Fatal(err)
	}
	taken := map[int]bool{}
	for _, x := range []struct {
		name, content string
		want          int
		near          bool
	}{{"b", "same", 1, false}, {"x", "same", 0, false}, {"y", "same", -1, false}, {"c", "OTHER", -1, true}, {"d", "shorter", -1, true}, {"z", "other", 2, false}} {
		path := filepath.Join(dir, x.name)
		if err := os.WriteFile(path, []byte(x.content), 0o600); err != nil {
			t.Fatal(err)
		}
		it, near, _, err := m.match(ctx, input{path: path, name: x.name}, taken, &meter{})
		if err != nil {
			t.Fatal(err)
		}
		got := -1
		if it != nil {
			got = it.index
			taken[got] = true
		}
		if got != x.want || (near != nil) != x.near {
			t.Errorf("%s is item %d (near %v), want %d", x.name, got, near != nil, x.want)
		}
	}
}

// Items that are swapped, left out or added are not those of the request.
func TestCheckItems(t *testing.T) {
	a, b := item(t, "a", "1"), item(t, "b", "2")
	root, err := format.ItemsRoot([][]byte{a, b})
	if err != nil {
		t.Fatal(err)
	}
	r := &statement.Request{Command: statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Count: 2, Items: root.String()}}}
	if err := checkItems(r, [][]byte{a, b}); err != nil {
		t.Error(err)
	}
	for _, items := range [][][]byte{{b, a}, {a}, {a, b, b}, {a, a}, {}, nil} {
		if err := checkItems(r, items); err == nil {
			t.Errorf("%d other items are accepted", len(items))
		}
	}
	if err := checkItems(&statement.Request{Command: statement.Command{Name: statement.KeySuspend}}, nil); err == nil {
		t.Error("a command without items is accepted")
	}
	if _, err := merkle.ParseHash(root.String()); err != nil {
		t.Error(err)
	}
}

// A session is its owner's alone, of one server and person, and ends.
func TestSession(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("HOME", dir)
	now := time.Now()
	c := &config.Client{Server: "https://a.example", Name: "alice"}
	if err := writeSession(c, &wire.Session{Token: "secret", Name: "alice", Expires: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if s := readSession(c, now); s == nil || s.Token != "secret" {
		t.Fatalf("%v", s)
	}
	for _, other := range []*config.Client{{Server: "https://b.example", Name: "alice"}, {Server: "https://a.example", Name: "bob"}, {Server: "https://a.example", Name: "alice", Root: statement.ID{1}}} {
		if readSession(other, now) != nil {
			t.Errorf("%v uses another's session", other)
		}
	}
	if readSession(c, now.Add(time.Hour)) != nil {
		t.Error("it does not end")
	}
	path, err := sessionPath(c)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if readSession(c, now) != nil {
		t.Error("a session that others can read is used")
	}
	if err := errors.Join(dropSession(c), dropSession(c)); err != nil {
		t.Error(err)
	}
}

// Folders, globs, lists and what is left out.
func TestInputs(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a.exe", "sub/a.exe", "sub/b.exe", "sub/b.exe" + evidenceSuffix, "sub/.greatseal-b.exe", "sub/.b.exe.greatseal-journal"} {
		p := filepath.Join(dir, n)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(n), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	a := testApp()
	a.In = strings.NewReader("a.exe\r\nsub/b.exe\n\n")
	for _, x := range []struct {
		args      []string
		recursive bool
		from      string
		want      string
	}{
		{[]string{"a.exe", "a.exe", "./a.exe"}, false, "", "a.exe"},
		{[]string{"*.exe", "sub/*.exe"}, false, "", "a.exe sub/a.exe b.exe"},
		{[]string{"sub"}, true, "", "a.exe b.exe"},
		{nil, false, "-", "a.exe b.exe"},
	} {
		in, err := a.inputs(x.args, x.recursive, x.from)
		var names []string
		for _, i := range in {
			names = append(names, i.name)
		}
		if got := strings.Join(names, " "); err != nil || got != x.want {
			t.Errorf("%v: %q, %v: want %q", x.args, got, err, x.want)
		}
	}
	for _, args := range [][]string{{"sub"}, {"none.exe"}, {"*.dll"}, {}} {
		if in, err := a.inputs(args, false, ""); err == nil {
			t.Errorf("%v gives %v", args, in)
		}
	}
}

func TestSuggest(t *testing.T) {
	have := []string{"release", "nightly"}
	for got, want := range map[string]string{"relase": "did you mean release?", "nihgtly": "did you mean nightly?", "xyz": "there are: release, nightly"} {
		if s := suggest(got, have); s != want {
			t.Errorf("%s: %q", got, s)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := &App{Now: func() time.Time { return now }}
	for s, want := range map[string]time.Time{"": {}, "72h": now.Add(-72 * time.Hour), "-1h": now.Add(-time.Hour), "2026-01-01T00:00:00Z": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got, err := a.moment("since", s, true); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if _, err := a.moment("since", "soon", true); err == nil {
		t.Error("soon is a time")
	}
}
