package pgpsig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/openpgp"
)

const (
	beginMessage   = "-----BEGIN PGP SIGNED MESSAGE-----\n"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
	maxDashes      = 4000 // one edit each
	tailSize       = 64 << 10
)

// Lines is what of a text's shape decides how it is framed.
type Lines struct {
	Dashes []int64 `cbor:"1,keyasint"` // offsets of lines that begin with "-"
	Ended  bool    `cbor:"2,keyasint"` // the last line ends in a line feed
}

// scan finds them while the text goes by.
type scan struct {
	Lines
	off   int64
	inner bool // not at the beginning of a line
}

func (s *scan) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if !s.inner && b[0] == '-' {
			if len(s.Dashes) == maxDashes {
				return 0, fmt.Errorf("pgpsig: more than %d lines begin with -", maxDashes)
			}
			s.Dashes = append(s.Dashes, s.off)
		}
		i := bytes.IndexByte(b, '\n') + 1
		if s.inner = i == 0; s.inner {
			i = len(b)
		}
		s.off += int64(i)
		b = b[i:]
	}
	s.Ended = !s.inner
	return n, nil
}

// PlanText reads a as cleartext into x. Text that other implementations would read
// differently is refused, and so is white space at the end of a line: a signature
// would not cover it.
func PlanText(ctx context.Context, a format.Artifact, x io.Writer) (*Lines, error) {
	if a.Size() == 0 {
		return nil, errors.New("pgpsig: an empty file is no text to sign")
	}
	s := &scan{}
	c := &openpgp.Canonical{W: x, Cleartext: true}
	if err := Read(ctx, a, 0, a.Size(), io.MultiWriter(s, c)); err != nil {
		return nil, err
	}
	if err := c.Close(); err != nil {
		return nil, err
	}
	if c.Trailing {
		return nil, errors.New("pgpsig: a line ends in white space, which a cleartext signature does not cover: take it away first")
	}
	if s.Dashes == nil {
		s.Dashes = []int64{}
	}
	return &s.Lines, nil
}

// Check refuses lines that cannot be those of a text of size bytes.
func (l *Lines) Check(size int64) error {
	if size == 0 || len(l.Dashes) > maxDashes {
		return errors.New("pgpsig: plan of a text without bytes or with too many lines")
	}
	last := int64(-1)
	for _, d := range l.Dashes {
		if d <= last || d >= size {
			return errors.New("pgpsig: plan's lines lie outside of the text or out of order")
		}
		last = d
	}
	return nil
}

// Edits frame a text of size bytes with its signature.
func (l *Lines) Edits(a format.Artifact, spec *openpgp.Spec, packet []byte) ([]format.Edit, error) {
	head := []byte(beginMessage + "Hash: " + openpgp.HashName(spec.Hash) + "\n\n")
	ds := l.Dashes
	if len(ds) > 0 && ds[0] == 0 {
		head, ds = append(head, "- "...), ds[1:]
	}
	out := []format.Edit{{Insert: head}}
	for _, d := range ds {
		out = append(out, format.Edit{Offset: d, Insert: []byte("- ")})
	}
	last := make([]byte, 1)
	if err := format.ReadFull(a, last, a.Size()-1); err != nil {
		return nil, err
	}
	if (last[0] == '\n') != l.Ended {
		return nil, errors.New("pgpsig: text is not the one that was planned")
	}
	var tail []byte
	if !l.Ended {
		tail = []byte("\n")
	}
	tail = append(tail, openpgp.Armor(openpgp.ArmorSignature, openpgp.AppendPacket(nil, openpgp.TagSignature, packet))...)
	return append(out, format.Edit{Offset: a.Size(), Insert: tail}), nil
}

// Clear is a file in the cleartext framework.
type Clear struct {
	Begin, End int64 // of the text, dash-escaped; the line end before the signature belongs to it
	Sigs       []*openpgp.Signature
	Raw        []byte   // the armour of the signatures
	Headers    []string // of that armour
}

// IsClear reports whether a begins like a cleartext-signed file.
func IsClear(a format.Artifact) bool {
	b := make([]byte, len(beginMessage)-1)
	return format.ReadFull(a, b, 0) == nil && string(b) == beginMessage[:len(b)]
}

// OpenClear finds text and signatures of a. The file must be nothing else: no byte
// before the text's frame or after it, and no header but Hash.
func OpenClear(a format.Artifact) (*Clear, error) {
	bad := func(what string) (*Clear, error) { return nil, fmt.Errorf("pgpsig: cleartext: %s", what) }
	head := make([]byte, min(a.Size(), 512))
	if err := format.ReadFull(a, head, 0); err != nil {
		return nil, err
	}
	c := &Clear{}
	var names []string
	for rest, n := head, 0; ; n++ {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return bad("no text")
		}
		rest = after
		line = bytes.TrimSuffix(line, []byte("\r"))
		if n == 0 {
			if string(line) != strings.TrimSuffix(beginMessage, "\n") {
				return nil, fmt.Errorf("pgpsig: cleartext: %w", format.ErrUnsigned)
			}
			continue
		}
		if len(line) == 0 {
			c.Begin = int64(len(head) - len(rest))
			break
		}
		name, ok := strings.CutPrefix(string(line), "Hash: ")
		if !ok {
			return bad("header other than Hash")
		}
		names = append(names, strings.Split(name, ",")...)
	}
	tail := make([]byte, min(a.Size()-c.Begin, tailSize))
	if err := format.ReadFull(a, tail, a.Size()-int64(len(tail))); err != nil {
		return nil, err
	}
	i := bytes.LastIndex(tail, []byte("\n"+beginSignature))
	if i < 0 {
		return bad("no signature at the end")
	}
	c.Raw = tail[i+1:]
	c.End = a.Size() - int64(len(c.Raw))
	var err error
	if c.Sigs, c.Headers, err = ReadSignatures(c.Raw); err != nil {
		return nil, err
	}
	for _, s := range c.Sigs {
		found := false
		for _, n := range names {
			found = found || strings.TrimSpace(n) == openpgp.HashName(s.Hash)
		}
		if len(names) > 0 && !found || len(names) == 0 && s.Version == 4 {
			return bad("Hash header does not name the signature's hash")
		}
	}
	return c, nil
}

// unescape takes the dashes off the lines of a frame and refuses lines that begin
// with one and are not escaped.
type unescape struct {
	w    io.Writer
	bol  bool   // at the beginning of a line
	held []byte // the first byte of a line, a dash
}

func (u *unescape) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if u.held != nil {
			if b[0] != ' ' {
				return 0, errors.New("pgpsig: cleartext: line begins with - and is not escaped")
			}
			u.held, b = nil, b[1:]
			continue
		}
		if u.bol && b[0] == '-' {
			u.held, u.bol, b = b[:1:1], false, b[1:]
			continue
		}
		i := bytes.IndexByte(b, '\n') + 1
		if u.bol = i > 0; !u.bol {
			i = len(b)
		}
		if _, err := u.w.Write(b[:i]); err != nil {
			return 0, err
		}
		b = b[i:]
	}
	return n, nil
}

// Text hands the text of c to w as it was before it was escaped.
func (c *Clear) Text(ctx context.Context, a format.Artifact, w io.Writer) error {
	return Read(ctx, a, c.Begin, c.End-c.Begin, &unescape{w: w, bol: true})
}

// Verify judges all signatures of c. w gets the text, too.
func (c *Clear) Verify(ctx context.Context, a format.Artifact, t format.Trust, w io.Writer) ([]format.SignatureInfo, error) {
	h := NewHashes(c.Sigs)
	can := &openpgp.Canonical{W: h, Cleartext: true}
	if err := c.Text(ctx, a, io.MultiWriter(can, w)); err != nil {
		return nil, err
	}
	if err := can.Close(); err != nil {
		return nil, err
	}
	infos, err := h.Judge(t, openpgp.Text)
	if err != nil {
		return nil, err
	}
	for i := range infos {
		infos[i].Label = "cleartext"
		infos[i].Covers = []string{"the text, its line ends and white space at the end of lines left out"}
		infos[i].Open = append(infos[i].Open, "whether lines end in LF or CRLF, and the Hash header")
		if can.Trailing {
			infos[i].Open = append(infos[i].Open, "white space at the end of lines")
		}
		if len(c.Headers) > 0 {
			infos[i].Open = append(infos[i].Open, "headers of the signature's armour")
		}
	}
	return infos, nil
}

// Remove takes the frame off: what is left is the text, with a line feed at its end.
func (c *Clear) Remove(ctx context.Context, a format.Artifact) ([]format.Edit, error) {
	out := []format.Edit{{Delete: c.Begin}}
	s := &scan{off: c.Begin}
	if err := Read(ctx, a, c.Begin, c.End-c.Begin, s); err != nil {
		return nil, err
	}
	for _, d := range s.Dashes {
		if d == c.Begin {
			out[0].Delete += 2
			continue
		}
		out = append(out, format.Edit{Offset: d, Delete: 2})
	}
	return append(out, format.Edit{Offset: c.End, Delete: a.Size() - c.End}), nil
}
