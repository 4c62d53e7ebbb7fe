package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/greatseal-io/greatseal/internal/blob"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// uploadItem finds what an upload belongs to: an open request that wants it.
func (s *Server) uploadItem(ctx context.Context, id statement.ID, index int) (name string, size int64, err error) {
	r, err := s.cfg.Store.Request(ctx, id)
	if err != nil {
		return "", 0, err
	}
	if !r.Upload || s.cfg.Blobs == nil {
		return "", 0, problem(409, "upload-not-wanted", "", "request %s wants no uploads", id.String()[:12])
	}
	if !r.State.Open() {
		return "", 0, problem(409, "request-closed", "", "request %s is %s", id.String()[:12], r.State)
	}
	files, err := s.cfg.Store.Files(ctx, id)
	if err != nil {
		return "", 0, err
	}
	if index < 0 || index >= len(files) {
		return "", 0, problem(404, "not-found", "", "request %s has files 0 to %d", id.String()[:12], len(files)-1)
	}
	return fmt.Sprintf("%s.%d", id, index), files[index].Size, nil
}

// UploadOffset is how much of a file has arrived.
func (s *Server) UploadOffset(ctx context.Context, id statement.ID, index int) (offset, size int64, err error) {
	name, size, err := s.uploadItem(ctx, id, index)
	if err != nil {
		return 0, 0, err
	}
	offset, err = s.cfg.Blobs.Size(name)
	return offset, size, err
}

// Upload appends a chunk that begins at offset and returns how much has arrived.
func (s *Server) Upload(ctx context.Context, id statement.ID, index int, offset int64, chunk io.Reader) (int64, error) {
	name, size, err := s.uploadItem(ctx, id, index)
	if err != nil {
		return 0, err
	}
	n, err := s.cfg.Blobs.Append(name, offset, size, chunk)
	if errors.Is(err, blob.ErrOffset) {
		return n, problem(409, "offset", "ask for the offset and go on from there", "%d bytes have arrived: the chunk begins at %d", n, offset)
	}
	if err != nil {
		return n, problem(400, "upload-broken", "ask for the offset and go on from there", "%v", err)
	}
	if err := s.cfg.Store.PutUpload(ctx, store.Upload{Request: id, Index: index, Size: size, Received: n, Done: n == size}); err != nil {
		return n, err
	}
	if n == size {
		s.watch.news()
	}
	return n, nil
}

// Uploaded returns the path of an artifact that has arrived whole, for a reader
// on this host.
func (s *Server) Uploaded(ctx context.Context, id statement.ID, index int) (string, error) {
	name, size, err := s.uploadItem(ctx, id, index)
	if err != nil {
		return "", err
	}
	n, err := s.cfg.Blobs.Size(name)
	if err != nil {
		return "", err
	}
	if n != size {
		return "", problem(409, "upload-incomplete", "", "%d of %d bytes have arrived", n, size)
	}
	return s.cfg.Blobs.Path(name)
}

// sweep removes the artifacts of requests that are no longer open.
func (s *Server) sweep(ctx context.Context) error {
	if s.cfg.Blobs == nil {
		return nil
	}
	names, err := s.cfg.Blobs.Names()
	if err != nil {
		return err
	}
	open := map[statement.ID]bool{}
	for _, name := range names {
		prefix, _, _ := strings.Cut(name, ".")
		id, err := statement.ParseID(prefix)
		if err != nil {
			continue // not one of ours
		}
		keep, known := open[id]
		if !known {
			r, err := s.cfg.Store.Request(ctx, id)
			switch {
			case errors.Is(err, store.ErrNotFound):
			case err != nil:
				return err
			default:
				keep = r.State.Open()
			}
			open[id] = keep
		}
		if keep {
			continue
		}
		if err := s.cfg.Blobs.Delete(name); err != nil {
			return err
		}
	}
	return nil
}
