package web

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	streamLife = 15 * time.Minute // then the browser comes again
	// Heartbeat is how often a stream is to be told that it is still there.
	Heartbeat = 15 * time.Second
	// writeTime is how long a browser may take for one event.
	writeTime = 10 * time.Second
)

// Events is a stream of server-sent events. It ends with its Context.
type Events struct {
	v    *Visit
	ctl  *http.ResponseController
	ctx  context.Context
	done func()
}

// Events begins a stream; the route is a Stream. Whoever begins it ends it with Close.
func (v *Visit) Events() (*Events, error) {
	s := v.site
	if !v.route.Stream || v.Who == nil {
		return nil, errors.New("web: events on a route that is no stream")
	}
	if !s.streams.Enter(v.Who.Name) {
		v.Writer.Header().Set("Retry-After", "10")
		return nil, Problemf(429, "too-many-streams", "close some of the pages", "too many pages are open")
	}
	ctx, cancel := context.WithTimeout(v.Request.Context(), streamLife)
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	name := v.Who.Name
	e := &Events{v: v, ctl: http.NewResponseController(v.Writer), ctx: ctx, done: func() { cancel(); s.streams.Leave(name) }}
	v.Writer.Header().Set("Content-Type", "text/event-stream")
	v.Writer.Header().Set("X-Accel-Buffering", "no")
	v.Writer.WriteHeader(http.StatusOK)
	if err := e.write("retry: 3000\n\n"); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// Context ends when the stream does: the browser has gone, the session has ended, the
// server stops, or it is time to come again.
func (e *Events) Context() context.Context { return e.ctx }

// Close ends the stream.
func (e *Events) Close() { e.done() }

// Send sends one event; data travels as JSON. It ends the stream when the session has
// ended: nobody is told of what came after.
func (e *Events) Send(name string, data any) error {
	if err := e.alive(); err != nil {
		return err
	}
	b, err := json.Marshal(data, json.Deterministic(true)) // one line: JSON escapes line ends
	if err != nil {
		return err
	}
	return e.write(fmt.Sprintf("event: %s\ndata: %s\n\n", name, b))
}

// Beat shows the browser that the stream is alive, and ends it when the session has
// ended.
func (e *Events) Beat() error {
	if err := e.alive(); err != nil {
		return err
	}
	return e.write(": still here\n\n")
}

// alive ends the stream when the session has ended.
func (e *Events) alive() error {
	p, err := e.v.site.still(e.v.Request.WithContext(e.ctx), e.v.secret)
	if err != nil {
		return err
	}
	if p == nil || !p.Is(e.v.route.Roles...) && len(e.v.route.Roles) > 0 {
		e.done()
		return http.ErrAbortHandler
	}
	return nil
}

func (e *Events) write(s string) error {
	_ = e.ctl.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := e.v.Writer.Write([]byte(s)); err != nil {
		return err
	}
	return e.ctl.Flush()
}
