package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// chunk is how many bytes of an artifact travel in one call.
const chunk = 8 << 20

func contentPath(id string, index int) string {
	return "/requests/" + url.PathEscape(id) + "/files/" + strconv.Itoa(index) + "/content"
}

// UploadOffset is how much of an artifact the server has, and how large it is.
func (c *Client) UploadOffset(ctx context.Context, id string, index int) (offset, size int64, err error) {
	resp, err := c.do(ctx, call{method: http.MethodHead, path: contentPath(id, index)})
	if err != nil {
		return 0, 0, err
	}
	resp.Body.Close()
	offset, err1 := strconv.ParseInt(resp.Header.Get(wire.UploadOffset), 10, 64)
	size, err2 := strconv.ParseInt(resp.Header.Get(wire.UploadLength), 10, 64)
	if err1 != nil || err2 != nil || offset < 0 || offset > size {
		return 0, 0, errors.New("client: upload: the server does not say how much it has")
	}
	return offset, size, nil
}

// Upload sends the artifact of file index, of size bytes, and goes on where an
// earlier upload ended. progress, which may be nil, is told how much has arrived.
func (c *Client) Upload(ctx context.Context, id string, index int, r io.ReaderAt, size int64, progress func(done int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	offset, want, err := c.UploadOffset(ctx, id, index)
	if err != nil {
		return err
	}
	if want != size {
		return fmt.Errorf("client: upload: the file has %d bytes, its plan says %d: it has changed", size, want)
	}
	buf := make([]byte, min(chunk, size))
	// One call more than is needed does no harm: an upload is complete when the
	// server has answered at its end, and an empty file has an end too.
	for fails, ended := 0, false; !ended; {
		progress(offset)
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-offset)], offset)
		if n == 0 && offset < size {
			return fmt.Errorf("client: upload: reading at %d: %w", offset, err)
		}
		resp, err := c.present(ctx, call{method: http.MethodPatch, path: contentPath(id, index), body: buf[:n:n], content: wire.Chunk,
			header: http.Header{wire.UploadOffset: {strconv.FormatInt(offset, 10)}}})
		if err == nil {
			resp.Body.Close()
			next, perr := strconv.ParseInt(resp.Header.Get(wire.UploadOffset), 10, 64)
			if perr != nil || next != offset+int64(n) {
				return errors.New("client: upload: the server does not say how much it has")
			}
			offset, fails, ended = next, 0, next == size
			continue
		}
		// Part of it may have arrived: ask, and go on from there.
		var p *Problem
		if errors.As(err, &p) && p.Code != "offset" && p.Code != "upload-broken" && !repeatable(err, false) {
			return err
		}
		if fails++; fails >= c.attempts || ctx.Err() != nil {
			return err
		}
		if c.sleep(ctx, backoff(fails, err)) != nil {
			return err
		}
		if offset, _, err = c.UploadOffset(ctx, id, index); err != nil {
			return err
		}
	}
	progress(size)
	return nil
}

// Content reads an artifact that was uploaded, from offset on: for inspectors.
// The caller closes it.
func (c *Client) Content(ctx context.Context, id string, index int, offset int64) (io.ReadCloser, error) {
	r := call{method: http.MethodGet, path: contentPath(id, index), accept: wire.Octets, limit: 1 << 50}
	if offset > 0 {
		r.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", offset)}}
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if offset > 0 && resp.StatusCode != http.StatusPartialContent {
		resp.Body.Close()
		return nil, errors.New("client: content: the server ignores the range")
	}
	return resp.Body, nil
}
