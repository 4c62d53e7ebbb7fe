package release

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"app-1.2.3-x64.exe": "app-#-x64.exe", "app-1.2.4-x64.exe": "app-#-x64.exe", "app-2-x64.exe": "app-#-x64.exe", "app_x86_64.exe": "app_x86_64.exe",
		"app-64.exe": "app-64.exe", "app-32.exe": "app-32.exe", "hello_1.2-3_amd64.deb": "hello_#-#_amd64.deb", "libfoo.so.1.2.3": "libfoo.so.#",
		"app-v1.2.0-rc.1.exe": "app-v#.exe", "app-v1.2.0.exe": "app-v#.exe", "sha256sum.txt": "sha256sum.txt", "7zip.exe": "7zip.exe", "win32/app.dll": "win32/app.dll",
		"app-20240101.zip": "app-#.zip", "": "", "1.2": "#", "bin/v2/app": "bin/v#/app", "log4j-core-2.17.1.jar": "log4j-core-#.jar", "a1b2.dll": "a1b2.dll",
	} {
		if got := Fold(in); got != want {
			t.Errorf("%q is %q: want %q", in, got, want)
		}
	}
}

func facts(kv ...string) (out []format.Fact) {
	for i := 0; i+1 < len(kv); i += 2 {
		out = append(out, format.Fact{Name: kv[i], Value: kv[i+1]})
	}
	return out
}

func view(i int, name, kind, content string, kv ...string) server.FileView {
	return server.FileView{Index: i, Name: name, Format: kind, Digest: "sha256", Content: content, Size: 1000, Facts: facts(kv...)}
}

// Files are followed by their names, by names without versions, by what they say they
// are, by content: each once, and all are counted (invariant 2).
func TestPairs(t *testing.T) {
	old := []server.FileView{
		view(0, "a-1.0.exe", "pe", "01"), view(1, "b.dll", "pe", "02"), view(2, "x/lib.jar", "jar", "03"), view(3, "old.msi", "msi", "04", "upgrade-code", "{1}"),
		view(4, "same.txt", "cms", "05"), view(5, "gone.dll", "pe", "06"), view(6, "was.bin", "cms", "07"),
	}
	now := []server.FileView{
		view(0, "a-1.1.exe", "pe", "11"), view(1, "b.dll", "pe", "12"), view(2, "y/lib.jar", "jar", "13"), view(3, "new.msi", "msi", "14", "upgrade-code", "{1}"),
		view(4, "same.txt", "cms", "05"), view(5, "come.dll", "pe", "16"), view(6, "is.bin", "cms", "07"),
	}
	if got := fmt.Sprint(pair(old, now)); got != "[0 1 2 3 4 -1 6]" {
		t.Error(got)
	}
	d := Between(old, now, true)
	if d.Counts != (Counts{Added: 1, Removed: 1, Changed: 4, Unchanged: 2}) || d.FileCount != 7 { // a file that was renamed is told
		t.Errorf("%+v %d", d.Counts, d.FileCount)
	}
	if d := Between(nil, now, false); d.Counts != (Counts{Added: 7}) || !has(d.Alerts, "first-release", "") || !strings.HasPrefix(d.Summary, "the first release: 7 files") {
		t.Errorf("%+v", d)
	}
	if d := Between(old, nil, true); d.Counts != (Counts{Removed: 7}) {
		t.Errorf("%+v", d.Counts)
	}
	// Two of one name: no file is followed twice.
	twice := []server.FileView{view(0, "a", "pe", "21"), view(1, "a", "pe", "22"), view(2, "a", "pe", "23")}
	if d := Between(twice[:1], twice, true); d.Counts != (Counts{Added: 2, Unchanged: 1}) {
		t.Errorf("%+v", d.Counts)
	}
}

// What lies behind the end of a list is not made up (invariant 3).
func TestListsThatDoNotStandWhole(t *testing.T) {
	list := func(from, to, shown int) []format.Fact {
		var all []string
		for i := from; i < to; i++ {
			all = append(all, fmt.Sprintf("lib%03d.dll", i))
		}
		d := format.NewDetails(0)
		d.List("import", shown, all)
		return d.Facts()
	}
	for _, c := range []struct {
		old, now []format.Fact
		want     string
	}{
		{list(0, 50, 100), list(0, 50, 100), "[]"},
		{list(0, 50, 100), list(1, 51, 100), "[{imports added import  lib050.dll} {imports removed import lib000.dll }]"},
		// Ten of fifty stand: of what follows the tenth nothing is said but that it differs.
		{list(0, 50, 10), list(0, 51, 10), "import-list"},
		{list(0, 50, 10), list(1, 51, 10), "lib000.dll }"},
		{list(0, 9, 10), list(0, 50, 10), "added import  lib009.dll"},
		{list(0, 50, 10), list(0, 9, 10), "removed import lib009.dll"},
	} {
		got := fmt.Sprint(factChanges(c.old, c.now))
		if c.want == "[]" && got != "[]" || !strings.Contains(got, c.want) {
			t.Errorf("%s: want %s", got, c.want)
		}
		if strings.Contains(got, "lib010") || strings.Contains(got, "lib011") {
			t.Errorf("said of what does not stand: %s", got)
		}
	}
}

// Each alert has its cause, and nothing else brings it.
func TestAlerts(t *testing.T) {
	for _, c := range []struct {
		kind     string
		old, now []string
		code     string
	}{
		{"pe", []string{"file-version", "2.0"}, []string{"file-version", "1.9"}, "version-down"},
		{"pe", []string{"file-version", "2.0"}, []string{"file-version", "2.0.0.0"}, "version-same"},
		{"pe", []string{"file-version", "2.0"}, nil, "version-gone"},
		{"pe", []string{"company-name", "A"}, nil, "publisher-changed"},
		{"pe", []string{"product-name", "App 1"}, []string{"product-name", "Other"}, "product-changed"},
		{"pe", []string{"machine", "x86"}, []string{"machine", "ARM64"}, "architecture-changed"},
		{"pe", []string{"signatures", "1", "signer", "primary: CN=A"}, []string{"signatures", "0"}, "signer-gone"},
		{"pe", []string{"hardening", "ASLR", "hardening", "CFG"}, []string{"hardening", "ASLR"}, "hardening-lost"},
		{"pe", nil, []string{"lacks", "ASLR"}, "no-hardening"},
		{"pe", nil, []string{"import", "winhttp.dll"}, "new-import"},
		{"pe", nil, []string{"overlay", "12 bytes after the last section"}, "new-overlay"},
		{"macho", []string{"flags", "runtime"}, []string{"flags", "none"}, "hardening-lost"},
		{"macho", nil, []string{"entitlement com.apple.security.cs.disable-library-validation", "true"}, "new-permission"},
		{"macho", []string{"entitlement com.apple.security.app-sandbox", "true"}, nil, "hardening-lost"},
		{"macho", nil, []string{"entitlement get-task-allow", "true"}, "debug-build"},
		{"macho", nil, []string{"library", "/usr/lib/libcurl.4.dylib"}, "new-import"},
		{"macho", nil, []string{"search-path", "@loader_path/.."}, "new-import"},
		{"appx", nil, []string{"capability", "runFullTrust"}, "new-permission"},
		{"appx", []string{"publisher", "CN=A"}, []string{"publisher", "CN=B"}, "publisher-changed"},
		{"apk", nil, []string{"debuggable", "true"}, "debug-build"},
		{"apk", []string{"version-code", "10"}, []string{"version-code", "9"}, "version-down"},
		{"apk", []string{"target-sdk", "34"}, []string{"target-sdk", "28"}, "version-down"},
		{"msi", nil, []string{"custom-action", "X: DLL in the package, type 1"}, "new-script"},
		{"nuget", nil, []string{"script", "tools/init.ps1"}, "new-script"},
		{"nuget", []string{"version", "1.0.0"}, []string{"version", "1.0.0-beta"}, "version-down"},
		{"rpm", []string{"version", "1", "release", "2"}, []string{"version", "1", "release", "1"}, "version-down"},
		{"rpm", []string{"script", "after installing: /bin/sh, 3 bytes, sha256 00"}, []string{"script", "after installing: /bin/sh, 4 bytes, sha256 01"}, "script-changed"},
		{"deb", nil, []string{"setuid", "/bin/su, mode 4755"}, "setuid"},
		{"mcuboot", []string{"security-counter", "5"}, []string{"security-counter", "4"}, "version-down"},
		{"mcuboot", []string{"load-address", "0x1000"}, []string{"load-address", "0x2000"}, "load-address"},
		{"bundle", []string{"version", "1.0", "build", "8"}, []string{"version", "1.0", "build", "7"}, "version-down"},
	} {
		old, now := []server.FileView{view(0, "f", c.kind, "01", c.old...)}, []server.FileView{view(0, "f", c.kind, "02", c.now...)}
		if d := Between(old, now, true); !has(d.Alerts, c.code, "") {
			t.Errorf("%s %v → %v: no %s in %+v", c.kind, c.old, c.now, c.code, d.Alerts)
		}
		if d := Between(old, []server.FileView{view(0, "f", c.kind, "02", c.old...)}, true); has(d.Alerts, c.code, "") && c.code != "version-same" {
			t.Errorf("%s %v: %s without a change", c.kind, c.old, c.code)
		}
	}
	big := view(0, "f", "pe", "02")
	big.Size = 1500
	if d := Between([]server.FileView{view(0, "f", "cms", "01")}, []server.FileView{big}, true); !has(d.Alerts, "size", "+50 %") || !has(d.Alerts, "format-changed", "cms to pe") {
		t.Errorf("%+v", d.Alerts)
	}
	// The same warning in both is no news.
	if d := Between([]server.FileView{view(0, "f", "pe", "01", "lacks", "ASLR")}, []server.FileView{view(0, "f", "pe", "02", "lacks", "ASLR")}, true); has(d.Alerts, "no-hardening", "") {
		t.Errorf("%+v", d.Alerts)
	}
}

// many are n files with a dozen facts each.
func many(n, version int) []server.FileView {
	out := make([]server.FileView, n)
	for i := range out {
		out[i] = view(i, fmt.Sprintf("dir%d/lib%c%d-1.%d.dll", i%50, 'a'+rune(i%26), i, version), "pe", fmt.Sprintf("%064x", i*10+version%10*(i%2)),
			"machine", "x86-64", "product-name", "Suite", "file-version", fmt.Sprintf("1.%d.0.0", version), "company-name", "Example Ltd", "original-filename", fmt.Sprintf("lib%d.dll", i),
			"hardening", "ASLR", "hardening", "DEP", "import", "kernel32.dll", "import", "user32.dll", "import", fmt.Sprintf("lib%d.dll", version), "functions", fmt.Sprintf("%d, sha256 00", version), "exported-name", "x")
	}
	return out
}

func BenchmarkBetween(b *testing.B) {
	old, now := many(5000, 1), many(5000, 2)
	for b.Loop() {
		Between(old, now, true)
	}
}

// Thousands of files are paged, and none is lost.
func TestPages(t *testing.T) {
	old, now := many(3000, 1), many(3100, 2)
	whole := Between(old, now, true)
	if whole.Counts != (Counts{Added: 100, Changed: 1500, Unchanged: 1500}) {
		t.Fatalf("%+v", whole.Counts)
	}
	seen := map[string]bool{}
	for from := 0; ; {
		d := Between(old, now, true)
		d.Page(from, 700)
		for _, f := range d.Files {
			seen[f.Name()] = true
		}
		if len(d.Alerts) > MaxAlerts || d.FileCount != whole.FileCount {
			t.Fatalf("%d alerts, %d files", len(d.Alerts), d.FileCount)
		}
		if from = d.Next; from == 0 {
			break
		}
	}
	if len(seen) != 3100 {
		t.Errorf("%d files", len(seen))
	}
}

// shelf is requests of one policy.
type shelf struct {
	requests []*store.Request
	items    map[statement.ID][][]byte
	files    map[statement.ID][]store.File
}

func (s *shelf) add(t *testing.T, policy string, state store.State, receipt uint64, names ...string) statement.ID {
	t.Helper()
	if s.items == nil {
		s.items, s.files = map[statement.ID][][]byte{}, map[statement.ID][]store.File{}
	}
	id := statement.ID(sha256.Sum256([]byte(fmt.Sprint(len(s.requests)))))
	r := &store.Request{ID: id, Policy: policy, State: state, Receipt: receipt, Requester: "alice", Count: len(names), Command: statement.Sign,
		Created: time.Unix(int64(len(s.requests)), 0), Updated: time.Unix(int64(len(s.requests)), 0)}
	for i, n := range names {
		sum := sha256.Sum256([]byte(n))
		p := &format.Plan{Format: "cms", Version: 1, Digest: "sha256", Content: sum[:], Params: []format.Fact{}, Facts: []format.Fact{}, Body: []byte{}}
		enc, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		it := &format.Item{Plan: enc, Name: n, Claims: []format.Fact{}}
		b, err := it.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s.items[id] = append(s.items[id], b)
		s.files[id] = append(s.files[id], store.FileOf(id, i, it, p))
	}
	s.requests = append(s.requests, r)
	return id
}

func (s *shelf) Get(_ context.Context, id statement.ID) (*store.Request, error) {
	for _, r := range s.requests {
		if r.ID == id {
			return r, nil
		}
	}
	return nil, store.ErrNotFound
}

func (s *shelf) List(_ context.Context, f store.Filter) (out []*store.Request, _ error) {
	for i := len(s.requests) - 1; i >= 0; i-- {
		if r := s.requests[i]; r.Policy == f.Policy && r.State == f.States[0] {
			out = append(out, r)
		}
	}
	return out, nil
}

func (s *shelf) Items(_ context.Context, id statement.ID) ([][]byte, error) { return s.items[id], nil }

func (s *shelf) Files(_ context.Context, id statement.ID) ([]store.File, error) {
	return s.files[id], nil
}

func (s *shelf) View(_ context.Context, r *store.Request, _ bool) (*server.View, error) {
	return &server.View{ID: r.ID.String(), Count: r.Count, Recomputed: []string{"bob"}}, nil
}

// The last release is the newest of those that share the most files, under the same
// policy, before this one.
func TestLastRelease(t *testing.T) {
	s := &shelf{}
	first := s.add(t, "release", store.Executed, 1, "app-1.0.exe", "lib-1.0.dll", "doc.txt")
	s.add(t, "other", store.Executed, 2, "app-1.1.exe", "lib-1.1.dll", "doc.txt")
	second := s.add(t, "release", store.Executed, 3, "app-1.1.exe", "lib-1.1.dll", "doc.txt")
	tool := s.add(t, "release", store.Executed, 4, "tool-1.0.exe")
	s.add(t, "release", store.Cancelled, 0, "app-1.2.exe", "lib-1.2.dll", "doc.txt")
	open := s.add(t, "release", store.Pending, 0, "app-1.3.exe", "lib-1.3.dll", "new.txt")
	of := func(id statement.ID, o Options) *Difference {
		t.Helper()
		d, err := Of(t.Context(), s, s, id, o)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := of(open, Options{})
	if d.Against.ID != second.String() || d.Against.Shares != 2 || len(d.Others) != 2 || !strings.Contains(d.Why, "2 of 3") || d.Recomputed[0] != "bob" {
		t.Errorf("%+v: %s", d.Against, d.Why)
	}
	if d.Counts != (Counts{Added: 1, Removed: 1, Changed: 2}) {
		t.Errorf("%+v", d.Counts)
	}
	// Of an executed one, what was before it.
	if d := of(second, Options{}); d.Against.ID != first.String() {
		t.Errorf("%+v", d.Against)
	}
	if d := of(first, Options{}); d.Against != nil || !has(d.Alerts, "first-release", "") {
		t.Errorf("%+v", d)
	}
	// A reader chooses another, of this policy and executed.
	if d := of(open, Options{Against: tool.String()}); d.Against.ID != tool.String() || d.Why != "you chose it" || d.Counts.Removed != 1 {
		t.Errorf("%+v", d)
	}
	for _, bad := range []string{s.requests[1].ID.String(), s.requests[4].ID.String(), open.String(), "xyz", strings.Repeat("g", 64), strings.ToUpper(first.String())} {
		var p *server.Problem
		if _, err := Of(t.Context(), s, s, open, Options{Against: bad}); !errors.As(err, &p) || p.Status != 422 {
			t.Errorf("against %s: %v", bad, err)
		}
	}
	if _, err := Of(t.Context(), s, s, open, Options{Against: strings.Repeat("0", 64)}); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
