package firewall

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/rejection"
)

const example = `
version: 1
rules:
  - name: never the vault
    action: reject
    topics: [ANY]
    targets: ["vault.corp.example:*"]
  - name: reports
    action: accept
    topics: [DATABASES]
    purposes: [ecc_queue]
    tables: [sys_data_source]
    instances: [prod]
    targets: ["*.corp.example:5432", "10.1.0.0/16:3306", "/var/lib/reports/*"]
    credentials: [reporting]
    addresses: [private]
  - name: weather
    action: accept
    topics: [REST]
    targets: ["api.weather.example:443"]
  - name: no shell
    action: reject
    topics: [SHELL]
  - name: commands
    action: accept
    topics: [COMMAND]
`

func parseExample(t *testing.T) *Firewall {
	t.Helper()
	f, err := Parse([]byte(example))
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

// Invariants 1 and 2.
func TestJudge(t *testing.T) {
	f := parseExample(t)
	for _, c := range []struct {
		name string
		job  Job
		rule string // empty: accepted
	}{
		{"a database", job("JDBCProbe", "db.corp.example:5432", "reporting"), ""},
		{"without a credential", job("JDBC", "db.corp.example:5432"), ""},
		{"an address of a prefix", job("JDBC", "10.1.2.3:3306", "reporting"), ""},
		{"a file", job("JDBC", "/var/lib/reports/a.db"), ""},
		{"a file elsewhere", job("JDBC", "/var/lib/reports.db"), "default"},
		{"the folder itself", job("JDBC", "/var/lib/reports"), "default"},
		{"upper case", job("JDBC", "DB.corp.example.:5432", "reporting"), ""},
		{"the domain itself", job("JDBC", "corp.example:5432", "reporting"), "default"},
		{"a name that ends alike", job("JDBC", "evilcorp.example:5432", "reporting"), "default"},
		{"another port", job("JDBC", "db.corp.example:22", "reporting"), "default"},
		{"another prefix", job("JDBC", "10.2.2.3:3306", "reporting"), "default"},
		{"another credential", job("JDBC", "db.corp.example:5432", "admin"), "default"},
		{"two credentials", job("JDBC", "db.corp.example:5432", "reporting", "admin"), "default"},
		{"a rejected target", job("JDBC", "vault.corp.example:5432", "reporting"), "never the vault"},
		{"another topic", job("SSH", "db.corp.example:5432", "reporting"), "default"},
		{"the topic above", job("ANY", "db.corp.example:5432"), "default"},
		{"no target where one is named", job("REST", ""), ""},
		{"a target where none is named", job("PYTHON", "db.corp.example:5432"), "default"},
		{"a credential where none is named", job("PYTHON", "", "reporting"), "default"},
		{"a command", job("Command", ""), ""},
		{"a child rejected", job("SHELL", ""), "no shell"},
		{"an unknown topic", job("Telnet", ""), "unknown topic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Judge(c.job)
			check(t, err, c.rule)
		})
	}
	for _, change := range []func(*Job){
		func(j *Job) { j.Instance = "test" }, func(j *Job) { j.Purpose = "*" }, func(j *Job) { j.Table = "other" },
	} {
		j := job("JDBC", "db.corp.example:5432", "reporting")
		change(&j)
		_, err := f.Judge(j)
		check(t, err, "default")
	}
	two := job("JDBC", "db.corp.example:5432")
	two.Targets = append(two.Targets, job("JDBC", "elsewhere.example:5432").Targets...)
	_, err := f.Judge(two)
	check(t, err, "default")
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
	if err := os.WriteFile(name, []byte(example), 0o644); err != nil {
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
	f.Add([]byte(example))
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
