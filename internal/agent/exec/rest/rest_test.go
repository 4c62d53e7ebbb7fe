package rest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/agent/agenttest"
	"github.com/greatseal-io/greatseal/internal/agent/credentials"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/rejection"
)

const table = "sys_rest_message_fn"

func author(t *testing.T) *agenttest.Author {
	return agenttest.NewAuthor(t, map[string][]string{table: {"content", "credential", "headers", "http_method", "rest_endpoint"}}, "a", "b")
}

// server echoes what it gets, with a certificate that only the credential trusts.
func server(t *testing.T) (*httptest.Server, *Executor) {
	t.Helper()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "open") }))
	t.Cleanup(other.Close)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/echo", http.StatusFound)
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case "/large":
			for range 100 {
				_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
			}
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 50<<20))
			z.Close()
		default:
			b, _ := io.ReadAll(r.Body)
			user, pass, _ := r.BasicAuth()
			fmt.Fprintf(w, "%s %s|%s|%s|%s:%s", r.Method, r.RequestURI, r.Header.Get("X-A"), b, user, pass)
		}
	}))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = nil
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "credentials.yaml")
	if err := os.WriteFile(file, []byte("api: {user: bot, password: hunter2, ca: ca.pem}\nnoca: {token: hunter2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := credentials.Open(file, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	return s, &Executor{Credentials: c, Resolver: net.DefaultResolver}
}

func TestRequests(t *testing.T) {
	s, e := server(t)
	a := author(t)
	run := func(f, params map[string]string) (*agenttest.Pages, exec.Result, error) {
		t.Helper()
		f = maps.Clone(f)
		if f["credential"] == "" {
			f["credential"] = "api"
		}
		return agenttest.Run(t.Context(), e, agenttest.Open(t, []string{"127.0.0.1:*"}, []string{"api", "noca"}), agenttest.Work("RESTProbe", a.Trusted(t, agenttest.Record(table, "x", f)), params))
	}
	evil := `"},"admin":true,"/../?x=1&y` + "\u00e4"
	p, res, err := run(map[string]string{"http_method": "post", "rest_endpoint": s.URL + "/v1/${a}/items?q=${b}&fixed=1", "headers": "X-A: <${b}>", "content": `{"v":"-${a}-"}`},
		map[string]string{"a": evil, "b": "b&c=d"})
	if err != nil {
		t.Fatal(err)
	}
	line, rest, _ := strings.Cut(p.Text(Body), "|")
	if want := "POST /v1/%22%7D%2C%22admin%22:true%2C%22%2F..%2F%3Fx=1&y%C3%A4/items?q=b%26c%3Dd&fixed=1"; line != want {
		t.Errorf("%s", line)
	}
	parts := strings.SplitN(rest, "|", 2)
	var body map[string]any
	if parts[0] != "<b&c=d>" || !strings.HasSuffix(rest, "|bot:hunter2") || json.Unmarshal([]byte(strings.TrimSuffix(parts[1], "|bot:hunter2")), &body) != nil || len(body) != 1 || body["v"] != "-"+evil+"-" || res.ExitCode != 0 {
		t.Errorf("%q %+v", rest, res)
	}
	if p, _, err := run(map[string]string{"http_method": "GET", "rest_endpoint": s.URL + "/here"}, nil); err != nil || !strings.HasPrefix(p.Text(Body), "GET /echo|") {
		t.Errorf("%v %q", err, p.Text(Body))
	}
	for _, path := range []string{"/away", "/circle"} {
		if p, _, err := run(map[string]string{"http_method": "GET", "rest_endpoint": s.URL + path}, nil); err == nil || !strings.Contains(err.Error(), "redirect") || len(p.Body) != 0 {
			t.Errorf("%s: %v", path, err)
		}
	}
	if p, res, err := run(map[string]string{"http_method": "GET", "rest_endpoint": s.URL + "/large"}, nil); err != nil || res.Truncated != exec.CutOutput || int64(len(p.Text(Body))) > agenttest.Limits().Output {
		t.Errorf("%+v %v", res, err)
	}
	if p, res, err := run(map[string]string{"http_method": "GET", "rest_endpoint": s.URL + "/bomb"}, nil); err != nil || res.Truncated != "" || len(p.Text(Body)) > 1<<20 {
		t.Errorf("%+v %v %d", res, err, len(p.Text(Body)))
	}
	// Invariant 3: the system does not know this authority.
	if _, _, err := run(map[string]string{"http_method": "GET", "rest_endpoint": s.URL + "/", "credential": "noca"}, nil); err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	if _, _, err := run(map[string]string{"http_method": "GET", "rest_endpoint": strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/"}, nil); !errors.Is(err, &rejection.Error{Code: rejection.FirewallDenied}) {
		t.Error(err)
	}
	f := agenttest.Open(t, []string{"localhost:*"}, []string{"api"}) // the name is accepted, the loopback address is not
	w := agenttest.Work("RESTProbe", a.Trusted(t, agenttest.Record(table, "x", map[string]string{"http_method": "GET", "credential": "api", "rest_endpoint": strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/"})), nil)
	if _, _, err := agenttest.Run(t.Context(), e, f, w); err == nil || !strings.Contains(err.Error(), "addresses") {
		t.Error(err)
	}
}

// Threat 9 and what is signed and cannot be meant.
func TestRefused(t *testing.T) {
	a := author(t)
	good := map[string]string{"http_method": "POST", "rest_endpoint": "https://api.example/v1/${a}", "content": `{"a":"${a}"}`}
	needs := func(f, params map[string]string) error {
		_, err := (&Executor{}).Needs(agenttest.Work("RESTProbe", a.Trusted(t, agenttest.Record(table, "x", f)), params))
		return err
	}
	if err := needs(good, map[string]string{"a": "1"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change [2]string
		params map[string]string
		code   rejection.Code
	}{
		"method":          {[2]string{"http_method", "CONNECT"}, nil, rejection.PayloadMalformed},
		"scheme":          {[2]string{"rest_endpoint", "file:///etc/passwd"}, nil, rejection.PayloadMalformed},
		"host":            {[2]string{"rest_endpoint", "https://${a}/"}, nil, rejection.PayloadMalformed},
		"port":            {[2]string{"rest_endpoint", "https://api.example:${a}/"}, nil, rejection.PayloadMalformed},
		"after the host":  {[2]string{"rest_endpoint", "https://api.example${a}"}, nil, rejection.PayloadMalformed},
		"user":            {[2]string{"rest_endpoint", "https://u:p@api.example/"}, nil, rejection.PayloadMalformed},
		"backslash":       {[2]string{"rest_endpoint", `https://api.example\@evil/`}, nil, rejection.PayloadMalformed},
		"disguised":       {[2]string{"rest_endpoint", "https://2130706433/"}, nil, rejection.PayloadMalformed},
		"fragment":        {[2]string{"rest_endpoint", "https://api.example/#x"}, nil, rejection.PayloadMalformed},
		"query name":      {[2]string{"rest_endpoint", "https://api.example/?${a}=1"}, nil, rejection.PayloadMalformed},
		"header line":     {[2]string{"headers", "X A: 1"}, nil, rejection.PayloadMalformed},
		"Host":            {[2]string{"headers", "host: evil"}, nil, rejection.PayloadMalformed},
		"Transfer":        {[2]string{"headers", "Transfer-Encoding: chunked"}, nil, rejection.PayloadMalformed},
		"header value":    {[2]string{"headers", "X-A: ${a}"}, map[string]string{"a": "1\r\nX-B: 2"}, rejection.ParamNotAllowed},
		"JSON structure":  {[2]string{"content", `{"a":${a}}`}, nil, rejection.PayloadMalformed},
		"JSON name":       {[2]string{"content", `{${a}:1}`}, nil, rejection.PayloadMalformed},
		"credential":      {[2]string{"credential", "api"}, nil, ""},
		"plain with it":   {[2]string{"rest_endpoint", "http://api.example/${a}"}, nil, ""},
		"dots":            {[2]string{"rest_endpoint", "https://api.example/${a}/x"}, map[string]string{"a": ".."}, rejection.PayloadMalformed},
		"escaped dots":    {[2]string{"rest_endpoint", "https://api.example/%2e${a}/x"}, map[string]string{"a": "."}, rejection.PayloadMalformed},
		"empty":           {[2]string{"rest_endpoint", "https://api.example/${a}/x"}, map[string]string{"a": ""}, rejection.ParamNotAllowed},
		"another":         {[2]string{"http_method", "PUT"}, map[string]string{"a": "1", "b": "2"}, rejection.ParamNotAllowed},
		"missing":         {[2]string{"http_method", "PUT"}, map[string]string{}, rejection.ParamMissing},
		"body of a GET":   {[2]string{"http_method", "GET"}, nil, rejection.PayloadMalformed},
		"missing address": {[2]string{"rest_endpoint", "https:///x"}, nil, rejection.PayloadMalformed},
	} {
		f := maps.Clone(good)
		f[c.change[0]] = c.change[1]
		if c.params == nil {
			c.params = map[string]string{"a": "1"}
		}
		err := needs(f, c.params)
		if c.code == "" && err != nil || c.code != "" && !errors.Is(err, &rejection.Error{Code: c.code}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := maps.Clone(good)
	f["rest_endpoint"], f["credential"] = "http://api.example/${a}", "api"
	if err := needs(f, map[string]string{"a": "1"}); !errors.Is(err, &rejection.Error{Code: rejection.PayloadMalformed}) {
		t.Errorf("a credential without TLS: %v", err)
	}
}
