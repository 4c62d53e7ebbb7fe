package firewall

import (
	"encoding/json/v2"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/rejection"
)

func example(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "example.yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func parseExample(t *testing.T) *Firewall {
	t.Helper()
	f, err := Parse(example(t))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func job(topic, target string, credentials ...string) Job {
	j := Job{Instance: "prod", Topic: topic, Purpose: "ecc_queue", Table: "sys_data_source", Credentials: credentials}
	if strings.HasPrefix(target, "/") {
		j.Targets = []Target{{Path: target}}
	} else if target != "" {
		a := netip.MustParseAddrPort("1.1.1.1:" + target[strings.LastIndexByte(target, ':')+1:])
		t, err := NewTarget(strings.Trim(target[:strings.LastIndexByte(target, ':')], "[]"), a.Port())
		if err != nil {
			panic(err)
		}
		j.Targets = []Target{t}
	}
	return j
}

// Invariants 1 and 2, on jobs that are vectors for who writes another agent.
func TestJudge(t *testing.T) {
	f := parseExample(t)
	b, err := os.ReadFile(filepath.Join("testdata", "jobs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name string `json:"name"`
		Job  struct {
			Instance    string   `json:"instance"`
			Topic       string   `json:"topic"`
			Purpose     string   `json:"purpose"`
			Table       string   `json:"table"`
			Targets     []string `json:"targets"`
			Credentials []string `json:"credentials"`
		} `json:"job"`
		Denied string `json:"denied"` // by which rule; empty: accepted
	}
	if err := json.Unmarshal(b, &cases, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, c := range cases {
		if c.Denied == "" {
			accepted++
		}
		t.Run(c.Name, func(t *testing.T) {
			j := Job{Instance: c.Job.Instance, Topic: c.Job.Topic, Purpose: c.Job.Purpose, Table: c.Job.Table, Credentials: c.Job.Credentials}
			for _, s := range c.Job.Targets {
				j.Targets = append(j.Targets, job("", s).Targets...)
			}
			_, err := f.Judge(j)
			check(t, err, c.Denied)
		})
	}
	if accepted < 5 || len(cases)-accepted < 15 {
		t.Errorf("%d of %d jobs are accepted: want at least 5, and 15 others", accepted, len(cases))
	}
	if _, err := (&Firewall{}).Judge(job("Command", "")); err == nil {
		t.Error("an empty firewall accepts")
	}
}

func check(t *testing.T, err error, rule string) {
	t.Helper()
	if rule == "" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, &rejection.Error{Code: rejection.FirewallDenied, Subject: rule}) {
		t.Errorf("%v, not a denial by %q", err, rule)
	}
}

// What an order says can be denied before its record is known; what could be
// accepted is not.
func TestPossible(t *testing.T) {
	f := parseExample(t)
	for _, c := range []struct{ topic, rule string }{
		{"JDBCProbe", ""}, {"REST", ""}, {"Command", ""}, {"SHELL", "no shell"}, {"SSHCommand", "default"}, {"x", "unknown topic"},
	} {
		check(t, f.Possible(job(c.topic, "")), c.rule)
	}
}

// Invariants 2 and 4: names resolve to public addresses unless a rule says more, and
// a grant is for its targets alone.
func TestGrant(t *testing.T) {
	f := parseExample(t)
	db := job("JDBC", "db.corp.example:5432", "reporting")
	g, err := f.Judge(db)
	if err != nil {
		t.Fatal(err)
	}
	web := job("REST", "api.weather.example:443")
	h, err := f.Judge(web)
	if err != nil {
		t.Fatal(err)
	}
	lit := job("JDBC", "10.1.2.3:3306")
	k, err := f.Judge(lit)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		g    *Grant
		t    Target
		addr string
		want bool
	}{
		{g, db.Targets[0], "10.9.9.9", true}, {g, db.Targets[0], "fd00::1", true}, {g, db.Targets[0], "127.0.0.1", false},
		{g, db.Targets[0], "8.8.8.8", false}, {g, db.Targets[0], "169.254.169.254", false}, {g, web.Targets[0], "8.8.8.8", false},
		{h, web.Targets[0], "8.8.8.8", true}, {h, web.Targets[0], "2606:4700::1", true},
		{h, web.Targets[0], "10.0.0.1", false}, {h, web.Targets[0], "127.0.0.1", false}, {h, web.Targets[0], "::1", false},
		{h, web.Targets[0], "::ffff:127.0.0.1", false}, {h, web.Targets[0], "::ffff:8.8.8.8", true}, {h, web.Targets[0], "169.254.169.254", false},
		{h, web.Targets[0], "fe80::1", false}, {h, web.Targets[0], "64:ff9b::7f00:1", false}, {h, web.Targets[0], "2002:7f00:1::", false},
		{h, web.Targets[0], "100.64.0.1", false}, {h, web.Targets[0], "0.0.0.0", false}, {h, web.Targets[0], "::", false},
		{h, web.Targets[0], "224.0.0.1", false}, {h, web.Targets[0], "192.168.1.1", false}, {h, web.Targets[0], "172.31.0.1", false},
		{k, lit.Targets[0], "10.1.2.3", true}, {k, lit.Targets[0], "10.1.2.4", false},
	} {
		if got := c.g.Allows(c.t, netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%s at %s: %v", c.t, c.addr, got)
		}
	}
	if h.Allows(web.Targets[0], netip.Addr{}) {
		t.Error("the zero address")
	}
}

func TestNewTarget(t *testing.T) {
	for _, s := range []string{"", "a b", "a..b", "-a", "a-", "2130706433", "127.1", "0x7f.1", "a.0x7f", "fe80::1%eth0", "a/b", "a:b", "ä.example", strings.Repeat("a", 64), "user@host"} {
		if _, err := NewTarget(s, 1); err == nil {
			t.Errorf("%q is a target", s)
		}
	}
	if _, err := NewTarget("a", 0); err == nil {
		t.Error("port 0")
	}
	if x, err := NewTarget("::ffff:10.0.0.1", 5); err != nil || x.Host != "10.0.0.1" {
		t.Errorf("%v %v", x, err)
	}
}

// Invariant 3, of the text.
func TestParseRefuses(t *testing.T) {
	rule := func(s string) string { return "version: 1\nrules:\n  - " + s + "\n" }
	good := "{name: a, action: accept, topics: [JDBC]}"
	if _, err := Parse([]byte(rule(good))); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"empty": "", "no version": "rules: []", "version 2": "version: 2", "unknown member": "version: 1\ndefault: accept",
		"two documents": rule(good) + "---\nversion: 1\n", "twice": "version: 1\nversion: 1\n",
		"unknown in a rule": rule("{name: a, action: accept, topics: [JDBC], hosts: [a]}"),
		"no name":           rule("{action: accept, topics: [JDBC]}"), "name default": rule("{name: default, action: accept, topics: [JDBC]}"),
		"no action": rule("{name: a, topics: [JDBC]}"), "action": rule("{name: a, action: allow, topics: [JDBC]}"),
		"no topics": rule("{name: a, action: accept}"), "unknown topic": rule("{name: a, action: accept, topics: [jdbc]}"),
		"same name": rule(good) + "  - " + good + "\n", "pattern of tables": rule("{name: a, action: accept, topics: [JDBC], tables: [\"*\"]}"),
		"no port":    rule("{name: a, action: accept, topics: [JDBC], targets: [host]}"),
		"port 0":     rule("{name: a, action: accept, topics: [JDBC], targets: [\"host:0\"]}"),
		"port 07":    rule("{name: a, action: accept, topics: [JDBC], targets: [\"host:07\"]}"),
		"middle *":   rule("{name: a, action: accept, topics: [JDBC], targets: [\"a*.b:1\"]}"),
		"two *":      rule("{name: a, action: accept, topics: [JDBC], targets: [\"*.*.b:1\"]}"),
		"long net":   rule("{name: a, action: accept, topics: [JDBC], targets: [\"10.0.0.1/8:1\"]}"),
		"bare v6":    rule("{name: a, action: accept, topics: [JDBC], targets: [\"::1:1\"]}"),
		"path ..":    rule("{name: a, action: accept, topics: [JDBC], targets: [\"/a/../b\"]}"),
		"path /*":    rule("{name: a, action: accept, topics: [JDBC], targets: [\"/*\"]}"),
		"addresses":  rule("{name: a, action: accept, topics: [JDBC], addresses: [any]}"),
		"rejecting":  rule("{name: a, action: reject, topics: [JDBC], addresses: [private]}"),
		"not a list": rule("{name: a, action: accept, topics: JDBC}"),
		"too large":  "# " + strings.Repeat("x", maxFile) + "\nversion: 1\n",
	} {
		if _, err := Parse([]byte(s)); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Invariant 3, of the file.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "firewall.yaml")
	if err := os.WriteFile(name, example(t), 0o644); err != nil {
		t.Fatal(err)
	}
	me := os.Geteuid()
	if _, err := Open(name, me); err != nil {
		t.Fatal(err)
	}
	refuse := func(what, name string) {
		t.Helper()
		if _, err := Open(name, me); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, m := range []os.FileMode{0o664, 0o646, 0o666} {
		must(t, os.Chmod(name, m))
		refuse(m.String(), name)
	}
	must(t, os.Chmod(name, 0o600))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(name, link))
	refuse("a link", link)
	refuse("a folder", dir)
	refuse("nothing", filepath.Join(dir, "none"))
	must(t, os.Chmod(dir, 0o777))
	refuse("a folder that others write", name)
	must(t, os.Chmod(dir, 0o700))
	if me == 0 {
		must(t, os.Chown(name, 12345, -1))
		refuse("another owner", name)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example(f))
	f.Add([]byte("version: 1\nrules:\n  - {name: a, action: accept, topics: [ANY], targets: [\"[::]/0:*\"], addresses: [\"0.0.0.0/0\"]}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fw, err := Parse(b)
		if err != nil {
			return
		}
		for _, r := range fw.rules {
			if r.Name == "" || len(r.Topics) == 0 || len(r.Topics) != len(r.fileRule.Topics) {
				t.Errorf("%+v", r)
			}
		}
		_, _ = fw.Judge(job("JDBC", "db.corp.example:5432", "reporting"))
	})
}
