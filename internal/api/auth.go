package api

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// scope is what a caller may do.
type scope string

// The scopes. None of them stands for a signature: whoever holds every scope can
// neither request nor endorse.
const (
	scopeRequest scope = "request" // hand in requests and endorsements, cancel, upload
	scopeRead    scope = "read"    // requests, results, evidence
	scopeLog     scope = "log"     // the audit log, where it is private
	scopeInspect scope = "inspect" // read uploaded artifacts
	scopeMetrics scope = "metrics" // counters
	scopeAdmin   scope = "admin"   // make tokens for everybody
)

// scopeSession marks a stored token as a session: its scopes are those that the
// person has when it is used.
const scopeSession = "session"

// Scopes lists every scope.
func Scopes() []string {
	return []string{string(scopeRequest), string(scopeRead), string(scopeLog), string(scopeInspect), string(scopeMetrics), string(scopeAdmin)}
}

// foreign are the scopes of a token whose principal the charter does not have.
func foreign() []scope { return []scope{scopeRead, scopeLog, scopeMetrics} }

// principal is who a caller is. The zero principal is nobody.
type principal struct {
	Name    string
	Via     string // "certificate", "session", "token", "workload"
	scopes  []scope
	tokenID string
	pin     string // [credential.Pin] of what he has shown; empty where that is none of the charter
}

func (p principal) has(any ...scope) bool {
	return slices.ContainsFunc(any, func(s scope) bool { return slices.Contains(p.scopes, s) })
}

func (p principal) list() []string {
	var out []string
	for _, s := range p.scopes {
		out = append(out, string(s))
	}
	return out
}

// roll finds people and machines of one charter.
type roll struct {
	version statement.CharterRef
	charter *charter.Charter
	keys    map[credential.ID]string // x509 credentials

	workloads []workload
}

// roster is the roll of the charter in force.
func (a *API) roster() *roll {
	head, ref := a.cfg.Server.Chain().Head()
	if r := a.people.Load(); r != nil && r.version == ref {
		return r
	}
	r := &roll{version: ref, charter: head, keys: map[credential.ID]string{}}
	note := func(name string, list []charter.Credential) {
		for _, c := range list {
			if c.X509 == "" {
				continue
			}
			cred, err := c.Parse()
			if err != nil {
				continue
			}
			if other, ok := r.keys[cred.ID()]; ok && other != name {
				name = "" // nobody's, rather than somebody's
			}
			r.keys[cred.ID()] = name
		}
	}
	for n, p := range head.People {
		note(n, p.Credentials)
	}
	for n, m := range head.Machines {
		note(n, m.Credentials)
		for _, c := range m.Credentials {
			if c.OIDC == nil {
				continue
			}
			if cred, err := head.Credential(c); err == nil {
				r.workloads = append(r.workloads, workload{n, cred.(*credential.OIDC)})
			}
		}
	}
	a.people.Store(r)
	return r
}

func (r *roll) has(name string) bool {
	_, person := r.charter.People[name]
	_, machine := r.charter.Machines[name]
	return person || machine
}

// scopes are those of a person or machine that has proved who it is itself.
func (a *API) scopes(r *roll, name string) []scope {
	_, person := r.charter.People[name]
	m, machine := r.charter.Machines[name]
	if !person && !machine {
		return nil
	}
	out := []scope{scopeRequest, scopeRead, scopeLog}
	if machine && m.Inspector {
		out = append(out, scopeInspect)
	}
	if person && slices.Contains(a.cfg.Admins, name) {
		out = append(out, scopeMetrics, scopeAdmin)
	}
	return out
}

// certPrefix is what a URI in a client certificate's names begins with; the name
// in the charter follows.
const certPrefix = "greatseal:"

// authenticate says who calls. No error and nobody is somebody who did not say.
// A credential that is no good is an error even where none is needed.
func (a *API) authenticate(r *http.Request) (principal, *problem) {
	roll := a.roster()
	var p principal
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		name, err := roll.certificate(r.TLS.VerifiedChains[0][0])
		if err != nil {
			return p, newProblem(401, "certificate", "ask whoever issued it", "client certificate: %v", err)
		}
		if name != "" {
			p = principal{Name: name, Via: "certificate", scopes: a.scopes(roll, name)}
			if cred := roll.credential(name, keyOf(r.TLS.VerifiedChains[0][0])); cred != nil {
				p.pin = credential.Pin(cred)
			}
		}
	}
	header, given := r.Header["Authorization"]
	if !given {
		return p, nil
	}
	unauthorized := newProblem(401, "unauthorized", "greatseal login", "the token is not valid, or no longer")
	if len(header) != 1 {
		return principal{}, unauthorized
	}
	kind, token, _ := strings.Cut(header[0], " ")
	if strings.EqualFold(kind, "Bearer") && looksJWT(token) {
		w, _, err := roll.workload([]byte(token), "", a.cfg.Clock())
		if err != nil {
			return principal{}, unauthorized
		}
		if p.Name != "" && p.Name != w.name {
			return principal{}, newProblem(401, "identities-differ", "use one of them", "the certificate is %s's, the token %s's", p.Name, w.name)
		}
		return principal{Name: w.name, Via: "workload", scopes: a.scopes(roll, w.name), pin: credential.Pin(w.cred)}, nil
	}
	id, ok := tokenID(token)
	if !strings.EqualFold(kind, "Bearer") || !ok {
		return principal{}, unauthorized
	}
	t, err := a.cfg.Store.Token(r.Context(), sha256.Sum256([]byte(token)))
	if errors.Is(err, store.ErrNotFound) {
		return principal{}, unauthorized
	}
	if err != nil {
		return principal{}, a.problemOf(r.Context(), err)
	}
	if t.ID != id || !a.cfg.Clock().Before(t.Expires) {
		return principal{}, unauthorized
	}
	session := slices.Equal(t.Scopes, []string{scopeSession})
	if session && !roll.charter.Holds(t.Principal, t.Credential) {
		// For good: should the charter have it again, that is another login's.
		if err := a.cfg.Store.DeleteToken(r.Context(), t.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return principal{}, a.problemOf(r.Context(), err)
		}
		return principal{}, unauthorized
	}
	if p.Name != "" {
		if p.Name != t.Principal {
			return principal{}, newProblem(401, "identities-differ", "use one of them", "the certificate is %s's, the token %s's", p.Name, t.Principal)
		}
		return p, nil
	}
	q := principal{Name: t.Principal, Via: "token", tokenID: t.ID}
	if session {
		q.Via, q.scopes, q.pin = "session", a.scopes(roll, t.Principal), t.Credential
	} else {
		q.scopes = a.tokenScopes(roll, t)
	}
	if len(q.scopes) == 0 {
		return principal{}, unauthorized
	}
	return q, nil
}

// tokenScopes are the scopes of a token as far as they hold now.
func (a *API) tokenScopes(r *roll, t *store.Token) []scope {
	var out []scope
	for _, x := range t.Scopes {
		s := scope(x)
		switch {
		case !slices.Contains(Scopes(), x):
		case !r.has(t.Principal) && !slices.Contains(foreign(), s):
		case s == scopeAdmin && !slices.Contains(a.scopes(r, t.Principal), scopeAdmin):
		default:
			out = append(out, s)
		}
	}
	return out
}

// certificate says whom of the charter a verified certificate names: by a URI
// "greatseal:NAME" in it, or because its key is an x509 credential. Somebody whom
// the charter does not have is nobody; a certificate that names two is refused.
func (r *roll) certificate(c *x509.Certificate) (string, error) {
	name := ""
	for _, u := range c.URIs {
		n, ok := strings.CutPrefix(u.String(), certPrefix)
		if !ok {
			continue
		}
		if name != "" && n != name {
			return "", errors.New("it names two")
		}
		name = n
	}
	owner, known := r.keys[keyOf(c)]
	switch {
	case known && owner == "":
		return "", errors.New("its key is a credential of two")
	case known && name != "" && name != owner:
		return "", errors.New("it names somebody else than its key")
	case known:
		return owner, nil
	case name != "" && !r.has(name):
		return "", errors.New("it names somebody who is not in the charter")
	}
	return name, nil
}

// keyOf is the ID that a certificate's key has as an x509 credential.
func keyOf(c *x509.Certificate) credential.ID {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return credential.ID("x509:" + hex.EncodeToString(sum[:]))
}

// access says whom a route is open to.
type access struct {
	public bool
	scopes []scope // one of them is enough
}

func public() access         { return access{public: true} }
func only(s ...scope) access { return access{scopes: s} }
func (a *API) open() access {
	return access{public: !a.cfg.Private, scopes: []scope{scopeRead, scopeLog}}
}
func (a *API) openLog() access { return access{public: !a.cfg.Private, scopes: []scope{scopeLog}} }

// admit checks a call against a route's access.
func (a *API) admit(c *call, acc access) *problem {
	switch {
	case c.authErr != nil:
		return c.authErr
	case acc.public || c.who.has(acc.scopes...):
		return nil
	case c.who.Name == "":
		return newProblem(401, "unauthorized", "greatseal login, or set a client certificate or token", "who are you?")
	}
	var want []string
	for _, s := range acc.scopes {
		want = append(want, string(s))
	}
	return newProblem(403, "scope", "an administrator makes tokens", "%s lacks the scope %s", c.who.Name, strings.Join(want, " or "))
}
