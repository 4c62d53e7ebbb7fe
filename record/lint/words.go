package lint

import (
	"slices"
	"strings"
)

// meaning is one thing that decides what a record does, under the names that
// platforms give it.
type meaning struct {
	names []string
	why   string
}

func of(why string, names ...string) []meaning {
	var out []meaning
	for _, n := range names {
		out = append(out, meaning{strings.Split(n, "|"), why})
	}
	return out
}

// meanings are the fields of a table that decide what is executed, when and where.
// Those of data sources are the list that signing there must cover.
func meanings(table string) []meaning {
	switch table {
	case "sys_data_source":
		return slices.Concat(
			of("decides which SQL runs", "sql_statement", "query|query_mode", "table_name", "last_run_database_field"),
			of("decides which database is asked", "jdbc_server", "database_name", "database_port", "connection_url", "connection_url_parameters", "instance_name", "properties", "format"),
			of("decides which agent runs it", "mid_server|agent"),
			of("decides where the result goes", "import_set_table_name|import_table"),
		)
	case "sys_script":
		return slices.Concat(script("script"), of("decides when it runs", "when", "order", "condition|filter_condition", "action_insert", "action_update", "action_delete", "action_query"),
			of("decides for what it runs", "collection|table"))
	case "sys_script_include":
		return slices.Concat(script("script"), of("decides by what it is found", "api_name", "name"), of("decides who may call it", "client_callable", "access"))
	case "ecc_agent_script_include", "ecc_agent_script_file":
		return slices.Concat(script("script"), of("decides by what it is found", "name"), of("decides whether an attachment takes its place", "use_attachment"))
	case "ecc_agent_jar":
		return slices.Concat(of("decides by what it is found", "name"), of("decides whether it is used", "active"))
	case "sys_script_fix", "sysauto_script", "sys_ui_action", "sys_processor", "sys_ws_operation", "sys_transform_script", "sysevent_script_action", "sysrule":
		return slices.Concat(script("script|operation_script"), of("decides when it runs", "condition", "order", "when"), of("decides for what it runs", "table|collection|applies_to|map"))
	}
	return nil
}

func script(name string) []meaning {
	return slices.Concat(of("is executed", name), of("decides whether it is executed", "active"))
}

// attachmentTables are those whose attachments are code.
func attachmentTables() []string {
	return []string{"ecc_agent_jar", "ecc_agent_script_file", "ecc_agent_script_include"}
}

// suspicion is what a field does, by the words in its name; "" for one that says
// nothing.
func suspicion(field string) string {
	field = strings.ReplaceAll(strings.ToLower(field), "scription", "") // descriptions are no scripts
	words := strings.FieldsFunc(field, func(r rune) bool { return r == '_' || r == '.' || r == '-' || r == ' ' })
	is := func(list ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(list, w) })
	}
	holds := func(list ...string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(field, s) })
	}
	switch {
	case holds("script", "sql", "query", "command", "expression", "template", "xpath", "regex"), is("cmd", "exec", "program", "args", "arguments", "code"):
		return "is executed"
	case holds("url", "server", "endpoint", "hostname"), is("uri", "host", "port", "address", "ip", "database", "agent", "target", "schema"):
		return "decides where something is sent"
	case is("path", "file", "filename", "class", "classname", "jar", "library", "module", "import", "include", "require"):
		return "decides what is loaded"
	case holds("credential", "auth"), is("user", "role", "roles", "acl", "access", "domain", "scope"):
		return "decides with whose rights it happens"
	case is("active", "enabled", "condition", "order", "when", "trigger", "schedule", "applies", "collection", "method", "headers", "parameters", "properties", "format"):
		return "decides when or how it happens"
	}
	return ""
}
