package single

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// options is a format that has two options and nothing else.
type options struct{ format.Format }

func (options) Name() string { return "options" }
func (options) Options() []format.Option {
	return []format.Option{{Name: "a", Values: []string{"x", "y"}, Default: "x"}, {Name: "b"}}
}

func plan(params ...format.Fact) *format.Plan {
	return &format.Plan{Format: "options", Version: 1, Digest: "sha256", Content: make([]byte, 32), Params: params, Body: []byte{}}
}

// Invariant 1.
func TestFrame(t *testing.T) {
	a, b := format.Fact{Name: "a", Value: "y"}, format.Fact{Name: "b", Value: "anything"}
	if p, err := Frame(options{}, plan(a, b), 1); err != nil || p["a"] != "y" || len(Options(p)) != 2 || Options(p)[1] != b {
		t.Errorf("%v, %v", p, err)
	}
	other, later := plan(a, b), plan(a, b)
	other.Format, later.Version = "others", 2
	for name, p := range map[string]*format.Plan{
		"no options": plan(), "one option": plan(a), "one more": plan(a, b, format.Fact{Name: "c"}), "another": plan(a, format.Fact{Name: "c"}),
		"value": plan(format.Fact{Name: "a", Value: "z"}, b), "order": plan(b, a), "twice": plan(a, a), "format": other, "version": later,
	} {
		if _, err := Frame(options{}, p, 1); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRound(t *testing.T) {
	if r, err := Round("x", nil, format.ToBeSigned{}); err != nil || len(r) != 1 {
		t.Error(r, err)
	}
	if r, err := Round("x", make([][]byte, 1), format.ToBeSigned{}); err != nil || r != nil {
		t.Error(r, err)
	}
	if _, err := Round("x", make([][]byte, 2), format.ToBeSigned{}); err == nil {
		t.Error("two signatures")
	}
}

func identity(t *testing.T, kind sigalg.Key, change ...func(*x509.Certificate)) (*cmstest.Identity, format.Identity) {
	t.Helper()
	key := cmstest.NewRoot(t).Authority(t, "Intermediate").Issue(t, "Signer", kind, change...)
	return key, format.Identity{Scheme: kind.Default(), Public: key.Key.Public(), Chain: key.Chain}
}

// Invariant 2.
func TestFits(t *testing.T) {
	key, id := identity(t, sigalg.P256)
	m := []byte("message")
	tbs := format.ToBeSigned{Scheme: id.Scheme, Message: m}
	sig := key.Sign(t, id.Scheme, m)
	a, p := format.BytesArtifact("a", []byte("12345")), plan()
	p.Size = 5
	if v, err := Fits("x", a, p, tbs, id, []format.Signature{{Value: sig}}); err != nil || string(v) != string(sig) {
		t.Fatal(err)
	}
	_, other := identity(t, sigalg.P384)
	shorter := *p
	shorter.Size = 4
	for name, err := range map[string]error{
		"none":      second(Fits("x", a, p, tbs, id, nil)),
		"two":       second(Fits("x", a, p, tbs, id, []format.Signature{{Value: sig}, {Value: sig}})),
		"timestamp": second(Fits("x", a, p, tbs, id, []format.Signature{{Value: sig, Timestamp: []byte{1}}})),
		"message":   second(Fits("x", a, p, format.ToBeSigned{Scheme: id.Scheme, Message: []byte("another")}, id, []format.Signature{{Value: sig}})),
		"key":       second(Fits("x", a, p, tbs, other, []format.Signature{{Value: sig}})),
		"size":      second(Fits("x", a, &shorter, tbs, id, []format.Signature{{Value: sig}})),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Invariant 3: keys of other kinds are passed over; certificates count only with
// the right usage, in their time, under a root.
func TestKeys(t *testing.T) {
	key, id := identity(t, sigalg.P256)
	m := []byte("message")
	sig := key.Sign(t, id.Scheme, m)
	find := func(keys []crypto.PublicKey) (crypto.PublicKey, error) {
		pub, _, err := Key("x", keys, func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
			if k != sigalg.P256 {
				return format.ToBeSigned{}, nil, errors.New("another kind")
			}
			return format.ToBeSigned{Scheme: sigalg.ECDSASHA256, Message: m}, sig, nil
		})
		return pub, err
	}
	_, stranger := identity(t, sigalg.Ed25519)
	if pub, err := find([]crypto.PublicKey{"no key", stranger.Public, id.Public}); err != nil || pub != id.Public {
		t.Errorf("%v, %v", pub, err)
	}
	if _, err := find([]crypto.PublicKey{stranger.Public}); !errors.Is(err, ErrUntrusted) {
		t.Error(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(key.Root)
	good := format.Trust{Roots: roots, Intermediates: key.Chain, Now: cmstest.At}
	if n := len(Keys(good)); n != 1 {
		t.Errorf("%d keys: want the signer's, and not the authority's", n)
	}
	late, alone, elsewhere := good, good, good
	late.Now = cmstest.At.AddDate(100, 0, 0)
	alone.Roots = nil
	elsewhere.Roots = x509.NewCertPool()
	server, _ := identity(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	web := format.Trust{Roots: x509.NewCertPool(), Intermediates: server.Chain, Now: cmstest.At}
	web.Roots.AddCert(server.Root)
	for name, tr := range map[string]format.Trust{"expired": late, "no roots": alone, "another root": elsewhere, "for servers": web} {
		if n := len(Keys(tr)); n != 0 {
			t.Errorf("%s: %d keys", name, n)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a\nb": "a?b", "a\x00": "a?", "\xff\xfe": "?", "\u202eabc": "?abc", strings.Repeat("x", 30): strings.Repeat("x", 20)} {
		if got := Text([]byte(in), 20); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := Text([]byte(strings.Repeat("ä", 30)), 21); len(got) > 21 || !utf8.ValidString(got) || !strings.HasPrefix(got, "ää") {
		t.Errorf("%q", got)
	}
}

// Invariant 4.
func TestCMS(t *testing.T) {
	key, id := identity(t, sigalg.P256)
	content := []byte("content")
	sum := sha256.Sum256(content)
	digest := func(crypto.Hash) ([]byte, error) { return sum[:], nil }
	build := func(key *cmstest.Identity, id format.Identity, at time.Time) []byte {
		t.Helper()
		s, err := Spec("x", sum[:], crypto.SHA256, id, at)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.SignedAttributes()
		if err != nil {
			t.Fatal(err)
		}
		der, err := EncodeCMS("x", s, content, id, key.Sign(t, id.Scheme, m))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	roots := x509.NewCertPool()
	roots.AddCert(key.Root)
	trust := format.Trust{Roots: roots, Now: cmstest.At}
	verify := func(der []byte, tr format.Trust, digest func(crypto.Hash) ([]byte, error)) ([]format.SignatureInfo, error) {
		d, err := ParseCMS("x", der)
		if err != nil {
			return nil, err
		}
		return VerifyCMS("x", d, tr, []string{"all"}, digest)
	}
	der := build(key, id, cmstest.At)
	infos, err := verify(der, trust, digest)
	if err != nil || len(infos) != 1 || len(infos[0].Facts) != 1 || len(infos[0].Open) != 0 {
		t.Fatalf("%+v, %v", infos, err)
	}
	if infos, err := verify(build(key, id, time.Time{}), trust, digest); err != nil || len(infos[0].Facts) != 0 {
		t.Errorf("without time: %+v, %v", infos, err)
	}
	stranger, sid := identity(t, sigalg.P256)
	more, err := cms.AddCertificates(der, stranger.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if infos, err := verify(more, trust, digest); err != nil || len(infos[0].Open) != 1 {
		t.Errorf("a certificate that nobody uses is not open: %+v, %v", infos, err)
	}
	spec, err := Spec("x", sum[:], crypto.SHA256, sid, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := spec.SignedAttributes()
	if err != nil {
		t.Fatal(err)
	}
	two, err := cms.AddSigner(der, sid.Chain, cms.SignerInfo{Spec: spec, Signature: stranger.Sign(t, sid.Scheme, m), Certificate: sid.Chain[0]})
	if err != nil {
		t.Fatal(err)
	}
	bare, err := cms.Encode(cms.Content{Type: cms.OIDData, Bytes: content}, id.Chain, cms.SignerInfo{
		Spec:      cms.SignerSpec{ContentType: cms.OIDData, Digest: crypto.SHA256, Scheme: id.Scheme, NoAttributes: true},
		Signature: key.Sign(t, id.Scheme, content), Certificate: id.Chain[0],
	})
	if err != nil {
		t.Fatal(err)
	}
	late := trust
	late.Now = cmstest.At.AddDate(100, 0, 0)
	other := sha256.Sum256([]byte("other"))
	for name, err := range map[string]error{
		"no roots": second(verify(der, format.Trust{Now: cmstest.At}, digest)), "expired": second(verify(der, late, digest)),
		"a stranger signs too": second(verify(two, trust, digest)), "no attributes": second(verify(bare, trust, digest)),
		"another content": second(verify(der, trust, func(crypto.Hash) ([]byte, error) { return other[:], nil })),
		"cut":             second(verify(der[:len(der)-1], trust, digest)),
		"too long":        second(ParseCMS("x", append(der, append([]byte(nil), strings.Repeat("x", MaxCMS)...)...))),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// No signature is made that VerifyCMS would refuse.
func TestSpecRefuses(t *testing.T) {
	_, id := identity(t, sigalg.P256)
	_, other := identity(t, sigalg.P256)
	server, _ := identity(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	for name, change := range map[string]func(*format.Identity){
		"no certificate": func(i *format.Identity) { i.Chain = nil }, "nil": func(i *format.Identity) { i.Chain = []*x509.Certificate{nil} },
		"another key's": func(i *format.Identity) { i.Chain = other.Chain }, "for servers": func(i *format.Identity) { i.Public, i.Chain = server.Key.Public(), server.Chain },
		"scheme of RSA": func(i *format.Identity) { i.Scheme = sigalg.RSAPKCS1SHA256 }, "another hash": func(i *format.Identity) { i.Scheme = sigalg.ECDSASHA384 },
	} {
		i := id
		change(&i)
		if _, err := Spec("x", make([]byte, 32), crypto.SHA256, i, cmstest.At); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, year := range []int{2, 1999, 10000} {
		if _, err := Spec("x", make([]byte, 32), crypto.SHA256, id, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
			t.Errorf("the year %d is signed", year)
		}
	}
	if _, err := Spec("x", make([]byte, 32), crypto.SHA256, id, time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Error(err)
	}
}

// What is cut says so: the end of a line may be what matters.
func TestTextIsCut(t *testing.T) {
	long := strings.Repeat("ä", 100) + "evil"
	got := Text([]byte(long), 101)
	if len(got) > 101 || !utf8.ValidString(got) || !strings.HasSuffix(got, "… (204 bytes)") || Text([]byte(got), 101) != got {
		t.Errorf("%q of %d bytes", got, len(got))
	}
	if got := Text([]byte(long), 204); got != long {
		t.Errorf("%q", got)
	}
}
