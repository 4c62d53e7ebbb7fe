package bench

import (
	"testing"
)

// A small fleet loses nothing either, and figures come out.
func TestAgents(t *testing.T) {
	r, err := Agents(t.Context(), AgentsOptions{Agents: 20, Jobs: 200, Paced: 20, Temp: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Executed != 200 || r.Processed != 200 || r.Duplicates != 0 || r.Lost != 0 || r.KilledReplicas != 1 || r.KilledAgents != 2 {
		t.Errorf("%+v", r)
	}
	if r.Seconds <= 0 || r.PacedMedian <= 0 || r.PacedP99 < r.PacedMedian || r.LoadMedian <= 0 {
		t.Errorf("%+v", r)
	}
}
