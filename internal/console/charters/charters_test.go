package charters_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/internal/console/charters"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/template"
	"github.com/greatseal-io/greatseal/statement"
)

const home = "/console/charters"

// bench is a console with the area; bob, an officer, has a passkey.
func bench(t *testing.T, change ...func(*charter.Charter)) (*webtest.Bench, *webtest.Passkey) {
	t.Helper()
	key := webtest.NewPasskey(t)
	return webtest.New(t, webtest.Options{Charter: func(c *charter.Charter) {
		key.Give(c, "bob")
		c.Commands[statement.KeyImportCert] = c.Commands[statement.KeyGenerate]
		for _, f := range change {
			f(c)
		}
	}}, func(b *webtest.Bench) []web.Area { return []web.Area{charters.Area(b.Server)} }), key
}

// replace brings a change of the charter into force.
func replace(b *webtest.Bench, change func(*charter.Charter)) statement.ID {
	b.Helper()
	id, req := ask(b, change)
	for _, n := range []string{"carol", "dave"} {
		if _, err := b.Server.Endorse(b.Context(), b.Endorse(n, req)); err != nil {
			b.Fatal(err)
		}
	}
	b.Until(b.Server, id, store.Executed)
	return id
}

// ask proposes a change of the charter.
func ask(b *webtest.Bench, change func(*charter.Charter), how ...func(*statement.Request)) (statement.ID, []byte) {
	b.Helper()
	head, ref := b.Server.Chain().Head()
	next, err := charter.Next(head, ref, b.Now())
	if err != nil {
		b.Fatal(err)
	}
	change(next)
	payload, err := charter.Encode(next)
	if err != nil {
		b.Fatal(err)
	}
	req := b.Request("bob", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}, how...)
	r, _, err := b.Server.Submit(b.Context(), req, nil)
	if err != nil {
		b.Fatal(err)
	}
	return r.ID, req
}

// What weakens is shown, however much somebody changes besides.
func TestNothingHidesBehindManyChanges(t *testing.T) {
	b, _ := bench(t)
	id, _ := ask(b, func(c *charter.Charter) {
		for i := range 150 {
			c.Groups[fmt.Sprintf("aa-%03d", i)] = charter.Group{Members: []string{"alice"}}
		}
		p := c.Policies["release"]
		p.Rule.Quorum, p.Rule.Veto, p.Rule.Unattended = nil, nil, true
		c.Policies["release"] = p
	})
	page := b.As("carol").Get(home+"/change/"+id.String()).OK().Clean().Has("more changes", "weaker")
	found := false
	for _, n := range page.Find("td", "data-label", "what") {
		found = found || n.FirstChild != nil && strings.HasPrefix(n.FirstChild.Data, "policies.release")
	}
	if !found {
		t.Error("the change that weakens is among those that are not shown")
	}
}

func TestCharterInForce(t *testing.T) {
	b, _ := bench(t)
	alice := b.As("alice")
	alice.Get(home).OK().Small().Clean().Has("Charter 1 of test", "two of officers", "nobody: the signature of whoever asks is enough", "and the machine gate", "asked by dev, builds")
	alice.Get(home+"?part=commands").OK().Clean().Has("charter.replace", "two of officers; not the requester")
	alice.Get(home+"?part=people").OK().Clean().Has("bob", "passkey", "machine of alice", "inspector", "officers")
	alice.Get(home+"?part=groups").OK().Clean().Has("policy release: endorses", "policy release: can refuse", "key.generate: asks")
	alice.Get(home+"?part=keys").OK().Clean().Has("release", "active", "CN=release,O=Example Ltd", "policy nightly", "timestamps")
	alice.Get(home + "?part=people&q=ali").OK().Has("alice").HasNot("dave")
	alice.Get(home + "?part=people&q=" + url.QueryEscape("<script>")).OK().Clean().Has("Nothing of that name")
	alice.Get(home + "?part=nothing").Want(404)
	b.Browser().Get(home).Want(303)
}

// Many people are shown page by page.
func TestManyPeople(t *testing.T) {
	b, _ := bench(t, func(c *charter.Charter) {
		for i := range 120 {
			n := fmt.Sprintf("p%03d", i)
			c.People[n] = charter.Person{Name: strings.Repeat("x", 200), Credentials: []charter.Credential{charter.CredentialOf(credentialtest.SSH(n).Credential())}}
		}
	})
	alice := b.As("alice")
	p := alice.Get(home + "?part=people").OK().Small().Has("alice").HasNot("p100")
	next := webtest.Attr(p.Find("a", "href", "")[len(p.Find("a", "href", ""))-1], "href")
	if !strings.Contains(next, "from=") {
		t.Fatalf("no next page: %s", next)
	}
	alice.Get(next).OK().Small().Has("p060").HasNot("p119")
}

// judged gets a page until its replay has ended.
func judged(t *testing.T, b *webtest.Browser, path string) *webtest.Page {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		p := b.Get(path).OK()
		if len(p.Find("div", "hx-trigger", "load delay:1s")) == 0 {
			return p
		}
		p.Clean().Has("so far", "look again")
		if time.Now().After(end) {
			t.Fatal("the replay does not end")
		}
	}
}

func TestHistoryAndChange(t *testing.T) {
	b, _ := bench(t)
	alice := b.As("alice")
	id, req := ask(b, func(c *charter.Charter) {
		p := c.Policies["release"]
		p.Rule.Quorum = &charter.Node{Group: "officers", Need: 1}
		c.Policies["release"] = p
	}, func(r *statement.Request) { r.Reason = webtest.Hostile()[0] })
	// A release that waits would be let through.
	items := b.Files("app", 1)
	rel := b.Sign("alice", "release", items)
	r, _, err := b.Server.Submit(t.Context(), rel, items)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Server.Endorse(t.Context(), b.Endorse("carol", rel)); err != nil {
		t.Fatal(err)
	}
	change := home + "/change/" + id.String()
	alice.HTMX(change).OK().Clean().Has("1 weaker", "now needs 1 of officers instead of 2 of officers", "Compared with version 1")
	alice.Get(change).OK().Clean().Small().Has("greatseal charter diff --request "+id.String()[:12], "judge past requests under it")
	p := judged(t, alice, change+"/replay").Clean().Has("1 would end otherwise", "granted", "the endorsements that it got would be enough: one of officers", "open")
	if len(p.Find("a", "href", change)) == 0 {
		t.Error("no way back from the replay")
	}
	alice.Get(home + "/change/" + r.ID.String()).Want(404)
	alice.Get(home + "/change/" + strings.Repeat("0", 64)).Want(404)
	for _, n := range []string{"carol", "dave"} {
		if _, err := b.Server.Endorse(t.Context(), b.Endorse(n, req)); err != nil {
			t.Fatal(err)
		}
	}
	b.Until(b.Server, id, store.Executed)
	alice.Get(change).OK().Has("is in force already").HasNot("judge past requests")
	alice.Get(change + "/replay").Want(409)
	alice.Get(home+"/versions").OK().Clean().Small().Has("Version 2", "asked by bob", webtest.Hostile()[0], "endorsed by carol, dave", "weaker", "Version 1", "its founders")
	alice.Get(home + "/versions?from=9").Want(404)
	alice.Get(home + "/versions?from=x").Want(404)
}

// Invariant 1: drafting is for those who may ask for another charter.
func TestRoles(t *testing.T) {
	b, _ := bench(t)
	for _, who := range []*webtest.Browser{b.As("alice"), b.As("eve", web.Auditor), b.As("oscar", web.Operator)} {
		for _, path := range []string{home, home + "/versions", home + "/apps", home + "/apps/of/release"} {
			who.Get(path).OK()
		}
		for _, path := range []string{home + "/edit", home + "/apps/new/cms"} {
			who.Get(path).Want(403)
		}
		for _, path := range []string{home + "/edit", home + "/draft", home + "/propose", home + "/download"} {
			who.Post(path, url.Values{"yaml": {"deployment: test"}}).Want(403)
		}
		who.Get(home).HasNot("edit")
	}
	// An officer of some command who may not ask for charter.replace.
	b2, _ := bench(t, func(c *charter.Charter) {
		r := c.Commands[statement.KeySuspend]
		r.Requesters = []string{"ann"}
		c.Commands[statement.KeySuspend] = r
	})
	ann := b2.As("ann")
	ann.Get(home + "/edit").Want(403).Has("ann may not ask for another charter")
	ann.Get(home + "/apps/new/cms").Want(403)
	ann.Post(home+"/edit", url.Values{"yaml": {"deployment: test"}}).Want(403)
}

// Invariant 2 of the kit: without the session's token nothing is done.
func TestTokens(t *testing.T) {
	b, _ := bench(t)
	bob := b.As("bob")
	for _, path := range []string{home + "/edit", home + "/draft", home + "/propose", home + "/download"} {
		bob.Do("POST", path, url.Values{"yaml": {"deployment: test"}}, nil).Want(403)
		bob.Do("POST", path, url.Values{"yaml": {"deployment: test"}, "csrf": {"wrong"}}, nil).Want(403)
	}
}

func yamlOf(t *testing.T, b *webtest.Bench) string {
	t.Helper()
	y, err := b.Server.Charter().YAML()
	if err != nil {
		t.Fatal(err)
	}
	return string(y)
}

// value is what a textarea of the page that is to be proposed holds.
func value(t *testing.T, p *webtest.Page) string {
	t.Helper()
	for _, n := range p.Find("textarea", "hidden", "") {
		if n.FirstChild != nil {
			return n.FirstChild.Data
		}
	}
	t.Fatalf("nothing is proposed: %s", p)
	return ""
}

func TestEditAndPropose(t *testing.T) {
	b, key := bench(t)
	bob := b.As("bob")
	bob.Get(home + "/edit").OK().Clean().Has("the charter in YAML")
	edit := func(y string) *webtest.Page { return bob.Post(home+"/edit", url.Values{"yaml": {y}}) }
	old := yamlOf(t, b)
	edit(old).OK().Clean().Has("It changes nothing")
	edit(strings.Replace(old, "    members:\n      - gate\n", "    members:\n      - nobody\n", 1)).Want(422).Clean().Has("It cannot be a charter", "line ", "there is no person or machine", "nobody")
	edit("people: [").Want(422).Clean()
	edit("").Want(422).Has("the YAML is empty")
	edit(webtest.Hostile()[0]).Want(422).Clean()
	changed := strings.Replace(old, "  alice:\n", "  alice:\n    name: \"<script>owned()</script>\"\n    email: \"'onmouseover=owned()\"\n", 1)
	p := edit(changed).OK().Clean().Small().Has("Propose version 2", "added: <script>owned()</script>", "0 would end otherwise")
	form := url.Values{"yaml": {value(t, p)}, "reason": {"alice has a name"}}
	bob.Post(home+"/download", form).OK()
	// What is signed must be what the form says.
	ceremony := func(change ...func(url.Values)) *webtest.Page {
		return bob.Ceremony(key, home+"/draft", home+"/propose", form, change...)
	}
	ceremony(func(f url.Values) { f.Set("reason", "another") }).Want(409)
	ceremony(func(f url.Values) { f.Set("yaml", strings.Replace(value(t, p), "owned", "0wned", 1)) }).Want(409)
	bob.Post(home+"/propose", form).Want(400)
	if list, err := b.Server.List(t.Context(), store.Filter{Command: statement.CharterReplace}); err != nil || len(list) > 0 {
		t.Fatalf("a session has requested: %v %v", list, err)
	}
	res := ceremony().Want(http.StatusSeeOther)
	id, err := statement.ParseID(strings.TrimPrefix(res.Header.Get("Location"), "/console/requests/"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Server.Get(t.Context(), id)
	if err != nil || r.Command != statement.CharterReplace || r.Requester != "bob" {
		t.Fatalf("%+v %v", r, err)
	}
	for _, n := range []string{"carol", "dave"} {
		if _, err := b.Server.Endorse(t.Context(), b.Endorse(n, r.Envelope)); err != nil {
			t.Fatal(err)
		}
	}
	b.Until(b.Server, id, store.Executed)
	bob.Get(home+"?part=people").OK().Clean().Has("<script>owned()</script>", "'onmouseover=owned()")
	bob.Get(home + "/versions").OK().Clean().Has("alice has a name")
	// The draft of before is refused now, with what to do.
	bob.Draft(home+"/draft", form).Want(409)
	edit(value(t, p)).OK().Has("It changes nothing")
	edit(changed).Want(422).Has("Another charter has come into force", "make your change again")
}

// Bombs and limits of YAML.
func TestYAMLBombs(t *testing.T) {
	b, _ := bench(t)
	bob := b.As("bob")
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for i := 'b'; i < 'k'; i++ {
		bomb += fmt.Sprintf("%c: &%[1]c [*%c, *%[2]c, *%[2]c, *%[2]c, *%[2]c, *%[2]c, *%[2]c, *%[2]c]\n", i, i-1)
	}
	for name, y := range map[string]string{
		"aliases":  bomb,
		"anchors":  "deployment: &x test\nkeeper: *x\n",
		"tags":     "deployment: !!binary dGVzdA==\n",
		"deep":     strings.Repeat("[", 10_000),
		"flow":     "a: " + strings.Repeat("{a: ", 200) + "1" + strings.Repeat("}", 200),
		"two":      "deployment: a\n---\ndeployment: b\n",
		"many":     "people:\n" + strings.Repeat("  a: {}\n", 50_000),
		"unknown":  "owned: 1\n",
		"nulls":    "deployment:\n",
		"merge":    "deployment: x\n<<: {a: 1}\n",
		"too long": "# " + strings.Repeat("x", 2<<20+1),
	} {
		begin := time.Now()
		p := bob.Post(home+"/edit", url.Values{"yaml": {y}})
		if p.Status != 422 {
			t.Errorf("%s: %d", name, p.Status)
		}
		if len(p.Body)-3*len(y) > 100_000 {
			t.Errorf("%s: a page of %d bytes for %d", name, len(p.Body), len(y))
		}
		t.Logf("%s: %s", name, time.Since(begin).Round(time.Millisecond))
		bob.Draft(home+"/draft", url.Values{"yaml": {y}}).Want(422)
	}
	bob.Post(home+"/edit", url.Values{"yaml": {strings.Repeat("x", 5<<20)}}).Want(413)
}

func TestSetUp(t *testing.T) {
	b, key := bench(t)
	bob := b.As("bob")
	bob.Get(home+"/apps").OK().Clean().Small().Has("Windows release", "Container images", "nightly")
	for _, x := range template.List() {
		path := home + "/apps/new/" + x.Name
		bob.Get(path).OK().Clean().Small().Has(x.Title, "Questions")
		p := bob.Get(path+"?name=app-"+x.Name).OK().Clean().Small().Has("What it would demand", "Propose version 2", "greatseal app new "+x.Name+" --name 'app-"+x.Name+"'", "policies.app-"+x.Name)
		if x.Unattended {
			p.Has("nobody: the signature of whoever asks is enough")
		} else {
			p.Has("two of officers")
		}
	}
	path := home + "/apps/new/cms"
	for q, want := range map[string]string{
		"name=release":                 "there is a policy release already",
		"name=a&quorum=2+of+nobody":    "there is no person, machine or group",
		"name=a&requesters=mallory":    "mallory",
		"name=a&key=tsa":               "stamps",
		"name=a&hours=never":           "want days and times in UTC",
		"name=a&groups=x":              "want a group and its members",
		"name=a&uri=soft:release/../x": "",
	} {
		bob.Get(path + "?" + q).Want(422).Clean().Has(want)
	}
	for _, h := range webtest.Hostile() {
		for _, f := range []string{"name", "description", "requesters", "quorum", "groups", "uri", "names", "hours", "timestamp", "key"} {
			q := url.Values{"name": {"app"}}
			q.Set(f, h)
			p := bob.Get(path + "?" + q.Encode()).Clean().Small()
			if p.Status != 200 && p.Status != 422 {
				t.Errorf("%s %q: %d", f, h, p.Status)
			}
		}
	}
	bob.Get(home + "/apps/new/<script>").Want(404)
	bob.Get(home + "/apps/of/" + url.PathEscape("<script>")).Want(404)
	alice := b.As("alice")
	status := func() *webtest.Page { return alice.Get(home + "/apps/of/docs").OK().Clean().Small() }
	status().Has("choose a template", "greatseal app new TEMPLATE --name docs")
	p := bob.Get(path + "?name=docs&quorum=1+of+officers&uri=test:docs").OK()
	form := url.Values{"yaml": {value(t, p)}, "reason": {"set up docs"}}
	res := bob.Ceremony(key, home+"/draft", home+"/propose", form).Want(http.StatusSeeOther)
	id, err := statement.ParseID(strings.TrimPrefix(res.Header.Get("Location"), "/console/requests/"))
	if err != nil {
		t.Fatal(err)
	}
	status().Has("waits for people", "proposed by bob, waits for carol, dave", "greatseal endorse "+id.String()[:12])

	// Another officer's change comes into force first: the draft follows no more, and the
	// same address applies the template again.
	replace(b, func(c *charter.Charter) {
		x := c.People["alice"]
		x.Name = "Alice"
		c.People["alice"] = x
	})
	status().Has("follows version 1: version 2 is in force, so propose it again")
	bob.Draft(home+"/draft", form).Want(409)
	p = bob.Get(path + "?name=docs&quorum=1+of+officers&uri=test:docs").OK().Has("Propose version 3")
	form.Set("yaml", value(t, p))
	res = bob.Ceremony(key, home+"/draft", home+"/propose", form).Want(http.StatusSeeOther)
	id, err = statement.ParseID(strings.TrimPrefix(res.Header.Get("Location"), "/console/requests/"))
	if err != nil {
		t.Fatal(err)
	}
	alice.HTMX(home+"/change/"+id.String()).OK().Clean().Has("policies.docs", "added")
	for _, n := range []string{"carol", "dave"} {
		r, err := b.Server.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Server.Endorse(t.Context(), b.Endorse(n, r.Envelope)); err != nil {
			t.Fatal(err)
		}
	}
	b.Until(b.Server, id, store.Executed)
	status().Has("version 3 is in force", `greatseal key generate docs --subject "CN=docs,O=Example Ltd" --self-signed 365`, "one of officers")

	// The key is asked for here too, with the passkey.
	alice.Post(home+"/apps/of/docs/draft", url.Values{"do": {"generate"}, "subject": {"CN=docs"}}).Want(403)
	at := home + "/apps/of/docs"
	bob.Get(at).OK().Clean().Small().Has("Generate key docs", "for a year")
	bob.Draft(at+"/draft", url.Values{"do": {"generate"}}).Want(400)
	bob.Draft(at+"/draft", url.Values{"do": {"destroy"}}).Want(400)
	bob.Draft(at+"/draft", url.Values{"do": {"certificate"}, "chain": {webtest.Hostile()[0]}}).Want(400)
	bob.Draft(home+"/apps/of/other/draft", url.Values{"do": {"generate"}, "subject": {"CN=x"}}).Want(404)
	gen := url.Values{"do": {"generate"}, "subject": {"CN=docs,O=Example Ltd"}}
	bob.Ceremony(key, at+"/draft", at+"/ask", gen, func(f url.Values) { f.Set("subject", "CN=another") }).Want(409)
	res = bob.Ceremony(key, at+"/draft", at+"/ask", gen).Want(http.StatusSeeOther)
	if id, err = statement.ParseID(strings.TrimPrefix(res.Header.Get("Location"), "/console/requests/")); err != nil {
		t.Fatal(err)
	}
	bob.Get(at + "/csr").Want(404)
	r, err := b.Server.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Server.Endorse(t.Context(), b.Endorse("carol", r.Envelope)); err != nil {
		t.Fatal(err)
	}
	b.Until(b.Server, id, store.Executed)
	status().Has("CN=docs,O=Example Ltd, issued by CN=docs,O=Example Ltd", "greatseal sign FILE --policy docs --format cms").HasNot("Generate key")
	if p := bob.Get(at + "/csr").OK(); !strings.Contains(p.Body, "BEGIN CERTIFICATE REQUEST") {
		t.Errorf("%s", p)
	}
}
