// Package wire is the protocol in which a keeper is spoken to: over a Unix
// socket, over mutual TLS 1.3, or within one process, with the same bytes and
// through the same handler.
//
// # Protocol, versions 1 and 2
//
// A frame is
//
//	length   of head and body and the two bytes between, big-endian   4 bytes
//	head     its length, big-endian                                  2 bytes
//	head     deterministic CBOR, see head
//	body     deterministic CBOR, or bytes as they are
//
// The client's first frame is a hello with the versions that it speaks, the
// server's answer a hello with the one chosen: the highest that both speak.
// Version 2 has the method "consider", version 1 is all but that; a client that
// gets version 1 does without. Then the client sends calls, each
// with an id that it has not used before, as many at a time as it likes; the
// server answers each once, in any order. A cancel names a call whose answer is
// not awaited any more.
//
// Invariants:
//
//  1. Nothing but a hello is read from a connection whose peer is not
//     allowed or that has not said hello; such a peer is hung up on.
//  2. A head or body that is not in its one encoding ends the connection or the
//     call. A declared length allocates nothing before the bytes arrive.
//  3. Every frame has a deadline, from its first byte to its last; connections,
//     calls and bytes in flight are bounded.
//  4. A call whose connection is lost ends in [keeper.ErrUnavailable]: nothing is
//     known of its outcome, and asking again is safe.
//
// What a caller may not conclude: that a peer which may speak to the keeper may
// command it. That is for the evidence alone.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of the protocol.
const (
	MaxBody = 272 << 20 // bytes of one body: an order of the largest size and its frame
	maxHead = 4 << 10
	maxText = 2 << 10 // bytes of an error's text
	chunk   = 64 << 10
)

const protocol = "greatseal keeper"

// The versions of the protocol.
const (
	version1 = 1
	version2 = 2 // consider
)

// versions are those that this package speaks.
func versions() []uint64 { return []uint64{version1, version2} }

// choose is the highest version that both sides speak, or 0.
func choose(theirs []uint64) uint64 {
	for _, v := range []uint64{version2, version1} {
		if slices.Contains(theirs, v) {
			return v
		}
	}
	return 0
}

type kind uint8

const (
	kindHello kind = iota + 1
	kindCall
	kindAnswer
	kindCancel
)

// head is what stands before a body. Fields that do not belong to the kind are
// zero.
type head struct {
	Kind     kind     `cbor:"1,keyasint"`
	ID       uint64   `cbor:"2,keyasint"` // of a call, its answer and its cancel
	Method   string   `cbor:"3,keyasint"` // of a call
	Code     string   `cbor:"4,keyasint"` // of an answer: empty when it went well
	Text     string   `cbor:"5,keyasint"` // of an answer: the error for people
	Protocol string   `cbor:"6,keyasint"` // of a hello
	Versions []uint64 `cbor:"7,keyasint"` // of a hello
}

var (
	errFrame = errors.New("wire: malformed frame")
	errIdle  = errors.New("wire: nothing came")
	errHello = errors.New("wire: peer does not speak this protocol")
)

// deadline is how long a frame of n bytes may take: ten seconds, and what a
// megabyte a second needs.
func deadline(n int64) time.Duration {
	return 10*time.Second + time.Duration(n>>20)*time.Second
}

// stream reads and writes frames.
type stream struct {
	c net.Conn
	r *bufio.Reader
}

func newStream(c net.Conn) *stream { return &stream{c, bufio.NewReaderSize(c, chunk)} }

// read reads one frame whose body has at most max bytes. It waits for the first
// byte as long as idle, and for the rest as long as deadline says. reserve is
// called with the frame's length before the frame is read.
func (s *stream) read(idle time.Duration, max int64, reserve func(n int64) error) (head, []byte, error) {
	var h head
	if err := s.c.SetReadDeadline(time.Now().Add(idle)); err != nil {
		return h, nil, err
	}
	if _, err := s.r.Peek(1); err != nil {
		var t net.Error
		if errors.As(err, &t) && t.Timeout() {
			err = errIdle
		}
		return h, nil, err
	}
	if err := s.c.SetReadDeadline(time.Now().Add(deadline(0))); err != nil {
		return h, nil, err
	}
	var p [6]byte
	if _, err := io.ReadFull(s.r, p[:]); err != nil {
		return h, nil, err
	}
	total, hn := int64(binary.BigEndian.Uint32(p[:])), int64(binary.BigEndian.Uint16(p[4:]))
	bn := total - 2 - hn
	if hn == 0 || hn > maxHead || bn < 0 || bn > max {
		return h, nil, fmt.Errorf("%w: head of %d, body of %d bytes", errFrame, hn, bn)
	}
	if reserve != nil {
		if err := reserve(total); err != nil {
			return h, nil, err
		}
	}
	if err := s.c.SetReadDeadline(time.Now().Add(deadline(bn))); err != nil {
		return h, nil, err
	}
	hb := make([]byte, hn)
	if _, err := io.ReadFull(s.r, hb); err != nil {
		return h, nil, err
	}
	if err := format.Decode(hb, &h); err != nil {
		return h, nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	body, err := readBody(s.r, bn)
	return h, body, err
}

// readBody reads n bytes and allocates as they come.
func readBody(r io.Reader, n int64) ([]byte, error) {
	b := make([]byte, 0, min(n, chunk))
	for int64(len(b)) < n {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(n, 2*int64(cap(b))))
			copy(grown, b)
			b = grown
		}
		m, err := io.ReadFull(r, b[len(b):cap(b)])
		b = b[:len(b)+m]
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// write writes one frame. The caller holds the lock of writers.
func (s *stream) write(h head, body []byte) error {
	p, err := appendHead(make([]byte, 0, 256), h, len(body))
	if err != nil {
		return err
	}
	if err := s.c.SetWriteDeadline(time.Now().Add(deadline(int64(len(body))))); err != nil {
		return err
	}
	bufs := net.Buffers{p, body}
	_, err = bufs.WriteTo(s.c)
	return err
}

func appendHead(b []byte, h head, body int) ([]byte, error) {
	hb, err := format.Encode(h)
	if err != nil {
		return nil, err
	}
	if len(hb) > maxHead || body > MaxBody {
		return nil, fmt.Errorf("%w: head of %d, body of %d bytes", errFrame, len(hb), body)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(2+len(hb)+body))
	b = binary.BigEndian.AppendUint16(b, uint16(len(hb)))
	return append(b, hb...), nil
}
