package lint_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/lint"
)

// dataSource is what signing of a data source must cover, and nothing else.
func dataSource() []string {
	return []string{
		"connection_url", "connection_url_parameters", "database_name", "database_port", "format", "import_set_table_name", "instance_name",
		"jdbc_server", "last_run_database_field", "mid_server", "properties", "query", "sql_statement", "table_name",
	}
}

func find(ws []lint.Warning, k lint.Kind) []string {
	var out []string
	for _, w := range ws {
		if w.Kind == k {
			out = append(out, w.Field)
		}
	}
	return out
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == s })
}

// Each field of a data source that changes what runs is missed when it is not
// signed, with the table's columns known and without.
func TestDataSource(t *testing.T) {
	c := record.Configuration{Version: 1, Table: "sys_data_source", Purpose: record.Queue, Fields: dataSource()}
	if ws := lint.Lint("sources", c, nil); len(ws) != 0 {
		t.Errorf("the whole list: %v", ws)
	}
	for _, columns := range [][]string{nil, append(dataSource(), "sys_id", "sys_mod_count", "last_run_datetime")} {
		for _, f := range dataSource() {
			c.Fields = without(dataSource(), f)
			if got := find(lint.Lint("sources", c, columns), lint.Unsigned); !slices.Equal(got, []string{f}) {
				t.Errorf("without %s: %v", f, got)
			}
		}
	}
	// The other name of the same thing is as good.
	c.Fields = append(without(dataSource(), "mid_server"), "agent")
	if got := find(lint.Lint("sources", c, nil), lint.Unsigned); got != nil {
		t.Errorf("agent for mid_server: %v", got)
	}
}

func TestScriptTables(t *testing.T) {
	for table, fields := range map[string][]string{
		"sys_script":               {"script", "active", "when", "order", "condition", "collection", "action_insert", "action_update", "action_delete", "action_query"},
		"sys_script_include":       {"script", "active", "api_name", "name", "client_callable", "access"},
		"ecc_agent_script_include": {"script", "active", "name", "use_attachment"},
		"ecc_agent_script_file":    {"script", "active", "name", "use_attachment"},
		"ecc_agent_jar":            {"active", "name"},
		"sys_ui_action":            {"script", "active", "condition", "order", "when", "table"},
		"sys_transform_script":     {"script", "active", "condition", "order", "when", "map"},
	} {
		for _, f := range fields {
			c := record.Configuration{Table: table, Purpose: record.Queue, Fields: without(fields, f), Attachments: true}
			want := []string{f}
			if f == "map" {
				want = []string{"table"}
			}
			if got := find(lint.Lint("x", c, nil), lint.Unsigned); !slices.Equal(got, want) {
				t.Errorf("%s without %s: %v", table, f, got)
			}
		}
		if got := lint.Lint("x", record.Configuration{Table: table, Fields: fields, Attachments: true}, nil); len(got) != 0 {
			t.Errorf("%s with all: %v", table, got)
		}
	}
}

// What is predefined is what is recommended.
func TestPredefined(t *testing.T) {
	for id, c := range record.Predefined() {
		if ws := lint.Lint(id, c, nil); len(ws) != 0 {
			t.Errorf("%s: %v", id, ws)
		}
	}
}

// Of tables that nobody knows, names speak.
func TestHeuristics(t *testing.T) {
	for _, f := range []string{
		"script", "client_script", "runScript", "sql", "sql_text", "query", "filter_query", "url", "base_url", "server", "mail_server", "host", "port",
		"command", "pre_command", "path", "file_path", "class", "class_name", "template", "active", "condition", "order", "when", "applies_to",
		"collection", "credential_alias", "endpoint", "jar", "http_method", "run_as_user", "roles",
	} {
		c := record.Configuration{Table: "u_jobs", Fields: []string{"name"}}
		if got := find(lint.Lint("x", c, []string{"name", f}), lint.Unsigned); !slices.Equal(got, []string{f}) {
			t.Errorf("%s: %v", f, got)
		}
		c.Fields = append(c.Fields, f)
		if got := find(lint.Lint("x", c, []string{"name", f}), lint.Unsigned); got != nil {
			t.Errorf("%s signed: %v", f, got)
		}
	}
	for _, f := range []string{"sys_id", "short_description", "comments", "label", "sys_mod_count", "last_run_query", "airport", "portal", "description"} {
		if got := find(lint.Lint("x", record.Configuration{Table: "u_jobs", Fields: []string{"name"}}, []string{"name", f}), lint.Unsigned); got != nil {
			t.Errorf("%s: %v", f, got)
		}
	}
}

func TestVolatile(t *testing.T) {
	for f, want := range map[string]bool{
		"sys_mod_count": true, "sys_updated_on": true, "sys_updated_by": true, "sys_created_on": true, "sys_created_by": true,
		"last_run_datetime": true, "last_run_duration": true, "display_value": true, "owner.display_value": true, "owner_display_value": true,
		"last_run_database_field": false, "name": false, "sys_id": false,
	} {
		got := find(lint.Lint("x", record.Configuration{Table: "u_x", Fields: []string{f}}, nil), lint.Volatile)
		if (len(got) == 1) != want {
			t.Errorf("%s: %v", f, got)
		}
	}
}

func TestRest(t *testing.T) {
	wide := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
	for name, x := range map[string]struct {
		c       record.Configuration
		columns []string
		kind    lint.Kind
		want    []string
	}{
		"condition on unsigned":      {record.Configuration{Fields: []string{"name"}, Condition: "state == 'x' && name != ''"}, nil, lint.Escape, []string{"state"}},
		"condition on signed":        {record.Configuration{Fields: []string{"name"}, Condition: "name != ''"}, nil, lint.Escape, nil},
		"condition is narrow":        {record.Configuration{Fields: []string{"name"}, Condition: "name != ''"}, nil, lint.Narrow, []string{""}},
		"condition on no column":     {record.Configuration{Fields: []string{"name"}, Condition: "nmae != ''"}, []string{"name"}, lint.Unknown, []string{"nmae"}},
		"condition malformed":        {record.Configuration{Fields: []string{"name"}, Condition: "name ="}, nil, lint.Malformed, []string{""}},
		"no condition":               {record.Configuration{Fields: []string{"name"}}, nil, lint.Narrow, nil},
		"mistyped field":             {record.Configuration{Fields: []string{"scirpt"}}, []string{"script"}, lint.Unknown, []string{"scirpt"}},
		"mistyped field, its target": {record.Configuration{Fields: []string{"scirpt"}}, []string{"script"}, lint.Unsigned, []string{"script"}},
		"attachments alone":          {record.Configuration{Attachments: true}, nil, lint.Narrow, []string{""}},
		"one of nine":                {record.Configuration{Fields: []string{"a"}}, wide, lint.Narrow, []string{""}},
		"three of nine":              {record.Configuration{Fields: []string{"a", "b", "c"}}, wide, lint.Narrow, nil},
		"use_attachment signed":      {record.Configuration{Fields: []string{"use_attachment"}}, nil, lint.Attachments, []string{"use_attachment"}},
		"use_attachment in table":    {record.Configuration{Fields: []string{"name"}}, []string{"name", "use_attachment"}, lint.Attachments, []string{"use_attachment"}},
		"use_attachment and signed":  {record.Configuration{Fields: []string{"use_attachment"}, Attachments: true}, nil, lint.Attachments, nil},
		"jar":                        {record.Configuration{Table: "ecc_agent_jar", Fields: []string{"active", "name"}}, nil, lint.Attachments, []string{""}},
		"parameter is signed":        {record.Configuration{Fields: []string{"name"}, Parameters: []string{"name"}}, nil, lint.Parameter, []string{"name"}},
		"parameter is a column":      {record.Configuration{Fields: []string{"name"}, Parameters: []string{"day"}}, []string{"name", "day"}, lint.Parameter, []string{"day"}},
		"parameter is SQL":           {record.Configuration{Fields: []string{"name"}, Parameters: []string{"sql_text"}}, nil, lint.Parameter, []string{"sql_text"}},
		"parameter is harmless":      {record.Configuration{Fields: []string{"name"}, Parameters: []string{"day"}}, nil, lint.Parameter, nil},
	} {
		if x.c.Table == "" {
			x.c.Table = "u_x"
		}
		ws := lint.Lint("x", x.c, x.columns)
		if got := find(ws, x.kind); !slices.Equal(got, x.want) {
			t.Errorf("%s: %v", name, ws)
		}
		for _, w := range ws {
			if w.Text == "" || strings.Contains(w.String(), "\n") && w.Kind != lint.Malformed {
				t.Errorf("%s: %q", name, w)
			}
		}
	}
}

// Invariants 1 and 2.
func TestOrder(t *testing.T) {
	c := record.Configuration{Table: "sys_data_source", Fields: []string{"sys_mod_count", "zz"}, Condition: "q == '' && a == ''", Parameters: []string{"zz"}}
	columns := []string{"sql_statement", "url", "active", "use_attachment"}
	a := lint.Lint("x", c, columns)
	slices.Reverse(columns)
	if b := lint.Lint("x", c, columns); !slices.Equal(a, b) {
		t.Errorf("%v\n%v", a, b)
	}
	seen := map[string]bool{}
	for _, w := range a {
		k := string(w.Kind) + w.Field
		if seen[k] {
			t.Errorf("%s twice", k)
		}
		seen[k] = true
	}
}
