package format

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/merkle"
)

// Limits of what is decoded. They are far above what honest files need.
const (
	MaxPlan  = 16 << 20 // bytes of one encoded plan: page hashes of a 1 GiB image are 9 MiB
	MaxItem  = MaxPlan + 64<<10
	MaxFacts = 256
	MaxText  = 4096     // bytes of a name, a fact or a claim
	MaxParam = 64 << 10 // bytes of one option's value: an in-toto predicate is one
)

// Plan is what a signature over one file will cover.
type Plan struct {
	Format  string `cbor:"1,keyasint"`
	Version uint   `cbor:"2,keyasint"` // of Body's layout; a format keeps the code for all of its versions
	Digest  string `cbor:"3,keyasint"` // hash of the content: "sha256", "sha384", "sha512", "blake2b-512"
	Size    int64  `cbor:"4,keyasint"` // of the artifact, in bytes
	Content []byte `cbor:"5,keyasint"` // the digest by which the content is known: what its signature covers
	Params  []Fact `cbor:"6,keyasint"` // the options in force, by name
	Facts   []Fact `cbor:"7,keyasint"` // read from the bytes, in the format's order
	Body    []byte `cbor:"8,keyasint"` // the format's own deterministic CBOR
}

// Item is one file of a request: its plan, and what the requester says of it.
// Name and Claims are the requester's word; everything in Plan can be recomputed
// from the bytes.
type Item struct {
	Plan   []byte `cbor:"1,keyasint"` // Plan, encoded
	Name   string `cbor:"2,keyasint"` // path or name of the file, as the requester gives it
	Claims []Fact `cbor:"3,keyasint"` // sorted by name, no name twice
}

var (
	encMode = must(cbor.EncOptions{Sort: cbor.SortCoreDeterministic, IndefLength: cbor.IndefLengthForbidden, NilContainers: cbor.NilContainerAsEmpty}.UserBufferEncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, UTF8: cbor.UTF8RejectInvalid, MaxNestedLevels: 16,
		MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 16, IntDec: cbor.IntDecConvertNone,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ErrEncoding is wrapped by errors about bytes that are not in the one accepted
// encoding.
var ErrEncoding = errors.New("not in canonical encoding")

// Encode writes v, a struct with integer keys, as deterministic CBOR (RFC 8949
// section 4.2.1). Formats use it for Plan.Body.
func Encode(v any) ([]byte, error) { return encMode.Marshal(v) }

// Decode reads what Encode wrote into v and refuses any other encoding of it:
// unknown fields, fields left out, other key orders, longer integers, trailing
// bytes.
func Decode(b []byte, v any) error {
	if err := decMode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("format: %w", err)
	}
	var again bytes.Buffer // of the right size from the beginning: plans have megabytes
	again.Grow(len(b))
	if err := encMode.MarshalToBuffer(v, &again); err != nil {
		return fmt.Errorf("format: %w", err)
	}
	if !bytes.Equal(again.Bytes(), b) {
		return fmt.Errorf("format: %w", ErrEncoding)
	}
	return nil
}

// HashByName returns the content hash that plans call by this name.
func HashByName(n string) (crypto.Hash, error) {
	switch n {
	case "sha256":
		return crypto.SHA256, nil
	case "sha384":
		return crypto.SHA384, nil
	case "sha512":
		return crypto.SHA512, nil
	case "blake2b-512": // minisign; its format links the hash
		return crypto.BLAKE2b_512, nil
	}
	return 0, fmt.Errorf("format: hash %q: want sha256, sha384, sha512 or blake2b-512", n)
}

// HashName is the inverse of HashByName; it is empty for hashes that no plan uses.
func HashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA256:
		return "sha256"
	case crypto.SHA384:
		return "sha384"
	case crypto.SHA512:
		return "sha512"
	case crypto.BLAKE2b_512:
		return "blake2b-512"
	}
	return ""
}

// Check refuses a plan that no format may have made.
func (p *Plan) Check() error {
	h, err := HashByName(p.Digest)
	switch {
	case err != nil:
		return err
	case p.Format == "" || len(p.Format) > 64:
		return errors.New("format: plan without a format")
	case p.Size < 0:
		return errors.New("format: plan of negative size")
	case len(p.Content) != h.Size():
		return fmt.Errorf("format: plan's content digest has %d bytes: %s has %d", len(p.Content), p.Digest, h.Size())
	}
	if err := checkFacts(p.Facts, false, MaxText); err != nil {
		return err
	}
	return checkFacts(p.Params, true, MaxParam)
}

func checkFacts(fs []Fact, sorted bool, limit int) error {
	if len(fs) > MaxFacts {
		return fmt.Errorf("format: %d facts: at most %d", len(fs), MaxFacts)
	}
	for i, f := range fs {
		if !oneLine(f.Name, false) || !oneLine(f.Value, limit == MaxParam) {
			return fmt.Errorf("format: fact %d holds a line end, a control character or one that changes the direction of text", i)
		}
		if f.Name == "" || len(f.Name) > MaxText || len(f.Value) > limit || !utf8.ValidString(f.Name) || !utf8.ValidString(f.Value) {
			return fmt.Errorf("format: fact %d: a name of 1 and a value of 0 to %d bytes of UTF-8 are wanted", i, limit)
		}
		if sorted && i > 0 && fs[i-1].Name >= f.Name {
			return fmt.Errorf("format: %q is out of order or stands twice", f.Name)
		}
	}
	return nil
}

// oneLine refuses what would let a text pass for more than one, or for another one,
// wherever it is shown: control characters, line ends and those that turn the
// direction of what follows. Options may be JSON in its canonical form, which
// escapes only the first 32 characters.
func oneLine(s string, option bool) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		if option {
			return r < ' ' || r == 0x7f
		}
		return Turns(r)
	})
}

// Turns reports a character that lets a text pass for more than one, or for another one,
// where it is shown: control characters, line ends, and those that change the direction
// of text.
func Turns(r rune) bool {
	return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || unicode.Is(unicode.Bidi_Control, r)
}

// Param returns the value of an option, or "".
func (p *Plan) Param(name string) string {
	for _, f := range p.Params {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Encode is the plan's one encoding.
func (p *Plan) Encode() ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	b, err := Encode(p)
	if err == nil && len(b) > MaxPlan {
		err = fmt.Errorf("format: plan of %d bytes: at most %d", len(b), MaxPlan)
	}
	return b, err
}

// DecodePlan reads a plan strictly. It does not know what Body means: the
// format's Assemble judges that.
func DecodePlan(b []byte) (*Plan, error) {
	if len(b) > MaxPlan {
		return nil, fmt.Errorf("format: plan of %d bytes: at most %d", len(b), MaxPlan)
	}
	var p Plan
	if err := Decode(b, &p); err != nil {
		return nil, err
	}
	return &p, p.Check()
}

// Encode is the item's one encoding; its leaf in the request's tree hashes it.
func (it *Item) Encode() ([]byte, error) {
	if err := it.check(); err != nil {
		return nil, err
	}
	return Encode(it)
}

func (it *Item) check() error {
	if it.Name == "" || len(it.Name) > MaxText || !utf8.ValidString(it.Name) {
		return fmt.Errorf("format: an item's name is 1 to %d bytes of UTF-8", MaxText)
	}
	if !oneLine(it.Name, false) {
		return errors.New("format: an item's name holds a line end, a control character or one that changes the direction of text")
	}
	return checkFacts(it.Claims, true, MaxText)
}

// DecodeItem reads an item strictly, its plan included.
func DecodeItem(b []byte) (*Item, *Plan, error) {
	if len(b) > MaxItem {
		return nil, nil, fmt.Errorf("format: item of %d bytes: at most %d", len(b), MaxItem)
	}
	var it Item
	if err := Decode(b, &it); err != nil {
		return nil, nil, err
	}
	if err := it.check(); err != nil {
		return nil, nil, err
	}
	p, err := DecodePlan(it.Plan)
	return &it, p, err
}

// Leaf is the leaf of an encoded item in the tree that a request endorses.
func Leaf(item []byte) merkle.Hash { return merkle.Leaf(merkle.Items, item) }

// ItemsRoot is the root over encoded items: what a request to sign is about.
func ItemsRoot(items [][]byte) (merkle.Hash, error) {
	leaves := make([]merkle.Hash, len(items))
	for i, it := range items {
		leaves[i] = Leaf(it)
	}
	return merkle.Root(merkle.Items, leaves)
}
