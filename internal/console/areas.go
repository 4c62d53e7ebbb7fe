package console

import (
	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/console/charters"
	"github.com/greatseal-io/greatseal/internal/console/logs"
	"github.com/greatseal-io/greatseal/internal/console/notices"
	"github.com/greatseal-io/greatseal/internal/console/operations"
	"github.com/greatseal-io/greatseal/internal/console/passkeys"
	"github.com/greatseal-io/greatseal/internal/console/requests"
	"github.com/greatseal-io/greatseal/internal/console/search"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

// Parts are what the areas of a process show.
type Parts struct {
	Store         *store.SQL
	Server        *server.Server // of requests; nil: there is none, and none of the next two
	Registrations *registration.Service
	Counts        *analysis.Analysis
	Instance      *instance.Instance // the part in a circle of trust; nil: none
}

// Areas are all areas that there is something to show in. Whoever serves a console and
// whoever measures one ask here: what is added is in both.
func Areas(p Parts) []web.Area {
	var out []web.Area
	if p.Server != nil {
		out = append(out,
			notices.Area(p.Server),
			passkeys.Area(p.Registrations, p.Store),
			requests.Area(p.Server, p.Store),
			charters.Area(p.Server),
			search.Area(p.Server, p.Store, p.Counts),
			logs.Area(p.Server, p.Store),
		)
	}
	if p.Instance != nil {
		out = append(out, operations.Area(p.Instance, p.Store))
	}
	return out
}
