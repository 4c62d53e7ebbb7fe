package search

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
)

// matter is one thing that somebody should look at.
type matter struct {
	Name  string
	Says  string
	Until time.Time // when it is too late; zero: no time
	Link  string
	Bad   bool // too late, or nearly
}

// room is one kind of matters.
type room struct {
	ID, Title string
	Fine      string // what there is to say without any
	Matters   []matter
	More      int // that are not shown
}

type housePage struct {
	Rooms  []room
	Behind int64
	Unused int
}

const (
	certificateSoon = 60 * 24 * time.Hour
	certificateNow  = 14 * 24 * time.Hour
	requestSoon     = 24 * time.Hour
	unusedDays      = 90
	idleDays        = 90
	maxMatters      = 50
	maxJudged       = 60 // pending requests whose quorum is judged for one page
)

func (a *area) house(v *web.Visit) error {
	ctx := v.Request.Context()
	behind, err := a.analysis.Refresh(ctx)
	if err != nil {
		return err
	}
	p := housePage{Behind: behind, Unused: unusedDays}
	c := a.server.Charter()
	pending, err := a.pendingRooms(ctx, v.Now)
	if err != nil {
		return err
	}
	p.Rooms = append(p.Rooms, a.certificates(ctx, v.Now))
	p.Rooms = append(p.Rooms, pending...)
	p.Rooms = append(p.Rooms, hardware(c), a.unused(c, v.Now), a.idle(c, v.Now), unattended(c), thin(c))
	for i := range p.Rooms {
		r := &p.Rooms[i]
		if n := len(r.Matters); n > maxMatters {
			r.Matters, r.More = r.Matters[:maxMatters], n-maxMatters
		}
	}
	return v.Page("house.html", "House in order", p)
}

// certificates are those of keys that end soon, keys that cannot be used, and keys
// that were never made.
func (a *area) certificates(ctx context.Context, now time.Time) room {
	r := room{ID: "certificates", Title: "Keys and certificates", Fine: "no certificate ends soon, and every key can be used"}
	st, err := a.server.Status(ctx)
	if err != nil {
		r.Matters = []matter{{Name: "keeper", Says: "it does not answer: nothing can be said of its keys", Bad: true}}
		return r
	}
	for _, k := range st.Keys {
		switch {
		case k.State != "active":
			r.Matters = append(r.Matters, matter{Name: k.Name, Says: "is " + k.State, Link: searchKey(k.Name)})
		case k.Health != "":
			r.Matters = append(r.Matters, matter{Name: k.Name, Says: "cannot be used: " + k.Health, Link: searchKey(k.Name), Bad: true})
		}
		for i, der := range k.Chain {
			cert, err := x509.ParseCertificate(der)
			if err != nil || cert.NotAfter.After(now.Add(certificateSoon)) || k.State == "destroyed" {
				continue
			}
			what := "its certificate"
			if i > 0 {
				what = "the certificate of " + cert.Subject.String()
			}
			r.Matters = append(r.Matters, matter{Name: k.Name, Says: what + " ends", Until: cert.NotAfter, Link: searchKey(k.Name), Bad: cert.NotAfter.Before(now.Add(certificateNow))})
		}
	}
	slices.SortStableFunc(r.Matters, func(x, y matter) int {
		return cmp.Or(cmp.Compare(b2i(y.Bad), b2i(x.Bad)), x.Until.Compare(y.Until), cmp.Compare(x.Name, y.Name))
	})
	return r
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func searchKey(name string) string {
	return address("/console/search", map[string][]string{"key": {name}})
}

// pendingRooms are requests whose time is nearly over, and requests that can reach
// their quorum no more.
func (a *area) pendingRooms(ctx context.Context, now time.Time) ([]room, error) {
	soon := room{ID: "expiring", Title: "Requests that expire within a day", Fine: "none"}
	dead := room{ID: "unreachable", Title: "Requests that cannot reach their quorum", Fine: fmt.Sprintf("none among the %d that end first", maxJudged)}
	first, err := a.store.DueRequests(ctx, now.AddDate(10, 0, 0), maxJudged)
	if err != nil {
		return nil, err
	}
	for _, r := range first {
		about := analysis.About(r.Policy, r.Command)
		m := matter{Name: about, Says: "of " + r.Requester, Until: r.Expires, Link: "/console/requests/" + r.ID.String()}
		if !r.Expires.After(now.Add(requestSoon)) {
			m.Bad = r.Expires.Before(now.Add(4 * time.Hour))
			soon.Matters = append(soon.Matters, m)
		}
		if r.State != store.Pending {
			continue
		}
		view, err := a.server.View(ctx, r, false)
		if err != nil {
			continue // altered in the database: its own page says so
		}
		if view.Unreachable != "" {
			m.Says, m.Bad = view.Unreachable, true
			dead.Matters = append(dead.Matters, m)
		}
	}
	return []room{soon, dead}, nil
}

// hardware lists people whose every credential may be a file.
func hardware(c *charter.Charter) room {
	r := room{ID: "hardware", Title: "People without a hardware key", Fine: "everybody has a passkey or a security key"}
	for _, name := range slices.Sorted(maps.Keys(c.People)) {
		if !slices.ContainsFunc(c.People[name].Credentials, func(x charter.Credential) bool {
			return x.Passkey != "" || strings.HasPrefix(x.SSH, "sk-")
		}) {
			r.Matters = append(r.Matters, matter{Name: name, Says: "signs with keys that may be files", Link: "/console/passkeys"})
		}
	}
	return r
}

func (a *area) unused(c *charter.Charter, now time.Time) room {
	r := room{ID: "unused", Title: "Policies without use", Fine: fmt.Sprintf("every policy was used in the last %d days", unusedDays)}
	last := a.analysis.Last(analysis.Signatures)
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		day, ever := last[name]
		switch {
		case !ever:
			r.Matters = append(r.Matters, matter{Name: name, Says: "nothing was ever signed under it"})
		case day < analysis.Day(now)-unusedDays:
			r.Matters = append(r.Matters, matter{Name: name, Says: "was used on " + analysis.Date(day).Format(time.DateOnly) + " for the last time", Link: address("/console/search", map[string][]string{"policy": {name}})})
		}
	}
	return r
}

// idle lists those who stand in a quorum and do not endorse.
func (a *area) idle(c *charter.Charter, now time.Time) room {
	r := room{ID: "idle", Title: "Endorsers who do not endorse", Fine: fmt.Sprintf("every endorser has given a verdict in the last %d days", idleDays)}
	stand := map[string]bool{}
	each := func(q *charter.Node) {
		if q == nil {
			return
		}
		for _, n := range q.Leaves() {
			for _, m := range c.Members(n.Name()) {
				stand[m] = true
			}
		}
	}
	for _, p := range c.Policies {
		each(p.Rule.Quorum)
	}
	for _, x := range c.Commands {
		each(x.Quorum)
	}
	last := a.analysis.Last(analysis.Endorsed)
	for n, d := range a.analysis.Last(analysis.Disapproved) {
		last[n] = max(last[n], d)
	}
	for _, name := range slices.Sorted(maps.Keys(stand)) {
		day, ever := last[name]
		switch {
		case !ever:
			r.Matters = append(r.Matters, matter{Name: name, Says: "has never given a verdict"})
		case day < analysis.Day(now)-idleDays:
			r.Matters = append(r.Matters, matter{Name: name, Says: "gave the last verdict on " + analysis.Date(day).Format(time.DateOnly)})
		}
	}
	return r
}

func unattended(c *charter.Charter) room {
	r := room{ID: "unattended", Title: "What needs nobody's agreement", Fine: "nothing: everything has a quorum"}
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		if c.Policies[name].Rule.Unattended {
			r.Matters = append(r.Matters, matter{Name: name, Says: "signs for " + strings.Join(c.Policies[name].Rule.Requesters, ", ") + " unattended", Link: address("/console/search", map[string][]string{"policy": {name}})})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Commands)) {
		if c.Commands[name].Unattended {
			r.Matters = append(r.Matters, matter{Name: string(name), Says: "is done for " + strings.Join(c.Commands[name].Requesters, ", ") + " unattended"})
		}
	}
	return r
}

// thin lists quora that one person's absence makes unreachable for somebody's request.
func thin(c *charter.Charter) room {
	r := room{ID: "thin", Title: "Quora that depend on one person", Fine: "whoever is away, every quorum can be reached"}
	roll := charter.NewRoll(c)
	check := func(name string, q *charter.Node) {
		if q == nil {
			return
		}
		var needed []string
		seen := map[string]bool{}
		for _, n := range q.Leaves() {
			for _, m := range c.Members(n.Name()) {
				if seen[m] {
					continue
				}
				seen[m] = true
				out, _ := roll.Actor(m)
				tree, err := roll.Compile(q, func(who string) bool { n, _ := roll.Actor(who); return n == out })
				if err != nil || !tree.Possible(-1) {
					needed = append(needed, m)
				}
			}
		}
		if len(needed) > 0 {
			slices.Sort(needed)
			r.Matters = append(r.Matters, matter{Name: name, Says: "cannot be reached without " + strings.Join(needed, ", or without ")})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		check(name, c.Policies[name].Rule.Quorum)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Commands)) {
		check("("+string(name)+")", c.Commands[name].Quorum)
	}
	return r
}
