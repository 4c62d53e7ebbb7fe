package javascript

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/agenttest"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/exec/script"
	"github.com/greatseal-io/greatseal/internal/agent/sandbox"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

func TestMain(m *testing.M) {
	if sandbox.Is(os.Args) {
		os.Exit(sandbox.Main(os.Args))
	}
	if Is(os.Args) {
		os.Exit(Std())
	}
	os.Exit(m.Run())
}

const include = "ecc_agent_script_include"

func author(t *testing.T) *agenttest.Author {
	return agenttest.NewAuthor(t, map[string][]string{include: {"includes", "name", "script"}, "other": {"includes", "name", "script"}}, "n")
}

func script1(name, text, includes string) *record.Record {
	f := map[string]string{"name": name, "script": text}
	if includes != "" {
		f["includes"] = includes
	}
	return agenttest.Record(include, "key-"+name, f)
}

func executor(t *testing.T) *Executor {
	t.Helper()
	s, err := sandbox.New(t.Context(), sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &Executor{s}
}

func TestRun(t *testing.T) {
	e, a := executor(t), author(t)
	w := agenttest.Work("JavascriptProbe", a.Trusted(t, script1("main", "print('n', params.n); ({sum: add(2, 3), twice: twice(21), n: params.n})", "math")), map[string]string{"n": "'; evil()"})
	w.Includes = []*record.Trusted{
		a.Trusted(t, script1("math", "function add(a, b) { return base + a + b }", "base, util")),
		a.Trusted(t, script1("base", "var base = 100", "")),
		a.Trusted(t, script1("util", "function twice(a) { return 2 * a }", "base")),
		a.Trusted(t, script1("unused", "throw new Error('ran')", "")),
	}
	p, res, err := agenttest.Run(t.Context(), e, agenttest.Open(t, nil, nil), w)
	if err != nil || res.ExitCode != 0 || p.Text(exec.JSON) != `{"sum":105,"twice":42,"n":"'; evil()"}` || p.Text(script.Stderr) != "n '; evil()\n" {
		t.Errorf("%q %q %+v %v", p.Text(exec.JSON), p.Text(script.Stderr), res, err)
	}
}

// Threat 21, and what includes may not do.
func TestIncludesRefused(t *testing.T) {
	e, a := executor(t), author(t)
	for name, c := range map[string]struct {
		main     *record.Record
		includes []*record.Record
		code     rejection.Code
	}{
		"missing":    {script1("m", "1", "lib"), nil, rejection.DependencyUnsigned},
		"transitive": {script1("m", "1", "lib"), []*record.Record{script1("lib", "1", "deep")}, rejection.DependencyUnsigned},
		"circle":     {script1("m", "1", "a"), []*record.Record{script1("a", "1", "b"), script1("b", "1", "a")}, rejection.PayloadMalformed},
		"two":        {script1("m", "1", "a"), []*record.Record{script1("a", "1", ""), agenttest.Record(include, "again", map[string]string{"name": "a", "script": "2"})}, rejection.PayloadMalformed},
		"a table":    {script1("m", "1", "a"), []*record.Record{agenttest.Record("other", "k", map[string]string{"name": "a", "script": "2"})}, rejection.DependencyUnsigned},
		"empty":      {agenttest.Record(include, "k", map[string]string{"name": "a"}), nil, rejection.PayloadMalformed},
	} {
		w := agenttest.Work("JavascriptProbe", a.Trusted(t, c.main), nil)
		for _, r := range c.includes {
			w.Includes = append(w.Includes, a.Trusted(t, r))
		}
		if _, err := e.Needs(w); !errors.Is(err, &rejection.Error{Code: c.code}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Invariants 2 and 3: each prints "open" where it gets out.
func TestConfined(t *testing.T) {
	e, a := executor(t), author(t)
	for name, c := range map[string]struct {
		text string
		code int // 0: it ends well; -1: any but 0
	}{
		"eval":             {"try { eval('1'); print('open') } catch (e) { }", 0},
		"Function":         {"try { new Function('return 1')(); print('open') } catch (e) { }", 0},
		"constructor":      {"try { (function(){}).constructor('return 1')(); print('open') } catch (e) { }", 0},
		"of a generator":   {"try { (function*(){}).constructor('yield 1'); print('open') } catch (e) { }", 0},
		"of async":         {"try { (async function(){}).constructor('1'); print('open') } catch (e) { }", 0},
		"of an arrow":      {"try { (()=>1).constructor('1'); print('open') } catch (e) { }", 0},
		"of print":         {"try { print.constructor('return 1')(); print('open') } catch (e) { }", 0},
		"put back":         {"try { Object.defineProperty(globalThis,'eval',{value:1}); print('open') } catch (e) { }", 0},
		"require":          {"if (typeof require+typeof process+typeof console+typeof fetch+typeof Packages+typeof java+typeof setTimeout !== 'undefined'.repeat(7)) print('open')", 0},
		"params":           {"'use strict'; try { params.n = 'x'; print('open') } catch (e) { }; try { params = 1; print('open') } catch (e) { }", 0},
		"exception":        {"throw new Error('no')", threw},
		"syntax":           {"this is no script", threw},
		"source map":       {"1 //# sourceMappingURL=file:///etc/passwd", 0},
		"recursion":        {"function f() { return f() + 1 } f()", threw},
		"memory in steps":  {"var a = []; for (;;) a.push(new Array(1000).fill(1))", -1},
		"memory at once":   {"var s = 'x'.repeat(1<<28); var t = s + s + s + s; t = t.split('').join('-') + t", -1},
		"deep parentheses": {strings.Repeat("(", 200_000) + "1" + strings.Repeat(")", 200_000), -1},
	} {
		t.Run(name, func(t *testing.T) {
			w := agenttest.Work("JavascriptProbe", a.Trusted(t, script1("m", c.text, "")), map[string]string{"n": "1"})
			w.Limits.Memory, w.Limits.Time = 256<<20, 5*time.Second
			p, res, err := agenttest.Run(t.Context(), e, agenttest.Open(t, nil, nil), w)
			if c.code < 0 && err != nil && err.Error() == exec.CutTime {
				return
			}
			if err != nil || strings.Contains(p.Text(script.Stderr), "open") || c.code >= 0 && res.ExitCode != c.code || c.code < 0 && res.ExitCode == 0 {
				t.Errorf("%.300q %+v %v", p.Text(script.Stderr), res, err)
			}
		})
	}
	for name, text := range map[string]string{"a loop": "for (;;) {}", "a regular expression": "/^(?=a)(a+)+\\1$/.test('a'.repeat(60) + 'b')"} {
		w := agenttest.Work("JavascriptProbe", a.Trusted(t, script1("m", text, "")), nil)
		w.Limits.Time = 500 * time.Millisecond
		_, res, err := agenttest.Run(context.Background(), e, agenttest.Open(t, nil, nil), w)
		if err != nil && err.Error() != exec.CutTime || err == nil && res.Truncated != exec.CutTime {
			t.Errorf("%s: %+v %v", name, res, err)
		}
	}
}

// A text that its author signed as a shell's does not run as JavaScript.
func TestAnotherLanguage(t *testing.T) {
	a := agenttest.NewAuthor(t, map[string][]string{"files": {"language", "script"}})
	for language, good := range map[string]bool{"shell": false, "python": false, "javascript": true, "": true} {
		fields := map[string]string{"script": "1"}
		if language != "" {
			fields["language"] = language
		}
		_, err := (&Executor{}).Needs(agenttest.Work("JavascriptProbe", a.Trusted(t, agenttest.Record("files", "a", fields)), nil))
		if r := rejection.Of(err); good && err != nil || !good && (r == nil || r.Code != rejection.PayloadMalformed) {
			t.Errorf("%q: %v", language, err)
		}
	}
}
