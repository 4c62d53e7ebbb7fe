// Package sql runs data sources (records of sys_data_source) against PostgreSQL,
// MariaDB or MySQL, and SQLite.
//
// Invariants:
//
//  1. The statement, the server and the database come from signed fields. A
//     parameter is bound by the database, never spliced.
//  2. One statement is run, in a read-only transaction unless the signed properties
//     say read_only=false.
//  3. Connections are encrypted and the server's name is verified, unless the signed
//     properties say encryption=none.
//  4. What is signed names a credential; the agent's own store has it.
//
// A caller may not conclude that a read-only transaction writes nothing on a server
// where the credential may run functions with effects: give it one that may not.
package sql

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/base64"
	"errors"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/greatseal-io/greatseal/internal/agent/credentials"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
)

// Executor runs data sources.
type Executor struct {
	Credentials *credentials.Store
	Resolver    exec.Resolver
}

// Topics are those of databases.
func (*Executor) Topics() []string { return []string{"JDBCProbe"} }

// Needs is the database and the credential.
func (*Executor) Needs(w *exec.Work) (*exec.Needs, error) {
	s, err := readSource(w.Main())
	if err != nil {
		return nil, err
	}
	if _, err := s.statement.Values(w.Params); err != nil {
		return nil, err
	}
	n := &exec.Needs{Targets: []firewall.Target{s.target}}
	if s.credential != "" {
		n.Credentials = []string{s.credential}
	}
	return n, nil
}

// Run runs the statement and brings its rows.
func (e *Executor) Run(ctx context.Context, w *exec.Work, g *firewall.Grant, out exec.Output) (res exec.Result, err error) {
	s, err := readSource(w.Main())
	if err != nil {
		return res, err
	}
	values, err := s.statement.Values(w.Params)
	if err != nil {
		return res, err
	}
	db, err := e.open(s, g)
	if err != nil {
		return res, err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return res, exec.Stopped(ctx, failure("cannot connect", err))
	}
	defer conn.Close()
	if err := s.confine(ctx, conn); err != nil {
		return res, exec.Stopped(ctx, failure("cannot be made read-only", err))
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: !s.writes && s.dialect != SQLite})
	if err != nil {
		return res, exec.Stopped(ctx, failure("cannot begin", err))
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, s.statement.Text, values...)
	if err != nil {
		return res, exec.Stopped(ctx, failure("refused the statement", err))
	}
	defer rows.Close()
	pages, err := copyRows(ctx, rows, w.Limits, out)
	if err != nil {
		return res, exec.Stopped(ctx, err)
	}
	res.Rows, res.Truncated = pages.Count, pages.Cut
	rows.Close()
	if s.writes {
		if pages.Cut != "" {
			return res, exec.Failure("a limit cut the result: nothing was changed")
		}
		if err := tx.Commit(); err != nil {
			return res, exec.Stopped(ctx, failure("did not commit", err))
		}
	}
	return res, nil
}

// confine takes from a connection what a transaction does not.
func (s *source) confine(ctx context.Context, c *sql.Conn) error {
	switch s.dialect {
	case MariaDB:
		if !s.writes { // statements that end a transaction by themselves are held by this
			if _, err := c.ExecContext(ctx, "SET SESSION TRANSACTION READ ONLY"); err != nil {
				return err
			}
		}
	case SQLite:
		const attached = 7 // SQLITE_LIMIT_ATTACHED: no other file by ATTACH or VACUUM INTO
		if _, err := sqlite.Limit(c, attached, 0); err != nil {
			return err
		}
		if !s.writes {
			if _, err := c.ExecContext(ctx, "PRAGMA query_only=1"); err != nil {
				return err
			}
		}
	}
	return nil
}

// open prepares connections; none is made yet.
func (e *Executor) open(s *source, g *firewall.Grant) (*sql.DB, error) {
	if !g.Covers(s.target) {
		return nil, exec.Failed("the firewall's grant does not cover %s", s.target)
	}
	var user, password string
	tlsConfig := &tls.Config{ServerName: s.target.Host, MinVersion: tls.VersionTLS12}
	if s.credential != "" {
		c, err := e.Credentials.Get(s.credential)
		if err != nil {
			return nil, exec.Failed("this agent has no credential %q", s.credential)
		}
		user, password = c.Login()
		tlsConfig.RootCAs = c.Roots()
	}
	if s.plaintext {
		tlsConfig = nil
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return exec.Dial(ctx, e.Resolver, g, s.target)
	}
	switch s.dialect {
	case PostgreSQL:
		// Of a URL without parts nothing but the defaults comes; those that the
		// environment or a file of passwords gives are overwritten or cleared.
		cfg, err := pgx.ParseConfig("postgres://localhost/?sslmode=disable&passfile=" + url.QueryEscape(os.DevNull) + "&servicefile=" + url.QueryEscape(os.DevNull))
		if err != nil {
			return nil, exec.Failure("the environment of the agent disturbs its connections (PG variables)")
		}
		cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password = s.target.Host, s.target.Port, s.database, user, password
		cfg.TLSConfig, cfg.Fallbacks = tlsConfig, nil
		cfg.RuntimeParams = map[string]string{"standard_conforming_strings": "on", "client_encoding": "UTF8", "application_name": "greatseal-agent", "timezone": "UTC"}
		cfg.DialFunc = dial
		cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
		cfg.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
		return stdlib.OpenDB(*cfg), nil
	case MariaDB:
		cfg := mysql.NewConfig()
		cfg.User, cfg.Passwd, cfg.DBName = user, password, s.database
		cfg.Net, cfg.Addr, cfg.DialFunc = "tcp", s.target.String(), dial
		cfg.TLS = tlsConfig
		cfg.AllowFallbackToPlaintext = false
		cfg.AllowCleartextPasswords, cfg.AllowOldPasswords, cfg.AllowAllFiles = false, false, false
		cfg.MultiStatements, cfg.InterpolateParams = false, false
		cfg.Params = map[string]string{"sql_mode": "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'", "time_zone": "'+00:00'"}
		cfg.Collation = "utf8mb4_bin"
		cfg.Logger = quiet{}
		c, err := mysql.NewConnector(cfg)
		if err != nil {
			return nil, exec.Failure("the data source's settings are not a connection's")
		}
		return sql.OpenDB(c), nil
	}
	// A link would lead elsewhere than to the file that the firewall was asked for.
	if real, err := filepath.EvalSymlinks(s.target.Path); err != nil || real != s.target.Path {
		return nil, exec.Failure("the database's file is not there, or reached by a link")
	}
	mode := "ro"
	if s.writes {
		mode = "rw"
	}
	u := url.URL{Scheme: "file", Path: s.target.Path, RawQuery: "mode=" + mode + "&_pragma=busy_timeout(5000)&_pragma=trusted_schema(0)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, exec.Failure("the file cannot be opened")
	}
	return db, nil
}

// quiet drops what the driver would log: it may quote a server's text.
type quiet struct{}

func (quiet) Print(...any) {}

// failure keeps the kind of a database's error and leaves its text out: that may
// quote rows and parameters.
func failure(what string, err error) error {
	var pe *pgconn.PgError
	var me *mysql.MySQLError
	var se *sqlite.Error
	var f exec.Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &pe):
		return exec.Failed("the database %s: SQLSTATE %.5s", what, printable(pe.Code))
	case errors.As(err, &me):
		return exec.Failed("the database %s: error %d, SQLSTATE %s", what, me.Number, printable(string(me.SQLState[:])))
	case errors.As(err, &se):
		return exec.Failed("the database %s: SQLite error %d", what, se.Code())
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return exec.Failed("the database %s: its certificate is not trusted here", what)
	}
	return exec.Failed("the database %s", what)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' && r < 'A' || r > 'Z' {
			return -1
		}
		return r
	}, s)
}

// copyRows reads rows one by one.
func copyRows(ctx context.Context, rows *sql.Rows, l exec.Limits, out exec.Output) (*exec.Rows, error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, failure("broke off", err)
	}
	columns, binary := make([]exec.Column, len(types)), make([]bool, len(types))
	for i, t := range types {
		columns[i] = exec.Column{Name: t.Name(), Type: t.DatabaseTypeName()}
		binary[i] = strings.Contains(t.DatabaseTypeName(), "BLOB") || strings.Contains(t.DatabaseTypeName(), "BINARY") || t.DatabaseTypeName() == "BYTEA"
	}
	pages, err := exec.NewRows(out, l, columns)
	if err != nil {
		return nil, err
	}
	row, ptr := make([]any, len(types)), make([]any, len(types))
	for i := range row {
		ptr[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(ptr...); err != nil {
			return nil, failure("brought a row that cannot be read", err)
		}
		for i := range row {
			row[i] = value(row[i], binary[i])
		}
		if err := pages.Add(ctx, row); errors.Is(err, exec.ErrCut) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil && pages.Cut == "" {
		return nil, failure("broke off", err)
	}
	return pages, pages.Close(ctx)
}

// value is a column's value in JSON: numbers beyond it and dates as text, bytes as
// {"base64": …}.
func value(v any, binary bool) any {
	switch v := v.(type) {
	case []byte:
		if binary || !utf8.Valid(v) {
			return map[string]string{"base64": base64.StdEncoding.EncodeToString(v)}
		}
		return string(v)
	case string:
		if !utf8.ValidString(v) {
			return map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(v))}
		}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "not a number"
		}
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return v
}
