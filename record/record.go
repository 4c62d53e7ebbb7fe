package record

import (
	"crypto/sha256"
)

// Record is one record as a platform holds it. Fields are canonical values
// (docs/spec/records.md): an empty or null field is absent.
type Record struct {
	Ref         Ref
	Fields      map[string]string
	Attachments []Attachment // in any order
}

// Attachment is one file that belongs to a record.
type Attachment struct {
	Name   string            `json:"name" cbor:"1,keyasint"`
	Type   string            `json:"type" cbor:"2,keyasint"` // media type
	Size   int64             `json:"size" cbor:"3,keyasint"` // bytes
	SHA256 [sha256.Size]byte `json:"-" cbor:"4,keyasint"`
}

// Configuration says what of a table's records is signed, and for what. It is part
// of the charter (package charter), and of circle statements.
//
// A field that is added is "omitzero" and stands last.
type Configuration struct {
	Version     uint64   `json:"version" yaml:"version" cbor:"1,keyasint"`
	Table       string   `json:"table" yaml:"table" cbor:"2,keyasint"`
	Purpose     string   `json:"purpose" yaml:"purpose" cbor:"3,keyasint"`
	Condition   string   `json:"condition,omitzero" yaml:"condition,omitempty" cbor:"4,keyasint"`     // CEL over the fields (package record/condition); empty: every record
	Fields      []string `json:"fields" yaml:"fields" cbor:"5,keyasint"`                              // sorted; signed whether or not a record has them
	Attachments bool     `json:"attachments,omitzero" yaml:"attachments,omitempty" cbor:"6,keyasint"` // all attachments are signed, and none may be added
	Parameters  []string `json:"parameters,omitzero" yaml:"parameters,omitempty" cbor:"7,keyasint"`   // sorted names that an order may pass
}

// ConfigurationRef names one configuration by its digest.
type ConfigurationRef struct {
	ID      string            `json:"id" cbor:"1,keyasint"`
	Version uint64            `json:"version" cbor:"2,keyasint"`
	Digest  [sha256.Size]byte `json:"-" cbor:"3,keyasint"`
}

// Wildcard is the reserved purpose that script includes and business rules alone
// are signed with; it satisfies every purpose but those of the circle.
const Wildcard = "*"

// The predefined purposes.
const (
	Queue     = "ecc_queue"                 // may be run by agents
	Circle    = "circle_of_trust"           // circle statements (package circle); never of records
	Freshness = "circle_of_trust.freshness" // freshness statements; never of records
)

// WildcardTables are the tables whose records are signed with Wildcard.
func WildcardTables() []string { return []string{"sys_script", "sys_script_include"} }

// Statement is what is said of one record. Its encoding (Encode) is a leaf of the
// job's Merkle tree.
type Statement struct {
	Version       uint             `cbor:"1,keyasint"` // 1
	Purpose       string           `cbor:"2,keyasint"`
	Issuer        string           `cbor:"3,keyasint"` // the instance on which it was signed
	Audience      []string         `cbor:"4,keyasint"` // instances that may accept it, sorted; empty: every one of the circle
	Ref           Ref              `cbor:"5,keyasint"`
	Revision      uint64           `cbor:"6,keyasint"` // monotonic for a Ref, from 1
	Deleted       bool             `cbor:"7,keyasint"` // the record is to be deleted: Fields are those it had
	Configuration ConfigurationRef `cbor:"8,keyasint"`
	Fields        []FieldDigest    `cbor:"9,keyasint"`  // one for each of the configuration's fields, sorted by name
	Attachments   []Attachment     `cbor:"10,keyasint"` // sorted by name, then digest; none where the configuration has none
	NotBefore     int64            `cbor:"11,keyasint"` // Unix seconds; 0: none
	Expires       int64            `cbor:"12,keyasint"` // Unix seconds; 0: never
}

// FieldDigest is the digest of one field's canonical value; an absent field has the
// digest of absence.
type FieldDigest struct {
	Name   string            `cbor:"1,keyasint"`
	Digest [sha256.Size]byte `cbor:"2,keyasint"`
}

// Job is what one signature is over: a tree of statements. Whoever endorses the
// signature sees this, so a statement that it does not describe does not count.
type Job struct {
	Version        uint               `cbor:"1,keyasint"` // 1
	ID             string             `cbor:"2,keyasint"` // of the security job; 32 hexadecimal digits
	Issuer         string             `cbor:"3,keyasint"` // that of every statement
	Audience       []string           `cbor:"4,keyasint"` // that of every statement
	Purposes       []string           `cbor:"5,keyasint"` // those that occur, sorted
	Tables         []TableCount       `cbor:"6,keyasint"` // sorted by table
	Configurations []ConfigurationRef `cbor:"7,keyasint"` // those that occur, sorted by ID
	Count          int64              `cbor:"8,keyasint"` // of statements
	Deletions      int64              `cbor:"9,keyasint"` // of statements that say Deleted
	LowestRevision uint64             `cbor:"10,keyasint"`
	LatestRevision uint64             `cbor:"11,keyasint"` // the highest
	NotBefore      int64              `cbor:"12,keyasint"` // the earliest of any statement; 0 when one has none
	Expires        int64              `cbor:"13,keyasint"` // the latest of any statement; 0 when one never expires
	Size           int64              `cbor:"14,keyasint"` // bytes of the list of statements as a file: see ListWriter
	Root           []byte             `cbor:"15,keyasint"` // merkle root under merkle.Records
}

// TableCount is a table with the number of statements on its records.
type TableCount struct {
	Table string `json:"table" cbor:"1,keyasint"`
	Count int64  `json:"count" cbor:"2,keyasint"`
}

// SignedRoot is a Job with the signature over it: what format/records attaches.
type SignedRoot struct {
	Version      uint     `cbor:"1,keyasint"` // 1
	Job          []byte   `cbor:"2,keyasint"` // Job, encoded: bytes as signed
	SignedAt     int64    `cbor:"3,keyasint"` // Unix seconds, the keeper's; signed too
	Scheme       string   `cbor:"4,keyasint"` // sigalg.Scheme; signed too
	Certificates [][]byte `cbor:"5,keyasint"` // DER, leaf first; the leaf's digest is signed too
	Signature    []byte   `cbor:"6,keyasint"` // over SignedRoot.Message
	Timestamp    []byte   `cbor:"7,keyasint"` // RFC 3161 token over Signature; empty: none
}

// Signature is one signature of one record, as it travels.
type Signature struct {
	Statement []byte `cbor:"1,keyasint"` // Statement, encoded
	Index     int64  `cbor:"2,keyasint"` // its place among the job's statements
	Path      []byte `cbor:"3,keyasint"` // sibling hashes, leaf to top, 32 bytes each
	Root      []byte `cbor:"4,keyasint"` // SignedRoot, encoded; on platforms and in update sets it stands once and is referred to by its digest
}
