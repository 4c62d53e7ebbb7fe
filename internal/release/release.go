// Package release compares a request with the last release: what was signed before
// under the same policy and is the same product. Whoever is asked for his name sees what
// changed, and what of it deserves a second look.
//
// Invariants:
//
//  1. [Between] is a function of two lists of files and nothing else. Its time grows with
//     them, never with their product.
//  2. Every file of both lists is counted once: added, removed, changed or unchanged.
//     Unchanged is a file whose signed content and options are the same, whatever is said
//     of it.
//  3. A difference between lists of facts that do not stand whole is never made up: what
//     may lie behind the end of a list is not said to be missing, and a digest of the
//     whole that differs is said to differ.
//  4. Much hides nothing: every difference is judged, what is left out of an answer is the
//     less grave, and that there is more is said.
//  5. What is compared is what plans say, which is the requester's word until somebody
//     made them anew: [Difference.Recomputed] names who did.
//
// A caller may not conclude that a release without alerts is harmless: facts are few, and
// bytes that nobody looked at may do anything. Nor that the base is the right one: it is
// the likeliest, says why, and others can be chosen.
package release

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Kind is what became of a file or of a fact.
type Kind string

// The kinds.
const (
	Added     Kind = "added"
	Removed   Kind = "removed"
	Changed   Kind = "changed"
	Unchanged Kind = "unchanged"
)

// Severity is how much an alert asks for a look.
type Severity string

// The severities.
const (
	High   Severity = "high"
	Medium Severity = "medium"
	Low    Severity = "low"
)

func (s Severity) rank() int {
	switch s {
	case High:
		return 0
	case Medium:
		return 1
	}
	return 2
}

// Alert is something that whoever endorses should have seen.
type Alert struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"` // for programs: "version-down"
	File     string   `json:"file,omitzero"`
	Index    int      `json:"index"` // of the file in the request; -1: of none in it
	Text     string   `json:"text"`
}

// Change is one fact that is in one of two files or differs between them.
type Change struct {
	Group string `json:"group"`
	Kind  Kind   `json:"kind"`
	Name  string `json:"name"`
	Old   string `json:"old,omitzero"`
	New   string `json:"new,omitzero"`
}

// Side is a file in one of the two requests.
type Side struct {
	Index   int    `json:"index"`
	Name    string `json:"name"`
	Format  string `json:"format"`
	Digest  string `json:"digest"`
	Content string `json:"content"`
	Size    int64  `json:"size"`
	Version string `json:"version,omitzero"`
}

// File is what became of one file.
type File struct {
	Kind    Kind     `json:"kind"`
	Old     *Side    `json:"old,omitzero"`
	New     *Side    `json:"new,omitzero"`
	Percent int      `json:"percent,omitzero"` // by which the size grew
	Changes []Change `json:"changes,omitzero"`
	Alerts  []Alert  `json:"alerts,omitzero"` // of the difference, and of the file as it is
}

// Name is what the file is called, or was.
func (f *File) Name() string {
	if f.New != nil {
		return f.New.Name
	}
	return f.Old.Name
}

// Base is a request that was executed and is compared with.
type Base struct {
	ID        string    `json:"id"`
	Requester string    `json:"requester"`
	Executed  time.Time `json:"executed"`
	Receipt   uint64    `json:"receipt"`
	Count     int       `json:"count"`
	Shares    int       `json:"shares"` // files of the request that it has a file for, as far as names tell
}

// Counts are files by what became of them.
type Counts struct {
	Added     int `json:"added"`
	Removed   int `json:"removed"`
	Changed   int `json:"changed"`
	Unchanged int `json:"unchanged"`
}

// Difference is a request beside the last release.
type Difference struct {
	Request    string   `json:"request"`
	Policy     string   `json:"policy"`
	Against    *Base    `json:"against,omitzero"` // none: nothing was signed under the policy before
	Why        string   `json:"why"`              // that one
	Others     []Base   `json:"others,omitzero"`  // that could be chosen
	Recomputed []string `json:"recomputed,omitzero"`
	Counts     Counts   `json:"counts"`
	Summary    string   `json:"summary"`
	Alerts     []Alert  `json:"alerts"` // the gravest first, MaxAlerts at most
	AlertCount int      `json:"alertCount"`
	Files      []File   `json:"files"` // that changed, came or went, the gravest first: a page of them
	FileCount  int      `json:"fileCount"`
	From       int      `json:"from"`
	Next       int      `json:"next,omitzero"` // from where the next page begins
}

// Limits of an answer.
const (
	MaxAlerts = 200
	MaxPage   = 1000
	maxBases  = 20     // requests that are looked at
	maxNames  = 50_000 // their files, by name
)

// Options say which release and which page.
type Options struct {
	Against     string // ID of an executed request under the same policy; empty: the likeliest
	From, Limit int    // of Files; Limit 0: 100
}

// Names lists the files of a request as they are searched; store.Store does.
type Names interface {
	Files(ctx context.Context, id statement.ID) ([]store.File, error)
}

// Requests is what is asked of a server; *server.Server answers.
type Requests interface {
	Get(ctx context.Context, id statement.ID) (*store.Request, error)
	List(ctx context.Context, f store.Filter) ([]*store.Request, error)
	Items(ctx context.Context, id statement.ID) ([][]byte, error)
	View(ctx context.Context, r *store.Request, explain bool) (*server.View, error)
}

// Of compares request id with a release.
func Of(ctx context.Context, s Requests, names Names, id statement.ID, o Options) (*Difference, error) {
	r, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Command != statement.Sign {
		return nil, refuse("malformed", "only requests to sign files are compared with a release", "request %s signs no files", id)
	}
	v, err := s.View(ctx, r, false)
	if err != nil {
		return nil, err
	}
	now, err := files(ctx, s, id)
	if err != nil {
		return nil, err
	}
	bases, err := candidates(ctx, s, names, r, now)
	if err != nil {
		return nil, err
	}
	var base *Base
	why := ""
	switch {
	case o.Against != "":
		if base, err = chosen(ctx, s, r, bases, o.Against); err != nil {
			return nil, err
		}
		why = "you chose it"
	case len(bases) > 0:
		base = &bases[0]
		why = fmt.Sprintf("of %s before it under policy %s, it has the most files that follow one another: %d of %d", plural(len(bases), "release"), r.Policy, base.Shares, len(now))
		if base.Shares == 0 {
			why = "the newest under policy " + r.Policy + ": none has a file that this one follows by name"
		}
	default:
		why = "nothing was signed under policy " + r.Policy + " before"
	}
	var old []server.FileView
	if base != nil {
		bid, err := statement.ParseID(base.ID)
		if err != nil {
			return nil, err
		}
		if old, err = files(ctx, s, bid); err != nil {
			return nil, err
		}
	}
	d := Between(old, now, base != nil)
	d.Request, d.Policy, d.Against, d.Why, d.Recomputed = v.ID, r.Policy, base, why, v.Recomputed
	for i := range bases {
		if base == nil || bases[i].ID != base.ID {
			d.Others = append(d.Others, bases[i])
		}
	}
	d.Page(o.From, o.Limit)
	return d, nil
}

// Page leaves some of the files.
func (d *Difference) Page(from, limit int) {
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, MaxPage)
	from = min(max(from, 0), len(d.Files))
	to := min(from+limit, len(d.Files))
	d.From, d.Next = from, 0
	if to < len(d.Files) {
		d.Next = to
	}
	d.Files = d.Files[from:to]
}

func refuse(code, hint, f string, args ...any) error {
	return &server.Problem{Status: 422, Code: code, Hint: hint, Detail: fmt.Sprintf(f, args...)}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func files(ctx context.Context, s Requests, id statement.ID) ([]server.FileView, error) {
	items, err := s.Items(ctx, id)
	if err != nil {
		return nil, err
	}
	return server.Files(items, 0, len(items))
}

// candidates are releases before r under its policy, the one that shares the most files
// first, the newer first among equals.
func candidates(ctx context.Context, s Requests, names Names, r *store.Request, now []server.FileView) ([]Base, error) {
	list, err := s.List(ctx, store.Filter{States: []store.State{store.Executed}, Policy: r.Policy, Command: statement.Sign, Limit: maxBases + 1})
	if err != nil {
		return nil, err
	}
	folded := map[string]int{}
	for i := range now {
		folded[now[i].Format+"\x00"+Fold(base(now[i].Name))]++
	}
	var out []Base
	left := maxNames
	for _, x := range list {
		if x.ID == r.ID || r.Receipt != 0 && x.Receipt >= r.Receipt || len(out) == maxBases {
			continue
		}
		b := baseOf(x)
		if x.Count <= left {
			left -= x.Count
			fs, err := names.Files(ctx, x.ID)
			if err != nil {
				return nil, err
			}
			rest := make(map[string]int, len(folded))
			for _, f := range fs {
				k := f.Format + "\x00" + Fold(base(f.Name))
				if rest[k] < folded[k] {
					rest[k]++
					b.Shares++
				}
			}
		}
		out = append(out, b)
	}
	slices.SortStableFunc(out, func(a, b Base) int {
		if a.Shares != b.Shares {
			return b.Shares - a.Shares
		}
		switch {
		case a.Receipt > b.Receipt:
			return -1
		case a.Receipt < b.Receipt:
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}

func baseOf(r *store.Request) Base {
	return Base{ID: r.ID.String(), Requester: r.Requester, Executed: r.Updated, Receipt: r.Receipt, Count: r.Count}
}

// chosen is the release that a reader asks for.
func chosen(ctx context.Context, s Requests, r *store.Request, bases []Base, against string) (*Base, error) {
	for i := range bases {
		if bases[i].ID == against {
			return &bases[i], nil
		}
	}
	if len(against) != 2*len(statement.ID{}) {
		return nil, refuse("malformed", "give the whole ID, as others lists it", "against: %.80q is no request's ID", against)
	}
	if _, err := hex.DecodeString(against); err != nil {
		return nil, refuse("malformed", "give the whole ID, as others lists it", "against: %.80q is no request's ID", against)
	}
	id, err := statement.ParseID(against)
	if err != nil {
		return nil, refuse("malformed", "give the whole ID, as others lists it", "against: %v", err)
	}
	x, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if x.ID == r.ID || x.State != store.Executed || x.Command != statement.Sign || x.Policy != r.Policy {
		return nil, refuse("malformed", "choose one of others", "request %s is no release under policy %s", x.ID, r.Policy)
	}
	b := baseOf(x)
	return &b, nil
}
