// Package passkeys is where people register passkeys in their browsers, and where
// officers find what waits to be brought into the charter.
//
// Invariants:
//
//  1. A session registers for its own person alone, and brings nothing into force:
//     what comes into force is a request that an officer's passkey has signed, and
//     that a quorum has endorsed.
//  2. Somebody whom the charter does not have registers nothing.
//  3. What is shown of a model is recomputed from the stored bytes, and marked as the
//     server's finding; what people and browsers say is marked as claimed.
//  4. Labels stay text.
//  5. What an officer proposes is the passkey whose fingerprint his page showed.
//
// What a caller may not conclude: that the fingerprint on a page is that of the passkey
// which was registered. Whoever has the server shows what he likes: officers compare it
// with "greatseal passkey show", and a charter that requires attestation has the keeper
// look (docs/operate/passkeys.md).
package passkeys

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

//go:embed templates/* static/*
var files embed.FS

// Store is what the area reads besides registrations.
type Store interface {
	registration.Store
	store.Sessions
}

type area struct {
	reg   *registration.Service
	store Store
}

// Area is the pages of passkeys.
func Area(reg *registration.Service, st Store) web.Area {
	a := &area{reg, st}
	officers := []web.Role{web.Officer}
	get := func(path string, roles []web.Role, f func(*web.Visit) error) web.Route {
		return web.Route{Method: http.MethodGet, Path: path, Roles: roles, Serve: f}
	}
	post := func(path string, roles []web.Role, limit int64, f func(*web.Visit) error) web.Route {
		return web.Route{Method: http.MethodPost, Path: path, Roles: roles, MaxBody: limit, Serve: f}
	}
	const one = "/console/passkeys/registrations/{id}"
	return web.Area{Name: "passkeys", Files: files,
		Nav: []web.Nav{{Title: "Passkeys", Path: "/console/passkeys", Order: 70}},
		Routes: []web.Route{
			get("/console/passkeys", nil, a.mine),
			post("/console/passkeys/begin", nil, 0, a.begin),
			post("/console/passkeys/finish", nil, 0, a.finish),
			get("/console/passkeys/waiting", officers, a.waiting),
			get(one, nil, a.one),
			post(one+"/refuse", nil, 0, a.refuse),
			post(one+"/draft", officers, 0, a.draft),
			// A signed charter, in base64url twice.
			post(one+"/propose", officers, 3<<20, a.propose),
		}}
}

// own is the relying party of this site, for charters that name none.
func own(v *web.Visit) registration.Site {
	origin := v.Site().Origin(v.Request)
	u, err := url.Parse(origin)
	if err != nil || credential.CheckOrigin(u.Hostname(), origin) != nil {
		return registration.Site{} // an address, say, for which browsers have no passkeys
	}
	return registration.Site{RelyingParty: u.Hostname(), Origins: []string{origin}}
}

// who is the person of a visit, with where the session comes from.
func (a *area) who(v *web.Visit) (registration.Who, error) {
	w := registration.Who{Person: v.Who.Name, Session: v.Who.Session, Via: v.Who.Via}
	if !v.Who.InCharter {
		return w, web.Problemf(403, "principal-unknown", "an officer puts you into the charter first", "the charter does not have %s: there is nobody to register a passkey for", v.Who.Name)
	}
	list, err := a.store.ListSessions(v.Request.Context(), store.SessionFilter{Handle: v.Who.Session, Limit: 1})
	if err == nil && len(list) == 1 {
		w.Issuer, w.Subject = list[0].Issuer, list[0].Subject
	}
	return w, err
}

// held is one passkey, or another credential, of the charter in force.
type held struct {
	ID          credential.ID
	Describe    string
	Passkey     bool
	Fingerprint string
	Synced      bool
	Here        bool // usable at this address
	Attested    bool
	Used        time.Time // of the last endorsement or request that is known
}

// shown is a registration with what was found out about it.
type shown struct {
	store.Registration
	Fingerprint string
	Model       string
	Attestation string
	Attested    bool // its maker vouches for the model
	Synced      bool
	BackedUp    bool
	Refused     string // why no charter can have it
	Waits       bool
}

// show recomputes a registration. Whether a charter can have it is found out where one
// is looked at: all of a charter is checked for it.
func (a *area) show(v *web.Visit, r *store.Registration) shown {
	head := v.Site().Server().Charter()
	s := shown{Registration: *r, Waits: r.State.Waiting()}
	reg, err := registration.Look(head, r)
	if err != nil {
		s.Refused = err.Error()
		return s
	}
	s.Fingerprint, s.Model, s.Attestation = attestation.Fingerprint(reg.Credential()), reg.AAGUID().Describe(), reg.String()
	s.Attested, s.Synced, s.BackedUp = reg.Result() == attestation.Model, reg.BackupEligible(), reg.BackedUp()
	if s.Waits {
		if err := head.Passkeys.Admits(reg); err != nil {
			s.Refused = err.Error()
		}
	}
	return s
}

func (a *area) list(v *web.Visit, f store.RegistrationFilter) ([]shown, error) {
	list, err := a.reg.List(v.Request.Context(), v.Who.Name, f)
	if err != nil {
		return nil, err
	}
	var out []shown
	for i := range list {
		out = append(out, a.show(v, &list[i]))
	}
	return out, nil
}

const perPage = 50

func (a *area) mine(v *web.Visit) error {
	if err := a.reg.Sync(v.Request.Context()); err != nil {
		return err
	}
	head := v.Site().Server().Charter()
	type data struct {
		Who       *web.Person
		Held      []held
		List      []shown
		Policy    *charter.Passkeys
		Officer   bool
		Direct    bool // attestation is asked for
		Hardware  bool // synchronised passkeys are refused
		PerPerson int
	}
	d := data{Who: v.Who, Policy: head.Passkeys, PerPerson: registration.PerPerson, Officer: registration.Officer(head, v.Who.Name)}
	if p := head.Passkeys; p != nil {
		d.Direct, d.Hardware = p.Attestation != nil, p.Backup == charter.BackupRefuse
	}
	if v.Who.InCharter {
		var err error
		if d.Held, err = a.held(v, head); err != nil {
			return err
		}
		if d.List, err = a.list(v, store.RegistrationFilter{Person: v.Who.Name, Limit: perPage}); err != nil {
			return err
		}
	}
	return v.Page("mine.html", "Passkeys", d)
}

// held lists the person's credentials, and when each was last seen to sign.
func (a *area) held(v *web.Visit, head *charter.Charter) ([]held, error) {
	used, err := a.used(v.Request.Context(), v.Who.Name)
	if err != nil {
		return nil, err
	}
	here := map[credential.ID]bool{}
	for _, k := range v.Passkeys() {
		here[k.ID()] = true
	}
	var out []held
	for _, c := range head.People[v.Who.Name].Credentials {
		p, err := c.Parse()
		if err != nil {
			continue
		}
		h := held{ID: p.ID(), Describe: p.Describe(), Used: used[p.ID()], Here: here[p.ID()], Attested: c.Attestation != ""}
		if k, ok := p.(*credential.Passkey); ok {
			h.Passkey, h.Fingerprint, h.Synced = true, attestation.Fingerprint(k), k.BackupEligible()
		}
		out = append(out, h)
	}
	return out, nil
}

// looked is how many requests are looked at for a person's last signatures.
const looked = 20

// used is when credentials last signed, as far as the newest requests tell.
func (a *area) used(ctx context.Context, name string) (map[credential.ID]time.Time, error) {
	out := map[credential.ID]time.Time{}
	note := func(envelope []byte, at time.Time) {
		env, err := statement.DecodeEnvelope(envelope)
		if err != nil {
			return
		}
		for _, s := range env.Signatures {
			if id := credential.ID(s.KeyID); at.After(out[id]) {
				out[id] = at
			}
		}
	}
	asked, err := a.store.Requests(ctx, store.Filter{Requester: name, Limit: looked})
	if err != nil {
		return nil, err
	}
	for _, r := range asked {
		note(r.Envelope, r.Created)
	}
	endorsed, err := a.store.Requests(ctx, store.Filter{Endorser: name, Limit: looked})
	if err != nil {
		return nil, err
	}
	for _, r := range endorsed {
		full, err := a.store.Request(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		for _, e := range full.Endorsements {
			if e.Endorser == name {
				note(e.Envelope, e.Arrived)
			}
		}
	}
	return out, nil
}

func (a *area) begin(v *web.Visit) error {
	who, err := a.who(v)
	if err != nil {
		return err
	}
	b, err := a.reg.Begin(v.Request.Context(), who, own(v))
	if err != nil {
		return err
	}
	return v.JSON(200, b)
}

func (a *area) finish(v *web.Visit) error {
	who, err := a.who(v)
	if err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	binary := func(name string) []byte {
		b, err2 := base64.RawURLEncoding.Strict().DecodeString(f.Get(name))
		if err2 != nil {
			err = web.Problemf(400, "malformed", "load the page again", "%s is not complete", name)
		}
		return b
	}
	answer := registration.Answer{Ticket: f.Get("ticket"), Object: binary("attestation_object"), ClientData: binary("client_data"),
		Transports: strings.Fields(f.Get("transports")), Label: f.Get("label"), Replaces: f.Get("replaces")}
	if err != nil {
		return err
	}
	r, err := a.reg.Finish(v.Request.Context(), who, own(v), answer)
	if err != nil {
		return err
	}
	s := a.show(v, r)
	return v.JSON(200, struct {
		ID          string `json:"id"`
		Fingerprint string `json:"fingerprint"`
		Path        string `json:"path"`
	}{r.ID, s.Fingerprint, "/console/passkeys/registrations/" + r.ID})
}

func (a *area) waiting(v *web.Visit) error {
	if err := a.reg.Sync(v.Request.Context()); err != nil {
		return err
	}
	head := v.Site().Server().Charter()
	if !registration.Officer(head, v.Who.Name) {
		return web.Problemf(403, "not-officer", "officers stand in the charter's rule for charter.replace", "only those who change the charter see what waits for it")
	}
	list, err := a.list(v, store.RegistrationFilter{States: []store.RegistrationState{store.RegistrationOpen, store.RegistrationProposed}, Limit: perPage + 1})
	if err != nil {
		return err
	}
	past, err := a.list(v, store.RegistrationFilter{States: []store.RegistrationState{store.RegistrationInForce, store.RegistrationRefused, store.RegistrationExpired}, Limit: 20})
	if err != nil {
		return err
	}
	more := len(list) > perPage
	return v.Page("waiting.html", "Registered passkeys", struct {
		List, Past []shown
		More       bool
	}{list[:min(perPage, len(list))], past, more})
}

func (a *area) get(v *web.Visit) (*store.Registration, error) {
	return a.reg.Read(v.Request.Context(), v.Who.Name, v.Path("id"))
}

func (a *area) one(v *web.Visit) error {
	if err := a.reg.Sync(v.Request.Context()); err != nil {
		return err
	}
	r, err := a.get(v)
	if err != nil {
		return err
	}
	head, ref := v.Site().Server().Chain().Head()
	type data struct {
		shown
		Mine      bool
		Officer   bool
		Propose   bool // here, with a passkey
		Command   string
		Request   string
		Changes   []charter.Change
		RequestID string
	}
	d := data{shown: a.show(v, r), Mine: r.Person == v.Who.Name, Officer: registration.Officer(head, v.Who.Name)}
	if !r.Request.IsZero() {
		d.RequestID = r.Request.String()
	}
	if r.State == store.RegistrationOpen && d.Refused == "" {
		next, err := registration.Draft(head, ref, r, r.Replaces, v.Now)
		if err != nil {
			d.Refused = err.Error()
		} else if registration.MayPropose(head, v.Who.Name) {
			d.Propose = len(v.Passkeys()) > 0
			d.Command = `greatseal passkey propose ` + r.ID + ` --fingerprint "…"`
			d.Changes = charter.Diff(head, next)
		}
	}
	return v.Page("one.html", "Passkey of "+r.Person, d)
}

func (a *area) refuse(v *web.Visit) error {
	f, err := v.Form()
	if err != nil {
		return err
	}
	r, err := a.reg.Refuse(v.Request.Context(), v.Who.Name, v.Path("id"), f.Get("reason"))
	if err != nil {
		return err
	}
	return v.Redirect("/console/passkeys/registrations/" + r.ID)
}

// asLooked refuses a form of a page that showed another passkey than the one that is kept
// now: what was compared with its owner is what is proposed, whoever writes to the
// database in between.
func asLooked(v *web.Visit, f url.Values, r *store.Registration) error {
	reg, err := registration.Look(v.Site().Server().Charter(), r)
	if err != nil || f.Get("fingerprint") != attestation.Fingerprint(reg.Credential()) || f.Get("replaces") != r.Replaces {
		return web.Problemf(409, "passkey-changed", "load the page again, and compare the fingerprint again", "the registration is not what the page showed")
	}
	return nil
}

// draft makes the request that an officer's passkey is to sign.
func (a *area) draft(v *web.Visit) error {
	f, err := v.Form()
	if err != nil {
		return err
	}
	r, err := a.get(v)
	if err != nil {
		return err
	}
	head, ref := v.Site().Server().Chain().Head()
	if !registration.MayPropose(head, v.Who.Name) {
		return web.Problemf(403, "requester-not-allowed", "", "the charter does not let %s ask for another charter", v.Who.Name)
	}
	if r.State != store.RegistrationOpen {
		return web.Problemf(409, "passkey-closed", "", "the registration is %s", r.State)
	}
	next, err := registration.Draft(head, ref, r, r.Replaces, v.Now)
	if err != nil {
		return err
	}
	if err := asLooked(v, f, r); err != nil {
		return err
	}
	cmd, err := registration.Command(next)
	if err != nil {
		return err
	}
	payload, err := author.RequestPayload(v.Who.Name, v.Now, rand.Reader, head, ref, cmd, author.RequestOptions{Reason: strings.TrimSpace(f.Get("reason"))})
	if err != nil {
		return web.Problemf(400, "malformed", "", "%v", err)
	}
	return v.Draft(payload, map[string]string{"command.name": string(statement.CharterReplace), "requester": v.Who.Name})
}

// propose hands in a request that the officer's passkey has signed.
func (a *area) propose(v *web.Visit) error {
	f, err := v.Form()
	if err != nil {
		return err
	}
	r, err := a.get(v)
	if err != nil {
		return err
	}
	envelope, payload, err := v.Signed(f)
	if err != nil {
		return err
	}
	if err := asLooked(v, f, r); err != nil {
		return err
	}
	q, err := statement.Decode[statement.Request](payload)
	if err != nil || q.Requester != v.Who.Name || q.Command.Charter == nil {
		return web.Problemf(400, "malformed", "load the page again", "that is not the request that was drafted")
	}
	next, err := charter.Decode(q.Command.Charter.Statement)
	if err != nil || !registration.Has(next, r.Person, r.Credential) {
		return web.Problemf(400, "malformed", "load the page again", "the charter that was signed does not have this passkey")
	}
	got, _, err := v.Site().Server().Submit(v.Request.Context(), envelope, nil)
	if err != nil {
		return err
	}
	if err := a.reg.Sync(v.Request.Context()); err != nil {
		v.Site().Logger().Warn("registrations of passkeys", "error", err)
	}
	return v.Redirect("/console/requests/" + got.ID.String())
}
