package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
)

// drain is how long calls may go on after Serve is told to end.
const drain = 30 * time.Second

// maxConnections is how many connections a listener holds at a time; more wait.
const maxConnections = 8192

// Listen says where an API is served.
type Listen struct {
	Address  string      // host:port or unix:PATH
	TLS      *config.TLS // mandatory beyond loopback; with CA, clients show certificates
	Optional bool        // beyond loopback, a client may come without a certificate: people log in
	// Poll is how often the files of TLS are looked at, and read again when they
	// have changed; default 5 s.
	Poll time.Duration
}

// Serve serves an API until ctx ends; then it refuses new calls, ends the waiting
// ones and lets the others finish. ready, which may be nil, is called with the
// address once connections are taken.
func Serve(ctx context.Context, a *API, l Listen, ready func(net.Addr)) error {
	return serve(ctx, a.Handler(), a.Stop, a.log, l, ready)
}

// ServeWith is Serve with something around the API, whose streams stop ends.
func ServeWith(ctx context.Context, a *API, around http.Handler, stop func(), l Listen, ready func(net.Addr)) error {
	return serve(ctx, around, func() { a.Stop(); stop() }, a.log, l, ready)
}

// ServeProtected is Serve for a protected instance. There nobody logs in: what tells
// people apart is a certificate, or who may open the socket.
func ServeProtected(ctx context.Context, p *Protected, l Listen, ready func(net.Addr)) error {
	if !strings.HasPrefix(l.Address, "unix:") && (l.TLS == nil || l.TLS.CA == "") {
		return errors.New("api: a protected instance listens on a Unix socket, or with TLS and a CA for clients, on loopback too")
	}
	return serve(ctx, p, p.Stop, p.cfg.Logger, l, ready)
}

func serve(ctx context.Context, h http.Handler, stop func(), log *slog.Logger, l Listen, ready func(net.Addr)) error {
	local := config.Loopback(l.Address)
	if !local && (l.TLS == nil || l.TLS.CA == "" && !l.Optional) {
		return errors.New("api: beyond loopback TLS is wanted, and a CA for clients")
	}
	ln, err := listen(ctx, l.Address)
	if err != nil {
		return err
	}
	defer ln.Close()
	ln = &limited{Listener: ln, slots: make(chan struct{}, maxConnections)}
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	if l.TLS != nil {
		c, err := config.ReadCerts(l.TLS, log)
		if err != nil {
			return fmt.Errorf("api: %w", err)
		}
		s.TLSConfig = tlsConfig(c, !local && !l.Optional)
		def(&l.Poll, config.CertsPoll)
		looking, end := context.WithCancel(ctx)
		var looks sync.WaitGroup
		defer looks.Wait()
		defer end()
		looks.Go(func() { c.Follow(looking, l.Poll) })
	}
	s.RegisterOnShutdown(stop)
	if ready != nil {
		ready(ln.Addr())
	}
	failed := make(chan error, 1)
	go func() {
		if s.TLSConfig != nil {
			failed <- s.ServeTLS(ln, "", "")
		} else {
			failed <- s.Serve(ln)
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("api: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := s.Shutdown(end); err != nil {
		s.Close()
		return fmt.Errorf("api: some calls were cut off: %w", err)
	}
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var c net.ListenConfig
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		ln, err := c.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
		return ln, nil
	}
	ln, err := c.Listen(ctx, "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		// A server that was killed leaves its socket; one that answers keeps it.
		if conn, derr := net.DialTimeout("unix", path, time.Second); derr == nil {
			conn.Close()
			return nil, fmt.Errorf("api: another server listens on %s", path)
		}
		if st, serr := os.Lstat(path); serr != nil || st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("api: %s is no socket", path)
		}
		if rerr := os.Remove(path); rerr != nil {
			return nil, fmt.Errorf("api: %w", rerr)
		}
		ln, err = c.Listen(ctx, "unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	// On a protected instance whoever reaches it may do everything; elsewhere he
	// authenticates like anybody else. The group is enough.
	if err := os.Chmod(path, 0o660); err != nil {
		ln.Close()
		return nil, fmt.Errorf("api: %w", err)
	}
	return ln, nil
}

// limited holds a number of connections.
type limited struct {
	net.Listener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slot{Conn: c, free: func() { <-l.slots }}, nil
}

type slot struct {
	net.Conn
	once sync.Once
	free func()
}

func (s *slot) Close() error {
	s.once.Do(s.free)
	return s.Conn.Close()
}
