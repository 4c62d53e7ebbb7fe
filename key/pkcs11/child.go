package pkcs11

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
)

// child is one running child process. It dies once: dead is closed then, and
// why is set before.
type child struct {
	codec       *wire.Codec
	callTimeout time.Duration
	genTimeout  time.Duration
	cmd         *exec.Cmd
	in, out     *os.File
	writer      *wire.Writer
	slots       chan struct{} // taken by signatures in flight, so that what waits in the child is less than a time limit's worth
	pin         chan struct{} // held while a PIN is tried
	dead        chan struct{}
	wait        sync.WaitGroup // reader, writer, watchdog

	mu      sync.Mutex // guards what follows; held for no I/O
	why     error
	next    uint64
	pending map[uint64]*call
	tokens  map[wire.Selector]*tokenState
}

type call struct {
	answer   chan *wire.Response // capacity 1
	deadline time.Time
	slot     bool // holds one of slots
	long     bool
}

// tokenState is what is known of a token in this child. Its members are guarded
// by lock.
type tokenState struct {
	lock  chan struct{} // capacity 1; full is locked
	token wire.Token
	in    bool
	epoch uint64 // counts logins
}

// start starts a child and waits for its hello.
func (p *Provider) start(ctx context.Context) (_ *child, err error) {
	c := &child{
		codec: p.codec, callTimeout: p.config.CallTimeout, genTimeout: p.config.GenerateTimeout,
		slots: make(chan struct{}, max(16, 4*p.config.Sessions)), pin: make(chan struct{}, 1), dead: make(chan struct{}),
		pending: map[uint64]*call{}, tokens: map[wire.Selector]*tokenState{},
	}
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pkcs11: pipe: %w", err)
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		_, _ = childIn.Close(), in.Close()
		return nil, fmt.Errorf("pkcs11: pipe: %w", err)
	}
	c.in, c.out, c.writer = in, out, wire.NewWriter(in)
	args := append(p.config.Command[1:len(p.config.Command):len(p.config.Command)], p.config.Module)
	c.cmd = exec.Command(p.config.Command[0], args...)
	c.cmd.Env = append([]string{}, p.config.Env...)                              // not nil: nil would inherit
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = childIn, childOut, p.config.Stderr // nil is the null device
	c.cmd.WaitDelay = time.Second                                                // a driver's daemon may keep standard error open
	detach(c.cmd)
	err = c.cmd.Start()
	_, _ = childIn.Close(), childOut.Close()
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, fmt.Errorf("%w: start child: %w", ErrModule, err)
	}
	hello := make(chan *wire.Response, 1)
	c.wait.Go(func() { c.read(hello) })
	c.wait.Go(func() {
		if err := c.writer.Run(); err != nil {
			c.fail(fmt.Errorf("pkcs11: write to child: %w", err))
		}
	})
	c.wait.Go(c.watchdog)
	limit := time.NewTimer(c.callTimeout)
	defer limit.Stop()
	select {
	case h := <-hello:
		switch {
		case h.Code != wire.CodeOK:
			err = fmt.Errorf("%w: %s", ErrModule, h.Text)
		case h.Hello == nil || h.Hello.Version != wire.Version:
			err = fmt.Errorf("%w: child is of another version", ErrModule)
		default:
			p.config.Logger.Info("pkcs11: child started", "module", p.config.Module, "pid", c.cmd.Process.Pid,
				"manufacturer", h.Hello.Manufacturer, "description", h.Hello.Description)
			return c, nil
		}
	case <-c.dead:
		err = fmt.Errorf("%w: %w", ErrModule, c.reason())
	case <-limit.C:
		err = fmt.Errorf("%w: not loaded in %v", ErrModule, c.callTimeout)
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.stop(false)
	return nil, err
}

// read hands answers to their calls until the child is gone.
func (c *child) read(hello chan<- *wire.Response) {
	r := bufio.NewReaderSize(c.out, 64<<10)
	for greeted := false; ; greeted = true {
		m := new(wire.Response)
		if err := c.codec.Read(r, m); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it exited")
			}
			c.fail(fmt.Errorf("pkcs11: child: %w", err))
			return
		}
		if !greeted {
			if m.ID != 0 {
				_ = c.lied("no hello")
				return
			}
			hello <- m
			continue
		}
		c.mu.Lock()
		waiting := c.pending[m.ID]
		delete(c.pending, m.ID)
		c.mu.Unlock()
		if waiting == nil {
			_ = c.lied("an answer to no question")
			return
		}
		waiting.answer <- m
		if waiting.slot {
			<-c.slots
		}
	}
}

// watchdog ends the child when a call is overdue. While a long call is under
// way the others wait for its time limit: there are devices that do one thing at
// a time.
func (c *child) watchdog() {
	tick := time.NewTicker(max(c.callTimeout/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-c.dead:
			return
		case now := <-tick.C:
			overdue, long := false, false
			c.mu.Lock()
			for _, w := range c.pending {
				late := now.After(w.deadline)
				overdue = overdue || late
				long = long || w.long && !late
			}
			c.mu.Unlock()
			if overdue && !long {
				c.fail(fmt.Errorf("pkcs11: child did not answer in %v", c.callTimeout))
				return
			}
		}
	}
}

// fail ends the child, once, at once: SIGKILL also ends what is stopped or
// caught in a driver.
func (c *child) fail(why error) {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return
	}
	c.why = fmt.Errorf("%w: %w", why, key.ErrUnavailable)
	c.pending = nil
	c.mu.Unlock()
	close(c.dead)
	_ = c.cmd.Process.Kill()
	c.writer.Close()
	_, _ = c.in.Close(), c.out.Close() // wakes reader and writer, whoever else holds the other ends
}

// lied ends a child that breaks the protocol.
func (c *child) lied(what string) error {
	c.fail(fmt.Errorf("pkcs11: child broke the protocol: %s", what))
	return c.reason()
}

func (c *child) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// stop ends the child and waits for its end: gracefully, by closing its standard
// input, when there is time for that.
func (c *child) stop(gracefully bool) {
	exited := make(chan struct{})
	go func() { _ = c.cmd.Wait(); close(exited) }()
	if gracefully {
		_ = c.in.Close()
		select {
		case <-exited:
		case <-time.After(3 * time.Second):
		}
	}
	c.fail(errors.New("pkcs11: child was stopped"))
	<-exited
	c.wait.Wait()
}

// call sends a request and waits for its answer. The error is key.ErrUnavailable
// when the child dies before; whether it did what it was asked is unknown then.
func (c *child) call(ctx context.Context, r *wire.Request) (*wire.Response, error) {
	w := &call{answer: make(chan *wire.Response, 1), slot: r.Op == wire.OpSign, long: r.Op == wire.OpGenerate}
	if w.slot {
		select {
		case c.slots <- struct{}{}:
		case <-c.dead:
			return nil, c.reason()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := c.send(r, w); err != nil {
		if w.slot {
			<-c.slots
		}
		return nil, err
	}
	select {
	case m := <-w.answer:
		return m, nil
	case <-ctx.Done():
		// The call stays pending, and under the watchdog, until it is answered.
		return nil, ctx.Err()
	case <-c.dead:
		select { // it may have been answered just before
		case m := <-w.answer:
			return m, nil
		default:
		}
		return nil, c.reason()
	}
}

func (c *child) send(r *wire.Request, w *call) error {
	timeout := c.callTimeout
	if w.long {
		timeout = max(timeout, c.genTimeout)
	}
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return c.reason()
	}
	c.next++
	r.ID = c.next
	w.deadline = time.Now().Add(timeout)
	c.pending[r.ID] = w
	c.mu.Unlock()
	frame, err := c.codec.Frame(r)
	if err == nil {
		err = c.writer.Send(frame)
	}
	if err != nil {
		c.mu.Lock()
		delete(c.pending, r.ID)
		c.mu.Unlock()
		if why := c.reason(); why != nil {
			return why
		}
		return fmt.Errorf("pkcs11: %w", err)
	}
	return nil
}

func (c *child) token(s wire.Selector) *tokenState {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.tokens[s]
	if st == nil {
		st = &tokenState{lock: make(chan struct{}, 1)}
		c.tokens[s] = st
	}
	return st
}

// loggedOut notes that login number epoch is lost.
func (c *child) loggedOut(s wire.Selector, epoch uint64) {
	st := c.token(s)
	st.lock <- struct{}{}
	if st.epoch == epoch {
		st.in = false
	}
	<-st.lock
}
