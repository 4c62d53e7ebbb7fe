package format

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Whatever a file holds: its details are few, and lists that differ do so in them.
func TestDetailsAreFew(t *testing.T) {
	list := func(n int, change string) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("entry %06d %s", i, strings.Repeat("x", i%50)))
		}
		if change != "" {
			out[n-1] = change
		}
		return out
	}
	make := func(before, n int, change string) []Fact {
		d := NewDetails(before)
		d.Say("title", strings.Repeat("t", 10_000)+change)
		for _, name := range []string{"a", "b", "c"} {
			d.List(name, 1000, list(n, change))
		}
		d.Count("all", list(n, change))
		return d.Facts()
	}
	for _, before := range []int{0, 3, 100, 200, 240, 250, 255, 256} {
		for _, n := range []int{1, 10, 100, 2000} {
			facts := make(before, n, "")
			sum := 0
			for _, f := range facts {
				sum += len(f.Name) + len(f.Value)
			}
			if before+len(facts) > MaxFacts || sum > MaxDetailBytes+2048 {
				t.Errorf("%d before, lists of %d: %d facts of %d bytes", before, n, len(facts), sum)
			}
			if before < 255 {
				if slices.Equal(facts, make(before, n, "another")) {
					t.Errorf("%d before, lists of %d: the difference does not show", before, n)
				}
				if !slices.Equal(facts, make(before, n, "")) {
					t.Error("not the same again")
				}
			}
			if own, err := CutDetails(append([]Fact{{"kind", "x"}}, facts...), "title", "a", "b", "c", "all"); err != nil || len(own) != 1 {
				t.Errorf("%d before, lists of %d: %v, %v", before, n, own, err)
			}
		}
	}
}

// Details are looked at by their form alone, and only details are taken off.
func TestCutDetails(t *testing.T) {
	own := []Fact{{"kind", "x"}, {"version", "1"}}
	with := func(f ...Fact) []Fact { return append(slices.Clone(own), f...) }
	names := []string{"import", "entry"}
	for _, good := range [][]Fact{
		own, with(Fact{"import", "a"}), with(Fact{"import", "b"}, Fact{"import", "a"}, Fact{"import-list", "2 of 9, sha256 00"}, Fact{"entry", "x"}), with(Fact{"entry-list", "0 of 9, sha256 00"}),
		with(Fact{"entry", "x"}, Fact{FactUnsaid, "3, sha256 00"}),
	} {
		if got, err := CutDetails(good, names...); err != nil || !slices.Equal(got, own) {
			t.Errorf("%v: %v, %v", good, got, err)
		}
	}
	for _, bad := range [][]Fact{
		with(Fact{"entry", "x"}, Fact{"import", "a"}), with(Fact{"import", "a"}, Fact{"version", "2"}), with(Fact{"import", ""}), with(Fact{"import", "a\nb"}),
		with(Fact{"import", "a\u202eb"}), with(Fact{"import", "a\x1b[2J"}), with(Fact{"import", strings.Repeat("a", MaxDetail+1)}), with(Fact{FactUnsaid, "1"}, Fact{"import", "a"}),
		with(slices.Repeat([]Fact{{"import", "a"}}, MaxDetails+detailSpare+2)...), with(slices.Repeat([]Fact{{"import", strings.Repeat("a", MaxDetail)}}, 100)...),
		with(Fact{"import", "a"}, Fact{"signer", "CN=Somebody"}), with(Fact{"import-list-list", "a"}, Fact{"import", "a"}, Fact{"other", "x"}),
	} {
		if got, err := CutDetails(bad, names...); err == nil {
			t.Errorf("%.200v: %v", bad, got)
		}
	}
}

// What is shown is one line of characters that can be seen, and the same again.
func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "plain", "a\u202eb", "\x1b[2J", "\xff\xfe", strings.Repeat("ä", 300), strings.Repeat("x", 255) + "ä", "\u2028", strings.Repeat("\xff", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v := Visible(s, MaxDetail)
		if len(v) > MaxDetail || !oneLine(v, false) || Visible(v, MaxDetail) != v {
			t.Errorf("%q: %q", s, v)
		}
		if len(s) > MaxDetail && Visible(s+"x", MaxDetail) == v {
			t.Errorf("%q: the end does not show", s)
		}
	})
}
