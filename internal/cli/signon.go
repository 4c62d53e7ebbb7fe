package cli

import (
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/sso"
)

// openProviders are the providers where people sign in to the console; nil where there
// are none. None of them is asked before somebody wants to sign in.
func openProviders(c *config.Server, o *office, log *slog.Logger) (*sso.Providers, error) {
	if len(c.SSO) == 0 {
		return nil, nil
	}
	p, err := sso.New(sso.Config{Base: c.URL, Providers: c.SSO, Store: o.store, Log: log, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return nil, err
	}
	for _, s := range p.Strangers(o.server.Charter()) {
		log.Warn("sign-on: a name under people is nobody's of the charter", "name", s)
	}
	return p, nil
}
