package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// How long caches may keep parts of the log. A full tile never changes; a partial
// one neither, but it is soon of no use; a checkpoint is replaced every moment.
const (
	cacheFull       = "max-age=31536000, immutable"
	cachePartial    = "max-age=3600"
	cacheCheckpoint = "max-age=5"
)

// cache says who may keep an answer: everybody's caches for a public log.
func (a *API) cache(w http.ResponseWriter, how string) {
	who := "public, "
	if a.cfg.Private {
		who = "private, "
	}
	w.Header().Set("Cache-Control", who+how)
	if !a.cfg.Private {
		w.Header().Set("Access-Control-Allow-Origin", "*") // anybody's verifier, in a browser too
	}
}

func (a *API) logRoutes() {
	type none struct{}
	route(a, op{method: http.MethodGet, path: "/log/checkpoint", id: "log-checkpoint", tag: "log", access: a.openLog(), answer: wire.Text,
		sum: "The signed head of the audit log (C2SP tlog-checkpoint)"},
		func(ctx context.Context, _ *none) (*stream, error) {
			h, err := a.cfg.Server.LogHead(ctx)
			if err != nil {
				return nil, err
			}
			a.cache(callOf(ctx).w, cacheCheckpoint)
			return a.raw(ctx, wire.Text, h.Note()), nil
		})

	type bodyIn struct {
		Sum string `path:"sum" minLength:"64" maxLength:"64" pattern:"^[0-9a-f]{64}$" doc:"SHA-256 of the body, as the entry has it"`
	}
	route(a, op{method: http.MethodGet, path: "/log/body/{sum}", id: "log-body", tag: "log", access: a.openLog(), answer: wire.Octets,
		sum: "A body that a log entry only names"},
		func(ctx context.Context, in *bodyIn) (*stream, error) {
			b, err := hex.DecodeString(in.Sum)
			if err != nil || len(b) != sha256.Size {
				return nil, newProblem(422, "malformed", "", "want the SHA-256 in hexadecimal digits")
			}
			body, err := a.cfg.Server.Body(ctx, [32]byte(b))
			if err != nil {
				return nil, err
			}
			a.cache(callOf(ctx).w, cacheFull)
			return a.raw(ctx, wire.Octets, body), nil
		})

	a.mux.HandleFunc("GET /v1/log/tile/{path...}", func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		c.route = "GET /v1/log/tile"
		p := a.admit(c, a.openLog())
		if p == nil {
			if err := a.tile(r.Context(), c.w, "tile/"+r.PathValue("path")); err != nil {
				p = a.problemOf(r.Context(), err)
			}
		}
		if p != nil && c.w.status == 0 {
			writeProblem(c.w, p)
		}
	})
}

// tile serves a hash tile or an entry bundle. One beyond the published head is not
// there, although the database may have it: nobody could check it.
func (a *API) tile(ctx context.Context, w *writer, path string) error {
	missing := newProblem(404, "not-found", "", "the log has no such tile")
	t, err := audit.ParseTilePath(path)
	if err != nil {
		return missing
	}
	head, err := a.cfg.Server.LogHead(ctx)
	if err != nil {
		return err
	}
	level := max(0, t.L)
	if level*audit.TileHeight >= 63 {
		return missing
	}
	have := head.Size() >> (level * audit.TileHeight) // hashes or entries at this level
	if t.N > have/audit.TileWidth || t.N*audit.TileWidth+int64(t.W) > have {
		return missing
	}
	var b []byte
	if t.L < 0 {
		if b, err = a.cfg.Server.Bundle(ctx, t.N, t.W); err == nil {
			b, err = audit.Narrow(t, b)
		}
	} else {
		b, err = a.cfg.Server.Tile(ctx, t)
	}
	if err != nil {
		return fmt.Errorf("api: %s: %w", path, err)
	}
	if len(b) == 0 {
		return errors.New("api: " + path + ": empty")
	}
	how := cacheFull
	if t.W < audit.TileWidth {
		how = cachePartial
	}
	a.cache(w, how)
	w.Header().Set("Content-Type", wire.Octets)
	_, err = w.Write(b)
	return err
}
