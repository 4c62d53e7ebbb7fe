package server_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
)

// considerate tells how many endorsements each piece of evidence had that it was
// shown.
type considerate struct {
	keeper.Keeper
	shown chan int
	err   error
}

func (c *considerate) Consider(ctx context.Context, ev quorum.Evidence) error {
	c.shown <- len(ev.Endorsements)
	if c.err != nil {
		return c.err
	}
	return c.Keeper.Consider(ctx, ev)
}

// The keeper sees a request and each endorsement that is not the last, in order;
// that it takes none of it changes nothing.
func TestAhead(t *testing.T) {
	for what, away := range map[string]error{"considers": nil, "is away": errors.New("away")} {
		t.Run(what, func(t *testing.T) {
			w := servertest.New(t)
			k := &considerate{w.Keeper, make(chan int, 100), away}
			s, _ := w.Server(w.Store(""), func(c *server.Config) { c.Keeper, c.Ahead = k, true })
			items := w.Files("app", 1)
			env := w.Sign("alice", "release", items)
			r, _, err := s.Submit(t.Context(), env, items)
			must(t, err)
			_, err = s.Endorse(t.Context(), w.Endorse("bob", env))
			must(t, err)
			var got []int
			for range 2 {
				select {
				case n := <-k.shown:
					got = append(got, n)
				case <-time.After(time.Minute):
					t.Fatalf("shown: %v", got)
				}
			}
			_, err = s.Endorse(t.Context(), w.Endorse("carol", env))
			must(t, err)
			w.Until(s, r.ID, store.Executed)
			if !slices.Equal(got, []int{0, 1}) || len(k.shown) != 0 {
				t.Errorf("shown: %v, and %d more", got, len(k.shown))
			}
		})
	}
}
