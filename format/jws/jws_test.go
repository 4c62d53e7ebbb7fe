package jws

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const text = "any file at all\n"

func artifact(b []byte) format.Artifact { return format.BytesArtifact("file", b) }

func sign(t testing.TB, b []byte, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	plan, err := New().Plan(t.Context(), artifact(b), p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), artifact(b), plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	return patch.Sidecar.Data
}

func verify(t testing.TB, b, message []byte, trust format.Trust) (*format.Report, error) {
	t.Helper()
	trust.Detached = message
	return New().Verify(t.Context(), artifact(b), trust)
}

func TestConformance(t *testing.T) {
	refused := []format.Params{{"payload": "hash"}, {"serialization": "xml"}, {"content-type": "text/plän"}, {"certificates": "all"}}
	for name, c := range map[string]struct {
		s *formattest.Signer
		p format.Params
	}{
		"embedded":   {formattest.Identity(t, sigalg.P256), format.Params{"content-type": "text/plain"}},
		"detached":   {formattest.Identity(t, sigalg.RSA3072), format.Params{"payload": "detached", "serialization": "json", "certificates": "none"}},
		"unencoded":  {formattest.Identity(t, sigalg.P384), format.Params{"payload": "unencoded", "certificates": "thumbprint"}},
		"several":    {formattest.Identity(t, sigalg.P256).And(formattest.Identity(t, sigalg.Ed25519)), format.Params{"serialization": "json", "certificates": "none"}},
		"no payload": {formattest.Identity(t, sigalg.Ed25519), format.Params{"payload": "detached", "certificates": "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "file", Params: c.p, Signer: c.s, Refused: refused,
			})
		})
	}
}

// Every key, every way.
func TestRoundTrip(t *testing.T) {
	ml, ed := formattest.Identity(t, sigalg.MLDSA65), formattest.Identity(t, sigalg.Ed25519)
	for name, s := range map[string]*formattest.Signer{
		"rsa": formattest.Identity(t, sigalg.RSA3072), "pss": formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA512), "p256": formattest.Identity(t, sigalg.P256),
		"p384": formattest.Identity(t, sigalg.P384), "ed25519": ed, "ml-dsa-65": ml, "ml-dsa-87": formattest.Identity(t, sigalg.MLDSA87), "hybrid": formattest.Identity(t, sigalg.P256).And(ml, ed),
	} {
		for _, payload := range []string{"embedded", "detached", "unencoded"} {
			for _, serialization := range []string{"compact", "json"} {
				if serialization == "compact" && name == "hybrid" {
					continue
				}
				for _, certificates := range []string{"chain", "thumbprint", "none"} {
					what := strings.Join([]string{name, payload, serialization, certificates}, " ")
					b := sign(t, []byte(text), s, format.Params{"payload": payload, "serialization": serialization, "certificates": certificates})
					r, err := verify(t, []byte(text), b, s.Trust())
					if err != nil || len(r.Signatures) != len(s.Signers()) || len(r.Signatures[0].Open) != 0 {
						t.Fatalf("%s: %+v, %v", what, r, err)
					}
					roots := s.Trust()
					roots.Keys = nil
					if _, err := verify(t, []byte(text), b, roots); (err == nil) != (certificates == "chain") {
						t.Errorf("%s: with roots alone: %v", what, err)
					}
					if !New().Detect(artifact(b)) {
						t.Errorf("%s: not detected", what)
					}
					in, err := New().Inspect(t.Context(), artifact(b))
					if err != nil || len(in.Signatures) != len(r.Signatures) || payload == "embedded" && !bytes.Equal(in.Signatures[0].Content, r.Signatures[0].Content) {
						t.Errorf("%s: inspect: %+v, %v", what, in, err)
					}
					if _, err := New().Verify(t.Context(), artifact(b), s.Trust()); (err == nil) != (payload == "embedded") {
						t.Errorf("%s: alone: %v", what, err)
					}
				}
			}
		}
	}
	for _, payload := range []string{"embedded", "detached", "unencoded"} {
		b := sign(t, nil, ed, format.Params{"payload": payload})
		if _, err := verify(t, nil, b, ed.Trust()); err != nil {
			t.Errorf("empty file, %s: %v", payload, err)
		}
		if _, err := verify(t, []byte("x"), b, ed.Trust()); err == nil {
			t.Errorf("empty file, %s: good for another", payload)
		}
	}
}

// Invariant 1.
func TestAssembleRefuses(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	plan := func(p format.Params) *format.Plan {
		pl, err := New().Plan(t.Context(), artifact([]byte(text)), p)
		if err != nil {
			t.Fatal(err)
		}
		return pl
	}
	other, err := format.Encode(&body{[]byte("another file\n")})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		p  *format.Plan
		id format.Identity
	}{
		"content of another file":      {func() *format.Plan { p := plan(nil); p.Body = other; return p }(), s.Identity},
		"facts":                        {func() *format.Plan { p := plan(nil); p.Facts = []format.Fact{{Name: "a", Value: "b"}}; return p }(), s.Identity},
		"another digest":               {func() *format.Plan { p := plan(nil); p.Digest = "sha384"; p.Content = make([]byte, 48); return p }(), s.Identity},
		"hash that is not the curve's": {plan(nil), s.With(sigalg.ECDSASHA384).Identity},
		"two keys, compact":            {plan(nil), s.And(formattest.Identity(t, sigalg.Ed25519)).Identity},
		"five keys":                    {plan(format.Params{"serialization": "json"}), s.And(s, s, s, s).Identity},
	} {
		if _, err := New().Assemble(c.p, c.id, formattest.At, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := New().Plan(t.Context(), artifact(make([]byte, envelope.MaxContent+1)), nil); err == nil {
		t.Error("a file too large for its plan")
	}
	pl := plan(nil)
	sigs := formattest.SignAll(t, New(), pl, s, formattest.At)
	sigs[0].Timestamp = []byte("token")
	if _, err := New().Attach(t.Context(), artifact([]byte(text)), pl, s.Identity, formattest.At, sigs); err == nil {
		t.Error("a timestamp is dropped")
	}
}

// craft signs a compact message with a header of one's own choice.
func craft(t testing.TB, s *formattest.Signer, header, content string) string {
	t.Helper()
	p := b64.EncodeToString([]byte(header))
	input := p + "." + b64.EncodeToString([]byte(content))
	value, err := envelope.Raw(s.Public, s.Sign(t, []byte(input)))
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64.EncodeToString(value)
}

// Invariants 2 to 4: what others got wrong with headers. Every signature here is
// itself right, unless the name says otherwise.
func TestHeaderAttacks(t *testing.T) {
	s, other := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P256)
	cert := base64.StdEncoding.EncodeToString(other.Chain[0].Raw)
	raw := func(header, content string) string { // b64=false
		p := b64.EncodeToString([]byte(header))
		value, err := envelope.Raw(s.Public, s.Sign(t, []byte(p+"."+content)))
		if err != nil {
			t.Fatal(err)
		}
		return p + ".." + b64.EncodeToString(value)
	}
	der, err := x509.MarshalPKIXPublicKey(s.Public)
	if err != nil {
		t.Fatal(err)
	}
	hs := b64.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + b64.EncodeToString([]byte(text))
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte(hs))
	good := craft(t, s, `{"alg":"ES256"}`, text)
	parts := strings.Split(good, ".")
	json := func(extra string) string {
		return `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"` + extra + `}`
	}
	twoLines := b64.EncodeToString([]byte(`{"alg":"ES256"}`))
	twoLines = twoLines[:4] + "\n" + twoLines[4:]
	value, err := envelope.Raw(s.Public, s.Sign(t, []byte(twoLines+"."+parts[1])))
	if err != nil {
		t.Fatal(err)
	}
	lines := twoLines + "." + parts[1] + "." + b64.EncodeToString(value)
	sig, err := b64.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	zero := parts[0] + "." + parts[1] + "." + b64.EncodeToString(make([]byte, 64))
	asDER := parts[0] + "." + parts[1] + "." + b64.EncodeToString(func() []byte { d, _ := envelope.DER(s.Public, sig); return d }())
	for name, c := range map[string]struct {
		message string
		ok      bool
	}{
		"good":                            {good, true},
		"unknown parameter":               {craft(t, s, `{"alg":"ES256","iat":1}`, text), true},
		"alg none":                        {b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", false},
		"alg none, with a signature":      {craft(t, s, `{"alg":"none"}`, text), false},
		"alg None":                        {craft(t, s, `{"alg":"nOnE"}`, text), false},
		"HMAC under the public key":       {hs + "." + b64.EncodeToString(mac.Sum(nil)), false},
		"no alg":                          {craft(t, s, `{}`, text), false},
		"alg twice":                       {craft(t, s, `{"alg":"ES256","alg":"ES256"}`, text), false},
		"alg in capitals":                 {craft(t, s, `{"ALG":"ES256"}`, text), false},
		"alg of another curve":            {craft(t, s, `{"alg":"ES384"}`, text), false},
		"ECDSA of zeros":                  {zero, false},
		"ECDSA in DER":                    {asDER, false},
		"critical unknown":                {craft(t, s, `{"alg":"ES256","crit":["x"],"x":1}`, text), false},
		"critical empty":                  {craft(t, s, `{"alg":"ES256","crit":[]}`, text), false},
		"critical null":                   {craft(t, s, `{"alg":"ES256","crit":null,"b64":false}`, text), false},
		"no content type, as null":        {craft(t, s, `{"alg":"ES256","cty":null}`, text), false},
		"no key name, as null":            {craft(t, s, `{"alg":"ES256","kid":null}`, text), false},
		"b64 null":                        {craft(t, s, `{"alg":"ES256","b64":null}`, text), false},
		"critical null alone":             {craft(t, s, `{"alg":"ES256","crit":null}`, text), false},
		"no certificates, as null":        {craft(t, s, `{"alg":"ES256","x5c":null}`, text), false},
		"no thumbprint, as null":          {craft(t, s, `{"alg":"ES256","x5t#S256":null}`, text), false},
		"unknown parameter that is null":  {craft(t, s, `{"alg":"ES256","x":null}`, text), true},
		"thumbprint in two lines":         {craft(t, s, `{"alg":"ES256","x5t#S256":"`+strings.Repeat("A", 20)+`\n`+strings.Repeat("A", 23)+`"}`, text), false},
		"header in two lines":             {lines, false},
		"flattened, no header, as null":   {json(`,"header":null`), false},
		"flattened, no more, as null":     {json(`,"signatures":null`), false},
		"flattened, detached, as null":    {`{"payload":null,"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, false},
		"critical alg":                    {craft(t, s, `{"alg":"ES256","crit":["alg"]}`, text), false},
		"critical b64 that is not there":  {craft(t, s, `{"alg":"ES256","crit":["b64"]}`, text), false},
		"critical b64 twice":              {raw(`{"alg":"ES256","b64":false,"crit":["b64","b64"]}`, text), false},
		"b64 not critical":                {raw(`{"alg":"ES256","b64":false}`, text), false},
		"b64 critical":                    {raw(`{"alg":"ES256","b64":false,"crit":["b64"]}`, text), true},
		"b64 true, critical":              {craft(t, s, `{"alg":"ES256","b64":true,"crit":["b64"]}`, text), true},
		"b64 true, not critical":          {craft(t, s, `{"alg":"ES256","b64":true}`, text), false},
		"b64 text":                        {craft(t, s, `{"alg":"ES256","b64":"false","crit":["b64"]}`, text), false},
		"unencoded, embedded":             {strings.Replace(raw(`{"alg":"ES256","b64":false,"crit":["b64"]}`, parts[1]), "..", "."+parts[1]+".", 1), false},
		"stranger's certificate":          {craft(t, s, `{"alg":"ES256","x5c":["`+cert+`"]}`, text), false},
		"stranger signs with his own":     {craft(t, other, `{"alg":"ES256","x5c":["`+cert+`"]}`, text), false},
		"stranger's key in the header":    {craft(t, other, `{"alg":"ES256","jwk":{"kty":"EC"}}`, text), false},
		"key from a place":                {craft(t, other, `{"alg":"ES256","jku":"https://example.com/keys"}`, text), false},
		"no certificates":                 {craft(t, s, `{"alg":"ES256","x5c":[]}`, text), false},
		"certificate in base64url":        {craft(t, s, `{"alg":"ES256","x5c":["-_-_"]}`, text), false},
		"thumbprint too short":            {craft(t, s, `{"alg":"ES256","x5t#S256":"AAAA"}`, text), false},
		"header is an array":              {craft(t, s, `["alg","ES256"]`, text), false},
		"header is not UTF-8":             {craft(t, s, "{\"alg\":\"ES256\",\"x\":\"\xff\"}", text), false},
		"two values":                      {craft(t, s, `{"alg":"ES256"}{}`, text), false},
		"padding":                         {good + "=", false},
		"line end":                        {good + "\n", false},
		"four parts":                      {good + ".", false},
		"two parts":                       {parts[0] + "." + parts[2], false},
		"detached":                        {parts[0] + ".." + parts[2], true},
		"flattened":                       {json(""), true},
		"flattened, key name":             {json(`,"header":{"kid":"k"}`), true},
		"flattened, unsigned alg":         {json(`,"header":{"alg":"ES256"}`), false},
		"flattened, unsigned certificate": {json(`,"header":{"x5c":["` + cert + `"]}`), false},
		"flattened, empty header":         {json(`,"header":{}`), false},
		"flattened and general":           {json(`,"signatures":[]`), false},
		"member twice":                    {json(`,"payload":"` + parts[1] + `"`), false},
		"unknown member":                  {json(`,"x":1`), false},
		"escape":                          {strings.Replace(json(""), "payload", `payloa\u0064`, 1), false},
		"white space":                     {strings.Replace(json(""), ",", ", ", 1), false},
		"two messages":                    {json("") + "{}", false},
		"general":                         {`{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`, true},
		"general, nobody":                 {`{"payload":"` + parts[1] + `","signatures":[]}`, false},
		"general, twice the same":         {`{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"},{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`, false},
		"nothing":                         {"", false},
		"nothing signed":                  {"..", false},
	} {
		r, err := verify(t, []byte(text), []byte(c.message), s.Trust())
		if (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if err == nil && (name == "flattened, key name") != (len(r.Signatures[0].Open) == 1) {
			t.Errorf("%s: open: %q", name, r.Signatures[0].Open)
		}
	}
	if _, err := verify(t, []byte(text), []byte(`{"payload":"`+parts[1]+`","signatures":[`+strings.Repeat(`{"protected":"`+parts[0]+`","signature":"`+parts[2]+`"},`, MaxSigners)+`{}]}`), s.Trust()); err == nil {
		t.Error("too many signatures")
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	s.Chain = nil
	var got []byte
	for _, p := range []format.Params{{"content-type": "text/plain"}, {"payload": "unencoded", "serialization": "json"}} {
		plan, err := New().Plan(t.Context(), artifact([]byte(text)), p)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got = fmt.Appendf(got, "plan %x\n", enc)
	}
	path := func(n string) string { return filepath.Join("testdata", n) }
	if *update {
		der, err := x509.MarshalPKIXPublicKey(s.Public)
		if err := errors.Join(err, os.WriteFile(path("plans.txt"), got, 0o644), os.WriteFile(path("key.der"), der, 0o644),
			os.WriteFile(path("file.jws"), sign(t, []byte(text), s, nil), 0o644), os.WriteFile(path("unencoded.jws"), sign(t, []byte(text), s, format.Params{"payload": "unencoded", "serialization": "json"}), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path("plans.txt")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got\n%swant\n%s", err, got, want)
	}
	trust := frozen(t)
	for _, n := range []string{"file.jws", "unencoded.jws"} {
		b, err := os.ReadFile(path(n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t, []byte(text), b, trust); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func frozen(tb testing.TB) format.Trust {
	tb.Helper()
	return formattest.Frozen(tb, filepath.Join("testdata", "key.der"))
}

// The example of RFC 8037 appendix A.4.
func TestRFC8037(t *testing.T) {
	x, err := b64.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	const message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	trust := format.Trust{Keys: []crypto.PublicKey{ed25519.PublicKey(x)}, Now: formattest.At}
	if _, err := verify(t, []byte("Example of Ed25519 signing"), []byte(message), trust); err != nil {
		t.Error(err)
	}
	if _, err := verify(t, []byte("Example of Ed25519 Signing"), []byte(message), trust); err == nil {
		t.Error("another content")
	}
}

func FuzzMessage(f *testing.F) {
	for _, n := range []string{"file.jws", "unencoded.jws"} {
		b, err := os.ReadFile(filepath.Join("testdata", n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(sign(f, []byte(text), formattest.Identity(f, sigalg.P256).And(formattest.Identity(f, sigalg.Ed25519)), format.Params{"serialization": "json"}))
	trust := frozen(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		if again, err := parse(m.encode()); err != nil || len(again.signers) != len(m.signers) || m.compact && !bytes.Equal(m.encode(), b) {
			t.Fatalf("%s re-encodes as %s, %v", b, m.encode(), err)
		}
		New().Inspect(t.Context(), artifact(b))
		if _, err := verify(t, []byte("another file\n"), b, trust); err == nil {
			t.Fatalf("accepted: %s", b)
		}
	})
}
