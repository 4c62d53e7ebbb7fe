package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Kind says what happened.
type Kind string

// The kinds of entry.
const (
	KindCharter     Kind = "charter"     // a charter came into force
	KindRequest     Kind = "request"     // a request was accepted
	KindEndorsement Kind = "endorsement" // an endorsement or a disapproval was accepted
	KindReceipt     Kind = "receipt"     // the keeper executed a command, or refused it
	KindRejection   Kind = "rejection"   // a request or endorsement that the server refused
	KindCancel      Kind = "cancel"      // a request was withdrawn
	KindExpire      Kind = "expire"      // a request ran out of time
)

// Kinds lists every kind.
func Kinds() []Kind {
	return []Kind{KindCharter, KindRequest, KindEndorsement, KindReceipt, KindRejection, KindCancel, KindExpire}
}

const (
	// MaxEntry is the size in bytes of the largest encoded entry: what the two
	// bytes of length in a bundle can say.
	MaxEntry = 1<<16 - 1
	// MaxInline is the size in bytes of the largest body inside an entry. A
	// larger one is kept beside the log. The rule is about the body alone, so
	// that each body has one form.
	MaxInline = MaxEntry - 255
	// MaxBody is the size in bytes of the largest body at all.
	MaxBody = 1 << 28

	entryVersion = 1
	maxTime      = 253402300799999 // the last millisecond of year 9999
)

// Entry is one event. It is encoded as a deterministic CBOR map:
//
//	1  version, 1
//	2  kind, text
//	3  time, milliseconds since 1970 UTC, unsigned: the server's word
//	4  digest of the request, 32 bytes; no bytes when there is none
//	5  body, bytes: the envelope's JSON, or small JSON
//	6  SHA-256 of the body     \ in the place of 5 if the body is
//	7  size of the body, bytes / larger than MaxInline
//
// A later version may add keys; a decoder refuses every version and key that it
// does not know.
type Entry struct {
	Kind    Kind
	Time    time.Time // UTC, whole milliseconds
	Request [32]byte  // zero when the event belongs to no request

	inline []byte
	sum    [32]byte // of a detached body
	size   int64    // of a detached body; 0 when inline
}

// NewEntry makes the entry of an event. A body above [MaxInline] is replaced by
// its hash and size; the caller stores it beside the log ([Entry.Detached]).
// What cannot be an entry is refused by [Entry.Encode].
func NewEntry(kind Kind, at time.Time, request [32]byte, body []byte) Entry {
	e := Entry{Kind: kind, Time: at.UTC().Truncate(time.Millisecond), Request: request}
	if len(body) > MaxInline {
		e.sum, e.size = sha256.Sum256(body), int64(len(body))
	} else {
		e.inline = bytes.Clone(body)
	}
	return e
}

// Detached gives the hash and the size of a body that is kept beside the log;
// ok is false when the body is in the entry.
func (e Entry) Detached() (sum [32]byte, size int64, ok bool) { return e.sum, e.size, e.size > 0 }

// Body is the body: that of the entry, or what lookup finds, checked. A nil
// lookup finds nothing ([ErrDetached]).
func (e Entry) Body(lookup func(sum [32]byte, size int64) ([]byte, error)) ([]byte, error) {
	if e.size == 0 {
		return bytes.Clone(e.inline), nil
	}
	if lookup == nil {
		return nil, fmt.Errorf("audit: entry: %w", ErrDetached)
	}
	body, err := lookup(e.sum, e.size)
	if err != nil {
		return nil, fmt.Errorf("audit: entry: %w: %w", ErrDetached, err)
	}
	if int64(len(body)) != e.size || sha256.Sum256(body) != e.sum {
		return nil, fmt.Errorf("audit: entry: body beside the log: %w", ErrInconsistent)
	}
	return body, nil
}

// The two forms of an entry, and their union for decoding.
type (
	wireInline struct {
		Version uint64 `cbor:"1,keyasint"`
		Kind    string `cbor:"2,keyasint"`
		Time    uint64 `cbor:"3,keyasint"`
		Request []byte `cbor:"4,keyasint"`
		Body    []byte `cbor:"5,keyasint"`
	}
	wireDetached struct {
		Version uint64 `cbor:"1,keyasint"`
		Kind    string `cbor:"2,keyasint"`
		Time    uint64 `cbor:"3,keyasint"`
		Request []byte `cbor:"4,keyasint"`
		Sum     []byte `cbor:"6,keyasint"`
		Size    uint64 `cbor:"7,keyasint"`
	}
	wireAny struct {
		Version uint64 `cbor:"1,keyasint"`
		Kind    string `cbor:"2,keyasint"`
		Time    uint64 `cbor:"3,keyasint"`
		Request []byte `cbor:"4,keyasint"`
		Body    []byte `cbor:"5,keyasint"`
		Sum     []byte `cbor:"6,keyasint"`
		Size    uint64 `cbor:"7,keyasint"`
	}
)

// Both modes are constants in all but syntax.
var (
	entryEncoding = must(func() (cbor.EncMode, error) {
		o := cbor.CoreDetEncOptions()
		o.NilContainers = cbor.NilContainerAsEmpty
		return o.EncMode()
	}())
	entryDecoding = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxMapPairs:       16,
		MaxArrayElements:  16,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// check holds what an entry must be to have an encoding.
func (e Entry) check() error {
	ms := e.Time.UnixMilli()
	switch {
	case !slices.Contains(Kinds(), e.Kind):
		return fmt.Errorf("audit: entry: kind %.32q: %w", e.Kind, ErrMalformed)
	case ms < 0 || ms > maxTime || !e.Time.Equal(time.UnixMilli(ms)):
		return fmt.Errorf("audit: entry: time: %w", ErrMalformed)
	case e.size == 0 && len(e.inline) > MaxInline:
		return fmt.Errorf("audit: entry: body: %w", ErrLimit)
	case e.size != 0 && e.size <= MaxInline:
		return fmt.Errorf("audit: entry: small body beside the log: %w", ErrMalformed)
	case e.size > MaxBody:
		return fmt.Errorf("audit: entry: body: %w", ErrLimit)
	}
	return nil
}

// Encode is the entry's only encoding.
func (e Entry) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	var request []byte
	if e.Request != ([32]byte{}) {
		request = e.Request[:]
	}
	var wire any
	if ms := uint64(e.Time.UnixMilli()); e.size > 0 {
		wire = wireDetached{entryVersion, string(e.Kind), ms, request, e.sum[:], uint64(e.size)}
	} else {
		wire = wireInline{entryVersion, string(e.Kind), ms, request, e.inline}
	}
	out, err := entryEncoding.Marshal(wire)
	if err != nil {
		return nil, fmt.Errorf("audit: entry: %w", err)
	}
	if len(out) > MaxEntry {
		return nil, fmt.Errorf("audit: entry: %w", ErrLimit)
	}
	return out, nil
}

// DecodeEntry reads one entry. It accepts exactly what [Entry.Encode] makes.
func DecodeEntry(data []byte) (Entry, error) {
	if len(data) > MaxEntry {
		return Entry{}, fmt.Errorf("audit: entry: %w", ErrLimit)
	}
	var w wireAny
	if err := entryDecoding.Unmarshal(data, &w); err != nil {
		return Entry{}, fmt.Errorf("audit: entry: %w: %w", ErrMalformed, err)
	}
	if w.Version != entryVersion {
		return Entry{}, fmt.Errorf("audit: entry: version %d: %w", w.Version, ErrMalformed)
	}
	if w.Time > maxTime || w.Size > MaxBody {
		return Entry{}, fmt.Errorf("audit: entry: %w", ErrLimit)
	}
	e := Entry{Kind: Kind(w.Kind), Time: time.UnixMilli(int64(w.Time)).UTC(), inline: w.Body, size: int64(w.Size)}
	if copy(e.Request[:], w.Request); len(w.Request) > 32 {
		return Entry{}, fmt.Errorf("audit: entry: request digest: %w", ErrMalformed)
	}
	if copy(e.sum[:], w.Sum); len(w.Sum) > 32 {
		return Entry{}, fmt.Errorf("audit: entry: body digest: %w", ErrMalformed)
	}
	// The one comparison that settles all questions of form: short digests,
	// null, both forms at once, long integers, order of keys.
	again, err := e.Encode()
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, data) {
		return Entry{}, fmt.Errorf("audit: entry: not in its only form: %w", ErrMalformed)
	}
	return e, nil
}
