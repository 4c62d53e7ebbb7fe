package openpgp

import (
	"bytes"
	"fmt"
	"io"
)

// Canonical writes text to W with lines that end in CRLF (RFC 9580 section
// 5.2.1.2), and refuses what implementations read differently: a carriage return
// that ends no line.
//
// With Cleartext it follows the cleartext framework (section 7.2): white space at
// the end of lines is left out, and so is the last line end; lines longer than
// MaxLine and control characters are refused.
type Canonical struct {
	W         io.Writer
	Cleartext bool

	// Trailing is set when white space at the end of a line was left out.
	Trailing bool

	held    []byte // a carriage return, or white space, that may end the line
	pending bool   // the end of a line that another one follows, or none
	length  int    // of the line so far
}

// MaxLine is one byte less than what GnuPG reads as one line of cleartext; it cuts
// longer ones short.
const MaxLine = 19990

var crlf = []byte("\r\n")

// Write takes a piece of the text.
func (c *Canonical) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		if err := c.piece(line, ended); err != nil {
			return 0, err
		}
		p = rest
	}
	return n, nil
}

func (c *Canonical) piece(p []byte, ended bool) error {
	if c.pending {
		c.pending = false
		if _, err := c.W.Write(crlf); err != nil {
			return err
		}
	}
	if c.length += len(p); c.Cleartext && c.length > MaxLine {
		return fmt.Errorf("openpgp: line of more than %d bytes: %w", MaxLine, ErrUnsupported)
	}
	if len(c.held) > 0 {
		p = append(c.held, p...)
	}
	keep := p
	if ended || c.Cleartext || bytes.HasSuffix(p, crlf[:1]) {
		keep = bytes.TrimSuffix(p, crlf[:1])
	}
	if bytes.IndexByte(keep, '\r') >= 0 {
		return fmt.Errorf("openpgp: carriage return inside a line: %w", ErrUnsupported)
	}
	if c.Cleartext {
		if bytes.ContainsFunc(keep, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return fmt.Errorf("openpgp: control character in cleartext: %w", ErrUnsupported)
		}
		keep = bytes.TrimRight(keep, " \t")
	}
	if _, err := c.W.Write(keep); err != nil {
		return err
	}
	c.held = nil
	if !ended {
		c.held = bytes.Clone(p[len(keep):])
		return nil
	}
	c.length = 0
	if c.Cleartext {
		c.Trailing = c.Trailing || bytes.ContainsAny(p[len(keep):], " \t")
		c.pending = true
		return nil
	}
	_, err := c.W.Write(crlf)
	return err
}

// Close ends the text.
func (c *Canonical) Close() error {
	if bytes.IndexByte(c.held, '\r') >= 0 {
		return fmt.Errorf("openpgp: carriage return inside a line: %w", ErrUnsupported)
	}
	c.Trailing = c.Trailing || len(c.held) > 0
	return nil
}
