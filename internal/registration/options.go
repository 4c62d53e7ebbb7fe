package registration

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
)

// Begun is what a browser goes on with.
type Begun struct {
	Ticket  string  `json:"ticket"`
	Options Options `json:"publicKey"`
}

// Options are PublicKeyCredentialCreationOptionsJSON (WebAuthn Level 3 section 5.1.8).
type Options struct {
	RP struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"rp"`
	User struct {
		ID          string `json:"id"`
		Name        string `json:"name"`
		DisplayName string `json:"displayName"`
	} `json:"user"`
	Challenge  string       `json:"challenge"`
	Parameters []Parameter  `json:"pubKeyCredParams"`
	Timeout    int64        `json:"timeout"`
	Exclude    []Descriptor `json:"excludeCredentials"`
	Selection  struct {
		ResidentKey      string `json:"residentKey"`
		UserVerification string `json:"userVerification"`
	} `json:"authenticatorSelection"`
	Attestation string `json:"attestation"`
}

// Parameter is one kind of key that is taken.
type Parameter struct {
	Type string `json:"type"`
	Alg  int    `json:"alg"`
}

// Descriptor names a passkey that its authenticator is not to replace.
type Descriptor struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

func options(c *charter.Charter, name string, p charter.Person, at Site, challenge []byte) Options {
	var o Options
	b64 := base64.RawURLEncoding.EncodeToString
	o.RP.ID, o.RP.Name = at.RelyingParty, "Greatseal "+c.Deployment
	// A handle that says nothing of whose it is (section 14.6.1), and the same for
	// all passkeys of a person.
	h := sha256.Sum256([]byte("greatseal user v1\n" + c.Deployment + "\n" + name))
	o.User.ID, o.User.Name, o.User.DisplayName = b64(h[:]), name, cmp.Or(p.Name, name)
	o.Challenge = b64(challenge)
	for _, alg := range []int{-7, -8, -257} {
		o.Parameters = append(o.Parameters, Parameter{"public-key", alg})
	}
	o.Timeout = Life.Milliseconds()
	o.Exclude = []Descriptor{}
	for _, cr := range p.Credentials {
		if cr.Passkey == "" {
			continue
		}
		if parsed, err := cr.Parse(); err == nil {
			if pk, ok := parsed.(*credential.Passkey); ok {
				o.Exclude = append(o.Exclude, Descriptor{"public-key", b64(pk.CredentialID())})
			}
		}
	}
	o.Selection.ResidentKey, o.Selection.UserVerification = "preferred", "required"
	o.Attestation = "none"
	if c.Passkeys != nil && c.Passkeys.Attestation != nil {
		o.Attestation = "direct"
	}
	return o
}
