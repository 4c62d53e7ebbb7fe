package server

import (
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/internal/store"
)

// Problem is an error that a caller can act on. Code is stable and documented;
// the API carries it as application/problem+json.
type Problem struct {
	Status int    // HTTP status
	Code   string // "request-closed"
	Detail string
	Hint   string // what to do next
}

func (p *Problem) Error() string { return p.Detail }

func problem(status int, code, hint, detail string, args ...any) *Problem {
	return &Problem{Status: status, Code: code, Hint: hint, Detail: fmt.Sprintf(detail, args...)}
}

// AsProblem gives every error a code.
func AsProblem(err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, store.ErrNotFound):
		return problem(404, "not-found", "greatseal request list shows what there is", "not found")
	case errors.Is(err, store.ErrBusy):
		return problem(503, "database-away", "try again; nothing was lost", "the database is busy or away")
	case errors.Is(err, store.ErrConflict):
		return problem(409, "conflict", "try again", "the request has changed meanwhile")
	}
	return problem(500, "internal", "the server's log says more", "%v", err)
}

func malformed(what string, err error) *Problem {
	return problem(400, "malformed", "use a greatseal of the server's version", "%s: %v", what, err)
}
