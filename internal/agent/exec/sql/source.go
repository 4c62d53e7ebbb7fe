package sql

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/record"
)

// source is a data source, from signed fields alone.
type source struct {
	dialect    Dialect
	target     firewall.Target
	database   string
	credential string
	plaintext  bool // the connection is not encrypted: the signed record says so
	writes     bool // not read-only: the signed record says so
	statement  *Statement
}

// readSource reads the signed fields of a record of sys_data_source.
func readSource(t *record.Trusted) (*source, error) {
	f := exec.Of(t)
	s := &source{credential: f.Optional("credential")}
	format := strings.ToLower(f.Get("format"))
	if p := f.Optional("instance_name"); p != "" {
		f.Bad("instance_name", "these databases have no instances")
	}
	server, port, database := f.Get("jdbc_server"), f.Get("database_port"), f.Get("database_name")
	if u := f.Get("connection_url"); u != "" {
		if server != "" || port != "" || database != "" || format != "" {
			f.Bad("connection_url", "stands beside the fields that it would replace")
		}
		format, server, port, database = readURL(f, u)
	}
	var def uint16
	switch format {
	case "postgresql", "postgres":
		s.dialect, def = PostgreSQL, 5432
	case "mariadb", "mysql":
		s.dialect, def = MariaDB, 3306
	case "sqlite":
		s.dialect = SQLite
	default:
		f.Bad("format", "want postgresql, mariadb, mysql or sqlite")
	}
	for k, v := range properties(f) {
		switch k {
		case "encryption":
			s.plaintext = v == "none"
			if v != "none" && v != "verified" {
				f.Bad("properties", "encryption is \"verified\" or \"none\"")
			}
		case "read_only":
			s.writes = !f.Bool("properties", v)
		default:
			f.Bad("properties", "want encryption and read_only")
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	if s.dialect == SQLite {
		if server != "" || port != "" || s.credential != "" || !path.IsAbs(database) || path.Clean(database) != database || strings.ContainsRune(database, 0) {
			return nil, exec.Malformed("database_name", "want an absolute path, and no server, for sqlite")
		}
		s.target = firewall.Target{Path: database}
	} else {
		var err error
		if s.target, err = firewall.NewTarget(server, f.Port("database_port", port, def)); err != nil || f.Err() != nil {
			return nil, exec.Malformed("jdbc_server", "want a name or an address, and a port")
		}
		if database == "" || strings.ContainsRune(database, 0) {
			return nil, exec.Malformed("database_name", "is missing")
		}
		s.database = database
	}
	text, err := statement(f, s.dialect)
	if err != nil {
		return nil, err
	}
	if s.statement, err = Bind(s.dialect, text); err != nil {
		return nil, err
	}
	return s, nil
}

// statement is the query that the signed fields describe.
func statement(f *exec.Fields, d Dialect) (string, error) {
	mode, text, table, last := f.Get("query"), f.Get("sql_statement"), f.Get("table_name"), f.Get("last_run_database_field")
	if err := f.Err(); err != nil {
		return "", err
	}
	switch strings.ToLower(mode) {
	case "", "specific sql", "specific", "sql":
		if text == "" {
			return "", exec.Malformed("sql_statement", "is missing")
		}
	case "all rows from table", "all":
		if text != "" {
			return "", exec.Malformed("sql_statement", "stands beside \"all rows from table\"")
		}
		q, err := Identifier(d, table)
		if err != nil {
			return "", exec.Malformed("table_name", "is not a plain name")
		}
		text = "SELECT * FROM " + q
	default:
		return "", exec.Malformed("query", "want \"Specific SQL\" or \"All Rows from Table\"")
	}
	if last == "" {
		return text, nil
	}
	// Only rows that are newer than the last run: its time is a bound parameter.
	q, err := Identifier(d, last)
	if err != nil {
		return "", exec.Malformed("last_run_database_field", "is not a plain name")
	}
	b, err := strip(d, text)
	if err != nil {
		return "", err
	}
	return "SELECT * FROM (" + b + ") AS greatseal WHERE " + q + " > :last_run_datetime", nil
}

// strip is a statement without its comments and its last semicolon, parameters kept,
// that can stand in parentheses.
func strip(d Dialect, text string) (string, error) {
	s := &scanner{d: d, in: text, number: map[string]int{}, keep: true}
	if err := s.all(); err != nil {
		return "", err
	}
	if s.depth != 0 {
		return "", bad("leaves a parenthesis open")
	}
	return strings.TrimSpace(s.out.String()), nil
}

// readURL splits a connection URL; user, password and parameters do not belong there.
func readURL(f *exec.Fields, s string) (format, host, port, database string) {
	u, err := url.Parse(strings.TrimPrefix(s, "jdbc:"))
	if err != nil || u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		f.Bad("connection_url", "want scheme://host:port/database, without user, password and parameters (credential and properties are fields)")
		return
	}
	if u.Scheme == "sqlite" {
		return u.Scheme, u.Host, u.Port(), u.Path
	}
	database = strings.TrimPrefix(u.Path, "/")
	if strings.Contains(database, "/") {
		f.Bad("connection_url", "the database's name has a slash")
	}
	return u.Scheme, u.Hostname(), u.Port(), database
}

// properties reads "name=value" lines or semicolon-separated pairs.
func properties(f *exec.Fields) map[string]string {
	out := map[string]string{}
	for _, p := range strings.FieldsFunc(f.Get("properties"), func(r rune) bool { return r == '\n' || r == '\r' || r == ';' }) {
		if strings.TrimSpace(p) == "" {
			continue
		}
		k, v, ok := strings.Cut(p, "=")
		k = strings.TrimSpace(k)
		if _, twice := out[k]; !ok || twice {
			f.Bad("properties", fmt.Sprintf("want name=value, each once (%d)", len(out)+1))
			return out
		}
		out[k] = strings.TrimSpace(v)
	}
	return out
}
