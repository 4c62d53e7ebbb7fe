package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// fake is a client of a server that answers as told; it does not really sleep.
func fake(t *testing.T, h http.HandlerFunc) (*Client, *[]time.Duration) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(Config{Server: s.URL, Token: "gs_secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var slept []time.Duration
	c.sleep = func(ctx context.Context, d time.Duration) error { slept = append(slept, d); return ctx.Err() }
	return c, &slept
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", wire.ProblemJSON)
	w.WriteHeader(status)
	io.WriteString(w, `{"type":"t","title":"T","status":200,"detail":"d\u001b[31m","code":"`+code+`","hint":"h"}`)
}

func TestServers(t *testing.T) {
	for _, good := range []string{"https://seal.example.com", "https://seal.example.com:8443/", "http://127.0.0.1:80", "http://[::1]:80", "http://localhost:1", "unix:/run/x.sock", "unix:///run/x.sock"} {
		if _, err := New(Config{Server: good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "seal.example.com", "http://seal.example.com", "http://10.0.0.1", "ftp://x", "https://u:p@x", "https://x/y", "https://x?y", "https://x#y", "unix:x.sock", "http://127.0.0.1.example.com", "https://"} {
		if _, err := New(Config{Server: bad}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if _, err := New(Config{Server: "https://x", Cert: "/nonexistent"}); err == nil {
		t.Error("a certificate without its key")
	}
	if _, err := New(Config{Server: "https://x", CA: "/dev/null"}); err == nil {
		t.Error("a CA file without certificates")
	}
}

// Invariant 4.
func TestRepeats(t *testing.T) {
	for _, c := range []struct {
		what   string
		status int
		once   bool
		want   int32
	}{
		{"busy", 503, false, 6}, {"busy, once", 503, true, 1}, {"rate", 429, true, 6}, {"gateway", 502, false, 6},
		{"conflict", 409, false, 1}, {"internal", 500, false, 1}, {"forbidden", 403, false, 1},
	} {
		var n atomic.Int32
		cl, slept := fake(t, func(w http.ResponseWriter, r *http.Request) { n.Add(1); refuse(w, c.status, "x") })
		_, err := cl.do(t.Context(), call{method: "GET", path: "/x", once: c.once})
		var p *Problem
		if !errors.As(err, &p) || p.Status != c.status || p.ReasonCode() != "x" || p.Hint != "h" || p.Error() != "d[31m" {
			t.Errorf("%s: %v", c.what, err)
		}
		if n.Load() != c.want || len(*slept) != int(c.want)-1 {
			t.Errorf("%s: %d tries, slept %v", c.what, n.Load(), *slept)
		}
	}
	var n atomic.Int32
	cl, slept := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Retry-After", "7")
			refuse(w, 429, "x")
			return
		}
		io.WriteString(w, "{}")
	})
	if resp, err := cl.do(t.Context(), call{method: "GET", path: "/x"}); err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
	}
	if len(*slept) != 1 || (*slept)[0] != 7*time.Second {
		t.Errorf("Retry-After: slept %v", *slept)
	}
	// A server that is away.
	cl, _ = fake(t, func(w http.ResponseWriter, r *http.Request) { n.Add(1); panic(http.ErrAbortHandler) })
	n.Store(0)
	_, err := cl.do(t.Context(), call{method: "GET", path: "/x", once: true})
	var away *AwayError
	if !errors.As(err, &away) || n.Load() != 1 || away.ReasonCode() != "server-away" {
		t.Errorf("away, once: %v, %d tries", err, n.Load())
	}
}

// Invariants 2 and 3.
func TestRedirectsAndSecrets(t *testing.T) {
	var stolen atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { stolen.Store(true) }))
	defer thief.Close()
	cl, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	})
	_, err := cl.Status(t.Context())
	if err == nil || stolen.Load() {
		t.Errorf("a redirect is followed: %v", err)
	}
	gone, err := New(Config{Server: "http://127.0.0.1:1", Token: "gs_secret", Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Status(t.Context()); err == nil || strings.Contains(err.Error(), "gs_secret") {
		t.Errorf("error: %v", err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	cl, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 1<<20)
		for range 100 {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	if _, err := cl.Status(t.Context()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a status of 100 MiB: %v", err)
	}
	// Exactly the limit is good.
	cl, _ = fake(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "12345") })
	for limit, good := range map[int64]bool{4: false, 5: true, 6: true} {
		b, err := cl.bytes(t.Context(), call{method: "GET", path: "/x", limit: limit})
		if good != (err == nil && string(b) == "12345") {
			t.Errorf("limit %d: %q %v", limit, b, err)
		}
	}
	for what, body := range map[string]string{"no JSON": "<html>", "an array": "[]", "twice": `{"name":"a"} {}`, "duplicate": `{"version":"a","version":"b"}`} {
		cl, _ = fake(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
		if _, err := cl.Status(t.Context()); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	// Items that are no byte strings, or end in the middle.
	for what, body := range map[string]string{"a map": "\xa0", "half": "\x45ab", "endless": "\x5f\x41a\xff", "a tag": "\xc0\x41a"} {
		cl, _ = fake(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
		if items, err := cl.Items(t.Context(), "abcd"); err == nil {
			t.Errorf("items: %s is taken: %v", what, items)
		}
	}
}

// A proxy's error page is a problem too.
func TestForeignErrors(t *testing.T) {
	for _, body := range []string{"<html>bad gateway</html>", "", "{}"} {
		cl, _ := fake(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(418); io.WriteString(w, body) })
		_, err := cl.Status(t.Context())
		var p *Problem
		if !errors.As(err, &p) || p.ReasonCode() != "http-418" || p.Error() == "" {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// What a lying server says of uploads leads to no endless loop.
func TestLyingUploads(t *testing.T) {
	for _, c := range []struct{ head, patch string }{{"0", "0"}, {"0", "9"}, {"0", ""}, {"0", "-1"}, {"99", "99"}, {"", ""}} {
		cl, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
			v := c.head
			if r.Method == http.MethodPatch {
				io.Copy(io.Discard, r.Body)
				v = c.patch
			}
			w.Header().Set(wire.UploadOffset, v)
			w.Header().Set(wire.UploadLength, "5")
		})
		if err := cl.Upload(t.Context(), "abcd", 0, strings.NewReader("12345"), 5, nil); err == nil {
			t.Errorf("%+v: taken", c)
		}
	}
}

// A server that answers for one request with another is found out.
func TestAnotherRequest(t *testing.T) {
	one, two := strings.Repeat("1a", 32), strings.Repeat("2b", 32)
	shown := ""
	c, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"id":"`+shown+`","state":"executed"}`)
	})
	for _, x := range []struct {
		asked, shown string
		fits         bool
	}{{one, one, true}, {one[:8], one, true}, {one, two, false}, {one[:8], two, false}, {one, "", false}, {one[:8], one[:8], false}, {one[:8], one + "00", false}} {
		shown = x.shown
		_, err := c.Request(t.Context(), x.asked, false)
		_, aerr := c.Await(t.Context(), x.asked, 1, time.Second)
		_, werr := c.Wait(t.Context(), x.asked, nil)
		for _, err := range []error{err, aerr, werr} {
			if (err == nil) != x.fits || err != nil && !errors.Is(err, ErrAnother) {
				t.Errorf("%s for %s: %v", x.shown, x.asked, err)
			}
		}
	}
}

// Invariant 3: evidence is bounded document by document, however many come.
func TestEvidenceIsBounded(t *testing.T) {
	const documents = 10
	endless := false
	c, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", wire.JSONLines)
		for range documents {
			io.WriteString(w, `{"signatures":["`+strings.Repeat("A", 8000)+`"]}`+"\n")
		}
		if endless {
			io.WriteString(w, `{"signatures":["`)
			for i := 0; i < 1<<12 && r.Context().Err() == nil; i++ {
				io.WriteString(w, strings.Repeat("A", 64<<10))
			}
		}
	})
	c.document = 16 << 10
	read := func(to int) (n int, err error) {
		for _, err := range c.EvidenceOf(t.Context(), "1a", 0, to) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	if n, err := read(documents); n != documents || err != nil {
		t.Errorf("%d documents: %v", n, err)
	}
	endless = true
	if n, err := read(documents + 1); n != documents || !errors.Is(err, ErrTooLarge) {
		t.Errorf("a document without end: %d, %v", n, err)
	}
}
