package trust

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/statement"
)

// MaxStatement is the largest payload, in bytes: tens of thousands of revocations.
const MaxStatement = 4 << 20

// ErrTrust is wrapped by every error of this package.
var ErrTrust = errors.New("trust")

type predicate interface {
	Statement | Freshness
	statement.Predicate
}

type inToto[P predicate] struct {
	Type          string              `json:"_type"`
	Subject       []statement.Subject `json:"subject"`
	PredicateType string              `json:"predicateType"`
	Predicate     P                   `json:"predicate"`
}

// marshal is package statement's encoding. That package limits payloads to
// statement.MaxPayload, which many revocations exceed.
func marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTrust, err)
	}
	return b, nil
}

func encode[P predicate](p P) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	b, err := marshal(inToto[P]{statement.StatementType, []statement.Subject{p.Subject()}, p.PredicateType(), p})
	if err == nil && len(b) > MaxStatement {
		err = fmt.Errorf("%w: statement of %d bytes: at most %d", ErrTrust, len(b), MaxStatement)
	}
	return b, err
}

func decode[P predicate](payload []byte) (*P, error) {
	if len(payload) > MaxStatement {
		return nil, fmt.Errorf("%w: statement of %d bytes: at most %d", ErrTrust, len(payload), MaxStatement)
	}
	var s inToto[P]
	if err := json.Unmarshal(payload, &s, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTrust, err)
	}
	if want := s.Predicate.PredicateType(); s.Type != statement.StatementType || s.PredicateType != want {
		return nil, fmt.Errorf("%w: statement of type %.80q, predicate %.80q: want %s", ErrTrust, s.Type, s.PredicateType, want)
	}
	again, err := encode(s.Predicate)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, payload) {
		return nil, fmt.Errorf("%w: %w", ErrTrust, statement.ErrEncoding)
	}
	return &s.Predicate, nil
}

// Encode writes the statement: the payload that is signed. It refuses what Check
// refuses.
func (s *Statement) Encode() ([]byte, error) { return encode(*s) }

// Decode reads what Statement.Encode wrote, and nothing else.
func Decode(payload []byte) (*Statement, error) { return decode[Statement](payload) }

// Encode writes the statement: the payload that is signed.
func (f *Freshness) Encode() ([]byte, error) { return encode(*f) }

// DecodeFreshness reads what Freshness.Encode wrote, and nothing else.
func DecodeFreshness(payload []byte) (*Freshness, error) { return decode[Freshness](payload) }

// ID identifies a statement by its payload.
func ID(payload []byte) statement.ID { return statement.IDOf(payload) }

// IsFreshness reports whether a payload calls itself a freshness statement. It
// decodes nothing: it says which of the two decoders is to judge.
func IsFreshness(payload []byte) bool {
	return bytes.Contains(payload[:min(len(payload), 1024)], []byte(`"predicateType":"`+FreshnessType+`"`))
}
