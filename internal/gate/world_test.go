package gate_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/sshagent"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/endorser"
	"github.com/greatseal-io/greatseal/internal/gate"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/inspector"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// TestMain is also what the tests start: workers, and gates that are killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "gate" {
		c, err := gate.ReadConfig(os.Args[2])
		if err == nil {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			err = gate.Run(ctx, c, gate.Host{Worker: worker(), Clock: time.Now, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Version: "test"})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "inspector-worker" {
		os.Exit(inspector.Serve(os.Stdin, os.Stdout, os.Stderr, servertest.Formats()))
	}
	os.Exit(m.Run())
}

func worker() inspector.Worker {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return inspector.Worker{Command: []string{exe, "inspector-worker"}, Limits: inspector.Limits{Memory: inspector.NoMemoryLimit}}
}

// site is a deployment with its API, whose machine "gate" has a key file.
type site struct {
	*servertest.World
	t    *testing.T
	s    *server.Server
	http *httptest.Server
	key  string // file
}

func newSite(t *testing.T, wrap func(http.Handler) http.Handler) *site {
	t.Helper()
	x := &site{t: t, key: filepath.Join(t.TempDir(), "gate.key")}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", x.key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen (apt-get install openssh-client): %v: %s", err, out)
	}
	signer, err := sshagent.File(x.key, nil)
	if err != nil {
		t.Fatal(err)
	}
	x.World = servertest.New(t, func(c *charter.Charter) {
		c.Machines["gate"] = charter.Machine{Inspector: true, Credentials: []charter.Credential{charter.CredentialOf(signer.Credential())}}
		p := c.Policies["checked"]
		p.Rule.Veto = []string{"officers"} // the gate is a branch of the quorum, and no more
		c.Policies["scanned"] = p
	})
	st := x.Store("")
	x.s, _ = x.Server(st)
	a, err := api.New(api.Config{Server: x.s, Store: st, Clock: x.Now, Version: "test", Uploads: true, Formats: []string{"pe", "cms"},
		Limits: api.Limits{PerSecond: 1e6, Burst: 1e6, AnonPerSecond: 1e6}})
	if err != nil {
		t.Fatal(err)
	}
	h := a.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	x.http = httptest.NewServer(h)
	t.Cleanup(func() { a.Stop(); x.http.CloseClientConnections(); x.http.Close() })
	return x
}

// config writes a gate's configuration with a check.
func (x *site) config(check string) string {
	x.t.Helper()
	dir := x.t.TempDir()
	path := filepath.Join(dir, "gate.yaml")
	text := fmt.Sprintf("server: %s\nroot: %s\nname: gate\nkey: %s\nstate: state\nretry: 300ms\n%s", x.http.URL, x.Pin, x.key, check)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
	return path
}

// start runs a gate in a process of its own.
func (x *site) start(config string) *exec.Cmd {
	x.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		x.t.Fatal(err)
	}
	c := exec.Command(exe, "gate", config)
	var log bytes.Buffer
	c.Stderr = &log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		c.Wait()
		if x.t.Failed() {
			x.t.Logf("gate: %s", log.String())
		}
	})
	return c
}

// inProcess runs a gate with a check in this process until the test ends.
func (x *site) inProcess(kind string, c check.Check) *gate.Gate {
	x.t.Helper()
	signer, err := sshagent.File(x.key, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	j, err := endorser.Open(x.t.TempDir())
	if err != nil {
		x.t.Fatal(err)
	}
	g := &gate.Gate{Kind: kind, Check: c, Name: "gate", Deployment: "test", Signer: signer, Worker: worker(), Journal: j, Clock: x.Now,
		Logger: slog.New(slog.DiscardHandler), Retry: time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, endorser.Local(x.s)) }()
	x.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			x.t.Error(err)
		}
		j.Close()
	})
	return g
}

// submit requests the signature of files and uploads them.
func (x *site) submit(policy string, files map[string]string, names ...string) (statement.ID, []byte) {
	x.t.Helper()
	var items [][]byte
	for _, n := range names {
		items = append(items, x.Item(n, []byte(files[n])))
	}
	return x.request(policy, items, func(i int) []byte { return []byte(files[names[i]]) })
}

func (x *site) request(policy string, items [][]byte, content func(int) []byte) (statement.ID, []byte) {
	x.t.Helper()
	env := x.Sign("alice", policy, items)
	r, _, err := x.s.Submit(x.t.Context(), env, items)
	if err != nil {
		x.t.Fatal(err)
	}
	for i := range items {
		if _, err := x.s.Upload(x.t.Context(), r.ID, i, 0, bytes.NewReader(content(i))); err != nil {
			x.t.Fatal(err)
		}
	}
	return r.ID, env
}

// verdict waits for the gate's.
func (x *site) verdict(id statement.ID) (*store.Request, *statement.Endorsement) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), time.Minute)
	defer cancel()
	r, err := x.s.Get(ctx, id)
	for err == nil && len(r.Endorsements) == 0 && ctx.Err() == nil {
		r, err = x.s.Await(ctx, id, r.Revision)
	}
	if err != nil || len(r.Endorsements) != 1 {
		x.t.Fatalf("no verdict: %v", err)
	}
	env, err := statement.DecodeEnvelope(r.Endorsements[0].Envelope)
	if err != nil {
		x.t.Fatal(err)
	}
	e, err := statement.Decode[statement.Endorsement](env.Payload)
	if err != nil {
		x.t.Fatal(err)
	}
	return r, &e
}

// until waits for something that happens in another goroutine or process.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// pattern is what the tests' signature database takes for malware.
const pattern = "the evil twin of a program"

// clamd is the real scanner with a signature database of the test's own.
type clamd struct{ dir, socket string }

func newClamd(t *testing.T) *clamd {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &clamd{dir, filepath.Join(dir, "clamd.sock")}
	db := filepath.Join(dir, "db")
	conf := fmt.Sprintf("LocalSocket %s\nDatabaseDirectory %s\nForeground yes\nStreamMaxLength 1M\n", c.socket, db)
	for path, text := range map[string]string{
		filepath.Join(dir, "clamd.conf"): conf,
		filepath.Join(db, "test.ndb"):    "Greatseal.Test.Twin:0:*:" + hex.EncodeToString([]byte(pattern)) + "\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *clamd) start(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("clamd")
	if err != nil {
		path = "/usr/sbin/clamd"
	}
	p := exec.Command(path, "-c", filepath.Join(c.dir, "clamd.conf"))
	var log bytes.Buffer
	p.Stdout, p.Stderr = &log, &log
	if err := p.Start(); err != nil {
		t.Fatalf("clamd (apt-get install clamav-daemon): %v", err)
	}
	ended := make(chan struct{})
	go func() { p.Wait(); close(ended) }()
	t.Cleanup(func() { p.Process.Kill(); <-ended })
	until(t, "clamd", func() bool {
		select {
		case <-ended:
			t.Fatalf("clamd: %s", log.String())
		default:
		}
		_, err := os.Stat(c.socket)
		return err == nil
	})
}
