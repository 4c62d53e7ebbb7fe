// Package pkcs11 uses keys in PKCS #11 tokens (hardware security modules, smart
// cards) through a child process per module, so that a driver that hangs,
// crashes or corrupts memory takes nothing else down. The child is package
// key/pkcs11/module; this package is pure Go.
//
// URIs are those of RFC 7512, strictly, see [ParseURI]:
// "pkcs11:token=hsm1;object=release".
//
// # Invariants
//
//  1. No PIN is in a URI, an argument, the environment, an error or a log; PINs
//     go to the child through a pipe, and are zeroed here once they are sent.
//  2. A PIN that a token refused is not tried again, by nothing: what is asked
//     of the token fails with [ErrPIN] until the Provider is opened anew. A
//     token's last try is not spent.
//  3. A call that the child does not answer in time ends the child. Calls in
//     flight fail with key.ErrUnavailable and are not repeated: whoever called
//     decides. A new child is started, at growing intervals.
//  4. A [Key] signs with the key that it was opened as: after a restart it finds
//     the key again and compares the public halves.
//  5. A private key that is extractable or not sensitive, that does not sign
//     what its public half verifies, or of which there are two, is refused.
//  6. A key that is generated here is sensitive, not extractable, and signs only.
//  7. The child ends when the Provider is closed, and when this process dies.
//
// What a caller may not conclude: that the token tells the truth. That a key is
// in hardware is what the module claims; a module of somebody else's claims what
// it likes.
package pkcs11

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
	"github.com/greatseal-io/greatseal/sigalg"
)

// What callers branch on, besides the sentinels of package key.
var (
	// ErrPIN: the token refused the PIN, or has one try left and is not asked.
	ErrPIN = errors.New("pkcs11: token refuses the PIN; it is not tried again before a restart")
	// ErrAmbiguous: more than one token or key matches the URI.
	ErrAmbiguous = errors.New("pkcs11: more than one match")
	// ErrUnfit: the key is there, but using it is refused.
	ErrUnfit = errors.New("pkcs11: key is not fit for use")
	// ErrModule: the module cannot be used at all.
	ErrModule = errors.New("pkcs11: module cannot be used")
)

// Defaults and limits of Config.
const (
	DefaultSessions        = 4 // see BenchmarkSign of package module
	MaxSessions            = 32
	DefaultCallTimeout     = 10 * time.Second
	DefaultGenerateTimeout = 5 * time.Minute
	DefaultPingEvery       = 5 * time.Second
)

// Backoff between starts of the child.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
	// A child that lived so long was no failed start.
	settled = 10 * time.Second
)

// MaxInput is the longest message in bytes that is signed under a pure scheme.
const MaxInput = wire.MaxInput

// Token describes a token to whoever knows its PIN.
type Token struct {
	Label, Serial, Manufacturer, Model string
}

// Config is what Open needs to know.
type Config struct {
	// Command starts the child; Module is appended to it as the last argument.
	// What it starts must call module.Main with that argument.
	Command []string
	// Env is the whole environment of the child: nothing is inherited.
	Env []string
	// Module is the absolute path of the PKCS #11 library.
	Module string
	// PIN gives the user PIN of a token, whenever a child logs in. What it
	// returns is zeroed. It is not called while an earlier answer for the token
	// is known to be wrong.
	PIN func(ctx context.Context, t Token) ([]byte, error)
	// Sessions is how many signatures a token makes at once; 0 is
	// DefaultSessions, at most MaxSessions.
	Sessions int
	// CallTimeout is how long the child may take for one call, and
	// GenerateTimeout for generating a key; 0 is the default.
	CallTimeout, GenerateTimeout time.Duration
	// PingEvery is the time between checks of child and tokens; 0 is the default.
	PingEvery time.Duration
	// Logger is told of starts and ends of the child; nil for nobody.
	Logger *slog.Logger
	// Stderr gets what the child, driver included, writes to its standard
	// error; nil for nobody. Drivers may write secrets when told to trace.
	Stderr io.Writer
}

func (c *Config) check() error {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return errors.New("pkcs11: Config.Command is empty")
	}
	if !filepath.IsAbs(c.Module) {
		return errors.New("pkcs11: Config.Module must be an absolute path")
	}
	if c.PIN == nil {
		return errors.New("pkcs11: Config.PIN is missing")
	}
	if c.Sessions < 0 || c.Sessions > MaxSessions {
		return fmt.Errorf("pkcs11: Config.Sessions must be at most %d", MaxSessions)
	}
	if c.CallTimeout < 0 || c.GenerateTimeout < 0 || c.PingEvery < 0 {
		return errors.New("pkcs11: Config has a negative duration")
	}
	if c.Sessions == 0 {
		c.Sessions = DefaultSessions
	}
	for _, d := range []struct {
		of  *time.Duration
		def time.Duration
	}{{&c.CallTimeout, DefaultCallTimeout}, {&c.GenerateTimeout, DefaultGenerateTimeout}, {&c.PingEvery, DefaultPingEvery}} {
		if *d.of == 0 {
			*d.of = d.def
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Command, c.Env = slices.Clone(c.Command), slices.Clone(c.Env)
	return nil
}

// Provider is one module. It is a key.Generator and a key.Destroyer too, and
// safe for concurrent use.
type Provider struct {
	config Config
	codec  *wire.Codec
	stop   context.CancelFunc // ends the supervisor
	ended  chan struct{}      // closed when the supervisor has ended

	mu      sync.Mutex // guards what follows; held for no call
	child   *child     // nil while there is none
	down    error      // why there is none
	closed  bool
	refused map[string]bool          // tokens, by tokenID, whose PIN is wrong
	used    map[wire.Selector]string // tokens that were found once: the URI for errors
}

var (
	_ key.Provider  = (*Provider)(nil)
	_ key.Generator = (*Provider)(nil)
	_ key.Destroyer = (*Provider)(nil)
)

var errClosed = fmt.Errorf("pkcs11: closed: %w", key.ErrUnavailable)

// Open starts the child and waits until it has loaded the module. Tokens are
// looked for, and logged in to, when a key of theirs is used first. The error is
// [ErrModule] when the module cannot be loaded.
func Open(ctx context.Context, c Config) (*Provider, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	codec, err := wire.NewCodec()
	if err != nil {
		return nil, fmt.Errorf("pkcs11: %w", err)
	}
	p := &Provider{config: c, codec: codec, ended: make(chan struct{}), refused: map[string]bool{}, used: map[wire.Selector]string{}}
	first, err := p.start(ctx)
	if err != nil {
		return nil, err
	}
	p.child = first
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	go p.supervise(running, first)
	return p, nil
}

// supervise keeps a child running until ctx ends.
func (p *Provider) supervise(ctx context.Context, c *child) {
	defer close(p.ended)
	backoff := minBackoff
	for {
		if c != nil {
			began := time.Now()
			p.watch(ctx, c)
			c.stop(ctx.Err() != nil)
			if time.Since(began) > settled {
				backoff = minBackoff
			}
			if ctx.Err() == nil {
				p.config.Logger.Error("pkcs11: child ended", "module", p.config.Module, "reason", c.reason(), "restart_in", backoff)
			}
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
		next, err := p.start(ctx)
		p.mu.Lock()
		if p.child = next; err != nil {
			p.child, p.down = nil, err
		}
		p.mu.Unlock()
		if c = next; err != nil {
			c = nil
			p.config.Logger.Error("pkcs11: child does not start", "module", p.config.Module, "error", err, "again_in", backoff)
		}
	}
}

// watch returns when the child is of no more use.
func (p *Provider) watch(ctx context.Context, c *child) {
	defer func() {
		p.mu.Lock()
		p.child, p.down = nil, c.reason()
		p.mu.Unlock()
	}()
	ping := time.NewTicker(p.config.PingEvery)
	defer ping.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dead:
			return
		case <-ping.C:
		}
		// The child's own time limit ends a ping that is not answered.
		good, err := p.checkAll(ctx, c)
		if err == nil || good > 0 || !errors.Is(err, key.ErrUnavailable) {
			failures = 0
			continue
		}
		// Many drivers find a token again only when they are loaded anew.
		if failures++; failures >= 3 {
			c.fail(fmt.Errorf("pkcs11: no token answers: %w", err))
			return
		}
		p.config.Logger.Warn("pkcs11: no token answers", "module", p.config.Module, "error", err)
	}
}

// checkAll checks the child and every token that was used: how many are good,
// and the first error.
func (p *Provider) checkAll(ctx context.Context, c *child) (good int, first error) {
	if _, err := c.call(ctx, &wire.Request{Op: wire.OpPing}); err != nil {
		return 0, err
	}
	p.mu.Lock()
	used := make(map[wire.Selector]string, len(p.used))
	for s, uri := range p.used {
		used[s] = uri
	}
	p.mu.Unlock()
	for s, uri := range used {
		_, err := p.onToken(ctx, c, s, &wire.Request{Op: wire.OpHealth})
		if err == nil {
			good++
		} else if first == nil {
			first = fmt.Errorf("%w (%s)", err, uri)
		}
	}
	return good, first
}

// current is the running child.
func (p *Provider) current() (*child, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, errClosed
	case p.child == nil:
		return nil, fmt.Errorf("pkcs11: child is being restarted: %w (%w)", key.ErrUnavailable, p.down)
	}
	return p.child, nil
}

// Name is "pkcs11".
func (p *Provider) Name() string { return "pkcs11" }

// Format prints the module, whatever the verb.
func (p *Provider) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "pkcs11 module "+p.config.Module)
}

// Health asks the child, and every token of which a key was used, now.
func (p *Provider) Health(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := p.current()
	if err != nil {
		return err
	}
	_, err = p.checkAll(ctx, c)
	return err
}

// Close ends the child, and waits for its end.
func (p *Provider) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	<-p.ended
	return nil
}

// target parses the URI of a key.
func (p *Provider) target(ctx context.Context, uri key.URI) (URI, *child, error) {
	if err := ctx.Err(); err != nil {
		return URI{}, nil, err
	}
	u, err := ParseURI(string(uri))
	if err != nil {
		return URI{}, nil, err
	}
	c, err := p.current()
	return u, c, err
}

// Open finds a key, and makes it prove that it belongs to its public half.
func (p *Provider) Open(ctx context.Context, uri key.URI) (key.Key, error) {
	u, c, err := p.target(ctx, uri)
	if err != nil {
		return nil, err
	}
	found, err := p.onToken(ctx, c, u.selector(), &wire.Request{Op: wire.OpFind, Object: u.Object, ObjectID: []byte(u.ID)})
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, u)
	}
	return p.keyOf(ctx, c, u, found.Key)
}

// Generate makes a key on the token: sensitive, not extractable, for signing
// only. The URI must have an object; an id is chosen at random if it has none.
// Label or ID being taken, by whatever kind of key, is key.ErrExists.
func (p *Provider) Generate(ctx context.Context, uri key.URI, k sigalg.Key) (key.Key, error) {
	u, c, err := p.target(ctx, uri)
	if err != nil {
		return nil, err
	}
	if u.Object == "" {
		return nil, fmt.Errorf("%w: a key to generate needs an object (its label)", ErrURI)
	}
	if !k.Valid() {
		return nil, fmt.Errorf("pkcs11: cannot generate a key of kind %q", k)
	}
	id := []byte(u.ID)
	if len(id) == 0 {
		id = make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return nil, fmt.Errorf("pkcs11: randomness: %w", err)
		}
	}
	made, err := p.onToken(ctx, c, u.selector(), &wire.Request{Op: wire.OpGenerate, Object: u.Object, ObjectID: id, Algorithm: string(k)})
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, u)
	}
	return p.keyOf(ctx, c, u, made.Key)
}

// Destroy destroys both halves of a key, the private one first. A public key
// that is left of an earlier, interrupted Destroy is destroyed too.
func (p *Provider) Destroy(ctx context.Context, uri key.URI) error {
	u, c, err := p.target(ctx, uri)
	if err != nil {
		return err
	}
	_, err = p.onToken(ctx, c, u.selector(), &wire.Request{Op: wire.OpDestroy, Object: u.Object, ObjectID: []byte(u.ID)})
	if err != nil {
		return fmt.Errorf("%w (%s)", err, u)
	}
	return nil
}

// onToken sends r about the token that s selects, logging in as often as that
// is needed, which is once or, when the login was lost meanwhile, twice.
func (p *Provider) onToken(ctx context.Context, c *child, s wire.Selector, r *wire.Request) (*wire.Response, error) {
	for attempt := 0; ; attempt++ {
		t, epoch, err := p.login(ctx, c, s)
		if err != nil {
			return nil, err
		}
		q := *r
		q.Slot, q.Serial = t.Slot, t.Serial
		got, err := c.call(ctx, &q)
		if err != nil {
			return nil, err
		}
		switch got.Code {
		case wire.CodeOK:
			return got, nil
		case wire.CodeLogin, wire.CodeUnavailable:
			c.loggedOut(s, epoch)
			if attempt == 0 && got.Code == wire.CodeLogin {
				continue
			}
		}
		return nil, codeError(got)
	}
}

// login is the token that s selects, logged in, and the number of its login.
func (p *Provider) login(ctx context.Context, c *child, s wire.Selector) (wire.Token, uint64, error) {
	st := c.token(s)
	select { // a lock that a context can leave
	case st.lock <- struct{}{}:
		defer func() { <-st.lock }()
	case <-ctx.Done():
		return wire.Token{}, 0, ctx.Err()
	case <-c.dead:
		return wire.Token{}, 0, c.reason()
	}
	if st.in {
		return st.token, st.epoch, nil
	}
	got, err := c.call(ctx, &wire.Request{Op: wire.OpToken, Selector: s})
	if err != nil {
		return wire.Token{}, 0, err
	}
	if got.Code != wire.CodeOK {
		return wire.Token{}, 0, codeError(got)
	}
	if got.Token == nil {
		return wire.Token{}, 0, c.lied("no token in an answer")
	}
	t := *got.Token
	if err := p.sendPIN(ctx, c, t); err != nil {
		return wire.Token{}, 0, err
	}
	st.token, st.in = t, true
	st.epoch++
	p.mu.Lock()
	p.used[s] = URI{Token: t.Label, Serial: t.Serial}.String()
	p.mu.Unlock()
	return t, st.epoch, nil
}

// sendPIN logs in, unless the PIN is known to be wrong.
func (p *Provider) sendPIN(ctx context.Context, c *child, t wire.Token) error {
	id := t.Manufacturer + "\x00" + t.Model + "\x00" + t.Serial + "\x00" + t.Label
	// One login at a time: two of them would try a wrong PIN twice.
	select {
	case c.pin <- struct{}{}:
		defer func() { <-c.pin }()
	case <-ctx.Done():
		return ctx.Err()
	case <-c.dead:
		return c.reason()
	}
	p.mu.Lock()
	refused := p.refused[id]
	p.mu.Unlock()
	if refused {
		return fmt.Errorf("%w (token %q)", ErrPIN, t.Label)
	}
	pin, err := p.config.PIN(ctx, Token{Label: t.Label, Serial: t.Serial, Manufacturer: t.Manufacturer, Model: t.Model})
	if err != nil {
		return fmt.Errorf("pkcs11: PIN of token %q: %w", t.Label, err)
	}
	defer clear(pin)
	if len(pin) == 0 {
		return fmt.Errorf("pkcs11: PIN of token %q is empty", t.Label)
	}
	// Once a PIN is on its way its verdict must be known: a caller that leaves
	// must not make the next one try it again.
	got, err := c.call(context.WithoutCancel(ctx), &wire.Request{
		Op: wire.OpLogin, Slot: t.Slot, Serial: t.Serial, PIN: pin, Sessions: uint8(p.config.Sessions),
	})
	if err != nil {
		return err
	}
	if got.Code == wire.CodePIN {
		p.mu.Lock()
		p.refused[id] = true
		p.mu.Unlock()
		p.config.Logger.Error("pkcs11: token refuses the PIN", "module", p.config.Module, "token", t.Label, "reason", got.Text)
	}
	if got.Code != wire.CodeOK {
		return fmt.Errorf("%w (token %q)", codeError(got), t.Label)
	}
	return nil
}

// codeError is the error that an answer stands for.
func codeError(r *wire.Response) error {
	sentinel := map[wire.Code]error{
		wire.CodeUnavailable: key.ErrUnavailable, wire.CodeLogin: key.ErrUnavailable, wire.CodePIN: ErrPIN,
		wire.CodeNotFound: key.ErrNotFound, wire.CodeExists: key.ErrExists, wire.CodeAmbiguous: ErrAmbiguous,
		wire.CodeUnfit: ErrUnfit, wire.CodeStale: key.ErrUnavailable, wire.CodeChanged: key.ErrNotFound,
	}[r.Code]
	if sentinel == nil {
		return fmt.Errorf("pkcs11: %s", r.Text)
	}
	return fmt.Errorf("pkcs11: %s: %w", r.Text, sentinel)
}
