package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/api/agents"
)

// party is the client of an instance. On a trusted one people are of the charter, and
// log in; on a protected one a certificate or a Unix socket says who they are.
func (a *App) party(run linkedRun) func(*cobra.Command, []string) error {
	return linked(func(ctx context.Context) (*link, error) {
		cfg, err := a.client()
		if err != nil {
			return nil, err
		}
		if cfg.Name == "" || cfg.Root.IsZero() {
			return a.connect()
		}
		return a.enter(ctx)
	}, run)
}

func (a *App) agentsCommand() *cobra.Command {
	c := &cobra.Command{Use: "agents", GroupID: "run", Short: "administer the agents of a protected instance"}
	c.AddCommand(a.agentsList(), a.agentsShow(), a.agentsWaiting(), a.agentsValidate(), a.agentsRefuse(), a.agentsInvalidate(), a.agentsRekey(), a.agentsCluster())
	return c
}

func (a *App) printAgents(list []agents.AgentView) error {
	return a.print(map[string]any{"agents": list}, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "none")
			return
		}
		t := &table{head: []string{"AGENT", "STATE", "UP", "RUNS", "CLUSTERS", "HEARTBEAT", "VERSION"}}
		for _, x := range list {
			up := "no"
			if x.Up {
				up = "yes"
			}
			t.row(x.Name, x.State, up, x.Running, strings.Join(x.Clusters, ","), when(x.Heartbeat), x.Version)
		}
		t.write(w)
	})
}

func (a *App) printAgent(x *agents.AgentView) error {
	return a.print(x, func(w io.Writer) {
		fmt.Fprintf(w, "%s  %s\n", printable(x.Name), printable(x.State))
		for _, f := range [][2]string{{"fingerprint", x.Fingerprint}, {"clusters", strings.Join(x.Clusters, ", ")}, {"topics", strings.Join(x.Topics, ", ")},
			{"system", strings.TrimSpace(x.OS + " " + x.Arch)}, {"version", x.Version}, {"circle", x.Circle}, {"validated by", x.Validator}, {"reason", x.Reason}} {
			if f[1] != "" {
				field(w, f[0], f[1])
			}
		}
		field(w, "heartbeat", when(x.Heartbeat))
		field(w, "trusts until", when(x.TrustUntil))
		field(w, "certificate", "until "+when(x.NotAfter))
		field(w, "jobs", fmt.Sprintf("%d run, %d wait to be brought", x.Running, x.Spooled))
	})
}

func (a *App) agentsList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "list agents", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			list, err := l.Agents(cmd.Context())
			if err != nil {
				return err
			}
			return a.printAgents(list)
		})}
}

func (a *App) agentsShow() *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "show one agent", Args: exactly("NAME"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			x, err := l.Agent(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printAgent(x)
		})}
}

func (a *App) agentsWaiting() *cobra.Command {
	return &cobra.Command{Use: "waiting", Short: "list who waits to become an agent",
		Long: `All of it is the word of whoever sent it. Compare the fingerprint with what
"greatseal agent fingerprint" prints on the agent's own host, then validate it.`,
		Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			list, err := l.Enrolments(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(map[string]any{"enrolments": list}, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"FINGERPRINT", "NAME", "FROM", "SYSTEM", "SINCE"}}
				for _, x := range list {
					t.row(x.Fingerprint, x.Name, x.Address, x.OS+"/"+x.Arch, when(x.Created))
				}
				t.write(w)
			})
		})}
}

func (a *App) agentsValidate() *cobra.Command {
	return &cobra.Command{Use: "validate FINGERPRINT", Short: "make the one with this key an agent",
		Long: `Name the fingerprint as the agent's own host shows it, whole. An agent of that name
gets this key in the place of its own.`,
		Args: exactly("FINGERPRINT"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			x, err := l.ValidateAgent(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printAgent(x)
		})}
}

func (a *App) agentsRefuse() *cobra.Command {
	return &cobra.Command{Use: "refuse FINGERPRINT", Short: "refuse an enrolment", Args: exactly("FINGERPRINT"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			if err := l.RefuseAgent(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.print(map[string]string{"refused": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "refused") })
		})}
}

func (a *App) agentsInvalidate() *cobra.Command {
	var reason string
	c := &cobra.Command{Use: "invalidate NAME", Short: "take everything from an agent, at once",
		Long: `The agent's key is spent: it is nobody at its next call. What it runs is not stopped;
its result is not taken in any more.`,
		Args: exactly("NAME"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			x, err := l.InvalidateAgent(cmd.Context(), args[0], reason)
			if err != nil {
				return err
			}
			return a.printAgent(x)
		})}
	c.Flags().StringVar(&reason, "reason", "", "why")
	return c
}

func (a *App) agentsRekey() *cobra.Command {
	return &cobra.Command{Use: "rekey NAME", Short: "ask an agent for a new key", Args: exactly("NAME"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			x, err := l.RekeyAgent(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printAgent(x)
		})}
}

func (a *App) agentsCluster() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "group agents"}
	show := func(list []agents.AgentCluster) error {
		return a.print(map[string]any{"clusters": list}, func(w io.Writer) {
			if len(list) == 0 {
				fmt.Fprintln(w, "none")
				return
			}
			t := &table{head: []string{"CLUSTER", "MODE", "MEMBERS"}}
			for _, x := range list {
				t.row(x.Name, x.Mode, strings.Join(x.Members, ", "))
			}
			t.write(w)
		})
	}
	mode := "balance"
	set := &cobra.Command{Use: "set NAME AGENT…", Short: "make or replace a cluster",
		Long: "Mode balance: whoever has room. Mode failover: the first member that is up.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fail(exitUsage, c.CommandPath()+" --help", "want NAME and at least one AGENT")
			}
			return nil
		},
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			if modes := []string{"balance", "failover"}; !slices.Contains(modes, mode) {
				return fail(exitUsage, orText(suggest(mode, modes), "--mode balance"), "there is no mode %q", mode)
			}
			list, err := l.PutCluster(cmd.Context(), agents.AgentCluster{Name: args[0], Mode: mode, Members: args[1:]})
			if err != nil {
				return err
			}
			return show(list)
		})}
	set.Flags().StringVar(&mode, "mode", mode, "balance or failover")
	must(set.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"balance", "failover"}, cobra.ShellCompDirectiveNoFileComp)))
	c.AddCommand(set,
		&cobra.Command{Use: "list", Short: "list clusters", Args: exactly(), RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			list, err := l.Clusters(cmd.Context())
			if err != nil {
				return err
			}
			return show(list)
		})},
		&cobra.Command{Use: "delete NAME", Short: "remove a cluster", Args: exactly("NAME"), RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			list, err := l.DeleteCluster(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return show(list)
		})})
	return c
}
