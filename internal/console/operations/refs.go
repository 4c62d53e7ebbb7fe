package operations

import (
	"encoding/json/v2"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/record"
)

// refOf reads the ID of a reference ([record.Ref.ID]).
func refOf(id string) (record.Ref, bool) {
	var parts []string
	for rest := id; rest != ""; {
		n, after, ok := strings.Cut(rest, ":")
		size, err := strconv.Atoi(n)
		if !ok || err != nil || size < 0 || size > len(after) {
			return record.Ref{}, false
		}
		parts, rest = append(parts, after[:size]), after[size:]
	}
	if len(parts) < 2 {
		return record.Ref{}, false
	}
	r := record.Ref{Table: parts[0], Key: parts[1:]}
	return r, r.Check() == nil && r.ID() == id
}

// refsOf reads the references that a rejection keeps; what cannot be read is none.
func refsOf(text []byte) []record.Ref {
	var out []record.Ref
	if json.Unmarshal(text, &out) != nil {
		return nil
	}
	return out
}
