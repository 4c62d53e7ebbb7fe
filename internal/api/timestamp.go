package api

import (
	"context"
	"io"
	"net/http"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

const maxQuery = 16 << 10 // bytes of a timestamp request: a digest and a few identifiers

func (a *API) timestampRoutes() {
	type none struct{}
	route(a, op{method: http.MethodPost, path: "/timestamp", id: "timestamp", tag: "timestamps", access: a.open(), body: maxQuery, content: wire.TimestampQuery, answer: wire.TimestampReply,
		sum: "The deployment's own timestamping authority (RFC 3161)", doc: "404 where the charter names none."},
		func(ctx context.Context, _ *none) (*stream, error) {
			b, err := io.ReadAll(callOf(ctx).r.Body)
			if err != nil {
				return nil, err
			}
			out, err := a.cfg.Server.Timestamp(ctx, b)
			if err != nil {
				return nil, err
			}
			return a.raw(ctx, wire.TimestampReply, out), nil
		})
}
