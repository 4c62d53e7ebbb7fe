package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
)

// loader copies rows in PostgreSQL's binary format, in one transaction: the server
// reads while the next rows are made.
type loader struct {
	d      *driver
	c      *pgxpool.Conn
	cancel context.CancelFunc
	root   int64
	rows   int64
	buf    []byte
	pass   chan []byte
	rest   []byte // what Read has still to hand on
	done   chan error
	ended  bool
	failed error
}

const loadBuffer = 256 << 10

// Load implements sqlplatform.Driver.
func (d *driver) Load(ctx context.Context, root int64) (sqlplatform.Loader, error) {
	return &loader{d: d, root: root}, nil
}

// start opens the transaction at the first row: a batch without rows needs none.
func (l *loader) start(ctx context.Context) error {
	c, err := l.d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	pg := c.Conn().PgConn()
	if _, err := pg.Exec(ctx, "BEGIN").ReadAll(); err != nil {
		drop(c)
		c.Release()
		return err
	}
	copying, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.c, l.cancel, l.pass, l.done = c, cancel, make(chan []byte, 4), make(chan error, 1)
	l.buf = append(make([]byte, 0, loadBuffer+4096), "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	go func() {
		_, err := pg.CopyFrom(copying, l, "COPY "+l.d.Own("greatseal_signature")+" (root, idx, revision, record, statement) FROM STDIN (FORMAT binary)")
		l.done <- err
	}()
	return nil
}

// Read hands the buffers to the connection.
func (l *loader) Read(b []byte) (int, error) {
	for len(l.rest) == 0 {
		next, ok := <-l.pass
		if !ok {
			return 0, io.EOF
		}
		l.rest = next
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// send hands a buffer over. The copying may have ended before.
func (l *loader) send(ctx context.Context, b []byte) error {
	select {
	case l.pass <- b:
		return nil
	case err := <-l.done:
		if err == nil {
			err = errors.New("postgres: the copy ended early")
		}
		l.done <- err
		l.failed = err
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Add implements sqlplatform.Loader.
func (l *loader) Add(ctx context.Context, r sqlplatform.SignatureRow) error {
	if l.ended {
		return errors.New("postgres: the batch has ended")
	}
	if l.failed != nil {
		return l.failed
	}
	if l.c == nil {
		if err := l.start(ctx); err != nil {
			return err
		}
	}
	b := binary.BigEndian.AppendUint16(l.buf, 5)
	for _, n := range []int64{l.root, r.Index, r.Revision} {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(n))
	}
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(r.Record))), r.Record...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(r.Statement))), r.Statement...)
	l.rows++
	if l.buf = b; len(b) < loadBuffer {
		return nil
	}
	l.buf = make([]byte, 0, loadBuffer+4096)
	return l.send(ctx, b)
}

// Commit implements sqlplatform.Loader.
func (l *loader) Commit(ctx context.Context) error {
	if l.ended {
		return errors.New("postgres: the batch has ended")
	}
	if l.c == nil {
		l.ended = true
		return nil
	}
	if l.failed == nil {
		if err := l.send(ctx, binary.BigEndian.AppendUint16(l.buf, 0xffff)); err != nil && l.failed == nil {
			_ = l.Rollback() // err says more
			return err
		}
	}
	close(l.pass)
	err := <-l.done
	l.pass, l.ended = nil, true
	defer l.cancel()
	t := &tx{c: l.c}
	if err == nil {
		// The job's row last: who drops or seals the job waits for it, or ends this.
		var n int64
		s := sqlplatform.NewStmt(l.d, "UPDATE "+l.d.Own("greatseal_root")+" SET rows_count = rows_count + $1 WHERE id = $2 AND digest IS NULL", l.rows, l.root)
		if n, err = t.Exec(ctx, s); err == nil && n != 1 {
			err = sqlplatform.ErrGone
		}
	}
	if err != nil {
		_ = t.Rollback() // err says more
		return err
	}
	return t.Commit(ctx)
}

// Rollback implements sqlplatform.Loader.
func (l *loader) Rollback() error {
	if l.ended {
		return nil
	}
	l.ended = true
	if l.c == nil {
		return nil
	}
	l.cancel()
	close(l.pass)
	<-l.done
	drop(l.c)
	l.c.Release()
	return nil
}
