package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// searchFiles is how many files one page of a search has at the most.
const searchFiles = 1000

type searchIn struct {
	Digest    string    `query:"digest" maxLength:"128" pattern:"^([0-9a-f]{8,128})?$" doc:"a digest of the file in its plan, hexadecimal, or 8 digits or more of its beginning"`
	Name      string    `query:"name" maxLength:"1024" doc:"of a file; * matches anything, a letter its capital"`
	Product   string    `query:"product" maxLength:"256" doc:"as the file states it"`
	Publisher string    `query:"publisher" maxLength:"256" doc:"as the file states it"`
	Person    string    `query:"person" maxLength:"64" doc:"requester or endorser"`
	Requester string    `query:"requester" maxLength:"64"`
	Endorser  string    `query:"endorser" maxLength:"64"`
	Key       string    `query:"key" maxLength:"64"`
	Policy    string    `query:"policy" maxLength:"64"`
	Format    string    `query:"format" maxLength:"64"`
	Since     time.Time `query:"since" doc:"signed since"`
	Until     time.Time `query:"until" doc:"signed before"`
	After     string    `query:"after" maxLength:"64" doc:"\"next\" of the page before"`
	Limit     int       `query:"limit" minimum:"0" maximum:"1000" doc:"files of a page; 1000"`
}

type statsIn struct {
	Days int `query:"days" minimum:"0" maximum:"4000" doc:"that end today; 30"`
}

const statsDays = 30

func (a *API) searchRoutes() {
	type out struct{ Body wire.FoundPage }
	route(a, op{method: http.MethodGet, path: "/search", id: "search", tag: "results", access: only(scopeRead), sum: "Find signed files",
		doc: "Files of executed requests, the latest signed first, page by page. What matches is what is in the plan and in the request; names are the requester's word. A page may be short, or empty, and have a next one: enough files were looked at."},
		func(ctx context.Context, in *searchIn) (*out, error) {
			p, err := a.search(ctx, in)
			if err != nil {
				return nil, err
			}
			return &out{*p}, nil
		})
	counts := analysis.New(a.cfg.Store)
	type stats struct{ Body analysis.Summary }
	route(a, op{method: http.MethodGet, path: "/stats", id: "stats", tag: "results", access: only(scopeRead), sum: "What the log tells, counted",
		doc: "Signatures by policy, key, format and day, endorsements, refusals, and how long quora take. Counted from the log's entries; \"behind\" of them are not counted yet."},
		func(ctx context.Context, in *statsIn) (*stats, error) {
			behind, err := counts.Refresh(ctx)
			if err != nil {
				return nil, err
			}
			if in.Days == 0 {
				in.Days = statsDays
			}
			return &stats{*counts.Summary(analysis.Days(a.cfg.Clock(), in.Days), behind)}, nil
		})
}

func (a *API) search(ctx context.Context, in *searchIn) (*wire.FoundPage, error) {
	if *in == (searchIn{Limit: in.Limit}) {
		return nil, newProblem(422, "malformed", "", "say what to search for")
	}
	after, err := store.ParsePlace(in.After)
	if err != nil {
		return nil, newProblem(422, "malformed", "begin at the first page", "after: want \"next\" of the page before")
	}
	limit := in.Limit
	if limit == 0 {
		limit = searchFiles
	}
	found, err := a.cfg.Store.Search(ctx, store.FileFilter{Digest: in.Digest, Name: in.Name, Product: in.Product, Publisher: in.Publisher, Person: in.Person, Requester: in.Requester,
		Endorser: in.Endorser, Key: in.Key, Policy: in.Policy, Format: in.Format, Since: in.Since, Until: in.Until, After: after, Limit: limit})
	if errors.Is(err, store.ErrManyDigests) {
		return nil, newProblem(422, "malformed", "give more digits", "digest: many begin like this")
	}
	if err != nil {
		return nil, err
	}
	out := &wire.FoundPage{Files: []wire.Found{}, Truncated: !found.Next.IsZero(), Next: found.Next.String()}
	var items [][]byte // of the request that the file before is of: its files stand together
	var of statement.ID
	for _, x := range found.Files {
		id := x.File.Request
		if id != of {
			if items, err = a.cfg.Server.Items(ctx, id); err != nil {
				return nil, err
			}
			of = id
		}
		v, err := server.Files(items, x.Index, x.Index+1)
		if err != nil {
			return nil, err
		}
		if len(v) == 1 {
			out.Files = append(out.Files, wire.Found{Request: id.String(), Policy: x.Policy, Key: x.Key, Requester: x.Requester, Executed: x.Signed, Receipt: x.Receipt, File: v[0]})
		}
	}
	return out, nil
}
