package api_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

var update = flag.Bool("update", false, "write docs/openapi.yaml anew")

// The OpenAPI document in the repository is the one that the server serves.
func TestDocument(t *testing.T) {
	s := newSite(t, func(c *api.Config) { c.Version, c.Describe = "1", true })
	path := filepath.Join("..", "..", "docs", "openapi.yaml")
	if *update {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, s.api.Document(), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(want, s.api.Document()) {
		t.Error("docs/openapi.yaml is not up to date: go test ./internal/api -run TestDocument -update")
	}
	for _, p := range []string{"/openapi.json", "/openapi.yaml"} {
		a := s.raw(t, "GET", p, nil)
		if a.StatusCode != 200 || !bytes.Contains(a.body, []byte("/v1/requests/{id}/evidence")) || bytes.Contains(a.body, []byte("ErrorModel")) {
			t.Errorf("%s: %d", p, a.StatusCode)
		}
	}
}

// Every reason code that server and quorum use is documented, once.
func TestCodes(t *testing.T) {
	have := map[string]bool{}
	for _, c := range api.Codes() {
		if have[c.Code] {
			t.Errorf("%s is documented twice", c.Code)
		}
		if c.Status < 400 || c.Text == "" {
			t.Errorf("%s: %+v", c.Code, c)
		}
		have[c.Code] = true
	}
	calls := 0
	for _, dir := range []string{".", "../server"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		must(t, err)
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
			must(t, err)
			ast.Inspect(file, func(n ast.Node) bool {
				var lit ast.Expr
				switch x := n.(type) {
				case *ast.CallExpr:
					if id, ok := x.Fun.(*ast.Ident); ok && (id.Name == "problem" || id.Name == "newProblem") && len(x.Args) > 2 {
						lit = x.Args[1]
					}
				case *ast.KeyValueExpr:
					if id, ok := x.Key.(*ast.Ident); ok && id.Name == "Code" {
						lit = x.Value
					}
				}
				b, ok := lit.(*ast.BasicLit)
				if !ok {
					return true
				}
				code, _ := strconv.Unquote(b.Value)
				calls++
				if !have[code] {
					t.Errorf("%s: code %q is not documented", f, code)
				}
				return true
			})
		}
	}
	if calls < 30 {
		t.Errorf("only %d codes were found in the source", calls)
	}
	for _, c := range []quorum.Code{quorum.Malformed, quorum.DeploymentMismatch, quorum.CharterUnknown, quorum.RequesterUnknown, quorum.RequesterSignature, quorum.CommandNotAllowed,
		quorum.PolicyUnknown, quorum.KeyUnknown, quorum.KeyMismatch, quorum.RequesterNotAllowed, quorum.FormatNotAllowed, quorum.PurposeNotAllowed, quorum.TooManyItems,
		quorum.CharterInvalid, quorum.LifetimeTooLong, quorum.Expired, quorum.Vetoed, quorum.QuorumPending, quorum.NotYet, quorum.OutsideWindow, quorum.ItemsMismatch,
		quorum.NameNotAllowed, quorum.ParamNotAllowed} {
		if !have[string(c)] {
			t.Errorf("%s is not documented", c)
		}
	}
}

// A whole life over HTTP: what the client gets is checked as a stranger would.
func TestLife(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	alice, bob := s.as(t, "alice"), s.as(t, "bob")
	items := s.Files("app", 3)
	env := s.Sign("alice", "release", items)
	v, err := alice.Submit(ctx, env, items)
	must(t, err)
	if v.State != store.Pending || v.Attached || v.ID != s.ID(env).String() || v.Count != 3 {
		t.Fatalf("submitted: %+v", v)
	}
	if v, err = alice.Submit(ctx, env, items); err != nil || !v.Attached {
		t.Fatalf("submitted again: %+v %v", v, err)
	}
	short := v.ID[:10]
	box, err := bob.Inbox(ctx, 0)
	must(t, err)
	if len(box) != 1 || box[0].ID != v.ID {
		t.Fatalf("inbox: %v", box)
	}
	got, err := bob.Items(ctx, short)
	must(t, err)
	if !slices.EqualFunc(got, items, bytes.Equal) {
		t.Error("items differ")
	}
	if root, err := format.ItemsRoot(got); err != nil || root.String() != v.Command.Sign.Items {
		t.Errorf("root: %v %v", root, err)
	}
	files, err := bob.Files(ctx, short, 1, 1)
	must(t, err)
	if files.Count != 3 || len(files.Files) != 1 || files.Files[0].Name != "app-1.bin" || files.Files[0].Index != 1 {
		t.Errorf("files: %+v", files)
	}
	_, err = alice.Result(ctx, short)
	wants(t, "result before", err, "not-executed")

	waited := make(chan *server.View, 1)
	seen := make(chan store.State, 16)
	go func() {
		v, err := alice.Wait(ctx, short, func(v *server.View) { seen <- v.State })
		if err != nil {
			t.Error(err)
		}
		waited <- v
	}()
	for _, n := range []string{"bob", "carol"} {
		if _, err := bob.Endorse(ctx, s.Endorse(n, env)); err != nil { // whoever carries it
			t.Fatal(err)
		}
	}
	v = <-waited
	if v == nil || v.State != store.Executed {
		t.Fatalf("waited for: %+v", v)
	}
	if first := <-seen; first != store.Pending {
		t.Errorf("first seen: %s", first)
	}
	ex, err := alice.Request(ctx, short, true)
	must(t, err)
	if ex.Decision == nil || ex.Decision.State != quorum.Granted || len(ex.Decision.Votes) != 2 {
		t.Errorf("explained: %+v", ex.Decision)
	}
	envs, err := alice.Envelopes(ctx, short)
	must(t, err)
	if !bytes.Equal(envs.Request, env) || len(envs.Endorsements) != 2 {
		t.Errorf("envelopes: %s", envs.Request)
	}
	if id := s.ID(envs.Request); id.String() != v.ID {
		t.Errorf("envelope of %s", id)
	}
	res, err := alice.Result(ctx, short)
	must(t, err)
	if len(res.Signatures) != 3 || len(res.Chain) == 0 || len(res.Receipt) == 0 {
		t.Errorf("result: %d signatures", len(res.Signatures))
	}
	one, err := alice.Evidence(ctx, short, 2)
	must(t, err)
	if _, err := verify.Judge(one, s.Pin, servertest.Formats()); err != nil {
		t.Errorf("evidence: %v", err)
	}
	n := 0
	for e, err := range alice.EvidenceOf(ctx, short, 0, 3) {
		must(t, err)
		a, err := verify.Judge(e, s.Pin, servertest.Formats())
		must(t, err)
		if a.Index() != n {
			t.Errorf("evidence %d has index %d", n, a.Index())
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d documents", n)
	}
	_, err = alice.Evidence(ctx, short, 3)
	wants(t, "evidence of no file", err, "not-found")

	found, err := alice.Search(ctx, client.Search{Name: "APP-1*"})
	must(t, err)
	if len(found.Files) != 1 || found.Files[0].File.Index != 1 || found.Files[0].Request != v.ID {
		t.Errorf("search by name: %+v", found)
	}
	for what, q := range map[string]client.Search{"requester": {Person: "alice"}, "endorser": {Person: "carol"}, "key": {Key: "release"}, "policy": {Policy: "release"}, "since": {Since: s.Now().Add(-time.Hour)},
		"format": {Format: "cms"}, "requester alone": {Requester: "alice"}, "endorser alone": {Endorser: "carol", Name: "app*"}} {
		if found, err = alice.Search(ctx, q); err != nil || len(found.Files) != 3 {
			t.Errorf("search by %s: %d files, %v", what, len(found.Files), err)
		}
	}
	_, p, err := format.DecodeItem(items[0])
	must(t, err)
	if found, err = alice.Search(ctx, client.Search{Digest: p.Content}); err != nil || len(found.Files) != 1 {
		t.Errorf("search by digest: %+v %v", found, err)
	}
	if found, err = alice.Search(ctx, client.Search{Prefix: fmt.Sprintf("%x", p.Content[:4])}); err != nil || len(found.Files) != 1 {
		t.Errorf("search by the beginning of a digest: %+v %v", found, err)
	}
	paged := map[int]bool{}
	for q := (client.Search{Policy: "release", Limit: 2}); ; q.After = found.Next {
		found, err = alice.Search(ctx, q)
		must(t, err)
		for _, f := range found.Files {
			paged[f.File.Index] = true
		}
		if found.Truncated != (found.Next != "") || len(found.Files) > 2 {
			t.Errorf("%+v", found)
		}
		if found.Next == "" {
			break
		}
	}
	if len(paged) != 3 {
		t.Errorf("%d files on pages", len(paged))
	}
	_, err = alice.Search(ctx, client.Search{Policy: "release", After: "1-0"})
	wants(t, "a page that is none", err, "malformed")
	if st, err := alice.Stats(ctx, 7); err != nil || len(st.Days) != 7 || st.Entries == 0 || len(st.Policies) != 1 || st.Policies[0].N != 3 || st.Behind != 0 {
		t.Errorf("stats: %+v %v", st, err)
	}
	if found, err = alice.Search(ctx, client.Search{Person: "dave"}); err != nil || len(found.Files) != 0 {
		t.Errorf("search for nobody: %+v %v", found, err)
	}
	page, err := alice.Requests(ctx, client.Filter{State: []store.State{store.Executed, store.Failed}, Policy: "release"})
	if err != nil || len(page.Requests) != 1 {
		t.Errorf("list: %+v %v", page, err)
	}
}

func TestCancelled(t *testing.T) {
	s := newSite(t)
	alice := s.as(t, "alice")
	items := s.Files("app", 1)
	env := s.Sign("alice", "release", items)
	_, err := alice.Submit(t.Context(), env, items)
	must(t, err)
	id := s.ID(env)
	sign := func(who string) statement.Signature {
		sig, err := servertest.Signer(who).Sign(t.Context(), credential.Login, server.CancelMessage(id))
		must(t, err)
		return statement.Signature{KeyID: string(servertest.Signer(who).Credential().ID()), Sig: sig}
	}
	_, err = alice.Cancel(t.Context(), id, "ann", sign("ann"))
	wants(t, "by another", err, "not-requester")
	_, err = alice.Cancel(t.Context(), id, "alice", sign("bob"))
	wants(t, "signed by another", err, "credential-unknown")
	v, err := alice.Cancel(t.Context(), id, "alice", sign("alice"))
	if err != nil || v.State != store.Cancelled {
		t.Errorf("cancelled: %+v %v", v, err)
	}
}

// The log that the API publishes is one that a stranger's client checks whole.
func TestLog(t *testing.T) {
	s := newSite(t)
	alice, nobody := s.as(t, "alice"), s.as(t, "")
	items := s.Files("app", 1)
	for i := range 3 {
		items := s.Files(fmt.Sprint("n", i), 1)
		_, err := alice.Submit(t.Context(), s.Sign("alice", "nightly", items), items)
		must(t, err)
	}
	v, err := alice.Submit(t.Context(), s.Sign("alice", "nightly", items), items)
	must(t, err)
	_, err = alice.Evidence(t.Context(), v.ID, 0) // waits for the log
	must(t, err)
	st, err := alice.Status(t.Context())
	must(t, err)
	key, err := audit.ParseVerifierKey(st.Log.VerifierKey)
	must(t, err)
	log := nobody.Log(st.Log.Origin, key)
	head, err := log.Checkpoint(t.Context())
	must(t, err)
	must(t, log.Fsck(t.Context(), head))
	n := int64(0)
	for e, err := range log.Entries(t.Context(), head, 0, head.Size()) {
		must(t, err)
		if e.Index != n {
			t.Fatalf("entry %d is %d", n, e.Index)
		}
		n++
	}
	if n != head.Size() || n < 8 {
		t.Errorf("%d entries of %d", n, head.Size())
	}
	if a := s.raw(t, "GET", "/v1/log/checkpoint", nil); !strings.Contains(a.Header.Get("Cache-Control"), "max-age=5") {
		t.Errorf("checkpoint: Cache-Control %q", a.Header.Get("Cache-Control"))
	}
	w := strconv.FormatInt(head.Size(), 10)
	if a := s.raw(t, "GET", "/v1/log/tile/0/000.p/"+w, nil); a.StatusCode != 200 || len(a.body) != int(head.Size())*32 {
		t.Errorf("tile: %d, %d bytes", a.StatusCode, len(a.body))
	}
	for _, p := range []string{"0/000", "0/000.p/" + strconv.FormatInt(head.Size()+1000, 10), "0/001", "9/000", "0/x001", "..%2f..%2fetc", "entries/-1", "0/000.p/0", "6/000", "0/x999/x999/x999/x999/999"} {
		if a := s.raw(t, "GET", "/v1/log/tile/"+p, nil); a.StatusCode != 404 {
			t.Errorf("tile %s: %d", p, a.StatusCode)
		}
	}
	if a := s.raw(t, "GET", "/v1/log/body/"+strings.Repeat("0", 64), nil); a.Code != "not-found" {
		t.Errorf("body that is not there: %+v", a.Problem)
	}
}

func TestCharterAndStatus(t *testing.T) {
	s := newSite(t)
	nobody, alice := s.as(t, ""), s.as(t, "alice")
	c, err := nobody.Charter(t.Context())
	must(t, err)
	if c.ID != s.Pin || c.Root != s.Pin || c.Version != 1 || statement.IDOf(c.Statement) != s.Pin || !strings.Contains(c.YAML, "deployment: test") {
		t.Errorf("charter: %+v", c)
	}
	b, err := nobody.Chain(t.Context())
	must(t, err)
	if _, err := quorum.DecodeChain(&s.Pin, b); err != nil {
		t.Errorf("chain: %v", err)
	}
	keys, err := alice.Keys(t.Context())
	must(t, err)
	if len(keys) != 2 || keys[0].State != "active" || len(keys[0].PublicKey) == 0 {
		t.Errorf("keys: %+v", keys)
	}
	st, err := alice.Status(t.Context())
	must(t, err)
	if st.You.Name != "alice" || st.You.Via != "session" || !st.Keeper.Reachable || st.Root != s.Pin || !slices.Equal(st.Formats, []string{"cms", "pe"}) {
		t.Errorf("status: %+v", st)
	}
	must(t, nobody.Ready(t.Context()))
	a := s.raw(t, "GET", "/metrics", nil)
	for _, m := range []string{"greatseal_keeper_up 1", "greatseal_log_size", "greatseal_http_request_duration_seconds_bucket", `greatseal_jobs{kind="webhook"}`, "greatseal_requests_submitted_total"} {
		if !bytes.Contains(a.body, []byte(m)) {
			t.Errorf("metrics lack %s", m)
		}
	}
}

// Requests far beyond JSON's limits, types that are none, and other nonsense end
// in problems, and never in 500.
func TestNonsense(t *testing.T) {
	s := newSite(t, func(c *api.Config) { c.Limits.Body = 1 << 20 })
	auth := "Bearer " + s.token(t, "ci", "request", "read")
	id := strings.Repeat("ab", 32)
	for _, c := range []struct {
		method, path, ct string
		body             []byte
		status           int
		code             string
	}{
		{"POST", "/v1/requests", "application/json", bytes.Repeat([]byte("a"), 2<<20), 413, "too-large"},
		{"POST", "/v1/endorsements", "application/json", bytes.Repeat([]byte(" "), 3<<20), 413, "too-large"},
		{"POST", "/v1/endorsements", "text/plain", []byte("{}"), 415, "content-type"},
		{"POST", "/v1/endorsements", "", []byte("{}"), 415, "content-type"},
		{"POST", "/v1/endorsements", "application/x-www-form-urlencoded", []byte("a=b"), 415, "content-type"},
		{"POST", "/v1/endorsements", "application/json", []byte("{"), 422, "malformed"},
		{"POST", "/v1/endorsements", "application/json", []byte(`{"envelope":{},"envelope":{}}`), 422, "malformed"},
		{"POST", "/v1/endorsements", "application/json", []byte(`{"envelope":{},"more":1}`), 422, "malformed"},
		{"POST", "/v1/endorsements", "application/json", []byte(`{"envelope":null}`), 400, "malformed"},
		{"POST", "/v1/endorsements", "application/json", []byte("{\"envelope\":\"\xff\"}"), 422, "malformed"},
		{"POST", "/v1/endorsements", "application/json", []byte(strings.Repeat("[", 100_000)), 422, "malformed"},
		{"POST", "/v1/endorsements", "application/json", []byte{}, 400, "malformed"},
		{"POST", "/v1/requests", "application/json", []byte(`{"envelope":{},"items":["!"]}`), 422, "malformed"},
		{"GET", "/v1/requests?limit=0", "", nil, 422, "malformed"},
		{"GET", "/v1/requests?limit=999999", "", nil, 422, "malformed"},
		{"GET", "/v1/requests?state=happy", "", nil, 422, "malformed"},
		{"GET", "/v1/requests?unknown=1", "", nil, 422, "malformed"},
		{"GET", "/v1/requests?since=yesterday", "", nil, 422, "malformed"},
		{"GET", "/v1/requests/xyz", "", nil, 422, "malformed"},
		{"GET", "/v1/requests/abc", "", nil, 422, "malformed"},
		{"GET", "/v1/requests/" + id, "", nil, 404, "not-found"},
		{"GET", "/v1/requests/" + id + "?wait=1h", "", nil, 404, "not-found"},
		{"GET", "/v1/requests/" + id + "/evidence", "", nil, 404, "not-found"},
		{"GET", "/v1/search", "", nil, 422, "malformed"},
		{"GET", "/v1/search?digest=a", "", nil, 422, "malformed"},
		{"PATCH", "/v1/requests/" + id + "/files/0/content", "application/json", []byte("{}"), 415, "content-type"},
		{"PATCH", "/v1/requests/" + id + "/files/0/content", "application/offset+octet-stream", []byte("a"), 422, "malformed"},
		{"PUT", "/v1/requests", "application/json", []byte("{}"), 404, "no-such-route"},
		{"DELETE", "/v1/requests/" + id, "", nil, 404, "no-such-route"},
		{"GET", "/", "", nil, 404, "no-such-route"},
		{"GET", "/v1", "", nil, 404, "no-such-route"},
		{"GET", "/docs", "", nil, 404, "no-such-route"},
		{"POST", "/v1/timestamp", "application/json", []byte("{}"), 415, "content-type"},
		{"POST", "/v1/timestamp", "application/timestamp-query", make([]byte, 17<<10), 413, "too-large"},
	} {
		h := []string{"Authorization", auth}
		if c.ct != "" {
			h = append(h, "Content-Type", c.ct)
		}
		a := s.raw(t, c.method, c.path, c.body, h...)
		if a.StatusCode != c.status || a.Code != c.code {
			t.Errorf("%s %s %s: %d %q (%.200s), want %d %s", c.method, c.path, c.ct, a.StatusCode, a.Code, a.body, c.status, c.code)
		}
		if a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: headers %v", c.method, c.path, a.Header)
		}
	}
	// A body without a length is bounded too.
	r, err := http.NewRequest("POST", s.http.URL+"/v1/endorsements", struct{ *bytes.Reader }{bytes.NewReader(bytes.Repeat([]byte(" "), 3<<20))})
	must(t, err)
	r.ContentLength = -1
	r.Header.Set("Authorization", auth)
	r.Header.Set("Content-Type", "application/json")
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("an endless body: %d", resp.StatusCode)
		}
	}
}

// Whatever JSON comes, the answer is a problem and not a crash.
func FuzzBody(f *testing.F) {
	for _, b := range []string{`{}`, `{"envelope":{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}}`, `{"envelope":1}`, `[]`, `null`, "\xff"} {
		f.Add([]byte(b))
	}
	w := servertest.New(f)
	st := w.Store("")
	srv, _ := w.Server(st)
	a, err := api.New(api.Config{Server: srv, Store: st, Clock: w.Now, Limits: api.Limits{PerSecond: 1e9, Burst: 1e9, AnonPerSecond: 1e8}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range []string{"/v1/requests", "/v1/endorsements", "/v1/sessions", "/v1/tokens"} {
			r := httptest.NewRequest("POST", p, bytes.NewReader(b))
			r.Header.Set("Content-Type", "application/json")
			// As if TLS had verified a certificate of alice's.
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{URIs: []*url.URL{{Scheme: "greatseal", Opaque: "alice"}}}}}}
			rec := httptest.NewRecorder()
			a.Handler().ServeHTTP(rec, r)
			if rec.Code < 400 || rec.Code >= 500 {
				t.Fatalf("%s %q: %d %s", p, b, rec.Code, rec.Body)
			}
		}
	})
}
