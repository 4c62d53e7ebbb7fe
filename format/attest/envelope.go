package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	statements "github.com/greatseal-io/greatseal/statement"
)

// isDigest reports whether s is a SHA-256 in its one form.
func isDigest(s string) bool {
	d, err := hex.DecodeString(s)
	return err == nil && len(d) == sha256.Size && hex.EncodeToString(d) == s
}

// envelope is a DSSE envelope of PayloadType.
type envelope struct {
	payload    []byte
	signatures []statements.Signature
}

func (e *envelope) encode() []byte {
	b64 := base64.StdEncoding
	b := []byte(`{"payload":"`)
	b = b64.AppendEncode(b, e.payload)
	b = append(b, `","payloadType":"`+PayloadType+`","signatures":[`...)
	for i, s := range e.signatures {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"keyid":"`+s.KeyID+`","sig":"`...)
		b = b64.AppendEncode(b, s.Sig)
		b = append(b, `"}`...)
	}
	return append(b, `]}`...)
}

// statement is a decoded payload.
type statement struct {
	name, digest, predicateType string
	predicate                   string // canonical
	size                        int64  // of ArtifactType
}

// encodeStatement is the payload's one encoding; predicate is canonical.
func encodeStatement(name, digest, predicateType, predicate string) ([]byte, error) {
	b := []byte(`{"_type":"` + StatementType + `","subject":[{"name":`)
	b, err := jsontext.AppendQuote(b, name)
	if err != nil {
		return nil, fmt.Errorf("attest: subject's name: %w", err)
	}
	b = append(b, `,"digest":{"sha256":"`+digest+`"}}],"predicateType":`...)
	if b, err = jsontext.AppendQuote(b, predicateType); err != nil {
		return nil, fmt.Errorf("attest: predicate type: %w", err)
	}
	b = append(b, `,"predicate":`...)
	b = append(b, predicate...)
	return append(b, '}'), nil
}

// encode makes the payload about the file of this digest and size.
func (s subject) encode(digest []byte, size int64) ([]byte, error) {
	predicate := s.predicate
	if s.predicateType == ArtifactType {
		var err error
		if predicate, err = artifactPredicate(s.name, size, s.claims); err != nil {
			return nil, err
		}
	}
	return encodeStatement(s.name, hex.EncodeToString(digest), s.predicateType, predicate)
}

// artifactPredicate is the predicate of ArtifactType; claims is canonical or "".
func artifactPredicate(name string, size int64, claims string) (string, error) {
	b := []byte{'{'}
	if claims != "" {
		b = append(b, `"claims":`+claims+`,`...)
	}
	b, err := jsontext.AppendQuote(append(b, `"name":`...), name)
	if err != nil {
		return "", fmt.Errorf("attest: subject's name: %w", err)
	}
	return string(fmt.Appendf(b, `,"size":%d}`, size)), nil
}

type wireEnvelope struct {
	Payload     string `json:"payload"`
	PayloadType string `json:"payloadType"`
	Signatures  []struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	} `json:"signatures"`
}

type wireStatement struct {
	Type    string `json:"_type"`
	Subject []struct {
		Name   string `json:"name"`
		Digest struct {
			SHA256 string `json:"sha256"`
		} `json:"digest"`
	} `json:"subject"`
	PredicateType string         `json:"predicateType"`
	Predicate     jsontext.Value `json:"predicate"`
}

type wireArtifact struct {
	Claims jsontext.Value `json:"claims"`
	Name   string         `json:"name"`
	Size   int64          `json:"size"`
}

func unmarshal(b []byte, v any) error {
	return json.Unmarshal(b, v, json.RejectUnknownMembers(true))
}

var errEncoding = fmt.Errorf("attest: %w", format.ErrEncoding)

// decode reads an envelope strictly: what encode writes and nothing else.
func decode(b []byte) (*envelope, *statement, error) {
	switch {
	case len(b) == 0:
		return nil, nil, errors.New("attest: no attestation (" + Suffix + ") was given")
	case len(b) > MaxEnvelope:
		return nil, nil, fmt.Errorf("attest: envelope of %d bytes: at most %d", len(b), MaxEnvelope)
	}
	var w wireEnvelope
	if err := unmarshal(b, &w); err != nil {
		return nil, nil, fmt.Errorf("attest: envelope: %w", err)
	}
	if w.PayloadType != PayloadType {
		return nil, nil, fmt.Errorf("attest: payload type %.80q: want %q", w.PayloadType, PayloadType)
	}
	if n := len(w.Signatures); n == 0 || n > MaxSignatures {
		return nil, nil, fmt.Errorf("attest: %d signatures: want 1 to %d", n, MaxSignatures)
	}
	strict := base64.StdEncoding.Strict()
	e := &envelope{}
	var err error
	if e.payload, err = strict.DecodeString(w.Payload); err != nil {
		return nil, nil, fmt.Errorf("attest: payload: %w", err)
	}
	for i, s := range w.Signatures {
		if !isDigest(s.KeyID) {
			return nil, nil, fmt.Errorf("attest: signature %d: keyid: want 64 lower-case hexadecimal digits", i)
		}
		sig, err := strict.DecodeString(s.Sig)
		if err != nil || len(sig) == 0 {
			return nil, nil, fmt.Errorf("attest: signature %d is not base64", i)
		}
		e.signatures = append(e.signatures, statements.Signature{KeyID: s.KeyID, Sig: sig})
	}
	if !bytes.Equal(e.encode(), b) {
		return nil, nil, errEncoding
	}
	s, err := decodeStatement(e.payload)
	return e, s, err
}

func decodeStatement(b []byte) (*statement, error) {
	var w wireStatement
	if err := unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("attest: statement: %w", err)
	}
	if w.Type != StatementType || len(w.Subject) != 1 {
		return nil, fmt.Errorf("attest: want a statement %s about one subject", StatementType)
	}
	s := &statement{name: w.Subject[0].Name, digest: w.Subject[0].Digest.SHA256, predicateType: w.PredicateType, size: -1}
	if err := errors.Join(checkName(s.name), checkType(s.predicateType)); err != nil {
		return nil, err
	}
	if !isDigest(s.digest) {
		return nil, errors.New("attest: subject's digest: want SHA-256 in lower-case hexadecimal")
	}
	var err error
	if s.predicateType == ArtifactType {
		err = s.decodeArtifact(w.Predicate)
	} else {
		s.predicate, err = canonicalObject(string(w.Predicate))
	}
	if err != nil {
		return nil, err
	}
	again, err := encodeStatement(s.name, s.digest, s.predicateType, s.predicate)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errEncoding
	}
	return s, nil
}

func (s *statement) decodeArtifact(b []byte) error {
	var w wireArtifact
	if err := unmarshal(b, &w); err != nil {
		return fmt.Errorf("attest: predicate: %w", err)
	}
	if w.Name != s.name || w.Size < 0 || w.Size > maxNumber {
		return errors.New("attest: predicate contradicts its subject")
	}
	claims := ""
	if w.Claims != nil {
		var err error
		if claims, err = canonicalClaims(string(w.Claims)); err != nil {
			return err
		}
	}
	var err error
	s.size = w.Size
	s.predicate, err = artifactPredicate(w.Name, w.Size, claims)
	return err
}

func readSidecar(a format.Artifact) (*envelope, *statement, error) {
	if a.Size() > MaxEnvelope {
		return nil, nil, fmt.Errorf("attest: %d bytes are too many for an attestation", a.Size())
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, nil, err
	}
	return decode(b)
}
