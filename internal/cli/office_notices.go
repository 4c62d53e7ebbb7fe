package cli

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
)

// openNotices makes what tells people; nil where the configuration has nobody told.
func openNotices(c *config.Server, operators []string, st *store.SQL, log *slog.Logger) (*notices.Engine, error) {
	n := c.Notify
	if n == nil {
		return nil, nil
	}
	nc := notices.Config{Store: st, Sender: notify.NewSender(), Operators: operators, Reminders: n.Reminders, Escalation: n.Escalation,
		People: map[string]notices.Contact{}, URL: c.URL, Clock: time.Now, Logger: log}
	var err error
	if n.SMTP != nil {
		if nc.Mailer, err = openMailer(n.SMTP); err != nil {
			return nil, err
		}
	}
	for _, x := range n.Channels {
		chat, err := openChat(x.Name, x.URLFile, x.AllowPrivate)
		if err != nil {
			return nil, err
		}
		ch := notices.Channel{Chat: chat, Policies: x.Policies}
		for _, e := range x.Events {
			if !slices.Contains(notify.ChannelEvents(), notify.Event(e)) {
				return nil, fmt.Errorf("notify: channel %s: unknown event %q", x.Name, e)
			}
			ch.Events = append(ch.Events, notify.Event(e))
		}
		nc.Channels = append(nc.Channels, ch)
	}
	for name, x := range n.People {
		contact := notices.Contact{Mail: x.Mail}
		if x.ChatFile != "" {
			if contact.Chat, err = openChat(name, x.ChatFile, x.AllowPrivate); err != nil {
				return nil, err
			}
		}
		nc.People[name] = contact
	}
	d, err := n.Digest.Check()
	if err != nil {
		return nil, err
	}
	nc.Defaults = notices.Preferences{Deliver: d.Deliver, At: d.At, Zone: d.Zone}
	if n.Quiet != nil {
		nc.Defaults.QuietFrom, nc.Defaults.QuietTo = n.Quiet.From, n.Quiet.To
	}
	return notices.New(nc)
}

func openMailer(s *config.SMTP) (*notify.Mailer, error) {
	m := notify.SMTP{Host: s.Host, Port: s.Port, From: s.From, User: s.User, TLS: s.TLS}
	var err error
	if s.PasswordFile != "" {
		if m.Password, err = config.Secret(s.PasswordFile); err != nil {
			return nil, err
		}
	}
	var roots *x509.CertPool
	if s.CA != "" {
		if roots, err = readPool(s.CA); err != nil {
			return nil, err
		}
	}
	m.Roots = roots
	return notify.NewMailer(m)
}

func openChat(name, file string, allowPrivate bool) (*notify.Chat, error) {
	address, err := config.Secret(file)
	if err != nil {
		return nil, err
	}
	return notify.NewChat(name, string(address), allowPrivate)
}

// operators are those who are told of what is about no request.
func operators(c *config.Server) []string {
	out := slices.Clone(c.Admins)
	for _, n := range c.Console.Roles.Operator {
		if !strings.Contains(n, ":") && !slices.Contains(out, n) { // groups of a sign-on are not known here
			out = append(out, n)
		}
	}
	return out
}
