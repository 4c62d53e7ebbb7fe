// Package agenttest makes verified records and grants for tests of executors. Its
// keys are made anew in every run and protect nothing.
package agenttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Author signs records.
type Author struct {
	Signer         *formattest.Signer
	Configurations map[string]record.Configuration
}

// NewAuthor makes an author whose configurations sign the named tables' fields; each
// configuration has the table's name for an ID.
func NewAuthor(tb testing.TB, fields map[string][]string, parameters ...string) *Author {
	tb.Helper()
	slices.Sort(parameters)
	a := &Author{Signer: recordtest.NewSigner(tb, sigalg.Ed25519), Configurations: map[string]record.Configuration{}}
	for table, names := range fields {
		names = slices.Sorted(slices.Values(names))
		a.Configurations[table] = record.Configuration{Version: 1, Table: table, Purpose: record.Queue, Fields: names, Attachments: true, Parameters: parameters}
	}
	return a
}

// Sign signs one record.
func (a *Author) Sign(tb testing.TB, r *record.Record) []record.Signature {
	tb.Helper()
	c, ok := a.Configurations[r.Ref.Table]
	if !ok {
		tb.Fatalf("agenttest: no configuration signs %s", r.Ref.Table)
	}
	return recordtest.Signing{Signer: a.Signer, ID: r.Ref.Table, Configuration: c}.Sign(tb, r)
}

// Trust believes the author.
func (a *Author) Trust() *record.Trust {
	t := recordtest.Trust(a.Signer)
	t.Configurations = maps.Clone(a.Configurations)
	return t
}

// Record is a record of a table.
func Record(table, key string, fields map[string]string) *record.Record {
	return &record.Record{Ref: record.Ref{Table: table, Key: []string{key}}, Fields: fields}
}

// Trusted signs a record and verifies it.
func (a *Author) Trusted(tb testing.TB, r *record.Record) *record.Trusted {
	tb.Helper()
	t, err := recordtest.Verifier(tb, a.Trust()).Verify(context.Background(), r, record.Queue, a.Sign(tb, r), &recordtest.Marks{})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// Limits are those of tests.
func Limits() exec.Limits {
	return exec.Limits{Time: 30 * time.Second, Output: 8 << 20, Rows: 100_000, Memory: 1 << 30}
}

// Work is one verified job.
func Work(topic string, t *record.Trusted, params map[string]string) *exec.Work {
	return &exec.Work{Topic: topic, Instance: recordtest.Protected, Records: []*record.Trusted{t}, Params: params, Limits: Limits(),
		Attachment: func(context.Context, *record.Trusted, record.Attachment) ([]byte, error) {
			return nil, errors.New("agenttest: no attachments")
		}}
}

// Open is a firewall that accepts every topic, and the targets and credentials given.
func Open(tb testing.TB, targets, credentials []string, addresses ...string) *firewall.Firewall {
	tb.Helper()
	f, err := firewall.Parse(fmt.Appendf(nil, "version: 1\nrules:\n  - {name: all, action: accept, topics: [ANY], targets: %s, credentials: %s, addresses: %s}\n",
		list(targets), list(credentials), list(addresses)))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func list(s []string) string {
	out := "["
	for i, x := range s {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%q", x)
	}
	return out + "]"
}

// Run asks a firewall and runs a job.
func Run(ctx context.Context, e exec.Executor, f *firewall.Firewall, w *exec.Work) (*Pages, exec.Result, error) {
	p := &Pages{}
	n, err := e.Needs(w)
	if err != nil {
		return p, exec.Result{}, err
	}
	g, err := f.Judge(firewall.Job{Instance: w.Instance, Topic: w.Topic, Purpose: w.Main().Purpose(), Table: w.Main().Ref().Table, Targets: n.Targets, Credentials: n.Credentials})
	if err != nil {
		return p, exec.Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.Limits.Time)
	defer cancel()
	r, err := e.Run(ctx, w, g, p)
	return p, r, err
}

// Pages is an exec.Output in memory.
type Pages struct {
	mu    sync.Mutex
	Types []string
	Body  [][]byte
}

// Write keeps a page.
func (p *Pages) Write(_ context.Context, typ string, body []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Types, p.Body = append(p.Types, typ), append(p.Body, slices.Clone(body))
	return nil
}

// Text is all pages of a type, one after the other.
func (p *Pages) Text(typ string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []byte
	for i, t := range p.Types {
		if t == typ {
			out = append(out, p.Body[i]...)
		}
	}
	return string(out)
}

// Forward listens on a TCP port of this host and passes what comes on to a Unix
// socket, until the test ends.
func Forward(tb testing.TB, socket string) uint16 {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				u, err := net.Dial("unix", socket)
				if err != nil {
					return
				}
				defer u.Close()
				go func() { _, _ = io.Copy(u, c); u.Close() }()
				_, _ = io.Copy(c, u)
			}()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}
