package cli

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/statement"
)

// grown is a log, and its heads of the sizes from 0 up to n.
func grown(t *testing.T, n int64, entry func(i int64) []byte) (*audit.Client, []audit.Head) {
	t.Helper()
	m := &audittest.Memory{}
	heads := []audit.Head{audittest.Head(t, audit.EmptyTree())}
	for i := range n {
		tree, err := audittest.Append(t.Context(), m, entry(i))
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, audittest.Head(t, tree))
	}
	return audittest.Client(t, m), heads
}

// The kept head moves on, whichever of the commands that have fetched one is the last to
// keep it.
func TestHeadMovesOn(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	all := audittest.Entries(t, 0, 300)
	c, heads := grown(t, 300, func(i int64) []byte { return all[i] })
	l := func() *link { return &link{cfg: &config.Client{Root: statement.ID{1}}} }
	for _, x := range []struct{ keep, want int }{{0, 0}, {10, 10}, {30, 30}, {20, 30}, {30, 30}, {257, 257}, {255, 257}, {0, 257}} {
		if err := l().keepHead(t.Context(), c, heads[x.keep], nil); err != nil {
			t.Fatalf("%d: %v", x.keep, err)
		}
		if kept, err := l().keptHead(); err != nil || !bytes.Equal(kept, heads[x.want].Note()) {
			t.Errorf("after %d: %s, %v", x.keep, kept, err)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, i := range rand.Perm(301) {
				if err := l().keepHead(t.Context(), c, heads[i], nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if kept, err := l().keptHead(); err != nil || !bytes.Equal(kept, heads[300].Note()) {
		t.Errorf("%s, %v", kept, err)
	}
}

// A log that shows this command one tree and another command another one is found out
// whichever is larger, and the head that was there is left as evidence.
func TestHeadsOfTwoTrees(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	all, other := audittest.Entries(t, 0, 40), audittest.Entries(t, 100, 140)
	one, heads := grown(t, 40, func(i int64) []byte { return all[i] })
	two, forked := grown(t, 40, func(i int64) []byte {
		if i < 20 {
			return all[i]
		}
		return other[i]
	})
	l := &link{cfg: &config.Client{Root: statement.ID{1}}}
	if err := l.keepHead(t.Context(), one, heads[30], nil); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{21, 29, 30, 31, 40} {
		// Nothing that was held against an older head speaks for it.
		err := l.keepHead(t.Context(), two, forked[i], forked[20].Note())
		var f *fault
		if !errors.As(err, &f) || f.code != exitUnverified {
			t.Errorf("%d: %v", i, err)
		}
		if kept, err := l.keptHead(); err != nil || !bytes.Equal(kept, heads[30].Note()) {
			t.Fatalf("%d: %s, %v", i, kept, err)
		}
	}
	for _, i := range []int{20, 30, 40} { // the common part, and what is honest
		if err := l.keepHead(t.Context(), one, heads[i], nil); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}
