package agent

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
)

// A job may be cancelled as soon as it counts as running: an instance that names it at
// once brings no agent down.
func TestCancelledAtOnce(t *testing.T) {
	a := &Agent{cfg: &Config{Jobs: 1}, running: map[string]*run{}, drained: make(chan struct{}), queue: []*Job{{Lease: Lease{Job: "x"}}}}
	j, ctx := a.next(t.Context())
	if j == nil {
		t.Fatal("there is room, and nothing runs")
	}
	why := exec.Failure("cancelled by the instance")
	a.cancelJob("x", why)
	a.cancelJob("another", why)
	if context.Cause(ctx) != error(why) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
}

// An agent whose certificate has ended says what is to be done, and does not knock for
// ever at a door that stays closed.
func TestCertificateHasEnded(t *testing.T) {
	now := time.Now()
	a := &Agent{id: &Identity{path: "identity.pem", leaf: &x509.Certificate{NotAfter: now.Add(-time.Second)}}, now: func() time.Time { return now }}
	if err := a.enrol(t.Context()); err == nil || !strings.Contains(err.Error(), "remove identity.pem") {
		t.Errorf("%v", err)
	}
	a.id.leaf.NotAfter = now.Add(time.Second)
	if err := a.enrol(t.Context()); err != nil {
		t.Errorf("one that is good: %v", err)
	}
}
