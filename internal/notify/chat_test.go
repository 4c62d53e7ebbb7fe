package notify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

const nasty = "see @channel @everyone <!here> <@U123> [click](https://evil.example/a) http://169.254.169.254/x www.evil.example *b* `c` ~d~\nsecond: line|\u202e"

func chatLetter() *Letter {
	return &Letter{ID: "00112233445566778899aabbccddeeff", Event: Disapproved, Deployment: "acme", Time: time.Unix(1795000000, 0),
		Item:   &Item{Request: strings.Repeat("ab", 32), Command: "sign", Policy: "release", Requester: "alice", Count: 1, Reason: nasty, Names: []string{nasty}},
		Detail: "bob (" + nasty + ") disapproved", Voices: []Voice{{"bob", "disapprove", nasty}}}
}

// receiver is a server of a chat service: it keeps what comes.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	paths  []string
	bodies []string
	heads  []http.Header
	status int
	answer string
	drop   bool
	to     string // of a redirect
}

func receive(t *testing.T, tls bool) *receiver {
	t.Helper()
	r := &receiver{status: 200, answer: "ok"}
	h := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		r.paths, r.bodies, r.heads = append(r.paths, q.Method+" "+q.URL.EscapedPath()), append(r.bodies, string(b)), append(r.heads, q.Header)
		status, answer, drop, to := r.status, r.answer, r.drop, r.to
		r.mu.Unlock()
		if drop {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
			return
		}
		if to != "" {
			w.Header().Set("Location", to)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, answer)
	})
	if tls {
		r.Server = httptest.NewTLSServer(h)
	} else {
		r.Server = httptest.NewServer(h)
	}
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) say(status int, answer string, drop bool, to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.answer, r.drop, r.to = status, answer, drop, to
}

func (r *receiver) got() (paths, bodies []string, heads []http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.paths, r.bodies, r.heads
}

func (r *receiver) host() string {
	return strings.TrimPrefix(strings.TrimPrefix(r.URL, "https://"), "http://")
}

// trusting is a sender that trusts r's certificate.
func trusting(r *receiver) *Sender {
	s := NewSender()
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	for _, c := range []*http.Client{s.open, s.guarded} {
		c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return s
}

func chat(t *testing.T, address string, allow bool) *Chat {
	t.Helper()
	c, err := NewChat("ops", address, allow)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Invariant 5: the forms of services, and nothing in them that anybody else made.
func TestChatForms(t *testing.T) {
	r := receive(t, true)
	for scheme, c := range map[string]struct{ address, path, text string }{
		"mattermost": {"mattermost://seal@HOST/hooktoken/town", "POST /hooks/hooktoken", "text"},
		"rocketchat": {"rocketchat://seal@HOST/tokena/tokenb/ops", "POST /hooks/tokena/tokenb", "text"},
		"ntfy":       {"ntfy://user:pass@HOST/topic", "POST /topic", ""},
		"gotify":     {"gotify://HOST/AbcdefghijklMN0", "POST /message", "message"},
		"matrix":     {"matrix://:syt_token@HOST/?room=!abc:acme.example", "PUT /_matrix/client/v3/rooms/%21abc:acme.example/send/m.room.message/greatseal-00112233445566778899aabbccddeeff", "body"},
	} {
		t.Run(scheme, func(t *testing.T) {
			r.say(200, "{}", false, "")
			before, _, _ := r.got()
			if err := chat(t, strings.Replace(c.address, "HOST", r.host(), 1), true).Send(t.Context(), trusting(r), chatLetter(), Links{URL: "https://sign.acme.example"}); err != nil {
				t.Fatal(err)
			}
			paths, bodies, heads := r.got()
			if len(paths) != len(before)+1 {
				t.Fatalf("%d requests", len(paths)-len(before))
			}
			path, text, head := paths[len(paths)-1], bodies[len(bodies)-1], heads[len(heads)-1]
			if path != c.path {
				t.Errorf("path %s", path)
			}
			if c.text != "" {
				var m map[string]any
				if err := json.Unmarshal([]byte(text), &m); err != nil {
					t.Fatal(err)
				}
				text, _ = m[c.text].(string)
			}
			if scheme == "matrix" && head.Get("Authorization") != "Bearer syt_token" {
				t.Error("no token")
			}
			if !strings.HasPrefix(text, "acme: disapproved\n") || !strings.Contains(text, "https://sign.acme.example/console/requests/abab") {
				t.Errorf("text:\n%s", text)
			}
			own := strings.ReplaceAll(text, "https://sign.acme.example/console/requests/"+strings.Repeat("ab", 32), "")
			for _, bad := range []string{"@channel", "@everyone", "<!", "<@", "](", "://", "www.evil", "evil.example", "169.254.169.254", "*b*", "`", "~d~", "\u202e", "|", "second: line"} {
				if strings.Contains(own, bad) {
					t.Errorf("%q gets through:\n%s", bad, text)
				}
			}
		})
	}
}

// Services of a vendor's own host are reached there: the test's receiver stands in
// for the whole internet.
func TestChatOfVendors(t *testing.T) {
	r := receive(t, true)
	pool := x509.NewCertPool()
	hosts := []string{"hooks.slack.com", "slack.com", "discord.com", "api.telegram.org", "chat.googleapis.com", "api.pushover.net", "acme.webhook.office.com"}
	cert := certificate(t, hosts, pool)
	r.Close()
	r.Server = httptest.NewUnstartedServer(r.Config.Handler)
	r.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	r.StartTLS()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, r.Listener.Addr().String())
	}
	inside := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool}}
	s := NewSender()
	s.open.Transport, s.guarded.Transport = inside, inside
	for scheme, c := range map[string]struct{ address, answer, path string }{
		"slack":      {"slack://hook:T00000000-B00000000-XXXXXXXXXXXXXXXXXXXXXXXX@webhook", "ok", "POST /services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"},
		"slack bot":  {"slack://xoxb:123456789012-1234567890123-4mt0t4l1YL3g1T5L4cK70k3N@C0123456789", `{"ok":true}`, "POST /api/chat.postMessage"},
		"discord":    {"discord://token@123456", "", "POST /api/webhooks/123456/token"},
		"telegram":   {"telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?chats=@acme", `{"ok":true,"result":{}}`, "POST /bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/sendMessage"},
		"googlechat": {"googlechat://chat.googleapis.com/v1/spaces/FOO/messages?key=bar&token=baz", "{}", "POST /v1/spaces/FOO/messages"},
		"pushover":   {"pushover://shoutrrr:apiToken@userKey", "{}", "POST /1/messages.json"},
		"teams": {"teams://11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2ESyij_gAljSoUQHvZoZYzlpAoAXExyOl26dlf1xHEx05?host=acme.webhook.office.com",
			"1", "POST /webhookb2/11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/IncomingWebhook/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2ESyij_gAljSoUQHvZoZYzlpAoAXExyOl26dlf1xHEx05"},
	} {
		t.Run(scheme, func(t *testing.T) {
			x := chat(t, c.address, false)
			r.say(200, c.answer, false, "")
			n, _, _ := r.got()
			if err := x.Send(t.Context(), s, chatLetter(), Links{}); err != nil {
				t.Fatal(err)
			}
			paths, bodies, _ := r.got()
			if len(paths) != len(n)+1 || paths[len(paths)-1] != c.path {
				t.Errorf("%d requests, %s", len(paths)-len(n), paths[len(paths)-1])
			}
			if b := bodies[len(bodies)-1]; strings.Contains(b, "@channel") || strings.Contains(b, "<!here") || strings.Contains(b, "evil.example") {
				t.Errorf("a mention or link gets through: %s", b)
			}
			// An error of the receiver holds no token, and no answer is unsure.
			r.say(503, "busy", false, "")
			if err := x.Send(t.Context(), s, chatLetter(), Links{}); err == nil || errors.Is(err, ErrUnsure) || secretIn(err, c.address) {
				t.Errorf("503: %v", err)
			}
			r.say(200, "", true, "")
			if err := x.Send(t.Context(), s, chatLetter(), Links{}); !errors.Is(err, ErrUnsure) || secretIn(err, c.address) {
				t.Errorf("dropped: %v", err)
			}
			// A vendor's name that has moved inside is not followed.
			guarded := NewSender()
			guarded.guarded.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{Control: public}).DialContext(ctx, network, r.Listener.Addr().String())
			}
			n, _, _ = r.got()
			if err := x.Send(t.Context(), guarded, chatLetter(), Links{}); !errors.Is(err, ErrPrivate) {
				t.Errorf("private: %v", err)
			}
			if m, _, _ := r.got(); len(m) != len(n) {
				t.Error("it was reached")
			}
		})
	}
}

func secretIn(err error, address string) bool {
	u, _ := url.Parse(address)
	p, _ := u.User.Password()
	for _, s := range []string{u.User.Username(), p, strings.Trim(u.Path, "/"), u.Query().Get("token")} {
		if len(s) > 4 && strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

func certificate(t *testing.T, hosts []string, pool *x509.CertPool) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, x, x, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// Invariant 2: whatever form an address in the own network has, and whatever a name
// leads to when it is dialled, nothing of it is reached.
func TestChatStaysOutside(t *testing.T) {
	r := receive(t, true)
	_, port, err := net.SplitHostPort(r.host())
	if err != nil {
		t.Fatal(err)
	}
	s := trusting(r)
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0.0.0.0", "[::]", "localhost.localdomain"} {
		for _, address := range []string{"mattermost://HOST/token", "ntfy://HOST/topic", "gotify://HOST/AbcdefghijklMN0", "rocketchat://HOST/a/b", "matrix://:t@HOST/?room=!a:b"} {
			c, err := NewChat("ops", strings.Replace(address, "HOST", host+":"+port, 1), false)
			if err != nil {
				continue // no address at all
			}
			if err := c.Send(t.Context(), s, chatLetter(), Links{}); err == nil || errors.Is(err, ErrUnsure) {
				t.Errorf("%s %s: %v", address, host, err)
			}
		}
	}
	// The other way round: a redirect inside is not followed, with or without leave.
	inside := receive(t, false)
	for _, code := range []int{301, 302, 307, 308} {
		r.say(code, "", false, inside.URL)
		for _, address := range []string{"mattermost://HOST/token", "ntfy://HOST/topic", "gotify://HOST/AbcdefghijklMN0", "rocketchat://HOST/a/b", "matrix://:t@HOST/?room=!a:b"} {
			if err := chat(t, strings.Replace(address, "HOST", r.host(), 1), true).Send(t.Context(), s, chatLetter(), Links{}); err == nil {
				t.Errorf("%s: a redirect is success", address)
			}
		}
	}
	if p, _, _ := inside.got(); len(p) != 0 {
		t.Errorf("the inside was reached: %v", p)
	}
	if p, _, _ := r.got(); len(p) != 20 {
		t.Errorf("%d requests with leave, want 20: those without leave have none", len(p))
	}
}

// A name whose address changes between two looks: what counts is the connection's.
func TestChatRebinding(t *testing.T) {
	r := receive(t, true)
	s := trusting(r)
	looks := 0
	d := &net.Dialer{Control: public, Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		looks++
		return nil, errors.New("no resolver")
	}}}
	// The dialler of the sender, with a name service that first says outside and then inside.
	answers := []string{"93.184.216.34", "127.0.0.1"}
	_, port, _ := net.SplitHostPort(r.host())
	s.guarded.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		a := answers[min(looks, 1)]
		looks++
		if a != "127.0.0.1" {
			return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded} // outside is not there in a test
		}
		return d.DialContext(ctx, network, net.JoinHostPort(a, port))
	}
	c := chat(t, "mattermost://chat.evil.example/token", false)
	for i, want := range []error{nil, ErrPrivate} {
		if err := c.Send(t.Context(), s, chatLetter(), Links{}); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("look %d: %v", i, err)
		}
	}
	if p, _, _ := r.got(); len(p) != 0 {
		t.Error("it was reached")
	}
}

// What may not be a channel.
func TestChatAddresses(t *testing.T) {
	for _, a := range []string{"", "generic://hooks.example.com/x", "generic+https://hooks.example.com", "script:///bin/sh", "logger://", "smtp://u:p@mail.example.com/?to=a@b", "https://hooks.example.com",
		"ifttt://key/?events=a", "opsgenie://host/token", "xmpp://a:b@c", "file:///etc/passwd", "teams+https://evil.example", "mattermost+https://x", "MATTERMOST2://x/y", "bark://:k@10.0.0.1/",
		"googlechat://evil.example/v1/spaces/a/messages?key=a&token=b", "teams://11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2?host=evil.example",
		"teams://11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2?host=evil.example/x.webhook.office.com",
		"mattermost://h/secrettoken?disabletls=yes", "ntfy://h/t?scheme=http", "gotify://h/t?insecureskipverify=yes", "ntfy://h/t?DisableTLSVerification=yes",
		"matrix://user:secrettoken@h/?room=!a:b", "matrix://:secrettoken@h/", "matrix://:secrettoken@h/?room=!a:b&room=!c:d", "matrix://:secrettoken@h/?room=%23alias:b", "telegram://secrettoken@telegram", "slack://secrettoken@x"} {
		_, err := NewChat("ops", a, false)
		if err == nil {
			t.Errorf("%s is taken", a)
		} else if strings.Contains(err.Error(), "secrettoken") {
			t.Errorf("the error tells a token: %v", err)
		}
	}
}

// A receiver that takes its time, and one that has it and says nothing.
func TestChatUnsure(t *testing.T) {
	r := receive(t, true)
	r.say(200, "", true, "")
	s := trusting(r)
	for _, address := range []string{"mattermost://HOST/token", "ntfy://HOST/topic", "matrix://:t@HOST/?room=!a:b"} {
		n, _, _ := r.got()
		if err := chat(t, strings.Replace(address, "HOST", r.host(), 1), true).Send(t.Context(), s, chatLetter(), Links{}); !errors.Is(err, ErrUnsure) {
			t.Errorf("%s: %v", address, err)
		}
		if m, _, _ := r.got(); len(m) != len(n)+1 {
			t.Errorf("%s: %d attempts in one", address, len(m)-len(n))
		}
	}
	// Nobody there: surely not sent.
	r.Close()
	if err := chat(t, "mattermost://"+r.host()+"/token", true).Send(t.Context(), s, chatLetter(), Links{}); err == nil || errors.Is(err, ErrUnsure) {
		t.Errorf("down: %v", err)
	}
}
