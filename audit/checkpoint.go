package audit

import (
	"bytes"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// check holds what every tree must be, signed or not.
func (t Tree) check() error {
	if t.Size < 0 || t.Size > MaxSize {
		return fmt.Errorf("audit: tree of size %d: %w", t.Size, ErrLimit)
	}
	if t.Size == 0 && t != EmptyTree() {
		return fmt.Errorf("audit: empty tree: %w", ErrInconsistent)
	}
	return nil
}

// FormatCheckpoint is the text of a checkpoint, which is what the log's key
// signs: origin, size, root, a line each. An origin is a key name: a URL
// without its scheme, "example.com/log". One that could forge further lines is
// refused.
func FormatCheckpoint(origin string, t Tree) (string, error) {
	if !validName(origin) {
		return "", fmt.Errorf("audit: origin %.80q: %w", origin, ErrMalformed)
	}
	if err := t.check(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\n%d\n%s\n", origin, t.Size, t.Root), nil
}

// SignCheckpoint is a checkpoint with signatures. It is the signer's duty to
// sign only what extends the tree that it signed last ([CheckConsistency]).
func SignCheckpoint(origin string, t Tree, signers ...note.Signer) ([]byte, error) {
	text, err := FormatCheckpoint(origin, t)
	if err != nil {
		return nil, err
	}
	msg, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return nil, fmt.Errorf("audit: checkpoint: %w", err)
	}
	if _, _, err := splitNote(msg); err != nil { // no signer, one key twice
		return nil, err
	}
	return msg, nil
}

// Cosign adds a signature to a checked head's checkpoint: what a witness does
// after it checked that the head extends the last one that it cosigned.
func (h Head) Cosign(signers ...note.Signer) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	_, sigs, err := splitNote(h.note)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(h.note)
	text := h.text()
	for _, s := range signers {
		for _, old := range sigs {
			if old.name == s.Name() && old.hash == s.KeyHash() {
				return nil, fmt.Errorf("audit: checkpoint: %s has signed: %w", s.Name(), ErrConflict)
			}
		}
		one, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			return nil, fmt.Errorf("audit: checkpoint: %w", err)
		}
		out = append(out, one[len(text)+1:]...)
	}
	if _, _, err := splitNote(out); err != nil {
		return nil, err
	}
	return out, nil
}

// Head is a signed head of a log that was checked: its only constructor is
// [ParseCheckpoint].
type Head struct {
	origin string
	tree   Tree
	note   []byte
}

// ParseCheckpoint checks a checkpoint: the origin, the form and the signature of
// the log's key. Signatures of other keys are kept but say nothing; see
// [Head.CheckCosignatures]. The key's name need not be the origin.
func ParseCheckpoint(msg []byte, origin string, v note.Verifier) (Head, error) {
	if v == nil {
		return Head{}, fmt.Errorf("audit: checkpoint: no verifier: %w", ErrSignature)
	}
	text, _, err := splitNote(msg)
	if err != nil {
		return Head{}, err
	}
	// The signature first: nothing else in a forged note is worth a word.
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Head{}, fmt.Errorf("audit: checkpoint: %w: %w", ErrSignature, err)
	}
	if len(n.Sigs) != 1 || n.Text != string(text) {
		return Head{}, fmt.Errorf("audit: checkpoint: %w", ErrSignature)
	}
	got, tree, err := parseText(n.Text)
	if err != nil {
		return Head{}, err
	}
	if got != origin {
		return Head{}, fmt.Errorf("audit: checkpoint of %.80q, not of %.80q: %w", got, origin, ErrOrigin)
	}
	return Head{origin: got, tree: tree, note: bytes.Clone(msg)}, nil
}

// check refuses the zero Head.
func (h Head) check() error {
	if h.origin == "" {
		return fmt.Errorf("audit: %w", ErrNoHead)
	}
	return nil
}

func (h Head) text() string {
	text, _ := FormatCheckpoint(h.origin, h.tree) // it was parsed from this
	return text
}

// Origin is the log's name.
func (h Head) Origin() string { return h.origin }

// Size is the number of entries.
func (h Head) Size() int64 { return h.tree.Size }

// Root is the root of the tree.
func (h Head) Root() [32]byte { return h.tree.Root }

// Tree is size and root.
func (h Head) Tree() Tree { return h.tree }

// Note is the checkpoint as it was given, signatures and all.
func (h Head) Note() []byte { return bytes.Clone(h.note) }
