// Package ledger is the keeper's memory: one append-only file in which every
// record is chained to the one before and durable before its writer goes on.
//
// # File
//
//	magic    "greatseal-ledger-1\n\x00"                 20 bytes
//	id       random                                     16 bytes
//	seal     SHA-256(magic || id)                       32 bytes
//	records
//
// and a record is
//
//	length   of the body, big-endian                     4 bytes
//	type                                                 1 byte
//	check    CRC-32C of previous seal, length and type   4 bytes
//	body
//	seal     SHA-256(previous seal || length || type || body)   32 bytes
//
// The seal of a record's predecessor stands directly before it, so that any
// record can be checked where it is read.
//
// # Invariants
//
//  1. Append returns without an error only after its records, and all before
//     them, have been written and synced.
//  2. A file that ends inside a record was cut by a crash: the rest is removed
//     when the file is opened, for nobody was told of it. Any other difference
//     from what was written is [ErrCorrupt] with its offset, and nothing is
//     removed.
//  3. After a failed sync nothing is appended until the file is opened again.
//     After a failed write the file is cut back to its last durable length;
//     where that works appending may be tried again, else not.
//  4. One process at a time holds the file.
//  5. Records are committed in the order in which they were built, and their
//     done functions run in that order.
//
// What a caller may not conclude: that the ledger is the newest. Somebody who can
// write the file can put an older one in its place; only what others hold of it
// shows that.
package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	magic      = "greatseal-ledger-1\n\x00"
	idSize     = 16
	sealSize   = sha256.Size
	headerSize = len(magic) + idSize + sealSize
	prefixSize = 4 + 1 + 4

	// MaxBody is the largest body of a record, in bytes.
	MaxBody = 256 << 20
	// maxBatch bounds what one sync makes durable, so that the first of many
	// waits for a bounded amount of writing.
	maxBatch = 16 << 20

	// Where there are crowd writers or more, a quarter of them are waited for before
	// a batch is written, for patience at the most: a sync costs as much as many
	// records. A writer with less company is not held up.
	crowd    = 8
	patience = 15 * time.Millisecond
)

// What callers branch on.
var (
	ErrCorrupt = errors.New("ledger: not what was written") // with the offset; the file is left as it is
	ErrLocked  = errors.New("ledger: another process holds it")
	ErrStopped = errors.New("ledger: stopped after a failed write") // open it again
	ErrWrite   = errors.New("ledger: not written")                  // disk full or faulty; nothing was appended
	ErrClosed  = errors.New("ledger: closed")
)

// Type says what a record is; the types are the caller's.
type Type uint8

// Record is one record.
type Record struct {
	Type Type
	Body []byte
}

// File is what a ledger needs of a file. Size is its length in bytes; Sync
// makes everything durable that was written or cut before.
type File interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// Options of Open.
type Options struct {
	// Replay is called for each record, oldest first. Its error ends Open.
	Replay func(offset int64, r Record) error
	// Begin is called before the records of a batch are built: what was built
	// and not committed before is void.
	Begin func()
	// Company is how many writers there are, those who wait for a batch among them.
	// When they are many, a batch waits for more of them; default: never.
	Company func() int
	// Hook is called before each step of a commit, for tests that stop there:
	// "ledger.write", "ledger.sync", "ledger.commit".
	Hook   func(step string)
	Logger *slog.Logger // default: none
}

// Ledger is an open ledger. It is safe for concurrent use.
type Ledger struct {
	f   File
	o   Options
	log *slog.Logger
	id  [idSize]byte

	mu      sync.Mutex // guards what follows
	wake    *sync.Cond
	queue   []*entry
	closed  bool
	stopped error // why nothing is appended any more

	done chan struct{} // closed when the committer has ended

	// The committer's own, except that size is read under mu.
	size int64
	seal [sealSize]byte
	buf  []byte
}

type entry struct {
	build  func() ([]Record, error)
	commit func(offsets []int64)
	result chan result
	// set while the batch is written
	offsets []int64
}

type result struct {
	offsets []int64
	err     error
}

// Create writes an empty ledger to f, which must be empty.
func Create(f File, rand io.Reader) error {
	n, err := f.Size()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if n != 0 {
		return errors.New("ledger: file is not empty")
	}
	h := make([]byte, headerSize)
	copy(h, magic)
	if _, err := io.ReadFull(rand, h[len(magic):len(magic)+idSize]); err != nil {
		return fmt.Errorf("ledger: random id: %w", err)
	}
	s := sha256.Sum256(h[:len(magic)+idSize])
	copy(h[len(magic)+idSize:], s[:])
	if _, err := f.WriteAt(h, 0); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return nil
}

// Open reads the ledger in f from end to end, and takes f over; after an error
// the caller still closes it.
func Open(f File, o Options) (*Ledger, error) {
	l := &Ledger{f: f, o: o, log: o.Logger, done: make(chan struct{})}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.o.Hook == nil {
		l.o.Hook = func(string) {}
	}
	l.wake = sync.NewCond(&l.mu)
	if err := l.replay(); err != nil {
		return nil, err
	}
	go l.commit()
	return l, nil
}

// ID is the ledger's random name.
func (l *Ledger) ID() [idSize]byte { return l.id }

// Size is the durable length in bytes.
func (l *Ledger) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Err says why nothing can be appended, or nil.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// Append appends records, next to one another, and returns their offsets when
// they are durable. When ctx ends first the records may or may not be appended.
func (l *Ledger) Append(ctx context.Context, recs ...Record) ([]int64, error) {
	return l.AppendFunc(ctx, func() ([]Record, error) { return recs, nil }, nil)
}

// AppendFunc is Append for records that depend on their predecessors. build is
// called in the order of the ledger; what it builds stands directly after what
// was built before. commit is called in that order too, once the records are
// durable. Both are called by one goroutine and must be quick. An error of build
// is returned and appends nothing.
func (l *Ledger) AppendFunc(ctx context.Context, build func() ([]Record, error), commit func(offsets []int64)) ([]int64, error) {
	e := &entry{build: build, commit: commit, result: make(chan result, 1)}
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return nil, ErrClosed
	case l.stopped != nil:
		defer l.mu.Unlock()
		return nil, l.stopped
	}
	l.queue = append(l.queue, e)
	l.wake.Signal()
	l.mu.Unlock()
	select {
	case r := <-e.result:
		return r.offsets, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Read returns the record at offset, checked against its seal.
func (l *Ledger) Read(offset int64) (Record, error) {
	if offset < int64(headerSize) || offset > l.Size()-prefixSize-sealSize {
		return Record{}, fmt.Errorf("ledger: no record at offset %d", offset)
	}
	var head [sealSize + prefixSize]byte
	if _, err := l.f.ReadAt(head[:], offset-sealSize); err != nil {
		return Record{}, fmt.Errorf("ledger: offset %d: %w", offset, err)
	}
	n, t, ok := parsePrefix(head[:sealSize], head[sealSize:])
	if !ok || n > l.Size()-offset-prefixSize-sealSize {
		return Record{}, corrupt(offset)
	}
	body := make([]byte, n+sealSize)
	if _, err := l.f.ReadAt(body, offset+prefixSize); err != nil {
		return Record{}, fmt.Errorf("ledger: offset %d: %w", offset, err)
	}
	s := sealOf(head[:sealSize], head[sealSize:], body[:n])
	if string(body[n:]) != string(s[:]) {
		return Record{}, corrupt(offset)
	}
	return Record{t, body[:n:n]}, nil
}

// Close waits for what is being appended, refuses the rest and closes the file.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.wake.Signal()
	l.mu.Unlock()
	<-l.done
	return l.f.Close()
}

func corrupt(offset int64) error { return fmt.Errorf("%w: offset %d", ErrCorrupt, offset) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // read only

func prefixCheck(seal, prefix []byte) uint32 {
	return crc32.Update(crc32.Checksum(seal, castagnoli), castagnoli, prefix[:5])
}

func parsePrefix(seal, prefix []byte) (n int64, t Type, ok bool) {
	n = int64(binary.BigEndian.Uint32(prefix))
	ok = n <= MaxBody && binary.BigEndian.Uint32(prefix[5:]) == prefixCheck(seal, prefix)
	return n, Type(prefix[4]), ok
}

func sealOf(seal, prefix, body []byte) [sealSize]byte {
	h := sha256.New()
	h.Write(seal)
	h.Write(prefix[:5])
	h.Write(body)
	return [sealSize]byte(h.Sum(nil))
}

// appendRecord appends r to b, chained to seal, and returns the new seal.
func appendRecord(b []byte, seal [sealSize]byte, r Record) ([]byte, [sealSize]byte) {
	var p [prefixSize]byte
	binary.BigEndian.PutUint32(p[:], uint32(len(r.Body)))
	p[4] = byte(r.Type)
	binary.BigEndian.PutUint32(p[5:], prefixCheck(seal[:], p[:]))
	s := sealOf(seal[:], p[:], r.Body)
	b = append(b, p[:]...)
	b = append(b, r.Body...)
	return append(b, s[:]...), s
}
