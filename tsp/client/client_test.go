package client_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
	"github.com/greatseal-io/greatseal/tsp/client"
)

var digest = func() []byte { d := sha256.Sum256([]byte("what is stamped")); return d[:] }()

func imprint(crypto.Hash) ([]byte, error) { return digest, nil }

// serve runs an authority on the loopback that answers each request by a function
// of its body and its number, from 1.
func serve(t *testing.T, answer func(n int, body []byte, w http.ResponseWriter)) (url string, count *atomic.Int32) {
	t.Helper()
	count = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/timestamp-query" {
			t.Errorf("request %s %s: %v", r.Method, r.Header.Get("Content-Type"), err)
		}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		answer(int(count.Add(1)), body, w)
	}))
	t.Cleanup(s.Close)
	return s.URL, count
}

// newClient waits for nobody and notes how long it would have waited.
func newClient(root *cmstest.Identity, urls ...string) (*client.Client, *[]time.Duration) {
	waits := new([]time.Duration)
	return &client.Client{
		Authorities: urls, Rand: rand.Reader, Roots: root.Pool(),
		Sleep: func(ctx context.Context, d time.Duration) error {
			*waits = append(*waits, d)
			return ctx.Err()
		},
	}, waits
}

// authority answers as ours does, after a change to the request that it believes in.
func authority(t *testing.T, tsa *cmstest.Identity, change func(*tsp.Request)) func(int, []byte, http.ResponseWriter) {
	return func(n int, body []byte, w http.ResponseWriter) {
		req, err := tsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		change(&req)
		cfg := tsp.AuthorityConfig{Chain: tsa.Chain, Policy: []int{1, 3, 6, 1, 4, 1, 13762, 3}, Scheme: tsa.Kind.Default()}
		p, err := tsp.Issue(req, cfg, big.NewInt(int64(n)), cmstest.At)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := p.Finish(tsa.Sign(t, cfg.Scheme, p.ToBeSigned()))
		if err != nil {
			t.Error(err)
			return
		}
		w.Write(resp)
	}
}

func same(*tsp.Request) {}

// openssl as the authority, over HTTP.
func TestOpenSSLAuthority(t *testing.T) {
	root := cmstest.NewRoot(t)
	tsa := root.Authority(t, "Test Issuer").IssueTSA(t, "Test TSA", sigalg.RSA3072)
	dir := t.TempDir()
	cert, key, _ := tsa.WriteFiles(t, dir, "tsa")
	config := filepath.Join(dir, "ts.cnf")
	if err := os.WriteFile(config, []byte("[tsa]\ndefault_tsa = t\n[t]\nserial = "+filepath.Join(dir, "serial")+
		"\ndefault_policy = 1.3.6.1.4.1.13762.3\ndigests = sha256\nsigner_digest = sha256\ness_cert_id_alg = sha256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, count := serve(t, func(_ int, body []byte, w http.ResponseWriter) {
		query, reply := filepath.Join(dir, "query"), filepath.Join(dir, "reply")
		if err := os.WriteFile(query, body, 0o600); err != nil {
			t.Error(err)
		}
		if out, err := cmstest.OpenSSL(t, "ts", "-reply", "-config", config, "-queryfile", query, "-signer", cert, "-inkey", key, "-chain", cert, "-out", reply); err != nil {
			t.Error(out, err)
		}
		b, err := os.ReadFile(reply)
		if err != nil {
			t.Error(err)
		}
		w.Write(b)
	})
	c, _ := newClient(root, url)
	der, who, err := c.Stamp(t.Context(), crypto.SHA256, digest)
	if err != nil || who != url || count.Load() != 1 {
		t.Fatal(who, err)
	}
	tok, err := tsp.ParseToken(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Verify(imprint, root.Pool()); err != nil {
		t.Fatal(err)
	}
	c.Roots = cmstest.NewRoot(t).Pool()
	_, _, err = c.Stamp(t.Context(), crypto.SHA256, digest)
	if !errors.Is(err, cms.ErrChain) {
		t.Fatal(err)
	}
	c.Authorities = []string{url}
	_, _, err = c.Stamp(t.Context(), crypto.SHA512, make([]byte, 64))
	var refusal *tsp.StatusError
	if !errors.As(err, &refusal) || refusal.Fail&tsp.FailBadAlg == 0 {
		t.Fatal(err)
	}
}

// Faults that pass are waited for, twice as long each time up to a limit and with
// jitter; then the same authority is asked again.
func TestRetry(t *testing.T) {
	root := cmstest.NewRoot(t)
	good := authority(t, root.IssueTSA(t, "TSA", sigalg.P256), same)
	url, count := serve(t, func(n int, body []byte, w http.ResponseWriter) {
		switch n {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.Write(tsp.Refuse(tsp.Rejected, tsp.FailTimeNotAvailable))
		case 3:
			w.Header().Set("Retry-After", "4")
			w.WriteHeader(http.StatusTooManyRequests)
		case 4:
			w.Header().Set("Retry-After", "30000")
			w.WriteHeader(http.StatusTooManyRequests)
		case 5:
			w.Header().Set("Content-Length", "100")
			w.Write([]byte{0x30}) // cut off
		default:
			good(n, body, w)
		}
	})
	c, waits := newClient(root, url)
	c.Retry = client.Retry{Attempts: 6, Base: time.Second, Max: 6 * time.Second}
	if _, _, err := c.Stamp(t.Context(), crypto.SHA256, digest); err != nil || count.Load() != 6 {
		t.Fatal(err, count.Load())
	}
	for i, limit := range [][2]time.Duration{{500, 1000}, {1000, 2000}, {4000, 4000}, {6000, 6000}, {3000, 6000}} {
		if w := (*waits)[i]; w < limit[0]*time.Millisecond || w > limit[1]*time.Millisecond {
			t.Errorf("wait %d is %v", i, w)
		}
	}
}

// An authority that lies or fails for good is not asked again, and the next one
// is; the error says what each did.
func TestNextAuthority(t *testing.T) {
	root := cmstest.NewRoot(t)
	tsa := root.IssueTSA(t, "TSA", sigalg.P256)
	good := authority(t, tsa, same)
	stranger := cmstest.NewRoot(t)
	var first []byte
	for _, c := range []struct {
		name   string
		want   error
		words  string
		answer func(int, []byte, http.ResponseWriter)
	}{
		{"nonce", tsp.ErrAnswer, "nonce", authority(t, tsa, func(r *tsp.Request) { r.Nonce = big.NewInt(1) })},
		{"no nonce", tsp.ErrAnswer, "nonce", authority(t, tsa, func(r *tsp.Request) { r.Nonce = nil })},
		{"imprint", tsp.ErrImprint, "imprint", authority(t, tsa, func(r *tsp.Request) { r.Imprint.Digest = make([]byte, 32) })},
		{"no certificate", tsp.ErrAnswer, "certificate", authority(t, tsa, func(r *tsp.Request) { r.CertReq = false })},
		{"stranger", cms.ErrChain, "chain", authority(t, stranger.IssueTSA(t, "TSA", sigalg.P256), same)},
		{"replay", tsp.ErrAnswer, "nonce", func(n int, body []byte, w http.ResponseWriter) { w.Write(first) }},
		{"refusal", nil, "unacceptedPolicy", func(_ int, _ []byte, w http.ResponseWriter) {
			w.Write(tsp.Refuse(tsp.Rejected, tsp.FailUnacceptedPolicy, "not here"))
		}},
		{"garbage", tsp.ErrSyntax, "malformed", func(_ int, _ []byte, w http.ResponseWriter) { w.Write([]byte("<html>")) }},
		{"empty", tsp.ErrSyntax, "malformed", func(int, []byte, http.ResponseWriter) {}},
		{"endless", nil, "longer than", func(_ int, _ []byte, w http.ResponseWriter) {
			w.Write(bytes.Repeat([]byte{0x30}, tsp.MaxSize+10))
		}},
		{"content type", nil, "content type", func(n int, body []byte, w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			good(n, body, w)
		}},
		{"forbidden", nil, "403", func(_ int, _ []byte, w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			goodURL, _ := serve(t, func(n int, body []byte, w http.ResponseWriter) {
				rec := httptest.NewRecorder()
				good(n, body, rec)
				first = rec.Body.Bytes()
				w.Write(first)
			})
			badURL, count := serve(t, c.answer)
			if first == nil {
				cl, _ := newClient(root, goodURL)
				if _, _, err := cl.Stamp(t.Context(), crypto.SHA256, digest); err != nil {
					t.Fatal(err)
				}
			}
			cl, waits := newClient(root, badURL, goodURL)
			if _, who, err := cl.Stamp(t.Context(), crypto.SHA256, digest); err != nil || who != goodURL {
				t.Fatal(who, err)
			}
			if count.Load() != 1 || len(*waits) != 0 {
				t.Fatalf("asked %d times, waited %v", count.Load(), *waits)
			}
			cl, _ = newClient(root, badURL)
			_, _, err := cl.Stamp(t.Context(), crypto.SHA256, digest)
			if err == nil || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), badURL) || c.want != nil && !errors.Is(err, c.want) {
				t.Fatal(err)
			}
		})
	}
}

// The error names every authority, without the secrets in its address.
// Most authorities are asked without TLS: whoever sits on the way, or the authority
// itself, must not send the client to other addresses, which may be inside.
func TestRedirectIsNotFollowed(t *testing.T) {
	root := cmstest.NewRoot(t)
	tsa := root.IssueTSA(t, "tsa", sigalg.P256)
	inside, asked := serve(t, authority(t, tsa, same))
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		url, count := serve(t, func(_ int, _ []byte, w http.ResponseWriter) {
			w.Header().Set("Location", inside)
			w.WriteHeader(status)
		})
		for _, h := range []*http.Client{nil, {}} {
			c, _ := newClient(root, url)
			c.HTTP = h
			if _, _, err := c.Stamp(t.Context(), crypto.SHA256, digest); err == nil {
				t.Errorf("status %d: followed", status)
			}
		}
		if count.Load() != 2 {
			t.Errorf("status %d: asked %d times", status, count.Load())
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the other address was asked %d times", n)
	}
}

func TestAllFail(t *testing.T) {
	root := cmstest.NewRoot(t)
	busy, count := serve(t, func(_ int, _ []byte, w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) })
	secret := strings.Replace(busy, "http://", "http://user:hunter2@", 1) + "/?token=hunter2"
	gone := httptest.NewServer(http.NotFoundHandler())
	goneURL := gone.URL + "/?token=hunter2"
	gone.Close()
	c, waits := newClient(root, secret, goneURL, "ftp://x", "http://[::1hunter2")
	_, who, err := c.Stamp(t.Context(), crypto.SHA256, digest)
	if err == nil || who != "" || strings.Contains(err.Error(), "hunter2") {
		t.Fatal(who, err)
	}
	for _, words := range []string{"http status 502", gone.URL, "refused", "ftp://x", "malformed address"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("error does not say %q: %v", words, err)
		}
	}
	if count.Load() != 3 || len(*waits) != 4 {
		t.Fatalf("asked %d times, waited %v", count.Load(), *waits)
	}
	var one *client.AuthorityError
	if !errors.As(err, &one) || one.Attempts != 3 {
		t.Fatal(one)
	}
}

// A caller that gives up is not kept; his own faults are told at once.
func TestCaller(t *testing.T) {
	root := cmstest.NewRoot(t)
	url, count := serve(t, func(_ int, _ []byte, w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) })
	c, _ := newClient(root, url, url)
	ctx, cancel := context.WithCancel(t.Context())
	c.Sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if _, _, err := c.Stamp(ctx, crypto.SHA256, digest); !errors.Is(err, context.Canceled) || count.Load() != 1 {
		t.Fatal(err, count.Load())
	}
	c.Sleep = nil
	c.Retry = client.Retry{Attempts: 2, Base: time.Nanosecond, Max: time.Nanosecond}
	if _, _, err := c.Stamp(t.Context(), crypto.SHA256, digest); err == nil || count.Load() != 5 {
		t.Fatal(err, count.Load())
	}
	for name, bad := range map[string]func() error{
		"no authority": func() error {
			_, _, err := (&client.Client{Rand: rand.Reader}).Stamp(ctx, crypto.SHA256, digest)
			return err
		},
		"no randomness": func() error {
			_, _, err := (&client.Client{Authorities: []string{url}}).Stamp(ctx, crypto.SHA256, digest)
			return err
		},
		"short digest": func() error { _, _, err := c.Stamp(t.Context(), crypto.SHA256, digest[1:]); return err },
		"weak digest":  func() error { _, _, err := c.Stamp(t.Context(), crypto.SHA1, make([]byte, 20)); return err },
		"randomness out": func() error {
			c.Rand = bytes.NewReader(nil)
			_, _, err := c.Stamp(t.Context(), crypto.SHA256, digest)
			return err
		},
	} {
		if bad() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if count.Load() != 5 {
		t.Fatal("an authority was asked for nothing")
	}
}
