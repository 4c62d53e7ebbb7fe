package ledger

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// replay reads the whole file, hands out its records and leaves l at its end.
func (l *Ledger) replay() error {
	total, err := l.f.Size()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	r := bufio.NewReaderSize(io.NewSectionReader(l.f, 0, total), 1<<20)
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return fmt.Errorf("%w: no whole header: %w", ErrCorrupt, err)
	}
	if string(h[:len(magic)]) != magic {
		return fmt.Errorf("%w: not a ledger of version 1", ErrCorrupt)
	}
	l.seal = sha256.Sum256(h[:len(magic)+idSize])
	if string(h[len(magic)+idSize:]) != string(l.seal[:]) {
		return corrupt(0)
	}
	copy(l.id[:], h[len(magic):])

	at := int64(headerSize)
	for at < total {
		rec, seal, n, err := readRecord(r, l.seal, total-at)
		switch {
		case errors.Is(err, errTorn):
			return l.cut(at, total)
		case errors.Is(err, errBad):
			if zero, zerr := zeros(l.f, at, total); zerr != nil {
				return fmt.Errorf("ledger: offset %d: %w", at, zerr)
			} else if zero {
				// The length was extended and the data never came.
				return l.cut(at, total)
			}
			return corrupt(at)
		case err != nil:
			return fmt.Errorf("ledger: offset %d: %w", at, err)
		}
		if l.o.Replay != nil {
			if err := l.o.Replay(at, rec); err != nil {
				return fmt.Errorf("ledger: record at offset %d: %w", at, err)
			}
		}
		at += n
		l.seal = seal
	}
	l.size = at
	// What was written and not synced by a process that was killed is read back
	// from the page cache: it is relied upon from here on, so it becomes durable.
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("ledger: sync: %w", err)
	}
	return nil
}

var (
	errTorn = errors.New("file ends inside the record")
	errBad  = errors.New("record does not match its seal")
)

// readRecord reads one record of at most rest bytes.
func readRecord(r io.Reader, prev [sealSize]byte, rest int64) (rec Record, seal [sealSize]byte, size int64, err error) {
	if rest < prefixSize {
		return rec, seal, 0, errTorn
	}
	var p [prefixSize]byte
	if _, err := io.ReadFull(r, p[:]); err != nil {
		return rec, seal, 0, err
	}
	n, t, ok := parsePrefix(prev[:], p[:])
	if !ok {
		return rec, seal, 0, errBad
	}
	if size = prefixSize + n + sealSize; size > rest {
		return rec, seal, 0, errTorn
	}
	body := make([]byte, n+sealSize)
	if _, err := io.ReadFull(r, body); err != nil {
		return rec, seal, 0, err
	}
	seal = sealOf(prev[:], p[:], body[:n])
	if string(body[n:]) != string(seal[:]) {
		return rec, seal, 0, errBad
	}
	return Record{t, body[:n:n]}, seal, size, nil
}

// cut removes what a crash left of the last record.
func (l *Ledger) cut(at, total int64) error {
	l.log.Warn("ledger: last record is incomplete and is removed", "offset", at, "bytes", total-at)
	if err := l.f.Truncate(at); err != nil {
		return fmt.Errorf("ledger: cut at %d: %w", at, err)
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("ledger: sync: %w", err)
	}
	l.size = at
	return nil
}

// zeros reports whether all bytes of f from a to b are zero.
func zeros(f io.ReaderAt, a, b int64) (bool, error) {
	r := bufio.NewReader(io.NewSectionReader(f, a, b-a))
	for {
		c, err := r.ReadByte()
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if c != 0 {
			return false, nil
		}
	}
}
