//go:build cgo && unix

package module

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/greatseal-io/greatseal/key"
	parent "github.com/greatseal-io/greatseal/key/pkcs11"
	"github.com/greatseal-io/greatseal/sigalg"
)

// pairs calls make with a session in which keys can be made as somebody else's
// software might: SoftHSM is loaded into this process for that.
func (h *hsm) pairs(t *testing.T, make func(lib *pkcs11.Ctx, s pkcs11.SessionHandle)) {
	t.Helper()
	t.Setenv("SOFTHSM2_CONF", strings.TrimPrefix(h.env[0], "SOFTHSM2_CONF="))
	lib := pkcs11.New(softHSM)
	if lib == nil {
		t.Fatal("SoftHSM does not load")
	}
	defer lib.Destroy()
	if err := lib.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lib.Finalize() }()
	slots, err := lib.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		if i, err := lib.GetTokenInfo(slot); err != nil || i.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		s, err := lib.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		if err := lib.Login(s, pkcs11.CKU_USER, pin); err != nil {
			t.Fatal(err)
		}
		make(lib, s)
		return
	}
	t.Fatal("no token")
}

// ec makes a pair with what differs from a good one.
func ec(t *testing.T, lib *pkcs11.Ctx, s pkcs11.SessionHandle, label, pubID, privID string, different ...*pkcs11.Attribute) {
	t.Helper()
	attr := pkcs11.NewAttribute
	private := []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_ID, []byte(privID)),
		attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false), attr(pkcs11.CKA_SIGN, true),
	}
	for _, d := range different {
		private = slices.DeleteFunc(private, func(a *pkcs11.Attribute) bool { return a.Type == d.Type })
	}
	_, _, err := lib.GenerateKeyPair(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}, []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_ID, []byte(pubID)),
		attr(pkcs11.CKA_EC_PARAMS, oidP256), attr(pkcs11.CKA_VERIFY, true),
	}, append(private, different...))
	if err != nil {
		t.Fatalf("%s: %v", label, err)
	}
}

// Invariant 5 of key/pkcs11.
func TestUnfit(t *testing.T) {
	h := newHSM(t, "hsm")
	attr := pkcs11.NewAttribute
	h.pairs(t, func(lib *pkcs11.Ctx, s pkcs11.SessionHandle) {
		ec(t, lib, s, "good", "0", "0")
		ec(t, lib, s, "extractable", "1", "1", attr(pkcs11.CKA_EXTRACTABLE, true))
		ec(t, lib, s, "not-sensitive", "2", "2", attr(pkcs11.CKA_SENSITIVE, false))
		ec(t, lib, s, "not-private", "3", "3", attr(pkcs11.CKA_PRIVATE, false))
		ec(t, lib, s, "not-signing", "4", "4", attr(pkcs11.CKA_SIGN, false))
		ec(t, lib, s, "always-authenticate", "5", "5", attr(pkcs11.CKA_ALWAYS_AUTHENTICATE, true))
		ec(t, lib, s, "no-public", "6", "7")
		// Two pairs whose public halves are exchanged.
		ec(t, lib, s, "swapped-a", "8", "9")
		ec(t, lib, s, "swapped-b", "9", "8")
		// A name that two keys have, and IDs that tell them apart.
		ec(t, lib, s, "twins", "10", "10")
		ec(t, lib, s, "twins", "11", "11")
		ec(t, lib, s, "two-public", "12", "12")
		ec(t, lib, s, "two-public-other", "12", "13")
		if _, _, err := lib.GenerateKeyPair(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
			[]*pkcs11.Attribute{
				attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, "small"), attr(pkcs11.CKA_ID, []byte("14")),
				attr(pkcs11.CKA_MODULUS_BITS, 2048), attr(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
			}, []*pkcs11.Attribute{
				attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_LABEL, "small"), attr(pkcs11.CKA_ID, []byte("14")),
				attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false), attr(pkcs11.CKA_SIGN, true),
			}); err != nil {
			t.Fatal(err)
		}
	})
	p, _ := h.open(t, nil)
	good, err := p.Open(t.Context(), uri("good"))
	if err != nil {
		t.Fatal(err)
	}
	signs(t, good)
	for name, want := range map[string]error{
		"extractable": parent.ErrUnfit, "not-sensitive": parent.ErrUnfit, "not-private": parent.ErrUnfit, "not-signing": parent.ErrUnfit,
		"always-authenticate": parent.ErrUnfit, "no-public": parent.ErrUnfit, "swapped-a": parent.ErrUnfit, "swapped-b": parent.ErrUnfit,
		"small": parent.ErrUnfit, "twins": parent.ErrAmbiguous, "two-public": parent.ErrAmbiguous, "absent": key.ErrNotFound,
	} {
		if _, err := p.Open(t.Context(), uri(name)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	for _, id := range []string{"10", "11"} {
		k, err := p.Open(t.Context(), uri("twins;id="+id))
		if err != nil {
			t.Fatal(err)
		}
		signs(t, k)
	}
	if err := p.Destroy(t.Context(), uri("twins")); !errors.Is(err, parent.ErrAmbiguous) {
		t.Errorf("Destroy of two keys: %v", err)
	}
	if err := p.Destroy(t.Context(), uri("twins;id=10")); err != nil {
		t.Errorf("Destroy by ID: %v", err)
	}
	if _, err := p.Open(t.Context(), uri("twins")); err != nil {
		t.Errorf("the other twin: %v", err)
	}
	// Taken, by whatever: label, ID, and each of them alone.
	for _, u := range []key.URI{uri("extractable"), uri("no-public"), uri("new;id=12"), uri("new;id=13")} {
		if _, err := p.Generate(t.Context(), u, sigalg.P256); !errors.Is(err, key.ErrExists) {
			t.Errorf("Generate %s: %v", u, err)
		}
	}
	if _, err := p.Generate(t.Context(), "pkcs11:token=hsm;id=99", sigalg.P256); !errors.Is(err, parent.ErrURI) {
		t.Errorf("Generate without a label: %v", err)
	}
	// What is unfit can be looked at.
	a, err := p.Attributes(t.Context(), uri("extractable"))
	if err != nil || !a.Extractable || a.NeverExtractable || !a.Sensitive || a.Algorithm != sigalg.P256 || string(a.ID) != "1" || a.Token.Label != "hsm" {
		t.Errorf("Attributes: %+v, %v", a, err)
	}
	if a, err = p.Attributes(t.Context(), uri("not-sensitive")); err != nil || a.Sensitive {
		t.Errorf("Attributes: %+v, %v", a, err)
	}
	if _, err = p.Attributes(t.Context(), uri("absent")); !errors.Is(err, key.ErrNotFound) {
		t.Errorf("Attributes: %v", err)
	}
}

// Invariant 6 of key/pkcs11, as the token itself and another program see it.
func TestGenerated(t *testing.T) {
	h := newHSM(t, "hsm")
	p, _ := h.open(t, nil)
	for _, k := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519} {
		made := generate(t, p, uri(string(k)), k)
		a, err := p.Attributes(t.Context(), uri(string(k)))
		if err != nil {
			t.Fatal(err)
		}
		if !a.Sensitive || !a.AlwaysSensitive || a.Extractable || !a.NeverExtractable || !a.Local || !a.Private || !a.Sign ||
			a.AlwaysAuthenticate || a.Modifiable || a.Label != string(k) || len(a.ID) != 16 || a.Algorithm != k || a.Token.Serial == "" {
			t.Errorf("%s: %+v", k, a)
		}
		if !made.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(a.Public) {
			t.Errorf("%s: another public key", k)
		}
		byID, err := p.Open(t.Context(), parent.URI{Token: "hsm", ID: string(a.ID)}.Key())
		if err != nil {
			t.Fatalf("by ID %s: %v", hex.EncodeToString(a.ID), err)
		}
		signs(t, byID)
		signs(t, made)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	h.pairs(t, func(lib *pkcs11.Ctx, s pkcs11.SessionHandle) {
		if err := lib.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}); err != nil {
			t.Fatal(err)
		}
		found, _, err := lib.FindObjects(s, 10)
		if err != nil || len(found) != 4 {
			t.Fatalf("%d keys: %v", len(found), err)
		}
		if err := lib.FindObjectsFinal(s); err != nil {
			t.Fatal(err)
		}
		for _, o := range found {
			for _, off := range []uint{pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE, pkcs11.CKA_SIGN_RECOVER} {
				got, err := lib.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(off, nil)})
				if err != nil || !bytes.Equal(got[0].Value, []byte{0}) {
					t.Errorf("attribute %#x: %v", off, err)
				}
			}
			for _, a := range []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true)} {
				if err := lib.SetAttributeValue(s, o, []*pkcs11.Attribute{a}); err == nil {
					t.Errorf("attribute %#x can be set", a.Type)
				}
			}
		}
	})
}

func TestTokens(t *testing.T) {
	h := newHSM(t, "hsm", "other", "twin", "twin")
	p, _ := h.open(t, nil)
	if _, err := p.Generate(t.Context(), "pkcs11:token=twin;object=a", sigalg.P256); !errors.Is(err, parent.ErrAmbiguous) {
		t.Fatalf("two tokens of one label: %v", err)
	}
	if _, err := p.Generate(t.Context(), "pkcs11:token=absent;object=a", sigalg.P256); !errors.Is(err, key.ErrUnavailable) {
		t.Fatalf("no token: %v", err)
	}
	if _, err := p.Generate(t.Context(), "pkcs11:token=hsm;manufacturer=Nobody;object=a", sigalg.P256); !errors.Is(err, key.ErrUnavailable) {
		t.Fatalf("token of another manufacturer: %v", err)
	}
	a, b := generate(t, p, "pkcs11:token=hsm;object=a", sigalg.P256), generate(t, p, "pkcs11:token=other;object=a", sigalg.P256)
	signs(t, a)
	signs(t, b)
	at, err := p.Attributes(t.Context(), "pkcs11:token=other;object=a")
	if err != nil {
		t.Fatal(err)
	}
	k, err := p.Open(t.Context(), key.URI("pkcs11:serial="+at.Token.Serial+";object=a"))
	if err != nil || !b.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
		t.Fatalf("by serial: %v", err)
	}
}

// One session serves many callers, and more are asked for than a queue holds.
func TestOneSession(t *testing.T) {
	h := newHSM(t, "hsm")
	p, _ := h.open(t, func(c *parent.Config) { c.Sessions = 1 })
	k := generate(t, p, uri("a"), sigalg.P256)
	errs := make(chan error)
	for range 200 {
		go func() {
			_, err := k.Sign(context.WithoutCancel(t.Context()), sigalg.ECDSASHA256, make([]byte, 32))
			errs <- err
		}()
	}
	for range 200 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestPoints(t *testing.T) {
	g := elliptic.P256().Params()
	point := append([]byte{4}, append(g.Gx.FillBytes(make([]byte, 32)), g.Gy.FillBytes(make([]byte, 32))...)...)
	wrapped := append([]byte{4, 65}, point...)
	off := bytes.Clone(point)
	off[64] ^= 1
	for name, c := range map[string]struct {
		params, point []byte
		ok            bool
	}{
		"wrapped": {oidP256, wrapped, true}, "bare": {oidP256, point, true},
		"off the curve": {oidP256, off, false}, "short": {oidP256, wrapped[:66], false}, "long": {oidP256, append(bytes.Clone(wrapped), 0), false},
		"other curve": {oidP384, wrapped, false}, "no curve": {nil, wrapped, false}, "nothing": {oidP256, nil, false},
		"infinity": {oidP256, []byte{0}, false}, "compressed": {oidP256, append([]byte{2}, point[1:33]...), false},
	} {
		if _, err := ecPublic(c.params, c.point); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n, ok := range map[int]bool{0: false, 31: false, 32: true, 33: false, 34: false} {
		if _, err := edPublic(oidEd25519, make([]byte, n)); (err == nil) != ok {
			t.Errorf("Ed25519 point of %d bytes: %v", n, err)
		}
	}
	if _, err := edPublic([]byte{0x06, 0x03, 0x2b, 0x65, 0x71}, make([]byte, 32)); err == nil {
		t.Error("Ed448 accepted")
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), 3071).Bytes()
	for name, c := range map[string]struct {
		n, e []byte
		ok   bool
	}{
		"65537": {modulus, []byte{1, 0, 1}, true}, "padded": {modulus, []byte{0, 0, 1, 0, 1}, true}, "one": {modulus, []byte{1}, false},
		"even": {modulus, []byte{4}, false}, "huge": {modulus, []byte{1, 0, 0, 0, 1}, false}, "none": {modulus, nil, false}, "no modulus": {nil, []byte{3}, false},
		"sign bit": {modulus, []byte{0xff, 0xff, 0xff, 0xff}, false},
	} {
		p, err := rsaPublic(c.n, c.e)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && p.(*rsa.PublicKey).E != 65537 {
			t.Errorf("%s: exponent %d", name, p.(*rsa.PublicKey).E)
		}
	}
}

func TestDER(t *testing.T) {
	raw := make([]byte, 64)
	raw[0], raw[63] = 0x80, 1
	sig, err := der(raw, 32)
	if err != nil || sig[3] != 33 || sig[4] != 0 { // a positive integer
		t.Fatalf("%x: %v", sig, err)
	}
	for name, c := range map[string]struct {
		raw []byte
		n   int
	}{"short": {raw[:63], 32}, "long": {append(bytes.Clone(raw), 0), 32}, "zero s": {make([]byte, 64), 32}, "empty": {nil, 32}, "no size": {nil, 0}} {
		if _, err := der(c.raw, c.n); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
