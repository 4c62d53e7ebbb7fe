package api

import (
	"context"
	"net/http"

	"github.com/greatseal-io/greatseal/internal/release"
)

func (a *API) differenceRoutes() {
	type in struct {
		IDParam
		Against string `query:"against" maxLength:"64" doc:"ID of the release to compare with, or the beginning of it; without: the likeliest"`
		From    int    `query:"from" minimum:"0" maximum:"1000000" doc:"first file of the page"`
		Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	type out struct{ Body release.Difference }
	route(a, op{method: http.MethodGet, path: "/requests/{id}/difference", id: "difference", tag: "requests", access: only(scopeRead),
		sum: "Compare a request to sign with the last release",
		doc: "The last release is the request executed under the same policy that has the most files which those of this one follow. What is compared is what plans say: the requester's word, until those in recomputed made them anew from bytes of their own. Files that did not change are counted and not listed."},
		func(ctx context.Context, in *in) (*out, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			o := release.Options{From: in.From, Limit: in.Limit}
			if in.Against != "" {
				base, err := a.get(ctx, in.Against)
				if err != nil {
					return nil, err
				}
				o.Against = base.ID.String()
			}
			d, err := release.Of(ctx, a.cfg.Server, a.cfg.Store, r.ID, o)
			if err != nil {
				return nil, err
			}
			return &out{*d}, nil
		})
}
