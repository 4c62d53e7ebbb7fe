package client

import (
	"context"
	"net/url"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// Registrations lists registrations of passkeys, newest first; states none: all.
func (c *Client) Registrations(ctx context.Context, person, states string) ([]wire.Registration, error) {
	q := url.Values{}
	if person != "" {
		q.Set("person", person)
	}
	if states != "" {
		q.Set("state", states)
	}
	out, err := get[wire.Registrations](ctx, c, "/passkeys/registrations", q, 0)
	if err != nil {
		return nil, err
	}
	return out.Registrations, nil
}

// Registration returns one registration, as the server has it.
func (c *Client) Registration(ctx context.Context, id string) (*wire.Registration, error) {
	return get[wire.Registration](ctx, c, "/passkeys/registrations/"+url.PathEscape(id), nil, 0)
}

// RefuseRegistration refuses a registration, or withdraws one's own.
func (c *Client) RefuseRegistration(ctx context.Context, id, reason string) (*wire.Registration, error) {
	return post[wire.Registration](ctx, c, "/passkeys/registrations/"+url.PathEscape(id)+"/refuse", wire.Refusing{Reason: reason}, true)
}
