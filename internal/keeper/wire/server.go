package wire

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/greatseal-io/greatseal/internal/keeper"
)

// Server lets peers speak to a keeper. The zero value of each limit stands for
// its default. A Server that allows nobody serves nobody.
type Server struct {
	Keeper keeper.Keeper

	// UIDs are the users who may connect over a Unix socket, as the kernel says.
	UIDs []uint32

	// TLS has the certificate and, in ClientCAs, the authorities of clients'
	// certificates, for every other listener. Version 1.3 and client
	// certificates are enforced here.
	TLS *tls.Config
	// TLSNow, which may be nil, gives each connection what TLS is then.
	TLSNow func() *tls.Config
	// Names are DNS or URI names of which a client certificate that ClientCAs
	// vouch for must carry one.
	Names []string
	// Keys are SHA-256 of SubjectPublicKeyInfo of clients that may connect
	// whoever vouches for them.
	Keys [][32]byte

	Connections int           // at a time; default 64
	Calls       int           // at a time, of one connection; default 1024
	Bytes       int64         // of calls in flight, all connections; default and least: two of the largest
	Idle        time.Duration // a connection with nothing to do is closed after; default 10 minutes
	Handshake   time.Duration // default 10 seconds
	Logger      *slog.Logger
}

func (s *Server) defaults() error {
	if s.Keeper == nil {
		return errors.New("wire: server without a keeper")
	}
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&s.Connections, 64)
	set(&s.Calls, 1024)
	s.Bytes = max(s.Bytes, 2*(MaxBody+maxHead+2))
	if s.Idle <= 0 {
		s.Idle = 10 * time.Minute
	}
	if s.Handshake <= 0 {
		s.Handshake = 10 * time.Second
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Serve accepts connections until ctx ends, which is not an error, or ln fails.
// It closes ln, ends the calls under way and returns when all have ended.
func (s Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	if err := s.defaults(); err != nil {
		return err
	}
	_, isUnix := ln.Addr().(*net.UnixAddr)
	var config *tls.Config
	if !isUnix {
		if s.TLSNow != nil {
			s.TLS = s.TLSNow()
		}
		var err error
		if config, err = s.tlsConfig(s.TLS); err != nil {
			return err
		}
	} else if len(s.UIDs) == 0 {
		return errors.New("wire: no user is allowed to connect")
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	slots := make(chan struct{}, s.Connections)
	bytes := semaphore.NewWeighted(s.Bytes)
	pause := time.Duration(0)
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("wire: accept: %w", err)
			}
			// Out of descriptors, most likely: the connections that there are
			// go on.
			if pause = min(max(2*pause, 5*time.Millisecond), time.Second); pause == time.Second {
				s.Logger.Error("wire: accept", "error", err)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		select {
		case slots <- struct{}{}:
		default:
			s.Logger.Warn("wire: too many connections", "peer", c.RemoteAddr())
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			config := config
			var err error
			if config != nil && s.TLSNow != nil {
				config, err = s.tlsConfig(s.TLSNow())
			}
			var peer net.Conn
			if err == nil {
				peer, err = s.admit(ctx, c, config)
			}
			if err != nil {
				s.Logger.Warn("wire: refused", "peer", c.RemoteAddr(), "error", err)
				return
			}
			err = s.serve(ctx, peer, bytes)
			if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.Logger.Info("wire: connection ended", "peer", c.RemoteAddr(), "error", err)
			}
		})
	}
}

// admit says who the peer is, before a byte of the protocol is read.
func (s *Server) admit(ctx context.Context, c net.Conn, config *tls.Config) (net.Conn, error) {
	if config == nil {
		u, ok := c.(*net.UnixConn)
		if !ok {
			return nil, fmt.Errorf("%w: a %T has no user", keeper.ErrDenied, c)
		}
		uid, err := peerUID(u)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", keeper.ErrDenied, err)
		}
		if !slices.Contains(s.UIDs, uid) {
			return nil, fmt.Errorf("%w: uid %d", keeper.ErrDenied, uid)
		}
		return c, nil
	}
	t := tls.Server(c, config)
	ctx, cancel := context.WithTimeout(ctx, s.Handshake)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

func (s *Server) tlsConfig(t *tls.Config) (*tls.Config, error) {
	if t == nil || len(s.Names) == 0 && len(s.Keys) == 0 {
		return nil, errors.New("wire: a network listener wants mutual TLS and a list of clients")
	}
	if len(s.Names) > 0 && t.ClientCAs == nil {
		return nil, errors.New("wire: names of clients mean nothing without authorities that vouch for them")
	}
	c := t.Clone()
	c.MinVersion = tls.VersionTLS13
	c.SessionTicketsDisabled = true // every connection shows its certificate
	c.GetConfigForClient = nil      // would replace what is enforced here
	c.ClientAuth = tls.RequireAnyClientCert
	verify := x509.VerifyOptions{Roots: c.ClientCAs, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	now := c.Time
	if now == nil {
		now = time.Now
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return fmt.Errorf("%w: no certificate", keeper.ErrDenied)
		}
		leaf := cs.PeerCertificates[0]
		if slices.Contains(s.Keys, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)) {
			if t := now(); t.Before(leaf.NotBefore) || t.After(leaf.NotAfter) {
				return fmt.Errorf("%w: certificate is not valid now", keeper.ErrDenied)
			}
			return nil
		}
		if len(s.Names) == 0 {
			return fmt.Errorf("%w: unknown key", keeper.ErrDenied)
		}
		o := verify
		o.CurrentTime = now()
		o.Intermediates = x509.NewCertPool()
		for _, i := range cs.PeerCertificates[1:] {
			o.Intermediates.AddCert(i)
		}
		if _, err := leaf.Verify(o); err != nil {
			return fmt.Errorf("%w: %w", keeper.ErrDenied, err)
		}
		for _, n := range leaf.DNSNames {
			if slices.Contains(s.Names, n) {
				return nil
			}
		}
		for _, u := range leaf.URIs {
			if slices.Contains(s.Names, u.String()) {
				return nil
			}
		}
		return fmt.Errorf("%w: no name of the certificate is on the list", keeper.ErrDenied)
	}
	return c, nil
}

// serve speaks to one admitted peer until it goes.
func (s *Server) serve(ctx context.Context, c net.Conn, bytes *semaphore.Weighted) error {
	st := newStream(c)
	h, _, err := st.read(s.Handshake, 0, nil)
	if err != nil {
		return err
	}
	version := choose(h.Versions)
	if h.Kind != kindHello || h.Protocol != protocol || version == 0 {
		return errHello
	}
	if err := st.write(head{Kind: kindHello, Protocol: protocol, Versions: []uint64{version}}, nil); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close() // before waiting: an answer may be stuck in a write
	defer cancel()
	var mu sync.Mutex // guards calls, last and writing
	calls := map[uint64]context.CancelFunc{}
	last := uint64(0)
	slots := make(chan struct{}, s.Calls)
	for {
		var reserved int64
		h, body, err := st.read(s.Idle, MaxBody, func(n int64) error {
			if err := bytes.Acquire(ctx, n); err != nil {
				return err
			}
			reserved = n
			return nil
		})
		release := func() { bytes.Release(reserved) }
		if err != nil {
			release()
			mu.Lock()
			busy := len(calls) > 0
			mu.Unlock()
			if busy && err == errIdle {
				continue // idle only because it waits for its answers
			}
			return err
		}
		switch {
		case h.Kind == kindCancel && len(body) == 0:
			mu.Lock()
			if end := calls[h.ID]; end != nil {
				end()
			}
			mu.Unlock()
			release()
			continue
		case h.Kind != kindCall || h.ID <= last:
			release()
			return fmt.Errorf("%w: kind %d, id %d", errFrame, h.Kind, h.ID)
		}
		last = h.ID
		slots <- struct{}{} // ends: every call does
		cctx, end := context.WithCancel(ctx)
		mu.Lock()
		calls[h.ID] = end
		mu.Unlock()
		wg.Go(func() {
			defer func() { <-slots }()
			defer release()
			defer end()
			out := head{Kind: kindAnswer, ID: h.ID}
			b, err := handle(cctx, s.Keeper, version, h.Method, body)
			if err == nil && len(b) > MaxBody {
				b, err = nil, fmt.Errorf("%w: answer of %d bytes", keeper.ErrLimit, len(b))
			}
			if err != nil {
				if keeper.ErrorCode(err) == "internal" {
					s.Logger.Error("wire: call", "method", h.Method, "error", err)
				}
				r := remote(err)
				b, out.Code, out.Text = nil, r.Code, r.Text
			}
			mu.Lock()
			defer mu.Unlock()
			delete(calls, h.ID)
			if err := st.write(out, b); err != nil {
				c.Close() // half a frame may have gone out
			}
		})
	}
}
