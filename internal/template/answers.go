package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/statement"
)

// Answers are what whoever sets up an application is asked. Empty members have
// defaults: see [Template.Suggest].
type Answers struct {
	Name        string              `json:"name"` // of the policy; and of its key, if that is new
	Description string              `json:"description,omitzero"`
	Requesters  []string            `json:"requesters,omitzero"` // people, machines, groups
	Groups      map[string][]string `json:"groups,omitzero"`     // new groups, with their members
	Quorum      string              `json:"quorum,omitzero"`     // "2 of release, 1 of security"
	Veto        []string            `json:"veto,omitzero"`       // groups; "none" is no group
	Gates       []string            `json:"gates,omitzero"`      // machines, or groups of such, whose endorsement is needed besides
	Upload      bool                `json:"upload,omitzero"`     // the files are uploaded and an inspector reads them
	Key         string              `json:"key,omitzero"`        // of the charter; empty: a new one
	URI         string              `json:"uri,omitzero"`        // of a new key; default soft:NAME
	Algorithm   string              `json:"algorithm,omitzero"`  // of a new key
	Formats     []string            `json:"formats,omitzero"`    // where the template has none
	Names       []string            `json:"names,omitzero"`      // patterns; "any" is no pattern
	Timestamp   []string            `json:"timestamp,omitzero"`  // authorities; "none" is none
	Hours       string              `json:"hours,omitzero"`      // "mon-fri 08:00-18:00", UTC
	Expires     string              `json:"expires,omitzero"`    // how long a request may wait: "72h"
}

// limits of answers that come from forms.
const (
	maxAnswer = 4096 // bytes of one
	maxWords  = 256  // in one
)

// Words reads a list as people write it: separated by commas or white space.
func Words(s string) []string {
	if f := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }); len(f) > 0 {
		return f
	}
	return nil
}

// Read takes the answers of a form: get returns the value of a field, "" if it has
// none. The fields are those of the JSON; groups has one group a line: "ci: alice, bob".
func Read(get func(field string) string) (Answers, error) {
	var err error
	text := func(f string) string {
		s := strings.TrimSpace(get(f))
		if len(s) > maxAnswer {
			err, s = wrong(f, "%d bytes: at most %d", len(s), maxAnswer), ""
		}
		return s
	}
	list := func(f string) []string {
		l := Words(text(f))
		if len(l) > maxWords {
			err, l = wrong(f, "%d entries: at most %d", len(l), maxWords), nil
		}
		return l
	}
	a := Answers{Name: text("name"), Description: text("description"), Requesters: list("requesters"), Quorum: text("quorum"), Veto: list("veto"),
		Gates: list("gates"), Key: text("key"), URI: text("uri"), Algorithm: text("algorithm"), Formats: list("formats"), Names: list("names"),
		Timestamp: list("timestamp"), Hours: text("hours"), Expires: text("expires")}
	switch u := text("upload"); u {
	case "", "no", "false":
	case "yes", "true", "on":
		a.Upload = true
	default:
		err = wrong("upload", "%.20q: want yes or no", u)
	}
	if g := text("groups"); g != "" {
		for line := range strings.Lines(g) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			name, members, ok := strings.Cut(line, ":")
			if !ok {
				name, members, ok = strings.Cut(line, "=")
			}
			if name = strings.TrimSpace(name); !ok || name == "" {
				return a, wrong("groups", "%.80q: want a group and its members, like \"ci: alice, bob\"", line)
			}
			if a.Groups == nil {
				a.Groups = map[string][]string{}
			}
			if _, twice := a.Groups[name]; twice {
				return a, wrong("groups", "%.80q stands twice", name)
			}
			a.Groups[name] = Words(members)
		}
	}
	return a, err
}

// Values are the fields that Read takes again, without those that are empty.
func (a Answers) Values() map[string]string {
	out := map[string]string{}
	for f, s := range map[string]string{"name": a.Name, "description": a.Description, "quorum": a.Quorum, "key": a.Key, "uri": a.URI,
		"algorithm": a.Algorithm, "hours": a.Hours, "expires": a.Expires} {
		if s != "" {
			out[f] = s
		}
	}
	for f, l := range map[string][]string{"requesters": a.Requesters, "veto": a.Veto, "gates": a.Gates, "formats": a.Formats, "names": a.Names, "timestamp": a.Timestamp} {
		if len(l) > 0 {
			out[f] = strings.Join(l, ", ")
		}
	}
	if a.Upload {
		out["upload"] = "yes"
	}
	var groups []string
	for _, n := range slices.Sorted(maps.Keys(a.Groups)) {
		groups = append(groups, n+": "+strings.Join(a.Groups[n], ", "))
	}
	if groups != nil {
		out["groups"] = strings.Join(groups, "\n")
	}
	return out
}

// Suggest fills what is empty of the answers with what the charter's other policies
// do: who asks and who endorses as under the first that is endorsed, or as for the
// charter itself; the deployment's own timestamps where it has an authority.
func (t *Template) Suggest(head *charter.Charter, a Answers) Answers {
	r := head.Commands[statement.CharterReplace]
	for _, n := range slices.Sorted(maps.Keys(head.Policies)) {
		if p := head.Policies[n]; p.Rule.Quorum != nil && !p.Upload && len(p.Purposes) == 0 {
			r = p.Rule
			break
		}
	}
	if len(a.Requesters) == 0 {
		a.Requesters = slices.Clone(r.Requesters)
	}
	if a.Quorum == "" && !t.Unattended && r.Quorum != nil {
		a.Quorum = r.Quorum.String()
		if len(a.Veto) == 0 {
			a.Veto = slices.Clone(r.Veto)
		}
	}
	if len(a.Formats) == 0 && len(t.Formats) == 0 {
		a.Formats = []string{"cms"}
	}
	if len(a.Names) == 0 {
		a.Names = slices.Clone(t.Names)
	}
	if a.Key == "" {
		if a.URI == "" && a.Name != "" {
			a.URI = "soft:" + a.Name
		}
		if fit := t.fit(a); a.Algorithm == "" && len(fit) > 0 {
			a.Algorithm = string(fit[0])
		}
	}
	if len(a.Timestamp) == 0 && t.Stamp && head.Timestamping != nil {
		a.Timestamp = []string{"self"}
	}
	return a
}

// ParseHours reads when a policy's requests may be executed, in UTC: "08:00-18:00",
// "mon-fri 08:00-18:00", "mon, wed 08:00-12:00". Empty is always.
func ParseHours(s string) (*charter.Window, error) {
	words := Words(strings.ToLower(s))
	if len(words) == 0 {
		return nil, nil
	}
	from, to, ok := strings.Cut(words[len(words)-1], "-")
	if !ok || !strings.Contains(from, ":") || !strings.Contains(to, ":") {
		return nil, wrong("hours", "%.60q: want days and times in UTC, like mon-fri 08:00-18:00", s)
	}
	w := &charter.Window{From: from, To: to}
	days := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	for _, d := range words[:len(words)-1] {
		a, b, span := strings.Cut(d, "-")
		i, k := slices.Index(days, a), slices.Index(days, b)
		if !span {
			k = i
		}
		if i < 0 || k < i {
			return nil, wrong("hours", "%.40q: want a day, mon to sun, or several in order, like mon-fri", d)
		}
		w.Days = append(w.Days, days[i:k+1]...)
	}
	if len(w.Days) == len(days) {
		w.Days = nil
	}
	return w, nil
}

func parseExpires(s string) (charter.Duration, error) {
	if s == "" {
		return 0, nil
	}
	var d charter.Duration
	if err := d.UnmarshalText([]byte(s)); err != nil {
		return 0, wrong("expires", "%s", strings.TrimPrefix(err.Error(), "charter: "))
	}
	if time.Duration(d) < time.Minute {
		return 0, wrong("expires", "%s: want a minute at least", s)
	}
	return d, nil
}

// nothing reports whether a list is the one word that says so.
func nothing(list []string, word string) bool { return len(list) == 1 && list[0] == word }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
