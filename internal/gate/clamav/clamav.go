// Package clamav is the check of a gate that has files scanned by clamd, the daemon
// of ClamAV, through its socket (clamd(8), command INSTREAM).
//
// Invariants:
//
//  1. Only the answer "stream: OK" to all of the file's bytes endorses.
//  2. A scanner that cannot be reached, does not answer in time, says something else,
//     does not find the canary or has an old database gives no opinion.
//  3. A file that is too large to be scanned is disapproved, never passed.
//
// What may not be concluded: that a file is harmless. clamd passes what is beyond the
// limits of its own configuration, unless AlertExceedsMax is set there; the canary
// shows only that it works.
package clamav

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/gate/check"
)

// Config says where the scanner is.
type Config struct {
	Socket  string        // path of a Unix socket, or
	Address string        // host:port; clamd's protocol has no protection: loopback only
	MaxSize int64         // bytes of a file; 0: 25 MiB
	Connect time.Duration // 0: 5 s
	Scan    time.Duration // of one file; 0: 2 min
	Canary  string        // file that must be found infected; "": none
	MaxAge  time.Duration // of the signature database; 0: any
	Clock   func() time.Time
}

// Limits of what clamd may say and of clocks that differ.
const (
	defaultSize = 25 << 20
	maxAnswer   = 4 << 10
	maxCanary   = 1 << 20
	chunk       = 256 << 10
)

// Scanner is the check.
type Scanner struct{ c Config }

// New checks the configuration. Nothing is connected yet.
func New(c Config) (*Scanner, error) {
	if (c.Socket == "") == (c.Address == "") {
		return nil, errors.New("gate: clamav: want a socket or an address")
	}
	if c.Address != "" {
		host, _, err := net.SplitHostPort(c.Address)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("gate: clamav: address %q: want HOST:PORT on this machine: clamd's protocol is not protected", c.Address)
		}
	}
	if c.MaxSize < 0 || c.MaxAge < 0 || c.Clock == nil {
		return nil, errors.New("gate: clamav: limits out of range, or no clock")
	}
	if c.MaxSize == 0 {
		c.MaxSize = defaultSize
	}
	if c.Connect <= 0 {
		c.Connect = 5 * time.Second
	}
	if c.Scan <= 0 {
		c.Scan = 2 * time.Minute
	}
	if c.Canary != "" {
		if st, err := os.Stat(c.Canary); err != nil || !st.Mode().IsRegular() || st.Size() > maxCanary {
			return nil, fmt.Errorf("gate: clamav: the canary %s is not a file of up to %d bytes", c.Canary, maxCanary)
		}
	}
	return &Scanner{c}, nil
}

// Bytes implements check.Check.
func (s *Scanner) Bytes() bool { return true }

// Ready implements check.Ready: the scanner answers, its database is young enough and
// it finds the canary.
func (s *Scanner) Ready(ctx context.Context) error {
	v, err := s.ask(ctx, "VERSION", nil)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(v, "ClamAV ") {
		return fmt.Errorf("gate: clamav: the scanner calls itself %.80q", v)
	}
	if s.c.MaxAge > 0 {
		at, err := dated(v)
		if err != nil {
			return err
		}
		if age := s.c.Clock().Sub(at); age > s.c.MaxAge {
			return fmt.Errorf("gate: clamav: its signatures are %s old: at most %s", age.Round(time.Hour), s.c.MaxAge)
		}
	}
	if s.c.Canary == "" {
		return nil
	}
	b, err := os.ReadFile(s.c.Canary)
	if err != nil {
		return fmt.Errorf("gate: clamav: canary: %w", err)
	}
	o, err := s.scan(ctx, bytes.NewReader(b))
	if err != nil {
		return err
	}
	if o.Endorse {
		return errors.New("gate: clamav: the scanner does not find the canary")
	}
	return nil
}

// dated is when the signatures were made: "ClamAV 1.4.6/27800/Sat Nov 21 08:00:00 2026".
func dated(version string) (time.Time, error) {
	parts := strings.SplitN(version, "/", 3)
	if len(parts) == 3 {
		if t, err := time.Parse("Mon Jan _2 15:04:05 2006", parts[2]); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("gate: clamav: the scanner does not say of when its signatures are")
}

// File implements check.Check.
func (s *Scanner) File(ctx context.Context, f *check.File) (check.Opinion, error) {
	if f.Plan.Size > s.c.MaxSize {
		return check.Against(fmt.Sprintf("%d bytes are more than the malware scanner takes (%d)", f.Plan.Size, s.c.MaxSize)), nil
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return check.Opinion{}, fmt.Errorf("gate: clamav: %w", err)
	}
	defer file.Close()
	n := &counted{r: file}
	o, err := s.scan(ctx, n)
	if err == nil && o.Endorse && n.n != f.Plan.Size {
		return check.Opinion{}, fmt.Errorf("gate: clamav: %d bytes were scanned, not %d", n.n, f.Plan.Size)
	}
	return o, err
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (s *Scanner) scan(ctx context.Context, r io.Reader) (check.Opinion, error) {
	answer, err := s.ask(ctx, "INSTREAM", r)
	if err != nil {
		return check.Opinion{}, err
	}
	what, ok := strings.CutPrefix(answer, "stream: ")
	name, found := strings.CutSuffix(what, " FOUND")
	switch {
	case ok && what == "OK":
		return check.For("the malware scanner found nothing"), nil
	case ok && found:
		return check.Against("malware: " + printable(name)), nil
	case strings.HasPrefix(answer, "INSTREAM size limit exceeded"):
		return check.Against("it is larger than the malware scanner takes"), nil
	}
	return check.Opinion{}, fmt.Errorf("gate: clamav: the scanner says %.200q", answer)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if format.Turns(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// ask gives clamd one command, with a stream or without, and returns the answer.
func (s *Scanner) ask(ctx context.Context, command string, stream io.Reader) (string, error) {
	d := net.Dialer{Timeout: s.c.Connect}
	network, address := "unix", s.c.Socket
	if s.c.Address != "" {
		network, address = "tcp", s.c.Address
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return "", fmt.Errorf("gate: clamav: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(s.c.Scan)); err != nil {
		return "", fmt.Errorf("gate: clamav: %w", err)
	}
	_, err = conn.Write([]byte("z" + command + "\x00"))
	whole := true
	if err == nil && stream != nil {
		var rerr error
		if whole, rerr = send(conn, stream); rerr != nil {
			return "", rerr
		}
	}
	// clamd stops reading what is too long: its answer then tells more than our
	// error of writing, which send leaves to us.
	answer, rerr := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", fmt.Errorf("gate: clamav: %w", err)
	case len(answer) == 0 && rerr != nil:
		return "", fmt.Errorf("gate: clamav: %w", rerr)
	case len(answer) == 0:
		return "", errors.New("gate: clamav: the scanner gave no answer")
	case len(answer) > maxAnswer || answer[len(answer)-1] != 0 || bytes.IndexByte(answer, 0) != len(answer)-1:
		return "", errors.New("gate: clamav: the scanner's answer is not one")
	}
	text := string(answer[:len(answer)-1])
	if !whole && strings.HasSuffix(text, "OK") {
		return "", errors.New("gate: clamav: the scanner passed what it had not read whole")
	}
	return text, nil
}

// send writes a stream in chunks, each after its length, and a last one of none.
// whole says that all of it was written. An error is one of reading; one of writing
// ends it, and the answer tells why.
func send(w io.Writer, r io.Reader) (whole bool, err error) {
	b := make([]byte, 4+chunk)
	for {
		n, err := io.ReadFull(r, b[4:])
		if n > 0 {
			binary.BigEndian.PutUint32(b, uint32(n))
			if _, werr := w.Write(b[:4+n]); werr != nil {
				return false, nil
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_, werr := w.Write(make([]byte, 4))
			return werr == nil, nil
		case err != nil:
			return false, fmt.Errorf("gate: clamav: %w", err)
		}
	}
}
