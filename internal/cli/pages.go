package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/console"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/store"
)

// openConsole puts the console of a server together, or nothing where it is off.
// part is the server's part in a circle of trust; nil: none.
func openConsole(c *config.Server, o *office, part *instance.Instance, log *slog.Logger) (_ *console.Console, err error) {
	if c.Console.Off {
		return nil, nil
	}
	cfg := console.Config{Config: web.Config{
		Server: o.server, Store: o.store, Clock: time.Now, Logger: log, Version: Version, URL: c.URL, Admins: c.Admins,
		Auditor: c.Console.Roles.Auditor, Operator: c.Console.Roles.Operator,
	}}
	if cfg.Providers, err = openProviders(c, o, log); err != nil {
		return nil, err
	}
	reg, err := o.registrations()
	if err != nil {
		return nil, err
	}
	cfg.Areas = console.Areas(console.Parts{Store: o.store, Server: o.server, Registrations: reg, Counts: analysis.New(o.store), Instance: part})
	return console.New(cfg)
}

// openProtectedConsole gives a protected instance its pages, unless they are off. Who
// somebody is and what he may is told by his certificate on every call.
func openProtectedConsole(c *config.Server, h *api.Protected, part *instance.Instance, st *store.SQL, log *slog.Logger) (*console.Console, error) {
	if c.Console.Off {
		return nil, nil
	}
	if r := c.Console.Roles; c.Console.WithoutCertificate || len(r.Auditor)+len(r.Operator) > 0 {
		return nil, errors.New("console: on a protected instance a certificate says who somebody is, and instance.roles what he may: roles and without_certificate say nothing there")
	}
	return console.New(console.Config{Config: web.Config{
		Store: st, Clock: time.Now, Logger: log, Version: Version, URL: c.URL, Name: c.Instance.Name,
		Identify: func(r *http.Request) (*web.Person, error) {
			name, runs, no := h.Caller(r)
			if no != nil {
				return nil, web.Problemf(no.Status, no.Code, no.Hint, "%s", no.Detail)
			}
			p := &web.Person{Name: name, Via: "certificate", Roles: []web.Role{web.Auditor}}
			if runs {
				p.Roles = []web.Role{web.Operator}
			}
			return p, nil
		},
	}, Areas: console.Areas(console.Parts{Store: st, Instance: part})})
}

// sessions are those of the console, where it is on.
func (o *office) sessions() store.Sessions {
	if o.cfg.Console.Off {
		return nil
	}
	return o.store
}

// consoleHint says to whoever plays with a deployment how he gets to its pages. On this
// machine they are at "localhost": browsers have no passkeys for addresses.
func consoleHint(dir string, addr net.Addr) string {
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "" // a socket, which browsers do not reach
	}
	return fmt.Sprintf(`
In a browser: http://localhost:%[2]s/console/

  %[3]s --config %[1]s/people/bob.yaml console           opens it, signed in as bob
`, dir, port, program())
}
