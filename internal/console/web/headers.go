package web

import (
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// policy is the content security policy of every answer. htmx writes what it got into
// the page, so trusted types would need a policy that lets all pass: they are not asked
// for.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"

func (s *Site) headers(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // of browsers that do not know frame-ancestors
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), payment=(), usb=(), publickey-credentials-get=(self), publickey-credentials-create=(self)")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Cookie, HX-Request, Accept-Encoding")
	if s.Secure(r) {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// Secure reports whether the browser came over TLS, to this server or to a proxy.
func (s *Site) Secure(r *http.Request) bool {
	return r.TLS != nil || s.url != nil && s.url.Scheme == "https"
}

// Origin is where the browser finds the site: "https://seal.example.com".
func (s *Site) Origin(r *http.Request) string {
	if s.url != nil {
		return s.url.Scheme + "://" + s.url.Host
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

const compressFrom = 1 << 10 // bytes below which compression is not worth it

func (s *Site) send(w http.ResponseWriter, r *http.Request, status int, b []byte) error {
	h := w.Header()
	if len(b) >= compressFrom && takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		z := zippers.Get().(*gzip.Writer)
		defer zippers.Put(z)
		z.Reset(w)
		if _, err := z.Write(b); err != nil {
			return err
		}
		return z.Close()
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(b)
	return err
}

var zippers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// takesGzip reports whether the browser takes gzip: it says so, and not with q=0.
func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q = strings.TrimSpace(q)
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}
