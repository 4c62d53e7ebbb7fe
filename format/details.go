package format

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of the details of one file.
const (
	MaxDetails     = 200     // facts
	MaxDetailBytes = 8 << 10 // of names and values together
	MaxDetail      = 256     // bytes of one value
)

// detailSpare is how many summaries of lists have room besides.
const detailSpare = 20

// Details collects the facts of a file that stand behind those which its format
// checks: what it imports, wants, runs and holds. They are for people. No message is
// made of them, and Assemble looks at nothing but their form ([CutDetails]): they are
// the word of whoever made the plan until somebody makes it anew from the bytes.
//
// Whatever a file holds, its details are few: of a list that is longer than its room
// the first names stand, and behind them a fact NAME-list says how many there are and
// has a digest of all of them, so that two lists that differ do so in their facts.
type Details struct {
	facts  []Fact
	room   int // facts that may follow
	bytes  int // and their bytes
	spare  int
	unsaid int
	full   bool      // not even what counts the rest has room
	rest   hash.Hash // over what found no room
}

// NewDetails begins the details of a file of which a plan has before facts already.
func NewDetails(before int) *Details {
	left := max(MaxFacts-1-before, 0)
	spare := min(left, detailSpare)
	return &Details{room: min(MaxDetails, left-spare), bytes: MaxDetailBytes, spare: spare, full: before >= MaxFacts, rest: sha256.New()}
}

// Say adds one fact, if it has a value.
func (d *Details) Say(name, value string) {
	if value != "" {
		if v := Visible(value, MaxDetail); !d.add(name, v) {
			d.leave(name, value)
		}
	}
}

// Sayf is Say of a formatted value.
func (d *Details) Sayf(name, layout string, args ...any) { d.Say(name, fmt.Sprintf(layout, args...)) }

// List adds a fact of the name for each different value, in their order, limit at most.
func (d *Details) List(name string, limit int, values []string) {
	all := slices.Compact(slices.Sorted(slices.Values(values)))
	if len(all) > 0 && all[0] == "" {
		all = all[1:]
	}
	shown, same := 0, true
	for _, v := range all {
		t := Visible(v, MaxDetail)
		if shown == limit || !d.add(name, t) {
			break
		}
		same = same && t == v
		shown++
	}
	if shown == len(all) && same {
		return
	}
	d.summary(name+ListSuffix, fmt.Sprintf("%d of %d, sha256 %.16x", shown, len(all), listSum(all)))
}

// Copy adds those of other facts that have one of the names.
func (d *Details) Copy(facts []Fact, names ...string) {
	for _, f := range facts {
		if slices.Contains(names, strings.TrimSuffix(f.Name, ListSuffix)) {
			d.Say(f.Name, f.Value)
		}
	}
}

// Count adds a fact that says how many different values there are, with a digest of
// all of them, for lists that nobody reads.
func (d *Details) Count(name string, values []string) {
	all := slices.Compact(slices.Sorted(slices.Values(values)))
	if len(all) > 0 {
		d.Sayf(name, "%d, sha256 %.16x", len(all), listSum(all))
	}
}

func listSum(all []string) []byte {
	x := sha256.New()
	for _, v := range all {
		fmt.Fprintf(x, "%d:%s", len(v), v)
	}
	return x.Sum(nil)
}

// ListSuffix ends the name of the fact that sums up a list which does not stand whole.
const ListSuffix = "-list"

func (d *Details) add(name, value string) bool {
	if d.room == 0 || d.bytes < len(name)+len(value) {
		return false
	}
	d.room--
	d.bytes -= len(name) + len(value)
	d.facts = append(d.facts, Fact{name, value})
	return true
}

func (d *Details) summary(name, value string) {
	if d.spare == 0 {
		d.leave(name, value)
		return
	}
	d.spare--
	d.facts = append(d.facts, Fact{name, value})
}

func (d *Details) leave(name, value string) {
	d.unsaid++
	fmt.Fprintf(d.rest, "%d:%s%d:%s", len(name), name, len(value), value)
}

// FactUnsaid counts the details that found no room.
const FactUnsaid = "unsaid"

// Facts are what was added, in that order.
func (d *Details) Facts() []Fact {
	out := slices.Clone(d.facts)
	if d.unsaid > 0 && !d.full {
		out = append(out, Fact{FactUnsaid, fmt.Sprintf("%d, sha256 %.16x", d.unsaid, d.rest.Sum(nil))})
	}
	return out
}

// CutDetails takes the details off the end of a plan's facts and returns what stands
// before them. They have one of names, or that name and [ListSuffix], in this order,
// and the form that [Details] gives them. Plans without details are fine.
func CutDetails(facts []Fact, names ...string) ([]Fact, error) {
	begin := slices.IndexFunc(facts, func(f Fact) bool {
		return f.Name == FactUnsaid || slices.Contains(names, strings.TrimSuffix(f.Name, ListSuffix))
	})
	if begin < 0 {
		return facts, nil
	}
	details := facts[begin:]
	at, sum := 0, 0
	for i, f := range details {
		base := strings.TrimSuffix(f.Name, ListSuffix)
		if f.Name == FactUnsaid && i == len(details)-1 {
			base = ""
		}
		for base != "" && at < len(names) && names[at] != base {
			at++
		}
		if at == len(names) && base != "" {
			return nil, fmt.Errorf("format: detail %.60q is unknown or out of order", f.Name)
		}
		if f.Value == "" || len(f.Value) > MaxDetail || Visible(f.Value, MaxDetail) != f.Value {
			return nil, fmt.Errorf("format: detail %.60q is not in its form", f.Name)
		}
		sum += len(f.Name) + len(f.Value)
	}
	if len(details) > MaxDetails+detailSpare+1 || sum > MaxDetailBytes+(detailSpare+1)*2*MaxDetail {
		return nil, fmt.Errorf("format: %d details of %d bytes", len(details), sum)
	}
	return facts[:begin], nil
}

// Visible makes of text out of a file a line that may be a fact: at most limit bytes,
// limit being 64 at least, with "?" for what is no character that can be seen. What is
// longer is cut, and says so, with a digest of the whole.
func Visible(s string, limit int) string {
	more := ""
	if len(s) > limit {
		sum := sha256.Sum256([]byte(s))
		more = fmt.Sprintf("… (%d bytes, sha256 %.4x)", len(s), sum)
		s = s[:limit-len(more)]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if r, _ := utf8.DecodeLastRuneInString(s); r == utf8.RuneError && len(s) > 0 {
			s = s[:len(s)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) || Turns(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?")) + more
}
