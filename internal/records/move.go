package records

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// An export is records with their signatures as one file:
//
//	"greatseal export 1\n" | item …
//
// Each item is one letter, the length of what follows (4 bytes, big-endian) and that:
//
//	r  a signed root (record.SignedRoot), before the first record that has one under it
//	d  a record: deterministic CBOR of exported
//	a  the next up to 1 MiB of the record's attachments, in their order
//	e  the end: the number of records (8 bytes) and the SHA-256 of everything before
//
// Nothing of a file is used before its end was read.
const exportMagic = "greatseal export 1\n"

// Limits of an export.
const (
	maxItem     = 128 << 20 // bytes of one item
	maxImport   = 8 << 30   // bytes of a file that is imported
	maxExported = MaxRefs   // records of a file that is imported
	pieceSize   = 1 << 20
)

// exported is one record as it travels.
type exported struct {
	Record      exportedRecord      `cbor:"1,keyasint"`
	Signatures  []exportedSignature `cbor:"2,keyasint"`
	Attachments []record.Attachment `cbor:"3,keyasint"`
}

type exportedRecord struct {
	Ref    record.Ref    `cbor:"1,keyasint"`
	Fields []format.Fact `cbor:"2,keyasint"` // sorted by name
}

type exportedSignature struct {
	Statement []byte   `cbor:"1,keyasint"`
	Index     int64    `cbor:"2,keyasint"`
	Path      []byte   `cbor:"3,keyasint"`
	Root      [32]byte `cbor:"4,keyasint"` // SHA-256 of the signed root
}

// ExportQuery selects what is exported of one table.
type ExportQuery struct {
	Table  string
	Filter string     // CEL; empty: every record
	Keys   [][]string // these records only; nil: no such limit
	All    bool       // records without signatures too
}

// Export writes records with their signatures and attachments. It returns their number.
func Export(ctx context.Context, db platform.Platform, qs []ExportQuery, to io.Writer) (int64, error) {
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(to, sum), 256<<10)
	if _, err := w.WriteString(exportMagic); err != nil {
		return 0, fmt.Errorf("records: export: %w", err)
	}
	item := func(kind byte, b []byte) error {
		if len(b) > maxItem {
			return fmt.Errorf("records: export: a record of %d bytes: at most %d", len(b), maxItem)
		}
		var h [5]byte
		h[0] = kind
		binary.BigEndian.PutUint32(h[1:], uint32(len(b)))
		if _, err := w.Write(h[:]); err != nil {
			return fmt.Errorf("records: export: %w", err)
		}
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("records: export: %w", err)
		}
		return nil
	}
	roots := map[[32]byte]bool{}
	count := int64(0)
	for _, q := range qs {
		cond, err := compile(q.Filter)
		if err != nil {
			return count, specError("filter: %v", err)
		}
		err = db.Scan(ctx, platform.Query{Table: q.Table, Where: cond, Keys: q.Keys, Attachments: true, Signatures: true}, func(r *platform.Row) error {
			if len(r.Signatures) == 0 && !q.All {
				return nil
			}
			x := exported{Record: exportedRecord{Ref: r.Record.Ref, Fields: []format.Fact{}}, Signatures: []exportedSignature{}, Attachments: r.Record.Attachments}
			for _, n := range slices.Sorted(maps.Keys(r.Record.Fields)) {
				x.Record.Fields = append(x.Record.Fields, format.Fact{Name: n, Value: r.Record.Fields[n]})
			}
			for _, s := range r.Signatures {
				d := sha256.Sum256(s.Root)
				if !roots[d] {
					if err := item('r', s.Root); err != nil {
						return err
					}
					roots[d] = true
				}
				x.Signatures = append(x.Signatures, exportedSignature{s.Statement, s.Index, s.Path, d})
			}
			if x.Attachments == nil {
				x.Attachments = []record.Attachment{}
			}
			b, err := format.Encode(x)
			if err != nil {
				return fmt.Errorf("records: export: %w", err)
			}
			if err := item('d', b); err != nil {
				return err
			}
			for _, a := range x.Attachments {
				if err := exportFile(ctx, db, r.Record.Ref, a, item); err != nil {
					return err
				}
			}
			count++
			return nil
		})
		if err != nil {
			return count, err
		}
	}
	if err := w.Flush(); err != nil {
		return count, fmt.Errorf("records: export: %w", err)
	}
	end := sum.Sum(binary.BigEndian.AppendUint64(nil, uint64(count)))
	if err := item('e', end); err != nil {
		return count, err
	}
	if err := w.Flush(); err != nil {
		return count, fmt.Errorf("records: export: %w", err)
	}
	return count, nil
}

func exportFile(ctx context.Context, db platform.Platform, ref record.Ref, a record.Attachment, item func(byte, []byte) error) error {
	f, err := db.Attachment(ctx, ref, a.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	buf := make([]byte, pieceSize)
	for left := a.Size; left > 0; {
		n, err := io.ReadFull(f, buf[:min(left, pieceSize)])
		if err != nil {
			return fmt.Errorf("records: export: attachment %.80q: %w", a.Name, err)
		}
		sum.Write(buf[:n])
		if err := item('a', buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	if !bytes.Equal(sum.Sum(nil), a.SHA256[:]) {
		return fmt.Errorf("records: export: attachment %.80q changed while it was read", a.Name)
	}
	return nil
}

// Moved is one record of an export.
type Moved struct {
	Record     record.Record
	Signatures []record.Signature
	files      []platform.File
}

func exportError(format string, args ...any) error {
	return rejection.New(rejection.PayloadMalformed, "export", fmt.Sprintf(format, args...))
}

// ReadExport reads an export strictly and calls f for each record. Its end is checked
// first: a file that was cut or altered gives no record. r must not change meanwhile;
// attachments are read from it when they are opened.
func ReadExport(ctx context.Context, r io.ReaderAt, size int64, f func(*Moved) error) error {
	if size > maxImport {
		return rejection.New(rejection.PayloadTooLarge, "export", fmt.Sprintf("%d bytes: at most %d", size, int64(maxImport)))
	}
	const tail = 5 + 8 + sha256.Size
	if size < int64(len(exportMagic))+tail {
		return exportError("it is too short")
	}
	var end [tail]byte
	if _, err := r.ReadAt(end[:], size-tail); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("records: import: %w", err)
	}
	body := size - tail
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, body)); err != nil {
		return fmt.Errorf("records: import: %w", err)
	}
	if end[0] != 'e' || binary.BigEndian.Uint32(end[1:5]) != 8+sha256.Size || !bytes.Equal(end[13:], sum.Sum(nil)) {
		return exportError("its end is missing, or it was altered")
	}
	x := &exportReader{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, body), 256<<10), at: r, roots: map[[32]byte][]byte{}, again: sha256.New()}
	magic := make([]byte, len(exportMagic))
	if _, err := io.ReadFull(x.r, magic); err != nil || string(magic) != exportMagic {
		return exportError("it is no export of records")
	}
	x.pos = int64(len(magic))
	count := uint64(0)
	for {
		m, err := x.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		count++
		if err := f(m); err != nil {
			return err
		}
	}
	if count != binary.BigEndian.Uint64(end[5:13]) {
		return exportError("%d records: its end says otherwise", count)
	}
	return nil
}

type exportReader struct {
	r     *bufio.Reader
	at    io.ReaderAt
	pos   int64
	roots map[[32]byte][]byte
	again hash.Hash
}

// head reads what stands before an item.
func (x *exportReader) head() (kind byte, n int64, err error) {
	var h [5]byte
	if _, err := io.ReadFull(x.r, h[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, 0, io.EOF
		}
		return 0, 0, exportError("an item is cut")
	}
	x.pos += 5
	n = int64(binary.BigEndian.Uint32(h[1:]))
	if n == 0 || n > maxItem {
		return 0, 0, exportError("an item of %d bytes", n)
	}
	return h[0], n, nil
}

func (x *exportReader) body(n int64) ([]byte, error) {
	var b bytes.Buffer // grows with what is there, not with what is said
	if _, err := io.CopyN(&b, x.r, n); err != nil {
		return nil, exportError("an item is cut")
	}
	x.pos += n
	return b.Bytes(), nil
}

// next reads a record with what stands before and behind it.
func (x *exportReader) next() (*Moved, error) {
	for {
		kind, n, err := x.head()
		if err != nil {
			return nil, err
		}
		b, err := x.body(n)
		if err != nil {
			return nil, err
		}
		switch kind {
		case 'r':
			d := sha256.Sum256(b)
			if _, twice := x.roots[d]; twice || len(b) > record.MaxRoot || len(x.roots) >= 1<<16 {
				return nil, exportError("a root stands twice, or there are too many, or it is too large")
			}
			if _, err := record.DecodeSignedRoot(b); err != nil {
				return nil, exportError("a root is malformed")
			}
			x.roots[d] = b
		case 'd':
			return x.record(b)
		default:
			return nil, exportError("an item of an unknown kind")
		}
	}
}

func (x *exportReader) record(b []byte) (*Moved, error) {
	var e exported
	if err := format.Decode(b, &e); err != nil {
		return nil, exportError("a record is malformed")
	}
	m := &Moved{Record: record.Record{Ref: e.Record.Ref, Fields: map[string]string{}, Attachments: e.Attachments}}
	if err := e.Record.Ref.Check(); err != nil {
		return nil, exportError("a record has no proper key")
	}
	for i, f := range e.Record.Fields {
		if f.Name == "" || f.Value == "" || i > 0 && e.Record.Fields[i-1].Name >= f.Name {
			return nil, exportError("fields of %s are empty, out of order or stand twice", e.Record.Ref.Table)
		}
		m.Record.Fields[f.Name] = f.Value
	}
	if len(e.Signatures) > platform.MaxSignatures || len(e.Attachments) > record.MaxAttachments {
		return nil, exportError("a record with too many signatures or attachments")
	}
	for _, s := range e.Signatures {
		root := x.roots[s.Root]
		if root == nil {
			return nil, exportError("a signature without its root")
		}
		m.Signatures = append(m.Signatures, record.Signature{Statement: s.Statement, Index: s.Index, Path: s.Path, Root: root})
	}
	for _, a := range e.Attachments {
		f, err := x.file(a)
		if err != nil {
			return nil, err
		}
		m.files = append(m.files, *f)
	}
	return m, nil
}

// file passes over an attachment's pieces; its content is read again when it is
// opened.
func (x *exportReader) file(a record.Attachment) (*platform.File, error) {
	if a.Size < 0 || a.Size > platform.MaxAttachment {
		return nil, exportError("an attachment of %d bytes", a.Size)
	}
	x.again.Reset()
	type piece struct{ at, n int64 }
	var pieces []piece
	for left := a.Size; left > 0; {
		kind, n, err := x.head()
		if err != nil || kind != 'a' || n != min(left, pieceSize) {
			return nil, exportError("an attachment is cut")
		}
		pieces = append(pieces, piece{x.pos, n})
		if _, err := io.CopyN(x.again, x.r, n); err != nil {
			return nil, exportError("an attachment is cut")
		}
		x.pos += n
		left -= n
	}
	if !bytes.Equal(x.again.Sum(nil), a.SHA256[:]) {
		return nil, exportError("an attachment is not what its record says")
	}
	from := x.at
	return &platform.File{Name: a.Name, Type: a.Type, Size: a.Size, Open: func() (io.ReadCloser, error) {
		var rs []io.Reader
		for _, p := range pieces {
			rs = append(rs, io.NewSectionReader(from, p.at, p.n))
		}
		return io.NopCloser(io.MultiReader(rs...)), nil
	}}, nil
}

// Imported is what an import did.
type Imported struct {
	Records int64 `json:"records"`
}

// Import verifies every record of an export and writes them to a platform, all in one
// transaction or, with the first that does not verify, none. What no configuration
// asks for is refused: an import brings nothing that nobody signed.
func (g *Guard) Import(ctx context.Context, on string, r io.ReaderAt, size int64) (*Imported, error) {
	db, err := g.platform(on)
	if err != nil {
		return nil, err
	}
	v, trust, err := g.judge()
	if err != nil {
		return nil, err
	}
	ts, err := db.Tables(ctx)
	if err != nil {
		return nil, err
	}
	all := with(trust.Configurations)
	var changes []platform.Change
	var refs [][]byte
	var revisions []uint64
	seen := map[string]bool{}
	err = ReadExport(ctx, r, size, func(m *Moved) error {
		ref := m.Record.Ref
		if len(changes) >= maxExported {
			return rejection.New(rejection.PayloadTooLarge, "export", fmt.Sprintf("more than %d records: import in parts", maxExported))
		}
		if seen[ref.ID()] {
			return exportError("a record of %s stands twice", ref.Table)
		}
		seen[ref.ID()] = true
		at := slices.IndexFunc(ts, func(t platform.Table) bool { return t.Name == ref.Table })
		if at < 0 {
			return rejection.New(rejection.RecordMismatch, ref.Table, "the platform has no such table")
		}
		trusted, signed, err := verifyAll(ctx, v, all, m, marks{g.c.Store, true})
		if err != nil {
			return fmt.Errorf("records: import: %s: %w", ref, err)
		}
		c := platform.Change{Op: platform.Upsert, Ref: ref, Fields: map[string]string{}, Signatures: m.Signatures}
		for _, col := range ts[at].Columns {
			value, has := m.Record.Fields[col.Name]
			if col.Written && !slices.Contains(ts[at].Key, col.Name) && (has || signed[col.Name]) {
				c.Fields[col.Name] = value
			}
		}
		for name := range signed {
			if m.Record.Fields[name] != "" && !slices.ContainsFunc(ts[at].Columns, func(c platform.Column) bool { return c.Name == name }) {
				return rejection.New(rejection.RecordMismatch, name, "the platform's table "+ref.Table+" has no such field, which is signed")
			}
		}
		if c.Attachments = m.files; c.Attachments == nil && trusted.Configuration().Attachments {
			now, err := db.Get(ctx, ref, []string{})
			if err != nil && !errors.Is(err, platform.ErrNotFound) {
				return err
			}
			if err == nil && len(now.Record.Attachments) > 0 {
				c.Attachments = []platform.File{}
			}
		}
		changes = append(changes, c)
		refs, revisions = append(refs, []byte(ref.ID())), append(revisions, trusted.Statement().Revision)
		return nil
	})
	if err != nil {
		if rejection.Of(err) != nil {
			fe := g.find(ctx, finding(g.c.Now(), "import", record.Ref{Table: "import", Key: []string{on}}, err))
			return nil, errors.Join(err, fe)
		}
		return nil, err
	}
	if err := db.Apply(ctx, changes); err != nil {
		return nil, err
	}
	return &Imported{Records: int64(len(changes))}, g.c.Store.Raise(ctx, refs, revisions)
}

// verifyAll verifies a record for every purpose that a configuration asks for, and
// returns the fields that are signed.
func verifyAll(ctx context.Context, v *record.Verifier, all map[string]record.Configuration, m *Moved, marks record.Marks) (*record.Trusted, map[string]bool, error) {
	var out *record.Trusted
	signed := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		c := all[id]
		if c.Table != m.Record.Ref.Table {
			continue
		}
		cond, err := compile(c.Condition)
		if err != nil {
			return nil, nil, fmt.Errorf("records: configuration %s: %w", id, err)
		}
		if cond != nil {
			ok, err := cond.Eval(m.Record.Fields)
			if err != nil {
				return nil, nil, rejection.New(rejection.RecordMismatch, id, "the configuration's condition cannot be evaluated")
			}
			if !ok {
				continue
			}
		}
		t, err := v.VerifyUnder(ctx, &m.Record, id, m.Signatures, marks)
		if err != nil {
			return nil, nil, err
		}
		if out == nil || t.Statement().Revision > out.Statement().Revision {
			out = t
		}
		for _, f := range c.Fields {
			signed[f] = true
		}
	}
	if out == nil {
		return nil, nil, rejection.New(rejection.SigMissing, m.Record.Ref.Table, "no configuration asks for the record: nobody signed it")
	}
	return out, signed, nil
}

// Receiver is a protected instance, as one that brings records sees it.
type Receiver interface {
	// Receive imports an export on a platform of the instance.
	Receive(ctx context.Context, platform string, size int64, export io.Reader) (*Imported, error)
}

// Push exports records and brings them to a protected instance.
func Push(ctx context.Context, db platform.Platform, qs []ExportQuery, to Receiver, on string) (*Imported, error) {
	f, err := os.CreateTemp("", "greatseal-export")
	if err != nil {
		return nil, fmt.Errorf("records: push: %w", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("records: push: %w", err)
	}
	if _, err := Export(ctx, db, qs, f); err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("records: push: %w", err)
	}
	return to.Receive(ctx, on, size, io.NewSectionReader(f, 0, size))
}
