package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Notify says how people and channels are told what happens to requests. Webhooks
// stand beside it, in webhooks.
type Notify struct {
	SMTP       *SMTP              `yaml:"smtp,omitempty"`       // none: no mail
	Channels   []Channel          `yaml:"channels,omitempty"`   // where several people read
	People     map[string]Contact `yaml:"people,omitempty"`     // what differs from the charter's addresses
	Reminders  []Share            `yaml:"reminders,omitempty"`  // default 50% and 90%
	Escalation []Escalation       `yaml:"escalation,omitempty"` //
	Digest     Digest             `yaml:"digest,omitempty"`     // of people who have chosen nothing
	Quiet      *Quiet             `yaml:"quiet,omitempty"`      // as digest
}

// SMTP is the mail server that takes mail of this deployment.
type SMTP struct {
	Host         string `yaml:"host"`
	Port         int    `yaml:"port,omitempty"` // default 587, with tls: implicit 465
	From         string `yaml:"from"`           // address, or Name <address>
	User         string `yaml:"user,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`
	TLS          string `yaml:"tls,omitempty"` // "starttls" (default), "implicit", or "none" for a server on this machine
	CA           string `yaml:"ca,omitempty"`  // PEM file; default: the system's
}

// Channel is one place of a chat service.
type Channel struct {
	Name         string   `yaml:"name"`
	URLFile      string   `yaml:"url_file"`           // the service's address in the form of shoutrrr: a secret
	Events       []string `yaml:"events,omitempty"`   // default: all
	Policies     []string `yaml:"policies,omitempty"` // default: all, and what is under none
	AllowPrivate bool     `yaml:"allow_private,omitempty"`
}

// Contact is how one person is reached.
type Contact struct {
	Mail         string `yaml:"mail,omitempty"`
	ChatFile     string `yaml:"chat_file,omitempty"` // as a channel's url_file
	AllowPrivate bool   `yaml:"allow_private,omitempty"`
}

// Escalation tells others of a request that still waits.
type Escalation struct {
	After Share    `yaml:"after"` // of its time, or since it was made: "50%", "24h"
	To    []string `yaml:"to"`    // person:NAME, group:NAME, channel:NAME
}

// Digest is when somebody is told.
type Digest struct {
	Deliver string `yaml:"deliver,omitempty"` // "immediate" (default), "hourly" or "daily"
	At      string `yaml:"at,omitempty"`      // HH:MM, of daily; default 08:00
	Zone    string `yaml:"zone,omitempty"`    // as Europe/Berlin; default UTC
}

// Quiet are hours in which nobody is told; what comes in them waits for their end.
type Quiet struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

// Share is a part of a request's time, or a time since it was made. Exactly one is
// set.
type Share struct {
	Percent int
	After   time.Duration
}

// UnmarshalText reads "50%" or "24h".
func (s *Share) UnmarshalText(b []byte) error {
	*s = Share{}
	text := string(b)
	if p, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 99 {
			return fmt.Errorf("config: %q: want 1%% to 99%%", text)
		}
		s.Percent = n
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute {
		return fmt.Errorf("config: %q: want a part as 50%%, or a time of a minute or more as 24h", text)
	}
	s.After = d
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Share) String() string {
	if s.Percent > 0 {
		return strconv.Itoa(s.Percent) + "%"
	}
	return s.After.String()
}

// At is when it is over for something that lasts from begin to end; false where that
// is not before end.
func (s Share) At(begin, end time.Time) (time.Time, bool) {
	t := begin.Add(s.After)
	if s.Percent > 0 {
		t = begin.Add(end.Sub(begin) / 100 * time.Duration(s.Percent))
	}
	return t, t.Before(end)
}

// DefaultReminders are those of a configuration that names none.
func DefaultReminders() []Share { return []Share{{Percent: 50}, {Percent: 90}} }

// ClockTime reads HH:MM as minutes since midnight.
func ClockTime(s string) (int, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("config: %q: want a time of day as 08:30", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

var wayName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

func (n *Notify) resolve(dir string) error {
	if n == nil {
		return nil
	}
	var ps []*string
	if n.SMTP != nil {
		ps = append(ps, &n.SMTP.PasswordFile, &n.SMTP.CA)
	}
	for i := range n.Channels {
		ps = append(ps, &n.Channels[i].URLFile)
	}
	errs := []error{paths(dir, ps...)}
	for name, c := range n.People {
		errs = append(errs, paths(dir, &c.ChatFile))
		n.People[name] = c
	}
	return errors.Join(errs...)
}

func (n *Notify) check() error {
	if n == nil {
		return nil
	}
	if err := n.SMTP.check(); err != nil {
		return err
	}
	names := map[string]bool{}
	for _, c := range n.Channels {
		switch {
		case !wayName.MatchString(c.Name) || names[c.Name]:
			return fmt.Errorf("config: notify: channel %q: want names of a-z, 0-9 and '-', each once", c.Name)
		case c.URLFile == "":
			return fmt.Errorf("config: notify: channel %s: url_file is missing", c.Name)
		}
		names[c.Name] = true
	}
	for name, c := range n.People {
		if c.Mail == "" && c.ChatFile == "" {
			return fmt.Errorf("config: notify: people: %s: want mail or chat_file", name)
		}
		if c.Mail != "" {
			if a, err := mail.ParseAddress(c.Mail); err != nil || a.Address != c.Mail {
				return fmt.Errorf("config: notify: people: %s: %q is no address", name, c.Mail)
			}
		}
	}
	for _, e := range n.Escalation {
		if e.After == (Share{}) || len(e.To) == 0 {
			return errors.New("config: notify: escalation: want after and to")
		}
		for _, to := range e.To {
			kind, name, ok := strings.Cut(to, ":")
			if !ok || name == "" || !slices.Contains([]string{"person", "group", "channel"}, kind) || kind == "channel" && !names[name] {
				return fmt.Errorf("config: notify: escalation: %q: want person:NAME, group:NAME, or channel:NAME of one in channels", to)
			}
		}
	}
	if len(n.Reminders) > 8 || len(n.Escalation) > 8 {
		return errors.New("config: notify: want at most 8 reminders and 8 escalations")
	}
	if _, err := n.Digest.Check(); err != nil {
		return err
	}
	if n.Quiet != nil {
		if _, _, err := n.Quiet.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Check fills what is not set and says what is wrong.
func (d Digest) Check() (Digest, error) {
	if d.Deliver == "" {
		d.Deliver = "immediate"
	}
	if d.At == "" {
		d.At = "08:00"
	}
	if d.Zone == "" {
		d.Zone = "UTC"
	}
	if !slices.Contains([]string{"immediate", "hourly", "daily"}, d.Deliver) {
		return d, fmt.Errorf("config: deliver: %q: want immediate, hourly or daily", d.Deliver)
	}
	if _, err := ClockTime(d.At); err != nil {
		return d, err
	}
	if _, err := time.LoadLocation(d.Zone); err != nil || d.Zone == "Local" || len(d.Zone) > 64 {
		return d, fmt.Errorf("config: zone: %q: want one as Europe/Berlin", d.Zone)
	}
	return d, nil
}

// Check returns the hours in minutes since midnight; they may go over midnight.
func (q Quiet) Check() (from, to int, err error) {
	if from, err = ClockTime(q.From); err == nil {
		to, err = ClockTime(q.To)
	}
	if err == nil && from == to {
		err = fmt.Errorf("config: quiet: from %s to %s is the whole day", q.From, q.To)
	}
	return from, to, err
}

func (s *SMTP) check() error {
	if s == nil {
		return nil
	}
	if s.TLS == "" {
		s.TLS = "starttls"
	}
	if s.Port == 0 {
		s.Port = map[string]int{"starttls": 587, "implicit": 465, "none": 25}[s.TLS]
	}
	a, err := mail.ParseAddress(s.From)
	switch {
	case s.Host == "" || strings.ContainsAny(s.Host, "/@: \r\n") && net.ParseIP(s.Host) == nil:
		return fmt.Errorf("config: notify: smtp: host: %q: want the name of a mail server", s.Host)
	case !slices.Contains([]string{"starttls", "implicit", "none"}, s.TLS):
		return fmt.Errorf("config: notify: smtp: tls: %q: want starttls, implicit or none", s.TLS)
	case s.TLS == "none" && !Loopback(net.JoinHostPort(s.Host, "25")):
		return errors.New("config: notify: smtp: tls: none is for a mail server on this machine: anybody on the way could read and change what people are told")
	case s.Port < 1 || s.Port > 65535:
		return fmt.Errorf("config: notify: smtp: port: %d is none", s.Port)
	case err != nil || !strings.Contains(a.Address, "@"):
		return fmt.Errorf("config: notify: smtp: from: %q is no address", s.From)
	case (s.User == "") != (s.PasswordFile == ""):
		return errors.New("config: notify: smtp: want user and password_file, or neither")
	case s.TLS == "none" && s.User != "":
		return errors.New("config: notify: smtp: a password is not sent without tls")
	}
	return nil
}
