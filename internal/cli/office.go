package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/blob"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/keeper/wire"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/stamp"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
)

// office is a server with what it stands on, made from its configuration.
type office struct {
	cfg    *config.Server
	store  *store.SQL
	keeper keeper.Keeper
	server *server.Server
	cache  *quorum.Cache // of verified signatures: shared with an embedded keeper
	closer []func() error
}

func (o *office) close() error {
	var errs []error
	for i := len(o.closer) - 1; i >= 0; i-- {
		errs = append(errs, o.closer[i]())
	}
	return errors.Join(errs...)
}

// openOffice opens keeper, database, blobs and server. Whoever closes the office
// closes them all.
func openOffice(ctx context.Context, c *config.Server, log *slog.Logger) (o *office, err error) {
	o = &office{cfg: c, cache: quorum.NewCache(1 << 14)}
	defer func() {
		if err != nil {
			o.close()
			o = nil
		}
	}()
	if o.keeper, err = o.dialKeeper(ctx, log); err != nil {
		return o, err
	}
	if o.store, err = store.Open(ctx, c.Database); err != nil {
		return o, err
	}
	o.closer = append(o.closer, o.store.Close)
	cfg := server.Config{Store: o.store, Keeper: o.keeper, Formats: all.Formats(), Pin: c.Root, Clock: time.Now, Logger: log, Cache: o.cache, Ahead: c.Keeper.Embedded == nil}
	if c.Blobs != "" {
		if cfg.Blobs, err = blob.Open(c.Blobs); err != nil {
			return o, err
		}
	}
	st := &stamp.Stamper{Keeper: o.keeper}
	if c.Timestamp.Roots != "" {
		if st.Roots, err = readPool(c.Timestamp.Roots); err != nil {
			return o, err
		}
	}
	cfg.Stamper = st
	if cfg.Webhooks, err = webhooks(c.Webhooks); err != nil {
		return o, err
	}
	cfg.Sender = notify.NewSender()
	if cfg.Notices, err = openNotices(c, operators(c), o.store, log); err != nil {
		return o, err
	}
	if o.server, err = server.New(ctx, cfg); err != nil || c.Notify == nil {
		return o, err
	}
	if err := o.server.CheckEscalation(c.Notify.Escalation); err != nil {
		log.Warn("an escalation leads to nobody", "error", err) // the charter may get them yet
	}
	return o, nil
}

// dialKeeper reaches the keeper, or runs it inside.
func (o *office) dialKeeper(ctx context.Context, log *slog.Logger) (keeper.Keeper, error) {
	k := o.cfg.Keeper
	if k.Embedded != nil {
		ho := hostOptions(log)
		ho.Cache = o.cache // one process, one trust
		h, err := host.Open(ctx, *k.Embedded, o.cfg.Root, ho)
		if err != nil {
			return nil, err
		}
		o.closer = append(o.closer, h.Close)
		return wire.InProcess(h), nil
	}
	d := wire.Config{Network: "unix", Address: k.Socket}
	if k.Address != "" {
		t, err := clientTLS(ctx, k.TLS, log)
		if err != nil {
			return nil, err
		}
		d = wire.Config{Network: "tcp", Address: k.Address, TLSNow: t}
	}
	c, err := wire.Dial(ctx, d)
	if err != nil {
		return nil, fail(exitUnavailable, "start greatseal-keeper run, or mend keeper: in the configuration", "the keeper cannot be reached: %v", err)
	}
	o.closer = append(o.closer, c.Close)
	return c, nil
}

// clientTLS is what the server shows the keeper, and trusts, each time that it
// connects. The files are looked at until ctx ends.
func clientTLS(ctx context.Context, t *config.TLS, log *slog.Logger) (func() *tls.Config, error) {
	certs, err := config.ReadCerts(t, log)
	if err != nil {
		return nil, err
	}
	go certs.Follow(ctx, config.CertsPoll)
	return func() *tls.Config {
		id := certs.Now()
		return &tls.Config{Certificates: []tls.Certificate{id.Pair}, RootCAs: id.CA, MinVersion: tls.VersionTLS13}
	}, nil
}

func readPool(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return p, nil
}

func webhooks(list []config.Webhook) ([]notify.Webhook, error) {
	var out []notify.Webhook
	for _, w := range list {
		text, err := config.Secret(w.SecretFile)
		if err != nil {
			return nil, err
		}
		secret, err := notify.ParseSecret(string(text))
		clear(text)
		if err != nil {
			return nil, err
		}
		n := notify.Webhook{Name: w.Name, URL: w.URL, Secret: secret, AllowPrivate: w.AllowPrivate}
		for _, e := range w.Events {
			n.Events = append(n.Events, notify.Event(e))
		}
		if err := n.Check(); err != nil {
			return nil, err
		}
		for _, o := range out {
			if o.Name == n.Name {
				return nil, fmt.Errorf("two webhooks are called %q", n.Name)
			}
		}
		out = append(out, n)
	}
	return out, nil
}
