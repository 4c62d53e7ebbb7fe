package records_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
)

// memory is a platform in memory, for what is about jobs and not about databases.
type memory struct {
	mu      sync.Mutex
	columns map[string][]string // by table; the first is the key
	rows    map[string]map[string]record.Record
	jobs    map[string]*memoryJob
	order   []string
	added   map[string][]record.Signature // by Ref.ID
	events  []platform.Event
}

type memoryJob struct {
	refs       []record.Ref
	statements [][]byte
	root       []byte
	tiles      merkle.MemoryTiles
}

func memoryApp(testing.TB) *app {
	m := &memory{columns: map[string][]string{table: {"sys_id", "name", "type", "jdbc_server", "sql_statement", "last_run_datetime"}},
		rows: map[string]map[string]record.Record{table: {}}, jobs: map[string]*memoryJob{}, added: map[string][]record.Signature{}}
	return &app{Platform: m}
}

func (m *memory) Name() string                  { return "memory" }
func (m *memory) Prepare(context.Context) error { return nil }
func (m *memory) Close() error                  { return nil }

func (m *memory) Tables(context.Context) ([]platform.Table, error) {
	var out []platform.Table
	for _, n := range slices.Sorted(maps.Keys(m.columns)) {
		t := platform.Table{Name: n, Key: m.columns[n][:1]}
		for _, c := range m.columns[n] {
			t.Columns = append(t.Columns, platform.Column{Name: c, Type: "text", Nullable: true, Written: true})
		}
		out = append(out, t)
	}
	return out, nil
}

// signatures are the readable ones, newest first. m.mu is held.
func (m *memory) signatures(ref record.Ref) (uint64, []record.Signature) {
	out := slices.Clone(m.added[ref.ID()])
	for _, id := range m.order {
		j := m.jobs[id]
		if j == nil || j.root == nil {
			continue
		}
		for i, r := range j.refs {
			if r.Equal(ref) {
				path, err := merkle.NewPaths(int64(len(j.refs)), j.tiles).Path(int64(i))
				if err != nil {
					panic(err)
				}
				out = append(out, record.Signature{Statement: j.statements[i], Index: int64(i), Path: path, Root: j.root})
			}
		}
	}
	slices.Reverse(out)
	revision := uint64(0)
	for _, s := range out {
		st, err := record.DecodeStatement(s.Statement)
		if err != nil {
			panic(err)
		}
		revision = max(revision, st.Revision)
	}
	return revision, out
}

func (m *memory) Scan(ctx context.Context, q platform.Query, f func(*platform.Row) error) error {
	m.mu.Lock()
	var rows []*platform.Row
	for _, k := range slices.Sorted(maps.Keys(m.rows[q.Table])) {
		rec := m.rows[q.Table][k]
		if q.After != nil && k <= q.After[0] || q.Keys != nil && !slices.ContainsFunc(q.Keys, func(x []string) bool { return x[0] == k }) {
			continue
		}
		if q.Where != nil {
			if ok, err := q.Where.Eval(rec.Fields); err != nil || !ok {
				continue
			}
		}
		r := &platform.Row{Record: record.Record{Ref: rec.Ref, Fields: map[string]string{}, Attachments: rec.Attachments}}
		for n, v := range rec.Fields {
			if q.Fields == nil || slices.Contains(q.Fields, n) {
				r.Record.Fields[n] = v
			}
		}
		r.Revision, r.Signatures = m.signatures(rec.Ref)
		if !q.Signatures {
			r.Signatures = nil
		}
		rows = append(rows, r)
	}
	m.mu.Unlock()
	for _, r := range rows {
		if err := f(r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *memory) Count(ctx context.Context, q platform.Query) (n int64, err error) {
	err = m.Scan(ctx, q, func(*platform.Row) error { n++; return nil })
	return n, err
}

func (m *memory) Get(ctx context.Context, ref record.Ref, fields []string) (*platform.Row, error) {
	var out *platform.Row
	err := m.Scan(ctx, platform.Query{Table: ref.Table, Fields: fields, Keys: [][]string{ref.Key}, Signatures: true}, func(r *platform.Row) error { out = r; return nil })
	if out == nil && err == nil {
		err = platform.ErrNotFound
	}
	return out, err
}

func (m *memory) Attachment(context.Context, record.Ref, string) (io.ReadCloser, error) {
	return nil, platform.ErrNotFound
}

type memoryBatch struct {
	m    *memory
	job  string
	refs []record.Ref
	sts  [][]byte
	from int64
}

func (m *memory) Begin(_ context.Context, job string) (platform.Batch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jobs[job] == nil {
		m.jobs[job] = &memoryJob{}
		m.order = append(m.order, job)
	}
	if m.jobs[job].root != nil {
		return nil, platform.ErrSealed
	}
	return &memoryBatch{m: m, job: job, from: int64(len(m.jobs[job].refs))}, nil
}

func (b *memoryBatch) Put(_ context.Context, ref record.Ref, _ uint64, st []byte, index int64) error {
	if index != b.from+int64(len(b.refs)) {
		return fmt.Errorf("memory: index %d", index)
	}
	b.refs, b.sts = append(b.refs, ref), append(b.sts, bytes.Clone(st))
	return nil
}

func (b *memoryBatch) Commit(context.Context) error {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	j := b.m.jobs[b.job]
	if j == nil || int64(len(j.refs)) != b.from {
		return fmt.Errorf("memory: another has written the job")
	}
	j.refs, j.statements = append(j.refs, b.refs...), append(j.statements, b.sts...)
	return nil
}

func (b *memoryBatch) Rollback() error { return nil }

func (m *memory) Progress(_ context.Context, job string) (platform.Progress, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := platform.Progress{Last: -1}
	if j := m.jobs[job]; j != nil && len(j.refs) > 0 {
		p.Count = int64(len(j.refs))
		p.Last, p.Ref = p.Count-1, j.refs[p.Count-1]
	}
	return p, nil
}

func (m *memory) Statements(_ context.Context, job string, index int64, f func(record.Ref, []byte, int64) error) error {
	m.mu.Lock()
	j := m.jobs[job]
	m.mu.Unlock()
	if j == nil {
		return nil
	}
	for i := index; i < int64(len(j.refs)); i++ {
		if err := f(j.refs[i], j.statements[i], i); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) PutRoot(_ context.Context, job string, root []byte, count int64, tiles iter.Seq2[platform.Tile, error]) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[job]
	if j == nil || int64(len(j.refs)) != count {
		return platform.ErrJob
	}
	if j.root != nil {
		if !bytes.Equal(j.root, root) {
			return platform.ErrSealed
		}
		return nil
	}
	written := merkle.MemoryTiles{} // all of them or none
	for t, err := range tiles {
		if err != nil {
			return err
		}
		if err := written.WriteTile(int(t.Level), t.Index, t.Hashes); err != nil {
			return err
		}
	}
	j.root, j.tiles = root, written
	return nil
}

func (m *memory) DropJob(_ context.Context, job string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.jobs, job)
	m.order = slices.DeleteFunc(m.order, func(s string) bool { return s == job })
	return nil
}

func (m *memory) Apply(_ context.Context, cs []platform.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range cs {
		k := c.Ref.Key[0]
		switch c.Op {
		case platform.Delete:
			delete(m.rows[c.Ref.Table], k)
			m.events = append(m.events, platform.Event{Ref: c.Ref, Op: platform.Deleted})
		case platform.Sign:
		default:
			r, ok := m.rows[c.Ref.Table][k]
			if !ok {
				r = record.Record{Ref: c.Ref, Fields: map[string]string{}}
			}
			r.Fields = maps.Clone(r.Fields)
			for n, v := range c.Fields {
				if r.Fields[n] = v; v == "" {
					delete(r.Fields, n)
				}
			}
			m.rows[c.Ref.Table][k] = r
			m.events = append(m.events, platform.Event{Ref: c.Ref, Op: platform.Changed})
		}
		m.added[c.Ref.ID()] = append(m.added[c.Ref.ID()], c.Signatures...)
	}
	return nil
}

func (m *memory) Watch(ctx context.Context, _ platform.Watch, f func([]platform.Event) error) error {
	m.mu.Lock()
	es := m.events
	m.events = nil
	m.mu.Unlock()
	if len(es) > 0 {
		if err := f(es); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (m *memory) Unwatch(context.Context, string) error { return nil }
