package keeper

import (
	"context"
	"errors"
)

// What callers branch on. They keep their identity over the wire.
var (
	ErrMalformed   = errors.New("keeper: malformed")                       // not an order of anybody known: no receipt
	ErrLimit       = errors.New("keeper: beyond the limit")                // too large or too many
	ErrNotFounded  = errors.New("keeper: has no charter yet")              // Found first
	ErrFounded     = errors.New("keeper: has another charter already")     // Found twice
	ErrPin         = errors.New("keeper: charter is not the pinned one")   // or none is pinned
	ErrStopped     = errors.New("keeper: stopped")                         // Status.Stopped says why
	ErrClock       = errors.New("keeper: clock went backwards")            // set the clock right
	ErrUnavailable = errors.New("keeper: not available")                   // worth a retry: a provider, the disk, the connection
	ErrUnreached   = errors.New("keeper: not reached")                     // with another: what was called for never left
	ErrRollback    = errors.New("keeper: ledger has been rolled back")     // restore it
	ErrCheckpoint  = errors.New("keeper: does not extend the last tree")   // of Checkpoint
	ErrReceipt     = errors.New("keeper: not a receipt of this keeper")    // of Observe
	ErrTimestamp   = errors.New("keeper: no timestamping authority")       // of Timestamp
	ErrDenied      = errors.New("keeper: peer is not allowed")             // of the wire
	ErrClosed      = errors.New("keeper: closed")                          //
	ErrInternal    = errors.New("keeper: internal error, see its own log") // of the wire: what else may happen
)

type codedError struct {
	code string
	err  error
}

func codes() []codedError {
	return []codedError{
		// The first that matches is taken: causes before what they cause.
		{"rollback", ErrRollback}, {"clock-backwards", ErrClock}, {"stopped", ErrStopped},
		{"malformed", ErrMalformed}, {"limit", ErrLimit}, {"not-founded", ErrNotFounded},
		{"founded", ErrFounded}, {"pin", ErrPin}, {"checkpoint", ErrCheckpoint},
		{"receipt", ErrReceipt}, {"timestamp", ErrTimestamp}, {"denied", ErrDenied},
		{"closed", ErrClosed}, {"cancelled", context.Canceled}, {"deadline", context.DeadlineExceeded},
		{"unavailable", ErrUnavailable}, {"internal", ErrInternal},
	}
}

// ErrorCode is the word for err in messages: "stopped", or "internal" for
// errors that are none of this package's.
func ErrorCode(err error) string {
	for _, c := range codes() {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "internal"
}

// ErrorOf is the error that ErrorCode calls by this word; [ErrInternal] for words
// that it does not use.
func ErrorOf(code string) error {
	for _, c := range codes() {
		if c.code == code {
			return c.err
		}
	}
	return ErrInternal
}
