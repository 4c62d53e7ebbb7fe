package api

import (
	"context"
	"io"
	"net/http"
	"os"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

func (a *API) uploadRoutes() {
	type FileParam struct {
		ID    string `path:"id" minLength:"4" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"ID of a request, or the beginning of it"`
		Index int    `path:"index" minimum:"0" maximum:"100000" doc:"of the file"`
	}
	type offsetOut struct {
		Offset int64 `header:"Upload-Offset" doc:"bytes that have arrived"`
		Length int64 `header:"Upload-Length" doc:"bytes that there are"`
	}
	const path = "/requests/{id}/files/{index}/content"
	route(a, op{method: http.MethodHead, path: path, id: "upload-offset", tag: "uploads", access: only(scopeRequest, scopeInspect), sum: "How much of an artifact has arrived"},
		func(ctx context.Context, in *FileParam) (*offsetOut, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			off, size, err := a.cfg.Server.UploadOffset(ctx, r.ID, in.Index)
			if err != nil {
				return nil, err
			}
			return &offsetOut{off, size}, nil
		})

	type patchIn struct {
		FileParam
		Offset int64 `header:"Upload-Offset" required:"true" minimum:"0" doc:"where the chunk begins: the end of what has arrived"`
	}
	route(a, op{method: http.MethodPatch, path: path, id: "upload", tag: "uploads", access: only(scopeRequest), body: a.cfg.Limits.Chunk, content: wire.Chunk, status: 204,
		sum: "Append a chunk of an artifact", doc: "By the requester, or the owner of the machine that asked. An upload that was interrupted goes on where it was: HEAD says where. What has arrived of a chunk that broke off stays."},
		func(ctx context.Context, in *patchIn) (*offsetOut, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			// Whoever else could write here could have an inspector say no to others' requests.
			if who := callOf(ctx).who.Name; who != r.Requester && !a.owns(who, r.Requester) {
				return nil, newProblem(403, "not-requester", "", "request %s is %s's: %s does not upload its files", r.ID.String()[:12], r.Requester, who)
			}
			off, err := a.cfg.Server.Upload(ctx, r.ID, in.Index, in.Offset, callOf(ctx).r.Body)
			if err != nil {
				return nil, err
			}
			_, size, err := a.cfg.Server.UploadOffset(ctx, r.ID, in.Index)
			if err != nil {
				return nil, err
			}
			return &offsetOut{off, size}, nil
		})

	type readIn struct {
		FileParam
		Range string `header:"Range" maxLength:"100"`
	}
	route(a, op{method: http.MethodGet, path: path, id: "content", tag: "uploads", access: only(scopeInspect), answer: wire.Octets,
		sum: "Read an artifact that has arrived whole", doc: "For inspectors, while the request is open. Takes ranges."},
		func(ctx context.Context, in *readIn) (*stream, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			p, err := a.cfg.Server.Uploaded(ctx, r.ID, in.Index)
			if err != nil {
				return nil, err
			}
			f, err := os.Open(p)
			if err != nil {
				return nil, newProblem(404, "not-found", "", "the artifact is no longer there")
			}
			return a.stream(ctx, wire.Octets, func(w *writer) error {
				defer f.Close()
				st, err := f.Stat()
				if err != nil {
					return err
				}
				// Not a file that some browser opens by its name.
				w.Header().Set("Content-Disposition", "attachment")
				http.ServeContent(w, callOf(ctx).r, "", st.ModTime(), io.NewSectionReader(f, 0, st.Size()))
				return nil
			}), nil
		})
}
