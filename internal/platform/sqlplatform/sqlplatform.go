package sqlplatform

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
)

// Greatseal's own tables.
const (
	roots       = "greatseal_root"
	signatures  = "greatseal_signature"
	tiles       = "greatseal_tile"
	watchers    = "greatseal_watcher"
	fingerprint = "greatseal_fingerprint"
)

// OwnTables are the names of Greatseal's own tables.
func OwnTables() []string {
	return []string{roots, signatures, tiles, watchers, fingerprint, "greatseal_change"}
}

// Platform implements platform.Platform over a Driver.
type Platform struct {
	Driver Driver
	opts   platform.Options

	mu       sync.Mutex
	rootOf   cache[[32]byte, []byte]
	tileAt   cache[tileKey, []byte]
	watching map[string]bool
}

// New makes the platform of a driver. It makes no table.
func New(d Driver, o platform.Options) (*Platform, error) {
	p := &Platform{Driver: d, opts: o, watching: map[string]bool{}}
	p.rootOf.room, p.tileAt.room = 16<<20, 32<<20
	for _, a := range o.Attachments {
		if a.Table == "" || a.OwnerKey == "" || a.Name == "" || (a.OwnerTable == "") == (a.Owner == "") || (a.Content == "") == (a.Chunks == nil) ||
			a.Chunks != nil && (a.Size == "" || a.Chunks.Table == "" || a.Chunks.Attachment == "" || a.Chunks.Position == "" || a.Chunks.Data == "") {
			return nil, fmt.Errorf("platform: attachment table %.80q: it needs table, ownerKey, name, one of ownerTable and owner, and one of content and (with size) chunks", a.Table)
		}
	}
	return p, nil
}

// Name implements platform.Platform.
func (p *Platform) Name() string { return p.Driver.Name() }

// Close implements platform.Platform.
func (p *Platform) Close() error { return p.Driver.Close() }

// Prepare implements platform.Platform.
func (p *Platform) Prepare(ctx context.Context) error {
	return p.fail("prepare", p.Driver.Prepare(ctx))
}

// fail says what was done, and gives the database's error its name of package
// platform.
func (p *Platform) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("platform: %s: %w", what, p.Driver.Explain(err))
}

// reserved reports whether a table is not the application's, or holds attachments.
func (p *Platform) reserved(name string) bool {
	return slices.Contains(OwnTables(), name) || slices.ContainsFunc(p.opts.Attachments, func(a platform.AttachmentTable) bool {
		return a.Table == name || a.Chunks != nil && a.Chunks.Table == name
	})
}

// Tables implements platform.Platform.
func (p *Platform) Tables(ctx context.Context) ([]platform.Table, error) {
	names, err := p.Driver.Names(ctx)
	if err != nil {
		return nil, p.fail("tables", err)
	}
	slices.Sort(names)
	var out []platform.Table
	for _, n := range names {
		if p.reserved(n) {
			continue
		}
		t, err := p.Driver.Table(ctx, p.Driver, n)
		if err != nil {
			return nil, p.fail("table "+n, err)
		}
		o := platform.Table{Name: t.Name}
		for _, c := range t.Columns {
			o.Columns = append(o.Columns, c.Column)
		}
		for _, c := range t.Key {
			o.Key = append(o.Key, c.Name)
		}
		out = append(out, o)
	}
	return out, nil
}

// table describes one of the application's tables with records.
func (p *Platform) table(ctx context.Context, r Runner, name string) (*Table, error) {
	if p.reserved(name) {
		return nil, fmt.Errorf("%w: %.80q holds no records of its own", platform.ErrTable, name)
	}
	return p.Driver.Table(ctx, r, name)
}

// columns looks names up; nil stands for all.
func (t *Table) columns(names []string) ([]*Column, error) {
	if names == nil {
		return t.Columns, nil
	}
	out := make([]*Column, 0, len(names))
	for _, n := range names {
		c := t.Column(n)
		if c == nil {
			return nil, fmt.Errorf("%w: %.80q of %.80q", platform.ErrField, n, t.Name)
		}
		out = append(out, c)
	}
	return out, nil
}

// where writes what SQL can judge of a condition. The clause begins with AND, or is
// empty.
func (t *Table) where(s *Stmt, c *condition.Condition) (exact bool, err error) {
	if c == nil {
		return true, nil
	}
	if _, err := t.columns(c.Fields()); err != nil {
		return false, err
	}
	w := c.SQL(s.driver.Dialect(), len(s.Args)+1, func(field string) (condition.Column, bool) {
		return t.Column(field).Cond, true
	})
	if w.Text == "" {
		return false, nil
	}
	s.Args = append(s.Args, w.Args...)
	s.add(" AND ", w.Text)
	return w.Exact, nil
}

// keyArgs turns canonical key values into arguments.
func (t *Table) keyArgs(key []string) ([]any, error) {
	if len(key) != len(t.Key) {
		return nil, fmt.Errorf("%w: a key of %.80q has %d parts, not %d", platform.ErrValue, t.Name, len(t.Key), len(key))
	}
	out := make([]any, len(key))
	for i, c := range t.Key {
		a, err := c.arg(key[i])
		if err != nil {
			return nil, err
		}
		out[i] = a
	}
	return out, nil
}

// is writes "key = values".
func (s *Stmt) is(t *Table, args []any) {
	for i, c := range t.Key {
		if i > 0 {
			s.add(" AND ")
		}
		s.add(c.Order, " = ").param(c, args[i])
	}
}

// after writes "key > values", in the order of the key. The first part alone is said
// too, for databases that use an index for that only.
func (s *Stmt) after(t *Table, args []any) {
	s.add("(").add(t.Key[0].Order, " >= ").param(t.Key[0], args[0])
	s.add(" AND (")
	for i := range t.Key {
		if i > 0 {
			s.add(" OR ")
		}
		s.add("(")
		for j, c := range t.Key[:i] {
			s.add(c.Order, " = ").param(c, args[j]).add(" AND ")
		}
		s.add(t.Key[i].Order, " > ").param(t.Key[i], args[i]).add(")")
	}
	s.add("))")
}

// key reads the first columns of a row as a key.
func (t *Table) key(v [][]byte, kinds []Kind) ([]string, error) {
	key := make([]string, len(t.Key))
	for i, c := range t.Key {
		if v[i] == nil {
			return nil, fmt.Errorf("%w: a record of %.80q has no %.80q, which is in its key", platform.ErrValue, t.Name, c.Name)
		}
		s, err := c.read(v[i], kind(kinds, i))
		if err != nil {
			return nil, fmt.Errorf("%w: %.80q of %.80q: %w", platform.ErrValue, c.Name, t.Name, err)
		}
		key[i] = s
	}
	return key, nil
}

func kind(kinds []Kind, i int) Kind {
	if kinds == nil {
		return Text
	}
	return kinds[i]
}

// fields reads columns from v.
func (t *Table) fields(cols []*Column, v [][]byte, kinds []Kind) (map[string]string, error) {
	out := make(map[string]string, len(cols))
	for i, c := range cols {
		if v[i] == nil {
			continue
		}
		if len(v[i]) > 2*platform.MaxField {
			return nil, fmt.Errorf("%w: %.80q of %.80q is longer than %d bytes", platform.ErrLimit, c.Name, t.Name, platform.MaxField)
		}
		s, err := c.read(v[i], kind(kinds, i))
		if err != nil {
			return nil, fmt.Errorf("%w: %.80q of %.80q: %w", platform.ErrValue, c.Name, t.Name, err)
		}
		if len(s) > platform.MaxField {
			return nil, fmt.Errorf("%w: %.80q of %.80q is longer than %d bytes", platform.ErrLimit, c.Name, t.Name, platform.MaxField)
		}
		if s != "" {
			out[c.Name] = s
		}
	}
	return out, nil
}

// Get implements platform.Platform.
func (p *Platform) Get(ctx context.Context, ref record.Ref, fields []string) (*platform.Row, error) {
	var row *platform.Row
	q := platform.Query{Table: ref.Table, Fields: fields, Keys: [][]string{ref.Key}, Attachments: true, Signatures: true}
	if err := p.Scan(ctx, q, func(r *platform.Row) error { row = r; return nil }); err != nil {
		return nil, err
	}
	if row == nil {
		return nil, platform.ErrNotFound
	}
	return row, nil
}
