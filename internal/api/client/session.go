package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// session is what a client says of who asks. Clients that are made of one another
// share it.
type session struct {
	mu    sync.Mutex
	token string
	renew func(context.Context) error

	renewing sync.Mutex // one renewal at a time
}

// nameless marks the context of calls that do not say who asks: those of a login.
type nameless struct{}

// Renew has f get another session when the server does not know who asks: there is
// none, or the one in use has ended. f calls Login, LoginToken or SetToken. What was
// refused for that reason has not been done; it is asked for again, once. nil: nobody
// gets another session.
func (c *Client) Renew(f func(ctx context.Context) error) {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.session.renew = f
}

// SetToken uses another token or session from now on; "" uses none.
func (c *Client) SetToken(token string) {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.session.token = token
}

func (c *Client) bearer() string {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	return c.session.token
}

// present sends r: again with another session, where the server does not know who asks
// and there is a way to get one.
func (c *Client) present(ctx context.Context, r call) (*http.Response, error) {
	was := c.bearer()
	resp, err := c.send(ctx, r)
	var p *Problem
	if !errors.As(err, &p) || p.Status != http.StatusUnauthorized || p.Code != "unauthorized" || ctx.Value(nameless{}) != nil {
		return resp, err
	}
	if done, rerr := c.session.another(ctx, was); rerr != nil {
		return nil, fmt.Errorf("%w; logging in: %w", err, rerr)
	} else if !done {
		return nil, err
	}
	return c.send(ctx, r)
}

// another gets a session in place of one that was refused, and reports whether there is
// one: another call may have got it.
func (s *session) another(ctx context.Context, refused string) (bool, error) {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	s.mu.Lock()
	now, renew := s.token, s.renew
	s.mu.Unlock()
	if renew == nil || now != refused {
		return now != refused, nil
	}
	if err := renew(context.WithValue(ctx, nameless{}, true)); err != nil {
		return false, err
	}
	return true, nil
}
