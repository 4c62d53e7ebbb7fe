package sqlplatform

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
)

// NewestColumns are what Driver.Newest selects: from the signature table s and its
// root r.
const NewestColumns = "s.record, s.revision, s.idx, s.statement, s.path, r.id, r.leaves, r.digest"

// NewestBytes are those of them that are bytes.
func NewestBytes() []int { return []int{0, 3, 4, 7} }

// signed reports whether a table has signatures, readable or not.
func (p *Platform) signed(ctx context.Context, table string) (found bool, err error) {
	low := prefix(table)
	high := append(slices.Clone(low), 0xff) // what stands there is 0 or 1
	s := newStmt(p.Driver, "SELECT 1 FROM ", p.Driver.Own(signatures), " WHERE record >= ").arg(low).add(" AND record < ").arg(high).add(" LIMIT 1")
	err = p.Driver.Query(ctx, s, func([][]byte, []Kind) error { found = true; return nil })
	return found, err
}

// found is a row of the signature table.
type found struct {
	revision  uint64
	index     int64
	statement []byte
	path      []byte // nil: from the tiles
	root      int64
	leaves    int64
	digest    [32]byte
}

// sign fills Row.Revision, and Row.Signatures when they are asked for.
func (p *Platform) sign(ctx context.Context, rows []*platform.Row, full bool) error {
	for part := range slices.Chunk(rows, p.Driver.NewestBatch()) {
		at := make(map[string]*platform.Row, len(part))
		var records [][]byte
		for _, r := range part {
			l := locator(r.Record.Ref)
			at[string(l)] = r
			records = append(records, l)
		}
		all := map[*platform.Row][]found{}
		limit := platform.MaxSignatures
		if !full {
			limit = 1
		}
		err := p.Driver.Query(ctx, p.Driver.Newest(records, limit), func(v [][]byte, _ []Kind) error {
			r := at[string(v[0])]
			if r == nil {
				return nil
			}
			f, err := readFound(v)
			if err != nil {
				return err
			}
			r.Revision = max(r.Revision, f.revision)
			if full {
				all[r] = append(all[r], f)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, r := range part {
			if r.Signatures, err = p.complete(ctx, all[r]); err != nil {
				return err
			}
		}
	}
	return nil
}

func readFound(v [][]byte) (f found, err error) {
	var revision int64
	for i, to := range map[int]*int64{1: &revision, 2: &f.index, 5: &f.root, 6: &f.leaves} {
		n, e := number(v[i])
		*to, err = n, errors.Join(err, e)
	}
	f.revision, f.statement = uint64(revision), slices.Clone(v[3])
	if v[4] != nil {
		f.path = append([]byte{}, v[4]...)
	}
	if revision < 0 || len(v[7]) != len(f.digest) {
		err = errors.Join(err, errors.New("platform: a damaged signature row"))
	}
	copy(f.digest[:], v[7])
	return f, err
}

// complete adds paths and roots. A signature that lacks them is left out: it proves
// nothing.
func (p *Platform) complete(ctx context.Context, rows []found) ([]record.Signature, error) {
	slices.SortStableFunc(rows, func(a, b found) int {
		switch {
		case a.revision != b.revision:
			return int(min(max(int64(b.revision-a.revision), -1), 1))
		case a.root != b.root:
			return int(min(max(b.root-a.root, -1), 1))
		}
		return int(min(max(b.index-a.index, -1), 1))
	})
	var out []record.Signature
	for _, f := range rows {
		root, err := p.root(ctx, f.root, f.digest)
		if err != nil {
			return nil, err
		}
		path := f.path
		if path == nil && root != nil {
			if path, err = p.path(ctx, f); err != nil {
				return nil, err
			}
		}
		if root == nil || path == nil {
			continue
		}
		out = append(out, record.Signature{Statement: f.statement, Index: f.index, Path: path, Root: root})
	}
	return out, nil
}

// root reads a root; nil: it is not there, or not the one with this digest.
func (p *Platform) root(ctx context.Context, id int64, digest [32]byte) ([]byte, error) {
	p.mu.Lock()
	b, ok := p.rootOf.get(digest)
	p.mu.Unlock()
	if ok {
		return b, nil
	}
	s := newStmt(p.Driver, "SELECT root FROM ", p.Driver.Own(roots), " WHERE id = ").arg(id)
	s.Bytes = []int{0}
	if err := p.Driver.Query(ctx, s, func(v [][]byte, _ []Kind) error { b = slices.Clone(v[0]); return nil }); err != nil {
		return nil, err
	}
	if sha256.Sum256(b) != digest {
		return nil, nil
	}
	p.mu.Lock()
	p.rootOf.put(digest, b)
	p.mu.Unlock()
	return b, nil
}

type tileKey struct {
	root  [32]byte
	level int
	index int64
}

// path reads a path from the tiles of a job; nil: they do not make one.
func (p *Platform) path(ctx context.Context, f found) ([]byte, error) {
	if f.index < 0 || f.index >= f.leaves {
		return nil, nil
	}
	var failed error
	path, err := merkle.NewPaths(f.leaves, tileReader(func(level int, index int64) ([]byte, error) {
		k := tileKey{f.digest, level, index}
		p.mu.Lock()
		b, ok := p.tileAt.get(k)
		p.mu.Unlock()
		if ok {
			return b, nil
		}
		s := newStmt(p.Driver, "SELECT hashes FROM ", p.Driver.Own(tiles), " WHERE root = ").arg(f.root).add(" AND level = ").arg(int64(level)).add(" AND idx = ").arg(index)
		s.Bytes = []int{0}
		if failed = p.Driver.Query(ctx, s, func(v [][]byte, _ []Kind) error { b = slices.Clone(v[0]); return nil }); failed != nil {
			return nil, failed
		}
		if b == nil {
			return nil, errors.New("platform: no such tile")
		}
		p.mu.Lock()
		p.tileAt.put(k, b)
		p.mu.Unlock()
		return b, nil
	})).Path(f.index)
	if failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, nil
	}
	if path == nil {
		path = []byte{}
	}
	return path, nil
}

type tileReader func(level int, index int64) ([]byte, error)

func (f tileReader) ReadTile(level int, index int64) ([]byte, error) { return f(level, index) }

// putSignature adds a signature that was made elsewhere, with its own path.
func (p *Platform) putSignature(ctx context.Context, tx Tx, ref record.Ref, sig *record.Signature) error {
	if len(sig.Root) == 0 || len(sig.Root) > platform.MaxRoot || len(sig.Statement) == 0 || len(sig.Statement) > platform.MaxStatement || len(sig.Path) > platform.MaxPath || sig.Index < 0 {
		return fmt.Errorf("%w: a signature of %v", platform.ErrLimit, ref)
	}
	st, err := record.DecodeStatement(sig.Statement)
	if err != nil {
		return err
	}
	if !st.Ref.Equal(ref) || st.Revision > 1<<62 {
		return fmt.Errorf("%w: a signature of %v is not of %v", platform.ErrValue, st.Ref, ref)
	}
	digest := sha256.Sum256(sig.Root)
	own, imported := int64(-1), int64(-1)
	for range 2 {
		s := newStmt(p.Driver, "SELECT id, job IS NULL FROM ", p.Driver.Own(roots), " WHERE digest = ").arg(digest[:])
		err := tx.Query(ctx, s, func(v [][]byte, _ []Kind) error {
			id, err := number(v[0])
			if v[1][0] == '0' || v[1][0] == 'f' {
				own = id
			} else {
				imported = id
			}
			return err
		})
		if err != nil {
			return err
		}
		if imported >= 0 {
			break
		}
		if own >= 0 { // a job of this database: the row may be here already
			var same bool
			s := newStmt(p.Driver, "SELECT statement FROM ", p.Driver.Own(signatures), " WHERE root = ").arg(own).add(" AND idx = ").arg(sig.Index)
			s.Bytes = []int{0}
			if err := tx.Query(ctx, s, func(v [][]byte, _ []Kind) error { same = string(v[0]) == string(sig.Statement); return nil }); err != nil || same {
				return err
			}
		}
		verb, end := p.Driver.Ignore()
		s = newStmt(p.Driver, verb, " ", p.Driver.Own(roots), " (imported, digest, root, leaves, rows_count) VALUES (").arg(digest[:]).add(", ").arg(digest[:]).add(", ").arg(sig.Root)
		if _, err := tx.Exec(ctx, s.add(", 0, 0)", end)); err != nil {
			return err
		}
	}
	// The same place of the same tree again: what came last stands, so that nothing
	// that was put there before keeps a good signature out.
	s := newStmt(p.Driver, "DELETE FROM ", p.Driver.Own(signatures), " WHERE root = ").arg(imported).add(" AND idx = ").arg(sig.Index)
	if _, err := tx.Exec(ctx, s); err != nil {
		return err
	}
	s = newStmt(p.Driver, "INSERT INTO ", p.Driver.Own(signatures), " (root, idx, record, revision, statement, path) VALUES (").arg(imported).add(", ").arg(sig.Index).add(", ").arg(locator(ref))
	s.add(", ").arg(int64(st.Revision)).add(", ").arg(sig.Statement).add(", ").arg(append([]byte{}, sig.Path...)).add(")")
	_, err = tx.Exec(ctx, s)
	return err
}
