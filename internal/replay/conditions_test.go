package replay

import (
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/statement"
)

// The files of past requests are judged wherever the proposal may judge them otherwise:
// under a policy that was taken out of the charter and comes back too.
func TestConditionsOfPoliciesThatComeBack(t *testing.T) {
	with := func(names ...string) *charter.Charter {
		return &charter.Charter{Policies: map[string]charter.Policy{"nightly": {Names: names}}}
	}
	none := &charter.Charter{}
	q := &Past{Command: statement.Sign, Policy: "nightly"}
	for _, c := range []struct {
		name       string
		head, next *charter.Charter
		want       bool
	}{
		{"the same", with("a-*"), with("a-*"), false},
		{"other names", with("a-*"), with("b-*"), true},
		{"comes back", none, with("b-*"), true},
		{"goes", with("a-*"), none, false},
	} {
		if got := (&run{head: c.head, next: c.next}).conditions(q); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
