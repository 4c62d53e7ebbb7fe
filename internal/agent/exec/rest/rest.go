// Package rest makes the HTTP request that a signed record describes.
//
// Invariants:
//
//  1. Method, URL, headers and body come from signed fields. A parameter ("${name}")
//     is escaped for the place where it stands: a segment of the path, a value of the
//     query, a header's value, the inside of a JSON string. It never reaches scheme,
//     host, port, a name, or JSON's structure.
//  2. Only the signed host is connected to, at addresses that the firewall allows; a
//     redirect leads to the same scheme, host and port or is an error.
//  3. Certificates are verified. A credential travels over TLS alone.
//  4. A response is read to its limit and never decompressed.
//
// A caller may not conclude from an answer that what it asked for was done.
package rest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/credentials"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// The media types of pages: Head is {"status":…,"headers":{…}}, Body what followed.
const (
	Head = exec.JSON
	Body = "application/octet-stream"
)

// Executor makes requests.
type Executor struct {
	Credentials *credentials.Store
	Resolver    exec.Resolver
}

// Topics are those of HTTP.
func (*Executor) Topics() []string { return []string{"RESTProbe"} }

// request is what the signed fields and the parameters say.
type request struct {
	method     string
	url        *url.URL
	target     firewall.Target
	header     http.Header
	body       string
	credential string
}

const marker = "x" // stands for a parameter where the shape of a template is looked at

func placeholder() *regexp.Regexp { return regexp.MustCompile(`\$\{([A-Za-z0-9_.-]{1,64})\}`) }

// template fills in parameters and notes which were used.
type template struct {
	params map[string]string
	used   map[string]bool
	err    error
}

func (t *template) fill(s string, escape func(string) (string, error)) string {
	return placeholder().ReplaceAllStringFunc(s, func(p string) string {
		name := p[2 : len(p)-1]
		v, ok := t.params[name]
		if !ok {
			t.fail(rejection.New(rejection.ParamMissing, name, "the request wants it"))
			return ""
		}
		t.used[name] = true
		e, err := escape(v)
		if err != nil {
			t.fail(rejection.New(rejection.ParamNotAllowed, name, err.Error()))
		}
		return e
	})
}

func (t *template) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func blank(s string) string { return placeholder().ReplaceAllString(s, marker) }

// read builds the request.
func read(t *record.Trusted, params map[string]string) (*request, error) {
	f := exec.Of(t)
	r := &request{method: strings.ToUpper(f.Get("http_method")), header: http.Header{}, credential: f.Optional("credential")}
	endpoint, headers, body := f.Get("rest_endpoint"), f.Get("headers"), f.Get("content")
	if err := f.Err(); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, r.method) {
		return nil, exec.Malformed("http_method", "want GET, HEAD, POST, PUT, PATCH or DELETE")
	}
	tm := &template{params: params, used: map[string]bool{}}
	if err := r.setURL(endpoint, tm); err != nil {
		return nil, err
	}
	if r.credential != "" && r.url.Scheme != "https" {
		return nil, exec.Malformed("rest_endpoint", "a credential travels over https alone")
	}
	if err := r.setHeaders(headers, tm); err != nil {
		return nil, err
	}
	if err := r.setBody(body, tm); err != nil {
		return nil, err
	}
	if tm.err != nil {
		return nil, tm.err
	}
	for n := range params {
		if !tm.used[n] {
			return nil, rejection.New(rejection.ParamNotAllowed, n, "the request does not use it")
		}
	}
	return r, nil
}

func (r *request) setURL(endpoint string, tm *template) error {
	bad := func(why string) error { return exec.Malformed("rest_endpoint", why) }
	scheme, rest, ok := strings.Cut(endpoint, "://")
	if !ok || scheme != "https" && scheme != "http" {
		return bad("want https:// or http://")
	}
	n := strings.IndexAny(rest, "/?#")
	if n < 0 {
		n = len(rest)
	}
	authority, tail := rest[:n], rest[n:]
	if strings.ContainsAny(authority, "$@\\%") || strings.ContainsAny(tail, "#\\") {
		return bad("want a host and a port without parameters, no user, no fragment")
	}
	path, query, hasQuery := strings.Cut(tail, "?")
	filled := tm.fill(path, func(v string) (string, error) {
		if v == "" {
			return "", errors.New("is empty in a path")
		}
		return url.PathEscape(v), nil
	})
	for seg := range strings.SplitSeq(filled, "/") {
		if s, err := url.PathUnescape(seg); err != nil || s == "." || s == ".." {
			return bad("a segment of the path is . or ..")
		}
	}
	if hasQuery {
		for pair := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(pair, "=")
			if placeholder().MatchString(name) {
				return bad("a parameter stands for a name of the query")
			}
		}
		filled += "?" + tm.fill(query, func(v string) (string, error) { return url.QueryEscape(v), nil })
	}
	u, err := url.Parse(scheme + "://" + authority + filled)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return bad("is no URL")
	}
	port := uint64(443)
	if scheme == "http" {
		port = 80
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return bad("want a port")
		}
	}
	if r.target, err = firewall.NewTarget(u.Hostname(), uint16(port)); err != nil {
		return bad("want a name or an address, and a port")
	}
	r.url = u
	return nil
}

// reserved are headers that decide about the connection, or that Executor sets.
func reserved() []string {
	return []string{"Authorization", "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}
}

func (r *request) setHeaders(text string, tm *template) error {
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, v, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || !plain(blank(v)) {
			return exec.Malformed("headers", "want lines of name: value")
		}
		name = http.CanonicalHeaderKey(name)
		if slices.Contains(reserved(), name) {
			return exec.Malformed("headers", name+" may not be set")
		}
		r.header.Add(name, strings.TrimSpace(tm.fill(v, func(v string) (string, error) {
			if !plain(v) {
				return "", errors.New("a header's value is printable ASCII")
			}
			return v, nil
		})))
	}
	return nil
}

func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func (r *request) setBody(body string, tm *template) error {
	if body == "" {
		return nil
	}
	if r.method == "GET" || r.method == "HEAD" {
		return exec.Malformed("content", "GET and HEAD have no body")
	}
	if r.header.Get("Content-Type") == "" {
		r.header.Set("Content-Type", "application/json")
	}
	if placeholder().MatchString(body) {
		// With letters for its parameters the body is JSON only when each of them stands
		// inside a string.
		if !json.Valid([]byte(blank(body))) {
			return exec.Malformed("content", "parameters stand inside strings of a JSON body, and nowhere else")
		}
		body = tm.fill(body, func(v string) (string, error) {
			b, err := json.Marshal(v)
			if err != nil {
				return "", errors.New("has no form in JSON")
			}
			return string(b[1 : len(b)-1]), nil
		})
	}
	r.body = body
	return nil
}

// Needs is the host and the credential.
func (*Executor) Needs(w *exec.Work) (*exec.Needs, error) {
	r, err := read(w.Main(), w.Params)
	if err != nil {
		return nil, err
	}
	n := &exec.Needs{Targets: []firewall.Target{r.target}}
	if r.credential != "" {
		n.Credentials = []string{r.credential}
	}
	return n, nil
}

// Run makes the request.
func (e *Executor) Run(ctx context.Context, w *exec.Work, g *firewall.Grant, out exec.Output) (res exec.Result, err error) {
	r, err := read(w.Main(), w.Params)
	if err != nil {
		return res, err
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), strings.NewReader(r.body))
	if err != nil {
		return res, exec.Failure("the request is none")
	}
	req.Header = r.header
	req.Header.Set("User-Agent", "greatseal-agent")
	if r.credential != "" {
		c, err := e.Credentials.Get(r.credential)
		if err != nil {
			return res, exec.Failed("this agent has no credential %q", r.credential)
		}
		tlsConfig.RootCAs = c.Roots()
		if t := c.Token(); t != "" {
			req.Header.Set("Authorization", "Bearer "+t)
		} else {
			req.SetBasicAuth(c.Login())
		}
	}
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return exec.Dial(ctx, e.Resolver, g, r.target)
		},
		TLSClientConfig: tlsConfig, DisableKeepAlives: true, DisableCompression: true,
		TLSHandshakeTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if next.URL.Scheme != r.url.Scheme || next.URL.Host != r.url.Host || next.URL.User != nil || len(via) > 5 {
			return exec.Failure("the server redirects to another host, or without end")
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		return res, exec.Stopped(ctx, failure(err, r.target))
	}
	defer resp.Body.Close()
	head, err := json.Marshal(struct {
		Status  int         `json:"status"`
		Headers http.Header `json:"headers"`
	}{resp.StatusCode, resp.Header})
	if err != nil {
		return res, err
	}
	if err := out.Write(ctx, Head, head); err != nil {
		return res, err
	}
	if resp.StatusCode >= 400 {
		res.ExitCode = resp.StatusCode
	}
	s := exec.NewStream(out, Body)
	left, buf := w.Limits.Output-int64(len(head)), make([]byte, 64<<10)
	for {
		n, rerr := resp.Body.Read(buf)
		if int64(n) > left {
			n, res.Truncated = int(max(left, 0)), exec.CutOutput
		}
		left -= int64(n)
		if err := s.Write(ctx, buf[:n]); err != nil {
			return res, err
		}
		if errors.Is(rerr, io.EOF) || res.Truncated != "" {
			break
		}
		if rerr != nil {
			return res, exec.Stopped(ctx, exec.Failed("%s broke off its answer", r.target))
		}
	}
	return res, s.Close(ctx)
}

// failure keeps the kind of an error: its text may quote the URL, with parameters.
func failure(err error, t firewall.Target) error {
	var f exec.Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return exec.Failed("the certificate of %s is not trusted here", t)
	}
	return exec.Failed("%s gave no answer", t)
}
