package attacks

// What is changed in a database: every column of every table, in every way that could matter.

import (
	"bytes"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/store"
)

// column is one column of one table, with its type as Go has it.
type column struct{ table, name string }

// columns reads the schema.
func columns(t *testing.T, db *sql.DB, postgres bool) map[string][]string {
	t.Helper()
	q := `SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'`
	if postgres {
		q = `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'`
	}
	rows, err := db.Query(q)
	check(t, err)
	defer rows.Close()
	out := map[string][]string{}
	for rows.Next() {
		var c column
		check(t, rows.Scan(&c.table, &c.name))
		if c.table != "goose_db_version" { // which migrations ran: a wrong one keeps the server from starting
			out[c.table] = append(out[c.table], c.name)
		}
	}
	check(t, rows.Err())
	return out
}

// elsewhere are tables that a server of requests does not use: who judges what stands
// in them, and where that is tested.
var elsewhere = map[string]string{
	"ecc_queue":           "agents verify orders and records (internal/threats)",
	"agents":              "certificates are judged by their authority too (internal/ecc)",
	"agent_enrolments":    "an administrator compares fingerprints (internal/ecc)",
	"agent_clusters":      "an order names one agent (order)",
	"agent_members":       "an order names one agent (order)",
	"agent_rejections":    "each has its entry of the log (internal/ecc)",
	"security_jobs":       "what is signed is the plan that a quorum endorsed (internal/records)",
	"security_job_chunks": "what is signed is the plan that a quorum endorsed (internal/records)",
	"record_marks":        "agents have marks of their own (internal/threats)",
	"record_findings":     "it is what was noticed (internal/records)",
	"retrieved_sets":      "a set is verified when it is committed (internal/records)",
	"circle_bundles":      "bundles prove themselves (internal/instance)",
	"registrations":       "officers compare fingerprints, and the charter has the passkey itself (internal/registration)",
	"sessions":            "whoever writes sessions sees what their person sees; it takes a signature to request and to endorse (internal/console/web)",
	"session_links":       "as sessions",
	"notices":             "nobody concludes anything from a message; it leads to the request (internal/notices)",
	"notice_preferences":  "when somebody is told; where, stands elsewhere (internal/notices)",
	"issuers":             "it is what issuers were seen to publish; the keys that count are the charter's (internal/issuer)",

	"catalogue":              "what is found is shown, and leads to the request (internal/store/storetest)",
	"catalogue_digests":      "as catalogue",
	"catalogue_grams":        "as catalogue",
	"catalogue_grams_data":   "as catalogue",
	"catalogue_grams_idx":    "as catalogue",
	"catalogue_grams_config": "as catalogue",
	"catalogue_waiting":      "as catalogue",
	"tallies":                "numbers for people; the log can be counted by anybody (internal/analysis)",
	"tallies_head":           "as tallies",
	"saved_searches":         "addresses that somebody has kept (internal/store/storetest)",
}

// edits are the changes of every column of every row: each value is altered in a
// way of its kind, and exchanged for that of another row.
func edits(t *testing.T, db *sql.DB, postgres bool) []edit {
	t.Helper()
	var out []edit
	tables := columns(t, db, postgres)
	if len(tables) < 15 {
		t.Fatalf("%d tables were found", len(tables))
	}
	same := alike(t, db)
	for table, why := range elsewhere {
		if postgres && strings.HasPrefix(table, "catalogue_grams") {
			continue // an index of catalogue there
		}
		if tables[table] == nil {
			t.Errorf("table %s, of which is said that %s, is not there", table, why)
		}
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		if elsewhere[table] != "" {
			continue
		}
		keys := primary(table)
		rows, err := db.Query("SELECT * FROM " + table)
		check(t, err)
		names, err := rows.Columns()
		check(t, err)
		var data [][]any
		for rows.Next() {
			vals := make([]any, len(names))
			for i := range vals {
				vals[i] = new(any)
			}
			check(t, rows.Scan(vals...))
			for i := range vals {
				vals[i] = *vals[i].(*any)
			}
			of := slices.Index(names, "request")
			if table == "requests" {
				of = slices.Index(names, "id")
			}
			if of >= 0 {
				if id, ok := vals[of].([]byte); ok && same[string(id)] {
					continue
				}
			}
			data = append(data, vals)
		}
		check(t, rows.Err())
		rows.Close()
		if len(data) == 0 {
			t.Fatalf("table %s has no row: the prepared deployment lacks something", table)
		}
		if table == "log_entries" && len(data) > 6 {
			data = slices.Concat(data[:3], data[len(data)-3:]) // one is like the other
		}
		for r, row := range data {
			where, args := " WHERE ", []any{}
			for i, k := range keys {
				if i > 0 {
					where += " AND "
				}
				args = append(args, row[slices.Index(names, k)])
				where += fmt.Sprintf("%s = $%d", k, len(args))
			}
			set := func(col, what string, v any) {
				out = append(out, edit{table, col, fmt.Sprintf("row %d, %s", r, what),
					fmt.Sprintf("UPDATE %s SET %s = $%d%s", table, col, len(args)+1, where), append(slices.Clone(args), v)})
			}
			for i, col := range names {
				switch v := row[i].(type) {
				case []byte:
					if len(v) > 0 {
						b := bytes.Clone(v)
						b[len(b)/2] ^= 1
						set(col, "one bit", b)
					}
					set(col, "emptied", []byte{})
				case string:
					set(col, "another word", v+"x")
				case int64:
					set(col, "one more", v+1)
				default:
					t.Fatalf("%s.%s is a %T", table, col, v)
				}
				if other := data[(r+1)%len(data)][i]; fmt.Sprint(other) != fmt.Sprint(row[i]) {
					set(col, "another row's", other)
				}
				if table == "requests" && col == "state" {
					for _, s := range store.States() {
						set(col, string(s), string(s))
					}
				}
			}
		}
	}
	return out
}

// alike are the requests that made the deployment's keys, but for the first of each
// command: nobody can tell one key's from another's by their rows.
func alike(t *testing.T, db *sql.DB) map[string]bool {
	t.Helper()
	rows, err := db.Query("SELECT id, command FROM requests WHERE command LIKE 'key.%' ORDER BY receipt")
	check(t, err)
	defer rows.Close()
	out, seen := map[string]bool{}, map[string]bool{}
	for rows.Next() {
		var id []byte
		var command string
		check(t, rows.Scan(&id, &command))
		if seen[command] {
			out[string(id)] = true
		}
		seen[command] = true
	}
	check(t, rows.Err())
	if len(seen) != 2 || len(out) != 4 {
		t.Fatalf("%d commands made the keys, %d requests more of the same", len(seen), len(out))
	}
	return out
}

// primary is the primary key of a table.
func primary(table string) []string {
	switch table {
	case "requests", "log_waiting", "jobs":
		return []string{"id"}
	case "items":
		return []string{"request", "chunk"}
	case "files", "timestamps", "uploads":
		return []string{"request", "idx"}
	case "endorsements":
		return []string{"request", "seq"}
	case "receipts":
		return []string{"number"}
	case "results":
		return []string{"request"}
	case "log_entries":
		return []string{"idx"}
	case "log_tiles":
		return []string{"level", "n"}
	case "log_bodies":
		return []string{"sum"}
	case "log_head":
		return []string{"one"}
	case "tokens", "used":
		return []string{"hash"}
	case "secrets":
		return []string{"name"}
	}
	return []string{"a table that this test does not know: add it"}
}
