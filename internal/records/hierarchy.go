package records

import (
	"context"
	"fmt"
	"slices"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/rejection"
)

// hierarchyTable lists an application's tables where they extend one another: a table
// is name, what it extends super_class (the key of that one's record, or its name).
const hierarchyTable = "sys_db_object"

// maxClasses is how many tables a hierarchy may have.
const maxClasses = 1 << 17

// extends is which table extends which, as the platform says; nil where it has no
// hierarchy. What it leaves open is left to the rules of update sets, which take a
// table of which nothing is known for one of the configuration's.
func extends(ctx context.Context, db platform.Platform, tables []platform.Table) (map[string]string, error) {
	i := slices.IndexFunc(tables, func(t platform.Table) bool { return t.Name == hierarchyTable })
	if i < 0 {
		return nil, nil
	}
	for _, n := range []string{"name", "super_class"} {
		if !slices.ContainsFunc(tables[i].Columns, func(c platform.Column) bool { return c.Name == n }) {
			return nil, nil
		}
	}
	byKey, parents := map[string]string{}, map[string]string{}
	err := db.Scan(ctx, platform.Query{Table: hierarchyTable, Fields: []string{"name", "super_class"}}, func(r *platform.Row) error {
		name := r.Record.Fields["name"]
		if name == "" {
			return nil
		}
		if _, twice := parents[name]; twice {
			return rejection.New(rejection.PayloadMalformed, hierarchyTable, fmt.Sprintf("table %.80q stands in it twice: which tables it extends is not clear", name))
		}
		if len(parents) == maxClasses {
			return rejection.New(rejection.PayloadTooLarge, hierarchyTable, fmt.Sprintf("more than %d tables", maxClasses))
		}
		parents[name] = r.Record.Fields["super_class"]
		if len(r.Record.Ref.Key) == 1 {
			byKey[r.Record.Ref.Key[0]] = name
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name, parent := range parents {
		if n, ok := byKey[parent]; ok {
			parent = n
		} else if _, ok := parents[parent]; !ok {
			continue // it has none, or one that there is not
		}
		out[name] = parent
	}
	return out, nil
}
