package attacks

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/x509key"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// twist changes the signature of an envelope, and nothing else.
func twist(t testing.TB, envelope []byte, change func(sig []byte) []byte) []byte {
	t.Helper()
	e, err := statement.DecodeEnvelope(envelope)
	check(t, err)
	e.Signatures[0].Sig = change(bytes.Clone(e.Signatures[0].Sig))
	b, err := e.Encode()
	check(t, err)
	return b
}

// Who changes a signature's bytes gets nothing by it: either it is refused, or it
// is the same word of the same person once more.
func TestAttackSignaturesMalleated(t *testing.T) {
	t.Parallel()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	signer, err := x509key.New(k)
	check(t, err)
	w := newWorld(t, options{charter: func(w *world, c *charter.Charter) {
		w.join("carol's certificate", signer).Name = "carol"
		p := c.People["carol"]
		p.Credentials = append(p.Credentials, charter.CredentialOf(signer.Credential()))
		c.People["carol"] = p
	}})
	items := w.items("malleable")
	env := w.ask("alice", "release", items)
	id := w.submit(env, items).ID
	good := w.endorsement("carol's certificate", env)

	// (r, s) and (r, n-s) are both signatures: one word, counted once.
	other := twist(t, good, func(sig []byte) []byte {
		var v struct{ R, S *big.Int }
		at := bytes.Index(sig, []byte{0x30, byte(len(sig) - bytes.IndexByte(sig, 0x30) - 2)})
		if at < 0 {
			t.Fatalf("no ECDSA signature in %x", sig)
		}
		if _, err := asn1.Unmarshal(sig[at:], &v); err != nil {
			t.Fatal(err)
		}
		v.S.Sub(elliptic.P256().Params().N, v.S)
		der, err := asn1.Marshal(v)
		check(t, err)
		return append(sig[:at], der...)
	})
	if bytes.Equal(good, other) {
		t.Fatal("nothing was changed")
	}
	if _, err := w.server.Endorse(w.ctx, good); err != nil {
		t.Fatal(err)
	}
	if r, err := w.server.Endorse(w.ctx, other); err != nil || len(r.Endorsements) != 1 {
		t.Errorf("the same word in another form: %v, %v", r, err)
	}
	w.denied("one word in two forms", env, items, good, other, w.endorsement("scanner", env))
	w.denied("one word in two forms, with bob left out", env, items, other, good, other)

	// Ed25519: S + L, the same S in another encoding, other bytes in front or behind.
	bob := w.endorsement("bob", env)
	l, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	twists := map[string]func(sig []byte) []byte{
		"S plus L": func(sig []byte) []byte {
			s := sig[len(sig)-32:]
			be := make([]byte, 32)
			for i := range s {
				be[31-i] = s[i]
			}
			n := new(big.Int).Add(new(big.Int).SetBytes(be), l)
			if n.BitLen() > 256 {
				n.SetInt64(1)
			}
			n.FillBytes(be)
			for i := range s {
				s[i] = be[31-i]
			}
			return sig
		},
		"a byte behind":        func(sig []byte) []byte { return append(sig, 0) },
		"a byte in front":      func(sig []byte) []byte { return append([]byte{0}, sig...) },
		"one bit":              func(sig []byte) []byte { sig[len(sig)-40] ^= 1; return sig },
		"cut short":            func(sig []byte) []byte { return sig[:len(sig)-1] },
		"empty":                func(sig []byte) []byte { return []byte{0} },
		"armoured":             func(sig []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: sig}) },
		"twice":                func(sig []byte) []byte { return append(sig, sig...) },
		"of another namespace": func(sig []byte) []byte { return bytes.Replace(sig, []byte("statement@"), []byte("statemenu@"), 1) },
	}
	for what, change := range twists {
		bad := twist(t, bob, change)
		w.refused(what, bad)
		w.denied(what, env, items, bad, good, w.endorsement("scanner", env))
		w.denied("a request, "+what, twist(t, env, change), items, w.everyone(env)...)
	}
	// The envelope itself has one form.
	for what, b := range map[string][]byte{
		"white space":      append(bytes.Clone(bob), '\n'),
		"another base64":   bytes.Replace(bob, []byte("="), []byte(""), 1),
		"a further member": bytes.Replace(bob, []byte("{"), []byte(`{"x":1,`), 1),
		"escaped":          bytes.Replace(bob, []byte("payload\""), []byte(`payloa\u0064"`), 1),
	} {
		if bytes.Equal(b, bob) {
			continue // no padding to leave out this time
		}
		w.refused(what, b)
	}
	w.endorse(env, "bob", "scanner")
	w.await(id, store.Executed)
}

// A signature that was made for something else, by the same key and tool, is no
// endorsement. The signatures are ssh-keygen's own.
func TestAttackNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	items := w.items("namespace")
	env := w.ask("alice", "release", items)
	id := w.submit(env, items).ID
	req, _ := decode[statement.Request](t, env)
	payload, err := statement.Encode(statement.Endorsement{Deployment: req.Deployment, Request: id, Endorser: "bob", Verdict: statement.Endorse, Created: req.Created, Expires: req.Expires})
	check(t, err)
	sign := func(namespace string) []byte {
		t.Helper()
		tool, err := exec.LookPath("ssh-keygen")
		if err != nil {
			t.Fatal("ssh-keygen is missing: apt-get install openssh-client")
		}
		path := filepath.Join(t.TempDir(), "pae")
		check(t, os.WriteFile(path, statement.PAE(payload), 0o600))
		out, err := exec.Command(tool, "-Y", "sign", "-f", w.people.KeyFile("bob"), "-n", namespace, path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		armour, err := os.ReadFile(path + ".sig")
		check(t, err)
		block, _ := pem.Decode(armour)
		if block == nil {
			t.Fatalf("no signature in %s", armour)
		}
		e := statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(w.people.People["bob"].Signer.Credential().ID()), Sig: block.Bytes}}}
		b, err := e.Encode()
		check(t, err)
		return b
	}
	for _, n := range []string{"file", "git", "login@greatseal.io", "statement", "statement@greatseal.io.example.com", "Statement@greatseal.io"} {
		bad := sign(n)
		w.refused(n, bad)
		w.denied(n, env, items, bad, w.endorsement("carol", env), w.endorsement("scanner", env))
	}
	// A login, which a hostile server can have signed with a message of its choice.
	sig, err := w.people.People["bob"].Signer.Sign(w.ctx, credential.Login, statement.PAE(payload))
	check(t, err)
	e := statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(w.people.People["bob"].Signer.Credential().ID()), Sig: sig}}}
	login, err := e.Encode()
	check(t, err)
	w.refused("a login", login)
	w.denied("a login", env, items, login, w.endorsement("carol", env), w.endorsement("scanner", env))
	// The right one is taken.
	if _, err := w.server.Endorse(w.ctx, sign(credential.SSHNamespace(credential.Statement))); err != nil {
		t.Fatal(err)
	}
	w.endorse(env, "carol", "scanner")
	w.await(id, store.Executed)
}

const relyingParty, ownOrigin = "seal.example.com", "https://seal.example.com"

// authenticator is a passkey whose device and browser sign what they like.
type authenticator struct{ key *ecdsa.PrivateKey }

func newAuthenticator(t *testing.T) authenticator {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return authenticator{k}
}

func (a authenticator) credential(t testing.TB) credential.Credential {
	t.Helper()
	point, err := a.key.PublicKey.Bytes()
	check(t, err)
	cose, err := format.Encode(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	check(t, err)
	c, err := credential.NewPasskey([]byte("a passkey for these tests"), cose, relyingParty, []string{ownOrigin}, false)
	check(t, err)
	return c
}

// assertion is what differs from an honest one; zero members do not.
type assertion struct {
	flags     byte // default: user present, user verified
	typ       string
	origin    string
	rp        string
	cross     bool
	top       string
	challenge func(c []byte) []byte
	by        *authenticator
}

func (a authenticator) sign(t testing.TB, as assertion, p credential.Purpose, message []byte) []byte {
	t.Helper()
	c, err := credential.Challenge(p, message)
	check(t, err)
	if as.challenge != nil {
		c = as.challenge(bytes.Clone(c))
	}
	if as.by != nil {
		a = *as.by
	}
	def := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	def(&as.typ, "webauthn.get")
	def(&as.origin, ownOrigin)
	def(&as.rp, relyingParty)
	if as.flags == 0 {
		as.flags = 0x05
	}
	client, err := json.Marshal(struct {
		Type        string `json:"type"`
		Challenge   string `json:"challenge"`
		Origin      string `json:"origin"`
		CrossOrigin bool   `json:"crossOrigin"`
		TopOrigin   string `json:"topOrigin,omitempty"`
	}{as.typ, base64.RawURLEncoding.EncodeToString(c), as.origin, as.cross, as.top})
	check(t, err)
	rp, ch := sha256.Sum256([]byte(as.rp)), sha256.Sum256(client)
	data := append(rp[:], as.flags, 0, 0, 0, 1)
	digest := sha256.Sum256(append(bytes.Clone(data), ch[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	check(t, err)
	out, err := credential.Assertion{AuthenticatorData: data, ClientDataJSON: client, Signature: sig}.Encode()
	check(t, err)
	return out
}

// A passkey endorses with its person there and verified, at its own site, this
// request; not when it was merely touched, or for a page of somebody else's. The
// device signs all of it: what is refused is refused for what it says.
func TestAttackPasskey(t *testing.T) {
	t.Parallel()
	device, thief := newAuthenticator(t), newAuthenticator(t)
	w := newWorld(t, options{charter: func(w *world, c *charter.Charter) {
		p := c.People["carol"]
		p.Credentials = append(p.Credentials, charter.CredentialOf(device.credential(w)))
		c.People["carol"] = p
	}})
	items := w.items("passkey")
	env := w.ask("alice", "release", items)
	id := w.submit(env, items).ID
	req, _ := decode[statement.Request](t, env)
	said := func(request statement.ID) []byte {
		b, err := statement.Encode(statement.Endorsement{Deployment: req.Deployment, Request: request, Endorser: "carol", Verdict: statement.Endorse, Created: req.Created, Expires: req.Expires})
		check(t, err)
		return b
	}
	say := func(as assertion, p credential.Purpose, signed []byte) []byte {
		sig := device.sign(t, as, p, statement.PAE(signed))
		e := statement.Envelope{Payload: said(id), Signatures: []statement.Signature{{KeyID: string(device.credential(t).ID()), Sig: sig}}}
		b, err := e.Encode()
		check(t, err)
		return b
	}
	bad := map[string][]byte{
		"as a login":         say(assertion{}, credential.Login, said(id)),
		"of another request": say(assertion{}, credential.Statement, said(idOf(t, w.ask("alice", "release", w.items("other"))))),
	}
	for what, as := range map[string]assertion{
		"not verified":          {flags: 0x01},
		"not there":             {flags: 0x04},
		"neither":               {flags: 0x20},
		"backed up after all":   {flags: 0x1d},
		"from another origin":   {origin: "https://seal.example.com.evil.example"},
		"from a sister origin":  {origin: "https://other.example.com"},
		"from another port":     {origin: ownOrigin + ":8443"},
		"in plain":              {origin: "http://seal.example.com"},
		"for another party":     {rp: "example.com"},
		"a registration":        {typ: "webauthn.create"},
		"a payment":             {typ: "payment.get"},
		"in a frame":            {cross: true},
		"in a frame of another": {cross: true, top: "https://evil.example"},
		"of another challenge":  {challenge: func(c []byte) []byte { c[0] ^= 1; return c }},
		"of no challenge":       {challenge: func([]byte) []byte { return nil }},
		"of a longer challenge": {challenge: func(c []byte) []byte { return append(c, 0) }},
		"of another device":     {by: &thief},
	} {
		bad[what] = say(as, credential.Statement, said(id))
	}
	for what, b := range bad {
		w.refused(what, b)
		w.denied(what, env, items, w.endorsement("bob", env), b, w.endorsement("scanner", env))
	}
	// The same device, honestly used.
	if _, err := w.server.Endorse(w.ctx, say(assertion{}, credential.Statement, said(id))); err != nil {
		t.Fatal(err)
	}
	w.endorse(env, "bob", "scanner")
	w.await(id, store.Executed)
}
