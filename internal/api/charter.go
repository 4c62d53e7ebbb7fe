package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/api/wire"
)

func (a *API) charterRoutes() {
	type none struct{}
	type charterOut struct{ Body wire.Charter }
	route(a, op{method: http.MethodGet, path: "/charter", id: "charter", tag: "charter", access: a.open(), sum: "The charter in force"},
		func(context.Context, *none) (*charterOut, error) {
			chain := a.cfg.Server.Chain()
			head, ref := chain.Head()
			payload, err := charter.Encode(head)
			if err != nil {
				return nil, err
			}
			y, err := head.YAML()
			if err != nil {
				return nil, err
			}
			return &charterOut{wire.Charter{Deployment: head.Deployment, Version: ref.Version, ID: ref.ID, Root: chain.Root(), Statement: payload, YAML: string(y)}}, nil
		})

	route(a, op{method: http.MethodGet, path: "/charter/chain", id: "chain", tag: "charter", access: a.open(), answer: wire.JSON,
		sum: "Every charter with the evidence that brought it into force", doc: "Whoever has pinned the ID of version 1 can check all of it."},
		func(ctx context.Context, _ *none) (*stream, error) {
			b, err := a.cfg.Server.Chain().Encode()
			if err != nil {
				return nil, err
			}
			return a.raw(ctx, wire.JSON, b), nil
		})

	type keysOut struct{ Body wire.Keys }
	route(a, op{method: http.MethodGet, path: "/keys", id: "keys", tag: "charter", access: only(scopeRead), sum: "The keys of the charter, as the keeper has them"},
		func(ctx context.Context, _ *none) (*keysOut, error) {
			st, err := a.cfg.Server.Status(ctx)
			if err != nil {
				return nil, err
			}
			head := a.cfg.Server.Charter()
			out := &keysOut{wire.Keys{Keys: []wire.Key{}}}
			for _, k := range st.Keys {
				d, ok := head.Keys[k.Name]
				if !ok {
					continue // of a charter that this replica has not loaded yet
				}
				out.Body.Keys = append(out.Body.Keys, wire.Key{Name: k.Name, URI: string(d.URI), Algorithm: string(d.Algorithm), Scheme: string(d.SignatureScheme()),
					State: k.State, PublicKey: k.PublicKey, Chain: k.Chain, Health: k.Health})
			}
			return out, nil
		})

	type statusOut struct{ Body wire.Status }
	route(a, op{method: http.MethodGet, path: "/status", id: "status", tag: "charter", access: only(scopeRead, scopeLog, scopeMetrics, scopeInspect), sum: "The state of the deployment, and whom the server takes the caller for"},
		func(ctx context.Context, _ *none) (*statusOut, error) {
			s, err := a.status(ctx)
			if err != nil {
				return nil, err
			}
			return &statusOut{*s}, nil
		})
}

func (a *API) status(ctx context.Context) (*wire.Status, error) {
	chain := a.cfg.Server.Chain()
	head, ref := chain.Head()
	who := callOf(ctx).who
	out := &wire.Status{Version: a.cfg.Version, Time: a.cfg.Clock().UTC(), Deployment: head.Deployment, Charter: ref, Root: chain.Root(),
		You: wire.You{Name: who.Name, Via: who.Via, Scopes: who.list()}, Formats: slices.Sorted(slices.Values(a.cfg.Formats)), Uploads: a.cfg.Uploads}
	if st, err := a.cfg.Server.Status(ctx); err == nil {
		out.Keeper = wire.KeeperStatus{Reachable: true, Version: st.Version, Stopped: st.Stopped, Receipts: st.Receipts, Charter: st.Charter}
	}
	h, err := a.cfg.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	pub, err := base64.StdEncoding.DecodeString(head.Keeper.LogKey)
	if err != nil {
		return nil, err
	}
	vkey, err := audit.VerifierKey(head.Keeper.Log, pub)
	if err != nil {
		return nil, err
	}
	out.Log = wire.LogStatus{Origin: head.Keeper.Log, VerifierKey: vkey, Size: h.Tree.Size, Signed: h.Signed}
	if out.Jobs, err = a.cfg.Store.Jobs(ctx); err != nil {
		return nil, err
	}
	out.Jobs = work(out.Jobs)
	return out, nil
}
