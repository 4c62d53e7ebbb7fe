package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/tsp"
)

func TestRates(t *testing.T) {
	s := newSite(t, func(c *api.Config) { c.Limits = api.Limits{PerSecond: 0.01, Burst: 5, AnonPerSecond: 2} })
	n := 0
	for range 40 {
		a := s.raw(t, "GET", "/healthz", nil)
		if a.StatusCode == 429 {
			if a.Header.Get("Retry-After") == "" || a.Code != "too-many-requests" {
				t.Errorf("429 without Retry-After: %v %s", a.Header, a.body)
			}
			n++
		}
	}
	if n == 0 {
		t.Error("nobody has no limit")
	}
	// One principal's limit is not another's.
	s2 := newSite(t, func(c *api.Config) { c.Limits = api.Limits{PerSecond: 0.01, Burst: 5, AnonPerSecond: 1000} })
	ci, dave := s2.token(t, "ci", "read"), s2.token(t, "gate", "read")
	get := func(tok string) int {
		return s2.raw(t, "GET", "/v1/status", nil, "Authorization", "Bearer "+tok).StatusCode
	}
	for i := range 5 {
		if st := get(ci); st != 200 {
			t.Fatalf("call %d: %d", i, st)
		}
	}
	if st := get(ci); st != 429 {
		t.Errorf("beyond the burst: %d", st)
	}
	if st := get(dave); st != 200 {
		t.Errorf("another principal: %d", st)
	}
}

// Guessing tokens is limited by address, whatever the principals' limits.
func TestGuessing(t *testing.T) {
	s := newSite(t, func(c *api.Config) { c.Limits = api.Limits{AnonPerSecond: 1} })
	n := 0
	for i := range 30 {
		a := s.raw(t, "GET", "/v1/status", nil, "Authorization", fmt.Sprintf("Bearer gs_%016d_%s", i, strings.Repeat("A", 43)))
		if a.StatusCode == 429 {
			n++
		}
	}
	if n < 10 {
		t.Errorf("%d of 30 guesses were stopped", n)
	}
}

func TestWaitsAreBounded(t *testing.T) {
	s := newSite(t, func(c *api.Config) {
		c.Limits.WaitsOf = 2
		c.Limits.PerSecond, c.Limits.Burst, c.Limits.AnonPerSecond = 1e6, 1e6, 1e6
	})
	auth := "Bearer " + s.token(t, "ci", "read")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		r, err := http.NewRequestWithContext(ctx, "GET", s.http.URL+"/v1/inbox/events", nil)
		must(t, err)
		r.Header.Set("Authorization", auth)
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		b := make([]byte, 12)
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "event: inbox" {
			t.Errorf("first event: %q %v", b, err)
		}
		wg.Go(func() { io.Copy(io.Discard, resp.Body); resp.Body.Close() })
	}
	if a := s.raw(t, "GET", "/v1/inbox?wait=30s", nil, "Authorization", auth); a.Code != "too-many-waits" {
		t.Errorf("a third one: %d %s", a.StatusCode, a.body)
	}
	cancel()
	wg.Wait()
	for range 3000 {
		if a := s.raw(t, "GET", "/v1/inbox?wait=1s", nil, "Authorization", auth); a.StatusCode == 200 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("waits that have ended still count")
}

// Events tell every state, and end with the last one.
func TestEvents(t *testing.T) {
	s := newSite(t)
	alice := s.as(t, "alice")
	items := s.Files("app", 1)
	env := s.Sign("alice", "release", items)
	_, err := alice.Submit(t.Context(), env, items)
	must(t, err)
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.http.URL+"/v1/requests/"+s.ID(env).String()+"/events", nil)
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+s.token(t, "ci", "read"))
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != wire.Events {
		t.Errorf("type %q", ct)
	}
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<20)
	said := 0
	last := ""
	for sc.Scan() {
		d, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok {
			continue
		}
		last = d
		if said < 2 {
			_, err := alice.Endorse(t.Context(), s.Endorse([]string{"bob", "carol"}[said], env))
			must(t, err)
			said++
		}
	}
	if !strings.Contains(last, `"state":"executed"`) {
		t.Errorf("last event: %s", last)
	}
}

// A peer that sends its body drop by drop is cut off.
func TestSlowBody(t *testing.T) {
	s := newSite(t, func(c *api.Config) { c.Limits.Grace = 300 * time.Millisecond })
	tok := s.token(t, "ci", "request")
	c, err := net.Dial("tcp", s.http.Listener.Addr().String())
	must(t, err)
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/endorsements HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n", tok)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				c.Write([]byte(" "))
			}
		}
	}()
	defer close(stop)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	b, err := io.ReadAll(c)
	if err != nil && len(b) == 0 && strings.Contains(err.Error(), "timeout") {
		t.Fatal("the connection is still open")
	}
	if len(b) > 0 && !bytes.Contains(b, []byte(" 408 ")) && !bytes.Contains(b, []byte(" 4")) {
		t.Errorf("answer: %.200s", b)
	}
}

// When a server stops, those who wait get an answer, and Serve ends.
func TestShutdown(t *testing.T) {
	s := newSite(t)
	addr, stop := s.serve(t, api.Listen{Address: "127.0.0.1:0"})
	tok := s.token(t, "ci", "read")
	got := make(chan int, 1)
	go func() {
		r, _ := http.NewRequest("GET", "http://"+addr+"/v1/inbox?wait=60s", nil)
		r.Header.Set("Authorization", "Bearer "+tok)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			got <- 0
			return
		}
		resp.Body.Close()
		got <- resp.StatusCode
	}()
	time.Sleep(200 * time.Millisecond)
	must(t, stop())
	if st := <-got; st != 200 {
		t.Errorf("who waited got %d", st)
	}
	if a := s.raw(t, "GET", "/readyz", nil); a.Code != "stopping" {
		t.Errorf("ready while stopping: %d %s", a.StatusCode, a.body)
	}
}

// A page of another origin changes nothing, with whatever certificate a browser
// adds to its call.
func TestCrossOrigin(t *testing.T) {
	s := newSite(t)
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		a := s.raw(t, "POST", "/v1/sessions/challenge", []byte("{}"), append(h, "Content-Type", wire.JSON)...)
		if a.Code != "cross-origin" {
			t.Errorf("%v: %d %s", h, a.StatusCode, a.body)
		}
	}
	if a := s.raw(t, "POST", "/v1/sessions/challenge", []byte("{}"), "Sec-Fetch-Site", "same-origin", "Content-Type", wire.JSON); a.StatusCode != 200 {
		t.Errorf("its own page: %d", a.StatusCode)
	}
}

// The timestamping authority answers with tokens that verify.
func TestTimestamp(t *testing.T) {
	s := newSite(t)
	a := s.raw(t, "POST", "/v1/timestamp", []byte("garbage"), "Content-Type", wire.TimestampQuery)
	if a.StatusCode >= 500 {
		t.Errorf("garbage: %d %s", a.StatusCode, a.body)
	}
	sum := sha256.Sum256([]byte("a signature"))
	req := tsp.NewRequest(crypto.SHA256, sum[:], big.NewInt(42), nil, true)
	der, err := req.Marshal()
	must(t, err)
	b, err := s.as(t, "").Timestamp(t.Context(), der)
	must(t, err)
	tok, err := tsp.ParseResponse(b)
	must(t, err)
	must(t, tok.Answers(req))
}
