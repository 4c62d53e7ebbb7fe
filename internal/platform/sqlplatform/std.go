package sqlplatform

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Std runs statements through database/sql, with ? for placeholders. Drivers embed it.
type Std struct {
	DB      *sql.DB
	Options *sql.TxOptions
	Dynamic bool // columns have no types: values come with their kinds
	Early   bool // a load writes in short transactions
	Insert  func(root int64, rows []SignatureRow) *Stmt
	Count   func(root, rows int64) *Stmt
	Rows    int // of one INSERT of a load
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Placeholder implements Driver.
func (d *Std) Placeholder(int) string { return "?" }

// Close implements Driver.
func (d *Std) Close() error { return d.DB.Close() }

// Query implements Runner.
func (d *Std) Query(ctx context.Context, s *Stmt, each func([][]byte, []Kind) error) error {
	return d.query(ctx, d.DB, s, each)
}

// Exec implements Runner.
func (d *Std) Exec(ctx context.Context, s *Stmt) (int64, error) { return exec(ctx, d.DB, s) }

func (d *Std) query(ctx context.Context, q querier, s *Stmt, each func([][]byte, []Kind) error) error {
	// A query that is given up is cancelled, or its driver would read it to its end.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := q.QueryContext(ctx, s.SQL(), s.Args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	n := len(names)
	v, to := make([][]byte, n), make([]any, n)
	if !d.Dynamic {
		raw := make([]sql.RawBytes, n)
		for i := range raw {
			to[i] = &raw[i]
		}
		for rows.Next() {
			if err := rows.Scan(to...); err != nil {
				return err
			}
			for i := range raw {
				v[i] = raw[i]
			}
			if err := each(v, nil); err != nil {
				return err
			}
		}
		return rows.Err()
	}
	vals, kinds := make([]any, n), make([]Kind, n)
	bufs := make([][]byte, n)
	for i := range vals {
		to[i] = &vals[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		for i, x := range vals {
			switch x := x.(type) {
			case nil:
				v[i], kinds[i] = nil, Text
			case string:
				bufs[i] = append(bufs[i][:0], x...)
				v[i], kinds[i] = nonNil(bufs[i]), Text
			case []byte:
				v[i], kinds[i] = nonNil(x), Blob
			case int64:
				bufs[i] = strconv.AppendInt(bufs[i][:0], x, 10)
				v[i], kinds[i] = bufs[i], Integer
			case float64:
				bufs[i] = append(bufs[i][:0], FormatReal(x)...)
				v[i], kinds[i] = bufs[i], Real
			default:
				return fmt.Errorf("platform: a value of type %T", x)
			}
		}
		if err := each(v, kinds); err != nil {
			return err
		}
	}
	return rows.Err()
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// FormatReal is the shortest text of a number, with a point, an exponent or a word in
// it: never that of an integer.
func FormatReal(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".eIN") {
		s += ".0"
	}
	return s
}

func exec(ctx context.Context, q querier, s *Stmt) (int64, error) {
	r, err := q.ExecContext(ctx, s.SQL(), s.Args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

type stdTx struct {
	d  *Std
	tx *sql.Tx
}

// Begin implements Driver.
func (d *Std) Begin(ctx context.Context) (Tx, error) {
	tx, err := d.DB.BeginTx(ctx, d.Options)
	if err != nil {
		return nil, err
	}
	return &stdTx{d, tx}, nil
}

func (t *stdTx) Query(ctx context.Context, s *Stmt, each func([][]byte, []Kind) error) error {
	return t.d.query(ctx, t.tx, s, each)
}
func (t *stdTx) Exec(ctx context.Context, s *Stmt) (int64, error) { return exec(ctx, t.tx, s) }

func (t *stdTx) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(err, t.Rollback())
	}
	return t.tx.Commit()
}

func (t *stdTx) Rollback() error {
	if err := t.tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return nil
}

const (
	loadBytes  = 1 << 20  // of one INSERT
	earlyBytes = 16 << 20 // of one short transaction
)

// stdLoader writes rows, many with one INSERT. Where Early is not set, a goroutine
// writes in one transaction what Add collected before.
type stdLoader struct {
	d      *Std
	root   int64
	rows   []SignatureRow
	size   int
	count  int64
	ended  bool
	cancel context.CancelFunc
	pass   chan []SignatureRow
	done   chan error
	tx     Tx
	failed error
}

// Load implements Driver.
func (d *Std) Load(_ context.Context, root int64) (Loader, error) {
	return &stdLoader{d: d, root: root}, nil
}

func (l *stdLoader) Add(ctx context.Context, r SignatureRow) error {
	if l.ended {
		return errors.New("platform: the batch has ended")
	}
	if l.failed != nil {
		return l.failed
	}
	l.rows = append(l.rows, r)
	l.size += len(r.Record) + len(r.Statement) + 64
	switch {
	case l.d.Early && l.size < earlyBytes:
		return nil
	case l.d.Early:
		l.failed = l.write(ctx)
		return l.failed
	case len(l.rows) < l.d.Rows && l.size < loadBytes:
		return nil
	}
	return l.send(ctx)
}

// write is a short transaction.
func (l *stdLoader) write(ctx context.Context) error {
	tx, err := l.d.Begin(ctx)
	if err != nil {
		return err
	}
	for at := 0; at < len(l.rows) && err == nil; at += l.d.Rows {
		_, err = tx.Exec(ctx, l.d.Insert(l.root, l.rows[at:min(at+l.d.Rows, len(l.rows))]))
	}
	if err == nil {
		err = l.counted(ctx, tx, int64(len(l.rows)))
	}
	if err != nil {
		_ = tx.Rollback() // err says more
		return err
	}
	l.rows, l.size = nil, 0
	return tx.Commit(ctx)
}

func (l *stdLoader) counted(ctx context.Context, tx Tx, rows int64) error {
	n, err := tx.Exec(ctx, l.d.Count(l.root, rows))
	if err == nil && n != 1 {
		err = ErrGone
	}
	return err
}

// send hands rows to the goroutine, which it starts for the first ones.
func (l *stdLoader) send(ctx context.Context) error {
	if len(l.rows) == 0 {
		return nil
	}
	if l.tx == nil {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		tx, err := l.d.Begin(own)
		if err != nil {
			cancel()
			return err
		}
		l.tx, l.cancel, l.pass, l.done = tx, cancel, make(chan []SignatureRow, 2), make(chan error, 1)
		go func() {
			for rows := range l.pass {
				if _, err := tx.Exec(own, l.d.Insert(l.root, rows)); err != nil {
					l.done <- err
					return
				}
			}
			l.done <- nil
		}()
	}
	rows := l.rows
	l.rows, l.size = nil, 0
	l.count += int64(len(rows))
	select {
	case l.pass <- rows:
		return nil
	case err := <-l.done:
		l.done <- err
		l.failed = err
		return err
	case <-ctx.Done():
		l.failed = ctx.Err()
		return l.failed
	}
}

func (l *stdLoader) Commit(ctx context.Context) error {
	if l.ended {
		return errors.New("platform: the batch has ended")
	}
	if l.failed != nil {
		return errors.Join(l.failed, l.Rollback())
	}
	if l.d.Early {
		l.ended = true
		if len(l.rows) == 0 {
			return nil
		}
		return l.write(ctx)
	}
	if err := l.send(ctx); err != nil {
		return errors.Join(err, l.Rollback())
	}
	l.ended = true
	if l.tx == nil {
		return nil
	}
	defer l.cancel()
	close(l.pass)
	err := <-l.done
	if err == nil {
		err = l.counted(ctx, l.tx, l.count)
	}
	if err != nil {
		return errors.Join(err, l.tx.Rollback())
	}
	return l.tx.Commit(ctx)
}

func (l *stdLoader) Rollback() error {
	if l.ended {
		return nil
	}
	l.ended, l.rows = true, nil
	if l.tx == nil {
		return nil
	}
	close(l.pass)
	time.AfterFunc(rollbackTime, l.cancel) // what is being written ends soon, or is ended
	<-l.done
	defer l.cancel()
	return l.tx.Rollback()
}

const rollbackTime = 5 * time.Second

// NewestWindow writes Driver.Newest for databases without LATERAL.
func NewestWindow(d Driver, records [][]byte, limit int) *Stmt {
	s := newStmt(d, "SELECT record, revision, idx, statement, path, id, leaves, digest FROM (SELECT ", NewestColumns,
		", ROW_NUMBER() OVER (PARTITION BY s.record ORDER BY s.revision DESC, s.root DESC, s.idx DESC) AS place FROM ",
		d.Own(signatures), " s JOIN ", d.Own(roots), " r ON r.id = s.root WHERE r.digest IS NOT NULL AND s.record IN (")
	for i, r := range records {
		if i > 0 {
			s.add(", ")
		}
		s.arg(r)
	}
	s.add(")) AS n WHERE place <= ", strconv.Itoa(limit))
	s.Bytes = NewestBytes()
	return s
}

// InsertRows writes Std.Insert.
func InsertRows(d Driver, root int64, rows []SignatureRow) *Stmt {
	s := newStmt(d, "INSERT INTO ", d.Own(signatures), " (root, idx, revision, record, statement) VALUES ")
	for i, r := range rows {
		if i > 0 {
			s.add(", ")
		}
		s.add("(").arg(root).add(", ").arg(r.Index).add(", ").arg(r.Revision).add(", ").arg(r.Record).add(", ").arg(r.Statement).add(")")
	}
	return s
}

// CountRows writes Std.Count.
func CountRows(d Driver, root, rows int64) *Stmt {
	return newStmt(d, "UPDATE ", d.Own(roots), " SET rows_count = rows_count + ").arg(rows).add(" WHERE id = ").arg(root).add(" AND digest IS NULL")
}

// Hex is the canonical text of bytes; none: absent.
func Hex(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return fmt.Sprintf(`\x%x`, b)
}
