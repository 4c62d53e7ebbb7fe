//go:build cgo && unix

// Package module is the child process of package key/pkcs11: it loads one
// PKCS #11 library and does what the parent asks it through a pipe. It is the
// only package that needs cgo.
//
// Invariants:
//
//  1. It ends when its input ends, whatever the library is doing.
//  2. A PIN goes from the input to C_Login, and nowhere else; it is tried once,
//     and never when the token says that it is the last try.
//  3. Whether a token or a key is the one that was asked for is checked before
//     it is used: the token's serial number before a PIN is sent, the public
//     key when an object handle had to be found again.
//  4. A session is used by one goroutine.
//  5. The library cannot write into the stream of answers: Main gives it
//     standard error for standard output.
//
// What a caller may not conclude: that errors are of the token. A library may do
// anything to the process, which is why it has one of its own.
package module

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
)

// goodbye is how long the library has to log out once the parent is gone.
const goodbye = time.Second

// server is the child. Everything about a token is in token.
type server struct {
	lib    *pkcs11.Ctx
	codec  *wire.Codec
	writer *wire.Writer
	busy   sync.WaitGroup // requests under way

	admin sync.Mutex // held while tokens are looked for and logged in to

	mu     sync.Mutex // guards what follows; held for no call of the library
	tokens map[uint]*token
	keys   map[uint64]*object
	byObj  map[objectID]uint64
}

// Serve loads the library and answers requests from r on w until r ends, or
// cannot be read. It returns nil when r ended between two requests. The caller
// exits the process then: calls of the library may still be under way.
func Serve(r io.Reader, w io.Writer, modulePath string) error {
	codec, err := wire.NewCodec()
	if err != nil {
		return fmt.Errorf("module: %w", err)
	}
	s := &server{
		codec: codec, writer: wire.NewWriter(w),
		tokens: map[uint]*token{}, keys: map[uint64]*object{}, byObj: map[objectID]uint64{},
	}
	written := make(chan error, 1)
	go func() { written <- s.writer.Run() }()
	type outcome struct {
		hello *wire.Hello
		err   error
	}
	loaded := make(chan outcome, 1)
	// The library may hang while it is loaded; the input is watched all the same.
	go func() {
		hello, err := s.load(modulePath)
		loaded <- outcome{hello, err}
	}()
	requests := make(chan *wire.Request)
	ended := make(chan error, 1)
	go func() {
		in := bufio.NewReaderSize(r, 64<<10)
		for {
			q := new(wire.Request)
			if err := codec.Read(in, q); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				ended <- err
				return
			}
			requests <- q
		}
	}()
	usable := false
	for {
		select {
		case o := <-loaded:
			if o.err != nil {
				s.reply(&wire.Response{Code: wire.CodeFailed, Text: o.err.Error()})
				s.writer.Close()
				<-written
				return fmt.Errorf("module: %w", o.err)
			}
			// The hello goes out when requests are taken, not before: the
			// first of them follows it at once.
			usable = true
			s.reply(&wire.Response{Hello: o.hello})
		case q := <-requests:
			if !usable {
				return errors.New("module: request before the library is there")
			}
			s.dispatch(q)
		case err := <-written:
			return err
		case err := <-ended:
			if usable {
				s.goodbye()
			}
			if err != nil {
				return fmt.Errorf("module: %w", err)
			}
			return nil
		}
	}
}

// load loads the library and describes it.
func (s *server) load(path string) (*wire.Hello, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("path of the library is not absolute")
	}
	if i, err := os.Stat(path); err != nil || !i.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	lib := pkcs11.New(path)
	if lib == nil {
		return nil, fmt.Errorf("%s is no PKCS #11 library", path)
	}
	if err := lib.Initialize(); err != nil {
		return nil, fmt.Errorf("C_Initialize: %w", err)
	}
	info, err := lib.GetInfo()
	if err != nil {
		return nil, fmt.Errorf("C_GetInfo: %w", err)
	}
	s.lib = lib
	return &wire.Hello{
		Version: wire.Version, Manufacturer: printable(info.ManufacturerID), Description: printable(info.LibraryDescription),
	}, nil
}

// goodbye logs out, unless the library is busy: then the end of the process has
// to do.
func (s *server) goodbye() {
	done := make(chan struct{})
	go func() {
		s.busy.Wait()
		_ = s.lib.Finalize()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(goodbye):
	}
}

// dispatch starts a request; its answer comes when it comes.
func (s *server) dispatch(q *wire.Request) {
	run := func(f func() *wire.Response) {
		s.busy.Add(1)
		go func() {
			defer s.busy.Done()
			s.answer(q, f())
		}()
	}
	switch q.Op {
	case wire.OpPing:
		s.answer(q, &wire.Response{})
	case wire.OpToken:
		run(func() *wire.Response { return s.findToken(q.Selector) })
	case wire.OpLogin:
		run(func() *wire.Response { return s.login(q) })
	case wire.OpSign:
		s.sign(q)
	case wire.OpHealth, wire.OpFind, wire.OpInspect, wire.OpGenerate, wire.OpDestroy:
		t := s.loggedIn(uint(q.Slot), q.Serial)
		if t == nil {
			s.answer(q, &wire.Response{Code: wire.CodeLogin, Text: "not logged in"})
			return
		}
		switch q.Op {
		case wire.OpHealth:
			t.submit(q, func(h pkcs11.SessionHandle) (*wire.Response, error) { return t.health(h) })
		case wire.OpFind, wire.OpInspect:
			t.submit(q, func(h pkcs11.SessionHandle) (*wire.Response, error) {
				return t.open(h, q.Object, q.ObjectID, q.Op == wire.OpInspect)
			})
		case wire.OpGenerate:
			run(func() *wire.Response { return t.generate(q) })
		case wire.OpDestroy:
			run(func() *wire.Response { return t.destroy(q) })
		}
	default:
		s.answer(q, &wire.Response{Code: wire.CodeFailed, Text: "unknown request"})
	}
}

func (s *server) answer(q *wire.Request, r *wire.Response) {
	r.ID = q.ID
	s.reply(r)
}

func (s *server) reply(r *wire.Response) {
	if len(r.Text) > wire.MaxText {
		r.Text = r.Text[:wire.MaxText]
	}
	r.Text = printable(r.Text)
	frame, err := s.codec.Frame(r)
	if err != nil { // a library gave more than a frame holds
		frame, err = s.codec.Frame(&wire.Response{ID: r.ID, Code: wire.CodeFailed, Text: "answer is too long"})
	}
	if err == nil {
		_ = s.writer.Send(frame) // an error there ends Serve
	}
}

// printable makes what a library calls text fit for CBOR and logs.
func printable(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
