package charter_test

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/statement"
)

// Invariant 3; the vectors are for those who write another verifier.
func TestGolden(t *testing.T) {
	c := example(t)
	payload, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "example.statement.json", payload)
	golden(t, "example.id", []byte(charter.ID(payload).String()+"\n"))
	y, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "example.canonical.yaml", y)
}

func TestRoundTrip(t *testing.T) {
	c := example(t)
	payload, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	d, err := charter.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	again, err := charter.Encode(d)
	if err != nil || !bytes.Equal(again, payload) {
		t.Errorf("statement changed: %v", err)
	}
	y, err := d.YAML()
	if err != nil {
		t.Fatal(err)
	}
	e, err := charter.ParseYAML(y)
	if err != nil {
		t.Fatalf("%v\n%s", err, y)
	}
	if again, err = charter.Encode(e); err != nil || !bytes.Equal(again, payload) {
		t.Errorf("YAML lost something: %v\n%s", err, y)
	}
}

// Every edit of a payload that keeps its meaning, or does not, is refused.
func TestDecodeIsStrict(t *testing.T) {
	payload, err := charter.Encode(example(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{
		{`"deployment":`, `"deployment": `},
		{`"deployment":"example","version":1`, `"version":1,"deployment":"example"`},
		{`"deployment":"example",`, `"deployment":"example","deployment":"example",`},
		{`"deployment":"example",`, `"deployment":"example","other":1,`},
		{`"expires":"72h"`, `"expires":"72h0m0s"`},
		{`"endorsements":"24h"`, `"endorsements":"1440m"`},
		{`["msi","pe"]`, `["pe","msi"]`},
		{`"unattended":true`, `"unattended":true,"veto":[]`},
		{`Ärmel`, `\u00c4rmel`},
		{`"ssh":"ssh-ed25519`, `"ssh":"ssh-ed25519 `},
		{`2026-11-21T12:00:00Z`, `2026-11-21T12:00:00.0Z`},
		{`"greatsealCharter":"`, `"greatsealCharter":"0`},
		{`"greatsealCharter"`, `"sha256"`},
		{`charter/v1`, `charter/v2`},
		{`"version":1`, `"version":1.0`},
		{`"version":1`, `"version":2`},
		{`"days":["mon","tue"`, `"days":["tue","mon"`},
	} {
		b := bytes.Replace(payload, []byte(r[0]), []byte(r[1]), 1)
		if bytes.Equal(b, payload) {
			t.Errorf("%s is not in the payload", r[0])
		} else if _, err := charter.Decode(b); err == nil {
			t.Errorf("%s for %s is accepted", r[1], r[0])
		}
	}
	if _, err := charter.Decode(append(payload, '\n')); err == nil {
		t.Error("a byte more is accepted")
	}
	if _, err := charter.Decode(make([]byte, charter.MaxStatement+1)); err == nil {
		t.Error("a large payload is accepted")
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]string{"72h": "72h", "72h0m0s": "72h", "90m": "1h30m", "1h30m": "1h30m", "90s": "1m30s",
		"60s": "1m", "1h0m5s": "1h0m5s", "100h1s": "100h0m1s", "10m": "10m", "20h": "20h", "1s": "1s"} {
		var d charter.Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || d.String() != want {
			t.Errorf("%s: %s, %v; want %s", in, d, err, want)
		}
		var again charter.Duration
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("%s does not read back: %v", d, err)
		}
	}
	for _, in := range []string{"", "0s", "-1h", "1.5s", "3d", "72", "9000h", "1ms", strings.Repeat("1h", 40)} {
		var d charter.Duration
		if err := d.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q is accepted as %s", in, d)
		}
	}
}

func TestSubject(t *testing.T) {
	c := *example(t)
	s := c.Subject()
	if s.Name != "example/charter" || len(s.Digest["greatsealCharter"]) != 64 {
		t.Errorf("%+v", s)
	}
	c.Version++
	if c.Subject().Digest["greatsealCharter"] == s.Digest["greatsealCharter"] {
		t.Error("another charter has the same subject")
	}
}

func TestCheckErrorIs(t *testing.T) {
	err := charter.Charter{}.Check()
	var ce *charter.CheckError
	if !errors.Is(err, charter.ErrCharter) || !errors.As(err, &ce) || len(ce.Problems) < 3 {
		t.Fatal(err)
	}
	if _, err := json.Marshal(ce.Problems); err != nil {
		t.Fatal(err)
	}
}

func TestWindow(t *testing.T) {
	w := charter.Window{Days: []string{"sat", "sun"}, From: "08:00", To: "24:00"}
	for at, want := range map[string]bool{
		"2026-11-21T08:00:00Z": true, "2026-11-21T07:59:59Z": false, "2026-11-21T23:59:59Z": true,
		"2026-11-23T12:00:00Z": false, "2026-11-22T12:00:00Z": true, "2026-11-23T00:30:00+01:00": true,
	} {
		p, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Contains(p); got != want {
			t.Errorf("%s: %v", at, got)
		}
	}
}

// A credential that stands in the charter of many people must still make a charter
// that charter.replace can carry.
func TestLargestCharterFitsItsRequest(t *testing.T) {
	c := example(t)
	c.People["zoe"] = charter.Person{Credentials: []charter.Credential{charter.CredentialOf(credentialtest.SSH("zoe").Credential())}}
	for n, p := range c.Policies {
		p.Description = strings.Repeat("x", 4096)
		c.Policies[n] = p
	}
	for i := range 160 {
		p := c.Policies["nightly"]
		c.Policies[strings.Repeat("n", 10)+string(rune('a'+i%26))+string(rune('a'+i/26))] = p
	}
	payload, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(payload) < charter.MaxStatement*9/10 {
		t.Fatalf("the example has %d bytes only", len(payload))
	}
	r := statement.Request{Deployment: "example", Charter: statement.CharterRef{Version: 1}, Requester: "bob", Nonce: strings.Repeat("0", 32),
		Command: statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: make([]byte, charter.MaxStatement)}},
		Created: c.Created, Expires: c.Created.Add(time.Hour)}
	if _, err := statement.Encode(r); err != nil {
		t.Fatal(err)
	}
}

func FuzzDecode(f *testing.F) {
	payload, err := charter.Encode(example(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := charter.Decode(b)
		if err != nil {
			return
		}
		again, err := charter.Encode(c)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q re-encodes to %q, %v", b, again, err)
		}
	})
}

// What is done to a charter that follows another is not done to that one; and none
// was made before its predecessor.
func TestNext(t *testing.T) {
	c := example(t)
	payload, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	ref := c.Ref(payload)
	next, err := charter.Next(c, ref, c.Created.Add(90*time.Second+time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if next.Version != c.Version+1 || next.Previous != ref.ID || !next.Created.Equal(c.Created.Add(90*time.Second)) {
		t.Errorf("version %d after %s of %v", next.Version, next.Previous, next.Created)
	}
	clear(next.People)
	for name, p := range next.Policies {
		p.Formats[0] = "changed"
		clear(p.Rule.Requesters)
		delete(next.Policies, name)
	}
	if again, err := charter.Encode(c); err != nil || !bytes.Equal(again, payload) {
		t.Errorf("the charter changed with the next one: %v", err)
	}
	if next, err = charter.Next(c, ref, c.Created.Add(-time.Hour)); err != nil || !next.Created.Equal(c.Created) {
		t.Errorf("made before the one that it follows: %v, %v", next, err)
	}
}

func TestCarried(t *testing.T) {
	c := example(t)
	payload, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	request := func(cmd statement.Command) []byte {
		t.Helper()
		b, err := statement.Encode(statement.Request{Deployment: "example", Charter: statement.CharterRef{Version: 1}, Requester: "bob", Nonce: strings.Repeat("0", 32),
			Command: cmd, Created: c.Created, Expires: c.Created.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		env := statement.Envelope{Payload: b, Signatures: []statement.Signature{{KeyID: strings.Repeat("0", 64), Sig: []byte{1}}}}
		if b, err = env.Encode(); err != nil {
			t.Fatal(err)
		}
		return b
	}
	envelope := request(statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
	got, err := charter.Carried(envelope)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := charter.Encode(got); err != nil || !bytes.Equal(again, payload) {
		t.Errorf("another charter: %v", err)
	}
	if _, err := charter.Carried(request(statement.Command{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}})); !errors.Is(err, charter.ErrNotCarried) {
		t.Errorf("of another command: %v", err)
	}
	for name, b := range map[string][]byte{
		"no envelope":   envelope[1:],
		"a cut charter": request(statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload[:len(payload)-1]}}),
		"no request":    bytes.Replace(envelope, []byte(`"payload":"`), []byte(`"payload":"AAAA`), 1),
		"nothing":       nil,
	} {
		if _, err := charter.Carried(b); err == nil || errors.Is(err, charter.ErrNotCarried) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
