package pe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/greatseal-io/greatseal/format"
)

const (
	aloneSize  = 64 << 10  // stays in one core's nearest caches from the read to the hash
	chunkSize  = 256 << 10 // worth waking another core for
	chunkCount = 6
	pageSize   = 4096
	pageEntry  = 4 + sha256.Size
)

// scanned is what one pass over the signed part of an image finds.
type scanned struct {
	digests map[crypto.Hash][]byte
	sum     uint16 // of all words, the checksum field and the directory entry as zero
	pages   []byte // SpcPeImagePageHashesV2's table, when it was asked for
}

// chunk is a part of the file on its way through the hashes. The last one to
// finish with it gives it back.
type chunk struct {
	buf  []byte // all of the buffer
	b    []byte // what was read
	off  int64
	left atomic.Int32
}

// scan reads the signed part of a once, in order. One hash is fed right where the
// file is read and summed: handing bytes to another core costs more processor time
// than the sum. Of several, page hashes among them, each has a goroutine of its own.
// Memory is bounded by chunkCount buffers.
func scan(ctx context.Context, a format.Artifact, im *image, hashes []crypto.Hash, pages bool) (*scanned, error) {
	out := &scanned{digests: map[crypto.Hash][]byte{}}
	var consumers []func(c *chunk)
	var states []hash.Hash
	start := im.directoryAt + 8
	for _, h := range hashes {
		s := h.New()
		s.Write(im.head[:im.checksumAt])
		s.Write(im.head[im.checksumAt+4 : im.directoryAt])
		states = append(states, s)
		consumers = append(consumers, func(c *chunk) { s.Write(c.b) })
	}
	var pg *pager
	if pages {
		var err error
		if pg, err = newPager(im); err != nil {
			return nil, err
		}
		consumers = append(consumers, func(c *chunk) { pg.write(c.b, c.off) })
	}
	if im.parts != nil {
		im.digestParts(im.head[:start], 0)
		consumers = append(consumers, func(c *chunk) { im.digestParts(c.b, c.off) })
	}

	acc := addWords(0, im.head[:im.checksumAt])
	acc = addWords(acc, im.head[im.checksumAt+4:im.directoryAt])
	acc, err := pump(ctx, a, im, start, acc, consumers)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, padding(im.end()))
	for i, h := range hashes {
		states[i].Write(zeros)
		out.digests[h] = states[i].Sum(nil)
	}
	out.sum = fold(acc)
	if pg != nil {
		out.pages = pg.finish()
	}
	return out, nil
}

// padding is how many zeros stand between a signed part of n bytes and the
// certificate table.
func padding(n int64) int64 { return (8 - n%8) % 8 }

// pump reads [start, im.end()) into the consumers and returns the sum of its
// words on top of acc.
func pump(ctx context.Context, a format.Artifact, im *image, start int64, acc uint64, consumers []func(*chunk)) (uint64, error) {
	if len(consumers) <= 1 {
		c := &chunk{buf: make([]byte, min(aloneSize, im.end()-start))}
		return read(ctx, a, im, start, acc, aloneSize, func() *chunk { return c }, func(c *chunk) {
			for _, consume := range consumers {
				consume(c)
			}
		})
	}
	free := make(chan *chunk, chunkCount)
	for range min(chunkCount, (im.end()-start)/chunkSize+2) {
		free <- &chunk{buf: make([]byte, min(chunkSize, im.end()-start))}
	}
	var wg sync.WaitGroup
	queues := make([]chan *chunk, len(consumers))
	for i, consume := range consumers {
		q := make(chan *chunk, chunkCount)
		queues[i] = q
		wg.Go(func() {
			for c := range q {
				consume(c)
				if c.left.Add(-1) == 0 {
					free <- c
				}
			}
		})
	}
	defer wg.Wait()
	defer func() {
		for _, q := range queues {
			close(q)
		}
	}()
	return read(ctx, a, im, start, acc, chunkSize, func() *chunk { return <-free }, func(c *chunk) {
		c.left.Store(int32(len(queues)))
		for _, q := range queues {
			q <- c
		}
	})
}

// read fills chunks of at most size bytes from [start, im.end()) in order, gives
// each to consume and returns the sum of all words on top of acc.
func read(ctx context.Context, a format.Artifact, im *image, start int64, acc uint64, size int64, next func() *chunk, consume func(*chunk)) (uint64, error) {
	end := im.end()
	for off := start; off < end; {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("pe: %w", err)
		}
		c := next()
		// Reads after the first stand at multiples of size: at even offsets, as
		// the sum needs it, and with whole pages in them.
		n := min(size-off%size, end-off)
		c.b, c.off = c.buf[:n], off
		if err := readFull(a, c.b, off); err != nil {
			return 0, err
		}
		if !(piece{0, im.head}).is(c.b, off) || slices.ContainsFunc(im.seen, func(p piece) bool { return !p.is(c.b, off) }) {
			return 0, fmt.Errorf("%w: it changed while it was read", ErrChanged)
		}
		acc = addWords(acc, c.b)
		consume(c)
		off += n
	}
	return acc, nil
}

// is reports whether the bytes that p shares with b, which stands at off, are the
// same: what was judged and shown must be what is hashed.
func (p piece) is(b []byte, off int64) bool {
	from, to := max(off, p.off), min(off+int64(len(b)), p.off+int64(len(p.b)))
	return from >= to || bytes.Equal(b[from-off:to-off], p.b[from-p.off:to-p.off])
}

// pager makes the table of page hashes: for the headers and for each page of each
// section its offset in the file and its SHA-256, zeros standing for what a last
// page lacks; at the end the offset where the last section ends, and zeros.
type pager struct {
	spans []span
	table []byte
	at    int64 // next byte of the current page
	have  int   // bytes of the current page in page
	page  [pageSize]byte
}

// pageCount is the number of entries for these sections.
func pageCount(spans []span) int64 {
	n := int64(2)
	for _, s := range spans {
		n += (int64(s.Size) + pageSize - 1) / pageSize
	}
	return n
}

func newPager(im *image) (*pager, error) {
	p := &pager{spans: im.spans()}
	n := pageCount(p.spans)
	switch {
	case im.alignment != pageSize:
		return nil, fmt.Errorf("pe: page hashes: sections are aligned to %d bytes: want %d", im.alignment, pageSize)
	case len(im.head) > pageSize:
		return nil, fmt.Errorf("pe: page hashes: headers of %d bytes: at most %d", len(im.head), pageSize)
	case !im.inOrder():
		return nil, fmt.Errorf("pe: page hashes: sections are not in the order of the file")
	case im.placeless: // some hash the file's start for it, others nothing
		return nil, fmt.Errorf("pe: page hashes: a section has a size and no place in the file")
	case len(p.spans) == 0:
		return nil, fmt.Errorf("pe: page hashes: no section has raw data")
	case n*pageEntry > maxPages:
		return nil, fmt.Errorf("pe: page hashes: %d pages: at most %d", n, maxPages/pageEntry)
	}
	p.table = make([]byte, 0, n*pageEntry)
	h := sha256.New()
	h.Write(im.head[:im.checksumAt])
	h.Write(im.head[im.checksumAt+4 : im.directoryAt])
	h.Write(im.head[im.directoryAt+8:])
	h.Write(p.page[:pageSize-len(im.head)])
	p.table = append(p.table, 0, 0, 0, 0)
	p.table = h.Sum(p.table)
	p.at = int64(p.spans[0].Offset)
	return p, nil
}

// write takes the bytes at off, which follow those of the call before.
func (p *pager) write(b []byte, off int64) {
	end := off + int64(len(b))
	for len(p.spans) > 0 && p.at < end {
		last := int64(p.spans[0].Offset) + int64(p.spans[0].Size)
		part := b[p.at-off : min(end, last)-off]
		if p.have == 0 && len(part) >= pageSize {
			p.entry(p.at, sha256.Sum256(part[:pageSize]))
			p.at += pageSize
		} else {
			n := copy(p.page[p.have:], part)
			p.have += n
			p.at += int64(n)
			if p.have == pageSize || p.at == last {
				clear(p.page[p.have:])
				p.entry(p.at-int64(p.have), sha256.Sum256(p.page[:]))
				p.have = 0
			}
		}
		if p.at == last {
			if p.spans = p.spans[1:]; len(p.spans) > 0 {
				p.at = int64(p.spans[0].Offset)
			}
		}
	}
}

func (p *pager) entry(off int64, sum [sha256.Size]byte) {
	p.table = binary.LittleEndian.AppendUint32(p.table, uint32(off))
	p.table = append(p.table, sum[:]...)
}

func (p *pager) finish() []byte {
	p.entry(p.at, [sha256.Size]byte{})
	return p.table
}
