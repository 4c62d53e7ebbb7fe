package rejection

import (
	"strings"
	"testing"
)

// Every reason is explained, and says what to do.
func TestExplained(t *testing.T) {
	for _, c := range Codes() {
		if m := c.Means(); !strings.HasSuffix(m, ".") || len(m) > 200 {
			t.Errorf("%s means %q", c, m)
		}
		if s := c.Cure(); !strings.HasSuffix(s, ".") || len(s) > 300 {
			t.Errorf("%s: do %q", c, s)
		}
	}
	if n := len(explanations()); n != len(Codes()) {
		t.Errorf("%d explanations of %d reasons", n, len(Codes()))
	}
	if Code("NONE").Means() != "" || Code("NONE").Cure() != "" {
		t.Error("no reason is explained")
	}
}
