// Package client is how an agent speaks to its instance: an agent.Upstream over
// mutual TLS.
//
// Invariants:
//
//  1. The server is judged by the pool that the caller gives, never by the system's
//     unless he gives that; TLS 1.3 alone.
//  2. A connection shows the certificate that is the agent's now: after a change
//     nothing goes over the old connections.
//  3. Answers are bounded, redirects are not followed, and nothing that the server
//     says reaches an error unprinted of control characters.
//
// A caller may not conclude from an answer that it is true.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/api/agents/wire"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Config says where the instance is, and who calls.
type Config struct {
	URL   string         // https://HOST:PORT
	Roots *x509.CertPool // that vouch for the server
	// Certificate is the agent's now; nil before it has one. It is asked before each
	// call, and is cheap.
	Certificate func() *tls.Certificate
	UserAgent   string
}

// Client is one agent's way to its instance. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base string

	mu   sync.Mutex
	http *http.Client
	leaf []byte // of the certificate that http shows
}

var _ agent.Upstream = (*Client)(nil)

// New makes a client.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("agents: want https://HOST:PORT as the address of the instance")
	}
	if cfg.Roots == nil {
		return nil, errors.New("agents: want the authority that vouches for the instance")
	}
	if cfg.Certificate == nil {
		cfg.Certificate = func() *tls.Certificate { return nil }
	}
	return &Client{cfg: cfg, base: strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/") + "/v1/agent"}, nil
}

// Close ends the connections that are not in use.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// client is for the certificate of now, which it returns too.
func (c *Client) client() (*http.Client, []byte) {
	cert := c.cfg.Certificate()
	var leaf []byte
	if cert != nil && len(cert.Certificate) > 0 {
		leaf = cert.Certificate[0]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil && bytes.Equal(leaf, c.leaf) {
		return c.http, leaf
	}
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: c.cfg.Roots}
	if leaf != nil {
		shown := *cert
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
	}
	d := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	c.http = &http.Client{
		Transport: &http.Transport{DialContext: d.DialContext, TLSClientConfig: t, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4,
			IdleConnTimeout: 2 * time.Minute, MaxResponseHeaderBytes: 64 << 10, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.leaf = leaf
	return c.http, leaf
}

// ProblemError is an answer that says no, and is none of the errors of package agent.
type ProblemError struct {
	Status int
	Code   string
	Detail string
}

func (p *ProblemError) Error() string {
	return fmt.Sprintf("agents: the instance answers %d %s: %s", p.Status, p.Code, p.Detail)
}

const (
	smallAnswer = 4 << 20
	callTime    = 2 * time.Minute
)

type call struct {
	method, path string
	in           any
	body         []byte // in the place of in
	header       map[string]string
}

// do makes a call and returns an answer of 2xx. A call that is refused because another
// key took the place of ours meanwhile is made again with that one.
func (c *Client) do(ctx context.Context, x call) (*http.Response, error) {
	body, content := x.body, wire.Octets
	if x.in != nil {
		var err error
		if body, err = json.Marshal(x.in, json.Deterministic(true)); err != nil {
			return nil, fmt.Errorf("agents: %w", err)
		}
		content = wire.JSON
	}
	for {
		h, leaf := c.client()
		resp, err := c.send(ctx, h, x, body, content)
		if errors.Is(err, agent.ErrInvalidated) {
			if _, now := c.client(); !bytes.Equal(now, leaf) {
				continue
			}
		}
		return resp, err
	}
}

func (c *Client) send(ctx context.Context, h *http.Client, x call, body []byte, content string) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, x.method, c.base+x.path, r)
	if err != nil {
		return nil, fmt.Errorf("agents: %w", err)
	}
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	if body != nil {
		req.Header.Set("Content-Type", content)
	}
	for k, v := range x.header {
		req.Header.Set(k, v)
	}
	resp, err := h.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, fmt.Errorf("%w: %w", agent.ErrUnreachable, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, problemOf(resp)
}

func problemOf(resp *http.Response) error {
	p := &ProblemError{Status: resp.StatusCode, Code: "http-" + strconv.Itoa(resp.StatusCode)}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var got wire.Problem
	if err == nil && json.Unmarshal(b, &got) == nil && got.Code != "" {
		p.Code, p.Detail = printable(got.Code), printable(got.Detail)
	}
	switch {
	case p.Code == wire.CodeLost:
		return fmt.Errorf("%w: %w", agent.ErrLost, p)
	case p.Code == wire.CodeInvalidated:
		return fmt.Errorf("%w: %w", agent.ErrInvalidated, p)
	case p.Code == wire.CodeNotValidated:
		return fmt.Errorf("%w: %w", agent.ErrNotValidated, p)
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode >= 500:
		return fmt.Errorf("%w: %w", agent.ErrUnreachable, p)
	}
	return p
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "")
	}
	return s
}

// read reads a bounded answer.
func read(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", agent.ErrUnreachable, err)
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("agents: the answer has more than %d bytes", limit)
	}
	return b, nil
}

// ask makes a call whose answer is JSON, or nothing.
func (c *Client) ask(ctx context.Context, x call, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := c.do(ctx, x)
	if err != nil {
		return away(err)
	}
	b, err := read(resp, smallAnswer)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("agents: the answer is not understood: %w", err)
	}
	return nil
}

// away says of a time of ours that has run out that the instance does not answer.
func away(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", agent.ErrUnreachable, err)
	}
	return err
}

// Enrol implements agent.Upstream.
func (c *Client) Enrol(ctx context.Context, e *agent.Enrolment) (*agent.Enrolled, error) {
	var got wire.AgentEnrolled
	err := c.ask(ctx, call{method: http.MethodPost, path: "/enrol", in: wire.AgentEnrolment{Name: e.Name, Request: e.Request, Rekey: e.Rekey, Version: e.Version, OS: e.OS, Arch: e.Arch, Topics: e.Topics}}, &got)
	if err != nil {
		return nil, err
	}
	out := &agent.Enrolled{Certificates: got.Certificates, Clusters: got.Clusters, RetryAfter: min(max(time.Duration(got.RetryAfter)*time.Millisecond, time.Second), time.Hour)}
	switch got.State {
	case "waiting":
		out.State = agent.EnrolWaiting
	case "validated":
		out.State = agent.EnrolValidated
	default:
		out.State = agent.EnrolInvalidated
	}
	return out, nil
}

// Heartbeat implements agent.Upstream.
func (c *Client) Heartbeat(ctx context.Context, b *agent.Beat) (*agent.Pulse, error) {
	var got wire.AgentPulse
	err := c.ask(ctx, call{method: http.MethodPost, path: "/heartbeat", in: wire.AgentBeat{Time: b.Time, Version: b.Version, Running: int64(b.Running), Spooled: int64(b.Spooled), Draining: b.Draining, Circle: b.Circle, TrustUntil: b.TrustAge}}, &got)
	if err != nil {
		return nil, err
	}
	return &agent.Pulse{Clusters: got.Clusters, Rekey: got.Rekey, CancelJobs: got.Cancel, PullCircle: got.PullCircle, Certificate: got.Certificates}, nil
}

// Lease implements agent.Upstream.
func (c *Client) Lease(ctx context.Context, w *agent.Want) ([]agent.Job, error) {
	wait := min(max(w.Wait, 0), time.Minute)
	ctx, cancel := context.WithTimeout(ctx, callTime+wait)
	defer cancel()
	resp, err := c.do(ctx, call{method: http.MethodPost, path: "/lease", in: wire.AgentWant{Topics: w.Topics, Max: w.Max, Only: string(w.Only), Wait: wait.Milliseconds()}})
	if err != nil {
		return nil, away(err)
	}
	b, err := read(resp, wire.MaxLeased)
	if err != nil {
		return nil, err
	}
	l, err := wire.DecodeLeased(b)
	if err != nil {
		return nil, fmt.Errorf("agents: the answer is not understood: %w", err)
	}
	var out []agent.Job
	for _, x := range l.Works {
		if x.Attempt >= 1<<32 {
			return nil, errors.New("agents: the answer is not understood: an attempt without an end")
		}
		j := agent.Job{Lease: agent.Lease{Job: x.Job, Attempt: uint32(x.Attempt), Token: x.Token}, Until: time.UnixMilli(x.Until).UTC(), Topic: x.Topic, Priority: agent.Priority(order.Priority(x.Priority).String())}
		d, err := order.DecodeDelivery(x.Delivery)
		if err != nil {
			// It is this job that cannot be understood: without an order it is refused,
			// and told, as such.
			out = append(out, j)
			continue
		}
		j.Order = d.Order
		for i := range d.Records {
			j.Records = append(j.Records, agent.Item{Record: *d.Records[i].Record(), Signatures: d.Records[i].Signatures})
		}
		out = append(out, j)
	}
	return out, nil
}

func lease(l agent.Lease) wire.AgentLease {
	return wire.AgentLease{Attempt: uint64(l.Attempt), Token: l.Token}
}

func jobPath(l agent.Lease, rest string) string {
	return "/jobs/" + url.PathEscape(l.Job) + rest
}

// Start implements agent.Upstream.
func (c *Client) Start(ctx context.Context, l agent.Lease) error {
	return c.ask(ctx, call{method: http.MethodPost, path: jobPath(l, "/start"), in: lease(l)}, nil)
}

// Progress implements agent.Upstream.
func (c *Client) Progress(ctx context.Context, l agent.Lease, _ agent.Progress) (time.Time, error) {
	var got wire.AgentUntil
	err := c.ask(ctx, call{method: http.MethodPost, path: jobPath(l, "/progress"), in: lease(l)}, &got)
	return got.Until, err
}

// Result implements agent.Upstream.
func (c *Client) Result(ctx context.Context, l agent.Lease, p agent.Page) error {
	body := p.Body
	if body == nil {
		body = []byte{}
	}
	return c.ask(ctx, call{method: http.MethodPut, path: jobPath(l, "/pages/"+strconv.Itoa(p.Number)), body: body,
		header: map[string]string{wire.LeaseAttempt: strconv.FormatUint(uint64(l.Attempt), 10), wire.LeaseToken: l.Token, wire.PageType: p.Type}}, nil)
}

// Finish implements agent.Upstream.
func (c *Client) Finish(ctx context.Context, l agent.Lease, o agent.Outcome) error {
	return c.ask(ctx, call{method: http.MethodPost, path: jobPath(l, "/finish"), in: wire.AgentFinish{AgentLease: lease(l), Error: o.Error, Pages: int64(o.Pages),
		Facts: &wire.RunFacts{Rows: o.Rows, ExitCode: o.ExitCode, Truncated: o.Truncated, Digest: hex.EncodeToString(o.Digest[:]), Started: o.Started.UTC(), Ended: o.Ended.UTC()}}}, nil)
}

// Reject implements agent.Upstream.
func (c *Client) Reject(ctx context.Context, l agent.Lease, r *rejection.Error) error {
	return c.ask(ctx, call{method: http.MethodPost, path: jobPath(l, "/reject"), in: wire.AgentReject{AgentLease: lease(l), Code: string(r.Code), Subject: r.Subject, Detail: r.Detail}}, nil)
}

// CircleBundle implements agent.Upstream.
func (c *Client) CircleBundle(ctx context.Context) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/circle"})
	if err != nil {
		return nil, away(err)
	}
	b, err := read(resp, wire.MaxCircle)
	if err != nil {
		return nil, err
	}
	out, err := wire.DecodeBundles(b)
	if err != nil {
		return nil, fmt.Errorf("agents: the answer is not understood: %w", err)
	}
	return out.Bundles, nil
}

// Attachment implements agent.Upstream. The reader ends after a.Size bytes and one:
// whoever digests it sees that there is more.
func (c *Client) Attachment(ctx context.Context, l agent.Lease, ref record.Ref, a record.Attachment) (io.ReadCloser, error) {
	resp, err := c.do(ctx, call{method: http.MethodPost, path: jobPath(l, "/attachment"), in: wire.AgentAttachment{AgentLease: lease(l), Record: ref, Name: a.Name, SHA256: hex.EncodeToString(a.SHA256[:])}})
	if err != nil {
		return nil, err
	}
	return &bounded{io.LimitReader(resp.Body, max(a.Size, 0)+1), resp.Body}, nil
}

type bounded struct {
	io.Reader
	io.Closer
}

// Follow calls wake whenever there may be work, until ctx ends or the stream breaks:
// Lease waits by itself, and this is for those who wait elsewhere.
func (c *Client) Follow(ctx context.Context, wake func()) error {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/events"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	buf := make([]byte, 4096)
	line := ""
	for {
		n, err := resp.Body.Read(buf)
		for _, b := range buf[:n] {
			if b != '\n' {
				if len(line) < 64 {
					line += string(rune(b))
				}
				continue
			}
			if strings.TrimSpace(line) == "event: work" {
				wake()
			}
			line = ""
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: %w", agent.ErrUnreachable, err)
		}
	}
}
