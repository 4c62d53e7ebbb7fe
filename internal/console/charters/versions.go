package charters

import (
	"crypto/sha256"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// versionsPage is the number of versions on one page, maxChanges that of differences
// which are shown of one.
const (
	versionsPage = 10
	maxChanges   = 100
)

// difference is what a charter changes: first what weakens, then what moves trust, so
// that nobody hides it behind a hundred changes that weigh nothing.
type difference struct {
	Changes  []charter.Change
	Left     int // that are not shown
	Weaker   int
	Stronger int
	Trust    int
}

func compare(a, b *charter.Charter) difference {
	var d difference
	weight := map[charter.Effect]int{charter.Weaker: 0, charter.Trust: 1, "": 2, charter.Stronger: 3}
	all := charter.Diff(a, b)
	slices.SortStableFunc(all, func(x, y charter.Change) int { return weight[x.Effect] - weight[y.Effect] })
	for _, c := range all {
		if c.Path == "version" || c.Path == "previous" || c.Path == "created" {
			continue
		}
		switch c.Effect {
		case charter.Weaker:
			d.Weaker++
		case charter.Stronger:
			d.Stronger++
		case charter.Trust:
			d.Trust++
		}
		if len(d.Changes) == maxChanges {
			d.Left++
			continue
		}
		if len(c.Text) > 1000 {
			c.Text = c.Text[:1000] + "…"
		}
		d.Changes = append(d.Changes, c)
	}
	return d
}

type versionRow struct {
	Version   uint64
	ID        statement.ID
	Since     time.Time // in force since
	Request   string
	Requester string
	Reason    string
	Endorsers []string
	Founders  bool
	difference
}

type versionsData struct {
	Versions []versionRow
	More     string
}

func (a *area) versions(v *web.Visit) error {
	chain := a.server.Chain()
	_, ref := chain.Head()
	from := ref.Version
	if s := v.Query().Get("from"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n < 1 || n > ref.Version {
			return web.Problemf(404, "not-found", "", "there is no such version")
		}
		from = n
	}
	p := &versionsData{}
	for n := from; n >= 1; n-- {
		if len(p.Versions) == versionsPage {
			p.More = home + "/versions?" + url.Values{"from": {strconv.FormatUint(n, 10)}}.Encode()
			break
		}
		row, err := a.row(chain, n)
		if err != nil {
			return err
		}
		p.Versions = append(p.Versions, *row)
	}
	return v.Page("versions.html", "Versions of the charter", p)
}

// row is a version as it is shown. A chain only grows: a version says the same for
// ever, and so does who agreed to it. It is judged once.
func (a *area) row(chain *quorum.Chain, n uint64) (*versionRow, error) {
	return a.rows.get(n, func() (*versionRow, error) {
		c, ref, err := chain.Version(n)
		if err != nil {
			return nil, err
		}
		row := &versionRow{Version: n, ID: ref.ID, Since: c.Created, Founders: n == 1}
		if n > 1 {
			old, _, err := chain.Version(n - 1)
			if err != nil {
				return nil, err
			}
			row.difference = compare(old, c)
			if links := chain.Links(); int(n)-2 < len(links) {
				row.link(chain, links[n-2], n-1)
			}
		}
		return row, nil
	})
}

// link says who brought a version into force.
func (r *versionRow) link(chain *quorum.Chain, l quorum.Link, before uint64) {
	r.Since = l.At
	d, past, err := chain.JudgeUnder(before, l.Evidence, l.At, quorum.Options{})
	if err != nil || past == nil {
		return
	}
	r.Request, r.Requester, r.Reason = d.Request.String(), past.Request().Requester, past.Request().Reason
	for _, x := range d.Votes {
		if x.Counted {
			r.Endorsers = append(r.Endorsers, x.Endorser)
		}
	}
}

type changeData struct {
	Request string
	Old     uint64
	New     uint64
	Stale   bool // follows a charter that is no longer in force
	Foreign bool // follows one that is not in the chain
	difference
	Warnings []charter.Warning
	Replay   string // address, "" when it makes no sense any more
}

// carriedBy is the charter in the envelope of a request: the same bytes say the same, and
// reading them takes longer than all else that a page does.
func (a *area) carriedBy(envelope []byte) (*charter.Charter, error) {
	return a.cargo.get(sha256.Sum256(envelope), func() (*charter.Charter, error) { return charter.Carried(envelope) })
}

// carried is the charter that a request carries, and the one that it follows, which is
// nil when it is not in the chain.
func (a *area) carried(v *web.Visit) (id statement.ID, old, next *charter.Charter, err error) {
	r, err := a.server.Find(v.Request.Context(), v.Path("id"))
	if err != nil {
		return id, nil, nil, err
	}
	switch next, err = a.carriedBy(r.Envelope); {
	case errors.Is(err, charter.ErrNotCarried):
		return id, nil, nil, web.Problemf(404, "not-found", "", "that request carries no charter")
	case err != nil:
		return id, nil, nil, web.Problemf(422, "charter-invalid", "", "the charter that it carries cannot be read: %.300v", err)
	}
	if c, ref, err := a.server.Chain().Version(next.Version - 1); err == nil && ref.ID == next.Previous {
		old = c
	}
	return r.ID, old, next, nil
}

// change is what a request for charter.replace would change: for the request's page.
func (a *area) change(v *web.Visit) error {
	id, old, next, err := a.carried(v)
	if err != nil {
		return err
	}
	_, ref := a.server.Chain().Head()
	d := &changeData{Request: id.String(), Old: next.Version - 1, New: next.Version, Foreign: old == nil, Stale: next.Version <= ref.Version && next.Version > 1}
	if old != nil {
		d.difference = compare(old, next)
		d.Warnings = newWarnings(old, next)
	}
	if old != nil && !d.Stale {
		d.Replay = home + "/change/" + d.Request + "/replay"
	}
	if v.HTMX() {
		return v.Part("change.html", "change", d)
	}
	return v.Page("change.html", "Change of the charter", d)
}

// newWarnings are those of a charter that the one before does not have.
func newWarnings(old, next *charter.Charter) []charter.Warning {
	have := map[charter.Warning]bool{}
	for _, w := range charter.Lint(old) {
		have[w] = true
	}
	var out []charter.Warning
	for _, w := range charter.Lint(next) {
		if !have[w] && len(out) < maxChanges {
			out = append(out, w)
		}
	}
	return out
}

func (a *area) changeReplay(v *web.Visit) error {
	id, old, next, err := a.carried(v)
	if err != nil {
		return err
	}
	_, ref := a.server.Chain().Head()
	if old == nil || next.Previous != ref.ID {
		return web.Problemf(409, "charter-moved", "", "another charter is in force: this one cannot follow it")
	}
	o, err := a.replay(v.Request.Context(), next, v.Now, replayGlance)
	if err != nil {
		return err
	}
	o.Back = home + "/change/" + id.String()
	if o.Waits {
		o.Again = o.Back + "/replay"
	}
	if v.HTMX() {
		return v.Part("replay.html", "replay", o)
	}
	return v.Page("replay.html", "What would have been decided otherwise", o)
}
