// Package client asks time-stamping authorities for tokens over HTTP (RFC 3161
// section 3.4).
//
// Invariants:
//
//  1. A token is returned only when it carries a valid signature over the digest
//     that was asked for, by a certificate for time-stamping, with the nonce that
//     was sent; with Roots its chain is verified too.
//  2. No authority can make the client read more than tsp.MaxSize, wait longer
//     than Timeout for one answer, or retry more often than Retry says.
//  3. When all authorities fail, the error names each and says why.
//  4. No other address is asked than those that were given: redirections are
//     errors.
//
// Without Roots a caller may not conclude that the token comes from an authority
// that anybody trusts.
package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/greatseal-io/greatseal/tsp"
)

// Retry says how often and when one authority is asked again. The zero value
// means the defaults in parentheses.
type Retry struct {
	Attempts int           // requests to one authority (3)
	Base     time.Duration // longest wait before the second request; doubles each time (500 ms)
	Max      time.Duration // longest wait at all (10 s)
}

// Client asks authorities in order, the next when one fails for good. Authorities
// and Rand are required.
type Client struct {
	Authorities []string // URLs, http or https
	HTTP        *http.Client
	Retry       Retry
	Timeout     time.Duration // for one request and its answer; 0 means 30 s
	Rand        io.Reader     // for nonces and waiting times
	// Roots, if given, are the authorities that are trusted.
	Roots *x509.CertPool
	// Sleep waits; nil means for real. Tests pass their own.
	Sleep func(context.Context, time.Duration) error
}

// AuthorityError is why one authority gave no token.
type AuthorityError struct {
	Authority string // without password
	Attempts  int
	Err       error // of the last attempt
}

func (e *AuthorityError) Error() string {
	return fmt.Sprintf("%s (%d attempts): %v", e.Authority, e.Attempts, e.Err)
}

// Unwrap gives the reason.
func (e *AuthorityError) Unwrap() error { return e.Err }

const (
	typeQuery = "application/timestamp-query"
	typeReply = "application/timestamp-reply"
)

// Stamp gets a token over a digest and names the authority that gave it. The
// error joins an *AuthorityError for each authority.
func (c *Client) Stamp(ctx context.Context, hash crypto.Hash, digest []byte) (token []byte, authority string, err error) {
	if len(c.Authorities) == 0 {
		return nil, "", errors.New("tsp: client: no authority configured")
	}
	if c.Rand == nil {
		return nil, "", errors.New("tsp: client: no source of randomness")
	}
	// A digest of the wrong kind is the caller's fault, not that of any authority.
	if _, err := tsp.NewRequest(hash, digest, nil, nil, true).Marshal(); err != nil {
		return nil, "", err
	}
	var all []error
	for _, a := range c.Authorities {
		token, attempts, err := c.ask(ctx, a, hash, digest)
		if err == nil {
			return token, a, nil
		}
		all = append(all, &AuthorityError{Authority: redacted(a), Attempts: attempts, Err: err})
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", fmt.Errorf("tsp: client: no authority gave a token: %w", errors.Join(all...))
}

func redacted(authority string) string {
	u, err := url.Parse(authority)
	if err != nil {
		return "malformed address"
	}
	u.RawQuery, u.Fragment = "", "" // may carry an access token
	return u.Redacted()
}

// temporary marks an error after which the same authority is asked again, not
// before wait has passed.
type temporary struct {
	err  error
	wait time.Duration
}

func (t *temporary) Error() string { return t.err.Error() }
func (t *temporary) Unwrap() error { return t.err }

func (c *Client) ask(ctx context.Context, authority string, hash crypto.Hash, digest []byte) ([]byte, int, error) {
	attempts, base, longest := c.Retry.Attempts, c.Retry.Base, c.Retry.Max
	if attempts <= 0 {
		attempts = 3
	}
	if base <= 0 {
		base = 500 * time.Millisecond
	}
	if longest <= 0 {
		longest = 10 * time.Second
	}
	for n := 1; ; n++ {
		token, err := c.once(ctx, authority, hash, digest)
		if err == nil {
			return token, n, nil
		}
		var again *temporary
		if !errors.As(err, &again) || n >= attempts || ctx.Err() != nil {
			return nil, n, err
		}
		wait, werr := c.jitter(min(base, longest))
		if werr != nil {
			return nil, n, werr
		}
		if base < longest {
			base *= 2
		}
		if err := c.sleep(ctx, min(max(wait, again.wait), longest)); err != nil {
			return nil, n, errors.Join(err, again)
		}
	}
}

// jitter gives a time between half of d and d, so that many clients that failed
// together do not come back together.
func (c *Client) jitter(d time.Duration) (time.Duration, error) {
	var b [8]byte
	if _, err := io.ReadFull(c.Rand, b[:]); err != nil {
		return 0, fmt.Errorf("randomness: %w", err)
	}
	half := d / 2
	return half + time.Duration(binary.BigEndian.Uint64(b[:])%uint64(half+1)), nil
}

func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	if c.Sleep != nil {
		return c.Sleep(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// once asks one time, with a nonce of its own.
func (c *Client) once(ctx context.Context, authority string, hash crypto.Hash, digest []byte) ([]byte, error) {
	u, err := url.Parse(authority)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("malformed address: want an http or https URL")
	}
	var b [16]byte
	if _, err := io.ReadFull(c.Rand, b[:]); err != nil {
		return nil, fmt.Errorf("nonce: %w", err)
	}
	req := tsp.NewRequest(hash, digest, new(big.Int).SetBytes(b[:]), nil, true)
	der, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	reply, err := c.post(ctx, authority, der)
	if err != nil {
		return nil, err
	}
	t, err := tsp.ParseResponse(reply)
	if err != nil {
		var refusal *tsp.StatusError
		if errors.As(err, &refusal) && refusal.Temporary() {
			return nil, &temporary{err: err}
		}
		return nil, err
	}
	if err := t.Answers(req); err != nil {
		return nil, err
	}
	imprint := func(h crypto.Hash) ([]byte, error) {
		if h != hash {
			return nil, tsp.ErrImprint
		}
		return digest, nil
	}
	if c.Roots != nil {
		_, err = t.Verify(imprint, c.Roots)
	} else {
		_, err = t.VerifySignature(imprint)
	}
	if err != nil {
		return nil, err
	}
	return t.CMS.Raw, nil
}

func (c *Client) post(ctx context.Context, authority string, body []byte) ([]byte, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, authority, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("malformed address")
	}
	req.Header.Set("Content-Type", typeQuery)
	req.Header.Set("Accept", typeReply)
	var h http.Client // a copy: the caller's follows redirections elsewhere
	if c.HTTP != nil {
		h = *c.HTTP
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := h.Do(req)
	if err != nil {
		// The address, with whatever secret is in it, stands in url.Error only.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, &temporary{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("http status %d", resp.StatusCode)
		if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout {
			return nil, &temporary{err: err, wait: retryAfter(resp.Header.Get("Retry-After"))}
		}
		return nil, err
	}
	if typ, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || typ != typeReply {
		return nil, fmt.Errorf("content type %.80q, want %s", resp.Header.Get("Content-Type"), typeReply)
	}
	reply, err := io.ReadAll(io.LimitReader(resp.Body, tsp.MaxSize+1))
	if err != nil {
		return nil, &temporary{err: fmt.Errorf("read answer: %w", err)}
	}
	if len(reply) > tsp.MaxSize {
		return nil, fmt.Errorf("answer longer than %d bytes", tsp.MaxSize)
	}
	return reply, nil
}

// retryAfter reads the form of Retry-After in seconds; dates would need a clock.
func retryAfter(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
