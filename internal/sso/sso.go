// Package sso signs people in at OpenID providers: the authorization code flow of
// OpenID Connect Core 1.0 with PKCE (RFC 7636), with the advice of RFC 9700.
//
// A login attempt is kept by the browser alone, in a cookie that is sealed with a
// secret which all replicas have from the database: state, nonce and PKCE verifier
// stand in it, and nobody can use up room for attempts. That somebody signed in with an
// attempt is noted in the database until it ends; that one failed is noted nowhere.
//
// Invariants:
//
//  1. A [Login] is made by [Providers.Finish] only, of an ID token that this
//     provider signed for this client, in answer to this attempt of this browser.
//  2. An attempt is for one provider, one browser and ten minutes, and somebody signs in
//     with it once. Whoever is not let in by the provider leaves nothing behind.
//  3. Of one provider nothing is believed about another: its keys, issuer, client
//     and people are its own, and so are the groups that it may give.
//  4. Signatures are RS256, PS256, ES256 or EdDSA, by keys that were fetched from the
//     issuer; what a token says of keys and algorithms itself counts for nothing.
//  5. A claim names one person of the charter, or nobody: never the likeliest.
//  6. Requests to a provider end within seconds, read bounded answers and follow
//     redirects within one host. Nothing is fetched at the start.
//  7. No error and no log has a secret, code, token or verifier in it.
//
// A caller may not conclude that somebody who signed in agrees with anything: a
// session reads. What requests and endorses is a signature by the person's own
// credential, which no provider has.
package sso

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
)

// What callers branch on. None of their texts repeats what a provider or a browser
// sent, but for the names of error codes.
var (
	// ErrNoProvider is that of a provider which is not configured.
	ErrNoProvider = errors.New("sso: no such provider")
	// ErrAttempt is that of an answer which belongs to no login attempt of this
	// browser's: it began it in another one, or too long ago, or did not begin it.
	ErrAttempt = errors.New("sso: no login of this browser's waits for this answer")
	// ErrUsed is that of an attempt which was used before.
	ErrUsed = errors.New("sso: this login was used before")
	// ErrRefused is that of a provider which did not let somebody in.
	ErrRefused = errors.New("sso: the provider refused")
	// ErrAway is that of a provider which cannot be reached or does not make sense.
	ErrAway = errors.New("sso: the provider cannot be reached")
	// ErrToken is that of an ID token, or logout token, which is not believed.
	ErrToken = errors.New("sso: the provider's token is not believed")
	// ErrUnverified is that of an e-mail address for which the provider does not
	// vouch.
	ErrUnverified = errors.New("sso: the provider does not vouch for the e-mail address")
)

// Store keeps what replicas share. Package store has it.
type Store interface {
	// Secret returns the secret of a name; the first to ask gives it its value.
	Secret(ctx context.Context, name string, fresh []byte) ([]byte, error)
	// Once notes that something is used until it expires; store.ErrExists when it
	// was used before.
	Once(ctx context.Context, hash [32]byte, expires, now time.Time) error
}

// Config is what [New] takes.
type Config struct {
	Base      string       // https://HOST or https://HOST:PORT, where browsers reach the console
	Providers []config.SSO // as config.ReadServer checked them
	Store     Store
	Log       *slog.Logger
	Now       func() time.Time
	Rand      io.Reader
}

// Providers are those that people can sign in at. It is safe for concurrent use.
type Providers struct {
	base   string
	secure bool // https: cookies are bound to the host
	list   []*provider
	store  Store
	log    *slog.Logger
	now    func() time.Time
	rand   io.Reader

	mu  sync.Mutex
	key []byte // seals attempts
}

// New returns the providers of a configuration. It reads files and no network: a
// provider that is away keeps nobody from starting.
func New(c Config) (*Providers, error) {
	base := strings.TrimSuffix(c.Base, "/")
	p := &Providers{base: base, secure: strings.HasPrefix(base, "https://"), store: c.Store, log: c.Log, now: c.Now, rand: c.Rand}
	if base == "" {
		return nil, errors.New("sso: the console's address is missing")
	}
	for _, s := range c.Providers {
		if s.ClientSecretFile != "" {
			if _, err := config.Secret(s.ClientSecretFile); err != nil {
				return nil, fmt.Errorf("sso: %s: %w", s.Name, err)
			}
		}
		var roots *x509.CertPool
		if s.CA != "" {
			b, err := os.ReadFile(s.CA)
			if err != nil {
				return nil, fmt.Errorf("sso: %s: ca: %w", s.Name, err)
			}
			roots = x509.NewCertPool()
			if !roots.AppendCertsFromPEM(b) {
				return nil, fmt.Errorf("sso: %s: ca: %s holds no certificate", s.Name, s.CA)
			}
		}
		client := newClient(roots)
		p.list = append(p.list, &provider{
			SSO: s, client: client, now: c.Now, log: c.Log,
			plain: strings.HasPrefix(s.Issuer, "http://"),
			keys:  &keySet{client: client, now: c.Now},
		})
	}
	return p, nil
}

func (p *Providers) find(name string) (*provider, error) {
	for _, x := range p.list {
		if x.Name == name {
			return x, nil
		}
	}
	return nil, ErrNoProvider
}

// RedirectURI is the one address to which a provider sends people back; it stands in
// the provider's registration of this client.
func (p *Providers) RedirectURI(name string) string {
	return p.base + "/console/login/" + name + "/callback"
}

// Listing is a provider as the login page shows it.
type Listing struct {
	Name, Title string
	Away        bool // it did not answer when it was asked last
}

// All lists the providers without asking them.
func (p *Providers) All() []Listing {
	out := make([]Listing, len(p.list))
	for i, x := range p.list {
		out[i] = Listing{Name: x.Name, Title: x.Title, Away: x.absent()}
	}
	return out
}

// listWait is how long the login page waits for providers that were not asked yet.
const listWait = 2 * time.Second

// List asks the providers that were not heard of lately, for at most two seconds, and
// says which are there.
func (p *Providers) List(ctx context.Context) []Listing {
	ctx, cancel := context.WithTimeout(ctx, listWait)
	defer cancel()
	out := make([]Listing, len(p.list))
	var wg sync.WaitGroup
	for i, x := range p.list {
		wg.Go(func() {
			_, err := x.discover(ctx)
			out[i] = Listing{Name: x.Name, Title: x.Title, Away: err != nil || x.absent()}
		})
	}
	wg.Wait()
	return out
}

// Close ends connections that are kept open.
func (p *Providers) Close() {
	for _, x := range p.list {
		x.client.CloseIdleConnections()
	}
}

// secret is the client's secret as its file has it now; empty for a public client.
func (x *provider) secret() (string, error) {
	if x.ClientSecretFile == "" {
		return "", nil
	}
	b, err := config.Secret(x.ClientSecretFile)
	return string(b), err
}
