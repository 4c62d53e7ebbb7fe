package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/inspector"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "inspector-worker" {
		os.Exit(inspector.Serve(os.Stdin, os.Stdout, os.Stderr, []format.Format{cmsfile.New()}))
	}
	os.Exit(m.Run())
}

// broken is a transport that cuts bodies short, now and then.
type broken struct{ n int }

func (b *broken) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPatch {
		if b.n++; b.n%2 == 1 {
			r = r.Clone(r.Context())
			r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 100_000), bad{}))
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

type bad struct{}

func (bad) Read([]byte) (int, error) { return 0, errors.New("the line is cut") }

func TestUpload(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	alice := s.as(t, "alice")
	gate := s.as(t, "gate")
	big := make([]byte, 3<<20)
	rand.Read(big)
	items := [][]byte{s.Item("big.bin", big), s.Item("empty.bin", nil)}
	env := s.Sign("alice", "checked", items)
	v, err := alice.Submit(ctx, env, items)
	must(t, err)
	if v.Upload == nil || v.Upload.Wanted != 2 || v.Upload.Done != 0 {
		t.Fatalf("view: %+v", v.Upload)
	}
	// Wrong bytes would have the inspector say no to somebody else's request.
	for _, other := range []string{"bob", "dave", "ci"} {
		wants(t, other+" uploads", s.as(t, other).Upload(ctx, v.ID, 0, bytes.NewReader(make([]byte, len(big))), int64(len(big)), nil), "not-requester")
	}
	_, err = gate.Content(ctx, v.ID, 0, 0)
	wants(t, "before it is there", err, "upload-incomplete")
	broke, err := client.NewWith(client.Config{Server: s.http.URL}, &broken{})
	must(t, err)
	_, err = broke.Login(ctx, "test", "alice", servertest.Signer("alice"))
	must(t, err)
	var progress []int64
	must(t, broke.Upload(ctx, v.ID, 0, bytes.NewReader(big), int64(len(big)), func(n int64) { progress = append(progress, n) }))
	if len(progress) < 2 || progress[len(progress)-1] != int64(len(big)) {
		t.Errorf("progress: %v", progress)
	}
	must(t, alice.Upload(ctx, v.ID, 1, bytes.NewReader(nil), 0, nil))
	must(t, alice.Upload(ctx, v.ID, 0, bytes.NewReader(big), int64(len(big)), nil)) // again: nothing to do
	if v, err = alice.Request(ctx, v.ID, false); err != nil || v.Upload.Done != 2 {
		t.Fatalf("uploaded: %+v %v", v.Upload, err)
	}
	if err := alice.Upload(ctx, v.ID, 0, bytes.NewReader(big[:10]), 10, nil); err == nil {
		t.Error("a file of another size is uploaded")
	}
	r, err := gate.Content(ctx, v.ID, 0, 1<<20)
	must(t, err)
	b, err := io.ReadAll(r)
	r.Close()
	if err != nil || !bytes.Equal(b, big[1<<20:]) {
		t.Errorf("read from the middle: %d bytes, %v", len(b), err)
	}
	_, err = alice.Content(ctx, v.ID, 0, 0)
	wants(t, "read by the requester", err, "scope")

	// The inspector, elsewhere, over HTTP.
	ictx, cancel := context.WithCancel(ctx)
	exe, err := os.Executable()
	must(t, err)
	done := make(chan error, 1)
	go func() {
		done <- inspector.Run(ictx, inspector.Remote(gate, t.TempDir()), inspector.Config{Name: "gate", Signer: servertest.Signer("gate"), Deployment: "test", Clock: s.Now,
			Worker: inspector.Worker{Command: []string{exe, "inspector-worker"}, Limits: inspector.Limits{Memory: inspector.NoMemoryLimit}}})
	}()
	_, err = alice.Endorse(ctx, s.Endorse("bob", env))
	must(t, err)
	v, err = alice.Wait(ctx, v.ID, nil)
	must(t, err)
	if v.State != store.Executed || len(v.Recomputed) != 1 {
		t.Errorf("%s, recomputed by %v", v.State, v.Recomputed)
	}
	cancel()
	must(t, <-done)
	err = alice.Upload(ctx, v.ID, 0, bytes.NewReader(big), int64(len(big)), nil)
	wants(t, "after the end", err, "request-closed")
	for range 100 { // the server's own loop removes what was uploaded
		names, err := s.Blobs.Names()
		must(t, err)
		if len(names) == 0 {
			break
		}
		s.sweep(t)
	}
	if names, err := s.Blobs.Names(); err != nil || len(names) != 0 {
		t.Errorf("uploads that stay: %v %v", names, err)
	}
}

// sweep has another replica begin, which removes what is left at once.
func (s *site) sweep(t *testing.T) {
	t.Helper()
	_, stop := s.Server(s.store)
	time.Sleep(50 * time.Millisecond)
	stop()
}

func TestUploadOffsets(t *testing.T) {
	s := newSite(t, func(c *api.Config) { c.Limits.Chunk = 1 << 20 })
	auth := "Bearer " + s.token(t, "alice", "request")
	items := s.Files("app", 1)
	env := s.Sign("alice", "checked", items)
	_, err := s.as(t, "alice").Submit(t.Context(), env, items)
	must(t, err)
	path := "/v1/requests/" + s.ID(env).String() + "/files/0/content"
	content := servertest.Content("app", 0)
	patch := func(p, offset string, b []byte) answer {
		return s.raw(t, "PATCH", p, b, "Authorization", auth, "Content-Type", wire.Chunk, "Upload-Offset", offset)
	}
	for what, c := range map[string]struct {
		path, offset string
		body         []byte
		code         string
	}{
		"beyond the end":    {path, "5", content[5:], "offset"},
		"negative":          {path, "-1", content, "malformed"},
		"no number":         {path, "x", content, "malformed"},
		"no such file":      {strings.Replace(path, "files/0", "files/1", 1), "0", content, "not-found"},
		"a path":            {strings.Replace(path, "files/0", "files/..%2f..", 1), "0", content, "malformed"},
		"more than a chunk": {path, "0", make([]byte, 2<<20), "too-large"},
	} {
		if a := patch(c.path, c.offset, c.body); a.Code != c.code {
			t.Errorf("%s: %d %s, want %s", what, a.StatusCode, a.body, c.code)
		}
	}
	a := patch(path, "0", content[:5])
	if a.StatusCode != 204 || a.Header.Get(wire.UploadOffset) != "5" {
		t.Errorf("first chunk: %d %v %s", a.StatusCode, a.Header, a.body)
	}
	if a := patch(path, "5", append(bytes.Clone(content[5:]), "more"...)); a.Code != "upload-broken" {
		t.Errorf("more than the plan says: %d %s", a.StatusCode, a.body)
	}
	if a := s.raw(t, "HEAD", path, nil, "Authorization", auth); a.StatusCode != 200 || a.Header.Get(wire.UploadOffset) != a.Header.Get(wire.UploadLength) {
		t.Errorf("afterwards: %d %v", a.StatusCode, a.Header)
	}
	// A request that wants no uploads takes none.
	items = s.Files("other", 1)
	env = s.Sign("alice", "release", items)
	_, err = s.as(t, "alice").Submit(t.Context(), env, items)
	must(t, err)
	if a := patch("/v1/requests/"+s.ID(env).String()+"/files/0/content", "0", content); a.Code != "upload-not-wanted" {
		t.Errorf("not wanted: %d %s", a.StatusCode, a.body)
	}
}
