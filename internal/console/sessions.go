package console

import (
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
)

// sessions shows where somebody is signed in; operators see everybody's.
func (h *home) sessions(v *web.Visit) error {
	type list struct {
		Sessions []store.Session
		Here     string
	}
	type page struct {
		Mine, Others list
		Operator     bool
	}
	p := page{Mine: list{Here: v.Who.Session}, Operator: v.Who.Is(web.Operator)}
	f := store.SessionFilter{}
	if !p.Operator {
		f.Person = v.Who.Name
	}
	all, err := v.Site().Store().ListSessions(v.Request.Context(), f)
	if err != nil {
		return err
	}
	for _, x := range all {
		switch {
		case mine(v.Who, &x):
			p.Mine.Sessions = append(p.Mine.Sessions, x)
		case p.Operator:
			p.Others.Sessions = append(p.Others.Sessions, x)
		}
	}
	return v.Page("sessions.html", "Sessions", p)
}

// mine reports whether a session is of the same person: a name of the charter is not
// the same as that name of elsewhere.
func mine(p *web.Person, x *store.Session) bool {
	return x.Person == p.Name && x.Member == p.InCharter
}

func (h *home) endSession(v *web.Visit) error {
	ctx, st := v.Request.Context(), v.Site().Store()
	list, err := st.ListSessions(ctx, store.SessionFilter{Handle: v.Path("id")})
	if err != nil {
		return err
	}
	if len(list) != 1 || !mine(v.Who, &list[0]) && !v.Who.Is(web.Operator) {
		return web.Problemf(404, "not-found", "", "there is no such session, or no longer")
	}
	if _, err := st.EndSessions(ctx, store.SessionFilter{Handle: list[0].Handle}); err != nil {
		return err
	}
	v.Site().Logger().Info("a session was ended", "session", list[0].Handle, "of", list[0].Person, "by", v.Who.Name)
	return v.Redirect(web.Home + "sessions")
}
