package api

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
)

// problem is an error as callers see it. It is a huma.StatusError.
type problem struct {
	Status int
	Code   string
	Detail string
	Hint   string
	retry  int // seconds
}

func newProblem(status int, code, hint, detail string, args ...any) *problem {
	return &problem{Status: status, Code: code, Hint: hint, Detail: fmt.Sprintf(detail, args...)}
}

func (p *problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{wire.ReasonCode: {p.Code}}
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="greatseal"`)
	}
	return h
}

// ContentType implements huma.ContentTypeFilter.
func (p *problem) ContentType(string) string { return wire.ProblemJSON }

// MarshalJSON is that of wire.Problem.
func (p *problem) MarshalJSON() ([]byte, error) {
	title := http.StatusText(p.Status)
	if title == "" {
		title = "Error"
	}
	return json.Marshal(wire.Problem{Type: typeOf(p.Code), Title: title, Status: p.Status, Detail: p.Detail, Code: p.Code, Hint: p.Hint}, json.Deterministic(true))
}

func typeOf(code string) string { return "https://greatseal.io/problems/" + code }

// writeProblem answers with p outside of a route.
func writeProblem(w http.ResponseWriter, p *problem) {
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", wire.ProblemJSON)
	w.WriteHeader(p.Status)
	b, err := p.MarshalJSON()
	if err == nil {
		_, _ = w.Write(b)
	}
}

// problemOf gives an error its code and hides what is internal.
func (a *API) problemOf(ctx context.Context, err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return newProblem(413, "too-large", "", "the body has more than %d bytes", tooLarge.Limit)
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return newProblem(499, "cancelled", "", "the caller has gone")
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return newProblem(408, "too-slow", "send it again over a faster line", "the body came too slowly")
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{Status: 503, Code: "timeout", Detail: "it took too long", Hint: "try again; nothing was lost", retry: 2}
	case errors.Is(err, keeper.ErrUnavailable), errors.Is(err, keeper.ErrClosed):
		return &problem{Status: 503, Code: "keeper-away", Detail: "the keeper does not answer", Hint: "try again; nothing was lost", retry: 2}
	case errors.Is(err, keeper.ErrStopped), errors.Is(err, keeper.ErrRollback), errors.Is(err, keeper.ErrClock):
		return newProblem(503, "keeper-stopped", "greatseal status says why", "the keeper executes nothing")
	case errors.Is(err, keeper.ErrTimestamp):
		return newProblem(404, "no-timestamping", "the charter names a timestamping key", "this deployment has no timestamping authority")
	case errors.Is(err, keeper.ErrMalformed):
		return newProblem(400, "malformed", "", "the keeper does not understand it")
	}
	sp := server.AsProblem(err)
	if sp.Code == "internal" {
		a.log.Error("internal error", "route", callOf(ctx).route, "error", err)
		return newProblem(500, "internal", "the server's log says more", "internal error")
	}
	out := &problem{Status: sp.Status, Code: sp.Code, Detail: sp.Detail, Hint: sp.Hint}
	if out.Status == http.StatusServiceUnavailable {
		out.retry = 2
	}
	return out
}

// plain turns huma's errors into ours.
func plain(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &problem{Status: m.Status, Code: "malformed", Detail: m.Detail, Hint: "/openapi.yaml describes what is wanted"}
	switch m.Status {
	case http.StatusRequestEntityTooLarge:
		p.Code, p.Detail, p.Hint = "too-large", "the body is too large", ""
	case http.StatusUnsupportedMediaType:
		p.Code = "content-type"
	case http.StatusNotAcceptable:
		p.Code = "not-acceptable"
	case http.StatusRequestTimeout:
		p.Code = "too-slow"
	case http.StatusInternalServerError:
		p.Code, p.Detail, p.Hint = "internal", "internal error", "the server's log says more"
		return p, nil
	}
	for _, e := range m.Errors {
		if e != nil {
			p.Detail += "; " + e.Location + ": " + e.Message
		}
	}
	if len(p.Detail) > 600 {
		p.Detail = strings.ToValidUTF8(p.Detail[:600], "") + "…"
	}
	return p, nil
}
