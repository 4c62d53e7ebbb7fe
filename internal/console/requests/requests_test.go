package requests_test

import (
	"bufio"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/requests"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// desk is a console with requests, and passkeys of alice, bob and carol.
type desk struct {
	*webtest.Bench
	keys map[string]*webtest.Passkey
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{keys: map[string]*webtest.Passkey{}}
	for _, n := range []string{"alice", "bob", "carol"} {
		d.keys[n] = webtest.NewPasskey(t)
	}
	d.Bench = webtest.New(t, webtest.Options{Charter: func(c *charter.Charter) {
		for n, k := range d.keys {
			k.Give(c, n)
		}
	}}, func(b *webtest.Bench) []web.Area { return []web.Area{requests.Area(b.Server, b.Store)} })
	return d
}

// ask makes a request and gives its ID.
func (d *desk) ask(who, policy, name string, n int, change ...func(*statement.Request)) (string, []byte) {
	d.Helper()
	items := d.Bench.World.Files(name, n)
	env := d.Sign(who, policy, items, change...)
	r, _, err := d.Server.Submit(d.Context(), env, items)
	if err != nil {
		d.Fatal(err)
	}
	return r.ID.String(), env
}

func path(id string) string { return "/console/requests/" + id }

func yes(comment string) url.Values {
	return url.Values{"verdict": {"endorse"}, "comment": {comment}}
}

func TestInboxSaysWhatWaitsAndWhy(t *testing.T) {
	d := newDesk(t)
	id, env := d.ask("alice", "release", "app", 3)
	bob := d.As("bob")
	bob.Get("/console/").OK().Clean().Small().Has("What waits for you", "sign under release", "alice, 3 files", "2 of officers", "still missing", id[:12])
	d.As("alice").Get("/console/").OK().Has("Nothing waits for you")
	d.As("ann").Get("/console/").OK().Has("Nothing waits for you")
	if _, err := d.Server.Endorse(t.Context(), d.Endorse("bob", env)); err != nil {
		t.Fatal(err)
	}
	bob.Get("/console/").OK().Has("Nothing waits for you")
	d.As("carol").Get("/console/").OK().Has("1 more of officers")
	d.As("reader@example.com", web.Auditor).Get("/console/").OK().Has("You read here")
}

func TestEndorseWithAPasskey(t *testing.T) {
	d := newDesk(t)
	id, _ := d.ask("alice", "release", "app", 1)
	bob := d.As("bob")
	bob.Get(path(id)).OK().Clean().Small().Has(id[:12], "Endorse or disapprove", "greatseal endorse "+id+" --file …", "2 of officers", "could: bob, carol, dave")
	bob.Ceremony(d.keys["bob"], path(id)+"/draft", path(id)+"/endorse", yes("looks right")).Want(303)
	p := bob.Get(path(id)).OK().Has("filled by bob", "looks right", "You have said: endorse", "1 of 2")
	p.HasNot("still missing: nobody")
	carol := d.As("carol")
	carol.Ceremony(d.keys["carol"], path(id)+"/draft", path(id)+"/endorse", yes("")).Want(303)
	rid, _ := statement.ParseID(id)
	d.Until(d.Server, rid, store.Executed)
	carol.Get(path(id)).OK().Has("executed", "Receipt", "signed", "greatseal collect "+id)
	// The endorsement is one of any tool's: the log has it, and the keeper took it.
	r, err := d.Server.Get(t.Context(), rid)
	if err != nil || len(r.Endorsements) != 2 {
		t.Fatalf("%+v %v", r, err)
	}
}

func TestDisapprovalHasAReason(t *testing.T) {
	d := newDesk(t)
	id, _ := d.ask("alice", "release", "app", 1)
	bob := d.As("bob")
	bob.Draft(path(id)+"/draft", url.Values{"verdict": {"disapprove"}, "comment": {"  \n "}}).Want(400)
	bob.Draft(path(id)+"/draft", url.Values{"verdict": {"maybe"}}).Want(400)
	bob.Ceremony(d.keys["bob"], path(id)+"/draft", path(id)+"/endorse", url.Values{"verdict": {"disapprove"}, "comment": {"not the commit\r\nthat we tagged"}}).Want(303)
	bob.Get(path(id)).OK().Has("disapproved", "not the commit that we tagged", "bob of officers disapproves")
	bob.Draft(path(id)+"/draft", yes("")).Want(409)
}

// What was signed for one request, or by somebody else, or is not what was drafted, is
// refused before it reaches the server, whatever the form says.
func TestEndorsementIsWhatThePageSaid(t *testing.T) {
	d := newDesk(t)
	a, _ := d.ask("alice", "release", "a", 1)
	b, _ := d.ask("alice", "release", "b", 1)
	bob := d.As("bob")
	draft, payloadA := bob.Draft(path(a)+"/draft", yes("")).Drafted()
	signedA := d.keys["bob"].Statement(statement.PAE(payloadA))
	draftB, _ := bob.Draft(path(b)+"/draft", yes("")).Drafted()
	with := func(form url.Values, more map[string]string) url.Values {
		f := url.Values{}
		for k, v := range form {
			f[k] = v
		}
		for k, v := range more {
			f.Set(k, v)
		}
		return f
	}
	full := map[string]string{"verdict": "endorse", web.FieldPayload: draft.Payload, web.FieldDraft: draft.Draft}
	changed := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payloadA), a, b, 2)))
	for name, c := range map[string]struct {
		at     string
		form   url.Values
		status int
	}{
		"offered for another request":              {b, with(signedA, full), 409},
		"assertion with another request's payload": {b, with(signedA, map[string]string{"verdict": "endorse", web.FieldPayload: draftB.Payload, web.FieldDraft: draftB.Draft}), 403},
		"payload changed after drafting":           {a, with(signedA, map[string]string{"verdict": "endorse", web.FieldPayload: changed, web.FieldDraft: draft.Draft}), 409},
		"drafted nowhere":                          {a, with(signedA, map[string]string{"verdict": "endorse", web.FieldPayload: draft.Payload, web.FieldDraft: ""}), 409},
		"the form says disapprove":                 {a, with(signedA, map[string]string{"verdict": "disapprove", "comment": "no", web.FieldPayload: draft.Payload, web.FieldDraft: draft.Draft}), 409},
		"the form has a comment":                   {a, with(signedA, map[string]string{"verdict": "endorse", "comment": "fine", web.FieldPayload: draft.Payload, web.FieldDraft: draft.Draft}), 409},
		"no signature":                             {a, with(url.Values{}, full), 400},
		"two payloads":                             {a, func() url.Values { f := with(signedA, full); f.Add(web.FieldPayload, draftB.Payload); return f }(), 400},
		"somebody else's passkey":                  {a, with(d.keys["carol"].Statement(statement.PAE(payloadA)), full), 403},
		"a login's assertion":                      {a, with(d.keys["bob"].Login(statement.PAE(payloadA)), full), 403},
	} {
		if p := bob.Post(path(c.at)+"/endorse", c.form); p.Status != c.status {
			t.Errorf("%s: %v", name, p)
		}
	}
	elsewhere := *d.keys["bob"]
	elsewhere.Origin = "https://seal.example.org"
	bob.Post(path(a)+"/endorse", with(elsewhere.Statement(statement.PAE(payloadA)), full)).Want(403)
	// Another session of the same person did not draft it.
	d.As("bob").Post(path(a)+"/endorse", with(signedA, full)).Want(409)
	// Nor does somebody else hand it in.
	d.As("carol").Post(path(a)+"/endorse", with(signedA, full)).Want(409)
	for _, id := range []string{a, b} {
		rid, _ := statement.ParseID(id)
		if r, err := d.Server.Get(t.Context(), rid); err != nil || len(r.Endorsements) != 0 {
			t.Errorf("request %s has %d endorsements, %v", id[:12], len(r.Endorsements), err)
		}
	}
	bob.Post(path(a)+"/endorse", with(signedA, full)).Want(303)
	bob.Post(path(a)+"/endorse", with(signedA, full)).Want(303) // twice is once
	rid, _ := statement.ParseID(a)
	if r, _ := d.Server.Get(t.Context(), rid); len(r.Endorsements) != 1 {
		t.Errorf("sent twice, %d endorsements", len(r.Endorsements))
	}
}

// Whoever has the server hands the keeper an assertion of one request with another one's
// payload, past everything that is checked before: the keeper refuses it.
func TestKeeperChecksTheAssertionAgain(t *testing.T) {
	d := newDesk(t)
	a, _ := d.ask("alice", "single", "a", 1)
	b, envB := d.ask("alice", "single", "b", 1)
	bob := d.As("bob")
	_, payloadA := bob.Draft(path(a)+"/draft", yes("")).Drafted()
	_, payloadB := bob.Draft(path(b)+"/draft", yes("")).Drafted()
	f := d.keys["bob"].Statement(statement.PAE(payloadA))
	sig := assertion(t, f)
	forged := statement.Envelope{Payload: payloadB, Signatures: []statement.Signature{{KeyID: string(d.keys["bob"].Credential.ID()), Sig: sig}}}
	enc, err := forged.Encode()
	if err != nil {
		t.Fatal(err)
	}
	used := d.Keys.Used()
	out, err := d.Keeper.Execute(t.Context(), &keeper.Order{Evidence: quorum.Evidence{Request: envB, Endorsements: [][]byte{enc}}, Items: d.Bench.World.Files("b", 1)})
	if err == nil && len(out.Signatures) > 0 {
		t.Fatal("the keeper signed")
	}
	if d.Keys.Used() != used {
		t.Fatal("a key was used")
	}
	if _, err := d.Server.Endorse(t.Context(), enc); err == nil {
		t.Fatal("the server took it")
	}
}

func TestWithdrawWithAPasskey(t *testing.T) {
	d := newDesk(t)
	id, _ := d.ask("alice", "release", "app", 1)
	rid, _ := statement.ParseID(id)
	alice, bob := d.As("alice"), d.As("bob")
	alice.Get(path(id)).OK().Clean().Has("withdraw the request")
	bob.Get(path(id)).OK().HasNot("withdraw the request")
	f := d.keys["bob"].Login(server.CancelMessage(rid))
	bob.Post(path(id)+"/cancel", f).Want(403)
	alice.Post(path(id)+"/cancel", f).Want(403)
	alice.Post(path(id)+"/cancel", d.keys["alice"].Statement(server.CancelMessage(rid))).Want(403)
	alice.Post(path(id)+"/cancel", d.keys["alice"].Login(server.CancelMessage(rid))).Want(303)
	alice.Get(path(id)).OK().Has("cancelled")
}

func TestWhoHasNoPasskeyIsToldSo(t *testing.T) {
	d := newDesk(t)
	id, _ := d.ask("alice", "release", "app", 1)
	dave := d.As("dave")
	dave.Get(path(id)).OK().Has("has no passkey of yours")
	dave.Draft(path(id)+"/draft", yes("")).Want(409)
	d.As("ann").Get(path(id)).OK().HasNot("Endorse or disapprove")
	reader := d.As("reader@example.com", web.Auditor)
	reader.Get(path(id)).OK().HasNot("Endorse or disapprove")
	reader.Draft(path(id)+"/draft", yes("")).Want(409)
}

func TestListFilters(t *testing.T) {
	d := newDesk(t)
	one, _ := d.ask("alice", "release", "a", 1)
	two, _ := d.ask("ann", "single", "b", 2)
	bob := d.As("bob")
	bob.Get("/console/requests").OK().Clean().Small().Has(one[:12], two[:12], "pending")
	bob.Get("/console/requests?policy=single").OK().Has(two[:12]).HasNot(one[:12])
	bob.Get("/console/requests?requester=alice").OK().Has(one[:12]).HasNot(two[:12])
	bob.Get("/console/requests?state=executed").OK().Has("No such request")
	bob.Get("/console/requests?request=" + one[:8]).OK().Has(one[:12]).HasNot(two[:12])
	d.As("ann").Get("/console/requests?mine=yes").OK().Has(two[:12]).HasNot(one[:12])
	for _, q := range []string{"state=odd", "request=xyz", "before=x&id=y", "before=1"} {
		bob.Get("/console/requests?" + q).Want(400)
	}
	bob.Get(path(strings.Repeat("0", 64))).Want(404)
	bob.Get(path("zz")).Want(400)
	bob.Get(path(one[:10])).Want(303)
}

func TestPagesAreComplete(t *testing.T) {
	d := newDesk(t)
	want := map[string]bool{}
	for i := range 60 {
		id, _ := d.ask("alice", "release", "app"+string(rune('a'+i/26))+string(rune('a'+i%26)), 1)
		want[id] = true
	}
	for start, page := range map[string]string{"/console/requests": "/console/requests", "/console/": "/console/"} {
		got := map[string]bool{}
		bob := d.As("bob")
		at := start
		for range 10 {
			p := bob.Get(at).OK().Small()
			for _, n := range p.Find("a", "href", "") {
				if id, ok := strings.CutPrefix(webtest.Attr(n, "href"), "/console/requests/"); ok && len(id) == 64 {
					got[id] = true
				}
			}
			next := p.Find("a", "rel", "next")
			if len(next) == 0 {
				break
			}
			at = webtest.Attr(next[0], "href")
			if strings.HasPrefix(at, "?") {
				at = page + at
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s shows %d of %d requests", start, len(got), len(want))
		}
	}
}

func TestManyFiles(t *testing.T) {
	d := newDesk(t)
	id, _ := d.ask("alice", "release", "part", 100)
	bob := d.As("bob")
	bob.Get(path(id)).OK().Clean().Small().Has("100 of 100 files", "part-0.bin", "part-39.bin").HasNot("part-40.bin")
	bob.Get(path(id)+"/files?from=40").OK().Clean().Has("part-40.bin", "part-79.bin").HasNot("part-39.bin")
	bob.Get(path(id) + "/files?name=T-9").OK().Has("11 of 100 files")
	p := bob.HTMX(path(id)+"/files?from=40&file=41").OK().Has("part-41.bin", "version", "1.2.3")
	if strings.Contains(p.Body, "<html") {
		t.Error("a part is a whole page")
	}
	bob.Get(path(id) + "/files?from=-1&file=100000").OK()
	kid, err := d.Submitted("bob", statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}})
	if err != nil {
		t.Fatal(err)
	}
	bob.Get(path(kid)).OK().Clean().Has("key.suspend release")
	bob.Get(path(kid) + "/files").Want(404)
}

// Submitted hands in a request for a command.
func (d *desk) Submitted(who string, c statement.Command) (string, error) {
	r, _, err := d.Server.Submit(d.Context(), d.Request(who, c), nil)
	if err != nil {
		return "", err
	}
	return r.ID.String(), nil
}

func TestStreamTellsOfNews(t *testing.T) {
	d := newDesk(t)
	bob := d.As("bob")
	res := bob.Open("GET", "/console/inbox/events?seen=none", nil, nil)
	defer res.Body.Close()
	if ct := res.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("%d %s", res.StatusCode, ct)
	}
	lines := make(chan string, 100)
	go func() {
		s := bufio.NewScanner(res.Body)
		for s.Scan() {
			lines <- s.Text()
		}
		close(lines)
	}()
	<-lines // it is open
	time.Sleep(200 * time.Millisecond)
	d.ask("alice", "release", "app", 1)
	var got []string
	deadline := time.After(time.Minute)
	for !strings.Contains(strings.Join(got, "\n"), "a new request waits for you: sign under release by alice") {
		select {
		case l, ok := <-lines:
			if !ok {
				t.Fatalf("the stream ended: %q", got)
			}
			got = append(got, l)
		case <-deadline:
			t.Fatalf("no news: %q", got)
		}
	}
	if !strings.Contains(strings.Join(got, "\n"), "event: changed") {
		t.Errorf("%q", got)
	}
}
