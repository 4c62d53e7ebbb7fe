package instance

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/internal/config"
)

// CirclePath is where a server shows the bundle of its own side.
const CirclePath = "/v1/circle"

const (
	pullEvery   = time.Minute
	pullTimeout = 30 * time.Second
)

// pull looks at a side's server every so often until ctx ends. A server that cannot
// be reached costs nothing as long as what is believed has not expired.
func (i *Instance) pull(ctx context.Context, s config.Side) {
	failed := false
	every(ctx, s.Every.Or(pullEvery), func() {
		err := i.pullOnce(ctx, s)
		if err != nil && ctx.Err() == nil {
			i.log.Warn("the circle of a trusted side was not renewed", "side", s.Root.String(), "error", err)
		} else if failed {
			i.log.Info("the circle of a trusted side is renewed again", "side", s.Root.String())
		}
		failed = err != nil
	})
}

func (i *Instance) pullOnce(ctx context.Context, s config.Side) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.URL, "/")+CirclePath, nil)
	if err != nil {
		return err
	}
	c, err := i.clients(s)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("instance: %s answers %s", s.URL, res.Status)
	}
	b, err := circle.ReadBundle(io.LimitReader(res.Body, circle.MaxBundle+1))
	if err != nil {
		return err
	}
	if b.Root != s.Root {
		return fmt.Errorf("instance: %s shows the circle of side %s: %s is pinned", s.URL, b.Root, s.Root)
	}
	if known, err := i.Circles.bundle(s.Root); err == nil && known != nil {
		if now, err := b.Encode(); err == nil && bytes.Equal(now, known) {
			return nil
		}
	}
	return i.Circles.pulled(ctx, b)
}

// clients makes the client of a side's server.
func (i *Instance) clients(s config.Side) (*http.Client, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.http[s.Root]; c != nil {
		return c, nil
	}
	t := &http.Transport{ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 2 * time.Minute,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}}
	if s.TLS != nil {
		c, err := i.c.TLS(s.TLS)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig = c
	}
	c := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	i.http[s.Root] = c
	return c, nil
}
