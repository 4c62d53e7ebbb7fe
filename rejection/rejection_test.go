package rejection

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Invariant 2: whatever is hostile, an error is one line of bounded length.
func TestOneLine(t *testing.T) {
	for _, s := range []string{"a\nlevel=info msg=accepted", "a\u2028b", "a\u202eb", "a\u200fb", "\xff\x00", strings.Repeat("ä", 5000)} {
		e := New(FieldChanged, s, s)
		text := e.Error()
		if strings.ContainsAny(text, "\n\r\x00\u2028\u202e\u200f") || len(text) > 1000 {
			t.Errorf("%.40q: %.200q", s, text)
		}
	}
}

func TestIs(t *testing.T) {
	err := fmt.Errorf("agent: %w", New(FieldChanged, "script", ""))
	for _, c := range []struct {
		target error
		want   bool
	}{
		{&Error{Code: FieldChanged}, true}, {&Error{Code: FieldChanged, Subject: "script"}, true},
		{&Error{Code: FieldChanged, Subject: "name"}, false}, {&Error{Code: SigMissing}, false},
	} {
		if errors.Is(err, c.target) != c.want {
			t.Errorf("%v", c)
		}
	}
	if Of(err).Code != FieldChanged || Of(errors.New("other")) != nil {
		t.Error("Of")
	}
}

func TestCodes(t *testing.T) {
	seen := map[Code]bool{}
	for _, c := range Codes() {
		if !c.Valid() || seen[c] {
			t.Errorf("%s", c)
		}
		seen[c] = true
	}
	if Code("").Valid() {
		t.Error("the empty code is valid")
	}
}
