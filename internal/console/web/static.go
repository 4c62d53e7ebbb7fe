package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

const staticPrefix = Home + "static/"

// assets are the files that pages use. Their paths name their content, so that browsers
// keep them for good.
type assets struct {
	paths map[string]string // by name: "console.css", "search/charts.js"
	files map[string]*asset // by path
}

type asset struct {
	contentType string
	raw, zipped []byte // zipped is nil where it is not smaller
}

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png",
	".wasm": "application/wasm", ".webmanifest": "application/manifest+json", ".txt": "text/plain; charset=utf-8", ".json": "application/json",
}

func (a *assets) add(area string, files fs.FS) error {
	err := fs.WalkDir(files, "static", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(files, p)
		if err != nil {
			return err
		}
		ct := contentTypes[path.Ext(p)]
		if ct == "" {
			ct = mime.TypeByExtension(path.Ext(p))
		}
		if ct == "" {
			return fmt.Errorf("%s: of what type is it?", p)
		}
		name := strings.TrimPrefix(p, "static/")
		if area != "" {
			name = area + "/" + name
		}
		sum := sha256.Sum256(raw)
		at := staticPrefix + hex.EncodeToString(sum[:8]) + "/" + name
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if _, err := z.Write(raw); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		x := &asset{contentType: ct, raw: raw}
		if b.Len() < len(raw)*9/10 {
			x.zipped = b.Bytes()
		}
		a.paths[name], a.files[at] = at, x
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (a *assets) path(name string) (string, error) {
	if p, ok := a.paths[name]; ok {
		return p, nil
	}
	return "", fmt.Errorf("there is no asset %q", name)
}

// Asset is the path of an asset, or an error.
func (s *Site) Asset(name string) (string, error) { return s.static.path(name) }

func (s *Site) serveStatic(w http.ResponseWriter, r *http.Request) {
	x, ok := s.static.files[r.URL.Path]
	if !ok {
		s.fail(&Visit{Writer: w, Request: r, Now: s.Now(), site: s, area: s.kit}, Problemf(404, "not-found", "load the page again", "there is no such file"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", x.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	b := x.raw
	if x.zipped != nil && takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		b = x.zipped
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		w.Write(b)
	}
}
