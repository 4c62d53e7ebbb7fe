package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	dsseformat "github.com/greatseal-io/greatseal/format/dsse"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
	statements "github.com/greatseal-io/greatseal/statement"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	text = "any file at all\n"
	slsa = "https://slsa.dev/provenance/v1"
)

func sign(t *testing.T, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	a := format.BytesArtifact("app.tar", []byte(text))
	plan, err := New().Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	return patch.Sidecar.Data
}

func TestConformance(t *testing.T) {
	refused := []format.Params{
		{"name": "a\nb"}, {"name": strings.Repeat("x", maxName+1)}, {"predicate": "{}"}, {"claims": "{}"}, {"claims": `{"a":1}`}, {"claims": `{"a":{"b":"c"}}`},
		{"predicate-type": slsa}, {"predicate-type": slsa, "predicate": "[]"}, {"predicate-type": slsa, "predicate": "{} {}"},
		{"predicate-type": slsa, "predicate": `{"a":1,"a":2}`}, {"predicate-type": slsa, "predicate": "{}", "claims": `{"a":"b"}`},
		{"predicate-type": "", "predicate": "{}"},
	}
	for name, c := range map[string]struct {
		kind     sigalg.Key
		p        format.Params
		unsigned []string
	}{
		"default":   {sigalg.P256, format.Params{"claims": `{"version":"1.2.3", "tag":"v1"}`}, nil},
		"predicate": {sigalg.Ed25519, format.Params{"predicate-type": slsa, "predicate": `{"b": 1.50, "a": "\u00e9<"}`, "name": "dist/app.tar"}, []string{"Size"}},
		"rsa":       {sigalg.RSA3072, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "app.tar",
				Params: c.p, Signer: formattest.Identity(t, c.kind), Refused: refused, Unsigned: c.unsigned,
			})
		})
	}
	formattest.Reads(t, New(), format.BytesArtifact("large", make([]byte, 8<<20+1)), nil)
}

// A classical and a post-quantum signature over one statement.
func TestHybrid(t *testing.T) {
	formattest.Run(t, New(), formattest.Case{
		Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "app.tar",
		Signer: formattest.Identity(t, sigalg.Ed25519).And(formattest.Identity(t, sigalg.MLDSA65)),
	})
}

// Invariant 2, our side: no predicate type of Greatseal's own, however spelt.
func TestOwnTypesRefused(t *testing.T) {
	for _, typ := range []string{
		statements.RequestType, statements.EndorsementType, statements.ReceiptType, charter.Type,
		"https://greatseal.io/", "https://greatseal.io/artifact/v2", "https://greatseal.io/artifact/v1/", "https://greatseal.io/artifact/v1#",
		"HTTPS://greatseal.io/request/v1", "https://GreatSeal.IO/request/v1", "http://greatseal.io/request/v1", "https://greatseal.io:443/request/v1",
		"https://a@greatseal.io/request/v1", "https://www.greatseal.io/request/v1", "greatseal.io", "x:greatseal.io",
	} {
		if _, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), format.Params{"predicate-type": typ, "predicate": "{}"}); err == nil {
			t.Errorf("plan: %s is attested", typ)
		}
		// The keeper refuses a plan that says so, too.
		p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), format.Params{"predicate-type": slsa, "predicate": "{}"})
		if err != nil {
			t.Fatal(err)
		}
		p.Params[3].Value = typ
		if _, err := New().Assemble(p, formattest.Identity(t, sigalg.Ed25519).Identity, time.Time{}, nil); err == nil {
			t.Errorf("assemble: %s is attested", typ)
		}
		b, err := encodeStatement("f", strings.Repeat("0", 64), typ, "{}")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeStatement(b); err == nil {
			t.Errorf("verify: %s is taken for an attestation", typ)
		}
	}
}

// Invariant 2, the other side: what we sign is none of Greatseal's statements,
// whatever the predicate says, and their payloads are no attestations.
func TestNotAStatement(t *testing.T) {
	for _, p := range []format.Params{nil, {"claims": `{"deployment":"x"}`}, {"predicate-type": slsa, "predicate": `{"deployment":"x"}`}} {
		plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(text)), p)
		if err != nil {
			t.Fatal(err)
		}
		b, err := payload(plan)
		if err != nil {
			t.Fatal(err)
		}
		_, err1 := statements.Decode[statements.Request](b)
		_, err2 := statements.Decode[statements.Endorsement](b)
		_, err3 := statements.Decode[statements.Receipt](b)
		_, err4 := statements.Decode[charter.Charter](b)
		for i, err := range []error{err1, err2, err3, err4} {
			if err == nil {
				t.Errorf("%v is statement %d", p, i)
			}
		}
		if !bytes.Equal(statements.PAE(b), statements.PAE(b)) {
			t.Error("the two pre-authentication encodings differ")
		}
	}
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	b, err := statements.Encode(statements.Request{
		Deployment: "d", Charter: statements.CharterRef{Version: 1}, Requester: "r", Created: at, Expires: at.Add(time.Hour), Nonce: strings.Repeat("0", 32),
		Command: statements.Command{Name: statements.KeySuspend, Key: &statements.KeyArgs{Key: "k"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := formattest.Identity(t, sigalg.Ed25519)
	id, err := dsseformat.KeyID(s.Public)
	if err != nil {
		t.Fatal(err)
	}
	e := envelope{payload: b, signatures: []statements.Signature{{KeyID: id, Sig: s.Sign(t, statements.PAE(b))}}}
	tr := s.Trust()
	tr.Detached = e.encode()
	if _, err := New().Verify(t.Context(), format.BytesArtifact("f", []byte(text)), tr); err == nil {
		t.Error("a request is taken for an attestation")
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                                  `{}`,
		` { "b" : [1, 2.50, 1e2], "a":"x" } `: `{"a":"x","b":[1,2.5,100]}`,
		`{"a":"\u00e9\/\u003c"}`:              `{"a":"é/<"}`,
		`{"n":9007199254740991}`:              `{"n":9007199254740991}`,
		`{"n":-0.0}`:                          `{"n":0}`,
		`{"n":1.5e20}`:                        `{"n":150000000000000000000}`,
		`{"n":9007199254740993}`:              "",
		`{"n":0.1234567890123456789}`:         "",
		`{"n":1e400}`:                         "",
		`{"n":1e-400}`:                        "",
		`{"a":1,"a":1}`:                       "",
		`{"a":1,"\u0061":1}`:                  "",
		"{\"a\":\"\xff\"}":                    "",
		`{"a":"\ud800"}`:                      "",
		`{"a":1,}`:                            "",
		`{'a':1}`:                             "",
		`{"a":NaN}`:                           "",
		`{}{}`:                                "",
		`{} x`:                                "",
		`[]`:                                  "",
		`"x"`:                                 "",
		`null`:                                "",
		``:                                    "",
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`: "",
		`{"a":"` + strings.Repeat("x", MaxPredicate) + `"}`:                 "",
	} {
		got, err := canonicalObject(in)
		if got != want && want != "" || (err == nil) != (want != "") {
			t.Errorf("%.60s: got %.60s, %v", in, got, err)
		}
		if err == nil {
			if again, err := canonicalObject(got); err != nil || again != got {
				t.Errorf("%.60s: again %.60s, %v", got, again, err)
			}
		}
	}
	many := "{"
	for i := range maxClaims + 1 {
		many += fmt.Sprintf(`"%d":"",`, i)
	}
	if _, err := canonicalClaims(strings.TrimSuffix(many, ",") + "}"); err == nil {
		t.Error("too many claims")
	}
}

// oracle is a verifier of another house for one key.
type oracle struct {
	id  string
	pub crypto.PublicKey
	s   sigalg.Scheme
}

func (o oracle) Verify(_ context.Context, data, sig []byte) error {
	return sigalg.Verify(o.pub, o.s, data, sig)
}
func (o oracle) KeyID() (string, error)   { return o.id, nil }
func (o oracle) Public() crypto.PublicKey { return o.pub }

// go-securesystemslib takes ours: envelope and pre-authentication encoding for
// every scheme, the signature itself for those that it knows.
func TestOracleDSSE(t *testing.T) {
	verdicts := formattest.Judge(t, Name, "go-securesystemslib 0.11.1")
	for _, scheme := range []sigalg.Scheme{sigalg.RSAPKCS1SHA256, sigalg.RSAPSSSHA256, sigalg.RSAPSSSHA512, sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.PureEd25519, sigalg.PureMLDSA65, sigalg.PureMLDSA87} {
		kind := sigalg.Key("")
		for _, k := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384, sigalg.Ed25519, sigalg.MLDSA65, sigalg.MLDSA87} {
			if scheme.Fits(k) && (kind == "" || scheme == k.Default()) {
				kind = k
			}
		}
		s := formattest.Identity(t, kind).With(scheme)
		b := sign(t, s, format.Params{"claims": `{"version":"1"}`})
		tr := s.Trust()
		tr.Detached = b
		r, err := New().Verify(t.Context(), format.BytesArtifact("app.tar", []byte(text)), tr)
		if err != nil || r.Signatures[0].Scheme != scheme {
			t.Fatalf("%s: %v", scheme, err)
		}
		var e dsse.Envelope
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		id, err := dsseformat.KeyID(s.Public)
		if err != nil {
			t.Fatal(err)
		}
		verifiers := []dsse.Verifier{oracle{id, s.Public, scheme}}
		if scheme == sigalg.RSAPSSSHA256 || scheme == sigalg.ECDSASHA256 || scheme == sigalg.ECDSASHA384 || scheme == sigalg.PureEd25519 {
			verifiers = append(verifiers, theirs(t, id, s.Public))
		}
		for i, v := range verifiers {
			ev, err := dsse.NewEnvelopeVerifier(v)
			if err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s, verifier %d", scheme, i)
			_, err = ev.Verify(t.Context(), &e)
			verdicts.Accepts(what, string(kind), err)
			bad := e
			raw, err := e.DecodeB64Payload()
			if err != nil {
				t.Fatal(err)
			}
			raw[20] ^= 1
			bad.Payload = base64Of(raw)
			_, theirErr := ev.Verify(t.Context(), &bad)
			tampered := tr
			tampered.Detached = bytes.Replace(b, []byte(base64Of(payloadOf(t, b))), []byte(bad.Payload), 1)
			_, ourErr := New().Verify(t.Context(), format.BytesArtifact("app.tar", []byte(text)), tampered)
			verdicts.Rejects(what, ourErr, theirErr)
		}
	}
	// Theirs: the same statement, signed by their signer.
	for _, kind := range []sigalg.Key{sigalg.P256, sigalg.Ed25519} {
		key := cmstest.NewRoot(t).Issue(t, "Signer", kind)
		id, err := dsseformat.KeyID(key.Key.Public())
		if err != nil {
			t.Fatal(err)
		}
		signer := theirSigner{id, kind, key, t}
		es, err := dsse.NewEnvelopeSigner(signer)
		if err != nil {
			t.Fatal(err)
		}
		payload := payloadOf(t, sign(t, formattest.Identity(t, sigalg.P256), nil))
		e, err := es.SignPayload(t.Context(), PayloadType, payload)
		if err != nil {
			t.Fatal(err)
		}
		value, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
		if err != nil {
			t.Fatal(err)
		}
		ours := envelope{payload, []statements.Signature{{KeyID: e.Signatures[0].KeyID, Sig: value}}}
		_, err = New().Verify(t.Context(), format.BytesArtifact("app.tar", []byte(text)), format.Trust{Keys: []crypto.PublicKey{key.Key.Public()}, Now: formattest.At, Detached: ours.encode()})
		verdicts.Takes(string(kind), err)
	}
}

func payloadOf(t *testing.T, b []byte) []byte {
	t.Helper()
	e, _, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return e.payload
}

// theirSigner lets go-securesystemslib build what is signed.
type theirSigner struct {
	id   string
	kind sigalg.Key
	key  *cmstest.Identity
	t    *testing.T
}

func (s theirSigner) KeyID() (string, error) { return s.id, nil }
func (s theirSigner) Sign(_ context.Context, data []byte) ([]byte, error) {
	return s.key.Sign(s.t, s.kind.Default(), data), nil
}

// theirs is go-securesystemslib's own verifier.
func theirs(t *testing.T, id string, pub crypto.PublicKey) dsse.Verifier {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	k, err := signerverifier.LoadKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	k.KeyID = id
	var v dsse.Verifier
	switch k.KeyType {
	case signerverifier.RSAKeyType:
		v, err = signerverifier.NewRSAPSSSignerVerifierFromSSLibKey(k)
	case signerverifier.ECDSAKeyType:
		v, err = signerverifier.NewECDSASignerVerifierFromSSLibKey(k)
	default:
		v, err = signerverifier.NewED25519SignerVerifierFromSSLibKey(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Two keys may sign one envelope, and both must be trusted.
func TestTwoSignatures(t *testing.T) {
	a, b := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.P256)
	e, _, err := decode(sign(t, a, nil))
	if err != nil {
		t.Fatal(err)
	}
	id, err := dsseformat.KeyID(b.Public)
	if err != nil {
		t.Fatal(err)
	}
	f := format.BytesArtifact("app.tar", []byte(text))
	e.signatures = append(e.signatures, statements.Signature{KeyID: id, Sig: b.Sign(t, statements.PAE(e.payload))})
	tr := a.Trust()
	tr.Detached = e.encode()
	if _, err := New().Verify(t.Context(), f, tr); err == nil {
		t.Error("a signature of nobody's trust")
	}
	tr.Keys = append(tr.Keys, b.Public)
	if r, err := New().Verify(t.Context(), f, tr); err != nil || len(r.Signatures) != 2 {
		t.Errorf("%v", err)
	}
	e.signatures[1] = e.signatures[0]
	tr.Detached = e.encode()
	if _, err := New().Verify(t.Context(), f, tr); err == nil {
		t.Error("one key counts twice")
	}
	if in, err := New().Inspect(t.Context(), format.BytesArtifact("x", tr.Detached)); err != nil || len(in.Signatures) != 2 || !New().Detect(format.BytesArtifact("x", tr.Detached)) {
		t.Errorf("inspect: %+v, %v", in, err)
	}
	if in, err := New().Inspect(t.Context(), f); err != nil || len(in.Signatures) != 0 || New().Detect(f) {
		t.Errorf("inspect: %+v, %v", in, err)
	}
}

func TestEnvelopeStrict(t *testing.T) {
	good := string(sign(t, formattest.Identity(t, sigalg.Ed25519), nil))
	if _, _, err := decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	upper := strings.Index(good, `"keyid":"`) + len(`"keyid":"`)
	for name, bad := range map[string]string{
		"space":           " " + good,
		"newline":         good + "\n",
		"order":           strings.Replace(good, `{"payload"`, `{"payloadType":"x","payload"`, 1),
		"unknown member":  strings.TrimSuffix(good, "}") + `,"x":1}`,
		"case":            strings.Replace(good, `"payload"`, `"Payload"`, 1),
		"payload type":    strings.Replace(good, "vnd.in-toto", "vnd.in-tot0", 1),
		"upper keyid":     good[:upper] + strings.ToUpper(good[upper:upper+64]) + good[upper+64:],
		"no keyid":        good[:upper] + good[upper+64:],
		"no signature":    good[:strings.Index(good, `[`)] + "[]}",
		"escaped":         strings.Replace(good, `"sig"`, `"\u0073ig"`, 1),
		"base64 newlines": strings.Replace(good, `"payload":"`, `"payload":"\n`, 1),
		"empty":           "",
		"too large":       good + strings.Repeat(" ", MaxEnvelope),
	} {
		if bad == good {
			t.Errorf("%s: not spoilt", name)
		}
		if _, _, err := decode([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	e, _, err := decode([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string][2]string{
		"name differs":  {`"subject":[{"name":"app.tar"`, `"subject":[{"name":"app.ta2"`},
		"size negative": {`"size":16`, `"size":-1`},
		"size float":    {`"size":16`, `"size":16.0`},
		"claims empty":  {`"predicate":{`, `"predicate":{"claims":{},`},
		"claims null":   {`"predicate":{`, `"predicate":{"claims":null,`},
		"two digests":   {`"digest":{`, `"digest":{"sha1":"00",`},
		"two subjects":  {`"subject":[`, `"subject":[{"name":"x","digest":{"sha256":"00"}},`},
		"type":          {`Statement/v1`, `Statement/v0.1`},
	} {
		b := bytes.Replace(e.payload, []byte(r[0]), []byte(r[1]), 1)
		if bytes.Equal(b, e.payload) {
			t.Errorf("%s: not spoilt: %s", name, e.payload)
		}
		if _, err := decodeStatement(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNoTimestamp(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	a := format.BytesArtifact("f", []byte(text))
	p, err := New().Plan(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	sigs := formattest.SignAll(t, New(), p, s, formattest.At)
	sigs[0].Timestamp = []byte("token")
	if _, err := New().Attach(t.Context(), a, p, s.Identity, formattest.At, sigs); err == nil {
		t.Error("the timestamp is dropped silently")
	}
	if _, ok := New().(format.Stamper); ok {
		t.Error("attestations take no timestamps")
	}
	wrong := s.Identity
	wrong.Scheme = sigalg.ECDSASHA256
	if _, err := New().Assemble(p, wrong, formattest.At, nil); err == nil {
		t.Error("a scheme of another key")
	}
}

// Frozen: plans, messages and envelopes of version 1 stay good.
func TestGolden(t *testing.T) {
	a := format.BytesArtifact("app.tar", []byte(text))
	s := formattest.Identity(t, sigalg.Ed25519)
	var got []byte
	for _, p := range []format.Params{{"claims": `{"version":"1.2.3"}`}, {"predicate-type": slsa, "predicate": `{"buildDefinition":{"buildType":"https://example.com/b"}}`}} {
		plan, err := New().Plan(t.Context(), a, p)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := New().Assemble(plan, s.Identity, formattest.At, nil)
		if err != nil {
			t.Fatal(err)
		}
		got = fmt.Appendf(got, "plan %x\nmessage %s\n", enc, tbs[0].Message)
	}
	path := func(n string) string { return filepath.Join("testdata", n) }
	if *update {
		der, err := x509.MarshalPKIXPublicKey(s.Public)
		err = errors.Join(err, os.WriteFile(path("plans.txt"), got, 0o644), os.WriteFile(path("key.der"), der, 0o644),
			os.WriteFile(path("app.tar.dsse.json"), sign(t, s, format.Params{"claims": `{"version":"1.2.3"}`}), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path("plans.txt"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got\n%swant\n%s", err, got, want)
	}
	b, pub := frozen(t)
	r, err := New().Verify(t.Context(), a, format.Trust{Keys: []crypto.PublicKey{pub}, Now: formattest.At, Detached: b})
	if err != nil || r.Signatures[0].Facts[3].Value != `{"claims":{"version":"1.2.3"},"name":"app.tar","size":16}` {
		t.Errorf("%+v, %v", r, err)
	}
}

func frozen(tb testing.TB) ([]byte, crypto.PublicKey) {
	tb.Helper()
	b, err1 := os.ReadFile(filepath.Join("testdata", "app.tar.dsse.json"))
	der, err2 := os.ReadFile(filepath.Join("testdata", "key.der"))
	if err := errors.Join(err1, err2); err != nil {
		tb.Fatal(err)
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		tb.Fatal(err)
	}
	return b, pub
}

func FuzzDecode(f *testing.F) {
	b, pub := frozen(f)
	e, _, err := decode(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, e.payload)
	f.Add([]byte(`{}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, b, p []byte) {
		if e, s, err := decode(b); err == nil {
			if again := e.encode(); !bytes.Equal(again, b) {
				t.Fatalf("accepted %s, re-encodes to %s", b, again)
			}
			if _, err := decodeStatement(e.payload); err != nil || s == nil {
				t.Fatal(err)
			}
		}
		if s, err := decodeStatement(p); err == nil {
			again, err := encodeStatement(s.name, s.digest, s.predicateType, s.predicate)
			if err != nil || !bytes.Equal(again, p) {
				t.Fatalf("accepted %s, re-encodes to %s, %v", p, again, err)
			}
			if s.predicateType != ArtifactType && bytes.Contains(bytes.ToLower([]byte(s.predicateType)), []byte("greatseal.io")) {
				t.Fatal(s.predicateType)
			}
		}
		New().Verify(t.Context(), format.BytesArtifact("f", p), format.Trust{Keys: []crypto.PublicKey{pub}, Detached: b})
	})
}

func FuzzCanonical(f *testing.F) {
	f.Add(`{"b":[1,2.5,1e2,-0.0,1.5e20],"a":{"c":null,"d":true,"e":"é\n"}}`)
	f.Add(`{"version":"1.2.3"}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, canonical := range []func(string) (string, error){canonicalObject, canonicalClaims} {
			c, err := canonical(text)
			if err != nil {
				continue
			}
			if again, err := canonical(c); err != nil || again != c {
				t.Fatalf("%q gives %q, which gives %q, %v", text, c, again, err)
			}
		}
	})
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
