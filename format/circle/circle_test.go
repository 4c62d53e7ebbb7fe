package circle_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/attest"
	"github.com/greatseal-io/greatseal/format/circle"
	dsseformat "github.com/greatseal-io/greatseal/format/dsse"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func must(tb testing.TB, b []byte, err error) []byte {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// payload is a trust statement.
func payload(tb testing.TB, edit ...func(*trust.Statement)) []byte {
	tb.Helper()
	s := circletest.Statement(tb)
	for _, e := range edit {
		e(s)
	}
	b, err := s.Encode()
	return must(tb, b, err)
}

func freshness(tb testing.TB) []byte {
	tb.Helper()
	f := &trust.Freshness{Deployment: verifytest.Name, Circle: statement.IDOf([]byte("circle")), Version: 7, At: verifytest.Start, Expires: verifytest.Start.Add(time.Hour)}
	b, err := f.Encode()
	return must(tb, b, err)
}

func TestConformance(t *testing.T) {
	off := func(s *trust.Statement) {
		i := s.Instances[circletest.Protected]
		i.Enforcement = trust.Off
		s.Instances[circletest.Protected] = i
	}
	for name, c := range map[string]formattest.Case{
		"trust":     {Artifact: payload(t), Other: payload(t, off), Signer: formattest.Identity(t, sigalg.Ed25519)},
		"freshness": {Artifact: freshness(t), Other: payload(t), Signer: formattest.Identity(t, sigalg.P256)},
		"hybrid":    {Artifact: freshness(t), Other: payload(t), Signer: formattest.Identity(t, sigalg.Ed25519).And(formattest.Identity(t, sigalg.MLDSA65))},
	} {
		t.Run(name, func(t *testing.T) {
			c.Name, c.Refused = "circle.json", []format.Params{{"name": "x"}, {"": ""}}
			formattest.Run(t, circle.New(), c)
		})
	}
}

// What a statement is for follows from what it says, not from who asks.
func TestPurposes(t *testing.T) {
	for want, b := range map[string][]byte{record.Circle: payload(t), record.Freshness: freshness(t)} {
		p, err := circle.New().Plan(t.Context(), format.BytesArtifact("x", b), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := circle.New().Purposes(p); err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%v, %v: want %s", got, err, want)
		}
		p.Facts = p.Facts[1:]
		if _, err := circle.New().Purposes(p); err == nil {
			t.Error("the purpose of a plan that lies")
		}
	}
}

// What is no statement of a circle is not planned, and so not endorsed.
func TestPlanRefuses(t *testing.T) {
	good := payload(t)
	long := slices.Concat(good, bytes.Repeat([]byte{' '}, trust.MaxStatement))
	for name, b := range map[string][]byte{
		"nothing": {}, "text": []byte("hello"), "a line more": append(slices.Clone(good), '\n'), "large": long,
		"another kind": bytes.Replace(good, []byte(trust.Type), []byte(charter.Type), 1),
		"spaces":       bytes.Replace(good, []byte(`"version":1`), []byte(`"version": 1`), 1),
		"a member":     bytes.Replace(good, []byte(`"version":1`), []byte(`"version":1,"root":true`), 1),
		"wrong":        bytes.Replace(good, []byte(`"role":"trusted"`), []byte(`"role":"believed"`), 1),
	} {
		if _, err := circle.New().Plan(t.Context(), format.BytesArtifact("x", b), nil); err == nil {
			t.Errorf("%s is planned", name)
		}
	}
}

// Facts that a requester made up are refused by the keeper, as is a digest that is
// not the statement's.
func TestPlanThatLies(t *testing.T) {
	id := formattest.Identity(t, sigalg.Ed25519).Identity
	for name, edit := range map[string]func(*format.Plan){
		"enforcement on": func(p *format.Plan) {
			for i, f := range p.Facts {
				p.Facts[i].Value = strings.ReplaceAll(f.Value, "enforcement on", "enforcement off")
			}
		},
		"a fact less": func(p *format.Plan) { p.Facts = p.Facts[1:] },
		"a digest":    func(p *format.Plan) { p.Content[0] ^= 1 },
		"a size":      func(p *format.Plan) { p.Size++ },
		"a body":      func(p *format.Plan) { p.Body = nil },
		"an option":   func(p *format.Plan) { p.Params = []format.Fact{{Name: "a", Value: "b"}} },
		"a version":   func(p *format.Plan) { p.Version = 2 },
		"a format":    func(p *format.Plan) { p.Format = "dsse" },
	} {
		p, err := circle.New().Plan(t.Context(), format.BytesArtifact("x", payload(t)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := circle.New().Assemble(p, id, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		edit(p)
		if _, err := circle.New().Assemble(p, id, time.Time{}, nil); err == nil {
			t.Errorf("%s: is assembled", name)
		}
	}
}

// The format of attestations does not sign statements of circles, nor takes them.
func TestNoAttestation(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	for _, typ := range []string{trust.Type, trust.FreshnessType} {
		if _, err := attest.New().Plan(t.Context(), format.BytesArtifact("x", nil), format.Params{"predicate-type": typ, "predicate": "{}"}); err == nil {
			t.Errorf("%s is attested", typ)
		}
	}
	side := formattest.Detach(t, circle.New(), format.BytesArtifact("x", payload(t)), s, nil)
	tr := s.Trust()
	tr.Detached = side
	if _, err := attest.New().Verify(t.Context(), format.BytesArtifact("x", payload(t)), tr); err == nil {
		t.Error("taken for an attestation")
	}
}

func TestDetect(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	for name, b := range map[string][]byte{
		"trust": payload(t), "freshness": freshness(t),
		"envelope":           formattest.Detach(t, circle.New(), format.BytesArtifact("x", payload(t)), s, nil),
		"freshness envelope": formattest.Detach(t, circle.New(), format.BytesArtifact("x", freshness(t)), s, nil),
	} {
		if !circle.New().Detect(format.BytesArtifact("x", b)) {
			t.Errorf("%s is not detected", name)
		}
		r, err := circle.New().Inspect(t.Context(), format.BytesArtifact("x", b))
		if err != nil || len(r.Facts) == 0 || (len(r.Signatures) == 1) != strings.Contains(name, "envelope") {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	other := bytes.Replace(payload(t), []byte(trust.Type), []byte(charter.Type), 1)
	for name, b := range map[string][]byte{
		"empty": nil, "other statement": other, "brace": []byte("{"), "dsse": formattest.Detach(t, attest.New(), format.BytesArtifact("x", other), s, nil),
		"garbage": []byte(`{"payload":"!!!!` + strings.Repeat("!", 200)),
	} {
		if circle.New().Detect(format.BytesArtifact("x", b)) {
			t.Errorf("%s is detected", name)
		}
	}
}

// An envelope and a plan that were kept are read for ever.
func TestGolden(t *testing.T) {
	path := func(n string) string { return filepath.Join("testdata", n) }
	file := payload(t)
	key := circletest.Key("golden")
	id := format.Identity{Scheme: sigalg.PureEd25519, Public: key.Public()}
	plan, err := circle.New().Plan(t.Context(), format.BytesArtifact("circle.json", file), nil)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := circle.New().Assemble(plan, id, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sigs := []format.Signature{{Value: ed25519.Sign(key, tbs[0].Message)}}
	patch, err := circle.New().Attach(t.Context(), format.BytesArtifact("circle.json", file), plan, id, time.Time{}, sigs)
	if err != nil {
		t.Fatal(err)
	}
	side := patch.Sidecar.Data
	for n, got := range map[string][]byte{"circle.json": file, "circle.json.circle": side, "plan.cbor": enc} {
		if *update {
			if err := os.WriteFile(path(n), got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path(n))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has changed: %v", n, err)
		}
	}
	tr := format.Trust{Keys: []crypto.PublicKey{key.Public()}, Detached: side}
	if _, err := circle.New().Verify(t.Context(), format.BytesArtifact("circle.json", file), tr); err != nil {
		t.Error(err)
	}
}

// Whatever an envelope is accepted as re-encodes to itself.
func FuzzEnvelope(f *testing.F) {
	s := formattest.Identity(f, sigalg.Ed25519)
	for _, p := range [][]byte{payload(f), freshness(f)} {
		f.Add(formattest.Detach(f, circle.New(), format.BytesArtifact("x", p), s, nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		circle.New().Detect(format.BytesArtifact("x", b))
		e, err := circle.DecodeEnvelope(b)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q re-encodes to %q, %v", b, again, err)
		}
	})
}

// theirs is go-securesystemslib's own verifier, or signer.
func theirs(t *testing.T, pub crypto.PublicKey, private []byte) dsse.SignerVerifier {
	t.Helper()
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: private}
	if private == nil {
		der, err := x509.MarshalPKIXPublicKey(pub)
		block = &pem.Block{Type: "PUBLIC KEY", Bytes: must(t, der, err)}
	}
	k, err := signerverifier.LoadKey(pem.EncodeToMemory(block))
	if err != nil {
		t.Fatal(err)
	}
	if k.KeyID, err = dsseformat.KeyID(pub); err != nil {
		t.Fatal(err)
	}
	var v dsse.SignerVerifier
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

func TestOracleCircle(t *testing.T) {
	verdicts := formattest.Judge(t, circle.Name, "go-securesystemslib 0.11.1")
	file := payload(t)
	for _, x := range []struct {
		kind   sigalg.Key
		scheme sigalg.Scheme
	}{{sigalg.RSA3072, sigalg.RSAPSSSHA256}, {sigalg.P256, sigalg.ECDSASHA256}, {sigalg.Ed25519, sigalg.PureEd25519}} {
		s := formattest.Identity(t, x.kind).With(x.scheme)
		side := formattest.Detach(t, circle.New(), format.BytesArtifact("x", file), s, nil)
		ev, err := dsse.NewEnvelopeVerifier(theirs(t, s.Public, nil))
		if err != nil {
			t.Fatal(err)
		}
		var e dsse.Envelope
		if err := json.Unmarshal(side, &e); err != nil {
			t.Fatal(err)
		}
		_, err = ev.Verify(t.Context(), &e)
		verdicts.Accepts(string(x.kind), string(x.kind), err)

		weaker := bytes.Replace(file, []byte(`"enforcement":"on"`), []byte(`"enforcement":"of"`), 1)
		bad := base64.StdEncoding.EncodeToString(weaker)
		tr := s.Trust()
		tr.Detached = bytes.Replace(side, []byte(e.Payload), []byte(bad), 1)
		_, ours := circle.New().Verify(t.Context(), format.BytesArtifact("x", weaker), tr)
		e.Payload = bad
		_, their := ev.Verify(t.Context(), &e)
		verdicts.Rejects(string(x.kind), ours, their)
	}
	// Theirs: their signer's envelope, in our one form.
	key := circletest.Key("theirs")
	der, err := x509.MarshalPKCS8PrivateKey(key)
	es, err2 := dsse.NewEnvelopeSigner(theirs(t, key.Public(), must(t, der, err)))
	if err2 != nil {
		t.Fatal(err2)
	}
	e, err := es.SignPayload(context.Background(), statement.PayloadType, file)
	if err != nil {
		t.Fatal(err)
	}
	value, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	side := circle.Envelope{Payload: file, Signatures: []statement.Signature{{KeyID: e.Signatures[0].KeyID, Sig: must(t, value, err)}}}
	b, err := side.Encode()
	tr := format.Trust{Keys: []crypto.PublicKey{key.Public()}, Detached: must(t, b, err)}
	_, err = circle.New().Verify(t.Context(), format.BytesArtifact("x", file), tr)
	verdicts.Takes("ed25519", err)
}
