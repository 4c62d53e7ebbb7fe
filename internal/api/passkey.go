package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/store"
)

func viewRegistration(r *store.Registration) wire.Registration {
	v := wire.Registration{
		ID: r.ID, Person: r.Person, Credential: r.Credential, CredentialID: r.CredentialID, Attestation: r.Attestation, Transports: r.Transports, Label: r.Label,
		Replaces: r.Replaces, State: string(r.State), Detail: r.Detail, Via: r.Via, Issuer: r.Issuer, Subject: r.Subject, Created: r.Created, Updated: r.Updated, Expires: r.Expires,
	}
	if !r.Request.IsZero() {
		v.Request = r.Request.String()
	}
	return v
}

// passkeyRoutes show registrations of passkeys. What brings one into force is a
// request like any other; nothing here does.
func (a *API) passkeyRoutes() {
	off := newProblem(503, "not-ready", "", "this server takes no registrations")
	type listIn struct {
		Person string `query:"person" maxLength:"64"`
		State  string `query:"state" maxLength:"100" doc:"one or several, comma between: open, proposed, in force, refused, expired"`
	}
	type listOut struct{ Body wire.Registrations }
	route(a, op{method: http.MethodGet, path: "/passkeys/registrations", id: "registrations", tag: "passkeys", access: only(scopeRead),
		sum: "List registrations of passkeys, newest first", doc: "Officers see all of them, others their own."},
		func(ctx context.Context, in *listIn) (*listOut, error) {
			if a.registrations == nil {
				return nil, off
			}
			f := store.RegistrationFilter{Person: in.Person, Limit: 1000}
			if in.State != "" {
				for s := range strings.SplitSeq(in.State, ",") {
					if !slices.Contains(store.RegistrationStates(), store.RegistrationState(s)) {
						return nil, newProblem(422, "malformed", "", "state: want some of %v", store.RegistrationStates())
					}
					f.States = append(f.States, store.RegistrationState(s))
				}
			}
			if len(f.States) > len(store.RegistrationStates()) {
				return nil, newProblem(422, "malformed", "", "state: want each once")
			}
			if err := a.registrations.Sync(ctx); err != nil {
				return nil, err
			}
			list, err := a.registrations.List(ctx, callOf(ctx).who.Name, f)
			if err != nil {
				return nil, err
			}
			out := &listOut{wire.Registrations{Registrations: []wire.Registration{}}}
			for i := range list {
				out.Body.Registrations = append(out.Body.Registrations, viewRegistration(&list[i]))
			}
			return out, nil
		})
	type idIn struct {
		ID string `path:"id" minLength:"16" maxLength:"16" pattern:"^[0-9a-f]{16}$"`
	}
	type oneOut struct{ Body wire.Registration }
	route(a, op{method: http.MethodGet, path: "/passkeys/registrations/{id}", id: "registration", tag: "passkeys", access: only(scopeRead),
		sum: "Show a registration of a passkey", doc: "With the bytes from which an officer's own program recomputes what is attested."},
		func(ctx context.Context, in *idIn) (*oneOut, error) {
			if a.registrations == nil {
				return nil, off
			}
			if err := a.registrations.Sync(ctx); err != nil {
				return nil, err
			}
			r, err := a.registrations.Read(ctx, callOf(ctx).who.Name, in.ID)
			if err != nil {
				return nil, err
			}
			return &oneOut{viewRegistration(r)}, nil
		})
	type refuseIn struct {
		ID   string `path:"id" minLength:"16" maxLength:"16" pattern:"^[0-9a-f]{16}$"`
		Body wire.Refusing
	}
	route(a, op{method: http.MethodPost, path: "/passkeys/registrations/{id}/refuse", id: "refuse-registration", tag: "passkeys", access: only(scopeRequest),
		sum: "Refuse a registration of a passkey, or withdraw one's own", doc: "It is shown to nobody as waiting any more. A request that carries it goes on: whoever wants that ended disapproves it. Not with a token."},
		func(ctx context.Context, in *refuseIn) (*oneOut, error) {
			if a.registrations == nil {
				return nil, off
			}
			if callOf(ctx).who.Via == "token" {
				return nil, newProblem(403, "scope", "greatseal login", "a person's own session is wanted")
			}
			r, err := a.registrations.Refuse(ctx, callOf(ctx).who.Name, in.ID, in.Body.Reason)
			if err != nil {
				return nil, err
			}
			return &oneOut{viewRegistration(r)}, nil
		})
}
