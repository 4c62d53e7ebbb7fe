package client

import (
	"context"
	"net/url"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// NoticeSettings says how the caller is told.
func (c *Client) NoticeSettings(ctx context.Context) (*wire.NoticeSettings, error) {
	return get[wire.NoticeSettings](ctx, c, "/notices/preferences", nil, 0)
}

// SetNoticePreferences sets how the caller is told.
func (c *Client) SetNoticePreferences(ctx context.Context, p wire.NoticePreferences) (*wire.NoticeSettings, error) {
	return post[wire.NoticeSettings](ctx, c, "/notices/preferences", p, false)
}

// TestNotices sends the caller a test message, and says on which ways.
func (c *Client) TestNotices(ctx context.Context) ([]string, error) {
	out, err := post[wire.NoticeTest](ctx, c, "/notices/test", struct{}{}, true)
	if err != nil {
		return nil, err
	}
	return out.Ways, nil
}

// Told lists who was told about a request.
func (c *Client) Told(ctx context.Context, id string) ([]wire.Told, error) {
	out, err := get[wire.ToldList](ctx, c, "/requests/"+url.PathEscape(id)+"/notices", nil, 0)
	if err != nil {
		return nil, err
	}
	return out.Notices, nil
}
