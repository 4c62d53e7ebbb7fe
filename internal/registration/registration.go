// Package registration takes in passkeys that people register, and keeps them until
// officers have brought them into the charter, or have not. A registered passkey is
// a proposal: it signs nothing for anybody before the charter in force has it.
//
// Invariants:
//
//  1. A registration answers a challenge that was given to the same person in the
//     same session within [Life], once, whichever replica it was given by.
//  2. What is kept has passed package attestation and the Check of a charter that has
//     it: what officers cannot bring into force is refused at once.
//  3. A registration is in force when the charter in force has its passkey for its
//     person, and because of nothing else.
//  4. Nothing here signs. [Draft] makes a charter, which is somebody's request when
//     he has signed it, and in force when a quorum has endorsed it.
//  5. What waits of one person is bounded, and ends after [Waits].
//
// What a caller may not conclude: that what is stored is what was registered. Whoever
// writes to the database can put another key there. Who proposes compares the
// fingerprint with its owner, and recomputes the attestation from the stored bytes
// ([Look]); the keeper does so where the charter requires one.
package registration

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// Limits of registrations.
const (
	Life      = 5 * time.Minute     // of a challenge
	Waits     = 7 * 24 * time.Hour  // how long a registration waits to be proposed
	Kept      = 90 * 24 * time.Hour // how long it is shown when it is over
	PerPerson = 5                   // that wait
	maxLabel  = 64                  // bytes
	maxDetail = 256
	skew      = 10 * time.Second // between replicas
)

// Store is what registrations are kept in; package store's do.
type Store interface {
	store.Registrations
	Once(ctx context.Context, hash [32]byte, expires, now time.Time) error
	Secret(ctx context.Context, name string, fresh []byte) ([]byte, error)
	Request(ctx context.Context, id statement.ID) (*store.Request, error)
	Requests(ctx context.Context, f store.Filter) ([]*store.Request, error)
}

// Config is what a Service is made of.
type Config struct {
	Chain func() *quorum.Chain // in force
	Store Store
	Clock func() time.Time
	Rand  io.Reader
}

// Service takes registrations. It is safe for concurrent use, and several replicas
// share a database.
type Service struct {
	cfg Config

	mu     sync.Mutex
	secret []byte
}

// New makes a service.
func New(cfg Config) (*Service, error) {
	if cfg.Chain == nil || cfg.Store == nil || cfg.Clock == nil || cfg.Rand == nil {
		return nil, errors.New("registration: a chain, a store, a clock and randomness are wanted")
	}
	return &Service{cfg: cfg}, nil
}

// Who registers: a person in a session.
type Who struct {
	Person  string
	Session string // handle
	Via     string // how the session was begun
	Issuer  string // of an OpenID provider, as Subject
	Subject string
}

// Site is a relying party and where it is used from.
type Site struct {
	RelyingParty string
	Origins      []string
}

func problem(status int, code, hint, detail string, args ...any) *server.Problem {
	return &server.Problem{Status: status, Code: code, Hint: hint, Detail: fmt.Sprintf(detail, args...)}
}

func refused(err error) *server.Problem {
	text := strings.ReplaceAll(err.Error(), attestation.ErrRegistration.Error()+": ", "")
	return problem(403, "passkey-refused", "docs/operate/passkeys.md", "the passkey is refused: %s", strings.TrimPrefix(text, "charter: "))
}

// site is the charter's, where it says one, or the server's own.
func site(head *charter.Charter, own Site) Site {
	if p := head.Passkeys; p != nil {
		return Site{p.RelyingParty, p.Origins}
	}
	return own
}

func (s *Service) key(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secret != nil {
		return s.secret, nil
	}
	fresh := make([]byte, 32)
	if _, err := io.ReadFull(s.cfg.Rand, fresh); err != nil {
		return nil, err
	}
	k, err := s.cfg.Store.Secret(ctx, "registrations", fresh)
	if err != nil {
		return nil, err
	}
	if len(k) != len(fresh) {
		return nil, errors.New("registration: the database's secret for registrations is damaged")
	}
	s.secret = k
	return k, nil
}

func (w Who) mac(key, head []byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, part := range []string{"greatseal registration v1", w.Person, w.Session, string(head)} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		m.Write(n[:])
		m.Write([]byte(part))
	}
	return m.Sum(nil)
}

const headSize = 8 + attestation.NonceSize

// Begin gives a person's browser what it asks the authenticator for. own is the site
// of this server, for charters that do not say which.
func (s *Service) Begin(ctx context.Context, who Who, own Site) (*Begun, error) {
	head, _ := s.cfg.Chain().Head()
	person, ok := head.People[who.Person]
	if !ok {
		return nil, problem(403, "principal-unknown", "an officer puts you into the charter first", "%s is no person of the charter", who.Person)
	}
	key, err := s.key(ctx)
	if err != nil {
		return nil, err
	}
	ticket := make([]byte, headSize, headSize+sha256.Size)
	begun := s.cfg.Clock().UTC().Truncate(time.Second)
	binary.BigEndian.PutUint64(ticket, uint64(begun.Unix()))
	nonce := ticket[8:]
	if _, err := io.ReadFull(s.cfg.Rand, nonce); err != nil {
		return nil, err
	}
	challenge, err := attestation.Challenge(head.Deployment, who.Person, begun, nonce)
	if err != nil {
		return nil, err
	}
	at := site(head, own)
	if at.RelyingParty == "" {
		return nil, problem(421, "wrong-host", "\"url\" in the server's configuration says where clients reach it, or passkeys: in the charter", "the server does not know for which site passkeys are registered")
	}
	return &Begun{Ticket: base64.RawURLEncoding.EncodeToString(append(ticket, who.mac(key, ticket)...)), Options: options(head, who.Person, person, at, challenge)}, nil
}

// ticket is what Begin gave to who, if it is not over.
func (s *Service) ticket(ctx context.Context, who Who, text string) (begun time.Time, nonce []byte, err error) {
	over := problem(403, "passkey-refused", "begin again", "the registration was not begun here, by you and in this session, or it took too long")
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != headSize+sha256.Size {
		return begun, nil, over
	}
	key, err := s.key(ctx)
	if err != nil {
		return begun, nil, err
	}
	if !hmac.Equal(b[headSize:], who.mac(key, b[:headSize])) {
		return begun, nil, over
	}
	begun = time.Unix(int64(binary.BigEndian.Uint64(b)), 0).UTC()
	if now := s.cfg.Clock(); now.After(begun.Add(Life)) || begun.After(now.Add(skew)) {
		return begun, nil, over
	}
	return begun, b[8:headSize], nil
}

// Answer is what the browser returned.
type Answer struct {
	Ticket     string
	Object     []byte // attestationObject
	ClientData []byte // clientDataJSON
	Transports []string
	Label      string // the person's word
	Replaces   string // ID of a credential of his that is to go, or empty
}

// Finish checks a registration and keeps it.
func (s *Service) Finish(ctx context.Context, who Who, own Site, a Answer) (*store.Registration, error) {
	begun, nonce, err := s.ticket(ctx, who, a.Ticket)
	if err != nil {
		return nil, err
	}
	label, err := cleanLabel(a.Label)
	if err != nil {
		return nil, err
	}
	head, ref := s.cfg.Chain().Head()
	if _, ok := head.People[who.Person]; !ok {
		return nil, problem(403, "principal-unknown", "an officer puts you into the charter first", "%s is no person of the charter", who.Person)
	}
	challenge, err := attestation.Challenge(head.Deployment, who.Person, begun, nonce)
	if err != nil {
		return nil, err
	}
	roots, err := head.Passkeys.Trusted()
	if err != nil {
		return nil, err
	}
	at := site(head, own)
	reg, err := attestation.Check(a.Object, a.ClientData, attestation.Expect{
		Challenge: challenge, RelyingParty: at.RelyingParty, Origins: at.Origins, Transports: a.Transports, Roots: roots, At: begun})
	if err != nil {
		return nil, refused(err)
	}
	if err := head.Passkeys.Admits(reg); err != nil {
		return nil, refused(err)
	}
	record, err := attestation.Record{Object: a.Object, ClientData: a.ClientData, Begun: begun, Nonce: nonce}.Text()
	if err != nil {
		return nil, refused(err)
	}
	now := s.cfg.Clock().UTC()
	var id [8]byte
	if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
		return nil, err
	}
	r := &store.Registration{
		ID: hex.EncodeToString(id[:]), Person: who.Person, Credential: reg.Credential().Text(), CredentialID: string(reg.Credential().ID()), Attestation: record,
		Transports: reg.Transports(), Label: label, Replaces: a.Replaces, State: store.RegistrationOpen,
		Via: who.Via, Issuer: who.Issuer, Subject: who.Subject, Created: now, Updated: now, Expires: now.Add(Waits),
	}
	// What no charter can hold is told to its owner, and not to officers in a week.
	if _, err := Draft(head, ref, r, r.Replaces, now); err != nil {
		return nil, err
	}
	if err := s.cfg.Store.Once(ctx, sha256.Sum256(append([]byte("greatseal registration\x00"), nonce...)), begun.Add(Life+2*skew), now); errors.Is(err, store.ErrExists) {
		return nil, problem(403, "passkey-refused", "begin again", "the challenge was answered before")
	} else if err != nil {
		return nil, err
	}
	switch err := s.cfg.Store.PutRegistration(ctx, r, PerPerson); {
	case errors.Is(err, store.ErrConflict):
		return nil, problem(409, "too-many-registrations", "withdraw one, or ask an officer", "%d registrations of yours are waiting", PerPerson)
	case errors.Is(err, store.ErrExists):
		return nil, problem(409, "passkey-exists", "", "that passkey waits already")
	case err != nil:
		return nil, err
	}
	return r, nil
}

func cleanLabel(s string) (string, error) {
	s = strings.TrimSpace(s)
	if !oneLine(s, maxLabel) {
		return "", problem(400, "malformed", "", "label: want one line of at most %d bytes", maxLabel)
	}
	return s, nil
}

// oneLine reports whether s is printable text of one line: nothing in it turns the
// direction of what stands beside it, or is invisible.
func oneLine(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Officer reports whether name has to do with replacing the charter: he may ask for
// it, or stands in its quorum.
func Officer(c *charter.Charter, name string) bool {
	r, ok := c.Commands[statement.CharterReplace]
	if !ok {
		return false
	}
	if MayPropose(c, name) {
		return true
	}
	return r.Quorum != nil && slices.ContainsFunc(r.Quorum.Leaves(), func(n *charter.Node) bool { return slices.Contains(c.Members(n.Name()), name) })
}

// MayPropose reports whether name may ask for another charter.
func MayPropose(c *charter.Charter, name string) bool {
	return slices.Contains(c.Requesters(c.Commands[statement.CharterReplace]), name)
}

// Get returns a registration.
func (s *Service) Get(ctx context.Context, id string) (*store.Registration, error) {
	return s.cfg.Store.Registration(ctx, id)
}

// List lists registrations, newest first, as far as reader may see them: an officer
// all of them, anybody else his own.
func (s *Service) List(ctx context.Context, reader string, f store.RegistrationFilter) ([]store.Registration, error) {
	head, _ := s.cfg.Chain().Head()
	if !Officer(head, reader) {
		if f.Person != "" && f.Person != reader {
			return []store.Registration{}, nil
		}
		f.Person = reader
	}
	return s.cfg.Store.Registrations(ctx, f)
}

// Read is Get for a reader; what he may not see is not found.
func (s *Service) Read(ctx context.Context, reader, id string) (*store.Registration, error) {
	r, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	head, _ := s.cfg.Chain().Head()
	if r.Person != reader && !Officer(head, reader) {
		return nil, store.ErrNotFound
	}
	return r, nil
}

// Refuse ends a registration that waits: an officer refuses it, its person withdraws
// it. A request that carries it goes on; who wants it ended disapproves it.
func (s *Service) Refuse(ctx context.Context, by, id, why string) (*store.Registration, error) {
	if !oneLine(why, maxDetail) {
		return nil, problem(400, "malformed", "", "reason: want one line of at most %d bytes", maxDetail)
	}
	for range 10 {
		r, err := s.Read(ctx, by, id)
		if err != nil {
			return nil, err
		}
		if !r.State.Waiting() {
			return nil, problem(409, "passkey-closed", "", "the registration is %s", r.State)
		}
		detail := "refused by " + by
		if r.Person == by {
			detail = "withdrawn"
		}
		if why != "" {
			detail += ": " + why
		}
		err = s.cfg.Store.MoveRegistration(ctx, id, r.State, store.RegistrationRefused, r.Request, detail, s.cfg.Clock())
		if errors.Is(err, store.ErrConflict) {
			continue // it has just been proposed, or brought into force
		}
		if err != nil {
			return nil, err
		}
		return s.Get(ctx, id)
	}
	return nil, store.ErrConflict
}

// Look recomputes what a registration says from the bytes that are stored of it, for
// the deployment of a charter and with its roots. Whoever asks a server does this
// himself.
func Look(c *charter.Charter, r *store.Registration) (*attestation.Registration, error) {
	parsed, err := credential.Parse(credential.KindPasskey, r.Credential)
	if err != nil {
		return nil, err
	}
	pk, ok := parsed.(*credential.Passkey)
	if !ok {
		return nil, errors.New("registration: not a passkey")
	}
	record, err := attestation.ParseRecord(r.Attestation)
	if err != nil {
		return nil, err
	}
	roots, err := c.Passkeys.Trusted()
	if err != nil {
		return nil, err
	}
	return record.Check(c.Deployment, r.Person, pk, roots)
}
