package circle

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// MaxEnvelope is the largest envelope, in bytes.
const MaxEnvelope = trust.MaxStatement/3*4 + 64<<10

const envelopeHead = `{"payload":"`

// Envelope is a statement with its signatures. It is package statement's, with
// room for larger payloads.
type Envelope statement.Envelope

// Encode writes the envelope in its one form.
func (e *Envelope) Encode() ([]byte, error) {
	b, err := (*statement.Envelope)(e).Encode()
	if err == nil && len(b) > MaxEnvelope {
		err = fmt.Errorf("circle: envelope of %d bytes: at most %d", len(b), MaxEnvelope)
	}
	return b, err
}

// DecodeEnvelope reads what Encode wrote, and nothing else. It judges neither the
// signatures nor the statement.
func DecodeEnvelope(b []byte) (*Envelope, error) {
	switch {
	case len(b) == 0:
		return nil, errors.New("circle: no envelope (" + Suffix + ") was given")
	case len(b) > MaxEnvelope:
		return nil, fmt.Errorf("circle: envelope of %d bytes: at most %d", len(b), MaxEnvelope)
	}
	var w struct {
		Payload     string `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			KeyID string `json:"keyid"`
			Sig   string `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(b, &w, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("circle: envelope: %w", err)
	}
	if w.PayloadType != statement.PayloadType {
		return nil, fmt.Errorf("circle: payload type %.80q: want %q", w.PayloadType, statement.PayloadType)
	}
	if n := len(w.Signatures); n == 0 || n > format.MaxKeys {
		return nil, fmt.Errorf("circle: %d signatures: want 1 to %d", n, format.MaxKeys)
	}
	e := &Envelope{}
	var err error
	if e.Payload, err = base64.StdEncoding.Strict().DecodeString(w.Payload); err != nil {
		return nil, fmt.Errorf("circle: payload: %w", err)
	}
	if len(e.Payload) > trust.MaxStatement {
		return nil, fmt.Errorf("circle: statement of %d bytes: at most %d", len(e.Payload), trust.MaxStatement)
	}
	for i, s := range w.Signatures {
		sum, err := hex.DecodeString(s.KeyID)
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("circle: signature %d: keyid: want 64 hexadecimal digits", i)
		}
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil || len(sig) == 0 {
			return nil, fmt.Errorf("circle: signature %d is not base64", i)
		}
		e.Signatures = append(e.Signatures, statement.Signature{KeyID: hex.EncodeToString(sum), Sig: sig})
	}
	again, err := e.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("circle: envelope: %w", format.ErrEncoding)
	}
	return e, nil
}

// decodeHead is the beginning of a payload, as far as b holds it.
func decodeHead(b []byte) []byte {
	if i := bytes.IndexByte(b, '"'); i >= 0 {
		b = b[:i]
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, _ := base64.StdEncoding.Decode(out, b[:len(b)/4*4]) // what cannot be read is not detected
	return out[:n]
}
