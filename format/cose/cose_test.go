package cose

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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

func pss(t testing.TB) *formattest.Signer {
	return formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA384)
}

func TestConformance(t *testing.T) {
	refused := []format.Params{{"digest": "sha1"}, {"payload": "embedded", "digest": "sha512"}, {"payload": "detached", "location": "https://example.com"}, {"content-type": "text/plän"}, {"certificates": "all"}}
	for name, c := range map[string]struct {
		s        *formattest.Signer
		p        format.Params
		unsigned []string
	}{
		"hash":       {formattest.Identity(t, sigalg.P256), format.Params{"content-type": "text/plain", "location": "https://example.com/file"}, []string{"Size"}},
		"embedded":   {pss(t), format.Params{"payload": "embedded", "certificates": "none"}, nil},
		"detached":   {formattest.Identity(t, sigalg.Ed25519), format.Params{"payload": "detached", "certificates": "none"}, nil},
		"thumbprint": {formattest.Identity(t, sigalg.P384), format.Params{"digest": "sha512", "certificates": "thumbprint"}, []string{"Size"}},
		"several":    {formattest.Identity(t, sigalg.P256).And(formattest.Identity(t, sigalg.Ed25519)), format.Params{"certificates": "none"}, []string{"Size"}},
	} {
		t.Run(name, func(t *testing.T) {
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "file", Params: c.p, Signer: c.s,
				Refused: refused, Unsigned: c.unsigned,
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), artifact(make([]byte, 8<<20+1)), nil)
}

// Every key, every way, alone and together.
func TestRoundTrip(t *testing.T) {
	ml, ed := formattest.Identity(t, sigalg.MLDSA65), formattest.Identity(t, sigalg.Ed25519)
	for name, s := range map[string]*formattest.Signer{
		"rsa": pss(t), "p256": formattest.Identity(t, sigalg.P256), "p384": formattest.Identity(t, sigalg.P384), "ed25519": ed, "ml-dsa-65": ml,
		"ml-dsa-87": formattest.Identity(t, sigalg.MLDSA87), "hybrid": formattest.Identity(t, sigalg.P256).And(ml), "four": ed.And(ml, pss(t), formattest.Identity(t, sigalg.P384)),
	} {
		for _, payload := range []string{"hash", "embedded", "detached"} {
			for _, certificates := range []string{"chain", "thumbprint", "none"} {
				what := name + " " + payload + " " + certificates
				b := sign(t, []byte(text), s, format.Params{"payload": payload, "certificates": certificates})
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
				if err != nil || len(in.Signatures) != len(r.Signatures) || payload != "detached" && !bytes.Equal(in.Signatures[0].Content, r.Signatures[0].Content) {
					t.Errorf("%s: inspect: %+v, %v", what, in, err)
				}
				_, err = New().Verify(t.Context(), artifact(b), s.Trust()) // the message alone
				if (err == nil) != (payload == "embedded") {
					t.Errorf("%s: alone: %v", what, err)
				}
			}
		}
	}
	if _, err := New().Verify(t.Context(), artifact([]byte(text)), ml.Trust()); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
}

// Empty files have an empty payload, which is not a missing one.
func TestEmptyFile(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for _, payload := range []string{"hash", "embedded", "detached"} {
		b := sign(t, nil, s, format.Params{"payload": payload})
		if _, err := verify(t, nil, b, s.Trust()); err != nil {
			t.Errorf("%s: %v", payload, err)
		}
		if _, err := verify(t, []byte("x"), b, s.Trust()); err == nil {
			t.Errorf("%s: good for another file", payload)
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
	other, err := format.Encode(&body{Content: []byte("another file\n")})
	if err != nil {
		t.Fatal(err)
	}
	swap := func(p *format.Plan, b []byte) *format.Plan { p.Body = b; return p }
	for name, c := range map[string]struct {
		p  *format.Plan
		id format.Identity
	}{
		"content of another file":      {swap(plan(format.Params{"payload": "embedded"}), other), s.Identity},
		"content beside a hash":        {swap(plan(nil), other), s.Identity},
		"no content":                   {swap(plan(format.Params{"payload": "detached"}), plan(nil).Body), s.Identity},
		"facts":                        {func() *format.Plan { p := plan(nil); p.Facts = []format.Fact{{Name: "a", Value: "b"}}; return p }(), s.Identity},
		"PKCS #1":                      {plan(nil), formattest.Identity(t, sigalg.RSA3072).Identity},
		"hash that is not the curve's": {plan(nil), s.With(sigalg.ECDSASHA384).Identity},
		"five keys":                    {plan(nil), s.And(s, s, s, s).Identity},
		"certificate for servers": {plan(nil), formattest.Identity(t, sigalg.P256, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}).Identity},
	} {
		if _, err := New().Assemble(c.p, c.id, formattest.At, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := New().Plan(t.Context(), artifact(make([]byte, envelope.MaxContent+1)), format.Params{"payload": "embedded"}); err == nil {
		t.Error("a file too large for its plan")
	}
	pl := plan(nil)
	sigs := formattest.SignAll(t, New(), pl, s, formattest.At)
	sigs[0].Timestamp = []byte("token")
	if _, err := New().Attach(t.Context(), artifact([]byte(text)), pl, s.Identity, formattest.At, sigs); err == nil {
		t.Error("a timestamp is dropped")
	}
}

// craft signs a message with headers of one's own choice.
func craft(t testing.TB, s *formattest.Signer, protected, unprotected map[any]any, payload []byte) []byte {
	t.Helper()
	raw, err := encMode.Marshal(protected)
	if err != nil {
		t.Fatal(err)
	}
	return craftRaw(t, s, raw, unprotected, payload)
}

func craftRaw(t testing.TB, s *formattest.Signer, raw []byte, unprotected map[any]any, payload []byte) []byte {
	t.Helper()
	tbs, err := (&message{raw: raw}).toBeSigned(nil, payload)
	if err != nil {
		t.Fatal(err)
	}
	value, err := envelope.Raw(s.Public, s.Sign(t, tbs))
	if err != nil {
		t.Fatal(err)
	}
	u, err := encMode.Marshal(unprotected)
	if err != nil {
		t.Fatal(err)
	}
	b, err := encMode.Marshal(&wireSign1{Protected: raw, Unprotected: u, Payload: &payload, Signature: value})
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0xd2}, b...)
}

// Invariants 2 and 3: what others got wrong with headers. Every signature here
// is itself right.
func TestHeaderAttacks(t *testing.T) {
	s, other := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.P256)
	h := func(more ...any) map[any]any {
		m := map[any]any{labelAlg: -7}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	sum := sha256.Sum256([]byte(text))
	type m = map[any]any
	for name, c := range map[string]struct {
		protected, unprotected m
		payload                []byte
		ok                     bool
		open                   int
	}{
		"good":                                {h(), m{}, []byte(text), true, 0},
		"algorithm not signed":                {m{}, m{labelAlg: -7}, []byte(text), false, 0},
		"algorithm twice":                     {h(), m{labelAlg: -7}, []byte(text), false, 0},
		"algorithm of another key":            {m{labelAlg: -8}, m{}, []byte(text), false, 0},
		"algorithm with another hash":         {m{labelAlg: -35}, m{}, []byte(text), false, 0},
		"HMAC":                                {m{labelAlg: 5}, m{}, []byte(text), false, 0},
		"algorithm as text":                   {m{labelAlg: "ES256"}, m{}, []byte(text), false, 0},
		"critical known":                      {h(labelCritical, []any{labelContentType}, labelContentType, "a/b"), m{}, []byte(text), true, 0},
		"critical unknown":                    {h(labelCritical, []any{"x"}, "x", 1), m{}, []byte(text), false, 0},
		"critical unknown number":             {h(labelCritical, []any{99}, 99, 1), m{}, []byte(text), false, 0},
		"critical not there":                  {h(labelCritical, []any{labelContentType}), m{}, []byte(text), false, 0},
		"critical empty":                      {h(labelCritical, []any{}), m{}, []byte(text), false, 0},
		"critical is bytes":                   {h(labelCritical, []any{[]byte{1}}), m{}, []byte(text), false, 0},
		"critical is an array":                {h(labelCritical, []any{[]any{1}}), m{}, []byte(text), false, 0},
		"critical is a map":                   {h(labelCritical, []any{m{1: 1}}), m{}, []byte(text), false, 0},
		"critical not signed":                 {h(), m{labelCritical: []any{1}}, []byte(text), false, 0},
		"unknown signed":                      {h("x", 1, 99, 2), m{}, []byte(text), true, 0},
		"unknown not signed":                  {h(), m{"x": 1, 99: 2}, []byte(text), true, 2},
		"countersignature":                    {h(), m{11: []byte("sig")}, []byte(text), true, 1},
		"content type not signed":             {h(), m{labelContentType: "a/b"}, []byte(text), false, 0},
		"key name not signed":                 {h(), m{labelKeyID: []byte("k")}, []byte(text), true, 1},
		"key name twice":                      {h(labelKeyID, []byte("k")), m{labelKeyID: []byte("k")}, []byte(text), false, 0},
		"chain not signed":                    {h(), m{labelChain: [][]byte{s.Chain[0].Raw, s.Chain[1].Raw}}, []byte(text), true, 0},
		"chain with a stranger":               {h(), m{labelChain: [][]byte{s.Chain[0].Raw, s.Chain[1].Raw, other.Chain[0].Raw}}, []byte(text), true, 1},
		"chain of a stranger":                 {h(), m{labelChain: other.Chain[0].Raw}, []byte(text), false, 0},
		"chain of a stranger, signed":         {h(labelChain, other.Chain[0].Raw), m{}, []byte(text), false, 0},
		"list of one certificate":             {h(labelChain, [][]byte{s.Chain[0].Raw}), m{}, []byte(text), false, 0},
		"no certificate":                      {h(labelChain, []byte("x")), m{}, []byte(text), false, 0},
		"thumbprint of another":               {h(labelChain, s.Chain[0].Raw, labelThumb, []any{-16, make([]byte, 32)}), m{}, []byte(text), false, 0},
		"thumbprint under SHA-1":              {h(labelThumb, []any{-14, make([]byte, 20)}), m{}, []byte(text), false, 0},
		"hash envelope":                       {h(labelHashAlg, -16), m{}, sum[:], true, 0},
		"hash envelope, of the hash":          {h(), m{}, sum[:], false, 0},
		"hash that is not signed":             {h(), m{labelHashAlg: -16}, sum[:], false, 0},
		"hash envelope with the file":         {h(labelHashAlg, -16), m{}, []byte(text), false, 0},
		"hash envelope under SHA-1":           {h(labelHashAlg, -14), m{}, sum[:20], false, 0},
		"hash envelope under SHA-256/64":      {h(labelHashAlg, -15), m{}, sum[:8], false, 0},
		"hash envelope under another":         {h(labelHashAlg, -44), m{}, sum[:], false, 0},
		"hash envelope with content type":     {h(labelHashAlg, -16, labelContentType, "a/b"), m{}, sum[:], false, 0},
		"preimage of no hash":                 {h(labelPreimage, "a/b"), m{}, []byte(text), false, 0},
		"a label that is an array of numbers": {h([2]int{1, 2}, 1), m{}, []byte(text), false, 0},
	} {
		b := craft(t, s, c.protected, c.unprotected, c.payload)
		r, err := verify(t, []byte(text), b, s.Trust())
		if (err == nil) != c.ok || err == nil && len(r.Signatures[0].Open) != c.open {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := verify(t, []byte(text), craftRaw(t, s, []byte{0xa1, 1, 0x26}, map[any]any{}, []byte(text)), s.Trust()); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"alg twice":        {0xa2, 1, 0x26, 1, 0x26},
		"indefinite map":   {0xbf, 1, 0x26, 0xff},
		"trailing byte":    {0xa1, 1, 0x26, 0},
		"array for map":    {0x82, 1, 0x26},
		"null":             {0xf6},
		"nested too deep":  append([]byte{0xa2, 1, 0x26, 0x18, 99}, append(bytes.Repeat([]byte{0x81}, 20), 0)...),
		"tag before map":   {0xc4, 0xa1, 1, 0x26},
		"self-described":   {0xd9, 0xd9, 0xf7, 0xa1, 1, 0x26},
		"long head":        {0xb8, 1, 1, 0x26},
		"tag before label": {0xa1, 0xd9, 0xd9, 0xf7, 1, 0x26},
		"long label":       {0xa1, 0x18, 1, 0x26},
		"tag before alg":   {0xa1, 1, 0xc4, 0x26},
		"alg as a bignum":  {0xa1, 1, 0xc3, 0x41, 6},
		"long alg":         {0xa1, 1, 0x38, 6},
		"alg null":         {0xa1, 1, 0xf6},
		"key name null":    {0xa2, 1, 0x26, 4, 0xf6},
		"key name array":   {0xa2, 1, 0x26, 4, 0x81, 1},
		"many of anything": {0xa2, 1, 0x26, 0x18, 99, 0x9a, 0xff, 0xff, 0xff, 0xff},
	} {
		if _, err := verify(t, []byte(text), craftRaw(t, s, raw, map[any]any{}, []byte(text)), s.Trust()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The unsigned header has one form where it is empty, and no value in it that a
// decoder takes for a missing one.
func TestUnprotected(t *testing.T) {
	m, err := parse(craft(t, formattest.Identity(t, sigalg.P256), map[any]any{labelAlg: -7}, map[any]any{}, []byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		header []byte
		ok     bool
	}{
		"empty":              {[]byte{0xa0}, true},
		"name of a key":      {[]byte{0xa1, 4, 0x41, 'k'}, true},
		"location, tagged":   {[]byte{0xa1, 0x18, 35, 0xd8, 32, 0x61, 'u'}, true}, // x5u of RFC 9360
		"tag":                {[]byte{0xc4, 0xa0}, false},
		"two tags":           {[]byte{0xc4, 0xc4, 0xa0}, false},
		"tag of CBOR itself": {[]byte{0xd9, 0xd9, 0xf7, 0xa0}, false},
		"longer head":        {[]byte{0xb8, 0}, false},
		"longest head":       {[]byte{0xbb, 0, 0, 0, 0, 0, 0, 0, 0}, false},
		"null":               {[]byte{0xf6}, false},
		"array":              {[]byte{0x80}, false},
		"name that is null":  {[]byte{0xa1, 4, 0xf6}, false},
		"name of a tag":      {[]byte{0xa1, 4, 0xc4, 0x41, 'k'}, false},
		"label of a tag":     {[]byte{0xa1, 0xd9, 0xd9, 0xf7, 4, 0x41, 'k'}, false},
		"name twice":         {[]byte{0xa2, 4, 0x41, 'k', 4, 0x41, 'l'}, false},
	} {
		b, err := encMode.Marshal(&wireSign1{Protected: m.raw, Unprotected: c.header, Payload: &m.payload, Signature: m.signers[0].value})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(append(bytes.Clone(tagSign1), b...)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Invariant 4, and a COSE_Sign1 that is passed off as a COSE_Sign or the reverse.
func TestSeveral(t *testing.T) {
	a, b := formattest.Identity(t, sigalg.P256), formattest.Identity(t, sigalg.Ed25519)
	both := a.And(b)
	good := sign(t, []byte(text), both, format.Params{"certificates": "none"})
	m, err := parse(good)
	if err != nil || !m.several {
		t.Fatal(err)
	}
	for name, trust := range map[string]format.Trust{"first": a.Trust(), "second": b.Trust()} {
		if _, err := verify(t, []byte(text), good, trust); err == nil {
			t.Errorf("only the %s key is trusted", name)
		}
	}
	twice := *m
	twice.signers = []signer{m.signers[0], m.signers[0]}
	enc, err := twice.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, []byte(text), enc, both.Trust()); err == nil {
		t.Error("one key counts twice")
	}
	swapped := *m
	swapped.signers = []signer{m.signers[0], m.signers[1]}
	swapped.signers[0].value, swapped.signers[1].value = swapped.signers[1].value, swapped.signers[0].value
	if enc, err = swapped.encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, []byte(text), enc, both.Trust()); err == nil {
		t.Error("signatures in each other's place")
	}
	one := message{raw: m.signers[0].raw, payload: m.payload, signers: m.signers[:1]}
	if enc, err = one.encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, []byte(text), enc, both.Trust()); err == nil {
		t.Error("a signer of several, alone")
	}
	single, err := parse(sign(t, []byte(text), a, format.Params{"certificates": "none"}))
	if err != nil {
		t.Fatal(err)
	}
	single.several = true
	single.signers[0].raw = single.raw
	single.raw = m.raw
	if enc, err = single.encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, []byte(text), enc, both.Trust()); err == nil {
		t.Error("a signature alone, as one of several")
	}
	none := *m
	none.signers = nil
	if enc, err = none.encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := parse(enc); err == nil {
		t.Error("nobody signed")
	}
	if _, err := parse(good[2:]); err == nil {
		t.Error("without its tag")
	}
}

// Frozen: plans and what is signed of version 1 stay good.
func TestGolden(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	s.Chain = nil
	var got []byte
	for _, p := range []format.Params{{"content-type": "text/plain", "location": "https://example.com/file"}, {"payload": "embedded"}, {"payload": "detached", "certificates": "none"}} {
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
			os.WriteFile(path("file.cose"), sign(t, []byte(text), s, nil), 0o644), os.WriteFile(path("embedded.cose"), sign(t, []byte(text), s, format.Params{"payload": "embedded"}), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path("plans.txt")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got\n%swant\n%s", err, got, want)
	}
	trust := frozen(t)
	for _, n := range []string{"file.cose", "embedded.cose"} {
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

func FuzzMessage(f *testing.F) {
	for _, n := range []string{"file.cose", "embedded.cose"} {
		b, err := os.ReadFile(filepath.Join("testdata", n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(sign(f, []byte(text), formattest.Identity(f, sigalg.P256).And(formattest.Identity(f, sigalg.Ed25519)), nil))
	trust := frozen(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		if m.unprotectedEmpty() {
			if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x re-encodes as %x, %v", b, again, err)
			}
		}
		New().Inspect(t.Context(), artifact(b))
		if _, err := verify(t, []byte("another file\n"), b, trust); err == nil {
			t.Fatalf("accepted: %x", b)
		}
	})
}

// unprotectedEmpty: only such messages are made here.
func (m *message) unprotectedEmpty() bool {
	empty := func(h *header) bool { return h.keyID == nil && h.chain == nil && h.thumb == nil && h.others == nil }
	ok := empty(m.outer)
	for _, s := range m.signers {
		ok = ok && empty(s.unprotected)
	}
	return ok
}
