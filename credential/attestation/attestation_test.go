package attestation_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-webauthn/webauthn/metadata"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/credential/attestation/attestationtest"
	"github.com/greatseal-io/greatseal/internal/depstest"
)

const (
	rp     = "seal.example.com"
	origin = "https://seal.example.com"
)

var (
	now   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	model = attestation.AAGUID{0x2f, 0xc0, 0x57, 0x9f, 1}
)

func maker() *attestationtest.Maker {
	return attestationtest.NewMaker("Maker", now.AddDate(-20, 0, 0), now.AddDate(20, 0, 0))
}

var challenge = bytes.Repeat([]byte{7}, 32)

func expect(m *attestationtest.Maker) attestation.Expect {
	e := attestation.Expect{Challenge: challenge, RelyingParty: rp, Origins: []string{origin}, At: now, Transports: []string{"usb", "carrier-pigeon", "nfc"}}
	if m != nil {
		e.Roots = []*x509.Certificate{m.Root}
	}
	return e
}

// Every format comes to what it says, and go-webauthn agrees.
func TestFormats(t *testing.T) {
	m := maker()
	for _, c := range []struct {
		format string
		model  attestation.AAGUID
		want   attestation.Result
		meets  bool
	}{
		{"none", attestation.AAGUID{}, attestation.None, false},
		{"packed-self", model, attestation.Self, false},
		{"packed", model, attestation.Model, true},
		{"packed", attestation.AAGUID{}, attestation.Model, false},
		{"fido-u2f", attestation.AAGUID{}, attestation.Model, false},
		{"apple", model, attestation.Model, true},
		{"tpm", model, attestation.Model, true},
		{"android-key", model, attestation.Model, true},
		{"android-safetynet", model, attestation.Unverified, false},
		{"compound", model, attestation.Unverified, false},
	} {
		t.Run(c.format, func(t *testing.T) {
			k := attestationtest.NewKey("k", rp, origin)
			o, cd := k.Register(challenge, attestationtest.How{Format: c.format, Model: c.model, Maker: m})
			r, err := attestation.Check(o, cd, expect(m))
			if err != nil {
				t.Fatal(err)
			}
			if r.Result() != c.want || r.AAGUID() != c.model || !r.UserVerified() || r.BackupEligible() || r.Credential().Text() != k.Credential().Text() {
				t.Fatalf("%v %s: %v", r.Result(), r.Why(), r)
			}
			if err := r.Meets(attestation.Demand{}); (err == nil) != c.meets {
				t.Errorf("meets: %v", err)
			}
			if got := r.Transports(); len(got) != 2 || got[0] != "nfc" {
				t.Errorf("transports %v", got)
			}
			if c.want == attestation.Model {
				other, err := attestation.Check(o, cd, expect(maker()))
				if err != nil || other.Result() != attestation.Unrooted || other.Meets(attestation.Demand{}) == nil {
					t.Errorf("another maker's root: %v, %v", other, err)
				}
			}
			// A second judge, offline.
			// It judges with the true makers' roots for the two formats that it knows them of.
			if c.want != attestation.Unverified && c.format != "apple" && c.format != "android-key" {
				if err := judge(k, o, cd); err != nil {
					t.Errorf("go-webauthn refuses: %v", err)
				}
			}
		})
	}
}

// judge asks go-webauthn, which knows no roots here.
func judge(k *attestationtest.Key, object, client []byte) error {
	id := base64.RawURLEncoding.EncodeToString(k.ID)
	body, err := json.Marshal(map[string]any{"id": id, "rawId": id, "type": "public-key", "response": map[string]any{
		"clientDataJSON": base64.RawURLEncoding.EncodeToString(client), "attestationObject": base64.RawURLEncoding.EncodeToString(object)}})
	if err != nil {
		return err
	}
	p, err := protocol.ParseCredentialCreationResponseBytes(body)
	if err != nil {
		return err
	}
	params := []protocol.CredentialParameter{{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256}}
	var none metadata.Provider
	_, err = p.Verify(base64.RawURLEncoding.EncodeToString(challenge), rp, []string{origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false, true, true, none, params, protocol.AttestationPolicy{}, protocol.SignaturePolicy{})
	return err
}

// Invariant 1 and 3: each of these is refused. Where go-webauthn looks at it too, it
// refuses as well.
func TestRefused(t *testing.T) {
	m := maker()
	other := attestationtest.NewKey("other", rp, origin)
	for name, c := range map[string]struct {
		how  attestationtest.How
		e    func(*attestation.Expect)
		want string
		ours bool // go-webauthn is more lenient
	}{
		"type of a login":                {how: attestationtest.How{Type: "webauthn.get"}, want: "webauthn.create"},
		"another challenge":              {e: func(e *attestation.Expect) { e.Challenge = bytes.Repeat([]byte{8}, 32) }, want: "challenge", ours: true},
		"no challenge":                   {e: func(e *attestation.Expect) { e.Challenge = nil }, want: "challenge", ours: true},
		"another origin":                 {how: attestationtest.How{Origin: "https://seal.example.com.evil.test"}, want: "origin"},
		"a sub-origin":                   {how: attestationtest.How{Origin: "https://x.seal.example.com"}, want: "origin"},
		"another relying party":          {how: attestationtest.How{RPID: "evil.test"}, want: "relying party"},
		"the user absent":                {how: attestationtest.How{Clear: 0x01}, want: "present"},
		"the user unverified":            {how: attestationtest.How{Clear: 0x04}, want: "verified"},
		"no credential":                  {how: attestationtest.How{Clear: 0x40}, want: "attested credential data"},
		"backed up, not able":            {how: attestationtest.How{Set: 0x10}, want: "backed up", ours: true},
		"a reserved flag":                {how: attestationtest.How{Set: 0x02}, want: "reserved", ours: true},
		"extensions missing":             {how: attestationtest.How{Set: 0x80}, want: "extensions"},
		"extensions unannounced":         {how: attestationtest.How{After: []byte{0xa0}}, want: "after the end"},
		"extensions no map":              {how: attestationtest.How{Set: 0x80, After: []byte{0x01}}, want: "extensions", ours: true},
		"bytes after extensions":         {how: attestationtest.How{Set: 0x80, After: []byte{0xa0, 0xa0}}, want: "extensions"},
		"a frame":                        {how: attestationtest.How{Client: `{"type":"webauthn.create","challenge":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","origin":"https://seal.example.com","crossOrigin":true}`}, want: "frame", ours: true},
		"two challenges":                 {how: attestationtest.How{Client: `{"type":"webauthn.create","challenge":"x","challenge":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","origin":"https://seal.example.com"}`}, want: "ambiguous", ours: true},
		"none with a statement":          {how: attestationtest.How{State: func(s map[string]any) { s["x"] = 1 }}, want: "not empty"},
		"an unknown member":              {how: attestationtest.How{Object: func(o map[string]any) { o["x"] = 1 }}, want: "cbor", ours: true},
		"a format with a line":           {how: attestationtest.How{Object: func(o map[string]any) { o["fmt"] = "x\ny" }}, want: "format", ours: true},
		"a statement that is none":       {how: attestationtest.How{Object: func(o map[string]any) { o["attStmt"] = 1 }}, want: "no map", ours: true},
		"another key":                    {how: attestationtest.How{Format: "packed-self", Swap: other}, want: "has not signed"},
		"another algorithm":              {how: attestationtest.How{Format: "packed-self", State: func(s map[string]any) { s["alg"] = -8 }}, want: "algorithm"},
		"self with a certificate's word": {how: attestationtest.How{Format: "packed-self", State: func(s map[string]any) { s["x5c"] = [][]byte{} }}, want: "certificates"},
		"a signature of nothing":         {how: attestationtest.How{Format: "packed", State: func(s map[string]any) { s["sig"] = []byte{} }}, want: "signed"},
		"another model":                  {how: attestationtest.How{Format: "packed", Model: model, CertName: "00000000-0000-0000-0000-000000000001"}, want: "another model"},
		"a subject without country":      {how: attestationtest.How{Format: "packed", Leaf: func(c *x509.Certificate) { c.Subject.Country = nil }}, want: "country"},
		"a subject without organisation": {how: attestationtest.How{Format: "packed", Leaf: func(c *x509.Certificate) { c.Subject.Organization = nil }}, want: "organisation"},
		"a subject of another unit":      {how: attestationtest.How{Format: "packed", Leaf: func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"Sales"} }}, want: "Authenticator Attestation"},
		"a subject without name":         {how: attestationtest.How{Format: "packed", Leaf: func(c *x509.Certificate) { c.Subject.CommonName = "" }}, want: "common name"},
		"a certificate that issues":      {how: attestationtest.How{Format: "packed", Leaf: func(c *x509.Certificate) { c.IsCA = true }}, want: "issues none"},
		"a chain too long":               {how: attestationtest.How{Format: "packed", State: func(s map[string]any) { s["x5c"] = bytesOf(m.Root.Raw, 6) }}, want: "certificates", ours: true},
		"u2f with two":                   {how: attestationtest.How{Format: "fido-u2f", State: func(s map[string]any) { s["x5c"] = bytesOf(m.Root.Raw, 2) }}, want: "one certificate"},
		"u2f of another key":             {how: attestationtest.How{Format: "fido-u2f", Swap: other}, want: "signed"},
		"apple for another key":          {how: attestationtest.How{Format: "apple", Swap: other}, want: "another"},
		"tpm of another key":             {how: attestationtest.How{Format: "tpm", Swap: other}, want: "another key"},
		"tpm 1.2":                        {how: attestationtest.How{Format: "tpm", State: func(s map[string]any) { s["ver"] = "1.2" }}, want: "version"},
		"tpm with more":                  {how: attestationtest.How{Format: "tpm", State: func(s map[string]any) { s["certInfo"] = append(s["certInfo"].([]byte), 0) }}, want: "too long"},
		"tpm of no tpm":                  {how: attestationtest.How{Format: "tpm", State: func(s map[string]any) { b := bytes.Clone(s["certInfo"].([]byte)); b[0] = 0; s["certInfo"] = b }}, want: "no TPM"},
		"tpm with a subject":             {how: attestationtest.How{Format: "tpm", Leaf: func(c *x509.Certificate) { c.Subject.CommonName = "x" }}, want: "subject"},
		"tpm for anything":               {how: attestationtest.How{Format: "tpm", Leaf: func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }}, want: "attestation key"},
		"android for another key":        {how: attestationtest.How{Format: "android-key", Swap: other}, want: "another key"},
		"android without description":    {how: attestationtest.How{Format: "android-key", Leaf: func(c *x509.Certificate) { c.ExtraExtensions = nil }}, want: "describes"},
	} {
		t.Run(name, func(t *testing.T) {
			k := attestationtest.NewKey("k", rp, origin)
			c.how.Maker = m
			o, cd := k.Register(challenge, c.how)
			e := expect(m)
			if c.e != nil {
				c.e(&e)
			}
			r, err := attestation.Check(o, cd, e)
			if err == nil {
				t.Fatalf("taken: %v", r)
			}
			if !errors.Is(err, attestation.ErrRegistration) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: want it to say %q", err, c.want)
			}
			if !c.ours && judge(k, o, cd) == nil {
				t.Error("go-webauthn takes it")
			}
		})
	}
}

func bytesOf(b []byte, n int) (out [][]byte) {
	for range n {
		out = append(out, b)
	}
	return out
}

// Invariant 2: a model is one only with a certificate of the roots that was valid.
func TestRoots(t *testing.T) {
	m := maker()
	k := attestationtest.NewKey("k", rp, origin)
	o, cd := k.Register(challenge, attestationtest.How{Format: "packed", Maker: m, Model: model})
	for name, c := range map[string]struct {
		change func(*attestation.Expect)
		why    string
	}{
		"no roots":   {func(e *attestation.Expect) { e.Roots = nil }, "no roots"},
		"no time":    {func(e *attestation.Expect) { e.At = time.Time{} }, "no time"},
		"expired":    {func(e *attestation.Expect) { e.At = now.AddDate(21, 0, 0) }, "not valid then"},
		"not yet":    {func(e *attestation.Expect) { e.At = now.AddDate(-21, 0, 0) }, "not valid then"},
		"other root": {func(e *attestation.Expect) { e.Roots = []*x509.Certificate{maker().Root} }, "none of the roots"},
	} {
		e := expect(m)
		c.change(&e)
		r, err := attestation.Check(o, cd, e)
		if err != nil || r.Result() != attestation.Unrooted || !strings.Contains(r.Why(), c.why) || r.Meets(attestation.Demand{}) == nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	r, err := attestation.Check(o, cd, expect(m))
	if err != nil || r.Meets(attestation.Demand{Models: []attestation.AAGUID{model}}) != nil {
		t.Errorf("%v, %v", r, err)
	}
	if err := r.Meets(attestation.Demand{Models: []attestation.AAGUID{{1}}}); err == nil || !strings.Contains(err.Error(), "model") {
		t.Errorf("a model that is not allowed: %v", err)
	}
	var none *attestation.Registration
	if none.Meets(attestation.Demand{}) == nil || new(attestation.Registration).Meets(attestation.Demand{}) == nil {
		t.Error("nothing meets a demand")
	}
	// Many roots are refused, not searched.
	e := expect(m)
	for range attestation.MaxRoots {
		e.Roots = append(e.Roots, m.Root)
	}
	if _, err := attestation.Check(o, cd, e); err == nil {
		t.Error("too many roots")
	}
	// Keys that cost much to verify, or nothing to forge.
	for _, bits := range []int{1024, 4608} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: m.Root.SerialNumber, Subject: m.Root.Subject, NotBefore: m.Root.NotBefore, NotAfter: m.Root.NotAfter}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := attestation.ParseRoot(attestation.RootText(c)); err == nil {
			t.Errorf("a root of %d bits", bits)
		}
	}
	if _, err := attestation.ParseRoot(m.RootText() + m.RootText()); err == nil {
		t.Error("two roots in one")
	}
}

// The flags of a synchronised passkey are told, and are of its credential.
func TestBackup(t *testing.T) {
	k := attestationtest.NewKey("k", rp, origin)
	k.Synced = true
	o, cd := k.Register(challenge, attestationtest.How{})
	r, err := attestation.Check(o, cd, expect(nil))
	if err != nil || !r.BackupEligible() || !r.BackedUp() || !r.Credential().BackupEligible() || r.Credential().Hardware() {
		t.Fatalf("%+v, %v", r, err)
	}
}

// Invariant 4, and what a record is bound to.
func TestRecord(t *testing.T) {
	m := maker()
	k := attestationtest.NewKey("k", rp, origin)
	how := attestationtest.How{Format: "packed", Maker: m, Model: model}
	rec := k.Record("test", "alice", now, how)
	text, err := rec.Text()
	if err != nil {
		t.Fatal(err)
	}
	again, err := attestation.ParseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := again.Text(); err != nil || back != text {
		t.Fatal("another text")
	}
	roots := []*x509.Certificate{m.Root}
	r, err := again.Check("test", "alice", k.Credential(), roots)
	if err != nil || r.Result() != attestation.Model {
		t.Fatalf("%v, %v", r, err)
	}
	synced := attestationtest.NewKey("k", rp, origin)
	synced.Synced = true
	swapped, err := credential.NewPasskey(k.ID, attestationtest.NewKey("mallory", rp, origin).Credential().COSEKey(), rp, []string{origin}, false)
	if err != nil {
		t.Fatal(err)
	}
	later := rec
	later.Begun = rec.Begun.Add(time.Second)
	nonce := rec
	nonce.Nonce = bytes.Repeat([]byte{1}, 32)
	for name, f := range map[string]func() error{
		"another deployment":       func() error { _, err := rec.Check("prod", "alice", k.Credential(), roots); return err },
		"another person":           func() error { _, err := rec.Check("test", "mallory", k.Credential(), roots); return err },
		"another time":             func() error { _, err := later.Check("test", "alice", k.Credential(), roots); return err },
		"another nonce":            func() error { _, err := nonce.Check("test", "alice", k.Credential(), roots); return err },
		"another key under its ID": func() error { _, err := rec.Check("test", "alice", swapped, roots); return err },
		"other backup":             func() error { _, err := rec.Check("test", "alice", synced.Credential(), roots); return err },
		"another passkey": func() error {
			_, err := rec.Check("test", "alice", attestationtest.NewKey("x", rp, origin).Credential(), roots)
			return err
		},
	} {
		if err := f(); !errors.Is(err, attestation.ErrRegistration) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Two IDs, one fingerprint: no.
	if swapped.ID() != k.Credential().ID() || attestation.Fingerprint(swapped) == attestation.Fingerprint(k.Credential()) {
		t.Error("the fingerprint does not commit to the key")
	}
	if f := attestation.Fingerprint(k.Credential()); len(f) != 29 || strings.ContainsAny(f, "ILOUabc") {
		t.Errorf("fingerprint %q", f)
	}
	for name, bad := range map[string]attestation.Record{
		"no object": {ClientData: rec.ClientData, Begun: now, Nonce: rec.Nonce}, "no client data": {Object: rec.Object, Begun: now, Nonce: rec.Nonce},
		"no nonce": {Object: rec.Object, ClientData: rec.ClientData, Begun: now}, "no time": {Object: rec.Object, ClientData: rec.ClientData, Nonce: rec.Nonce, Begun: time.Unix(0, 0)},
		"large object":      {Object: make([]byte, attestation.MaxObject+1), ClientData: rec.ClientData, Begun: now, Nonce: rec.Nonce},
		"large client data": {Object: rec.Object, ClientData: make([]byte, attestation.MaxClientData+1), Begun: now, Nonce: rec.Nonce},
		"long nonce":        {Object: rec.Object, ClientData: rec.ClientData, Begun: now, Nonce: make([]byte, 33)},
	} {
		if _, err := bad.Text(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	for _, bad := range []string{"", "=", text + "A", text[:len(text)-4], strings.Repeat("A", attestation.MaxText+1), text + "\n"} {
		if _, err := attestation.ParseRecord(bad); !errors.Is(err, attestation.ErrRegistration) {
			t.Errorf("%.20q...: %v", bad, err)
		}
	}
	if _, err := attestation.Challenge("a\nb", "c", now, rec.Nonce); err == nil {
		t.Error("a deployment with a line")
	}
	if _, err := attestation.Check(make([]byte, attestation.MaxObject+1), rec.ClientData, expect(m)); err == nil {
		t.Error("oversized object")
	}
}

// RS1 is SHA-1: such a statement is never verified, and never an attestation.
func TestSHA1(t *testing.T) {
	m := maker()
	o, cd := attestationtest.NewKey("k", rp, origin).Register(challenge, attestationtest.How{Format: "packed", Maker: m, Model: model, State: func(s map[string]any) { s["alg"] = -65535 }})
	r, err := attestation.Check(o, cd, expect(m))
	if err != nil || r.Result() != attestation.Unverified || r.Meets(attestation.Demand{}) == nil {
		t.Fatalf("%v, %v", r, err)
	}
}

func TestAAGUID(t *testing.T) {
	const s = "2fc0579f-8113-47ea-b116-bb5a8db9202a"
	a, err := attestation.ParseAAGUID(s)
	if err != nil || a.String() != s || !strings.HasPrefix(a.Describe(), "YubiKey 5") {
		t.Errorf("%v, %v", a.Describe(), err)
	}
	for _, bad := range []string{"", strings.ToUpper(s), strings.ReplaceAll(s, "-", ""), s + "0", "2fc0579f811347ea-b116-bb5a-8db9-202a"} {
		if _, err := attestation.ParseAAGUID(bad); err == nil {
			t.Errorf("%q", bad)
		}
	}
	if d := (attestation.AAGUID{1}).Describe(); d != "01000000-0000-0000-0000-000000000000" {
		t.Error(d)
	}
}

// The package is pure.
func TestPure(t *testing.T) { depstest.Pure(t, ".", 7) }

func seeds(t testing.TB) [][2][]byte {
	m := maker()
	var out [][2][]byte
	for _, f := range []string{"none", "packed-self", "packed", "fido-u2f", "apple", "tpm", "android-key", "other"} {
		o, c := attestationtest.NewKey("k", rp, origin).Register(challenge, attestationtest.How{Format: f, Maker: m})
		out = append(out, [2][]byte{o, c})
	}
	if len(out) != 8 {
		t.Fatal("seeds are missing")
	}
	return out
}

// Whatever comes in is refused or taken: nothing panics, and what is taken has a
// passkey that package credential takes again.
func FuzzCheck(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s[0], s[1])
	}
	root := maker().Root
	f.Fuzz(func(t *testing.T, object, client []byte) {
		r, err := attestation.Check(object, client, attestation.Expect{Challenge: challenge, RelyingParty: rp, Origins: []string{origin}, Roots: []*x509.Certificate{root}, At: now})
		if err != nil {
			if !errors.Is(err, attestation.ErrRegistration) {
				t.Fatal(err)
			}
			return
		}
		if r.Result() == attestation.Model {
			t.Fatal("of a root that signed nothing")
		}
		if _, err := credential.Parse(credential.KindPasskey, r.Credential().Text()); err != nil {
			t.Fatal(err)
		}
	})
}

// What is accepted of a record re-encodes to itself.
func FuzzRecord(f *testing.F) {
	text, err := attestationtest.NewKey("k", rp, origin).Record("test", "alice", now, attestationtest.How{Format: "packed-self"}).Text()
	if err != nil {
		f.Fatal(err)
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	small, err := cbor.Marshal(map[int]any{1: []byte{1}, 2: []byte{1}, 3: 1, 4: make([]byte, 32)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, b []byte) {
		text := base64.RawURLEncoding.EncodeToString(b)
		r, err := attestation.ParseRecord(text)
		if err != nil {
			return
		}
		if again, err := r.Text(); err != nil || again != text {
			t.Fatalf("%v", err)
		}
	})
}
