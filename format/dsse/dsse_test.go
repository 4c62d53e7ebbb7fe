package dsse_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/attest"
	"github.com/greatseal-io/greatseal/format/dsse"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// pair is an identity of two keys, and what they sign with.
func pair(t *testing.T) (format.Identity, []crypto.Signer) {
	t.Helper()
	_, ed, err1 := ed25519.GenerateKey(rand.Reader)
	ec, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	id := format.Identity{Scheme: sigalg.PureEd25519, Public: ed.Public(),
		Also: []format.Identity{{Scheme: sigalg.ECDSASHA256, Public: ec.Public()}}}
	return id, []crypto.Signer{ed, ec}
}

func sign(t *testing.T, keys []crypto.Signer, round []format.ToBeSigned) []format.Signature {
	t.Helper()
	var out []format.Signature
	for i, x := range round {
		sig, err := keys[i].Sign(rand.Reader, x.Message, crypto.Hash(0))
		if x.Scheme == sigalg.ECDSASHA256 {
			h := crypto.SHA256.New()
			h.Write(x.Message)
			sig, err = keys[i].Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, format.Signature{Value: sig})
	}
	return out
}

func TestInvariant1EveryKeySignsThePayload(t *testing.T) {
	id, _ := pair(t)
	payload := []byte(`{"a":1}`)
	round, err := dsse.Round(attest.New(), payload, id, nil)
	if err != nil || len(round) != 2 {
		t.Fatalf("%d, %v", len(round), err)
	}
	for i, x := range round {
		if !bytes.Equal(x.Message, statement.PAE(payload)) || x.Key != i {
			t.Errorf("key %d signs %q", x.Key, x.Message)
		}
	}
	if again, err := dsse.Round(attest.New(), payload, id, [][]byte{{1}, {2}}); len(again) != 0 || err != nil {
		t.Errorf("a second round: %v, %v", again, err)
	}
	if _, err := dsse.Round(attest.New(), payload, id, [][]byte{{1}}); err == nil {
		t.Error("half of a round was taken")
	}
	wrong := id
	wrong.Scheme = sigalg.ECDSASHA256
	if _, err := dsse.Round(attest.New(), payload, wrong, nil); err == nil {
		t.Error("a scheme that does not fit its key was taken")
	}
	many := id
	many.Also = slices.Repeat(id.Also, format.MaxKeys)
	if _, err := dsse.Round(attest.New(), payload, many, nil); err == nil {
		t.Error("more keys than there may be were taken")
	}
}

func TestInvariant2OnlyWhatWasSignedIsEnclosed(t *testing.T) {
	id, keys := pair(t)
	payload, f := []byte(`{"a":1}`), attest.New()
	a, p := format.BytesArtifact("x", []byte("file")), &format.Plan{Size: 4}
	round, err := dsse.Round(f, payload, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	sigs := sign(t, keys, round)
	if _, err := dsse.Signatures(f, a, p, payload, id, sigs); err != nil {
		t.Fatal(err)
	}
	stamped := slices.Clone(sigs)
	stamped[1].Timestamp = []byte{1}
	for what, try := range map[string]func() error{
		"another payload": func() error { _, err := dsse.Signatures(f, a, p, []byte(`{"a":2}`), id, sigs); return err },
		"signatures turned": func() error {
			_, err := dsse.Signatures(f, a, p, payload, id, []format.Signature{sigs[1], sigs[0]})
			return err
		},
		"one of two":   func() error { _, err := dsse.Signatures(f, a, p, payload, id, sigs[:1]); return err },
		"a timestamp":  func() error { _, err := dsse.Signatures(f, a, p, payload, id, stamped); return err },
		"another file": func() error { _, err := dsse.Signatures(f, a, &format.Plan{Size: 5}, payload, id, sigs); return err },
	} {
		if try() == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func TestInvariant3EverySignatureIsTrustedOnce(t *testing.T) {
	id, keys := pair(t)
	payload, f := []byte(`{"a":1}`), attest.New()
	round, err := dsse.Round(f, payload, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	sigs, err := dsse.Signatures(f, format.BytesArtifact("x", nil), &format.Plan{}, payload, id, sign(t, keys, round))
	if err != nil {
		t.Fatal(err)
	}
	both := []crypto.PublicKey{keys[1].Public(), keys[0].Public()}
	who, err := dsse.Judge("test", payload, sigs, both)
	if err != nil || len(who) != 2 || who[0].Scheme != sigalg.PureEd25519 || who[1].Scheme != sigalg.ECDSASHA256 || who[1].Key != keys[1].Public() {
		t.Fatalf("%+v, %v", who, err)
	}
	renamed := slices.Clone(sigs)
	renamed[0].KeyID, renamed[1].KeyID = sigs[1].KeyID, sigs[0].KeyID
	for what, try := range map[string]func() error{
		"a key that is not trusted": func() error { _, err := dsse.Judge("test", payload, sigs, both[:1]); return err },
		"a key that signs twice": func() error {
			_, err := dsse.Judge("test", payload, []statement.Signature{sigs[0], sigs[0]}, both)
			return err
		},
		"another payload":    func() error { _, err := dsse.Judge("test", []byte(`{}`), sigs, both); return err },
		"names changed over": func() error { _, err := dsse.Judge("test", payload, renamed, both); return err },
	} {
		if try() == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if _, err := dsse.Judge("test", payload, sigs, nil); !errors.Is(err, dsse.ErrNoKeys) {
		t.Errorf("%v", err)
	}
}
