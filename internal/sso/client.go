package sso

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	callLimit    = 10 * time.Second // of one request, redirects and body included
	answerLimit  = 1 << 20
	headerLimit  = 64 << 10
	maxRedirects = 3
)

var errLarge = fmt.Errorf("an answer of more than %d bytes", answerLimit)

// newClient makes the HTTP client of one provider.
func newClient(roots *x509.CertPool) *http.Client {
	dial := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dial.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  callLimit,
		MaxResponseHeaderBytes: headerLimit,
		DisableCompression:     true, // a small answer stays small
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    2,
		MaxConnsPerHost:        16,
		IdleConnTimeout:        time.Minute,
	}
	return &http.Client{Transport: bounded{t}, Timeout: callLimit, CheckRedirect: sameHost}
}

// sameHost lets a provider move a document within its host. What was posted, which is
// codes and secrets, is not sent on.
func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case first.Method != http.MethodGet:
		return errors.New("a redirect of what was posted")
	case r.URL.Scheme != first.URL.Scheme || r.URL.Host != first.URL.Host:
		return errors.New("a redirect to another host")
	}
	return nil
}

// bounded makes an answer that is too long an error, and not a shorter answer.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: answerLimit}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errLarge
	}
	return n, err
}
