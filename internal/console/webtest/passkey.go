package webtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"testing"

	"github.com/descope/virtualwebauthn"
	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/statement"
)

// Passkey is an authenticator with one passkey.
type Passkey struct {
	testing.TB
	Credential *credential.Passkey
	Origin     string // that signs; a test may make it another one
	key        virtualwebauthn.Credential
}

// NewPasskey makes a passkey for the console's host.
func NewPasskey(t testing.TB) *Passkey {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	point, err := priv.PublicKey.Bytes()
	must(t, err)
	enc, err := cbor.CoreDetEncOptions().EncMode()
	must(t, err)
	cose, err := enc.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(priv)
	must(t, err)
	p := &Passkey{TB: t, Origin: Origin, key: virtualwebauthn.NewCredentialWithImportedKey(virtualwebauthn.KeyTypeEC2, pkcs8)}
	p.Credential, err = credential.NewPasskey(p.key.ID, cose, Host, []string{Origin}, false)
	must(t, err)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Give puts the passkey into a charter, beside the credentials that name has.
func (p *Passkey) Give(c *charter.Charter, name string) {
	x := c.People[name]
	x.Credentials = append(x.Credentials, charter.CredentialOf(p.Credential))
	c.People[name] = x
}

// Sign answers a challenge as a browser does, in the fields of a form.
func (p *Passkey) Sign(challenge []byte) url.Values {
	p.Helper()
	body := virtualwebauthn.CreateAssertionResponse(virtualwebauthn.RelyingParty{ID: Host, Origin: p.Origin}, virtualwebauthn.NewAuthenticator(), p.key,
		virtualwebauthn.AssertionOptions{Challenge: challenge})
	var res struct {
		RawID    string `json:"rawId"`
		Response struct {
			AuthenticatorData string `json:"authenticatorData"`
			ClientDataJSON    string `json:"clientDataJSON"`
			Signature         string `json:"signature"`
		} `json:"response"`
	}
	must(p, json.Unmarshal([]byte(body), &res))
	return url.Values{web.FieldID: {res.RawID}, web.FieldAuthData: {res.Response.AuthenticatorData}, web.FieldClient: {res.Response.ClientDataJSON}, web.FieldSignature: {res.Response.Signature}}
}

// Statement signs a payload as static/sign.js has it signed.
func (p *Passkey) Statement(message []byte) url.Values {
	p.Helper()
	c, err := credential.Challenge(credential.Statement, message)
	must(p, err)
	return p.Sign(c)
}

// Login signs a message for a login, or a withdrawal.
func (p *Passkey) Login(message []byte) url.Values {
	p.Helper()
	c, err := credential.Challenge(credential.Login, message)
	must(p, err)
	return p.Sign(c)
}

// Drafted reads the answer of a draft's path.
func (p *Page) Drafted() (web.Drafted, []byte) {
	p.Helper()
	p.OK()
	var d web.Drafted
	must(p, json.Unmarshal([]byte(p.Body), &d))
	payload, err := base64.RawURLEncoding.DecodeString(d.Payload)
	must(p, err)
	return d, payload
}

// Ceremony does what static/sign.js does: it has a statement drafted at one path, signs it
// and posts the form with it to another. change may spoil what is posted.
func (br *Browser) Ceremony(key *Passkey, draft, action string, form url.Values, change ...func(url.Values)) *Page {
	br.Helper()
	d, payload := br.Draft(draft, form).Drafted()
	f := url.Values{}
	for k, v := range form {
		f[k] = v
	}
	for k, v := range key.Statement(statement.PAE(payload)) {
		f[k] = v
	}
	f.Set(web.FieldPayload, d.Payload)
	f.Set(web.FieldDraft, d.Draft)
	for _, c := range change {
		c(f)
	}
	return br.Post(action, f)
}
