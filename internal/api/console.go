package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/store"
)

// linkLife is how long a code is good for that signs somebody in to the console.
const linkLife = time.Minute

// LinkHash is what is kept of a code that signs somebody in to the console.
func LinkHash(code string) [32]byte {
	return sha256.Sum256([]byte("greatseal console link v1\x00" + code))
}

// consoleRoutes are those by which the command line signs people in to the console and
// ends their sessions there. The API itself looks at no cookie.
func (a *API) consoleRoutes() {
	type none struct{}
	type linkOut struct{ Body wire.ConsoleLink }
	type listOut struct{ Body wire.ConsoleSessions }
	type idIn struct {
		ID string `path:"id" maxLength:"16"`
	}
	route(a, op{method: http.MethodPost, path: "/console/links", id: "console-link", tag: "console", access: only(scopeRequest), status: 201,
		sum: "Get a code that signs the caller in to the console", doc: "For people of the charter who came with a session or a certificate, not with a token. The code is good once, within a minute."},
		func(ctx context.Context, _ *none) (*linkOut, error) {
			if a.cfg.Sessions == nil {
				return nil, newProblem(404, "not-found", "\"console\" in the server's configuration", "the server has no console")
			}
			who := callOf(ctx).who
			if _, person := a.roster().charter.People[who.Name]; !person || who.Via == "token" {
				return nil, newProblem(403, "scope", "greatseal login", "a person's own session is wanted")
			}
			b := make([]byte, 32)
			rand.Read(b)
			code := base64.RawURLEncoding.EncodeToString(b)
			now := a.cfg.Clock()
			ends := now.Add(linkLife)
			if err := a.cfg.Sessions.PutLink(ctx, LinkHash(code), store.Link{Person: who.Name, Credential: who.pin}, ends, now); err != nil {
				return nil, err
			}
			return &linkOut{wire.ConsoleLink{URL: a.consoleOrigin(callOf(ctx).r) + "/console/login/link", Code: code, Expires: ends.UTC()}}, nil
		})
	route(a, op{method: http.MethodGet, path: "/console/sessions", id: "console-sessions", tag: "console", access: only(scopeRequest, scopeAdmin),
		sum: "List sessions of the console", doc: "An administrator sees all of them, others their own."},
		func(ctx context.Context, _ *none) (*listOut, error) {
			list, err := a.consoleSessions(ctx, "")
			if err != nil {
				return nil, err
			}
			out := &listOut{wire.ConsoleSessions{Sessions: []wire.ConsoleSession{}}}
			for _, x := range list {
				out.Body.Sessions = append(out.Body.Sessions, wire.ConsoleSession{ID: x.Handle, Person: x.Person, Via: x.Via, Agent: x.Agent, Created: x.Created, Seen: x.Seen, Expires: x.Expires})
			}
			return out, nil
		})
	route(a, op{method: http.MethodDelete, path: "/console/sessions/{id}", id: "console-session-end", tag: "console", access: only(scopeRequest, scopeAdmin), sum: "End a session of the console"},
		func(ctx context.Context, in *idIn) (*none, error) {
			list, err := a.consoleSessions(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			if len(list) == 0 || in.ID == "" {
				return nil, newProblem(404, "not-found", "greatseal sessions list", "no such session")
			}
			_, err = a.cfg.Sessions.EndSessions(ctx, store.SessionFilter{Handle: in.ID})
			return nil, err
		})
}

// consoleSessions are those that the caller may see and end.
func (a *API) consoleSessions(ctx context.Context, id string) ([]store.Session, error) {
	if a.cfg.Sessions == nil {
		return nil, newProblem(404, "not-found", "\"console\" in the server's configuration", "the server has no console")
	}
	who := callOf(ctx).who
	f := store.SessionFilter{Handle: id}
	if !who.has(scopeAdmin) {
		if who.Via == "token" {
			return nil, newProblem(403, "scope", "greatseal login", "a person's own session is wanted")
		}
		f.Person = who.Name
	}
	list, err := a.cfg.Sessions.ListSessions(ctx, f)
	if err != nil {
		return nil, err
	}
	var out []store.Session
	for _, x := range list {
		if x.Member || who.has(scopeAdmin) { // somebody of that name from elsewhere is somebody else
			out = append(out, x)
		}
	}
	return out, nil
}

// consoleOrigin is where browsers find the console. On this machine it is "localhost":
// browsers have no passkeys for addresses.
func (a *API) consoleOrigin(r *http.Request) string {
	if a.cfg.URL != "" {
		return trimSlash(a.cfg.URL)
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	host := r.Host
	if name, port, err := net.SplitHostPort(host); err == nil {
		if ip := net.ParseIP(name); ip != nil && ip.IsLoopback() {
			host = net.JoinHostPort("localhost", port)
		}
	}
	return scheme + host
}

func trimSlash(s string) string {
	for len(s) > 0 && s[len(s)-1] == '/' {
		s = s[:len(s)-1]
	}
	return s
}
