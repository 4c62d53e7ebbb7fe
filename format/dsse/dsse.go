// Package dsse is what formats share whose signatures stand in a DSSE envelope
// (protocol v1.0.2): the round in which every key signs the payload, the signatures
// as an envelope names them, and the judgement of an envelope's signatures.
//
// Invariants:
//
//  1. Every key signs the pre-authentication encoding of the whole payload.
//  2. A signature gets into an envelope only if the identity made it over that.
//  3. An envelope is judged whole: each of its signatures is by a key that is
//     trusted, and each key signs once.
//
// A caller may not conclude anything from the payload, and not that somebody signed:
// an envelope without signatures has none to refuse. Reading envelopes is the
// formats' own, who have one encoding each.
package dsse

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// KeyID is the SHA-256 of a key's SubjectPublicKeyInfo, in hexadecimal.
func KeyID(pub crypto.PublicKey) (string, error) {
	id, err := envelope.KeyID(pub)
	return hex.EncodeToString(id), err
}

// tbs is what each key signs.
func tbs(f format.Format, payload []byte, signers []format.Identity) ([]format.ToBeSigned, error) {
	if err := format.CheckKeys(f, len(signers)); err != nil {
		return nil, err
	}
	message := statement.PAE(payload)
	var out []format.ToBeSigned
	for i, id := range signers {
		k, err := sigalg.KeyOf(id.Public)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		if !id.Scheme.Fits(k) {
			return nil, fmt.Errorf("%s: scheme %q does not fit a key %s", f.Name(), id.Scheme, k)
		}
		out = append(out, format.ToBeSigned{Scheme: id.Scheme, Message: message, Key: i})
	}
	return out, nil
}

// Round is the one round, in which each key of id signs the payload. It refuses a
// scheme that does not fit its key, and more keys than the format has places for.
func Round(f format.Format, payload []byte, id format.Identity, done [][]byte) ([]format.ToBeSigned, error) {
	t, err := tbs(f, payload, id.Signers())
	if err != nil {
		return nil, err
	}
	return envelope.Round(f.Name(), done, t)
}

// Signatures are those of an envelope with this payload. It refuses a file of another
// size than the plan's, signatures that the identity did not make over the payload,
// and timestamps, for which DSSE has no place.
func Signatures(f format.Format, a format.Artifact, p *format.Plan, payload []byte, id format.Identity, sigs []format.Signature) ([]statement.Signature, error) {
	signers := id.Signers()
	t, err := tbs(f, payload, signers)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%s: the file has %d bytes: the plan is for %d", f.Name(), a.Size(), p.Size)
	}
	if len(sigs) != len(t) {
		return nil, fmt.Errorf("%s: %d signatures: %d are wanted", f.Name(), len(sigs), len(t))
	}
	var out []statement.Signature
	for i, id := range signers {
		if sigs[i].Timestamp != nil {
			return nil, fmt.Errorf("%s: an envelope has no place for a timestamp", f.Name())
		}
		if err := t[i].Verify(id.Public, sigs[i].Value); err != nil {
			return nil, fmt.Errorf("%s: signature does not fit plan and key: %w", f.Name(), err)
		}
		name, err := KeyID(id.Public)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		out = append(out, statement.Signature{KeyID: name, Sig: sigs[i].Value})
	}
	return out, nil
}

// ErrNoKeys is wrapped where nothing is trusted that could have signed.
var ErrNoKeys = errors.New("no keys are trusted")

// Signer is who made a signature, and how.
type Signer struct {
	Key    crypto.PublicKey
	Scheme sigalg.Scheme
}

// Judge finds who made each signature of an envelope, in their order, or says which
// one nobody made who is trusted. DSSE carries neither certificates nor schemes: keys
// are told by their names, and the scheme is the one under which the signature fits.
func Judge(name string, payload []byte, sigs []statement.Signature, trusted []crypto.PublicKey) ([]Signer, error) {
	if len(trusted) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrNoKeys)
	}
	keys := map[string]crypto.PublicKey{}
	for _, pub := range trusted {
		id, err := KeyID(pub)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys[id] = pub
	}
	message := statement.PAE(payload)
	var out []Signer
	for i, s := range sigs {
		pub, ok := keys[s.KeyID]
		if !ok {
			return nil, fmt.Errorf("%s: signature %d: key %s is not trusted, or signed already", name, i, s.KeyID)
		}
		delete(keys, s.KeyID)
		scheme, err := sigalg.SchemeOf(pub, message, s.Sig)
		if err != nil {
			return nil, fmt.Errorf("%s: signature %d: %w", name, i, err)
		}
		out = append(out, Signer{pub, scheme})
	}
	return out, nil
}
