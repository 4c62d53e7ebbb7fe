package endorser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

// Request is an open request that waits for the machine.
type Request struct {
	ID       statement.ID
	Envelope []byte
	Uploads  bool // its policy wants the artifacts
	Complete bool // every artifact has arrived
}

// Source is where requests come from and verdicts go.
type Source interface {
	// Pending lists the open requests that wait for name.
	Pending(ctx context.Context, name string) ([]Request, error)
	// Items returns the encoded items of a request.
	Items(ctx context.Context, id statement.ID) ([][]byte, error)
	// Artifact returns the path of an artifact on this machine, and what to call
	// when it is no longer needed. Nobody else changes that file.
	Artifact(ctx context.Context, id statement.ID, index int, size int64) (path string, release func(), err error)
	// Endorse hands in a verdict. Final tells an error that will stay: the verdict
	// is not wanted.
	Endorse(ctx context.Context, envelope []byte) (final bool, err error)
	// Await returns when there may be news.
	Await(ctx context.Context)
}

// Local is the server of this process.
func Local(s *server.Server) Source { return local{s} }

type local struct{ s *server.Server }

func (l local) Pending(ctx context.Context, name string) ([]Request, error) {
	list, err := l.s.Inbox(ctx, name)
	if err != nil {
		return nil, err
	}
	var out []Request
	for _, r := range list {
		v, err := l.s.View(ctx, r, false)
		if err != nil {
			return nil, err
		}
		out = append(out, Request{ID: r.ID, Envelope: r.Envelope, Uploads: v.Upload != nil, Complete: v.Upload != nil && v.Upload.Done == v.Upload.Wanted})
	}
	return out, nil
}

func (l local) Items(ctx context.Context, id statement.ID) ([][]byte, error) {
	return l.s.Items(ctx, id)
}

func (l local) Artifact(ctx context.Context, id statement.ID, index int, _ int64) (string, func(), error) {
	p, err := l.s.Uploaded(ctx, id, index)
	return p, func() {}, err
}

func (l local) Endorse(ctx context.Context, envelope []byte) (bool, error) {
	_, err := l.s.Endorse(ctx, envelope)
	return err != nil && server.AsProblem(err).Status/100 == 4, err
}

func (l local) Await(ctx context.Context) { l.s.AwaitNews(ctx) }

// Remote is a server elsewhere: artifacts are fetched into dir, one by
// one, and removed again.
func Remote(c *client.Client, dir string) Source { return remote{c, dir} }

// temporary is how the names of fetched artifacts begin.
const temporary = "greatseal-inspect-"

type remote struct {
	c   *client.Client
	dir string
}

func (r remote) Pending(ctx context.Context, _ string) ([]Request, error) {
	list, err := r.c.Inbox(ctx, 0) // of whom the server takes the caller for
	if err != nil {
		return nil, err
	}
	var out []Request
	for _, v := range list {
		e, err := r.c.Envelopes(ctx, v.ID)
		if err != nil {
			return nil, err
		}
		id, err := statement.ParseID(v.ID)
		if err != nil {
			return nil, fmt.Errorf("endorser: %w", err)
		}
		out = append(out, Request{ID: id, Envelope: e.Request, Uploads: v.Upload != nil, Complete: v.Upload != nil && v.Upload.Done == v.Upload.Wanted})
	}
	return out, nil
}

func (r remote) Items(ctx context.Context, id statement.ID) ([][]byte, error) {
	return r.c.Items(ctx, id.String())
}

func (r remote) Artifact(ctx context.Context, id statement.ID, index int, size int64) (string, func(), error) {
	body, err := r.c.Content(ctx, id.String(), index, 0)
	if err != nil {
		return "", nil, err
	}
	defer body.Close()
	f, err := os.CreateTemp(r.dir, temporary+"*")
	if err != nil {
		return "", nil, fmt.Errorf("endorser: %w", err)
	}
	release := func() { os.Remove(f.Name()) }
	n, err := io.Copy(f, io.LimitReader(body, size+1)) // more is found out by the size
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		release()
		return "", nil, fmt.Errorf("endorser: file %d: %w", index, err)
	}
	return f.Name(), release, nil
}

func (r remote) Endorse(ctx context.Context, envelope []byte) (bool, error) {
	_, err := r.c.Endorse(ctx, envelope)
	var p *client.Problem
	return errors.As(err, &p) && p.Status/100 == 4 && p.Status != 429 && p.Status != 401, err
}

func (r remote) Await(ctx context.Context) {
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
