package api_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/statement"
)

// Requests of one second are on the pages, each once; a time alone is taken too.
func TestPages(t *testing.T) {
	s := newSite(t)
	alice, ctx := s.as(t, "alice"), t.Context()
	const n = 7
	at := statement.Seconds(s.Now())
	for i := range n {
		items := s.Files(fmt.Sprint("app", i), 1)
		env := s.Sign("alice", "release", items, func(r *statement.Request) { r.Created = at })
		_, err := alice.Submit(ctx, env, items)
		must(t, err)
	}
	seen := map[string]bool{}
	f := client.Filter{Policy: "release", Limit: 3}
	for range n {
		page, err := alice.Requests(ctx, f)
		must(t, err)
		for _, v := range page.Requests {
			seen[v.ID] = true
		}
		if f.Before = page.Next; page.Next == "" {
			break
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d requests stand on the pages", len(seen), n)
	}
	page, err := alice.Requests(ctx, client.Filter{Policy: "release", Before: at.Format(time.RFC3339)})
	must(t, err)
	if len(page.Requests) != 0 {
		t.Errorf("%d requests before the first", len(page.Requests))
	}
	for _, bad := range []string{"x", "_", at.Format(time.RFC3339) + "_12", "1999_" + page.Next} {
		_, err := alice.Requests(ctx, client.Filter{Before: bad})
		wants(t, bad, err, "malformed")
	}
}
