package keeper

import (
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// serialBlock is how many serial numbers one record of the ledger reserves.
const serialBlock = 1000

// stamps are the serial numbers of timestamps. A number is the counter, which no
// two timestamps of one ledger share, and 64 random bits, so that a ledger which
// is rolled back does not repeat a number either.
type stamps struct {
	mu          sync.Mutex
	next, limit uint64    // reserved and not used: next to limit-1
	last        time.Time // of the last timestamp of this process
}

// Timestamp implements [Keeper]. What the request is at fault for is answered with
// a rejection, which is no error.
func (k *Local) Timestamp(ctx context.Context, request []byte) ([]byte, error) {
	for {
		der, err := k.stamp(ctx, request)
		if err != errPreempted {
			return der, err
		}
	}
}

// stamp is one attempt under the law in force; it ends with that law, so that a
// device that hangs does not keep its key from being suspended.
func (k *Local) stamp(ctx context.Context, request []byte) ([]byte, error) {
	k.law.RLock()
	defer k.law.RUnlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := k.working(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quit := k.quit.Load().ctx
	defer context.AfterFunc(quit, cancel)()
	k.mu.Lock()
	chain := k.chain
	k.mu.Unlock()
	c, _ := chain.Head()
	if c.Timestamping == nil {
		return nil, fmt.Errorf("%w: the charter names none", ErrTimestamp)
	}
	name := c.Timestamping.Key
	ck := c.Keys[name]
	st := k.state(name)
	if err := usable(name, ck, st); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTimestamp, err)
	}
	if len(st.chain) == 0 {
		return nil, fmt.Errorf("%w: key %s has no certificate", ErrTimestamp, name)
	}
	req, err := tsp.ParseRequest(request)
	if err != nil {
		return tsp.Refuse(tsp.Rejected, tsp.FailBadDataFormat), nil
	}
	policy, err := parseOID(c.Timestamping.Policy)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTimestamp, err)
	}
	kk, err := k.key(ctx, name, ck, st)
	if err != nil && quit.Err() != nil {
		return nil, errPreempted
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	serial, at, err := k.serial(ctx)
	if err != nil {
		return nil, err
	}
	p, err := tsp.Issue(req, tsp.AuthorityConfig{Chain: st.chain, Policy: policy,
		Accuracy: accuracy(time.Duration(c.Timestamping.Accuracy)), Scheme: ck.SignatureScheme()}, serial, at)
	var rejected *tsp.Rejection
	if errors.As(err, &rejected) {
		return rejected.Response(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTimestamp, err)
	}
	message := p.ToBeSigned()
	scheme := ck.SignatureScheme()
	sig, err := kk.Sign(ctx, scheme, scheme.Input(message))
	if err != nil && quit.Err() != nil {
		return nil, errPreempted
	}
	if err != nil {
		k.mu.Lock()
		delete(k.open, name)
		k.mu.Unlock()
		return nil, fmt.Errorf("%w: key %s: %w", ErrUnavailable, name, err)
	}
	if err := sigalg.Verify(st.pub, scheme, message, sig); err != nil {
		return nil, fmt.Errorf("%w: key %s: own signature does not verify", ErrTimestamp, name)
	}
	der, err := p.Finish(sig)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTimestamp, err)
	}
	return der, nil
}

// serial takes a serial number and the time that belongs to it. Times do not go
// back by more than a second against anything that the keeper has dated.
func (k *Local) serial(ctx context.Context) (*big.Int, time.Time, error) {
	s := &k.stamps
	s.mu.Lock()
	defer s.mu.Unlock()
	at := k.c.Clock().UTC().Truncate(time.Millisecond)
	k.mu.Lock()
	last := time.Unix(k.last, 0)
	k.mu.Unlock()
	if s.last.After(last) {
		last = s.last
	}
	if at.Before(last.Add(-time.Second)) {
		return nil, at, fmt.Errorf("%w: it is %s, and was %s", ErrClock, at.Format(time.RFC3339), last.UTC().Format(time.RFC3339))
	}
	if s.next >= s.limit {
		limit := max(s.limit, 1) + serialBlock
		body, err := format.Encode(serialsRecord{Limit: limit, At: at.Unix()})
		if err != nil {
			return nil, at, fmt.Errorf("keeper: %w", err)
		}
		k.c.Hook("serials")
		if _, err := k.ledger.AppendFunc(context.WithoutCancel(ctx), func() ([]ledger.Record, error) {
			return []ledger.Record{{Type: recSerials, Body: body}}, nil
		}, func([]int64) {
			k.mu.Lock()
			k.seen(at.Unix())
			k.mu.Unlock()
		}); err != nil {
			return nil, at, unavailable(err)
		}
		s.next, s.limit = limit-serialBlock, limit
	}
	var b [16]byte
	if _, err := io.ReadFull(k.c.Rand, b[8:]); err != nil {
		return nil, at, fmt.Errorf("%w: randomness: %w", ErrUnavailable, err)
	}
	binary.BigEndian.PutUint64(b[:8], s.next)
	s.next++
	if at.After(s.last) {
		s.last = at
	}
	return new(big.Int).SetBytes(b[:]), at, nil
}

func accuracy(d time.Duration) tsp.Accuracy {
	return tsp.Accuracy{Seconds: int(d / time.Second), Millis: int(d / time.Millisecond % 1000), Micros: int(d / time.Microsecond % 1000)}
}

func parseOID(s string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for p := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || strconv.Itoa(n) != p {
			return nil, fmt.Errorf("keeper: object identifier %.80q", s)
		}
		oid = append(oid, n)
	}
	if len(oid) < 2 {
		return nil, fmt.Errorf("keeper: object identifier %.80q", s)
	}
	return oid, nil
}
