//go:build linux

package notices_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/notify/notifytest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// The test binary is the process that is killed, too.
const (
	envDir  = "NOTICES_DIR"
	envPort = "NOTICES_PORT"
	envStep = "NOTICES_STEP"
	envHour = "NOTICES_AHEAD" // its clock's advance
)

func TestMain(m *testing.M) {
	if os.Getenv(envDir) == "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, deliverer())
	os.Exit(1)
}

// deliverer delivers until it is killed: by itself when it comes to its step.
func deliverer() error {
	dir := os.Getenv(envDir)
	port, err := strconv.Atoi(os.Getenv(envPort))
	if err != nil {
		return err
	}
	ahead, err := time.ParseDuration(os.Getenv(envHour))
	if err != nil {
		return err
	}
	st, err := store.Open(context.Background(), "sqlite:"+filepath.Join(dir, "greatseal.db"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	m, err := notify.NewMailer(notify.SMTP{Host: "localhost", Port: port, From: "seal@acme.example", TLS: "starttls", Roots: roots})
	if err != nil {
		return err
	}
	var once sync.Mutex
	e, err := notices.New(notices.Config{Store: st, Mailer: m, Operators: []string{"bob"}, People: map[string]notices.Contact{"bob": {Mail: "bob@acme.example"}},
		Clock: func() time.Time { return time.Now().Add(ahead) }, Defaults: defaults, Logger: slog.New(slog.DiscardHandler),
		Hook: func(s string) {
			if s == os.Getenv(envStep) {
				once.Lock() // the second one that comes here waits for the end
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}})
	if err != nil {
		return err
	}
	e.Run(context.Background(), nil)
	return nil
}

// kill -9 at every step: everybody is told, nobody twice but where the process was
// killed with the receiver's answer in its hands; then with one Message-ID.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, step := range notices.Steps() {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			killed(t, step, 1)
			if step != "notice.kept" && step != "notice.folded" { // after which nothing is left to do again
				killed(t, step, 2)
			}
		})
	}
}

func killed(t *testing.T, step string, times int) {
	t.Helper()
	mail := notifytest.Start(t, "starttls")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mail.Certificate}), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "greatseal.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	digest := step == "notice.fold" || step == "notice.folded"
	if digest {
		e, err := notices.New(notices.Config{Store: st, Clock: time.Now, Defaults: defaults})
		if err != nil {
			t.Fatal(err)
		}
		p := defaults
		p.Deliver = "hourly"
		if err := e.SetPreferences(t.Context(), "bob", p); err != nil {
			t.Fatal(err)
		}
	}
	j, err := notices.Alert(notify.Rejected, "r1", "prod", time.Now(), notify.Fact{Name: "Agent", Value: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Enqueue(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	ahead := time.Duration(0)
	run := func(step string) *exec.Cmd {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), envDir+"="+dir, envPort+"="+strconv.Itoa(mail.Port), envStep+"="+step, envHour+"="+ahead.String())
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if digest { // to have something held
		c := run("none")
		until(t, "it is held", func() bool {
			list, err := st.HeldNotices(t.Context(), "bob", time.Now().Add(2*time.Hour), 10)
			return err == nil && len(list) == 1 && resting(t, st, "notice.digest")
		})
		c.Process.Kill()
		c.Wait()
		ahead = 61 * time.Minute
	}
	for range times {
		c := run(step)
		done := make(chan error, 1)
		go func() { done <- c.Wait() }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			c.Process.Kill()
			t.Fatalf("%s is not reached", step)
		}
		if s, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
			t.Fatalf("%s: %v", step, c.ProcessState)
		}
		ahead += 6 * time.Minute // the lease is over
	}
	c := run("none")
	defer func() { c.Process.Kill(); c.Wait() }()
	until(t, "rest", func() bool { return resting(t, st, "") })
	want, most := 1, 1
	switch {
	case step == "notice.handed":
		want, most = 2, 2 // the receiver had it, and nobody knew
	case step == "notice.hand" && times == 2:
		want, most = 0, 0 // nobody knows that it was not handed over: invariant 2
	case times == 2:
		most = 2 // planned again while the first plan's is on its way
	}
	got, ids := mail.Wait(want), map[string]bool{} // a mail is seen a moment after it was taken
	for _, m := range got {
		h, _ := m.Parse(t)
		ids[h.Get("Message-Id")] = true
	}
	if len(got) < want || len(got) > most || len(ids) > 1 {
		t.Errorf("%s, %d times: %d mails of %d IDs", step, times, len(got), len(ids))
	}
}

// resting reports whether no job is left but those of a kind.
func resting(t *testing.T, st *store.SQL, but string) bool {
	t.Helper()
	jobs, err := st.Jobs(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	delete(jobs, but)
	return len(jobs) == 0
}
