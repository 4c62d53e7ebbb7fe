package operations

import (
	"testing"

	"github.com/greatseal-io/greatseal/record"
)

// A reference's ID is read as it was written, and what is none is not taken for one.
func TestRefOf(t *testing.T) {
	for _, want := range []record.Ref{{Table: "orders", Key: []string{"7", "eu"}}, {Table: "a:b", Key: []string{"3:xyz", "ü"}}} {
		if got, ok := refOf(want.ID()); !ok || got.ID() != want.ID() || got.Table != want.Table {
			t.Errorf("%q: %+v, %v", want.ID(), got, ok)
		}
	}
	for _, id := range []string{"", "6:orders", "6:orders1:77", "6:orders01:7", "-1:x1:7", "99:orders1:7", "6:orders0:", "orders 7", "+6:orders1:7"} {
		if got, ok := refOf(id); ok {
			t.Errorf("%q is taken for %+v", id, got)
		}
	}
}
