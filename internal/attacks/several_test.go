package attacks

import (
	"bytes"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/cli"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/verify"
)

// A server that keeps back what the second of a policy's keys has made, or gives
// one key's certificates for the other's, in the result, in the evidence or in
// both alike: the client finishes no file, and the evidence is good for nobody.
func TestAttackSecondKeyDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{charter: func(w *world, c *charter.Charter) {
		p := c.Policies["release"]
		p.Also = []string{"other"}
		p.Formats = []string{"dsse"}
		c.Policies["release"] = p
	}})
	const content = "signed by two keys"
	item, _ := w.item("dsse", "app.bin", content)
	id := idOf(t, w.sign([][]byte{item}))
	w.published()

	type lie func(r *server.Result, f *verify.EvidenceFile)
	var tell lie
	a, err := api.New(api.Config{Server: w.server, Store: w.store, Clock: w.now})
	check(t, err)
	t.Cleanup(a.Stop)
	told := 0
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		result, evidence := strings.HasSuffix(q.URL.Path, "/result"), strings.HasSuffix(q.URL.Path, "/evidence")
		if !result && !evidence {
			a.Handler().ServeHTTP(rw, q)
			return
		}
		q.Header.Del("Accept-Encoding")
		rec := httptest.NewRecorder()
		a.Handler().ServeHTTP(rec, q)
		body := rec.Body.Bytes()
		var r server.Result
		e := new(verify.Evidence)
		var err error
		switch {
		case rec.Code != http.StatusOK:
		case result:
			if err = json.Unmarshal(body, &r); err == nil {
				tell(&r, &e.File)
				body, err = json.Marshal(r)
			}
		default:
			if e, err = verify.DecodeEvidence(bytes.TrimSpace(body)); err == nil {
				tell(&r, &e.File)
				if body, err = e.Encode(); err == nil {
					body = append(body, '\n')
				}
			}
		}
		if err != nil {
			t.Errorf("the liar: %s: %v", q.URL.Path, err)
		}
		told++
		for _, h := range []string{"Content-Type"} {
			rw.Header().Set(h, rec.Header().Get(h))
		}
		rw.WriteHeader(rec.Code)
		rw.Write(body)
	}))
	t.Cleanup(srv.Close)

	dir := t.TempDir()
	conf := filepath.Join(dir, "client.yaml")
	check(t, os.WriteFile(conf, fmt.Appendf(nil, "server: %s\nname: alice\nidentity: %s\nroot: %s\n", srv.URL, w.people.KeyFile("alice"), w.people.Root), 0o600))
	n := 0
	// collect is what the requester does, with whom the server makes up a story.
	collect := func(l lie) (code int, said string, left []string, finished string) {
		t.Helper()
		tell = l
		n++
		folder := filepath.Join(dir, fmt.Sprint(n))
		check(t, os.Mkdir(folder, 0o700))
		path := filepath.Join(folder, "app.bin")
		check(t, os.WriteFile(path, []byte(content), 0o600))
		var out bytes.Buffer
		code = cli.Main(w.ctx, []string{"--config", conf, "collect", id.String(), path}, strings.NewReader(""), &out, &out)
		names, err := os.ReadDir(folder)
		check(t, err)
		for _, f := range names {
			if f.Name() != "app.bin" {
				left = append(left, f.Name())
			}
		}
		return code, out.String(), left, path
	}
	honest := func(*server.Result, *verify.EvidenceFile) {}
	code, said, left, path := collect(honest)
	if code != 0 || len(left) != 2 || told != 2 {
		t.Fatalf("an honest server: %d, %v is left, %d answers passed by: %s", code, left, told, said)
	}
	var out bytes.Buffer
	if code := cli.Main(w.ctx, []string{"--config", conf, "verify", path}, strings.NewReader(""), &out, &out); code != 0 {
		t.Fatalf("what was finished: %d %s", code, &out)
	}
	if !strings.Contains(out.String(), "release") || !strings.Contains(out.String(), "other") {
		t.Errorf("it is not said that two keys have signed: %s", &out)
	}

	half := func(r *server.Result) {
		for i := range r.Signatures {
			r.Signatures[i] = r.Signatures[i][:1]
		}
	}
	reversed := func(r *server.Result) {
		for i := range r.Signatures {
			r.Signatures[i] = slices.Clone(r.Signatures[i])
			slices.Reverse(r.Signatures[i])
		}
	}
	exchanged := func(r *server.Result) {
		if len(r.Also) == 1 {
			r.Chain, r.Also[0] = r.Also[0], r.Chain
		}
	}
	first := func(f *verify.EvidenceFile) verify.EvidenceKey {
		return verify.EvidenceKey{Certificates: f.Certificates, PublicKey: f.PublicKey}
	}
	results := map[string]func(r *server.Result){
		"signature dropped":       half,
		"signatures exchanged":    reversed,
		"certificates exchanged":  exchanged,
		"certificates dropped":    func(r *server.Result) { r.Also = nil },
		"certificates emptied":    func(r *server.Result) { r.Also = [][][]byte{{}} },
		"all of it dropped":       func(r *server.Result) { half(r); r.Also = nil },
		"the first key's instead": func(r *server.Result) { r.Also = [][][]byte{r.Chain} },
		"everything exchanged":    func(r *server.Result) { reversed(r); exchanged(r) },
		"the first signature twice": func(r *server.Result) {
			for i := range r.Signatures {
				if len(r.Signatures[i]) == 2 {
					r.Signatures[i] = [][]byte{r.Signatures[i][0], r.Signatures[i][0]}
				}
			}
		},
	}
	swap := func(f *verify.EvidenceFile) {
		if len(f.Also) == 1 {
			k := f.Also[0]
			f.Also = []verify.EvidenceKey{first(f)}
			f.Certificates, f.PublicKey = k.Certificates, k.PublicKey
		}
	}
	turn := func(f *verify.EvidenceFile) {
		f.Signatures = slices.Clone(f.Signatures)
		slices.Reverse(f.Signatures)
	}
	cut := func(f *verify.EvidenceFile) { f.Signatures = f.Signatures[:min(1, len(f.Signatures))] }
	documents := map[string]func(f *verify.EvidenceFile){
		"signature dropped":       cut,
		"signatures exchanged":    turn,
		"certificates exchanged":  swap,
		"certificates dropped":    func(f *verify.EvidenceFile) { f.Also = nil },
		"all of it dropped":       func(f *verify.EvidenceFile) { cut(f); f.Also = nil },
		"the first key's instead": func(f *verify.EvidenceFile) { f.Also = []verify.EvidenceKey{first(f)} },
		"everything exchanged":    func(f *verify.EvidenceFile) { turn(f); swap(f) },
		"the first signature twice": func(f *verify.EvidenceFile) {
			if len(f.Signatures) == 2 {
				f.Signatures = [][]byte{f.Signatures[0], f.Signatures[0]}
			}
		},
	}
	noticed := func(what string, l lie) {
		t.Helper()
		if code, said, left, _ := collect(l); code == 0 || len(left) != 0 || strings.Contains(said, "panic") {
			t.Errorf("%s: exit %d, %v is written: %s", what, code, left, said)
		}
	}
	for what, f := range results {
		noticed("in the result, "+what, func(r *server.Result, _ *verify.EvidenceFile) { f(r) })
		if g := documents[what]; g != nil {
			noticed("in both, "+what, func(r *server.Result, e *verify.EvidenceFile) { f(r); g(e) })
		}
	}
	for what, f := range documents {
		noticed("in the evidence, "+what, func(_ *server.Result, e *verify.EvidenceFile) { f(e) })
		ev, err := w.server.Evidence(w.ctx, id, 0)
		check(t, err)
		f(&ev.File)
		if _, err := verify.Judge(ev, w.people.Root, all.Formats()); err == nil {
			t.Errorf("evidence, %s: good for whoever verifies it", what)
		}
	}
}
