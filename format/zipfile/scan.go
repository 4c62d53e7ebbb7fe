package zipfile

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/greatseal-io/greatseal/format"
)

// Scan is what [Archive.Scan] does with what it reads. The zero value checks local
// headers and descriptors and inflates nothing.
type Scan struct {
	// Content says where the content of entry i goes, nil for contents that need
	// not be inflated. It is called by workers 0 to MaxWorkers-1, each in a
	// goroutine of its own: a worker has one content open at a time. Close is called
	// when the content was whole and right, and not otherwise.
	Content func(worker, i int) (io.WriteCloser, error)
	// Wanted says whether Content is to be called for entry i. nil: for all.
	Wanted func(i int) bool
	// Raw gets every byte of the file from its start to Archive.End, in order. It may
	// not keep b.
	Raw func(b []byte) error
}

// MaxWorkers is the largest number of goroutines that inflate at the same time.
const MaxWorkers = 16

const (
	blockSize = 256 << 10
	blocks    = 32       // of blockSize bytes, in flight at a time: how far large entries are read ahead
	batchSize = 64 << 10 // bytes of small entries that are handed over together
	queue     = 8        // jobs that wait for each worker: how far small entries are read ahead
)

// block is a piece of the file that several readers share.
type block struct {
	buf  []byte
	refs atomic.Int32
}

// piece is a part of a block, which it holds on to.
type piece struct {
	from *block
	b    []byte
}

type item struct {
	i int
	b []byte
}

// job is one batch of small entries from one block, or one large entry.
type job struct {
	from   *block
	items  []item
	i      int
	stream chan piece
}

type scan struct {
	z    *Archive
	o    Scan
	ctx  context.Context
	stop context.CancelCauseFunc
	free chan *block
	made int
	jobs chan job

	pos   int64 // of the file: where the next block starts
	cur   *block
	rest  []byte // of cur
	batch job
	bytes int // of batch
	head  []byte
}

// Scan reads the archive's entries once, in the order of the file, inflates the
// wanted contents on all cores and compares every local header, descriptor, size and
// checksum with the directory. It returns the first error that it meets.
func (z *Archive) Scan(ctx context.Context, o Scan) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	workers := min(runtime.GOMAXPROCS(0), MaxWorkers)
	s := &scan{z: z, o: o, ctx: ctx, stop: stop, free: make(chan *block, blocks), jobs: make(chan job, queue*workers)}
	var wg sync.WaitGroup
	if o.Content != nil {
		for w := range workers {
			wg.Go(func() { s.work(w) })
		}
	}
	err := s.read()
	if err != nil {
		stop(err)
	}
	close(s.jobs)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// read walks through the file.
func (s *scan) read() error {
	for i := range s.z.Order {
		if err := s.entry(i); err != nil {
			return err
		}
	}
	s.flush()
	return s.skip(s.z.End - s.at())
}

// at is the offset in the file of what is read next.
func (s *scan) at() int64 { return s.pos - int64(len(s.rest)) }

func (s *scan) entry(i int) error {
	e := &s.z.Entries[i]
	from, to := s.z.Span(i)
	if err := s.skip(from - s.at()); err != nil {
		return err
	}
	fixed, err := s.take(localSize)
	if err != nil {
		return err
	}
	if le.Uint32(fixed) != sigLocal {
		return malformed("%.80q has no local header", e.Name)
	}
	n := int(le.Uint16(fixed[26:])) + int(le.Uint16(fixed[28:]))
	if int64(localSize+n) > to-from-e.Compressed {
		return malformed("%.80q overlaps what follows it", e.Name)
	}
	s.head = append(s.head[:0], fixed...)
	more, err := s.take(n)
	if err != nil {
		return err
	}
	s.head = append(s.head, more...)
	if err := e.checkLocal(s.head); err != nil {
		return err
	}
	if s.o.Content != nil && (s.o.Wanted == nil || s.o.Wanted(i)) {
		err = s.data(i, e.Compressed)
	} else {
		err = s.skip(e.Compressed)
	}
	if err != nil {
		return err
	}
	left := to - s.at()
	after, err := s.take(int(min(left, maxDescriptor)))
	if err != nil {
		return err
	}
	return e.checkAfter(after, left > maxDescriptor, s.z.o.Gaps)
}

// data hands n bytes to the workers: with others of the block, or as a stream.
func (s *scan) data(i int, n int64) error {
	if n <= int64(len(s.rest)) && s.cur != nil {
		if s.batch.from == nil {
			s.batch.from = s.cur
			s.cur.refs.Add(1)
		}
		s.batch.items = append(s.batch.items, item{i, s.rest[:n]})
		s.rest = s.rest[n:]
		if s.bytes += int(n); s.bytes >= batchSize {
			s.flush()
		}
		return nil
	}
	s.flush()
	j := job{i: i, stream: make(chan piece, blocks+1)}
	defer close(j.stream)
	if err := s.send(j); err != nil {
		return err
	}
	for n > 0 {
		if err := s.fill(); err != nil {
			s.stop(err) // before the stream ends, which would look like a content cut off
			return err
		}
		b := s.rest[:min(n, int64(len(s.rest)))]
		s.cur.refs.Add(1)
		j.stream <- piece{s.cur, b} // never blocks: there are no more pieces than blocks
		s.rest, n = s.rest[len(b):], n-int64(len(b))
	}
	return nil
}

func (s *scan) send(j job) error {
	select {
	case s.jobs <- j:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// flush hands over the batch.
func (s *scan) flush() {
	if s.batch.from == nil {
		return
	}
	if s.send(s.batch) != nil {
		s.release(s.batch.from)
	}
	s.batch, s.bytes = job{}, 0
}

// fill makes sure that something is there to be read.
func (s *scan) fill() error {
	if len(s.rest) > 0 {
		return nil
	}
	s.flush() // its items are of the block before
	if s.cur != nil {
		s.release(s.cur)
		s.cur = nil
	}
	b, err := s.block()
	if err != nil {
		return err
	}
	s.cur = b
	b.refs.Store(1)
	b.buf = b.buf[:min(int64(cap(b.buf)), s.z.End-s.pos)]
	if len(b.buf) == 0 {
		return malformed("an entry goes on after the last one's end")
	}
	if err := format.ReadFull(s.z.a, b.buf, s.pos); err != nil {
		return fmt.Errorf("zipfile: %w", err)
	}
	s.pos += int64(len(b.buf))
	s.rest = b.buf
	if s.o.Raw != nil {
		return s.o.Raw(b.buf)
	}
	return nil
}

// block gets a block that nobody holds.
func (s *scan) block() (*block, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, context.Cause(s.ctx)
	}
	select {
	case b := <-s.free:
		return b, nil
	default:
	}
	if s.made < blocks {
		s.made++
		return &block{buf: make([]byte, min(blockSize, max(s.z.End-s.pos, 1)))}, nil
	}
	select {
	case b := <-s.free:
		return b, nil
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
}

func (s *scan) release(b *block) {
	if b.refs.Add(-1) == 0 {
		s.free <- b // has room for every block
	}
}

// take returns the next n bytes, which are good until the next call.
func (s *scan) take(n int) ([]byte, error) {
	if n <= len(s.rest) {
		b := s.rest[:n]
		s.rest = s.rest[n:]
		return b, nil
	}
	out := make([]byte, 0, n)
	for len(out) < n {
		if err := s.fill(); err != nil {
			return nil, err
		}
		b := s.rest[:min(n-len(out), len(s.rest))]
		out = append(out, b...)
		s.rest = s.rest[len(b):]
	}
	return out, nil
}

func (s *scan) skip(n int64) error {
	if n < 0 {
		return malformed("entries overlap")
	}
	for n > 0 {
		if err := s.fill(); err != nil {
			return err
		}
		k := min(n, int64(len(s.rest)))
		s.rest, n = s.rest[k:], n-k
	}
	return nil
}

// work inflates what the jobs hold, until there are no more or something failed.
func (s *scan) work(w int) {
	c := newContent()
	for j := range s.jobs {
		if s.ctx.Err() != nil {
			continue
		}
		if err := s.do(c, w, j); err != nil {
			s.stop(err)
		}
	}
}

func (s *scan) do(c *content, w int, j job) error {
	if j.stream != nil {
		r := &stream{s: s, ch: j.stream}
		defer r.close()
		return s.one(c, w, j.i, r)
	}
	defer s.release(j.from)
	var r bytes.Reader
	for _, it := range j.items {
		r.Reset(it.b)
		if err := s.one(c, w, it.i, &r); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) one(c *content, w, i int, r byteReader) error {
	out, err := s.o.Content(w, i)
	if err != nil {
		return err
	}
	if out == nil {
		_, err = io.Copy(io.Discard, r)
		return err
	}
	if err := c.copy(&s.z.Entries[i], r, out); err != nil {
		return err
	}
	return out.Close()
}

// stream reads the pieces of a large entry.
type stream struct {
	s   *scan
	ch  <-chan piece
	cur *block
	b   []byte
}

func (r *stream) next() error {
	r.close()
	select {
	case p, ok := <-r.ch:
		if !ok {
			return io.EOF
		}
		r.cur, r.b = p.from, p.b
		return nil
	case <-r.s.ctx.Done():
		return context.Cause(r.s.ctx)
	}
}

func (r *stream) close() {
	if r.cur != nil {
		r.s.release(r.cur)
		r.cur = nil
	}
}

func (r *stream) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

func (r *stream) ReadByte() (byte, error) {
	if len(r.b) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c, nil
}
