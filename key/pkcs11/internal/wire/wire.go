// Package wire is what a PKCS #11 parent and its child process say to each
// other: frames of a length (4 bytes, big-endian) and one message in
// deterministic CBOR (RFC 8949 section 4.2).
//
// The child speaks first: a [Response] with ID 0 that carries a [Hello], or says
// why the module cannot be used. Then the parent sends [Request]s, as many as it
// wants without waiting, and each is answered by one Response with its ID, in
// any order.
//
// Invariants:
//
//  1. A frame has at most [MaxFrame] bytes; a longer one is refused before it is
//     read.
//  2. A message that is accepted encodes to the very bytes that were received.
//  3. Frames are zeroed once they are written: they may hold a PIN.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// Version of the protocol. Parent and child are of one build; this finds out
// when they are not.
const Version = 1

// Limits, in bytes.
const (
	MaxInput = 1 << 20 // of Request.Input
	MaxFrame = MaxInput + 1<<12
	MaxText  = 1 << 10 // of Response.Text
)

// ErrFrame is returned for what is no message.
var ErrFrame = errors.New("wire: malformed frame")

// Op is what the child is asked to do.
type Op uint8

// The requests, and which members of Request they use.
const (
	OpPing     Op = iota + 1 // nothing: answered without asking the module
	OpToken                  // Selector: find one token
	OpLogin                  // Slot, Serial, PIN, Sessions
	OpHealth                 // Slot, Serial: is the token there, and logged in
	OpFind                   // Slot, Serial, Object, ObjectID
	OpInspect                // as OpFind, for a key that need not be fit for use
	OpSign                   // Key, Scheme, Input
	OpGenerate               // Slot, Serial, Object, ObjectID, Algorithm
	OpDestroy                // Slot, Serial, Object, ObjectID
)

// Code says how a request ended.
type Code uint8

// The codes.
const (
	CodeOK          Code = iota
	CodeFailed           // anything else
	CodeUnavailable      // token or session gone, worth a retry
	CodeLogin            // log in to the token, then ask again
	CodePIN              // the token refused the PIN, or would be locked by another wrong one
	CodeNotFound         // no such object
	CodeExists           // label or ID is taken
	CodeAmbiguous        // more than one token or object matches
	CodeUnfit            // the key is there but must not be used: extractable, say
	CodeStale            // Key means nothing to this child: find it again
	CodeChanged          // another key is there under the name
)

// Selector picks a token; empty members pick any.
type Selector struct {
	Label        string `cbor:"1,keyasint,omitempty"`
	Serial       string `cbor:"2,keyasint,omitempty"`
	Manufacturer string `cbor:"3,keyasint,omitempty"`
	Model        string `cbor:"4,keyasint,omitempty"`
	HasSlot      bool   `cbor:"5,keyasint,omitempty"`
	Slot         uint64 `cbor:"6,keyasint,omitempty"`
}

// Request is a frame to the child.
type Request struct {
	ID        uint64   `cbor:"1,keyasint"` // not 0, not used before
	Op        Op       `cbor:"2,keyasint"`
	Selector  Selector `cbor:"3,keyasint,omitempty"`
	Slot      uint64   `cbor:"4,keyasint,omitempty"`
	Serial    string   `cbor:"5,keyasint,omitempty"` // of the token that is expected in Slot
	PIN       []byte   `cbor:"6,keyasint,omitempty"`
	Sessions  uint8    `cbor:"7,keyasint,omitempty"`
	Object    string   `cbor:"8,keyasint,omitempty"` // CKA_LABEL
	ObjectID  []byte   `cbor:"9,keyasint,omitempty"` // CKA_ID
	Key       uint64   `cbor:"10,keyasint,omitempty"`
	Scheme    string   `cbor:"11,keyasint,omitempty"` // sigalg.Scheme
	Input     []byte   `cbor:"12,keyasint,omitempty"`
	Algorithm string   `cbor:"13,keyasint,omitempty"` // sigalg.Key
}

// Hello describes the module.
type Hello struct {
	Version      int    `cbor:"1,keyasint"`
	Manufacturer string `cbor:"2,keyasint,omitempty"`
	Description  string `cbor:"3,keyasint,omitempty"`
}

// Token is a token as it describes itself.
type Token struct {
	Slot         uint64 `cbor:"1,keyasint"`
	Label        string `cbor:"2,keyasint,omitempty"`
	Serial       string `cbor:"3,keyasint,omitempty"`
	Manufacturer string `cbor:"4,keyasint,omitempty"`
	Model        string `cbor:"5,keyasint,omitempty"`
}

// Key is a key pair on a token. The flags are those of the private key.
type Key struct {
	Handle             uint64 `cbor:"1,keyasint,omitempty"` // for Request.Key; 0 from OpInspect
	Public             []byte `cbor:"2,keyasint"`           // SubjectPublicKeyInfo, DER
	Label              string `cbor:"3,keyasint,omitempty"`
	ID                 []byte `cbor:"4,keyasint,omitempty"`
	Sensitive          bool   `cbor:"5,keyasint,omitempty"`
	AlwaysSensitive    bool   `cbor:"6,keyasint,omitempty"`
	Extractable        bool   `cbor:"7,keyasint,omitempty"`
	NeverExtractable   bool   `cbor:"8,keyasint,omitempty"`
	Local              bool   `cbor:"9,keyasint,omitempty"`
	Private            bool   `cbor:"10,keyasint,omitempty"`
	Sign               bool   `cbor:"11,keyasint,omitempty"`
	AlwaysAuthenticate bool   `cbor:"12,keyasint,omitempty"`
	Modifiable         bool   `cbor:"13,keyasint,omitempty"`
}

// Response is a frame from the child.
type Response struct {
	ID        uint64 `cbor:"1,keyasint"`
	Code      Code   `cbor:"2,keyasint,omitempty"`
	Text      string `cbor:"3,keyasint,omitempty"` // why, when Code is not CodeOK
	Hello     *Hello `cbor:"4,keyasint,omitempty"`
	Token     *Token `cbor:"5,keyasint,omitempty"`
	Key       *Key   `cbor:"6,keyasint,omitempty"`
	Signature []byte `cbor:"7,keyasint,omitempty"`
}

// Codec encodes and decodes messages. It is safe for concurrent use.
type Codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// NewCodec makes a Codec.
func NewCodec() (*Codec, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4, MaxMapPairs: 32, MaxArrayElements: 16,
	}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	return &Codec{enc, dec}, nil
}

// Frame is the frame of a *Request or *Response.
func (c *Codec) Frame(message any) ([]byte, error) {
	data, err := c.enc.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("wire: encode: %w", err)
	}
	defer clear(data)
	if len(data) > MaxFrame {
		return nil, fmt.Errorf("wire: message of %d bytes is too long", len(data))
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data)))
	return append(frame, data...), nil
}

// Read reads the next frame into message, a *Request or *Response. The error is
// io.EOF at the end of the stream between frames, and wraps [ErrFrame] for what
// is no message.
func (c *Codec) Read(r io.Reader, message any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: cut off", ErrFrame)
		}
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxFrame {
		return fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	data := make([]byte, n)
	defer clear(data)
	if _, err := io.ReadFull(r, data); err != nil {
		return fmt.Errorf("%w: cut off", ErrFrame)
	}
	if err := c.dec.Unmarshal(data, message); err != nil {
		return fmt.Errorf("%w: not a message", ErrFrame)
	}
	again, err := c.enc.Marshal(message)
	if err != nil {
		return fmt.Errorf("%w: not a message", ErrFrame)
	}
	defer clear(again)
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%w: not in its only encoding", ErrFrame)
	}
	return nil
}

// Writer writes frames from many goroutines: whatever waits when the stream is
// free goes out in one write, so that short messages do not cost a system call
// each.
type Writer struct {
	w     io.Writer
	mu    sync.Mutex
	wake  sync.Cond // waiting changed, or closed
	queue [][]byte
	done  bool
	err   error
}

// NewWriter makes a Writer; its Run must be called.
func NewWriter(w io.Writer) *Writer {
	q := &Writer{w: w}
	q.wake.L = &q.mu
	return q
}

// Send queues a frame, which it owns from then on. Whoever sends bounds how much
// waits.
func (q *Writer) Send(frame []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	if q.done {
		return io.ErrClosedPipe
	}
	q.queue = append(q.queue, frame)
	q.wake.Signal()
	return nil
}

// Close makes Run return when all that was sent is written.
func (q *Writer) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done = true
	q.wake.Signal()
}

// Run writes until Close is called or writing fails.
func (q *Writer) Run() error {
	var batch []byte
	for {
		q.mu.Lock()
		for len(q.queue) == 0 && !q.done {
			q.wake.Wait()
		}
		frames := q.queue
		q.queue = nil
		q.mu.Unlock()
		if len(frames) == 0 {
			return nil
		}
		total := 0
		for _, f := range frames {
			total += len(f)
		}
		if cap(batch) < total { // made anew, so that no residue stays where append moved it from
			batch = make([]byte, 0, total)
		}
		for _, f := range frames {
			batch = append(batch, f...)
			clear(f)
		}
		_, err := q.w.Write(batch)
		clear(batch)
		batch = batch[:0]
		if err != nil {
			q.mu.Lock()
			q.err = fmt.Errorf("wire: %w", err)
			q.queue = nil
			q.mu.Unlock()
			return q.err
		}
	}
}
