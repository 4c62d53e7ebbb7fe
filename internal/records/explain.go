package records

import (
	"context"
	"time"

	"github.com/greatseal-io/greatseal/record"
)

// Explain judges a record as it stands in a platform, and says of each signature what
// it is worth. It raises no mark.
func (g *Guard) Explain(ctx context.Context, on string, ref record.Ref, purpose string) (*record.Report, error) {
	rec, sigs, err := g.fetch(ctx, on, ref)
	if err != nil {
		return nil, err
	}
	v, _, err := g.judge()
	if err != nil {
		return nil, err
	}
	return v.Explain(ctx, rec, purpose, sigs, Marks(g.c.Store))
}

// Home is the platform that has a table: the first by name.
func (g *Guard) Home(ctx context.Context, table string) (string, error) { return g.where(ctx, table) }

// Found is one finding, for people.
type Found struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Source  string    `json:"source"` // who looked: watch, import
	Table   string    `json:"table"`
	Ref     string    `json:"ref"` // record.Ref's ID
	Code    string    `json:"code"`
	Subject string    `json:"subject,omitzero"`
	Detail  string    `json:"detail,omitzero"`
}

// Findings lists what was found wrong with records here, newest first, with an ID
// below before (0: all).
func (g *Guard) Findings(ctx context.Context, before int64, limit int) ([]Found, error) {
	list, err := g.c.Store.Findings(ctx, before, limit)
	out := make([]Found, 0, len(list))
	for _, f := range list {
		out = append(out, Found{ID: f.ID, At: f.At, Source: f.Source, Table: f.Table, Ref: string(f.Ref), Code: f.Code, Subject: f.Subject, Detail: f.Detail})
	}
	return out, err
}
