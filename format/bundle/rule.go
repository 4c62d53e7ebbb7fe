package bundle

import (
	"regexp"

	"github.com/greatseal-io/greatseal/format/plist"
)

// rule is one of the standard rules of lists (Apple's bundlediskrep.cpp). The one
// with the largest weight decides.
type rule struct {
	pattern  string
	weight   int
	omit     bool // not in the list
	optional bool // may be missing later
	nested   bool // code, with a signature of its own
	re       *regexp.Regexp
}

// rules1 are those of the list for systems before macOS 10.9, rules2 those of today's.
var (
	rules1 = compile(
		rule{pattern: `^Resources/`, weight: 1},
		rule{pattern: `^Resources/.*\.lproj/`, weight: 1000, optional: true},
		rule{pattern: `^Resources/.*\.lproj/locversion.plist$`, weight: 1100, omit: true},
		rule{pattern: `^Resources/Base\.lproj/`, weight: 1010},
		rule{pattern: `^version.plist$`, weight: 1},
	)
	rules2 = compile(
		rule{pattern: `.*\.dSYM($|/)`, weight: 11},
		rule{pattern: `^(.*/)?\.DS_Store$`, weight: 2000, omit: true},
		rule{pattern: `^(Frameworks|SharedFrameworks|PlugIns|Plug-ins|XPCServices|Helpers|MacOS|Library/(Automator|Spotlight|LoginItems))/`, weight: 10, nested: true},
		rule{pattern: `^.*`, weight: 1},
		rule{pattern: `^Info\.plist$`, weight: 20, omit: true},
		rule{pattern: `^PkgInfo$`, weight: 20, omit: true},
		rule{pattern: `^Resources/`, weight: 20},
		rule{pattern: `^Resources/.*\.lproj/`, weight: 1000, optional: true},
		rule{pattern: `^Resources/.*\.lproj/locversion.plist$`, weight: 1100, omit: true},
		rule{pattern: `^Resources/Base\.lproj/`, weight: 1010},
		rule{pattern: `^[^/]+$`, weight: 10, nested: true},
		rule{pattern: `^embedded\.provisionprofile$`, weight: 20},
		rule{pattern: `^version\.plist$`, weight: 20},
	)
)

func compile(rs ...rule) []rule {
	for i := range rs {
		rs[i].re = regexp.MustCompile(rs[i].pattern)
	}
	return rs
}

// decide finds the rule for a path, nil when there is none.
func decide(rs []rule, p string) *rule {
	var best *rule
	for i := range rs {
		if (best == nil || rs[i].weight > best.weight) && rs[i].re.MatchString(p) {
			best = &rs[i]
		}
	}
	return best
}

// value is the rules as lists have them.
func value(rs []rule) plist.Dict {
	var out plist.Dict
	for _, r := range rs {
		var d plist.Dict
		for _, f := range []struct {
			on   bool
			name string
		}{{r.nested, "nested"}, {r.omit, "omit"}, {r.optional, "optional"}} {
			if f.on {
				d = append(d, plist.Pair{Key: f.name, Value: true})
			}
		}
		if r.weight == 1 && d == nil {
			out = append(out, plist.Pair{Key: r.pattern, Value: true})
			continue
		}
		d = append(d, plist.Pair{Key: "weight", Value: plist.Real(itoa(r.weight))})
		out = append(out, plist.Pair{Key: r.pattern, Value: d})
	}
	return out
}
