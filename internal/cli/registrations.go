package cli

import (
	"crypto/rand"
	"time"

	"github.com/greatseal-io/greatseal/internal/registration"
)

// registrations are the passkeys on their way into the charter.
func (o *office) registrations() (*registration.Service, error) {
	return registration.New(registration.Config{Chain: o.server.Chain, Store: o.store, Clock: time.Now, Rand: rand.Reader})
}
