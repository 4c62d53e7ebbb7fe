//go:build unix

package soft

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Invariant 2, for every byte and for every length.
func TestTamper(t *testing.T) {
	p, path := fresh(t)
	generateAs(t, p, "a", sigalg.Ed25519)
	generateAs(t, p, "b", sigalg.P256)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	original, _, _, err := split(data)
	if err != nil {
		t.Fatal(err)
	}
	dataKey, err := original.unwrap(pass())
	if err != nil {
		t.Fatal(err)
	}
	// parse does what file.read does. The key of the unchanged passphrase part
	// is not derived again: that takes time and gives the same.
	parse := func(data []byte) error {
		h, ad, sealed, err := split(data)
		if err != nil {
			return err
		}
		k := dataKey
		if !bytes.Equal(h.Wrapped, original.Wrapped) || !bytes.Equal(h.WrapNonce, original.WrapNonce) ||
			h.KDF.Cost != original.KDF.Cost || !bytes.Equal(h.KDF.Salt, original.KDF.Salt) {
			if k, err = h.unwrap(pass()); err != nil {
				return err
			}
		}
		_, err = openBody(k, h, ad, sealed)
		return err
	}
	if err := parse(data); err != nil {
		t.Fatalf("untouched file: %v", err)
	}
	refused := func(what string, data []byte) {
		t.Helper()
		if err := parse(data); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrPassphrase) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		refused(fmt.Sprintf("byte %d changed", i), changed)
	}
	for n := range data {
		refused(fmt.Sprintf("truncated to %d", n), data[:n])
	}
	refused("one byte more", append(bytes.Clone(data), 0))
	refused("twice", append(bytes.Clone(data), data...))
	// The whole way once, through the file system.
	changed := bytes.Clone(data)
	changed[len(changed)-1] ^= 0x80
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, pass()); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("changed file: %v", err)
	}
}

// Invariant 2: parts of two files of one owner do not go together.
func TestSplice(t *testing.T) {
	p, path := fresh(t)
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	generateAs(t, p, "a", sigalg.Ed25519)
	second, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h1, ad1, sealed1, err := split(first)
	if err != nil {
		t.Fatal(err)
	}
	h2, ad2, sealed2, err := split(second)
	if err != nil {
		t.Fatal(err)
	}
	k := p.file.envelope.dataKey
	if _, err := openBody(k, h2, ad2, sealed2); err != nil {
		t.Fatal(err)
	}
	for i, err := range []error{
		second1(openBody(k, h1, ad1, sealed2)), second1(openBody(k, h2, ad2, sealed1)),
		second1(openBody(k, h1, ad2, sealed1)), second1(openBody(k, h1, ad2, sealed2)),
	} {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("splice %d: %v", i, err)
		}
	}
}

func second1(_ body, err error) error { return err }

// An older file put back while it is closed is valid but has a lower
// generation; put back while it is open, it is noticed and not written over.
func TestRollback(t *testing.T) {
	p, path := fresh(t)
	generateAs(t, p, "a", sigalg.Ed25519)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Destroy(t.Context(), "soft:a"); err != nil {
		t.Fatal(err)
	}
	if p.Generation() != 3 {
		t.Fatalf("generation %d", p.Generation())
	}
	if err := p.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Health(t.Context()); !errors.Is(err, ErrReplaced) {
		t.Fatalf("Health: %v", err)
	}
	if _, err := p.Generate(t.Context(), "soft:b", sigalg.Ed25519); !errors.Is(err, ErrReplaced) {
		t.Fatalf("Generate: %v", err)
	}
	if _, err := p.Open(t.Context(), "soft:b"); !errors.Is(err, key.ErrNotFound) {
		t.Fatalf("a key that was not written is there: %v", err)
	}
	again := reopen(t, p, path)
	if again.Generation() != 2 {
		t.Fatalf("generation %d", again.Generation())
	}
}

// Invariant 3.
func TestHostileParameters(t *testing.T) {
	p, path := fresh(t)
	good := p.file.envelope.header
	good.BodyNonce = make([]byte, 24)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	write := func(h any, tail int) {
		t.Helper()
		head, err := encode(h)
		if err != nil {
			t.Fatal(err)
		}
		data := append([]byte(magic), 0, 0, byte(len(head)>>8), byte(len(head)))
		if err := os.WriteFile(path, append(append(data, head...), make([]byte, tail)...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	with := func(change func(*header)) header {
		h := good
		change(&h)
		return h
	}
	for name, h := range map[string]header{
		"100 GB":         with(func(h *header) { h.KDF.Cost.Memory = 100 << 20 }),
		"all memory":     with(func(h *header) { h.KDF.Cost.Memory = 1<<32 - 1 }),
		"over maximum":   with(func(h *header) { h.KDF.Cost.Memory = maxCost.Memory + 1 }),
		"for ever":       with(func(h *header) { h.KDF.Cost.Time = 1<<32 - 1 }),
		"too many lanes": with(func(h *header) { h.KDF.Cost.Threads = 255 }),
		"weak memory":    with(func(h *header) { h.KDF.Cost.Memory = minCost.Memory - 1 }),
		"no memory":      with(func(h *header) { h.KDF.Cost.Memory = 0 }),
		"one pass":       with(func(h *header) { h.KDF.Cost.Time = 1 }),
		"no pass":        with(func(h *header) { h.KDF.Cost.Time = 0 }),
		"no lane":        with(func(h *header) { h.KDF.Cost.Threads = 0 }),
		"no salt":        with(func(h *header) { h.KDF.Salt = nil }),
		"short salt":     with(func(h *header) { h.KDF.Salt = h.KDF.Salt[:15] }),
		"short nonce":    with(func(h *header) { h.WrapNonce = h.WrapNonce[:12] }),
		"no body nonce":  with(func(h *header) { h.BodyNonce = nil }),
		"short key":      with(func(h *header) { h.Wrapped = h.Wrapped[:47] }),
	} {
		write(h, 100)
		if _, err := Open(path, pass()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(struct {
		header
		More int `cbor:"9,keyasint"`
	}{good, 1}, 100)
	if _, err := Open(path, pass()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("unknown member: %v", err)
	}
	write(good, 100) // the good header passes all of that, and fails at the body alone
	if _, err := Open(path, pass()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no body: %v", err)
	}
	if err := os.Truncate(path, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, pass()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("huge file: %v", err)
	}
}

// Whoever knows the data key can still not make the program take a body that
// this package would not write.
func TestHostileBody(t *testing.T) {
	p, _ := fresh(t)
	k := generateAs(t, p, "a", sigalg.Ed25519).(*entry)
	dsaLike, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := x509.MarshalPKCS8PrivateKey(dsaLike)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]body{
		"generation 0":    {Generation: 0},
		"unsorted":        {Generation: 1, Keys: []stored{{"b", k.pkcs8}, {"a", k.pkcs8}}},
		"twice":           {Generation: 1, Keys: []stored{{"a", k.pkcs8}, {"a", k.pkcs8}}},
		"bad name":        {Generation: 1, Keys: []stored{{"../a", k.pkcs8}}},
		"no key":          {Generation: 1, Keys: []stored{{"a", nil}}},
		"trailing":        {Generation: 1, Keys: []stored{{"a", append(bytes.Clone(k.pkcs8), 0)}}},
		"forbidden curve": {Generation: 1, Keys: []stored{{"a", p224}}},
	} {
		data, err := p.file.envelope.seal(b)
		if err != nil {
			t.Fatal(err)
		}
		h, ad, sealed, err := split(data)
		if err != nil {
			t.Fatal(err)
		}
		got, err := openBody(p.file.envelope.dataKey, h, ad, sealed)
		for _, s := range got.Keys {
			if err == nil {
				_, err = p.entryOf(s)
			}
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzSplit(f *testing.F) {
	p, path := fresh(f)
	if err := p.Close(); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(magic))
	f.Add(append([]byte(magic), 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, ad, sealed, err := split(data)
		if err != nil {
			return
		}
		head, err := encode(h)
		if err != nil || !bytes.Equal(ad[len(magic)+4:], head) {
			t.Fatalf("header does not encode to itself: %v", err)
		}
		if !bytes.Equal(append(bytes.Clone(ad), sealed...), data) {
			t.Fatal("parts are not the whole")
		}
	})
}

func FuzzBody(f *testing.F) {
	seed, err := encode(body{Generation: 1, Keys: []stored{{"a", []byte{1}}, {"b", []byte{2}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var b body
		if decode(data, &b) != nil {
			return
		}
		if again, err := encode(b); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("body does not encode to itself: %v", err)
		}
	})
}
