package audit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

const (
	// maxNote bounds a checkpoint with its signatures, maxSignatures their number.
	maxNote       = 1 << 16
	maxSignatures = 100

	algEd25519     = 0x01 // https://c2sp.org/signed-note
	algCosignature = 0x04 // https://c2sp.org/tlog-cosignature, Ed25519
)

// strict64 refuses bits that encode nothing. Line breaks inside, which it lets
// pass, cannot get here: see splitNote.
var strict64 = base64.StdEncoding.Strict()

// validName says whether a name can be a key's or a log's: not empty, no white
// space, no plus (signed-note), no control characters, of bounded length.
func validName(name string) bool {
	return name != "" && len(name) <= 255 && utf8.ValidString(name) && !strings.Contains(name, "+") &&
		strings.IndexFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) < 0
}

// keyHash is the key ID of signed-note.
func keyHash(name string, alg byte, pub []byte) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', alg})
	h.Write(pub)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// noteKey is a named Ed25519 key of one algorithm.
type noteKey struct {
	name string
	hash uint32
	alg  byte
	pub  ed25519.PublicKey
}

func newNoteKey(name string, alg byte, pub ed25519.PublicKey) (noteKey, error) {
	if !validName(name) {
		return noteKey{}, fmt.Errorf("audit: key name %.80q: %w", name, ErrMalformed)
	}
	if len(pub) != ed25519.PublicKeySize {
		return noteKey{}, fmt.Errorf("audit: public key of %d bytes: %w", len(pub), ErrMalformed)
	}
	return noteKey{name, keyHash(name, alg, pub), alg, bytes.Clone(pub)}, nil
}

// String is the verifier key: name+hash+base64 (signed-note).
func (k noteKey) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.hash, strict64.EncodeToString(append([]byte{k.alg}, k.pub...)))
}

func parseNoteKey(vkey string, alg byte) (noteKey, error) {
	bad := fmt.Errorf("audit: verifier key: %w", ErrMalformed)
	name, rest, ok1 := strings.Cut(vkey, "+")
	_, key64, ok2 := strings.Cut(rest, "+")
	raw, err := strict64.DecodeString(key64)
	if !ok1 || !ok2 || err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != alg {
		return noteKey{}, bad
	}
	k, err := newNoteKey(name, alg, raw[1:])
	if err != nil {
		return noteKey{}, err
	}
	if k.String() != vkey { // another hash, capitals, line breaks
		return noteKey{}, bad
	}
	return k, nil
}

// verifier is a note.Verifier of plain Ed25519.
type verifier struct{ key noteKey }

func (v *verifier) Name() string    { return v.key.name }
func (v *verifier) KeyHash() uint32 { return v.key.hash }
func (v *verifier) String() string  { return v.key.String() }

func (v *verifier) Verify(msg, sig []byte) bool { return ed25519.Verify(v.key.pub, msg, sig) }

// NewVerifier makes the verifier of a log's key.
func NewVerifier(name string, pub ed25519.PublicKey) (note.Verifier, error) {
	k, err := newNoteKey(name, algEd25519, pub)
	if err != nil {
		return nil, err
	}
	return &verifier{k}, nil
}

// VerifierKey is the public key as people exchange it: "name+hash+base64"
// (signed-note, algorithm 0x01).
func VerifierKey(name string, pub ed25519.PublicKey) (string, error) {
	k, err := newNoteKey(name, algEd25519, pub)
	if err != nil {
		return "", err
	}
	return k.String(), nil
}

// ParseVerifierKey reads what [VerifierKey] makes.
func ParseVerifierKey(vkey string) (note.Verifier, error) {
	k, err := parseNoteKey(vkey, algEd25519)
	if err != nil {
		return nil, err
	}
	return &verifier{k}, nil
}

// signer is a note.Signer over a key that may live in a device.
type signer struct {
	noteKey
	key crypto.Signer
	at  uint64 // for cosignatures: seconds since 1970
}

// NewSigner makes the note signer of an Ed25519 key. What the key returns is
// checked before it is used: a device that fails must not publish.
func NewSigner(name string, key crypto.Signer) (note.Signer, error) {
	return newSigner(name, algEd25519, key, 0)
}

func newSigner(name string, alg byte, key crypto.Signer, at uint64) (note.Signer, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("audit: signer %.80q: not an Ed25519 key: %w", name, ErrMalformed)
	}
	k, err := newNoteKey(name, alg, pub)
	if err != nil {
		return nil, err
	}
	return &signer{k, key, at}, nil
}

func (s *signer) Name() string    { return s.name }
func (s *signer) KeyHash() uint32 { return s.hash }

func (s *signer) Sign(msg []byte) ([]byte, error) {
	if s.alg == algCosignature {
		msg = cosigned(s.at, msg)
	}
	sig, err := s.key.Sign(nil, msg, crypto.Hash(0)) // Ed25519 needs no randomness
	if err != nil {
		return nil, fmt.Errorf("audit: sign as %s: %w", s.name, err)
	}
	if !ed25519.Verify(s.pub, msg, sig) {
		return nil, fmt.Errorf("audit: sign as %s: own signature: %w", s.name, ErrSignature)
	}
	if s.alg == algCosignature {
		sig = append(binary.BigEndian.AppendUint64(nil, s.at), sig...)
	}
	return sig, nil
}

// signature is one line below a note.
type signature struct {
	name string
	hash uint32
	sig  []byte
}

// splitNote takes a note apart in the only form that it may have. sumdb/note
// verifies signatures, but it forgives repeated lines and base64 that has more
// than one spelling, so that one signed note would have many encodings.
func splitNote(msg []byte) (text []byte, sigs []signature, err error) {
	bad := func(what string) ([]byte, []signature, error) {
		return nil, nil, fmt.Errorf("audit: note: %s: %w", what, ErrMalformed)
	}
	if len(msg) > maxNote {
		return nil, nil, fmt.Errorf("audit: note of %d bytes: %w", len(msg), ErrLimit)
	}
	if !utf8.Valid(msg) || bytes.ContainsFunc(msg, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
		return bad("control characters")
	}
	split := bytes.LastIndex(msg, []byte("\n\n"))
	if split < 0 || msg[len(msg)-1] != '\n' {
		return bad("no signatures")
	}
	type id struct {
		name string
		hash uint32
	}
	seen := make(map[id]bool)
	text = msg[:split+1]
	for line := range bytes.Lines(msg[split+2:]) {
		rest, ok := strings.CutPrefix(string(line), "— ")
		if !ok {
			return bad("signature line")
		}
		name, b64, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
		raw, err := strict64.DecodeString(b64)
		if err != nil || len(raw) < 5 || !validName(name) {
			return bad("signature line")
		}
		s := signature{name, binary.BigEndian.Uint32(raw), raw[4:]}
		if seen[id{s.name, s.hash}] {
			return bad("two signatures by one key")
		}
		seen[id{s.name, s.hash}] = true
		if sigs = append(sigs, s); len(sigs) > maxSignatures {
			return nil, nil, fmt.Errorf("audit: note: signatures: %w", ErrLimit)
		}
	}
	if len(sigs) == 0 {
		return bad("no signatures")
	}
	return text, sigs, nil
}

// parseText reads the three lines of a checkpoint.
func parseText(text string) (origin string, t Tree, err error) {
	bad := fmt.Errorf("audit: checkpoint: %w", ErrMalformed)
	body, ok := strings.CutSuffix(text, "\n")
	lines := strings.Split(body, "\n")
	if !ok || len(lines) != 3 || !validName(lines[0]) {
		return "", Tree{}, bad
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] {
		return "", Tree{}, bad
	}
	root, err := strict64.DecodeString(lines[2])
	if err != nil || len(root) != len(t.Root) {
		return "", Tree{}, bad
	}
	t.Size = size
	copy(t.Root[:], root)
	if err := t.check(); err != nil {
		return "", Tree{}, err
	}
	return lines[0], t, nil
}
