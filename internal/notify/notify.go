// Package notify tells programs what happens to requests, to agents' jobs and to
// protected records: webhooks, signed as the Standard Webhooks specification says
// (HMAC-SHA256, "v1,").
//
// Invariants:
//
//  1. A message is told as its sender's only by its signature; the secret is in
//     no log, error or address.
//  2. Addresses inside the own network are refused when the connection is made,
//     unless the webhook allows them, so that a name that changes its address
//     leads nowhere.
//  3. Redirects are not followed and answers are not read beyond a few bytes.
package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Event is what a message is about.
type Event string

// The events.
const (
	Pending     Event = "request.pending" // waits for endorsements
	Executed    Event = "request.executed"
	Disapproved Event = "request.disapproved"
	Failed      Event = "request.failed"
	Expired     Event = "request.expired"
	Cancelled   Event = "request.cancelled"
	Reminder    Event = "request.reminder" // still waits, half of its time gone
	Rejected    Event = "agent.rejected"   // an agent refused a job; its body is of package ecc
	Untrusted   Event = "record.untrusted" // a record does not verify where it is protected; its body is of package instance
)

// Events lists every event.
func Events() []Event {
	return []Event{Pending, Executed, Disapproved, Failed, Expired, Cancelled, Reminder, Rejected, Untrusted}
}

// Webhook is one receiver.
type Webhook struct {
	Name         string // for logs and jobs
	URL          string
	Secret       []byte  // 24 to 64 bytes, as in "whsec_" + base64
	Events       []Event // empty: all
	AllowPrivate bool    // the address may lie in the own network
}

// Check refuses a webhook that cannot work.
func (w Webhook) Check() error {
	if w.Name == "" || strings.Contains(w.Name, "/") {
		return fmt.Errorf("notify: webhook %q: want a name without '/'", w.Name)
	}
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && w.AllowPrivate) {
		return fmt.Errorf("notify: webhook %s: want an https address without a password (http only with allow_private)", w.Name)
	}
	if len(w.Secret) < 24 || len(w.Secret) > 64 {
		return fmt.Errorf("notify: webhook %s: want a secret of 24 to 64 bytes: whsec_ and base64, as \"openssl rand -base64 32\" makes it", w.Name)
	}
	for _, e := range w.Events {
		if !slices.Contains(Events(), e) {
			return fmt.Errorf("notify: webhook %s: unknown event %q", w.Name, e)
		}
	}
	return nil
}

// Wants reports whether w is to be told of e.
func (w Webhook) Wants(e Event) bool { return len(w.Events) == 0 || slices.Contains(w.Events, e) }

// ParseSecret reads "whsec_" and base64.
func ParseSecret(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(s), "whsec_"))
	if err != nil {
		return nil, errors.New("notify: a webhook secret is whsec_ and base64")
	}
	return b, nil
}

// Message is the body of a webhook.
type Message struct {
	Type      Event     `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      Data      `json:"data"`
}

// Data says which request a message is about. Names are the requester's word.
type Data struct {
	Deployment string    `json:"deployment"`
	Request    string    `json:"request"`
	Command    string    `json:"command"`
	Policy     string    `json:"policy,omitzero"`
	Key        string    `json:"key,omitzero"`
	Requester  string    `json:"requester"`
	Count      int       `json:"count,omitzero"`
	State      string    `json:"state"`
	Expires    time.Time `json:"expires"`
	Reason     string    `json:"reason,omitzero"`
	Awaits     []string  `json:"awaits,omitzero"` // whose endorsement could still count
}

// Encode is the body that is sent and signed.
func (m Message) Encode() ([]byte, error) { return json.Marshal(m, json.Deterministic(true)) }

// Sign is the value of the webhook-signature header.
func Sign(secret []byte, id string, at time.Time, body []byte) string {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%s.%d.", id, at.Unix())
	h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// Sender delivers messages.
type Sender struct {
	open, guarded *http.Client
}

// NewSender makes a sender.
func NewSender() *Sender {
	client := func(control func(network, address string, _ syscall.RawConn) error) *http.Client {
		d := &net.Dialer{Timeout: 10 * time.Second, Control: control}
		return &http.Client{
			Timeout: 20 * time.Second,
			Transport: &http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: 10 * time.Second,
				MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 15 * time.Second, MaxResponseHeaderBytes: 64 << 10},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &Sender{open: client(nil), guarded: client(public)}
}

// public refuses a connection to an address that is not a public one. It sees
// the address that is dialled, after the name was resolved.
func public(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("notify: address: %w", err)
	}
	a := ap.Addr().WithZone("").Unmap()
	special := slices.ContainsFunc(specialPrefixes(), func(p netip.Prefix) bool { return p.Contains(a) })
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || special {
		return errors.New("notify: the address lies in the own network: allow_private permits that")
	}
	return nil
}

// specialPrefixes are the networks of the IANA special-purpose registries (RFC
// 6890) that lead inside, or by translation may do so.
func specialPrefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2002::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// Send delivers body once. The error says what the receiver answered; a receiver
// that answers 2xx has it.
func (s *Sender) Send(ctx context.Context, w Webhook, id string, at time.Time, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("notify: webhook %s: %w", w.Name, err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "greatseal")
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", Sign(w.Secret, id, at, body))
	c := s.guarded
	if w.AllowPrivate {
		c = s.open
	}
	resp, err := c.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, whose path may be a secret
		}
		return fmt.Errorf("notify: webhook %s: %w", w.Name, err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("notify: webhook %s: the receiver answered %d", w.Name, resp.StatusCode)
	}
	return nil
}
