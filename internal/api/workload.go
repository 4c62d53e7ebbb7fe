package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/issuer"
	"github.com/greatseal-io/greatseal/internal/limit"
	"github.com/greatseal-io/greatseal/internal/store"
)

// workloadLife is how long a session lasts that came of a token: as long as tokens do.
const workloadLife = time.Hour

// workload is a machine that has tokens.
type workload struct {
	name string
	cred *credential.OIDC
}

// errNobody is that of a token which is no machine's, or that of several.
var errNobody = errors.New("api: the token is nobody's")

// lifeOf is how long a session lasts to which somebody logs in with a credential.
func lifeOf(c credential.Credential) time.Duration {
	if c.Kind() == credential.KindOIDC {
		return workloadLife
	}
	return sessionLife
}

// looksJWT reports whether a bearer token has the form of an ID token: none that this
// server makes has a dot.
func looksJWT(s string) bool { return strings.Count(s, ".") == 2 }

// workload finds the machine whose token this is: name, or the only one that there is
// where name is empty.
func (r *roll) workload(token []byte, name string, now time.Time) (*workload, *credential.IDToken, error) {
	t, err := credential.ParseIDToken(token)
	if err != nil {
		return nil, nil, errNobody
	}
	var who *workload
	for i := range r.workloads {
		w := &r.workloads[i]
		if name != "" && w.name != name {
			continue
		}
		if w.cred.Shows(t, now.Unix()) != nil {
			continue
		}
		if who != nil && who.name != w.name {
			return nil, nil, errNobody // of two: neither, rather than somebody
		}
		if who == nil {
			who = w
		}
	}
	if who == nil {
		return nil, nil, errNobody
	}
	return who, t, nil
}

// exchange gives a session for a token, once.
func (a *API) exchange(ctx context.Context, in wire.TokenLogin) (*wire.Session, error) {
	now := a.cfg.Clock()
	// One answer for all that is wrong: it tells nobody who is in the charter.
	refused := newProblem(401, "login-refused", "the charter says which tokens a machine has, and greatseal charter issuers check whether its issuer's keys are pinned",
		"the token is refused: it is no machine's, not for this server, not valid now, or was used")
	roll := a.roster()
	who, t, err := roll.workload([]byte(in.Token), in.Name, now)
	if err != nil {
		if p := a.strangers.take(limit.Address(callOf(ctx).r), time.Now()); p != nil {
			return nil, p
		}
		return nil, refused
	}
	used := sha256.Sum256(append([]byte("greatseal token used v1\x00"), t.Mark()...))
	// Replicas whose clocks are behind take the token a little longer.
	if err := a.cfg.Store.Once(ctx, used, time.Unix(t.Expires, 0).Add(10*time.Minute), now); errors.Is(err, store.ErrExists) {
		return nil, refused
	} else if err != nil {
		return nil, err
	}
	id, token, hash := makeToken()
	if err := a.tidy(ctx, who.name, now, true); err != nil {
		return nil, err
	}
	s := store.Token{Hash: hash, ID: id, Principal: who.name, Scopes: []string{scopeSession}, Credential: credential.Pin(who.cred), Created: now, Expires: now.Add(workloadLife)}
	if err := a.cfg.Store.PutToken(ctx, s); err != nil {
		return nil, err
	}
	scopes := principal{scopes: a.scopes(roll, who.name)}.list()
	return &wire.Session{Token: token, Name: who.name, Scopes: scopes, Expires: s.Expires.UTC()}, nil
}

func (a *API) workloadRoutes() {
	type none struct{}
	type exchangeIn struct{ Body wire.TokenLogin }
	type sessionOut struct{ Body wire.Session }
	route(a, op{method: http.MethodPost, path: "/sessions/token", id: "exchange", tag: "sessions", access: public(), status: 201,
		sum: "Get a session for a workload's ID token", doc: "The token is of an issuer that the charter pins, for the audience of the machine's credential with \"/api\" after it, and is taken once. A session reads and hands in what is signed; it never requests or endorses."},
		func(ctx context.Context, in *exchangeIn) (*sessionOut, error) {
			s, err := a.exchange(ctx, in.Body)
			if err != nil {
				return nil, err
			}
			return &sessionOut{*s}, nil
		})
	type issuersOut struct{ Body wire.Issuers }
	route(a, op{method: http.MethodGet, path: "/issuers", id: "issuers", tag: "charter", access: only(scopeRead),
		sum: "The issuers of ID tokens that the charter pins, and what they were last seen to publish", doc: "A key counts when it is pinned, not when it is published."},
		func(ctx context.Context, _ *none) (*issuersOut, error) {
			out := &issuersOut{wire.Issuers{Issuers: []issuer.State{}}}
			if a.cfg.Issuers == nil {
				return out, nil
			}
			var err error
			out.Body.Issuers, err = a.cfg.Issuers(ctx)
			return out, err
		})
}

// issuers are the gauges of what issuers publish.
func (a *API) issuers(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string)) {
	if a.cfg.Issuers == nil {
		return
	}
	states, err := a.cfg.Issuers(ctx)
	if err != nil {
		return
	}
	keys := desc("issuer_keys", "Keys of an issuer of ID tokens: pinned and published; new, published and not pinned; stale, pinned and no longer published; changed, another one under a pinned ID.", "issuer", "state")
	answered := desc("issuer_answered_seconds", "When an issuer of ID tokens answered last, in seconds since 1970; 0: never.", "issuer")
	for _, s := range states {
		gauge(keys, float64(len(s.Pinned)), s.Name, "pinned")
		gauge(keys, float64(len(s.New)), s.Name, "new")
		gauge(keys, float64(len(s.Stale)), s.Name, "stale")
		gauge(keys, float64(len(s.Changed)), s.Name, "changed")
		at := 0.0
		if !s.Seen.IsZero() {
			at = float64(s.Seen.Unix())
		}
		gauge(answered, at, s.Name)
	}
}
