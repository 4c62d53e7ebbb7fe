// Package script runs shell, Python and PowerShell from signed records in the
// sandbox.
//
// Invariants:
//
//  1. What runs is the buffer that was verified, in a sealed file without a name.
//  2. A parameter is the value of an environment variable PARAM_NAME and a member of
//     the JSON object on standard input; it is never part of a command line's options
//     or of the script's text.
//  3. There is no network unless the signed field "network" names targets and the
//     firewall accepts every one of them.
//
// A caller may not conclude, where network is granted, that the program reached the
// named hosts alone: the sandbox holds it to their TCP ports.
package script

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/internal/agent/sandbox"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// The media types of pages.
const (
	Stdout = "application/vnd.greatseal.stdout"
	Stderr = "application/vnd.greatseal.stderr"
)

// MaxScript is the longest script, in bytes.
const MaxScript = 8 << 20

// Executor runs scripts.
type Executor struct {
	Sandbox      *sandbox.Sandbox
	Interpreters map[string]string // by language; absent: the usual place
}

// usual is where interpreters are.
func usual() map[string]string {
	return map[string]string{"shell": "/bin/sh", "python": "/usr/bin/python3", "powershell": "/usr/bin/pwsh"}
}

// Topics are those of commands.
func (*Executor) Topics() []string {
	return []string{"Command", "Powershell", "PythonScript", "ShellScript"}
}

// plan is what the signed fields ask for.
type plan struct {
	language   string
	text       string // unless attachment is set
	attachment *record.Attachment
	targets    []firewall.Target
}

func read(w *exec.Work) (*plan, error) {
	f := exec.Of(w.Main())
	// The author says of which language a text is: the topic is the order's, and a
	// JavaScript that is signed, or a library, is not to run as a shell's.
	p := &plan{language: f.Get("language"), text: f.Get("script")}
	byTopic := map[string]string{"Powershell": "powershell", "PythonScript": "python", "ShellScript": "shell"}[w.Topic]
	switch {
	case p.language == "":
		f.Bad("language", "want shell, python or powershell")
	case byTopic != "" && p.language != byTopic:
		f.Bad("language", "is not that of the topic")
	}
	if _, ok := usual()[p.language]; !ok {
		f.Bad("language", "want shell, python or powershell")
	}
	use := f.Bool("use_attachment", f.Optional("use_attachment"))
	name := f.Optional("attachment")
	for _, t := range exec.List(f.Optional("network")) {
		host, port, ok := strings.Cut(t, ":")
		n, err := strconv.ParseUint(port, 10, 16)
		target, terr := firewall.NewTarget(host, uint16(n))
		if !ok || err != nil || terr != nil {
			f.Bad("network", "want host:port, separated by commas")
			break
		}
		p.targets = append(p.targets, target)
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	if !use {
		if name != "" || p.text == "" {
			return nil, exec.Malformed("script", "is missing, or an attachment is named and use_attachment is not true")
		}
		return p, nil
	}
	// One attachment is named, and one has that name: there is no last one that wins.
	all := w.Main().Attachments()
	i := slices.IndexFunc(all, func(a record.Attachment) bool { return a.Name == name })
	switch {
	case p.text != "":
		return nil, exec.Malformed("script", "stands beside the attachment that would replace it")
	case i < 0:
		return nil, rejection.New(rejection.AttachmentMissing, name, "the record names it as its script")
	case slices.ContainsFunc(all[i+1:], func(a record.Attachment) bool { return a.Name == name }):
		return nil, rejection.New(rejection.AttachmentExtra, name, "two attachments have the name")
	case all[i].Size > MaxScript:
		return nil, rejection.New(rejection.PayloadTooLarge, name, "")
	}
	p.attachment = &all[i]
	return p, nil
}

// Needs is the network that the signed record asks for.
func (*Executor) Needs(w *exec.Work) (*exec.Needs, error) {
	p, err := read(w)
	if err != nil {
		return nil, err
	}
	for n := range w.Params {
		if _, err := variable(n); err != nil {
			return nil, err
		}
	}
	return &exec.Needs{Targets: p.targets}, nil
}

// variable is the environment variable of a parameter. Its prefix keeps it from
// being one that a loader, a shell or an interpreter obeys.
func variable(name string) (string, error) {
	for i, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return "", rejection.New(rejection.ParamNotAllowed, name, "a script's parameter is named in letters, digits and _")
		}
	}
	return "PARAM_" + name, nil
}

// Run runs the script.
func (e *Executor) Run(ctx context.Context, w *exec.Work, g *firewall.Grant, out exec.Output) (res exec.Result, err error) {
	p, err := read(w)
	if err != nil {
		return res, err
	}
	if e.Sandbox == nil {
		return res, exec.Failed("this agent runs no scripts: %v", sandbox.ErrUnsupported)
	}
	program := e.Interpreters[p.language]
	if program == "" {
		program = usual()[p.language]
	}
	if _, err := os.Stat(program); err != nil {
		return res, exec.Failed("this agent's host has no %s: %s is missing", p.language, program)
	}
	r := &sandbox.Run{Program: program, Script: []byte(p.text), Limits: Limits(w.Limits)}
	switch p.language {
	case "shell":
		r.Args = []string{sandbox.ScriptArg}
	case "python":
		r.Args = []string{"-I", "-B", sandbox.ScriptArg}
	case "powershell":
		// pwsh -File wants a name that ends in .ps1: the text arrives on a block's input.
		r.Args = []string{"-NoLogo", "-NoProfile", "-NonInteractive", "-Command", "& ([ScriptBlock]::Create([IO.File]::ReadAllText('" + sandbox.ScriptArg + "')))"}
		r.Env = []string{"DOTNET_GCHeapHardLimit=" + strconv.FormatInt(w.Limits.Memory/2, 16), "DOTNET_EnableDiagnostics=0", "POWERSHELL_TELEMETRY_OPTOUT=1"}
	}
	if p.attachment != nil {
		if r.Script, err = w.Attachment(ctx, w.Main(), *p.attachment); err != nil {
			return res, err
		}
	}
	for n, v := range w.Params {
		name, err := variable(n)
		if err != nil {
			return res, err
		}
		if strings.ContainsRune(v, 0) {
			return res, rejection.New(rejection.ParamNotAllowed, n, "its value holds a zero byte")
		}
		r.Env = append(r.Env, name+"="+v)
	}
	slices.Sort(r.Env)
	if r.Stdin, err = json.Marshal(nonNil(w.Params)); err != nil {
		return res, err
	}
	for _, t := range p.targets {
		if !g.Covers(t) {
			return res, exec.Failed("the firewall's grant does not cover %s", t)
		}
		r.Ports = append(r.Ports, t.Port)
	}
	so, se := exec.NewStream(out, Stdout), exec.NewStream(out, Stderr)
	r.Output = func(p []byte, stderr bool) error {
		if stderr {
			return se.Write(ctx, p)
		}
		return so.Write(ctx, p)
	}
	exit, err := e.Sandbox.Run(ctx, r)
	if err != nil {
		return res, exec.Stopped(ctx, err)
	}
	for _, s := range []*exec.Stream{so, se} {
		if err := s.Close(ctx); err != nil {
			return res, err
		}
	}
	res.ExitCode = exit.Code
	switch exit.Reason {
	case sandbox.Time:
		res.Truncated = exec.CutTime
	case sandbox.Output:
		res.Truncated = exec.CutOutput
	}
	return res, nil
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// Limits are those of the sandbox for a job's.
func Limits(l exec.Limits) sandbox.Limits {
	return sandbox.Limits{Wall: l.Time, CPU: l.Time.Round(time.Second) + time.Second, Memory: l.Memory, Processes: 64, Files: 256, FileSize: 64 << 20, Workspace: 128 << 20, Output: l.Output}
}
