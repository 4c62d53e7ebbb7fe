package appx

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// attributeTypes are Windows's words for the parts of a name (CertStrToName).
var attributeTypes = map[string]asn1.ObjectIdentifier{
	"CN":           {2, 5, 4, 3},
	"SN":           {2, 5, 4, 4},
	"SERIALNUMBER": {2, 5, 4, 5},
	"C":            {2, 5, 4, 6},
	"L":            {2, 5, 4, 7},
	"S":            {2, 5, 4, 8},
	"ST":           {2, 5, 4, 8},
	"STREET":       {2, 5, 4, 9},
	"O":            {2, 5, 4, 10},
	"OU":           {2, 5, 4, 11},
	"T":            {2, 5, 4, 12},
	"TITLE":        {2, 5, 4, 12},
	"POSTALCODE":   {2, 5, 4, 17},
	"POBOX":        {2, 5, 4, 18},
	"PHONE":        {2, 5, 4, 20},
	"X21ADDRESS":   {2, 5, 4, 24},
	"G":            {2, 5, 4, 42},
	"GIVENNAME":    {2, 5, 4, 42},
	"I":            {2, 5, 4, 43},
	"INITIALS":     {2, 5, 4, 43},
	"DNQUALIFIER":  {2, 5, 4, 46},
	"DC":           {0, 9, 2342, 19200300, 100, 1, 25},
	"E":            {1, 2, 840, 113549, 1, 9, 1},
	"EMAIL":        {1, 2, 840, 113549, 1, 9, 1},
}

// part is one type and value of a name.
type part struct{ oid, value string }

// parseName reads a publisher as manifests have it: the last part of the certificate's
// subject first, values in quotes where they hold a comma.
func parseName(s string) ([][]part, error) {
	bad := fmt.Errorf("%w: %.200q is not a name", ErrPublisher, s)
	var out [][]part
	join := false
	for rest := s; ; {
		word, after, ok := strings.Cut(strings.TrimLeft(rest, " "), "=")
		if !ok {
			return nil, bad
		}
		oid, ok := typeOf(strings.TrimSpace(word))
		if !ok {
			return nil, fmt.Errorf("%w: %.40q is not known as a part of a name", ErrPublisher, word)
		}
		value, sep, next, ok := readValue(after)
		if !ok {
			return nil, bad
		}
		p := part{oid, value}
		if join {
			out[len(out)-1] = append(out[len(out)-1], p)
		} else {
			out = append(out, []part{p})
		}
		if sep == 0 {
			return out, nil
		}
		join, rest = sep == '+', next
	}
}

func typeOf(word string) (string, bool) {
	if oid, ok := attributeTypes[strings.ToUpper(word)]; ok {
		return oid.String(), true
	}
	digits, ok := strings.CutPrefix(strings.ToUpper(word), "OID.")
	if !ok || len(digits) > 64 {
		return "", false
	}
	for n := range strings.SplitSeq(digits, ".") {
		if _, err := strconv.ParseUint(n, 10, 31); err != nil {
			return "", false
		}
	}
	return digits, true
}

// readValue takes a value, what separates it from the next one (0: nothing), and the rest.
func readValue(s string) (value string, sep byte, rest string, ok bool) {
	s = strings.TrimLeft(s, " ")
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, `,;+"=<>#`)
		switch {
		case i < 0:
			value = strings.TrimRight(s, " ")
			return value, 0, "", value != ""
		case s[i] != ',' && s[i] != ';' && s[i] != '+':
			return "", 0, "", false
		}
		value = strings.TrimRight(s[:i], " ")
		return value, s[i], s[i+1:], value != ""
	}
	var b strings.Builder
	for s = s[1:]; ; {
		text, after, closed := strings.Cut(s, `"`)
		b.WriteString(text)
		if !closed {
			return "", 0, "", false
		}
		if !strings.HasPrefix(after, `"`) { // two quotes stand for one
			s = strings.TrimLeft(after, " ")
			break
		}
		b.WriteByte('"')
		s = after[1:]
	}
	switch {
	case s == "":
		return b.String(), 0, "", true
	case s[0] == ',' || s[0] == ';' || s[0] == '+':
		return b.String(), s[0], s[1:], true
	}
	return "", 0, "", false
}

// checkPublisher refuses a certificate whose subject is not the publisher's name:
// Windows installs no such package.
func checkPublisher(publisher string, leaf *x509.Certificate) error {
	want, err := parseName(publisher)
	if err != nil {
		return err
	}
	var subject pkix.RDNSequence
	if rest, err := asn1.Unmarshal(leaf.RawSubject, &subject); err != nil || len(rest) > 0 {
		return fmt.Errorf("%w: the certificate's subject cannot be read", ErrPublisher)
	}
	slices.Reverse(want)
	ok := len(want) == len(subject)
	for i := 0; ok && i < len(want); i++ {
		var have []part
		for _, a := range subject[i] {
			v, isText := a.Value.(string)
			ok = ok && isText
			have = append(have, part{a.Type.String(), v})
		}
		order := func(a, b part) int { return strings.Compare(a.oid+" "+a.value, b.oid+" "+b.value) }
		slices.SortFunc(have, order)
		slices.SortFunc(want[i], order)
		ok = ok && slices.Equal(have, want[i])
	}
	if !ok {
		return fmt.Errorf("%w: the manifest names %.200q, the certificate is of %.200q", ErrPublisher, publisher, leaf.Subject)
	}
	return nil
}
