package sqlplatform

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
)

// Apply implements platform.Platform.
func (p *Platform) Apply(ctx context.Context, changes []platform.Change) error {
	if len(changes) == 0 {
		return nil
	}
	return p.fail("apply", p.transact(ctx, func(tx Tx) error {
		tables := map[string]*Table{}
		for i := range changes {
			c := &changes[i]
			t := tables[c.Ref.Table]
			if t == nil {
				var err error
				if t, err = p.table(ctx, tx, c.Ref.Table); err != nil {
					return err
				}
				tables[c.Ref.Table] = t
			}
			if err := p.apply(ctx, tx, t, c); err != nil {
				return fmt.Errorf("%v: %w", c.Ref, p.Driver.Explain(err))
			}
		}
		return nil
	}))
}

func (p *Platform) apply(ctx context.Context, tx Tx, t *Table, c *platform.Change) error {
	key, err := t.keyArgs(c.Ref.Key)
	if err != nil {
		return err
	}
	if c.Op < platform.Insert || c.Op > platform.Sign {
		return fmt.Errorf("platform: operation %d", c.Op)
	}
	if c.Op != platform.Sign || c.Attachments != nil {
		if t.ReadOnly != "" {
			return fmt.Errorf("%w: %.80q cannot be written: %s", platform.ErrTable, t.Name, t.ReadOnly)
		}
	}
	if c.Op == platform.Sign && (c.Fields != nil || c.Attachments != nil) {
		return fmt.Errorf("platform: signing changes no field and no attachment")
	}
	there, now, err := p.current(ctx, tx, t, c, key)
	if err != nil {
		return err
	}
	for f, want := range c.Expect {
		if now[f] != want {
			return fmt.Errorf("%w: %.80q", platform.ErrConflict, f)
		}
	}
	switch c.Op {
	case platform.Sign:
	case platform.Delete:
		if !there {
			return platform.ErrNotFound
		}
		if err := p.replaceFiles(ctx, tx, t, c.Ref, nil); err != nil {
			return err
		}
		s := newStmt(p.Driver, "DELETE FROM ", t.SQL, " WHERE ")
		s.is(t, key)
		if n, err := tx.Exec(ctx, s); err != nil || n != 1 {
			return oneRow(n, err)
		}
	case platform.Insert:
		if there {
			return platform.ErrExists
		}
		err = p.insert(ctx, tx, t, c, key)
	case platform.Update:
		if !there {
			return platform.ErrNotFound
		}
		err = p.update(ctx, tx, t, c, key)
	case platform.Upsert:
		if there {
			err = p.update(ctx, tx, t, c, key)
		} else {
			err = p.insert(ctx, tx, t, c, key)
		}
	}
	if err != nil {
		return err
	}
	if c.Attachments != nil && c.Op != platform.Delete {
		if err := p.replaceFiles(ctx, tx, t, c.Ref, c.Attachments); err != nil {
			return err
		}
	}
	for i := range c.Signatures {
		if err := p.putSignature(ctx, tx, c.Ref, &c.Signatures[i]); err != nil {
			return err
		}
	}
	return nil
}

func oneRow(n int64, err error) error {
	if err == nil {
		err = fmt.Errorf("%w: %d records were touched", platform.ErrConflict, n)
	}
	return err
}

// current reads and locks the record: whether it is there under exactly its key, and
// the fields that are expected.
func (p *Platform) current(ctx context.Context, tx Tx, t *Table, c *platform.Change, key []any) (there bool, fields map[string]string, err error) {
	cols, err := t.columns(append([]string{}, slices.Sorted(maps.Keys(c.Expect))...))
	if err != nil {
		return false, nil, err
	}
	s := newStmt(p.Driver, "SELECT ")
	for i, k := range append(slices.Clone(t.Key), cols...) {
		if i > 0 {
			s.add(", ")
		}
		s.add(k.Select)
	}
	s.add(" FROM ", t.SQL, " WHERE ").is(t, key)
	if c.Op != platform.Sign || c.Expect != nil {
		s.add(p.Driver.Lock())
	}
	err = tx.Query(ctx, s, func(v [][]byte, kinds []Kind) error {
		k, err := t.key(v, kinds)
		if err != nil {
			return err
		}
		if !slices.Equal(k, c.Ref.Key) {
			if c.Op == platform.Sign {
				return nil
			}
			return fmt.Errorf("%w: the database takes %v for %v", platform.ErrConflict, c.Ref, record.Ref{Table: t.Name, Key: k})
		}
		there = true
		if kinds != nil {
			kinds = kinds[len(t.Key):]
		}
		fields, err = t.fields(cols, v[len(t.Key):], kinds)
		return err
	})
	return there, fields, err
}

// value is the argument for a field.
func value(c *Column, canonical string) (any, error) {
	if len(canonical) > platform.MaxField {
		return nil, fmt.Errorf("%w: %.80q", platform.ErrLimit, c.Name)
	}
	if canonical == "" && c.Nullable {
		return nil, nil
	}
	return c.arg(canonical)
}

// settable are the fields of a change, in a fixed order, without its key.
func settable(t *Table, c *platform.Change) ([]*Column, error) {
	var out []*Column
	for _, n := range slices.Sorted(maps.Keys(c.Fields)) {
		col := t.Column(n)
		if col == nil {
			return nil, fmt.Errorf("%w: %.80q of %.80q", platform.ErrField, n, t.Name)
		}
		if i := slices.Index(t.Key, col); i >= 0 {
			if c.Fields[n] != c.Ref.Key[i] {
				return nil, fmt.Errorf("%w: field %.80q is not as the key has it", platform.ErrValue, n)
			}
			continue
		}
		if !col.Written {
			return nil, fmt.Errorf("%w: the database computes %.80q", platform.ErrField, n)
		}
		out = append(out, col)
	}
	return out, nil
}

func (p *Platform) insert(ctx context.Context, tx Tx, t *Table, c *platform.Change, key []any) error {
	cols, err := settable(t, c)
	if err != nil {
		return err
	}
	s := newStmt(p.Driver, "INSERT INTO ", t.SQL, " (")
	for i, col := range append(slices.Clone(t.Key), cols...) {
		if i > 0 {
			s.add(", ")
		}
		s.add(p.Driver.Quote(col.Name))
	}
	s.add(") VALUES (")
	for i, col := range t.Key {
		if i > 0 {
			s.add(", ")
		}
		s.param(col, key[i])
	}
	for _, col := range cols {
		v, err := value(col, c.Fields[col.Name])
		if err != nil {
			return err
		}
		s.add(", ").param(col, v)
	}
	if n, err := tx.Exec(ctx, s.add(")")); err != nil || n != 1 {
		return oneRow(n, err)
	}
	return nil
}

func (p *Platform) update(ctx context.Context, tx Tx, t *Table, c *platform.Change, key []any) error {
	cols, err := settable(t, c)
	if err != nil || len(cols) == 0 {
		return err
	}
	s := newStmt(p.Driver, "UPDATE ", t.SQL, " SET ")
	for i, col := range cols {
		v, err := value(col, c.Fields[col.Name])
		if err != nil {
			return err
		}
		if i > 0 {
			s.add(", ")
		}
		s.add(p.Driver.Quote(col.Name), " = ").param(col, v)
	}
	s.add(" WHERE ").is(t, key)
	if n, err := tx.Exec(ctx, s); err != nil || n != 1 {
		return oneRow(n, err)
	}
	return nil
}

// replaceFiles removes a record's attachments and writes others.
func (p *Platform) replaceFiles(ctx context.Context, tx Tx, t *Table, ref record.Ref, files []platform.File) error {
	keepers := p.keepers(t)
	if len(keepers) == 0 {
		if len(files) > 0 {
			return fmt.Errorf("%w: records of %.80q have no attachments here", platform.ErrTable, t.Name)
		}
		return nil
	}
	old, err := p.files(ctx, tx, t, ref.Key)
	if err != nil {
		return err
	}
	for i := range old {
		f := &old[i]
		if f.by.Chunks != nil {
			ct, err := p.Driver.Table(ctx, tx, f.by.Chunks.Table)
			if err != nil {
				return err
			}
			cols, err := ct.columns([]string{f.by.Chunks.Attachment})
			if err != nil {
				return err
			}
			id, err := cols[0].arg(f.id)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, newStmt(p.Driver, "DELETE FROM ", ct.SQL, " WHERE ", cols[0].Order, " = ").param(cols[0], id)); err != nil {
				return err
			}
		}
		s := newStmt(p.Driver, "DELETE FROM ", f.table.SQL, " WHERE ")
		s.is(f.table, f.key)
		if n, err := tx.Exec(ctx, s); err != nil || n != 1 {
			return oneRow(n, err)
		}
	}
	for i := range files {
		if err := p.writeFile(ctx, tx, keepers[0], ref, &files[i]); err != nil {
			return fmt.Errorf("attachment %q: %w", files[i].Name, err)
		}
	}
	return nil
}

// writeFile writes one attachment. Its row's key is the database's to make where it
// makes one, and a random one otherwise.
func (p *Platform) writeFile(ctx context.Context, tx Tx, a *platform.AttachmentTable, ref record.Ref, f *platform.File) error {
	if f.Size < 0 || f.Size > platform.MaxAttachment || f.Open == nil {
		return fmt.Errorf("%w: %d bytes", platform.ErrLimit, f.Size)
	}
	t, err := p.Driver.Table(ctx, tx, a.Table)
	if err != nil {
		return err
	}
	if t.ReadOnly != "" || len(t.Key) != 1 {
		return fmt.Errorf("%w: %.80q cannot be written: %s", platform.ErrTable, t.Name, t.ReadOnly)
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	src := &exactly{r: r, left: f.Size}

	var id string
	set := map[string]string{a.OwnerKey: ref.Key[0], a.Name: f.Name}
	if !t.Key[0].Auto && !t.Key[0].Number {
		var b [16]byte
		rand.Read(b[:])
		id = hex.EncodeToString(b[:])
		set[t.Key[0].Name] = id
	}
	if a.OwnerTable != "" {
		set[a.OwnerTable] = ref.Table
	}
	if a.Type != "" {
		set[a.Type] = f.Type
	}
	if a.Size != "" {
		set[a.Size] = fmt.Sprint(f.Size)
	}
	names := slices.Sorted(maps.Keys(set))
	cols, err := t.columns(names)
	if err != nil {
		return err
	}
	s := newStmt(p.Driver, "INSERT INTO ", t.SQL, " (")
	for i, c := range cols {
		if i > 0 {
			s.add(", ")
		}
		s.add(p.Driver.Quote(c.Name))
	}
	if a.Content != "" {
		s.add(", ", p.Driver.Quote(a.Content))
	}
	s.add(") VALUES (")
	for i, c := range cols {
		if i > 0 {
			s.add(", ")
		}
		v, err := value(c, set[c.Name])
		if err != nil {
			return err
		}
		s.param(c, v)
	}
	if a.Content != "" {
		if t.Column(a.Content) == nil {
			return fmt.Errorf("%w: %.80q of %.80q", platform.ErrField, a.Content, a.Table)
		}
		if f.Size > platform.MaxField {
			return fmt.Errorf("%w: %d bytes in one column", platform.ErrLimit, f.Size)
		}
		b, err := io.ReadAll(src)
		if err != nil {
			return err
		}
		s.add(", ").arg(b)
	}
	s.add(") RETURNING ", t.Key[0].Select)
	// Everything is read before the next statement: one connection does one thing.
	err = tx.Query(ctx, s, func(v [][]byte, kinds []Kind) error {
		k, err := t.key(v, kinds)
		if err == nil {
			id = k[0]
		}
		return err
	})
	if err != nil || a.Chunks == nil {
		return err
	}
	return p.writeChunks(ctx, tx, a.Chunks, id, src)
}

// chunkBytes are packed bytes of one piece: their base64 fits a TEXT of MariaDB.
const chunkBytes = 48000

func (p *Platform) writeChunks(ctx context.Context, tx Tx, ch *platform.Chunks, id string, src io.Reader) error {
	t, err := p.Driver.Table(ctx, tx, ch.Table)
	if err != nil {
		return err
	}
	if t.ReadOnly != "" || len(t.Key) != 1 {
		return fmt.Errorf("%w: %.80q cannot be written: %s", platform.ErrTable, t.Name, t.ReadOnly)
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		z := gzip.NewWriter(pw)
		_, err := io.Copy(z, src)
		if err == nil {
			err = z.Close()
		}
		pw.CloseWithError(err)
	}()
	defer func() {
		pr.Close()
		<-done
	}()
	buf := make([]byte, chunkBytes)
	for position := 0; ; position++ {
		n, err := io.ReadFull(pr, buf)
		if err == io.EOF {
			return nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		set := map[string]string{ch.Attachment: id, ch.Position: fmt.Sprint(position), ch.Data: base64.StdEncoding.EncodeToString(buf[:n])}
		if ch.Length != "" {
			set[ch.Length] = fmt.Sprint(n)
		}
		if !t.Key[0].Auto && !t.Key[0].Number {
			var b [16]byte
			rand.Read(b[:])
			set[t.Key[0].Name] = hex.EncodeToString(b[:])
		}
		cols, err2 := t.columns(slices.Sorted(maps.Keys(set)))
		if err2 != nil {
			return err2
		}
		s := newStmt(p.Driver, "INSERT INTO ", t.SQL, " (")
		for i, c := range cols {
			if i > 0 {
				s.add(", ")
			}
			s.add(p.Driver.Quote(c.Name))
		}
		s.add(") VALUES (")
		for i, c := range cols {
			v, err := value(c, set[c.Name])
			if err != nil {
				return err
			}
			if i > 0 {
				s.add(", ")
			}
			s.param(c, v)
		}
		if _, err := tx.Exec(ctx, s.add(")")); err != nil {
			return err
		}
		if err == io.ErrUnexpectedEOF {
			return nil
		}
	}
}
