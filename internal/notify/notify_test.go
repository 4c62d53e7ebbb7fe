package notify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

var secret = bytes.Repeat([]byte("s"), 32)

// The signature is one that the specification's own library verifies.
func TestSignature(t *testing.T) {
	type got struct {
		header http.Header
		body   []byte
	}
	received := make(chan got, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		received <- got{r.Header, b}
	}))
	defer s.Close()
	w := Webhook{Name: "test", URL: s.URL, Secret: secret, AllowPrivate: true}
	body, err := Message{Type: Executed, Timestamp: time.Now().UTC(), Data: Data{Deployment: "test", Request: "ab"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := NewSender().Send(t.Context(), w, "msg_1", time.Now(), body); err != nil {
		t.Fatal(err)
	}
	g := <-received
	oracle, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString(secret))
	if err != nil {
		t.Fatal(err)
	}
	if err := oracle.Verify(g.body, g.header); err != nil {
		t.Errorf("the library refuses it: %v", err)
	}
	if err := oracle.Verify(append(g.body, ' '), g.header); err == nil {
		t.Error("the library takes other bytes")
	}
	g.header.Set("webhook-id", "msg_2")
	if err := oracle.Verify(g.body, g.header); err == nil {
		t.Error("the library takes another id")
	}
	var m Message
	if err := json.Unmarshal(g.body, &m); err != nil || m.Type != Executed || m.Data.Request != "ab" {
		t.Errorf("message: %s %v", g.body, err)
	}
}

func TestCheck(t *testing.T) {
	good := Webhook{Name: "a", URL: "https://hooks.example.com/x", Secret: secret, Events: []Event{Pending}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Webhook){
		"http":           func(w *Webhook) { w.URL = "http://hooks.example.com" },
		"a password":     func(w *Webhook) { w.URL = "https://u:p@hooks.example.com" },
		"no host":        func(w *Webhook) { w.URL = "https:///x" },
		"a file":         func(w *Webhook) { w.URL = "file:///etc/passwd"; w.AllowPrivate = true },
		"a short secret": func(w *Webhook) { w.Secret = secret[:23] },
		"a long secret":  func(w *Webhook) { w.Secret = bytes.Repeat(secret, 3) },
		"no secret":      func(w *Webhook) { w.Secret = nil },
		"unknown event":  func(w *Webhook) { w.Events = []Event{"request.exploded"} },
	} {
		w := good
		change(&w)
		if err := w.Check(); err == nil {
			t.Errorf("%s is taken", what)
		} else if strings.Contains(err.Error(), "sssss") || strings.Contains(err.Error(), "u:p@") {
			t.Errorf("%s: the error tells a secret: %v", what, err)
		}
	}
	if !good.Wants(Pending) || good.Wants(Executed) || !(Webhook{}).Wants(Expired) {
		t.Error("wants")
	}
	if b, err := ParseSecret(" whsec_" + base64.StdEncoding.EncodeToString(secret) + "\n"); err != nil || !bytes.Equal(b, secret) {
		t.Errorf("secret: %v", err)
	}
	if _, err := ParseSecret("whsec_!secret!"); err == nil || strings.Contains(err.Error(), "!secret!") {
		t.Errorf("bad secret: %v", err)
	}
}

// Invariant 2: what decides is the address that is dialled.
func TestPrivateAddresses(t *testing.T) {
	for _, a := range []string{"127.0.0.1:80", "127.9.9.9:1", "10.0.0.1:443", "172.16.0.1:443", "192.168.1.1:443", "169.254.169.254:80", "0.0.0.0:80", "100.64.0.1:80",
		"[::1]:80", "[fe80::1]:80", "[fd00::1]:80", "[::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80", "[::]:80", "224.0.0.1:80", "255.255.255.255:80", "[ff02::1]:80",
		"[64:ff9b::7f00:1]:80", "[64:ff9b::a9fe:a9fe]:80", "[2002:7f00:1::]:80", "0.1.2.3:80", "192.0.0.8:80", "198.18.0.1:80", "240.0.0.1:80", "no address"} {
		if err := public("tcp", a, nil); err == nil {
			t.Errorf("%s passes", a)
		}
	}
	for _, a := range []string{"93.184.216.34:443", "[2606:2800:220:1::1]:443", "8.8.8.8:53", "100.128.0.1:443"} {
		if err := public("tcp", a, nil); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	called := false
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer s.Close()
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} { // localhost: a name that leads home
		w := Webhook{Name: "x", URL: "http://" + host + ":" + port + "/secret-path", Secret: secret}
		err := NewSender().Send(t.Context(), w, "msg_1", time.Now(), nil)
		if err == nil || called {
			t.Errorf("%s is reached", host)
		} else if strings.Contains(err.Error(), "secret-path") {
			t.Errorf("the error tells the path: %v", err)
		}
	}
}

// Invariant 3.
func TestAnswers(t *testing.T) {
	reached := false
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer inside.Close()
	status, body := 200, io.Reader(nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status == 307 {
			w.Header().Set("Location", inside.URL)
		}
		w.WriteHeader(status)
		if body != nil {
			io.Copy(w, body)
		}
	}))
	defer s.Close()
	w := Webhook{Name: "x", URL: s.URL, Secret: secret, AllowPrivate: true}
	for st, good := range map[int]bool{200: true, 204: true, 299: true, 307: false, 400: false, 410: false, 500: false} {
		status = st
		if err := NewSender().Send(t.Context(), w, "m", time.Now(), nil); good != (err == nil) {
			t.Errorf("%d: %v", st, err)
		}
	}
	if reached {
		t.Error("a redirect was followed")
	}
	status, body = 200, endless{}
	if err := NewSender().Send(t.Context(), w, "m", time.Now(), nil); err != nil {
		t.Errorf("an endless answer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewSender().Send(ctx, w, "m", time.Now(), nil); err == nil {
		t.Error("cancelled")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func ExampleSign() {
	secret, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(Sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)))
	// Output: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

// A webhook with a list of events can name every event that is sent.
func TestEventsOfAgentsAndRecords(t *testing.T) {
	for _, e := range []Event{Rejected, Untrusted} {
		w := Webhook{Name: "soc", URL: "https://soc.example/", Secret: make([]byte, 32), Events: []Event{e}}
		if err := w.Check(); err != nil || !w.Wants(e) || w.Wants(Pending) {
			t.Errorf("%s: %v", e, err)
		}
	}
	if Rejected != "agent.rejected" || Untrusted != "record.untrusted" {
		t.Error("receivers know the events by other names")
	}
}
