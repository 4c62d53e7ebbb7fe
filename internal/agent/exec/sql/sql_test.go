package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	stdsql "database/sql"

	"github.com/greatseal-io/greatseal/internal/agent/agenttest"
	"github.com/greatseal-io/greatseal/internal/agent/credentials"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/platform/mariatemp"
	"github.com/greatseal-io/greatseal/internal/store/pgtemp"
	"github.com/greatseal-io/greatseal/rejection"
)

var fields = []string{"connection_url", "credential", "database_name", "database_port", "format", "instance_name", "jdbc_server", "last_run_database_field",
	"name", "properties", "query", "sql_statement", "table_name", "type"}

// database is one real database.
type database struct {
	dialect Dialect
	fields  map[string]string // of a data source
	allow   []string          // the firewall's targets
	creds   string
	query   func(statement string) string
}

func (d *database) with(change map[string]string) map[string]string {
	f := maps.Clone(d.fields)
	for k, v := range change {
		if v == "" {
			delete(f, k)
		} else {
			f[k] = v
		}
	}
	return f
}

func databases(t *testing.T) []*database {
	t.Helper()
	pg, err := pgtemp.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Close(); err != nil {
			t.Error(err)
		}
	})
	dsn, err := pg.Database()
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	pgPort := agenttest.Forward(t, pg.Socket()+"/.s.PGSQL.5432")
	if _, err := os.Stat(pg.Socket() + "/.s.PGSQL.5432"); err != nil {
		t.Fatal(err)
	}
	run := func(f func(string, string) (string, error), dsn string) func(string) string {
		return func(s string) string {
			t.Helper()
			out, err := f(dsn, s)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(out)
		}
	}
	out := []*database{{dialect: PostgreSQL, query: run(pg.SQL, dsn), fields: map[string]string{
		"type": "JDBC", "format": "postgresql", "jdbc_server": "127.0.0.1", "database_port": strconv.Itoa(int(pgPort)), "database_name": strings.Trim(u.Path, "/"),
		"credential": "db", "properties": "encryption=none"}, allow: []string{"127.0.0.1:*"}, creds: "db: {user: greatseal}\n"}}

	my, err := mariatemp.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := my.Close(); err != nil {
			t.Error(err)
		}
	})
	mdsn, err := my.Database()
	if err != nil {
		t.Fatal(err)
	}
	name := mdsn[strings.LastIndex(mdsn, "/")+1:]
	name, _, _ = strings.Cut(name, "?")
	q := run(my.SQL, mdsn)
	q("CREATE USER 'agent'@'localhost' IDENTIFIED BY 'hunter2'; GRANT ALL ON " + name + ".* TO 'agent'@'localhost'")
	myPort := agenttest.Forward(t, my.Socket())
	out = append(out, &database{dialect: MariaDB, query: q, fields: map[string]string{
		"format": "mariadb", "jdbc_server": "127.0.0.1", "database_port": strconv.Itoa(int(myPort)), "database_name": name,
		"credential": "db", "properties": "encryption=none"}, allow: []string{"127.0.0.1:*"}, creds: "db: {user: agent, password: hunter2}\n"})

	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "shop.db")
	lite, err := stdsql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lite.Close() })
	out = append(out, &database{dialect: SQLite, fields: map[string]string{"format": "sqlite", "database_name": file}, allow: []string{dir + "/*"},
		query: func(s string) string {
			t.Helper()
			if !strings.HasPrefix(s, "SELECT") {
				if _, err := lite.Exec(s); err != nil {
					t.Fatal(err)
				}
				return ""
			}
			var v string
			if err := lite.QueryRow(s).Scan(&v); err != nil {
				t.Fatal(err)
			}
			return v
		}})
	for _, d := range out {
		d.query("CREATE TABLE orders (id INTEGER PRIMARY KEY, name VARCHAR(50), total NUMERIC(10,2), note TEXT); INSERT INTO orders VALUES (1,'pen',1.50,NULL),(2,'ink',7.25,'a''b'),(3,'o''hara; DROP TABLE orders',9.00,'x')")
	}
	return out
}

type page struct {
	Columns []exec.Column `json:"columns"`
	Rows    [][]any       `json:"rows"`
}

func TestDatabases(t *testing.T) {
	author := agenttest.NewAuthor(t, map[string][]string{"sys_data_source": fields}, "name", "id", "last_run_datetime")
	for _, d := range databases(t) {
		t.Run(string(d.dialect), func(t *testing.T) {
			e := d.executor(t)
			run := func(change, params map[string]string, limit ...func(*exec.Limits)) ([]page, exec.Result, error) {
				t.Helper()
				w := agenttest.Work("JDBCProbe", author.Trusted(t, agenttest.Record("sys_data_source", "a", d.with(change))), params)
				for _, l := range limit {
					l(&w.Limits)
				}
				p, res, err := agenttest.Run(t.Context(), e, agenttest.Open(t, d.allow, []string{"db"}), w)
				var out []page
				for _, b := range p.Body {
					var one page
					if len(b) > exec.Page || json.Unmarshal(b, &one) != nil {
						t.Fatalf("%.200s", b)
					}
					out = append(out, one)
				}
				return out, res, err
			}
			names := func(p []page) string {
				var s []string
				for _, x := range p {
					for _, r := range x.Rows {
						s = append(s, fmt.Sprint(r[0]))
					}
				}
				return strings.Join(s, "|")
			}

			p, res, err := run(map[string]string{"sql_statement": "SELECT name, total, note FROM orders WHERE name = :name OR id = :id ORDER BY id"}, map[string]string{"name": "o'hara; DROP TABLE orders", "id": "1"})
			if err != nil || res.Rows != 2 || names(p) != "pen|o'hara; DROP TABLE orders" || p[0].Columns[0].Name != "name" || p[0].Rows[0][2] != nil {
				t.Fatalf("%v %+v %v", p, res, err)
			}
			// An injection is a value like any other.
			if p, _, err := run(map[string]string{"sql_statement": "SELECT name FROM orders WHERE name = :name"}, map[string]string{"name": "' OR 1=1 --"}); err != nil || names(p) != "" || len(p) != 1 {
				t.Errorf("%v %v", p, err)
			}
			if p, _, err := run(map[string]string{"query": "All Rows from Table", "table_name": "orders"}, nil); err != nil || names(p) != "1|2|3" {
				t.Errorf("%v %v", p, err)
			}
			if p, _, err := run(map[string]string{"sql_statement": "SELECT id, name FROM orders WHERE id < :id; -- all", "last_run_database_field": "name"}, map[string]string{"id": "3", "last_run_datetime": "j"}); err != nil || names(p) != "1" {
				t.Errorf("%v %v", p, err)
			}

			// Invariant 2: nothing is written, whatever the statement is.
			for _, s := range []string{
				"INSERT INTO orders (id) VALUES (9)", "UPDATE orders SET name = 'x'", "DELETE FROM orders", "DROP TABLE orders", "CREATE TABLE other (id INTEGER)",
				"COMMIT", "ATTACH DATABASE '/tmp/other.db' AS o", "VACUUM INTO '/tmp/greatseal-vacuum.db'", "PRAGMA query_only=0", "SET SESSION TRANSACTION READ WRITE",
				"SELECT 1; DELETE FROM orders", "CREATE TEMPORARY TABLE other (id INTEGER)",
			} {
				_, _, _ = run(map[string]string{"sql_statement": s}, nil)
				if n := d.query("SELECT COUNT(*) FROM orders WHERE name <> 'x'"); n != "3" {
					t.Fatalf("%s: %s", s, n)
				}
			}
			if _, _, err := run(map[string]string{"sql_statement": "INSERT INTO orders (id) VALUES (9)"}, nil); err == nil {
				t.Error("a write is no error")
			}
			if _, err := os.Stat("/tmp/greatseal-vacuum.db"); err == nil {
				t.Error("VACUUM INTO wrote")
			}
			if _, err := os.Stat("/tmp/other.db"); err == nil {
				t.Error("ATTACH wrote")
			}
			props := d.fields["properties"]
			if _, _, err := run(map[string]string{"properties": props + ";read_only=false", "sql_statement": "INSERT INTO orders (id, name) VALUES (:id, 'new')"}, map[string]string{"id": "4"}); err != nil {
				t.Error(err)
			}
			if n := d.query("SELECT COUNT(*) FROM orders WHERE name = 'new'"); n != "1" {
				t.Errorf("%s rows were written", n)
			}
			d.query("DELETE FROM orders WHERE id = 4")

			// Invariant 3 of package exec: an error holds no value.
			_, _, err = run(map[string]string{"properties": props + ";read_only=false", "sql_statement": "INSERT INTO orders (id, name) VALUES (1, :name)"}, map[string]string{"name": "s3cret"})
			var f exec.Failure
			if !errors.As(err, &f) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "orders") || rejection.Of(err) != nil {
				t.Errorf("%v", err)
			}

			// Limits.
			many := "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 900) SELECT a.i, 'some text that fills a page before long' AS t FROM n a, n b"
			p, res, err = run(map[string]string{"sql_statement": many}, nil, func(l *exec.Limits) { l.Rows = 50_000 })
			if err != nil || res.Truncated != exec.CutRows || res.Rows != 50_000 || len(p) < 2 {
				t.Errorf("%d pages %+v %v", len(p), res, err)
			}
			_, res, err = run(map[string]string{"sql_statement": many}, nil, func(l *exec.Limits) { l.Output = 100_000 })
			if err != nil || res.Truncated != exec.CutOutput {
				t.Errorf("%+v %v", res, err)
			}
			long := "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 900) SELECT COUNT(*) FROM n a, n b, n c, n d WHERE a.i+b.i+c.i+d.i = 7"
			if _, _, err := run(map[string]string{"sql_statement": long}, nil, func(l *exec.Limits) { l.Time = 300 * time.Millisecond }); err == nil || err.Error() != exec.CutTime {
				t.Errorf("%v", err)
			}
		})
	}
}

func (d *database) executor(t *testing.T) *Executor {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials.yaml")
	if err := os.WriteFile(file, []byte(d.creds), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := credentials.Open(file, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	return &Executor{Credentials: c, Resolver: net.DefaultResolver}
}

// What is signed and not understood is refused before anything is reached; what is
// needed and not signed, too.
func TestSourceRefused(t *testing.T) {
	author := agenttest.NewAuthor(t, map[string][]string{"sys_data_source": fields}, "name")
	good := map[string]string{"format": "postgresql", "jdbc_server": "db.example", "database_name": "shop", "sql_statement": "SELECT 1"}
	needs := func(a *agenttest.Author, f map[string]string) error {
		_, err := (&Executor{}).Needs(agenttest.Work("JDBCProbe", a.Trusted(t, agenttest.Record("sys_data_source", "a", f)), nil))
		return err
	}
	if err := needs(author, good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"format": {"format", "oracle"}, "server": {"jdbc_server", "a b"}, "number": {"jdbc_server", "2130706433"}, "port": {"database_port", "x"},
		"database": {"database_name", ""}, "instance": {"instance_name", "x"}, "url": {"connection_url", "postgres://h/db"},
		"property": {"properties", "init=DROP"}, "twice": {"properties", "read_only=true;read_only=false"}, "read only": {"properties", "read_only=0"},
		"query": {"query", "x"}, "statement": {"sql_statement", ""}, "two statements": {"sql_statement", "SELECT 1; SELECT 2"},
		"last": {"last_run_database_field", `a" OR 1=1 --`}, "missing parameter": {"sql_statement", "SELECT :name"},
	} {
		f := maps.Clone(good)
		f[change[0]] = change[1]
		if change[1] == "" {
			delete(f, change[0])
		}
		if err := needs(author, f); rejection.Of(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, u := range []string{"postgres://user@h/db", "postgres://h/db?sslmode=disable", "postgres://h/a/b", "mysql://h/db#x", "oracle://h/db", "sqlite://h/db", "sqlite:relative", "sqlite:/a/../b"} {
		if err := needs(author, map[string]string{"connection_url": u, "sql_statement": "SELECT 1"}); rejection.Of(err) == nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	for _, missing := range []string{"sql_statement", "jdbc_server", "connection_url", "properties", "last_run_database_field"} {
		var some []string
		for _, f := range fields {
			if f != missing {
				some = append(some, f)
			}
		}
		narrow := agenttest.NewAuthor(t, map[string][]string{"sys_data_source": some})
		if err := needs(narrow, good); !errors.Is(err, &rejection.Error{Code: rejection.FieldUncovered, Subject: missing}) {
			t.Errorf("%s: %v", missing, err)
		}
	}
}

// A closing parenthesis in a statement does not end the subquery it is put in.
func TestLastRunSubquery(t *testing.T) {
	for _, s := range []string{"SELECT 1) UNION SELECT (2", "SELECT 1) x; --", "SELECT (1"} {
		if _, err := strip(PostgreSQL, s); err == nil {
			t.Errorf("%q", s)
		}
	}
}

// Encrypted connections are the default: a server without them is refused, and the
// firewall's grant is asked for the address.
func TestEncryption(t *testing.T) {
	author := agenttest.NewAuthor(t, map[string][]string{"sys_data_source": fields})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("N")) // PostgreSQL's word for "not here"
			c.Close()
		}
	}()
	f := map[string]string{"format": "postgresql", "jdbc_server": "127.0.0.1", "database_port": strconv.Itoa(l.Addr().(*net.TCPAddr).Port), "database_name": "x", "sql_statement": "SELECT 1"}
	e := &Executor{Resolver: net.DefaultResolver}
	w := agenttest.Work("JDBCProbe", author.Trusted(t, agenttest.Record("sys_data_source", "a", f)), nil)
	if _, _, err := agenttest.Run(context.Background(), e, agenttest.Open(t, []string{"127.0.0.1:*"}, nil), w); err == nil {
		t.Error("not encrypted")
	}
	f["jdbc_server"] = "localhost" // a name that leads to an address that no rule allows
	w = agenttest.Work("JDBCProbe", author.Trusted(t, agenttest.Record("sys_data_source", "a", f)), nil)
	if _, _, err := agenttest.Run(context.Background(), e, agenttest.Open(t, []string{"localhost:*"}, nil), w); err == nil || !strings.Contains(err.Error(), "firewall") {
		t.Error(err)
	}
}
