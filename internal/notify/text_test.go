package notify

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"  a\r\n\tb  ":          "a b",
		"a\u202eb\u2066c\u200f": "abc",
		"a\u200bb\ufeffc":       "abc",
		"a\x00\x1b[31mb":        "a [31mb",
		"ab\xffcd":              "ab cd",
		"0123456789abc":         "0123456789…",
		"a\u2028b\u2029c":       "a b c",
		"\U000e0041x":           "x",
		"é日本":                   "é日本",
	} {
		if got := Line(in, 10); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
}

// Invariant 5, of any text.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{nasty, "", "”“\"", "a.b.c", "@@", "::://", "\xff\xfe", strings.Repeat("x", 1000), "a\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, q := range map[string]string{"quote": Quote(s, 50), "chat": ChatQuote(s, 50)} {
			if !utf8.ValidString(q) || !strings.HasPrefix(q, "“") || !strings.HasSuffix(q, "”") || strings.Count(q, "“") != 1 || strings.Count(q, "”") != 1 {
				t.Errorf("%s: %q", name, q)
			}
			if n := utf8.RuneCountInString(q); n > 4*53 {
				t.Errorf("%s: %d characters", name, n)
			}
			for _, r := range strings.ReplaceAll(q, gap, "") {
				if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r != ' ' && unicode.IsSpace(r) {
					t.Errorf("%s: %q has %U", name, q, r)
				}
			}
		}
		if q := ChatQuote(s, 50); strings.ContainsAny(q, "<>&[]`*~|\\") || strings.Contains(q, "://") {
			t.Errorf("markup: %q", q)
		}
		if once := Line(s, 50); Line(once, 51) != once {
			t.Errorf("%q is cleaned twice: %q", once, Line(once, 51))
		}
	})
}

// Invariant 7: what is sent holds the id of a request, and no way to endorse.
func TestLetterEnables(t *testing.T) {
	l := chatLetter()
	for _, e := range append(ChannelEvents(), Digest, Test) {
		l.Event = e
		html, err := l.HTML(Links{URL: "https://sign.acme.example/"})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{l.Text(Links{URL: "https://sign.acme.example/"}), html} {
			for _, bad := range []string{"token=", "/approve", "/endorse", "code=", "example//"} {
				if strings.Contains(s, bad) {
					t.Errorf("%s: %q in\n%s", e, bad, s)
				}
			}
		}
		if strings.Contains(l.Subject(), "channel") || strings.Contains(l.Subject(), "see") {
			t.Errorf("%s: %s", e, l.Subject())
		}
		b, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeLetter(b)
		if err != nil || back.Text(Links{}) != l.Text(Links{}) {
			t.Errorf("%s is another letter: %v", e, err)
		}
	}
}
