package browser

import (
	"encoding/json/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/browser/chromiumtest"
	"github.com/greatseal-io/greatseal/internal/release/releasetest"
)

// registers has a signed-in person register a passkey, and officers bring it into the
// charter with their SSH keys. It returns the fingerprint that the browser computed.
func (s *stage) registers(p *chromiumtest.Page, who, label string) string {
	s.Helper()
	p.Open(s.url + "/console/passkeys")
	p.Type("#label", label)
	p.Click("form[data-begin] button")
	p.See("#registered", "Registered.")
	fingerprint := p.Text("#registered .fingerprint")
	var list struct {
		Registrations []struct {
			ID     string `json:"id"`
			Person string `json:"person"`
			State  string `json:"state"`
		} `json:"registrations"`
	}
	s.json(&list, "alice", "passkey", "list")
	id := ""
	for _, r := range list.Registrations {
		if r.Person == who && r.State == "open" {
			id = r.ID
		}
	}
	if id == "" {
		s.Fatalf("no registration of %s: %+v", who, list)
	}
	if shown := s.as("alice", "passkey", "show", id); !strings.Contains(shown, fingerprint) {
		s.Fatalf("the officer's program shows another fingerprint than the browser's %q:\n%s", fingerprint, shown)
	}
	var asked struct {
		Request string `json:"request"`
	}
	s.json(&asked, "alice", "passkey", "propose", id, "--no-wait", "--yes")
	for _, officer := range []string{"carol", "dave"} {
		s.as(officer, "endorse", asked.Request, "--yes")
	}
	p.Open(s.url + "/console/passkeys")
	s.until("the passkey in the charter", func() bool {
		p.Open(s.url + "/console/passkeys")
		return strings.Contains(p.Text("main"), "signs at this address")
	})
	return fingerprint
}

func words(product, version string) []string {
	return []string{"ProductName", product, "CompanyName", "Example Ltd", "FileVersion", version, "ProductVersion", version, "OriginalFilename", "setup.exe"}
}

// endorsed has everybody but security endorse on the command line.
func (s *stage) endorsed(request string, who ...string) {
	s.Helper()
	for _, n := range who {
		s.as(n, "endorse", request, "--yes")
	}
}

// Somebody signs in at his provider, registers a passkey, officers endorse it; then a
// request arrives while he looks, he sees what is different, endorses with the passkey,
// and the signature's evidence verifies offline. He disapproves another one with a
// reason. What he signed for one request is good for no other.
func TestConsole(t *testing.T) {
	s := newStage(t)
	carol := s.browser.Person("carol", chromiumtest.Authenticator{})
	s.signIn(carol, "carol")
	carol.See("h1", "What waits for you")
	s.registers(carol, "carol", "blue key")
	if n := carol.Passkeys(); n != 1 {
		t.Fatalf("%d passkeys in the authenticator", n)
	}

	// The release before, endorsed with SSH keys alone.
	old := s.program("setup-1.3.0.exe", releasetest.Program(releasetest.Hardened, []string{"KERNEL32.dll!ExitProcess"}, words("Example Setup", "1.3.0.0")))
	first := s.asks("alice", old, "release", "--origin", "repository=https://git.example.com/setup")
	s.endorsed(first, "bob", "dave", "scanner")
	s.as("alice", "collect", first, old)

	// The new one arrives while Carol looks at her inbox, which is not loaded again.
	carol.Open(s.url + "/console/")
	carol.See("main", "Nothing waits for you")
	chromiumtest.Eval[int](carol, "window.stayed = 1")
	now := s.program("setup-1.4.0.exe", releasetest.Program(releasetest.Hardened, []string{"KERNEL32.dll!ExitProcess", "KERNEL32.dll!CreateRemoteThread", "WS2_32.dll!WSAStartup"}, words("Example Setup", "1.4.0.0")))
	id := s.asks("alice", now, "release", "--reason", "the autumn release", "--origin", "repository=https://git.example.com/setup", "--origin", "commit=4f1c2b9")
	carol.See("#inbox", "the autumn release")
	if chromiumtest.Eval[int](carol, "window.stayed ?? 0") != 1 {
		t.Error("the inbox was loaded anew: it is not live")
	}
	carol.Click(`#inbox a[href="/console/requests/` + id + `"]`)
	carol.At("/console/requests/" + id)
	if got := chromiumtest.Eval[string](carol, `document.querySelector("#status .digest code").title`); got != id {
		t.Errorf("the page shows the digest %s, the command line %s", got, id)
	}
	carol.See("main", "ws2_32.dll")
	carol.See("main", "1.4.0.0")
	carol.See("main", "CreateRemoteThread")
	carol.See(".claim", "https://git.example.com/setup")
	carol.See(".tree", "missing")

	// An authenticator that does not know who touches it signs nothing.
	carol.Absent(true)
	carol.Type("#comment", "looked at the new imports")
	carol.Click(`#endorse button[value="endorse"]`)
	carol.Click("#sign [data-sign-go]")
	carol.See("#problem", "the passkey did not sign")
	carol.Absent(false)
	carol.Click(`#endorse button[value="endorse"]`)
	carol.See("#sign", id)
	carol.See("#sign", "looked at the new imports")
	carol.Click("#sign [data-sign-go]")
	carol.See("main", "carol")
	carol.See(".said", "looked at the new imports")
	s.endorsed(id, "bob", "scanner")
	carol.See("h1 .badge", "executed") // the page follows by itself
	s.as("alice", "collect", id, now)
	s.as("alice", "verify", now, "--evidence", now+".evidence.json", "--root", s.file("charter-v1.json"), "--ca", s.file("trial-ca.crt"), "--tsa-ca", s.file("trial-ca.crt"))
	s.passkeyInEvidence(now + ".evidence.json")

	t.Run("no other", func(t *testing.T) { s.noOther(t, carol) })

	// A disapproval says why, and the requester learns it.
	bad := s.program("setup-1.5.0.exe", releasetest.Program(0x40, []string{"KERNEL32.dll!ExitProcess"}, words("Example Setup", "1.2.0.0")))
	refused := s.asks("alice", bad, "release")
	carol.Open(s.url + "/console/requests/" + refused)
	carol.See("main", "1.2.0.0")
	carol.Click(`#endorse button[value="disapprove"]`)
	carol.See("#problem", "say why you disapprove")
	carol.Type("#comment", "version 1.2 after 1.4, and nothing is hardened")
	carol.Click(`#endorse button[value="disapprove"]`)
	carol.Click("#sign [data-sign-go]")
	carol.See("h1 .badge", "disapproved")
	if out := s.as("alice", "request", "show", refused); !strings.Contains(out, "nothing is hardened") {
		t.Errorf("the requester is not told why:\n%s", out)
	}
	if heard := carol.Complaints(); len(heard) != 0 {
		// A draft that is refused is an answer of 400, which browsers tell as an error.
		for _, h := range heard {
			if !strings.Contains(h, "Failed to load resource") {
				t.Errorf("the browser complains: %s", h)
			}
		}
	}
}

// passkeyInEvidence wants a passkey's signature among those of an evidence file.
func (s *stage) passkeyInEvidence(path string) {
	s.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		s.Fatal(err)
	}
	if !strings.Contains(string(b), "passkey:") && !holdsPasskey(v) {
		s.Errorf("%s holds no signature of a passkey", filepath.Base(path))
	}
}

func holdsPasskey(v any) bool {
	switch x := v.(type) {
	case map[string]any:
		for k, y := range x {
			if k == "keyid" {
				if id, ok := y.(string); ok && strings.HasPrefix(id, "passkey:") {
					return true
				}
			}
			if holdsPasskey(y) {
				return true
			}
		}
	case []any:
		for _, y := range x {
			if holdsPasskey(y) {
				return true
			}
		}
	}
	return false
}

// noOther has a passkey sign for one request, and offers that for another one.
func (s *stage) noOther(t *testing.T, carol *chromiumtest.Page) {
	var ids []string
	for _, n := range []string{"left", "right"} {
		ids = append(ids, s.asks("alice", s.program(n+".exe", releasetest.Program(releasetest.Hardened, nil, words(n, "1.0.0.0"))), "release"))
	}
	carol.Open(s.url + "/console/requests/" + ids[0])
	carol.At("/console/requests/" + ids[0])
	// As static/sign.js does it, but that the statement of the one goes with the
	// signature of the other.
	said := chromiumtest.Eval[string](carol, `(async (left, right) => {
  const decode = (s) => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const encode = (b) => btoa(String.fromCharCode(...new Uint8Array(b))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const csrf = document.querySelector('meta[name="csrf"]').content;
  const post = (path, fields) => fetch(path, {method: "POST", body: new URLSearchParams(fields), headers: {Accept: "application/json", "X-CSRF-Token": csrf}});
  const draft = async (id) => (await post("/console/requests/" + id + "/draft", {verdict: "endorse", comment: ""})).json();
  const a = await draft(left), b = await draft(right);
  const payload = decode(a.payload), text = new TextEncoder(), type = "application/vnd.in-toto+json";
  const head = text.encode("DSSEv1 " + type.length + " " + type + " " + payload.length + " ");
  const pae = new Uint8Array([...head, ...payload]);
  const c = await navigator.credentials.get({publicKey: {challenge: await crypto.subtle.digest("SHA-256", pae), rpId: a.rpId, userVerification: "required",
    allowCredentials: a.credentials.map((x) => ({type: "public-key", id: decode(x.id)}))}});
  const signed = {credential: encode(c.rawId), authenticator_data: encode(c.response.authenticatorData), client_data: encode(c.response.clientDataJSON), signature: encode(c.response.signature), verdict: "endorse", comment: ""};
  const out = [];
  for (const [id, d] of [[right, b], [right, a], [left, b]]) {
    const r = await post("/console/requests/" + id + "/endorse", {...signed, payload: d.payload, draft: d.draft});
    out.push(r.status + " " + (await r.text()).slice(0, 300));
  }
  return JSON.stringify(out);
})(`+quote(ids[0])+`, `+quote(ids[1])+`)`)
	var answers []string
	if err := json.Unmarshal([]byte(said), &answers); err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if !strings.HasPrefix(a, "4") {
			t.Errorf("attempt %d: %s", i, a)
		}
	}
	for _, id := range ids {
		var v struct {
			State string `json:"state"`
			Votes []any  `json:"votes"`
		}
		s.json(&v, "alice", "request", "show", id)
		if v.State != "pending" || len(v.Votes) != 0 {
			t.Errorf("request %s: %+v", id, v)
		}
		s.as("alice", "request", "cancel", id)
	}
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // the tests' own texts
	}
	return string(b)
}

// A session that is ended elsewhere ends here.
func TestSessionEnds(t *testing.T) {
	s := newStage(t)
	bob := s.browser.Person("bob", chromiumtest.Authenticator{})
	s.signIn(bob, "bob")
	bob.Open(s.url + "/console/sessions")
	bob.See("main", "this one")
	var list []struct {
		ID string `json:"id"`
	}
	s.json(&list, "bob", "sessions", "list")
	if len(list) != 1 {
		t.Fatalf("%d sessions", len(list))
	}
	s.as("bob", "sessions", "end", list[0].ID)
	time.Sleep(time.Second) // what was read before may be shown that long
	bob.Open(s.url + "/console/requests")
	bob.At("/console/login")
}
