package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// ConsoleLink gets a code that signs the caller in to the console in a browser. The code
// is a secret for a minute.
func (c *Client) ConsoleLink(ctx context.Context) (*wire.ConsoleLink, error) {
	return post[wire.ConsoleLink](ctx, c, "/console/links", struct{}{}, true)
}

// ConsoleSessions lists the sessions of the console that the caller may see.
func (c *Client) ConsoleSessions(ctx context.Context) ([]wire.ConsoleSession, error) {
	out, err := get[wire.ConsoleSessions](ctx, c, "/console/sessions", nil, 0)
	if err != nil {
		return nil, err
	}
	return out.Sessions, nil
}

// EndConsoleSession ends one.
func (c *Client) EndConsoleSession(ctx context.Context, id string) error {
	_, err := c.bytes(ctx, call{method: http.MethodDelete, path: "/console/sessions/" + url.PathEscape(id), once: true})
	return err
}
