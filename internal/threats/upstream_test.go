package threats

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// ending is how a job ended, as the instance heard it.
type ending struct {
	done     chan struct{}
	started  int
	pages    []agent.Page
	outcome  *agent.Outcome
	rejected *rejection.Error
}

// upstream is a protected instance, as an agent sees one. What it delivers is the
// test's to choose.
type upstream struct {
	queue chan agent.Job

	mu      sync.Mutex
	ends    map[string]*ending
	bundles [][]byte
	pulls   int
	beats   int
	fetched int
	files   func(n int, a record.Attachment) []byte // of the nth fetch
	onStart func()
}

func newUpstream() *upstream {
	return &upstream{queue: make(chan agent.Job, 16), ends: map[string]*ending{}}
}

func (u *upstream) Enrol(_ context.Context, e *agent.Enrolment) (*agent.Enrolled, error) {
	req, err := x509.ParseCertificateRequest(e.Request)
	if err != nil {
		return nil, err
	}
	_, authority, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: e.Name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, req.PublicKey, authority)
	if err != nil {
		return nil, err
	}
	return &agent.Enrolled{State: agent.EnrolValidated, Certificates: [][]byte{der}}, nil
}

func (u *upstream) Heartbeat(context.Context, *agent.Beat) (*agent.Pulse, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.beats++
	return &agent.Pulse{}, nil
}

func (u *upstream) Lease(ctx context.Context, w *agent.Want) (out []agent.Job, err error) {
	t := time.NewTimer(w.Wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C:
		return nil, nil
	case j := <-u.queue:
		out = append(out, j)
	}
	for len(out) < w.Max {
		select {
		case j := <-u.queue:
			out = append(out, j)
		default:
			return out, nil
		}
	}
	return out, nil
}

func (u *upstream) Start(_ context.Context, l agent.Lease) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ends[l.Job].started++
	if u.onStart != nil {
		u.onStart()
	}
	return nil
}

func (u *upstream) Progress(context.Context, agent.Lease, agent.Progress) (time.Time, error) {
	return time.Now().AddDate(10, 0, 0), nil
}

func (u *upstream) Result(_ context.Context, l agent.Lease, p agent.Page) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ends[l.Job].pages = append(u.ends[l.Job].pages, p)
	return nil
}

func (u *upstream) Finish(_ context.Context, l agent.Lease, o agent.Outcome) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.ends[l.Job]; e.outcome == nil && e.rejected == nil {
		e.outcome = &o
		close(e.done)
	}
	return nil
}

func (u *upstream) Reject(_ context.Context, l agent.Lease, r *rejection.Error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.ends[l.Job]; e.outcome == nil && e.rejected == nil {
		e.rejected = r
		close(e.done)
	}
	return nil
}

func (u *upstream) CircleBundle(context.Context) ([][]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pulls++
	return u.bundles, nil
}

func (u *upstream) Attachment(_ context.Context, _ agent.Lease, _ record.Ref, a record.Attachment) (io.ReadCloser, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fetched++
	if u.files == nil {
		return nil, errors.New("there are no attachments")
	}
	return io.NopCloser(bytes.NewReader(u.files(u.fetched, a))), nil
}

// set changes what the instance does.
func (u *upstream) set(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f()
}

// put queues jobs and waits for the end of each.
func (u *upstream) put(t testing.TB, jobs ...agent.Job) []*ending {
	t.Helper()
	var out []*ending
	u.set(func() {
		for _, j := range jobs {
			e := &ending{done: make(chan struct{})}
			u.ends[j.Lease.Job] = e
			out = append(out, e)
		}
	})
	for _, j := range jobs {
		u.queue <- j
	}
	for i, e := range out {
		select {
		case <-e.done:
		case <-time.After(time.Minute):
			t.Fatalf("job %d of %d does not end", i+1, len(jobs))
		}
	}
	return out
}
