package charter

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/statement"
)

const maxURI = 1024

// keyIdentity checks the URI of a key and returns what it has in common with
// other URIs of the same key: for PKCS #11 (RFC 7512) the attributes decoded and
// sorted, without those of the query.
func keyIdentity(u key.URI) (string, error) {
	s := string(u)
	provider, rest, ok := strings.Cut(s, ":")
	if !ok || rest == "" || statement.CheckName("", provider) != nil {
		return "", fmt.Errorf("%.80q: want a key's URI like soft:release or pkcs11:token=hsm;object=release", s)
	}
	if len(s) > maxURI || strings.ContainsFunc(s, func(r rune) bool { return r <= 0x20 || r >= 0x7f }) {
		return "", fmt.Errorf("%.80q: want at most %d printable ASCII characters", s, maxURI)
	}
	switch provider {
	case "soft":
		if err := statement.CheckName("", rest); err != nil {
			return "", fmt.Errorf("%.80q: want soft: and a name of a-z 0-9 . _ -", s)
		}
	case "pkcs11":
		return pkcs11Identity(s, rest)
	}
	return s, nil
}

func pkcs11Identity(s, rest string) (string, error) {
	attrs, query, _ := strings.Cut(rest, "?")
	// A charter is public: what opens the token is no part of it.
	for q := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(q, "="); name == "pin-value" || name == "pin-source" {
			return "", fmt.Errorf("has a %s: charters are public; the keeper's configuration holds PINs", name)
		}
	}
	var out []string
	found := false
	for a := range strings.SplitSeq(attrs, ";") {
		name, value, ok := strings.Cut(a, "=")
		v, err := url.PathUnescape(value)
		if !ok || err != nil || name == "" || v == "" {
			return "", fmt.Errorf("%.80q: %.40q is not an attribute of RFC 7512, like object=release", s, a)
		}
		if name == "pin-value" || name == "pin-source" {
			return "", fmt.Errorf("has a %s: charters are public; the keeper's configuration holds PINs", name)
		}
		for _, o := range out {
			if strings.HasPrefix(o, name+"=") {
				return "", fmt.Errorf("%.80q: attribute %s stands twice", s, name)
			}
		}
		found = found || name == "object" || name == "id"
		if name == "type" { // private or public: the same key
			continue
		}
		out = append(out, name+"="+url.PathEscape(v))
	}
	if !found {
		return "", errors.New("names no object: want object= or id=")
	}
	slices.Sort(out)
	return "pkcs11:" + strings.Join(out, ";"), nil
}
