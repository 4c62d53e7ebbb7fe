// Package statement is what people, machines and the keeper sign: in-toto
// statements (in-toto Attestation Framework, Statement v1) in DSSE envelopes
// (secure-systems-lab/dsse, protocol v1.0.2), with predicates of our own for
// requests, endorsements and receipts. The charter's predicate is package
// charter's.
//
// The signed bytes are kept as they were signed and never made anew. A payload
// has one encoding: JSON without insignificant white space, members in the order
// of the Go structs here, maps sorted by key. [Decode] encodes what it has read
// and refuses a payload that differs in one byte, so that unknown, duplicate,
// missing, re-ordered or differently escaped members cannot be.
//
// A statement's [ID] is SHA-256 of its pre-authentication encoding
//
//	"DSSEv1" SP len(type) SP type SP len(payload) SP payload
//
// which is also the challenge that a passkey signs.
//
// Invariants:
//
//  1. Decode(Encode(p)) gives p; Encode(Decode(b)) gives b.
//  2. A statement's subject follows from its predicate; Decode checks it.
//  3. Statements of different kinds have different IDs: the predicate type is in
//     the signed bytes.
//  4. Nothing here says that a signature is valid: an Envelope is a claim until
//     package credential has verified it.
package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strconv"
)

// PayloadType is the only payload type in use.
const PayloadType = "application/vnd.in-toto+json"

// Limits of what is decoded.
const (
	MaxPayload    = 1 << 20 // bytes of one statement
	MaxSignatures = 64      // signatures of one envelope (only a charter has several)
	MaxSignature  = 64 << 10
)

// ErrEncoding is wrapped by errors about bytes that are not in the one accepted
// encoding.
var ErrEncoding = errors.New("not in canonical encoding")

// ID identifies a statement: SHA-256 of its pre-authentication encoding.
type ID [sha256.Size]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the ID of no statement.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText is String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of String and takes no other form.
func (id *ID) UnmarshalText(b []byte) error {
	p, err := ParseID(string(b))
	if err == nil {
		*id = p
	}
	return err
}

// ParseID reads 64 lower-case hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != s {
		return id, fmt.Errorf("statement: %.80q is not an ID of 64 lower-case hexadecimal digits", s)
	}
	copy(id[:], b)
	return id, nil
}

// PAE is the pre-authentication encoding of payload: the message that is signed.
func PAE(payload []byte) []byte {
	b := make([]byte, 0, len(payload)+64)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(PayloadType)), 10)
	b = append(b, ' ')
	b = append(b, PayloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// IDOf is the ID of the statement with this payload.
func IDOf(payload []byte) ID { return sha256.Sum256(PAE(payload)) }

// Signature is one signature of an envelope. KeyID is the credential.ID of who
// claims to have made it; Sig has the form of that credential's kind.
type Signature struct {
	KeyID string
	Sig   []byte
}

// Envelope is a DSSE envelope: a payload as it was signed, and its signatures.
type Envelope struct {
	Payload    []byte
	Signatures []Signature
}

// ID is the ID of the enveloped statement. It does not depend on the signatures.
func (e *Envelope) ID() ID { return IDOf(e.Payload) }

type wireSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

type wireEnvelope struct {
	Payload     string          `json:"payload"`
	PayloadType string          `json:"payloadType"`
	Signatures  []wireSignature `json:"signatures"`
}

// Encode writes the envelope in its one JSON form, base64 with padding.
func (e *Envelope) Encode() ([]byte, error) {
	w := wireEnvelope{Payload: base64.StdEncoding.EncodeToString(e.Payload), PayloadType: PayloadType, Signatures: []wireSignature{}}
	for _, s := range e.Signatures {
		w.Signatures = append(w.Signatures, wireSignature{s.KeyID, base64.StdEncoding.EncodeToString(s.Sig)})
	}
	return marshal(w)
}

// DecodeEnveloped reads an envelope strictly, and its payload as a statement with
// predicate P. No signature is checked.
func DecodeEnveloped[P Predicate](b []byte) (*Envelope, P, error) {
	var zero P
	e, err := DecodeEnvelope(b)
	if err != nil {
		return nil, zero, err
	}
	p, err := Decode[P](e.Payload)
	if err != nil {
		return nil, zero, err
	}
	return e, p, nil
}

// DecodeEnvelope reads an envelope strictly: what Encode writes and nothing else.
func DecodeEnvelope(b []byte) (*Envelope, error) {
	if len(b) > 2*MaxPayload+2*MaxSignatures*MaxSignature {
		return nil, fmt.Errorf("statement: envelope of %d bytes is too large", len(b))
	}
	if e := decodePlain(b); e != nil {
		return e, nil
	}
	return decodeJSON(b)
}

// decodeJSON is DecodeEnvelope for whatever is not plain.
func decodeJSON(b []byte) (*Envelope, error) {
	var w wireEnvelope
	if err := unmarshal(b, &w); err != nil {
		return nil, err
	}
	if w.PayloadType != PayloadType {
		return nil, fmt.Errorf("statement: payload type %.80q: want %q", w.PayloadType, PayloadType)
	}
	if n := len(w.Signatures); n == 0 || n > MaxSignatures {
		return nil, fmt.Errorf("statement: envelope with %d signatures: want 1 to %d", n, MaxSignatures)
	}
	e := &Envelope{}
	var err error
	if e.Payload, err = base64.StdEncoding.Strict().DecodeString(w.Payload); err != nil {
		return nil, fmt.Errorf("statement: payload: %w", err)
	}
	if len(e.Payload) > MaxPayload {
		return nil, fmt.Errorf("statement: payload of %d bytes: at most %d", len(e.Payload), MaxPayload)
	}
	for _, s := range w.Signatures {
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil {
			return nil, fmt.Errorf("statement: signature: %w", err)
		}
		if len(sig) == 0 || len(sig) > MaxSignature || s.KeyID == "" {
			return nil, errors.New("statement: signature is empty, too large or without a keyid")
		}
		e.Signatures = append(e.Signatures, Signature{s.KeyID, sig})
	}
	again, err := e.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("statement: envelope: %w", ErrEncoding)
	}
	return e, nil
}

// marshal is the one JSON encoding: deterministic, compact, UTF-8 as it is.
func marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
	if err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	return b, nil
}

// unmarshal reads JSON strictly: no unknown members, none twice, exact names,
// valid UTF-8.
func unmarshal(b []byte, v any) error {
	if err := json.Unmarshal(b, v, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("statement: %w", err)
	}
	return nil
}
