package gate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/endorser"
	"github.com/greatseal-io/greatseal/internal/gate"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/gate/clamav"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// An infected file stops a request: the quorum cannot be reached, and the requester
// learns why; a clean one is signed. The gate is a process of its own, over HTTP, and
// the scanner is the real one.
func TestClamAVStopsMalware(t *testing.T) {
	x := newSite(t, nil)
	d := newClamd(t)
	d.start(t)
	canary := filepath.Join(d.dir, "canary")
	if err := os.WriteFile(canary, []byte("canary: "+pattern), 0o600); err != nil {
		t.Fatal(err)
	}
	x.start(x.config(fmt.Sprintf("clamav:\n  socket: %s\n  canary: %s\n  max_size: 65536\n", d.socket, canary)))

	files := map[string]string{"app.bin": "an honest program", "twin.bin": "this is " + pattern + ", hidden", "large.bin": strings.Repeat("x", 65537)}
	id, _ := x.submit("scanned", files, "app.bin", "twin.bin")
	r, e := x.verdict(id)
	if e.Verdict != statement.Disapprove || e.Comment != "file 1 (twin.bin): malware: Greatseal.Test.Twin.UNOFFICIAL" {
		t.Errorf("infected: %s %q", e.Verdict, e.Comment)
	}
	v, err := x.s.View(t.Context(), r, true)
	if err != nil {
		t.Fatal(err)
	}
	if r.State != store.Pending || !strings.HasSuffix(v.Unreachable, "cannot be reached: gate (file 1 (twin.bin): malware: Greatseal.Test.Twin.UNOFFICIAL) disapproved") {
		t.Errorf("the requester sees %s, %q", r.State, v.Unreachable)
	}

	id, env := x.submit("checked", files, "twin.bin") // where gates have a veto
	r, _ = x.verdict(id)
	if r.State != store.Disapproved || !strings.Contains(r.Detail, "malware: Greatseal.Test.Twin") {
		t.Errorf("infected, with a veto: %s %q", r.State, r.Detail)
	}
	if _, err := x.s.Endorse(t.Context(), x.Endorse("bob", env)); err == nil {
		t.Error("the request takes endorsements yet")
	}

	id, _ = x.submit("checked", files, "large.bin")
	if _, e := x.verdict(id); e.Verdict != statement.Disapprove || !strings.Contains(e.Comment, "65537 bytes are more than the malware scanner takes") {
		t.Errorf("large: %s %q", e.Verdict, e.Comment)
	}

	id, env = x.submit("scanned", files, "app.bin")
	if _, e := x.verdict(id); e.Verdict != statement.Endorse || fmt.Sprint(e.Findings) != "[{gate clamav} {plans-recomputed 1 of 1}]" {
		t.Errorf("clean: %s %q %v", e.Verdict, e.Comment, e.Findings)
	}
	if _, err := x.s.Endorse(t.Context(), x.Endorse("bob", env)); err != nil {
		t.Fatal(err)
	}
	x.Until(x.s, id, store.Executed)
}

// A scanner that cannot be reached gives no verdict; when it is back, there is one.
func TestScannerAway(t *testing.T) {
	x := newSite(t, nil)
	d := newClamd(t)
	s, err := clamav.New(clamav.Config{Socket: d.socket, Clock: x.Now})
	if err != nil {
		t.Fatal(err)
	}
	g := x.inProcess("clamav", s)
	id, _ := x.submit("scanned", map[string]string{"app.bin": "honest"}, "app.bin")
	until(t, "a try", func() bool { return g.Metrics.Undecided.Load() > 0 })
	if r, err := x.s.Get(t.Context(), id); err != nil || len(r.Endorsements) != 0 {
		t.Fatalf("a verdict without a scanner: %v", err)
	}
	d.start(t)
	x.Pass(time.Second)
	if _, err := x.s.Upload(t.Context(), id, 0, 6, bytes.NewReader(nil)); err != nil { // news
		t.Fatal(err)
	}
	if _, e := x.verdict(id); e.Verdict != statement.Endorse {
		t.Errorf("%s %q", e.Verdict, e.Comment)
	}
	if g.Metrics.Endorsed.Load() != 1 || g.Metrics.Disapproved.Load() != 0 {
		t.Error("metrics do not count the verdict")
	}
}

// opinion is a check of the tests' own.
type opinion struct {
	f     func(*check.File) (check.Opinion, error)
	bytes bool
}

func (o opinion) Bytes() bool { return o.bytes }
func (o opinion) File(_ context.Context, f *check.File) (check.Opinion, error) {
	return o.f(f)
}

// Invariant 2: bytes that give another plan are not even checked, and disapproved.
func TestOtherBytes(t *testing.T) {
	x := newSite(t, nil)
	x.inProcess("test", opinion{func(*check.File) (check.Opinion, error) {
		t.Error("other bytes than will be signed were checked")
		return check.For("fine"), nil
	}, true})
	id, _ := x.request("checked", [][]byte{x.Item("app.bin", []byte("clean"))}, func(int) []byte { return []byte("CLEAN") })
	if _, e := x.verdict(id); e.Verdict != statement.Disapprove || !strings.Contains(e.Comment, "the uploaded bytes give another plan") {
		t.Errorf("%s %q", e.Verdict, e.Comment)
	}
}

// Invariants 1, 3 and 5.
func TestOpinions(t *testing.T) {
	x := newSite(t, nil)
	items := x.Files("app", 3)
	env := x.Sign("alice", "checked", items)
	r, _, err := x.s.Submit(t.Context(), env, items)
	if err != nil {
		t.Fatal(err)
	}
	_, req, err := statement.DecodeEnveloped[statement.Request](env)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(f func(*check.File) (check.Opinion, error)) (*statement.Endorsement, error) {
		g := &gate.Gate{Kind: "test", Check: opinion{f, false}, Clock: x.Now, Secrets: []string{"s3cr3t-token"}, Parallel: 1}
		return g.Judge(t.Context(), endorser.Local(x.s), r.ID, &req)
	}
	last := func(o check.Opinion, err error) func(*check.File) (check.Opinion, error) {
		return func(f *check.File) (check.Opinion, error) {
			if f.Index == 2 {
				return o, err
			}
			return check.For("fine"), nil
		}
	}
	if v, err := judge(last(check.For("fine"), nil)); err != nil || v.Verdict != statement.Endorse || len(v.Findings) != 1 {
		t.Errorf("three endorsed files: %+v %v", v, err)
	}
	if v, err := judge(last(check.Against("bad"), nil)); err != nil || v.Verdict != statement.Disapprove || v.Comment != "file 2 (app-2.bin): bad" {
		t.Errorf("one file disapproved: %+v %v", v, err)
	}
	if v, err := judge(last(check.Opinion{}, nil)); err != nil || v.Verdict != statement.Disapprove {
		t.Errorf("the zero opinion: %+v %v", v, err)
	}
	if v, err := judge(last(check.For("fine"), errors.New("away"))); err == nil {
		t.Errorf("an error: %+v", v)
	}
	v, err := judge(last(check.Against("two\nlines \u202e\x1b[31m with s3cr3t-token "+strings.Repeat("é", 1000)), nil))
	if err != nil || strings.ContainsAny(v.Comment, "\n\x1b\u202e") || strings.Contains(v.Comment, "s3cr3t") || len(v.Comment) > 504 {
		t.Errorf("comment: %q %v", v.Comment, err)
	}
}

// lost is an API that loses the first verdict: the gate dies before it knows whether
// it has arrived.
type lost struct {
	mu    sync.Mutex
	seen  [][]byte
	first chan struct{}
}

func (l *lost) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/endorsements") {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			l.mu.Lock()
			l.seen = append(l.seen, b)
			n := len(l.seen)
			l.mu.Unlock()
			if n == 1 {
				close(l.first)
				<-r.Context().Done()
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
		h.ServeHTTP(w, r)
	})
}

// Invariant 4: killed between verdict and arrival, the gate hands in the very same
// verdict, and judges nothing twice.
func TestKilled(t *testing.T) {
	l := &lost{first: make(chan struct{})}
	x := newSite(t, l.wrap)
	dir := t.TempDir()
	script := filepath.Join(dir, "judge")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ncat >/dev/null\necho run >>"+dir+"/runs\necho looked at it; exit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := x.config("command:\n  command: [" + script + "]\n")
	first := x.start(config)
	id, _ := x.submit("scanned", map[string]string{"app.bin": "honest"}, "app.bin")
	select {
	case <-l.first:
	case <-time.After(time.Minute):
		t.Fatal("no verdict")
	}
	if err := syscall.Kill(-first.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first.Wait()
	if r, err := x.s.Get(t.Context(), id); err != nil || len(r.Endorsements) != 0 {
		t.Fatalf("the verdict was not lost: %v", err)
	}
	x.start(config)
	if _, e := x.verdict(id); e.Verdict != statement.Endorse || e.Comment != "looked at it" {
		t.Errorf("%s %q", e.Verdict, e.Comment)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) < 2 || !bytes.Equal(l.seen[0], l.seen[1]) {
		t.Errorf("%d verdicts, not the same one", len(l.seen))
	}
	if b, err := os.ReadFile(dir + "/runs"); err != nil || string(b) != "run\n" {
		t.Errorf("the program ran %q", b)
	}
}

// A state folder is one process's.
func TestJournalIsExclusive(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "greatseal-inspect-1"), []byte("left behind"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := endorser.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "greatseal-inspect-1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an artifact was left behind: %v", err)
	}
	if _, err := endorser.Open(dir); !errors.Is(err, endorser.ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	j.Close()
	if j, err = endorser.Open(dir); err != nil {
		t.Fatal(err)
	}
	j.Close()
}
