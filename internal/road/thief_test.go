package road

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
)

// blind hands out what a database holds, and judges nothing.
type blind struct{ db platform.Platform }

func (b blind) Records(ctx context.Context, asked []ecc.Ask) ([]order.Item, error) {
	var out []order.Item
	for _, a := range asked {
		row, err := b.db.Get(ctx, a.Ref, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, order.ItemOf(&row.Record, row.Signatures))
	}
	return out, nil
}

func (b blind) Attachment(ctx context.Context, ref record.Ref, a record.Attachment) (io.ReadCloser, error) {
	return b.db.Attachment(ctx, ref, a.Name)
}

// stolen is a queue of somebody who has the instance's host: its database, its keys,
// and none of its checks.
func (p *site) stolen(t testing.TB) *ecc.Service {
	t.Helper()
	ctx := t.Context()
	b, err := os.ReadFile(p.path("keys"))
	ok(t, err)
	ok(t, os.WriteFile(p.path("stolen"), b, 0o600))
	pass, err := config.Secret(p.path("passphrase"))
	ok(t, err)
	provider, err := soft.Open(p.path("stolen"), pass)
	ok(t, err)
	t.Cleanup(func() { provider.Close() })
	keys, err := ecc.OpenKeys(ctx, provider)
	ok(t, err)
	authority, err := ecc.OpenAuthority(ctx, p.store, prod, keys.Authority, rand.Reader, time.Now())
	ok(t, err)
	q, err := ecc.New(ecc.Config{Store: p.store, Source: blind{p.instance.Platforms[erp]}, Circles: p.instance.Circles, Instance: prod, Runtime: keys.Runtime, Authority: authority, Clock: time.Now})
	ok(t, err)
	background(t, func(ctx context.Context) { _ = q.Run(ctx) })
	return q
}
