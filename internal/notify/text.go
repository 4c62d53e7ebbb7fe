package notify

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// How long what others have written may be where it is quoted, in characters.
const (
	maxReason = 300
	maxName   = 80
	maxNames  = 3
	maxListed = 50 // requests of a digest
)

// Line makes one line of what somebody else has written: without control, format
// and direction characters, its spaces run together, at most max characters.
func Line(s string, max int) string {
	var b strings.Builder
	n, space := 0, false
	for _, r := range s {
		if r == utf8.RuneError || r == '\u2028' || r == '\u2029' || unicode.IsSpace(r) || unicode.IsControl(r) {
			space = b.Len() > 0
			continue
		}
		// Format (Cf) has the direction marks, joiners and tags; Co and the variation
		// selectors hide more.
		if unicode.In(r, unicode.Cf, unicode.Co, unicode.Cs, unicode.Variation_Selector) || !unicode.IsGraphic(r) {
			continue
		}
		if n >= max {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			n, space = n+1, false
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// Quote is Line in quotation marks, which are in it no more.
func Quote(s string, max int) string {
	s = strings.NewReplacer("“", "'", "”", "'", "„", "'", "\"", "'").Replace(Line(s, max))
	return "“" + s + "”"
}

// gap is a space without width: what stands around it is no mention and no link.
const gap = "\u200b"

// ChatQuote is Quote for chat services: what would be markup, a mention or a link
// there is text.
func ChatQuote(s string, max int) string {
	s = Quote(s, max)
	s = strings.NewReplacer(
		"@", "@"+gap, "<", "‹", ">", "›", "&", "＆", "[", "［", "]", "］", "`", "ˋ", "*", "∗", "~", "∼", "|", "¦", "\\", "＼",
		"#", "#"+gap, "!", "!"+gap, "://", ":"+gap+"//", ":", ":"+gap,
	).Replace(s)
	// A dot before a letter or digit makes a link of "evil.example" and "10.0.0.1".
	var b strings.Builder
	rs := []rune(s)
	for i, r := range rs {
		b.WriteRune(r)
		if (r == '.' || r == '。' || r == '．') && i+1 < len(rs) && (unicode.IsLetter(rs[i+1]) || unicode.IsDigit(rs[i+1])) {
			b.WriteString(gap)
		}
	}
	return b.String()
}
