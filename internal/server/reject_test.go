package server_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// One endorser who says the same again and again does not use up the places of
// the others.
func TestOneEndorserFloods(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	r, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	refused := 0
	for i := range 20 {
		e := w.Say(statement.Endorse, "bob", env, func(e *statement.Endorsement) { e.Created = e.Created.Add(time.Duration(i-30) * time.Second) })
		if _, err := s.Endorse(t.Context(), e); err != nil {
			wants(t, "again", err, "too-many-endorsements")
			refused++
		}
	}
	if refused != 12 {
		t.Errorf("%d of 20 were refused", refused)
	}
	_, err = s.Endorse(t.Context(), w.Endorse("carol", env))
	must(t, err)
	w.Until(s, r.ID, store.Executed)
}

// Forgeries fill the log at a bounded rate, and the same refusal is logged once;
// what somebody of the charter has signed is always logged.
func TestForgeriesFloodTheLog(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	s, _ := w.Server(st)
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	r, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	e, err := statement.DecodeEnvelope(w.Endorse("bob", env))
	must(t, err)
	sig := bytes.Clone(e.Signatures[0].Sig)
	const tries = 400
	for i := range tries {
		e.Signatures[0].Sig = bytes.Clone(sig)
		e.Signatures[0].Sig[len(sig)-1] ^= byte(i%255 + 1)
		e.Signatures[0].Sig[len(sig)-2] ^= byte(i / 255)
		b, err := e.Encode()
		must(t, err)
		wants(t, "forgery", second(s.Endorse(t.Context(), b)), "endorsement-refused")
	}
	true1 := w.Endorse("ann", env) // authentic, and she has no voice
	for range 3 {
		wants(t, "no voice", second(s.Endorse(t.Context(), true1)), "endorsement-refused")
	}
	count := func() (n int) {
		refs, err := st.EntriesOf(t.Context(), r.ID)
		must(t, err)
		for _, x := range refs {
			if x.Kind == audit.KindRejection {
				n++
			}
		}
		return n
	}
	// A later entry of the same request shows that all before it are in the log.
	_, err = s.Endorse(t.Context(), w.Say(statement.Disapprove, "bob", env))
	must(t, err)
	for range 3000 {
		refs, err := st.EntriesOf(t.Context(), r.ID)
		must(t, err)
		if len(refs) > 0 && refs[len(refs)-1].Kind == audit.KindEndorsement {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := count(); n < 201 || n >= tries {
		t.Errorf("%d of %d forgeries are in the log", n, tries)
	}
}
