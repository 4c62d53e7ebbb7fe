package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/record"
)

// maxShown is how many entries of one list are facts of their own. The count is a
// fact always, and the whole statement is in the plan.
const (
	maxShown = 38
	maxFact  = 4000
)

// Facts say for endorsers what the statement changes: there are at most
// format.MaxFacts, each one line.
func (s *Statement) Facts() []format.Fact {
	f := &facts{}
	f.add("says", "the whole of what is trusted in the circle, in place of the version before")
	f.add("deployment", s.Deployment)
	f.add("version", fmt.Sprint(s.Version))
	if s.Version > 1 {
		f.add("previous", s.Previous.String())
	}
	f.add("created", s.Created.Format(time.RFC3339))
	f.add("expires", s.Expires.Format(time.RFC3339))
	fresh := "not asked for"
	if s.Freshness > 0 {
		fresh = "asked for, at most " + (time.Duration(s.Freshness) * time.Second).String() + " old"
	}
	f.add("freshness", fresh)
	builds := "not believed"
	if s.VendorBuilds {
		builds = "believed"
	}
	f.add("vendor builds", builds)
	list(f, "instance", slices.Sorted(maps.Keys(s.Instances)), func(n string) (string, string) { return n, s.Instances[n].String() })
	list(f, "anchor", s.Anchors, func(a record.Anchor) (string, string) { return a.Name, AnchorText(a) })
	list(f, "revocation", s.Revocations, func(r record.Revocation) (string, string) { return r.Fingerprint, RevocationText(r) })
	list(f, "configuration", slices.Sorted(maps.Keys(s.Configurations)), func(id string) (string, string) {
		return id, ConfigurationText(s.Configurations[id])
	})
	list(f, "floor", s.Floors, func(l record.Floor) (string, string) {
		return l.Ref.Table + " " + strings.Join(l.Ref.Key, " "), fmt.Sprintf("revision %d or later", l.Revision)
	})
	list(f, "timestamp root", s.TimestampRoots, func(der []byte) (string, string) { return fingerprint(der), subject(der) })
	return f.list
}

// Facts say for endorsers what the statement says.
func (f *Freshness) Facts() []format.Fact {
	return []format.Fact{
		{Name: "says", Value: "that a version of the circle's statement is still the newest; it changes no trust"},
		{Name: "deployment", Value: f.Deployment},
		{Name: "version", Value: fmt.Sprint(f.Version)},
		{Name: "circle", Value: f.Circle.String()},
		{Name: "at", Value: f.At.Format(time.RFC3339)},
		{Name: "expires", Value: f.Expires.Format(time.RFC3339)},
	}
}

type facts struct{ list []format.Fact }

func (f *facts) add(name, value string) {
	f.list = append(f.list, format.Fact{Name: cut(name), Value: cut(value)})
}

// cut keeps a fact to one line of bounded length, whatever a certificate's
// subject holds.
func cut(s string) string {
	s = strings.Map(func(r rune) rune {
		if format.Turns(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= maxFact {
		return s
	}
	return strings.ToValidUTF8(s[:maxFact-len("…")], "") + "…"
}

func list[T any](f *facts, what string, entries []T, show func(T) (name, value string)) {
	f.add(what+"s", fmt.Sprint(len(entries)))
	for i, e := range entries {
		if i == maxShown {
			f.add(what+"s not shown here", fmt.Sprint(len(entries)-maxShown))
			return
		}
		name, value := show(e)
		f.add(what+" "+name, value)
	}
}

func (i Instance) String() string {
	if i.Role == Trusted {
		return "trusted: records are signed there"
	}
	s := "protected, enforcement " + string(i.Enforcement)
	for _, k := range i.RuntimeKeys {
		s += ", runtime key " + fingerprint(k)
	}
	return s
}

func fingerprint(der []byte) string {
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])
}

func subject(der []byte) string {
	c, err := Certificate(der)
	if err != nil {
		return "unreadable"
	}
	return c.Subject.String()
}

// AnchorText is an anchor in one line for people.
func AnchorText(a record.Anchor) string {
	s := fmt.Sprintf("for %s, on %s, of %s, %s, SHA-256 %s", purposes(a.Purposes), every(a.Tables, "every table"),
		every(a.Issuers, "every trusted instance"), subject(a.Certificate), fingerprint(a.Certificate))
	if a.VendorBuilds {
		s = "vendor's builds, " + s
	}
	return s
}

func purposes(list []string) string {
	out := slices.Clone(list)
	for i, p := range out {
		if p == record.Wildcard {
			out[i] = "the wild card purpose"
		}
	}
	return strings.Join(out, " and ")
}

func every(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, " and ")
}

// RevocationText is a revocation in one line for people, without its fingerprint.
func RevocationText(r record.Revocation) string {
	s := "revoked"
	if r.Compromised {
		s = "compromised"
	}
	if r.Since.IsZero() {
		s += ", whatever was signed"
	} else {
		s += " since " + r.Since.Format(time.RFC3339)
	}
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	return s
}

// ConfigurationText is a configuration in one line for people.
func ConfigurationText(c record.Configuration) string {
	s := fmt.Sprintf("version %d, table %s, for %s: %s", c.Version, c.Table, purposes([]string{c.Purpose}), strings.Join(c.Fields, " "))
	if c.Attachments {
		s += ", with attachments"
	}
	if len(c.Parameters) > 0 {
		s += ", parameters " + strings.Join(c.Parameters, " ")
	}
	if c.Condition != "" {
		s += ", where " + c.Condition
	}
	return s
}
