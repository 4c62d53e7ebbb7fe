// Package wire is the JSON of the API: what requests and answers consist of
// besides the types of package server, and the messages that are signed on the
// way.
//
// Invariants:
//
//  1. A member that is added is omitted when it is empty, so that older clients
//     and servers go on.
//  2. Envelopes travel as the JSON that was signed, byte for byte.
//
// Nothing here is checked by being decoded: whoever believes it checks it.
package wire

import (
	"encoding/json/jsontext"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/issuer"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

// The content types beside JSON.
const (
	JSON           = "application/json"
	ProblemJSON    = "application/problem+json"        // RFC 9457
	CBOR           = "application/cbor"                // RFC 8949
	CBORSequence   = "application/cbor-seq"            // RFC 8742
	JSONLines      = "application/jsonl"               // one document a line
	Chunk          = "application/offset+octet-stream" // of uploads
	Octets         = "application/octet-stream"        //
	TimestampQuery = "application/timestamp-query"     // RFC 3161 section 3.4
	TimestampReply = "application/timestamp-reply"     //
	Events         = "text/event-stream"               //
	Text           = "text/plain; charset=utf-8"       // checkpoints
	Metrics        = "text/plain; version=0.0.4; charset=utf-8"
)

// The headers of uploads, that of a repeated submission, and that of problems: an
// answer to HEAD has no body to carry its code.
const (
	ReasonCode     = "Reason-Code"
	UploadOffset   = "Upload-Offset"
	UploadLength   = "Upload-Length"
	IdempotencyKey = "Idempotency-Key"
)

// Submission is a signed request with its items.
type Submission struct {
	Envelope jsontext.Value `json:"envelope"`
	Items    [][]byte       `json:"items,omitempty"` // encoded items, in the order of the tree
}

// Endorsing is a signed endorsement or disapproval.
type Endorsing struct {
	Envelope jsontext.Value `json:"envelope"`
}

// Signature is a signature by a credential of the charter.
type Signature struct {
	KeyID string `json:"keyid"` // credential.ID
	Sig   []byte `json:"sig"`
}

// Cancelling withdraws a request: a signature over server.CancelMessage.
type Cancelling struct {
	Requester string    `json:"requester"`
	Signature Signature `json:"signature"`
}

// Page is a list of requests, newest first. Next, where it is set, is the value
// of "before" for the following page.
type Page struct {
	Requests []server.View `json:"requests"`
	Next     string        `json:"next,omitempty"`
}

// FilePage is part of a request's files.
type FilePage struct {
	Files []server.FileView `json:"files"`
	Count int               `json:"count"` // of the request
}

// Envelopes are the signed statements of one request, in order of arrival.
type Envelopes struct {
	Request      jsontext.Value   `json:"request"`
	Endorsements []jsontext.Value `json:"endorsements"`
}

// Found is one executed file.
type Found struct {
	Request   string          `json:"request"`
	Policy    string          `json:"policy"`
	Key       string          `json:"key"`
	Requester string          `json:"requester"`
	Executed  time.Time       `json:"executed"`
	Receipt   uint64          `json:"receipt"`
	File      server.FileView `json:"file"`
}

// FoundPage is one page of a search. Truncated says that there is more, Next where
// the page that follows begins: the query's "after".
type FoundPage struct {
	Files     []Found `json:"files"`
	Truncated bool    `json:"truncated,omitzero"`
	Next      string  `json:"next,omitzero"`
}

// Charter is the charter in force.
type Charter struct {
	Deployment string       `json:"deployment"`
	Version    uint64       `json:"version"`
	ID         statement.ID `json:"id"`
	Root       statement.ID `json:"root"`      // of version 1
	Statement  []byte       `json:"statement"` // the payload that was signed
	YAML       string       `json:"yaml"`      // the same, for people
}

// Key is a key of the charter, as the keeper has it.
type Key struct {
	Name      string   `json:"name"`
	URI       string   `json:"uri"`
	Algorithm string   `json:"algorithm"`
	Scheme    string   `json:"scheme"`
	State     string   `json:"state"`
	PublicKey []byte   `json:"publicKey,omitempty"` // SubjectPublicKeyInfo, DER
	Chain     [][]byte `json:"chain,omitempty"`     // DER, leaf first
	Health    string   `json:"health,omitempty"`    // empty: usable
}

// Keys are all keys of the charter, by name.
type Keys struct {
	Keys []Key `json:"keys"`
}

// Status is the state of a deployment.
type Status struct {
	Version    string               `json:"version"` // of the server
	Time       time.Time            `json:"time"`
	Deployment string               `json:"deployment"`
	Charter    statement.CharterRef `json:"charter"`
	Root       statement.ID         `json:"root"`
	You        You                  `json:"you"`
	Keeper     KeeperStatus         `json:"keeper"`
	Log        LogStatus            `json:"log"`
	Jobs       map[string]int       `json:"jobs,omitempty"`
	Formats    []string             `json:"formats"`
	Uploads    bool                 `json:"uploads"`
}

// You is whom the server takes the caller for.
type You struct {
	Name   string   `json:"name,omitempty"` // empty: nobody
	Via    string   `json:"via"`            // "certificate", "session", "token", "anonymous"
	Scopes []string `json:"scopes,omitempty"`
}

// KeeperStatus is the keeper's word on itself.
type KeeperStatus struct {
	Reachable bool                 `json:"reachable"`
	Version   string               `json:"version,omitempty"`
	Stopped   string               `json:"stopped,omitempty"` // why it executes nothing
	Receipts  uint64               `json:"receipts"`
	Charter   statement.CharterRef `json:"charter"`
}

// LogStatus is the head of the audit log.
type LogStatus struct {
	Origin      string `json:"origin"`
	VerifierKey string `json:"verifierKey"` // signed-note form
	Size        int64  `json:"size"`        // entries
	Signed      int64  `json:"signed"`      // entries under the last checkpoint
}

// Challenge is what somebody who wants a session signs.
type Challenge struct {
	Nonce      string    `json:"nonce"`
	Deployment string    `json:"deployment"`
	Audience   string    `json:"audience"` // host by which the client reached the server
	Expires    time.Time `json:"expires"`
}

// Login answers a challenge.
type Login struct {
	Name       string `json:"name"`       // person or machine of the charter
	Credential string `json:"credential"` // credential.ID
	Nonce      string `json:"nonce"`
	Signature  []byte `json:"signature"` // for credential.Login over LoginMessage
}

// LoginMessage is what is signed to get a session. The audience is the host that
// the client believes to be talking to, so that a server in between cannot use
// the signature elsewhere.
func LoginMessage(deployment, audience, name, nonce string) []byte {
	return []byte("greatseal login v1\n" + strings.Join([]string{deployment, audience, name, nonce}, "\n"))
}

// TokenLogin asks for a session with a workload's ID token.
type TokenLogin struct {
	Name  string `json:"name,omitempty" maxLength:"64"` // machine of the charter; empty: the only one whose token it is
	Token string `json:"token" maxLength:"16384"`
}

// Issuers are the issuers of ID tokens that the charter pins.
type Issuers struct {
	Issuers []issuer.State `json:"issuers"`
}

// Session is a bearer token that stands for a person for some hours.
type Session struct {
	Token   string    `json:"token"`
	Name    string    `json:"name"`
	Scopes  []string  `json:"scopes"`
	Expires time.Time `json:"expires"`
}

// NewToken asks for a bearer token.
type NewToken struct {
	Principal string    `json:"principal"`
	Scopes    []string  `json:"scopes"`
	Expires   time.Time `json:"expires"`
}

// Token is a bearer token. Secret is shown once, in the answer that makes it.
type Token struct {
	ID        string    `json:"id"`
	Principal string    `json:"principal"`
	Scopes    []string  `json:"scopes"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
	Secret    string    `json:"secret,omitempty"` // "gs_…"
}

// Tokens is a list of bearer tokens, without their secrets.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// Problem is an error (RFC 9457). Code is one of the documented reason codes.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Hint   string `json:"hint,omitempty"`
}

// Health answers the probes.
type Health struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}
