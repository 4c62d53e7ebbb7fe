package formattest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Verdicts is what one program of a format's ecosystem said about our signatures,
// and we about its. Tests whose name begins with TestOracle make one, report each
// judgement to it, and end with a line for "make oracles".
type Verdicts struct {
	Format   string `json:"format"`         // as in the list of package oracles: "msi"
	Judge    string `json:"judge"`          // program and version: "osslsigncode 2.9"
	Note     string `json:"note,omitzero"`  // what the judge does not look at, or why there is none
	Inputs   int    `json:"inputs"`         // files that were signed
	Accepted int    `json:"accepted"`       // signatures of ours that the judge accepted
	Ours     int    `json:"ours"`           // tampered copies that we rejected
	Theirs   int    `json:"theirs"`         // tampered copies that the judge rejected
	Foreign  int    `json:"foreign"`        // signatures by the ecosystem's signer that we accepted
	Keys     []Key  `json:"keys,omitempty"` // kinds of key that were accepted

	t *testing.T
}

// Key is the name of a kind of key, as package sigalg has it.
type Key = string

// Judge begins the judgement of a format by a program. At the end of the test it
// fails unless every count is above zero; note says why where one cannot be.
func Judge(t *testing.T, format, judge string) *Verdicts {
	t.Helper()
	v := &Verdicts{Format: format, Judge: judge, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		if v.Inputs == 0 || v.Accepted < v.Inputs || v.Ours == 0 {
			t.Errorf("%s by %s: %d inputs, %d accepted, %d tampered copies rejected by us: want some of each", format, judge, v.Inputs, v.Accepted, v.Ours)
		}
		if (v.Theirs == 0 || v.Foreign == 0) && v.Note == "" {
			t.Errorf("%s by %s: %d tampered copies rejected by the judge, %d foreign signatures accepted: want some of each, or a note that says why not", format, judge, v.Theirs, v.Foreign)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(os.Stdout, "\noracle %s\n", b)
	})
	return v
}

// Accepts is a file of ours that the judge must accept: err is what it said.
func (v *Verdicts) Accepts(what string, key Key, err error) {
	v.t.Helper()
	v.Inputs++
	if err != nil {
		v.t.Errorf("%s: %s does not accept ours: %v", what, v.Judge, err)
		return
	}
	v.Accepted++
	for _, k := range v.Keys {
		if k == key {
			return
		}
	}
	v.Keys = append(v.Keys, key)
}

// Rejects is a tampered copy: ours and theirs are the errors of both verifiers,
// which must not be nil.
func (v *Verdicts) Rejects(what string, ours, theirs error) {
	v.t.Helper()
	v.RejectsAlone(what, ours)
	if theirs == nil {
		v.t.Errorf("%s: %s accepts a tampered copy", what, v.Judge)
		return
	}
	v.Theirs++
}

// RejectsAlone is a tampered copy that the judge does not look at closely enough.
func (v *Verdicts) RejectsAlone(what string, ours error) {
	v.t.Helper()
	if ours == nil {
		v.t.Errorf("%s: we accept a tampered copy", what)
		return
	}
	v.Ours++
}

// Takes is a file signed by the ecosystem's own signer: err is what we said.
func (v *Verdicts) Takes(what string, err error) {
	v.t.Helper()
	if err != nil {
		v.t.Errorf("%s: we do not accept theirs: %v", what, err)
		return
	}
	v.Foreign++
}

// Program finds a judge: in the folder where tools/judges puts what Debian does
// not have, then on the path. A missing one fails the test: hint says what to do.
func Program(tb testing.TB, name, hint string) string {
	tb.Helper()
	if p := filepath.Join(Judges(tb), "bin", name); executable(p) {
		return p
	}
	p, err := exec.LookPath(name)
	if err != nil {
		tb.Fatalf("%s is missing: %s", name, hint)
	}
	return p
}

func executable(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// Judges is the folder of judges that "make judges" fills: bin for programs, lib
// for what they need.
func Judges(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, ".cache", "judges")
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Fatal("no go.mod above the test")
		}
		dir = up
	}
}

// judgeLimit ends a judge that hangs: none of them takes a minute.
const judgeLimit = 5 * time.Minute

// RunJudge runs a judge and returns what it printed; a non-zero exit is an error that
// holds it. Its temporary files, sockets among them, are its own.
func RunJudge(tb testing.TB, name string, args ...string) (string, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), judgeLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "judge") // short: names of sockets are
	if err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "TMPDIR="+dir)
	c.WaitDelay = 10 * time.Second // for what it has started and left behind
	b, err := c.CombinedOutput()
	if ctx.Err() != nil {
		tb.Fatalf("%s hangs: %s", filepath.Base(name), b) // which is no verdict
	}
	if err != nil {
		return string(b), fmt.Errorf("%s: %w: %s", filepath.Base(name), err, b)
	}
	return string(b), nil
}
