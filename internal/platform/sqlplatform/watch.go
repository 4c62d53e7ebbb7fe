package sqlplatform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
)

const maxWatcher = 200 // bytes of a watcher's name

// Watch implements platform.Platform. Where the database notes changes of all the
// tables, they are read from there; else the tables are compared with fingerprints of
// what was told last.
func (p *Platform) Watch(ctx context.Context, w platform.Watch, f func([]platform.Event) error) error {
	if w.Name == "" || len(w.Name) > maxWatcher || len(w.Tables) == 0 {
		return fmt.Errorf("platform: a watcher has a name of 1 to %d bytes, and tables", maxWatcher)
	}
	if w.Interval <= 0 {
		w.Interval = 10 * time.Second
	}
	if w.Batch <= 0 {
		w.Batch = 1000
	}
	p.mu.Lock()
	twice := p.watching[w.Name]
	p.watching[w.Name] = true
	p.mu.Unlock()
	if twice {
		return fmt.Errorf("%w: watcher %.80q is watching", platform.ErrConflict, w.Name)
	}
	defer func() {
		p.mu.Lock()
		delete(p.watching, w.Name)
		p.mu.Unlock()
	}()
	v := &watch{p: p, Watch: w, f: f}
	for _, n := range w.Tables {
		t, err := p.table(ctx, p.Driver, n)
		if err != nil {
			return p.fail("watch", err)
		}
		v.tables = append(v.tables, t)
	}
	err := v.run(ctx)
	if v.told != nil {
		return v.told
	}
	return p.fail("watch", err)
}

// Unwatch implements platform.Platform.
func (p *Platform) Unwatch(ctx context.Context, name string) error {
	return p.fail("unwatch", p.transact(ctx, func(tx Tx) error {
		s := newStmt(p.Driver, "DELETE FROM ", p.Driver.Own(fingerprint), " WHERE watcher IN (SELECT id FROM ", p.Driver.Own(watchers), " WHERE name = ").arg(name).add(")")
		if _, err := tx.Exec(ctx, s); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, newStmt(p.Driver, "DELETE FROM ", p.Driver.Own(watchers), " WHERE name = ").arg(name))
		return err
	}))
}

// watch is one watcher at work.
type watch struct {
	platform.Watch
	p      *Platform
	tables []*Table
	f      func([]platform.Event) error
	told   error // what f returned
}

func (v *watch) tell(events []platform.Event) error {
	if len(events) == 0 {
		return nil
	}
	v.told = v.f(events)
	return v.told
}

func (v *watch) run(ctx context.Context) error {
	// Notes are of the tables alone: a change of an attachment is not among them.
	with := slices.ContainsFunc(v.tables, func(t *Table) bool { return len(v.p.keepers(t)) > 0 })
	if c, ok := v.p.Driver.(Capture); ok && !with {
		if yes, err := c.Captured(ctx, v.tables); err != nil {
			return err
		} else if yes {
			return v.captured(ctx, c)
		}
	}
	for {
		for _, t := range v.tables {
			if err := v.poll(ctx, t); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(v.Interval):
		}
	}
}

// place is where a watcher stands: for a table whose rows are compared, or, with no
// table, in what the database noted.
type place struct {
	id       int64
	new      bool
	primed   bool
	position string
}

func (v *watch) place(ctx context.Context, table []byte) (s place, err error) {
	d := v.p.Driver
	read := func() (found bool, err error) {
		q := newStmt(d, "SELECT id, primed, position FROM ", d.Own(watchers), " WHERE name = ").arg(v.Name).add(" AND tbl = ").arg(table)
		err = d.Query(ctx, q, func(c [][]byte, _ []Kind) (err error) {
			found, s.primed, s.position = true, c[1][0] == '1', string(c[2])
			s.id, err = number(c[0])
			return err
		})
		return found, err
	}
	found, err := read()
	if err != nil || found {
		return s, err
	}
	if _, err := d.Exec(ctx, newStmt(d, "INSERT INTO ", d.Own(watchers), " (name, tbl, primed) VALUES (").arg(v.Name).add(", ").arg(table).add(", 0)")); err != nil {
		return s, err
	}
	if found, err = read(); err == nil && !found {
		err = errors.New("platform: the watcher's row is gone")
	}
	s.new = true
	return s, err
}

// known reports whether a watcher of this name has compared rows, or read notes.
func (v *watch) known(ctx context.Context, notes bool) (known bool, err error) {
	d := v.p.Driver
	q := newStmt(d, "SELECT 1 FROM ", d.Own(watchers), " WHERE name = ").arg(v.Name).add(" AND tbl ")
	if notes {
		q.add("= ").arg([]byte{}).add(" AND primed = 1")
	} else {
		q.add("<> ").arg([]byte{})
	}
	err = d.Query(ctx, q, func([][]byte, []Kind) error { known = true; return nil })
	return known, err
}

// digest is a fingerprint of all that a row holds.
func digest(r *record.Record) []byte {
	h := sha256.New()
	put := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	for _, k := range slices.Sorted(maps.Keys(r.Fields)) {
		put(k)
		put(r.Fields[k])
	}
	put("")
	for _, a := range r.Attachments {
		put(a.Name)
		put(a.Type)
		h.Write(a.SHA256[:])
	}
	return h.Sum(nil)
}

type mark struct {
	ref      record.Ref
	locator  []byte
	digest   []byte
	existing bool
}

// poll compares a table with its fingerprints once.
func (v *watch) poll(ctx context.Context, t *Table) error {
	s, err := v.place(ctx, prefix(t.Name))
	if err != nil {
		return err
	}
	silent := !s.primed && !v.Initial
	if !s.primed && v.Initial {
		silent = false
	}
	if !s.primed {
		// It told of changes in another way before: nothing may be missing.
		if notes, err := v.known(ctx, true); err != nil {
			return err
		} else if notes {
			silent = false
		}
	}
	var rows []*platform.Row
	present := int64(0)
	part := min(v.Batch, batchKeys)
	flush := func() error {
		n, err := v.compare(ctx, s.id, rows, silent)
		present += n
		rows = rows[:0]
		return err
	}
	err = v.p.Scan(ctx, platform.Query{Table: t.Name, Attachments: true}, func(r *platform.Row) error {
		if rows = append(rows, r); len(rows) < part {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	if err := v.deletions(ctx, t, s.id, present, silent); err != nil {
		return err
	}
	if s.primed {
		return nil
	}
	d := v.p.Driver
	_, err = d.Exec(ctx, newStmt(d, "UPDATE ", d.Own(watchers), " SET primed = 1 WHERE id = ").arg(s.id))
	return err
}

// compare tells of rows that differ from their fingerprints, and keeps the new ones.
func (v *watch) compare(ctx context.Context, id int64, rows []*platform.Row, silent bool) (int64, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	d := v.p.Driver
	old := map[string][]byte{}
	q := newStmt(d, "SELECT record, digest FROM ", d.Own(fingerprint), " WHERE watcher = ").arg(id).add(" AND record IN (")
	q.Bytes = []int{0, 1}
	marks := make([]mark, len(rows))
	for i, r := range rows {
		marks[i] = mark{ref: r.Record.Ref, locator: locator(r.Record.Ref), digest: digest(&r.Record)}
		if i > 0 {
			q.add(", ")
		}
		q.arg(marks[i].locator)
	}
	err := d.Query(ctx, q.add(")"), func(c [][]byte, _ []Kind) error { old[string(c[0])] = slices.Clone(c[1]); return nil })
	if err != nil {
		return 0, err
	}
	now := time.Now().UTC()
	var events []platform.Event
	changed := marks[:0]
	for _, m := range marks {
		was, ok := old[string(m.locator)]
		if m.existing = ok; ok && bytes.Equal(was, m.digest) {
			continue
		}
		changed = append(changed, m)
		events = append(events, platform.Event{Ref: m.ref, Op: platform.Changed, At: now})
	}
	if !silent {
		if err := v.tell(events); err != nil {
			return 0, err
		}
	}
	if len(changed) == 0 {
		return int64(len(rows)), nil
	}
	return int64(len(rows)), v.p.transact(ctx, func(tx Tx) error {
		var gone []mark
		for _, m := range changed {
			if m.existing {
				gone = append(gone, m)
			}
		}
		if err := v.erase(ctx, tx, id, gone); err != nil {
			return err
		}
		ins := newStmt(d, "INSERT INTO ", d.Own(fingerprint), " (watcher, record, digest, ref) VALUES ")
		for i, m := range changed {
			if i > 0 {
				ins.add(", ")
			}
			ins.add("(").arg(id).add(", ").arg(m.locator).add(", ").arg(m.digest).add(", ").arg(encodeKey(m.ref.Key)).add(")")
		}
		_, err := tx.Exec(ctx, ins)
		return err
	})
}

func (v *watch) erase(ctx context.Context, r Runner, id int64, marks []mark) error {
	if len(marks) == 0 {
		return nil
	}
	d := v.p.Driver
	s := newStmt(d, "DELETE FROM ", d.Own(fingerprint), " WHERE watcher = ").arg(id).add(" AND record IN (")
	for i, m := range marks {
		if i > 0 {
			s.add(", ")
		}
		s.arg(m.locator)
	}
	_, err := r.Exec(ctx, s.add(")"))
	return err
}

// deletions tells of fingerprints whose record is gone, if there are more of them than
// records.
func (v *watch) deletions(ctx context.Context, t *Table, id, present int64, silent bool) error {
	d := v.p.Driver
	var total int64
	err := d.Query(ctx, newStmt(d, "SELECT count(*) FROM ", d.Own(fingerprint), " WHERE watcher = ").arg(id), func(c [][]byte, _ []Kind) (err error) {
		total, err = number(c[0])
		return err
	})
	if err != nil || total <= present {
		return err
	}
	last := []byte{}
	for {
		var marks []mark
		q := newStmt(d, "SELECT record, ref FROM ", d.Own(fingerprint), " WHERE watcher = ").arg(id).add(" AND record > ").arg(last)
		q.add(fmt.Sprintf(" ORDER BY record LIMIT %d", batchKeys))
		q.Bytes = []int{0, 1}
		err := d.Query(ctx, q, func(c [][]byte, _ []Kind) error {
			key, err := decodeKey(c[1], len(t.Key))
			marks = append(marks, mark{ref: record.Ref{Table: t.Name, Key: key}, locator: slices.Clone(c[0])})
			return err
		})
		if err != nil {
			return err
		}
		if len(marks) == 0 {
			return nil
		}
		last = marks[len(marks)-1].locator
		var keys [][]string
		for _, m := range marks {
			keys = append(keys, m.ref.Key)
		}
		there := map[string]bool{}
		if err := v.p.Scan(ctx, platform.Query{Table: t.Name, Fields: []string{}, Keys: keys}, func(r *platform.Row) error {
			there[string(locator(r.Record.Ref))] = true
			return nil
		}); err != nil {
			return err
		}
		marks = slices.DeleteFunc(marks, func(m mark) bool { return there[string(m.locator)] })
		for part := range slices.Chunk(marks, v.Batch) {
			now := time.Now().UTC()
			var events []platform.Event
			for _, m := range part {
				events = append(events, platform.Event{Ref: m.ref, Op: platform.Deleted, At: now})
			}
			if !silent {
				if err := v.tell(events); err != nil {
					return err
				}
			}
			if err := v.erase(ctx, d, id, part); err != nil {
				return err
			}
		}
	}
}

// captured reads what the database noted.
func (v *watch) captured(ctx context.Context, c Capture) error {
	d := v.p.Driver
	s, err := v.place(ctx, []byte{})
	if err != nil {
		return err
	}
	keep := func(position string) error {
		_, err := d.Exec(ctx, newStmt(d, "UPDATE ", d.Own(watchers), " SET primed = 1, position = ").arg(position).add(" WHERE id = ").arg(s.id))
		return err
	}
	if !s.primed {
		// The position first: what happens while the tables are read comes again.
		if s.position, err = c.Mark(ctx); err != nil {
			return err
		}
		compared, err := v.known(ctx, false)
		if err != nil {
			return err
		}
		for _, t := range v.tables {
			switch {
			case compared: // up to now it compared rows
				err = v.poll(ctx, t)
			case v.Initial:
				err = v.everything(ctx, t)
			}
			if err != nil {
				return err
			}
		}
		if err := keep(s.position); err != nil {
			return err
		}
		q := newStmt(d, "DELETE FROM ", d.Own(fingerprint), " WHERE watcher IN (SELECT id FROM ", d.Own(watchers), " WHERE name = ").arg(v.Name).add(")")
		if _, err := d.Exec(ctx, q); err != nil {
			return err
		}
		if _, err := d.Exec(ctx, newStmt(d, "DELETE FROM ", d.Own(watchers), " WHERE name = ").arg(v.Name).add(" AND tbl <> ").arg([]byte{})); err != nil {
			return err
		}
	}
	for {
		events, position, err := c.Changes(ctx, v.tables, s.position, v.Batch)
		if err != nil {
			return err
		}
		if position != s.position {
			if err := v.tell(coalesce(events)); err != nil {
				return err
			}
			if err := keep(position); err != nil {
				return err
			}
			s.position = position
			if err := v.forget(ctx, c); err != nil {
				return err
			}
			continue
		}
		if err := c.Wait(ctx, v.Interval); err != nil {
			return err
		}
		if yes, err := c.Captured(ctx, v.tables); err != nil {
			return err
		} else if !yes {
			return fmt.Errorf("%w: the database notes changes of %v no more", platform.ErrConflict, v.Tables)
		}
	}
}

// forget removes notes that every watcher has read.
func (v *watch) forget(ctx context.Context, c Capture) error {
	var all []string
	d := v.p.Driver
	err := d.Query(ctx, newStmt(d, "SELECT position FROM ", d.Own(watchers), " WHERE primed = 1 AND tbl = ").arg([]byte{}), func(c [][]byte, _ []Kind) error {
		all = append(all, string(c[0]))
		return nil
	})
	if err != nil {
		return err
	}
	return c.Forget(ctx, all)
}

// everything tells of every record of a table.
func (v *watch) everything(ctx context.Context, t *Table) error {
	var events []platform.Event
	err := v.p.Scan(ctx, platform.Query{Table: t.Name, Fields: []string{}}, func(r *platform.Row) error {
		events = append(events, platform.Event{Ref: r.Record.Ref, Op: platform.Changed, At: time.Now().UTC()})
		if len(events) < v.Batch {
			return nil
		}
		err := v.tell(events)
		events = nil
		return err
	})
	if err == nil {
		err = v.tell(events)
	}
	return err
}

// coalesce keeps the last event of each record.
func coalesce(events []platform.Event) []platform.Event {
	last := map[string]int{}
	for i, e := range events {
		last[e.Ref.ID()] = i
	}
	out := events[:0]
	for i, e := range events {
		if last[e.Ref.ID()] == i {
			out = append(out, e)
		}
	}
	return out
}
