package codesign

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const entitlements = `<plist version="1.0"><dict><key>b</key><array><string>x</string><integer>5</integer></array><key>a</key><true/><key>get-task-allow</key><true/></dict></plist>`

func code() Code {
	return Code{
		Identifier: "com.example.a", Flags: FlagRuntime, PageSize: 4096, Limit: 5000, Runtime: 0xd0100,
		Entitlements: []byte(entitlements), Slots: bytes.Repeat([]byte{1}, 64), SigningTime: true,
	}
}

func seal(tb testing.TB, c Code, s *formattest.Signer) []byte {
	tb.Helper()
	a, err := c.Assemble(crypto.SHA256, s.Identity, formattest.At)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := a.Finish(format.Signature{Value: s.Sign(tb, a.Message)})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func verify(b []byte, t format.Trust) (*format.SignatureInfo, error) {
	s, err := Parse(b)
	if err != nil {
		return nil, err
	}
	return s.Verify(Outside{}, t)
}

// What is written is read as the same, for every kind of key that Apple knows.
func TestRoundTrip(t *testing.T) {
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384} {
		s := formattest.Identity(t, key)
		b := seal(t, code(), s)
		p, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		d := p.Directories[0]
		if d.Identifier != "com.example.a" || d.Flags != FlagRuntime || d.Runtime != 0xd0100 || d.Limit != 5000 || d.PageSize != 4096 || string(p.Entitlements) != entitlements || p.BER {
			t.Errorf("%+v", d)
		}
		info, err := p.Verify(Outside{}, s.Trust())
		if err != nil || !bytes.Equal(info.Content, Digest(crypto.SHA256, d.Raw)) {
			t.Errorf("%s: %v", key, err)
		}
		again, err := d.head()
		if err != nil || !bytes.Equal(append(again, d.Slots...), d.Raw) {
			t.Errorf("CodeDirectory is written as another one: %v", err)
		}
	}
}

// Identities that Apple's systems do not accept.
func TestIdentities(t *testing.T) {
	for _, key := range []sigalg.Key{sigalg.Ed25519, sigalg.MLDSA65} {
		if err := CheckIdentity(formattest.Identity(t, key).Identity); err == nil {
			t.Errorf("%s is accepted", key)
		}
	}
	tls := formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	if err := CheckIdentity(tls.Identity); err == nil {
		t.Error("a certificate for TLS servers is accepted")
	}
	if err := CheckIdentity(formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA256).Identity); err == nil {
		t.Error("PSS is accepted")
	}
	a, b := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P256)
	mixed := a.Identity
	mixed.Chain = b.Chain
	if err := CheckIdentity(mixed); err == nil {
		t.Error("somebody else's certificate is accepted")
	}
	if err := CheckIdentity(format.Identity{Scheme: a.Scheme, Public: a.Public}); err == nil {
		t.Error("no certificate is accepted")
	}
}

// The DER form: what Apple's own tools make of these entitlements.
func TestEntitlementsDER(t *testing.T) {
	got, err := EntitlementsDER([]byte(entitlements))
	want := "702f020101" + "b02a" + "30060c01610101ff" + "300b0c0162" + "30060c0178020105" + "30130c0e" + hex.EncodeToString([]byte("get-task-allow")) + "0101ff"
	if err != nil || hex.EncodeToString(got) != want {
		t.Errorf("%x, %v", got, err)
	}
	for _, text := range []string{"<plist><array/></plist>", "<plist><dict><key>a</key><data>aGVsbG8=</data></dict></plist>", "<plist><dict><!-- c --></dict></plist>", "x"} {
		if der, err := EntitlementsDER([]byte(text)); err == nil {
			t.Errorf("%s: %x", text, der)
		}
	}
	d, err := ParseEntitlements([]byte(entitlements))
	if err != nil || ExecFlags(d) != ExecMain|execAllowUnsigned {
		t.Errorf("%#x, %v", ExecFlags(d), err)
	}
}

// rebuild changes the blobs of a signature.
func rebuild(t *testing.T, b []byte, change func(ps []place) []place) []byte {
	t.Helper()
	s, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return index(magicEmbedded, change(slices.Clone(s.places)))
}

func replace(number uint32, b []byte) func([]place) []place {
	return func(ps []place) []place {
		for i := range ps {
			if ps[i].number == number {
				ps[i].blob = b
			}
		}
		return ps
	}
}

func without(number uint32) func([]place) []place {
	return func(ps []place) []place {
		return slices.DeleteFunc(ps, func(p place) bool { return p.number == number })
	}
}

// Invariants 2, 3 and 5.
func TestBlobsAreBound(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	good := seal(t, code(), s)
	plain := code()
	plain.Entitlements = nil
	bare := seal(t, plain, s)
	more := strings.Replace(entitlements, "get-task-allow", "com.apple.root", 1)
	der, err := EntitlementsDER([]byte(more))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"other entitlements":        {rebuild(t, good, replace(SlotEntitlements, blob(magicEntitlements, []byte(more)))), ErrDigest},
		"other entitlements in DER": {rebuild(t, good, replace(SlotEntitlementsDER, blob(magicEntitlementsDER, der))), ErrDigest},
		"entitlements taken off":    {rebuild(t, good, without(SlotEntitlements)), ErrMalformed},
		"requirements taken off":    {rebuild(t, good, without(SlotRequirements)), ErrMalformed},
		"no CMS signature":          {rebuild(t, good, without(placeSignature)), ErrAdHoc},
		"entitlements put in": {rebuild(t, bare, func(ps []place) []place {
			return slices.Insert(ps, 2, place{number: SlotEntitlements, blob: blob(magicEntitlements, []byte(more))})
		}), ErrMalformed},
		"entitlements in DER put in": {rebuild(t, bare, func(ps []place) []place {
			return slices.Insert(ps, 2, place{number: SlotEntitlementsDER, blob: blob(magicEntitlementsDER, der)})
		}), ErrMalformed},
		"two CodeDirectories, one signed": {rebuild(t, bare, func(ps []place) []place {
			return slices.Insert(ps, 1, place{number: placeAlternate, blob: ps[0].blob})
		}), ErrMalformed},
		"unknown blob":     {rebuild(t, bare, func(ps []place) []place { return append(ps, place{number: 0x77, blob: blob(0xfade0b02, nil)}) }), ErrMalformed},
		"a blob twice":     {rebuild(t, bare, func(ps []place) []place { return append(ps, ps[1]) }), ErrMalformed},
		"directory second": {rebuild(t, bare, func(ps []place) []place { ps[0], ps[1] = ps[1], ps[0]; return ps }), ErrMalformed},
		"bytes behind":     {append(bytes.Clone(good), 0, 1), ErrMalformed},
	} {
		if _, err := verify(c.b, s.Trust()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v: want %v", name, err, c.want)
		}
	}
}

// Invariant 4: a SHA-1 CodeDirectory that is signed does not let a SHA-256 one in
// that is not, and alone it is too weak.
func TestWeakDirectories(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := rebuild(t, seal(t, code(), s), func(ps []place) []place {
		d := bytes.Clone(ps[0].blob)
		d[36], d[37] = 20, typeSHA1
		special := int(be.Uint32(d[24:]))
		hashes := int(be.Uint32(d[16:])) - special*32
		d = append(d[:hashes], make([]byte, (special+2)*20)...)
		be.PutUint32(d[16:], uint32(hashes+special*20))
		be.PutUint32(d[4:], uint32(len(d)))
		ps[0].blob = d
		return ps
	})
	if _, err := verify(b, s.Trust()); !errors.Is(err, ErrWeak) {
		t.Errorf("%v", err)
	}
}

// Entitlements of which the two forms differ, both with their slots, by a signer
// who means it.
func TestEntitlementsThatDiffer(t *testing.T) {
	p := &Signature{Entitlements: []byte(entitlements)}
	der, err := EntitlementsDER([]byte(strings.Replace(entitlements, "get-task-allow", "com.apple.root", 1)))
	if err != nil {
		t.Fatal(err)
	}
	p.DER = der
	if err := p.sameEntitlements(); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v", err)
	}
}

// Requirements by kind of certificate, in the language's binary form.
func TestDesignatedRequirement(t *testing.T) {
	apple := func(oid asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Critical: true, Value: []byte{5, 0}})
			c.Subject.OrganizationalUnit = []string{"TEAM123456"}
		}
	}
	s := formattest.Identity(t, sigalg.P256, apple(appleDeveloperID))
	if Team(s.Chain[0]) != "TEAM123456" {
		t.Error("no team")
	}
	issuer := *s.Chain[1]
	issuer.Extensions = append(slices.Clone(issuer.Extensions), pkix.Extension{Id: appleIssuerDevID})
	chain := []*x509.Certificate{s.Chain[0], &issuer}
	r := designated("com.example.a", chain)
	if err := CheckRequirements(r); err != nil || !bytes.Contains(r, []byte("subject.OU")) || !bytes.Contains(r, []byte("TEAM123456")) {
		t.Errorf("Developer ID: %x, %v", r, err)
	}
	r = designated("com.example.a", s.Chain)
	// The test authority's intermediate is of the leaf's organization.
	want := append([]byte{0, 0, 0, opAnchorHash, 0, 0, 0, 1, 0, 0, 0, 20}, Digest(crypto.SHA1, s.Chain[1].Raw)...)
	if err := CheckRequirements(r); err != nil || !bytes.HasSuffix(r, want) {
		t.Errorf("another authority: %x, %v", r, err)
	}
	// Apple's critical extensions do not stop a chain from being built.
	b := seal(t, code(), s)
	info, err := verify(b, s.Trust())
	if err != nil || !slices.Contains(info.Facts, format.Fact{Name: "team", Value: "TEAM123456"}) {
		t.Errorf("%v, %v", info, err)
	}
}

// Apple's tools write CMS with indefinite lengths: it is read as its DER.
func TestIndefiniteLengths(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	good := seal(t, code(), s)
	p, err := Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	inner, _, _, err := berContent(p.CMS.Raw)
	if err != nil {
		t.Fatal(err)
	}
	ber := append(append([]byte{0x30, 0x80}, inner...), 0, 0)
	b := rebuild(t, good, replace(placeSignature, blob(magicWrapper, ber)))
	info, err := verify(b, s.Trust())
	if err != nil || !slices.ContainsFunc(info.Open, func(s string) bool { return strings.Contains(s, "not in DER") }) {
		t.Errorf("%v, %v", info, err)
	}
	deep := append(bytes.Repeat([]byte{0x30, 0x80}, 200), 0, 0)
	for name, ber := range map[string][]byte{"cut off": ber[:len(ber)-2], "deep": deep, "primitive": {0x04, 0x80, 0, 0}, "long": {0x30, 0x85, 1, 1, 1, 1, 1}, "empty": {0x30}} {
		if _, _, err := normalize(ber, 0); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, s := range []string{"none", "runtime", "kill,library,runtime"} {
		if f, err := ParseFlags(s); err != nil || FlagNames(f) != s {
			t.Errorf("%s: %#x, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "adhoc", "linker-signed", "runtime,runtime", "runtime,", "0x2"} {
		if f, err := ParseFlags(s); err == nil {
			t.Errorf("%q: %#x", s, f)
		}
	}
}

// Pages are the same whatever the size of what is hashed.
func TestPages(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 70000)
	for _, n := range []int64{0, 1, 4096, 4097, 512 << 10, 512<<10 + 1, int64(len(data))} {
		for _, size := range []int64{4096, 16384} {
			var want []byte
			for at := int64(0); at < n; at += size {
				want = append(want, Digest(crypto.SHA256, data[at:min(n, at+size)])...)
			}
			got, err := Pages(t.Context(), bytes.NewReader(data), n, size, crypto.SHA256)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes in pages of %d: %v", n, size, err)
			}
		}
		if got, err := Pages(t.Context(), bytes.NewReader(data), n, 0, crypto.SHA384); err != nil || !bytes.Equal(got, Digest(crypto.SHA384, data[:n])) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := Pages(t.Context(), bytes.NewReader(data[:5]), 6, 4096, crypto.SHA256); err == nil {
		t.Error("a short file is hashed")
	}
}

// Whatever is parsed can be described and is put together as it was.
func FuzzParse(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	f.Add(seal(f, code(), s))
	c := code()
	c.Entitlements, c.PageSize, c.Slots = nil, 0, c.Slots[:32]
	f.Add(seal(f, c, s))
	trust := s.Trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		p.Describe()
		p.Info(0)
		p.Verify(Outside{}, trust)
		if again, err := fit(p.places, 0, 0); err != nil || !bytes.HasPrefix(b[8:], again[8:]) {
			t.Fatalf("put together as another one: %v", err)
		}
	})
}
