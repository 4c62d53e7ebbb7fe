package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/challenge"
	"github.com/greatseal-io/greatseal/internal/limit"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

const (
	sessionLife  = 8 * time.Hour
	maxTokenLife = 400 * 24 * time.Hour
	maxTokensOf  = 64 // of one principal, sessions included
)

// makeToken makes a secret: "gs_", a handle, "_", 32 random bytes.
func makeToken() (id, token string, hash [32]byte) {
	var b [40]byte
	rand.Read(b[:])
	id = hex.EncodeToString(b[:8])
	token = "gs_" + id + "_" + base64.RawURLEncoding.EncodeToString(b[8:])
	return id, token, sha256.Sum256([]byte(token))
}

// tokenID is the handle in a well-formed token.
func tokenID(token string) (string, bool) {
	rest, ok := strings.CutPrefix(token, "gs_")
	id, secret, cut := strings.Cut(rest, "_")
	if !ok || !cut || len(id) != 16 || len(secret) != 43 {
		return "", false
	}
	if b, err := base64.RawURLEncoding.Strict().DecodeString(secret); err != nil || len(b) != 32 {
		return "", false
	}
	return id, true
}

func (a *API) sessionRoutes() {
	type none struct{}
	type challengeOut struct{ Body wire.Challenge }
	type loginIn struct{ Body wire.Login }
	type sessionOut struct{ Body wire.Session }
	route(a, op{method: http.MethodPost, path: "/sessions/challenge", id: "challenge", tag: "sessions", access: public(),
		sum: "Get a challenge to sign", doc: "For people and machines without a client certificate. The nonce is good for one login within a minute, at every replica."},
		func(ctx context.Context, _ *none) (*challengeOut, error) {
			now := a.cfg.Clock()
			audience, p := a.audienceOf(ctx)
			if p != nil {
				return nil, p
			}
			n, err := a.challenges.Make(ctx, now)
			if err != nil {
				return nil, err
			}
			return &challengeOut{wire.Challenge{Nonce: n, Deployment: a.cfg.Server.Charter().Deployment, Audience: audience, Expires: now.Add(challenge.Life).UTC()}}, nil
		})
	route(a, op{method: http.MethodPost, path: "/sessions", id: "login", tag: "sessions", access: public(), status: 201,
		sum: "Get a session", doc: "The signature is made by a credential of the charter, for logins, over \"greatseal login v1\", deployment, audience, name and nonce, a line each. A session reads and hands in; it never requests or endorses, which takes a signature of its own."},
		func(ctx context.Context, in *loginIn) (*sessionOut, error) {
			s, err := a.login(ctx, in.Body)
			if err != nil {
				return nil, err
			}
			return &sessionOut{*s}, nil
		})
	route(a, op{method: http.MethodDelete, path: "/sessions", id: "logout", tag: "sessions", access: only(scopeRead, scopeRequest, scopeLog), sum: "End the session in use"},
		func(ctx context.Context, _ *none) (*none, error) {
			who := callOf(ctx).who
			if who.Via != "session" {
				return nil, newProblem(409, "no-session", "", "the call comes with no session")
			}
			return nil, a.cfg.Store.DeleteToken(ctx, who.tokenID)
		})
}

// audienceOf is the host that a login is for. Where the configuration does not
// say it, only names of this machine will do: a host that the caller chooses would
// let whoever runs another server pass on the logins that he gets.
func (a *API) audienceOf(ctx context.Context) (string, *problem) {
	if a.audience != "" {
		return a.audience, nil
	}
	host := callOf(ctx).r.Host
	if !ownName(host) {
		return "", newProblem(421, "wrong-host", "\"url\" in the server's configuration says where clients reach it", "the server does not know that it is called %.100q: nobody logs in to it by that name", host)
	}
	return host, nil
}

// ownName reports whether host, with a port or without, is this machine itself.
func ownName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func (a *API) login(ctx context.Context, in wire.Login) (*wire.Session, error) {
	now := a.cfg.Clock()
	// One answer for all that is wrong: it tells nobody who is in the charter.
	refused := newProblem(401, "login-refused", "greatseal login takes a new challenge", "the login is refused: unknown name, wrong credential, wrong signature or a challenge that is used up")
	audience, p := a.audienceOf(ctx)
	if p != nil {
		return nil, p
	}
	ends, err := a.challenges.Check(ctx, in.Nonce, now)
	if errors.Is(err, challenge.ErrNonce) {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	cred := a.roster().credential(in.Name, credential.ID(in.Credential))
	msg := wire.LoginMessage(a.cfg.Server.Charter().Deployment, audience, in.Name, in.Nonce)
	if cred == nil || cred.Verify(credential.Login, msg, in.Signature) != nil {
		c := callOf(ctx)
		if p := a.strangers.take(limit.Address(c.r), time.Now()); p != nil {
			return nil, p
		}
		return nil, refused
	}
	// After the signature: nobody but those of the charter fills the table.
	if err := a.challenges.Use(ctx, in.Nonce, ends, now); errors.Is(err, store.ErrExists) {
		return nil, refused
	} else if err != nil {
		return nil, err
	}
	id, token, hash := makeToken()
	if err := a.tidy(ctx, in.Name, now, true); err != nil {
		return nil, err
	}
	t := store.Token{Hash: hash, ID: id, Principal: in.Name, Scopes: []string{scopeSession}, Credential: credential.Pin(cred), Created: now, Expires: now.Add(lifeOf(cred))}
	if err := a.cfg.Store.PutToken(ctx, t); err != nil {
		return nil, err
	}
	who := principal{scopes: a.scopes(a.roster(), in.Name)}
	return &wire.Session{Token: token, Name: in.Name, Scopes: who.list(), Expires: t.Expires.UTC()}, nil
}

// credential finds a credential of a person or machine, or nil.
func (r *roll) credential(name string, id credential.ID) credential.Credential {
	var list []charter.Credential
	if p, ok := r.charter.People[name]; ok {
		list = p.Credentials
	} else if m, ok := r.charter.Machines[name]; ok {
		list = m.Credentials
	}
	for _, c := range list {
		if cred, err := r.charter.Credential(c); err == nil && cred.ID() == id {
			return cred
		}
	}
	return nil
}

// tidy removes tokens that have expired, and makes room for another one of name:
// the oldest session goes when there are too many.
func (a *API) tidy(ctx context.Context, name string, now time.Time, session bool) error {
	all, err := a.cfg.Store.Tokens(ctx)
	if err != nil {
		return err
	}
	n := 0
	oldest := ""
	for _, t := range all {
		switch {
		case !now.Before(t.Expires):
			if err := a.cfg.Store.DeleteToken(ctx, t.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		case t.Principal == name:
			n++
			if oldest == "" && slices.Equal(t.Scopes, []string{scopeSession}) {
				oldest = t.ID
			}
		}
	}
	if n < maxTokensOf {
		return nil
	}
	if !session || oldest == "" {
		return newProblem(409, "too-many-tokens", "end some of them", "%s has %d tokens", name, n)
	}
	if err := a.cfg.Store.DeleteToken(ctx, oldest); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

func (a *API) tokenRoutes() {
	type none struct{}
	type newIn struct{ Body wire.NewToken }
	type tokenOut struct{ Body wire.Token }
	type tokensOut struct{ Body wire.Tokens }
	type idIn struct {
		ID string `path:"id" maxLength:"32"`
	}
	route(a, op{method: http.MethodPost, path: "/tokens", id: "create-token", tag: "tokens", access: only(scopeRequest, scopeAdmin), status: 201,
		sum: "Make a bearer token", doc: "By an administrator of the server, for anybody; by the owner of a machine, for that machine. A token never suffices to request or to endorse: those are signatures. Scopes: " + strings.Join(Scopes(), ", ") + "."},
		func(ctx context.Context, in *newIn) (*tokenOut, error) {
			t, err := a.createToken(ctx, in.Body)
			if err != nil {
				return nil, err
			}
			return &tokenOut{*t}, nil
		})
	route(a, op{method: http.MethodGet, path: "/tokens", id: "tokens", tag: "tokens", access: only(scopeRead, scopeAdmin),
		sum: "List tokens and sessions", doc: "An administrator sees all of them, others their own and those of their machines. Secrets are not kept and not shown."},
		func(ctx context.Context, _ *none) (*tokensOut, error) {
			all, err := a.cfg.Store.Tokens(ctx)
			if err != nil {
				return nil, err
			}
			out := &tokensOut{wire.Tokens{Tokens: []wire.Token{}}}
			for _, t := range all {
				if a.governs(ctx, t.Principal) {
					out.Body.Tokens = append(out.Body.Tokens, shown(t))
				}
			}
			return out, nil
		})
	route(a, op{method: http.MethodDelete, path: "/tokens/{id}", id: "delete-token", tag: "tokens", access: only(scopeRequest, scopeAdmin), sum: "End a token or session"},
		func(ctx context.Context, in *idIn) (*none, error) {
			all, err := a.cfg.Store.Tokens(ctx)
			if err != nil {
				return nil, err
			}
			for _, t := range all {
				if t.ID == in.ID && a.governs(ctx, t.Principal) {
					return nil, a.cfg.Store.DeleteToken(ctx, t.ID)
				}
			}
			return nil, newProblem(404, "not-found", "", "no such token")
		})
}

// governs reports whether the caller may see and end name's tokens.
func (a *API) governs(ctx context.Context, name string) bool {
	who := callOf(ctx).who
	if who.has(scopeAdmin) {
		return true
	}
	if who.Via == "token" {
		return false // a machine's token shows and ends no others
	}
	return who.Name == name || a.owns(who.Name, name)
}

func (a *API) owns(person, machine string) bool {
	m, ok := a.roster().charter.Machines[machine]
	return ok && m.Owner == person && person != ""
}

func (a *API) createToken(ctx context.Context, in wire.NewToken) (*wire.Token, error) {
	who := callOf(ctx).who
	now := a.cfg.Clock()
	owner := who.Via != "token" && a.owns(who.Name, in.Principal)
	if !who.has(scopeAdmin) && !owner {
		return nil, newProblem(403, "not-admin", "the server's configuration names its admins", "%s is neither an administrator nor the owner of machine %q", who.Name, in.Principal)
	}
	if err := statement.CheckName("principal", in.Principal); err != nil {
		return nil, newProblem(400, "malformed", "", "%v", err)
	}
	if len(in.Scopes) == 0 || !now.Before(in.Expires) || in.Expires.Sub(now) > maxTokenLife {
		return nil, newProblem(400, "malformed", "", "want scopes, and an expiry in the next %d days", maxTokenLife/(24*time.Hour))
	}
	scopes := slices.Clone(in.Scopes)
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	_, machine := a.roster().charter.Machines[in.Principal]
	for _, x := range scopes {
		s := scope(x)
		switch {
		case !slices.Contains(Scopes(), x):
			return nil, newProblem(400, "malformed", "", "%.40q is no scope: want some of %s", x, strings.Join(Scopes(), ", "))
		case !a.roster().has(in.Principal) && !slices.Contains(foreign(), s):
			return nil, newProblem(400, "principal-unknown", "", "%s is not in the charter: a token for it can have the scopes read, log and metrics only", in.Principal)
		case s == scopeAdmin && (!who.has(scopeAdmin) || !slices.Contains(a.cfg.Admins, in.Principal)):
			return nil, newProblem(403, "not-admin", "the server's configuration names its admins", "%s is no administrator", in.Principal)
		case s == scopeInspect && !who.has(scopeAdmin) && !(machine && a.roster().charter.Machines[in.Principal].Inspector):
			return nil, newProblem(403, "not-admin", "the charter names inspectors", "%s is no inspector", in.Principal)
		}
	}
	if err := a.tidy(ctx, in.Principal, now, false); err != nil {
		return nil, err
	}
	id, token, hash := makeToken()
	t := store.Token{Hash: hash, ID: id, Principal: in.Principal, Scopes: scopes, Created: now, Expires: in.Expires}
	if err := a.cfg.Store.PutToken(ctx, t); err != nil {
		return nil, err
	}
	a.log.Info("a token was made", "id", id, "principal", in.Principal, "scopes", scopes, "by", who.Name)
	out := shown(t)
	out.Secret = token
	return &out, nil
}

func shown(t store.Token) wire.Token {
	return wire.Token{ID: t.ID, Principal: t.Principal, Scopes: t.Scopes, Created: t.Created.UTC(), Expires: t.Expires.UTC()}
}
