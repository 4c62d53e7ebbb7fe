package receipt

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

func key(seed byte) ed25519.PrivateKey {
	s := make([]byte, ed25519.SeedSize)
	s[0] = seed
	return ed25519.NewKeyFromSeed(s)
}

func refusal(n uint64, previous statement.ID) statement.Receipt {
	return statement.Receipt{Deployment: "d", Number: n, Previous: previous, Request: statement.ID{1}, Charter: statement.CharterRef{Version: 1, ID: statement.ID{2}},
		Command: statement.Sign, Outcome: statement.Refused, Code: "expired", Time: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Endorsements: []statement.ID{}}
}

func signed(t *testing.T, k ed25519.PrivateKey, r statement.Receipt) []byte {
	t.Helper()
	payload, err := statement.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Sign(k.Public().(ed25519.PublicKey), payload, func(m []byte) ([]byte, error) { return ed25519.Sign(k, m), nil })
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Invariant 1: under one key only, and no byte of it otherwise.
func TestVerify(t *testing.T) {
	k := key(1)
	pub := k.Public().(ed25519.PublicKey)
	want := refusal(1, statement.ID{})
	env := signed(t, k, want)
	r, id, err := Verify(pub, env)
	if err != nil || r.Number != 1 || r.Code != want.Code || id == (statement.ID{}) {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, _, err := Verify(key(2).Public().(ed25519.PublicKey), env); !errors.Is(err, ErrReceipt) {
		t.Errorf("under another key: %v", err)
	}
	for i := range env {
		bad := append([]byte(nil), env...)
		bad[i] ^= 1
		if _, _, err := Verify(pub, bad); !errors.Is(err, ErrReceipt) {
			t.Errorf("byte %d altered: %v", i, err)
		}
	}
	for n := range env {
		if _, _, err := Verify(pub, env[:n]); !errors.Is(err, ErrReceipt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	// A raw signature of the same key over the same payload is none.
	e, err := statement.DecodeEnvelope(env)
	if err != nil {
		t.Fatal(err)
	}
	e.Signatures[0].Sig = ed25519.Sign(k, statement.PAE(e.Payload))
	raw, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(pub, raw); !errors.Is(err, ErrReceipt) {
		t.Errorf("a raw signature: %v", err)
	}
	e.Signatures = append(e.Signatures, e.Signatures[0])
	if two, err := e.Encode(); err != nil {
		t.Fatal(err)
	} else if _, _, err := Verify(pub, two); !errors.Is(err, ErrReceipt) {
		t.Errorf("two signatures: %v", err)
	}
}

func TestSignReportsTheKeysError(t *testing.T) {
	want := errors.New("token gone")
	payload, err := statement.Encode(refusal(1, statement.ID{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(key(1).Public().(ed25519.PublicKey), payload, func([]byte) ([]byte, error) { return nil, want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	if _, err := Sign(make(ed25519.PublicKey, 3), payload, nil); !errors.Is(err, ErrReceipt) {
		t.Errorf("a key of three bytes: %v", err)
	}
}

// Invariant 2: neighbours of one chain.
func TestFollows(t *testing.T) {
	first := refusal(1, statement.ID{})
	id := statement.ID{9}
	good := refusal(2, id)
	// It may have been judged before the one that ended before it.
	overlapping := good
	overlapping.Time = first.Time.Add(-Overlap)
	if err := Follows(&first, id, &overlapping); err != nil {
		t.Error(err)
	}
	if err := Follows(&first, id, &good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*statement.Receipt){
		"another deployment":  func(r *statement.Receipt) { r.Deployment = "e" },
		"a gap":               func(r *statement.Receipt) { r.Number = 3 },
		"the same number":     func(r *statement.Receipt) { r.Number = 1 },
		"another predecessor": func(r *statement.Receipt) { r.Previous = statement.ID{8} },
		"an earlier time":     func(r *statement.Receipt) { r.Time = r.Time.Add(-Overlap - time.Second) },
	} {
		bad := good
		change(&bad)
		if err := Follows(&first, id, &bad); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestParseKey(t *testing.T) {
	pub := key(1).Public().(ed25519.PublicKey)
	text := base64.StdEncoding.EncodeToString(pub)
	if got, err := ParseKey(text); err != nil || !got.Equal(pub) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "x", text + "\n", text[:len(text)-1], base64.StdEncoding.EncodeToString(pub[:31]), base64.RawStdEncoding.EncodeToString(pub)} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
