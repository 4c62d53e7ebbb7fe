package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func codec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func requests() []Request {
	return []Request{
		{ID: 1, Op: OpPing},
		{ID: 2, Op: OpToken, Selector: Selector{Label: "hsm 1", Serial: "00", Manufacturer: "m", Model: "x", HasSlot: true, Slot: 7}},
		{ID: 3, Op: OpLogin, Slot: 1 << 40, Serial: "s", PIN: []byte("1234"), Sessions: 8},
		{ID: 1<<64 - 1, Op: OpSign, Key: 9, Scheme: "ecdsa-sha256", Input: make([]byte, 32)},
		{ID: 5, Op: OpGenerate, Object: "ключ", ObjectID: []byte{0, 1}, Algorithm: "ed25519"},
	}
}

func responses() []Response {
	return []Response{
		{ID: 0, Hello: &Hello{Version: Version, Manufacturer: "m", Description: "d"}},
		{ID: 1, Code: CodeFailed, Text: "CKR_GENERAL_ERROR"},
		{ID: 2, Token: &Token{Slot: 0, Label: "hsm"}},
		{ID: 3, Key: &Key{Handle: 1, Public: []byte{0x30}, Sensitive: true, Sign: true}},
		{ID: 4, Signature: make([]byte, 64)},
	}
}

func TestRoundTrip(t *testing.T) {
	c := codec(t)
	var stream bytes.Buffer
	for _, r := range requests() {
		f, err := c.Frame(&r)
		if err != nil {
			t.Fatal(err)
		}
		stream.Write(f)
	}
	for _, want := range requests() {
		var got Request
		if err := c.Read(&stream, &got); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
			t.Fatalf("got %#v, want %#v", got, want)
		}
	}
	var r Request
	if err := c.Read(&stream, &r); !errors.Is(err, io.EOF) {
		t.Fatalf("end: %v", err)
	}
	for _, want := range responses() {
		f, err := c.Frame(&want)
		if err != nil {
			t.Fatal(err)
		}
		var got Response
		if err := c.Read(bytes.NewReader(f), &got); err != nil {
			t.Fatal(err)
		}
	}
}

func frame(payload ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

// Invariants 1 and 2.
func TestRefused(t *testing.T) {
	c := codec(t)
	good, err := c.Frame(&Request{ID: 1, Op: OpPing})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty frame":       frame(),
		"too long":          {0xff, 0xff, 0xff, 0xff, 0},
		"one too long":      binary.BigEndian.AppendUint32(nil, MaxFrame+1),
		"cut length":        good[:3],
		"cut payload":       good[:len(good)-1],
		"not CBOR":          frame(0xff),
		"array":             frame(0x82, 1, 1),
		"text":              frame(0x61, 'a'),
		"unknown member":    frame(0xa3, 1, 1, 2, 1, 0x18, 99, 1),
		"duplicate member":  frame(0xa3, 1, 1, 1, 1, 2, 1),
		"unsorted":          frame(0xa2, 2, 1, 1, 1),
		"long integer":      frame(0xa2, 1, 0x18, 1, 2, 1),
		"indefinite length": frame(0xbf, 1, 1, 2, 1, 0xff),
		"trailing byte":     frame(0xa2, 1, 1, 2, 1, 0),
		"empty member":      frame(0xa3, 1, 1, 2, 1, 4, 0),
		"missing member":    frame(0xa1, 1, 1),
		"negative":          frame(0xa2, 1, 0x20, 2, 1),
		"tag":               frame(0xc1, 0xa2, 1, 1, 2, 1),
		"bad UTF-8":         frame(0xa3, 1, 1, 2, 1, 5, 0x61, 0xff),
		"op too large":      frame(0xa2, 1, 1, 2, 0x19, 1, 0),
	} {
		var r Request
		if err := c.Read(bytes.NewReader(data), &r); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Frame(&Request{ID: 1, Op: OpSign, Input: make([]byte, MaxFrame)}); err == nil {
		t.Error("a frame that nobody reads was made")
	}
	if _, err := c.Frame(&Request{ID: 1, Op: OpSign, Input: make([]byte, MaxInput)}); err != nil {
		t.Errorf("the longest input: %v", err)
	}
}

type stream struct {
	bytes.Buffer
	last []byte // what Write was given
	err  error
}

func (s *stream) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.last = p
	return s.Buffer.Write(p)
}

// Invariant 3, and that nothing is lost or mixed up.
func TestWriter(t *testing.T) {
	c := codec(t)
	var out stream
	w := NewWriter(&out)
	ended := make(chan error, 1)
	go func() { ended <- w.Run() }()
	const senders, each = 8, 200
	var wg sync.WaitGroup
	sent := make([][][]byte, senders)
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				f, err := c.Frame(&Request{ID: uint64(s*each + i + 1), Op: OpLogin, PIN: []byte("hidden")})
				if err != nil {
					t.Error(err)
					return
				}
				sent[s] = append(sent[s], f)
				if err := w.Send(f); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	w.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, frames := range append(sent, [][]byte{out.last}) {
		for _, f := range frames {
			if !bytes.Equal(f, make([]byte, len(f))) {
				t.Fatal("a frame was not zeroed")
			}
		}
	}
	seen := map[uint64]bool{}
	for {
		var r Request
		err := c.Read(&out, &r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || seen[r.ID] || string(r.PIN) != "hidden" {
			t.Fatalf("frame %d: %v", r.ID, err)
		}
		seen[r.ID] = true
	}
	if len(seen) != senders*each {
		t.Fatalf("%d frames arrived", len(seen))
	}
	if err := w.Send([]byte{1}); err == nil {
		t.Fatal("sent after Close")
	}
	broken := NewWriter(&stream{err: io.ErrClosedPipe})
	if err := broken.Send([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := broken.Run(); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("Run: %v", err)
	}
	if err := broken.Send([]byte{1}); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("Send: %v", err)
	}
}

// The fuzz corpora in testdata must be there: FuzzRequest's seeds are these.
func FuzzRequest(f *testing.F) {
	c := codec(f)
	files, err := filepath.Glob("testdata/requests/*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no corpus in testdata/requests: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, r := range requests() {
		data, err := c.Frame(&r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Request
		if c.Read(bytes.NewReader(data), &r) != nil {
			return
		}
		if again, err := c.Frame(&r); err != nil || !bytes.HasPrefix(data, again) {
			t.Fatalf("does not encode to itself: %v", err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	c := codec(f)
	for _, r := range responses() {
		data, err := c.Frame(&r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Response
		if c.Read(bytes.NewReader(data), &r) != nil {
			return
		}
		if again, err := c.Frame(&r); err != nil || !bytes.HasPrefix(data, again) {
			t.Fatalf("does not encode to itself: %v", err)
		}
	})
}
