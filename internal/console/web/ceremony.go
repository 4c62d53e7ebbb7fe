package web

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// The fields in which static/sign.js hands a signed statement over.
const (
	FieldPayload   = "payload"            // base64url, as the next four
	FieldID        = "credential"         // the WebAuthn credential id
	FieldAuthData  = "authenticator_data" //
	FieldClient    = "client_data"        //
	FieldSignature = "signature"          //
	FieldDraft     = "draft"              // that the payload was drafted here, for this session
)

// Drafted is what a draft's path answers to static/sign.js.
type Drafted struct {
	Payload     string            `json:"payload"` // base64url, as the IDs
	Draft       string            `json:"draft"`
	Expect      map[string]string `json:"expect"`
	Credentials []DraftedKey      `json:"credentials"`
	RPID        string            `json:"rpId"`
}

// DraftedKey is a passkey that may sign.
type DraftedKey struct {
	ID string `json:"id"`
}

// Draft answers with a statement for the person's passkey to sign. expect says what the
// script in the browser is to find in it, and in the form: "request", "verdict",
// "comment" and the like, by dotted path in the predicate ("command.name").
func (v *Visit) Draft(payload []byte, expect map[string]string) error {
	keys := v.Passkeys()
	if len(keys) == 0 {
		return NoPasskey(v.Who.Name)
	}
	out := Drafted{Payload: base64.RawURLEncoding.EncodeToString(payload), Draft: v.draftMark(payload), Expect: expect, RPID: keys[0].RPID()}
	for _, k := range keys {
		if k.RPID() == out.RPID {
			out.Credentials = append(out.Credentials, DraftedKey{base64.RawURLEncoding.EncodeToString(k.CredentialID())})
		}
	}
	return v.JSON(200, out)
}

// NoPasskey is the problem of somebody who cannot sign in this browser.
func NoPasskey(name string) *Problem {
	return Problemf(409, "no-passkey", "endorse on the command line, or ask the officers to put a passkey of yours into the charter", "the charter has no passkey of %s's for this address", name)
}

// Passkeys are the passkeys that the charter has of the person and that browsers use at
// this address.
func (v *Visit) Passkeys() []*credential.Passkey {
	if v.Who == nil || !v.Who.InCharter {
		return nil
	}
	return v.site.passkeys(v.Who.Name, v.site.Origin(v.Request))
}

// PasskeysOf are the passkeys that the charter has of somebody and that browsers use at
// an origin.
func (s *Site) PasskeysOf(name, origin string) []*credential.Passkey { return s.passkeys(name, origin) }

// PasskeyBy finds the passkey with a WebAuthn credential id, and whose it is; nil when
// the charter has none, or not one for the origin.
func (s *Site) PasskeyBy(id []byte, origin string) (name string, key *credential.Passkey) {
	for n, list := range s.roll().passkeys {
		for _, k := range list {
			if bytes.Equal(k.CredentialID(), id) && slices.Contains(k.Origins(), origin) {
				if key != nil && name != n {
					return "", nil // of two people: nobody's
				}
				name, key = n, k
			}
		}
	}
	return name, key
}

func (s *Site) passkeys(name, origin string) []*credential.Passkey {
	var out []*credential.Passkey
	for _, k := range s.roll().passkeys[name] {
		if slices.Contains(k.Origins(), origin) {
			out = append(out, k)
		}
	}
	return out
}

// draftMark says that the session has drafted payload.
func (v *Visit) draftMark(payload []byte) string {
	m := hmac.New(sha256.New, derived(v.secret, "draft"))
	m.Write(payload)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// Signed takes what static/sign.js handed over: a statement that this session drafted,
// and the assertion of a passkey of the person's over it. The signature is checked here,
// so that a wrong one gets a clear answer; whoever acts on it checks again. What the
// statement says is the caller's to compare with what was asked.
func (v *Visit) Signed(form url.Values) (envelope, payload []byte, err error) {
	payload = field(form, FieldPayload)
	if payload == nil || len(payload) > statement.MaxPayload {
		return nil, nil, incomplete()
	}
	if !hmac.Equal([]byte(form.Get(FieldDraft)), []byte(v.draftMark(payload))) {
		return nil, nil, Problemf(409, "draft-changed", "load the page again", "that is not the statement which this session drafted")
	}
	sig, err := v.assertion(form, credential.Statement, statement.PAE(payload))
	if err != nil {
		return nil, nil, err
	}
	e := statement.Envelope{Payload: payload, Signatures: []statement.Signature{*sig}}
	envelope, err = e.Encode()
	return envelope, payload, err
}

// SignedLogin takes the assertion of a passkey of the person's over a message that is no
// statement, such as a withdrawal.
func (v *Visit) SignedLogin(form url.Values, message []byte) (*statement.Signature, error) {
	return v.assertion(form, credential.Login, message)
}

func incomplete() *Problem {
	return Problemf(400, "malformed", "load the page again", "the signature is not complete")
}

// field reads a field in base64url, with padding or without.
func field(form url.Values, name string) []byte {
	if len(form[name]) != 1 {
		return nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(form.Get(name), "="))
	if err != nil {
		return nil
	}
	return b
}

// assertion checks the assertion in a form: a passkey of the person's, over message.
func (v *Visit) assertion(form url.Values, p credential.Purpose, message []byte) (*statement.Signature, error) {
	id := field(form, FieldID)
	a := credential.Assertion{AuthenticatorData: field(form, FieldAuthData), ClientDataJSON: field(form, FieldClient), Signature: field(form, FieldSignature)}
	if id == nil || a.AuthenticatorData == nil || a.ClientDataJSON == nil || a.Signature == nil {
		return nil, incomplete()
	}
	var key *credential.Passkey
	for _, k := range v.Passkeys() {
		if bytes.Equal(k.CredentialID(), id) {
			key = k
		}
	}
	if key == nil {
		return nil, Problemf(403, "credential-unknown", "use a passkey that the charter has of yours", "the passkey that signed is not one of %s's", v.whoName())
	}
	sig, err := a.Encode()
	if err != nil {
		return nil, incomplete()
	}
	if err := key.Verify(p, message, sig); err != nil {
		return nil, Problemf(403, "signature", "load the page again and sign anew", "the passkey's signature does not fit: %v", err)
	}
	return &statement.Signature{KeyID: string(key.ID()), Sig: sig}, nil
}

func (v *Visit) whoName() string {
	if v.Who == nil {
		return "nobody"
	}
	return v.Who.Name
}
