package records_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/rejection"
)

// A table that extends a protected one has its records, so that a set does not write
// them under the child's name.
func TestChildOfProtectedTable(t *testing.T) {
	for _, c := range []struct {
		name, rows string
		want       rejection.Code // of the update of the child
	}{
		{"by key", "('1', 'sys_data_source', ''), ('2', 'x_mid', '1'), ('3', 'x_child', '2')", rejection.ExtraOperation},
		{"by name", "('1', 'sys_data_source', NULL), ('3', 'x_child', 'sys_data_source')", rejection.ExtraOperation},
		{"of another", "('1', 'sys_data_source', ''), ('2', 'x_other', ''), ('3', 'x_child', '2')", ""},
		{"a circle", "('2', 'x_mid', '3'), ('3', 'x_child', '2')", ""},
		{"unknown parent", "('3', 'x_child', '9')", ""},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := sqliteApp(t)
			w := newWorld(t, a)
			w.must(a.sql("CREATE TABLE sys_db_object (sys_id varchar(32) NOT NULL PRIMARY KEY, name varchar(80), super_class varchar(80)); CREATE TABLE x_child (sys_id varchar(32) NOT NULL PRIMARY KEY, name varchar(80))"))
			if c.rows != "" {
				w.must(a.sql("INSERT INTO sys_db_object VALUES " + c.rows))
			}
			set := xmlSet("loaded", strings.ReplaceAll(update(1, "INSERT_OR_UPDATE", map[string]string{"name": "a source by another name"}), table, "x_child"))
			v, err := w.guard.Load(t.Context(), rand.Reader, "erp", set, "alice")
			w.must(err)
			w.clock.pass(time.Minute)
			v, err = w.guard.Preview(t.Context(), v.ID)
			w.must(err)
			var got []string
			for _, f := range v.Preview.Findings {
				if f.Reason != nil {
					got = append(got, string(f.Reason.Code))
				}
			}
			if want := string(c.want); strings.Join(got, " ") != want {
				t.Fatalf("got %q, want %q: %+v", got, want, v.Preview)
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		a := sqliteApp(t)
		w := newWorld(t, a)
		w.must(a.sql("CREATE TABLE sys_db_object (sys_id varchar(32) NOT NULL PRIMARY KEY, name varchar(80), super_class varchar(80)); INSERT INTO sys_db_object VALUES ('1', 'x_child', 'sys_data_source'), ('2', 'x_child', '')"))
		v, err := w.guard.Load(t.Context(), rand.Reader, "erp", xmlSet("loaded", jdbc(1, "SELECT 1")), "alice")
		w.must(err)
		if _, err = w.guard.Preview(t.Context(), v.ID); code(err) != rejection.PayloadMalformed || !strings.Contains(fmt.Sprint(err), "sys_db_object") {
			t.Fatalf("%v", err)
		}
	})
}
