package ecc_test

import (
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/ecc/ecctest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// A key whose certificate has ended is not taken up again by asking: an agent that was
// away for longer than a certificate lasts enrols with another key.
func TestEnrolAfterTheCertificateEnded(t *testing.T) {
	s := newSite(t, nil)
	a := ecctest.Agent(t, s.Service, "mid-1")
	ask := func(i *ecctest.Identity) *ecc.Enrolled {
		t.Helper()
		e, err := s.Enrol(t.Context(), ecc.Enrolment{Name: "mid-1", Request: i.Request(t)})
		must(t, err)
		return e
	}
	if e := ask(a); e.State != store.EnrolmentValidated || len(e.Certificates) == 0 {
		t.Fatalf("%+v", e)
	}
	s.clock.add(31 * 24 * time.Hour)
	if e := ask(a); e.State != store.EnrolmentRefused || len(e.Certificates) != 0 {
		t.Errorf("%+v", e)
	}
	fresh := ecctest.NewIdentity(t, "mid-1")
	if e := ask(fresh); e.State != store.EnrolmentWaiting {
		t.Errorf("%+v", e)
	}
	if _, err := s.Validate(t.Context(), fresh.Fingerprint(t), "alice"); err != nil {
		t.Error(err)
	}
	if e := ask(fresh); e.State != store.EnrolmentValidated {
		t.Errorf("%+v", e)
	}
}
