package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/browser/chromiumtest"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/notify/notifytest"
	"github.com/greatseal-io/greatseal/internal/release/releasetest"
)

// look is one page as somebody sees it.
type look struct {
	name string
	path string // empty: the page that is open
	says string // what stands on it; empty: nothing in particular
	no   bool   // the server refuses, and browsers tell that as an error
	own  bool   // with no: the page of the route all the same, and not one of an error
}

// Every page, in light and dark, wide and narrow: nothing sticks out, axe-core finds
// nothing serious, the browser complains of nothing, the keyboard is seen where it is,
// links lead somewhere, and pictures are kept to be looked at.
func TestScreens(t *testing.T) {
	seen := newGallery(t)
	through := 0
	t.Run("trusted", func(t *testing.T) { trustedPages(t, seen); through++ })
	t.Run("protected", func(t *testing.T) { protectedPages(t, seen); through++ })
	if through == 2 { // and not a part of them, as -run wants it
		seen.complete(t)
	}
}

func trustedPages(t *testing.T, g *gallery) {
	mail := notifytest.Start(t, "plain")
	s := newStage(t, func(c *config.Server) {
		c.Notify = &config.Notify{SMTP: &config.SMTP{Host: "127.0.0.1", Port: mail.Port, From: "seal@example.com", TLS: "none"}, People: map[string]config.Contact{"carol": {Mail: "carol@example.com"}}}
	})
	shows := func(p *chromiumtest.Page, pages ...look) { g.looks(t, s, p, pages) }
	nobody := s.browser.Person("nobody", chromiumtest.Authenticator{})
	shows(nobody, []look{{name: "login", path: "/console/login"}, {name: "link", path: "/console/login/link"},
		{name: "sign-on-failed", path: "/console/login/dex/callback?state=of-nobody&code=x", says: "Not signed in", no: true, own: true},
		{name: "signed-out", path: "/console/logout/dex", says: "Signed out"}}...)
	nobody.Open(s.url + "/console/requests?state=pending") // of a session that is over
	shows(nobody, look{name: "login-first", says: "Sign in"})
	address := strings.TrimSpace(s.as("bob", "console", "--print"))
	nobody.Open(address) // a script moves the code into the form
	shows(nobody, look{name: "link-asks", says: "Sign in as bob?"})

	carol := s.browser.Person("carol", chromiumtest.Authenticator{Synced: true})
	s.signIn(carol, "carol")
	shows(carol, look{name: "inbox-empty", path: "/console/"}, look{name: "passkeys-none", path: "/console/passkeys"}, look{name: "requests-none", path: "/console/requests"}, look{name: "house-empty", path: "/console/house"},
		look{name: "charts-empty", path: "/console/charts"}, look{name: "passkeys-waiting-none", path: "/console/passkeys/waiting"})
	s.registers(carol, "carol", "the blue key")
	bob := s.browser.Person("bob", chromiumtest.Authenticator{})
	s.signIn(bob, "bob")
	bob.Open(s.url + "/console/passkeys")
	bob.Type("#label", "my phone")
	bob.Click("form[data-begin] button")
	bob.See("#registered", "Registered.")
	registration := chromiumtest.Eval[string](bob, `new URL(document.querySelector("#registered a").href).pathname`)
	shows(bob, look{name: "not-allowed", path: "/console/charters/edit", says: "that is for officers", no: true}, look{name: "notices-nowhere", path: "/console/notices", says: "nowhere"})

	// A year in a house: releases, a pending one, a disapproval, a proposal.
	imports := []string{"KERNEL32.dll!ExitProcess"}
	var last string
	for _, v := range []string{"1.2.0.0", "1.3.0.0"} {
		f := s.program("setup-"+strings.TrimSuffix(v, ".0.0")+".exe", releasetest.Program(releasetest.Hardened, imports, words("Example Setup", v)))
		last = s.asks("alice", f, "release", "--origin", "repository=https://git.example.com/setup", "--origin", "commit=4f1c2b9")
		s.endorsed(last, "bob", "dave", "scanner")
		s.as("alice", "collect", last, f)
	}
	refused := s.asks("alice", s.program("tool.exe", releasetest.Program(0x40, imports, words("Tool", "0.9.0.0"))), "release")
	s.as("dave", "disapprove", refused, "--comment", "it is not hardened", "--yes")
	pending := s.asks("alice", s.program("setup-1.4.exe", releasetest.Program(releasetest.Hardened, append(imports, "KERNEL32.dll!CreateRemoteThread", "WS2_32.dll!WSAStartup"), words("Example Setup", "1.4.0.0"))), "release",
		"--reason", "the autumn release", "--origin", "repository=https://git.example.com/setup", "--origin", "commit=77aa01c")
	s.endorsed(pending, "scanner")
	var many []string
	for i := range 40 {
		many = append(many, s.program(fmt.Sprintf("part-%02d-with-a-name-that-is-rather-long-for-a-narrow-window.dll", i), releasetest.Program(releasetest.Hardened, imports, words("Part", fmt.Sprintf("2.%d.0.0", i)))))
	}
	batch := s.asksMany("alice", "release", many...)
	unbroken := strings.Repeat("AllWordsInOneWithoutAnyPlaceToBreakIt", 4)
	long := s.asks("alice", s.program(unbroken+".exe", releasetest.Program(releasetest.Hardened, imports, words(unbroken, "1.0.0.0-"+unbroken))), "release",
		"--reason", strings.Repeat(unbroken, 2), "--origin", "repository=https://git.example.com/"+unbroken, "--origin", "commit="+unbroken)
	s.as("dave", "disapprove", long, "--comment", strings.Repeat(unbroken, 2), "--yes")
	proposal := s.proposes(t)
	var job struct {
		ID string `json:"id"`
	}
	s.json(&job, "alice", "records", "sign", "--policy", "records", "--configuration", "sources", "--reason", "first release", "--no-wait")

	shows(carol, []look{
		{name: "inbox", path: "/console/"}, {name: "requests", path: "/console/requests"}, {name: "request", path: "/console/requests/" + pending}, {name: "request-executed", path: "/console/requests/" + last},
		{name: "request-disapproved", path: "/console/requests/" + refused}, {name: "request-many", path: "/console/requests/" + batch}, {name: "request-charter", path: "/console/requests/" + proposal},
		{name: "request-long", path: "/console/requests/" + long}, {name: "difference-long", path: "/console/requests/" + long + "/difference"}, {name: "files-long", path: "/console/requests/" + long + "/files"},
		{name: "difference", path: "/console/requests/" + pending + "/difference"}, {name: "files", path: "/console/requests/" + batch + "/files"},
		{name: "search", path: "/console/search"}, {name: "search-found", path: "/console/search?product=Example+Setup"}, {name: "search-nothing", path: "/console/search?product=" + unbroken}, {name: "charts", path: "/console/charts"}, {name: "house", path: "/console/house"},
		{name: "charter", path: "/console/charters"}, {name: "charter-people", path: "/console/charters?part=people"}, {name: "charter-groups", path: "/console/charters?part=groups"}, {name: "charter-keys", path: "/console/charters?part=keys"},
		{name: "charter-change", path: "/console/charters/change/" + proposal}, {name: "charter-replay", path: "/console/charters/change/" + proposal + "/replay"}, {name: "charter-history", path: "/console/charters/versions"}, {name: "charter-edit", path: "/console/charters/edit"},
		{name: "applications", path: "/console/charters/apps"}, {name: "application", path: "/console/charters/apps/of/release"}, {name: "application-new", path: "/console/charters/apps/new/windows-release"},
		{name: "log", path: "/console/log"}, {name: "log-entry", path: "/console/log/entry/3"}, {name: "log-of-request", path: "/console/log?request=" + last}, {name: "log-nothing", path: "/console/log/find?q=what", says: "none of these", no: true, own: true},
		{name: "passkeys", path: "/console/passkeys"}, {name: "passkeys-waiting", path: "/console/passkeys/waiting"}, {name: "registration", path: registration},
		{name: "notices", path: "/console/notices", says: "By mail."}, {name: "sessions", path: "/console/sessions"},
		{name: "records", path: "/console/records"}, {name: "records-jobs", path: "/console/records/jobs"}, {name: "records-job", path: "/console/records/jobs/" + job.ID}, {name: "records-findings", path: "/console/records/findings"},
		{name: "records-sets", path: "/console/records/sets"}, {name: "records-scan", path: "/console/records/scan"}, {name: "records-explain", path: "/console/records/explain"},
		{name: "records-explain-nothing", path: "/console/records/explain?table=" + unbroken + "&key=1", no: true},
		{name: "not-found", path: "/console/requests/0000", no: true}, {name: "no-such-page", path: "/console/" + unbroken, says: "no such page", no: true},
	}...)

	// What forms lead to.
	carol.Open(s.url + "/console/notices")
	carol.Click(`form[action="/console/notices/test"] button`)
	shows(carol, look{name: "notices-sent", says: "on its way by mail"})
	if m := mail.Wait(1)[0]; len(m.To) != 1 || m.To[0] != "carol@example.com" {
		t.Errorf("the test message: %+v", m)
	}
	carol.Open(s.url + "/console/notices")
	carol.Type("#zone", "Nowhere/Land")
	carol.Click(`form[aria-labelledby="when"] button`)
	shows(carol, look{name: "notices-refused", says: "Nothing was saved", no: true})
	carol.Open(s.url + "/console/charters/edit")
	chromiumtest.Eval[bool](carol, `(e => { e.value = e.value.replace("need: 3", "need: 2"); return true; })(document.querySelector("#yaml"))`)
	carol.Click(`form[action="/console/charters/edit"] button`)
	shows(carol, look{name: "charter-edit-judged", says: "What changes"})
	carol.Open(s.url + "/console/charters/edit")
	chromiumtest.Eval[bool](carol, `(e => { e.value = "people: [nobody\nkeys:"; return true; })(document.querySelector("#yaml"))`)
	carol.Click(`form[action="/console/charters/edit"] button`)
	shows(carol, look{name: "charter-edit-refused", says: "did not find expected", no: true})

	// The session ends while a form is filled in.
	bob.Open(s.url + "/console/notices")
	var list []struct {
		ID string `json:"id"`
	}
	s.json(&list, "bob", "sessions", "list")
	for _, x := range list {
		s.as("bob", "sessions", "end", x.ID)
	}
	bob.Click(`form[action="/console/logout"] button`)
	shows(bob, look{name: "session-over", says: "you are not signed in, or no longer", no: true})
}

// protectedPages are those of a protected instance, to somebody with a certificate.
func protectedPages(t *testing.T, g *gallery) {
	s := newPlant(t)
	s.browser = chromiumtest.StartWith(t, s.shows("olga"), s.ca.file)
	olga := s.browser.Person("olga", chromiumtest.Authenticator{})
	at := func(page, css string) string {
		olga.Open(s.url + page)
		olga.At("/console/")
		return chromiumtest.Eval[string](olga, "(e => e.pathname + e.search)(document.querySelector("+quote(css)+"))")
	}
	job, set := at("/console/queue?state=error", "tbody a"), at("/console/records/sets", "tbody a")
	rejection := at("/console/rejections", "tbody a")
	g.looks(t, s, olga, []look{
		{name: "plant-first", path: "/console/", says: "Whom it believes"}, {name: "plant-records", path: "/console/records"}, {name: "plant-findings", path: "/console/records/findings"},
		{name: "plant-sets", path: "/console/records/sets"}, {name: "plant-set", path: set}, {name: "plant-scan", path: "/console/records/scan"}, {name: "plant-scan-refused", path: "/console/records/scan?now=yes", says: "records lint", no: true},
		{name: "plant-explain", path: "/console/records/explain?table=" + plantTable + "&key=" + plantRecord, says: "Signature 1"},
		{name: "plant-agents", path: "/console/agents", says: "Waiting to be let in"}, {name: "plant-agent", path: "/console/agents/" + plantAgent, says: longName("cluster")},
		{name: "plant-queue", path: "/console/queue"}, {name: "plant-queue-empty", path: "/console/queue?state=processing", says: "no jobs"}, {name: "plant-job", path: job, says: "Refusals"},
		{name: "plant-rejections", path: "/console/rejections"}, {name: "plant-rejection", path: rejection, says: "The record as it is now"},
		{name: "plant-not-found", path: "/console/agents/nobody", says: "no such agent", no: true},
	})
	mallory := chromiumtest.StartWith(t, s.shows("mallory"), s.ca.file).Person("mallory", chromiumtest.Authenticator{})
	g.looks(t, s, mallory, []look{{name: "plant-no-role", path: "/console/records", says: "mallory", no: true}})
}

// asksMany hands in several files at once.
func (s *stage) asksMany(who, policy string, files ...string) string {
	s.Helper()
	var v struct {
		Request string `json:"request"`
	}
	s.json(&v, who, append(append([]string{"sign"}, files...), "--policy", policy, "--no-wait")...)
	return v.Request
}

// proposes has an officer propose another charter.
func (s *stage) proposes(t *testing.T) string {
	t.Helper()
	text := s.as("alice", "charter", "show", "--yaml")
	text = strings.NewReplacer("nightly-*", "beta-*", "need: 3", "need: 2").Replace(text)
	path := filepath.Join(s.work, "charter.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var v struct {
		Request string `json:"request"`
	}
	s.json(&v, "alice", "charter", "propose", path, "--no-wait")
	return v.Request
}
