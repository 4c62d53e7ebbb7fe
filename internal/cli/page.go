package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

const (
	pageSize  = 200       // requests that are fetched at once
	maxListed = 1_000_000 // bounds what a server that lies can make this program take
)

// paging are the flags of lists of requests.
type paging struct {
	limit int
	after string
}

func (k *paging) flags(c *cobra.Command) {
	c.Flags().IntVar(&k.limit, "limit", 0, "how many at the most (default: all)")
	c.Flags().StringVar(&k.after, "after", "", `page on: "next" of the list before`)
}

// check refuses what cannot be meant before the server is asked.
func (k *paging) check() error {
	if k.limit < 0 {
		return fail(exitUsage, "--limit 20, or leave it out for all", "--limit %d is no number of requests", k.limit)
	}
	if _, _, err := parseMark(k.after); err != nil && k.after != "" {
		return fail(exitUsage, `--after takes the "next" that a list ends with`, "--after %q: %v", k.after, err)
	}
	return nil
}

// pages fetches requests, newest first, page by page: limit at the most, or all
// where it is 0. Next of what it returns says where the rest begins.
func (l *link) pages(ctx context.Context, f client.Filter, limit int) (*wire.Page, error) {
	out := &wire.Page{Requests: []server.View{}}
	for {
		f.Limit = pageSize
		if limit > 0 {
			f.Limit = min(pageSize, limit-len(out.Requests))
		}
		page, err := l.Requests(ctx, f)
		if err != nil {
			return nil, err
		}
		out.Requests = append(out.Requests, page.Requests...)
		out.Next = page.Next
		switch {
		case page.Next == "", limit > 0 && len(out.Requests) >= limit:
			return out, nil
		case len(page.Requests) == 0, page.Next == f.Before, len(out.Requests) > maxListed:
			return nil, fail(exitUnverified, "tell the server's administrator", "the server's list does not end")
		}
		f.Before = page.Next
	}
}

// mark is where the list after a request begins, as the server writes it: when it
// was made and, many being made at one time, its ID.
func mark(v *server.View) string {
	return v.Created.UTC().Format(time.RFC3339Nano) + "_" + v.ID
}

func parseMark(s string) (time.Time, string, error) {
	at, id, _ := strings.Cut(s, "_")
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return t, "", errors.New("not the end of a list")
	}
	if id != "" {
		if _, err := statement.ParseID(id); err != nil {
			return t, "", errors.New("not the end of a list")
		}
	}
	return t, id, nil
}

// cut takes a page out of a whole list. What the page before ended with need not
// be in the list any more.
func (k *paging) cut(list []server.View) (*wire.Page, error) {
	order := func(a, b server.View) int { // as the server lists
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	}
	list = slices.SortedFunc(slices.Values(list), order)
	if k.after != "" {
		at, id, err := parseMark(k.after)
		if err != nil {
			return nil, err
		}
		last := server.View{Created: at, ID: id}
		list = slices.DeleteFunc(list, func(v server.View) bool {
			return order(v, last) <= 0 || id == "" && v.Created.Equal(at)
		})
	}
	out := &wire.Page{Requests: append([]server.View{}, list...)}
	if k.limit > 0 && len(list) > k.limit {
		out.Requests = list[:k.limit]
		out.Next = mark(&out.Requests[k.limit-1])
	}
	return out, nil
}

// printPage prints a list of requests; none is what people read where it is empty.
func (a *App) printPage(p *wire.Page, none string) error {
	return a.print(p, func(w io.Writer) {
		if len(p.Requests) == 0 {
			fmt.Fprintln(w, none)
			return
		}
		t := &table{head: []string{"ID", "STATE", "WHAT", "REQUESTER", "MADE", "WAITS FOR"}}
		for _, v := range p.Requests {
			t.row(short(v.ID), v.State, what(v.Command), v.Requester, when(v.Created), strings.Join(v.Awaits, ", "))
		}
		t.write(w)
		if p.Next != "" {
			a.note("there is more: --after %s", p.Next)
		}
	})
}
