package challenge_test

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/challenge"
)

// shelf keeps what replicas share.
type shelf struct {
	mu     sync.Mutex
	secret []byte
	used   map[[32]byte]bool
}

var errUsed = errors.New("used")

func (s *shelf) Secret(_ context.Context, _ string, fresh []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secret == nil {
		s.secret = fresh
	}
	return s.secret, nil
}

func (s *shelf) Once(_ context.Context, h [32]byte, _, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used[h] {
		return errUsed
	}
	s.used[h] = true
	return nil
}

// Invariant 1: once, within its time, at whichever replica; and nothing but what was
// given out.
func TestNonceIsGoodOnce(t *testing.T) {
	ctx, now := t.Context(), time.Unix(1_800_000_000, 0)
	s := &shelf{used: map[[32]byte]bool{}}
	here, there := challenge.New(s), challenge.New(s)
	n, err := here.Make(ctx, now)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := there.Check(ctx, n, now.Add(challenge.Life-time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]time.Time{"over": now.Add(challenge.Life), "from the future": now.Add(-challenge.Skew - time.Second)} {
		if _, err := there.Check(ctx, n, at); !errors.Is(err, challenge.ErrNonce) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := there.Use(ctx, n, ends, now); err != nil {
		t.Fatal(err)
	}
	if err := here.Use(ctx, n, ends, now); !errors.Is(err, errUsed) {
		t.Errorf("used twice: %v", err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(n)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 1
		if _, err := here.Check(ctx, base64.RawURLEncoding.EncodeToString(raw), now); !errors.Is(err, challenge.ErrNonce) {
			t.Errorf("with bit %d turned: %v", 8*i, err)
		}
		raw[i] ^= 1
	}
	for _, bad := range []string{"", n[1:], n + "A", n + "=", " " + n} {
		if _, err := here.Check(ctx, bad, now); !errors.Is(err, challenge.ErrNonce) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if other, _ := challenge.New(&shelf{}).Make(ctx, now); other != "" {
		if _, err := here.Check(ctx, other, now); !errors.Is(err, challenge.ErrNonce) {
			t.Errorf("of another deployment: %v", err)
		}
	}
}
