package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
)

// keyName is the name of a key in charters and tokens.
func keyName(a sigalg.Key) string { return strings.ReplaceAll(string(a), "-", "") }

// deployment is a running greatseal: database, keeper and server, with the people
// who ask and endorse.
type deployment struct {
	store   store.Store
	keeper  keeper.Keeper
	server  *server.Server
	trial   *trial.Trial
	cache   *quorum.Cache // shared with a keeper in this process
	seed    uint64        // of the next program to make up
	entries int64         // of the log, when all that was caused is in it

	stop  context.CancelFunc
	ended chan struct{}
	close []func() error // in reverse order
}

func (d *deployment) defer_(f func() error) { d.close = append(d.close, f) }

// Close ends what runs.
func (d *deployment) Close() error {
	if d.stop != nil {
		d.stop()
		<-d.ended
	}
	var errs []error
	for i := len(d.close) - 1; i >= 0; i-- {
		errs = append(errs, d.close[i]())
	}
	return errors.Join(errs...)
}

// specs are the keys of a deployment; provider makes their URIs.
func specs(algorithms []sigalg.Key, uri func(name string) string) []trial.KeySpec {
	var out []trial.KeySpec
	for i, a := range algorithms {
		n := keyName(a)
		if i == 0 {
			n = "release" // the first key's policies have no suffix
		}
		out = append(out, trial.KeySpec{Name: n, URI: keyURI(uri(n)), Algorithm: a})
	}
	return out
}

// policyOf is the policy with three endorsements of the i-th key.
func policyOf(i int, a sigalg.Key) string {
	if i == 0 {
		return "release"
	}
	return "release-" + keyName(a)
}

// secretFile writes a random passphrase.
func secretFile(path string) ([]byte, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	text := []byte(hex.EncodeToString(b))
	return text, os.WriteFile(path, text, 0o600)
}

func keeperIn(dir string) config.KeeperIn {
	return config.KeeperIn{Dir: filepath.Join(dir, "keeper"), Keystore: filepath.Join(dir, "keystore"),
		PassphraseFile: filepath.Join(dir, "passphrase"), ReceiptKey: "soft:keeper-receipts", LogKey: "soft:keeper-log"}
}

// softDeployment founds a deployment whose keeper is in this process.
func softDeployment(ctx context.Context, dir, dsn string, algorithms []sigalg.Key) (d *deployment, err error) {
	d = &deployment{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if _, err := secretFile(filepath.Join(dir, "passphrase")); err != nil {
		return d, fmt.Errorf("bench: %w", err)
	}
	d.cache = quorum.NewCache(1 << 14) // as "greatseal server" does for an embedded keeper
	o := host.Options{Formats: all.Formats(), Clock: time.Now, Rand: rand.Reader, Version: "bench", Cache: d.cache}
	in := keeperIn(dir)
	if err := host.Init(ctx, in, o); err != nil {
		return d, err
	}
	h, err := host.Open(ctx, in, noRoot, o)
	if err != nil {
		return d, err
	}
	st, err := h.Status(ctx)
	if err := errors.Join(err, h.Close()); err != nil {
		return d, err
	}
	d.trial, err = trial.New(ctx, dir, st, trial.Options{Keys: specs(algorithms, func(n string) string { return "soft:" + n })})
	if err != nil {
		return d, err
	}
	if h, err = host.Open(ctx, in, d.trial.Root, o); err != nil {
		return d, err
	}
	d.keeper = h
	d.defer_(h.Close)
	if err := h.Found(ctx, d.trial.Found); err != nil {
		return d, err
	}
	return d, d.serve(ctx, dsn)
}

// serve opens the database, runs the server and makes the keys.
func (d *deployment) serve(ctx context.Context, dsn string) error {
	s, err := store.Open(ctx, dsn)
	if err != nil {
		return err
	}
	d.store = s
	d.defer_(s.Close)
	d.server, err = server.New(ctx, server.Config{Store: s, Keeper: d.keeper, Formats: all.Formats(), Pin: d.trial.Root, Clock: time.Now, Cache: d.cache, Ahead: d.cache == nil})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop, d.ended = stop, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { d.server.Run(run) })    // ends without an error
	wg.Go(func() { server.GiveRoom(run) }) // as "greatseal server" does
	go func() { wg.Wait(); close(d.ended) }()
	if err := d.trial.MakeKeys(ctx, d.server); err != nil {
		return err
	}
	// Two commands for each key (generate, import a certificate), each with its
	// request, one endorsement and its receipt.
	d.entries = int64(len(d.trial.Charter.Keys)) * 2 * 3
	return d.settled(ctx)
}

// softRaw makes a software key of its own for the raw side: the keystore of a
// running keeper belongs to that keeper.
func softRaw(ctx context.Context, dir string, algorithms []sigalg.Key) (map[sigalg.Key]rawKey, func() error, error) {
	pass, err := secretFile(filepath.Join(dir, "raw-passphrase"))
	if err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	p, err := soft.Create(filepath.Join(dir, "raw-keystore"), pass)
	if err != nil {
		return nil, nil, err
	}
	out := map[sigalg.Key]rawKey{}
	for _, a := range algorithms {
		k, err := p.Generate(ctx, keyURI("soft:"+keyName(a)), a)
		if err != nil {
			return nil, nil, errors.Join(err, p.Close())
		}
		out[a] = rawKey{k, softCallers()}
	}
	return out, p.Close, nil
}
