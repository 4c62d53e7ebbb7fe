// Package order is the work order: what a protected instance tells one agent to
// run, signed with the instance's runtime key.
//
// The encoding is deterministic CBOR (RFC 8949 section 4.2.1): maps with unsigned
// integer keys in ascending order, every key present. The runtime key, Ed25519
// (RFC 8032), signs
//
//	"greatseal order v1" 0x00 || the encoded order
//
// docs/spec/orders.md has the whole of it, docs/spec/vectors/orders.json examples.
//
// An order TRAVELS with the records that it names (a [Delivery]). It says "this
// instance asks you, now, once"; it never says that a record is good: that is the
// author's signature over the record, which whoever runs it checks too (package
// record).
//
// Invariants:
//
//  1. Only [Verifier.Verify] makes a [Verified]: signed by one of the keys, for
//     this agent, within its time. Every refusal is a *rejection.Error.
//  2. Whatever is decoded encodes to the same bytes again; every limit is checked
//     when it is encoded and when it is decoded.
//  3. An order names one agent. That of a cluster names the member that it was
//     made for, and the cluster.
//  4. [Verified.Key] is the same for all orders of one job, unless the job may be
//     repeated: then each attempt has its own. An agent that has begun a key never
//     begins it again.
//  5. An unknown parameter is refused, never dropped ([Verified.CheckParams]).
//  6. The records that an order names are taken all or none: in its order, with the
//     content that it names ([Verified.Open]).
//
// What a caller may not conclude: that the instance is honest. Whoever has taken it
// over makes valid orders, for records that somebody has signed.
package order

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Version is the version of orders.
const Version = 1

// Limits of what is encoded and decoded.
const (
	MaxOrder      = 1 << 20         // bytes of one encoded order
	MaxRecords    = 256             // that one order names
	MaxParams     = 64              // parameters
	MaxParam      = 64 << 10        // bytes of one parameter's value
	MaxParamBytes = 256 << 10       // of all values together
	MaxName       = 120             // characters of a name
	MaxKeyColumns = 16              // columns of a record's key
	MaxKeyColumn  = 1024            // bytes of one of them
	MaxLife       = time.Hour       // from issue to expiry
	DefaultLife   = 5 * time.Minute // that of orders where nobody says otherwise
	NonceSize     = 16              // bytes
)

// Domain stands before the order's bytes in what is signed.
const Domain = "greatseal order v1\x00"

// Priority says which of two orders that wait goes first.
type Priority uint8

// The priorities.
const (
	Interactive Priority = iota // somebody waits for the answer
	Expedited
	Standard
)

var priorities = [...]string{"interactive", "expedited", "standard"}

// String is the priority's word in a queue.
func (p Priority) String() string {
	if int(p) < len(priorities) {
		return priorities[p]
	}
	return fmt.Sprintf("priority(%d)", uint8(p))
}

// ParsePriority reads a word; the empty one is Standard.
func ParsePriority(s string) (Priority, error) {
	if s == "" {
		return Standard, nil
	}
	if i := slices.Index(priorities[:], s); i >= 0 {
		return Priority(i), nil
	}
	return 0, fmt.Errorf("order: want interactive, expedited or standard as the priority")
}

// Order is one order. A field that is added is a new version.
type Order struct {
	Version    uint              `cbor:"1,keyasint"`
	ID         string            `cbor:"2,keyasint"` // of the job, the same for every attempt; 32 hexadecimal digits
	Attempt    uint64            `cbor:"3,keyasint"` // from 1
	Repeatable bool              `cbor:"4,keyasint"` // running it twice does no harm: another attempt may run after one that was begun and lost
	Instance   string            `cbor:"5,keyasint"` // who asks
	Agent      string            `cbor:"6,keyasint"` // who is asked
	Cluster    string            `cbor:"7,keyasint"` // of which the agent is asked as a member; or empty
	Topic      string            `cbor:"8,keyasint"` // what is to run it: "JDBCProbe", "JavascriptProbe", …
	Name       string            `cbor:"9,keyasint"` // for people
	Priority   Priority          `cbor:"10,keyasint"`
	Records    []Record          `cbor:"11,keyasint"` // in the order in which they are delivered; the first is what runs, unless the topic says otherwise
	Params     map[string]string `cbor:"12,keyasint"`
	IssuedAt   int64             `cbor:"13,keyasint"` // Unix seconds
	Expires    int64             `cbor:"14,keyasint"` // Unix seconds: not begun later
	Nonce      []byte            `cbor:"15,keyasint"` // NonceSize bytes
}

// Record names one record and what it held when the order was made.
type Record struct {
	Ref     record.Ref        `cbor:"1,keyasint"`
	Purpose string            `cbor:"2,keyasint"` // for which it must be signed
	Digest  [sha256.Size]byte `cbor:"3,keyasint"` // Content of the record as delivered
}

// Signed is an order with its signature.
type Signed struct {
	Order     []byte            `cbor:"1,keyasint"` // encoded; bytes as signed
	KeyID     [sha256.Size]byte `cbor:"2,keyasint"` // of the runtime key
	Signature []byte            `cbor:"3,keyasint"` // Ed25519
}

// KeyID names a public key: SHA-256 of its SubjectPublicKeyInfo.
func KeyID(k crypto.PublicKey) ([sha256.Size]byte, error) {
	b, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("order: %w", err)
	}
	return sha256.Sum256(b), nil
}

// Encode checks o and writes it.
func (o *Order) Encode() ([]byte, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	b, err := format.Encode(o)
	if err == nil && len(b) > MaxOrder {
		err = fmt.Errorf("order: more than %d bytes", MaxOrder)
	}
	return b, err
}

// Decode reads what Encode wrote and nothing else. The error is ORDER_MALFORMED.
func Decode(b []byte) (*Order, error) {
	if len(b) > MaxOrder {
		return nil, rejection.New(rejection.OrderMalformed, "order", fmt.Sprintf("more than %d bytes", MaxOrder))
	}
	var o Order
	if err := format.Decode(b, &o); err != nil {
		return nil, rejection.New(rejection.OrderMalformed, "order", "not in the one encoding that is accepted")
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	return &o, nil
}

// Check says what of an order is against the rules; the error is ORDER_MALFORMED
// and names the field.
func (o *Order) Check() error {
	bad := func(field, detail string, args ...any) error {
		return rejection.New(rejection.OrderMalformed, field, fmt.Sprintf(detail, args...))
	}
	switch {
	case o.Version != Version:
		return bad("version", "is %d: want %d", o.Version, Version)
	case !ValidID(o.ID):
		return bad("id", "want 32 hexadecimal digits")
	case o.Attempt == 0:
		return bad("attempt", "counts from 1")
	case !ValidInstance(o.Instance):
		return bad("instance", "want 1 to 128 printable characters")
	case !ValidName(o.Agent):
		return bad("agent", "want a name")
	case o.Cluster != "" && !ValidName(o.Cluster):
		return bad("cluster", "want a name")
	case !ValidTopic(o.Topic):
		return bad("topic", "want a topic")
	case !validText(o.Name, MaxName):
		return bad("name", "want at most %d printable characters", MaxName)
	case o.Priority > Standard:
		return bad("priority", "is unknown")
	case len(o.Records) == 0 || len(o.Records) > MaxRecords:
		return bad("records", "are %d: want 1 to %d", len(o.Records), MaxRecords)
	case o.IssuedAt <= 0 || o.Expires <= o.IssuedAt || o.Expires-o.IssuedAt > int64(MaxLife/time.Second):
		return bad("expires", "want up to %v after the issue", MaxLife)
	case len(o.Nonce) != NonceSize:
		return bad("nonce", "want %d bytes", NonceSize)
	}
	seen := map[string]bool{}
	for _, r := range o.Records {
		if err := CheckRef(r.Ref); err != nil {
			return bad("records", "%v", err)
		}
		if r.Purpose == record.Wildcard || !ValidPurpose(r.Purpose) {
			return bad("records", "want the purpose for which each record is to be signed, not a wild card")
		}
		k, err := format.Encode(r.Ref)
		if err != nil {
			return bad("records", "a reference that has no encoding")
		}
		if seen[string(k)] {
			return bad("records", "a record stands twice")
		}
		seen[string(k)] = true
	}
	return CheckParamSizes(o.Params)
}

// CheckRef refuses a reference beyond the limits.
func CheckRef(r record.Ref) error {
	if !validText(r.Table, 128) || r.Table == "" {
		return fmt.Errorf("want a table of 1 to 128 characters")
	}
	if len(r.Key) == 0 || len(r.Key) > MaxKeyColumns {
		return fmt.Errorf("want a key of 1 to %d columns", MaxKeyColumns)
	}
	for _, k := range r.Key {
		if k == "" || len(k) > MaxKeyColumn || !utf8.ValidString(k) {
			return fmt.Errorf("want 1 to %d bytes of UTF-8 in each column of a key", MaxKeyColumn)
		}
	}
	return nil
}

// CheckParamSizes refuses parameters beyond the limits; the subject of the error
// is ORDER_MALFORMED's "params".
func CheckParamSizes(params map[string]string) error {
	bad := func(detail string, args ...any) error {
		return rejection.New(rejection.OrderMalformed, "params", fmt.Sprintf(detail, args...))
	}
	if len(params) > MaxParams {
		return bad("are %d: want at most %d", len(params), MaxParams)
	}
	n := 0
	for k, v := range params {
		if !ValidParam(k) {
			return bad("a name is not of letters, digits, '_', '.' and '-', or too long")
		}
		if len(v) > MaxParam || !utf8.ValidString(v) {
			return bad("%s: want at most %d bytes of UTF-8", k, MaxParam)
		}
		n += len(v)
	}
	if n > MaxParamBytes {
		return bad("want at most %d bytes together", MaxParamBytes)
	}
	return nil
}

// Sign signs an order with an instance's runtime key.
func Sign(o *Order, key crypto.Signer) (*Signed, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("order: a runtime key is an Ed25519 key, not a %T", key.Public())
	}
	b, err := o.Encode()
	if err != nil {
		return nil, err
	}
	id, err := KeyID(pub)
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(nil, Message(b), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("order: sign: %w", err)
	}
	return &Signed{Order: b, KeyID: id, Signature: sig}, nil
}

// Message is what the signature of an encoded order is over.
func Message(order []byte) []byte { return append([]byte(Domain), order...) }

// Encode writes s.
func (s *Signed) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return format.Encode(s)
}

// DecodeSigned reads what Encode wrote and nothing else. It verifies nothing.
func DecodeSigned(b []byte) (*Signed, error) {
	if len(b) > MaxOrder+256 {
		return nil, rejection.New(rejection.OrderMalformed, "order", fmt.Sprintf("more than %d bytes", MaxOrder))
	}
	var s Signed
	if err := format.Decode(b, &s); err != nil {
		return nil, rejection.New(rejection.OrderMalformed, "order", "not in the one encoding that is accepted")
	}
	return &s, s.check()
}

func (s *Signed) check() error {
	if len(s.Order) == 0 || len(s.Order) > MaxOrder {
		return rejection.New(rejection.OrderMalformed, "order", fmt.Sprintf("want 1 to %d bytes", MaxOrder))
	}
	if len(s.Signature) != ed25519.SignatureSize {
		return rejection.New(rejection.OrderUnsigned, "signature", "want an Ed25519 signature")
	}
	return nil
}

// Verifier says what an agent believes and who it is.
type Verifier struct {
	Instance string             // the protected instance for which the agent works
	Keys     []crypto.PublicKey // its runtime keys, as the circle of trust names them
	Agent    string             // the agent's own name
	Clusters []string           // of which it is a member
	Skew     time.Duration      // by which the instance's clock may be ahead; default a minute
}

// Verified is an order that Verify has accepted. The zero value is none.
type Verified struct {
	order *Order
	id    [sha256.Size]byte
}

// Verify judges a signed order at now. Errors are ORDER_UNSIGNED, ORDER_MALFORMED,
// WRONG_AGENT, NOT_YET_VALID and ORDER_EXPIRED. What it accepts may still be a
// replay: the caller asks its durable set of keys (Key) before it begins.
func (v *Verifier) Verify(s *Signed, now time.Time) (*Verified, error) {
	if s == nil {
		return nil, rejection.New(rejection.OrderUnsigned, "order", "there is none")
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if !v.signed(s) {
		return nil, rejection.New(rejection.OrderUnsigned, "signature", "not that of a runtime key of "+v.Instance+" that is trusted here")
	}
	o, err := Decode(s.Order)
	if err != nil {
		return nil, err
	}
	skew := v.Skew
	if skew <= 0 {
		skew = time.Minute
	}
	switch {
	case v.Instance == "" || o.Instance != v.Instance:
		return nil, rejection.New(rejection.OrderUnsigned, "instance", "the order is that of another instance")
	case v.Agent == "" || o.Agent != v.Agent:
		return nil, rejection.New(rejection.WrongAgent, "agent", "the order is for another agent")
	case o.Cluster != "" && !slices.Contains(v.Clusters, o.Cluster):
		return nil, rejection.New(rejection.WrongAgent, "cluster", "the agent is no member of the order's cluster")
	case time.Unix(o.IssuedAt, 0).After(now.Add(skew)):
		return nil, rejection.New(rejection.NotYetValid, "issued", "the order comes from the future: compare the clocks")
	case !now.Before(time.Unix(o.Expires, 0)):
		return nil, rejection.New(rejection.OrderExpired, "expires", "the order expired "+time.Unix(o.Expires, 0).UTC().Format(time.RFC3339))
	}
	return &Verified{order: o, id: sha256.Sum256(append([]byte("greatseal signed order v1\x00"), s.Order...))}, nil
}

func (v *Verifier) signed(s *Signed) bool {
	for _, k := range v.Keys {
		pub, ok := k.(ed25519.PublicKey)
		if !ok || len(pub) != ed25519.PublicKeySize {
			continue // no other algorithm signs orders
		}
		if id, err := KeyID(pub); err == nil && id == s.KeyID && ed25519.Verify(pub, Message(s.Order), s.Signature) {
			return true
		}
	}
	return false
}

// Order is a copy of the order.
func (v *Verified) Order() Order {
	o := *v.order
	o.Records = slices.Clone(o.Records)
	for i := range o.Records {
		o.Records[i].Ref.Key = slices.Clone(o.Records[i].Ref.Key)
	}
	o.Params = maps.Clone(o.Params)
	o.Nonce = slices.Clone(o.Nonce)
	return o
}

// ID is the job's.
func (v *Verified) ID() string { return v.order.ID }

// Digest names exactly these bytes of an order, for logs.
func (v *Verified) Digest() [sha256.Size]byte { return v.id }

// Expires is when the order may no more be begun.
func (v *Verified) Expires() time.Time { return time.Unix(v.order.Expires, 0).UTC() }

// Key is what an agent notes durably before it begins, and looks for first: an
// order whose key is there is ORDER_REPLAYED. Keys may be forgotten MaxLife and the
// skew after the last order with them has expired, and no sooner.
func (v *Verified) Key() [sha256.Size]byte {
	attempt := uint64(0)
	if v.order.Repeatable {
		attempt = v.order.Attempt
	}
	return sha256.Sum256(fmt.Appendf(nil, "greatseal order key v1\x00%d\x00%s%s\x00%d", len(v.order.Instance), v.order.Instance, v.order.ID, attempt))
}

// CheckParams refuses an order with a parameter that is not allowed: the names come
// from the signed configuration of the record. The error is PARAM_NOT_ALLOWED.
func (v *Verified) CheckParams(allowed []string) error {
	for _, k := range slices.Sorted(maps.Keys(v.order.Params)) {
		if !slices.Contains(allowed, k) {
			return rejection.New(rejection.ParamNotAllowed, k, "the record's configuration does not name it")
		}
	}
	return nil
}

// WantParams refuses an order without one of the parameters. The error is
// PARAM_MISSING.
func (v *Verified) WantParams(names ...string) error {
	for _, k := range names {
		if _, ok := v.order.Params[k]; !ok {
			return rejection.New(rejection.ParamMissing, k, "the order does not give it")
		}
	}
	return nil
}

// ValidID reports whether s is the ID of a job: 32 lower-case hexadecimal digits.
func ValidID(s string) bool {
	if len(s) != 32 {
		return false
	}
	b, err := hex.DecodeString(s)
	return err == nil && hex.EncodeToString(b) == s
}

// ValidName reports whether s may be an agent's or a cluster's name: 1 to 64
// letters, digits, '-', '_' and '.', a letter or digit first.
func ValidName(s string) bool { return word(s, 64, "-_.") }

// ValidTopic reports whether s may be a topic.
func ValidTopic(s string) bool { return word(s, 64, "_-.") }

// ValidPurpose reports whether s may be a purpose.
func ValidPurpose(s string) bool { return word(s, 128, "_-.:/") }

// ValidInstance reports whether s may be an instance's name: 1 to 128 printable
// characters.
func ValidInstance(s string) bool { return s != "" && validText(s, 128) }

// ValidParam reports whether s may be a parameter's name.
func ValidParam(s string) bool {
	return word(s, 64, "_-.") || len(s) > 1 && s[0] == '_' && word(s[1:], 63, "_-.")
}

func word(s string, limit int, others string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !slices.Contains([]byte(others), c)) {
			return false
		}
	}
	return true
}

// validText is one line of at most n characters that turn no direction of text.
func validText(s string, n int) bool {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > n {
		return false
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) {
			return false
		}
	}
	return true
}
