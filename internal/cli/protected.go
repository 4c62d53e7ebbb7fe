package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/instance/keystore"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

// openInstance makes a server's part in a circle of trust. s is nil on a protected
// instance.
func openInstance(ctx context.Context, c *config.Server, db *store.SQL, s *server.Server, log *slog.Logger) (*instance.Instance, error) {
	hooks, err := webhooks(c.Webhooks)
	if err != nil {
		return nil, err
	}
	var told *notices.Engine
	if s != nil {
		told = s.Notices()
	} else if told, err = openNotices(c, append(slices.Clone(c.Instance.Roles.Administrators), c.Instance.Roles.Operators...), db, log); err != nil {
		return nil, err
	}
	return instance.Open(ctx, instance.Config{
		Keys:   keystore.Open,
		Config: c.Instance, Store: db, Server: s, Root: c.Root, TLS: func(t *config.TLS) (*tls.Config, error) { return sideTLS(ctx, t, log) },
		Webhooks: hooks, Sender: notify.NewSender(), Notices: told, Clock: time.Now, Logger: log,
	})
}

// sideTLS is what a server shows the server of a trusted side, and trusts. Without a
// certificate of its own it shows none: what it fetches is judged by its evidence.
func sideTLS(ctx context.Context, t *config.TLS, log *slog.Logger) (*tls.Config, error) {
	if t.Cert == "" && t.Key == "" {
		out := &tls.Config{MinVersion: tls.VersionTLS13}
		var err error
		if t.CA != "" {
			out.RootCAs, err = readPool(t.CA)
		}
		return out, err
	}
	now, err := clientTLS(ctx, t, log)
	if err != nil {
		return nil, err
	}
	out := now()
	out.Certificates = nil
	out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &now().Certificates[0], nil }
	return out, nil
}

// runProtected serves a protected instance until ctx ends: people on one listener,
// agents on another. There is no keeper, and no server of requests.
func runProtected(ctx context.Context, c *config.Server, log *slog.Logger, ready func(net.Addr)) error {
	db, err := store.Open(ctx, c.Database)
	if err != nil {
		return err
	}
	defer db.Close()
	part, err := openInstance(ctx, c, db, nil, log)
	if err != nil {
		return err
	}
	defer part.Close()
	h, err := api.NewProtected(api.ProtectedConfig{Instance: part, Health: db.Health, Roles: c.Instance.Roles, Logger: log, Version: Version,
		Limits: api.Limits{Body: c.Limits.BodyBytes, PerSecond: c.Limits.PerSecond, Burst: c.Limits.Burst, AnonPerSecond: c.Limits.AnonPerSecond}})
	if err != nil {
		return err
	}
	pages, err := openProtectedConsole(c, h, part, db, log)
	if err != nil {
		return err
	}
	if pages != nil {
		h.Show(pages.Handler(http.NotFoundHandler()))
		context.AfterFunc(ctx, pages.Stop)
	}
	var certs *config.Certs
	var ln net.Listener
	if part.Queue != nil {
		a := c.Instance.Agents
		if certs, err = config.ReadCerts(&config.TLS{Cert: a.Cert, Key: a.Key}, log); err != nil {
			return fmt.Errorf("instance.agents: %w", err)
		}
		var lc net.ListenConfig
		if ln, err = lc.Listen(ctx, "tcp", a.Listen); err != nil {
			return fmt.Errorf("instance.agents: %w", err)
		}
		log.Info("agents are taken", "address", ln.Addr().String())
	}
	// Listeners end first, each after its last call; then the work that calls began.
	serving, end := context.WithCancel(ctx)
	defer end()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var background, listeners sync.WaitGroup
	background.Go(func() { part.Run(work) })
	background.Go(func() { server.GiveRoom(work) })
	var ofAgents error
	if ln != nil {
		listeners.Go(func() { certs.Follow(serving, config.CertsPoll) })
		listeners.Go(func() {
			if ofAgents = agents.Serve(serving, ln, part.Queue, certs, log, agents.Limits{}, Version); ofAgents != nil {
				end()
			}
		})
	}
	err = api.ServeProtected(serving, h, api.Listen{Address: c.Listen, TLS: c.TLS}, ready)
	end()
	listeners.Wait()
	stop()
	background.Wait()
	return errors.Join(err, ofAgents)
}

// poolOf is a pool of one PEM file, or the system's.
func poolOf(path string) (*x509.CertPool, error) {
	if path == "" {
		return x509.SystemCertPool()
	}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return readPool(path)
}
