package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// RegistrationState is where a registration of a passkey is.
type RegistrationState string

// The states. The first two are waiting; the others are final.
const (
	RegistrationOpen     RegistrationState = "open"     // nobody has proposed it
	RegistrationProposed RegistrationState = "proposed" // an open request carries a charter with it
	RegistrationInForce  RegistrationState = "in force" // the charter in force has it
	RegistrationRefused  RegistrationState = "refused"
	RegistrationExpired  RegistrationState = "expired"
)

// RegistrationStates lists every state.
func RegistrationStates() []RegistrationState {
	return []RegistrationState{RegistrationOpen, RegistrationProposed, RegistrationInForce, RegistrationRefused, RegistrationExpired}
}

// Waiting reports whether something can still happen to a registration.
func (s RegistrationState) Waiting() bool { return s == RegistrationOpen || s == RegistrationProposed }

// Registration is a passkey that somebody has registered, and that is a credential of
// nobody until a charter says so. Nothing in it is secret.
type Registration struct {
	ID           string // a handle
	Person       string
	Credential   string // text of credential.Passkey
	CredentialID string // its ID
	Attestation  string // text of attestation.Record
	Transports   []string
	Label        string // the person's word
	Replaces     string // ID of a credential that is to go, or empty
	State        RegistrationState
	Detail       string       // why, in words
	Request      statement.ID // that carries it, or zero
	Via          string       // how whoever registered it had signed in: "oidc", "passkey", "link"
	Issuer       string       // of oidc, as Subject
	Subject      string
	Created      time.Time
	Updated      time.Time
	Expires      time.Time
}

// RegistrationFilter selects registrations; zero members select everything.
type RegistrationFilter struct {
	Person string
	States []RegistrationState
	Limit  int // default 100, at most 1000
}

// Registrations keeps registrations of passkeys. [*SQL] does. Whoever edits a row by
// hand changes what is shown: officers endorse a charter, which holds the passkey
// itself.
type Registrations interface {
	// PutRegistration adds one that is open, if its person has fewer than atMost
	// that wait. ErrConflict: there are as many. ErrExists: one with that ID is
	// there, or one of that passkey waits.
	PutRegistration(ctx context.Context, r *Registration, atMost int) error
	// Registration returns one; ErrNotFound.
	Registration(ctx context.Context, id string) (*Registration, error)
	// Registrations lists them, newest first.
	Registrations(ctx context.Context, f RegistrationFilter) ([]Registration, error)
	// MoveRegistration takes one from a state to another one. ErrConflict: it is not
	// in that state any more.
	MoveRegistration(ctx context.Context, id string, from, to RegistrationState, request statement.ID, detail string, now time.Time) error
	// ForgetRegistrations removes those in a final state that were updated before t.
	ForgetRegistrations(ctx context.Context, t time.Time) error
}

var _ Registrations = (*SQL)(nil)

const registrationColumns = `id, person, credential, credential_id, attestation, transports, label, replaces, state, detail, request, via, issuer, subject, created, updated, expires`

func scanRegistration(r scanner) (Registration, error) {
	var x Registration
	var transports, state string
	var request []byte
	var created, updated, expires int64
	err := r.Scan(&x.ID, &x.Person, &x.Credential, &x.CredentialID, &x.Attestation, &transports, &x.Label, &x.Replaces, &state, &x.Detail, &request,
		&x.Via, &x.Issuer, &x.Subject, &created, &updated, &expires)
	copy(x.Request[:], request)
	x.Transports, x.State = strings.Fields(transports), RegistrationState(state)
	x.Created, x.Updated, x.Expires = at(created), at(updated), at(expires)
	return x, err
}

// PutRegistration adds one.
func (s *SQL) PutRegistration(ctx context.Context, r *Registration, atMost int) error {
	n, err := s.exec(ctx, `INSERT INTO registrations (`+registrationColumns+`)
		SELECT $1, $2, $3, $4, $5, $6, $7, $8, 'open', '', NULL, $9, $10, $11, $12, $12, $13
		WHERE (SELECT count(*) FROM registrations WHERE person = $2 AND state IN ('open', 'proposed')) < $14
		ON CONFLICT DO NOTHING`,
		text(r.ID), text(r.Person), text(r.Credential), text(r.CredentialID), text(r.Attestation), text(strings.Join(r.Transports, " ")), text(r.Label), text(r.Replaces),
		text(r.Via), text(r.Issuer), text(r.Subject), ms(r.Created), ms(r.Expires), int64(atMost))
	if err != nil || n == 1 {
		return err
	}
	var have int64
	if err := s.write.QueryRowContext(ctx, `SELECT count(*) FROM registrations WHERE person = $1 AND state IN ('open', 'proposed')`, text(r.Person)).Scan(&have); err != nil {
		return s.wrap(err)
	}
	if have >= int64(atMost) {
		return ErrConflict
	}
	return ErrExists
}

// Registration returns one.
func (s *SQL) Registration(ctx context.Context, id string) (*Registration, error) {
	x, err := scanRegistration(s.row(ctx, `SELECT `+registrationColumns+` FROM registrations WHERE id = $1`, text(id)))
	if err != nil {
		return nil, s.wrap(err)
	}
	return &x, nil
}

// Registrations lists them.
func (s *SQL) Registrations(ctx context.Context, f RegistrationFilter) ([]Registration, error) {
	// Five states at the most: one text for all filters.
	all := RegistrationStates()
	want := f.States
	if len(want) == 0 {
		want = all
	}
	args := []any{text(f.Person)}
	for i := range all {
		if i < len(want) {
			args = append(args, string(want[i]))
		} else {
			args = append(args, string(want[0]))
		}
	}
	rows, err := s.rows(ctx, `SELECT `+registrationColumns+` FROM registrations WHERE ($1 = '' OR person = $1) AND state IN ($2, $3, $4, $5, $6) ORDER BY created DESC, id LIMIT $7`,
		append(args, pageSize(f.Limit))...)
	out, err := collect(rows, err, scanRegistration)
	return out, s.wrap(err)
}

// MoveRegistration takes one from a state to another one.
func (s *SQL) MoveRegistration(ctx context.Context, id string, from, to RegistrationState, request statement.ID, detail string, now time.Time) error {
	var carries any
	if !request.IsZero() {
		carries = request[:]
	}
	n, err := s.exec(ctx, `UPDATE registrations SET state = $3, request = $4, detail = $5, updated = $6 WHERE id = $1 AND state = $2`,
		text(id), string(from), string(to), carries, text(detail), ms(now))
	if errors.Is(err, ErrExists) {
		return ErrConflict
	}
	if err == nil && n == 0 {
		err = ErrConflict
	}
	return err
}

// ForgetRegistrations removes old ones.
func (s *SQL) ForgetRegistrations(ctx context.Context, t time.Time) error {
	_, err := s.exec(ctx, `DELETE FROM registrations WHERE state IN ('in force', 'refused', 'expired') AND updated < $1`, ms(t))
	return err
}
