// Package charter is a deployment's founding document: its people and their
// credentials, groups, keys, signing policies, and the quorum of every
// privileged command. People write it as YAML; what is signed is its statement.
//
// Charters are a chain. Version 1 is signed by its founders and pinned by its
// ID; version n+1 comes into force when the quorum that version n names for
// charter.replace has endorsed the request that carries it.
//
// Invariants:
//
//  1. A [Charter] from [Decode] or [ParseYAML] has passed [Charter.Check]: every
//     name resolves, every quorum can be satisfied by the members there are,
//     whoever asks, and none is trivial; unattended is what says so.
//  2. A credential stands once in a charter: no two people, or machines, share it,
//     nor does one key stand there in two guises.
//  3. The statement's encoding is unique; the YAML's is not.
//  4. Nothing here reads a clock, a file or a network.
//  5. A machine and its owner are one actor ([Roll]): they count once in a quorum,
//     and neither has a vote on what the other requests.
//  6. A workload ([OIDC]) is a machine, requests signatures, and has no vote, veto
//     or inspection; an unbound one requests nothing unattended.
//
// A caller may not conclude from a Charter that it is, or ever was, in force: that
// is package quorum's Chain to say. Names, addresses and descriptions are what the
// charter's authors wrote, and nobody has checked them.
package charter

import (
	"errors"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// Type is the predicate type of charters.
const Type = "https://greatseal.io/charter/v1"

// Charter is one version of the document. JSON is its canonical form (as
// predicate of a statement), YAML the one for people; the members are the same.
//
// A member that is added is "omitzero" and stands last in its struct, so that
// charters made before keep their ID.
type Charter struct {
	Deployment string       `json:"deployment" yaml:"deployment"`
	Version    uint64       `json:"version" yaml:"version"`
	Previous   statement.ID `json:"previous,omitzero" yaml:"previous,omitempty"` // zero in version 1
	Created    time.Time    `json:"created" yaml:"created"`

	Keeper Keeper `json:"keeper" yaml:"keeper"`

	People   map[string]Person              `json:"people" yaml:"people"`
	Machines map[string]Machine             `json:"machines,omitzero" yaml:"machines,omitempty"` // one name space with People
	Groups   map[string]Group               `json:"groups" yaml:"groups"`
	Keys     map[string]Key                 `json:"keys,omitzero" yaml:"keys,omitempty"`
	Policies map[string]Policy              `json:"policies,omitzero" yaml:"policies,omitempty"`
	Commands map[statement.CommandName]Rule `json:"commands" yaml:"commands"` // every privileged command but sign; one that is missing is refused to everybody

	Timestamping *Timestamping `json:"timestamping,omitzero" yaml:"timestamping,omitempty"`
	Records      *Records      `json:"records,omitzero" yaml:"records,omitempty"`

	Issuers map[string]Issuer `json:"issuers,omitzero" yaml:"issuers,omitempty"` // whose ID tokens machines sign requests with

	Passkeys *Passkeys `json:"passkeys,omitzero" yaml:"passkeys,omitempty"` // what is demanded of passkeys; nil: nothing
}

// Keeper is who signs receipts and the log's checkpoints.
type Keeper struct {
	Receipts string `json:"receipts" yaml:"receipts"` // Ed25519 public key, base64
	Log      string `json:"log" yaml:"log"`           // the log's origin and name of its key: "log.example.com/greatseal"
	LogKey   string `json:"logKey" yaml:"logKey"`     // Ed25519 public key of checkpoints, base64
}

// Person is somebody who can request and endorse.
type Person struct {
	Name        string       `json:"name,omitzero" yaml:"name,omitempty"` // for people
	Email       string       `json:"email,omitzero" yaml:"email,omitempty"`
	Credentials []Credential `json:"credentials" yaml:"credentials"`
}

// Machine is a gate that endorses or a build that requests. Owner, where there
// is one, is the person whom its requests count as: he does not endorse them,
// and it does not endorse his. The two count once in a quorum: a gate that is to
// count beside people has no owner.
type Machine struct {
	Owner       string       `json:"owner,omitzero" yaml:"owner,omitempty"`
	Credentials []Credential `json:"credentials" yaml:"credentials"`
	Inspector   bool         `json:"inspector,omitzero" yaml:"inspector,omitempty"` // recomputes plans from uploaded bytes
}

// Credential is a credential under its kind: its text form, or a workload's
// claims. Exactly one is set.
type Credential struct {
	SSH     string `json:"ssh,omitzero" yaml:"ssh,omitempty"`
	X509    string `json:"x509,omitzero" yaml:"x509,omitempty"`
	Passkey string `json:"passkey,omitzero" yaml:"passkey,omitempty"`
	OIDC    *OIDC  `json:"oidc,omitzero" yaml:"oidc,omitempty"` // of machines that request, and of nobody else

	Attestation string `json:"attestation,omitzero" yaml:"attestation,omitempty"` // a passkey's registration: an attestation.Record's text
}

// ErrIssuer is the error of Parse for a workload's credential, whose keys stand
// elsewhere in its charter: [Charter.Credential] finds them.
var ErrIssuer = errors.New("charter: the credential's keys are its issuer's: they stand in the charter")

// Parse returns the credential, if it needs nothing else of its charter.
func (c Credential) Parse() (credential.Credential, error) {
	kind, text, err := c.kind()
	if err != nil {
		return nil, err
	}
	if kind == credential.KindOIDC {
		return nil, ErrIssuer
	}
	return credential.Parse(kind, text)
}

// Group is a set of people, or of machines.
type Group struct {
	Members []string `json:"members" yaml:"members"`
}

// Key is a key that the keeper may hold. It exists after key.generate.
type Key struct {
	URI       key.URI       `json:"uri" yaml:"uri"`
	Algorithm sigalg.Key    `json:"algorithm" yaml:"algorithm"`
	Scheme    sigalg.Scheme `json:"scheme,omitzero" yaml:"scheme,omitempty"` // default: the algorithm's
}

// SignatureScheme is the scheme that the key signs under.
func (k Key) SignatureScheme() sigalg.Scheme {
	if k.Scheme != "" {
		return k.Scheme
	}
	return k.Algorithm.Default()
}

// Policy says what may be signed with a key, for whom, and who must agree.
type Policy struct {
	Description string            `json:"description,omitzero" yaml:"description,omitempty"`
	Key         string            `json:"key" yaml:"key"`
	Also        []string          `json:"also,omitzero" yaml:"also,omitempty"` // further keys that sign the same plans: a post-quantum one, say
	Formats     []string          `json:"formats" yaml:"formats"`
	Purposes    []string          `json:"purposes,omitzero" yaml:"purposes,omitempty"`
	Rule        Rule              `json:"rule" yaml:"rule"`
	MaxItems    int               `json:"maxItems,omitzero" yaml:"maxItems,omitempty"`   // files of one request; 0: as many as a request can carry
	Names       []string          `json:"names,omitzero" yaml:"names,omitempty"`         // path.Match patterns; every item's name matches one
	Params      map[string]string `json:"params,omitzero" yaml:"params,omitempty"`       // options that every plan must have: "digest": "sha384"
	Window      *Window           `json:"window,omitzero" yaml:"window,omitempty"`       // when it may be executed
	Upload      bool              `json:"upload,omitzero" yaml:"upload,omitempty"`       // the artifacts are uploaded and an inspector endorses
	Timestamp   []string          `json:"timestamp,omitzero" yaml:"timestamp,omitempty"` // RFC 3161 authorities in order: URLs, or "self" for the deployment's own
}

// Keys are the keys that sign under the policy, in their order.
func (p Policy) Keys() []string { return append([]string{p.Key}, p.Also...) }

// Rule says who may ask for a command and whose endorsement it needs.
type Rule struct {
	Requesters   []string `json:"requesters" yaml:"requesters"`                    // people, machines, groups
	Unattended   bool     `json:"unattended,omitzero" yaml:"unattended,omitempty"` // the requester's signature is enough; excludes Quorum
	Quorum       *Node    `json:"quorum,omitzero" yaml:"quorum,omitempty"`
	Veto         []string `json:"veto,omitzero" yaml:"veto,omitempty"`                 // groups of which one member's disapproval ends the request
	Expires      Duration `json:"expires,omitzero" yaml:"expires,omitempty"`           // how long a request may wait; default 168h
	Endorsements Duration `json:"endorsements,omitzero" yaml:"endorsements,omitempty"` // how long an endorsement lasts; default: as long as the request
}

// Node is one node of a quorum's threshold tree. It is a person or machine
// (Member), or Need distinct members of a Group, or Need of the nodes Of.
type Node struct {
	Need   int    `json:"need,omitzero" yaml:"need,omitempty"` // default 1 for a group; wanted with Of
	Member string `json:"member,omitzero" yaml:"member,omitempty"`
	Group  string `json:"group,omitzero" yaml:"group,omitempty"`
	Of     []Node `json:"of,omitzero" yaml:"of,omitempty"`
}

// Window is when a policy's requests may be executed, in UTC.
type Window struct {
	Days []string `json:"days,omitzero" yaml:"days,omitempty"` // "mon" … "sun"; none: every day
	From string   `json:"from" yaml:"from"`                    // "08:00"
	To   string   `json:"to" yaml:"to"`                        // "18:00", exclusive; later than From
}

// Timestamping is the deployment's own RFC 3161 authority.
type Timestamping struct {
	Key      string   `json:"key" yaml:"key"`
	Policy   string   `json:"policy" yaml:"policy"` // object identifier, dotted
	Accuracy Duration `json:"accuracy,omitzero" yaml:"accuracy,omitempty"`
}

// Records are what is signed of records that execute, and where. Circle statements
// (package circle) repeat the configurations as they are here.
type Records struct {
	Instance       string                          `json:"instance" yaml:"instance"`                                // the trusted instance on which they are signed
	Configurations map[string]record.Configuration `json:"configurations,omitzero" yaml:"configurations,omitempty"` // by ID
}

// Duration is a time.Duration that is written as Go writes it, in the shortest
// form: "72h0m0s" is read and "72h" written.
type Duration time.Duration

// PredicateType is Type.
func (Charter) PredicateType() string { return Type }
