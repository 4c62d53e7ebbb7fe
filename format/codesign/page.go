package codesign

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// chunk is the unit in which pages are read and handed to a core: a multiple of
// every page size.
const chunk = 512 << 10

// Pages hashes the first limit bytes of r page by page, the last one as long as it
// is, on all cores; a page size of 0 is one hash over everything. It reads r once,
// in order.
func Pages(ctx context.Context, r io.ReaderAt, limit, pageSize int64, h crypto.Hash) ([]byte, error) {
	if pageSize == 0 {
		return onePage(ctx, r, limit, h)
	}
	type job struct {
		buf []byte
		n   int
		out []byte
	}
	size := int64(h.Size())
	pages := (limit + pageSize - 1) / pageSize
	if pages*size > MaxSize {
		return nil, fmt.Errorf("codesign: %d pages are too many", pages)
	}
	out := make([]byte, pages*size)
	workers := min(runtime.GOMAXPROCS(0), int(limit/chunk)+1)
	free, jobs := make(chan []byte, workers+2), make(chan job, workers+2)
	for range workers + 2 {
		free <- make([]byte, min(chunk, limit))
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			x := h.New()
			for j := range jobs {
				b := j.buf[:j.n]
				for i := int64(0); len(b) > 0; i++ {
					n := min(pageSize, int64(len(b)))
					x.Reset()
					x.Write(b[:n])
					x.Sum(j.out[i*size : i*size])
					b = b[n:]
				}
				free <- j.buf
			}
		})
	}
	err := func() error {
		defer wg.Wait()
		defer close(jobs)
		for off := int64(0); off < limit; off += chunk {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("codesign: %w", err)
			}
			buf := <-free
			n := min(chunk, limit-off)
			if m, err := r.ReadAt(buf[:n], off); int64(m) != n {
				return readError(err)
			}
			jobs <- job{buf, int(n), out[off/pageSize*size:]}
		}
		return nil
	}()
	if err != nil {
		return nil, err
	}
	return out, nil
}

func onePage(ctx context.Context, r io.ReaderAt, limit int64, h crypto.Hash) ([]byte, error) {
	x, buf := h.New(), make([]byte, min(chunk, max(limit, 1)))
	for off := int64(0); off < limit; off += chunk {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("codesign: %w", err)
		}
		n := min(chunk, limit-off)
		if m, err := r.ReadAt(buf[:n], off); int64(m) != n {
			return nil, readError(err)
		}
		x.Write(buf[:n])
	}
	return x.Sum(nil), nil
}

func readError(err error) error {
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("codesign: %w", err)
}
