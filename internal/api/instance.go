package api

import (
	"net/http"

	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/instance"
)

// instanceRoutes are those of the server's part in a circle of trust. A document that
// describes every server has those of protected instances too.
func (a *API) instanceRoutes() {
	if i := a.cfg.Instance; i != nil {
		agents.MountInstance(a.huma, i, a.log, a.right)
	}
	if a.cfg.Describe {
		agents.MountInstance(a.huma, &instance.Instance{}, a.log, a.right)
		agents.MountAdmin(a.huma, &ecc.Service{}, a.log, a.right)
		agents.MountAgents(a.huma, &ecc.Service{}, a.log, agents.Limits{})
	}
}

// right judges a call to a route of an instance by the scopes of its caller. What is
// done on protected instances alone is nobody's right here.
func (a *API) right(r *http.Request, right agents.Right) (string, error) {
	c := callOf(r.Context())
	c.route = r.Method + " " + r.Pattern
	var acc access
	switch right {
	case agents.ReadCircle:
		acc = a.open()
	case agents.ReadRecords, agents.ExportRecords:
		acc = only(scopeRead)
	case agents.SignRecords, agents.PublishCircle:
		acc = only(scopeRequest)
	default:
		return "", newProblem(403, "not-protected", "ask a protected instance", "this is done on protected instances")
	}
	if p := a.admit(c, acc); p != nil {
		return "", p
	}
	return c.who.Name, nil
}
