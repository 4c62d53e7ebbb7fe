package charter

import (
	"crypto/x509"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// Limits of issuers.
const (
	MaxIssuers    = 32
	maxIssuerKeys = 32
	maxCarried    = 5_000 // keys of issuers in the credentials of all workloads
)

// Issuer gives workloads their ID tokens: a CI, say. Its keys are pinned here,
// because whoever judges has no network, and judges years later too.
type Issuer struct {
	URL      string   `json:"url" yaml:"url"`                              // the tokens' iss: "https://token.actions.githubusercontent.com"
	Provider string   `json:"provider,omitzero" yaml:"provider,omitempty"` // "github" or "gitlab", where it is one of those at another URL than theirs
	Keys     []string `json:"keys" yaml:"keys"`                            // public keys, JSON Web Keys
}

// The providers whose claims are known.
const (
	GitHub = "github"
	GitLab = "gitlab"
)

// Kind is the provider, as it is said or as the URL says; "" for others. An enterprise can
// have GitHub's issuer with its name as a path, or one at its own part of ghe.com.
func (i Issuer) Kind() string {
	const actions = "https://token.actions.githubusercontent.com"
	ghe, isGHE := strings.CutPrefix(i.URL, "https://token.actions.")
	host, _, _ := strings.Cut(ghe, "/")
	switch {
	case i.Provider != "":
		return i.Provider
	case i.URL == actions, strings.HasPrefix(i.URL, actions+"/"), isGHE && strings.HasSuffix(host, ".ghe.com"):
		return GitHub
	case i.URL == "https://gitlab.com":
		return GitLab
	}
	return ""
}

// OIDC says which tokens of an issuer are a machine's. A token must say all of
// Claims, exactly, and match all of Patterns (path.Match: "*" matches no slash).
//
// The token that signs a request is for the audience AUDIENCE/ID, the request's own
// ID, and is good for that request alone. Unbound is for a CI that fixes audiences
// in its definition: the token is for AUDIENCE, and good for every request that was
// made while it was valid; nothing unattended is asked with it.
type OIDC struct {
	Issuer   string            `json:"issuer" yaml:"issuer"` // name of one of the charter's issuers
	Audience string            `json:"audience" yaml:"audience"`
	Claims   map[string]string `json:"claims" yaml:"claims"`
	Patterns map[string]string `json:"patterns,omitzero" yaml:"patterns,omitempty"`
	Unbound  bool              `json:"unbound,omitzero" yaml:"unbound,omitempty"`
}

// Credential returns a credential that stands in c, a workload's with the keys of
// its issuer inside.
func (c *Charter) Credential(x Credential) (credential.Credential, error) {
	kind, text, err := x.kind()
	if err != nil {
		return nil, err
	}
	if kind != credential.KindOIDC {
		return credential.Parse(kind, text)
	}
	i, ok := c.Issuers[x.OIDC.Issuer]
	if !ok {
		return nil, fmt.Errorf("charter: there is no issuer %.80q", x.OIDC.Issuer)
	}
	w, err := credential.NewOIDC(credential.Workload{
		Issuer: i.URL, Keys: i.Keys, Audience: x.OIDC.Audience, Claims: x.OIDC.Claims, Patterns: x.OIDC.Patterns, Unbound: x.OIDC.Unbound,
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Holds reports whether a person or machine has exactly the credential that pin names
// ([credential.Pin]). Nobody has none.
func (c *Charter) Holds(name, pin string) bool {
	list := c.Machines[name].Credentials
	if p, ok := c.People[name]; ok {
		list = p.Credentials
	}
	return pin != "" && slices.ContainsFunc(list, func(x Credential) bool {
		cred, err := c.Credential(x)
		return err == nil && credential.Pin(cred) == pin
	})
}

// Workload reports whether name is a machine that signs with tokens.
func (c *Charter) Workload(name string) bool {
	return slices.ContainsFunc(c.Machines[name].Credentials, func(x Credential) bool { return x.OIDC != nil })
}

func (c *Charter) unbound(name string) bool {
	return slices.ContainsFunc(c.Machines[name].Credentials, func(x Credential) bool { return x.OIDC != nil && x.OIDC.Unbound })
}

func canonicalIssuer(i Issuer) Issuer {
	keys := make([]string, len(i.Keys))
	for n, text := range i.Keys {
		keys[n] = text
		if k, err := credential.ParseIssuerKey(text); err == nil {
			keys[n] = k.Text()
		}
	}
	slices.Sort(keys)
	i.Keys = keys
	return i
}

func canonicalOIDC(o *OIDC) *OIDC {
	c := *o
	c.Claims, c.Patterns = maps.Clone(o.Claims), maps.Clone(o.Patterns)
	if len(c.Patterns) == 0 {
		c.Patterns = nil
	}
	return &c
}

// issuers checks the issuers. owner says where each key stands, and learns theirs.
func (k *checker) issuers(owner map[string]string) {
	c := k.c
	if c.Issuers != nil && len(c.Issuers) == 0 {
		k.add("issuers", "is empty: leave it out")
	}
	if !k.limit("issuers", len(c.Issuers), MaxIssuers) {
		return
	}
	urls := map[string]string{}
	for _, n := range sorted(c.Issuers) {
		i, at := c.Issuers[n], "issuers."+n
		k.name(at, "issuer", n)
		if err := credential.CheckIssuer(i.URL); err != nil {
			k.add(at+".url", "%v", err)
		}
		if other, ok := urls[i.URL]; ok {
			k.add(at+".url", "is that of issuers.%s too: an issuer stands once", other)
		}
		urls[i.URL] = n
		if p := i.Provider; p != "" && p != GitHub && p != GitLab {
			k.add(at+".provider", "%.40q: want github, gitlab, or nothing for others", p)
		} else if known := (Issuer{URL: i.URL}).Kind(); p != "" && known != "" && p != known {
			k.add(at+".provider", "%s is %s", i.URL, known)
		}
		if len(i.Keys) == 0 {
			k.add(at+".keys", "there are none: no token could be verified; greatseal charter issuers draft fetches them")
		}
		k.limit(at+".keys", len(i.Keys), maxIssuerKeys)
		names := map[string]bool{}
		k.set(at+".keys", i.Keys, func(at, text string) {
			p, err := credential.ParseIssuerKey(text)
			if k.adopt(at, err) {
				return
			}
			if p.Text() != text {
				k.add(at, "is not in its canonical form: want %s", p.Text())
			}
			if names[p.ID()] {
				k.add(at, "there are two keys with the ID %s", p.ID())
			}
			names[p.ID()] = true
			der, err := x509.MarshalPKIXPublicKey(p.Public())
			if err != nil {
				k.add(at, "%v", err)
				return
			}
			if first, ok := owner[string(der)]; ok {
				k.add(at, "is the same key as %s: a key stands once in a charter", first)
			}
			owner[string(der)] = at
		})
	}
}

// identifying are the claims of a known provider of which one, exactly, says whose
// job it is. Those of organisations and groups do; Lint says that they are wide.
var identifying = map[string][]string{
	GitHub: {"repository", "repository_id", "sub", "repository_owner", "repository_owner_id"},
	GitLab: {"project_path", "project_id", "sub", "namespace_path", "namespace_id"},
}

// subjects are what a sub begins with that says whose job it is. Whoever has a repository
// at GitHub chooses of which claims his jobs' sub is made, and a workflow or environment is
// called as its author likes: "environment:production", or a reusable workflow of somebody
// else's that he calls, is within everybody's reach. So is what follows the first claim.
var subjects = map[string][]string{
	GitHub: {"repo:", "repository:", "repository_id:", "repository_owner:", "repository_owner_id:"},
	GitLab: {"project_path:"},
}

// identifies reports whether a claim says, exactly, whose job it is.
func (o *OIDC) identifies(kind, name string) bool {
	v := o.Claims[name]
	if v == "" || name != "sub" {
		return v != ""
	}
	return slices.ContainsFunc(subjects[kind], func(p string) bool {
		rest, ok := strings.CutPrefix(v, p)
		return ok && rest != "" && rest[0] != ':' && rest[0] != '/'
	})
}

// narrows reports whether a sub says which branch, tag, environment or workflow it is.
func narrows(sub string) bool {
	return slices.ContainsFunc([]string{":ref:", ":environment:", ":job_workflow_ref:", ":workflow_ref:"}, func(part string) bool { return strings.Contains(sub, part) })
}

// wide are those of identifying that say an organisation, or a group.
var wide = []string{"repository_owner", "repository_owner_id", "namespace_path", "namespace_id"}

// vague are claims that every customer of an issuer can have alike, and that
// identify nobody by themselves, whoever the issuer is.
var vague = []string{"ref", "ref_type", "ref_path", "ref_protected", "environment", "environment_protected", "event_name", "actor", "workflow", "job_workflow_ref",
	"workflow_ref", "runner_environment", "pipeline_source", "head_ref", "base_ref", "repository_visibility", "project_visibility", "user_login", "sha", "email_verified", "azp", "typ",
	"run_attempt", "run_number", "deployment_tier", "environment_action", "user_access_level", "job_source"}

// room keeps a hostile charter from costing more than a moment: every workload carries
// the keys of its issuer.
func (k *checker) room(at string, o *OIDC) bool {
	if k.carried += len(k.c.Issuers[o.Issuer].Keys); k.carried <= maxCarried {
		return true
	}
	if k.carried-len(k.c.Issuers[o.Issuer].Keys) <= maxCarried { // say it once
		k.add(at, "the workloads carry more than %d keys of their issuers: drop stale keys (greatseal charter issuers draft --prune), or join workloads by patterns", maxCarried)
	}
	return false
}

// workload refuses claims that strangers could have.
func (k *checker) workload(at string, o *OIDC) {
	kind := k.c.Issuers[o.Issuer].Kind()
	if want, ok := identifying[kind]; ok {
		if !slices.ContainsFunc(want, func(n string) bool { return o.identifies(kind, n) }) {
			k.add(at+".claims", "no claim says whose job it is, and everybody gets tokens of %s: want %s, exactly; sub counts where it begins with one of %s", kind, strings.Join(want, " or "), strings.Join(subjects[kind], ", "))
		}
		return
	}
	for n := range o.Claims {
		if !slices.Contains(vague, n) {
			return
		}
	}
	k.add(at+".claims", "no claim says which workload it is: want sub, or another one that nobody else has, exactly")
}

// asks refuses workloads where they may not ask. n is a requester of r.
func (k *checker) asks(at string, cmd statement.CommandName, r Rule, n string) {
	for _, m := range k.c.Members(n) {
		switch {
		case !k.c.Workload(m):
		case cmd != statement.Sign:
			k.add(at, "%s signs with tokens: it asks for signatures, and not for %s", m, cmd)
		case r.Unattended && k.c.unbound(m):
			k.add(at, "%s has an unbound token: whoever sees one could ask for anything with it, and here nobody is asked; bind it (leave unbound out), or name a quorum", m)
		default:
			continue
		}
		return
	}
}

// votes refuses workloads where somebody votes. n is a person, machine or group.
func (k *checker) votes(at, n string) {
	for _, m := range k.c.Members(n) {
		if k.c.Workload(m) {
			k.add(at, "%s signs with tokens: it requests and never endorses; a gate has a key of its own", m)
			return
		}
	}
}

func (d *differ) issuers() {
	show := func(i Issuer) string { return fmt.Sprintf("%s, %s", i.URL, count(len(i.Keys), "key")) }
	names := func(i Issuer) []string {
		out := make([]string, len(i.Keys))
		for n, text := range i.Keys {
			out[n] = text
			if k, err := credential.ParseIssuerKey(text); err == nil {
				der, _ := x509.MarshalPKIXPublicKey(k.Public())
				out[n] = fmt.Sprintf("%s %s %s", k.ID(), k.Algorithm(), shortDigest(der))
			}
		}
		return out
	}
	diffMap(d, "issuers.", d.a.Issuers, d.b.Issuers, show, func(at string, i, j Issuer) {
		d.value(at+".url", i.URL, j.URL, Trust)
		d.value(at+".provider", i.Provider, j.Provider, "")
		d.set(at+".keys", names(i), names(j), Trust, Trust)
	}, Trust, Trust)
}

func (l *linter) workloads() {
	type named struct {
		name string
		o    *OIDC
	}
	var all []named
	used := map[string]bool{}
	for _, n := range sorted(l.c.Machines) {
		for i, x := range l.c.Machines[n].Credentials {
			if x.OIDC == nil {
				continue
			}
			used[x.OIDC.Issuer] = true
			l.workload(fmt.Sprintf("machines.%s.credentials[%d].oidc", n, i), x.OIDC)
			for _, other := range all {
				if other.name != n && overlap(other.o, x.OIDC) {
					l.add(fmt.Sprintf("machines.%s.credentials[%d].oidc", n, i), "workload-of-two", fmt.Sprintf("one job can be %s and %s: tell them apart by a claim", other.name, n))
				}
			}
			all = append(all, named{n, x.OIDC})
		}
	}
	for _, n := range sorted(l.c.Issuers) {
		if !used[n] {
			l.add("issuers."+n, "unused-issuer", "no machine signs with its tokens")
		}
	}
}

// overlap reports whether a token may satisfy both.
func overlap(a, b *OIDC) bool {
	if a.Issuer != b.Issuer || a.Audience != b.Audience {
		return false
	}
	for n, v := range a.Claims {
		if w, ok := b.Claims[n]; ok && v != w {
			return false
		}
		if p, ok := b.Patterns[n]; ok {
			if m, err := path.Match(p, v); err == nil && !m {
				return false
			}
		}
	}
	for n, p := range a.Patterns {
		if w, ok := b.Claims[n]; ok {
			if m, err := path.Match(p, w); err == nil && !m {
				return false
			}
		}
	}
	return true
}

// workload warns of claims that mean more jobs than their author may have thought.
func (l *linter) workload(at string, o *OIDC) {
	kind := l.c.Issuers[o.Issuer].Kind()
	says := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			v, p := o.Claims[n], o.Patterns[n]
			if n == "sub" {
				return narrows(v) || narrows(p)
			}
			return v != "" || p != "" && !anything(p)
		})
	}
	if want, ok := identifying[kind]; ok {
		if !slices.ContainsFunc(want, func(n string) bool {
			return o.identifies(kind, n) && !slices.Contains(wide, n) && !(n == "sub" && strings.HasPrefix(o.Claims[n], "repository_owner"))
		}) {
			l.add(at+".claims", "workload-organisation", "every repository of the organisation or group, also one that is made tomorrow: name repository or project_path")
		}
	}
	switch kind {
	case GitHub:
		if !says("ref", "environment", "sub", "job_workflow_ref", "workflow_ref") {
			l.add(at+".claims", "workload-any-branch", "every branch, and pull requests: name ref, environment or job_workflow_ref")
		}
		if o.Claims["repository"] != "" && !says("repository_id", "repository_owner_id") {
			l.add(at+".claims", "workload-name-reuse", "a repository's name can be taken anew when its owner is renamed: name repository_id too")
		}
	case GitLab:
		if !says("ref", "ref_path", "environment", "sub", "ref_protected") {
			l.add(at+".claims", "workload-any-branch", "every branch: name ref and ref_type, environment, or ref_protected: true")
		}
	default:
		l.add(at+".claims", "workload-unknown-issuer", fmt.Sprintf("what %s puts into its tokens is not known here: make sure that nobody else gets a token with these claims", l.c.Issuers[o.Issuer].URL))
	}
	for _, n := range []string{"ref", "ref_path"} {
		if m, err := path.Match(o.Patterns[n], "refs/pull/1/merge"); o.Patterns[n] != "" && err == nil && m {
			l.add(at+".patterns."+n, "workload-pull-request", "matches pull requests: whoever opens one writes the job")
		}
	}
	if kind == GitHub && slices.Contains(strings.Split(o.Claims["sub"], ":"), "pull_request") {
		l.add(at+".claims.sub", "workload-pull-request", "is that of pull requests: whoever opens one writes the job")
	}
	if o.Unbound {
		l.add(at+".unbound", "workload-unbound", "whoever sees a token can ask in this machine's name while it is valid: bind it where the CI lets a job choose the audience")
	}
}
