package codesign

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxPlain = 1024 // bytes of a name that is shown

// PlainText makes a name of others' making fit to be shown: on one line, without
// characters that cannot be seen, and short.
func PlainText(s string) string {
	s = strconv.QuoteToGraphic(s)
	s = s[1 : len(s)-1]
	return strings.ToValidUTF8(s[:min(len(s), maxPlain)], "")
}

// IsPlainText is true of all that PlainText makes, and of nothing that cannot be
// shown.
func IsPlainText(s string) bool {
	return len(s) <= maxPlain && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsGraphic(r) })
}
