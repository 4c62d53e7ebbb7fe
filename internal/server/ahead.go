package server

import (
	"context"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

// considered is how much evidence waits to be shown to the keeper. What finds no
// place is verified with the order: nothing is lost but time.
const considered = 256

// showAhead has the keeper check the signatures of a request that still waits for
// others.
func (s *Server) showAhead(r *store.Request) {
	if !s.cfg.Ahead || r.State != store.Pending {
		return
	}
	select {
	case s.ahead <- evidenceOf(r):
	default:
	}
}

// consider shows the keeper evidence, one piece at a time: the keeper takes no
// more. No error matters: the order says what is wrong.
func (s *Server) consider(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-s.ahead:
			c, cancel := context.WithTimeout(ctx, 10*time.Second)
			if err := s.cfg.Keeper.Consider(c, ev); err != nil && ctx.Err() == nil {
				s.log.Debug("evidence was not considered ahead", "error", err)
			}
			cancel()
		}
	}
}
