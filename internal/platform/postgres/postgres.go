// Package postgres is the platform of PostgreSQL. Greatseal's tables are in a schema of
// their own.
//
// Values are read as PostgreSQL's own text of them, under settings of the session that
// this package makes and that no role or database changes; docs/spec/platforms.md has
// the rest. Capture notes changes by triggers, in the transaction that makes them.
package postgres

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
	"github.com/greatseal-io/greatseal/record/condition"
)

// driver implements sqlplatform.Driver and sqlplatform.Capture.
type driver struct {
	pool   *pgxpool.Pool
	schema string // of the application
	own    string // of Greatseal
}

// Platform is the platform of one database. It implements platform.Capturer.
type Platform struct {
	*sqlplatform.Platform
	d *driver
}

// Open connects to a database: dsn is a URL or a list of keywords, as libpq takes them.
func Open(ctx context.Context, dsn string, o platform.Options) (*Platform, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: the address cannot be read") // it may hold a password
	}
	for k, v := range map[string]string{
		"TimeZone": "UTC", "DateStyle": "ISO, YMD", "IntervalStyle": "iso_8601", "bytea_output": "hex", "extra_float_digits": "1",
		"lc_monetary": "C", "xmlbinary": "base64", "client_encoding": "UTF8", "search_path": "pg_catalog", "row_security": "off",
		"standard_conforming_strings": "on", "quote_all_identifiers": "off", "array_nulls": "on", "application_name": "greatseal",
	} {
		c.ConnConfig.RuntimeParams[k] = v
	}
	c.MaxConns = max(c.MaxConns, 16)
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("postgres: %w", err)
	}
	d := &driver{pool, cmp.Or(o.Schema, "public"), cmp.Or(o.Own, "greatseal")}
	if d.schema == d.own {
		pool.Close()
		return nil, errors.New("postgres: Greatseal's schema is not the application's")
	}
	p, err := sqlplatform.New(d, o)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &Platform{p, d}, nil
}

func (d *driver) Name() string               { return "postgres" }
func (d *driver) Close() error               { d.pool.Close(); return nil }
func (d *driver) Quote(name string) string   { return pgx.Identifier{name}.Sanitize() }
func (d *driver) Placeholder(n int) string   { return "$" + strconv.Itoa(n) }
func (d *driver) Own(table string) string    { return pgx.Identifier{d.own, table}.Sanitize() }
func (d *driver) Dialect() condition.Dialect { return condition.PostgreSQL }
func (d *driver) Pages() bool                { return false }
func (d *driver) NewestBatch() int           { return 500 }
func (d *driver) Lock() string               { return " FOR UPDATE" }
func (d *driver) Ignore() (verb, end string) { return "INSERT INTO", " ON CONFLICT DO NOTHING" }

// arguments are the parameters of a statement: bytes as they are, the rest as text.
func arguments(args []any) (values [][]byte, formats []int16, err error) {
	values, formats = make([][]byte, len(args)), make([]int16, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case nil:
		case string:
			values[i] = []byte(a)
		case []byte:
			values[i], formats[i] = append([]byte{}, a...), 1
		case int64:
			values[i] = strconv.AppendInt(nil, a, 10)
		default:
			return nil, nil, fmt.Errorf("postgres: an argument of type %T", a)
		}
	}
	return values, formats, nil
}

// query runs a statement on one connection. Where each fails, the connection is of no
// more use.
func query(ctx context.Context, c *pgconn.PgConn, s *sqlplatform.Stmt, each func([][]byte, []sqlplatform.Kind) error) (int64, bool, error) {
	values, formats, err := arguments(s.Args)
	if err != nil {
		return 0, true, err
	}
	r := c.ExecParams(ctx, s.SQL(), values, nil, formats, nil)
	for r.NextRow() {
		if each == nil {
			continue
		}
		v := r.Values()
		for _, i := range s.Bytes {
			if v[i] == nil {
				continue
			}
			if len(v[i]) < 2 || v[i][0] != '\\' {
				return 0, false, errors.New("postgres: bytes are expected")
			}
			b := v[i][2:]
			n, err := hex.Decode(b, b)
			if err != nil {
				return 0, false, fmt.Errorf("postgres: %w", err)
			}
			v[i] = b[:n]
		}
		if err := each(v, nil); err != nil {
			return 0, false, err
		}
	}
	tag, err := r.Close()
	return tag.RowsAffected(), true, err
}

// run runs a statement on a connection of the pool.
func (d *driver) run(ctx context.Context, s *sqlplatform.Stmt, each func([][]byte, []sqlplatform.Kind) error) (int64, error) {
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Release()
	n, clean, err := query(ctx, c.Conn().PgConn(), s, each)
	if !clean {
		drop(c)
	}
	return n, err
}

// drop ends a connection that is in the middle of a result, without reading the rest.
func drop(c *pgxpool.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Conn().PgConn().Close(ctx) // at once: ctx has ended
}

func (d *driver) Query(ctx context.Context, s *sqlplatform.Stmt, each func([][]byte, []sqlplatform.Kind) error) error {
	_, err := d.run(ctx, s, each)
	return err
}

func (d *driver) Exec(ctx context.Context, s *sqlplatform.Stmt) (int64, error) {
	return d.run(ctx, s, nil)
}

type tx struct {
	c    *pgxpool.Conn
	done bool
}

// Begin starts a transaction. The application's triggers find the search path of the
// role in it.
func (d *driver) Begin(ctx context.Context) (sqlplatform.Tx, error) {
	c, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.Conn().PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL search_path TO "+pgx.Identifier{d.schema}.Sanitize()).ReadAll(); err != nil {
		drop(c)
		c.Release()
		return nil, err
	}
	return &tx{c: c}, nil
}

func (t *tx) Query(ctx context.Context, s *sqlplatform.Stmt, each func([][]byte, []sqlplatform.Kind) error) error {
	if t.done {
		return errors.New("postgres: the transaction has ended")
	}
	_, clean, err := query(ctx, t.c.Conn().PgConn(), s, each)
	if !clean {
		t.end(true)
	}
	return err
}

func (t *tx) Exec(ctx context.Context, s *sqlplatform.Stmt) (int64, error) {
	if t.done {
		return 0, errors.New("postgres: the transaction has ended")
	}
	n, _, err := query(ctx, t.c.Conn().PgConn(), s, nil)
	return n, err
}

func (t *tx) end(broken bool) {
	if t.done {
		return
	}
	t.done = true
	if broken {
		drop(t.c)
	}
	t.c.Release()
}

func (t *tx) Commit(ctx context.Context) error {
	if t.done {
		return errors.New("postgres: the transaction has ended")
	}
	r, err := t.c.Conn().PgConn().Exec(ctx, "COMMIT").ReadAll()
	if err == nil && (len(r) != 1 || r[0].CommandTag.String() != "COMMIT") {
		err = errors.New("postgres: the transaction was rolled back")
	}
	t.end(err != nil)
	return err
}

// Rollback gives the connection up: the server rolls back.
func (t *tx) Rollback() error {
	if !t.done {
		ctx, cancel := context.WithTimeout(context.Background(), rollbackTime)
		defer cancel()
		_, err := t.c.Conn().PgConn().Exec(ctx, "ROLLBACK").ReadAll()
		t.end(err != nil)
	}
	return nil
}

// Explain gives PostgreSQL's errors names.
func (d *driver) Explain(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) || known(err) {
		return err
	}
	// Detail and Where may hold values: they do not travel.
	short := fmt.Errorf("%s (%s)", e.Message, e.Code)
	switch {
	case e.Code == "23505":
		return fmt.Errorf("%w: a row with unique column %.80q is there (%s)", platform.ErrExists, e.ConstraintName, e.Code)
	case e.Code == "40001", e.Code == "40P01":
		return fmt.Errorf("%w: %w", platform.ErrConflict, short)
	case strings.HasPrefix(e.Code, "22"):
		return fmt.Errorf("%w: the database refuses it (%s)", platform.ErrValue, e.Code) // the message holds the value
	case strings.HasPrefix(e.Code, "23"):
		return fmt.Errorf("%w: constraint %.80q (%s)", platform.ErrValue, cmp.Or(e.ConstraintName, e.ColumnName), e.Code)
	case e.Code == "54000":
		return fmt.Errorf("%w: %w", platform.ErrLimit, short)
	}
	return short
}

func known(err error) bool {
	for _, e := range []error{platform.ErrExists, platform.ErrConflict, platform.ErrValue, platform.ErrLimit} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Newest implements sqlplatform.Driver.
func (d *driver) Newest(records [][]byte, limit int) *sqlplatform.Stmt {
	var a strings.Builder
	a.WriteByte('{')
	for i, r := range records {
		if i > 0 {
			a.WriteByte(',')
		}
		a.WriteString(`"\\x` + hex.EncodeToString(r) + `"`)
	}
	a.WriteByte('}')
	s := sqlplatform.NewStmt(d, `SELECT n.* FROM unnest($1::bytea[]) AS k(record) CROSS JOIN LATERAL (
		SELECT `+sqlplatform.NewestColumns+` FROM `+d.Own("greatseal_signature")+` s JOIN `+d.Own("greatseal_root")+` r ON r.id = s.root
		WHERE s.record = k.record AND r.digest IS NOT NULL ORDER BY s.revision DESC, s.root DESC, s.idx DESC LIMIT `+strconv.Itoa(limit)+`) AS n`, a.String())
	s.Bytes = sqlplatform.NewestBytes()
	return s
}
