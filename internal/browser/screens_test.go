package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/browser/chromiumtest"
	"github.com/greatseal-io/greatseal/internal/release/releasetest"
)

// screensDir is where the pictures go: at the root of the project.
const screensDir = "../../screens"

// look is one page as somebody sees it.
type look struct{ name, path string }

// Every page, in light and dark, wide and narrow: nothing sticks out, axe-core finds
// nothing serious, the browser complains of nothing, and pictures are kept to be looked at.
func TestScreens(t *testing.T) {
	s := newStage(t)
	axe := filepath.Join(formattest.Judges(t), "lib", "axe", "axe.min.js")
	if err := os.MkdirAll(screensDir, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := s.browser.Person("nobody", chromiumtest.Authenticator{})
	s.looks(t, nobody, axe, []look{{"login", "/console/login"}, {"link", "/console/login/link"}})

	carol := s.browser.Person("carol", chromiumtest.Authenticator{Synced: true})
	s.signIn(carol, "carol")
	s.looks(t, carol, axe, []look{{"inbox-empty", "/console/"}, {"passkeys-none", "/console/passkeys"}})
	s.registers(carol, "carol", "the blue key")
	bob := s.browser.Person("bob", chromiumtest.Authenticator{})
	s.signIn(bob, "bob")
	bob.Open(s.url + "/console/passkeys")
	bob.Type("#label", "my phone")
	bob.Click("form[data-begin] button")
	bob.See("#registered", "Registered.")
	registration := chromiumtest.Eval[string](bob, `new URL(document.querySelector("#registered a").href).pathname`)

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
	proposal := s.proposes(t)
	var job struct {
		ID string `json:"id"`
	}
	s.json(&job, "alice", "records", "sign", "--policy", "records", "--configuration", "sources", "--reason", "first release", "--no-wait")

	s.looks(t, carol, axe, []look{
		{"inbox", "/console/"}, {"requests", "/console/requests"}, {"request", "/console/requests/" + pending}, {"request-executed", "/console/requests/" + last},
		{"request-disapproved", "/console/requests/" + refused}, {"request-many", "/console/requests/" + batch}, {"request-charter", "/console/requests/" + proposal},
		{"difference", "/console/requests/" + pending + "/difference"}, {"files", "/console/requests/" + batch + "/files"},
		{"search", "/console/search"}, {"search-found", "/console/search?product=Example+Setup"}, {"charts", "/console/charts"}, {"house", "/console/house"},
		{"charter", "/console/charters"}, {"charter-change", "/console/charters/change/" + proposal}, {"charter-history", "/console/charters/versions"}, {"charter-edit", "/console/charters/edit"}, {"applications", "/console/charters/apps"}, {"application-new", "/console/charters/apps/new/windows-release"},
		{"log", "/console/log"}, {"log-entry", "/console/log/entry/3"}, {"passkeys", "/console/passkeys"}, {"passkeys-waiting", "/console/passkeys/waiting"}, {"registration", registration},
		{"notices", "/console/notices"}, {"sessions", "/console/sessions"},
		{"records", "/console/records"}, {"records-jobs", "/console/records/jobs"}, {"records-job", "/console/records/jobs/" + job.ID}, {"records-findings", "/console/records/findings"},
		{"records-sets", "/console/records/sets"}, {"records-scan", "/console/records/scan"}, {"records-explain", "/console/records/explain"},
		{"not-found", "/console/requests/0000"},
	})
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

// looks looks at pages in all four ways.
func (s *stage) looks(t *testing.T, p *chromiumtest.Page, axe string, pages []look) {
	t.Helper()
	p.Complaints()
	for _, l := range pages {
		t.Run(l.name, func(t *testing.T) {
			for _, w := range []int64{1440, 390} {
				for _, dark := range []bool{false, true} {
					p.Look(w, dark)
					p.Open(s.url + l.path)
					p.Settled()
					way := fmt.Sprintf("%s-%d-%s", l.name, w, map[bool]string{false: "light", true: "dark"}[dark])
					if out := p.Overflow(); len(out) > 0 {
						t.Errorf("%s: sticks out:\n  %s", way, strings.Join(out, "\n  "))
					}
					if out := p.Overlap(); len(out) > 0 {
						t.Errorf("%s: overlaps:\n  %s", way, strings.Join(out, "\n  "))
					}
					if err := os.WriteFile(filepath.Join(screensDir, way+".png"), p.Shot(), 0o644); err != nil {
						t.Fatal(err)
					}
					// Colours differ by scheme, and what is shown by width.
					for _, v := range p.Axe(axe) {
						if v.Impact == "serious" || v.Impact == "critical" {
							t.Errorf("%s: %s", way, v)
						} else {
							t.Logf("%s: %s", way, v)
						}
					}
				}
			}
			for _, h := range p.Complaints() {
				if l.name != "not-found" || !strings.Contains(h, "Failed to load resource") {
					t.Errorf("the browser complains: %s", h)
				}
			}
		})
	}
	p.Look(1440, false)
}
