// Package wire is what agents and their instance say to each other besides package
// order: JSON for small things, CBOR for deliveries, octets for results.
//
// Invariants:
//
//  1. A member that is added is omitted when it is empty, so that older agents and
//     instances go on.
//  2. Deliveries travel as they were encoded: what is signed is never encoded again.
//
// Nothing here is checked by being decoded.
package wire

import (
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
)

// The content types.
const (
	JSON        = "application/json"
	ProblemJSON = "application/problem+json" // RFC 9457
	CBOR        = "application/cbor"         // RFC 8949
	Octets      = "application/octet-stream"
	Events      = "text/event-stream"
)

// The headers of pages, whose bodies are the results themselves, and of problems.
const (
	LeaseAttempt = "Lease-Attempt"
	LeaseToken   = "Lease-Token"
	PageType     = "Page-Type"
	ReasonCode   = "Reason-Code"
)

// The codes of problems, besides those of every API.
const (
	CodeLost         = "lease-lost"
	CodeNotValidated = "agent-not-validated"
	CodeInvalidated  = "agent-invalidated"
	CodePage         = "page-out-of-order"
	CodeTooLarge     = "too-large"
	CodeMalformed    = "malformed"
	CodeTooMany      = "too-many-enrolments"
	CodeNotFound     = "not-found"
	CodeConflict     = "conflict"
	CodeRefused      = "refused"
	CodeBusy         = "database-away"
	CodeForbidden    = "forbidden"
	CodeInternal     = "internal"
	CodeRate         = "too-many-requests"
	CodeWaits        = "too-many-waits"
	CodeType         = "content-type"
)

// Problem is an error as it travels (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Hint   string `json:"hint,omitzero"`
}

// AgentEnrolment asks for a certificate.
type AgentEnrolment struct {
	Name    string   `json:"name"`
	Request []byte   `json:"request"` // PKCS #10, DER
	Rekey   bool     `json:"rekey,omitzero"`
	Version string   `json:"version,omitzero"`
	OS      string   `json:"os,omitzero"`
	Arch    string   `json:"arch,omitzero"`
	Topics  []string `json:"topics,omitzero"`
}

// AgentEnrolled says where an enrolment stands: waiting, validated or refused.
type AgentEnrolled struct {
	State        string   `json:"state"`
	Fingerprint  string   `json:"fingerprint"` // SHA-256 of the public key
	Certificates [][]byte `json:"certificates,omitzero"`
	Clusters     []string `json:"clusters,omitzero"`
	RetryAfter   int64    `json:"retryAfter,omitzero"` // milliseconds
}

// AgentBeat is a heartbeat.
type AgentBeat struct {
	Time       time.Time `json:"time"`
	Version    string    `json:"version,omitzero"`
	Running    int64     `json:"running"`
	Spooled    int64     `json:"spooled"`
	Draining   bool      `json:"draining,omitzero"`
	Circle     string    `json:"circle,omitzero"`
	TrustUntil time.Time `json:"trustUntil,omitzero"`
}

// AgentPulse is the answer to a heartbeat.
type AgentPulse struct {
	Time         time.Time `json:"time"` // of the instance's clock
	Every        int64     `json:"every"`
	Clusters     []string  `json:"clusters,omitzero"`
	Rekey        bool      `json:"rekey,omitzero"`
	Cancel       []string  `json:"cancel,omitzero"`
	PullCircle   bool      `json:"pullCircle,omitzero"`
	Certificates [][]byte  `json:"certificates,omitzero"`
}

// AgentSelf is what the instance knows of the agent that asks.
type AgentSelf struct {
	Name        string    `json:"name"`
	Instance    string    `json:"instance"`
	Fingerprint string    `json:"fingerprint"`
	Clusters    []string  `json:"clusters,omitzero"`
	NotAfter    time.Time `json:"notAfter"`
}

// AgentWant asks for work.
type AgentWant struct {
	Topics []string `json:"topics"`
	Max    int      `json:"max"`
	Only   string   `json:"only,omitzero"` // jobs of that priority alone
	Wait   int64    `json:"wait,omitzero"` // milliseconds; at most a minute
}

// Leased is the answer to an AgentWant, in CBOR.
type Leased struct {
	Works []Work `cbor:"1,keyasint"`
}

// Work is one job handed out.
type Work struct {
	Job      string `cbor:"1,keyasint"`
	Attempt  uint64 `cbor:"2,keyasint"`
	Token    string `cbor:"3,keyasint"`
	Until    int64  `cbor:"4,keyasint"` // Unix milliseconds
	Topic    string `cbor:"5,keyasint"`
	Priority uint8  `cbor:"6,keyasint"`
	Delivery []byte `cbor:"7,keyasint"` // order.Delivery, encoded
}

// MaxLeased is the size of the largest Leased, in bytes.
const MaxLeased = order.MaxDelivery + 1<<20

// Encode writes l.
func (l *Leased) Encode() ([]byte, error) { return format.Encode(l) }

// DecodeLeased reads what Encode wrote.
func DecodeLeased(b []byte) (*Leased, error) {
	if len(b) > MaxLeased {
		return nil, fmt.Errorf("wire: more than %d bytes", MaxLeased)
	}
	var l Leased
	return &l, format.Decode(b, &l)
}

// MaxCircle is the size of the largest answer with bundles of the circle of trust.
const MaxCircle = 64 << 20

// Bundles are those of the circle of trust, one for each trusted side, in CBOR.
type Bundles struct {
	Bundles [][]byte `cbor:"1,keyasint"`
}

// Encode writes b.
func (b *Bundles) Encode() ([]byte, error) { return format.Encode(b) }

// DecodeBundles reads what Encode wrote.
func DecodeBundles(b []byte) (*Bundles, error) {
	if len(b) > MaxCircle {
		return nil, fmt.Errorf("wire: more than %d bytes", MaxCircle)
	}
	var out Bundles
	return &out, format.Decode(b, &out)
}

// AgentLease names one attempt of the job of the path.
type AgentLease struct {
	Attempt uint64 `json:"attempt"`
	Token   string `json:"token"`
}

// AgentUntil is until when a lease holds.
type AgentUntil struct {
	Until  time.Time `json:"until"`
	Cancel bool      `json:"cancel,omitzero"` // the job is to stop
}

// AgentFinish ends a job.
type AgentFinish struct {
	AgentLease
	Error string    `json:"error,omitzero"`
	Pages int64     `json:"pages"`
	Facts *RunFacts `json:"facts,omitzero"`
}

// RunFacts are what an agent says of a run.
type RunFacts struct {
	Rows      int64     `json:"rows,omitzero"`
	ExitCode  int       `json:"exitCode,omitzero"`
	Truncated bool      `json:"truncated,omitzero"`
	Digest    string    `json:"digest,omitzero"` // SHA-256 over the pages' bodies
	Started   time.Time `json:"started,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
}

// AgentReject refuses a job.
type AgentReject struct {
	AgentLease
	Code    string `json:"code"`
	Subject string `json:"subject,omitzero"`
	Detail  string `json:"detail,omitzero"`
}

// AgentAttachment asks for an attachment of a record.
type AgentAttachment struct {
	AgentLease
	Record record.Ref `json:"record"`
	Name   string     `json:"name"`
	SHA256 string     `json:"sha256"`
}
