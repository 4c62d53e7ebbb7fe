package updateset_test

import (
	"context"
	"slices"
	"testing"

	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
)

// instance is a target in memory.
type instance struct {
	tables  []string
	updated map[string]string // by Ref.ID
	refers  map[string]string // table.field
	pending map[string]bool
}

func (i *instance) Table(_ context.Context, name string) (bool, error) {
	return slices.Contains(i.tables, name), nil
}

func (i *instance) Updated(_ context.Context, r record.Ref) (string, bool, error) {
	at, has := i.updated[r.ID()]
	return at, has, nil
}

func (i *instance) Refers(_ context.Context, table, field string) (string, bool, error) {
	to, has := i.refers[table+"."+field]
	return to, has, nil
}

func (i *instance) Pending(_ context.Context, r record.Ref) (bool, error) {
	return i.pending[r.ID()], nil
}

func ref(table, key string) record.Ref { return record.Ref{Table: table, Key: []string{key}} }

// Preview problems, and none of signatures.
func TestProblems(t *testing.T) {
	const agent = "a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4"
	clean := func() *instance {
		return &instance{
			tables: []string{"sys_data_source", "sys_script_include", "sys_properties", "sys_attachment"},
			updated: map[string]string{
				ref("sys_script_include", goneID).ID():  "2026-01-01 00:00:00",
				ref("sys_data_source", sourceID).ID():   "2026-05-30 08:00:00",
				ref("ecc_agent", agent).ID():            "2020-01-01 00:00:00",
				ref("sys_script_include", "other").ID(): "2030-01-01 00:00:00",
			},
			refers:  map[string]string{"sys_data_source.mid_server": "ecc_agent"},
			pending: map[string]bool{},
		}
	}
	w := newWorld(t, recordtest.Configurations())
	s := open(t, w.sealed(t, everything(t)))
	for name, c := range map[string]struct {
		change func(*instance)
		want   []updateset.Problem
	}{
		"none": {func(*instance) {}, nil},
		"collision": {func(i *instance) { i.updated[ref("sys_data_source", sourceID).ID()] = "2026-05-30 08:00:01" },
			[]updateset.Problem{{Index: 0, Kind: updateset.Collision, Ref: ref("sys_data_source", sourceID)}}},
		"reference": {func(i *instance) { delete(i.updated, ref("ecc_agent", agent).ID()) },
			[]updateset.Problem{{Index: 0, Kind: updateset.MissingObject, Ref: ref("sys_data_source", sourceID), Field: "mid_server", Wanted: ref("ecc_agent", agent)}}},
		"gone already": {func(i *instance) { delete(i.updated, ref("sys_script_include", goneID).ID()) },
			[]updateset.Problem{{Index: 2, Kind: updateset.MissingObject, Ref: ref("sys_script_include", goneID), Wanted: ref("sys_script_include", goneID)}}},
		"table": {func(i *instance) { i.tables = i.tables[:2:2]; i.tables = append(i.tables, "sys_attachment") },
			[]updateset.Problem{{Index: 3, Kind: updateset.MissingTable, Ref: ref("sys_properties", propID)}}},
		"uncommitted": {func(i *instance) { i.pending[ref("sys_script_include", goneID).ID()] = true },
			[]updateset.Problem{{Index: 2, Kind: updateset.Uncommitted, Ref: ref("sys_script_include", goneID)}}},
	} {
		t.Run(name, func(t *testing.T) {
			i := clean()
			c.change(i)
			var got []updateset.Problem
			err := updateset.Problems(context.Background(), s, i, func(p *updateset.Problem) error {
				p.Update = ""
				got = append(got, *p)
				return nil
			})
			same := func(a, b updateset.Problem) bool {
				return a.Index == b.Index && a.Kind == b.Kind && a.Ref.Equal(b.Ref) && a.Field == b.Field && a.Wanted.Equal(b.Wanted)
			}
			if err != nil || !slices.EqualFunc(got, c.want, same) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
