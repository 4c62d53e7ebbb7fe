package updateset

import (
	"fmt"

	"github.com/greatseal-io/greatseal/rejection"
)

// Error is one refusal of a set, with its place.
type Error struct {
	Reason *rejection.Error
	Update string // its name, where it is known
	Offset int64  // bytes from the start of the file
	Line   int    // from 1
	Inner  int    // the line of the payload, from 1; 0: outside of one
}

func (e *Error) Error() string {
	where := fmt.Sprintf("updateset: line %d, byte %d", e.Line, e.Offset)
	if e.Update != "" {
		where += fmt.Sprintf(" (%.200q)", e.Update)
	}
	if e.Inner != 0 {
		where += fmt.Sprintf(", line %d of its payload", e.Inner)
	}
	return where + ": " + e.Reason.Error()
}

func (e *Error) Unwrap() error { return e.Reason }

func malformed(problem, hint string) *rejection.Error {
	return rejection.New(rejection.PayloadMalformed, "", problem+": "+hint)
}

func tooLarge(what, hint string) *rejection.Error {
	return rejection.New(rejection.PayloadTooLarge, "", what+": "+hint)
}

func mismatch(subject, problem string) *rejection.Error {
	return rejection.New(rejection.ActionMismatch, subject, problem+": export the set again from where it was made")
}

// Hints that more than one problem shares.
const (
	again   = "export the set again; do not edit it by hand"
	removed = "remove it, or export the set again"
	split   = "split the set"
)
