package record

import (
	"maps"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/merkle"
)

// Builder makes a job from its statements, one by one, in constant memory. It is
// not safe for concurrent use.
type Builder struct {
	head    ListHead
	tree    *merkle.Builder
	job     Job
	tables  map[string]int64
	purpose map[string]bool
	configs map[string]ConfigurationRef
	forever bool // a statement has no Expires
}

// NewBuilder begins a job. Hash tiles, from which paths are read, go to tiles; nil:
// nowhere.
func NewBuilder(h ListHead, tiles merkle.TileWriter) (*Builder, error) {
	b, err := h.encode()
	if err != nil {
		return nil, err
	}
	h.Audience = slices.Clone(h.Audience)
	return &Builder{
		head: h, tree: merkle.NewBuilder(merkle.Records, tiles),
		job:    Job{Version: 1, ID: h.Job, Issuer: h.Issuer, Audience: h.Audience, Size: int64(len(b))},
		tables: map[string]int64{}, purpose: map[string]bool{}, configs: map[string]ConfigurationRef{},
	}, nil
}

// Sealed is a statement with its encoding and leaf, ready for a job: what is work
// about a statement can be done on all cores, and only AddSealed in order.
type Sealed struct {
	statement *Statement
	encoded   []byte
	leaf      merkle.Hash
}

// Seal checks and encodes a statement, which nobody may change any more.
func (s *Statement) Seal() (*Sealed, error) {
	b, err := s.Encode()
	if err != nil {
		return nil, err
	}
	return &Sealed{s, b, Leaf(b)}, nil
}

// Bytes is the encoding, which nobody may change.
func (s *Sealed) Bytes() []byte { return s.encoded }

// Add adds a statement and returns its encoding and its index among the job's.
func (b *Builder) Add(s *Statement) (encoded []byte, index int64, err error) {
	x, err := s.Seal()
	if err != nil {
		return nil, 0, err
	}
	index, err = b.AddSealed(x)
	return x.encoded, index, err
}

// AddSealed adds a statement and returns its index among the job's.
func (b *Builder) AddSealed(x *Sealed) (index int64, err error) {
	return b.add(x.statement, len(x.encoded), x.leaf)
}

// AddEncoded adds an encoded statement.
func (b *Builder) AddEncoded(statement []byte) (index int64, err error) {
	s, err := DecodeStatement(statement)
	if err != nil {
		return 0, err
	}
	return b.add(s, len(statement), Leaf(statement))
}

// add counts a statement that was checked.
func (b *Builder) add(s *Statement, size int, leaf merkle.Hash) (int64, error) {
	if s.Issuer != b.head.Issuer || !slices.Equal(s.Audience, b.head.Audience) {
		return 0, malformed("statement of another issuer or audience than its job")
	}
	// Strings are cloned: those of a decoded statement may share its buffer.
	if !b.purpose[s.Purpose] {
		if len(b.purpose) == MaxPurposes {
			return 0, malformed("job of more than %d purposes", MaxPurposes)
		}
		b.purpose[strings.Clone(s.Purpose)] = true
	}
	if n, ok := b.tables[s.Ref.Table]; ok {
		b.tables[s.Ref.Table] = n + 1
	} else if len(b.tables) == MaxTables {
		return 0, malformed("job of more than %d tables", MaxTables)
	} else {
		b.tables[strings.Clone(s.Ref.Table)] = 1
	}
	if c, ok := b.configs[s.Configuration.ID]; !ok {
		if len(b.configs) == MaxConfigs {
			return 0, malformed("job of more than %d configurations", MaxConfigs)
		}
		c = s.Configuration
		c.ID = strings.Clone(c.ID)
		b.configs[c.ID] = c
	} else if c != s.Configuration {
		return 0, malformed("job of two configurations %.80q", s.Configuration.ID)
	}
	i, err := b.tree.Add(leaf)
	if err != nil {
		return 0, err
	}
	j := &b.job
	if s.Deleted {
		j.Deletions++
	}
	if i == 0 || s.Revision < j.LowestRevision {
		j.LowestRevision = s.Revision
	}
	j.LatestRevision = max(j.LatestRevision, s.Revision)
	if i == 0 || s.NotBefore < j.NotBefore {
		j.NotBefore = s.NotBefore
	}
	j.Expires = max(j.Expires, s.Expires)
	b.forever = b.forever || s.Expires == 0
	j.Size += 4 + int64(size)
	return i, nil
}

// Finish returns the job. The builder is of no use afterwards.
func (b *Builder) Finish() (*Job, error) {
	root, err := b.tree.Finish()
	if err != nil {
		return nil, err
	}
	j := b.job
	j.Count, j.Root = b.tree.Len(), root[:]
	j.Purposes = slices.Sorted(maps.Keys(b.purpose))
	for _, t := range slices.Sorted(maps.Keys(b.tables)) {
		j.Tables = append(j.Tables, TableCount{t, b.tables[t]})
	}
	for _, id := range slices.Sorted(maps.Keys(b.configs)) {
		j.Configurations = append(j.Configurations, b.configs[id])
	}
	if b.forever {
		j.Expires = 0
	}
	return &j, j.Check()
}
