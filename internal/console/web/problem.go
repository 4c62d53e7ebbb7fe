package web

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/greatseal-io/greatseal/internal/server"
)

// Problem is an error that a Serve returns, for the person who asked. The kit shows it
// as a page, as a part of one, or as JSON.
type Problem struct {
	Status int
	Code   string // "not-found"
	Detail string
	Hint   string // what to do next
}

func (p *Problem) Error() string { return p.Detail }

// Problemf makes a problem.
func Problemf(status int, code, hint, detail string, args ...any) *Problem {
	return &Problem{Status: status, Code: code, Hint: hint, Detail: fmt.Sprintf(detail, args...)}
}

// problemOf gives every error a code. What is internal is not told.
func (s *Site) problemOf(err error) *Problem {
	var p *Problem
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &large):
		return Problemf(413, "too-large", "", "that is more than %d bytes", large.Limit)
	}
	sp := server.AsProblem(err)
	if sp.Status == 500 {
		s.log.Error("console", "error", err)
		return Problemf(500, "internal", "the server's log says more", "internal error")
	}
	return Problemf(sp.Status, sp.Code, sp.Hint, "%s", sp.Detail)
}
