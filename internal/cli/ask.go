package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/workload"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

// asking are the flags of every command that makes a request.
type asking struct {
	reason    string
	origin    map[string]string
	expires   time.Duration
	notBefore string
	noWait    bool
	timeout   time.Duration
}

func (k *asking) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&k.reason, "reason", "", "why, for the endorsers")
	f.StringToStringVar(&k.origin, "origin", nil, "where it comes from, for the endorsers: repository=…, commit=…; repeatable (default: what GitHub, GitLab or Jenkins says of the job)")
	f.DurationVar(&k.expires, "expires", 0, "how long the request may wait (default: as long as the policy allows)")
	f.StringVar(&k.notBefore, "not-before", "", "not executed earlier: 2006-01-02T15:04:05Z, or a duration from now: 8h")
	f.BoolVar(&k.noWait, "no-wait", false, "return as soon as the request is made")
	f.DurationVar(&k.timeout, "timeout", 0, "how long to wait (default: as long as the request lives)")
}

// moment reads a time: RFC 3339, a day, or a duration from now, backwards with a
// minus or where past says so.
func (a *App) moment(flag, s string, past bool) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		if past && d > 0 {
			d = -d
		}
		return a.Now().Add(d), nil
	}
	for _, l := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(l, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fail(exitUsage, "--"+flag+" 2026-01-31, 2026-01-31T12:00:00Z or 72h", "--%s %q is not a time", flag, s)
}

func (k *asking) options(a *App) (author.RequestOptions, error) {
	t, err := a.moment("not-before", k.notBefore, false)
	origin := workload.Origin(os.Getenv)
	for n, v := range k.origin {
		if origin == nil {
			origin = map[string]string{}
		}
		origin[n] = v
	}
	return author.RequestOptions{Expires: k.expires, NotBefore: t, Reason: k.reason, Origin: origin}, err
}

// submit makes a request, signs it and hands it in.
func (l *link) submit(ctx context.Context, cmd statement.Command, items [][]byte, k *asking) (*server.View, error) {
	o, err := k.options(l.app)
	if err != nil {
		return nil, err
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, err
	}
	me, err := l.author(ctx)
	if err != nil {
		return nil, err
	}
	head, ref := chain.Head()
	env, id, err := me.Request(ctx, head, ref, cmd, o)
	if err != nil {
		return nil, err
	}
	v, err := l.Submit(ctx, env, items)
	if err != nil {
		return nil, err
	}
	if v.Command.Digest() != cmd.Digest() || !v.Attached && v.ID != id.String() {
		return nil, fail(exitUnverified, "tell the server's administrator", "the server answers with another request (%s)", short(v.ID))
	}
	if v.ID != id.String() {
		return v, l.genuine(ctx, v.ID, cmd)
	}
	return v, nil
}

// genuine makes sure that a request that was there before asks for cmd: the server
// could name another one, whose signature is another key's.
func (l *link) genuine(ctx context.Context, id string, cmd statement.Command) error {
	env, err := l.Envelopes(ctx, id)
	if err != nil {
		return err
	}
	r, got, err := l.statementOf(ctx, env.Request)
	if err != nil {
		return err
	}
	if got.String() != id || r.Command.Digest() != cmd.Digest() {
		return fail(exitUnverified, "tell the server's administrator", "the server answers with another request (%s)", short(id))
	}
	return nil
}

// ask makes the request of a command without files, and waits for it. The receipt
// is nil when nobody waits.
func (l *link) ask(ctx context.Context, cmd statement.Command, k *asking) (*server.View, *statement.Receipt, error) {
	v, err := l.submit(ctx, cmd, nil, k)
	if err != nil {
		return nil, nil, err
	}
	l.app.announce(v)
	if k.noWait && v.State.Open() {
		return v, nil, nil
	}
	if v, err = l.await(ctx, v, k.timeout, "greatseal request show "+short(v.ID)+" --watch"); err != nil {
		return v, nil, err
	}
	rc, _, err := l.receipt(ctx, v)
	return v, rc, err
}

// announce says what became of a submission.
func (a *App) announce(v *server.View) {
	if v.Attached {
		a.note("the same was asked before: this attaches to request %s", short(v.ID))
	}
	switch {
	case v.State == store.Pending:
		a.note("request %s waits for %s", short(v.ID), waitsFor(v))
	default:
		a.note("request %s is %s", short(v.ID), progressOf(v))
	}
}

func waitsFor(v *server.View) string {
	if len(v.Awaits) == 0 {
		return "nobody who is left: see greatseal request show " + short(v.ID)
	}
	return strings.Join(v.Awaits, ", ")
}

// await waits until a request is executed. resume is what the user does when the
// waiting ends before.
func (l *link) await(ctx context.Context, v *server.View, timeout time.Duration, resume string) (*server.View, error) {
	if !v.State.Open() {
		return v, closed(v)
	}
	wait, stop := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		wait, stop = context.WithTimeout(ctx, timeout)
	}
	defer stop()
	m := l.app.meter("waiting", -1, false)
	defer m.end()
	tick := make(chan struct{})
	defer close(tick)
	go spin(m, tick)
	last := ""
	out, err := l.Wait(wait, v.ID, func(n *server.View) {
		line := progressOf(n)
		m.say(line)
		if line != last && m.bar == nil && last != "" {
			l.app.note("%s: %s", short(n.ID), line)
		}
		last = line
	})
	m.end()
	switch {
	case err == nil:
		return out, closed(out)
	case ctx.Err() != nil:
		return v, fail(exitWaiting, resume, "interrupted; request %s stays open", short(v.ID))
	case wait.Err() != nil:
		return v, fail(exitWaiting, resume, "request %s still waits after %s: %s", short(v.ID), timeout, orText(last, progressOf(v)))
	}
	if p := (*client.Problem)(nil); errors.As(err, &p) && p.Status == http.StatusUnauthorized {
		return v, fail(exitWaiting, "greatseal login, and then "+resume, "request %s stays open: %w", short(v.ID), err)
	}
	return v, err
}

// spin keeps a meter of unknown length moving.
func spin(m *meter, end <-chan struct{}) {
	if m.bar == nil {
		return
	}
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-end:
			return
		case <-t.C:
			m.add(0)
		}
	}
}

// progressOf is the state of an open request in a line.
func progressOf(v *server.View) string {
	s := string(v.State)
	switch {
	case v.State == store.Pending:
		s = "waits for " + waitsFor(v)
	case v.State == store.Endorsed && v.Detail != "":
		s = "endorsed, and not executed yet: " + printable(v.Detail)
	case v.State == store.Endorsed && !v.NotBefore.IsZero():
		s = "endorsed, executed after " + when(v.NotBefore)
	case v.State == store.Endorsed:
		s = "endorsed, the keeper executes it"
	}
	if u := v.Upload; u != nil && v.State.Open() && u.Done < u.Wanted {
		s += fmt.Sprintf(" (%d of %d uploaded)", u.Done, u.Wanted)
	}
	return s
}

// closed is nil for an executed request, and says why for any other that is over.
func closed(v *server.View) error {
	why := v.Detail
	if why == "" {
		why = v.Code
	}
	if why != "" {
		why = ": " + printable(why)
	}
	hint := "greatseal request show " + short(v.ID)
	switch v.State {
	case store.Executed:
		return nil
	case store.Disapproved, store.Failed, store.Cancelled, store.Expired:
		return fail(exitRefused, hint, "request %s is %s%s", short(v.ID), v.State, why)
	}
	return fail(exitWaiting, hint, "request %s is %s and waits for %s", short(v.ID), v.State, waitsFor(v))
}

// receipt fetches the result of an executed request and checks the keeper's
// receipt: signed by the keeper of the charter that it names, for this request.
func (l *link) receipt(ctx context.Context, v *server.View) (*statement.Receipt, *server.Result, error) {
	res, err := l.Result(ctx, v.ID)
	if err != nil {
		return nil, nil, err
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, nil, err
	}
	bad := func(err error) (*statement.Receipt, *server.Result, error) {
		return nil, nil, fail(exitUnverified, "tell the server's administrator", "the receipt of request %s: %v", short(v.ID), err)
	}
	_, said, err := statement.DecodeEnveloped[statement.Receipt](res.Receipt)
	if err != nil {
		return bad(err)
	}
	c, ref, err := chain.Version(said.Charter.Version)
	if err != nil { // replaced since this program has looked
		if chain, err = l.refetch(ctx); err != nil {
			return nil, nil, err
		}
		if c, ref, err = chain.Version(said.Charter.Version); err != nil {
			return bad(err)
		}
	}
	pub, err := receipt.ParseKey(c.Keeper.Receipts)
	if err != nil {
		return bad(err)
	}
	rc, _, err := receipt.Verify(pub, res.Receipt)
	switch {
	case err != nil:
		return bad(err)
	case rc.Charter != ref || rc.Deployment != c.Deployment:
		return bad(errors.New("names a charter that is not in the chain"))
	case rc.Request.String() != v.ID:
		return bad(fmt.Errorf("is for request %s", rc.Request))
	case rc.Outcome != statement.Executed || rc.Command != v.Command.Name:
		return bad(fmt.Errorf("says %s of %s", rc.Outcome, rc.Command))
	}
	return rc, res, nil
}

// statementOf decodes a signed request and checks that its author signed it, with
// a credential of the chain's charters. It says nothing about whether he may ask.
func (l *link) statementOf(ctx context.Context, envelope jsontext.Value) (*statement.Request, statement.ID, error) {
	var none statement.ID
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, none, err
	}
	env, r, err := statement.DecodeEnveloped[statement.Request](envelope)
	if err != nil {
		return nil, none, err
	}
	_, ref, err := chain.Version(r.Charter.Version)
	if err != nil || ref != r.Charter {
		return nil, none, fail(exitUnverified, "", "request %s names a charter that is not in the chain", short(env.ID().String()))
	}
	if len(env.Signatures) == 1 {
		for v := uint64(1); v <= version(chain); v++ {
			c, _, err := chain.Version(v)
			if err != nil {
				return nil, none, err
			}
			for _, x := range credentialsOf(c, r.Requester) {
				if cred, err := c.Credential(x); err == nil && string(cred.ID()) == env.Signatures[0].KeyID &&
					cred.Verify(credential.Statement, statement.PAE(env.Payload), env.Signatures[0].Sig) == nil {
					return &r, env.ID(), nil
				}
			}
		}
	}
	return nil, none, fail(exitUnverified, "tell the server's administrator", "request %s is not signed by %s", short(env.ID().String()), r.Requester)
}

// same finds the executed request of the same command by the same person: what
// has been asked before and done need not be asked again.
func (l *link) same(ctx context.Context, cmd statement.Command, content []byte) (*server.View, error) {
	f := filterOf(cmd, l.cfg.Name, content)
	page, err := l.Requests(ctx, f)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(page.Requests, func(v server.View) bool { return v.State == store.Executed && v.Command.Digest() == cmd.Digest() })
	if i < 0 {
		return nil, nil
	}
	v := &page.Requests[i]
	return v, l.genuine(ctx, v.ID, cmd)
}

// chainHash is what receipts call certificates by.
func chainHash(chain [][]byte) string {
	if len(chain) == 0 {
		return ""
	}
	h := sha256.New()
	for _, d := range chain {
		h.Write(d)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func version(c *quorum.Chain) uint64 {
	_, ref := c.Head()
	return ref.Version
}

func filterOf(cmd statement.Command, requester string, content []byte) client.Filter {
	f := client.Filter{State: []store.State{store.Executed}, Command: string(cmd.Name), Key: cmd.KeyName(), Requester: requester, Content: content, Limit: 100}
	if cmd.Sign != nil {
		f.Policy = cmd.Sign.Policy
	}
	return f
}
