package updateset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Info is what a set says of itself.
type Info struct {
	Name, SysID string
	State       string // "loaded" in an export
	Application string // its sys_id or "global"
	Scope       string
	Unloaded    string // when it was exported, in the exporter's words
	Updates     int    // without those that carry signatures
	Signatures  int
}

// unit is where one update stands, and what it was when it was read first.
type unit struct {
	offset int64
	size   int64
	line   int
	file   string // under source control
	sum    [sha256.Size]byte
	at     string // sys_recorded_at, hexadecimal
	last   bool   // no later update has its name
	seal   bool   // a signature or a root
}

// digest16 is the key of the indexes: 128 bits of SHA-256.
type digest16 [16]byte

// Set is an update set of which every update was understood. It is safe for
// concurrent use when its source is.
type Set struct {
	info       Info
	limits     Limits
	source     source
	units      []unit
	signatures map[digest16][]int32 // units with a signature, by the record's table and key
	roots      map[[sha256.Size]byte]int32
	records    map[digest16]int32 // units with an upsert of a record, the last one
	deletions  map[digest16]int32
	names      map[digest16]int32 // the last unit of a name
	header     header

	mu    sync.Mutex // guards cache
	cache map[[sha256.Size]byte][]byte
}

// source is where a set's bytes are.
type source interface {
	read(*unit) ([]byte, error)                   // as they stand there
	parse([]byte, *unit, Limits) (*Update, error) // one update
}

// header is what rows that Seal adds repeat of the set.
type header struct {
	setID, setName string
	end            int64 // offset of </unload>
}

// Open reads the whole set once, strictly. It refuses with an *Error, and then there
// is no Set. r must not change while the Set is in use: what changed is refused when
// it is read again.
func Open(ctx context.Context, r io.ReaderAt, size int64, l Limits) (*Set, error) {
	l = l.orDefault()
	x := &xmlSource{r: r, size: size}
	set := newSet(x, l)
	h := sha256.New()
	if err := set.readUnload(ctx, scan(io.TeeReader(io.NewSectionReader(r, 0, size), h), l.Update)); err != nil {
		return nil, err
	}
	if err := set.finish(); err != nil {
		return nil, err
	}
	h.Sum(x.sum[:0])
	return set, nil
}

func newSet(src source, l Limits) *Set {
	return &Set{limits: l, source: src, signatures: map[digest16][]int32{}, roots: map[[sha256.Size]byte]int32{},
		records: map[digest16]int32{}, deletions: map[digest16]int32{}, names: map[digest16]int32{}, cache: map[[sha256.Size]byte][]byte{}}
}

// Info says what the set says of itself.
func (s *Set) Info() Info { return s.info }

// readUnload reads the outer document.
func (s *Set) readUnload(ctx context.Context, x *scanner) error {
	if ok, err := x.has("\xef\xbb\xbf"); err != nil {
		return err
	} else if ok {
		return x.malformed("a byte order mark", "save the file as UTF-8 without one")
	}
	if err := x.declaration(); err != nil {
		return err
	}
	if _, err := x.space(); err != nil {
		return err
	}
	root, err := x.open()
	if err != nil {
		return err
	}
	if root.name != "unload" || root.empty {
		return x.malformed("the root is not unload", "this is no export of an update set")
	}
	for _, a := range root.attributes {
		if a.name != "unload_date" {
			return x.malformed("unload has the attribute "+a.name, "this is no export of an update set")
		}
		s.info.Unloaded = a.value
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := x.space(); err != nil {
			return err
		}
		x.drop()
		kind, err := x.next()
		if err != nil {
			return err
		}
		if kind == 't' {
			return x.malformed("text between the updates", removed)
		}
		if kind == '/' {
			s.header.end = x.base
			if err := x.closing("unload"); err != nil {
				return err
			}
			return x.end()
		}
		if s.header.setID == "" {
			if err := s.readHeader(x); err != nil {
				return err
			}
			continue
		}
		u := unit{offset: x.base, line: x.lines + 1}
		parsed, err := readUpdate(x, &u, s.limits)
		if err != nil {
			return err
		}
		u.size = int64(x.pos)
		u.sum = sha256.Sum256(x.data[:x.pos])
		if err := s.add(u, parsed); err != nil {
			return err
		}
	}
}

// readHeader reads the set's own record, which stands first.
func (s *Set) readHeader(x *scanner) error {
	t, err := x.open()
	if err != nil {
		return err
	}
	if t.name != "sys_remote_update_set" {
		return x.malformed("the first element is "+t.name, "an export begins with sys_remote_update_set; export the update set, not its records")
	}
	if a, _ := t.attribute("action"); Action(a) != Upsert || len(t.attributes) != 1 {
		return x.malformed("sys_remote_update_set has another action than INSERT_OR_UPDATE", again)
	}
	f, err := flat(x, t, s.limits)
	if err != nil {
		return err
	}
	if x.pos > maxHeader {
		return x.fail(tooLarge("a sys_remote_update_set of more than 1 MiB", again))
	}
	if f["sys_id"] == "" || f["name"] == "" {
		return x.malformed("sys_remote_update_set lacks its sys_id or name", again)
	}
	s.info.Name, s.info.SysID, s.info.State = f["name"], f["sys_id"], f["state"]
	s.info.Application, s.info.Scope = f["application"], f["application_scope"]
	s.header.setID, s.header.setName = f["sys_id"], f["name"]
	return nil
}

// flat reads elements that hold text alone.
func flat(x *scanner, t tag, l Limits) (map[string]string, error) {
	out := map[string]string{}
	if t.empty {
		return out, nil
	}
	for {
		if _, err := x.space(); err != nil {
			return nil, err
		}
		kind, err := x.next()
		switch {
		case err != nil:
			return nil, err
		case kind == '/':
			return out, x.closing(t.name)
		case kind == 't':
			return nil, x.malformed("text in "+t.name+", where only elements stand", again)
		}
		c, err := x.open()
		if err != nil {
			return nil, err
		}
		if _, twice := out[c.name]; twice {
			return nil, x.malformed("the element "+c.name+" stands twice", again)
		}
		if len(out) >= l.Fields {
			return nil, x.fail(tooLarge("an element with too many fields", again))
		}
		var value []byte
		if !c.empty {
			if value, err = x.text(nil); err != nil {
				return nil, err
			}
			if err := x.closing(c.name); err != nil {
				return nil, err
			}
		}
		out[c.name] = string(value)
	}
}

// readUpdate reads one sys_update_xml and its payload.
func readUpdate(x *scanner, u *unit, l Limits) (*Update, error) {
	t, err := x.open()
	if err != nil {
		return nil, err
	}
	if t.name != "sys_update_xml" {
		hint := removed
		if t.name == "sys_remote_update_set" {
			hint = "a batch of sets is several files: export each set alone"
		}
		return nil, x.malformed("the element "+t.name+" among the updates", hint)
	}
	if a, _ := t.attribute("action"); Action(a) != Upsert || len(t.attributes) != 1 {
		return nil, x.malformed("sys_update_xml has another action than INSERT_OR_UPDATE", again)
	}
	f, err := flat(x, t, l)
	if err != nil {
		return nil, err
	}
	out := &Update{Name: f["name"], Action: Action(f["action"]), Offset: u.offset, Size: int64(x.pos)}
	at := func(r *rejection.Error, line int) error {
		return &Error{Reason: r, Update: out.Name, Offset: u.offset, Line: u.line, Inner: line}
	}
	if out.Name == "" || len(out.Name) > maxName {
		return nil, at(malformed("an update without name, or with one of more than 256 bytes", again), 0)
	}
	if out.Action != Upsert && out.Action != Delete {
		return nil, at(malformed("an update with an unknown action", "leave it out of the set"), 0)
	}
	doc := f["payload"]
	delete(f, "payload")
	out.Fields, out.document = f, doc
	if doc == "" {
		return nil, at(malformed("an update without payload", again), 0)
	}
	out.Operations, _, err = readPayload([]byte(doc), out.Name, out.Action, l)
	var e *Error
	if errors.As(err, &e) {
		return nil, at(e.Reason, e.Line)
	}
	return out, err
}

func refKey(r record.Ref) digest16 {
	h := sha256.New()
	for _, part := range append([]string{r.Table}, r.Key...) {
		h.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return digest16(h.Sum(nil)[:16])
}

// add takes an update into the indexes.
func (s *Set) add(u unit, parsed *Update) error {
	at := func(r *rejection.Error) error {
		return &Error{Reason: r, Update: parsed.Name, Offset: u.offset, Line: u.line}
	}
	if len(s.units) >= s.limits.Updates {
		return at(tooLarge("a set with too many updates", split))
	}
	n := int32(len(s.units))
	name := refKey(record.Ref{Table: parsed.Name})
	before, twice := s.names[name]
	row, refused := readRow(parsed)
	if refused != nil {
		return at(refused)
	}
	switch {
	case row != nil && twice:
		return at(malformed("a signature stands twice", removed))
	case row != nil && row.signature != nil:
		key := refKey(row.ref)
		if len(s.signatures[key]) >= s.limits.Signatures {
			return at(tooLarge("a record with too many signatures", "remove the oldest"))
		}
		s.signatures[key] = append(s.signatures[key], n)
		s.info.Signatures++
	case row != nil:
		s.roots[row.digest] = n
	default:
		s.info.Updates++
	}
	u.at = strings.TrimLeft(parsed.Fields["sys_recorded_at"], "0")
	if twice {
		// An import goes by the time, a reader by the place: they must agree.
		if b := s.units[before].at; len(b) > len(u.at) || len(b) == len(u.at) && b > u.at {
			return at(mismatch("sys_recorded_at", "the set holds the update twice, the later version first"))
		}
		s.units[before].last = false
	}
	s.names[name] = n
	u.last, u.seal = true, row != nil
	for i := range parsed.Operations {
		o := &parsed.Operations[i]
		switch {
		case o.SysID == "" || o.Table == "sys_attachment_doc":
		case o.Action == Upsert:
			s.records[refKey(o.Ref())] = n
		case o.Action == Delete:
			s.deletions[refKey(o.Ref())] = n
		}
	}
	s.units = append(s.units, u)
	return nil
}

// finish checks what only the whole set shows.
func (s *Set) finish() error {
	if s.header.setID == "" || len(s.units) == 0 {
		return &Error{Reason: malformed("a set without updates", "there is nothing to import"), Line: 1}
	}
	return nil
}

// errChanged is returned when the file is no longer what was read first.
var errChanged = rejection.New(rejection.PayloadMalformed, "", "the set changed while it was being read: begin again")

// load reads one update again; its bytes are those of the first time.
func (s *Set) load(n int) (*Update, error) {
	u := &s.units[n]
	raw, err := s.source.read(u)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); !bytes.Equal(sum[:], u.sum[:]) {
		return nil, &Error{Reason: errChanged, Offset: u.offset, Line: u.line}
	}
	out, err := s.source.parse(raw, u, s.limits)
	if err != nil {
		return nil, err
	}
	out.Index, out.Superseded = n, !u.last
	return out, nil
}

// Updates calls f with every update in the set's order, those that carry signatures
// left out; f's error ends it.
func (s *Set) Updates(ctx context.Context, f func(*Update) error) error {
	for n := range s.units {
		if s.units[n].seal {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		u, err := s.load(n)
		if err != nil {
			return err
		}
		if err := f(u); err != nil {
			return err
		}
	}
	return nil
}

// current calls f with every update that is not replaced, signatures with them.
func (s *Set) current(ctx context.Context, f func(*Update) error) error {
	for n := range s.units {
		if !s.units[n].last {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		u, err := s.load(n)
		if err != nil {
			return err
		}
		if err := f(u); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether the set inserts or updates the record.
func (s *Set) Has(r record.Ref) bool {
	_, ok := s.records[refKey(r)]
	return ok
}

// xmlSource is one file.
type xmlSource struct {
	r    io.ReaderAt
	size int64
	sum  [sha256.Size]byte // of all of it
}

func (x *xmlSource) read(u *unit) ([]byte, error) {
	raw := make([]byte, u.size)
	_, err := x.r.ReadAt(raw, u.offset)
	if err == io.EOF {
		err = nil // what is missing is seen by the digest
	}
	return raw, err
}

func (x *xmlSource) parse(raw []byte, u *unit, l Limits) (*Update, error) {
	return readUpdate(scanBytes(raw), u, l)
}
