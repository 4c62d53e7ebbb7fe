//go:build cgo && unix

package module

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"

	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
)

// Flags of CK_TOKEN_INFO and states of CK_SESSION_INFO (PKCS #11 v2.40).
const (
	stateROUser = 1
	stateRWUser = 3
)

// queue is how many requests wait for a session at most. The parent sends fewer.
const queue = 1 << 10

// token is a token that was logged in to, and its sessions.
type token struct {
	s      *server
	slot   uint
	serial string
	jobs   chan job
	rw     sync.Mutex   // held while keys are made or destroyed
	alive  atomic.Int32 // workers

	anchor pkcs11.SessionHandle // guarded by server.admin: keeps the login when the other sessions are closed
}

type job struct {
	q   *wire.Request
	run func(pkcs11.SessionHandle) (*wire.Response, error)
}

// describe describes the token in a slot, and its flags.
func (s *server) describe(slot uint) (wire.Token, uint, error) {
	i, err := s.lib.GetTokenInfo(slot)
	if err != nil {
		return wire.Token{}, 0, fmt.Errorf("C_GetTokenInfo: %w", err)
	}
	return wire.Token{
		Slot: uint64(slot), Label: printable(i.Label), Serial: printable(i.SerialNumber),
		Manufacturer: printable(i.ManufacturerID), Model: printable(i.Model),
	}, i.Flags, nil
}

// expect checks that a slot has the token that the parent means.
func (s *server) expect(slot uint, serial string) (wire.Token, uint, error) {
	t, flags, err := s.describe(slot)
	if err != nil {
		return wire.Token{}, 0, err
	}
	if t.Serial != serial {
		return wire.Token{}, 0, errorf(wire.CodeUnavailable, "another token is in slot %d", slot)
	}
	return t, flags, nil
}

// findToken finds the one token that a selector picks.
func (s *server) findToken(want wire.Selector) *wire.Response {
	s.admin.Lock()
	defer s.admin.Unlock()
	slots, err := s.lib.GetSlotList(true)
	if err != nil {
		return response(fmt.Errorf("C_GetSlotList: %w", err))
	}
	var found []wire.Token
	for _, slot := range slots {
		if want.HasSlot && want.Slot != uint64(slot) {
			continue
		}
		t, flags, err := s.describe(slot)
		if err != nil || flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue // a slot that is broken or empty is none that was asked for
		}
		if (want.Label == "" || want.Label == t.Label) && (want.Serial == "" || want.Serial == t.Serial) &&
			(want.Manufacturer == "" || want.Manufacturer == t.Manufacturer) && (want.Model == "" || want.Model == t.Model) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return response(errorf(wire.CodeUnavailable, "token is not there"))
	case 1:
		return &wire.Response{Token: &found[0]}
	}
	return response(errorf(wire.CodeAmbiguous, "%d tokens match", len(found)))
}

// login logs in to a token and starts its sessions.
func (s *server) login(q *wire.Request) *wire.Response {
	defer clear(q.PIN)
	s.admin.Lock()
	defer s.admin.Unlock()
	slot := uint(q.Slot)
	_, flags, err := s.expect(slot, q.Serial)
	if err != nil {
		return response(err)
	}
	t := s.loggedIn(slot, q.Serial)
	if t == nil {
		t = &token{s: s, slot: slot, serial: q.Serial, jobs: make(chan job, queue)}
	}
	if in, err := t.anchored(); err != nil {
		return response(err)
	} else if !in {
		switch {
		case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
			return response(errorf(wire.CodePIN, "user PIN is locked"))
		case flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
			return response(errorf(wire.CodePIN, "only one try of the user PIN is left: log in by other means first"))
		case flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0:
			return response(errorf(wire.CodePIN, "token has no user PIN yet"))
		case flags&pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH != 0:
			return response(errorf(wire.CodePIN, "token wants its PIN typed at the device, which a service cannot"))
		}
		err := s.lib.Login(t.anchor, pkcs11.CKU_USER, string(q.PIN))
		if err != nil && !is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
			return response(fmt.Errorf("C_Login: %w", err))
		}
	}
	s.mu.Lock()
	known := s.tokens[slot] == t
	s.tokens[slot] = t
	s.mu.Unlock()
	if !known {
		n := max(1, int(q.Sessions))
		t.alive.Store(int32(n))
		for range n {
			go t.work()
		}
	}
	return &wire.Response{}
}

// anchored sees to it that the anchor session is open, and reports whether the
// user is logged in.
func (t *token) anchored() (bool, error) {
	if t.anchor != 0 {
		i, err := t.s.lib.GetSessionInfo(t.anchor)
		if err == nil && i.SlotID == t.slot {
			return i.State == stateROUser || i.State == stateRWUser, nil
		}
		_ = t.s.lib.CloseSession(t.anchor)
		t.anchor = 0
	}
	h, err := t.s.lib.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return false, fmt.Errorf("C_OpenSession: %w", err)
	}
	t.anchor = h
	i, err := t.s.lib.GetSessionInfo(h)
	if err != nil {
		return false, fmt.Errorf("C_GetSessionInfo: %w", err)
	}
	return i.State == stateROUser || i.State == stateRWUser, nil
}

// loggedIn is the token in a slot if it was logged in to, or nil.
func (s *server) loggedIn(slot uint, serial string) *token {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tokens[slot]; t != nil && t.serial == serial {
		return t
	}
	return nil
}

// submit queues work for the next session that is free.
func (t *token) submit(q *wire.Request, run func(pkcs11.SessionHandle) (*wire.Response, error)) {
	t.s.busy.Add(1)
	select {
	case t.jobs <- job{q, run}:
	default:
		t.s.busy.Done()
		t.s.answer(q, &wire.Response{Code: wire.CodeUnavailable, Text: "too many requests are waiting"})
	}
}

// work does jobs in a session of its own, for as long as the process lives. A
// token that has fewer sessions than it was asked for loses workers, but never
// the last.
func (t *token) work() {
	var session pkcs11.SessionHandle // 0 is CK_INVALID_HANDLE
	for j := range t.jobs {
		r, err := t.attempt(&session, j)
		if is(err, pkcs11.CKR_SESSION_COUNT) && session == 0 && t.alive.Add(-1) > 0 {
			t.submit(j.q, j.run)
			t.s.busy.Done()
			return
		} else if is(err, pkcs11.CKR_SESSION_COUNT) && session == 0 {
			t.alive.Add(1)
		}
		if err != nil {
			r = response(err)
		}
		t.s.answer(j.q, r)
		t.s.busy.Done()
	}
}

// attempt does a job, once more in a new session when the old one was lost.
func (t *token) attempt(session *pkcs11.SessionHandle, j job) (*wire.Response, error) {
	for again := false; ; again = true {
		if *session == 0 {
			h, err := t.s.lib.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION)
			if err != nil {
				return nil, fmt.Errorf("C_OpenSession: %w", err)
			}
			*session = h
		}
		r, err := j.run(*session)
		if err == nil {
			return r, nil
		}
		// A library's error may leave an operation active in the session, and
		// nothing must be signed in what remains of another signature.
		_ = t.s.lib.CloseSession(*session)
		*session = 0
		if again || !is(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_OPERATION_ACTIVE) {
			return nil, err
		}
	}
}

// readWrite runs f in a session in which objects can be made and destroyed, one
// at a time for each token.
func (t *token) readWrite(f func(pkcs11.SessionHandle) (*wire.Response, error)) *wire.Response {
	t.rw.Lock()
	defer t.rw.Unlock()
	h, err := t.s.lib.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return response(fmt.Errorf("C_OpenSession: %w", err))
	}
	defer func() { _ = t.s.lib.CloseSession(h) }()
	r, err := f(h)
	if err != nil {
		return response(err)
	}
	return r
}

// health checks token, login and session, and that a key that was found can
// still be read.
func (t *token) health(h pkcs11.SessionHandle) (*wire.Response, error) {
	if _, _, err := t.s.expect(t.slot, t.serial); err != nil {
		return nil, err
	}
	i, err := t.s.lib.GetSessionInfo(h)
	if err != nil {
		return nil, fmt.Errorf("C_GetSessionInfo: %w", err)
	}
	if i.State != stateROUser && i.State != stateRWUser {
		return nil, errorf(wire.CodeLogin, "not logged in")
	}
	if o := t.any(); o != nil {
		if _, err := t.s.lib.GetAttributeValue(h, o.handle(), []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, nil)}); err != nil {
			if is(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) { // destroyed by somebody else, or found again under a new login
				t.forget(o)
				return &wire.Response{}, nil
			}
			return nil, errorf(wire.CodeUnavailable, "C_GetAttributeValue: %w", err)
		}
	}
	return &wire.Response{}, nil
}
