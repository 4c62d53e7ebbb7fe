package statement

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// StatementType is the in-toto statement type.
const StatementType = "https://in-toto.io/Statement/v1"

// Subject is an in-toto resource descriptor: a name and digests by algorithm.
// The algorithms of ours are "greatsealStatement" (an [ID]) and
// "greatsealCommand" (see [Command.Digest]).
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// Predicate is what a statement says.
type Predicate interface {
	PredicateType() string
	// Subject is what the statement is about; it follows from the predicate.
	Subject() Subject
	// Check refuses a predicate that contradicts itself or exceeds a limit.
	Check() error
}

type statement[P Predicate] struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     P         `json:"predicate"`
}

// Encode writes the statement of p: the payload to be signed.
func Encode[P Predicate](p P) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	b, err := encode(p)
	if err == nil && len(b) > MaxPayload {
		err = fmt.Errorf("statement: %d bytes: at most %d", len(b), MaxPayload)
	}
	return b, err
}

func encode[P Predicate](p P) ([]byte, error) {
	return marshal(statement[P]{StatementType, []Subject{p.Subject()}, p.PredicateType(), p})
}

// Decode reads a payload as a statement with predicate P, strictly.
func Decode[P Predicate](payload []byte) (P, error) {
	var s statement[P]
	var zero P
	if len(payload) > MaxPayload {
		return zero, fmt.Errorf("statement: %d bytes: at most %d", len(payload), MaxPayload)
	}
	if err := unmarshal(payload, &s); err != nil {
		return zero, err
	}
	if s.Type != StatementType {
		return zero, fmt.Errorf("statement: type %.80q: want %q", s.Type, StatementType)
	}
	if want := zero.PredicateType(); s.PredicateType != want {
		return zero, fmt.Errorf("statement: predicate type %.80q: want %q", s.PredicateType, want)
	}
	if err := s.Predicate.Check(); err != nil {
		return zero, err
	}
	again, err := encode(s.Predicate)
	if err != nil {
		return zero, err
	}
	if !bytes.Equal(again, payload) {
		return zero, fmt.Errorf("statement: %w", ErrEncoding)
	}
	return s.Predicate, nil
}

// Claim is a name and a value that somebody states: a requester of a file's
// origin, a machine endorser of what its check found.
type Claim struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Limits of texts in statements.
const (
	maxName    = 64
	maxText    = 4096
	maxClaims  = 256
	maxFormats = 64
)

// CheckTime refuses a time that is not in UTC or has parts of a second: a time
// has one form, "2026-11-21T18:00:00Z".
func CheckTime(what string, t time.Time) error {
	if t.IsZero() || t.Location() != time.UTC || t.Nanosecond() != 0 || t.Year() < 2020 || t.Year() > 9999 {
		return fmt.Errorf("statement: %s: %s: want whole seconds in UTC", what, t.Format(time.RFC3339Nano))
	}
	return nil
}

// Seconds is t in the form that statements carry.
func Seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// CheckName refuses what is not a name of the charter: lower-case letters,
// digits, '.', '_', '-', beginning with a letter or digit, at most 64 bytes.
func CheckName(what, s string) error {
	ok := len(s) > 0 && len(s) <= maxName
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("statement: %s %.80q: want 1 to %d of a-z 0-9 . _ -, beginning with a letter or digit", what, s, maxName)
	}
	return nil
}

func checkText(what, s string) error {
	if len(s) > maxText || !utf8.ValidString(s) {
		return fmt.Errorf("statement: %s: want at most %d bytes of UTF-8", what, maxText)
	}
	// Texts have lines. What moves the cursor, or turns the direction of what follows,
	// would show people something else than what they sign.
	if strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
	}) {
		return fmt.Errorf("statement: %s: a control character, or one that changes the direction of text", what)
	}
	return nil
}

func checkClaims(what string, cs []Claim) error {
	if len(cs) > maxClaims {
		return fmt.Errorf("statement: %s: %d claims: at most %d", what, len(cs), maxClaims)
	}
	for i, c := range cs {
		if c.Name == "" || len(c.Name) > maxName {
			return fmt.Errorf("statement: %s: a claim's name has 1 to %d bytes", what, maxName)
		}
		if err := errors.Join(checkText(what, c.Name), checkText(what, c.Value)); err != nil {
			return err
		}
		if i > 0 && cs[i-1].Name >= c.Name {
			return fmt.Errorf("statement: %s: claim %.80q is out of order or stands twice", what, c.Name)
		}
	}
	return nil
}
