package record

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/greatseal-io/greatseal/merkle"
)

// StatementOptions are what a statement says beside the record itself.
type StatementOptions struct {
	Issuer    string   // the instance that signs
	Audience  []string // sorted; empty: every instance of the circle
	Revision  uint64   // higher than that of any other content of the record
	Deleted   bool     // the record is to be deleted
	NotBefore int64    // Unix seconds; 0: none
	Expires   int64    // Unix seconds; 0: never
}

// Prepared is a configuration that was checked, ready for many statements. It is
// safe for concurrent use.
type Prepared struct {
	c   Configuration
	ref ConfigurationRef
}

// Prepare checks c.
func (c *Configuration) Prepare(id string) (*Prepared, error) {
	if err := c.Check(id); err != nil {
		return nil, err
	}
	p := &Prepared{c: *c}
	p.c.Fields, p.c.Parameters = slices.Clone(c.Fields), slices.Clone(c.Parameters)
	p.ref = p.c.Ref(id)
	return p, nil
}

// NewStatement makes the statement of r under the configuration.
func NewStatement(id string, c *Configuration, r *Record, o StatementOptions) (*Statement, error) {
	p, err := c.Prepare(id)
	if err != nil {
		return nil, err
	}
	return p.Statement(r, o)
}

// Statement makes the statement of r. Fields that the configuration does not sign
// are not looked at.
func (p *Prepared) Statement(r *Record, o StatementOptions) (*Statement, error) {
	if r.Ref.Table != p.c.Table {
		return nil, malformed("a record of table %.80q under the configuration %s of table %s", r.Ref.Table, p.ref.ID, p.c.Table)
	}
	s := &Statement{
		Version: 1, Purpose: p.c.Purpose, Issuer: o.Issuer, Audience: o.Audience, Ref: r.Ref, Revision: o.Revision, Deleted: o.Deleted,
		Configuration: p.ref, NotBefore: o.NotBefore, Expires: o.Expires, Fields: make([]FieldDigest, len(p.c.Fields)),
	}
	for i, name := range p.c.Fields {
		v := r.Fields[name]
		if len(v) > MaxValue {
			return nil, malformed("field %s of %s has %d bytes: at most %d", name, r.Ref, len(v), MaxValue)
		}
		s.Fields[i] = FieldDigest{name, FieldDigestOf(name, v)}
	}
	if p.c.Attachments {
		s.Attachments = slices.SortedFunc(slices.Values(r.Attachments), Attachment.compare)
	}
	return s, s.Check()
}

func (a Attachment) compare(b Attachment) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.SHA256[:], b.SHA256[:]), cmp.Compare(a.Size, b.Size), cmp.Compare(a.Type, b.Type))
}

// Check refuses a statement that nobody may make.
func (s *Statement) Check() error {
	if s.Version != 1 {
		return malformed("statement of version %d", s.Version)
	}
	if s.Purpose != Wildcard {
		if err := checkWord("purpose", s.Purpose); err != nil {
			return err
		}
	}
	if err := checkWord("issuer", s.Issuer); err != nil {
		return err
	}
	if err := checkSorted("audience", s.Audience, MaxAudience, checkWord); err != nil {
		return err
	}
	if err := s.Ref.Check(); err != nil {
		return err
	}
	if s.Revision < 1 || s.Revision > math.MaxInt64 {
		return malformed("revision %d: want 1 to 2^63-1", s.Revision)
	}
	if err := s.Configuration.check(); err != nil {
		return err
	}
	if len(s.Fields) > MaxFields || len(s.Attachments) > MaxAttachments {
		return malformed("%d fields, %d attachments: at most %d and %d", len(s.Fields), len(s.Attachments), MaxFields, MaxAttachments)
	}
	for i := range s.Fields {
		if err := checkText("field", s.Fields[i].Name); err != nil {
			return err
		}
		if i > 0 && s.Fields[i-1].Name >= s.Fields[i].Name {
			return malformed("field %.80q is out of order or stands twice", s.Fields[i].Name)
		}
	}
	for i, a := range s.Attachments {
		if a.Name == "" || len(a.Name) > MaxFileName || !plain(a.Name) || len(a.Type) > MaxName || !plain(a.Type) || a.Size < 0 {
			return malformed("attachment %d: want a name of 1 to %d bytes, a type of at most %d, printable, and a size", i, MaxFileName, MaxName)
		}
		if i > 0 && s.Attachments[i-1].compare(a) > 0 {
			return malformed("attachment %.80q is out of order", a.Name)
		}
	}
	return checkTimes(s.NotBefore, s.Expires)
}

func checkTimes(from, to int64) error {
	if from < 0 || to < 0 || from > maxSeconds || to > maxSeconds || to > 0 && to < from {
		return malformed("times from %d to %d", from, to)
	}
	return nil
}

// Encode is the statement's one encoding: deterministic CBOR.
func (s *Statement) Encode() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	b := s.append(make([]byte, 0, 256+64*len(s.Fields)+128*len(s.Attachments)))
	if len(b) > MaxStatement {
		return nil, malformed("statement of %d bytes: at most %d", len(b), MaxStatement)
	}
	return b, nil
}

// DecodeStatement reads a statement strictly.
func DecodeStatement(b []byte) (*Statement, error) {
	if len(b) > MaxStatement {
		return nil, malformed("statement of %d bytes: at most %d", len(b), MaxStatement)
	}
	var s Statement
	if !s.read(b) {
		return nil, malformed("statement is not in its one encoding")
	}
	return &s, s.Check()
}

// Leaf is the leaf of an encoded statement in its job's tree.
func Leaf(statement []byte) merkle.Hash { return merkle.Leaf(merkle.Records, statement) }
