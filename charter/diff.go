package charter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"
)

// Effect is what a change does to what the charter demands.
type Effect string

// The effects. A change without one is neither, or it cannot be decided.
const (
	Weaker   Effect = "weaker"   // fewer votes, more requesters, more is signed
	Stronger Effect = "stronger" // the other way round
	Trust    Effect = "trust"    // other keys are believed: credentials, keeper, signing keys
)

// Change is one difference between two charters.
type Change struct {
	Path   string `json:"path"`
	From   string `json:"from,omitzero"` // "" where it was not there
	To     string `json:"to,omitzero"`   // "" where it is no longer there
	Effect Effect `json:"effect,omitzero"`
	Text   string `json:"text"` // for people: "now needs 1 of security instead of 2 of security"
}

func (c Change) String() string {
	s := c.Path + ": " + c.Text
	if c.Effect != "" {
		s += " (" + string(c.Effect) + ")"
	}
	return s
}

// Diff lists what b changes of a, in order of path. Quorums are compared by what
// they demand, with their groups' members as they are: members have changes of
// their own.
func Diff(a, b *Charter) []Change {
	x, y := a.canonical(), b.canonical()
	d := &differ{a: &x, b: &y}
	d.head()
	d.people()
	d.groups()
	diffMap(d, "keys.", x.Keys, y.Keys, func(k Key) string {
		return fmt.Sprintf("%s, %s, %s", k.URI, k.Algorithm, k.SignatureScheme())
	}, func(at string, k, l Key) {
		d.value(at+".uri", string(k.URI), string(l.URI), Trust)
		d.value(at+".algorithm", string(k.Algorithm), string(l.Algorithm), Trust)
		d.value(at+".scheme", string(k.SignatureScheme()), string(l.SignatureScheme()), Trust)
	}, "", "")
	diffMap(d, "policies.", x.Policies, y.Policies, func(p Policy) string { return p.summary() }, d.policy, Weaker, Stronger)
	diffMap(d, "commands.", x.Commands, y.Commands, Rule.summary, d.rule, Weaker, Stronger)
	d.value("timestamping", text(x.Timestamping), text(y.Timestamping), Trust)
	d.records(x.Records, y.Records)
	d.issuers()
	d.passkeys()
	slices.SortStableFunc(d.out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d.out
}

type differ struct {
	a, b *Charter
	out  []Change
}

func (d *differ) add(c Change) { d.out = append(d.out, c) }

// value compares two values that are not ordered.
func (d *differ) value(path, from, to string, e Effect) {
	if from == to {
		return
	}
	t := fmt.Sprintf("%s instead of %s", quoteEmpty(to), quoteEmpty(from))
	switch {
	case from == "":
		t = "added: " + to
	case to == "":
		t = "removed: " + from
	}
	d.add(Change{path, from, to, e, t})
}

func quoteEmpty(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// limit compares values where more is weaker, and text for the absence of a limit.
func (d *differ) limit(path string, from, to int64, show func(int64) string, none int64) {
	if from == to {
		return
	}
	rank := func(v int64) int64 {
		if v == 0 {
			return none
		}
		return v
	}
	e := Stronger
	if rank(to) > rank(from) {
		e = Weaker
	}
	d.value(path, show(from), show(to), e)
}

// set compares sets; gain and loss are the effects of an element more or less.
func (d *differ) set(path string, from, to []string, gain, loss Effect) {
	for _, s := range to {
		if !slices.Contains(from, s) {
			d.add(Change{path, "", s, gain, "gains " + s})
		}
	}
	for _, s := range from {
		if !slices.Contains(to, s) {
			d.add(Change{path, s, "", loss, "loses " + s})
		}
	}
}

// open compares sets where the empty one allows everything.
func (d *differ) open(path string, from, to []string) {
	switch {
	case len(from) > 0 && len(to) == 0:
		d.add(Change{path, strings.Join(from, ", "), "", Weaker, "no longer limited to " + strings.Join(from, ", ")})
	case len(from) == 0 && len(to) > 0:
		d.add(Change{path, "", strings.Join(to, ", "), Stronger, "now limited to " + strings.Join(to, ", ")})
	default:
		d.set(path, from, to, Weaker, Stronger)
	}
}

func diffMap[K ~string, V any](d *differ, prefix string, a, b map[K]V, show func(V) string, changed func(at string, a, b V), added, removed Effect) {
	for _, k := range sorted(b) {
		at := prefix + string(k)
		if old, ok := a[k]; ok {
			changed(at, old, b[k])
		} else {
			d.add(Change{at, "", show(b[k]), added, "added: " + show(b[k])})
		}
	}
	for _, k := range sorted(a) {
		if _, ok := b[k]; !ok {
			d.add(Change{prefix + string(k), show(a[k]), "", removed, "removed: " + show(a[k])})
		}
	}
}

func text(v any) string {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.EscapeForHTML(false))
	if err != nil || string(b) == "null" {
		return ""
	}
	return string(b)
}

func (d *differ) head() {
	d.value("deployment", d.a.Deployment, d.b.Deployment, Trust)
	d.value("version", fmt.Sprint(d.a.Version), fmt.Sprint(d.b.Version), "")
	k, l := d.a.Keeper, d.b.Keeper
	d.value("keeper.receipts", k.Receipts, l.Receipts, Trust)
	d.value("keeper.log", k.Log, l.Log, Trust)
	d.value("keeper.logKey", k.LogKey, l.LogKey, Trust)
}

func credentialTexts(cs []Credential) []string {
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = text(c)
		if p, err := c.Parse(); err == nil {
			out[i] = string(p.ID())
			if p.Kind() == "passkey" { // its ID does not commit to the key
				out[i] += " " + p.Text()
			}
			if c.Attestation != "" {
				h := sha256.Sum256([]byte(c.Attestation))
				out[i] += " attested, SHA-256 " + hex.EncodeToString(h[:])
			}
		}
	}
	return out
}

func (d *differ) people() {
	diffMap(d, "people.", d.a.People, d.b.People,
		func(p Person) string { return strings.Join(credentialTexts(p.Credentials), ", ") },
		func(at string, p, q Person) {
			d.value(at+".name", p.Name, q.Name, "")
			d.value(at+".email", p.Email, q.Email, "")
			d.set(at+".credentials", credentialTexts(p.Credentials), credentialTexts(q.Credentials), Trust, Trust)
		}, "", "")
	diffMap(d, "machines.", d.a.Machines, d.b.Machines,
		func(m Machine) string { return strings.Join(credentialTexts(m.Credentials), ", ") },
		func(at string, m, n Machine) {
			d.value(at+".owner", m.Owner, n.Owner, ownerEffect(m.Owner, n.Owner))
			d.set(at+".credentials", credentialTexts(m.Credentials), credentialTexts(n.Credentials), Trust, Trust)
			if m.Inspector != n.Inspector {
				d.value(at+".inspector", fmt.Sprint(m.Inspector), fmt.Sprint(n.Inspector), Trust)
			}
		}, "", "")
}

// ownerEffect: an owner keeps a machine's vote from counting beside his own.
func ownerEffect(from, to string) Effect {
	switch {
	case from == "":
		return Stronger
	case to == "":
		return Weaker
	}
	return ""
}

func (d *differ) groups() {
	diffMap(d, "groups.", d.a.Groups, d.b.Groups,
		func(g Group) string { return strings.Join(g.Members, ", ") },
		func(at string, g, h Group) {
			// More members: more who can agree. (In a veto group: more who can
			// stop. Both are said of the group, not of its uses.)
			d.set(at, g.Members, h.Members, Weaker, Stronger)
		}, "", "")
}

func (p Policy) summary() string {
	return fmt.Sprintf("%s with %s: %s", strings.Join(p.Formats, ", "), strings.Join(p.Keys(), " and "), p.Rule.summary())
}

func (r Rule) summary() string {
	who := strings.Join(r.Requesters, ", ")
	if r.Quorum == nil {
		return who + " unattended"
	}
	return fmt.Sprintf("%s, needs %s", who, r.Quorum)
}

func (d *differ) policy(at string, p, q Policy) {
	d.value(at+".description", p.Description, q.Description, "")
	d.value(at+".key", p.Key, q.Key, Trust)
	d.value(at+".also", strings.Join(p.Also, ", "), strings.Join(q.Also, ", "), Trust)
	d.set(at+".formats", p.Formats, q.Formats, Weaker, Stronger)
	d.set(at+".purposes", p.Purposes, q.Purposes, Weaker, Stronger)
	d.limit(at+".maxItems", int64(p.MaxItems), int64(q.MaxItems), func(v int64) string {
		if v == 0 {
			return "no limit of its own"
		}
		return fmt.Sprint(v)
	}, 1<<40)
	d.open(at+".names", p.Names, q.Names)
	diffMap(d, at+".params.", p.Params, q.Params, func(s string) string { return s },
		func(at, v, w string) { d.value(at, v, w, "") }, Stronger, Weaker)
	d.window(at+".window", p.Window, q.Window)
	if p.Upload != q.Upload {
		e := Weaker
		if q.Upload {
			e = Stronger
		}
		d.value(at+".upload", fmt.Sprint(p.Upload), fmt.Sprint(q.Upload), e)
	}
	d.value(at+".timestamp", strings.Join(p.Timestamp, ", "), strings.Join(q.Timestamp, ", "), "")
	d.rule(at+".rule", p.Rule, q.Rule)
}

func (d *differ) window(at string, v, w *Window) {
	switch {
	case v == nil && w == nil:
	case v == nil:
		d.value(at, "", w.String(), Stronger)
	case w == nil:
		d.value(at, v.String(), "", Weaker)
	default:
		d.value(at, v.String(), w.String(), "")
	}
}

func (d *differ) rule(at string, r, s Rule) {
	d.set(at+".requesters", r.Requesters, s.Requesters, Weaker, Stronger)
	d.set(at+".veto", r.Veto, s.Veto, Stronger, Weaker)
	seconds := func(v int64) string { return Duration(v).String() }
	d.limit(at+".expires", int64(r.Lifetime()), int64(s.Lifetime()), seconds, 0)
	d.limit(at+".endorsements", int64(r.Endorsements), int64(s.Endorsements), func(v int64) string {
		if v == 0 {
			return "as long as the request"
		}
		return seconds(v)
	}, int64(MaxDuration)+1)
	switch {
	case r.Quorum == nil && s.Quorum == nil:
	case r.Quorum == nil:
		d.add(Change{at + ".quorum", "unattended", s.Quorum.String(), Stronger, "now needs " + s.Quorum.String() + "; was unattended"})
	case s.Quorum == nil:
		d.add(Change{at + ".quorum", r.Quorum.String(), "unattended", Weaker, "is now unattended; needed " + r.Quorum.String()})
	default:
		d.quorum(at+".quorum", r.Quorum, s.Quorum)
	}
}

func (d *differ) quorum(at string, x, y *Node) {
	if text(x) == text(y) {
		return
	}
	c := Change{at, x.String(), y.String(), "", fmt.Sprintf("now needs %s instead of %s", y, x)}
	wasEnough, isEnough := d.implies(x, y), d.implies(y, x)
	switch {
	case wasEnough && isEnough:
		c.Text = fmt.Sprintf("is written %s instead of %s, and means the same", y, x)
	case wasEnough:
		c.Effect = Weaker
	case isEnough:
		c.Effect = Stronger
	}
	d.add(c)
}

// implies reports whether whatever satisfies x satisfies y, as far as it can be seen
// from the leaves: each way through x contains a way through y, leaf by leaf, with
// at least as many places.
func (d *differ) implies(x, y *Node) bool {
	wx, ok1 := d.ways(d.a, x)
	wy, ok2 := d.ways(d.b, y)
	if !ok1 || !ok2 || len(wx)*len(wy) > 1<<16 {
		return false
	}
	for _, a := range wx {
		if !slices.ContainsFunc(wy, func(b map[string]int) bool {
			for leaf, need := range b {
				if a[leaf] < need {
					return false
				}
			}
			return true
		}) {
			return false
		}
	}
	return true
}

// ways are the ways to satisfy n: how many of each leaf.
func (d *differ) ways(c *Charter, n *Node) ([]map[string]int, bool) {
	tree, err := NewRoll(c).Compile(n, nil)
	if err != nil {
		return nil, false
	}
	leaves := n.Leaves()
	var out []map[string]int
	for _, choice := range tree.Choices() {
		w := map[string]int{}
		for _, l := range choice {
			w[leaves[l].Name()] += leaves[l].Needs()
		}
		out = append(out, w)
	}
	return out, true
}

// shortDigest tells keys apart for people.
func shortDigest(b []byte) string {
	h := sha256.Sum256(b)
	return "SHA-256 " + hex.EncodeToString(h[:8])
}
