package updateset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Sealed counts what Seal did.
type Sealed struct {
	Signatures int // added
	Roots      int // added
	Already    int // signatures that the set had
}

// Seal writes the set to w with the signatures in it, each signed root once. Every
// byte that was there stays; what the set holds already is not added again. A
// signature of something that the set does not hold is refused.
//
// w is complete only when Seal returns no error: write to a temporary file.
func (s *Set) Seal(ctx context.Context, w io.Writer, signatures iter.Seq2[*record.Signature, error]) (Sealed, error) {
	x, ok := s.source.(*xmlSource)
	if !ok {
		return Sealed{}, fmt.Errorf("updateset: a folder is sealed by SealDirectory")
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), io.NewSectionReader(x.r, 0, s.header.end)); err != nil {
		return Sealed{}, err
	}
	done, err := s.seal(ctx, signatures, func(r *Row) error {
		b, err := r.update(s.header, s.limits)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err != nil {
		return done, err
	}
	tail := io.NewSectionReader(x.r, s.header.end, x.size-s.header.end)
	if _, err := io.Copy(io.MultiWriter(w, h), tail); err != nil {
		return done, err
	}
	if !bytes.Equal(h.Sum(nil), x.sum[:]) {
		return done, &Error{Reason: errChanged, Line: 1}
	}
	return done, nil
}

// seal gives what is to be added to add, roots before the signatures under them.
func (s *Set) seal(ctx context.Context, signatures iter.Seq2[*record.Signature, error], add func(*Row) error) (Sealed, error) {
	var done Sealed
	added := map[digest16]bool{}
	roots := map[[sha256.Size]byte]*record.SignedRoot{}
	perRecord := map[digest16]int{}
	for sig, err := range signatures {
		if err != nil {
			return done, err
		}
		if err := ctx.Err(); err != nil {
			return done, err
		}
		st, err := record.DecodeStatement(sig.Statement)
		if err != nil {
			return done, fmt.Errorf("updateset: %w", err)
		}
		if !s.holds(st) {
			return done, fmt.Errorf("updateset: %w", rejection.New(rejection.RecordMismatch, st.Ref.Table, "a signature of a record that the set does not hold"))
		}
		digest := sha256.Sum256(sig.Root)
		root := roots[digest]
		if root == nil {
			if root, err = record.DecodeSignedRoot(sig.Root); err != nil {
				return done, fmt.Errorf("updateset: %w", err)
			}
			roots[digest] = root
			if _, has := s.roots[digest]; !has {
				if err := add(rootRow(sig.Root, root, digest)); err != nil {
					return done, err
				}
				done.Roots++
			}
		}
		r := signatureRow(sig, st, root, digest)
		name := refKey(record.Ref{Table: r.Name()})
		if _, has := s.names[name]; has || added[name] {
			done.Already++
			continue
		}
		key := refKey(st.Ref)
		if perRecord[key]++; perRecord[key]+len(s.signatures[key]) > s.limits.Signatures {
			return done, fmt.Errorf("updateset: %w", tooLarge("a record with too many signatures", "remove the oldest"))
		}
		added[name] = true
		if err := add(r); err != nil {
			return done, err
		}
		done.Signatures++
	}
	return done, nil
}

func (s *Set) holds(st *record.Statement) bool {
	m := s.records
	if st.Deleted {
		m = s.deletions
	}
	_, ok := m[refKey(st.Ref)]
	return ok
}

// Signatures are those that the set carries of a record, in its order. The roots are
// shared between them.
func (s *Set) Signatures(ref record.Ref) ([]record.Signature, error) {
	var out []record.Signature
	for _, n := range s.signatures[refKey(ref)] {
		u, err := s.load(int(n))
		if err != nil {
			return nil, err
		}
		r, refused := readRow(u)
		if refused != nil {
			return nil, refused
		}
		if !r.ref.Equal(ref) { // 128 bits agreed by chance or by work; not this record's
			continue
		}
		root, err := s.root(r.digest)
		if err != nil {
			return nil, err
		}
		r.signature.Root = root
		out = append(out, *r.signature)
	}
	return out, nil
}

// maxRoots is how many signed roots are kept at hand.
const maxRoots = 16

// root is a signed root's content; nil when the set does not hold it, which the
// verifier refuses.
func (s *Set) root(digest [sha256.Size]byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.cache[digest]; ok {
		return b, nil
	}
	n, ok := s.roots[digest]
	if !ok {
		return nil, nil
	}
	u, err := s.load(int(n))
	if err != nil {
		return nil, err
	}
	r, refused := readRow(u)
	if refused != nil {
		return nil, refused
	}
	if len(s.cache) >= maxRoots {
		clear(s.cache)
	}
	s.cache[digest] = r.content
	return r.content, nil
}
