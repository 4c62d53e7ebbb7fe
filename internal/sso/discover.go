package sso

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/greatseal-io/greatseal/internal/config"
)

const (
	metadataLife  = 5 * time.Minute  // then it is fetched again
	metadataStale = 24 * time.Hour   // it is used for, while the provider is away
	retryAfter    = 3 * time.Second  // between two looks at a provider that is away
	keysLife      = time.Hour        // a key that was withdrawn is believed for so long
	keysInterval  = 10 * time.Second // between two fetches, whatever tokens name
)

// algorithms are those of signatures that are believed.
var algorithms = []string{oidc.RS256, oidc.PS256, oidc.ES256, oidc.EdDSA}

// provider is one of the configuration, and what its issuer says of itself.
type provider struct {
	config.SSO
	client *http.Client
	keys   *keySet
	plain  bool // the issuer is http on this machine; its endpoints may be
	now    func() time.Time
	log    *slog.Logger

	flight singleflight.Group
	mu     sync.Mutex
	meta   *metadata
	failed time.Time // of the last look that found nothing
	away   error
}

// metadata is what discovery said. It does not change once it was made.
type metadata struct {
	oidc     *oidc.Provider
	endpoint oauth2.Endpoint
	end      string // of RP-initiated logout; empty: none
	issParam bool   // answers name their issuer, always
	fetched  time.Time
}

// discover returns the issuer's metadata, from memory while it is fresh. A provider
// that does not answer is asked again after three seconds at the earliest, and what
// it said before is used for a day.
func (x *provider) discover(ctx context.Context) (*metadata, error) {
	now := x.now()
	x.mu.Lock()
	m, failed, away := x.meta, x.failed, x.away
	x.mu.Unlock()
	if m != nil && now.Sub(m.fetched) < metadataLife {
		return m, nil
	}
	usable := m != nil && now.Sub(m.fetched) < metadataStale
	if away != nil && now.Sub(failed) < retryAfter {
		if usable {
			return m, nil
		}
		return nil, away
	}
	// Whoever asks first asks for all, and does not take the answer along when he
	// goes.
	ch := x.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
		defer cancel()
		fresh, err := x.fetch(ctx)
		x.mu.Lock()
		defer x.mu.Unlock()
		if err != nil {
			x.failed, x.away = x.now(), fmt.Errorf("%w: %s", ErrAway, x.Name)
			x.log.Warn("sign-on: the provider's discovery document cannot be had", "provider", x.Name, "error", safe(err))
			return nil, x.away
		}
		if x.away != nil {
			x.log.Info("sign-on: the provider is back", "provider", x.Name)
		}
		x.meta, x.away = fresh, nil
		return fresh, nil
	})
	select {
	case <-ctx.Done():
		if usable {
			return m, nil
		}
		return nil, fmt.Errorf("%w: %s", ErrAway, x.Name)
	case r := <-ch:
		if r.Err != nil {
			if usable {
				return m, nil
			}
			return nil, r.Err
		}
		return r.Val.(*metadata), nil
	}
}

func (x *provider) fetch(ctx context.Context) (*metadata, error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, x.client), x.Issuer)
	if err != nil {
		return nil, err
	}
	var doc struct {
		JWKS     string   `json:"jwks_uri"`
		UserInfo string   `json:"userinfo_endpoint"`
		End      string   `json:"end_session_endpoint"`
		IssParam bool     `json:"authorization_response_iss_parameter_supported"`
		Methods  []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := p.Claims(&doc); err != nil {
		return nil, err
	}
	m := &metadata{oidc: p, endpoint: p.Endpoint(), issParam: doc.IssParam, fetched: x.now()}
	for _, e := range []struct{ what, url string }{
		{"authorization_endpoint", m.endpoint.AuthURL}, {"token_endpoint", m.endpoint.TokenURL}, {"jwks_uri", doc.JWKS},
	} {
		if err := x.checkURL(e.url); err != nil {
			return nil, fmt.Errorf("%s: %w", e.what, err)
		}
	}
	if doc.UserInfo != "" {
		if err := x.checkURL(doc.UserInfo); err != nil {
			return nil, fmt.Errorf("userinfo_endpoint: %w", err)
		}
	}
	if doc.End != "" {
		if err := x.checkURL(doc.End); err != nil {
			return nil, fmt.Errorf("end_session_endpoint: %w", err)
		}
		m.end = doc.End
	}
	// Without a choice the library would send a code twice to find out.
	m.endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if x.ClientSecretFile == "" || len(doc.Methods) > 0 && !slices.Contains(doc.Methods, "client_secret_basic") {
		m.endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	x.keys.at(doc.JWKS)
	return m, nil
}

// absent reports whether the issuer did not answer when it was asked last.
func (x *provider) absent() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.away != nil
}

// checkURL refuses endpoints over which a token, code or password would travel in
// the clear.
func (x *provider) checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "", u.User != nil, u.Fragment != "":
		return errors.New("not an address")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && x.plain && config.Loopback(net.JoinHostPort(u.Hostname(), "80")):
		return nil
	}
	return errors.New("want https")
}

// context has calls of the libraries use the provider's own client.
func (x *provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, x.client)
}

// safe is an error's text for the log, without what a stranger wrote at length, and
// without line ends.
func safe(err error) string {
	const most = 300
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // addresses may have codes in them
	}
	b := []byte(err.Error())
	if len(b) > most {
		b = append(b[:most], "…"...)
	}
	for i, c := range b {
		if c < 0x20 || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}
