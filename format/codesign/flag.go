package codesign

import (
	"fmt"
	"strings"
)

// flagNames are those that codesign's option takes, with their bits, and those that
// it only shows.
var flagNames = []struct {
	name  string
	bit   uint32
	given bool
}{
	{"host", 0x1, true}, {"adhoc", FlagAdHoc, false}, {"hard", 0x100, true}, {"kill", 0x200, true},
	{"expires", 0x400, true}, {"restrict", 0x800, true}, {"enforcement", 0x1000, true}, {"library", 0x2000, true},
	{"runtime", FlagRuntime, true}, {"linker-signed", FlagLinkerSigned, false},
}

// FlagNames shows flags, in the order of their bits, as ParseFlags reads them.
func FlagNames(flags uint32) string {
	var out []string
	for _, f := range flagNames {
		if flags&f.bit != 0 {
			out = append(out, f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		out = append(out, fmt.Sprintf("%#x", flags))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ",")
}

// ParseFlags reads names of flags, separated by commas; "none" is no flag.
func ParseFlags(s string) (uint32, error) {
	flags := uint32(0)
	if s == "none" {
		return 0, nil
	}
next:
	for n := range strings.SplitSeq(s, ",") {
		for _, f := range flagNames {
			if f.name == n && f.given && flags&f.bit == 0 {
				flags |= f.bit
				continue next
			}
		}
		return 0, fmt.Errorf("codesign: flag %.40q: want none, or some of host, hard, kill, expires, restrict, enforcement, library, runtime", n)
	}
	return flags, nil
}
