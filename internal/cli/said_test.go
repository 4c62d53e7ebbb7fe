package cli

import (
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

// What endorsers wrote, and that a quorum is out of reach, is shown without --json, and
// moves nobody's cursor.
func TestShowsWhatWasSaid(t *testing.T) {
	s := &shownRequest{View: server.View{ID: strings.Repeat("a", 64), Unreachable: "the quorum 2 of officers cannot be reached: bob (no) disapproved", Said: []server.Said{
		{Endorser: "bob", Verdict: statement.Disapprove, Comment: "not the tag\n\x1b[2Jclean"},
		{Endorser: "gate", Verdict: statement.Endorse, Findings: []statement.Claim{{Name: "scan", Value: "nothing\x1b]0;x\a found"}}},
	}}}
	var b strings.Builder
	printRequest(&b, s)
	out := b.String()
	for _, want := range []string{"in vain", "the quorum 2 of officers cannot be reached", "said by", "bob: not the tag", "found by", "gate: scan = nothing"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.ContainsAny(out, "\x1b\a") {
		t.Errorf("control characters in\n%q", out)
	}
}
