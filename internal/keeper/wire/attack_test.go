package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
)

// hungUp fails unless the server closes c without saying anything but want.
func hungUp(t *testing.T, what string, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	b, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%s: server did not hang up: %v", what, err)
	}
	if len(b) != 0 {
		t.Errorf("%s: server answered %x", what, b)
	}
}

func rawDial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func frame(t *testing.T, h head, body []byte) []byte {
	t.Helper()
	b, err := appendHead(nil, h, len(body))
	if err != nil {
		t.Fatal(err)
	}
	return append(b, body...)
}

// Invariant 1: nothing before the hello, and nobody who is not on the list.
func TestAttackBeforeHello(t *testing.T) {
	f := &fake{}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids(), Handshake: 200 * time.Millisecond})
	enc, _ := format.Encode(order())
	hello := head{Kind: kindHello, Protocol: protocol, Versions: []uint64{1}}
	for what, b := range map[string][]byte{
		"a call":             frame(t, head{Kind: kindCall, ID: 1, Method: mExecute}, enc),
		"a call of no body":  frame(t, head{Kind: kindCall, ID: 1, Method: mStatus}, nil),
		"HTTP":               []byte("GET / HTTP/1.1\r\nHost: keeper\r\n\r\n"),
		"another protocol":   frame(t, head{Kind: kindHello, Protocol: "other", Versions: []uint64{1}}, nil),
		"another version":    frame(t, head{Kind: kindHello, Protocol: protocol, Versions: []uint64{3, 4}}, nil),
		"hello with a body":  frame(t, hello, []byte{1}),
		"nothing":            nil,
		"half a hello":       frame(t, hello, nil)[:9],
		"length of 4 GiB":    {0xff, 0xff, 0xff, 0xff, 0, 10},
		"head of no length":  {0, 0, 0, 2, 0, 0},
		"head of 64 KiB":     {0, 1, 0, 1, 0xff, 0xff},
		"head beyond length": {0, 0, 0, 3, 0, 10},
	} {
		c := rawDial(t, path)
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if what == "half a hello" || what == "length of 4 GiB" {
			c.(*net.UnixConn).CloseWrite()
		}
		hungUp(t, what, c)
	}
	if o, _ := f.saw(); o != nil {
		t.Error("an order came through without a hello")
	}
}

func TestAttackAfterHello(t *testing.T) {
	f := &fake{}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids()})
	call := head{Kind: kindCall, ID: 1, Method: mStatus}
	plain := frame(t, call, nil)
	unsorted := bytes.Clone(plain) // {1: 2, 2: 1, …} with an integer in a longer form
	unsorted = append(unsorted[:6], append([]byte{0xa7, 0x01, 0x18, 0x02}, plain[9:]...)...)
	binary.BigEndian.PutUint32(unsorted, uint32(len(unsorted)-4))
	binary.BigEndian.PutUint16(unsorted[4:], uint16(len(unsorted)-6))
	for what, b := range map[string][]byte{
		"oversized body":     binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(nil, 2+40+MaxBody+1), 40),
		"second hello":       frame(t, head{Kind: kindHello, Protocol: protocol, Versions: []uint64{1}}, nil),
		"an answer":          frame(t, head{Kind: kindAnswer, ID: 1}, nil),
		"id 0":               frame(t, head{Kind: kindCall, Method: mStatus}, nil),
		"longer integer":     unsorted,
		"cancel with a body": frame(t, head{Kind: kindCancel, ID: 1}, []byte{1}),
		"unknown kind":       frame(t, head{Kind: 9, ID: 1}, nil),
	} {
		c := rawDial(t, path)
		c.Write(frame(t, head{Kind: kindHello, Protocol: protocol, Versions: []uint64{1}}, nil))
		st := newStream(c)
		if _, _, err := st.read(10*time.Second, 0, nil); err != nil {
			t.Fatal(what, err)
		}
		c.Write(b)
		hungUp(t, what, c)
	}
	// An id is never used twice.
	c := rawDial(t, path)
	c.Write(frame(t, head{Kind: kindHello, Protocol: protocol, Versions: []uint64{1}}, nil))
	st := newStream(c)
	st.read(10*time.Second, 0, nil)
	c.Write(plain)
	if h, _, err := st.read(10*time.Second, MaxBody, nil); err != nil || h.Kind != kindAnswer || h.ID != 1 || h.Code != "" {
		t.Fatal(h, err)
	}
	c.Write(plain)
	hungUp(t, "id used twice", c)
}

// A declared length allocates nothing before the bytes arrive.
func TestAttackLengthAllocates(t *testing.T) {
	allocs := testing.AllocsPerRun(1, func() {
		if _, err := readBody(strings.NewReader("short"), MaxBody); err == nil {
			t.Error("no error")
		}
	})
	if allocs > 10 {
		t.Errorf("%v allocations for five bytes", allocs)
	}
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			readBody(strings.NewReader("short"), MaxBody)
		}
	})
	if n := r.AllocedBytesPerOp(); n > 1<<20 {
		t.Errorf("%d bytes allocated for five that came", n)
	}
}

func TestAttackUnknownUser(t *testing.T) {
	f := &fake{}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: []uint32{uint32(os.Geteuid()) + 1}})
	if _, err := Dial(context.Background(), Config{Network: "unix", Address: path}); !errors.Is(err, keeper.ErrUnavailable) {
		t.Errorf("user who is not on the list: %v", err)
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	if err := (Server{Keeper: f}).Serve(context.Background(), ln); err == nil {
		t.Error("served without a list of users")
	}
}

func TestAttackTLS(t *testing.T) {
	f := &fake{}
	ca, other := newAuthority(t), newAuthority(t)
	srv := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "keeper", x509.ExtKeyUsageServerAuth)}, ClientCAs: ca.pool}
	pinned := other.issue(t, "whoever", x509.ExtKeyUsageClientAuth)
	addr := serveTCP(t, Server{Keeper: f, Names: []string{"server"}, TLS: srv,
		Keys: [][32]byte{sha256.Sum256(pinned.Leaf.RawSubjectPublicKeyInfo)}})
	client := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: certs, RootCAs: ca.pool, ServerName: "keeper"}
	}
	try := func(c *tls.Config) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		k, err := Dial(ctx, Config{Network: "tcp", Address: addr, TLS: c})
		if err != nil {
			return err
		}
		defer k.Close()
		_, err = k.Status(ctx)
		return err
	}
	if err := try(client(pinned)); err != nil {
		t.Errorf("pinned key: %v", err)
	}
	good := ca.issue(t, "server", x509.ExtKeyUsageClientAuth)
	if err := try(client(good)); err != nil {
		t.Errorf("listed name: %v", err)
	}
	notKeeper := client(good)
	notKeeper.ServerName = "another"
	blind := client(good)
	blind.InsecureSkipVerify = true
	for what, c := range map[string]*tls.Config{
		"no TLS":                  nil,
		"no certificate":          client(),
		"another authority":       client(other.issue(t, "server", x509.ExtKeyUsageClientAuth)),
		"name not on the list":    client(ca.issue(t, "stranger", x509.ExtKeyUsageClientAuth)),
		"a server's certificate":  client(ca.issue(t, "server", x509.ExtKeyUsageServerAuth)),
		"keeper of another name":  notKeeper,
		"keeper without a verify": blind,
	} {
		if err := try(c); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	// TLS 1.2 and no client certificate, without our client's own checks.
	for what, c := range map[string]*tls.Config{
		"TLS 1.2":    {MaxVersion: tls.VersionTLS12, RootCAs: ca.pool, ServerName: "keeper", Certificates: []tls.Certificate{good}},
		"no cert":    {RootCAs: ca.pool, ServerName: "keeper"},
		"other cert": {RootCAs: ca.pool, ServerName: "keeper", Certificates: []tls.Certificate{other.issue(t, "server", x509.ExtKeyUsageClientAuth)}},
	} {
		conn, err := tls.Dial("tcp", addr, c)
		if err != nil {
			continue
		}
		conn.Write(frame(t, head{Kind: kindHello, Protocol: protocol, Versions: []uint64{1}}, nil))
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if b, _ := io.ReadAll(conn); len(b) != 0 {
			t.Errorf("%s: server answered", what)
		}
		conn.Close()
	}
	for what, s := range map[string]Server{
		"no TLS":               {Keeper: f, Names: []string{"server"}},
		"nobody on the list":   {Keeper: f, TLS: srv},
		"names, no authority":  {Keeper: f, Names: []string{"server"}, TLS: &tls.Config{Certificates: srv.Certificates}},
		"a list of users only": {Keeper: f, UIDs: uids()},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Serve(context.Background(), ln); err == nil {
			t.Errorf("%s: served", what)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	f := &fake{}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids(), Connections: 2})
	a, b := dial(t, Config{Network: "unix", Address: path}), dial(t, Config{Network: "unix", Address: path})
	if _, err := Dial(context.Background(), Config{Network: "unix", Address: path}); !errors.Is(err, keeper.ErrUnavailable) {
		t.Errorf("third of two: %v", err)
	}
	for _, k := range []keeper.Keeper{a, b} {
		if _, err := k.Status(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// An idle connection is closed, one that waits for an answer is not.
func TestIdle(t *testing.T) {
	f := &fake{gate: make(chan struct{})}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids(), Idle: 30 * time.Millisecond})
	c := rawDial(t, path)
	c.Write(frame(t, head{Kind: kindHello, Protocol: protocol, Versions: []uint64{1}}, nil))
	st := newStream(c)
	st.read(10*time.Second, 0, nil)
	hungUp(t, "idle", c)
	k := dial(t, Config{Network: "unix", Address: path})
	time.AfterFunc(150*time.Millisecond, func() { close(f.gate) })
	if b, err := k.Chain(context.Background()); err != nil || string(b) != "chain" {
		t.Errorf("a call that lasts longer than idle: %q, %v", b, err)
	}
}
