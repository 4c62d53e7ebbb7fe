package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/bench"
)

func (a *App) benchAgents() *cobra.Command {
	o := bench.AgentsOptions{}
	c := &cobra.Command{
		Use:   "agents",
		Short: "a fleet of agents, of which some are killed",
		Long: `Runs an instance with two replicas over a temporary PostgreSQL, and a fleet of
agents in this process: each with its own key, certificate and connections over mutual
TLS, in the real protocol, verifying every order. What they run takes five
milliseconds and does nothing.

First jobs are submitted one after the other, to measure what the queue adds to each.
Then all jobs are submitted at once; when a third is done one replica is killed, and
when half is done a tenth of the agents, each over a job that it has begun and not yet
run. Each job must be executed exactly once: anything else makes the command fail.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = a.benchProgress()
			r, err := bench.Agents(cmd.Context(), o)
			if err != nil {
				return missing(err)
			}
			if err := a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "%d agents, %d jobs in %.1f s (%.0f a second); %d replica and %d agents were killed, %d of them over a job\nexecuted   %d, %d again, %d lost; %d were handed out more than once\nlatency    %.1f ms, 99%% within %.1f ms (%d jobs, %.0f a second)\nunder load %.0f ms, 99%% within %.0f ms\n",
					r.Agents, r.Jobs, r.Seconds, r.Rate, r.KilledReplicas, r.KilledAgents, r.KilledOver, r.Executed, r.Duplicates, r.Lost, r.Moved, r.PacedMedian, r.PacedP99, r.Paced, r.PacedRate, r.LoadMedian, r.LoadP99)
			}); err != nil {
				return err
			}
			if r.Duplicates != 0 || r.Lost != 0 {
				return errors.New("not every job was executed exactly once")
			}
			return nil
		},
	}
	c.Flags().IntVar(&o.Agents, "agents", 1000, "agents")
	c.Flags().IntVar(&o.Jobs, "jobs", 10_000, "jobs that are submitted at once")
	c.Flags().IntVar(&o.Paced, "paced", 0, "jobs that are submitted one after the other; a tenth of --jobs when 0")
	return c
}
