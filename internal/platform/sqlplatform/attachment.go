package sqlplatform

import (
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
)

// chunkOverhead is how much longer than its content a gzip stream may be, beside one
// byte in 256: deflate's stored blocks and the header need less.
const chunkOverhead = 64 << 10

// file is a row of an attachment table.
type file struct {
	by    *platform.AttachmentTable
	table *Table
	key   []any // of the row
	id    string
	owner string
	name  string
	kind  string
	size  int64 // -1: what Content holds
}

// keepers are the attachment tables for a table's records.
func (p *Platform) keepers(t *Table) (out []*platform.AttachmentTable) {
	if len(t.Key) != 1 {
		return nil
	}
	for i := range p.opts.Attachments {
		if a := &p.opts.Attachments[i]; a.OwnerTable != "" || a.Owner == t.Name {
			out = append(out, a)
		}
	}
	return out
}

// owners are the names under which an attachment table may know a table.
func owners(a *platform.AttachmentTable, table string) []string {
	out := []string{table}
	for _, p := range a.OwnerPrefix {
		out = append(out, p+table)
	}
	return out
}

// files lists the attachments of records with these keys.
func (p *Platform) files(ctx context.Context, r Runner, t *Table, keys []string) ([]file, error) {
	var out []file
	for _, a := range p.keepers(t) {
		at, err := p.Driver.Table(ctx, r, a.Table)
		if err != nil {
			return nil, err
		}
		names := []string{a.OwnerKey, a.Name}
		for _, n := range []string{a.OwnerTable, a.Type, a.Size} {
			if n != "" {
				names = append(names, n)
			}
		}
		cols, err := at.columns(names)
		if err != nil {
			return nil, err
		}
		s := newStmt(p.Driver, "SELECT ")
		for i, c := range append(slices.Clone(at.Key), cols...) {
			if i > 0 {
				s.add(", ")
			}
			s.add(c.Select)
		}
		s.add(" FROM ", at.SQL, " WHERE (1=0")
		for _, k := range keys {
			v, err := cols[0].arg(k)
			if err != nil {
				return nil, err
			}
			s.add(" OR ", cols[0].Order, " = ").param(cols[0], v)
		}
		s.add(")")
		if a.OwnerTable != "" {
			c := at.Column(a.OwnerTable)
			s.add(" AND (1=0")
			for _, o := range owners(a, t.Name) {
				s.add(" OR ", c.Order, " = ").param(c, o)
			}
			s.add(")")
		}
		err = r.Query(ctx, s, func(v [][]byte, kinds []Kind) error {
			key, err := at.key(v, kinds)
			if err != nil {
				return err
			}
			k := kinds
			if k != nil {
				k = k[len(at.Key):]
			}
			m, err := at.fields(cols, v[len(at.Key):], k)
			if err != nil {
				return err
			}
			if a.OwnerTable != "" && !slices.Contains(owners(a, t.Name), m[a.OwnerTable]) || !slices.Contains(keys, m[a.OwnerKey]) {
				return nil // the same to a collation only
			}
			f := file{by: a, table: at, owner: m[a.OwnerKey], name: m[a.Name], size: -1, id: key[0]}
			if a.Type != "" {
				f.kind = m[a.Type]
			}
			if f.key, err = at.keyArgs(key); err != nil {
				return err
			}
			if a.Size != "" {
				if f.size, err = number([]byte(cmp.Or(m[a.Size], "-1"))); err != nil || f.size < 0 {
					return fmt.Errorf("%w: an attachment without a size", platform.ErrValue)
				}
			}
			out = append(out, f)
			if len(out) > len(keys)*record.MaxAttachments {
				return fmt.Errorf("%w: more than %d attachments", platform.ErrLimit, record.MaxAttachments)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// attach fills Record.Attachments.
func (p *Platform) attach(ctx context.Context, t *Table, rows []*platform.Row) error {
	if len(p.keepers(t)) == 0 {
		return nil
	}
	for part := range slices.Chunk(rows, batchKeys) {
		at := make(map[string]*platform.Row, len(part))
		var keys []string
		for _, r := range part {
			at[r.Record.Ref.Key[0]] = r
			keys = append(keys, r.Record.Ref.Key[0])
		}
		files, err := p.files(ctx, p.Driver, t, keys)
		if err != nil {
			return err
		}
		for i := range files {
			f := &files[i]
			a, err := p.digest(ctx, f)
			if err != nil {
				return fmt.Errorf("attachment %q of %v: %w", f.name, at[f.owner].Record.Ref, err)
			}
			r := &at[f.owner].Record
			r.Attachments = append(r.Attachments, a)
		}
		for _, r := range part {
			slices.SortFunc(r.Record.Attachments, func(a, b record.Attachment) int {
				return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.SHA256[:], b.SHA256[:]), cmp.Compare(a.Type, b.Type))
			})
		}
	}
	return nil
}

func (p *Platform) digest(ctx context.Context, f *file) (record.Attachment, error) {
	out := record.Attachment{Name: f.name, Type: f.kind}
	r, err := p.open(ctx, f)
	if err != nil {
		return out, err
	}
	defer r.Close()
	h := sha256.New()
	if out.Size, err = io.Copy(h, r); err != nil {
		return out, err
	}
	h.Sum(out.SHA256[:0])
	return out, nil
}

// Attachment implements platform.Platform.
func (p *Platform) Attachment(ctx context.Context, ref record.Ref, name string) (io.ReadCloser, error) {
	t, err := p.table(ctx, p.Driver, ref.Table)
	if err != nil {
		return nil, p.fail("attachment", err)
	}
	if len(ref.Key) != 1 {
		return nil, platform.ErrNotFound
	}
	files, err := p.files(ctx, p.Driver, t, ref.Key)
	if err != nil {
		return nil, p.fail("attachment", err)
	}
	files = slices.DeleteFunc(files, func(f file) bool { return f.name != name })
	switch len(files) {
	case 0:
		return nil, platform.ErrNotFound
	case 1:
		r, err := p.open(ctx, &files[0])
		return r, p.fail("attachment", err)
	}
	return nil, fmt.Errorf("%w: %d attachments of %v are called %q", platform.ErrConflict, len(files), ref, name)
}

// open reads an attachment. The reader fails when it is not exactly of its size.
func (p *Platform) open(ctx context.Context, f *file) (io.ReadCloser, error) {
	if f.size > platform.MaxAttachment {
		return nil, fmt.Errorf("%w: %d bytes", platform.ErrLimit, f.size)
	}
	if f.by.Chunks == nil {
		c := f.table.Column(f.by.Content)
		if c == nil {
			return nil, fmt.Errorf("%w: %.80q of %.80q", platform.ErrField, f.by.Content, f.by.Table)
		}
		pieces := &pieces{ctx: ctx, p: p, f: f, c: c}
		if err := pieces.length(); err != nil {
			return nil, err
		}
		if pieces.size > platform.MaxAttachment || f.size >= 0 && pieces.size != f.size {
			return nil, fmt.Errorf("%w: %d bytes in place of %d", platform.ErrLimit, pieces.size, f.size)
		}
		return io.NopCloser(&exactly{r: pieces, left: pieces.size}), nil
	}
	t, err := p.Driver.Table(ctx, p.Driver, f.by.Chunks.Table)
	if err != nil {
		return nil, err
	}
	cols, err := t.columns([]string{f.by.Chunks.Attachment, f.by.Chunks.Position, f.by.Chunks.Data})
	if err != nil {
		return nil, err
	}
	c := &chunks{ctx: ctx, p: p, t: t, of: cols[0], position: cols[1], data: cols[2], room: f.size + f.size/256 + chunkOverhead}
	if c.id, err = c.of.arg(f.id); err != nil {
		return nil, err
	}
	if err := c.number(); err != nil {
		return nil, err
	}
	return &packed{chunks: c, left: f.size}, nil
}

// exactly reads r and fails when it is not left bytes long.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if e.left -= int64(n); e.left < 0 {
		return 0, fmt.Errorf("%w: longer than it says", platform.ErrLimit)
	}
	if err == io.EOF && e.left > 0 {
		return n, fmt.Errorf("%w: %d bytes are missing", platform.ErrValue, e.left)
	}
	return n, err
}

// pieces reads a column with bytes a piece at a time.
type pieces struct {
	ctx  context.Context
	p    *Platform
	f    *file
	c    *Column
	size int64
	at   int64
	buf  []byte
}

const pieceSize = 4 << 20

func (r *pieces) length() error {
	s := newStmt(r.p.Driver, "SELECT length(", r.c.Bytes, ") FROM ", r.f.table.SQL, " WHERE ")
	s.is(r.f.table, r.f.key)
	return r.p.Driver.Query(r.ctx, s, func(v [][]byte, _ []Kind) (err error) {
		if v[0] != nil {
			r.size, err = number(v[0])
		}
		return err
	})
}

func (r *pieces) Read(b []byte) (int, error) {
	if len(r.buf) == 0 {
		if r.at >= r.size {
			return 0, io.EOF
		}
		s := newStmt(r.p.Driver, fmt.Sprintf("SELECT substr(%s, %d, %d) FROM ", r.c.Bytes, r.at+1, pieceSize), r.f.table.SQL, " WHERE ")
		s.is(r.f.table, r.f.key)
		s.Bytes = []int{0}
		if err := r.p.Driver.Query(r.ctx, s, func(v [][]byte, _ []Kind) error { r.buf = slices.Clone(v[0]); return nil }); err != nil {
			return 0, r.p.fail("attachment", err)
		}
		if len(r.buf) == 0 {
			return 0, fmt.Errorf("%w: it became shorter", platform.ErrConflict)
		}
		r.at += int64(len(r.buf))
	}
	n := copy(b, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// chunks reads the pieces of a stream in their order, 0 to count-1, each once.
type chunks struct {
	ctx                context.Context
	p                  *Platform
	t                  *Table
	of, position, data *Column
	id                 any
	count, next        int64
	room               int64 // bytes that may still come
	buf                []byte
}

func (c *chunks) number() error {
	s := newStmt(c.p.Driver, "SELECT count(*) FROM ", c.t.SQL, " WHERE ", c.of.Order, " = ").param(c.of, c.id)
	err := c.p.Driver.Query(c.ctx, s, func(v [][]byte, _ []Kind) (err error) { c.count, err = number(v[0]); return err })
	if err == nil && c.count > c.room {
		err = fmt.Errorf("%w: %d pieces", platform.ErrLimit, c.count)
	}
	return err
}

func (c *chunks) Read(b []byte) (int, error) {
	for len(c.buf) == 0 {
		if c.next >= c.count {
			return 0, io.EOF
		}
		if err := c.fill(); err != nil {
			return 0, c.p.fail("attachment", err)
		}
	}
	n := copy(b, c.buf)
	c.buf = c.buf[n:]
	return n, nil
}

func (c *chunks) fill() error {
	const page = 8
	from, err1 := c.position.arg(fmt.Sprint(c.next))
	to, err2 := c.position.arg(fmt.Sprint(min(c.next+page, c.count) - 1))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	s := newStmt(c.p.Driver, "SELECT ", c.position.Select, ", ", c.data.Select, " FROM ", c.t.SQL, " WHERE ", c.of.Order, " = ").param(c.of, c.id)
	s.add(" AND ", c.position.Order, " >= ").param(c.position, from).add(" AND ", c.position.Order, " <= ").param(c.position, to).add(" ORDER BY ", c.position.Order)
	want := c.next
	var buf []byte
	err := c.p.Driver.Query(c.ctx, s, func(v [][]byte, kinds []Kind) error {
		at, err := c.position.read(v[0], kind(kinds, 0))
		if err != nil || at != fmt.Sprint(want) {
			return fmt.Errorf("%w: piece %d is %q", platform.ErrValue, want, at)
		}
		want++
		if int64(len(v[1])) > c.room*2 {
			return fmt.Errorf("%w: more packed bytes than its size allows", platform.ErrLimit)
		}
		text, err := c.data.read(v[1], kind(kinds, 1))
		if err != nil {
			return err
		}
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return fmt.Errorf("%w: piece %s is not base64", platform.ErrValue, at)
		}
		if c.room -= int64(len(b)); c.room < 0 {
			return fmt.Errorf("%w: more packed bytes than its size allows", platform.ErrLimit)
		}
		buf = append(buf, b...)
		return nil
	})
	if err != nil {
		return err
	}
	if want != min(c.next+page, c.count) {
		return fmt.Errorf("%w: piece %d is missing", platform.ErrValue, want)
	}
	c.next, c.buf = want, buf
	return nil
}

// packed unpacks exactly left bytes of one gzip stream that ends where the pieces do.
type packed struct {
	chunks *chunks
	z      *gzip.Reader
	left   int64
}

// ReadByte keeps gzip from reading beyond the stream's end into what follows.
func (c *chunks) ReadByte() (byte, error) {
	var b [1]byte
	for {
		if n, err := c.Read(b[:]); n == 1 || err != nil {
			return b[0], err
		}
	}
}

func (r *packed) Read(b []byte) (int, error) {
	if r.z == nil {
		z, err := gzip.NewReader(r.chunks)
		if err != nil {
			return 0, r.broken(err)
		}
		z.Multistream(false)
		r.z = z
	}
	n, err := r.z.Read(b)
	if r.left -= int64(n); r.left < 0 {
		return 0, fmt.Errorf("%w: it unpacks to more than it says", platform.ErrLimit)
	}
	switch {
	case err == nil:
		return n, nil
	case err != io.EOF:
		return n, r.broken(err)
	case r.left > 0:
		return n, fmt.Errorf("%w: it unpacks to %d bytes less than it says", platform.ErrValue, r.left)
	case len(r.chunks.buf) > 0 || r.chunks.next < r.chunks.count:
		return n, fmt.Errorf("%w: something follows the packed content", platform.ErrValue)
	}
	return n, io.EOF
}

// broken says that a stream is no gzip, where the database is not at fault.
func (r *packed) broken(err error) error {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || strings.HasPrefix(err.Error(), "flate:") {
		return fmt.Errorf("%w: not a gzip stream: %w", platform.ErrValue, err)
	}
	return err
}

func (r *packed) Close() error { return nil }
