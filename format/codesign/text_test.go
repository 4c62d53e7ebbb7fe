package codesign

import (
	"strings"
	"testing"
)

// Names with commas and quotation marks have backslashes in them, and plans hold
// what PlainText made of them.
func TestPlainText(t *testing.T) {
	for _, s := range []string{"", `CN=Example\, Inc.`, `O="x"`, "a\nb", "\xff\u202e\x00", strings.Repeat("é", 800), strings.Repeat("\U00010400", 400)} {
		p := PlainText(s)
		if !IsPlainText(p) {
			t.Errorf("%q is made of %q and refused", p, s)
		}
	}
	for _, s := range []string{"a\nb", "\u202e", "\xff", "\x7f", strings.Repeat("a", maxPlain+1)} {
		if IsPlainText(s) {
			t.Errorf("%q is accepted", s)
		}
	}
}
