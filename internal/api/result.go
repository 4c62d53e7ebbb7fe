package api

import (
	"context"
	"net/http"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/verify"
)

func (a *API) resultRoutes() {
	type resultOut struct{ Body server.Result }
	route(a, op{method: http.MethodGet, path: "/requests/{id}/result", id: "result", tag: "results", access: only(scopeRead),
		sum: "What a requester needs to finish his files", doc: "As often as it is asked. 409 while the request is not executed."},
		func(ctx context.Context, in *IDParam) (*resultOut, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			res, err := a.cfg.Server.Collect(ctx, r.ID)
			if err != nil {
				return nil, err
			}
			return &resultOut{*res}, nil
		})

	type evidenceIn struct {
		IDParam
		Index int `query:"index" minimum:"-1" maximum:"100000" default:"-1" doc:"one file"`
		From  int `query:"from" minimum:"0" maximum:"100000" doc:"several files, the first of them"`
		To    int `query:"to" minimum:"0" maximum:"100000" doc:"and the one after the last"`
	}
	route(a, op{method: http.MethodGet, path: "/requests/{id}/evidence", id: "evidence", tag: "results", access: only(scopeRead), answer: wire.JSON,
		sum: "Evidence of signed files", doc: "With index: one document, JSON. With from and to: one a line (application/jsonl). It proves, with no server, who approved the signature under which charter."},
		func(ctx context.Context, in *evidenceIn) (*stream, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			from, to, ct := in.From, in.To, wire.JSONLines
			switch {
			case in.Index >= 0 && (from != 0 || to != 0):
				return nil, newProblem(422, "malformed", "", "want index, or from and to")
			case in.Index >= 0:
				from, to, ct = in.Index, in.Index+1, wire.JSON
			case from >= to:
				return nil, newProblem(422, "malformed", "", "want index, or from and to with from before to")
			}
			return a.stream(ctx, ct, func(w *writer) error {
				return a.cfg.Server.EachEvidence(ctx, r.ID, from, to, func(e *verify.Evidence) error {
					b, err := e.Encode()
					if err != nil {
						return err
					}
					_, err = w.Write(append(b, '\n'))
					return err
				})
			}), nil
		})
}
