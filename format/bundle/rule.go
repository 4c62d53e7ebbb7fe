package bundle

import (
	"regexp"

	"github.com/greatseal-io/greatseal/format/plist"
)

// Rule is one of the standard rules of lists (Apple's bundlediskrep.cpp).
type Rule struct {
	Pattern  string
	Weight   int
	Omit     bool // not in the list
	Optional bool // may be missing later
	Nested   bool // code, with a signature of its own
	re       *regexp.Regexp
}

// Rules are those of one list. The one with the largest weight decides.
type Rules []Rule

// rules1 are those of the list for systems before macOS 10.9, rules2 those of today's.
var (
	rules1 = NewRules(
		Rule{Pattern: `^Resources/`, Weight: 1},
		Rule{Pattern: `^Resources/.*\.lproj/`, Weight: 1000, Optional: true},
		Rule{Pattern: `^Resources/.*\.lproj/locversion.plist$`, Weight: 1100, Omit: true},
		Rule{Pattern: `^Resources/Base\.lproj/`, Weight: 1010},
		Rule{Pattern: `^version.plist$`, Weight: 1},
	)
	rules2 = NewRules(
		Rule{Pattern: `.*\.dSYM($|/)`, Weight: 11},
		Rule{Pattern: `^(.*/)?\.DS_Store$`, Weight: 2000, Omit: true},
		Rule{Pattern: `^(Frameworks|SharedFrameworks|PlugIns|Plug-ins|XPCServices|Helpers|MacOS|Library/(Automator|Spotlight|LoginItems))/`, Weight: 10, Nested: true},
		Rule{Pattern: `^.*`, Weight: 1},
		Rule{Pattern: `^Info\.plist$`, Weight: 20, Omit: true},
		Rule{Pattern: `^PkgInfo$`, Weight: 20, Omit: true},
		Rule{Pattern: `^Resources/`, Weight: 20},
		Rule{Pattern: `^Resources/.*\.lproj/`, Weight: 1000, Optional: true},
		Rule{Pattern: `^Resources/.*\.lproj/locversion.plist$`, Weight: 1100, Omit: true},
		Rule{Pattern: `^Resources/Base\.lproj/`, Weight: 1010},
		Rule{Pattern: `^[^/]+$`, Weight: 10, Nested: true},
		Rule{Pattern: `^embedded\.provisionprofile$`, Weight: 20},
		Rule{Pattern: `^version\.plist$`, Weight: 20},
	)
)

// NewRules makes rules of patterns that are known to be right.
func NewRules(rs ...Rule) Rules {
	for i := range rs {
		rs[i].re = regexp.MustCompile(rs[i].Pattern)
	}
	return rs
}

// Decide finds the rule for a path, nil when there is none.
func (rs Rules) Decide(p string) *Rule {
	var best *Rule
	for i := range rs {
		if (best == nil || rs[i].Weight > best.Weight) && rs[i].re.MatchString(p) {
			best = &rs[i]
		}
	}
	return best
}

// Value is the rules as lists have them.
func (rs Rules) Value() plist.Dict {
	var out plist.Dict
	for _, r := range rs {
		var d plist.Dict
		for _, f := range []struct {
			on   bool
			name string
		}{{r.Nested, "nested"}, {r.Omit, "omit"}, {r.Optional, "optional"}} {
			if f.on {
				d = append(d, plist.Pair{Key: f.name, Value: true})
			}
		}
		if r.Weight == 1 && d == nil {
			out = append(out, plist.Pair{Key: r.Pattern, Value: true})
			continue
		}
		d = append(d, plist.Pair{Key: "weight", Value: plist.Real(itoa(r.Weight))})
		out = append(out, plist.Pair{Key: r.Pattern, Value: d})
	}
	return out
}
