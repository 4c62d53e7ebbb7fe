package wire

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
)

// A client of version 1 has no other method than those of version 1.
func TestOldClient(t *testing.T) {
	f := &fake{}
	path := socket(t)
	serveUnix(t, path, Server{Keeper: f, UIDs: uids()})
	for _, c := range []struct {
		theirs []uint64
		want   uint64
		code   string
	}{
		{[]uint64{1}, 1, "malformed"},
		{[]uint64{1, 2}, 2, ""},
		{[]uint64{2, 1, 9}, 2, ""},
	} {
		conn := rawDial(t, path)
		conn.Write(frame(t, head{Kind: kindHello, Protocol: protocol, Versions: c.theirs}, nil))
		st := newStream(conn)
		h, _, err := st.read(10*time.Second, 0, nil)
		if err != nil || len(h.Versions) != 1 || h.Versions[0] != c.want {
			t.Fatalf("hello %v: %v, %v", c.theirs, h, err)
		}
		body, err := format.Encode(considerArgs{order().Evidence})
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(frame(t, head{Kind: kindCall, ID: 1, Method: mConsider}, body))
		if h, _, err = st.read(10*time.Second, MaxBody, nil); err != nil || h.Code != c.code {
			t.Errorf("consider after hello %v: %v, %v: want code %q", c.theirs, h, err, c.code)
		}
	}
	if n := len(f.pondered()); n != 2 {
		t.Errorf("%d considerations", n)
	}
}

// A keeper of version 1 is not asked for what it does not have, and a version that
// was not offered is no answer.
func TestOldKeeper(t *testing.T) {
	for _, c := range []struct {
		answer []uint64
		ok     bool
	}{
		{[]uint64{1}, true}, {[]uint64{2}, true}, {[]uint64{3}, false}, {[]uint64{0}, false}, {[]uint64{1, 2}, false}, {nil, false},
	} {
		ln, err := net.Listen("unix", t.TempDir()+"/k")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan head, 8)
		go func() {
			defer close(got)
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			st := newStream(conn)
			if _, _, err := st.read(10*time.Second, 0, nil); err != nil {
				return
			}
			st.write(head{Kind: kindHello, Protocol: protocol, Versions: c.answer}, nil)
			for {
				h, _, err := st.read(10*time.Second, MaxBody, nil)
				if err != nil {
					return
				}
				got <- h
				st.write(head{Kind: kindAnswer, ID: h.ID}, nil)
			}
		}()
		k, err := Dial(context.Background(), Config{Network: "unix", Address: ln.Addr().String()})
		if (err == nil) != c.ok {
			t.Errorf("answer %v: %v", c.answer, err)
		}
		if err == nil {
			if err := k.Consider(context.Background(), order().Evidence); err != nil {
				t.Errorf("consider after %v: %v", c.answer, err)
			}
			if err := k.Observe(context.Background(), []byte("x")); err != nil {
				t.Error(err)
			}
			want := mObserve
			if c.answer[0] == 2 {
				want = mConsider
			}
			if h := <-got; h.Method != want {
				t.Errorf("first call after %v: %s, want %s", c.answer, h.Method, want)
			}
			k.Close()
			if err := k.Consider(context.Background(), order().Evidence); err != nil && !errors.Is(err, keeper.ErrClosed) {
				t.Errorf("consider after the end: %v", err)
			}
		}
		ln.Close()
		for range got {
		}
	}
}
