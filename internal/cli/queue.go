package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/record"
)

func (a *App) queueCommand() *cobra.Command {
	c := &cobra.Command{Use: "queue", GroupID: "run", Short: "jobs for agents, on a protected instance"}
	c.AddCommand(a.queueSubmit(), a.queueList(), a.queueShow(), a.queueCancel(), a.queueResults(), a.queueRejections())
	return c
}

func (a *App) queueSubmit() *cobra.Command {
	var j agents.QueueJob
	var tables, keys []string
	var paramsFile map[string]string
	purpose := record.Queue
	var expires string
	var wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "submit --topic TOPIC --table TABLE --key KEY",
		Short: "submit a job about a signed record",
		Long: `The job names records; which of them run is for their signatures to say. A record
whose signature does not verify is refused when it is handed out, and by the agent.

Parameters are those that the record's configuration lets an order pass. They stand
in the process list: --param-file takes a value that should not.`,
		Example: `  greatseal queue submit --topic JDBCProbe --table sys_data_source --key 6f1c… --wait
  greatseal queue submit --topic ShellScript --table ecc_agent_script --key 91… --cluster dmz --priority interactive`,
		Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			ctx := cmd.Context()
			if len(tables) != 1 || len(keys) == 0 || j.Topic == "" {
				return fail(exitUsage, cmd.CommandPath()+" --help", "want --topic, --table and --key")
			}
			j.Records = []agents.QueueAsk{{Table: tables[0], Key: keys, Purpose: purpose}}
			if j.Agent == "" && j.Cluster == "" {
				j.Agent = "*"
			}
			for n, path := range paramsFile {
				b, err := readSmall(path)
				if err != nil {
					return err
				}
				if j.Params == nil {
					j.Params = map[string]string{}
				}
				j.Params[n] = strings.TrimSuffix(string(b), "\n")
			}
			var err error
			if j.Expires, err = a.moment("expires", expires, false); err != nil {
				return err
			}
			got, err := l.SubmitJobs(ctx, j)
			if err != nil {
				return err
			}
			if len(got) != 1 {
				return fail(exitUnverified, "tell the server's administrator", "the server took %d jobs", len(got))
			}
			if !wait {
				return a.print(agents.QueueIDs{IDs: got}, func(w io.Writer) { fmt.Fprintln(w, got[0]) })
			}
			v, err := l.awaitJob(ctx, got[0], timeout)
			if err != nil {
				return err
			}
			return l.showJob(ctx, v)
		}),
	}
	f := c.Flags()
	f.StringVar(&j.Topic, "topic", "", "what kind of job: JDBCProbe, ShellScript, RESTProbe, JavascriptProbe, …")
	f.StringSliceVar(&tables, "table", nil, "table of the record")
	f.StringArrayVar(&keys, "key", nil, "value of the record's primary key; repeatable, in its order")
	f.StringVar(&purpose, "purpose", purpose, "purpose of the signature")
	f.StringVar(&j.Agent, "agent", "", `agent that is to run it, or "*" for a copy for each (default: every agent)`)
	f.StringVar(&j.Cluster, "cluster", "", "cluster of which one agent is to run it")
	f.StringVar(&j.Name, "name", "", "name of the job")
	f.StringVar(&j.Correlator, "correlator", "", "what belongs together, for lists")
	f.StringVar(&j.Priority, "priority", "", "interactive, expedited or standard (default)")
	f.StringToStringVar(&j.Params, "param", nil, "parameter NAME=VALUE; repeatable")
	f.StringToStringVar(&paramsFile, "param-file", nil, "parameter NAME=FILE; repeatable")
	f.BoolVar(&j.Repeatable, "repeatable", false, "it may run again when an agent dies in the middle")
	f.StringVar(&expires, "expires", "", "not run later: 2026-01-31T12:00:00Z, or a duration from now: 1h")
	f.BoolVar(&wait, "wait", false, "wait until it has ended, and show its result")
	f.DurationVar(&timeout, "timeout", 0, "how long to wait (default: until it has ended)")
	must(c.RegisterFlagCompletionFunc("priority", cobra.FixedCompletions([]string{"interactive", "expedited", "standard"}, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

// jobPoll is how often a job is asked for while somebody waits.
const jobPoll = 500 * time.Millisecond

// awaitJob waits for a job to end, and for its copies.
func (l *link) awaitJob(ctx context.Context, id string, timeout time.Duration) (*agents.QueueView, error) {
	wait, stop := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		wait, stop = context.WithTimeout(ctx, timeout)
	}
	defer stop()
	m := l.app.meter("waiting for the agent", -1, false)
	defer m.end()
	for {
		v, err := l.QueueJob(ctx, id)
		if err != nil {
			return nil, err
		}
		if v.State == "processed" || v.State == "error" {
			return v, nil
		}
		m.say("job " + short(id) + " is " + v.State)
		m.add(1)
		t := time.NewTimer(jobPoll)
		select {
		case <-wait.Done():
			t.Stop()
			return nil, fail(exitWaiting, "greatseal queue show "+id, "job %s is %s", short(id), v.State)
		case <-t.C:
		}
	}
}

// jobResult is a job with its result.
type jobResult struct {
	Job   *agents.QueueView   `json:"job"`
	Pages []agents.ResultPage `json:"pages"`
}

// showJob prints a job that has ended, and its result.
func (l *link) showJob(ctx context.Context, v *agents.QueueView) error {
	r := jobResult{v, []agents.ResultPage{}}
	for from := ""; ; {
		p, err := l.JobResults(ctx, v.ID, from)
		if err != nil {
			return err
		}
		r.Pages = append(r.Pages, p.Pages...)
		if p.Next == "" || p.Next == from {
			break
		}
		from = p.Next
	}
	if err := l.app.print(r, func(w io.Writer) {
		printJob(w, v)
		for _, p := range r.Pages {
			fmt.Fprintln(w, lines(string(p.Body)))
		}
	}); err != nil {
		return err
	}
	if v.State == "error" {
		return fail(exitRefused, "greatseal queue rejections --job "+v.ID, "job %s failed: %s", short(v.ID), v.Error)
	}
	return nil
}

func printJob(w io.Writer, v *agents.QueueView) {
	fmt.Fprintf(w, "%s  %s %s\n", v.ID, printable(v.Topic), printable(v.State))
	for _, f := range [][2]string{{"error", v.Error}, {"name", v.Name}, {"agent", v.Agent}, {"cluster", v.Cluster}, {"copy of", v.Parent}, {"asked by", v.Source}, {"correlator", v.Correlator}, {"parameters", strings.Join(v.Params, ", ")}} {
		if f[1] != "" {
			field(w, f[0], f[1])
		}
	}
	for _, x := range v.Records {
		field(w, "record", x.Table+" "+strings.Join(x.Key, " ")+" for "+x.Purpose)
	}
	field(w, "created", when(v.Created))
	if !v.Processed.IsZero() {
		field(w, "processed", when(v.Processed))
	}
	field(w, "result", fmt.Sprintf("%d pages, %s, attempt %d", v.Pages, size(v.Bytes), v.Attempt))
}

func (a *App) queueList() *cobra.Command {
	var f client.QueueFilter
	c := &cobra.Command{Use: "list", Short: "list jobs, newest first", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			page, err := l.QueueJobs(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.print(page, func(w io.Writer) {
				if len(page.Jobs) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"JOB", "STATE", "TOPIC", "AGENT", "PRIORITY", "CREATED", "ERROR"}}
				for _, v := range page.Jobs {
					t.row(v.ID, v.State, v.Topic, orText(v.Agent, v.Cluster), v.Priority, when(v.Created), v.Error)
				}
				t.write(w)
				if page.Next != "" {
					a.note("there are more: --before %s", page.Next)
				}
			})
		})}
	x := c.Flags()
	x.StringVar(&f.Agent, "agent", "", "of an agent")
	x.StringVar(&f.Cluster, "cluster", "", "of a cluster")
	x.StringVar(&f.Topic, "topic", "", "of a topic")
	x.StringVar(&f.Source, "source", "", "submitted by")
	x.StringVar(&f.Parent, "parent", "", "copies of a job for every agent")
	x.StringVar(&f.Correlator, "correlator", "", "what belongs together")
	x.StringVar(&f.State, "state", "", "ready, processing, processed or error")
	x.StringVar(&f.Before, "before", "", `page on: "next" of the list before`)
	x.IntVar(&f.Limit, "limit", 100, "how many at the most, up to 1000")
	must(c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"ready", "processing", "processed", "error"}, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func (a *App) queueShow() *cobra.Command {
	return &cobra.Command{Use: "show JOB", Short: "show one job", Args: exactly("JOB"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			v, err := l.QueueJob(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) { printJob(w, v) })
		})}
}

func (a *App) queueCancel() *cobra.Command {
	return &cobra.Command{Use: "cancel JOB", Short: "cancel a job, or ask it to stop", Args: exactly("JOB"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			v, err := l.CancelJob(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) { printJob(w, v) })
		})}
}

func (a *App) queueResults() *cobra.Command {
	var wait bool
	var timeout time.Duration
	var out string
	c := &cobra.Command{Use: "results JOB", Short: "print the result of a job", Args: exactly("JOB"),
		Long: "The result is what the agent said. With -o its pages go into a file, one after the other.",
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			ctx := cmd.Context()
			v, err := l.QueueJob(ctx, args[0])
			if err == nil && wait {
				v, err = l.awaitJob(ctx, args[0], timeout)
			}
			if err != nil {
				return err
			}
			if out == "" {
				return l.showJob(ctx, v)
			}
			n, err := l.savePages(ctx, v.ID, out)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"file": out, "bytes": n, "state": v.State}, func(w io.Writer) { fmt.Fprintf(w, "%s  %s\n", out, size(n)) })
		})}
	c.Flags().BoolVar(&wait, "wait", false, "wait until the job has ended")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: until it has ended)")
	c.Flags().StringVarP(&out, "out", "o", "", "file for the result")
	return c
}

func (l *link) savePages(ctx context.Context, id, out string) (n int64, err error) {
	return saved(out, func(f *os.File) (n int64, err error) {
		for from := ""; ; {
			p, err := l.JobResults(ctx, id, from)
			if err != nil {
				return n, err
			}
			for _, x := range p.Pages {
				k, err := f.Write(x.Body)
				n += int64(k)
				if err != nil {
					return n, err
				}
			}
			if p.Next == "" || p.Next == from {
				return n, nil
			}
			from = p.Next
		}
	})
}

func (a *App) queueRejections() *cobra.Command {
	var agent, job, before string
	limit := 100
	c := &cobra.Command{Use: "rejections", Short: "list jobs that agents refused, and why", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			page, err := l.Rejections(cmd.Context(), agent, job, before, limit)
			if err != nil {
				return err
			}
			return a.print(page, func(w io.Writer) {
				if len(page.Rejections) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"TIME", "AGENT", "JOB", "REASON", "DETAIL"}}
				for _, r := range page.Rejections {
					code := r.Code
					if r.Subject != "" {
						code += "(" + r.Subject + ")"
					}
					t.row(when(r.Time), r.Agent, r.Job, code, r.Detail)
				}
				t.write(w)
				if page.Next != "" {
					a.note("there are more: --before %s", page.Next)
				}
			})
		})}
	x := c.Flags()
	x.StringVar(&agent, "agent", "", "of an agent")
	x.StringVar(&job, "job", "", "of a job")
	x.StringVar(&before, "before", "", `page on: "next" of the list before`)
	x.IntVar(&limit, "limit", limit, "how many at the most, up to 1000")
	return c
}

// mapKeys are the keys of a map, sorted.
func mapKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
