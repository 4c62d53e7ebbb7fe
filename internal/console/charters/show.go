package charters

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/statement"
)

// pageSize is the number of entries of one page.
const pageSize = 50

type showPage struct {
	Deployment string
	Ref        statement.CharterRef
	Root       statement.ID
	Created    time.Time
	Parts      []part
	Part       string
	Query      string
	People     []person
	Groups     []group
	Keys       []keyRow
	Policies   []policyRow
	Commands   []ruleRow
	Total      int
	More       string // address of the next entries
	Propose    bool
	Stamping   string
}

type part struct {
	Name, Title string
	Count       int
	Here        bool
}

type person struct {
	Name, Full, Email string
	Machine           bool
	Owner             string
	Inspector         bool
	Groups            []string
	Credentials       []cred
}

type cred struct {
	Kind, Text string
	Hardware   bool
	Backup     bool // the passkey's provider may copy it
}

type group struct {
	Name    string
	Members []string
	Count   int
	Used    []string
}

type keyRow struct {
	Name, URI, Algorithm, State, Health string
	Badge                               string
	Subject, Issuer                     string
	Until                               time.Time
	Expired, Soon                       bool
	Used                                []string
}

type policyRow struct {
	Name        string
	Description string
	Key         string
	Formats     []string
	Purposes    []string
	Names       []string
	Conditions  []string
	Requesters  []string
	Demands     string
	Expires     time.Duration
}

type ruleRow struct {
	Name       string
	Requesters []string
	Demands    string
}

func (a *area) show(v *web.Visit) error {
	chain := a.server.Chain()
	head, ref := chain.Head()
	q := v.Query()
	p := &showPage{Deployment: head.Deployment, Ref: ref, Root: chain.Root(), Created: head.Created, Part: cmp.Or(q.Get("part"), "policies"), Query: q.Get("q"), Propose: a.asks(v.Who, head)}
	if len(p.Query) > 200 {
		return web.Problemf(400, "malformed", "", "that is too long to search for")
	}
	if t := head.Timestamping; t != nil {
		p.Stamping = t.Key
	}
	for _, x := range []part{{"policies", "Policies", len(head.Policies), false}, {"commands", "Commands", len(head.Commands), false}, {"people", "People and machines", len(head.People) + len(head.Machines), false},
		{"groups", "Groups", len(head.Groups), false}, {"keys", "Keys", len(head.Keys), false}} {
		x.Here = x.Name == p.Part
		p.Parts = append(p.Parts, x)
	}
	from := q.Get("from")
	pick := func(names []string) []string {
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.Contains(n, p.Query) })
		p.Total = len(names)
		i, _ := slices.BinarySearch(names, from)
		names = names[i:]
		if len(names) > pageSize {
			p.More = home + "?" + url.Values{"part": {p.Part}, "q": {p.Query}, "from": {names[pageSize]}}.Encode()
			names = names[:pageSize]
		}
		return names
	}
	switch p.Part {
	case "people":
		memberOf := membership(head)
		for _, n := range pick(slices.Sorted(maps.Keys(merge(head)))) {
			p.People = append(p.People, describe(head, n, memberOf[n]))
		}
	case "groups":
		used := uses(head)
		for _, n := range pick(slices.Sorted(maps.Keys(head.Groups))) {
			m := head.Groups[n].Members
			p.Groups = append(p.Groups, group{n, m[:min(len(m), pageSize)], len(m), used[n]})
		}
	case "keys":
		st, err := a.server.Status(v.Request.Context())
		if err != nil {
			return web.Problemf(503, "keeper-away", "try again", "the keeper does not answer")
		}
		for _, n := range pick(slices.Sorted(maps.Keys(head.Keys))) {
			p.Keys = append(p.Keys, keyOf(head, n, st.Keys, v.Now))
		}
	case "policies":
		for _, n := range pick(slices.Sorted(maps.Keys(head.Policies))) {
			p.Policies = append(p.Policies, policyOf(head, n))
		}
	case "commands":
		for _, n := range slices.Sorted(maps.Keys(head.Commands)) {
			r := head.Commands[n]
			p.Commands = append(p.Commands, ruleRow{string(n), r.Requesters, head.Demands(r)})
		}
		p.Total = len(p.Commands)
	default:
		return web.Problemf(404, "not-found", "", "the charter has no such part")
	}
	return v.Page("charter.html", "Charter", p)
}

// merge is everybody: people and machines.
func merge(c *charter.Charter) map[string]bool {
	out := map[string]bool{}
	for n := range c.People {
		out[n] = true
	}
	for n := range c.Machines {
		out[n] = true
	}
	return out
}

func membership(c *charter.Charter) map[string][]string {
	out := map[string][]string{}
	for _, g := range slices.Sorted(maps.Keys(c.Groups)) {
		for _, m := range c.Groups[g].Members {
			out[m] = append(out[m], g)
		}
	}
	return out
}

func describe(c *charter.Charter, name string, groups []string) person {
	x, is := c.People[name]
	p := person{Name: name, Full: x.Name, Email: x.Email, Groups: groups}
	list := x.Credentials
	if !is {
		m := c.Machines[name]
		p.Machine, p.Owner, p.Inspector, list = true, m.Owner, m.Inspector, m.Credentials
	}
	for _, k := range list {
		cr, err := c.Credential(k)
		if err != nil {
			continue
		}
		row := cred{Kind: string(cr.Kind()), Text: cr.Describe(), Hardware: cr.Hardware()}
		if pk, ok := cr.(*credential.Passkey); ok {
			row.Backup = pk.BackupEligible()
		}
		p.Credentials = append(p.Credentials, row)
	}
	return p
}

// uses says where groups stand: "policy windows: asks".
func uses(c *charter.Charter) map[string][]string {
	out := map[string][]string{}
	note := func(where string, r charter.Rule) {
		seen := map[string]bool{}
		add := func(n, as string) {
			if s := where + ": " + as; !seen[n+s] {
				seen[n+s] = true
				out[n] = append(out[n], s)
			}
		}
		for _, n := range r.Requesters {
			add(n, "asks")
		}
		if r.Quorum != nil {
			for _, l := range r.Quorum.Leaves() {
				add(l.Name(), "endorses")
			}
		}
		for _, n := range r.Veto {
			add(n, "can refuse")
		}
	}
	for _, n := range slices.Sorted(maps.Keys(c.Policies)) {
		note("policy "+n, c.Policies[n].Rule)
	}
	for _, n := range slices.Sorted(maps.Keys(c.Commands)) {
		note(string(n), c.Commands[n])
	}
	return out
}

// soon is how long before its end a certificate is marked.
const soon = 30 * 24 * time.Hour

func keyOf(c *charter.Charter, name string, all []keeper.KeyStatus, now time.Time) keyRow {
	k := c.Keys[name]
	r := keyRow{Name: name, URI: string(k.URI), Algorithm: string(k.Algorithm) + ", " + string(k.SignatureScheme()), State: "not known to the keeper", Badge: "badge-warn"}
	for _, s := range all {
		if s.Name != name {
			continue
		}
		r.State, r.Health = s.State, s.Health
		switch s.State {
		case "active":
			r.Badge = "badge-good"
		case "suspended", "destroyed":
			r.Badge = "badge-bad"
		}
		if len(s.Chain) > 0 {
			if x, err := x509.ParseCertificate(s.Chain[0]); err == nil {
				r.Subject, r.Issuer, r.Until = x.Subject.String(), x.Issuer.String(), x.NotAfter
				r.Expired, r.Soon = !now.Before(x.NotAfter), now.Add(soon).After(x.NotAfter)
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(c.Policies)) {
		if slices.Contains(c.Policies[n].Keys(), name) {
			r.Used = append(r.Used, "policy "+n)
		}
	}
	if c.Timestamping != nil && c.Timestamping.Key == name {
		r.Used = append(r.Used, "timestamps")
	}
	return r
}

func policyOf(c *charter.Charter, name string) policyRow {
	p := c.Policies[name]
	r := policyRow{Name: name, Description: p.Description, Key: strings.Join(p.Keys(), " and "), Formats: p.Formats, Purposes: p.Purposes, Names: p.Names,
		Requesters: p.Rule.Requesters, Demands: c.Demands(p.Rule), Expires: p.Rule.Lifetime()}
	for _, n := range slices.Sorted(maps.Keys(p.Params)) {
		r.Conditions = append(r.Conditions, fmt.Sprintf("option %s is %s", n, p.Params[n]))
	}
	if p.Window != nil {
		r.Conditions = append(r.Conditions, "executed "+p.Window.String())
	}
	if p.Upload {
		r.Conditions = append(r.Conditions, "files are uploaded and read by an inspector")
	}
	if p.MaxItems > 0 {
		r.Conditions = append(r.Conditions, fmt.Sprintf("at most %d files in a request", p.MaxItems))
	}
	if len(p.Timestamp) > 0 {
		r.Conditions = append(r.Conditions, "timestamps from "+strings.Join(p.Timestamp, ", then "))
	}
	return r
}
