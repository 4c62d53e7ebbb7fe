package requests

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

const inboxPage = 25

// waiting is one request of an inbox.
type waiting struct {
	ID          string
	Path        string
	Title       string
	Count       int
	Requester   string
	Reason      string
	Why         []string // the branches of the quorum that the reader would fill
	Missing     string
	Unreachable string
	Created     time.Time
	Expires     time.Time
	Soon        bool // expires within a day
}

type inbox struct {
	Waiting []waiting
	Next    string // address of the next page
	First   bool
	Reader  bool // who reads and is asked for nothing
	Here    string
	Mark    string // of what is shown, for the stream of changes
}

func (a *area) inbox(v *web.Visit) error {
	p := inbox{First: true, Reader: !v.Who.InCharter, Here: web.Home, Mark: "none"}
	if v.Request.URL.RawQuery != "" {
		p.Here += "?" + v.Query().Encode()
	}
	if p.Reader {
		return v.Page("inbox.html", "Inbox", p)
	}
	ctx := v.Request.Context()
	after, err := cursor(v.Query())
	if err != nil {
		return err
	}
	var from *store.Request
	if !after.Before.IsZero() {
		from, p.First = &store.Request{Created: after.Before, ID: after.BeforeID}, false
	}
	list, next, err := a.server.InboxPage(ctx, v.Who.Name, from, inboxPage)
	if err != nil {
		return err
	}
	for _, r := range list {
		w, err := a.waiting(ctx, r, v.Who.Name, v.Now)
		if err != nil {
			return err
		}
		p.Waiting = append(p.Waiting, *w)
	}
	if p.First {
		p.Mark = markOf(list)
	}
	if next != nil {
		p.Next = "?" + cursorOf(next).Encode()
	}
	return v.Page("inbox.html", "Inbox", p)
}

func (a *area) waiting(ctx context.Context, r *store.Request, name string, now time.Time) (*waiting, error) {
	view, err := a.server.View(ctx, r, true)
	if err != nil {
		return nil, err
	}
	w := &waiting{ID: view.ID, Path: requestsPath + "/" + view.ID, Title: title(&view.Command), Count: view.Count, Requester: view.Requester, Reason: view.Reason,
		Unreachable: view.Unreachable, Created: view.Created, Expires: view.Expires, Soon: view.Expires.Sub(now) < 24*time.Hour}
	if view.Decision != nil {
		w.Missing = view.Decision.Missing
		head := a.server.Charter()
		if rl, _, ok := rule(head, &statement.Request{Command: view.Command}); ok && rl.Quorum != nil {
			w.Why = branches(head, rl.Quorum, view.Decision.Tree, name)
		}
	}
	return w, nil
}

// branches are the leaves that name would fill, of those that are not filled.
func branches(c *charter.Charter, n *charter.Node, b *quorum.Branch, name string) []string {
	if b != nil && b.Satisfied {
		return nil
	}
	var out []string
	for i := range n.Of {
		var x *quorum.Branch
		if b != nil && i < len(b.Of) {
			x = b.Of[i]
		}
		out = append(out, branches(c, &n.Of[i], x, name)...)
	}
	if len(n.Of) > 0 {
		return out
	}
	for _, m := range c.Members(n.Name()) {
		if m == name {
			return []string{n.String()}
		}
	}
	return nil
}

// A page ends at a request: its time, to the millisecond, and its ID.
const (
	beforeField   = "before"
	beforeIDField = "id"
)

func cursorOf(r *store.Request) url.Values {
	return url.Values{beforeField: {strconv.FormatInt(r.Created.UnixMilli(), 10)}, beforeIDField: {r.ID.String()}}
}

func cursor(q url.Values) (store.Filter, error) {
	var f store.Filter
	if q.Get(beforeField) == "" {
		return f, nil
	}
	ms, err := strconv.ParseInt(q.Get(beforeField), 10, 64)
	id, ierr := statement.ParseID(q.Get(beforeIDField))
	if err != nil || ierr != nil || ms <= 0 || ms > 1<<52 {
		return f, web.Problemf(400, "malformed", "begin at the first page", "that is no place in the list")
	}
	f.Before, f.BeforeID = time.UnixMilli(ms).UTC(), id
	return f, nil
}

// settle is how long news are gathered before pages are told of them.
const settle = time.Second

// inboxEvents tells a page when its inbox has changed, and reads new requests out.
func (a *area) inboxEvents(v *web.Visit) error {
	e, err := v.Events()
	if err != nil {
		return err
	}
	defer e.Close()
	if !v.Who.InCharter {
		return e.Send("end", nil)
	}
	known := map[string]int64{}
	first, seen := true, v.Query().Get("seen")
	beat := time.Now()
	for e.Context().Err() == nil {
		list, took, err := a.look(e.Context(), v.Who.Name)
		if err != nil {
			return nil // the browser comes again
		}
		now := map[string]int64{}
		changed := len(list) != len(known)
		var news []*store.Request
		for _, r := range list {
			id := r.ID.String()
			now[id] = r.Revision
			if rev, ok := known[id]; !ok {
				news = append(news, r)
			} else if rev != r.Revision {
				changed = true
			}
		}
		if first {
			changed, news = seen != "none" && seen != markOf(list), nil
		}
		if changed || len(news) > 0 {
			if err := e.Send("changed", nil); err != nil {
				return nil
			}
			if len(news) > 0 {
				if err := e.Send("say", said(news)); err != nil {
					return nil
				}
			}
		}
		known, first = now, false
		if time.Since(beat) >= web.Heartbeat {
			if e.Beat() != nil {
				return nil
			}
			beat = time.Now()
		}
		a.server.AwaitNews(e.Context())
		pause(e.Context(), max(settle, 20*took))
	}
	return nil
}

// look is the first page of an inbox for a page that is left open, and how long it took.
// Such pages take turns: however many there are, they leave the server to those who work.
func (a *area) look(ctx context.Context, name string) (list []*store.Request, took time.Duration, err error) {
	select {
	case a.looks <- struct{}{}:
		defer func() { <-a.looks }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	begun := time.Now()
	list, _, err = a.server.InboxPage(ctx, name, nil, inboxPage)
	return list, time.Since(begun), err
}

// markOf tells one state of an inbox's first page from others.
func markOf(list []*store.Request) string {
	h := sha256.New()
	for _, r := range list {
		fmt.Fprintf(h, "%s %d\n", r.ID, r.Revision)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// said is what is read out of new requests.
func said(news []*store.Request) string {
	if len(news) > 1 {
		return fmt.Sprintf("%d new requests wait for you", len(news))
	}
	what := string(news[0].Command)
	if news[0].Policy != "" {
		what += " under " + news[0].Policy
	}
	return fmt.Sprintf("a new request waits for you: %s by %s", what, news[0].Requester)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// prefix reads the beginning of a request's ID as people type it.
func prefix(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if _, err := hex.DecodeString(s + strings.Repeat("0", len(s)%2)); err != nil || len(s) > 64 {
		return "", web.Problemf(400, "malformed", "", "%.40q is not the beginning of a request's ID", s)
	}
	return s, nil
}
