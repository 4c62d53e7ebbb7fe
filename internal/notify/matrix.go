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
)

// matrixPlace is one room of a Matrix server, in the form of shoutrrr:
// matrix://:TOKEN@HOST/?room=!ID:SERVER. The library's own sender can neither be
// given a client nor the transaction ID by which the server knows a message again,
// so this one is ours (client-server API v1.11, §"Sending events to a room").
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

// matrix sends with the letter's ID as the transaction's: a message that is sent
// again is the same one in the room.
func (c *Chat) matrix(ctx context.Context, client *http.Client, l *Letter, text string) error {
	p, err := parseMatrix(c.address)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"msgtype": "m.notice", "body": text, "m.mentions": map[string]any{}}, json.Deterministic(true))
	if err != nil {
		return err
	}
	to := p.base + "/_matrix/client/v3/rooms/" + url.PathEscape(p.room) + "/send/m.room.message/greatseal-" + l.ID
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "greatseal")
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	return nil
}
