package client

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// Problem is an answer of the server that says no: Status, Code, Detail, Hint.
type Problem struct{ wire.Problem }

func (p *Problem) Error() string {
	if p.Detail == "" {
		return "server: " + p.Title
	}
	return p.Detail
}

// ReasonCode is the stable code: "request-closed".
func (p *Problem) ReasonCode() string { return p.Code }

// AwayError says that the server cannot be reached.
type AwayError struct{ err error }

func (e *AwayError) Error() string { return "server cannot be reached: " + e.err.Error() }

// Unwrap is the cause.
func (e *AwayError) Unwrap() error { return e.err }

// ReasonCode is "server-away".
func (e *AwayError) ReasonCode() string { return "server-away" }

// ErrTooLarge is returned for an answer beyond the limit.
var ErrTooLarge = errors.New("client: the answer is larger than it may be")

// Limits of answers, in bytes.
const (
	small = 16 << 20
	large = 1 << 30
)

// call is one request to the server.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
	content      string // type of body
	accept       string
	root         bool // path stands beside the API, not in it
	once         bool // must not be repeated when it may have arrived
	limit        int64
}

// do sends r and returns an answer of 2xx; its body is bounded and the caller
// closes it. Anything else is an error.
func (c *Client) do(ctx context.Context, r call) (*http.Response, error) {
	var last error
	for try := range c.attempts {
		if try > 0 {
			if err := c.sleep(ctx, backoff(try, last)); err != nil {
				return nil, last
			}
		}
		resp, err := c.present(ctx, r)
		if err == nil {
			return resp, nil
		}
		last = err
		if ctx.Err() != nil || !repeatable(err, r.once) {
			return nil, err
		}
	}
	return nil, last
}

// retryAfter is a problem with the time that the server asks for.
type retryAfter struct {
	*Problem
	after time.Duration
}

func (e *retryAfter) Unwrap() error { return e.Problem }

// repeatable reports whether the call may be sent again: the server has not done
// it, or doing it twice is doing it once.
func repeatable(err error, once bool) bool {
	var p *Problem
	if errors.As(err, &p) {
		switch p.Status {
		case http.StatusTooManyRequests:
			return true
		case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
			return !once
		}
		return false
	}
	var away *AwayError
	return errors.As(err, &away) && !once
}

func backoff(try int, err error) time.Duration {
	var ra *retryAfter
	if errors.As(err, &ra) && ra.after > 0 {
		return min(ra.after, time.Minute)
	}
	d := min(100*time.Millisecond<<try, 5*time.Second)
	return d/2 + rand.N(d/2)
}

func (c *Client) send(ctx context.Context, r call) (*http.Response, error) {
	u := c.origin + "/v1" + r.path
	if r.root {
		u = c.origin + r.path
	}
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	return c.roundTrip(req, r.content, r.accept, r.limit)
}

func (c *Client) roundTrip(req *http.Request, content, accept string, limit int64) (*http.Response, error) {
	req.Header.Set("User-Agent", c.agent)
	if accept == "" {
		accept = wire.JSON
	}
	req.Header.Set("Accept", accept)
	if content != "" {
		req.Header.Set("Content-Type", content)
	}
	if t := c.bearer(); t != "" && req.Context().Value(nameless{}) == nil {
		req.Header.Set("Authorization", "Bearer "+t)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		if ctx := req.Context(); ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &AwayError{err}
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, problemOf(resp)
	}
	if limit == 0 {
		limit = small
	}
	resp.Body = &bounded{resp.Body, limit}
	return resp, nil
}

// problemOf reads an error, also one that a proxy in between made.
func problemOf(resp *http.Response) error {
	p := &Problem{wire.Problem{Status: resp.StatusCode, Title: resp.Status, Code: "http-" + strconv.Itoa(resp.StatusCode)}}
	if c := resp.Header.Get(wire.ReasonCode); c != "" {
		p.Code = printable(c)
	}
	if mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mt == wire.ProblemJSON {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		var got wire.Problem
		if err == nil && json.Unmarshal(b, &got) == nil && got.Code != "" {
			got.Status = resp.StatusCode
			got.Detail, got.Hint, got.Code = printable(got.Detail), printable(got.Hint), printable(got.Code)
			p.Problem = got
		}
	}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		return &retryAfter{p, time.Duration(n) * time.Second}
	}
	return p
}

// printable keeps a server from writing control sequences to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// bounded is a body that ends in an error beyond its limit.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		if n, err := b.ReadCloser.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// bytes returns the whole body of the answer.
func (c *Client) bytes(ctx context.Context, r call) ([]byte, error) {
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		if errors.Is(err, ErrTooLarge) || ctx.Err() != nil {
			return nil, err
		}
		return nil, &AwayError{err}
	}
	return b, nil
}

// get and post decode the JSON of the answer.
func get[T any](ctx context.Context, c *Client, path string, q url.Values, limit int64) (*T, error) {
	return decode[T](ctx, c, call{method: http.MethodGet, path: path, query: q, limit: limit})
}

func post[T any](ctx context.Context, c *Client, path string, body any, once bool) (*T, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return decode[T](ctx, c, call{method: http.MethodPost, path: path, body: b, content: wire.JSON, once: once})
}

func decode[T any](ctx context.Context, c *Client, r call) (*T, error) {
	b, err := c.bytes(ctx, r)
	if err != nil {
		return nil, err
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("client: the answer to %s %s: %w", r.method, r.path, err)
	}
	return &v, nil
}
