//go:build linux

package crashes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/keeper/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/stamp"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/pkcs11"
	"github.com/greatseal-io/greatseal/statement"
)

// The test binary is every process of a deployment. What it is, and at which step
// it kills itself, stands in its environment.
const (
	envRole = "CRASH_ROLE" // keeper, server, client
	envDir  = "CRASH_DIR"
	envRoot = "CRASH_ROOT" // ID of the charter
	envDSN  = "CRASH_DSN"
	envName = "CRASH_NAME" // of the server's socket
	envStep = "CRASH_STEP"
	envNth  = "CRASH_NTH"
	envRoom = "CRASH_ROOM" // bytes that the keeper's ledger may still grow
	envHSM  = "CRASH_HSM"  // program, module and configuration of the HSM
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(envRole) {
	case "":
		os.Exit(m.Run())
	case "keeper":
		err = beKeeper()
	case "server":
		err = beServer()
	case "client":
		err = beClient()
	default:
		err = errors.New("unknown role")
	}
	fmt.Fprintln(os.Stderr, os.Getenv(envRole)+":", err)
	os.Exit(1)
}

// fuse kills the process the nth time that it comes to a step.
func fuse() func(string) {
	step := os.Getenv(envStep)
	left, err := strconv.Atoi(os.Getenv(envNth))
	if err != nil {
		left = 1
	}
	var mu sync.Mutex
	return func(s string) {
		if s != step {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

func keeperIn(dir string) config.KeeperIn {
	in := config.KeeperIn{Dir: filepath.Join(dir, "keeper"), Keystore: filepath.Join(dir, "keystore"), PassphraseFile: filepath.Join(dir, "passphrase"),
		ReceiptKey: "soft:keeper-receipts", LogKey: "soft:keeper-log"}
	if hsm := strings.Fields(os.Getenv(envHSM)); len(hsm) == 3 {
		in.PKCS11 = []config.PKCS11{{Module: hsm[1], PINFile: filepath.Join(dir, "pin"), Env: []string{"SOFTHSM2_CONF=" + hsm[2]}}}
	}
	return in
}

func hostOptions() host.Options {
	o := host.Options{Formats: all.Formats(), Clock: time.Now, Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler), Hook: fuse()}
	o.PKCS11 = func(ctx context.Context, c config.PKCS11, log *slog.Logger) (key.Provider, error) {
		return pkcs11.Open(ctx, pkcs11.Config{Command: []string{strings.Fields(os.Getenv(envHSM))[0], "pkcs11-module"}, Env: c.Env, Module: c.Module, Logger: log,
			PIN: func(context.Context, pkcs11.Token) ([]byte, error) { return config.Secret(c.PINFile) }})
	}
	return o
}

func keeperSocket(dir string) string { return filepath.Join(dir, "s", "keeper") }

func beKeeper() error {
	dir := os.Getenv(envDir)
	root, err := statement.ParseID(os.Getenv(envRoot))
	if err != nil {
		return err
	}
	if room := os.Getenv(envRoom); room != "" {
		n, err := strconv.ParseUint(room, 10, 64)
		if err != nil {
			return err
		}
		fi, err := os.Stat(filepath.Join(dir, "keeper", "ledger"))
		if err != nil {
			return err
		}
		signal.Ignore(syscall.SIGXFSZ) // a write beyond it fails, as on a full disk
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(fi.Size()) + n, Max: unix.RLIM_INFINITY}); err != nil {
			return err
		}
	}
	h, err := host.Open(context.Background(), keeperIn(dir), root, hostOptions())
	if err != nil {
		return err
	}
	ln, err := wire.Listen(keeperSocket(dir))
	if err != nil {
		return err
	}
	return wire.Server{Keeper: h, UIDs: []uint32{uint32(os.Geteuid())}}.Serve(context.Background(), ln)
}

func dialKeeper(ctx context.Context, dir string) (keeper.Keeper, error) {
	return wire.Dial(ctx, wire.Config{Network: "unix", Address: keeperSocket(dir), Backoff: 100 * time.Millisecond})
}

func openServer(ctx context.Context, dir, dsn string, root statement.ID, hook func(string)) (*server.Server, *store.SQL, error) {
	k, err := dialKeeper(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	st, err := store.Open(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	s, err := server.New(ctx, server.Config{Store: st, Keeper: k, Formats: all.Formats(), Pin: root, Stamper: &stamp.Stamper{Keeper: k},
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Hook: hook})
	return s, st, err
}

func beServer() error {
	dir := os.Getenv(envDir)
	root, err := statement.ParseID(os.Getenv(envRoot))
	if err != nil {
		return err
	}
	s, _, err := openServer(context.Background(), dir, os.Getenv(envDSN), root, fuse())
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "s", os.Getenv(envName))
	os.Remove(path)
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	r := rpc.NewServer()
	if err := r.RegisterName("Office", &Office{s}); err != nil {
		return err
	}
	go r.Accept(ln)
	return s.Run(context.Background())
}

// Office is the server as the test's people reach it.
type Office struct{ s *server.Server }

// Submission is a request with its items.
type Submission struct {
	Envelope []byte
	Items    [][]byte
}

// Submit hands in a request.
func (o *Office) Submit(in Submission, out *store.Request) error {
	r, _, err := o.s.Submit(context.Background(), in.Envelope, in.Items)
	return give(r, err, out)
}

// Endorse hands in an endorsement.
func (o *Office) Endorse(in []byte, out *store.Request) error {
	r, err := o.s.Endorse(context.Background(), in)
	return give(r, err, out)
}

// Get returns a request.
func (o *Office) Get(in statement.ID, out *store.Request) error {
	r, err := o.s.Get(context.Background(), in)
	return give(r, err, out)
}

// Key returns a key.
func (o *Office) Key(in string, out *keeper.KeyStatus) error {
	k, err := o.s.Key(context.Background(), in)
	return give(k, err, out)
}

// Collect returns a result.
func (o *Office) Collect(in statement.ID, out *server.Result) error {
	r, err := o.s.Collect(context.Background(), in)
	return give(r, err, out)
}

// Refusal marks an answer of the server's own: asking again does not help.
const refusal = "refused: "

func give[T any](v *T, err error, out *T) error {
	if err != nil {
		if p := server.AsProblem(err); p.Status < 500 && p.Code != "conflict" {
			return errors.New(refusal + p.Code + ": " + p.Detail)
		}
		return err
	}
	*out = *v
	return nil
}

// process is a running child.
type process struct {
	cmd  *exec.Cmd
	out  *os.File
	done chan struct{} // closed when it has ended
}

// spawn starts this program as something else.
func spawn(dir string, env ...string) (*process, error) {
	out, err := os.CreateTemp(dir, "output")
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^$"), out: out, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends a process without warning.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
	p.out.Close()
}

// killed reports whether a process that has ended was killed, not failed.
func (p *process) killed() bool {
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

func (p *process) said() string {
	b, _ := os.ReadFile(p.out.Name())
	return string(b)
}

// await waits until a socket answers.
func (p *process) await(path string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", path); err == nil {
			return c.Close()
		}
		if !p.running() {
			return fmt.Errorf("it has ended: %s", p.said())
		}
	}
	return errors.New("it does not listen")
}
