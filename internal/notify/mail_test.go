package notify_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"mime"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/notify/notifytest"
)

var at = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// hostile is what a requester may write.
const hostile = "urgent\r\nBcc: eve@evil.example\r\n\r\n<script>alert(1)</script> \u202egpj.exe @channel <!here> [click](https://evil.example/a) ”"

func letter() *notify.Letter {
	return &notify.Letter{ID: "00112233445566778899aabbccddeeff", Event: notify.Pending, Deployment: "acme", Time: at, To: "bob",
		Item: &notify.Item{Request: strings.Repeat("ab", 32), Command: "sign", Policy: "release", Key: "release", Requester: "alice", Count: 2,
			Expires: at.Add(time.Hour), State: "pending", Names: []string{"setup.exe", hostile}, Reason: hostile},
		Awaits: []string{"bob", "carol"}}
}

var links = notify.Links{URL: "https://sign.acme.example"}

func mailer(t *testing.T, s *notifytest.Server, mode string, change ...func(*notify.SMTP)) *notify.Mailer {
	t.Helper()
	c := notify.SMTP{Host: "localhost", Port: s.Port, From: "Greatseal <seal@acme.example>", TLS: mode, Roots: s.Roots}
	for _, f := range change {
		f(&c)
	}
	m, err := notify.NewMailer(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Invariants 4, 5 and 6: over each kind of TLS, the same mail on every attempt.
func TestMail(t *testing.T) {
	for mode, server := range map[string]string{"starttls": "starttls", "implicit": "implicit", "none": "plain"} {
		t.Run(mode, func(t *testing.T) {
			s := notifytest.Start(t, server)
			m := mailer(t, s, mode)
			for range 2 {
				if err := m.Send(t.Context(), "bob@acme.example", letter(), links); err != nil {
					t.Fatal(err)
				}
			}
			got := s.Wait(2)
			if got[0].Data != got[1].Data {
				t.Errorf("the second attempt is another mail:\n%s\n%s", got[0].Data, got[1].Data)
			}
			g := got[0]
			if g.TLS != (mode != "none") || g.From != "seal@acme.example" || len(g.To) != 1 || g.To[0] != "bob@acme.example" {
				t.Errorf("envelope: %+v", g)
			}
			h, parts := g.Parse(t)
			for name, want := range map[string]string{
				"Message-Id": "<00112233445566778899aabbccddeeff@acme.example>", "Auto-Submitted": "auto-generated",
				"References": "<request." + strings.Repeat("ab", 32) + "@acme.example>", "To": "<bob@acme.example>", "Bcc": "", "List-Unsubscribe": "",
			} {
				if h.Get(name) != want {
					t.Errorf("%s: %q, not %q", name, h.Get(name), want)
				}
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
			if err != nil || subject != "[acme] endorsement wanted: sign under release, 2 files, request abababababab" {
				t.Errorf("subject: %q %v", subject, err)
			}
			text, page := parts["text/plain"], parts["text/html"]
			if !strings.Contains(text, "https://sign.acme.example/console/requests/"+strings.Repeat("ab", 32)) || !strings.Contains(text, "greatseal request show abababababab") {
				t.Errorf("text:\n%s", text)
			}
			if strings.ContainsAny(text+page, "\u202e\r") || strings.Contains(text, "\nBcc") || strings.Contains(page, "<script") || !strings.Contains(page, "&lt;script&gt;") {
				t.Errorf("what is hostile gets through:\n%s\n%s", text, page)
			}
			if !strings.Contains(text, "Reason given: “urgent Bcc: eve@evil.example") {
				t.Errorf("the reason is not quoted:\n%s", text)
			}
		})
	}
}

// Invariant 4: a certificate of somebody else, a server without TLS, and a name that
// the certificate does not have get no mail.
func TestMailRefusesUntrusted(t *testing.T) {
	s := notifytest.Start(t, "starttls")
	plain := notifytest.Start(t, "plain")
	for what, m := range map[string]*notify.Mailer{
		"another root":        mailer(t, s, "starttls", func(c *notify.SMTP) { c.Roots = x509.NewCertPool() }),
		"another name":        mailer(t, s, "starttls", func(c *notify.SMTP) { c.Host = "127.0.0.2" }),
		"no STARTTLS":         mailer(t, plain, "starttls", func(c *notify.SMTP) { c.Roots = s.Roots }),
		"no TLS at all":       mailer(t, plain, "implicit", func(c *notify.SMTP) { c.Roots = s.Roots }),
		"a password to grab":  mailer(t, plain, "starttls", func(c *notify.SMTP) { c.User, c.Password = "seal", []byte("hunter2") }),
		"implicit to a plain": mailer(t, s, "implicit"),
	} {
		err := m.Send(t.Context(), "bob@acme.example", letter(), links)
		if err == nil || errors.Is(err, notify.ErrUnsure) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := len(s.Mails()) + len(plain.Mails()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
	for what, c := range map[string]notify.SMTP{
		"plain elsewhere":    {Host: "mail.example.com", Port: 25, From: "a@b.example", TLS: "none"},
		"plain password":     {Host: "localhost", Port: 25, From: "a@b.example", TLS: "none", User: "u"},
		"no tls named":       {Host: "localhost", Port: 25, From: "a@b.example"},
		"a from of two":      {Host: "localhost", Port: 25, From: "a@b.example, c@d.example", TLS: "none"},
		"a from with a line": {Host: "localhost", Port: 25, From: "a@b.example\r\nBcc: c@d.example", TLS: "none"},
	} {
		if _, err := notify.NewMailer(c); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestMailLogin(t *testing.T) {
	s := notifytest.Start(t, "starttls")
	s.Say("auth seal hunter2")
	with := func(password string) *notify.Mailer {
		return mailer(t, s, "starttls", func(c *notify.SMTP) { c.User, c.Password, c.Patience = "seal", []byte(password), 2*time.Second })
	}
	if err := with("hunter2").Send(t.Context(), "bob@acme.example", letter(), links); err != nil {
		t.Fatal(err)
	}
	if m := s.Wait(1)[0]; !m.Authenticated || !m.TLS {
		t.Errorf("%+v", m)
	}
	err := with("hunter3").Send(t.Context(), "bob@acme.example", letter(), links)
	if err == nil || strings.Contains(err.Error(), "hunter3") || errors.Is(err, notify.ErrRefused) {
		t.Errorf("a wrong password: %v", err)
	}
}

// What an answer means for the next attempt.
func TestMailAnswers(t *testing.T) {
	s := notifytest.Start(t, "starttls")
	m := mailer(t, s, "starttls")
	for _, c := range []struct {
		say             string
		refused, unsure bool
	}{
		{"rcpt 450 later", false, false}, {"rcpt 550 no such user", true, false}, {"data 451 later", false, false},
		{"data 554 no thanks", true, false}, {"data 452 full", false, false}, {"drop", false, true},
	} {
		s.Say("%s", c.say)
		err := m.Send(t.Context(), "bob@acme.example", letter(), links)
		if err == nil || errors.Is(err, notify.ErrRefused) != c.refused || errors.Is(err, notify.ErrUnsure) != c.unsure {
			t.Errorf("%s: %v", c.say, err)
		}
	}
	// A server that takes the mail and says nothing until we have no more patience.
	s.Say("swallow")
	n := len(s.Mails())
	ctx, cancel := context.WithCancel(t.Context())
	go func() { s.Wait(n + 1); cancel() }()
	if err := m.Send(ctx, "bob@acme.example", letter(), links); !errors.Is(err, notify.ErrUnsure) {
		t.Errorf("swallowed: %v", err)
	}
	s.Say("ok")
	if err := m.Send(t.Context(), "bob@acme.example", letter(), links); err != nil {
		t.Error(err)
	}
	down := mailer(t, s, "starttls", func(c *notify.SMTP) { c.Port = 1 })
	if err := down.Send(t.Context(), "bob@acme.example", letter(), links); err == nil || errors.Is(err, notify.ErrUnsure) || errors.Is(err, notify.ErrRefused) {
		t.Errorf("down: %v", err)
	}
}

// Header injection: an address that is more than one.
func TestMailAddresses(t *testing.T) {
	s := notifytest.Start(t, "plain")
	m := mailer(t, s, "none")
	for _, to := range []string{"", "bob", "bob@acme.example, eve@evil.example", "bob@acme.example\r\nBcc: eve@evil.example", "Bob <bob@acme.example>",
		"bob@acme.example\n", "\"a b\"@acme.example", "bob@a@b", "bob@acme.example>", "bób@acme.example", strings.Repeat("a", 300) + "@acme.example"} {
		if err := m.Send(t.Context(), to, letter(), links); !errors.Is(err, notify.ErrRefused) {
			t.Errorf("%q: %v", to, err)
		}
	}
	if len(s.Mails()) != 0 {
		t.Error("mail was sent")
	}
	l := letter()
	l.Deployment, l.Item.Policy, l.Item.Requester = "acme\r\nBcc: eve@evil.example", "x\nSubject: y", "alice\r\n.\r\nMAIL FROM:<eve@evil.example>"
	if err := m.Send(t.Context(), "bob@acme.example", l, links); err != nil {
		t.Fatal(err)
	}
	g := s.Wait(1)
	h, _ := g[0].Parse(t)
	if len(g) != 1 || h.Get("Bcc") != "" || len(h["Subject"]) != 1 || !bytes.Contains([]byte(h.Get("Subject")), []byte("acme Bcc")) {
		t.Errorf("%+v", h)
	}
}
