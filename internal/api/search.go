package api

import (
	"cmp"
	"context"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Limits of one search.
const (
	searchFiles    = 1000
	searchRequests = 1000
)

type searchIn struct {
	Digest string    `query:"digest" maxLength:"128" pattern:"^([0-9a-f]{2})*$" doc:"of a file's content, hexadecimal, as plans have it"`
	Name   string    `query:"name" maxLength:"1024" doc:"of a file; * matches anything"`
	Person string    `query:"person" maxLength:"64" doc:"requester or endorser"`
	Key    string    `query:"key" maxLength:"64"`
	Policy string    `query:"policy" maxLength:"64"`
	Since  time.Time `query:"since"`
	Until  time.Time `query:"until"`
}

func (a *API) searchRoutes() {
	type out struct{ Body wire.FoundPage }
	route(a, op{method: http.MethodGet, path: "/search", id: "search", tag: "results", access: only(scopeRead), sum: "Find signed files",
		doc: "Files of executed requests, newest first, at most 1000. What matches is what is in the plan and in the request; names are the requester's word."},
		func(ctx context.Context, in *searchIn) (*out, error) {
			p, err := a.search(ctx, in)
			if err != nil {
				return nil, err
			}
			return &out{*p}, nil
		})
}

func (a *API) search(ctx context.Context, in *searchIn) (*wire.FoundPage, error) {
	digest, err := hex.DecodeString(in.Digest)
	if err != nil {
		return nil, newProblem(422, "malformed", "", "digest: want hexadecimal digits")
	}
	if *in == (searchIn{}) {
		return nil, newProblem(422, "malformed", "", "say what to search for")
	}
	f := store.Filter{States: []store.State{store.Executed}, Command: statement.Sign, Policy: in.Policy, Key: in.Key, Name: in.Name, Content: digest,
		Since: in.Since, Until: in.Until, Limit: searchRequests}
	filters := []store.Filter{f}
	if in.Person != "" {
		filters = []store.Filter{f, f}
		filters[0].Requester = in.Person
		filters[1].Endorser = in.Person
	}
	out := &wire.FoundPage{Files: []wire.Found{}}
	seen := map[statement.ID]bool{}
	var found []*store.Request
	for _, f := range filters {
		list, err := a.cfg.Server.List(ctx, f)
		if err != nil {
			return nil, err
		}
		out.Truncated = out.Truncated || len(list) == searchRequests
		for _, r := range list {
			if !seen[r.ID] {
				seen[r.ID] = true
				found = append(found, r)
			}
		}
	}
	slices.SortFunc(found, func(x, y *store.Request) int {
		return cmp.Or(y.Created.Compare(x.Created), slices.Compare(x.ID[:], y.ID[:]))
	})
	for _, r := range found {
		files, err := a.cfg.Store.Files(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		var items [][]byte
		for _, x := range files {
			if len(digest) > 0 && !slices.Equal(x.Content, digest) || in.Name != "" && !matches(in.Name, x.Name) {
				continue
			}
			if len(out.Files) == searchFiles {
				out.Truncated = true
				return out, nil
			}
			if items == nil {
				if items, err = a.cfg.Server.Items(ctx, r.ID); err != nil {
					return nil, err
				}
			}
			v, err := server.Files(items, x.Index, x.Index+1)
			if err != nil {
				return nil, err
			}
			if len(v) == 1 {
				out.Files = append(out.Files, wire.Found{Request: r.ID.String(), Policy: r.Policy, Key: r.Key, Requester: r.Requester, Executed: r.Updated.UTC(), Receipt: r.Receipt, File: v[0]})
			}
		}
	}
	return out, nil
}

// matches reports whether a pattern with '*' matches all of s, ASCII letters of
// either case being the same: the databases differ in this, and one of them folds.
func matches(pattern, s string) bool {
	pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}
