package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/keeper"
)

// batch is how many entries one transaction of the sequencer integrates.
const batch = 4096

// The pause after each checkpoint: under load entries are integrated, and
// checkpoints signed, for many requests at a time. It is rest, and as long as
// entries keep coming, each within lull of the one before, up to longest: whoever
// wants proof waits that much longer at the most.
const (
	lull    = 25 * time.Millisecond
	rest    = 2 * lull
	longest = 10 * lull
)

func (s *Server) integrateAndRest(ctx context.Context) error {
	err := s.integrate(ctx)
	t := time.NewTicker(lull)
	defer t.Stop()
	came := false
	for paused := lull; paused <= longest; paused += lull {
		select {
		case <-ctx.Done():
			return err
		case <-t.C:
		}
		more := false
		select {
		case <-s.sequence:
			came, more = true, true
		default:
		}
		if paused >= rest && !more {
			break
		}
	}
	if came {
		kick(s.sequence)
	}
	return err
}

// integrate gives waiting log entries their place and has the keeper sign the
// new head. The head is committed before it is shown to the keeper: a head that
// the keeper has signed is never lost.
func (s *Server) integrate(ctx context.Context) error {
	for {
		s.cfg.Hook("sequence")
		n, err := s.cfg.Store.Sequence(ctx, batch)
		if err != nil {
			return err
		}
		s.cfg.Hook("sequenced")
		s.Metrics.Sequenced.Add(int64(n))
		if n < batch {
			break
		}
	}
	h, err := s.cfg.Store.Head(ctx)
	if err != nil || h.Tree.Size == h.Signed {
		return err
	}
	st, err := s.cfg.Keeper.Status(ctx)
	if err != nil {
		return fmt.Errorf("server: keeper: %w", err)
	}
	ext := &keeper.Extension{Size: h.Tree.Size, Root: h.Tree.Root[:]}
	if len(st.Checkpoint) > 0 {
		last, err := s.ParseCheckpoint(st.Checkpoint)
		if err != nil {
			return fmt.Errorf("server: the keeper's checkpoint: %w", err)
		}
		old := last.Size()
		if old > h.Tree.Size { // perhaps another replica has gone on since the head was read
			if h, err = s.cfg.Store.Head(ctx); err != nil {
				return err
			}
			ext.Size, ext.Root = h.Tree.Size, h.Tree.Root[:]
		}
		if old > h.Tree.Size {
			return fmt.Errorf("server: the keeper has signed a log of %d entries, this database has %d: it was set back; restore it", old, h.Tree.Size)
		}
		if old > 0 && old < h.Tree.Size {
			p, err := audit.ProveConsistency(ctx, s.cfg.Store, old, h.Tree.Size)
			if err != nil {
				return fmt.Errorf("server: consistency: %w", err)
			}
			for _, x := range p.Hashes {
				ext.Consistency = append(ext.Consistency, x[:])
			}
		}
	}
	s.cfg.Hook("checkpoint")
	note, err := s.cfg.Keeper.Checkpoint(ctx, ext)
	if err != nil {
		return fmt.Errorf("server: the keeper signs no checkpoint: %w", err)
	}
	s.cfg.Hook("checkpointed")
	if err := s.cfg.Store.SetCheckpoint(ctx, h.Tree.Size, note); err != nil {
		return err
	}
	s.cfg.Hook("published")
	s.watch.news()
	return nil
}

// ParseCheckpoint checks a note against the log's key in the charter.
func (s *Server) ParseCheckpoint(msg []byte) (audit.Head, error) {
	k := s.Charter().Keeper
	pub, err := base64.StdEncoding.DecodeString(k.LogKey)
	if err != nil {
		return audit.Head{}, fmt.Errorf("server: log key: %w", err)
	}
	v, err := audit.NewVerifier(k.Log, pub)
	if err != nil {
		return audit.Head{}, fmt.Errorf("server: log key: %w", err)
	}
	return audit.ParseCheckpoint(msg, k.Log, v)
}

// LogHead is the last published checkpoint, checked.
func (s *Server) LogHead(ctx context.Context) (audit.Head, error) {
	h, err := s.cfg.Store.Head(ctx)
	if err != nil {
		return audit.Head{}, err
	}
	if len(h.Note) == 0 {
		return audit.Head{}, problem(503, "log-empty", "try again in a moment", "the log has no checkpoint yet")
	}
	return s.ParseCheckpoint(h.Note)
}
