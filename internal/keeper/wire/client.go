package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/keeper"
)

// Config says where a keeper is.
type Config struct {
	Network string // "unix" or "tcp"
	Address string // path of the socket, or host:port
	// TLS has the client's certificate and, in RootCAs, who vouches for the
	// keeper's. Wanted for "tcp"; version 1.3 is enforced.
	TLS *tls.Config
	// TLSNow, which may be nil, gives each connection what TLS is then.
	TLSNow func() *tls.Config
	// Timeout bounds one attempt to connect; default 10 seconds.
	Timeout time.Duration
	// Backoff is the longest pause between attempts to connect; default 5 seconds.
	Backoff time.Duration
}

// Dial connects to a keeper. A connection that is lost is made anew by the next
// call. Calls in flight when it is lost fail with [keeper.ErrUnavailable].
func Dial(ctx context.Context, c Config) (keeper.Keeper, error) {
	if c.Network != "unix" && c.Network != "tcp" {
		return nil, fmt.Errorf("wire: network %q: want unix or tcp", c.Network)
	}
	if c.TLSNow != nil {
		c.TLS = c.TLSNow()
	}
	if c.Network == "tcp" {
		var err error
		if c.TLS, err = c.mutual(c.TLS); err != nil {
			return nil, err
		}
	}
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Backoff <= 0 {
		c.Backoff = 5 * time.Second
	}
	t := &client{c: c, turn: make(chan struct{}, 1), closed: make(chan struct{})}
	if _, err := t.connection(ctx); err != nil {
		return nil, err
	}
	return caller{t}, nil
}

// mutual is t with what a connection to a keeper wants.
func (c *Config) mutual(t *tls.Config) (*tls.Config, error) {
	switch {
	case t == nil || len(t.Certificates) == 0 && t.GetClientCertificate == nil:
		return nil, errors.New("wire: tcp wants mutual TLS: a client certificate is missing")
	case t.InsecureSkipVerify && t.VerifyConnection == nil && t.VerifyPeerCertificate == nil:
		return nil, errors.New("wire: the keeper's certificate must be verified")
	}
	t = t.Clone()
	t.MinVersion = tls.VersionTLS13
	if host, _, err := net.SplitHostPort(c.Address); err == nil && t.ServerName == "" {
		t.ServerName = host
	}
	return t, nil
}

type client struct {
	c      Config
	turn   chan struct{} // held by who connects
	closed chan struct{}

	mu    sync.Mutex // guards what follows
	conn  *conn
	pause time.Duration
	next  time.Time // no attempt before
	shut  bool
}

// connection returns the connection, or makes it.
func (t *client) connection(ctx context.Context) (*conn, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	case <-t.closed:
		return nil, keeper.ErrClosed
	}
	defer func() { <-t.turn }()
	t.mu.Lock()
	c, wait := t.conn, time.Until(t.next)
	t.mu.Unlock()
	if c != nil && c.alive() {
		return c, nil
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, unavailable(ctx.Err())
		case <-t.closed:
			return nil, keeper.ErrClosed
		}
	}
	c, err := t.connect(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.pause = min(max(2*t.pause, 50*time.Millisecond), t.c.Backoff)
		t.next = time.Now().Add(t.pause)
		return nil, unavailable(fmt.Errorf("connect to %s %s: %w", t.c.Network, t.c.Address, err))
	}
	if t.shut {
		c.end(keeper.ErrClosed)
		return nil, keeper.ErrClosed
	}
	t.pause, t.conn = 0, c
	return c, nil
}

func (t *client) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.c.Timeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, t.c.Network, t.c.Address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	if t.c.Network == "tcp" {
		conf := t.c.TLS
		if t.c.TLSNow != nil {
			if conf, err = t.c.mutual(t.c.TLSNow()); err != nil {
				nc.Close()
				return nil, err
			}
		}
		tc := tls.Client(nc, conf)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		nc = tc
	}
	st := newStream(nc)
	err = st.write(head{Kind: kindHello, Protocol: protocol, Versions: versions()}, nil)
	var h head
	if err == nil {
		h, _, err = st.read(t.c.Timeout, 0, nil)
		if err == nil && (h.Kind != kindHello || h.Protocol != protocol || len(h.Versions) != 1 || choose(h.Versions) == 0) {
			err = errHello
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("the keeper hung up or let this user wait: %w", err)
	}
	c := &conn{st: st, version: h.Versions[0], calls: map[uint64]chan reply{}}
	go c.receive()
	return c, nil
}

func (t *client) call(ctx context.Context, method string, body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("%w: %d bytes", keeper.ErrLimit, len(body))
	}
	c, err := t.connection(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keeper.ErrUnreached, err)
	}
	return c.call(ctx, method, body)
}

func (t *client) version() uint64 {
	t.mu.Lock()
	c := t.conn
	t.mu.Unlock()
	if c == nil || !c.alive() {
		return 0
	}
	return c.version
}

// Close ends the connection; calls in flight fail.
func (t *client) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return nil
	}
	t.shut = true
	close(t.closed)
	if t.conn != nil {
		t.conn.end(keeper.ErrClosed)
	}
	return nil
}

func unavailable(err error) error {
	if errors.Is(err, keeper.ErrUnavailable) || errors.Is(err, keeper.ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", keeper.ErrUnavailable, err)
}

type reply struct {
	body []byte
	err  error
}

// conn is one connection.
type conn struct {
	st      *stream
	version uint64

	writing sync.Mutex // held while a frame goes out; taken before mu
	last    uint64     // guarded by writing: ids go out in order

	mu    sync.Mutex // guards calls and err
	calls map[uint64]chan reply
	err   error
}

func (c *conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil
}

// end gives every call in flight its error.
func (c *conn) end(err error) {
	c.st.c.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	for id, ch := range c.calls {
		ch <- reply{err: err}
		delete(c.calls, id)
	}
}

func (c *conn) call(ctx context.Context, method string, body []byte) ([]byte, error) {
	ch := make(chan reply, 1)
	c.writing.Lock()
	if err := ctx.Err(); err != nil {
		c.writing.Unlock()
		return nil, fmt.Errorf("%w: %w", keeper.ErrUnreached, err)
	}
	c.last++
	id := c.last
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		c.writing.Unlock()
		return nil, fmt.Errorf("%w: %w", keeper.ErrUnreached, c.err)
	}
	c.calls[id] = ch
	c.mu.Unlock()
	err := c.st.write(head{Kind: kindCall, ID: id, Method: method}, body)
	c.writing.Unlock()
	if err != nil {
		c.end(unavailable(fmt.Errorf("connection lost: %w", err)))
	}
	select {
	case r := <-ch:
		return r.body, r.err
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.calls, id)
		alive := c.err == nil
		c.mu.Unlock()
		if alive {
			c.writing.Lock()
			if err := c.st.write(head{Kind: kindCancel, ID: id}, nil); err != nil {
				c.end(unavailable(fmt.Errorf("connection lost: %w", err)))
			}
			c.writing.Unlock()
		}
		return nil, ctx.Err()
	}
}

// receive brings answers to their calls until the connection ends.
func (c *conn) receive() {
	const forever = 100 * 365 * 24 * time.Hour
	for {
		h, body, err := c.st.read(forever, MaxBody, nil)
		if err == nil && h.Kind != kindAnswer {
			err = fmt.Errorf("%w: kind %d", errFrame, h.Kind)
		}
		if err != nil {
			c.end(unavailable(fmt.Errorf("connection lost: %w", err)))
			return
		}
		c.mu.Lock()
		ch := c.calls[h.ID] // none: cancelled
		delete(c.calls, h.ID)
		c.mu.Unlock()
		if ch == nil {
			continue
		}
		if h.Code != "" {
			ch <- reply{err: &RemoteError{h.Code, h.Text}}
		} else {
			ch <- reply{body: body}
		}
	}
}
