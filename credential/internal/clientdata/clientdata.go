// Package clientdata reads what a browser says of the use of a passkey: the
// CollectedClientData of WebAuthn Level 3 section 5.8.1.
//
// Invariants:
//
//  1. What two readers could read differently is refused: a name twice, or in
//     another case, bytes that are no UTF-8, anything after the object.
//  2. What was used in a frame of another origin is refused.
//
// A caller may not conclude that anything of it is true: that is for the signature
// over its SHA-256 to say.
package clientdata

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Data are the members of CollectedClientData that count. Clients may add others,
// which are signed but say nothing.
type Data struct {
	Type, Challenge, Origin string
}

// Parse reads clientDataJSON, of an assertion or a registration.
func Parse(b []byte) (Data, error) {
	var c Data
	// The decoder refuses duplicate names, also those that differ in escapes, and
	// what is not UTF-8.
	d := jsontext.NewDecoder(bytes.NewReader(b))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return c, errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for d.PeekKind() != '}' {
		t, err := d.ReadToken()
		if err != nil {
			return c, errors.New("malformed or ambiguous JSON")
		}
		name := t.String()
		v, err := d.ReadValue()
		if err != nil {
			return c, errors.New("malformed or ambiguous JSON")
		}
		var dst *string
		switch name {
		case "type":
			dst = &c.Type
		case "challenge":
			dst = &c.Challenge
		case "origin":
			dst = &c.Origin
		case "crossOrigin":
			if v.Kind() != 'f' {
				return c, errors.New("used in a frame of another origin")
			}
		case "topOrigin":
			return c, errors.New("used in a frame of another origin")
		case "tokenBinding":
			// Of WebAuthn Level 2: bound to a TLS connection that nobody can look at
			// afterwards. Level 3 dropped it, as browsers had.
			return c, errors.New("bound to a connection")
		default:
			// A reader that folds case would take such a member for ours.
			for _, n := range []string{"type", "challenge", "origin", "crossOrigin", "topOrigin", "tokenBinding"} {
				if strings.EqualFold(n, name) {
					return c, fmt.Errorf("member %q in another case", n)
				}
			}
		}
		if dst != nil {
			if v.Kind() != '"' {
				return c, fmt.Errorf("member %q is not a string", name)
			}
			s, err := jsontext.AppendUnquote(nil, v)
			if err != nil {
				return c, errors.New("malformed or ambiguous JSON")
			}
			*dst = string(s)
			seen[name] = true
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return c, errors.New("malformed or ambiguous JSON")
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return c, errors.New("bytes after the JSON object")
	}
	if len(seen) != 3 {
		return c, errors.New("want type, challenge and origin")
	}
	return c, nil
}
