package wire

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/quorum"
)

// The methods.
const (
	mStatus     = "status"
	mExecute    = "execute"
	mCheckpoint = "checkpoint"
	mTimestamp  = "timestamp"
	mReceipts   = "receipts"
	mObserve    = "observe"
	mChain      = "chain"
	mFound      = "found"
	mConsider   = "consider" // since version 2
)

// maxReceipts is the number of outcomes that one call returns at the most.
const maxReceipts = 1000

type receiptsArgs struct {
	From  uint64 `cbor:"1,keyasint"`
	Limit int    `cbor:"2,keyasint"`
}

type receiptsAnswer struct {
	Outcomes []*keeper.Outcome `cbor:"1,keyasint"`
}

type considerArgs struct {
	Evidence quorum.Evidence `cbor:"1,keyasint"`
}

// handle executes one call: the one place where bytes become calls of a keeper.
func handle(ctx context.Context, k keeper.Keeper, version uint64, method string, body []byte) ([]byte, error) {
	switch method {
	case mStatus:
		if err := empty(body); err != nil {
			return nil, err
		}
		return encoded(k.Status(ctx))
	case mExecute:
		var o keeper.Order
		if err := decode(body, &o); err != nil {
			return nil, err
		}
		return encoded(k.Execute(ctx, &o))
	case mCheckpoint:
		var e keeper.Extension
		if err := decode(body, &e); err != nil {
			return nil, err
		}
		return k.Checkpoint(ctx, &e)
	case mTimestamp:
		return k.Timestamp(ctx, body)
	case mReceipts:
		var a receiptsArgs
		if err := decode(body, &a); err != nil {
			return nil, err
		}
		outs, err := k.Receipts(ctx, a.From, min(max(a.Limit, 0), maxReceipts))
		if err != nil {
			return nil, err
		}
		return encoded(&receiptsAnswer{outs}, nil)
	case mObserve:
		return nil, k.Observe(ctx, body)
	case mChain:
		if err := empty(body); err != nil {
			return nil, err
		}
		return k.Chain(ctx)
	case mFound:
		return nil, k.Found(ctx, body)
	case mConsider:
		if version < version2 {
			break
		}
		var a considerArgs
		if err := decode(body, &a); err != nil {
			return nil, err
		}
		return nil, k.Consider(ctx, a.Evidence)
	}
	return nil, fmt.Errorf("%w: unknown method %.40q", keeper.ErrMalformed, method)
}

func empty(body []byte) error {
	if len(body) != 0 {
		return fmt.Errorf("%w: arguments where there are none", keeper.ErrMalformed)
	}
	return nil
}

func decode(body []byte, v any) error {
	if err := format.Decode(body, v); err != nil {
		return fmt.Errorf("%w: %w", keeper.ErrMalformed, err)
	}
	return nil
}

func encoded[T any](v *T, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, fmt.Errorf("%w: no answer", keeper.ErrInternal)
	}
	return format.Encode(v)
}

// transport carries one call and brings its answer.
type transport interface {
	call(ctx context.Context, method string, body []byte) ([]byte, error)
	// version is the protocol's in use; 0 while there is no connection.
	version() uint64
	Close() error
}

// caller is a Keeper at the other end of a transport.
type caller struct{ transport }

var _ keeper.Keeper = caller{}

func (c caller) Status(ctx context.Context) (*keeper.Status, error) {
	return answer[keeper.Status](c.call(ctx, mStatus, nil))
}

func (c caller) Execute(ctx context.Context, o *keeper.Order) (*keeper.Outcome, error) {
	b, err := format.Encode(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keeper.ErrMalformed, err)
	}
	return answer[keeper.Outcome](c.call(ctx, mExecute, b))
}

func (c caller) Checkpoint(ctx context.Context, e *keeper.Extension) ([]byte, error) {
	b, err := format.Encode(e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keeper.ErrMalformed, err)
	}
	return c.call(ctx, mCheckpoint, b)
}

func (c caller) Timestamp(ctx context.Context, request []byte) ([]byte, error) {
	return c.call(ctx, mTimestamp, request)
}

func (c caller) Receipts(ctx context.Context, from uint64, limit int) ([]*keeper.Outcome, error) {
	b, err := format.Encode(receiptsArgs{from, limit})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keeper.ErrMalformed, err)
	}
	a, err := answer[receiptsAnswer](c.call(ctx, mReceipts, b))
	if err != nil {
		return nil, err
	}
	return a.Outcomes, nil
}

func (c caller) Observe(ctx context.Context, receipt []byte) error {
	_, err := c.call(ctx, mObserve, receipt)
	return err
}

func (c caller) Chain(ctx context.Context) ([]byte, error) { return c.call(ctx, mChain, nil) }

func (c caller) Found(ctx context.Context, envelope []byte) error {
	_, err := c.call(ctx, mFound, envelope)
	return err
}

// Consider does nothing where the keeper is of a time before it, and where there is
// no connection: it is not worth making one.
func (c caller) Consider(ctx context.Context, ev quorum.Evidence) error {
	if c.version() < version2 {
		return nil
	}
	b, err := format.Encode(considerArgs{ev})
	if err != nil {
		return fmt.Errorf("%w: %w", keeper.ErrMalformed, err)
	}
	_, err = c.call(ctx, mConsider, b)
	return err
}

func answer[T any](b []byte, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := format.Decode(b, v); err != nil {
		return nil, fmt.Errorf("%w: answer: %w", keeper.ErrUnavailable, err)
	}
	return v, nil
}

// RemoteError is an error that the keeper answered with. It is the error of
// package keeper that Code names.
type RemoteError struct {
	Code string // as keeper.ErrorCode gives it
	Text string // for people
}

func (e *RemoteError) Error() string { return e.Text }

// Unwrap is the error of package keeper that Code names.
func (e *RemoteError) Unwrap() error { return keeper.ErrorOf(e.Code) }

// remote makes of err what travels. Errors that nobody foresaw may speak of
// anything: their text stays here.
func remote(err error) *RemoteError {
	var already *RemoteError
	if errors.As(err, &already) {
		return already
	}
	code, text := keeper.ErrorCode(err), err.Error()
	if code == "internal" {
		text = keeper.ErrInternal.Error()
	}
	if len(text) > maxText {
		text = text[:maxText]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	if !utf8.ValidString(text) {
		text = keeper.ErrorOf(code).Error()
	}
	return &RemoteError{code, text}
}

// InProcess is k spoken to in the bytes of the wire, without a socket. Its Close
// closes k.
func InProcess(k keeper.Keeper) keeper.Keeper { return caller{local{k}} }

type local struct{ k keeper.Keeper }

func (l local) call(ctx context.Context, method string, body []byte) ([]byte, error) {
	h := head{Kind: kindCall, ID: 1, Method: method}
	if _, err := appendHead(nil, h, len(body)); err != nil {
		return nil, fmt.Errorf("%w: %w", keeper.ErrLimit, err)
	}
	// The keeper must not share memory with its callers.
	b, err := handle(ctx, l.k, version2, method, append([]byte{}, body...))
	if err != nil {
		return nil, remote(err)
	}
	if len(b) > MaxBody {
		return nil, fmt.Errorf("%w: answer of %d bytes", keeper.ErrLimit, len(b))
	}
	return append([]byte{}, b...), nil
}

func (l local) version() uint64 { return version2 }

func (l local) Close() error { return l.k.Close() }
