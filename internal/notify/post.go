package notify

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/googlechat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/slack"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
)

// posted are the services whose addresses the library reads and whose messages are
// posted here: its own senders take no client, so that their connections could not be
// guarded, and Telegram's takes an answer that it does not understand for success.
func posted() []string { return []string{"googlechat", "matrix", "slack", "teams", "telegram"} }

// posting is one request to a service. Form is JSON.
type posting struct {
	method, to, bearer string
	form               any
	// taken reads what the service says in an answer of success; nil: nothing.
	taken func(body []byte) bool
}

// errTold is the error of a service that says of a message in an answer of success
// that it has not taken it.
var errTold = errors.New("the receiver did not take it")

// post makes the request of a message. Errors hold nothing of the address.
func (c *Chat) post(l *Letter, text string) (*posting, error) {
	bad := fmt.Errorf("notify: channel %s: its address is none of %s", c.Name, c.scheme)
	u := *c.address
	p := &posting{method: http.MethodPost}
	switch c.scheme {
	case "slack":
		x, err := slack.CreateConfigFromURL(&u)
		if err != nil {
			return nil, bad
		}
		// "mrkdwn" is off: nothing in the text is markup. The library's form has it on.
		p.to, p.form = x.Token.WebhookURL(), map[string]any{"text": slackText(text), "mrkdwn": false, "unfurl_links": false, "unfurl_media": false}
		if x.Token.IsAPIToken() {
			p.to, p.bearer = "https://slack.com/api/chat.postMessage", strings.TrimPrefix(x.Token.Authorization(), "Bearer ")
			p.form = map[string]any{"channel": x.Channel, "text": slackText(text), "mrkdwn": false, "unfurl_links": false, "unfurl_media": false}
			p.taken = func(b []byte) bool {
				var a struct {
					OK bool `json:"ok"`
				}
				return json.Unmarshal(b, &a) == nil && a.OK
			}
		}
	case "googlechat":
		var x googlechat.Config
		if err := x.SetURL(&u); err != nil || x.Key == "" || x.Token == "" {
			return nil, bad
		}
		q := url.Values{"key": {x.Key}, "token": {x.Token}}
		p.to, p.form = (&url.URL{Scheme: "https", Host: x.Host, Path: x.Path, RawQuery: q.Encode()}).String(), map[string]any{"text": text}
	case "telegram":
		var x telegram.Config
		if err := x.SetURL(&u); err != nil || len(x.Chats) != 1 {
			return nil, bad
		}
		p.to = "https://api.telegram.org/bot" + x.Token + "/sendMessage"
		p.form = map[string]any{"chat_id": x.Chats[0], "text": text, "link_preview_options": map[string]any{"is_disabled": true}}
		p.taken = func(b []byte) bool {
			var a struct {
				OK bool `json:"ok"`
			}
			return json.Unmarshal(b, &a) == nil && a.OK
		}
	case "teams":
		var x teams.Config
		if err := x.SetURL(&u); err != nil {
			return nil, bad
		}
		p.to = teams.BuildWebhookURL(x.Host, x.Group, x.Tenant, x.AltID, x.GroupOwner, x.ExtraID)
		title, _, _ := strings.Cut(text, "\n")
		var sections []map[string]any
		for line := range strings.Lines(text) {
			sections = append(sections, map[string]any{"text": strings.TrimSuffix(line, "\n"), "markdown": false})
		}
		p.form = map[string]any{"@type": "MessageCard", "@context": "http://schema.org/extensions", "summary": title, "markdown": false, "sections": sections}
		p.taken = func(b []byte) bool { return strings.TrimSpace(string(b)) == "1" }
	case "matrix":
		x, err := parseMatrix(&u)
		if err != nil {
			return nil, err
		}
		// With the letter's ID as the transaction's, a message that is sent again is
		// the same one in the room (client-server API, "Sending events to a room").
		p.method, p.bearer = http.MethodPut, x.token
		p.to = x.base + "/_matrix/client/v3/rooms/" + url.PathEscape(x.room) + "/send/m.room.message/greatseal-" + l.ID
		p.form = map[string]any{"msgtype": "m.notice", "body": text, "m.mentions": map[string]any{}}
	default:
		return nil, bad
	}
	return p, nil
}

// slackText escapes what Slack takes for its own (&, <, >), which is in our words only.
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// own posts a message.
func (c *Chat) own(ctx context.Context, client *http.Client, l *Letter, text string) error {
	p, err := c.post(l, text)
	if err != nil {
		return err
	}
	body, err := json.Marshal(p.form, json.Deterministic(true))
	if err != nil {
		return errForm
	}
	r, err := http.NewRequestWithContext(ctx, p.method, p.to, bytes.NewReader(body))
	if err != nil {
		return errForm
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "greatseal")
	if p.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+p.bearer)
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 == 2 && p.taken != nil && !p.taken(b) {
		return errTold
	}
	return nil
}

// matrixPlace is one room of a Matrix server, in the library's form:
// matrix://:TOKEN@HOST/?room=!ID:SERVER.
type matrixPlace struct {
	base, room, token string
}

func parseMatrix(u *url.URL) (*matrixPlace, error) {
	token, _ := u.User.Password()
	q := u.Query()
	var rooms []string
	for key, v := range q {
		switch strings.ToLower(key) {
		case "room", "rooms":
			rooms = append(rooms, v...)
		case "disabletls":
		default:
			return nil, fmt.Errorf("notify: matrix: unknown parameter %q", Line(key, 32))
		}
	}
	if u.Host == "" || u.User.Username() != "" || token == "" || len(rooms) != 1 || !strings.HasPrefix(rooms[0], "!") || strings.Contains(rooms[0], ",") || u.Path != "" && u.Path != "/" {
		return nil, errors.New("notify: matrix: want matrix://:ACCESS-TOKEN@HOST/?room=!ID:SERVER with the ID of one room")
	}
	scheme := "https"
	if t := strings.ToLower(q.Get("disabletls") + q.Get("disableTLS")); t == "yes" || t == "true" || t == "1" {
		scheme = "http"
	}
	return &matrixPlace{base: scheme + "://" + u.Host, room: rooms[0], token: token}, nil
}
