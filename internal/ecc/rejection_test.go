package ecc_test

import (
	"encoding/json/v2"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/ecc/ecctest"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/rejection"
)

// Invariant 7: a rejection arrives in the list, in the log and at the webhook, once,
// and names the fields alone.
func TestInvariant7Rejections(t *testing.T) {
	var mu sync.Mutex
	var bodies [][]byte
	down := true
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if down { // the first try fails
			down = false
			w.WriteHeader(500)
			return
		}
		if err == nil {
			bodies = append(bodies, b)
		}
	}))
	defer hook.Close()
	s := newSite(t, func(c *ecc.Config) {
		quick(c)
		c.Webhooks = []notify.Webhook{{Name: "soc", URL: hook.URL, Secret: make([]byte, 32), AllowPrivate: true}}
		c.Sender = notify.NewSender()
	})
	ctx := t.Context()
	a := ecctest.Agent(t, s.Service, "mid-1")
	id := s.submit(t, ecc.Job{Agent: "mid-1", Params: map[string]string{"password": "hunter2"}})
	w := s.next(t, a)[0]
	p := a.Peer(t, s.Service)
	wantErr(t, s.Reject(ctx, p, w.Lease, nil), ecc.ErrMalformed)
	wantErr(t, s.Reject(ctx, p, w.Lease, &rejection.Error{Code: "NOT_A_CODE"}), ecc.ErrMalformed)
	r := &rejection.Error{Code: rejection.FieldChanged, Subject: "sql\nlevel=info", Detail: strings.Repeat("x", 10000)}
	must(t, s.Reject(ctx, p, w.Lease, r))
	must(t, s.Reject(ctx, p, w.Lease, r))
	_, err := s.Start(ctx, p, w.Lease)
	wantErr(t, err, ecc.ErrLost)
	list, err := s.Rejections(ctx, "mid-1", "", 0, 10)
	must(t, err)
	if len(list) != 1 || list[0].Job != id || list[0].Subject != "sql?level=info" || len(list[0].Detail) > 600 || !strings.Contains(string(list[0].Records), `"script"`) {
		t.Fatalf("%+v", list)
	}
	if n, err := s.st.Sequence(ctx, 10); err != nil || n != 1 {
		t.Fatalf("%d entries of the log, %v", n, err)
	}
	bundle, err := s.st.ReadBundle(ctx, 0, 1)
	must(t, err)
	if !strings.Contains(string(bundle), "FIELD_CHANGED") || strings.Contains(string(bundle), "hunter2") {
		t.Fatalf("%q", bundle)
	}
	ecctest.Run(t, s.Service)
	for {
		time.Sleep(20 * time.Millisecond)
		s.clock.add(time.Second)
		mu.Lock()
		n := len(bodies)
		mu.Unlock()
		if n > 0 {
			break
		}
	}
	var got struct {
		Type string `json:"type"`
		Data struct {
			Agent, Job, Code, Subject, Instance string
		} `json:"data"`
	}
	must(t, json.Unmarshal(bodies[0], &got, json.MatchCaseInsensitiveNames(true)))
	if got.Type != "agent.rejected" || got.Data.Agent != "mid-1" || got.Data.Job != id || got.Data.Code != "FIELD_CHANGED" || got.Data.Instance != "prod" || strings.Contains(string(bodies[0]), "hunter2") {
		t.Fatalf("%s", bodies[0])
	}
	if s.Metrics.Rejected.Load() != 1 {
		t.Fatal("not counted once")
	}
}

// A job that was begun, and of which an attachment turns out to be another, ends by
// its rejection, which is told once.
func TestInvariant7RejectionAfterStart(t *testing.T) {
	for name, dsn := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "g.db") },
		"postgres": func(t *testing.T) string { return pgtest.Start(t).Database() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			inst := ecctest.New(t)
			st := openStore(t, dsn(t))
			defer st.Close()
			s := inst.Replica(t, st, nil)
			a := ecctest.Agent(t, s, "mid-1")
			p := a.Peer(t, s)
			_, err := s.Submit(ctx, ecc.Job{Agent: "mid-1", Topic: "JDBCProbe", Records: ecctest.Ask()})
			must(t, err)
			works, err := s.Next(ctx, p, want())
			must(t, err)
			l := works[0].Lease
			_, err = s.Start(ctx, p, l)
			must(t, err)
			must(t, s.Page(ctx, p, l, 0, "text/plain", []byte("half")))
			r := rejection.New(rejection.AttachmentChanged, "a.jar", "")
			must(t, s.Reject(ctx, p, l, r))
			must(t, s.Reject(ctx, p, l, r))
			// Another story about the same attempt is none.
			must(t, s.Reject(ctx, p, l, rejection.New(rejection.SigMissing, "", "")))
			wantErr(t, s.Finish(ctx, p, l, ecc.Outcome{Pages: 1}), ecc.ErrLost)
			_, _, err = s.Progress(ctx, p, l)
			wantErr(t, err, ecc.ErrLost)
			j, err := s.Job(ctx, l.Job)
			must(t, err)
			if j.State != store.QueueError || j.ErrorString != "ATTACHMENT_CHANGED(a.jar)" {
				t.Fatalf("%+v", j)
			}
			list, err := s.Rejections(ctx, "mid-1", l.Job, 0, 10)
			must(t, err)
			if len(list) != 1 || list[0].Code != "ATTACHMENT_CHANGED" || s.Metrics.Rejected.Load() != 1 {
				t.Fatalf("%+v", list)
			}
			if n, err := st.Sequence(ctx, 10); err != nil || n != 1 {
				t.Fatalf("%d entries of the log, %v", n, err)
			}
			if pages, err := s.Results(ctx, l.Job, 0, 10); err != nil || len(pages) != 0 {
				t.Fatalf("%d pages, %v", len(pages), err)
			}
		})
	}
}
