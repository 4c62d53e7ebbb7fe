package audit

import (
	"crypto"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// maxCosignTime is the last second of year 9999.
const maxCosignTime = maxTime / 1000

// cosigned is what a witness signs (tlog-cosignature): the time and the text.
func cosigned(at uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(at, 10)+"\n"), text...)
}

// Witness is the key of one who watches a log and cosigns each head that
// extends the last one. It is a note.Verifier of type 0x04.
type Witness struct{ key noteKey }

// NewWitness makes a witness's verifier.
func NewWitness(name string, pub ed25519.PublicKey) (Witness, error) {
	k, err := newNoteKey(name, algCosignature, pub)
	return Witness{k}, err
}

// ParseWitness reads a witness's verifier key, "name+hash+base64" of type 0x04.
func ParseWitness(vkey string) (Witness, error) {
	k, err := parseNoteKey(vkey, algCosignature)
	return Witness{k}, err
}

// String is the verifier key.
func (w Witness) String() string { return w.key.String() }

// Name is the witness's name.
func (w Witness) Name() string { return w.key.name }

// KeyHash is the key ID of signed-note.
func (w Witness) KeyHash() uint32 { return w.key.hash }

// Verify reports whether sig, a time and a signature, is the witness's over the
// text of a checkpoint.
func (w Witness) Verify(text, sig []byte) bool {
	_, ok := w.verify(text, sig)
	return ok
}

func (w Witness) verify(text, sig []byte) (time.Time, bool) {
	if len(w.key.pub) != ed25519.PublicKeySize || len(sig) != 8+ed25519.SignatureSize {
		return time.Time{}, false
	}
	at := binary.BigEndian.Uint64(sig)
	if at == 0 || at > maxCosignTime || !ed25519.Verify(w.key.pub, cosigned(at, text), sig[8:]) {
		return time.Time{}, false
	}
	return time.Unix(int64(at), 0).UTC(), true
}

// NewCosigner makes the signer of a witness for one moment; the caller has the
// clock. Use it with [Head.Cosign].
func NewCosigner(name string, key crypto.Signer, at time.Time) (note.Signer, error) {
	s := at.Unix()
	if s <= 0 || s > maxCosignTime {
		return nil, fmt.Errorf("audit: cosigner: time: %w", ErrLimit)
	}
	return newSigner(name, algCosignature, key, uint64(s))
}

// Cosignature is a good cosignature: who, and the time that they state.
type Cosignature struct {
	Witness string
	Time    time.Time
}

// CheckCosignatures wants cosignatures of at least need of the known witnesses
// and returns those that it found, in the order of known. A bad signature by a
// known witness refuses the whole (signed-note); those of others are passed
// over. A key counts once: to name a key or a witness twice is refused, and so
// is a need of none. The caller judges whether the times are recent.
func (h Head) CheckCosignatures(need int, known []Witness) ([]Cosignature, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	if need < 1 || need > len(known) {
		return nil, fmt.Errorf("audit: %d of %d witnesses: %w", need, len(known), ErrLimit)
	}
	names, keys := make(map[string]bool), make(map[string]bool)
	for _, w := range known {
		if names[w.key.name] || keys[string(w.key.pub)] {
			return nil, fmt.Errorf("audit: witness %s named twice: %w", w.key.name, ErrMalformed)
		}
		names[w.key.name], keys[string(w.key.pub)] = true, true
	}
	text, sigs, err := splitNote(h.note)
	if err != nil {
		return nil, err
	}
	var found []Cosignature
	for _, w := range known {
		for _, s := range sigs {
			if s.name != w.key.name || s.hash != w.key.hash {
				continue
			}
			at, ok := w.verify(text, s.sig)
			if !ok {
				return nil, fmt.Errorf("audit: cosignature of %s: %w", w.key.name, ErrSignature)
			}
			found = append(found, Cosignature{w.key.name, at})
		}
	}
	if len(found) < need {
		return found, fmt.Errorf("audit: %d of %d cosignatures: %w", len(found), need, ErrWitnesses)
	}
	return found, nil
}
