package cli

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/server"
)

// views are n requests, of which three each were made at one time, newest first.
func views(n int) []server.View {
	var out []server.View
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for i := range n {
		out = append(out, server.View{ID: fmt.Sprintf("%064x", i), Created: at.Add(-time.Duration(i/3) * time.Second)})
	}
	return out
}

func idsOf(list []server.View) []string {
	var out []string
	for _, v := range list {
		out = append(out, v.ID)
	}
	return out
}

// TestPagesAreTheList: pages of any size, one after the other, are the whole list.
func TestPagesAreTheList(t *testing.T) {
	list := views(20)
	for limit := range 22 {
		k, got, n := paging{limit: limit}, []server.View{}, 0
		for {
			p, err := k.cut(slices.Clone(list))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p.Requests...)
			if n++; p.Next == "" || n > len(list) {
				break
			}
			k.after = p.Next
		}
		if !slices.Equal(idsOf(got), idsOf(list)) {
			t.Errorf("pages of %d: %v", limit, idsOf(got))
		}
	}
}

// TestPageGoesOn: a page begins where the one before ended, also when the request
// that it ended with is no longer there.
func TestPageGoesOn(t *testing.T) {
	list := views(10)
	k := paging{limit: 4}
	p, err := k.cut(slices.Clone(list))
	if err != nil {
		t.Fatal(err)
	}
	k = paging{after: p.Next}
	if p, err = k.cut(slices.Delete(slices.Clone(list), 3, 4)); err != nil || !slices.Equal(idsOf(p.Requests), idsOf(list[4:])) {
		t.Errorf("%v, %v", idsOf(p.Requests), err)
	}
	k = paging{after: list[4].Created.Format(time.RFC3339)} // a time alone: what was made before it
	if p, err = k.cut(slices.Clone(list)); err != nil || !slices.Equal(idsOf(p.Requests), idsOf(list[6:])) {
		t.Errorf("%v, %v", idsOf(p.Requests), err)
	}
}

func TestPagingRefusesNonsense(t *testing.T) {
	for _, k := range []paging{{limit: -1}, {after: "x"}, {after: "2026-01-31T12:00:00Z_x"}, {after: "_" + views(1)[0].ID}} {
		err := k.check()
		if f := (*fault)(nil); !errors.As(err, &f) || f.code != exitUsage || f.hint == "" {
			t.Errorf("%+v: %v", k, err)
		}
	}
	if err := (&paging{limit: 3, after: mark(&views(1)[0])}).check(); err != nil {
		t.Error(err)
	}
}
