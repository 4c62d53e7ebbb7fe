package template

import (
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/statement"
)

// Follow makes of a charter that somebody has edited the next one: of the one in force
// as it is printed, or of a draft that follows it. One that was made from an earlier
// version is ErrMoved: it would take back what has changed since.
func Follow(doc, head *charter.Charter, ref statement.CharterRef, now time.Time) (*charter.Charter, error) {
	switch {
	case doc.Version == ref.Version+1 && doc.Previous == ref.ID:
		return checked(charter.Clone(doc))
	case doc.Version == ref.Version && doc.Previous == head.Previous && doc.Created.Equal(head.Created):
		return checked(charter.Next(doc, ref, now))
	}
	return nil, fmt.Errorf("%w: this is version %d of another chain of changes, and version %d is in force", ErrMoved, doc.Version, ref.Version)
}
