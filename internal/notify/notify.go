// Package notify tells programs and people what happens to requests, to agents' jobs
// and to protected records: webhooks, signed as the Standard Webhooks specification
// says (HMAC-SHA256, "v1,"), mail over SMTP, and places of chat services.
//
// Invariants:
//
//  1. A webhook's message is told as its sender's only by its signature; secrets are
//     in no log, error or address.
//  2. Addresses inside the own network are refused when the connection is made,
//     unless the receiver allows them, so that a name that changes its address
//     leads nowhere.
//  3. Redirects are not followed and answers are not read beyond a few bytes.
//  4. Mail goes over TLS with a certificate that verifies, or to this machine.
//  5. What a requester or endorser has written stands in quotation marks on one
//     line, bounded, without control and direction characters, never in a subject,
//     and in chat mentions nobody and links nowhere.
//  6. One message has one ID on every attempt: a mail that is sent again has the same
//     Message-ID.
//  7. Nothing that is sent lets anybody do something: no token, no link that approves.
//
// What a caller may not conclude: that a person has read what a server has taken.
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
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
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
	Reminder    Event = "request.reminder" // still waits, a part of its time gone
	Rejected    Event = "agent.rejected"   // an agent refused a job; its body is of package ecc
	Untrusted   Event = "record.untrusted" // a record does not verify where it is protected; its body is of package instance
)

// Events lists every event that programs are told of.
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
func NewSender() *Sender { return &Sender{open: client(nil), guarded: client(public)} }

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
