package records_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
)

// Of two verifications at one time the older revision does not pass.
func TestMarksRefuseLower(t *testing.T) {
	s, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, ref := records.Marks(s), record.Ref{Table: "t", Key: []string{"1"}}
	for _, c := range []struct {
		revision uint64
		lower    bool
	}{{2, false}, {1, true}, {2, false}, {3, false}, {2, true}} {
		if err := m.Raise(t.Context(), ref, c.revision); errors.Is(err, record.ErrLower) != c.lower || !c.lower && err != nil {
			t.Errorf("raise to %d: %v", c.revision, err)
		}
	}
	if got, err := m.Highest(t.Context(), ref); got != 3 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}
