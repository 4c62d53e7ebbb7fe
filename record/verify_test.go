package record_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Invariant 2: what is not signed is not in the verdict, and the verdict is a copy.
func TestTrusted(t *testing.T) {
	s := newScene(t)
	s.sign(recordtest.Signing{Audience: []string{"another", "protected"}, Revision: 7, Stamped: recordtest.At.Add(time.Minute)})
	s.rec.Attachments = []record.Attachment{s.rec.Attachments[1], s.rec.Attachments[0]} // the order says nothing
	v := recordtest.Verifier(t, s.trust)
	got, err := v.Verify(t.Context(), s.rec, record.Queue, s.sigs, s.marks)
	if err != nil {
		t.Fatal(err)
	}
	s.rec.Fields["sql_statement"] = "DROP TABLE orders"
	s.rec.Ref.Key[0] = "another"
	r := got.Record()
	if _, ok := r.Fields["last_run_datetime"]; ok || len(r.Fields) != 7 {
		t.Errorf("fields %v", r.Fields)
	}
	want := recordtest.DataSource()
	if sql, ok := got.Field("sql_statement"); !ok || sql != want.Fields["sql_statement"] || !r.Ref.Equal(want.Ref) || !got.Ref().Equal(want.Ref) {
		t.Errorf("%q, %v", sql, r.Ref)
	}
	if v, ok := got.Field("properties"); !ok || v != "" {
		t.Errorf("an absent field that is signed: %q, %v", v, ok)
	}
	if _, ok := got.Field("last_run_datetime"); ok {
		t.Error("a field that is not signed")
	}
	if !slices.Equal(got.Attachments(), want.Attachments) || got.Purpose() != record.Queue || got.Statement().Revision != 7 || got.Job() != recordtest.Job {
		t.Errorf("%+v", got)
	}
	if at, proved := got.SignedAt(); !proved || !at.Equal(recordtest.At.Add(time.Minute)) || !got.SignedBy().Equal(s.signer.Chain[0]) {
		t.Errorf("signed at %v, %v", at, proved)
	}
	r.Fields["sql_statement"], r.Ref.Key[0] = "x", "x"
	c, st := got.Configuration(), got.Statement()
	c.Fields[0], st.Fields[0].Name, st.Ref.Key[0] = "x", "x", "x"
	got.Attachments()[0].Name = "x"
	if sql, _ := got.Field("sql_statement"); sql == "x" || got.Ref().Key[0] == "x" || got.Configuration().Fields[0] == "x" || got.Statement().Fields[0].Name == "x" || got.Attachments()[0].Name == "x" {
		t.Error("a verdict can be changed")
	}
	if m, _ := s.marks.Highest(t.Context(), want.Ref); m != 7 {
		t.Errorf("the mark is %d", m)
	}
	var zero record.Trusted
	if f, ok := zero.Field("sql_statement"); f != "" || ok || zero.Ref().Table != "" || zero.SignedBy() != nil || zero.Purpose() != "" || len(zero.Attachments()) != 0 {
		t.Error("the zero value says something")
	}
}

// Purposes: the purpose itself, and the wild card on its two tables.
func TestPurposes(t *testing.T) {
	for _, c := range []struct {
		script  bool
		purpose string
		ok      bool
	}{
		{false, record.Queue, true}, {false, "deploy", false}, {false, record.Wildcard, false}, {false, "", false}, {false, record.Circle, false}, {false, record.Freshness, false},
		{true, record.Queue, true}, {true, "deploy", true}, {true, record.Wildcard, true}, {true, record.Circle, false}, {true, record.Freshness, false},
	} {
		s := newScene(t)
		if c.script {
			s.script()
		}
		s.purpose = c.purpose
		if err := s.verify(""); (err == nil) != c.ok {
			t.Errorf("script %v for %q: %v", c.script, c.purpose, err)
		}
	}
}

// Sign with A, then with B, revoke B: still valid through A, whoever signed last and
// whatever order the signatures stand in.
func TestSeveralSigners(t *testing.T) {
	a, b := recordtest.NewSigner(t, sigalg.P256), recordtest.NewSigner(t, sigalg.P384)
	rec := recordtest.DataSource()
	sigs := append(recordtest.Signing{Signer: a}.Sign(t, rec), recordtest.Signing{Signer: b, At: recordtest.At.Add(time.Minute), Revision: 2}.Sign(t, rec)...)
	for range 2 {
		slices.Reverse(sigs)
		for _, c := range []struct {
			name    string
			revoked []record.Revocation
			by      int // 1: a, 2: b, 0: nobody
		}{
			{"nobody is revoked", nil, 2},
			{"b is revoked", []record.Revocation{{Fingerprint: record.Fingerprint(b.Chain[0].Raw)}}, 1},
			{"a is revoked", []record.Revocation{{Fingerprint: record.Fingerprint(a.Chain[0].Raw)}}, 2},
			{"both are", []record.Revocation{{Fingerprint: record.Fingerprint(a.Chain[0].Raw)}, {Fingerprint: record.Fingerprint(b.Chain[0].Raw)}}, 0},
		} {
			trust := recordtest.Trust(a, b)
			trust.Revocations = c.revoked
			got, err := recordtest.Verifier(t, trust).Verify(t.Context(), rec, record.Queue, sigs, &recordtest.Marks{})
			by := 0
			if err == nil {
				by = map[bool]int{true: 1, false: 2}[got.SignedBy().Equal(a.Chain[0])]
			}
			if by != c.by {
				t.Errorf("%s: by %d (%v), want %d", c.name, by, err, c.by)
			}
		}
	}
}

// A bad signature in front of a good one hides it not: other records', other
// purposes', forged and future ones are not compared by age.
func TestNothingHidesAGoodSignature(t *testing.T) {
	s := newScene(t)
	good := s.sigs[0]
	foreign := recordtest.Copy(s.rec)
	foreign.Ref.Key = []string{"another"}
	changed := recordtest.Copy(s.rec)
	changed.Fields["sql_statement"] = "SELECT 2"
	later := recordtest.At.Add(time.Minute)
	forged := recordtest.Signing{Signer: s.signer, At: later}.Sign(t, changed)[0]
	r, err := record.DecodeSignedRoot(forged.Root)
	if err != nil {
		t.Fatal(err)
	}
	r.Signature[len(r.Signature)-1] ^= 1
	if forged.Root, err = r.Encode(); err != nil {
		t.Fatal(err)
	}
	stranger := recordtest.NewSigner(t, sigalg.P256)
	for name, bad := range map[string]record.Signature{
		"forged":          forged,
		"another record":  recordtest.Signing{Signer: s.signer, At: later}.Sign(t, foreign)[0],
		"another purpose": recordtest.Signing{Signer: s.signer, At: later, ID: "deployments", Configuration: other}.Sign(t, changed)[0],
		"another place":   recordtest.Signing{Signer: s.signer, At: later, Audience: []string{"another"}}.Sign(t, changed)[0],
		"the future":      recordtest.Signing{Signer: s.signer, At: s.trust.Now.Add(time.Hour)}.Sign(t, changed)[0],
		"not valid yet":   recordtest.Signing{Signer: s.signer, At: later, NotBefore: s.trust.Now.Unix() + 60}.Sign(t, changed)[0],
		"a stranger's":    recordtest.Signing{Signer: stranger, At: later, Revision: 9}.Sign(t, changed)[0],
		"no signature":    {Statement: []byte("x"), Root: []byte("y")},
		"nothing":         {},
	} {
		for _, sigs := range [][]record.Signature{{bad, good}, {good, bad}} {
			s.sigs, s.marks = sigs, &recordtest.Marks{}
			if err := s.verify(""); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.sigs = []record.Signature{bad}
		if s.verify("") == nil {
			t.Errorf("%s alone is accepted", name)
		}
	}
}

// What a timestamp proves older than a revocation stands.
func TestRevokedLater(t *testing.T) {
	s := newScene(t)
	s.sign(recordtest.Signing{Stamped: recordtest.At.Add(time.Minute)})
	for _, der := range [][]byte{s.signer.Chain[0].Raw, s.signer.Chain[0].RawSubjectPublicKeyInfo, s.signer.Chain[1].Raw} {
		s.trust.Revocations = nil
		s.revoke(der, recordtest.At.Add(2*time.Minute), true)
		s.marks = &recordtest.Marks{}
		if err := s.verify(""); err != nil {
			t.Error(err)
		}
		s.revoke(der, recordtest.At.Add(time.Minute), true) // a second one, not later than the stamp
		if err := s.verify(""); !errors.Is(err, &rejection.Error{Code: rejection.KeyCompromised}) {
			t.Error(err)
		}
	}
}

// A timestamp stands in for the keeper's time: stamped while the certificate was
// valid, verified after it expired.
func TestOldSignatureStaysGood(t *testing.T) {
	s := newScene(t)
	s.trust.Now = time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, stamped := range []time.Time{{}, recordtest.At} {
		s.sign(recordtest.Signing{Stamped: stamped})
		if err := s.verify(""); err != nil {
			t.Error(err)
		}
	}
}

func TestDeletion(t *testing.T) {
	s := newScene(t)
	v := recordtest.Verifier(t, s.trust)
	ref := s.rec.Ref
	gone := recordtest.Signing{Signer: s.signer, Deleted: true, Revision: 2, At: recordtest.At.Add(time.Minute)}.Sign(t, s.rec)
	both := append(slices.Clone(s.sigs), gone...)
	changed := recordtest.Copy(s.rec)
	changed.Fields["sql_statement"] = "SELECT 2"
	back := append(slices.Clone(both), recordtest.Signing{Signer: s.signer, Revision: 3, At: recordtest.At.Add(2 * time.Minute)}.Sign(t, s.rec)...)
	for _, c := range []struct {
		name string
		rec  *record.Record
		ref  record.Ref
		sigs []record.Signature
		mark uint64
		code rejection.Code
	}{
		{"signed", s.rec, ref, both, 0, ""},
		{"signed, and gone already", nil, ref, both, 0, ""},
		{"alone", s.rec, ref, gone, 0, ""},
		{"nobody signed it", s.rec, ref, s.sigs, 0, rejection.DeleteUnsigned},
		{"no signature at all", s.rec, ref, nil, 0, rejection.DeleteUnsigned},
		{"signed again since", s.rec, ref, back, 0, rejection.DeleteUnsigned},
		{"another content", changed, ref, both, 0, rejection.FieldChanged},
		{"another record", nil, record.Ref{Table: ref.Table, Key: []string{"x"}}, both, 0, rejection.RecordMismatch},
		{"the record is not the one", s.rec, record.Ref{Table: ref.Table, Key: []string{"x"}}, both, 0, rejection.RecordMismatch},
		{"older than what was seen", s.rec, ref, gone, 3, rejection.RevisionRollback},
	} {
		marks := &recordtest.Marks{}
		if err := marks.Raise(t.Context(), ref, c.mark); err != nil {
			t.Fatal(err)
		}
		d, err := v.VerifyDeletion(t.Context(), c.ref, c.rec, c.sigs, marks)
		if c.code == "" {
			if err != nil || !d.Ref().Equal(ref) || d.Statement().Revision != 2 {
				t.Errorf("%s: %v", c.name, err)
			}
			// It raised the mark: the record does not come back as it was.
			if _, err := v.Verify(t.Context(), s.rec, record.Queue, s.sigs, marks); !errors.Is(err, &rejection.Error{Code: rejection.RevisionRollback}) {
				t.Errorf("%s: the deleted record: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, &rejection.Error{Code: c.code}) {
			t.Errorf("%s: %v: want %s", c.name, err, c.code)
		}
	}
	// A deletion is no permission to run.
	if _, err := v.Verify(t.Context(), s.rec, record.Queue, gone, &recordtest.Marks{}); !errors.Is(err, &rejection.Error{Code: rejection.ActionMismatch}) {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), s.rec, record.Queue, back, &recordtest.Marks{}); err != nil {
		t.Errorf("signed again after its deletion: %v", err)
	}
}

// broken marks fail in one of their two methods.
type broken struct {
	recordtest.Marks
	highest, raise error
}

func (b *broken) Highest(context.Context, record.Ref) (uint64, error) { return 0, b.highest }
func (b *broken) Raise(context.Context, record.Ref, uint64) error     { return b.raise }

// Without marks, or where they fail, nothing is trusted.
func TestMarksFail(t *testing.T) {
	s := newScene(t)
	v := recordtest.Verifier(t, s.trust)
	disk := errors.New("disk")
	for name, m := range map[string]record.Marks{"highest": &broken{highest: disk}, "raise": &broken{raise: disk}} {
		if got, err := v.Verify(t.Context(), s.rec, record.Queue, s.sigs, m); got != nil || !errors.Is(err, disk) || rejection.Of(err) != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := v.Verify(t.Context(), s.rec, record.Queue, s.sigs, nil); got != nil || err == nil {
		t.Error("verified without marks")
	}
	// Another verification raised the mark between the two calls.
	if got, err := v.Verify(t.Context(), s.rec, record.Queue, s.sigs, &broken{raise: record.ErrLower}); got != nil || !errors.Is(err, &rejection.Error{Code: rejection.RevisionRollback}) {
		t.Errorf("%v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(ctx, s.rec, record.Queue, s.sigs, s.marks); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Invariant 5: the cache is of one trust. A revocation counts at once, with the
// same cache, and so do time and configuration.
func TestCacheIsOfOneTrust(t *testing.T) {
	s := newScene(t)
	roots := record.NewRoots(0)
	try := func(v *record.Verifier) error {
		_, err := v.Verify(t.Context(), s.rec, record.Queue, s.sigs, s.marks)
		return err
	}
	verifier := func() *record.Verifier {
		v, err := record.NewVerifier(s.trust, roots)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	s.sign(recordtest.Signing{Expires: s.trust.Now.Unix() + 10})
	v := verifier()
	if err := errors.Join(try(v), try(v)); err != nil {
		t.Fatal(err)
	}
	if n := roots.Len(); n != 1 {
		t.Errorf("%d roots in the cache", n)
	}
	if err := try(v.At(s.trust.Now.Add(time.Minute))); !errors.Is(err, &rejection.Error{Code: rejection.Expired}) {
		t.Error(err)
	}
	s.revoke(s.signer.Chain[0].Raw, time.Time{}, false)
	if err := try(verifier()); !errors.Is(err, &rejection.Error{Code: rejection.CertRevoked}) {
		t.Error(err)
	}
	s.trust.Revocations = nil
	s.trust.Anchors[0].Certificate = recordtest.NewSigner(t, sigalg.P256).Root.Root.Raw
	if err := try(verifier()); !errors.Is(err, &rejection.Error{Code: rejection.CertUnknown}) {
		t.Error(err)
	}
	s.trust = recordtest.Trust(s.signer)
	s.trust.Anchors[0].Purposes = nil // not in the cache's key, and judged each time
	if err := try(verifier()); !errors.Is(err, &rejection.Error{Code: rejection.CertUntrusted}) {
		t.Error(err)
	}
}

// One authority may be several anchors, each for its own purposes: any of them does,
// and a stranger's path says nothing for them.
func TestAnchorsOfOneAuthority(t *testing.T) {
	s := newScene(t)
	stranger := recordtest.NewSigner(t, sigalg.P256)
	s.trust.Anchors = []record.Anchor{
		recordtest.Anchor(stranger), recordtest.Anchor(s.signer, "deploy"), recordtest.Anchor(s.signer, record.Wildcard), recordtest.Anchor(s.signer, record.Queue),
	}
	if err := s.verify(""); err != nil {
		t.Error(err)
	}
	// The signer's own certificate is an anchor too, and the authority's is none then.
	s.trust.Anchors = []record.Anchor{{Name: "signer", Certificate: s.signer.Chain[0].Raw, Purposes: []string{record.Queue}}}
	s.marks = &recordtest.Marks{}
	if err := s.verify(""); err != nil {
		t.Error(err)
	}
	s.sign(recordtest.Signing{Signer: recordtest.NewSigner(t, sigalg.P256)})
	if err := s.verify(""); !errors.Is(err, &rejection.Error{Code: rejection.CertUnknown}) {
		t.Error(err)
	}
	// An anchor for this purpose does not help the path to one that is for another.
	s = newScene(t)
	s.trust.Anchors = []record.Anchor{recordtest.Anchor(stranger), recordtest.Anchor(s.signer, record.Wildcard)}
	if err := s.verify(""); !errors.Is(err, &rejection.Error{Code: rejection.CertUntrusted}) {
		t.Error(err)
	}
}

// Every kind of key signs and verifies.
func TestKeys(t *testing.T) {
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519, sigalg.MLDSA65, sigalg.MLDSA87} {
		s := newScene(t)
		s.signer = recordtest.NewSigner(t, kind)
		s.trust = recordtest.Trust(s.signer)
		if err := s.sign(recordtest.Signing{}).verify(""); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestVerifierRefusesBadTrust(t *testing.T) {
	for name, change := range map[string]func(*record.Trust){
		"no time":        func(t *record.Trust) { t.Now = time.Time{} },
		"no certificate": func(t *record.Trust) { t.Anchors[0].Certificate = []byte("x") },
		"no fingerprint": func(t *record.Trust) { t.Revocations = []record.Revocation{{Fingerprint: "00"}} },
		"upper case": func(t *record.Trust) {
			t.Revocations = []record.Revocation{{Fingerprint: "AB" + record.Fingerprint(nil)[2:]}}
		},
		"a floor of no record":     func(t *record.Trust) { t.Floors = []record.Floor{{Revision: 1}} },
		"a wild card written":      func(t *record.Trust) { c := recordtest.Configuration(); c.Purpose = "*"; t.Configurations["x"] = c },
		"a predefined one altered": func(t *record.Trust) { t.Configurations["script-includes"] = recordtest.Configuration() },
	} {
		trust := recordtest.Trust(recordtest.NewSigner(t, sigalg.P256))
		change(trust)
		if _, err := record.NewVerifier(trust, nil); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestConcurrentVerify(t *testing.T) {
	s := newScene(t)
	v := recordtest.Verifier(t, s.trust)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := v.Verify(t.Context(), s.rec, record.Queue, s.sigs, s.marks); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestExplain(t *testing.T) {
	s := newScene(t)
	v := recordtest.Verifier(t, s.trust)
	explain := func(purpose string, sigs ...record.Signature) *record.Report {
		t.Helper()
		r, err := v.Explain(t.Context(), s.rec, purpose, sigs, s.marks)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := explain(record.Queue, s.sigs...)
	if r.Verdict != record.Valid || r.Reason != nil || len(r.Signatures) != 1 || !r.Signatures[0].Newest || r.Signatures[0].Reason != nil {
		t.Errorf("%+v", r)
	}
	state := func(name string) record.FieldState {
		for _, f := range r.Signatures[0].Fields {
			if f.Name == name {
				return f.State
			}
		}
		return ""
	}
	if state("sql_statement") != record.FieldSame || state("last_run_datetime") != record.FieldUnsigned || state("properties") != record.FieldSame {
		t.Errorf("%+v", r.Signatures[0].Fields)
	}
	if m, _ := s.marks.Highest(t.Context(), s.rec.Ref); m != 0 {
		t.Error("explaining raises the mark")
	}
	if r := explain(record.Queue); r.Verdict != record.Missing || r.Reason.Code != rejection.SigMissing {
		t.Errorf("%+v", r)
	}
	if r := explain("deploy", s.sigs...); r.Verdict != record.Missing || r.Reason.Code != rejection.PurposeMismatch {
		t.Errorf("%+v", r)
	}
	s.rec.Fields["sql_statement"] = "SELECT 2"
	r = explain(record.Queue, s.sigs...)
	if r.Verdict != record.Invalid || r.Reason.Code != rejection.FieldChanged || state("sql_statement") != record.FieldChanged {
		t.Errorf("%+v", r)
	}
	// The same judgement as Verify's, for every attack.
	for _, a := range attacks {
		s := newScene(t)
		a.set(s)
		_, err := recordtest.Verifier(t, s.trust).Verify(t.Context(), s.rec, s.purpose, s.sigs, s.marks)
		r, err2 := recordtest.Verifier(t, s.trust).Explain(t.Context(), s.rec, s.purpose, s.sigs, s.marks)
		if err2 != nil || r.Verdict == record.Valid || err == nil || r.Reason.Error() != err.Error() {
			t.Errorf("%s: Verify says %v, Explain %+v (%v)", a.name, err, r, err2)
		}
	}
}

// A record that two configurations of one purpose ask for is judged under each by the
// signatures under it: the one that signs less stands in for no other.
func TestVerifyUnder(t *testing.T) {
	s := recordtest.NewSigner(t, sigalg.P256)
	less := recordtest.Configuration()
	less.Fields = []string{"name"}
	trust := recordtest.Trust(s)
	trust.Configurations["names"] = less
	v := recordtest.Verifier(t, trust)
	rec := recordtest.DataSource()
	wide := recordtest.Signing{Signer: s}.Sign(t, rec)
	narrow := recordtest.Signing{Signer: s, ID: "names", Configuration: less}.Sign(t, rec)
	changed := recordtest.Copy(rec)
	changed.Fields["sql_statement"] = "SELECT 2"
	script := recordtest.Script()
	wild := recordtest.Signing{Signer: s, ID: "script-includes"}.Sign(t, script)
	for name, c := range map[string]struct {
		rec  *record.Record
		id   string
		sigs []record.Signature
		want rejection.Code // "": verified
	}{
		"its own":                      {rec, recordtest.ID, wide, ""},
		"both, the wider":              {rec, recordtest.ID, slices.Concat(narrow, wide), ""},
		"both, the narrower":           {changed, "names", slices.Concat(wide, narrow), ""},
		"the narrower alone":           {rec, recordtest.ID, narrow, rejection.SigMissing},
		"the narrower alone, a change": {changed, recordtest.ID, narrow, rejection.SigMissing},
		"both, a change":               {changed, recordtest.ID, slices.Concat(narrow, wide), rejection.FieldChanged},
		"the wider alone":              {rec, "names", wide, rejection.SigMissing},
		"one that is not in force":     {rec, "another", wide, rejection.ConfigOutdated},
		"the wild card's":              {script, "script-includes", wild, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tr, err := v.VerifyUnder(t.Context(), c.rec, c.id, c.sigs, &recordtest.Marks{})
			if r := rejection.Of(err); c.want == "" && (err != nil || tr.Statement().Configuration.ID != c.id) || c.want != "" && (r == nil || r.Code != c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
