package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// fake answers with what it is asked, or waits.
type fake struct {
	mu       sync.Mutex
	orders   []*keeper.Order
	observed []byte

	considered []quorum.Evidence

	err   error
	gate  chan struct{} // Chain waits for it
	ended atomic.Int32  // Chain calls whose context ended
}

func (f *fake) Status(context.Context) (*keeper.Status, error) {
	if err := f.failure(); err != nil {
		return nil, err
	}
	return &keeper.Status{
		ReceiptKey: []byte{1}, LogKey: []byte{2}, Charter: statement.CharterRef{Version: 3, ID: statement.ID{4}},
		Receipts: 5, LastReceipt: statement.ID{6}, Checkpoint: []byte{}, Version: "v", Stopped: "why",
		Keys: []keeper.KeyStatus{{Name: "k", State: "active", PublicKey: []byte{9}, Chain: [][]byte{{1}, {2}}}},
	}, nil
}

func (f *fake) Execute(_ context.Context, o *keeper.Order) (*keeper.Outcome, error) {
	f.mu.Lock()
	f.orders = append(f.orders, o)
	f.mu.Unlock()
	if err := f.failure(); err != nil {
		return nil, err
	}
	return &keeper.Outcome{Receipt: o.Evidence.Request, Signatures: [][][]byte{o.Items}, Chain: o.Evidence.Endorsements, Also: [][][]byte{}}, nil
}

func (f *fake) Checkpoint(_ context.Context, e *keeper.Extension) ([]byte, error) {
	return fmt.Appendf(nil, "%d %x %x", e.Size, e.Root, e.Consistency), f.failure()
}
func (f *fake) Timestamp(_ context.Context, r []byte) ([]byte, error) { return r, f.failure() }
func (f *fake) Receipts(_ context.Context, from uint64, limit int) ([]*keeper.Outcome, error) {
	return []*keeper.Outcome{{Receipt: fmt.Appendf(nil, "%d+%d", from, limit), Signatures: [][][]byte{}, Chain: [][]byte{}, Also: [][][]byte{}}}, f.failure()
}
func (f *fake) Observe(_ context.Context, r []byte) error {
	f.mu.Lock()
	f.observed = r
	f.mu.Unlock()
	return f.failure()
}
func (f *fake) Consider(_ context.Context, ev quorum.Evidence) error {
	f.mu.Lock()
	f.considered = append(f.considered, ev)
	f.mu.Unlock()
	return f.failure()
}
func (f *fake) Chain(ctx context.Context) ([]byte, error) {
	if f.gate == nil {
		return []byte("chain"), f.failure()
	}
	select {
	case <-f.gate:
		return []byte("chain"), nil
	case <-ctx.Done():
		f.ended.Add(1)
		return nil, ctx.Err()
	}
}
func (f *fake) Found(_ context.Context, e []byte) error { return f.failure() }
func (f *fake) Close() error                            { return nil }

// saw is the last order and the last receipt.
func (f *fake) saw() (o *keeper.Order, observed []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.orders); n > 0 {
		o = f.orders[n-1]
	}
	return o, f.observed
}

// pondered takes what was considered.
func (f *fake) pondered() []quorum.Evidence {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.considered
	f.considered = nil
	return list
}

func (f *fake) failure() error { f.mu.Lock(); defer f.mu.Unlock(); return f.err }

func (f *fake) fail(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.err = err }

func order() *keeper.Order {
	return &keeper.Order{Evidence: quorum.Evidence{Request: []byte("request"), Endorsements: [][]byte{{1}, {2}}}, Items: [][]byte{{3}, {}}}
}

// serveUnix serves k on a socket for as long as the test runs, or until stop.
func serveUnix(t testing.TB, path string, s Server) (stop func()) {
	t.Helper()
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	once := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(once)
	return once
}

func uids() []uint32 { return []uint32{uint32(os.Geteuid())} }

func socket(t testing.TB) string { return filepath.Join(t.TempDir(), "run", "k") }

func dial(t testing.TB, c Config) keeper.Keeper {
	t.Helper()
	k, err := Dial(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := x509.ParseCertificate(der)
	a := &authority{c, key, x509.NewCertPool()}
	a.pool.AddCert(c)
	return a
}

func (a *authority) issue(t testing.TB, name string, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func serveTCP(t testing.TB, s Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return ln.Addr().String()
}

// The same calls give the same answers in process, over a Unix socket and over
// mutual TLS.
func TestSameEverywhere(t *testing.T) {
	f := &fake{}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids()})
	ca := newAuthority(t)
	addr := serveTCP(t, Server{Keeper: f, Names: []string{"server"},
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "keeper", x509.ExtKeyUsageServerAuth)}, ClientCAs: ca.pool}})
	ctx := context.Background()
	for name, k := range map[string]keeper.Keeper{
		"in process": InProcess(f),
		"unix":       dial(t, Config{Network: "unix", Address: path}),
		"tcp": dial(t, Config{Network: "tcp", Address: addr,
			TLS: &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "server", x509.ExtKeyUsageClientAuth)}, RootCAs: ca.pool, ServerName: "keeper"}}),
	} {
		t.Run(name, func(t *testing.T) {
			f.fail(nil)
			st, err := k.Status(ctx)
			want, _ := f.Status(ctx)
			if err != nil || !reflect.DeepEqual(st, want) {
				t.Errorf("status %+v, want %+v, %v", st, want, err)
			}
			o := order()
			out, err := k.Execute(ctx, o)
			if err != nil || !reflect.DeepEqual(out, &keeper.Outcome{Receipt: []byte("request"), Signatures: [][][]byte{o.Items}, Chain: o.Evidence.Endorsements, Also: [][][]byte{}}) {
				t.Errorf("execute %+v, %v", out, err)
			}
			if got, _ := f.saw(); !reflect.DeepEqual(got, o) || got == o {
				t.Errorf("order %+v arrived as %+v", o, got)
			}
			if b, err := k.Checkpoint(ctx, &keeper.Extension{Size: 5, Root: []byte{1}, Consistency: [][]byte{{2}}}); err != nil || string(b) != "5 01 [02]" {
				t.Errorf("checkpoint %q, %v", b, err)
			}
			if b, err := k.Timestamp(ctx, []byte("tsq")); err != nil || string(b) != "tsq" {
				t.Errorf("timestamp %q, %v", b, err)
			}
			if outs, err := k.Receipts(ctx, 7, 1<<30); err != nil || len(outs) != 1 || string(outs[0].Receipt) != "7+1000" {
				t.Errorf("receipts %v, %v", outs, err)
			}
			if err := k.Observe(ctx, []byte("seen "+name)); err != nil {
				t.Errorf("observe: %v", err)
			}
			if _, seen := f.saw(); string(seen) != "seen "+name {
				t.Errorf("observed %q", seen)
			}
			if err := k.Consider(ctx, o.Evidence); err != nil {
				t.Errorf("consider: %v", err)
			}
			if list := f.pondered(); len(list) == 0 || !reflect.DeepEqual(list[len(list)-1], o.Evidence) {
				t.Errorf("considered %v", list)
			}
			if b, err := k.Chain(ctx); err != nil || string(b) != "chain" {
				t.Errorf("chain %q, %v", b, err)
			}
			f.fail(fmt.Errorf("%w: at midnight", keeper.ErrClock))
			if _, err := k.Execute(ctx, o); !errors.Is(err, keeper.ErrClock) || !strings.Contains(err.Error(), "at midnight") {
				t.Errorf("error arrived as %v", err)
			}
			f.fail(errors.New("secret detail"))
			if err := k.Found(ctx, nil); !errors.Is(err, keeper.ErrInternal) || strings.Contains(err.Error(), "secret") {
				t.Errorf("unforeseen error arrived as %v", err)
			}
		})
	}
}

func TestErrorsKeepTheirIdentity(t *testing.T) {
	for _, e := range []error{keeper.ErrMalformed, keeper.ErrLimit, keeper.ErrNotFounded, keeper.ErrFounded, keeper.ErrPin,
		keeper.ErrStopped, keeper.ErrClock, keeper.ErrUnavailable, keeper.ErrRollback, keeper.ErrCheckpoint, keeper.ErrReceipt,
		keeper.ErrTimestamp, keeper.ErrClosed, context.Canceled, context.DeadlineExceeded} {
		k := InProcess(&fake{err: fmt.Errorf("x: %w", e)})
		if _, err := k.Status(context.Background()); !errors.Is(err, e) {
			t.Errorf("%v arrived as %v", e, err)
		}
	}
}

// Calls on one connection do not wait for one another.
func TestPipelined(t *testing.T) {
	f := &fake{gate: make(chan struct{})}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids()})
	k := dial(t, Config{Network: "unix", Address: path})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if b, err := k.Chain(context.Background()); err != nil || string(b) != "chain" {
				t.Error(string(b), err)
			}
		})
	}
	for i := range 50 {
		o := order()
		o.Evidence.Request = fmt.Appendf(nil, "%d", i)
		if out, err := k.Execute(context.Background(), o); err != nil || !bytes.Equal(out.Receipt, o.Evidence.Request) {
			t.Fatal(out, err)
		}
	}
	close(f.gate)
	wg.Wait()
}

func TestCancel(t *testing.T) {
	f := &fake{gate: make(chan struct{})}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids()})
	k := dial(t, Config{Network: "unix", Address: path})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { _, err := k.Chain(ctx); done <- err }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := k.Status(context.Background()); err != nil {
		t.Errorf("the connection did not survive a cancelled call: %v", err)
	}
	// A cancelled context that was never sent, or was, ends in the keeper too:
	// Serve waits for every call when the test ends.
}

// Invariant 4, and the connection is made anew.
func TestReconnect(t *testing.T) {
	f := &fake{gate: make(chan struct{})}
	path := socket(t)
	stop := serveUnix(t, path, Server{Keeper: f, UIDs: uids()})
	k := dial(t, Config{Network: "unix", Address: path, Backoff: 50 * time.Millisecond})
	done := make(chan error)
	go func() { _, err := k.Chain(context.Background()); done <- err }()
	if _, err := k.Status(context.Background()); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; !errors.Is(err, keeper.ErrUnavailable) && !errors.Is(err, context.Canceled) {
		t.Errorf("call in flight: %v", err)
	}
	if _, err := k.Status(context.Background()); !errors.Is(err, keeper.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
	serveUnix(t, path, Server{Keeper: &fake{}, UIDs: uids()})
	if _, err := k.Status(context.Background()); err != nil {
		t.Errorf("somebody listens again: %v", err)
	}
	k.Close()
	if _, err := k.Status(context.Background()); !errors.Is(err, keeper.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestListen(t *testing.T) {
	path := socket(t)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, _ := os.Stat(path)
	di, _ := os.Stat(filepath.Dir(path))
	if fi.Mode().Perm() != 0o600 || di.Mode().Perm() != 0o700 {
		t.Errorf("modes %v %v", fi.Mode(), di.Mode())
	}
	if _, err := Listen(path); err == nil {
		t.Error("listened twice")
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	ln, err = Listen(path)
	if err != nil {
		t.Errorf("socket that a dead keeper left: %v", err)
	} else {
		ln.Close()
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("replaced a file")
	}
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(filepath.Dir(path), "other")); err == nil {
		t.Error("listened in a folder that others can enter")
	}
}

func TestLargeOrder(t *testing.T) {
	f := &fake{}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids()})
	k := dial(t, Config{Network: "unix", Address: path})
	o := order()
	o.Items = [][]byte{bytes.Repeat([]byte{7}, 20<<20)}
	out, err := k.Execute(context.Background(), o)
	if err != nil || len(out.Signatures[0][0]) != 20<<20 {
		t.Fatal(err)
	}
	if _, err := k.Timestamp(context.Background(), make([]byte, MaxBody+1)); !errors.Is(err, keeper.ErrLimit) {
		t.Errorf("body beyond the limit: %v", err)
	}
}

func FuzzHandle(f *testing.F) {
	enc, _ := format.Encode(order())
	f.Add(mExecute, enc)
	enc, _ = format.Encode(keeper.Extension{Size: 1, Root: []byte{1}})
	f.Add(mCheckpoint, enc)
	enc, _ = format.Encode(receiptsArgs{1, 2})
	f.Add(mReceipts, enc)
	f.Add(mStatus, []byte{})
	enc, _ = format.Encode(considerArgs{order().Evidence})
	f.Add(mConsider, enc)
	f.Fuzz(func(t *testing.T, method string, body []byte) {
		k := &fake{}
		_, err := handle(context.Background(), k, version2, method, body)
		if len(k.considered) == 1 && err == nil {
			again, err := format.Encode(considerArgs{k.considered[0]})
			if err != nil || !bytes.Equal(again, body) {
				t.Fatal("accepted evidence does not re-encode to itself")
			}
		}
		if len(k.orders) == 1 && err == nil {
			// Whatever is accepted re-encodes to itself.
			again, err := format.Encode(k.orders[0])
			if err != nil || !bytes.Equal(again, body) {
				t.Fatal("accepted order does not re-encode to itself")
			}
		}
	})
}

type byteConn struct {
	net.Conn
	r io.Reader
}

func (b byteConn) Read(p []byte) (int, error)      { return b.r.Read(p) }
func (b byteConn) SetReadDeadline(time.Time) error { return nil }

func FuzzFrame(f *testing.F) {
	b, _ := appendHead(nil, head{Kind: kindCall, ID: 3, Method: mStatus}, 2)
	f.Add(append(b, 1, 2))
	f.Add([]byte{0, 0, 0, 9, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		st := newStream(byteConn{r: bytes.NewReader(in)})
		h, body, err := st.read(time.Hour, 1<<20, nil)
		if err != nil {
			return
		}
		out, err := appendHead(nil, h, len(body))
		if err != nil || !bytes.HasPrefix(in, append(out, body...)) {
			t.Fatalf("%x re-encodes to %x, %v", in, out, err)
		}
	})
}
