package chromiumtest

import (
	"context"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// call calls a command without parameters.
func call[R any](ctx context.Context, cmd cdp.Command[cdp.Empty, R]) error {
	_, err := chromedp.Call(ctx, cmd, cdp.Empty{})
	return err
}
