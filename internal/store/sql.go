package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

//go:embed migrations
var migrations embed.FS

// SQL is the Store on a SQL database.
type SQL struct {
	read    *sql.DB
	write   *sql.DB       // for statements one by one: the same as read on PostgreSQL
	pool    *pgxpool.Pool // PostgreSQL only, as the next
	patient *pgx.ConnConfig
	reading *shelf // SQLite only, as the next
	writing *shelf
	texts   texts
	queue   chan *pendingChange
	stopped chan struct{}
	done    chan struct{}
}

var _ Store = (*SQL)(nil)

// Open opens a database and brings its schema up to date.
//
//	sqlite:PATH                       a file, made with its folder if it is missing
//	postgres://user@host/database     as libpq writes it; also postgresql://
func Open(ctx context.Context, dsn string) (*SQL, error) {
	s := &SQL{queue: make(chan *pendingChange, 1024), stopped: make(chan struct{}), done: make(chan struct{})}
	var err error
	committers := 1
	switch {
	case strings.HasPrefix(dsn, "sqlite:"):
		err = s.openSQLite(ctx, strings.TrimPrefix(dsn, "sqlite:"))
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		committers = 2
		err = s.openPostgres(ctx, dsn)
	default:
		return nil, errors.New("store: want sqlite:PATH or postgres://… as the database")
	}
	if err != nil {
		s.closeDB()
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		s.closeDB()
		return nil, err
	}
	finished := make(chan struct{}, committers)
	for range committers {
		go func() { s.commitLoop(); finished <- struct{}{} }()
	}
	go func() {
		for range committers {
			<-finished
		}
		close(s.done)
	}()
	return s, nil
}

func (s *SQL) openSQLite(ctx context.Context, path string) error {
	if path == "" {
		return errors.New("store: sqlite: without a path")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	// A server that is killed must lose nothing that it has answered: FULL.
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(ON)"}}
	uri := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
	var err error
	if s.write, err = sql.Open("sqlite", uri); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.reading, s.writing = &shelf{}, &shelf{}
	s.write.SetMaxOpenConns(1) // one writer; it never waits for a lock of its own process
	if err := s.write.PingContext(ctx); err != nil {
		return fmt.Errorf("store: %s: %w", path, err)
	}
	q.Set("_txlock", "deferred")
	uri = (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
	if s.read, err = sql.Open("sqlite", uri); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.read.SetMaxOpenConns(16)
	s.read.SetMaxIdleConns(16)
	return os.Chmod(path, 0o600)
}

func (s *SQL) openPostgres(ctx context.Context, dsn string) error {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("store: %w", err) // pgx leaves the password out
	}
	if c.MaxConns < 16 {
		c.MaxConns = 16
	}
	c.ConnConfig.RuntimeParams["application_name"] = "greatseal"
	if c.ConnConfig.ConnectTimeout == 0 { // a network that swallows packets must not hold us for minutes
		c.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	s.patient = c.ConnConfig.Copy()
	c.AfterConnect = limitTimes
	if s.pool, err = pgxpool.NewWithConfig(ctx, c); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.read = stdlib.OpenDBFromPool(s.pool)
	s.write = s.read
	return nil
}

// limitTimes bounds what the server waits for in the database: a lock that
// somebody holds, a statement that does not come to an end, a transaction that its
// client has left alone. Times that the database, its user or the address sets
// stay as they are. By a statement: poolers refuse such parameters when one
// connects.
func limitTimes(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config(name, value, false) FROM (VALUES
		('statement_timeout', '60s'), ('lock_timeout', '20s'), ('idle_in_transaction_session_timeout', '60s')) AS t (name, value)
		WHERE current_setting(name) = '0'`)
	return err
}

// noLimits takes away what limitTimes leaves: migrations last as long as they must,
// whoever has set a time.
func noLimits(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config(name, '0', false) FROM (VALUES ('statement_timeout'), ('lock_timeout')) AS t (name)`)
	return err
}

func (s *SQL) migrate(ctx context.Context) error {
	dialect, dir, db := goose.DialectSQLite3, "migrations/sqlite", s.write
	if s.pool != nil {
		// On connections of its own: a large table takes long, and replicas that start
		// together take turns.
		dialect, dir, db = goose.DialectPostgres, "migrations/postgres", stdlib.OpenDB(*s.patient, stdlib.OptionAfterConnect(noLimits))
		defer db.Close()
		conn, err := db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		defer conn.Close()
		const lock = 0x67736561 // "gsea"
		if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", lock); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lock)
	}
	sub, err := fs.Sub(migrations, dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	p, err := goose.NewProvider(dialect, db, sub)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	return nil
}

// Health says whether the database answers.
func (s *SQL) Health(ctx context.Context) error { return s.wrap(s.read.PingContext(ctx)) }

// Close waits for changes under way and closes the database.
func (s *SQL) Close() error {
	select {
	case <-s.stopped:
		return nil
	default:
	}
	close(s.stopped)
	<-s.done
	return s.closeDB()
}

func (s *SQL) closeDB() error {
	var errs []error
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.write != nil && s.write != s.read {
		errs = append(errs, s.write.Close())
	}
	if s.pool != nil {
		s.pool.Close()
	}
	return errors.Join(errs...)
}

// stmt is one statement of a transaction.
type stmt struct {
	sql  string
	args []any
}

// tx runs statements; on PostgreSQL all of one call travel together.
type tx interface {
	// run executes the statements in order and returns the rows that each changed.
	run(ctx context.Context, ss []stmt) ([]int64, error)
	query(ctx context.Context, sql string, args ...any) (*sql.Rows, error)
}

type sqlTx struct {
	tx   *sql.Tx
	kept *shelf // nil on PostgreSQL, whose client keeps statements itself
}

func (t sqlTx) run(ctx context.Context, ss []stmt) ([]int64, error) {
	// Groups repeat a few statements many times, and parsing one costs as much as
	// running it.
	prepared := map[string]*sql.Stmt{}
	defer func() {
		for _, p := range prepared {
			p.Close()
		}
	}()
	out := make([]int64, len(ss))
	for i, s := range ss {
		p := prepared[s.sql]
		if p == nil {
			var err error
			if k := t.kept.get(s.sql); k != nil {
				p = t.tx.StmtContext(ctx, k)
			} else if p, err = t.tx.PrepareContext(ctx, s.sql); err != nil {
				return nil, err
			}
			prepared[s.sql] = p
		}
		r, err := p.ExecContext(ctx, s.args...)
		if err != nil {
			return nil, err
		}
		if out[i], err = r.RowsAffected(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (t sqlTx) query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, q, args...)
}

type pgTx struct{ tx pgx.Tx }

func (t pgTx) run(ctx context.Context, ss []stmt) ([]int64, error) {
	var b pgx.Batch
	for _, s := range ss {
		b.Queue(s.sql, s.args...)
	}
	r := t.tx.SendBatch(ctx, &b)
	out := make([]int64, len(ss))
	for i := range ss {
		tag, err := r.Exec()
		if err != nil {
			r.Close()
			return nil, err
		}
		out[i] = tag.RowsAffected()
	}
	return out, r.Close()
}

func (t pgTx) query(context.Context, string, ...any) (*sql.Rows, error) {
	return nil, errors.New("store: no queries in a pipelined transaction")
}

// inTx runs f in one transaction through the pipelined road.
func (s *SQL) inTx(ctx context.Context, f func(tx) error) error {
	if s.pool != nil {
		t, err := s.pool.Begin(ctx)
		if err != nil {
			return &beginError{err}
		}
		if err := f(pgTx{t}); err != nil {
			t.Rollback(context.WithoutCancel(ctx))
			return err
		}
		return committed(t.Commit(ctx))
	}
	return s.inSQLTx(ctx, f)
}

// beginError is that of a transaction which did not begin: whatever was to be done
// in it is not at fault.
type beginError struct{ err error }

func (e *beginError) Error() string { return e.err.Error() }
func (e *beginError) Unwrap() error { return e.err }

// commitError is that of a commit which did not come back: the transaction was
// applied, or not.
type commitError struct{ err error }

func (e *commitError) Error() string { return e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

func committed(err error) error {
	if err == nil {
		return nil
	}
	return &commitError{err}
}

// inSQLTx runs f in one transaction in which queries are possible too.
func (s *SQL) inSQLTx(ctx context.Context, f func(tx) error) error {
	t, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return &beginError{err}
	}
	if err := f(sqlTx{t, s.writing}); err != nil {
		t.Rollback()
		return err
	}
	if err := t.Commit(); err != nil {
		return committed(err)
	}
	s.writing.fill(ctx, s.write) // not in the transaction, which has the only connection
	return nil
}

// wrap gives an error its sentinel.
func (s *SQL) wrap(err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	var lite *sqlite.Error
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.As(err, &pg):
		// Class 08 connection, 40 roll-back, 53 resources, 57 operator intervention.
		switch {
		case len(pg.Code) == 5 && strings.Contains("08 40 53 57", pg.Code[:2]):
			return fmt.Errorf("%w: %w", ErrBusy, err)
		case pg.Code == "55P03", pg.Code == "25P03": // a lock that was waited for in vain; left alone for too long
			return fmt.Errorf("%w: %w", ErrBusy, err)
		case pg.Code == "23505":
			return fmt.Errorf("%w: %w", ErrExists, err)
		}
		return fmt.Errorf("store: %w", err)
	case errors.As(err, &lite):
		switch lite.Code() & 0xff {
		case 5, 6: // SQLITE_BUSY, SQLITE_LOCKED
			return fmt.Errorf("%w: %w", ErrBusy, err)
		}
		switch lite.Code() {
		case 1555, 2067: // SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE
			return fmt.Errorf("%w: %w", ErrExists, err)
		}
		return fmt.Errorf("store: %w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case s.pool != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict):
		return fmt.Errorf("%w: %w", ErrBusy, err) // the connection broke
	}
	return fmt.Errorf("store: %w", err)
}

func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func at(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMilli(v).UTC()
}

// text is s as both databases keep it: PostgreSQL has no zero byte in text.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
