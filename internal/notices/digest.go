package notices

import (
	"context"
	"fmt"
	"slices"

	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
)

const (
	foldAtOnce = 500
	maxInFold  = 50 // requests of each list
)

// waits are the events that a digest shows by listing what waits now.
func waits(e notify.Event) bool {
	return e == notify.Pending || e == notify.Reminder || e == notify.Proposed
}

// fold makes a person's digest of what was held for it. It lists what waits now, not
// what waited when it was held: who has endorsed meanwhile is not asked again.
func (e *Engine) fold(ctx context.Context, d Desk, j store.Job) error {
	person := personOf(j.Ref)
	now := e.now()
	for {
		held, err := e.c.Store.HeldNotices(ctx, person, now, foldAtOnce)
		if err != nil || len(held) == 0 {
			return err
		}
		ids := make([]string, len(held))
		var letter notify.Letter
		letter.Event = notify.Digest
		asked := false
		for i, n := range held {
			ids[i] = n.ID
			l, err := notify.DecodeLetter(n.Letter)
			if err != nil {
				e.c.Logger.Error("a letter in the database is none", "notice", n.ID, "error", err)
				continue
			}
			letter.Deployment = l.Deployment
			switch {
			case waits(l.Event):
				asked = true
			case l.Item != nil && len(letter.Happened) < maxInFold:
				letter.Happened = append(letter.Happened, *l.Item)
			case l.Item == nil && len(letter.Facts) < maxInFold:
				letter.Facts = append(letter.Facts, l.Facts...)
			}
		}
		if asked && d != nil {
			list, more, err := d.Waiting(ctx, person)
			if err != nil {
				return err
			}
			n := min(len(list), maxInFold)
			letter.Waiting, letter.More = list[:n], more+len(list)-n
		}
		pref, _, err := e.Preferences(ctx, person)
		if err != nil {
			return err
		}
		var out []store.Notice
		if len(letter.Waiting)+len(letter.Happened)+len(letter.Facts) > 0 {
			// The first of those held tells digests apart: it is in one only.
			m := Message{Key: ids[0], Letter: letter}
			for _, w := range e.reached(d, person, pref) {
				n, err := e.notice(&m, person, w, kindOf(w, person), now, now)
				if err != nil {
					return err
				}
				out = append(out, n)
			}
		}
		state := store.NoticeFolded
		if len(out) == 0 {
			state = store.NoticeDropped
		}
		slices.Sort(ids)
		e.c.Hook("notice.fold")
		if err := e.c.Store.FoldNotices(ctx, out, ids, state, now); err != nil {
			return fmt.Errorf("notices: digest: %w", err)
		}
		e.c.Hook("notice.folded")
		e.Metrics.Held.Add(int64(len(held)))
		e.Kick()
	}
}
