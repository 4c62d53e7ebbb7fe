// Package javascript runs script includes and business rules from signed records.
// The engine (goja) is in a process of its own, in the sandbox: it has no network, no
// files, and what it takes of memory and time ends with it.
//
// Invariants:
//
//  1. Includes come from verified records alone: what the signed field "includes" of
//     a verified record names, and what those name. There is no other way to load.
//  2. A script sees the language, the object params, the function print, and nothing
//     of the host. It makes no code from text: eval and the constructors of functions
//     are gone.
//  3. Memory, time, depth of calls and output are bounded.
//
// A caller may not conclude that a script finds the functions of the platform that it
// was written on: it has those of the language.
package javascript

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/exec/script"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/internal/agent/sandbox"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Argv0 is the name that the own binary is started with to be the engine.
const Argv0 = "greatseal-javascript"

// Is reports whether a process was started as the engine.
func Is(args []string) bool { return len(args) > 0 && args[0] == Argv0 }

// Limits of scripts.
const (
	maxDepth    = 2000 // of calls
	maxIncludes = 200
	maxCode     = 16 << 20 // bytes of all texts
	virtual     = 3 << 30  // of address space that the engine's runtime reserves and does not use
)

// Executor runs scripts.
type Executor struct{ Sandbox *sandbox.Sandbox }

// Topics are those of JavaScript.
func (*Executor) Topics() []string { return []string{"JavascriptProbe"} }

// source is one text.
type source struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// program is what the engine gets.
type program struct {
	Sources []source          `json:"sources"` // includes in the order in which they are needed, then the script
	Params  map[string]string `json:"params"`
	Memory  int64             `json:"memory"`
}

// includeTables hold script includes.
func includeTables() []string { return []string{"ecc_agent_script_include", "sys_script_include"} }

// link finds the includes that a script needs.
func link(w *exec.Work) ([]source, error) {
	byName := map[string]*record.Trusted{}
	for _, t := range append(slices.Clone(w.Records[1:]), w.Includes...) {
		if !slices.Contains(includeTables(), t.Ref().Table) {
			continue
		}
		name, err := exec.Signed(t, "name")
		if err != nil {
			return nil, err
		}
		if byName[name] != nil || name == "" {
			return nil, exec.Malformed("name", "two includes have one name, or one has none")
		}
		byName[name] = t
	}
	var out []source
	size := 0
	state := map[string]int{} // 1: being linked, 2: linked
	var visit func(t *record.Trusted, name string) error
	visit = func(t *record.Trusted, name string) error {
		list, _ := t.Field("includes")
		for _, n := range exec.List(list) {
			switch {
			case state[n] == 2:
				continue
			case state[n] == 1:
				return exec.Malformed("includes", "include each other in a circle")
			case byName[n] == nil:
				return rejection.New(rejection.DependencyUnsigned, n, "no verified record of that name was delivered")
			case len(state) >= maxIncludes:
				return exec.Malformed("includes", "are too many")
			}
			state[n] = 1
			if err := visit(byName[n], n); err != nil {
				return err
			}
			state[n] = 2
		}
		text, err := exec.Signed(t, "script")
		if err != nil {
			return err
		}
		if size += len(text); text == "" || size > maxCode {
			return exec.Malformed("script", "is missing, or too long")
		}
		out = append(out, source{name, text})
		return nil
	}
	// Of a record whose author says that it is of another language nothing is run here.
	if l, _ := w.Main().Field("language"); l != "" && l != "javascript" {
		return nil, exec.Malformed("language", "is not that of the topic")
	}
	return out, visit(w.Main(), "script")
}

// Needs is nothing: scripts reach nothing.
func (*Executor) Needs(w *exec.Work) (*exec.Needs, error) {
	if _, err := link(w); err != nil {
		return nil, err
	}
	return &exec.Needs{}, nil
}

// Run runs the script.
func (e *Executor) Run(ctx context.Context, w *exec.Work, _ *firewall.Grant, out exec.Output) (res exec.Result, err error) {
	sources, err := link(w)
	if err != nil {
		return res, err
	}
	if e.Sandbox == nil {
		return res, exec.Failed("this agent runs no scripts: %v", sandbox.ErrUnsupported)
	}
	text, err := json.Marshal(program{Sources: sources, Params: w.Params, Memory: w.Limits.Memory})
	if err != nil {
		return res, err
	}
	l := script.Limits(w.Limits)
	l.Memory += virtual
	so, se := exec.NewStream(out, exec.JSON), exec.NewStream(out, script.Stderr)
	exit, err := e.Sandbox.Run(ctx, &sandbox.Run{
		Program: sandbox.Self, Args: []string{Argv0}, Stdin: text, Limits: l, Env: []string{"GOTRACEBACK=none", "GOMAXPROCS=2"},
		Output: func(p []byte, stderr bool) error {
			if stderr {
				return se.Write(ctx, p)
			}
			return so.Write(ctx, p)
		},
	})
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

// Exit codes of the engine.
const (
	threw     = 1
	noMemory  = 3
	malformed = 4
)

// Main is the engine: what a process whose os.Args[0] is Argv0 does. It reads a
// program from in, writes the result's JSON to out and what is printed to errs.
func Main(in io.Reader, out, errs io.Writer) int {
	debug.SetMaxStack(128 << 20)
	b, err := io.ReadAll(in)
	var p program
	if err != nil || json.Unmarshal(b, &p) != nil || len(p.Sources) == 0 {
		return malformed
	}
	vm := goja.New()
	vm.SetMaxCallStackSize(maxDepth)
	vm.SetParserOptions(parser.WithDisableSourceMaps) // a source map is a file to load
	stop := make(chan struct{})
	defer close(stop)
	go watch(vm, p.Memory, stop)
	v, err := run(vm, &p, errs)
	if err != nil {
		fmt.Fprintln(errs, err)
		if ie, ok := err.(*goja.InterruptedError); ok && ie.Value() == interruptMemory {
			return noMemory
		}
		return threw
	}
	if _, err := out.Write(v); err != nil {
		return malformed
	}
	return 0
}

const interruptMemory = "the limit on memory"

// watch interrupts a script before the kernel would end the process.
func watch(vm *goja.Runtime, limit int64, stop <-chan struct{}) {
	debug.SetMemoryLimit(limit / 2)
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			if metrics.Read(s); s[0].Value.Uint64() > uint64(limit)/2 {
				vm.Interrupt(interruptMemory)
			}
		}
	}
}

// confine takes away what makes code from text.
const confine = `(function () {
	"use strict";
	var gone = { value: undefined, writable: false, configurable: false };
	[function () {}, function* () {}, async function () {}].forEach(function (f) {
		Object.defineProperty(Object.getPrototypeOf(f), "constructor", gone);
	});
	Object.defineProperty(globalThis, "eval", gone);
	Object.defineProperty(globalThis, "Function", gone);
})()`

func run(vm *goja.Runtime, p *program, errs io.Writer) ([]byte, error) {
	if _, err := vm.RunScript("confine", confine); err != nil {
		return nil, err
	}
	params := vm.NewObject()
	for k, v := range p.Params {
		if err := params.DefineDataProperty(k, vm.ToValue(v), goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_TRUE); err != nil {
			return nil, err
		}
	}
	if err := vm.GlobalObject().DefineDataProperty("params", params, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE); err != nil {
		return nil, err
	}
	print := func(c goja.FunctionCall) goja.Value {
		for i, a := range c.Arguments {
			if i > 0 {
				fmt.Fprint(errs, " ")
			}
			fmt.Fprint(errs, a.String())
		}
		fmt.Fprintln(errs)
		return goja.Undefined()
	}
	if err := vm.Set("print", print); err != nil {
		return nil, err
	}
	var last goja.Value
	for _, s := range p.Sources {
		var err error
		if last, err = vm.RunScript(s.Name, s.Text); err != nil {
			return nil, err
		}
	}
	if last == nil || goja.IsUndefined(last) {
		return []byte("null"), nil
	}
	stringify, ok := goja.AssertFunction(vm.Get("JSON").ToObject(vm).Get("stringify"))
	if !ok {
		return nil, fmt.Errorf("JSON.stringify is gone")
	}
	v, err := stringify(goja.Undefined(), last)
	if err != nil {
		return nil, err
	}
	if goja.IsUndefined(v) {
		return []byte("null"), nil
	}
	return []byte(v.String()), nil
}

// Std runs Main on the process's own streams.
func Std() int { return Main(os.Stdin, os.Stdout, os.Stderr) }
