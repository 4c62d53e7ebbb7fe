package agents

import (
	"bytes"
	"database/sql"
	"encoding/json/v2"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/internal/api/agents/wire"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/instance/keystore"
	"github.com/greatseal-io/greatseal/internal/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plant is a protected instance on SQLite that believes a side, and has one record that
// nobody signed.
type plant struct {
	*testing.T
	side *circletest.Side
	url  string
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	dir := t.TempDir()
	p := &plant{T: t, side: circletest.New(t)}
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "server.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	erp, err := sql.Open("sqlite", filepath.Join(dir, "erp.db"))
	must(t, err)
	for _, s := range []string{"CREATE TABLE sys_data_source (sys_id TEXT PRIMARY KEY, type TEXT, jdbc_server TEXT, sql_statement TEXT)", "INSERT INTO sys_data_source VALUES ('1', 'JDBC', 'db.example', 'SELECT secret')"} {
		_, err = erp.ExecContext(t.Context(), s)
		must(t, err)
	}
	must(t, erp.Close())
	b := p.side.Bundle(p.side.Publish())
	now := p.side.Now
	i, err := instance.Open(t.Context(), instance.Config{Keys: keystore.Open, Store: db, Clock: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler), Config: &config.Instance{
		Name: circletest.Protected, Role: "protected", State: filepath.Join(dir, "circle.state"), Sides: []config.Side{{Root: p.side.Root}},
		Platforms: map[string]config.Platform{"erp": {Database: "sqlite:" + filepath.Join(dir, "erp.db")}},
	}})
	must(t, err)
	t.Cleanup(func() { must(t, i.Close()) })
	must(t, i.Circles.Apply(t.Context(), b))
	mux := http.NewServeMux()
	f := huma.Format{Marshal: func(w io.Writer, v any) error { return json.MarshalWrite(w, v, json.Deterministic(true)) },
		Unmarshal: func(b []byte, v any) error { return json.Unmarshal(b, v, json.RejectUnknownMembers(true)) }}
	api := humago.New(mux, huma.Config{OpenAPI: &huma.OpenAPI{OpenAPI: "3.1.0", Info: &huma.Info{Title: "test", Version: "1"}, Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)}},
		Formats: map[string]huma.Format{wire.JSON: f, "json": f}, DefaultFormat: wire.JSON, Transformers: []huma.Transformer{plain}, RejectUnknownQueryParameters: true})
	MountInstance(api, i, slog.New(slog.DiscardHandler), func(r *http.Request, right Right) (string, error) {
		if r.Header.Get("Without") == string(right) {
			return "", newProblem(403, wire.CodeForbidden, "", "no")
		}
		return "tester", nil
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	p.url = srv.URL + "/v1"
	return p
}

// call calls a route; its answer's body, status and reason code.
func (p *plant) call(method, path, contentType string, body io.Reader, headers ...string) (status int, code string, text []byte) {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), method, p.url+path, body)
	must(p.T, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	must(p.T, err)
	defer res.Body.Close()
	text, err = io.ReadAll(res.Body)
	must(p.T, err)
	if res.StatusCode >= 400 {
		var x struct {
			Code string `json:"code"`
		}
		if err := json.Unmarshal(text, &x); err != nil || x.Code == "" || res.Header.Get("Content-Type") != wire.ProblemJSON {
			p.Errorf("%s %s: %d is no problem: %.300s", method, path, res.StatusCode, text)
		}
		code = x.Code
	}
	return res.StatusCode, code, text
}

// Each route of an instance once and more, also with what somebody hostile would send.
func TestRoutesOfInstances(t *testing.T) {
	p := newPlant(t)
	bundle, err := p.side.Bundle().Encode()
	must(t, err)
	const job, none = "/security-jobs/00000000000000000000000000000000", "/update-sets/00000000000000000000000000000000"
	bomb := `<?xml version="1.0"?><!DOCTYPE unload [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><unload>&b;</unload>`
	for _, x := range []struct {
		method, path, content, body string
		status                      int
		code, holds                 string
	}{
		{"GET", "/instance", "", "", 200, "", `"role":"protected"`},
		{"GET", "/instance?x=1", "", "", 422, "malformed", ""},
		{"GET", "/circle", "", "", 200, "", "greatseal circle bundle v1"},
		{"GET", "/circle?root=zz", "", "", 422, "malformed", ""},
		{"GET", "/circle?root=" + strings.Repeat("0", 63) + "1", "", "", 404, "not-found", ""},
		{"POST", "/circle", wire.Octets, string(bundle), 200, "", ""},
		{"POST", "/circle", wire.Octets, "greatseal circle bundle v1 garbage", 422, "refused", ""},
		{"POST", "/circle", wire.Octets, "", 0, "", ""},
		{"POST", "/circle", wire.JSON, "{}", 415, "", ""},
		{"POST", "/security-jobs", wire.JSON, "{}", 403, "forbidden", "NOT_PROTECTED"},
		{"POST", "/security-jobs", wire.JSON, `{"nobody":"knows"}`, 0, "", ""},
		{"POST", "/security-jobs", wire.JSON, `[`, 0, "", ""},
		{"GET", "/security-jobs", "", "", 403, "forbidden", ""},
		{"GET", job, "", "", 403, "forbidden", ""},
		{"GET", "/security-jobs/%00", "", "", 422, "malformed", ""},
		{"POST", job + "/pause", "", "", 403, "forbidden", ""},
		{"POST", job + "/resume", "", "", 403, "forbidden", ""},
		{"POST", job + "/cancel", "", "", 403, "forbidden", ""},
		{"POST", job + "/again", "", "", 403, "forbidden", ""},
		{"GET", job + "/log", "", "", 403, "forbidden", ""},
		{"GET", job + "/skipped", "", "", 403, "forbidden", ""},
		{"GET", job + "/set", "", "", 403, "forbidden", ""},
		{"GET", "/records/tables?platform=erp", "", "", 200, "", "sys_data_source"},
		{"GET", "/records/tables?platform=nowhere", "", "", 404, "not-found", ""},
		{"GET", "/records/explain?table=sys_data_source&key=1", "", "", 200, "", "SIG_MISSING"},
		{"GET", "/records/explain?table=sys_data_source&key=2", "", "", 422, "refused", "RECORD_MISMATCH"},
		{"GET", "/records/explain?table=%22;drop&key=%27", "", "", 422, "refused", ""},
		{"GET", "/records/explain?table=sys_data_source&key=1&key=2", "", "", 0, "", ""},
		{"GET", "/records/trusted?table=sys_data_source&key=1", "", "", 200, "", `"trusted":false`},
		{"GET", "/records/trusted?table=sys_data_source&key=1&purpose=circle_of_trust", "", "", 200, "", `"trusted":false`},
		{"GET", "/records/scan", "", "", 200, "", `"missing":1`},
		{"GET", "/records/scan?configuration=none", "", "", 422, "malformed", ""},
		{"GET", "/records/scan.csv", "", "", 200, "", `erp,sys_data_source`},
		{"GET", "/records/scan.csv?configuration=none", "", "", 422, "malformed", ""},
		{"POST", "/records/may-enforce", "", "", 409, CodeNotClean, ""},
		{"GET", "/records/findings", "", "", 200, "", `"findings"`},
		{"POST", "/records/export", wire.JSON, `{"platform":"erp","records":[{"Table":"sys_data_source","All":true}]}`, 200, "", "greatseal export 1"},
		{"POST", "/records/export", wire.JSON, `{"platform":"erp","records":[{"Table":"sys_data_source","Filter":"1 +"}]}`, 422, "malformed", ""},
		{"POST", "/records/export", wire.JSON, `{"platform":"erp","records":[{"Table":"nowhere"}]}`, 404, "not-found", ""},
		{"POST", "/records/export", wire.JSON, `{"platform":"erp","platform":"erp","records":[]}`, 0, "", ""},
		{"POST", "/records/import?platform=erp", wire.Octets, "greatseal export 1\ngarbage", 422, "refused", ""},
		{"POST", "/records/import?platform=erp", wire.Octets, strings.Repeat("\xff", 1000), 422, "refused", ""},
		{"POST", "/records/import?platform=nowhere", wire.Octets, "x", 404, "not-found", ""},
		{"POST", "/records/import", wire.Octets, "x", 422, "malformed", ""},
		{"POST", "/update-sets?platform=erp", wire.Octets, "<unload>", 422, "", ""},
		{"POST", "/update-sets?platform=erp", wire.Octets, bomb, 422, "", ""},
		{"POST", "/update-sets?platform=nowhere", wire.Octets, "<unload/>", 404, "not-found", ""},
		{"GET", "/update-sets", "", "", 200, "", `"sets":[]`},
		{"GET", none, "", "", 404, "not-found", ""},
		{"POST", none + "/preview", "", "", 404, "not-found", ""},
		{"POST", none + "/decide", wire.JSON, `{"decisions":{"0":"accept"}}`, 404, "not-found", ""},
		{"POST", none + "/decide", wire.JSON, `{"decisions":{"0":"accept","0":"skip"}}`, 0, "", ""},
		{"POST", none + "/decide", wire.JSON, `{"decisions":{}}` + strings.Repeat(" ", 4<<20), 413, "", ""},
		{"GET", none + "/compare", "", "", 404, "not-found", ""},
		{"POST", none + "/commit", "", "", 404, "not-found", ""},
	} {
		t.Run(fmt.Sprintf("%s %.40s %.20q", x.method, x.path, x.body), func(t *testing.T) {
			q := &plant{t, p.side, p.url}
			st, code, text := q.call(x.method, x.path, x.content, strings.NewReader(x.body))
			switch {
			case x.status == 0 && (st < 400 || st >= 500):
				t.Errorf("%d %s: want a refusal: %.300s", st, code, text)
			case x.status != 0 && st != x.status, x.code != "" && code != x.code:
				t.Errorf("%d %s: want %d %s: %.300s", st, code, x.status, x.code, text)
			case !bytes.Contains(text, []byte(x.holds)):
				t.Errorf("%.300s: want %s", text, x.holds)
			}
			if st >= 400 && bytes.Contains(text, []byte("SELECT secret")) {
				t.Errorf("a value stands in a refusal: %s", text)
			}
		})
	}
}

// Every route asks for its right before it does anything.
func TestRightsOfInstanceRoutes(t *testing.T) {
	p := newPlant(t)
	for path, right := range map[string]Right{
		"GET /instance": ReadCircle, "GET /circle": ReadCircle, "POST /circle": PublishCircle, "POST /security-jobs": SignRecords, "GET /security-jobs": ReadRecords,
		"GET /records/scan": ReadRecords, "GET /records/scan.csv": ReadRecords, "POST /records/export": ExportRecords, "POST /records/import": ImportRecords,
		"POST /update-sets": ImportRecords, "POST /update-sets/0/commit": ImportRecords, "POST /update-sets/0/decide": ImportRecords, "POST /update-sets/0/preview": ImportRecords,
	} {
		method, at, _ := strings.Cut(path, " ")
		for _, content := range []string{"", wire.Octets, wire.JSON} {
			if st, _, text := p.call(method, at, content, http.NoBody, "Without", string(right)); st != 403 && st != 415 {
				t.Errorf("%s without %s: %d %.200s", path, right, st, text)
			}
		}
	}
}

// A body that is said to be too large is not waited for, and calls that take much wait
// for each other.
func TestRoomForHeavyCalls(t *testing.T) {
	p := newPlant(t)
	var pipes []*io.PipeWriter
	ended := make(chan int, 2)
	for range 2 {
		r, w := io.Pipe()
		pipes = append(pipes, w)
		go func() {
			req, err := http.NewRequest("POST", p.url+"/records/import?platform=erp", r)
			if err != nil {
				panic(err)
			}
			req.Header.Set("Content-Type", wire.Octets)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				ended <- 0
				return
			}
			res.Body.Close()
			ended <- res.StatusCode
		}()
		_, err := w.Write([]byte("greatseal export 1\n"))
		must(t, err)
	}
	full := false
	for n := 0; n < 500 && !full; n++ { // until both are there
		st, code, _ := p.call("GET", "/records/scan", "", nil)
		full = st == 503 && code == CodeNoRoom
		time.Sleep(5 * time.Millisecond)
	}
	if !full {
		t.Error("three heavy calls of one caller go on at a time")
	}
	if st, _, _ := p.call("GET", "/instance", "", nil); st != 200 {
		t.Errorf("a small call: %d", st)
	}
	for _, w := range pipes {
		w.Close()
	}
	for range pipes {
		if st := <-ended; st != 422 {
			t.Errorf("an import of nothing: %d", st)
		}
	}
	if st, _, text := p.call("GET", "/records/scan", "", nil); st != 200 {
		t.Errorf("afterwards: %d %s", st, text)
	}
}

// slowPeer notes the deadlines that it is given.
type slowPeer struct {
	http.ResponseWriter
	read, write time.Time
}

func (s *slowPeer) SetReadDeadline(t time.Time) error  { s.read = t; return nil }
func (s *slowPeer) SetWriteDeadline(t time.Time) error { s.write = t; return nil }

// A body that comes for hours leaves its answer time.
func TestAnswerHasTimeAfterTheBody(t *testing.T) {
	w := &slowPeer{ResponseWriter: httptest.NewRecorder(), write: time.Now()}
	b := patient(io.NopCloser(strings.NewReader("ab")), w, heavyAnswer).(*patientBody)
	one := make([]byte, 1)
	_, err := b.Read(one)
	must(t, err)
	first := w.write
	b.moved = b.moved.Add(-time.Hour) // an hour passes
	_, err = b.Read(one)
	must(t, err)
	if !first.After(b.begun.Add(heavyAnswer/2)) || !w.write.After(first) || w.read.IsZero() {
		t.Errorf("write deadlines %s, %s", first, w.write)
	}
}

func TestSpooledAnswersAreBounded(t *testing.T) {
	var out bytes.Buffer
	w := &atMost{&out, 10}
	if _, err := w.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	_, err := w.Write([]byte{1})
	if p, ok := err.(*problem); !ok || p.Status != 413 || out.Len() != 10 {
		t.Errorf("%v after %d bytes", err, out.Len())
	}
}
