package instance

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
	"github.com/greatseal-io/greatseal/rejection"
)

// source gives the queue what jobs are about. A record that does not verify on a
// protected instance that enforces does not leave it; the agent judges again.
type source struct {
	part      *records.Instance
	guard     *records.Guard
	platforms map[string]platform.Platform
	now       func() time.Time
}

var _ ecc.Source = (*source)(nil)

// maxIncludes is how many script includes go with a job.
const maxIncludes = 256

// includeTables hold script includes. Their field "name" is what other records'
// field "includes" lists.
func includeTables() []string { return []string{"ecc_agent_script_include", "sys_script_include"} }

// Records implements ecc.Source.
func (s *source) Records(ctx context.Context, asked []ecc.Ask) ([]order.Item, error) {
	var out []order.Item
	seen := map[string]bool{}
	type need struct{ platform, name string }
	var needs []need
	add := func(ref record.Ref, purpose string) error {
		if seen[ref.ID()] {
			return nil
		}
		j, err := s.guard.ForJob(ctx, ref, purpose)
		if err != nil {
			return err
		}
		if j.Verdict != nil && s.part.Enforcement(s.now()) == trust.On {
			return j.Verdict
		}
		seen[ref.ID()] = true
		out = append(out, order.ItemOf(&j.Record, j.Signatures))
		for _, n := range strings.FieldsFunc(j.Record.Fields["includes"], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
			if x := (need{j.Platform, n}); !slices.Contains(needs, x) {
				if len(needs) == maxIncludes { // before they are compared with each other
					return rejection.New(rejection.PayloadTooLarge, "includes", fmt.Sprintf("more than %d", maxIncludes))
				}
				needs = append(needs, x)
			}
		}
		return nil
	}
	for _, a := range asked {
		if err := add(a.Ref, a.Purpose); err != nil {
			return nil, err
		}
	}
	for n := 0; n < len(needs); n++ { // it grows: includes need others
		ref, err := s.include(ctx, needs[n].platform, needs[n].name)
		if err != nil {
			return nil, err
		}
		if err := add(ref, asked[0].Purpose); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// include finds the one script include of a name.
func (s *source) include(ctx context.Context, on, name string) (ref record.Ref, err error) {
	cond, err := condition.Compile("name == " + strconv.QuoteToASCII(name))
	if err != nil {
		return ref, rejection.New(rejection.DependencyUnsigned, name, "no script include can have that name")
	}
	tables, err := s.platforms[on].Tables(ctx)
	if err != nil {
		return ref, err
	}
	found := 0
	for _, t := range tables {
		if !slices.Contains(includeTables(), t.Name) || !slices.ContainsFunc(t.Columns, func(c platform.Column) bool { return c.Name == "name" }) {
			continue
		}
		err := s.platforms[on].Scan(ctx, platform.Query{Table: t.Name, Fields: []string{"name"}, Where: cond, Limit: 2}, func(r *platform.Row) error {
			ref = r.Record.Ref
			found++
			return nil
		})
		if err != nil {
			return ref, err
		}
	}
	switch found {
	case 1:
		return ref, nil
	case 0:
		return ref, rejection.New(rejection.DependencyUnsigned, name, "there is no script include of that name")
	}
	return ref, rejection.New(rejection.DependencyUnsigned, name, "two script includes have that name")
}

// Attachment implements ecc.Source. The agent digests what it gets.
func (s *source) Attachment(ctx context.Context, ref record.Ref, a record.Attachment) (io.ReadCloser, error) {
	on, err := s.guard.Home(ctx, ref.Table)
	if err != nil {
		return nil, err
	}
	return s.platforms[on].Attachment(ctx, ref, a.Name)
}
