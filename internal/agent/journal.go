package agent

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// journal is a file of lines that are durable when append returns. A line is the
// first 8 bytes of the SHA-256 of its text in hexadecimal, a blank and the text.
//
// A last line that is cut off is what a kill or a loss of power leaves: it was never
// reported as written, and goes. Any other damage is an error: a set that has lost a
// member would let an order run again.
type journal struct {
	path string
	f    *os.File
	bad  error // of a write: what is on disk is not known
}

const maxJournalLine = 64 << 10

// openJournal reads a file, calls each for every line, and makes it ready to append.
func openJournal(path string, each func(text []byte) error) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	j := &journal{path: path, f: f}
	if err := j.read(each); err != nil {
		f.Close()
		return nil, fmt.Errorf("agent: %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

func (j *journal) read(each func([]byte) error) error {
	r := bufio.NewReaderSize(j.f, maxJournalLine)
	good, n := int64(0), 0
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			break // what is left, if anything, has no end
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		n++
		text, ok := check(line)
		if !ok {
			return fmt.Errorf("line %d is damaged", n)
		}
		if err := each(text); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		good += int64(len(line))
	}
	if err := j.f.Truncate(good); err != nil {
		return err
	}
	_, err := j.f.Seek(good, io.SeekStart)
	return err
}

func check(line []byte) (text []byte, ok bool) {
	sum, text, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	return text, ok && string(sum) == digest(text)
}

func digest(text []byte) string {
	s := sha256.Sum256(text)
	return hex.EncodeToString(s[:8])
}

// append writes lines, and returns when they are durable.
func (j *journal) append(texts ...[]byte) error {
	if j.bad != nil {
		return j.bad
	}
	var b []byte
	for _, t := range texts {
		if len(t) > maxJournalLine-32 || bytes.ContainsRune(t, '\n') {
			return errors.New("agent: a line of the journal is too long")
		}
		b = fmt.Appendf(b, "%s %s\n", digest(t), t)
	}
	_, err := j.f.Write(b)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		j.bad = fmt.Errorf("agent: %s: %w", j.path, err)
	}
	return j.bad
}

// replace puts lines in place of all that there are.
func (j *journal) replace(texts [][]byte) error {
	if j.bad != nil {
		return j.bad
	}
	tmp, err := openTruncated(j.path + ".new")
	if err != nil {
		return err
	}
	n := &journal{path: j.path, f: tmp}
	if err := n.append(texts...); err != nil {
		tmp.Close()
		return err
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		tmp.Close()
		return fmt.Errorf("agent: %w", err)
	}
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		tmp.Close()
		j.bad = err
		return err
	}
	j.f.Close()
	j.f = tmp
	return nil
}

func (j *journal) close() error { return j.f.Close() }

func openTruncated(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return f, nil
}

// writeFile replaces a file durably.
func writeFile(path string, b []byte) error {
	f, err := openTruncated(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return syncDir(filepath.Dir(path))
}
