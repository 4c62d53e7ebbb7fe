package attest

import (
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// maxNumber is the largest integer up to which a double holds every one.
const maxNumber = 1<<53 - 1

// maxDepth limits how deep predicates are nested.
const maxDepth = 64

// canonicalObject is the RFC 8785 form of a JSON object. Members given twice,
// text that is not UTF-8 and numbers that a double does not hold are refused.
func canonicalObject(text string) (string, error) {
	if len(text) > 2*MaxPredicate {
		return "", fmt.Errorf("attest: predicate of %d bytes: at most %d", len(text), MaxPredicate)
	}
	if err := checkTokens(text, false); err != nil {
		return "", err
	}
	v := jsontext.Value(text)
	if err := v.Canonicalize(); err != nil {
		return "", fmt.Errorf("attest: predicate: %w", err)
	}
	if len(v) > MaxPredicate {
		return "", fmt.Errorf("attest: predicate of %d bytes: at most %d", len(v), MaxPredicate)
	}
	return string(v), nil
}

// canonicalClaims is the same for an object of strings that is not empty.
func canonicalClaims(text string) (string, error) {
	if len(text) > 2*MaxPredicate {
		return "", fmt.Errorf("attest: claims of %d bytes: at most %d", len(text), MaxPredicate)
	}
	if err := checkTokens(text, true); err != nil {
		return "", err
	}
	return canonicalObject(text)
}

// checkTokens checks that text is one JSON object with acceptable numbers; with
// claims, that every value is a string.
func checkTokens(text string, claims bool) error {
	d := jsontext.NewDecoder(strings.NewReader(text))
	n := 0
	for ; ; n++ {
		t, err := d.ReadToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("attest: JSON: %w", err)
		}
		switch {
		case n == 0 && t.Kind() != '{', n > 0 && d.StackDepth() == 0 && t.Kind() != '}':
			return errors.New("attest: one JSON object is wanted")
		case d.StackDepth() > maxDepth:
			return fmt.Errorf("attest: JSON nested deeper than %d", maxDepth)
		case claims && n > 0 && t.Kind() != '"' && t.Kind() != '}':
			return errors.New("attest: claims: want a JSON object of strings")
		case t.Kind() == '0':
			if err := checkNumber(t.String()); err != nil {
				return err
			}
		}
	}
	switch {
	case n == 0:
		return errors.New("attest: one JSON object is wanted")
	case claims && (n < 4 || n > 2+2*maxClaims):
		return fmt.Errorf("attest: claims: want 1 to %d", maxClaims)
	}
	return nil
}

// checkNumber refuses a number that a double would change. Integers up to 2^53
// are exact; a number of at most 15 significant digits comes back as it was, if
// it is neither too large nor too near to zero.
func checkNumber(s string) error {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil && i <= maxNumber && i >= -maxNumber {
		return nil
	}
	mantissa, _, _ := strings.Cut(strings.ToLower(s), "e")
	digits := strings.Trim(strings.NewReplacer(".", "", "-", "").Replace(mantissa), "0")
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || len(digits) > 15 || digits != "" && math.Abs(f) < 1e-300 {
		return fmt.Errorf("attest: number %.40s: JSON's numbers are doubles: write it as a string", s)
	}
	return nil
}
