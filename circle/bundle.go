package circle

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
)

// Limits of a bundle.
const (
	MaxCircles = 64
	MaxBundle  = 96 << 20 // bytes
)

const (
	bundleMagic = "greatseal circle bundle v1"
	maxHead     = 128 // bytes of a line
)

// Bundle is what one trusted side hands over: versions, oldest first, and the
// freshness statement of the last one. It goes over a network or in one file.
type Bundle struct {
	Root      statement.ID // of the side's first charter; it says which pin is meant, and proves nothing
	Circles   []Update
	Freshness *Update // nil: none
}

// WriteTo writes the bundle in its one form:
//
//	greatseal circle bundle v1 ROOT LF
//	circle SIZE SIZE LF STATEMENT EVIDENCE   (for each version)
//	freshness SIZE SIZE LF STATEMENT EVIDENCE (if any)
//	end LF
func (b *Bundle) WriteTo(w io.Writer) (int64, error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	c := &counter{w: bufio.NewWriter(w)}
	fmt.Fprintf(c, "%s %s\n", bundleMagic, b.Root)
	for i := range b.Circles {
		c.update("circle", &b.Circles[i])
	}
	if b.Freshness != nil {
		c.update("freshness", b.Freshness)
	}
	io.WriteString(c, "end\n")
	if c.err == nil {
		c.err = c.w.Flush()
	}
	if c.err != nil {
		return c.n, fmt.Errorf("circle: bundle: %w", c.err)
	}
	return c.n, nil
}

type counter struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (c *counter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.err = err
	return n, err
}

func (c *counter) update(what string, u *Update) {
	fmt.Fprintf(c, "%s %d %d\n", what, len(u.Statement), len(u.Evidence))
	c.Write(u.Statement)
	c.Write(u.Evidence)
}

func (b *Bundle) check() error {
	if b.Root.IsZero() {
		return refuse(rejection.PayloadMalformed, "", "a bundle of no side")
	}
	if len(b.Circles) > MaxCircles {
		return refuse(rejection.PayloadTooLarge, "", fmt.Sprintf("%d versions: at most %d", len(b.Circles), MaxCircles))
	}
	if len(b.Circles) == 0 && b.Freshness == nil {
		return refuse(rejection.PayloadMalformed, "", "a bundle of nothing")
	}
	total := 0
	for _, u := range b.updates() {
		if len(u.Statement) == 0 || len(u.Evidence) == 0 {
			return refuse(rejection.SigMissing, "", "a statement and its evidence are wanted")
		}
		if len(u.Statement) > circleformat.MaxEnvelope || len(u.Evidence) > MaxEvidence {
			return refuse(rejection.PayloadTooLarge, "", "a statement or its evidence")
		}
		if total += len(u.Statement) + len(u.Evidence); total > MaxBundle {
			return refuse(rejection.PayloadTooLarge, "", fmt.Sprintf("more than %d bytes", MaxBundle))
		}
	}
	return nil
}

func (b *Bundle) updates() []*Update {
	var out []*Update
	for i := range b.Circles {
		out = append(out, &b.Circles[i])
	}
	if b.Freshness != nil {
		out = append(out, b.Freshness)
	}
	return out
}

// Encode is WriteTo into memory.
func (b *Bundle) Encode() ([]byte, error) {
	var w bytes.Buffer
	if _, err := b.WriteTo(&w); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// ReadBundle reads what WriteTo wrote, and nothing else, not even a byte after it.
// It holds no more than what has arrived, and stops at the limits whatever sizes
// the reader claims. It judges nothing. The error is a [*rejection.Error], or the
// reader's.
func ReadBundle(r io.Reader) (*Bundle, error) {
	p := &bundleReader{r: bufio.NewReader(io.LimitReader(r, MaxBundle+(MaxCircles+4)*maxHead))}
	words, err := p.line()
	if err != nil {
		return nil, err
	}
	root, ok := strings.CutPrefix(words, bundleMagic+" ")
	b := &Bundle{}
	if b.Root, err = statement.ParseID(root); !ok || err != nil {
		return nil, refuse(rejection.PayloadMalformed, "", "is no bundle of a circle")
	}
	for {
		words, err := p.line()
		if err != nil {
			return nil, err
		}
		if words == "end" {
			break
		}
		what, sizes, _ := strings.Cut(words, " ")
		u, err := p.update(sizes)
		if err != nil {
			return nil, err
		}
		switch {
		case what == "circle" && b.Freshness == nil && len(b.Circles) < MaxCircles:
			b.Circles = append(b.Circles, *u)
		case what == "freshness" && b.Freshness == nil:
			b.Freshness = u
		default:
			return nil, refuse(rejection.PayloadMalformed, "", "a part of a bundle that is unknown, out of order or one too many")
		}
	}
	if _, err := p.r.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, refuse(rejection.PayloadMalformed, "", "bytes after the end of a bundle")
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	return b, nil
}

type bundleReader struct {
	r    *bufio.Reader
	read int
}

// line reads one line of bounded length, without its end.
func (p *bundleReader) line() (string, error) {
	var b []byte
	for len(b) < maxHead {
		c, err := p.r.ReadByte()
		if err != nil {
			return "", p.fault(err)
		}
		if c == '\n' {
			return string(b), nil
		}
		b = append(b, c)
	}
	return "", refuse(rejection.PayloadMalformed, "", "a line of a bundle that does not end")
}

func (p *bundleReader) fault(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse(rejection.PayloadMalformed, "", "a bundle that ends early")
	}
	return fmt.Errorf("circle: bundle: %w", err)
}

func (p *bundleReader) update(sizes string) (*Update, error) {
	first, second, _ := strings.Cut(sizes, " ")
	a, ok1 := size(first)
	b, ok2 := size(second)
	switch {
	case !ok1 || !ok2:
		return nil, refuse(rejection.PayloadMalformed, "", "sizes in a bundle that are none")
	case a > circleformat.MaxEnvelope || b > MaxEvidence || p.read+a+b > MaxBundle:
		return nil, refuse(rejection.PayloadTooLarge, "", "a statement or its evidence")
	}
	p.read += a + b
	u := &Update{}
	for _, part := range []struct {
		to *[]byte
		n  int
	}{{&u.Statement, a}, {&u.Evidence, b}} {
		// Memory follows what arrives, not what was claimed.
		var buf bytes.Buffer
		if _, err := io.CopyN(&buf, p.r, int64(part.n)); err != nil {
			return nil, p.fault(err)
		}
		*part.to = buf.Bytes()
	}
	return u, nil
}

// size reads a number in its one form.
func size(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0 && strconv.Itoa(n) == s
}
