package operations

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/limit"
)

// Invariant 3: whoever loads the page again and again has one scan run, not as many.
func TestScansAreFew(t *testing.T) {
	a := &area{scans: limit.NewWaits(scansAtOnce, scansOf)}
	if !a.scans.Enter("mallory") {
		t.Fatal("the first has no place")
	}
	v := &web.Visit{Writer: httptest.NewRecorder(), Request: httptest.NewRequest("GET", "/console/records/scan?now=yes", nil), Who: &web.Person{Name: "mallory"}}
	var p *web.Problem
	if err := a.scan(v); !errors.As(err, &p) || p.Status != 503 {
		t.Errorf("a second scan of one person: %v", err)
	}
	if !a.scans.Enter("olga") {
		t.Error("others have no place")
	}
}
