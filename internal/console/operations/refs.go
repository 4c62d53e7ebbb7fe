package operations

import (
	"encoding/json/v2"

	"github.com/greatseal-io/greatseal/record"
)

// refsOf reads the references that a rejection keeps; what cannot be read is none.
func refsOf(text []byte) []record.Ref {
	var out []record.Ref
	if json.Unmarshal(text, &out) != nil {
		return nil
	}
	return out
}
