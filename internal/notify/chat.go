package notify

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/mattermost"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/rocketchat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushover"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// Services lists the schemes of the chat services that a channel's address may
// have. There is none that takes any address and any body, or runs something.
func Services() []string {
	return []string{"discord", "googlechat", "gotify", "matrix", "mattermost", "ntfy", "pushover", "rocketchat", "slack", "teams", "telegram"}
}

// Chat is one place of a chat service: a channel, a room, a person's device.
type Chat struct {
	Name         string // for logs and jobs
	scheme       string
	address      *url.URL
	allowPrivate bool
}

// room is how long a message may be, in bytes: services refuse longer ones, or the
// library makes several of them.
func (c *Chat) room() int {
	switch c.scheme {
	case "discord":
		return 1900
	case "pushover":
		return 1000
	}
	return 3800
}

// NewChat reads a channel's address, which is a secret: it is in no error.
func NewChat(name, address string, allowPrivate bool) (*Chat, error) {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil || u.Opaque != "" || u.Scheme == "" {
		return nil, fmt.Errorf("notify: channel %s: its address is none: want SERVICE://…", name)
	}
	c := &Chat{Name: name, scheme: u.Scheme, address: u, allowPrivate: allowPrivate}
	if !slices.Contains(Services(), u.Scheme) {
		return nil, fmt.Errorf("notify: channel %s: service %q: want one of %s", name, Line(u.Scheme, 32), strings.Join(Services(), ", "))
	}
	for key := range u.Query() {
		switch k := strings.ToLower(key); {
		case k == "insecureskipverify", k == "disabletlsverification":
			return nil, fmt.Errorf("notify: channel %s: a certificate that does not verify is not taken: drop %s", name, k)
		case (k == "disabletls" || k == "scheme") && !allowPrivate:
			return nil, fmt.Errorf("notify: channel %s: %s is for receivers in the own network: with allow_private", name, k)
		}
	}
	if err := c.vendor(); err != nil {
		return nil, err
	}
	if slices.Contains(posted(), u.Scheme) {
		_, err = c.post(&Letter{}, "")
	} else {
		_, err = c.service(nil)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// vendor refuses a host of a service that has but its vendor's.
func (c *Chat) vendor() error {
	host := ""
	switch c.scheme {
	case "teams":
		host = c.address.Query().Get("host")
		if name, ok := strings.CutSuffix(host, ".webhook.office.com"); ok && name != "" && !strings.ContainsAny(name, "/@:?#%\\") {
			return nil
		}
	case "googlechat":
		if host = c.address.Host; host == "chat.googleapis.com" {
			return nil
		}
	default:
		return nil
	}
	return fmt.Errorf("notify: channel %s: %s: want the service's own host, not %q", c.Name, c.scheme, Line(host, 80))
}

// service makes the library's service anew for one message: it changes its
// configuration while it sends.
func (c *Chat) service(client *http.Client) (types.Service, error) {
	var s types.Service
	var after func()
	switch c.scheme {
	case "mattermost":
		x := &mattermost.Service{}
		s, after = x, func() { *x.GetHTTPClient() = *client }
	case "rocketchat":
		x := &rocketchat.Service{}
		s, after = x, func() { x.Client = client }
	case "discord":
		x := &discord.Service{}
		s, after = x, func() { x.HTTPClient, x.Sleeper = client, impatient{} }
	case "ntfy":
		x := &ntfy.Service{}
		s, after = x, func() { x.SetHTTPClient(client) }
	case "gotify":
		x := &gotify.Service{}
		s, after = x, func() { *x.GetHTTPClient() = *client }
	case "pushover":
		x := &pushover.Service{}
		s, after = x, func() { x.Client = client }
	default:
		return nil, fmt.Errorf("notify: channel %s: unknown service", c.Name)
	}
	u := *c.address
	if c.scheme == "discord" { // one message, not one for each line
		q := u.Query()
		q.Set("splitlines", "No")
		u.RawQuery = q.Encode()
	}
	if err := s.Initialize(&u, log.New(io.Discard, "", 0)); err != nil {
		return nil, fmt.Errorf("notify: channel %s: its address is none of %s", c.Name, c.scheme) // the library's error may hold a token
	}
	if client != nil {
		after()
	}
	return s, nil
}

// impatient is the Sleeper of a service that would try again by itself: jobs do.
type impatient struct{}

// Sleep implements discord.Sleeper.
func (impatient) Sleep(time.Duration) {}

// errTwice stops a library that would send a message again by itself.
var errTwice = errors.New("notify: one request for one message")

// watched is the way of one message: it notes what became of it. It lets one
// request through.
type watched struct {
	through http.RoundTripper
	used    atomic.Bool
	wrote   atomic.Bool  // the whole request is out
	status  atomic.Int64 // of the answer; 0: none
	failure atomic.Pointer[error]
}

// RoundTrip implements http.RoundTripper.
func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	if !w.used.CompareAndSwap(false, true) {
		return nil, errTwice
	}
	trace := &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) {
		if i.Err == nil {
			w.wrote.Store(true)
		}
	}}
	resp, err := w.through.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		w.failure.Store(&err)
		return nil, err
	}
	w.status.Store(int64(resp.StatusCode))
	resp.Body = bounded{io.LimitReader(resp.Body, 64<<10), resp.Body}
	return resp, nil
}

type bounded struct {
	io.Reader
	io.Closer
}

// Send hands a letter to the service once. id is the same on every attempt.
func (c *Chat) Send(ctx context.Context, s *Sender, l *Letter, k Links) error {
	text := l.Chat(k)
	if n := c.room(); len(text) > n {
		cut := strings.LastIndexByte(text[:n], '\n')
		text = text[:max(cut, 0)] + "\n…"
	}
	base := s.guarded
	if c.allowPrivate {
		base = s.open
	}
	w := &watched{through: base.Transport}
	client := &http.Client{Transport: w, Timeout: base.Timeout, CheckRedirect: base.CheckRedirect}
	var err error
	if slices.Contains(posted(), c.scheme) {
		err = c.own(ctx, client, l, text)
	} else {
		err = c.hand(ctx, client, text)
	}
	f, code := w.failure.Load(), w.status.Load()
	switch {
	case code/100 == 2 && !errors.Is(err, errTold):
		return nil
	case f != nil && errors.Is(*f, ErrPrivate):
		err = ErrPrivate
	case errors.Is(err, errTold):
	case code != 0:
		err = fmt.Errorf("the receiver answered %d", code)
	case w.wrote.Load():
		err = ErrUnsure
	case f != nil:
		err = plainFailure(*f)
	default:
		err = errForm
	}
	return fmt.Errorf("notify: channel %s: %w", c.Name, err)
}

// hand has the library send. It knows no context: what takes longer than it may is
// left behind, and nobody knows whether the receiver has it.
func (c *Chat) hand(ctx context.Context, client *http.Client, text string) error {
	s, err := c.service(client)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- errForm
			}
		}()
		done <- s.Send(text, &types.Params{})
	}()
	t := time.NewTimer(40 * time.Second)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	case <-t.C:
	}
	return ErrUnsure
}

// plainFailure says what is wrong without what the library says: its errors hold
// addresses with tokens in them.
func plainFailure(err error) error {
	var dns *net.DNSError
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &dns):
		return errors.New("its name is not found")
	case errors.As(err, &unknown), errors.As(err, &name):
		return errors.New("its certificate does not verify")
	case errors.As(err, &op) && op.Op == "dial":
		return errors.New("no connection")
	}
	return errors.New("the connection ended")
}

// errForm is the error of a message that the library could not make.
var errForm = errors.New("the service's form failed")
