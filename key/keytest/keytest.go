// Package keytest is the conformance suite of key providers: one set of
// promises, run by every provider against what it really stores keys in.
//
// It holds providers to the invariants of package key:
//
//  1. No error, and no way of printing a provider or a key, shows a secret.
//  2. A key signs under the schemes that fit its kind, and under no others; what
//     it signs is verified by [sigalg.Verify].
//  3. Generate never replaces a key.
//
// and to what callers rely on besides: errors are the sentinels, a public key
// survives closing and opening, keys work from many goroutines at once, a
// destroyed key and a closed provider sign no more.
//
// A provider that passes is not thereby secure: what an attacker does to its
// storage is the business of its own tests.
package keytest

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Options says what a provider can do and how its keys are named.
type Options struct {
	// Algorithms are the kinds of key that the provider generates; at least one.
	Algorithms []sigalg.Key
	// URI names a key; it is given names that match [a-z0-9-]+.
	URI func(name string) key.URI
	// Malformed are URIs that the provider refuses as such; at least one.
	Malformed []key.URI
	// Secrets must occur in no error and no printed value, nor in hexadecimal or
	// base64: the passphrase, the PIN; at least one.
	Secrets []string
}

type suite struct {
	open func(*testing.T) key.Provider
	o    Options
}

// Run runs the suite. Each call of open opens the same store, which must be
// empty at first; Run closes what it was given before it calls open again. The
// provider must be a Generator and a Destroyer.
func Run(t *testing.T, open func(t *testing.T) key.Provider, o Options) {
	t.Helper()
	if len(o.Algorithms) == 0 || o.URI == nil || len(o.Malformed) == 0 || len(o.Secrets) == 0 {
		t.Fatal("keytest: Options must name algorithms, URIs, malformed URIs and secrets")
	}
	s := &suite{open, o}
	t.Run("Identity", s.identity)
	t.Run("NotFound", s.notFound)
	t.Run("Malformed", s.malformed)
	for _, k := range o.Algorithms {
		t.Run("Algorithm/"+string(k), func(t *testing.T) { s.algorithm(t, k) })
	}
	t.Run("UnknownAlgorithm", s.unknownAlgorithm)
	t.Run("GenerateRace", s.generateRace)
	t.Run("Concurrency", s.concurrency)
	t.Run("Destroy", s.destroy)
	t.Run("Context", s.context)
	t.Run("Closed", s.closed)
}

// provider is an opened provider that watches the errors for secrets.
type provider struct {
	key.Provider
	key.Generator
	key.Destroyer
	t       *testing.T
	secrets []string
}

func (s *suite) start(t *testing.T) *provider {
	t.Helper()
	p := s.open(t)
	g, ok := p.(key.Generator)
	if !ok {
		t.Fatalf("%T is no key.Generator", p)
	}
	d, ok := p.(key.Destroyer)
	if !ok {
		t.Fatalf("%T is no key.Destroyer", p)
	}
	w := &provider{p, g, d, t, s.o.Secrets}
	w.clean("provider", p)
	t.Cleanup(func() { _ = p.Close() })
	return w
}

// clean fails the test when a printed form of v contains a secret.
func (p *provider) clean(what string, v any) {
	p.t.Helper()
	printed := fmt.Sprintf("%v\n%+v\n%#v\n%s", v, v, v, v)
	for _, secret := range p.secrets {
		for _, form := range []string{
			secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
			base64.StdEncoding.EncodeToString([]byte(secret)), strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
		} {
			if strings.Contains(printed, form) {
				p.t.Errorf("%s shows a secret when printed", what)
			}
		}
	}
}

// wants fails the test unless err is want; a nil want asks for success.
func (p *provider) wants(what string, err, want error) {
	p.t.Helper()
	if err != nil {
		p.clean("error of "+what, err)
	}
	if !errors.Is(err, want) {
		p.t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

// refuses fails the test unless err is an error that is none of the sentinels
// that a caller would act upon.
func (p *provider) refuses(what string, err error) {
	p.t.Helper()
	if err == nil {
		p.t.Fatalf("%s: accepted", what)
	}
	p.clean("error of "+what, err)
	for _, wrong := range []error{key.ErrNotFound, key.ErrExists, key.ErrUnavailable} {
		if errors.Is(err, wrong) {
			p.t.Fatalf("%s: error %v is %v", what, err, wrong)
		}
	}
}

func (p *provider) generate(uri key.URI, k sigalg.Key) key.Key {
	p.t.Helper()
	made, err := p.Generate(p.t.Context(), uri, k)
	p.wants("Generate "+string(uri), err, nil)
	p.clean("key", made)
	return made
}

func (p *provider) find(uri key.URI) key.Key {
	p.t.Helper()
	found, err := p.Open(p.t.Context(), uri)
	p.wants("Open "+string(uri), err, nil)
	p.clean("key", found)
	return found
}

func (s *suite) identity(t *testing.T) {
	p := s.start(t)
	if p.Name() == "" || s.o.URI("a").Provider() != p.Name() {
		t.Fatalf("provider %q serves URIs of %q", p.Name(), s.o.URI("a").Provider())
	}
	p.wants("Health", p.Health(t.Context()), nil)
}

func (s *suite) notFound(t *testing.T) {
	p := s.start(t)
	k, err := p.Open(t.Context(), s.o.URI("nobody"))
	p.wants("Open", err, key.ErrNotFound)
	if k != nil {
		t.Fatal("Open returned a key with its error")
	}
	p.wants("Destroy", p.Destroy(t.Context(), s.o.URI("nobody")), key.ErrNotFound)
}

func (s *suite) malformed(t *testing.T) {
	p := s.start(t)
	for _, uri := range append(s.o.Malformed, "", ":", key.URI(p.Name()), key.URI(p.Name()+":"), "other:"+"name",
		s.o.URI("a")+"\x00", s.o.URI("a")+"\n", " "+s.o.URI("a")) {
		_, err := p.Open(t.Context(), uri)
		p.refuses(fmt.Sprintf("Open %q", uri), err)
		_, err = p.Generate(t.Context(), uri, s.cheap())
		p.refuses(fmt.Sprintf("Generate %q", uri), err)
		p.refuses(fmt.Sprintf("Destroy %q", uri), p.Destroy(t.Context(), uri))
	}
}

func (s *suite) algorithm(t *testing.T, k sigalg.Key) {
	p := s.start(t)
	uri := s.o.URI("all-" + string(k))
	made := p.generate(uri, k)
	signs(t, p, made, k)

	if _, err := p.Generate(t.Context(), uri, k); err == nil {
		t.Fatal("Generate replaced a key")
	} else {
		p.wants("Generate again", err, key.ErrExists)
	}
	found := p.find(uri)
	same(t, made.Public(), found.Public())

	p.wants("Close", p.Close(), nil)
	again := s.start(t)
	reopened := again.find(uri)
	same(t, made.Public(), reopened.Public())
	signs(t, again, reopened, k)
}

// signs checks every scheme on one key, those that fit and those that do not.
func signs(t *testing.T, p *provider, signer key.Key, k sigalg.Key) {
	t.Helper()
	if signer.Algorithm() != k {
		t.Fatalf("Algorithm is %q, want %q", signer.Algorithm(), k)
	}
	if got, err := sigalg.KeyOf(signer.Public()); err != nil || got != k {
		t.Fatalf("Public is a %q (%v), want %q", got, err, k)
	}
	for _, scheme := range schemes() {
		message := []byte("what is signed under " + string(scheme))
		input := scheme.Input(message)
		if !scheme.Fits(k) {
			_, err := signer.Sign(t.Context(), scheme, input)
			p.wants("Sign under "+string(scheme), err, key.ErrScheme)
			continue
		}
		given := bytes.Clone(input)
		sig, err := signer.Sign(t.Context(), scheme, given)
		p.wants("Sign under "+string(scheme), err, nil)
		if !bytes.Equal(given, input) {
			t.Fatalf("%s: Sign changed its input", scheme)
		}
		if err := sigalg.Verify(signer.Public(), scheme, message, sig); err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		if err := sigalg.Verify(signer.Public(), scheme, []byte("something else"), sig); !errors.Is(err, sigalg.ErrSignature) {
			t.Fatalf("%s: signature verifies another message: %v", scheme, err)
		}
		if scheme.Hash() == 0 {
			for _, m := range [][]byte{nil, {0}, bytes.Repeat([]byte("long "), 10_000)} {
				sig, err := signer.Sign(t.Context(), scheme, m)
				p.wants(fmt.Sprintf("Sign %d bytes", len(m)), err, nil)
				if err := sigalg.Verify(signer.Public(), scheme, m, sig); err != nil {
					t.Fatalf("%s over %d bytes: %v", scheme, len(m), err)
				}
			}
			continue
		}
		for _, n := range []int{0, 1, len(input) - 1, len(input) + 1, 2 * len(input)} {
			_, err := signer.Sign(t.Context(), scheme, make([]byte, n))
			p.refuses(fmt.Sprintf("Sign %d bytes under %s", n, scheme), err)
		}
	}
	for _, scheme := range []sigalg.Scheme{"", "none", "rsa", "RSA-PSS-SHA256"} {
		_, err := signer.Sign(t.Context(), scheme, make([]byte, 32))
		p.wants(fmt.Sprintf("Sign under %q", scheme), err, key.ErrScheme)
	}
}

func (s *suite) unknownAlgorithm(t *testing.T) {
	p := s.start(t)
	uri := s.o.URI("unknown")
	for _, k := range []sigalg.Key{"", "rsa-2048", "rsa-1024", "ecdsa-p224", "ED25519"} {
		_, err := p.Generate(t.Context(), uri, k)
		p.refuses(fmt.Sprintf("Generate %q", k), err)
	}
	for _, k := range sigalg.Keys() {
		if !s.generates(k) {
			_, err := p.Generate(t.Context(), uri, k)
			p.refuses(fmt.Sprintf("Generate %q", k), err)
		}
	}
	_, err := p.Open(t.Context(), uri)
	p.wants("Open", err, key.ErrNotFound)
}

// generateRace: of many that generate one name, exactly one succeeds, and its
// key is the one that is there afterwards.
func (s *suite) generateRace(t *testing.T) {
	p := s.start(t)
	uri := s.o.URI("race")
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		won  []key.Key
		errs []error
	)
	for range 6 {
		wg.Go(func() {
			k, err := p.Generate(t.Context(), uri, s.cheap())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else {
				won = append(won, k)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		p.wants("Generate", err, key.ErrExists)
	}
	if len(won) != 1 {
		t.Fatalf("%d generated the same key", len(won))
	}
	same(t, won[0].Public(), p.find(uri).Public())
}

// concurrency: one key and several keys sign from many goroutines.
func (s *suite) concurrency(t *testing.T) {
	p := s.start(t)
	var keys []key.Key
	for i := range 2 {
		keys = append(keys, p.generate(s.o.URI(fmt.Sprintf("many-%d", i)), s.cheap()))
	}
	scheme := s.cheap().Default()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			signer := keys[g%len(keys)]
			for i := range 20 {
				message := fmt.Appendf(nil, "goroutine %d message %d", g, i)
				sig, err := signer.Sign(t.Context(), scheme, scheme.Input(message))
				if err != nil {
					t.Errorf("Sign: %v", err)
					return
				}
				if err := sigalg.Verify(signer.Public(), scheme, message, sig); err != nil {
					t.Errorf("signature of another message or key: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (s *suite) destroy(t *testing.T) {
	p := s.start(t)
	uri, other := s.o.URI("short-lived"), s.o.URI("long-lived")
	k, stays := p.generate(uri, s.cheap()), p.generate(other, s.cheap())
	old := k.Public()
	p.wants("Destroy", p.Destroy(t.Context(), uri), nil)
	_, err := p.Open(t.Context(), uri)
	p.wants("Open", err, key.ErrNotFound)
	p.wants("Destroy again", p.Destroy(t.Context(), uri), key.ErrNotFound)
	scheme := s.cheap().Default()
	_, err = k.Sign(t.Context(), scheme, scheme.Input([]byte("late")))
	p.wants("Sign with a destroyed key", err, key.ErrNotFound)
	signs(t, p, stays, s.cheap())

	next := p.generate(uri, s.cheap())
	if equal(old, next.Public()) {
		t.Fatal("a destroyed key came back")
	}
	// A handle of the destroyed key must not sign with its namesake.
	if _, err = k.Sign(t.Context(), scheme, scheme.Input([]byte("later"))); err == nil {
		t.Fatal("the handle of a destroyed key signs with another key of its name")
	}
	p.clean("error of Sign", err)

	p.wants("Close", p.Close(), nil)
	again := s.start(t)
	same(t, next.Public(), again.find(uri).Public())
	same(t, stays.Public(), again.find(other).Public())
}

func (s *suite) context(t *testing.T) {
	p := s.start(t)
	k := p.generate(s.o.URI("patient"), s.cheap())
	done, cancel := context.WithCancel(t.Context())
	cancel()
	scheme := s.cheap().Default()
	_, err := k.Sign(done, scheme, scheme.Input([]byte("x")))
	p.wants("Sign", err, context.Canceled)
	_, err = p.Open(done, s.o.URI("patient"))
	p.wants("Open", err, context.Canceled)
	_, err = p.Generate(done, s.o.URI("impatient"), s.cheap())
	p.wants("Generate", err, context.Canceled)
	p.wants("Destroy", p.Destroy(done, s.o.URI("patient")), context.Canceled)
	same(t, k.Public(), p.find(s.o.URI("patient")).Public())
}

// closed: a closed provider does nothing any more, also when it is closed while
// its keys sign.
func (s *suite) closed(t *testing.T) {
	p := s.start(t)
	uri := s.o.URI("closing")
	k := p.generate(uri, s.cheap())
	scheme := s.cheap().Default()
	input := scheme.Input([]byte("x"))
	var (
		wg      sync.WaitGroup
		started atomic.Int32
	)
	for range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := k.Sign(context.WithoutCancel(t.Context()), scheme, input)
				if i == 0 {
					started.Add(1)
				}
				if err != nil {
					if !errors.Is(err, key.ErrUnavailable) {
						t.Errorf("Sign while closing: %v", err)
					}
					return
				}
			}
		})
	}
	for started.Load() < 4 {
		sig, err := k.Sign(t.Context(), scheme, input)
		if err != nil || sigalg.Verify(k.Public(), scheme, []byte("x"), sig) != nil {
			t.Fatalf("Sign before closing: %v", err)
		}
	}
	p.wants("Close", p.Close(), nil)
	wg.Wait()
	p.wants("Close again", p.Close(), nil)
	_, err := k.Sign(t.Context(), scheme, input)
	p.wants("Sign", err, key.ErrUnavailable)
	_, err = p.Open(t.Context(), uri)
	p.wants("Open", err, key.ErrUnavailable)
	_, err = p.Generate(t.Context(), s.o.URI("too-late"), s.cheap())
	p.wants("Generate", err, key.ErrUnavailable)
	p.wants("Destroy", p.Destroy(t.Context(), uri), key.ErrUnavailable)
	p.wants("Health", p.Health(t.Context()), key.ErrUnavailable)
	same(t, k.Public(), s.start(t).find(uri).Public())
}

func (s *suite) generates(k sigalg.Key) bool {
	for _, have := range s.o.Algorithms {
		if have == k {
			return true
		}
	}
	return false
}

// cheap is the kind of key that is generated soonest.
func (s *suite) cheap() sigalg.Key {
	for _, k := range []sigalg.Key{sigalg.P256, sigalg.Ed25519, sigalg.P384} {
		if s.generates(k) {
			return k
		}
	}
	return s.o.Algorithms[0]
}

func schemes() []sigalg.Scheme {
	return []sigalg.Scheme{
		sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512,
		sigalg.RSAPSSSHA256, sigalg.RSAPSSSHA384, sigalg.RSAPSSSHA512,
		sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.ECDSASHA512,
		sigalg.PureEd25519, sigalg.PureMLDSA65, sigalg.PureMLDSA87,
	}
}

func same(t *testing.T, want, got crypto.PublicKey) {
	t.Helper()
	if !equal(want, got) {
		t.Fatal("the public key changed")
	}
}

func equal(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}
