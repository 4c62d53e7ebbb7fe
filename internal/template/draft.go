package template

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// Draft is the next version of a charter, with a new application.
type Draft struct {
	Template  string               `json:"template"`
	Answers   Answers              `json:"answers"` // with the defaults that were taken
	Base      statement.CharterRef `json:"base"`    // the charter that it follows
	Charter   *charter.Charter     `json:"charter"`
	Changes   []charter.Change     `json:"changes"`
	Members   []Member             `json:"members"`            // what was added, explained
	Demands   string               `json:"demands"`            // what the policy would demand, in words
	Warnings  []charter.Warning    `json:"warnings,omitempty"` // that the charter in force does not have
	Notes     []string             `json:"notes,omitempty"`
	NeedsCert Certificate          `json:"certificate"`
}

// Member is one thing that a draft adds to the charter, and why.
type Member struct {
	Path  string `json:"path"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// ErrMoved is wrapped by errors about a draft that was made from a charter which is
// no longer in force: apply the template again.
var ErrMoved = errors.New("template: another charter has come into force meanwhile")

// Fresh refuses a draft that was made from another charter than the one in force.
func Fresh(base, head statement.CharterRef) error {
	if base != head {
		return fmt.Errorf("%w: version %d is in force, the draft follows version %d", ErrMoved, head.Version, base.Version)
	}
	return nil
}

// Draft makes the charter that follows head, which is in force under ref. Errors
// about answers are [*FieldError]; others are those of charter.Check.
func (t *Template) Draft(head *charter.Charter, ref statement.CharterRef, a Answers, now time.Time) (*Draft, error) {
	d := &drafting{t: t, head: head, a: t.Suggest(head, a)}
	next, err := charter.Next(head, ref, now)
	if err != nil {
		return nil, err
	}
	d.c = next
	if err := errors.Join(d.name(), d.groups()); err != nil {
		return nil, first(err)
	}
	for _, step := range []func() error{d.formats, d.key, d.rule, d.conditions} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if next.Policies == nil {
		next.Policies = map[string]charter.Policy{}
	}
	next.Policies[d.a.Name] = d.p
	out, err := checked(charter.Clone(next))
	if err != nil {
		return nil, err
	}
	warnings := d.warnings(out)
	for _, w := range warnings {
		switch w.Code {
		case "bare-digest":
			return nil, wrong("key", "%s", w.Text)
		case "machines-only":
			return nil, wrong("quorum", "%s", w.Text)
		case "unattended-key":
			if t.Unattended { // of another policy, it is a warning about that one
				return nil, wrong("key", "%s: leave key out for a new one", w.Text)
			}
		case "unattended-anything":
			return nil, wrong("names", "what is signed unattended is held to names, and %s is any name: give a pattern like nightly-*", strings.Join(d.p.Names, ", "))
		}
	}
	return &Draft{Template: t.Name, Answers: d.a, Base: ref, Charter: out, Changes: charter.Diff(head, out), Members: d.members,
		Demands: out.Demands(out.Policies[d.a.Name].Rule), Warnings: warnings, Notes: t.Notes, NeedsCert: Needs(d.p.Formats)}, nil
}

// first of joined errors: a form shows one after the other.
func first(err error) error {
	if j, ok := err.(interface{ Unwrap() []error }); ok && len(j.Unwrap()) > 0 {
		return j.Unwrap()[0]
	}
	return err
}

// checked is a charter that Check accepts.
func checked(c *charter.Charter, err error) (*charter.Charter, error) {
	if err == nil {
		err = c.Check()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

type drafting struct {
	t       *Template
	head, c *charter.Charter
	a       Answers
	p       charter.Policy
	members []Member
}

func (d *drafting) say(path, value, format string, args ...any) {
	d.members = append(d.members, Member{path, value, fmt.Sprintf(format, args...)})
}

func (d *drafting) at(member string) string { return "policies." + d.a.Name + "." + member }

func (d *drafting) name() error {
	if err := statement.CheckName("", d.a.Name); err != nil {
		return wrong("name", "%.60q: want a name of a-z 0-9 . _ -, like app-windows", d.a.Name)
	}
	if _, ok := d.head.Policies[d.a.Name]; ok {
		return wrong("name", "there is a policy %s already: greatseal app status %[1]s says how far it is", d.a.Name)
	}
	d.p.Description = d.a.Description
	if d.p.Description == "" {
		d.p.Description = d.t.What
	}
	d.say("policies."+d.a.Name, d.p.Description, "what may be signed, for whom, and who must agree")
	return nil
}

func (d *drafting) groups() error {
	for _, n := range slices.Sorted(maps.Keys(d.a.Groups)) {
		if _, ok := d.head.Groups[n]; ok {
			return wrong("groups", "there is a group %s already: name it without members", n)
		}
		if err := statement.CheckName("", n); err != nil {
			return wrong("groups", "%.60q: want a name of a-z 0-9 . _ -", n)
		}
		members := d.a.Groups[n]
		if len(members) == 0 {
			return wrong("groups", "%s has no members", n)
		}
		for _, m := range members {
			_, person := d.head.People[m]
			_, machine := d.head.Machines[m]
			if !person && !machine {
				return wrong("groups", "%s: there is no person or machine %.60q in the charter: %s", n, m, "people are added by a change of their own, with their credentials")
			}
		}
		d.c.Groups[n] = charter.Group{Members: slices.Clone(members)}
		d.say("groups."+n, strings.Join(members, ", "), "a new group of %s", plural(len(members), "member"))
	}
	return nil
}

func (d *drafting) formats() error {
	d.p.Formats = slices.Clone(d.t.Formats)
	if len(d.t.Formats) == 0 {
		d.p.Formats = slices.Clone(d.a.Formats)
	} else if len(d.a.Formats) > 0 {
		// Fewer than the template's will do.
		d.p.Formats = slices.Clone(d.a.Formats)
		for _, f := range d.a.Formats {
			if !slices.Contains(d.t.Formats, f) {
				return wrong("formats", "%.40q is not one of %s", f, strings.Join(d.t.Formats, ", "))
			}
		}
	}
	slices.Sort(d.p.Formats)
	d.p.Formats = slices.Compact(d.p.Formats)
	for _, f := range d.p.Formats {
		if _, ok := kindOf(f); !ok {
			return wrong("formats", "%.40q: want some of %s", f, strings.Join(Formats(), ", "))
		}
	}
	if len(algorithms(d.p.Formats)) == 0 {
		return wrong("formats", "no key signs all of %s: set up one policy for each", strings.Join(d.p.Formats, ", "))
	}
	d.p.Params = maps.Clone(d.t.Params)
	d.say(d.at("formats"), strings.Join(d.p.Formats, ", "), "what may be signed; everything else is refused")
	for _, n := range slices.Sorted(maps.Keys(d.p.Params)) {
		d.say(d.at("params."+n), d.p.Params[n], "every signature has this option; a request with another is refused")
	}
	return nil
}

// fit are the algorithms that may be chosen for the answers.
func (t *Template) fit(a Answers) []sigalg.Key {
	formats := t.Formats
	if len(a.Formats) > 0 {
		formats = a.Formats
	}
	may := algorithms(formats)
	if len(t.Algorithms) == 0 {
		return may
	}
	return slices.DeleteFunc(slices.Clone(t.Algorithms), func(k sigalg.Key) bool { return !slices.Contains(may, k) })
}

func algorithmText(list []sigalg.Key) string {
	var s []string
	for _, a := range list {
		s = append(s, string(a))
	}
	return strings.Join(s, ", ")
}

func (d *drafting) key() error {
	may := d.t.fit(d.a)
	if d.a.Key != "" {
		k, ok := d.head.Keys[d.a.Key]
		if !ok {
			return wrong("key", "the charter has no key %.60q: it has %s", d.a.Key, strings.Join(slices.Sorted(maps.Keys(d.head.Keys)), ", "))
		}
		if !slices.Contains(may, k.Algorithm) {
			return wrong("key", "%s is %s: %s wants one of %s", d.a.Key, k.Algorithm, d.t.Title, algorithmText(may))
		}
		if want := scheme(d.p.Formats, k.Algorithm); want != "" && k.SignatureScheme() != want {
			return wrong("key", "%s signs under %s: %s wants %s", d.a.Key, k.SignatureScheme(), d.t.Title, want)
		}
		if ts := d.head.Timestamping; ts != nil && ts.Key == d.a.Key {
			return wrong("key", "%s stamps, and signs nothing else", d.a.Key)
		}
		if Needs(d.p.Formats) != NoCertificate {
			d.say(d.at("key"), d.a.Key, "a key that the charter has already; its certificate must be good for these formats")
		} else {
			d.say(d.at("key"), d.a.Key, "a key that the charter has already")
		}
		d.p.Key = d.a.Key
		return nil
	}
	name := d.a.Name
	if _, ok := d.head.Keys[name]; ok {
		return wrong("key", "the charter has a key %s already: name it as the key, or call the application otherwise", name)
	}
	if _, ok := d.head.Commands[statement.KeyGenerate]; !ok {
		return wrong("key", "the charter lets nobody generate keys: add a rule for key.generate first")
	}
	if _, ok := d.head.Commands[statement.KeyImportCert]; !ok && Needs(d.p.Formats) == OfAuthority {
		return wrong("key", "the charter lets nobody import certificates: add a rule for key.import-certificate first")
	}
	alg := sigalg.Key(d.a.Algorithm)
	if !slices.Contains(may, alg) {
		return wrong("algorithm", "%.40q: %s wants one of %s", d.a.Algorithm, d.t.Title, algorithmText(may))
	}
	if !strings.Contains(d.a.URI, ":") {
		return wrong("uri", "%.80q: want soft:NAME, or pkcs11:token=…;object=…", d.a.URI)
	}
	k := charter.Key{URI: key.URI(d.a.URI), Algorithm: alg}
	if s := scheme(d.p.Formats, alg); s != alg.Default() {
		k.Scheme = s
	}
	if d.c.Keys == nil {
		d.c.Keys = map[string]charter.Key{}
	}
	d.c.Keys[name], d.p.Key = k, name
	where := "in the keeper's encrypted keystore"
	if strings.HasPrefix(d.a.URI, "pkcs11:") {
		where = "in a token, which it does not leave"
	}
	d.say("keys."+name, fmt.Sprintf("%s, %s", d.a.URI, alg), "a new key %s; it is generated once the charter is in force", where)
	d.say(d.at("key"), name, "this key signs for nobody else")
	return nil
}

// scheme is the scheme that formats want of a key.
func scheme(formats []string, a sigalg.Key) sigalg.Scheme {
	if slices.Contains(formats, "mcuboot") && a == sigalg.RSA3072 {
		return sigalg.RSAPSSSHA256 // the one that MCUboot knows
	}
	return a.Default()
}

func (d *drafting) rule() error {
	r := charter.Rule{Requesters: slices.Clone(d.a.Requesters)}
	if len(r.Requesters) == 0 {
		return wrong("requesters", "say who may ask: people, machines or groups")
	}
	for _, n := range r.Requesters {
		if d.c.Members(n) == nil {
			return wrong("requesters", "there is no person, machine or group %.60q in the charter", n)
		}
	}
	var err error
	if r.Expires, err = parseExpires(d.a.Expires); err != nil {
		return err
	}
	d.say(d.at("rule.requesters"), strings.Join(r.Requesters, ", "), "who may ask for a signature: %s", strings.Join(d.c.Requesters(r), ", "))
	if d.t.Unattended {
		if d.a.Quorum != "" || len(d.a.Gates) > 0 || d.a.Upload {
			return wrong("quorum", "%s is signed unattended: nobody is asked; take another template for endorsed signatures", d.t.Title)
		}
		r.Unattended = true
		d.say(d.at("rule.unattended"), "true", "the signature of whoever asks is enough")
		d.p.Rule = r
		return nil
	}
	q, err := d.quorum()
	if err != nil {
		return err
	}
	r.Quorum = q
	if !nothing(d.a.Veto, "none") {
		r.Veto = d.veto(q)
	}
	for _, g := range r.Veto {
		if _, ok := d.c.Groups[g]; !ok {
			return wrong("veto", "there is no group %.60q", g)
		}
	}
	d.p.Rule = r
	d.say(d.at("rule.quorum"), q.String(), "who must endorse: %s", d.c.Demands(charter.Rule{Requesters: r.Requesters, Quorum: q}))
	if len(r.Veto) > 0 {
		d.say(d.at("rule.veto"), strings.Join(r.Veto, ", "), "one disapproval from here ends a request")
	}
	if r.Expires != 0 {
		d.say(d.at("rule.expires"), r.Expires.String(), "a request that has not its quorum by then is over")
	}
	return nil
}

// quorum is the tree of the answers, with gates and an inspector added.
func (d *drafting) quorum() (*charter.Node, error) {
	if d.a.Quorum == "" {
		return nil, wrong("quorum", "say who must endorse, like \"2 of release, 1 of security\"")
	}
	n, err := charter.ParseNode(d.a.Quorum)
	if err != nil {
		return nil, wrong("quorum", "%s", strings.TrimPrefix(err.Error(), "charter: quorum "))
	}
	q := d.c.Resolve(*n)
	for _, l := range q.Leaves() {
		if d.c.Members(l.Name()) == nil {
			return nil, wrong("quorum", "there is no person, machine or group %.60q in the charter", l.Name())
		}
		if _, ok := d.c.Groups[l.Group]; l.Group != "" && !ok {
			return nil, wrong("quorum", "%s is no group: name it alone, without a number", l.Group)
		}
	}
	extra := slices.Clone(d.a.Gates)
	for _, g := range d.a.Gates {
		members := d.c.Members(g)
		if len(members) == 0 || slices.ContainsFunc(members, func(m string) bool { _, ok := d.c.Machines[m]; return !ok }) {
			return nil, wrong("gates", "%.60q is neither a machine of the charter nor a group of machines", g)
		}
	}
	if d.a.Upload {
		i, err := d.inspector(&q)
		if err != nil {
			return nil, err
		}
		if i != "" {
			extra = append(extra, i)
		}
	}
	for _, g := range extra {
		members := d.c.Members(g)
		if always(&q, func(l *charter.Node) bool {
			return !slices.ContainsFunc(d.c.Members(l.Name()), func(m string) bool { return !slices.Contains(members, m) })
		}) {
			continue
		}
		leaf := d.c.Resolve(charter.Node{Member: g})
		if len(q.Of) > 0 && q.Need == len(q.Of) {
			q = charter.Node{Need: q.Need + 1, Of: append(slices.Clone(q.Of), leaf)}
		} else {
			q = charter.Node{Need: 2, Of: []charter.Node{q, leaf}}
		}
	}
	return &q, nil
}

// always reports whether a quorum is never there without a leaf that is one: it stands in
// every way to satisfy the tree, and not in some.
func always(n *charter.Node, one func(leaf *charter.Node) bool) bool {
	if len(n.Of) == 0 {
		return one(n)
	}
	without := 0
	for i := range n.Of {
		if !always(&n.Of[i], one) {
			without++
		}
	}
	return without < n.Need
}

// inspector is a machine that recomputes plans from uploads, or a group of such; ""
// where the quorum has one already.
func (d *drafting) inspector(q *charter.Node) (string, error) {
	all := func(name string) bool {
		m := d.c.Members(name)
		return len(m) > 0 && !slices.ContainsFunc(m, func(n string) bool { return !d.c.Machines[n].Inspector })
	}
	if always(q, func(l *charter.Node) bool { return all(l.Name()) }) {
		return "", nil
	}
	for _, names := range [][]string{slices.Sorted(maps.Keys(d.c.Groups)), slices.Sorted(maps.Keys(d.c.Machines))} {
		if i := slices.IndexFunc(names, all); i >= 0 {
			return names[i], nil
		}
	}
	return "", wrong("upload", "the charter has no inspector: add a machine with inspector: true first (docs/operate/server.md)")
}

// veto is the groups that can refuse: those of the answers, or the last group of
// several people in the quorum, or anywhere.
func (d *drafting) veto(q *charter.Node) []string {
	if len(d.a.Veto) > 0 {
		return d.a.Veto
	}
	several := func(g string) bool {
		m := d.c.Groups[g].Members
		return len(m) > 1 && !slices.ContainsFunc(m, func(n string) bool { _, ok := d.c.People[n]; return !ok })
	}
	leaves := q.Leaves()
	for i := len(leaves) - 1; i >= 0; i-- {
		if g := leaves[i].Group; g != "" && several(g) {
			return []string{g}
		}
	}
	for _, g := range slices.Sorted(maps.Keys(d.c.Groups)) {
		if several(g) {
			return []string{g}
		}
	}
	return nil
}

func (d *drafting) conditions() error {
	if !nothing(d.a.Names, "any") {
		d.p.Names = slices.Compact(slices.Sorted(slices.Values(d.a.Names)))
	}
	if d.t.Unattended && len(d.p.Names) == 0 {
		return wrong("names", "what is signed unattended is held to names: give a pattern like nightly-*")
	}
	if len(d.p.Names) > 0 {
		d.say(d.at("names"), strings.Join(d.p.Names, ", "), "a file whose name matches none of these is refused")
	}
	w, err := ParseHours(d.a.Hours)
	if err != nil {
		return err
	}
	if d.p.Window = w; w != nil {
		d.say(d.at("window"), w.String(), "the key signs at no other time; what is endorsed before waits")
	}
	if d.a.Upload {
		d.p.Upload = true
		d.say(d.at("upload"), "true", "files are uploaded, and the inspector makes their plans anew from the bytes")
	}
	if !nothing(d.a.Timestamp, "none") {
		d.p.Timestamp = slices.Clone(d.a.Timestamp)
	}
	if len(d.p.Timestamp) > 0 {
		if slices.Contains(d.p.Timestamp, "self") && d.head.Timestamping == nil {
			return wrong("timestamp", "the charter has no timestamp authority of its own: name one by its URL, or none")
		}
		d.say(d.at("timestamp"), strings.Join(d.p.Timestamp, ", "), "a timestamp keeps a signature good after its certificate has expired")
	}
	return nil
}

// warnings are those of the draft that the charter in force does not have.
func (d *drafting) warnings(next *charter.Charter) []charter.Warning {
	old := charter.Lint(d.head)
	return slices.DeleteFunc(charter.Lint(next), func(w charter.Warning) bool { return slices.Contains(old, w) })
}
