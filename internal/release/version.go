package release

import (
	"strings"

	"github.com/greatseal-io/greatseal/internal/server"
)

// Scheme is how two versions are put in order.
type Scheme string

// The schemes.
const (
	Dotted   Scheme = "dotted"   // numbers with dots between them; what follows a "-" comes before it (semver)
	Debian   Scheme = "debian"   // Debian Policy 5.6.12
	RPM      Scheme = "rpm"      // rpm-version(7)
	Sequence Scheme = "sequence" // one number, as Android's version code
)

// Version is what a file says of its version.
type Version struct {
	Text   string
	Scheme Scheme
}

// versionFacts are the facts that say which version a file is, the deciding one first.
var versionFacts = map[string][]string{
	"pe": {"file-version", "product-version"}, "msi": {"product-version"}, "apk": {"version-code"}, "apk-v4": {"version-code"},
	"jar": {"version", "bundle-version"}, "bundle": {"version", "build"}, "ipa": {"version", "build"}, "macho": {"version"},
}

// VersionOf is the version of a file, or false when it says none.
func VersionOf(f *server.FileView) (Version, bool) {
	names := versionFacts[f.Format]
	if names == nil {
		names = []string{"version"}
	}
	for _, n := range names {
		v := fact(f, n)
		if v == "" {
			continue
		}
		switch f.Format {
		case "deb":
			return Version{v, Debian}, true
		case "rpm":
			if r := fact(f, "release"); r != "" {
				v += "-" + r
			}
			if e := fact(f, "epoch"); e != "" && e != "0" {
				v = e + ":" + v
			}
			return Version{v, RPM}, true
		case "apk", "apk-v4":
			return Version{v, Sequence}, true
		case "bundle", "ipa":
			if b := fact(f, "build"); n == "version" && b != "" && b != v {
				v += "+" + b // a build counts where versions are the same
			}
		}
		if f.Format == "swupdate" {
			v = strings.Trim(v, `"`) // it stands as in sw-description
		}
		return Version{v, Dotted}, true
	}
	return Version{}, false
}

// Compare puts two versions in order, as cmp.Compare does: under the scheme of the
// second if they differ in it.
func Compare(a, b Version) int {
	switch b.Scheme {
	case Debian:
		return epochs(a.Text, b.Text, debianPart)
	case RPM:
		return epochs(a.Text, b.Text, rpmPart)
	}
	return dotted(a.Text, b.Text)
}

// epochs compares EPOCH:VERSION-RELEASE part by part.
func epochs(a, b string, part func(a, b string) int) int {
	ea, va, ra := split(a)
	eb, vb, rb := split(b)
	if c := digits(ea, eb); c != 0 {
		return c
	}
	if c := part(va, vb); c != 0 {
		return c
	}
	return part(ra, rb)
}

func split(s string) (epoch, version, release string) {
	if e, rest, ok := strings.Cut(s, ":"); ok && strings.Trim(e, "0123456789") == "" {
		epoch, s = e, rest
	}
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		return epoch, s[:i], s[i+1:]
	}
	return epoch, s, ""
}

// digits compares numbers of any length, the empty one being 0.
func digits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	switch {
	case len(a) < len(b):
		return -1
	case len(a) > len(b):
		return 1
	}
	return strings.Compare(a, b)
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// span is how much of the beginning of s is of f.
func span(s string, f func(byte) bool) int {
	n := 0
	for n < len(s) && f(s[n]) {
		n++
	}
	return n
}

// debianPart compares upstream versions or revisions: texts and numbers by turns, "~"
// before the end, letters before the rest.
func debianPart(a, b string) int {
	order := func(s string, i int) int {
		switch {
		case i >= len(s) || isDigit(s[i]):
			return 0
		case s[i] == '~':
			return -1
		case isLetter(s[i]):
			return int(s[i])
		}
		return int(s[i]) + 256
	}
	for len(a) > 0 || len(b) > 0 {
		i := 0
		for ; i < len(a) && !isDigit(a[i]) || i < len(b) && !isDigit(b[i]); i++ {
			x, y := order(a, i), order(b, i)
			if x != y {
				if x < y {
					return -1
				}
				return 1
			}
		}
		a, b = a[min(i, len(a)):], b[min(i, len(b)):]
		n, m := span(a, isDigit), span(b, isDigit)
		if c := digits(a[:n], b[:m]); c != 0 {
			return c
		}
		a, b = a[n:], b[m:]
	}
	return 0
}

// rpmPart compares as rpmvercmp does: segments of digits and of letters, "~" before the
// end and "^" behind it.
func rpmPart(a, b string) int {
	word := func(c byte) bool { return isDigit(c) || isLetter(c) || c == '~' || c == '^' }
	other := func(c byte) bool { return !word(c) }
	for len(a) > 0 || len(b) > 0 {
		a, b = a[span(a, other):], b[span(b, other):]
		if strings.HasPrefix(a, "~") || strings.HasPrefix(b, "~") {
			switch {
			case !strings.HasPrefix(a, "~"):
				return 1
			case !strings.HasPrefix(b, "~"):
				return -1
			}
			a, b = a[1:], b[1:]
			continue
		}
		if strings.HasPrefix(a, "^") || strings.HasPrefix(b, "^") {
			switch {
			case a == "":
				return -1
			case b == "":
				return 1
			case a[0] != '^':
				return 1
			case b[0] != '^':
				return -1
			}
			a, b = a[1:], b[1:]
			continue
		}
		if a == "" || b == "" {
			break
		}
		kind, number := isLetter, isDigit(a[0])
		if number {
			kind = isDigit
		}
		n, m := span(a, kind), span(b, kind)
		switch {
		case m == 0 && number:
			return 1 // numbers come after letters
		case m == 0:
			return -1
		}
		c := strings.Compare(a[:n], b[:m])
		if number {
			c = digits(a[:n], b[:m])
		}
		if c != 0 {
			return c
		}
		a, b = a[n:], b[m:]
	}
	switch {
	case a == "" && b == "":
		return 0
	case a == "":
		return -1
	}
	return 1
}

// dotted compares numbers with dots between them, missing ones being 0; then what
// stands behind a "-", which comes before nothing (semver.org 11); then, unlike semver,
// what stands behind a "+", where both have it.
func dotted(a, b string) int {
	a, b = strings.TrimPrefix(strings.TrimSpace(a), "v"), strings.TrimPrefix(strings.TrimSpace(b), "v")
	a, buildA, _ := strings.Cut(a, "+")
	b, buildB, _ := strings.Cut(b, "+")
	a, preA, _ := strings.Cut(a, "-")
	b, preB, _ := strings.Cut(b, "-")
	if c := fields(a, b, true); c != 0 {
		return c
	}
	switch {
	case preA == "" && preB != "":
		return 1
	case preA != "" && preB == "":
		return -1
	}
	if c := fields(preA, preB, false); c != 0 {
		return c
	}
	if buildA == "" || buildB == "" {
		return 0
	}
	return fields(buildA, buildB, true)
}

// fields compares identifiers with dots, commas or underscores between them: numbers as
// such, before texts. More of them come later, unless those are zeros that zeros allows.
func fields(a, b string, zeros bool) int {
	cut := func(r rune) bool { return r == '.' || r == ',' || r == '_' || r == ' ' }
	x, y := strings.FieldsFunc(a, cut), strings.FieldsFunc(b, cut)
	for i := range max(len(x), len(y)) {
		var s, t string
		if i < len(x) {
			s = x[i]
		}
		if i < len(y) {
			t = y[i]
		}
		if !zeros && (s == "" || t == "") {
			return len(s) - len(t) // one of them is at its end
		}
		if c := identifier(s, t); c != 0 {
			return c
		}
	}
	return 0
}

func identifier(a, b string) int {
	na, nb := strings.Trim(a, "0123456789") == "", strings.Trim(b, "0123456789") == ""
	switch {
	case na && nb:
		return digits(a, b)
	case na && isDigit(b[0]) || nb && isDigit(a[0]), !na && !nb:
		n, m := span(a, isDigit), span(b, isDigit)
		if c := digits(a[:n], b[:m]); c != 0 {
			return c
		}
		return strings.Compare(a[n:], b[m:])
	case na:
		return -1
	}
	return 1
}
