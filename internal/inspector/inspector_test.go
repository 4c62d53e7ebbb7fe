package inspector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/internal/inspector"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// hostile is the format "cms" that breaks where the file tells it to.
type hostile struct{ format.Format }

func (h hostile) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	b := make([]byte, min(a.Size(), 4096))
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, err
	}
	switch what := string(bytes.TrimSpace(b)); what {
	case "panic":
		panic("hostile file")
	case "exit":
		os.Exit(0)
	case "hang":
		c := make(chan os.Signal, 1)
		signal.Notify(c, os.Interrupt) // or the runtime would see that nothing can ever happen
		<-c
	case "sleep":
		time.Sleep(time.Hour)
	case "spin":
		for n := 0; ; n++ {
			runtime.KeepAlive(n)
		}
	case "memory":
		var keep [][]byte
		for {
			c := make([]byte, 64<<20)
			for i := 0; i < len(c); i += 4096 {
				c[i] = 1
			}
			keep = append(keep, c)
			runtime.KeepAlive(keep)
		}
	case "error":
		return nil, errors.New("bad\x1b[31m file\n\u202e")
	case "read":
		if b, err := os.ReadFile("/etc/passwd"); err == nil {
			return nil, fmt.Errorf("read %d bytes", len(b))
		}
		return nil, errors.New("cannot read")
	case "write":
		if err := os.WriteFile(filepath.Join(os.TempDir(), "greatseal-escaped"), b, 0o600); err == nil {
			return nil, errors.New("wrote")
		}
		return nil, errors.New("cannot write")
	case "environment":
		return nil, fmt.Errorf("%d variables", len(os.Environ()))
	case "stdout":
		os.Stdout.Write(b)
	}
	return h.Format.Plan(ctx, a, p)
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "inspector-worker" {
		os.Exit(inspector.Serve(os.Stdin, os.Stdout, os.Stderr, []format.Format{hostile{cmsfile.New()}}))
	}
	if len(os.Args) > 1 && os.Args[1] == "flood" {
		for {
			if _, err := os.Stdout.Write(make([]byte, 1<<20)); err != nil {
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

func worker(t *testing.T) inspector.Worker {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return inspector.Worker{Command: []string{exe, "inspector-worker"}, Limits: inspector.Limits{Memory: memory, CPU: 5 * time.Second, Time: 30 * time.Second}}
}

func file(t *testing.T, content string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "artifact")
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func params(t *testing.T) format.Params {
	t.Helper()
	p, err := format.Params{}.Check(cmsfile.New())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWorkerPlans(t *testing.T) {
	content := strings.Repeat("some artifact\n", 10_000)
	got, err := worker(t).Plan(t.Context(), file(t, content), inspector.Job{Name: "a.bin", Size: int64(len(content)), Format: "cms", Params: params(t)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := cmsfile.New().Plan(t.Context(), format.BytesArtifact("a.bin", []byte(content)), params(t))
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the worker's plan differs")
	}
}

// Whatever a file does to its parser ends in a finding.
func TestHostileFiles(t *testing.T) {
	for content, want := range map[string]string{
		"panic": "crash", "exit": "none", "hang": "longer", "spin": "limit", "sleep": "longer", "error": "bad[31m file", "stdout": "none",
		"environment": "0 variables", "read": "cannot read", "write": "cannot write",
	} {
		t.Run(content, func(t *testing.T) {
			w := worker(t)
			if content == "sleep" || content == "hang" {
				w.Limits.Time = time.Second
			}
			if content == "spin" {
				w.Limits.CPU = time.Second
			}
			_, err := w.Plan(t.Context(), file(t, content), inspector.Job{Name: "x", Size: int64(len(content)), Format: "cms", Params: params(t)})
			if err == nil || !inspector.IsFinding(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want a finding with %q", err, want)
			}
		})
	}
	t.Run("memory", func(t *testing.T) {
		if memory == inspector.NoMemoryLimit {
			return // the race detector's own memory knows no limit; the plain run tests it
		}
		_, err := worker(t).Plan(t.Context(), file(t, "memory"), inspector.Job{Name: "x", Size: 6, Format: "cms", Params: params(t)})
		if !inspector.IsFinding(err) || !strings.Contains(err.Error(), "crash") {
			t.Errorf("%v, want a crash", err)
		}
	})
	t.Run("another size", func(t *testing.T) {
		_, err := worker(t).Plan(t.Context(), file(t, "12345"), inspector.Job{Name: "x", Size: 6, Format: "cms", Params: params(t)})
		if !inspector.IsFinding(err) {
			t.Errorf("%v, want a finding", err)
		}
	})
	t.Run("unknown format", func(t *testing.T) {
		_, err := worker(t).Plan(t.Context(), file(t, "1"), inspector.Job{Name: "x", Size: 1, Format: "exe", Params: params(t)})
		if !inspector.IsFinding(err) {
			t.Errorf("%v, want a finding", err)
		}
	})
	t.Run("endless answer", func(t *testing.T) {
		w := worker(t)
		w.Command[1] = "flood"
		w.Limits.Time = 2 * time.Second
		_, err := w.Plan(t.Context(), file(t, "1"), inspector.Job{Name: "x", Size: 1, Format: "cms", Params: params(t)})
		if !inspector.IsFinding(err) {
			t.Errorf("%v, want a finding", err)
		}
	})
}

// What is not the file's fault is no finding.
func TestNoFinding(t *testing.T) {
	w := worker(t)
	job := inspector.Job{Name: "x", Size: 1, Format: "cms", Params: params(t)}
	gone := w
	gone.Command = []string{"/nonexistent/worker"}
	if _, err := gone.Plan(t.Context(), file(t, "1"), job); err == nil || inspector.IsFinding(err) {
		t.Errorf("no worker: %v", err)
	}
	if _, err := w.Plan(t.Context(), "/nonexistent/file", job); err == nil || inspector.IsFinding(err) {
		t.Errorf("no file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Plan(ctx, file(t, "1"), job); err == nil || inspector.IsFinding(err) {
		t.Errorf("cancelled: %v", err)
	}
	var errs bytes.Buffer
	if code := inspector.Serve(strings.NewReader("no job"), io.Discard, &errs, nil); code == 0 || errs.Len() == 0 {
		t.Errorf("a worker without a job: %d", code)
	}
}

type site struct {
	*servertest.World
	s *server.Server
}

func newSite(t *testing.T) *site {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	return &site{w, s}
}

func (x *site) config(t *testing.T) inspector.Config {
	return inspector.Config{Name: "gate", Signer: servertest.Signer("gate"), Deployment: "test", Worker: worker(t), Clock: x.Now, Parallel: 2}
}

// run runs an inspector until the test ends.
func (x *site) run(t *testing.T, src inspector.Source, c inspector.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- inspector.Run(ctx, src, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (x *site) submit(t *testing.T, items [][]byte) (statement.ID, []byte) {
	t.Helper()
	env := x.Sign("alice", "checked", items)
	r, _, err := x.s.Submit(t.Context(), env, items)
	if err != nil {
		t.Fatal(err)
	}
	return r.ID, env
}

func (x *site) upload(t *testing.T, id statement.ID, i int, b []byte) {
	t.Helper()
	if _, err := x.s.Upload(t.Context(), id, i, 0, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}

// Invariant 1: endorsed when every byte is there and every plan is equal, and not
// before; then the uploads are gone.
func TestEndorses(t *testing.T) {
	x := newSite(t)
	x.run(t, inspector.Local(x.s), x.config(t))
	id, env := x.submit(t, x.Files("app", 3))
	for i := range 2 {
		x.upload(t, id, i, servertest.Content("app", i))
	}
	half := servertest.Content("app", 2)
	x.upload(t, id, 2, half[:5])
	if r, err := x.s.Get(t.Context(), id); err != nil || len(r.Endorsements) != 0 {
		t.Fatalf("endorsed before all has arrived: %v %v", r, err)
	}
	if _, err := x.s.Upload(t.Context(), id, 2, 5, bytes.NewReader(half[5:])); err != nil {
		t.Fatal(err)
	}
	r := x.verdict(t, id)
	if r.Endorsements[0].Verdict != statement.Endorse {
		t.Fatalf("verdict: %s", r.Endorsements[0].Envelope)
	}
	v, err := x.s.View(t.Context(), r, false)
	if err != nil || len(v.Recomputed) != 1 || v.Recomputed[0] != "gate" {
		t.Errorf("recomputed by %v, %v", v.Recomputed, err)
	}
	if _, err := x.s.Endorse(t.Context(), x.Endorse("bob", env)); err != nil {
		t.Fatal(err)
	}
	x.Until(x.s, id, store.Executed)
}

// verdict waits for the inspector's.
func (x *site) verdict(t *testing.T, id statement.ID) *store.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := x.s.Get(ctx, id)
	for err == nil && len(r.Endorsements) == 0 && ctx.Err() == nil {
		r, err = x.s.Await(ctx, id, r.Revision)
	}
	if err != nil || len(r.Endorsements) == 0 {
		t.Fatalf("no verdict: %v", err)
	}
	return r
}

func TestDisapproves(t *testing.T) {
	x := newSite(t)
	x.run(t, inspector.Local(x.s), x.config(t))
	for what, c := range map[string]struct{ planned, uploaded string }{
		"other content": {"the good bytes", "the evil bytes"},
		"crash":         {"ok...", "panic"},
		"error":         {"harm.", "error"},
	} {
		t.Run(what, func(t *testing.T) {
			id, _ := x.submit(t, [][]byte{x.Item("a.bin", []byte(c.planned)), x.Item("b.bin", []byte("fine: "+what))})
			x.upload(t, id, 0, []byte(c.uploaded))
			x.upload(t, id, 1, []byte("fine: "+what))
			r := x.verdict(t, id)
			if r.State != store.Disapproved || r.Endorsements[0].Verdict != statement.Disapprove {
				t.Fatalf("%s: %s", r.State, r.Endorsements[0].Envelope)
			}
			if !strings.Contains(r.Detail, "file 0 (a.bin)") || strings.ContainsAny(r.Detail, "\x1b\n") {
				t.Errorf("reason: %q", r.Detail)
			}
		})
	}
}

// Invariant 4: a server that shows other items than were signed gets no verdict.
type lying struct {
	inspector.Source
	items [][]byte
}

func (l lying) Items(context.Context, statement.ID) ([][]byte, error) { return l.items, nil }

func TestLyingServer(t *testing.T) {
	x := newSite(t)
	items := x.Files("app", 1)
	id, env := x.submit(t, items)
	_, req, err := statement.DecodeEnveloped[statement.Request](env)
	if err != nil {
		t.Fatal(err)
	}
	x.upload(t, id, 0, servertest.Content("app", 0))
	for what, other := range map[string][][]byte{"others": x.Files("else", 1), "more": append(x.Files("app", 1), x.Files("else", 1)...), "none": nil} {
		if v, err := inspector.Inspect(t.Context(), lying{inspector.Local(x.s), other}, x.config(t), id, &req); err == nil {
			t.Errorf("%s: verdict %+v", what, v)
		}
	}
	if v, err := inspector.Inspect(t.Context(), inspector.Local(x.s), x.config(t), id, &req); err != nil || v.Verdict != statement.Endorse || v.Findings[0].Value != "1 of 1" {
		t.Errorf("the truth: %+v %v", v, err)
	}
}
