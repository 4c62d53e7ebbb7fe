package store

import (
	"context"
	"encoding/json/v2"
	"fmt"
	"time"
)

// Session is one browser that somebody signed in with. Only the hash of its secret
// is kept.
type Session struct {
	Hash       [32]byte
	Handle     string // public
	Person     string
	Member     bool   // Person is a name of the charter; otherwise somebody's whom it does not have
	Via        string // "oidc", "passkey", "link"
	Issuer     string // of "oidc", as the next three
	Subject    string
	SID        string
	Groups     []string
	Credential string   // [credential.Pin] of what it began with; empty where that is none of the charter
	Binding    [32]byte // of what the browser shows with every call
	Agent      string   // what the browser says it is, for people
	Created    time.Time
	Seen       time.Time // to the minute
	Expires    time.Time
}

// Link is whom a code signs in, and what he got it with; see [Session.Credential].
type Link struct{ Person, Credential string }

// SessionFilter selects sessions; zero members select everything.
type SessionFilter struct {
	Person  string
	Handle  string
	Issuer  string
	Subject string
	SID     string
	Limit   int // default 1000
}

// Sessions keeps the sessions of browsers. [*SQL] does.
type Sessions interface {
	// PutSession adds a session and forgets those that ended before now.
	PutSession(ctx context.Context, s Session, now time.Time) error
	// Session finds one by the hash of its secret; ErrNotFound.
	Session(ctx context.Context, hash [32]byte) (*Session, error)
	// SeeSession notes when a session was used.
	SeeSession(ctx context.Context, hash [32]byte, at time.Time) error
	// ListSessions lists sessions, newest first.
	ListSessions(ctx context.Context, f SessionFilter) ([]Session, error)
	// EndSessions removes the sessions that f selects, which must select some
	// way, and says how many.
	EndSessions(ctx context.Context, f SessionFilter) (int, error)

	// PutLink keeps the hash of a code that signs somebody in, and forgets those that
	// ended before now.
	PutLink(ctx context.Context, hash [32]byte, l Link, expires, now time.Time) error
	// Link says whose a code is; ErrNotFound for one that is used or over.
	Link(ctx context.Context, hash [32]byte, now time.Time) (Link, error)
	// TakeLink is Link, once: of several who ask one gets it.
	TakeLink(ctx context.Context, hash [32]byte, now time.Time) (Link, error)
}

var _ Sessions = (*SQL)(nil)

const sessionColumns = `hash, handle, person, member, via, issuer, subject, sid, groups, credential, binding, agent, created, seen, expires`

// PutSession adds a session.
func (s *SQL) PutSession(ctx context.Context, x Session, now time.Time) error {
	if _, err := s.exec(ctx, `DELETE FROM sessions WHERE expires <= $1`, ms(now)); err != nil {
		return err
	}
	if x.Groups == nil {
		x.Groups = []string{}
	}
	for i, g := range x.Groups {
		x.Groups[i] = text(g)
	}
	groups, err := json.Marshal(x.Groups)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	_, err = s.exec(ctx, `INSERT INTO sessions (`+sessionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		x.Hash[:], x.Handle, text(x.Person), flag(x.Member), x.Via, text(x.Issuer), text(x.Subject), text(x.SID), string(groups), text(x.Credential), x.Binding[:], text(x.Agent), ms(x.Created), ms(x.Seen), ms(x.Expires))
	return err
}

func scanSession(r scanner) (*Session, error) {
	var x Session
	var hash, binding []byte
	var groups string
	var member, created, seen, expires int64
	if err := r.Scan(&hash, &x.Handle, &x.Person, &member, &x.Via, &x.Issuer, &x.Subject, &x.SID, &groups, &x.Credential, &binding, &x.Agent, &created, &seen, &expires); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(groups), &x.Groups); err != nil {
		return nil, fmt.Errorf("session %s: groups: %w", x.Handle, err)
	}
	copy(x.Hash[:], hash)
	copy(x.Binding[:], binding)
	x.Member, x.Created, x.Seen, x.Expires = member != 0, at(created), at(seen), at(expires)
	return &x, nil
}

// Session finds a session by the hash of its secret.
func (s *SQL) Session(ctx context.Context, hash [32]byte) (*Session, error) {
	x, err := scanSession(s.read.QueryRowContext(ctx, `SELECT `+sessionColumns+` FROM sessions WHERE hash = $1`, hash[:]))
	if err != nil {
		return nil, s.wrap(err)
	}
	return x, nil
}

// SeeSession notes when a session was used.
func (s *SQL) SeeSession(ctx context.Context, hash [32]byte, t time.Time) error {
	_, err := s.exec(ctx, `UPDATE sessions SET seen = $2 WHERE hash = $1 AND seen < $2`, hash[:], ms(t))
	return err
}

// where is the condition of a filter, and its arguments.
func (f SessionFilter) where() (string, []any) {
	cond, args := "1 = 1", []any{}
	for _, c := range []struct{ column, value string }{{"person", f.Person}, {"handle", f.Handle}, {"issuer", f.Issuer}, {"subject", f.Subject}, {"sid", f.SID}} {
		if c.value != "" {
			args = append(args, text(c.value))
			cond += fmt.Sprintf(" AND %s = $%d", c.column, len(args))
		}
	}
	return cond, args
}

// ListSessions lists sessions, newest first.
func (s *SQL) ListSessions(ctx context.Context, f SessionFilter) ([]Session, error) {
	cond, args := f.where()
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 1000
	}
	rows, err := s.read.QueryContext(ctx, `SELECT `+sessionColumns+` FROM sessions WHERE `+cond+fmt.Sprintf(` ORDER BY created DESC, handle LIMIT %d`, f.Limit), args...)
	list, err := collect(rows, err, scanSession)
	out := make([]Session, len(list))
	for i, x := range list {
		out[i] = *x
	}
	return out, s.wrap(err)
}

// EndSessions removes sessions.
func (s *SQL) EndSessions(ctx context.Context, f SessionFilter) (int, error) {
	cond, args := f.where()
	if len(args) == 0 {
		return 0, fmt.Errorf("store: which sessions are to be ended?")
	}
	n, err := s.exec(ctx, `DELETE FROM sessions WHERE `+cond, args...)
	return int(n), err
}

// PutLink keeps a code.
func (s *SQL) PutLink(ctx context.Context, hash [32]byte, l Link, expires, now time.Time) error {
	if _, err := s.exec(ctx, `DELETE FROM session_links WHERE expires <= $1`, ms(now)); err != nil {
		return err
	}
	_, err := s.exec(ctx, `INSERT INTO session_links (hash, person, credential, expires) VALUES ($1, $2, $3, $4)`, hash[:], text(l.Person), text(l.Credential), ms(expires))
	return err
}

// Link says whose a code is.
func (s *SQL) Link(ctx context.Context, hash [32]byte, now time.Time) (Link, error) {
	var l Link
	err := s.read.QueryRowContext(ctx, `SELECT person, credential FROM session_links WHERE hash = $1 AND expires > $2`, hash[:], ms(now)).Scan(&l.Person, &l.Credential)
	return l, s.wrap(err)
}

// TakeLink takes a code.
func (s *SQL) TakeLink(ctx context.Context, hash [32]byte, now time.Time) (Link, error) {
	l, err := s.Link(ctx, hash, now)
	if err != nil {
		return Link{}, err
	}
	n, err := s.exec(ctx, `DELETE FROM session_links WHERE hash = $1`, hash[:])
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Link{}, err
	}
	return l, nil
}
