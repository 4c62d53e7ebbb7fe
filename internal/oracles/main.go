// Command oracles has every format judged by the verifiers of its ecosystem.
//
// It runs the tests whose names begin with TestOracle, each of which signs real
// inputs and hands them and tampered copies to one judge and to our verifier, and
// prints a line for each format and judge. It ends with an error when a test fails
// or a format of the list has no line.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/greatseal-io/greatseal/format/formattest"
)

// packages are those with judges in their tests.
var packages = []string{"./format/...", "./openpgp/...", "./internal/..."}

type event struct {
	Action, Package, Test, Output string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "oracles:", err)
		os.Exit(1)
	}
}

func run() error {
	args := append([]string{"test", "-json", "-count=1", "-run", "^TestOracle"}, existing(packages)...)
	c := exec.Command("go", args...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	var lines []formattest.Verdicts
	failed := map[string][]string{}
	said := map[string][]string{}
	s := bufio.NewScanner(out)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var e event
		if json.Unmarshal(s.Bytes(), &e) != nil {
			continue
		}
		id := e.Package + " " + e.Test
		switch {
		case e.Action == "output" && strings.HasPrefix(e.Output, "oracle {"):
			var v formattest.Verdicts
			if err := json.Unmarshal([]byte(strings.TrimPrefix(e.Output, "oracle ")), &v); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			lines = append(lines, v)
		case e.Action == "output":
			said[id] = append(said[id], e.Output)
		case e.Action == "fail":
			failed[id] = said[id]
		}
	}
	testErr := c.Wait()
	if err := s.Err(); err != nil {
		return err
	}
	print(lines)
	for id, out := range failed {
		fmt.Printf("\nFAILED %s\n%s", id, strings.Join(out, ""))
	}
	var missing []string
	for _, f := range formats {
		if !slices.ContainsFunc(lines, func(v formattest.Verdicts) bool { return v.Format == f }) {
			missing = append(missing, f)
		}
	}
	switch {
	case testErr != nil || len(failed) > 0:
		return fmt.Errorf("%d tests failed", len(failed))
	case len(missing) > 0:
		return fmt.Errorf("no judge has seen: %s", strings.Join(missing, ", "))
	}
	fmt.Printf("\n%d formats, %d judgements, all as they should be\n", len(formats), len(lines))
	return nil
}

// existing leaves out patterns whose folder is not there.
func existing(patterns []string) (out []string) {
	for _, p := range patterns {
		if _, err := os.Stat(strings.TrimSuffix(p, "/...")); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func print(lines []formattest.Verdicts) {
	order := func(f string) int {
		if i := slices.Index(formats, f); i >= 0 {
			return i
		}
		return len(formats)
	}
	slices.SortStableFunc(lines, func(a, b formattest.Verdicts) int { return order(a.Format) - order(b.Format) })
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FORMAT\tJUDGE\tKEYS\tINPUTS\tACCEPTED\tTAMPERED: JUDGE\tTAMPERED: OURS\tTHEIRS\tNOTE")
	for _, v := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", v.Format, v.Judge, strings.Join(v.Keys, " "), v.Inputs, v.Accepted, v.Theirs, v.Ours, v.Foreign, v.Note)
	}
	w.Flush()
}
