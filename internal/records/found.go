package records

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/record"
)

// Found is one record that did not verify where somebody looked.
type Found struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Source  string    `json:"source"` // who looked: "watch", "import"
	Table   string    `json:"table"`
	Key     []string  `json:"key,omitzero"`
	Code    string    `json:"code"`
	Subject string    `json:"subject,omitzero"`
	Detail  string    `json:"detail,omitzero"`
}

// refOf is the inverse of record.Ref.ID, under which findings are kept.
func refOf(id string) (record.Ref, error) {
	var parts []string
	for id != "" {
		n, rest, ok := strings.Cut(id, ":")
		size, err := strconv.Atoi(n)
		if !ok || err != nil || size < 0 || size > len(rest) {
			return record.Ref{}, errors.New("records: a finding's record was altered in the database")
		}
		parts, id = append(parts, rest[:size]), rest[size:]
	}
	if len(parts) < 2 {
		return record.Ref{}, errors.New("records: a finding's record was altered in the database")
	}
	return record.Ref{Table: parts[0], Key: parts[1:]}, nil
}
