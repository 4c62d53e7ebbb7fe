package sqlplatform

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"math"
	"strconv"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
)

func number(v []byte) (int64, error) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("platform: a number in Greatseal's tables: %w", err)
	}
	return n, nil
}

// maxJob is the length of a job's name.
const maxJob = 200

// job is the row of a job that this platform's Begin made.
type job struct {
	id     int64
	count  int64    // rows that are committed
	digest [32]byte // of the root
	sealed bool
	found  bool
}

// job finds a job by its name. lock keeps others from changing it.
func (p *Platform) job(ctx context.Context, r Runner, name string, lock bool) (j job, err error) {
	s := newStmt(p.Driver, "SELECT id, rows_count, digest FROM ", p.Driver.Own(roots), " WHERE job = ").arg(name)
	if lock {
		s.add(p.Driver.Lock())
	}
	s.Bytes = []int{2}
	err = r.Query(ctx, s, func(v [][]byte, _ []Kind) (err error) {
		j.found, j.sealed = true, v[2] != nil
		copy(j.digest[:], v[2])
		if j.id, err = number(v[0]); err == nil {
			j.count, err = number(v[1])
		}
		return err
	})
	return j, err
}

// Begin implements platform.Platform.
func (p *Platform) Begin(ctx context.Context, name string) (platform.Batch, error) {
	if name == "" || len(name) > maxJob {
		return nil, fmt.Errorf("platform: a job's name has 1 to %d bytes", maxJob)
	}
	j, err := p.job(ctx, p.Driver, name, false)
	if err == nil && !j.found {
		// Somebody else may make it at the same moment: then it is there.
		_, insert := p.Driver.Exec(ctx, newStmt(p.Driver, "INSERT INTO ", p.Driver.Own(roots), " (job, rows_count) VALUES (").arg(name).add(", 0)"))
		if j, err = p.job(ctx, p.Driver, name, false); err == nil && !j.found {
			err = insert
		}
	}
	if err != nil {
		return nil, p.fail("begin", err)
	}
	if j.sealed {
		return nil, platform.ErrSealed
	}
	l, err := p.Driver.Load(ctx, j.id)
	if err != nil {
		return nil, p.fail("begin", err)
	}
	return &batch{p, l}, nil
}

type batch struct {
	p *Platform
	l Loader
}

func (b *batch) Put(ctx context.Context, ref record.Ref, revision uint64, statement []byte, index int64) error {
	if len(statement) == 0 || len(statement) > platform.MaxStatement || index < 0 || revision == 0 || revision > math.MaxInt64 || len(ref.Key) == 0 {
		return fmt.Errorf("platform: put: %w: statement of %d bytes, index %d, revision %d", platform.ErrLimit, len(statement), index, revision)
	}
	return b.p.fail("put", b.l.Add(ctx, SignatureRow{index, locator(ref), int64(revision), statement}))
}

func (b *batch) Commit(ctx context.Context) error { return b.p.fail("commit", b.l.Commit(ctx)) }
func (b *batch) Rollback() error                  { return b.p.fail("rollback", b.l.Rollback()) }

// refOf reads from a statement what it is of, and nothing else of it.
func refOf(statement []byte) (record.Ref, error) {
	var s struct {
		Ref record.Ref `cbor:"5,keyasint"`
	}
	if err := cbor.Unmarshal(statement, &s); err != nil {
		return record.Ref{}, fmt.Errorf("platform: a stored statement: %w", err)
	}
	return s.Ref, nil
}

// Progress implements platform.Platform.
func (p *Platform) Progress(ctx context.Context, name string) (platform.Progress, error) {
	out := platform.Progress{Last: -1}
	j, err := p.job(ctx, p.Driver, name, false)
	if err != nil || !j.found {
		return out, p.fail("progress", err)
	}
	s := newStmt(p.Driver, "SELECT idx, statement FROM ", p.Driver.Own(signatures), " WHERE root = ").arg(j.id).add(" ORDER BY idx DESC LIMIT 1")
	s.Bytes = []int{1}
	err = p.Driver.Query(ctx, s, func(v [][]byte, _ []Kind) (err error) {
		if out.Last, err = number(v[0]); err == nil {
			out.Ref, err = refOf(v[1])
		}
		return err
	})
	if out.Last >= 0 {
		out.Count = j.count
	}
	return out, p.fail("progress", err)
}

// Statements implements platform.Platform.
func (p *Platform) Statements(ctx context.Context, name string, index int64, f func(record.Ref, []byte, int64) error) error {
	j, err := p.job(ctx, p.Driver, name, false)
	if err != nil || !j.found {
		return p.fail("statements", err)
	}
	type row struct {
		index     int64
		statement []byte
	}
	const page = 1000
	for {
		var rows []row
		size := 0
		s := newStmt(p.Driver, "SELECT idx, statement FROM ", p.Driver.Own(signatures), " WHERE root = ").arg(j.id).add(" AND idx >= ").arg(index).add(" ORDER BY idx")
		s.add(fmt.Sprintf(" LIMIT %d", page))
		s.Bytes = []int{1}
		cut := false
		err := p.Driver.Query(ctx, s, func(v [][]byte, _ []Kind) error {
			n, err := number(v[0])
			if err != nil {
				return err
			}
			rows = append(rows, row{n, append([]byte(nil), v[1]...)})
			if size += len(v[1]); size > 4*batchBytes {
				cut = true
				return errEnough
			}
			return nil
		})
		if err != nil && err != errEnough {
			return p.fail("statements", err)
		}
		for _, r := range rows {
			ref, err := refOf(r.statement)
			if err != nil {
				return err
			}
			if err := f(ref, r.statement, r.index); err != nil {
				return err
			}
			index = r.index + 1
		}
		if len(rows) < page && !cut {
			return nil
		}
	}
}

// PutRoot implements platform.Platform.
func (p *Platform) PutRoot(ctx context.Context, name string, root []byte, count int64, all iter.Seq2[platform.Tile, error]) error {
	if len(root) == 0 || len(root) > platform.MaxRoot {
		return fmt.Errorf("platform: root: %w: %d bytes", platform.ErrLimit, len(root))
	}
	return p.fail("root", p.transact(ctx, func(tx Tx) error {
		j, err := p.job(ctx, tx, name, true)
		digest := sha256.Sum256(root)
		switch {
		case err != nil:
			return err
		case !j.found:
			return platform.ErrJob
		case j.sealed && j.digest == digest:
			return nil
		case j.sealed:
			return platform.ErrSealed
		case j.count != count:
			return fmt.Errorf("%w: %d statements are here, the tree has %d", platform.ErrJob, j.count, count)
		}
		if err := p.putTiles(ctx, tx, j.id, all); err != nil {
			return err
		}
		s := newStmt(p.Driver, "UPDATE ", p.Driver.Own(roots), " SET digest = ").arg(digest[:]).add(", root = ").arg(root).add(", leaves = ").arg(count)
		_, err = tx.Exec(ctx, s.add(" WHERE id = ").arg(j.id))
		return err
	}))
}

func (p *Platform) putTiles(ctx context.Context, tx Tx, id int64, all iter.Seq2[platform.Tile, error]) error {
	const rows = 32
	var s *Stmt
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		n = 0
		_, err := tx.Exec(ctx, s)
		return err
	}
	for t, err := range all {
		if err != nil {
			return err
		}
		if len(t.Hashes) == 0 || len(t.Hashes) > 256*sha256.Size || len(t.Hashes)%sha256.Size != 0 || t.Index < 0 {
			return fmt.Errorf("%w: a tile of %d bytes", platform.ErrLimit, len(t.Hashes))
		}
		if n == 0 {
			s = newStmt(p.Driver, "INSERT INTO ", p.Driver.Own(tiles), " (root, level, idx, hashes) VALUES ")
		} else {
			s.add(", ")
		}
		s.add("(").arg(id).add(", ").arg(int64(t.Level)).add(", ").arg(t.Index).add(", ").arg(append([]byte(nil), t.Hashes...)).add(")")
		if n++; n == rows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// DropJob implements platform.Platform.
func (p *Platform) DropJob(ctx context.Context, name string) error {
	return p.fail("drop", p.transact(ctx, func(tx Tx) error {
		j, err := p.job(ctx, tx, name, true)
		if err != nil || !j.found {
			return err
		}
		for _, t := range []string{signatures, tiles} {
			if _, err := tx.Exec(ctx, newStmt(p.Driver, "DELETE FROM ", p.Driver.Own(t), " WHERE root = ").arg(j.id)); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, newStmt(p.Driver, "DELETE FROM ", p.Driver.Own(roots), " WHERE id = ").arg(j.id))
		return err
	}))
}

// transact runs f in a transaction.
func (p *Platform) transact(ctx context.Context, f func(Tx) error) error {
	tx, err := p.Driver.Begin(ctx)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // err says more
		return err
	}
	return tx.Commit(ctx)
}
