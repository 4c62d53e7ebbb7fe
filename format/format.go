// Package format is the interface between Greatseal and the kinds of file that
// it signs, and the things that travel across it: plans, items and patches.
//
// A [Format] reads a file once and makes a [Plan]: what a signature over the
// file will cover, digests and the structure around them, never the bytes. The
// plan is endorsed. The keeper assembles the message to be signed from it, and
// the format turns the signature into a [Patch] of the file.
//
// Invariants:
//
//  1. A plan is deterministic: the same bytes and options give the same encoding,
//     and whatever [DecodePlan] accepts re-encodes to itself.
//  2. Assemble is pure and strict: it derives every signed byte from the plan,
//     the identity and the time that it is given, and refuses a plan whose parts
//     contradict each other. It never signs a digest that stands for something
//     which the plan does not describe.
//  3. Verify fails closed: a byte that no signature covers and that the format's
//     specification does not leave open is an error.
//  4. A format knows no key, clock or network.
//  5. A [Patch] is applied to a file of its Size or not at all; package file
//     replaces the file atomically or leaves it as it was.
package format

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/sigalg"
)

// Artifact is a file to plan, inspect or verify. Implementations are safe for
// concurrent reads.
type Artifact interface {
	io.ReaderAt
	Size() int64
	Name() string // base name, for messages and claims; formats do not trust it
}

// Identity is who will sign: what of a key is public.
type Identity struct {
	Scheme sigalg.Scheme
	Public crypto.PublicKey
	Chain  []*x509.Certificate // leaf first; empty for formats that need no certificate
	Also   []Identity          // further keys that sign the same plan; only for a format that is [Hybrid]
}

// OneRound is embedded in a Format that asks for all of its signatures in the first
// round.
type OneRound struct{}

func (OneRound) oneRound() {}

// Next is f.Assemble for whoever has had the rounds before from it, of the same plan:
// a format of [OneRound] is not asked again only to say that nothing is left.
func Next(f Format, p *Plan, id Identity, at time.Time, done [][]byte) ([]ToBeSigned, error) {
	if _, one := f.(interface{ oneRound() }); one && len(done) > 0 {
		return nil, nil
	}
	return f.Assemble(p, id, at, done)
}

// Purposed is a Format whose plans say what the signed thing will be good for.
type Purposed interface {
	// Purposes are those of a plan. The error is that of a plan which Assemble
	// refuses too.
	Purposes(p *Plan) ([]string, error)
}

// CheckPurposes refuses a plan with a purpose that is not among those allowed. Where
// none are named every one is, as with everything that a policy does not limit.
func CheckPurposes(f Format, p *Plan, allowed []string) error {
	g, ok := f.(Purposed)
	if !ok || len(allowed) == 0 {
		return nil
	}
	stated, err := g.Purposes(p)
	if err != nil {
		return err
	}
	for _, s := range stated {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("format: the plan is for %.80q, the policy signs for %s", s, strings.Join(allowed, ", "))
		}
	}
	return nil
}

// MaxKeys is the number of keys that may sign one plan.
const MaxKeys = 4

// Signers lists the keys that sign: the identity's own, then those in Also.
func (id *Identity) Signers() []Identity {
	own := *id
	own.Also = nil
	return append([]Identity{own}, id.Also...)
}

// Hybrid is a Format whose signature can be made by several keys over one plan, a
// classical and a post-quantum one, say: the result holds all of them. In Assemble
// every key signs in the first round.
type Hybrid interface {
	// MaxKeys is how many keys may sign, at most [MaxKeys].
	MaxKeys() int
}

// CheckKeys refuses more keys than f takes.
func CheckKeys(f Format, keys int) error {
	most := 1
	if h, ok := f.(Hybrid); ok {
		most = min(h.MaxKeys(), MaxKeys)
	}
	if keys < 1 || keys > most {
		return fmt.Errorf("format: %d keys sign: format %s takes at most %d", keys, f.Name(), most)
	}
	return nil
}

// Option is one parameter that a format takes.
type Option struct {
	Name    string   // lower case, words joined by "-": "page-hashes"
	Help    string   // one line
	Values  []string // allowed values; empty when free text is
	Default string
}

// Params are the options given for one plan, by Option.Name. An option that the
// format does not declare is refused.
type Params map[string]string

// Format is one kind of file.
type Format interface {
	// Name is the word for the format in charters and plans: "pe", "cms".
	Name() string
	// Detect says from the content whether a is of this format.
	Detect(a Artifact) bool
	// Options lists the parameters of Plan.
	Options() []Option
	// Plan reads a once, in constant memory.
	Plan(ctx context.Context, a Artifact, p Params) (*Plan, error)
	// Assemble returns what is to be signed after the signatures in done: usually
	// one message a round, more where a file holds several pieces of code that are
	// signed alike. An empty result says that done is all. Later rounds are
	// derived here, from the plan and the earlier signatures; nobody submits them.
	Assemble(p *Plan, id Identity, at time.Time, done [][]byte) ([]ToBeSigned, error)
	// Attach returns the change to the file, or the file to stand beside it. It
	// refuses an artifact that is not the one planned as far as that can be seen
	// without reading it again (size, headers), and signatures that do not fit.
	Attach(ctx context.Context, a Artifact, p *Plan, id Identity, at time.Time, sigs []Signature) (*Patch, error)
	// Verify checks every signature of a, or the detached one in t.Detached.
	Verify(ctx context.Context, a Artifact, t Trust) (*Report, error)
	// Inspect says what a is and what its signatures cover, without judging them.
	Inspect(ctx context.Context, a Artifact) (*Report, error)
}

// Limits of the signatures over one file.
const (
	MaxRounds     = 4
	MaxSignatures = 1024
)

// Remover is a Format whose signatures can be taken off again.
type Remover interface {
	// Remove returns the change that takes off signature index of Inspect's
	// report, or all of them where index is -1. What the signatures had been added
	// to comes back byte for byte as far as the format remembers it. ErrUnsigned
	// when there is nothing to take off.
	Remove(ctx context.Context, a Artifact, index int) (*Patch, error)
}

// Extractor is a Format whose embedded signatures can be had as files.
type Extractor interface {
	// Extract returns signature index of Inspect's report in the form that other
	// tools read: CMS in DER, an OpenPGP packet, …
	Extract(ctx context.Context, a Artifact, index int) (*Sidecar, error)
}

// Detached is a Format that signs files of every kind and whose signature stands
// beside the file. Its Detect knows the signature, never the file: the user or the
// policy names the format.
type Detached interface {
	// Suffixes of signature files, the usual one first.
	Suffixes() []string
}

// Lister is a Format of files that hold others: archives, packages, images.
type Lister interface {
	// List calls yield for each entry, in the order of the file, and returns the
	// first error of yield.
	List(ctx context.Context, a Artifact, yield func(Entry) error) error
}

// Entry is one file inside another.
type Entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`            // of its content, in bytes
	Digest Hex    `json:"digest,omitzero"` // SHA-256 of its content
	Facts  []Fact `json:"facts,omitzero"`
}

// ErrUnsigned is wrapped when a file has no signature to verify, take off or
// extract.
var ErrUnsigned = errors.New("no signature")

// Stamper is a Format whose signatures take a timestamp after they are made.
type Stamper interface {
	// Unstamped returns, for each signature in a (or in the detached signature)
	// that carries no timestamp, what an RFC 3161 authority is to stamp.
	Unstamped(ctx context.Context, a Artifact, detached []byte) ([]StampTarget, error)
	// Stamp returns the change that adds the token to signature target.Index.
	Stamp(ctx context.Context, a Artifact, detached []byte, target StampTarget, token []byte) (*Patch, error)
}

// StampTarget is one signature that wants a timestamp.
type StampTarget struct {
	Index   int
	Message []byte // the signature value; the authority gets its digest
}

// ToBeSigned is one message, complete: the keeper hashes it as the scheme says.
//
// Digest stands in its place where a signature covers the content itself, which
// does not travel: Assemble gets it from the plan, either as it is (the content's
// own digest) or by finishing a hash whose state the plan carries (OpenPGP, which
// hashes the content and then a trailer). A plan whose state does not lead to its
// Content is refused.
type ToBeSigned struct {
	Scheme  sigalg.Scheme
	Message []byte // or
	Digest  []byte // under Scheme.Hash()
	Key     int    // which key signs: its place in Identity.Signers
}

// Check refuses anything but a message, or a digest as long as the scheme's hash.
func (t *ToBeSigned) Check() error {
	h := t.Scheme.Hash()
	switch {
	case !t.Scheme.Valid():
		return fmt.Errorf("format: unknown scheme %.40q", t.Scheme)
	case (len(t.Message) == 0) == (len(t.Digest) == 0):
		return errors.New("format: a message or a digest is wanted, one of the two")
	case len(t.Digest) > 0 && (h == 0 || len(t.Digest) != h.Size()):
		return fmt.Errorf("format: digest of %d bytes does not fit %s", len(t.Digest), t.Scheme)
	}
	return nil
}

// Input is what a key is handed.
func (t *ToBeSigned) Input() []byte {
	if len(t.Digest) > 0 {
		return t.Digest
	}
	return t.Scheme.Input(t.Message)
}

// Verify checks a signature; the errors are those of [sigalg.Verify].
func (t *ToBeSigned) Verify(pub crypto.PublicKey, sig []byte) error {
	if err := t.Check(); err != nil {
		return err
	}
	if len(t.Digest) > 0 {
		return sigalg.VerifyDigest(pub, t.Scheme, t.Digest, sig)
	}
	return sigalg.Verify(pub, t.Scheme, t.Message, sig)
}

// Signature is one round's signature value, with its RFC 3161 token where there
// is one (DER).
type Signature struct {
	Value     []byte
	Timestamp []byte
}

// Trust is what a verifier believes.
type Trust struct {
	Roots          *x509.CertPool      // nil: no certificate is trusted
	TimestampRoots *x509.CertPool      // nil: timestamps are reported and not believed
	Keys           []crypto.PublicKey  // for signatures without certificates
	Intermediates  []*x509.Certificate // helpers for building chains; not trusted
	Now            time.Time           // the time to judge certificates at where no timestamp says otherwise
	Detached       []byte              // the detached signature, for formats that have one
}

// Report is what Inspect found, and what Verify found to be true.
type Report struct {
	Format     string          `json:"format"`
	Size       int64           `json:"size"`
	Facts      []Fact          `json:"facts,omitzero"`
	Signatures []SignatureInfo `json:"signatures"`
}

// SignatureInfo is one signature of a file.
type SignatureInfo struct {
	Index     int               `json:"index"`
	Label     string            `json:"label,omitzero"` // "primary", "nested 1"
	Scheme    sigalg.Scheme     `json:"scheme"`
	Digest    string            `json:"digest"`  // name of the content hash: "sha256"
	Content   Hex               `json:"content"` // digest of the content, as computed from the file (Verify) or as stated (Inspect)
	Value     Hex               `json:"value"`   // the signature value
	Signer    *x509.Certificate `json:"-"`
	Subject   string            `json:"subject,omitzero"`
	Issuer    string            `json:"issuer,omitzero"`
	Key       crypto.PublicKey  `json:"-"`
	Covers    []string          `json:"covers"`            // for people: what the signature covers
	Open      []string          `json:"open,omitzero"`     // for people: bytes that the format leaves open
	Facts     []Fact            `json:"facts,omitzero"`    // description, URL, …
	Time      time.Time         `json:"time,omitzero"`     // when it was signed, if a timestamp says so
	TimeFrom  string            `json:"timeFrom,omitzero"` // subject of the timestamp's signer
	Timestamp []byte            `json:"-"`
}

// Patch is the change that signing makes: edits of the file, or a file beside it.
// Exactly one of Edits and Sidecar is set.
type Patch struct {
	Size    int64  // of the artifact that was signed; another size is refused
	Edits   []Edit // in order of Offset, not overlapping: see Check
	Sidecar *Sidecar
}

// Edit replaces Delete bytes at Offset by Insert.
type Edit struct {
	Offset int64
	Delete int64
	Insert []byte
}

// Sidecar is a detached signature: it stands beside the file, as NAME+Suffix.
type Sidecar struct {
	Suffix string // ".p7s"
	Data   []byte
}

// Fact is something read from a file's bytes: "version" = "1.2.3".
type Fact struct {
	Name  string `json:"name" cbor:"1,keyasint"`
	Value string `json:"value" cbor:"2,keyasint"`
}

// Check refuses options that f does not declare and values that it does not
// allow, and returns the parameters with the defaults filled in.
func (p Params) Check(f Format) (Params, error) {
	out := Params{}
	for _, o := range f.Options() {
		v, given := p[o.Name]
		if !given {
			v = o.Default
		}
		if given && len(o.Values) > 0 {
			ok := false
			for _, w := range o.Values {
				ok = ok || v == w
			}
			if !ok {
				return nil, fmt.Errorf("format: %s: option %s=%q: want one of %v", f.Name(), o.Name, v, o.Values)
			}
		}
		out[o.Name] = v
	}
	for n := range p {
		if _, ok := out[n]; !ok {
			return nil, fmt.Errorf("format: %s has no option %q", f.Name(), n)
		}
	}
	return out, nil
}

// Hex is bytes that JSON shows in hexadecimal.
type Hex []byte

// MarshalText is lower-case hexadecimal.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText is the inverse of MarshalText.
func (h *Hex) UnmarshalText(b []byte) (err error) {
	*h, err = hex.AppendDecode(nil, b)
	return err
}
