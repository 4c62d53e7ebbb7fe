package search_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"
	"golang.org/x/net/html"

	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/console/search"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/statement"
)

const script = `<script>alert("x")</script><img src=x onerror=alert(1)>`

// bench has a console with the area, over files that were signed.
func bench(t *testing.T, dsn string) (*webtest.Bench, *analysis.Analysis) {
	t.Helper()
	var a *analysis.Analysis
	b := webtest.New(t, webtest.Options{DSN: dsn}, func(b *webtest.Bench) []web.Area {
		a = analysis.New(b.Store)
		return []web.Area{search.Area(b.Server, b.Store, a)}
	})
	return b, a
}

// sign has files with these names signed in one request.
func sign(t *testing.T, b *webtest.Bench, policy string, names ...string) statement.ID {
	t.Helper()
	var items [][]byte
	for _, n := range names {
		items = append(items, b.Item(n, []byte("content of "+n)))
	}
	r, _, err := b.Server.Submit(t.Context(), b.Sign("alice", policy, items), items)
	if err != nil {
		t.Fatal(err)
	}
	if policy == "single" {
		if _, err := b.Server.Endorse(t.Context(), b.Endorse("bob", r.Envelope)); err != nil {
			t.Fatal(err)
		}
	}
	b.Until(b.Server, r.ID, store.Executed)
	return r.ID
}

func TestSearch(t *testing.T) {
	for name, dsn := range map[string]string{"sqlite": "", "postgres": pgtest.Start(t).Database()} {
		t.Run(name, func(t *testing.T) {
			b, _ := bench(t, dsn)
			one := sign(t, b, "nightly", "app-1.2-x64.exe", "setup.msi")
			two := sign(t, b, "single", "tool.bin")
			br := b.As("ann")
			p := br.Get("/console/search").OK().Has("app-1.2-x64.exe", "setup.msi", "tool.bin", "that is all")
			if n := len(p.Body); n > 100_000 {
				t.Errorf("%d bytes", n)
			}
			links := map[string]bool{}
			p.Walk(func(n *html.Node) {
				if n.Data == "a" {
					links[webtest.Attr(n, "href")] = true
				}
			})
			for _, want := range []string{"/console/requests/" + one.String(), "/console/requests/" + two.String(), "/console/search?policy=nightly", "/console/search?requester=alice", "/console/search?key=release"} {
				if !links[want] {
					t.Errorf("no link to %s in %v", want, links)
				}
			}
			sum := sha256.Sum256([]byte("content of tool.bin"))
			for q, want := range map[string]string{
				"digest=" + hex.EncodeToString(sum[:]): "tool.bin", "digest=" + hex.EncodeToString(sum[:])[:11]: "tool.bin", "digest=sha256:" + strings.ToUpper(hex.EncodeToString(sum[:])): "tool.bin",
				"name=APP*": "app-1.2-x64.exe", "name=*.msi": "setup.msi", "endorser=bob": "tool.bin", "policy=single": "tool.bin", "since=2000-01-01&name=tool*": "tool.bin",
			} {
				p := br.Get("/console/search?" + q).OK().Has(want)
				for _, other := range []string{"app-1.2-x64.exe", "setup.msi", "tool.bin"} {
					if other != want {
						p.HasNot(other)
					}
				}
			}
			br.Get("/console/search?policy=other").OK().Has("Nothing was signed that is like this")
			br.Get("/console/search?until=2000-01-01").OK().HasNot("tool.bin")
			for _, bad := range []string{"digest=xyz", "digest=abc", "since=yesterday", "after=1-0", "name=" + strings.Repeat("x", 1025)} {
				br.Get("/console/search?" + bad).Want(400)
			}
		})
	}
}

// Invariant 2.
func TestHostileText(t *testing.T) {
	b, a := bench(t, "")
	hostile := []string{script, `=HYPERLINK("http://evil","x")`, "+1+1", "-2+3", "@SUM(A1)", " =1+1", "＝1", `"quoted",comma`}
	for _, n := range hostile {
		sign(t, b, "nightly", n)
	}
	if err := a.All(t.Context()); err != nil {
		t.Fatal(err)
	}
	br := b.As("bob")
	for _, path := range []string{"/console/search", "/console/search?name=" + url.QueryEscape(script), "/console/search?policy=" + url.QueryEscape(script), "/console/charts?policy=" + url.QueryEscape(script) + "&range=" + url.QueryEscape(script), "/console/house"} {
		br.Get(path).OK().Walk(func(n *html.Node) {
			if n.Data == "script" && webtest.Attr(n, "src") == "" || n.Data == "img" && webtest.Attr(n, "src") == "x" {
				t.Errorf("%s: what somebody wrote is part of the page", path)
			}
			for _, x := range n.Attr {
				if strings.HasPrefix(x.Key, "on") || x.Key == "style" {
					t.Errorf("%s: <%s %s=%q>", path, n.Data, x.Key, x.Val)
				}
			}
		})
	}
	p := br.Get("/console/search.csv").OK()
	rows, err := csv.NewReader(strings.NewReader(p.Body)).ReadAll()
	if err != nil || len(rows) != len(hostile)+1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, r := range rows {
		for _, c := range r {
			if t := strings.TrimSpace(c); t != "" && strings.ContainsAny(t[:1], "=+-@") || strings.HasPrefix(c, "\t") || strings.HasPrefix(c, "\r") || strings.HasPrefix(c, "＝") {
				b.Errorf("row %d: a spreadsheet computes %q", i, c)
			}
		}
	}
	var got []search.File
	if err := json.Unmarshal([]byte(br.Get("/console/search.json").OK().Body), &got); err != nil || len(got) != len(hostile) || got[len(got)-1].Name != script {
		t.Errorf("%d files, %v", len(got), err)
	}
	if err := json.Unmarshal([]byte(br.Get("/console/search.json?policy=none").OK().Body), &got); err != nil || len(got) != 0 {
		t.Errorf("%d files, %v", len(got), err)
	}
	for in, want := range map[string]string{"": "", "a": "a", "=1": "'=1", "'=1": "'=1", "1-2": "1-2", "\n=1": "'\n'=1", "\tx": "'\tx", "\rx": "'\rx",
		"x;=1": "x;'=1", "x\n+1": "x\n'+1", "x;y": "x;y", "a; @b;c": "a;' @b;c", `x";=1`: `x";'=1`} {
		if got := search.Cell(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// Invariant 1.
func TestRoles(t *testing.T) {
	b, _ := bench(t, "")
	id := sign(t, b, "nightly", "app.exe")
	for _, path := range []string{"/console/search", "/console/search.csv", "/console/search.json", "/console/charts", "/console/charts.csv?chart=days", "/console/house", "/console/search/saved/x"} {
		if p := b.Browser().Get(path); p.Status < 300 || strings.Contains(p.Body, "app.exe") || strings.Contains(p.Body, id.String()) {
			t.Errorf("%s is shown to strangers: %d", path, p.Status)
		}
	}
	b.As("ann").Get("/console/house").Want(403) // requests, and is no officer
	b.As("bob").Get("/console/house").OK()
	auditor := b.As("ivy", web.Auditor) // not in the charter
	auditor.Get("/console/house").OK()
	auditor.Get("/console/search").OK().Has("app.exe")

	ann, bob := b.As("ann"), b.As("bob")
	form := url.Values{"name": {script}, "query": {"policy=nightly&evil=1&after=9-9"}}
	if p := ann.Do("POST", "/console/search/saved", form, nil); p.Status != 403 {
		t.Errorf("kept without a token: %d", p.Status)
	}
	if to := ann.Post("/console/search/saved", form).Want(303).Header.Get("Location"); to != "/console/search?policy=nightly" {
		t.Errorf("leads to %s", to)
	}
	ann.Post("/console/search/saved", form).Want(409)
	ann.Post("/console/search/saved", url.Values{"name": {""}, "query": {"policy=x"}}).Want(400)
	link := ""
	ann.Get("/console/search").OK().Has(script).Walk(func(n *html.Node) {
		if h := webtest.Attr(n, "href"); strings.HasPrefix(h, "/console/search/saved/") {
			link = h
		}
	})
	bob.Get("/console/search").OK().HasNot(script)
	if to := bob.Get(link).Want(303).Header.Get("Location"); to != "/console/search?policy=nightly" {
		t.Errorf("a shared search leads to %s", to)
	}
	bob.Post(link+"/delete", nil).Want(404)
	ann.Post(link+"/delete", nil).Want(303)
	bob.Get(link).Want(404)
}

// What lets people in is in no table and on no page.
func TestNothingSecretIsFound(t *testing.T) {
	b, _ := bench(t, "")
	sign(t, b, "nightly", "app.exe")
	br := b.As("bob")
	other := b.As("carol")
	token := store.Token{Hash: sha256.Sum256([]byte("secret")), ID: "tok-handle-1", Principal: "ci", Created: b.Now(), Expires: b.Now().Add(time.Hour)}
	if err := b.Store.PutToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/console/search", "/console/search?name=*tok*", "/console/search.csv", "/console/search.json", "/console/charts", "/console/house"} {
		body := br.Get(path).OK().Body
		for what, secret := range map[string]string{"the own session": br.Secret(), "another's session": other.Secret(), "a token": token.ID, "a token's hash": hex.EncodeToString(token.Hash[:])} {
			if secret == "" || strings.Contains(body, secret) {
				t.Errorf("%s shows %s", path, what)
			}
		}
	}
}

// Pages stay below their size, lead through everything once, and go on.
func TestPages(t *testing.T) {
	b, _ := bench(t, "")
	const n = 130
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("product-with-a-long-name-%03d-x86_64-unknown-linux-gnu.tar.gz", i))
	}
	sign(t, b, "nightly", names...)
	br := b.As("bob")
	seen := map[string]int{}
	path := "/console/search?policy=nightly"
	for range 10 {
		p := br.Get(path).OK()
		if len(p.Body) > 100_000 {
			t.Errorf("%s: %d bytes", path, len(p.Body))
		}
		path = ""
		p.Walk(func(x *html.Node) {
			if webtest.Attr(x, "class") == "name" && x.FirstChild != nil {
				seen[x.FirstChild.Data]++
			}
			if webtest.Attr(x, "rel") == "next" {
				path = webtest.Attr(x, "href")
			}
		})
		if path == "" {
			break
		}
		sign(t, b, "nightly", fmt.Sprint("later", rand.Int64()))
	}
	for _, name := range names {
		if seen[name] != 1 {
			t.Errorf("%s stands on %d pages", name, seen[name])
		}
	}
	if got := strings.Count(br.Get("/console/search.csv?policy=nightly&name=product*").OK().Body, "\n"); got != n+1 {
		t.Errorf("%d rows", got)
	}
}

func TestChartsAndHouse(t *testing.T) {
	b, a := bench(t, "")
	b.Pass(40 * 24 * time.Hour) // the keys' certificates have 50 days left
	sign(t, b, "nightly", "a", "b", "c")
	sign(t, b, "single", "d")
	wait(t, b, a, 4)
	br := b.As("bob")
	for _, r := range []string{"7d", "30d", "90d", "1y", "3y", "nonsense"} {
		p := br.Get("/console/charts?range="+r).OK().Has("Files signed by policy", "nightly", "single", "Time to quorum", "bob", "Who endorses", "cms")
		if len(p.Body) > 200_000 {
			t.Errorf("%d bytes", len(p.Body))
		}
		tables := 0
		p.Walk(func(n *html.Node) {
			if n.Data == "svg" && webtest.Attr(n, "aria-labelledby") == "" && webtest.Attr(n, "aria-label") == "" {
				t.Error("a picture without a name")
			}
			if n.Data == "table" {
				tables++
			}
		})
		if tables < 6 {
			t.Errorf("%d tables", tables)
		}
	}
	br.Get("/console/charts?policy=single").OK().Has("Files signed, policy single")
	rows, err := csv.NewReader(strings.NewReader(br.Get("/console/charts.csv?chart=policies").OK().Body)).ReadAll()
	if err != nil || fmt.Sprint(rows) != "[[Policy Number] [nightly 3] [single 1]]" {
		t.Errorf("%v, %v", rows, err)
	}
	br.Get("/console/charts.csv?chart=none").Want(404)
	items := [][]byte{b.Item("stuck", []byte("stuck"))}
	r, _, err := b.Server.Submit(t.Context(), b.Sign("alice", "single", items), items)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"carol", "dave", "bob"} { // all who could endorse it
		if _, err := b.Server.Endorse(t.Context(), b.Say(statement.Disapprove, who, r.Envelope)); err != nil {
			break // the first veto ends it
		}
	}
	br.Get("/console/house").OK().Has(
		"release its certificate ends", "nightly signs for dev, builds unattended", "checked nothing was ever signed under it", "carol signs with keys that may be files",
		"gate has never given a verdict", "checked cannot be reached without gate", "Quora that depend on one person")
}

// wait counts until n files are.
func wait(t *testing.T, b *webtest.Bench, a *analysis.Analysis, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if err := a.All(ctx); err != nil {
			t.Fatal(err)
		}
		if a.Total(analysis.Signatures, analysis.Days(b.Now(), 7)) >= n {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the log is not counted")
}

// Invariant 4: what the page's script computes is SHA-256, in pieces of any size.
func TestSHA256OfThePage(t *testing.T) {
	src, err := os.ReadFile("static/sha256.js")
	if err != nil {
		t.Fatal(err)
	}
	vm := goja.New()
	if _, err := vm.RunString(string(src)); err != nil {
		t.Fatal(err)
	}
	v, err := vm.RunString(`(function (buffer, cuts) {
		const b = new Uint8Array(buffer), h = new GreatsealSHA256();
		let at = 0;
		for (const n of cuts) { h.update(b.subarray(at, at + n)); at += n; }
		return h.update(b.subarray(at)).hex();
	})`)
	if err != nil {
		t.Fatal(err)
	}
	hash, _ := goja.AssertFunction(v)
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 1000, 5000} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		var cuts []int
		for left := n; left > 0; {
			c := rnd.IntN(min(left, 100) + 1)
			cuts, left = append(cuts, c), left-c-1
		}
		got, err := hash(goja.Undefined(), vm.ToValue(vm.NewArrayBuffer(bytes.Clone(data))), vm.ToValue(cuts))
		sum := sha256.Sum256(data)
		if err != nil || got.String() != hex.EncodeToString(sum[:]) {
			t.Errorf("%d bytes in pieces of %v: %v, %v", n, cuts, got, err)
		}
	}
	drop, err := os.ReadFile("static/drop.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"fetch(", "XMLHttpRequest", "sendBeacon", "WebSocket", "FormData"} {
		if bytes.Contains(drop, []byte(word)) {
			t.Errorf("the script that hashes files can send: %s", word)
		}
	}
}
