package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/statefile"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/agent/credentials"
	"github.com/greatseal-io/greatseal/internal/api/agents/client"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "agent --config agent.yaml",
		GroupID: "run",
		Short:   "run an agent: it runs what was signed, and nothing else",
		Long: `Takes jobs from one protected instance and runs those whose records a trusted
instance has signed. At the first start it makes its key; an administrator of the
instance compares the fingerprint and validates it ("greatseal agents validate").

SIGTERM drains: what runs ends, and nothing new is taken. SIGHUP reads the
firewall again. docs/operate/agent.md describes the configuration.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.agentConfig()
			if err != nil {
				return err
			}
			return a.runAgent(cmd.Context(), cfg)
		},
	}
	c.AddCommand(a.agentInit(), a.agentFingerprint(), a.agentExplain())
	return c
}

// agentConfig reads the file that --config names.
func (a *App) agentConfig() (*agent.Config, error) {
	path := a.cfgPath
	if path == "" {
		path = os.Getenv("GREATSEAL_AGENT_CONFIG")
	}
	if path == "" {
		return nil, fail(exitUsage, "greatseal agent --config agent.yaml", "--config is missing")
	}
	cfg, err := agent.LoadConfig(path)
	if err != nil {
		return nil, fail(exitUsage, "docs/operate/agent.md describes the configuration", "%v", err)
	}
	return cfg, nil
}

func (a *App) runAgent(ctx context.Context, cfg *agent.Config) error {
	log := slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelInfo}))
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return err
	}
	id, err := agent.OpenIdentity(cfg.State, cfg.Name)
	if err != nil {
		return err
	}
	fp, err := id.Fingerprint()
	if err != nil {
		return err
	}
	log.Info("agent: key", "agent", cfg.Name, "fingerprint", fp)
	roots, err := poolOf(cfg.ServerCA)
	if err != nil {
		return err
	}
	up, err := client.New(client.Config{URL: cfg.Server, Roots: roots, Certificate: id.Certificate, UserAgent: "greatseal-agent/" + Version})
	if err != nil {
		return fail(exitUsage, "server in the agent's configuration: https://HOST:PORT", "%v", err)
	}
	defer up.Close()
	pins, err := cfg.Pins()
	if err != nil {
		return err
	}
	state, err := statefile.Open(filepath.Join(cfg.State, "circle.state"))
	if err != nil {
		return err
	}
	defer state.Close()
	believed, err := circle.New(ctx, state, pins...)
	if err != nil {
		return err
	}
	var creds *credentials.Store
	if cfg.Credentials != "" {
		if creds, err = credentials.Open(cfg.Credentials, os.Getuid()); err != nil {
			return err
		}
	}
	exes, err := agent.Executors(ctx, cfg, creds, net.DefaultResolver, log)
	if err != nil {
		return err
	}
	ag, err := agent.Open(cfg, agent.Deps{Identity: id, Upstream: up, Belief: agent.NewBelief(believed), Executors: exes, Log: log, Now: time.Now, Version: Version})
	if err != nil {
		return err
	}
	defer ag.Close()
	// The first signal drains, the second one ends what runs.
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	done := make(chan struct{})
	defer close(done)
	hup := make(chan os.Signal, 1)
	again := make(chan os.Signal, 1)
	notifyReload(hup)
	defer signal.Stop(hup)
	go func() {
		told := ctx.Done()
		for {
			select {
			case <-done:
				return
			case <-hup:
				_ = ag.Reload() // it has logged what is wrong, and goes on with the old rules
			case <-told:
				told = nil
				ag.Drain()
				if id.Certificate() == nil {
					end() // it waits for an administrator: nothing runs
					return
				}
				notifyEnd(again)
			case <-again:
				end()
				return
			}
		}
	}()
	err = ag.Run(work)
	signal.Stop(again)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

func (a *App) agentInit() *cobra.Command {
	var dir, name, instance, server, ca string
	var roots []string
	c := &cobra.Command{
		Use:   "init --dir DIR --name NAME --instance NAME --agents-at https://HOST:PORT --root ID",
		Short: "make the folder of a new agent",
		Long: `Writes DIR/agent.yaml and DIR/firewall.yaml, makes the agent's key in DIR/state,
and prints the key's fingerprint. The firewall denies everything until you write
rules into it (docs/spec/firewall.md).`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			dir, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			for _, r := range roots {
				if _, err := statement.ParseID(r); err != nil {
					return fail(exitUsage, "greatseal charter id charter-v1.json prints it", "--root: %v", err)
				}
			}
			if ca != "" {
				if ca, err = filepath.Abs(ca); err != nil {
					return err
				}
			}
			path := filepath.Join(dir, "agent.yaml")
			text := fmt.Sprintf("name: %s\ninstance: %s\nserver: %q\nserverCA: %q\nstate: %q\nfirewall: %q\nroots: [%s]\n",
				name, instance, server, ca, filepath.Join(dir, "state"), filepath.Join(dir, "firewall.yaml"), strings.Join(roots, ", "))
			if _, err := agent.ParseConfig([]byte(text)); err != nil {
				return fail(exitUsage, "greatseal agent init --help", "%v", err)
			}
			if !strings.HasPrefix(server, "https://") {
				return fail(exitUsage, "--agents-at https://HOST:PORT, instance.agents.listen of the protected server", "--agents-at is missing")
			}
			if _, err := os.Stat(path); err == nil {
				return fail(exitFailed, "choose another --dir", "%s holds an agent already", dir)
			}
			if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
				return err
			}
			id, err := agent.OpenIdentity(filepath.Join(dir, "state"), name)
			if err != nil {
				return err
			}
			fp, err := id.Fingerprint()
			if err != nil {
				return err
			}
			if err := writeOnce(filepath.Join(dir, "firewall.yaml"), []byte("# What no rule accepts is denied: docs/spec/firewall.md\nversion: 1\nrules: []\n"), 0o600); err != nil {
				return err
			}
			if err := file.WriteFile(path, []byte(text), 0o600); err != nil {
				return err
			}
			return a.print(map[string]string{"config": path, "fingerprint": fp}, func(w io.Writer) {
				fmt.Fprintf(w, "%s\nfingerprint %s\n", path, fp)
				a.note("write rules into %s, start \"greatseal agent --config %s\", and have an administrator of %s run \"greatseal agents validate %s\"", filepath.Join(dir, "firewall.yaml"), path, instance, fp)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "greatseal-agent", "folder of the agent")
	f.StringVar(&name, "name", "", "name of the agent")
	f.StringVar(&instance, "instance", "", "name of the protected instance")
	f.StringVar(&server, "agents-at", "", "where the instance takes agents: https://HOST:PORT")
	f.StringVar(&ca, "ca", "", "PEM file of the authority of the instance's certificate (default: the system's)")
	f.StringSliceVar(&roots, "root", nil, "ID of a trusted side's first charter; repeatable")
	return c
}

func (a *App) agentFingerprint() *cobra.Command {
	return &cobra.Command{
		Use:   "fingerprint --config agent.yaml",
		Short: "print the fingerprint of an agent's key, for who validates it",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.agentConfig()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(cfg.State, 0o700); err != nil {
				return err
			}
			id, err := agent.OpenIdentity(cfg.State, cfg.Name)
			if err != nil {
				return err
			}
			fp, err := id.Fingerprint()
			if err != nil {
				return err
			}
			return a.print(map[string]any{"agent": cfg.Name, "fingerprint": fp, "validated": id.Certificate() != nil}, func(w io.Writer) { fmt.Fprintln(w, fp) })
		},
	}
}

func (a *App) agentExplain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [JOB] --config agent.yaml",
		Short: "say why an agent refused a job",
		Long: `Reads the agent's own file of rejections, on its own host: the reason, and what of
the record has changed. Without a job, all that the file still has.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := a.agentConfig()
			if err != nil {
				return err
			}
			job := ""
			if len(args) == 1 {
				job = strings.ToLower(args[0])
			}
			list, err := agent.Explain(cfg.State, job)
			if err != nil {
				return err
			}
			if len(list) == 0 && job != "" {
				return fail(exitFailed, "greatseal queue show "+job+" says what became of it", "this agent refused no job %s", job)
			}
			if list == nil {
				list = []agent.Refusal{}
			}
			return a.print(map[string]any{"refusals": list}, func(w io.Writer) {
				for _, r := range list {
					fmt.Fprintf(w, "%s  job %s, attempt %d, %s\n", when(r.Time), printable(r.Job), r.Attempt, orText(r.Topic, "no topic"))
					field(w, "reason", r.Reason.Error())
					if r.Table != "" {
						field(w, "table", r.Table)
					}
				}
			})
		},
	}
}

// AgentHelper is what a program asks first: whether an agent started it to be the
// sandbox of a script, and with which code it ends then.
func AgentHelper(args []string) (code int, is bool) { return agent.Helper(args) }
