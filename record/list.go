package record

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/greatseal-io/greatseal/format"
)

// A list is the statements of a job as one file:
//
//	"greatseal records 1\n" | head | statement …
//
// head (a [ListHead] in deterministic CBOR) and each statement have their length
// before them, 4 bytes, big-endian.

// ListMagic is what a list begins with.
const ListMagic = "greatseal records 1\n"

const maxListHead = 16 << 10

// ListHead is what all statements of a list have in common.
type ListHead struct {
	Job      string   `cbor:"1,keyasint"` // 32 hexadecimal digits
	Issuer   string   `cbor:"2,keyasint"`
	Audience []string `cbor:"3,keyasint"` // sorted
}

// Check refuses a head that no job has.
func (h *ListHead) Check() error {
	if err := checkID(h.Job); err != nil {
		return err
	}
	if err := checkWord("issuer", h.Issuer); err != nil {
		return err
	}
	return checkSorted("audience", h.Audience, MaxAudience, checkWord)
}

// encode is what stands before the statements.
func (h *ListHead) encode() ([]byte, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	b, err := format.Encode(h)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32([]byte(ListMagic), uint32(len(b))), b...), nil
}

// ListWriter writes a list.
type ListWriter struct{ w io.Writer }

// NewListWriter begins a list in w.
func NewListWriter(w io.Writer, h ListHead) (*ListWriter, error) {
	b, err := h.encode()
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, fmt.Errorf("record: write list: %w", err)
	}
	return &ListWriter{w}, nil
}

// Write adds an encoded statement.
func (l *ListWriter) Write(statement []byte) error {
	if len(statement) == 0 || len(statement) > MaxStatement {
		return malformed("statement of %d bytes", len(statement))
	}
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(statement)))
	if _, err := l.w.Write(n[:]); err != nil {
		return fmt.Errorf("record: write list: %w", err)
	}
	if _, err := l.w.Write(statement); err != nil {
		return fmt.Errorf("record: write list: %w", err)
	}
	return nil
}

// ListReader reads a list.
type ListReader struct {
	Head ListHead
	r    *bufio.Reader
	buf  []byte
}

// NewListReader reads the head of a list. Its errors, and those of Next, wrap
// ErrMalformed or are those of r.
func NewListReader(r io.Reader) (*ListReader, error) {
	l := &ListReader{r: bufio.NewReaderSize(r, 256<<10)}
	magic := make([]byte, len(ListMagic))
	if _, err := io.ReadFull(l.r, magic); err != nil {
		return nil, cut(err)
	}
	if string(magic) != ListMagic {
		return nil, malformed("no list of statements")
	}
	b, err := l.piece(maxListHead)
	if err != nil {
		return nil, cut(err)
	}
	if err := format.Decode(b, &l.Head); err != nil {
		return nil, fmt.Errorf("%w: head of a list: %w", ErrMalformed, err)
	}
	return l, l.Head.Check()
}

// Next returns the next encoded statement, good until the next call, and io.EOF
// after the last.
func (l *ListReader) Next() ([]byte, error) {
	b, err := l.piece(MaxStatement)
	if err == io.EOF {
		return nil, io.EOF
	}
	return b, cut(err)
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("the list ends in the middle")
	}
	return err
}

// piece reads what has its length before it. It is io.EOF only at the end.
func (l *ListReader) piece(limit int) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(l.r, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size == 0 || size > uint32(limit) {
		return nil, malformed("%d bytes in a list: want 1 to %d", size, limit)
	}
	if cap(l.buf) < int(size) {
		l.buf = make([]byte, max(int(size), 4096))
	}
	b := l.buf[:size]
	if _, err := io.ReadFull(l.r, b); err != nil {
		return nil, fmt.Errorf("%w", io.ErrUnexpectedEOF)
	}
	return b, nil
}
