// Package cli is the command line: one file a command, help beside the code.
//
// Invariants:
//
//  1. Standard output carries the result and nothing else; progress and hints go
//     to standard error. With --json the result is one JSON document, or one a
//     line where a command streams.
//  2. Every failure ends in one message that says what to do, and an exit code of
//     the list in [Codes].
//  3. No secret is taken from or shown in arguments.
package cli

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/statement"
)

// Version is set when the binary is built.
var Version = "devel"

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3 // a policy, the quorum or the keeper said no
	exitWaiting     = 4 // the request waits for endorsements
	exitUnverified  = 5 // verification failed
	exitUnavailable = 6 // the server cannot be reached: trying again may help
)

// Codes documents the exit codes.
func Codes() []string {
	return []string{
		"0  success",
		"1  failure; the message says what to do",
		"2  wrong usage",
		"3  refused: by a policy, the quorum or the keeper",
		"4  waiting: the request has not its quorum yet",
		"5  verification failed",
		"6  the server cannot be reached; try again",
	}
}

// fault is an error with an exit code and a hint.
type fault struct {
	code int
	err  error
	hint string
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// fail makes a fault.
func fail(code int, hint string, format string, args ...any) error {
	for i, x := range args {
		if err, ok := x.(error); ok {
			args[i] = plain(err)
		}
	}
	return &fault{code, fmt.Errorf(format, args...), hint}
}

// App is one run of the command line.
type App struct {
	In       io.Reader
	Out, Err io.Writer
	Now      func() time.Time

	json    bool
	quiet   bool
	verbose bool
	cfgPath string
	flags   config.Client // given on the command line: they win
}

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	a := &App{In: in, Out: out, Err: errw, Now: time.Now}
	root := a.Root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	return a.report(err)
}

// report prints an error with its hint and returns the exit code.
func (a *App) report(err error) int {
	if err == nil {
		return exitOK
	}
	code, hint := verdict(err)
	if code == exitFailed && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	err = plain(err)
	if a.json {
		doc := struct {
			Error string `json:"error"`
			Hint  string `json:"hint,omitzero"`
			Code  string `json:"code,omitzero"`
			Exit  int    `json:"exit"`
		}{Error: err.Error(), Hint: hint, Exit: code, Code: reasonCode(err)}
		b, _ := json.Marshal(doc)
		fmt.Fprintf(a.Err, "%s\n", b)
		return code
	}
	fmt.Fprintf(a.Err, "greatseal: %s\n", lines(err.Error()))
	if hint != "" {
		fmt.Fprintf(a.Err, "  try: %s\n", lines(hint))
	}
	return code
}

// coded is an error with a reason code of the API.
type coded interface{ ReasonCode() string }

func reasonCode(err error) string {
	var c coded
	if errors.As(err, &c) {
		return c.ReasonCode()
	}
	return ""
}

// Root is the command tree.
func (a *App) Root() *cobra.Command {
	root := &cobra.Command{
		Use:   "greatseal",
		Short: "endorsed code signing",
		Long: `Greatseal signs what people have endorsed, and nothing else.

A file is planned where it lies; the request waits until the quorum that its
policy names has endorsed exactly those bytes; the keeper checks every signature
itself and lets the key sign. Proof of who approved travels with the file.

Begin with "greatseal demo", or "greatseal dev" for a deployment to play with.

Exit codes:
  ` + strings.Join(Codes(), "\n  "),
		SilenceUsage:      true,
		SilenceErrors:     true,
		Version:           Version,
		DisableAutoGenTag: true,
		PersistentPreRun:  func(c *cobra.Command, _ []string) { sparing(c) },
	}
	p := root.PersistentFlags()
	p.BoolVar(&a.json, "json", false, "print the result as JSON")
	p.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no hints")
	p.BoolVarP(&a.verbose, "verbose", "v", false, "say more")
	p.StringVar(&a.cfgPath, "config", "", "client configuration (default $GREATSEAL_CONFIG, else greatseal/client.yaml in the user's configuration folder)")
	p.StringVar(&a.flags.Server, "server", "", "server: https://HOST, http://127.0.0.1:PORT or unix:PATH")
	p.StringVar(&a.flags.Name, "as", "", "who you are in the charter")
	p.StringVar(&a.flags.Identity, "identity", "", `SSH key: a private key file, a public key file (the agent holds the private one), or "agent"; in a job of CI, oidc:github, oidc:gitlab:VARIABLE, oidc:env:VARIABLE, oidc:file:PATH or oidc:command:PATH`)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fail(exitUsage, c.CommandPath()+" --help", "%v", err)
	})
	root.AddGroup(
		&cobra.Group{ID: "start", Title: "To begin:"},
		&cobra.Group{ID: "sign", Title: "To sign and to check:"},
		&cobra.Group{ID: "endorse", Title: "To decide:"},
		&cobra.Group{ID: "rule", Title: "To govern:"},
		&cobra.Group{ID: "run", Title: "To operate:"},
	)
	for _, c := range a.commands() {
		root.AddCommand(c)
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	wantCommands(root)
	return root
}

// wantCommands has commands that only hold others show their help, and refuse a
// name that is none of them: cobra does so for the root alone.
func wantCommands(c *cobra.Command) {
	for _, x := range c.Commands() {
		wantCommands(x)
	}
	if c.Runnable() || !c.HasSubCommands() {
		return
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var have []string
		for _, x := range c.Commands() {
			if x.IsAvailableCommand() {
				have = append(have, x.Name())
			}
		}
		name := strings.TrimSpace(strings.TrimPrefix(c.CommandPath()+" "+args[0], c.Root().Name()))
		return fail(exitUsage, orText(suggest(args[0], have), c.CommandPath()+" --help lists the commands"), "there is no command %q", name)
	}
}

// print writes the result: v as JSON, or what human writes.
func (a *App) print(v any, human func(w io.Writer)) error {
	if !a.json {
		human(a.Out)
		return nil
	}
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	_, err = fmt.Fprintf(a.Out, "%s\n", b)
	return err
}

// printLine writes one JSON document on one line, for commands that stream.
func (a *App) printLine(v any) error {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	_, err = fmt.Fprintf(a.Out, "%s\n", b)
	return err
}

// note writes a line for people to standard error.
func (a *App) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintln(a.Err, lines(fmt.Sprintf(format, args...)))
	}
}

// lines is printable for a text of several lines. Errors and notes quote names
// and reasons of others, and servers.
func lines(s string) string {
	var out []string
	for l := range strings.SplitSeq(s, "\n") {
		out = append(out, printable(l))
	}
	return strings.Join(out, "\n")
}

// terminal reports whether progress can be drawn.
func (a *App) terminal() bool {
	f, ok := a.Err.(*os.File)
	return ok && !a.quiet && !a.json && term.IsTerminal(int(f.Fd()))
}

// configPath is the file of the client configuration; must says that it was named.
func (a *App) configPath() (path string, must bool) {
	if path = a.cfgPath; path == "" {
		path = os.Getenv("GREATSEAL_CONFIG")
	}
	if path != "" {
		return path, true
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", false
	}
	return filepath.Join(dir, "greatseal", "client.yaml"), false
}

// client is the client configuration: flags, then environment, then file.
func (a *App) client() (*config.Client, error) {
	path, must := a.configPath()
	c := &config.Client{}
	if path != "" {
		// What stands in the file is relative to its folder, and a socket's path
		// must be absolute.
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		got, err := config.ReadClient(path)
		switch {
		case err == nil:
			c = got
		case must || !errors.Is(err, os.ErrNotExist):
			return nil, err
		}
	}
	for _, o := range []struct {
		to        *string
		env, flag string
	}{
		{&c.Server, "GREATSEAL_SERVER", a.flags.Server},
		{&c.Name, "GREATSEAL_AS", a.flags.Name},
		{&c.Identity, "GREATSEAL_IDENTITY", a.flags.Identity},
		{&c.CA, "GREATSEAL_CA", ""},
	} {
		if v := os.Getenv(o.env); v != "" {
			*o.to = v
		}
		if o.flag != "" {
			*o.to = o.flag
		}
	}
	if v := os.Getenv("GREATSEAL_ROOT"); v != "" {
		root, err := statement.ParseID(v)
		if err != nil {
			return nil, fail(exitUsage, "greatseal charter id CHARTER.yaml prints it", "GREATSEAL_ROOT: %v", err)
		}
		c.Root = root
	}
	return c, nil
}

// exactly checks the number of arguments with a message that names them.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(names) == 0 && len(args) > 0 {
			return fail(exitUsage, c.CommandPath()+" --help", "%s takes no arguments: not %q", c.CommandPath(), args[0])
		}
		if len(args) != len(names) {
			return fail(exitUsage, c.CommandPath()+" --help", "want %s", strings.Join(names, " "))
		}
		return nil
	}
}

// some checks that there is at least one argument.
func some(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fail(exitUsage, c.CommandPath()+" --help", "want at least one %s", name)
		}
		return nil
	}
}
