package charter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/statement"
)

func node(need int, group string) charter.Node { return charter.Node{Need: need, Group: group} }

func all(of ...charter.Node) *charter.Node { return &charter.Node{Need: len(of), Of: of} }

func policy(c *charter.Charter, name string, f func(*charter.Policy)) {
	p := c.Policies[name]
	f(&p)
	c.Policies[name] = p
}

func command(c *charter.Charter, name statement.CommandName, f func(*charter.Rule)) {
	r := c.Commands[name]
	f(&r)
	c.Commands[name] = r
}

func quorum(c *charter.Charter, n *charter.Node) {
	policy(c, "windows", func(p *charter.Policy) { p.Rule.Quorum, p.Upload = n, false })
}

func ssh(name string) []charter.Credential {
	return []charter.Credential{charter.CredentialOf(credentialtest.SSH(name).Credential())}
}

// Invariants 1 and 2: each edit of a good charter is refused, at its path, with a
// reason.
func TestCheckRefuses(t *testing.T) {
	deep := node(1, "release")
	for range 9 {
		deep = charter.Node{Need: 1, Of: []charter.Node{deep}}
	}
	var many []charter.Node
	for range 20 {
		many = append(many, node(1, "release"))
	}
	for _, c := range []struct {
		path, text string
		edit       func(*charter.Charter)
	}{
		{"deployment", "want 1 to 64", func(c *charter.Charter) { c.Deployment = "Example" }},
		{"version", "want 1", func(c *charter.Charter) { c.Version = 0 }},
		{"previous", "version 1 has no previous", func(c *charter.Charter) { c.Previous[0] = 1 }},
		{"previous", "every other one has", func(c *charter.Charter) { c.Version = 2 }},
		{"created", "whole seconds in UTC", func(c *charter.Charter) { c.Created = c.Created.Add(time.Millisecond) }},
		{"keeper.receipts", "Ed25519", func(c *charter.Charter) { c.Keeper.Receipts += "=" }},
		{"keeper.logKey", "is the key of receipts too", func(c *charter.Charter) { c.Keeper.LogKey = c.Keeper.Receipts }},
		{"keeper.log", "log's name", func(c *charter.Charter) { c.Keeper.Log = "a log" }},
		{"people", "there are none", func(c *charter.Charter) { c.People = nil }},
		{"people.Zoe", "person", func(c *charter.Charter) { c.People["Zoe"] = charter.Person{Credentials: ssh("zoe")} }},
		{"people.alice.name", "one line", func(c *charter.Charter) {
			p := c.People["alice"]
			p.Name = "a\nb"
			c.People["alice"] = p
		}},
		{"people.zoe.credentials", "there are none", func(c *charter.Charter) { c.People["zoe"] = charter.Person{} }},
		{"people.zoe.credentials", "at most 16", func(c *charter.Charter) {
			c.People["zoe"] = charter.Person{Credentials: make([]charter.Credential, 17)}
		}},
		{"people.zoe.credentials[0]", "of 0 kinds", func(c *charter.Charter) { c.People["zoe"] = charter.Person{Credentials: make([]charter.Credential, 1)} }},
		{"people.zoe.credentials[0]", "of 2 kinds", func(c *charter.Charter) {
			k := ssh("zoe")
			k[0].X509 = "x"
			c.People["zoe"] = charter.Person{Credentials: k}
		}},
		{"people.zoe.credentials[0]", "ssh", func(c *charter.Charter) {
			c.People["zoe"] = charter.Person{Credentials: []charter.Credential{{SSH: "ssh-dss AAAA"}}}
		}},
		{"people.zoe.credentials[0]", "same key as people.alice.credentials[0]", func(c *charter.Charter) { c.People["zoe"] = charter.Person{Credentials: ssh("alice")} }},
		{"machines.zoe.credentials[0]", "same key as people.alice.credentials[0]", func(c *charter.Charter) { c.Machines["zoe"] = charter.Machine{Credentials: ssh("alice")} }},
		{"people.zoe.credentials[1]", "same key as people.zoe.credentials[0]", func(c *charter.Charter) {
			c.People["zoe"] = charter.Person{Credentials: append(ssh("zoe"), ssh("zoe")...)}
		}},
		{"people.zoe.credentials[0]", "canonical form", func(c *charter.Charter) {
			c.People["zoe"] = charter.Person{Credentials: []charter.Credential{{SSH: ssh("zoe")[0].SSH + " zoe@laptop"}}}
		}},
		{"machines.alice", "is the name of a person too", func(c *charter.Charter) { c.Machines["alice"] = charter.Machine{Credentials: ssh("zoe")} }},
		{"machines.ci.owner", "there is no person", func(c *charter.Charter) { c.Machines["ci"] = charter.Machine{Owner: "scanner", Credentials: ssh("ci")} }},
		{"groups.alice", "is the name of a person", func(c *charter.Charter) { c.Groups["alice"] = charter.Group{Members: []string{"bob"}} }},
		{"groups.release.members", "there are none", func(c *charter.Charter) { c.Groups["release"] = charter.Group{} }},
		{"groups.x.members[1]", "alice stands twice", func(c *charter.Charter) { c.Groups["x"] = charter.Group{Members: []string{"alice", "alice"}} }},
		{"groups.x.members[0]", "there is no person or machine", func(c *charter.Charter) { c.Groups["x"] = charter.Group{Members: []string{"zoe"}} }},
		{"groups.x.members[0]", "release is a group", func(c *charter.Charter) { c.Groups["x"] = charter.Group{Members: []string{"release"}} }},
		{"groups.x.members", "alice is a person and scanner a machine", func(c *charter.Charter) { c.Groups["x"] = charter.Group{Members: []string{"alice", "scanner"}} }},
		{"keys.x.uri", "want a key's URI", func(c *charter.Charter) { c.Keys["x"] = charter.Key{URI: "release", Algorithm: "ed25519"} }},
		{"keys.x.uri", "is the key of keys.release", func(c *charter.Charter) {
			c.Keys["x"] = charter.Key{URI: "pkcs11:object=rele%61se;token=hsm1;type=private", Algorithm: "rsa-3072"}
		}},
		{"keys.x.uri", "pin-value", func(c *charter.Charter) {
			c.Keys["x"] = charter.Key{URI: "pkcs11:object=x?pin-value=1234", Algorithm: "rsa-3072"}
		}},
		{"keys.x.uri", "pin-value", func(c *charter.Charter) {
			c.Keys["x"] = charter.Key{URI: "pkcs11:object=x;pin-value=1234", Algorithm: "rsa-3072"}
		}},
		{"keys.x.uri", "names no object", func(c *charter.Charter) { c.Keys["x"] = charter.Key{URI: "pkcs11:token=x", Algorithm: "rsa-3072"} }},
		{"keys.x.uri", "twice", func(c *charter.Charter) {
			c.Keys["x"] = charter.Key{URI: "pkcs11:object=x;object=y", Algorithm: "rsa-3072"}
		}},
		{"keys.x.uri", "soft:", func(c *charter.Charter) { c.Keys["x"] = charter.Key{URI: "soft:../x", Algorithm: "rsa-3072"} }},
		{"keys.release.algorithm", "is not an algorithm", func(c *charter.Charter) { c.Keys["release"] = charter.Key{URI: "soft:r", Algorithm: "rsa-2048"} }},
		{"keys.release.scheme", "does not fit", func(c *charter.Charter) {
			c.Keys["release"] = charter.Key{URI: "soft:r", Algorithm: "rsa-3072", Scheme: "ed25519"}
		}},
		{"policies.windows.key", "there is no key", func(c *charter.Charter) { policy(c, "windows", func(p *charter.Policy) { p.Key = "x" }) }},
		{"policies.windows.formats", "there are none", func(c *charter.Charter) { policy(c, "windows", func(p *charter.Policy) { p.Formats = nil }) }},
		{"policies.windows.formats[1]", "stands twice", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Formats = []string{"pe", "pe"} })
		}},
		{"policies.windows.formats[1]", "out of order", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Formats = []string{"pe", "msi"} })
		}},
		{"policies.windows.names[0]", "not a pattern", func(c *charter.Charter) { policy(c, "windows", func(p *charter.Policy) { p.Names = []string{"a[b"} }) }},
		{"policies.windows.maxItems", "want 1 to", func(c *charter.Charter) { policy(c, "windows", func(p *charter.Policy) { p.MaxItems = -1 }) }},
		{"policies.windows.window.to", "not later", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Window = &charter.Window{From: "18:00", To: "08:00"} })
		}},
		{"policies.windows.window.from", "time of day", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Window = &charter.Window{From: "8:00", To: "09:00"} })
		}},
		{"policies.windows.window.days[0]", "want mon", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Window = &charter.Window{Days: []string{"Mo"}, From: "08:00", To: "09:00"} })
		}},
		{"policies.windows.timestamp[0]", "want self", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Timestamp = []string{"ftp://x"} })
		}},
		{"policies.windows.timestamp[0]", "password", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Timestamp = []string{"https://a:b@x"} })
		}},
		{"policies.windows.timestamp[0]", "timestamping section", func(c *charter.Charter) { c.Timestamping = nil }},
		{"policies.windows.upload", "without an inspector", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) {
				p.Rule.Quorum = all(node(1, "release"), node(1, "security"), node(1, "gate"))
			})
		}},
		{"policies.windows.upload", "without an inspector", func(c *charter.Charter) {
			c.Groups["gate"] = charter.Group{Members: []string{"scanner", "inspector"}}
			policy(c, "windows", func(p *charter.Policy) { p.Rule.Quorum = all(node(1, "release"), node(1, "gate")) })
		}},
		{"policies.nightly.upload", "there is no quorum", func(c *charter.Charter) { policy(c, "nightly", func(p *charter.Policy) { p.Upload = true }) }},
		{"policies.windows.rule.requesters", "there are none", func(c *charter.Charter) { policy(c, "windows", func(p *charter.Policy) { p.Rule.Requesters = nil }) }},
		{"policies.windows.rule.requesters[0]", "there is no person", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Rule.Requesters = []string{"zoe"} })
		}},
		{"policies.windows.rule", "has no quorum", func(c *charter.Charter) { quorum(c, nil) }},
		{"policies.windows.rule", "want one of them", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Rule.Unattended = true; p.Rule.Veto = nil })
		}},
		{"policies.windows.rule.veto[0]", "there is no group", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Rule.Veto = []string{"alice"} })
		}},
		{"policies.windows.rule.expires", "want 1m", func(c *charter.Charter) {
			policy(c, "windows", func(p *charter.Policy) { p.Rule.Expires = charter.Duration(time.Second) })
		}},
		{"policies.windows.rule.quorum", "exactly one of", func(c *charter.Charter) { quorum(c, &charter.Node{}) }},
		{"policies.windows.rule.quorum", "exactly one of", func(c *charter.Charter) { quorum(c, &charter.Node{Group: "release", Member: "alice"}) }},
		{"policies.windows.rule.quorum.of[1]", "group security has 2 members, needs 3", func(c *charter.Charter) { quorum(c, all(node(1, "release"), node(3, "security"))) }},
		{"policies.windows.rule.quorum.of[0].need", "want 1 to 64", func(c *charter.Charter) { quorum(c, all(node(-1, "release"))) }},
		{"policies.windows.rule.quorum.need", "is missing", func(c *charter.Charter) { quorum(c, &charter.Node{Of: []charter.Node{node(1, "release")}}) }},
		{"policies.windows.rule.quorum.need", "2 of 1", func(c *charter.Charter) { quorum(c, &charter.Node{Need: 2, Of: []charter.Node{node(1, "release")}}) }},
		{"policies.windows.rule.quorum.need", "alice is one", func(c *charter.Charter) { quorum(c, &charter.Node{Need: 2, Member: "alice"}) }},
		{"policies.windows.rule.quorum.of[0].of[0].of[0].of[0].of[0].of[0].of[0].of[0]", "nested deeper", func(c *charter.Charter) { quorum(c, &deep) }},
		{"policies.windows.rule.quorum", "more than 4096 ways", func(c *charter.Charter) { quorum(c, &charter.Node{Need: 10, Of: many}) }},
		{"policies.windows.rule.quorum", "too few; needs 3 different voters", func(c *charter.Charter) { quorum(c, all(node(2, "security"), charter.Node{Member: "dave"})) }},
		{"policies.windows.rule.quorum", "when ci, which bob owns, asks", func(c *charter.Charter) { quorum(c, all(node(3, "release"))) }},
		{"policies.windows.rule.quorum", "when alice asks", func(c *charter.Charter) {
			quorum(c, all(node(3, "release")))
			policy(c, "windows", func(p *charter.Policy) { p.Rule.Requesters = []string{"alice"} })
		}},
		{"policies.windows.rule.quorum", "machines alone satisfy it", func(c *charter.Charter) {
			quorum(c, &charter.Node{Need: 1, Of: []charter.Node{node(1, "release"), node(1, "gate")}})
		}},
		{"commands.sign", "stand in policies", func(c *charter.Charter) { c.Commands["sign"] = c.Commands["key.resume"] }},
		{"commands.key.copy", "is not a command", func(c *charter.Charter) { c.Commands["key.copy"] = c.Commands["key.resume"] }},
		{"commands.charter.replace", "is missing", func(c *charter.Charter) { delete(c.Commands, statement.CharterReplace) }},
		{"commands.charter.replace.unattended", "want a quorum", func(c *charter.Charter) {
			c.Commands[statement.CharterReplace] = charter.Rule{Requesters: []string{"bob"}, Unattended: true}
		}},
		{"commands.charter.replace.quorum", "say need: 2, or need: 1", func(c *charter.Charter) {
			command(c, statement.CharterReplace, func(r *charter.Rule) { r.Quorum = &charter.Node{Group: "officers"} })
		}},
		{"commands.key.resume.quorum", "machines alone would decide", func(c *charter.Charter) {
			command(c, statement.KeyResume, func(r *charter.Rule) { r.Quorum = &charter.Node{Group: "gate"} })
		}},
		{"timestamping.key", "there is no key", func(c *charter.Charter) { c.Timestamping.Key = "x" }},
		{"timestamping.key", "stamps and nothing else", func(c *charter.Charter) { c.Timestamping.Key = "release" }},
		{"timestamping.policy", "object identifier", func(c *charter.Charter) { c.Timestamping.Policy = "1.03" }},
	} {
		x := example(t)
		c.edit(x)
		err := x.Check()
		if err == nil || !strings.Contains(err.Error(), c.path+": ") || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s, %s: %v", c.path, c.text, err)
		}
	}
}

// One key in two guises is one key: an SSH key and the X.509 form of it.
func TestCheckOneKeyInTwoGuises(t *testing.T) {
	x := example(t)
	for name, cs := range map[string][]charter.Credential{"zoe": {charter.CredentialOf(sshAsX509(t, "alice"))}} {
		x.People[name] = charter.Person{Credentials: cs}
	}
	if err := x.Check(); err == nil || !strings.Contains(err.Error(), "same key as people.alice") {
		t.Error(err)
	}
}

func TestLeakDefaultApproverIsAnybody(t *testing.T) {
	for _, n := range []*charter.Node{nil, {}, {Need: 1}, {Group: ""}, {Need: 1, Of: []charter.Node{}}, {Group: "nobody"}} {
		x := example(t)
		quorum(x, n)
		if err := x.Check(); err == nil {
			t.Errorf("quorum %v is accepted", n)
		}
	}
	x := example(t)
	delete(x.Commands, statement.KeyResume)
	if err := x.Check(); err != nil {
		t.Errorf("a command without a rule is nobody's, not an error: %v", err)
	}
}

func TestCheckAcceptsOneOfficer(t *testing.T) {
	x := example(t)
	x.Groups["officers"] = charter.Group{Members: []string{"alice"}}
	for n, r := range x.Commands {
		if r.Quorum != nil {
			r.Quorum = &charter.Node{Group: "officers"}
			r.Requesters = []string{"bob"}
			x.Commands[n] = r
		}
	}
	if err := x.Check(); err != nil {
		t.Error(err)
	}
	found := false
	for _, w := range charter.Lint(x) {
		found = found || w.Code == "single-officer"
	}
	if !found {
		t.Error("no warning about a single officer")
	}
}

// Three officers of whom two endorse are all needed: the third asks.
func TestLintNamesAnOfficerWithoutASpare(t *testing.T) {
	for _, c := range []struct {
		need int
		warn bool
	}{{1, false}, {2, true}} {
		x := example(t)
		x.Groups["officers"] = charter.Group{Members: []string{"bob", "carol", "dave"}}
		for n, r := range x.Commands {
			if r.Quorum != nil {
				r.Quorum = &charter.Node{Group: "officers", Need: c.need}
				r.Requesters = []string{"officers"}
				x.Commands[n] = r
			}
		}
		if err := x.Check(); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, w := range charter.Lint(x) {
			found = found || w.Code == "no-spare-officer"
		}
		if found != c.warn {
			t.Errorf("need %d of 3 officers: warned %v", c.need, found)
		}
	}
}

// A signature over a digest that a file's bytes give is good wherever that digest is
// asked for: such formats want keys of their own.
func TestLintNamesKeysOfBareDigests(t *testing.T) {
	find := func(x *charter.Charter) (out []string) {
		if err := x.Check(); err != nil {
			t.Fatal(err)
		}
		for _, w := range charter.Lint(x) {
			if w.Code == "bare-digest" {
				out = append(out, w.Path+" "+w.Text)
			}
		}
		return out
	}
	formats := func(policies map[string][]string) *charter.Charter {
		x := example(t)
		for n, fs := range policies {
			policy(x, n, func(p *charter.Policy) { p.Formats, p.Key, p.Also, p.Params = fs, "release", nil, nil })
		}
		return x
	}
	for name, c := range map[string]struct {
		policies map[string][]string
		want     []string // parts of the warnings
	}{
		"none of them":              {map[string][]string{"windows": {"msi", "pe"}, "nightly": {"cms"}}, nil},
		"with another format":       {map[string][]string{"windows": {"ima", "pe"}, "nightly": {"cms"}}, []string{"policies.windows.formats release signs files as they come in format ima, and in format cms under policy nightly"}},
		"under another policy":      {map[string][]string{"windows": {"pe"}, "nightly": {"kmod"}}, []string{"policies.nightly.formats release signs files as they come in format kmod, and in format pe under policy windows"}},
		"two of them":               {map[string][]string{"windows": {"ima", "kmod"}, "nightly": {"ima"}}, []string{"format ima, and in format kmod", "format kmod, and in format ima", "format ima, and in format kmod"}},
		"the same under two":        {map[string][]string{"windows": {"ima"}, "nightly": {"ima"}}, nil},
		"one of them under its own": {map[string][]string{"windows": {"ima"}}, nil},
	} {
		x := formats(c.policies)
		if name == "one of them under its own" {
			x.Keys["test"] = charter.Key{URI: "soft:test", Algorithm: "rsa-3072"}
			policy(x, "windows", func(p *charter.Policy) { p.Key = "test" })
		}
		got := find(x)
		if len(got) != len(c.want) {
			t.Errorf("%s: %q: want %q", name, got, c.want)
			continue
		}
		for _, w := range c.want {
			if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, w) }) {
				t.Errorf("%s: %q: want %q", name, got, w)
			}
		}
	}
}

func TestCheckThousands(t *testing.T) {
	x := example(t)
	var members []string
	creds := ssh("person")
	for i := range 2000 {
		n := fmt.Sprintf("p%d", i)
		members = append(members, n)
		x.People[n] = charter.Person{Credentials: creds} // refused, after everything was looked at
	}
	x.Groups["crowd"] = charter.Group{Members: members}
	quorum(x, all(node(3, "crowd"), node(1, "security")))
	err := x.Check()
	if err == nil || !strings.Contains(err.Error(), "50 problems") {
		t.Errorf("%.200v", err)
	}
}

// A charter that is made to be slow is refused before it is.
func TestCheckIsBounded(t *testing.T) {
	x := example(t)
	var of []charter.Node
	for range 14 {
		of = append(of, *all(node(1, "release"), node(2, "security")), node(1, "officers"))
	}
	quorum(x, &charter.Node{Need: 3, Of: of})
	p := x.Policies["windows"]
	for i := range 200 {
		x.Policies[fmt.Sprintf("p%d", i)] = p
	}
	if err := x.Check(); err == nil || !strings.Contains(err.Error(), "too complicated") {
		t.Errorf("%.300v", err)
	}
}

// What nobody is asked for is held to names that are not every name, with a key that
// means the same wherever it signs.
func TestLintNamesUnattendedPolicies(t *testing.T) {
	find := func(code string, edit func(p *charter.Policy)) bool {
		x := example(t)
		policy(x, "nightly", func(p *charter.Policy) { edit(p) })
		return slices.ContainsFunc(charter.Lint(x), func(w charter.Warning) bool {
			return w.Code == code && strings.HasPrefix(w.Path, "policies.nightly.")
		})
	}
	for pattern, want := range map[string]bool{
		"*": true, "*.*": true, "?*": true, "[a-z]*": true, "[^.]*": true, "*-*": true, "": true,
		"nightly-*": false, "*.exe": false, "[a-z]*.msi": false, `\**`: false, "v?": false, "é*": false, "*[0-9]x": false,
	} {
		got := find("unattended-anything", func(p *charter.Policy) {
			if p.Names = []string{"nightly-*", pattern}; pattern == "" {
				p.Names = nil
			}
		})
		if got != want {
			t.Errorf("names %q: %v", pattern, got)
		}
	}
	key := example(t).Policies["windows"].Key
	if !find("unattended-key", func(p *charter.Policy) { p.Key = key }) {
		t.Error("nobody says that one key signs with and without people")
	}
	if find("unattended-key", func(p *charter.Policy) { p.Key = "of-its-own" }) {
		t.Error("a key of its own is warned of")
	}
}

func TestLint(t *testing.T) {
	x := example(t)
	var b strings.Builder
	for _, w := range charter.Lint(x) {
		fmt.Fprintf(&b, "%s [%s]\n", w, w.Code)
	}
	b.WriteString("--\n")
	x.Groups["veto"] = charter.Group{Members: []string{"dave"}}
	x.Groups["idle"] = charter.Group{Members: []string{"dave"}}
	x.Keys["release"] = charter.Key{URI: "soft:release", Algorithm: "rsa-3072"}
	x.Machines["scanner"] = charter.Machine{Owner: "carol", Credentials: ssh("scanner")}
	delete(x.Commands, statement.KeyResume)
	delete(x.Commands, statement.KeySuspend)
	command(x, statement.KeyGenerate, func(r *charter.Rule) { r.Quorum, r.Unattended = nil, true })
	policy(x, "windows", func(p *charter.Policy) {
		p.Rule.Veto, p.Rule.Requesters = []string{"veto"}, []string{"ci"}
		p.Rule.Endorsements = charter.Duration(500 * time.Hour)
	})
	policy(x, "nightly", func(p *charter.Policy) { p.Names = nil })
	quorum(x, all(node(1, "release"), node(1, "officers"), node(1, "gate")))
	if err := x.Check(); err != nil {
		t.Fatal(err)
	}
	for _, w := range charter.Lint(x) {
		fmt.Fprintf(&b, "%s [%s]\n", w, w.Code)
	}
	golden(t, "lint.txt", []byte(b.String()))
}

func TestDiff(t *testing.T) {
	x, y := example(t), example(t)
	if d := charter.Diff(x, y); len(d) != 0 {
		t.Errorf("equal charters differ: %v", d)
	}
	y.Version = 2
	y.Previous[0] = 1
	y.Keeper.Receipts = "AAAA"
	delete(y.People, "carol")
	y.People["zoe"] = charter.Person{Credentials: ssh("zoe")}
	y.People["bob"] = charter.Person{Credentials: ssh("bob2")}
	y.Groups["release"] = charter.Group{Members: []string{"alice", "bob", "zoe"}}
	y.Machines["ci"] = charter.Machine{Credentials: ssh("ci")}
	y.Keys["release"] = charter.Key{URI: "soft:release", Algorithm: "rsa-4096"}
	policy(y, "windows", func(p *charter.Policy) {
		p.Formats = []string{"msi", "pe", "ps1"}
		p.Names = nil
		p.MaxItems = 0
		p.Window = nil
		p.Params = nil
		p.Upload = false
		p.Rule.Quorum = all(node(1, "release"), node(1, "gate"))
		p.Rule.Veto = nil
		p.Rule.Expires = 0
		p.Rule.Endorsements = charter.Duration(time.Hour)
		p.Rule.Requesters = []string{"ci"}
	})
	policy(y, "nightly", func(p *charter.Policy) { p.Rule.Unattended = false; p.Rule.Quorum = &charter.Node{Group: "gate"} })
	command(y, statement.CharterReplace, func(r *charter.Rule) { r.Quorum = &charter.Node{Need: 3, Group: "officers"} })
	command(y, statement.KeyGenerate, func(r *charter.Rule) { r.Quorum = all(node(1, "officers"), node(1, "officers")) })
	command(y, statement.KeyResume, func(r *charter.Rule) { r.Quorum = &charter.Node{Need: 2, Group: "security"} })
	delete(y.Commands, statement.KeySuspend)
	y.Timestamping.Policy = "1.2.3"
	var b strings.Builder
	for _, c := range charter.Diff(x, y) {
		b.WriteString(c.String() + "\n")
	}
	golden(t, "diff.txt", []byte(b.String()))
}
