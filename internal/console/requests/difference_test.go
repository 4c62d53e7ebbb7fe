package requests_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/internal/console/requests"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

const evil = `<script>alert(1)</script>`

// wordy lets plans say what they like: the keeper's own format would not.
type wordy struct{ format.Format }

func (w wordy) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	c := *p
	c.Facts = nil
	return w.Format.Assemble(&c, id, at, done)
}

func differences(t *testing.T) *webtest.Bench {
	t.Helper()
	return webtest.New(t, webtest.Options{Server: func(c *server.Config) { c.Formats = []format.Format{wordy{cmsfile.New()}} }},
		func(b *webtest.Bench) []web.Area { return []web.Area{requests.Area(b.Server, b.Store)} })
}

// said is an item whose plan says more than its bytes do: whoever makes plans may.
func said(t *testing.T, b *webtest.Bench, name, content string, facts ...format.Fact) []byte {
	t.Helper()
	it, p, err := format.DecodeItem(b.Item(name, []byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	p.Facts = facts
	if it.Plan, err = p.Encode(); err != nil {
		t.Fatal(err)
	}
	out, err := it.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The difference is a page and a part of one: what changed since the last release, in
// words, whoever wrote them; another release can be chosen.
func TestDifference(t *testing.T) {
	b := differences(t)
	var bases []string
	for _, v := range []string{"1.0", "1.1"} {
		items := [][]byte{b.Item("app-"+v+".bin", []byte("app "+v)), b.Item("same.bin", []byte("same")), b.Item("gone.bin", []byte("gone "+v))}
		env := b.Sign("alice", "single", items)
		r, _, err := b.Server.Submit(t.Context(), env, items)
		if err != nil {
			t.Fatal(err)
		}
		if len(bases) == 0 { // the first release has nothing before it
			page := b.As("dave").Get("/console/requests/" + r.ID.String() + "/difference").OK()
			if !strings.Contains(page.Text(), "the first release: 3 files") {
				t.Error(page.Text())
			}
		}
		if _, err := b.Server.Endorse(t.Context(), b.Endorse("bob", env)); err != nil {
			t.Fatal(err)
		}
		b.Until(b.Server, r.ID, store.Executed)
		bases = append(bases, r.ID.String())
	}
	items := [][]byte{
		said(t, b, "app-1.2.bin", "app 1.2", format.Fact{Name: "version", Value: evil}, format.Fact{Name: "import", Value: "winhttp.dll"}, format.Fact{Name: "lacks", Value: "ASLR"}),
		b.Item("same.bin", []byte("same")), b.Item(evil+".bin", []byte("new")),
	}
	env := b.Sign("alice", "single", items)
	r, _, err := b.Server.Submit(t.Context(), env, items)
	if err != nil {
		t.Fatal(err)
	}
	dave := b.As("dave")
	path := "/console/requests/" + r.ID.String() + "/difference"
	page := dave.Get(path).OK()
	text := page.Text()
	for _, want := range []string{"1 changed, 1 added, 1 removed, 1 unchanged", bases[1][:12], "winhttp.dll: network: HTTP", "built without ASLR", "app-1.2.bin", "gone.bin", evil, "claimed", "added", "removed", "medium", "2 of 3"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing of %q in %s", want, text)
		}
	}
	if strings.Contains(page.Body, evil) || len(page.Body) > 100<<10 {
		t.Errorf("%d bytes, script in the page", len(page.Body))
	}
	// A part of the request's page, which asks for it.
	if part := dave.HTMX(path).OK(); strings.Contains(part.Body, "<h1") || !strings.Contains(part.Body, `id="difference"`) {
		t.Error(part.Body)
	}
	if whole := dave.Get("/console/requests/" + r.ID.String()).OK(); !strings.Contains(whole.Body, path) {
		t.Error("the request's page does not ask for the difference")
	}
	// Another release, by the form that works without script.
	if other := dave.Get(path + "?against=" + bases[0]).OK(); !strings.Contains(other.Text(), "you chose it") || !strings.Contains(other.Body, bases[0]) {
		t.Error(other.Text())
	}
	for _, bad := range []string{"?against=zzzz", "?against=" + r.ID.String(), "?against=" + strings.Repeat("0", 64), "?from=-1", "?from=x"} {
		if p := dave.Get(path + bad); p.Status < 400 || p.Status >= 500 {
			t.Errorf("%s: %d", bad, p.Status)
		}
	}
	if p := b.Browser().Get(path); p.Status == 200 && strings.Contains(p.Body, "unchanged") {
		t.Errorf("a stranger reads it: %d", p.Status)
	}
	// What bob makes anew himself is marked.
	if !strings.Contains(dave.Get(path).Text(), "nobody has made them anew") {
		t.Error("whose word it is does not stand there")
	}
}

// A page stays small however many files there are and whatever they say.
func TestLargeDifference(t *testing.T) {
	b := differences(t)
	build := func(v int) [][]byte {
		var items [][]byte
		for i := range 60 {
			var facts []format.Fact
			if v > 0 {
				for k := range 200 {
					facts = append(facts, format.Fact{Name: "entry", Value: fmt.Sprintf("%03d %d %s", k, v, strings.Repeat("<", 200))})
				}
			}
			items = append(items, said(t, b, fmt.Sprintf("f%02d.bin", i), fmt.Sprint(v, i), facts...))
		}
		return items
	}
	old := build(0)
	env := b.Sign("alice", "single", old)
	r, _, err := b.Server.Submit(t.Context(), env, old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Server.Endorse(t.Context(), b.Endorse("bob", env)); err != nil {
		t.Fatal(err)
	}
	b.Until(b.Server, r.ID, store.Executed)
	now := build(1)
	r, _, err = b.Server.Submit(t.Context(), b.Sign("alice", "single", now), now)
	if err != nil {
		t.Fatal(err)
	}
	dave := b.As("dave")
	path := "/console/requests/" + r.ID.String() + "/difference"
	seen := 0
	for from := range 3 {
		p := dave.Get(fmt.Sprintf("%s?from=%d", path, 20*from)).OK()
		if len(p.Body) > 100<<10 {
			t.Errorf("%d bytes", len(p.Body))
		}
		seen += strings.Count(p.Body, "<details")
	}
	if seen < 60 {
		t.Errorf("%d of 60 files", seen)
	}
}
