package appx

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/greatseal-io/greatseal/format/zipfile"
)

// maxNewMap bounds a block map that is made anew, which a plan holds: about 10 GB of
// contents.
const maxNewMap = 12 << 20

// isMapped says whether entry i goes into a block map that is made anew.
func (p *pkg) isMapped(i int) (bool, error) {
	e := &p.z.Entries[i]
	name, ok := mapName(e.Name)
	if !ok {
		return false, malformed("name %.80q", e.Name)
	}
	if apart(e.Name) {
		return false, nil
	}
	if e.Dir() {
		return false, malformed("%.80q is a folder, which packages do not have: pack without them (zip -D)", e.Name)
	}
	in, ok := p.packages[name]
	return !ok || e.Method != zipfile.Stored || in.size != e.Size, nil
}

// newMap writes the block map of what was read: files has one line for each entry, in
// the order of the archive, and extra the lengths of the local headers' extra fields.
func (p *pkg) newMap(ctx context.Context, h crypto.Hash, files []mapped, extra []uint16) ([]byte, error) {
	var out bytes.Buffer
	method := ""
	for name, x := range hashMethods {
		if x == h {
			method = name
		}
	}
	fmt.Fprintf(&out, `<?xml version="1.0" encoding="UTF-8" standalone="no"?><BlockMap xmlns="http://schemas.microsoft.com/appx/2010/blockmap" HashMethod="%s">`, method)
	var sizes blockSizes
	seen := map[string]bool{}
	for i := range files {
		f := &files[i]
		if !f.is {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e := &p.z.Entries[i]
		name, _ := mapName(e.Name)
		if seen[name] {
			return nil, malformed("%.80q stands twice", name)
		}
		seen[name] = true
		header := 30 + len(e.Name) + int(extra[i])
		var packed []int
		if e.Method == zipfile.Deflated && e.Size > 0 {
			var err error
			if packed, err = sizes.of(io.NewSectionReader(p.a, e.Offset+int64(header), e.Compressed), e.Size); err != nil {
				return nil, fmt.Errorf("%w: %.80q: %w", ErrBlockMap, e.Name, err)
			}
		}
		fmt.Fprintf(&out, `<File Name="%s" Size="%d" LfhSize="%d">`, escaped(name), e.Size, header)
		for at, k := 0, 0; at < len(f.digests); at, k = at+h.Size(), k+1 {
			fmt.Fprintf(&out, `<Block Hash="%s"`, base64.StdEncoding.EncodeToString(f.digests[at:at+h.Size()]))
			if packed != nil {
				fmt.Fprintf(&out, ` Size="%d"`, packed[k])
			}
			out.WriteString(`/>`)
		}
		out.WriteString(`</File>`)
		if out.Len() > maxNewMap {
			return nil, badMap("made anew it has more than %d bytes, which no plan holds: pack with the tools of Windows", maxNewMap)
		}
	}
	out.WriteString(`</BlockMap>`)
	return out.Bytes(), nil
}

// errOneStream is about files that were compressed in one go: Windows reads blocks one
// by one, so each has to begin anew at a byte.
var errOneStream = errors.New("it was compressed in one go, not in blocks of 64 KiB: store it, or pack with the tools of Windows")

const (
	marker      = "\x00\x00\xff\xff" // an empty stored block, by which compressors end blocks at a byte (RFC 1951, 3.2.4)
	finalBlock  = "\x03\x00"         // an empty last block
	maxMarkers  = 16                 // tried in one block: others may look like its end
	maxDeflated = blockSize + 4096   // bytes of one block, compressed
)

// blockSizes finds out how many compressed bytes each block of a file has. What it finds
// is proven: each block was inflated by itself.
type blockSizes struct {
	inflate io.ReadCloser
	buf     [blockSize + 1]byte
}

// of reads the data of a file that has size bytes.
func (s *blockSizes) of(data io.Reader, size int64) ([]int, error) {
	r := bufio.NewReaderSize(data, 32<<10)
	var out []int
	for ; size > blockSize; size -= blockSize {
		n, err := s.block(r)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	last, err := io.ReadAll(io.LimitReader(r, maxDeflated+1))
	if err != nil {
		return nil, err
	}
	if len(last) > maxDeflated {
		return nil, errOneStream
	}
	// Windows does not count the empty last block.
	if rest, ok := bytes.CutSuffix(last, []byte(marker+finalBlock)); ok {
		rest = last[:len(rest)+len(marker)]
		if n, ended := s.try(rest); n == size && !ended {
			return append(out, len(rest)), nil
		}
	}
	if n, ended := s.try(last); n != size || !ended {
		return nil, errOneStream
	}
	return append(out, len(last)), nil
}

// block reads one block that others follow.
func (s *blockSizes) block(r *bufio.Reader) (int, error) {
	var b []byte
	for tried := 0; tried < maxMarkers; {
		c, err := r.ReadByte()
		if errors.Is(err, io.EOF) || len(b) == maxDeflated {
			return 0, errOneStream
		}
		if err != nil {
			return 0, err
		}
		if b = append(b, c); c != marker[3] || !bytes.HasSuffix(b, []byte(marker)) {
			continue
		}
		if n, ended := s.try(b); n == blockSize && !ended {
			return len(b), nil
		}
		tried++
	}
	return 0, errOneStream
}

// try inflates b by itself: how many bytes that gives, at most one more than a block has,
// and whether the stream ends in it, or is none.
func (s *blockSizes) try(b []byte) (n int64, ended bool) {
	in := bytes.NewReader(b)
	if s.inflate == nil {
		s.inflate = flate.NewReader(in)
	} else if err := s.inflate.(flate.Resetter).Reset(in, nil); err != nil {
		return 0, true
	}
	k, err := io.ReadFull(s.inflate, s.buf[:])
	if err == nil {
		return int64(k), true
	}
	_, err = s.inflate.Read(s.buf[:1]) // ReadFull does not tell the ends apart
	switch {
	case errors.Is(err, io.EOF) && in.Len() == 0:
		return int64(k), true
	case errors.Is(err, io.ErrUnexpectedEOF) && in.Len() == 0:
		return int64(k), false
	}
	return -1, true
}
