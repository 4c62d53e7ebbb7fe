package record

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"time"
)

// Anchor is somebody whose signatures are believed.
type Anchor struct {
	Name         string   `json:"name"`
	Certificate  []byte   `json:"certificate"`           // DER: an authority, or a signer's own certificate
	Purposes     []string `json:"purposes"`              // sorted; Wildcard in it means the wild card purpose itself, not every purpose
	Tables       []string `json:"tables,omitzero"`       // sorted; none: every table
	Issuers      []string `json:"issuers,omitzero"`      // instances whose statements it may sign; none: every trusted one of the circle
	VendorBuilds bool     `json:"vendorBuilds,omitzero"` // a vendor's build-time certificate
}

// Revocation ends the belief in a certificate (of a signer or an authority) or a key.
type Revocation struct {
	Fingerprint string    `json:"fingerprint"`     // SHA-256 of the certificate's DER, or of the SubjectPublicKeyInfo, hexadecimal
	Since       time.Time `json:"since"`           // what is not provably older is refused; zero: everything is
	Compromised bool      `json:"compromised"`     // KEY_COMPROMISED in place of CERT_REVOKED
	Reason      string    `json:"reason,omitzero"` // for people
}

// Floor is the lowest revision of a record that is still accepted.
type Floor struct {
	Ref      Ref    `json:"ref"`
	Revision uint64 `json:"revision"`
}

// Trust is what a verifier believes at one time. It is made by package circle, and
// by hand in tests.
type Trust struct {
	Instance       string                   // who verifies: matched against a statement's audience
	Issuers        []string                 // trusted instances
	Anchors        []Anchor                 // vendors' only where the circle believes vendors
	Revocations    []Revocation             // of signers and authorities
	Floors         []Floor                  // lowest revisions
	Configurations map[string]Configuration // in force, beside Predefined
	TimestampRoots []*x509.Certificate      // none: no timestamp is believed
	Now            time.Time
}

// Limits of a Trust.
const (
	MaxAnchors     = 1024
	MaxRevocations = 1 << 16
	MaxFloors      = 1 << 20
)

// clockSkew is how far ahead of ours the clock of a keeper may be.
const clockSkew = 5 * time.Minute

// anchor is an Anchor whose certificate was read.
type anchor struct {
	Anchor
	certificate *x509.Certificate
}

// fits reports whether the anchor may vouch for a statement.
func (a *anchor) fits(s *Statement) bool {
	return slices.Contains(a.Purposes, s.Purpose) &&
		(len(a.Tables) == 0 || slices.Contains(a.Tables, s.Ref.Table)) &&
		(len(a.Issuers) == 0 || slices.Contains(a.Issuers, s.Issuer))
}

// Fingerprint is SHA-256 of a certificate or a SubjectPublicKeyInfo (DER), as
// revocations have it.
func Fingerprint(der []byte) string {
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])
}

func parseFingerprint(s string) (f [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(f) || hex.EncodeToString(b) != s {
		return f, malformed("fingerprint %.80q: want 64 lower-case hexadecimal digits", s)
	}
	return [sha256.Size]byte(b), nil
}

// inForce is a configuration with what statements name it by.
type inForce struct {
	Configuration
	ref ConfigurationRef
}

// digest covers what a signed root is judged by: anchors' certificates,
// revocations and roots of timestamps.
func (t *Trust) digest() [sha256.Size]byte {
	h := sha256.New()
	put := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	count := func(n int) { put(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	put([]byte("greatseal record trust v1"))
	count(len(t.Anchors))
	for i := range t.Anchors {
		put(t.Anchors[i].Certificate)
	}
	count(len(t.Revocations))
	for _, r := range t.Revocations {
		put([]byte(r.Fingerprint))
		b, _ := r.Since.UTC().MarshalBinary() // UTC has no offset that it could refuse
		put(b)
		put([]byte{map[bool]byte{true: 1}[r.Compromised]})
	}
	count(len(t.TimestampRoots))
	for _, c := range t.TimestampRoots {
		put(c.Raw)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
