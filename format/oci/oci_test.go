package oci

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/envelope"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	image   = `{"schemaVersion":2,"mediaType":"` + MediaManifest + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digestA + `","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + digestB + `","size":7}],"annotations":{"org.opencontainers.image.version":"1.2.3"}}`
	index   = `{"schemaVersion":2,"mediaType":"` + MediaIndex + `","manifests":[{"mediaType":"` + MediaManifest + `","digest":"` + digestA + `","size":5,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}},{"mediaType":"` + MediaManifest + `","digest":"` + digestB + `","size":6}]}`
)

var other = strings.Replace(image, "1.2.3", "1.2.4", 1)

func artifact(s string) format.Artifact { return format.BytesArtifact("manifest.json", []byte(s)) }

// whole is a signer whose chain ends in its root, as the Notary Project wants it.
func whole(t testing.TB, kind sigalg.Key, change ...func(*x509.Certificate)) *formattest.Signer {
	t.Helper()
	s := formattest.Identity(t, kind, change...)
	s.Chain = append(slices.Clone(s.Chain), s.Root.Certificate)
	if kind == sigalg.RSA3072 {
		s = s.With(sigalg.RSAPSSSHA384)
	}
	return s
}

func sign(t testing.TB, manifest string, s *formattest.Signer, form string) []byte {
	t.Helper()
	plan, err := New().Plan(t.Context(), artifact(manifest), format.Params{"form": form})
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), artifact(manifest), plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	return patch.Sidecar.Data
}

func verify(t testing.TB, manifest string, sig []byte, trust format.Trust) (*format.Report, error) {
	t.Helper()
	trust.Detached = sig
	return New().Verify(t.Context(), artifact(manifest), trust)
}

func TestConformance(t *testing.T) {
	for name, c := range map[string]struct {
		s        *formattest.Signer
		form     string
		unsigned []string
	}{
		"cosign": {formattest.Identity(t, sigalg.P256), FormCosign, nil},
		"jws":    {whole(t, sigalg.P256), FormNotationJWS, nil},
		"cose":   {whole(t, sigalg.P384), FormNotationCOSE, nil},
	} {
		t.Run(name, func(t *testing.T) {
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(image), Other: []byte(other), Name: "manifest.json", Params: format.Params{"form": c.form}, Signer: c.s,
				Refused: []format.Params{{"form": "notary-v1"}}, Unsigned: c.unsigned,
			})
		})
	}
}

func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		form  string
		kinds []sigalg.Key
	}{
		{FormCosign, []sigalg.Key{sigalg.P256, sigalg.P384, sigalg.Ed25519}},
		{FormNotationJWS, []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384}},
		{FormNotationCOSE, []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.P384}},
	} {
		for _, kind := range c.kinds {
			for _, m := range []string{image, index} {
				s := whole(t, kind)
				b := sign(t, m, s, c.form)
				r, err := verify(t, m, b, s.Trust())
				if err != nil || len(r.Signatures[0].Open) != 0 || r.Signatures[0].Scheme != s.Scheme {
					t.Fatalf("%s %s: %+v, %v", c.form, kind, r, err)
				}
				keys, roots := s.Trust(), s.Trust()
				keys.Roots, roots.Keys = nil, nil
				if _, err := verify(t, m, b, keys); (err == nil) != (c.form == FormCosign) {
					t.Errorf("%s: with the key alone: %v", c.form, err)
				}
				if _, err := verify(t, m, b, roots); (err == nil) != (c.form != FormCosign) {
					t.Errorf("%s: with the root alone: %v", c.form, err)
				}
				in, err := New().Inspect(t.Context(), format.BytesArtifact("sig", b))
				if err != nil || len(in.Signatures) != 1 || !bytes.Equal(in.Signatures[0].Content, r.Signatures[0].Content) || !New().Detect(format.BytesArtifact("sig", b)) {
					t.Errorf("%s: inspect: %+v, %v", c.form, in, err)
				}
				var entries []format.Entry
				if err := (Format{}).List(t.Context(), artifact(m), func(e format.Entry) error { entries = append(entries, e); return nil }); err != nil || len(entries) != 2 || len(entries[1].Digest) != 32 {
					t.Errorf("%+v, %v", entries, err)
				}
			}
		}
	}
}

// Invariant 2, and whatever else no manifest may be.
func TestManifests(t *testing.T) {
	for name, c := range map[string]struct {
		manifest string
		ok       bool
	}{
		"image":                         {image, true},
		"index":                         {index, true},
		"image without its media type":  {strings.Replace(image, `"mediaType":"`+MediaManifest+`",`, "", 1), true},
		"Docker's image":                {strings.Replace(image, MediaManifest, mediaDockerManifest, 1), true},
		"Docker's list":                 {strings.Replace(index, MediaIndex, mediaDockerList, 1), true},
		"image and index (2021-41190)":  {strings.Replace(image, `"layers"`, `"manifests":[],"layers"`, 1), false},
		"neither":                       {`{"schemaVersion":2,"mediaType":"` + MediaManifest + `"}`, false},
		"image that calls itself index": {strings.Replace(image, MediaManifest, MediaIndex, 1), false},
		"index that calls itself image": {strings.Replace(index, MediaIndex, MediaManifest, 1), false},
		"no config":                     {strings.Replace(image, `"config"`, `"konfig"`, 1), false},
		"schema 1":                      {strings.Replace(image, `"schemaVersion":2`, `"schemaVersion":1`, 1), false},
		"layers of schema 1":            {strings.Replace(image, `"layers"`, `"fsLayers":[],"layers"`, 1), false},
		"index in capitals":             {strings.Replace(image, `"layers"`, `"Manifests":[],"layers"`, 1), false},
		"config in capitals":            {strings.Replace(image, `"layers"`, `"Config":{"mediaType":"x","digest":"`+digestB+`","size":2},"layers"`, 1), false},
		"digest in another case":        {strings.Replace(image, `"digest":"`+digestB, `"Digest":"`+digestA+`","digest":"`+digestB, 1), false},
		"layers with a long s":          {strings.Replace(image, `"config"`, `"layerſ":[],"config"`, 1), false},
		"layers in capitals alone":      {strings.Replace(image, `"layers"`, `"LAYERS"`, 1), false},
		"annotations in two cases":      {strings.Replace(image, `"annotations":{`, `"annotations":{"a":"1","A":"2",`, 1), true},
		"member twice":                  {strings.Replace(image, `"layers"`, `"schemaVersion":2,"layers"`, 1), false},
		"digest under MD5":              {strings.Replace(image, digestA, "md5:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1), false},
		"digest in capitals":            {strings.Replace(image, digestA, strings.ToUpper(digestA[:8])+digestA[8:], 1), false},
		"digest too short":              {strings.Replace(image, digestA, digestA[:70], 1), false},
		"negative size":                 {strings.Replace(image, `"size":7`, `"size":-7`, 1), false},
		"too many layers":               {strings.Replace(image, `"layers":[`, `"layers":[`+strings.Repeat(`{"mediaType":"x","digest":"`+digestA+`","size":1},`, maxEntries), 1), false},
		"too many annotations":          {strings.Replace(image, `"annotations":{`, `"annotations":{`+manyAnnotations(), 1), true},
		"annotation with a line end":    {strings.Replace(image, "1.2.3", `1.2.3\nfake: fact\u202e`, 1), true},
		"not JSON":                      {image[1:], false},
		"JSON of another kind":          {`{"a":1}`, false},
	} {
		plan, err := New().Plan(t.Context(), artifact(c.manifest), nil)
		if (err == nil) != c.ok || New().Detect(artifact(c.manifest)) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if _, err := plan.Encode(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if New().Detect(format.BytesArtifact("large", append([]byte(image), make([]byte, MaxManifest)...))) {
		t.Error("a manifest of more than 4 MiB")
	}
}

func manyAnnotations() string {
	var b strings.Builder
	for i := range 2 * format.MaxFacts {
		fmt.Fprintf(&b, `"a%d":"%d",`, i, i)
	}
	return b.String()
}

// Invariant 1, and what verifiers of the forms would refuse.
func TestAssembleRefuses(t *testing.T) {
	s := whole(t, sigalg.P256)
	plan := func(form string) *format.Plan {
		p, err := New().Plan(t.Context(), artifact(image), format.Params{"form": form})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	with := func(p *format.Plan, change func(*format.Plan)) *format.Plan { change(p); return p }
	enc := func(m string) []byte {
		b, err := format.Encode(&body{[]byte(m)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	short := *s
	short.Chain = s.Chain[:2]
	bare := *s
	bare.Chain = nil
	for name, c := range map[string]struct {
		p  *format.Plan
		id format.Identity
	}{
		"no manifest":      {with(plan(FormCosign), func(p *format.Plan) { p.Body = enc("") }), s.Identity},
		"another manifest": {with(plan(FormCosign), func(p *format.Plan) { p.Body = enc(other) }), s.Identity},
		"facts of another": {with(plan(FormCosign), func(p *format.Plan) { p.Facts[len(p.Facts)-1].Value = "1.2.4" }), s.Identity},
		"a fact less":      {with(plan(FormCosign), func(p *format.Plan) { p.Facts = p.Facts[:1] }), s.Identity},
		"a manifest of two readings": {with(plan(FormCosign), func(p *format.Plan) {
			m := strings.Replace(image, `"layers"`, `"Manifests":[],"layers"`, 1)
			sum := sha256.Sum256([]byte(m))
			p.Body, p.Content, p.Size = enc(m), sum[:], int64(len(m))
		}), s.Identity},
		"no facts":               {with(plan(FormCosign), func(p *format.Plan) { p.Facts = nil }), s.Identity},
		"empty manifest":         {with(plan(FormNotationJWS), func(p *format.Plan) { p.Size = 0 }), s.Identity},
		"large manifest":         {with(plan(FormNotationJWS), func(p *format.Plan) { p.Size = MaxManifest + 1 }), s.Identity},
		"another digest":         {with(plan(FormCosign), func(p *format.Plan) { p.Digest, p.Content = "sha384", make([]byte, 48) }), s.Identity},
		"two keys":               {plan(FormCosign), s.And(whole(t, sigalg.P256)).Identity},
		"cosign, PSS":            {plan(FormCosign), whole(t, sigalg.RSA3072).Identity},
		"cosign, ML-DSA":         {plan(FormCosign), formattest.Identity(t, sigalg.MLDSA65).Identity},
		"notation, Ed25519":      {plan(FormNotationJWS), whole(t, sigalg.Ed25519).Identity},
		"notation, PKCS #1":      {plan(FormNotationJWS), whole(t, sigalg.RSA3072).With(sigalg.RSAPKCS1SHA256).Identity},
		"notation, another hash": {plan(FormNotationCOSE), whole(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA256).Identity},
		"notation without root":  {plan(FormNotationCOSE), short.Identity},
		"notation without chain": {plan(FormNotationJWS), bare.Identity},
	} {
		if _, err := New().Assemble(c.p, c.id, formattest.At, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// Invariants 3 and 4: envelopes whose signature is right, and the rest is not.
func TestEnvelopeAttacks(t *testing.T) {
	s, stranger := whole(t, sigalg.P256), whole(t, sigalg.P256)
	sum := sha256.Sum256([]byte(image))
	good := target{MediaManifest, sum[:], int64(len(image))}
	jws := func(header string, t2 target, chain []*x509.Certificate) []byte {
		p := url.EncodeToString([]byte(header))
		raw, err := envelope.Raw(s.Public, s.Sign(t, []byte(p+"."+url.EncodeToString(t2.payload()))))
		if err != nil {
			t.Fatal(err)
		}
		return encodeJWS(p, t2.payload(), raw, chain)
	}
	header := func(more string) string {
		return `{"alg":"ES256","crit":["` + notaryScheme + `"],"cty":"` + notaryPayload + `","` + notaryScheme + `":"` + schemeX509 + `"` + more + `}`
	}
	expiring := func(at string) string {
		return strings.Replace(header(`,"`+notaryExpiry+`":"`+at+`"`), `"crit":[`, `"crit":["`+notaryExpiry+`",`, 1)
	}
	statement := func(payload string) []byte {
		kid, err := envelope.KeyID(s.Public)
		if err != nil {
			t.Fatal(err)
		}
		return encodeBundle([]byte(payload), kid, s.Sign(t, preAuth([]byte(payload))))
	}
	st := string(good.statement())
	bundle := string(statement(st))
	for name, c := range map[string]struct {
		sig  []byte
		ok   bool
		open int
	}{
		"jws":                            {jws(header(""), good, s.Chain), true, 0},
		"jws, with a time":               {jws(header(`,"`+notaryTime+`":"2026-01-01T00:00:00Z"`), good, s.Chain), true, 0},
		"jws, expired":                   {jws(expiring("2020-01-01T00:00:00Z"), good, s.Chain), false, 0},
		"jws, not expired":               {jws(expiring("2099-01-01T00:00:00Z"), good, s.Chain), true, 0},
		"jws, expiry not critical":       {jws(header(`,"`+notaryExpiry+`":"2099-01-01T00:00:00Z"`), good, s.Chain), false, 0},
		"jws, expired in the year 1":     {jws(expiring("0001-01-01T00:00:00Z"), good, s.Chain), false, 0},
		"jws, null for no expiry":        {jws(header(`,"`+notaryExpiry+`":null`), good, s.Chain), false, 0},
		"jws, null for no time":          {jws(header(`,"`+notaryTime+`":null`), good, s.Chain), false, 0},
		"jws, critical unknown":          {jws(strings.Replace(header(`,"x":1`), `"crit":[`, `"crit":["x",`, 1), good, s.Chain), false, 0},
		"jws, unknown attribute":         {jws(header(`,"x":1`), good, s.Chain), false, 0},
		"jws, nothing critical":          {jws(strings.Replace(header(""), `"crit":["`+notaryScheme+`"]`, `"crit":[]`, 1), good, s.Chain), false, 0},
		"jws, signing authority":         {jws(strings.Replace(header(""), schemeX509, schemeX509+".signingAuthority", 1), good, s.Chain), false, 0},
		"jws, none":                      {jws(strings.Replace(header(""), "ES256", "none", 1), good, s.Chain), false, 0},
		"jws, RS256":                     {jws(strings.Replace(header(""), "ES256", "RS256", 1), good, s.Chain), false, 0},
		"jws, another content type":      {jws(strings.Replace(header(""), notaryPayload, "application/json", 1), good, s.Chain), false, 0},
		"jws, another size":              {jws(header(""), target{MediaManifest, sum[:], 5}, s.Chain), false, 0},
		"jws, another media type":        {jws(header(""), target{MediaIndex, sum[:], good.size}, s.Chain), false, 0},
		"jws, another digest":            {jws(header(""), target{MediaManifest, make([]byte, 32), good.size}, s.Chain), false, 0},
		"jws, stranger's chain":          {jws(header(""), good, stranger.Chain), false, 0},
		"jws, a stranger in the chain":   {jws(header(""), good, append(slices.Clone(s.Chain), stranger.Chain[0])), false, 0},
		"jws, no chain":                  {jws(header(""), good, nil), false, 0},
		"jws, signing agent":             {bytes.Replace(jws(header(""), good, s.Chain), []byte(`]}`), []byte(`],"`+notaryAgent+`":"notation/1.3.2"}`), 1), true, 1},
		"jws, unknown unsigned header":   {bytes.Replace(jws(header(""), good, s.Chain), []byte(`]}`), []byte(`],"x":1}`), 1), false, 0},
		"bundle":                         {[]byte(bundle), true, 0},
		"bundle with a log entry":        {[]byte(strings.Replace(bundle, `"publicKey"`, `"tlogEntries":[{}],"publicKey"`, 1)), true, 1},
		"bundle with a key name":         {[]byte(strings.Replace(bundle, `{"sig"`, `{"keyid":"x","sig"`, 1)), true, 1},
		"bundle of version 0.2":          {[]byte(strings.Replace(bundle, "v0.3+json", "v0.2+json", 1)), false, 0},
		"bundle with a certificate":      {[]byte(strings.Replace(bundle, `"publicKey"`, `"certificate":{},"publicKey"`, 1)), false, 0},
		"bundle with two signatures":     {[]byte(strings.Replace(bundle, `[{"sig"`, `[{"sig":"AA=="},{"sig"`, 1)), false, 0},
		"bundle with another hint":       {[]byte(strings.Replace(bundle, `"hint":"`, `"hint":"AAAA`, 1)), false, 0},
		"bundle, another predicate":      {statement(strings.Replace(st, signPredicate, "https://example.com/x", 1)), false, 0},
		"bundle, two subjects":           {statement(strings.Replace(st, `"subject":[`, `"subject":[{"digest":{"sha256":"00"}},`, 1)), false, 0},
		"bundle, another manifest":       {statement(strings.Replace(st, fmt.Sprintf("%x", sum), digestA[7:], 1)), false, 0},
		"bundle, a digest in sha1":       {statement(strings.Replace(st, "sha256", "sha1", 1)), false, 0},
		"bundle, statement v0.1":         {statement(strings.Replace(st, "Statement/v1", "Statement/v0.1", 1)), false, 0},
		"bundle, payload as an artifact": {[]byte(strings.Replace(bundle, payloadType, "application/json", 1)), false, 0},
		"nothing":                        {nil, false, 0},
		"JSON of another kind":           {[]byte(`{}`), false, 0},
	} {
		r, err := verify(t, image, c.sig, s.Trust())
		if (err == nil) != c.ok || err == nil && len(r.Signatures[0].Open) != c.open {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	cose := func(change func(m map[any]any), payload []byte) []byte {
		m := map[any]any{1: -7, 2: []string{notaryScheme}, 3: notaryPayload, notaryScheme: schemeX509}
		change(m)
		h, err := format.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := toBeSignedCOSE(h, payload)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Raw(s.Public, s.Sign(t, tbs))
		if err != nil {
			t.Fatal(err)
		}
		b, err := encodeCOSE(h, payload, raw, s.Chain)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		change  func(m map[any]any)
		payload []byte
		ok      bool
	}{
		"good":               {func(map[any]any) {}, good.payload(), true},
		"no algorithm":       {func(m map[any]any) { delete(m, 1) }, good.payload(), false},
		"EdDSA":              {func(m map[any]any) { m[1] = -8 }, good.payload(), false},
		"unknown attribute":  {func(m map[any]any) { m["x"] = 1 }, good.payload(), false},
		"unknown number":     {func(m map[any]any) { m[33] = 1 }, good.payload(), false},
		"nothing critical":   {func(m map[any]any) { delete(m, 2) }, good.payload(), false},
		"time without a tag": {func(m map[any]any) { m[notaryTime] = 1767225600 }, good.payload(), false},
		"time":               {func(m map[any]any) { m[notaryTime] = cbor.Tag{Number: 1, Content: 1767225600} }, good.payload(), true},
		"time that is null":  {func(m map[any]any) { m[notaryTime] = cbor.Tag{Number: 1} }, good.payload(), false},
		"time before Unix":   {func(m map[any]any) { m[notaryTime] = cbor.Tag{Number: 1, Content: -1} }, good.payload(), false},
		"time of no year":    {func(m map[any]any) { m[notaryTime] = cbor.Tag{Number: 1, Content: int64(1) << 60} }, good.payload(), false},
		"time as text":       {func(m map[any]any) { m[notaryTime] = cbor.Tag{Number: 1, Content: "2026-01-01"} }, good.payload(), false},
		"null for no expiry": {func(m map[any]any) { m[2] = []string{notaryScheme, notaryExpiry}; m[notaryExpiry] = nil }, good.payload(), false},
		"tagged algorithm":   {func(m map[any]any) { m[1] = cbor.Tag{Number: 4, Content: -7} }, good.payload(), false},
		"bignum algorithm":   {func(m map[any]any) { m[1] = cbor.Tag{Number: 3, Content: []byte{6}} }, good.payload(), false},
		"another scheme":     {func(m map[any]any) { m[notaryScheme] = "x" }, good.payload(), false},
		"another size":       {func(map[any]any) {}, target{MediaManifest, sum[:], 5}.payload(), false},
	} {
		if r, err := verify(t, image, cose(c.change, c.payload), s.Trust()); (err == nil) != c.ok {
			t.Errorf("cose, %s: %+v, %v", name, r, err)
		}
	}
	b := cose(func(map[any]any) {}, good.payload())
	i := bytes.Index(b, []byte{0xa1, 0x18, 33}) // certificates, in the header that nobody signed
	if i < 0 {
		t.Fatal("no certificates")
	}
	for _, tag := range [][]byte{{0xc4}, {0xd9, 0xd9, 0xf7}} {
		if _, err := verify(t, image, slices.Insert(bytes.Clone(b), i, tag...), s.Trust()); err == nil {
			t.Errorf("cose, header behind the tag %x is accepted", tag)
		}
	}
}

// Frozen: plans and what is signed of version 1 stay good.
func TestGolden(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	var got []byte
	for _, m := range []string{image, index} {
		plan, err := New().Plan(t.Context(), artifact(m), nil)
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
		sum := sha256.Sum256([]byte(m))
		got = fmt.Appendf(got, "notation %s\n", target{plan.Facts[0].Value, sum[:], plan.Size}.payload())
	}
	path := func(n string) string { return filepath.Join("testdata", n) }
	if *update {
		der, err := x509.MarshalPKIXPublicKey(s.Public)
		if err := errors.Join(err, os.WriteFile(path("plans.txt"), got, 0o644), os.WriteFile(path("key.der"), der, 0o644), os.WriteFile(path("image.sigstore.json"), sign(t, image, s, FormCosign), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path("plans.txt")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got\n%swant\n%s", err, got, want)
	}
	b, trust := frozen(t)
	if _, err := verify(t, image, b, trust); err != nil {
		t.Error(err)
	}
}

func frozen(tb testing.TB) ([]byte, format.Trust) {
	tb.Helper()
	b, err1 := os.ReadFile(filepath.Join("testdata", "image.sigstore.json"))
	der, err2 := os.ReadFile(filepath.Join("testdata", "key.der"))
	pub, err3 := x509.ParsePKIXPublicKey(der)
	if err := errors.Join(err1, err2, err3); err != nil {
		tb.Fatal(err)
	}
	return b, format.Trust{Keys: []crypto.PublicKey{pub}, Now: formattest.At}
}

func FuzzEnvelope(f *testing.F) {
	b, trust := frozen(f)
	s := whole(f, sigalg.P256)
	f.Add(b)
	f.Add(sign(f, image, s, FormNotationJWS))
	f.Add(sign(f, image, s, FormNotationCOSE))
	f.Fuzz(func(t *testing.T, b []byte) {
		New().Inspect(t.Context(), format.BytesArtifact("x", b))
		if _, err := verify(t, other, b, trust); err == nil {
			t.Fatalf("accepted: %s", b)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(image)
	f.Add(index)
	f.Fuzz(func(t *testing.T, m string) {
		plan, err := New().Plan(t.Context(), artifact(m), nil)
		if err != nil {
			return
		}
		if _, err := plan.Encode(); err != nil {
			t.Fatal(err)
		}
		if err := (Format{}).List(t.Context(), artifact(m), func(format.Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}
