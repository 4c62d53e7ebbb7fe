package trial_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/record/lint"
)

// A trial that signs records has a charter without contradictions, in which no
// general policy signs records or circles, and whose configurations nothing is to be
// said of.
func TestRecords(t *testing.T) {
	pub := func() []byte {
		p, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	tr, err := trial.New(t.Context(), t.TempDir(), &keeper.Status{ReceiptKey: pub(), LogKey: pub()}, trial.Options{Records: &trial.Records{}, Timestamps: true})
	if err != nil {
		t.Fatal(err)
	}
	for n, p := range tr.Charter.Policies {
		if (slices.Contains(p.Formats, "records") || slices.Contains(p.Formats, "circle")) && (len(p.Formats) > 1 || len(p.Purposes) == 0) {
			t.Errorf("policy %s: %v for %v", n, p.Formats, p.Purposes)
		}
	}
	if tr.People[trial.Clerk] == nil {
		t.Error("the clerk has no key")
	}
	for id, c := range tr.Charter.Records.Configurations {
		for _, w := range lint.Lint(id, c, nil) {
			if w.Kind != lint.Narrow { // that is what a condition is for
				t.Errorf("%s: %s", id, w)
			}
		}
	}
	if _, err := charter.Encode(tr.Charter); err != nil {
		t.Error(err)
	}
}
