package wire

import "time"

// Registration is a passkey that somebody has registered, on its way into the
// charter. Whoever believes it recomputes it from Credential and Attestation.
type Registration struct {
	ID           string    `json:"id"`
	Person       string    `json:"person"`
	Credential   string    `json:"credential" doc:"text of the passkey, as charters have it"`
	CredentialID string    `json:"credentialId"`
	Attestation  string    `json:"attestation" doc:"the registration as the browser returned it, as charters have it"`
	Transports   []string  `json:"transports,omitempty" doc:"the browser's word"`
	Label        string    `json:"label,omitempty" doc:"the person's word"`
	Replaces     string    `json:"replaces,omitempty" doc:"ID of the credential that is to go"`
	State        string    `json:"state" doc:"open, proposed, in force, refused, expired"`
	Detail       string    `json:"detail,omitempty"`
	Request      string    `json:"request,omitempty" doc:"ID of the request that carries it"`
	Via          string    `json:"via" doc:"how whoever registered it had signed in"`
	Issuer       string    `json:"issuer,omitempty"`
	Subject      string    `json:"subject,omitempty"`
	Created      time.Time `json:"created"`
	Updated      time.Time `json:"updated"`
	Expires      time.Time `json:"expires"`
}

// Registrations are some.
type Registrations struct {
	Registrations []Registration `json:"registrations"`
}

// Refusing refuses something.
type Refusing struct {
	Reason string `json:"reason,omitempty" doc:"one line"`
}
