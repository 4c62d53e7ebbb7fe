package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/statement"
)

const bundleLevel = -1

// querier is a database or a transaction of it.
type querier interface {
	QueryRowContext(ctx context.Context, q string, args ...any) *sql.Row
}

// Sequence gives waiting entries their index. The head's row is the lock: one
// sequencer at a time, whatever the number of replicas.
func (s *SQL) Sequence(ctx context.Context, limit int) (int, error) {
	n := 0
	err := s.inSQLTx(ctx, func(t tx) error {
		st := t.(sqlTx)
		head, err := s.lockHead(ctx, st)
		if err != nil {
			return err
		}
		type waiting struct {
			id, time      int64
			kind          string
			request, data []byte
		}
		rows, err := st.query(ctx, `SELECT id, kind, request, time, data FROM log_waiting ORDER BY id LIMIT $1`, int64(limit))
		list, err := collect(rows, err, func(r scanner) (w waiting, err error) {
			err = r.Scan(&w.id, &w.kind, &w.request, &w.time, &w.data)
			return w, err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		entries := make([][]byte, len(list))
		for i, w := range list {
			entries[i] = w.data
		}
		b, err := audit.Integrate(ctx, tileReader{st.tx}, head.Tree, entries)
		if err != nil {
			return err
		}
		placed := inserts{texts: &s.texts}
		for i, w := range list {
			placed.add(`INSERT INTO log_entries (idx, kind, request, time)`, "", small, head.Tree.Size+int64(i), w.kind, w.request, w.time)
		}
		ss := placed.stmts()
		if s.pool == nil { // one writer: what has an ID up to the last one's is in the list
			ss = append(ss, stmt{`DELETE FROM log_waiting WHERE id <= $1`, []any{list[len(list)-1].id}})
		} else {
			ids := make([]int64, len(list))
			for i, w := range list {
				ids[i] = w.id
			}
			ss = append(ss, stmt{`DELETE FROM log_waiting WHERE id = ANY($1)`, []any{ids}})
		}
		for _, tile := range b.Tiles {
			ss = append(ss, putTile(tile.Tile.L, tile.Tile.N, tile.Tile.W, tile.Data))
		}
		for _, bundle := range b.Bundles {
			ss = append(ss, putTile(bundleLevel, bundle.Index, bundle.W, bundle.Data))
		}
		ss = append(ss, stmt{`UPDATE log_head SET size = $1, root = $2`, []any{b.Tree.Size, b.Tree.Root[:]}})
		n = len(list)
		_, err = st.run(ctx, ss)
		return err
	})
	if err != nil {
		return 0, s.wrap(err)
	}
	return n, nil
}

func putTile(level int, n int64, w int, data []byte) stmt {
	return stmt{`INSERT INTO log_tiles (level, n, w, data) VALUES ($1, $2, $3, $4)
		ON CONFLICT (level, n) DO UPDATE SET w = excluded.w, data = excluded.data`, []any{int64(level), n, int64(w), data}}
}

func (s *SQL) lockHead(ctx context.Context, t sqlTx) (*Head, error) {
	empty := audit.EmptyTree()
	if _, err := t.tx.ExecContext(ctx, `INSERT INTO log_head (one, size, root, note, signed) VALUES (1, 0, $1, $2, 0) ON CONFLICT DO NOTHING`, empty.Root[:], []byte{}); err != nil {
		return nil, err
	}
	lock := ""
	if s.pool != nil {
		lock = " FOR UPDATE"
	}
	return readHead(ctx, t.tx, lock)
}

func readHead(ctx context.Context, q querier, lock string) (*Head, error) {
	h := Head{Tree: audit.EmptyTree()}
	var root []byte
	err := q.QueryRowContext(ctx, `SELECT size, root, note, signed FROM log_head`+lock).Scan(&h.Tree.Size, &root, &h.Note, &h.Signed)
	if errors.Is(err, sql.ErrNoRows) {
		return &h, nil
	}
	if err == nil && len(root) != len(h.Tree.Root) {
		err = fmt.Errorf("log head with a root of %d bytes", len(root))
	}
	copy(h.Tree.Root[:], root)
	return &h, err
}

// Head returns the log's head.
func (s *SQL) Head(ctx context.Context) (*Head, error) {
	h, err := readHead(ctx, s.read, "")
	return h, s.wrap(err)
}

// SetCheckpoint publishes a signed note; an older one than the published is left.
func (s *SQL) SetCheckpoint(ctx context.Context, size int64, note []byte) error {
	_, err := s.exec(ctx, `UPDATE log_head SET note = $1, signed = $2 WHERE signed <= $2 AND size >= $2`, note, size)
	return err
}

type tileReader struct{ q querier }

func readTile(ctx context.Context, q querier, level int, n int64) (w int, data []byte, err error) {
	var width int64
	err = q.QueryRowContext(ctx, `SELECT w, data FROM log_tiles WHERE level = $1 AND n = $2`, int64(level), n).Scan(&width, &data)
	return int(width), data, err
}

// ReadTiles reads hash tiles: the widest form of each is kept, and a narrower
// one is its beginning.
func (r tileReader) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		w, data, err := readTile(ctx, r.q, t.L, t.N)
		if err != nil {
			return nil, err
		}
		if w < t.W {
			return nil, fmt.Errorf("%w: tile %s has %d hashes", ErrNotFound, audit.TilePath(t), w)
		}
		if out[i], err = audit.Narrow(tlog.Tile{H: t.H, L: t.L, N: t.N, W: t.W}, data); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ReadTiles reads hash tiles.
func (s *SQL) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	out, err := tileReader{s.read}.ReadTiles(ctx, tiles)
	if errors.Is(err, ErrNotFound) {
		return nil, err
	}
	return out, s.wrap(err)
}

// ReadBundle reads an entry bundle, cut to width entries.
func (s *SQL) ReadBundle(ctx context.Context, index int64, width int) ([]byte, error) {
	w, data, err := readTile(ctx, s.read, bundleLevel, index)
	if err != nil {
		return nil, s.wrap(err)
	}
	if w < width {
		return nil, fmt.Errorf("%w: bundle %d has %d entries", ErrNotFound, index, w)
	}
	if w == width {
		return data, nil
	}
	entries, err := audit.ParseBundle(data, w)
	if err != nil {
		return nil, s.wrap(err)
	}
	var out []byte
	for _, e := range entries[:width] {
		if out, err = audit.AppendBundle(out, e); err != nil {
			return nil, s.wrap(err)
		}
	}
	return out, nil
}

// Body returns a detached body by its SHA-256.
func (s *SQL) Body(ctx context.Context, sum [32]byte) ([]byte, error) {
	var b []byte
	err := s.read.QueryRowContext(ctx, `SELECT data FROM log_bodies WHERE sum = $1`, sum[:]).Scan(&b)
	return b, s.wrap(err)
}

// EntriesOf returns the sequenced entries of a request, in order.
func (s *SQL) EntriesOf(ctx context.Context, id statement.ID) ([]EntryRef, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT idx, kind, request, time FROM log_entries WHERE request = $1 ORDER BY idx`, id[:])
	out, err := collect(rows, err, func(r scanner) (e EntryRef, err error) {
		var kind string
		var request []byte
		var t int64
		err = r.Scan(&e.Index, &kind, &request, &t)
		e.Kind, e.Time = audit.Kind(kind), at(t)
		copy(e.Request[:], request)
		return e, err
	})
	return out, s.wrap(err)
}
