package quorum_test

import (
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/quorum/quorumtest"
	"github.com/greatseal-io/greatseal/statement"
)

// Judging goes on while the charter is replaced: every decision is that of one
// version, and a grant is gone once bob is.
func TestConcurrentUse(t *testing.T) {
	ch := deployment(t)
	at := quorumtest.Start.Add(2 * time.Hour)
	req := quorumtest.Statement(t, quorumtest.Sign(t, ch, "alice"), "alice")
	ev := quorum.Evidence{Request: req}
	for _, n := range []string{"bob", "dave", "scanner"} {
		ev.Endorsements = append(ev.Endorsements, quorumtest.Statement(t, quorumtest.Endorsement(quorumtest.ID(t, req), n, statement.Endorse, at), n))
	}
	cache := quorum.NewCache(2)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				d, g := ch.Judge(ev, at, quorum.Options{Cache: cache})
				if (g != nil) != (d.Charter.Version == 1) {
					t.Errorf("version %d: %s", d.Charter.Version, d.State)
				}
				if _, err := ch.Encode(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if err := quorumtest.Replace(t, ch, func(c *charter.Charter) {
		c.Groups["release"] = charter.Group{Members: []string{"alice", "carol"}}
	}); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if d, g := ch.Judge(ev, at, quorum.Options{Cache: cache}); g != nil || d.Charter.Version != 2 {
		t.Errorf("%+v", d)
	}
}
