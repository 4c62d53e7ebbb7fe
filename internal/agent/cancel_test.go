package agent

import (
	"context"
	"testing"

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
