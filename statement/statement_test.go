package statement_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/greatseal-io/greatseal/statement"
)

var update = flag.Bool("update", false, "write golden files")

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func id(s string) statement.ID { return sha256.Sum256([]byte(s)) }

func request() statement.Request {
	return statement.Request{
		Deployment: "example", Charter: statement.CharterRef{Version: 3, ID: id("charter")}, Requester: "alice",
		Command: statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: "windows", Key: "release",
			Purpose: "release", Formats: []string{"msi", "pe"}, Count: 2, Items: id("items").String()}},
		Created: start, Expires: start.Add(72 * time.Hour), NotBefore: start.Add(time.Hour),
		Nonce: strings.Repeat("0f", 16), Reason: "version 1.2 <stable> & more: Ü \u2028",
		Origin: []statement.Claim{{Name: "commit", Value: "0123"}, {Name: "repository", Value: "https://example.com/r?a=1&b=2"}},
	}
}

func endorsement() statement.Endorsement {
	return statement.Endorsement{Deployment: "example", Request: id("request"), Endorser: "bob", Verdict: statement.Endorse,
		Comment: "looks \"good\"\n", Created: start, Expires: start.Add(time.Hour), Findings: []statement.Claim{{Name: "plan", Value: "equal"}}}
}

func receipt() statement.Receipt {
	return statement.Receipt{Deployment: "example", Number: 7, Previous: id("receipt 6"), Request: id("request"),
		Charter: statement.CharterRef{Version: 3, ID: id("charter")}, Command: statement.Sign, Outcome: statement.Executed, Time: start,
		Endorsements: []statement.ID{id("a"), id("b")},
		Signed: &statement.SignedResult{Policy: "windows", Key: "release", PublicKey: id("key").String(), Chain: id("chain").String(),
			Scheme: "rsa-pkcs1-sha256", Count: 2, Items: id("items").String(), Signatures: id("signatures").String()}}
}

func encode[P statement.Predicate](t testing.TB, p P) []byte {
	t.Helper()
	b, err := statement.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = "testdata/" + name
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v: run with -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}

func testKey() ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("statement test key"))
	return ed25519.NewKeyFromSeed(seed[:])
}

func envelope(t testing.TB, payload []byte) []byte {
	t.Helper()
	e := &statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: "test", Sig: ed25519.Sign(testKey(), statement.PAE(payload))}}}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The frozen bytes are for those who write another verifier.
func TestGolden(t *testing.T) {
	var ids strings.Builder
	for name, payload := range map[string][]byte{
		"request": encode(t, request()), "endorsement": encode(t, endorsement()), "receipt": encode(t, receipt()),
	} {
		golden(t, name+".statement.json", payload)
		golden(t, name+".envelope.json", envelope(t, payload))
	}
	for _, p := range [][]byte{encode(t, request()), encode(t, endorsement()), encode(t, receipt())} {
		ids.WriteString(statement.IDOf(p).String() + "\n")
	}
	golden(t, "ids.txt", []byte(ids.String()))
}

// Invariants 1 and 2.
func TestRoundTrip(t *testing.T) {
	roundTrip(t, request())
	roundTrip(t, endorsement())
	roundTrip(t, receipt())
}

func roundTrip[P statement.Predicate](t *testing.T, p P) {
	t.Helper()
	b := encode(t, p)
	q, err := statement.Decode[P](b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, q), b) {
		t.Errorf("%T changed", p)
	}
}

// Invariant 3: what is one kind is no other.
func TestKindsDiffer(t *testing.T) {
	if _, err := statement.Decode[statement.Endorsement](encode(t, request())); err == nil {
		t.Error("a request is read as endorsement")
	}
	if _, err := statement.Decode[statement.Receipt](encode(t, endorsement())); err == nil {
		t.Error("an endorsement is read as receipt")
	}
}

// Malleated encodings: each says the same, or nearly, and none is accepted.
func TestDecodeIsStrict(t *testing.T) {
	b := encode(t, request())
	for _, r := range [][2]string{
		{`{"_type"`, `{ "_type"`}, {`"deployment":"example"`, `"deployment":"exampl\u0065"`}, {`"Deployment"`, ``},
		{`"deployment":"example",`, `"deployment":"example","deployment":"example",`},
		{`"deployment":"example",`, `"Deployment":"example",`},
		{`"deployment":"example",`, `"deployment":"example","x":null,`},
		{`"deployment":"example","charter"`, `"charter"`},
		{`"version":3`, `"version":3.0`}, {`"version":3`, `"version":3e0`}, {`"version":3`, `"version":"3"`}, {`"version":3`, `"version":-3`},
		{`"version":3`, `"version":18446744073709551616`},
		{`12:00:00Z`, `12:00:00.000Z`}, {`12:00:00Z`, `12:00:00+00:00`}, {`12:00:00Z`, `12:00:00z`}, {`2026-11-21T12`, `2026-11-21t12`},
		{`"formats":["msi","pe"]`, `"formats":["pe","msi"]`}, {`"formats":["msi","pe"]`, `"formats":["msi","msi"]`}, {`"formats":["msi","pe"]`, `"formats":null`},
		{`<stable>`, `\u003cstable\u003e`}, {`Ü`, `\u00dc`}, {`Ü`, "\xff"}, {"\u2028", `\u2028`},
		{`"greatsealCommand"`, `"sha256"`}, {`"example/sign"`, `"example/sign2"`},
		{`"origin":[`, `"origin":[{"name":"a","value":"b"},{"name":"a","value":"b"},`},
		{`Statement/v1`, `Statement/v2`}, {`request/v1`, `request/v2`},
		{`"nonce":"0f`, `"nonce":"0F`}, {`"requester":"alice"`, `"requester":"Alice"`}, {`"requester":"alice"`, `"requester":""`},
		{`"purpose":"release",`, `"purpose":"",`},
		{`"name":"sign"`, `"name":"key.resume"`},
		{`"count":2`, `"count":0`}, {`"count":2`, `"count":100001`},
	} {
		bad := bytes.Replace(b, []byte(r[0]), []byte(r[1]), 1)
		if bytes.Equal(bad, b) {
			if r[1] != "" {
				t.Errorf("%s is not in the payload", r[0])
			}
			continue
		}
		if _, err := statement.Decode[statement.Request](bad); err == nil {
			t.Errorf("%s for %s is accepted", r[1], r[0])
		}
	}
	for _, bad := range [][]byte{nil, {}, []byte("null"), []byte("{}"), append(bytes.Clone(b), '\n'), append(bytes.Clone(b), b...), make([]byte, statement.MaxPayload+1)} {
		if _, err := statement.Decode[statement.Request](bad); err == nil {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}

// No single byte can be changed without another ID or a refusal; no changed
// payload keeps its ID.
func TestEveryByteCounts(t *testing.T) {
	b := encode(t, endorsement())
	want := statement.IDOf(b)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if statement.IDOf(bad) == want {
			t.Fatalf("byte %d is not in the ID", i)
		}
		if e, err := statement.Decode[statement.Endorsement](bad); err == nil && bytes.Equal(encode(t, e), b) {
			t.Fatalf("byte %d does not count", i)
		}
	}
}

func TestEnvelopeIsStrict(t *testing.T) {
	good := envelope(t, encode(t, endorsement()))
	if _, err := statement.DecodeEnvelope(good); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{
		{`{"payload"`, `{ "payload"`}, {`"payload":"`, `"payload":"\n`}, {`"payload":"e`, `"payload":"\u0065`}, {`"keyid":"test"`, `"keyid":""`},
		{`"keyid":"test"`, `"keyid":"t\u0065st"`}, {`"keyid":"test"`, `"sig":"","keyid":"test"`}, {`"keyid":"test",`, ``}, {`in-toto+json`, `x`},
		{`"signatures":[`, `"signatures":[null,`}, {`"signatures":[`, `"Signatures":[`}, {`=="}]`, `=="}],"x":1`}, {`=="}]`, `"}]`}, {`"sig":"`, `"sig":"\n`},
		{`"payload":"`, `"payload":"AAAA","payload":"`},
	} {
		bad := bytes.Replace(good, []byte(r[0]), []byte(r[1]), 1)
		if bytes.Equal(bad, good) {
			t.Errorf("%s is not in the envelope", r[0])
		} else if _, err := statement.DecodeEnvelope(bad); err == nil {
			t.Errorf("%s for %s is accepted", r[1], r[0])
		}
	}
	// The last sextet of a base64 value whose free bits are set is another spelling.
	e, err := statement.DecodeEnvelope(good)
	if err != nil {
		t.Fatal(err)
	}
	sig := base64.StdEncoding.EncodeToString(e.Signatures[0].Sig)
	at := strings.TrimRight(sig, "=")
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := strings.IndexByte(alphabet, at[len(at)-1])
	respelt := at[:len(at)-1] + string(alphabet[last|1]) + sig[len(at):]
	if respelt == sig {
		t.Fatal("the test signature leaves no bits free")
	}
	if _, err := statement.DecodeEnvelope(bytes.Replace(good, []byte(sig), []byte(respelt), 1)); err == nil {
		t.Error("free bits of base64 are accepted")
	}
	for _, n := range []int{0, statement.MaxSignatures + 1} {
		many := &statement.Envelope{Payload: []byte("x")}
		for range n {
			many.Signatures = append(many.Signatures, statement.Signature{KeyID: "a", Sig: []byte("b")})
		}
		b, err := many.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := statement.DecodeEnvelope(b); err == nil {
			t.Errorf("%d signatures are accepted", n)
		}
	}
	for _, bad := range []*statement.Envelope{
		{Payload: []byte("x"), Signatures: []statement.Signature{{KeyID: "a"}}},
		{Payload: []byte("x"), Signatures: []statement.Signature{{KeyID: "a", Sig: make([]byte, statement.MaxSignature+1)}}},
		{Payload: make([]byte, statement.MaxPayload+1), Signatures: []statement.Signature{{KeyID: "a", Sig: []byte("b")}}},
	} {
		b, err := bad.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := statement.DecodeEnvelope(b); err == nil {
			t.Errorf("%.80s is accepted", b)
		}
	}
}

// A key ID that JSON must escape has one form too.
func TestEnvelopeKeyIDs(t *testing.T) {
	for _, k := range []string{"a", "ä", `a"b`, `a\b`, "a\nb", "a/b", "<>&", "\u2028", "\x7f", "\x01"} {
		e := &statement.Envelope{Payload: []byte("x"), Signatures: []statement.Signature{{KeyID: k, Sig: []byte("s")}, {KeyID: "b", Sig: []byte("t")}}}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		d, err := statement.DecodeEnvelope(b)
		if err != nil || d.Signatures[0].KeyID != k || len(d.Signatures) != 2 {
			t.Errorf("%q: %v", k, err)
		}
	}
}

// verifier checks Ed25519 signatures for the oracle.
type verifier struct{}

func (verifier) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(testKey().Public().(ed25519.PublicKey), data, sig) {
		return errors.New("does not verify")
	}
	return nil
}
func (verifier) KeyID() (string, error)   { return "test", nil }
func (verifier) Public() crypto.PublicKey { return testKey().Public() }

// secure-systems-lab's implementation of DSSE takes our envelopes for what they are.
func TestDSSEOracle(t *testing.T) {
	for _, payload := range [][]byte{encode(t, request()), encode(t, endorsement()), encode(t, receipt())} {
		if got, want := statement.PAE(payload), dsse.PAE(statement.PayloadType, payload); !bytes.Equal(got, want) {
			t.Fatalf("pre-authentication encoding %q, want %q", got, want)
		}
		var e dsse.Envelope
		if err := json.Unmarshal(envelope(t, payload), &e); err != nil {
			t.Fatal(err)
		}
		v, err := dsse.NewEnvelopeVerifier(verifier{})
		if err != nil {
			t.Fatal(err)
		}
		ok, err := v.Verify(t.Context(), &e)
		if err != nil || len(ok) != 1 {
			t.Errorf("%d signatures verify: %v", len(ok), err)
		}
		e.Payload = base64.StdEncoding.EncodeToString(append(payload, ' '))
		if _, err := v.Verify(t.Context(), &e); err == nil {
			t.Error("the oracle accepts anything")
		}
	}
}

func TestIDText(t *testing.T) {
	x := id("x")
	if y, err := statement.ParseID(x.String()); err != nil || y != x || x.IsZero() || !(statement.ID{}).IsZero() {
		t.Error(err)
	}
	for _, s := range []string{"", strings.ToUpper(x.String()), x.String() + "0", hex.EncodeToString(x[:31]), " " + x.String()[1:]} {
		if _, err := statement.ParseID(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, s := range []string{"a", "0", "key.resume", "a_b-c", strings.Repeat("a", 64)} {
		if err := statement.CheckName("x", s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", ".", "-a", "_a", "A", "a b", "a/b", "ä", "a\x00", strings.Repeat("a", 65)} {
		if statement.CheckName("x", s) == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestRequestCheck(t *testing.T) {
	for name, edit := range map[string]func(*statement.Request){
		"no charter":         func(r *statement.Request) { r.Charter.Version = 0 },
		"expires first":      func(r *statement.Request) { r.Expires = r.Created },
		"late start":         func(r *statement.Request) { r.NotBefore = r.Expires },
		"local time":         func(r *statement.Request) { r.Created = r.Created.In(time.FixedZone("x", 3600)) },
		"parts of a second":  func(r *statement.Request) { r.Created = r.Created.Add(time.Millisecond) },
		"nonce":              func(r *statement.Request) { r.Nonce = "00" },
		"reason":             func(r *statement.Request) { r.Reason = strings.Repeat("x", 5000) },
		"reason that turns":  func(r *statement.Request) { r.Reason = "exe.\u202egpj" },
		"reason that marks":  func(r *statement.Request) { r.Reason = "a\u200fb" },
		"reason that erases": func(r *statement.Request) { r.Reason = "a\x1b[2K" },
		"claim that turns":   func(r *statement.Request) { r.Origin = []statement.Claim{{Name: "a", Value: "\u061c"}} },
		"claims":             func(r *statement.Request) { r.Origin = make([]statement.Claim, 300) },
		"claim order":        func(r *statement.Request) { r.Origin[0], r.Origin[1] = r.Origin[1], r.Origin[0] },
		"two arguments":      func(r *statement.Request) { r.Command.Key = &statement.KeyArgs{Key: "a"} },
		"no arguments":       func(r *statement.Request) { r.Command.Sign = nil },
		"other command":      func(r *statement.Request) { r.Command.Name = statement.KeyResume },
		"unknown command":    func(r *statement.Request) { r.Command.Name = "x" },
		"root":               func(r *statement.Request) { r.Command.Sign.Items = "x" },
		"key":                func(r *statement.Request) { r.Command.Sign.Key = "" },
		"no formats":         func(r *statement.Request) { r.Command.Sign.Formats = nil },
		"empty charter": func(r *statement.Request) {
			r.Command = statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{}}
		},
		"no subject": func(r *statement.Request) {
			r.Command = statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: "a"}}
		},
		"empty chain": func(r *statement.Request) {
			r.Command = statement.Command{Name: statement.KeyImportCert, Certificate: &statement.CertificateArgs{Key: "a"}}
		},
		"empty certificate": func(r *statement.Request) {
			r.Command = statement.Command{Name: statement.KeyImportCert, Certificate: &statement.CertificateArgs{Key: "a", Chain: [][]byte{nil}}}
		},
		"self-signed 10 yrs": func(r *statement.Request) {
			r.Command = statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: "a", Subject: "CN=a", SelfSignedDays: 3650}}
		},
	} {
		r := request()
		edit(&r)
		if _, err := statement.Encode(r); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestReceiptCheck(t *testing.T) {
	for name, edit := range map[string]func(*statement.Receipt){
		"number 0":         func(r *statement.Receipt) { r.Number = 0 },
		"first":            func(r *statement.Receipt) { r.Number = 1 },
		"no previous":      func(r *statement.Receipt) { r.Previous = statement.ID{} },
		"no charter":       func(r *statement.Receipt) { r.Charter.Version = 0 },
		"outcome":          func(r *statement.Receipt) { r.Outcome = "maybe" },
		"refusal, result":  func(r *statement.Receipt) { r.Outcome, r.Code = statement.Refused, "expired" },
		"refusal, no code": func(r *statement.Receipt) { r.Outcome, r.Signed = statement.Refused, nil },
		"executed, code":   func(r *statement.Receipt) { r.Code = "expired" },
		"no result":        func(r *statement.Receipt) { r.Signed = nil },
		"two results":      func(r *statement.Receipt) { r.Key = &statement.KeyResult{Key: "a", State: "active"} },
		"unknown command": func(r *statement.Receipt) {
			r.Command = "x"
			r.Signed = nil
			r.Key = &statement.KeyResult{Key: "a", State: "active"}
		},
		"unknown, refused": func(r *statement.Receipt) {
			r.Command, r.Outcome, r.Code, r.Signed = "x", statement.Refused, "expired", nil
		},
		"scheme": func(r *statement.Receipt) { r.Signed.Scheme = "x" },
		"count":  func(r *statement.Receipt) { r.Signed.Count = 0 },
		"root":   func(r *statement.Receipt) { r.Signed.Signatures = "x" },
		"policy": func(r *statement.Receipt) { r.Signed.Policy = "X" },
		"key's name": func(r *statement.Receipt) {
			r.Command, r.Signed, r.Key = statement.KeyResume, nil, &statement.KeyResult{State: "active"}
		},
		"charter skipped": func(r *statement.Receipt) {
			r.Command, r.Signed, r.Next = statement.CharterReplace, nil, &statement.CharterRef{Version: 5, ID: id("x")}
		},
		"no next charter": func(r *statement.Receipt) {
			r.Command, r.Signed, r.Next = statement.CharterReplace, nil, &statement.CharterRef{Version: 4}
		},
	} {
		r := receipt()
		edit(&r)
		if _, err := statement.Encode(r); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	r := receipt()
	r.Command, r.Outcome, r.Code, r.Signed = "", statement.Refused, "malformed", nil
	if _, err := statement.Encode(r); err != nil {
		t.Error(err)
	}
}

func TestCommandDigest(t *testing.T) {
	a, b := request(), request()
	b.Nonce, b.Reason = strings.Repeat("1", 32), "another"
	if a.Command.Digest() != b.Command.Digest() {
		t.Error("the same command has two digests")
	}
	b.Command.Sign.Count++
	if a.Command.Digest() == b.Command.Digest() {
		t.Error("two commands have one digest")
	}
}

func fuzz[P statement.Predicate](f *testing.F, seeds ...P) {
	for _, s := range seeds {
		f.Add(encode(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := statement.Decode[P](b)
		if err != nil {
			return
		}
		if again := encode(t, p); !bytes.Equal(again, b) {
			t.Fatalf("%q re-encodes to %q", b, again)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	other := request()
	other.Command = statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: "a", Subject: "CN=a"}}
	fuzz(f, request(), other)
}

func FuzzDecodeEndorsement(f *testing.F) { fuzz(f, endorsement()) }

func FuzzDecodeReceipt(f *testing.F) {
	r := receipt()
	r.Command, r.Signed, r.Key = statement.KeyGenerate, nil, &statement.KeyResult{Key: "a", State: "active", PublicKey: []byte{1}}
	fuzz(f, receipt(), r)
}

func FuzzDecodeEnvelope(f *testing.F) {
	f.Add(envelope(f, encode(f, request())))
	f.Add(envelope(f, encode(f, endorsement())))
	f.Add([]byte(`{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"a","sig":"AA=="},{"keyid":"b","sig":"AAA="}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := statement.DecodeEnvelope(b)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q re-encodes to %q, %v", b, again, err)
		}
	})
}
