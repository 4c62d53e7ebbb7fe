package format

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/greatseal-io/greatseal/merkle"
)

// Limits of a patch.
const (
	MaxEdits  = 4096
	MaxInsert = 256 << 20 // bytes of all edits together, or of a sidecar
)

// ErrPatch is wrapped by errors about a patch that contradicts itself.
var ErrPatch = errors.New("format: patch")

// Check refuses a patch that is not edits in ascending order inside a file of
// p.Size bytes, or a sidecar whose suffix is safe to append to a file's name.
func (p *Patch) Check() error {
	switch {
	case p.Size < 0 || p.Size > math.MaxInt64-MaxInsert: // so that NewSize does not overflow
		return fmt.Errorf("%w: of a file of %d bytes", ErrPatch, p.Size)
	case (len(p.Edits) > 0) == (p.Sidecar != nil):
		return fmt.Errorf("%w: edits or a sidecar are wanted, one of the two", ErrPatch)
	case len(p.Edits) > MaxEdits:
		return fmt.Errorf("%w: %d edits: at most %d", ErrPatch, len(p.Edits), MaxEdits)
	case p.Sidecar != nil:
		return p.Sidecar.check()
	}
	free, first, total := int64(0), true, 0
	for i, e := range p.Edits {
		switch {
		case e.Offset < 0 || e.Delete < 0 || e.Offset > p.Size || e.Delete > p.Size-e.Offset:
			return fmt.Errorf("%w: edit %d lies outside of the file", ErrPatch, i)
		case e.Offset < free || !first && e.Offset == p.Edits[i-1].Offset:
			return fmt.Errorf("%w: edit %d overlaps the one before or is out of order", ErrPatch, i)
		case e.Delete == 0 && len(e.Insert) == 0:
			return fmt.Errorf("%w: edit %d changes nothing", ErrPatch, i)
		}
		if total += len(e.Insert); total > MaxInsert {
			return fmt.Errorf("%w: more than %d bytes inserted", ErrPatch, MaxInsert)
		}
		free, first = e.Offset+e.Delete, false
	}
	return nil
}

// check refuses a suffix that could lead out of the file's folder or hide: a dot,
// then letters, digits, dots and hyphens, no two dots in a row.
func (s *Sidecar) check() error {
	ok := len(s.Suffix) >= 2 && len(s.Suffix) <= 32 && s.Suffix[0] == '.'
	for i := 1; ok && i < len(s.Suffix); i++ {
		c := s.Suffix[i]
		ok = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' && s.Suffix[i-1] != '.' && i+1 < len(s.Suffix)
	}
	if !ok {
		return fmt.Errorf("%w: sidecar suffix %.40q", ErrPatch, s.Suffix)
	}
	if len(s.Data) == 0 || len(s.Data) > MaxInsert {
		return fmt.Errorf("%w: sidecar of %d bytes", ErrPatch, len(s.Data))
	}
	return nil
}

// NewSize is the size of the file after the edits.
func (p *Patch) NewSize() int64 {
	n := p.Size
	for _, e := range p.Edits {
		n += int64(len(e.Insert)) - e.Delete
	}
	return n
}

// Bytes applies the edits to a in memory and returns the new file. It refuses a
// sidecar, and an artifact of another size than the patch was made for.
func (p *Patch) Bytes(a Artifact) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if p.Sidecar != nil {
		return nil, fmt.Errorf("%w: a sidecar does not change the file", ErrPatch)
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%w: made for %d bytes: the file has %d", ErrPatch, p.Size, a.Size())
	}
	var out bytes.Buffer
	pos := int64(0)
	keep := func(to int64) error {
		b := make([]byte, to-pos)
		if err := ReadFull(a, b, pos); err != nil {
			return err
		}
		out.Write(b)
		return nil
	}
	for _, e := range p.Edits {
		if err := keep(e.Offset); err != nil {
			return nil, err
		}
		out.Write(e.Insert)
		pos = e.Offset + e.Delete
	}
	if err := keep(p.Size); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

type signatureLeaf struct {
	Item []byte   `cbor:"1,keyasint"`
	Sigs [][]byte `cbor:"2,keyasint"`
}

// SignatureLeaf is the leaf, in a receipt's tree of signatures, of one item: its
// leaf in the request's tree ([Leaf]) and the signature values of all rounds in
// their order, as deterministic CBOR {1: item, 2: [value, …]}.
func SignatureLeaf(item merkle.Hash, sigs [][]byte) merkle.Hash {
	b, err := Encode(signatureLeaf{item[:], sigs})
	if err != nil {
		panic(err) // byte strings always encode
	}
	return merkle.Leaf(merkle.Signatures, b)
}

// SignaturesRoot is the root over the signatures of a request's items, in the
// order of the items.
func SignaturesRoot(items []merkle.Hash, sigs [][][]byte) (merkle.Hash, error) {
	if len(items) != len(sigs) {
		return merkle.Hash{}, fmt.Errorf("format: %d items and the signatures of %d", len(items), len(sigs))
	}
	leaves := make([]merkle.Hash, len(items))
	for i := range items {
		leaves[i] = SignatureLeaf(items[i], sigs[i])
	}
	return merkle.Root(merkle.Signatures, leaves)
}
