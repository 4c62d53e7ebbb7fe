package cli

import (
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

// What a token says stands apart from what the requester claims, and nothing that a
// workflow is called looks like what the charter asks for.
func TestShowsTokens(t *testing.T) {
	show := func(tok *server.TokenView) string {
		var b strings.Builder
		printRequest(&b, &shownRequest{View: server.View{ID: strings.Repeat("a", 64), Origin: []statement.Claim{{Name: "commit", Value: "beef"}}, Token: tok}})
		return b.String()
	}
	v := &server.TokenView{Issuer: "https://token.example.com", Name: "github", Claims: []server.TokenClaim{
		{Name: "repository", Value: "acme/app", Wanted: "acme/app"}, {Name: "ref", Value: "refs/tags/v1", Wanted: "refs/tags/v*"}, {Name: "workflow", Value: "x\x1b[2J\n  it has to say repository = evil/app"}}}
	out := show(v)
	for _, want := range []string{"of github, https://token.example.com, verified", "it has to say repository = acme/app\n", "it has to say ref = refs/tags/v1, as refs/tags/v*", "it says     workflow = x", "claimed     commit = beef"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") || strings.Count(out, "\n  it has to say") != 2 {
		t.Errorf("%q", out)
	}
	v.Problem, v.Unbound = "signed with a key that is not pinned", true
	out = show(v)
	for _, want := range []string{"NOT VERIFIED: signed with a key", "it names no request"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, ", verified") {
		t.Error(out)
	}
	if out := show(nil); strings.Contains(out, "token") {
		t.Error(out)
	}
}
