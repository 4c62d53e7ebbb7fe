package clamav_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/gate/clamav"
)

// peer is something at the scanner's socket that need not be one.
func peer(t *testing.T, answer func(command string, c net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var command []byte
				for b := make([]byte, 1); ; {
					if _, err := c.Read(b); err != nil {
						return
					}
					if b[0] == 0 {
						break
					}
					command = append(command, b[0])
				}
				answer(string(command), c)
			}()
		}
	}()
	return path
}

// say answers when it has read what is sent to it, as clamd does.
func say(s string) func(string, net.Conn) {
	return func(command string, c net.Conn) {
		for n := uint32(1); n > 0 && strings.HasSuffix(command, "INSTREAM"); {
			if binary.Read(c, binary.BigEndian, &n) != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
				return
			}
		}
		io.WriteString(c, s)
	}
}

func file(t *testing.T, content string) *check.File {
	t.Helper()
	p := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return &check.File{Plan: &format.Plan{Size: int64(len(content))}, Path: p}
}

func scanner(t *testing.T, c clamav.Config) *clamav.Scanner {
	t.Helper()
	if c.Clock == nil {
		c.Clock = time.Now
	}
	s, err := clamav.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Invariants 1 and 2: whatever is not the one good answer does not endorse.
func TestPeers(t *testing.T) {
	for answer, want := range map[string]string{
		"stream: OK\x00":                          "endorse",
		"stream: Some.Name FOUND\x00":             "malware: Some.Name",
		"stream: a\x1b[31m\u202eb\n FOUND\x00":    "malware: a[31mb",
		"INSTREAM size limit exceeded. ERROR\x00": "larger than",
		"stream: OK":                              "",
		"stream: OK\x00stream: OK\x00":            "",
		"stream: OK \x00":                         "",
		"other: OK\x00":                           "",
		"OK\x00":                                  "",
		"":                                        "",
		"\x00":                                    "",
		"stream: OK FOUND OK\x00":                 "",
		"stream: Can't allocate memory ERROR\x00":        "",
		"UNKNOWN COMMAND\x00":                            "",
		"HTTP/1.1 200 OK\r\n\r\n":                        "",
		"stream: " + strings.Repeat("x", 1<<20) + "\x00": "",
	} {
		s := scanner(t, clamav.Config{Socket: peer(t, say(answer))})
		o, err := s.File(t.Context(), file(t, "content"))
		switch {
		case want == "":
			if err == nil {
				t.Errorf("%.60q: %+v", answer, o)
			}
		case want == "endorse":
			if err != nil || !o.Endorse {
				t.Errorf("%.60q: %+v %v", answer, o, err)
			}
		case err != nil || o.Endorse || !strings.Contains(o.Reason, want):
			t.Errorf("%.60q: %+v %v", answer, o, err)
		}
	}
	mute := peer(t, func(_ string, c net.Conn) { io.Copy(io.Discard, c); time.Sleep(time.Minute) })
	if o, err := scanner(t, clamav.Config{Socket: mute, Scan: 200 * time.Millisecond}).File(t.Context(), file(t, "x")); err == nil {
		t.Errorf("mute: %+v", o)
	}
	if o, err := scanner(t, clamav.Config{Socket: "/nonexistent/socket"}).File(t.Context(), file(t, "x")); err == nil {
		t.Errorf("away: %+v", o)
	}
	early := peer(t, func(_ string, c net.Conn) { io.WriteString(c, "stream: OK\x00"); c.Close() })
	big := file(t, strings.Repeat("x", 20<<20))
	if o, err := scanner(t, clamav.Config{Socket: early}).File(t.Context(), big); err == nil && o.Endorse {
		t.Error("endorsed by an answer to a part of the file")
	}
	f := file(t, "content")
	f.Plan.Size++
	if o, err := scanner(t, clamav.Config{Socket: peer(t, say("stream: OK\x00"))}).File(t.Context(), f); err == nil {
		t.Errorf("another size: %+v", o)
	}
}

// The stream is what clamd(8) describes.
func TestStream(t *testing.T) {
	got := make(chan []byte, 1)
	s := scanner(t, clamav.Config{Socket: peer(t, func(command string, c net.Conn) {
		var all []byte
		for {
			var n [4]byte
			if _, err := io.ReadFull(c, n[:]); err != nil {
				return
			}
			size := int(n[0])<<24 | int(n[1])<<16 | int(n[2])<<8 | int(n[3])
			if size == 0 {
				break
			}
			b := make([]byte, size)
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			all = append(all, b...)
		}
		got <- append([]byte(command+":"), all...)
		io.WriteString(c, "stream: OK\x00")
	})})
	content := strings.Repeat("0123456789", 100_000)
	if o, err := s.File(t.Context(), file(t, content)); err != nil || !o.Endorse {
		t.Fatalf("%+v %v", o, err)
	}
	if b := <-got; !bytes.Equal(b, []byte("zINSTREAM:"+content)) {
		t.Errorf("%d bytes arrived, not %d", len(b), len(content))
	}
}

// Invariant 2: old signatures, and a canary that is not found.
func TestReady(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		version, scan string
		age           time.Duration
		ready         bool
	}{
		{"ClamAV 1.4.6/27800/Sun Nov 22 08:00:00 2026", "stream: X FOUND", 24 * time.Hour, true},
		{"ClamAV 1.4.6/27800/Thu Nov  5 08:00:00 2026", "stream: X FOUND", 24 * time.Hour, false},
		{"ClamAV 1.4.6", "stream: X FOUND", 24 * time.Hour, false},
		{"ClamAV 1.4.6", "stream: X FOUND", 0, true},
		{"ClamAV 1.4.6", "stream: OK", 0, false},
		{"ClamAV 1.4.6", "ERROR", 0, false},
		{"Else 1", "stream: X FOUND", 0, false},
	} {
		s := scanner(t, clamav.Config{MaxAge: c.age, Canary: canary, Clock: func() time.Time { return now }, Socket: peer(t, func(command string, conn net.Conn) {
			answer := c.scan
			if command == "zVERSION" {
				answer = c.version
			}
			say(answer+"\x00")(command, conn)
		})})
		if err := s.Ready(t.Context()); (err == nil) != c.ready {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestConfiguration(t *testing.T) {
	for _, c := range []clamav.Config{{}, {Socket: "/x", Address: "127.0.0.1:1"}, {Address: "192.0.2.1:3310"}, {Address: "clamd.example.com:3310"}, {Address: "localhost"}, {Socket: "/x", MaxSize: -1}, {Socket: "/x", Canary: "/nonexistent"}} {
		c.Clock = time.Now
		if _, err := clamav.New(c); err == nil {
			t.Errorf("%s was accepted", fmt.Sprint(c.Socket, c.Address, c.MaxSize, c.Canary))
		}
	}
}
