package apk

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"

	"github.com/greatseal-io/greatseal/format"
)

// pageSize is the unit of the hash tree of scheme v4, in bytes.
const pageSize = 4096

// leaves digests every page of a, the last one filled up with zeros, on all cores. It
// reads a once, in order.
func leaves(ctx context.Context, a format.Artifact) ([]byte, error) {
	const buffer = 256 << 10
	size := a.Size()
	out := make([]byte, (size+pageSize-1)/pageSize*sha256.Size)
	type part struct {
		b  []byte
		at int64
	}
	n := int(max(min(int64(runtime.GOMAXPROCS(0)), 16, size/buffer), 1))
	jobs, free := make(chan part), make(chan []byte, n+1)
	for range n + 1 {
		free <- nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(jobs)
	for range n {
		wg.Go(func() {
			var page [pageSize]byte
			for j := range jobs {
				for at := 0; at < len(j.b); at += pageSize {
					p := j.b[at:]
					if len(p) < pageSize {
						clear(page[copy(page[:], p):])
						p = page[:]
					}
					d := sha256.Sum256(p[:pageSize])
					copy(out[(j.at+int64(at))/pageSize*sha256.Size:], d[:])
				}
				free <- j.b[:cap(j.b)]
			}
		})
	}
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := <-free
		if b == nil {
			b = make([]byte, min(buffer, size))
		}
		b = b[:min(int64(cap(b)), size-at)]
		if err := format.ReadFull(a, b, at); err != nil {
			return nil, fmt.Errorf("apk: %w", err)
		}
		jobs <- part{b, at}
		at += int64(len(b))
	}
	// Whoever reads out must see what the workers wrote.
	for range n + 1 {
		<-free
	}
	return out, nil
}

// tree builds the levels over the digests of all pages, the highest first, each filled
// up to whole pages, and the digest of the one page of the highest (fs-verity, without
// salt).
func tree(level []byte) (all, root []byte) {
	levels := [][]byte{fill(level)}
	for len(levels[0]) > pageSize {
		var up []byte
		for at := 0; at < len(levels[0]); at += pageSize {
			d := sha256.Sum256(levels[0][at:][:pageSize])
			up = append(up, d[:]...)
		}
		levels = append([][]byte{fill(up)}, levels...)
	}
	d := sha256.Sum256(levels[0])
	for _, l := range levels {
		all = append(all, l...)
	}
	return all, d[:]
}

func fill(b []byte) []byte {
	out := make([]byte, (len(b)+pageSize-1)/pageSize*pageSize)
	copy(out, b)
	return out
}
