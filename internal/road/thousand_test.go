package road

import (
	"context"
	"encoding/json/v2"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/bench"
)

// Agents and jobs of TestThousandAgents; with -short a tenth of each. "greatseal bench
// agents" is the same with figures.
const (
	thousand = 1000
	jobs     = 10_000
)

// Each job is executed exactly once while one of two replicas and a tenth of the agents
// are killed. The agents die over jobs that they have begun and not run: what dies
// between running and reporting cannot be told from outside from what has not run, so
// that a job that may not be repeated ends as AGENT_LOST there (package ecc has the
// tests of that).
func TestThousandAgents(t *testing.T) {
	o := bench.AgentsOptions{Agents: thousand, Jobs: jobs, Temp: t.TempDir(), Progress: bench.Progress{W: t.Output()}}
	if testing.Short() {
		o.Agents, o.Jobs = thousand/10, jobs/10
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	r, err := bench.Agents(ctx, o)
	ok(t, err)
	b, err := json.Marshal(r, json.Deterministic(true))
	ok(t, err)
	t.Logf("%s", b)
	if r.Executed != o.Jobs || r.Processed != o.Jobs || r.Duplicates != 0 || r.Lost != 0 {
		t.Errorf("of %d jobs %d were executed, %d again, %d have a result, %d are lost", o.Jobs, r.Executed, r.Duplicates, r.Processed, r.Lost)
	}
	if r.KilledReplicas != 1 || r.KilledAgents != o.Agents/10 || r.KilledOver == 0 || r.Moved == 0 {
		t.Errorf("the killing shows nothing: %+v", r)
	}
}
