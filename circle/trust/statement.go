package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// The predicate types.
const (
	Type          = "https://greatseal.io/circle/v1"
	FreshnessType = "https://greatseal.io/circle-freshness/v1"
)

// Statement is one version of what a trusted side says.
//
// A member that is added is "omitzero" and stands last in its struct, so that
// statements made before keep their ID.
type Statement struct {
	Deployment string       `json:"deployment"`        // the charter's
	Version    uint64       `json:"version"`           // from 1
	Previous   statement.ID `json:"previous,omitzero"` // ID of the version before; zero in version 1
	Created    time.Time    `json:"created"`
	Expires    time.Time    `json:"expires"`            // nothing is believed from then on
	Freshness  uint64       `json:"freshness,omitzero"` // seconds that a freshness statement lasts at most; 0: none is asked for

	Instances    map[string]Instance `json:"instances"`
	VendorBuilds bool                `json:"vendorBuilds,omitzero"` // anchors of vendors' builds are believed

	Anchors        []record.Anchor                 `json:"anchors,omitzero"` // sorted by name
	Configurations map[string]record.Configuration `json:"configurations"`
	Revocations    []record.Revocation             `json:"revocations,omitzero"`    // sorted by fingerprint
	Floors         []record.Floor                  `json:"floors,omitzero"`         // sorted by table, then key
	TimestampRoots [][]byte                        `json:"timestampRoots,omitzero"` // DER, sorted by their SHA-256
}

// Role is what an instance is in the circle.
type Role string

// The roles.
const (
	Trusted   Role = "trusted"   // records are signed there, and nothing is enforced
	Protected Role = "protected" // signatures are enforced there
)

// Enforcement is what a protected instance and its agents do with a record whose
// signatures do not verify.
type Enforcement string

// The states, from the weakest.
const (
	Off    Enforcement = "off"    // nothing
	Report Enforcement = "report" // say so
	On     Enforcement = "on"     // refuse it
)

// Stricter returns the stricter of two states. What is not one of the three is On.
func Stricter(a, b Enforcement) Enforcement {
	rank := func(e Enforcement) int { return slices.Index([]Enforcement{Off, Report}, e) }
	switch x, y := rank(a), rank(b); {
	case x < 0 || y < 0:
		return On
	case x > y:
		return a
	}
	return b
}

// Instance is one instance of the circle.
type Instance struct {
	Role        Role        `json:"role"`
	Enforcement Enforcement `json:"enforcement,omitzero"` // of a protected instance, and of no other
	RuntimeKeys [][]byte    `json:"runtimeKeys,omitzero"` // Ed25519 SubjectPublicKeyInfo, DER, sorted: they sign the work orders of a protected instance
}

// Freshness says that at some time a version was the newest. It changes nothing
// that the version says.
type Freshness struct {
	Deployment string       `json:"deployment"`
	Circle     statement.ID `json:"circle"` // of the statement
	Version    uint64       `json:"version"`
	At         time.Time    `json:"at"`
	Expires    time.Time    `json:"expires"`
}

// PredicateType is Type.
func (Statement) PredicateType() string { return Type }

// Subject is the statement by the SHA-256 of its canonical JSON.
func (s Statement) Subject() statement.Subject {
	digest := ""
	if b, err := marshal(s); err == nil {
		h := sha256.Sum256(b)
		digest = hex.EncodeToString(h[:])
	}
	return statement.Subject{Name: s.Deployment + "/circle", Digest: map[string]string{"greatsealCircle": digest}}
}

// PredicateType is FreshnessType.
func (Freshness) PredicateType() string { return FreshnessType }

// Subject is the circle statement, by its ID.
func (f Freshness) Subject() statement.Subject {
	return statement.Subject{Name: f.Deployment + "/circle-freshness", Digest: map[string]string{"greatsealStatement": f.Circle.String()}}
}
