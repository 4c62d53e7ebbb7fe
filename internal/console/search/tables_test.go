package search

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/limit"
)

// Invariant 3: whoever asks for table after table, and reads them slowly, takes up his
// own places and not those of others.
func TestTablesAreFew(t *testing.T) {
	a := &area{tables: limit.NewWaits(tablesAtOnce, tablesOf)}
	as := func(name string) *web.Visit {
		return &web.Visit{Writer: httptest.NewRecorder(), Request: httptest.NewRequest("GET", "/console/search.csv", nil), Who: &web.Person{Name: name}}
	}
	var last func()
	for range tablesOf {
		done, err := a.begin(as("mallory"))
		if err != nil {
			t.Fatal(err)
		}
		last = done
	}
	var p *web.Problem
	for _, serve := range []func(*web.Visit) error{a.csv, a.json} {
		if err := serve(as("mallory")); !errors.As(err, &p) || p.Status != 429 {
			t.Errorf("one more: %v", err)
		}
	}
	if done, err := a.begin(as("alice")); err != nil {
		t.Error("others have no place")
	} else {
		done()
	}
	last()
	if _, err := a.begin(as("mallory")); err != nil {
		t.Error("a place that was given back is not there")
	}
}
