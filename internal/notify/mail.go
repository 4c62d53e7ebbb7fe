package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// What senders say of an attempt that did not succeed, besides the plain error of
// one that is worth another.
var (
	// ErrUnsure says that the receiver may have the message: the connection ended
	// after it was handed over, before the receiver said anything.
	ErrUnsure = errors.New("the receiver has said nothing: it may have the message")
	// ErrRefused says that another attempt would be refused, too.
	ErrRefused = errors.New("refused for good")
)

// SMTP is a mail server.
type SMTP struct {
	Host     string
	Port     int
	From     string // address, or Name <address>
	User     string
	Password []byte
	TLS      string         // "starttls", "implicit", or "none": to this machine only
	Roots    *x509.CertPool // nil: the system's
	Hello    string         // name of this machine; "": localhost
	Patience time.Duration  // with a server that greets, takes a certificate and a password; 20 s
}

// Mailer sends mail.
type Mailer struct {
	c    SMTP
	from *mail.Address
}

// NewMailer checks a mail server's configuration.
func NewMailer(c SMTP) (*Mailer, error) {
	from, err := mail.ParseAddress(c.From)
	if err != nil || !cleanAddress(from.Address) {
		return nil, fmt.Errorf("notify: mail: from: %q is no address", c.From)
	}
	switch c.TLS {
	case "starttls", "implicit":
	case "none":
		if ip := net.ParseIP(c.Host); c.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, errors.New("notify: mail: without TLS the server must be on this machine")
		}
		if c.User != "" {
			return nil, errors.New("notify: mail: a password is not sent without TLS")
		}
	default:
		return nil, fmt.Errorf("notify: mail: tls %q: want starttls, implicit or none", c.TLS)
	}
	if c.Hello == "" {
		c.Hello = "localhost"
	}
	if c.Patience <= 0 {
		c.Patience = 20 * time.Second
	}
	return &Mailer{c: c, from: from}, nil
}

// cleanAddress refuses what could be more than one address, or a line.
func cleanAddress(s string) bool {
	if len(s) > 254 || strings.Count(s, "@") != 1 {
		return false
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune("<>,;:()[]\"\\", r) {
			return false
		}
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s
}

const (
	mailDial = 10 * time.Second
	mailTime = 60 * time.Second // of one mail
)

func (m *Mailer) domain() string {
	return m.from.Address[strings.LastIndexByte(m.from.Address, '@')+1:]
}

// message is a letter in the form of a mail. It is the same on every attempt.
func (m *Mailer) message(to string, l *Letter, k Links) (*gomail.Msg, error) {
	if !cleanAddress(to) {
		return nil, fmt.Errorf("notify: mail: the recipient's address: %w", ErrRefused)
	}
	html, err := l.HTML(k)
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithBoundary("greatseal-"+l.ID), gomail.WithEncoding(gomail.EncodingQP))
	if err := errors.Join(msg.FromFormat(m.from.Name, m.from.Address), msg.To(to)); err != nil {
		return nil, fmt.Errorf("notify: mail: address: %w", ErrRefused)
	}
	msg.Subject(l.Subject())
	msg.SetDateWithValue(l.Time)
	msg.SetMessageIDWithValue(l.ID + "@" + m.domain())
	if l.Item != nil {
		thread := "<request." + l.Item.Request + "@" + m.domain() + ">"
		msg.SetGenHeader(gomail.HeaderReferences, thread)
		msg.SetGenHeader(gomail.HeaderInReplyTo, thread)
	}
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetBodyString(gomail.TypeTextPlain, l.Text(k)+"\n-- \n"+footer+"\n")
	msg.AddAlternativeString(gomail.TypeTextHTML, html)
	return msg, nil
}

// Send hands a letter to the mail server for one address. A server that says 250
// after the text has it, whatever becomes of the connection then.
func (m *Mailer) Send(ctx context.Context, to string, l *Letter, k Links) error {
	msg, err := m.message(to, l, k)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mailTime)
	defer cancel()
	greet, greeted := context.WithTimeout(ctx, m.c.Patience)
	defer greeted()
	var conn net.Conn
	held := func() bool { return true }
	config := &tls.Config{ServerName: m.c.Host, RootCAs: m.c.Roots, MinVersion: tls.VersionTLS12}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: mailDial}
		var err error
		if m.c.TLS == "implicit" {
			conn, err = (&tls.Dialer{NetDialer: &d, Config: config}).DialContext(ctx, network, address)
		} else {
			conn, err = d.DialContext(ctx, network, address)
		}
		if err == nil { // what hangs is cut off, of which the library knows nothing
			held = context.AfterFunc(greet, func(c net.Conn) func() { return func() { c.Close() } }(conn))
		}
		return conn, err
	}
	o := []gomail.Option{gomail.WithPort(m.c.Port), gomail.WithHELO(m.c.Hello), gomail.WithTimeout(mailTime), gomail.WithDialContextFunc(dial), gomail.WithTLSConfig(config), gomail.WithoutNoop()}
	switch m.c.TLS {
	case "starttls":
		o = append(o, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case "implicit":
		o = append(o, gomail.WithSSL())
	default:
		o = append(o, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	if m.c.User != "" {
		o = append(o, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(m.c.User), gomail.WithPassword(string(m.c.Password)))
	}
	c, err := gomail.NewClient(m.c.Host, o...)
	if err != nil {
		return fmt.Errorf("notify: mail: %w", err)
	}
	s, err := c.DialToSMTPClientWithContext(greet)
	if !held() && err == nil {
		err = greet.Err()
	}
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return fmt.Errorf("notify: mail: %s: %w", m.c.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = c.SendWithSMTPClient(s, msg)
	if e := c.CloseWithSMTPClient(s); e != nil {
		conn.Close()
	}
	return m.outcome(msg, err)
}

// outcome says what an error means for the mail.
func (m *Mailer) outcome(msg *gomail.Msg, err error) error {
	if err == nil || msg.IsDelivered() {
		return nil
	}
	var s *gomail.SendError
	if !errors.As(err, &s) {
		return fmt.Errorf("notify: mail: %s: %w", m.c.Host, err)
	}
	code := s.ErrorCode()
	switch {
	case code >= 500 && (s.Reason == gomail.ErrSMTPRcptTo || s.Reason == gomail.ErrSMTPDataClose):
		return fmt.Errorf("notify: mail: %s answered %d: %w", m.c.Host, code, ErrRefused)
	case code != 0:
		return fmt.Errorf("notify: mail: %s answered %d", m.c.Host, code)
	case s.Reason == gomail.ErrSMTPDataClose:
		return fmt.Errorf("notify: mail: %s: %w", m.c.Host, ErrUnsure)
	case s.Reason == gomail.ErrWriteContent:
		// Without the dot at its end nothing was handed over.
		return fmt.Errorf("notify: mail: %s: the connection ended within the message", m.c.Host)
	}
	return fmt.Errorf("notify: mail: %s: the connection ended", m.c.Host)
}
