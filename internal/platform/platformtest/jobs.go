package platformtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
)

// statementOf makes a statement that is of a record.
func statementOf(t testing.TB, r record.Ref, revision uint64) []byte {
	t.Helper()
	c := record.Configuration{Version: 1, Table: r.Table, Purpose: record.Queue, Fields: []string{"body"}}
	st, err := record.NewStatement("scripts", &c, &record.Record{Ref: r, Fields: map[string]string{"body": fmt.Sprint(revision)}}, record.StatementOptions{Issuer: "trusted", Revision: revision})
	if err != nil {
		t.Fatal(err)
	}
	b, err := st.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// treeOf builds the tree of statements.
func treeOf(t testing.TB, statements [][]byte) (merkle.Hash, merkle.MemoryTiles, func(func(platform.Tile, error) bool)) {
	t.Helper()
	m := merkle.MemoryTiles{}
	b := merkle.NewBuilder(merkle.Records, m)
	for _, s := range statements {
		if _, err := b.Add(merkle.Leaf(merkle.Records, s)); err != nil {
			t.Fatal(err)
		}
	}
	top, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return top, m, func(yield func(platform.Tile, error) bool) {
		for at, h := range m {
			if !yield(platform.Tile{Level: uint8(at[0]), Index: at[1], Hashes: h}, nil) {
				return
			}
		}
	}
}

// A job's statements are read when its root is there, all of them, with paths that
// lead to it; not before, and not after DropJob. A crash leaves what was committed.
func jobs(s *suite) {
	s.scripts()
	s.open(platform.Options{})
	const n = 700
	var statements [][]byte
	var refs []record.Ref
	var rows []string
	for i := range n {
		refs = append(refs, ref("script", fmt.Sprintf("r%04d", i)))
		statements = append(statements, statementOf(s.t, refs[i], 3))
		rows = append(rows, "('"+refs[i].Key[0]+"')")
	}
	s.sql("INSERT INTO script (id) VALUES %s", strings.Join(rows, ", "))
	readable := func(p platform.Platform) (count int) {
		s.t.Helper()
		s.must(p.Scan(s.ctx, platform.Query{Table: "script", Fields: []string{}, Signatures: true}, func(r *platform.Row) error { count += len(r.Signatures); return nil }))
		return count
	}
	write := func(p platform.Platform, job string, from, to int, commit bool) {
		s.t.Helper()
		b, err := p.Begin(s.ctx, job)
		s.must(err)
		for i := from; i < to; i++ {
			s.must(b.Put(s.ctx, refs[i], 3, statements[i], int64(i)))
		}
		if commit {
			s.must(b.Commit(s.ctx))
		}
		s.must(b.Rollback())
	}
	if pr, err := s.p.Progress(s.ctx, "j"); err != nil || pr.Count != 0 || pr.Last != -1 {
		s.t.Error(pr, err)
	}
	write(s.p, "j", 0, 300, true)
	write(s.p, "j", 300, 350, false) // killed here
	p := s.Open(s.t, platform.Options{})
	pr, err := p.Progress(s.ctx, "j")
	if err != nil || pr.Count != 300 || pr.Last != 299 || !pr.Ref.Equal(refs[299]) {
		s.t.Fatal(pr, err)
	}
	write(p, "j", 300, n, true)
	if c := readable(p); c != 0 {
		s.t.Fatalf("%d signatures are read without a root", c)
	}
	top, _, tiles := treeOf(s.t, statements)
	root := []byte("a signed root")
	if err := p.PutRoot(s.ctx, "j", root, n+1, tiles); !errors.Is(err, platform.ErrJob) {
		s.t.Error("a root over more statements than there are:", err)
	}
	broken := errors.New("broken")
	if err := p.PutRoot(s.ctx, "j", root, n, func(yield func(platform.Tile, error) bool) {
		tiles(yield)
		yield(platform.Tile{}, broken)
	}); !errors.Is(err, broken) {
		s.t.Error(err)
	}
	if err := p.PutRoot(s.ctx, "k", root, n, tiles); !errors.Is(err, platform.ErrJob) {
		s.t.Error(err)
	}
	if c := readable(p); c != 0 {
		s.t.Fatalf("%d signatures are read after a root that failed", c)
	}
	late, err := p.Begin(s.ctx, "j")
	s.must(err)
	s.must(p.PutRoot(s.ctx, "j", root, n, tiles))
	s.must(p.PutRoot(s.ctx, "j", root, n, tiles)) // said twice
	if err := p.PutRoot(s.ctx, "j", []byte("another"), n, tiles); !errors.Is(err, platform.ErrSealed) {
		s.t.Error(err)
	}
	if _, err := p.Begin(s.ctx, "j"); !errors.Is(err, platform.ErrSealed) {
		s.t.Error(err)
	}
	err = late.Put(s.ctx, refs[0], 9, statements[0], n)
	if err == nil {
		err = late.Commit(s.ctx)
	}
	if !errors.Is(err, platform.ErrJob) {
		s.t.Error("a batch that ends after the root:", err)
	}
	seen := 0
	s.must(p.Scan(s.ctx, platform.Query{Table: "script", Fields: []string{}, Signatures: true}, func(r *platform.Row) error {
		i := int(condition.Integer(strings.TrimLeft(r.Record.Ref.Key[0][1:], "0")))
		seen++
		if len(r.Signatures) != 1 || r.Revision != 3 {
			return fmt.Errorf("%v: %d signatures, revision %d", r.Record.Ref, len(r.Signatures), r.Revision)
		}
		g := r.Signatures[0]
		if string(g.Statement) != string(statements[i]) || g.Index != int64(i) || string(g.Root) != string(root) {
			return fmt.Errorf("%v: another signature", r.Record.Ref)
		}
		return merkle.VerifyPath(merkle.Records, top, merkle.Leaf(merkle.Records, g.Statement), g.Index, n, g.Path)
	}))
	if seen != n {
		s.t.Error(seen)
	}
	at := int64(100)
	s.must(p.Statements(s.ctx, "j", at, func(r record.Ref, st []byte, index int64) error {
		if index != at || !r.Equal(refs[index]) || string(st) != string(statements[index]) {
			return fmt.Errorf("statement %d at %d", index, at)
		}
		at++
		return nil
	}))
	if at != n {
		s.t.Error(at)
	}
	// A newer one comes first; Revisions alone says how new.
	b, err := p.Begin(s.ctx, "newer")
	s.must(err)
	one := statementOf(s.t, refs[5], 9)
	s.must(b.Put(s.ctx, refs[5], 9, one, 0))
	s.must(b.Commit(s.ctx))
	_, _, tiles1 := treeOf(s.t, [][]byte{one})
	s.must(p.PutRoot(s.ctx, "newer", []byte("second root"), 1, tiles1))
	r, err := p.Get(s.ctx, refs[5], nil)
	s.must(err)
	if len(r.Signatures) != 2 || string(r.Signatures[0].Statement) != string(one) || r.Revision != 9 || len(r.Signatures[0].Path) != 0 {
		s.t.Error(len(r.Signatures), r.Revision)
	}
	for _, r := range s.scan(platform.Query{Table: "script", Keys: [][]string{refs[5].Key, refs[6].Key}, Revisions: true}) {
		if want := map[string]uint64{refs[5].Key[0]: 9, refs[6].Key[0]: 3}[r.Record.Ref.Key[0]]; r.Revision != want || r.Signatures != nil {
			s.t.Error(r.Record.Ref, r.Revision)
		}
	}
	// The same index twice.
	b, err = p.Begin(s.ctx, "twice")
	s.must(err)
	err = b.Put(s.ctx, refs[0], 3, statements[0], 0)
	if err == nil {
		err = b.Put(s.ctx, refs[1], 3, statements[1], 0)
	}
	if err == nil {
		err = b.Commit(s.ctx)
	}
	if err == nil {
		s.t.Error("two statements stand in one place")
	}
	s.must(b.Rollback())
	for _, bad := range []error{b.Put(s.ctx, refs[0], 0, statements[0], 1), b.Put(s.ctx, refs[0], 1, nil, 1), b.Put(s.ctx, refs[0], 1, statements[0], -1), b.Put(s.ctx, refs[0], 1, make([]byte, platform.MaxStatement+1), 1)} {
		if bad == nil {
			s.t.Error("a bad row is taken")
		}
	}
	for _, j := range []string{"j", "newer", "twice", "never"} {
		s.must(p.DropJob(s.ctx, j))
	}
	if c := readable(p); c != 0 {
		s.t.Errorf("%d signatures are left", c)
	}
	if pr, err := p.Progress(s.ctx, "j"); err != nil || pr.Count != 0 {
		s.t.Error(pr, err)
	}
}

// Signatures that were made elsewhere come with their paths.
func imported(s *suite) {
	s.scripts()
	s.open(platform.Options{})
	s.put("a", nil)
	s.put("b", nil)
	sts := [][]byte{statementOf(s.t, ref("script", "a"), 1), statementOf(s.t, ref("script", "b"), 2)}
	top, m, _ := treeOf(s.t, sts)
	sig := func(i int) record.Signature {
		path, err := merkle.NewPaths(2, m).Path(int64(i))
		s.must(err)
		return record.Signature{Statement: sts[i], Index: int64(i), Path: path, Root: []byte("root of another instance")}
	}
	sign := func(id string, g record.Signature) error {
		return s.p.Apply(s.ctx, []platform.Change{{Op: platform.Sign, Ref: ref("script", id), Signatures: []record.Signature{g}}})
	}
	bogus := sig(1)
	bogus.Statement, bogus.Path = statementOf(s.t, ref("script", "b"), 77), []byte{}
	s.must(sign("b", bogus)) // what stands there before does not keep the good one out
	s.must(sign("a", sig(0)))
	s.must(sign("a", sig(0)))
	s.must(sign("b", sig(1)))
	for i, id := range []string{"a", "b"} {
		r, err := s.p.Get(s.ctx, ref("script", id), nil)
		s.must(err)
		if len(r.Signatures) != 1 || r.Revision != uint64(i+1) {
			s.t.Fatalf("%s: %d signatures, revision %d", id, len(r.Signatures), r.Revision)
		}
		g := r.Signatures[0]
		s.must(merkle.VerifyPath(merkle.Records, top, merkle.Leaf(merkle.Records, g.Statement), g.Index, 2, g.Path))
	}
	for name, err := range map[string]error{
		"of another record": sign("a", sig(1)), "without a root": sign("a", record.Signature{Statement: sts[0]}), "no statement": sign("a", record.Signature{Statement: []byte("x"), Root: []byte("x")}),
	} {
		if err == nil {
			s.t.Error("a signature", name, "is taken")
		}
	}
	// The records are there no more: their signatures are, for whoever restores them.
	s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Delete, Ref: ref("script", "a")}, {Op: platform.Insert, Ref: ref("script", "a")}}))
	if r, err := s.p.Get(s.ctx, ref("script", "a"), nil); err != nil || len(r.Signatures) != 1 {
		s.t.Error(r, err)
	}
	// Too many are cut, the newest stay.
	for i := range platform.MaxSignatures + 5 {
		g := record.Signature{Statement: statementOf(s.t, ref("script", "a"), uint64(100+i)), Root: fmt.Append(nil, "root ", i), Path: []byte{}}
		s.must(sign("a", g))
	}
	r, err := s.p.Get(s.ctx, ref("script", "a"), nil)
	if err != nil || len(r.Signatures) != platform.MaxSignatures || r.Revision != uint64(100+platform.MaxSignatures+4) {
		s.t.Error(len(r.Signatures), r.Revision, err)
	}
}
