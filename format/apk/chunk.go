package apk

import (
	"bytes"
	"crypto"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"runtime"
	"sync"
)

// chunkSize is the unit of digests: 1 MiB.
const chunkSize = 1 << 20

// section is one of the parts that digests are made over (entries, directory, end
// record), in chunks of 1 MiB. Where something is to be added to it that comes with a
// signature, the digest of its last chunk is unfinished.
type section struct {
	Size   int64  `cbor:"1,keyasint"` // bytes, without what is to be added
	Chunks []byte `cbor:"2,keyasint"` // digests of the finished chunks
	State  []byte `cbor:"3,keyasint"` // of the unfinished one's hash, over prefix and content; empty when all are finished
}

// chunkHash begins the digest of a chunk of n bytes.
func chunkHash(h crypto.Hash, n int64) hash.Hash {
	x := h.New()
	var p [5]byte
	p[0] = 0xa5
	le.PutUint32(p[1:], uint32(n))
	x.Write(p[:])
	return x
}

// finish adds what was left open and returns the digests of all chunks.
func (s *section) finish(h crypto.Hash, add []byte) ([]byte, error) {
	bad := func(why string) ([]byte, error) {
		return nil, fmt.Errorf("%w: section of %d bytes: %s", ErrPlan, s.Size, why)
	}
	whole := s.Size / chunkSize
	if s.Size < 0 || s.Size > maxSize {
		return bad("out of range")
	}
	if len(s.State) == 0 {
		if len(add) != 0 || int64(len(s.Chunks)) != (s.Size+chunkSize-1)/chunkSize*int64(h.Size()) {
			return bad("wrong number of digests")
		}
		return s.Chunks, nil
	}
	if len(add) == 0 || int64(len(s.Chunks)) != whole*int64(h.Size()) {
		return bad("wrong number of digests")
	}
	x := h.New()
	u, ok := x.(encoding.BinaryUnmarshaler)
	if !ok {
		return bad("the hash has no state")
	}
	if err := u.UnmarshalBinary(s.State); err != nil {
		return bad("state of the hash")
	}
	// One state has one encoding, or the plan could be written in two ways.
	if again, err := x.(encoding.BinaryMarshaler).MarshalBinary(); err != nil || !bytes.Equal(again, s.State) {
		return bad("state of the hash")
	}
	// A state ends with the number of bytes that went in: the prefix, and the chunk.
	if in := s.State[len(s.State)-8:]; binary.BigEndian.Uint64(in) != 5+uint64(s.Size%chunkSize) {
		return bad("state of a hash over another chunk")
	}
	out := bytes.Clone(s.Chunks)
	n := min(chunkSize-s.Size%chunkSize, int64(len(add)))
	x.Write(add[:n])
	out = x.Sum(out)
	for add = add[n:]; len(add) > 0; add = add[n:] {
		n = min(chunkSize, int64(len(add)))
		x = chunkHash(h, n)
		x.Write(add[:n])
		out = x.Sum(out)
	}
	return out, nil
}

// top is the digest over the digests of all chunks of all sections.
func top(h crypto.Hash, sections ...[]byte) []byte {
	x := h.New()
	n := 0
	for _, s := range sections {
		n += len(s) / h.Size()
	}
	var p [5]byte
	p[0] = 0x5a
	le.PutUint32(p[1:], uint32(n))
	x.Write(p[:])
	for _, s := range sections {
		x.Write(s)
	}
	return x.Sum(nil)
}

// chunker digests what is written to it in chunks, on all cores.
type chunker struct {
	hs     []crypto.Hash
	buffer int64 // bytes that a buffer has to begin with
	cur    []byte
	size   int64
	jobs   chan chunk
	free   chan []byte
	wg     sync.WaitGroup

	mu  sync.Mutex
	out [][]byte // per hash: digests by chunk
}

type chunk struct {
	i int
	b []byte
}

// newChunker is for about size bytes: a small section gets small buffers.
func newChunker(size int64, hs ...crypto.Hash) *chunker {
	n := int(max(min(int64(runtime.GOMAXPROCS(0)), 16, size/chunkSize), 1))
	c := &chunker{hs: hs, buffer: min(max(size, 1), chunkSize), jobs: make(chan chunk), free: make(chan []byte, n+1), out: make([][]byte, len(hs))}
	for range n + 1 {
		c.free <- nil
	}
	for range n {
		c.wg.Go(c.work)
	}
	return c
}

func (c *chunker) work() {
	for j := range c.jobs {
		for k, h := range c.hs {
			x := chunkHash(h, int64(len(j.b)))
			x.Write(j.b)
			d := x.Sum(nil)
			c.mu.Lock()
			if need := (j.i + 1) * len(d); len(c.out[k]) < need {
				c.out[k] = append(c.out[k], make([]byte, need-len(c.out[k]))...)
			}
			copy(c.out[k][j.i*len(d):], d)
			c.mu.Unlock()
		}
		c.free <- j.b
	}
}

// Write never fails.
func (c *chunker) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if c.cur == nil {
			if c.cur = <-c.free; c.cur == nil {
				c.cur = make([]byte, 0, c.buffer)
			}
			c.cur = c.cur[:0]
		}
		k := min(chunkSize-len(c.cur), len(p))
		c.cur = append(c.cur, p[:k]...)
		p = p[k:]
		c.size += int64(k)
		if len(c.cur) == chunkSize {
			c.dispatch()
		}
	}
	return n, nil
}

func (c *chunker) dispatch() {
	c.jobs <- chunk{int((c.size - 1) / chunkSize), c.cur}
	c.cur = nil
}

// finish ends the section, one for each hash. With add above zero that many bytes are
// still to come.
func (c *chunker) finish(add int64) ([]section, error) {
	states := make([][]byte, len(c.hs))
	if add > 0 {
		rest := c.size % chunkSize
		for k, h := range c.hs {
			x := chunkHash(h, min(chunkSize, rest+add))
			x.Write(c.cur)
			m, ok := x.(encoding.BinaryMarshaler)
			if !ok {
				return nil, fmt.Errorf("apk: %v has no state", h)
			}
			var err error
			if states[k], err = m.MarshalBinary(); err != nil {
				return nil, fmt.Errorf("apk: %w", err)
			}
		}
	} else if len(c.cur) > 0 {
		c.dispatch()
	}
	c.close()
	out := make([]section, len(c.hs))
	for k := range c.hs {
		out[k] = section{Size: c.size, Chunks: append([]byte{}, c.out[k]...), State: append([]byte{}, states[k]...)}
	}
	return out, nil
}

// close ends the workers; finish does so too.
func (c *chunker) close() {
	if c.jobs != nil {
		close(c.jobs)
		c.wg.Wait()
		c.jobs = nil
	}
}

// chunksOf are the digests of a section that is in memory.
func chunksOf(h crypto.Hash, b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := min(chunkSize, len(b))
		x := chunkHash(h, int64(n))
		x.Write(b[:n])
		out = x.Sum(out)
		b = b[n:]
	}
	return out
}
