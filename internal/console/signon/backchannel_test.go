package signon

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/sso/dextest"
)

// TestBackchannel: somebody signs out at a real provider, from here and from
// elsewhere, and his sessions here end; others' do not.
func TestBackchannel(t *testing.T) {
	var b *webtest.Bench
	answers := make(chan *webtest.Page, 4)
	tokens := make(chan string, 4)
	// The way from the provider to the console, whose name leads nowhere in a test.
	way := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		p := b.Browser().Do(r.Method, r.URL.Path, r.PostForm, nil)
		w.WriteHeader(p.Status)
		tokens <- r.PostForm.Get("logout_token")
		answers <- p
	}))
	t.Cleanup(way.Close)
	n := dextest.StartNode(t, dextest.NodeOptions{RedirectURL: webtest.Origin + "/console/login/node/callback", AfterLogout: webtest.Origin + "/console/login", Backchannel: way.URL + "/console/backchannel/node"})
	var log bytes.Buffer
	b = bench(t, &log, n.Config())
	in := func(v *dextest.Visitor, user string) *webtest.Browser {
		t.Helper()
		br := b.Browser()
		back, err := v.LogIn(t.Context(), br.Get("/console/login/node").Want(http.StatusSeeOther).Header.Get("Location"), user)
		if err != nil {
			t.Fatal(err)
		}
		br.Get(local(t, back)).Want(http.StatusSeeOther)
		br.Get("/console/me").OK().Has(`"Name":"` + user + `"`)
		return br
	}
	told := func() (*webtest.Page, string) {
		t.Helper()
		select {
		case p := <-answers:
			return p, <-tokens
		case <-time.After(time.Minute):
			t.Fatalf("the provider does not call:\n%s", n.Said())
		}
		return nil, ""
	}
	here, phone, carol := n.Visitor(), n.Visitor(), n.Visitor()
	first, second, other := in(here, "alice"), in(phone, "alice"), in(carol, "carol")

	// From here: out of the console, and by its page out of the provider.
	p := first.Post(LogoutPath("node"), nil).Want(http.StatusSeeOther)
	page := first.Get(p.Header.Get("Location")).OK().Has("Sign out of Node too").Clean()
	if len(page.Find("a", "href", LogoutPath("node")+"/there")) != 1 {
		t.Error("no way to sign out there")
	}
	back, err := here.LogOut(t.Context(), first.Get(LogoutPath("node")+"/there").Want(http.StatusSeeOther).Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if back.String() != webtest.Origin+"/console/login" {
		t.Errorf("back at %s", back)
	}
	if p, _ := told(); p.Status != http.StatusOK {
		t.Fatalf("%s\n%s", p, &log)
	}
	second.Get("/console/me").OK() // of another session at the provider

	// From elsewhere: the provider's own page.
	if _, err := phone.LogOut(t.Context(), n.Issuer+"/session/end?client_id="+n.ClientID+"&post_logout_redirect_uri="+url.QueryEscape(webtest.Origin+"/console/login")); err != nil {
		t.Fatal(err)
	}
	p, token := told()
	if p.Status != http.StatusOK {
		t.Fatalf("%s\n%s", p, &log)
	}
	p.Has(`"sessions":1`)
	second.Get("/console/me").Want(http.StatusSeeOther)
	other.Get("/console/me").OK().Has("carol")

	// What a stranger sends, or what he has seen.
	for name, form := range map[string]url.Values{
		"again": {"logout_token": {token}}, "nothing": {}, "two": {"logout_token": {token, token}}, "not one": {"logout_token": {"a.b.c"}},
	} {
		if p := b.Browser().Do("POST", "/console/backchannel/node", form, nil); p.Status != http.StatusBadRequest || p.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s", name, p)
		}
	}
	b.Browser().Do("POST", "/console/backchannel/nobody", url.Values{"logout_token": {token}}, nil).Want(http.StatusNotFound)
	other.Get("/console/me").OK()
}
